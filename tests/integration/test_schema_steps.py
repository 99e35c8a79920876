#!/usr/bin/python3
"""What a change of a tracked table does to the engine's books: silent where devices can do it by themselves."""

import unittest

from ferry_case import HubCase, run

# type, constant default, and its form on the wire as JSON
CONSTANTS = (
    ("text", "'ne''w'", "ne'w"), ("int", "-7", -7), ("bigint", "9007199254740993", 9007199254740993), ("bool", "true", True),
    ("numeric(8,2)", "1.5", "1.50"), ("float8", "0.1", 0.1), ("float8", "'-Infinity'", "-Infinity"), ("float8", "'-0'", "-0"),
    ("date", "'2026-03-01'", 20513), ("date", "'infinity'", "infinity"),
    ("timestamptz", "'2026-03-01 08:30:00.000001+00'", 1772353800000001), ("timestamptz", "'-infinity'", "-infinity"),
    ("uuid", "'3f2c9a10-5b7d-4e0f-8a6b-2c1d0e9f8a7b'", "3f2c9a10-5b7d-4e0f-8a6b-2c1d0e9f8a7b"),
    ("bytea", "'\\x00ff'", "\\x00ff"), ("jsonb", "'{\"a\": [1, null]}'", "{\"a\": [1, null]}"),
    ("text[]", "'{a,\"b c\",NULL}'", "[\"a\",\"b c\",null]"), ("inet", "'10.0.0.1'", "10.0.0.1"),
)


class Steps(HubCase):

    def setUp(self):
        super().setUp()
        self.acme = self.tenant()
        self.palm = self.project(self.acme)
        self.units(self.acme, self.palm, 20)
        self.sql("DELETE FROM inventory.units WHERE code = 'U-20'")
        self.before = self.head(self.acme)

    def filled(self, column):
        return self.value("SELECT filled FROM ferry.tracked_column WHERE tbl = %s AND name = %s", self.tbl("units"), column)

    def test_column_with_a_constant_is_filled_without_a_change_of_any_row(self):
        for i, (kind, default, wire) in enumerate(CONSTANTS):
            with self.subTest(kind + " " + default):
                name = "c%d" % i
                self.sql("ALTER TABLE inventory.units ADD COLUMN %s %s NOT NULL DEFAULT %s" % (name, kind, default))
                self.assertEqual(self.filled(name), wire)
        self.assertEqual(self.changed(self.acme, self.before), {})
        self.assert_sound()
        self.sql("SELECT ferry.fold_sums()")
        self.assert_sound()
        # Whoever has the column changes it like any other.
        key = self.value("UPDATE inventory.units SET c0 = 'old' WHERE code = 'U-1' RETURNING id")
        self.assertEqual(self.changed(self.acme, self.before), {("units", "project:%s/inventory.view" % self.palm): {key}})
        self.assert_sound()

    def test_column_without_a_default_changes_no_row(self):
        self.sql("ALTER TABLE inventory.units ADD COLUMN remark text")
        self.assertIsNone(self.filled("remark"))
        self.assertEqual(self.changed(self.acme, self.before), {})
        self.assert_sound()

    def test_column_whose_default_differs_by_row_is_captured(self):
        self.sql("ALTER TABLE inventory.units ADD COLUMN tag uuid NOT NULL DEFAULT gen_random_uuid()")
        self.assertIsNone(self.filled("tag"))
        (keys,) = self.changed(self.acme, self.before).values()
        self.assertEqual(len(keys), 19)
        self.assert_sound()

    def test_generated_column_is_captured(self):
        self.sql("ALTER TABLE inventory.units ADD COLUMN loud text GENERATED ALWAYS AS (upper(code)) STORED")
        self.assertEqual(len(sum((list(k) for k in self.changed(self.acme, self.before).values()), [])), 19)
        self.assert_sound()

    def test_new_rows_and_updates_in_the_transaction_of_the_column_are_captured(self):
        conn = self.conn()
        run(conn, "ALTER TABLE inventory.units ADD COLUMN grade text NOT NULL DEFAULT 'a'")
        run(conn, "UPDATE inventory.units SET grade = 'b' WHERE code IN ('U-1', 'U-2')")
        run(conn, "INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, grade) "
                  "VALUES (%s, %s, 'N', 'APT_1BR', 'c')", self.acme, self.palm)
        conn.commit()
        (keys,) = self.changed(self.acme, self.before).values()
        self.assertEqual(len(keys), 3)
        self.assertEqual(self.filled("grade"), "a")
        self.assert_sound()

    def test_change_between_texts_keeps_what_was_filled_and_another_kind_captures_all_rows(self):
        self.sql("ALTER TABLE inventory.units ADD COLUMN grade text NOT NULL DEFAULT '1'")
        self.sql("ALTER TABLE inventory.units ALTER COLUMN grade TYPE varchar(10)")
        self.assertEqual(self.filled("grade"), "1")
        self.assertEqual(self.changed(self.acme, self.before), {})
        self.sql("ALTER TABLE inventory.units ALTER COLUMN grade DROP DEFAULT")
        self.sql("ALTER TABLE inventory.units ALTER COLUMN grade TYPE int USING grade::int")
        self.assertIsNone(self.filled("grade"))
        (keys,) = self.changed(self.acme, self.before).values()
        self.assertEqual(len(keys), 19)
        self.assert_sound()

    def test_dropped_column_leaves_sound_books_and_changes_no_row(self):
        self.sql("ALTER TABLE inventory.units ADD COLUMN grade text NOT NULL DEFAULT 'a', ADD COLUMN level int DEFAULT 3")
        self.sql("ALTER TABLE inventory.units DROP COLUMN grade")
        self.assertEqual(self.changed(self.acme, self.before), {})
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
