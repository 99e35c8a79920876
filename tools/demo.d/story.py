"""The demo's story: two field devices and an office, offline and back.

Everything is real: a private PostgreSQL, ferry-hub, enrolled ferry-agents over TLS, the plain
sqlite3 shell on the devices, plain psql in the office. What is printed is read back from the
databases, and checked; exit code 0 means all of it was as it must be.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import struct
import sys
import time

import psycopg2

import ferry_pg
from rules import Rules
from stage import NOBODY, STATE, Device, Office, Problem, say, step


def checksums(office, device):
    """(device's, hub's) running checksum over all scopes and tables it holds, folded to one number each."""
    columns = dict(office.rows("SELECT tbl, count(*)::int FROM ferry.tracked_column GROUP BY tbl"))
    keys = dict(office.rows(
        "SELECT t.tbl, (SELECT count(*)::int FROM ferry.tracked_column c2 WHERE c2.tbl = t.tbl AND c2.num < c.num) "
        "FROM ferry.tracked t JOIN ferry.tracked_column c ON c.tbl = t.tbl AND c.name = t.key_col"))
    held = {}
    for scope, tbl, rows, sums in device.agent.sql(
            "SELECT s.name, m.tbl, m.rows, m.sums FROM ferry_sum m JOIN ferry_scope s ON s.id = m.scope WHERE m.fill = 0"):
        if rows:
            held[(scope, tbl)] = (rows, struct.unpack("<%dQ" % (len(sums) // 8), sums)[:columns[tbl] - 1])
    scopes = {name for name, in device.agent.sql("SELECT name FROM ferry_scope WHERE held")}
    hub = {}
    for tenant in (office.tenant, NOBODY):
        for tbl, scope, sums, rows in office.rows("SELECT tbl, scope, sums, rows FROM ferry.sums(%s)", tenant):
            if rows and scope in scopes:
                hub[(scope, tbl)] = (rows, tuple(s & (2**64 - 1) for i, s in enumerate(sums) if i != keys[tbl]))
    if held != hub:
        odd = sorted(k for k in set(held) | set(hub) if held.get(k) != hub.get(k))
        raise Problem("%s: the checksum of %s differs from the hub's: %s / %s" % (
            device.name, odd[0], held.get(odd[0]), hub.get(odd[0])))

    def fold(side):
        text = json.dumps(sorted([list(k), v] for k, v in side.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    return fold(held), fold(hub)


def unit(office, code):
    return office.value("SELECT id::text FROM inventory.units WHERE tenant_id = %s AND code = %s", office.tenant, code)


def lead(office, n):
    return office.value("SELECT id::text FROM crm.leads WHERE tenant_id = %s ORDER BY id OFFSET %s LIMIT 1",
                        office.tenant, n)


class Story:
    def __init__(self, office, a, b):
        self.office, self.a, self.b = office, a, b
        self.units = {c: unit(office, c) for c in ("A-0101", "A-0102", "A-0103", "A-0104")}
        self.leads = [lead(office, n) for n in (10, 11)]

    def write(self, device, what, sql):
        device.sqlite3(sql)
        say("  %-8s sqlite3   %s" % (device.person, what))

    def psql(self, what, sql):
        self.office.psql(sql)
        say("  %-8s psql      %s" % ("office", what))

    def edit(self):
        u, leads, a, b = self.units, self.leads, self.a, self.b
        self.write(a, "A-0101: reserves the unit", "UPDATE units SET status = 'reserved' WHERE id = '%s'" % u["A-0101"])
        self.write(b, "A-0101: raises the price", "UPDATE units SET price_minor = 162000000 WHERE id = '%s'" % u["A-0101"])
        self.write(a, "A-0102: reserves the unit", "UPDATE units SET status = 'reserved' WHERE id = '%s'" % u["A-0102"])
        self.write(b, "A-0102: sells the unit, later", "UPDATE units SET status = 'sold' WHERE id = '%s'" % u["A-0102"])
        self.write(a, "A-0103: the view is a courtyard", "UPDATE units SET view = 'courtyard' WHERE id = '%s'" % u["A-0103"])
        self.psql("A-0103: the view is the sea, later",
                  "UPDATE inventory.units SET view = 'sea front' WHERE tenant_id = '%s' AND id = '%s'" % (
                      self.office.tenant, u["A-0103"]))
        self.psql("A-0104: a new price",
                  "UPDATE inventory.units SET price_minor = 199000000 WHERE tenant_id = '%s' AND id = '%s'" % (
                      self.office.tenant, u["A-0104"]))
        self.write(a, "deletes a lead", "DELETE FROM leads WHERE id = '%s'" % leads[0])
        self.write(b, "qualifies the same lead", "UPDATE leads SET status_code = 'won' WHERE id = '%s'" % leads[0])
        self.write(b, "adds a contact and her lead, declared as one",
                   "BEGIN; INSERT INTO contacts(id, tenant_id, full_name, created_at, updated_at) VALUES"
                   "('0192aaaa-0000-7000-8000-000000000001', '%(t)s', 'Layla Aziz', '2026-03-01T09:00:00.000000Z', '2026-03-01T09:00:00.000000Z');"
                   "INSERT INTO leads(id, tenant_id, contact_id, status_code, created_at, updated_at) VALUES"
                   "('0192aaaa-0000-7000-8000-000000000002', '%(t)s', '0192aaaa-0000-7000-8000-000000000001', 'new', '2026-03-01T09:00:00.000000Z', '2026-03-01T09:00:00.000000Z');"
                   "INSERT INTO ferry_tx(note) VALUES ('new lead'); COMMIT" % {"t": self.office.tenant})
        self.write(a, "scans a room of A-0104",
                   "INSERT INTO room_scans(id, tenant_id, unit_id, captured_at, document, created_at, updated_at) VALUES"
                   "('0192aaaa-0000-7000-8000-000000000003', '%s', '%s', '2026-03-01T10:00:00.000000Z', "
                   "'{\"walls\": [{\"length_m\": 3.2}], \"doors\": 1}', '2026-03-01T10:00:00.000000Z', '2026-03-01T10:00:00.000000Z')"
                   % (self.office.tenant, u["A-0104"]))
        self.write(a, "adds a contact whose address another contact has",
                   "INSERT INTO contacts(id, tenant_id, full_name, email, created_at, updated_at) VALUES"
                   "('0192aaaa-0000-7000-8000-000000000004', '%s', 'Double', 'contact7@example.com', '2026-03-01T09:00:00.000000Z', '2026-03-01T09:00:00.000000Z')"
                   % self.office.tenant)

    def expect(self, what, is_value, must):
        if is_value != must:
            raise Problem("%s: is %r, must be %r" % (what, is_value, must))

    def check(self):
        u, leads = self.units, self.leads
        at = lambda column, code: self.office.value(
            "SELECT " + column + " FROM inventory.units WHERE tenant_id = %s AND id = %s", self.office.tenant, u[code])
        self.expect("A-0101 status", at("status", "A-0101"), "reserved")
        self.expect("A-0101 price", at("price_minor", "A-0101"), 162000000)
        self.expect("A-0102 status", at("status", "A-0102"), "sold")
        self.expect("A-0103 view", at("view", "A-0103"), "sea front")
        self.expect("A-0104 price", at("price_minor", "A-0104"), 199000000)
        self.expect("the deleted lead", self.office.rows(
            "SELECT 1 FROM crm.leads WHERE tenant_id = %s AND id = %s", self.office.tenant, leads[0]), [])
        self.expect("the new lead", self.office.value(
            "SELECT count(*) FROM crm.leads WHERE id = '0192aaaa-0000-7000-8000-000000000002'"), 1)
        self.expect("the scan", self.office.value(
            "SELECT count(*) FROM roomscan.room_scans WHERE id = '0192aaaa-0000-7000-8000-000000000003'"), 1)
        self.expect("the double contact", self.office.value(
            "SELECT count(*) FROM crm.contacts WHERE id = '0192aaaa-0000-7000-8000-000000000004'"), 0)

    def name_of(self, table, key):
        """A row as a person calls it."""
        codes = {v: k for k, v in self.units.items()}
        return "%s %s" % (table, codes.get(key, "of contact %s" % key[:8] if table == "leads" else key[:8]))

    def decisions(self):
        """Every pair of concurrent edits that the hub recorded, read back from ferry.conflict."""
        devices = dict(self.office.rows("SELECT id::text, name FROM ferry.device"))
        found = self.office.rows(
            "SELECT t.replica_name, c.key::text, c.kind, c.winner, c.device_id::text, "
            "array_agg(k.name || ' = ' || coalesce(c.device_value::text, 'null') ORDER BY k.num) FILTER (WHERE c.device_value IS NOT NULL), "
            "array_agg(k.name || ' = ' || coalesce(c.hub_value::text, 'null') ORDER BY k.num) FILTER (WHERE k.name NOT IN ('tenant_id', 'created_at', 'tags', 'contact_id')) "
            "FROM ferry.conflict c JOIN ferry.tracked t ON t.tbl = c.tbl LEFT JOIN ferry.tracked_column k ON k.tbl = c.tbl AND k.num = c.num "
            "WHERE c.tenant_id = %s AND k.name IS DISTINCT FROM 'updated_at' GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2", self.office.tenant)
        for table, key, kind, winner, device, theirs, hubs in found:
            say("  " + self.name_of(table, key))
            if kind == "update_update":
                say("    %s wrote %s; the hub had %s" % (devices[device], ", ".join(theirs), ", ".join(hubs)))
                say("    neither had seen the other: the later one stands, which is %s" % (
                    "the device's" if winner == "device" else "the hub's"))
            elif kind == "update_delete":
                say("    %s wrote %s to a row that was deleted meanwhile" % (devices[device], ", ".join(theirs)))
                say("    the deletion stands; what was written is kept")
            else:
                say("    %s deleted the row; the hub had %s" % (devices[device], ", ".join(hubs)))
                say("    the deletion stands; the whole row is kept")
        tables = {c[0] for c in found}
        if not {"units", "leads"} <= tables:
            raise Problem("conflicts in units and leads were expected, found in %s" % (", ".join(sorted(tables)) or "none"))
        say("  units A-0101")
        say("    Amina wrote the status, Omar the price: different columns, both stand")
        say("Each losing value is kept at the hub (ferry.conflict) and on the device that wrote it (ferry-agent conflicts).")

    def refused(self):
        for device in (self.a, self.b):
            for r in device.agent.json("rejected"):
                say("  %-8s %s: %s" % (device.person, r["name"], r["sentence"]))
                say("  %-8s kept on the device: %s" % ("", r["values"]))
        kept = self.a.agent.json("rejected")
        self.expect("what was refused", [r["name"] for r in kept], ["UNIQUE"])


def play(keep):
    stop_kept()
    shutil.rmtree(STATE, ignore_errors=True)
    os.makedirs(STATE)
    started = time.monotonic()
    office, devices, ok = None, [], False
    try:
        step("A private PostgreSQL, the hub's schema, and a tenant")
        office = Office(keep)
        say("tenant %s: %s projects, %s units, %s leads, %s contacts, %s room scans" % ((office.tenant,) + tuple(
            office.value("SELECT count(*) FROM " + t) for t in (
                "inventory.projects", "inventory.units", "crm.leads", "crm.contacts", "roomscan.room_scans"))))
        office.hub.start()
        step("Two devices enrol and get their replicas")
        for name, person in (("tablet-a", "Amina"), ("tablet-b", "Omar")):
            devices.append(Device(office, name, person))
        office.site.wait_settled()
        for d in devices:
            say("%s: %s units in %s" % (d.name, d.sqlite3("SELECT count(*) FROM units"), d.agent.replica))
        step("Both devices go offline; everybody works on")
        for d in devices:
            d.online(False)
        story = Story(office, *devices)
        story.edit()
        for d in devices:
            s = d.agent.status()
            say("%s: %s change-sets wait, the oldest for %s s" % (d.name, s["waiting_sets"], s["oldest_unsent_age_s"]))
        step("The link is back")
        back = time.monotonic()
        for d in devices:
            d.online(True)
        office.site.wait_settled()
        say("in step again after %.1f s" % (time.monotonic() - back))
        step("Concurrent edits, and what was decided")
        story.decisions()
        step("Refused")
        story.refused()
        story.check()
        rules = Rules(office, *devices)
        try:
            rules.play()
        finally:
            devices = rules.devices
        step("All replicas")
        different = office.site.differences()
        if different:
            raise Problem("a replica differs from the hub: " + "; ".join(different[:5]))
        for d in devices:
            ours, hubs = checksums(office, d)
            say("%s: every row equals PostgreSQL's; checksum %s = hub's %s" % (d.name, ours, hubs))
        ok = True
        say("\nAll of it was verified, in %.1f s." % (time.monotonic() - started))
    except (AssertionError, RuntimeError, psycopg2.Error) as e:
        raise Problem(str(e)) from e
    finally:
        if ok and keep:
            keep_running(office, devices)
        else:
            stop_all(office, devices)
            if not ok:
                say("The logs are in %s." % STATE)


def stop_all(office, devices):
    if office:
        office.site.stop()
        office.stop()
    for d in devices:
        d.proxy.close()


def keep_running(office, devices):
    """The proxies end with this program: the agents go on with the hub's own port."""
    for d in devices:
        d.agent.stop()
        d.proxy.close()
        d.agent.configure(hub__port=office.hub.device_port)
        d.agent.start()
    with open(os.path.join(STATE, "kept"), "w", encoding="utf-8") as f:
        json.dump({"processes": [d.agent.process.pid for d in devices] + [office.hub.process.pid],
                   "postgres": office.cluster.folder}, f)
    a, b = (d.agent for d in devices[:2])
    say("""
It is left running. Play on:
  sqlite3 %(a)s "UPDATE units SET status = 'sold' WHERE code = 'A-0201'"
  sqlite3 %(b)s "SELECT code, status FROM units WHERE code = 'A-0201'"
  psql -h %(pg)s -U postgres ferry -c "SELECT code, status FROM inventory.units WHERE code = 'A-0201'"
  %(agent)s
  %(hub)s
Stop it with: tools/demo --stop""" % {
        "a": shlex.quote(a.replica), "b": shlex.quote(b.replica), "pg": office.cluster.socket,
        "agent": shlex.join(a.command("status")), "hub": shlex.join(office.hub.command("status"))})


