#!/usr/bin/python3
"""A hub is restored from an older backup, and its schema is another one than that which devices' kept history is of."""

import unittest
import uuid

from test_heal import DumpBackup, HealCase


class SchemaHealing(HealCase):

    def setUp(self):
        super().setUp()
        self.migrate("CREATE TABLE crm.visits (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), name text, "
                     "qty int, grade text CHECK (grade IN ('a', 'b')), note text, PRIMARY KEY (tenant_id, id)); "
                     "SELECT ferry.isolate('crm.visits'); SELECT ferry.track('crm.visits'); "
                     "INSERT INTO crm.visits (tenant_id, name, qty) SELECT '%s', 'n' || i, i FROM generate_series(1, 3) i" % self.tenant)
        self.a = self.device("a", start=True)
        self.site.wait_settled()
        self.taken = self.backup(DumpBackup)
        self.taken.take()
        self.site.wait_settled()

    def migrate(self, text):
        with self.site.db.connect() as conn:
            with conn.cursor() as cur:
                cur.execute(text)
            conn.commit()
        conn.close()

    def restore_and_change(self, change):
        """The change is made before any device meets the restored hub."""
        self.a.stop()
        self.taken.restore()
        self.migrate(change)
        self.a.start()
        self.wait_met(self.a)
        self.site.wait_settled(seconds=120)

    def visits(self, columns="name, qty, note"):
        return self.site.sql("SELECT %s FROM crm.visits ORDER BY qty" % columns)

    def test_P8_kept_history_of_an_earlier_schema_is_given_back_to_a_hub_that_was_migrated_since(self):
        key = self.a.value("SELECT id FROM visits WHERE qty = 1")
        self.a.sql("UPDATE visits SET name = 'mine', note = 'too' WHERE id = ?", key)
        new = str(uuid.uuid4())
        self.a.sql("INSERT INTO visits (id, name, qty) VALUES (?, 'new', 9)", new)
        self.site.wait_settled()
        self.restore_and_change("ALTER TABLE crm.visits ADD COLUMN city text DEFAULT 'Kairo', ADD COLUMN empty int; "
                                "ALTER TABLE crm.visits RENAME COLUMN name TO title")
        self.assertEqual(self.visits("title, qty, note, city"), [("mine", 1, "too", "Kairo"), ("n2", 2, None, "Kairo"),
                                                                ("n3", 3, None, "Kairo"), ("new", 9, None, "Kairo")])
        self.assert_same()

    def test_P8_rows_of_a_table_and_labels_that_the_backup_lacks_are_given_back_once_they_are_there_again(self):
        change = ("ALTER TABLE crm.visits DROP CONSTRAINT visits_grade_check, ADD CHECK (grade IN ('a', 'b', 'c')); "
                  "CREATE TABLE crm.stays (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), name text, "
                  "PRIMARY KEY (tenant_id, id)); SELECT ferry.isolate('crm.stays'); SELECT ferry.track('crm.stays')")
        self.migrate(change + "; UPDATE crm.visits SET note = 'a state to wait for'")
        self.site.wait_settled()
        self.a.sql("UPDATE visits SET grade = 'c' WHERE qty = 2")
        self.a.sql("INSERT INTO stays (name) VALUES ('over night')")
        self.site.wait_settled()
        self.assertEqual(self.site.sql("SELECT name FROM crm.stays"), [("over night",)])
        self.restore_and_change(change)
        self.assertEqual(self.visits("qty, grade"), [(1, None), (2, "c"), (3, None)])
        self.assertEqual(self.site.sql("SELECT name FROM crm.stays"), [("over night",)])
        self.assert_same()

    def test_P5_P8_what_has_no_place_after_the_restore_is_kept_with_its_values(self):
        key = self.a.value("SELECT id FROM visits WHERE qty = 1")
        self.a.sql("UPDATE visits SET note = 'kept' WHERE id = ?", key)
        self.site.wait_settled()
        self.a.sql("UPDATE visits SET qty = 11 WHERE id = ?", key)
        self.site.wait_settled()
        self.restore_and_change("ALTER TABLE crm.visits DROP COLUMN note")
        self.assertEqual(self.visits("name, qty"), [("n2", 2), ("n3", 3), ("n1", 11)])
        self.assertEqual(self.a.sql("SELECT name, key FROM ferry_rejected"), [("UNKNOWN_COLUMN", key)])
        (body,), = self.site.sql("SELECT body FROM ferry.rejected WHERE device_id = %s", self.a.id)
        self.assertIn(b"kept", bytes(body))
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
