#!/usr/bin/python3
"""Commands of a user who may not do what they ask: the answer says so, and nothing else."""

import os
import stat
import subprocess
import unittest

from ferry_run import SiteCase

NOBODY = 65534


class OtherUser(SiteCase):

    def setUp(self):
        super().setUp()
        self.a = self.device("a")
        self.settle()

    def as_nobody(self, *arguments, program=None):
        """Without the rights of root, or of the owner where the tests run as an ordinary user."""
        drop = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"] if os.geteuid() == 0 else []
        return subprocess.run(drop + (program or self.a).command(*arguments), capture_output=True, text=True, timeout=60, check=False)

    def close(self, path, mode=0):
        """The test's user cannot open it any more, until the test ends."""
        was = stat.S_IMODE(os.stat(path).st_mode)
        self.addCleanup(os.chmod, path, was)
        os.chmod(path, mode)

    def denied(self, *arguments):
        done = self.as_nobody(*arguments)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        for text in ("user that ferry-agent runs as", "[IO]"):
            self.assertIn(text, done.stderr)
        for text in ("not enrolled", "enrol anew", "no agent runs", "Stop the agent"):
            self.assertNotIn(text, done.stderr)

    def test_a_state_folder_that_may_not_be_entered_is_not_taken_for_an_empty_one(self):
        self.close(self.a.state)
        for command in (["status"], ["outbox"], ["sql", "SELECT 1"], ["sync"], ["run"], ["verify"], ["barrier"],
                        ["bundle", "export", os.path.join(self.a.folder, "file")]):
            self.denied(*command)

    def test_an_identity_that_may_not_be_read_is_not_taken_for_none(self):
        self.a.stop()
        self.close(os.path.join(self.a.state, "identity"))
        for command in (["sync"], ["run"]):
            self.denied(*command)

    def test_the_socket_of_another_user_is_not_taken_for_no_agent(self):
        os.chmod(self.a.state, 0o755)
        self.close(os.path.join(self.a.state, "run", "agent.sock"))
        self.denied("barrier", "--timeout", "1")

    def test_a_hub_of_another_user_is_not_taken_for_none(self):
        self.close(self.hub.state)
        for command in ("status", "sessions"):
            done = self.as_nobody(command, program=self.hub)
            self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
            self.assertIn("user that ferry-hub runs as", done.stderr)
            self.assertNotIn("no hub runs", done.stderr)


if __name__ == "__main__":
    unittest.main()
