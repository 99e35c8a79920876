#!/usr/bin/python3
"""Apps that change the replica's own tables: nothing false reaches the hub, and it is said what to do."""

import unittest

from ferry_run import SiteCase, wait_until


class ChangedTables(SiteCase):

    def unit_and_device(self):
        unit = self.new_unit(view="garden", floor=1)
        a = self.device("a")
        self.settle()
        return unit, a

    def ends_with(self, device, *texts):
        """Its agent ends, says why, and status says it too."""
        self.assertEqual(device.wait_exit(30), 5)
        for text in (*texts, "A program changed the replica's tables", "--force", "[CORRUPT]"):
            self.assertIn(text, device.log_text())
        status = device.status()
        self.assertEqual((status["state"], status["error"]), ("not running", "CORRUPT"))
        self.assertIn(texts[0], status["why"])

    def test_P5_a_renamed_column_ends_the_agent_and_sends_nothing_until_it_has_its_name_back(self):
        unit, a = self.unit_and_device()
        with a.transaction() as db:  # SQLite takes "view" for a text where no column has that name
            db.execute("ALTER TABLE units RENAME COLUMN view TO vista")
            db.execute("UPDATE units SET vista = 'sea' WHERE id = ?", (unit,))
        self.ends_with(a, "no such column: view")
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", unit), "garden")
        a.sql("ALTER TABLE units RENAME COLUMN vista TO view")
        a.start()
        self.settle()
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", unit), "sea")
        self.assert_same()

    def test_a_renamed_table_ends_the_agent_until_it_has_its_name_back(self):
        unit, a = self.unit_and_device()
        with a.transaction() as db:
            db.execute("ALTER TABLE units RENAME TO flats")
            db.execute("UPDATE flats SET floor = 2 WHERE id = ?", (unit,))
        self.ends_with(a, "no such table: units")
        a.sql("ALTER TABLE flats RENAME TO units")
        a.start()
        self.settle()
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 2)
        self.assert_same()

    def test_a_column_that_an_app_added_is_its_own_and_disturbs_nobody(self):
        unit, a = self.unit_and_device()
        a.sql("ALTER TABLE units ADD COLUMN mine TEXT")
        a.sql("UPDATE units SET mine = 'x', floor = 2 WHERE id = ?", unit)
        self.settle()
        self.site.sql("UPDATE inventory.units SET view = 'sea' WHERE id = %s", unit)
        wait_until(lambda: a.row("units", unit)["view"] == "sea", 30, "the hub's view")
        self.assertEqual((a.row("units", unit)["floor"], a.row("units", unit)["mine"]), (2, "x"))
        self.assert_same()
        self.assertEqual(a.run("verify").returncode, 0)


if __name__ == "__main__":
    unittest.main()
