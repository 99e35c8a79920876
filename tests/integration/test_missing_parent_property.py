#!/usr/bin/python3
"""Random histories of rows whose parents are missing against a model of "A parent that is missing" in docs/merge.md.

The model knows that page alone: rows with versions, foreign keys, and what waits. merge-driver merges each history with
the hub's store on a real PostgreSQL; after each step the rows, the verdicts as devices are told them, and what is parked
are compared. Devices send their change-sets late, in any order, again, and in one batch with those of others; statements of
the back office come between.
FERRY_SEED replays a run, FERRY_STEPS makes it longer.
"""

import copy
import itertools
import json
import os
import random
import subprocess
import unittest
import uuid

import psycopg2

import ferry_pg

STEPS = int(os.environ.get("FERRY_STEPS") or 150)
ROUNDS = 2
DRIVER = os.path.join(os.environ["FERRY_BUILD"], "bin", "merge-driver")
ACCEPTED, SUPERSEDED, REJECTED, PARKED = 1, 2, 3, 4
DEVICES = 3
CODES = {305: "FOREIGN_KEY", 308: "DEPENDS"}

# table -> {column: (the table it refers to, does a deletion cascade?)}; rank is the order of the keys.
REFS = {"site": {}, "room": {"site_id": ("site", True), "up_id": ("room", False)},
        "scan": {"room_id": ("room", True), "aside_id": ("site", False)}, "tag": {"room_id": ("room", True)}}
PARKS = {"room", "scan"}
OPTIONAL = {"up_id", "aside_id"}
KEYS = {"site": 4, "room": 6, "scan": 5, "tag": 3}

TABLES = """
CREATE SCHEMA p AUTHORIZATION ferry_owner;
SET ROLE ferry_owner;
CREATE TABLE p.site (tenant_id uuid NOT NULL, id uuid NOT NULL, v int CHECK (v >= 0), PRIMARY KEY (tenant_id, id));
CREATE TABLE p.room (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, site_id uuid NOT NULL, up_id uuid, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, site_id) REFERENCES p.site ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, up_id) REFERENCES p.room DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE p.scan (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, room_id uuid NOT NULL, aside_id uuid, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, room_id) REFERENCES p.room ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tenant_id, aside_id) REFERENCES p.site DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE p.tag (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, room_id uuid NOT NULL, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, room_id) REFERENCES p.room ON DELETE CASCADE);
SELECT ferry.isolate('p.' || t) FROM unnest('{site,room,scan,tag}'::text[]) t;
SELECT ferry.track('p.site'), ferry.track('p.room'), ferry.track('p.scan'), ferry.track('p.tag');
SELECT ferry.row_policy('p.room', on_missing_parent => 'park', park_for => '1 hour');
SELECT ferry.row_policy('p.scan', on_missing_parent => 'park', park_for => '1 hour');
RESET ROLE;
"""


class Version:
    """When it was set, by whom: a device with its number, or the hub, which is later than all devices here."""

    def __init__(self, step, device=None, number=0, at=None):
        self.step, self.device, self.number, self.at = step, device, number, at

    def seen(self, s):
        return self.step <= s["base_step"] or (self.device == s["device"] and self.number <= s["number"])

    def later_than(self, other):
        return other.at is not None and self.at > other.at


class Row:
    def __init__(self, values, version):
        self.values, self.versions, self.life = dict(values), {c: version for c in values}, version

    def set_column(self, s, column, value, version, row_seen):
        """False: the hub's value stands."""
        if self.values[column] == value:
            return True
        seen = row_seen and self.versions[column].seen(s)
        if not seen and not version.later_than(self.versions[column]):
            return False
        self.values[column], self.versions[column] = value, version
        return True


def refs_of(table, values):
    """Rows that these values refer to."""
    return {(to, values[c]) for c, (to, _) in REFS[table].items() if values.get(c) is not None}


