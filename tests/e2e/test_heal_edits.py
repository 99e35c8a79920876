#!/usr/bin/python3
"""Edits that a device makes on rows of a lost history before it has heard that the hub was restored (R17, R18)."""

import unittest

from ferry_run import wait_until

from test_heal import DumpBackup, HealCase


class HealEdits(HealCase):

    def lost_unit(self, a, b, edited):
        """A unit that one device has made since the backup, and another one has seen, and maybe edited."""
        unit = self.insert(a, "LOST", floor=1)
        self.site.wait_settled()
        if edited:
            b.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
            self.site.wait_settled()
        return unit

    def meet_alone(self, backup, a, b, *late):
        """The restored hub is met by the second device alone, with statements that it runs unconnected before."""
        a.stop()
        b.stop()
        for sql, *values in late:
            b.sql(sql, *values)
        last = self.insert(b, "LAST")
        backup.restore()
        b.start()
        wait_until(lambda: self.hub_unit(last, "id"), 60, "what stands alone, at the hub")
        self.assert_nothing_was_judged()
        b.stop()
        a.start()
        self.wait_met(a)
        self.site.wait_settled(a)
        b.start()
        self.site.wait_settled()
        self.assert_nothing_was_judged()
        self.assert_same()

    def assert_nothing_was_judged(self):
        self.assertEqual(self.site.sql("SELECT kind, winner, device_value FROM ferry.conflict"), [])
        self.assertEqual(self.site.sql("SELECT code, sentence FROM ferry.rejected"), [])

    def check_late_edit(self, edited):
        backup = self.backup(DumpBackup)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        unit = self.lost_unit(a, b, edited)
        self.meet_alone(backup, a, b, ("UPDATE units SET view = 'sea' WHERE id = ?", unit))
        self.assertEqual((self.hub_unit(unit, "view"), self.hub_unit(unit, "floor")), ("sea", 2 if edited else 1))

    def test_R18_an_edit_of_a_lost_row_waits_behind_the_devices_own_replay_of_it(self):
        self.check_late_edit(edited=True)

    def test_R18_an_edit_of_a_lost_row_waits_for_whoever_has_the_row(self):
        self.check_late_edit(edited=False)

    def test_R18_a_later_edit_of_a_row_waits_behind_a_replay_that_waits_for_another_row(self):
        backup = self.backup(DumpBackup)
        old = self.unit("OLD", floor=1)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        unit = self.lost_unit(a, b, edited=False)
        with b.transaction() as db:
            db.execute("UPDATE units SET floor = 5 WHERE id = ?", (unit,))
            db.execute("UPDATE units SET floor = 5 WHERE id = ?", (old,))
        self.site.wait_settled()
        b.sql("UPDATE units SET floor = 6 WHERE id = ?", old)
        self.site.wait_settled()
        self.meet_alone(backup, a, b, ("UPDATE units SET floor = 7 WHERE id = ?", old))
        self.assertEqual((self.hub_unit(unit, "floor"), self.hub_unit(old, "floor")), (5, 7))


if __name__ == "__main__":
    unittest.main()
