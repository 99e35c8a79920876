"""A test case with a database of its own, migrated, and short words for the tenant model."""

import unittest
import uuid

import psycopg2

import ferry_pg

NOBODY = uuid.UUID(int=0)
LOW_48 = (1 << 48) - 1


class HubCase(unittest.TestCase):
    """One cluster a file, one database a test. self.sql runs statements as the superuser."""

    PARTS = ("engine", "model")

    @classmethod
    def setUpClass(cls):
        cls.cluster = ferry_pg.Cluster()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def setUp(self):
        self.db = self.cluster.database(self.PARTS)
        self._open = []

    def tearDown(self):
        for conn in self._open:
            conn.close()

    # ------------------------------------------------------------ connections

    def conn(self, user="postgres", tenant=None, autocommit=False):
        conn = self.db.connect(user)
        conn.autocommit = autocommit
        self._open.append(conn)
        if tenant is not None:
            run(conn, "SELECT set_config('app.tenant_id', %s, false)", str(tenant))
            if not autocommit:
                conn.commit()
        return conn

    def sql(self, text, *args):
        return self.db.query(text, args or None)

    def value(self, text, *args):
        return self.db.value(text, args or None)

    def refused(self, sqlstate, text, *args, conn=None):
        """Runs text and expects this SQLSTATE; the error, for its message and hint."""
        conn = conn or self.conn()
        try:
            run(conn, text, *args)
            conn.commit()
        except psycopg2.Error as error:
            conn.rollback()
            self.assertEqual(error.pgcode, sqlstate, str(error))
            return error
        return self.fail("not refused: " + text)

    # ------------------------------------------------------------ the model

    def tenant(self, slug="acme"):
        return self.value("SELECT identity.create_tenant(%s, %s)", slug.title(), slug)

    def project(self, tenant, name="Palm"):
        return self.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, %s) RETURNING id", tenant, name)

    def unit(self, tenant, project, code="A-1", price=100):
        return self.value("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, price_minor, currency) "
                          "VALUES (%s, %s, %s, 'APT_1BR', %s, 'EGP') RETURNING id", tenant, project, code, price)

    def units(self, tenant, project, count):
        self.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, price_minor, currency) "
                 "SELECT %s, %s, 'U-' || i, 'APT_1BR', i, 'EGP' FROM generate_series(1, %s) i", tenant, project, count)

    # ------------------------------------------------------------ what the engine says

    def tbl(self, name):
        return self.value("SELECT tbl FROM ferry.tracked WHERE replica_name = %s", name)

    def num(self, table, column):
        return self.value("SELECT num FROM ferry.tracked_column WHERE tbl = %s AND name = %s", self.tbl(table), column)

    def version(self, table, key):
        """The version as a dict (over as {column: surrogate}), or None."""
        rows = self.sql("SELECT to_jsonb(v) FROM ferry.version v WHERE tbl = %s AND key = %s", self.tbl(table), key)
        if not rows:
            return None
        version = rows[0][0]
        names = dict(self.sql("SELECT num, name FROM ferry.tracked_column WHERE tbl = %s", self.tbl(table)))
        version["over"] = {names[x >> 48]: x & LOW_48 for x in version["over"] or ()}
        return version

    def author(self, version, column):
        """(device, number) of a column's version, or 'hub'."""
        surrogate = version["over"].get(column, version["base_tx"])
        rows = self.sql("SELECT device_id, number FROM ferry.stamp WHERE id = %s", surrogate)
        return rows[0] if rows else "hub"

    def head(self, tenant):
        return self.value("SELECT position FROM ferry.head(%s)", tenant) or 0

    def positions(self, tenant):
        return [row[0] for row in self.sql("SELECT position FROM ferry.commit WHERE tenant_id = %s ORDER BY 1", tenant)]

    def changed(self, tenant, since, until=2**62):
        """{(table, scope): set of keys} of ferry.changed."""
        conn = self.conn(tenant=tenant)
        names = dict(self.sql("SELECT tbl, replica_name FROM ferry.tracked"))
        return {(names[tbl], scope): set(keys) for tbl, scope, keys in
                run(conn, "SELECT tbl, scope, keys FROM ferry.changed(%s, %s, %s)", tenant, since, until)}

    def assert_sound(self):
        """Every row equals its version, sums equal the rows, nothing is left of any transaction."""
        self.assertEqual(self.sql("SELECT * FROM ferry.verify()"), [])
        self.assertEqual(self.value("SELECT count(*) FROM ferry.dirty"), 0)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.declared"), 0)
        for (tenant,) in self.sql("SELECT DISTINCT tenant_id FROM ferry.version"):
            wanted = self.sql("SELECT * FROM ferry.sums_full(%s) ORDER BY 1, 2", tenant)
            running = [row for row in self.sql("SELECT * FROM ferry.sums(%s) ORDER BY 1, 2", tenant)
                       if row[3] or any(row[2])]
            self.assertEqual(running, wanted)


def run(conn, text, *args):
    """Rows of one statement on an open connection; the transaction goes on."""
    with conn.cursor() as cur:
        cur.execute(text, args or None)
        return cur.fetchall() if cur.description else []
