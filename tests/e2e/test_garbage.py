#!/usr/bin/python3
"""P9: bad bytes cost the sender its session, with a code, and nobody else anything."""

import os
import random
import socket
import ssl
import struct
import threading
import unittest
import uuid

import cbor2

import ferry_run
import ferry_socket
from ferry_socket import BINARY, CODES, TEXT, block, change_set

SEED = int(os.environ.get("FERRY_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
MIB = 1 << 20


class Peer(ferry_run.SiteCase):
    """A device that behaves, and one that the test speaks for."""

    def setUp(self):
        super().setUp()
        self.unit = self.new_unit()
        self.good = self.device("good")
        self.bad = self.device("bad", start=False)
        self.settle(self.good)

    def session(self, device=None):
        return super().session(device or self.bad)

    def check_others(self):
        """The good device is served on the very connection it had."""
        value = random.randrange(1000000)
        since = self.good.log_size()
        self.good.sql("UPDATE units SET floor = ? WHERE id = ?", value, self.unit)
        self.settle(self.good)
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", self.unit), value)
        with open(self.good.log, encoding="utf-8") as f:
            f.seek(since)
            self.assertNotIn("event=link_down", f.read())

    def check(self, name, code, act, greeted=True):
        """act(session) must be answered with the error code (one of several) and the end of the session."""
        s = self.session()
        if greeted:
            s.greet()
        try:
            act(s)
        except (ssl.SSLError, ConnectionError):
            pass  # the hub was faster
        said, close = s.end()
        codes = code if isinstance(code, tuple) else (code,)
        self.assertIn(said if said is not None else "close %s" % close, [CODES.get(c, c) for c in codes], name)
        s.close()


class Garbage(Peer):

    # ---- messages

    def test_bytes_that_are_no_message_are_malformed(self):
        for name, body in {
            "nothing": b"", "an unknown envelope": b"\x07\x00", "half a map": b"\x00\xa2\x00\x04", "a tag": b"\x00\xc1\xa1\x00\x04",
            "an indefinite map": b"\x00\xbf\x00\x0a\xff", "keys out of order": b"\x00\xa3\x00\x0a\x02\x00\x01\x00",
            "a key twice": b"\x00\xa2\x00\x0a\x00\x0a", "a long integer": b"\x00\xa1\x00\x18\x0a", "a half float": b"\x00\xa1\x00\xf9\x3c\x00",
            "bytes behind": b"\x00" + cbor2.dumps({0: 8, 1: 1}) + b"\x00", "deep nesting": b"\x00" + b"\x81" * 5000,
            "an array announced with 2^31 items": b"\x00\x9a\x7f\xff\xff\xff", "2^63 items": b"\x00\xa1\x00\x9b" + b"\x7f" + b"\xff" * 7,
            "text that is not UTF-8": b"\x00\xa2\x00\x09\x02\x62\xff\xff",
        }.items():
            self.check(name, ("MALFORMED", "BAD_MESSAGE", "MESSAGE_TOO_LARGE"), lambda s, body=body: s.send_bytes(body))
        self.check_others()

    def test_unknown_and_unexpected_messages_have_their_codes(self):
        for kind in (0, 14, 77, 255, 1 << 40):
            self.check("type %d" % kind, ("UNKNOWN_MESSAGE", "BAD_MESSAGE"), lambda s, kind=kind: s.send({0: kind}))
        for name, message in {"a second hello": {0: 1, 1: 1, 2: 1, 3: "x", 4: b"\1" * 16, 7: -1, 10: 0},
                              "a welcome": {0: 2, 1: 1, 2: "x", 3: b"\0" * 16, 4: b"\0" * 16, 5: b"\0" * 16, 7: 1, 13: 65536, 14: 0},
                              "a commit": {0: 7, 1: 5, 2: 5, 5: 0}, "an ack": {0: 5, 1: []}}.items():
            self.check(name, "UNEXPECTED_MESSAGE", lambda s, message=message: s.send(message))
        for name, message in {"a push first": {0: 4, 1: [{2: 1, 4: 0}]}, "a ping first": {0: 10, 1: 1, 2: 1},
                              "credit first": {0: 8, 1: 5}}.items():
            self.check(name, "UNEXPECTED_MESSAGE", lambda s, message=message: s.send(message), greeted=False)
        self.check_others()

    def test_fields_that_lack_or_have_wrong_types_are_bad_messages(self):
        hello = {0: 1, 1: 1, 2: 1, 3: "x", 4: b"\1" * 16, 7: -1, 10: 0}
        for key in (1, 2, 3, 4, 7, 10):
            without = {k: v for k, v in hello.items() if k != key}
            self.check("hello without %d" % key, "BAD_MESSAGE", lambda s, m=without: s.send(m), greeted=False)
            self.check("hello with %d wrong" % key, "BAD_MESSAGE", lambda s, m=dict(hello, **{}) | {key: [1]}: s.send(m), greeted=False)
        for name, message in {"a push of nothing": {0: 4, 1: []}, "a change-set without number": {0: 4, 1: [{4: 0}]},
                              "number 0": {0: 4, 1: [{2: 0, 4: 0}]}, "a negative number": {0: 4, 1: [{2: -1, 4: 0}]},
                              "keys of 15 bytes": {0: 4, 1: [{2: 1, 4: 0, 9: [{1: 1, 2: 3, 4: b"\1" * 15}]}]},
                              "operation 9": {0: 4, 1: [{2: 1, 4: 0, 9: [{1: 1, 2: 9, 4: b"\1" * 16}]}]},
                              "a column without cells": {0: 4, 1: [{2: 1, 4: 0, 9: [{1: 1, 2: 2, 3: [3], 4: b"\1" * 16}]}]},
                              "columns out of order": {0: 4, 1: [{2: 1, 4: 0, 9: [{1: 1, 2: 2, 3: [4, 3], 4: b"\1" * 16,
                                                                                  5: [[1], [1]]}]}]}}.items():
            self.check(name, ("BAD_MESSAGE", "MALFORMED"), lambda s, message=message: s.send(message))
        self.check_others()

    def test_version_that_the_hub_does_not_speak_is_refused(self):
        self.check("version 3", "VERSION", lambda s: s.hello(versions=(3, 9)), greeted=False)

    def test_wrong_content_is_a_verdict_and_the_session_goes_on(self):
        s = self.session()
        _, tables = s.greet()
        base = max(m[1] for m in s.got if m[0] == ferry_socket.COMMIT)
        units, key = tables["units"], uuid.UUID(self.unit).bytes
        cases = [
            ({1: 4242, 2: 3, 4: key}, "UNKNOWN_TABLE"),
            ({1: units[1], 2: 2, 3: [999], 4: key, 5: [[1]]}, "UNKNOWN_COLUMN"),
            (block(units, 2, key, floor="text"), "BAD_VALUE"),
            (block(units, 2, key, floor=1 << 40), "BAD_VALUE"),
            (block(units, 2, key, size_sqm="12,5"), "BAD_VALUE"),
            (block(units, 2, key, size_sqm="1e99"), "BAD_VALUE"),
            (block(units, 2, key, code="a\0b"), "NUL_IN_TEXT"),
            (block(units, 2, key, code=None, unit_type_code=None), "NOT_NULL"),
            (block(units, 2, key, project_id=b"\1" * 16), ("FOREIGN_KEY", "OUT_OF_SCOPE")),
            (block(tables["room_scans"], 1, uuid.uuid4().bytes, tenant_id=uuid.UUID(self.tenant).bytes, unit_id=key,
                   captured_at=0, document="{no json"), "BAD_VALUE"),
        ]
        s.send({0: 4, 1: [change_set(n + 1, c, base=base) for n, (c, _) in enumerate(cases)]})
        got = {}
        while len(got) < len(cases):
            got.update((v[1], (v[2], v.get(4), v.get(5))) for v in s.wait(ferry_socket.ACK).get(1, []))
        for n, (case, expected) in enumerate(cases):
            verdict, code, sentence = got[n + 1]
            names = expected if isinstance(expected, tuple) else (expected,)
            self.assertIn((verdict, code), [(3, CODES[e]) for e in names], "%r: %r" % (case, got[n + 1]))
            self.assertTrue(sentence)
        s.send({0: 4, 1: [change_set(50, block(units, 2, key, view="sea"), base=base)]})
        self.assertEqual(s.wait(ferry_socket.ACK)[1][0][2], 1)
        self.check_others()

    # ---- size, credit, time

    def test_message_beyond_the_limit_is_refused(self):
        self.check("2 MiB in one frame", ("MESSAGE_TOO_LARGE", "close 1009"), lambda s: s.send_bytes(b"\0" * (2 * MIB)))

        def in_pieces(s):
            s.send_frame(BINARY, b"\0" * 65536, final=False)
            for _ in range(40):
                s.send_frame(0, b"\0" * 65536, final=False)
        self.check("an endless message in pieces", ("MESSAGE_TOO_LARGE", "close 1009"), in_pieces)
        self.check_others()

    def test_more_than_was_given_as_credit_ends_the_session(self):
        def flood(s):
            text = "x" * 1000
            body = b"\0" + cbor2.dumps({0: 4, 1: [{2: 1, 4: 0, 6: 0, 7: True, 9: [
                {1: 1, 2: 1, 3: [2], 4: bytes(16 * 800), 5: [[text] * 800]}]}]}, canonical=True)
            for _ in range(30):
                s.send_bytes(body)
        self.check("24 MB of pushes", ("CREDIT", "BAD_MESSAGE", "NUMBER_REUSED", "UNKNOWN_TABLE", "UNEXPECTED_MESSAGE", "close None"), flood)
        self.check_others()

    def test_silent_connections_are_cut_and_hold_up_nobody(self):
        quiet = [socket.create_connection(("127.0.0.1", self.hub.device_port)) for _ in range(20)]  # not even TLS
        silent = self.session()
        self.check_others()
        said, _ = silent.end()
        self.assertEqual(said, CODES["LINK_TIMEOUT"])
        for q in quiet:
            q.settimeout(30)
            self.assertEqual(q.recv(1), b"")
            q.close()

    def test_reader_that_reads_nothing_holds_up_nobody(self):
        s = self.session()
        s.greet()
        for n in range(200):
            self.site.sql("UPDATE inventory.units SET view = %s WHERE id = %s", "v" * 5000 + str(n), self.unit)
        self.check_others()

    # ---- the websocket and what is beneath

    def test_broken_frames_end_the_session(self):
        for name, act in {
            "a text message": lambda s: s.send_frame(TEXT, b"hello"),
            "no mask": lambda s: s.send_frame(BINARY, b"\0\xa1\0\x0a", masked=False),
            "a reserved opcode": lambda s: s.send_frame(5, b"x"),
            "a reserved bit": lambda s: s.send_frame(BINARY, b"x", flags=0x40),
            "a long control frame": lambda s: s.send_frame(9, b"x" * 200),
            "a continuation of nothing": lambda s: s.send_frame(0, b"x"),
        }.items():
            s = self.session()
            s.greet()
            try:
                act(s)
            except (ssl.SSLError, ConnectionError):
                pass
            s.end()  # ends: a session that lived on would run into the time-out
        self.check_others()

    def test_random_bytes_at_every_layer(self):
        rng = random.Random(SEED)
        print("seed %d (FERRY_SEED)" % SEED, flush=True)
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", self.hub.device_port)) as raw:
                raw.sendall(rng.randbytes(rng.randrange(1, 2000)))
        for _ in range(30):
            s = self.session()
            try:
                if rng.random() < 0.5:
                    s.raw(rng.randbytes(rng.randrange(1, 3000)))
                else:
                    s.send_bytes(bytes([rng.randrange(4)]) + rng.randbytes(rng.randrange(0, 3000)))
                s.tls.settimeout(0.05)
                s.end()
            except (OSError, ssl.SSLError):
                pass
            s.close()
        self.check_others()

    def test_mutations_of_good_messages(self):
        rng = random.Random(SEED)
        print("seed %d (FERRY_SEED)" % SEED, flush=True)
        tables = self.session().greet()[1]
        key = uuid.UUID(self.unit).bytes
        good = [cbor2.dumps(m, canonical=True) for m in (
            {0: 4, 1: [change_set(1, block(tables["units"], 2, key, view="sea", size_sqm="12.50"))]},
            {0: 4, 1: [change_set(2, block(tables["units"], 3, key), k8=[1], k5=True)]},
            {0: 10, 1: 7, 2: 5}, {0: 8, 1: 100}, {0: 9, 1: 100, 2: "why"})]
        before = self.hub.pid
        for _ in range(60):
            s = self.session()
            try:
                s.greet()
                for _ in range(20):
                    body = bytearray(rng.choice(good))
                    for _ in range(rng.randrange(1, 4)):
                        at = rng.randrange(len(body))
                        what = rng.randrange(4)
                        if what == 0:
                            body[at] ^= 1 << rng.randrange(8)
                        elif what == 1:
                            body[at:at] = rng.randbytes(rng.randrange(1, 5))
                        elif what == 2:
                            del body[at:at + rng.randrange(1, 5)]
                        else:
                            body[at] = rng.choice((0, 1, 0x17, 0x18, 0x5f, 0x7f, 0x9f, 0xbf, 0xf6, 0xff))
                        if not body:
                            body = bytearray(b"\0")
                    s.send_bytes(b"\0" + bytes(body))
                s.tls.settimeout(0.02)
                s.end()
            except (ferry_socket.Closed, OSError):
                pass
            s.close()
        self.assertTrue(self.hub.running())
        self.assertEqual(self.hub.pid, before)
        if self.site.value("SELECT 1 FROM inventory.units WHERE id = %s", self.unit) is None:
            self.unit = self.new_unit()
            self.settle(self.good)
        self.check_others()

    def test_many_bad_ones_at_once(self):
        failed = []

        def one(n):
            try:
                s = self.session()
                s.send_bytes(b"\x07" * 100 if n % 2 else b"")
                s.end()
                s.close()
            except (OSError, ferry_socket.Closed) as e:
                failed.append(e)
        threads = [threading.Thread(target=one, args=(n,)) for n in range(40)]
        for t in threads:
            t.start()
        self.check_others()
        for t in threads:
            t.join()
        self.assertEqual(failed, [])


class Giants(Peer):
    """What the hub's memory shows. The address sanitizer keeps what is freed; here, little of it."""

    @classmethod
    def setUpClass(cls):
        before = os.environ.get("ASAN_OPTIONS", "")
        os.environ["ASAN_OPTIONS"] = before + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
        try:
            super().setUpClass()
        finally:
            os.environ["ASAN_OPTIONS"] = before

    def rss(self):
        with open("/proc/%d/status" % self.hub.pid, encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def test_damaged_compression_is_refused_and_a_bomb_takes_no_memory(self):
        before = self.rss()
        frame = b"\x28\xb5\x2f\xfd"  # zstd's magic
        for name, body in {"no zstd": b"\x02hello", "no zstd with dictionary": b"\x01hello", "a cut frame": b"\x02" + frame,
                           "a frame of 2^60 bytes": b"\x02" + frame + b"\xe0" + struct.pack("<Q", 1 << 60) + b"\x01\x00\x00",
                           "a frame of 1 GiB": b"\x02" + frame + b"\xa0" + struct.pack("<I", 1 << 30) + b"\x03\x00\x00\x41"}.items():
            self.check(name, ("COMPRESSION", "MESSAGE_TOO_LARGE"), lambda s, body=body: s.send_bytes(body))
        self.assertLess(self.rss() - before, 32 << 10)
        self.check_others()

    def test_announced_giants_take_no_memory(self):
        before = self.rss()
        sessions = []
        for n in range(50):
            s = self.session()
            s.send_frame(BINARY, b"\0" * 100, announced=(1 << 31) << (n % 3 * 15))
            sessions.append(s)
        self.check_others()
        self.assertLess(self.rss() - before, 50 * 128 + (20 << 10))
        for s in sessions:
            s.close()


if __name__ == "__main__":
    unittest.main()
