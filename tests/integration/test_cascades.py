#!/usr/bin/python3
"""What foreign keys take along with a row that a device deletes (docs/merge.md): the hub's store on a real PostgreSQL, by merge-driver."""

import json
import os
import subprocess
import threading
import unittest
import uuid

from ferry_case import HubCase
from ferry_pg import wait_until

DRIVER = os.path.join(os.environ["FERRY_BUILD"], "bin", "merge-driver")
ACCEPTED, SUPERSEDED, REJECTED, PARKED = 1, 2, 3, 4
AT = 1700000000000000

TABLES = """
CREATE SCHEMA p AUTHORIZATION ferry_owner;
SET ROLE ferry_owner;
CREATE TABLE p.room (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, up_id uuid, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, up_id) REFERENCES p.room DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE p.tag (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, word text, room_id uuid NOT NULL, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, room_id) REFERENCES p.room ON DELETE CASCADE);
CREATE TABLE p.mark (tenant_id uuid NOT NULL, id uuid NOT NULL, at timestamptz, tag_id uuid NOT NULL, place text, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, tag_id) REFERENCES p.tag ON DELETE CASCADE);
CREATE TABLE p.note (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, room_id uuid, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, room_id) REFERENCES p.room ON DELETE CASCADE);
CREATE TABLE p.scan (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, room_id uuid, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, room_id) REFERENCES p.room ON DELETE SET NULL (room_id));
CREATE TABLE p.ring (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, next_id uuid, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, next_id) REFERENCES p.ring ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE p.site (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, code text, PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, code));
CREATE TABLE p.leaf (tenant_id uuid NOT NULL, id uuid NOT NULL, v int, site text, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, site) REFERENCES p.site (tenant_id, code) ON DELETE CASCADE);
SELECT ferry.isolate('p.' || t) FROM unnest('{room,tag,mark,note,scan,ring,site,leaf}'::text[]) t;
SELECT ferry.track('p.site'), ferry.track('p.leaf', exclude => '{site}'), ferry.track('p.note', write => false, exclude => '{room_id}'), ferry.track('p.room'), ferry.track('p.tag'), ferry.track('p.mark', 'row:place'), ferry.track('p.scan'), ferry.track('p.ring');
SELECT ferry.row_policy('p.room', on_missing_parent => 'park', park_for => '1 hour');
SELECT ferry.row_policy('p.scan', on_missing_parent => 'park', park_for => '1 hour');
RESET ROLE;
"""


