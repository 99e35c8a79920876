"""Runs the real programs: a hub over a PostgreSQL database, and devices, in one folder.

    with ferry_run.Site() as site:                 # cluster, database, hub: all running
        tenant = site.hub.tenant("Acme")
        a = site.device("a", tenant, scopes=["project:" + project])   # enrolled by a real token
        a.start()
        site.wait_settled(a)                       # its changes are at the hub, the hub's are here
        a.sql("UPDATE leads SET score = 7")        # as any app would, with Python's sqlite3
        site.sql("SELECT ...")                     # as psql would, as a superuser
        print(ferry_run.differences(site.db, a))   # [] when replica and hub agree, row by row

The programs come from $FERRY_BUILD/bin (default build/release). Every wait has a deadline and
says what it waited for. Processes die with their parent unless Site(linger=True).
FERRY_KEEP=1 leaves the folders; site.logs() is what the programs said.
"""

import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import unittest
import uuid

import ferry_pg
import ferry_socket

wait_until = ferry_pg.wait_until
NOBODY = uuid.UUID(int=0)  # the reserved tenant of global rows
LOG_TAIL = 6000

# What makes tests quick; everything else is as shipped.
HUB_SETTINGS = {"pg.allow_unsafe": True, "timing.poll": "10ms", "timing.registry": "100ms", "timing.drain": "2s"}
AGENT_SETTINGS = {"link.backoff_min": "10ms", "link.backoff_max": "250ms"}


def program(name):
    """The path of a built program."""
    build = os.environ.get("FERRY_BUILD") or os.path.join(ferry_pg.SOURCE, "build", "release")
    path = os.path.join(build, "bin", name)
    if not os.path.exists(path):
        raise RuntimeError("%s is not built: cmake --build %s" % (path, build))
    return path


PORTS = range(10240, 32768)  # below those that the kernel gives to connections, which would take one of a killed program
_held = []


def free_port():
    """A loopback port that nothing listens on, and that no other test gets as long as this process lives: a
    program that is killed finds it free when it starts again."""
    for port in random.SystemRandom().sample(PORTS, 1000):
        name = socket.socket(socket.AF_UNIX)
        with socket.socket() as s:
            try:
                name.bind("\0ferry-test-port-%d" % port)
                s.bind(("127.0.0.1", port))
            except OSError:
                name.close()
                continue
        _held.append(name)
        return port
    raise RuntimeError("no port is free")


def write_settings(path, settings):
    """A configuration file from {"hub.port": 1, "log_level": "info"}."""
    sections = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        sections.setdefault(section, []).append((key, value))
    with open(path, "w", encoding="utf-8") as f:
        for section in sorted(sections):  # "" first: keys of the top
            if section:
                f.write(section + ":\n")
            for key, value in sections[section]:
                f.write("%s%s: %s\n" % ("  " if section else "", key, json.dumps(value)))


class CommandFailed(RuntimeError):
    """A command ended with another exit code than 0."""

    def __init__(self, arguments, done):
        super().__init__("%s ended with %d\n%s%s" % (" ".join(arguments), done.returncode, done.stdout, done.stderr))
        self.exit_code = done.returncode
        self.stdout, self.stderr = done.stdout, done.stderr
        self.error = {}  # with --json: code, number, sentence, advice
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            self.error = json.loads(done.stdout).get("error", {})


