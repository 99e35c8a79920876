#!/usr/bin/python3
"""A hub that goes back in time more than once, and replays whose row came and went before they were back (P8, R18)."""

import unittest

from ferry_run import wait_until

from test_heal import DumpBackup, HealCase


class HealTwice(HealCase):

    def made_edited_and_deleted(self, devices):
        """A row of one device, which the next one edits and the third one deletes, each having seen what was before."""
        a, b, c = devices
        unit = self.insert(a, "%s%s%s" % tuple(d.label for d in devices), floor=1)
        self.site.wait_settled()
        b.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
        self.site.wait_settled()
        c.sql("DELETE FROM units WHERE id = ?", unit)
        self.site.wait_settled()
        return unit

    def assert_nothing_waits(self):
        for device in self.site.devices:
            self.assertEqual(device.value("SELECT replays FROM ferry_status"), 0)
            self.assertEqual(device.value("SELECT parked FROM ferry_status"), 0)
            last = device.value("SELECT last_number FROM ferry_state")
            self.assertEqual(self.site.sql("SELECT settled, settled_above FROM ferry.device WHERE id = %s", device.id)[0], (last, []))

    def test_R18_replays_keep_the_order_of_the_history_in_which_they_were_settled_first(self):
        backup = self.backup(DumpBackup)
        a, b, c = (self.device(name, start=True) for name in "abc")
        self.site.wait_settled()
        backup.take()
        gone = [self.made_edited_and_deleted(order) for order in ((a, b, c), (c, b, a), (b, c, a))]
        stays = self.insert(a, "STAYS", floor=1)
        self.site.wait_settled()
        for n, device in enumerate((b, c, a, b)):
            device.sql("UPDATE units SET floor = ? WHERE id = ?", n + 2, stays)
            self.site.wait_settled()
        for _ in range(2):
            self.heal(backup)  # all of it comes back in few transactions, each time
            self.assert_nothing_waits()
            self.assertEqual(self.hub_unit(stays, "floor"), 5)
            self.assertEqual([self.hub_unit(unit, "id") for unit in gone], [None] * 3)
            self.assertEqual(self.site.sql("SELECT kind, winner FROM ferry.conflict"), [])
            self.assert_same()

    def test_R18_an_edit_of_a_row_that_came_and_went_in_one_transaction_does_not_wait_for_it(self):
        backup = self.backup(DumpBackup)
        a, b, c = (self.device(name, start=True) for name in "abc")
        self.site.wait_settled()
        backup.take()
        unit = self.made_edited_and_deleted((a, b, c))
        b.stop()
        self.heal(backup, a, c)
        self.assertIsNone(self.hub_unit(unit, "id"))
        b.start()
        self.wait_met()
        self.site.wait_settled()
        self.assert_nothing_waits()
        self.assertEqual(self.site.sql("SELECT kind, winner, device_value FROM ferry.conflict WHERE key = %s AND num > 0", unit),
                         [("update_delete", "hub", 2)])
        self.assert_same()

    def test_P5_an_edit_between_two_restores_has_not_seen_what_a_device_that_was_away_brings_back(self):
        backup = self.backup(DumpBackup)
        unit = self.unit("OLD", floor=1)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        a.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
        self.site.wait_settled()
        a.stop()
        self.heal(backup, b)
        wait_until(lambda: b.value("SELECT floor FROM units WHERE id = ?", unit) == 1, 30, "the row as the backup has it")
        self.insert(b, "SECOND")  # a position of the second history, on which the edit is made
        self.site.wait_settled(b)
        b.sql("UPDATE units SET floor = 3 WHERE id = ?", unit)
        self.site.wait_settled(b)
        backup.restore()
        a.start()
        self.wait_met()
        self.site.wait_settled()
        self.assertEqual(self.site.sql("SELECT kind, winner, device_value, hub_value FROM ferry.conflict"),
                         [("update_update", "device", 3, 2)])
        self.assertEqual(self.hub_unit(unit, "floor"), 3)
        self.assert_nothing_waits()
        self.assert_same()

    def test_R18_an_edit_between_two_restores_has_seen_what_had_come_back(self):
        backup = self.backup(DumpBackup)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        unit = self.insert(a, "NEW", floor=1)
        self.site.wait_settled()
        self.heal(backup)
        b.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
        self.site.wait_settled()
        self.heal(backup)
        self.assertEqual(self.hub_unit(unit, "floor"), 2)
        self.assertEqual(self.site.sql("SELECT kind, winner, device_value FROM ferry.conflict"), [])
        self.assert_nothing_waits()
        self.assert_same()

    def test_a_position_belongs_to_one_history_alone(self):
        backup = self.backup(DumpBackup)
        a = self.device("a", start=True)
        self.site.wait_settled()
        backup.take()
        seen, kept = set(), self.hub.head(self.tenant)

        def positions():
            return {row[0] for row in self.site.sql("SELECT position FROM ferry.commit WHERE position > %s", kept)}
        for n in range(3):
            self.insert(a, "N%d" % n)
            self.site.wait_settled()
            here = positions() - seen
            self.assertTrue(here and min(here) > max(seen, default=0))
            seen |= positions()
            self.heal(backup)
            here = positions()
            self.assertTrue(here and min(here) > max(seen))
            seen |= here


if __name__ == "__main__":
    unittest.main()
