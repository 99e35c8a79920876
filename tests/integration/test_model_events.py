#!/usr/bin/python3
"""Events: their order, the version a writer expects, immutability, snapshots, projections."""

import threading
import unittest
import uuid

from ferry_case import HubCase, run

APPEND = "SELECT sequence, stream_position, payload_hash, stream_id FROM events.append(%s, %s, %s, %s::events.event_type, 'n', %s, %s)"


class Events(HubCase):
    def setUp(self):
        super().setUp()
        self.t = self.tenant()
        self.a = uuid.uuid4()

    def append(self, aggregate=None, event="PROJECT_CREATED", payload='{"n": 1}', expected=None, kind="project"):
        return self.sql(APPEND, self.t, kind, aggregate or self.a, event, payload, expected)[0]

    def test_sequence_counts_an_aggregate_and_position_the_stream(self):
        other = uuid.uuid4()
        got = [self.append()[:2], self.append(other)[:2], self.append()[:2], self.append(other)[:2]]
        self.assertEqual(got, [(1, 1), (1, 2), (2, 3), (2, 4)])
        _, _, digest, stream = self.append()
        self.assertEqual((len(digest), stream), (64, self.t))

    def test_expected_version_is_taken_or_refused_with_a_sentence(self):
        self.assertEqual(self.append(expected=0)[0], 1)
        self.assertEqual(self.append(expected=1)[0], 2)
        error = self.refused("FE322", APPEND, self.t, "project", self.a, "PROJECT_CREATED", "{}", 1)
        self.assertIn("is at version 2, not 1", error.diag.message_primary)
        self.assertIn("append with the version read", error.diag.message_hint)

    def test_writer_with_an_old_snapshot_is_told_of_the_conflict(self):
        late = self.conn()
        late.set_session(isolation_level="REPEATABLE READ")
        run(late, "SELECT 1")
        self.append()
        self.refused("FE322", APPEND, self.t, "project", self.a, "PROJECT_CREATED", "{}", None, conn=late)

    def test_concurrent_writers_leave_no_hole_and_one_of_two_equal_expectations_wins(self):
        won, lost = [], []

        def work(k):
            conn = self.conn()
            for i in range(10):
                try:
                    run(conn, APPEND, self.t, "project", self.a, "PROJECT_CREATED", '{"k": %d}' % k, i)
                    conn.commit()
                    won.append(i)
                except Exception as error:  # pylint: disable=broad-except
                    conn.rollback()
                    lost.append((i, error.pgcode))

        threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual({code for _, code in lost} - {"FE322"}, set())
        self.assertIn(0, won)
        self.assertEqual(sorted(won), sorted(set(won)))
        positions = [row[0] for row in self.sql("SELECT stream_position FROM events.tenant_events ORDER BY 1")]
        self.assertEqual(positions, list(range(1, len(won) + 1)))

    def test_events_cannot_be_changed_deleted_or_truncated_but_handled(self):
        self.append()
        for text in ("UPDATE events.tenant_events SET payload = '{}'", "UPDATE events.tenant_events SET sequence = 7",
                     "UPDATE events.tenant_events SET deleted_at = now()", "DELETE FROM events.tenant_events", "TRUNCATE events.tenant_events"):
            self.refused("FE319", text)
        self.sql("UPDATE events.tenant_events SET processed = true, processed_at = now()")
        self.assertEqual(self.sql("SELECT processed, version FROM events.tenant_events"), [(True, 2)])
        self.sql("DELETE FROM identity.tenants")
        self.assertEqual(self.value("SELECT count(*) FROM events.tenant_events"), 0)

    def test_plain_insert_is_placed_like_an_append(self):
        self.append()
        self.sql("INSERT INTO events.tenant_events (tenant_id, aggregate_type, aggregate_id, event_name, payload, sequence, stream_position) "
                 "VALUES (%s, 'project', %s, 'n', '{}', 77, 99)", self.t, self.a)
        self.assertEqual(self.sql("SELECT sequence, stream_position FROM events.tenant_events ORDER BY 1"), [(1, 1), (2, 2)])

    def test_state_goes_on_from_a_snapshot(self):
        state = "SELECT state, version FROM events.state_of(%s, 'project', %s, 'events.count_by_type')"
        self.append()
        self.append(event="PROJECT_COMPLETED")
        full = self.sql(state, self.t, self.a)
        self.assertEqual(full, [({"PROJECT_CREATED": 1, "PROJECT_COMPLETED": 1}, 2)])
        self.assertEqual(self.value("SELECT events.take_snapshot(%s, 'project', %s, 'events.count_by_type')", self.t, self.a), 2)
        self.assertEqual(self.sql(state, self.t, self.a), full)
        self.append()
        # Taken from the snapshot: what it says counts, and only later events are added.
        self.sql("UPDATE events.event_snapshots SET snapshot = '{\"PROJECT_CREATED\": 100}'")
        self.assertEqual(self.sql(state, self.t, self.a), [({"PROJECT_CREATED": 101}, 3)])

    def test_projection_follows_and_a_rebuilt_one_equals_it(self):
        self.sql("INSERT INTO events.event_projections (tenant_id, name, state, reducer) VALUES (%s, 'counts', '{}', 'events.count_by_type')", self.t)
        project = "SELECT events.project(%s, 'counts')"
        self.append()
        self.assertEqual(self.value(project, self.t), {"PROJECT_CREATED": 1})
        self.append(uuid.uuid4(), "USER_INVITED")
        self.append()
        wanted = {"PROJECT_CREATED": 2, "USER_INVITED": 1}
        self.assertEqual(self.value(project, self.t), wanted)
        self.assertEqual(self.value(project, self.t), wanted)
        self.sql("UPDATE events.event_projections SET state = '{\"wrong\": 1}'")
        self.assertEqual(self.value("SELECT events.rebuild(%s, 'counts')", self.t), wanted)

    def test_unknown_projection_and_reducer_say_so(self):
        self.assertIn("no projection x", self.refused("P0002", "SELECT events.project(%s, 'x')", self.t).diag.message_primary)
        self.assertIn("no reducer", self.refused("42883", "SELECT events.state_of(%s, 'p', %s, 'none')", self.t, self.a).diag.message_primary)

    def test_payload_that_does_not_fit_the_schema_it_names_is_refused(self):
        self.sql("INSERT INTO integration.schema_definitions (tenant_id, subject, version, json_schema) VALUES "
                 "(%s, 'made', 1, '{\"type\": \"object\", \"required\": [\"n\"]}')", self.t)
        append = ("SELECT sequence FROM events.append(%s, 'p', %s, 'PROJECT_CREATED', 'n', %s, payload_schema => %s)")
        self.assertEqual(self.value(append, self.t, self.a, '{"n": 1}', "made@1"), 1)
        self.refused("FE320", append, self.t, self.a, '{"m": 1}', "made@1")
        self.refused("FE320", append, self.t, self.a, '{"m": 1}', "made")
        self.refused("FE320", append, self.t, self.a, '{"n": 1}', "made@2")

    def test_other_tenants_events_are_not_seen(self):
        self.append()
        conn = self.conn(tenant=self.tenant("other"))
        run(conn, "SET ROLE ferry_app")
        self.assertEqual(run(conn, "SELECT count(*) FROM events.tenant_events"), [(0,)])
        conn.commit()
        self.refused("42501", APPEND, self.t, "project", self.a, "PROJECT_CREATED", "{}", None, conn=conn)


if __name__ == "__main__":
    unittest.main()
