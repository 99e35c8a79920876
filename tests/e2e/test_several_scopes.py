#!/usr/bin/python3
"""Rows in several scopes on real devices: who has one of them has the row, and keeps it until the last is gone."""

import unittest
import uuid

import ferry_run
from ferry_run import wait_until


class SeveralScopes(ferry_run.SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("CREATE TABLE public.tasks (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid, "
                     "owner_id uuid, watchers uuid[], note text, PRIMARY KEY (tenant_id, id))")
        cls.site.sql("SELECT ferry.isolate('public.tasks')")
        cls.site.sql("SELECT ferry.track('public.tasks', 'project:project_id|user:owner_id|user:watchers')")

    # ---- words

    def setUp(self):
        super().setUp()
        self.second = self.new_project(name="Lake")
        self.x, self.y = str(uuid.uuid4()), str(uuid.uuid4())

    def task(self, note, **columns):
        columns = dict({"tenant_id": self.tenant, "note": note}, **columns)
        return str(self.site.value("INSERT INTO public.tasks (%s) VALUES (%s) RETURNING id" % (
            ", ".join(columns), ", ".join(["%s::uuid[]" if k == "watchers" else "%s" for k in columns])), *columns.values()))

    def notes(self, device):
        return {r[0] for r in device.sql("SELECT note FROM tasks")}

    def wait_notes(self, device, *notes):
        wait_until(lambda: self.notes(device) == set(notes), 30, "%s at %s" % (notes, device.label))

    def scope(self, what):
        return ("user:" if what in (self.x, self.y) else "project:") + what

    def with_scopes(self, label, *of):
        device = self.device(label, scopes=[self.scope(x) for x in of])
        device.wait_filled()
        return device

    def damaged(self, device, *statements):
        """Runs statements past the capture."""
        with device.transaction() as db:
            triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'tasks'").fetchall()
            for name, _ in triggers:
                db.execute('DROP TRIGGER "%s"' % name)
            for text, *args in statements:
                self.assertEqual(db.execute(text, args).rowcount, 1)
            for _, sql in triggers:
                db.execute(sql)

    # ---- tests

    def test_row_is_where_one_of_its_scopes_is_and_leaves_with_the_last(self):
        key = self.task("t", project_id=self.project, owner_id=self.x)
        project, owner, both = (self.with_scopes("project", self.project), self.with_scopes("owner", self.x),
                                self.with_scopes("both", self.project, self.x))
        nobody = self.with_scopes("nobody", self.second)
        for device in (project, owner, both):
            self.wait_notes(device, "t")
        self.assertEqual(self.notes(nobody), set())
        self.site.sql("UPDATE public.tasks SET project_id = %s WHERE id = %s", self.second, key)
        self.wait_notes(project)
        self.wait_notes(nobody, "t")
        self.settle()
        self.wait_notes(both, "t")
        self.wait_notes(owner, "t")
        self.assert_same()
        self.site.sql("UPDATE public.tasks SET owner_id = NULL WHERE id = %s", key)
        self.wait_notes(both)
        self.wait_notes(owner)
        self.settle()
        self.assert_same()
        self.assertEqual(both.value("SELECT last_number FROM ferry_state"), 0)

    def test_edits_reach_all_scopes_from_whichever_a_device_holds(self):
        key = self.task("t", project_id=self.project, owner_id=self.x, watchers=[self.y])
        project, owner, watcher = (self.with_scopes("project", self.project), self.with_scopes("owner", self.x),
                                   self.with_scopes("watcher", self.y))
        self.settle()
        for n, device in enumerate((project, owner, watcher)):
            device.sql("UPDATE tasks SET note = ? WHERE id = ?", "by %d" % n, key)
            self.settle()
            self.assertEqual([self.notes(d) for d in (project, owner, watcher)], [{"by %d" % n}] * 3)
        self.assert_same()
        watcher.sql("DELETE FROM tasks WHERE id = ?", key)
        self.settle()
        self.assertEqual([self.notes(d) for d in (project, owner, watcher)], [set()] * 3)
        self.assert_same()

    def test_P7_device_with_none_of_a_row_s_scopes_may_not_write_it_nor_make_one_elsewhere(self):
        key = self.task("t", project_id=self.project, owner_id=self.x)
        a = self.with_scopes("a", self.x)
        self.settle()
        a.stop()
        a.sql("UPDATE tasks SET note = 'late' WHERE id = ?", key)
        self.site.sql("UPDATE public.tasks SET owner_id = %s WHERE id = %s", self.y, key)
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("OUT_OF_SCOPE", key)])
        other = str(uuid.uuid4())
        a.sql("INSERT INTO tasks (id, tenant_id, owner_id, note) VALUES (?, ?, ?, 'theirs')", other, self.tenant, self.y)
        self.settle()
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected ORDER BY name, key = ?", other),
                         [("OUT_OF_SCOPE", key), ("OUT_OF_SCOPE", other)])
        self.assertEqual(self.site.value("SELECT note FROM public.tasks WHERE tenant_id = %s", self.tenant), "t")
        mine = str(uuid.uuid4())
        a.sql("INSERT INTO tasks (id, tenant_id, project_id, owner_id, note) VALUES (?, ?, ?, ?, 'mine')",
              mine, self.tenant, self.second, self.x)  # one of two is enough
        self.settle()
        self.assertEqual(self.site.value("SELECT count(*) FROM public.tasks WHERE id = %s", mine), 1)
        self.assert_same()

    def test_scope_that_comes_or_goes_fills_and_evicts_what_no_other_holds(self):
        self.task("shared", project_id=self.project, owner_id=self.x)
        self.task("project", project_id=self.project)
        mine = self.task("mine", owner_id=self.x)
        a = self.with_scopes("a", self.x)
        self.wait_notes(a, "shared", "mine")
        self.site.sql("INSERT INTO ferry.device_scope VALUES (%s, %s)", a.id, "project:" + self.project)
        self.wait_notes(a, "shared", "project", "mine")
        self.settle()
        self.assert_same()
        a.stop()
        a.sql("UPDATE tasks SET note = 'edited' WHERE note = 'shared'")
        a.sql("UPDATE tasks SET note = 'lost' WHERE id = ?", mine)
        self.site.sql("DELETE FROM ferry.device_scope WHERE device_id = %s AND scope = %s", a.id, "user:" + self.x)
        a.start()
        self.settle()
        self.wait_notes(a, "edited", "project")
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("OUT_OF_SCOPE", mine)])
        self.assert_same()

    def test_R21_damaged_row_in_several_scopes_is_found_and_repaired_alone(self):
        key = self.task("t", project_id=self.project, owner_id=self.x)
        other = self.task("u", owner_id=self.x)
        a = self.with_scopes("a", self.project, self.x)
        self.settle()
        a.stop()
        self.damaged(a, ("UPDATE tasks SET note = 'damaged' WHERE id = ?", key), ("DELETE FROM tasks WHERE id = ?", other))
        self.assertEqual(a.run("verify").returncode, 1)
        a.start()
        self.wait_notes(a, "t", "u")
        self.settle()
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
