#!/usr/bin/python3
"""Keys, tenants, users, roles and what stands around them: rules that plain SQL meets."""

import datetime
import unittest
import uuid

from ferry_case import HubCase, run

# What the source states of each table: "unique a,b", "brin a", "a,b".
INDEXES = {
    "identity.tenant_settings":
        "unique tenant_id,id; brin created_at; tenant_id,audit_correlation_id; "
        "tenant_id,contract_template_url; tenant_id,data_classification; tenant_id,deleted_at; "
        "tenant_id,status; tenant_id,terms_template_url; unique tenant_id",
    "billing.billing_accounts":
        "unique tenant_id,id; unique tenant_id,provider_customer_id; brin created_at; "
        "tenant_id,audit_correlation_id; tenant_id,data_classification; tenant_id,deleted_at; "
        "tenant_id,payment_provider; tenant_id,status; tenant_id,verification_status",
    "billing.subscriptions":
        "unique tenant_id,id; unique tenant_id,provider_subscription_id; brin created_at; "
        "tenant_id,audit_correlation_id; tenant_id,cancel_at_period_end; tenant_id,current_period_end; "
        "tenant_id,data_classification; tenant_id,deleted_at; tenant_id,is_trialing; "
        "tenant_id,next_billing_date; tenant_id,plan_id; tenant_id,status",
    "billing.usage_records":
        "unique tenant_id,id; brin recorded_at; tenant_id,audit_correlation_id; "
        "tenant_id,billing_period_start,billing_period_end; tenant_id,data_classification; "
        "tenant_id,deleted_at; tenant_id,metric; tenant_id,processed; brin tenant_id,recorded_at; "
        "tenant_id,resource_type,resource_id; tenant_id,status; tenant_id,subscription_id",
    "billing.tenant_metrics":
        "unique tenant_id,id; unique tenant_id,metric_date,metric_hour; brin metric_date; "
        "tenant_id,audit_correlation_id; tenant_id,data_classification; tenant_id,deleted_at; brin "
        "tenant_id,metric_date; tenant_id,metric_date,metric_hour; tenant_id,status",
    "governance.feature_flags":
        "unique tenant_id,id; unique tenant_id,key; brin created_at; tenant_id,audit_correlation_id; "
        "tenant_id,data_classification; tenant_id,deleted_at; tenant_id,enabled; tenant_id,key,enabled; "
        "tenant_id,scope; tenant_id,status",
    "governance.number_sequences":
        "unique tenant_id,code; tenant_id,status; tenant_id,deleted_at",
    "documents.document_groups":
        "unique tenant_id,id; brin created_at; tenant_id,deleted_at; tenant_id,status",
    "documents.terms_templates":
        "unique tenant_id,id; brin created_at; tenant_id,deleted_at; tenant_id,status",
    "documents.contract_templates":
        "unique tenant_id,id; brin created_at; tenant_id,deleted_at; tenant_id,status",
    "events.tenant_events":
        "unique tenant_id,aggregate_type,aggregate_id,sequence; unique tenant_id,id; unique "
        "tenant_id,stream_id,stream_position; brin occurred_at; tenant_id,actor_id; "
        "tenant_id,aggregate_type,aggregate_id; tenant_id,aggregate_type; tenant_id,audit_correlation_id; "
        "tenant_id,causation_id; tenant_id,correlation_id; tenant_id,data_classification; "
        "tenant_id,deleted_at; tenant_id,event_type; tenant_id,is_snapshot; brin tenant_id,occurred_at; "
        "tenant_id,processed; tenant_id,status; tenant_id,stream_id",
    "events.event_projections":
        "unique tenant_id,id; unique tenant_id,name; brin created_at; tenant_id,deleted_at; brin updated_at",
    "events.event_snapshots":
        "unique tenant_id,aggregate_type,aggregate_id,aggregate_version; unique tenant_id,id; brin "
        "created_at; tenant_id,aggregate_type,aggregate_id; tenant_id,deleted_at",
    "governance.audit_logs":
        "unique tenant_id,id; brin created_at; tenant_id,action; tenant_id,actor_id; "
        "tenant_id,audit_correlation_id; brin tenant_id,created_at; tenant_id,data_classification; "
        "tenant_id,deleted_at; tenant_id,request_id; tenant_id,risk_level; tenant_id,status; "
        "tenant_id,success; tenant_id,target_model; tenant_id,target_model,target_id",
    "identity.actors":
        "actor_type; global_id; is_active; is_system; last_activity_at; risk_score; compliance_level; "
        "user_id; service_account_id; api_key_id; system_process_name; brin created_at; audit_correlation_id; "
        "data_classification; deleted_at; status; unique global_id; unique user_id; unique "
        "service_account_id; unique api_key_id",
    "identity.tenants":
        "audit_correlation_id; brin created_at; data_classification; deleted_at; deployment_type; "
        "migration_status; region; slug; status; subscription_ends_at; tier; trial_ends_at; unique slug",
}


