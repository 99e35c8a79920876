#!/usr/bin/python3
"""Parents that come along with the rows that refer to them: who has them, when they come and when they go."""

import threading
import unittest
import uuid

import ferry_pg
from ferry_case import HubCase, run


class Brought(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.p, self.q = sorted((self.project(self.t, "Palm"), self.project(self.t, "Lake")))
        self.table("regions", "name text", "row:home", extra="home text NOT NULL DEFAULT 'office'")
        self.table("firms", "name text, region_id uuid", "row:home", "regions region_id", extra="home text NOT NULL DEFAULT 'office'")
        self.table("jobs", "project_id uuid, firm_id uuid, second_id uuid, note text, deleted_at timestamptz", "project:project_id",
                   "firms firm_id", "firms second_id")
        self.bring("jobs", "firm_id")
        self.a, self.b = sorted(self.row("firms", name=n) for n in "ab")

    # ---- words

    def table(self, name, columns, scope, *references, extra="spare text"):
        self.sql("CREATE TABLE public.%s (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), %s, %s, PRIMARY KEY (tenant_id, id)%s)" % (
            name, columns, extra, "".join(", FOREIGN KEY (tenant_id, %s) REFERENCES public.%s ON DELETE CASCADE" % (r.split()[1], r.split()[0])
                                          for r in references)))
        self.sql("SELECT ferry.isolate('public.%s')" % name)
        self.sql("SELECT ferry.track('public.%s', %%s)" % name, scope)

    def bring(self, table, column, *more):
        self.sql("SELECT ferry.bring('public.%s', %%s%s)" % (table, "".join(", " + m for m in more)), column)

    def row(self, table, conn=None, **columns):
        columns = dict({"tenant_id": self.t}, **columns)
        text = "INSERT INTO public.%s (%s) VALUES (%s) RETURNING id" % (table, ", ".join(columns), ", ".join(["%s"] * len(columns)))
        return run(conn, text, *columns.values())[0][0] if conn else self.value(text, *columns.values())

    def job(self, project, firm, **more):
        return self.row("jobs", project_id=project, firm_id=firm, **more)

    def scopes(self, table, key):
        """(own scopes, those where it is because rows refer to it)."""
        v = self.version(table, key)
        also = v["also"] or []
        own = len(also) if v["own"] is None else v["own"]
        return {v["scope"], *also[:own]}, {self.short(s) for s in also[own:]}

    def short(self, scope):
        return {"project:%s" % self.p: "p", "project:%s" % self.q: "q"}.get(scope, scope)

    def assert_where(self, firm, *scopes, table="firms"):
        self.assertEqual(self.scopes(table, firm), ({"office"}, set(scopes)))

    def left(self, key):
        return {self.short(r[0]) for r in self.sql("SELECT scope FROM ferry.left WHERE key = %s", key)}

    # ---- coming and going

    def test_R14_first_reference_brings_the_parent_and_the_last_takes_it_away(self):
        self.assert_where(self.a)
        low = self.head(self.t)
        first = self.job(self.p, self.a)
        self.assert_where(self.a, "p")
        self.assertEqual(self.changed(self.t, low)["firms", "project:%s" % self.p], {self.a})
        second = self.job(self.p, self.a)
        self.sql("DELETE FROM public.jobs WHERE id = %s", first)
        self.assert_where(self.a, "p")
        self.sql("DELETE FROM public.jobs WHERE id = %s", second)
        self.assert_where(self.a)
        self.assertEqual(self.left(self.a), {"p"})
        self.assertFalse(self.version("firms", self.a)["deleted"])
        self.assertEqual(self.sql("SELECT * FROM ferry.reference"), [])
        self.assertEqual(self.sql("SELECT * FROM ferry.brought"), [])
        self.assert_sound()

    def test_parent_comes_in_the_same_position_as_its_row(self):
        low = self.head(self.t)
        self.job(self.p, self.a)
        self.assertEqual([p for p in self.positions(self.t) if p > low], [self.head(self.t)])
        scope = "project:%s" % self.p
        self.assertEqual({k for k in self.changed(self.t, low) if k[1] == scope}, {("jobs", scope), ("firms", scope)})

    def test_second_reference_in_a_scope_changes_the_parent_in_nothing(self):
        self.job(self.p, self.a)
        low = self.head(self.t)
        self.job(self.p, self.a)
        self.assertEqual({k[0] for k in self.changed(self.t, low)}, {"jobs"})
        self.assert_sound()

    def test_reference_that_changes_takes_its_parent_along(self):
        key = self.job(self.p, self.a)
        self.sql("UPDATE public.jobs SET firm_id = %s", self.b)
        self.assert_where(self.a)
        self.assert_where(self.b, "p")
        self.sql("UPDATE public.jobs SET firm_id = NULL")
        self.assert_where(self.b)
        self.sql("UPDATE public.jobs SET firm_id = %s WHERE id = %s", self.b, key)
        self.assert_where(self.b, "p")
        self.assertEqual(self.left(self.b), set())
        self.assert_sound()

    def test_row_that_moves_takes_its_parent_along(self):
        self.job(self.p, self.a)
        self.sql("UPDATE public.jobs SET project_id = %s", self.q)
        self.assert_where(self.a, "q")
        self.assertEqual(self.left(self.a), {"p"})
        self.job(self.p, self.a)
        self.assert_where(self.a, "p", "q")
        self.assertEqual(self.left(self.a), set())
        self.assert_sound()

    def test_change_of_another_column_counts_nothing(self):
        self.job(self.p, self.a)
        before = self.sql("SELECT xmin, * FROM ferry.reference")
        low = self.head(self.t)
        self.sql("UPDATE public.jobs SET note = 'x'")
        self.assertEqual({k[0] for k in self.changed(self.t, low)}, {"jobs"})
        self.assertEqual(self.sql("SELECT xmin, * FROM ferry.reference"), before)
        self.assert_sound()

    def test_archived_row_takes_its_parent_to_the_archive(self):
        self.sql("SELECT ferry.archive('public.jobs')")
        key = self.job(self.p, self.a)
        self.sql("UPDATE public.jobs SET deleted_at = now()")
        self.assert_where(self.a, "project:%s+archived" % self.p)
        self.sql("UPDATE public.jobs SET deleted_at = NULL WHERE id = %s", key)
        self.assert_where(self.a, "p")
        self.assert_sound()

    def test_parent_that_is_in_the_scope_by_itself_is_its_own_there(self):
        self.job(self.p, self.a)
        self.sql("UPDATE public.firms SET home = 'project:' || %s WHERE id = %s", self.p, self.a)
        self.assertEqual(self.scopes("firms", self.a), ({"project:%s" % self.p}, set()))
        self.assert_sound()
        self.sql("UPDATE public.firms SET home = 'office' WHERE id = %s", self.a)
        self.assert_where(self.a, "p")
        self.assertEqual(self.left(self.a), set())
        self.assert_sound()

    def test_parents_of_parents_come_along_and_go_along(self):
        self.bring("firms", "region_id")
        far, near = self.row("regions", name="far"), self.row("regions", name="near")
        self.sql("UPDATE public.firms SET region_id = %s WHERE id = %s", far, self.a)
        self.assertEqual(self.scopes("regions", far), ({"office"}, set()))
        self.job(self.p, self.a)
        self.assert_where(far, "p", table="regions")
        self.job(self.q, self.a)
        self.assert_where(far, "p", "q", table="regions")
        self.sql("UPDATE public.firms SET region_id = %s WHERE id = %s", near, self.a)
        self.assert_where(far, table="regions")
        self.assert_where(near, "p", "q", table="regions")
        self.assert_sound()
        self.sql("DELETE FROM public.jobs")
        self.assert_where(near, table="regions")
        self.assertEqual(self.left(near), {"p", "q"})
        self.assert_sound()

    def test_two_columns_of_one_row_count_each(self):
        self.bring("jobs", "second_id")
        self.job(self.p, self.a, second_id=self.a)
        self.sql("UPDATE public.jobs SET firm_id = NULL")
        self.assert_where(self.a, "p")
        self.sql("UPDATE public.jobs SET second_id = NULL")
        self.assert_where(self.a)
        self.assert_sound()

    def test_deleted_parent_takes_its_rows_along_and_comes_back_with_the_next(self):
        self.job(self.p, self.a)
        self.sql("DELETE FROM public.firms WHERE id = %s", self.a)
        self.assertEqual(self.value("SELECT count(*) FROM public.jobs"), 0)
        self.assertEqual(self.sql("SELECT * FROM ferry.brought"), [])
        self.row("firms", id=self.a, name="again")
        self.assert_where(self.a)
        self.job(self.q, self.a)
        self.assert_where(self.a, "q")
        self.assert_sound()

    def test_parent_and_row_of_one_transaction_and_what_comes_and_goes_within_it(self):
        conn = self.conn()
        firm = self.row("firms", conn, name="new")
        self.row("jobs", conn, project_id=self.p, firm_id=firm)
        run(conn, "SAVEPOINT s")
        self.row("jobs", conn, project_id=self.q, firm_id=self.b)
        run(conn, "SET CONSTRAINTS ALL IMMEDIATE")
        run(conn, "ROLLBACK TO SAVEPOINT s")
        self.row("jobs", conn, project_id=self.q, firm_id=self.a)
        run(conn, "SET CONSTRAINTS ALL IMMEDIATE")
        run(conn, "DELETE FROM public.jobs WHERE firm_id = %s", self.a)
        conn.commit()
        self.assert_where(firm, "p")
        self.assert_where(self.a)
        self.assert_where(self.b)
        self.assert_sound()

    def test_many_rows_at_once_copy_and_scanned_versions_say_the_same(self):
        self.sql("INSERT INTO public.firms (tenant_id, name) SELECT %s, 'f' || i FROM generate_series(1, 300) i", self.t)
        low = self.head(self.t)
        self.sql("INSERT INTO public.jobs (tenant_id, project_id, firm_id) SELECT %s, %s, id FROM public.firms, generate_series(1, 2)", self.t, self.p)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE own = 0"), 302)
        self.assert_sound()
        self.sql("UPDATE public.jobs SET project_id = %s WHERE get_byte(uuid_send(firm_id), 0) < 128", self.q)
        self.assert_sound()
        self.sql("DELETE FROM public.jobs")
        self.assert_sound()
        recent = self.changed(self.t, low)
        self.sql("SELECT ferry.prune_changes(%s, %s)", self.t, self.head(self.t))
        scanned = self.changed(self.t, low)
        # Of rows that have gone for good the versions know no scope but the last.
        self.assertLessEqual({k for k in scanned if k[0] == "firms"}, {k for k in recent if k[0] == "firms"})
        self.assertEqual(self.value("SELECT count(*) FROM ferry.brought"), 0)

    def test_edit_of_the_parent_shows_in_all_its_scopes_and_sums(self):
        self.job(self.p, self.a)
        self.job(self.q, self.a)
        low = self.head(self.t)
        self.sql("UPDATE public.firms SET name = 'new' WHERE id = %s", self.a)
        self.assertEqual(self.changed(self.t, low), {("firms", s): {self.a} for s in ("office", "project:%s" % self.p, "project:%s" % self.q)})
        self.assertIsNotNone(self.version("firms", self.a)["over"])
        self.assert_sound()

    def test_update_that_changes_nothing_takes_no_position(self):
        head = self.head(self.t)
        self.sql("UPDATE public.firms SET name = name")
        self.assertEqual(self.head(self.t), head)
        self.assert_sound()

    # ---- at the same time

    def race(self, first, second):
        """Both have done their work; the second commits while the first's end is held up, and then the first goes on."""
        holder = self.conn()
        run(holder, "SELECT pg_advisory_xact_lock(ferry.lock_of(%s))", self.t)
        threads = [threading.Thread(target=c.commit) for c in (first, second)]
        threads[0].start()
        ferry_pg.wait_blocked(self.db, first.get_backend_pid())
        threads[1].start()
        ferry_pg.wait_blocked(self.db, second.get_backend_pid())
        holder.rollback()
        for t in threads:
            t.join()

    def test_R13_last_reference_goes_while_another_comes(self):
        old = self.job(self.p, self.a)
        for order in (0, 1):
            with self.subTest(order=order):
                remover, adder = self.conn(), self.conn()
                run(remover, "DELETE FROM public.jobs WHERE id = %s", old)
                old = self.row("jobs", adder, project_id=self.p, firm_id=self.a)
                self.race(*((remover, adder), (adder, remover))[order])
                self.assert_where(self.a, "p")
                self.assertEqual(self.left(self.a), set())
                self.assert_sound()

    def test_R13_two_last_references_go_at_the_same_time(self):
        one, two = self.job(self.p, self.a), self.job(self.p, self.a)
        conns = self.conn(), self.conn()
        for conn, key in zip(conns, (one, two)):
            run(conn, "DELETE FROM public.jobs WHERE id = %s", key)
        self.race(*conns)
        self.assert_where(self.a)
        self.assertEqual(self.left(self.a), {"p"})
        self.assert_sound()

    def test_parent_is_edited_while_references_come_and_nobody_waits_for_ever(self):
        editor, adder = self.conn(), self.conn()
        run(editor, "UPDATE public.firms SET name = 'edited' WHERE id = %s", self.a)
        self.row("jobs", editor, project_id=self.q, firm_id=self.b)
        run(adder, "UPDATE public.firms SET name = 'edited' WHERE id = %s", self.b)
        self.row("jobs", adder, project_id=self.p, firm_id=self.a)
        self.race(editor, adder)
        self.assert_where(self.a, "p")
        self.assert_where(self.b, "q")
        self.assert_sound()

    def test_old_snapshot_fails_or_is_right(self):
        self.job(self.p, self.a)
        conn = self.conn()
        run(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        run(conn, "SELECT 1")
        self.sql("DELETE FROM public.jobs")
        self.row("jobs", conn, project_id=self.p, firm_id=self.a)
        try:
            conn.commit()
            self.assert_where(self.a, "p")
        except Exception as error:  # what came between is not seen: to be repeated
            self.assertEqual(error.pgcode, "40001", str(error))
            self.assert_where(self.a)
        self.assert_sound()

    # ---- tables that change

    def test_rows_that_are_there_bring_and_take_away_when_it_is_declared_and_ended(self):
        self.job(self.p, None, second_id=self.a)
        self.job(self.q, self.b)
        self.bring("jobs", "second_id")
        self.assert_where(self.a, "p")
        self.assert_sound()
        self.bring("jobs", "second_id")
        self.bring("jobs", "second_id", "false")
        self.assert_where(self.a)
        self.assert_where(self.b, "q")
        self.bring("jobs", "second_id", "false")
        self.assert_sound()

    def test_untracked_table_takes_away_what_it_brought_and_brings_nothing_when_tracked_anew(self):
        self.job(self.p, self.a)
        jobs = self.sql("SELECT tbl FROM ferry.tracked WHERE relid = 'public.jobs'::regclass")[0][0]
        self.assertEqual(len(self.sql("SELECT * FROM ferry.bring WHERE tbl = %s", jobs)), 1)
        self.sql("SELECT ferry.untrack('public.jobs')")
        self.assert_where(self.a)
        self.assertEqual(self.sql("SELECT * FROM ferry.bring WHERE tbl = %s", jobs), [])
        self.sql("SELECT ferry.track('public.jobs', 'project:project_id')")
        self.assert_where(self.a)
        self.bring("jobs", "firm_id")
        self.assert_where(self.a, "p")
        self.assert_sound()

    def test_parents_table_is_not_untracked_under_those_that_bring_its_rows(self):
        self.job(self.p, self.a)
        self.refused("2BP01", "SELECT ferry.untrack('public.firms')")
        self.bring("jobs", "firm_id", "false")
        self.sql("SELECT ferry.untrack('public.firms')")
        self.sql("SELECT ferry.track('public.firms', 'row:home')")
        self.bring("jobs", "firm_id")
        self.assert_where(self.a, "p")
        self.assert_sound()

    def test_another_scope_of_the_rows_or_of_the_parents_is_followed(self):
        self.job(self.p, self.a)
        self.sql("SELECT ferry.rescope('public.jobs', 'site:project_id')")
        self.assert_where(self.a, "site:%s" % self.p)
        self.assert_sound()
        self.sql("SELECT ferry.rescope('public.firms', 'tenant')")
        self.assertEqual(self.scopes("firms", self.a), ({"tenant"}, {"site:%s" % self.p}))
        self.assert_sound()

    def test_read_permission_that_comes_is_followed(self):
        self.job(self.p, self.a)
        self.sql("SELECT ferry.permit('public.jobs', 'read', 'jobs.view')")
        self.assert_where(self.a, "project:%s/jobs.view" % self.p)
        self.assert_sound()
        error = self.refused("42501", "SELECT ferry.permit('public.firms', 'read', 'firms.view')")
        self.assertIn("firms.view", str(error))
        self.bring("jobs", "firm_id", "open => true")
        self.sql("SELECT ferry.permit('public.firms', 'read', 'firms.view')")
        self.assertEqual(self.scopes("firms", self.a), ({"office/firms.view"}, {"project:%s/jobs.view" % self.p}))
        self.sql("SELECT ferry.rescope('public.firms', 'tenant')")
        self.assertEqual(self.scopes("firms", self.a), ({"tenant/firms.view"}, {"project:%s/jobs.view" % self.p}))
        self.assert_sound()

    def test_P7_permission_of_the_parents_is_not_gone_round_unless_it_is_said(self):
        self.bring("jobs", "firm_id", "false")
        self.sql("SELECT ferry.permit('public.firms', 'read', 'firms.view')")
        self.refused("42501", "SELECT ferry.bring('public.jobs', 'firm_id')")
        self.sql("SELECT ferry.permit('public.jobs', 'read', 'firms.view')")
        self.bring("jobs", "firm_id")
        self.refused("42501", "SELECT ferry.permit('public.jobs', 'read', NULL)")

    def test_columns_that_are_renamed_added_and_dropped(self):
        self.job(self.p, self.a)
        self.sql("ALTER TABLE public.jobs RENAME firm_id TO of_firm")
        self.sql("ALTER TABLE public.firms ADD COLUMN rating int NOT NULL DEFAULT 3")
        self.sql("UPDATE public.jobs SET of_firm = %s", self.b)
        self.assert_where(self.a)
        self.assert_where(self.b, "p")
        self.assert_sound()
        self.refused("2BP01", "ALTER TABLE public.jobs DROP COLUMN of_firm")
        self.sql("ALTER TABLE public.jobs DROP COLUMN note")
        self.row("jobs", project_id=self.q, of_firm=self.a)
        self.assert_where(self.a, "q")
        self.bring("jobs", "of_firm", "false")
        self.sql("ALTER TABLE public.jobs DROP COLUMN of_firm")
        self.assert_sound()

    def test_column_with_a_default_counts_in_every_scope_of_a_row(self):
        self.job(self.p, self.a)
        self.sql("ALTER TABLE public.firms ADD COLUMN rating int NOT NULL DEFAULT 3")
        self.assert_sound()

    def test_rows_that_could_hold_each_other_and_what_is_no_reference_are_refused(self):
        self.sql("ALTER TABLE public.firms ADD parent_id uuid, ADD FOREIGN KEY (tenant_id, parent_id) REFERENCES public.firms")
        self.refused("0A000", "SELECT ferry.bring('public.firms', 'parent_id')")
        self.sql("ALTER TABLE public.regions ADD main_id uuid, ADD FOREIGN KEY (tenant_id, main_id) REFERENCES public.firms")
        self.bring("firms", "region_id")
        self.refused("0A000", "SELECT ferry.bring('public.regions', 'main_id')")
        self.refused("42830", "SELECT ferry.bring('public.jobs', 'note')")
        self.refused("42703", "SELECT ferry.bring('public.jobs', 'nothing')")
        self.refused("42704", "SELECT ferry.bring('pg_class', 'oid')")

    def test_what_is_written_past_the_triggers_is_found_and_put_right(self):
        key = self.job(self.p, self.a)
        self.sql("UPDATE ferry.brought SET refs = 2")
        self.assertEqual([(r[2], r[3]) for r in self.sql("SELECT * FROM ferry.verify(true)")], [(self.a, "brought")])
        self.assert_sound()
        self.sql("DELETE FROM ferry.reference")
        self.assertEqual({(r[2], r[3]) for r in self.sql("SELECT * FROM ferry.verify(true)")}, {(key, "reference"), (self.a, "brought")})
        self.assert_sound()
        self.sql("UPDATE ferry.version SET also = NULL, own = NULL WHERE key = %s", self.a)
        self.assertEqual([(r[2], r[3]) for r in self.sql("SELECT * FROM ferry.verify(true)")], [(self.a, "moved")])
        self.assert_where(self.a, "p")

    def test_parent_of_many_scopes_is_in_all_of_them(self):
        count = 300
        self.sql("INSERT INTO public.jobs (tenant_id, project_id, firm_id) SELECT %s, gen_random_uuid(), %s FROM generate_series(1, %s)", self.t, self.a, count)
        self.assertEqual(len(self.scopes("firms", self.a)[1]), count)
        self.sql("UPDATE public.firms SET name = 'x' WHERE id = %s", self.a)
        self.assert_sound()

    def test_code_of_tables_that_neither_bring_nor_are_brought_is_as_without(self):
        code = dict(self.sql("SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'ferry'::regnamespace AND proname ~ '^finish_(few|many)_[0-9]+$'"))
        words = ("refs", "brought", "own,", "counts()")
        self.assertEqual([w for w in words if w in code["finish_few_%d" % self.tbl("units")] + code["finish_many_%d" % self.tbl("units")]], [])
        self.assertIn("refs", code["finish_few_%d" % self.tbl("jobs")])
        self.assertIn("lock_brought", code["finish_many_%d" % self.tbl("firms")])


class Plan(HubCase):
    def test_preset_of_a_scan_comes_along_to_the_project_and_goes_when_the_scan_is_archived(self):
        t = self.tenant()
        project = self.project(t)
        unit = self.unit(t, project)
        preset = self.value("INSERT INTO roomscan.room_plan_presets (tenant_id, name) VALUES (%s, 'fine') RETURNING id", t)
        scan = self.value("INSERT INTO roomscan.room_scan_sessions (tenant_id, unit_id, preset_id, started_at) VALUES (%s, %s, %s, now()) RETURNING id",
                          t, unit, preset)
        version = self.version("room_plan_presets", preset)
        scope = "project:%s/roomscan.view" % project
        self.assertEqual((version["scope"], version["also"], version["own"]), ("tenant/roomscan.view", [scope], 0))
        self.sql("UPDATE roomscan.room_scan_sessions SET title = 'kitchen' WHERE id = %s", scan)
        self.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", self.project(t, "Lake"), unit)
        self.assertNotIn(scope, self.version("room_plan_presets", preset)["also"])
        self.sql("UPDATE roomscan.room_scan_sessions SET deleted_at = now() WHERE id = %s", scan)
        self.assertTrue(all(s.endswith("+archived") for s in self.version("room_plan_presets", preset)["also"]))
        self.sql("DELETE FROM roomscan.room_scan_sessions WHERE id = %s", scan)
        self.assertIsNone(self.version("room_plan_presets", preset)["also"])
        self.assert_sound()

    def test_P7_no_parent_comes_along_past_a_permission_in_the_plan(self):
        self.assertEqual(self.sql("SELECT t.name, p.name FROM ferry.bring b JOIN ferry.tracked t ON t.tbl = b.tbl JOIN ferry.tracked p ON p.tbl = b.to_tbl "
                                  "WHERE b.open OR p.read_permission IS DISTINCT FROM t.read_permission AND p.read_permission IS NOT NULL"), [])
        self.assertEqual(self.value("SELECT count(*) FROM ferry.bring"), 1)


if __name__ == "__main__":
    unittest.main()
