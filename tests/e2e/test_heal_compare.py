#!/usr/bin/python3
"""After a restore of the hub a device is compared with it, not filled anew: only what differs goes over the link (R17)."""

import unittest

from ferry_proxy import Proxy
from ferry_run import wait_until

from test_heal import DumpBackup, FileBackup, HealCase

ROWS = 20000


class HealCompare(HealCase):
    def setUp(self):
        super().setUp()
        self.proxy = Proxy(self.hub.device_port)
        self.addCleanup(self.proxy.close)

    def many_units(self, count):
        self.site.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, view) "
                      "SELECT %s, %s, 'N-' || n, 'APT_1BR', md5(n::text) FROM generate_series(1, %s) n RETURNING 1",
                      self.tenant, self.project, count)

    def carried(self):
        return sum(pipe.bytes for pair in self.proxy.pairs for pipe in pair)

    def proxied(self, label, rows):
        """A device behind the proxy that holds so many rows, and what its fill took."""
        self.many_units(rows)
        device = self.device(label, hub_port=self.proxy.port, start=True)
        self.site.wait_settled()
        return device, self.carried()

    def meets_restored(self, device, backup, says):
        """Stopped meanwhile, since the lines of an agent that is turned away often are left out of its log."""
        device.stop()
        backup.restore()
        since = device.log_size()
        device.start()
        device.wait_log(says, 120, since)
        self.site.wait_settled()
        with open(device.log, encoding="utf-8") as log:
            log.seek(since)
            return log.read()

    def check_share_of_a_fill(self, kind):
        backup = self.backup(kind)
        a, fill = self.proxied("a", ROWS)
        b = self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        self.site.wait_settled()
        units = [row[0] for row in a.sql("SELECT id FROM units ORDER BY rowid")]
        before = a.sql("SELECT rowid, id FROM units WHERE id <> ? ORDER BY rowid", units[7])
        self.site.sql("UPDATE inventory.units SET view = 'lost' WHERE id = %s RETURNING 1", units[7])  # these do not come back,
        self.site.sql("DELETE FROM inventory.units WHERE id = %s RETURNING 1", units[ROWS // 2])
        by_sql = self.unit("SQL")
        self.site.sql("INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'Of a table without others') RETURNING 1", self.tenant)
        mine = self.insert(a, "MINE", floor=1)                                                         # these do
        self.site.wait_settled()
        b.sql("UPDATE units SET floor = 2 WHERE id = ?", mine)
        b.sql("UPDATE units SET floor = 3 WHERE id = ?", units[99])
        self.site.wait_settled()
        a.stop()
        unsent = self.insert(a, "UNSENT")
        a.sql("UPDATE units SET floor = 44 WHERE id = ?", units[7])
        start = self.carried()
        self.assertNotIn("is filled", self.meets_restored(a, backup, "rows_that_differed="))
        cost = self.carried() - start
        self.assertLess(cost, fill / 10, "a comparison took %d bytes, the fill %d" % (cost, fill))
        print("%d rows: the fill took %d bytes, the comparison after the restore %d" % (ROWS, fill, cost))
        self.assert_same()
        self.assertEqual(self.hub_unit(mine, "floor"), 2)
        self.assertEqual(self.hub_unit(units[99], "floor"), 3)
        self.assertEqual(self.hub_unit(units[7], "floor"), 44)
        self.assertIsNotNone(self.hub_unit(unsent, "id"))
        self.assertIsNone(self.hub_unit(by_sql, "id"))
        self.assertEqual(a.sql("SELECT what, value FROM ferry_lost WHERE key = ? AND \"column\" = 'view'", units[7]), [("value", "lost")])
        self.assertEqual(a.sql("SELECT what, value FROM ferry_lost WHERE key = ? AND \"column\" = 'code'", by_sql), [("row", "SQL")])
        self.assertEqual(a.sql("SELECT what FROM ferry_lost WHERE key = ?", units[ROWS // 2]), [("deletion",)])
        after = set(a.sql("SELECT rowid, id FROM units"))
        self.assertEqual([row for row in before if row not in after and row[1] != units[ROWS // 2]], [])
        a.sql("UPDATE units SET floor = 5 WHERE id = ?", mine)
        self.site.sql("UPDATE inventory.units SET floor = 6 WHERE id = %s RETURNING 1", units[8])
        self.site.wait_settled()
        self.assert_same()

    def test_R17_few_differing_rows_cost_a_small_share_of_a_fill_after_a_dump_is_restored(self):
        self.check_share_of_a_fill(DumpBackup)

    def test_R17_few_differing_rows_cost_a_small_share_of_a_fill_after_files_are_restored(self):
        self.check_share_of_a_fill(FileBackup)

    def test_R17_a_comparison_that_is_cut_and_whose_agent_and_hub_are_killed_ends_all_the_same(self):
        backup = self.backup(DumpBackup)
        a, _ = self.proxied("a", 3000)
        backup.take()
        units = [row[0] for row in a.sql("SELECT id FROM units ORDER BY id")]
        self.site.sql("UPDATE inventory.units SET view = 'lost' WHERE id = ANY (%s::uuid[]) RETURNING 1", units[::50])
        self.site.wait_settled()
        kept = self.insert(a, "KEPT")
        self.site.wait_settled()
        a.stop()
        backup.restore()
        self.proxy.cut_after(received=9000)
        a.start()
        wait_until(lambda: not self.proxy.armed(), 60, "the cut")
        self.assertEqual(a.value("SELECT count(*) FROM units WHERE view = 'lost'"), 60)  # all of it, or nothing
        self.proxy.cut_after(received=9000)
        wait_until(lambda: not self.proxy.armed() or "rows_that_differed=" in a.log_text(), 60, "another cut, or the end")
        a.kill9()
        self.hub.kill9()
        self.hub.start()
        a.start()
        wait_until(lambda: a.value("SELECT count(*) FROM units WHERE view = 'lost'") == 0, 60, "the comparison")
        self.site.wait_settled()
        self.assertIsNotNone(self.hub_unit(kept, "id"))
        self.assertEqual(a.value("SELECT count(*) FROM ferry_lost WHERE \"column\" = 'view' AND value = 'lost'"), 60)
        self.assert_same()

    def test_R17_where_most_rows_differ_the_device_is_filled_and_its_log_says_why(self):
        backup = self.backup(DumpBackup)
        a, _ = self.proxied("a", 6000)
        backup.take()
        self.site.sql("UPDATE inventory.units SET view = 'lost' WHERE tenant_id = %s RETURNING 1", self.tenant)
        self.site.wait_settled()
        self.meets_restored(a, backup, "too much differs from the restored hub")
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_lost WHERE value = 'lost'") == 6000, 60, "the fill")
        self.site.wait_settled()
        self.assert_same()

    def test_R17_scopes_that_came_or_went_since_the_backup_are_as_the_backup_says(self):
        backup = self.backup(DumpBackup)
        other = str(self.site.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, 'Other') RETURNING id", self.tenant))
        self.site.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code) VALUES (%s, %s, 'O-1', 'APT_1BR') RETURNING 1",
                      self.tenant, other)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        self.site.sql("INSERT INTO ferry.device_scope (device_id, scope) VALUES (%s, %s) RETURNING 1", b.id, "project:" + other)
        wait_until(lambda: b.value("SELECT count(*) FROM units WHERE code = 'O-1'") == 1, 60, "the scope's rows")
        self.site.wait_settled()
        backup.take()
        self.site.sql("INSERT INTO ferry.device_scope (device_id, scope) VALUES (%s, %s) RETURNING 1", a.id, "project:" + other)
        self.site.sql("DELETE FROM ferry.device_scope WHERE device_id = %s AND scope = %s RETURNING 1", b.id, "project:" + other)
        wait_until(lambda: a.value("SELECT count(*) FROM units WHERE code = 'O-1'") == 1, 60, "the scope's rows")
        wait_until(lambda: b.value("SELECT count(*) FROM units WHERE code = 'O-1'") == 0, 60, "the scope's end")
        kept = self.insert(a, "KEPT")
        self.site.wait_settled()
        backup.restore()
        wait_until(lambda: a.value("SELECT count(*) FROM units WHERE code = 'O-1'") == 0, 120, "the scope that the backup lacks to go")
        wait_until(lambda: b.value("SELECT count(*) FROM units WHERE code = 'O-1'") == 1, 120, "the scope that the backup has to come")
        self.site.wait_settled()
        self.assertIsNotNone(self.hub_unit(kept, "id"))
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
