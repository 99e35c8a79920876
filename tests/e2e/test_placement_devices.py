#!/usr/bin/python3
"""The list of devices says where each stands and whether a copy was turned away, in whichever database its tenant lives."""

import unittest

import ferry_pg
import ferry_run
from ferry_run import wait_until

from test_placement import Place


class PlacementDevices(ferry_run.SiteCase):
    HUB_SETTINGS = {"timing.tenant_retry": "100ms"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = ferry_pg.Cluster()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.other.close()

    def listed(self, place, *arguments):
        return next(row for row in self.hub.json("device", "list", *arguments) if row["id"] == place.device.id)

    def test_bookmarks_numbers_and_quarantine_are_shown_of_every_database(self):
        places = [Place(self, level) for level in ("shared-database", "dedicated-database", "dedicated-instance")]
        for place in places:
            place.both_ways()
            wait_until(lambda p=place: (self.listed(p)["bookmark"] or 0) > 0 and self.listed(p)["settled"] == 1, 30,
                       "the standing of the device of " + place.level)
            self.assertIsNone(self.listed(place)["quarantined_at"])
        for place in places:  # as the hub does when a copy comes
            place.db.query("UPDATE ferry.device SET quarantined_at = now() WHERE id = %s RETURNING 1", (place.device.id,))
            self.assertIsNotNone(self.listed(place)["quarantined_at"], place.level)
            self.assertIsNotNone(self.listed(place, "--tenant", place.id)["quarantined_at"], place.level)
        far, near = places[-1], places[0]
        self.other.stop("immediate")
        try:
            done = self.hub.run("device", "list", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("does not say where its devices stand", done.stderr)
            self.assertIsNone(self.listed(far)["bookmark"])
            self.assertGreater(self.listed(near)["bookmark"], 0)
        finally:
            self.other.start()

    def test_a_device_that_never_connected_is_known_in_lists_of_its_tenant(self):
        place = Place(self, "dedicated-database", device=False)
        a = self.device("a", place.id, scopes=[], start=False)
        name = next(row["name"] for row in self.hub.json("device", "list") if row["id"] == a.id)
        for device in (name, a.id):
            self.assertEqual(self.hub.json("rejected", "list", "--tenant", place.id, "--device", device), [])
            self.assertEqual(self.hub.json("conflict", "list", "--tenant", place.id, "--device", device), [])
        with self.assertRaises(ferry_run.CommandFailed) as failed:
            self.hub.json("rejected", "list", "--tenant", self.tenant, "--device", name)
        self.assertEqual(failed.exception.error["code"], "NOT_FOUND")


if __name__ == "__main__":
    unittest.main()
