/* What the agent's core pushes, and what it does while the replica is busy or full. */
#include "tests/unit/agent_core_fixture.h"

/* Pushing. */

static void poke_while_live_cuts_and_pushes(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sets = 3;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 3);
	assert_int_equal(b->pushed[2], 3);
	assert_false(agent_core_idle(b->core));
	say_ack(b, 3);
	assert_false(agent_core_idle(b->core));
	say_commit(b, 5, 3, false);
	assert_true(agent_core_idle(b->core));
}

static void poke_while_offline_is_cut_at_once_and_pushed_once_live(void **state)
{
	struct bench *b = *state;
	b->store.sets = 1;
	agent_core_poke(b->core);
	assert_int_equal(b->store.calls_cut, 1);
	agent_core_poke(b->core);
	assert_int_equal(b->store.calls_cut, 2);
	go_live(b);
	assert_int_equal(b->pushed_count, 1);
}

static void long_backlog_is_worked_off_in_bounded_steps(void **state)
{
	struct bench *b = *state;
	b->store.sets = 100;
	b->store.cuts_left = 40;
	go_live(b);
	assert_true(b->pushed_count < 100);
	assert_true(b->store.cuts_left > 0);
	for (int i = 0; i < 20; i++)
		pass_to_wake(b);
	assert_int_equal(b->pushed_count, 100);
	assert_int_equal(b->store.cuts_left, 0);
}

static void exhausted_credit_holds_the_push_until_more_comes(void **state)
{
	struct bench *b = *state;
	b->store.sets = 5;
	b->store.set_bytes = 1000;
	greet(b);
	welcome(b, WELCOME_DELTA, 2500);
	assert_int_equal(b->pushed_count, 2);
	pass(b, SECOND);
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 2);
	say_credit(b, 100);
	assert_int_equal(b->pushed_count, 2);
	say_credit(b, 10000);
	assert_int_equal(b->pushed_count, 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(b->pushed[i], i + 1);
	size_t spent = 0;
	for (int i = 0; i < b->sent_count; i++)
		spent += b->sent[i] == MESSAGE_PUSH ? b->sent_bytes[i] : 0;
	assert_true(spent <= 2500 + 100 + 10000);
}

static void control_messages_pass_while_a_push_waits_for_credit(void **state)
{
	struct bench *b = *state;
	b->store.sets = 1;
	greet(b);
	welcome(b, WELCOME_DELTA, 0);
	struct message ping = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 6}};
	hub_says(b, &ping);
	assert_int_equal(b->count[MESSAGE_PONG], 1);
	assert_int_equal(b->pushed_count, 0);
	say_credit(b, 5000);
	assert_int_equal(b->pushed_count, 1);
}

static void endless_credit_does_not_overflow(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_credit(b, FERRY_CREDIT_BYTES_MAX);
	say_credit(b, FERRY_CREDIT_BYTES_MAX);
	b->store.sets = 1;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 1);
}

static void full_link_queue_holds_pushes_until_drained(void **state)
{
	struct bench *b = *state;
	b->queued = agent_limits_default.push_bytes;
	b->store.sets = 2;
	go_live(b);
	assert_int_equal(b->pushed_count, 0);
	b->queued = 0;
	agent_core_drained(b->core);
	assert_int_equal(b->pushed_count, 2);
}

static void restart_mid_push_offers_all_that_is_unsettled_again(void **state)
{
	struct bench *b = *state;
	b->store.sets = 4;
	go_live(b);
	say_ack(b, 2);
	say_commit(b, 5, 1, false);
	agent_core_link_down(b->core, "cut");
	b->pushed_count = 0;
	pass(b, 61 * (int64_t)SECOND);
	agent_core_link_up(b->core);
	welcome(b, WELCOME_DELTA, 100000);
	assert_int_equal(b->pushed_count, 3);
	assert_int_equal(b->pushed[0], 2);
}

static void push_too_large_to_send_does_not_hold_up_the_next_P6(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sets = 1;
	b->store.set_bytes = FERRY_MESSAGE_BYTES_MAX + 1;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 0);
	assert_int_equal(agent_core_error(b->core), FERRY_MESSAGE_TOO_LARGE);
	b->store.sets = 2;
	b->store.set_bytes = 10;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 1);
	assert_int_equal(b->pushed[0], 2);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

/* A busy or full replica. */

