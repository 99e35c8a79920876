#!/usr/bin/python3
"""P7: what a device's user may read and write follows his roles, at once and in both directions."""

import json
import unittest
import uuid

import ferry_run
import ferry_socket
from ferry_run import wait_until
from ferry_socket import CODES, block, change_set

INSERT, UPDATE, DELETE = 1, 2, 3
REJECTED = 3


class Permissions(ferry_run.SiteCase):

    # ---- words

    def user(self, name):
        self.site.sql("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s)", self.tenant, name + "@example.com")
        return name + "@example.com"

    def role(self, code, *permissions, parent=None):
        self.site.sql("INSERT INTO identity.roles (tenant_id, code, name, parent_role_id) VALUES (%s, %s, %s, "
                      "(SELECT id FROM identity.roles WHERE tenant_id = %s AND code = %s))", self.tenant, code, code, self.tenant, parent)
        for permission in permissions:
            self.allow(code, permission)
        return code

    def allow(self, role, permission):
        self.site.sql("INSERT INTO identity.role_permissions (tenant_id, role_id, permission) SELECT tenant_id, id, %s "
                      "FROM identity.roles WHERE tenant_id = %s AND code = %s", permission, self.tenant, role)

    def forbid(self, role, permission):
        self.site.sql("DELETE FROM identity.role_permissions p USING identity.roles r WHERE r.tenant_id = p.tenant_id "
                      "AND r.id = p.role_id AND p.tenant_id = %s AND r.code = %s AND p.permission = %s", self.tenant, role, permission)

    def assign(self, email, role, project=None, expires=None):
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind, project_id, expires_at) "
                      "SELECT u.tenant_id, u.id, r.id, %s, %s, now() + %s::interval FROM identity.users u JOIN identity.roles r "
                      "ON r.tenant_id = u.tenant_id WHERE u.tenant_id = %s AND u.email = %s AND r.code = %s",
                      "PROJECT" if project else "TENANT", project, expires, self.tenant, email, role)

    def unassign(self, email, role):
        self.site.sql("DELETE FROM identity.role_assignments a USING identity.users u, identity.roles r "
                      "WHERE a.tenant_id = %s AND u.tenant_id = a.tenant_id AND u.id = a.user_id AND u.email = %s "
                      "AND r.tenant_id = a.tenant_id AND r.id = a.role_id AND r.code = %s", self.tenant, email, role)

    def policy(self, code, rule, version=1):
        self.site.sql("INSERT INTO governance.policies (tenant_id, code, rule, version) VALUES (%s, %s, %s, %s)",
                      self.tenant, code, json.dumps(rule), version)

    def new_lead(self, tenant=None, **columns):
        columns = dict({"tenant_id": tenant or self.tenant}, **columns)
        return str(self.site.value("INSERT INTO crm.leads (%s) VALUES (%s) RETURNING id" % (
            ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values()))

    def lead(self, device, **columns):
        """A lead made on a device; its id."""
        key = str(uuid.uuid4())
        columns = dict({"id": key, "tenant_id": self.tenant, "status_code": "new"}, **columns)
        device.sql("INSERT INTO leads (%s) VALUES (%s)" % (", ".join(columns), ", ".join("?" * len(columns))), *columns.values())
        return key

    def wait_keys(self, device, table, keys, seconds=20):
        wait_until(lambda: {r[0] for r in device.sql("SELECT id FROM %s" % table)} == set(keys), seconds,
                   "%s of %s with the rows %s" % (table, device.label, sorted(keys)))

    def refusals(self, device):
        """[(code, sentence)] of refused change-sets, oldest first."""
        return [(r["name"], r["sentence"]) for r in device.json("rejected")]

    # ---- reading

    def test_P7_read_permission_that_is_given_brings_the_rows_and_taken_away_evicts_them(self):
        leads = [self.new_lead() for _ in range(3)]
        amina = self.user("amina")
        self.role("seller", "leads.view", "leads.edit")
        a = self.device("a", user=amina)
        self.settle()
        self.wait_keys(a, "leads", [])
        self.assign(amina, "seller")
        self.wait_keys(a, "leads", leads)
        self.settle()
        self.assert_same()
        self.forbid("seller", "leads.view")
        self.wait_keys(a, "leads", [])
        self.settle()
        self.assert_same()
        self.assertEqual(self.site.value("SELECT count(*) FROM crm.leads WHERE tenant_id = %s", self.tenant), 3)

    def test_edit_that_was_not_sent_before_the_permission_went_is_kept_aside(self):
        lead = self.new_lead(score=1)
        amina = self.user("amina")
        self.role("seller", "leads.*")
        self.assign(amina, "seller")
        a = self.device("a", user=amina)
        self.settle()
        a.stop()
        a.sql("UPDATE leads SET score = 2 WHERE id = ?", lead)
        self.unassign(amina, "seller")
        a.start()
        self.wait_keys(a, "leads", [])
        self.settle()
        self.assertEqual([name for name, _ in self.refusals(a)], ["OUT_OF_SCOPE"])
        self.assertEqual(a.sql("SELECT key FROM ferry_rejected"), [(lead,)])
        self.assertEqual(self.site.value("SELECT score FROM crm.leads WHERE id = %s", lead), 1)
        self.assert_same()

    def test_P7_role_for_one_project_opens_that_project_alone(self):
        second = self.new_project(name="Second")
        mine, other = self.new_unit("A-1"), self.new_unit("B-1", project=second)
        amina = self.user("amina")
        self.role("keeper", "inventory.view", "inventory.edit")
        self.role("visitor", "inventory.view")
        self.assign(amina, "keeper", project=self.project)
        a = self.device("a", user=amina, scopes=["project:" + self.project, "project:" + second])
        self.settle()
        self.wait_keys(a, "units", [mine])
        self.assign(amina, "visitor")
        self.wait_keys(a, "units", [mine, other])
        a.sql("UPDATE units SET floor = 7 WHERE id = ?", other)
        a.sql("UPDATE units SET floor = 7 WHERE id = ?", mine)
        self.settle()
        self.assertEqual(self.refusals(a), [("PERMISSION", "the permission inventory.edit is missing for update on units")])
        self.assertEqual(self.site.sql("SELECT code, floor FROM inventory.units WHERE tenant_id = %s ORDER BY 1", self.tenant),
                         [("A-1", 7), ("B-1", None)])
        # Nor may a row go to where the permission does not reach.
        a.sql("UPDATE units SET project_id = ? WHERE id = ?", second, mine)
        self.settle()
        self.assertEqual(len(self.refusals(a)), 2)
        self.assertEqual(str(self.site.value("SELECT project_id FROM inventory.units WHERE id = %s", mine)), self.project)
        self.assert_same()

    def test_role_has_the_permissions_of_its_parent_too(self):
        lead = self.new_lead()
        amina = self.user("amina")
        self.role("reader", "leads.view")
        self.role("writer", "leads.edit", parent="reader")
        self.assign(amina, "writer")
        a = self.device("a", user=amina)
        self.settle()
        self.wait_keys(a, "leads", [lead])
        a.sql("UPDATE leads SET score = 5 WHERE id = ?", lead)
        self.settle()
        self.assertEqual(self.site.value("SELECT score FROM crm.leads WHERE id = %s", lead), 5)
        self.site.sql("UPDATE identity.roles SET parent_role_id = NULL WHERE tenant_id = %s AND code = 'writer'", self.tenant)
        self.wait_keys(a, "leads", [])

    def test_role_that_expires_ends_by_itself(self):
        lead = self.new_lead()
        amina = self.user("amina")
        self.role("temp", "leads.view")
        a = self.device("a", user=amina)
        self.settle()
        self.assign(amina, "temp", expires="8 seconds")
        self.wait_keys(a, "leads", [lead], seconds=8)
        self.wait_keys(a, "leads", [])

    def test_suspended_user_sees_nothing_that_needs_a_permission(self):
        lead = self.new_lead()
        amina = self.user("amina")
        self.assign(amina, "admin")
        a = self.device("a", user=amina)
        self.settle()
        self.wait_keys(a, "leads", [lead])
        self.site.sql("UPDATE identity.users SET status = 'suspended' WHERE tenant_id = %s AND email = %s", self.tenant, amina)
        self.wait_keys(a, "leads", [])
        self.site.sql("UPDATE identity.users SET status = 'active' WHERE tenant_id = %s AND email = %s", self.tenant, amina)
        self.wait_keys(a, "leads", [lead])

    def test_device_without_a_user_has_the_tenants_role_for_devices(self):
        lead = self.new_lead()
        a = self.device("kiosk")
        self.settle()
        self.wait_keys(a, "leads", [lead])
        self.forbid("device", "leads.*")
        self.wait_keys(a, "leads", [])
        self.settle()
        self.assert_same()

    def test_P7_roles_of_another_tenant_give_nothing(self):
        lead = self.new_lead()
        amina = self.user("amina")
        a = self.device("a", user=amina)
        other = self.hub.tenant("Other " + uuid.uuid4().hex[:8])
        theirs = self.new_lead(tenant=other)
        # The same address in the other tenant is another user.
        self.site.sql("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s)", other, amina)
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id) SELECT u.tenant_id, u.id, r.id "
                      "FROM identity.users u JOIN identity.roles r ON r.tenant_id = u.tenant_id AND r.code = 'admin' "
                      "WHERE u.tenant_id = %s", other)
        self.settle()
        self.assertEqual(a.sql("SELECT id FROM leads"), [])
        self.assign(amina, "admin")
        self.wait_keys(a, "leads", [lead])
        self.assertIsNone(a.row("leads", theirs))

    # ---- writing

    def test_P7_insert_that_is_allowed_flows_while_a_delete_is_refused(self):
        amina = self.user("amina")
        self.role("clerk", "leads.view", "leads.create")
        self.assign(amina, "clerk")
        kept = self.new_lead()
        a = self.device("a", user=amina)
        self.settle()
        first = self.lead(a)
        a.sql("DELETE FROM leads WHERE id = ?", kept)
        a.sql("UPDATE leads SET score = 9 WHERE id = ?", first)
        second = self.lead(a)
        self.settle()
        self.assertEqual(sorted(self.refusals(a)), [
            ("PERMISSION", "the permission leads.delete is missing for delete on leads"),
            ("PERMISSION", "the permission leads.edit is missing for update on leads")])
        self.wait_keys(a, "leads", [kept, first, second])
        self.assertEqual(self.site.value("SELECT score FROM crm.leads WHERE id = %s", first), None)
        self.assert_same()

    def test_P7_column_with_a_permission_of_its_own_refuses_its_change_set_alone(self):
        unit = self.new_unit(price_minor=100, currency="EGP")
        amina = self.user("amina")
        self.role("keeper", "inventory.view", "inventory.edit")
        self.assign(amina, "keeper")
        a = self.device("a", user=amina)
        self.settle()
        a.sql("UPDATE units SET price_minor = 200, floor = 3 WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.refusals(a), [
            ("PERMISSION", "the permission inventory.price is missing for update on units.price_minor")])
        self.assertEqual(self.site.sql("SELECT price_minor, floor FROM inventory.units WHERE id = %s", unit), [(100, None)])
        a.sql("UPDATE units SET floor = 4 WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.site.sql("SELECT price_minor, floor FROM inventory.units WHERE id = %s", unit), [(100, 4)])
        self.allow("keeper", "inventory.price")
        wait_until(lambda: self.site.value("SELECT count(*) FROM ferry.held_right WHERE device_id = %s AND permission = "
                                           "'inventory.price'", a.id) == 1, 5, "the permission")
        a.sql("UPDATE units SET price_minor = 300 WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.site.value("SELECT price_minor FROM inventory.units WHERE id = %s", unit), 300)
        self.assert_same()

    def test_P6_refused_device_holds_up_nobody_else(self):
        unit = self.new_unit()
        amina, omar = self.user("amina"), self.user("omar")
        self.role("visitor", "inventory.view")
        self.assign(amina, "visitor")
        self.assign(omar, "inventory_mgr")
        a, b = self.device("a", user=amina), self.device("b", user=omar)
        self.settle()
        for n in range(10):
            a.sql("UPDATE units SET floor = ? WHERE id = ?", -n, unit)
            b.sql("UPDATE units SET floor = ? WHERE id = ?", n, unit)
        self.settle()
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 9)
        self.assertEqual({name for name, _ in self.refusals(a)} - {"DEPENDS"}, {"PERMISSION"})
        self.assertEqual(self.refusals(b), [])
        self.assert_same()

    def test_P7_device_that_lies_is_refused_by_the_hub(self):
        unit, lead = self.new_unit(price_minor=5, currency="EGP"), self.new_lead()
        amina = self.user("amina")
        self.role("visitor", "inventory.view", "leads.view")
        self.assign(amina, "visitor")
        device = self.device("liar", user=amina, start=False)
        before = self.site.sql("SELECT * FROM inventory.units ORDER BY id"), self.site.sql("SELECT * FROM crm.leads ORDER BY id")
        s = self.session(device)
        welcome, tables = s.greet()
        self.assertIn("tenant/leads.view", welcome[11])
        tenant = uuid.UUID(self.tenant).bytes
        unit_key, lead_key = uuid.UUID(unit).bytes, uuid.UUID(lead).bytes
        seen = self.hub.head(self.tenant)
        lies = [block(tables["units"], UPDATE, unit_key, price_minor=1),
                block(tables["units"], UPDATE, unit_key, floor=1),
                block(tables["units"], DELETE, unit_key),
                block(tables["units"], INSERT, uuid.uuid4().bytes, tenant_id=tenant, unit_type_code="APT_1BR",
                      project_id=uuid.UUID(self.project).bytes),
                block(tables["leads"], UPDATE, lead_key, score=1),
                block(tables["leads"], UPDATE, lead_key, deleted_at=1700000000000000),
                block(tables["leads"], DELETE, lead_key),
                block(tables["leads"], INSERT, uuid.uuid4().bytes, tenant_id=tenant, status_code="new")]
        s.send({0: ferry_socket.PUSH, 1: [change_set(1 + i, lie, base=seen) for i, lie in enumerate(lies)]})
        verdicts = {}
        while len(verdicts) < len(lies):
            for v in s.wait(ferry_socket.ACK).get(1, []):
                verdicts[v[1]] = (v[2], v.get(4, 0))
        self.assertEqual(set(verdicts.values()), {(REJECTED, CODES["PERMISSION"])})
        self.assertEqual(before, (self.site.sql("SELECT * FROM inventory.units ORDER BY id"),
                                  self.site.sql("SELECT * FROM crm.leads ORDER BY id")))

    # ---- policies

    def test_policy_refuses_what_permissions_allow_and_says_which_it_is(self):
        amina = self.user("amina")
        self.assign(amina, "sales_exec")
        lead = self.new_lead(status_code="won", score=1)
        a = self.device("a", user=amina)
        self.settle()
        self.policy("won-stays", {"resources": ["crm.leads"], "actions": ["update"], "when": {"all": [
            {"attribute": "old.status_code", "is": "eq", "value": "won"},
            {"attribute": "row.status_code", "is": "ne", "value": "won"}]}})
        a.sql("UPDATE leads SET status_code = 'lost' WHERE id = ?", lead)
        a.sql("UPDATE leads SET score = 2 WHERE id = ?", lead)
        other = self.lead(a)
        self.settle()
        names = self.refusals(a)
        self.assertEqual(names[0], ("POLICY", "the policy won-stays forbids update on crm.leads"))
        self.assertEqual(self.site.value("SELECT status_code FROM crm.leads WHERE id = %s", lead), "won")
        self.assertIsNotNone(self.site.value("SELECT 1 FROM crm.leads WHERE id = %s", other))
        # A newer version of the code replaces it.
        self.policy("won-stays", {"resources": ["crm.leads"], "actions": ["delete"]}, version=2)
        a.sql("UPDATE leads SET status_code = 'lost' WHERE id = ?", lead)
        self.settle()
        self.assertEqual(self.site.value("SELECT status_code FROM crm.leads WHERE id = %s", lead), "lost")
        self.assert_same()

    def test_allow_policy_lets_only_its_own_rows_through(self):
        amina = self.user("amina")
        self.assign(amina, "sales_exec")
        me = self.site.value("SELECT id FROM identity.users WHERE tenant_id = %s", self.tenant)
        mine, other = self.new_lead(assigned_to=me), self.new_lead()
        a = self.device("a", user=amina)
        self.settle()
        self.policy("own-leads", {"effect": "allow", "resources": ["crm.*"], "actions": ["update"],
                                  "when": {"attribute": "row.assigned_to", "is": "eq", "than": "user.id"}})
        a.sql("UPDATE leads SET score = 1 WHERE id = ?", mine)
        a.sql("UPDATE leads SET score = 1 WHERE id = ?", other)
        self.settle()
        self.assertEqual(self.refusals(a), [("POLICY", "the policy own-leads does not allow update on crm.leads")])
        self.assertEqual(self.site.value("SELECT score FROM crm.leads WHERE id = %s", mine), 1)
        self.assertIsNone(self.site.value("SELECT score FROM crm.leads WHERE id = %s", other))
        self.assert_same()

    # ---- soft deletion

    def test_row_that_is_deleted_softly_goes_and_comes_back(self):
        lead, stays = self.new_lead(), self.new_lead()
        a, b = self.device("a"), self.device("b")
        archive = self.device("archive", scopes=["tenant+archived"])
        self.settle()
        a.sql("UPDATE leads SET deleted_at = '2026-01-01T00:00:00.000000Z', delete_reason = 'twice' WHERE id = ?", lead)
        self.wait_keys(a, "leads", [stays])
        self.wait_keys(b, "leads", [stays])
        self.settle()
        self.assertEqual(archive.row("leads", lead)["delete_reason"], "twice")
        self.assertEqual(self.refusals(a), [])
        self.assert_same()
        archive.sql("UPDATE leads SET deleted_at = NULL WHERE id = ?", lead)
        self.wait_keys(a, "leads", [lead, stays])
        self.wait_keys(b, "leads", [lead, stays])
        self.settle()
        self.assert_same()

    def test_soft_deletion_needs_the_permission_to_delete(self):
        lead = self.new_lead()
        amina = self.user("amina")
        self.assign(amina, "sales_exec")
        a = self.device("a", user=amina)
        self.settle()
        a.sql("UPDATE leads SET deleted_at = '2026-01-01T00:00:00.000000Z' WHERE id = ?", lead)
        self.settle()
        self.assertEqual(self.refusals(a), [("PERMISSION", "the permission leads.delete is missing for update on leads.deleted_at")])
        self.wait_keys(a, "leads", [lead])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
