#!/usr/bin/python3
# ferry-test: quick
"""Random histories of edits against models of the policies, written from docs/merge.md alone.

The driver merges each history with the hub's code. FERRY_SEED replays a run.
"""

import json
import os
import random
import subprocess
import unittest
from decimal import Decimal, getcontext

getcontext().prec = 100  # no sum here is rounded

ACCEPTED, SUPERSEDED, REJECTED = 1, 2, 3
ROUNDS = 400
DRIVER = os.path.join(os.environ["FERRY_BUILD"], "bin", "policy-driver")


class State:
    """A cell at the hub: its value, and whose it is."""

    def __init__(self, value):
        self.value, self.at, self.author, self.number, self.first = value, 0, 0, 0, True

    def seen(self, e):
        if self.first:
            return e["base"] >= 1
        return self.author == e["device"] and self.number <= e["number"]

    def later(self, e):
        return (e["at"], e["device"], e["number"]) > (self.at, self.author, self.number)

    def set(self, e, value, by_hub=False):
        self.value, self.at, self.first = value, e["at"], False
        self.author, self.number = (0, 0) if by_hub else (e["device"], e["number"])


def lww(state, e, wins=None):
    if e["new"] == state.value:
        return ACCEPTED, 0
    if state.seen(e):
        state.set(e, e["new"])
        return ACCEPTED, 0
    won = state.later(e) if wins is None else wins
    if won:
        state.set(e, e["new"])
    return (ACCEPTED if won else SUPERSEDED), 1


def extreme(better):
    def model(state, e):
        mine, theirs = e["new"], state.value
        if mine is None or theirs is None:
            return lww(state, e, mine is not None)
        return lww(state, e, better(Decimal(mine), Decimal(theirs)))
    return model


def counter(state, e):
    if "old" not in e or e["new"] is None:
        return lww(state, e)
    sum_of = Decimal(state.value or 0) + Decimal(e["new"]) - Decimal(e["old"] or 0)
    if isinstance(e["new"], int):
        value = int(sum_of)
        if not -2**63 <= value < 2**63:
            return REJECTED, 0
    else:
        value = format(sum_of, "f")
        value = value[1:] if Decimal(value) == 0 and value[0] == "-" else value
    if value != state.value:
        state.set(e, value, by_hub=value != e["new"])
    return ACCEPTED, 0


def merged(state, e, value, overlap=False):
    """What comes of a difference; of two edits of one part the later was taken."""
    conflict, won = bool(overlap) and not state.seen(e), state.later(e)
    if value != state.value:
        state.set(e, value, by_hub=value != e["new"])
    return (SUPERSEDED if conflict and not won else ACCEPTED), int(conflict)


def set_of(state, e):
    if "old" not in e or e["new"] is None:
        return lww(state, e)
    old, mine, theirs = (json.loads(x or "[]") for x in (e["old"], e["new"], state.value))
    if e["old"] == state.value:
        return merged(state, e, e["new"])
    kept = [x for x in theirs if x not in old or x in mine]
    added = [x for x in mine if x not in old and x not in theirs]
    same = kept == theirs and not added
    return merged(state, e, state.value if same else json.dumps(kept + added, separators=(",", ":"), ensure_ascii=False))


GONE = object()


def document(state, e):
    if "old" not in e or state.value is None:
        return lww(state, e)
    overlap, mine_wins = [], state.seen(e) or state.later(e)

    def both(old, mine, theirs):
        if mine == old or theirs == old or mine == theirs:
            return theirs if mine == old else mine
        if isinstance(mine, dict) and isinstance(theirs, dict):
            was = old if isinstance(old, dict) else {}
            values = {k: both(was.get(k, GONE), mine.get(k, GONE), theirs.get(k, GONE)) for k in {**was, **mine, **theirs}}
            return {k: values[k] for k in sorted(values) if values[k] is not GONE}
        overlap.append(True)
        return mine if mine_wins else theirs

    value = both(*(json.loads(x) for x in (e["old"], e["new"], state.value)))
    return merged(state, e, json.dumps(value), overlap)


def lines(state, e):
    old, mine, theirs = (x.split("\n") for x in (e["old"], e["new"], state.value))
    return merged(state, e, "\n".join(t if m == o else m for o, m, t in zip(old, mine, theirs)))


