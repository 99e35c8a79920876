#!/usr/bin/python3
"""R19 on real processes: numbers that were leased after a backup, and the hub that is restored from it."""

import unittest

from ferry_run import wait_until
from test_heal import DumpBackup, HealCase


class LeasesHeal(HealCase):

    def stocked(self, device):
        wait_until(lambda: (device.value("SELECT available FROM ferry_number") or 0) >= 50, 30, "a range of numbers")

    def leads(self, device, count):
        """So many new leads of a device; their numbers."""
        with device.transaction() as db:
            return [db.execute("INSERT INTO leads (source_code) VALUES ('S') RETURNING id, number").fetchone() for _ in range(count)]

    def test_R19_numbers_leased_after_the_backup_are_not_leased_again(self):
        backup = self.backup(DumpBackup)
        a, b = (self.site.device(label, self.tenant, ["tenant"], start=True) for label in "ab")
        self.site.wait_settled()
        for device in (a, b):
            self.stocked(device)
        before = self.site.value("SELECT max(last) FROM ferry.lease")
        backup.take()
        given = self.leads(a, 50)  # all of its first range, so that the next ones are leased after the backup
        self.site.wait_settled(a)
        self.stocked(a)
        self.assertGreater(a.value("SELECT min(next) FROM ferry_lease WHERE next <= last"), before)
        a.stop()
        given += self.leads(a, 5)  # which the lost hub never heard of
        backup.restore()
        self.hub.wait_log("event=rewound")
        given += self.leads(b, 60)  # more than it has: the rest comes from the restored hub
        self.site.wait_settled(b)
        self.stocked(b)
        given += self.leads(b, 40)
        self.site.wait_settled(b)
        a.start()
        self.site.wait_settled()
        at_hub = dict(self.site.sql("SELECT id::text, number FROM crm.leads"))
        self.assertEqual(at_hub.keys(), {key for key, _ in given})
        self.assertEqual([at_hub[key] for key, number in given if number], [number for _, number in given if number])
        self.assertEqual((len(set(at_hub.values())), None in at_hub.values()), (155, False))
        for device in (a, b):
            self.assertEqual(device.sql("SELECT sentence FROM ferry_rejected"), [])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
