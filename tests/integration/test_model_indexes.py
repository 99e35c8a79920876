#!/usr/bin/python3
"""Every index and unique constraint that the sources state is there.

data/indexes.csv lists them (source, entity, kind, fields); hub/sql/seed-map.csv says which table and
columns those became. The tenant may stand before what is stated, since it is first in every key.
"""

import csv
import os
import unittest

import ferry_pg
from ferry_case import HubCase

STATED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "indexes.csv")
MAP = os.path.join(ferry_pg.SQL, "seed-map.csv")

# A table cut by month can't hold a key over all its months: another table does.
KEPT_BY = {("comms.messages_outbox", "unique"): "comms.message_keys"}

INDEXES = """
    SELECT c.oid::regclass::text, m.amname::text, i.indisunique,
           ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, n)
                 LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num WHERE k.n <= i.indnkeyatts ORDER BY k.n)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    WHERE i.indisvalid AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspowner = 'ferry_owner'::regrole)"""


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def serves(index, kind, columns):
    """Does (method, unique, columns of an index) do what is stated?"""
    method, unique, has = index
    bare = [c for c in columns if c != "tenant_id"]
    if kind == "brin":
        return method == "brin" and [c for c in has if c != "tenant_id"] == bare
    if kind == "unique":
        return unique and set(has) - {"tenant_id"} <= set(bare)
    plain = [c for c in has if c != "tenant_id"] if has and has[0] == "tenant_id" else has
    return method == "btree" and plain[:len(bare)] == bare


class Indexes(HubCase):
    def test_every_index_that_a_source_states_is_there(self):
        place = {(r["source"], r["entity"], r["field"]): (r["table"], r["column"]) for r in read(MAP)}
        indexes = {}
        for table, *index in self.sql(INDEXES):
            indexes.setdefault(table, []).append(index)
        missing = []
        stated = read(STATED)
        self.assertGreater(len(stated), 180)
        for row in stated:
            places = [place[row["source"], row["entity"], field] for field in row["fields"].split()]
            table = next((t for t, c in places if c != "tenant_id"), places[0][0])
            columns = [c for _, c in places]
            holder = KEPT_BY.get((table, row["kind"]), table)
            if not any(serves(i, row["kind"], columns) for i in indexes.get(holder, ())):
                missing.append("%s %s %s(%s)" % (row["entity"], row["kind"], table, ", ".join(columns)))
        self.assertEqual(missing, [])

    def test_what_does_not_serve_is_told_apart(self):
        self.assertTrue(serves(("btree", False, ["tenant_id", "a", "b"]), "index", ["tenant_id", "a"]))
        self.assertFalse(serves(("btree", False, ["tenant_id", "b", "a"]), "index", ["tenant_id", "a"]))
        self.assertFalse(serves(("brin", False, ["a"]), "index", ["a"]))
        self.assertFalse(serves(("btree", False, ["a"]), "brin", ["a"]))
        self.assertFalse(serves(("btree", False, ["tenant_id", "a"]), "unique", ["tenant_id", "a"]))
        self.assertFalse(serves(("btree", True, ["tenant_id", "a", "b"]), "unique", ["tenant_id", "a"]))


if __name__ == "__main__":
    unittest.main()
