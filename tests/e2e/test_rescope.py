#!/usr/bin/python3
"""A tracked table gets another scope while devices hold its rows, and unsent edits of them."""

import unittest
import uuid

from ferry_schema import SchemaCase


class Rescope(SchemaCase):
    """Rows of the first project and of another one, at first in the scope of the whole tenant."""

    COLUMNS = "name text, qty int DEFAULT 0, grade text, note text, project_id uuid"

    def setUp(self):
        super().setUp()
        self.other = self.new_project(name="Other")
        self.there("UPDATE {t} SET project_id = CASE WHEN qty <= 5 THEN %s ELSE %s END::uuid", self.project, self.other)
        self.b = self.device("b")  # holds the first project and the tenant
        self.settle()

    def rescope(self, scope):
        self.hub_sql("SELECT ferry.rescope('crm.{t}', '%s')" % scope)

    def names(self, device):
        return sorted(name for (name,) in device.sql("SELECT name FROM %s" % self.table))

    def test_rows_leave_devices_that_have_no_right_to_their_new_scope_and_come_back_with_the_old_one(self):
        self.assertEqual(len(self.names(self.b)), 10)
        with self.away():
            self.rescope("project:project_id")
        self.assertEqual((self.names(self.a), self.names(self.b)), ([], ["n1", "n2", "n3", "n4", "n5"]))
        self.assert_same()
        with self.away():
            self.rescope("tenant")
        self.assertEqual((len(self.names(self.a)), len(self.names(self.b))), (10, 10))
        self.assert_same()

    def test_P5_unsent_edits_arrive_where_the_scope_stays_and_are_kept_where_it_went(self):
        self.b.stop()
        with self.away():
            self.b.sql("UPDATE %s SET note = 'mine' WHERE qty = 3" % self.table)
            self.here("UPDATE {t} SET note = 'no more' WHERE qty = 7")
            self.rescope("project:project_id")
            self.b.start()
        self.assertEqual(self.there("SELECT note FROM {t} WHERE qty = 3"), [("mine",)])
        self.assertEqual(self.there("SELECT note FROM {t} WHERE qty = 7"), [(None,)])
        self.assertEqual([name for (name,) in self.a.sql("SELECT name FROM ferry_rejected")], ["OUT_OF_SCOPE"])
        (body,), = self.site.sql("SELECT body FROM ferry.rejected WHERE device_id = %s", self.a.id)
        self.assertIn(b"no more", bytes(body))
        self.assert_same()

    def test_rows_written_afterwards_follow_the_new_scope_alone(self):
        self.rescope("project:project_id")
        key = str(uuid.uuid4())
        self.there("INSERT INTO {t} (tenant_id, id, name, project_id) VALUES (%s, %s, 'new', %s)", self.tenant, key, self.other)
        self.settle()
        self.assertNotIn("new", self.names(self.b))
        self.there("UPDATE {t} SET project_id = %s WHERE id = %s", self.project, key)
        self.settle()
        self.assertIn("new", self.names(self.b))
        self.assert_same()

    def test_scope_over_a_parent_is_followed_and_given_up(self):
        unit = self.new_unit()
        self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN unit_id uuid; ALTER TABLE crm.{t} ADD FOREIGN KEY (tenant_id, unit_id) "
                     "REFERENCES inventory.units (tenant_id, id); UPDATE crm.{t} SET unit_id = '%s' WHERE qty = 1; "
                     "SELECT ferry.rescope('crm.{t}', 'project:unit_id.project_id')" % unit)
        self.settle()
        self.assertIn("n1", self.names(self.b))
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", self.other, unit)
        self.settle()
        self.assertNotIn("n1", self.names(self.b))
        self.rescope("project:project_id")
        self.settle()
        self.assertEqual(self.names(self.b), ["n1", "n2", "n3", "n4", "n5"])
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", self.project, unit)  # says nothing any more
        self.settle()
        self.assert_same()

    def test_scope_that_is_none_or_needs_another_column_is_refused_and_nothing_changes(self):
        for scope in ("project:nothing", "what?", "global"):
            with self.subTest(scope), self.assertRaisesRegex(Exception, "scope"):
                self.rescope(scope)
        self.settle()
        self.assertEqual(len(self.names(self.b)), 10)
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
