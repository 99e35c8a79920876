#!/usr/bin/python3
# ferry-test: quick
"""Tenants are kept apart by the database itself, whatever the hub's own code does."""

import unittest

from ferry_case import HubCase, run


class RowLevelSecurity(HubCase):
    def setUp(self):
        super().setUp()
        self.a, self.b = self.tenant("a"), self.tenant("b")
        for tenant in (self.a, self.b):
            project = self.project(tenant)
            self.unit(tenant, project)
            self.sql("INSERT INTO identity.users (tenant_id, email, password_hash) VALUES (%s, 'u@x.y', 'secret')", tenant)
            self.sql("INSERT INTO ferry.rejected VALUES (%s, gen_random_uuid(), 1, 1, 's', 'b')", tenant)
        self.tables = [row[0] for row in self.sql("SELECT relid::text FROM ferry.tracked")]
        self.private = ["ferry.version", "ferry.left", "ferry.change", "ferry.settled", "ferry.conflict", "ferry.rejected", "ferry.stage", "ferry.kept"]

    def tenants_seen(self, conn, table):
        column = "id" if table == "identity.tenants" else "tenant_id"
        return {row[0] for row in run(conn, "SELECT DISTINCT %s FROM %s" % (column, table))}

    def test_every_tenant_table_of_the_model_forces_a_policy(self):
        rows = self.sql("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                        "WHERE c.relkind IN ('r', 'p') AND n.nspname IN (SELECT nspname FROM pg_namespace WHERE nspowner = 'ferry_owner'::regrole) "
                        "AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))")
        self.assertEqual(rows, [])

    def test_hub_role_is_neither_owner_nor_superuser_nor_bypasses(self):
        self.assertEqual(self.sql("SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'ferry_hub'"),
                         [(False, False, False, False)])
        self.assertEqual(self.sql("SELECT * FROM ferry.doctor()"), [])
        self.sql("ALTER TABLE crm.leads OWNER TO ferry_hub")
        self.assertEqual([row[1] for row in self.sql("SELECT * FROM ferry.doctor() WHERE severity = 'error'")], ["ferry_hub"])

    def test_tenant_never_set_is_an_error(self):
        self.refused("42704", "SELECT count(*) FROM crm.leads", conn=self.conn("ferry_hub"))

    def test_tenant_that_fell_back_to_empty_sees_nothing(self):
        conn = self.conn("ferry_hub")
        run(conn, "SELECT set_config('app.tenant_id', %s, true)", str(self.a))
        self.assertEqual(self.tenants_seen(conn, "inventory.units"), {self.a})
        conn.commit()
        for table in set(self.tables) - {"inventory.unit_type_codes", "inventory.component_type_codes"}:
            self.assertEqual(run(conn, "SELECT count(*) FROM " + table), [(0,)], table)
        self.refused("42501", "INSERT INTO crm.companies (tenant_id, name) VALUES ('%s', 'x')" % self.a, conn=conn)

    def test_each_tenant_sees_its_own_rows_and_global_ones_alone(self):
        nobody = self.value("SELECT ferry.nobody()")
        for user in ("ferry_hub", "postgres"):
            conn = self.conn(user, self.a)
            if user == "postgres":
                run(conn, "SET ROLE ferry_app")
            for table in self.tables + (self.private if user == "ferry_hub" else []):
                self.assertLessEqual(self.tenants_seen(conn, table), {self.a, nobody}, table)
            self.assertEqual(self.tenants_seen(conn, "inventory.units"), {self.a})
            self.assertEqual(self.tenants_seen(conn, "inventory.unit_type_codes"), {nobody})

    def test_owner_of_the_tables_is_held_to_the_policy_too(self):
        conn = self.conn(tenant=self.a)
        run(conn, "SET ROLE ferry_owner")
        self.assertEqual(self.tenants_seen(conn, "inventory.units"), {self.a})

    def test_rows_of_another_tenant_can_t_be_written(self):
        for text in ("INSERT INTO crm.companies (tenant_id, name) VALUES ('%s', 'x')",
                     "UPDATE inventory.units SET tenant_id = '%s'",
                     "INSERT INTO ferry.settled (tenant_id, device_id, number, tx, verdict) VALUES ('%s', gen_random_uuid(), 1, 1, 'accepted')"):
            self.refused("42501", text % self.b, conn=self.conn("ferry_hub", self.a))
        conn = self.conn("ferry_hub", self.a)
        self.assertEqual(run(conn, "WITH d AS (DELETE FROM inventory.units WHERE tenant_id = %s RETURNING 1) SELECT count(*) FROM d", self.b), [(0,)])
        run(conn, "UPDATE inventory.units SET floor = 9")
        conn.commit()
        self.assertEqual(self.sql("SELECT tenant_id FROM inventory.units WHERE floor = 9"), [(self.a,)])
        self.assert_sound()

    def test_global_rows_are_written_by_the_owner_alone(self):
        nobody = self.value("SELECT ferry.nobody()")
        write = "UPDATE inventory.unit_type_codes SET label = 'x' WHERE code = 'APT_1BR' RETURNING 1"
        for tenant in (self.a, nobody):
            conn = self.conn(tenant=tenant)
            run(conn, "SET ROLE ferry_app")
            self.assertEqual(run(conn, write), [])
            self.refused("42501", "INSERT INTO inventory.unit_type_codes (code, label) VALUES ('NEW', 'x')", conn=conn)
        conn = self.conn(tenant=self.a)
        run(conn, "SET ROLE ferry_owner")
        self.assertEqual(run(conn, write), [(1,)])

    def test_claiming_the_reserved_tenant_gives_no_tenant(self):
        nobody = self.value("SELECT ferry.nobody()")
        conn = self.conn("ferry_hub", nobody)
        self.assertEqual(run(conn, "SELECT ferry.tenant()"), [(None,)])
        self.assertEqual(run(conn, "SELECT count(*) FROM inventory.units"), [(0,)])

    def test_secrets_and_untracked_tables_are_out_of_the_hub_s_reach(self):
        for text in ("SELECT password_hash FROM identity.users", "SELECT * FROM identity.users", "SELECT * FROM identity.sessions",
                     "SELECT * FROM billing.invoices", "UPDATE identity.users SET status = 'suspended'",
                     "SELECT * FROM ferry.dirty d, ferry.note(1, NULL, '{}')", "DELETE FROM ferry.version",
                     "INSERT INTO ferry.commit SELECT * FROM ferry.commit", "SELECT ferry.finish_tx(1, 'x')"):
            self.refused("42501", text, conn=self.conn("ferry_hub", self.a))

    def test_references_can_t_cross_tenants(self):
        project = self.value("SELECT id FROM inventory.projects WHERE tenant_id = %s", self.b)
        self.refused("23503", "INSERT INTO inventory.units (tenant_id, project_id, unit_type_code) VALUES ('%s', '%s', 'X')" % (self.a, project))

    def test_search_path_of_the_caller_does_not_reach_into_the_engine(self):
        """A function or table of the caller's own, before the engine's in its search path."""
        self.sql("CREATE SCHEMA evil")
        self.sql("GRANT ALL ON SCHEMA evil TO ferry_app")
        conn = self.conn(tenant=self.a)
        run(conn, "SET ROLE ferry_app")
        run(conn, "CREATE FUNCTION evil.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint'")
        run(conn, "CREATE FUNCTION evil.cardinality(anyarray) RETURNS int LANGUAGE sql AS 'SELECT 1/0'")
        run(conn, "CREATE FUNCTION evil.uuid_hash_extended(uuid, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint'")
        run(conn, "SET search_path = evil, pg_catalog")
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'x')", self.a)
        conn.commit()
        self.assert_sound()

    def test_every_definer_function_pins_its_search_path(self):
        self.assertEqual(self.sql("SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
                                  "WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT EXISTS ("
                                  "SELECT FROM unnest(p.proconfig) c WHERE c = 'search_path=pg_catalog, pg_temp')"), [])


if __name__ == "__main__":
    unittest.main()
