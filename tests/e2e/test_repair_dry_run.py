#!/usr/bin/python3
"""Dry runs of repairs, on devices and at the hub: they list what would be written, value by value, and change nothing."""

import json
import unittest
import uuid

from ferry_run import CommandFailed, SiteCase, wait_until


def columns(dry):
    """What a dry run lists, without the table and the key."""
    return {w["column"]: (w["op"], w["before"], w["after"]) for w in dry["writes"]}


class DryRuns(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("CREATE SCHEMA stock AUTHORIZATION ferry_owner")
        cls.site.sql("CREATE TABLE stock.parts (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), made_by uuid, "
                     "made_at timestamptz, made_on date, price numeric(12,2), weight float8, more jsonb, tags text[], photo bytea, note text, "
                     "code varchar(8) CHECK (code <> 'bad'), PRIMARY KEY (tenant_id, id), "
                     "FOREIGN KEY (tenant_id, made_by) REFERENCES crm.contacts (tenant_id, id))")
        cls.site.sql("SELECT ferry.isolate('stock.parts')")
        cls.site.sql("SELECT ferry.track('stock.parts')")

    def conflict(self):
        """A device whose edit lost against one of psql."""
        unit = self.new_unit(view="none")
        a = self.device("a")
        self.settle()
        a.stop()
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET view = 'garden' WHERE id = %s", unit)
        a.start()
        self.settle()
        return a, unit

    def refused(self):
        """A device whose new contact has an address that another has, and its key and change-set."""
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a")
        self.settle()
        key = str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email, tags) VALUES (?, 'Bad', 'ONE@example.com', ?)", key, '["%s"]' % ("é" * 300))
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        return a, key, a.value("SELECT number FROM ferry_rejected")

    def state(self, a, table):
        return [a.sql("SELECT * FROM %s ORDER BY id" % t) for t in (table, "ferry_conflict", "ferry_rejected", "ferry_repair")] + \
            [a.value("SELECT count(*) FROM ferry_log WHERE op & 7 IN (1, 2, 3)")]

    # ---- on a device

    def test_either_side_of_a_conflict_is_shown_as_it_would_be_written(self):
        a, unit = self.conflict()
        (conflict,) = a.json("conflicts")
        self.assertEqual(conflict["winner"], "hub")
        before = self.state(a, "units")
        dry = a.json("conflicts", "put-back", conflict["id"], "--dry-run")
        self.assertEqual(dry["writes"], [{"table": "units", "key": unit, "op": "update", "column": "view", "before": "garden", "after": "sea"}])
        self.assertEqual((dry["done"], dry["left_out"]), (False, 0))
        self.assertEqual(a.json("conflicts", "take-theirs", conflict["id"], "--dry-run")["writes"], [])  # it stands already
        self.assertEqual(a.json("conflicts", "dismiss", conflict["id"], "--dry-run")["writes"], [])
        self.assertIn("  units %s view: garden -> sea\n" % unit, a.run("conflicts", "put-back", conflict["id"], "--dry-run").stdout)
        self.assertEqual(self.state(a, "units"), before)

    def test_a_row_that_a_deletion_took_is_shown_whole(self):
        unit = self.new_unit(code="BACK-1", view="none", floor=7)
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        b.stop()
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("DELETE FROM units WHERE id = ?", unit)
        for d in (a, b):
            d.start()
            self.settle(d)
        number = b.value("SELECT id FROM ferry_conflict WHERE kind = 'delete_update' AND \"column\" = 'view'")
        dry = columns(b.json("conflicts", "take-theirs", number, "--dry-run"))
        self.assertEqual((dry["view"], dry["floor"], dry["code"]), (("insert", None, "sea"), ("insert", None, "7"), ("insert", None, "BACK-1")))
        (conflict,) = [c["id"] for c in self.hub.json("conflict", "list", "--tenant", self.tenant) if c["column"] == "view"]
        dry = columns(self.hub.json("conflict", "resolve", conflict, "--take", "hub", "--dry-run"))
        self.assertEqual((dry["view"], dry["floor"], dry["code"]), (("insert", None, "sea"), ("insert", None, "7"), ("insert", None, "BACK-1")))
        b.json("conflicts", "take-theirs", number)
        self.settle()
        self.assertEqual(self.site.sql("SELECT code, view, floor FROM inventory.units WHERE id = %s", unit), [("BACK-1", "sea", 7)])
        self.assert_same()

    def test_a_retry_is_shown_with_the_values_that_are_set_and_left_out_and_cut_where_they_are_long(self):
        a, key, number = self.refused()
        before = self.state(a, "contacts")
        dry = columns(a.json("rejected", "retry", number, "--set", "email=two@example.com", "--dry-run"))
        self.assertEqual((dry["email"], dry["full_name"]), (("insert", None, "two@example.com"), ("insert", None, "Bad")))
        self.assertEqual(dry["tags"][2], '["' + "é" * 99 + "...")
        self.assertEqual(columns(a.json("rejected", "retry", number, "--without", "email", "--dry-run")).keys() & {"email", "full_name"}, {"full_name"})
        self.assertIn("  contacts %s full_name: NULL -> Bad\n" % key, a.run("rejected", "retry", number, "--dry-run").stdout)
        self.assertEqual(a.json("rejected", "discard", number, "--dry-run")["writes"], [])
        self.assertEqual(self.state(a, "contacts"), before)

    def test_a_repair_that_cannot_be_done_says_so_in_its_dry_run(self):
        a, unit = self.conflict()
        (conflict,) = a.json("conflicts")
        a.sql("DELETE FROM units WHERE id = ?", unit)
        self.settle()
        with self.assertRaises(CommandFailed) as failed:
            a.json("conflicts", "put-back", conflict["id"], "--dry-run")
        self.assertEqual(failed.exception.error["code"], "NOT_FOUND")
        self.assertEqual((len(a.json("conflicts")), a.sql("SELECT * FROM ferry_repair")), (1, []))

    # ---- at the hub

    def test_a_resolution_is_shown_as_it_would_be_written_at_the_hub(self):
        _, unit = self.conflict()
        (conflict,) = self.hub.json("conflict", "list", "--tenant", self.tenant)
        stands = self.site.value("SELECT view FROM inventory.units WHERE id = %s", unit)
        dry = self.hub.json("conflict", "resolve", conflict["id"], "lake", "--take", "value", "--dry-run")
        self.assertEqual(dry["writes"], [{"table": "inventory.units", "key": unit, "op": "update", "column": "view", "before": stands, "after": "lake"}])
        self.assertIn("  inventory.units %s view: %s -> lake\n" % (unit, stands),
                      self.hub.run("conflict", "resolve", conflict["id"], "lake", "--take", "value", "--dry-run").stdout)
        self.assertEqual(self.hub.json("conflict", "resolve", conflict["id"], "--take", conflict["winner"], "--dry-run")["writes"], [])
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", unit), stands)

    def test_a_requeue_is_shown_against_what_stands(self):
        a, key, number = self.refused()
        ident = "%s/%d" % (a.id, number)
        dry = self.hub.json("rejected", "requeue", ident, "--dry-run")
        self.assertEqual((dry["rows"], dry["done"], dry["left_out"]), (1, False, 0))
        self.assertEqual({(w["table"], w["key"], w["op"]) for w in dry["writes"]}, {("crm.contacts", key, "insert")})
        self.assertEqual((columns(dry)["email"], columns(dry)["full_name"]), (("insert", None, "ONE@example.com"), ("insert", None, "Bad")))
        self.assertIn("  crm.contacts %s full_name: NULL -> Bad\n" % key, self.hub.run("rejected", "requeue", ident, "--dry-run").stdout)
        self.assertEqual(self.site.value("SELECT count(*) FROM crm.contacts WHERE id = %s", key), 0)
        self.assertEqual(len(self.hub.json("rejected", "list", "--tenant", self.tenant)), 1)

    def test_a_requeue_shows_only_values_that_differ_however_they_are_written(self):
        maker = str(self.site.value("INSERT INTO crm.contacts (tenant_id, full_name) VALUES (%s, 'Maker') RETURNING id", self.tenant))
        part = str(self.site.value("INSERT INTO stock.parts (tenant_id, code) VALUES (%s, 'good') RETURNING id", self.tenant))
        a = self.device("a", scopes=["tenant"])
        self.settle()
        long = "\u00e9" * 5000
        a.sql("UPDATE parts SET made_by = ?, made_at = '2026-03-01T12:34:56.500000Z', made_on = '2026-03-01', price = '12.5', weight = 0.1, "
              "more = '{\"b\":1, \"a\":[1.50]}', tags = '[\"x\",null]', photo = x'00ff', note = ?, code = 'bad' WHERE id = ?",
              maker, long, part)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        ident = "%s/%d" % (a.id, a.value("SELECT number FROM ferry_rejected"))
        self.site.sql("UPDATE stock.parts SET made_by = %s, made_at = '2026-03-01 12:34:56.5Z', made_on = '2026-03-01', price = 12.50, weight = 0.1, "
                      "more = '{\"a\": [1.50], \"b\": 1}', tags = '{x,NULL}', photo = '\\x00ff', note = %s WHERE id = %s", maker, long, part)
        self.assertEqual(columns(self.hub.json("rejected", "requeue", ident, "--dry-run")), {"code": ("update", "good", "bad")})
        self.site.sql("UPDATE stock.parts SET price = 12.51, made_at = '2026-03-01 12:34:57Z', more = '{}', made_by = NULL, note = %s WHERE id = %s",
                      long[:-1], part)
        dry = columns(self.hub.json("rejected", "requeue", ident, "--dry-run"))
        self.assertEqual(dry.keys(), {"code", "price", "made_at", "more", "made_by", "note"})
        self.assertEqual((dry["price"], dry["made_by"]), (("update", "12.51", "12.50"), ("update", None, maker)))
        values = json.loads(self.hub.json("rejected", "show", ident)["changes"][0]["values"])
        self.assertEqual((values["made_by"], values["photo"]), (maker, "\\x00ff"))
        self.assertIn("refused with", self.hub.run("rejected", "requeue", ident, "--dry-run").stdout)

    def test_a_requeue_that_would_write_nothing_says_so(self):
        part = str(self.site.value("INSERT INTO stock.parts (tenant_id, code) VALUES (%s, 'good') RETURNING id", self.tenant))
        a = self.device("a", scopes=["tenant"])
        self.settle()
        a.sql("UPDATE parts SET code = 'bad' WHERE id = ?", part)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        ident = "%s/%d" % (a.id, a.value("SELECT number FROM ferry_rejected"))
        self.site.sql("ALTER TABLE stock.parts DROP CONSTRAINT parts_code_check")
        self.addCleanup(self.site.sql, "ALTER TABLE stock.parts ADD CONSTRAINT parts_code_check CHECK (code <> 'bad') NOT VALID")
        self.site.sql("UPDATE stock.parts SET code = 'bad' WHERE id = %s", part)
        self.assertEqual(self.hub.json("rejected", "requeue", ident, "--dry-run")["writes"], [])
        self.assertIn("What stands has all their values.", self.hub.run("rejected", "requeue", ident, "--dry-run").stdout)


if __name__ == "__main__":
    unittest.main()
