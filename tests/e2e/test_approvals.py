#!/usr/bin/python3
"""The policy "approval" on real processes: a price change waits, is approved on another device or in SQL, or refused."""

import unittest

from ferry_run import SiteCase


class Approvals(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("""SELECT ferry.policy('inventory.units', 'price_minor', 'approval', '{"permission": "inventory.approve"}')""")

    def user(self, email, *permissions):
        """A user who may edit units, and what else is said; his id."""
        user = self.site.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id::text", self.tenant, email)
        role = self.site.value("INSERT INTO identity.roles (tenant_id, code, name) VALUES (%s, %s, 'role') RETURNING id::text",
                               self.tenant, email.split("@")[0])
        for permission in ("inventory.view", "inventory.edit", "inventory.create", *permissions):
            self.site.sql("INSERT INTO identity.role_permissions (tenant_id, role_id, permission) VALUES (%s, %s, %s)", self.tenant, role, permission)
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind) VALUES (%s, %s, %s, 'TENANT')",
                      self.tenant, user, role)
        return user

    def some(self):
        """A unit of price 100, a device that may ask, one that may approve."""
        self.asker, self.boss = self.user("asker@x.y", "inventory.price"), self.user("boss@x.y", "inventory.price", "inventory.approve")
        unit = self.new_unit(price_minor=100, currency="EGP")
        a, b = self.device("a", user=self.asker), self.device("b", user=self.boss)
        self.settle()
        return unit, a, b

    def price(self, unit):
        return self.site.value("SELECT price_minor FROM inventory.units WHERE id = %s", unit)

    def requests(self, device):
        return device.sql("SELECT status, old_value, new_value FROM approval_requests ORDER BY requested_at")

    def author(self, unit):
        """(device, change-set) that the engine names as the author of the price."""
        return self.site.sql(
            "SELECT s.device_id::text, s.number FROM ferry.version v JOIN ferry.tracked_column c ON c.tbl = v.tbl AND c.name = 'price_minor' "
            "CROSS JOIN unnest(v.over) x JOIN ferry.stamp s ON s.id = x & 281474976710655 WHERE v.key = %s AND x >> 48 = c.num", unit)

    def ask(self, device, unit, price, **others):
        """A price is asked for; the request's id."""
        sets = "".join(", %s = %d" % item for item in others.items())
        device.sql("UPDATE units SET price_minor = ?%s WHERE id = ?" % sets, price, unit)
        self.settle()
        return device.value("SELECT id FROM approval_requests WHERE status = 'pending' AND subject_id = ?", unit)

    def decide(self, device, request, status, note=None):
        device.sql("UPDATE approval_requests SET status = ?, note = ? WHERE id = ?", status, note, request)
        self.settle()

    def refusals(self, device):
        return device.sql("SELECT name, sentence FROM ferry_rejected ORDER BY number")

    def test_a_price_waits_and_is_applied_with_its_requester_named_once_another_device_approves(self):
        unit, a, b = self.some()
        request = self.ask(a, unit, 120, floor=3)
        # The rest of the change-set stands; the price is the hub's, and the attempt says that it waits.
        self.assertEqual(self.site.sql("SELECT price_minor, floor FROM inventory.units WHERE id = %s", unit), [(100, 3)])
        self.assertEqual(self.site.sql("SELECT verdict FROM ferry.settled WHERE tenant_id = %s", self.tenant), [("superseded",)])
        for device in a, b:
            self.assertEqual(device.sql("SELECT price_minor, floor FROM units WHERE id = ?", unit), [(100, 3)])
            self.assertEqual(device.sql("SELECT status, subject_table, subject_id, subject_column, old_value, new_value, requested_by, requested_device "
                                        "FROM approval_requests"),
                             [("pending", "units", unit, "price_minor", "100", "120", self.asker, a.id)])
        self.assert_same()
        self.decide(b, request, "approved", "as agreed")
        self.assertEqual(self.price(unit), 120)
        for device in a, b:
            self.assertEqual(device.value("SELECT price_minor FROM units WHERE id = ?", unit), 120)
            self.assertEqual(device.sql("SELECT status, decided_by, decided_device, note FROM approval_requests"),
                             [("approved", self.boss, b.id, "as agreed")])
        number = a.value("SELECT change_set FROM approval_requests")
        self.assertEqual(self.author(unit), [(a.id, number)])
        self.assertEqual(self.site.sql("SELECT actor_id::text, device_id::text, change_set, new_values ->> 'price_minor' FROM governance.audit_logs "
                                       "WHERE target_id = %s AND 'price_minor' = ANY (changed_fields)", unit),
                         [(self.asker, a.id, number, "120")])
        self.assert_same()

    def test_a_request_is_approved_in_sql(self):
        unit, a, b = self.some()
        request = self.ask(a, unit, 130)
        conn = self.db.connect()
        try:
            cur = conn.cursor()
            cur.execute("SELECT set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true)", (self.tenant, self.boss))
            cur.execute("SELECT ferry.approve(%s, 'by phone')", (request,))
            self.assertEqual(cur.fetchone(), ("approved",))
            conn.commit()
        finally:
            conn.close()
        self.settle()
        self.assertEqual(a.value("SELECT price_minor FROM units WHERE id = ?", unit), 130)
        self.assertEqual(a.sql("SELECT status, decided_by, decided_device, note FROM approval_requests"), [("approved", self.boss, None, "by phone")])
        self.assertEqual(self.author(unit), [(a.id, a.value("SELECT change_set FROM approval_requests"))])
        self.assert_same()

    def test_a_refused_request_tells_its_requester_and_changes_nothing(self):
        unit, a, b = self.some()
        self.decide(b, self.ask(a, unit, 140), "refused", "too dear")
        self.assertEqual(self.price(unit), 100)
        self.assertEqual(a.sql("SELECT status, note, decided_by FROM approval_requests"), [("refused", "too dear", self.boss)])
        self.assert_same()

    def test_a_request_whose_column_has_changed_meanwhile_becomes_stale_and_the_hubs_value_stands(self):
        unit, a, b = self.some()
        request = self.ask(a, unit, 150)
        self.site.sql("UPDATE inventory.units SET price_minor = 99 WHERE id = %s", unit)  # SQL at the hub needs nobody's approval
        self.settle()
        self.decide(b, request, "approved")
        self.assertEqual(self.price(unit), 99)
        for device in a, b:
            self.assertEqual(device.sql("SELECT status, old_value, new_value, met_value FROM approval_requests"), [("stale", "100", "150", "99")])
        self.assert_same()

    def test_of_two_requests_the_second_is_stale_once_the_first_is_approved(self):
        unit, a, b = self.some()
        c = self.device("c", user=self.user("third@x.y", "inventory.price"))
        self.settle()
        a.sql("UPDATE units SET price_minor = 110 WHERE id = ?", unit)
        c.sql("UPDATE units SET price_minor = 111 WHERE id = ?", unit)
        self.settle()
        first, second = (b.value("SELECT id FROM approval_requests WHERE new_value = ?", v) for v in ("110", "111"))
        self.decide(b, first, "approved")
        self.decide(b, second, "approved")
        self.assertEqual(self.price(unit), 110)
        self.assertEqual(c.sql("SELECT new_value, status FROM approval_requests ORDER BY new_value"), [("110", "approved"), ("111", "stale")])
        self.assert_same()

    def test_another_value_of_the_same_device_replaces_its_request(self):
        unit, a, b = self.some()
        self.ask(a, unit, 160)
        self.ask(a, unit, 170)
        self.assertEqual(self.requests(b), [("replaced", "100", "160"), ("pending", "100", "170")])
        self.assert_same()

    def test_P7_only_who_has_the_permission_decides_and_nobody_about_his_own_wish(self):
        unit, a, b = self.some()
        request = self.ask(a, unit, 180)
        self.decide(a, request, "refused")
        self.assertEqual(self.refusals(a), [("PERMISSION", "the permission inventory.approve is missing to decide about units.price_minor")])
        self.decide(b, request, "withdrawn")
        self.assertEqual(self.refusals(b), [("PERMISSION", "only who asked for a change may withdraw it")])
        self.ask(b, unit, 190)
        b.sql("UPDATE approval_requests SET status = 'approved' WHERE new_value = '190'")
        self.settle()
        self.assertIn(("PERMISSION", "nobody approves what he asked for himself"), self.refusals(b))
        self.assertEqual(self.price(unit), 100)
        self.decide(a, request, "withdrawn")
        self.assertEqual(b.value("SELECT status FROM approval_requests WHERE id = ?", request), "withdrawn")
        self.assert_same()

    def test_of_two_decisions_the_first_at_the_hub_stands(self):
        unit, a, b = self.some()
        c = self.device("c", user=self.user("boss2@x.y", "inventory.approve"))
        self.settle()
        request = self.ask(a, unit, 200)
        for device in b, c:
            device.stop()
        b.sql("UPDATE approval_requests SET status = 'refused' WHERE id = ?", request)
        c.sql("UPDATE approval_requests SET status = 'approved' WHERE id = ?", request)
        for device in b, c:
            device.start()
            self.settle(device)
        self.assertEqual(self.price(unit), 100)
        self.assertEqual([name for name, _ in self.refusals(c)], ["GUARD"])
        self.settle()
        self.assert_same()

    def test_P7_requests_are_not_made_or_forged_by_hand(self):
        unit, a, b = self.some()
        request = self.ask(a, unit, 210)
        a.sql("INSERT INTO approval_requests (note) VALUES ('by hand')")
        self.settle()
        b.sql("DELETE FROM approval_requests WHERE id = ?", request)
        self.settle()
        self.assertEqual(self.refusals(a)[0][0], "IMMUTABLE")
        self.assertEqual(self.refusals(b)[0][0], "IMMUTABLE")
        self.assertEqual(self.requests(a), [("pending", "100", "210")])
        self.assert_same()

    def test_P7_a_device_that_may_not_write_the_column_may_not_ask_either(self):
        unit, a, b = self.some()
        c = self.device("c", user=self.user("helper@x.y"))
        self.settle()
        c.sql("UPDATE units SET price_minor = 1 WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.refusals(c), [("PERMISSION", "the permission inventory.price is missing for update on units.price_minor")])
        self.assertEqual(self.requests(b), [])
        # A new row begins with any value, by the permission to insert it.
        a.sql("INSERT INTO units (project_id, code, unit_type_code, price_minor, currency) VALUES (?, 'N-1', 'APT_1BR', 70, 'EGP')", self.project)
        self.settle()
        self.assertEqual(b.value("SELECT price_minor FROM units WHERE code = 'N-1'"), 70)
        self.assertEqual(self.requests(b), [])
        self.assert_same()

    def deals(self, **places):
        """A table whose rows are in two projects, of which each person's device holds one."""
        if not self.site.value("SELECT to_regclass('public.joint_deals')"):
            self.site.sql("CREATE TABLE public.joint_deals (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid, "
                          "partner_id uuid, price int, PRIMARY KEY (tenant_id, id))")
            self.site.sql("SELECT ferry.isolate('public.joint_deals')")
            self.site.sql("SELECT ferry.track('public.joint_deals', 'project:project_id|project:partner_id')")
            self.site.sql("""SELECT ferry.policy('public.joint_deals', 'price', 'approval', '{"permission": "inventory.approve"}')""")
        self.second = self.new_project(name="Lake")
        self.asker, self.boss = self.user("asker@x.y"), self.user("boss@x.y", "inventory.approve")
        deal = str(self.site.value("INSERT INTO public.joint_deals (tenant_id, project_id, partner_id, price) VALUES (%s, %s, %s, 100) RETURNING id",
                                   self.tenant, self.project, places.get("partner")))
        a = self.device("a", user=self.asker)
        b = self.device("b", user=self.boss, scopes=["project:" + self.second])
        self.settle()
        return deal, a, b

    def ask_deal(self, device, deal, price):
        device.sql("UPDATE joint_deals SET price = ? WHERE id = ?", price, deal)
        self.settle()
        return device.value("SELECT id FROM approval_requests WHERE status = 'pending' AND subject_id = ?", deal)

    def assert_approved(self, deal, device, asker, request):
        """By this device, and written as who asked for it."""
        self.decide(device, request, "approved")
        self.assertEqual(self.refusals(device), [])
        self.assertEqual(self.site.value("SELECT price FROM public.joint_deals WHERE id = %s", deal), 120)
        self.assertEqual(self.site.sql("SELECT status, requested_by::text, requested_device::text, decided_device::text FROM ferry.approval WHERE id = %s",
                                       request), [("approved", self.asker, asker.id, device.id)])
        self.assertEqual(self.site.sql(
            "SELECT s.device_id::text FROM ferry.version v JOIN ferry.tracked_column c ON c.tbl = v.tbl AND c.name = 'price' "
            "JOIN ferry.tracked t ON t.tbl = v.tbl AND t.name = 'joint_deals' CROSS JOIN unnest(v.over) x "
            "JOIN ferry.stamp s ON s.id = x & 281474976710655 WHERE v.key = %s AND x >> 48 = c.num", deal), [(asker.id,)])
        self.assert_same()

    def test_request_is_in_all_scopes_of_its_row_and_a_device_of_the_second_one_approves_it(self):
        deal, a, b = self.deals()
        self.site.sql("UPDATE public.joint_deals SET partner_id = %s WHERE id = %s", self.second, deal)
        self.settle()
        request = self.ask_deal(a, deal, 120)
        self.assertEqual(self.requests(b), [("pending", "100", "120")])
        self.assert_same()
        self.assert_approved(deal, b, a, request)

    def test_request_that_waits_follows_its_row_into_another_scope(self):
        deal, a, b = self.deals()
        request = self.ask_deal(a, deal, 120)
        self.assertEqual((self.requests(a), self.requests(b)), ([("pending", "100", "120")], []))
        self.site.sql("UPDATE public.joint_deals SET project_id = %s WHERE id = %s", self.second, deal)
        self.settle()
        self.assertEqual((self.requests(a), self.requests(b)), ([], [("pending", "100", "120")]))
        self.assertEqual(b.value("SELECT price FROM joint_deals WHERE id = ?", deal), 100)
        self.assert_same()
        self.assert_approved(deal, b, a, request)

    def test_P7_permission_in_a_scope_that_the_row_has_left_does_not_decide(self):
        deal, a, b = self.deals()
        request = self.ask_deal(a, deal, 120)
        self.site.sql("UPDATE identity.role_assignments SET scope_kind = 'PROJECT', project_id = %s WHERE tenant_id = %s AND user_id = %s",
                      self.project, self.tenant, self.boss)
        self.site.sql("UPDATE public.joint_deals SET project_id = %s WHERE id = %s", self.second, deal)
        self.settle()
        self.decide(b, request, "approved")
        self.assertEqual([name for name, _ in self.refusals(b)], ["PERMISSION"])
        self.assertEqual(self.requests(b), [("pending", "100", "120")])


if __name__ == "__main__":
    unittest.main()
