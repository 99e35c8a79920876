#!/usr/bin/python3
# ferry-test: asan quick
"""Programs that know nothing of Ferry write to a replica with plain SQLite."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import unittest
import uuid

DRIVER = os.path.join(os.environ.get("FERRY_BUILD", "build"), "bin", "replica-driver")
INSERT, UPDATE, DELETE = 1, 2, 3
COLUMNS = ("code", "n", "flag", "label", "note", "more")


class Driver:
    """The agent's side: one process that owns the replica."""

    def __init__(self, path, *arguments):
        self.process = subprocess.Popen([DRIVER, path, *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.line() == "open"

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.line()

    def look(self):
        answer = self.ask("cut")
        while answer == "more":
            answer = self.ask("cut")
        return answer

    def dump(self):
        sets = []
        line = self.ask("dump")
        while line != "end":
            sets.append(json.loads(line))
            line = self.line()
        return sets

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def connect(path):
    db = sqlite3.connect(path, timeout=20, isolation_level=None)
    return db


def write(path, name, seed, transactions):
    """One foreign program: declared transactions of a few statements on its own and shared rows."""
    rng = random.Random(seed)
    db = connect(path)
    own = []
    for i in range(transactions):
        db.execute("BEGIN IMMEDIATE")
        for _ in range(rng.randint(1, 4)):
            kind = rng.randrange(5)
            shared = str(uuid.UUID(int=rng.randrange(5)))
            if kind < 2 or not own:
                own.append(str(uuid.UUID(int=rng.getrandbits(128))))
                db.execute("INSERT INTO items(id, code, n, flag) VALUES (?, ?, ?, ?)", (own[-1], name, i, i % 2))
            elif kind == 2:
                db.execute("UPDATE items SET n = ?, code = ?, more = ? WHERE id = ?",
                           (i, name, rng.choice("xyz"), rng.choice(own)))
            elif kind == 3:
                db.execute("INSERT OR REPLACE INTO items(id, code, n) VALUES (?, ?, ?)", (shared, name, i))
            else:
                db.execute("DELETE FROM items WHERE id = ?", (shared,))
        if rng.randrange(8) == 0:
            db.execute("ROLLBACK")
        else:
            if rng.randrange(3) == 0:
                db.execute("INSERT INTO ferry_tx(note) VALUES (?)", (name,))
            db.execute("COMMIT")
    db.close()


def replay(sets):
    """What a hub that takes every change-set in order would hold."""
    rows = {}
    last = 0
    for s in sets:
        assert s["number"] in (last, last + 1), "a gap before %d" % s["number"]
        last = s["number"]
        for row in s["rows"]:
            if row["op"] == INSERT:
                assert row["key"] not in rows
                rows[row["key"]] = dict.fromkeys(COLUMNS)
            if row["op"] == DELETE:
                del rows[row["key"]]
            else:
                rows[row["key"]].update(row["values"])
    return rows


def contents(path):
    db = connect(path)
    rows = {row[0]: dict(zip(COLUMNS, row[1:])) for row in db.execute("SELECT id, %s FROM items" % ", ".join(COLUMNS))}
    db.close()
    for row in rows.values():
        row["flag"] = None if row["flag"] is None else bool(row["flag"])
    return rows


class ForeignWriters(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ferry-replica-")
        self.path = os.path.join(self.folder, "replica.db")
        self.driver = Driver(self.path)

    def tearDown(self):
        if self.driver.process.poll() is None:
            self.driver.close()
        shutil.rmtree(self.folder)

    def start(self, count, transactions):
        seed = random.SystemRandom().randrange(1 << 30)
        print("seed %d" % seed, flush=True)
        writers = [multiprocessing.Process(target=write, args=(self.path, "w%d" % i, seed + i, transactions))
                   for i in range(count)]
        for w in writers:
            w.start()
        return writers

    def finish(self, writers):
        for w in writers:
            w.join(120)
            self.assertEqual(w.exitcode, 0)
        self.assertEqual(self.driver.look(), "done")
        self.assertEqual(replay(self.driver.dump()), contents(self.path))

    def test_two_processes_and_the_agent_at_once(self):
        writers = self.start(2, 150)
        while any(w.is_alive() for w in writers):
            self.assertEqual(self.driver.look(), "done")
        self.finish(writers)

    def test_R5_two_processes_while_the_agent_is_down(self):
        self.driver.close()
        writers = self.start(2, 200)
        for w in writers:
            w.join(120)
        self.driver = Driver(self.path)
        self.finish(writers)

    def test_P1_agent_killed_while_it_looks_loses_nothing(self):
        writers = self.start(2, 150)
        while any(w.is_alive() for w in writers):
            self.driver.process.stdin.write("cut\ncut\ncut\n")
            self.driver.process.stdin.flush()
            self.driver.line()
            self.driver.kill()
            self.driver = Driver(self.path)
        self.finish(writers)

    def test_R5_declared_transaction_is_one_change_set(self):
        db = connect(self.path)
        for i in range(3):
            db.execute("BEGIN")
            for k in range(4):
                db.execute("INSERT INTO items(id, n) VALUES (?, ?)", (str(uuid.UUID(int=100 + i * 10 + k)), i))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('three of four')")
            db.execute("COMMIT")
        db.close()
        self.assertEqual(self.driver.look(), "done")
        self.assertEqual([(len(s["rows"]), s["joined"]) for s in self.driver.dump()], [(4, False)] * 3)

    def test_R4_update_of_many_columns_is_one_row_with_those_that_changed(self):
        key = str(uuid.UUID(int=5))
        db = connect(self.path)
        db.execute("INSERT INTO items(id, code, n, label) VALUES (?, 'a', 1, 'one')", (key,))
        self.driver.look()
        db.execute("UPDATE items SET code = 'a', n = 2, flag = NULL, label = 'One', note = 'b', more = 'c'")
        self.driver.look()
        db.execute("BEGIN")
        db.execute("UPDATE items SET n = 3, more = 'd'")
        db.execute("UPDATE items SET n = 2, note = NULL")
        db.execute("COMMIT")
        db.close()
        self.driver.look()
        self.assertEqual([s["rows"] for s in self.driver.dump()[1:]],
                         [[{"op": UPDATE, "key": key, "values": {"n": 2, "label": "One", "note": "b", "more": "c"}}],
                          [{"op": UPDATE, "key": key, "values": {"note": None, "more": "d"}}]])

    def check_keys(self, keys, start_ms, end_ms):
        """Version-7 UUIDs, all different, in the order of their milliseconds, which lie in the span."""
        last = 0
        for key in keys:
            self.assertRegex(key, "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
            ms = uuid.UUID(key).int >> 80
            self.assertGreaterEqual(ms, last, "keys go back in time")
            last = ms
            self.assertLessEqual(start_ms - 1, ms)
            self.assertLessEqual(ms, end_ms + 1)
        self.assertEqual(len(set(keys)), len(keys))

    def test_insert_without_a_key_gets_a_version_7_uuid_that_is_captured(self):
        start = time.time_ns() // 1000000
        db = connect(self.path)
        db.execute("BEGIN")
        keys = [db.execute("INSERT INTO items(n) VALUES (?) RETURNING id", (i,)).fetchone()[0] for i in range(10000)]
        db.execute("COMMIT")
        db.close()
        self.check_keys(keys, start, time.time_ns() // 1000000)
        self.driver.look()
        rows = [row for s in self.driver.dump() for row in s["rows"]]
        self.assertEqual([(row["op"], row["key"], row["values"]["n"]) for row in rows],
                         [(INSERT, key, i) for i, key in enumerate(keys)])

    def test_sqlite_shell_inserts_without_keys_and_reads_one_beforehand(self):
        start = time.time_ns() // 1000000
        done = subprocess.run(["sqlite3", "-batch", self.path], text=True, capture_output=True, check=True, input="""
            INSERT INTO items(code) VALUES ('one');
            INSERT INTO items(code, n) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10000)
                SELECT 'many', n FROM c;
            INSERT OR REPLACE INTO items(id, code, note) SELECT id, 'named', id FROM ferry_uuid;
            SELECT id FROM ferry_uuid; SELECT id FROM ferry_uuid;
            SELECT id FROM items ORDER BY rowid;""")
        ids = done.stdout.split()
        self.check_keys(ids[2:], start, time.time_ns() // 1000000)
        self.check_keys(ids[:2], start, time.time_ns() // 1000000)
        self.driver.look()
        held = replay(self.driver.dump())
        self.assertEqual(set(held), set(ids[2:]))
        named = [key for key, row in held.items() if row["code"] == "named"]
        self.assertEqual([held[key]["note"] for key in named], named)

    def test_rolled_back_writes_leave_no_trace(self):
        db = connect(self.path)
        db.execute("BEGIN")
        db.execute("INSERT INTO items(id) VALUES (?)", (str(uuid.UUID(int=1)),))
        db.execute("SAVEPOINT s")
        db.execute("INSERT INTO items(id) VALUES (?)", (str(uuid.UUID(int=2)),))
        db.execute("ROLLBACK TO s")
        db.execute("COMMIT")
        db.close()
        self.driver.look()
        self.assertEqual([row["key"] for s in self.driver.dump() for row in s["rows"]], [str(uuid.UUID(int=1))])

    def test_busy_is_answered_at_once_and_changes_nothing(self):
        self.driver.close()
        self.driver = Driver(self.path, "no-wait")
        db = connect(self.path)
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO items(id) VALUES (?)", (str(uuid.UUID(int=1)),))
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
        self.assertEqual(self.driver.ask("cut"), "BUSY")
        self.assertEqual(self.driver.ask("dump"), "BUSY")
        db.execute("ROLLBACK")
        db.close()
        self.assertEqual(self.driver.look(), "done")
        self.assertEqual(len(self.driver.dump()), 1)

    def test_recursive_triggers_on_change_nothing_about_replace(self):
        key = str(uuid.UUID(int=7))
        db = connect(self.path)
        db.execute("PRAGMA recursive_triggers = ON")
        db.execute("INSERT INTO items(id, code, n) VALUES (?, 'a', 1)", (key,))
        self.driver.look()
        db.execute("INSERT OR REPLACE INTO items(id, code, n) VALUES (?, 'a', 2)", (key,))
        db.close()
        self.driver.look()
        last = self.driver.dump()[-1]["rows"]
        self.assertEqual(last, [{"op": UPDATE, "key": key, "values": {"n": 2}}])


if __name__ == "__main__":
    unittest.main()
