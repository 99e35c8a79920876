#!/usr/bin/python3
# ferry-test: quick
"""Every kind of PostgreSQL value makes the round trip PostgreSQL -> replica -> another row, written in
the replica -> PostgreSQL, bit for bit.

The table is a user's own, made and tracked here with SQL alone. Bits are compared by PostgreSQL:
the send function's bytes of both rows' values, so that 1.50 and 1.5, or 'null' and NULL, differ.
"""

import contextlib
import json
import unittest
import uuid

from ferry_run import SiteCase, differences, wait_until

# column: (type, values in PostgreSQL's own spelling)
COLUMNS = {
    "t_bool": ("bool", ["true", "false", None]),
    "t_int2": ("int2", ["-32768", "32767", "0"]),
    "t_int4": ("int4", ["-2147483648", "2147483647"]),
    "t_int8": ("int8", ["-9223372036854775808", "9223372036854775807", "9007199254740993", "-1"]),
    "t_float4": ("float4", ["1.5", "0.1", "3.4028235e38", "1e-45", "-0", "NaN", "Infinity", "-Infinity", "16777217"]),
    "t_float8": ("float8", ["0.1", "1.7976931348623157e308", "5e-324", "-0", "NaN", "Infinity", "-Infinity", "9007199254740993",
                            "0.30000000000000004"]),
    "t_numeric": ("numeric", ["0", "1.50", "1.5", "0.000", "-0.10", "123456789012345678901234567890.123456789012345678901234567890",
                              "1e100", "1e-100", "NaN", "Infinity", "-Infinity"]),
    "t_money2": ("numeric(12,2)", ["0.00", "9999999999.99", "-0.01", "95.50"]),
    "t_text": ("text", ["", " ", "ünïcödé 名前 😀", "quote ' \" \\ %s {a,b} \n\t\r\x01\x7f", "null", "NULL", "é", "e\u0301", "\U0010ffff", None]),
    "t_varchar": ("varchar(8)", ["", "12345678", "ß"]),
    "t_char": ("char(5)", ["", "ab", "abcde"]),
    "t_citext": ("citext", ["MiXed@Example.COM", "mixed@example.com", "ÄÖ", ""]),
    "t_uuid": ("uuid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
                        "0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001"]),
    "t_bytea": ("bytea", ["\\x", "\\x00", "\\xdeadbeef00ff", "\\x" + "00ff" * 2000]),
    "t_timestamptz": ("timestamptz", ["infinity", "-infinity", "2026-03-01 12:34:56.123456+00", "1970-01-01 00:00:00+00",
                                      "1969-12-31 23:59:59.999999+00", "2000-01-01 00:00:00+00", "0001-01-01 00:00:00+00",
                                      "0044-03-15 12:00:00+00 BC", "4713-01-01 00:00:00+00 BC", "9999-12-31 23:59:59.999999+00",
                                      "10000-01-01 00:00:00+00", "294247-01-01 00:00:00+00", "2026-07-01 12:00:00.1+05:30"]),
    "t_date": ("date", ["infinity", "-infinity", "1970-01-01", "2026-02-28", "2024-02-29", "0001-01-01", "0044-03-15 BC",
                        "4713-01-01 BC", "9999-12-31", "10000-01-01"]),
    "t_jsonb": ("jsonb", ["null", "{}", "[]", '""', '"\\u00e9"', "1.50", "1e400", "12345678901234567890.123", "true",
                          '{"b": 1, "a": [null, {"c": "\\"\\\\\\n"}]}', None]),
    "t_json": ("json", ["null", ' { "b" : 1,  "a":2, "a" : 3 } ', "[1.0, 1.00]", None]),
    "t_text_array": ("text[]", ["{}", "{NULL}", '{"NULL"}', '{a,"b c","d,e","f\\"g","h\\\\i",""}', "{{a,b},{c,NULL}}", '{"{x}",名前}', None]),
    "t_int_array": ("int8[]", ["{}", "{1,NULL,-9223372036854775808,9223372036854775807}", "{{1,2},{3,4}}", None]),
    "t_numeric_array": ("numeric[]", ["{1.50,1.5,NULL,0.000,123456789012345678901234567890.1}", "{}"]),
    "t_bool_array": ("bool[]", ["{t,f,NULL}"]),
    "t_uuid_array": ("uuid[]", ["{0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001,NULL}"]),
    "t_float_array": ("float8[]", ["{0.1,1e300,-1.5,NULL}"]),
    "t_time_array": ("timestamptz[]", ["{\"2026-03-01 12:34:56.123456+00\",infinity,NULL}"]),
    "t_enum": ("shop.mood", ["calm", "it's \"odd\"", None]),
    "t_inet": ("inet", ["10.0.0.1", "10.0.0.0/8", "2001:db8::1", "::1/64", "192.168.1.5/32"]),
    "t_cidr": ("cidr", ["10.0.0.0/8", "2001:db8::/32"]),
    "t_macaddr": ("macaddr", ["08:00:2b:01:02:03"]),
    "t_time": ("time", ["00:00:00", "23:59:59.999999", "24:00:00"]),
    "t_timetz": ("timetz", ["12:00:00.5+05:30"]),
    "t_timestamp": ("timestamp", ["2026-03-01 12:34:56.123456", "infinity", "-infinity"]),
    "t_interval": ("interval", ["0", "1 mon -2 days 03:04:05.678901", "-1 years", "00:00:00.000001"]),
    "t_bit": ("bit varying", ["", "101"]),
    "t_range": ("int4range", ["empty", "[1,10)", "(,5)", "(,)"]),
    "t_tsrange": ("tstzrange", ["[\"2026-01-01 00:00:00+00\",\"2026-02-01 00:00:00+00\")", "empty"]),
    "t_point": ("point", ["(1.5,-2.25)", "(0.1,1e-10)"]),
    "t_domain": ("shop.percent", ["0", "99.50"]),
    "t_tsvector": ("tsvector", ["'a':1A 'b c':2", ""]),
    "t_xml": ("xml", ["<a b=\"1\">x&amp;y</a>"]),
}

