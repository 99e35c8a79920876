#!/usr/bin/python3
"""One hub serves tenants in each level of isolation: shared, own schemas, own database, own server."""

import unittest
import uuid

import ferry_pg
import ferry_run
from ferry_run import wait_until

LEVELS = ("shared-database", "dedicated-schema", "dedicated-database", "dedicated-instance")


class Place:
    """A tenant with a device, and its rows where they are. Made once a level, unless it has to be another."""

    made_before = {}

    def __init__(self, case, level, device=True, another=False):
        self.level = level
        self.made, self.name = self.made_before.get((level, another)) or self.make(case, level)
        self.made_before[level, another] = (self.made, self.name)
        self.id = self.made["id"]
        self.prefix = self.made["schema_prefix"] or ""
        self.db = ferry_pg.Database(case.other if level == "dedicated-instance" else case.site.cluster, self.name)
        self.device = None
        if device:
            self.device = case.device(level, self.id, scopes=[])
            self.device.wait_filled()

    @staticmethod
    def make(case, level):
        word = level.replace("-", "") + uuid.uuid4().hex[:5]
        options = ["--isolation", level]
        if level == "dedicated-instance":
            options += ["--conninfo", "host=%s dbname=%s" % (case.other.socket, word)]
        made = case.hub.json("tenant", "create", word.title(), "--slug", word, *options, timeout=120)
        return made, {"dedicated-database": "ferry_" + word, "dedicated-instance": word}.get(level, case.db.name)

    def sql(self, text, *args):
        for schema in ("identity", "crm", "inventory", "governance", "comms"):
            text = text.replace(" %s." % schema, " %s%s." % (self.prefix, schema))
        return self.db.query(text, args or None)

    def edit(self):
        key = str(uuid.uuid4())
        self.device.sql("INSERT INTO leads (id, tenant_id, score) VALUES (?, ?, 1)", key, self.id)
        return key

    def score(self, key):
        rows = self.sql("SELECT score FROM crm.leads WHERE tenant_id = %s AND id = %s", self.id, key)
        return rows[0][0] if rows else None

    def both_ways(self):
        """An edit there and an edit here, until both sides have both."""
        mine = self.edit()
        theirs = self.sql("INSERT INTO crm.leads (tenant_id, score) VALUES (%s, 5) RETURNING id", self.id)[0][0]
        wait_until(lambda: self.score(mine) == 1, 30, "the device's row of " + self.level)
        wait_until(lambda: self.device.row("leads", theirs), 30, "the hub's row of " + self.level)
        self.sql("UPDATE crm.leads SET score = 7 WHERE tenant_id = %s AND id = %s", self.id, mine)
        wait_until(lambda: self.device.row("leads", mine)["score"] == 7, 30, "the hub's edit of " + self.level)
        wait_until(lambda: self.device.standing()[2] == 0, 30)

    def rows(self):
        return {(str(i), s) for i, s in self.sql("SELECT id, score FROM crm.leads WHERE tenant_id = %s", self.id)}


