"""tools/bench: measures the product and its floors in the same run.

Every figure is a pair: the product doing a piece of work, and the floor, which is
the least that any system must do for it (plain SQLite, plain PostgreSQL). Pairs
run one after the other, several times; the better of each is taken, since
disturbances only ever slow a run down.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time

import rig

KEYS = ["w1_bulk_ratio", "w1_single_ratio", "w1_update_ratio", "w2_changes_per_s", "w2_ratio",
        "w2_bytes_insert", "w2_bytes_update", "w3_ratio_100k", "w3_ratio_1m", "w3_bytes_row",
        "w3_agent_rss_mib", "w4_p50_ms", "w4_p99_ms", "w5_50_p99_ms", "w5_100_p99_ms",
        "w6_agent_rss_mib", "w6_hub_kib_per_device", "w6_file_ratio", "w7_bulk_x", "w7_single_x"]

# What is aimed at; >= for ratios of speed, <= for the rest.
AIMS = {
    "w1_bulk_ratio": (">=", 0.55), "w1_single_ratio": (">=", 0.75), "w1_update_ratio": (">=", 0.5),
    "w2_changes_per_s": (">=", 35000), "w2_ratio": (">=", 0.4), "w2_bytes_insert": ("<=", 120),
    "w2_bytes_update": ("<=", 30), "w3_ratio_100k": (">=", 0.5), "w3_ratio_1m": (">=", 0.5),
    "w3_bytes_row": ("<=", 70), "w3_agent_rss_mib": ("<=", 32), "w4_p50_ms": ("<=", 5),
    "w4_p99_ms": ("<=", 25), "w5_50_p99_ms": ("<=", 100), "w5_100_p99_ms": ("<=", 100),
    "w6_agent_rss_mib": ("<=", 8), "w6_hub_kib_per_device": ("<=", 64), "w6_file_ratio": ("<=", 1.1),
    "w7_bulk_x": ("<=", 3), "w7_single_x": ("<=", 1.5),
}

WORK = {
    "w1_bulk_ratio": "W1 capture: 100k inserts in one transaction, of plain SQLite's speed",
    "w1_single_ratio": "W1 capture: one-row transactions",
    "w1_update_ratio": "W1 capture: 100k one-column updates in one transaction",
    "w2_changes_per_s": "W2 push: 50k inserts + 50k updates until committed, changes/s",
    "w2_ratio": "W2 push, of PostgreSQL's multi-row upsert of the same rows",
    "w2_bytes_insert": "W2 bytes on the wire for an insert",
    "w2_bytes_update": "W2 bytes on the wire for a one-column update",
    "w3_ratio_100k": "W3 bootstrap of 100k rows, of a one-thread COPY-to-SQLite pipe",
    "w3_ratio_1m": "W3 bootstrap of 1M rows",
    "w3_bytes_row": "W3 bytes on the wire for a row",
    "w3_agent_rss_mib": "W3 agent's resident memory at 1M rows, MiB",
    "w4_p50_ms": "W4 write on device A to device B's replica, p50 ms",
    "w4_p99_ms": "W4 p99 ms",
    "w5_50_p99_ms": "W5 50 devices, 10 writes/s each, one scope, p99 ms",
    "w5_100_p99_ms": "W5 100 devices, p99 ms",
    "w6_agent_rss_mib": "W6 idle agent, MiB",
    "w6_hub_kib_per_device": "W6 hub memory for each connected device, KiB",
    "w6_file_ratio": "W6 replica file, of a plain one with the same rows",
    "w7_bulk_x": "W7 SQL in PostgreSQL: one 100k-row UPDATE, times the untracked time",
    "w7_single_x": "W7 10k one-row transactions, times the untracked time",
}


class Sizes:
    def __init__(self, quick):
        self.capture = 5000 if quick else 100000
        self.single = 500 if quick else 20000
        self.push = 2000 if quick else 50000
        self.fill = (3000, 6000) if quick else (100000, 1000000)
        self.hops = 30 if quick else 400
        self.storm_seconds = 3 if quick else 20
        self.storm_devices = (4, 8) if quick else (50, 100)
        self.idle_devices = 10 if quick else 200
        self.sql_bulk = 5000 if quick else 100000
        self.sql_single = 200 if quick else 10000
        self.rounds = 1 if quick else 3


def say(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def best(rounds, *works):
    """Runs the works in turn, rounds times; the least seconds of each."""
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            least[i] = min(least[i], work())
    return least


def hands(*args):
    """ferry-bench, which does the timed work."""
    done = subprocess.run([rig.program("ferry-bench"), *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("ferry-bench %s: %s" % (args[0], done.stderr.strip()))
    return json.loads(done.stdout)


def w1(result, sizes):
    """Capture: the same inserts and updates into the replica and into the same tables without triggers."""
    with rig.Rig() as r:
        device = r.device("capture")
        device.sync()
        folder = r.folder

        def insert(kind, per_tx, rows, sync="NORMAL"):
            db = device.copy(os.path.join(folder, "w1.db"), plain=kind == "plain")
            return hands("sqlite-insert", db, rows, per_tx, sync, 1, r.tenant, r.project)["seconds"]

        def update(kind):
            db = device.copy(os.path.join(folder, "w1.db"), plain=kind == "plain")
            hands("sqlite-insert", db, sizes.capture, sizes.capture, "NORMAL", 1, r.tenant, r.project)
            return hands("sqlite-update", db, sizes.capture, "NORMAL")["seconds"]

        n, s = sizes.capture, sizes.single
        plain, ours = best(sizes.rounds, lambda: insert("plain", n, n), lambda: insert("replica", n, n))
        result["w1_bulk_ratio"] = plain / ours
        plain, ours = best(sizes.rounds, lambda: insert("plain", 1, s), lambda: insert("replica", 1, s))
        result["w1_single_ratio"] = plain / ours
        plain, ours = best(sizes.rounds, lambda: update("plain"), lambda: update("replica"))
        result["w1_update_ratio"] = plain / ours
        plain, ours = best(sizes.rounds, lambda: insert("plain", 1, s // 10, "FULL"),
                           lambda: insert("replica", 1, s // 10, "FULL"))
        result["note_w1_full_ratio"] = plain / ours


def w2(result, sizes):
    """Push: from the agent's start to the last row committed in PostgreSQL, the device having worked offline."""
    seconds, wire = [], None
    for _ in range(sizes.rounds):
        with rig.Rig() as r:
            plain = r.plain_units()
            floor = hands("pg-upsert", r.dsn(), plain, sizes.push, 5000, r.tenant, r.project)
            device = r.device("push")
            device.sync()
            times = []
            counts = []
            for step in ("insert", "update"):
                if step == "insert":
                    hands("sqlite-insert", device.replica, sizes.push, sizes.push, "NORMAL", 5, r.tenant, r.project)
                else:
                    hands("sqlite-update", device.replica, sizes.push, "NORMAL")
                started = time.monotonic()
                device.start()
                r.wait_settled(device)
                times.append(time.monotonic() - started)
                counts.append(device.wire_sent())
                device.wait_idle()
                device.stop()
            seconds.append((sum(times), floor["insert_seconds"] + floor["update_seconds"]))
            wire = counts
    ours = min(s[0] for s in seconds)
    floor = min(s[1] for s in seconds)
    result["w2_changes_per_s"] = 2 * sizes.push / ours
    result["w2_ratio"] = floor / ours
    result["w2_bytes_insert"] = wire[0] / sizes.push
    result["w2_bytes_update"] = wire[1] / sizes.push


