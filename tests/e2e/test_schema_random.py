#!/usr/bin/python3
"""Random changes of a table at the hub while devices with unsent work are away: after their return every replica equals
the hub, and every value that anybody wrote stands at the hub, was replaced by a later one, or is kept with its reason.

FERRY_SEED replays a run; FERRY_STEPS makes it longer (rounds of being away).
"""

import json
import os
import random
import re
import unittest
import uuid

from ferry_schema import SchemaCase


def number(value):
    """What tells a value from all others, in whatever type it stands."""
    found = re.search(r"\d+", str(value))
    return int(found.group()) if found else None


class Edit:
    def __init__(self, n, round_, device, key, column):
        self.n, self.round, self.device, self.key, self.column = n, round_, device, key, column


class Column:
    """One column through all its names and types."""

    def __init__(self, name, kind):
        self.name, self.kind = name, kind
        self.dropped = None    # the round
        self.discarded = False


class RandomSchema(SchemaCase):

    def setUp(self):
        self.seed = int(os.environ.get("FERRY_SEED") or random.SystemRandom().randrange(2 ** 32))
        print("FERRY_SEED=%d" % self.seed, flush=True)
        self.random = random.Random(self.seed)
        super().setUp()
        self.hub_sql("CREATE FUNCTION crm.{t}_int(v text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT substr(v, 2)::int $$; "
                     "CREATE FUNCTION crm.{t}_text(v int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'v' || v $$")
        self.columns_now = [Column("name", "text"), Column("qty", "int"), Column("note", "text")]
        self.hub_sql("ALTER TABLE crm.{t} ALTER COLUMN qty DROP DEFAULT; UPDATE crm.{t} SET name = 'v' || (900000 + qty), qty = 800000 + qty")
        self.devices = [self.a, self.device("b", scopes=[])]
        self.settle()
        self.n, self.round, self.edits, self.deleted = 1000, 0, [], {}

    def alive(self):
        return [c for c in self.columns_now if c.dropped is None]

    def value(self, kind):
        self.n += 1
        return "v%d" % self.n if kind == "text" else self.n

    # ---- at devices

    def edit_device(self, device):
        r = self.random
        columns = r.sample(self.here_columns, r.randrange(1, len(self.here_columns) + 1))
        values = {c: self.value(self.kinds[c]) for c in columns}
        keys = [k for (k,) in device.sql("SELECT id FROM %s ORDER BY id" % self.table)]
        what = r.choice(["insert", "update", "update", "update", "update", "delete"])
        if what == "delete" and len(keys) > 6:
            key = r.choice(keys)
            device.sql("DELETE FROM %s WHERE id = ?" % self.table, key)
            self.deleted.setdefault(key, []).append((self.round, device, self.n))
            return
        if what == "insert":
            key = str(uuid.UUID(int=r.getrandbits(128), version=4))
            device.sql("INSERT INTO %s (id, %s) VALUES (?%s)" % (self.table, ", ".join(self.names[c] for c in columns), ", ?" * len(columns)),
                       key, *values.values())
        else:
            key = r.choice(keys)
            device.sql("UPDATE %s SET %s WHERE id = ?" % (self.table, ", ".join(self.names[c] + " = ?" for c in columns)),
                       *values.values(), key)
        self.edits += [Edit(number(v), self.round, device, key, c) for c, v in values.items()]

    # ---- at the hub

    def edit_hub(self):
        column = self.random.choice(self.alive())
        keys = [str(k) for (k,) in self.there("SELECT id FROM {t} ORDER BY id")]
        key, value = self.random.choice(keys), self.value(column.kind)
        self.there("UPDATE {t} SET " + column.name + " = %s WHERE id = %s", value, key)
        self.edits.append(Edit(number(value), self.round, None, key, column))

    def step(self):
        r = self.random
        column = r.choice(self.alive())
        what = r.choice(["add", "add default", "drop", "discard", "rename", "rename table", "replace", "type", "type", "policy"])
        self.n += 1
        fresh = "c%d" % self.n
        if what in ("drop", "discard", "replace") and len(self.alive()) < 3:
            what = "add"
        print("  round %d: %s %s" % (self.round, what, column.name), flush=True)
        if what.startswith("add"):
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN %s text%s" % (fresh, " DEFAULT 'none'" if what != "add" else ""))
            self.columns_now.append(Column(fresh, "text"))
        elif what in ("drop", "discard"):
            self.hub_sql("ALTER TABLE crm.{t} DROP COLUMN %s" % column.name)
            if what == "discard":
                self.hub_sql("SELECT ferry.discard('crm.{t}', '%s')" % column.name)
            column.dropped, column.discarded = self.round, what == "discard"
        elif what == "rename":
            self.hub_sql("ALTER TABLE crm.{t} RENAME COLUMN %s TO %s" % (column.name, fresh))
            column.name = fresh
        elif what == "rename table":
            self.hub_sql("ALTER TABLE crm.{t} RENAME TO {t}_x; ALTER TABLE crm.{t}_x RENAME TO {t}")
        elif what == "replace":
            kind = "integer" if column.kind == "int" else "text"
            self.hub_sql("ALTER TABLE crm.{t} ADD COLUMN %(f)s %(k)s; UPDATE crm.{t} SET %(f)s = %(c)s; "
                         "SELECT ferry.renamed('crm.{t}', '%(c)s', '%(f)s'); ALTER TABLE crm.{t} DROP COLUMN %(c)s"
                         % {"f": fresh, "k": kind, "c": column.name})
            column.name = fresh
        elif what == "type":
            to = "int" if column.kind == "text" else "text"
            if column.kind == "text":  # a default would need a cast of its own
                self.hub_sql("ALTER TABLE crm.{t} ALTER COLUMN %(c)s DROP DEFAULT; UPDATE crm.{t} SET %(c)s = NULL WHERE %(c)s !~ '^v[0-9]+$'"
                             % {"c": column.name})
            self.hub_sql("SELECT ferry.change_type('crm.{t}', '%s', '%s', 'crm.{t}_%s')" % (column.name, to, to))
            column.kind = to
        else:
            self.hub_sql("SELECT ferry.policy('crm.{t}', '%s', '%s')" % (column.name, r.choice(["lww", "review"])))

    # ---- afterwards

    def kept(self):
        """Numbers of all values that stand in a list of conflicts or refused changes, by row."""
        out = set()
        for device in self.devices:
            for text in device.sql('SELECT "values" FROM ferry_rejected'):
                out.update(number(v) for v in json.loads(text[0] or "{}").values())
            for values in device.sql("SELECT device_value, hub_value FROM ferry_conflict"):
                for v in values:
                    out.update(int(x) for x in re.findall(r"\d+", str(v)))
        for values in self.site.sql("SELECT device_value #>> '{}', hub_value #>> '{}' FROM ferry.conflict x JOIN ferry.tracked t USING (tbl) "
                                    "WHERE t.replica_name = %s", self.table):
            out.update(number(v) for v in values)
        return out

    def replaced(self, edit):
        """By somebody who had seen it: itself later, or anybody in a later round."""
        later = [(e.round, e.device, e.n) for e in self.edits if (e.key, e.column) == (edit.key, edit.column)] + self.deleted.get(edit.key, [])
        return any(round_ > edit.round or (device is edit.device and n > edit.n) for round_, device, n in later)

    def check(self):
        self.assert_same()
        kept = self.kept()
        names = [c.name for c in self.alive()]
        rows = {str(row[0]): dict(zip(names, row[1:])) for row in self.there("SELECT id, %s FROM {t}" % ", ".join(names))}
        for e in self.edits:
            gone = e.column.dropped is not None and (e.column.dropped > e.round or e.column.discarded or e.device is None)
            if gone or e.n in kept or self.replaced(e):
                continue
            stands = number(rows.get(e.key, {}).get(e.column.name))
            self.assertEqual(stands, e.n, "seed %d, round %d: what became of %d in %s of %s?"
                             % (self.seed, e.round, e.n, e.column.name, e.key))

    def be_away(self):
        self.round += 1
        self.here_columns = self.alive()
        self.names = {c: c.name for c in self.here_columns}  # as devices know them
        self.kinds = {c: c.kind for c in self.here_columns}
        for device in self.devices:
            device.stop()
        work = [self.edit_hub] * 2 + [self.step] * self.random.randrange(1, 4)
        work += [lambda d=d: self.edit_device(d) for d in self.devices for _ in range(self.random.randrange(2, 6))]
        self.random.shuffle(work)
        for one in work:
            one()
        since = self.hub.log_size()
        for device in self.devices:
            device.start()
        self.settle(seconds=120)
        self.assert_in_place(since)
        self.check()

    def test_P4_P5_random_changes_of_a_table_lose_nothing_and_replicas_follow(self):
        for _ in range(int(os.environ.get("FERRY_STEPS") or 4)):
            self.be_away()


if __name__ == "__main__":
    unittest.main()
