#!/usr/bin/python3
"""Rules of the tenant model that hold for anybody's SQL: ledger, messages, approvals, contracts, prices."""

import datetime
import hashlib
import json
import random
import threading
import unittest

from ferry_case import HubCase, run


class Rules(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.user = self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'u@x.y') RETURNING id", self.t)

    def app(self, tenant=None, user=None):
        """A connection of the back office."""
        conn = self.conn(tenant=tenant or self.t)
        run(conn, "SET ROLE ferry_app")
        run(conn, "SELECT set_config('app.user_id', %s, false)", str(user or self.user))
        conn.commit()
        return conn


class Ledger(Rules):
    def account(self, **columns):
        names = ["tenant_id", *columns]
        return self.value("INSERT INTO billing.token_accounts (%s) VALUES (%s) RETURNING id"
                          % (", ".join(names), ", ".join(["%s"] * len(names))), self.t, *columns.values())

    ADD = "INSERT INTO billing.token_transactions (tenant_id, account_id, direction, amount, reason) VALUES (%s, %s, %s, %s, 'test')"

    def balance(self, account):
        return self.value("SELECT balance FROM billing.token_accounts WHERE id = %s", account)

    def test_balance_is_the_sum_of_the_transactions(self):
        seed = random.randrange(1 << 30)
        rng = random.Random(seed)
        accounts = [self.account(name=str(i), overdraft_limit=50) for i in range(3)]
        wanted = dict.fromkeys(accounts, 0)
        conn = self.app()
        for _ in range(60):
            rows = [(rng.choice(accounts), rng.choice(("credit", "debit")), rng.randint(1, 60)) for _ in range(rng.randint(1, 4))]
            after = dict(wanted)
            for account, direction, amount in rows:
                after[account] += amount if direction == "credit" else -amount
            values = ", ".join("('%s', '%s', '%s', %d, 'r')" % (self.t, *row) for row in rows)
            text = "INSERT INTO billing.token_transactions (tenant_id, account_id, direction, amount, reason) VALUES " + values
            if any(after[a] < -50 and after[a] < wanted[a] for a in accounts):
                self.refused("FE323", text, conn=conn)
            else:
                run(conn, text)
                conn.commit()
                wanted = after
        self.assertEqual({a: self.balance(a) for a in accounts}, wanted, "seed %d" % seed)
        self.assertEqual(self.sql("SELECT * FROM billing.verify_ledger()"), [])
        last = dict(self.sql("SELECT DISTINCT ON (account_id) account_id, balance_after FROM billing.token_statements "
                             "ORDER BY account_id, created_at DESC, id DESC"))
        self.assertEqual({a: int(b) for a, b in last.items()}, {a: b for a, b in wanted.items() if a in last}, "seed %d" % seed)

    def test_writers_at_once_lose_nothing(self):
        account = self.account()
        conns = [self.app() for _ in range(4)]

        def work(conn):
            for _ in range(25):
                run(conn, self.ADD, self.t, account, "credit", 3)
                conn.commit()
        threads = [threading.Thread(target=work, args=(c,)) for c in conns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.balance(account), 300)
        self.assertEqual(self.sql("SELECT * FROM billing.verify_ledger()"), [])

    def test_transactions_are_immutable_for_everybody(self):
        account = self.account()
        self.sql(self.ADD, self.t, account, "credit", 5)
        for text in ("UPDATE billing.token_transactions SET amount = 6", "DELETE FROM billing.token_transactions",
                     "UPDATE billing.token_transactions SET reason = 'else'", "TRUNCATE billing.token_transactions"):
            self.assertIn("never changed", self.refused("FE319", text).diag.message_primary)
        self.refused("42501", "DELETE FROM billing.token_transactions", conn=self.app())
        self.refused("23503", "DELETE FROM billing.token_accounts")
        self.sql("DELETE FROM identity.tenants WHERE id = %s", self.t)
        self.assertEqual(self.value("SELECT count(*) FROM billing.token_transactions"), 0)

    def test_balance_can_t_be_set(self):
        account = self.account()
        self.sql(self.ADD, self.t, account, "credit", 5)
        for conn in (self.conn(), self.app()):
            self.refused("FE323", "UPDATE billing.token_accounts SET balance = 9", conn=conn)
            self.refused("FE323", "UPDATE billing.token_accounts SET entries = 0", conn=conn)
        self.refused("FE323", "INSERT INTO billing.token_accounts (tenant_id, name, balance) VALUES ('%s', 'b', 1)" % self.t)
        self.assertEqual(self.balance(account), 5)

    def test_overdraft_is_refused_and_nothing_of_the_statement_stays(self):
        account, other = self.account(name="a"), self.account(name="b")
        self.sql(self.ADD, self.t, account, "credit", 5)
        error = self.refused("FE323", "INSERT INTO billing.token_transactions (tenant_id, account_id, direction, amount, reason) VALUES "
                             "('%s', '%s', 'credit', 1, 'r'), ('%s', '%s', 'debit', 6, 'r')" % (self.t, other, self.t, account))
        self.assertIn("can't go down", error.diag.message_primary)
        self.assertEqual((self.balance(account), self.balance(other)), (5, 0))
        self.refused("23514", self.ADD % ("'%s'" % self.t, "'%s'" % account, "'debit'", "-1"))

    def test_idempotency_key_counts_once(self):
        account = self.account()
        text = ("INSERT INTO billing.token_transactions (tenant_id, account_id, direction, amount, reason, idempotency_key) "
                "VALUES ('%s', '%s', 'credit', 4, 'r', 'k') ON CONFLICT DO NOTHING" % (self.t, account))
        self.sql(text)
        self.sql(text)
        self.assertEqual(self.balance(account), 4)
        self.refused("23505", text.replace(" ON CONFLICT DO NOTHING", ""))

    def test_low_balance_is_told_once_until_it_rises_again(self):
        account = self.account(low_balance_threshold=10, alert_user_id=self.user)
        self.sql(self.ADD, self.t, account, "credit", 20)
        low = "SELECT low_balance_since IS NOT NULL, (SELECT count(*) FROM comms.notifications_inbox WHERE user_id = %s) FROM billing.token_accounts"
        self.assertEqual(self.sql(low, self.user), [(False, 0)])
        self.sql(self.ADD, self.t, account, "debit", 11)
        self.sql(self.ADD, self.t, account, "debit", 1)
        self.assertEqual(self.sql(low, self.user), [(True, 1)])
        self.sql(self.ADD, self.t, account, "credit", 5)
        self.assertEqual(self.sql(low, self.user), [(False, 1)])
        self.sql(self.ADD, self.t, account, "debit", 5)
        self.assertEqual(self.sql(low, self.user), [(True, 2)])
        self.sql("UPDATE billing.token_accounts SET low_balance_threshold = 1")
        self.assertEqual(self.sql(low, self.user), [(False, 2)])

    def test_ledger_of_another_tenant_is_out_of_reach(self):
        account = self.account()
        other = self.tenant("other")
        conn = self.app(tenant=other)
        self.assertEqual(run(conn, "SELECT * FROM billing.token_accounts"), [])
        self.refused("42501", self.ADD, self.t, account, "credit", 1, conn=conn)
        self.refused("23503", self.ADD, other, account, "credit", 1, conn=conn)


