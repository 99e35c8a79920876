#!/usr/bin/python3
"""What devices ask for stands among the tenant's approvals, and either may be decided (model/0044_requests.sql)."""

import json
import unittest
import uuid

from ferry_case import HubCase, run


class Requests(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.asker, self.boss = (self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id::text", self.t, e)
                                 for e in ("asker@x.y", "boss@x.y"))
        self.device = str(uuid.uuid4())
        self.sql("INSERT INTO ferry.device (id, tenant_id, name, user_id, class, fingerprint) VALUES (%s, %s, 'd', %s, 'tablet', sha256('d'))",
                 self.device, self.t, self.asker)
        role = self.value("SELECT id FROM identity.roles WHERE tenant_id = %s AND code = 'sales_exec'", self.t)
        self.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind) VALUES (%s, %s, %s, 'TENANT')",
                 self.t, self.asker, role)
        pipeline = self.value("INSERT INTO crm.deal_pipelines (tenant_id, name) VALUES (%s, 'P') RETURNING id", self.t)
        self.stages = [self.value("INSERT INTO crm.deal_stages (tenant_id, pipeline_id, code, order_index) VALUES (%s, %s, %s, %s) "
                                  "RETURNING id::text", self.t, pipeline, n, i) for i, n in enumerate(("new", "won"))]
        self.deal = self.value("INSERT INTO crm.deals (tenant_id, pipeline_id, stage_id, name) VALUES (%s, %s, %s, 'D') RETURNING id",
                               self.t, pipeline, self.stages[0])

    def as_user(self, user, text, *args):
        """One statement in a transaction of the back office's, of this user."""
        conn = self.conn()
        run(conn, "SELECT set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true)", str(self.t), user)
        rows = run(conn, text, *args)
        conn.commit()
        return rows

    def ask(self):
        """As the merge does; the request's key."""
        conn = self.conn("ferry_hub", tenant=self.t)
        run(conn, "SELECT ferry.touch(%s), ferry.merging(true)", self.t)
        run(conn, "SELECT ferry.ask_approvals(%s, %s, 7, %s, %s::uuid[], %s, %s, %s)", self.t, self.device, [self.tbl("deals")], [self.deal],
            [self.num("deals", "stage_id")], [1767225600000000], [json.dumps(self.stages[1])])
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        return self.value("SELECT id FROM ferry.approval WHERE tenant_id = %s", self.t)

    def standing(self):
        return self.sql("SELECT r.status, a.state, d.stage_id::text FROM ferry.approval r JOIN approvals.approvals a USING (tenant_id, id) "
                        "JOIN crm.deals d ON d.tenant_id = r.tenant_id AND d.id = r.subject_id")

    def test_a_request_is_an_approval_with_its_subject_and_values(self):
        self.ask()
        self.assertEqual(self.sql("SELECT domain, subject_entity, subject_id, requested_by::text, state, payload FROM approvals.approvals"), [
            ("deal.stage_id", "deal", self.deal, self.asker, "pending",
             {"column": "stage_id", "old": self.stages[0], "new": self.stages[1]})])
        self.assertEqual(self.standing(), [("pending", "pending", self.stages[0])])
        self.assert_sound()

    def test_deciding_the_approval_applies_the_request_and_says_so(self):
        request = self.ask()
        self.as_user(self.boss, "SELECT approvals.decide(%s, 1, 'approve')", request)
        self.assertEqual(self.standing(), [("approved", "applied", self.stages[1])])
        self.assertEqual(self.value("SELECT decided_by::text FROM ferry.approval"), self.boss)
        self.assertEqual(self.author(self.version("deals", self.deal), "stage_id"), (uuid.UUID(self.device), 7))
        self.assertEqual(self.sql("SELECT action FROM approvals.approval_history ORDER BY created_at"), [("submitted",), ("approved",), ("applied",)])
        self.assert_sound()

    def test_deciding_the_request_decides_the_approval(self):
        request = self.ask()
        self.assertEqual(self.as_user(self.boss, "SELECT ferry.refuse(%s, 'not yet')", request), [("refused",)])
        self.assertEqual(self.standing(), [("refused", "rejected", self.stages[0])])
        self.assertEqual(self.refused("FE318", "UPDATE ferry.approval SET status = 'approved'").pgcode, "FE318")

    def test_a_stale_request_cancels_its_approval(self):
        request = self.ask()
        third = self.value("INSERT INTO crm.deal_stages (tenant_id, pipeline_id, code, order_index) SELECT tenant_id, pipeline_id, 'lost', 9 "
                           "FROM crm.deals RETURNING id::text")
        self.sql("UPDATE crm.deals SET stage_id = %s", third)
        self.assertEqual(self.as_user(self.boss, "SELECT ferry.approve(%s)", request), [("stale",)])
        self.assertEqual(self.standing(), [("stale", "cancelled", third)])

    def test_nobody_approves_what_he_asked_for_himself(self):
        request = self.ask()
        conn = self.conn()
        run(conn, "SELECT set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true)", str(self.t), self.asker)
        self.refused("FE314", "SELECT approvals.decide(%s, 1, 'approve')", request, conn=conn)
        self.assertEqual(self.standing(), [("pending", "pending", self.stages[0])])

    def test_a_deleted_tenant_takes_its_requests_along(self):
        self.ask()
        self.sql("DELETE FROM identity.tenants WHERE id = %s", self.t)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.approval"), 0)


if __name__ == "__main__":
    unittest.main()
