#!/usr/bin/python3
"""[P 6.6] Rows larger than a message travel in pieces, both ways, by deltas and by fills."""

import json
import random
import unittest
import uuid

from ferry_proxy import Proxy
from ferry_run import SiteCase, wait_until

MIB = 1 << 20


def scan(seed, size):
    """A room scan of about so many bytes, as text; what compresses badly among what compresses well."""
    rng = random.Random(seed)
    walls = []
    total = 0
    while total < size:
        wall = {"id": str(uuid.UUID(int=rng.getrandbits(128))), "name": "Wänd €🚢 %d" % len(walls),
                "transform": [rng.random() for _ in range(16)], "note": "concrete " * 20}
        walls.append(wall)
        total += len(json.dumps(wall, ensure_ascii=False).encode())
    return json.dumps({"version": 2, "walls": walls}, ensure_ascii=False)


class LargeRows(SiteCase):
    def setUp(self):
        super().setUp()
        self.unit = self.new_unit()

    def hub_scan(self, document):
        return str(self.site.value("INSERT INTO roomscan.room_scans (tenant_id, unit_id, captured_at, document) "
                                   "VALUES (%s, %s, now(), %s) RETURNING id", self.tenant, self.unit, document))

    def device_scan(self, agent, document):
        return agent.value("INSERT INTO room_scans (unit_id, captured_at, document) "
                           "VALUES (?, '2026-03-01T08:30:00.000000Z', ?) RETURNING id", self.unit, document)

    def held(self, agent, key):
        return agent.value("SELECT document FROM room_scans WHERE id = ?", key)

    def at_hub(self, key):
        return self.site.value("SELECT document FROM roomscan.room_scans WHERE id = %s", key)

    def test_scan_of_5_mib_travels_both_ways_by_delta_and_by_fill(self):
        a, b = self.device("a"), self.device("b")
        self.settle()
        down, up = scan(1, 5 * MIB), scan(2, 5 * MIB)
        from_hub = self.hub_scan(down)
        self.settle()
        self.assertEqual(json.loads(self.held(a, from_hub)), json.loads(down))
        from_device = self.device_scan(a, up)
        self.settle()
        self.assertEqual(self.at_hub(from_device), json.loads(up))
        self.assertEqual(json.loads(self.held(b, from_device)), json.loads(up))
        late = self.device("late")  # by a fill
        self.settle()
        self.assertEqual(json.loads(self.held(late, from_hub)), json.loads(down))
        self.assert_same(a, b, late)

    def test_change_of_a_large_row_and_small_ones_of_its_transaction_arrive_together(self):
        a, b = self.device("a"), self.device("b")
        key = self.hub_scan(scan(3, 3 * MIB))
        self.settle()
        documents = [scan(seed, size) for seed, size in ((4, 2 * MIB), (5, 300000), (6, 4 * MIB), (7, 260000))]
        with a.transaction() as db:
            db.execute("UPDATE units SET code = 'B-1' WHERE id = ?", (self.unit,))
            for document in documents:
                db.execute("INSERT INTO room_scans (unit_id, captured_at, document) "
                           "VALUES (?, '2026-03-01T08:30:00.000000Z', ?)", (self.unit, document))
            db.execute("UPDATE room_scans SET document = ?, captured_at = '2026-03-02T08:30:00.000000Z' WHERE id = ?",
                       (scan(8, 2 * MIB), key))
            db.execute("UPDATE units SET floor = 7 WHERE id = ?", (self.unit,))
        self.settle()
        self.assertEqual(self.at_hub(key), json.loads(scan(8, 2 * MIB)))
        self.assertEqual(b.row("units", self.unit)["floor"], 7)
        self.assertEqual(self.site.value("SELECT count(DISTINCT s.number) FROM ferry.settled s WHERE s.device_id = %s", a.id), 1)
        self.assertEqual(a.value("SELECT count(*) FROM ferry_rejected"), 0)
        self.assert_same(a, b)

    def test_link_cut_and_agent_killed_inside_a_large_row_it_comes_whole(self):
        proxy = Proxy(self.hub.device_port, seed=1)
        self.addCleanup(proxy.close)
        a = self.device("a", hub_port=proxy.port)
        self.settle()
        for i in range(6):
            with self.subTest(i):
                up, down = scan(10 + i, 4 * MIB), scan(20 + i, 4 * MIB)
                cuts = proxy.cuts
                proxy.cut_after(**{("sent", "received")[i // 2 % 2]: 250000 * (i + 1)})
                from_device, from_hub = self.device_scan(a, up), self.hub_scan(down)
                wait_until(lambda: proxy.cuts > cuts or self.at_hub(from_device), 30, "a cut")  # pylint: disable=cell-var-from-loop
                if i % 2:
                    a.kill9()
                    a.start()
                self.settle()
                self.assertEqual(self.at_hub(from_device), json.loads(up))
                self.assertEqual(json.loads(self.held(a, from_hub)), json.loads(down))
        self.assert_same(a)

    def test_row_above_the_limit_is_refused_on_the_device_and_holds_up_nobody(self):
        a = self.device("a")
        self.settle()
        too_large = self.device_scan(a, json.dumps({"blob": "x" * (65 * MIB)}))
        small = self.device_scan(a, '{"version": 2}')
        self.settle()
        self.assertEqual(a.sql("SELECT key, name, op FROM ferry_rejected"), [(too_large, "ROW_TOO_LARGE", "insert")])
        self.assertIsNone(self.held(a, too_large))
        self.assertEqual(self.at_hub(small), {"version": 2})
        self.assert_same(a)

    def test_row_above_the_limit_at_the_hub_is_told_and_holds_up_nobody(self):
        a = self.device("a")
        self.settle()
        too_large = self.hub_scan(json.dumps({"blob": "x" * (65 * MIB)}))
        small = self.hub_scan('{"version": 2}')
        wait_until(lambda: self.held(a, small), 60, "the small row")
        self.assertIsNone(self.held(a, too_large))
        self.assertIn("does not reach devices", self.hub.log_text())
        self.assertGreaterEqual(self.hub.status()["database"]["oversized_rows"], 1)

    def test_large_values_of_a_conflict_stay_at_the_hub_and_the_device_is_told(self):
        a, b = self.device("a"), self.device("b")
        key = self.hub_scan('{"version": 2}')
        self.settle()
        first, second = scan(30, 2 * MIB), scan(31, 2 * MIB)
        b.stop()
        with b.transaction() as db:
            db.execute("UPDATE room_scans SET document = ? WHERE id = ?", (first, key))
        a.sql("UPDATE room_scans SET document = ? WHERE id = ?", second, key)
        self.settle(a)
        b.start()
        self.settle()
        self.assertEqual(b.sql('SELECT key, "column", device_value, hub_value, values_at_hub FROM ferry_conflict'),
                         [(key, "document", None, None, 1)])
        kept = self.site.sql("SELECT device_value, hub_value FROM ferry.conflict WHERE key = %s", key)
        self.assertEqual([[json.loads(v) if isinstance(v, str) else v for v in row] for row in kept],
                         [[json.loads(first), json.loads(second)]])


if __name__ == "__main__":
    unittest.main()