class Messages(Rules):
    SEND = "INSERT INTO comms.messages_outbox (tenant_id, channel, %s, idempotency_key) VALUES (%%s, %%s, %%s, %%s) RETURNING status, error_code"

    def send(self, channel, address, key=None):
        column = "to_email" if channel == "email" else "to_phone_e164"
        return self.sql(self.SEND % column, self.t, channel, address, key)[0]

    def suppress(self, channel, address):
        self.sql("INSERT INTO comms.suppression_list (tenant_id, channel, normalized_value) VALUES (%s, %s, %s)", self.t, channel, address)

    def test_idempotency_key_is_unique_within_a_tenant(self):
        self.send("email", "a@b.c", "k")
        self.refused("23505", self.SEND % "to_email", self.t, "email", "a@b.c", "k")
        other = self.tenant("other")
        self.sql(self.SEND % "to_email", other, "email", "a@b.c", "k")
        self.send("email", "a@b.c")
        self.send("email", "a@b.c")
        self.assertEqual(self.value("SELECT count(*) FROM comms.messages_outbox"), 4)

    def test_message_to_a_suppressed_recipient_is_marked_with_a_code(self):
        self.suppress("email", "  Zoe@Example.COM ")
        self.suppress("sms", "0020 (100) 123-4567")
        marked, free = ("suppressed", "SUPPRESSED"), ("pending", None)
        self.assertEqual(self.send("email", "zoe@example.com"), marked)
        self.assertEqual(self.send("email", "ZOE@example.com "), marked)
        self.assertEqual(self.send("sms", "+20 100 1234567"), marked)
        self.assertEqual(self.send("whatsapp", "+201001234567"), free)
        self.assertEqual(self.send("email", "zoe@example.org"), free)

    def test_suppression_is_the_tenant_s_own(self):
        self.suppress("email", "a@b.c")
        other = self.tenant("other")
        self.assertEqual(self.sql(self.SEND % "to_email", other, "email", "a@b.c", None), [("pending", None)])

    def test_waiting_message_is_held_when_its_recipient_is_suppressed_later(self):
        self.send("email", "A@b.c", "first")
        self.send("email", "x@b.c", "other")
        self.sql("UPDATE comms.messages_outbox SET status = 'sent' WHERE idempotency_key = 'none'")
        self.suppress("email", "a@B.c")
        self.assertEqual(self.sql("SELECT idempotency_key, status FROM comms.messages_outbox ORDER BY 1"),
                         [("first", "suppressed"), ("other", "pending")])

    def test_sending_a_suppressed_message_after_all_is_refused(self):
        self.suppress("email", "a@b.c")
        self.send("email", "a@b.c")
        error = self.refused("FE317", "UPDATE comms.messages_outbox SET status = 'pending'", conn=self.app())
        self.assertIn("suppression list", error.diag.message_primary)
        self.sql("DELETE FROM comms.suppression_list")
        self.sql("UPDATE comms.messages_outbox SET status = 'pending', error_code = NULL")
        self.assertEqual(self.value("SELECT status FROM comms.messages_outbox"), "pending")