class Program:
    """One long-running process and its command line. Subclasses say how it is started."""

    name = ""       # of the binary
    run_command = ""

    def __init__(self, folder, settings, linger=False):
        self.folder = folder
        self.state = os.path.join(folder, "state")
        self.config = os.path.join(folder, "settings.yaml")
        self.log = os.path.join(folder, "log")
        self.settings = settings
        self.process = None
        self.linger = linger
        os.makedirs(self.state, exist_ok=True)
        self.configure()

    def configure(self, **changes):
        """Writes the configuration; keys as "link__credit" for link.credit. Read at the next start."""
        self.settings.update((key.replace("__", "."), value) for key, value in changes.items())
        write_settings(self.config, self.settings)

    def command(self, *arguments):
        return [program(self.name), *map(str, arguments), "--config", self.config, "--state-dir", self.state]

    def run(self, *arguments, stdin="", timeout=60):
        """Runs a command to its end; the subprocess.CompletedProcess, whatever the exit code."""
        return subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=timeout,
                              check=False)

    def json(self, *arguments, timeout=60):
        """The same with --json, parsed; CommandFailed when it fails."""
        done = self.run(*arguments, "--json", timeout=timeout)
        if done.returncode:
            raise CommandFailed([self.name, *map(str, arguments)], done)
        return json.loads(done.stdout)

    # ---- the process

    def start(self, env=None):
        """Starts it; returns at once. env: more environment variables."""
        assert not self.running(), "%s runs already" % self.folder
        fate = [] if self.linger else ["setpriv", "--pdeathsig", "KILL", "--"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(fate + self.command(self.run_command), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=dict(os.environ, **(env or {})), start_new_session=True)
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def stop(self, seconds=15):
        """SIGTERM; its exit code. A process that stays is killed, and that is an error."""
        if self.process is None:
            return None
        if self.running():
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError("%s did not stop within %g s of SIGTERM" % (self.folder, seconds)) from None

    def kill9(self):
        """As a crash of it: nothing it could still do."""
        if self.running():
            self.process.kill()
        if self.process is not None:
            self.process.wait(10)

    def wait_exit(self, seconds=15):
        """Waits until it ends by itself; its exit code."""
        return self.process.wait(seconds)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def log_text(self):
        if not os.path.exists(self.log):
            return ""
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def log_size(self):
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def wait_log(self, text, seconds=15, since=0):
        """Waits for a text in its log, from byte `since` on."""
        def seen():
            if not os.path.exists(self.log):
                return False
            with open(self.log, "rb") as f:
                f.seek(since)
                return text.encode() in f.read()
        wait_until(seen, seconds, "%r in the log of %s" % (text, self.folder))


class Hub(Program):
    """A hub over a ferry_pg.Database that is migrated."""

    name = "ferry-hub"
    run_command = "serve"

    def __init__(self, folder, db, settings=None, linger=False):
        self.db = db
        self.device_port, self.enrol_port = free_port(), free_port()
        super().__init__(folder, dict(HUB_SETTINGS, **{
            "database": db.dsn("ferry_hub"), "admin_database": db.dsn("postgres"),
            "device.port": self.device_port, "enrol.port": self.enrol_port,
            "sql_dir": ferry_pg.SQL},  # the build folder may lie anywhere
            **(settings or {})), linger)

    def start(self, env=None, seconds=30):
        """Starts it and waits until devices may come."""
        since = self.log_size()
        super().start(env)

        def ready():
            if not self.running():
                raise RuntimeError("the hub ended with %d at its start:\n%s" % (self.process.returncode, self.log_text()[-LOG_TAIL:]))
            with open(self.log, "rb") as f:
                f.seek(since)
                return b"event=ready" in f.read()
        wait_until(ready, seconds, "the hub's start")
        return self

    def status(self):
        return self.json("status")

    def tenant(self, name, slug=None):
        """A new tenant's uuid, as text."""
        return self.json("tenant", "create", name, *(["--slug", slug] if slug else []))["id"]

    def token(self, tenant, name, scopes=(), **options):
        """An enrolment token. options: user, ttl, class_ (as the command line's)."""
        arguments = [x for scope in scopes for x in ("--scope", scope)]
        for key, value in options.items():
            arguments += ["--" + key.rstrip("_"), value]
        return self.json("token", "create", "--tenant", tenant, "--name", name, *arguments)["token"]

    def head(self, tenant):
        """The newest position that concerns the tenant's devices."""
        return self.db.value("SELECT greatest((SELECT position FROM ferry.head(%s)), (SELECT position FROM ferry.head(%s)), 0)",
                             (tenant, NOBODY))


class Agent(Program):
    """A device. hub_port: where it finds the hub instead of where it enrolled (a proxy)."""

    name = "ferry-agent"
    run_command = "run"

    def __init__(self, folder, settings=None, hub_port=None, linger=False):
        self.tenant = self.id = None
        self.label = os.path.basename(folder)
        settings = dict(AGENT_SETTINGS, **(settings or {}))
        if hub_port:
            settings["hub.port"] = hub_port
        super().__init__(folder, settings, linger)
        self.replica = os.path.join(self.state, "replica.db")

    def enrol(self, token, *options):
        answer = self.json("enrol", token, *options)
        self.id, self.tenant = answer["device"], answer["tenant"]
        return answer

    def status(self):
        return self.json("status")

    def sync(self, wait=30):
        """Connects, exchanges everything, ends: for a device whose agent does not run."""
        return self.json("sync", "--wait", wait, timeout=wait + 90)

    # ---- the replica, as an app uses it

    def connect(self):
        """A plain sqlite3 connection in autocommit; the caller closes it."""
        db = sqlite3.connect(self.replica, timeout=30, isolation_level=None)
        db.row_factory = sqlite3.Row
        return db

    def sql(self, text, *args):
        """One statement on a connection of its own; its rows as tuples."""
        with contextlib.closing(self.connect()) as db:
            return [tuple(row) for row in db.execute(text, args)]

    def value(self, text, *args):
        rows = self.sql(text, *args)
        return rows[0][0] if rows else None

    def row(self, table, key):
        """A row as a dict, or None."""
        with contextlib.closing(self.connect()) as db:
            row = db.execute('SELECT * FROM "%s" WHERE id = ?' % table, (str(key),)).fetchone()
            return dict(row) if row else None

    @contextlib.contextmanager
    def transaction(self):
        """A write transaction: `with a.transaction() as db: db.execute(...)`."""
        with contextlib.closing(self.connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def standing(self):
        """(position, rows in the outbox, change-sets in the outbox); (-1, 0, 0) before the first contact."""
        if not os.path.exists(self.replica):
            return (-1, 0, 0)
        return self.sql("SELECT position, waiting_rows, waiting_sets FROM ferry_status")[0]

    def wait_filled(self, seconds=60):
        """Waits until the replica has its first full state."""
        wait_until(lambda: self.standing()[0] >= 0, seconds, "the first fill of " + self.label)

    def wait_state(self, state, seconds=20):
        wait_until(lambda: self.status()["state"] == state, seconds, "the state %s of %s" % (state, self.label))


class Site:
    """A cluster, a database, a hub and devices in one folder. What is given is used, the rest is made.

    folder: stays when given, is temporary otherwise. start=False: the hub is not started.
    proxy: agents find the hub at this port unless told otherwise.
    """

    def __init__(self, cluster=None, db=None, folder=None, hub_settings=None, start=True, linger=False, proxy=None):
        self._own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="ferry-site-")
        os.chmod(self.folder, 0o755)
        self.linger = linger
        self.proxy = proxy
        self.devices = []
        self._own_cluster = cluster is None and db is None
        self.cluster = cluster or (db.cluster if db else ferry_pg.Cluster(
            folder=self._make_folder("postgresql") if folder else None))
        try:
            self.db = db or self.cluster.database()
            self.hub = Hub(self._make_folder("hub"), self.db, hub_settings, linger)
            if start:
                self.hub.start()
        except BaseException:
            if self._own_cluster:
                self.cluster.close()
            raise

    def _make_folder(self, name):
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        return path

    def device(self, name, tenant, scopes=(), settings=None, hub_port=None, start=False, **token):
        """A device that is enrolled (and started)."""
        agent = Agent(self._make_folder(name), settings, hub_port or self.proxy, self.linger)
        agent.enrol(self.hub.token(tenant, name, scopes, **token))
        self.devices.append(agent)
        return agent.start() if start else agent

    def sql(self, text, *args):
        """One statement in a transaction of its own, as the superuser; rows as tuples."""
        return self.db.query(text, args or None)

    def value(self, text, *args):
        return self.db.value(text, args or None)

    def wait_settled(self, *devices, seconds=60):
        """Waits until everything written so far, on these devices (default: all) and at the hub, is everywhere."""
        devices = devices or self.devices
        left = []

        def standings():
            return ((d, d.standing()) for d in devices)

        def settled():
            left[:] = [(d.label, *now) for d, now in standings() if now[1:] != (0, 0)]
            if left:
                return False
            heads = {tenant: self.hub.head(tenant) for tenant in {d.tenant for d in devices}}
            left[:] = [(d.label, *now, heads[d.tenant]) for d, now in standings()
                       if now[0] < heads[d.tenant] or now[1:] != (0, 0)]
            return not left
        try:
            wait_until(settled, seconds)
        except AssertionError:
            raise AssertionError("not settled within %g s: (device, position, rows and change-sets waiting[, hub's position]) %s"
                                 % (seconds, left)) from None

    def differences(self, *devices):
        """What differs between the replicas (default: all) and the hub, as sentences."""
        return [text for d in devices or self.devices for text in differences(self.db, d)]

    def logs(self):
        """The ends of all logs, with headings."""
        texts = []
        for p in [self.hub, *self.devices]:
            texts.append("---- %s\n%s" % (p.log, p.log_text()[-LOG_TAIL:]))
        return "\n".join(texts)

    def stop(self):
        """Stops agents, then the hub; the cluster stays."""
        for p in [*self.devices, self.hub]:
            p.stop()

    def close(self):
        for p in [*self.devices, self.hub]:
            p.kill9()
        if self._own_cluster:
            self.cluster.close()
        if self._own_folder and not os.environ.get("FERRY_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class SiteCase(unittest.TestCase):
    """One site a file; a test makes its own tenant and devices. A failure shows the logs."""

    HUB_SETTINGS = None

    @classmethod
    def setUpClass(cls):
        cls.site = Site(hub_settings=cls.HUB_SETTINGS)
        cls.hub, cls.db = cls.site.hub, cls.site.db

    @classmethod
    def tearDownClass(cls):
        cls.site.close()

    def setUp(self):
        self.tenant = self.hub.tenant("Tenant " + self.id().split(".")[-1][:40], "t" + uuid.uuid4().hex[:12])
        self.project = self.new_project()
        self._devices = []

    def tearDown(self):
        for d in self._devices:
            d.kill9()
            self.site.devices.remove(d)

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before and hasattr(self, "_devices"):
            for p in [self.site.hub, *self._devices]:
                print("---- %s\n%s" % (p.log, p.log_text()[-LOG_TAIL:]), flush=True)
        return result

    # ---- short words

    def device(self, label, tenant=None, scopes=None, **options):
        """A started device that holds the test's project, in a folder of its own."""
        scopes = ["project:" + self.project] if scopes is None else scopes
        options.setdefault("start", True)
        agent = self.site.device("%s-%s" % (label, uuid.uuid4().hex[:8]), tenant or self.tenant, scopes, **options)
        self._devices.append(agent)
        return agent

    def session(self, device):
        """A session that the test speaks itself, with the device's certificate; closed at the test's end."""
        folder = os.path.join(device.state, "identity")
        s = ferry_socket.Session(self.hub.device_port, os.path.join(folder, "device.crt"), os.path.join(folder, "device.key"))
        self.addCleanup(s.close)
        return s

    def new_project(self, tenant=None, name="Palm"):
        return str(self.site.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, %s) RETURNING id",
                                   tenant or self.tenant, name))

    def new_unit(self, code="A-1", project=None, tenant=None, **columns):
        """A unit made at the hub; its id."""
        columns = dict({"tenant_id": tenant or self.tenant, "project_id": project or self.project, "code": code,
                        "unit_type_code": "APT_1BR"}, **columns)
        return str(self.site.value("INSERT INTO inventory.units (%s) VALUES (%s) RETURNING id" % (
            ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values()))

    def settle(self, *devices, seconds=60):
        self.site.wait_settled(*(devices or self._devices), seconds=seconds)

    def assert_same(self, *devices):
        """The replicas equal the hub's rows in their scopes, and the engine's own books are sound."""
        for d in devices or self._devices:
            self.assertEqual(differences(self.db, d), [])
        self.assertEqual(self.site.sql("SELECT * FROM ferry.verify()"), [])


# ---------------------------------------------------------------- replica against hub

def scope_expression(cur, table):
    """SQL for the scopes (text[]) of row r of a tracked table, and its joins, from foreign keys and the model alone."""
    lists, joins = [], ""
    if table["relid"] == "ferry.approval":  # wherever its row is; that is compared with the row's own table
        return ("coalesce(about.scope || about.also, ARRAY[r.scope])",
                " LEFT JOIN ferry.version about ON about.tenant_id = r.tenant_id AND about.tbl = r.tbl AND about.key = r.subject_id")
    for n, way in enumerate(table["scope"].split("|")):
        expression, more = root_expression(cur, table, way, "p%d_" % n)
        lists.append(expression)
        joins += more
    suffix = "'%s'" % ("/" + table["read_permission"] if table["read_permission"] else "")
    if table["archives"]:
        suffix += " || CASE WHEN r.deleted_at IS NULL THEN '' ELSE '+archived' END"
    roots = "array_remove(%s, NULL)" % " || ".join(lists)
    return "ARRAY(SELECT x || %s FROM unnest(CASE WHEN %s = '{}' THEN ARRAY['tenant'] ELSE %s END) x)" % (suffix, roots, roots), joins


def root_expression(cur, table, scope, names):
    """One way to a row's scopes, without permission and archive; elements may be NULL."""
    word, colon, path = scope.partition(":")
    if not colon:
        if word == "global":
            return "ARRAY[CASE WHEN r.%s = '%s' THEN 'global' ELSE 'tenant' END]" % (quote(table["tenant_col"]), NOBODY), ""
        return "ARRAY['tenant']", ""
    joins, alias, relation = "", "r", table["relid"]
    hops = path.split(".")
    for n, hop in enumerate(hops[:-1]):
        cur.execute("""
            SELECT c.confrelid::regclass::text, t.tenant_col, t.key_col
            FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = %s
            JOIN ferry.tracked t ON t.relid = c.confrelid
            WHERE c.contype = 'f' AND c.conrelid = %s::regclass AND a.attnum = ANY (c.conkey)""", (hop, relation))
        parent, tenant_col, key_col = cur.fetchone()
        joins += " LEFT JOIN %s %s%d ON %s%d.%s = r.%s AND %s%d.%s = %s.%s" % (
            parent, names, n, names, n, quote(tenant_col), quote(table["tenant_col"]), names, n, quote(key_col), alias, quote(hop))
        alias, relation = "%s%d" % (names, n), parent
    if word == "row":
        return "ARRAY[%s.%s]" % (alias, quote(hops[-1])), joins
    cur.execute("SELECT typcategory = 'A' FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid WHERE a.attrelid = %s::regclass "
                "AND a.attname = %s", (relation, hops[-1]))
    if cur.fetchone()[0]:
        return "ARRAY(SELECT '%s:' || e FROM unnest(%s.%s) e)" % (word, alias, quote(hops[-1])), joins
    return "ARRAY['%s:' || %s.%s]" % (word, alias, quote(hops[-1])), joins


def quote(name):
    return '"%s"' % name.replace('"', '""')


def sql_value(column):
    """SQL that gives a column of r in the form that a replica holds it in (text but for numbers and bytes)."""
    name, kind = "r." + quote(column["name"]), column["kind"]
    if kind in ("bool", "int"):
        return "%s::int::int8" % name if kind == "bool" else name + "::int8"
    if kind == "float":
        return name + "::float8"
    if kind == "bytes":
        return name
    if kind == "timestamptz":
        return ("CASE WHEN isfinite(%s) THEN to_char(%s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') || "
                "CASE WHEN %s < '0001-01-01 00:00:00Z' THEN ' BC' ELSE '' END ELSE %s::text END" % ((name,) * 4))
    if kind == "array":
        return "array_to_json(%s)::text" % name
    if kind == "other":
        return "CASE WHEN %s IS NOT NULL THEN format('%%s', %s) END" % (name, name)
    return name + "::text"


def plain(value, kind):
    """One value of either side in a form that compares."""
    if isinstance(value, memoryview):
        return bytes(value)
    if kind == "float" and value is not None:
        return repr(float(value))
    if kind == "array" and value is not None:
        return json.loads(value)
    return value


def dicts(cur, text):
    cur.execute(text)
    names = [d[0] for d in cur.description]
    return [dict(zip(names, row)) for row in cur.fetchall()]


def catalogue(cur):
    """[(table, columns)] of everything that devices get, as dicts."""
    tables = dicts(cur, "SELECT tbl, relid::regclass::text AS relid, replica_name, key_col, tenant_col, scope, "
                        "read_permission, archives FROM ferry.tracked ORDER BY rank, tbl")
    columns = dicts(cur, "SELECT tbl, num, name, kind FROM ferry.tracked_column ORDER BY tbl, num")
    return [(t, [c for c in columns if c["tbl"] == t["tbl"]]) for t in tables]


def by_key(table, columns, rows):
    key = [c["name"] for c in columns].index(table["key_col"])
    rows = [tuple(plain(v, c["kind"]) for v, c in zip(row, columns)) for row in rows]
    return {row[key]: row for row in rows}


def hub_rows(cur, table, columns, tenant, scopes, along):
    """{key: values} of a table's rows in these scopes of a tenant, and of those whose keys come along, by plain SQL over
    the model."""
    scope, joins = scope_expression(cur, table)
    owner = "r." + quote(table["tenant_col"])
    text = "SELECT %s FROM %s r%s WHERE (%s && %%s::text[] OR r.%s = ANY (%%s::uuid[])) AND (%s = %%s AND 'global' <> ALL (%s) OR %s = %%s AND 'global' = ANY (%s))" % (
        ", ".join(sql_value(c).replace("%", "%%") for c in columns), table["relid"], joins, scope, quote(table["key_col"]), owner, scope, owner, scope)
    cur.execute(text, (list(scopes), list(along), str(tenant), str(NOBODY)))
    return by_key(table, columns, cur.fetchall())


def referred(cur, table, columns, rows):
    """{table's number: keys} of the parents that rows bring along."""
    cur.execute("SELECT to_tbl, num FROM ferry.bring WHERE tbl = %s", (table["tbl"],))
    places = {c["num"]: i for i, c in enumerate(columns)}
    return {to: {row[places[num]] for row in rows.values()} - {None} for to, num in cur.fetchall()}


def replica_rows(replica, table, columns):
    rows = replica.execute("SELECT %s FROM %s" % (", ".join(quote(c["name"]) for c in columns), quote(table["replica_name"])))
    return by_key(table, columns, rows)


def differences(db, agent, limit=20):
    """Compares every synced table of a replica, row by row and value by value, with the hub's rows that lie in the
    device's scopes. It trusts nothing of the engine but the list of tables and of the device's scopes: scopes of rows
    are computed from the model's foreign keys, values are read from the model's tables. [] when all is equal."""
    found = []
    compared = 0
    with contextlib.closing(agent.connect()) as replica, contextlib.closing(db.connect(
            options="-c TimeZone=UTC -c DateStyle=ISO -c extra_float_digits=1 -c IntervalStyle=postgres")) as conn:
        cur = conn.cursor()
        replica.execute("BEGIN")  # one snapshot of each side
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cur.execute("SELECT scope FROM ferry.held_scope WHERE device_id = %s AND reads", (agent.id,))
        scopes = [row[0] for row in cur.fetchall()]
        assert scopes, "the device %s holds no scope" % agent.id
        along = {}
        for table, columns in reversed(catalogue(cur)):  # rows before the parents that they bring along
            ours = replica_rows(replica, table, columns)
            theirs = hub_rows(cur, table, columns, agent.tenant, scopes, along.get(table["tbl"], ()))
            for to, keys in referred(cur, table, columns, theirs).items():
                along.setdefault(to, set()).update(keys)
            compared += len(theirs)
            if ours != theirs:
                found += table_differences("%s: %s" % (agent.label, table["replica_name"]), columns, ours, theirs)
    assert compared, "nothing to compare: the hub has no row in the scopes of %s" % agent.label
    return found[:limit] + (["... and %d more" % (len(found) - limit)] if len(found) > limit else [])


def table_differences(where, columns, ours, theirs):
    found = ["%s %s is missing in the replica" % (where, key) for key in sorted(theirs.keys() - ours.keys())]
    found += ["%s %s is in the replica but not in the hub's scopes" % (where, key) for key in sorted(ours.keys() - theirs.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        found += ["%s %s.%s is %r in the replica, %r at the hub" % (where, key, c["name"], a, b)
                  for c, a, b in zip(columns, ours[key], theirs[key]) if a != b]
    return found


def now_text():
    """The time as a replica holds it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
