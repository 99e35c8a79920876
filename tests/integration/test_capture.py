#!/usr/bin/python3
# ferry-test: quick
"""Whatever writes to a tracked table is captured, whole and once."""

import io
import random
import unittest
import uuid

import psycopg2

from ferry_case import HubCase, run


class Capture(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.p = self.project(self.t)

    def test_insert_makes_a_version_born_now(self):
        unit = self.unit(self.t, self.p)
        v = self.version("units", unit)
        self.assertFalse(v["deleted"])
        self.assertEqual(v["tx"], v["base_tx"])
        self.assertEqual(v["tx"], v["born"])
        self.assertEqual(v["over"], {})
        self.assertEqual(v["scope"], "project:%s/inventory.view" % self.p)
        self.assert_sound()

    def test_update_overrides_only_columns_whose_value_changed(self):
        unit = self.unit(self.t, self.p)
        born = self.version("units", unit)["born"]
        self.sql("UPDATE inventory.units SET floor = 3, code = code, status = 'available' WHERE id = %s", unit)
        v = self.version("units", unit)
        self.assertEqual(set(v["over"]), {"floor", "updated_at"})
        self.assertEqual(set(v["over"].values()), {v["tx"]})
        self.assertEqual(v["base_tx"], born)
        self.assert_sound()

    def test_later_update_of_other_columns_keeps_the_earlier_overrides(self):
        unit = self.unit(self.t, self.p)
        self.sql("UPDATE inventory.units SET floor = 3 WHERE id = %s", unit)
        first = self.version("units", unit)["tx"]
        self.sql("UPDATE inventory.units SET view = 'sea', bedrooms = 2, bathrooms = 1 WHERE id = %s", unit)
        v = self.version("units", unit)
        self.assertEqual(v["over"]["floor"], first)
        for column in ("view", "bedrooms", "bathrooms", "updated_at"):
            self.assertEqual(v["over"][column], v["tx"])
        self.assertEqual(len(v["over"]), 5)
        self.assert_sound()

    def test_update_of_every_column_needs_no_overrides(self):
        pipeline = self.value("INSERT INTO crm.deal_pipelines (tenant_id, name) VALUES (%s, 'a') RETURNING id", self.t)
        self.sql("UPDATE crm.deal_pipelines SET name = 'b'")
        v = self.version("deal_pipelines", pipeline)
        self.assertEqual(v["over"], {})
        self.assertEqual(v["base_tx"], v["tx"])
        self.assertLess(v["born"], v["tx"])

    def test_update_without_a_new_value_is_no_change(self):
        unit = self.unit(self.t, self.p)
        before, head = self.version("units", unit), self.head(self.t)
        self.sql("UPDATE inventory.units SET floor = floor, code = 'A-1'")
        self.assertEqual(self.version("units", unit), before)
        self.assertEqual(self.head(self.t), head)

    def test_value_changed_and_changed_back_in_one_transaction_is_no_change(self):
        unit = self.unit(self.t, self.p)
        before = self.version("units", unit)
        conn = self.conn()
        run(conn, "UPDATE inventory.units SET code = 'B', updated_at = updated_at")
        run(conn, "UPDATE inventory.units u SET code = 'A-1', updated_at = o.updated_at FROM "
                  "(SELECT created_at AS updated_at FROM inventory.units) o")
        conn.commit()
        self.assertEqual(self.version("units", unit)["tx"], before["tx"])
        self.assert_sound()

    def test_delete_leaves_a_tombstone_and_insert_of_the_same_key_a_new_life(self):
        unit = self.unit(self.t, self.p)
        born = self.version("units", unit)["born"]
        self.sql("DELETE FROM inventory.units")
        v = self.version("units", unit)
        self.assertTrue(v["deleted"])
        self.assertIsNone(v["hashes"])
        self.assertEqual(v["born"], born)
        self.sql("INSERT INTO inventory.units (tenant_id, id, project_id, unit_type_code) VALUES (%s, %s, %s, 'X')",
                 self.t, unit, self.p)
        v = self.version("units", unit)
        self.assertFalse(v["deleted"])
        self.assertEqual(v["born"], v["tx"])
        self.assertGreater(v["born"], born)
        self.assert_sound()

    def test_row_that_lives_only_inside_a_transaction_leaves_nothing(self):
        head = self.head(self.t)
        conn = self.conn()
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'x')", self.t)
        run(conn, "DELETE FROM crm.companies")
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 0)
        self.assertEqual(self.head(self.t), head)

    def test_copy_is_captured(self):
        conn = self.conn()
        with conn.cursor() as cur:
            cur.copy_expert("COPY crm.companies (tenant_id, name) FROM STDIN",
                            io.StringIO("".join("%s\tc%d\n" % (self.t, i) for i in range(300))))
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 300)
        self.assert_sound()

    def test_insert_on_conflict_do_update_is_captured_for_both_kinds_of_rows(self):
        unit = self.unit(self.t, self.p)
        other = uuid.uuid4()
        self.sql("INSERT INTO inventory.units (tenant_id, id, project_id, unit_type_code, floor) "
                 "SELECT %s, x, %s, 'X', 9 FROM unnest(%s) x ON CONFLICT (tenant_id, id) DO UPDATE SET floor = excluded.floor",
                 self.t, self.p, [unit, other])
        self.assertIn("floor", self.version("units", unit)["over"])
        self.assertEqual(self.version("units", other)["over"], {})
        self.assert_sound()

    def test_many_rows_take_the_same_result_as_one_at_a_time(self):
        self.units(self.t, self.p, 500)
        self.sql("UPDATE inventory.units SET floor = 1 WHERE price_minor <= 300")
        self.sql("UPDATE inventory.units SET floor = 2, view = 'sea' WHERE price_minor BETWEEN 200 AND 400")
        self.sql("DELETE FROM inventory.units WHERE price_minor > 450")
        bulk = self.sql("SELECT cardinality(over), count(*) FROM ferry.version WHERE tbl = %s GROUP BY 1 ORDER BY 1", self.tbl("units"))
        self.assertEqual(bulk, [(2, 199), (3, 201), (None, 100)])
        self.assert_sound()

    def test_newer_overrides_take_the_place_of_their_columns_in_any_mixture(self):
        seed = random.randrange(1 << 30)
        print("seed", seed)
        rnd = random.Random(seed)
        for _ in range(300):
            old = {n: rnd.randrange(1, 1 << 40) for n in rnd.sample(range(1, 12), rnd.randrange(0, 8))}
            new = {n: rnd.randrange(1, 1 << 40) for n in rnd.sample(range(1, 12), rnd.randrange(1, 8))}
            packed = [[n << 48 | t for n, t in sorted(x.items())] for x in (old, new, {**old, **new})]
            self.assertEqual(self.value("SELECT ferry.over_merge(%s::bigint[], %s::bigint[])", packed[0], packed[1]), packed[2])

    def test_overrides_are_the_same_for_a_row_alone_and_among_many(self):
        updates = ["floor = 1", "view = 'sea'", "floor = 2", "bedrooms = 2, view = 'city'", "code = code || 'x'", "price_minor = 7"]
        alone = self.unit(self.t, self.p)
        self.units(self.t, self.p, 100)
        many = self.value("SELECT id FROM inventory.units WHERE id <> %s LIMIT 1", alone)
        for update in updates:
            self.sql("UPDATE inventory.units SET %s WHERE id = %%s" % update, alone)
            self.sql("UPDATE inventory.units SET %s WHERE id <> %%s" % update, alone)
        over = [self.version("units", key)["over"] for key in (alone, many)]
        self.assertEqual(set(over[0]), {"floor", "view", "bedrooms", "code", "price_minor", "updated_at"})
        ranks = [{column: sorted(set(o.values())).index(tx) for column, tx in o.items()} for o in over]
        self.assertEqual(ranks[0], ranks[1])
        self.assertEqual(ranks[0], {"floor": 0, "view": 1, "bedrooms": 1, "code": 2, "price_minor": 3, "updated_at": 3})
        packed = self.value("SELECT over FROM ferry.version WHERE key = %s", many)
        self.assertEqual(packed, sorted(packed))
        self.assert_sound()

    def test_row_by_row_statements_in_one_long_transaction_are_one_change(self):
        self.units(self.t, self.p, 100)
        head = self.head(self.t)
        conn = self.conn()
        for i in range(1, 101):
            run(conn, "UPDATE inventory.units SET floor = %s WHERE price_minor = %s", i, i)
            run(conn, "UPDATE inventory.units SET floor = %s WHERE price_minor = %s", i + 1, i)
        conn.commit()
        self.assertEqual(len([p for p in self.positions(self.t) if p > head]), 1)
        self.assert_sound()

    def test_rollback_to_savepoint_undoes_the_noted_keys(self):
        conn = self.conn()
        run(conn, "SAVEPOINT a")
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'undone')", self.t)
        run(conn, "ROLLBACK TO a")
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'kept')", self.t)
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 1)
        self.assert_sound()

    def test_rollback_to_savepoint_keeps_what_was_noted_before_it(self):
        conn = self.conn()
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'a')", self.t)
        run(conn, "SAVEPOINT a")
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'b')", self.t)
        run(conn, "ROLLBACK TO a")
        run(conn, "SAVEPOINT b")
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'c')", self.t)
        run(conn, "RELEASE b")
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 2)
        self.assertEqual(self.value("SELECT count(DISTINCT tx) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 1)
        self.assert_sound()

    def test_aborted_transaction_leaves_nothing(self):
        head = self.head(self.t)
        conn = self.conn()
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'a')", self.t)
        conn.rollback()
        self.assertEqual(self.head(self.t), head)
        self.assert_sound()

    def test_a_forged_surrogate_setting_does_not_count(self):
        unit = self.unit(self.t, self.p)
        old = self.version("units", unit)["tx"]
        conn = self.conn()
        run(conn, "SET ferry.tx = '%d'" % old)
        run(conn, "UPDATE inventory.units SET floor = 5")
        conn.commit()
        self.assertGreater(self.version("units", unit)["tx"], old)
        self.assert_sound()

    def test_replication_role_replica_is_captured(self):
        conn = self.conn()
        run(conn, "SET session_replication_role = replica")
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'a')", self.t)
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE tbl = %s", self.tbl("companies")), 1)
        self.assert_sound()

    def test_cascade_and_set_null_are_captured(self):
        unit = self.unit(self.t, self.p)
        self.sql("INSERT INTO inventory.unit_components (tenant_id, unit_id, component_type_code) VALUES (%s, %s, 'KITCHEN_STD')",
                 self.t, unit)
        company = self.value("INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'c') RETURNING id", self.t)
        contact = self.value("INSERT INTO crm.contacts (tenant_id, company_id, full_name) VALUES (%s, %s, 'n') RETURNING id",
                             self.t, company)
        conn = self.conn()
        run(conn, "DELETE FROM inventory.projects")
        run(conn, "DELETE FROM crm.companies")
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version WHERE NOT deleted AND tbl = ANY (%s)",
                                    [self.tbl(x) for x in ("projects", "units", "unit_components", "companies")]), 0)
        self.assertIn("company_id", self.version("contacts", contact)["over"])
        self.assert_sound()

    def test_truncate_of_a_tracked_table_is_refused_with_a_hint(self):
        error = self.refused("0A000", "TRUNCATE comms.notifications_inbox")
        self.assertIn("DELETE FROM comms.notifications_inbox", error.diag.message_hint)
        self.refused("0A000", "TRUNCATE crm.companies CASCADE")

    def test_key_update_is_a_deletion_and_an_insertion(self):
        old = self.value("INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'c') RETURNING id", self.t)
        new = uuid.uuid4()
        self.sql("UPDATE crm.companies SET id = %s", new)
        self.assertTrue(self.version("companies", old)["deleted"])
        self.assertFalse(self.version("companies", new)["deleted"])
        self.assert_sound()

    def test_tenant_update_takes_a_position_of_both_tenants(self):
        other = self.tenant("other")
        company = self.value("INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'c') RETURNING id", self.t)
        heads = self.head(self.t), self.head(other)
        self.sql("UPDATE crm.companies SET tenant_id = %s", other)
        self.assertGreater(self.head(self.t), heads[0])
        self.assertGreater(self.head(other), heads[1])
        self.assertEqual(self.sql("SELECT tenant_id, deleted FROM ferry.version WHERE key = %s ORDER BY deleted", company),
                         [(other, False), (self.t, True)])
        self.assert_sound()

    def test_empty_statement_takes_no_surrogate(self):
        self.unit(self.t, self.p)
        before = self.value("SELECT last_value FROM ferry.surrogate_seq")
        self.sql("UPDATE inventory.units SET floor = 1 WHERE false")
        self.sql("DELETE FROM crm.leads")
        self.assertEqual(self.value("SELECT last_value FROM ferry.surrogate_seq"), before)

    def test_write_past_disabled_triggers_is_found_and_repaired(self):
        unit = self.unit(self.t, self.p)
        conn = self.conn()
        run(conn, "ALTER TABLE inventory.units DISABLE TRIGGER ALL")
        run(conn, "UPDATE inventory.units SET floor = 7")
        run(conn, "ALTER TABLE inventory.units ENABLE TRIGGER ALL")
        for trigger in ("insert", "update", "delete", "key", "truncate"):
            run(conn, "ALTER TABLE inventory.units ENABLE ALWAYS TRIGGER ferry_" + trigger)
        conn.commit()
        self.assertEqual([(str(row[0]), row[2], row[3]) for row in self.sql("SELECT * FROM ferry.verify()")],
                         [("inventory.units", unit, "changed")])
        self.sql("SELECT * FROM ferry.verify(true)")
        self.assertIn("floor", self.version("units", unit)["over"])
        self.assert_sound()

    def test_doctor_names_a_trigger_that_is_off(self):
        self.assertEqual(self.sql("SELECT * FROM ferry.doctor()"), [])
        self.sql("ALTER TABLE crm.leads DISABLE TRIGGER ferry_update")
        self.assertEqual([(s, str(t)) for s, t, _ in self.sql("SELECT * FROM ferry.doctor()")], [("error", "crm.leads")])

    def test_crash_of_the_server_keeps_committed_versions_and_forgets_the_rest(self):
        unit = self.unit(self.t, self.p)
        open_one = self.conn()
        run(open_one, "UPDATE inventory.units SET floor = 1")
        self.cluster.stop("immediate")
        self.cluster.start()
        self.assertEqual(self.version("units", unit)["over"], {})
        self.sql("UPDATE inventory.units SET floor = 2")
        self.assert_sound()


