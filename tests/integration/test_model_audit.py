#!/usr/bin/python3
"""The audit log: entries of sensitive changes, their chain, and what nobody can do to them."""

import threading
import unittest
import uuid

from ferry_case import NOBODY, HubCase, run

ENTRY = ("SELECT action::text, target_model, target_id, old_values, new_values, changed_fields, actor_id, actor_type, risk_level::text "
         "FROM governance.audit_logs WHERE target_model = %s AND action::text = %s ORDER BY id")


class Audit(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.sql("UPDATE identity.tenants SET max_users = NULL")

    def user(self, email="u@x.y", tenant=None):
        return self.value("INSERT INTO identity.users (tenant_id, email, password_hash) VALUES (%s, %s, 'secret1') RETURNING id",
                          tenant or self.t, email)

    def verify(self, tenant=None):
        return self.sql("SELECT ok, entries, seq, entry_id, problem FROM governance.verify_audit(%s)", tenant or self.t)[0]

    def entries(self, tenant=None):
        return self.value("SELECT count(*) FROM governance.audit_logs WHERE tenant_id = %s", tenant or self.t)

    # ------------------------------------------------------------ what is written

    def test_change_by_sql_writes_before_after_fields_actor_and_hash_in_its_transaction(self):
        user, actor, device, request = self.user(), uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        conn = self.conn(tenant=self.t)
        run(conn, "SET ROLE ferry_app")
        for name, value in (("user_id", actor), ("device_id", device), ("request_id", request), ("ip_address", "10.1.2.3")):
            run(conn, "SELECT set_config('app.' || %s, %s, true)", name, str(value))
        run(conn, "UPDATE identity.users SET status = 'suspended', display_name = 'U' WHERE id = %s", user)
        conn.rollback()
        self.assertEqual(self.sql(ENTRY, "identity.users", "UPDATE"), [])
        run(conn, "SELECT set_config('app.tenant_id', %s, false)", str(self.t))
        for name, value in (("user_id", actor), ("device_id", device), ("request_id", request), ("ip_address", "10.1.2.3")):
            run(conn, "SELECT set_config('app.' || %s, %s, true)", name, str(value))
        run(conn, "UPDATE identity.users SET status = 'suspended', display_name = 'U' WHERE id = %s", user)
        conn.commit()
        row = self.sql(ENTRY, "identity.users", "UPDATE")[0]
        self.assertEqual((row[2], row[5], row[6], row[7], row[8]), (user, ["display_name", "status"], actor, "USER", "HIGH"))
        self.assertEqual((row[3]["status"], row[4]["status"]), ("active", "suspended"))
        self.assertEqual(self.sql("SELECT device_id, request_id, ip_address, db_user, payload_hash = encode(sha256(convert_to("
                                  "old_values::text || E'\\n' || new_values::text, 'UTF8')), 'hex') FROM governance.audit_logs "
                                  "WHERE target_model = 'identity.users' AND action = 'UPDATE'"), [(device, request, "10.1.2.3", "postgres", True)])

    def test_secrets_are_redacted_and_their_change_is_still_told(self):
        self.user()
        self.sql("UPDATE identity.users SET password_hash = 'secret2'")
        self.sql("INSERT INTO identity.api_keys (tenant_id, name, hashed_secret) VALUES (%s, 'k', 'secret3')", self.t)
        self.assertEqual(self.sql(ENTRY, "identity.users", "UPDATE")[0][5], ["password_hash"])
        text = self.value("SELECT string_agg(l::text, ' ') FROM governance.audit_logs l")
        self.assertNotIn("secret", text.replace("mfa_secret_id", "").replace("hashed_secret", ""))
        self.assertIn("[redacted]", text)

    def test_each_sensitive_table_is_audited(self):
        user, role = self.user(), self.value("SELECT id FROM identity.roles WHERE code = 'admin'")
        other = self.value("SELECT id FROM identity.roles WHERE code = 'sales_exec'")
        for text in ("UPDATE identity.roles SET name = 'Boss' WHERE id = '%s'" % role,
                     "INSERT INTO identity.role_permissions (tenant_id, role_id, permission) VALUES ('%s', '%s', 'all.things')" % (self.t, role),
                     "INSERT INTO identity.user_roles (tenant_id, user_id, role_id) VALUES ('%s', '%s', '%s')" % (self.t, user, role),
                     "UPDATE identity.role_assignments SET role_id = '%s'" % other,
                     "DELETE FROM identity.role_permissions WHERE permission = 'all.things'",
                     "UPDATE identity.tenants SET max_users = 3, status = 'SUSPENDED'",
                     "INSERT INTO approvals.approvals (tenant_id, domain, subject_entity, subject_id, requested_by) "
                     "VALUES ('%s', 'x', 'deal', '%s', '%s')" % (self.t, role, user),
                     "UPDATE approvals.approvals SET state = 'approved'",
                     "INSERT INTO billing.subscriptions (tenant_id, plan_id, plan_name, unit_amount, total_amount, current_period_start, "
                     "current_period_end) VALUES ('%s', 'p', 'P', 1, 1, now(), now() + '1 month')" % self.t,
                     "INSERT INTO governance.feature_flags (tenant_id, key, name) VALUES ('%s', 'f', 'F')" % self.t):
            before = self.entries()
            self.sql(text)
            self.assertEqual(self.entries(), before + 1, text)
        self.assertEqual(self.verify()[0], True)
        tenant = self.sql(ENTRY, "identity.tenants", "UPDATE")[-1]
        self.assertEqual((tenant[5], tenant[8]), (["max_users", "status"], "CRITICAL"))

    def test_update_that_changes_nothing_of_weight_writes_no_entry(self):
        self.user()
        before = self.entries()
        self.sql("UPDATE identity.users SET last_login_at = now()")
        self.sql("UPDATE identity.users SET status = status")
        self.sql("UPDATE identity.users SET status = 'suspended' WHERE false")
        self.assertEqual(self.entries(), before)

    def test_price_change_is_audited_and_other_changes_of_a_unit_are_not(self):
        unit = self.unit(self.t, self.project(self.t))
        before = self.entries()
        self.sql("UPDATE inventory.units SET floor = 3")
        self.assertEqual(self.entries(), before)
        self.sql("UPDATE inventory.units SET price_minor = 200")
        row = self.sql(ENTRY, "inventory.units", "UPDATE")[0]
        self.assertEqual((row[2], row[3]["price_minor"], row[4]["price_minor"], row[5]), (unit, 100, 200, ["price_minor"]))

    def test_global_rows_are_audited_under_the_reserved_tenant(self):
        self.sql("INSERT INTO governance.feature_flags (key, name) VALUES ('g', 'G')")
        self.assertEqual((self.entries(NOBODY), self.verify(NOBODY)[0]), (1, True))

    def test_deleted_tenant_leaves_its_log(self):
        self.user()
        before = self.entries()
        self.sql("DELETE FROM identity.tenants")
        self.assertGreater(self.entries(), before)
        self.assertEqual(self.verify()[0], True)

    def test_program_adds_entries_of_its_own_and_cannot_date_or_hash_them(self):
        conn = self.conn(tenant=self.t)
        run(conn, "SET ROLE ferry_app")
        run(conn, "INSERT INTO governance.audit_logs (tenant_id, action, target_model, created_at, payload_hash, db_user) "
                  "VALUES (%s, 'EXPORT', 'report', '2001-01-01', 'x', 'somebody')", self.t)
        conn.commit()
        self.assertEqual(self.sql("SELECT created_at > now() - interval '1 hour', length(payload_hash), db_user "
                                  "FROM governance.audit_logs WHERE action = 'EXPORT'"), [(True, 64, "postgres")])
        self.assertEqual(self.verify()[0], True)

    # ------------------------------------------------------------ immutability and isolation

    def test_entries_cannot_be_changed_deleted_or_truncated_by_anybody(self):
        self.user()
        for table in ("audit_logs", "audit_logs_rest", "audit_chain"):
            self.refused("FE319", "TRUNCATE governance.%s CASCADE" % table)
        for table in ("audit_logs", "audit_chain"):
            self.refused("FE319", "DELETE FROM governance.%s" % table)
        self.refused("FE319", "UPDATE governance.audit_logs SET action = 'READ'")
        self.refused("FE319", "UPDATE governance.audit_chain SET hash = ''")
        conn = self.conn(tenant=self.t)
        run(conn, "SET SESSION ROLE ferry_app")
        conn.commit()
        self.sql("SELECT identity.open_schema('governance')")  # as a later migration may do
        for text in ("INSERT INTO governance.audit_chain VALUES ('%s', 9, '%s', '', '')" % (self.t, self.t),
                     "INSERT INTO governance.audit_pending (tenant_id, ids) VALUES ('%s', '{}')" % self.t):
            self.refused("42501", text, conn=conn)
        run(conn, "DELETE FROM governance.audit_logs")
        run(conn, "UPDATE governance.audit_logs SET success = false")
        conn.commit()
        self.assertEqual(self.verify()[0], True)

    def test_log_of_another_tenant_is_not_seen(self):
        other = self.tenant("other")
        conn = self.conn(tenant=other)
        run(conn, "SET ROLE ferry_app")
        self.assertEqual(run(conn, "SELECT DISTINCT tenant_id FROM governance.audit_logs"), [(other,)])
        self.assertEqual(run(conn, "SELECT DISTINCT tenant_id FROM governance.audit_chain"), [(other,)])
        self.assertEqual(run(conn, "SELECT DISTINCT tenant_id FROM identity.audit_logs"), [(other,)])
        self.refused("42501", "INSERT INTO governance.audit_logs (tenant_id, target_model) VALUES (%s, 'x')", self.t, conn=conn)

    # ------------------------------------------------------------ the chain

    def forge(self, text, *args):
        """What only somebody with the server in his hands can do."""
        conn = self.conn()
        run(conn, "SET session_replication_role = replica")
        run(conn, text, *args)
        conn.commit()

    def test_changed_entry_is_named(self):
        self.user()
        entry, seq = self.sql("SELECT entry_id, seq FROM governance.audit_chain ORDER BY seq DESC LIMIT 1")[0]
        self.forge("UPDATE governance.audit_logs SET actor_name = 'somebody else' WHERE id = %s", entry)
        self.assertEqual(self.verify(), (False, seq - 1, seq, entry, "the entry was changed"))

    def test_changed_values_are_named(self):
        entry, seq = self.sql("SELECT entry_id, seq FROM governance.audit_chain ORDER BY seq LIMIT 1")[0]
        self.forge("UPDATE governance.audit_logs SET new_values = '{}' WHERE id = %s", entry)
        self.assertEqual(self.verify(), (False, 0, seq, entry, "its values before and after do not fit their hash"))

    def test_deleted_entry_is_named(self):
        self.user()
        entry = self.value("SELECT entry_id FROM governance.audit_chain WHERE seq = 2")
        self.forge("DELETE FROM governance.audit_logs WHERE id = %s", entry)
        self.assertEqual(self.verify(), (False, 1, 2, entry, "the entry was deleted"))
        self.forge("DELETE FROM governance.audit_chain WHERE entry_id = %s", entry)
        self.assertEqual(self.verify()[2:3] + self.verify()[4:], (3, "entries before it are missing from the chain"))

    def test_entry_slipped_in_past_the_chain_is_named(self):
        self.forge("INSERT INTO governance.audit_logs (tenant_id, target_model) VALUES (%s, 'x')", self.t)
        self.assertEqual(self.verify()[4], "the entry stands in no chain")

    def test_concurrent_writers_of_a_tenant_make_one_chain(self):
        failures = []

        def write(k):
            conn = self.conn()
            try:
                for i in range(10):
                    run(conn, "INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s)", self.t, "%d.%d@x" % (k, i))
                    run(conn, "UPDATE identity.roles SET description = %s WHERE tenant_id = %s AND code = 'admin'", "%d.%d" % (k, i), self.t)
                    conn.commit()
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        before = self.entries()
        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failures, [])
        self.assertEqual(self.entries(), before + 80)
        self.assertEqual(self.verify()[:2], (True, before + 80))
        self.assertEqual(self.value("SELECT count(*) FROM governance.audit_pending"), 0)

    def test_writer_with_an_old_snapshot_does_not_fail_and_its_entry_is_chained(self):
        late = self.conn()
        late.set_session(isolation_level="REPEATABLE READ")
        run(late, "SELECT 1 FROM identity.roles")
        self.user()
        run(late, "UPDATE identity.roles SET description = 'late' WHERE code = 'admin'")
        late.commit()
        self.assertEqual(self.verify()[:2], (True, self.entries()))

    def test_rolled_back_savepoint_leaves_no_entry_and_no_hole(self):
        conn = self.conn()
        run(conn, "UPDATE identity.roles SET description = 'a' WHERE code = 'admin'")
        run(conn, "SAVEPOINT s")
        run(conn, "UPDATE identity.roles SET description = 'b' WHERE code = 'admin'")
        run(conn, "ROLLBACK TO SAVEPOINT s")
        conn.commit()
        self.assertEqual([r[4]["description"] for r in self.sql(ENTRY, "identity.roles", "UPDATE")], ["a"])
        self.assertEqual(self.verify()[0], True)

    # ------------------------------------------------------------ months

    def test_months_are_partitions_and_a_purged_month_leaves_a_sound_chain(self):
        self.user()
        month = self.value("SELECT 'audit_logs_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
        self.assertEqual(self.sql("SELECT DISTINCT tableoid::regclass::text FROM governance.audit_logs"), [("governance." + month,)])
        purge = "SELECT partition_name FROM governance.purge_audit(now() + interval '32 days', %s)"
        entries = self.entries()
        self.assertEqual(self.sql(purge, True), [(month,)])
        self.assertEqual(self.entries(), entries)
        self.assertEqual(self.sql(purge, False), [(month,)])
        self.assertEqual(self.entries(), 0)
        self.assertEqual(self.verify()[:2], (True, entries))
        self.assertEqual(self.sql("SELECT entries >= %s FROM governance.audit_purges", entries), [(True,)])
        self.user("later@x")
        self.assertEqual(self.verify()[:2], (True, entries + 1))


if __name__ == "__main__":
    unittest.main()