class Identity(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()

    def user(self, email="u@x.y"):
        return self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id", self.t, email)

    def role(self, code="admin"):
        return self.value("SELECT id FROM identity.roles WHERE tenant_id = %s AND code = %s", self.t, code)

    # ------------------------------------------------------------ keys

    def test_new_keys_are_uuids_of_version_7_in_the_order_they_are_made(self):
        keys = [row[0] for row in self.sql("SELECT identity.uuid7() FROM generate_series(1, 5000)")]
        self.assertEqual({(k.version, k.variant) for k in keys}, {(7, uuid.RFC_4122)})
        self.assertEqual(len(set(keys)), 5000)
        stamps = [k.int >> 64 for k in keys]
        self.assertEqual(stamps, sorted(stamps))
        made = datetime.datetime.fromtimestamp((keys[0].int >> 80) / 1000, datetime.timezone.utc)
        self.assertLess(abs((datetime.datetime.now(datetime.timezone.utc) - made).total_seconds()), 60)

    def test_uuid7_of_a_given_time_lies_between_the_floors_around_it(self):
        for at in ("1970-01-01 00:00:00.001+00", "2026-11-21 05:06:07.123456+00", "2199-12-31 23:59:59.999+00"):
            self.assertEqual(self.sql("SELECT identity.uuid7_floor(%s) <= k, k < identity.uuid7_floor(%s::timestamptz + '1 ms') "
                                      "FROM (SELECT identity.uuid7(%s) AS k) x", at, at, at), [(True, True)], at)

    def test_every_key_of_the_model_is_made_so_by_default(self):
        self.assertEqual(self.sql("SELECT d.adrelid::regclass::text FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid "
                                  "JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspowner = 'ferry_owner'::regrole "
                                  "WHERE pg_get_expr(d.adbin, d.adrelid) = 'gen_random_uuid()'"), [])
        self.assertEqual(self.user().version, 7)
        self.assertEqual(self.project(self.t).version, 7)
        self.assertEqual(self.t.version, 7)

    # ------------------------------------------------------------ what the source states

    def test_every_index_and_unique_constraint_of_the_source_is_there(self):
        there = {(tab, columns, kind, unique) for tab, columns, kind, unique in self.sql("""
            SELECT i.indrelid::regclass::text, string_agg(a.attname, ',' ORDER BY k.n), m.amname::text, i.indisunique
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
            CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, n)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
            WHERE i.indpred IS NULL AND i.indisvalid GROUP BY i.indexrelid, i.indrelid, m.amname, i.indisunique""")}
        missing = []
        for tab, stated in INDEXES.items():
            for text in stated.split("; "):
                word, _, columns = text.rpartition(" ")
                kinds = {"unique": {("btree", True)}, "brin": {("brin", False)}, "": {("btree", True), ("btree", False)}}[word]
                if not any((tab, columns, *k) in there for k in kinds):
                    missing.append((tab, text))
        self.assertEqual(missing, [])

    def test_unknown_values_of_enums_are_refused(self):
        for text in ("UPDATE identity.tenants SET status = 'ASLEEP'", "UPDATE identity.tenants SET isolation_level = 'CLOUD'",
                     "INSERT INTO governance.feature_flags (key, name, scope) VALUES ('f', 'F', 'PLANET')"):
            self.refused("22P02", text)

    def test_version_counts_the_changes_of_a_row(self):
        self.sql("UPDATE identity.tenants SET description = 'a'")
        self.sql("UPDATE identity.tenants SET description = 'a'")
        self.sql("UPDATE identity.tenants SET description = 'b'")
        self.assertEqual(self.value("SELECT version FROM identity.tenants"), 3)

    # ------------------------------------------------------------ tenants

    def test_slug_is_unique_whatever_its_case(self):
        self.refused("23505", "SELECT identity.create_tenant('X', 'ACME')")

    def test_unknown_time_zone_is_refused_with_a_hint(self):
        error = self.refused("22023", "UPDATE identity.tenants SET timezone = 'Mars/Olympus'")
        self.assertIn("no time zone Mars/Olympus", error.diag.message_primary)
        self.sql("UPDATE identity.tenants SET timezone = 'Europe/Berlin'")

    def test_tenant_has_one_row_of_settings(self):
        self.sql("INSERT INTO identity.tenant_settings (tenant_id, currency) VALUES (%s, 'EGP')", self.t)
        self.refused("23505", "INSERT INTO identity.tenant_settings (tenant_id) VALUES (%s)", self.t)

    def test_actors_are_seen_by_no_tenant(self):
        self.sql("INSERT INTO identity.actors (actor_type, global_id, display_name, system_process_name) VALUES ('SYSTEM', 'cron', 'Cron', 'cron')")
        conn = self.conn(tenant=self.t)
        run(conn, "SET SESSION ROLE ferry_app")
        conn.commit()
        self.refused("42501", "SELECT * FROM identity.actors", conn=conn)
        self.refused("23514", "INSERT INTO identity.actors (actor_type, global_id, display_name, user_id, api_key_id) "
                              "VALUES ('USER', 'x', 'X', %s, %s)", self.t, self.t)

    # ------------------------------------------------------------ roles

    def test_roles_are_assigned_for_all_for_the_tenant_or_for_a_project(self):
        user, role, project = self.user(), self.role(), self.project(self.t)
        add = "INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind, project_id) VALUES (%s, %s, %s, %s, %s)"
        for kind, of in (("GLOBAL", None), ("TENANT", None), ("PROJECT", project)):
            self.sql(add, self.t, user, role, kind, of)
            self.refused("23505", add, self.t, user, role, kind, of)
        self.refused("23514", add, self.t, user, role, "PROJECT", None)
        self.refused("23514", add, self.t, user, role, "TENANT", project)

    def test_assignment_to_another_tenants_user_or_role_is_refused(self):
        other = self.tenant("other")
        add = "INSERT INTO identity.role_assignments (tenant_id, user_id, role_id) VALUES (%s, %s, %s)"
        self.refused("23503", add, other, self.user(), self.role())

    def test_older_programs_read_and_write_user_roles(self):
        user, role = self.user(), self.role()
        conn = self.conn(tenant=self.t)
        run(conn, "SET ROLE ferry_app")
        run(conn, "INSERT INTO identity.user_roles VALUES (%s, %s, %s)", self.t, user, role)
        self.assertEqual(run(conn, "SELECT scope_kind::text FROM identity.role_assignments"), [("TENANT",)])
        run(conn, "DELETE FROM identity.user_roles WHERE user_id = %s", user)
        self.assertEqual(run(conn, "SELECT count(*) FROM identity.role_assignments"), [(0,)])

    # ------------------------------------------------------------ billing

    def test_meter_adds_up_by_metric_date_and_dimensions(self):
        add = "SELECT billing.add_usage(%s, %s, %s, %s, %s)"
        self.assertEqual([self.value(add, self.t, "api", n, d, day) for n, d, day in (
            (2, '{"a": 1, "b": 2}', "2026-01-01"), (3, '{"b": 2, "a": 1}', "2026-01-01"), (1, '{"a": 2}', "2026-01-01"),
            (1, '{"a": 1, "b": 2}', "2026-01-02"))], [2, 5, 1, 1])
        self.refused("23505", "INSERT INTO billing.usage_meters (tenant_id, metric_code, for_date, dimensions) "
                              "VALUES (%s, 'api', '2026-01-01', '{\"a\": 2}')", self.t)

    def test_older_programs_read_the_newest_subscription(self):
        for plan, at in (("old", "2025-01-01"), ("new", "2026-01-01")):
            self.sql("INSERT INTO billing.subscriptions (tenant_id, plan_id, plan_name, unit_amount, total_amount, started_at, "
                     "current_period_start, current_period_end, provider_subscription_id) VALUES (%s, %s, %s, 1, 1, %s, %s, %s, %s)",
                     self.t, plan, plan, at, at, "2027-01-01", plan)
        self.assertEqual(self.sql("SELECT status, provider_sub_id FROM billing.tenant_subscription"), [("active", "new")])


if __name__ == "__main__":
    unittest.main()