class Rows:
    """The hub's tables."""

    def __init__(self):
        self.rows = {}

    def insert(self, s, row, version):
        have = self.rows.get(row)
        if have is None:
            self.rows[row] = Row(s["rows"][row][1], version)
            return True
        row_seen = have.life.seen(s)
        return all([have.set_column(s, c, v, version, row_seen) for c, v in s["rows"][row][1].items()])

    def update(self, s, row, version):
        have = self.rows.get(row)
        values = s["rows"][row][1]
        if have is None:
            return False
        if not have.life.seen(s):
            return all(have.values[c] == v for c, v in values.items())
        return all([have.set_column(s, c, v, version, True) for c, v in values.items()])

    def delete(self, s, row):
        if row not in self.rows:
            return True
        if not self.rows[row].life.seen(s):
            return False
        self.remove(row)
        return True

    def remove(self, row):
        """And what a cascade takes along."""
        if self.rows.pop(row, None) is None:
            return
        for other in list(self.rows):
            have = self.rows.get(other)
            if have and any(cascades and (to, have.values[c]) == row for c, (to, cascades) in REFS[other[0]].items()):
                self.remove(other)

    def apply(self, s, step):
        """True: every value stands. Deletions come last, so that what refers to a row can be moved away before."""
        version = Version(step, s["device"], s["number"], s["at"])
        won = [getattr(self, op)(s, row, version) for row, (op, _) in s["rows"].items() if op != "delete"]
        return all(won + [self.delete(s, row) for row, (op, _) in s["rows"].items() if op == "delete"])

    def lacking(self):
        return {ref for (table, _), have in self.rows.items() for ref in refs_of(table, have.values) if ref not in self.rows}

    def breaks_check(self):
        return any(table == "site" and have.values["v"] < 0 for (table, _), have in self.rows.items())


def sentence_of(verdict, lacks):
    """What a device is told that it lacks, if it lacks something."""
    if not lacks:
        return None
    table, key = min(lacks, key=lambda row: (list(KEYS).index(row[0]), row[1]))
    one = len(lacks) == 1
    end = "did not come to the hub in time" if verdict == REJECTED else "%s not at the hub yet, and waits there for %s" % (
        ("is", "it") if one else ("are", "them"))
    return "it refers to %s %s%s, which %s" % (table, key, "" if one else " and %d more" % (len(lacks) - 1), end)


class Wait:
    def __init__(self, s, code, rows=(), behind=None):
        self.s, self.code, self.rows, self.behind, self.expired = s, code, set(rows), behind, False


class Model:
    """The hub: what stands, what is settled, what waits, and what was told of that."""

    def __init__(self):
        self.hub, self.settled, self.parked, self.step, self.told = Rows(), {}, {}, 0, []

    def settle(self, s, verdict, code, sentence=None):
        name = s["device"], s["number"]
        self.settled[name] = verdict, code
        self.told.append((*name, verdict, code, sentence))

    def judge(self, s):
        """(verdict, code, rows that it waits for, whom it waits behind); verdict None: it comes again."""
        for number in s["depends"]:
            verdict = self.settled.get((s["device"], number), (None,))[0]
            if verdict is None:
                return None, "OK", (), None
            if verdict in (REJECTED, PARKED):
                return verdict, "DEPENDS", (), number
        tried = copy.deepcopy(self.hub)
        won = tried.apply(s, self.step)
        if tried.breaks_check():
            return REJECTED, "CONSTRAINT", (), None
        if not tried.lacking():
            self.hub = tried
            return (ACCEPTED if won else SUPERSEDED), "OK", (), None
        named = {ref for (table, _), (op, values) in s["rows"].items() if table in PARKS and op != "delete" for ref in refs_of(table, values)}
        made = {row for row, (op, _) in s["rows"].items() if op == "insert"}
        waits = named - made - set(self.hub.rows)
        return (PARKED if waits and not s["joined"] else REJECTED), "FOREIGN_KEY", waits, None

    def merge(self, s):
        """The verdict, and whether it was settled before; None: it comes again."""
        name = s["device"], s["number"]
        if name in self.settled:
            return self.settled[name], True
        self.step += 1
        verdict, code, rows, behind = self.judge(s)
        if verdict is None:
            return None, False
        if verdict == PARKED:
            self.parked[name] = Wait(s, code, rows, behind)
        self.settle(s, verdict, code, sentence_of(verdict, rows) if verdict == PARKED else None)
        return (verdict, code), False

    def due(self):
        return [name for name, w in sorted(self.parked.items()) if w.expired or
                (w.rows <= set(self.hub.rows) and (w.behind is None or (name[0], w.behind) not in self.parked))]

    def again(self, name):
        """A parked one whose time has come."""
        w = self.parked[name]
        self.step += 1
        verdict, code, rows, behind = self.judge(w.s)
        if verdict is None:
            return  # it builds on another, too, which has not come to the hub
        lacks = set(rows) if verdict == PARKED else ()
        if lacks and w.behind is not None:
            w.expired = False  # it has waited for another, and begins to wait for rows
        if lacks and w.expired:
            verdict = REJECTED
        if verdict != PARKED:
            del self.parked[name]
        sentence = sentence_of(verdict, lacks)
        if verdict != PARKED or (lacks and sentence != sentence_of(PARKED, w.rows)):
            self.settle(w.s, verdict, code, sentence)
        w.rows, w.behind = lacks, behind
        if lacks:
            w.code = code