def words(state, e):
    """Word by word: no edit here adds or takes away one, so that each has its place."""
    overlap, mine_wins, out = [], state.seen(e) or state.later(e), []
    for old, mine, theirs in zip(*(x.split(" ") for x in (e["old"], e["new"], state.value))):
        if old not in (mine, theirs) and mine != theirs:
            overlap.append(True)
            out.append(mine if mine_wins else theirs)
        else:
            out.append(theirs if mine == old else mine)
    return merged(state, e, " ".join(out), overlap)


def of_the_hub(_state, _e):
    return REJECTED, 0


GUARD = {"a": ["b", "c"], "b": ["a"], "c": ["a", "b", 'q"\\'], 'q"\\': ["a"]}


def guard(state, e):
    current = e["old"] == state.value if "old" in e else state.seen(e)
    if not current:
        return REJECTED, 0
    if e["new"] == state.value:
        return ACCEPTED, 0
    if e["new"] not in GUARD.get(state.value, []):
        return REJECTED, 0
    state.set(e, e["new"])
    return ACCEPTED, 0


def sequence(state, e):
    """A number that stands stays; NULL leaves it to the hub."""
    return (ACCEPTED if e["new"] in (None, state.value) else REJECTED), 0


def approval(state, e):
    """Nothing is ever written: what differs from the hub's value waits."""
    return (ACCEPTED if e["new"] == state.value else SUPERSEDED), 0


def some_set(rng, *_):
    if rng.random() < 0.1:
        return None
    few = [1, 2, 3, "x", "\u00e9\"", None, [1, "y"]]
    return json.dumps(rng.sample(few, rng.randint(0, len(few))), separators=(",", ":"), ensure_ascii=False)


def some_document(rng, *_):
    def some(depth):
        if depth and rng.random() < 0.7:
            return {k: some(depth - 1) for k in "abc" if rng.random() < 0.6}
        return rng.choice([3, 2, True, None, "t", [3, 2], [2]])  # not 1, which is True to Python
    return json.dumps(some(3))


def some_lines(rng, device=0, seen=None):
    """Each device changes lines of its own."""
    if seen is None:
        return "\n".join("line %d as it was" % i for i in range(9))
    out = seen.split("\n")
    for i in range(device - 1, 9, 3):
        if rng.random() < 0.5:
            out[i] = "line %d of %d" % (rng.randrange(10**9), device)
    return "\n".join(out)


def some_words(rng, _device=0, seen=None):
    """A page of words that are all different. Whoever edits it puts new ones in the place of some."""
    if seen is None:
        rows = [["w%d.%d" % (line, i) for i in range(rng.randint(1, 4))] for line in range(rng.randint(1, 4))]
        return " \n ".join(" ".join(row) for row in rows)
    return " ".join(w if w == "\n" or rng.random() < 0.7 else "n%d" % rng.randrange(10**12) for w in seen.split(" "))


def some_state(rng, *_):
    return rng.choice(list(GUARD))


def some_int(rng, *_):
    return rng.choice([rng.randint(-5, 5), rng.randint(-5, 5), rng.randint(-2**63, 2**63 - 1), None])


def some_numeric(rng, *_):
    if rng.random() < 0.1:
        return None
    digits = rng.choice([3, 3, 30])
    return "%s.%02d" % (rng.randint(-10**digits, 10**digits), rng.randint(0, 99))


