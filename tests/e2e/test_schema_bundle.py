#!/usr/bin/python3
"""A bundle that was written under an earlier schema than the one it is taken in under."""

import json
import os
import unittest
import uuid

from ferry_schema import SchemaCase


class OlderBundles(SchemaCase):

    def by_file(self, edit, change):
        """Edits go out of the device, past the hub as it is after the change, and the answer comes back."""
        out, back = (os.path.join(self.site.folder, "%s-%s" % (self.table, name)) for name in ("out", "back"))
        self.a.stop()
        edit()
        self.a.json("bundle", "export", out)
        change()
        taken = self.hub.json("bundle", "import", out, "--answer", back)
        self.a.json("bundle", "import", back)
        return taken

    def test_bundle_of_an_earlier_schema_is_translated_and_its_answer_brings_the_new_one(self):
        new = str(uuid.uuid4())

        def edit():
            self.here("UPDATE {t} SET name = 'mine', note = 'too' WHERE id = ?", self.keys[0])
            self.here("INSERT INTO {t} (id, name, qty) VALUES (?, 'new', 50)", new)
        taken = self.by_file(edit, lambda: self.hub_sql(
            "ALTER TABLE crm.{t} ADD COLUMN city text DEFAULT 'Kairo'; ALTER TABLE crm.{t} RENAME COLUMN name TO title; "
            "ALTER TABLE crm.{t} DROP CONSTRAINT {t}_grade_check, ADD CHECK (grade IN ('a', 'b', 'c')); "
            "UPDATE crm.{t} SET grade = 'c' WHERE qty = 4"))
        self.assertEqual((taken["rejected"], taken["filled"]), (0, False))
        self.assertEqual(self.there("SELECT title, note, city FROM {t} WHERE id = %s", self.keys[0]), [("mine", "too", "Kairo")])
        self.assertEqual(self.there("SELECT title FROM {t} WHERE id = %s", new), [("new",)])
        self.assertEqual(self.a.standing()[1:], (0, 0))
        self.assertEqual(self.here("SELECT title, grade, city FROM {t} WHERE qty = 4"), [("n4", "c", "Kairo")])
        self.assert_same()

    def test_P5_what_has_no_place_any_more_comes_back_by_file_with_its_values(self):
        taken = self.by_file(lambda: self.here("UPDATE {t} SET note = 'kept' WHERE id = ?", self.keys[0]),
                             lambda: self.hub_sql("ALTER TABLE crm.{t} DROP COLUMN note"))
        self.assertEqual(taken["rejected"], 1)
        (name, values), = self.a.sql('SELECT name, "values" FROM ferry_rejected')
        self.assertEqual((name, json.loads(values)), ("UNKNOWN_COLUMN", {"note": "kept"}))
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
