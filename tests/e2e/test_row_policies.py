#!/usr/bin/python3
# ferry-test: quick
"""Row policies on real processes (docs/merge.md): a table's own check, deletions, parents that are missing."""

import json
import unittest

from ferry_run import CommandFailed, SiteCase, wait_until


class Check(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("""CREATE FUNCTION inventory.check_unit(op text, old inventory.units, new inventory.units, device uuid) RETURNS text
            LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            RETURN CASE WHEN new.floor > 40 THEN format('the house has 40 floors, %s is none of them', new.floor) END""")
        cls.site.sql("SELECT ferry.validate('inventory.units', 'inventory.check_unit')")

    def test_P6_a_check_refuses_its_change_set_with_its_sentence_and_costs_the_others_nothing(self):
        unit, other = self.new_unit("A-1", floor=3), self.new_unit("A-2", floor=4)
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        b.stop()
        a.sql("UPDATE units SET floor = 41 WHERE id = ?", unit)
        a.run("sync", "--wait", "1")
        self.hub.stop()
        a.sql("UPDATE units SET floor = 40 WHERE id = ?", other)
        a.run("sync", "--wait", "0")
        a.sql("UPDATE units SET floor = 99 WHERE id = ?", other)
        a.run("sync", "--wait", "0")
        b.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.hub.start()
        a.start()
        b.start()
        self.settle()
        self.assertEqual([tuple(r) for r in self.site.sql("SELECT floor, view FROM inventory.units WHERE id = ANY (%s::uuid[]) ORDER BY code",
                                                          [unit, other])], [(3, "sea"), (40, None)])
        self.assertEqual(a.sql("SELECT name, sentence FROM ferry_rejected ORDER BY number"),
                         [("VALIDATION", "the house has 40 floors, 41 is none of them"),
                          ("VALIDATION", "the house has 40 floors, 99 is none of them")])
        self.assertEqual(b.sql("SELECT * FROM ferry_rejected"), [])
        self.assert_same()


class MissingParent(SiteCase):
    """A unit is deleted at the hub while a device scans it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("SELECT ferry.row_policy('roomscan.room_scan_sessions', on_missing_parent => 'park', park_for => '1 hour')")
        cls.site.sql("CREATE SCHEMA stock AUTHORIZATION ferry_owner")
        cls.site.sql("CREATE TABLE stock.boxes (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), PRIMARY KEY (tenant_id, id))")
        cls.site.sql("CREATE TABLE stock.parts (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), box_id uuid NOT NULL, code text, "
                     "PRIMARY KEY (tenant_id, id), CONSTRAINT parts_code_uq UNIQUE (tenant_id, code), "
                     "FOREIGN KEY (tenant_id, box_id) REFERENCES stock.boxes (tenant_id, id))")
        for table in ("stock.boxes", "stock.parts"):
            cls.site.sql("SELECT ferry.isolate('%s')" % table)
            cls.site.sql("SELECT ferry.track('%s')" % table)
        cls.site.sql("SELECT ferry.row_policy('stock.parts', on_missing_parent => 'park')")

    def orphan(self):
        """A unit that is gone at the hub, and a device that makes a session of it, edits that, and a project's name."""
        unit = self.new_unit()
        a = self.device("a")
        self.settle()
        a.stop()
        self.site.sql("CREATE TABLE IF NOT EXISTS public.kept AS SELECT * FROM inventory.units WHERE false")
        self.site.sql("INSERT INTO public.kept SELECT * FROM inventory.units WHERE id = %s", unit)
        self.site.sql("DELETE FROM inventory.units WHERE id = %s", unit)
        session = a.value("SELECT id FROM ferry_uuid")
        a.sql("INSERT INTO room_scan_sessions (id, unit_id, status, started_at) VALUES (?, ?, 'uploading', '2026-01-01T00:00:00.000000Z')",
              session, unit)
        a.run("sync", "--wait", "0")
        a.sql("UPDATE room_scan_sessions SET status = 'processing' WHERE id = ?", session)
        a.run("sync", "--wait", "0")
        a.sql("UPDATE projects SET name = 'Palm Two' WHERE id = ?", self.project)
        a.start()
        wait_until(lambda: a.value("SELECT parked FROM ferry_status") == 2, 60, "two parked change-sets")
        return unit, a, session

    def sessions(self, session):
        return self.site.sql("SELECT status FROM roomscan.room_scan_sessions WHERE id = %s", session)

    def test_R6_a_row_without_its_parent_waits_others_overtake_it_and_it_is_merged_once_the_parent_comes(self):
        unit, a, session = self.orphan()
        self.settle()
        self.assertEqual(self.site.value("SELECT name FROM inventory.projects WHERE id = %s", self.project), "Palm Two")
        self.assertEqual(self.sessions(session), [])
        first, second = a.json("outbox")
        self.assertIn("waits there for it", first["parked"])
        self.assertEqual(second["blocked_by"], first["number"])
        self.assertEqual(a.value("SELECT status FROM room_scan_sessions WHERE id = ?", session), "processing")
        for r in self.hub.json("rejected", "list", "--tenant", self.tenant):
            self.assertRegex(r["state"], "^parked until %s, for [0-9:]+$" % r["parked_until"])
            self.assertGreater(r["parked_until"], r["at"])
            self.assertGreaterEqual(r["parked_seconds"], 0)
            self.assertIn("they are parked with %s. What" % r["name"], self.hub.run("rejected", "requeue", r["id"], "--dry-run").stdout)
        self.site.sql("INSERT INTO inventory.units SELECT * FROM public.kept WHERE id = %s", unit)
        wait_until(lambda: self.sessions(session) == [("processing",)], 60, "the parked change-sets at the hub")
        self.settle()
        self.assertEqual(a.json("outbox"), [])
        self.assertEqual(a.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(self.site.sql("SELECT DISTINCT verdict FROM ferry.settled WHERE tenant_id = %s AND device_id = %s", self.tenant, a.id),
                         [("accepted",)])
        self.assert_same()

    def test_P2_R6_a_row_whose_parent_does_not_come_in_time_is_refused_with_what_builds_on_it(self):
        unit, a, session = self.orphan()
        self.site.sql("UPDATE ferry.rejected SET parked_until = now() WHERE tenant_id = %s", self.tenant)
        wait_until(lambda: a.value("SELECT parked FROM ferry_status") == 0, 60, "their refusal")
        self.assertEqual(a.sql("SELECT name, sentence FROM ferry_rejected ORDER BY number"),
                         [("FOREIGN_KEY", "it refers to units %s, which did not come to the hub in time" % unit),
                          ("DEPENDS", "it builds on change-set 1, which was refused")])
        self.assertEqual(a.sql("SELECT * FROM room_scan_sessions WHERE id = ?", session), [])
        self.settle()  # the name of the project may still be under way
        self.assert_same()
        first = next(r["id"] for r in self.hub.json("rejected", "list", "--tenant", self.tenant) if r["number"] == 1)
        with self.assertRaises(CommandFailed) as failed:  # too early; it stays refused, and waits for nothing
            self.hub.json("rejected", "requeue", first)
        self.assertEqual((failed.exception.error["code"], failed.exception.error["sentence"]),
                         ("FOREIGN_KEY", "it refers to units %s, which is not at the hub yet" % unit))
        self.assertEqual(self.site.sql("SELECT * FROM ferry.parked_wait WHERE tenant_id = %s", self.tenant), [])
        self.assertEqual({r["state"] for r in self.hub.json("rejected", "list", "--tenant", self.tenant)}, {"refused"})

    def test_a_taken_value_is_named_also_where_a_foreign_key_refuses_the_other_order(self):
        boxes = [str(self.site.value("INSERT INTO stock.boxes (tenant_id) VALUES (%s) RETURNING id", self.tenant)) for _ in range(2)]
        a = self.device("a", scopes=["tenant"])
        self.settle()
        a.stop()
        other = str(self.site.value("INSERT INTO stock.parts (tenant_id, box_id, code) VALUES (%s, %s, 'X') RETURNING id", self.tenant, boxes[1]))
        with a.transaction() as db:
            db.execute("INSERT INTO parts (box_id, code) VALUES (?, 'X')", (boxes[0],))
            db.execute("DELETE FROM boxes WHERE id = ?", (boxes[1],))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT DISTINCT name, sentence FROM ferry_rejected"), [
            ("UNIQUE", 'another row of parts has this value already (rule parts_code_uq): "X", %s' % other)])
        self.assertEqual(self.site.sql("SELECT * FROM ferry.parked_wait WHERE tenant_id = %s", self.tenant), [])
        self.assert_same()
        (refused,) = self.hub.json("rejected", "list", "--tenant", self.tenant)
        dry = self.hub.json("rejected", "requeue", refused["id"], "--dry-run")["writes"]
        self.assertEqual([(w["table"], w["key"]) for w in dry if w["op"] == "delete" and w["column"] is None], [("stock.boxes", boxes[1])])
        self.assertEqual({(w["column"], w["after"]) for w in dry if w["op"] == "insert"}, {("box_id", boxes[0]), ("code", "X")})


