#!/usr/bin/python3
# ferry-test: quick
"""What was refused or lost is put right: at the hub and on the device, by command and by SQL."""

import json
import threading
import unittest
import uuid

from ferry_run import CommandFailed, SiteCase, wait_until


class Repair(SiteCase):

    def hub_unit(self, unit, column):
        rows = self.site.sql("SELECT %s FROM inventory.units WHERE id = %%s" % column, unit)
        return rows[0][0] if rows else None

    def lost(self, mine="sea", theirs="garden"):
        """A device whose edit of view lost against the hub's later one: (device, unit)."""
        unit = self.new_unit(view="none")
        a = self.device("a")
        self.settle()
        a.stop()
        a.sql("UPDATE units SET view = ? WHERE id = ?", mine, unit)
        self.site.sql("UPDATE inventory.units SET view = %s WHERE id = %s", theirs, unit)
        a.start()
        self.settle()
        return a, unit

    def conflicts(self, *more):
        return self.hub.json("conflict", "list", "--tenant", self.tenant, *more)

    def refused(self, *arguments):
        with self.assertRaises(CommandFailed) as failed:
            self.hub.json(*arguments)
        return failed.exception.error["code"]


class HubConflicts(Repair):

    def test_a_listed_conflict_shows_both_values_and_filters_leave_others_out(self):
        a, unit = self.lost()
        found = self.conflicts()
        self.assertEqual([(c["key"], c["column"], c["device_value"], c["hub_value"], c["winner"], c["state"]) for c in found],
                         [(unit, "view", "sea", "garden", "hub", "open")])
        self.assertEqual(len(self.conflicts("--device", a.id, "--table", "units")), 1)
        self.assertEqual(self.conflicts("--table", "leads"), [])
        other = self.device("b", start=False)
        self.assertEqual(self.conflicts("--device", other.label), [])
        shown = self.hub.json("conflict", "show", found[0]["id"])
        self.assertEqual(json.loads(shown["row"])["view"], self.hub_unit(unit, "view"))

    def test_resolving_takes_the_losing_side_as_an_edit_of_the_hub_and_says_who(self):
        a, unit = self.lost()
        conflict = self.conflicts()[0]
        loser = "device" if conflict["winner"] == "hub" else "hub"
        value = conflict["%s_value" % loser]
        stands = self.hub_unit(unit, "view")
        dry = self.hub.json("conflict", "resolve", conflict["id"], "--take", loser, "--dry-run")
        self.assertEqual((dry["action"], dry["before"], dry["after"], dry["done"]), ("update", stands, value, False))
        self.assertEqual(self.hub_unit(unit, "view"), stands)
        self.assertEqual(len(self.conflicts()), 1)
        done = self.hub.json("conflict", "resolve", conflict["id"], "--take", loser, "--by", "ann")
        self.assertEqual((done["action"], done["done"]), ("update", True))
        self.assertEqual(self.hub_unit(unit, "view"), value)
        self.assertEqual(self.site.sql(
            "SELECT s.device_id FROM ferry.version v JOIN ferry.tracked_column c ON c.tbl = v.tbl AND c.name = 'view' "
            "LEFT JOIN LATERAL (SELECT x & 281474976710655 AS id FROM unnest(v.over) x WHERE x >> 48 = c.num) o ON true "
            "LEFT JOIN ferry.stamp s ON s.id = coalesce(o.id, v.base_tx) WHERE v.key = %s", unit), [(None,)])
        self.settle()
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", unit), value)
        self.assertEqual(self.conflicts(), [])
        self.assertEqual([(c["state"], c["resolved_by"], c["resolution"]) for c in self.conflicts("--all")], [("resolved", "ann", loser)])
        self.assertEqual(self.refused("conflict", "resolve", conflict["id"], "--take", "hub"), "EXISTS")
        self.assert_same()

    def test_another_value_is_taken_and_one_that_does_not_fit_changes_nothing(self):
        a, unit = self.lost()
        conflict = self.conflicts()[0]["id"]
        self.hub.json("conflict", "resolve", conflict, "pool", "--take", "value")
        self.settle()
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", unit), "pool")
        a.stop()
        a.sql("UPDATE units SET floor = 3 WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET floor = 4 WHERE id = %s", unit)
        a.start()
        self.settle()
        conflict = self.conflicts()[0]["id"]
        floor = self.hub_unit(unit, "floor")
        self.assertEqual(self.refused("conflict", "resolve", conflict, "high", "--take", "value"), "BAD_VALUE")
        self.assertEqual((self.hub_unit(unit, "floor"), len(self.conflicts())), (floor, 1))
        self.assertEqual(self.refused("conflict", "resolve", conflict), "USAGE")
        self.assertEqual(self.refused("conflict", "resolve", str(uuid.uuid4()), "--take", "hub"), "NOT_FOUND")

    def test_a_row_that_a_deletion_took_comes_back_whole(self):
        unit = self.new_unit(code="BACK-1", view="none", floor=7, size_sqm="95.50")
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        b.stop()
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("DELETE FROM units WHERE id = ?", unit)
        for d in (a, b):
            d.start()
            self.settle(d)
        self.assertIsNone(self.hub_unit(unit, "id"))
        conflict = [c for c in self.conflicts() if c["column"] != "(row)"][0]
        self.assertEqual(conflict["kind"], "delete_update")
        self.assertEqual(self.refused("conflict", "resolve", conflict["id"], "x", "--take", "value"), "NOT_FOUND")
        self.hub.json("conflict", "resolve", conflict["id"], "--take", "hub")
        self.assertEqual(self.site.sql("SELECT code, view, floor, size_sqm::text FROM inventory.units WHERE id = %s", unit),
                         [("BACK-1", "sea", 7, "95.50")])
        self.assertEqual([c for c in self.conflicts() if c["key"] == unit and c["column"] != "(row)"], [])
        self.settle()
        self.assertEqual(b.value("SELECT view FROM units WHERE id = ?", unit), "sea")
        self.assert_same()


