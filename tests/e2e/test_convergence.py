#!/usr/bin/python3
# ferry-test: long
"""Random work on four replicas and in psql, random cuts and kills; then every replica equals the hub.

    test_convergence.py                       20 seeds ($FERRY_SEEDS: how many)
    test_convergence.py --seeds 200 --seed 7  200 seeds, from 7 on
    test_convergence.py --seed 12 --seeds 1   one that failed

One cluster and one hub serve all seeds, each seed with a tenant, devices and proxies of its
own. A seed fixes what is written and when something is cut or killed; it can't fix how the
processes interleave, so a failure may need its seed more than once. The folder of a seed that
failed is kept, with logs and replicas.

What is shown for every seed, once all is healed and quiet:

- no replica differs from the hub's rows in its scopes (ferry_run.differences, which computes
  scopes and values by itself), and no checksum ever had to be repaired;
- each row that was inserted anywhere is at the hub, or somebody deleted it, or the device
  holds its refusal with a code (P5);
- a counter that one writer alone adds to shows every addition (nothing lost), and no
  change-set was applied in two transactions (nothing twice);
- each device's change-sets are all settled, and the engine's own books are sound;
- no process ended but by our hand.
"""

import argparse
import os
import random
import sqlite3
import sys
import tempfile
import time
import uuid

import ferry_pg
import ferry_run
from ferry_proxy import Proxy

STEPS = 70
SETTLE_SECONDS = 90

# What is written to columns, by table. Parents first.
TABLES = {
    "companies": {"name": "word", "city": "maybe_word"},
    "contacts": {"full_name": "word", "phone_e164": "maybe_word", "tags": "array"},
    "leads": {"score": "int", "status_code": "word", "attributes": "json", "tags": "array"},
    "units": {"view": "maybe_word", "floor": "int", "status": "word", "size_sqm": "numeric", "price_minor": "int"},
    "unit_components": {"name": "maybe_word", "sort_order": "int", "area_sqm": "numeric"},
}
SCHEMAS = {"companies": "crm", "contacts": "crm", "leads": "crm", "units": "inventory", "unit_components": "inventory"}
WORDS = ["sea", "garden", "Straße", "名前", "o'clock", 'say "x"', "{a,b}", "back\\slash", "😀 ok", ""]


class Writer:
    """Makes random statements; the same for SQLite and for PostgreSQL but for the marks of parameters."""

    def __init__(self, rng, name, projects, foreign=()):
        self.rng, self.name = rng, name
        self.projects = projects   # that it may use
        self.foreign = foreign     # that it should not use: a refusal is right
        self.inserted = {}         # key -> (table, the unit it is part of or None)
        self.deleted = set()       # keys that it tried to delete
        self.additions = 0         # to its own counter

    def key(self):
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def value(self, kind):
        rng = self.rng
        word = rng.choice(WORDS) + str(rng.randrange(40))
        if kind == "word":
            return word
        if kind == "maybe_word":
            return rng.choice([None, word, word, word])
        if kind == "int":
            return rng.choice([None, 0, rng.randrange(1000), rng.randrange(-2**31, 2**31)])
        if kind == "numeric":
            return rng.choice([None, "%d.%02d" % (rng.randrange(10**rng.randrange(1, 10)), rng.randrange(100))])
        if kind == "array":
            return None if rng.random() < 0.1 else [rng.choice(WORDS + [None]) for _ in range(rng.randrange(4))]
        return None if rng.random() < 0.1 else {rng.choice("abc"): rng.choice([None, word, rng.randrange(10), []])}

    def insert(self, keys):
        rng = self.rng
        table = rng.choice(list(TABLES))
        columns = {"id": self.key()}
        if table == "units":
            columns.update(project_id=rng.choice(self.projects), code="U%d" % rng.randrange(10**6), unit_type_code="APT_1BR",
                           currency="EGP")
            if self.foreign and rng.random() < 0.1:
                columns["project_id"] = rng.choice(self.foreign)
        elif table == "unit_components":
            if not keys["units"]:
                return None
            columns.update(unit_id=rng.choice(keys["units"]), component_type_code="KITCHEN_STD")
        elif table == "contacts":
            columns["company_id"] = rng.choice(keys["companies"] + [None])
            # Unique in a tenant: now and then the hub must refuse one.
            columns["email"] = rng.choice([None, None, "e%d@example.com" % rng.randrange(30)])
        elif table == "leads":
            columns["contact_id"] = rng.choice(keys["contacts"] + [None])
        for name, kind in TABLES[table].items():
            if rng.random() < 0.7 or name in ("name", "full_name", "status_code", "status"):
                columns[name] = self.value("word" if name in ("name", "full_name", "status_code", "status") else kind)
        self.inserted[columns["id"]] = table, columns.get("unit_id")
        keys[table].append(columns["id"])
        return "insert", table, columns["id"], columns

    def operation(self, keys):
        """(what, table, key, columns) or None."""
        rng = self.rng
        table = rng.choice(list(TABLES))
        dice = rng.random()
        if dice < 0.3 or not keys[table]:
            return self.insert(keys)
        key = rng.choice(keys[table])
        if dice < 0.4:
            self.deleted.add(key)
            return "delete", table, key, None
        if dice < 0.45 and table == "units" and len(self.projects) > 1:
            return "update", table, key, {"project_id": rng.choice(self.projects)}
        names = rng.sample(list(TABLES[table]), rng.randrange(1, 3))
        return "update", table, key, {n: self.value(TABLES[table][n]) for n in names}


