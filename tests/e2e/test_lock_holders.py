#!/usr/bin/python3
"""R12: rows that somebody's open transaction holds wait alone, and the operator learns whose it is."""

import contextlib
import unittest

from ferry_run import SiteCase, wait_until


class LockHolders(SiteCase):

    def held(self, unit):
        """A psql-like session that holds the row."""
        conn = self.db.connect()
        with conn.cursor() as cur:
            cur.execute("SET application_name = 'month end'")
            conn.commit()
            cur.execute("UPDATE inventory.units SET view = 'held' WHERE id = %s", (unit,))
        return contextlib.closing(conn)

    def holders(self):
        return self.hub.json("status")["lock_holders"]

    def test_R12_status_names_who_holds_rows_that_change_sets_wait_for(self):
        unit = self.new_unit(floor=0)
        a = self.device("a")
        self.settle()
        self.assertEqual(self.holders(), [])
        with self.held(unit) as conn:
            a.sql("UPDATE units SET floor = 1 WHERE id = ?", unit)
            wait_until(lambda: self.hub.status()["database"]["held_back"] > 0, 30, "a change-set that waits")
            wait_until(self.holders, 30, "a transaction that is open for a while")
            holder, = self.holders()
            self.assertEqual((holder["pid"], holder["application"], holder["state"]), (conn.info.backend_pid, "month end", "idle in transaction"))
            self.assertEqual(holder["role"], "postgres")
            self.assertIn("inventory.units", holder["tables"].split(", "))
            said = self.hub.run("status").stdout
            self.assertIn("wait for them", said)
            self.assertIn("month end", said)
            conn.rollback()
        self.settle()
        self.assertEqual(self.holders(), [])
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 1)

    def test_who_only_reads_or_is_a_hub_is_not_named(self):
        self.new_unit()
        with contextlib.closing(self.db.connect()) as conn, conn.cursor() as cur:
            cur.execute("SELECT count(*) FROM inventory.units")
            self.assertEqual(self.site.sql("SELECT * FROM ferry.lock_holders()"), [])
            cur.execute("SET application_name = 'ferry-hub'")
            cur.execute("SELECT FROM inventory.units FOR UPDATE")
            self.assertEqual(self.site.sql("SELECT * FROM ferry.lock_holders()"), [])
            cur.execute("SET application_name = 'other'")
            self.assertEqual(self.site.sql("SELECT application, tables FROM ferry.lock_holders()"), [("other", ["inventory.units"])])
            conn.rollback()

    def test_the_hub_s_role_sees_since_when_others_are_open(self):
        unit = self.new_unit()
        with self.held(unit) as conn, contextlib.closing(self.db.connect("ferry_hub")) as hub, hub.cursor() as cur:
            cur.execute("SELECT pid, since IS NOT NULL, state FROM ferry.lock_holders()")
            self.assertEqual(cur.fetchall(), [(conn.info.backend_pid, True, "idle in transaction")])
            cur.execute("SELECT count(*) FROM ferry.doctor()")
            conn.rollback()

    def test_a_prepared_transaction_has_its_name_instead_of_a_process(self):
        unit = self.new_unit()
        with contextlib.closing(self.db.connect()) as conn:
            name = conn.xid(1, "held", "x")
            conn.tpc_begin(name)
            conn.cursor().execute("UPDATE inventory.units SET view = 'held' WHERE id = %s", (unit,))
            conn.tpc_prepare()
            (pid, role, state), = self.site.sql("SELECT pid, role, state FROM ferry.lock_holders()")
            self.assertEqual((pid, role), (None, "postgres"))
            self.assertTrue(state.startswith("prepared as "), state)
            conn.tpc_rollback()
        self.assertEqual(self.site.sql("SELECT * FROM ferry.lock_holders()"), [])

    def test_status_says_null_where_the_database_is_away(self):
        with contextlib.ExitStack() as back:
            back.callback(self.hub.configure, admin_database=self.hub.settings["admin_database"])
            self.hub.configure(admin_database="host=/nowhere")
            self.assertIsNone(self.holders())


if __name__ == "__main__":
    unittest.main()
