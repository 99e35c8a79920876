#!/usr/bin/python3
"""Row policies on real processes (docs/merge.md): a table's own check, deletions, parents that are missing."""

import json
import unittest

from ferry_run import SiteCase, wait_until


class Check(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("""CREATE FUNCTION inventory.check_unit(op text, old inventory.units, new inventory.units, device uuid) RETURNS text
            LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            RETURN CASE WHEN new.floor > 40 THEN format('the house has 40 floors, %s is none of them', new.floor) END""")
        cls.site.sql("SELECT ferry.validate('inventory.units', 'inventory.check_unit')")

    def test_P6_a_check_refuses_its_change_set_with_its_sentence_and_costs_the_others_nothing(self):
        unit, other = self.new_unit("A-1", floor=3), self.new_unit("A-2", floor=4)
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        b.stop()
        a.sql("UPDATE units SET floor = 41 WHERE id = ?", unit)
        a.run("sync", "--wait", "1")
        self.hub.stop()
        a.sql("UPDATE units SET floor = 40 WHERE id = ?", other)
        a.run("sync", "--wait", "0")
        a.sql("UPDATE units SET floor = 99 WHERE id = ?", other)
        a.run("sync", "--wait", "0")
        b.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.hub.start()
        a.start()
        b.start()
        self.settle()
        self.assertEqual([tuple(r) for r in self.site.sql("SELECT floor, view FROM inventory.units WHERE id = ANY (%s::uuid[]) ORDER BY code",
                                                          [unit, other])], [(3, "sea"), (40, None)])
        self.assertEqual(a.sql("SELECT name, sentence FROM ferry_rejected ORDER BY number"),
                         [("VALIDATION", "the house has 40 floors, 41 is none of them"),
                          ("VALIDATION", "the house has 40 floors, 99 is none of them")])
        self.assertEqual(b.sql("SELECT * FROM ferry_rejected"), [])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
