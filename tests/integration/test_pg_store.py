#!/usr/bin/python3
# ferry-test: asan long
"""The hub's store on a real PostgreSQL: each case of tests/pg_store on a
database of its own."""

import os
import subprocess
import unittest

import ferry_pg

BUILD = os.environ.get("FERRY_BUILD") or os.path.join(ferry_pg.SOURCE, "build", "release")
DRIVER = os.path.join(BUILD, "bin", "pg-store-driver")
TABLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pg_store.sql")


class PgStore(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ferry_pg.Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.template = cls.cluster.database(parts=("engine",), name="store")
        with open(TABLES, encoding="utf-8") as f:
            cls.template.query(f.read())
        cls.cluster.forget("store")

    def run_case(self, name):
        database = "case_" + name.lower()[:50]
        conn = self.cluster.connect()
        try:
            conn.autocommit = True
            with conn.cursor() as cur:
                cur.execute("CREATE DATABASE %s TEMPLATE store" % database)
        finally:
            conn.close()
        db = ferry_pg.Database(self.cluster, database)
        done = subprocess.run([DRIVER, name, db.dsn(), db.dsn("postgres")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, "\n" + done.stdout)
        # Nothing is left of any transaction, and all capture is right.
        self.assertEqual(db.query("SELECT count(*) FROM ferry.dirty"), [(0,)])
        self.assertEqual(db.query("SELECT count(*) FROM ferry.declared"), [(0,)])
        self.assertEqual(db.query("SELECT * FROM ferry.verify(false)"), [])


def add_case(name):
    def test(self):
        self.run_case(name)

    setattr(PgStore, "test_" + name, test)


for case in subprocess.run([DRIVER, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split():
    add_case(case)

if __name__ == "__main__":
    unittest.main()
