"""A private PostgreSQL cluster for a test: initdb in a temporary folder, a unix socket, no port.

    with ferry_pg.Cluster() as cluster:
        db = cluster.database()            # migrated: engine and model
        with db.connect() as c: ...        # as the superuser
        with db.connect("ferry_hub") as c: ...

The server runs as the user postgres when the test runs as root, since it refuses root.
FERRY_KEEP=1 leaves the folder (with its log) in place.

Migrating takes seconds, so a cluster is copied from a seed in $FERRY_BUILD that has the templates
of TEMPLATES already. The seed is made by the first test that needs it, and anew when a
migration or the server has changed.
"""

import fcntl
import glob
import hashlib
import os
import pwd
import re
import select
import shutil
import subprocess
import tempfile
import threading
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras

SOURCE = os.environ.get("FERRY_SOURCE") or os.path.abspath(
    os.path.join(os.path.dirname(__file__), "..", ".."))
SQL = os.path.join(SOURCE, "hub", "sql")

QUERY_CONNECTIONS_MAX = 6  # that a thread keeps to a cluster
MEMORY = "/dev/shm"
MEMORY_BYTES_MIN = 4 << 30
TEMPLATES = {("engine", "model"): "template_model", ("engine",): "template_engine"}

psycopg2.extras.register_uuid()


def bin_dir():
    """The newest server that is installed."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if not found:
        raise RuntimeError("no PostgreSQL server found: apt-get install postgresql")
    return os.path.dirname(max(found, key=lambda p: int(p.split("/")[4])))


def migrations(part):
    """(number, name, text) of each migration of a part, in order."""
    out = []
    for path in sorted(glob.glob(os.path.join(SQL, part, "*.sql"))):
        name = os.path.basename(path)
        with open(path, encoding="utf-8") as f:
            out.append((int(name[:4]), name, f.read()))
    return out


def stop_folder(folder):
    """Ends the server of a cluster that an earlier program left running in this folder."""
    data = os.path.join(folder, "data")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run(user + [os.path.join(bin_dir(), "pg_ctl"), "stop", "-w", "-D", data, "-m", "fast"],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/", check=False)


def seed_name():
    """Changes with the server, the migrations and what this file makes of them."""
    text = bin_dir() + "".join(repr(m) for part in ("engine", "model") for m in migrations(part))
    with open(__file__, encoding="utf-8") as f:
        text += f.read()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def quick_folder():
    """Where a cluster that may be lost lives: in memory if there is plenty, for it has thousands of files. None: the usual place."""
    try:
        room = os.statvfs(MEMORY)
        return MEMORY if room.f_bavail * room.f_frsize >= MEMORY_BYTES_MIN and os.access(MEMORY, os.W_OK) else None
    except OSError:
        return None


def copy_seed(data):
    """Copies the seed to this data folder; False without a build folder to keep a seed in."""
    build = os.environ.get("FERRY_BUILD")
    if not build or not os.path.isdir(build):
        return False
    home = os.path.join(build, "postgresql-seed")
    os.makedirs(home, exist_ok=True)
    ready = os.path.join(home, seed_name())
    with open(os.path.join(home, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not os.path.isdir(ready):
            fcntl.flock(lock, fcntl.LOCK_EX)  # lets others in for a moment: look again
            if not os.path.isdir(ready):
                _make_seed(home, ready)
            fcntl.flock(lock, fcntl.LOCK_SH)
        _copy(ready, data)
    return True


def _copy(source, target):
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def _make_seed(home, ready):
    for old in os.listdir(home):
        if old != "lock":
            shutil.rmtree(os.path.join(home, old))
    with Cluster(seeded=False) as cluster:
        for parts in TEMPLATES:
            cluster.template(parts)
        cluster.stop()
        _copy(cluster.data, ready + ".part")
    os.rename(ready + ".part", ready)


class Cluster:
    """fsync and settings (a dict of server settings) are for benchmarks; tests need neither."""

    def __init__(self, fsync=False, settings=None, folder=None, seeded=True):
        self._own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="ferry-pg-", dir=None if fsync else quick_folder())
        self.socket = self.folder
        self._bin = bin_dir()
        self._count = 0
        self._running = False
        self._templates = {}
        self._kept = threading.local()
        self._as = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = ["runuser", "-u", "postgres", "--"]
        os.chmod(self.folder, 0o755)
        self.data = os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "log")
        options = {
            "listen_addresses": "",
            "unix_socket_directories": self.socket,
            "max_connections": "60",
            "max_prepared_transactions": "5",
            "shared_buffers": "128MB",
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            "log_min_messages": "warning",
            "log_min_error_statement": "panic",
            "timezone": "UTC",
        }
        options.update(settings or {})
        if seeded and self._own_folder and copy_seed(self.data):
            self._templates = dict(TEMPLATES)
        elif not os.path.exists(os.path.join(self.data, "PG_VERSION")):
            self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                      "--locale=C.UTF-8", "--no-sync")
        self._options = " ".join("-c %s='%s'" % kv for kv in options.items())
        self.start()

    def _run(self, program, *args):
        done = subprocess.run(self._as + [os.path.join(self._bin, program), *args],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, cwd="/", text=True, check=False)
        if done.returncode:
            log = ""
            if os.path.exists(self.log):
                with open(self.log, encoding="utf-8", errors="replace") as f:
                    log = f.read()[-4000:]
            raise RuntimeError("%s failed:\n%s\n%s" % (program, done.stdout, log))

    def start(self):
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", self.data, "-l", self.log,
                  "-o", self._options)
        self._running = True

    def stop(self, mode="fast"):
        """mode: fast, or immediate (as if the machine had crashed)."""
        if self._running:
            self._running = False
            self._run("pg_ctl", "stop", "-w", "-t", "60", "-D", self.data, "-m", mode)

    def close(self):
        self.stop("immediate")
        if self._own_folder and not os.environ.get("FERRY_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def connect(self, database="postgres", user="postgres", **kw):
        return psycopg2.connect(host=self.socket, dbname=database, user=user, **kw)

    def kept(self, database, user):
        """A connection of this thread's that is kept for the next one who asks: the first statements of a new one cost
        many times as much, since it has read nothing of the catalogue yet. Made anew when the server ended it."""
        if not hasattr(self._kept, "connections"):
            self._kept.connections = {}
        connections = self._kept.connections
        conn = connections.pop((database, user), None)
        if conn is not None and (conn.closed or select.select([conn], [], [], 0)[0]):  # what it has to say is farewell
            conn.close()
            conn = None
        if conn is None:
            conn = self.connect(database, user)
        connections[database, user] = conn
        while len(connections) > QUERY_CONNECTIONS_MAX:
            connections.pop(next(iter(connections))).close()
        return conn

    def forget(self, database):
        """Closes this thread's kept connections to a database: it is to be copied or dropped."""
        connections = getattr(self._kept, "connections", {})
        for key in [k for k in connections if k[0] == database]:
            connections.pop(key).close()

    def database(self, parts=("engine", "model"), name=None):
        """A new database with the parts migrated; copied from one made earlier, to be quick."""
        self._count += 1
        name = name or "ferry%d" % self._count
        self._sql("CREATE DATABASE %s TEMPLATE %s STRATEGY FILE_COPY" % (name, self.template(parts)))
        # A copied sequence believes that its next values are in the WAL already; after a
        # checkpoint it writes them again, and so survives stop("immediate").
        self._sql("CHECKPOINT")
        return Database(self, name)

    def template(self, parts):
        """The name of the database that others with these parts are copied from."""
        name = self._templates.get(parts)
        if name is None:
            name = self._templates[parts] = TEMPLATES.get(parts, "template_%d" % len(self._templates))
            self._sql("CREATE DATABASE %s" % name)
            for part in parts:
                Database(self, name).migrate(part)
        return name

    def _sql(self, text):
        conn = self.connect()
        try:
            conn.autocommit = True
            with conn.cursor() as cur:
                cur.execute(text)
        finally:
            conn.close()


