#!/usr/bin/python3
"""What the hub keeps of refused, parked and staged change-sets has limits: beyond them a change-set stays on its device."""

import os
import unittest
import uuid

import ferry_run
from ferry_run import SiteCase, wait_until

NOTE = "x" * 70000
LIMIT = 64 << 10
KEPT = ("SELECT coalesce((SELECT sum(octet_length(body) + 200) FROM ferry.rejected WHERE device_id = %s), 0) "
        "+ coalesce((SELECT sum(octet_length(body) + 200) FROM ferry.stage WHERE device_id = %s), 0)")


class KeptLimits(SiteCase):

    HUB_SETTINGS = {"limits.kept_device": "64KiB", "limits.kept_tenant": "64KiB"}

    def setUp(self):
        super().setUp()
        self.a = self.device("a", scopes=[])
        self.a.wait_filled()

    def refused(self, agent, note=NOTE):
        """A lead of a company that the hub has not; its key."""
        key = str(uuid.uuid4())
        agent.sql("INSERT INTO leads (id, company_id, attributes) VALUES (?, ?, ?)", key, str(uuid.uuid4()), '{"note": "%s"}' % note)
        return key

    def fill_up(self):
        key = self.refused(self.a)
        wait_until(lambda: self.a.value("SELECT count(*) FROM ferry_rejected") == 1, 60, "the first refusal")
        return key

    def wait_parked(self, agent, count):
        wait_until(lambda: agent.value("SELECT parked FROM ferry_status") == count, 60, "%d change-sets that wait" % count)

    def kept(self, agent):
        (row,) = [d for d in self.hub.json("device", "list", "--tenant", self.tenant) if d["id"] == agent.id]
        self.assertEqual(row["kept_bytes"], self.site.value(KEPT, agent.id, agent.id))
        return row["kept_bytes"]

    def test_P5_P6_refused_one_without_room_stays_in_the_outbox_and_all_else_goes_on(self):
        self.fill_up()
        self.assertGreater(self.kept(self.a), LIMIT)
        before = self.hub.status()["database"]["kept_full"]
        key = self.refused(self.a)
        self.wait_parked(self.a, 1)
        self.a.sql("UPDATE leads SET score = 7 WHERE id = ?", key)  # builds on it
        good = str(uuid.uuid4())
        self.a.sql("INSERT INTO leads (id) VALUES (?)", good)
        wait_until(lambda: self.site.value("SELECT count(*) FROM crm.leads WHERE id = %s", good) == 1, 60, "what is accepted")
        (waits,) = [r for r in self.a.json("outbox") if r["op"] == "insert"]
        self.assertEqual(waits["key"], key)
        self.assertRegex(waits["parked"], "^the hub has no room to keep it, .* refused: a row of leads refers to a row that does not exist")
        self.assertEqual(self.a.value("SELECT name FROM ferry_parked"), "KEPT_FULL")
        self.assertEqual(self.a.value("SELECT count(*) FROM ferry_rejected"), 1)
        self.assertGreater(self.hub.status()["database"]["kept_full"], before)
        self.assertIn("event=kept-full", self.hub.log_text())
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.rejected WHERE tenant_id = %s", self.tenant), 1)
        # Room is made, and at its next contact the hub judges and keeps it.
        self.site.sql("DELETE FROM ferry.rejected WHERE tenant_id = %s", self.tenant)
        self.assertEqual(self.kept(self.a), 0)
        self.a.stop()
        self.a.start()
        wait_until(lambda: self.a.value("SELECT parked FROM ferry_status") == 0 and self.a.standing()[1:] == (0, 0), 60, "the verdicts")
        self.assertEqual(self.a.sql("SELECT key, name FROM ferry_rejected WHERE id > 1 ORDER BY id")[:1], [(key, "FOREIGN_KEY")])
        self.assertEqual(self.site.sql("SELECT number, code FROM ferry.rejected WHERE tenant_id = %s ORDER BY 1", self.tenant)[0][1], 305)
        self.kept(self.a)
        self.settle()
        self.assert_same()

    def test_limit_of_the_tenant_holds_for_a_device_of_which_nothing_is_kept_and_not_for_other_tenants(self):
        self.fill_up()
        b = self.device("b", scopes=[])
        b.wait_filled()
        self.refused(b, "short")
        self.wait_parked(b, 1)
        self.assertEqual(self.kept(b), 0)
        other = self.hub.tenant("Other", "o" + uuid.uuid4().hex[:12])
        c = self.device("c", tenant=other, scopes=[])
        c.wait_filled()
        self.refused(c, "short")
        wait_until(lambda: c.value("SELECT count(*) FROM ferry_rejected") == 1, 60, "the refusal of another tenant's device")
        self.settle()

    def test_P5_large_one_without_room_is_refused_and_its_values_are_on_the_device(self):
        self.fill_up()
        keys = [str(uuid.uuid4()) for _ in range(20)]
        with self.a.transaction() as db:
            db.executemany("INSERT INTO leads (id, attributes) VALUES (?, ?)", [(key, '{"note": "%s"}' % NOTE) for key in keys])
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        wait_until(lambda: self.a.value("SELECT count(*) FROM ferry_rejected WHERE name = 'KEPT_FULL'") == len(keys), 60, "its refusal")
        self.settle()
        self.assertEqual({row[0] for row in self.a.sql("SELECT key FROM ferry_rejected WHERE name = 'KEPT_FULL'")}, set(keys))
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.stage WHERE tenant_id = %s", self.tenant), 0)
        self.kept(self.a)
        self.assert_same()

    def test_hub_whose_tenant_limit_is_below_that_of_a_device_says_so(self):
        hub = ferry_run.Hub(os.path.join(self.site.folder, "wrong"), self.db, {"limits.kept_device": "2MiB", "limits.kept_tenant": "1MiB"})
        done = hub.run("serve", timeout=30)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("limits.kept_tenant is below limits.kept_device", done.stderr)


if __name__ == "__main__":
    unittest.main()
