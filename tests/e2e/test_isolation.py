#!/usr/bin/python3
"""P7: no device reads or writes outside its tenant and scopes, also one that lies."""

import unittest
import uuid

import ferry_run
import ferry_socket
from ferry_socket import CODES, block, change_set

INSERT, UPDATE, DELETE = 1, 2, 3
ACCEPTED, SUPERSEDED, REJECTED = 1, 2, 3


class Isolation(ferry_run.SiteCase):

    def other_tenant(self):
        tenant = self.hub.tenant("Other " + uuid.uuid4().hex[:8])
        project = self.new_project(tenant=tenant)
        return tenant, project, self.new_unit(tenant=tenant, project=project)

    def push(self, session, *sets):
        """{number: (verdict, code)}"""
        session.send({0: ferry_socket.PUSH, 1: list(sets)})
        out = {}
        while len(out) < len(sets):
            for v in session.wait(ferry_socket.ACK).get(1, []):
                out[v[1]] = (v[2], v.get(4, 0))
        return out

    def everything(self):
        """All tracked rows of all tenants, to see that nothing moved."""
        return {name: self.site.sql("SELECT * FROM %s ORDER BY 1, 2" % name)
                for name, in self.site.sql("SELECT relid::regclass::text FROM ferry.tracked")}

    # ---- agents that behave

    def test_two_tenants_never_see_each_other(self):
        other, other_project, other_unit = self.other_tenant()
        mine = self.new_unit()
        a = self.device("a")
        b = self.device("b", tenant=other, scopes=["project:" + other_project])
        self.settle()
        for n in range(5):
            a.sql("UPDATE units SET floor = ? WHERE id = ?", n, mine)
            b.sql("UPDATE units SET floor = ? WHERE id = ?", n + 100, other_unit)
            a.sql("INSERT INTO companies (id, tenant_id, name) VALUES (?, ?, 'mine')", str(uuid.uuid4()), self.tenant)
            self.settle()
        self.assertEqual([r[0] for r in a.sql("SELECT id FROM units")], [mine])
        self.assertEqual([r[0] for r in b.sql("SELECT id FROM units")], [other_unit])
        self.assertEqual(b.value("SELECT count(*) FROM companies"), 0)
        self.assertEqual([r[0] for r in a.sql("SELECT id FROM tenants")], [self.tenant])
        self.assert_same()

    def test_project_out_of_scope_is_neither_seen_nor_written(self):
        hidden = self.new_project(name="Hidden")
        unit = self.new_unit(project=hidden)
        seen = self.new_unit()
        a = self.device("a")
        self.settle()
        self.assertEqual([r[0] for r in a.sql("SELECT id FROM units")], [seen])
        own = str(uuid.uuid4())
        a.sql("INSERT INTO units (id, tenant_id, project_id, unit_type_code) VALUES (?, ?, ?, 'APT_1BR')", own, self.tenant, hidden)
        a.sql("UPDATE units SET floor = 1 WHERE id = ?", seen)
        self.settle()
        self.assertIsNone(self.site.value("SELECT 1 FROM inventory.units WHERE id = %s", own))
        self.assertEqual([r["name"] for r in a.json("rejected")], ["OUT_OF_SCOPE"])
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", seen), 1)
        self.assert_same()
        self.site.sql("UPDATE inventory.units SET floor = 2 WHERE id = %s", unit)
        self.settle()
        self.assert_same()

    def test_row_that_moves_between_projects_leaves_one_device_and_comes_to_the_other(self):
        second = self.new_project(name="Second")
        unit = self.new_unit()
        a = self.device("a")
        b = self.device("b", scopes=["project:" + second])
        self.settle()
        self.site.sql("UPDATE inventory.units SET project_id = %s WHERE id = %s", second, unit)
        self.settle()
        self.assertIsNone(a.row("units", unit))
        self.assertIsNotNone(b.row("units", unit))
        self.assert_same()

    def test_users_inbox_goes_to_the_users_devices_alone(self):
        users = [str(self.site.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id", self.tenant,
                                     "%s@example.com" % name)) for name in ("amina", "omar")]
        a = self.device("a", user="amina@example.com")
        b = self.device("b", user=users[1])
        for user, text in zip(users, ("for amina", "for omar")):
            self.site.sql("INSERT INTO comms.notifications_inbox (tenant_id, user_id, category, title, body) "
                          "VALUES (%s, %s, 'system', %s, %s)",
                          self.tenant, user, text, text)
        self.settle()
        self.assertEqual(a.sql("SELECT title FROM notifications_inbox"), [("for amina",)])
        self.assertEqual(b.sql("SELECT title FROM notifications_inbox"), [("for omar",)])
        self.assert_same()

    # ---- a device that lies, with a certificate of its own

    def liar(self):
        device = self.device("liar", start=False)
        s = self.session(device)
        welcome, tables = s.greet()
        return device, s, welcome, tables

    def test_fill_holds_rows_of_the_scopes_alone(self):
        _, _, other_unit = self.other_tenant()
        hidden = self.new_unit(project=self.new_project(name="Hidden"))
        mine = self.new_unit()
        _, s, _, _ = self.liar()
        sent = repr(s.got)
        self.assertIn(repr(uuid.UUID(mine).bytes)[2:-1], sent)
        for key in (hidden, other_unit):
            self.assertNotIn(repr(uuid.UUID(key).bytes)[2:-1], sent)

    def test_pushes_to_foreign_rows_are_refused_and_change_nothing(self):
        other, other_project, other_unit = self.other_tenant()
        hidden_project = self.new_project(name="Hidden")
        hidden = self.new_unit(project=hidden_project)
        mine = self.new_unit()
        _, s, _, tables = self.liar()
        units, tenants = tables["units"], tables["tenants"]
        before = self.everything()

        def b(text):
            return uuid.UUID(text).bytes
        wicked = [
            block(units, UPDATE, b(other_unit), floor=66),
            block(units, DELETE, b(other_unit)),
            block(units, UPDATE, b(hidden), floor=66),
            block(units, DELETE, b(hidden)),
            block(units, UPDATE, b(mine), project_id=b(hidden_project)),
            block(units, UPDATE, b(mine), project_id=b(other_project)),
            block(units, UPDATE, b(mine), tenant_id=b(other)),
            block(units, INSERT, uuid.uuid4().bytes, tenant_id=b(other), project_id=b(other_project), unit_type_code="X"),
            block(units, INSERT, uuid.uuid4().bytes, tenant_id=b(self.tenant), project_id=b(other_project), unit_type_code="X"),
            block(units, INSERT, uuid.uuid4().bytes, tenant_id=b(self.tenant), project_id=b(hidden_project), unit_type_code="X"),
            block(units, INSERT, b(other_unit), tenant_id=b(self.tenant), project_id=b(self.project), unit_type_code="X", floor=66),
            block(tenants, UPDATE, b(other), name="Mine now"),
            block(tenants, UPDATE, b(self.tenant), name="Renamed"),
            block(tables["unit_type_codes"], INSERT, uuid.uuid4().bytes, code="EVIL", label="x"),
            {1: 99999, 2: DELETE, 4: b(mine)},
        ]
        base = max(m[1] for m in s.got if m[0] == ferry_socket.COMMIT)
        verdicts = self.push(s, *(change_set(n + 1, w, base=base) for n, w in enumerate(wicked)))
        after = self.everything()
        inserted = uuid.UUID(other_unit)
        for number, (verdict, code) in sorted(verdicts.items()):
            # A row of another tenant is, for this one, no row at all: an update meets a
            # deletion, a delete has nothing to do, and a key may be the same in two tenants.
            if number in (1, 2, 11):
                continue
            self.assertEqual(verdict, REJECTED, "%d: code %d" % (number, code))
        own = [r for r in after["inventory.units"] if inserted in r and str(r[0]) == self.tenant]
        after["inventory.units"] = [r for r in after["inventory.units"] if r not in own]
        self.assertEqual(after, before)

    def test_change_set_in_the_name_of_another_device_is_refused(self):
        unit = self.new_unit()
        victim = self.device("victim")
        self.settle()
        _, s, _, tables = self.liar()
        s.send({0: ferry_socket.PUSH, 1: [change_set(1, block(tables["units"], UPDATE, uuid.UUID(unit).bytes, floor=5),
                                                     k1=uuid.UUID(victim.id).bytes)]})
        try:
            verdicts = s.wait(ferry_socket.ACK)[1]
            self.assertEqual(verdicts[0][2], REJECTED)
        except ferry_socket.Closed:
            pass
        self.assertIsNone(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit))
        self.assertEqual(self.site.sql("SELECT 1 FROM ferry.settled WHERE device_id = %s", victim.id), [])
        victim.sql("UPDATE units SET floor = 6 WHERE id = ?", unit)
        self.settle(victim)
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 6)

    def test_edit_stamped_in_the_future_does_not_win_for_ever(self):
        unit = self.new_unit()
        _, s, welcome, tables = self.liar()
        base = max(m[1] for m in s.got if m[0] == ferry_socket.COMMIT)
        year_2100 = 4102444800 * 1000000
        self.push(s, change_set(1, block(tables["units"], UPDATE, uuid.UUID(unit).bytes, floor=5), base=base, at=year_2100))
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 5)
        a = self.device("a")
        self.settle(a)
        a.stop()
        self.push(s, change_set(2, block(tables["units"], UPDATE, uuid.UUID(unit).bytes, floor=6), base=base, at=year_2100))
        a.sql("UPDATE units SET floor = 7 WHERE id = ?", unit)
        a.start()
        self.settle(a)
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 7)
        self.assertEqual(welcome[4].hex(), self.site.value("SELECT id FROM ferry.device WHERE name LIKE 'liar%%' "
                                                           "AND tenant_id = %s", self.tenant).hex)

    def test_number_used_twice_with_other_content_takes_no_effect(self):
        unit = self.new_unit()
        _, s, _, tables = self.liar()

        def edit(floor):
            return change_set(1, block(tables["units"], UPDATE, uuid.UUID(unit).bytes, floor=floor), base=1 << 40)
        self.push(s, edit(1))
        s.send({0: ferry_socket.PUSH, 1: [edit(2)]})
        try:
            s.wait(ferry_socket.ACK)
        except ferry_socket.Closed as e:
            self.assertEqual(e.code, CODES["NUMBER_REUSED"])
        self.assertNotEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 2)


if __name__ == "__main__":
    unittest.main()
