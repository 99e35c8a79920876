#!/usr/bin/python3
"""A tenant's status and limits change while its devices are connected."""

import glob
import json
import os
import sqlite3
import unittest
import uuid

import ferry_run
from ferry_run import wait_until
import ferry_socket


class TenantStatus(ferry_run.SiteCase):
    HUB_SETTINGS = {"timing.tenant_retry": "100ms"}

    def tenant_with_device(self):
        name = "T " + uuid.uuid4().hex[:8]
        tenant = self.hub.tenant(name)
        device = self.device("d", tenant, scopes=[])
        device.wait_filled()
        return tenant, device

    def lead(self, device):
        key = str(uuid.uuid4())
        device.sql("INSERT INTO leads (id, tenant_id, score) VALUES (?, ?, 1)", key, device.tenant)
        return key

    def at_hub(self, key):
        return self.site.sql("SELECT score FROM crm.leads WHERE id = %s", key)

    def wait_error(self, device, code):
        wait_until(lambda: device.status()["error"] == code, 20, "%s at the device, not %s" % (code, device.status()))

    def status(self, tenant, word, *more):
        return self.hub.json("tenant", word, tenant, *more)

    def test_suspended_tenant_stops_at_once_keeps_edits_and_goes_on_by_itself(self):
        tenant, a = self.tenant_with_device()
        dry = self.status(tenant, "suspend", "--dry-run")
        self.assertEqual((dry["done"], dry["before"], dry["devices"]), (False, "ACTIVE", 1))
        self.status(tenant, "suspend")
        self.wait_error(a, "TENANT_SUSPENDED")
        self.assertIn("suspended", a.status()["why"])
        key = self.lead(a)
        self.wait_error(a, "TENANT_SUSPENDED")
        self.assertEqual(self.at_hub(key), [])
        self.assertEqual(a.standing()[2], 1)
        self.status(tenant, "resume")
        wait_until(lambda: self.at_hub(key), 20, "the edit at the hub")
        self.site.wait_settled(a)
        self.assertEqual(ferry_run.differences(self.site.db, a), [])

    def test_each_status_that_shuts_has_its_own_code(self):
        tenant, a = self.tenant_with_device()
        for status, code in (("INACTIVE", "TENANT_INACTIVE"), ("PENDING_ACTIVATION", "TENANT_PENDING"),
                             ("MIGRATING", "TENANT_MIGRATING"), ("SUSPENDED", "TENANT_SUSPENDED")):
            self.site.sql("UPDATE identity.tenants SET status = %s WHERE id = %s", status, tenant)
            self.wait_error(a, code)
        self.status(tenant, "resume")
        a.wait_state("live")

    def test_other_tenants_do_not_notice(self):
        tenant, a = self.tenant_with_device()
        _, b = self.tenant_with_device()
        self.status(tenant, "suspend")
        self.wait_error(a, "TENANT_SUSPENDED")
        key = self.lead(b)
        wait_until(lambda: self.at_hub(key), 20)
        self.assertEqual(b.status()["state"], "live")

    def test_archived_tenant_is_read_only_and_keeps_the_outbox(self):
        tenant, a = self.tenant_with_device()
        self.status(tenant, "archive")
        self.wait_error(a, "TENANT_ARCHIVED")
        key = self.lead(a)
        made = self.site.sql("INSERT INTO crm.leads (tenant_id, score) VALUES (%s, 5) RETURNING id", tenant)[0][0]
        wait_until(lambda: a.row("leads", made), 20, "a row of the hub at the device")
        self.assertEqual((a.status()["state"], a.status()["error"]), ("live", "TENANT_ARCHIVED"))
        self.assertEqual(self.at_hub(key), [])
        self.assertEqual(a.standing()[2], 1)
        self.assertEqual(self.site.sql("SELECT count(*) FROM ferry.settled WHERE tenant_id = %s", tenant)[0][0], 0)
        self.status(tenant, "resume")
        wait_until(lambda: self.at_hub(key), 20, "the edit at the hub")
        wait_until(lambda: a.status()["error"] is None, 20)

    def test_sync_once_of_a_held_or_shut_tenant_says_so_and_ends(self):
        tenant, a = self.tenant_with_device()
        a.stop()
        self.status(tenant, "archive")
        self.assertEqual(a.sync()["outbox_sets"], 0)
        self.lead(a)
        wait_until(lambda: "[TENANT_ARCHIVED]" in a.run("sync", "--wait", "20").stderr, 20)
        self.status(tenant, "suspend")
        wait_until(lambda: "[TENANT_SUSPENDED]" in a.run("sync", "--wait", "20").stderr, 20)

    def test_deleted_tenant_is_wiped_and_unsent_work_is_kept_aside(self):
        tenant, a = self.tenant_with_device()
        b = self.device("d", tenant, scopes=[])
        b.wait_filled()
        b.stop()
        key = self.lead(b)
        secret = "a note " + uuid.uuid4().hex
        b.sql("INSERT INTO developers (id, tenant_id, name) VALUES (?, ?, ?)", str(uuid.uuid4()), tenant, secret)
        done = self.hub.run("tenant", "delete", tenant)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--confirm", done.stderr)
        self.assertEqual(a.status()["state"], "live")
        slug = self.status(tenant, "delete", "--dry-run")["slug"]
        with sqlite3.connect(a.replica) as reader: # an app that has it open
            self.assertGreater(reader.execute("SELECT count(*) FROM tenants").fetchone()[0], 0)
            self.status(tenant, "delete", "--confirm", slug)
            a.wait_exit()
            self.assertEqual(reader.execute("SELECT count(*) FROM sqlite_master").fetchone()[0], 0)
        self.assertEqual((a.status()["state"], a.status()["error"], a.status()["unsent_file"]), ("wiped", "TENANT_DELETED", None))
        b.start()
        b.wait_exit()
        for device in (a, b):
            self.assertEqual(glob.glob(device.replica), [])
            self.assertFalse(os.path.exists(os.path.join(device.state, "identity", "device.key")))
        status = b.status()
        self.assertGreaterEqual(status["unsent_sets"], 1)
        self.assertEqual(os.stat(status["unsent_file"]).st_mode & 0o777, 0o600)
        with open(status["unsent_file"], encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        self.assertEqual(lines[0]["type"], "schema")
        text = json.dumps(lines[1:])
        self.assertIn(secret, text)
        self.assertIn(key, text)
        for name in os.listdir(b.state): # nowhere else
            path = os.path.join(b.state, name)
            if os.path.isfile(path) and path != status["unsent_file"]:
                with open(path, "rb") as f:
                    self.assertNotIn(secret.encode(), f.read(), name)
        done = self.hub.run("tenant", "resume", tenant)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("deleted", done.stderr)

    # ---- limits

    def test_storage_above_its_limit_holds_changes_until_it_is_raised(self):
        tenant, a = self.tenant_with_device()
        self.hub.json("tenant", "limit", tenant, "--max-storage", "0")
        self.wait_error(a, "QUOTA_STORAGE")
        key = self.lead(a)
        self.assertEqual(self.at_hub(key), [])
        used = self.hub.json("tenant", "limit", tenant, "--max-storage", "100")[0]
        self.assertEqual(used["max_storage_bytes"], 100 << 20)
        wait_until(lambda: self.at_hub(key), 20, "the edit at the hub")

    def test_calls_of_the_month_are_counted_and_when_used_up_nobody_gets_in(self):
        tenant, a = self.tenant_with_device()
        wait_until(lambda: self.hub.json("tenant", "limit", tenant)[0]["api_calls"] >= 1, 20, "the session is counted")
        a.stop()
        a.start()
        wait_until(lambda: self.hub.json("tenant", "limit", tenant)[0]["api_calls"] >= 2, 20, "the next, too")
        self.hub.json("tenant", "limit", tenant, "--max-calls", "2")
        self.wait_error(a, "QUOTA_CALLS")
        key = self.lead(a)
        self.hub.json("tenant", "limit", tenant, "--max-calls", "none")
        wait_until(lambda: self.at_hub(key), 20, "the edit at the hub")

    def test_users_above_the_limit_are_refused_whoever_writes_them(self):
        tenant, _ = self.tenant_with_device()
        self.hub.json("tenant", "limit", tenant, "--max-users", "2")
        add = "INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id"
        first = self.site.sql(add, tenant, "a@x")[0][0]
        self.site.sql(add, tenant, "b@x")
        with self.assertRaisesRegex(Exception, "may have 2 users"):
            self.site.sql(add, tenant, "c@x")
        self.site.sql("UPDATE identity.users SET status = 'deactivated' WHERE id = %s", first)
        self.site.sql(add, tenant, "c@x")
        with self.assertRaisesRegex(Exception, "may have 2 users"):
            self.site.sql("UPDATE identity.users SET status = 'active' WHERE id = %s", first)

    def test_bad_limits_and_unknown_tenants_are_named(self):
        done = self.hub.run("tenant", "limit", self.tenant, "--max-users", "-1")
        self.assertEqual(done.returncode, 2)
        done = self.hub.run("tenant", "suspend", "nobody")
        self.assertIn("no tenant nobody", done.stderr)


class StatusOfAMomentAgo(ferry_run.SiteCase):
    HUB_SETTINGS = {"timing.registry": "1h"}

    def test_device_is_not_turned_away_for_what_was_so_a_moment_ago(self):
        a = self.device("a", start=False)
        self.hub.json("tenant", "suspend", self.tenant)
        self.device("b", self.hub.tenant("Other " + uuid.uuid4().hex[:8]), start=False)  # an enrolment makes the hub look
        with self.assertRaises(ferry_run.CommandFailed) as failed:
            wait_until(a.sync, 20, "the refusal")
        self.assertEqual(failed.exception.error["code"], "TENANT_SUSPENDED")
        self.hub.json("tenant", "resume", self.tenant)
        a.sync()
        self.assertEqual(ferry_run.differences(self.site.db, a), [])

    def test_device_that_comes_while_the_hub_looks_waits_for_what_that_finds(self):
        a, c = self.device("a", start=False), self.device("c", start=False)
        self.hub.json("tenant", "suspend", self.tenant)
        self.device("b", self.hub.tenant("Other " + uuid.uuid4().hex[:8]), start=False)
        with self.assertRaises(ferry_run.CommandFailed):
            wait_until(a.sync, 20, "the refusal")
        early, late = self.session(a), self.session(c)
        with self.db.connect() as holder, holder.cursor() as cur:
            cur.execute("LOCK TABLE ferry.placement IN ACCESS EXCLUSIVE MODE")
            early.hello(versions=(1, 2))
            wait_until(lambda: self.db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), 20, "a look that is held up")
            late.hello(versions=(1, 2))
            self.hub.json("status")  # asked later, so answered later
            cur.execute("UPDATE ferry.placement SET status = 'ACTIVE' WHERE tenant_id = %s", (self.tenant,))
        holder.close()
        self.assertEqual(early.message()[0], ferry_socket.WELCOME)
        self.assertEqual(late.message()[0], ferry_socket.WELCOME)


if __name__ == "__main__":
    unittest.main()
