#!/usr/bin/python3
"""What every table of the model has: a comment, row-level security, references that stay within
the tenant, say what a deletion does, and have an index behind them."""

import unittest

from ferry_case import HubCase

MODEL = "(SELECT oid FROM pg_namespace WHERE nspowner = 'ferry_owner'::regrole)"

# References that do not begin with the tenant, and why.
NOT_BY_TENANT = {
    "billing.plan_features plan_id": "the price list belongs to no tenant",
    "billing.subscriptions catalog_plan_id": "the price list belongs to no tenant",
    "identity.actors created_by_actor_id": "actors are who somebody is across tenants",
    "identity.actors deleted_by_actor_id": "actors are who somebody is across tenants",
    "identity.actors updated_by_actor_id": "actors are who somebody is across tenants",
    "identity.tenants id,subscription_id": "id is the tenant",
}
# Tables whose rows belong to no tenant: everybody reads them, or nobody but their owner.
WITHOUT_TENANT = {"billing.plans", "billing.plan_features", "identity.actors", "identity.tenants", "governance.audit_purges"}


class Catalogue(HubCase):
    def references(self):
        return self.sql("""
            SELECT k.conrelid::regclass::text, (SELECT string_agg(a.attname, ',' ORDER BY x.n) FROM unnest(k.conkey) WITH ORDINALITY x(num, n)
                    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.num),
                   k.confdeltype::text, obj_description(k.oid, 'pg_constraint'), k.oid
            FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 AND k.connamespace IN """ + MODEL)

    def test_every_table_view_and_schema_says_what_it_is(self):
        self.assertEqual(self.sql("""
            SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
              AND coalesce(obj_description(c.oid, 'pg_class'), '') = ''
            UNION ALL
            SELECT n.nspname FROM pg_namespace n WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> 'public'
              AND coalesce(obj_description(n.oid, 'pg_namespace'), '') = ''"""), [])

    def test_documents_digests_and_amounts_say_what_they_hold(self):
        self.assertEqual(self.sql("""
            SELECT c.oid::regclass::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
            WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace IN %s AND NOT a.attisdropped
              AND (a.atttypid IN ('jsonb'::regtype, 'bytea'::regtype) OR a.attname ~ '_minor$|amount$')
              AND coalesce(col_description(c.oid, a.attnum), '') = '' ORDER BY 1, 2""" % MODEL), [])

    def test_every_table_has_forced_row_level_security_and_a_policy(self):
        rows = self.sql("""
            SELECT c.oid::regclass::text, EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'),
                   c.relrowsecurity AND c.relforcerowsecurity, (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid)
            FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace IN """ + MODEL)
        self.assertGreater(len(rows), 100)
        self.assertEqual([name for name, _, forced, policies in rows if not forced or not policies], [])
        self.assertEqual({name for name, by_tenant, _, _ in rows if not by_tenant}, WITHOUT_TENANT)

    def test_every_reference_begins_with_the_tenant(self):
        found = {"%s %s" % (tab, columns) for tab, columns, *_ in self.references()
                 if columns != "tenant_id" and not columns.startswith("tenant_id,")}
        self.assertEqual(found, set(NOT_BY_TENANT))

    def test_every_reference_says_what_a_deletion_does_or_why_it_is_refused(self):
        self.assertEqual([(tab, columns) for tab, columns, action, why, _ in self.references() if action == "a" and not why], [])

    def test_every_reference_has_an_index_that_serves_deletions(self):
        missing = self.sql("""
            SELECT k.conrelid::regclass::text, k.conname::text FROM pg_constraint k
            WHERE k.contype = 'f' AND k.conparentid = 0 AND k.connamespace IN %s AND NOT EXISTS (
                SELECT FROM pg_index i CROSS JOIN LATERAL (SELECT (i.indkey::int2[])[0:cardinality(k.conkey) - 1] AS head) h
                WHERE i.indrelid = k.conrelid AND i.indisvalid
                  -- A partial index serves when all it leaves out is where the reference is NULL.
                  AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) IN (
                       SELECT format('(%%I IS NOT NULL)', a.attname) FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)))
                  AND (k.conkey <@ h.head::int2[]
                       -- A unique key that is part of the reference finds one row at most.
                       OR i.indisunique AND i.indpred IS NULL AND i.indkey::int2[] <@ k.conkey))
            ORDER BY 1, 2""" % MODEL)
        self.assertEqual(missing, [])

    def test_deleting_a_parent_reads_its_children_by_index(self):
        t = self.tenant()
        contact = self.value("INSERT INTO crm.contacts (tenant_id, full_name) VALUES (%s, 'Ann') RETURNING id", t)
        plan = "\n".join(row[0] for row in self.sql("SET LOCAL enable_seqscan = off; EXPLAIN UPDATE crm.leads SET contact_id = NULL "
                                                    "WHERE tenant_id = %s AND contact_id = %s", t, contact))
        self.assertIn("leads_contact_ix", plan)

    def test_every_enum_type_is_used_or_said(self):
        self.assertEqual(self.sql("""
            SELECT t.oid::regtype::text FROM pg_type t WHERE t.typtype = 'e' AND t.typnamespace IN %s
              AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.atttypid IN (t.oid, t.typarray) AND a.attnum > 0)
              AND obj_description(t.oid, 'pg_type') IS NULL""" % MODEL), [])


if __name__ == "__main__":
    unittest.main()
