#!/usr/bin/python3
# ferry-test: quick
"""Rows that change their scopes under devices: with a parent that moves, with teams that people join and leave."""

import unittest

import ferry_run
from ferry_run import wait_until


class ScopeMoves(ferry_run.SiteCase):

    # ---- words

    def setUp(self):
        super().setUp()
        self.second = self.new_project(name="Lake")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("CREATE TABLE public.team_notes (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), "
                     "team_id uuid, note text, PRIMARY KEY (tenant_id, id))")
        cls.site.sql("SELECT ferry.isolate('public.team_notes')")
        cls.site.sql("SELECT ferry.track('public.team_notes', 'team:team_id')")

    def component(self, unit):
        return str(self.site.value("INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code) "
                                   "VALUES (%s, %s, 'KITCHEN_STD') RETURNING id", self.tenant, unit))

    def user(self, name):
        user = str(self.site.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id",
                                   self.tenant, name + "@example.com"))
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id) "
                      "SELECT tenant_id, %s, id FROM identity.roles WHERE tenant_id = %s AND code = 'admin'", user, self.tenant)
        return user

    def team(self, *users):
        team = str(self.site.value("INSERT INTO identity.groups (tenant_id, name) VALUES (%s, 'North') RETURNING id", self.tenant))
        for user in users:
            self.join(team, user)
        return team

    def join(self, team, user):
        self.site.sql("INSERT INTO identity.group_members (tenant_id, group_id, user_id) VALUES (%s, %s, %s)", self.tenant, team, user)

    def leave(self, team, user):
        self.site.sql("DELETE FROM identity.group_members WHERE group_id = %s AND user_id = %s", team, user)

    def note(self, team, text):
        return str(self.site.value("INSERT INTO public.team_notes (tenant_id, team_id, note) VALUES (%s, %s, %s) RETURNING id",
                                   self.tenant, team, text))

    def wait_rows(self, device, table, keys):
        wait_until(lambda: {r[0] for r in device.sql("SELECT id FROM %s" % table)} == set(keys), 30,
                   "%s of %s: %s" % (table, device.label, keys))

    # ---- tests

    def test_R13_children_leave_and_arrive_with_the_parent_that_moves(self):
        unit, stays = self.new_unit("A-1"), self.new_unit("A-2")
        moved, other = self.component(unit), self.component(stays)
        loses, gains = self.device("loses"), self.device("gains", scopes=["project:" + self.second])
        self.settle()
        self.wait_rows(loses, "unit_components", [moved, other])
        self.wait_rows(gains, "unit_components", [])
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", self.second, unit)
        self.wait_rows(gains, "unit_components", [moved])
        self.wait_rows(loses, "unit_components", [other])
        self.settle()
        self.assert_same()
        self.assertEqual(loses.value("SELECT last_number FROM ferry_state"), 0)  # leaving is no edit

    def test_unsent_edit_of_a_child_whose_parent_moved_away_is_kept(self):
        unit = self.new_unit("A-1")
        part = self.component(unit)
        a = self.device("a")
        self.settle()
        a.stop()
        a.sql("UPDATE unit_components SET name = 'mine' WHERE id = ?", part)
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", self.second, unit)
        a.start()
        self.settle()
        self.wait_rows(a, "unit_components", [])
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("OUT_OF_SCOPE", part)])
        self.assertIn("mine", a.value('SELECT "values" FROM ferry_rejected'))
        self.assertIsNone(self.site.value("SELECT name FROM inventory.unit_components WHERE id = %s", part))
        self.assert_same()

    def test_unit_moved_by_one_device_takes_its_components_to_the_other(self):
        unit = self.new_unit("A-1")
        part = self.component(unit)
        both = self.device("both", scopes=["project:" + self.project, "project:" + self.second])
        gains = self.device("gains", scopes=["project:" + self.second])
        self.settle()
        both.sql("UPDATE units SET project_id = ? WHERE id = ?", self.second, unit)
        self.wait_rows(gains, "unit_components", [part])
        self.settle()
        self.wait_rows(both, "unit_components", [part])
        self.assert_same()

    def test_rows_of_a_team_come_and_go_with_the_membership_and_edits_are_not_lost(self):
        amina, omar = self.user("amina"), self.user("omar")
        team = self.team(amina)
        note, elsewhere = self.note(team, "x"), self.note(self.team(), "y")
        a = self.device("a", user="amina@example.com")
        b = self.device("b", user="omar@example.com")
        self.settle()
        self.wait_rows(a, "team_notes", [note])
        self.wait_rows(b, "team_notes", [])
        self.join(team, omar)
        self.wait_rows(b, "team_notes", [note])
        b.sql("UPDATE team_notes SET note = 'of b' WHERE id = ?", note)
        self.settle()
        self.assertEqual(a.value("SELECT note FROM team_notes"), "of b")
        a.stop()
        a.sql("UPDATE team_notes SET note = 'too late' WHERE id = ?", note)
        self.leave(team, amina)
        a.start()
        self.settle()
        self.wait_rows(a, "team_notes", [])
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("OUT_OF_SCOPE", note)])
        self.assertEqual(b.value("SELECT note FROM team_notes"), "of b")
        self.assert_same()
        self.assertNotEqual(note, elsewhere)


if __name__ == "__main__":
    unittest.main()
