#!/usr/bin/python3
"""What a deleted tenant leaves behind: its audit log, and nothing else."""

import unittest

from ferry_case import HubCase, NOBODY, run

# What the audit log is made of. It outlives the tenant: it is the proof of what was done.
AUDIT = {"governance.audit_logs", "governance.audit_chain", "governance.audit_pending"}

# A row in every table that also holds rows of everybody, and so has no reference to the tenant.
SHARED = {
    "inventory.unit_type_codes": "(tenant_id, code, label) VALUES (%s, 'LOFT', 'Loft')",
    "inventory.component_type_codes": "(tenant_id, code, label) VALUES (%s, 'SAUNA', 'Sauna')",
    "integration.schema_definitions": "(tenant_id, subject, json_schema) VALUES (%s, 'lead.note', '{}')",
    "integration.integration_templates": "(tenant_id, code, name) VALUES (%s, 'crm-x', 'CRM X')",
    "governance.feature_flags": "(tenant_id, key, name) VALUES (%s, 'dark', 'Dark')",
    "governance.resource_types": "(tenant_id, code) VALUES (%s, 'keys')",
    "governance.retention_rules": "(tenant_id, tab, policy) VALUES (%s, 'integration.webhook_deliveries', 'DAYS_30')",
    "governance.archived_rows": "(tenant_id, tab, row_data, made_at) VALUES (%s, 'integration.webhook_deliveries', '{}', now())",
    "growth.waitlist_entries": "(tenant_id, email) VALUES (%s, 'ann@example.org')",
}

# Tables of the model with a tenant column, months' partitions left to their parent.
TABLES = """
    SELECT c.oid::regclass::text, EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey))
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspowner = 'ferry_owner'::regrole)"""


class Forget(HubCase):
    def left(self, tenant):
        return {tab for tab, _ in self.sql(TABLES) if self.value("SELECT count(*) FROM %s WHERE tenant_id = %%s" % tab, tenant)}

    def fill(self, tenant):
        for tab, row in SHARED.items():
            self.sql("INSERT INTO %s %s" % (tab, row), tenant)

    def test_every_table_that_no_reference_empties_is_known(self):
        alone = {tab for tab, refers in self.sql(TABLES) if not refers}
        self.assertEqual(alone - AUDIT - set(SHARED), set())

    def test_a_deleted_tenant_leaves_its_audit_log_alone(self):
        gone, stays = self.tenant("gone"), self.tenant("stays")
        for tenant in (gone, stays):
            self.fill(tenant)
            self.unit(tenant, self.project(tenant))
        before = self.left(stays)
        self.assertLessEqual(set(SHARED), self.left(gone))
        everybody = {tab: self.value("SELECT count(*) FROM %s WHERE tenant_id = %%s" % tab, NOBODY) for tab in SHARED}
        self.sql("DELETE FROM identity.tenants WHERE id = %s", gone)
        self.assertLessEqual(self.left(gone), AUDIT)
        self.assertIn("governance.audit_logs", self.left(gone))
        self.assertEqual(self.left(stays), before)
        for tab, count in everybody.items():
            self.assertEqual(self.value("SELECT count(*) FROM %s WHERE tenant_id = %%s" % tab, NOBODY), count, tab)

    def test_the_session_s_own_tenant_stays_set(self):
        gone, other = self.tenant("gone"), self.tenant("other")
        conn = self.conn(tenant=other)
        run(conn, "DELETE FROM identity.tenants WHERE id = %s", gone)
        self.assertEqual(run(conn, "SELECT current_setting('app.tenant_id')"), [(str(other),)])

    def test_a_version_of_everybody_s_schema_is_kept(self):
        self.sql("INSERT INTO integration.schema_definitions (tenant_id, subject, json_schema) VALUES (%s, 'x.all', '{}')", NOBODY)
        self.refused("FE319", "DELETE FROM integration.schema_definitions WHERE tenant_id = %s", NOBODY)


if __name__ == "__main__":
    unittest.main()
