#!/usr/bin/python3
# ferry-test: long
"""The hub's tables change while devices with unsent work are away, or connected: replicas go along in place."""

import contextlib
import json
import sqlite3
import unittest
import uuid

from ferry_run import wait_until
from ferry_schema import SchemaCase


class SchemaChange(SchemaCase):

    def test_added_column_with_a_constant_is_taken_in_place_and_late_edits_arrive(self):
        new = str(uuid.uuid4())
        with self.away():
            self.here("UPDATE {t} SET name = 'mine' WHERE id = ?", self.keys[0])
            self.here("INSERT INTO {t} (id, name, qty) VALUES (?, 'new', 50)", new)
            self.here("DELETE FROM {t} WHERE id = ?", self.keys[1])
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN city text NOT NULL DEFAULT 'Kairo', ADD COLUMN price numeric(8,2) DEFAULT 1.5, "
                         "ADD COLUMN empty int, ADD COLUMN day date DEFAULT '2026-03-01'; "
                         "UPDATE crm.{t} SET city = 'Gizeh' WHERE qty = 3")
        self.assert_same()
        self.assertEqual(self.here("SELECT city, price, empty, day FROM {t} WHERE id = ?", self.keys[0]),
                         [("Kairo", "1.50", None, "2026-03-01")])
        self.assertEqual(self.here("SELECT city FROM {t} WHERE id = ?", self.keys[2]), [("Gizeh",)])
        self.assertEqual(self.here("SELECT city, price, day FROM {t} WHERE id = ?", new), [("Kairo", "1.50", "2026-03-01")])
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = %s", self.keys[0]), [("mine",)])
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected"), [])
        # From here on both sides write it.
        self.here("UPDATE {t} SET city = 'Luxor', empty = 7 WHERE id = ?", self.keys[0])
        self.settle()
        self.assertEqual(self.there("SELECT city, empty FROM {t} WHERE id = %s", self.keys[0]), [("Luxor", 7)])
        self.assert_same()
        self.a.stop()
        self.assertTrue(self.a.json("verify")["match"])

    def test_column_whose_default_differs_by_row_comes_with_the_rows(self):
        with self.away():
            self.here("UPDATE {t} SET qty = 77 WHERE id = ?", self.keys[0])
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN tag uuid NOT NULL DEFAULT gen_random_uuid(), "
                         "ADD COLUMN loud text GENERATED ALWAYS AS (upper(name)) STORED")
        self.assert_same()
        self.assertEqual(self.here("SELECT loud FROM {t} WHERE qty = 77"), [("N1",)])

    def test_open_connection_of_an_app_goes_on_with_the_changed_table(self):
        with contextlib.closing(self.a.connect()) as db:
            read = "SELECT name FROM %s WHERE id = ?" % self.table
            write = "UPDATE %s SET note = ? WHERE id = ?" % self.table
            db.execute(read, (self.keys[0],)).fetchall()
            db.execute(write, ("before", self.keys[0]))
            cursor = db.execute("SELECT id FROM %s" % self.table)  # a statement under way
            cursor.fetchone()
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN city text DEFAULT 'Kairo'")
            wait_until(lambda: "city" in self.columns(), 60, "the new column")
            self.assertEqual(len(cursor.fetchall()), 9)
            self.assertEqual(tuple(db.execute(read, (self.keys[0],)).fetchone()), ("n1",))
            db.execute(write, ("after", self.keys[1]))
            self.assertEqual(db.execute("SELECT city FROM %s WHERE id = ?" % self.table, (self.keys[1],)).fetchone()[0], "Kairo")
            db.execute("UPDATE %s SET city = 'Luxor' WHERE id = ?" % self.table, (self.keys[2],))
        self.settle()
        self.assert_same()
        self.assertEqual(self.there("SELECT note FROM {t} WHERE note IS NOT NULL ORDER BY 1"), [("after",), ("before",)])
        self.assertEqual(self.there("SELECT qty FROM {t} WHERE city = 'Luxor'"), [(3,)])

    def test_new_table_is_made_in_place_with_its_rows(self):
        other = self.table + "x"
        with self.away():
            self.here("UPDATE {t} SET qty = 50 WHERE id = ?", self.keys[0])
            self.make(other, 300)
        self.assert_same()
        self.assertEqual(self.a.value("SELECT count(*) FROM " + other), 300)
        self.a.sql("INSERT INTO %s (name) VALUES ('from here')" % other)
        self.settle()
        self.assert_same()

    def test_new_label_is_taken_by_the_check_and_an_old_index_stays(self):
        self.hub_sql("CREATE TYPE crm.{t}_mood AS ENUM ('calm'); ALTER TABLE crm.{t} ADD COLUMN mood crm.{t}_mood")
        wait_until(lambda: "mood" in self.columns(), 60, "the new column")
        self.a.sql("CREATE INDEX app_index ON %s (grade)" % self.table)
        with self.away():
            self.here("UPDATE {t} SET qty = 50 WHERE id = ?", self.keys[0])
            with self.assertRaises(sqlite3.IntegrityError):
                self.here("UPDATE {t} SET grade = 'c'")
            self.site.sql("ALTER TYPE crm.%s_mood ADD VALUE 'odd'" % self.table)
            self.hub_sql("ALTER TABLE crm.{t} DROP CONSTRAINT {t}_grade_check, ADD CHECK (grade IN ('a', 'b', 'c'))")
        self.here("UPDATE {t} SET grade = 'c', mood = 'odd' WHERE id = ?", self.keys[1])
        with self.assertRaises(sqlite3.IntegrityError):
            self.here("UPDATE {t} SET grade = 'd'")
        self.settle()
        self.assert_same()
        self.assertEqual(self.there("SELECT grade, mood::text FROM {t} WHERE id = %s", self.keys[1]), [("c", "odd")])
        self.assertEqual(self.a.value("SELECT count(*) FROM sqlite_schema WHERE name = 'app_index'"), 1)
        self.assertEqual(self.a.value("PRAGMA integrity_check"), "ok")

    def test_widened_type_is_taken_in_place(self):
        with self.away():
            self.here("UPDATE {t} SET qty = 50 WHERE id = ?", self.keys[0])
            self.hub_sql("ALTER TABLE crm.{t} ALTER COLUMN qty TYPE bigint, ALTER COLUMN name TYPE varchar(100); "
                         "UPDATE crm.{t} SET qty = 9007199254740993 WHERE qty = 2")
        self.assert_same()
        self.here("UPDATE {t} SET qty = 9007199254740995 WHERE id = ?", self.keys[2])
        self.settle()
        self.assert_same()

    def test_renamed_column_and_table_are_renamed_in_place_with_their_unsent_edits(self):
        self.a.sql("CREATE INDEX app_index ON %s (name)" % self.table)
        with self.away():
            self.here("UPDATE {t} SET name = 'mine', note = 'too' WHERE id = ?", self.keys[0])
            self.hub_sql("ALTER TABLE crm.{t} RENAME COLUMN name TO title; ALTER TABLE crm.{t} RENAME COLUMN note TO name")
        self.assert_same()
        self.assertEqual(self.columns()[2:], ["title", "qty", "grade", "name"])
        self.assertEqual(self.there("SELECT title, name FROM {t} WHERE id = %s", self.keys[0]), [("mine", "too")])
        self.assertEqual([r[2] for r in self.a.sql("PRAGMA index_info(app_index)")], ["title"])

    def test_changed_policy_is_taken_in_place(self):
        with self.away():
            self.here("UPDATE {t} SET qty = qty + 5 WHERE id = ?", self.keys[0])
            self.hub_sql("SELECT ferry.policy('crm.{t}', 'qty', 'counter'); SELECT ferry.policy('crm.{t}', 'note', 'hub')")
        with self.assertRaises(sqlite3.IntegrityError):
            self.here("UPDATE {t} SET note = 'no'")
        self.assert_same()

    def test_P5_edit_of_a_dropped_column_is_refused_and_kept_with_its_values_on_both_sides(self):
        with self.away():
            self.here("UPDATE {t} SET note = 'kept', name = 'also' WHERE id = ?", self.keys[0])
            self.here("UPDATE {t} SET name = 'fine' WHERE id = ?", self.keys[1])
            self.hub_sql("ALTER TABLE crm.{t} DROP COLUMN note")
        self.assert_same()
        self.assertNotIn("note", self.columns())
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = ANY (%s::uuid[]) ORDER BY qty", self.keys[:2]), [("n1",), ("fine",)])
        (name, values), = self.a.sql('SELECT name, "values" FROM ferry_rejected')
        self.assertEqual((name, json.loads(values)), ("UNKNOWN_COLUMN", {"name": "also", "note": "kept"}))
        (body,), = self.site.sql("SELECT body FROM ferry.rejected WHERE device_id = %s", self.a.id)
        self.assertIn(b"kept", bytes(body))
        self.assertEqual(self.a.value("SELECT count(*) FROM ferry_former") + self.a.value("SELECT count(*) FROM ferry_former_value"), 0)

    def test_P5_late_edit_of_a_column_that_another_took_the_place_of_goes_there(self):
        new = str(uuid.uuid4())
        with self.away():
            self.here("UPDATE {t} SET note = 'mine', qty = 77 WHERE id = ?", self.keys[0])
            self.here("INSERT INTO {t} (id, name, note) VALUES (?, 'new', 'its note')", new)
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN remark text; UPDATE crm.{t} SET remark = note; "
                         "SELECT ferry.renamed('crm.{t}', 'note', 'remark'); ALTER TABLE crm.{t} DROP COLUMN note")
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(self.there("SELECT remark, qty FROM {t} WHERE id = %s", self.keys[0]), [("mine", 77)])
        self.assertEqual(self.there("SELECT remark FROM {t} WHERE id = %s", new), [("its note",)])
        self.assert_same()

    def test_late_edit_of_a_column_that_nobody_wants_loses_it_and_nothing_else(self):
        new = str(uuid.uuid4())
        with self.away():
            self.here("UPDATE {t} SET note = 'gone' WHERE id = ?", self.keys[0])
            self.here("INSERT INTO {t} (id, name, note) VALUES (?, 'new', 'gone')", new)
            self.hub_sql("ALTER TABLE crm.{t} DROP COLUMN note; SELECT ferry.discard('crm.{t}', 'note')")
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = %s", new), [("new",)])
        self.assert_same()

    def test_P5_late_value_of_another_type_is_cast_or_refused_and_kept(self):
        with self.away():
            self.here("UPDATE {t} SET qty = 77 WHERE id = ?", self.keys[0])
            self.here("UPDATE {t} SET name = 'seven' WHERE id = ?", self.keys[1])
            self.here("UPDATE {t} SET name = '8', note = 'stays' WHERE id = ?", self.keys[2])
            self.hub_sql("ALTER TABLE crm.{t} ALTER COLUMN qty DROP DEFAULT; ALTER TABLE crm.{t} ALTER COLUMN qty TYPE text; "
                         "ALTER TABLE crm.{t} ALTER COLUMN name TYPE int USING substr(name, 2)::int")
        self.assertEqual(self.a.sql("SELECT * FROM ferry_conflict"), [])
        self.assertEqual(self.there("SELECT qty FROM {t} WHERE id = %s", self.keys[0]), [("77",)])
        self.assertEqual(self.there("SELECT name, note FROM {t} WHERE id = %s", self.keys[2]), [(8, "stays")])
        (name, values), = self.a.sql('SELECT name, "values" FROM ferry_rejected')
        self.assertEqual((name, json.loads(values)), ("BAD_VALUE", {"name": "seven"}))
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.rejected WHERE device_id = %s", self.a.id), 1)
        self.assertEqual(self.here("SELECT DISTINCT typeof(qty), typeof(name) FROM {t}"), [("text", "integer")])
        self.assert_same()

    def test_cut_link_between_the_schema_and_its_first_state_is_made_good(self):
        self.a.stop()
        for step in range(3):
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN c%d int DEFAULT %d" % (step, step))
            self.a.start(env={"FERRY_KILL_AT": ""})
            self.a.kill9()
        self.here("UPDATE {t} SET qty = 99 WHERE id = ?", self.keys[0])
        self.a.start()
        self.settle()
        self.assert_same()
        self.assertEqual(self.here("SELECT c0, c1, c2 FROM {t} WHERE qty = 99"), [(0, 1, 2)])


if __name__ == "__main__":
    unittest.main()
