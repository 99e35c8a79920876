#!/usr/bin/python3
"""Backups and restores of the hub at random points of random work: afterwards every change-set that a device had
confirmed is at the hub, or stands somewhere with a verdict (P8).

FERRY_SEED replays a run; FERRY_STEPS makes it longer.
"""

import os
import random
import unittest

from ferry_run import differences, wait_until

from test_heal import DumpBackup, HealCase


class RandomHealing(HealCase):

    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get("FERRY_SEED") or random.SystemRandom().randrange(2 ** 32))
        print("FERRY_SEED=%d" % self.seed, flush=True)
        self.random = random.Random(self.seed)
        self.made = {}     # key of a unit -> device that made it
        self.deleted = set()
        self.edits = {}    # key -> every value that anybody gave its view
        self.number = 0

    def edit(self, device):
        """One transaction on a device: a new row, an edit or a deletion of any row that it holds."""
        r = self.random
        self.number += 1
        rows = [row[0] for row in device.sql("SELECT id FROM units")]
        what = r.choice(["insert", "update", "update", "update", "delete"]) if rows else "insert"
        if what == "insert":
            key = self.insert(device, "R-%d" % self.number, view="v%d" % self.number)
            self.made[key] = device.label
        elif what == "update":
            key = r.choice(rows)
            device.sql("UPDATE units SET view = ? WHERE id = ?", "v%d" % self.number, key)
        else:
            key = r.choice(rows)
            device.sql("DELETE FROM units WHERE id = ?", key)
            self.deleted.add(key)
            return
        self.edits.setdefault(key, set()).add("v%d" % self.number)

    def shown(self, key):
        """Is the row, or what became of it, kept with a verdict anywhere?"""
        at_hub = self.site.value("SELECT count(*) FROM ferry.conflict WHERE key = %s", key)
        return at_hub or any(d.value("SELECT (SELECT count(*) FROM ferry_rejected WHERE key = ?1) + "
                                     "(SELECT count(*) FROM ferry_conflict WHERE key = ?1)", key) for d in self.site.devices)

    def check(self):
        for device in self.site.devices:
            self.assertEqual(differences(self.site.db, device), [], "seed %d" % self.seed)
            self.assertEqual(device.value("SELECT replays FROM ferry_status"), 0)
        here = dict(self.site.sql("SELECT id::text, view FROM inventory.units"))
        for key in self.made:
            if key not in here:
                self.assertTrue(key in self.deleted or self.shown(key), "seed %d: the row %s is lost" % (self.seed, key))
            else:
                self.assertIn(here[key], self.edits[key], "seed %d" % self.seed)
        for device in self.site.devices:  # no number is open: each was settled, there or here
            last = device.value("SELECT last_number FROM ferry_state")
            settled, above = self.site.sql("SELECT settled, settled_above FROM ferry.device WHERE id = %s", device.id)[0]
            self.assertEqual((settled, above), (last, []), "seed %d" % self.seed)

    def test_P8_nothing_confirmed_is_missing_after_restores_at_random_points(self):
        backups = [self.backup(DumpBackup)]
        devices = [self.device(name, start=True) for name in "abc"]
        self.unit("FIRST")
        self.site.wait_settled()
        backups[0].take()
        for step in range(int(os.environ.get("FERRY_STEPS") or 3)):
            for _ in range(self.random.randrange(5, 20)):
                self.edit(self.random.choice(devices))
                if self.random.random() < 0.2:
                    self.site.wait_settled()
                if self.random.random() < 0.05:
                    self.random.choice(devices).kill9()
                for device in devices:
                    if not device.running():
                        device.start()
            if self.random.random() < 0.7:
                self.site.wait_settled()
            if step and self.random.random() < 0.5:
                backups.append(self.backup(DumpBackup))
                backups[-1].take()
                for _ in range(self.random.randrange(1, 8)):
                    self.edit(self.random.choice(devices))
            before = [d.value("SELECT hex(life_mark) FROM ferry_state") for d in devices]
            self.random.choice(backups).restore()

            def met(before=before):  # every device has begun a life at the restored hub
                return all(d.value("SELECT hex(life_mark) FROM ferry_state") != b for d, b in zip(devices, before))
            wait_until(met, 60, "the devices at the restored hub")
            self.site.wait_settled(seconds=120)
            self.check()


if __name__ == "__main__":
    unittest.main()