class SqliteSide:
    """An app on a device."""

    def __init__(self, agent, writer):
        self.agent, self.writer = agent, writer
        self.counter = None

    def transaction(self, count, rollback):
        db = self.agent.connect()
        try:
            db.execute("BEGIN IMMEDIATE")
            keys = {t: [row[0] for row in db.execute('SELECT id FROM "%s" ORDER BY id' % t)] for t in TABLES}
            keys["leads"] = [k for k in keys["leads"] if not k.startswith("c0ffee")]
            before = dict(self.writer.inserted), set(self.writer.deleted)
            for _ in range(count):
                operation = self.writer.operation(keys)
                if operation:
                    self.execute(db, *operation)
            if self.counter:
                db.execute("UPDATE leads SET score = score + 1 WHERE id = ?", (self.counter,))
            if self.writer.rng.random() < 0.2:
                db.execute("INSERT INTO ferry_tx(note) VALUES ('declared')")
            if rollback:
                db.execute("ROLLBACK")
                self.writer.inserted, self.writer.deleted = before
            else:
                db.execute("COMMIT")
                self.writer.additions += self.counter is not None
        finally:
            db.close()

    def execute(self, db, what, table, key, columns):
        if what == "delete":
            db.execute('DELETE FROM "%s" WHERE id = ?' % table, (key,))
            return
        values = [ferry_run.json.dumps(v, ensure_ascii=False, separators=(",", ":")) if isinstance(v, (list, dict)) else v
                  for v in columns.values()]
        names = ['"%s"' % c for c in columns]
        if what == "insert":
            db.execute('INSERT INTO "%s" (%s) VALUES (%s)' % (table, ", ".join(names), ", ".join("?" * len(names))), values)
        else:
            db.execute('UPDATE "%s" SET %s WHERE id = ?' % (table, ", ".join(n + " = ?" for n in names)), [*values, key])