def w3(result, sizes):
    """Bootstrap: an empty replica is filled over TLS; the floor is COPY into plain SQLite on one thread."""
    for rows, key in zip(sizes.fill, ("w3_ratio_100k", "w3_ratio_1m")):
        with rig.Rig() as r:
            model = r.device("model")
            model.sync()
            plain = model.copy(os.path.join(r.folder, "floor.db"), plain=True)
            r.load_units(rows)
            select = "SELECT %s FROM inventory.units" % rig.UNIT_COLUMNS
            floor = hands("copy-to-sqlite", r.dsn(), select, plain, "NORMAL")["seconds"]
            device = r.device("fill")
            started = time.monotonic()
            device.start()
            device.wait_rows("units", rows)
            ours = time.monotonic() - started
            result[key] = floor / ours
            result["w3_bytes_row"] = device.wire_received() / rows
            result["w3_agent_rss_mib"] = device.peak_rss_mib()
            device.wait_idle()
            device.stop()
            result["note_%s_rows_per_s" % key[3:]] = rows / ours
            result["note_%s_floor_rows_per_s" % key[3:]] = rows / floor
            result["w6_file_ratio"] = rig.vacuumed_size(device.replica) / rig.vacuumed_size(plain)


def w4(result, sizes):
    with rig.Rig() as r:
        a, b = r.device("a"), r.device("b")
        for d in (a, b):
            d.start()
            d.wait_idle()
        got = hands("hop", a.replica, b.replica, sizes.hops, r.tenant, r.project)
        result["w4_p50_ms"], result["w4_p99_ms"] = got["p50_ms"], got["p99_ms"]


def w5(result, sizes):
    for count, key in zip(sizes.storm_devices, ("w5_50_p99_ms", "w5_100_p99_ms")):
        with rig.Rig() as r:
            r.load_storm_rows(count)
            devices = [r.device("d%d" % i) for i in range(count)]
            for d in devices:
                d.start()
            for d in devices:
                d.wait_idle()
            got = hands("storm", sizes.storm_seconds, 10, 3, *[d.replica for d in devices])
            result[key] = got["p99_ms"]
            result["note_%s_p50" % key[:-7]] = got["p50_ms"]
            started = time.monotonic()
            for d in devices:
                d.wait_idle()
            result["note_%s_drain_s" % key[:-7]] = time.monotonic() - started


