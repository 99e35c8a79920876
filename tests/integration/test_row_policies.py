#!/usr/bin/python3
"""Row policies in SQL: what ferry.validate takes, what a check may say, and how long parked change-sets wait."""

import unittest

from ferry_case import HubCase, run

CHECK = """CREATE FUNCTION crm.check_lead(op text, old crm.leads, new crm.leads, device uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN %s END $$"""


class Validate(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.user = self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'a@example.com') RETURNING id", self.t)
        self.device = str(self.user)  # any uuid
        self.lead = self.value("INSERT INTO crm.leads (tenant_id, score) VALUES (%s, 10) RETURNING id", self.t)

    def check(self, body):
        self.sql(CHECK % body)
        self.sql("SELECT ferry.validate('crm.leads', 'crm.check_lead')")

    def ask(self, op, change=None, sqlstate=None):
        """The check as the hub asks it, around a write of its own; the error if it is to be refused."""
        conn = self.conn("ferry_hub", tenant=self.t)
        ask = ("SELECT ferry.check_policies(%s, %s, %s, %s::uuid[], %s::uuid[])",
               self.t, self.tbl("leads"), op, [self.lead], [self.device])
        if op == "update":
            run(conn, "SELECT ferry.keep_images(%s, %s, %s::uuid[])", self.t, self.tbl("leads"), [self.lead])
        if change:
            run(conn, change, self.lead)
        if sqlstate:
            return str(self.refused(sqlstate, *ask, conn=conn)).split("\n")[0]
        run(conn, *ask)
        conn.rollback()
        return None

    def test_only_a_definer_function_over_the_table_s_rows_is_taken(self):
        self.sql("CREATE FUNCTION crm.odd(op text, new crm.leads) RETURNS text LANGUAGE sql AS $$ SELECT NULL::text $$")
        error = self.refused("42P13", "SELECT ferry.validate('crm.leads', 'crm.odd')")
        self.assertIn("(op text, old crm.leads, new crm.leads, device uuid)", error.diag.message_hint)
        self.sql((CHECK % "RETURN NULL;").replace("SECURITY DEFINER", ""))
        error = self.refused("42P13", "SELECT ferry.validate('crm.leads', 'crm.check_lead')")
        self.assertIn("SECURITY DEFINER", error.diag.message_hint)
        self.refused("42704", "SELECT ferry.validate('integration.webhook_subscriptions', NULL)")

    def test_a_check_sees_the_row_before_and_after_and_its_sentence_is_the_error(self):
        self.check("IF op = 'update' AND new.score < old.score THEN RETURN format('a score only grows: %s', old.score); END IF; RETURN NULL;")
        self.assertIsNone(self.ask("update", "UPDATE crm.leads SET score = 11 WHERE id = %s"))
        self.assertEqual(self.ask("update", "UPDATE crm.leads SET score = 9 WHERE id = %s", "FE327"), "a score only grows: 10")
        self.assertIsNone(self.ask("delete"))

    def test_a_check_sees_what_is_deleted_and_no_row_after(self):
        self.check("RETURN CASE WHEN op = 'delete' THEN format('%s and %s', old.score, new IS NULL) END;")
        self.assertEqual(self.ask("delete", None, "FE327"), "10 and t")

    def test_an_exception_of_the_check_is_its_sentence_and_a_fault_names_it(self):
        self.check("RAISE EXCEPTION 'not on a Sunday';")
        self.assertEqual(self.ask("insert", None, "FE327"), "not on a Sunday")
        self.sql(CHECK.replace("CREATE", "CREATE OR REPLACE") % "RETURN 1 / 0;")
        self.assertEqual(self.ask("insert", None, "FE327"), "the check crm.check_lead of leads failed: division by zero")
        self.sql(CHECK.replace("CREATE", "CREATE OR REPLACE") % "RAISE EXCEPTION 'later' USING ERRCODE = '40001';")
        self.assertEqual(self.ask("insert", None, "40001"), "later")

    def test_a_table_without_a_check_is_asked_no_more(self):
        self.check("RETURN 'never';")
        self.sql("SELECT ferry.validate('crm.leads', NULL)")
        self.assertIsNone(self.ask("insert"))
        self.assertIsNone(self.value("SELECT validator FROM ferry.tracked WHERE replica_name = 'leads'"))


class Parked(HubCase):
    """A chain of parked change-sets: 1 waits for a row, 2 behind 1, 3 behind 2."""

    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.d = str(self.value("SELECT gen_random_uuid()"))
        for number in (1, 2, 3):
            self.sql("INSERT INTO ferry.rejected (tenant_id, device_id, number, code, sentence, body) VALUES (%s, %s, %s, 305, '', '')", self.t, self.d, number)
            self.sql("SELECT ferry.park(%s, %s, %s, %s, %s)", self.t, self.d, number, self.tbl("leads"), number - 1)

    def due(self):
        """What is due, and whether its time is over."""
        self.sql("UPDATE ferry.rejected SET retry_at = now()")
        return self.sql("SELECT number, expired FROM ferry.parked_due(%s, 10) ORDER BY number", self.t)

    def merged(self, number):
        self.sql("DELETE FROM ferry.rejected WHERE number = %s", number)

    def test_one_that_waits_for_rows_from_now_on_takes_those_behind_it_along(self):
        self.sql("UPDATE ferry.rejected SET parked_until = now() + interval '1 minute'")
        self.merged(1)
        self.sql("SELECT ferry.park_on(%s, %s, 2, %s, 1, 305, '')", self.t, self.d, self.tbl("leads"))
        self.assertEqual(self.sql("SELECT number, waits_number, parked_until > now() + interval '6 days' FROM ferry.rejected ORDER BY number"),
                         [(2, None, True), (3, 2, True)])

    def test_the_time_of_what_waited_behind_another_is_not_over_before_it_has_waited_for_a_row(self):
        self.sql("INSERT INTO ferry.parked_wait VALUES (%s, %s, 1, %s, gen_random_uuid(), false)", self.t, self.d, self.tbl("leads"))
        self.sql("UPDATE ferry.rejected SET parked_until = now() - interval '1 minute'")
        self.assertIn((1, True), self.due())
        self.merged(1)
        self.assertIn((2, False), self.due())
        self.sql("SELECT ferry.park_on(%s, %s, 2, %s, 1, 305, '')", self.t, self.d, self.tbl("leads"))
        self.assertNotIn(2, [number for number, expired in self.due() if expired])
        self.sql("UPDATE ferry.rejected SET parked_until = now() - interval '1 minute' WHERE number = 2")
        self.assertIn((2, True), self.due())


if __name__ == "__main__":
    unittest.main()