class PsqlSide:
    """The back office."""

    def __init__(self, db, tenant, writer):
        self.tenant, self.writer = tenant, writer
        self.conn = db.connect()
        self.counter = None

    def transaction(self, count, rollback):
        with self.conn.cursor() as cur:
            keys = {}
            for table in TABLES:
                cur.execute("SELECT id::text FROM %s.%s WHERE tenant_id = %%s ORDER BY id" % (SCHEMAS[table], table), (self.tenant,))
                keys[table] = [row[0] for row in cur.fetchall() if not row[0].startswith("c0ffee")]
            before = dict(self.writer.inserted), set(self.writer.deleted)
            try:
                for _ in range(count):
                    operation = self.writer.operation(keys)
                    if operation:
                        self.execute(cur, *operation)
                if self.counter:
                    cur.execute("UPDATE crm.leads SET score = score + 1 WHERE id = %s", (self.counter,))
            except ferry_pg.psycopg2.Error as error:  # a unique e-mail, a parent that a device deleted, a deadlock
                if (error.pgcode or "")[:2] not in ("23", "40"):
                    raise
                rollback = True
            if not rollback:
                try:
                    self.conn.commit()
                    self.writer.additions += self.counter is not None
                    return
                except ferry_pg.psycopg2.Error as error:
                    if (error.pgcode or "")[:2] != "40":
                        raise
            self.conn.rollback()
            self.writer.inserted, self.writer.deleted = before

    def execute(self, cur, what, table, key, columns):
        name = "%s.%s" % (SCHEMAS[table], table)
        if what == "delete":
            cur.execute("DELETE FROM %s WHERE tenant_id = %%s AND id = %%s" % name, (self.tenant, key))
            return
        values = [ferry_run.json.dumps(v) if isinstance(v, dict) else v for v in columns.values()]
        if what == "insert":
            cur.execute("INSERT INTO %s (tenant_id, %s) VALUES (%%s%s)" % (name, ", ".join(columns), ", %s" * len(columns)),
                        [self.tenant, *values])
        else:
            cur.execute("UPDATE %s SET %s WHERE tenant_id = %%s AND id = %%s" % (name, ", ".join(c + " = %s" for c in columns)),
                        [*values, self.tenant, key])

    def close(self):
        self.conn.close()


