/* R17: a device whose rows are of a history that the database has lost finds
 * by comparing which of them differ, where both can, instead of being filled. */
#include "tests/unit/hub_core_fixture.h"

static struct message rewound_hello(int device, int64_t position)
{
	struct message m = hello_message(device, position);

	m.hello.version_max = 2;
	m.hello.features = FEATURE_COMPARE | FEATURE_REWIND;
	m.hello.comparable = true;
	w.devices[device].bookmark_code = FERRY_OTHER_HISTORY;
	w.devices[device].common = 70;
	w.devices[device].common_mark = 700;
	return m;
}

static const struct message_welcome *greet(int device, const struct message *hello)
{
	link_up(device);
	deliver(device, hello);
	run();
	return &next(device, MESSAGE_WELCOME)->welcome;
}

static void ask(int device, uint32_t ranges, uint32_t keys)
{
	static const struct key_range range;
	static const struct wanted_key key = {.key = {.b = {1}}};
	struct message m = {.type = MESSAGE_COMPARE,
			    .compare = {.scope = "tenant", .table = 7, .ranges = &range, .range_count = ranges, .keys = &key,
					.key_count = keys}};

	deliver(device, &m);
	run();
}

static void R17_a_replica_that_can_is_compared_and_gets_no_row_unasked(void **state)
{
	struct message hello = rewound_hello(1, 90);
	const struct message_welcome *m;

	(void)state;
	m = greet(1, &hello);
	assert_int_equal(m->mode, WELCOME_FILL);
	assert_int_equal(m->code, FERRY_OTHER_HISTORY);
	assert_true(m->compared);
	assert_int_equal(w.fills, 0);
	assert_null(next(1, MESSAGE_FILL));
	assert_null(next(1, MESSAGE_COMMIT));
}

static void R17_answers_come_without_a_commit_and_the_close_reaches_back_to_the_first(void **state)
{
	struct message hello = rewound_hello(1, 90);

	(void)state;
	(void)greet(1, &hello);
	w.position = 120;
	ask(1, 1, 0);
	assert_int_equal(next(1, MESSAGE_RANGES)->ranges.position, 120);
	w.position = 130;
	ask(1, 1, 1);
	assert_non_null(next(1, MESSAGE_DELTA)); /* the row that was asked for */
	assert_int_equal(next(1, MESSAGE_RANGES)->ranges.position, 130);
	assert_null(next(1, MESSAGE_COMMIT));
	w.position = 140;
	ask(1, 0, 0); /* all is compared */
	assert_int_equal(next(1, MESSAGE_DELTA)->delta.from, 120);
	for (uint32_t i = 0; i < w.links[1].count; i++) {
		if (w.links[1].messages[i].type == MESSAGE_COMMIT) {
			assert_true(w.links[1].messages[i].commit.fill_done);
			assert_int_equal(w.links[1].messages[i].commit.position, 140);
		}
	}
	assert_int_equal(w.links[1].messages[w.links[1].count - 1].type, MESSAGE_COMMIT);
	ask(1, 1, 0); /* live: an answer behind its commit again */
	assert_int_equal(w.links[1].messages[w.links[1].count - 2].type, MESSAGE_COMMIT);
	assert_true(w.links[1].open);
}

static void R17_the_sums_of_all_come_first_and_no_row_with_them(void **state)
{
	struct message hello = rewound_hello(1, 90), m = {.type = MESSAGE_COMPARE,
							  .compare = {.scope = "tenant", .table = 7, .sums = true}};

	(void)state;
	(void)greet(1, &hello);
	w.position = 120;
	deliver(1, &m);
	run();
	assert_true(next(1, MESSAGE_RANGES)->ranges.all_sums);
	for (uint32_t i = 0; i < w.links[1].count; i++)
		assert_true(w.links[1].messages[i].type != MESSAGE_DELTA && w.links[1].messages[i].type != MESSAGE_COMMIT);
	ask(1, 0, 0);
	assert_true(w.links[1].messages[w.links[1].count - 1].commit.fill_done);
}

static void R17_a_device_that_was_cut_in_the_midst_is_compared_again(void **state)
{
	struct message hello = rewound_hello(1, 70);
	const struct message_welcome *m;

	(void)state;
	w.devices[1].bookmark_code = FERRY_OK; /* it went back to the common one */
	hello.hello.rewound = hello.hello.refill = true;
	m = greet(1, &hello);
	assert_int_equal(m->mode, WELCOME_FILL);
	assert_int_equal(m->code, FERRY_MISMATCH);
	assert_true(m->compared);
}

static void R17_answers_wait_for_what_devices_give_back(void **state)
{
	struct message hello = rewound_hello(1, 90);

	(void)state;
	w.devices[1].epoch_at = fx_wall(NULL);
	(void)greet(1, &hello);
	ask(1, 1, 0);
	assert_null(next(1, MESSAGE_RANGES));
	w.now += limits.heal_window_us;
	hub_core_tick(w.core);
	run();
	assert_non_null(next(1, MESSAGE_RANGES));
}

static void R17_other_scopes_another_schema_or_an_older_agent_are_filled(void **state)
{
	static const char *const one[] = {"tenant"};
	struct message hello[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		hello[i] = rewound_hello(i + 1, 90);
	hello[0].hello.scopes = one;
	hello[0].hello.scope_count = 1;
	hello[1].hello.schema_hash = 41;
	hello[2].hello.features = FEATURE_COMPARE;
	hello[3].hello.comparable = false;
	for (int i = 0; i < 4; i++) {
		const struct message_welcome *m = greet(i + 1, &hello[i]);

		assert_int_equal(m->mode, WELCOME_FILL);
		assert_int_equal(m->code, FERRY_OTHER_HISTORY);
		assert_false(m->compared);
		assert_non_null(next(i + 1, MESSAGE_FILL));
	}
}

static void R17_what_is_too_much_for_an_answer_comes_by_a_fill(void **state)
{
	struct message hello = rewound_hello(1, 90);

	(void)state;
	(void)greet(1, &hello);
	w.feed_error = FERRY_PRUNED;
	ask(1, 1, 0);
	assert_false(w.links[1].open);
	assert_false(greet(1, &hello)->compared);
	assert_non_null(next(1, MESSAGE_FILL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(R17_a_replica_that_can_is_compared_and_gets_no_row_unasked),
		T(R17_answers_come_without_a_commit_and_the_close_reaches_back_to_the_first),
		T(R17_the_sums_of_all_come_first_and_no_row_with_them),
		T(R17_a_device_that_was_cut_in_the_midst_is_compared_again),
		T(R17_answers_wait_for_what_devices_give_back),
		T(R17_other_scopes_another_schema_or_an_older_agent_are_filled),
		T(R17_what_is_too_much_for_an_answer_comes_by_a_fill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
