#!/usr/bin/python3
"""A column changes its type while devices with unsent work are away: by a cast, or by a declared function."""

import json
import unittest
import uuid

from ferry_schema import SchemaCase


class TypeChange(SchemaCase):

    def setUp(self):
        super().setUp()
        self.hub_sql("CREATE FUNCTION crm.{t}_floor(v text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN "
                     "IF v = 'ground' THEN RETURN 0; ELSIF v !~ '^n[0-9]+$' THEN RAISE EXCEPTION 'there is no floor %', v; END IF; "
                     "RETURN substr(v, 2)::int; END $$; "
                     "CREATE FUNCTION crm.{t}_day(v int) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT date '2026-01-01' + v $$")

    def change_to_floor(self):
        self.hub_sql("SELECT ferry.change_type('crm.{t}', 'name', 'int', 'crm.{t}_floor')")

    def test_late_values_go_through_the_declared_function_and_meet_nothing(self):
        new = str(uuid.uuid4())
        with self.away():
            self.here("UPDATE {t} SET name = 'ground', note = 'too' WHERE id = ?", self.keys[0])
            self.here("INSERT INTO {t} (id, name, qty) VALUES (?, 'n44', 99)", new)
            self.here("UPDATE {t} SET name = NULL WHERE id = ?", self.keys[1])
            self.change_to_floor()
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected") + self.a.sql("SELECT * FROM ferry_conflict"), [])
        self.assertEqual(self.there("SELECT name, note FROM {t} WHERE id = %s", self.keys[0]), [(0, "too")])
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = ANY (%s::uuid[]) ORDER BY qty", [new, self.keys[1]]), [(None,), (44,)])
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = %s", self.keys[4]), [(5,)])
        self.assert_same()
        self.here("UPDATE {t} SET name = 7 WHERE id = ?", self.keys[2])  # under the new type nothing is converted
        self.settle()
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = %s", self.keys[2]), [(7,)])
        self.assert_same()

    def test_P5_value_that_the_function_refuses_is_kept_with_its_sentence_and_values(self):
        with self.away():
            self.here("UPDATE {t} SET name = 'attic', note = 'also' WHERE id = ?", self.keys[0])
            self.here("UPDATE {t} SET name = 'n3' WHERE id = ?", self.keys[1])
            self.change_to_floor()
        (name, sentence, values), = self.a.sql('SELECT name, sentence, "values" FROM ferry_rejected')
        self.assertEqual((name, json.loads(values)), ("BAD_VALUE", {"name": "attic", "note": "also"}))
        self.assertIn("there is no floor attic", sentence)
        (body,), = self.site.sql("SELECT body FROM ferry.rejected WHERE device_id = %s", self.a.id)
        self.assertIn(b"attic", bytes(body))
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = ANY (%s::uuid[]) ORDER BY qty", self.keys[:2]), [(1,), (3,)])
        self.assert_same()
        # A function that takes it, too, and once more.
        self.hub_sql("CREATE OR REPLACE FUNCTION crm.{t}_floor(v text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ "
                     "SELECT CASE v WHEN 'attic' THEN 12 ELSE substr(v, 2)::int END $$")
        (waiting,) = self.hub.json("rejected", "list", "--tenant", self.tenant)
        self.assertEqual(self.hub.json("rejected", "requeue", waiting["id"])["verdict"], "accepted")
        self.assertEqual(self.there("SELECT name, note FROM {t} WHERE id = %s", self.keys[0]), [(12, "also")])
        self.settle()
        self.assert_same()

    def test_value_goes_through_all_changes_of_type_since_its_own(self):
        with self.away():
            self.here("UPDATE {t} SET name = 'n40' WHERE id = ?", self.keys[0])
            self.change_to_floor()
            self.hub_sql("SELECT ferry.change_type('crm.{t}', 'name', 'date', 'crm.{t}_day')")
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(str(self.there("SELECT name FROM {t} WHERE id = %s", self.keys[0])[0][0]), "2026-02-10")
        self.assert_same()

    def test_function_and_rename_work_together(self):
        with self.away():
            self.here("UPDATE {t} SET name = 'n40' WHERE id = ?", self.keys[0])
            self.change_to_floor()
            self.hub_sql("ALTER TABLE crm.{t} RENAME COLUMN name TO floor")
        self.assertEqual(self.there("SELECT floor FROM {t} WHERE id = %s", self.keys[0]), [(40,)])
        self.assert_same()

    def test_edit_of_another_device_is_still_met_and_one_at_the_hub_too(self):
        b = self.device("b", scopes=[])
        self.settle()
        with self.away():
            self.here("UPDATE {t} SET qty = 77 WHERE id = ?", self.keys[0])
            self.here("UPDATE {t} SET qty = 78 WHERE id = ?", self.keys[1])
            self.here("UPDATE {t} SET qty = 79 WHERE id = ?", self.keys[2])
            b.sql("UPDATE %s SET qty = 500 WHERE id = ?" % self.table, self.keys[0])
            self.settle(b)
            self.hub_sql("UPDATE crm.{t} SET qty = 600 WHERE qty = 2; ALTER TABLE crm.{t} ALTER COLUMN qty DROP DEFAULT; "
                         "ALTER TABLE crm.{t} ALTER COLUMN qty TYPE text; UPDATE crm.{t} SET note = 'n' WHERE qty = '3'")
            self.settle(b)
        met = self.a.sql('SELECT key, "column", hub_value FROM ferry_conflict ORDER BY hub_value')
        self.assertEqual(met, [(self.keys[0], "qty", "500"), (self.keys[1], "qty", "600")])
        self.assertEqual(self.there("SELECT qty, note FROM {t} WHERE id = %s", self.keys[2]), [("79", "n")])
        self.settle()
        self.assert_same()

    def test_late_difference_of_a_counter_is_added_after_its_type_was_widened_to_numeric(self):
        with self.away():
            self.hub_sql("SELECT ferry.policy('crm.{t}', 'qty', 'counter'); UPDATE crm.{t} SET note = 'a state to wait for'")
        with self.away():
            self.here("UPDATE {t} SET qty = qty + 5 WHERE id = ?", self.keys[0])
            self.site.sql("UPDATE crm.%s SET qty = qty + 100 WHERE qty = 1" % self.table)
            self.hub_sql("ALTER TABLE crm.{t} ALTER COLUMN qty TYPE numeric(10,0)")
        self.assertEqual(str(self.there("SELECT qty FROM {t} WHERE id = %s", self.keys[0])[0][0]), "106")
        self.assert_same()

    def test_connected_device_takes_the_new_form_of_all_rows(self):
        self.change_to_floor()
        self.settle()
        self.assertEqual(self.here("SELECT name FROM {t} ORDER BY qty"), [(n,) for n in range(1, 11)])
        self.assert_same()
        c = self.device("c", scopes=[])  # and one that is filled
        self.settle()
        self.assert_same(c)

    def test_conversion_that_changes_no_type_or_is_volatile_is_refused(self):
        for text, expected in (("SELECT ferry.change_type('crm.{t}', 'name', 'text', 'pg_catalog.upper(text)'::regprocedure::regproc)",
                                "stays text"),
                               ("SELECT ferry.change_type('crm.{t}', 'nobody', 'int', 'crm.{t}_floor')", "no synced column nobody"),
                               ("CREATE FUNCTION crm.{t}_v(v text) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'; "
                                "SELECT ferry.change_type('crm.{t}', 'name', 'int', 'crm.{t}_v')", "is volatile")):
            with self.subTest(expected), self.assertRaisesRegex(Exception, expected):
                self.hub_sql(text)
        self.settle()
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
