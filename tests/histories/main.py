#!/usr/bin/python3
"""Random histories on real processes, with something that harms them, checked for lost, doubled, torn
and unordered transactions.

    tools/histories                                   10 runs of each nemesis
    tools/histories --nemesis partition --runs 1000   one nemesis
    tools/histories --nemesis kill --seed 12 --runs 1 one run again (a seed fixes what is done and harmed,
                                                      not how processes interleave: it may take several)
    tools/histories --runs 1000 --lanes 6 --json      the result as one object

A run: five to ten devices with an app each, and plain SQL at PostgreSQL, do some sixty transactions on
eight registers while the nemesis strikes; then all is healed, everything must settle, and all that was
read is checked (record.py says what for). Nemeses: pause (SIGSTOP, and refused connections), kill (kill -9
of agents, hubs, PostgreSQL), partition (held and dead connections, cuts inside messages, changes of hub),
mixed (all of these). Several lanes run side by side, each with its own PostgreSQL, two hubs and devices.

At the end, also of a session that is interrupted, it says of each nemesis how many runs were played, how
many failed, and the seeds of those.

Exit code: 0 all good, 1 something was wrong, 2 it could not run or was interrupted. Folders of failed runs
are kept.
"""

import argparse
import json
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
import time

import lane as lanes
from nemesis import NEMESES

PROGRESS_SECONDS = 10


def play_one(lane, nemesis, seed, kept):
    """(what is wrong, transactions made, of these overtaken); keeps a folder when something is wrong."""
    run = lanes.Run(lane, seed, NEMESES[nemesis])
    try:
        wrong = run.play()
    except lanes.FAILURES as error:
        wrong = ["%s: %s" % (type(error).__name__, error)]
    if wrong:
        run.keep(kept, wrong)
    return wrong, len(run.record.transactions) if run.record else 0, len(run.record.overtaken) if run.record else 0


