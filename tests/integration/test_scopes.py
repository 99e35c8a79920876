#!/usr/bin/python3
"""Scopes: what a row belongs to, and what happens when that changes."""

import threading
import unittest

import ferry_pg
from ferry_case import NOBODY, HubCase, run


class Scopes(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        # Scopes by themselves; test_permissions has what permissions make of them.
        self.sql("SELECT ferry.permit(t.relid, 'read', NULL) FROM ferry.tracked t WHERE t.nsp = 'inventory' AND t.read_permission <> ''")
        self.p, self.q = self.project(self.t, "Palm"), self.project(self.t, "Lake")

    def component(self, unit):
        return self.value("INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code) "
                          "VALUES (%s, %s, 'KITCHEN_STD') RETURNING id", self.t, unit)

    def scope(self, table, key):
        return self.version(table, key)["scope"]

    def test_child_has_the_scope_of_its_parent_s_column(self):
        unit = self.unit(self.t, self.p)
        self.assertEqual(self.scope("unit_components", self.component(unit)), "project:%s" % self.p)

    def test_column_that_is_null_means_tenant(self):
        overlay = self.value("INSERT INTO inventory.map_overlays (tenant_id, name) VALUES (%s, 'x') RETURNING id", self.t)
        shape = self.value("INSERT INTO inventory.map_shapes (tenant_id, overlay_id, kind, geom_geojson) "
                           "VALUES (%s, %s, 'unit', '{}') RETURNING id", self.t, overlay)
        self.assertEqual(self.scope("map_overlays", overlay), "tenant")
        self.assertEqual(self.scope("map_shapes", shape), "tenant")
        self.sql("UPDATE inventory.map_overlays SET project_id = %s", self.p)
        self.assertEqual(self.scope("map_shapes", shape), "project:%s" % self.p)
        self.assert_sound()

    def test_user_scope_names_the_user(self):
        user = self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'a@b.c') RETURNING id", self.t)
        note = self.value("INSERT INTO comms.notifications_inbox (tenant_id, user_id, category, title) "
                          "VALUES (%s, %s, 'tasks', 'x') RETURNING id", self.t, user)
        self.assertEqual(self.scope("notifications_inbox", note), "user:%s" % user)

    def test_global_means_rows_of_the_reserved_tenant(self):
        own = self.value("INSERT INTO inventory.unit_type_codes (tenant_id, code, label) VALUES (%s, 'OWN', 'x') RETURNING id", self.t)
        self.assertEqual(self.scope("unit_type_codes", own), "tenant")
        shared = self.value("SELECT id FROM inventory.unit_type_codes WHERE tenant_id = %s LIMIT 1", NOBODY)
        self.assertEqual(self.scope("unit_type_codes", shared), "global")

    def test_move_shows_in_both_scopes_and_leaves_a_trace_in_the_old(self):
        unit = self.unit(self.t, self.p)
        low = self.head(self.t)
        self.sql("UPDATE inventory.units SET project_id = %s", self.q)
        v = self.version("units", unit)
        self.assertEqual((v["scope"], v["moved"]), ("project:%s" % self.q, v["tx"]))
        self.assertEqual(self.changed(self.t, low),
                         {("units", "project:%s" % self.p): {unit}, ("units", "project:%s" % self.q): {unit}})
        conn = self.conn(tenant=self.t)
        self.assertEqual(run(conn, "SELECT scope, keys FROM ferry.left_since(%s, %s, %s)", self.t, low, 2**62),
                         [("project:%s" % self.p, [unit])])
        self.assert_sound()

    def test_row_that_comes_back_has_not_left(self):
        self.unit(self.t, self.p)
        self.sql("UPDATE inventory.units SET project_id = %s", self.q)
        self.sql("UPDATE inventory.units SET project_id = %s", self.p)
        self.assertEqual(self.sql("SELECT scope FROM ferry.left"), [("project:%s" % self.q,)])
        self.assert_sound()

    def test_reborn_elsewhere_leaves_the_scope_it_died_in(self):
        unit = self.unit(self.t, self.p)
        self.sql("DELETE FROM inventory.units")
        self.sql("INSERT INTO inventory.units (tenant_id, id, project_id, unit_type_code) VALUES (%s, %s, %s, 'X')",
                 self.t, unit, self.q)
        self.assertEqual(self.sql("SELECT scope FROM ferry.left"), [("project:%s" % self.p,)])
        self.assert_sound()

    def test_children_follow_a_parent_in_the_same_transaction(self):
        unit, stays = self.unit(self.t, self.p), self.unit(self.t, self.p, "A-2")
        child, other = self.component(unit), self.component(stays)
        before = self.version("unit_components", child)
        self.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", self.q, unit)
        v = self.version("unit_components", child)
        self.assertEqual(v["scope"], "project:%s" % self.q)
        self.assertEqual(v["tx"], self.version("units", unit)["tx"])
        self.assertEqual((v["over"], v["hashes"]), (before["over"], before["hashes"]))
        self.assertEqual(self.scope("unit_components", other), "project:%s" % self.p)
        self.assertEqual(self.sql("SELECT count(*) FROM ferry.left WHERE tbl = %s", self.tbl("unit_components")), [(1,)])
        self.assert_sound()

    def test_many_parents_move_with_all_their_children(self):
        self.units(self.t, self.p, 150)
        self.sql("INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code) "
                 "SELECT tenant_id, id, 'KITCHEN_STD' FROM inventory.units CROSS JOIN generate_series(1, 3)")
        self.sql("UPDATE inventory.units SET project_id = %s WHERE price_minor <= 100", self.q)
        self.assertEqual(dict(self.sql("SELECT scope, count(*) FROM ferry.version WHERE tbl = %s GROUP BY 1", self.tbl("unit_components"))),
                         {"project:%s" % self.p: 150, "project:%s" % self.q: 300})
        self.assertEqual(self.value("SELECT count(*) FROM ferry.left"), 400)
        self.assert_sound()

    def test_path_over_two_tables_follows_a_move_in_the_middle(self):
        self.sql("CREATE TABLE public.marks (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), component_id uuid, "
                 "PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, component_id) REFERENCES inventory.unit_components)")
        self.sql("SELECT ferry.track('public.marks', 'project:component_id.unit_id.project_id')")
        a, b = self.unit(self.t, self.p), self.unit(self.t, self.q, "B")
        part = self.component(a)
        mark = self.value("INSERT INTO public.marks (tenant_id, component_id) VALUES (%s, %s) RETURNING id", self.t, part)
        self.assertEqual(self.scope("marks", mark), "project:%s" % self.p)
        self.sql("UPDATE inventory.unit_components SET unit_id = %s", b)
        self.assertEqual(self.scope("marks", mark), "project:%s" % self.q)
        self.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", self.p, b)
        self.assertEqual(self.scope("marks", mark), "project:%s" % self.p)
        self.assert_sound()

    def test_R13_child_inserted_while_its_parent_moves_does_not_stay_behind(self):
        unit = self.unit(self.t, self.p)
        mover, adder = self.conn(), self.conn()
        run(mover, "UPDATE inventory.units SET project_id = %s", self.q)
        run(adder, "INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code) VALUES (%s, %s, 'X')",
            self.t, unit)
        thread = threading.Thread(target=adder.commit)
        thread.start()
        ferry_pg.wait_blocked(self.db, adder.get_backend_pid())
        mover.commit()
        thread.join()
        self.assertEqual(self.sql("SELECT DISTINCT scope FROM ferry.version WHERE tbl = %s", self.tbl("unit_components")),
                         [("project:%s" % self.q,)])
        self.assert_sound()

    def test_R13_many_children_inserted_while_their_parent_moves_do_not_stay_behind(self):
        unit = self.unit(self.t, self.p)
        mover, adder = self.conn(), self.conn()
        run(mover, "UPDATE inventory.units SET project_id = %s", self.q)
        run(adder, "INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code) "
                   "SELECT %s, %s, 'X' FROM generate_series(1, 100)", self.t, unit)
        thread = threading.Thread(target=adder.commit)
        thread.start()
        ferry_pg.wait_blocked(self.db, adder.get_backend_pid())
        mover.commit()
        thread.join()
        self.assertEqual(self.sql("SELECT DISTINCT scope FROM ferry.version WHERE tbl = %s", self.tbl("unit_components")),
                         [("project:%s" % self.q,)])
        self.assert_sound()

    def test_R13_child_written_while_its_parent_moves_keeps_both_changes(self):
        unit = self.unit(self.t, self.p)
        child = self.component(unit)
        writer, mover = self.conn(), self.conn()
        run(writer, "UPDATE inventory.unit_components SET name = 'new'")
        run(mover, "UPDATE inventory.units SET project_id = %s", self.q)
        thread = threading.Thread(target=mover.commit)
        thread.start()
        ferry_pg.wait_blocked(self.db, mover.get_backend_pid())
        writer.commit()
        thread.join()
        v = self.version("unit_components", child)
        self.assertEqual(v["scope"], "project:%s" % self.q)
        self.assertIn("name", v["over"])
        self.assert_sound()

    def test_R13_move_with_children_is_refused_in_repeatable_read(self):
        unit = self.unit(self.t, self.p)
        self.component(unit)
        conn = self.conn()
        conn.set_session(isolation_level="REPEATABLE READ")
        error = self.refused("0A000", "UPDATE inventory.units SET project_id = %s", self.q, conn=conn)
        self.assertIn("READ COMMITTED", error.diag.message_hint)


if __name__ == "__main__":
    unittest.main()
