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

Exit code: 0 all good, 1 something was wrong, 2 it could not run. Folders of failed runs are kept.
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
        self.runs, self.failed, self.broken = {}, [], []
        self.transactions = self.overtaken = 0

    def done(self):
        return sum(self.runs.values())

    def take(self, result):
        if "broken" in result:
            self.broken.append(result["broken"])
            return
        self.runs[result["nemesis"]] = self.runs.get(result["nemesis"], 0) + 1
        self.transactions += result["transactions"]
        self.overtaken += result["overtaken"]
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
            self.done(), self.wanted, len(self.failed), self.transactions, seconds, left))

    def as_dict(self):
        return {"runs": self.runs, "wanted": self.wanted, "transactions": self.transactions, "overtaken": self.overtaken, "failed": self.failed,
                "broken": self.broken, "seconds": round(time.monotonic() - self.started, 1)}


def play(nemeses, seeds, lane_count, folder, quiet=False):
    """Plays every nemesis with every seed; a Tally."""
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
    finally:
        for w in workers:
            if sys.exc_info()[0]:
                w.terminate()
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
    answer = tally.as_dict()
    if given.json:
        print(json.dumps(answer, indent=1))
    else:
        print("%s; %d failed; %d transactions; %.0f s%s" % (
            ", ".join("%d runs of %s" % (n, name) for name, n in answer["runs"].items()) or "no runs", len(tally.failed),
            tally.transactions, answer["seconds"], "".join("\n" + text for text in tally.broken)))
    return 2 if tally.broken else 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