class Round:
    """One seed."""

    def __init__(self, site, seed, folder):
        self.site, self.seed, self.folder = site, seed, folder
        self.rng = random.Random(seed)
        self.hub = site.hub
        self.story = []
        self.tenant = self.hub.tenant("Seed %d" % seed, "seed-%d-%s" % (seed, uuid.uuid4().hex[:6]))
        self.projects = [str(site.value("INSERT INTO inventory.projects (tenant_id, name) VALUES (%s, %s) RETURNING id", self.tenant, n))
                         for n in ("P", "Q")]
        self.proxies, self.agents, self.sides = [], [], []
        self.psql = PsqlSide(site.db, self.tenant, Writer(random.Random(seed * 1000), "psql", self.projects))
        for i, label in enumerate("abcd"):
            self.add_device(i, label)
        self.all = [*self.sides, self.psql]
        self.make_counters()

    def add_device(self, i, label):
        mine = self.projects if i < 2 else [self.projects[i - 2]]
        proxy = Proxy(self.hub.device_port, seed=self.seed * 10 + i)
        agent = ferry_run.Agent(os.path.join(self.folder, label), hub_port=proxy.port)
        agent.enrol(self.hub.token(self.tenant, label, ["project:" + p for p in mine]))
        writer = Writer(random.Random(self.seed * 1000 + 1 + i), label, mine, [p for p in self.projects if p not in mine])
        self.proxies.append(proxy)
        self.agents.append(agent)
        self.sides.append(SqliteSide(agent, writer))

    def make_counters(self):
        """A lead for each writer, that nobody else touches."""
        for n in range(10):
            self.psql.transaction(4, rollback=False)
        for i, side in enumerate(self.all):
            side.counter = "c0ffee%02x-0000-4000-8000-%012x" % (i, self.seed)
            self.site.sql("INSERT INTO crm.leads (tenant_id, id, score) VALUES (%s, %s, 0)", self.tenant, side.counter)

    def start_all(self):
        for agent in self.agents:
            agent.start()
        for agent in self.agents:
            ferry_run.wait_until(lambda a=agent: a.standing()[0] >= self.first_head, SETTLE_SECONDS, "the first fill of " + agent.label)

    def play(self):
        self.first_head = self.hub.head(self.tenant)
        self.start_all()
        for _ in range(STEPS):
            self.step()
        self.heal()
        self.site.wait_settled(*self.agents, seconds=SETTLE_SECONDS)

    # ---- one step

    def step(self):
        steps = {self.write: 55, self.office: 14, self.breathe: 10, self.kill_agent: 5, self.cut: 4, self.cut_later: 6,
                 self.blackhole: 2, self.pause: 2, self.kill_hub: 1.5, self.stop_hub: 0.5, self.drop_backends: 1.5}
        self.revive()
        step = self.rng.choices(list(steps), list(steps.values()))[0]
        self.story.append(step.__name__)
        step()

    def revive(self):
        """What was taken away comes back after some steps."""
        for agent, proxy in zip(self.agents, self.proxies):
            if not agent.running() and self.rng.random() < 0.3:
                agent.start()
            if self.rng.random() < 0.3:
                proxy.blackhole(False)

    def write(self):
        count = 300 if self.rng.random() < 0.02 else self.rng.choice([1, 1, 1, 2, 3, 5])
        side = self.rng.choice(self.sides)
        side.transaction(count, rollback=self.rng.random() < 0.05)

    def office(self):
        self.psql.transaction(self.rng.choice([1, 1, 2, 4, 20]), rollback=self.rng.random() < 0.1)

    def breathe(self):
        """Lets things happen for a while, or until a device has nothing to send."""
        agent = self.rng.choice(self.agents)
        end = time.monotonic() + self.rng.random() * 0.3
        while time.monotonic() < end and (not agent.running() or agent.standing()[1]):
            time.sleep(0.002)

    def kill_agent(self):
        self.rng.choice(self.agents).kill9()

    def cut(self):
        self.rng.choice(self.proxies).cut()

    def cut_later(self):
        how = self.rng.choice(["records", "sent", "received"])
        self.rng.choice(self.proxies).cut_after(**{how: self.rng.randrange(1, 30 if how == "records" else 3000)})

    def blackhole(self):
        self.rng.choice(self.proxies).blackhole(True)

    def pause(self):
        """No app writes there meanwhile: the agent may have been stopped with the write lock in its hands."""
        agent = self.rng.choice([a for a in self.agents if a.running()] or [None])
        if agent:
            agent.pause()
            for side in [self.psql, *self.sides]:
                if side is self.psql or side.agent is not agent:
                    side.transaction(2, rollback=False)
            agent.resume()

    def kill_hub(self):
        self.hub.kill9()
        for side in self.sides:
            side.transaction(1, rollback=False)
        self.hub.start()

    def stop_hub(self):
        code = self.hub.stop()
        assert code == 0, "the hub ended with %s" % code
        self.hub.start()

    def drop_backends(self):
        self.site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ferry_hub' AND random() < 0.7")

    def heal(self):
        for proxy in self.proxies:
            proxy.cut_after()
            proxy.blackhole(False)
        for agent in self.agents:
            if not agent.running():
                agent.start()

    # ---- what must hold

    def check(self):
        wrong = self.dead()
        for agent in self.agents:
            wrong += ferry_run.differences(self.site.db, agent)
            wrong += [line[:300] for line in agent.log_text().splitlines() if "level=error" in line]
            wrong += self.unsettled(agent)
        wrong += self.lost_rows()
        wrong += self.lost_additions()
        wrong += self.books()
        return wrong

    def dead(self):
        return ["%s ended with %s" % (p.folder, p.process.returncode) for p in [*self.agents, self.hub] if p.process and not p.running()]

    def unsettled(self, agent):
        sent = agent.value("SELECT last_number FROM ferry_state")
        settled, above = self.site.sql("SELECT settled, settled_above FROM ferry.device WHERE id = %s", agent.id)[0]
        return [] if settled == sent and not above else [
            "%s: %d change-sets were cut, settled up to %d and %s" % (agent.label, sent, settled, above)]

    def lost_rows(self):
        deleted = set().union(*(s.writer.deleted for s in self.all))
        here = {key for table in TABLES for (key,) in self.site.sql(
            "SELECT id::text FROM %s.%s WHERE tenant_id = %%s" % (SCHEMAS[table], table), self.tenant)}
        wrong = []
        for side in self.all:
            refused = set()
            if isinstance(side, SqliteSide):
                refused = {row[0] for row in side.agent.sql("SELECT key FROM ferry_rejected")}
            # Parts of a unit go with it, by the model's cascade.
            wrong += ["%s: the %s row %s that it inserted is gone without a trace" % (side.writer.name, table, key)
                      for key, (table, unit) in side.writer.inserted.items()
                      if key not in here | deleted | refused and unit not in deleted]
        return wrong

    def lost_additions(self):
        wrong = []
        for side in self.all:
            score = self.site.value("SELECT score FROM crm.leads WHERE id = %s", side.counter)
            missing = 0
            if isinstance(side, SqliteSide):  # what was refused as a whole, and says so
                missing = side.agent.value("SELECT count(*) FROM ferry_rejected WHERE key = ?", side.counter)
            if score != side.writer.additions and not missing:
                wrong.append("%s: %d additions to its counter, %d at the hub" % (side.writer.name, side.writer.additions, score))
        return wrong

    def books(self):
        wrong = ["change-set %s of %s was applied in %d transactions" % row for row in self.site.sql(
            "SELECT number, device_id, count(DISTINCT tx) FROM ferry.stamp WHERE tenant_id = %s "
            "GROUP BY 1, 2 HAVING count(DISTINCT tx) > 1", self.tenant)]
        full = self.site.sql("SELECT * FROM ferry.sums_full(%s) ORDER BY 1, 2", self.tenant)
        running = [row for row in self.site.sql("SELECT * FROM ferry.sums(%s) ORDER BY 1, 2", self.tenant) if row[3] or any(row[2])]
        if running != full:
            wrong.append("the running checksums differ from those of the rows")
        return wrong

    def counts(self):
        refused = sum(a.value("SELECT count(DISTINCT number) FROM ferry_rejected") for a in self.agents)
        return "%d change-sets, %d refused, %d conflicts, %d cuts" % (
            sum(a.value("SELECT last_number FROM ferry_state") for a in self.agents), refused,
            self.site.value("SELECT count(*) FROM ferry.conflict WHERE tenant_id = %s", self.tenant),
            sum(p.cuts for p in self.proxies))

    def close(self):
        for agent in self.agents:
            agent.kill9()
        for proxy in self.proxies:
            proxy.close()
        self.psql.close()


