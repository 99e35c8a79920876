#!/usr/bin/python3
# ferry-test: quick
"""Values: wire form and back bit for bit, and cell hashes that no setting of a session can move."""

import unittest
import uuid

from ferry_case import HubCase, run

T = uuid.UUID("11111111-1111-4111-8111-111111111111")

# type, values as literals
VALUES = (
    ("bool", "true", "false"),
    ("smallint", "-32768", "0"),
    ("integer", "2147483647", "-1"),
    ("bigint", "-9223372036854775808", "0"),
    ("real", "0.1", "NaN", "-Infinity", "-0"),
    ("double precision", "0.1", "1e308", "NaN", "Infinity", "5e-324"),
    ("text", "", "x", "ünï \U0001f30d", "a\\'b\n\t"),
    ("varchar(10)", "abc ", ""),
    ("char(5)", "ab", ""),
    ("citext", "MiXed", "mixed"),
    ("uuid", "00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bytea", "\\x", "\\x00ff10", "\\xdeadbeef"),
    ("timestamptz", "2024-02-29 12:34:56.789012+02", "infinity", "-infinity", "4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00"),
    ("date", "2024-02-29", "infinity", "-infinity", "0001-01-01", "4713-01-01 BC"),
    ("numeric", "0", "1.50", "-123456789012345678901234567890.123456789", "NaN", "Infinity", "1e-20"),
    ("numeric(12,2)", "1.5", "-0.01", "9999999999.99"),
    ("jsonb", "null", '{"b": [1, 2.50, "x"], "a": null}', '"s"', "[]"),
    ("json", '{"b":1,  "a":2}'),
    ("text[]", "{}", '{a,NULL,"NULL","",",","\\"q\\"","\\\\"}', "{{a,b},{c,NULL}}"),
    ("integer[]", "{1,NULL,-3}", "{}"),
    ("numeric[]", "{1.50,NaN}"),
    ("timestamptz[]", '{"2024-02-29 12:34:56.789012+02",infinity}'),
    ("double precision[]", "{0.1,NaN,Infinity,1e-300}"),
    ("bool[]", "{t,f,NULL}"),
    ("uuid[]", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"),
    ("inet", "10.0.0.1", "10.0.0.0/8", "::1"),
    ("interval", "1 year 2 days 03:04:05.678", "-1 mon"),
    ("timestamp", "2024-02-29 12:34:56.789012", "infinity"),
    ("time", "12:34:56.789"),
    ("point", "(0.1,2)"),
    ("int4range", "[1,5)", "empty"),
    ("jsonb[]", '{"{\\"a\\": 1}","\\"x\\"",NULL}'),
    ("bytea[]", '{"\\\\x00ff",NULL}'),
    ("mood", "sad", "it's"),
    ("price", "12.30"),
    ("tsvector", "'a':1 'b':2"),
)
STRANGE = ("SET timezone = 'Asia/Kathmandu'", "SET datestyle = 'SQL, DMY'", "SET intervalstyle = 'iso_8601'",
           "SET extra_float_digits = 0", "SET bytea_output = 'escape'", "SET xmloption = 'document'",
           "SET default_text_search_config = 'pg_catalog.german'")


class Values(HubCase):
    PARTS = ("engine",)

    def setUp(self):
        super().setUp()
        self.sql("CREATE EXTENSION IF NOT EXISTS citext")
        self.sql("CREATE TYPE mood AS ENUM ('sad', 'it''s')")
        self.sql("CREATE DOMAIN price AS numeric(12,2) CHECK (VALUE > 0)")
        columns = ", ".join("c%d %s" % (i, v[0]) for i, v in enumerate(VALUES))
        self.sql("CREATE TABLE public.kinds (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), %s, "
                 "PRIMARY KEY (tenant_id, id))" % columns)
        self.sql("SELECT ferry.track('public.kinds')")

    def test_every_type_makes_the_round_trip_bit_for_bit(self):
        conn = self.conn()
        run(conn, "SET timezone = 'UTC'")
        for i, (pg_type, *values) in enumerate(VALUES):
            wire, back = run(conn, "SELECT wire_expr, in_expr FROM ferry.tracked_column WHERE name = %s", "c%d" % i)[0]
            for value in values:
                with self.subTest(type=pg_type, value=value):
                    key = run(conn, "INSERT INTO kinds (tenant_id, c%d) VALUES (%%s, %%s) RETURNING id" % i, T, value)[0][0]
                    run(conn, "INSERT INTO kinds (tenant_id, c%d) SELECT tenant_id, %s FROM (SELECT tenant_id, %s AS w FROM kinds WHERE id = '%s') s"
                        % (i, back.replace("%s", "w"), wire.replace("%s", "c%d" % i), key))
                    same = run(conn, "SELECT count(*), count(DISTINCT encode(f, 'hex')) FROM (SELECT %s AS f FROM kinds WHERE c%d IS NOT NULL) s"
                               % (self.binary(pg_type, "c%d" % i), i))
                    self.assertEqual(same, [(2, 1)])
                    run(conn, "DELETE FROM kinds")
        conn.rollback()

    @staticmethod
    def binary(pg_type, column):
        send = {"bool": "boolsend", "smallint": "int2send", "integer": "int4send", "bigint": "int8send", "real": "float4send",
                "double precision": "float8send", "uuid": "uuid_send", "timestamptz": "timestamptz_send", "date": "date_send",
                "numeric": "numeric_send", "numeric(12,2)": "numeric_send", "price": "numeric_send", "jsonb": "jsonb_send",
                "inet": "inet_send", "interval": "interval_send", "timestamp": "timestamp_send", "time": "time_send",
                "point": "point_send", "text[]": "array_send", "jsonb[]": "array_send", "numeric[]": "array_send"}.get(pg_type)
        return "%s(%s)" % (send, column) if send else "convert_to(format('%%s', %s), 'UTF8')" % column

    def test_hash_of_every_type_is_the_same_under_any_settings(self):
        for i, (_, *values) in enumerate(VALUES):
            for value in values:
                self.sql("INSERT INTO kinds (tenant_id, c%d) VALUES (%%s, %%s)" % i, T, value)
        plain = self.sql("SELECT key, hashes FROM ferry.version ORDER BY key")
        conn = self.conn()
        for text in STRANGE:
            run(conn, text)
        columns = ", ".join("c%d = c%d" % (i, i) for i in range(len(VALUES)))
        run(conn, "UPDATE kinds SET " + columns)
        conn.commit()
        for (key,) in self.sql("SELECT id FROM kinds ORDER BY id LIMIT 70"):
            run(conn, "UPDATE kinds SET %s WHERE id = %%s" % columns, key)
            conn.commit()
        self.assertEqual(self.sql("SELECT key, hashes FROM ferry.version ORDER BY key"), plain)
        self.assertEqual(run(conn, "SELECT count(*) FROM ferry.verify()"), [(0,)])
        conn.rollback()
        self.assert_sound()

    def test_few_and_many_rows_hash_alike(self):
        self.sql("INSERT INTO kinds (tenant_id, c8) SELECT %s, i::text FROM generate_series(1, 10) i", T)
        self.sql("INSERT INTO kinds (tenant_id, c8) SELECT %s, i::text FROM generate_series(1, 1000) i", T)
        self.assert_sound()

    def test_null_hashes_to_zero_and_json_null_does_not(self):
        at = [i for i, v in enumerate(VALUES) if v[0] == "jsonb"][0]
        self.sql("INSERT INTO kinds (tenant_id, c%d) VALUES (%%s, 'null'), (%%s, NULL)" % at, T, T)
        self.assertEqual(sorted(row[0] for row in self.sql("SELECT hashes[%d] = 0 FROM ferry.version" % (at + 3))), [False, True])

    def test_equal_values_in_different_cells_hash_differently(self):
        self.sql("INSERT INTO kinds (tenant_id, c2, c3) VALUES (%s, 5, 5), (%s, 5, 5)", T, T)
        hashes = [x for row in self.sql("SELECT hashes FROM ferry.version") for x in row[0] if x]
        self.assertEqual(len(hashes), len(set(hashes)))

    def test_value_that_does_not_fit_is_refused_and_not_cut(self):
        conn = self.conn()
        for i, (pg_type, value, sqlstate) in enumerate((("varchar(10)", "x" * 11, "22001"), ("char(5)", "x" * 6, "22001"),
                                                        ("numeric(12,2)", "10000000000", "22003"), ("smallint", "40000", "22003"),
                                                        ("mood", "happy", "22P02"), ("price", "-1", "23514"), ("text[]", '"x"', "22P02"))):
            at = [n for n, v in enumerate(VALUES) if v[0] == pg_type][0]
            back = self.value("SELECT in_expr FROM ferry.tracked_column WHERE name = 'c%d'" % at)
            with self.subTest(type=pg_type):
                self.refused(sqlstate, "INSERT INTO kinds (tenant_id, c%d) VALUES ('%s', %s)" % (at, T, back % ("'%s'" % value)), conn=conn)


if __name__ == "__main__":
    unittest.main()
