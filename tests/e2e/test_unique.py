#!/usr/bin/python3
"""Unique values on real processes: they change hands within a change-set (docs/merge.md)."""

import unittest
import uuid

from ferry_run import SiteCase


class UniqueValues(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("ALTER TABLE inventory.units ALTER COLUMN code SET NOT NULL, "
                     "ADD CONSTRAINT units_code_uq UNIQUE (tenant_id, project_id, code)")

    def codes(self, units):
        return [self.site.value("SELECT code FROM inventory.units WHERE id = %s", u) for u in units]

    def offline(self, count):
        """Units with codes of their own, on a device that is stopped."""
        units = [self.new_unit(code="C-%d" % i) for i in range(count)]
        a, b = self.device("a"), self.device("b")
        self.settle()
        a.stop()
        return units, a, b

    def arrive(self, a):
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT sentence FROM ferry_rejected"), [])
        self.assert_same()

    def test_codes_may_be_swapped_in_one_change_set(self):
        units, a, b = self.offline(2)
        with a.transaction() as db:
            db.execute("UPDATE units SET code = 'C-1', floor = 3 WHERE id = ?", (units[0],))
            db.execute("UPDATE units SET code = 'C-0' WHERE id = ?", (units[1],))
        self.arrive(a)
        self.assertEqual(self.codes(units), ["C-1", "C-0"])
        self.assertEqual(b.row("units", units[0])["floor"], 3)
        self.assertEqual(self.site.sql("SELECT verdict FROM ferry.settled WHERE tenant_id = %s", self.tenant), [("accepted",)])
        # They are the device's own versions: an edit made on them meets no conflict.
        a.sql("UPDATE units SET code = 'C-9' WHERE id = ?", units[0])
        self.settle()
        self.assertEqual(self.codes(units), ["C-9", "C-0"])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.conflict WHERE tenant_id = %s", self.tenant), 0)
        self.assert_same()

    def test_codes_may_move_along_a_chain_and_a_ring_with_new_and_deleted_rows_in_it(self):
        units, a, _ = self.offline(40)
        fresh = str(uuid.uuid4())
        with a.transaction() as db:
            for i in range(1, 40):  # each takes the one before; the first is deleted, a new row takes the last
                db.execute("UPDATE units SET code = ? WHERE id = ?", ("C-%d" % (i - 1), units[i]))
            db.execute("DELETE FROM units WHERE id = ?", (units[0],))
            db.execute("INSERT INTO units (id, project_id, code, unit_type_code) VALUES (?, ?, 'C-39', 'APT_1BR')", (fresh, self.project))
        with a.transaction() as db:
            for i in range(1, 40):  # a ring
                db.execute("UPDATE units SET code = ? WHERE id = ?", ("C-%d" % (i % 39), units[i]))
        self.arrive(a)
        self.assertEqual(self.codes(units[1:]), ["C-%d" % (i % 39) for i in range(1, 40)])
        self.assertEqual(self.codes([fresh]), ["C-39"])

    def test_R7_codes_may_be_swapped_between_parts_of_a_staged_change_set(self):
        units, a, _ = self.offline(2)
        fresh, much = str(uuid.uuid4()), "x" * 3000000
        with a.transaction() as db:
            db.execute("INSERT INTO units (id, project_id, code, unit_type_code, view) VALUES (?, ?, 'C-0', 'APT_1BR', ?)",
                       (fresh, self.project, much))
            db.execute("UPDATE units SET code = 'C-1', view = ? WHERE id = ?", (much, units[0]))
            db.execute("UPDATE units SET code = 'C-2', view = ? WHERE id = ?", (much, units[1]))
        self.arrive(a)
        self.assertEqual(self.codes([fresh, *units]), ["C-0", "C-1", "C-2"])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.stage"), 0)
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.postponed"), 0)

    def test_a_swap_of_contacts_addresses_works_though_their_index_is_partial(self):
        people = [str(self.site.value("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'P', %s) RETURNING id",
                                      self.tenant, "p%d@example.com" % i)) for i in range(2)]
        a = self.device("a", scopes=["tenant"])
        self.settle()
        a.stop()
        with a.transaction() as db:
            db.execute("UPDATE contacts SET email = 'p1@example.com' WHERE id = ?", (people[0],))
            db.execute("UPDATE contacts SET email = 'p0@example.com' WHERE id = ?", (people[1],))
        self.arrive(a)
        self.assertEqual([self.site.value("SELECT email FROM crm.contacts WHERE id = %s", p) for p in people],
                         ["p1@example.com", "p0@example.com"])

    def test_a_value_that_is_really_taken_is_refused_and_the_others_swaps_stand(self):
        units, a, b = self.offline(3)
        with a.transaction() as db:
            db.execute("UPDATE units SET code = 'C-1' WHERE id = ?", (units[0],))
            db.execute("UPDATE units SET code = 'C-2' WHERE id = ?", (units[1],))  # C-2 stays where it is
            db.execute("INSERT INTO ferry_tx(note) VALUES ('bad')")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT DISTINCT name, sentence FROM ferry_rejected"), [
            ("UNIQUE", 'another row of units has this value already (rule units_code_uq): "C-2", %s' % units[2])])
        self.assertEqual(self.codes(units), ["C-0", "C-1", "C-2"])
        self.assertEqual(b.row("units", units[0])["code"], "C-0")
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.postponed"), 0)
        self.assert_same()

    def test_a_clash_does_not_name_a_row_that_the_change_set_deletes(self):
        units, a, _ = self.offline(3)
        with a.transaction() as db:
            db.execute("DELETE FROM units WHERE id = ?", (units[0],))
            db.execute("INSERT INTO units (id, project_id, code, unit_type_code) VALUES (?, ?, 'C-0', 'APT_1BR')",
                       (str(uuid.uuid4()), self.project))
            db.execute("UPDATE units SET code = 'C-2' WHERE id = ?", (units[1],))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT DISTINCT name, sentence FROM ferry_rejected"), [
            ("UNIQUE", 'another row of units has this value already (rule units_code_uq): "C-2", %s' % units[2])])
        self.assert_same()

    def test_a_staged_change_set_names_the_other_row_whichever_part_met_it_and_not_one_of_its_own(self):
        units, a, _ = self.offline(4)
        fresh, much = str(uuid.uuid4()), "x" * 3000000
        with a.transaction() as db:
            for unit, code in ((units[0], "C-1"), (units[1], "C-0"), (fresh, "C-3"), (units[2], "C-9")):
                if unit == fresh:
                    db.execute("INSERT INTO units (id, project_id, code, unit_type_code, view) VALUES (?, ?, ?, 'APT_1BR', ?)",
                               (unit, self.project, code, much))
                else:
                    db.execute("UPDATE units SET code = ?, view = ? WHERE id = ?", (code, much, unit))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT DISTINCT name, sentence FROM ferry_rejected"), [
            ("UNIQUE", 'another row of units has this value already (rule units_code_uq): "C-3", %s' % units[3])])
        self.assertEqual(self.codes(units), ["C-0", "C-1", "C-2", "C-3"])
        self.assert_same()

    def test_a_staged_change_set_that_meets_a_value_and_is_asked_what_it_lacks_names_the_other_row(self):
        self.site.sql("SELECT ferry.row_policy('inventory.units', on_missing_parent => 'park', park_for => '1 hour')")
        self.addCleanup(self.site.sql, "SELECT ferry.row_policy('inventory.units', on_missing_parent => 'reject')")
        units, a, _ = self.offline(3)
        fresh, much = str(uuid.uuid4()), "x" * 3000000
        self.site.sql("INSERT INTO roomscan.room_scan_sessions (tenant_id, unit_id, status, started_at) VALUES (%s, %s, 'uploading', now())",
                      self.tenant, units[0])
        with a.transaction() as db:
            db.execute("INSERT INTO units (id, project_id, code, unit_type_code, view) VALUES (?, ?, 'C-2', 'APT_1BR', ?)",
                       (fresh, self.project, much))
            db.execute("UPDATE units SET view = ? WHERE id = ?", (much, units[1]))
            db.execute("DELETE FROM units WHERE id = ?", (units[0],))  # a row at the hub refers to it
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT DISTINCT name, sentence FROM ferry_rejected"), [
            ("UNIQUE", 'another row of units has this value already (rule units_code_uq): "C-2", %s' % units[2])])
        self.assert_same()

    def test_a_clash_names_the_other_row_by_expression_and_case_and_not_one_that_the_device_does_not_hold(self):
        self.site.sql("CREATE UNIQUE INDEX companies_name_uq ON crm.companies (tenant_id, lower(name)) WHERE city IS NULL")
        self.addCleanup(self.site.sql, "DROP INDEX crm.companies_name_uq")
        company = self.site.value("INSERT INTO crm.companies (tenant_id, name) VALUES (%s, 'Acme') RETURNING id::text", self.tenant)
        person = self.site.value("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'Omar', 'omar@example.com') "
                                 "RETURNING id::text", self.tenant)
        a = self.device("a", scopes=["tenant"])
        self.settle()
        a.sql("INSERT INTO companies (name) VALUES ('ACME')")
        a.sql("INSERT INTO contacts (full_name, email) VALUES ('O.', 'Omar@Example.com')")
        self.settle()
        self.assertEqual([s for s, in a.sql("SELECT sentence FROM ferry_rejected ORDER BY id")], [
            'another row of companies has this value already (rule companies_name_uq): "Acme", %s' % company,
            'another row of contacts has this value already (rule contacts_email_per_tenant_uq): "Omar", %s'
            '; it can be merged into that one' % person])
        self.assertEqual(self.site.sql("SELECT other, said FROM ferry.clash(%s, %s, 'companies_name_uq', (SELECT jsonb_build_array("
                                       "jsonb_build_object('t', t.tbl, 'k', gen_random_uuid(), 'c', jsonb_build_object(c.num, 'acme'))) "
                                       "FROM ferry.tracked t JOIN ferry.tracked_column c ON c.tbl = t.tbl AND c.name = 'name' "
                                       "WHERE t.name = 'companies'))", self.tenant, uuid.uuid4()),
                         [(None, "a row that this device does not hold")])


