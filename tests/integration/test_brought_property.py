#!/usr/bin/python3
"""Parents that come along under random changes, against a model of who sees what; and under many writers at once.

The model is that of test_scopes_property.py with references that bring their parents along. FERRY_SCOPES_SEED replays
a run, FERRY_SCOPES_STEPS makes it longer.
"""

import random
import threading
import unittest

import psycopg2

import test_scopes_property as plain
from ferry_case import HubCase, run

WRITERS = 4
FIRMS = 3
PROJECTS = 3


class Property(plain.Property):
    BRINGS = True

    def test_P4_P7_every_device_is_told_exactly_what_the_model_says(self):
        super().test_P4_P7_every_device_is_told_exactly_what_the_model_says()
        low = self.value("SELECT count(*) FROM ferry.version WHERE own IS NOT NULL")
        self.assertGreater(low + self.value("SELECT count(*) FROM ferry.left"), 0, "nothing ever came along")


class Writer(threading.Thread):
    """Transactions that add, move and delete references, and edit their parents; one that the database refuses is done again."""

    def __init__(self, conn, seed, tenant, firms, projects, steps):
        super().__init__()
        self.conn, self.random, self.tenant = conn, random.Random(seed), tenant
        self.firms, self.projects, self.steps = firms, projects, steps
        self.again = 0
        self.failure = None

    def change(self):
        which = "id = (SELECT id FROM public.jobs WHERE tenant_id = %s ORDER BY random() LIMIT 1)"
        kind = self.random.random()
        if kind < 0.35:
            run(self.conn, "INSERT INTO public.jobs (tenant_id, project_id, firm_id) VALUES (%s, %s, %s)",
                self.tenant, self.random.choice(self.projects), self.random.choice(self.firms))
        elif kind < 0.7:
            run(self.conn, "DELETE FROM public.jobs WHERE tenant_id = %s AND " + which, self.tenant, self.tenant)
        elif kind < 0.85:
            run(self.conn, "UPDATE public.jobs SET firm_id = %s WHERE tenant_id = %s AND " + which,
                self.random.choice(self.firms), self.tenant, self.tenant)
        else:
            run(self.conn, "UPDATE public.firms SET name = %s WHERE tenant_id = %s AND id = %s",
                str(self.random.random()), self.tenant, self.random.choice(self.firms))

    def transaction(self):
        state = self.random.getstate()
        while True:
            self.random.setstate(state)
            try:
                for _ in range(self.random.choice((1, 1, 2, 3))):
                    self.change()
                return self.conn.commit()
            except psycopg2.Error as error:
                self.conn.rollback()
                if error.pgcode not in ("40P01", "40001"):
                    raise
                self.again += 1

    def run(self):
        try:
            for _ in range(self.steps):
                self.transaction()
        except Exception as error:  # told by the test
            self.failure = error


class AtOnce(HubCase):
    def test_R13_many_writers_at_once_leave_each_parent_exactly_where_rows_refer_to_it(self):
        print("FERRY_SCOPES_SEED=%d" % plain.SEED, flush=True)
        t = self.tenant()
        self.sql("CREATE TABLE public.firms (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), name text, PRIMARY KEY (tenant_id, id))")
        self.sql("CREATE TABLE public.jobs (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid NOT NULL, firm_id uuid, "
                 "PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, firm_id) REFERENCES public.firms)")
        for table, scope in (("firms", "office:id"), ("jobs", "project:project_id")):
            self.sql("SELECT ferry.isolate('public.%s')" % table)
            self.sql("SELECT ferry.track('public.%s', '%s')" % (table, scope))
        self.sql("SELECT ferry.bring('public.jobs', 'firm_id')")
        firms = [str(self.value("INSERT INTO public.firms (tenant_id) VALUES (%s) RETURNING id", t)) for _ in range(FIRMS)]
        projects = [str(self.project(t, "P%d" % n)) for n in range(PROJECTS)]
        writers = [Writer(self.conn(), plain.SEED + n, t, firms, projects, max(plain.STEPS // 2, 1)) for n in range(WRITERS)]
        for w in writers:
            w.start()
        for w in writers:
            w.join()
        self.assertEqual([w.failure for w in writers], [None] * WRITERS)
        want = {f: set() for f in firms}
        for firm, project in self.sql("SELECT DISTINCT firm_id::text, 'project:' || project_id FROM public.jobs WHERE tenant_id = %s", t):
            want[firm].add(project)
        have = {key: set(scopes or ()) for key, scopes in self.sql("SELECT key::text, also FROM ferry.version WHERE tbl = %s", self.tbl("firms"))}
        self.assertEqual(have, want)
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