class HubRejected(Repair):

    def rejected(self):
        return self.hub.json("rejected", "list", "--tenant", self.tenant)

    def clash(self):
        """A device's new contact whose address another has: (device, its contact, the other)."""
        other = str(self.site.value("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com') "
                                    "RETURNING id", self.tenant))
        a = self.device("a")
        self.settle()
        mine = str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", mine)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        return a, mine, other

    def free(self, other):
        self.site.sql("UPDATE crm.contacts SET email = 'other@example.com' WHERE id = %s", other)

    def contact(self, key, column="full_name"):
        return self.site.value("SELECT %s FROM crm.contacts WHERE id = %%s" % column, key)

    def test_a_refused_change_set_is_shown_with_its_reason_its_values_and_the_hubs_row(self):
        a, mine, _ = self.clash()
        found = self.rejected()
        self.assertEqual([(x["device_id"], x["name"]) for x in found], [(a.id, "UNIQUE")])
        self.assertIn("contacts", found[0]["constraint"])
        shown = self.hub.json("rejected", "show", found[0]["id"])
        self.assertEqual([(c["table"], c["op"], c["key"], c["row"]) for c in shown["changes"]],
                         [("crm.contacts", "insert", mine, None)])
        values = json.loads(shown["changes"][0]["values"])
        self.assertEqual((values["full_name"], values["email"]), ("Bad", "ONE@example.com"))
        self.assertIn("ONE@example.com", self.hub.run("rejected", "show", found[0]["id"]).stdout)
        self.assertEqual(self.refused("rejected", "show", a.id + "/99999"), "NOT_FOUND")

    def test_requeued_too_early_it_is_refused_again_and_then_merged_once(self):
        a, mine, other = self.clash()
        ident = self.rejected()[0]["id"]
        self.assertEqual(self.hub.json("rejected", "requeue", ident, "--dry-run")["done"], False)
        self.assertEqual(self.refused("rejected", "requeue", ident), "UNIQUE")
        self.assertEqual(len(self.rejected()), 1)
        self.free(other)
        self.assertEqual(self.hub.json("rejected", "requeue", ident)["verdict"], "accepted")
        self.assertEqual(self.contact(mine), "Bad")
        self.assertEqual(self.rejected(), [])
        self.assertEqual(self.refused("rejected", "requeue", ident), "NOT_FOUND")
        self.settle()
        self.assertEqual(a.value("SELECT full_name FROM contacts WHERE id = ?", mine), "Bad")
        a.sql("UPDATE contacts SET full_name = 'Good' WHERE id = ?", mine)  # numbers go on where they were
        self.settle()
        self.assertEqual(self.contact(mine), "Good")
        self.assert_same()

    def test_P2_requeued_by_several_at_once_it_takes_effect_once(self):
        a, mine, other = self.clash()
        ident = self.rejected()[0]["id"]
        self.free(other)
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.hub.run("rejected", "requeue", ident, "--json")))
                   for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        fresh = [x for x in map(lambda d: json.loads(d.stdout), answers) if x.get("verdict") == "accepted" and not x["repeated"]]
        self.assertEqual(len(fresh), 1, [d.stdout for d in answers])
        device, _, number = ident.partition("/")
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.stamp WHERE device_id = %s AND number = %s", device, number), 1)
        self.assertEqual(self.site.sql("SELECT verdict FROM ferry.settled WHERE device_id = %s AND number = %s", device, number),
                         [("accepted",)])
        self.settle()
        self.assertEqual(a.value("SELECT full_name FROM contacts WHERE id = ?", mine), "Bad")
        self.assert_same()


