#!/usr/bin/python3
"""ferry-hub backup-mark, and what devices keep for a hub that is restored (R18)."""

import contextlib
import unittest
import uuid

from ferry_run import CommandFailed, SiteCase, wait_until


class BackupMark(SiteCase):

    def edit(self, device, n):
        """n change-sets, one after the other."""
        for i in range(n):
            device.sql("INSERT INTO units (id, project_id, code, unit_type_code) VALUES (?, ?, ?, 'APT_1BR')",
                       str(uuid.uuid4()), self.project, uuid.uuid4().hex[:12])
            self.settle(device)

    def kept(self, device):
        return device.value("SELECT kept_sets FROM ferry_status")

    def test_R18_devices_forget_what_a_backup_holds_and_no_more(self):
        a = self.device("a")
        self.settle()
        self.edit(a, 2)
        self.assertEqual(self.kept(a), 2)
        begun = self.hub.json("backup-mark", "--begin")
        self.assertEqual([row["state"] for row in begun], ["begun"])
        self.edit(a, 1)  # while the backup runs: not surely in it
        self.assertEqual(self.hub.json("backup-mark", "--dry-run")[0]["backup"], begun[0]["backup"])
        self.assertEqual(self.kept(a), 3)
        self.assertEqual([row["state"] for row in self.hub.json("backup-mark")], ["complete"])
        a.stop()
        a.start()  # the welcome tells it,
        wait_until(lambda: self.kept(a) == 1, 20, "what the backup holds, forgotten")
        self.hub.json("backup-mark", "--begin")
        self.hub.json("backup-mark")
        self.edit(a, 1)  # and so does the next commit
        wait_until(lambda: self.kept(a) == 1, 20, "the same on a living link")
        self.assertEqual(a.value("SELECT forgotten FROM ferry_status"), 0)

    def test_a_backup_that_was_not_begun_is_refused_with_what_to_do(self):
        with contextlib.suppress(CommandFailed):
            self.hub.json("backup-mark")  # of another test
        with self.assertRaises(CommandFailed) as failed:
            self.hub.json("backup-mark")
        self.assertEqual(failed.exception.error["code"], "NOT_FOUND")
        self.assertIn("--begin", failed.exception.error["advice"])

    def test_R18_what_falls_out_of_the_bounded_history_is_counted_and_said(self):
        a = self.device("a", settings={"history.bytes": "64KiB"})
        self.settle()
        text = "x" * 30000
        for _ in range(4):
            a.sql("INSERT INTO companies (id, name) VALUES (?, ?)", str(uuid.uuid4()), text[:200])
            a.sql("INSERT INTO units (id, project_id, code, unit_type_code, view) VALUES (?, ?, ?, 'APT_1BR', ?)",
                  str(uuid.uuid4()), self.project, uuid.uuid4().hex[:12], text)
            self.settle(a)
        self.assertLessEqual(a.value("SELECT kept_bytes FROM ferry_status"), 65536)
        self.assertGreater(a.value("SELECT forgotten FROM ferry_status"), 0)
        self.assertEqual(a.value("SELECT sum(bytes) FROM ferry_kept"), a.value("SELECT kept_bytes FROM ferry_status"))
        a.wait_log("fell out of the kept history")
        self.assertGreater(a.status()["forgotten"], 0)


if __name__ == "__main__":
    unittest.main()