class Approvals(Rules):
    def ask(self, levels=2, sla=None):
        return self.value("INSERT INTO approvals.approvals (tenant_id, domain, subject_entity, subject_id, required_levels, requested_by, sla) "
                          "VALUES (%s, 'unit.price.change', 'unit', gen_random_uuid(), %s, %s, %s) RETURNING id", self.t, levels, self.user, sla)

    def decide(self, conn, approval, level, decision, note=None):
        rows = run(conn, "SELECT * FROM approvals.decide(%s, %s, %s, %s)", approval, level, decision, note)
        conn.commit()
        return rows[0]

    def history(self, approval):
        return self.sql("SELECT action, level, actor_user_id, note FROM approvals.approval_history WHERE approval_id = %s "
                        "ORDER BY created_at, id", approval)

    def test_levels_decide_in_order_and_the_history_tells(self):
        approval = self.ask(levels=3)
        boss = self.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'boss@x.y') RETURNING id", self.t)
        first, second = self.app(), self.app(user=boss)
        self.assertEqual(self.decide(first, approval, 1, "approve", "fine"), ("pending", 2))
        for level in (1, 3, None):
            self.refused("FE318", "SELECT approvals.decide(%s, %s, 'approve')", approval, level, conn=second)
        self.assertEqual(self.decide(second, approval, 2, "approve"), ("pending", 3))
        self.assertEqual(self.decide(second, approval, 3, "approve", "done"), ("approved", 3))
        self.refused("FE318", "SELECT approvals.decide(%s, 3, 'approve')", approval, conn=second)
        run(second, "UPDATE approvals.approvals SET state = 'applied'")
        second.commit()
        self.assertEqual(self.history(approval), [
            ("submitted", 1, self.user, None), ("approved", 1, self.user, "fine"), ("approved", 2, boss, None),
            ("approved", 3, boss, "done"), ("applied", 3, boss, None)])

    def test_out_of_order_levels_are_refused_in_plain_sql_too(self):
        approval = self.ask(levels=3)
        set_ = "UPDATE approvals.approvals SET %s WHERE id = '" + str(approval) + "'"
        for change in ("level = 3", "state = 'approved'", "state = 'applied'", "level = 2, state = 'approved'", "required_levels = 1",
                       "level = 0", "state = 'rejected', level = 2"):
            self.refused("FE318", set_ % change)
        self.sql(set_ % "level = 2")
        self.refused("FE318", set_ % "level = 1")
        self.sql(set_ % "state = 'rejected'")
        for change in ("state = 'pending'", "state = 'approved'", "level = 3"):
            self.refused("FE318", set_ % change)
        self.refused("FE318", "INSERT INTO approvals.approvals (tenant_id, domain, subject_entity, subject_id, requested_by, state) "
                     "VALUES ('%s', 'd', 'deal', gen_random_uuid(), '%s', 'approved')" % (self.t, self.user))

    def test_rejection_ends_it_at_any_level(self):
        approval = self.ask(levels=3)
        conn = self.app()
        self.assertEqual(self.decide(conn, approval, 1, "reject", "too cheap"), ("rejected", 1))
        self.assertEqual([row[0] for row in self.history(approval)], ["submitted", "rejected"])
        self.refused("22023", "SELECT approvals.decide(%s, 1, 'perhaps')", approval, conn=conn)

    def test_foreign_tenant_s_approval_is_not_there(self):
        approval = self.ask()
        conn = self.app(tenant=self.tenant("other"))
        self.refused("P0002", "SELECT approvals.decide(%s, 1, 'approve')", approval, conn=conn)

    def test_history_is_immutable_and_only_written_by_the_trigger(self):
        self.ask()
        self.refused("FE319", "UPDATE approvals.approval_history SET note = 'x'")
        self.refused("FE319", "DELETE FROM approvals.approval_history")
        self.refused("42501", "INSERT INTO approvals.approval_history (tenant_id, approval_id, action) "
                     "SELECT tenant_id, id, 'approved' FROM approvals.approvals", conn=self.app())

    def test_sla_runs_for_each_level_and_late_ones_are_escalated_once(self):
        approval = self.ask(levels=2, sla=datetime.timedelta(hours=1))
        due = "SELECT sla_due_at - now() BETWEEN interval '59 minutes' AND interval '1 hour' FROM approvals.approvals"
        self.assertTrue(self.value(due))
        self.sql("UPDATE approvals.approvals SET sla_due_at = now() - interval '1 minute'")
        self.assertEqual(self.sql("SELECT id, level FROM approvals.overdue"), [(approval, 1)])
        self.assertEqual(self.value("SELECT approvals.escalate_overdue()"), 1)
        self.assertEqual(self.value("SELECT approvals.escalate_overdue()"), 0)
        self.assertEqual(self.sql("SELECT user_id, category FROM comms.notifications_inbox"), [(self.user, "approvals")])
        self.decide(self.app(), approval, 1, "approve")
        self.assertTrue(self.value(due))
        self.assertEqual(self.sql("SELECT id FROM approvals.overdue"), [])
        self.assertEqual([row[0] for row in self.history(approval)], ["submitted", "escalated", "approved"])

    def test_decisions_are_audited(self):
        approval = self.ask()
        self.decide(self.app(), approval, 1, "approve")
        rows = self.sql("SELECT action::text, changed_fields FROM governance.audit_logs WHERE target_id = %s ORDER BY id", approval)
        self.assertEqual([row[0] for row in rows], ["CREATE", "UPDATE"])
        self.assertIn("level", rows[1][1])


