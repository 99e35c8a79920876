#!/usr/bin/python3
"""The tenant model: what it holds, what it refuses, and the sync plan over it."""

import unittest
import uuid

from ferry_case import NOBODY, HubCase, run

# scope, whether devices write, what it takes to read, whether deleted rows leave
PLAN = {
    "tenants": ("tenant", False, None, False),
    "users": ("tenant", False, None, True),
    "user_profiles": ("tenant", True, None, False),
    "user_settings": ("user:user_id", True, None, False),
    "groups": ("tenant", False, None, False),
    "roles": ("tenant", False, None, False),
    "role_assignments": ("user:user_id", False, None, False),
    "feature_flags": ("global", False, None, False),
    "document_groups": ("tenant", True, "documents.view", True),
    "labels": ("tenant", True, "documents.view", True),
    "terms_templates": ("tenant", False, "documents.view", True),
    "contract_templates": ("tenant", False, "documents.view", True),
    "unit_type_codes": ("global", False, None, False),
    "component_type_codes": ("global", False, None, False),
    "developers": ("tenant", True, None, False),
    "projects": ("tenant", True, None, False),
    "units": ("project:project_id", True, "inventory.view", False),
    "unit_components": ("project:unit_id.project_id", True, "inventory.view", False),
    "unit_price_history": ("project:unit_id.project_id", False, "inventory.view", False),
    "map_overlays": ("project:project_id", True, "inventory.view", False),
    "map_shapes": ("project:overlay_id.project_id", True, "inventory.view", False),
    "room_scans": ("project:unit_id.project_id", True, "roomscan.view", False),
    "room_plan_presets": ("tenant", True, "roomscan.view", False),
    "room_scan_sessions": ("project:unit_id.project_id", True, "roomscan.view", True),
    "room_scan_files": ("project:session_id.unit_id.project_id", True, "roomscan.view", False),
    "room_models": ("project:session_id.unit_id.project_id", True, "roomscan.view", True),
    "room_surfaces": ("project:model_id.session_id.unit_id.project_id", True, "roomscan.view", False),
    "room_objects": ("project:model_id.session_id.unit_id.project_id", True, "roomscan.view", False),
    "room_measurements": ("project:model_id.session_id.unit_id.project_id", True, "roomscan.view", False),
    "room_annotations": ("project:model_id.session_id.unit_id.project_id", True, "roomscan.view", False),
    "companies": ("tenant", True, "contacts.view", False),
    "contacts": ("tenant", True, "contacts.view", False),
    "leads": ("tenant", True, "leads.view", True),
    "deal_pipelines": ("tenant", True, "deals.view", False),
    "deal_stages": ("tenant", True, "deals.view", False),
    "deals": ("tenant", True, "deals.view", False),
    "activities": ("tenant", True, "activities.view", False),
    "notifications_inbox": ("user:user_id", True, None, False),
    "customers": ("tenant", True, "customers.view", False),
    "orders": ("tenant", False, "orders.view", False),
    "services": ("tenant", True, "services.view", True),
    "engagements": ("tenant", True, "engagements.view", True),
    "assignments": ("tenant", True, "engagements.view", False),
    "time_entries": ("user:user_id", True, "time.view", False),
    "contracts": ("tenant", True, "contracts.view", True),
    "contract_versions": ("tenant", False, "contracts.view", False),
    "invoices": ("tenant", False, "billing.view", True),
    "invoice_lines": ("tenant", False, "billing.view", False),
    "approval_requests": ("row:scope", True, None, False),
    "approvals": ("tenant", True, "approvals.view", False),
    "approval_history": ("tenant", False, "approvals.view", False),
    "media_assets": ("tenant", True, "media.view", False),
    "conversations": ("user:user_id", True, "assistant.use", False),
    "messages": ("user:conversation_id.user_id", True, "assistant.use", False),
}


