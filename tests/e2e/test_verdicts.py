#!/usr/bin/python3
"""What became of a transaction: ferry_verdict, and waiting for one by its note."""

import json
import unittest
import uuid

from ferry_run import CommandFailed, SiteCase, wait_until
from test_local_socket import Listener


class Verdicts(SiteCase):

    def marked(self, device, note, *statements):
        with device.transaction() as db:
            for text, *args in statements:
                db.execute(text, args)
            db.execute("INSERT INTO ferry_tx(note) VALUES (?)", (note,))

    def contact(self, email, name="N"):
        return ("INSERT INTO contacts (id, full_name, email) VALUES (?, ?, ?)", str(uuid.uuid4()), name, email)

    def listen(self, agent):
        heard = Listener(agent)
        self.addCleanup(heard.close)
        return heard

    def verdicts(self, device):
        return device.sql("SELECT note, verdict, name FROM ferry_verdict ORDER BY number")

    def test_each_verdict_stands_in_the_table_with_its_note_and_reason(self):
        unit = self.new_unit(view="none")
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a")
        self.settle()
        a.stop()
        self.marked(a, "loses", ("UPDATE units SET view = 'sea' WHERE id = ?", unit))
        self.site.sql("UPDATE inventory.units SET view = 'garden' WHERE id = %s", unit)
        self.marked(a, "stands", self.contact("two@example.com"))
        self.marked(a, "taken", self.contact("ONE@example.com"))
        a.start()
        self.settle()
        self.assertEqual(self.verdicts(a), [("loses", "superseded", None), ("stands", "accepted", None), ("taken", "rejected", "UNIQUE")])
        self.assertEqual(a.value("SELECT sentence FROM ferry_verdict WHERE note = 'taken'"), a.value("SELECT sentence FROM ferry_rejected"))
        # What stands instead of what was superseded is in its conflict.
        self.assertEqual(a.sql("SELECT c.device_value, c.hub_value FROM ferry_verdict v JOIN ferry_conflict c USING (number) WHERE v.note = 'loses'"),
                         [("sea", "garden")])
        # A backup ends the kept history, and no verdict.
        self.hub.json("backup-mark", "--begin")
        self.hub.json("backup-mark")
        a.stop()
        a.start()
        wait_until(lambda: a.value("SELECT kept_sets FROM ferry_status") == 0, 30, "what the backup holds, forgotten")
        self.assertEqual(len(self.verdicts(a)), 3)
        # The hub's people merge it after all.
        self.site.sql("UPDATE crm.contacts SET email = 'other@example.com' WHERE tenant_id = %s AND full_name = 'First'", self.tenant)
        self.hub.json("rejected", "requeue", self.hub.json("rejected", "list", "--tenant", self.tenant)[0]["id"])
        wait_until(lambda: a.value("SELECT verdict FROM ferry_verdict WHERE note = 'taken'") == "accepted", 30, "the verdict that stands now")
        self.assertIsNone(a.value("SELECT name FROM ferry_verdict WHERE note = 'taken'"))

    def test_a_wait_for_one_transaction_does_not_wait_for_others_and_tells_its_verdict(self):
        unit, held = self.new_unit(code="F-1", floor=0), self.new_unit(code="H-1", floor=0)
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a")
        self.settle()
        conn = self.db.connect()
        self.addCleanup(conn.close)
        conn.cursor().execute("UPDATE inventory.units SET view = 'held' WHERE id = %s", (held,))
        self.marked(a, "held", ("UPDATE units SET floor = 1 WHERE id = ?", held))  # waits for that transaction
        self.marked(a, "mine", ("UPDATE units SET floor = 2 WHERE id = ?", unit))
        self.marked(a, "bad", self.contact("ONE@example.com"))
        heard = self.listen(a)
        for note in ("held", "mine", "bad", "never was"):
            heard.send(json.dumps({"wait": "durable", "note": note, "id": note}))
        answers = {x["id"]: x for x in (heard.wait(lambda x: "event" not in x, 60) for _ in range(3))}
        self.assertEqual(answers.keys(), {"mine", "bad", "never was"})
        self.assertEqual((answers["mine"]["verdict"], answers["mine"]["code"]), ("accepted", None))
        self.assertEqual((answers["bad"]["verdict"], answers["bad"]["code"]), ("rejected", "UNIQUE"))
        self.assertIn("another row of contacts has this value", answers["bad"]["sentence"])
        self.assertIn("no transaction", answers["never was"]["error"])
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 2)
        self.assertEqual(a.run("barrier", "--note", "held", "--timeout", "0").returncode, 4)
        conn.rollback()
        self.assertEqual(heard.wait(lambda x: "event" not in x, 60)["verdict"], "accepted")
        self.assertEqual(a.json("barrier", "--note", "held")["verdict"], "accepted")

    def test_the_command_says_what_became_of_a_transaction_and_ends_with_1_for_a_refusal(self):
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a")
        self.settle()
        self.marked(a, "good one", self.contact("two@example.com"))
        self.marked(a, "bad one", self.contact("ONE@example.com"))
        done = a.run("barrier", "--note", "good one")
        self.assertEqual((done.returncode, done.stdout), (0, "good one: accepted\n"))
        done = a.run("barrier", "--note", "bad one", "--json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(json.loads(done.stdout)["code"], "UNIQUE")
        with self.assertRaises(CommandFailed) as failed:
            a.json("barrier", "--note", "no such note")
        self.assertEqual(failed.exception.error["code"], "NOT_FOUND")
        self.marked(a, "good one", self.contact("three@example.com"))  # the newest with a note counts
        number = a.json("barrier", "--note", "good one")["number"]
        self.assertEqual(number, a.value("SELECT max(number) FROM ferry_verdict WHERE note = 'good one'"))

    def test_a_parked_one_is_durable_and_said_to_wait(self):
        self.site.sql("SELECT ferry.row_policy('crm.contacts', on_missing_parent => 'park')")
        self.addCleanup(self.site.sql, "SELECT ferry.row_policy('crm.contacts', on_missing_parent => 'reject')")
        a = self.device("a")
        self.settle()
        company = str(uuid.uuid4())
        self.marked(a, "early", ("INSERT INTO contacts (full_name, company_id) VALUES ('Early', ?)", company))
        self.assertEqual(a.json("barrier", "--note", "early")["verdict"], "parked")
        self.assertEqual(self.verdicts(a), [("early", "parked", "FOREIGN_KEY")])
        everything = a.json("barrier")
        self.assertEqual((everything["rejected"], everything["parked"]), (0, 1))
        self.assertIn("1 change-sets wait there", a.run("barrier").stdout)
        self.site.sql("INSERT INTO crm.companies (tenant_id, id, name) VALUES (%s, %s, 'Parent')", self.tenant, company)
        wait_until(lambda: self.verdicts(a) == [("early", "accepted", None)], 60, "the verdict that follows")
        self.assertEqual(a.json("barrier", "--note", "early")["verdict"], "accepted")

    def test_what_is_refused_before_it_leaves_is_rejected_here(self):
        a = self.device("a")
        self.settle()
        self.marked(a, "no text", ("INSERT INTO companies (name) VALUES ('a' || char(0) || 'b')",))
        self.assertEqual(a.run("barrier", "--note", "no text").returncode, 1)
        self.settle()
        self.assertEqual(self.verdicts(a)[0], ("no text", "rejected", "NUL_IN_TEXT"))


if __name__ == "__main__":
    unittest.main()
