#!/usr/bin/python3
"""What a person decides about conflicts and refused change-sets of their device, choice by choice."""

import json
import sqlite3
import unittest
import uuid

from ferry_run import CommandFailed, SiteCase, wait_until


class Choices(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("CREATE TABLE public.gauges (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), level double precision, "
                     "PRIMARY KEY (tenant_id, id))")
        cls.site.sql("SELECT ferry.isolate('public.gauges')")
        cls.site.sql("SELECT ferry.track('public.gauges', 'tenant')")

    def conflict(self, column, here, hub, device_later):
        """A device whose edit met the hub's, and its unit."""
        unit = self.new_unit(**{column: "none"})
        a = self.device("a")
        self.settle()
        a.stop()
        edits = [lambda: self.site.sql("UPDATE inventory.units SET %s = %%s WHERE id = %%s" % column, hub, unit),
                 lambda: a.sql("UPDATE units SET %s = ? WHERE id = ?" % column, here, unit)]
        for edit in edits if device_later else reversed(edits):
            edit()
        a.start()
        self.settle()
        return a, unit

    def values(self, device, unit):
        """(at the hub, on the device)"""
        return (self.site.value("SELECT view FROM inventory.units WHERE id = %s", unit),
                device.value("SELECT view FROM units WHERE id = ?", unit))

    def refused_contact(self):
        """A device whose new contact has an address that another has, and its key and change-set."""
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a")
        self.settle()
        key = str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", key)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        return a, key, a.value("SELECT number FROM ferry_rejected")

    def fails(self, device, *arguments):
        with self.assertRaises(CommandFailed) as failed:
            device.json(*arguments)
        return failed.exception.error["code"]

    # ---- conflicts

    def test_theirs_is_taken_by_command_where_mine_stands(self):
        a, unit = self.conflict("view", "mine", "theirs", device_later=True)
        conflict, = a.json("conflicts")
        self.assertEqual((conflict["winner"], self.values(a, unit)), ("device", ("mine", "mine")))
        self.assertEqual(a.json("conflicts", "take-theirs", conflict["id"], "--dry-run")["done"], False)
        self.assertEqual((len(a.json("conflicts")), self.values(a, unit)), (1, ("mine", "mine")))
        self.assertEqual(a.json("conflicts", "take-theirs", conflict["id"])["done"], True)
        self.settle()
        self.assertEqual(self.values(a, unit), ("theirs", "theirs"))
        self.assertEqual((a.json("conflicts"), self.fails(a, "conflicts", "take-theirs", conflict["id"])), ([], "NOT_FOUND"))
        kept, = json.loads(a.value("SELECT kept FROM ferry_repair WHERE action = 'take theirs'"))
        self.assertEqual(kept["device_value"], "mine")  # what gave way can be seen still
        self.assert_same()

    def test_theirs_is_taken_by_SQL_while_the_agent_is_away(self):
        a, unit = self.conflict("view", "mine", "theirs", device_later=True)
        a.stop()
        a.sql("INSERT INTO ferry_repair(action, conflict) SELECT 'take theirs', id FROM ferry_conflict")
        self.assertEqual(self.values(a, unit), ("mine", "mine"))
        a.start()
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_conflict") == 0, 30, "the repair")
        self.settle()
        self.assertEqual(self.values(a, unit), ("theirs", "theirs"))
        self.assertEqual(a.sql("SELECT action, error FROM ferry_repair"), [("take theirs", None)])
        self.assert_same()

    def test_what_stands_stays_when_the_conflict_is_dismissed_by_command(self):
        a, unit = self.conflict("view", "mine", "theirs", device_later=False)
        number = a.json("conflicts")[0]["id"]
        self.assertEqual(a.json("conflicts", "dismiss", number, "--dry-run")["done"], False)
        self.assertEqual(len(a.json("conflicts")), 1)
        a.json("conflicts", "dismiss", number)
        self.settle()
        self.assertEqual((a.json("conflicts"), self.values(a, unit)), ([], ("theirs", "theirs")))

    def test_a_conflict_of_a_float_shows_its_digits(self):
        key = str(self.site.value("INSERT INTO public.gauges (tenant_id, level) VALUES (%s, 1) RETURNING id", self.tenant))
        a = self.device("a", scopes=["tenant"])
        self.settle()
        a.stop()
        self.site.sql("UPDATE public.gauges SET level = 2.25 WHERE id = %s", key)
        a.sql("UPDATE gauges SET level = 7.75 WHERE id = ?", key)
        a.start()
        self.settle()
        shown, = a.json("conflicts", "show", a.json("conflicts")[0]["id"])
        self.assertEqual((shown["device_value"], shown["hub_value"]), (7.75, 2.25))

    # ---- refused change-sets

    def test_a_dry_run_of_a_retry_looks_at_its_columns_and_changes_nothing(self):
        a, key, number = self.refused_contact()
        before = a.sql("SELECT * FROM ferry_rejected")
        self.assertEqual(a.json("rejected", "retry", number, "--set", "email=two@example.com", "--dry-run")["done"], False)
        for option in (("--set", "nothing=1"), ("--without", "nothing"), ("--set", "email"), ("--without", 'a"b')):
            self.assertEqual(self.fails(a, "rejected", "retry", number, *option, "--dry-run"), "USAGE", option)
        self.assertEqual(a.json("rejected", "discard", number, "--dry-run")["done"], False)
        self.assertEqual((a.sql("SELECT * FROM ferry_rejected"), a.sql("SELECT * FROM ferry_repair"), a.row("contacts", key)), (before, [], None))

    def test_a_value_is_left_out_and_the_rest_is_written_again(self):
        a, key, number = self.refused_contact()
        a.json("rejected", "retry", number, "--without", "email", "--set", "full_name=Good")
        self.settle()
        self.assertEqual(self.site.sql("SELECT full_name, email FROM crm.contacts WHERE id = %s", key), [("Good", None)])
        self.assertEqual(a.json("rejected"), [])
        self.assert_same()

    def test_what_was_discarded_by_command_is_kept_in_the_repair(self):
        a, key, number = self.refused_contact()
        a.json("rejected", "discard", number)
        self.settle()
        self.assertEqual((a.json("rejected"), a.row("contacts", key)), ([], None))
        kept, = json.loads(a.value("SELECT kept FROM ferry_repair WHERE action = 'discard'"))
        self.assertEqual((kept["key"], kept["values"]["email"]), (key, "ONE@example.com"))
        self.assertEqual(self.fails(a, "rejected", "retry", number), "NOT_FOUND")

    def test_an_infinite_number_is_discarded_and_kept_in_the_repair(self):
        self.site.sql("ALTER TABLE public.gauges ADD CONSTRAINT gauges_level_ck CHECK (level < 'Infinity')")
        self.addCleanup(self.site.sql, "ALTER TABLE public.gauges DROP CONSTRAINT gauges_level_ck")
        a = self.device("a", scopes=["tenant"])
        self.settle()
        a.sql("INSERT INTO gauges (level) VALUES (9e999)")
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        a.json("rejected", "discard", a.value("SELECT number FROM ferry_rejected"))
        kept, = json.loads(a.value("SELECT kept FROM ferry_repair WHERE action = 'discard'"))
        self.assertEqual((kept["values"]["level"], a.json("rejected")), (float("inf"), []))

    def test_P6_values_that_cannot_be_written_are_answered_and_hold_no_other_repair_up(self):
        a, key, number = self.refused_contact()
        answers = (("not json", "malformed JSON"), ('{"nosuch": 1}', "nosuch"), ('{"full_name": "x", "tags": {}', "malformed JSON"))
        for values, answer in answers:
            a.sql('UPDATE ferry_rejected SET "values" = ?', values)
            a.sql("INSERT INTO ferry_repair(action, rejected) VALUES ('retry', ?)", number)
            wait_until(lambda: a.value("SELECT count(*) FROM ferry_repair WHERE done_at IS NULL") == 0, 30, "the answer to " + values)
            self.assertIn(answer, a.value("SELECT error FROM ferry_repair ORDER BY id DESC LIMIT 1"))
        a.sql("UPDATE ferry_rejected SET \"values\" = json_object('full_name', 'Good')")
        a.sql("INSERT INTO ferry_repair(action, rejected) VALUES ('retry', ?)", number)
        wait_until(lambda: a.row("contacts", key) is not None, 30, "the repair")
        self.settle()
        self.assert_same()

    def test_an_action_that_there_is_not_is_refused_by_SQL(self):
        a = self.device("a", scopes=["tenant"])
        self.settle()
        with self.assertRaises(sqlite3.IntegrityError):
            a.sql("INSERT INTO ferry_repair(action, conflict) VALUES ('win', 1)")


if __name__ == "__main__":
    unittest.main()
