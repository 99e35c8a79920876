#!/usr/bin/python3
# ferry-test: asan quick
"""Which certificates get into a link server, asked by a foreign client.

The client is the openssl command line, the certificates are made with it too, so that a fault
of our TLS libraries cannot hide on both ends. "In" means that the websocket upgrade is
answered with 101 on a connection with exactly the certificate, server name (SNI) and TLS
version of the case; anything else is "out".
"""
import base64
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ.get("FERRY_BUILD", "build/release")
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n")
FERRY = "Sec-WebSocket-Protocol: ferry.v1\r\n"

VERSIONS = ["-tls1_2", "-tls1_3"]
# None: no SNI; the server's name; a prefix of it (which a sloppy comparison takes); another.
NAMES = [None, "hub.test", "h", "elsewhere.test", "n" * 200]

# How it ends: IN: 101. TLS: no answer at all, the handshake or the library refused; that is
# told apart from our own later checks, which would hide a library that lets everybody in.
IN, TLS, NO_CERTIFICATE, REVOKED = "101", "", "401", "403"

# identity -> where certificates are (required, optional)
MATRIX = {
    "none": (TLS, IN),
    "good": (IN, IN),
    "good2": (IN, IN),  # one without an extended key usage may be used for anything
    "expired": (TLS, TLS),
    "not_yet_valid": (TLS, TLS),
    "other_ca": (TLS, TLS),
    "same_name_ca": (TLS, TLS),
    "self_signed": (TLS, TLS),
    "wrong_usage": (TLS, TLS),
    "ca_itself": (NO_CERTIFICATE, NO_CERTIFICATE),  # sound in itself; ours is the rule
    "revoked": (REVOKED, REVOKED),
}


def openssl(*arguments, **options):
    done = subprocess.run(["openssl", *arguments], capture_output=True, **options)
    if done.returncode:
        raise AssertionError(f"openssl {arguments}: {done.stderr.decode()}")
    return done.stdout


class Certificates:
    """A folder of keys and certificates, all made with openssl."""

    def __init__(self, folder):
        self.folder = folder
        self.serial = 100
        for name, subject in (("ca", "/CN=Test CA"), ("other_ca_root", "/CN=Other CA"),
                              ("same_name_ca_root", "/CN=Test CA")):
            self.root(name, subject)
        self.leaf("server", "ca", "serverAuth", alt="DNS:hub.test,IP:127.0.0.1")
        self.leaf("good", "ca")
        self.leaf("good2", "ca", eku=None)
        self.leaf("revoked", "ca")
        self.leaf("wrong_usage", "ca", "serverAuth")
        self.leaf("other_ca", "other_ca_root")
        self.leaf("same_name_ca", "same_name_ca_root")
        self.leaf("expired", "ca", dates=("20200101000000Z", "20200201000000Z"))
        self.leaf("not_yet_valid", "ca", dates=("20990101000000Z", "20990201000000Z"))
        self.root("self_signed", "/CN=device")
        for end in ("crt", "key"):
            shutil.copy(self.path(f"ca.{end}"), self.path(f"ca_itself.{end}"))
        with open(self.path("revoked.txt"), "w", encoding="ascii") as file:
            file.write(self.fingerprint("revoked") + "\n")

    def path(self, name):
        return os.path.join(self.folder, name)

    def key(self, name):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path(name + ".key"))

    def root(self, name, subject):
        self.key(name)
        openssl("req", "-x509", "-new", "-key", self.path(name + ".key"), "-subj", subject, "-days", "30",
                "-sha256", "-addext", "basicConstraints=critical,CA:TRUE", "-out", self.path(name + ".crt"))

    def leaf(self, name, issuer, eku="clientAuth", alt=None, dates=None):
        self.key(name)
        openssl("req", "-new", "-key", self.path(name + ".key"), "-subj", "/O=Edge/CN=device",
                "-out", self.path(name + ".csr"))
        self.serial += 1
        lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature"]
        if eku:
            lines.append("extendedKeyUsage=" + eku)
        if alt:
            lines.append("subjectAltName=" + alt)
        # "openssl ca" is the one command that takes both dates.
        base = self.path("db-" + name)
        os.mkdir(base)
        open(os.path.join(base, "index"), "w", encoding="ascii").close()
        with open(os.path.join(base, "serial"), "w", encoding="ascii") as file:
            file.write(f"{self.serial:04X}\n")
        with open(os.path.join(base, "cnf"), "w", encoding="ascii") as file:
            file.write("[ca]\ndefault_ca=d\n[d]\ndatabase={b}/index\nserial={b}/serial\nnew_certs_dir={b}\n"
                       "default_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n"
                       "organizationName=optional\n[x]\n{x}\n".format(b=base, x="\n".join(lines)))
        when = ["-startdate", dates[0], "-enddate", dates[1]] if dates else ["-days", "20"]
        openssl("ca", "-batch", "-notext", "-config", os.path.join(base, "cnf"), "-cert", self.path(issuer + ".crt"),
                "-keyfile", self.path(issuer + ".key"), "-in", self.path(name + ".csr"),
                "-out", self.path(name + ".crt"), *when)

    def fingerprint(self, name):
        return hashlib.sha256(openssl("x509", "-in", self.path(name + ".crt"), "-outform", "DER")).hexdigest()


