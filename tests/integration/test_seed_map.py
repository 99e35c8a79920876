#!/usr/bin/python3
"""hub/sql/seed-map.csv says where each entity and field of the sources went; the database has it.

data/fields.csv lists what the sources describe (source, kind, entity, field, type). Whatever it
holds must be in the map, whatever the map says must be in the database, and nothing besides.
"""

import csv
import os
import re
import unittest

import ferry_pg
from ferry_case import HubCase

FIELDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "fields.csv")
MAP = os.path.join(ferry_pg.SQL, "seed-map.csv")

# Models of relations that the sources only name, though the tenant model builds them out.
BUILT_OUT = {
    "RoomScanSession", "RoomScanFile", "RoomModel", "RoomMeasurement", "RoomObject", "RoomSurface", "RoomAnnotation",
    "RoomExport", "RoomPlanPreset", "RoomProcessingJob", "SyncJob", "SyncLog", "UserDevice", "Role", "RolePermission",
    "Member", "MemberRole", "ApiKey", "Session"}


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def gaps(fields, mapped, columns):
    """Sentences on what does not fit: fields.csv, the map, {table: set of columns} of the database."""
    out = []
    wanted = {}
    for row in fields:
        if row["kind"] in ("entity", "field", "relation"):
            field = "" if row["kind"] == "entity" else row["field"]
            wanted[row["source"], row["entity"], field] = row
    models = {row["entity"] for row in fields if row["kind"] == "entity"}
    seen = set()
    for row in mapped:
        key = (row["source"], row["entity"], row["field"])
        name = "%s %s.%s" % key
        if key in seen:
            out.append("%s stands twice in the map" % name)
        seen.add(key)
        source = wanted.get(key)
        if source is None:
            out.append("%s is in no source" % name)
            continue
        if not row["table"]:
            if source["kind"] != "relation":
                out.append("%s has no table" % name)
            elif row["note"] != "named only":
                out.append("%s has neither a table nor the note 'named only'" % name)
            elif source["type"].rstrip("[]?") in models | BUILT_OUT:
                out.append("%s is named only, though its model is built" % name)
        elif row["table"] not in columns:
            out.append("%s: there is no table %s" % (name, row["table"]))
        elif row["column"] and row["column"] not in columns[row["table"]]:
            out.append("%s: %s has no column %s" % (name, row["table"], row["column"]))
        elif not row["column"] and source["kind"] == "field":
            out.append("%s has no column" % name)
    out += ["%s %s.%s is missing in the map" % key for key in wanted if key not in seen]
    return out


class SeedMap(HubCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fields, cls.map = read(FIELDS), read(MAP)

    def columns(self):
        rows = self.sql("SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text) FROM pg_class c "
                        "JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspowner = 'ferry_owner'::regrole "
                        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
                        "WHERE c.relkind IN ('r', 'p') GROUP BY 1")
        return {table: set(names) for table, names in rows}

    def test_every_entity_and_field_of_the_sources_is_in_the_database(self):
        self.assertEqual(gaps(self.fields, self.map, self.columns()), [])
        self.assertEqual(len({row["source"] for row in self.map}), 5)

    def test_header_is_as_agreed(self):
        self.assertEqual(list(self.map[0]), ["source", "entity", "field", "table", "column", "note"])

    def test_gaps_are_found(self):
        columns = self.columns()
        row = next(r for r in self.map if r["table"] == "billing.payments" and r["column"] == "captured_at")
        named = next(r for r in self.map if r["note"] == "named only")
        other = [r for r in self.map if r is not row]
        for changed, words in (
                (other, "missing in the map"),
                (other + [dict(row, column="taken_at")], "has no column taken_at"),
                (other + [dict(row, table="billing.gone")], "there is no table billing.gone"),
                (other + [dict(row, table="", note="named only")], "has no table"),
                (other + [dict(row, column="")], "has no column"),
                (self.map + [row], "stands twice"),
                (self.map + [dict(row, field="invented")], "is in no source"),
                ([r for r in self.map if r is not named] + [dict(named, note="")], "neither a table")):
            found = gaps(self.fields, changed, columns)
            self.assertEqual(len(found), 1, found)
            self.assertIn(words, found[0])

    def test_every_enum_value_is_one_of_a_type_or_a_check(self):
        lists = dict(self.sql("SELECT format_type(t.oid, NULL), array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_type t "
                              "JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.oid"))
        checks = [set(re.findall(r"'([A-Z0-9_]+)'", text)) for (text,) in
                  self.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c'")]
        enums = {}
        for row in self.fields:
            if row["kind"] == "enum":
                enums.setdefault(row["entity"], set()).add(row["field"])
        self.assertEqual(sum(map(len, enums.values())), 154)
        missing = []
        for name, values in enums.items():
            words = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
            typed = [labels for type_name, labels in lists.items() if words.endswith(type_name.split(".")[-1])]
            if not any(values <= set(labels) for labels in typed) and not any(values <= check for check in checks):
                missing.append((name, values))
        self.assertEqual(missing, [])

    def test_models_that_are_built_out_have_a_table_each(self):
        tables = {}
        by_key = {(r["source"], r["entity"], r["field"]): r for r in self.map}
        for row in self.fields:
            model = row["type"].rstrip("[]?")
            if row["kind"] == "relation" and model in BUILT_OUT:
                tables.setdefault(model, set()).add(by_key[row["source"], row["entity"], row["field"]]["table"])
        self.assertEqual(set(tables), BUILT_OUT)
        self.assertEqual([m for m, t in tables.items() if len(t) != 1 or "" in t], [])


if __name__ == "__main__":
    unittest.main()
