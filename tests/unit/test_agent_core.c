/* The agent's connection: its states, what a hub may not do, credit, filling, the clock. */
#include "agent/backoff.h"
#include "agent/clock_probe.h"
#include "tests/unit/agent_core_fixture.h"

/* States. */

static void R21_a_mismatch_is_told_to_the_hub_and_the_link_begins_anew(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sums_wrong = b->store.heal_due = true;
	say_commit(b, 5, 0, false);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_MISMATCH);
	expect_backing_off(b, FERRY_MISMATCH);
}

static void say_ranges(struct bench *b)
{
	struct message m = {.type = MESSAGE_RANGES, .ranges = {.scope = "tenant", .table = 7, .position = 5}};
	hub_says(b, &m);
}

static void R21_a_hub_that_compares_is_asked_and_the_link_stays(void **state)
{
	struct bench *b = *state;
	b->hub_compares = true;
	go_live(b);
	b->store.sums_wrong = b->store.heal_due = true;
	b->store.questions = 2;
	say_commit(b, 5, 0, false);
	assert_int_equal(b->count[MESSAGE_ERROR], 0);
	assert_int_equal(b->count[MESSAGE_COMPARE], 1); /* the next one only after the answer */
	say_ranges(b);
	assert_int_equal(b->count[MESSAGE_COMPARE], 2);
	say_ranges(b);
	assert_int_equal(b->count[MESSAGE_COMPARE], 2);
	assert_int_equal(b->store.calls_ranges, 2);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void R17_a_welcome_that_compares_is_answered_by_questions_until_the_commit_that_closes_it(void **state)
{
	struct bench *b = *state;
	b->hub_compares = b->compared = true;
	b->store.questions = 2;
	greet(b);
	welcome(b, WELCOME_FILL, 1u << 20);
	assert_int_equal(agent_core_state(b->core), AGENT_FILLING);
	assert_int_equal(b->count[MESSAGE_COMPARE], 1);
	say_ranges(b);
	assert_int_equal(b->count[MESSAGE_COMPARE], 2);
	say_ranges(b);
	say_commit(b, 5, 0, true);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void R17_where_too_much_differs_the_hub_is_told_and_the_link_begins_anew(void **state)
{
	struct bench *b = *state;
	b->hub_compares = b->compared = true;
	b->store.questions = 2;
	b->store.too_much = true;
	greet(b);
	welcome(b, WELCOME_FILL, 1u << 20);
	say_ranges(b);
	assert_int_equal(b->count[MESSAGE_ERROR], 1);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	assert_string_equal(agent_core_why(b->core), "too much differs");
}

static void a_fill_may_take_longer_than_the_greeting(void **state)
{
	struct bench *b = *state;
	greet(b);
	welcome(b, WELCOME_FILL, 1u << 20);
	pass(b, agent_limits_default.greeting_timeout_us + 1000000);
	assert_int_equal(agent_core_state(b->core), AGENT_FILLING);
}

static void R21_no_state_is_applied_while_an_answer_is_worked_on(void **state)
{
	struct bench *b = *state;
	b->hub_compares = true;
	go_live(b);
	b->store.sums_wrong = true;
	b->store.questions = 1;
	b->store.slices = 3;
	say_commit(b, 5, 0, false);
	int commits = b->store.calls_commit;
	say_ranges(b);
	say_commit(b, 6, 0, false);
	assert_int_equal(b->store.calls_commit, commits);
	pass(b, SECOND);
	assert_int_equal(b->store.calls_ranges, 4);
	assert_int_equal(b->store.calls_commit, commits + 1);
}

static void answer_that_was_not_asked_for_closes_the_link(void **state)
{
	struct bench *b = *state;
	b->hub_compares = true;
	go_live(b);
	say_ranges(b);
	assert_int_equal(b->store.calls_ranges, 0);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void R21_a_mismatch_that_was_tried_lately_does_not_end_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sums_wrong = true;
	say_commit(b, 5, 0, false);
	assert_int_equal(b->count[MESSAGE_ERROR], 0);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void credit_comes_back_with_each_ping_and_at_the_end(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_commit(b, 5, 0, false);
	assert_int_equal(b->credit_back, 0);
	pass(b, 21 * (int64_t)SECOND);
	assert_true(b->credit_back > 0);
	uint64_t before = b->credit_back;
	say_commit(b, 6, 0, false);
	agent_core_stop(b->core);
	assert_true(b->credit_back > before);
}

static void start_connects_and_greets_with_what_the_store_says(void **state)
{
	struct bench *b = *state;
	b->store.at = (struct message_hello){.position = 17, .mark = 99, .last_number = 4, .schema_hash = 7,
					     .fill_position = 5, .fill_table = 2, .fill_after = {{8}}};
	greet(b);
	assert_int_equal(b->connects, 1);
	const struct message_hello *h = &b->last[MESSAGE_HELLO].hello;
	assert_int_equal(b->count[MESSAGE_HELLO], 1);
	assert_int_equal(h->position, 17);
	assert_int_equal(h->mark, 99);
	assert_int_equal(h->last_number, 4);
	assert_int_equal(h->fill_table, 2);
	assert_int_equal(h->fill_after.b[0], 8);
	assert_int_equal(h->version_min, FERRY_PROTOCOL_LOWEST);
	assert_int_equal(h->version_max, FERRY_PROTOCOL_HIGHEST);
	assert_true(h->clock == b->wall);
	assert_int_equal(h->credit_bytes, agent_limits_default.credit_bytes);
}

static void welcome_delta_makes_live_and_probes_the_clock(void **state)
{
	struct bench *b = *state;
	go_live(b);
	assert_int_equal(b->count[MESSAGE_PING], 1);
	assert_int_equal(agent_core_error(b->core), 0);
	assert_false(agent_core_idle(b->core)); /* what the hub has besides may be on its way */
	say_commit(b, 1, 0, false);
	assert_true(agent_core_idle(b->core));
}

static void refused_connection_backs_off_and_never_gives_up(void **state)
{
	struct bench *b = *state;
	b->refuse_at_once = true;
	agent_core_start(b->core);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
		assert_true(b->wake >= b->now && b->wake <= b->now + 60 * (int64_t)SECOND);
		pass_to_wake(b);
		assert_int_equal(b->connects, i + 2);
	}
}

static void connection_without_answer_times_out(void **state)
{
	struct bench *b = *state;
	agent_core_start(b->core);
	pass(b, 14 * SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
	pass(b, 2 * SECOND);
	assert_int_equal(b->disconnects, 1);
	expect_backing_off(b, FERRY_LINK_TIMEOUT);
}

static void hub_that_does_not_greet_times_out(void **state)
{
	struct bench *b = *state;
	greet(b);
	pass(b, 16 * SECOND);
	assert_int_equal(b->disconnects, 1);
	assert_int_equal(b->store.calls_disconnected, 1);
	expect_backing_off(b, FERRY_LINK_TIMEOUT);
}

static void lost_link_drops_frames_and_reconnects(void **state)
{
	struct bench *b = *state;
	go_live(b);
	agent_core_link_down(b->core, "reset by peer");
	assert_int_equal(b->store.calls_disconnected, 1);
	assert_string_equal(agent_core_why(b->core), "reset by peer");
	expect_backing_off(b, FERRY_LINK_CLOSED);
}

static void late_link_up_after_giving_up_is_ignored(void **state)
{
	struct bench *b = *state;
	agent_core_start(b->core);
	agent_core_stop(b->core);
	agent_core_link_up(b->core);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	pass(b, 120 * (int64_t)SECOND);
	assert_int_equal(b->connects, 1);
}

static void stop_ends_the_link_and_start_begins_anew(void **state)
{
	struct bench *b = *state;
	go_live(b);
	agent_core_stop(b->core);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	assert_int_equal(b->disconnects, 1);
	agent_core_start(b->core);
	assert_int_equal(b->connects, 2);
}

static void revoked_stops_with_a_sentence_until_started_again(void **state)
{
	static const int codes[] = {FERRY_REVOKED, FERRY_CLONE, FERRY_VERSION, FERRY_UNKNOWN_DEVICE};
	struct bench *b = *state;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		greet(b);
		say_error(b, codes[i], 0);
		assert_int_equal(agent_core_state(b->core), AGENT_STOPPED);
		assert_int_equal(agent_core_error(b->core), codes[i]);
		assert_string_equal(agent_core_why(b->core), "the hub says: because");
		int before = b->connects;
		pass(b, 3600 * (int64_t)SECOND);
		assert_int_equal(b->connects, before);
	}
}

static void trouble_of_the_hubs_own_machine_does_not_stop_the_device(void **state)
{
	static const int codes[] = {FERRY_IO, FERRY_CONFIG, FERRY_CORRUPT, FERRY_DATABASE, FERRY_INTERNAL, 9999, 0};
	struct bench *b = *state;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		greet(b);
		say_error(b, codes[i], 0);
		assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
		pass(b, 61 * (int64_t)SECOND);
		assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
	}
}

static void retry_after_is_respected(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_error(b, FERRY_OVERLOADED, 90000);
	pass(b, 89 * (int64_t)SECOND);
	assert_int_equal(b->connects, 1);
	pass(b, 2 * SECOND);
	assert_int_equal(b->connects, 2);
}

static void other_version_in_welcome_stops(void **state)
{
	struct bench *b = *state;
	greet(b);
	struct message m = {.type = MESSAGE_WELCOME, .welcome = {.version = FERRY_PROTOCOL_HIGHEST + 1, .hub_version = "9", .mode = WELCOME_DELTA, .message_bytes_max = 4096}};
	hub_says(b, &m);
	assert_int_equal(agent_core_state(b->core), AGENT_STOPPED);
	assert_int_equal(agent_core_error(b->core), FERRY_VERSION);
}

static void minute_of_live_resets_the_backoff(void **state)
{
	struct bench *b = *state;
	b->refuse_at_once = true;
	agent_core_start(b->core);
	for (int i = 0; i < 20; i++)
		pass_to_wake(b);
	b->refuse_at_once = false;
	pass_to_wake(b);
	agent_core_link_up(b->core);
	welcome(b, WELCOME_DELTA, 1000);
	for (int i = 0; i < 7; i++) {
		pass(b, 10 * SECOND);
		say_credit(b, 1);
	}
	agent_core_link_down(b->core, "gone");
	assert_true(b->wake - b->now <= agent_limits_default.backoff_min_us);
}

/* What a hub may not do. */

static void garbage_closes_the_link_and_tells_the_hub(void **state)
{
	static const uint8_t garbage[][6] = {{0xff, 1, 2, 3, 4, 5}, {0x00, 0xff, 0xff, 0xff, 0xff, 0xff},
					     {0x01, 9, 9, 9, 9, 9}, {0x00, 0xa1, 0x00, 0x18, 0x63, 0x00}};
	struct bench *b = *state;
	for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
		greet(b);
		agent_core_message(b->core, garbage[i], sizeof garbage[i]);
		assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
		assert_int_equal(b->count[MESSAGE_ERROR], (int)i + 1);
		pass(b, 61 * (int64_t)SECOND);
		assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
		agent_core_stop(b->core);
	}
	greet(b);
	agent_core_message(b->core, garbage[0], 0);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
}