static void busy_commit_is_kept_and_done_later_in_order(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.commit = FERRY_BUSY;
	say_delta(b);
	say_commit(b, 5, 0, false);
	say_delta(b);
	say_commit(b, 6, 0, false);
	assert_string_equal(b->store.order, "d");
	assert_int_equal(b->store.calls_commit, 1);
	pass_to_wake(b);
	assert_int_equal(b->store.calls_commit, 2);
	b->store.commit = FERRY_OK;
	pass_to_wake(b);
	assert_string_equal(b->store.order, "dcdc");
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void busy_replica_still_answers_pings(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.delta = FERRY_BUSY;
	say_delta(b);
	struct message ping = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 6}};
	hub_says(b, &ping);
	assert_int_equal(b->last[MESSAGE_PONG].ping.id, 5);
	assert_int_equal(b->last[MESSAGE_PONG].ping.sent, 6);
	assert_true(b->last[MESSAGE_PONG].ping.answered == b->wall);
}

static void busy_at_hello_is_tried_again(void **state)
{
	struct bench *b = *state;
	b->store.hello = FERRY_BUSY;
	greet(b);
	assert_int_equal(b->count[MESSAGE_HELLO], 0);
	b->store.hello = FERRY_OK;
	pass_to_wake(b);
	assert_int_equal(b->count[MESSAGE_HELLO], 1);
}

static void busy_at_welcome_outlasts_the_greeting_timeout(void **state)
{
	struct bench *b = *state;
	greet(b);
	b->store.welcome = FERRY_BUSY;
	welcome(b, WELCOME_DELTA, 1000);
	for (int i = 0; i < 60; i++)
		pass(b, SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_GREETING);
	b->store.welcome = FERRY_OK;
	pass(b, SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void busy_at_cut_and_push_keeps_the_link_and_goes_on(void **state)
{
	struct bench *b = *state;
	b->store.sets = 1;
	b->store.cut = FERRY_BUSY;
	go_live(b);
	assert_int_equal(b->pushed_count, 0);
	b->store.cut = FERRY_OK;
	b->store.next_push = FERRY_BUSY;
	pass_to_wake(b);
	assert_int_equal(b->pushed_count, 0);
	b->store.next_push = FERRY_OK;
	pass_to_wake(b);
	assert_int_equal(b->pushed_count, 1);
}

static void no_space_is_said_and_tried_again(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.commit = FERRY_NO_SPACE;
	say_commit(b, 5, 0, false);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
	assert_int_equal(agent_core_error(b->core), FERRY_NO_SPACE);
	pass(b, 6 * SECOND);
	assert_int_equal(agent_core_error(b->core), FERRY_NO_SPACE);
	b->store.commit = FERRY_OK;
	pass(b, 6 * SECOND);
	assert_string_equal(b->store.order, "c");
	assert_int_equal(agent_core_error(b->core), 0);
}

static void damaged_replica_stops(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.delta = FERRY_CORRUPT;
	say_delta(b);
	assert_int_equal(agent_core_state(b->core), AGENT_STOPPED);
	assert_int_equal(agent_core_error(b->core), FERRY_CORRUPT);
}

static void bug_in_the_replica_backs_off(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.delta = FERRY_INTERNAL;
	say_delta(b);
	expect_backing_off(b, FERRY_INTERNAL);
}

static void hub_that_ignores_credit_is_cut_off_while_the_replica_is_busy_P9(void **state)
{
	struct bench *b = *state;
	struct agent_limits tight = agent_limits_default;
	tight.credit_bytes = 4000;
	tight.message_bytes_max = 4000;
	agent_core_free(b->core);
	b->core = agent_core_new(&tight, &effects, b, &fake_ops, &b->store, 1);
	go_live(b);
	b->store.delta = FERRY_BUSY;
	for (int i = 0; i < 2000 && agent_core_state(b->core) == AGENT_LIVE; i++)
		say_delta(b);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_CREDIT);
	expect_backing_off(b, FERRY_CREDIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(poke_while_live_cuts_and_pushes),
		T(poke_while_offline_is_cut_at_once_and_pushed_once_live),
		T(long_backlog_is_worked_off_in_bounded_steps),
		T(exhausted_credit_holds_the_push_until_more_comes),
		T(control_messages_pass_while_a_push_waits_for_credit),
		T(endless_credit_does_not_overflow),
		T(full_link_queue_holds_pushes_until_drained),
		T(restart_mid_push_offers_all_that_is_unsettled_again),
		T(push_too_large_to_send_does_not_hold_up_the_next_P6),
		T(busy_commit_is_kept_and_done_later_in_order),
		T(busy_replica_still_answers_pings),
		T(busy_at_hello_is_tried_again),
		T(busy_at_welcome_outlasts_the_greeting_timeout),
		T(busy_at_cut_and_push_keeps_the_link_and_goes_on),
		T(no_space_is_said_and_tried_again),
		T(damaged_replica_stops),
		T(bug_in_the_replica_backs_off),
		T(hub_that_ignores_credit_is_cut_off_while_the_replica_is_busy_P9),
	};

	return cmocka_run_group_tests_name("agent_push", tests, NULL, NULL);
}
