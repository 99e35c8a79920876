#!/usr/bin/python3
"""Feature flags and the audit log from the command line: hub and device give the same answer, also offline."""

import unittest

from ferry_run import SiteCase, wait_until


class Flags(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Whatever the sync plan says: this is about what a device makes of the rows it gets.
        cls.site.sql("SELECT ferry.track('governance.feature_flags', 'global', write => false) "
                     "WHERE NOT EXISTS (SELECT FROM ferry.tracked WHERE relid = 'governance.feature_flags'::regclass)")

    def setUp(self):
        super().setUp()
        self.slug = self.site.value("SELECT slug::text FROM identity.tenants WHERE id = %s", self.tenant)
        self.user = self.site.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'ann@x.y') RETURNING id::text", self.tenant)
        self.site.sql("INSERT INTO identity.user_roles (tenant_id, user_id, role_id) SELECT tenant_id, %s, id FROM identity.roles "
                      "WHERE tenant_id = %s AND code = 'sales_exec'", self.user, self.tenant)

    def flag(self, key, tenant=True, **columns):
        columns = dict({"key": key, "name": key, "enabled": True}, **columns)
        if tenant:
            columns["tenant_id"] = self.tenant
        self.site.sql("INSERT INTO governance.feature_flags (%s) VALUES (%s)" % (", ".join(columns), ", ".join(["%s"] * len(columns))),
                      *columns.values())

    def hub_flags(self, *arguments):
        return {f["key"]: (f["on"], f["reason"]) for f in self.hub.json("flags", "--tenant", self.slug, *arguments)}

    def test_hub_and_offline_device_give_the_same_answer(self):
        self.flag("all", rollout_percentage=100)
        self.flag("half", rollout_percentage=50)
        self.flag("off", enabled=False, rollout_percentage=100)
        self.flag("ann", scope="USER", target_user_ids="{%s}" % self.user)
        self.flag("sales", scope="ROLE", target_roles="{sales_exec}")
        self.flag("bosses", scope="ROLE", target_roles="{admin}")
        self.flag("late", rollout_percentage=100, start_date="2999-01-01")
        self.flag("ios", rollout_percentage=100, conditions='{"platform": "ios", "ram": {"gte": 4}}')
        self.flag("everywhere-" + self.slug, tenant=False, scope="GLOBAL", rollout_percentage=100)
        asked = ("--user", "ann@x.y", "--attribute", "platform=ios", "--attribute", "ram=8")
        wanted = self.hub_flags(*asked)
        self.assertEqual({k: on for k, (on, _) in wanted.items() if k != "half"},
                         {"all": True, "off": False, "ann": True, "sales": True, "bosses": False, "late": False, "ios": True,
                          "everywhere-" + self.slug: True})
        device = self.device("a", user=self.user)
        self.settle()
        device.stop()
        got = {f["key"]: (f["on"], f["reason"]) for f in device.json("flags", *asked[2:], "--role", "sales_exec")}
        self.assertEqual(got, wanted)
        self.assertEqual(device.json("flags", "late", "--at", "2999-02-01T00:00:00Z")[0]["on"], True)
        self.assertEqual(device.json("flags", "nothing")[0]["reason"], "unknown")

    def test_switching_a_flag_off_reaches_a_device(self):
        self.flag("map", rollout_percentage=100)
        device = self.device("a", user=self.user)
        self.settle()
        self.assertTrue(device.json("flags", "map")[0]["on"])
        self.site.sql("UPDATE governance.feature_flags SET enabled = false WHERE tenant_id = %s", self.tenant)
        wait_until(lambda: not device.json("flags", "map")[0]["on"], 20, "the flag off at the device")

    def test_wrong_arguments_say_what_to_do(self):
        for arguments, text in ((("--tenant", self.slug, "--user", "nobody@x.y"), "there is no user nobody@x.y"),
                                (("--tenant", "no-such"), "there is no tenant no-such"), ((), "no tenant is named"),
                                (("--tenant", self.slug, "--attribute", "x"), "name=value"),
                                (("--tenant", self.slug, "--at", "soon"), "no time")):
            done = self.hub.run("flags", *arguments)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(text, done.stderr)

    def test_audit_verify_passes_a_sound_log_and_names_the_first_broken_entry(self):
        rows = self.hub.json("audit", "verify", "--tenant", self.slug)
        self.assertEqual([(r["tenant"], r["ok"], len(r["last_hash"])) for r in rows], [(self.slug, True, 64)])
        entry, seq = self.site.sql("SELECT entry_id::text, seq FROM governance.audit_chain WHERE tenant_id = %s ORDER BY seq DESC LIMIT 1", self.tenant)[0]
        conn = self.db.connect()
        with conn.cursor() as cur:
            cur.execute("SET session_replication_role = replica")
            cur.execute("UPDATE governance.audit_logs SET actor_name = 'x' WHERE id = %s", (entry,))
        conn.commit()
        conn.close()
        for arguments in (("--tenant", self.slug), ()):
            done = self.hub.run("audit", "verify", *arguments)
            self.assertEqual(done.returncode, 1)
            self.assertIn(entry, done.stdout)
            self.assertIn("the entry was changed", done.stdout)
        done = self.hub.run("audit", "verify", "--tenant", "no-such")
        self.assertIn("there is no tenant no-such", done.stderr)


if __name__ == "__main__":
    unittest.main()
