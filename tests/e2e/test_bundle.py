#!/usr/bin/python3
"""Changes and answers that travel as files: signed, sealed, and taken in once, whatever way they come."""

import os
import unittest

from ferry_run import CommandFailed, SiteCase


class Bundles(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Differences add up: what took effect twice would show.
        cls.site.sql("SELECT ferry.policy('inventory.units', 'floor', 'counter')")

    def file(self, name):
        return os.path.join(self.site.folder, "%s-%s" % (self.tenant[:8], name))

    def export(self, device, name):
        device.json("bundle", "export", self.file(name))
        return self.file(name)

    def refused(self, code, program, *arguments):
        with self.assertRaises(CommandFailed) as failed:
            program.json(*arguments)
        self.assertEqual(failed.exception.error.get("code"), code, failed.exception)

    def standing_of_hub(self):
        return (self.hub.head(self.tenant), self.site.sql("SELECT settled, settled_above FROM ferry.device WHERE tenant_id = %s "
                                                          "ORDER BY id", self.tenant))

    def once(self, device, sets, unit=None, floor=None):
        """Every change-set of the device is settled and accepted, and its counts went in once."""
        self.assertEqual(self.site.sql("SELECT settled, settled_above FROM ferry.device WHERE id = %s", device.id), [(sets, [])])
        # The hub forgets verdicts of acceptance once the device has applied them.
        self.assertEqual(self.site.sql("SELECT number FROM ferry.settled WHERE device_id = %s AND verdict <> 'accepted'", device.id), [])
        if unit:
            self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), floor)

    # ---- the way of a file

    def test_device_without_a_link_is_filled_and_works_by_files_alone(self):
        unit = self.new_unit(view="sea")
        a = self.device("a", start=False)
        asked = self.export(a, "first")
        made = self.hub.json("bundle", "export", asked, self.file("fill"))
        self.assertTrue(made["filled"])
        self.assertTrue(a.json("bundle", "import", self.file("fill"))["filled"])
        self.assert_same()
        a.sql("UPDATE units SET view = 'garden' WHERE id = ?", unit)
        own = a.value("INSERT INTO units (project_id, code, unit_type_code) VALUES (?, 'B-1', 'APT_1BR') RETURNING id", self.project)
        other = self.new_unit(code="C-1")
        sets = a.json("bundle", "export", self.file("work"))["change_sets"]
        taken = self.hub.json("bundle", "import", self.file("work"), "--answer", self.file("answer"))
        self.assertEqual((taken["accepted"], taken["settled_before"], taken["filled"]), (sets, 0, False))
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", unit), "garden")
        self.assertEqual(a.standing()[2], sets)  # until the answer
        self.assertEqual(a.json("bundle", "import", self.file("answer"))["settled"], sets)
        self.assertEqual(a.standing()[1:], (0, 0))
        self.assertEqual({row[0] for row in a.sql("SELECT id FROM units")}, {unit, own, other})
        self.assert_same()
        since = self.hub.log_size()
        a.sync()  # the link goes on from there
        self.hub.wait_log("mode=delta", since=since)
        self.once(a, sets)

    def test_P5_refusal_comes_back_by_file_with_its_values(self):
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'One', 'one@example.com') RETURNING 1", self.tenant)
        a = self.device("a", start=False)
        a.sync()
        a.sql("INSERT INTO contacts (full_name, email) VALUES ('Bad', 'ONE@example.com')")
        taken = self.hub.json("bundle", "import", self.export(a, "b"), "--answer", self.file("answer"))
        self.assertEqual((taken["accepted"], taken["rejected"]), (0, 1))
        a.json("bundle", "import", self.file("answer"))
        self.assertEqual(a.value("SELECT name FROM ferry_rejected"), "UNIQUE")
        self.assertEqual(a.standing()[1:], (0, 0))
        self.assert_same()

    def test_R7_change_set_larger_than_a_message_goes_whole(self):
        self.new_unit()
        a = self.device("a", start=False)
        a.sync()
        with a.transaction() as db:
            db.executemany("INSERT INTO units (project_id, code, unit_type_code) VALUES (?, ?, 'APT_1BR')",
                           [(self.project, "N-%d" % n) for n in range(6000)])
        taken = self.hub.json("bundle", "import", self.export(a, "large"), "--answer", self.file("answer"), timeout=200)
        self.assertEqual((taken["change_sets"], taken["accepted"]), (1, 1))
        self.assertEqual(a.json("bundle", "import", self.file("answer"), timeout=200)["settled"], 1)
        self.assertEqual(a.value("SELECT count(*) FROM units"), 6001)
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.stage WHERE device_id = %s", a.id), 0)
        self.assert_same()

    # ---- once

    def test_P2_bundles_twice_out_of_order_and_beside_the_link_take_effect_once(self):
        unit = self.new_unit(floor=0)
        a = self.device("a", start=False)
        a.sync()
        for _ in range(3):
            a.sql("UPDATE units SET floor = floor + 1 WHERE id = ?", unit)
        early = self.export(a, "early")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        late = self.export(a, "late")
        taken = self.hub.json("bundle", "import", late)
        self.assertEqual(taken["accepted"], taken["change_sets"])
        before = self.standing_of_hub()
        for again in (late, early):
            self.refused("EXISTS", self.hub, "bundle", "import", again)
        self.assertEqual(self.standing_of_hub(), before)
        a.sync()  # brings the verdicts, and the same change-sets once more
        self.assertEqual(a.standing()[1:], (0, 0))
        self.refused("EXISTS", self.hub, "bundle", "import", late)
        self.once(a, taken["change_sets"], unit, 3)
        self.assert_same()

    def test_P2_bundle_that_the_link_overtook_in_part_brings_the_rest(self):
        unit = self.new_unit(floor=0)
        a = self.device("a", start=False)
        a.sync()
        a.sql("UPDATE units SET floor = floor + 1 WHERE id = ?", unit)
        first = self.export(a, "first")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        both = self.export(a, "both")
        self.hub.json("bundle", "import", first)
        taken = self.hub.json("bundle", "import", both, "--answer", self.file("answer"))
        self.assertEqual((taken["change_sets"], taken["settled_before"]), (2, 1))
        self.assertEqual(a.json("bundle", "import", self.file("answer"))["settled"], 2)
        self.once(a, 2, unit, 1)
        self.assert_same()

    def test_P2_bundle_and_link_at_the_same_time(self):
        unit = self.new_unit(floor=0)
        a = self.device("a", start=False)
        a.sync()
        for _ in range(40):
            with a.transaction() as db:
                db.execute("UPDATE units SET floor = floor + 1 WHERE id = ?", (unit,))
                db.execute("INSERT INTO ferry_tx(note) VALUES ('one')")
        bundle = self.export(a, "race")
        a.start()
        done = self.hub.run("bundle", "import", bundle, "--json")
        self.assertTrue(done.returncode == 0 or "EXISTS" in done.stdout, done.stdout + done.stderr)
        self.settle()
        self.once(a, 40, unit, 40)
        self.assert_same()

    def test_answer_fits_only_where_the_replica_stands_as_it_asked(self):
        unit = self.new_unit()
        a, b = self.device("a", start=False), self.device("b", start=False)
        a.sync()
        b.sync()
        asked = self.export(a, "asked")
        self.site.sql("UPDATE inventory.units SET floor = 5 WHERE id = %s", unit)
        self.hub.json("bundle", "export", asked, self.file("one"))
        self.site.sql("UPDATE inventory.units SET floor = 6 WHERE id = %s", unit)
        self.hub.json("bundle", "export", asked, self.file("two"))
        self.refused("BUNDLE", b, "bundle", "import", self.file("one"))
        a.json("bundle", "import", self.file("one"))
        self.refused("EXISTS", a, "bundle", "import", self.file("one"))
        self.refused("BUNDLE_ORDER", a, "bundle", "import", self.file("two"))
        self.assertEqual(a.value("SELECT floor FROM units WHERE id = ?", unit), 5)
        a.sync()
        self.refused("EXISTS", a, "bundle", "import", self.file("two"))
        self.assertEqual(a.value("SELECT floor FROM units WHERE id = ?", unit), 6)
        self.assert_same(a)

    # ---- wrong and damaged files

    def test_files_that_are_cut_changed_or_for_others_are_refused_and_change_nothing(self):
        unit = self.new_unit()
        a = self.device("a", start=False)
        a.sync()
        a.sql("UPDATE units SET floor = 1 WHERE id = ?", unit)
        asked = self.export(a, "asked")
        self.hub.json("bundle", "export", asked, self.file("answer"))
        before = (self.standing_of_hub(), a.standing())
        self.refused("BUNDLE", self.hub, "bundle", "import", self.file("answer"))
        self.refused("BUNDLE", a, "bundle", "import", asked)
        self.refused("NOT_FOUND", self.hub, "bundle", "import", self.file("none"))
        for program, path in ((self.hub, asked), (a, self.file("answer"))):
            with open(path, "rb") as f:
                whole = f.read()
            damaged = [whole[:-1], whole[:len(whole) // 2], whole[:9], b"", whole + b"\0"]
            damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:] for at in (0, 50, 110, len(whole) // 2, len(whole) - 90, len(whole) - 3)]
            for data in damaged:
                with open(self.file("damaged"), "wb") as f:
                    f.write(data)
                self.refused("CORRUPT", program, "bundle", "import", self.file("damaged"))
        self.assertEqual((self.standing_of_hub(), a.standing()), before)
        self.assertEqual(self.hub.json("bundle", "import", asked)["accepted"], 1)  # the file itself was good

    def test_revoked_device_and_a_running_agent_are_refused(self):
        unit = self.new_unit()
        a = self.device("a", start=False)
        a.sync()
        a.sql("UPDATE units SET floor = 1 WHERE id = ?", unit)
        asked = self.export(a, "asked")
        self.hub.json("device", "revoke", a.id)
        self.refused("REVOKED", self.hub, "bundle", "import", asked)
        self.assertIsNone(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit))
        b = self.device("b")
        self.settle(b)
        self.refused("BUSY", b, "bundle", "export", self.file("b"))


if __name__ == "__main__":
    unittest.main()
