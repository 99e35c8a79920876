#!/usr/bin/python3
"""The policy `review` on real devices (docs/merge.md): what stands of two people's edits, who is told, and how a person
decides: at the hub by command and by SQL, and on the device."""

import unittest

from ferry_run import SiteCase, wait_until


class Review(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql("SELECT ferry.policy('inventory.units', 'view', 'review')")

    def some(self, **columns):
        """A unit that two devices hold; their agents are stopped."""
        unit = self.new_unit(**columns)
        devices = self.device("a"), self.device("b")
        self.settle()
        for d in devices:
            d.stop()
        return unit, *devices

    def start(self, *devices):
        """One after the other, so that who comes first is known."""
        for d in devices:
            d.start()
            self.settle(d)
        self.settle(*devices)

    def hub_view(self, unit):
        return self.site.value("SELECT view FROM inventory.units WHERE id = %s", unit)

    def open_conflicts(self):
        return self.site.sql("SELECT device_id::text, number, device_value, hub_value, other_device_id::text, winner, state FROM ferry.conflict "
                             "WHERE tenant_id = %s", self.tenant)

    def listed(self, *more):
        return self.hub.json("conflict", "list", "--tenant", self.tenant, *more)

    def verdicts(self, d):
        return [v for v, in d.sql("SELECT verdict FROM ferry_verdict ORDER BY number")]

    def clash(self):
        """a's edit is at the hub, b's has not seen it, and is later."""
        unit, a, b = self.some(view="none")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        b.sql("UPDATE units SET view = 'garden' WHERE id = ?", unit)
        self.start(a, b)
        return unit, a, b

    def assert_view(self, unit, view, *devices):
        self.settle()
        self.assertEqual(self.hub_view(unit), view)
        for d in devices:
            self.assertEqual(d.value("SELECT view FROM units WHERE id = ?", unit), view)
        self.assert_same()

    # ---- the table, row by row

    def test_both_write_the_same_and_there_is_nothing_to_decide(self):
        unit, a, b = self.some(view="none")
        for d in (a, b):
            d.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.start(a, b)
        self.assert_view(unit, "sea", a, b)
        self.assertEqual((self.verdicts(a), self.verdicts(b)), (["accepted"], ["accepted"]))
        self.assertEqual(self.open_conflicts(), [])

    def test_an_edit_that_has_seen_the_hubs_value_stands(self):
        unit, a, b = self.some(view="none")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.start(a, b)
        b.sql("UPDATE units SET view = 'garden' WHERE id = ?", unit)
        self.settle()
        b.sql("UPDATE units SET view = 'pool' WHERE id = ?", unit)
        self.assert_view(unit, "pool", a, b)
        self.assertEqual((self.verdicts(a), self.verdicts(b)), (["accepted"], ["accepted", "accepted"]))
        self.assertEqual(self.open_conflicts(), [])

    def test_P5_a_later_edit_that_has_not_seen_the_hubs_loses_and_both_are_kept_for_a_person(self):
        unit, a, b = self.clash()
        self.assert_view(unit, "sea", a, b)
        self.assertEqual((self.verdicts(a), self.verdicts(b)), (["accepted"], ["superseded"]))
        self.assertEqual(a.sql("SELECT * FROM ferry_conflict"), [])  # who was first is not asked
        self.assertEqual(b.sql('SELECT kind, "column", device_value, hub_value, winner, other_device FROM ferry_conflict'),
                         [("update_update", "view", "garden", "sea", "hub", a.id)])
        (device, _, mine, theirs, other, winner, state), = self.open_conflicts()
        self.assertEqual((device, mine, theirs, other, winner, state), (b.id, "garden", "sea", a.id, "hub", "open"))
        (conflict,) = self.listed()
        self.assertEqual((conflict["table"], conflict["key"], conflict["column"], conflict["device_value"], conflict["hub_value"]),
                         ("inventory.units", unit, "view", "garden", "sea"))

    def test_P5_the_same_holds_against_sql_at_the_hub_and_the_rest_of_the_row_is_merged(self):
        unit, a, b = self.some(view="none", floor=1)
        a.sql("UPDATE units SET view = 'garden', floor = 2 WHERE id = ?", unit)
        self.site.sql("UPDATE inventory.units SET view = 'sea' WHERE id = %s", unit)
        self.start(a, b)
        self.assert_view(unit, "sea", a, b)
        self.assertEqual(self.site.value("SELECT floor FROM inventory.units WHERE id = %s", unit), 2)
        self.assertEqual(self.verdicts(a), ["superseded"])
        self.assertEqual(a.sql("SELECT device_value, hub_value, other_device FROM ferry_conflict"), [("garden", "sea", None)])
        self.assertEqual(b.sql("SELECT * FROM ferry_conflict"), [])

    def test_R1_what_is_built_on_the_edit_that_lost_loses_as_well(self):
        unit, a, b = self.some(view="none")
        a.sql("UPDATE units SET view = 'sea' WHERE id = ?", unit)
        self.hub.stop()
        for view in ("garden", "pool"):
            b.sql("UPDATE units SET view = ? WHERE id = ?", view, unit)
            b.run("sync", "--wait", "0")  # a change-set of its own
        self.hub.start()
        self.start(a, b)
        self.assert_view(unit, "sea", a, b)
        self.assertEqual(self.verdicts(b), ["superseded", "superseded"])
        self.assertEqual(b.sql("SELECT device_value, hub_value FROM ferry_conflict ORDER BY id"), [("garden", "sea"), ("pool", "sea")])

    # ---- a person decides

    def test_a_person_decides_at_the_hub_by_command(self):
        unit, a, b = self.clash()
        (conflict,) = self.listed()
        done = self.hub.json("conflict", "resolve", conflict["id"], "--take", "device", "--by", "ann")
        self.assertEqual((done["before"], done["after"], done["done"]), ("sea", "garden", True))
        self.assert_view(unit, "garden", a, b)
        self.assertEqual(self.listed(), [])
        self.assertEqual([(c["state"], c["resolved_by"], c["resolution"]) for c in self.listed("--all")], [("resolved", "ann", "device")])

    def test_what_stands_may_be_left_and_the_conflict_is_settled(self):
        unit, a, b = self.clash()
        (conflict,) = self.listed()
        self.hub.json("conflict", "resolve", conflict["id"], "--take", "hub")
        self.assert_view(unit, "sea", a, b)
        self.assertEqual(self.listed(), [])

    def test_a_person_decides_at_the_hub_by_sql(self):
        unit, a, b = self.clash()
        key = self.site.value("SELECT id FROM ferry.conflict WHERE tenant_id = %s", self.tenant)
        self.assertEqual(self.site.sql("SELECT action, before, after, resolved FROM ferry.resolve_conflict(%s, 'value', 'lake', 'ann')", key),
                         [("update", "sea", "lake", 1)])
        self.assert_view(unit, "lake", a, b)
        self.assertEqual(self.site.sql("SELECT state, resolved_by, resolution FROM ferry.conflict WHERE id = %s", key), [("resolved", "ann", "value")])

    def test_the_device_that_lost_puts_its_value_back_as_an_edit_that_has_seen_the_other(self):
        unit, a, b = self.clash()
        b.sql("INSERT INTO ferry_repair(action, conflict) SELECT 'put back', id FROM ferry_conflict")
        wait_until(lambda: b.value("SELECT count(*) FROM ferry_repair WHERE done_at IS NULL") == 0, 20, "the repair")
        self.settle()
        self.assert_view(unit, "garden", a, b)
        self.assertEqual(b.sql("SELECT action, error FROM ferry_repair"), [("put back", None)])
        self.assertEqual(b.sql("SELECT * FROM ferry_conflict"), [])
        self.assertEqual(self.verdicts(b), ["superseded", "accepted"])

    def test_any_device_decides_by_writing_the_value_that_shall_stand(self):
        unit, a, b = self.clash()
        a.sql("UPDATE units SET view = 'both' WHERE id = ?", unit)
        self.assert_view(unit, "both", a, b)
        self.assertEqual(self.verdicts(a), ["accepted", "accepted"])
        b.sql("INSERT INTO ferry_repair(action, conflict) SELECT 'dismiss', id FROM ferry_conflict")
        wait_until(lambda: b.value("SELECT count(*) FROM ferry_repair WHERE done_at IS NULL") == 0, 20, "the repair")
        self.settle()
        self.assertEqual(b.sql("SELECT * FROM ferry_conflict"), [])
        self.assert_view(unit, "both", a, b)
        # At the hub it is listed until somebody says so there.
        self.assertEqual([(c["device_value"], c["state"]) for c in self.listed()], [("garden", "open")])


if __name__ == "__main__":
    unittest.main()
