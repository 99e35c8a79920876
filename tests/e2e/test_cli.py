#!/usr/bin/python3
"""The command lines: help, exit codes, JSON, wrong arguments, wrong configuration."""

import glob
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import ferry_pg
import ferry_run

AGENT = ferry_run.program("ferry-agent")
HUB = ferry_run.program("ferry-hub")
AGENT_COMMANDS = ["enrol", "run", "sync", "status", "outbox", "conflicts", "rejected", "sql"]
HUB_COMMANDS = ["serve", "init", "migrate", "token create", "device list", "device revoke", "tenant create", "tenant list",
                "tenant suspend", "tenant resume", "tenant archive", "tenant delete", "tenant limit",
                "maintain", "secret set", "secret list", "secret rotate", "secret check",
                "model", "webhooks deliver",
                "status", "sessions", "log-level"]


def run(program, *arguments, stdin=""):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FERRY_")}
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, timeout=60, env=environment,
                          check=False)


class CommandLine(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ferry-cli-")
        self.addCleanup(shutil.rmtree, self.folder)

    def check(self, done, code, *texts):
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        for text in texts:
            self.assertIn(text, done.stdout + done.stderr)

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_help_names_every_command_and_each_has_an_example(self):
        for program, commands in ((AGENT, AGENT_COMMANDS), (HUB, HUB_COMMANDS)):
            self.check(run(program, "--help"), 0, "Exit codes", *commands)
            for command in commands:
                self.check(run(program, *command.split(), "--help"), 0, "Example:", os.path.basename(program) + " " + command)

    def test_version_is_printed(self):
        for program in (AGENT, HUB):
            self.assertRegex(run(program, "--version").stdout, r"^ferry-\w+ \d+\.\d+\.\d+\n$")

    def test_wrong_usage_ends_with_2_and_names_what_is_near(self):
        for program in (AGENT, HUB):
            self.check(run(program), 2, "Usage")
            self.check(run(program, "stauts"), 2, "did you mean status", "[USAGE]")
            self.check(run(program, "status", "--jsno"), 2, "did you mean --json", "[USAGE]")
            self.check(run(program, "status", "more"), 2, "takes no arguments", "[USAGE]")
            self.check(run(program, "status", "--config"), 2, "needs a value", "[USAGE]")
            self.check(run(program, "status", "--json=1"), 2, "takes no value", "[USAGE]")
        self.check(run(AGENT, "enrol"), 2, "needs <token>")
        self.check(run(AGENT, "sync", "--wait", "soon"), 2, "whole seconds")
        self.check(run(AGENT, "enrol", "x", "--hub", "host:99999"), 2, "HOST:PORT")
        self.check(run(HUB, "token"), 2, "token create")
        self.check(run(HUB, "token", "create"), 2, "--tenant and --name")
        self.check(run(HUB, "token", "create", "--tenant", "a", "--name", "b", "--ttl", "1y"), 2, "--ttl")
        self.check(run(HUB, "device", "revoke", "tablet"), 2, "uuid")
        self.check(run(HUB, "log-level", "loud"), 2, "error, warning, info, debug")

    def test_error_in_json_has_code_number_sentence_and_advice(self):
        done = run(AGENT, "status", "--json", "--state-dir", self.folder)
        self.assertEqual(done.returncode, 3)
        error = json.loads(done.stdout)["error"]
        self.assertEqual((error["code"], error["number"]), ("NOT_ENROLLED", 12))
        self.assertIn(self.folder, error["sentence"])
        self.assertIn("enrol", error["advice"])
        self.assertEqual(json.loads(run(HUB, "stauts", "--json").stdout)["error"]["code"], "USAGE")

    def test_device_that_is_not_enrolled_ends_with_3(self):
        for command in (["status"], ["outbox"], ["conflicts"], ["rejected"], ["sql", "SELECT 1"], ["run"], ["sync"]):
            self.check(run(AGENT, *command, "--state-dir", self.folder), 3, "not enrolled", "[NOT_ENROLLED]")

    def test_bad_tokens_end_with_5_and_leave_nothing_behind(self):
        for token in ("x", "ferry1.", "ferry1.AAAA", "ferry1." + "A" * 600):
            self.check(run(AGENT, "enrol", token, "--state-dir", self.folder), 5, "token", "[BAD_TOKEN]")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "identity")))
        self.assertFalse(os.path.exists(os.path.join(self.folder, "replica.db")))

    def test_wrong_configuration_ends_with_2_and_names_line_and_nearest_key(self):
        bad = {"link:\n  back_off_min: 1s\n": ("bad.yaml:2", "link.backoff_min"),
               "log_levle: info\n": ("bad.yaml:1", "log_level"),
               "log_level: loud\n": ("bad.yaml:1",),
               "link: {push: 1GiB}\n": ("bad.yaml:1",),
               "link: [\n": ("bad.yaml:",),
               "link: {backoff_min: 10s, backoff_max: 1s}\n": ("shorter",)}
        for text, expected in bad.items():
            path = self.file("bad.yaml", text)
            self.check(run(AGENT, "status", "--config", path), 2, "[CONFIG]", *expected)
            self.check(run(AGENT, "--check-config", "--config", path), 2, "[CONFIG]", *expected)
        path = self.file("bad.yaml", "device:\n  prot: 1\n")
        self.check(run(HUB, "serve", "--config", path), 2, "bad.yaml:2", "device.port")
        self.check(run(HUB, "serve", "--config", os.path.join(self.folder, "none.yaml")), 2, "none.yaml")

    def test_printed_configuration_reads_back_to_the_same(self):
        for program in (AGENT, HUB):
            first = run(program, "--print-config")
            self.assertEqual(first.returncode, 0)
            path = self.file("printed.yaml", first.stdout)
            self.check(run(program, "--check-config", "--config", path), 0, "valid")
            self.assertEqual(run(program, "--print-config", "--config", path).stdout, first.stdout)

    def test_every_device_class_has_a_profile_that_fits_the_agent(self):
        folders = [p for p in glob.glob(os.path.join(ferry_pg.SOURCE, "firmware-configs", "*")) if os.path.isdir(p)]
        self.assertGreaterEqual(len(folders), 2)
        for folder in folders:
            profile = os.path.join(folder, "profile.yaml")
            self.check(run(AGENT, "--profile", profile, "--check-config"), 0, "valid")
            name = os.path.basename(folder)
            self.check(run(AGENT, "--profile", profile, "--print-config"), 0, 'device_class: "%s"' % name)
            with open(os.path.join(folder, "ferry-agent.service"), encoding="utf-8") as f:
                self.assertIn("firmware-configs/%s/profile.yaml" % name, f.read())
            self.assertTrue(os.path.exists(os.path.join(folder, "README.md")))

    def test_configuration_goes_over_the_profile_and_options_over_both(self):
        profile = self.file("profile.yaml", "state_dir: /from/profile\ndevice_class: a\nlog_level: debug\n")
        config = self.file("config.yaml", "state_dir: /from/config\ndevice_class: b\n")
        text = run(AGENT, "--profile", profile, "--config", config, "--print-config").stdout
        for line in ('state_dir: "/from/config"', 'device_class: "b"', 'log_level: "debug"'):
            self.assertIn(line, text.replace("log_level: debug", 'log_level: "debug"'))
        text = run(AGENT, "--config", config, "--state-dir", "/from/option", "--print-config").stdout
        self.assertIn('state_dir: "/from/option"', text)

    def test_hub_without_database_ends_with_4(self):
        conninfo = "host=%s dbname=nothing" % self.folder
        config = self.file("hub.yaml", 'sql_dir: "%s"\n' % ferry_pg.SQL)  # the build folder may lie anywhere
        for command in (["serve"], ["tenant", "list"], ["migrate"]):
            self.check(run(HUB, *command, "--config", config, "--database", conninfo, "--state-dir", self.folder), 4, "PostgreSQL", "[DATABASE]")
        self.check(run(HUB, "status", "--state-dir", self.folder), 4, "no hub runs", "[LINK_CLOSED]")

    def test_init_makes_the_ca_once(self):
        first = json.loads(run(HUB, "init", "--state-dir", self.folder, "--json").stdout)
        second = json.loads(run(HUB, "init", "--state-dir", self.folder, "--json").stdout)
        self.assertTrue(first["made_ca"])
        self.assertFalse(second["made_ca"])
        self.assertEqual(first["ca_fingerprint"], second["ca_fingerprint"])
        self.assertEqual(os.stat(os.path.join(self.folder, "ca.key")).st_mode & 0o777, 0o600)
        seen = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", os.path.join(self.folder, "ca.crt")],
                              capture_output=True, text=True, check=True).stdout
        self.assertEqual(seen.split("=")[1].strip().replace(":", "").lower(), first["ca_fingerprint"])


