#!/usr/bin/python3
"""`cmake --install` into a folder gives programs that work by themselves, units, and documents that lead somewhere."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import ferry_pg
import ferry_run

BUILD = os.path.dirname(os.path.dirname(ferry_run.program("ferry-hub")))


def run(*command, **options):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FERRY_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False, **options)


class Install(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="ferry-install-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = os.path.join(cls.folder, "a prefix")
        done = run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        assert done.returncode == 0, done.stdout + done.stderr

    def path(self, *parts):
        return os.path.join(self.prefix, *parts)

    def units(self):
        units = glob.glob(self.path("share/ferry/firmware-configs/*/*.service")) + glob.glob(
            self.path("share/ferry/systemd/*.service"))
        self.assertIn("ferry-hub.service", [os.path.basename(u) for u in units])
        self.assertIn("ferry-agent.service", [os.path.basename(u) for u in units])
        return units

    def test_programs_start_and_bring_their_help(self):
        for program in ("ferry-agent", "ferry-hub", "ferry-dump"):
            done = run(self.path("bin", program), "--help")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("Usage", done.stdout)

    def test_hub_finds_its_migrations_and_runs_them(self):
        with ferry_pg.Cluster() as cluster:
            connection = cluster.connect()
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE ferry")
            connection.close()
            database = "host=%s dbname=ferry user=postgres" % cluster.socket
            for expected in ("0001_tables.sql", "up to date"):
                done = run(self.path("bin/ferry-hub"), "migrate", "--database", database, "--state-dir", self.folder,
                           cwd="/")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(expected, done.stdout)

    def test_units_name_programs_and_files_that_are_installed(self):
        for unit in self.units():
            with open(unit, encoding="utf-8") as f:
                named = re.findall(r"(/usr/[^\s]+)", f.read())
            self.assertGreaterEqual(len(named), 2, unit)
            for name in named:
                self.assertTrue(os.path.exists(self.prefix + name[len("/usr"):]), "%s names %s" % (unit, name))

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd here")
    def test_units_are_valid(self):
        usr = os.path.join(self.folder, "usr")  # a unit's command takes no spaces
        os.symlink(self.prefix, usr)
        for unit in self.units():
            with open(unit, encoding="utf-8") as f:
                text = f.read().replace("/usr/", usr + "/")
            copy = os.path.join(self.folder, os.path.basename(unit))
            with open(copy, "w", encoding="utf-8") as f:
                f.write(text)
            done = run("systemd-analyze", "verify", copy)
            self.assertEqual((done.returncode, done.stderr), (0, ""), unit)

    def test_links_of_the_documents_lead_somewhere(self):
        pages = glob.glob(self.path("share/doc/ferry/**/*.md"), recursive=True)
        self.assertGreaterEqual(len(pages), 8)
        for page in pages:
            with open(page, encoding="utf-8") as f:
                links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", f.read())
            for link in links:
                self.assertTrue(os.path.exists(os.path.join(os.path.dirname(page), link)), "%s: %s" % (page, link))


if __name__ == "__main__":
    unittest.main()