class Model(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()

    def test_sync_plan_is_as_designed(self):
        self.assertEqual({n: rest for n, *rest in self.sql("SELECT replica_name, scope, write, read_permission, archives "
                                                            "FROM ferry.tracked")}, {n: list(rest) for n, rest in PLAN.items()})
        excluded = dict(self.sql("SELECT replica_name, excluded FROM ferry.tracked"))
        self.assertLessEqual({"password_hash", "mfa_secret_id"}, set(excluded["users"]))
        self.assertLessEqual({"billing_email", "max_users", "isolation_level"}, set(excluded["tenants"]))

    def test_parents_rank_before_children(self):
        self.assertEqual(self.sql("SELECT c.tbl FROM ferry.tracked_column c JOIN ferry.tracked t ON t.tbl = c.tbl "
                                  "JOIN ferry.tracked p ON p.tbl = c.ref_tbl WHERE p.rank >= t.rank AND p.tbl <> t.tbl"), [])

    def test_new_tenant_has_its_roles_and_permissions(self):
        self.assertEqual([row[0] for row in self.sql("SELECT code FROM identity.roles WHERE tenant_id = %s ORDER BY 1", self.t)],
                         ["admin", "device", "inventory_mgr", "sales_exec"])
        # What the source gives to each of its three.
        self.assertEqual(self.value("SELECT count(*) FROM identity.role_permissions p JOIN identity.roles r "
                                    "ON r.tenant_id = p.tenant_id AND r.id = p.role_id WHERE p.tenant_id = %s AND r.code <> 'device' "
                                    "AND permission = ANY ('{leads.view,leads.create,deals.view,inventory.view,reports.view}')",
                                    self.t), 15)
        self.refused("23505", "SELECT identity.create_tenant('x', 'acme')")
        self.refused("23514", "SELECT identity.create_tenant('x', 'y', '%s')" % NOBODY)

    def test_tenant_is_made_by_the_owner_and_by_nobody_else(self):
        conn = self.conn()
        run(conn, "SET ROLE ferry_owner")
        made = run(conn, "SELECT identity.create_tenant('New', 'new')")[0][0]
        self.assertEqual(run(conn, "SELECT current_setting('app.tenant_id')"), [("",)])
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM identity.roles WHERE tenant_id = %s", made), 4)
        self.refused("42501", "SELECT identity.create_tenant('New', 'new2')", conn=self.conn("ferry_hub"))

    def test_global_codes_are_seeded_under_the_reserved_tenant(self):
        self.assertEqual(self.sql("SELECT code FROM inventory.unit_type_codes WHERE tenant_id = %s ORDER BY 1", NOBODY),
                         [("APT_1BR",), ("APT_2BR",), ("VILLA_4BR",)])
        self.assertEqual(self.value("SELECT count(*) FROM inventory.component_type_codes WHERE tenant_id = %s", NOBODY), 4)

    def test_every_table_of_the_source_is_there_with_a_comment(self):
        tables = ("tenants users user_profiles roles role_permissions groups group_members role_assignments sessions audit_logs companies "
                  "contacts leads deal_pipelines deal_stages deals activities developers projects unit_type_codes component_type_codes "
                  "units unit_components unit_price_history map_overlays map_shapes campaigns campaign_sends telemarketing_calls "
                  "message_templates messages_outbox notifications_inbox suppression_list plans plan_features subscriptions "
                  "usage_counters invoices invoice_lines approvals approval_history integration_webhook_logs billing_webhook_logs "
                  "room_scans").split()
        rows = dict(self.sql("SELECT relname::text, obj_description(oid) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace IN "
                             "(SELECT oid FROM pg_namespace WHERE nspowner = 'ferry_owner'::regrole)"))
        self.assertLessEqual(set(tables), set(rows))
        self.assertEqual([t for t in rows if not rows[t]], [])

    def test_unique_keys_and_references_contain_the_tenant(self):
        rows = self.sql("""
            SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
            WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspowner = 'ferry_owner'::regrole)
              AND i.indisunique AND a.attnum <> i.indkey[0] AND NOT c.relispartition
            UNION ALL
            SELECT k.conname FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attname = 'tenant_id'
            WHERE k.contype = 'f' AND k.connamespace IN (SELECT oid FROM pg_namespace WHERE nspowner = 'ferry_owner'::regrole)
              AND k.conkey[1] <> a.attnum AND k.conparentid = 0""")
        # An event of the payment provider comes before its tenant is known.
        self.assertEqual(sorted(row[0] for row in rows), ["integration.billing_webhook_logs_pkey", "subscriptions_catalog_plan_id_fkey"])

    def test_lists_of_values_are_checked(self):
        for text in ("INSERT INTO crm.activities (tenant_id, type_code) VALUES ('%s', 'fax')",
                     "INSERT INTO identity.users (tenant_id, email, status) VALUES ('%s', 'x', 'gone')",
                     "INSERT INTO comms.campaigns (tenant_id, name, type) VALUES ('%s', 'x', 'pigeon')",
                     "INSERT INTO integration.integration_webhook_logs (tenant_id, provider, raw) VALUES ('%s', 'x', '{}')"):
            self.refused("23514", text % self.t)

    def test_unique_codes_hold_within_a_tenant_only(self):
        other = self.tenant("other")
        add = "INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES ('%s', 'x', '%s')"
        self.sql(add % (self.t, "A@b.c"))
        self.sql(add % (other, "a@b.c"))
        self.refused("23505", add % (self.t, "a@B.c"))

    def test_updated_at_moves_only_when_something_else_did(self):
        company = self.value("INSERT INTO crm.companies (tenant_id, name, updated_at) VALUES (%s, 'a', '2020-01-01') RETURNING id", self.t)
        at = "SELECT updated_at::date::text FROM crm.companies"
        self.sql("UPDATE crm.companies SET name = 'a'")
        self.assertEqual(self.value(at), "2020-01-01")
        self.sql("UPDATE crm.companies SET name = 'b', updated_at = '2021-01-01'")
        self.assertEqual(self.value(at), "2021-01-01")
        self.sql("UPDATE crm.companies SET name = 'c'")
        self.assertGreater(self.value(at), "2021-01-01")
        self.assertIsNotNone(company)

    def test_price_change_is_kept_and_other_changes_are_not(self):
        unit = self.unit(self.t, self.project(self.t))
        user = self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'u@x.y') RETURNING id", self.t)
        self.sql("UPDATE inventory.units SET floor = 2")
        conn = self.conn(tenant=self.t)
        run(conn, "SET ROLE ferry_app")
        run(conn, "SELECT set_config('app.user_id', %s, true)", str(user))
        run(conn, "UPDATE inventory.units SET price_minor = 5")
        run(conn, "UPDATE inventory.units SET price_minor = NULL")
        conn.commit()
        self.assertEqual(self.sql("SELECT unit_id, price_minor, changed_by_user_id FROM inventory.unit_price_history "
                                  "ORDER BY effective_at"), [(unit, 100, None), (unit, 5, user)])
        self.assert_sound()

    def test_deleting_a_tenant_leaves_tombstones_alone(self):
        project = self.project(self.t)
        unit = self.unit(self.t, project)
        self.sql("INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code) VALUES (%s, %s, 'X')", self.t, unit)
        self.sql("INSERT INTO roomscan.room_scans (tenant_id, unit_id, captured_at, document) VALUES (%s, %s, now(), '{}')", self.t, unit)
        self.sql("DELETE FROM identity.tenants")
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tenant_id = %s AND NOT deleted", self.t), 0)
        self.assert_sound()


