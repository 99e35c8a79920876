#!/usr/bin/python3
"""A hub that is restored from an older backup, on real processes: its devices notice, and give back what it lost (P8).

Backups are real ones: a copy of PostgreSQL's data folder, or pg_dump and pg_restore.
"""

import os
import shutil
import subprocess
import tempfile
import unittest
import uuid

import ferry_pg
from ferry_run import Site, differences, wait_until

HUB_SETTINGS = {"timing.heal": "1s", "timing.heal_park": "1d"}


class FileBackup:
    """The data folder, copied while the server is down."""

    def __init__(self, site):
        self.site = site
        self.folder = tempfile.mkdtemp(prefix="ferry-backup-")

    def take(self):
        self.site.hub.stop()
        self.site.cluster.stop()
        shutil.rmtree(self.folder)
        subprocess.run(["cp", "-a", self.site.cluster.data, self.folder], check=True)
        self.site.cluster.start()
        self.site.hub.start()

    def restore(self):
        self.site.hub.stop()
        self.site.cluster.stop("immediate")
        shutil.rmtree(self.site.cluster.data)
        subprocess.run(["cp", "-a", self.folder, self.site.cluster.data], check=True)
        self.site.cluster.start()
        self.site.hub.start()

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class DumpBackup:
    """pg_dump while the hub works, pg_restore into a new database."""

    def __init__(self, site):
        self.site = site
        self.folder = tempfile.mkdtemp(prefix="ferry-backup-")
        self.file = os.path.join(self.folder, "dump")

    def run(self, name, *arguments):
        done = subprocess.run([os.path.join(ferry_pg.bin_dir(), name), "-h", self.site.cluster.socket, "-U", "postgres", *arguments],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, "%s: %s" % (name, done.stderr)

    def take(self):
        self.run("pg_dump", "-Fc", "-Z0", "-f", self.file, self.site.db.name)

    def restore(self):
        self.site.hub.stop()
        self.run("dropdb", "--force", self.site.db.name)
        self.run("createdb", self.site.db.name)
        self.run("pg_restore", "--exit-on-error", "-d", self.site.db.name, self.file)
        self.site.hub.start()

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class HealCase(unittest.TestCase):
    """A site of its own for each test, since its whole cluster goes back in time."""

    SETTINGS = HUB_SETTINGS

    def setUp(self):
        self.site = Site(hub_settings=self.SETTINGS)
        self.addCleanup(self.site.close)
        self.hub = self.site.hub
        self.tenant = self.hub.tenant("Acme")
        self.project = str(self.site.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, 'Palm') RETURNING id",
                                           self.tenant))

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before and hasattr(self, "logs"):
            print(self.logs, flush=True)
        return result

    def tearDown(self):
        self.logs = self.site.logs()

    def backup(self, kind):
        backup = kind(self.site)
        self.addCleanup(backup.close)
        return backup

    def device(self, label, **options):
        return self.site.device(label, self.tenant, ["project:" + self.project], **options)

    def unit(self, code, **columns):
        """A unit made at the hub by SQL."""
        columns = dict({"tenant_id": self.tenant, "project_id": self.project, "code": code, "unit_type_code": "APT_1BR"}, **columns)
        return str(self.site.value("INSERT INTO inventory.units (%s) VALUES (%s) RETURNING id" % (
            ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values()))

    def insert(self, device, code, **columns):
        """A unit made on a device."""
        columns = dict({"id": str(uuid.uuid4()), "project_id": self.project, "code": code, "unit_type_code": "APT_1BR"}, **columns)
        device.sql("INSERT INTO units (%s) VALUES (%s)" % (", ".join(columns), ", ".join("?" * len(columns))), *columns.values())
        return columns["id"]

    def hub_unit(self, unit, column):
        rows = self.site.sql("SELECT %s FROM inventory.units WHERE id = %%s" % column, unit)
        return rows[0][0] if rows else None

    def assert_same(self):
        for device in self.site.devices:
            self.assertEqual(differences(self.site.db, device), [])
        self.assertEqual(self.site.sql("SELECT * FROM ferry.verify()"), [])

    def heal(self, backup, *devices):
        """Restores while these devices (default: all) run, and waits until they have given everything back."""
        backup.restore()
        self.wait_met(*devices)
        self.site.wait_settled(*(devices or self.site.devices))

    def wait_met(self, *devices):
        """Until these (default: all) have learnt of the restore. Before, they look settled: their positions are those of
        the lost history, and nothing waits to be sent."""
        devices = devices or self.site.devices

        def met():
            epoch = self.site.value("SELECT epoch FROM ferry.history")
            return self.rewinds() and all(d.value("SELECT hex(epoch) FROM ferry_state") == epoch.hex.upper() for d in devices)
        wait_until(met, 60, "devices that have met the restored hub")

    def rewinds(self):
        """How often a device found a restore out; the hub's own witness has its line, too."""
        return self.site.value("SELECT count(*) FROM ferry.rewind WHERE found_by = 'device'")


class Healing(HealCase):

    def check_several_devices(self, kind):
        backup = self.backup(kind)
        old = self.unit("OLD", floor=1, view="none")
        a, b, c = (self.device(name, start=True) for name in "abc")
        self.site.wait_settled()
        self.insert(a, "BEFORE")
        a.sql("UPDATE units SET floor = 2 WHERE id = ?", old)
        self.site.wait_settled()
        backup.take()
        self.site.wait_settled()
        # All of this is lost with the restore:
        new = self.insert(a, "NEW", view="none")                       # a new row,
        self.site.wait_settled()
        b.sql("UPDATE units SET view = 'sea', floor = 7 WHERE id = ?", new)  # which another device edits,
        self.site.wait_settled()
        c.sql("UPDATE units SET view = 'garden' WHERE id = ?", new)    # and a third one, having seen that;
        c.sql("UPDATE units SET floor = 3 WHERE id = ?", old)          # an old row edited,
        gone = self.insert(b, "GONE")
        self.site.wait_settled()
        a.sql("DELETE FROM units WHERE id = ?", gone)                  # a row made and deleted,
        by_sql = self.unit("SQL")                                      # a row that the hub's own SQL made,
        self.site.sql("UPDATE inventory.units SET bedrooms = 4 WHERE id = %s", old)  # and edited
        self.site.wait_settled()
        c.stop()
        offline = self.insert(c, "OFFLINE")                            # never was at the hub
        position = a.standing()[0]
        self.heal(backup, a, b)
        self.assertEqual((self.hub_unit(new, "view"), self.hub_unit(new, "floor")), ("sea", 7))
        c.start()
        self.wait_met()
        self.site.wait_settled()
        self.assertEqual((self.hub_unit(new, "view"), self.hub_unit(new, "floor")), ("garden", 7))
        self.assertEqual(self.hub_unit(old, "floor"), 3)
        self.assertIsNone(self.hub_unit(gone, "id"))
        self.assertIsNotNone(self.hub_unit(offline, "id"))
        self.assert_same()
        self.assertEqual(self.site.sql("SELECT code FROM ferry.rejected"), [])
        self.assertGreaterEqual(self.rewinds(), 3)
        # What nobody pushed cannot come back, but is shown:
        self.assertIsNone(self.hub_unit(by_sql, "id"))
        for device in (a, b, c):
            self.assertEqual(device.value("SELECT value FROM ferry_lost WHERE key = ? AND \"column\" = 'code'", by_sql), "SQL")
            self.assertIn(("value", "bedrooms", 4),
                          device.sql("SELECT what, \"column\", value FROM ferry_lost WHERE key = ?", old))
            self.assertEqual(device.sql("SELECT * FROM ferry_lost WHERE key = ?", new), [])
        self.assertGreater(position, 0)
        # And work goes on.
        a.sql("UPDATE units SET floor = 11 WHERE id = ?", new)
        self.site.sql("UPDATE inventory.units SET floor = 12 WHERE id = %s", old)
        self.site.wait_settled()
        self.assert_same()

    def test_P8_a_hub_restored_from_a_copy_of_its_files_regains_what_devices_pushed(self):
        self.check_several_devices(FileBackup)

    def test_P8_a_hub_restored_from_a_dump_regains_what_devices_pushed(self):
        self.check_several_devices(DumpBackup)

    def test_R17_a_device_whose_bookmark_is_older_than_the_backup_goes_on_with_deltas(self):
        backup = self.backup(DumpBackup)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.unit("ONE")
        self.site.wait_settled()
        b.stop()
        self.unit("TWO")
        self.site.wait_settled(a)
        backup.take()
        self.insert(a, "LOST")
        self.site.wait_settled(a)
        self.heal(backup, a)
        fills = b.log_text().count("the replica is filled anew")
        b.start()
        self.site.wait_settled()
        self.assertEqual(b.log_text().count("the replica is filled anew"), fills)
        self.assert_same()

    def test_R18_what_lacks_its_predecessor_waits_for_the_device_that_has_it(self):
        backup = self.backup(DumpBackup)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        company = str(uuid.uuid4())
        a.sql("INSERT INTO companies (id, name) VALUES (?, 'Predecessor')", company)
        unit = self.insert(a, "P-1", floor=1)
        self.site.wait_settled()
        contact = str(uuid.uuid4())
        b.sql("INSERT INTO contacts (id, company_id, full_name) VALUES (?, ?, 'Zoe')", contact, company)
        b.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
        free = self.insert(b, "FREE")
        self.site.wait_settled()
        a.stop()
        backup.restore()
        wait_until(lambda: self.hub_unit(free, "id"), 30, "what stands alone, at the hub")
        self.assertEqual(self.rewinds(), 1)
        wait_until(lambda: b.standing()[2] == 2, 30, "the two others, parked")
        self.assertEqual(self.site.sql("SELECT 1 FROM ferry.rejected"), [])
        b.stop()
        a.start()
        self.wait_met(a)
        self.site.wait_settled(a)
        b.start()
        self.site.wait_settled()
        self.assertEqual(self.hub_unit(unit, "floor"), 2)
        self.assertEqual(self.site.value("SELECT full_name FROM crm.contacts WHERE id = %s", contact), "Zoe")
        self.assertEqual(self.site.sql("SELECT 1 FROM ferry.rejected"), [])
        self.assert_same()

    def test_a_refusal_stays_one_after_the_restore(self):
        backup = self.backup(DumpBackup)
        a = self.device("a", start=True)
        self.unit("ONE")
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        self.site.wait_settled()
        backup.take()
        refused = str(uuid.uuid4())
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Second', 'ONE@example.com')", refused)
        self.site.wait_settled()
        before = a.sql("SELECT name, sentence, \"values\" FROM ferry_rejected")
        self.assertEqual(len(before), 1)
        self.heal(backup)
        self.assertIsNone(self.site.value("SELECT id FROM crm.contacts WHERE id = %s", refused))
        self.assertEqual(self.site.sql("SELECT sentence FROM ferry.rejected"), [(before[0][1],)])
        self.assertEqual(a.sql("SELECT name, sentence, \"values\" FROM ferry_rejected"), before)
        self.assert_same()

    def test_an_edit_made_after_the_restore_at_the_hub_is_no_less_than_a_replay(self):
        backup = self.backup(DumpBackup)
        unit = self.unit("ONE", view="none", floor=0)
        a = self.device("a", start=True)
        self.site.wait_settled()
        backup.take()
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.site.wait_settled()
        a.stop()
        backup.restore()
        self.site.sql("UPDATE inventory.units SET view = 'garden', floor = 5 WHERE id = %s", unit)
        a.start()
        self.wait_met()
        self.site.wait_settled()
        self.assertEqual((self.hub_unit(unit, "view"), self.hub_unit(unit, "floor")), ("garden", 5))
        self.assertEqual(self.site.sql("SELECT kind, winner, device_value FROM ferry.conflict WHERE key = %s", unit),
                         [("update_update", "hub", "sea")])
        self.assert_same()

    def test_R19_a_hub_that_starts_on_an_older_database_says_so_before_any_device_comes(self):
        backup = self.backup(DumpBackup)
        a = self.device("a", start=True)
        self.site.wait_settled()
        backup.take()
        self.insert(a, "LOST")
        self.site.wait_settled()
        a.stop()
        epoch = self.site.value("SELECT epoch FROM ferry.history")
        backup.restore()
        self.hub.wait_log("event=rewound")
        self.assertEqual(self.site.sql("SELECT found_by FROM ferry.rewind"), [("witness",)])
        self.assertNotEqual(self.site.value("SELECT epoch FROM ferry.history"), epoch)
        self.hub.stop()
        self.hub.start()  # it is told once
        self.assertEqual(self.site.sql("SELECT found_by FROM ferry.rewind"), [("witness",)])
        a.start()
        self.wait_met()
        self.assertEqual(self.rewinds(), 1)
        self.site.wait_settled()
        self.assertEqual(self.site.value("SELECT count(*) FROM inventory.units WHERE code = 'LOST'"), 1)

    def test_P8_twice_restored_still_regains_all(self):
        backup = self.backup(DumpBackup)
        a, b = self.device("a", start=True), self.device("b", start=True)
        self.site.wait_settled()
        backup.take()
        codes = []
        for n in range(2):
            for device in (a, b):
                for i in range(5):
                    codes.append("%s%d%d" % (device.label, n, i))
                    self.insert(device, codes[-1])
            self.site.wait_settled()
            self.heal(backup)
            self.assertEqual({row[0] for row in self.site.sql("SELECT code FROM inventory.units")}, set(codes))
            self.assert_same()


if __name__ == "__main__":
    unittest.main()
