#!/usr/bin/python3
# ferry-test: asan quick
"""The protocol's vectors, checked without any of Ferry's C.

Written from protocol/README.md and ferry.cddl: the described fields are turned
into bytes by protocol/profile.py and must equal the vector; python3-cbor2, a
decoder by others, must read the same structure from it; the vectors that are
called invalid must be found so by the rules here.

With --fill in place of tests: writes the hex of vectors that have none.
"""
import glob
import json
import os
import re
import sys
import unittest
import uuid

import cbor2

ROOT = os.environ.get("FERRY_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROTOCOL = os.path.join(ROOT, "protocol")
VECTORS = os.path.join(PROTOCOL, "vectors")
sys.path.insert(0, os.path.join(PROTOCOL, ".."))
sys.dont_write_bytecode = True

from protocol.profile import encode  # noqa: E402

MAX = 2**63 - 1
CLOCK_MAX = MAX // 2
OPS = ("insert", "update", "delete", "left")


class Invalid(Exception):
    pass


def need(condition, complaint):
    if not condition:
        raise Invalid(complaint)


# Field types: a pair of functions, described -> wire, and a check of the wire's form.

class Int:
    def __init__(self, low=-2**63, high=MAX):
        self.low, self.high = low, high

    def wire(self, v):
        return v

    def check(self, v):
        need(isinstance(v, int) and not isinstance(v, bool), "not an integer")
        need(self.low <= v <= self.high, "out of range")


class Hash(Int):
    def __init__(self):
        super().__init__(0, 2**64 - 1)

    def wire(self, v):
        return int(v, 16)


class Bool:
    def wire(self, v):
        return v

    def check(self, v):
        need(isinstance(v, bool), "not a boolean")


class Text:
    def wire(self, v):
        return v

    def check(self, v):
        need(isinstance(v, str) and "\0" not in v, "not text")


class Uuid:
    def wire(self, v):
        return uuid.UUID(v).bytes

    def check(self, v):
        need(isinstance(v, bytes) and len(v) == 16, "not a UUID")


class Cell:
    def wire(self, v):
        if isinstance(v, dict):
            (form, text), = v.items()
            return {"float": float, "bytes": bytes.fromhex,
                    "text": lambda t: bytes.fromhex(t).decode()}[form](text)
        return v

    def check(self, v):
        need(v is None or isinstance(v, (bool, int, float, str, bytes)), "not a value")
        need(not isinstance(v, int) or -2**63 <= v <= MAX, "an integer beyond 64 bits")


class Sums:
    def wire(self, v):
        return bytes.fromhex("".join(v))

    def check(self, v):
        need(isinstance(v, bytes) and len(v) % 8 == 0 and len(v) <= 62 * 8, "not sums")


class List:
    def __init__(self, of, most):
        self.of, self.most = of, most

    def wire(self, v):
        return [self.of.wire(x) for x in v]

    def check(self, v):
        need(isinstance(v, list) and len(v) <= self.most, "not a list within its limit")
        for x in v:
            self.of.check(x)


class Map:
    """fields: key -> (name, required, type); rule: a further check of the wire's map."""

    def __init__(self, fields, rule=None):
        self.fields, self.rule = fields, rule

    def wire(self, v):
        by_name = {name: (key, kind) for key, (name, _, kind) in self.fields.items()}
        out = {}
        for name, value in v.items():
            if name != "type":
                key, kind = by_name[name]
                out[key] = kind.wire(value)
        return out

    def check(self, v):
        need(isinstance(v, dict), "not a map")
        for key, (name, required, kind) in self.fields.items():
            if key in v:
                kind.check(v[key])
            else:
                need(not required, "%s is missing" % name)
        if self.rule:
            self.rule(v)


class Block:
    """[P 6]: the described cells are whole columns; equal ones travel as one."""

    def wire(self, b):
        out = {1: b["table"], 2: OPS.index(b["op"]) + 1, 4: b"".join(uuid.UUID(k).bytes for k in b["keys"])}
        if b["nums"]:
            out[3] = b["nums"]
            columns = [[Cell().wire(c) for c in column] for column in b["cells"]]
            out[5] = [c[:1] if all(encode(x) == encode(c[0]) for x in c) else c for c in columns]
        if "at" in b:
            out[6] = [t - s for s, t in zip([0] + b["at"], b["at"])]
        if "bases" in b:
            out[7] = [x for base in b["bases"] for x in (base["row"], base["num"], base["position"])]
        if b.get("goes_on"):
            out[8] = True
        if "olds" in b:
            olds = [(o["num"], [Cell().wire(c) for c in o["cells"]]) for o in b["olds"]]
            out[9] = [[n] + (c[:1] if all(encode(x) == encode(c[0]) for x in c) else c) for n, c in olds]
        return out

    def check(self, b):
        need(isinstance(b, dict), "not a block")
        Int(1, 2**32 - 1).check(b.get(1))
        Int(1, 4).check(b.get(2))
        need(isinstance(b.get(4), bytes) and len(b[4]) % 16 == 0, "keys")
        rows, nums = len(b[4]) // 16, b.get(3, [])
        ascending(nums, 1, 65535)
        need(len(nums) <= 62, "too many columns")
        need(not nums or b[2] in (1, 2) and rows, "columns of a deletion or of no rows")
        need(nums or not rows or b[2] != 2, "an update without columns")
        self.check_columns(b, rows, nums)
        self.check_authorship(b, rows, nums)
        need(isinstance(b.get(8, False), bool), "goes on")
        if b.get(8):
            need(rows == 1 and nums and isinstance(b[5][-1][0], (str, bytes)), "what cannot go on goes on")
        if 9 in b:
            self.check_olds(b, rows, nums)

    @staticmethod
    def check_olds(b, rows, nums):
        need(isinstance(b[9], list) and b[9] and b[2] == 2 and rows and not b.get(8), "old values of no update")
        for old in b[9]:
            need(isinstance(old, list) and len(old) - 1 in (1, rows), "old values")
            for cell in old[1:]:
                Cell().check(cell)
        ascending([old[0] for old in b[9]], 1, 65535)
        need(all(old[0] in nums for old in b[9]), "old values of a column that is not there")

    @staticmethod
    def check_columns(b, rows, nums):
        columns = b.get(5, [])
        need(isinstance(columns, list) and len(columns) == len(nums), "columns")
        need(5 not in b or columns, "columns of nothing")
        for column in columns:
            need(isinstance(column, list) and len(column) in (1, rows), "cells")
            for cell in column:
                Cell().check(cell)

    @staticmethod
    def check_authorship(b, rows, nums):
        if 6 in b:
            need(len(b[6]) == rows, "times")
            now = 0
            for step in b[6]:
                now += step
                need(0 <= now <= CLOCK_MAX, "a time out of range")
        bases = b.get(7, [])
        need(len(bases) % 3 == 0, "bases")
        triples = list(zip(bases[0::3], bases[1::3], bases[2::3]))
        for row, num, position in triples:
            need(0 <= row < rows and (num == 0 or num in nums) and position >= 0, "a base out of range")
        need([t[:2] for t in triples] == sorted({t[:2] for t in triples}), "bases out of order")


def ascending(numbers, low, high):
    need(isinstance(numbers, list), "not a list")
    for before, number in zip([low - 1] + numbers, numbers):
        need(isinstance(number, int) and before < number <= high, "numbers are not ascending")


def goes_on_last(blocks):
    need(not any(b.get(8) for b in blocks[:-1]), "a row that goes on is not the last of its message")


def change_set_rule(s):
    ascending(s.get(8, []), 1, s[2] - 1)
    ascending(s.get(16, []), 1, s[2] - 1)
    gaps = s.get(18, [])
    need(len(gaps) % 2 == 0 and all(a < b for a, b in zip(gaps[::2], gaps[1::2])), "gaps")
    need(all(b[2] != 4 and b[4] for b in s.get(9, [])), "a row that leaves, or no rows")
    goes_on_last(s.get(9, []))
    need(s.get(13) != 3 or s.get(14), "a refusal of the past without its code")
    need(not any(b.get(8) for b in s.get(9, [])) or s.get(7), "a row that goes on where nothing follows")


def push_rule(m):
    need(m[1], "a push of nothing")
    for a, b in zip(m[1], m[1][1:]):
        if a.get(1) == b.get(1):
            follows = a.get(7, False) and b.get(6, 0) == a.get(6, 0) + 1
            need(b[2] > a[2] and not a.get(7, False) or b[2] == a[2] and follows, "out of order")


def settled_rule(s):
    need(s[2] > 2 or s.get(4, 0) == 0, "it stands with an error")
    need(s[2] != 3 or s.get(4, 0) != 0, "a refusal without a code")


def delta_rule(m):
    need(m[3] >= m[2], "backwards")
    need(all(6 not in b and 7 not in b and 9 not in b and b[4] for b in m.get(4, [])), "authorship in a delta, or no rows")
    goes_on_last(m.get(4, []))


def commit_rule(m):
    need(all(s.get(3, 0) <= m[1] for s in m.get(3, [])), "a verdict from after the commit")


def lease_rule(m):
    need(m[4] >= m[3], "a lease that ends before it begins")


def fill_rule(m):
    b = m[4]
    need(b[2] == 1 and 6 not in b and 7 not in b and 9 not in b, "plain rows only")
    keys = [b[4][i:i + 16] for i in range(0, len(b[4]), 16)]
    need(keys == sorted(set(keys)), "keys are not ascending")


def table_rule(t):
    need(t[2] and t[3], "no name")
    nums = [c[1] for c in t.get(7, [])]
    ascending(nums, 1, 65535)
    need(t[4] not in nums and all(c[2] for c in t.get(7, [])), "columns")


def schema_rule(m):
    need(m[1] != 0, "a hash of 0")
    ascending([t[1] for t in m.get(2, [])], 1, 2**32 - 1)


NUMBER, POSITION, CODE, TABLE = Int(1), Int(0), Int(0, 65535), Int(1, 2**32 - 1)
CREDIT = Int(0, 2**40)
BLOCKS = List(Block(), 4096)
CHANGE_SET = Map({1: ("author", 0, Uuid()), 2: ("number", 1, NUMBER), 3: ("base_position", 0, POSITION),
                  4: ("at", 1, Int(0, CLOCK_MAX)), 5: ("joined", 0, Bool()), 6: ("part", 0, Int(0, 999999)),
                  7: ("more", 0, Bool()), 8: ("depends", 0, List(Int(), 1024)), 9: ("blocks", 0, BLOCKS),
                  10: ("step", 0, POSITION), 11: ("old_position", 0, POSITION), 12: ("lost_from", 0, POSITION),
                  13: ("old_verdict", 0, Int(0, 4)), 14: ("old_code", 0, CODE), 15: ("old_sentence", 0, Text()),
                  16: ("after", 0, List(Int(), 1024)), 17: ("last_position", 0, POSITION),
                  18: ("gaps", 0, List(POSITION, 128))},
                 change_set_rule)
CONFLICT = Map({1: ("table", 1, TABLE), 2: ("key", 1, Uuid()), 3: ("num", 0, Int(0, 65535)),
                4: ("kind", 1, Int(1, 3)), 5: ("device_won", 0, Bool()), 6: ("device_value", 0, Cell()),
                7: ("hub_value", 0, Cell()), 8: ("other", 0, Uuid())})
SETTLED = Map({1: ("number", 1, NUMBER), 2: ("verdict", 1, Int(1, 4)), 3: ("position", 0, POSITION),
               4: ("code", 0, CODE), 5: ("sentence", 0, Text()), 6: ("conflicts", 0, List(CONFLICT, 4096)),
               7: ("mine", 0, Uuid()), 8: ("other", 0, Uuid())},
              settled_rule)
SUM = Map({1: ("scope", 1, Text()), 2: ("table", 1, TABLE), 3: ("rows", 1, POSITION), 4: ("sums", 0, Sums())})
COLUMN = Map({1: ("num", 1, Int(1, 65535)), 2: ("name", 1, Text()), 3: ("kind", 1, Int(0, 13)),
              4: ("not_null", 0, Bool()), 5: ("read_only", 0, Bool()), 6: ("has_default", 0, Bool()),
              7: ("default_sql", 0, Text()), 8: ("labels", 0, List(Text(), 1024)),
              9: ("ref_table", 0, Int(0, 2**32 - 1)), 10: ("policy", 0, Int(0, 65535)), 11: ("filled", 0, Cell()),
              12: ("lease", 0, Int(0, 10000))})
SCHEMA_TABLE = Map({1: ("table", 1, TABLE), 2: ("name", 1, Text()), 3: ("key", 1, Text()),
                    4: ("key_num", 1, Int(1, 65535)), 5: ("writable", 0, Bool()), 6: ("rank", 0, Int(0, 2**32 - 1)),
                    7: ("columns", 0, List(COLUMN, 62))}, table_rule)


def hello_rule(m):
    need(m[1] <= m[2], "the lowest version is above the highest")
    need(len(m.get(17, [])) == len(m.get(18, [])), "bookmarks of the past and their marks")
    ascending(m.get(17, []), 0, MAX)


def welcome_rule(m):
    ascending(m.get(10, []), m.get(9, 0) + 1, MAX)


def range_rule(r):
    need(2 not in r or r.get(1, bytes(16)) < r[2] or r[2] == bytes(16), "a range that ends before it begins")
    need(r.get(3, 0) or not r.get(4, 0), "a hash of no rows")


ASKED = Map({1: ("after", 0, Uuid()), 2: ("upto", 0, Uuid())}, range_rule)
RANGE = Map({1: ("after", 0, Uuid()), 2: ("upto", 0, Uuid()), 3: ("rows", 0, POSITION), 4: ("hash", 0, Hash())}, range_rule)

PING = {1: ("id", 1, Int()), 2: ("sent", 1, Int())}
MESSAGES = {
    "hello": (1, Map({1: ("version_min", 1, Int(1, 65535)), 2: ("version_max", 1, Int(1, 65535)),
                      3: ("agent_version", 1, Text()), 4: ("incarnation", 1, Uuid()), 5: ("epoch", 0, Uuid()),
                      6: ("schema_hash", 0, Hash()), 7: ("position", 1, Int(-1)), 8: ("mark", 0, Int()),
                      9: ("last_number", 0, POSITION), 10: ("clock", 1, Int()), 11: ("credit_bytes", 0, CREDIT),
                      12: ("fill_position", 0, POSITION), 13: ("fill_table", 0, Int(0, 2**32 - 1)),
                      14: ("fill_after", 0, Uuid()), 15: ("fill_scope", 0, Text()), 16: ("refill", 0, Bool()),
                      17: ("past", 0, List(Int(), 64)), 18: ("past_marks", 0, List(Int(), 64)),
                      19: ("life", 0, POSITION), 20: ("step", 0, POSITION),
                      21: ("life_marks", 0, List(Int(), 17)), 22: ("next_mark", 0, Int()),
                      23: ("scopes", 0, List(Text(), 4096)), 24: ("fill_scopes", 0, List(Text(), 4096)),
                      25: ("fill_beside", 0, Bool()), 26: ("features", 0, Hash()), 27: ("comparable", 0, Bool()),
                      28: ("rewound", 0, Bool())}, hello_rule)),
    "welcome": (2, Map({1: ("version", 1, Int(1, 65535)), 2: ("hub_version", 1, Text()), 3: ("tenant", 1, Uuid()),
                        4: ("device", 1, Uuid()), 5: ("epoch", 1, Uuid()), 6: ("schema_hash", 0, Hash()),
                        7: ("mode", 1, Int(1, 3)), 8: ("code", 0, CODE), 9: ("settled", 0, Int(0, MAX - 1)),
                        10: ("settled_above", 0, List(Int(), 65536)), 11: ("scopes", 0, List(Text(), 4096)),
                        12: ("credit_bytes", 0, CREDIT), 13: ("message_bytes_max", 1, Int(4096, 2**26)),
                        14: ("clock", 1, Int()), 15: ("held", 0, CODE), 16: ("compares", 0, Bool()),
                        17: ("common", 0, POSITION), 18: ("common_mark", 0, Int()), 19: ("backed_up", 0, POSITION),
                        20: ("life", 0, POSITION), 21: ("adopted", 0, Bool()),
                        22: ("adding", 0, List(Text(), 4096)), 23: ("adding_goes_on", 0, Bool()),
                        24: ("features", 0, Hash()), 25: ("compared", 0, Bool()), 26: ("since", 0, POSITION)},
                    welcome_rule)),
    "schema": (3, Map({1: ("hash", 1, Hash()), 2: ("tables", 0, List(SCHEMA_TABLE, 1024)), 3: ("step", 0, POSITION)}, schema_rule)),
    "push": (4, Map({1: ("sets", 1, List(CHANGE_SET, 4096))}, push_rule)),
    "ack": (5, Map({1: ("settled", 1, List(SETTLED, 4096))})),
    "delta": (6, Map({1: ("scope", 1, Text()), 2: ("from", 1, POSITION), 3: ("to", 1, POSITION),
                      4: ("blocks", 0, BLOCKS)}, delta_rule)),
    "commit": (7, Map({1: ("position", 1, POSITION), 2: ("mark", 1, Int()), 3: ("settled", 0, List(SETTLED, 4096)),
                       4: ("sums", 0, List(SUM, 4096)), 5: ("clock", 1, Int()), 6: ("fill_done", 0, Bool()),
                       7: ("backed_up", 0, POSITION)},
                      commit_rule)),
    "credit": (8, Map({1: ("bytes", 1, CREDIT)})),
    "error": (9, Map({1: ("code", 1, CODE), 2: ("sentence", 0, Text()), 3: ("retry", 0, Bool()),
                      4: ("retry_after_ms", 0, Int(0, 86400000))})),
    "ping": (10, Map(PING)),
    "pong": (11, Map({**PING, 3: ("received", 1, Int()), 4: ("answered", 1, Int())})),
    "fill": (12, Map({1: ("scope", 1, Text()), 2: ("position", 0, POSITION), 3: ("table_done", 0, Bool()),
                      4: ("block", 1, Block())}, fill_rule)),
    "fill-ack": (13, Map({1: ("table", 1, TABLE), 2: ("after", 1, Uuid())})),
    "compare": (14, Map({1: ("scope", 1, Text()), 2: ("table", 1, TABLE), 3: ("ranges", 0, List(ASKED, 8)),
                         4: ("keys", 0, List(Map({1: ("key", 1, Uuid())}), 1024)), 5: ("sums", 0, Bool())})),
    "ranges": (15, Map({1: ("scope", 1, Text()), 2: ("table", 1, TABLE), 3: ("position", 1, POSITION),
                        4: ("ranges", 0, List(RANGE, 512)), 5: ("sums", 0, List(SUM, 4096)),
                        6: ("all_sums", 0, Bool())})),
    "lease-ask": (16, Map({1: ("table", 1, TABLE), 2: ("num", 1, Int(1, 65535))})),
    "lease": (17, Map({1: ("table", 1, TABLE), 2: ("num", 1, Int(1, 65535)), 3: ("first", 1, Int(0)), 4: ("last", 1, Int(0)),
                       5: ("step", 1, Int(1, 2**31 - 1)), 6: ("padding", 0, Int(0, 18)), 7: ("head", 0, Text()),
                       8: ("tail", 0, Text()), 9: ("until", 0, Int())}, lease_rule)),
    "unknown": (18, Map({1: ("message_type", 1, Int(128, 255))})),
}
BY_NUMBER = {number: shape for number, shape in MESSAGES.values()}


def message_bytes(described):
    number, shape = MESSAGES[described["type"]]
    return encode({0: number, **shape.wire(described)})


def depth(v):
    inner = v.values() if isinstance(v, dict) else v if isinstance(v, list) else ()
    return 1 + max(map(depth, inner), default=0) if isinstance(v, (dict, list)) else 0


def check_message(data):
    """Raises Invalid, or what cbor2 raises, for what must be refused."""
    value = cbor2.loads(data)
    need(encode(value) == data, "not the deterministic form")
    need(depth(value) <= 16, "too deep")
    need(isinstance(value, dict) and 0 in value, "no type")
    Int(0).check(value[0])
    need(value[0] in BY_NUMBER, "unknown type")
    BY_NUMBER[value[0]].check(value)


def load(name):
    with open(os.path.join(VECTORS, name), encoding="utf-8") as file:
        return json.load(file)


def same(a, b):
    """Equal, with NaN equal to itself, and 1, 1.0 and True apart."""
    return encode(a) == encode(b)


class Vectors(unittest.TestCase):
    def test_described_fields_give_the_bytes(self):
        for vector in load("messages.json"):
            with self.subTest(vector["name"]):
                data = message_bytes(vector["message"]).hex()
                self.assertEqual(vector.get("canonical", vector["hex"]), data)

    def test_another_decoder_reads_the_same(self):
        for vector in load("messages.json"):
            with self.subTest(vector["name"]):
                number, shape = MESSAGES[vector["message"]["type"]]
                value = cbor2.loads(bytes.fromhex(vector.get("canonical", vector["hex"])))
                self.assertTrue(same(value, {0: number, **shape.wire(vector["message"])}))
                check_message(bytes.fromhex(vector["hex"]))

    def test_every_message_has_a_vector(self):
        self.assertEqual(set(MESSAGES), {v["message"]["type"] for v in load("messages.json")})

    def test_invalid_ones_are_invalid(self):
        with open(os.path.join(PROTOCOL, "errors.def"), encoding="utf-8") as file:
            errors = re.findall(r"^X\((\w+),", file.read(), re.M)
        for vector in load("invalid.json"):
            with self.subTest(vector["name"]):
                self.assertIn(vector["code"], errors)
                with self.assertRaises((Invalid, cbor2.CBORError, TypeError, ValueError, OverflowError, MemoryError)):
                    check_message(bytes.fromhex(vector["hex"]))


class Documents(unittest.TestCase):
    def read(self, *path):
        with open(os.path.join(PROTOCOL, *path), encoding="utf-8") as file:
            return file.read()

    def test_readme_lists_every_error(self):
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (\w+) \| (.*?) \|$", self.read("README.md"), re.M)
        registry = re.findall(r'^X\((\w+), (\d+), (\w+), "(.*)"\)$', self.read("errors.def"), re.M)
        self.assertEqual([(n, name, c.lower(), text) for name, n, c, text in registry], rows)

    def test_readme_states_the_limits_of_the_header(self):
        limits = dict(re.findall(r"^#define (FERRY_\w+_MAX) (.*?)\s*(?:/\*.*)?$", self.read("message.h"), re.M))
        stated = dict(re.findall(r"^\| `(FERRY_\w+_MAX)` \| ([\d,]+) \|", self.read("README.md"), re.M))
        values = {k: eval(re.sub(r"(?<=\d)(u|ll)\b", "", v).replace("INT64_MAX / 2", str(CLOCK_MAX)))  # pylint: disable=eval-used
                  for k, v in limits.items()}
        self.assertEqual(values, {k: int(v.replace(",", "")) for k, v in stated.items()})

    def test_cited_clauses_exist(self):
        clauses = set(re.findall(r"\[P ([\d.]+)\]", self.read("README.md")))
        for folder in ("protocol", "shared"):
            for path in glob.glob(os.path.join(ROOT, folder, "*.[chd]*")):
                with open(path, encoding="utf-8") as file:
                    for clause in re.findall(r"\[P (\d+(?:\.\d+)?)", file.read()):
                        self.assertIn(clause, clauses, path)

    def test_embedded_dictionary_equals_its_file(self):
        embedded = bytes(int(x, 16) for x in re.findall(r"0x(\w\w)", self.read("dictionary", "dictionary.inc")))
        with open(os.path.join(PROTOCOL, "dictionary", "ferry.v1.dict"), "rb") as file:
            self.assertEqual(file.read(), embedded)


def fill():
    path = os.path.join(VECTORS, "messages.json")
    vectors = load("messages.json")
    for vector in vectors:
        vector.setdefault("hex", message_bytes(vector["message"]).hex())
    with open(path, "w", encoding="utf-8") as file:
        lines = (json.dumps({"name": v.pop("name"), "hex": v.pop("hex"), **v}, ensure_ascii=False) for v in vectors)
        file.write("[\n" + ",\n".join(" " + line for line in lines) + "\n]\n")


if __name__ == "__main__":
    if "--fill" in sys.argv:
        fill()
    else:
        unittest.main()