class Enrolment(HubCase):
    PARTS = ("engine",)

    def setUp(self):
        super().setUp()
        self.t = uuid.uuid4()

    def token(self, hash_, expires="1 hour"):
        self.sql("INSERT INTO ferry.token (tenant_id, secret_hash, name, class, scopes, expires_at) "
                 "VALUES (%s, %s, 'tablet 1', 'tablet-arm64', '{tenant,global,tenant}', now() + %s::interval)", self.t, hash_, expires)

    def test_token_makes_one_device_once(self):
        self.token(b"h")
        conn = self.conn("ferry_hub")
        device, tenant, name, _, cls, _ = run(conn, "SELECT * FROM ferry.redeem_token('h')")[0]
        run(conn, "SELECT ferry.certify(%s, 'print', now() + '1 year')", device)
        conn.commit()
        self.assertEqual((tenant, name, cls), (self.t, "tablet 1", "tablet-arm64"))
        self.assertEqual(run(conn, "SELECT (device).id, (device).status, scopes FROM ferry.device_by_fingerprint('print')"),
                         [(device, "active", ["global", "tenant"])])
        self.assertIn("used", self.refused("28000", "SELECT ferry.redeem_token('h')").diag.message_primary)

    def test_failed_enrolment_leaves_the_token_unspent(self):
        self.token(b"h")
        conn = self.conn("ferry_hub")
        run(conn, "SELECT * FROM ferry.redeem_token('h')")
        conn.rollback()
        self.assertEqual(len(run(conn, "SELECT * FROM ferry.redeem_token('h')")), 1)

    def test_unknown_and_expired_tokens_are_refused(self):
        self.token(b"old", "-1 second")
        self.assertIn("expired", self.refused("28000", "SELECT ferry.redeem_token('old')").diag.message_primary)
        self.assertIn("not known", self.refused("28000", "SELECT ferry.redeem_token('none')").diag.message_primary)

    def test_revoked_device_stays_known_and_can_t_be_certified(self):
        self.token(b"h")
        device = self.value("SELECT device_id FROM ferry.redeem_token('h')")
        self.sql("SELECT ferry.certify(%s, 'print', now() + '1 year')", device)
        self.assertTrue(self.value("SELECT ferry.revoke_device(%s)", device))
        self.assertFalse(self.value("SELECT ferry.revoke_device(%s)", device))
        self.assertEqual(self.value("SELECT (device).status FROM ferry.device_by_fingerprint('print')"), "revoked")
        self.refused("P0002", "SELECT ferry.certify('%s', 'other', now())" % device)


if __name__ == "__main__":
    unittest.main()
