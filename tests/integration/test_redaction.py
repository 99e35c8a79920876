#!/usr/bin/python3
"""Redaction: columns that stand, for devices, in a restricted table beside theirs; SQL on either keeps both in step."""

import io
import random
import threading
import unittest
import uuid

import ferry_pg
from ferry_case import HubCase, run

COLUMNS = ("tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid, code text, "
           "min_price numeric(12,2), owner_note text, facts json, PRIMARY KEY (tenant_id, id)")


class RedactionCase(HubCase):
    def setUp(self):
        super().setUp()
        self.t = uuid.uuid4()

    def table(self, columns=COLUMNS, scope="project:project_id", name="public.flats", more=""):
        self.sql("CREATE TABLE %s (%s)" % (name, columns))
        self.sql("SELECT ferry.isolate('%s')" % name)
        self.sql("SELECT ferry.plan('%s', '%s', 'inventory'%s)" % (name, scope, more))

    def redact(self, columns="{min_price,owner_note,facts}", permission="inventory.view_prices", name="public.flats"):
        return self.value("SELECT ferry.redact(%s, %s, %s)", name, columns, permission)

    def add(self, **columns):
        columns = dict({"tenant_id": self.t}, **columns)
        return self.value("INSERT INTO public.flats (%s) VALUES (%s) RETURNING id" % (
            ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values())

    def rows(self, table, columns="id, min_price::text, owner_note"):
        return {r[0]: tuple(r[1:]) for r in self.sql("SELECT %s FROM public.%s" % (columns, table))}

    def cell_version(self, table, key, column):
        """The surrogate of what set the cell last."""
        row = self.version(table, key)
        return row["over"].get(column, row["base_tx"])

    def columns(self, table):
        return [r[0] for r in self.sql("SELECT c.name FROM ferry.tracked_column c JOIN ferry.tracked t ON t.tbl = c.tbl "
                                       "WHERE t.relid = %s::regclass ORDER BY c.num", "public." + table)]

    def assert_in_step(self, columns="id, min_price::text, owner_note"):
        """Every row of one is in the other, or says nothing."""
        ours, theirs = self.rows("flats", columns), self.rows("flats_restricted", columns)
        for key, row in ours.items():
            self.assertEqual(theirs.get(key, (None,) * len(row)), row)
        self.assertLessEqual(set(theirs), set(ours))
        self.assert_sound()


class Redact(RedactionCase):
    PARTS = ("engine",)

    def test_columns_leave_the_table_s_devices_and_stand_behind_the_permission(self):
        self.table()
        p = uuid.uuid4()
        key, plain = self.add(project_id=p, code="a", min_price="7.50", owner_note="n"), self.add(project_id=p, code="b")
        tbl = self.redact()
        self.assertEqual(self.columns("flats"), ["tenant_id", "id", "project_id", "code"])
        self.assertEqual(self.columns("flats_restricted"), ["tenant_id", "id", "min_price", "owner_note", "facts"])
        self.assertEqual(self.sql("SELECT replica_name, scope, read_permission, write FROM ferry.tracked WHERE tbl = %s", tbl),
                         [("flats_restricted", "project:id.project_id", "inventory.view_prices", True)])
        self.assertEqual(self.version("flats_restricted", key)["scope"], "project:%s/inventory.view_prices" % p)
        self.assertEqual(self.version("flats", key)["scope"], "project:%s/inventory.view" % p)
        self.assertIsNone(self.version("flats_restricted", plain))
        self.assertGreater(*[self.value("SELECT rank FROM ferry.tracked WHERE name = %s", n) for n in ("flats_restricted", "flats")])
        self.assertEqual(self.value("SELECT num FROM ferry.tracked_column WHERE tbl = %s AND name = 'id' AND ref_tbl = %s",
                                    tbl, self.tbl("flats")), 2)
        self.assert_in_step()

    def test_sql_on_the_table_reaches_the_restricted_one_whatever_its_form(self):
        self.table()
        self.redact()
        key = self.add(code="a", min_price=5)
        self.add(code="b")
        self.assertEqual(self.rows("flats_restricted"), {key: ("5.00", None)})
        self.sql("UPDATE public.flats SET owner_note = 'n', facts = '{}'")
        self.assertEqual(len(self.rows("flats_restricted")), 2)
        self.assert_in_step()
        self.sql("INSERT INTO public.flats (tenant_id, code, min_price) SELECT %s, i::text, i FROM generate_series(1, 300) i", self.t)
        self.assertEqual(len(self.rows("flats_restricted")), 302)
        self.sql("INSERT INTO public.flats (tenant_id, id, owner_note) SELECT tenant_id, id, 'x' FROM public.flats "
                 "ON CONFLICT (tenant_id, id) DO UPDATE SET owner_note = excluded.owner_note")
        with self.conn() as conn, conn.cursor() as cur:
            cur.copy_expert("COPY public.flats (tenant_id, code, min_price) FROM STDIN", io.StringIO("%s\tc\t9\n" % self.t))
        self.assert_in_step()
        self.sql("UPDATE public.flats SET min_price = NULL, owner_note = NULL, facts = NULL WHERE code = 'a'")
        self.assertEqual(self.rows("flats_restricted")[key], (None, None))
        other = uuid.uuid4()
        self.sql("UPDATE public.flats SET id = %s WHERE id = %s", other, key)
        self.assertIn(other, self.rows("flats_restricted"))
        self.assert_in_step()
        self.sql("DELETE FROM public.flats WHERE code <> 'c'")
        self.assertEqual(len(self.rows("flats_restricted")), 1)
        self.assert_in_step()

    def test_what_does_not_concern_them_is_no_change_of_the_restricted_rows(self):
        self.table()
        self.redact()
        key = self.add(code="a", min_price=5)
        before, main = self.version("flats_restricted", key), self.version("flats", key)
        self.sql("UPDATE public.flats SET code = 'b'")
        self.assertEqual(self.version("flats_restricted", key), before)
        self.assertNotEqual(self.version("flats", key), main)
        main = self.version("flats", key)
        self.sql("UPDATE public.flats SET min_price = 6")
        self.assertEqual(self.version("flats", key), main)
        self.assertNotEqual(self.version("flats_restricted", key), before)

    def test_value_that_prints_otherwise_follows_too(self):
        self.table("tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), min_price numeric, owner_note text, "
                   "PRIMARY KEY (tenant_id, id)", "tenant")
        self.redact("{min_price,owner_note}")
        key = self.add(min_price="1.0")
        self.sql("UPDATE public.flats SET min_price = 1.00")
        self.assertEqual(self.rows("flats_restricted"), {key: ("1.00", None)})
        self.assert_in_step()

    def test_sql_on_the_restricted_table_reaches_the_table(self):
        self.table()
        self.redact()
        key, other = self.add(code="a", min_price=5), self.add(code="b")
        self.sql("UPDATE public.flats_restricted SET min_price = 6, facts = '{\"a\": 1}'")
        self.sql("INSERT INTO public.flats_restricted (tenant_id, id, owner_note) VALUES (%s, %s, 'n')", self.t, other)
        self.assertEqual(self.rows("flats"), {key: ("6.00", None), other: (None, "n")})
        self.assert_in_step()
        self.sql("DELETE FROM public.flats_restricted WHERE id = %s", key)
        self.assertEqual(self.rows("flats")[key], (None, None))
        self.assert_in_step()

    def test_trigger_that_changes_the_value_has_the_last_word_on_both_sides(self):
        self.table()
        self.redact()
        self.sql("CREATE FUNCTION public.whole() RETURNS trigger LANGUAGE plpgsql AS "
                 "$$ BEGIN NEW.min_price := ceil(NEW.min_price); RETURN NEW; END $$")
        self.sql("CREATE TRIGGER whole BEFORE INSERT OR UPDATE ON public.flats FOR EACH ROW EXECUTE FUNCTION public.whole()")
        key = self.add(min_price="5.5")
        self.assertEqual(self.rows("flats_restricted"), {key: ("6.00", None)})
        self.sql("UPDATE public.flats_restricted SET min_price = 7.2")
        self.assertEqual(self.rows("flats"), {key: ("8.00", None)})
        self.assert_in_step()

    def test_writer_of_the_table_needs_no_right_on_the_restricted_one(self):
        self.table()
        self.redact()
        self.sql("CREATE ROLE clerk LOGIN")
        self.addCleanup(self.sql, "DROP OWNED BY clerk; DROP ROLE clerk")
        self.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON public.flats TO clerk")
        clerk = self.conn("clerk", self.t)
        run(clerk, "INSERT INTO public.flats (tenant_id, min_price) VALUES (%s, 5)", self.t)
        run(clerk, "UPDATE public.flats SET min_price = min_price + 1")
        clerk.commit()
        self.assert_in_step()
        self.refused("42501", "SELECT * FROM public.flats_restricted", conn=clerk)

    def test_tenants_are_kept_apart(self):
        self.table()
        self.redact()
        self.add(min_price=5)
        self.sql("INSERT INTO public.flats (tenant_id, min_price) VALUES (%s, 6)", uuid.uuid4())
        hub = self.conn("ferry_hub", self.t)
        self.assertEqual(run(hub, "SELECT min_price::int FROM public.flats_restricted"), [(5,)])
        run(hub, "UPDATE public.flats_restricted SET min_price = 7")
        hub.commit()
        self.assertEqual(sorted(r[0] for r in self.sql("SELECT min_price::int FROM public.flats")), [6, 7])
        self.refused("42501", "INSERT INTO public.flats_restricted (tenant_id, id) VALUES (gen_random_uuid(), gen_random_uuid())", conn=hub)
        self.assertEqual(self.sql("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = 'flats_restricted'"),
                         [(True, True)])

    def test_archived_row_takes_its_restricted_one_along(self):
        self.table(COLUMNS + ", deleted_at timestamptz", more=", archive => true")
        p = uuid.uuid4()
        key = self.add(project_id=p, min_price=5)
        self.redact()
        self.sql("UPDATE public.flats SET deleted_at = now()")
        self.assertEqual(self.version("flats_restricted", key)["scope"], "project:%s/inventory.view_prices+archived" % p)
        self.sql("UPDATE public.flats SET deleted_at = NULL")
        self.assertEqual(self.version("flats_restricted", key)["scope"], "project:%s/inventory.view_prices" % p)
        self.assert_in_step()

    def test_moved_row_takes_its_restricted_one_along_and_so_does_another_scope(self):
        self.table()
        p, q = uuid.uuid4(), uuid.uuid4()
        key = self.add(project_id=p, min_price=5)
        self.redact()
        self.sql("UPDATE public.flats SET project_id = %s", q)
        self.assertEqual(self.version("flats_restricted", key)["scope"], "project:%s/inventory.view_prices" % q)
        self.sql("SELECT ferry.rescope('public.flats', 'team:project_id')")
        self.assertEqual(self.version("flats_restricted", key)["scope"], "team:%s/inventory.view_prices" % q)
        self.assert_in_step()

    def test_partitions_new_ones_too_keep_in_step(self):
        self.sql("CREATE TABLE public.flats (%s) PARTITION BY HASH (tenant_id)" % COLUMNS)
        for i in range(2):
            self.sql("CREATE TABLE public.flats_%d PARTITION OF public.flats FOR VALUES WITH (MODULUS 3, REMAINDER %d)" % (i, i))
        self.sql("SELECT ferry.isolate('public.flats')")
        self.sql("SELECT ferry.plan('public.flats', 'tenant', 'inventory')")
        self.redact()
        self.sql("CREATE TABLE public.flats_2 PARTITION OF public.flats FOR VALUES WITH (MODULUS 3, REMAINDER 2)")
        for _ in range(12):
            self.sql("INSERT INTO public.flats (tenant_id, min_price) VALUES (%s, 5)", uuid.uuid4())
        for i in range(3):
            self.sql("UPDATE public.flats_%d SET min_price = min_price + 1" % i)
        self.sql("UPDATE public.flats_restricted SET owner_note = 'n'")
        self.assertEqual(set(self.rows("flats").values()), {("6.00", "n")})
        self.assert_in_step()

    def test_second_redaction_has_a_permission_and_a_table_of_its_own(self):
        self.table()
        self.redact("{min_price}")
        self.value("SELECT ferry.redact('public.flats', '{owner_note}', 'inventory.view_notes', 'flat_notes')")
        key = self.add(min_price=5, owner_note="n")
        self.assertEqual(self.version("flat_notes", key)["scope"], "tenant/inventory.view_notes")
        self.sql("UPDATE public.flat_notes SET owner_note = 'm'")
        self.sql("UPDATE public.flats_restricted SET min_price = 6")
        self.assertEqual(self.rows("flats"), {key: ("6.00", "m")})
        self.assert_sound()


    def test_rows_that_say_their_scopes_take_their_restricted_ones_along(self):
        self.table(COLUMNS.replace("project_id uuid", "place text NOT NULL"), "row:place")
        p, q = "project:%s" % uuid.uuid4(), "user:%s" % uuid.uuid4()
        key = self.add(place=p, min_price=5)
        self.redact()
        self.assertEqual(self.value("SELECT scope FROM ferry.tracked WHERE name = 'flats_restricted'"), "row:id.place")
        self.assertEqual(self.version("flats_restricted", key)["scope"], p + "/inventory.view_prices")
        self.sql("UPDATE public.flats SET place = %s", q)
        self.assertEqual([self.version(t, key)["scope"] for t in ("flats", "flats_restricted")],
                         [q + "/inventory.view", q + "/inventory.view_prices"])
        self.refused("55000", "SELECT ferry.redact('public.flats', '{place}', 'inventory.view_prices')")
        self.assert_in_step()
        self.sql("SELECT ferry.reveal('public.flats_restricted')")
        self.assert_sound()

    def test_cells_keep_their_versions_when_they_are_redacted_and_revealed(self):
        self.table()
        key, plain = self.add(code="a", min_price=5), self.add(code="b")
        self.sql("UPDATE public.flats SET owner_note = 'n' WHERE id = %s", key)
        wanted = {c: self.cell_version("flats", key, c) for c in ("min_price", "owner_note")}
        self.assertNotEqual(*wanted.values())
        self.redact()
        self.assertEqual({c: self.cell_version("flats_restricted", key, c) for c in wanted}, wanted)
        self.assertEqual(self.version("flats_restricted", key)["born"], self.version("flats", key)["born"])
        self.sql("UPDATE public.flats_restricted SET min_price = 6")
        self.sql("UPDATE public.flats SET code = 'c', project_id = %s WHERE id = %s", uuid.uuid4(), plain)
        wanted["min_price"] = self.cell_version("flats_restricted", key, "min_price")
        self.sql("SELECT ferry.reveal('public.flats_restricted')")
        self.assertEqual({c: self.cell_version("flats", key, c) for c in wanted}, wanted)
        self.assertEqual(self.cell_version("flats", plain, "min_price"), self.version("flats", plain)["born"])
        self.assert_sound()


class Rights(RedactionCase):
    PARTS = ("engine",)

    def test_what_was_said_of_the_columns_holds_in_the_restricted_table_and_comes_back(self):
        self.table()
        self.sql("SELECT ferry.policy('public.flats', 'min_price', 'max')")
        self.sql("SELECT ferry.permit('public.flats', 'update', 'inventory.price', '{min_price}')")
        key = self.add(min_price=5)
        num = self.num("flats", "min_price")
        self.sql("INSERT INTO ferry.conflict (tenant_id, tbl, key, num, tx, kind, winner, device_id, number) "
                 "VALUES (%s, %s, %s, %s, 1, 'update_update', 'hub', %s, 1)", self.t, self.tbl("flats"), key, num, uuid.uuid4())
        self.redact()
        rules = ("SELECT t.name, r.operation, c.name, r.permission FROM ferry.permission_rule r JOIN ferry.tracked t ON t.tbl = r.tbl "
                 "LEFT JOIN ferry.tracked_column c ON c.tbl = r.tbl AND c.num = r.num WHERE r.operation = 'update' ORDER BY 1, 3")
        policy = ("SELECT t.name, c.policy FROM ferry.tracked_column c JOIN ferry.tracked t ON t.tbl = c.tbl WHERE c.name = 'min_price'")
        conflict = ("SELECT t.name, c.name FROM ferry.conflict k JOIN ferry.tracked_column c ON c.tbl = k.tbl AND c.num = k.num "
                    "JOIN ferry.tracked t ON t.tbl = k.tbl")
        self.assertEqual(self.sql(rules), [("flats", "update", None, "inventory.edit"),
                                           ("flats_restricted", "update", "min_price", "inventory.price"),
                                           ("flats_restricted", "update", None, "inventory.edit")])
        self.assertEqual(self.sql(policy), [("flats_restricted", "max")])
        self.assertEqual(self.sql(conflict), [("flats_restricted", "min_price")])
        self.sql("SELECT ferry.reveal('public.flats_restricted')")
        self.assertEqual(self.sql(rules), [("flats", "update", "min_price", "inventory.price"), ("flats", "update", None, "inventory.edit")])
        self.assertEqual(self.sql(policy), [("flats", "max")])
        self.assertEqual(self.sql(conflict), [("flats", "min_price")])

    def test_P7_first_value_of_a_column_needs_the_permission_that_an_edit_of_it_needs(self):
        self.table()
        self.sql("SELECT ferry.permit('public.flats', 'update', 'inventory.price', '{min_price}')")
        self.redact()
        made = self.tbl("flats_restricted")
        with_price, without = self.add(min_price=5), self.add(owner_note="n")
        device = self.value("INSERT INTO ferry.device (id, tenant_id, name, class) VALUES (gen_random_uuid(), %s, 'a', 'x') RETURNING id", self.t)
        self.sql("INSERT INTO ferry.held_right (device_id, permission, scope) VALUES (%s, 'inventory.edit', '*')", device)
        check = "SELECT ferry.check_rights(%s, %s, 'insert', %s, %s::uuid[], %s::uuid[])"
        nums = [self.num("flats_restricted", c) for c in ("min_price", "owner_note")]
        self.sql(check, self.t, made, nums, [without], [device])
        error = self.refused("FE314", check, self.t, made, nums, [without, with_price], [device, device])
        self.assertIn("inventory.price is missing for update on flats_restricted.min_price", error.diag.message_primary)
        self.sql("INSERT INTO ferry.held_right (device_id, permission, scope) VALUES (%s, 'inventory.price', 'tenant')", device)
        self.sql(check, self.t, made, nums, [without, with_price], [device, device])

    def test_reveal_brings_the_columns_back_without_loss(self):
        self.table()
        keys = [self.add(code=str(i), min_price=i, owner_note="n") for i in range(3)]
        nums = {c: self.num("flats", c) for c in ("min_price", "owner_note", "facts")}
        self.redact()
        self.sql("UPDATE public.flats_restricted SET min_price = 9 WHERE id = %s", keys[0])
        self.sql("SELECT ferry.reveal('public.flats_restricted')")
        self.assertEqual({c: self.num("flats", c) for c in nums}, nums)
        self.assertEqual(self.rows("flats")[keys[0]], ("9.00", "n"))
        self.assertIsNone(self.value("SELECT to_regclass('public.flats_restricted')"))
        self.assertEqual(self.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'ferry_redact%'"), 0)
        self.assertEqual(self.value("SELECT count(*) FROM pg_proc WHERE proname ~ '^redact_.*[0-9]$'"), 0)
        self.assert_sound()
        self.sql("UPDATE public.flats SET min_price = 10")
        self.assert_sound()
        self.redact()
        self.assert_in_step()

    def test_refusals_say_what_to_do(self):
        self.table("tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), project_id uuid, code text UNIQUE, price int NOT NULL, "
                   "cost int, margin int GENERATED ALWAYS AS (price - cost) STORED, PRIMARY KEY (tenant_id, id)")
        for column, code, word, hint in (("nothing", "42703", "no synced column", None), ("id", "55000", "where rows are", None),
                                         ("project_id", "55000", "where rows are", None), ("code", "55000", "unique", "Drop"),
                                         ("price", "55000", "NOT NULL without a default", "SET DEFAULT"),
                                         ("cost", "55000", "margin is generated", "both")):
            with self.subTest(column=column):
                error = self.refused(code, "SELECT ferry.redact('public.flats', %s, 'inventory.view_prices')", [column])
                self.assertIn(word, error.diag.message_primary)
                self.assertIn(hint or "", error.diag.message_hint or "")
        self.refused("22023", "SELECT ferry.redact('public.flats', '{cost,margin}', 'everybody')")
        self.refused("22023", "SELECT ferry.redact('public.flats', '{}', 'inventory.view_prices')")
        self.redact("{cost,margin}")
        self.refused("0A000", "SELECT ferry.redact('public.flats_restricted', '{cost}', 'inventory.view_prices')")
        self.refused("42704", "SELECT ferry.reveal('public.flats')")
        for text in ("SELECT ferry.untrack('public.flats')", "SELECT ferry.untrack('public.flats_restricted')",
                     "DROP TABLE public.flats_restricted", "DROP TABLE public.flats CASCADE"):
            self.assertIn("ferry.reveal", self.refused("2BP01", text).diag.message_hint)
        self.sql("INSERT INTO public.flats (tenant_id, price, cost) VALUES (%s, 9, 5)", self.t)
        self.assertEqual(self.sql("SELECT cost, margin FROM public.flats_restricted"), [(5, 4)])
        self.sql("UPDATE public.flats_restricted SET cost = 6")
        self.assertEqual(self.sql("SELECT cost, margin FROM public.flats_restricted"), [(6, 3)])
        self.assert_sound()

    def test_column_that_is_never_null_keeps_its_restricted_row(self):
        self.table("tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), min_price numeric NOT NULL DEFAULT 1, owner_note text, "
                   "PRIMARY KEY (tenant_id, id)", "tenant")
        self.redact("{min_price,owner_note}")
        key = self.add()
        self.assertEqual(self.rows("flats_restricted"), {key: ("1", None)})
        error = self.refused("FE327", "DELETE FROM public.flats_restricted")
        self.assertIn("goes only with its row of flats", error.diag.message_primary)
        conn = self.conn()
        run(conn, "DELETE FROM public.flats_restricted")
        run(conn, "DELETE FROM public.flats")
        conn.commit()
        self.assert_in_step()

    def test_checks_and_references_hold_in_the_restricted_table_too(self):
        self.table("tenant_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (tenant_id, id)", "tenant", "public.owners")
        self.table("tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), price int, min_price int CHECK (min_price > 0), "
                   "state text CHECK (state IN ('a', 'b')), owner_id uuid, owner_note text, PRIMARY KEY (tenant_id, id), CHECK (min_price <= price), "
                   "FOREIGN KEY (tenant_id, owner_id) REFERENCES public.owners ON DELETE SET NULL (owner_id)", "tenant")
        self.sql("SELECT ferry.bring('public.flats', 'owner_id')")
        error = self.refused("55000", "SELECT ferry.redact('public.flats', '{owner_id}', 'inventory.view_prices')")
        self.assertIn("ferry.bring('public.flats', 'owner_id', false)", error.diag.message_hint)
        self.sql("SELECT ferry.bring('public.flats', 'owner_id', false)")
        tbl = self.redact("{min_price,owner_id,state}")
        self.assertEqual(self.sql("SELECT labels FROM ferry.tracked_column WHERE tbl = %s AND name = 'state'", tbl), [(["a", "b"],)])
        self.assertEqual(self.value("SELECT ref_tbl FROM ferry.tracked_column WHERE tbl = %s AND name = 'owner_id'", tbl), self.tbl("owners"))
        owner = self.value("INSERT INTO public.owners VALUES (%s, gen_random_uuid()) RETURNING id", self.t)
        key = self.add(price=5, min_price=4, owner_id=owner)
        self.refused("23514", "UPDATE public.flats_restricted SET min_price = 0")
        self.refused("23514", "UPDATE public.flats_restricted SET min_price = 6")
        self.refused("23503", "UPDATE public.flats_restricted SET owner_id = gen_random_uuid()")
        self.sql("DELETE FROM public.owners")
        self.assertEqual(self.sql("SELECT id, owner_id FROM public.flats_restricted"), [(key, None)])
        self.assert_sound()


class Model(HubCase):
    """In the tenant model: by its owner, with the model's own triggers, and as the hub writes."""

    def test_device_s_edit_meets_the_triggers_of_the_table_as_any_update(self):
        t = self.tenant()
        unit = self.unit(t, self.project(t), price=100)
        self.sql("SELECT governance.audit('inventory.units')")
        owner = self.conn()
        run(owner, "SET ROLE ferry_owner")
        run(owner, "SELECT ferry.redact('inventory.units', '{price_minor,currency}', 'inventory.view_prices')")
        owner.commit()
        self.assertEqual(self.sql("SELECT price_minor, currency FROM inventory.units_restricted"), [(100, "EGP")])
        rules = self.sql("SELECT r.operation, c.name, r.permission FROM ferry.permission_rule r JOIN ferry.tracked_column c "
                         "ON c.tbl = r.tbl AND c.num = r.num WHERE r.tbl = %s ORDER BY 1, 2", self.tbl("units_restricted"))
        self.assertEqual(rules, [(op, column, "inventory.price") for op in ("insert", "update") for column in ("currency", "price_minor")])
        device = self.value("INSERT INTO ferry.device (id, tenant_id, name, class) VALUES (gen_random_uuid(), %s, 'd', 'tablet') RETURNING id", t)
        hub = self.conn("ferry_hub", t)
        run(hub, "SELECT ferry.touch(%s), ferry.merging(true)", t)
        tx, stamp = run(hub, "SELECT ferry.current_tx(), nextval('ferry.surrogate_seq')")[0]
        run(hub, "INSERT INTO ferry.stamp (id, tx, tenant_id, device_id, number, at) VALUES (%s, %s, %s, %s, 1, 1)", stamp, tx, t, device)
        run(hub, "INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes) SELECT %s, tbl, %s, %s, ARRAY[num], ARRAY[hashint8extended("
            "120, uuid_hash_extended(%s, 0) # num)] FROM ferry.tracked_column WHERE tbl = %s AND name = 'price_minor'",
            tx, unit, stamp, unit, self.tbl("units_restricted"))
        run(hub, "UPDATE inventory.units_restricted SET price_minor = 120 WHERE id = %s", unit)
        run(hub, "SET CONSTRAINTS ALL IMMEDIATE")
        run(hub, "SELECT * FROM ferry.finish()")
        hub.commit()
        self.assertEqual(self.sql("SELECT price_minor FROM inventory.units"), [(120,)])
        self.assertIn((120,), self.sql("SELECT price_minor FROM inventory.unit_price_history"))
        self.assertEqual(self.author(self.version("units_restricted", unit), "price_minor"), (device, 1))
        self.assertEqual(self.sql("SELECT DISTINCT device_id FROM governance.audit_logs WHERE target_model LIKE '%units' AND device_id IS NOT NULL"),
                         [(device,)])
        self.assert_sound()


class Migrations(RedactionCase):
    PARTS = ("engine",)

    def setUp(self):
        super().setUp()
        self.table()
        self.redact("{min_price,owner_note}")
        self.key = self.add(code="a", min_price=5, owner_note="n")

    def test_renames_follow_and_the_column_stays_restricted(self):
        self.sql("ALTER TABLE public.flats RENAME COLUMN min_price TO floor_price")
        self.assertNotIn("floor_price", self.columns("flats"))
        self.assertIn("floor_price", self.columns("flats_restricted"))
        self.sql("UPDATE public.flats SET floor_price = 6")
        self.sql("UPDATE public.flats_restricted SET owner_note = 'm'")
        self.assert_in_step("id, floor_price::text, owner_note")
        self.sql("ALTER TABLE public.flats RENAME TO homes")
        self.sql("UPDATE public.homes SET floor_price = 7")
        self.assertEqual(self.sql("SELECT floor_price::int FROM public.flats_restricted"), [(7,)])
        self.assert_sound()

    def test_dropped_column_goes_from_both_and_the_last_one_ends_it(self):
        self.sql("ALTER TABLE public.flats DROP COLUMN min_price")
        self.assertEqual(self.columns("flats_restricted"), ["tenant_id", "id", "owner_note"])
        self.sql("UPDATE public.flats SET owner_note = 'm'")
        self.assert_in_step("id, owner_note")
        self.sql("ALTER TABLE public.flats DROP COLUMN owner_note")
        self.assertIsNone(self.value("SELECT to_regclass('public.flats_restricted')"))
        self.sql("UPDATE public.flats SET code = 'b'")
        self.assert_sound()

    def test_column_that_comes_later_is_the_table_s(self):
        self.sql("ALTER TABLE public.flats ADD COLUMN area int DEFAULT 3")
        self.assertIn("area", self.columns("flats"))
        self.sql("UPDATE public.flats SET area = 4, min_price = 8")
        self.assert_in_step()

    def test_restricted_table_is_not_altered_by_itself(self):
        for what in ("RENAME COLUMN min_price TO other", "DROP COLUMN min_price", "ALTER COLUMN min_price TYPE text"):
            self.assertIn("ALTER TABLE flats instead", self.refused("55000", "ALTER TABLE public.flats_restricted " + what).diag.message_hint.replace("public.", ""))

    def test_types_follow_with_the_values_and_no_cell_gets_another_version(self):
        before = self.version("flats_restricted", self.key)
        self.sql("ALTER TABLE public.flats ALTER COLUMN min_price TYPE text COLLATE \"C\" USING 'about ' || min_price::int, "
                 "ALTER COLUMN min_price SET DEFAULT 'much', ALTER COLUMN owner_note TYPE int USING length(owner_note)")
        self.assertEqual(self.rows("flats_restricted", "id, min_price, owner_note"), {self.key: ("about 5", 1)})
        after = self.version("flats_restricted", self.key)
        self.assertEqual([after[k] for k in ("base_tx", "born", "over")], [before[k] for k in ("base_tx", "born", "over")])
        self.assertNotEqual(after["tx"], before["tx"])
        self.add(code="b")
        self.sql("UPDATE public.flats_restricted SET owner_note = 9 WHERE id = %s", self.key)
        self.assertEqual(sorted(self.rows("flats", "id, min_price, owner_note").values(), key=str), [("about 5", 9), ("much", None)])
        self.assert_in_step("id, min_price, owner_note")
        self.assertIsNone(self.value("SELECT proname FROM pg_proc WHERE proname LIKE 'redacted_value%%'"))

    def test_declared_conversion_counts_for_both_tables(self):
        self.sql("CREATE FUNCTION public.cents(p numeric) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT (p * 100)::int'")
        self.sql("SELECT ferry.change_type('public.flats', 'min_price', 'int', 'public.cents')")
        self.assertEqual(self.rows("flats_restricted", "id, min_price"), {self.key: (500,)})
        self.assertEqual(self.sql("SELECT t.name, p.kind, p.converter::text FROM ferry.past_column p JOIN ferry.tracked t USING (tbl) "
                                  "WHERE p.converter IS NOT NULL ORDER BY 1"), [("flats", "numeric", "cents"), ("flats_restricted", "numeric", "cents")])
        late = ("SELECT value FROM ferry.convert_late(ARRAY[%s::bigint], ARRAY[%s::bigint], ARRAY[%s::bigint], ARRAY[%s::bigint], '{1}', '{7.50}')")
        made, num = self.tbl("flats_restricted"), self.num("flats_restricted", "min_price")
        was = self.value("SELECT c.num FROM ferry.redacted_column c WHERE c.restricted = %s AND c.restricted_num = %s", made, num)
        self.assertEqual(self.value(late, self.tbl("flats"), was, made, num), "750")
        self.assertEqual(self.value(late, made, num, made, num), "750")
        self.assert_in_step("id, min_price")

    def test_default_and_not_null_follow(self):
        self.refused("55000", "ALTER TABLE public.flats ALTER COLUMN min_price SET NOT NULL")
        self.sql("ALTER TABLE public.flats ALTER COLUMN min_price SET DEFAULT 2")
        self.sql("ALTER TABLE public.flats ALTER COLUMN min_price SET NOT NULL")
        self.assertEqual(self.sql("SELECT not_null, has_default FROM ferry.tracked_column WHERE name = 'min_price'"), [(True, True)])
        self.refused("FE327", "DELETE FROM public.flats_restricted")
        self.sql("ALTER TABLE public.flats ALTER COLUMN min_price DROP NOT NULL")
        self.sql("DELETE FROM public.flats_restricted")
        self.assert_in_step()

    def test_archive_and_untrack_are_refused_until_it_is_revealed(self):
        self.sql("ALTER TABLE public.flats ADD COLUMN deleted_at timestamptz")
        self.assertIn("ferry.reveal", self.refused("55000", "SELECT ferry.archive('public.flats')").diag.message_hint)

    def test_excluded_column_stays_excluded_under_another_name(self):
        self.table("tenant_id uuid NOT NULL, id uuid NOT NULL, secret text, PRIMARY KEY (tenant_id, id)", "tenant", "public.safe",
                   ", exclude => '{secret}'")
        self.sql("ALTER TABLE public.safe RENAME COLUMN secret TO hidden")
        self.assertEqual(self.columns("safe"), ["tenant_id", "id"])
        self.refused("42501", "SELECT hidden FROM public.safe", conn=self.conn("ferry_hub", self.t))


class Concurrency(RedactionCase):
    PARTS = ("engine",)

    def test_writers_of_both_tables_at_once_lose_nothing(self):
        """The hub's statements lock the table's row first, as the merge does for a device's edit."""
        self.table()
        self.redact()
        keys = [self.add(min_price=0, owner_note="0") for _ in range(4)]

        def write(statements):
            conn = self.conn()
            for text, *args in statements:
                run(conn, text, *args)
                conn.commit()

        hub = [("UPDATE public.flats SET min_price = min_price + 1 WHERE id = %s", keys[i % 4]) for i in range(60)]
        device = []
        for i in range(60):
            device.append(("WITH m AS MATERIALIZED (SELECT FROM public.flats WHERE id = %s FOR NO KEY UPDATE) "
                           "UPDATE public.flats_restricted r SET owner_note = (owner_note::int + 1)::text FROM (SELECT count(*) FROM m) x WHERE id = %s",
                           keys[i % 4], keys[i % 4]))
        threads = [threading.Thread(target=write, args=(x,)) for x in (hub, device, hub, device)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(set(self.rows("flats").values()), {("30.00", "30")})
        self.assert_in_step()

    def test_random_writes_on_both_sides_keep_them_in_step(self):
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        self.table()
        self.redact("{min_price,owner_note}")
        model = {}
        with self.subTest(seed=seed):
            conn = self.conn()
            for _ in range(150):
                self.step(dice, conn, model)
                if dice.random() < 0.5:
                    conn.commit()
            conn.commit()
            self.assertEqual(self.rows("flats"), model)
            self.assert_in_step()

    def step(self, dice, conn, model):
        some = [k for k in model if dice.random() < 0.4]
        price, note = dice.choice([None, "1.00", "2.50"]), dice.choice([None, "a", "b"])
        what = dice.randrange(5)
        if what == 0:
            for _ in range(dice.randrange(1, 4)):
                model[uuid.UUID(int=dice.getrandbits(128))] = (price, note)
            new = [k for k in model if not run(conn, "SELECT 1 FROM public.flats WHERE id = %s", k)]
            run(conn, "INSERT INTO public.flats (tenant_id, id, min_price, owner_note) SELECT %s, k, %s, %s FROM unnest(%s::uuid[]) k",
                self.t, price, note, new)
        elif what == 1:
            run(conn, "UPDATE public.flats SET min_price = %s WHERE id = ANY (%s::uuid[])", price, some)
            model.update({k: (price, model[k][1]) for k in some})
        elif what == 2:
            there = {r[0] for r in run(conn, "UPDATE public.flats_restricted SET owner_note = %s WHERE id = ANY (%s::uuid[]) RETURNING id", note, some)}
            model.update({k: (model[k][0], note) for k in there})
        elif what == 3:
            gone = {r[0] for r in run(conn, "DELETE FROM public.flats_restricted WHERE id = ANY (%s::uuid[]) RETURNING id", some)}
            model.update({k: (None, None) for k in gone})
        else:
            gone = some[:1]
            run(conn, "DELETE FROM public.flats WHERE id = ANY (%s::uuid[])", gone)
            for k in gone:
                del model[k]


if __name__ == "__main__":
    unittest.main()