class Device:
    """What a device knows, and what it says a change-set builds on (R6)."""

    def __init__(self, key):
        self.key, self.number, self.sets, self.base_step, self.base, self.view = key, 0, [], 0, 0, {}
        self.done = {}  # number -> verdict that it has heard

    def pending(self):
        return [s for s in self.sets if self.done.get(s["number"], PARKED) == PARKED]

    def sees(self):
        """Its rows: the hub's of its last contact, its own edits on top."""
        rows = {row: dict(values) for row, values in self.view.items()}
        for s in self.pending():
            for row, (op, values) in s["rows"].items():
                if op == "delete":
                    rows.pop(row, None)
                elif op == "insert" or row in rows:
                    rows.setdefault(row, {}).update(values)
        return rows

    def make(self, rows, at, joined, staged):
        self.number += 1
        touched, parents = set(rows), {ref for (table, _), (_, values) in rows.items() for ref in refs_of(table, values)}
        builds_on = [s for s in self.pending() if touched & set(s["rows"]) or any(s["rows"].get(p, ("",))[0] == "insert" for p in parents)]
        first = min([self] + builds_on, key=lambda x: x.base_step if x is self else x["base_step"])
        s = {"device": self.key, "number": self.number, "at": at, "joined": joined, "staged": staged, "rows": rows,
             "depends": sorted(s["number"] for s in builds_on),
             "base": self.base if first is self else first["base"], "base_step": self.base_step if first is self else first["base_step"]}
        self.sets.append(s)
        return s


def message(s):
    """As the driver takes it."""
    rows = [{"op": op, "table": table, "key": key, "values": values} for (table, key), (op, values) in s["rows"].items()]
    return dict({k: s[k] for k in ("device", "number", "base", "at", "joined", "staged", "depends")}, rows=rows)