static void oversized_message_closes_the_link(void **state)
{
	struct bench *b = *state;
	greet(b);
	size_t n = FERRY_MESSAGE_BYTES_MAX + 4096;
	uint8_t *big = calloc(1, n);
	assert_non_null(big);
	agent_core_message(b->core, big, n);
	free(big);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_MESSAGE_TOO_LARGE);
	expect_backing_off(b, FERRY_MESSAGE_TOO_LARGE);
}

static void repeated_welcome_closes_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	welcome(b, WELCOME_DELTA, 1000);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_UNEXPECTED_MESSAGE);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void rows_before_welcome_close_the_link(void **state)
{
	struct bench *b = *state;
	greet(b);
	say_delta(b);
	assert_int_equal(b->store.calls_delta, 0);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void messages_of_an_agent_close_the_link(void **state)
{
	struct bench *b = *state;
	struct message ours[] = {
		{.type = MESSAGE_HELLO, .hello = {.agent_version = "x", .position = -1, .version_min = 1, .version_max = 1}},
		{.type = MESSAGE_FILL_ACK, .fill_ack = {.table = 1}},
	};
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
		go_live(b);
		hub_says(b, &ours[i]);
		expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
		agent_core_stop(b->core);
	}
}

static void fill_outside_of_filling_closes_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_fill(b, 1, 1, 1);
	assert_int_equal(b->store.calls_fill, 0);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void fill_done_while_live_closes_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_commit(b, 5, 0, true);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void messages_after_the_link_is_gone_are_ignored(void **state)
{
	struct bench *b = *state;
	go_live(b);
	agent_core_link_down(b->core, "gone");
	say_delta(b);
	say_commit(b, 5, 0, false);
	assert_int_equal(b->store.calls_delta + b->store.calls_commit, 0);
}

