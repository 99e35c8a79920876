#!/usr/bin/python3
"""R5: what programs wrote while no agent looked, and a hub that refuses one transaction of it."""

import subprocess
import sys
import unittest
import uuid

from ferry_run import SiteCase

TRANSACTIONS = 200

# Undeclared transactions on one connection, each a contact; one takes an address that somebody has.
PROGRAM = """
import sqlite3, sys
path, name, count, bad = sys.argv[1:]
db = sqlite3.connect(path, timeout=60, isolation_level=None)
for i in range(int(count)):
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO contacts (full_name, email) VALUES (?, ?)",
               ("%s %d" % (name, i), "ONE@example.com" if i == int(bad) else "%s-%d@example.com" % (name, i)))
    db.execute("COMMIT")
"""


class Joined(SiteCase):

    def write(self, device, name, bad):
        return subprocess.Popen([sys.executable, "-c", PROGRAM, device.replica, name, str(TRANSACTIONS), str(bad)])

    def test_R5_of_400_transactions_of_two_programs_the_bad_one_is_refused_alone(self):
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a, b = self.device("a", scopes=["tenant"]), self.device("b", scopes=["tenant"])
        self.settle()
        a.stop()
        for program in [self.write(a, "red", 137), self.write(a, "blue", -1)]:
            self.assertEqual(program.wait(120), 0)
        self.assertEqual(a.value("SELECT count(*) FROM contacts"), 401)
        a.start()
        self.settle(a, b, seconds=120)
        (name, sentence, values), = a.sql('SELECT name, sentence, "values" FROM ferry_rejected')
        self.assertEqual(name, "UNIQUE")
        self.assertIn("red 137", values)
        self.assertIn("offered again in parts", sentence)
        names = {n for n, in self.site.sql("SELECT full_name FROM crm.contacts WHERE tenant_id = %s", self.tenant)}
        self.assertEqual(names, {"First"} | {"%s %d" % (n, i) for n in ("red", "blue") for i in range(TRANSACTIONS)} - {"red 137"})
        self.assertLess(self.site.value("SELECT count(*) FROM ferry.rejected WHERE tenant_id = %s", self.tenant), 4)
        self.assert_same()

    def test_R5_a_declared_transaction_that_is_refused_stays_whole(self):
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a", scopes=["tenant"])
        self.settle()
        a.stop()
        with a.transaction() as db:
            for i, email in enumerate(("two@example.com", "ONE@example.com", "three@example.com")):
                db.execute("INSERT INTO contacts (id, full_name, email) VALUES (?, ?, ?)", (str(uuid.uuid4()), "all %d" % i, email))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        a.sql("INSERT INTO contacts (full_name) VALUES ('after')")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT name, note, count(DISTINCT number), count(*) FROM ferry_rejected"), [("UNIQUE", "all or none", 1, 3)])
        self.assertEqual(self.site.sql("SELECT full_name FROM crm.contacts WHERE tenant_id = %s ORDER BY 1", self.tenant), [("First",), ("after",)])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
