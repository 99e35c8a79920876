#!/usr/bin/python3
"""A change-set larger than a message (R7) whose parent is missing waits at the hub like a small one (docs/merge.md)."""

import json
import unittest
import uuid

from ferry_run import SiteCase, wait_until

ROWS = 8000
AT = "2026-01-01T00:00:00.000000Z"


class LargePark(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for table in ("room_scan_sessions", "room_scans"):
            cls.site.sql("SELECT ferry.row_policy('roomscan.%s', on_missing_parent => 'park', park_for => '1 hour')" % table)

    def setUp(self):
        super().setUp()
        self.unit, self.other = self.new_unit(), self.new_unit()
        self.a = self.device("a")
        self.settle()
        self.a.stop()
        self.site.sql("CREATE TABLE IF NOT EXISTS public.kept AS SELECT * FROM inventory.units WHERE false")
        self.site.sql("INSERT INTO public.kept SELECT * FROM inventory.units WHERE id = %s", self.unit)
        self.site.sql("DELETE FROM inventory.units WHERE id = %s", self.unit)

    def parent_comes(self):
        self.site.sql("INSERT INTO inventory.units SELECT * FROM public.kept WHERE id = %s", self.unit)

    def many(self, start=True):
        """So many sessions in one transaction, whose last one is of the missing unit, and a change-set that builds on it."""
        rows = [(str(uuid.uuid4()), self.other, "uploading") for _ in range(ROWS)]
        self.last = str(uuid.uuid4())
        with self.a.transaction() as db:
            db.executemany("INSERT INTO room_scan_sessions (id, unit_id, status, started_at) VALUES (?, ?, ?, '%s')" % AT,
                           rows + [(self.last, self.unit, "uploading")])
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        self.a.run("sync", "--wait", "0")
        self.a.sql("UPDATE room_scan_sessions SET status = 'processing' WHERE id = ?", self.last)
        self.a.run("sync", "--wait", "0")
        self.a.sql("UPDATE projects SET name = 'Palm Two' WHERE id = ?", self.project)
        if start:
            self.a.start()
            wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 2, 120, "two parked change-sets")

    def sessions(self):
        return self.site.value("SELECT count(*) FROM roomscan.room_scan_sessions WHERE tenant_id = %s", self.tenant)

    def kept_parts(self):
        return self.site.value("SELECT count(*) FROM ferry.stage WHERE tenant_id = %s", self.tenant)

    def test_R6_R7_it_waits_in_its_parts_over_a_restart_of_the_hub_and_is_merged_once_the_parent_comes(self):
        self.many()
        self.settle()
        self.assertEqual(self.site.value("SELECT name FROM inventory.projects WHERE id = %s", self.project), "Palm Two")
        self.assertEqual(self.sessions(), 0)
        self.assertGreater(self.kept_parts(), 1)
        self.assertEqual(self.site.sql("SELECT key::text FROM ferry.parked_wait WHERE tenant_id = %s", self.tenant), [(self.unit,)])
        listed = self.hub.json("rejected", "list", "--tenant", self.tenant)
        self.assertEqual([r["state"][:12] for r in listed], ["parked until"] * 2)
        self.assertEqual(sorted(r["parts"] > 1 for r in listed), [False, True])
        waiting = self.a.json("outbox")
        self.assertEqual(len([r for r in waiting if "waits there for it" in (r["parked"] or "")]), ROWS + 1)
        self.a.stop()  # its device is away,
        self.hub.kill9()  # and its hub dies.
        self.parent_comes()
        self.hub.start()  # Nobody is connected.
        wait_until(lambda: self.sessions() == ROWS + 1, 120, "the parked change-set, merged")
        wait_until(lambda: self.kept_parts() == 0, 60, "its parts, gone")
        self.a.start()
        b = self.device("b")
        self.settle()
        self.assertEqual(self.site.value("SELECT status FROM roomscan.room_scan_sessions WHERE id = %s", self.last), "processing")
        self.assertEqual(self.a.json("outbox"), [])
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected"), [])
        self.assertEqual(self.site.sql("SELECT DISTINCT verdict FROM ferry.settled WHERE tenant_id = %s AND device_id = %s", self.tenant,
                                       self.a.id), [("accepted",)])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.parked_wait"), 0)
        self.assert_same(self.a, b)

    def test_P2_P5_R6_its_time_passes_and_it_is_refused_whole_with_its_values_and_can_be_merged_later(self):
        self.many()
        self.site.sql("UPDATE ferry.rejected SET parked_until = now() WHERE tenant_id = %s", self.tenant)
        wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 0, 120, "their refusal")
        self.assertEqual(self.a.sql("SELECT name, sentence, count(*) FROM ferry_rejected GROUP BY number ORDER BY number"),
                         [("FOREIGN_KEY", "it refers to units %s, which did not come to the hub in time" % self.unit, ROWS + 1),
                          ("DEPENDS", "it builds on change-set 1, which was refused", 1)])
        self.assertEqual(self.a.value("SELECT count(*) FROM room_scan_sessions"), 0)
        self.assertEqual(json.loads(self.a.value('SELECT "values" FROM ferry_rejected WHERE key = ? AND name = ?', self.last, "FOREIGN_KEY"))
                         ["unit_id"], self.unit)
        self.assert_same(self.a)
        self.assertGreater(self.kept_parts(), 1)
        self.parent_comes()
        (refused,) = [r for r in self.hub.json("rejected", "list", "--tenant", self.tenant) if r["parts"] > 1]
        shown = self.hub.json("rejected", "show", refused["id"])
        self.assertEqual((shown["rows"], len(shown["changes"]), shown["more"]), (ROWS + 1, 1000, ROWS - 999))
        shown = self.hub.json("rejected", "show", refused["id"], "--skip", ROWS - 1, "--limit", 5)
        self.assertEqual((shown["rows"], shown["skipped"], len(shown["changes"]), shown["more"]), (ROWS + 1, ROWS - 1, 2, 0))
        said = self.hub.run("rejected", "show", refused["id"], "--limit", "2").stdout
        self.assertIn("%d more rows: --skip 2" % (ROWS - 1), said)
        self.assertEqual(self.hub.json("rejected", "requeue", refused["id"])["verdict"], "accepted")
        self.assertEqual((self.sessions(), self.kept_parts()), (ROWS + 1, 0))
        self.settle()
        self.assert_same(self.a)

    def test_its_deadline_holds_though_no_device_of_its_tenant_is_connected(self):
        self.many()
        self.a.stop()
        self.site.sql("UPDATE ferry.rejected SET parked_until = now() WHERE tenant_id = %s", self.tenant)
        wait_until(lambda: self.site.value("SELECT count(*) FROM ferry.rejected WHERE tenant_id = %s AND parked_until IS NULL",
                                           self.tenant) == 2, 120, "both refusals")
        self.a.start()
        self.settle()
        self.assertEqual(self.a.value("SELECT count(*) FROM ferry_rejected"), ROWS + 2)
        self.assert_same(self.a)

    def test_large_documents_wait_for_the_parent_that_another_device_brings(self):
        b, unit = self.device("b"), str(uuid.uuid4())
        self.settle(b)
        b.stop()
        documents = [json.dumps({"n": n, "walls": "w%d " % n * (size // 4)}) for n, size in enumerate((900 << 10, 900 << 10, 3 << 20, 100))]
        with self.a.transaction() as db:
            db.executemany("INSERT INTO room_scans (unit_id, captured_at, document) VALUES (?, '%s', ?)" % AT, [(unit, d) for d in documents])
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        self.a.start()
        wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 1, 120, "the parked change-set")
        b.sql("INSERT INTO units (id, project_id, code, unit_type_code) VALUES (?, ?, 'U-77', 'APT_1BR')", unit, self.project)
        b.start()
        wait_until(lambda: self.site.value("SELECT count(*) FROM roomscan.room_scans WHERE unit_id = %s", unit) == len(documents), 120,
                   "the documents at the hub")
        self.settle()
        self.assertEqual([d for (d,) in b.sql("SELECT document FROM room_scans WHERE unit_id = ? ORDER BY json_extract(document, '$.n')", unit)],
                         [d for (d,) in self.a.sql("SELECT document FROM room_scans WHERE unit_id = ? ORDER BY json_extract(document, '$.n')",
                                                   unit)])
        self.assert_same(self.a, b)

    def test_rows_that_it_makes_itself_and_refers_to_are_not_waited_for(self):
        with self.a.transaction() as db:
            made = [(str(uuid.uuid4()), self.unit if n == 0 else self.other) for n in range(ROWS)]
            db.executemany("INSERT INTO room_scans (id, unit_id, captured_at, document) VALUES (?, ?, '%s', '{}')" % AT, made)
            db.executemany("INSERT INTO room_scan_sessions (unit_id, room_scan_id, status, started_at) VALUES (?, ?, 'uploading', '%s')" % AT,
                           [(self.other, scan) for scan, _ in made])
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        self.a.start()
        wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 1, 120, "the parked change-set")
        self.assertEqual(self.site.sql("SELECT key::text FROM ferry.parked_wait WHERE tenant_id = %s", self.tenant), [(self.unit,)])
        self.parent_comes()
        wait_until(lambda: self.sessions() == ROWS, 120, "the parked change-set, merged")
        self.settle()
        self.assert_same(self.a)

    def test_small_one_that_refers_to_rows_of_its_own_is_merged_when_its_parent_comes(self):
        scan = self.a.value("SELECT id FROM ferry_uuid")
        with self.a.transaction() as db:
            db.execute("INSERT INTO room_scans (id, unit_id, captured_at, document) VALUES (?, ?, '%s', '{}')" % AT, (scan, self.unit))
            db.execute("INSERT INTO room_scan_sessions (unit_id, room_scan_id, status, started_at) VALUES (?, ?, 'uploading', '%s')" % AT,
                       (self.other, scan))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        self.a.start()
        wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 1, 60, "the parked change-set")
        self.parent_comes()
        wait_until(lambda: self.sessions() == 1, 60, "the parked change-set, merged")
        self.settle()
        self.assert_same(self.a)


if __name__ == "__main__":
    unittest.main()