class Histories(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.seed = int(os.environ.get("FERRY_SEED", random.SystemRandom().randrange(2**32)))
        print("seed", cls.seed, flush=True)

    def edits(self, rng, start, some, known):
        """Each device's edits build on what it saw: its own last value, else the start."""
        seen, numbers, edits = {}, {}, []
        for _ in range(rng.randint(1, 8)):
            device = rng.randint(1, 3)
            number = numbers[device] = numbers.get(device, 0) + 1
            e = {"device": device, "number": number, "base": rng.randint(0, 1), "at": rng.randint(1, 6),
                 "old": seen.get(device, start), "new": some(rng, device, seen.get(device, start))}
            if e["new"] == e["old"]:
                continue
            seen[device] = e["new"]
            if not known or (known == "mostly" and rng.random() < 0.1):
                del e["old"]
            edits.append(e)
        return edits

    def drive(self, histories):
        done = subprocess.run([DRIVER], input="".join(json.dumps(h) + "\n" for h in histories), capture_output=True,
                              text=True, timeout=120, check=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(answers), len(histories))
        return answers

    def check(self, policy, kind, some, model, options=None, known="mostly"):
        rng = random.Random("%s %s %s" % (self.seed, policy, kind))
        histories = []
        for _ in range(ROUNDS):
            start = some(rng)
            histories.append({"policy": policy, "kind": kind, "options": options, "start": start,
                              "edits": self.edits(rng, start, some, known)})
        for h, got in zip(histories, self.drive(histories)):
            state = State(h["start"])
            wanted = [model(state, e) for e in h["edits"]]
            with self.subTest(seed=self.seed, history=json.dumps(h)):
                self.assertEqual([(e["verdict"], e["conflicts"]) for e in got["edits"]], wanted)
                self.assertEqual([e["asks"] for e in got["edits"]],
                                 [int(policy == "approval" and verdict == SUPERSEDED) for verdict, _ in wanted])
                self.assertEqual(self.plain(got["value"], kind), self.plain(state.value, kind))
                if got["written"]:
                    self.assertEqual(got["by_hub"], state.author == 0)

    @staticmethod
    def plain(value, kind):
        return json.loads(value) if kind in ("json", "array") and value is not None else value

    def test_lww_without_old_values(self):
        self.check("lww", "int", some_int, lww, known=False)

    def test_max_and_min(self):
        for kind, some in (("int", some_int), ("numeric", some_numeric)):
            self.check("max", kind, some, extreme(lambda a, b: a > b))
            self.check("min", kind, some, extreme(lambda a, b: a < b))

    def test_R2_counter(self):
        self.check("counter", "int", some_int, counter)
        self.check("counter", "numeric", some_numeric, counter)

    def test_R2_set(self):
        self.check("set", "array", some_set, set_of)

    def test_R2_json(self):
        self.check("json", "json", some_document, document)

    def test_R2_text_lines_of_different_authors(self):
        self.check("text", "text", some_lines, lines, known=True)

    def test_R2_text_words_that_several_changed(self):
        self.check("text", "text", some_words, words, known=True)

    @staticmethod
    def some_lines_more_or_less(rng):
        """A text, and what each of three devices made of it by putting lines in and taking lines out."""
        start, edits = ["old %d" % i for i in range(rng.randint(1, 8))], []
        for device in (1, 2, 3):
            out = []
            for line in start:
                if rng.random() < 0.2:
                    out.append("new %d.%d" % (device, rng.randrange(10**9)))
                if rng.random() > 0.1:
                    out.append(line)
            if out and out != start:
                edits.append({"device": device, "number": 1, "base": 1, "at": rng.randint(1, 6),
                              "old": "\n".join(start), "new": "\n".join(out)})
        return start, edits

    def test_R2_text_lines_that_several_put_in_and_took_out(self):
        """Each line that was put in is there once, and of the old ones those that nobody took out, in their order.
        Where a line was taken out beside one that was put in, both changed one place: a conflict, which keeps both."""
        rng = random.Random("%s lines" % self.seed)
        texts = [self.some_lines_more_or_less(rng) for _ in range(ROUNDS)]
        asked = [{"policy": "text", "kind": "text", "options": None, "start": "\n".join(start), "edits": edits} for start, edits in texts]
        judged = 0
        for (start, edits), h, got in zip(texts, asked, self.drive(asked)):
            with self.subTest(seed=self.seed, history=json.dumps(h)):
                self.assertNotIn(REJECTED, [e["verdict"] for e in got["edits"]])
                if any(e["conflicts"] for e in got["edits"]):
                    continue
                judged += 1
                each = [e["new"].split("\n") for e in edits]
                came_out = got["value"].split("\n")
                self.assertEqual([x for x in came_out if x in start], [x for x in start if all(x in text for text in each)])
                self.assertEqual(sorted(x for x in came_out if x not in start), sorted(x for text in each for x in text if x not in start))
        self.assertGreater(judged, ROUNDS / 4)

    def test_hub(self):
        self.check("hub", "int", some_int, of_the_hub)

    def test_review(self):
        self.check("review", "int", some_int, lambda state, e: lww(state, e, False))

    def test_guard(self):
        self.check("guard", "text", some_state, guard, json.dumps(GUARD))

    def test_sequence(self):
        self.check("sequence", "text", some_state, sequence)

    def test_approval(self):
        self.check("approval", "int", some_int, approval)
        self.check("approval", "text", some_state, approval)


if __name__ == "__main__":
    unittest.main()