def stop_kept():
    """Ends what an earlier --keep left running; true if there was something."""
    path = os.path.join(STATE, "kept")
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as f:
        kept = json.load(f)
    for pid in kept["processes"]:
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                ours = STATE.encode() in f.read()
        except FileNotFoundError:
            continue
        if ours:
            os.kill(pid, signal.SIGTERM)
    ferry_pg.stop_folder(kept["postgres"])
    shutil.rmtree(kept["postgres"], ignore_errors=True)
    os.unlink(path)
    return True


@contextlib.contextmanager
def alone():
    """One demo at a time in a checkout: they share its state folder."""
    os.makedirs(os.path.dirname(STATE), exist_ok=True)
    with open(STATE + ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Problem("another demo of this checkout is being played; wait until it has ended") from e
        yield


def end(*_):
    """SIGTERM ends the demo as Ctrl-C does: everything is stopped first."""
    raise KeyboardInterrupt


def main():
    signal.signal(signal.SIGTERM, end)
    try:
        with alone():
            return command()
    except Problem as e:
        say("\ndemo: %s" % e)
    except KeyboardInterrupt:
        say("\ndemo: ended before its end; everything is stopped")
    return 1


def command():
    if sys.argv[1:] == ["--stop"]:
        say("stopped" if stop_kept() else "nothing is left running")
    else:
        play(keep="--keep" in sys.argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
