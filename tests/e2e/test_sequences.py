#!/usr/bin/python3
"""Numbers for people on real devices (policy `sequence`, docs/merge.md): leased ranges that are
given offline, and numbers that the hub assigns."""

import contextlib
import json
import os
import shutil
import sqlite3
import unittest
import uuid

from ferry_run import SiteCase, wait_until


class Sequences(SiteCase):

    def lead(self, device, name, number=None):
        key = str(uuid.uuid4())
        device.sql("INSERT INTO leads (id, source_code, number) VALUES (?, ?, ?)", key, name, number)
        return key

    def number(self, key):
        return self.site.value("SELECT number FROM crm.leads WHERE id = %s", key)

    def stocked(self, label, at_least=50):
        """A device that has its ranges."""
        device = self.device(label, scopes=["tenant"])
        self.settle(device)
        wait_until(lambda: (device.value("SELECT available FROM ferry_number") or 0) >= at_least, 30, "a range of numbers")
        return device

    def test_numbers_are_given_offline_and_no_number_twice_by_devices_and_psql(self):
        a, b = self.stocked("a"), self.stocked("b")
        a.stop()
        b.stop()
        keys = [self.lead(d, "L%d" % i) for d in (a, b) for i in range(5)]
        here = a.value("SELECT number FROM leads WHERE id = ?", keys[0])
        self.assertRegex(here, r"^L-\d{6}$")
        for _ in range(3):
            keys.append(str(self.site.value("INSERT INTO crm.leads (tenant_id, source_code) VALUES (%s, 'S') RETURNING id", self.tenant)))
        a.start()
        b.start()
        self.settle()
        numbers = [self.number(k) for k in keys]
        self.assertEqual(len(set(numbers)), 13)
        self.assertEqual(numbers[0], here)
        self.assertEqual(a.sql("SELECT * FROM ferry_rejected") + b.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.lease_use WHERE tenant_id = %s", self.tenant), 10)
        self.assert_same()

    def test_a_low_stock_is_filled_and_a_used_up_one_leaves_the_number_to_the_hub(self):
        a = self.stocked("a")
        a.stop()
        with a.transaction() as db:
            for i in range(60):
                db.execute("INSERT INTO leads (source_code) VALUES (?)", ("P%d" % i,))
        self.assertEqual(a.sql("SELECT count(*), count(number), count(DISTINCT number) FROM leads"), [(60, 50, 50)])
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT count(number), count(DISTINCT number) FROM leads"), [(60, 60)])
        wait_until(lambda: (a.value("SELECT available FROM ferry_number") or 0) >= 50, 30, "the next range")
        self.assertEqual(a.sql("SELECT sentence FROM ferry_rejected"), [])
        self.assert_same()

    def numbers(self):
        """Of all leads at the hub."""
        return [n for n, in self.site.sql("SELECT number FROM crm.leads WHERE tenant_id = %s", self.tenant)]

    def refused_number(self, device, key):
        """The number that a device gave to a row, and the hub refused for it; it says whose it is."""
        (name, sentence, values), = device.sql('SELECT name, sentence, "values" FROM ferry_rejected WHERE key = ?', key)
        number = json.loads(values)["number"]
        self.assertEqual(name, "NUMBER")
        self.assertIn('"%s" was given before' % number, sentence)
        return number

    def retry_without_number(self, device, key):
        device.json("rejected", "retry", device.value("SELECT number FROM ferry_rejected WHERE key = ?", key), "--without", "number")
        self.settle(device)
        self.assertEqual(device.sql("SELECT * FROM ferry_rejected"), [])

    def test_R19_a_device_restored_from_a_backup_gives_no_number_twice_once_it_is_released(self):
        a = self.stocked("a")
        a.stop()
        shutil.copytree(a.state, self.site.folder + "/backup", ignore=shutil.ignore_patterns("run"))
        a.start()
        firsts = [self.lead(a, "before %d" % i) for i in range(3)]
        self.settle(a)
        a.stop()
        shutil.rmtree(a.state)
        shutil.copytree(self.site.folder + "/backup", a.state)
        again = self.lead(a, "again")  # it has not met the hub yet, and cannot know
        a.start()
        self.assertNotEqual(a.wait_exit(30), 0)
        self.assertIn("CLONE", a.log_text())
        self.hub.json("device", "release", a.id)
        a.start()
        self.settle(a)
        self.assertEqual(self.refused_number(a, again), self.number(firsts[0]))
        self.assertIsNone(self.number(again))
        # The ranges of before are given up: the next numbers are the hub's, or of a new range.
        wait_until(lambda: (a.value("SELECT available FROM ferry_number") or 0) >= 50, 30, "a new range")
        nexts = [self.lead(a, "after %d" % i) for i in range(3)]
        self.retry_without_number(a, again)
        self.assertEqual(len(set(self.numbers())), 7)
        self.assertNotIn(None, [self.number(k) for k in [again, *nexts]])
        self.assertEqual([a.value("SELECT number FROM leads WHERE id = ?", k) for k in nexts], [self.number(k) for k in nexts])
        self.assert_same()

    def test_R19_a_device_put_back_within_one_contact_gives_no_number_twice(self):
        a = self.stocked("a")
        with contextlib.closing(sqlite3.connect(a.replica)) as db, contextlib.closing(sqlite3.connect(a.replica + ".old")) as old:
            db.backup(old)
        firsts = [self.lead(a, "before %d" % i) for i in range(3)]
        self.settle(a)
        a.kill9()
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(a.replica + suffix)
        os.replace(a.replica + ".old", a.replica)
        self.assertEqual(a.value("SELECT count(*) FROM leads"), 0)
        a.start()  # nothing was written since, so nothing of its own stands under a number that was used
        wait_until(lambda: a.value("SELECT count(*) FROM leads") == 3, 30, "what the lost file had pushed")
        wait_until(lambda: (a.value("SELECT available FROM ferry_number") or 0) >= 50, 30, "a new range")
        nexts = [self.lead(a, "after %d" % i) for i in range(3)]
        self.settle(a)
        self.assertEqual(a.sql("SELECT sentence FROM ferry_rejected"), [])
        self.assertEqual(len({self.number(k) for k in firsts + nexts}), 6)
        self.assert_same()

    def test_a_number_of_nobodys_range_is_refused_and_a_given_one_stays(self):
        a = self.stocked("a")
        bad = self.lead(a, "typed", "L-999999")
        good = self.lead(a, "given")
        self.settle()
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("NUMBER", bad)])
        self.assertIn("none of the numbers that this device may give", a.value("SELECT sentence FROM ferry_rejected"))
        with self.assertRaisesRegex(sqlite3.IntegrityError, "is given once and stays"):
            a.sql("UPDATE leads SET number = 'L-000000' WHERE id = ?", good)
        number = self.number(good)
        a.sql("INSERT OR REPLACE INTO leads (id, source_code) VALUES (?, 'replaced')", good)
        self.settle()
        self.assertEqual((a.value("SELECT number FROM leads WHERE id = ?", good), self.number(good)), (number, number))
        self.assert_same()

    def test_R19_skipped_numbers_are_taken_from_whoever_comes_with_them_and_not_leased_again(self):
        a = self.stocked("a")
        a.stop()
        keys = [self.lead(a, "P%d" % i) for i in range(3)]
        # The hub that comes back knows nothing of what it leased, and its sequence has gone back.
        self.assertGreaterEqual(self.site.value("SELECT ferry.skip_leases()"), 1000)
        skipped, = self.site.sql("SELECT min(first), max(last) FROM ferry.lease WHERE device_id IS NULL AND tenant_id = %s", self.tenant)
        self.assertGreater(skipped[0], 50)
        b = self.stocked("b")
        mine, = b.sql("SELECT min(first), max(last) FROM ferry_lease")
        self.assertGreater(mine[0], skipped[1])
        taken = self.lead(b, "skipped", "L-%06d" % skipped[0])
        twice = self.lead(b, "twice", "L-%06d" % skipped[0])
        a.start()
        self.settle()
        self.assertEqual(self.number(taken), "L-%06d" % skipped[0])
        self.assertEqual(b.sql("SELECT name, key FROM ferry_rejected"), [("NUMBER", twice)])
        self.assertEqual(len({self.number(k) for k in keys}), 3)
        self.assert_same()

    def test_gap_free_numbers_are_assigned_when_accepted_and_come_back(self):
        a, b = self.device("a", scopes=["tenant"]), self.device("b", scopes=["tenant"])
        self.site.sql("SELECT ferry.policy('crm.companies', 'website', 'sequence', '{\"sequence\": \"CONTRACT\"}')")
        self.settle()
        a.sql("INSERT INTO companies (name) VALUES ('one')")
        b.sql("INSERT INTO companies (name) VALUES ('two')")
        with a.transaction() as db:  # refused, so its number is given to somebody else
            db.execute("INSERT INTO companies (name) VALUES ('bad')")
            db.execute("INSERT INTO contacts (full_name, company_id) VALUES ('nobody''s', ?)", (str(uuid.uuid4()),))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('bad')")
        self.settle()
        self.site.sql("INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'three')", self.tenant)
        self.settle()
        self.assertEqual(b.sql("SELECT name, sentence FROM ferry_rejected"), [])
        self.assertEqual(a.sql("SELECT DISTINCT name, note FROM ferry_rejected"), [("FOREIGN_KEY", "bad")])
        numbers = sorted(n for n, in self.site.sql("SELECT website FROM crm.companies WHERE tenant_id = %s", self.tenant))
        self.assertEqual([n[-6:] for n in numbers], ["000001", "000002", "000003"])
        self.assertEqual(sorted(n for n, in b.sql("SELECT website FROM companies")), numbers)
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
