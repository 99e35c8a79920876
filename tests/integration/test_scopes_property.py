#!/usr/bin/python3
"""Random rows, moves, grants and losses in SQL, against a model of who sees what.

Devices are played here by what the hub asks of the engine: held scopes, changes, versions, leavings. So thousands of
steps take seconds; tests/e2e/test_scopes_random.py does the same with real ones. FERRY_SCOPES_SEED replays a run,
FERRY_SCOPES_STEPS makes it longer.
"""

import os
import random
import unittest
import uuid

import scope_model
from ferry_case import HubCase, run

SEED = int(os.environ.get("FERRY_SCOPES_SEED") or random.randrange(1 << 31))
STEPS = int(os.environ.get("FERRY_SCOPES_STEPS") or 80)


class Device:
    """A replica: in which scopes it knows each row to be."""

    def __init__(self, key):
        self.id, self.position, self.held = key, 0, set()
        self.members = {}  # {(tbl, key): set of scopes}

    def sync(self, conn, tenant):
        head = (run(conn, "SELECT position FROM ferry.head(%s)", tenant) or [(0,)])[0][0]
        held = {r[0] for r in run(conn, "SELECT scope FROM ferry.held_scope WHERE device_id = %s AND reads", self.id)}
        for row in list(self.members):
            self.drop(row, self.members[row] - held)
        for tbl, key, scope in run(conn, "SELECT v.tbl, v.key, x FROM ferry.version v, unnest(v.scope || v.also) x "
                                         "WHERE v.tenant_id = %s AND NOT v.deleted AND x = ANY (%s)", tenant, list(held - self.held)):
            self.members.setdefault((tbl, key), set()).add(scope)
        left = {(tbl, key, scope) for tbl, scope, keys in run(
            conn, "SELECT tbl, scope, keys FROM ferry.left_since(%s, %s, %s)", tenant, self.position, head) for key in keys}
        for tbl, scope, keys in run(conn, "SELECT tbl, scope, keys FROM ferry.changed(%s, %s, %s) WHERE scope = ANY (%s)",
                                    tenant, self.position, head, list(held)):
            for key, deleted, scopes in run(conn, "SELECT key, deleted, scope || also FROM ferry.version "
                                                  "WHERE tenant_id = %s AND tbl = %s AND key = ANY (%s)", tenant, tbl, keys):
                if deleted:
                    self.members.pop((tbl, key), None)
                elif scope in scopes:
                    self.members.setdefault((tbl, key), set()).add(scope)
                elif (tbl, key, scope) in left:
                    self.drop((tbl, key), {scope})
        self.position, self.held = head, held

    def drop(self, row, scopes):
        if row in self.members:
            self.members[row] -= scopes
            if not self.members[row]:
                del self.members[row]


class Property(HubCase):
    BRINGS = False  # do parents come along?

    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        scope_model.create(self.sql, self.BRINGS)
        self.changes = scope_model.Changes(SEED, self.t, self.value, self.BRINGS)
        self.model, self.random = self.changes.model, self.changes.random
        self.devices = []
        for user in self.changes.users:
            device = str(uuid.uuid4())
            self.sql("INSERT INTO ferry.device (id, tenant_id, name, user_id, class, fingerprint) VALUES (%s, %s, 'd', %s, 'tablet', "
                     "sha256(%s))", device, self.t, user, device.encode())
            self.sql("INSERT INTO ferry.device_scope (device_id, scope) SELECT %s, unnest(%s)", device, ["tenant", "user:" + user])
            self.changes.add_device(device, user)
            self.devices.append(Device(device))
        self.tables = {self.tbl(t): t for t in scope_model.TABLES}

    def sums(self, conn):
        return {(tbl, scope): rows for tbl, scope, _, rows in run(conn, "SELECT * FROM ferry.sums(%s)", self.t)}

    def assert_view(self, conn, device, what):
        device.sync(conn, self.t)
        view = {(self.tables[tbl], str(key)) for tbl, key in device.members if tbl in self.tables}
        self.assertEqual(view, {(t, k) for t, keys in self.model.view(device.id).items() for k in keys}, what)
        sums = self.sums(conn)
        for tbl, table in self.tables.items():
            for scope in device.held:
                rows = sum(1 for (t, _), scopes in device.members.items() if t == tbl and scope in scopes)
                self.assertEqual(rows, sums.get((tbl, scope), 0), "%s: the rows of %s in %s" % (what, table, scope))

    def step(self, conn, cur, n):
        """One change, or several in one transaction, some of them taken back."""
        for _ in range(self.random.choice((1, 1, 1, 2, 5))):
            self.changes.step(cur)
        if self.random.random() < 0.1:
            cur.execute("SAVEPOINT s")
            cur.execute("UPDATE public.tasks SET owner_id = NULL, watchers = NULL, box_id = NULL WHERE tenant_id = %s", (self.t,))
            cur.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cur.execute("ROLLBACK TO SAVEPOINT s")
        conn.commit()
        if n % 40 == 39:
            self.sql("SELECT ferry.prune_changes(%s, %s)", self.t, self.head(self.t))
        if n % 25 == 24:
            self.assert_sound()

    def test_P4_P7_every_device_is_told_exactly_what_the_model_says(self):
        print("FERRY_SCOPES_SEED=%d" % SEED, flush=True)
        conn, reader = self.conn(), self.conn(tenant=self.t)
        with conn.cursor() as cur:
            for n in range(STEPS):
                self.step(conn, cur, n)
                for device in self.devices:
                    if self.random.random() < 0.4:
                        self.assert_view(reader, device, "step %d" % n)
                        reader.commit()
        for device in self.devices:
            self.assert_view(reader, device, "at the end")
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
