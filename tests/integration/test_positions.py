#!/usr/bin/python3
"""Positions: total and in commit order for each tenant, one a transaction."""

import threading
import unittest

import psycopg2.errors

import ferry_pg
from ferry_case import NOBODY, HubCase, run

ADD = "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'c')"


class Positions(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()

    def pid(self, conn):
        return conn.get_backend_pid()

    def in_thread(self, work):
        thread = threading.Thread(target=work)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def test_R10_one_position_for_a_transaction_of_many_statements(self):
        before = len(self.positions(self.t))
        conn = self.conn()
        for _ in range(20):
            run(conn, ADD, self.t)
        conn.commit()
        self.assertEqual(len(self.positions(self.t)), before + 1)

    def test_R10_one_position_for_each_tenant_of_a_transaction(self):
        others = [self.tenant("t%d" % i) for i in range(5)]
        before = {t: len(self.positions(t)) for t in others}
        conn = self.conn()
        for t in reversed(others):
            run(conn, ADD, t)
        conn.commit()
        for t in others:
            self.assertEqual(len(self.positions(t)), before[t] + 1)
        self.assert_sound()

    def test_R10_transactions_of_the_same_two_tenants_never_deadlock(self):
        other = self.tenant("other")
        before = len(self.positions(other))
        errors = []

        def work(first, second):
            conn = self.db.connect()
            try:
                for _ in range(60):
                    run(conn, ADD, first)
                    run(conn, ADD, second)
                    conn.commit()
            except psycopg2.Error as error:
                errors.append(error)
            finally:
                conn.close()

        threads = [threading.Thread(target=work, args=pair) for pair in ((self.t, other), (other, self.t)) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        self.assertEqual(len(self.positions(other)), before + 240)
        self.assert_sound()

    def test_R10_constraints_made_immediate_keep_one_position(self):
        before = len(self.positions(self.t))
        conn = self.conn()
        run(conn, ADD, self.t)
        run(conn, "SET CONSTRAINTS ALL IMMEDIATE")
        run(conn, ADD, self.t)
        run(conn, "SET CONSTRAINTS ALL DEFERRED")
        run(conn, ADD, self.t)
        conn.commit()
        self.assertEqual(len(self.positions(self.t)), before + 1)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 3)
        self.assertEqual(self.value("SELECT count(DISTINCT tx) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 1)
        self.assert_sound()

    def test_R10_early_end_inside_a_savepoint_is_undone_with_it(self):
        before = len(self.positions(self.t))
        conn = self.conn()
        run(conn, "SAVEPOINT a")
        run(conn, ADD, self.t)
        run(conn, "SET CONSTRAINTS ALL IMMEDIATE")
        run(conn, "ROLLBACK TO a")
        run(conn, ADD, self.t)
        conn.commit()
        self.assertEqual(len(self.positions(self.t)), before + 1)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 1)
        self.assert_sound()

    def test_R10_deferred_trigger_that_fires_later_joins_the_position(self):
        self.sql("CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                 "UPDATE crm.companies SET city = 'Cairo' WHERE id = NEW.id; RETURN NULL; END $$")
        self.sql("CREATE CONSTRAINT TRIGGER zz_late AFTER INSERT ON crm.companies DEFERRABLE INITIALLY DEFERRED "
                 "FOR EACH ROW EXECUTE FUNCTION late()")
        before = len(self.positions(self.t))
        self.sql(ADD, self.t)
        self.assertEqual(len(self.positions(self.t)), before + 1)
        self.assertEqual(self.value("SELECT city FROM crm.companies"), "Cairo")
        self.assert_sound()

    def test_commit_order_is_position_order(self):
        """Who sees a position sees every committed one below it."""
        stop = threading.Event()
        gaps, seen = [], {}

        def write():
            conn = self.db.connect()
            while not stop.is_set():
                run(conn, ADD, self.t)
                conn.commit()
            conn.close()

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        reader = self.conn(autocommit=True)
        highest = 0
        for _ in range(200):
            now = {row[0] for row in run(reader, "SELECT position FROM ferry.commit WHERE tenant_id = %s", self.t)}
            gaps += [p for p in now if p <= highest and p not in seen]
            seen = now
            highest = max(now, default=0)
        stop.set()
        for writer in writers:
            writer.join()
        self.assertEqual(gaps, [])
        self.assert_sound()

    def test_writer_waits_for_the_position_of_its_tenant_only_at_its_end(self):
        first, second = self.conn(), self.conn()
        run(first, ADD, self.t)
        run(first, "SET CONSTRAINTS ALL IMMEDIATE")
        run(second, ADD, self.t)
        thread = self.in_thread(second.commit)
        ferry_pg.wait_blocked(self.db, self.pid(second))
        first.commit()
        thread.join()
        rows = self.sql("SELECT tx FROM ferry.commit WHERE tenant_id = %s ORDER BY position", self.t)
        self.assertEqual(len(rows), len(set(rows)))
        self.assert_sound()

    def test_tenants_do_not_wait_for_each_other(self):
        other = self.tenant("other")
        first, second = self.conn(), self.conn()
        run(first, ADD, self.t)
        run(first, "SET CONSTRAINTS ALL IMMEDIATE")
        run(second, "SET lock_timeout = '5s'")
        run(second, ADD, other)
        second.commit()
        first.commit()
        self.assert_sound()

    def test_repeatable_read_writers_do_not_fail_on_each_other(self):
        conns = [self.conn() for _ in range(3)]
        for conn in conns:
            conn.set_session(isolation_level="REPEATABLE READ")
            run(conn, ADD, self.t)
        for conn in conns:
            conn.commit()
        self.assert_sound()

    def test_prepared_transaction_keeps_its_position_and_doctor_names_it(self):
        conn = self.conn()
        conn.tpc_begin(conn.xid(1, "held", "x"))
        run(conn, ADD, self.t)
        conn.tpc_prepare()
        self.assertIn("warning", [row[0] for row in self.sql("SELECT * FROM ferry.doctor()")])
        waiting = self.conn()
        run(waiting, "SET lock_timeout = '100ms'")
        run(waiting, ADD, self.t)
        with self.assertRaises(psycopg2.errors.LockNotAvailable):
            waiting.commit()
        conn.tpc_commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 1)
        self.assert_sound()

    def test_global_rows_have_positions_of_the_reserved_tenant(self):
        before, mine = self.head(NOBODY), self.head(self.t)
        self.sql("UPDATE inventory.unit_type_codes SET label = 'Flat' WHERE code = 'APT_1BR'")
        self.assertGreater(self.head(NOBODY), before)
        self.assertEqual(self.head(self.t), mine)
        changed = self.changed(NOBODY, before)
        self.assertEqual(list(changed), [("unit_type_codes", "global")])
        self.assert_sound()

    def test_marks_differ_between_positions(self):
        for _ in range(20):
            self.sql(ADD, self.t)
        marks = [row[0] for row in self.sql("SELECT mark FROM ferry.commit")]
        self.assertEqual(len(marks), len(set(marks)))

    def test_changed_gives_each_key_once_and_only_in_the_range(self):
        a = self.value(ADD + " RETURNING id", self.t)
        low = self.head(self.t)
        b = self.value(ADD + " RETURNING id", self.t)
        self.sql("UPDATE crm.companies SET city = 'x' WHERE id = %s", b)
        high = self.head(self.t)
        self.sql("UPDATE crm.companies SET city = 'y' WHERE id = %s", a)
        self.assertEqual(self.changed(self.t, low, high), {("companies", "tenant/contacts.view"): {b}})
        self.assertEqual(self.changed(self.t, low), {("companies", "tenant/contacts.view"): {a, b}})

    def test_changed_after_pruning_is_answered_from_the_versions(self):
        project = self.project(self.t)
        unit = self.unit(self.t, project)
        low = self.head(self.t)
        a = self.value(ADD + " RETURNING id", self.t)
        other = self.project(self.t, "Lake")
        self.sql("UPDATE inventory.units SET project_id = %s", other)
        wanted = self.changed(self.t, low)
        self.value("SELECT ferry.prune_changes(%s, %s)", self.t, self.head(self.t))
        self.assertEqual(self.value("SELECT count(*) FROM ferry.change WHERE tenant_id = %s", self.t), 0)
        self.assertEqual(self.changed(self.t, low), wanted)
        self.assertEqual(wanted, {("companies", "tenant/contacts.view"): {a}, ("projects", "tenant"): {other},
                                  ("units", "project:%s/inventory.view" % project): {unit}, ("units", "project:%s/inventory.view" % other): {unit}})

    def test_tombstones_are_pruned_up_to_a_position(self):
        a, b = (self.value(ADD + " RETURNING id", self.t) for _ in range(2))
        self.sql("DELETE FROM crm.companies WHERE id = %s", a)
        horizon = self.head(self.t)
        self.sql("DELETE FROM crm.companies WHERE id = %s", b)
        self.assertEqual(self.value("SELECT ferry.prune_tombstones(%s, %s)", self.t, horizon), 1)
        self.assertIsNone(self.version("companies", a))
        self.assertTrue(self.version("companies", b)["deleted"])
        self.assertEqual(self.value("SELECT tombstones FROM ferry.horizon WHERE tenant_id = %s", self.t), horizon)

    def test_R21_folded_sums_are_the_same_sums(self):
        project = self.project(self.t)
        self.units(self.t, project, 50)
        self.sql("UPDATE inventory.units SET floor = price_minor")
        self.sql("DELETE FROM inventory.units WHERE price_minor < 10")
        before = self.sql("SELECT * FROM ferry.sums(%s) ORDER BY 1, 2", self.t)
        self.assertGreater(self.value("SELECT ferry.fold_sums()"), 0)
        self.assertEqual(self.sql("SELECT * FROM ferry.sums(%s) ORDER BY 1, 2", self.t), before)
        self.sql("UPDATE inventory.units SET floor = 1 WHERE price_minor = 20")
        self.value("SELECT ferry.fold_sums()")
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
