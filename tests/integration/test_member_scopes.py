#!/usr/bin/python3
"""Scopes that follow from teams and roles, and scopes over foreign keys whose parents come late or go."""

import unittest
import uuid

from ferry_case import HubCase, run


class Case(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()

    def table(self, name, columns, scope):
        self.sql("CREATE TABLE public.%s (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), %s, PRIMARY KEY (tenant_id, id))"
                 % (name, columns))
        self.sql("SELECT ferry.isolate('public.%s')" % name)
        self.sql("SELECT ferry.track('public.%s', '%s')" % (name, scope))

    def add(self, name, **columns):
        columns = dict({"tenant_id": self.t}, **columns)
        return self.value("INSERT INTO public.%s (%s) VALUES (%s) RETURNING id" % (
            name, ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values())

    def scope(self, table, key):
        return self.version(table, key)["scope"]


class Members(Case):
    def setUp(self):
        super().setUp()
        self.table("notes", "team_id uuid, note text", "team:team_id")
        self.table("orders_of_the_day", "role_id uuid, note text", "role:role_id")

    def user(self, email):
        return self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id", self.t, email)

    def team(self, name, *users):
        team = self.value("INSERT INTO identity.groups (tenant_id, name) VALUES (%s, %s) RETURNING id", self.t, name)
        for user in users:
            self.join(team, user)
        return team

    def join(self, team, user):
        self.sql("INSERT INTO identity.group_members (tenant_id, group_id, user_id) VALUES (%s, %s, %s)", self.t, team, user)

    def role(self, code, parent=None):
        return self.value("INSERT INTO identity.roles (tenant_id, code, name, parent_role_id) VALUES (%s, %s, %s, %s) RETURNING id",
                          self.t, code, code, parent)

    def assign(self, user, role, project=None):
        self.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind, project_id) VALUES (%s, %s, %s, %s, %s)",
                 self.t, user, role, "PROJECT" if project else "TENANT", project)

    def device(self, user=None):
        device = str(uuid.uuid4())
        self.sql("INSERT INTO ferry.device (id, tenant_id, name, user_id, class, fingerprint) VALUES (%s, %s, 'd', %s, 'tablet', "
                 "sha256(%s))", device, self.t, user, device.encode())
        self.sql("INSERT INTO ferry.device_scope (device_id, scope) SELECT %s, unnest('{tenant,global}'::text[])", device)
        return device

    def held(self, device, word):
        return {r[0] for r in self.sql("SELECT scope FROM ferry.held_scope WHERE device_id = %s AND reads AND scope LIKE %s",
                                       device, word + ":%")}

    def test_row_is_in_the_scope_of_its_team_or_role(self):
        team, role = self.team("North"), self.role("guide")
        self.assertEqual(self.scope("notes", self.add("notes", team_id=team)), "team:%s" % team)
        self.assertEqual(self.scope("orders_of_the_day", self.add("orders_of_the_day", role_id=role)), "role:%s" % role)
        self.assertEqual(self.scope("notes", self.add("notes")), "tenant")
        self.assert_sound()

    def test_member_of_a_team_holds_its_scope_as_long_as_he_is_one(self):
        amina, omar = self.user("a@x.y"), self.user("o@x.y")
        a, b, nobody = self.device(amina), self.device(omar), self.device()
        north, south = self.team("North", amina), self.team("South", amina, omar)
        self.assertEqual(self.held(a, "team"), {"team:%s" % north, "team:%s" % south})
        self.assertEqual(self.held(b, "team"), {"team:%s" % south})
        self.assertEqual(self.held(nobody, "team"), set())
        self.sql("DELETE FROM identity.group_members WHERE group_id = %s AND user_id = %s", south, amina)
        self.assertEqual(self.held(a, "team"), {"team:%s" % north})
        self.sql("UPDATE identity.group_members SET user_id = %s WHERE group_id = %s", omar, north)
        self.assertEqual((self.held(a, "team"), self.held(b, "team")), (set(), {"team:%s" % north, "team:%s" % south}))
        self.sql("DELETE FROM identity.groups WHERE id = %s", south)
        self.assertEqual(self.held(b, "team"), {"team:%s" % north})

    def test_suspended_user_holds_no_scope_of_his_team(self):
        amina = self.user("a@x.y")
        team, a = self.team("North", amina), self.device(amina)
        self.sql("UPDATE identity.users SET status = 'suspended' WHERE id = %s", amina)
        self.assertEqual(self.held(a, "team"), set())
        self.sql("UPDATE identity.users SET status = 'active' WHERE id = %s", amina)
        self.assertEqual(self.held(a, "team"), {"team:%s" % team})

    def test_role_s_scope_is_held_with_the_role_or_one_that_inherits_it_but_not_for_a_project_alone(self):
        guide = self.role("guide")
        chief = self.role("chief", parent=guide)
        amina, omar, lina = self.user("a@x.y"), self.user("o@x.y"), self.user("l@x.y")
        a, b, c = self.device(amina), self.device(omar), self.device(lina)
        self.assign(amina, chief)
        self.assign(omar, guide)
        self.assign(lina, guide, self.project(self.t))
        self.assertEqual(self.held(a, "role"), {"role:%s" % guide, "role:%s" % chief})
        self.assertEqual(self.held(b, "role"), {"role:%s" % guide})
        self.assertEqual(self.held(c, "role"), set())
        self.sql("DELETE FROM identity.role_assignments WHERE user_id = %s", omar)
        self.assertEqual(self.held(b, "role"), set())
        self.sql("UPDATE identity.roles SET parent_role_id = NULL WHERE id = %s", chief)
        self.assertEqual(self.held(a, "role"), {"role:%s" % chief})

    def test_table_that_asks_for_a_permission_as_well_needs_both(self):
        self.sql("SELECT ferry.permit('public.notes', 'read', 'notes.view')")
        amina = self.user("a@x.y")
        team, a = self.team("North", amina), self.device(amina)
        self.assertNotIn("team:%s/notes.view" % team, self.held(a, "team"))
        role = self.role("reader")
        self.sql("INSERT INTO identity.role_permissions (tenant_id, role_id, permission) VALUES (%s, %s, 'notes.view')", self.t, role)
        self.assign(amina, role)
        self.assertIn("team:%s/notes.view" % team, self.held(a, "team"))

    def test_only_devices_whose_teams_changed_are_told(self):
        amina, omar = self.user("a@x.y"), self.user("o@x.y")
        a, b = self.device(amina), self.device(omar)
        self.sql("DELETE FROM ferry.rescoped")
        self.team("North", amina)
        self.assertEqual([str(r[0]) for r in self.sql("SELECT device_id FROM ferry.rescoped")], [a])
        self.assertNotEqual(a, b)

    def test_roles_are_no_scopes_where_no_table_speaks_of_them(self):
        self.sql("SELECT ferry.untrack('public.orders_of_the_day')")
        amina = self.user("a@x.y")
        a = self.device(amina)
        self.sql("DELETE FROM ferry.rescoped")
        self.assign(amina, self.role("guide"))
        self.assertEqual(self.held(a, "role"), set())
        self.assertEqual(self.sql("SELECT device_id FROM ferry.rescoped"), [])


