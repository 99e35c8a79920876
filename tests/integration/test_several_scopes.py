#!/usr/bin/python3
"""Rows that are in several scopes: who has them, what leaves, and what the books say of it."""

import threading
import unittest
import uuid

import ferry_pg
from ferry_case import HubCase, run


class Several(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.p, self.q = self.project(self.t, "Palm"), self.project(self.t, "Lake")
        self.a, self.b = sorted(str(uuid.uuid4()) for _ in range(2))
        self.sql("CREATE TABLE public.boxes (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid, "
                 "PRIMARY KEY (tenant_id, id))")
        self.sql("CREATE TABLE public.tasks (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), box_id uuid, owner_id uuid, "
                 "watchers uuid[], note text, deleted_at timestamptz, PRIMARY KEY (tenant_id, id), "
                 "FOREIGN KEY (tenant_id, box_id) REFERENCES public.boxes)")
        self.sql("SELECT ferry.isolate('public.boxes'), ferry.isolate('public.tasks')")
        self.sql("SELECT ferry.track('public.boxes', 'project:project_id')")
        self.sql("SELECT ferry.track('public.tasks', 'project:box_id.project_id|user:owner_id|user:watchers')")
        self.box = self.value("INSERT INTO public.boxes (tenant_id, project_id) VALUES (%s, %s) RETURNING id", self.t, self.p)

    def task(self, **columns):
        columns = dict({"tenant_id": self.t}, **columns)
        return self.value("INSERT INTO public.tasks (%s) VALUES (%s) RETURNING id" % (
            ", ".join(columns), ", ".join(["%s::uuid[]" if k == "watchers" else "%s" for k in columns])), *columns.values())

    def scopes(self, key, table="tasks"):
        v = self.version(table, key)
        return [v["scope"]] + (v["also"] or [])

    def left(self):
        return {r[0] for r in self.sql("SELECT scope FROM ferry.left")}

    def test_row_is_in_all_scopes_that_its_columns_name_each_once_in_order(self):
        key = self.task(box_id=self.box, owner_id=self.a, watchers=[self.b, self.a])
        self.assertEqual(self.scopes(key), ["project:%s" % self.p, "user:%s" % self.a, "user:%s" % self.b])
        self.assertEqual(self.scopes(self.task(owner_id=self.b)), ["user:%s" % self.b])
        self.assertEqual(self.scopes(self.task()), ["tenant"])
        self.assertEqual(self.scopes(self.task(watchers=[])), ["tenant"])
        self.assert_sound()

    def test_change_of_a_cell_shows_in_all_scopes_and_moves_nothing(self):
        key = self.task(box_id=self.box, owner_id=self.a)
        low = self.head(self.t)
        self.sql("UPDATE public.tasks SET note = 'x'")
        self.assertEqual(self.changed(self.t, low), {("tasks", "project:%s" % self.p): {key}, ("tasks", "user:%s" % self.a): {key}})
        self.assertIsNone(self.version("tasks", key)["moved"])
        self.assertEqual(list(self.version("tasks", key)["over"]), ["note"])
        self.assert_sound()

    def test_leaving_one_of_two_scopes_leaves_a_trace_in_that_one_alone(self):
        key = self.task(box_id=self.box, owner_id=self.a)
        low = self.head(self.t)
        self.sql("UPDATE public.tasks SET owner_id = %s", self.b)
        self.assertEqual(self.scopes(key), ["project:%s" % self.p, "user:%s" % self.b])
        self.assertEqual(self.left(), {"user:%s" % self.a})
        self.assertEqual(set(self.changed(self.t, low)), {("tasks", "project:%s" % self.p), ("tasks", "user:%s" % self.a), ("tasks", "user:%s" % self.b)})
        v = self.version("tasks", key)
        self.assertEqual(v["moved"], v["tx"])
        self.assert_sound()

    def test_row_that_comes_back_or_joins_a_scope_has_not_left_it(self):
        self.task(box_id=self.box, owner_id=self.a)
        self.sql("UPDATE public.tasks SET owner_id = NULL")
        self.assertEqual(self.left(), {"user:%s" % self.a})
        self.sql("UPDATE public.tasks SET watchers = ARRAY[%s, %s]::uuid[]", self.a, self.b)
        self.assertEqual(self.left(), set())
        self.sql("UPDATE public.tasks SET box_id = NULL, watchers = NULL")
        self.assertEqual(self.left(), {"project:%s" % self.p, "user:%s" % self.a, "user:%s" % self.b})
        self.assert_sound()

    def test_deleted_row_is_gone_from_all_its_scopes_and_reborn_only_where_it_is(self):
        key = self.task(box_id=self.box, owner_id=self.a)
        low = self.head(self.t)
        self.sql("DELETE FROM public.tasks")
        self.assertEqual(self.changed(self.t, low), {("tasks", "project:%s" % self.p): {key}, ("tasks", "user:%s" % self.a): {key}})
        self.assertEqual(self.left(), set())
        self.assert_sound()
        self.sql("INSERT INTO public.tasks (tenant_id, id, owner_id) VALUES (%s, %s, %s)", self.t, key, self.b)
        self.assertEqual(self.scopes(key), ["user:%s" % self.b])
        self.assertEqual(self.left(), {"project:%s" % self.p, "user:%s" % self.a})
        self.assert_sound()

    def test_parent_that_moves_takes_along_that_scope_and_leaves_the_others(self):
        keys = [self.task(box_id=self.box, owner_id=self.a) for _ in range(3)]
        self.sql("UPDATE public.boxes SET project_id = %s", self.q)
        for key in keys:
            self.assertEqual(self.scopes(key), ["project:%s" % self.q, "user:%s" % self.a])
        self.assertEqual(self.left(), {"project:%s" % self.p})
        self.assert_sound()

    def test_R13_row_of_several_scopes_inserted_while_its_parent_moves_does_not_stay_behind(self):
        mover, adder = self.conn(), self.conn()
        run(mover, "UPDATE public.boxes SET project_id = %s", self.q)
        run(adder, "INSERT INTO public.tasks (tenant_id, box_id, owner_id) VALUES (%s, %s, %s)", self.t, self.box, self.a)
        thread = threading.Thread(target=adder.commit)
        thread.start()
        ferry_pg.wait_blocked(self.db, adder.get_backend_pid())
        mover.commit()
        thread.join()
        self.assertEqual(self.sql("SELECT scope, also FROM ferry.version WHERE tbl = %s", self.tbl("tasks")),
                         [("project:%s" % self.q, ["user:%s" % self.a])])
        self.assert_sound()

    def test_scope_that_the_row_itself_says_in_a_generated_column(self):
        self.sql("CREATE TABLE public.offers (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid NOT NULL, "
                 "draft bool NOT NULL, scope text NOT NULL GENERATED ALWAYS AS (CASE WHEN draft THEN 'drafts' ELSE 'project:' || project_id END) "
                 "STORED, PRIMARY KEY (tenant_id, id))")
        self.sql("SELECT ferry.isolate('public.offers')")
        self.sql("SELECT ferry.track('public.offers', 'row:scope')")
        key = self.value("INSERT INTO public.offers (tenant_id, project_id, draft) VALUES (%s, %s, true) RETURNING id", self.t, self.p)
        self.assertEqual(self.scopes(key, "offers"), ["drafts"])
        self.sql("UPDATE public.offers SET draft = false")
        self.assertEqual(self.scopes(key, "offers"), ["project:%s" % self.p])
        self.assert_sound()

    def test_many_rows_at_once_and_versions_scanned_say_the_same(self):
        self.sql("INSERT INTO public.tasks (tenant_id, box_id, owner_id) SELECT %s, %s, %s FROM generate_series(1, 300)", self.t, self.box, self.a)
        self.assert_sound()
        low = self.head(self.t)
        self.sql("UPDATE public.tasks SET owner_id = %s WHERE get_byte(uuid_send(id), 0) < 128", self.b)
        recent = self.changed(self.t, low)
        self.sql("SELECT ferry.prune_changes(%s, %s)", self.t, self.head(self.t))
        self.assertEqual(self.changed(self.t, low), recent)
        self.assert_sound()

    def test_permission_and_archive_stand_behind_every_scope(self):
        key = self.task(box_id=self.box, owner_id=self.a)
        self.sql("SELECT ferry.archive('public.tasks')")
        self.sql("SELECT ferry.permit('public.tasks', 'read', 'tasks.view')")
        self.assertEqual(self.scopes(key), ["project:%s/tasks.view" % self.p, "user:%s/tasks.view" % self.a])
        self.assert_sound()
        self.sql("UPDATE public.tasks SET deleted_at = now()")
        self.assertEqual(self.scopes(key), ["project:%s/tasks.view+archived" % self.p, "user:%s/tasks.view+archived" % self.a])
        self.assert_sound()
        self.sql("SELECT ferry.permit('public.tasks', 'read', NULL)")
        self.assertEqual(self.scopes(key), ["project:%s+archived" % self.p, "user:%s+archived" % self.a])
        self.assert_sound()

    def test_table_that_has_rows_when_it_is_tracked_and_columns_that_are_renamed(self):
        key = self.task(box_id=self.box, owner_id=self.a)
        self.sql("SELECT ferry.untrack('public.tasks')")
        self.sql("SELECT ferry.track('public.tasks', 'user:owner_id|project:box_id.project_id')")
        self.assertEqual(self.scopes(key), ["project:%s" % self.p, "user:%s" % self.a])
        self.sql("ALTER TABLE public.tasks RENAME owner_id TO who")
        self.sql("ALTER TABLE public.boxes RENAME project_id TO place")
        self.assertEqual(self.value("SELECT scope FROM ferry.tracked WHERE name = 'tasks'"), "user:who|project:box_id.place")
        self.sql("UPDATE public.boxes SET place = %s", self.q)
        self.assertEqual(self.scopes(key), ["project:%s" % self.q, "user:%s" % self.a])
        self.assert_sound()

    def test_table_may_get_several_scopes_later_but_not_one_again(self):
        key = self.value("INSERT INTO public.boxes (tenant_id, project_id) VALUES (%s, %s) RETURNING id", self.t, self.p)
        self.sql("ALTER TABLE public.boxes ADD owner_id uuid")
        self.sql("UPDATE public.boxes SET owner_id = %s", self.a)
        self.sql("SELECT ferry.rescope('public.boxes', 'project:project_id|user:owner_id')")
        self.assertEqual(self.scopes(key, "boxes"), ["project:%s" % self.p, "user:%s" % self.a])
        self.assert_sound()
        self.sql("SELECT ferry.rescope('public.boxes', 'project:project_id|team:owner_id')")
        self.assertEqual(self.scopes(key, "boxes"), ["project:%s" % self.p, "team:%s" % self.a])
        self.assertEqual(self.left(), {"user:%s" % self.a})
        self.assert_sound()
        self.refused("0A000", "SELECT ferry.rescope('public.boxes', 'project:project_id')")

    def test_what_is_written_past_the_triggers_is_found(self):
        key = self.task(owner_id=self.a, watchers=[self.b])
        self.sql("UPDATE ferry.version SET also = NULL WHERE tbl = %s", self.tbl("tasks"))
        self.assertEqual([(r[2], r[3]) for r in self.sql("SELECT * FROM ferry.verify(true)")], [(key, "moved")])
        self.assertEqual(self.scopes(key), ["user:%s" % self.a, "user:%s" % self.b])

    def test_alternatives_that_make_no_sense_are_refused(self):
        self.sql("SELECT ferry.untrack('public.tasks')")
        for scope in ("tenant|user:owner_id", "user:owner_id|", "row:note|user:owner_id", "user:owner_id|global"):
            self.refused("22023", "SELECT ferry.track('public.tasks', %s)", scope)

    def test_device_may_write_where_it_has_the_permission_in_one_of_the_scopes(self):
        self.sql("SELECT ferry.permit('public.tasks', 'update', 'tasks.edit')")
        user = self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'a@b.c') RETURNING id", self.t)
        role = self.value("INSERT INTO identity.roles (tenant_id, code, name) VALUES (%s, 'x', 'x') RETURNING id", self.t)
        self.sql("INSERT INTO identity.role_permissions (tenant_id, role_id, permission) VALUES (%s, %s, 'tasks.edit')", self.t, role)
        self.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind, project_id) VALUES (%s, %s, %s, 'PROJECT', %s)",
                 self.t, user, role, self.p)
        device = str(uuid.uuid4())
        self.sql("INSERT INTO ferry.device (id, tenant_id, name, user_id, class) VALUES (%s, %s, 'd', %s, 'tablet')", device, self.t, user)
        self.sql("INSERT INTO ferry.device_scope (device_id, scope) VALUES (%s, 'tenant')", device)
        mine, other = self.task(box_id=self.box, owner_id=self.a), self.task(owner_id=self.b)
        ask = "SELECT ferry.check_rights(%s, %s, 'update', %s, %s::uuid[], %s::uuid[])"
        nums = [self.num("tasks", "note")]
        run(self.conn("ferry_hub", tenant=self.t), ask, self.t, self.tbl("tasks"), nums, [mine], [device])
        self.refused("FE314", ask, self.t, self.tbl("tasks"), nums, [other], [device], conn=self.conn("ferry_hub", tenant=self.t))


if __name__ == "__main__":
    unittest.main()