class Cascades(HubCase):

    PARTS = ("engine",)

    def setUp(self):
        super().setUp()
        self.sql(TABLES)
        self.tenant = str(uuid.uuid4())
        self.a, self.b = (self.device(name) for name in "ab")
        self.driver = subprocess.Popen([DRIVER, self.db.dsn("ferry_hub"), self.tenant], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end)
        self.numbers = {}
        self.room, self.tag, self.mark = (str(uuid.uuid4()) for _ in range(3))

    def end(self):
        self.driver.stdin.close()
        self.assertEqual(self.driver.wait(30), 0)
        self.driver.stdout.close()

    def device(self, name):
        device = str(uuid.uuid4())
        self.sql("INSERT INTO ferry.device (id, tenant_id, name, class, fingerprint) VALUES (%s, %s, %s, 'tablet', sha256(%s))",
                 device, self.tenant, name, device.encode())
        self.sql("INSERT INTO ferry.device_scope VALUES (%s, 'tenant')", device)
        return device

    # ---- change-sets

    def edit(self, device, *rows, base=None, staged=False):
        """rows: (op, table, key, values); base: what the device had seen, else all."""
        self.numbers[device] = self.numbers.get(device, 0) + 1
        return {"device": device, "number": self.numbers[device], "base": self.position() if base is None else base,
                "at": AT + sum(self.numbers.values()), "joined": False, "staged": staged, "depends": [],
                "rows": [dict(zip(("op", "table", "key", "values"), (*row, {})[:4])) for row in rows]}

    def position(self):
        return self.value("SELECT coalesce(max(position), 0) FROM ferry.commit WHERE tenant_id = %s", self.tenant)

    def ask(self, sets):
        self.driver.stdin.write(json.dumps({"do": "merge", "items": sets}) + "\n")
        self.driver.stdin.flush()
        answer = json.loads(self.driver.stdout.readline())
        self.assertEqual(answer["error"], "OK")
        return answer["results"]

    def merge(self, *sets):
        """In one batch; what is held comes again with the next, as from the hub's queue. Verdicts and codes."""
        came, left = {}, list(sets)
        while left:
            results = dict(zip((s["device"] + str(s["number"]) for s in left), self.ask(left)))
            came.update({name: (r["verdict"], r["code"]) for name, r in results.items() if not r["retry"]})
            held = [s for s in left if results[s["device"] + str(s["number"])]["retry"]]
            self.assertLess(len(held), len(left), "the first goes on")
            left = held
        return [came[s["device"] + str(s["number"])] for s in sets]

    def made(self):
        """A room of A's with a tag and a mark, that both have seen."""
        self.assertEqual(self.merge(self.edit(self.a, ("insert", "room", self.room, {"v": 1}), ("insert", "tag", self.tag, {"v": 1, "word": "one", "room_id": self.room}),
                                              ("insert", "mark", self.mark, {"tag_id": self.tag, "place": "tenant"}))), [(ACCEPTED, "OK")])

    def conflicts(self):
        return self.sql("SELECT d.name, x.number::int, t.name, x.key::text, c.name, x.kind, x.winner, x.device_value, x.hub_value, o.name, x.at_hub "
                        "FROM ferry.conflict x JOIN ferry.device d ON d.id = x.device_id JOIN ferry.tracked t USING (tbl) "
                        "LEFT JOIN ferry.tracked_column c ON c.tbl = x.tbl AND c.num = x.num LEFT JOIN ferry.device o ON o.id = x.other_device_id "
                        "ORDER BY d.name, x.number, t.name, c.num")

    def rows(self, table):
        return [key for key, in self.sql("SELECT id::text FROM p.%s ORDER BY id" % table)]

    def both_ways(self, run):
        """The same one after the other and in one batch."""
        came = []
        for together in (False, True):
            self.numbers = {}
            for table in ("ring", "scan", "room"):
                self.sql("DELETE FROM p.%s" % table)
            for table in ("conflict", "settled", "rejected", "parked_wait"):
                self.sql("DELETE FROM ferry." + table)
            self.sql("UPDATE ferry.device SET settled = 0, failed_at = NULL")
            self.room, self.tag, self.mark = (str(uuid.uuid4()) for _ in range(3))
            first, second = run()
            verdicts = self.merge(first, second) if together else self.merge(first) + self.merge(second)
            names = {self.room: "room", self.tag: "tag", self.mark: "mark"}
            came.append((verdicts, [(*x[5:8], names.get(x[8], x[8])) for x in self.conflicts()], len(self.rows("tag")), self.sql("SELECT code FROM ferry.rejected")))
        self.assertEqual(*came)
        return came[0]

    # ---- in a batch as one after the other

    def test_P5_an_edit_of_what_a_deletion_of_the_same_batch_takes_along_is_kept(self):
        def run():
            self.made()
            return self.edit(self.a, ("delete", "room", self.room)), self.edit(self.b, ("update", "tag", self.tag, {"v": 2}))

        verdicts, conflicts, tags, _ = self.both_ways(run)
        self.assertEqual((verdicts, tags), ([(ACCEPTED, "OK"), (SUPERSEDED, "OK")], 0))
        self.assertEqual(conflicts, [("update_delete", "hub", 2, None)])

    def test_P5_so_is_one_of_the_device_that_deletes(self):
        def run():
            self.made()
            return self.edit(self.b, ("delete", "room", self.room)), self.edit(self.b, ("update", "mark", self.mark, {"at": AT}))

        verdicts, conflicts, _, _ = self.both_ways(run)
        self.assertEqual((verdicts, conflicts), ([(ACCEPTED, "OK"), (SUPERSEDED, "OK")], [("update_delete", "hub", AT, None)]))

    def test_P5_a_new_row_beneath_a_deleted_one_is_refused_or_waits_with_its_values(self):
        for table, code in (("tag", (REJECTED, "FOREIGN_KEY")), ("scan", (PARKED, "FOREIGN_KEY")), ("room", (PARKED, "FOREIGN_KEY"))):
            def run():
                self.made()
                column = "up_id" if table == "room" else "room_id"
                return (self.edit(self.a, ("delete", "room", self.room)),
                        self.edit(self.b, ("insert", table, str(uuid.uuid4()), {"v": 3, column: self.room})))

            verdicts, _, _, kept = self.both_ways(run)
            self.assertEqual((verdicts, len(kept)), ([(ACCEPTED, "OK"), code], 1), table)

    def test_P5_a_reference_to_a_deleted_row_waits_and_is_not_emptied(self):
        def run():
            self.made()
            scan = str(uuid.uuid4())
            self.merge(self.edit(self.a, ("insert", "scan", scan, {"v": 1})))
            return self.edit(self.a, ("delete", "room", self.room)), self.edit(self.b, ("update", "scan", scan, {"room_id": self.room}))

        verdicts, _, _, kept = self.both_ways(run)
        self.assertEqual((verdicts, len(kept)), ([(ACCEPTED, "OK"), (PARKED, "FOREIGN_KEY")], 1))

    def test_a_devices_change_sets_keep_their_order_where_one_waits_for_the_next_transaction(self):
        self.made()
        first, to = str(uuid.uuid4()), str(uuid.uuid4())
        self.merge(self.edit(self.a, ("insert", "room", first, {"v": 5}), ("insert", "room", to, {"v": 6})))
        sets = [self.edit(self.a, ("delete", "room", first)), self.edit(self.a, ("update", "tag", self.tag, {"room_id": to})),
                self.edit(self.a, ("delete", "room", self.room))]
        self.assertEqual(self.merge(*sets), [(ACCEPTED, "OK")] * 3)
        self.assertEqual((self.sql("SELECT id::text, room_id::text FROM p.tag"), self.conflicts()), ([(self.tag, to)], []))
        sets = [self.edit(self.b, ("delete", "tag", self.tag)), self.edit(self.b, ("insert", "mark", str(uuid.uuid4()), {"tag_id": str(uuid.uuid4()), "place": "tenant"})),
                self.edit(self.b, ("insert", "tag", str(uuid.uuid4()), {"room_id": to})), self.edit(self.b, ("delete", "room", to))]
        self.assertEqual(self.merge(*sets), [(ACCEPTED, "OK"), (REJECTED, "FOREIGN_KEY"), (ACCEPTED, "OK"), (ACCEPTED, "OK")])

    def test_R11_they_go_on_where_the_batch_is_refused_and_taken_apart(self):
        self.made()
        self.sql("ALTER TABLE p.ring ADD CHECK (v < 100)")
        sets = [self.edit(self.a, ("delete", "room", self.room)), self.edit(self.a, ("insert", "ring", str(uuid.uuid4()), {"v": 100})),
                self.edit(self.a, ("update", "mark", self.mark, {"at": AT})), self.edit(self.a, ("insert", "ring", str(uuid.uuid4()), {"v": 1}))]
        self.assertEqual(self.merge(*sets), [(ACCEPTED, "OK"), (REJECTED, "CONSTRAINT"), (SUPERSEDED, "OK"), (ACCEPTED, "OK")])

    def test_one_that_waits_is_told_only_of_rows_that_are_missing(self):
        site, up = str(uuid.uuid4()), str(uuid.uuid4())
        self.sql("ALTER TABLE p.room ADD COLUMN side_id uuid, ADD FOREIGN KEY (tenant_id, side_id) REFERENCES p.room DEFERRABLE INITIALLY DEFERRED")
        made = self.edit(self.a, ("insert", "room", site, {"v": 1}))
        lacks = self.edit(self.b, ("insert", "room", self.room, {"v": 1, "up_id": up, "side_id": site}))
        self.assertEqual(self.merge(made, lacks), [(ACCEPTED, "OK"), (PARKED, "FOREIGN_KEY")])
        self.assertEqual(self.value("SELECT sentence FROM ferry.rejected"), "it refers to room %s, which is not at the hub yet, and waits there for it" % up)

    # ---- what others changed there

    def test_R4_what_a_deletion_takes_along_unseen_is_kept_as_the_hub_had_it(self):
        def run():
            self.made()
            base = self.position()
            return (self.edit(self.b, ("update", "tag", self.tag, {"v": 7}), ("update", "mark", self.mark, {"at": AT}), base=base),
                    self.edit(self.a, ("delete", "room", self.room), base=base))

        verdicts, _, tags, _ = self.both_ways(run)
        self.assertEqual((verdicts, tags), ([(ACCEPTED, "OK")] * 2, 0))
        kept = [x[2:5] + x[5:] for x in self.conflicts() if x[2] != "room"]
        self.assertEqual(sorted(kept), sorted([
            ("mark", self.mark, "at", "delete_update", "device", None, AT, "b", False), ("mark", self.mark, "tag_id", "delete_update", "device", None, self.tag, "b", False),
            ("mark", self.mark, "place", "delete_update", "device", None, "tenant", "b", False),
            ("tag", self.tag, "v", "delete_update", "device", None, 7, "b", False), ("tag", self.tag, "word", "delete_update", "device", None, "one", "b", False),
            ("tag", self.tag, "room_id", "delete_update", "device", None, self.room, "b", False)]))
        self.assertEqual({x[:2] for x in self.conflicts()}, {("a", 2)})
        # So is what is above: all can be put back.
        for key in (self.room, self.tag, self.mark):
            self.sql("SELECT ferry.resolve_conflict(%s, 'hub')", self.value("SELECT id FROM ferry.conflict WHERE key = %s LIMIT 1", key))
        self.assertEqual(self.sql("SELECT v, word, room_id::text FROM p.tag"), [(7, "one", self.room)])
        self.assertEqual((self.rows("room"), self.rows("mark")), ([self.room], [self.mark]))
        self.assertEqual(self.sql("SELECT FROM ferry.conflict WHERE state = 'open'"), [])

    def test_R4_what_it_had_not_seen_itself_either_is_kept_once(self):
        self.made()
        base = self.position()
        self.merge(self.edit(self.b, ("update", "tag", self.tag, {"v": 7}), ("update", "room", self.room, {"v": 8}), base=base))
        self.assertEqual(self.merge(self.edit(self.a, ("delete", "room", self.room), base=base)), [(ACCEPTED, "OK")])
        self.assertEqual([(x[2], x[4], x[8], x[9]) for x in self.conflicts() if x[4] != "tenant_id"],
                         [("room", "v", 8, "b"), ("tag", "v", 7, "b"), ("tag", "word", "one", "b"), ("tag", "room_id", self.room, "b")])

    def test_R4_what_is_deleted_by_itself_too_is_kept_once(self):
        def one():
            return [self.edit(self.a, ("delete", "mark", self.mark), ("delete", "tag", self.tag), ("delete", "room", self.room), base=base)]

        def two():
            return [self.edit(self.a, ("delete", "tag", self.tag), base=base), self.edit(self.a, ("delete", "room", self.room), base=base)]

        for sets in (one, two):
            self.sql("DELETE FROM ferry.conflict")
            self.room, self.tag, self.mark = (str(uuid.uuid4()) for _ in range(3))
            self.made()
            base = self.position()
            self.merge(self.edit(self.b, ("update", "tag", self.tag, {"word": "late"}), base=base))
            self.assertEqual({v for v in self.merge(*sets())}, {(ACCEPTED, "OK")})
            names = [(x[2], x[4]) for x in self.conflicts()]
            self.assertEqual((len(names), ("tag", "word") in names), (len(set(names)), True))
            if sets == one:
                self.sql("INSERT INTO p.room (tenant_id, id) VALUES (%s, %s)", self.tenant, self.room)
                self.sql("SELECT ferry.resolve_conflict(%s, 'hub')", self.value("SELECT id FROM ferry.conflict WHERE key = %s LIMIT 1", self.tag))
                self.assertEqual(self.sql("SELECT word FROM p.tag"), [("late",)])

    def test_what_is_moved_away_in_the_same_change_set_is_not_taken_along(self):
        self.made()
        base, to = self.position(), str(uuid.uuid4())
        self.merge(self.edit(self.b, ("update", "tag", self.tag, {"word": "late"}), base=base))
        self.assertEqual(self.merge(self.edit(self.a, ("insert", "room", to, {"v": 5}), ("update", "tag", self.tag, {"room_id": to}), ("delete", "room", self.room),
                                              base=base)), [(ACCEPTED, "OK")])
        self.assertEqual((self.sql("SELECT word, room_id::text FROM p.tag"), self.conflicts()), ([("late", to)], []))

    def test_R7_nor_is_it_where_a_unique_value_goes_to_the_new_parent(self):
        for placeholder in (True, False):
            self.room, self.tag, self.mark = (str(uuid.uuid4()) for _ in range(3))
            self.made()
            self.sql("ALTER TABLE p.room ALTER COLUMN v SET NOT NULL, ADD CONSTRAINT room_v_uq UNIQUE (tenant_id, v)" if placeholder
                     else "ALTER TABLE p.room ADD CONSTRAINT room_v_ck CHECK (v = 1)")  # that no placeholder passes
            to = str(uuid.uuid4())
            verdict, = self.merge(self.edit(self.a, ("insert", "room", to, {"v": 1}), ("update", "tag", self.tag, {"room_id": to}), ("delete", "room", self.room)))
            self.assertEqual((verdict, self.rows("tag")), ((ACCEPTED, "OK") if placeholder else (REJECTED, "UNIQUE"), [self.tag]))
            self.sql("DELETE FROM p.room")

    def test_what_two_devices_delete_at_once_is_kept_for_the_one_that_did(self):
        self.made()
        base, late = self.position(), self.device("c")
        self.merge(self.edit(late, ("update", "tag", self.tag, {"word": "late"}), base=base))
        self.merge(self.edit(self.a, ("delete", "room", self.room), base=base), self.edit(self.b, ("delete", "room", self.room), base=base))
        self.assertEqual({x[0] for x in self.conflicts()}, {"a"})

    def test_R4_foreign_keys_that_devices_do_not_know_take_along_what_is_kept(self):
        site, leaf = str(uuid.uuid4()), str(uuid.uuid4())
        self.merge(self.edit(self.a, ("insert", "site", site, {"v": 1, "code": "x"}), ("insert", "leaf", leaf, {"v": 1})))
        self.sql("UPDATE p.leaf SET site = 'x'")
        base = self.position()
        first, second = self.edit(self.b, ("update", "leaf", leaf, {"v": 7}), base=base), self.edit(self.a, ("delete", "site", site), base=base)
        self.assertEqual(self.merge(first, second), [(ACCEPTED, "OK")] * 2)
        self.assertEqual((self.rows("leaf"), [x[8] for x in self.conflicts() if x[2] == "leaf" and x[4] == "v"]), ([], [7]))

    def test_what_it_has_seen_or_made_itself_goes_silently(self):
        self.made()
        self.merge(self.edit(self.b, ("update", "tag", self.tag, {"v": 7})))
        base = self.position()
        self.merge(self.edit(self.a, ("update", "mark", self.mark, {"at": AT}), base=base))
        self.assertEqual(self.merge(self.edit(self.a, ("delete", "room", self.room), base=base)), [(ACCEPTED, "OK")])
        self.assertEqual((self.conflicts(), self.rows("mark")), ([], []))

    def test_R7_so_it_is_of_a_staged_one(self):
        self.made()
        base = self.position()
        self.merge(self.edit(self.b, ("update", "tag", self.tag, {"v": 7}), base=base))
        self.assertEqual(self.merge(self.edit(self.a, ("insert", "ring", str(uuid.uuid4()), {"v": 1}), ("delete", "room", self.room), base=base, staged=True)),
                         [(ACCEPTED, "OK")])
        self.assertEqual([x[8] for x in self.conflicts()], [1, 7, "one", self.room])

    def test_a_deletion_by_the_office_saw_what_it_took(self):
        self.made()
        self.merge(self.edit(self.b, ("update", "tag", self.tag, {"v": 7})))
        self.sql("DELETE FROM p.room")
        self.assertEqual((self.conflicts(), self.rows("tag")), ([], []))

    def test_P7_rows_that_the_device_does_not_hold_are_kept_at_the_hub_alone(self):
        self.made()
        base = self.position()
        self.sql("UPDATE p.mark SET place = 'elsewhere', at = now()")
        self.assertEqual(self.merge(self.edit(self.a, ("delete", "room", self.room), base=base)), [(ACCEPTED, "OK")])
        self.assertEqual({(x[2], x[9], x[10]) for x in self.conflicts()}, {("mark", None, True), ("tag", None, False), ("room", None, False)})

    def test_so_are_rows_that_devices_do_not_write_by_columns_that_they_do_not_have(self):
        self.made()
        base = self.position()
        self.sql("INSERT INTO p.note (tenant_id, id, v, room_id) VALUES (%s, gen_random_uuid(), 5, %s)", self.tenant, self.room)
        self.assertEqual(self.merge(self.edit(self.a, ("delete", "room", self.room), base=base)), [(ACCEPTED, "OK")])
        self.assertEqual(([(x[2], x[4], x[8], x[10]) for x in self.conflicts()], self.rows("note")),
                         ([("note", "v", 5, False), ("room", "v", 1, False)], []))

    def test_what_somebody_writes_there_meanwhile_is_seen(self):
        self.made()
        base = self.position()
        office = self.conn()
        with office.cursor() as cur:
            cur.execute("UPDATE p.tag SET v = 7")
        merged = []
        merging = threading.Thread(target=lambda: merged.extend(self.merge(self.edit(self.a, ("delete", "room", self.room), base=base))))
        merging.start()
        wait_until(lambda: self.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, 20, "the merge, at the lock")
        office.commit()
        merging.join()
        self.assertEqual((merged, [x[8] for x in self.conflicts() if x[2] == "tag"]), ([(ACCEPTED, "OK")], [7, "one", self.room]))

    def test_a_deletion_that_would_take_more_than_a_person_can_look_at_is_refused(self):
        self.made()
        base = self.position()
        self.sql("INSERT INTO p.tag (tenant_id, id, room_id) SELECT %s, gen_random_uuid(), %s FROM generate_series(1, 1000)", self.tenant, self.room)
        deletes = ("delete", "room", self.room)
        self.sql("UPDATE p.tag SET v = 9")
        other = self.edit(self.b, ("insert", "room", str(uuid.uuid4()), {"v": 2}))
        self.assertEqual(self.merge(self.edit(self.a, deletes, base=base), other), [(REJECTED, "POLICY"), (ACCEPTED, "OK")])
        self.assertIn("more than 1000 rows", self.value("SELECT sentence FROM ferry.rejected"))
        self.assertEqual((self.conflicts(), len(self.rows("tag"))), ([], 1001))
        self.assertEqual(self.merge(self.edit(self.a, deletes)), [(ACCEPTED, "OK")])  # it has seen them

    def test_rows_that_refer_to_each_other_in_a_ring_go_once(self):
        keys = [str(uuid.uuid4()) for _ in range(3)]
        self.merge(self.edit(self.a, *(("insert", "ring", keys[i], {"v": i, "next_id": keys[(i + 1) % 3]}) for i in range(3))))
        base = self.position()
        self.merge(self.edit(self.b, ("update", "ring", keys[1], {"v": 7}), base=base))
        self.assertEqual(self.merge(self.edit(self.a, ("delete", "ring", keys[0]), base=base)), [(ACCEPTED, "OK")])
        self.assertEqual(sorted(x[3:5] + (x[8],) for x in self.conflicts()),
                         sorted([(keys[i], "v", (0, 7, 2)[i]) for i in range(3)] + [(keys[i], "next_id", keys[(i + 1) % 3]) for i in range(3)]))
        self.assertEqual(self.rows("ring"), [])


if __name__ == "__main__":
    unittest.main()
