#!/usr/bin/python3
"""ferry-hub model: what it prints is what the database has."""

import json
import subprocess
import unittest

import ferry_run
from ferry_case import HubCase

HUB = ferry_run.program("ferry-hub")


class ModelCommand(HubCase):
    def model(self, *arguments, user="postgres"):
        return subprocess.run([HUB, "model", *arguments, "--database", self.db.dsn(user), "--state-dir", "/nonexistent"],
                              capture_output=True, text=True, timeout=60, check=False)

    def json(self, *arguments):
        done = self.model(*arguments, "--json")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def test_every_domain_and_table_is_shown_with_its_purpose_and_plan(self):
        shown = self.json()
        tables = {(t["domain"], t["name"]): t for t in shown["tables"]}
        wanted = self.sql("SELECT n.nspname::text, c.relname::text, t.scope, t.write FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                          "AND n.nspowner = 'ferry_owner'::regrole LEFT JOIN ferry.tracked t ON t.relid = c.oid "
                          "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition")
        self.assertEqual({(row[0], row[1]): (row[2] or "hub", {None: None, True: "yes", False: "no"}[row[3]]) for row in wanted},
                         {key: (t["scope"], t["write"]) for key, t in tables.items()})
        self.assertEqual([key for key, t in tables.items() if not t["purpose"]], [])
        self.assertEqual([d["domain"] for d in shown["domains"] if not d["purpose"]], [])
        self.assertEqual({d["domain"]: d["tables"] for d in shown["domains"]},
                         {name: sum(key[0] == name for key in tables) for name in {key[0] for key in tables}})
        text = self.model().stdout
        for _, name in tables:
            self.assertIn(name, text)

    def test_one_table_is_shown_with_its_columns(self):
        table = self.json("inventory.units")
        self.assertEqual((table["name"], table["key"], table["scope"], table["write"], table["replica_name"]),
                         ("inventory.units", "tenant_id, id", "project:project_id", "yes", "units"))
        columns = {c["name"]: c for c in table["columns"]}
        self.assertEqual((columns["project_id"]["refers_to"], columns["project_id"]["required"]), ("inventory.projects", "required"))
        self.assertIn("minor unit", columns["price_minor"]["meaning"])
        self.assertEqual(columns["price_minor"]["sync"], "lww")
        self.assertEqual(table["write_permissions"], "update inventory.edit, insert inventory.create, delete inventory.delete")
        self.assertEqual((columns["price_minor"]["write_permissions"], columns["code"]["write_permissions"]), ("update inventory.price, insert inventory.price", None))
        users = self.json("users")
        self.assertEqual({c["name"]: c["sync"] for c in users["columns"]}["password_hash"], "stays at the hub")
        self.assertIn("DEDICATED_SCHEMA", {c["name"]: c["values"] for c in self.json("tenants")["columns"]}["isolation_level"])
        self.assertIn("price_minor", self.model("units").stdout)

    def test_unknown_and_ambiguous_tables_are_told_apart(self):
        done = self.model("nothing")
        self.assertEqual((done.returncode, "the model has no table nothing" in done.stderr), (1, True))
        done = self.model("deployments")
        self.assertEqual(done.returncode, 2)
        self.assertIn("delivery.deployments and fleet.deployments", done.stderr)
        self.assertEqual(self.json("fleet.deployments")["scope"], "hub")

    def test_rows_are_counted_on_demand(self):
        tenant = self.tenant()
        self.units(tenant, self.project(tenant), 3)
        counts = {(t["domain"], t["name"]): t["rows"] for t in self.json("--counts")}
        self.assertEqual((counts["inventory", "units"], counts["identity", "tenants"], counts["crm", "leads"]), (3, 1, 0))

    def test_empty_database_says_what_to_do(self):
        self.db = self.cluster.database(())
        self.assertIn("ferry-hub migrate", self.model().stderr)


if __name__ == "__main__":
    unittest.main()
