#!/usr/bin/python3
"""Agents and hubs one protocol version older and newer than the other side work; those too far apart lose nothing."""

import random
import unittest
import uuid

from ferry_relay import Relay
from ferry_run import SiteCase, wait_until
import ferry_socket
from ferry_socket import ACK, CODES, COMMIT, HELLO, PONG, UNKNOWN, WELCOME, block, change_set

OLDER, NOW, NEWER = 1, 2, 3
COMPARE = 1  # the feature


class Skew(SiteCase):

    def setUp(self):
        super().setUp()
        self.unit = self.new_unit()
        self.key = uuid.UUID(self.unit).bytes

    def tearDown(self):
        super().tearDown()
        self.speak(self.hub, OLDER, NOW)

    def speak(self, program, lowest, highest):
        """From its next start on; a hub that runs is started again."""
        if program.settings.get("protocol.lowest", OLDER) == lowest and program.settings.get("protocol.highest", NOW) == highest:
            return
        program.configure(protocol__lowest=lowest, protocol__highest=highest)
        if program is self.hub:
            program.stop()
            program.start()

    def push(self, s, tables, number, view, **more):
        base = max(m[1] for m in s.got if m[0] == COMMIT)
        s.send({0: 4, 1: [change_set(number, block(tables["units"], 2, self.key, view=view), base=base, **more)]})
        self.assertEqual(s.wait(ACK)[1][0][2], 1)
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", self.unit), view)

    def check_exchange(self, device):
        """Both ways, over an agent that runs."""
        up, down = uuid.uuid4().hex, random.randrange(1000000)
        device.sql("UPDATE units SET view = ? WHERE id = ?", up, self.unit)
        self.site.sql("UPDATE inventory.units SET floor = %s WHERE id = %s", down, self.unit)
        self.settle(device)
        self.assertEqual(self.site.sql("SELECT view, floor FROM inventory.units WHERE id = %s", self.unit), [(up, down)])
        self.assert_same(device)

    # ---- a peer of the tests' own with the real hub

    def test_hub_takes_the_highest_common_version_with_peers_of_all_ranges(self):
        device = self.device("a", start=False)
        for number, (lowest, highest, taken) in enumerate([(OLDER, OLDER, OLDER), (OLDER, NOW, NOW), (NOW, NOW, NOW),
                                                           (OLDER, NEWER, NOW), (NOW, NEWER, NOW)], 1):
            with self.subTest(lowest=lowest, highest=highest), self.session(device) as s:
                welcome, tables = s.greet(versions=(lowest, highest), k26=COMPARE)
                self.assertEqual(welcome[1], taken)
                self.push(s, tables, number, "of %d" % number)

    def test_features_that_both_have_are_named_and_no_others(self):
        device = self.device("a", start=False)
        for said, named in ((None, 0), (COMPARE, COMPARE), ((1 << 63) + COMPARE, COMPARE), (1 << 40, 0)):
            with self.subTest(said=said), self.session(device) as s:
                welcome, _ = s.greet(versions=(NOW, NOW), **({} if said is None else {"k26": said}))
                self.assertEqual((welcome.get(24, 0), welcome.get(16, False)), (named, False))
                if named == 0:  # so it must not ask
                    s.send({0: 14, 1: "tenant", 2: 1, 3: [{}]})
                    self.assertEqual(s.end()[0], CODES["UNEXPECTED_MESSAGE"])
        with self.session(device) as s:
            welcome, _ = s.greet(versions=(OLDER, OLDER), k26=COMPARE)
            self.assertEqual((welcome.get(24), welcome.get(16)), (None, True))

    def test_fields_of_a_later_time_are_skipped_in_every_message(self):
        device = self.device("a", start=False)
        more = {"k77": {1: [b"\0", "x", None, {2: True}]}}
        with self.session(device) as s:
            _, tables = s.greet(versions=(OLDER, NEWER), k90="new", k91=[1, 2])
            base = max(m[1] for m in s.got if m[0] == COMMIT)
            rows = block(tables["units"], 2, self.key, view="sea")
            rows[60] = {1: "new"}
            s.send({0: 4, 1: [change_set(1, rows, base=base, **more)], 50: [1]})
            self.assertEqual(s.wait(ACK)[1][0][2], 1)
            s.send({0: 10, 1: 5, 2: 6, 33: "new"})
            self.assertEqual(s.wait(PONG)[1], 5)
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", self.unit), "sea")

    def test_message_of_a_later_time_that_may_be_lost_is_passed_over_and_the_session_goes_on(self):
        device = self.device("a", start=False)
        with self.session(device) as s:
            _, tables = s.greet(versions=(NOW, NEWER))
            for kind in (128, 200, 255):
                s.send({0: kind, 1: {1: ["anything"]}, 9: b"\0" * 1000})
                self.assertEqual(s.wait(UNKNOWN), {0: UNKNOWN, 1: kind})
            self.push(s, tables, 1, "garden")
            s.send({0: UNKNOWN, 1: 130})  # what a device says of the hub's harms nothing
            self.push(s, tables, 2, "sea")

    def test_other_message_of_a_later_time_ends_its_session_alone_and_the_next_one_goes_on(self):
        device = self.device("a", start=False)
        for version, kind in ((NOW, 100), (NOW, 256), (NOW, 1 << 40), (OLDER, 200)):
            with self.subTest(version=version, kind=kind), self.session(device) as s:
                _, tables = s.greet(versions=(version, version))
                self.push(s, tables, 1, "before")
                s.send({0: kind, 1: 1})
                self.assertEqual(s.end()[0], CODES["UNKNOWN_MESSAGE"])
        with self.session(device) as s:
            welcome, tables = s.greet(versions=(NOW, NOW))
            self.assertEqual(welcome[9], 1)  # settled once
            self.push(s, tables, 2, "after")

    def test_peer_without_a_common_version_is_told_both_ranges_and_who_is_to_be_upgraded(self):
        device = self.device("a", start=False)
        for lowest, highest, hub, who in ((NEWER, NEWER + 6, (OLDER, NOW), "hub"), (OLDER, OLDER, (NOW, NOW), "device")):
            with self.subTest(lowest=lowest):
                self.speak(self.hub, *hub)
                with self.session(device) as s:
                    s.hello(versions=(lowest, highest))
                    error = s.message()
                self.assertEqual((error[0], error[1]), (ferry_socket.ERROR, CODES["VERSION"]))
                self.assertIn("versions %d to %d, this device %d to %d" % (*hub, lowest, highest), error[2])
                self.assertIn("upgrade the " + who, error[2])

    # ---- real agents and real hubs

    def test_older_agent_works_with_the_newer_hub_and_after_its_upgrade_goes_on_in_place(self):
        a = self.device("a", start=False, settings={"protocol.highest": OLDER})
        a.start()
        self.hub.wait_log("version=%d" % OLDER)
        self.settle(a)
        self.check_exchange(a)
        a.stop()
        a.sql("UPDATE units SET view = 'unsent' WHERE id = ?", self.unit)
        self.speak(a, OLDER, NOW)
        since = self.hub.log_size()
        a.start()
        self.settle(a)
        self.hub.wait_log("mode=delta code=OK", since=since)
        self.hub.wait_log("version=%d" % NOW, since=since)
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", self.unit), "unsent")
        self.check_exchange(a)

    def test_newer_agent_works_with_the_older_hub_and_goes_on_when_that_is_upgraded(self):
        self.speak(self.hub, OLDER, OLDER)
        since = self.hub.log_size()
        a = self.device("a")
        self.settle(a)
        self.hub.wait_log("version=%d" % OLDER, since=since)
        self.check_exchange(a)
        since = self.hub.log_size()
        self.speak(self.hub, OLDER, NOW)
        self.hub.wait_log("version=%d" % NOW, since=since)
        self.check_exchange(a)

    def test_P5_agent_that_is_too_old_says_so_keeps_its_edits_and_sends_them_after_its_upgrade(self):
        a = self.device("a", start=False, settings={"protocol.highest": OLDER})
        a.sync()
        self.speak(self.hub, NOW, NOW)
        a.sql("UPDATE units SET view = 'kept' WHERE id = ?", self.unit)
        done = a.run("sync", "--wait", "20", "--json")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("VERSION", done.stdout)
        self.assertIn("upgrade the device", done.stdout)
        a.start()  # one that runs stays, and tries again later
        wait_until(lambda: a.status()["error"] is not None and "VERSION" in str(a.status()), 20, "the code in the status")
        self.assertTrue(a.running())
        self.assertEqual(a.standing()[1:], (1, 1))
        a.stop()
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", self.unit), None)
        self.speak(a, OLDER, NOW)
        a.start()
        self.settle(a)
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", self.unit), "kept")
        self.assert_same(a)

    def test_agent_of_the_newer_version_alone_waits_for_the_hub_with_its_edits(self):
        a = self.device("a", start=False, settings={"protocol.lowest": NOW})
        a.sync()
        self.speak(self.hub, OLDER, OLDER)
        a.sql("UPDATE units SET view = 'kept' WHERE id = ?", self.unit)
        done = a.run("sync", "--wait", "20", "--json")
        self.assertIn("upgrade the hub", done.stdout)
        self.speak(self.hub, OLDER, NOW)
        a.sync()
        self.assertEqual(self.site.value("SELECT view FROM inventory.units WHERE id = %s", self.unit), "kept")

    def test_real_agent_and_a_hub_of_a_later_time_work(self):
        """The relay makes of the hub one that says more, in every message, than this agent has heard of."""
        def down(m):
            m = dict(m)
            m[199] = {1: [b"\0", "x"], 2: None}
            for inner in m.get(4, []) if m[0] in (ferry_socket.DELTA,) else m.get(2, []) if m[0] == ferry_socket.SCHEMA else []:
                inner[120] = "new"
            lost = [{0: 150, 1: "may be lost"}, {0: 255, 7: [1, {2: 3}]}] if m[0] in (WELCOME, COMMIT) else []
            return [m] + lost

        a = self.device("a", start=False)
        with Relay(self.hub, a, down=down) as relay:
            a.configure(hub__port=relay.port)
            a.start()
            self.settle(a)
            self.check_exchange(a)
            self.assertEqual({m[1] for m in relay.seen["up"] if m[0] == UNKNOWN}, {150, 255})
            self.assertEqual(relay.types("up").count(HELLO), 1)  # one session throughout
            a.stop()

    def test_real_hub_and_an_agent_of_a_later_time_work(self):
        def up(m):
            if m[0] == HELLO:
                return [dict(m) | {2: NEWER, 26: (1 << 50) | m.get(26, 0), 80: ["new"]}]
            if m[0] == ferry_socket.PING:
                return [dict(m) | {40: "new"}, {0: 222, 1: {}}]
            return None

        a = self.device("a", start=False)
        with Relay(self.hub, a, up=up) as relay:
            a.configure(hub__port=relay.port)
            a.start()
            self.settle(a)
            self.check_exchange(a)
            self.assertEqual([m[1] for m in relay.seen["down"] if m[0] == WELCOME], [NOW])
            self.assertEqual({m[1] for m in relay.seen["down"] if m[0] == UNKNOWN}, {222})
            a.stop()

    def test_hub_that_picks_a_version_the_agent_did_not_offer_is_left_with_VERSION(self):
        a = self.device("a", start=False)
        with Relay(self.hub, a, down=lambda m: [dict(m) | {1: NEWER}] if m[0] == WELCOME else None) as relay:
            a.configure(hub__port=relay.port)
            done = a.run("sync", "--wait", "20", "--json")
            self.assertIn("VERSION", done.stdout)


if __name__ == "__main__":
    unittest.main()
