#!/usr/bin/python3
"""A few random histories under each nemesis (tools/histories plays thousands), and proof that their
checker finds what it is there for."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import unittest

import ferry_pg

sys.path.insert(0, os.path.join(ferry_pg.SOURCE, "tests", "histories"))
import main  # noqa: E402
from nemesis import NEMESES  # noqa: E402
from record import NOTHING, Record, Register, Transaction  # noqa: E402

RUNS = int(os.environ.get("FERRY_HISTORIES_RUNS", "3"))
SEED = int(os.environ.get("FERRY_SEED", "1"))


class Checker(unittest.TestCase):
    """Records made by hand."""

    def setUp(self):
        self.record = Record(["x", "y"])
        self.state = {"x": NOTHING, "y": NOTHING}

    def write(self, client, keys, reads=None, adds=(), done=True):
        """A transaction that reads the state (or `reads`) and writes; the state as it is after it."""
        reads = dict(self.state if reads is None else reads)
        t = Transaction(client, self.record.next_number(), reads, keys, adds, done)
        self.record.add(t)
        after = dict(reads)
        for key in keys:
            after[key] = Register(after[key].s | {t.number}, t.number, t.number, after[key].n)
        for key in adds:
            after[key] = after[key]._replace(n=after[key].n + 1)
        return after

    def read(self, client, state):
        self.record.add(Transaction(client, self.record.next_number(), dict(state)))

    def found(self, word):
        wrong = self.record.violations()
        self.assertTrue(any(text.startswith(word) for text in wrong), wrong)

    def test_a_right_history_is_right(self):
        first = self.write("a", ["x", "y"], adds=["x"])
        self.read("b", self.state)
        second = self.write("b", ["x"], first)
        self.read("a", second)
        self.assertEqual(self.record.violations(), [])
        self.assertEqual(self.record.final_violations({"a": second, "b": second, "office": second}), [])

    def test_P3_a_torn_transaction_is_found(self):
        after = self.write("a", ["x", "y"])
        self.read("b", dict(after, y=NOTHING))
        self.found("atomic")

    def test_effect_without_its_cause_is_found(self):
        first = self.write("a", ["x"])
        second = self.write("b", ["y"], first)
        self.read("c", dict(second, x=NOTHING))
        self.found("causal")

    def test_own_transactions_may_be_overtaken_but_few(self):
        state = self.state
        for _ in range(12):
            state = self.write("a", ["x"], state)
        after = self.write("a", ["y"], state)
        self.read("b", dict(after, x=after["x"]._replace(s=frozenset(range(4, 13)))))
        self.assertEqual((self.record.violations(), len(self.record.overtaken)), ([], 3))
        self.read("c", dict(after, x=NOTHING))
        self.found("causal")

    def test_a_client_that_goes_back_is_found(self):
        after = self.write("a", ["x"])
        self.read("b", after)
        self.read("b", self.state)
        self.found("monotonic")

    def test_a_client_that_does_not_see_its_own_write_is_found(self):
        self.write("a", ["x"])
        self.read("a", self.state)
        self.found("monotonic")

    def test_a_counter_that_falls_is_found(self):
        after = self.write("a", [], adds=["x"])
        self.read("a", after)
        self.read("a", self.state)
        self.found("monotonic")

    def test_an_overwritten_value_that_returns_is_found(self):
        first = self.write("a", ["x"])
        second = self.write("a", ["x"], first)
        self.read("b", second)
        self.read("b", dict(second, x=second["x"]._replace(w=first["x"].w)))
        self.found("no return")

    def test_a_value_of_an_undone_transaction_is_found(self):
        after = self.write("a", ["x"], done=False)
        self.read("b", after)
        self.assertIn("nobody committed", self.record.violations()[0])

    def final(self, states):
        return " ".join(self.record.final_violations(states))

    def test_P1_a_lost_write_is_found(self):
        self.write("a", ["x"])
        self.assertIn("lost: x does not hold [1]", self.final({"a": self.state, "office": self.state}))

    def test_P2_an_addition_that_counts_twice_is_found(self):
        after = self.write("a", [], adds=["x"])
        twice = dict(after, x=after["x"]._replace(n=2))
        self.assertIn("twice: x.n is 2", self.final({"a": twice, "office": twice}))
        self.assertIn("lost: x.n is 0", self.final({"a": self.state, "office": self.state}))

    def test_a_commit_whose_answer_was_lost_may_count_or_not(self):
        after = self.write("office", ["x"], adds=["x"], done=None)
        for state in (after, self.state):
            self.assertEqual(self.final({"a": state, "office": state}), "")

    def test_P4_replicas_that_differ_are_found(self):
        after = self.write("a", ["x"])
        self.assertIn("a and b differ in x", self.final({"a": after, "b": self.state}))


class Summary(unittest.TestCase):
    """What is said at the end."""

    def test_runs_failures_and_seeds_are_counted_for_each_nemesis(self):
        tally = main.Tally(5, True)
        for nemesis, seed, wrong in (("kill", 8, []), ("kill", 7, ["lost: x"]), ("pause", 7, [])):
            with contextlib.redirect_stderr(io.StringIO()):
                tally.take({"nemesis": nemesis, "seed": seed, "wrong": wrong, "transactions": 40, "overtaken": 1, "folder": None})
        said = tally.as_dict()
        self.assertEqual(said["nemeses"]["kill"], {"runs": 2, "failed": 1, "transactions": 80, "overtaken": 2,
                                                   "first_seed": 7, "last_seed": 8})
        self.assertEqual((said["runs"], said["wanted"], said["transactions"]), (3, 5, 120))
        self.assertIn("7-8; failed: 7", tally.as_text())


class Histories(unittest.TestCase):
    def test_P2_P3_P4_histories_under_every_nemesis_lose_double_and_tear_nothing(self):
        folder = tempfile.mkdtemp(prefix="ferry-histories-")
        os.chmod(folder, 0o755)
        print("seeds from %d, FERRY_SEED sets it" % SEED, flush=True)
        tally = main.play(list(NEMESES), range(SEED, SEED + RUNS), 2, folder)
        self.assertEqual((tally.failed, tally.broken), ([], []), "kept in " + folder)
        self.assertEqual({name: each["runs"] for name, each in tally.of.items()}, {name: RUNS for name in NEMESES})
        self.assertGreater(tally.sum("transactions"), 10 * RUNS)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    unittest.main()
