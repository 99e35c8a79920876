#!/usr/bin/python3
"""Redacted columns on real devices: whose user may read them has them in a table beside, and nobody else has them at all."""

import glob
import itertools
import os
import unittest
import uuid

import ferry_run
from ferry_run import wait_until

NUMBERS = itertools.count(1)


class Redaction(ferry_run.SiteCase):

    # ---- words

    def setUp(self):
        super().setUp()
        self.name = "flats%d" % next(NUMBERS)
        self.beside = self.name + "_restricted"
        for role, permissions in (("seller", ("inventory.view", "inventory.create", "inventory.edit", "inventory.delete")),
                                  ("broker", ("inventory.view_prices",))):
            key = self.site.value("INSERT INTO identity.roles (tenant_id, code, name) VALUES (%s, %s, %s) RETURNING id", self.tenant, role, role)
            for permission in permissions:
                self.site.sql("INSERT INTO identity.role_permissions (tenant_id, role_id, permission) VALUES (%s, %s, %s)",
                              self.tenant, key, permission)

    def table(self, price="min_price int", redact=True):
        self.site.sql("CREATE TABLE public.%s (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid, code text, "
                      "%s, owner_note text, PRIMARY KEY (tenant_id, id))" % (self.name, price))
        self.site.sql("SELECT ferry.isolate('public.%s')" % self.name)
        self.site.sql("SELECT ferry.plan('public.%s', 'project:project_id', 'inventory')" % self.name)
        if redact:
            self.redact()

    def redact(self):
        self.site.sql("SELECT ferry.redact('public.%s', '{min_price,owner_note}', 'inventory.view_prices')" % self.name)

    def flat(self, **columns):
        columns = dict({"tenant_id": self.tenant, "project_id": self.project}, **columns)
        return str(self.site.value("INSERT INTO public.%s (%s) VALUES (%s) RETURNING id" % (
            self.name, ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values()))

    def assign(self, email, role):
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind) SELECT u.tenant_id, u.id, r.id, 'TENANT' "
                      "FROM identity.users u JOIN identity.roles r ON r.tenant_id = u.tenant_id WHERE u.tenant_id = %s AND u.email = %s AND r.code = %s",
                      self.tenant, email, role)

    def unassign(self, email, role):
        self.site.sql("DELETE FROM identity.role_assignments a USING identity.users u, identity.roles r WHERE a.tenant_id = %s "
                      "AND u.tenant_id = a.tenant_id AND u.id = a.user_id AND u.email = %s AND r.tenant_id = a.tenant_id AND r.id = a.role_id "
                      "AND r.code = %s", self.tenant, email, role)

    def person(self, name, *roles):
        """A started device of a user with these roles; and his address."""
        email = name + "@example.com"
        self.site.sql("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s)", self.tenant, email)
        for role in roles:
            self.assign(email, role)
        device = self.device(name, user=email)
        device.wait_filled()
        return device, email

    def hub_row(self, key):
        return self.site.sql("SELECT code, min_price, owner_note FROM public.%s WHERE tenant_id = %%s AND id = %%s" % self.name, self.tenant, key)[0]

    def secrets(self, device):
        if not device.sql("SELECT 1 FROM sqlite_master WHERE name = ?", self.beside):
            return None
        return {r[0]: r[1:] for r in device.sql("SELECT id, min_price, owner_note FROM %s" % self.beside)}

    def wait_secrets(self, device, wanted):
        wait_until(lambda: self.secrets(device) == wanted, 30, "%s of %s is %s" % (self.beside, device.label, wanted))

    def columns(self, device, table):
        return [r[0] for r in device.sql("SELECT name FROM pragma_table_info('%s')" % table)]

    def files_with(self, device, text):
        """The files of a device's folder in which these bytes are found."""
        found = []
        for path in glob.glob(os.path.join(device.folder, "**"), recursive=True):
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    if text.encode() in f.read():
                        found.append(os.path.basename(path))
        return found

    def held_back(self):
        return self.hub.status()["database"]["held_back"]

    # ---- tests

    def test_P7_device_without_the_right_never_has_the_value_and_one_with_it_reads_and_edits(self):
        self.table()
        key = self.flat(code="a", min_price=5, owner_note="whisper-one")
        a, _ = self.person("amina", "seller", "broker")
        b, _ = self.person("badr", "seller")
        self.settle()
        self.wait_secrets(a, {key: (5, "whisper-one")})
        self.assertEqual(self.secrets(b), {})
        self.site.sql("UPDATE public.%s SET min_price = 6, owner_note = 'whisper-two', code = 'b' WHERE id = %%s" % self.name, key)
        self.wait_secrets(a, {key: (6, "whisper-two")})
        a.sql("UPDATE %s SET owner_note = 'whisper-three' WHERE id = ?" % self.beside, key)
        b.sql("UPDATE %s SET code = 'c' WHERE id = ?" % self.name, key)
        self.settle()
        self.assertEqual(self.hub_row(key), ("c", 6, "whisper-three"))
        self.assertEqual(a.sql("SELECT f.code, r.min_price, r.owner_note FROM %s f JOIN %s r ON r.id = f.id" % (self.name, self.beside)),
                         [("c", 6, "whisper-three")])
        self.assertEqual(b.sql("SELECT code FROM %s" % self.name), [("c",)])
        self.assertEqual(self.columns(b, self.name), ["id", "tenant_id", "project_id", "code"])
        self.assert_same()
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.conflict WHERE tenant_id = %s", self.tenant), 0)
        self.site.wait_settled(a, b)
        self.assertEqual(self.files_with(b, "whisper"), [])
        self.assertNotEqual(self.files_with(a, "whisper"), [])

    def test_P7_device_without_the_right_cannot_write_the_value_either(self):
        self.table()
        key, plain = self.flat(code="a", min_price=5), self.flat(code="b")
        b, _ = self.person("badr", "seller")
        self.settle()
        for k in (key, plain):
            b.sql("INSERT INTO %s (tenant_id, id, min_price) VALUES (?, ?, 1)" % self.beside, self.tenant, k)
        self.settle()
        self.assertEqual({(r["name"]) for r in b.json("rejected")}, {"OUT_OF_SCOPE"})
        self.assertEqual((self.hub_row(key)[1], self.hub_row(plain)[1]), (5, None))

    def test_right_that_comes_brings_the_values_and_one_that_goes_takes_them_and_keeps_unsent_edits(self):
        self.table()
        key = self.flat(code="a", min_price=5)
        a, amina = self.person("amina", "seller")
        self.settle()
        self.assertEqual(self.secrets(a), {})
        self.assign(amina, "broker")
        self.wait_secrets(a, {key: (5, None)})
        self.settle()
        a.stop()
        a.sql("UPDATE %s SET min_price = 7 WHERE id = ?" % self.beside, key)
        a.sql("UPDATE %s SET code = 'b' WHERE id = ?" % self.name, key)
        self.unassign(amina, "broker")
        a.start()
        self.wait_secrets(a, {})
        self.settle()
        self.assertEqual(a.sql("SELECT name, key FROM ferry_rejected"), [("OUT_OF_SCOPE", key)])
        self.assertEqual(self.hub_row(key)[1], 5)
        self.assertEqual(a.value("SELECT count(*) FROM %s" % self.name), 1)
        self.assert_same()

    def test_device_makes_and_deletes_rows_with_their_restricted_ones(self):
        for price, shown in (("min_price int", None), ("min_price int NOT NULL DEFAULT 3", 3)):
            with self.subTest(price=price):
                self.name = "flats%d" % next(NUMBERS)
                self.beside = self.name + "_restricted"
                self.table(price)
                a, _ = self.person("amina%d" % bool(shown), "seller", "broker")
                b, _ = self.person("badr%d" % bool(shown), "seller")
                with_value, without = str(uuid.uuid4()), str(uuid.uuid4())
                with a.transaction() as db:
                    db.execute("INSERT INTO %s (tenant_id, id, project_id, code) VALUES (?, ?, ?, 'a')" % self.name, (self.tenant, with_value, self.project))
                    db.execute("INSERT INTO %s (tenant_id, id, min_price) VALUES (?, ?, 9)" % self.beside, (self.tenant, with_value))
                b.sql("INSERT INTO %s (tenant_id, id, project_id, code) VALUES (?, ?, ?, 'b')" % self.name, self.tenant, without, self.project)
                self.settle()
                self.assertEqual((self.hub_row(with_value), self.hub_row(without)), (("a", 9, None), ("b", shown, None)))
                self.assertEqual(self.secrets(a), {k: v for k, v in ((with_value, (9, None)), (without, (shown, None))) if v != (None, None)})
                with a.transaction() as db:
                    db.execute("DELETE FROM %s WHERE id = ?" % self.beside, (with_value,))
                    db.execute("DELETE FROM %s WHERE id = ?" % self.name, (with_value,))
                b.sql("DELETE FROM %s WHERE id = ?" % self.name, without)
                self.settle()
                self.wait_secrets(a, {})
                self.assertEqual(self.site.value("SELECT count(*) FROM public.%s" % self.name), 0)
                self.assertEqual([a.sql("SELECT name FROM ferry_rejected"), b.sql("SELECT name FROM ferry_rejected")], [[], []])
                self.assert_same()

    def test_R12_edit_waits_for_the_hub_s_open_transaction_on_the_row_and_both_stand(self):
        self.table()
        key = self.flat(code="a", min_price=5, owner_note="n")
        a, _ = self.person("amina", "seller", "broker")
        self.settle()
        conn = self.db.connect()
        try:
            with conn.cursor() as cur:
                cur.execute("SELECT set_config('app.tenant_id', %s, true)", (self.tenant,))
                cur.execute("UPDATE public.%s SET code = 'held' WHERE id = %%s" % self.name, (key,))
                before = self.held_back()
                a.sql("UPDATE %s SET owner_note = 'm' WHERE id = ?" % self.beside, key)
                wait_until(lambda: self.held_back() > before, 30, "the edit waits")
                cur.execute("UPDATE public.%s SET min_price = 6 WHERE id = %%s" % self.name, (key,))
            conn.commit()
        finally:
            conn.close()
        self.settle()
        self.assertEqual(self.hub_row(key), ("held", 6, "m"))
        self.assertEqual(self.secrets(a), {key: (6, "m")})
        self.assert_same()

    def test_two_edits_of_a_redacted_column_are_a_conflict_as_of_any_other(self):
        self.table()
        key = self.flat(code="a", min_price=5, owner_note="n")
        a, _ = self.person("amina", "seller", "broker")
        self.settle()
        a.stop()
        self.site.sql("UPDATE public.%s SET min_price = 6, code = 'b' WHERE id = %%s" % self.name, key)
        a.sql("UPDATE %s SET min_price = 7, owner_note = 'm' WHERE id = ?" % self.beside, key)
        a.start()
        self.settle()
        self.assertEqual(self.hub_row(key), ("b", 7, "m"))
        self.assertEqual(self.site.sql("SELECT t.replica_name, k.kind, k.winner FROM ferry.conflict k JOIN ferry.tracked t ON t.tbl = k.tbl "
                                       "WHERE k.tenant_id = %s", self.tenant), [(self.beside, "update_update", "device")])
        self.assert_same()

    def conflicts(self):
        return self.site.sql("SELECT t.replica_name, c.name, k.kind, k.winner, k.device_value #>> '{}', k.hub_value #>> '{}' FROM ferry.conflict k "
                             "JOIN ferry.tracked t ON t.tbl = k.tbl JOIN ferry.tracked_column c ON c.tbl = k.tbl AND c.num = k.num "
                             "WHERE k.tenant_id = %s ORDER BY 1, 2, 3, 5", self.tenant)

    def rejected(self, device):
        return [(r["name"]) for r in device.json("rejected")]

    def test_late_edit_of_a_column_redacted_meanwhile_goes_to_the_restricted_row_by_the_rights_and_policies_there(self):
        self.table(redact=False)
        key, plain, gone, mixed = (self.flat(code=c, min_price=p) for c, p in (("a", 5), ("b", None), ("c", 6), ("d", 7)))
        a, _ = self.person("amina", "seller", "broker")
        b, _ = self.person("badr", "seller")
        c, _ = self.person("celia", "seller", "broker")
        self.settle()
        for device in (a, b, c):
            device.stop()
        made = str(uuid.uuid4())
        a.sql("UPDATE %s SET min_price = 8 WHERE id = ?" % self.name, key)
        a.sql("UPDATE %s SET min_price = 1, owner_note = 'one' WHERE id = ?" % self.name, plain)
        a.sql("UPDATE %s SET min_price = 9 WHERE id = ?" % self.name, gone)
        a.sql("UPDATE %s SET code = 'late', owner_note = 'both' WHERE id = ?" % self.name, mixed)
        with a.transaction() as db:
            db.execute("INSERT INTO %s (tenant_id, id, project_id, code, min_price) VALUES (?, ?, ?, 'new', 4)" % self.name,
                       (self.tenant, made, self.project))
        b.sql("UPDATE %s SET min_price = 2 WHERE id = ?" % self.name, plain)
        b.sql("UPDATE %s SET code = 'open' WHERE id = ?" % self.name, key)
        b.sql("INSERT INTO %s (tenant_id, id, project_id, code) VALUES (?, ?, ?, 'silent')" % self.name, self.tenant, str(uuid.uuid4()), self.project)
        c.sql("UPDATE %s SET min_price = 3 WHERE id = ?" % self.name, mixed)
        self.redact()
        self.site.sql("UPDATE public.%s SET min_price = 70 WHERE id = %%s" % self.name, mixed)
        self.site.sql("DELETE FROM public.%s WHERE id = %%s" % self.name, gone)
        for device in (a, b, c):
            device.start()
        self.settle()
        self.assertEqual([self.rejected(d) for d in (a, b, c)], [[], ["OUT_OF_SCOPE"], []])
        self.assertEqual(b.sql("SELECT key FROM ferry_rejected"), [(plain,)])
        self.assertEqual([self.hub_row(k) for k in (key, plain, mixed, made)],
                         [("open", 8, None), ("b", 1, "one"), ("late", 70, "both"), ("new", 4, None)])
        self.assertEqual(self.conflicts(), [(self.beside, "min_price", "update_delete", "hub", "9", None),
                                            (self.beside, "min_price", "update_update", "hub", "3", "70")])
        self.wait_secrets(a, {key: (8, None), plain: (1, "one"), mixed: (70, "both"), made: (4, None)})
        self.assertEqual(self.secrets(b), {})
        self.assertEqual(self.site.value("SELECT count(*) FROM public.%s WHERE code = 'silent'" % self.name), 1)
        self.assert_same()

    def test_late_edit_of_a_restricted_row_goes_to_the_table_s_after_reveal(self):
        self.table()
        key, plain, blank, met = (self.flat(code=c, min_price=p) for c, p in (("a", 5), ("b", None), ("c", 6), ("d", 7)))
        a, _ = self.person("amina", "seller", "broker")
        b, _ = self.person("badr", "seller", "broker")
        self.settle()
        self.wait_secrets(a, {key: (5, None), blank: (6, None), met: (7, None)})
        self.wait_secrets(b, {key: (5, None), blank: (6, None), met: (7, None)})
        a.stop()
        b.stop()
        a.sql("UPDATE %s SET min_price = 8 WHERE id = ?" % self.beside, key)
        a.sql("UPDATE %s SET code = 'late' WHERE id = ?" % self.name, key)
        a.sql("INSERT INTO %s (tenant_id, id, min_price) VALUES (?, ?, 1)" % self.beside, self.tenant, plain)
        a.sql("DELETE FROM %s WHERE id = ?" % self.beside, blank)
        b.sql("UPDATE %s SET min_price = 3, owner_note = 'mine' WHERE id = ?" % self.beside, met)
        made = str(uuid.uuid4())
        with b.transaction() as db:
            db.execute("INSERT INTO %s (tenant_id, id, project_id, code) VALUES (?, ?, ?, 'new')" % self.name, (self.tenant, made, self.project))
            db.execute("INSERT INTO %s (tenant_id, id, min_price) VALUES (?, ?, 4)" % self.beside, (self.tenant, made))
        self.site.sql("SELECT ferry.reveal('public.%s')" % self.beside)
        self.site.sql("UPDATE public.%s SET min_price = 70 WHERE id = %%s" % self.name, met)
        a.start()
        b.start()
        self.settle()
        self.assertEqual([self.rejected(a), self.rejected(b)], [[], []])
        self.assertEqual([self.hub_row(k) for k in (key, plain, blank, met, made)],
                         [("late", 8, None), ("b", 1, None), ("c", None, None), ("d", 70, "mine"), ("new", 4, None)])
        self.assertEqual(self.conflicts(), [(self.name, "min_price", "update_update", "hub", "3", "70")])
        self.assert_same()

    def test_late_edits_of_a_redacted_column_go_through_the_conversion_of_its_type(self):
        self.table("min_price text", redact=False)
        key, other = self.flat(code="a", min_price="5"), self.flat(code="b", min_price="6")
        a, _ = self.person("amina", "seller", "broker")
        self.settle()
        a.stop()
        a.sql("UPDATE %s SET min_price = '8', code = 'late' WHERE id = ?" % self.name, key)
        self.redact()
        b, _ = self.person("badr", "seller", "broker")
        self.settle(b)
        b.stop()
        b.sql("UPDATE %s SET min_price = '9' WHERE id = ?" % self.beside, other)
        if not self.site.value("SELECT to_regproc('public.flat_cents')"):
            self.site.sql("CREATE FUNCTION public.flat_cents(p text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT (p::numeric * 100)::int'")
        self.site.sql("SELECT ferry.change_type('public.%s', 'min_price', 'int', 'public.flat_cents')" % self.name)
        a.start()
        b.start()
        self.settle()
        self.assertEqual([self.hub_row(k)[:2] for k in (key, other)], [("late", 800), ("b", 900)])
        for device in (a, b):
            self.wait_secrets(device, {key: (800, None), other: (900, None)})
            self.assertEqual(self.rejected(device), [])
        self.assertEqual(self.conflicts(), [])
        self.assert_same()

    def test_P7_rows_that_say_their_scopes_are_redacted_too(self):
        self.site.sql("CREATE TABLE public.%s (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), place text NOT NULL, code text, "
                      "min_price int, owner_note text, PRIMARY KEY (tenant_id, id))" % self.name)
        self.site.sql("SELECT ferry.isolate('public.%s')" % self.name)
        self.site.sql("SELECT ferry.plan('public.%s', 'row:place', 'inventory')" % self.name)
        self.redact()
        a, _ = self.person("amina", "seller", "broker")
        b, _ = self.person("badr", "seller")
        mine, elsewhere = (str(self.site.value("INSERT INTO public.%s (tenant_id, place, code, min_price) VALUES (%%s, %%s, 'a', 5) RETURNING id" % self.name,
                                               self.tenant, "project:" + p)) for p in (self.project, str(uuid.uuid4())))
        self.wait_secrets(a, {mine: (5, None)})
        a.sql("UPDATE %s SET min_price = 6 WHERE id = ?" % self.beside, mine)
        b.sql("UPDATE %s SET code = 'b' WHERE id = ?" % self.name, mine)
        self.settle()
        self.assertEqual([self.hub_row(k)[:2] for k in (mine, elsewhere)], [("b", 6), ("a", 5)])
        self.assertEqual(self.secrets(b), {})
        self.site.sql("UPDATE public.%s SET place = %%s WHERE id = %%s" % self.name, "project:" + str(uuid.uuid4()), mine)
        self.wait_secrets(a, {})
        self.settle()
        self.assert_same()

    def test_redaction_while_devices_are_away_takes_the_column_and_gives_it_back_when_revealed(self):
        self.table(redact=False)
        key, other = self.flat(code="a", min_price=5), self.flat(code="b", min_price=6)
        a, _ = self.person("amina", "seller", "broker")
        b, _ = self.person("badr", "seller")
        self.settle()
        self.assertEqual(b.sql("SELECT min_price FROM %s ORDER BY code" % self.name), [(5,), (6,)])
        a.stop()
        b.stop()
        a.sql("UPDATE %s SET min_price = 8 WHERE id = ?" % self.name, key)
        b.sql("UPDATE %s SET code = 'late' WHERE id = ?" % self.name, other)
        self.redact()
        a.start()
        b.start()
        self.wait_secrets(a, {key: (8, None), other: (6, None)})
        self.settle()
        for device in (a, b):
            self.assertEqual(self.columns(device, self.name), ["id", "tenant_id", "project_id", "code"])
        self.assertEqual(self.secrets(b), {})
        self.assertEqual(self.hub_row(other), ("late", 6, None))
        self.assertEqual(a.json("rejected"), [])
        self.assertEqual(self.hub_row(key), ("a", 8, None))
        self.assert_same()
        self.site.sql("SELECT ferry.reveal('public.%s')" % self.beside)
        for device in (a, b):
            wait_until(lambda d=device: "min_price" in self.columns(d, self.name), 30, "the column is back")
        self.settle()
        self.assertEqual(b.sql("SELECT min_price FROM %s ORDER BY code" % self.name), [(8,), (6,)])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