SEND = {"citext": "citextsend", "json": "json_send"}


class Types(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("CREATE SCHEMA shop")
        cls.site.sql("CREATE TYPE shop.mood AS ENUM ('calm', 'it''s \"odd\"')")
        cls.site.sql("CREATE DOMAIN shop.percent AS numeric(5,2) CHECK (value BETWEEN 0 AND 100)")
        cls.site.sql("CREATE TABLE shop.everything (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), pair uuid, %s, "
                     "PRIMARY KEY (tenant_id, id))" % ", ".join("%s %s" % (name, kind) for name, (kind, _) in COLUMNS.items()))
        cls.site.sql("SELECT ferry.isolate('shop.everything')")
        cls.site.sql("SELECT ferry.track('shop.everything')")

    def setUp(self):
        super().setUp()
        self.a = self.device("a", scopes=[])

    def insert(self, column, value):
        return str(self.site.value("INSERT INTO shop.everything (tenant_id, %s) VALUES (%%s, %%s::text::%s) RETURNING id" % (
            column, COLUMNS[column][0]), self.tenant, value))

    def bits(self, column, key):
        """The value as its type's send function gives it: every bit; and None for SQL NULL."""
        rows = self.site.sql("SELECT record_send(ROW(%s)), %s IS NULL, %s::text FROM shop.everything WHERE id = %%s" % (
            column, column, column), key)
        self.assertEqual(len(rows), 1, "the row %s for %s is not at the hub" % (key, column))
        return bytes(rows[0][0]), rows[0][1], rows[0][2]

    def test_every_value_of_every_type_makes_the_round_trip_bit_for_bit(self):
        made = [(column, value, self.insert(column, value)) for column, (_, values) in COLUMNS.items() for value in values]
        self.settle()
        self.assertEqual(differences(self.db, self.a), [])
        copies = []
        with self.a.transaction() as db:
            for column, value, key in made:
                copy = str(uuid.uuid4())
                db.execute("INSERT INTO everything (id, pair, %s) SELECT ?, id, %s FROM everything WHERE id = ?" % (column, column),
                           (copy, key))
                copies.append((column, value, key, copy))
        self.settle()
        self.assertEqual(self.a.sql("SELECT name, sentence FROM ferry_rejected LIMIT 5"), [])
        changed = []
        for column, value, key, copy in copies:
            if self.bits(column, key) != self.bits(column, copy):
                changed.append("%s: %r came back as %r" % (column, self.bits(column, key)[2], self.bits(column, copy)[2]))
        self.assertEqual(changed, [])
        self.assert_same()

    def test_every_value_can_be_set_by_an_update_in_the_replica(self):
        made = [(column, self.insert(column, value)) for column, (_, values) in COLUMNS.items() for value in values if value is not None]
        blank = [str(self.site.value("INSERT INTO shop.everything (tenant_id) VALUES (%s) RETURNING id", self.tenant)) for _ in made]
        self.settle()
        with self.a.transaction() as db:
            for (column, key), target in zip(made, blank):
                db.execute("UPDATE everything SET %s = (SELECT %s FROM everything WHERE id = ?) WHERE id = ?" % (column, column),
                           (key, target))
        self.settle()
        self.assertEqual(self.a.sql("SELECT name, sentence FROM ferry_rejected LIMIT 5"), [])
        self.assertEqual([c for (c, key), target in zip(made, blank) if self.bits(c, key) != self.bits(c, target)], [])
        self.assert_same()

    def test_the_replica_holds_each_type_as_the_guide_says(self):
        expected = {
            "t_bool": ("true", 1), "t_int8": ("9223372036854775807", 2**63 - 1), "t_numeric": ("1.50", "1.50"),
            "t_timestamptz": ("2026-03-01 12:34:56.1+00", "2026-03-01T12:34:56.100000Z"), "t_date": ("2026-03-01", "2026-03-01"),
            "t_jsonb": ("null", "null"), "t_text_array": ('{a,NULL}', '["a",null]'), "t_bytea": ("\\x00ff", b"\x00\xff"),
            "t_float8": ("NaN", "NaN"), "t_inet": ("10.0.0.1", "10.0.0.1"), "t_uuid": ("0190A1B2-7D30-7CC1-8B1F-2F0F3AD0A001",
                                                                                      "0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001"),
        }
        keys = {column: self.insert(column, value) for column, (value, _) in expected.items()}
        self.settle()
        for column, (_, held) in expected.items():
            self.assertEqual(self.a.value("SELECT %s FROM everything WHERE id = ?" % column, keys[column]), held, column)
        null = self.insert("t_jsonb", None)
        self.settle()
        self.assertIsNone(self.a.value("SELECT t_jsonb FROM everything WHERE id = ?", null))

    def test_citext_compares_without_case_in_the_replica(self):
        key = self.insert("t_citext", "MiXed@Example.COM")
        self.settle()
        self.assertEqual(self.a.value("SELECT id FROM everything WHERE t_citext = 'mixed@example.com'"), key)
        self.assertEqual(self.a.value("SELECT t_citext FROM everything WHERE id = ?", key), "MiXed@Example.COM")

    # ---- what cannot be held is refused with a code, and only that

    def refused(self, code, column, value):
        """Writes a value that the hub cannot take, and a good row after it."""
        self.settle()
        bad, good = str(uuid.uuid4()), str(uuid.uuid4())
        with self.a.transaction() as db:
            db.execute("INSERT INTO everything (id, %s) VALUES (?, ?)" % column, (bad, value))
        with self.a.transaction() as db:
            db.execute("INSERT INTO everything (id, t_text) VALUES (?, 'good')", (good,))
        self.settle()
        rows = self.a.sql('SELECT name, sentence, "values" FROM ferry_rejected WHERE key = ?', bad)
        self.assertEqual([row[0] for row in rows], [code], "%s = %r" % (column, value))
        self.assertTrue(rows[0][1])
        self.assertIsNone(self.a.row("everything", bad))
        self.assertEqual(self.bits("t_text", good)[2], "good")
        return rows[0]

    def test_text_with_nul_is_refused_with_its_code(self):
        self.refused("NUL_IN_TEXT", "t_text", "a\0b")

    def test_json_with_an_escaped_nul_is_refused(self):
        self.refused("BAD_VALUE", "t_jsonb", '{"a": "\\u0000"}')

    def test_values_that_do_not_fit_their_column_are_refused(self):
        for column, value in (("t_int2", 40000), ("t_money2", "12345678901.00"), ("t_varchar", "123456789"), ("t_jsonb", "{"),
                              ("t_text_array", '["a"'), ("t_text_array", '"a"'), ("t_numeric", "1,5"), ("t_timestamptz", "yesterday-ish"),
                              ("t_date", "2026-02-30"), ("t_inet", "10.0.0.256"), ("t_uuid", "not-a-uuid")):
            with self.subTest(column=column, value=value):
                self.refused("BAD_VALUE", column, value)

    def test_a_check_of_the_domain_is_refused_as_a_constraint(self):
        row = self.refused("CONSTRAINT", "t_domain", "100.50")
        self.assertIn("percent", row[1])

    def test_text_that_is_not_utf8_is_refused(self):
        self.settle()
        bad = str(uuid.uuid4())
        with contextlib.closing(self.a.connect()) as db:
            db.execute("INSERT INTO everything (id, t_text) VALUES (?, CAST(x'ff41' AS TEXT))", (bad,))
        self.settle()
        self.assertEqual(self.a.sql("SELECT name FROM ferry_rejected WHERE key = ?", bad), [("BAD_VALUE",)])

    # ---- the table is a user's own

    def test_a_column_that_is_added_later_reaches_the_devices(self):
        key = self.insert("t_text", "before")
        self.settle()
        self.site.sql("ALTER TABLE shop.everything ADD COLUMN added int NOT NULL DEFAULT 7")
        try:
            other = self.insert("t_text", "after")
            self.wait_column("added", True)
            self.settle()
            self.assertEqual(self.a.sql("SELECT added FROM everything WHERE id IN (?, ?)", key, other), [(7,), (7,)])
            self.a.sql("UPDATE everything SET added = 8 WHERE id = ?", key)
            self.settle()
            self.assertEqual(self.site.value("SELECT added FROM shop.everything WHERE id = %s", key), 8)
            self.assert_same()
        finally:
            self.site.sql("ALTER TABLE shop.everything DROP COLUMN added")
        self.wait_column("added", False)
        self.settle()
        self.assert_same()

    def wait_column(self, name, there):
        wait_until(lambda: (name in [row[1] for row in self.a.sql("PRAGMA table_info(everything)")]) == there, 30,
                   "the column %s %s" % (name, "in the replica" if there else "gone"))

    def test_what_the_command_line_prints_of_it_is_json(self):
        self.insert("t_text", 'quote " and \x01')
        self.settle()
        rows = self.a.json("sql", "SELECT t_text FROM everything")
        self.assertEqual(rows, [{"t_text": 'quote " and \x01'}])
        self.assertEqual(json.loads(json.dumps(rows)), rows)


if __name__ == "__main__":
    unittest.main()
