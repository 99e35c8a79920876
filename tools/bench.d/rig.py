"""What tools/bench measures on: a PostgreSQL that is safe as shipped, a hub, devices.

Built on tests/lib/ferry_run; adds loading, plain floor tables, and what is read from
outside the programs: bytes that TCP carried, resident memory, file sizes.
"""

import glob
import os
import re
import sqlite3
import subprocess
import time

import ferry_pg
import ferry_run

UNIT_COLUMNS = ("id,tenant_id,project_id,code,floor,unit_type_code,size_sqm,bedrooms,bathrooms,view,price_minor,"
                "currency,status,virtual_tour_url,length_m,width_m,height_m,created_at,updated_at")
WAIT_S = 600
PG_SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}

program = ferry_run.program


def postgres_version():
    text = subprocess.run([os.path.join(ferry_pg.bin_dir(), "postgres"), "--version"], capture_output=True, text=True,
                          check=True).stdout
    return "PostgreSQL " + re.search(r"(\d+\.\d+)", text).group(1)


def sqlite_version():
    return sqlite3.sqlite_version


def vacuumed_size(path):
    """Bytes of the file without free pages, so that files are compared by what they hold."""
    copy = path + ".vacuumed"
    if os.path.exists(copy):
        os.unlink(copy)
    db = sqlite3.connect(path)
    db.execute("VACUUM INTO ?", (copy,))
    db.close()
    size = os.path.getsize(copy)
    os.unlink(copy)
    return size


def status_kib(pid, field):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(re.search(field + r":\s+(\d+)", f.read()).group(1))


class Device:
    def __init__(self, rig, agent):
        self.rig, self.agent = rig, agent
        self.replica = agent.replica

    def start(self):
        self.agent.start()

    def stop(self):
        self.agent.stop()

    def sync(self):
        self.agent.sync()

    def wait_idle(self):
        self.rig.site.wait_settled(self.agent, seconds=WAIT_S)

    def wait_rows(self, table, count):
        """Until the replica shows so many rows (they become visible at once)."""
        db = sqlite3.connect(self.replica, timeout=30)
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone():
                if db.execute("SELECT position FROM ferry_status").fetchone()[0] >= 0:
                    have = db.execute("SELECT count(*) FROM %s" % table).fetchone()[0]
                    assert have == count, "%d rows instead of %d" % (have, count)
                    return
            time.sleep(0.005)
        raise RuntimeError("%s has not %d rows after %d s" % (table, count, WAIT_S))

    def _tcp(self, field):
        """A counter of the agent's connection, as the kernel keeps it: TLS and framing included."""
        text = subprocess.run(["ss", "-tinpH", "dport", "=", ":%d" % self.rig.site.hub.device_port],
                              capture_output=True, text=True, check=True).stdout
        for line, info in zip(text.splitlines()[::2], text.splitlines()[1::2]):
            if "pid=%d," % self.agent.process.pid in line:
                return int(re.search(field + r":(\d+)", info).group(1))
        raise RuntimeError("the agent has no connection to the hub")

    def wire_sent(self):
        return self._tcp("bytes_acked")

    def wire_received(self):
        return self._tcp("bytes_received")

    def rss_kib(self):
        return status_kib(self.agent.process.pid, "VmRSS")

    def peak_rss_mib(self):
        return status_kib(self.agent.process.pid, "VmHWM") / 1024

    def copy(self, target, plain):
        """A copy of the replica; plain: the same tables and rows without a trace of the product."""
        for old in glob.glob(target + "*"):
            os.unlink(old)
        if plain:
            Rig.plain_replica(target, self.replica)
        else:
            db = sqlite3.connect(self.replica)
            db.execute("VACUUM INTO ?", (target,))
            db.close()
        return target