class Placement(ferry_run.SiteCase):
    HUB_SETTINGS = {"timing.tenant_retry": "100ms"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = ferry_pg.Cluster()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.other.close()

    def same(self, place):
        self.assertEqual(set(map(tuple, place.device.sql("SELECT id, score FROM leads"))), place.rows(), place.level)
        self.assertEqual(place.db.query("SELECT * FROM ferry.verify()"), [])

    def test_each_level_syncs_both_ways_and_rows_stand_in_its_place_alone(self):
        places = [Place(self, level) for level in LEVELS]
        for place in places:
            place.both_ways()
        for place in places:
            self.same(place)
            self.assertGreaterEqual(len(place.rows()), 2)
            self.assertEqual(len(place.device.sql("SELECT id FROM tenants")), 1)
        self.assertEqual(len(self.hub.status()["places"]), 3)
        home = self.site.sql("SELECT tenant_id FROM crm.leads")
        self.assertIn((uuid.UUID(places[0].id),), home)
        for place in places[1:]:
            self.assertNotIn((uuid.UUID(place.id),), home)
        listed = {t["id"]: t["isolation"] for t in self.hub.json("tenant", "list")}
        for place in places:
            self.assertEqual(listed[place.id], place.level.replace("-", "_").upper())

    def test_own_set_has_every_table_of_the_model_and_its_devices_get_that_alone(self):
        a, b = Place(self, "dedicated-schema"), Place(self, "dedicated-schema", device=False, another=True)
        count = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace " \
                "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname LIKE %s AND n.nspname !~ %s AND n.nspname NOT IN ('ferry', 'public') " \
                "AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'"
        home = self.site.sql(count, "%", "^(dedicatedschema)")[0][0]
        self.assertGreater(home, 50)
        for place in (a, b):
            self.assertEqual(self.site.sql(count, place.prefix.replace("_", "\\_") + "%", "^$")[0][0], home)
        # nothing of a set points into another or into the shared one
        self.assertEqual(self.site.sql(
            "SELECT conrelid::regclass, confrelid::regclass FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class d ON d.oid = k.confrelid JOIN pg_namespace m ON m.oid = d.relnamespace "
            "WHERE k.contype = 'f' AND n.nspname LIKE %s AND m.nspname NOT LIKE %s", a.prefix + "%", a.prefix + "%"), [])
        self.assertEqual(self.site.sql(
            "SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname LIKE %s "
            # permissions such as inventory.view are words, and no names of the database
            "AND regexp_replace(p.prosrc, 'inventory[.](view|create|edit|delete|price)[^a-z_]', '', 'g') ~ '(^|[^a-z_])(identity|crm|inventory|governance|billing|comms)\\.[a-z]'", a.prefix + "%"), [])
        self.assertEqual(self.site.sql("SELECT DISTINCT tenant_id FROM ferry.tracked WHERE nsp LIKE %s", a.prefix + "%"), [(uuid.UUID(a.id),)])
        shared = self.site.sql("SELECT count(*) FROM ferry.tracked WHERE tenant_id IS NULL AND nsp <> 'ferry'")[0][0]  # requests are for all sets
        self.assertEqual(self.site.sql("SELECT count(*) FROM ferry.tracked WHERE tenant_id = %s", a.id)[0][0], shared)
        names = [row[0] for row in a.device.sql("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'leads'")]
        self.assertEqual(names, ["leads"])

    def test_migrations_are_complete_in_all_placements_and_twice_is_harmless(self):
        Place(self, "dedicated-schema", device=False)
        Place(self, "dedicated-database", device=False)
        plan = self.hub.json("migrate", "--all-placements", "--dry-run")
        self.assertEqual({row["state"] for row in plan}, {"applied"})
        self.assertGreaterEqual(len({(row["part"], row["place"]) for row in plan}), 5)
        self.assertEqual(self.hub.json("migrate", "--all-placements")["applied"], 0)

    def test_a_server_that_is_down_stops_its_own_tenants_alone(self):
        far, near = Place(self, "dedicated-instance"), Place(self, "shared-database")
        far.both_ways()
        self.other.stop("immediate")
        try:
            key = far.edit()
            near.both_ways()
            near.both_ways()
            far.device.stop()
            far.device.start()
            wait_until(lambda: far.device.status()["error"] in ("DATABASE", "LINK_CLOSED"), 30, "its device is told to come again")
            self.assertEqual(near.device.status()["state"], "live")
        finally:
            self.other.start()
        wait_until(lambda: far.score(key) == 1, 60, "the edit made meanwhile")
        self.same(far)

    def test_status_and_limits_reach_tenants_wherever_they_are(self):
        for level in LEVELS[1:]:
            place = Place(self, level)
            self.hub.json("tenant", "suspend", place.id)
            wait_until(lambda p=place: p.device.status()["error"] == "TENANT_SUSPENDED", 20, level)
            self.assertEqual(place.sql("SELECT status::text FROM identity.tenants"), [("SUSPENDED",)])
            key = place.edit()
            self.hub.json("tenant", "resume", place.id)
            wait_until(lambda p=place, k=key: p.score(k) == 1, 30, level)
            self.hub.json("tenant", "limit", place.id, "--max-users", "1")
            add = "INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s)"
            place.sql(add, place.id, "a@x")
            with self.assertRaisesRegex(Exception, "may have 1 users"):
                place.sql(add, place.id, "b@x")
            self.hub.json("tenant", "limit", place.id, "--max-users", "none")

    def test_maintenance_and_secrets_reach_every_place(self):
        places = [Place(self, level, device=False) for level in LEVELS]
        for place in places:
            place.sql("INSERT INTO comms.messages_outbox (tenant_id, channel, to_email, queued_at) "
                      "VALUES (%s, 'email', 'a@x', now() - interval '2 years')", place.id)
            self.assertEqual(self.hub.run("secret", "set", place.id, "n", stdin="value of " + place.level).returncode, 0)
        rows = self.hub.json("maintain")
        dropped = [r["rows"] for r in rows if r["action"] == "drop" and "messages_outbox_" in r["subject"]]
        self.assertEqual(dropped, [1, 1, 1, 1], rows)
        for place in places:
            self.assertEqual(place.sql("SELECT count(*) FROM comms.messages_outbox WHERE tenant_id = %s", place.id), [(0,)], place.level)
            self.assertGreater(self.hub.json("tenant", "limit", place.id)[0]["storage_bytes"], 0, place.level)
        self.assertEqual(self.hub.json("secret", "rotate")["changed"], 4)
        self.assertEqual(self.hub.json("secret", "check")["under_older_keys"], 0)

    def test_revoked_device_of_another_database_is_turned_away_at_once(self):
        place = Place(self, "dedicated-database")
        self.hub.run("device", "revoke", place.device.id)
        self.assertEqual(place.device.wait_exit(), 5)
        self.assertIn("[REVOKED]", place.device.log_text())

    def test_what_does_not_fit_is_named(self):
        for options, text in ((["--isolation", "moon"], "isolation"),
                              (["--isolation", "dedicated-instance"], "--conninfo"),
                              (["--conninfo", "dbname=x"], "--conninfo belongs"),
                              (["--isolation", "dedicated-database", "--conninfo", "dbname=x password=y"], "passfile"),
                              (["--isolation", "dedicated-database", "--conninfo", "dbname=x user=y"], "user"),
                              (["--isolation", "dedicated-instance", "--conninfo", "host=/nowhere"], "database")):
            done = self.hub.run("tenant", "create", "X", *options)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(text, done.stderr)

    def test_unreachable_server_leaves_a_tenant_to_be_finished(self):
        options = ["tenant", "create", "Late", "--isolation", "dedicated-instance", "--conninfo"]
        done = self.hub.run(*options, "host=/nowhere dbname=late")
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("goes on where it stopped", done.stderr)
        self.assertEqual([t["status"] for t in self.hub.json("tenant", "list") if t["slug"] == "late"], ["PENDING_ACTIVATION"])
        self.assertIn("[EXISTS]", self.hub.run(*options, "host=/elsewhere dbname=late").stderr)
        self.site.sql("DELETE FROM ferry.placement WHERE slug = 'late'")


if __name__ == "__main__":
    unittest.main()
