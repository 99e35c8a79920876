#!/usr/bin/python3
"""R4: deletions are forgotten after a time, and a device that was away for longer rejoins safely."""

import unittest

from ferry_run import SiteCase


class Tombstones(SiteCase):

    def collect(self, *options):
        """What the engine forgets of this tenant, by what it is."""
        rows = self.hub.json("maintain", "--tenant", self.tenant, *options)
        return {r["subject"].split()[0]: (r["rows"], r["done"]) for r in rows if r["step"] == "engine" and r["subject"] != "sums"}

    def tombstones(self):
        return self.site.value("SELECT count(*) FROM ferry.version WHERE tenant_id = %s AND deleted", self.tenant)

    def horizon(self):
        return self.site.value("SELECT tombstones FROM ferry.horizon WHERE tenant_id = %s", self.tenant) or 0

    def delete(self, *units):
        for unit in units:
            self.site.sql("DELETE FROM inventory.units WHERE id = %s RETURNING 1", unit)

    def at_hub(self, unit):
        return self.site.value("SELECT count(*) FROM inventory.units WHERE id = %s", unit)

    def test_R4_device_away_beyond_the_horizon_keeps_its_edits_and_brings_no_deleted_row_back(self):
        edited, gone, deleted, plain, both = (self.new_unit(code="A-%d" % n, view="sea") for n in range(5))
        a, other = self.device("a"), self.device("other")
        self.settle()
        a.stop()
        a.sql("UPDATE units SET view = 'mine' WHERE id = ?", edited)
        a.sql("UPDATE units SET view = 'lost' WHERE id = ?", gone)
        a.sql("DELETE FROM units WHERE id = ?", deleted)
        a.sql("DELETE FROM units WHERE id = ?", both)
        made = a.value("INSERT INTO units (project_id, code, unit_type_code) VALUES (?, 'B-1', 'APT_1BR') RETURNING id", self.project)
        self.delete(gone, plain, both)
        self.settle(other)
        self.assertEqual(self.tombstones(), 3)
        planned = self.collect("--dry-run", "--keep-tombstones", "0s")
        self.assertEqual((planned["tombstones"], self.tombstones(), self.horizon()), ((3, False), 3, 0))
        self.assertEqual(self.collect("--keep-tombstones", "0s")["tombstones"], (3, True))
        self.assertEqual(self.tombstones(), 0)
        self.assertGreater(self.horizon(), a.standing()[0])
        since = self.hub.log_size()
        a.start()
        self.settle()
        self.hub.wait_log("mode=fill code=PRUNED", since=since)
        self.assertEqual([self.at_hub(u) for u in (edited, gone, deleted, plain, both, made)], [1, 0, 0, 0, 0, 1])
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", edited), "mine")
        for device in (a, other):
            self.assertEqual({row[0] for row in device.sql("SELECT id FROM units")}, {edited, made})
        self.assertEqual(a.sql("SELECT kind, key, \"column\", device_value FROM ferry_conflict"),
                         [("update_delete", gone, "view", "lost")])
        self.assertEqual(a.value("SELECT count(*) FROM ferry_rejected"), 0)
        self.assert_same()

    def test_R4_rejoining_works_with_a_fill_that_was_begun_below_the_horizon(self):
        kept, gone = self.new_unit(code="A-1"), self.new_unit(code="A-2")
        a = self.device("a", start=False)
        a.sync()
        a.sql("UPDATE ferry_state SET fill_active = 1, fill_position = position, "
              "fill_table = (SELECT tbl FROM ferry_table WHERE name = 'units')")  # as a cut fill leaves it
        a.sql("CREATE TABLE ferry_fill_units AS SELECT * FROM units")
        self.delete(gone)
        self.collect("--keep-tombstones", "0s")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT id FROM units"), [(kept,)])
        self.assert_same()

    def test_tombstones_stay_as_long_as_they_are_to_be_kept_and_a_late_device_needs_no_fill(self):
        unit = self.new_unit()
        kept = self.new_unit(code="A-2")
        a = self.device("a", start=False)
        a.sync()
        self.delete(unit)
        self.assertNotIn("tombstones", self.collect("--keep-tombstones", "1h"))
        self.assertEqual((self.tombstones(), self.horizon()), (1, 0))
        since = self.hub.log_size()
        a.sync()
        self.hub.wait_log("mode=delta", since=since)
        self.assertEqual(a.sql("SELECT id FROM units"), [(kept,)])

    def test_a_device_from_before_the_changes_that_are_kept_gets_them_from_the_versions_and_no_fill(self):
        other = str(self.site.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, 'Elsewhere') RETURNING id", self.tenant))
        edited, deleted, moved, same = (self.new_unit(code="A-%d" % n, view="sea") for n in range(4))
        away = self.new_unit(code="A-5", project=other)
        a = self.device("a", start=False)
        a.sync()
        a.sql("UPDATE units SET floor = 7 WHERE id = ?", edited)
        self.site.sql("UPDATE inventory.units SET view = 'garden' WHERE id = %s RETURNING 1", edited)
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s RETURNING 1", other, moved)
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s RETURNING 1", self.project, away)
        self.delete(deleted)
        made = self.new_unit(code="A-6")
        self.assertGreater(self.collect("--keep-changes", "0s")["changes"][0], 0)
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.change WHERE tenant_id = %s", self.tenant), 0)
        late = self.new_unit(code="A-7")  # and one that is in both
        since = self.hub.log_size()
        a.sync()
        self.hub.wait_log("mode=delta code=OK", since=since)
        self.assertEqual({row[0] for row in a.sql("SELECT id FROM units")}, {edited, same, away, made, late})
        self.assertEqual(a.sql("SELECT view, floor FROM units WHERE id = ?", edited), [("garden", 7)])
        self.assert_same()

    def test_maintain_refuses_what_is_no_time(self):
        for text in ("", "soon", "-1d", "7", "1y"):
            self.assertEqual(self.hub.run("maintain", "--dry-run", "--keep-tombstones", text).returncode, 2, text)


if __name__ == "__main__":
    unittest.main()
