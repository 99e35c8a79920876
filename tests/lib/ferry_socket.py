"""A foreign ferry.v1 client: websocket over TLS, CBOR by python3-cbor2, nothing of our C.

    with ferry_socket.Session(port, certificate, key) as s:
        s.hello()
        welcome = s.wait(WELCOME)
        s.send({0: PUSH, 1: [change_set]})
        verdicts = s.wait(ACK)[1]

It is as well-behaved or as wicked as its caller: send_bytes() sends anything as a message,
send_frame() anything as a websocket frame, raw() anything at all.
"""

import os
import socket
import ssl
import struct
import subprocess
import tempfile
import time

import cbor2

(HELLO, WELCOME, SCHEMA, PUSH, ACK, DELTA, COMMIT, CREDIT, ERROR, PING, PONG, FILL, FILL_ACK, COMPARE, RANGES, LEASE_ASK,
 LEASE, UNKNOWN) = range(1, 19)
BINARY, TEXT, CLOSE, WS_PING, WS_PONG = 2, 1, 8, 9, 10
PROTOCOL = os.path.join(os.path.dirname(__file__), "..", "..", "protocol")
DICTIONARY = os.path.join(PROTOCOL, "dictionary", "ferry.v1.dict")


def errors():
    """{name: number} of the registry of errors."""
    out = {}
    with open(os.path.join(PROTOCOL, "errors.def"), encoding="utf-8") as f:
        for line in f:
            if line.startswith("X("):
                name, number = line[2:].split(",")[:2]
                out[name] = int(number)
    return out


CODES = errors()


def unpack(envelope):
    """The CBOR bytes of an envelope."""
    form, body = envelope[0], envelope[1:]
    if form == 0:
        return body
    more = ["-D", DICTIONARY] if form == 1 else []
    with tempfile.NamedTemporaryFile() as f:
        f.write(body)
        f.flush()
        return subprocess.run(["zstd", "-q", "-d", "-c", *more, f.name], stdout=subprocess.PIPE, check=True).stdout


class Closed(Exception):
    """The hub has closed. code: of the close frame, or None."""

    def __init__(self, code=None, reason=""):
        super().__init__("closed: %s %s" % (code, reason))
        self.code = code


class Session:
    def __init__(self, port, certificate, key, timeout=20):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        raw = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = context.wrap_socket(raw, server_hostname="127.0.0.1")
        self.timeout = timeout
        self.buffer = b""
        self.got = []        # messages that nobody waited for
        self.tls.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                         b"Sec-WebSocket-Protocol: ferry.v1\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.tls.recv(4096)
            if not piece:
                raise Closed()
            head += piece
        head, self.buffer = head.split(b"\r\n\r\n", 1)
        self.status = int(head.split()[1])
        if self.status != 101:
            raise Closed(self.status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.tls.close()

    # ---- out

    def raw(self, data):
        self.tls.sendall(data)

    def send_frame(self, opcode, payload, final=True, masked=True, announced=None, flags=0):
        """announced: a length other than the payload's."""
        n = len(payload) if announced is None else announced
        head = bytes([(0x80 if final else 0) | flags | opcode])
        mask_bit = 0x80 if masked else 0
        if n < 126:
            head += bytes([mask_bit | n])
        elif n < 65536:
            head += bytes([mask_bit | 126]) + struct.pack(">H", n)
        else:
            head += bytes([mask_bit | 127]) + struct.pack(">Q", n)
        # A mask of zeros leaves the payload as it is.
        self.raw(head + (b"\0\0\0\0" if masked else b"") + payload)

    def send_bytes(self, envelope):
        self.send_frame(BINARY, envelope)

    def send(self, message):
        self.send_bytes(b"\0" + cbor2.dumps(message, canonical=True))

    def hello(self, position=-1, incarnation=b"\1" * 16, credit=64 << 20, versions=(1, 1), **more):
        """more: other fields, as k5=... for key 5."""
        message = {0: HELLO, 1: versions[0], 2: versions[1], 3: "foreign", 4: incarnation, 7: position, 10: int(time.time() * 1e6), 11: credit}
        message.update((int(k[1:]), v) for k, v in more.items())
        self.send(message)

    # ---- in

    def _need(self, n):
        while len(self.buffer) < n:
            try:
                piece = self.tls.recv(65536)
            except (ssl.SSLError, ConnectionError) as e:
                raise Closed(None, str(e)) from e
            if not piece:
                raise Closed()
            self.buffer += piece

    def frame(self):
        """(opcode, payload) of the next websocket frame."""
        self._need(2)
        opcode, n, at = self.buffer[0] & 15, self.buffer[1] & 127, 2
        if n == 126:
            self._need(4)
            n, at = struct.unpack(">H", self.buffer[2:4])[0], 4
        elif n == 127:
            self._need(10)
            n, at = struct.unpack(">Q", self.buffer[2:10])[0], 10
        self._need(at + n)
        final, payload, self.buffer = self.buffer[0] & 128, self.buffer[at:at + n], self.buffer[at + n:]
        if opcode in (BINARY, 0) and not final:
            payload += self.frame()[1]
        return opcode, payload

    def message(self):
        """The next message; pings of the websocket are answered."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                raise Closed(struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else None,
                             payload[2:].decode("utf-8", "replace"))
            if opcode == WS_PING:
                self.send_frame(WS_PONG, payload)
            elif opcode in (BINARY, 0):
                return cbor2.loads(unpack(payload))

    def wait(self, kind):
        """The next message of a type; those before it go to self.got."""
        while True:
            m = self.message()
            if m[0] == kind:
                return m
            self.got.append(m)
            if m[0] == ERROR:
                raise Closed(m[1], m.get(2, ""))

    def end(self):
        """Reads to the end: (code of the error message or None, code of the close frame or None)."""
        code = None
        try:
            while True:
                m = self.message()
                if m[0] == ERROR:
                    code = m[1]
                else:
                    self.got.append(m)
        except Closed as e:
            return code, e.code

    def greet(self, **hello):
        """hello, then everything up to the first commit, with fills acknowledged: (welcome, schema tables by name)."""
        self.hello(**hello)
        welcome, tables = None, {}
        while True:
            m = self.message()
            self.got.append(m)
            if m[0] == WELCOME:
                welcome = m
            elif m[0] == SCHEMA:
                tables = {t[2]: t for t in m.get(2, [])}
            elif m[0] == FILL:
                keys = m[4].get(4, b"")
                self.send({0: FILL_ACK, 1: m[4][1], 2: keys[-16:] or b"\0" * 16})
            elif m[0] == ERROR:
                raise Closed(m[1], m.get(2, ""))
            elif m[0] == COMMIT:
                return welcome, tables


def block(table, operation, key, **values):
    """A block of one row: table as in the schema message, values by column name."""
    numbers = {c[2]: c[1] for c in table[7]}
    cells = sorted((numbers[name], value) for name, value in values.items())
    out = {1: table[1], 2: operation, 4: key}
    if cells:
        out[3] = [n for n, _ in cells]
        out[5] = [[v] for _, v in cells]
    return out


def change_set(number, *blocks, base=0, at=None, **more):
    out = {2: number, 4: at or int(time.time() * 1e6), 9: list(blocks)}
    if base:
        out[3] = base
    out.update((int(k[1:]), v) for k, v in more.items())
    return out
