#!/usr/bin/python3
"""ferry-hub migrate: each file once, whole, in order; never over a changed one."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import unittest

import ferry_pg
import ferry_run

HUB = ferry_run.program("ferry-hub")


class Migrate(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.cluster = ferry_pg.Cluster()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def setUp(self):
        self.db = self.cluster.database(())
        self.folder = tempfile.mkdtemp(prefix="ferry-migrate-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.sql = os.path.join(self.folder, "sql")

    def run_hub(self, *arguments):
        return subprocess.run([HUB, *arguments, "--database", self.db.dsn("postgres"), "--state-dir", self.folder, "--json"],
                              capture_output=True, text=True, timeout=120, check=False)

    def migrate(self, *arguments, code=0):
        done = self.run_hub("migrate", "--sql", self.sql, *arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def copy(self):
        shutil.copytree(ferry_pg.SQL, self.sql)

    def write(self, name, text):
        path = os.path.join(self.sql, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def ledger(self):
        return self.db.query("SELECT part, number FROM ferry.migration ORDER BY part, number")

    def test_empty_database_gets_everything_once(self):
        self.copy()
        files = [(part, n) for part in ("engine", "model") for n, _, _ in ferry_pg.migrations(part)]
        self.assertTrue(all(m["state"] == "pending" for m in self.migrate("--dry-run")))
        self.assertIsNone(self.db.value("SELECT to_regnamespace('ferry')"))
        self.assertEqual(self.migrate()["applied"], len(files))
        self.assertEqual(self.ledger(), files)
        self.assertEqual(self.migrate()["applied"], 0)
        self.assertTrue(all(m["state"] == "applied" for m in self.migrate("--dry-run")))

    def test_failing_file_leaves_no_trace_and_those_before_it_stay(self):
        self.copy()
        self.migrate()
        self.write("model/0900_good.sql", "CREATE TABLE public.good (id int);")
        self.write("model/0901_bad.sql", "CREATE TABLE public.half (id int);\nSELECT 1;\nSELECT nonsense FROM nowhere;\n")
        error = self.migrate(code=1)["error"]
        self.assertIn("0901_bad.sql", error["sentence"])
        self.assertIn("nowhere", error["sentence"])
        self.assertIsNotNone(self.db.value("SELECT to_regclass('public.good')"))
        self.assertIsNone(self.db.value("SELECT to_regclass('public.half')"))
        self.write("model/0901_bad.sql", "CREATE TABLE public.half (id int);")
        self.assertEqual(self.migrate()["applied"], 1)

    def test_changed_file_is_refused_before_anything_is_done(self):
        self.copy()
        self.migrate()
        self.write("model/0900_new.sql", "CREATE TABLE public.new (id int);")
        with open(os.path.join(self.sql, "engine", "0001_tables.sql"), "a", encoding="utf-8") as f:
            f.write("-- a harmless word\n")
        error = self.migrate(code=1)["error"]
        self.assertEqual(error["code"], "CORRUPT")
        self.assertIn("0001_tables.sql", error["sentence"])
        self.assertIsNone(self.db.value("SELECT to_regclass('public.new')"))
        self.assertIn("changed", {m["state"] for m in self.migrate("--dry-run")})

    def test_database_of_a_newer_hub_is_shown_as_such(self):
        self.copy()
        self.migrate()
        self.db.query("INSERT INTO ferry.migration (part, number, name, sha256) VALUES ('model', 999, '0999_later.sql', '')")
        self.assertIn(("0999_later.sql", "missing"), {(m["name"], m["state"]) for m in self.migrate("--dry-run")})

    def test_several_hubs_that_migrate_at_once_wait_for_each_other(self):
        self.copy()
        results = []
        threads = [threading.Thread(target=lambda: results.append(self.run_hub("migrate", "--sql", self.sql))) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual([r.returncode for r in results], [0, 0, 0], [r.stderr for r in results])
        self.assertEqual(sorted(json.loads(r.stdout)["applied"] for r in results)[:2], [0, 0])

    def test_folder_without_migrations_is_named(self):
        os.makedirs(self.sql)
        done = self.run_hub("migrate", "--sql", self.sql)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.sql, done.stderr)

    def test_hub_refuses_a_database_that_is_not_migrated(self):
        done = subprocess.run([HUB, "serve", "--database", self.db.dsn("postgres"), "--state-dir", self.folder],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("ferry-hub migrate", done.stderr)

    def test_hub_refuses_a_role_that_row_level_security_does_not_hold(self):
        self.copy()
        self.migrate()
        done = subprocess.run([HUB, "serve", "--database", self.db.dsn("postgres"), "--state-dir", self.folder],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("[CONFIG]", done.stderr)
        self.assertIn("ferry_hub", done.stderr)

    def test_hub_refuses_a_server_that_may_lose_what_it_confirmed(self):
        self.copy()
        self.migrate()
        done = subprocess.run([HUB, "serve", "--database", self.db.dsn(), "--state-dir", self.folder],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("fsync", done.stderr)


if __name__ == "__main__":
    unittest.main()