class Server:
    def __init__(self, folder, mode):
        self.process = subprocess.Popen([os.path.join(BUILD, "bin", "tls-probe-server"), folder, mode],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def opened(self):
        """The fingerprint that the server has seen on the link that has just got in."""
        return self.process.stdout.readline().split()[1]

    def stop(self):
        self.process.stdin.close()
        left = self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(timeout=20), left


def knock(certificates, port, identity, version, name, protocol=FERRY, host="hub.test"):
    """Status line of the answer to an upgrade request; "" when there was none."""
    command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", version,
               "-CAfile", certificates.path("ca.crt"), "-verify_return_error"]
    command += ["-servername", name] if name else ["-noservername"]
    if identity != "none":
        command += ["-cert", certificates.path(identity + ".crt"), "-key", certificates.path(identity + ".key")]
    request = UPGRADE.format(key=base64.b64encode(os.urandom(16)).decode(), protocol=protocol, host=host)
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        # Its input stays open until the answer is there: at its end s_client would leave.
        client.stdin.write(request.encode())
        client.stdin.flush()
        answer = client.stdout.readline().decode("latin-1").strip()
    except BrokenPipeError:
        answer = ""
    finally:
        client.kill()
        try:
            client.communicate()
        except (BrokenPipeError, ValueError):
            client.wait()
    return answer


class CertificateMatrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="ferry-matrix-")
        cls.certificates = Certificates(cls.folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def run_matrix(self, mode, column):
        server = Server(self.folder, mode)
        wrong = []
        for identity, expected in MATRIX.items():
            for version in VERSIONS:
                for name in NAMES:
                    answer = knock(self.certificates, server.port, identity, version, name)
                    ended = re.sub(r"^HTTP/1\.[01] (\d+).*", r"\1", answer)
                    seen = server.opened() if ended == IN else None
                    if ended != expected[column]:
                        wrong.append(f"{mode}, {identity}, {version}, SNI {name}: {answer or 'no answer'}")
                    elif seen and seen != ("none" if identity == "none" else self.certificates.fingerprint(identity)):
                        wrong.append(f"{mode}, {identity}: the server saw {seen}")
        status, left = server.stop()
        self.assertEqual([], wrong)
        self.assertEqual((0, ""), (status, left))

    def test_required(self):
        self.run_matrix("required", 0)

    def test_optional(self):
        self.run_matrix("optional", 1)

    def test_revoked_device_is_told_so(self):
        server = Server(self.folder, "required")
        for version in VERSIONS:
            self.assertIn(" 403 ", knock(self.certificates, server.port, "revoked", version, None) + " ")
        self.assertEqual((0, ""), server.stop())

    def test_only_the_subprotocol_gets_in(self):
        server = Server(self.folder, "required")
        for protocol in ("", "Sec-WebSocket-Protocol: none\r\n", "Sec-WebSocket-Protocol: ferry.v2\r\n"):
            self.assertNotIn(" 101 ", knock(self.certificates, server.port, "good", "-tls1_3", None, protocol))
        self.assertEqual((0, ""), server.stop())

    def test_host_header_opens_no_side_door(self):
        server = Server(self.folder, "required")
        for host in ("elsewhere.test", "loop", "server-1", "", "hub.test:1"):
            self.assertNotIn(" 101 ", knock(self.certificates, server.port, "none", "-tls1_3", None, host=host))
        self.assertEqual((0, ""), server.stop())

    def test_old_tls_is_refused(self):
        server = Server(self.folder, "required")
        for version in ("-tls1", "-tls1_1"):
            self.assertEqual("", knock(self.certificates, server.port, "good", version, None))
        self.assertEqual((0, ""), server.stop())


if __name__ == "__main__":
    unittest.main()
