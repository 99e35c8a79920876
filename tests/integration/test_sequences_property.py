#!/usr/bin/python3
"""Random grants, assignments, rollbacks and skips of the policy `sequence` against a model of it (docs/merge.md): a
number goes to one device's range or to one row, and never again. FERRY_SEED replays a run.
"""

import os
import random
import unittest
import uuid

import psycopg2

from ferry_case import HubCase, run

ROUNDS = 4
STEPS = 50
LEASE = 7


class Model:
    """A sequence that may have gaps: it only goes forward, whatever becomes of who took."""

    def __init__(self, rng):
        self.start, self.step, self.padding = rng.randrange(1, 40), rng.randrange(1, 4), rng.randrange(1, 7)
        self.suffix = rng.choice(["", "/x"])
        self.highest = self.start + self.step * rng.randrange(60, 200)
        self.next = self.start
        self.given = {}  # text -> whose

    def take(self, count):
        values = [self.next + i * self.step for i in range(count)]
        self.next += count * self.step
        return [v for v in values if v <= self.highest]

    def undo(self, values):
        """The numbers are gone; but the very first use began the sequence, and without it there is none yet."""
        if values and values[0] == self.start:
            self.next = self.start

    def text(self, value):
        return "L-%s%s" % (str(value).zfill(self.padding), self.suffix)

    def give(self, value, whose):
        text = self.text(value)
        assert text not in self.given, "%s is %s's and %s's" % (text, self.given[text], whose)
        self.given[text] = whose


class Sequences(HubCase):
    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get("FERRY_SEED") or random.SystemRandom().randrange(2**31))
        print("seed %d" % self.seed, flush=True)
        self.sql("SELECT ferry.policy('crm.leads', 'number', 'sequence', %s)", '{"sequence": "LEAD", "lease": %d}' % LEASE)
        self.session = self.conn()
        self.column = self.tbl("leads"), self.num("leads", "number")

    def begin(self, rng, number):
        self.m = Model(rng)
        self.t = self.tenant("t%d" % number)
        self.sql("INSERT INTO governance.number_sequences (tenant_id, code, name, prefix, suffix, format_template, gap_free, min_value, step, "
                 "padding_length, max_value) VALUES (%s, 'LEAD', 'Leads', 'L', %s, '{prefix}-{number}{suffix}', false, %s, %s, %s, %s)",
                 self.t, self.m.suffix, self.m.start, self.m.step, self.m.padding, self.m.highest)
        self.devices = {}
        for i in range(3):
            device = uuid.UUID(int=rng.getrandbits(128), version=4)
            self.sql("INSERT INTO ferry.device (id, tenant_id, name, user_id, class, fingerprint, status) VALUES (%s, %s, %s, %s, 'tablet', %s, %s)",
                     device, self.t, "d%d" % i, uuid.uuid4(), uuid.uuid4().bytes + uuid.uuid4().bytes, "active")
            self.devices[device] = []  # values that it may give

    # ---- what may happen

    def grant(self, rng):
        """A range for a device, which the model foresees; or its transaction is undone."""
        device, kept = rng.choice(list(self.devices)), rng.random() < 0.8
        rows = run(self.session, "SELECT first, last, step, padding, head, tail, until FROM ferry.lease_numbers(%s, %s, %s, %s)",
                   self.t, device, *self.column)
        values = self.m.take(LEASE)
        expected = [(values[0], values[-1], self.m.step, self.m.padding, "L-", self.m.suffix, None)] if values else []
        self.assertEqual(rows, expected)
        if kept:
            self.session.commit()
            self.devices[device] += values
            for v in values:
                self.m.give(v, device)
        else:
            self.session.rollback()
            self.m.undo(values)

    def assign(self, rng):
        """A row without a number, by ordinary SQL: the next one, or an error where there is none."""
        kept, values = rng.random() < 0.8, self.m.take(1)
        try:
            got = run(self.session, "INSERT INTO crm.leads (tenant_id, source_code) VALUES (%s, 'S') RETURNING number", self.t)[0][0]
        except psycopg2.Error as error:
            self.assertEqual((error.pgcode, values), ("FE321", []), str(error))
            self.session.rollback()
            return
        self.assertEqual([got], [self.m.text(v) for v in values])
        if kept:
            self.session.commit()
            self.m.give(values[0], "a row")
        else:
            self.session.rollback()
            self.m.undo(values)

    def skip(self, rng):
        """As after a restore: what may have been granted in the lost history is not granted again."""
        count = rng.randrange(1, 20)
        if any(self.devices.values()):
            self.sql("SELECT ferry.skip_leases(%s)", count)
            for v in self.m.take(count):
                self.m.give(v, "the lost history")

    def revoke(self, rng):
        """It gets no ranges any more; those that it has stay its own."""
        device = rng.choice(list(self.devices))
        self.sql("UPDATE ferry.device SET status = 'revoked' WHERE id = %s", device)
        self.assertEqual(self.sql("SELECT * FROM ferry.lease_numbers(%s, %s, %s, %s)", self.t, device, *self.column), [])
        self.sql("UPDATE ferry.device SET status = 'active' WHERE id = %s", device)

    def whose(self, text):
        """The devices in whose ranges the hub finds a number."""
        return [row[0] for row in self.sql("SELECT l.device_id FROM ferry.lease l WHERE l.tenant_id = %s AND l.device_id IS NOT NULL "
                                           "AND ferry.lease_value(l, %s) IS NOT NULL", self.t, text)]

    def test_R19_every_number_is_given_once(self):
        rng = random.Random(self.seed)
        for number in range(ROUNDS):
            self.begin(rng, number)
            for _ in range(STEPS):
                rng.choices([self.grant, self.assign, self.skip, self.revoke], [5, 5, 1, 1])[0](rng)
            for text in rng.sample(sorted(self.m.given), min(15, len(self.m.given))):
                owner = self.m.given[text]
                self.assertEqual(self.whose(text), [owner] if owner in self.devices else [], text)
            self.assertEqual(self.whose(self.m.text(self.m.highest + self.m.step)), [])


if __name__ == "__main__":
    unittest.main()