def work(number, folder, jobs, results):
    """A lane's process: plays jobs until none is left; a lane in which something went wrong is made anew."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    lane, made = None, 0
    try:
        while True:
            try:
                nemesis, seed = jobs.get(timeout=0.2)
            except queue.Empty:
                return
            started = time.monotonic()
            if lane is None:
                lane = lanes.Lane(os.path.join(folder, "lane-%d-%d" % (number, made)), number)
                made += 1
            kept = os.path.join(folder, "%s-%d" % (nemesis, seed))
            wrong, count, overtaken = play_one(lane, nemesis, seed, kept)
            results.put({"nemesis": nemesis, "seed": seed, "wrong": wrong[:20], "transactions": count, "overtaken": overtaken,
                         "seconds": round(time.monotonic() - started, 2), "folder": kept if wrong else None})
            if wrong:
                lane = end(lane)
    except (RuntimeError, OSError) as error:
        results.put({"broken": "lane %d: %s" % (number, error)})
    finally:
        end(lane)


def end(lane):
    if lane:
        lane.close()
        shutil.rmtree(lane.folder, ignore_errors=True)


class Tally:
    """What came in so far, and the line about it."""

    def __init__(self, wanted, quiet):
        self.wanted, self.quiet = wanted, quiet
        self.started = self.said = time.monotonic()
        self.of, self.failed, self.broken = {}, [], []

    def done(self):
        return self.sum("runs")

    def sum(self, what):
        return sum(each[what] for each in self.of.values())

    def take(self, result):
        if "broken" in result:
            self.broken.append(result["broken"])
            return
        each = self.of.setdefault(result["nemesis"], {"runs": 0, "failed": 0, "transactions": 0, "overtaken": 0,
                                                      "first_seed": result["seed"], "last_seed": result["seed"]})
        each["runs"] += 1
        each["failed"] += bool(result["wrong"])
        each["transactions"] += result["transactions"]
        each["overtaken"] += result["overtaken"]
        each["first_seed"] = min(each["first_seed"], result["seed"])
        each["last_seed"] = max(each["last_seed"], result["seed"])
        if result["wrong"]:
            self.failed.append(result)
            self.say("FAILED: --nemesis %(nemesis)s --seed %(seed)d --runs 1, kept in %(folder)s" % result,
                     *("  " + text for text in result["wrong"][:8]))

    def say(self, *lines):
        for line in lines:
            print(line, file=sys.stderr, flush=True)

    def progress(self):
        if self.quiet or time.monotonic() < self.said + PROGRESS_SECONDS:
            return
        self.said = time.monotonic()
        seconds = self.said - self.started
        left = seconds / max(self.done(), 1) * (self.wanted - self.done())
        self.say("%d of %d runs, %d failed, %d transactions, %.0f s; about %.0f s more" % (
            self.done(), self.wanted, len(self.failed), self.sum("transactions"), seconds, left))

    def as_dict(self):
        return {"nemeses": self.of, "runs": self.done(), "wanted": self.wanted, "transactions": self.sum("transactions"),
                "overtaken": self.sum("overtaken"), "failed": self.failed, "broken": self.broken,
                "seconds": round(time.monotonic() - self.started, 1)}

    def as_text(self):
        lines = ["%-10s %6s %7s %13s %10s  %s" % ("nemesis", "runs", "failed", "transactions", "overtaken", "seeds")]
        rows = [(name, each, "%d-%d" % (each["first_seed"], each["last_seed"]) + "".join(
            "; failed: %d" % f["seed"] for f in self.failed if f["nemesis"] == name)) for name, each in self.of.items()]
        lines += ["%-10s %6d %7d %13d %10d  %s" % (name, each["runs"], each["failed"], each["transactions"], each["overtaken"],
                                                   seeds) for name, each, seeds in rows]
        lines += ["all        %6d %7d %13d %10d  %d wanted, %.0f s" % (
            self.done(), len(self.failed), self.sum("transactions"), self.sum("overtaken"), self.wanted,
            time.monotonic() - self.started)]
        return "\n".join(lines + self.broken)


def play(nemeses, seeds, lane_count, folder, quiet=False):
    """Plays every nemesis with every seed; a Tally. One that is interrupted says so in `broken`."""
    context = multiprocessing.get_context("fork")
    jobs, results = context.Queue(), context.Queue()
    jobs.cancel_join_thread()  # when ended early, nobody reads the rest
    tally = Tally(len(nemeses) * len(seeds), quiet)
    for seed in seeds:
        for nemesis in nemeses:
            jobs.put((nemesis, seed))
    workers = [context.Process(target=work, args=(i, folder, jobs, results)) for i in range(min(lane_count, tally.wanted))]
    for w in workers:
        w.start()
    try:
        while tally.done() < tally.wanted:
            try:
                tally.take(results.get(timeout=0.5))
            except queue.Empty:
                if not any(w.is_alive() for w in workers):
                    break
            tally.progress()
    except (KeyboardInterrupt, SystemExit):
        tally.broken.append("interrupted after %d of %d runs" % (tally.done(), tally.wanted))
        for w in workers:
            w.terminate()
    finally:
        for w in workers:
            w.join()
    if tally.done() < tally.wanted and not tally.broken:
        tally.broken.append("%d runs were not played" % (tally.wanted - tally.done()))
    return tally


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # lanes end with us
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nemesis", choices=[*NEMESES, "all"], default="all")
    options.add_argument("--runs", type=int, default=10, help="of each nemesis (default 10)")
    options.add_argument("--seed", type=int, default=1, help="the first (default 1); each run takes the next")
    options.add_argument("--lanes", type=int, default=2, help="side by side (default 2)")
    options.add_argument("--folder", help="for what is kept of failed runs (default: a new temporary one)")
    options.add_argument("--json", action="store_true", help="the result as one JSON object on standard output")
    given = options.parse_args()
    folder = given.folder or tempfile.mkdtemp(prefix="ferry-histories-")
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)
    nemeses = list(NEMESES) if given.nemesis == "all" else [given.nemesis]
    tally = play(nemeses, range(given.seed, given.seed + given.runs), given.lanes, folder)
    if not tally.failed and not given.folder:
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        print(json.dumps(tally.as_dict(), indent=1))
    else:
        print(tally.as_text())
    return 2 if tally.broken else 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
