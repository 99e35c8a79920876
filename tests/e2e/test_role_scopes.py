#!/usr/bin/python3
"""Rows of a role's scope on real devices: they come and go with the role, and edits are not lost."""

import json
import unittest
import uuid

from ferry_run import SiteCase, wait_until


class RoleScopes(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("CREATE TABLE public.briefings (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), "
                     "role_id uuid NOT NULL, text text, PRIMARY KEY (tenant_id, id))")
        cls.site.sql("SELECT ferry.isolate('public.briefings')")
        cls.site.sql("SELECT ferry.track('public.briefings', 'role:role_id')")

    def role(self, code, parent=None):
        return str(self.site.value("INSERT INTO identity.roles (tenant_id, code, name, parent_role_id) VALUES (%s, %s, %s, %s) RETURNING id",
                                   self.tenant, code, code, parent))

    def user(self, name):
        return str(self.site.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id", self.tenant, name + "@example.com"))

    def assign(self, user, role):
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind) VALUES (%s, %s, %s, 'TENANT')",
                      self.tenant, user, role)

    def unassign(self, user, role):
        self.site.sql("DELETE FROM identity.role_assignments WHERE tenant_id = %s AND user_id = %s AND role_id = %s", self.tenant, user, role)

    def briefing(self, role, text):
        return str(self.site.value("INSERT INTO public.briefings (tenant_id, role_id, text) VALUES (%s, %s, %s) RETURNING id", self.tenant, role, text))

    def wait_texts(self, device, *texts):
        wait_until(lambda: {t for t, in device.sql("SELECT text FROM briefings")} == set(texts), 60, "%s at %s" % (texts, device.label))

    def test_P7_rows_of_a_role_are_with_who_has_it_or_one_that_inherits_it(self):
        guide = self.role("guide")
        chief = self.role("chief", parent=guide)
        amina, omar = self.user("amina"), self.user("omar")
        self.assign(amina, chief)
        self.briefing(guide, "for guides")
        self.briefing(chief, "for chiefs")
        a, b = self.device("a", user=amina), self.device("b", user=omar)
        self.settle()
        self.wait_texts(a, "for guides", "for chiefs")
        self.wait_texts(b)
        self.assign(omar, guide)
        self.wait_texts(b, "for guides")
        made = str(uuid.uuid4())
        b.sql("INSERT INTO briefings (id, role_id, text) VALUES (?, ?, 'from omar')", made, guide)
        self.settle()
        self.wait_texts(a, "for guides", "for chiefs", "from omar")
        self.assert_same()

    def test_role_that_is_lost_evicts_its_rows_and_keeps_what_was_not_sent(self):
        guide = self.role("guide")
        omar = self.user("omar")
        self.assign(omar, guide)
        key = self.briefing(guide, "for guides")
        b = self.device("b", user=omar)
        self.settle()
        b.stop()
        b.sql("UPDATE briefings SET text = 'mine' WHERE id = ?", key)
        self.unassign(omar, guide)
        b.start()
        self.wait_texts(b)
        self.settle()
        (name, values), = b.sql('SELECT name, "values" FROM ferry_rejected')
        self.assertEqual((name, json.loads(values)), ("OUT_OF_SCOPE", {"text": "mine"}))
        self.assertEqual(self.site.value("SELECT text FROM public.briefings WHERE id = %s", key), "for guides")  # evicted, not deleted
        self.assign(omar, guide)
        self.wait_texts(b, "for guides")
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
