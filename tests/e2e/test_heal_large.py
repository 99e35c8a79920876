#!/usr/bin/python3
"""Change-sets larger than a message (R7), after the hub was restored from a backup that lacks them (P8)."""

import unittest
import uuid

from ferry_run import wait_until
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

    def test_R18_a_large_replay_that_lacks_its_predecessor_waits_for_the_device_that_has_it(self):
        backup = self.backup(DumpBackup)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        unit, company = self.insert(a, "P-1", floor=1), str(uuid.uuid4())
        a.sql("INSERT INTO companies (id, name) VALUES (?, 'Predecessor')", company)
        self.site.wait_settled()
        with b.transaction() as db:  # builds on the unit in its last rows,
            db.executemany("INSERT INTO units (project_id, code, unit_type_code, view) VALUES (?, ?, 'APT_1BR', 'none')",
                           [(self.project, "N-%d" % n) for n in range(ROWS)])
            db.execute("UPDATE units SET floor = 2 WHERE id = ?", (unit,))
        with b.transaction() as db:  # refers to the company,
            db.executemany("INSERT INTO contacts (company_id, full_name) VALUES (?, ?)",
                           [(company, "Zoe %d of a long name, longer than others are, so that it is large" % n) for n in range(ROWS * 2)])
        self.site.wait_settled()
        self.assertEqual(b.value("SELECT count(DISTINCT number) FROM ferry_kept_part"), 2)
        b.sql("UPDATE units SET view = 'sea' WHERE code = 'N-17'")  # and builds on the first.
        free = self.insert(b, "FREE")
        self.site.wait_settled()
        a.stop()
        backup.restore()
        wait_until(lambda: self.hub_unit(free, "id"), 60, "what stands alone, at the hub")
        wait_until(lambda: self.hub.log_text().count("event=replay-waits") == 2, 60, "both large ones, waiting")
        self.assertEqual(self.site.value("SELECT count(*) FROM inventory.units"), 1)
        a.start()
        self.wait_met()
        self.site.wait_settled(seconds=120)
        self.assertEqual(self.hub_unit(unit, "floor"), 2)
        self.assertEqual(self.site.value("SELECT count(*) FROM crm.contacts WHERE company_id = %s", company), ROWS * 2)
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE code = 'N-17'"), "sea")
        self.assertEqual(self.site.sql("SELECT 1 FROM ferry.rejected"), [])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.stage"), 0)
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
