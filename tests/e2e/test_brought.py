#!/usr/bin/python3
"""Parents that come along on real devices: they are there with the rows that refer to them, to be read, and go with the last."""

import unittest
import uuid

import ferry_run
from ferry_run import wait_until

JOINED = "SELECT j.note, f.name, r.name FROM jobs j LEFT JOIN firms f ON f.id = j.firm_id LEFT JOIN regions r ON r.id = f.region_id ORDER BY 1"


class Brought(ferry_run.SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, columns, scope in (
                ("regions", "name text", "office:office_id"),
                ("firms", "name text, region_id uuid, FOREIGN KEY (tenant_id, region_id) REFERENCES public.regions", "office:office_id"),
                ("jobs", "note text, project_id uuid, firm_id uuid, FOREIGN KEY (tenant_id, firm_id) REFERENCES public.firms", "project:project_id")):
            cls.site.sql("CREATE TABLE public.%s (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), "
                         "office_id uuid NOT NULL DEFAULT ferry.nobody(), %s, PRIMARY KEY (tenant_id, id))" % (name, columns))
            cls.site.sql("SELECT ferry.isolate('public.%s')" % name)
            cls.site.sql("SELECT ferry.track('public.%s', '%s')" % (name, scope))
        cls.site.sql("SELECT ferry.bring('public.jobs', 'firm_id'), ferry.bring('public.firms', 'region_id')")

    # ---- words

    def setUp(self):
        super().setUp()
        self.second = self.new_project(name="Lake")
        self.office = str(uuid.uuid4())
        self.region = self.row("regions", name="north", office_id=self.office)
        self.firm = self.row("firms", name="Firm", region_id=self.region, office_id=self.office)

    def row(self, table, **columns):
        columns = dict({"tenant_id": self.tenant}, **columns)
        return str(self.site.value("INSERT INTO public.%s (%s) VALUES (%s) RETURNING id" % (
            table, ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values()))

    def job(self, note, project=None, firm=None):
        return self.row("jobs", note=note, project_id=project or self.project, firm_id=firm or self.firm)

    def with_projects(self, label, *projects, more=()):
        device = self.device(label, scopes=["project:" + p for p in projects] + list(more))
        device.wait_filled()
        return device

    def wait_joined(self, device, *rows):
        wait_until(lambda: device.sql(JOINED) == list(rows), 60, "%s at %s" % (rows, device.label))

    def firms(self, device):
        return {r[0] for r in device.sql("SELECT name FROM firms")}

    # ---- tests

    def test_R14_parent_comes_with_the_first_row_and_goes_with_the_last(self):
        a, other = self.with_projects("a", self.project), self.with_projects("other", self.second)
        self.assertEqual(self.firms(a), set())
        one, two = self.job("one"), self.job("two")
        self.wait_joined(a, ("one", "Firm", "north"), ("two", "Firm", "north"))
        late = self.with_projects("late", self.project)
        self.wait_joined(late, ("one", "Firm", "north"), ("two", "Firm", "north"))
        self.site.sql("UPDATE public.firms SET name = 'Renamed' WHERE id = %s", self.firm)
        self.site.sql("DELETE FROM public.jobs WHERE id = %s", one)
        self.wait_joined(a, ("two", "Renamed", "north"))
        self.settle()
        self.assert_same()
        self.assertEqual(self.firms(other), set())
        self.site.sql("UPDATE public.jobs SET project_id = %s WHERE id = %s", self.second, two)
        self.wait_joined(other, ("two", "Renamed", "north"))
        self.wait_joined(a)
        self.settle()
        for device in (a, late):
            self.assertEqual((self.firms(device), device.value("SELECT count(*) FROM regions")), (set(), 0))
        self.assertEqual(self.site.value("SELECT count(*) FROM public.firms WHERE id = %s", self.firm), 1)
        self.assert_same()

    def test_P7_parent_that_came_along_is_not_written_and_the_edit_is_kept(self):
        self.job("one")
        a = self.with_projects("a", self.project)
        self.wait_joined(a, ("one", "Firm", "north"))
        a.sql("UPDATE firms SET name = 'mine' WHERE id = ?", self.firm)
        self.settle()
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("READ_ONLY", self.firm)])
        self.assertIn("mine", str(a.sql("SELECT * FROM ferry_rejected")))
        a.sql("DELETE FROM regions WHERE id = ?", self.region)
        self.settle()
        self.assertEqual(a.value("SELECT count(*) FROM ferry_rejected WHERE name = 'READ_ONLY' AND key = ?", self.region), 1)
        self.wait_joined(a, ("one", "Firm", "north"))
        self.assertEqual(self.site.value("SELECT name FROM public.firms WHERE id = %s", self.firm), "Firm")
        self.assert_same()

    def test_device_that_holds_the_parent_s_own_scope_writes_it_and_keeps_it(self):
        key = self.job("one")
        a = self.with_projects("a", self.project)
        office = self.with_projects("office", self.project, more=["office:" + self.office])
        for device in (a, office):
            self.wait_joined(device, ("one", "Firm", "north"))
        office.sql("UPDATE firms SET name = 'by the office' WHERE id = ?", self.firm)
        self.wait_joined(a, ("one", "by the office", "north"))
        self.site.sql("DELETE FROM public.jobs WHERE id = %s", key)
        self.wait_joined(a)
        self.settle()
        self.assertEqual((self.firms(a), self.firms(office)), (set(), {"by the office"}))
        self.assertEqual(office.value("SELECT count(*) FROM ferry_rejected"), 0)
        self.assert_same()

    def test_row_that_a_device_makes_brings_its_parent_to_others_and_its_deletion_takes_it(self):
        a = self.with_projects("a", self.project)
        office = self.with_projects("office", self.second, more=["office:" + self.office])
        key = str(uuid.uuid4())
        self.site.sql("INSERT INTO ferry.device_scope VALUES (%s, %s)", office.id, "project:" + self.project)
        wait_until(lambda: office.value("SELECT count(*) FROM ferry_scope WHERE held AND name = ?", "project:" + self.project), 60, "the scope")
        office.sql("INSERT INTO jobs (id, tenant_id, note, project_id, firm_id) VALUES (?, ?, 'made', ?, ?)", key, self.tenant, self.project, self.firm)
        self.wait_joined(a, ("made", "Firm", "north"))
        a.sql("DELETE FROM jobs WHERE id = ?", key)
        self.settle()
        self.assertEqual((self.firms(a), self.firms(office)), (set(), {"Firm"}))
        self.assert_same()

    def test_scope_that_comes_or_goes_brings_and_takes_what_no_other_brought(self):
        self.job("one")
        self.job("two", self.second)
        only = self.row("firms", name="Only", office_id=self.office)
        self.job("three", self.second, only)
        a = self.with_projects("a", self.project)
        self.wait_joined(a, ("one", "Firm", "north"))
        self.site.sql("INSERT INTO ferry.device_scope VALUES (%s, %s)", a.id, "project:" + self.second)
        self.wait_joined(a, ("one", "Firm", "north"), ("three", "Only", None), ("two", "Firm", "north"))
        self.settle()
        self.assert_same()
        a.stop()
        a.sql("UPDATE firms SET name = 'late' WHERE id = ?", only)
        self.site.sql("DELETE FROM ferry.device_scope WHERE device_id = %s AND scope = %s", a.id, "project:" + self.second)
        a.start()
        self.settle()
        self.wait_joined(a, ("one", "Firm", "north"))
        self.assertEqual(self.firms(a), {"Firm"})
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("OUT_OF_SCOPE", only)])
        self.assert_same()

    def test_R21_damaged_parent_is_found_and_repaired_alone(self):
        self.job("one")
        a = self.with_projects("a", self.project)
        self.wait_joined(a, ("one", "Firm", "north"))
        self.settle()
        a.stop()
        with a.transaction() as db:
            triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'firms'").fetchall()
            for name, _ in triggers:
                db.execute('DROP TRIGGER "%s"' % name)
            self.assertEqual(db.execute("UPDATE firms SET name = 'damaged'").rowcount, 1)
            for _, sql in triggers:
                db.execute(sql)
        self.assertEqual(a.run("verify").returncode, 1)
        a.start()
        self.wait_joined(a, ("one", "Firm", "north"))
        self.settle()
        self.assert_same()

    def test_parent_that_more_projects_refer_to_than_a_row_once_could_have_scopes(self):
        projects = [str(uuid.uuid4()) for _ in range(120)]
        for n, p in enumerate(projects[:100]):
            self.job("%03d" % n, p)
        a = self.with_projects("a", projects[0])
        self.wait_joined(a, ("000", "Firm", "north"))
        self.site.sql("INSERT INTO ferry.device_scope SELECT %s, 'project:' || unnest(%s)", a.id, projects[1:])
        self.wait_joined(a, *[("%03d" % n, "Firm", "north") for n in range(100)])
        for n, p in enumerate(projects[100:]):
            self.job("%03d" % (100 + n), p)
        self.site.sql("UPDATE public.firms SET name = 'F' WHERE id = %s", self.firm)
        self.wait_joined(a, *[("%03d" % n, "F", "north") for n in range(120)])
        self.settle()
        self.assert_same()
        self.site.sql("DELETE FROM public.jobs WHERE tenant_id = %s", self.tenant)
        self.wait_joined(a)
        self.settle()
        self.assertEqual(self.firms(a), set())
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