/* Credit, filling, heartbeat, clock. */

static void credit_is_given_back_only_for_what_was_dealt_with(void **state)
{
	struct bench *b = *state;
	struct agent_limits tight = agent_limits_default;
	tight.credit_bytes = 400;
	agent_core_free(b->core);
	b->core = agent_core_new(&tight, &effects, b, &fake_ops, &b->store, 1);
	go_live(b);
	b->store.delta = FERRY_BUSY;
	size_t sent = 0;
	for (int i = 0; i < 10; i++) {
		say_delta(b);
		sent += b->wire.n;
	}
	assert_int_equal(b->count[MESSAGE_CREDIT], 0);
	b->store.delta = FERRY_OK;
	pass_to_wake(b);
	assert_true(b->credit_back <= sent);
	assert_true(sent - b->credit_back < tight.credit_bytes / 4);
}

static void fill_is_acknowledged_with_its_place_and_ends_live(void **state)
{
	struct bench *b = *state;
	greet(b);
	welcome(b, WELCOME_FILL, 100000);
	assert_int_equal(agent_core_state(b->core), AGENT_FILLING);
	b->store.sets = 1;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 0);
	say_fill(b, 1, 0x11, 1);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.table, 1);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.after.b[0], 0x11);
	say_fill(b, 2, 0x07, 1);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.table, 2);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.after.b[0], 0x07);
	say_fill(b, 3, 0, 0); /* a table that has no rows here */
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.table, 3);
	say_delta(b);
	say_commit(b, 9, 0, true);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
	assert_int_equal(b->pushed_count, 1);
}

