#!/usr/bin/python3
"""What is parked in a place of a tenant is looked at though the place is closed and no device of it comes."""

import unittest
import uuid

import ferry_pg
from ferry_run import SiteCase, wait_until

AT = "2026-01-01T00:00:00.000000Z"


class PlacementParked(SiteCase):

    def setUp(self):
        super().setUp()
        word = "far" + uuid.uuid4().hex[:6]
        self.far = self.hub.json("tenant", "create", "Far", "--slug", word, "--isolation", "dedicated-database", timeout=300)["id"]
        self.place = ferry_pg.Database(self.site.cluster, "ferry_" + word)
        self.place.query("SELECT ferry.row_policy('roomscan.room_scan_sessions', on_missing_parent => 'park', park_for => '1 hour')")
        self.project = str(self.place.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, 'Palm') RETURNING id", (self.far,)))
        self.a = self.device("a", tenant=self.far)
        self.a.wait_filled()

    def noted(self):
        return self.site.value("SELECT count(*) FROM ferry.parked_place WHERE tenant_id = %s", self.far)

    def session_of(self, unit):
        key = str(uuid.uuid4())
        self.a.sql("INSERT INTO room_scan_sessions (id, unit_id, status, started_at) VALUES (?, ?, 'uploading', '%s')" % AT, key, unit)
        return key

    def test_parent_that_comes_by_sql_and_a_deadline_are_seen_by_a_hub_that_has_not_opened_the_place(self):
        unit = str(uuid.uuid4())
        key = self.session_of(unit)
        wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 1, 60, "the first that waits")
        late = self.session_of(str(uuid.uuid4()))
        wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 2, 60, "the second that waits")
        wait_until(lambda: self.noted() == 1, 90, "the note at home")
        self.a.stop()
        self.hub.stop()
        self.place.query("INSERT INTO inventory.units (tenant_id, id, project_id, code, unit_type_code) VALUES (%s, %s, %s, 'U-1', 'APT_1BR')",
                         (self.far, unit, self.project))
        self.place.query("UPDATE ferry.rejected SET retry_at = now() - interval '1 minute'")
        self.place.query("UPDATE ferry.rejected SET parked_until = now() WHERE number = (SELECT max(number) FROM ferry.rejected)")
        self.site.sql("UPDATE ferry.parked_place SET looked_at = now() - interval '1 day'")
        self.hub.start()  # nobody is connected
        wait_until(lambda: self.place.value("SELECT count(*) FROM roomscan.room_scan_sessions WHERE id = %s", (key,)) == 1, 120,
                   "what waited for the parent")
        wait_until(lambda: self.place.query("SELECT code FROM ferry.rejected WHERE parked_until IS NULL") == [(305,)], 60,
                   "the refusal of what waited too long")
        self.assertEqual([p["conninfo"] is not None for p in self.hub.status()["places"]], [True])
        wait_until(lambda: self.noted() == 0, 90, "the end of the note")
        self.a.start()
        wait_until(lambda: self.a.standing()[1:] == (0, 0) and self.a.value("SELECT parked FROM ferry_status") == 0, 60, "the verdicts")
        self.assertEqual(self.a.sql("SELECT key, name FROM ferry_rejected"), [(late, "FOREIGN_KEY")])


if __name__ == "__main__":
    unittest.main()
