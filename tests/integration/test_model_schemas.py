#!/usr/bin/python3
"""JSON schemas of payloads: what fits, what does not and where, which schemas are refused."""

import json
import unittest

from ferry_case import HubCase, run

ORDER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["id", "lines"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "placed on": {"type": "string", "format": "date"},
        "currency": {"enum": ["EGP", "USD"]},
        "note": {"type": ["string", "null"], "maxLength": 5},
        "lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}}},
    "$defs": {
        "line": {"type": "object", "required": ["code", "quantity"], "properties": {
            "code": {"type": "string", "pattern": "^[A-Z]+-[0-9]+$"},
            "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/line"}}}}}}
GOOD = {"id": "0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001", "lines": [{"code": "A-1", "quantity": 2}]}

# (schema, fits, does not fit)
KEYWORDS = [
    ({"type": "integer"}, [1, 1.0, -5], [1.5, "1", None, True]),
    ({"type": "number"}, [1, 1.5], ["1", None]),
    ({"type": ["string", "null"]}, ["a", None], [1, [], {}]),
    ({"type": "object"}, [{}], [[], 1]),
    ({"type": "boolean"}, [True, False], [0, "true", None]),
    ({"enum": [1, "a", None, {"b": 1}]}, [1, "a", None, {"b": 1}], [2, "b", {"b": 2}, False]),
    ({"const": [1, 2]}, [[1, 2]], [[2, 1], 1]),
    ({"minimum": 1, "maximum": 2}, [1, 2, 1.5, "x"], [0.99, 2.01]),
    ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [1, 2]),
    ({"multipleOf": 0.1}, [0.3, 1], [0.35]),
    ({"minLength": 2, "maxLength": 3}, ["ab", "äöü", 5], ["a", "abcd"]),
    ({"pattern": "b+"}, ["abc", 1], ["ac"]),
    ({"format": "date"}, ["2024-02-29", 5], ["2023-02-29", "2024-2-1", "x"]),
    ({"format": "date-time"}, ["2024-02-29T23:59:59.5Z", "2024-01-01T00:00:00+02:00"], ["2024-01-01T24:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01"]),
    ({"format": "email"}, ["a@b"], ["a b@c", "@", "a"]),
    ({"required": ["a"]}, [{"a": None}, 5], [{}, {"b": 1}]),
    ({"properties": {"a": {"type": "string"}}}, [{"a": "x"}, {"b": 1}, []], [{"a": 1}]),
    ({"properties": {"a": True, "b": False}}, [{"a": 1}], [{"b": 1}]),
    ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, [{"a": "x", "b": 1}], [{"b": "x"}]),
    ({"minProperties": 1, "maxProperties": 2}, [{"a": 1}], [{}, {"a": 1, "b": 2, "c": 3}]),
    ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, "x"], [1, 2, 3]]),
    ({"uniqueItems": True}, [[1, 2], [{"a": 1}, {"a": 2}]], [[1, 1.0], [{"a": 1}, {"a": 1}]]),
    ({"anyOf": [{"type": "integer"}, {"minLength": 2, "type": "string"}]}, [1, "ab"], ["a", None]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [1, 5.5, "any"], [6, 4.5]),
    ({"allOf": [{"type": "integer"}, {"minimum": 5}]}, [5], [4, 5.5]),
    ({"not": {"type": "null"}}, [1], [None]),
    ({"$ref": "#/$defs/n", "$defs": {"n": {"minimum": 3}}, "maximum": 5}, [4], [2, 6]),
    (True, [1, None], []),
    (False, [], [1, None]),
]


