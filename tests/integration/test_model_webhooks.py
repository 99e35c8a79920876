#!/usr/bin/python3
"""Webhooks: real HTTP targets get signed requests, once or again; what became of each is kept."""

import hashlib
import hmac
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import ferry_pg
import ferry_run
from ferry_case import HubCase, run

HUB = ferry_run.program("ferry-hub")


class Target:
    """An HTTP server that keeps what it got and answers as told."""

    def __init__(self, answer=lambda n: 204, tls=None):
        self.requests = []
        self.answer = answer
        self.location = None
        target = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                target.requests.append((self.path, self.headers, body))
                code = target.answer(len(target.requests))
                if code is None:
                    self.close_connection = True  # no answer at all
                    return
                self.send_response(code)
                if target.location:
                    self.send_header("Location", target.location)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 100  # senders come at once: what does not fit waits for seconds

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", self.port)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Webhooks(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.folder = tempfile.mkdtemp(prefix="ferry-webhooks-")
        self.addCleanup(shutil.rmtree, self.folder)

    def target(self, *args, **kw):
        target = Target(*args, **kw)
        self.addCleanup(target.close)
        return target

    def subscribe(self, url, event="invoice.paid", **more):
        columns = {"tenant_id": self.t, "event": event, "target_url": url, "retry_delay": "1 millisecond", **more}
        return self.value("INSERT INTO integration.webhook_subscriptions (%s) VALUES (%s) RETURNING id"
                          % (", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values())

    def publish(self, payload, key=None, event="invoice.paid"):
        return self.value("SELECT integration.publish(%s, %s, %s, %s)", self.t, event, json.dumps(payload), key)

    def command(self, *options):
        return [HUB, "webhooks", "deliver", *options, "--database", self.db.dsn(), "--state-dir", self.folder]

    def deliver(self, *options):
        done = subprocess.run(self.command("--once", "--json", *options), capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def deliver_all(self, *options):
        """Rounds until nothing waits; what pauses come due meanwhile is taken in the next."""
        total = {}
        end = time.monotonic() + 60
        while self.value("SELECT count(*) FROM integration.webhook_deliveries WHERE status IN ('pending', 'sending')"):
            self.assertLess(time.monotonic(), end, "deliveries do not settle")
            for key, n in self.deliver(*options).items():
                total[key] = total.get(key, 0) + n
        return total

    def state(self):
        return self.sql("SELECT status, attempt, response_code, error_message FROM integration.webhook_deliveries ORDER BY id")

    def test_delivery_is_signed_with_the_subscription_s_key_over_time_and_body(self):
        target = self.target()
        key = os.urandom(32)
        self.subscribe(target.url + "/hooks?x=1", signing_key=key, headers='{"Authorization": "Bearer t"}')
        self.assertEqual(self.publish({"amount": 5, "name": "Zoë"}, "inv-7"), 1)
        self.assertEqual(self.deliver(), {"sent": 1, "delivered": 1, "again": 0, "failed": 0})
        (path, headers, body), = target.requests
        self.assertEqual((path, headers["Content-Type"], headers["Authorization"]), ("/hooks?x=1", "application/json", "Bearer t"))
        at, signature = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["Ferry-Signature"]).groups()
        self.assertEqual(signature, hmac.new(key, at.encode() + b"." + body, hashlib.sha256).hexdigest())
        self.assertLess(abs(int(at) - time.time()), 60)
        document = json.loads(body)
        self.assertEqual((document["event"], document["data"]), ("invoice.paid", {"amount": 5, "name": "Zoë"}))
        self.assertEqual(headers["Ferry-Delivery"], document["id"])
        self.assertTrue(headers["Idempotency-Key"].startswith("inv-7:"))
        self.assertEqual(self.state(), [("delivered", 1, 204, None)])

    def test_hmac_is_that_of_the_standard(self):
        for key, message in ((b"k", b""), (b"x" * 64, b"abc"), (os.urandom(100), os.urandom(300))):
            self.assertEqual(bytes(self.value("SELECT integration.hmac_sha256(%s, %s)", key, message)),
                             hmac.new(key, message, hashlib.sha256).digest())

    def test_failure_is_tried_again_with_the_same_key_until_it_succeeds(self):
        target = self.target(lambda n: {1: 500, 2: None, 3: 302}.get(n, 200))
        self.subscribe(target.url)
        self.publish({"a": 1})
        self.assertEqual(self.deliver_all(), {"sent": 4, "delivered": 1, "again": 3, "failed": 0})
        self.assertEqual(self.state(), [("delivered", 4, 200, None)])
        self.assertEqual(len({headers["Idempotency-Key"] for _, headers, _ in target.requests}), 1)
        self.assertEqual([headers["Ferry-Attempt"] for _, headers, _ in target.requests], ["1", "2", "3", "4"])

    def test_retries_are_bounded_and_the_answer_is_kept(self):
        target = self.target(lambda n: 503)
        self.subscribe(target.url, max_attempts=3)
        self.publish({})
        self.assertEqual(self.deliver_all(), {"sent": 3, "delivered": 0, "again": 2, "failed": 1})
        self.assertEqual(self.state(), [("failed", 3, 503, "the target answered 503")])
        self.assertEqual(self.deliver()["sent"], 0)
        self.assertEqual(len(target.requests), 3)

    def test_target_that_is_not_there_is_noted_without_a_code(self):
        target = Target()
        target.close()
        self.subscribe(target.url, max_attempts=1)
        self.publish({})
        self.deliver()
        (status, attempt, code, error), = self.state()
        self.assertEqual((status, attempt, code), ("failed", 1, None))
        self.assertTrue(error)

    def test_redirect_is_not_followed(self):
        elsewhere = self.target()
        target = self.target(lambda n: 307)
        target.location = elsewhere.url + "/stolen"
        self.subscribe(target.url, max_attempts=2)
        self.publish({})
        self.deliver_all()
        self.assertEqual(self.state(), [("failed", 2, 307, "the target answered 307")])
        self.assertEqual(elsewhere.requests, [])

    def test_target_that_never_answers_costs_its_timeout_and_nobody_else_anything(self):
        ended = threading.Event()
        self.addCleanup(ended.set)
        silent = self.target(lambda n: ended.wait(60) and None)
        prompt = self.target()
        self.subscribe(silent.url, max_attempts=1)
        self.subscribe(prompt.url)
        self.publish({})
        began = time.monotonic()
        self.assertEqual(self.deliver("--timeout", "1"), {"sent": 2, "delivered": 1, "again": 0, "failed": 1})
        self.assertLess(time.monotonic() - began, 15)
        self.assertEqual(sorted((status, code) for status, _, code, _ in self.state()), [("delivered", 204), ("failed", None)])

    def test_what_was_published_is_not_changed(self):
        self.subscribe("https://x.y")
        self.publish({"n": 1}, "k")
        for change in ("payload = '{}'", "event = 'other'", "idempotency_key = 'z'"):
            self.refused("FE319", "UPDATE integration.webhook_deliveries SET " + change)
        self.sql("UPDATE integration.webhook_deliveries SET status = 'cancelled'")
        self.sql("DELETE FROM integration.webhook_deliveries")

    def test_pauses_double_and_have_an_upper_bound(self):
        self.subscribe("https://x.y", retry_delay="30 seconds", max_attempts=20)
        self.publish({})
        pauses = []
        for attempt in (1, 2, 3, 4, 19):
            self.sql("UPDATE integration.webhook_deliveries SET next_attempt_at = now(), attempt = %s, status = 'pending'", attempt - 1)
            (tenant, key, n), = self.sql("SELECT tenant_id, id, attempt FROM integration.claim_deliveries()")
            self.assertEqual((n, self.value("SELECT integration.settle_delivery(%s, %s, %s, 500)", tenant, key, n)), (attempt, "pending"))
            pauses.append(float(self.value("SELECT extract(epoch FROM next_attempt_at - now()) FROM integration.webhook_deliveries")))
        for pause, base in zip(pauses, (30, 60, 120, 240, 21600)):
            self.assertTrue(0.75 * base < pause <= 1.21 * base, pauses)

    def test_gone_target_ends_its_subscription(self):
        target = self.target(lambda n: 410)
        self.subscribe(target.url)
        self.publish({})
        self.deliver_all()
        self.assertEqual(self.state()[0][:3], ("failed", 1, 410))
        self.assertEqual(self.publish({}), 0)

    def test_repeated_key_adds_no_delivery(self):
        self.subscribe("https://x.y")
        self.subscribe("https://x.z", event="*")
        self.assertEqual([self.publish({}, "k"), self.publish({}, "k"), self.publish({}, "k", event="other")], [2, 0, 0])
        self.refused("23505", "INSERT INTO integration.webhook_deliveries (tenant_id, subscription_id, event, payload, idempotency_key) "
                     "SELECT tenant_id, subscription_id, event, payload, idempotency_key FROM integration.webhook_deliveries LIMIT 1")

    def test_payload_must_fit_the_schema_of_its_event(self):
        self.sql("INSERT INTO integration.schema_definitions (tenant_id, subject, version, json_schema) VALUES "
                 "(%s, 'invoice.paid', 1, '{\"required\": [\"amount\"]}'), (%s, 'invoice.paid', 2, '{\"required\": [\"total\"]}')", self.t, self.t)
        self.subscribe("https://x.y", schema_version=1)
        self.assertEqual(self.publish({"amount": 1}), 1)
        error = self.refused("FE320", "SELECT integration.publish(%s, 'invoice.paid', '{}')", self.t)
        self.assertIn("$.amount is missing", error.diag.message_primary)

    def test_plain_http_goes_to_this_machine_alone_unless_it_is_allowed(self):
        self.subscribe("http://192.0.2.1:9/", max_attempts=1)
        self.publish({})
        self.deliver()
        self.assertIn("plain http", self.state()[0][3])
        self.sql("DELETE FROM integration.webhook_deliveries")
        self.publish({})
        self.deliver("--allow-http", "--timeout", "1")
        self.assertNotIn("plain http", self.state()[0][3])

    def test_addresses_that_no_request_can_hold_are_refused(self):
        for url in ("http://user@127.0.0.1/", "http://127.0.0.1:0/", "http://127.0.0.1:70000/", "http://[::1/", "https://x.y/#part",
                    "http://127.0.0.1/a\tb", "http://ex%41mple/", "http://a:b:c/"):
            self.subscribe(url, max_attempts=1)
            self.publish({})
            self.deliver()
            (status, _, code, error), = self.state()
            self.assertEqual((status, code), ("failed", None), url)
            self.assertIn("the target's address", error, url)
            self.sql("DELETE FROM integration.webhook_subscriptions")
        for url in ("ftp://x.y", "https://", "x.y", "https:///path"):
            self.refused("23514", "INSERT INTO integration.webhook_subscriptions (tenant_id, event, target_url) VALUES (%s, 'e', %s)", self.t, url)
        for headers in ('{"Host": "x"}', '{"ferry-signature": "x"}', '{"A": "x\\r\\nB: y"}', '{"A B": "x"}', '{"A": 5}', "[]",
                        json.dumps({"A": "x" * 2000})):
            self.refused("23514", "INSERT INTO integration.webhook_subscriptions (tenant_id, event, target_url, headers) "
                         "VALUES (%s, 'e', 'https://x.y', %s)", self.t, headers)

    def certificate(self, name, ca=None):
        path = os.path.join(self.folder, name)
        extra = ["-CA", ca + ".crt", "-CAkey", ca + ".key", "-addext", "subjectAltName=IP:127.0.0.1"] if ca else []
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=" + name, "-keyout", path + ".key", "-out", path + ".crt", *extra],
                       check=True, capture_output=True)
        return path

    def test_https_is_verified_against_the_cas_given(self):
        own, other = self.certificate("own"), self.certificate("other")
        server = self.certificate("server", own)
        target = self.target(tls=(server + ".crt", server + ".key"))
        self.subscribe(target.url, max_attempts=1)
        bundle = os.path.join(self.folder, "bundle.crt")
        with open(bundle, "w", encoding="utf-8") as out:
            for name in (other, own):
                with open(name + ".crt", encoding="utf-8") as part:
                    out.write(part.read())
        self.publish({"a": 1})
        self.assertEqual(self.deliver("--ca-file", other + ".crt")["failed"], 1)
        self.assertEqual(target.requests, [])
        self.publish({"a": 2})
        self.assertEqual(self.deliver("--ca-file", bundle)["delivered"], 1)
        self.assertEqual([json.loads(body)["data"] for _, _, body in target.requests], [{"a": 2}])

    def test_many_deliveries_go_out_and_two_senders_send_none_twice(self):
        target = self.target()
        self.subscribe(target.url)
        for i in range(70):
            self.publish({"n": i})
        senders = [subprocess.Popen(self.command("--once", "--json"), stdout=subprocess.PIPE, text=True) for _ in range(2)]
        counts = [json.loads(sender.communicate(timeout=120)[0]) for sender in senders]
        counts.append(self.deliver_all())  # what failed at the first go waits a moment, and may find both senders gone
        self.assertEqual(sum(c.get("delivered", 0) for c in counts), 70, (counts, set(self.state())))
        self.assertEqual(sorted(json.loads(body)["data"]["n"] for _, _, body in target.requests), list(range(70)))

    def test_delivery_of_a_sender_that_died_is_taken_again(self):
        target = self.target()
        self.subscribe(target.url, max_attempts=2)
        self.publish({})
        (tenant, key, attempt), = self.sql("SELECT tenant_id, id, attempt FROM integration.claim_deliveries(5, '1 millisecond')")
        self.assertEqual(self.deliver_all()["delivered"], 1)
        self.assertIsNone(self.value("SELECT integration.settle_delivery(%s, %s, %s, 500)", tenant, key, attempt))
        self.assertEqual(self.state(), [("delivered", 2, 204, None)])
        self.sql("UPDATE integration.webhook_deliveries SET status = 'sending', next_attempt_at = now()")
        self.assertEqual(self.deliver()["sent"], 0)
        self.assertEqual(self.state()[0][0], "failed")

    def test_sender_runs_until_it_is_ended(self):
        target = self.target()
        self.subscribe(target.url)
        sender = subprocess.Popen(self.command("--json"), stdout=subprocess.PIPE, text=True)
        self.addCleanup(sender.kill)
        self.publish({})
        ferry_pg.wait_until(lambda: target.requests, 30, "the first delivery")
        self.publish({})
        ferry_pg.wait_until(lambda: len(target.requests) == 2, 30, "the second delivery")
        ferry_pg.wait_until(lambda: self.state()[1][0] == "delivered", 30, "its outcome")
        sender.send_signal(signal.SIGTERM)
        self.assertEqual(json.loads(sender.communicate(timeout=30)[0])["delivered"], 2)
        self.assertEqual(sender.returncode, 0)

    def test_hub_s_role_sends_without_reading_the_keys(self):
        self.subscribe("https://x.y")
        conn = self.conn("ferry_hub", tenant=self.t)
        self.refused("42501", "SELECT * FROM integration.webhook_subscriptions", conn=conn)
        self.refused("42501", "SELECT integration.purge_deliveries(now())", conn=conn)
        self.assertEqual(run(conn, "SELECT * FROM integration.claim_deliveries()"), [])

    def test_old_settled_deliveries_are_purged_after_a_dry_run(self):
        self.subscribe("https://x.y")
        for _ in range(3):
            self.publish({})
        self.sql("UPDATE integration.webhook_deliveries SET status = 'delivered', created_at = now() - interval '40 days' "
                 "WHERE id IN (SELECT id FROM integration.webhook_deliveries ORDER BY id LIMIT 2)")
        purge = "SELECT integration.purge_deliveries(now() - interval '30 days'%s)"
        self.assertEqual(self.value(purge % ""), 2)
        self.assertEqual(self.value(purge % ", false"), 2)
        self.assertEqual(len(self.state()), 1)


if __name__ == "__main__":
    unittest.main()
