#!/usr/bin/python3
"""P10 on real processes: devices whose clocks stand in 1970 or 2038, or jump, neither win nor lose edits by it.

The device's clock is faked for its agent and its apps alike, by a library that is preloaded; monotonic time is real.
"""

import json
import os
import subprocess
import sys
import time
import unittest

import ferry_run
from ferry_run import SiteCase, wait_until

FAKE_CLOCK = ferry_run.program("fake-clock.so")
APP = "import json, sqlite3, sys; d = sqlite3.connect(sys.argv[1], timeout=30); d.execute(sys.argv[2], json.loads(sys.argv[3])); d.commit()"


class Clocks(SiteCase):

    def setUp(self):
        super().setUp()
        self.unit = self.new_unit(view="none", floor=0)

    def clock(self, device, seconds):
        """Sets the device's clock off by so many seconds."""
        self.env = {"LD_PRELOAD": FAKE_CLOCK, "FAKE_CLOCK": os.path.join(device.folder, "clock")}
        with open(self.env["FAKE_CLOCK"] + ".new", "w", encoding="ascii") as f:
            f.write(str(int(seconds)))
        os.rename(self.env["FAKE_CLOCK"] + ".new", self.env["FAKE_CLOCK"])

    def app(self, device, text, *args):
        """An edit by an app that has the device's clock."""
        subprocess.run([sys.executable, "-c", APP, device.replica, text, json.dumps(args)], check=True,
                       env=dict(os.environ, **self.env))

    def two(self, seconds):
        """Two devices that have met the hub, the first with its clock off; both are stopped."""
        a, b = self.device("wrong", start=False), self.device("right")
        self.clock(a, seconds)
        a.start(self.env)
        self.settle()
        a.stop()
        b.stop()
        return a, b

    def later(self):
        """Of two edits one has to be later, by more than the step in which times are told."""
        since = time.monotonic()
        wait_until(lambda: time.monotonic() > since + 0.5, 10, "a moment")

    def view(self):
        return self.site.value("SELECT view FROM inventory.units WHERE id = %s", self.unit)

    def exchange(self, first, second):
        for device in (first, second):
            device.start(self.env if device.label.startswith("wrong") else None)
            self.settle(device)
        self.settle()
        self.assert_same()

    def check(self, seconds):
        a, b = self.two(seconds)
        for first, second in ((a, b), (b, a)):  # in either order of coming, the later edit stands
            self.app(a, "UPDATE units SET view = 'wrong clock, earlier' WHERE id = ?", self.unit)
            self.later()
            b.sql("UPDATE units SET view = 'right clock, later' WHERE id = ?", self.unit)
            self.exchange(first, second)
            self.assertEqual(self.view(), "right clock, later")
            a.stop()
            b.stop()
            b.sql("UPDATE units SET view = 'right clock, earlier' WHERE id = ?", self.unit)
            self.later()
            self.app(a, "UPDATE units SET view = 'wrong clock, later' WHERE id = ?", self.unit)
            self.exchange(first, second)
            self.assertEqual(self.view(), "wrong clock, later")
            a.stop()
            b.stop()

    def test_P10_a_device_in_1970_neither_wins_nor_loses(self):
        self.check(-time.time() + 1000)

    def test_P10_a_device_beyond_2038_neither_wins_nor_loses(self):
        self.check(2 ** 31 - time.time() + 86400)

    def test_P10_a_clock_that_jumps_while_the_agent_runs_changes_nothing(self):
        a, b = self.two(0)
        a.start(self.env)
        b.start()
        self.settle()
        for years in (-20, 12, 0):
            b.stop()
            b.sql("UPDATE units SET view = ? WHERE id = ?", "earlier %d" % years, self.unit)
            self.later()
            self.clock(a, years * 365 * 86400)
            self.app(a, "UPDATE units SET view = ? WHERE id = ?", "later %d" % years, self.unit)
            self.settle(a)
            b.start()
            self.settle()
            self.assertEqual(self.view(), "later %d" % years)
        self.assert_same()

    def test_P10_a_clock_that_was_ahead_before_the_contact_does_not_win(self):
        """Nobody could tell the agent while it had no hub; the contact does, before the edit is offered."""
        a, b = self.two(0)
        self.clock(a, 10 * 365 * 86400)
        self.app(a, "UPDATE units SET view = 'ahead, earlier' WHERE id = ?", self.unit)
        self.later()
        b.sql("UPDATE units SET view = 'later' WHERE id = ?", self.unit)
        self.exchange(b, a)
        self.assertEqual(self.view(), "later")
        self.assertEqual(self.site.sql("SELECT winner, device_value FROM ferry.conflict WHERE key = %s", self.unit),
                         [("hub", "ahead, earlier")])

    def test_P10_no_stamp_lies_in_the_future_of_the_hub(self):
        a, _ = self.two(20 * 365 * 86400)
        self.app(a, "UPDATE units SET view = 'future' WHERE id = ?", self.unit)
        a.start(self.env)
        self.settle(a)
        self.assertLess(self.site.value("SELECT max(at) FROM ferry.stamp"), (time.time() + 5) * 1e6)
        wait_until(lambda: abs(a.status()["clock_offset_us"] + 20 * 365 * 86400 * 1e6) < 60e6, 20, "the measured offset")


if __name__ == "__main__":
    unittest.main()
