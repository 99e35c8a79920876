/* The order among replays and what builds on them, and what was made on rows that the hub has lost (R17, R18). */
#include "agent/replica_internal.h"
#include "tests/unit/replica_fixture.h"

static void rewind_since(struct fixture *f, int64_t position, int64_t since)
{
	static const char *const scopes[] = {SCOPE};
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(4), .mode = WELCOME_FILL,
					  .code = FERRY_OTHER_HISTORY, .scopes = scopes, .scope_count = 1, .clock = f->wall,
					  .common = position, .common_mark = position * 7, .since = since};

	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

static void rewind_to(struct fixture *f, int64_t position)
{
	rewind_since(f, position, 0);
}

static void push_whole(struct fixture *f, struct message_push *push, uint32_t count)
{
	arena_reset(&f->arena);
	f->cursor = (struct push_cursor){0};
	assert_true(next_push(f, 65536, push));
	assert_int_equal(push->set_count, count);
}

static void edit(struct fixture *f, uint32_t n, int floor)
{
	app(f, "UPDATE units SET floor = %d WHERE id = '%s'", floor, unit(n));
	cut(f);
}

static void settle_next(struct fixture *f, uint32_t which, enum verdict verdict)
{
	struct message_push push;

	arena_reset(&f->arena);
	assert_true(next_push(f, 65536, &push));
	hub_take_set(f, &push.sets[0]);
	f->verdicts[which].verdict = verdict;
	f->verdicts[which].code = verdict == VERDICT_REJECTED ? FERRY_UNIQUE : FERRY_OK;
	commit(f);
}

static void R18_what_edits_a_row_again_comes_after_the_last_replay_of_it(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	int64_t common = f->applied;

	for (int i = 0; i < 2; i++) {
		edit(f, 1, 4 + i);
		settle_next(f, 1 + 2 * (uint32_t)i, VERDICT_ACCEPTED);
		edit(f, 2, 4 + i);
		settle_next(f, 2 + 2 * (uint32_t)i, VERDICT_ACCEPTED);
	}
	edit(f, 1, 8);
	edit(f, 3, 8);
	rewind_to(f, common);
	push_whole(f, &push, 6);
	assert_int_equal(push.sets[0].after_count + push.sets[1].after_count, 0);
	for (int i = 2; i < 5; i++) { /* 3 after 1, 4 after 2, 5 after 3 */
		assert_int_equal(push.sets[i].after_count, 1);
		assert_int_equal(push.sets[i].after[0], i - 1);
		assert_int_equal(push.sets[i].depends_count, 0);
	}
	assert_int_equal(push.sets[5].after_count, 0);
	push_whole(f, &push, 6); /* offered again, it says the same */
	assert_int_equal(push.sets[0].after_count, 0);
	assert_int_equal(push.sets[4].after[0], 3);
}

static void R18_nothing_waits_for_a_replay_that_was_refused(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	int64_t common = f->applied;

	edit(f, 1, 4);
	settle_next(f, 1, VERDICT_REJECTED);
	edit(f, 1, 5);
	settle_next(f, 2, VERDICT_ACCEPTED);
	rewind_to(f, common);
	push_whole(f, &push, 2);
	assert_int_equal(push.sets[0].old_verdict, VERDICT_REJECTED);
	assert_says(f, "2", "SELECT replays FROM ferry_status");
	assert_int_equal(push.sets[1].after_count, 0);
}

static void R18_without_a_restore_nothing_is_named(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	edit(f, 1, 4);
	settle_next(f, 1, VERDICT_ACCEPTED);
	edit(f, 1, 5);
	push_whole(f, &push, 1);
	assert_int_equal(push.sets[0].after_count, 0);
}

/* Until the comparison is over apps see the lost history's rows. */
static void R17_an_edit_made_before_the_comparison_was_made_on_the_lost_history(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	int64_t common = f->applied, lost;

	edit(f, 1, 4);
	settle_next(f, 1, VERDICT_ACCEPTED);
	lost = f->applied;
	rewind_to(f, common);
	edit(f, 1, 5);
	edit(f, 1, 6);
	push_whole(f, &push, 3);
	for (int i = 1; i < 3; i++) {
		assert_int_equal(push.sets[i].base_position, lost);
		assert_int_equal(push.sets[i].lost_from, common + 1);
		assert_int_equal(push.sets[i].blocks[0].base_count, 0);
	}
	rewind_to(f, common); /* another contact of the same kind changes nothing */
	edit(f, 2, 7);
	push_whole(f, &push, 4);
	assert_int_equal(push.sets[3].base_position, lost);
	f->verdicts[1].position = f->position += 1000;
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
	assert_proof(f);
	edit(f, 3, 7); /* now it sees the hub's */
	push_whole(f, &push, 4);
	assert_int_equal(push.sets[3].base_position, f->applied);
	assert_int_equal(push.sets[3].lost_from, 0);
}

/* Lost twice: its own, of the first history, and an edit of the second. */
static void R18_what_was_made_between_two_restores_names_the_gap_below_it(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	int64_t common = f->applied, first;

	edit(f, 1, 4);
	settle_next(f, 1, VERDICT_ACCEPTED);
	first = f->applied;
	rewind_since(f, common, 5000);
	push_whole(f, &push, 1);
	assert_int_equal(push.sets[0].gap_count, 0); /* its base lies below */
	assert_int_equal(push.sets[0].last_position, 0);
	f->verdicts[1].position = f->position = 5010;
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
	edit(f, 2, 5);
	settle_next(f, 2, VERDICT_ACCEPTED);
	rewind_since(f, common, 9000);
	push_whole(f, &push, 2);
	assert_int_equal(push.sets[0].gap_count, 0);
	assert_int_equal(push.sets[0].old_position, first);
	assert_int_equal(push.sets[0].last_position, 5010);
	assert_int_equal(push.sets[1].gap_count, 2);
	assert_int_equal(push.sets[1].gaps[0], common);
	assert_int_equal(push.sets[1].gaps[1], 5000);
	assert_int_equal(push.sets[1].last_position, 0);
	assert_says(f, "2", "SELECT replays FROM ferry_status");
	assert_proof(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(R18_what_edits_a_row_again_comes_after_the_last_replay_of_it, setup, teardown),
		cmocka_unit_test_setup_teardown(R18_nothing_waits_for_a_replay_that_was_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(R18_without_a_restore_nothing_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(R17_an_edit_made_before_the_comparison_was_made_on_the_lost_history, setup, teardown),
		cmocka_unit_test_setup_teardown(R18_what_was_made_between_two_restores_names_the_gap_below_it, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
