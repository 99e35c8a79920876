"""A table of a test's own that is changed while devices are away."""

import contextlib
import uuid

from ferry_run import SiteCase


class SchemaCase(SiteCase):
    """Each test changes a table of its own, crm.<name>, with ten rows to begin with."""

    COLUMNS = "name text, qty int DEFAULT 0, grade text CHECK (grade IN ('a', 'b')), note text"

    def setUp(self):
        super().setUp()
        self.table = "t" + uuid.uuid4().hex[:8]
        self.make(self.table)
        self.a = self.device("a", scopes=[])
        self.settle()
        self.keys = [row[0] for row in self.a.sql("SELECT id FROM %s ORDER BY qty" % self.table)]

    def make(self, table, rows=10):
        """A table with rows, tracked, in one transaction."""
        self.hub_sql("CREATE TABLE crm.{t} (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), %s, "
                     "PRIMARY KEY (tenant_id, id)); SELECT ferry.isolate('crm.{t}'); SELECT ferry.track('crm.{t}'); "
                     "INSERT INTO crm.{t} (tenant_id, name, qty, grade) SELECT '%s', 'n' || i, i, 'a' FROM generate_series(1, %d) i"
                     % (self.COLUMNS, self.tenant, rows), table)

    def hub_sql(self, text, table=None):
        with contextlib.closing(self.db.connect()) as conn:
            with conn.cursor() as cur:
                cur.execute(text.replace("{t}", table or self.table))
            conn.commit()

    def here(self, text, *args):
        return self.a.sql(text.replace("{t}", self.table), *args)

    def there(self, text, *args):
        return self.site.sql(text.replace("{t}", "crm." + self.table), *args)

    @contextlib.contextmanager
    def away(self):
        """The agent does not run; afterwards it comes back and is settled, and no replica was filled anew."""
        self.a.stop()
        since = self.hub.log_size()
        yield
        self.a.start()
        self.settle()
        self.assert_in_place(since)

    def assert_in_place(self, since):
        with open(self.hub.log, "rb") as f:
            f.seek(since)
            said = f.read().decode(errors="replace")
        for line in said.splitlines():
            if self.a.id in line and "event=welcome" in line:
                self.assertIn("mode=delta", line)
        self.assertEqual(self.a.sql("SELECT * FROM ferry_mismatch"), [])

    def columns(self, table=None):
        return [row[1] for row in self.a.sql("PRAGMA table_info(%s)" % (table or self.table))]
