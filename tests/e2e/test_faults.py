#!/usr/bin/python3
# ferry-test: long
"""P1, P2: whatever is cut, killed or stopped, nothing is lost and nothing takes effect twice.

What took effect is counted by PostgreSQL itself, with a trigger of this test's own that notes every
insert of a lead and every change of a score, in the order of the commits:

- each lead has an id of its own and must have been inserted exactly once;
- a counter that one device alone raises must only ever rise, and end at the number of raises:
  a change-set applied again would set it back.

Random times come from a printed seed (FERRY_SEED replays it).
"""

import os
import random
import threading
import time
import unittest
import uuid

import ferry_run
from ferry_proxy import Proxy
from ferry_run import SiteCase, wait_until

SEED = int(os.environ.get("FERRY_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)

AUDIT = """
CREATE TABLE public.audit (n bigint GENERATED ALWAYS AS IDENTITY, op text, id uuid, score int);
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' OR new.score IS DISTINCT FROM old.score THEN
        INSERT INTO public.audit (op, id, score) VALUES (TG_OP, new.id, new.score);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON crm.leads FOR EACH ROW EXECUTE FUNCTION public.audit();
"""


class App:
    """Writes to a device's replica, and knows what it wrote."""

    def __init__(self, agent):
        self.agent = agent
        self.written = []
        self.raised = 0
        self.counter = str(uuid.uuid4())
        agent.sql("INSERT INTO leads (id, score) VALUES (?, 0)", self.counter)

    def write(self):
        """One transaction: a new lead, and the counter one up."""
        key = str(uuid.uuid4())
        with self.agent.transaction() as db:
            db.execute("INSERT INTO leads (id, source_code) VALUES (?, 'app')", (key,))
            db.execute("UPDATE leads SET score = score + 1 WHERE id = ?", (self.counter,))
        self.written.append(key)
        self.raised += 1


class Writing:
    """An App that writes in a thread until the block ends."""

    def __init__(self, app, pause):
        self.app, self.pause = app, pause
        self.stop = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.wait(self.pause):
                self.app.write()
        except Exception as error:  # told to the test at the end
            self.error = error

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        if self.error:
            raise self.error


class Faults(SiteCase):

    @classmethod
    def setUpClass(cls):
        print("seed %d" % SEED, flush=True)
        super().setUpClass()
        cls.site.sql(AUDIT)

    def setUp(self):
        super().setUp()
        self.random = random.Random("%d %s" % (SEED, self.id()))
        self.proxy = Proxy(self.hub.device_port, seed=SEED)
        self.addCleanup(self.proxy.close)

    def app(self, label="a", **options):
        options.setdefault("hub_port", self.proxy.port)
        agent = self.device(label, scopes=[], **options)
        agent.wait_filled()
        return App(agent)

    def check(self, *apps):
        self.settle()
        for app in apps:
            missing = set(app.written)
            for key, times in self.site.sql("SELECT id::text, count(*) FROM public.audit WHERE op = 'INSERT' AND id = ANY (%s::uuid[]) "
                                            "GROUP BY 1", app.written + [app.counter]):
                self.assertEqual(times, 1, "the lead %s was inserted %d times" % (key, times))
                missing.discard(key)
            self.assertEqual(missing, set())
            scores = [row[0] for row in self.site.sql("SELECT score FROM public.audit WHERE id = %s ORDER BY n", app.counter)]
            self.assertEqual(scores, sorted(set(scores)), "the counter went back or stood still")
            self.assertEqual(scores[-1], app.raised)
            self.assertEqual(self.site.sql("SELECT number, count(DISTINCT tx) FROM ferry.stamp WHERE device_id = %s GROUP BY 1 "
                                           "HAVING count(DISTINCT tx) > 1", app.agent.id), [])
            self.assertEqual(app.agent.value("SELECT count(*) FROM ferry_rejected"), 0)
            self.assertNotIn("level=error", app.agent.log_text())
        self.assert_same()

    def hub_has(self, key):
        return self.site.value("SELECT count(*) FROM crm.leads WHERE id = %s", key) == 1

    # ---- the link

    def exchange(self, app):
        """A change each way, to its end; through a connection made anew."""
        self.proxy.cut()
        app.write()
        self.site.sql("INSERT INTO crm.leads (tenant_id, source_code) VALUES (%s, 'office')", self.tenant)
        self.settle()

    def test_link_cut_at_every_record_of_an_exchange(self):
        app = self.app()
        self.settle()
        before = self.proxy.records
        self.exchange(app)
        records = self.proxy.records - before
        self.assertGreater(records, 8)  # a handshake and a few messages each way
        for n in range(1, records + 3):
            cuts = self.proxy.cuts
            self.proxy.cut()
            self.proxy.cut_after(records=n)
            app.write()
            self.site.sql("INSERT INTO crm.leads (tenant_id, source_code) VALUES (%s, 'office')", self.tenant)
            self.settle()
            if n <= records // 2:
                self.assertGreater(self.proxy.cuts, cuts)
            self.proxy.cut_after()
        self.check(app)

    def test_link_cut_inside_messages_each_way(self):
        app = self.app()
        self.settle()
        for _ in range(25):
            how = self.random.choice(["sent", "received"])
            self.proxy.cut_after(**{how: self.random.randrange(1, 4000)})
            for _ in range(self.random.randrange(1, 4)):
                app.write()
            self.settle()
        self.proxy.cut_after()
        self.check(app)

    def test_link_cut_during_the_first_fill_it_goes_on_to_the_end(self):
        self.site.sql("INSERT INTO crm.companies (tenant_id, name) SELECT %s, 'Company ' || i || repeat('x', 200) || md5(i::text) "
                      "FROM generate_series(1, 25000) i", self.tenant)
        agent = self.device("filled", scopes=[], hub_port=self.proxy.port, start=False)
        cuts = self.proxy.cuts
        self.proxy.cut_after(received=150000, again=True)  # a part of it, so it can only end by going on
        agent.start()
        wait_until(lambda: agent.standing()[0] >= 0, 60, "the fill")
        self.assertGreater(self.proxy.cuts - cuts, 3)
        self.proxy.cut_after()
        self.settle()
        self.assertEqual(agent.value("SELECT count(*) FROM companies"), 25000)
        self.assert_same()

    def test_link_cut_again_and_again_while_it_is_made_each_cut_is_noticed_at_once(self):
        app = self.app(settings={"link.backoff_min": "1ms", "link.backoff_max": "5ms"})
        self.settle()
        since = app.agent.log_size()
        self.proxy.cut()
        for _ in range(500):  # some of it is a race of microseconds
            connections = self.proxy.connections
            self.proxy.cut_after(records=self.random.randrange(2, 8))
            wait_until(lambda c=connections: self.proxy.connections > c or not self.proxy.armed()
                       or app.agent.status()["state"] == "live", 20, "the next connection")
            if app.agent.status()["state"] == "live":
                self.proxy.cut()
        self.proxy.cut_after()
        app.write()
        self.check(app)
        with open(app.agent.log, encoding="utf-8") as log:
            log.seek(since)
            self.assertNotIn("cannot be reached", log.read())  # what the agent says when it waited in vain

    def test_confirmation_lost_after_the_commit_the_change_set_is_not_applied_again(self):
        app = self.app()
        self.settle()
        for _ in range(10):
            self.proxy.cut_after(received=1)  # the first byte of the hub's answer ends the connection
            app.write()
            wait_until(lambda: not self.proxy.armed(), 20, "the cut")
            self.settle()
        self.check(app)

    def test_link_that_swallows_everything_is_given_up_and_made_anew(self):
        app = self.app(settings={"link.ping_interval": "200ms", "link.connect_timeout": "1s", "link.greeting_timeout": "1s"})
        self.settle()
        self.proxy.blackhole(True)
        app.write()
        app.agent.wait_log("event=link_down", 20, since=app.agent.log_size())
        self.proxy.blackhole(False)
        self.check(app)

    # ---- the hub

    def test_hub_killed_between_commit_and_confirmation(self):
        app = self.app()
        self.settle()
        for _ in range(5):
            self.proxy.delay(0.4)  # the confirmation waits in the proxy
            app.write()
            wait_until(lambda: self.hub_has(app.written[-1]), 20, "the commit")
            self.hub.kill9()
            self.proxy.cut()       # and is gone
            self.proxy.delay(0)
            self.assertGreater(app.agent.standing()[2], 0)
            self.hub.start()
            self.settle()
        self.check(app)

    def test_hub_killed_at_random_times_under_load(self):
        apps = [self.app("a"), self.app("b")]
        self.settle()
        with Writing(apps[0], 0.003), Writing(apps[1], 0.007):
            for _ in range(12):
                time.sleep(self.random.random() * 0.25)
                self.hub.kill9()
                self.hub.start()
        self.check(*apps)

    def test_hub_told_to_stop_under_load_ends_with_0(self):
        app = self.app()
        self.settle()
        with Writing(app, 0.003):
            for _ in range(3):
                time.sleep(self.random.random() * 0.3)
                self.assertEqual(self.hub.stop(), 0)
                self.hub.start()
        self.check(app)

    def test_hub_whose_port_is_taken_under_its_hands_ends_and_says_so(self):
        port_taken = os.path.join(os.path.dirname(ferry_run.program("ferry-hub")), "port-taken.so")
        for port in (self.hub.device_port, self.hub.enrol_port):
            self.hub.stop()
            with self.assertRaisesRegex(RuntimeError, "cannot listen on .* port %d" % port):
                self.hub.start({"LD_PRELOAD": port_taken, "PORT_TAKEN": str(port)})
            self.hub.start()

    def test_two_hubs_on_one_database_settle_each_change_set_once(self):  # R6
        other = ferry_run.Hub(os.path.join(self.site.folder, "hub-2-" + uuid.uuid4().hex[:6]), self.db, {
            "admin.socket": os.path.join(self.site.folder, "admin2-%s.sock" % uuid.uuid4().hex[:6])})
        other.state = self.hub.state  # the same CA
        other.start()
        self.addCleanup(other.kill9)
        apps = [self.app("a"), self.app("b", hub_port=other.device_port)]
        with Writing(apps[0], 0.004), Writing(apps[1], 0.004):
            for _ in range(15):
                time.sleep(self.random.random() * 0.1)
                self.proxy.retarget(self.random.choice([self.hub, other]).device_port)
                self.proxy.cut()
        self.check(*apps)

    # ---- the agent

    def test_agent_killed_at_random_steps(self):
        app = self.app()
        self.settle()
        with Writing(app, 0.005):
            for _ in range(40):
                app.agent.kill9()
                app.agent.start()
                time.sleep(self.random.random() ** 2 * 0.3)
        if not app.agent.running():
            app.agent.start()
        self.check(app)

    def test_agent_killed_while_the_hub_writes(self):
        app = self.app()
        self.settle()
        for i in range(25):
            self.site.sql("INSERT INTO crm.leads (tenant_id, source_code, score) SELECT %s, 'office', i FROM generate_series(1, 200) i",
                          self.tenant)
            time.sleep(self.random.random() * 0.05)
            app.agent.kill9()
            count = app.agent.value("SELECT count(*) FROM leads WHERE source_code = 'office'")
            self.assertEqual(count % 200, 0)  # P3: never half a transaction
            if i % 3 == 0:
                app.write()
            app.agent.start()
        self.check(app)

    def test_agent_killed_with_a_full_outbox_while_the_hub_is_away(self):
        app = self.app()
        self.settle()
        self.proxy.refuse(True)
        self.proxy.cut()
        for i in range(300):
            app.write()
            if i % 100 == 50:
                app.agent.kill9()
                app.agent.start()
        status = app.agent.status()
        self.assertGreaterEqual(status["waiting_rows"], 301)
        self.assertIsNotNone(status["oldest_unsent_age_s"])
        self.proxy.refuse(False)
        self.check(app)

    # ---- PostgreSQL

    def test_backends_terminated_under_load(self):
        apps = [self.app("a"), self.app("b")]
        self.settle()
        with Writing(apps[0], 0.004), Writing(apps[1], 0.006):
            for _ in range(25):
                time.sleep(self.random.random() * 0.1)
                self.site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ferry_hub' AND random() < 0.6")
        self.assertTrue(self.hub.running())
        self.check(*apps)

    def test_postgres_stopped_and_started_under_load(self):
        app = self.app()
        self.settle()
        with Writing(app, 0.01):
            for mode in ("fast", "immediate", "fast"):
                time.sleep(0.1 + self.random.random() * 0.2)
                self.site.cluster.stop(mode)
                time.sleep(self.random.random() * 0.3)
                self.site.cluster.start()
        self.assertTrue(self.hub.running())
        self.check(app)

    def test_postgres_away_devices_keep_working_and_the_hub_says_so(self):
        app = self.app()
        self.settle()
        self.site.cluster.stop()
        try:
            for _ in range(5):
                app.write()
            self.assertTrue(self.hub.running())
            status = self.hub.status()
            wait_until(lambda: self.hub.status()["database"]["connections_ready"] == 0, 10, "the hub's notice")
            self.assertEqual(status["state"], "serving")
        finally:
            self.site.cluster.start()
        self.check(app)


if __name__ == "__main__":
    unittest.main()
