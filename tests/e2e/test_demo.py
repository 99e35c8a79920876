#!/usr/bin/python3
# ferry-test: quick
"""The demo beside another one, and ended before its end. Its whole story is played by tools/demo."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import ferry_pg

STORY = os.path.join(ferry_pg.SOURCE, "tools", "demo.d", "story.py")


class Demo(unittest.TestCase):

    def setUp(self):
        self.checkout = tempfile.mkdtemp(prefix="ferry demo ")
        self.addCleanup(shutil.rmtree, self.checkout)
        os.mkdir(os.path.join(self.checkout, "build"))
        for folder in ("hub", "tools"):
            os.symlink(os.path.join(ferry_pg.SOURCE, folder), os.path.join(self.checkout, folder))

    def story(self, *arguments):
        return subprocess.Popen([sys.executable, STORY, *arguments], env=dict(os.environ, FERRY_SOURCE=self.checkout),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def test_second_demo_of_a_checkout_says_that_there_is_one(self):
        with open(os.path.join(self.checkout, "build", "demo.lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            demo = self.story()
            text, _ = demo.communicate(timeout=60)
        self.assertEqual(demo.returncode, 1, text)
        self.assertIn("another demo of this checkout", text)

    def test_stop_says_when_nothing_is_left(self):
        demo = self.story("--stop")
        text, _ = demo.communicate(timeout=60)
        self.assertEqual((demo.returncode, text), (0, "nothing is left running\n"))

    def test_demo_that_is_ended_stops_what_it_started(self):
        demo = self.story()
        lines = iter(demo.stdout.readline, "")
        self.assertTrue(any(line.startswith("tenant ") for line in lines), "no tenant was made")  # PostgreSQL runs
        demo.send_signal(signal.SIGTERM)
        text, _ = demo.communicate(timeout=60)
        self.assertEqual(demo.returncode, 1, text)
        self.assertIn("everything is stopped", text)
        # A PostgreSQL that has stopped takes away its pid file a moment before it is gone.
        ferry_pg.wait_until(lambda: not self.left(), 20, "the end of %s" % self.left())

    def left(self):
        """Command lines of processes that have to do with this checkout."""
        left = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    command = f.read()
            except OSError:
                continue  # it has ended
            if self.checkout.encode() in command:
                left.append(command.replace(b"\0", b" ").decode())
        return left


if __name__ == "__main__":
    unittest.main()
