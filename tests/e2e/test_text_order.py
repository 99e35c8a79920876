#!/usr/bin/python3
"""Lines that several put in at one place of a text, on real processes (docs/merge.md, `text`): in whatever order the
edits of two devices and of the back office arrive, also where a device's own pending edit is laid over the hub's answer
and more is written on top of that, all end with the same text, every line is there once, and lines keep the order in
which anybody who wrote saw them. Each unit is a random history of its own. FERRY_SEED replays a run.
"""

import contextlib
import os
import random
import unittest

from ferry_run import SiteCase, wait_until

UNITS, ROUNDS = 30, 4
STARTS = [None, "", "\n", "a", "a\n", "a\nb", "a\nb\nc", "a\n\nb", "\na"]


def lines_of(text):
    return [line for line in (text or "").split("\n") if line]


class Lines(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("SELECT ferry.policy('inventory.units', 'view', 'text')")

    def setUp(self):
        super().setUp()
        seed = int(os.environ.get("FERRY_SEED") or random.SystemRandom().randrange(2**32))
        print("seed", seed, flush=True)
        self.rng, self.count = random.Random(seed), 0
        self.seen = {}   # unit -> texts as their authors saw and wrote them
        self.start = {}

    def put_in(self, text, who):
        """A new line or two, mostly where others put in theirs: it never breaks a line that is there."""
        lines = text.split("\n") if text else []
        at = self.rng.choice([0, len(lines), len(lines) // 2])
        fresh = []
        for _ in range(self.rng.choice([1, 1, 2])):
            self.count += 1
            fresh.append("%s%d" % (who, self.count))
        if at < len(lines) and not lines[at] and self.rng.random() < 0.5:
            lines[at:at + 1] = fresh  # onto an empty line
        else:
            lines[at:at] = fresh
        return "\n".join(lines)

    def device_writes(self, d, who, share):
        for n, unit in enumerate(sorted(self.seen)):
            if self.rng.random() < share:
                with contextlib.closing(d.connect()) as replica:
                    replica.execute("BEGIN IMMEDIATE")  # the agent changes nothing between
                    (text,) = replica.execute("SELECT view FROM units WHERE id = ?", (unit,)).fetchone()
                    self.seen[unit].append(self.put_in(text, who))
                    replica.execute("UPDATE units SET view = ? WHERE id = ?", (self.seen[unit][-1], unit))
                    replica.execute("COMMIT")
            if n % 10 == 9 and not d.running():
                d.run("sync", "--wait", "0")  # change-sets of their own

    def back_office_writes(self):
        for unit, text in self.site.sql("SELECT id::text, view FROM inventory.units WHERE tenant_id = %s ORDER BY id", self.tenant):
            if self.rng.random() < 0.4:
                self.seen[unit].append(self.put_in(text, "h"))
                self.site.sql("UPDATE inventory.units SET view = %s WHERE id = %s", self.seen[unit][-1], unit)

    def comes_back(self, d, who):
        """Mostly the hub's state comes before its verdicts, as somebody holds rows, and it writes on what it sees then."""
        position, conn = d.standing()[0], self.db.connect()
        try:
            with conn.cursor() as cur:
                cur.execute("SELECT FROM inventory.units WHERE tenant_id = %s AND id = ANY (%s::uuid[]) FOR UPDATE",
                            (self.tenant, [unit for unit in self.seen if self.rng.random() < 0.6]))
            head = self.hub.head(self.tenant)
            d.start()
            wait_until(lambda: d.standing()[0] >= max(head, position), 60, "the hub's state on " + d.label)
            self.device_writes(d, who, 0.4)
        finally:
            conn.rollback()
            conn.close()
        self.settle(d)

    def test_P4_P5_R2_lines_put_in_at_one_place_end_alike_everywhere_in_the_order_that_was_seen(self):
        for n in range(UNITS):
            start = STARTS[n % len(STARTS)]
            unit = self.new_unit("T-%d" % n, view=start)
            self.seen[unit], self.start[unit] = [start or ""], start
        devices = {"a": self.device("a"), "b": self.device("b")}
        self.settle()
        for _ in range(ROUNDS):
            for d in devices.values():
                d.stop()
            for who, d in devices.items():
                self.device_writes(d, who, 0.5)
            self.back_office_writes()
            for who in self.rng.sample(sorted(devices), 2):
                self.comes_back(devices[who], who)
            self.settle()
            self.check()
        self.assert_same()
        self.assertEqual(self.site.sql("SELECT kind, device_value, hub_value FROM ferry.conflict WHERE tenant_id = %s", self.tenant), [])

    def check(self):
        for unit, text in self.site.sql("SELECT id::text, view FROM inventory.units WHERE tenant_id = %s", self.tenant):
            came_out = lines_of(text)
            with self.subTest(unit=unit, start=self.start[unit], text=text, seen=self.seen[unit]):
                self.assertEqual(sorted(came_out), sorted({line for seen in self.seen[unit] for line in lines_of(seen)}))
                for seen in self.seen[unit]:
                    self.assertEqual([line for line in came_out if line in lines_of(seen)], lines_of(seen))


if __name__ == "__main__":
    unittest.main()
