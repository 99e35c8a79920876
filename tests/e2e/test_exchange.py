#!/usr/bin/python3
# ferry-test: quick
"""The main job on real processes: two devices over TLS, psql at the hub, and what becomes of their edits.

"Concurrent" is made by stopping the agents: apps go on writing to the replicas meanwhile.
"""

import os
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid

import psycopg2

from ferry_run import SiteCase, wait_until

FOREIGN_PROGRAM = """
import sqlite3, sys, uuid
db = sqlite3.connect(sys.argv[1], timeout=10)
with db:
    db.execute("UPDATE units SET status = 'reserved', price_minor = price_minor + 1 WHERE code = 'F-1'")
with db:
    company = str(uuid.uuid4())
    db.execute("INSERT INTO companies (id, name) VALUES (?, 'Foreign & Sons')", (company,))
    db.execute("INSERT INTO contacts (id, company_id, full_name) VALUES (?, ?, 'Zoë')", (str(uuid.uuid4()), company))
print(db.execute("SELECT count(*) FROM units").fetchone()[0])
"""


class Exchange(SiteCase):

    def two(self, **columns):
        """A unit that two devices hold; the agents are stopped again: (a, b, unit)."""
        unit = self.new_unit(**columns)
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        b.stop()
        return a, b, unit

    def start(self, *devices):
        """One after the other, so that who comes first is known."""
        for d in devices:
            d.start()
            self.settle(d)
        self.settle(*devices)

    def hub_unit(self, unit, column):
        rows = self.site.sql("SELECT %s FROM inventory.units WHERE id = %%s" % column, unit)
        return rows[0][0] if rows else None

    def conflicts(self, unit):
        """What the hub keeps of a row: {(kind, winner, device's value, hub's value)}."""
        return {(kind, winner, mine, theirs) for kind, winner, mine, theirs in self.site.sql(
            "SELECT kind, winner, device_value, hub_value FROM ferry.conflict WHERE key = %s", unit)}

    # ---- plain exchange

    def test_an_edit_on_each_side_reaches_all_others(self):
        unit = self.new_unit(floor=1)
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
        wait_until(lambda: b.value("SELECT floor FROM units WHERE id = ?", unit) == 2, 20, "a's edit at b")
        self.assertEqual(self.hub_unit(unit, "floor"), 2)
        self.site.sql("UPDATE inventory.units SET floor = 3 WHERE id = %s", unit)
        for d in (a, b):
            wait_until(lambda d=d: d.value("SELECT floor FROM units WHERE id = ?", unit) == 3, 20, "the hub's edit")
        self.settle()
        self.assert_same()
        self.assertEqual(self.conflicts(unit), set())

    def test_a_row_goes_to_every_device_and_its_deletion_too(self):
        a, b = self.device("a"), self.device("b")
        self.settle()
        unit = str(uuid.uuid4())
        a.sql("INSERT INTO units (id, project_id, code, unit_type_code, size_sqm) VALUES (?, ?, 'N-1', 'APT_1BR', '95.5')",
              unit, self.project)
        self.settle()
        self.assertEqual(b.row("units", unit)["size_sqm"], "95.50")  # the column's scale is the hub's
        self.assertEqual(a.row("units", unit), b.row("units", unit))
        self.assertEqual(b.row("units", unit)["tenant_id"], self.tenant)
        b.sql("DELETE FROM units WHERE id = ?", unit)
        self.settle()
        self.assertIsNone(a.row("units", unit))
        self.assertEqual(self.site.value("SELECT count(*) FROM inventory.units WHERE id = %s", unit), 0)
        self.assert_same()

    # ---- concurrent edits

    def test_concurrent_edits_of_one_column_the_later_stands_and_the_other_is_kept(self):
        a, b, unit = self.two(view="none")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("UPDATE units SET view = 'garden' WHERE id = ?", unit)  # later
        self.start(a, b)
        self.assertEqual(self.hub_unit(unit, "view"), "garden")
        self.assertEqual(self.conflicts(unit), {("update_update", "device", "garden", "sea")})
        self.assertEqual(b.sql('SELECT "column", winner, device_value, hub_value, other_device FROM ferry_conflict'),
                         [("view", "device", "garden", "sea", a.id)])
        self.assertEqual(b.json("conflicts")[0]["other_device"], a.id)
        self.assertEqual(str(self.site.value("SELECT other_device_id FROM ferry.conflict WHERE key = %s", unit)), a.id)
        self.assert_same()

    def test_concurrent_edits_the_earlier_comes_last_and_loses_but_is_kept(self):
        a, b, unit = self.two(view="none")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("UPDATE units SET view = 'garden' WHERE id = ?", unit)  # later
        self.start(b, a)
        self.assertEqual(self.hub_unit(unit, "view"), "garden")
        self.assertEqual(self.conflicts(unit), {("update_update", "hub", "sea", "garden")})
        self.assertEqual(a.sql('SELECT "column", winner, device_value, hub_value FROM ferry_conflict'),
                         [("view", "hub", "sea", "garden")])
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", unit), "garden")
        self.assert_same()

    def test_concurrent_edits_of_different_columns_both_stand_without_conflict(self):
        a, b, unit = self.two(view="none", floor=0)
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("UPDATE units SET floor = 9 WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET bedrooms = 4 WHERE id = %s", unit)
        self.start(a, b)
        self.assertEqual(self.site.sql("SELECT view, floor, bedrooms FROM inventory.units WHERE id = %s", unit), [("sea", 9, 4)])
        self.assertEqual(self.conflicts(unit), set())
        self.assert_same()

    def test_an_edit_concurrent_with_psql_is_a_conflict(self):
        a, _, unit = self.two(status="available")
        self.site.sql("UPDATE inventory.units SET status = 'sold' WHERE id = %s", unit)
        a.sql("UPDATE units SET status = 'reserved' WHERE id = ?", unit)  # later
        self.start(a)
        self.assertEqual(self.hub_unit(unit, "status"), "reserved")
        self.assertEqual(self.conflicts(unit), {("update_update", "device", "reserved", "sold")})
        self.assertEqual(a.sql("SELECT other_device FROM ferry_conflict"), [(None,)])  # the hub itself
        self.assert_same(a)

    def test_an_edit_that_has_seen_the_other_is_no_conflict(self):
        a, b, unit = self.two(view="none")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.start(a, b)
        b.sql("UPDATE units SET view = 'garden' WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.hub_unit(unit, "view"), "garden")
        self.assertEqual(self.conflicts(unit), set())
        self.assert_same()

    def test_delete_against_update_the_deletion_stands_and_the_edit_is_kept(self):
        a, b, unit = self.two(view="none")
        a.sql("DELETE FROM units WHERE id = ?", unit)
        b.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.start(a, b)
        self.assertIsNone(self.hub_unit(unit, "id"))
        self.assertIsNone(b.row("units", unit))
        kept = self.conflicts(unit)
        self.assertEqual({(kind, winner, mine) for kind, winner, mine, _ in kept}, {("update_delete", "hub", "sea")})
        self.assert_same()

    def test_update_against_delete_the_deletion_stands_and_all_values_are_kept(self):
        a, b, unit = self.two(view="none", code="GONE-1")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("DELETE FROM units WHERE id = ?", unit)
        self.start(a, b)
        self.assertIsNone(self.hub_unit(unit, "id"))
        kept = self.conflicts(unit)
        self.assertEqual({kind for kind, _, _, _ in kept}, {"delete_update"})
        values = {theirs for _, _, _, theirs in kept if not isinstance(theirs, (dict, list))}
        self.assertLessEqual({"sea", "GONE-1", "APT_1BR"}, values)  # it can be put back whole
        self.assert_same()

    def test_undelete_on_the_deleting_device_brings_the_row_back(self):
        a, b, unit = self.two(view="none")
        row = a.row("units", unit)
        a.sql("DELETE FROM units WHERE id = ?", unit)
        self.start(a, b)
        self.assertIsNone(b.row("units", unit))
        a.sql("INSERT INTO units (id, project_id, code, unit_type_code, view) VALUES (?, ?, ?, ?, 'back')", unit,
              row["project_id"], row["code"], row["unit_type_code"])
        self.settle()
        self.assertEqual(b.value("SELECT view FROM units WHERE id = ?", unit), "back")
        self.assertEqual(self.conflicts(unit), set())
        self.assert_same()

    def test_delete_and_undelete_offline_is_one_row_again(self):
        a, b, unit = self.two(view="none")
        a.sql("DELETE FROM units WHERE id = ?", unit)
        a.sql("INSERT INTO units (id, project_id, code, unit_type_code, view) VALUES (?, ?, 'A-1', 'APT_1BR', 'again')", unit,
              self.project)
        self.start(a, b)
        self.assertEqual(b.value("SELECT view FROM units WHERE id = ?", unit), "again")
        self.assert_same()

    def test_an_edit_of_a_life_that_ended_does_not_touch_the_new_one(self):  # R4
        a, b, unit = self.two(view="none", floor=1)
        a.sql("UPDATE units SET floor = 77 WHERE id = ?", unit)
        self.site.sql("DELETE FROM inventory.units WHERE id = %s", unit)
        self.new_unit(id=unit, floor=2, view="new life")
        self.start(a, b)
        self.assertEqual(self.hub_unit(unit, "floor"), 2)
        self.assertIn(77, [mine for _, _, mine, _ in self.conflicts(unit)])
        self.assert_same()

    # ---- units of change

    def test_a_child_before_its_parent_in_one_transaction_is_accepted(self):
        a, b = self.device("a"), self.device("b")
        self.settle()
        company, contact, lead = (str(uuid.uuid4()) for _ in range(3))
        with a.transaction() as db:
            db.execute("INSERT INTO leads (id, contact_id, company_id) VALUES (?, ?, ?)", (lead, contact, company))
            db.execute("INSERT INTO contacts (id, company_id, full_name) VALUES (?, ?, 'Child')", (contact, company))
            db.execute("INSERT INTO companies (id, name) VALUES (?, 'Parent')", (company,))
        self.settle()
        self.assertEqual(b.row("leads", lead)["contact_id"], contact)
        self.assertEqual(a.value("SELECT count(*) FROM ferry_rejected"), 0)
        self.assert_same()

    def test_children_before_their_parent_in_transactions_of_their_own_offline(self):
        a, b, _ = self.two()
        company, contact = str(uuid.uuid4()), str(uuid.uuid4())
        a.sql("INSERT INTO companies (id, name) VALUES (?, 'First')", company)
        a.sql("INSERT INTO contacts (id, company_id, full_name) VALUES (?, ?, 'Second')", contact, company)
        a.sql("UPDATE contacts SET full_name = 'Third' WHERE id = ?", contact)
        self.start(a, b)
        self.assertEqual(b.row("contacts", contact)["full_name"], "Third")
        self.assert_same()

    def test_ten_thousand_rows_in_one_transaction_come_as_one_state(self):
        a, b = self.device("a"), self.device("b")
        self.settle()
        seen = set()
        stop = threading.Event()

        def watch():
            while not stop.is_set():
                seen.add(b.value("SELECT count(*) FROM units"))
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with a.transaction() as db:
                db.executemany("INSERT INTO units (id, project_id, code, unit_type_code, price_minor, currency) "
                               "VALUES (?, ?, ?, 'APT_1BR', ?, 'EGP')",
                               [(str(uuid.uuid4()), self.project, "B-%d" % i, i) for i in range(10000)])
            self.settle()
        finally:
            stop.set()
            watcher.join()
        seen.add(b.value("SELECT count(*) FROM units"))
        self.assertEqual(seen, {0, 10000})  # P3: never a part of it
        stamps = self.site.sql("SELECT DISTINCT s.tx, s.device_id, s.number FROM ferry.version v JOIN ferry.stamp s ON s.id = v.base_tx "
                               "JOIN ferry.tracked t ON t.tbl = v.tbl WHERE v.tenant_id = %s AND t.replica_name = 'units'", self.tenant)
        self.assertEqual(len(stamps), 1)  # one change-set in one transaction
        with a.transaction() as db:
            db.execute("UPDATE units SET floor = price_minor % 7")
        self.settle()
        with b.transaction() as db:
            db.execute("DELETE FROM units WHERE floor = 3")
        self.settle()
        self.assert_same()

    def test_a_refused_change_set_costs_the_others_nothing(self):  # P6
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a, b, unit = self.two()
        bad, good = str(uuid.uuid4()), str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", bad)
        a.sql("INSERT INTO ferry_tx(note) VALUES ('bad')")
        with a.transaction() as db:
            db.execute("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Good', 'two@example.com')", (good,))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('good')")
        a.sql("UPDATE units SET floor = 4 WHERE id = ?", unit)
        self.start(a, b)
        self.assertEqual(self.hub_unit(unit, "floor"), 4)
        self.assertIsNotNone(b.row("contacts", good))
        self.assertIsNone(a.row("contacts", bad))
        rejected = a.sql("SELECT name, key FROM ferry_rejected")
        self.assertEqual(rejected, [("UNIQUE", bad)])
        self.assert_same()

    def test_a_unique_value_may_be_freed_and_used_again_in_one_change_set(self):
        old = str(self.site.value("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'Old', 'one@example.com') RETURNING id",
                                  self.tenant))
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'Other', 'ONE@example.com') RETURNING id", self.tenant)
        a, b, _ = self.two()
        fresh = str(uuid.uuid4())
        with a.transaction() as db:
            db.execute("DELETE FROM contacts WHERE id = ?", (old,))
            db.execute("INSERT INTO contacts (id, full_name, email) VALUES (?, 'New', 'One@example.com')", (fresh,))
        self.start(a, b)
        self.assertEqual(a.sql("SELECT sentence FROM ferry_rejected"), [])
        self.assertIsNone(b.row("contacts", old))
        self.assertEqual(b.row("contacts", fresh)["email"], "One@example.com")
        self.assertEqual(self.site.sql("SELECT id::text FROM crm.contacts WHERE tenant_id = %s AND email = 'one@example.com'", self.tenant),
                         [(fresh,)])
        self.assert_same()

    # ---- direct writers

    def test_writers_on_both_sides_at_once_lose_nothing(self):
        units = [self.new_unit(code="W-%d" % i, floor=0) for i in range(20)]
        a, b = self.device("a"), self.device("b")
        self.settle()
        rounds, failed = 40, []

        def guarded(work):
            def run():
                try:
                    work()
                except Exception as error:  # shown by the test, not lost in a thread
                    failed.append(repr(error))
            return threading.Thread(target=run)

        def on_device(device, column):
            def work():
                for i in range(rounds):
                    device.sql("UPDATE units SET %s = coalesce(%s, 0) + 1 WHERE id = ?" % (column, column), units[i % len(units)])
                    device.sql("INSERT INTO leads (id, source_code, score) VALUES (?, ?, ?)", str(uuid.uuid4()), device.label, i)
            return work

        def in_psql():
            conn = self.db.connect()
            try:
                with conn.cursor() as cur:
                    for i in range(rounds):
                        cur.execute("UPDATE inventory.units SET bathrooms = coalesce(bathrooms, 0) + 1 WHERE id = %s",
                                    (units[i % len(units)],))
                        cur.execute("INSERT INTO crm.leads (tenant_id, source_code, score) VALUES (%s, 'psql', %s)", (self.tenant, i))
                        conn.commit()
            finally:
                conn.close()
        threads = [guarded(on_device(a, "floor")), guarded(on_device(b, "bedrooms")), guarded(in_psql)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failed, [])
        self.settle()
        sums = self.site.sql("SELECT sum(floor), sum(bedrooms), sum(bathrooms) FROM inventory.units WHERE tenant_id = %s", self.tenant)
        self.assertEqual(sums, [(rounds, rounds, rounds)])
        self.assertEqual(dict(self.site.sql("SELECT source_code, count(*) FROM crm.leads WHERE tenant_id = %s GROUP BY 1", self.tenant)),
                         {a.label: rounds, b.label: rounds, "psql": rounds})
        self.assert_same()

    def test_a_foreign_program_with_ten_lines_drives_the_replica(self):
        unit = self.new_unit(code="F-1", price_minor=100, currency="EGP")
        a, b = self.device("a"), self.device("b")
        self.settle()
        with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
            script.write(FOREIGN_PROGRAM)
            script.flush()
            done = subprocess.run([sys.executable, "-I", script.name, a.replica], capture_output=True, text=True, timeout=60,
                                  check=True, env={"PATH": os.environ["PATH"]})
        self.assertEqual(done.stdout.strip(), "1")
        self.settle()
        self.assertEqual(self.site.sql("SELECT status, price_minor FROM inventory.units WHERE id = %s", unit), [("reserved", 101)])
        self.assertEqual(b.value("SELECT c.name FROM contacts k JOIN companies c ON c.id = k.company_id WHERE k.full_name = 'Zoë'"),
                         "Foreign & Sons")
        # What a trigger of the hub's did is at the devices, too.
        self.assertEqual(b.sql("SELECT price_minor FROM unit_price_history WHERE unit_id = ? ORDER BY effective_at", unit),
                         [(100,), (101,)])
        self.assert_same()

    def test_psql_in_a_long_transaction_holds_up_nothing_but_its_rows(self):
        held, free = self.new_unit(code="H-1", floor=0), self.new_unit(code="H-2", floor=0)
        a, b = self.device("a"), self.device("b")
        self.settle()
        conn = self.db.connect()
        try:
            with conn.cursor() as cur:
                cur.execute("UPDATE inventory.units SET view = 'held' WHERE id = %s", (held,))
                a.sql("UPDATE units SET floor = 1 WHERE id = ?", held)
                a.sql("INSERT INTO ferry_tx(note) VALUES ('held')")
                a.sql("UPDATE units SET floor = 1 WHERE id = ?", free)
                wait_until(lambda: b.value("SELECT floor FROM units WHERE id = ?", free) == 1, 20, "the free row at b")
                self.assertEqual(self.hub_unit(held, "floor"), 0)
            conn.commit()
        finally:
            conn.close()
        self.settle()
        self.assertEqual(self.site.sql("SELECT view, floor FROM inventory.units WHERE id = %s", held), [("held", 1)])
        self.assert_same()

    def test_truncate_of_a_tracked_table_is_refused_with_a_hint(self):
        with self.assertRaises(psycopg2.Error) as caught:
            self.site.sql("TRUNCATE crm.activities")
        self.assertTrue(caught.exception.diag.message_hint)


if __name__ == "__main__":
    unittest.main()
