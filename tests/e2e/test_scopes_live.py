#!/usr/bin/python3
"""Scopes that come and go on real devices: only their rows are filled or evicted, and no edit is lost."""

import unittest

import ferry_proxy
import ferry_run
from ferry_run import wait_until

BIG = 60000


class ScopesLive(ferry_run.SiteCase):

    # ---- words

    def setUp(self):
        super().setUp()
        self.second = self.new_project(name="Lake")

    def grant(self, device, scope):
        self.site.sql("INSERT INTO ferry.device_scope (device_id, scope) VALUES (%s, %s)", device.id, scope)

    def withdraw(self, device, scope):
        self.site.sql("DELETE FROM ferry.device_scope WHERE device_id = %s AND scope = %s", device.id, scope)

    def units(self, project, count):
        self.site.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, price_minor) "
                      "SELECT %s, %s, 'U-' || i, 'APT_1BR', i FROM generate_series(1, %s) i", self.tenant, project, count)

    def counts(self, device):
        """{project: units} of the replica."""
        return dict(device.sql("SELECT project_id, count(*) FROM units GROUP BY 1"))

    def wait_counts(self, device, counts, seconds=30):
        wait_until(lambda: self.counts(device) == counts, seconds, "the units %s of %s" % (counts, device.label))

    def pages(self, device):
        """Where the tables begin in the file: a table that was swapped begins elsewhere."""
        return device.sql("SELECT name, rootpage FROM sqlite_schema WHERE name NOT GLOB 'ferry_*' ORDER BY name")

    def welcomes(self, device):
        return [line for line in self.hub.log_text().splitlines() if "event=welcome" in line and device.id in line]

    # ---- tests

    def test_R15_scope_that_comes_and_goes_leaves_the_rest_of_the_replica_as_it_is(self):
        self.units(self.project, 200)
        self.units(self.second, 300)
        a = self.device("a")
        self.settle()
        self.wait_counts(a, {self.project: 200})
        pages = self.pages(a)
        a.sql("UPDATE units SET floor = 3 WHERE code = 'U-7'")
        self.grant(a, "project:" + self.second)
        self.wait_counts(a, {self.project: 200, self.second: 300})
        self.settle()
        self.assert_same()
        self.withdraw(a, "project:" + self.project)
        self.wait_counts(a, {self.second: 300})
        self.settle()
        self.assert_same()
        self.assertEqual(self.pages(a), pages)
        self.assertEqual([line.split("mode=")[1].split()[0] for line in self.welcomes(a)], ["fill", "delta", "delta"])
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE project_id = %s AND code = 'U-7'", self.project), 3)
        self.assertEqual(a.value("SELECT last_number FROM ferry_state"), 1)  # evicting is no edit

    def test_scope_lost_and_gained_while_the_device_is_away_keeps_unsent_edits(self):
        mine, theirs = self.new_unit("A-1"), self.new_unit("B-1", project=self.second)
        a = self.device("a")
        self.settle()
        a.stop()
        a.sql("UPDATE units SET floor = 9 WHERE id = ?", mine)
        a.sql("INSERT INTO projects (id, tenant_id, name) VALUES ('018f0000-0000-7000-8000-000000000001', ?, 'Kept')", self.tenant)
        self.grant(a, "project:" + self.second)
        self.withdraw(a, "project:" + self.project)
        a.start()
        self.wait_counts(a, {self.second: 1})
        self.settle()
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("OUT_OF_SCOPE", mine)])
        self.assertIn("9", a.value('SELECT "values" FROM ferry_rejected'))
        self.assertEqual(self.site.value("SELECT count(*) FROM inventory.projects WHERE name = 'Kept' AND tenant_id = %s", self.tenant), 1)
        self.assertIsNone(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", mine))
        self.assertIsNotNone(a.row("units", theirs))
        self.assert_same()
        self.assertTrue(all("mode=delta" in line for line in self.welcomes(a)[1:]))

    def test_R15_fill_beside_goes_on_over_cuts_while_other_changes_flow(self):
        proxy = ferry_proxy.Proxy(self.hub.device_port)
        self.addCleanup(proxy.close)
        first = self.new_unit("A-1")
        self.units(self.second, BIG)
        a = self.device("a", hub_port=proxy.port, settings={"link.credit": 2 << 20}, start=False)
        a.start()
        self.settle()
        proxy.delay(0.3)
        pages = self.pages(a)
        proxy.cut_after(received=120000)
        self.grant(a, "project:" + self.second)
        for floor in range(3):
            wait_until(lambda: not proxy.armed(), 60, "a cut of the fill")
            proxy.refuse(True)
            proxy.cut()
            a.kill9()
            self.assertEqual(a.value("SELECT filling FROM ferry_status"), 2)
            self.assertEqual(self.counts(a), {self.project: 1})
            self.site.sql("UPDATE inventory.units SET floor = %s WHERE id = %s", floor, first)
            self.site.sql("UPDATE inventory.units SET floor = %s WHERE project_id = %s AND price_minor %% 50 = %s", floor, self.second, floor)
            self.site.sql("DELETE FROM inventory.units WHERE project_id = %s AND price_minor = %s", self.second, 10 + floor)
            proxy.refuse(False)
            a.start()
            wait_until(lambda: a.row("units", first)["floor"] == floor, 60, "the other change")
            if floor < 2:
                self.assertEqual(a.value("SELECT filling FROM ferry_status"), 2)  # beside the fill
                proxy.cut_after(received=1)
        proxy.delay(0)
        self.wait_counts(a, {self.project: 1, self.second: BIG - 3}, seconds=90)
        self.settle()
        self.assert_same()
        self.assertEqual(self.pages(a), pages)
        self.assertTrue(all("mode=delta" in line for line in self.welcomes(a)[1:]))
        self.assertEqual(a.value("SELECT filling FROM ferry_status"), 0)

    def test_R14_unit_that_moves_into_a_scope_that_is_being_filled_is_there_once(self):
        self.units(self.second, 50)
        moving = [self.new_unit("M-%d" % i) for i in range(20)]
        a = self.device("a")
        self.settle()
        a.stop()
        self.grant(a, "project:" + self.second)
        a.sql("UPDATE units SET floor = 5 WHERE id = ?", moving[0])
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = ANY (%s::uuid[])", self.second, moving[:10])
        a.start()
        self.wait_counts(a, {self.project: 10, self.second: 60})
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = ANY (%s::uuid[])", self.second, moving[10:])
        self.wait_counts(a, {self.second: 70})
        self.settle()
        self.assertEqual(a.row("units", moving[0])["floor"], 5)
        self.withdraw(a, "project:" + self.project)
        self.settle()
        self.wait_counts(a, {self.second: 70})
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