def w6(result, sizes):
    with rig.Rig() as r:
        first = r.device("first")
        first.start()
        first.wait_idle()
        before = r.hub_rss_kib()
        devices = [r.device("idle%d" % i) for i in range(sizes.idle_devices)]
        for d in devices:
            d.start()
        for d in devices:
            d.wait_idle()
        result["w6_hub_kib_per_device"] = (r.hub_rss_kib() - before) / len(devices)
        time.sleep(15)  # idle agents give memory back after 10 s
        result["w6_agent_rss_mib"] = sorted(d.rss_kib() for d in devices)[len(devices) // 2] / 1024


def w7(result, sizes):
    """Ordinary SQL on a tracked table and on one that differs in nothing else."""
    with rig.Rig(hub=False) as r:
        plain, tracked = r.plain_units(), r.tracked_units()
        for table in (plain, tracked):
            hands("pg-upsert", r.dsn(), table, sizes.sql_bulk, 5000, r.tenant, r.project)

        def settle():
            r.settle(plain, tracked)

        def bulk(table):
            settle()
            return hands("pg-update", r.dsn(), table)["seconds"]

        def single(table):
            settle()
            return hands("pg-single", r.dsn(), table, sizes.sql_single)["seconds"]

        floor, ours = best(sizes.rounds, lambda: bulk(plain), lambda: bulk(tracked))
        result["w7_bulk_x"] = ours / floor
        floor, ours = best(sizes.rounds, lambda: single(plain), lambda: single(tracked))
        result["w7_single_x"] = ours / floor


PARTS = {"w1": w1, "w2": w2, "w3": w3, "w4": w4, "w5": w5, "w6": w6, "w7": w7}


def shown(value):
    if value is None:
        return "-"
    if value >= 1000:
        return "{:,.0f}".format(value)
    return "%.3g" % value if value < 100 else "%.0f" % value


def verdict(key, value):
    if value is None:
        return "not run"
    sign, aim = AIMS[key]
    met = value >= aim if sign == ">=" else value <= aim
    if met:
        return "met"
    missed = 100 * abs(value - aim) / aim
    return "missed by %.*f %%" % (0 if missed >= 1 else 1, missed)


def table(result):
    lines = ["| work | measured | aim | |", "| --- | --- | --- | --- |"]
    for key in KEYS:
        sign, aim = AIMS[key]
        lines.append("| %s | %s | %s %s | %s |" % (WORK[key], shown(result.get(key)), "≥" if sign == ">=" else "≤",
                                                   shown(aim), verdict(key, result.get(key))))
    return "\n".join(lines)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    with open("/etc/os-release", encoding="utf-8") as f:
        system = re.search(r'PRETTY_NAME="(.*)"', f.read())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return "%d cores (%s), %.0f GiB of memory, %s, Linux %s, %s, SQLite %s" % (
        os.cpu_count(), model.group(1) if model else "?", memory, system.group(1) if system else "?",
        re.match(r"[0-9.]+", platform.release()).group(), rig.postgres_version(), rig.sqlite_version())


def write_page(result):
    path = os.path.join(os.environ["FERRY_SOURCE"], "docs", "performance.md")
    with open(path, encoding="utf-8") as f:
        page = f.read()
    start, end = "<!-- measured by tools/bench -->\n", "<!-- end -->"
    notes = "".join("| %s | %s |\n" % (k[5:].replace("_", " "), shown(v)) for k, v in sorted(result.items())
                    if k.startswith("note_"))
    body = "\nMachine: %s. %s.\n\n%s\n\n| beside it | |\n| --- | --- |\n%s\n" % (
        machine(), time.strftime("%Y-%m-%d"), table(result), notes)
    head, rest = page.split(start)
    page = head + start + body + end + rest.split(end)[1]
    with open(path, "w", encoding="utf-8") as f:
        f.write(page)


def main():
    parser = argparse.ArgumentParser(prog="tools/bench", description="Measures the product against its floors.")
    parser.add_argument("--json", action="store_true", help="print one JSON object, write no page")
    parser.add_argument("--only", default="", help="comma-separated: " + ",".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    args = parser.parse_args()
    chosen = [p for p in args.only.split(",") if p] or list(PARTS)
    unknown = [p for p in chosen if p not in PARTS]
    if unknown:
        parser.error("unknown work %s; there are %s" % (", ".join(unknown), ", ".join(PARTS)))
    result, sizes = {}, Sizes(args.quick)
    for part in chosen:
        started = time.monotonic()
        PARTS[part](result, sizes)
        say("%s took %.0f s: %s" % (part, time.monotonic() - started,
                                    ", ".join("%s %s" % (k, shown(v)) for k, v in result.items() if k.startswith(part)
                                              or k.startswith("note_" + part))))
    if args.json:
        print(json.dumps({k: round(result[k], 4) if k in result else None for k in KEYS}))
        return
    print(table(result))
    if chosen == list(PARTS) and not args.quick:
        write_page(result)
        say("wrote docs/performance.md")


if __name__ == "__main__":
    main()
