/* Kept history over more than one restore of the hub (R18). */
#include "agent/replica_internal.h"
#include "tests/unit/replica_fixture.h"

static void rewind_to(struct fixture *f, int64_t position)
{
	static const char *const scopes[] = {SCOPE};
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(4), .mode = WELCOME_FILL,
					  .code = FERRY_OTHER_HISTORY, .scopes = scopes, .scope_count = 1, .clock = f->wall,
					  .common = position, .common_mark = position * 7};

	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

static void assert_replay(struct fixture *f, int64_t old_position)
{
	struct message_push push;

	arena_reset(&f->arena);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 1);
	assert_int_equal(push.sets[0].number, 1);
	assert_int_equal(push.sets[0].old_position, old_position);
}

static void R18_a_replay_names_where_it_was_settled_first_however_often_it_comes_back(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	int64_t common = f->applied, first;

	app(f, "UPDATE units SET code = 'kept' WHERE id = '%s'", unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	hub_take_set(f, push.sets);
	commit(f);
	first = f->applied;
	for (int i = 0; i < 3; i++) {
		rewind_to(f, common);
		assert_replay(f, first);
		f->verdicts[1].position = f->position += 1000; /* the restored hub settles it elsewhere */
		fill_rows(f, 0, f->row_count);
		assert_ok(hub_commit(f, true, f->position));
		assert_says(f, "0", "SELECT replays FROM ferry_status");
		assert_int_not_equal(f->applied, first);
		assert_proof(f);
	}
}

static void R18_bookmarks_of_the_past_reach_back_over_the_leap_of_a_restore(void **state)
{
	int64_t positions[1000];
	bool keep[1000];
	uint32_t kept, old = 0;

	(void)state;
	for (int i = 0; i < 500; i++)
		positions[i] = INT64_C(1795262914731136) - i;
	for (int i = 500; i < 1000; i++)
		positions[i] = 1000 - i;
	kept = bookmarks_thin(positions, 1000, keep);
	assert_true(kept <= FERRY_PAST_MAX);
	for (int i = 500; i < 1000; i++)
		old += keep[i];
	assert_true(old >= 2);
	for (uint32_t i = 16, last = 15; i < 1000; i++) { /* no gap is longer than what lies before it */
		if (keep[i]) {
			assert_true(i - last <= last + 2);
			last = i;
		}
	}
}

static void settle_one(struct fixture *f, uint32_t n)
{
	struct message_push push;

	app(f, "UPDATE units SET code = 'kept' WHERE id = '%s'", unit(n));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	hub_take_set(f, push.sets);
	commit(f);
}

static void R18_what_is_older_than_the_history_may_be_falls_out_and_is_counted(void **state)
{
	static const int64_t day = INT64_C(86400) * 1000000;
	struct fixture *f = *state;

	settle_one(f, 1);
	f->wall += 29 * day;
	settle_one(f, 2);
	for (int i = 0; i < FERRY_PAST_MAX; i++) {
		hub_write(f, 3, "code", i % 2 ? "odd" : "even");
		commit(f);
	}
	assert_says(f, "2 0", "SELECT kept_sets || ' ' || forgotten FROM ferry_status"); /* 30 days, if nothing else is said */
	f->wall += 2 * day;
	for (int i = 0; i < FERRY_PAST_MAX; i++) {
		hub_write(f, 3, "code", i % 2 ? "odd" : "even");
		commit(f);
	}
	assert_says(f, "1 1", "SELECT kept_sets || ' ' || forgotten FROM ferry_status");
	assert_says(f, "2", "SELECT number FROM ferry_kept");
	assert_says(f, "1", "SELECT kept_bytes = (SELECT sum(bytes) FROM ferry_kept) FROM ferry_status");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(R18_a_replay_names_where_it_was_settled_first_however_often_it_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(R18_what_is_older_than_the_history_may_be_falls_out_and_is_counted, setup, teardown),
		cmocka_unit_test(R18_bookmarks_of_the_past_reach_back_over_the_leap_of_a_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
