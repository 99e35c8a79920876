#!/usr/bin/python3
"""Policies on real processes: what edits of several devices and of psql come to (docs/merge.md)."""

import json
import sqlite3
import unittest

from ferry_run import SiteCase, wait_until


STATUS = {"available": ["reserved"], "reserved": ["available", "sold"]}


class Policies(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for column, policy, options in (("floor", "counter", None), ("size_sqm", "counter", None), ("bedrooms", "max", None),
                                        ("view", "text", None), ("status", "guard", json.dumps(STATUS))):
            cls.site.sql("SELECT ferry.policy('inventory.units', %s, %s, %s)", column, policy, options)

    def start(self, *devices):
        """One after the other, so that who comes first is known."""
        for d in devices:
            d.start()
            self.settle(d)
        self.settle(*devices)

    def some(self, count, **columns):
        """A unit that devices hold; the agents are stopped again."""
        unit = self.new_unit(**columns)
        devices = [self.device("d%d" % i) for i in range(count)]
        self.settle()
        for d in devices:
            d.stop()
        return unit, devices

    def hub_unit(self, unit, column):
        return self.site.value("SELECT %s FROM inventory.units WHERE id = %%s" % column, unit)

    def test_R2_counters_of_three_devices_and_psql_add_up_exactly(self):
        unit, devices = self.some(3, floor=100, size_sqm="10.25")
        for i, d in enumerate(devices):
            for _ in range(4):  # change-sets of their own, each made on the one before
                d.sql("UPDATE units SET floor = floor + ? WHERE id = ?", i + 1, unit)
            d.sql("UPDATE units SET size_sqm = ? WHERE id = ?", ("10.35", "9.26", "1010.25")[i], unit)
        self.site.sql("UPDATE inventory.units SET floor = floor - 50, size_sqm = size_sqm + 0.5 WHERE id = %s", unit)
        self.start(*devices)
        self.assertEqual(self.hub_unit(unit, "floor"), 100 + 4 * (1 + 2 + 3) - 50)
        self.assertEqual(str(self.hub_unit(unit, "size_sqm")), "1009.86")  # 10.25 + 0.10 - 0.99 + 1000.00 + 0.50
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.conflict WHERE key = %s", unit), 0)
        self.assertEqual({v for v, in self.site.sql("SELECT verdict FROM ferry.settled WHERE tenant_id = %s", self.tenant)},
                         {"accepted"})
        self.assert_same()

    def test_R2_a_pending_difference_is_laid_over_what_the_hub_says_now(self):
        unit, (a, b) = self.some(2, floor=10)
        self.hub.stop()
        a.start()
        a.sql("UPDATE units SET floor = 13 WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET floor = 20 WHERE id = %s", unit)
        a.stop()
        self.hub.start()
        # A row that somebody holds makes the hub's state come before the verdict.
        conn = self.db.connect()
        try:
            conn.cursor().execute("SELECT FROM inventory.units WHERE id = %s FOR UPDATE", (unit,))
            a.start()
            wait_until(lambda: a.value("SELECT floor FROM units WHERE id = ?", unit) == 23, 30, "3 more than the hub's 20")
            a.sql("UPDATE units SET floor = floor * 2 WHERE id = ?", unit)  # 23 more, as its author sees it
        finally:
            conn.rollback()
            conn.close()
        self.settle(a)
        self.assertEqual(self.hub_unit(unit, "floor"), 46)
        self.start(b)
        self.assert_same()

    def test_counter_beyond_its_type_is_refused_and_undone(self):
        unit, (a, b) = self.some(2, floor=10)
        a.sql("UPDATE units SET floor = 2147483000 WHERE id = ?", unit)
        b.sql("UPDATE units SET floor = 2147483000 WHERE id = ?", unit)
        self.start(a, b)
        self.assertEqual(self.hub_unit(unit, "floor"), 2147483000)
        self.assertEqual([r[0] for r in b.sql("SELECT name FROM ferry_rejected")], ["BAD_VALUE"])
        self.assertEqual(b.value("SELECT floor FROM units WHERE id = ?", unit), 2147483000)
        self.assert_same()

    def test_max_keeps_the_greater_of_concurrent_edits_and_a_seen_one_may_lower_it(self):
        unit, (a, b) = self.some(2, bedrooms=1)
        a.sql("UPDATE units SET bedrooms = 5 WHERE id = ?", unit)
        b.sql("UPDATE units SET bedrooms = 3 WHERE id = ?", unit)  # later, and less
        self.start(a, b)
        self.assertEqual(self.hub_unit(unit, "bedrooms"), 5)
        self.assertEqual(b.sql("SELECT winner, device_value, hub_value FROM ferry_conflict"), [("hub", 3, 5)])
        a.sql("UPDATE units SET bedrooms = 2 WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.hub_unit(unit, "bedrooms"), 2)
        self.assert_same()

    def test_double_reservation_the_second_is_told_who_has_it_and_keeps_the_attempt(self):
        unit, (a, b) = self.some(2, status="available", bathrooms=1)
        a.sql("UPDATE units SET status = 'reserved' WHERE id = ?", unit)
        b.sql("UPDATE units SET status = 'reserved', bathrooms = 2 WHERE id = ?", unit)
        self.start(a)
        anna = self.site.value("INSERT INTO identity.users (tenant_id, email, display_name) VALUES (%s, 'anna@example.com', "
                               "'Anna Berg') RETURNING id", self.tenant)
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id) SELECT tenant_id, %s, id "
                      "FROM identity.roles WHERE tenant_id = %s AND code = 'device'", anna, self.tenant)
        self.site.sql("UPDATE ferry.device SET name = 'tablet 7', user_id = %s WHERE id = %s", anna, a.id)
        self.start(b)
        self.assertEqual(a.sql("SELECT * FROM ferry_rejected"), [])
        (name, sentence, values), = b.sql('SELECT name, sentence, "values" FROM ferry_rejected')
        self.assertEqual(name, "GUARD")
        self.assertIn("reserved since 20", sentence)
        self.assertIn(", set by Anna Berg's tablet 7; ", sentence)
        self.assertEqual(json.loads(values), {"status": "reserved", "bathrooms": 2})
        self.assertEqual(self.site.sql("SELECT device_id::text FROM ferry.rejected WHERE tenant_id = %s", self.tenant), [(b.id,)])
        self.assertEqual(b.row("units", unit)["bathrooms"], 1)
        self.assert_same()
        # What the guard allows goes on from there.
        b.sql("UPDATE units SET status = 'sold' WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.hub_unit(unit, "status"), "sold")
        self.assert_same()

    def test_guard_refuses_a_transition_that_its_map_has_not_and_undoes_it(self):
        unit, (a, b) = self.some(2, status="available")
        a.sql("UPDATE units SET status = 'sold' WHERE id = ?", unit)
        self.start(a, b)
        self.assertEqual(a.sql("SELECT name, sentence FROM ferry_rejected"), [("GUARD", "units.status cannot go from available to sold")])
        self.assertEqual(a.row("units", unit)["status"], "available")
        self.assert_same()

    def test_column_of_the_hub_is_refused_by_sqlite_and_an_edit_from_before_is_kept(self):
        unit, (a, b) = self.some(2, view="sea")
        a.sql("UPDATE units SET view = 'garden', code = 'Z-1' WHERE id = ?", unit)
        self.site.sql("SELECT ferry.policy('inventory.units', 'view', 'hub')")
        self.addCleanup(self.site.sql, "SELECT ferry.policy('inventory.units', 'view', 'text')")
        self.start(a, b)
        (name, values), = a.sql('SELECT name, "values" FROM ferry_rejected')
        self.assertEqual((name, json.loads(values)), ("UNKNOWN_COLUMN", {"code": "Z-1", "view": "garden"}))
        self.assertEqual(self.hub_unit(unit, "view"), "sea")
        for statement in ("UPDATE units SET view = 'pool'",
                          "INSERT INTO units (project_id, code, unit_type_code, view) SELECT project_id, 'N-1', unit_type_code, 'pool' FROM units"):
            with self.assertRaisesRegex(sqlite3.IntegrityError, 'units.*view.*read-only on devices'):
                a.sql(statement)
        a.sql("UPDATE units SET view = view, code = 'Z-2' WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET view = 'hill' WHERE id = %s", unit)
        self.settle(a, b)
        self.assertEqual((self.hub_unit(unit, "code"), b.row("units", unit)["view"]), ("Z-2", "hill"))
        self.assert_same()

    def test_R2_a_chain_of_guarded_steps_offline_passes_as_its_author_saw_it(self):
        unit, (a, b) = self.some(2, status="available")
        for status in ("reserved", "available", "reserved", "sold"):
            a.sql("UPDATE units SET status = ? WHERE id = ?", status, unit)
            a.run("sync", "--wait", "1")  # a look, without a hub to reach or with one: each is a change-set
        self.start(a, b)
        self.assertEqual(self.hub_unit(unit, "status"), "sold")
        self.assertEqual(a.sql("SELECT * FROM ferry_rejected"), [])
        self.assert_same()

    def test_R2_notes_of_two_devices_are_merged_and_a_word_both_changed_is_kept(self):
        unit, (a, b) = self.some(2, view="sea side\nquiet")
        a.sql("UPDATE units SET view = ? WHERE id = ?", "lake side\nquiet", unit)
        b.sql("UPDATE units SET view = ? WHERE id = ?", "park side\nquiet at night", unit)  # later
        self.start(a, b)
        self.assertEqual(self.hub_unit(unit, "view"), "park side\nquiet at night")
        self.assertEqual(b.sql("SELECT winner, device_value, hub_value FROM ferry_conflict"),
                         [("device", "park side\nquiet at night", "lake side\nquiet")])
        self.assert_same()

    def test_the_models_own_policies_merge_tags_and_hold_activities_to_their_states(self):
        key = str(self.site.value("INSERT INTO crm.contacts (tenant_id, full_name, tags) VALUES (%s, 'C', '{buyer,cairo}') RETURNING id",
                                  self.tenant))
        task = str(self.site.value("INSERT INTO crm.activities (tenant_id, type_code, status, description) "
                                   "VALUES (%s, 'task', 'open', 'call him\nthen write') RETURNING id", self.tenant))
        a, b = self.device("a", scopes=["tenant"]), self.device("b", scopes=["tenant"])
        self.settle()
        a.stop()
        b.stop()
        a.sql("UPDATE contacts SET tags = '[\"buyer\",\"vip\"]' WHERE id = ?", key)
        b.sql("UPDATE contacts SET tags = '[\"buyer\",\"cairo\",\"cash\"]' WHERE id = ?", key)
        a.sql("UPDATE activities SET description = 'call her\nthen write' WHERE id = ?", task)
        b.sql("UPDATE activities SET description = 'call him\nthen visit' WHERE id = ?", task)
        a.sql("UPDATE activities SET status = 'done' WHERE id = ?", task)
        b.sql("UPDATE activities SET status = 'cancelled' WHERE id = ?", task)
        self.start(a, b)
        self.assertEqual(self.site.value("SELECT tags FROM crm.contacts WHERE id = %s", key), ["buyer", "vip", "cash"])
        self.assertEqual(self.site.sql("SELECT description, status FROM crm.activities WHERE id = %s", task),
                         [("call her\nthen visit", "done")])
        self.assertEqual(b.sql("SELECT DISTINCT name FROM ferry_rejected"), [("GUARD",)])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.conflict WHERE tenant_id = %s", self.tenant), 0)
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
