"""docs/promises.md and the rules in ARCHITECTURE.md tell the truth: their tests exist."""
# ferry-test: quick

import os
import re
import subprocess
import unittest

SOURCE = os.environ.get("FERRY_SOURCE") or os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as f:
        return f.read()


def test_sources():
    done = subprocess.run(["git", "-C", SOURCE, "ls-files", "tests"], capture_output=True, text=True, check=True)
    return "\n".join(read(name) for name in done.stdout.split() if name.endswith((".c", ".py")) and "/lint/" not in name)


class Promises(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.words = set(re.findall(r"\w+", test_sources()))

    def test_every_test_named_for_a_promise_exists(self):
        rows = re.findall(r"^\| P\d+ \|.*$", read("docs", "promises.md"), re.M)
        self.assertGreaterEqual(len(rows), 9)
        for row in rows:
            named = re.findall(r"`(\w+)`", row)
            self.assertTrue(named, row)
            for name in named:
                self.assertTrue(name in self.words, "docs/promises.md names %s, which no test is called" % name)

    def test_every_rule_has_a_test_of_its_name(self):
        rules = re.findall(r"^- \*\*(R\d+)\*\*", read("ARCHITECTURE.md"), re.M)
        self.assertGreaterEqual(len(rules), 18)
        for rule in rules:
            self.assertTrue(any(re.match(r"(test_)?%s_" % rule, w) for w in self.words), "%s has no test" % rule)


if __name__ == "__main__":
    unittest.main()
