/* Rows that others hold, and connections that end in the midst. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pg_store/pg_store_driver.h"

void R12_rows_held_by_somebody_wait_alone(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item items[3] = {item(d, new_unit(1, id_of(1), "A1", "x")), item(d, new_unit(2, id_of(2), "A2", "x"))};
	struct pg_admin *other = another_session();
	struct small_set *after = retitle(5, 0, id_of(1), "after");

	merge(s, &tenant_a, items, 2);
	sql_as(other, "BEGIN; UPDATE t.unit SET price = 5 WHERE code = 'A1'");
	items[0] = item(d, retitle(3, 0, id_of(1), "held"));
	items[1] = item(d, retitle(4, 0, id_of(2), "free"));
	after->depends = 3;
	after->set.depends = &after->depends;
	after->set.depends_count = 1;
	items[2] = item(d, after);
	merge(s, &tenant_a, items, 3);
	CHECK(merged.results[0].retry && accepted(1) && merged.results[2].retry);
	CHECK(is(ask("SELECT string_agg(title, ' ' ORDER BY code) FROM t.unit"), "x free"));
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "2 {4}"));
	sql_as(other, "COMMIT");
	merge(s, &tenant_a, items, 3);
	CHECK(accepted(0) && merged.results[1].repeated && accepted(2));
	CHECK(is(ask("SELECT string_agg(title || coalesce(price, 0), ' ' ORDER BY code) FROM t.unit"), "after5 free0"));
	pg_admin_close(other);
	pg_store_close(s);
}

/* Tried at first with all others, to the end; in vain. */
void R18_one_that_waits_on_its_device_is_not_counted_as_settled_with_the_others(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), nowhere = id_of(99);
	struct small_set *orphan = set_new(1, 0, "note", ROW_INSERT, id_of(5));
	struct merge_item items[2];

	set_cell(orphan, "note", "unit_id", value_bytes(nowhere.b, 16));
	items[0] = item(d, orphan);
	items[0].park = true;
	items[1] = item(d, new_unit(2, id_of(1), "A1", "x"));
	merge(s, &tenant_a, items, 2);
	CHECK(merged.results[0].parked && accepted(1));
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "0 {2}"));
	pg_store_close(s);
}

void R11_deferred_violation_is_refused_alone(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), e = device_new(2, &tenant_a, "tenant"), nowhere = id_of(99);
	struct small_set *orphan = set_new(1, 0, "note", ROW_INSERT, id_of(5));
	struct merge_item items[3];

	set_cell(orphan, "note", "unit_id", value_bytes(nowhere.b, 16));
	items[0] = item(d, orphan);
	items[1] = item(d, new_unit(2, id_of(1), "A1", "x"));
	items[2] = item(e, new_unit(1, id_of(2), "A2", "x"));
	merge(s, &tenant_a, items, 3);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_FOREIGN_KEY) && accepted(1) && accepted(2));
	CHECK(strstr(merged.sentences[0], "note_unit_fk") != NULL);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "2"));
	CHECK(is(ask("SELECT count(*) FROM ferry.commit"), "1"));
	pg_store_close(s);
}

void R10_lock_timeout_is_retried(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item one;
	struct pg_admin *other = another_session();
	struct pg_store_stats stats;

	/* An insert that waits for another's of the same key, longer than the lock timeout. */
	sql_as(other, "BEGIN");
	{
		char text_sql[300];
		struct uuid unit = id_of(1);

		snprintf(text_sql, sizeof(text_sql), "INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', '%s', 'other')",
			 text_of(&tenant_a), text_of(&unit));
		sql_as(other, text_sql);
	}
	one = item(d, new_unit(1, id_of(1), "A1", "mine"));
	merge_start(s, &tenant_a, &one, 1);
	do {
		poll_io_turn(&poll_state);
		pg_store_stats(s, &stats);
	} while (stats.merge_retries == 0 && !merged.done);
	CHECK(!merged.done);
	sql_as(other, "COMMIT");
	wait_for(&merged.done);
	/* Now the row is there: another's insert of the same key, merged column by column. */
	CHECK(merged.error == FERRY_OK && !merged.results[0].retry && merged.results[0].settled.verdict != VERDICT_REJECTED);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "1"));
	pg_admin_close(other);
	pg_store_close(s);
}

