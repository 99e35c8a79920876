#!/usr/bin/python3
"""Random rows, moves, grants and losses on a real hub with real devices, against a model of who sees what.

The model (tests/lib/scope_model.py) says of each device which rows it should hold, exactly. FERRY_SCOPES_SEED replays
a run, FERRY_SCOPES_ROUNDS makes it longer.
"""

import contextlib
import os
import random
import unittest

import ferry_run
import scope_model
from ferry_run import wait_until

SEED = int(os.environ.get("FERRY_SCOPES_SEED") or random.randrange(1 << 31))
ROUNDS = int(os.environ.get("FERRY_SCOPES_ROUNDS") or 4)


class RandomScopes(ferry_run.SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scope_model.create(cls.site.sql)

    def setUp(self):
        super().setUp()
        self.changes = scope_model.Changes(SEED, self.tenant, self.site.value)
        self.model, self.random = self.changes.model, self.changes.random

    def work(self, count):
        with contextlib.closing(self.db.connect()) as conn, conn.cursor() as cur:
            for _ in range(count):
                self.changes.step(cur)
                if self.random.random() < 0.6:
                    conn.commit()
            conn.commit()

    # ---- devices

    def edit(self, device):
        """An edit of a row that the device has; (table, key, note) or None."""
        rows = [(t, k) for t, keys in self.model.view(device.id).items() for k in sorted(keys)]
        if not rows:
            return None
        table, key = self.random.choice(rows)
        note = "d%d" % self.random.randrange(10000)
        device.sql("UPDATE %s SET note = ? WHERE id = ?" % table, note, key)
        return table, key, note

    def note_edit(self, edit):
        self.model.rows[edit[0]][edit[1]]["note"] = edit[2]

    def replica(self, device):
        return {t: dict(device.sql("SELECT id, note FROM %s" % t)) for t in scope_model.TABLES}

    def expect_views(self, what):
        for device in self._devices:
            wait_until(lambda d=device: self.replica(d) == self.model.view(d.id), 60, "%s: what %s should hold" % (what, device.label))
        self.settle()
        for device in self._devices:
            self.assertEqual(self.replica(device), self.model.view(device.id), what)
        # What a device may see changes without a commit for it: its other tables follow with its next session.
        wait_until(lambda: not self.site.differences(*self._devices), 60, "%s: the other tables" % what)
        self.assert_same()

    def lost_edit(self, device):
        """The device edits while it is away and the world changes: its edit stands, or is kept with its values."""
        device.stop()
        edit = self.edit(device)
        self.work(6)
        device.start()
        self.settle()
        if not edit:
            return
        table, key, note = edit
        kept = [v for k, v in device.sql('SELECT key, "values" FROM ferry_rejected') if k == key and note in v]
        stands = self.site.sql("SELECT note FROM public.%s WHERE tenant_id = %%s AND id = %%s" % table, self.tenant, key)
        if self.model.sees(device.id, table, key):
            self.assertEqual(kept, [], "it is in the device's scopes and was refused")
            if stands == [(note,)]:
                self.note_edit(edit)  # else the hub's own edit was later, and this one a conflict
            else:
                lost = device.sql("SELECT count(*) FROM ferry_conflict WHERE key = ?", key)
                self.assertGreater(lost[0][0], 0, "an edit is gone without a trace")
        elif key in self.model.rows[table]:
            self.assertEqual(len(kept), 1, "the edit of a row in a lost scope is kept")

    def test_P4_P7_devices_hold_exactly_what_the_model_says(self):
        print("FERRY_SCOPES_SEED=%d" % SEED, flush=True)
        for n in range(3):
            device = self.device("d%d" % n, scopes=[], user="u%d@example.com" % n)
            device.wait_filled()
            self.changes.add_device(device.id, self.changes.users[n])
        self.work(30)
        self.expect_views("at first")
        for n in range(ROUNDS):
            self.work(self.random.randrange(3, 15))
            self.expect_views("round %d" % n)
            for device in self._devices:
                edit = self.edit(device)
                if edit:
                    self.settle()
                    self.note_edit(edit)
            self.expect_views("round %d, edited" % n)
            self.lost_edit(self.random.choice(self._devices))
            self.expect_views("round %d, one away" % n)


if __name__ == "__main__":
    unittest.main()