class Merge(HubCase):
    """The hub's own writes, with the declarations that make cells a device's."""

    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.p = self.project(self.t)
        self.device = uuid.uuid4()

    def begin(self):
        conn = self.conn("ferry_hub")
        run(conn, "SELECT set_config('app.tenant_id', %s, true)", str(self.t))
        tx = run(conn, "SELECT ferry.touch(%s), ferry.merging(true)", self.t)[0][0]
        return conn, tx

    def stamp(self, conn, tx, number, device=None):
        return run(conn, "INSERT INTO ferry.stamp (id, tx, tenant_id, device_id, number, at) "
                         "VALUES (nextval('ferry.surrogate_seq'), %s, %s, %s, %s, 1) RETURNING id",
                   tx, self.t, device or self.device, number)[0][0]

    def declare(self, conn, tx, stamp, table, key, **cells):
        """Declares cells with the hash of the value given, taken from the templates."""
        nums, hashes = [], []
        for name, value in cells.items():
            num, wire, hashed = run(conn, "SELECT num, in_expr, hash_expr FROM ferry.tracked_column "
                                          "WHERE tbl = %s AND name = %s", self.tbl(table), name)[0]
            template = run(conn, "SELECT ferry.fill(%s, ferry.fill(%s, '$1'), %s)", hashed, wire,
                           "uuid_hash_extended('%s', 0) # %d" % (key, num))[0][0]
            nums.append(num)
            hashes.append(run(conn, "SELECT coalesce(" + template.replace("%", "%%").replace("$1", "%s") + ", 0)", value)[0][0])
        run(conn, "INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes) VALUES (%s, %s, %s, %s, %s, %s::bigint[])",
            tx, self.tbl(table), key, stamp, nums, hashes)

    def test_declared_cells_belong_to_the_device(self):
        unit = self.unit(self.t, self.p)
        conn, tx = self.begin()
        s = self.stamp(conn, tx, 1)
        run(conn, "UPDATE inventory.units SET view = 'sea', floor = 4 WHERE tenant_id = %s AND id = %s", self.t, unit)
        self.declare(conn, tx, s, "units", unit, view="sea", floor=4)
        finished = run(conn, "SELECT tenant_id, position FROM ferry.finish()")
        conn.commit()
        self.assertEqual(finished, [(self.t, self.head(self.t))])
        v = self.version("units", unit)
        self.assertEqual(self.author(v, "view"), (self.device, 1))
        self.assertEqual(self.author(v, "floor"), (self.device, 1))
        self.assertEqual(self.author(v, "code"), "hub")
        self.assertEqual(v["tx"], s)
        self.assert_sound()

    def test_R8_trigger_changes_belong_to_hub(self):
        unit = self.unit(self.t, self.p)
        conn, tx = self.begin()
        s = self.stamp(conn, tx, 1)
        run(conn, "UPDATE inventory.units SET price_minor = 777 WHERE tenant_id = %s AND id = %s", self.t, unit)
        self.declare(conn, tx, s, "units", unit, price_minor=777)
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        v = self.version("units", unit)
        self.assertEqual(self.author(v, "price_minor"), (self.device, 1))
        self.assertEqual(self.author(v, "updated_at"), "hub")
        history = self.sql("SELECT id, price_minor FROM inventory.unit_price_history WHERE unit_id = %s ORDER BY effective_at", unit)
        self.assertEqual([row[1] for row in history], [100, 777])
        self.assertEqual(self.author(self.version("unit_price_history", history[1][0]), "price_minor"), "hub")
        self.assert_sound()

    def test_R8_value_that_the_database_altered_belongs_to_hub(self):
        unit = self.unit(self.t, self.p)
        conn, tx = self.begin()
        s = self.stamp(conn, tx, 1)
        run(conn, "UPDATE inventory.units SET size_sqm = 10.005, length_m = 2.50 WHERE tenant_id = %s AND id = %s", self.t, unit)
        self.declare(conn, tx, s, "units", unit, size_sqm="10.005", length_m="2.50")
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        v = self.version("units", unit)
        self.assertEqual(self.author(v, "size_sqm"), "hub")
        self.assertEqual(self.author(v, "length_m"), (self.device, 1))

    def test_inserted_row_is_the_device_s_but_for_defaults(self):
        unit = uuid.uuid4()
        conn, tx = self.begin()
        s = self.stamp(conn, tx, 1)
        run(conn, "INSERT INTO inventory.units (tenant_id, id, project_id, unit_type_code, code) VALUES (%s, %s, %s, 'X', 'N-1')",
            self.t, unit, self.p)
        self.declare(conn, tx, s, "units", unit, id=unit, project_id=self.p, unit_type_code="X", code="N-1", view=None)
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        v = self.version("units", unit)
        self.assertEqual((v["born"], v["base_tx"]), (s, s))
        self.assertEqual(set(v["over"]), {"status", "created_at", "updated_at"})
        for column in v["over"]:
            self.assertEqual(self.author(v, column), "hub")
        self.assert_sound()

    def test_two_devices_in_one_batch_each_keep_their_cells(self):
        unit = self.unit(self.t, self.p)
        other = uuid.uuid4()
        conn, tx = self.begin()
        a, b = self.stamp(conn, tx, 1), self.stamp(conn, tx, 9, other)
        run(conn, "UPDATE inventory.units SET view = 'sea', floor = 4, bedrooms = 3 WHERE tenant_id = %s AND id = %s", self.t, unit)
        self.declare(conn, tx, a, "units", unit, view="sea", floor=2)
        self.declare(conn, tx, b, "units", unit, floor=4, bedrooms=3)
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        v = self.version("units", unit)
        self.assertEqual(self.author(v, "view"), (self.device, 1))
        self.assertEqual(self.author(v, "floor"), (other, 9))
        self.assertEqual(self.author(v, "bedrooms"), (other, 9))
        self.assert_sound()

    def test_large_batch_is_declared_the_same_way(self):
        self.units(self.t, self.p, 200)
        keys = [row[0] for row in self.sql("SELECT id FROM inventory.units")]
        new = [uuid.uuid4() for _ in range(100)]
        conn, tx = self.begin()
        s = self.stamp(conn, tx, 1)
        run(conn, "UPDATE inventory.units SET view = 'sea' WHERE tenant_id = %s", self.t)
        run(conn, "INSERT INTO inventory.units (tenant_id, id, project_id, unit_type_code) SELECT %s, x, %s, 'X' FROM unnest(%s) x",
            self.t, self.p, new)
        for key in keys:
            self.declare(conn, tx, s, "units", key, view="sea")
        for key in new:
            self.declare(conn, tx, s, "units", key, id=key, project_id=self.p, unit_type_code="X")
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        for key in keys[:5]:
            v = self.version("units", key)
            self.assertEqual((self.author(v, "view"), self.author(v, "updated_at")), ((self.device, 1), "hub"))
        for key in new[:5]:
            v = self.version("units", key)
            self.assertEqual((v["born"], self.author(v, "unit_type_code"), self.author(v, "status")),
                             (s, (self.device, 1), "hub"))
        self.assert_sound()

    def test_join_declared_makes_one_row_of_several_in_which_the_later_stamp_wins_a_cell(self):
        conn, tx = self.conn(), 1 << 40
        twice, once, gone = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        rows = [(twice, 30, [3, 5], [330, 350]), (twice, 10, [2, 3], [120, 130]), (twice, 20, [5, 9], [250, 290]),
                (once, 10, [3], [1]), (gone, 10, [3], [7]), (gone, 20, [], [])]
        for key, stamp, nums, hashes in rows:
            run(conn, "INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes) VALUES (%s, 1, %s, %s, %s::int[], %s::bigint[])",
                tx, key, stamp, nums, hashes)
        run(conn, "INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes) VALUES (%s, 1, %s, 40, '{3}', '{0}')", tx + 1, twice)
        run(conn, "SELECT ferry.join_declared(%s)", tx)
        joined = {r[0]: r[1:] for r in run(conn, "SELECT key, stamp, nums, hashes, stamps FROM ferry.declared WHERE tx = %s", tx)}
        self.assertEqual(joined, {twice: (10, [2, 3, 5, 9], [120, 330, 350, 290], [10, 30, 30, 20]),
                                  once: (10, [3], [1], None), gone: (10, [3], [7], [10])})
        self.assertEqual(run(conn, "SELECT count(*) FROM ferry.declared WHERE tx = %s", tx + 1), [(1,)])
        conn.rollback()

    def test_declared_deletion_is_the_device_s(self):
        unit = self.unit(self.t, self.p)
        conn, tx = self.begin()
        s = self.stamp(conn, tx, 1)
        run(conn, "DELETE FROM inventory.units WHERE tenant_id = %s AND id = %s", self.t, unit)
        self.declare(conn, tx, s, "units", unit)
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        v = self.version("units", unit)
        self.assertTrue(v["deleted"])
        self.assertEqual(v["tx"], s)
        self.assert_sound()

    def test_declared_cell_that_was_equal_before_keeps_its_version(self):
        unit = self.unit(self.t, self.p)
        before = self.version("units", unit)
        conn, tx = self.begin()
        s = self.stamp(conn, tx, 1)
        run(conn, "UPDATE inventory.units SET code = 'A-1' WHERE tenant_id = %s AND id = %s", self.t, unit)
        self.declare(conn, tx, s, "units", unit, code="A-1")
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        self.assertEqual(self.version("units", unit), before)

    def test_merge_that_changes_no_row_still_gets_a_position(self):
        head = self.head(self.t)
        conn, tx = self.begin()
        finished = run(conn, "SELECT position FROM ferry.finish()")
        conn.commit()
        self.assertGreater(finished[0][0], head)
        self.assertEqual(self.value("SELECT tx FROM ferry.commit WHERE position = %s", finished[0][0]), tx)

    def test_R11_constraints_checked_early_leave_the_end_to_finish(self):
        unit = self.unit(self.t, self.p)
        conn, tx = self.begin()
        for i in range(2):
            run(conn, "SAVEPOINT one")
            run(conn, "UPDATE inventory.units SET floor = %s WHERE tenant_id = %s AND id = %s", i, self.t, unit)
            run(conn, "SET CONSTRAINTS ALL IMMEDIATE")
            run(conn, "SET CONSTRAINTS ALL DEFERRED")
            run(conn, "RELEASE one")
        self.assertEqual(run(conn, "SELECT count(*) FROM ferry.commit WHERE tx = %s", tx), [(0,)])
        run(conn, "SELECT ferry.finish()")
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.commit WHERE tx = %s", tx), 1)
        self.assertIn("floor", self.version("units", unit)["over"])
        self.assert_sound()

    def test_merging_after_a_row_was_written_is_refused(self):
        conn = self.conn("ferry_hub")
        run(conn, "SELECT set_config('app.tenant_id', %s, true)", str(self.t))
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'x')", self.t)
        self.refused("55000", "SELECT ferry.merging(true)", conn=conn)

    def test_merging_is_for_the_hub_alone(self):
        conn = self.conn()
        run(conn, "SET ROLE ferry_app")
        self.refused("42501", "SELECT ferry.merging(true)", conn=conn)

    def test_merging_turned_off_again_is_an_ordinary_transaction(self):
        conn, _ = self.begin()
        run(conn, "INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'x')", self.t)
        run(conn, "SELECT ferry.merging(false)")
        conn.commit()
        self.assert_sound()


if __name__ == "__main__":
    unittest.main()
