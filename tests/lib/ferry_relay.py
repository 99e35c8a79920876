"""A peer of another time: it stands between a real agent and a real hub, ends the TLS of both, and changes what
passes, message by message.

    with Relay(hub, device, up=change_up, down=change_down) as relay:
        device.configure(hub__port=relay.port)

A change gets a message as a dict and returns what goes on instead: a list of dicts, or None for the very bytes that
came. To the agent the relay is the hub (it has the hub's certificate), to the hub it is the device.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct
import sys
import threading

import cbor2

import ferry_pg
import ferry_socket
from ferry_socket import BINARY, CLOSE, WS_PING, WS_PONG

sys.path.insert(0, ferry_pg.SOURCE)
from protocol.profile import encode  # noqa: E402

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Agent:
    """The agent's end of one connection: the server's side of a websocket."""

    def __init__(self, tls):
        self.tls = tls
        self.buffer = b""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = tls.recv(4096)
            if not piece:
                raise ConnectionError("the agent has gone")
            head += piece
        head, self.buffer = head.split(b"\r\n\r\n", 1)
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        fields = {name.strip().lower(): value.strip() for name, _, value in lines}
        accept = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + GUID).digest())
        tls.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: ferry.v1\r\n\r\n")

    def _take(self, n):
        while len(self.buffer) < n:
            piece = self.tls.recv(65536)
            if not piece:
                raise ConnectionError("the agent has gone")
            self.buffer += piece
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def frame(self):
        first, second = self._take(2)
        n = second & 127
        if n >= 126:
            n = struct.unpack(">H", self._take(2))[0] if n == 126 else struct.unpack(">Q", self._take(8))[0]
        mask = self._take(4)
        masked = self._take(n)
        payload = bytes(b ^ mask[i & 3] for i, b in enumerate(masked))
        if first & 15 in (BINARY, 0) and not first & 128:
            payload += self.frame()[1]
        return first & 15, payload

    def send_frame(self, opcode, payload):
        n = len(payload)
        head = bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n) if n < 65536 else b"\x7f" + struct.pack(">Q", n)
        self.tls.sendall(bytes([0x80 | opcode]) + head + payload)


class Relay:
    def __init__(self, hub, device, up=None, down=None):
        self.hub, self.up, self.down = hub, up or (lambda m: None), down or (lambda m: None)
        identity = os.path.join(device.state, "identity")
        self.certificate, self.key = os.path.join(identity, "device.crt"), os.path.join(identity, "device.key")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(os.path.join(hub.state, "server.crt"), os.path.join(hub.state, "server.key"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.seen = {"up": [], "down": []}  # messages before they were changed
        self.ends = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for end in self.ends:
            self._hang_up(end)

    def types(self, way):
        return [m[0] for m in self.seen[way]]

    @staticmethod
    def _hang_up(tls):
        try:
            tls.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        try:
            tls = self.context.wrap_socket(raw, server_side=True)
            self.ends.append(tls)
            agent = _Agent(tls)
            hub = ferry_socket.Session(self.hub.device_port, self.certificate, self.key, timeout=120)
            self.ends.append(hub.tls)
        except (OSError, ferry_socket.Closed):
            raw.close()
            return
        for args in ((agent.frame, hub.send_frame, agent.send_frame, "up"), (hub.frame, agent.send_frame, hub.send_frame, "down")):
            threading.Thread(target=self._carry, args=(*args, tls, hub.tls), daemon=True).start()

    def _carry(self, read, write, back, way, *ends):
        try:
            while True:
                opcode, payload = read()
                if opcode == WS_PING:
                    back(WS_PONG, payload)
                elif opcode == CLOSE:
                    write(opcode, payload)
                elif opcode in (BINARY, 0):
                    for envelope in self._changed(way, payload):
                        write(BINARY, envelope)
        except (OSError, ferry_socket.Closed, struct.error):
            pass
        finally:
            for end in ends:
                self._hang_up(end)

    def _changed(self, way, envelope):
        message = cbor2.loads(ferry_socket.unpack(envelope))
        self.seen[way].append(message)
        out = (self.up if way == "up" else self.down)(message)
        return [envelope] if out is None else [b"\0" + encode(m) for m in out]
