"""A hub's start beside a PostgreSQL that is not ready."""

import unittest

import ferry_run
from ferry_run import wait_until

PATIENCE = 30  # of the test


class HubStart(unittest.TestCase):
    def setUp(self):
        self.site = ferry_run.Site(start=False)
        self.addCleanup(self.site.close)
        self.hub = self.site.hub

    def launch(self, **settings):
        self.hub.configure(**settings)
        ferry_run.Program.start(self.hub)  # a hub's own start waits until it is ready

    def warnings(self):
        return self.hub.log_text().count("event=database_away")

    def test_started_before_postgres_it_waits_and_serves_as_soon_as_that_is_up(self):
        self.site.cluster.stop()
        self.launch(timing__database_wait="10min")
        wait_until(lambda: self.warnings() > 3, PATIENCE, "several tries")
        self.assertTrue(self.hub.running())
        self.site.cluster.start()
        self.hub.wait_log("event=ready", PATIENCE)
        self.assertEqual(self.hub.status()["state"], "serving")

    def test_one_broken_connection_does_not_end_it(self):
        self.site.sql("ALTER ROLE ferry_hub CONNECTION LIMIT 0")
        self.launch()
        wait_until(lambda: self.warnings() == 1, PATIENCE, "the first try")
        self.site.sql("ALTER ROLE ferry_hub CONNECTION LIMIT -1")
        self.hub.wait_log("event=ready", PATIENCE)

    def test_a_server_that_answers_and_refuses_ends_it_before_the_time_is_up(self):
        self.launch(timing__database_wait="10min", database=self.hub.settings["database"].replace(self.site.db.name, "nowhere"))
        self.assertEqual(self.hub.wait_exit(PATIENCE), 4)
        self.assertEqual(self.warnings(), 2)
        self.assertIn("nowhere", self.hub.log_text())
        self.assertIn("[DATABASE]", self.hub.log_text())

    def test_a_server_that_stays_away_ends_it_when_the_time_is_up(self):
        self.site.cluster.stop()
        self.addCleanup(self.site.cluster.start)
        self.launch(timing__database_wait="0ms")
        self.assertEqual(self.hub.wait_exit(PATIENCE), 4)
        self.assertEqual(self.warnings(), 0)
        self.assertIn("what database says in the configuration. [DATABASE]", self.hub.log_text())


if __name__ == "__main__":
    unittest.main()
