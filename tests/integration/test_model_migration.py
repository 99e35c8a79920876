#!/usr/bin/python3
"""A database of the first model is brought to this one: every row is still there."""

import hashlib
import os
import subprocess
import tempfile
import shutil
import unittest
import uuid

import ferry_pg
from ferry_case import HubCase, run

HUB = os.path.join(os.environ["FERRY_BUILD"], "bin", "ferry-hub")
FIRST = 8  # the last migration of the first model


class Migration(HubCase):
    PARTS = ("engine",)

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="ferry-model-")
        self.addCleanup(shutil.rmtree, self.folder)
        for number, name, text in ferry_pg.migrations("model"):
            if number <= FIRST:
                self.sql(text)
                self.sql("INSERT INTO ferry.migration (part, number, name, sha256) VALUES ('model', %s, %s, %s)",
                         number, name, hashlib.sha256(text.encode()).digest())
        self.t = self.tenant()
        self.user = self.value("INSERT INTO identity.users (tenant_id, email, password_hash) VALUES (%s, 'a@b.c', 'x') RETURNING id", self.t)
        self.role = self.value("SELECT id FROM identity.roles WHERE tenant_id = %s AND code = 'sales_exec'", self.t)
        self.entry = uuid.uuid4()
        self.sql("INSERT INTO identity.user_roles VALUES (%s, %s, %s)", self.t, self.user, self.role)
        self.sql("INSERT INTO identity.audit_logs (tenant_id, id, user_id, action, entity_type, entity_id, before_data, after_data, "
                 "ip_address, created_at) VALUES (%s, %s, %s, 'deal.moved', 'deal', %s, '{\"a\": 1}', '{\"a\": 2}', '10.0.0.1', "
                 "'2025-02-03 04:05:06+00')", self.t, self.entry, self.user, self.user)
        self.sql("INSERT INTO comms.suppression_list (tenant_id, channel, normalized_value) VALUES (%s, 'email', 'Ann@X.y')", self.t)
        self.sql("INSERT INTO billing.invoices (tenant_id, period_start, period_end, total_amount) VALUES (%s, '2025-01-01', '2025-02-01', 7)", self.t)
        plan = self.value("INSERT INTO billing.plans (code, name, tier) VALUES ('gold', 'Gold', 2) RETURNING id")
        self.sql("INSERT INTO billing.tenant_subscription (tenant_id, plan_id, status, started_at, renews_at, provider, provider_sub_id) "
                 "VALUES (%s, %s, 'trial', '2025-01-01', '2025-02-01', 'stripe', 'sub_1')", self.t, plan)

    def migrate(self):
        done = subprocess.run([HUB, "migrate", "--database", self.db.dsn("postgres"), "--state-dir", self.folder,
                               "--sql", ferry_pg.SQL, "--json"], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def check(self):
        self.assertEqual(self.sql("SELECT email::text, password_hash, status FROM identity.users"), [("a@b.c", "x", "active")])
        self.assertEqual(self.sql("SELECT user_id, role_id, scope_kind::text FROM identity.role_assignments"),
                         [(self.user, self.role, "TENANT")])
        self.assertEqual(self.sql("SELECT tenant_id, user_id, role_id FROM identity.user_roles"), [(self.t, self.user, self.role)])
        self.assertEqual(self.sql("SELECT id, user_id, action, entity_type, before_data, after_data, ip_address, created_at::text "
                                  "FROM identity.audit_logs WHERE entity_type = 'deal'"),
                         [(self.entry, self.user, "deal.moved", "deal", {"a": 1}, {"a": 2}, "10.0.0.1", "2025-02-03 04:05:06+00")])
        self.assertEqual(self.sql("SELECT ok, problem FROM governance.verify_audit(%s)", self.t), [(True, None)])
        self.assertEqual(self.sql("SELECT status, started_at::date::text, renews_at::date::text, provider, provider_sub_id "
                                  "FROM billing.tenant_subscription"), [("trialing", "2025-01-01", "2025-02-01", "stripe", "sub_1")])
        self.assertEqual(self.sql("SELECT normalized_value FROM comms.suppression_list"), [("ann@x.y",)])
        self.assertEqual(self.sql("SELECT total_amount, period_start::text FROM billing.invoices"), [(7, "2025-01-01")])
        self.assertEqual(self.sql("SELECT slug::text, status::text, max_users, isolation_level::text FROM identity.tenants"),
                         [("acme", "ACTIVE", None, "SHARED_DATABASE")])

    def test_rows_of_the_first_model_are_there_after_migration_and_after_another(self):
        self.migrate()
        self.check()
        self.assert_sound()
        self.migrate()
        self.check()

    def test_tenant_made_after_migration_has_limits_by_default(self):
        self.migrate()
        made = self.tenant("later")
        self.assertEqual(self.sql("SELECT max_users, max_storage, max_api_calls FROM identity.tenants WHERE id = %s", made),
                         [(10, 1024, 10000)])

    def test_rows_that_the_further_sources_touch_are_kept_and_fit_the_rules(self):
        project = self.project(self.t)
        unit = self.unit(self.t, project, price=100)
        lead = self.value("INSERT INTO crm.leads (tenant_id, status_code, score) VALUES (%s, 'new', 7) RETURNING id", self.t)
        invoice = self.value("INSERT INTO billing.invoices (tenant_id, period_start, period_end, total_amount) "
                             "VALUES (%s, '2025-01-01', '2025-01-31', 500) RETURNING id", self.t)
        self.sql("INSERT INTO billing.invoice_lines (tenant_id, invoice_id, product_code, unit_amount, amount) VALUES (%s, %s, 'p', 500, 500)",
                 self.t, invoice)
        approval = self.value("INSERT INTO approvals.approvals (tenant_id, domain, subject_entity, subject_id, required_levels, requested_by) "
                              "VALUES (%s, 'deal.stage.move', 'deal', gen_random_uuid(), 2, %s) RETURNING id", self.t, self.user)
        self.sql("INSERT INTO comms.suppression_list (tenant_id, channel, normalized_value) VALUES (%s, 'email', ' Zoe@X.Org ')", self.t)
        self.sql("INSERT INTO comms.messages_outbox (tenant_id, channel, to_email) VALUES (%s, 'email', 'a@b.c')", self.t)
        self.migrate()
        self.assertEqual(self.sql("SELECT id, score, deleted_at FROM crm.leads"), [(lead, 7, None)])
        self.assertEqual(self.sql("SELECT i.id, i.total_amount, l.amount, i.deleted_at FROM billing.invoices i "
                                  "JOIN billing.invoice_lines l ON l.invoice_id = i.id"), [(invoice, 500, 500, None)])
        self.assertEqual(self.sql("SELECT count(*) FROM comms.suppression_list WHERE normalized_value = 'zoe@x.org'"), [(1,)])
        self.assertEqual(self.sql("SELECT status FROM comms.messages_outbox"), [("pending",)])
        conn = self.conn(tenant=self.t)
        self.assertEqual(run(conn, "SELECT state, level FROM approvals.decide(%s, 1, 'approve')", approval), [("pending", 2)])
        run(conn, "UPDATE inventory.units SET price_minor = 120")
        conn.commit()
        self.assertEqual(self.sql("SELECT price_minor FROM inventory.unit_price_history WHERE unit_id = %s ORDER BY effective_at", unit),
                         [(100,), (120,)])
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
