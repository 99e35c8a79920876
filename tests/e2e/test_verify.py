#!/usr/bin/python3
"""verify on demand: a device against the hub's sums, and the hub's rows against its own books."""

import contextlib
import json
import unittest

from ferry_run import CommandFailed, SiteCase, wait_until


class Verify(SiteCase):

    def past_triggers(self, device, statement, *args):
        with contextlib.closing(device.connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'units'").fetchall()
            for name, _ in triggers:
                db.execute('DROP TRIGGER "%s"' % name)
            self.assertEqual(db.execute(statement, args).rowcount, 1)
            for _, sql in triggers:
                db.execute(sql)
            db.execute("COMMIT")

    def past_capture(self, *statements):
        """As a restore of a table does that disables its triggers."""
        names = [row[0] for row in self.site.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'inventory.units'::regclass "
                                                 "AND tgname LIKE 'ferry%%' AND NOT tgisinternal")]
        with contextlib.closing(self.db.connect()) as conn:
            cur = conn.cursor()
            for name in names:
                cur.execute('ALTER TABLE inventory.units DISABLE TRIGGER "%s"' % name)
            for text, args in statements:
                cur.execute(text, args)
            for name in names:
                cur.execute('ALTER TABLE inventory.units ENABLE ALWAYS TRIGGER "%s"' % name)
            conn.commit()

    # ---- the device

    def test_R21_agent_verify_tells_of_a_difference_and_repairs_it_on_demand(self):
        units = [self.new_unit(code="A-%d" % n, view="sea") for n in range(5)]
        a = self.device("a", start=False)
        a.sync()
        self.assertEqual(a.json("verify", "--hub"), {"match": True, "hub_asked": True, "differences": [], "repaired": []})
        self.past_triggers(a, "UPDATE units SET view = 'rot' WHERE id = ?", units[2])
        done = a.run("verify")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("units: column view", done.stderr)
        self.assertEqual(a.run("verify", "--hub").returncode, 1)
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", units[2]), "rot")  # nothing was changed
        answer = a.json("verify", "--repair")
        self.assertTrue(answer["match"], answer)
        self.assertEqual([(r["table"], r["key"], r["what"], r["before"]) for r in answer["repaired"]],
                         [("units", units[2], "differs", '{"view":"rot"}')])
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", units[2]), "sea")
        self.assert_same()

    def test_R21_agent_verify_finds_what_the_running_sums_of_both_sides_cannot_show(self):
        unit = self.new_unit(view="sea")
        a = self.device("a", start=False)
        a.sync()
        # The replica's own sums agree with its rows, and neither with the hub's.
        self.past_triggers(a, "DELETE FROM units WHERE id = ?", unit)
        a.sql("DELETE FROM ferry_sum WHERE tbl = (SELECT tbl FROM ferry_table WHERE name = 'units')")
        self.assertEqual(a.run("verify").returncode, 0)
        done = a.run("verify", "--hub")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("0 rows, the hub has 1", done.stderr)
        self.assertEqual([r["what"] for r in a.json("verify", "--repair")["repaired"]], ["missing"])
        self.assert_same()

    def test_R21_agent_verify_beside_a_running_agent_tells_and_repairs(self):
        units = [self.new_unit(code="A-%d" % n, view="sea") for n in range(3)]
        a = self.device("a")
        self.settle()
        self.assertEqual(a.json("verify"), {"match": True, "hub_asked": False, "differences": [], "repaired": []})
        refused = a.run("verify", "--hub")
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertIn("Use --repair, or stop it", refused.stderr)
        # What the sums of the replica cannot show, its comparison with the hub does.
        with a.transaction() as db:
            db.execute("UPDATE units SET floor = 4 WHERE id = ?", (units[0],))
        self.past_triggers(a, "UPDATE units SET view = 'rot' WHERE id = ?", units[2])
        self.assertEqual(a.json("verify", "--repair"), {"asked": True})
        wait_until(lambda: a.value("SELECT view FROM units WHERE id = ?", units[2]) == "sea", 30, "the row that was repaired")
        self.assertEqual([(row[0], row[1]) for row in a.sql("SELECT key, what FROM ferry_repaired")], [(units[2], "differs")])
        self.settle()
        self.assertTrue(a.running())
        self.assertTrue(a.json("verify")["match"])
        self.assert_same()

    def test_agent_verify_needs_the_hub_only_when_it_is_to_ask_it(self):
        self.new_unit()
        a = self.device("a", start=False)
        a.sync()
        a.configure(hub__port=1)
        self.assertTrue(a.json("verify")["match"])
        with self.assertRaises(CommandFailed) as failed:
            a.json("verify", "--hub")
        self.assertEqual(failed.exception.exit_code, 4)

    # ---- the hub

    def test_R9_hub_verify_finds_what_was_written_past_the_capture_and_repairs_devices(self):
        changed, gone, kept = (self.new_unit(code=c, view="sea") for c in ("A-1", "A-2", "A-3"))
        a = self.device("a")
        self.settle()
        self.past_capture(("UPDATE inventory.units SET view = 'rot', floor = 9 WHERE id = %s", (changed,)),
                          ("DELETE FROM inventory.units WHERE id = %s", (gone,)),
                          ("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code) VALUES (%s, %s, 'A-4', 'APT_1BR')",
                           (self.tenant, self.project)))
        self.settle()
        self.assertEqual(a.value("SELECT count(*) FROM units"), 3)  # devices know nothing of it
        done = self.hub.run("verify", "--tenant", self.tenant, "--json")
        self.assertEqual(done.returncode, 1, done.stderr)
        found = {row["what"]: row for row in json.loads(done.stdout)}
        self.assertEqual(found.keys(), {"changed", "gone", "new"})
        self.assertEqual((found["changed"]["key"], found["changed"]["columns"]), (changed, "floor, view, updated_at"))
        self.assertEqual({row["table"] for row in found.values()}, {"inventory.units"})
        self.assertFalse(any(row["repaired"] for row in found.values()))
        self.assertEqual(self.hub.run("verify", "--tenant", self.tenant).returncode, 1)  # a dry run changes nothing
        self.assertTrue(all(row["repaired"] for row in self.hub.json("verify", "--tenant", self.tenant, "--repair")))
        self.assertEqual(self.hub.json("verify", "--tenant", self.tenant), [])
        self.settle()
        self.assertEqual(a.value("SELECT floor FROM units WHERE id = ?", changed), 9)
        self.assertEqual(a.value("SELECT view FROM units WHERE id = ?", kept), "sea")
        self.assert_same()


    def test_hub_verify_of_one_table_leaves_others_alone(self):
        unit = self.new_unit()
        self.past_capture(("UPDATE inventory.units SET floor = 3 WHERE id = %s", (unit,)))
        self.assertEqual(self.hub.json("verify", "--tenant", self.tenant, "--table", "projects"), [])
        self.assertEqual([r["key"] for r in self.hub.json("verify", "--tenant", self.tenant, "--table", "units", "--repair")], [unit])
        self.assertEqual(self.hub.run("verify", "--limit", "0").returncode, 2)


if __name__ == "__main__":
    unittest.main()
