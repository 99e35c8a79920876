#!/usr/bin/python3
"""Names and numbers that the operator mistyped: an empty list would read as "all is well"."""

import unittest

from ferry_run import SiteCase


class WrongNames(SiteCase):

    def refused(self, code, text, *arguments):
        done = self.hub.run(*arguments)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout, "")
        for part in (text, "[%s]" % code):
            self.assertIn(part, done.stderr)

    def test_a_device_that_there_is_not_is_no_empty_list(self):
        a = self.device("a", start=False)
        other = self.hub.tenant("Other " + self.tenant)
        for command in ("conflict", "rejected"):
            self.refused("NOT_FOUND", "no device tablet-0", command, "list", "--device", "tablet-0")
            for name in (a.label, a.id, a.id.upper()):
                self.assertEqual(self.hub.json(command, "list", "--device", name), [])
            self.assertEqual(self.hub.json(command, "list", "--device", a.label, "--tenant", self.tenant), [])
            self.refused("NOT_FOUND", "no device " + a.label, command, "list", "--device", a.label, "--tenant", other)

    def test_a_table_that_there_is_not_is_no_empty_list(self):
        self.refused("NOT_FOUND", "no table unit", "conflict", "list", "--table", "unit")
        self.refused("NOT_FOUND", "no tracked table", "verify", "--table", "unit")
        for name in ("units", "inventory.units"):
            self.assertEqual(self.hub.json("conflict", "list", "--table", name), [])
            self.assertEqual(self.hub.json("verify", "--table", name), [])

    def test_a_limit_that_is_no_number_is_not_taken_for_another(self):
        for command in (("conflict", "list"), ("rejected", "list"), ("verify",)):
            for limit in ("0", "-1", "ten", "5x", ""):
                self.refused("USAGE", "--limit takes a number", *command, "--limit", limit)


if __name__ == "__main__":
    unittest.main()
