"""A TCP proxy between an agent and the hub that does harm on request.

    proxy = Proxy(hub_port, seed=7)
    proxy.cut_after(records=12)      # the connection dies after 12 more TLS records
    proxy.cut_after(sent=1000)       # or after so many bytes from the agent
    proxy.blackhole(True)            # bytes are held back, connections stay; they pass when it ends
    proxy.blackhole(True, "up")      # only those from the agent
    proxy.strand()                   # what is open now stays open and carries nothing any more
    proxy.delay(0.05)
    proxy.refuse(True)               # new connections are reset
    proxy.cut()                      # all connections, now

A websocket message of ours is one or more TLS records, so cutting at every
record cuts before, inside and after every message. One thread, poll().
"""

import random
import selectors
import socket
import struct
import threading
import time


class _Pipe:
    """One direction of a connection."""

    def __init__(self, source, sink, name):
        self.source, self.sink, self.name = source, sink, name
        self.queue = []      # (time due, bytes)
        self.head = b""      # of a TLS record whose end has not come yet
        self.left = 0        # bytes of the current record still to come
        self.records = 0
        self.bytes = 0
        self.ended = False
        self.stranded = False

    def split(self, data):
        """Pieces of data, each with True when it completes a TLS record."""
        pieces = []
        while data:
            if self.left == 0:
                need = 5 - len(self.head)
                self.head += data[:need]
                piece, data = data[:need], data[need:]
                if len(self.head) == 5:
                    self.left = struct.unpack(">H", self.head[3:5])[0]
                    self.head = b""
                    pieces.append((piece, self.left == 0))
                else:
                    pieces.append((piece, False))
                continue
            piece, data = data[:self.left], data[self.left:]
            self.left -= len(piece)
            pieces.append((piece, self.left == 0))
        return pieces


class Proxy:
    def __init__(self, target_port, seed=0, host="127.0.0.1"):
        self.random = random.Random(seed)
        self.target = (host, target_port)
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.RLock()
        self.pairs = []          # (pipe up, pipe down)
        self.connections = 0     # ever accepted
        self.cuts = 0
        self.records = 0         # of all connections, both directions
        self._records_left = self._sent_left = self._received_left = None
        self._next_cut = ()
        self._held = frozenset()  # directions
        self._refuse = False
        self._delay = 0.0
        self._wake_read, self._wake_write = socket.socketpair()
        self._stop = False
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.selector.register(self._wake_read, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    # ---- what a test asks for

    def cut_after(self, records=None, sent=None, received=None, again=False):
        """Once: the connection that carries the last of these dies. None: not by this. again: and so each later one."""
        with self.lock:
            self._records_left, self._sent_left, self._received_left = records, sent, received
            self._next_cut = (records, sent, received, True) if again else ()

    def armed(self):
        with self.lock:
            return not (self._records_left is self._sent_left is self._received_left is None)

    def blackhole(self, on, way=None):
        """way: "up" (from the agent), "down", or None for both; True replaces an earlier one."""
        with self.lock:
            self._held = frozenset([way] if way else ["up", "down"]) if on else frozenset()
        self._poke()

    def strand(self):
        """As a router that forgets its connections: neither side is told. New connections work."""
        with self.lock:
            for pair in self.pairs:
                for pipe in pair:
                    pipe.stranded = True
                    pipe.queue.clear()

    def refuse(self, on):
        with self.lock:
            self._refuse = on

    def delay(self, seconds):
        with self.lock:
            self._delay = seconds

    def cut(self):
        with self.lock:
            for pair in list(self.pairs):
                self._drop(pair)

    def retarget(self, port):
        with self.lock:
            self.target = (self.target[0], port)

    def close(self):
        self._stop = True
        self._poke()
        self.thread.join(10)
        self.listener.close()
        self._wake_read.close()
        self._wake_write.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- the thread

    def _poke(self):
        try:
            self._wake_write.send(b"x")
        except OSError:
            pass

    def _run(self):
        while not self._stop:
            timeout = 1.0
            with self.lock:
                for pair in self.pairs:
                    for pipe in pair:
                        if pipe.queue and pipe.name not in self._held:
                            timeout = min(timeout, max(0.0, pipe.queue[0][0] - time.monotonic()))
            events = self.selector.select(timeout)
            with self.lock:
                for key, _ in events:
                    if key.fileobj is self.listener:
                        self._accept()
                    elif key.fileobj is self._wake_read:
                        self._wake_read.recv(4096)
                    elif key.data in self.pairs:
                        self._read(key.data, key.fileobj)
                for pair in list(self.pairs):
                    self._flush(pair)
        with self.lock:
            for pair in list(self.pairs):
                self._drop(pair)

    def _accept(self):
        agent, _ = self.listener.accept()
        if self._refuse:
            self._reset(agent)
            return
        hub = socket.socket()
        try:
            hub.connect(self.target)
        except OSError:
            hub.close()
            self._reset(agent)
            return
        for s in (agent, hub):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (_Pipe(agent, hub, "up"), _Pipe(hub, agent, "down"))
        self.connections += 1
        self.pairs.append(pair)
        self.selector.register(agent, selectors.EVENT_READ, pair)
        self.selector.register(hub, selectors.EVENT_READ, pair)

    def _read(self, pair, sock):
        pipe = pair[0] if pair[0].source is sock else pair[1]
        try:
            data = sock.recv(65536)
        except OSError:
            self._drop(pair, count=False)
            return
        if not data:
            pipe.ended = True
            self.selector.unregister(sock)
            return
        if not pipe.stranded:
            pipe.queue.append((time.monotonic() + self._delay, data))

    def _flush(self, pair):
        for pipe in pair:
            while pipe.queue and pipe.name not in self._held and pipe.queue[0][0] <= time.monotonic():
                data = pipe.queue.pop(0)[1]
                for piece, completes in pipe.split(data):
                    piece, cut = self._take(pipe, piece, completes)
                    try:
                        pipe.sink.settimeout(5)
                        pipe.sink.sendall(piece)
                    except OSError:
                        self._drop(pair, count=False)
                        return
                    if cut:
                        self._drop(pair)
                        return
        if all(p.ended and not p.queue for p in pair):
            self._drop(pair, count=False)
        elif any(p.ended and not p.queue and not p.stranded for p in pair) and not self._held:
            self._drop(pair, count=False)

    def _take(self, pipe, piece, completes):
        """What of the piece still passes, and whether the connection ends then."""
        left = "_sent_left" if pipe.name == "up" else "_received_left"
        if getattr(self, left) is not None:
            allowed = getattr(self, left)
            if len(piece) >= allowed:
                self.cut_after(*self._next_cut)
                return piece[:allowed], True
            setattr(self, left, allowed - len(piece))
        pipe.bytes += len(piece)
        if completes:
            pipe.records += 1
            self.records += 1
            if self._records_left is not None:
                self._records_left -= 1
                if self._records_left <= 0:
                    self.cut_after(*self._next_cut)
                    return piece, True
        return piece, False

    @staticmethod
    def _reset(sock):
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        sock.close()

    def _drop(self, pair, count=True):
        if pair not in self.pairs:
            return
        self.pairs.remove(pair)
        self.cuts += count
        with_reset = count and self.random.random() < 0.5
        for pipe in pair:
            try:
                self.selector.unregister(pipe.source)
            except (KeyError, ValueError):
                pass
            if with_reset:
                self._reset(pipe.source)
            else:
                pipe.source.close()
