#!/usr/bin/python3
"""P9: pages of a fill and deltas take bounded memory at the hub, however large their rows are."""

import unittest

from ferry_run import SiteCase

KIB, MIB = 1 << 10, 1 << 20
ROWS = 320
DOCUMENT_BYTES = 900 * KIB  # fits a message; ROWS of them are 281 MiB
FILL_BYTES_MAX = 24 * MIB   # a page, a row beside it, and what is on its way
STATE_BYTES_MAX = 64 * MIB  # the store's bound for one state (feed_bytes_max)


def memory(pid, field):
    """Bytes that a process holds (VmRSS), or has held since its peak was forgotten (VmHWM)."""
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return next(int(line.split()[1]) * KIB for line in f if line.startswith(field + ":"))


def forget_peak(pid):
    with open("/proc/%d/clear_refs" % pid, "w", encoding="ascii") as f:
        f.write("5")


class BoundedPages(SiteCase):
    def setUp(self):
        super().setUp()
        self.unit = self.new_unit()

    def make_scans(self, count, size=DOCUMENT_BYTES):
        """In one transaction; what they hold compresses badly."""
        self.site.sql(
            "INSERT INTO roomscan.room_scans (tenant_id, unit_id, captured_at, document) "
            "SELECT %s, %s, now(), jsonb_build_object('n', n, 'blob', d.blob) FROM generate_series(1, %s) n, "
            "(SELECT string_agg(md5(i::text), '') AS blob FROM generate_series(1, %s) i) d",
            self.tenant, self.unit, count, size // 32)

    def grown_by(self, work):
        """Bytes that the hub's memory has grown by at most while something was done."""
        forget_peak(self.hub.pid)
        base = memory(self.hub.pid, "VmRSS")
        work()
        grown = memory(self.hub.pid, "VmHWM") - base
        print("hub: %.1f MiB, grown by %.1f MiB" % (base / MIB, grown / MIB), flush=True)
        return grown

    def filled(self, label):
        device = self.device(label)
        self.settle(device, seconds=240)
        return device

    def test_P9_fill_of_hundreds_of_large_rows_takes_the_hub_a_page_of_memory(self):
        self.filled("small").stop()
        self.make_scans(ROWS)
        late = self.device("late", start=False)
        self.assertLess(self.grown_by(lambda: (late.start(), self.settle(late, seconds=240))), FILL_BYTES_MAX)
        self.assertEqual(late.value("SELECT count(*) FROM room_scans"), ROWS)
        self.assert_same(late)

    def test_P9_states_of_large_rows_take_the_hub_bounded_memory_and_arrive(self):
        device = self.filled("online")
        since = len(self.hub.log_text())

        def state_by_state():
            for _ in range(3):
                self.make_scans(48)
                self.settle(seconds=120)

        self.assertLess(self.grown_by(state_by_state), 4 * STATE_BYTES_MAX)
        self.assertNotIn("code=PRUNED", self.hub.log_text()[since:])
        self.assertEqual(device.value("SELECT count(*) FROM room_scans"), 144)
        self.assert_same(device)

    def test_P9_state_of_more_than_a_feed_may_hold_is_not_read_whole(self):
        device = self.filled("online")
        self.assertLess(self.grown_by(lambda: (self.make_scans(ROWS), self.settle(seconds=240))),
                        3 * STATE_BYTES_MAX)
        self.assertEqual(device.value("SELECT count(*) FROM room_scans"), ROWS)
        self.assert_same(device)

    def test_P9_rows_among_small_ones_and_above_the_limit_are_told_apart(self):
        self.filled("small").stop()
        self.make_scans(30, 2000)
        self.make_scans(2, 66 * MIB)
        self.make_scans(30, 2000)
        late = self.filled("late")
        self.assertEqual(late.value("SELECT count(*) FROM room_scans"), 60)
        self.assertGreaterEqual(self.hub.status()["database"]["oversized_rows"], 2)

    def test_P9_long_texts_among_short_ones_come_page_by_page(self):
        self.filled("small").stop()
        for size, count in ((10, 3000), (5000, 300), (10, 50), (900 * KIB, 20), (3 * MIB, 2), (10, 1500)):
            self.site.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code, virtual_tour_url) "
                          "SELECT %s, %s, 'L-' || %s || '-' || n, 'APT_1BR', repeat(md5(n::text), %s / 32) "
                          "FROM generate_series(1, %s) n", self.tenant, self.project, size, size, count)
        late = self.device("late", start=False)
        self.assertLess(self.grown_by(lambda: (late.start(), self.settle(late, seconds=240))), FILL_BYTES_MAX)
        self.assert_same(late)


if __name__ == "__main__":
    unittest.main()
