"""One PostgreSQL, two hubs, some devices, in one folder; and the runs that are played on them, one after
the other. Devices, hubs and database go on from run to run: each run has new registers. A run that fails
ends its lane, and the next one gets a new.

Numbers of a run come from its seed alone: which client does what, when what is harmed. How the processes
interleave does not, so a failure may need its seed several times.
"""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
import uuid

import ferry_pg
import ferry_run
from ferry_proxy import Proxy
from record import Record, Register, Transaction

DEVICES_MIN, DEVICES_MAX = 5, 10
STEPS = 60                # transactions and harm of a run
REGISTERS = 8
SETTLE_SECONDS = 90       # on a machine that does much else
FULL_CHECK_EVERY = 25     # runs: all tables of all replicas, the engine's books
BUSY_SECONDS = 0.05       # how long an app waits for a replica whose agent was stopped while it wrote

# A peer that says nothing is dead in a second, so that runs are short.
HUB_SETTINGS = {"timing.poll": "50ms", "timing.registry": "1s"}
AGENT_SETTINGS = {"link.ping_interval": "400ms", "link.connect_timeout": "2s", "link.greeting_timeout": "3s"}
DATABASE_SETTINGS = {"shared_buffers": "48MB", "max_connections": "80"}

TABLE = """
    CREATE SCHEMA histories;
    CREATE TABLE histories.registers (
        tenant_id uuid NOT NULL, id uuid NOT NULL, project_id uuid NOT NULL,
        s bigint[] NOT NULL DEFAULT '{}', v bigint NOT NULL DEFAULT 0, w bigint, n bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant_id, id),
        FOREIGN KEY (tenant_id, project_id) REFERENCES inventory.projects (tenant_id, id));
    SELECT ferry.isolate('histories.registers');
    SELECT ferry.track('histories.registers', scope => 'project:project_id');
    SELECT ferry.policy('histories.registers', 's', 'set');
    SELECT ferry.policy('histories.registers', 'v', 'max');
    SELECT ferry.policy('histories.registers', 'n', 'counter');
"""

FAILURES = (AssertionError, RuntimeError, sqlite3.Error, ferry_pg.psycopg2.Error, OSError)


class Device:
    """An agent, its proxy, and the app on it."""

    def __init__(self, lane, label):
        self.proxy = Proxy(lane.hubs[0].device_port)
        self.agent = ferry_run.Agent(os.path.join(lane.folder, label), AGENT_SETTINGS, self.proxy.port)
        self.agent.enrol(lane.hubs[0].token(lane.tenant, label, ["project:" + p for p in lane.projects]))
        self.label = label
        self.db = None

    def connect(self):
        """The app's connection, in autocommit. A new one reads the schema of the whole model, so it is kept."""
        if self.db is None:
            self.db = sqlite3.connect(self.agent.replica, timeout=BUSY_SECONDS, isolation_level=None)
        return self.db

    def disconnect(self):
        if self.db is not None:
            self.db.close()
            self.db = None

    def standing(self):
        """(position, rows waiting, change-sets waiting); None where the agent was stopped while it wrote."""
        if not os.path.exists(self.agent.replica):
            return -1, 0, 0
        try:
            return self.connect().execute("SELECT position, waiting_rows, waiting_sets FROM ferry_status").fetchone()
        except sqlite3.OperationalError:
            return None

    def wait_filled(self):
        ferry_run.wait_until(lambda: (self.standing() or (-1,))[0] >= 0, SETTLE_SECONDS, "the first fill of " + self.label)

    def read(self, keys):
        return registers(self.connect().execute("SELECT id, s, v, w, n FROM registers"), keys)

    def transact(self, record, choice):
        """One transaction of an app: reads all, writes some. choice: what to write, see Run.choose."""
        if choice.new_connection:
            self.disconnect()
        db = self.connect()
        try:
            db.execute("BEGIN IMMEDIATE" if choice.writes or choice.adds else "BEGIN")
            reads = registers(db.execute("SELECT id, s, v, w, n FROM registers"), record.keys)
        except sqlite3.OperationalError:  # its agent was stopped while it wrote; or it has no tables yet
            if db.in_transaction:
                db.execute("ROLLBACK")
            return
        if len(reads) < len(record.keys):  # none: a new device before its first state
            if reads:
                record.note("atomic: %s sees %d of %d rows of one transaction" % (self.label, len(reads), len(record.keys)))
            db.execute("ROLLBACK")
            return
        t = Transaction(self.label, record.next_number(), reads, choice.writes, choice.adds)
        record.add(t)
        self._write(db, t, choice.declared)
        db.execute("ROLLBACK" if choice.undone else "COMMIT")
        t.done = not choice.undone

    def _write(self, db, t, declared):
        for key in t.writes:
            db.execute("UPDATE registers SET s = json_insert(s, '$[#]', ?1), v = ?1, w = ?1 WHERE id = ?2", (t.number, key))
        for key in t.adds:
            db.execute("UPDATE registers SET n = n + 1 WHERE id = ?", (key,))
        if declared and t.writes:
            db.execute("INSERT INTO ferry_tx(note) VALUES ('declared')")

    def close(self):
        self.disconnect()
        self.agent.kill9()
        self.proxy.close()