class History:
    """One hub and its devices; everything that happens happens to the model as well."""

    def __init__(self, case, rng):
        self.case, self.rng, self.model, self.story, self.at = case, rng, Model(), [], 0
        self.tenant = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.keys = {t: [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(n)] for t, n in KEYS.items()}
        self.devices = [Device(str(uuid.UUID(int=rng.getrandbits(128), version=4))) for _ in range(DEVICES)]
        for n, d in enumerate(self.devices):
            case.sql("INSERT INTO ferry.device (id, tenant_id, name, class, fingerprint) VALUES (%s, %s, %s, 'tablet', sha256(%s))",
                     d.key, self.tenant, "d%d" % n, d.key.encode())
            case.sql("INSERT INTO ferry.device_scope VALUES (%s, 'tenant')", d.key)
        self.driver = subprocess.Popen([DRIVER, case.db.dsn("ferry_hub"), self.tenant], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.position = 0
        self.sentences = {}

    def close(self):
        self.driver.stdin.close()
        self.case.assertEqual(self.driver.wait(30), 0)
        self.driver.stdout.close()

    def ask(self, **command):
        self.driver.stdin.write(json.dumps(command) + "\n")
        self.driver.stdin.flush()
        answer = json.loads(self.driver.stdout.readline())
        self.case.assertEqual(answer["error"], "OK")
        return answer

    # ---- what happens

    def new_values(self, table):
        values = {"v": self.rng.randrange(3) if table != "site" or self.rng.random() < 0.9 else -1}
        for column, (to, _) in REFS[table].items():
            there = sorted(key for t, key in self.model.hub.rows if t == to)
            keys = there if there and self.rng.random() < 0.6 else self.keys[to]
            values[column] = None if column in OPTIONAL and self.rng.random() < 0.6 else self.rng.choice(keys)
        return values

    def a_change(self, view, made):
        """(row, (op, values)) that a person might do who sees these rows."""
        table = self.rng.choices(list(KEYS), [2, 4, 4, 2])[0]
        row = table, self.rng.choice(self.keys[table])
        if row in made:
            return None
        if row not in view:
            return row, ("insert", self.new_values(table))
        if self.rng.random() < 0.2:
            return row, ("delete", {})
        changed = {c: v for c, v in self.new_values(table).items() if v != view[row][c] and self.rng.random() < 0.7}
        return (row, ("update", changed)) if changed else None

    def device_writes(self):
        d = self.rng.choice(self.devices)
        view, rows = d.sees(), {}
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            change = self.a_change(view, rows)
            if change:
                rows[change[0]] = change[1]
        # A device deletes nothing that it refers to in the same breath.
        deleted = {row for row, (op, _) in rows.items() if op == "delete"}
        if not rows or any(ref in deleted for (t, _), (_, values) in rows.items() for ref in refs_of(t, values)):
            return "nothing"
        self.at += 1
        s = d.make(rows, self.rng.randrange(1, 1000) * 1000 + self.at, self.rng.random() < 0.1, self.rng.random() < 0.25)
        return "writes %s" % json.dumps(message(s))

    def devices_send(self):
        """Several at once: it comes out as if each had come by itself, in some order (what one lacks another may bring)."""
        chosen = []
        for d in self.rng.sample(self.devices, self.rng.choice([1, 2, 3])):
            chosen += [s for s in d.sets if (d.key, s["number"]) not in self.model.settled and not s["staged"]][:self.rng.choice([1, 2])]
        self.case.sql("UPDATE ferry.device SET failed_at = NULL")  # else those of who failed lately come last
        if len(chosen) < 2:
            return "nothing"
        results = self.ask(do="merge", items=[message(s) for s in chosen])["results"]
        self.story.append("sends at once %s" % [(s["device"][:4], s["number"], r) for s, r in zip(chosen, results)])
        came = [(s, ((got["verdict"], got["code"]), got["repeated"])) for s, got in zip(chosen, results) if not got["retry"]]  # else it comes again
        for order in itertools.permutations(came):
            tried = copy.deepcopy(self.model)
            if all(tried.merge(s) == got for s, got in order):
                self.model = tried
                return "sent"
        return self.case.fail("in no order: %s" % results)

    def device_sends(self):
        """One of its change-sets, mostly the next, maybe again."""
        d = self.rng.choice(self.devices)
        unheard = [s for s in d.sets if (d.key, s["number"]) not in self.model.settled]
        s = self.rng.choice(d.sets) if d.sets and self.rng.random() < 0.15 else self.rng.choice(unheard[:2]) if unheard else None
        if s is None:
            return "nothing"
        wanted, repeated = self.model.merge(s)
        got = self.ask(do="merge", items=[message(s)])["results"][0]
        self.story.append("sends %s %d: %s" % (d.key[:4], s["number"], got))
        self.case.assertEqual(got["retry"], wanted is None)
        if wanted is not None:
            self.case.assertEqual((got["verdict"], got["code"], got["repeated"]), (*wanted, repeated))
        return "sent"

    def device_hears(self):
        """It comes up to the hub's state, with the verdicts up to there."""
        d = self.rng.choice(self.devices)
        d.base, d.base_step = self.position, self.model.step
        d.view = {row: dict(have.values) for row, have in self.model.hub.rows.items()}
        d.done = {n: verdict for (key, n), (verdict, _) in self.model.settled.items() if key == d.key}
        return "%s hears" % d.key[:4]

    def back_office(self):
        """SQL at the hub: a row comes, or goes with what a cascade takes along."""
        table = self.rng.choice(["site", "site", "room", "scan"])
        row = table, self.rng.choice(self.keys[table])
        tried = copy.deepcopy(self.model.hub)
        self.model.step += 1
        if row in tried.rows:
            tried.remove(row)
            statement, values = "DELETE FROM p.%s WHERE tenant_id = %%s AND id = %%s" % table, [self.tenant, row[1]]
        else:
            new = self.new_values(table)
            tried.rows[row] = Row(new, Version(self.model.step))
            statement = "INSERT INTO p.%s (tenant_id, id, %s) VALUES (%%s, %%s%s)" % (table, ", ".join(new), ", %s" * len(new))
            values = [self.tenant, row[1], *new.values()]
        stands = not tried.lacking() and not tried.breaks_check()
        try:
            self.case.sql(statement, *values)
            self.case.assertTrue(stands, statement)
        except psycopg2.IntegrityError as error:
            self.case.assertFalse(stands, error)
        if stands:
            self.model.hub = tried
        return "%s %s: %s" % (statement, values, stands)

    def parked_round(self):
        """The hub looks after one whose time has come, until none is left; or just once."""
        tried, once = set(), self.rng.random() < 0.5
        while not (once and tried):
            due = [name for name in self.model.due() if name not in tried]
            if not due:
                self.look()
                break
            name = self.rng.choice(due)
            self.model.again(name)
            tried = {name} if name not in self.model.parked else tried | {name}
            self.look(name)
        return "looked"

    def look(self, name=None):
        """As a hub does each second, which takes this one alone, as all others were looked at a moment ago."""
        self.case.sql("UPDATE ferry.rejected SET retry_at = now() + CASE WHEN (device_id, number) = (%s::uuid, %s) THEN interval '0' ELSE interval '1 hour' END "
                      "WHERE parked_until IS NOT NULL AND %s", *(name or (None, None)), name is not None)
        if name is None:
            self.case.sql("UPDATE ferry.rejected SET retry_at = now() WHERE parked_until IS NOT NULL")
        self.ask(do="parked")
        self.story.append("looks at %s" % (name and (name[0][:4], name[1]),))
        self.compare()

    def expires(self):
        """One has waited for long enough."""
        if not self.model.parked:
            return "nothing"
        name = self.rng.choice(sorted(self.model.parked))
        self.model.parked[name].expired = True
        self.case.sql("UPDATE ferry.rejected SET parked_until = now() WHERE device_id = %s AND number = %s", *name)
        return "%s %d has waited long enough" % (name[0][:4], name[1])

    def step(self):
        kinds = {self.device_writes: 8, self.device_sends: 7, self.devices_send: 4, self.device_hears: 5, self.back_office: 4, self.parked_round: 5, self.expires: 0.7}
        self.story.append(self.rng.choices(list(kinds), list(kinds.values()))[0]())
        self.compare()

    # ---- what came of it

    def compare(self):
        self.case.assertEqual(self.hub_rows(), {row: have.values for row, have in self.model.hub.rows.items()})
        self.case.assertEqual(self.hub_parked(), {name: w.code for name, w in self.model.parked.items()})
        self.case.assertEqual(self.hub_waits(), {(name, row) for name, w in self.model.parked.items() for row in w.rows})
        self.hear()

    def hub_rows(self):
        rows = {}
        for table, refs in REFS.items():
            columns = ["v", *refs]
            for key, *values in self.case.sql("SELECT id::text, v%s FROM p.%s WHERE tenant_id = %%s" % ("".join(", %s::text" % c for c in refs), table), self.tenant):
                rows[table, key] = dict(zip(columns, values))
        return rows

    def hub_parked(self):
        return {(device, number): CODES[code] for device, number, code in
                self.case.sql("SELECT device_id::text, number, code FROM ferry.rejected WHERE tenant_id = %s AND parked_until IS NOT NULL", self.tenant)}

    def hub_waits(self):
        """What they wait for; of what waits no more nothing is left."""
        return {((device, number), (table, key)) for device, number, table, key in
                self.case.sql("SELECT w.device_id::text, w.number, t.name, w.key::text FROM ferry.parked_wait w JOIN ferry.tracked t USING (tbl) "
                              "WHERE w.tenant_id = %s", self.tenant)}

    def hear(self):
        """What all devices are told is what the model says, each once."""
        told = {}
        while True:
            news = self.ask(do="feed", **{"from": self.position})
            for x in news["settled"]:
                self.case.assertNotIn((x["device"], x["number"]), told)
                told[x["device"], x["number"]] = x
            if news["to"] == self.position:
                break
            self.position = news["to"]
        self.case.assertEqual({name: (x["verdict"], x["code"]) for name, x in told.items()},
                              {(device, number): (verdict, code) for device, number, verdict, code, _ in self.model.told})
        for device, number, _, _, sentence in self.model.told:
            if sentence:
                self.case.assertEqual(told[device, number]["sentence"], sentence)
        self.model.told.clear()


class MissingParents(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.cluster = ferry_pg.Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.db = cls.cluster.database(parts=("engine",))
        cls.db.query(TABLES)

    maxDiff = None

    def setUp(self):
        self.conn = self.db.connect()
        self.conn.autocommit = True
        self.addCleanup(self.conn.close)

    def sql(self, text, *args):
        with self.conn.cursor() as cur:
            cur.execute(text, args or None)
            return cur.fetchall() if cur.description else []

    def test_P2_R6_random_histories_end_as_the_model_says(self):
        seed = int(os.environ.get("FERRY_SEED") or random.SystemRandom().randrange(2**32))
        print("seed", seed, flush=True)
        rng, verdicts = random.Random(seed), []
        for number in range(ROUNDS):
            h = History(self, rng)
            try:
                for _ in range(STEPS):
                    h.step()
            except BaseException:
                print("seed %d, history %d:\n  %s" % (seed, number, "\n  ".join(h.story[-60:])), flush=True)
                raise
            finally:
                h.close()
            verdicts += h.model.settled.values()
        print({v: verdicts.count(v) for v in sorted(set(verdicts))})
        self.assertEqual(self.sql("SELECT * FROM ferry.verify(false)"), [])


if __name__ == "__main__":
    unittest.main()
