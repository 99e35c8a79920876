#!/usr/bin/python3
"""What a deletion on a device takes along by foreign keys, on real processes (docs/merge.md)."""

import unittest

from ferry_run import SiteCase


class Cascades(SiteCase):

    def component(self, unit):
        return str(self.site.value("INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code, name) "
                                   "VALUES (%s, %s, 'KITCHEN', 'Kitchen') RETURNING id", self.tenant, unit))

    def test_R4_what_a_deletion_takes_along_unseen_is_kept_on_its_device_and_put_back_there(self):
        unit = self.new_unit(code="C-1")
        part = self.component(unit)
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        b.sql("UPDATE unit_components SET name = 'Bath' WHERE id = ?", part)
        self.settle(b)
        a.sql("DELETE FROM units WHERE id = ?", unit)
        a.start()
        self.settle()
        kept = {(c["table"], c["column"]): c["hub_value"] for c in a.json("conflicts")}
        self.assertEqual((kept["units", "code"], kept["unit_components", "name"]), ("C-1", "Bath"))
        self.assertEqual((a.row("unit_components", part), a.sql("SELECT * FROM ferry_rejected")), (None, []))
        for table in ("units", "unit_components"):
            a.json("conflicts", "take-theirs", next(c["id"] for c in a.json("conflicts") if c["table"] == table))
            self.settle()
        self.assertEqual((a.json("conflicts"), b.row("unit_components", part)["name"], b.row("units", unit)["code"]), ([], "Bath", "C-1"))
        self.assert_same()

    def test_edits_of_a_day_offline_come_out_in_their_order(self):
        units = [self.new_unit(code="C-%d" % i) for i in range(3)]
        part = self.component(units[0])
        a = self.device("a")
        self.settle()
        a.stop()
        a.sql("DELETE FROM units WHERE id = ?", units[1])
        a.sql("UPDATE unit_components SET unit_id = ? WHERE id = ?", units[2], part)
        a.sql("DELETE FROM units WHERE id = ?", units[0])
        a.start()
        self.settle()
        self.assertEqual((a.row("unit_components", part)["unit_id"], a.json("conflicts"), a.sql("SELECT * FROM ferry_rejected")), (units[2], [], []))
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