class Paths(Case):
    def setUp(self):
        super().setUp()
        self.p, self.q = self.project(self.t, "Palm"), self.project(self.t, "Lake")
        self.table("boxes", "project_id uuid", "project:project_id")
        self.table("things", "box_id uuid, FOREIGN KEY (tenant_id, box_id) REFERENCES public.boxes ON DELETE SET NULL (box_id) "
                             "DEFERRABLE INITIALLY DEFERRED", "project:box_id.project_id")

    def test_parent_that_comes_after_its_child_in_the_transaction_gives_it_its_scope(self):
        conn, box = self.conn(), str(uuid.uuid4())
        thing = run(conn, "INSERT INTO public.things (tenant_id, box_id) VALUES (%s, %s) RETURNING id", self.t, box)[0][0]
        run(conn, "INSERT INTO public.boxes (tenant_id, id, project_id) VALUES (%s, %s, %s)", self.t, box, self.p)
        conn.commit()
        self.assertEqual(self.scope("things", thing), "project:%s" % self.p)
        self.assert_sound()

    def test_child_of_a_deleted_parent_goes_where_rows_without_one_are(self):
        box = self.add("boxes", project_id=self.p)
        thing = self.add("things", box_id=box)
        self.sql("DELETE FROM public.boxes")
        self.assertEqual(self.scope("things", thing), "tenant")
        self.assertEqual(self.sql("SELECT tbl, scope FROM ferry.left"), [(self.tbl("things"), "project:%s" % self.p)])
        self.assert_sound()

    def test_parent_deleted_and_made_anew_elsewhere_takes_its_children_along(self):
        box = self.add("boxes", project_id=self.p)
        thing = self.add("things", box_id=box)
        conn = self.conn()
        run(conn, "ALTER TABLE public.things DROP CONSTRAINT things_tenant_id_box_id_fkey")
        run(conn, "ALTER TABLE public.things ADD CONSTRAINT things_box FOREIGN KEY (tenant_id, box_id) REFERENCES public.boxes "
                  "DEFERRABLE INITIALLY DEFERRED")
        conn.commit()
        run(conn, "DELETE FROM public.boxes")
        run(conn, "INSERT INTO public.boxes (tenant_id, id, project_id) VALUES (%s, %s, %s)", self.t, box, self.q)
        conn.commit()
        self.assertEqual(self.scope("things", thing), "project:%s" % self.q)
        self.assert_sound()

    def test_parent_whose_own_column_becomes_null_takes_its_children_to_the_tenant(self):
        box = self.add("boxes", project_id=self.p)
        thing = self.add("things", box_id=box)
        self.sql("UPDATE public.boxes SET project_id = NULL")
        self.assertEqual(self.scope("things", thing), "tenant")
        self.sql("UPDATE public.boxes SET project_id = %s", self.q)
        self.assertEqual(self.scope("things", thing), "project:%s" % self.q)
        self.assert_sound()

    def test_path_through_its_own_table_follows_the_parent(self):
        self.table("folders", "parent_id uuid, project_id uuid, FOREIGN KEY (tenant_id, parent_id) REFERENCES public.folders",
                   "project:parent_id.project_id")
        top = self.add("folders", project_id=self.p)
        below = self.add("folders", parent_id=top)
        self.assertEqual(self.scope("folders", below), "project:%s" % self.p)
        self.sql("UPDATE public.folders SET project_id = %s WHERE id = %s", self.q, top)
        self.assertEqual(self.scope("folders", below), "project:%s" % self.q)
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