static void fill_is_not_acknowledged_before_it_is_staged(void **state)
{
	struct bench *b = *state;
	greet(b);
	welcome(b, WELCOME_RESUME, 100000);
	b->store.fill = FERRY_BUSY;
	say_fill(b, 1, 1, 1);
	assert_int_equal(b->count[MESSAGE_FILL_ACK], 0);
	b->store.fill = FERRY_OK;
	pass_to_wake(b);
	assert_int_equal(b->count[MESSAGE_FILL_ACK], 1);
}

static void silent_hub_is_dead_after_two_missed_pings(void **state)
{
	struct bench *b = *state;
	go_live(b);
	for (int i = 0; i < 2; i++) {
		pass(b, 20 * SECOND);
		assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
		assert_int_equal(b->count[MESSAGE_PING], i + 2);
	}
	pass(b, 20 * SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	assert_int_equal(agent_core_error(b->core), FERRY_LINK_TIMEOUT);
	assert_int_equal(b->disconnects, 1);
}

static void answered_pings_keep_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	for (int i = 0; i < 20; i++) {
		pass(b, 20 * SECOND);
		struct message pong = {.type = MESSAGE_PONG, .ping = b->last[MESSAGE_PING].ping};
		hub_says(b, &pong);
	}
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void clock_offset_is_measured_and_survives_a_clock_jump_P10(void **state)
{
	struct bench *b = *state;
	go_live(b);
	int64_t ahead = 3600 * (int64_t)SECOND;
	struct message pong = {.type = MESSAGE_PONG, .ping = b->last[MESSAGE_PING].ping};
	b->now += 40000;
	b->wall += 40000;
	pong.ping.received = b->wall - 20000 + ahead;
	pong.ping.answered = pong.ping.received;
	hub_says(b, &pong);
	assert_true(agent_core_clock_offset(b->core) == ahead);
	b->wall += 5 * ahead;
	assert_true(agent_core_clock_offset(b->core) == -4 * ahead);
}

/* Days without a link may go by until the next ping tells the store. */
static void P10_an_edit_is_stamped_by_what_was_measured_before_the_clock_jumped(void **state)
{
	struct bench *b = *state;
	go_live(b);
	struct message pong = {.type = MESSAGE_PONG, .ping = b->last[MESSAGE_PING].ping};
	b->now += 2000;
	b->wall += 2000;
	pong.ping.received = pong.ping.answered = b->wall - 1000;
	hub_says(b, &pong);
	agent_core_link_down(b->core, "the network is gone");
	b->wall -= 3 * 365 * 86400 * (int64_t)SECOND;
	agent_core_poke(b->core);
	assert_true(b->store.clock_at_cut == 3 * 365 * 86400 * (int64_t)SECOND);
}

static void clock_probe_keeps_the_best_round_trip_and_ignores_nonsense(void **state)
{
	(void)state;
	struct clock_probe p = {0};
	int64_t id = clock_probe_ping(&p, 1000);
	assert_true(clock_probe_pong(&p, id, 5000, 5000, 1100)); /* round trip 100: offset 3950 */
	assert_int_equal(clock_probe_offset(&p, 1100, 1100), 3950);
	id = clock_probe_ping(&p, 2000);
	assert_false(clock_probe_pong(&p, id + 1, 1, 2, 2100));
	assert_false(clock_probe_pong(&p, id, 10, 2, 2100));
	assert_false(clock_probe_pong(&p, id, INT64_MIN, INT64_MAX, 2100));
	assert_true(clock_probe_pong(&p, id, 9000, 9000, 4000));
	assert_int_equal(clock_probe_offset(&p, 4000, 4000), 3950);
	assert_int_equal(clock_probe_round_trip(&p), 100);
	p = (struct clock_probe){0};
	id = clock_probe_ping(&p, 1000);
	assert_true(clock_probe_pong(&p, id, 1990, 1990, 2000)); /* all of the round trip was the way there */
	assert_int_equal(clock_probe_offset(&p, 2000, 2000), 0);
	assert_false(clock_probe_pong(&p, id, 9000, 9000, 4000));
}

static void backoff_stays_within_its_cap_and_doubles_to_the_maximum(void **state)
{
	(void)state;
	struct backoff b;
	backoff_init(&b, 500, 60000, 7);
	int64_t cap = 500, largest = 0;
	for (int i = 0; i < 1000; i++) {
		int64_t d = backoff_next_us(&b);
		assert_true(d >= 0 && d <= cap);
		largest = d > largest ? d : largest;
		cap = cap * 2 > 60000 ? 60000 : cap * 2;
	}
	assert_true(largest > 55000);
	backoff_reset(&b);
	assert_true(backoff_next_us(&b) <= 500);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(R21_a_mismatch_is_told_to_the_hub_and_the_link_begins_anew),
		T(R21_a_hub_that_compares_is_asked_and_the_link_stays),
		T(R17_a_welcome_that_compares_is_answered_by_questions_until_the_commit_that_closes_it),
		T(R17_where_too_much_differs_the_hub_is_told_and_the_link_begins_anew),
		T(a_fill_may_take_longer_than_the_greeting),
		T(R21_no_state_is_applied_while_an_answer_is_worked_on),
		T(answer_that_was_not_asked_for_closes_the_link),
		T(R21_a_mismatch_that_was_tried_lately_does_not_end_the_link),
		T(credit_comes_back_with_each_ping_and_at_the_end),
		T(start_connects_and_greets_with_what_the_store_says),
		T(welcome_delta_makes_live_and_probes_the_clock),
		T(refused_connection_backs_off_and_never_gives_up),
		T(connection_without_answer_times_out),
		T(hub_that_does_not_greet_times_out),
		T(lost_link_drops_frames_and_reconnects),
		T(late_link_up_after_giving_up_is_ignored),
		T(stop_ends_the_link_and_start_begins_anew),
		T(revoked_stops_with_a_sentence_until_started_again),
		T(trouble_of_the_hubs_own_machine_does_not_stop_the_device),
		T(retry_after_is_respected),
		T(other_version_in_welcome_stops),
		T(minute_of_live_resets_the_backoff),
		T(garbage_closes_the_link_and_tells_the_hub),
		T(oversized_message_closes_the_link),
		T(repeated_welcome_closes_the_link),
		T(rows_before_welcome_close_the_link),
		T(messages_of_an_agent_close_the_link),
		T(fill_outside_of_filling_closes_the_link),
		T(fill_done_while_live_closes_the_link),
		T(messages_after_the_link_is_gone_are_ignored),
		T(credit_is_given_back_only_for_what_was_dealt_with),
		T(fill_is_acknowledged_with_its_place_and_ends_live),
		T(fill_is_not_acknowledged_before_it_is_staged),
		T(silent_hub_is_dead_after_two_missed_pings),
		T(answered_pings_keep_the_link),
		T(clock_offset_is_measured_and_survives_a_clock_jump_P10),
		T(P10_an_edit_is_stamped_by_what_was_measured_before_the_clock_jumped),
		cmocka_unit_test(clock_probe_keeps_the_best_round_trip_and_ignores_nonsense),
		cmocka_unit_test(backoff_stays_within_its_cap_and_doubles_to_the_maximum),
	};

	return cmocka_run_group_tests_name("agent_core", tests, NULL, NULL);
}
