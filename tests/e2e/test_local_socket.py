#!/usr/bin/python3
"""Local programs learn of changes from the agent's socket, and wait there for the hub."""

import contextlib
import json
import os
import socket
import stat
import time
import unittest
import uuid

from ferry_run import SiteCase, wait_until


class Listener:
    """A program at the socket; lines as dicts."""

    def __init__(self, agent):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.path.join(agent.state, "run", "agent.sock"))
        self.bytes = b""
        self.seen = []

    def close(self):
        self.socket.close()

    def send(self, text):
        self.socket.sendall(text.encode() + b"\n")

    def line(self, seconds=20):
        """The next line; None at the end; AssertionError when none comes."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.bytes:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError("no line came; before: %s" % self.seen[-5:]) from None
            if not more:
                return None
            self.bytes += more
        one, _, self.bytes = self.bytes.partition(b"\n")
        self.seen.append(json.loads(one))
        return self.seen[-1]

    def wait(self, wanted, seconds=20):
        """Reads until wanted(line) is true; that line."""
        deadline = time.monotonic() + seconds
        while True:
            line = self.line(max(deadline - time.monotonic(), 0.001))
            assert line is not None, "the socket was closed: %s" % self.seen[-5:]
            if wanted(line):
                return line


class LocalSocket(SiteCase):

    def listen(self, agent):
        path = os.path.join(agent.state, "run", "agent.sock")
        wait_until(lambda: os.path.exists(path), 20, "the socket")
        listener = Listener(agent)
        self.addCleanup(listener.close)
        return listener

    def test_changed_keys_verdicts_and_status_come_without_asking(self):
        unit = self.new_unit(floor=1)
        a = self.device("a")
        self.settle()
        heard = self.listen(a)
        self.assertEqual(heard.line()["event"], "hello")
        self.assertEqual(heard.wait(lambda x: x["event"] == "status" and x["caught_up"])["state"], "live")
        self.site.sql("UPDATE inventory.units SET floor = 2 WHERE id = %s", unit)
        state = heard.wait(lambda x: x["event"] == "state" and "units" in x["changed"])
        self.assertEqual(state["changed"]["units"], [unit])
        self.assertEqual(a.value("SELECT floor FROM units WHERE id = ?", unit), 2)  # it stands when it is told
        a.sql("UPDATE units SET floor = 3 WHERE id = ?", unit)
        self.assertTrue(heard.wait(lambda x: x["event"] == "written"))
        self.assertEqual(heard.wait(lambda x: x["event"] == "verdict")["verdict"], "accepted")
        self.hub.stop()
        self.assertEqual(heard.wait(lambda x: x["event"] == "status" and x["state"] in ("offline", "connecting"))["event"], "status")
        self.hub.start()
        heard.wait(lambda x: x["event"] == "status" and x["state"] == "live")

    def test_refusals_and_conflicts_are_told(self):
        unit = self.new_unit(view="none")
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a")
        self.settle()
        heard = self.listen(a)
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", str(uuid.uuid4()))
        refused = heard.wait(lambda x: x["event"] == "verdict" and x["verdict"] == "rejected")
        self.assertEqual((refused["code"], refused["again"]), ("UNIQUE", False))
        self.hub.pause()
        self.addCleanup(self.hub.resume)
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET view = 'garden' WHERE id = %s", unit)
        self.hub.resume()
        conflict = heard.wait(lambda x: x["event"] == "conflict")
        self.assertEqual((conflict["table"], conflict["key"], conflict["column"]), ("units", unit, "view"))

    def test_a_wait_is_answered_once_the_hub_has_what_was_committed_before(self):
        unit = self.new_unit(floor=1)
        a = self.device("a")
        self.settle()
        heard = self.listen(a)
        self.hub.pause()
        self.addCleanup(self.hub.resume)
        a.sql("UPDATE units SET floor = 2 WHERE id = ?", unit)
        heard.send('{"wait":"durable","id":"w1"}')
        done = a.run("barrier", "--timeout", "1")
        self.assertEqual(done.returncode, 4, done.stderr)  # not yet
        self.assertFalse([x for x in heard.seen if "answer" in x])
        self.hub.resume()
        answer = heard.wait(lambda x: "answer" in x, 60)
        self.assertEqual((answer["answer"], answer["id"], answer["rejected"]), ("durable", "w1", 0))
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 2)
        self.assertEqual(a.json("barrier")["durable"], True)

    def test_a_wait_tells_how_many_were_refused(self):
        self.site.sql("INSERT INTO crm.contacts (tenant_id, full_name, email) VALUES (%s, 'First', 'one@example.com')", self.tenant)
        a = self.device("a")
        self.settle()
        self.hub.pause()
        self.addCleanup(self.hub.resume)
        a.sql("INSERT INTO contacts (id, full_name, email) VALUES (?, 'Bad', 'ONE@example.com')", str(uuid.uuid4()))
        heard = self.listen(a)
        heard.send('{"wait":"durable"}')
        heard.send('{"wait":"supper"}')
        self.assertIn("unknown", heard.wait(lambda x: "event" not in x and "error" in x)["error"])
        self.hub.resume()
        self.assertEqual(heard.wait(lambda x: "answer" in x, 60)["rejected"], 1)

    def test_an_answer_has_the_id_of_its_request_as_it_was_given(self):
        a = self.device("a")
        self.settle()
        heard = self.listen(a)
        for given in (7, "7", 2**63 - 1, None):
            heard.send(json.dumps({"wait": "durable", "id": given}))
            self.assertEqual(heard.wait(lambda x: "answer" in x)["id"], given)
        heard.send('{"wait":"durable","note":"never written","id":8}')
        self.assertEqual(heard.wait(lambda x: "event" not in x)["id"], 8)
        heard.send('{"wait":"durable","note":5,"id":9}')
        self.assertEqual(heard.wait(lambda x: "event" not in x)["id"], 9)
        for given in (1.5, [1], {}, True):
            heard.send(json.dumps({"wait": "durable", "id": given}))
            self.assertIn("whole number", heard.wait(lambda x: "event" not in x)["error"])

    def test_P9_a_reader_that_does_not_keep_up_is_told_and_dropped_and_nobody_waits(self):
        count = 900
        self.site.sql("INSERT INTO inventory.units (tenant_id, project_id, code, unit_type_code) "
                      "SELECT %s, %s, 'S-' || i, 'APT_1BR' FROM generate_series(1, %s) i", self.tenant, self.project, count)
        a = self.device("a")
        self.settle()
        slow, quick = self.listen(a), self.listen(a)
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        states = 0
        for i in range(45):  # about 36 kB a state, 1.6 MB in all
            self.site.sql("UPDATE inventory.units SET floor = %s WHERE project_id = %s", i, self.project)
            states += len(quick.wait(lambda x: x["event"] == "state" and "units" in (x["changed"] or {}))["changed"]["units"]) == count
        self.assertGreater(states, 0)
        last = None
        with contextlib.suppress(ConnectionResetError):
            while (line := slow.line()) is not None:
                last = line
        self.assertEqual(last["event"], "dropped")
        quick.send('{"wait":"durable"}')
        quick.wait(lambda x: "answer" in x)

    def test_P9_the_socket_is_its_owners_alone_and_bounded(self):
        a = self.device("a")
        self.settle()
        path = os.path.join(a.state, "run", "agent.sock")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        heard = self.listen(a)
        heard.send("x" * 10000)
        self.assertIn("4096", heard.wait(lambda x: "event" not in x and "error" in x)["error"])
        heard.send("[1,")
        self.assertIn("JSON", heard.wait(lambda x: "event" not in x and "error" in x)["error"])
        heard.send('{"wait":"durable"}')
        heard.wait(lambda x: "answer" in x)
        others = [self.listen(a) for _ in range(31)]
        for one in others:
            self.assertEqual(one.line()["event"], "hello")
        self.assertEqual(self.listen(a).line()["event"], "dropped")
        a.kill9()
        a.start()  # the socket of one that died is replaced
        wait_until(lambda: a.run("barrier").returncode == 0, 30, "the new socket")
        a.stop()
        self.assertFalse(os.path.exists(path))
        self.assertEqual(a.run("barrier").returncode, 4)


if __name__ == "__main__":
    unittest.main()