class Database:
    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    def dsn(self, user="ferry_hub"):
        """For programs that are started with a libpq connection string."""
        return "host=%s dbname=%s user=%s" % (self.cluster.socket, self.name, user)

    def connect(self, user="postgres", **kw):
        return self.cluster.connect(self.name, user, **kw)

    def migrate(self, part):
        """What ferry-hub migrate does: each file once, whole, in a transaction of its own."""
        conn = self.connect()
        try:
            with conn.cursor() as cur:
                cur.execute("SELECT to_regclass('ferry.migration') IS NOT NULL")
                done = set()
                if cur.fetchone()[0]:
                    cur.execute("SELECT number FROM ferry.migration WHERE part = %s", (part,))
                    done = {row[0] for row in cur.fetchall()}
                conn.rollback()
                for number, name, text in migrations(part):
                    if number in done:
                        continue
                    try:
                        cur.execute(text)
                    except psycopg2.Error as e:
                        raise RuntimeError("%s/%s: %s" % (part, name, _where(e, text))) from e
                    cur.execute("INSERT INTO ferry.migration (part, number, name, sha256) "
                                "VALUES (%s, %s, %s, %s)",
                                (part, number, name, hashlib.sha256(text.encode()).digest()))
                    conn.commit()
        finally:
            conn.close()

    def query(self, text, args=None, user="postgres", tenant=None):
        """One transaction of one statement; rows as a list of tuples (empty for none). Settings must be local to it."""
        conn = self.cluster.kept(self.name, user)
        try:
            with conn.cursor() as cur:
                if tenant is not None:
                    cur.execute("SELECT set_config('app.tenant_id', %s, true)", (str(tenant),))
                cur.execute(text, args)
                rows = cur.fetchall() if cur.description else []
            conn.commit()
            return rows
        finally:
            if not conn.closed:
                conn.rollback()  # of a statement that failed

    def value(self, text, args=None, **kw):
        rows = self.query(text, args, **kw)
        return rows[0][0] if rows else None


def _where(error, text):
    """The message with the line of the file it points to."""
    message = str(error).strip()
    at = error.diag.statement_position
    if at:
        line = text.count("\n", 0, int(at) - 1) + 1
        message = "line %d: %s" % (line, message)
    return re.sub(r"\n\s*\^", "", message)


def wait_until(condition, seconds=10.0, what="the condition"):
    """Polls until condition() is true; its value. A deadline, never a fixed sleep: what takes long is asked
    ever less often, up to every 50 ms, so that asking does not take the processor from what is awaited."""
    end = time.monotonic() + seconds
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("%s did not come within %g s" % (what, seconds))
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)


def wait_blocked(db, pid, seconds=10.0):
    """Waits until the backend pid waits for a lock."""
    return wait_until(lambda: db.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)),
                      seconds, "a wait for a lock in backend %d" % pid)