class Contracts(Rules):
    def contract(self):
        return self.value("INSERT INTO contracts.contracts (tenant_id, title, value_minor, currency, version) "
                          "VALUES (%s, 'Fit-out', 100, 'EGP', 7) RETURNING id", self.t)

    def versions(self, contract):
        return self.sql("SELECT version, changed_fields, content ->> 'title', changed_by FROM contracts.contract_versions "
                        "WHERE contract_id = %s ORDER BY version", contract)

    def test_each_change_is_a_version(self):
        contract = self.contract()
        conn = self.app()
        run(conn, "UPDATE contracts.contracts SET title = 'Fit-out, phase 2', value_minor = 120")
        conn.commit()
        run(conn, "UPDATE contracts.contracts SET title = title")
        run(conn, "UPDATE contracts.contracts SET signature_status = 'requested', signature_provider = 'docusign', "
                  "signature_envelope_id = 'e-1', version = 99")
        conn.commit()
        self.assertEqual(self.versions(contract), [
            (1, [], "Fit-out", None), (2, ["title", "value_minor"], "Fit-out, phase 2", self.user),
            (3, ["signature_envelope_id", "signature_provider", "signature_status"], "Fit-out, phase 2", self.user)])
        self.assertEqual(self.value("SELECT version FROM contracts.contracts"), 3)
        text, stored = self.sql("SELECT content::text, content_hash FROM contracts.contract_versions WHERE version = 3")[0]
        self.assertEqual(hashlib.sha256(text.encode()).digest(), bytes(stored))
        self.assertEqual(json.loads(text)["signature_envelope_id"], "e-1")

    def test_versions_are_immutable(self):
        self.contract()
        for text in ("UPDATE contracts.contract_versions SET version = 2", "DELETE FROM contracts.contract_versions",
                     "DELETE FROM contracts.contracts"):
            self.refused("FE319", text)
        self.refused("0A000", "TRUNCATE contracts.contract_versions")
        self.refused("42501", "INSERT INTO contracts.contract_versions SELECT * FROM contracts.contract_versions", conn=self.app())
        self.sql("DELETE FROM identity.tenants")
        self.assertEqual(self.value("SELECT count(*) FROM contracts.contract_versions"), 0)

    def test_contract_and_payment_are_audited(self):
        contract = self.contract()
        payment = self.value("INSERT INTO billing.payments (tenant_id, provider, status, amount_minor, currency, method_details) "
                             "VALUES (%s, 'STRIPE', 'pending', 5, 'EGP', '{\"last4\": \"4242\"}') RETURNING id", self.t)
        rows = self.sql("SELECT target_model, target_id, new_values::text FROM governance.audit_logs WHERE tenant_id = %s "
                        "AND target_model IN ('contracts.contracts', 'billing.payments') ORDER BY id", self.t)
        self.assertEqual([row[:2] for row in rows], [("contracts.contracts", contract), ("billing.payments", payment)])
        self.assertNotIn("4242", rows[1][2])

    def test_signature_needs_its_envelope(self):
        self.refused("23514", "INSERT INTO contracts.contracts (tenant_id, title, signature_status, signature_provider) "
                     "VALUES ('%s', 'x', 'requested', 'docusign')" % self.t)


