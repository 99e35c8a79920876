#!/usr/bin/python3
"""ferry-hub maintain: retention, archives, months, the engine's upkeep, storage; dry run first."""

import unittest

import ferry_run


class Maintain(ferry_run.SiteCase):

    def maintain(self, *options):
        return self.hub.json("maintain", *options)

    def of(self, rows, step):
        return {(r["subject"], r["action"]): r["rows"] for r in rows if r["step"] == step}

    def message(self, age, tenant=None):
        """An entry of the outbox of messages, so many days old."""
        return self.site.sql("INSERT INTO comms.messages_outbox (tenant_id, channel, to_email, queued_at) "
                             "VALUES (%s, 'email', 'a@x', now() - %s * interval '1 day') RETURNING id", tenant or self.tenant, age)[0][0]

    def ages(self):
        return self.site.sql("SELECT round(extract(epoch FROM now() - queued_at) / 86400)::int FROM comms.messages_outbox "
                             "WHERE tenant_id = %s ORDER BY 1", self.tenant)

    def test_rule_for_all_purges_what_is_older_and_dry_run_leaves_it(self):
        for age in (1, 364, 367, 800):
            self.message(age)
        planned = self.of(self.maintain("--dry-run", "--tenant", self.tenant), "retention")
        self.assertEqual(planned, {("comms.messages_outbox", "purge"): 2})
        self.assertEqual(self.ages(), [(1,), (364,), (367,), (800,)])
        done = self.maintain("--tenant", self.tenant)
        self.assertEqual(self.of(done, "retention"), planned)
        self.assertTrue(all(r["done"] for r in done))
        self.assertEqual(self.ages(), [(1,), (364,)])
        self.assertEqual(self.of(self.maintain("--tenant", self.tenant), "retention"), {})

    def test_rule_of_a_tenant_goes_before_and_other_tenants_keep_theirs(self):
        other = self.hub.tenant("Other " + self.tenant)
        kept = self.message(40, other)
        self.message(40)
        self.site.sql("INSERT INTO governance.retention_rules VALUES (%s, 'comms.messages_outbox', 'DAYS_30', 'archive')", self.tenant)
        self.maintain()
        self.assertEqual(self.ages(), [])
        self.assertEqual(self.site.sql("SELECT count(*) FROM comms.messages_outbox WHERE id = %s", kept), [(1,)])
        archived = self.site.sql("SELECT tab, row_data ->> 'to_email' FROM governance.archived_rows WHERE tenant_id = %s", self.tenant)
        self.assertEqual(archived, [("comms.messages_outbox", "a@x")])

    def test_policy_of_the_row_goes_before_all_and_permanent_stays(self):
        add = "INSERT INTO governance.feature_flags (tenant_id, key, name, retention_policy, data_classification, created_at) " \
              "VALUES (%s, %s, %s, %s, %s, now() - interval '4 years')"
        self.site.sql("INSERT INTO governance.retention_rules VALUES (%s, 'governance.feature_flags', 'YEARS_10', 'archive')", self.tenant)
        for key, policy, classification in (("a", "YEARS_3", "INTERNAL"), ("b", "YEARS_3", "RESTRICTED"), ("c", "PERMANENT", "INTERNAL"),
                                            ("d", "YEARS_7", "INTERNAL"), ("e", None, "INTERNAL")):
            self.site.sql(add, self.tenant, key, key, policy, classification)
        rows = self.maintain("--tenant", self.tenant)
        self.assertEqual(list(self.of(rows, "retention").values()), [2], rows)
        self.assertEqual([r[0] for r in self.site.sql("SELECT key FROM governance.feature_flags WHERE tenant_id = %s ORDER BY 1", self.tenant)],
                         ["c", "d", "e"])
        self.assertEqual(self.site.sql("SELECT row_data ->> 'key' FROM governance.archived_rows WHERE tenant_id = %s", self.tenant), [("a",)],
                         "restricted rows are never archived")

    def test_old_changes_are_forgotten_and_devices_go_on(self):
        a = self.device("a")
        a.wait_filled()
        self.site.sql("UPDATE inventory.projects SET name = 'x' WHERE tenant_id = %s", self.tenant)
        self.site.wait_settled(a)
        self.site.sql("UPDATE ferry.commit SET at = at - interval '8 days' WHERE tenant_id = %s", self.tenant)
        planned = [key for key in self.of(self.maintain("--dry-run", "--tenant", self.tenant), "engine") if key[0].startswith("changes")]
        self.assertEqual(planned, [("changes of " + self.tenant, "forget")])
        self.maintain("--tenant", self.tenant)
        self.assertEqual(self.site.sql("SELECT count(*) FROM ferry.change WHERE tenant_id = %s", self.tenant), [(0,)])
        self.site.sql("UPDATE inventory.projects SET name = 'y' WHERE tenant_id = %s", self.tenant)
        self.site.wait_settled(a)
        self.assertEqual(ferry_run.differences(self.site.db, a), [])

    def test_storage_is_counted_for_the_quota(self):
        self.maintain()
        before = self.hub.json("tenant", "limit", self.tenant)[0]["storage_bytes"]
        self.assertGreater(before, 0)
        self.site.sql("INSERT INTO inventory.developers (tenant_id, name) VALUES (%s, repeat(md5('x'), 500))", self.tenant)
        self.site.sql("INSERT INTO inventory.developers (tenant_id, name) SELECT %s, 'd' || i FROM generate_series(1, 1000) i", self.tenant)
        self.maintain()
        self.assertGreater(self.hub.json("tenant", "limit", self.tenant)[0]["storage_bytes"], before + 50000)

    def test_rows_of_a_tenant_deleted_long_ago_go(self):
        gone = self.hub.tenant("Gone " + self.tenant)
        self.stage(gone, 1, refused=True)
        self.hub.json("tenant", "delete", gone, "--confirm", self.hub.json("tenant", "delete", gone, "--dry-run")["slug"])
        self.assertEqual(self.of(self.maintain("--tenant", gone), "deleted tenants"), {}, "not yet")
        self.site.sql("UPDATE identity.tenants SET deleted_at = now() - interval '31 days' WHERE id = %s", gone)
        rows = self.maintain("--tenant", gone)
        self.assertEqual([r["problem"] for r in rows if r["step"] == "deleted tenants"], [None], rows)
        self.assertEqual(self.site.sql("SELECT count(*) FROM identity.roles WHERE tenant_id = %s", gone), [(0,)])
        self.assertEqual(self.site.sql("SELECT status FROM ferry.placement WHERE tenant_id = %s", gone), [("DELETED",)])
        for table in ("rejected", "stage", "parked_wait"):
            self.assertEqual(self.site.sql("SELECT count(*) FROM ferry.%s WHERE tenant_id = %%s" % table, gone), [(0,)], table)

    def stage(self, tenant, number, refused=False):
        """A part of a large change-set of eight days ago; refused: it is kept."""
        device = "00000000-0000-0000-0000-0000000000dd"
        self.site.sql("INSERT INTO ferry.stage VALUES (%s, %s, %s, 7, 0, 'x', now() - interval '8 days')", tenant, device, number)
        if refused:
            self.site.sql("INSERT INTO ferry.rejected (tenant_id, device_id, number, code, sentence, body, staging) "
                          "VALUES (%s, %s, %s, 307, 'no', '', 7)", tenant, device, number)
            self.site.sql("INSERT INTO ferry.parked_wait VALUES (%s, %s, %s, 1, gen_random_uuid(), false)", tenant, device, number)

    def test_parts_that_nobody_went_on_with_go_and_what_is_kept_stays(self):
        self.stage(self.tenant, 1)
        self.stage(self.tenant, 2, refused=True)
        self.assertEqual(self.of(self.maintain("--dry-run"), "engine")[("parts", "forget")], 1)
        self.assertEqual(self.site.sql("SELECT count(*) FROM ferry.stage WHERE tenant_id = %s", self.tenant), [(2,)])
        self.maintain()
        self.assertEqual(self.site.sql("SELECT number FROM ferry.stage WHERE tenant_id = %s", self.tenant), [(2,)])

    def test_months_of_the_outbox_and_the_webhook_logs_are_made_and_old_ones_dropped(self):
        self.site.sql("INSERT INTO integration.integration_webhook_logs (tenant_id, provider, raw, received_at) "
                      "VALUES (%s, 'brevo', '{}', '2024-05-05 00:00+00')", self.tenant)
        month = "integration.integration_webhook_logs_2024_05"
        self.assertEqual(self.of(self.maintain("--dry-run"), "months"), {(month, "make"): 1})
        self.assertEqual(self.of(self.maintain(), "months"), {(month, "make"): 1, (month, "drop"): 1})
        self.assertEqual(self.site.sql("SELECT count(*) FROM integration.integration_webhook_logs WHERE tenant_id = %s", self.tenant), [(0,)])
        self.assertEqual(self.of(self.maintain(), "months"), {})

    def test_months_of_the_audit_log_are_made(self):
        name = self.site.sql("SELECT relname FROM pg_class WHERE relname ~ '^audit_logs_[0-9]{4}_[0-9]{2}$' ORDER BY 1 DESC LIMIT 1")[0][0]
        self.site.sql('DROP TABLE governance."%s"' % name)
        self.assertIn((name, "make"), self.of(self.maintain(), "audit months"))
        self.assertEqual(self.site.sql("SELECT to_regclass(%s) IS NOT NULL", "governance." + name), [(True,)])


if __name__ == "__main__":
    unittest.main()
