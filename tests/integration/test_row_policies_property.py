#!/usr/bin/python3
# ferry-test: quick
"""Random histories of updates and deletions of one row against a model of "A deletion and an update" in docs/merge.md,
written from that page alone. The driver merges each history with the hub's code. FERRY_SEED replays a run.
"""

import json
import os
import random
import subprocess
import unittest

ACCEPTED, SUPERSEDED = 1, 2
ROUNDS = 2000
DRIVER = os.path.join(os.environ["FERRY_BUILD"], "bin", "policy-driver")
HUB = 0


class Version:
    """Who did it: a device with its change-set in this batch, or the hub, at a position that a base may have reached."""

    def __init__(self, position=None, author=HUB, number=0, at=0):
        self.position, self.author, self.number, self.at = position, author, number, at

    def seen(self, e):
        if self.position is not None:
            return e["base"] >= self.position
        return self.author == e["device"] and self.number <= e["number"]

    def own(self, e):
        return self.position is None and self.author == e["device"] and self.number <= e["number"]


class Row:
    def __init__(self, value, gone, update_wins):
        self.value, self.there, self.update_wins = value, not gone, update_wins
        self.cell, self.life, self.gone = Version(1), Version(1), Version(2)
        self.written = False  # in this batch, so the database has not seen the value

    def lww(self, e, row_seen):
        """(a conflict was kept, the device lost it)"""
        if e["new"] == self.value:
            return 0, False
        conflict = not (row_seen and self.cell.seen(e))
        won = not conflict or (e["at"], e["device"], e["number"]) > (self.cell.at, self.cell.author, self.cell.number)
        if won:
            self.value, self.cell, self.written = e["new"], Version(None, e["device"], e["number"], e["at"]), True
        return int(conflict), not won

    def revive(self, e):
        """Its own life by now; the cell is the hub's."""
        self.there = True
        self.cell, self.life = Version(None, HUB), Version(None, e["device"], e["number"])
        kept, lost = self.lww(e, True)
        if self.written and self.cell.author == HUB:
            # The database has not seen what this batch wrote before the deletion: it is written anew, as of now.
            self.cell = Version(None, HUB, 0, e["at"])
        return (SUPERSEDED if lost else ACCEPTED), 1 + kept  # with the conflict that the deletion lost

    def update(self, e):
        if not self.there:
            # Else it stays deleted, and the value is kept.
            return self.revive(e) if self.update_wins and not self.gone.seen(e) else (SUPERSEDED, 1)
        row_seen = self.life.seen(e)
        if not row_seen and not self.update_wins:
            return (ACCEPTED, 0) if e["new"] == self.value else (SUPERSEDED, 1)
        kept, lost = self.lww(e, row_seen)
        return (SUPERSEDED if lost else ACCEPTED), kept

    def delete(self, e):
        if not self.there:
            return ACCEPTED, 0
        if not self.life.seen(e):
            return SUPERSEDED, 1
        if self.cell.seen(e):
            conflicts = 0
        elif self.update_wins and not (self.cell.author == HUB and self.cell.position is None and self.life.own(e)):
            return SUPERSEDED, 1  # somebody else's update stands
        else:
            conflicts = 1  # the value is kept, so that the row can be put back
        self.there, self.gone = False, Version(None, e["device"], e["number"], e["at"])
        return ACCEPTED, conflicts


class Histories(unittest.TestCase):

    def test_updates_and_deletions_of_a_row_under_both_policies(self):
        seed = int(os.environ.get("FERRY_SEED", random.SystemRandom().randrange(2**32)))
        print("seed", seed, flush=True)
        rng = random.Random(seed)
        histories = []
        for _ in range(ROUNDS):
            h = {"policy": "lww", "kind": "int", "options": None, "born": 1, "start": rng.randint(0, 2), "edits": []}
            h.update({k: True for k in ("gone", "update_wins") if rng.random() < 0.6})
            numbers = {}
            for _ in range(rng.randint(1, 7)):
                device = rng.randint(1, 3)
                numbers[device] = numbers.get(device, 0) + 1
                e = {"device": device, "number": numbers[device], "base": rng.randint(0, 2), "at": rng.randint(1, 6)}
                e.update({"op": "delete"} if rng.random() < 0.4 else {"new": rng.randint(0, 2)})
                h["edits"].append(e)
            histories.append(h)
        done = subprocess.run([DRIVER], input="".join(json.dumps(h) + "\n" for h in histories), capture_output=True,
                              text=True, timeout=120, check=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(answers), len(histories))
        for h, got in zip(histories, answers):
            row = Row(h["start"], "gone" in h, "update_wins" in h)
            wanted = [row.delete(e) if "op" in e else row.update(e) for e in h["edits"]]
            with self.subTest(seed=seed, history=json.dumps(h)):
                self.assertEqual([(e["verdict"], e["conflicts"]) for e in got["edits"]], wanted)
                self.assertEqual(got["there"], row.there)
                if row.there:
                    self.assertEqual(got["value"], row.value)


if __name__ == "__main__":
    unittest.main()