class Prices(Rules):
    def history(self, unit):
        return self.sql("SELECT price_minor, currency, changed_by_user_id FROM inventory.unit_price_history WHERE unit_id = %s "
                        "ORDER BY effective_at, id", unit)

    def test_first_change_keeps_the_price_until_then_too(self):
        unit = self.unit(self.t, self.project(self.t), price=100)
        conn = self.app()
        for price in (120, 120, 110):
            run(conn, "UPDATE inventory.units SET price_minor = %s", price)
            conn.commit()
        run(conn, "UPDATE inventory.units SET currency = 'USD'")
        conn.commit()
        self.assertEqual(self.history(unit), [(100, "EGP", None), (120, "EGP", self.user), (110, "EGP", self.user), (110, "USD", self.user)])
        self.assert_sound()

    def test_prices_that_were_stay_and_go_with_their_unit_alone(self):
        unit = self.unit(self.t, self.project(self.t), price=100)
        self.sql("UPDATE inventory.units SET price_minor = 120")
        for text in ("UPDATE inventory.unit_price_history SET price_minor = 1", "DELETE FROM inventory.unit_price_history"):
            self.refused("FE319", text)
            self.refused("42501", text, conn=self.app())
        self.refused("0A000", "TRUNCATE inventory.unit_price_history")
        self.refused("42501", "INSERT INTO inventory.unit_price_history (tenant_id, unit_id, price_minor, currency, effective_at) "
                     "VALUES (%s, %s, 1, 'EGP', now())", self.t, unit, conn=self.app())
        conn = self.app()
        run(conn, "DELETE FROM inventory.units WHERE id = %s", unit)
        conn.commit()
        self.assertEqual(self.history(unit), [])
        self.assert_sound()

    def test_price_list_in_one_statement_is_kept_for_each_unit(self):
        project = self.project(self.t)
        self.units(self.t, project, 50)
        self.sql("UPDATE inventory.units SET price_minor = price_minor + 1 WHERE price_minor > 10")
        self.assertEqual(self.value("SELECT count(*) FROM inventory.unit_price_history"), 80)
        self.assertEqual(self.value("SELECT count(*) FROM inventory.unit_price_history h JOIN inventory.units u ON u.id = h.unit_id "
                                    "AND h.price_minor = u.price_minor"), 40)


