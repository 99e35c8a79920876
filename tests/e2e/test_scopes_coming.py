#!/usr/bin/python3
"""What people write in a scope that their device is just getting stays in their sight until it is there."""

import unittest

import ferry_proxy
import ferry_run
from ferry_run import wait_until

BIG = 60000
MINE = "018f0000-0000-7000-8000-000000000001"
DELETED = "018f0000-0000-7000-8000-000000000002"


class ScopesComing(ferry_run.SiteCase):

    # ---- words

    def setUp(self):
        super().setUp()
        self.second = self.new_project(name="Lake")
        self.site.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, price_minor) "
                      "SELECT %s, %s, 'U-' || i, 'APT_1BR', i FROM generate_series(1, %s) i", self.tenant, self.second, BIG)
        self.proxy = ferry_proxy.Proxy(self.hub.device_port)
        self.addCleanup(self.proxy.close)

    def make(self, device, key, code):
        device.sql("INSERT INTO units (id, tenant_id, project_id, code, unit_type_code) VALUES (?, ?, ?, ?, 'APT_1BR')",
                   key, self.tenant, self.second, code)

    def wait_settled(self, device, what):
        wait_until(lambda: device.sql("SELECT waiting_rows, waiting_sets, rejected FROM ferry_status") == [(0, 0, 0)], 60, what)

    def assert_in_sight(self, device, **columns):
        self.assertEqual(device.value("SELECT filling FROM ferry_status"), 2, "the fill was too quick for this test")
        row = device.row("units", MINE)
        self.assertIsNotNone(row)
        self.assertEqual({name: row[name] for name in columns}, columns)

    def pass_state(self, device, key, floor):
        """A state of the scopes that are held comes in, beside the fill."""
        self.site.sql("UPDATE inventory.units SET floor = %s WHERE id = %s", floor, key)
        wait_until(lambda: device.row("units", key)["floor"] == floor, 60, "a change of a held scope")

    # ---- tests

    def test_R15_row_made_in_a_scope_that_is_being_filled_stays_in_sight_over_a_kill(self):
        other = self.new_unit("A-1")
        a = self.device("a", hub_port=self.proxy.port, settings={"link.credit": 2 << 20}, start=False)
        a.start()
        self.settle()
        self.proxy.delay(0.3)
        self.proxy.cut_after(received=120000)
        self.site.sql("INSERT INTO ferry.device_scope (device_id, scope) VALUES (%s, %s)", a.id, "project:" + self.second)
        wait_until(lambda: not self.proxy.armed(), 60, "a cut of the fill")
        wait_until(lambda: a.value("SELECT filling FROM ferry_status") == 2, 60, "the fill")
        self.make(a, MINE, "MINE")
        self.make(a, DELETED, "GONE")
        self.wait_settled(a, "the verdict on the new rows")
        self.assertEqual(self.site.value("SELECT code FROM inventory.units WHERE id = %s", MINE), "MINE")
        self.assert_in_sight(a, code="MINE", floor=None)
        a.sql("UPDATE units SET floor = 4 WHERE id = ?", MINE)
        self.wait_settled(a, "the verdict on the edit")
        self.pass_state(a, other, 1)
        self.assert_in_sight(a, code="MINE", floor=4)
        a.kill9()
        self.site.sql("UPDATE inventory.units SET price_minor = 77 WHERE id = %s", MINE)
        self.site.sql("DELETE FROM inventory.units WHERE id = %s", DELETED)
        self.proxy.cut_after(received=60000)
        a.start()
        self.pass_state(a, other, 2)
        self.assert_in_sight(a, code="MINE", floor=4)
        self.proxy.delay(0)
        wait_until(lambda: a.value("SELECT filling FROM ferry_status") == 0, 90, "the end of the fill")
        self.settle()
        self.assert_same()
        self.assertEqual((a.row("units", MINE)["price_minor"], a.row("units", MINE)["floor"]), (77, 4))
        self.assertIsNone(a.row("units", DELETED))
        self.assertEqual(a.value("SELECT count(*) FROM ferry_conflict"), 0)
        self.assertEqual(a.value("SELECT count(*) FROM ferry_change_set"), 0)

    def test_R1_edit_of_such_a_row_meets_what_others_did_to_it_meanwhile_as_a_conflict(self):
        a = self.device("a", hub_port=self.proxy.port, settings={"link.credit": 2 << 20}, start=False)
        a.start()
        self.settle()
        self.proxy.delay(0.3)
        self.site.sql("INSERT INTO ferry.device_scope (device_id, scope) VALUES (%s, %s)", a.id, "project:" + self.second)
        wait_until(lambda: a.value("SELECT filling FROM ferry_status") == 2, 60, "the fill")
        self.make(a, MINE, "MINE")
        self.wait_settled(a, "the verdict on the new row")
        self.site.sql("UPDATE inventory.units SET floor = 9 WHERE id = %s", MINE)
        a.sql("UPDATE units SET floor = 4 WHERE id = ?", MINE)
        self.wait_settled(a, "the verdict on the edit")
        self.assert_in_sight(a, code="MINE")
        self.proxy.delay(0)
        wait_until(lambda: a.value("SELECT filling FROM ferry_status") == 0, 90, "the end of the fill")
        self.settle()
        self.assert_same()
        self.assertEqual(a.value("SELECT count(*) FROM ferry_conflict WHERE \"table\" = 'units' AND \"column\" = 'floor'"), 1)


if __name__ == "__main__":
    unittest.main()