class UpdateWins(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("SELECT ferry.row_policy('inventory.units', on_delete => 'update_wins')")

    def some(self, **columns):
        """A unit that two devices hold; their agents are stopped."""
        unit = self.new_unit(**columns)
        devices = [self.device(label) for label in "ab"]
        self.settle()
        for d in devices:
            d.stop()
        return unit, devices

    def start(self, *devices):
        for d in devices:
            d.start()
            self.settle(d)
        self.settle(*devices)

    def hub_units(self, unit):
        return self.site.sql("SELECT view, floor, price_minor FROM inventory.units WHERE id = %s", unit)

    def test_an_update_of_a_deleted_row_puts_it_back_as_it_was_with_the_update(self):
        unit, (a, b) = self.some(view="sea", floor=3, price_minor=70, currency="EGP")
        a.sql("DELETE FROM units WHERE id = ?", unit)
        b.sql("UPDATE units SET floor = 4 WHERE id = ?", unit)
        self.start(a, b)
        self.assertEqual(self.hub_units(unit), [("sea", 4, 70)])
        self.assertEqual(a.sql("SELECT view, floor FROM units WHERE id = ?", unit), [("sea", 4)])
        self.assertEqual(b.sql('SELECT kind, winner FROM ferry_conflict WHERE "column" IS NULL'), [("update_delete", "device")])
        self.assertEqual(b.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.last_row WHERE key = %s", unit), 0)
        self.assert_same()

    def test_a_row_that_sql_deleted_comes_back_for_all_updates_that_had_not_seen_it(self):
        unit, (a, b) = self.some(view="sea", floor=3)
        self.site.sql("DELETE FROM inventory.units WHERE id = %s", unit)
        a.sql("UPDATE units SET floor = 5 WHERE id = ?", unit)
        b.sql("UPDATE units SET view = 'lake' WHERE id = ?", unit)
        self.start(a, b)
        self.assertEqual(self.hub_units(unit), [("lake", 5, None)])
        self.assert_same()

    def test_a_deletion_that_had_not_seen_an_update_leaves_the_row(self):
        unit, (a, b) = self.some(view="sea", floor=3)
        a.sql("UPDATE units SET floor = 6 WHERE id = ?", unit)
        b.sql("DELETE FROM units WHERE id = ?", unit)
        self.start(a, b)
        self.assertEqual(self.hub_units(unit), [("sea", 6, None)])
        self.assertEqual(b.sql("SELECT kind, winner, other_device FROM ferry_conflict"), [("delete_update", "hub", a.id)])
        self.assertEqual(b.sql("SELECT floor FROM units WHERE id = ?", unit), [(6,)])
        b.sql("DELETE FROM units WHERE id = ?", unit)  # seen now
        self.settle()
        self.assertEqual(self.hub_units(unit), [])
        self.assert_same()

    def test_R2_a_device_deletes_a_row_after_an_edit_of_its_own_though_triggers_touched_it(self):
        unit, (a, b) = self.some(view="sea", floor=3)
        a.sql("UPDATE units SET floor = 7 WHERE id = ?", unit)
        a.run("sync", "--wait", "0")
        a.sql("DELETE FROM units WHERE id = ?", unit)
        self.start(a, b)
        self.assertEqual(self.hub_units(unit), [])
        self.assertEqual(a.sql("SELECT * FROM ferry_conflict WHERE winner = 'hub'"), [])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
