#!/usr/bin/python3
"""Who gets in: tokens, certificates, revocation; asked by the agent and by a foreign TLS client."""

import base64
import datetime
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import ferry_run
from ferry_run import wait_until

UPGRADE = ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Protocol: ferry.v1\r\n\r\n").encode()


def openssl(*arguments, stdin=None):
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


class Identity(ferry_run.SiteCase):

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="ferry-identity-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def knock(self, certificate=None, key=None, port=None, body=UPGRADE):
        """Asks for the websocket with a certificate (or none): the HTTP status, or None when TLS ends it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(certificate, key)
        try:
            with socket.create_connection(("127.0.0.1", port or self.hub.device_port), timeout=20) as raw:
                with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
                    tls.sendall(body)
                    answer = tls.recv(4096)
        except (ssl.SSLError, ConnectionError):
            return None
        return int(answer.split()[1]) if answer.startswith(b"HTTP/1.") else None

    def identity(self, device):
        return (os.path.join(device.state, "identity", "device.crt"), os.path.join(device.state, "identity", "device.key"))

    def ca(self):
        return os.path.join(self.hub.state, "ca.crt"), os.path.join(self.hub.state, "ca.key")

    def certificate(self, name, ca=None, ca_key=None, days=None, start=None, end=None, usage="clientAuth"):
        """A certificate made by openssl: (certificate, key). Without a CA it signs itself."""
        key, request, out, extensions = (self.path(name + e) for e in (".key", ".csr", ".crt", ".ext"))
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=" + name, "-out", request)
        with open(extensions, "w", encoding="utf-8") as f:
            f.write("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\n" % usage)
        if ca is None:
            openssl("x509", "-req", "-in", request, "-signkey", key, "-days", "30", "-extfile", extensions, "-out", out)
            return out, key
        if start is None:
            openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-set_serial", "77", "-days", str(days or 30),
                    "-extfile", extensions, "-out", out)
            return out, key
        with open(self.path("index.txt"), "w", encoding="utf-8"):
            pass
        with open(self.path("ca.cnf"), "w", encoding="utf-8") as f:
            f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nnew_certs_dir=%s\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n"
                    "unique_subject=no\n[p]\ncommonName=supplied\n" % (self.path("index.txt"), self.folder))
        openssl("ca", "-batch", "-config", self.path("ca.cnf"), "-cert", ca, "-keyfile", ca_key, "-in", request, "-out", out,
                "-notext", "-extfile", extensions, "-startdate", start, "-enddate", end)
        return out, key

    def register(self, certificate, device):
        """Writes a certificate's fingerprint into a device's row, as only the hub's own enrolment may."""
        der = openssl("x509", "-in", certificate, "-outform", "DER")
        self.site.sql("UPDATE ferry.device SET fingerprint = %s WHERE id = %s", hashlib.sha256(der).digest(), device.id)

    # ---- certificates at the device port

    def test_enrolled_device_gets_in_and_one_without_certificate_does_not(self):
        a = self.device("a", start=False)
        self.assertEqual(self.knock(*self.identity(a)), 101)
        self.assertNotEqual(self.knock(), 101)

    def test_certificates_that_the_ca_did_not_issue_are_refused(self):
        a = self.device("a", start=False)
        other_key, other_ca = self.path("o.key"), self.path("o.crt")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", other_key)
        subject = openssl("x509", "-in", self.ca()[0], "-noout", "-subject", "-nameopt", "compat").decode().strip()
        openssl("req", "-x509", "-new", "-key", other_key, "-days", "30", "-out", other_ca,
                "-subj", "/" + subject.split("=", 1)[1].strip().lstrip("/"))
        for name, made in (("self-signed", self.certificate("self")),
                           ("other CA of the same name", self.certificate("other", other_ca, other_key))):
            self.register(made[0], a)  # even a fingerprint in the table does not help
            self.wait_known(made[0])
            self.assertNotEqual(self.knock(*made), 101, name)

    def wait_known(self, certificate):
        """Until the hub has read the table again: a device enrolled now is known to it only after what came before."""
        before = self.hub.status()["devices"]
        b = self.device("marker", start=False)
        wait_until(lambda: self.hub.status()["devices"] != before, 10)
        self.assertEqual(self.knock(*self.identity(b)), 101)

    def test_expired_and_not_yet_valid_certificates_are_refused(self):
        a = self.device("a", start=False)
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)

        def text(t):
            return t.strftime("%Y%m%d%H%M%SZ")
        for name, start, end in (("expired", now - 9 * day, now - day), ("early", now + day, now + 9 * day)):
            made = self.certificate(name, *self.ca(), start=text(start), end=text(end))
            self.register(made[0], a)
            self.wait_known(made[0])
            self.assertNotEqual(self.knock(*made), 101, name)

    def test_certificate_of_the_ca_that_is_no_devices_is_refused(self):
        made = self.certificate("stranger", *self.ca())
        self.assertEqual(self.knock(*made), 404)
        server = self.certificate("server", *self.ca(), usage="serverAuth")
        self.assertNotEqual(self.knock(*server), 101)
        self.assertNotEqual(self.knock(os.path.join(self.hub.state, "server.crt"), os.path.join(self.hub.state, "server.key")), 101)

    def test_device_port_answers_only_the_websocket(self):
        a = self.device("a", start=False)
        for body in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v1/ca HTTP/1.1\r\nHost: x\r\n\r\n", b"garbage\r\n\r\n",
                     UPGRADE.replace(b"ferry.v1", b"other.v1")):
            self.assertNotEqual(self.knock(*self.identity(a), body=body), 101)
        b = self.device("b")
        self.settle(b)

    # ---- revocation

    def test_revoked_device_is_cut_at_once_and_told_why(self):
        unit = self.new_unit()
        a, b = self.device("a"), self.device("b")
        self.settle()
        self.hub.json("device", "revoke", a.id)
        self.assertEqual(a.wait_exit(), 5)
        self.assertIn("[REVOKED]", a.log_text())
        self.site.sql("UPDATE inventory.units SET floor = 9 WHERE id = %s", unit)
        self.settle(b)
        self.assertIsNone(a.row("units", unit)["floor"])
        done = a.run("sync")
        self.assertEqual(done.returncode, 5)
        self.assertIn("[REVOKED]", done.stderr)
        self.assertEqual(self.knock(*self.identity(a)), 403)

    def test_revocation_by_plain_sql_is_noticed_by_a_running_hub(self):
        a = self.device("a")
        self.settle()
        self.site.sql("SELECT ferry.revoke_device(%s)", a.id)
        self.assertEqual(a.wait_exit(), 5)

    def test_revocation_holds_over_a_restart_of_the_hub(self):
        a, b = self.device("a"), self.device("b")
        self.settle()
        self.hub.json("device", "revoke", a.id)
        a.wait_exit()
        self.hub.stop()
        self.hub.start()
        self.assertEqual(self.knock(*self.identity(a)), 403)
        self.settle(b)

    def test_device_that_was_deleted_is_unknown(self):
        a = self.device("a")
        self.settle()
        a.stop()
        self.site.sql("DELETE FROM ferry.device WHERE id = %s", a.id)
        wait_until(lambda: self.knock(*self.identity(a)) == 404, 10)
        done = a.run("sync", "--wait", "2")
        self.assertEqual((done.returncode, "[UNKNOWN_DEVICE]" in done.stderr), (5, True), done.stderr)

    # ---- tokens

    def enrol(self, token, name="x"):
        """A fresh device tries a token: the finished command, and the device."""
        folder = self.path("device-%s-%d" % (name, len(os.listdir(self.folder))))
        os.makedirs(folder)
        agent = ferry_run.Agent(folder)
        return agent.run("enrol", token, "--json"), agent

    def test_token_works_once(self):
        token = self.hub.token(self.tenant, "once")
        first, device = self.enrol(token)
        self.assertEqual(first.returncode, 0, first.stderr)
        second, other = self.enrol(token)
        self.assertEqual(second.returncode, 5)
        self.assertEqual(json.loads(second.stdout)["error"]["code"], "BAD_TOKEN")
        self.assertIn("used", json.loads(second.stdout)["error"]["sentence"])
        self.assertFalse(os.path.exists(os.path.join(other.state, "identity")))
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.device WHERE name = 'once'"), 1)
        self.assertEqual(os.stat(self.identity(device)[1]).st_mode & 0o777, 0o600)

    def test_of_many_who_use_one_token_at_once_one_gets_in(self):
        token = self.hub.token(self.tenant, "race")
        results = []
        threads = [threading.Thread(target=lambda n=n: results.append(self.enrol(token, str(n))[0].returncode)) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(results), [0, 5, 5, 5, 5, 5])

    def test_expired_token_is_refused(self):
        token = self.hub.token(self.tenant, "late", ttl="1s")
        self.site.sql("UPDATE ferry.token SET expires_at = now() - interval '1 second' WHERE name = 'late'")
        done, _ = self.enrol(token)
        self.assertEqual(done.returncode, 5)
        self.assertIn("expired", done.stdout)

    def test_token_of_another_hub_is_refused_before_the_secret_is_sent(self):
        token = self.hub.token(self.tenant, "mine")
        other = ferry_run.Hub(self.path("hub"), self.db)
        self.addCleanup(other.kill9)
        other.start()
        folder = self.path("device")
        os.makedirs(folder)
        agent = ferry_run.Agent(folder)
        done = agent.run("enrol", token, "--hub", "127.0.0.1:%d" % other.enrol_port, "--json")
        self.assertEqual(done.returncode, 5)
        self.assertIn("CA differs", done.stdout)
        self.assertIsNone(self.site.value("SELECT used_at FROM ferry.token WHERE name = 'mine'"))
        self.assertNotIn("enrolment_refused", other.log_text())

    def test_secret_is_kept_nowhere(self):
        token = self.hub.token(self.tenant, "secret")
        secret = base64.urlsafe_b64decode(token[len("ferry1."):] + "==")[:32]
        stored = bytes(self.site.value("SELECT secret_hash FROM ferry.token WHERE name = 'secret'"))
        self.assertEqual(stored, hashlib.sha256(secret).digest())
        done, device = self.enrol(token)
        self.assertEqual(done.returncode, 0)
        spoken = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
        for log in (self.hub.log_text(), device.log_text(), done.stdout, done.stderr):
            self.assertNotIn(spoken, log)

    # ---- the enrolment port

    def post(self, body, path="/v1/enrol", method="POST"):
        head = "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (method, path, len(body))
        return self.knock(port=self.hub.enrol_port, body=head.encode() + body)

    def test_enrolment_port_refuses_what_is_no_enrolment(self):
        request = self.path("r.csr")
        key = self.path("r.key")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=x", "-out", request)
        with open(request, encoding="ascii") as f:
            pem = f.read()
        secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
        bodies = {b"": 400, b"{": 400, b"[]": 403, b"{}": 403, b"\xff" * 100: 400, b"[" * 4000: 400,
                  json.dumps({"secret": secret}).encode(): 400,
                  json.dumps({"secret": secret, "request": "no request"}).encode(): 400,
                  json.dumps({"secret": secret, "request": pem[:200]}).encode(): 400,
                  json.dumps({"secret": "short", "request": pem}).encode(): 403,
                  json.dumps({"secret": secret, "request": pem}).encode(): 403}
        for body, status in bodies.items():
            self.assertEqual(self.post(body), status, body[:60])
        self.assertIn(self.post(b"x" * 20000), (413, None))
        self.assertEqual(self.post(b"", "/v1/other"), 404)
        self.assertEqual(self.post(b"", "/v1/enrol", "GET"), 404)
        self.assertEqual(self.enrol(self.hub.token(self.tenant, "after"))[0].returncode, 0)

    def test_request_that_is_signed_by_another_key_is_refused(self):
        token = self.hub.token(self.tenant, "forged")
        secret = base64.urlsafe_b64decode(token[len("ferry1."):] + "==")[:32]
        key = self.path("k.key")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        der = bytearray(openssl("req", "-new", "-key", key, "-subj", "/CN=x", "-outform", "DER"))
        der[-5] ^= 1  # within the signature
        pem = openssl("base64", stdin=bytes(der)).decode()
        body = json.dumps({"secret": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(),
                           "request": "-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n" % pem})
        self.assertEqual(self.post(body.encode()), 400)
        self.assertIsNone(self.site.value("SELECT used_at FROM ferry.token WHERE name = 'forged'"))

    def test_rsa_request_is_refused_and_the_token_stays_good(self):
        token = self.hub.token(self.tenant, "rsa")
        secret = base64.urlsafe_b64decode(token[len("ferry1."):] + "==")[:32]
        key, request = self.path("rsa.key"), self.path("rsa.csr")
        openssl("genrsa", "-out", key, "2048")
        openssl("req", "-new", "-key", key, "-subj", "/CN=x", "-out", request)
        with open(request, encoding="ascii") as f:
            body = json.dumps({"secret": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(), "request": f.read()})
        self.assertEqual(self.post(body.encode()), 400)
        self.assertEqual(self.enrol(token)[0].returncode, 0)

    def test_issued_certificate_names_the_device_and_nothing_of_the_request(self):
        a = self.device("a", start=False)
        text = openssl("x509", "-in", self.identity(a)[0], "-noout", "-subject", "-ext", "extendedKeyUsage,basicConstraints").decode()
        self.assertIn(a.id, text)
        self.assertIn("TLS Web Client Authentication", text)
        self.assertNotIn("Server", text)
        self.assertIn("CA:FALSE", text)
        openssl("verify", "-CAfile", self.ca()[0], self.identity(a)[0])

    # ---- several hubs

    def test_device_enrolled_at_one_hub_gets_in_at_another_of_the_same_ca(self):
        self.new_unit()
        folder = self.path("hub2")
        os.makedirs(os.path.join(folder, "state"))
        for name in ("ca.crt", "ca.key"):
            shutil.copy(os.path.join(self.hub.state, name), os.path.join(folder, "state", name))
        other = ferry_run.Hub(folder, self.db)
        self.addCleanup(other.kill9)
        other.start()
        a = self.device("a", start=False, hub_port=other.device_port)
        a.sync()
        self.assert_same(a)
        b = self.device("b")
        self.settle(b)
        a.start()
        a.sql("UPDATE units SET floor = 4")
        self.settle(a, b)
        self.assertEqual(b.value("SELECT floor FROM units"), 4)
        self.hub.json("device", "revoke", a.id)
        self.assertEqual(a.wait_exit(), 5)


if __name__ == "__main__":
    unittest.main()
