#!/usr/bin/python3
# ferry-test: long
"""P2, P3, R7: the hub is killed inside the work on a change-set larger than a message.

A trigger of this test's own halts the hub's transaction at a place (an advisory lock that the test
holds); there the hub is killed with -9. PostgreSQL does not notice that at once, and works off what it
was sent. So each place is tried twice: with a next hub that begins when the dead one's transaction is over,
and with one that meets it. In the end the change-set took effect exactly once, or is kept whole, and nothing is
left in ferry.stage.
"""

import contextlib
import os
import random
import signal
import unittest
import uuid

import ferry_run
from ferry_run import SiteCase, wait_until
from ferry_schema import SchemaCase

SEED = int(os.environ.get("FERRY_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
KILL_AT = ferry_run.program("kill-at.so")
LOCK = 74512
ROWS = 24
NOTE = "x" * 120000  # so many of these make three portions or more
AT = "2026-01-01T00:00:00.000000Z"

SET_UP = """
CREATE TABLE public.audit (op text, id uuid, score int);
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.audit VALUES (TG_OP, new.id, new.score);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON crm.leads FOR EACH ROW EXECUTE FUNCTION public.audit();
CREATE SEQUENCE public.halts;
CREATE FUNCTION public.halt() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = 0 AS $$
BEGIN
    IF nextval('public.halts') = 1 THEN -- the first who comes there
        PERFORM pg_advisory_xact_lock_shared(%d);
    END IF;
    RETURN coalesce(new, old);
END $$;
""" % LOCK


class Halting:
    """For a SiteCase: halts the hub at a place, kills it there and starts the next one."""

    @contextlib.contextmanager
    def halt(self):
        """A function that lets go what is halted; at the latest the block's end does."""
        conn = self.db.connect("postgres")
        conn.autocommit = True
        cursor = conn.cursor()
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            yield lambda: cursor.execute("SELECT pg_advisory_unlock_all()")
        finally:
            conn.close()

    @contextlib.contextmanager
    def trigger(self, table, when):
        self.site.sql("ALTER SEQUENCE public.halts RESTART")
        self.site.sql("CREATE TRIGGER halt BEFORE INSERT ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION public.halt()" % (table, when))
        try:
            yield
        finally:
            self.site.sql("DROP TRIGGER halt ON %s" % table)

    def waiting(self, event=None):
        """Process ids of the hub's backends that wait for a lock."""
        return {pid for (pid,) in self.site.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'ferry_hub' AND wait_event_type = 'Lock' "
                                                "AND wait_event = coalesce(%s, wait_event)", event)}

    def backends(self):
        return {pid for (pid,) in self.site.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'ferry_hub'")}

    def kill_halted(self, work, meets):
        """Kills the hub where it is halted in the work. meets: the next one begins before what it did is over."""
        with self.halt() as let_go:
            work()
            wait_until(lambda: self.waiting("advisory"), 120, "the hub at its place")
            dead, halted = self.backends(), self.waiting("advisory")
            self.hub.kill9()
            if not meets:
                let_go()
                wait_until(lambda: not dead & self.backends(), 60, "the end of what the dead hub did")
            size = self.hub.log_size()
            self.hub.start()
            if meets:  # its device is back, or waits for the lock that the dead hub's transaction holds
                wait_until(lambda: self.waiting() - halted or b"event=welcome" in self.hub_log(size), 60, "the device's return")
                let_go()

    def hub_log(self, since):
        with open(self.hub.log, "rb") as log:
            log.seek(since)
            return log.read()

    def staged(self, tenant=None):
        return self.site.value("SELECT count(*) FROM ferry.stage WHERE tenant_id = %s", tenant or self.tenant)

    def verdicts(self, agent):
        """Those that stand; of what the device has, they are forgotten."""
        return [row[0] for row in self.site.sql("SELECT DISTINCT verdict FROM ferry.settled WHERE device_id = %s", agent.id)]


class LargeKilled(Halting, SiteCase):

    @classmethod
    def setUpClass(cls):
        print("seed %d" % SEED, flush=True)
        super().setUpClass()
        cls.site.sql(SET_UP)

    def setUp(self):
        super().setUp()
        self.a = self.device("a", scopes=[])
        self.a.wait_filled()
        self.counter = str(uuid.uuid4())
        self.a.sql("INSERT INTO leads (id, score) VALUES (?, 0)", self.counter)
        self.settle()
        self.written, self.raised = [], 0

    def write(self):
        """ROWS large leads and the counter one up, in one transaction."""
        keys = ["%08x%s" % (n, str(uuid.uuid4())[8:]) for n in range(ROWS)]
        with self.a.transaction() as db:
            db.execute("UPDATE leads SET score = score + 1 WHERE id = ?", (self.counter,))
            db.executemany("INSERT INTO leads (id, source_code, attributes) VALUES (?, 'app', ?)",
                           [(key, '{"note": "%s %s"}' % (key, NOTE)) for key in keys])
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        self.written += keys
        self.raised += 1

    def check(self):
        self.settle(seconds=120)
        self.assertEqual(self.site.value("SELECT count(*) FROM crm.leads WHERE tenant_id = %s AND source_code = 'app'", self.tenant),
                         len(self.written))
        self.assertEqual(self.site.value("SELECT count(*) FROM public.audit WHERE id = ANY (%s::uuid[])", self.written), len(self.written))
        self.assertEqual(self.site.sql("SELECT score FROM public.audit WHERE id = %s ORDER BY score", self.counter),
                         [(n,) for n in range(self.raised + 1)])
        self.assertEqual(self.verdicts(self.a), ["accepted"])
        self.assertEqual(self.staged(), 0)
        self.assertEqual(self.a.sql("SELECT * FROM ferry_rejected"), [])
        self.assert_same()

    def killed_at(self, table, when):
        for meets in (False, True):
            with self.subTest(meets=meets), self.trigger(table, when):
                self.kill_halted(self.write, meets)
                self.check()

    def test_killed_in_the_first_part_that_is_staged_it_takes_effect_once(self):
        self.killed_at("ferry.stage", "new.part = 0")

    def test_killed_in_a_later_part_that_is_staged_it_takes_effect_once(self):
        self.killed_at("ferry.stage", "new.part = 2")

    def test_P3_killed_in_the_first_portion_that_is_merged_it_takes_effect_once_and_whole(self):
        self.killed_at("crm.leads", "new.id::text LIKE '00000000%'")

    def test_P3_killed_in_the_last_portion_that_is_merged_it_takes_effect_once_and_whole(self):
        self.killed_at("crm.leads", "new.id::text LIKE '%08x%%'" % (ROWS - 1))

    def test_P2_killed_in_the_verdict_on_a_large_one_it_takes_effect_once(self):
        self.killed_at("ferry.settled", "new.number > 1")

    def test_P2_killed_in_the_commit_of_a_large_one_it_takes_effect_once(self):
        self.killed_at("ferry.commit", "new.tenant_id = '%s'" % self.tenant)

    def test_part_that_is_stored_after_all_goes_with_the_next_large_change_set(self):
        with self.trigger("ferry.stage", "new.part = 2"), self.halt() as let_go:
            self.write()
            wait_until(lambda: self.waiting("advisory"), 60, "the hub at its place")
            self.hub.kill9()
            self.hub.start()
            self.settle(seconds=120)
            let_go()
        self.write()
        self.check()

    def test_killed_at_random_steps_of_the_hub_it_takes_effect_once(self):
        rng = random.Random(SEED)
        armed = os.path.join(self.hub.folder, "armed")
        killed = 0
        while killed < 4:
            step = rng.randrange(1, 80)
            self.hub.stop()
            self.hub.start({"LD_PRELOAD": KILL_AT, "KILL_AT": str(step), "KILL_ARMED": armed})
            self.a.wait_state("live")
            with open(armed, "w", encoding="ascii"):
                self.write()
            wait_until(lambda: not self.hub.running() or self.a.standing()[2] == 0, 120, "the end of the hub or of the work")
            os.unlink(armed)
            if not self.hub.running():
                self.assertEqual(self.hub.wait_exit(), -signal.SIGKILL, "step %d" % step)
                killed += 1
                self.hub.start()
            self.check()


class LargeParkKilled(Halting, SiteCase):
    """What waits at the hub for a parent."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.sql(SET_UP)
        cls.site.sql("SELECT ferry.row_policy('roomscan.room_scans', on_missing_parent => 'park', park_for => '1 hour')")

    def setUp(self):
        super().setUp()
        self.unit, self.other = self.new_unit(), self.new_unit("B-2")
        self.a = self.device("a")
        self.settle()
        self.a.stop()
        self.site.sql("CREATE TABLE IF NOT EXISTS public.kept AS SELECT * FROM inventory.units WHERE false")
        self.site.sql("INSERT INTO public.kept SELECT * FROM inventory.units WHERE id = %s", self.unit)
        self.site.sql("DELETE FROM inventory.units WHERE id = %s", self.unit)
        with self.a.transaction() as db:
            db.executemany("INSERT INTO room_scans (unit_id, captured_at, document) VALUES (?, '%s', ?)" % AT,
                           [(self.other if n + 1 < ROWS else self.unit, '{"note": "%s"}' % NOTE) for n in range(ROWS)])
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")

    def parent_comes(self):
        self.site.sql("INSERT INTO inventory.units SELECT * FROM public.kept WHERE id = %s", self.unit)

    def scans(self):
        return self.site.value("SELECT count(*) FROM roomscan.room_scans WHERE tenant_id = %s", self.tenant)

    def parked(self):
        return self.a.value("SELECT parked FROM ferry_status") == 1

    def check_merged(self):
        wait_until(lambda: self.scans() == ROWS, 120, "the parked change-set, merged")
        self.settle(seconds=120)
        self.assertEqual(self.verdicts(self.a), ["accepted"])
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.rejected WHERE tenant_id = %s", self.tenant), 0)
        self.assertEqual(self.site.value("SELECT count(*) FROM ferry.parked_wait WHERE tenant_id = %s", self.tenant), 0)
        self.assertEqual((self.staged(), self.a.sql("SELECT * FROM ferry_rejected")), (0, []))
        self.assert_same()

    def check_parked(self):
        wait_until(self.parked, 120, "the parked change-set")
        self.assertEqual(self.verdicts(self.a), ["parked"])
        self.assertEqual(self.scans(), 0)
        self.assertEqual(self.site.sql("SELECT key::text FROM ferry.parked_wait WHERE tenant_id = %s", self.tenant), [(self.unit,)])
        wait_until(lambda: self.site.value("SELECT count(DISTINCT staging) FROM ferry.stage WHERE tenant_id = %s", self.tenant) == 1,
                   60, "one copy of it: its device may be offering it again, and hear then that it stands")

    def killed_while_parking(self, table, when, meets):
        with self.trigger(table, when):
            self.kill_halted(self.a.start, meets)
            self.check_parked()
            self.parent_comes()
            self.check_merged()

    def test_killed_while_its_missing_parents_are_looked_for_it_is_parked_once(self):
        self.killed_while_parking("ferry.parked_wait", "true", False)

    def test_killed_while_it_is_parked_it_is_parked_once(self):
        self.killed_while_parking("ferry.rejected", "true", False)

    def test_killed_while_it_is_parked_and_the_next_hub_meets_that_it_is_parked_once(self):
        self.killed_while_parking("ferry.rejected", "true", True)

    def killed_while_merging(self, table, when):
        self.a.start()
        self.check_parked()
        self.a.stop()  # nobody brings it again
        with self.trigger(table, when):
            self.kill_halted(self.parent_comes, False)
            self.site.sql("UPDATE ferry.rejected SET retry_at = now() WHERE tenant_id = %s", self.tenant)  # else half a minute later
            self.a.start()
            self.check_merged()

    def test_killed_in_a_portion_of_the_parked_one_it_is_merged_once(self):
        self.killed_while_merging("roomscan.room_scans", "new.unit_id = '%s'" % self.unit)

    def test_P2_killed_in_the_verdict_on_the_parked_one_it_is_merged_once(self):
        self.killed_while_merging("ferry.settled", "new.verdict = 'accepted'")


class LargeConversionKilled(Halting, SchemaCase):
    """Late values that go through a function, portion by portion."""

    def test_killed_in_the_conversion_of_a_later_portion_it_takes_effect_once(self):
        self.hub_sql("CREATE FUNCTION crm.{t}_floor(v text) RETURNS int LANGUAGE plpgsql STABLE SET lock_timeout = 0 AS $$ BEGIN "
                     "IF v = 'n%d' THEN PERFORM pg_advisory_xact_lock_shared(%d); END IF; RETURN substr(v, 2)::int; END $$"
                     % (99 + ROWS, LOCK))
        self.a.stop()
        with self.a.transaction() as db:
            db.executemany("INSERT INTO %s (name, qty, grade, note) VALUES (?, ?, 'a', ?)" % self.table,
                           [("n%d" % (100 + n), 1000 + n, NOTE) for n in range(ROWS)])
            db.execute("INSERT INTO ferry_tx(note) VALUES ('all or none')")
        self.hub_sql("SELECT ferry.change_type('crm.{t}', 'name', 'int', 'crm.{t}_floor')")
        self.kill_halted(self.a.start, False)
        self.settle(seconds=120)
        self.assertEqual(self.there("SELECT count(*), count(DISTINCT name) FROM {t} WHERE qty >= 1000"), [(ROWS, ROWS)])
        self.assertEqual((self.staged(), self.a.sql("SELECT * FROM ferry_rejected")), (0, []))
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
