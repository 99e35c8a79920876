#!/usr/bin/python3
"""Number sequences: templates, periods in the tenant's time zone, gaps, concurrent takers."""

import threading
import unittest

import ferry_pg
from ferry_case import HubCase, run


class Numbers(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.sql("UPDATE identity.tenants SET timezone = 'Africa/Cairo'")

    def sequence(self, code="EST", **columns):
        columns = dict({"tenant_id": self.t, "code": code, "name": code, "prefix": code}, **columns)
        self.sql("INSERT INTO governance.number_sequences (%s) VALUES (%s)" % (", ".join(columns), ", ".join(["%s"] * len(columns))),
                 *columns.values())

    def take(self, code="EST", at=None):
        return self.value("SELECT governance.next_number(%s, %s, coalesce(%s::timestamptz, now()))", self.t, code, at)

    def test_defaults_give_prefix_and_six_digits(self):
        self.sequence()
        self.assertEqual([self.take() for _ in range(3)], ["EST-000001", "EST-000002", "EST-000003"])

    def test_template_padding_step_and_suffix_shape_the_number(self):
        self.sequence(format_template="{YYYY}{MM}{DD}/{prefix}/{SEQ}{suffix}", padding_length=3, step=5, min_value=10, suffix="-X")
        at = "2026-03-04 12:00+00"
        self.assertEqual([self.take(at=at), self.take(at=at)], ["20260304/EST/010-X", "20260304/EST/015-X"])

    def test_number_longer_than_its_padding_is_whole(self):
        self.sequence(padding_length=2, current_value=99)
        self.assertEqual(self.take(), "EST-100")

    def test_each_reset_mode_starts_anew_at_the_edge_of_its_period_in_the_tenants_zone(self):
        # Cairo is at +02:00 in winter: its new year begins at 22:00 UTC.
        for mode, before, after in (("YEARLY", "2026-12-31 21:59+00", "2026-12-31 22:00+00"),
                                    ("MONTHLY", "2026-01-31 21:59+00", "2026-01-31 22:00+00"),
                                    ("WEEKLY", "2026-01-04 21:59+00", "2026-01-04 22:00+00"),
                                    ("DAILY", "2026-01-06 21:59+00", "2026-01-06 22:00+00")):
            for gap_free in (True, False):
                code = mode + str(gap_free)
                self.sequence(code, reset_mode=mode, gap_free=gap_free)
                self.assertEqual([self.take(code, t)[-6:] for t in (before, before, after, after)],
                                 ["000001", "000002", "000001", "000002"], code)
        self.sequence("N")
        self.assertEqual([self.take("N", t)[-1] for t in ("2026-12-31 10:00+00", "2027-06-01 10:00+00")], ["1", "2"])

    def test_late_booking_goes_on_in_the_period_that_has_begun(self):
        for code, gap_free in (("A", True), ("B", False)):
            self.sequence(code, reset_mode="YEARLY", gap_free=gap_free)
            self.assertEqual([self.take(code, t)[-1] for t in ("2026-06-01", "2027-06-01", "2026-06-01", "2027-06-01")], ["1", "1", "2", "3"])

    def test_gap_free_number_comes_back_after_rollback_and_a_loose_one_does_not(self):
        self.sequence("A")
        self.sequence("B", gap_free=False)
        self.assertEqual((self.take("A")[-1], self.take("B")[-1]), ("1", "1"))
        conn = self.conn()
        run(conn, "SELECT governance.next_number(%s, 'A'), governance.next_number(%s, 'B')", self.t, self.t)
        conn.rollback()
        self.assertEqual((self.take("A")[-1], self.take("B")[-1]), ("2", "3"))

    def test_taker_of_a_gap_free_number_waits_for_the_one_before_it(self):
        self.sequence()
        first, second, got = self.conn(), self.conn(), []
        pid = run(second, "SELECT pg_backend_pid()")[0][0]
        second.commit()
        run(first, "SELECT governance.next_number(%s, 'EST')", self.t)
        thread = threading.Thread(target=lambda: got.append(run(second, "SELECT governance.next_number(%s, 'EST')", self.t)[0][0]))
        thread.start()
        ferry_pg.wait_blocked(self.db, pid)
        first.rollback()
        thread.join()
        second.commit()
        self.assertEqual(got, ["EST-000001"])

    def test_concurrent_takers_get_each_number_once_and_none_is_left_out(self):
        self.sequence("A")
        self.sequence("B", gap_free=False)
        got, failures = {"A": [], "B": []}, []

        def work(k):
            try:
                conn = self.conn()
                for i in range(20):
                    for code in "AB":
                        number = run(conn, "SELECT governance.next_number(%s, %s)", self.t, code)[0][0]
                        if i % 5 == 4 and k % 2:
                            conn.rollback()
                        else:
                            conn.commit()
                            got[code].append(int(number[2:]))
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failures, [])
        self.assertEqual(sorted(got["A"]), list(range(1, len(got["A"]) + 1)))
        self.assertEqual(len(set(got["B"])), len(got["B"]))

    def test_used_up_and_unknown_sequences_say_so(self):
        self.sequence(max_value=2)
        self.sequence("LOOSE", max_value=1, gap_free=False)
        self.take(), self.take(), self.take("LOOSE")
        take = "SELECT governance.next_number(%s, %s)"
        self.assertIn("used up", self.refused("FE321", take, self.t, "EST").diag.message_primary)
        self.assertIn("used up", self.refused("FE321", take, self.t, "LOOSE").diag.message_primary)
        self.assertIn("no active number sequence NONE", self.refused("FE321", take, self.t, "NONE").diag.message_primary)

    def test_other_tenants_sequence_is_not_reached(self):
        self.sequence()
        other = self.tenant("other")
        conn = self.conn(tenant=other)
        run(conn, "SET ROLE ferry_app")
        conn.commit()
        self.refused("FE321", "SELECT governance.next_number(%s, 'EST')", self.t, conn=conn)

    def test_gap_free_sequence_that_has_counted_is_not_set_moved_or_deleted(self):
        self.sequence(gap_free=True, step=2)
        self.sql("UPDATE governance.number_sequences SET current_value = 10")  # where an older system ended
        self.assertEqual(self.take(), "EST-000012")
        for change in ("current_value = 0", "current_value = 13", "current_value = 40", "gap_free = false", "period = '0', current_value = 14"):
            if change.startswith("period"):
                self.sql("UPDATE governance.number_sequences SET reset_mode = 'YEARLY'")
                self.take()
            error = self.refused("FE321", "UPDATE governance.number_sequences SET " + change)
            self.assertIn("no gap", error.diag.message_primary)
        self.refused("FE321", "DELETE FROM governance.number_sequences")
        self.sql("UPDATE governance.number_sequences SET name = 'renamed', padding_length = 3")
        self.sql("DELETE FROM identity.tenants")
        self.assertEqual(self.value("SELECT count(*) FROM governance.number_sequences"), 0)

    def test_value_of_another_tenants_or_of_no_sequence_is_not_taken(self):
        self.sequence("LOOSE", gap_free=False)
        conn = self.conn(tenant=self.tenant("other"))
        run(conn, "SET ROLE ferry_app")
        conn.commit()
        for key in (self.value("SELECT id FROM governance.number_sequences WHERE code = 'LOOSE'"), self.t):
            self.refused("FE321", "SELECT governance.loose_value(%s, '', 1, 1)", key, conn=conn)
        self.assertEqual(self.value("SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relname ~ '^number_'"), 0)
        self.assertEqual(self.take("LOOSE"), "LOOSE-000001")
        conn = self.conn(tenant=self.t)
        run(conn, "SET ROLE ferry_app")
        self.assertEqual(run(conn, "SELECT governance.next_number(%s, 'LOOSE')", self.t), [("LOOSE-000002",)])

    def test_bad_templates_are_refused(self):
        self.refused("23514", "INSERT INTO governance.number_sequences (tenant_id, code, name, prefix, format_template) "
                              "VALUES (%s, 'x', 'x', 'x', '{prefix}')", self.t)
        self.refused("23514", "INSERT INTO governance.number_sequences (tenant_id, code, name, prefix, step) VALUES (%s, 'x', 'x', 'x', 0)", self.t)

    def test_invoices_are_numbered_by_tenant_and_year(self):
        take = "SELECT governance.next_invoice_number(%s, %s)"
        other = self.tenant("other")
        self.assertEqual([self.value(take, self.t, y + "-05-01") for y in ("2025", "2025", "2026")],
                         ["INV-2025-000001", "INV-2025-000002", "INV-2026-000001"])
        self.assertEqual(self.value(take, other, "2025-05-01"), "INV-2025-000001")


if __name__ == "__main__":
    unittest.main()
