#!/usr/bin/python3
"""What the hub knows of its devices, and what checksums do about a damaged replica."""

import contextlib
import unittest

from ferry_run import SiteCase, wait_until


class Fleet(SiteCase):

    def listed(self, device):
        return next(d for d in self.hub.json("device", "list") if d["id"] == device.id)

    # ---- the list of devices

    def test_list_shows_the_bookmark_that_a_connected_device_has_confirmed(self):
        a = self.device("a", settings={"link.ping_interval": "200ms"})
        self.settle()
        self.new_unit()
        self.settle()
        wait_until(lambda: self.listed(a)["bookmark"] >= self.hub.head(self.tenant), 20, "the bookmark in the list")
        self.assertIsNotNone(self.listed(a)["last_seen"])

    def test_list_shows_the_bookmark_after_the_end_of_a_session(self):
        a = self.device("a", settings={"link.ping_interval": "1h"}, start=False)
        self.new_unit()
        a.sync()
        wait_until(lambda: self.listed(a)["bookmark"] >= self.hub.head(self.tenant), 20, "the bookmark in the list")

    # ---- device classes

    def test_device_class_of_the_profile_is_told_at_enrolment(self):
        a = self.device("a", settings={"device_class": "tablet-arm64"}, start=False)
        self.assertEqual(self.listed(a)["class"], "tablet-arm64")

    def test_device_class_given_with_the_token_counts_more(self):
        a = self.device("a", settings={"device_class": "tablet-arm64"}, start=False, class_="kiosk")
        self.assertEqual(self.listed(a)["class"], "kiosk")

    def test_device_class_that_is_no_name_is_refused(self):
        with self.assertRaisesRegex(RuntimeError, "BAD_REQUEST"):
            self.device("a", settings={"device_class": "'a b'"}, start=False)

    # ---- R21

    def corrupt(self, device, statement, *args):
        """Writes past the triggers, as a damaged file or a meddling program would."""
        with contextlib.closing(device.connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'units'").fetchall()
            for name, _ in triggers:
                db.execute('DROP TRIGGER "%s"' % name)
            self.assertEqual(db.execute(statement, args).rowcount, 1)
            for _, sql in triggers:
                db.execute(sql)
            db.execute("COMMIT")

    def mismatches(self, device):
        return device.status()["mismatches"]

    def test_R21_a_corrupt_value_raises_an_alarm_and_is_repaired_with_unsent_edits_kept(self):
        unit, other = self.new_unit(view="sea"), self.new_unit(code="A-2", floor=1)
        a = self.device("a")
        self.settle()
        since = self.hub.log_size()
        self.corrupt(a, "UPDATE units SET view = 'rot' WHERE id = ?", unit)
        a.sql("UPDATE units SET floor = 2 WHERE id = ?", other)
        self.site.sql("UPDATE inventory.units SET view = 'garden' WHERE id = %s", unit)
        wait_until(lambda: [c for c in a.status()["checksums"] if c["healed_at"]], 40, "alarm and repair")
        found = a.status()["checksums"][0]
        self.assertEqual((found["table"], found["what"], found["tries"]), ("units", "column view", 1))
        self.assertEqual(self.mismatches(a), 0)
        self.hub.wait_log("event=compare", since=since)
        self.settle()
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", unit), "garden")
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", other), 2)
        self.assert_same()

    def test_R21_verify_finds_what_nobody_changed_since_and_the_next_contact_repairs_it(self):
        unit = self.new_unit(view="sea")
        a = self.device("a")
        self.settle()
        self.assertTrue(a.json("verify")["match"])  # beside the running agent
        a.stop()
        self.assertTrue(a.json("verify")["match"])
        self.corrupt(a, "UPDATE units SET view = 'rot' WHERE id = ?", unit)
        done = a.run("verify")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("units: column view", done.stderr)
        self.assertEqual(self.mismatches(a), 1)
        self.assertIn("units: column view", a.run("status").stdout)
        a.start()
        wait_until(lambda: self.mismatches(a) == 0, 40, "the repair")
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", unit), "sea")
        self.settle()
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
