#!/usr/bin/python3
# ferry-test: quick
"""A new row that met a unique value is merged into the row that has it (docs/merge.md)."""

import json
import unittest
import uuid

from ferry_run import SiteCase


class MergeInto(SiteCase):

    def clash(self, **more):
        """Omar is known at the hub; a device makes him anew, with a deal in another change-set."""
        person = self.site.value("INSERT INTO crm.contacts (tenant_id, full_name, email, phone_e164) "
                                 "VALUES (%s, 'Omar', 'omar@example.com', '+201') RETURNING id::text", self.tenant)
        a, b = self.device("a", scopes=["tenant"]), self.device("b", scopes=["tenant"])
        self.settle()
        a.stop()
        mine, task = str(uuid.uuid4()), str(uuid.uuid4())
        with a.transaction() as db:
            db.execute("INSERT INTO contacts (id, full_name, email, role_title_code) VALUES (?, 'Omar F.', 'omar@example.com', 'owner')",
                       (mine,))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('Omar')")
        a.sql("INSERT INTO activities (id, type_code, contact_id, subject) VALUES (?, 'call', ?, 'ring him')", task, mine)
        a.start()
        self.settle()
        return a, b, person, mine, task

    def test_the_row_becomes_an_update_and_its_children_refer_to_the_other(self):
        a, b, person, mine, task = self.clash()
        rejected = a.sql("SELECT number, name, key, other FROM ferry_rejected ORDER BY number")
        number = rejected[0][0]
        self.assertEqual([r[1:] for r in rejected], [("UNIQUE", mine, person), ("DEPENDS", task, None)])
        self.assertIn("it can be merged into that one", a.value("SELECT sentence FROM ferry_rejected WHERE name = 'UNIQUE'"))
        done = a.run("rejected", "merge", number)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.settle()
        self.assertEqual(self.site.sql("SELECT full_name, phone_e164, role_title_code FROM crm.contacts WHERE id = %s", person),
                         [("Omar F.", "+201", "owner")])
        self.assertEqual(self.site.sql("SELECT contact_id::text, subject FROM crm.activities WHERE id = %s", task), [(person, "ring him")])
        self.assertEqual(self.site.value("SELECT count(*) FROM crm.contacts WHERE id = %s", mine), 0)
        self.assertEqual(a.sql("SELECT * FROM ferry_rejected"), [])
        kept, = json.loads(a.value("SELECT kept FROM ferry_repair WHERE action = 'merge'"))
        self.assertEqual(kept["key"], mine)
        self.assertEqual(b.row("activities", task)["contact_id"], person)
        self.assert_same()

    def test_it_is_refused_where_the_table_does_not_allow_it_and_by_sql_says_so(self):
        self.site.sql("SELECT ferry.allow_merge('crm.contacts', false)")
        self.addCleanup(self.site.sql, "SELECT ferry.allow_merge('crm.contacts')")
        a, _, person, mine, _ = self.clash()
        number = a.value("SELECT number FROM ferry_rejected WHERE key = ?", mine)
        self.assertIsNone(a.value("SELECT other FROM ferry_rejected WHERE key = ?", mine))
        done = a.run("rejected", "merge", number)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("has no row that may be merged into another", done.stdout + done.stderr)
        self.assertEqual(a.value("SELECT count(*) FROM ferry_rejected"), 2)
        self.assertEqual(a.row("contacts", person)["full_name"], "Omar")
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