class NoPlaceholder(SiteCase):
    """A check refuses every value that a code could hold meanwhile."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("ALTER TABLE inventory.units ALTER COLUMN code SET NOT NULL, ADD CONSTRAINT units_code_ck CHECK (code LIKE 'C-%'), "
                     "ADD CONSTRAINT units_code_uq UNIQUE (tenant_id, project_id, code)")

    def replaced(self, extra_code=None):
        """A large change-set that gives new rows the codes of rows that it deletes."""
        units = [self.new_unit(code="C-%d" % i) for i in range(3)]
        a = self.device("a")
        self.settle()
        a.stop()
        with a.transaction() as db:
            for i in range(3):
                db.execute("INSERT INTO units (id, project_id, code, unit_type_code, view) VALUES (?, ?, ?, 'APT_1BR', ?)",
                           (str(uuid.uuid4()), self.project, "C-%d" % i, "x" * 2000000))
            for unit in units:
                db.execute("DELETE FROM units WHERE id = ?", (unit,))
            if extra_code:
                db.execute("INSERT INTO units (id, project_id, code, unit_type_code) VALUES (?, ?, ?, 'APT_1BR')",
                           (str(uuid.uuid4()), self.project, extra_code))
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        return units, a

    def test_R7_a_staged_change_set_gives_new_rows_what_its_deletions_free(self):
        units, a = self.replaced()
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT sentence FROM ferry_rejected"), [])
        rows = self.site.sql("SELECT id::text, code, length(view) FROM inventory.units WHERE tenant_id = %s ORDER BY code", self.tenant)
        self.assertEqual([r[1:] for r in rows], [("C-%d" % i, 2000000) for i in range(3)])
        self.assertFalse({r[0] for r in rows} & set(units))
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.stage WHERE tenant_id = %s", self.tenant), 0)
        self.assert_same()

    def test_P3_R7_one_that_ends_with_a_taken_value_is_refused_whole_whatever_the_order(self):
        units, a = self.replaced(extra_code="C-taken")
        taken = self.new_unit(code="C-taken")
        a.start()
        self.settle()
        self.assertEqual(a.sql("SELECT DISTINCT name FROM ferry_rejected"), [("UNIQUE",)])
        self.assertEqual(sorted(r[0] for r in self.site.sql("SELECT id::text FROM inventory.units WHERE tenant_id = %s", self.tenant)),
                         sorted([*units, taken]))
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
