"""Where the demo is played: PostgreSQL and the hub in the office, devices in the field.

All of it is real; what is written goes through the plain shells of SQLite and PostgreSQL.
"""

import hashlib
import os
import shutil
import subprocess

import ferry_pg
import ferry_run
from ferry_proxy import Proxy

SOURCE = os.environ["FERRY_SOURCE"]
STATE = os.path.join(SOURCE, "build", "demo")
NOBODY = str(ferry_run.NOBODY)
HUB_SETTINGS = {"pg.allow_unsafe": False, "timing.poll": "100ms", "timing.heal": "1s"}
AGENT_SETTINGS = {"link.backoff_min": "100ms", "link.backoff_max": "1s"}


class Problem(Exception):
    """Something was not as it must be; the text says what."""


def say(text=""):
    print(text, flush=True)


def step(text):
    print("\n== " + text, flush=True)


def run(*command, text=""):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, input=text)
    if done.returncode:
        raise Problem("%s failed: %s" % (" ".join(map(str, command[:3])), (done.stderr or done.stdout).strip()))
    return done.stdout


class Office:
    """PostgreSQL, the hub, and plain psql. keep: the programs may outlive the demo."""

    def __init__(self, keep):
        self.keep = keep
        # A unix socket's path must be short, and its folder open to the server's user. Each
        # checkout has its own, so that the demos of two don't meet.
        folder = os.path.join("/tmp", "ferry-demo-%d-%s" % (os.getuid(), hashlib.sha256(STATE.encode()).hexdigest()[:8]))
        ferry_pg.stop_folder(folder)  # of a demo that was killed
        shutil.rmtree(folder, ignore_errors=True)
        try:
            os.makedirs(folder)
        except OSError as e:
            raise Problem("the folder of the demo's PostgreSQL is in the way: %s; remove it" % e) from e
        self.cluster = ferry_pg.Cluster(fsync=True, folder=folder)
        try:
            self.prepare()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Ends PostgreSQL; of its folder only the log stays."""
        self.cluster.stop()
        shutil.copyfile(self.cluster.log, os.path.join(STATE, "postgresql.log"))
        shutil.rmtree(self.cluster.folder, ignore_errors=True)

    def prepare(self):
        database = ferry_pg.Database(self.cluster, "ferry")
        connection = self.cluster.connect()
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE ferry")
        connection.close()
        self.site = ferry_run.Site(db=database, cluster=self.cluster, folder=STATE, hub_settings=HUB_SETTINGS,
                                   start=False, linger=self.keep)
        self.hub = self.site.hub
        say(run(*self.hub.command("migrate")).strip().splitlines()[-1])
        self.tenant = self.hub.tenant("Nile Bay Homes", "nile-bay")
        self.psql(open(os.path.join(SOURCE, "tools", "demo.d", "tenant.sql"), encoding="utf-8").read())

    def psql(self, text):
        """One script in the plain shell; what it prints."""
        return run("psql", "-h", self.cluster.socket, "-U", "postgres", "-d", "ferry", "-qAt", "-v", "ON_ERROR_STOP=1",
                   "-v", "tenant=" + self.tenant, text=text)

    def tool(self, name, *arguments):
        run(os.path.join(ferry_pg.bin_dir(), name), "-h", self.cluster.socket, "-U", "postgres", *arguments)

    def backup(self):
        run(*self.hub.command("backup-mark", "--begin"))
        self.tool("pg_dump", "-Fc", "-f", os.path.join(STATE, "backup"), "ferry")
        run(*self.hub.command("backup-mark"))

    def restore(self):
        """The database is gone, and comes back as it was at the backup."""
        self.hub.stop()
        self.tool("dropdb", "--force", "ferry")
        self.tool("createdb", "ferry")
        self.tool("pg_restore", "--exit-on-error", "-d", "ferry", os.path.join(STATE, "backup"))
        self.hub.start()

    def rows(self, text, *args):
        return self.site.sql(text, *args)

    def value(self, text, *args):
        return self.site.value(text, *args)

    def scopes(self):
        return ["project:" + row[0] for row in self.rows("SELECT id::text FROM inventory.projects")]


class Device:
    """A field device: ferry-agent, its replica, the plain sqlite3 shell, and a link that can be cut."""

    def __init__(self, office, name, person):
        """person: one of the users of tenant.sql, whose device it is."""
        self.office, self.name, self.person = office, name, person
        self.proxy = Proxy(office.hub.device_port, seed=1)
        self.agent = office.site.device(name, office.tenant, office.scopes(), AGENT_SETTINGS, hub_port=self.proxy.port,
                                        user=person.lower() + "@nilebay.example")
        self.agent.start()

    def online(self, on):
        self.proxy.refuse(not on)
        if not on:
            self.proxy.cut()
            self.agent.wait_state("offline")

    def sqlite3(self, sql):
        """The plain shell, as a person would use it."""
        return run("sqlite3", "-cmd", ".timeout 10000", self.agent.replica, sql).strip()