class Schemas(HubCase):
    def errors(self, schema, doc):
        return self.sql("SELECT at, error FROM integration.validate_json(%s, %s)", json.dumps(schema), json.dumps(doc))

    def test_each_keyword_means_what_the_standard_says(self):
        for schema, good, bad in KEYWORDS:
            for doc in good:
                self.assertEqual(self.errors(schema, doc), [], (schema, doc))
            for doc in bad:
                self.assertNotEqual(self.errors(schema, doc), [], (schema, doc))

    def test_errors_name_their_paths(self):
        self.assertEqual(self.errors(ORDER, GOOD), [])
        bad = {"id": "x", "placed on": "2023-02-30", "currency": "EUR", "note": "too long", "more": 1,
               "lines": [{"code": "A-1", "quantity": 1, "parts": [{"code": "b", "quantity": 100}]}, {"code": "A-2"}]}
        self.assertEqual(dict(self.errors(ORDER, bad)), {
            "$.id": "must be of the form uuid", '$["placed on"]': "must be of the form date",
            "$.currency": 'must be one of ["EGP", "USD"]', "$.note": "must have at most 5 characters",
            "$.more": "is not a known member", "$.lines[0].parts[0].code": "must match ^[A-Z]+-[0-9]+$",
            "$.lines[0].parts[0].quantity": "must be at most 99", "$.lines[1].quantity": "is missing"})
        self.assertEqual(self.errors(ORDER, [1]), [("$", "must be of type object, not array")])

    def test_schema_that_refers_to_itself_ends(self):
        loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
        self.assertEqual(self.errors(loop, 1), [("$", "is nested too deeply (64 levels)")])

    def test_schema_with_what_is_not_checked_is_refused(self):
        add = "INSERT INTO integration.schema_definitions (subject, json_schema) VALUES ('s', %s)"
        for schema, words in (
                ({"properties": {"a": {"patternProperties": {}}}}, "$.properties.a.patternProperties is a keyword that is not checked"),
                ({"type": "text"}, "$.type names no type"), ({"$ref": "http://x.y/z"}, '$["$ref"] must be #/$defs/<name>'),
                ({"$ref": "#/$defs/gone", "$defs": {}}, "definition that is there"), ({"pattern": "("}, "$.pattern is not a regular"),
                ({"minimum": "1"}, "$.minimum must be a number"), ({"format": "colour"}, "$.format is not a known format"),
                ({"items": 5}, "$.items must be an object or a boolean"), ({"anyOf": []}, "$.anyOf must be an array"),
                ({"required": [1]}, "$.required must be an array of names")):
            self.assertIn(words, self.refused("FE320", add, json.dumps(schema)).diag.message_primary)
        self.sql(add, json.dumps(ORDER))

    def test_version_is_fixed_once_stored(self):
        self.sql("INSERT INTO integration.schema_definitions (subject, version, json_schema) VALUES ('s', 1, '{}')")
        self.refused("FE319", "UPDATE integration.schema_definitions SET json_schema = 'true'")
        self.refused("23505", "INSERT INTO integration.schema_definitions (subject, version, json_schema) VALUES ('s', 1, '{}')")
        self.sql("INSERT INTO integration.schema_definitions (subject, version, json_schema) VALUES ('s', 2, 'true')")

    def test_version_of_a_tenant_is_not_deleted_and_so_does_not_come_back_as_another(self):
        self.sql("INSERT INTO integration.schema_definitions (tenant_id, subject, json_schema) VALUES (%s, 's', '{}')", self.tenant())
        self.refused("FE319", "DELETE FROM integration.schema_definitions")

    def test_payload_is_checked_against_the_version_asked_for(self):
        tenant, other = self.tenant(), self.tenant("other")
        put = "INSERT INTO integration.schema_definitions (tenant_id, subject, version, json_schema) VALUES (%s, 'order', %s, %s)"
        nobody = "00000000-0000-0000-0000-000000000000"
        self.sql(put, nobody, 1, '{"required": ["a"]}')
        self.sql(put, nobody, 2, '{"required": ["b"]}')
        self.sql(put, tenant, 1, '{"required": ["c"]}')
        check = "SELECT integration.check_payload(%s, 'order', %s, %s)"
        self.sql(check, other, '{"b": 1}', None)
        self.sql(check, other, '{"a": 1}', 1)
        self.sql(check, tenant, '{"c": 1}', None)
        error = self.refused("FE320", check, other, '{"a": 1}', 2)
        self.assertIn("$.b is missing", error.diag.message_primary)
        self.refused("FE320", check, tenant, '{"b": 1}', None)
        self.assertIn("no version 9", self.refused("FE320", check, tenant, "{}", 9).diag.message_primary)
        self.sql("SELECT integration.check_payload(%s, 'free', '{}')", tenant)
        conn = self.conn(tenant=other)
        run(conn, "SET ROLE ferry_app")
        self.assertEqual(run(conn, "SELECT integration.schema_of(%s, 'order')", other), [({"required": ["b"]},)])


if __name__ == "__main__":
    unittest.main()
