#!/usr/bin/python3
"""The device's own troubles: a full disk, and a kill -9 at every step of what the agent does.

The kills are deterministic: a preloaded library ends the agent before the n-th time that it writes to a
file, syncs one or sends, for n from 1 until the work is done before it comes to that. Beyond the first
steps n grows by a twelfth, so that long works are met at some fifty of their steps.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import unittest
import uuid

import ferry_run
from ferry_run import SiteCase, wait_until

KILL_AT = ferry_run.program("kill-at.so")


class FullDisk(SiteCase):
    """The state folder lies on a file system of its own, of a few MiB."""

    def setUp(self):
        super().setUp()
        self.agent = self.device("a")
        self.settle()
        self.agent.stop()
        aside = self.agent.state + ".aside"
        os.rename(self.agent.state, aside)
        os.mkdir(self.agent.state)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", self.agent.state], check=True)
        self.addCleanup(self.unmount)
        shutil.copytree(aside, self.agent.state, dirs_exist_ok=True)
        shutil.rmtree(aside)
        self.ballast = os.path.join(self.agent.state, "ballast")
        self.agent.start()
        self.agent.wait_state("live")

    def unmount(self):
        self.agent.kill9()
        subprocess.run(["umount", self.agent.state], check=True)

    def fill_up(self):
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def write_until_full(self):
        """Leads with long attributes, one a transaction; the keys of those that SQLite took."""
        taken = []
        with self.assertRaisesRegex(sqlite3.OperationalError, "database or disk is full"):
            for _ in range(3000):
                key = str(uuid.uuid4())
                self.agent.sql("INSERT INTO leads (id, source_code, attributes) VALUES (?, 'app', ?)", key,
                               '{"note": "%s"}' % ("x" * 3000))
                taken.append(key)
        return taken

    def has_no_space(self):
        status = self.agent.status()
        return status["running"] and status["error"] == "NO_SPACE" and "space" in status["why"]

    def test_full_disk_fails_the_apps_writes_cleanly_and_all_goes_on_when_there_is_space(self):
        self.fill_up()
        taken = self.write_until_full()
        self.site.sql("INSERT INTO crm.leads (tenant_id, source_code, attributes) "
                      "SELECT %s, 'office', jsonb_build_object('note', repeat('y', 3000)) "
                      "FROM generate_series(1, 300)", self.tenant)
        wait_until(self.has_no_space, 30, "a status that says that the disk is full")
        self.assertIn(self.agent.value("SELECT count(*) FROM leads WHERE source_code = 'office'"), (0, 300))
        self.assertEqual(self.agent.value("PRAGMA integrity_check"), "ok")
        os.unlink(self.ballast)
        self.settle()
        self.assertEqual({row[0] for row in self.site.sql("SELECT id::text FROM crm.leads WHERE source_code = 'app' "
                                                          "AND tenant_id = %s", self.tenant)}, set(taken))
        wait_until(lambda: self.agent.status()["error"] is None, 30, "a status without the problem")
        self.assert_same()

    def test_agent_that_starts_on_a_full_disk_says_so_and_goes_on_when_there_is_space(self):
        self.agent.kill9()
        self.fill_up()
        taken = self.write_until_full()
        self.agent.start()
        self.site.sql("INSERT INTO crm.leads (tenant_id, source_code, attributes) "
                      "SELECT %s, 'office', jsonb_build_object('note', repeat('y', 3000)) "
                      "FROM generate_series(1, 300)", self.tenant)
        wait_until(self.has_no_space, 30, "a status that says that the disk is full")
        os.unlink(self.ballast)
        self.settle()
        self.assertEqual(self.site.value("SELECT count(*) FROM crm.leads WHERE id = ANY (%s::uuid[])", taken), len(taken))
        self.assert_same()


class Killed(SiteCase):

    def setUp(self):
        super().setUp()
        self.agent = self.device("a", scopes=[])
        self.settle()

    def at_every_step(self, work, done, check=lambda: None):
        """Runs work() with the agent killed at step 1, 2, ..., until it comes through; then all is as it should be."""
        armed = os.path.join(self.agent.folder, "armed")
        step, killed = 1, 0
        while True:
            self.agent.kill9()
            self.agent.start({"LD_PRELOAD": KILL_AT, "KILL_AT": str(step), "KILL_ARMED": armed})
            self.agent.wait_state("live")
            with open(armed, "w", encoding="ascii"):
                work()
            wait_until(lambda: not self.agent.running() or done(), 60, "the end of the work or of the agent")
            survived = self.agent.running()
            os.unlink(armed)
            if not survived:
                self.assertEqual(self.agent.wait_exit(), -signal.SIGKILL)
                killed += 1
                check()
                self.assertEqual(self.agent.value("PRAGMA integrity_check"), "ok")
                self.agent.start()
            self.settle()
            self.assert_same()
            if survived:
                break
            step += 1 + step // 12
        print("killed at %d steps, the last of them %d" % (killed, step), flush=True)
        self.assertGreaterEqual(killed, 10)
        self.assertEqual(self.agent.sql("SELECT * FROM ferry_rejected"), [])

    def settled(self):
        head = self.hub.head(self.tenant)
        position, rows, sets = self.agent.standing()
        return position >= head and rows == 0 and sets == 0

    def test_P3_killed_at_every_step_of_applying_a_commit_it_is_there_whole_or_not_at_all(self):
        def hub_writes():
            self.site.sql("INSERT INTO crm.leads (tenant_id, source_code, score) SELECT %s, 'office', i "
                          "FROM generate_series(1, 40) i", self.tenant)

        def whole():
            self.assertEqual(self.agent.value("SELECT count(*) FROM leads") % 40, 0)

        self.at_every_step(hub_writes, self.settled, whole)

    def test_P2_killed_at_every_step_of_a_push_nothing_is_lost_and_nothing_applied_twice(self):
        written = []

        def app_writes():
            with self.agent.transaction() as db:
                for _ in range(3):
                    written.append(str(uuid.uuid4()))
                    db.execute("INSERT INTO leads (id, source_code, score) VALUES (?, 'app', 1)", (written[-1],))
                db.execute("UPDATE leads SET score = score + 1 WHERE id = ?", (written[0],))

        self.at_every_step(app_writes, self.settled)
        self.assertEqual({row[0] for row in self.site.sql("SELECT id::text FROM crm.leads WHERE tenant_id = %s", self.tenant)},
                         set(written))
        times = self.agent.value("SELECT score FROM leads WHERE id = ?", written[0])
        self.assertEqual(times, 1 + len(written) // 3)

    def test_R15_killed_at_every_step_of_a_fill_and_its_swap_edits_stay_and_the_end_is_the_same(self):
        self.site.sql("INSERT INTO crm.leads (tenant_id, source_code, score) SELECT %s, 'office', i FROM generate_series(1, 60) i",
                      self.tenant)
        self.settle()
        written = []

        def wanted():
            return len(written) % 2

        def hub_changes_the_schema():
            """A change of the synced schema and a full fill with it; meanwhile the app goes on."""
            written.append(str(uuid.uuid4()))
            self.site.sql("SELECT ferry.policy('crm.companies', 'name', %s), ferry.refill_replicas()", "hub" if wanted() else "lww")
            self.agent.sql("INSERT INTO leads (id, source_code) VALUES (?, 'app')", written[-1])

        def filled():
            return self.settled() and self.agent.value(
                "SELECT c.read_only FROM ferry_column c JOIN ferry_table t ON t.gen = c.gen AND t.tbl = c.tbl "
                "WHERE t.gen = 0 AND t.name = 'companies' AND c.name = 'name'") == wanted()

        self.at_every_step(hub_changes_the_schema, filled)
        self.assertEqual(self.site.value("SELECT count(*) FROM crm.leads WHERE id = ANY (%s::uuid[])", written), len(written))


if __name__ == "__main__":
    unittest.main()