class DeviceRepair(Repair):

    def contact(self, key, column="full_name"):
        return self.site.value("SELECT %s FROM crm.contacts WHERE id = %%s" % column, key)

    def other(self):
        return str(self.site.value("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com') "
                                   "RETURNING id", self.tenant))

    def repaired(self, device, count=1):
        wait_until(lambda: device.value("SELECT count(*) FROM ferry_repair WHERE done_at IS NOT NULL") == count, 20, "the repair")
        return device.sql("SELECT error FROM ferry_repair ORDER BY id")[-1][0]

    def fails(self, device, *arguments):
        with self.assertRaises(CommandFailed) as failed:
            device.json(*arguments)
        return failed.exception.error["code"]

    # ---- conflicts

    def test_a_losing_value_is_put_back_as_a_new_edit_by_the_command(self):
        a, unit = self.lost()
        conflict = a.json("conflicts")[0]
        self.assertEqual((conflict["winner"], conflict["device_value"]), ("hub", "sea"))
        shown = a.json("conflicts", "show", conflict["id"])[0]
        self.assertEqual(json.loads(shown["row"])["view"], "garden")
        self.assertEqual(a.json("conflicts", "put-back", conflict["id"], "--dry-run")["done"], False)
        self.assertEqual(len(a.json("conflicts")), 1)
        a.json("conflicts", "put-back", conflict["id"])
        self.settle()
        self.assertEqual(self.hub_unit(unit, "view"), "sea")
        self.assertEqual(a.json("conflicts"), [])
        self.assertEqual(len(self.conflicts("--all")), 1)  # the new edit has seen the other: no second one
        self.assertIn("garden", a.value("SELECT kept FROM ferry_repair"))
        self.assertEqual(self.fails(a, "conflicts", "put-back", conflict["id"]), "NOT_FOUND")
        self.assert_same()

    def test_a_losing_value_is_put_back_and_one_dismissed_by_SQL_alone(self):
        a, unit = self.lost()
        a.sql("INSERT INTO ferry_repair(action, conflict) SELECT 'put back', id FROM ferry_conflict")
        self.assertIsNone(self.repaired(a))
        self.settle()
        self.assertEqual(self.hub_unit(unit, "view"), "sea")
        a.stop()
        a.sql("UPDATE units SET view = 'hill' WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET view = 'road' WHERE id = %s", unit)
        a.start()
        self.settle()
        a.sql("INSERT INTO ferry_repair(action, conflict) SELECT 'dismiss', id FROM ferry_conflict")
        self.assertIsNone(self.repaired(a, 2))
        self.assertEqual(a.value("SELECT count(*) FROM ferry_conflict"), 0)
        self.settle()
        self.assertEqual((self.hub_unit(unit, "view"), a.value("SELECT view FROM units WHERE id = ?", unit)), ("road", "road"))
        a.sql("INSERT INTO ferry_repair(action, conflict) VALUES ('put back', 4711)")
        self.assertIn("4711", self.repaired(a, 3))
        self.assert_same()

    def test_a_row_that_i_deleted_is_taken_back_whole_as_others_had_it(self):
        unit = self.new_unit(code="BACK-2", view="none", floor=7)
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        b.stop()
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("DELETE FROM units WHERE id = ?", unit)
        for d in (a, b):
            d.start()
            self.settle(d)
        conflict = b.sql('SELECT id FROM ferry_conflict WHERE "column" IS NOT NULL')[0][0]
        b.json("conflicts", "take-theirs", conflict)
        self.settle()
        self.assertEqual(self.site.sql("SELECT code, view, floor FROM inventory.units WHERE id = %s", unit), [("BACK-2", "sea", 7)])
        self.assertEqual(b.value('SELECT count(*) FROM ferry_conflict WHERE "column" IS NOT NULL'), 0)
        self.assert_same()

    # ---- refused change-sets

    def test_a_refused_row_is_retried_after_an_edit_and_what_it_blocked_too(self):
        self.other()
        a = self.device("a")
        self.settle()
        a.stop()
        company, person = str(uuid.uuid4()), str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", person)
        a.sql("INSERT INTO ferry_tx(note) VALUES ('bad')")
        a.sql("UPDATE contacts SET full_name = 'Worse' WHERE id = ?", person)  # builds on it (R6)
        a.sql("INSERT INTO ferry_tx(note) VALUES ('worse')")
        a.sql("INSERT INTO companies (id, name) VALUES (?, 'Free & Co')", company)  # does not
        a.start()
        self.settle()
        self.assertEqual(self.site.value("SELECT name FROM crm.companies WHERE id = %s", company), "Free & Co")
        bad, worse = a.sql("SELECT number, name, blocked_by FROM ferry_rejected ORDER BY id")
        self.assertEqual((bad[1:], worse[1:]), (("UNIQUE", None), ("DEPENDS", bad[0])))
        self.assertEqual([r["blocked_by"] for r in a.json("rejected")], [None, bad[0]])
        self.assertEqual(json.loads(a.json("rejected", "show", bad[0])[0]["values"])["email"], "ONE@example.com")
        self.assertEqual(self.fails(a, "rejected", "retry", worse[0]), "CONSTRAINT")  # its row is not there
        self.assertEqual(self.fails(a, "rejected", "retry", bad[0], "--set", "nothing=1"), "USAGE")
        a.json("rejected", "retry", bad[0], "--set", "email=two@example.com")
        a.json("rejected", "retry", worse[0])
        self.settle()
        self.assertEqual((self.contact(person), self.contact(person, "email")), ("Worse", "two@example.com"))
        self.assertEqual(a.json("rejected"), [])
        self.assert_same()

    def test_a_refused_row_is_edited_and_retried_by_SQL_alone_or_discarded(self):
        self.other()
        a = self.device("a")
        self.settle()
        first, second = str(uuid.uuid4()), str(uuid.uuid4())
        for key in (first, second):
            a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", key)
            a.sql("INSERT INTO ferry_tx(note) VALUES ('one')")
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 2, 30, "the refusals")
        a.sql("UPDATE ferry_rejected SET \"values\" = json_set(\"values\", '$.email', 'mine@example.com') WHERE key = ?", first)
        a.sql("INSERT INTO ferry_repair(action, rejected) SELECT 'retry', number FROM ferry_rejected WHERE key = ?", first)
        self.assertIsNone(self.repaired(a))
        a.sql("INSERT INTO ferry_repair(action, rejected) SELECT 'discard', number FROM ferry_rejected WHERE key = ?", second)
        self.assertIsNone(self.repaired(a, 2))
        self.settle()
        self.assertEqual(self.contact(first, "email"), "mine@example.com")
        self.assertIsNone(self.contact(second))
        self.assertEqual(a.value("SELECT count(*) FROM ferry_rejected"), 0)
        self.assertIn("ONE@example.com", a.value("SELECT kept FROM ferry_repair WHERE action = 'discard'"))
        self.assert_same()

    def test_P5_a_retry_that_fails_again_keeps_its_values_again(self):
        self.other()
        a = self.device("a")
        self.settle()
        key = str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", key)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        before = a.value("SELECT number FROM ferry_rejected")
        a.json("rejected", "retry", before)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected WHERE number > ?", before) == 1, 30, "the second refusal")
        self.assertEqual(json.loads(a.value('SELECT "values" FROM ferry_rejected'))["email"], "ONE@example.com")
        self.assertIsNone(a.row("contacts", key))
        self.assert_same()

    def test_what_the_hub_requeues_is_refused_no_more_on_its_device(self):
        other = self.other()
        a = self.device("a")
        self.settle()
        key = str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", key)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 1, 30, "the refusal")
        self.site.sql("UPDATE crm.contacts SET email = 'other@example.com' WHERE id = %s", other)
        self.hub.json("rejected", "requeue", self.hub.json("rejected", "list", "--tenant", self.tenant)[0]["id"])
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 0, 30, "the verdict that stands now")
        self.settle()
        self.assertEqual(a.value("SELECT full_name FROM contacts WHERE id = ?", key), "Bad")
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