def run_seed(site, seed):
    """The sentences of what is wrong; [] when nothing."""
    folder = os.path.join(site.folder, "seed-%d" % seed)
    os.makedirs(folder)
    started = time.monotonic()
    log_from = site.hub.log_size()
    played = None
    try:
        played = Round(site, seed, folder)
        played.play()
        wrong = played.check()
        counts = played.counts()
    except (AssertionError, RuntimeError, sqlite3.Error, ferry_pg.psycopg2.Error, OSError) as error:
        wrong, counts = ["%s: %s" % (type(error).__name__, error)] + (played.dead() if played else []), ""
    finally:
        if played:
            played.close()
    print("seed %d: %s in %.1f s; %s" % (seed, "FAILED" if wrong else "ok", time.monotonic() - started, counts), flush=True)
    if wrong:
        with open(site.hub.log, "rb") as log, open(os.path.join(folder, "hub.log"), "wb") as copy:
            log.seek(log_from)
            copy.write(log.read())
        for text in wrong[:30]:
            print("  " + text, flush=True)
        if played:
            print("  steps: " + " ".join(played.story), flush=True)
        print("  kept: " + folder, flush=True)
        if not site.hub.running():
            site.hub.start()
    return wrong


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=int(os.environ.get("FERRY_SEEDS", "20")), help="how many")
    options.add_argument("--seed", type=int, default=1, help="the first")
    options.add_argument("-v", "--verbose", action="store_true", help="ignored: each seed has its line anyway")
    given = options.parse_args()
    started = time.monotonic()
    failed = []
    folder = tempfile.mkdtemp(prefix="ferry-convergence-")
    with ferry_pg.Cluster() as cluster, ferry_run.Site(cluster=cluster, folder=folder) as site:
        # What is checked of lost values holds for lww; other policies have their own tests.
        for table, column in (("crm.contacts", "tags"), ("crm.leads", "tags"), ("crm.leads", "attributes")):
            site.sql("SELECT ferry.policy(%s, %s, 'lww')", table, column)
        for seed in range(given.seed, given.seed + given.seeds):
            if run_seed(site, seed):
                failed.append(seed)
            else:
                ferry_run.shutil.rmtree(os.path.join(folder, "seed-%d" % seed), ignore_errors=True)
        unsound = site.sql("SELECT * FROM ferry.verify()")
    if not failed and not os.environ.get("FERRY_KEEP"):
        ferry_run.shutil.rmtree(folder, ignore_errors=True)
    print("%d seeds in %.0f s, failed: %s; ferry.verify: %s" % (given.seeds, time.monotonic() - started, failed or "none",
                                                            unsound[:10] or "sound"), flush=True)
    return 1 if failed or unsound else 0


if __name__ == "__main__":
    sys.exit(main())
