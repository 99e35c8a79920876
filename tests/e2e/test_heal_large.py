#!/usr/bin/python3
"""Change-sets larger than a message (R7), after the hub was restored from a backup that lacks them (P8)."""

import unittest

from test_heal import DumpBackup, HealCase

ROWS = 6000


class HealLarge(HealCase):

    def test_P8_a_change_set_larger_than_a_message_comes_back_whole_and_in_its_place(self):
        backup = self.backup(DumpBackup)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        with a.transaction() as db:
            db.executemany("INSERT INTO units (project_id, code, unit_type_code, view) VALUES (?, ?, 'APT_1BR', 'none')",
                           [(self.project, "N-%d" % n) for n in range(ROWS)])
        self.site.wait_settled()
        self.assertGreater(a.value("SELECT count(*) FROM ferry_kept_part"), 0)  # it went in parts
        b.sql("UPDATE units SET view = 'sea' WHERE code = 'N-17'")              # having seen it
        self.site.wait_settled()
        self.heal(backup)
        self.assertEqual(self.site.value("SELECT count(*) FROM inventory.units"), ROWS)
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE code = 'N-17'"), "sea")
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.stage"), 0)
        self.assertEqual(self.site.sql("SELECT code FROM ferry.rejected"), [])
        self.assertEqual(self.site.sql("SELECT kind FROM ferry.conflict"), [])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
