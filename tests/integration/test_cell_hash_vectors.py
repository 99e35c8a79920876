#!/usr/bin/python3
# ferry-test: quick
"""The cell hashes of the vectors are what PostgreSQL's own functions give [P 8]."""
import json
import os
import unittest

import ferry_pg

ROOT = os.environ.get("FERRY_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

DAY_US = 86400000000
SEED = "uuid_hash_extended(%(key)s::uuid, 0) # %(num)s::int8"


def expression(kind, value):
    """SQL of the hash of a value that is not NULL, and its parameters."""
    if kind == "bool":
        return "hashint8extended(%(v)s::bool::int::int8, {seed})", {"v": value}
    if kind == "int":
        return "hashint8extended(%(v)s::int8, {seed})", {"v": str(value)}
    if kind == "float":
        return "hashfloat8extended(%(v)s::float8, {seed})", {"v": value["float"]}
    if kind == "uuid":
        return "uuid_hash_extended(%(v)s::uuid, {seed})", {"v": value["bytes"]}
    if kind == "bytes":
        return "hashtextextended(encode(decode(%(v)s, 'hex'), 'hex'), {seed})", {"v": value["bytes"]}
    if kind in ("timestamptz", "date"):
        hashed = "timestamp_hash_extended(%s, {seed})"
        if isinstance(value, dict):
            return hashed % "%(v)s::date::timestamp", {"v": value["float"].lower()}
        days, us = divmod(value, DAY_US) if kind == "timestamptz" else (value, 0)
        return (hashed % "(date '1970-01-01' + %(d)s)::timestamp + %(us)s * interval '1 microsecond'",
                {"d": days, "us": us})
    return "hashtextextended(%(v)s::text, {seed})", {"v": value}


class CellHashVectors(unittest.TestCase):
    def test_vectors_equal_postgresql(self):
        path = os.path.join(ROOT, "protocol", "vectors", "cell_hash.json")
        with open(path, encoding="utf-8") as file:
            vectors = json.load(file)
        with ferry_pg.Cluster() as cluster:
            connection = cluster.connect()
            connection.autocommit = True
            with connection.cursor() as cursor:
                for vector in vectors:
                    with self.subTest(vector=vector):
                        self.check(cursor, vector)
            connection.close()

    def check(self, cursor, vector):
        if vector["value"] is None:
            self.assertEqual(0, int(vector["hash"], 16))
            return
        sql, parameters = expression(vector["kind"], vector["value"])
        parameters.update(key=vector["key"], num=vector["num"])
        cursor.execute("SELECT " + sql.format(seed=SEED), parameters)
        self.assertEqual(int(vector["hash"], 16), cursor.fetchone()[0] % 2**64)


if __name__ == "__main__":
    unittest.main()