class Rig:
    def __init__(self, hub=True):
        self.cluster = ferry_pg.Cluster(fsync=True, settings=PG_SETTINGS)
        try:
            self.site = ferry_run.Site(cluster=self.cluster, start=hub, hub_settings={"timing.poll": "100ms"})
        except BaseException:
            self.cluster.close()
            raise
        self.folder = self.site.folder
        self.tenant = self.site.value("SELECT identity.create_tenant('Bench', 'bench')::text")
        # What is measured is not what this tenant has paid for.
        self.site.sql("UPDATE identity.tenants SET max_users = NULL, max_storage = NULL, max_api_calls = NULL WHERE id = %s", self.tenant)
        self.project = self.site.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, 'Bench') "
                                       "RETURNING id::text", self.tenant)
        self.site.sql("CREATE SCHEMA bench")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(self.site.logs()[-4000:])
        self.site.close()
        self.cluster.close()

    def dsn(self):
        return self.site.db.dsn("postgres")

    def device(self, name):
        return Device(self, self.site.device(name, self.tenant, ["project:" + self.project]))

    def hub_rss_kib(self):
        return status_kib(self.site.hub.process.pid, "VmRSS")

    def plain_units(self):
        """An untracked copy of the units table: same columns, indexes and checks, no triggers."""
        self.site.sql("CREATE TABLE bench.units_plain (LIKE inventory.units INCLUDING ALL)")
        return "bench.units_plain"

    def tracked_units(self):
        """The same, tracked: differs from the plain one in nothing else."""
        self.site.sql("CREATE TABLE bench.units_tracked (LIKE inventory.units INCLUDING ALL)")
        self.site.sql("SELECT ferry.isolate('bench.units_tracked')")
        self.site.sql("SELECT ferry.track('bench.units_tracked', 'project:project_id')")
        return "bench.units_tracked"

    def settle(self, *tables):
        """Both sides of a pair start from the same: vacuumed, analysed, nothing left to write back."""
        c = self.site.db.connect()
        c.autocommit = True
        with c.cursor() as cur:
            for table in tables + ("ferry.version", "ferry.dirty", "ferry.change", "ferry.commit", "ferry.sum"):
                cur.execute("VACUUM ANALYZE " + table)
            cur.execute("CHECKPOINT")
        c.close()

    def load_units(self, count):
        """Rows with time-ordered keys, as the product's own key generator makes them."""
        done = subprocess.run([program("ferry-bench"), "pg-load", self.dsn(), "inventory.units", str(count), "10000",
                               self.tenant, self.project], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        self.settle("inventory.units")

    def load_storm_rows(self, count):
        self.site.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code) "
                      "SELECT %s, %s, 'W5-' || g, 'APT_1BR' FROM generate_series(0, %s) g",
                      self.tenant, self.project, count - 1)

    def wait_settled(self, device):
        """Until the hub has committed all that the device had written when this was called."""
        number = sqlite3.connect(device.replica, timeout=30)
        last = None
        end = time.monotonic() + WAIT_S
        connection = self.site.db.connect()
        connection.autocommit = True
        cur = connection.cursor()
        while time.monotonic() < end:
            if last is None:
                row = number.execute("SELECT max(number) FROM ferry_change_set WHERE state < 3").fetchone()
                last = row[0] if not number.execute("SELECT 1 FROM ferry_log WHERE seq > (SELECT ingested FROM ferry_state) "
                                                    "LIMIT 1").fetchone() else None
            else:
                cur.execute("SELECT settled FROM ferry.device WHERE id = %s", (device.agent.id,))
                if cur.fetchone()[0] >= last:
                    connection.close()
                    return
            time.sleep(0.005)
        raise RuntimeError("the hub has not settled everything after %d s" % WAIT_S)

    @staticmethod
    def plain_replica(path, source):
        """A SQLite file with the source's tables, rows and indexes, and nothing of ours."""
        db = sqlite3.connect(path)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("ATTACH ? AS r", (source,))
        tables = db.execute("SELECT name, sql FROM r.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'ferry%' "
                            "AND name NOT LIKE 'sqlite%'").fetchall()
        for name, sql in tables:
            db.execute(sql)
            db.execute("INSERT INTO main.%s SELECT * FROM r.%s" % (name, name))
        for (sql,) in db.execute("SELECT sql FROM r.sqlite_schema WHERE type = 'index' AND sql IS NOT NULL "
                                 "AND tbl_name NOT LIKE 'ferry%'").fetchall():
            db.execute(sql)
        db.commit()
        db.execute("DETACH r")
        db.close()
        return path
