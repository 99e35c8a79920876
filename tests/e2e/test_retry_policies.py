#!/usr/bin/python3
"""A refused difference that is tried again is a difference still: what others did meanwhile stays (R2)."""

import json
import unittest

from ferry_run import SiteCase, wait_until


class RetriedDifferences(SiteCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for column, policy, options in (("floor", "counter", None), ("view", "text", None),
                                        ("status", "guard", json.dumps({"available": ["reserved"]}))):
            cls.site.sql("SELECT ferry.policy('inventory.units', %s, %s, %s)", column, policy, options)

    def refused(self, floor="floor + 5"):
        """A device whose edit of three columns was refused for its status, and what the hub has made of the row since."""
        unit = self.new_unit(floor=10, view="one\ntwo\nthree", status="available")
        a = self.device("a")
        self.settle()
        a.sql("UPDATE units SET floor = %s, view = 'one\ntwo\nthree!', status = 'sold' WHERE id = ?" % floor, unit)
        self.settle()
        self.assertEqual(a.sql("SELECT name FROM ferry_rejected"), [("GUARD",)])
        self.site.sql("UPDATE inventory.units SET floor = floor + 100, view = 'one?\ntwo\nthree' WHERE id = %s", unit)
        self.settle()
        return a, unit, a.value("SELECT number FROM ferry_rejected")

    def retry(self, a, number, **values):
        for column, value in values.items():
            a.sql("UPDATE ferry_rejected SET \"values\" = json_set(\"values\", '$.' || ?, ?) WHERE number = ?", column, value, number)
        a.sql("INSERT INTO ferry_repair(action, rejected) VALUES ('retry', ?)", number)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 0, 20, "the repair")
        self.settle()
        self.assertEqual(a.value("SELECT count(*) FROM ferry_rejected"), 0)
        self.assert_same()

    def at_hub(self, unit):
        return self.site.sql("SELECT floor, view, status::text FROM inventory.units WHERE id = %s", unit)[0]

    def test_R2_a_refused_difference_is_tried_again_over_what_others_did_meanwhile(self):
        a, unit, number = self.refused()
        self.retry(a, number, status="reserved")
        self.assertEqual(self.at_hub(unit), (115, "one?\ntwo\nthree!", "reserved"))

    def test_a_value_that_a_person_has_put_in_its_place_is_taken_as_it_is(self):
        a, unit, number = self.refused()
        self.retry(a, number, status="reserved", floor=7)
        self.assertEqual(self.at_hub(unit), (7, "one?\ntwo\nthree!", "reserved"))

    def test_R2_one_that_does_not_go_with_what_stands_there_now_writes_over_nobody(self):
        a, unit, number = self.refused(floor="NULL")
        a.sql("UPDATE ferry_rejected SET \"values\" = json_set(\"values\", '$.status', 'reserved')")
        a.sql("INSERT INTO ferry_repair(action, rejected) VALUES ('retry', ?)", number)
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_repair WHERE done_at IS NOT NULL") == 1, 20, "the answer")
        self.assertIn("What was made of floor does not go with what stands there now", a.value("SELECT error FROM ferry_repair"))
        self.assertEqual((a.value("SELECT count(*) FROM ferry_rejected"), a.row("units", unit)["floor"]), (1, 110))
        a.json("rejected", "retry", number, "--without", "floor")
        wait_until(lambda: a.value("SELECT count(*) FROM ferry_rejected") == 0, 20, "the repair")
        self.settle()
        self.assertEqual(self.at_hub(unit), (110, "one?\ntwo\nthree!", "reserved"))
        self.assert_same()

    def test_triggers_of_apps_may_say_a_text_in_double_quotes(self):
        a, unit, number = self.refused()
        a.sql('CREATE TABLE seen (what)')
        a.sql('CREATE TRIGGER see AFTER UPDATE ON units BEGIN INSERT INTO seen VALUES ("changed"); END')
        self.retry(a, number, status="reserved")
        self.assertEqual(self.at_hub(unit), (115, "one?\ntwo\nthree!", "reserved"))
        self.assertEqual(a.sql("SELECT DISTINCT what FROM seen"), [("changed",)])


if __name__ == "__main__":
    unittest.main()