class Office:
    """The same work by plain SQL at PostgreSQL."""

    label = "office"

    def __init__(self, lane):
        self.lane = lane

    def read(self, keys):
        return registers(self.lane.sql("SELECT id::text, s, v, w, n FROM histories.registers WHERE tenant_id = %s AND id = ANY (%s)",
                                            self.lane.tenant, [uuid.UUID(k) for k in keys]), keys)

    def transact(self, record, choice):
        conn = self.lane.connect()
        conn.set_session(isolation_level="REPEATABLE READ")
        t = None
        try:
            cur = conn.cursor()
            cur.execute("SELECT id::text, s, v, w, n FROM histories.registers WHERE tenant_id = %s", (self.lane.tenant,))
            t = Transaction(self.label, record.next_number(), registers(cur.fetchall(), record.keys), choice.writes,
                            choice.adds, done=False)
            record.add(t)
            self._write(cur, t)
            if choice.undone:
                conn.rollback()
            else:
                t.done = None  # until the answer is here
                conn.commit()
                t.done = True
        except ferry_pg.psycopg2.Error as error:
            if t and (error.pgcode or "")[:2] in ("40", "55"):  # somebody wrote the same at the same time: undone whole
                t.done = False
        finally:
            if not conn.closed:
                conn.rollback()
                conn.set_session(isolation_level="READ COMMITTED")

    def _write(self, cur, t):
        for key in t.writes:
            cur.execute("UPDATE histories.registers SET s = s || %s::bigint, v = %s, w = %s WHERE tenant_id = %s AND id = %s",
                        (t.number, t.number, t.number, self.lane.tenant, key))
        for key in t.adds:
            cur.execute("UPDATE histories.registers SET n = n + 1 WHERE tenant_id = %s AND id = %s", (self.lane.tenant, key))


def registers(rows, keys):
    wanted = set(keys)
    return {key: Register(frozenset(json.loads(s) if isinstance(s, str) else s), v, w, n)
            for key, s, v, w, n in map(tuple, rows) if key in wanted}


class Lane:
    def __init__(self, folder, number):
        self.folder, self.number = folder, number
        os.makedirs(folder)
        os.chmod(folder, 0o755)
        cluster_folder = os.path.join(folder, "postgresql")
        os.makedirs(cluster_folder)
        self.cluster = ferry_pg.Cluster(folder=cluster_folder, settings=DATABASE_SETTINGS)
        self.site = ferry_run.Site(cluster=self.cluster, folder=folder, hub_settings=HUB_SETTINGS)
        self.connection = None
        self.devices, self.hubs = [], [self.site.hub]
        self.runs = 0
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self):
        self.site.sql(TABLE)
        os.makedirs(os.path.join(self.folder, "hub-2"))
        second = ferry_run.Hub(os.path.join(self.folder, "hub-2"), self.site.db, dict(HUB_SETTINGS, **{
            "admin.socket": os.path.join(self.folder, "hub-2", "admin.sock")}))
        second.state = self.site.hub.state  # the same CA
        self.hubs.append(second.start())
        self.tenant = self.site.hub.tenant("Lane %d" % self.number, "lane-%d" % self.number)
        self.projects = [str(self.site.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, %s) RETURNING id",
                                             self.tenant, n)) for n in ("P", "Q")]
        self.office = Office(self)
        self.labels = 0
        for _ in range(DEVICES_MIN):
            self.add_device()
        for d in self.devices:
            d.wait_filled()

    # ---- PostgreSQL, on one connection as long as it lives

    def connect(self):
        if self.connection is None or self.connection.closed:
            self.connection = self.site.db.connect(options="-c lock_timeout=2s")
        return self.connection

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def sql(self, text, *args):
        """A statement in a transaction of its own; rows as tuples."""
        conn = self.connect()
        with conn.cursor() as cur:
            cur.execute(text, args or None)
            rows = cur.fetchall() if cur.description else []
        conn.commit()
        return rows

    def head(self):
        return self.sql("SELECT greatest((SELECT position FROM ferry.head(%s)), (SELECT position FROM ferry.head(%s)), 0)",
                        self.tenant, ferry_run.NOBODY)[0][0]

    # ---- devices

    def add_device(self):
        self.labels += 1
        device = Device(self, "device-%d" % self.labels)
        self.devices.append(device)
        device.agent.start()
        return device

    def drop_device(self, device):
        self.devices.remove(device)
        device.close()
        shutil.rmtree(device.agent.folder, ignore_errors=True)

    def processes(self):
        return [*self.hubs, *(d.agent for d in self.devices)]

    def close(self):
        self.disconnect()
        for d in self.devices:
            d.close()
        for h in self.hubs:
            h.kill9()
        self.cluster.close()


