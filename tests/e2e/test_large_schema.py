#!/usr/bin/python3
"""Change-sets larger than a message (R7) that come late, made under a former schema: translated like small ones."""

import json
import unittest
import uuid

from ferry_schema import SchemaCase

ROWS = 6000


class LargeSchema(SchemaCase):

    def setUp(self):
        super().setUp()
        self.hub_sql("CREATE FUNCTION crm.{t}_floor(v text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN "
                     "IF v !~ '^n[0-9]+ *$' THEN RAISE EXCEPTION 'there is no floor %', v; END IF; RETURN substr(v, 2)::int; END $$")

    def many(self, **last):
        """So many new rows in one transaction, whose last one has other values, too."""
        rows = [dict({"id": str(uuid.uuid4()), "name": "n%d" % (100 + n), "qty": 1000 + n, "grade": "a", "note": "of some length: %060d" % n})
                for n in range(ROWS)]
        rows[-1].update(last)
        with self.a.transaction() as db:
            db.execute("UPDATE %s SET name = 'n77', note = 'with them' WHERE id = ?" % self.table, (self.keys[0],))
            db.executemany("INSERT INTO %s (id, name, qty, grade, note) VALUES (:id, :name, :qty, :grade, :note)" % self.table, rows)
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        return rows

    def went_in_parts(self):
        self.assertGreater(self.a.value("SELECT count(*) FROM ferry_kept_part"), 0)

    def test_R7_late_values_go_through_the_declared_function_portion_by_portion(self):
        with self.away():
            self.many()
            self.hub_sql("SELECT ferry.change_type('crm.{t}', 'name', 'int', 'crm.{t}_floor'); "
                         "ALTER TABLE crm.{t} RENAME COLUMN name TO floor")
        self.went_in_parts()
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected") + self.a.sql("SELECT * FROM ferry_conflict"), [])
        self.assertEqual(self.there("SELECT count(*), count(DISTINCT floor), min(floor), max(floor) FROM {t} WHERE qty >= 1000"),
                         [(ROWS, ROWS, 100, 99 + ROWS)])
        self.assertEqual(self.there("SELECT floor, note FROM {t} WHERE id = %s", self.keys[0]), [(77, "with them")])
        self.assert_same()

    def test_P3_P5_one_value_that_the_function_refuses_keeps_the_whole_and_a_better_function_takes_it(self):
        with self.away():
            rows = self.many(name="attic")
            self.here("UPDATE {t} SET name = 'n3' WHERE id = ?", self.keys[1])
            self.hub_sql("SELECT ferry.change_type('crm.{t}', 'name', 'int', 'crm.{t}_floor')")
        self.assertEqual(self.there("SELECT count(*) FROM {t} WHERE qty >= 1000"), [(0,)])
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = ANY (%s::uuid[]) ORDER BY qty", self.keys[:2]), [(1,), (3,)])
        self.assertEqual(self.a.value("SELECT count(*) FROM ferry_rejected"), ROWS + 1)
        (name, sentence, values), = self.a.sql('SELECT name, sentence, "values" FROM ferry_rejected WHERE key = ?', rows[-1]["id"])
        self.assertEqual((name, json.loads(values)["name"], json.loads(values)["qty"]), ("BAD_VALUE", "attic", 999 + ROWS))
        self.assertIn("there is no floor attic", sentence)
        self.assert_same()
        self.hub_sql("CREATE OR REPLACE FUNCTION crm.{t}_floor(v text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ "
                     "SELECT CASE v WHEN 'attic' THEN 12 ELSE substr(v, 2)::int END $$")
        (waiting,) = self.hub.json("rejected", "list", "--tenant", self.tenant)
        self.assertEqual(self.hub.json("rejected", "requeue", waiting["id"])["verdict"], "accepted")
        self.assertEqual(self.there("SELECT name FROM {t} WHERE id = %s", rows[-1]["id"]), [(12,)])
        self.settle()
        self.assert_same()

    def test_columns_that_were_renamed_or_dropped_and_changed_by_a_cast_are_translated_in_all_parts(self):
        with self.away():
            self.many()
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN remark text; UPDATE crm.{t} SET remark = note; "
                         "SELECT ferry.renamed('crm.{t}', 'note', 'remark'); ALTER TABLE crm.{t} DROP COLUMN note; "
                         "ALTER TABLE crm.{t} ALTER COLUMN qty DROP DEFAULT; ALTER TABLE crm.{t} ALTER COLUMN qty TYPE text; "
                         "ALTER TABLE crm.{t} DROP COLUMN name; SELECT ferry.discard('crm.{t}', 'name')")
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(self.there("SELECT count(DISTINCT remark), count(DISTINCT qty), count(*) FROM {t} "
                                    "WHERE remark LIKE 'of some length%%'"), [(ROWS, ROWS, ROWS)])
        self.assert_same()

    def test_P3_P5_label_that_is_no_more_in_the_last_part_refuses_all_of_it(self):
        with self.away():
            self.many(grade="b")
            self.hub_sql("ALTER TABLE crm.{t} DROP CONSTRAINT {t}_grade_check; "
                         "ALTER TABLE crm.{t} ADD CONSTRAINT {t}_grade_check CHECK (grade IN ('a', 'c'))")
        self.assertEqual(self.there("SELECT count(*) FROM {t} WHERE qty >= 1000"), [(0,)])
        self.assertEqual(self.a.value("SELECT count(*) FROM ferry_rejected"), ROWS + 1)
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
