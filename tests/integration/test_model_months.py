#!/usr/bin/python3
"""Tables whose partitions are months: rows find theirs, keys hold across them, old months go."""

import threading
import unittest
import uuid

import psycopg2

import ferry_pg
from ferry_case import NOBODY, HubCase, run

QUEUE = "INSERT INTO comms.messages_outbox (tenant_id, channel, to_email, idempotency_key, queued_at) " \
        "VALUES (%s, 'email', 'a@b.c', %s, coalesce(%s::timestamptz, now())) RETURNING tableoid::regclass::text, id"
BEFORE = 36  # the last migration without months


class Months(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()

    def app(self):
        conn = self.conn(tenant=self.t)
        run(conn, "SET ROLE ferry_app")
        conn.commit()
        return conn

    def queue(self, key=None, at=None):
        return self.sql(QUEUE, self.t, key, at)[0]

    def make(self, ahead=3):
        return {name: n for name, n in self.sql("SELECT tab, n FROM governance.make_months(%s)", ahead)}

    def drop(self, dry_run=False):
        return {name: n for name, n in self.sql("SELECT tab, n FROM governance.drop_months(%s)", dry_run)}

    def keys(self):
        return [row[0] for row in self.sql("SELECT idempotency_key FROM comms.message_keys ORDER BY 1")]

    def test_row_stands_in_the_partition_of_its_month(self):
        month = self.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
        self.assertEqual(self.queue()[0], "comms.messages_outbox_" + month)
        for table, column in (("integration_webhook_logs", "brevo"), ("billing_webhook_logs", "stripe")):
            where = self.value("INSERT INTO integration.%s (tenant_id, provider, raw) VALUES (%%s, %%s, '{}') "
                               "RETURNING tableoid::regclass::text" % table, self.t, column)
            self.assertEqual(where, "integration.%s_%s" % (table, month))
        self.assertEqual(self.queue(at="2199-01-01 00:00+00")[0], "comms.messages_outbox_rest")

    def test_rows_that_came_before_their_month_was_made_move_into_it(self):
        for day in ("2026-01-31 23:59:59.999999+00", "2026-02-01 00:00:00+00"):
            self.sql("INSERT INTO integration.integration_webhook_logs (tenant_id, provider, raw, received_at) VALUES (%s, 'brevo', '{}', %s)",
                     self.t, day)
        self.assertEqual(self.make(), {"integration.integration_webhook_logs_2026_01": 1, "integration.integration_webhook_logs_2026_02": 1})
        self.assertEqual(self.sql("SELECT tableoid::regclass::text, received_at::text FROM integration.integration_webhook_logs ORDER BY 2"),
                         [("integration.integration_webhook_logs_2026_01", "2026-01-31 23:59:59.999999+00"),
                          ("integration.integration_webhook_logs_2026_02", "2026-02-01 00:00:00+00")])
        self.assertEqual(self.make(), {}, "twice is harmless")

    def test_time_that_is_made_up_makes_no_partition(self):
        self.queue(at="0001-01-01 00:00+00")
        self.queue(at="2199-01-01 00:00+00")
        self.assertEqual(self.make(), {})

    def test_key_counts_once_whatever_the_month(self):
        self.queue("k", "2026-01-15 00:00+00")
        self.make()
        self.refused("23505", QUEUE, self.t, "k", None)
        self.refused("23505", QUEUE, self.t, "k", "2026-03-01 00:00+00")
        other = self.tenant("other")
        self.sql(QUEUE, other, "k", None)

    def test_of_writers_at_once_with_one_key_one_wins(self):
        won, lost = [], []

        def write():
            conn = self.db.connect()
            try:
                run(conn, QUEUE, self.t, "same", None)
                conn.commit()
                won.append(1)
            except psycopg2.errors.UniqueViolation:
                lost.append(1)
            finally:
                conn.close()

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((len(won), len(lost)), (1, 7))

    def test_key_of_a_deleted_or_renamed_message_is_free_again(self):
        conn = self.app()
        run(conn, QUEUE, self.t, "a", None)
        run(conn, "UPDATE comms.messages_outbox SET idempotency_key = 'b'")
        run(conn, QUEUE, self.t, "a", None)
        conn.commit()
        self.assertEqual(self.keys(), ["a", "b"])
        run(conn, "DELETE FROM comms.messages_outbox WHERE idempotency_key = 'b'")
        conn.commit()
        self.assertEqual(self.keys(), ["a"])
        self.refused("42501", "DELETE FROM comms.message_keys", conn=conn)
        self.sql("DELETE FROM identity.tenants WHERE id = %s", self.t)
        self.assertEqual(self.keys(), [])

    def test_message_does_not_move_to_another_month(self):
        self.queue("k")
        self.refused("FE319", "UPDATE comms.messages_outbox SET queued_at = queued_at - interval '2 months'")
        self.sql("UPDATE comms.messages_outbox SET status = 'sent', sent_at = now()")

    def test_month_older_than_any_rule_keeps_is_dropped_with_its_keys(self):
        self.queue("old", "2024-05-05 00:00+00")
        self.queue("new")
        self.make()
        self.assertEqual(self.drop(dry_run=True), {"comms.messages_outbox_2024_05": 1})
        self.assertEqual(self.keys(), ["new", "old"])
        self.assertEqual(self.drop(), {"comms.messages_outbox_2024_05": 1})
        self.assertEqual(self.keys(), ["new"])
        self.assertEqual(self.drop(), {})

    def test_month_that_some_rule_keeps_stays_until_it_is_empty(self):
        self.queue("old", "2024-05-05 00:00+00")
        self.make()
        for policy, action in (("PERMANENT", "purge"), ("YEARS_7", "purge"), ("DAYS_30", "archive")):
            self.sql("INSERT INTO governance.retention_rules VALUES (%s, 'comms.messages_outbox', %s, %s) "
                     "ON CONFLICT (tenant_id, tab) DO UPDATE SET policy = excluded.policy, action = excluded.action", self.t, policy, action)
            self.assertEqual(self.drop(), {}, policy)
        self.sql("SELECT governance.apply_retention(NULL, false)")
        self.assertEqual(self.sql("SELECT tab, row_data ->> 'idempotency_key' FROM governance.archived_rows"), [("comms.messages_outbox", "old")])
        self.assertEqual(self.keys(), [])
        self.assertEqual(self.drop(), {"comms.messages_outbox_2024_05": 0})

    def test_event_that_no_tenant_was_found_for_is_purged_and_archived_too(self):
        self.sql("INSERT INTO integration.billing_webhook_logs (provider, raw, received_at) VALUES ('stripe', '{\"n\": 1}', '2010-01-01 00:00+00')")
        self.sql("UPDATE governance.retention_rules SET action = 'archive' WHERE tab = 'integration.billing_webhook_logs'")
        self.assertEqual(self.sql("SELECT tab, action, n, problem FROM governance.apply_retention(NULL, false)"),
                         [("integration.billing_webhook_logs", "archive", 1, None)])
        self.assertEqual(self.sql("SELECT tenant_id, row_data -> 'raw' FROM governance.archived_rows"), [(NOBODY, {"n": 1})])

    def test_what_was_archived_of_a_tenant_goes_with_it(self):
        self.sql("INSERT INTO governance.retention_rules VALUES (%s, 'comms.messages_outbox', 'DAYS_30', 'archive')", self.t)
        self.queue("old", "2024-05-05 00:00+00")
        self.sql("SELECT governance.apply_retention(%s, false)", self.t)
        self.assertEqual(self.sql("SELECT tenant_id FROM governance.archived_rows"), [(self.t,)])
        self.sql("DELETE FROM identity.tenants WHERE id = %s", self.t)
        self.assertEqual(self.sql("SELECT tenant_id FROM governance.archived_rows"), [])

    def test_row_that_may_not_go_keeps_those_of_its_own_tenant_alone(self):
        other = self.tenant("other")
        self.sql("INSERT INTO governance.retention_rules VALUES (%s, 'billing.token_accounts', 'DAYS_30')", NOBODY)
        for tenant in (self.t, other):
            self.sql("INSERT INTO billing.token_accounts (tenant_id, created_at) VALUES (%s, now() - interval '40 days')", tenant)
        self.sql("INSERT INTO billing.token_transactions (tenant_id, account_id, direction, amount, reason) "
                 "SELECT tenant_id, id, 'credit', 5, 'x' FROM billing.token_accounts WHERE tenant_id = %s", self.t)
        tab, n, problem = self.sql("SELECT tab, n, problem FROM governance.apply_retention(NULL, false)")[0]
        self.assertEqual((tab, n), ("billing.token_accounts", 1))
        self.assertIn(str(self.t), problem)
        self.assertEqual(self.sql("SELECT tenant_id FROM billing.token_accounts"), [(self.t,)])

    def test_rule_for_a_table_that_is_not_looked_at_is_refused(self):
        conn = self.app()
        for tab in ("crm.nothing", "governance.audit_logs", "x; DROP TABLE y"):
            error = self.refused("42P01", "INSERT INTO governance.retention_rules VALUES (%s, %s, 'DAYS_30')", self.t, tab, conn=conn)
            self.assertIn(tab, error.diag.message_primary)
        run(conn, "INSERT INTO governance.retention_rules VALUES (%s, 'crm.leads', 'YEARS_3')", self.t)

    def test_partitions_are_isolated_like_their_table(self):
        other = self.tenant("other")
        self.queue("k", "2026-01-15 00:00+00")
        self.make()
        conn = self.conn(tenant=other)
        run(conn, "SET ROLE ferry_app")
        self.assertEqual(run(conn, "SELECT count(*) FROM comms.messages_outbox"), [(0,)])
        conn.commit()
        self.refused("42501", "SELECT count(*) FROM comms.messages_outbox_2026_01", conn=conn)


class MonthsAfterwards(HubCase):
    """A database that has rows already."""

    PARTS = ("engine",)

    def test_rows_that_were_there_are_kept_and_stand_in_their_months(self):
        files = ferry_pg.migrations("model")
        for number, _, text in files:
            if number <= BEFORE:
                self.sql(text)
        t, key = self.tenant(), uuid.uuid4()
        self.sql("INSERT INTO comms.messages_outbox (tenant_id, id, channel, to_email, idempotency_key, queued_at, status) "
                 "VALUES (%s, %s, 'email', 'a@b.c', 'k', '2026-01-15 00:00+00', 'sent'), "
                 "(%s, gen_random_uuid(), 'sms', NULL, NULL, '1990-01-01 00:00+00', 'pending')", t, key, t)
        self.sql("INSERT INTO integration.integration_webhook_logs (tenant_id, provider, raw, received_at, processed) "
                 "VALUES (%s, 'oauth', '{\"a\": 1}', '2026-02-03 00:00+00', true)", t)
        self.sql("INSERT INTO integration.billing_webhook_logs (tenant_id, provider, raw, received_at, error_message) "
                 "VALUES (NULL, 'stripe', '{\"b\": 2}', '2026-03-04 00:00+00', 'none')")
        for number, _, text in files:
            if number > BEFORE:
                self.sql(text)
        self.assertEqual(self.sql("SELECT tableoid::regclass::text, id = %s, status FROM comms.messages_outbox ORDER BY queued_at DESC", key),
                         [("comms.messages_outbox_2026_01", True, "sent"), ("comms.messages_outbox_rest", False, "pending")])
        self.assertEqual(self.sql("SELECT tableoid::regclass::text, raw, processed FROM integration.integration_webhook_logs"),
                         [("integration.integration_webhook_logs_2026_02", {"a": 1}, True)])
        self.assertEqual(self.sql("SELECT tableoid::regclass::text, raw, error_message FROM integration.billing_webhook_logs"),
                         [("integration.billing_webhook_logs_2026_03", {"b": 2}, "none")])
        self.refused("23505", QUEUE, t, "k", None)


if __name__ == "__main__":
    unittest.main()
