#!/usr/bin/python3
"""ferry-agent sql: what it says is what was done."""

import json
import unittest

from ferry_run import SiteCase


class SqlCommand(SiteCase):

    def setUp(self):
        super().setUp()
        self.unit = self.new_unit(view="garden")
        self.a = self.device("a")
        self.settle()

    def refused(self, text, *arguments, stdin=""):
        done = self.a.run("sql", *arguments, stdin=stdin)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertIn(text, done.stderr)
        self.assertIn("[USAGE]", done.stderr)
        self.assertEqual(self.a.row("units", self.unit)["view"], "garden")

    def test_P5_a_transaction_without_commit_is_no_success(self):
        self.refused("without COMMIT", "BEGIN; UPDATE units SET view = 'sea'")
        self.assertEqual(self.a.run("sql", "BEGIN; UPDATE units SET view = 'sea'; COMMIT").returncode, 0)
        self.assertEqual(self.a.row("units", self.unit)["view"], "sea")

    def test_P5_statements_that_are_too_long_are_not_run_up_to_where_they_fit(self):
        narrow = "UPDATE units SET view = 'sea'%s WHERE code = 'none';"
        self.refused("1 MiB", stdin=narrow % (" " * (1 << 20)))
        self.refused("NUL", stdin=narrow % "\0")
        self.assertEqual(self.a.run("sql", stdin=narrow % (" " * 1000000)).returncode, 0)

    def test_columns_of_several_statements_and_of_long_names_are_shown(self):
        done = self.a.run("sql", "SELECT 11 AS a; SELECT 22 AS b; SELECT 33 AS \"%s\"" % ("c" * 100))
        for text in ("11", "22", "33", "c" * 100):
            self.assertIn(text, done.stdout)

    def test_what_JSON_has_no_number_for_is_said_in_words(self):
        row, = json.loads(self.a.run("sql", "SELECT 9e999 AS a, -9e999 AS b, 1.5 AS c, 7 AS d", "--json").stdout)
        self.assertEqual(row, {"a": "Infinity", "b": "-Infinity", "c": 1.5, "d": 7})


if __name__ == "__main__":
    unittest.main()