class WithHub(ferry_run.SiteCase):

    def test_every_command_prints_json_that_parses_and_a_table_for_a_person(self):
        unit = self.new_unit()
        a = self.device("a")
        self.settle()
        a.stop()
        a.sql("UPDATE units SET status = 'sold' WHERE id = ?", unit)
        for command in (["status"], ["outbox"], ["conflicts"], ["rejected"], ["sql", "SELECT * FROM units"]):
            a.json(*command)
            self.assertEqual(a.run(*command).returncode, 0)
        self.assertEqual([(r["table"], r["key"], r["op"]) for r in a.json("outbox")], [("units", unit, "update")])
        self.assertEqual(a.json("status")["waiting_rows"], 1)
        self.assertGreaterEqual(a.json("status")["oldest_unsent_age_s"], 0)
        self.assertIn("not running", a.run("status").stdout)
        for command in (["device", "list"], ["tenant", "list"], ["status"], ["sessions"], ["migrate", "--dry-run"]):
            self.hub.json(*command)
            self.assertEqual(self.hub.run(*command).returncode, 0)
        self.assertTrue(all(m["state"] == "applied" for m in self.hub.json("migrate", "--dry-run")))
        self.assertEqual(self.hub.json("migrate")["applied"], 0)

    def test_sql_prints_values_as_they_are_and_writes_only_when_allowed(self):
        unit = self.new_unit(code="Zoë \x1b[31m", floor=7)
        a = self.device("a")
        self.settle()
        row = a.json("sql", "SELECT code, floor, view, 0.5 AS half FROM units")[0]
        self.assertEqual(row, {"code": "Zoë \x1b[31m", "floor": 7, "view": None, "half": 0.5})
        table = a.run("sql", "SELECT code, floor FROM units").stdout
        self.assertIn("\\x1b[31m", table)
        self.assertNotIn("\x1b", table)
        self.assertEqual(a.run("sql", "UPDATE units SET floor = 8", "--read-only").returncode, 1)
        self.assertEqual(a.run("sql", "UPDATE units SET floor = 8").returncode, 0)
        ferry_run.wait_until(lambda: self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit) == 8, 20)
        self.assertEqual(a.run("sql", stdin="SELECT 1 AS one; SELECT 2 AS one").stdout.split(), ["one", "1", "2"])
        self.assertEqual(a.run("sql", "SELEC 1").returncode, 2)

    def test_sync_ends_with_0_when_all_is_exchanged_and_4_without_a_hub(self):
        unit = self.new_unit()
        a = self.device("a", start=False)
        answer = a.sync()
        self.assertTrue(answer["caught_up"])
        self.assert_same(a)
        self.site.sql("UPDATE inventory.units SET floor = 3 WHERE id = %s", unit)
        a.sql("UPDATE units SET status = 'sold' WHERE id = ?", unit)
        self.assertEqual(a.sync()["outbox_sets"], 0)
        self.assertEqual((a.row("units", unit)["floor"], a.row("units", unit)["status"]), (3, "sold"))
        self.assert_same(a)
        a.configure(hub__port=ferry_run.free_port())
        self.assertEqual(a.run("sync").returncode, 4)

    def test_sync_brings_what_was_committed_at_the_hub_before_it_began(self):
        a = self.device("a", start=False)
        a.sync()
        for n in range(25):
            unit = self.new_unit(code="S-%d" % n)
            a.sync()
            self.assertIsNotNone(a.row("units", unit), "sync %d ended without the row committed before it" % n)

    def test_two_agents_on_one_state_folder_are_refused(self):
        a = self.device("a")
        self.settle()
        for command in ("sync", "run"):
            done = a.run(command)
            self.assertEqual(done.returncode, 1)
            self.assertIn("running", done.stderr)
            self.assertIn("[EXISTS]", done.stderr)
        done = a.run("enrol", self.hub.token(self.tenant, "again"), "--force")
        self.assertEqual(done.returncode, 1, done.stderr)

    def test_replica_whose_tables_were_dropped_ends_with_5_and_starts_anew_with_force(self):
        a = self.device("a", start=False)
        a.sync()
        a.sql("DROP TABLE ferry_log")
        for command in ("status", "run"):
            done = a.run(command)
            self.assertEqual(done.returncode, 5, done.stderr)
            self.assertIn("no such table: ", done.stderr)
            self.assertIn("--force", done.stderr)
            self.assertIn("[CORRUPT]", done.stderr)
        a.enrol(self.hub.token(self.tenant, "again", ["project:" + self.project]), "--force")
        a.sync()
        self.assertEqual(a.run("verify").returncode, 0)

    def test_enrolling_again_needs_force_and_keeps_the_old_replica(self):
        unit = self.new_unit()
        a = self.device("a")
        self.settle()
        a.stop()
        a.sql("UPDATE units SET floor = 12 WHERE id = ?", unit)
        token = self.hub.token(self.tenant, "a2", ["project:" + self.project])
        done = a.run("enrol", token)
        self.assertEqual((done.returncode, "--force" in done.stderr), (1, True))
        before = a.id
        answer = a.enrol(token, "--force")
        self.assertNotEqual(answer["device"], before)
        self.assertTrue(os.path.exists(answer["set_aside"]))
        a.start()
        self.settle()
        self.assert_same(a)
        self.assertIsNone(a.row("units", unit)["floor"])

    def test_status_follows_the_running_agent(self):
        a = self.device("a")
        self.settle()
        a.wait_state("live")
        self.assertEqual((a.status()["running"], a.status()["pid"]), (True, a.pid))
        a.kill9()
        self.assertEqual((a.status()["running"], a.status()["state"]), (False, "not running"))

    def test_hub_tells_of_its_sessions_and_changes_its_log_level(self):
        a = self.device("a")
        self.settle()
        self.assertIn(a.id, [s["device"] for s in self.hub.json("sessions")])
        self.assertEqual(self.hub.json("log-level", "debug")["level"], "debug")
        self.assertEqual(self.hub.json("log-level", "info")["level"], "info")

    def test_a_new_tenant_has_the_first_roles_of_the_model(self):
        made = self.hub.tenant("Roles " + self.tenant)
        self.assertEqual([row[0] for row in self.site.sql("SELECT code FROM identity.roles WHERE tenant_id = %s ORDER BY 1", made)],
                         ["admin", "device", "inventory_mgr", "sales_exec"])

    def test_unknown_tenants_users_and_devices_are_named(self):
        for arguments, text in ((["token", "create", "--tenant", "nobody", "--name", "x"], "no tenant nobody"),
                                (["token", "create", "--tenant", self.tenant, "--name", "x", "--user", "a@b"], "no such user"),
                                (["device", "list", "--tenant", "nobody"], "no tenant nobody"),
                                (["device", "revoke", "00000000-0000-0000-0000-000000000001"], "no such device")):
            done = self.hub.run(*arguments)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(text, done.stderr)
        done = self.hub.run("token", "create", "--tenant", self.tenant, "--name", "x", "--scope", "project:x")
        self.assertEqual(done.returncode, 2)
        name = "Twice " + self.tenant
        self.hub.tenant(name)
        self.assertIn("[EXISTS]", self.hub.run("tenant", "create", name).stderr)

    def test_second_hub_on_the_same_ports_says_so(self):
        done = self.hub.run("serve")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.hub.device_port), done.stderr)


if __name__ == "__main__":
    unittest.main()
