#!/usr/bin/python3
"""The demo's whole story, as tools/demo plays it: every scene is there, and is checked as it goes."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import ferry_pg

STORY = os.path.join(ferry_pg.SOURCE, "tools", "demo.d", "story.py")
SCENES = ("Both reserve the same unit while offline", "A price waits until Nadia approves it", "Amina puts right what was refused",
          "Omar loses the permission to see leads", "The office adds a column to the units while Omar edits one offline",
          "The hub is restored from a backup; its devices give back what came later")


class Story(unittest.TestCase):

    def setUp(self):
        self.checkout = tempfile.mkdtemp(prefix="ferry-demo-")
        self.addCleanup(shutil.rmtree, self.checkout)
        os.mkdir(os.path.join(self.checkout, "build"))
        for folder in ("hub", "tools"):
            os.symlink(os.path.join(ferry_pg.SOURCE, folder), os.path.join(self.checkout, folder))

    def test_every_scene_ends_as_it_must(self):
        done = subprocess.run([sys.executable, STORY], env=dict(os.environ, FERRY_SOURCE=self.checkout), capture_output=True,
                              text=True, timeout=900, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])
        for scene in SCENES:
            self.assertIn(scene, done.stdout)


if __name__ == "__main__":
    unittest.main()
