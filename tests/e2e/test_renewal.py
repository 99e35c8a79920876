#!/usr/bin/python3
"""Certificates of devices renew themselves, and only theirs."""

import base64
import json
import os
import ssl
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

from ferry_run import SiteCase, wait_until


def openssl(*arguments, stdin=None):
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


def file(folder, name):
    return os.path.join(folder, name)


def text(path):
    with open(path, encoding="ascii") as f:
        return f.read()


class Foreign:
    """Asks for a renewal as the page of the protocol says, with openssl alone."""

    def __init__(self, case, device):
        self.hub = case.hub
        self.folder = tempfile.mkdtemp(prefix="ferry-renewal-")
        case.addCleanup(subprocess.run, ["rm", "-r", self.folder], check=True)
        identity = os.path.join(device.state, "identity")
        self.certificate, self.key, self.ca = (text(file(identity, n)) for n in ("device.crt", "device.key", "ca.crt"))

    def write(self, name, content):
        path = file(self.folder, name)
        with open(path, "w", encoding="ascii") as f:
            f.write(content)
        return path

    def ask(self, certificate=None, signing_key=None):
        """(HTTP status, answer)."""
        new = file(self.folder, "new.key")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", new)
        request = openssl("req", "-new", "-key", new, "-subj", "/CN=device").decode()
        key = self.write("sign.key", signing_key or self.key)
        signature = openssl("dgst", "-sha256", "-sign", key, stdin=b"ferry.v1 renew\n" + request.encode())
        body = {"certificate": certificate or self.certificate, "request": request,
                "signature": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}
        context = ssl.create_default_context(cadata=self.ca)
        try:
            with urllib.request.urlopen(urllib.request.Request(
                    "https://127.0.0.1:%d/v1/renew" % self.hub.enrol_port, json.dumps(body).encode()),
                    context=context, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)


class Renewal(SiteCase):

    HUB_SETTINGS = {"certificate.device": "9s"}

    def prints(self, device):
        return self.site.sql("SELECT fingerprint, next_fingerprint, not_after FROM ferry.device WHERE id = %s", device.id)[0]

    # ---- the agent

    def test_running_agent_outlives_its_certificate(self):
        unit = self.new_unit(floor=1)
        a = self.device("a")
        self.settle()
        first = self.prints(a)
        wait_until(lambda: self.prints(a)[2] > first[2], 30, "the new certificate to be seen")
        self.assertIsNone(self.prints(a)[1])  # the former one is retired
        self.assertNotEqual(self.prints(a)[0], first[0])
        # Long after the first one has expired the device still comes and goes.
        wait_until(lambda: self.site.value("SELECT %s < now()", first[2]), 30, "the first certificate's end")
        a.stop()
        a.start()
        a.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
        self.settle()
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 2)
        self.assertNotIn("certificate_not_renewed", a.log_text())

    def test_agent_that_stored_its_new_certificate_and_was_killed_gets_in_with_it(self):
        a = self.device("a")
        self.settle()
        path = file(os.path.join(a.state, "identity"), "device.crt")
        first = text(path)
        wait_until(lambda: text(path) != first, 30, "the new certificate")
        a.kill9()
        a.start()
        self.settle()

    # ---- the hub, asked by a foreign program

    def test_both_certificates_are_good_until_the_new_one_was_used(self):
        a = self.device("a", start=False)
        status, answer = Foreign(self, a).ask()
        self.assertEqual(status, 200, answer)
        self.assertEqual((answer["device"], answer["tenant"]), (a.id, self.tenant))
        self.assertIsNotNone(self.prints(a)[1])
        a.start()  # with the former one: the answer was lost
        self.settle(a)
        status, answer = Foreign(self, a).ask()  # and once more
        self.assertEqual(status, 200, answer)

    def test_revoked_device_cannot_renew(self):
        a = self.device("a", start=False)
        foreign = Foreign(self, a)
        self.hub.json("device", "revoke", a.id)
        status, answer = foreign.ask()
        self.assertEqual((status, answer["error"]["code"]), (403, "REVOKED"))
        self.assertIsNone(self.prints(a)[1])

    def test_who_lacks_the_key_cannot_renew(self):
        a, b = self.device("a", start=False), self.device("b", start=False)
        status, answer = Foreign(self, a).ask(signing_key=Foreign(self, b).key)
        self.assertEqual((status, answer["error"]["code"]), (400, "BAD_REQUEST"))
        self.assertIsNone(self.prints(a)[1])

    def test_certificate_of_another_ca_cannot_be_renewed(self):
        a = self.device("a", start=False)
        foreign = Foreign(self, a)
        self_made = openssl("req", "-x509", "-new", "-key", foreign.write("k", foreign.key), "-days", "3", "-subj", "/CN=x").decode()
        status, answer = foreign.ask(certificate=self_made)
        self.assertEqual((status, answer["error"]["code"]), (403, "NO_CERTIFICATE"))

    def test_expired_certificate_cannot_be_renewed(self):
        a = self.device("a", start=False)
        foreign = Foreign(self, a)
        wait_until(lambda: self.site.value("SELECT not_after < now() - interval '2 seconds' FROM ferry.device WHERE id = %s", a.id), 30, "its end")
        status, answer = foreign.ask()
        self.assertEqual((status, answer["error"]["sentence"]), (403, "the certificate has expired"))

    def test_garbage_is_refused_with_a_code(self):
        a = self.device("a", start=False)
        foreign = Foreign(self, a)
        status, answer = foreign.ask(certificate="-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
        self.assertEqual((status, answer["error"]["code"]), (400, "BAD_REQUEST"))


if __name__ == "__main__":
    unittest.main()