/* Each waits for a unique code that the other has inserted: the merge is ended,
 * as the other does not look for deadlocks, and it is done again. (When the
 * merge looked before there was one, its lock timeout ends it.) */
void R10_deadlock_is_retried(void)
{
	struct pg_store *s;
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item items[2];
	struct pg_admin *other = another_session();
	struct pg_store_stats stats;
	char insert[200];

	lock_timeout_ms = 15000;
	s = store_open();
	snprintf(insert, sizeof(insert), "INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', gen_random_uuid(), 'A')",
		 text_of(&tenant_a));
	sql_as(other, "SET deadlock_timeout = '10min'");
	sql_as(other, "BEGIN");
	sql_as(other, insert);
	items[0] = item(d, new_unit(1, id_of(1), "B", "x"));
	items[1] = item(d, new_unit(2, id_of(2), "A", "x"));
	merge_start(s, &tenant_a, items, 2);
	while (strcmp(ask("SELECT count(*) FROM pg_stat_activity WHERE usename = 'ferry_hub' AND wait_event_type = 'Lock'"),
		      "1") != 0)
		poll_io_turn(&poll_state);
	insert[strlen(insert) - 3] = 'B';
	sql_as(other, insert); /* returns once the merge was ended */
	sql_as(other, "ROLLBACK");
	wait_for(&merged.done);
	CHECK(merged.error == FERRY_OK && accepted(0) && accepted(1));
	pg_store_stats(s, &stats);
	CHECK(stats.merge_retries == 1 && stats.narrowings == 0);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "2"));
	pg_admin_close(other);
	pg_store_close(s);
}

void R10_locks_that_do_not_pass_hold_the_change_set_back(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), unit = id_of(1);
	struct merge_item one;
	struct pg_admin *other = another_session();
	char text_sql[300];

	snprintf(text_sql, sizeof(text_sql), "BEGIN; INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', '%s', 'other')",
		 text_of(&tenant_a), text_of(&unit));
	sql_as(other, text_sql);
	one = item(d, new_unit(1, unit, "A1", "mine"));
	merge(s, &tenant_a, &one, 1);
	CHECK(merged.results[0].retry);
	sql_as(other, "ROLLBACK");
	merge(s, &tenant_a, &one, 1);
	CHECK(accepted(0));
	pg_admin_close(other);
	pg_store_close(s);
}

void P2_killed_connection_loses_and_doubles_nothing(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	int64_t number = 1;
	unsigned seed = (unsigned)clock_wall_us(), failures = 0;

	fprintf(stderr, "seed %u\n", seed);
	srand(seed);
	for (; number <= 60; number++) {
		char code[24];
		struct merge_item one;

		snprintf(code, sizeof(code), "K%lld", (long long)number);
		one = item(d, new_unit(number, id_of((unsigned)number), code, "x"));
		for (int attempt = 0;; attempt++) {
			int turns = rand() % 5;

			CHECK(attempt < 50);
			merge_start(s, &tenant_a, &one, 1);
			for (int i = 0; attempt == 0 && number % 2 && i < turns && !merged.done; i++)
				poll_io_turn(&poll_state);
			if (attempt == 0 && number % 2)
				sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ferry_hub' "
				    "AND datname = current_database()");
			wait_for(&merged.done);
			if (merged.error == FERRY_OK && !merged.results[0].retry)
				break;
			failures++;
		}
		CHECK(accepted(0));
	}
	fprintf(stderr, "failures %u\n", failures);
	CHECK(is(ask("SELECT count(*) || ' ' || count(DISTINCT code) FROM t.unit"), "60 60"));
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "60 {}"));
	CHECK(is(ask("SELECT count(*) FROM ferry.settled"), "60"));
	pg_store_close(s);
}