class Run:
    """One seed under one nemesis."""

    def __init__(self, lane, seed, nemesis):
        self.lane, self.seed = lane, seed
        self.rng = random.Random("%s %d" % (nemesis.name, seed))
        self.story = []
        self.nemesis = nemesis(self)
        self.record = None
        self.log_from = {p: p.log_size() for p in lane.processes()}

    def play(self):
        """The sentences of what is wrong; [] when nothing."""
        self._change_fleet()
        self._make_registers()
        try:
            for _ in range(STEPS):
                self._step()
                time.sleep(self.rng.random() ** 3 * 0.03)
        finally:
            self.nemesis.heal()
        self.settle()
        self.lane.runs += 1
        return self.check()

    # ---- before

    def _change_fleet(self):
        """Between five and ten devices; now and then another one, which is filled while things go wrong."""
        lane, rng = self.lane, self.rng
        if rng.random() < 0.1:
            if len(lane.devices) == DEVICES_MAX or (len(lane.devices) > DEVICES_MIN and rng.random() < 0.4):
                lane.drop_device(rng.choice(lane.devices))
            else:
                self.log_from[lane.add_device().agent] = 0

    def _make_registers(self):
        """All in one transaction at the hub, in two scopes; most devices see them before the first step."""
        lane = self.lane
        keys = [str(uuid.UUID(int=self.rng.getrandbits(128), version=4)) for _ in range(REGISTERS)]
        lane.sql("DELETE FROM histories.registers WHERE tenant_id = %s", lane.tenant)
        lane.sql("INSERT INTO histories.registers (tenant_id, id, project_id) SELECT %s, k, p FROM unnest(%s, %s) u(k, p)",
                      lane.tenant, [uuid.UUID(k) for k in keys],
                      [uuid.UUID(lane.projects[i % 2]) for i in range(REGISTERS)])
        self.record = Record(keys)
        old = [d for d in lane.devices if self.log_from.get(d.agent)]
        head = lane.head()
        end = time.monotonic() + SETTLE_SECONDS
        while any((d.standing() or (-1,))[0] < head for d in old):
            if time.monotonic() > end:
                raise AssertionError("the registers of seed %d did not come to the devices" % self.seed)
            time.sleep(0.02)

    # ---- a step

    def _step(self):
        self.nemesis.recover()
        if self.rng.random() < self.nemesis.chance:
            self.story.append(self.nemesis.strike())
            return
        client = self.lane.office if self.rng.random() < 0.12 else self.rng.choice(self.lane.devices)
        choice = self.choose()
        if client is self.lane.office or os.path.exists(client.agent.replica):
            client.transact(self.record, choice)

    def choose(self):
        rng = self.rng
        choice = Choice()
        dice = rng.random()
        if dice < 0.8:
            choice.writes = rng.sample(self.record.keys, rng.randrange(1, 5))
        if dice > 0.5 and dice < 0.9:
            choice.adds = rng.sample(self.record.keys, rng.randrange(1, 3))
        choice.declared = rng.random() < 0.2
        choice.undone = rng.random() < 0.05
        choice.new_connection = rng.random() < 0.15
        return choice

    # ---- after

    def settle(self):
        """Until every queue is empty and every replica stands at the hub's head."""
        lane = self.lane
        left = [(d, None) for d in lane.devices]
        head = 0
        end = time.monotonic() + SETTLE_SECONDS
        while left:
            left = [(d.label, s) for d in lane.devices for s in [d.standing()] if not s or s[0] < head or s[1:] != (0, 0)]
            if not left and head < lane.head():
                head = lane.head()
                left = [(d.label, None) for d in lane.devices]
                continue
            if left and time.monotonic() > end:
                raise AssertionError("stuck for %d s, the hub stands at %d: (device, (position, rows and change-sets waiting)) %s" % (
                    SETTLE_SECONDS, head, left))
            time.sleep(0.02)

    def check(self):
        lane, record = self.lane, self.record
        finals = {d.label: d.read(record.keys) for d in lane.devices}
        finals["office"] = lane.office.read(record.keys)
        wrong = record.violations() + record.final_violations(finals)
        wrong += self._ended() + self._books()
        for d in lane.devices:
            for table in ("ferry_rejected", "ferry_mismatch"):
                count = d.agent.value("SELECT count(*) FROM " + table)
                if count:
                    wrong.append("%s: %d rows in %s" % (d.label, count, table))
        if lane.runs % FULL_CHECK_EVERY == 0:
            wrong += self._everything()
        return wrong

    def _ended(self):
        wrong = ["%s ended with %s" % (p.folder, p.process.returncode) for p in self.lane.processes() if not p.running()]
        for p in self.lane.processes():
            with open(p.log, encoding="utf-8", errors="replace") as f:
                f.seek(self.log_from.get(p, 0))
                wrong += ["%s: %s" % (os.path.basename(p.folder), line.strip()[:300]) for line in f if "level=error" in line]
        return wrong

    def _books(self):
        """P2: a change-set has one verdict, and no device's is left."""
        lane = self.lane
        wrong = ["change-set %s of %s was applied in %d transactions" % row for row in lane.sql(
            "SELECT number, device_id, count(DISTINCT tx) FROM ferry.stamp WHERE tenant_id = %s "
            "GROUP BY 1, 2 HAVING count(DISTINCT tx) > 1", lane.tenant)]
        for d in lane.devices:
            sent = d.agent.value("SELECT last_number FROM ferry_state")
            settled, above = lane.sql("SELECT settled, settled_above FROM ferry.device WHERE id = %s", d.agent.id)[0]
            if settled != sent or above:
                wrong.append("%s: %d change-sets were cut, settled up to %d and %s" % (d.label, sent, settled, above))
        return wrong

    def _everything(self):
        lane = self.lane
        wrong = [text for d in lane.devices for text in ferry_run.differences(lane.site.db, d.agent)]
        wrong += ["ferry.verify: %s" % (row,) for row in lane.sql("SELECT * FROM ferry.verify()")[:10]]
        full = lane.sql("SELECT * FROM ferry.sums_full(%s) ORDER BY 1, 2", lane.tenant)
        running = [r for r in lane.sql("SELECT * FROM ferry.sums(%s) ORDER BY 1, 2", lane.tenant) if r[3] or any(r[2])]
        if running != full:
            wrong.append("the running checksums differ from those of the rows")
        return wrong

    def keep(self, folder, wrong):
        """Everything that a person needs to see what happened."""
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "history.json"), "w", encoding="utf-8") as f:
            json.dump({"nemesis": self.nemesis.name, "seed": self.seed, "wrong": wrong, "story": self.story,
                       "keys": self.record.keys if self.record else [],
                       "transactions": [t.as_dict() for t in self.record.transactions] if self.record else []}, f, indent=1)
        for p in self.lane.processes():
            with open(p.log, "rb") as log, open(os.path.join(folder, os.path.basename(p.folder) + ".log"), "wb") as copy:
                log.seek(self.log_from.get(p, 0))
                copy.write(log.read())
        self._keep_stacks(folder)
        for d in self.lane.devices:
            for suffix in ("", "-wal"):
                with contextlib.suppress(OSError):
                    shutil.copy(d.agent.replica + suffix, os.path.join(folder, d.label + ".db" + suffix))
        with open(os.path.join(folder, "hub.sql"), "w", encoding="utf-8") as f, contextlib.suppress(*FAILURES):
            for table in ("histories.registers", "ferry.settled", "ferry.device", "ferry.conflict"):
                rows = self.lane.sql("SELECT to_jsonb(t)::text FROM %s t WHERE tenant_id = %%s" % table, self.lane.tenant)
                f.write("-- %s\n%s\n" % (table, "\n".join(row[0] for row in rows)))


    def _keep_stacks(self, folder):
        """Where each process is, as far as this machine lets us look."""
        with open(os.path.join(folder, "stacks"), "w", encoding="utf-8") as f:
            for p in self.lane.processes():
                f.write("---- %s, %s\n" % (os.path.basename(p.folder), "pid %d" % p.pid if p.running() else "ended"))
                for name in ("status", "wchan") if p.running() else ():
                    with contextlib.suppress(OSError), open("/proc/%d/%s" % (p.pid, name), encoding="utf-8") as status:
                        f.write("".join(line for line in status if name == "wchan" or line.startswith(("State", "VmRSS"))))
                if p.running() and shutil.which("gdb"):
                    done = subprocess.run(["gdb", "-p", str(p.pid), "-batch", "-ex", "thread apply all bt"], capture_output=True,
                                          text=True, timeout=60, check=False)
                    f.write("\n" + "\n".join(line for line in done.stdout.splitlines() if line.startswith(("#", "Thread"))) + "\n")
        sockets = subprocess.run(["ss", "-tnlp"], capture_output=True, text=True, check=False) if shutil.which("ss") else None
        with open(os.path.join(folder, "listening"), "w", encoding="utf-8") as f:
            f.write(sockets.stdout if sockets else "")


class Choice:
    """What a transaction is to do."""

    writes = adds = ()
    declared = undone = new_connection = False
