#!/usr/bin/python3
"""Random lives of requests for an approval against a model that was written from docs/merge.md alone.

FERRY_SEED replays a run.
"""

import json
import os
import random
import unittest
import uuid

import psycopg2

from ferry_case import HubCase, run

STEPS = 100
UNITS, DEVICES = 4, 3
VALUES = [100, 200, 300]


class Model:
    """What stands, and what became of each request."""

    def __init__(self):
        self.price, self.requests = {}, []

    def ask(self, device, unit, value):
        for r in self.requests:
            if (r["device"], r["unit"], r["status"]) == (device, unit, "pending"):
                r["status"] = "replaced"
        self.requests.append({"device": device, "unit": unit, "old": self.price[unit], "new": value, "status": "pending", "met": None})

    def decide(self, r, decision):
        """In SQL, which may decide whatever it likes; the code of the error, if there is one."""
        if r["status"] == decision:
            return None  # says nothing new
        if r["status"] != "pending":
            return "FE318"
        now = self.price.get(r["unit"])
        if decision != "approved" or now == r["new"]:
            r["status"] = decision
        elif now == r["old"]:
            r["status"], self.price[r["unit"]] = decision, r["new"]
        else:
            r["status"], r["met"] = "stale", now
        return None


class Approvals(HubCase):

    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.sql("SELECT ferry.policy('inventory.units', 'price_minor', 'approval', '{\"permission\": \"inventory.approve\"}')")
        role = self.value("INSERT INTO identity.roles (tenant_id, code, name) VALUES (%s, 'r', 'R') RETURNING id", self.t)
        for permission in ("inventory.view", "inventory.edit", "inventory.price", "inventory.approve"):
            self.sql("INSERT INTO identity.role_permissions (tenant_id, role_id, permission) VALUES (%s, %s, %s)", self.t, role, permission)
        self.users, self.devices = [], []
        for n in range(DEVICES):
            self.users.append(self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id::text", self.t, "u%d@x.y" % n))
            self.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind) VALUES (%s, %s, %s, 'TENANT')",
                     self.t, self.users[n], role)
            self.devices.append(str(uuid.uuid4()))
            self.sql("INSERT INTO ferry.device (id, tenant_id, name, user_id, class, fingerprint) VALUES (%s, %s, 'd', %s, 'tablet', sha256(%s))",
                     self.devices[n], self.t, self.users[n], self.devices[n].encode())
            self.sql("INSERT INTO ferry.device_scope (device_id, scope) VALUES (%s, 'tenant')", self.devices[n])
        project = self.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, 'P') RETURNING id", self.t)
        self.units = [self.value("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, price_minor, currency) "
                                 "VALUES (%s, %s, %s, 'APT_1BR', 100, 'EGP') RETURNING id::text", self.t, project, "A-%d" % n) for n in range(UNITS)]
        self.back_office, self.hub = self.conn(), self.conn("ferry_hub", tenant=self.t)
        self.number = 0

    def ask(self, device, unit, value):
        """As the merge does."""
        self.number += 1
        run(self.hub, "SELECT ferry.touch(%s), ferry.merging(true)", self.t)
        run(self.hub, "SELECT ferry.ask_approvals(%s, %s, %s, %s, %s::uuid[], %s, %s, %s)", self.t, self.devices[device], self.number,
            [self.tbl("units")], [self.units[unit]], [self.num("units", "price_minor")], [1767225600000000 + self.number],
            [json.dumps(value)])
        run(self.hub, "SELECT ferry.finish()")
        self.hub.commit()

    def as_user(self, user, text, *args):
        """In SQL; the code of the error, if there is one."""
        try:
            run(self.back_office, "SELECT set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true)", str(self.t), user)
            run(self.back_office, text, *args)
            self.back_office.commit()
            return None
        except psycopg2.Error as error:
            self.back_office.rollback()
            return error.pgcode

    def standing(self):
        """Requests in the order in which they were asked, and prices."""
        return (self.sql("SELECT status, old_value, new_value, met_value FROM ferry.approval WHERE tenant_id = %s ORDER BY change_set", self.t),
                dict(self.sql("SELECT id::text, price_minor FROM inventory.units WHERE tenant_id = %s", self.t)))

    def step(self, rng, model):
        """One thing that happens; what it was."""
        unit = rng.randrange(UNITS)
        gone = unit not in model.price
        kind = rng.choices(["ask", "decide", "write", "delete"], [8, 8, 3, 0.2])[0]
        if kind == "decide" and model.requests:
            n = rng.randrange(max(0, len(model.requests) - 8), len(model.requests))
            decision, by = rng.choice(["approved", "approved", "refused", "withdrawn"]), rng.randrange(DEVICES)
            wanted = model.decide(model.requests[n], decision)
            key = self.value("SELECT id FROM ferry.approval WHERE tenant_id = %s ORDER BY change_set OFFSET %s LIMIT 1", self.t, n)
            got = self.as_user(self.users[by], "UPDATE ferry.approval SET status = %s WHERE id = %s", decision, key)
            self.assertEqual(got, wanted, (n, decision, by))
            return "%d is %s by %d: %s" % (n, decision, by, got)
        value = rng.choice([v for v in VALUES if v != model.price.get(unit)])
        if gone or kind == "decide":
            return "nothing"
        if kind == "ask":
            device = rng.randrange(DEVICES)
            model.ask(device, unit, value)
            self.ask(device, unit, value)
        elif kind == "write":
            model.price[unit] = value
            self.assertIsNone(self.as_user(self.users[0], "UPDATE inventory.units SET price_minor = %s WHERE id = %s", value, self.units[unit]))
        elif len(model.price) > 1:
            del model.price[unit]
            self.assertIsNone(self.as_user(self.users[0], "DELETE FROM inventory.units WHERE id = %s", self.units[unit]))
        return "%s %d %d" % (kind, unit, value)

    def test_random_requests_end_as_the_model_says(self):
        seed = int(os.environ.get("FERRY_SEED", random.SystemRandom().randrange(2**32)))
        print("seed", seed, flush=True)
        rng, model, story = random.Random(seed), Model(), []
        model.price = dict.fromkeys(range(UNITS), 100)
        ends = {"approved", "refused", "stale", "replaced"}
        while len(story) < STEPS or not ends <= {r["status"] for r in model.requests} and len(story) < 20 * STEPS:
            story.append(self.step(rng, model))
            requests, prices = self.standing()
            with self.subTest(seed=seed, story=story[-12:]):
                self.assertEqual(requests, [(r["status"], *(None if v is None else str(v) for v in (r["old"], r["new"], r["met"])))
                                            for r in model.requests])
                self.assertEqual(prices, {self.units[n]: price for n, price in model.price.items()})
        self.assertLessEqual(ends, {r["status"] for r in model.requests})
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