class Platform(Rules):
    def test_secret_is_not_shown_to_the_back_office(self):
        key = self.value("INSERT INTO governance.kms_keys (tenant_id, alias, provider) VALUES (%s, 'main', 'file') RETURNING id", self.t)
        self.sql("INSERT INTO governance.secrets (tenant_id, name, kms_key_id, ciphertext) VALUES (%s, 'shop', %s, %s)",
                 self.t, key, b"x" * 40)
        conn = self.app()
        self.refused("42501", "SELECT ciphertext FROM governance.secrets", conn=conn)
        self.refused("42501", "SELECT signing_key FROM integration.webhook_subscriptions", conn=conn)
        self.assertEqual(run(conn, "SELECT name FROM governance.secrets"), [("shop",)])
        self.refused("23514", "INSERT INTO governance.secrets (tenant_id, ciphertext) VALUES ('%s', 'plain')" % self.t)
        self.assertNotIn("787878", str(self.sql("SELECT new_values::text FROM governance.audit_logs WHERE target_model = 'governance.secrets'")))
        self.refused("23503", "DELETE FROM governance.kms_keys")

    def test_waitlist_of_the_service_is_seen_by_no_tenant(self):
        self.sql("INSERT INTO growth.waitlist_entries (email) VALUES ('New@One.org')")
        self.assertEqual(run(self.app(), "SELECT * FROM growth.waitlist_entries"), [])
        self.refused("23505", "INSERT INTO growth.waitlist_entries (email) VALUES ('new@one.ORG')")

    def test_global_templates_and_schemas_are_read_and_not_written_by_tenants(self):
        self.sql("INSERT INTO integration.integration_templates (code, name) VALUES ('github', 'GitHub')")
        conn = self.app()
        self.assertEqual(run(conn, "SELECT code FROM integration.integration_templates"), [("github",)])
        run(conn, "UPDATE integration.integration_templates SET name = 'x'")
        self.assertEqual(run(conn, "SELECT name FROM integration.integration_templates"), [("GitHub",)])
        self.refused("42501", "INSERT INTO integration.integration_templates (code, name) VALUES ('x', 'X')", conn=conn)

    def test_room_scan_takes_its_shape_and_refuses_nonsense(self):
        unit = self.unit(self.t, self.project(self.t))
        session = self.value("INSERT INTO roomscan.room_scan_sessions (tenant_id, unit_id, started_at) VALUES (%s, %s, now()) RETURNING id",
                             self.t, unit)
        model = self.value("INSERT INTO roomscan.room_models (tenant_id, session_id, name, length_m, width_m, height_m) "
                           "VALUES (%s, %s, 'Kitchen', 4.2, 3.1, 2.7) RETURNING id", self.t, session)
        matrix = json.dumps([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
        wall = self.value("INSERT INTO roomscan.room_surfaces (tenant_id, model_id, category, transform) VALUES (%s, %s, 'wall', %s) RETURNING id",
                          self.t, model, matrix)
        add = "INSERT INTO roomscan.room_surfaces (tenant_id, model_id, parent_surface_id, category, transform, is_open) VALUES (%s, %s, %s, %s, %s, %s)"
        self.sql(add, self.t, model, wall, "door", matrix, True)
        self.refused("23514", add, self.t, model, wall, "window", matrix, True)
        self.refused("23514", add, self.t, model, wall, "hatch", matrix, None)
        for wrong in ("[1, 2]", "{}", json.dumps([1] * 15 + ["x"]), "null"):
            self.refused("23514", add, self.t, model, wall, "window", wrong, None)
        measure = "INSERT INTO roomscan.room_measurements (tenant_id, model_id, kind, value, unit) VALUES (%s, %s, %s, 3, %s)"
        self.sql(measure, self.t, model, "area", "m2")
        self.refused("23514", measure, self.t, model, "area", "m")
        self.sql("DELETE FROM inventory.units")
        self.assertEqual(self.value("SELECT count(*) FROM roomscan.room_surfaces"), 0)


if __name__ == "__main__":
    unittest.main()
