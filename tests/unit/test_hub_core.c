/* How a session begins and ends in the hub's core. */
#include "tests/unit/hub_core_fixture.h"

/* --- hello --- */

static void known_device_at_the_head_is_welcomed_to_deltas(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 100);
	m = next(1, MESSAGE_WELCOME);
	assert_non_null(m);
	assert_int_equal(m->welcome.mode, WELCOME_DELTA);
	assert_int_equal(m->welcome.scope_count, 2);
	assert_int_equal(m->welcome.credit_bytes, limits.session_credit_bytes);
	assert_int_equal(count_of(1, MESSAGE_SCHEMA), 0);
	assert_int_equal(w.links[1].count, 1);
}

static void device_at_the_head_learns_that_it_has_caught_up(void **state)
{
	(void)state;
	greet_at(1, 100);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 100);
	assert_int_equal(w.links[1].count, 2);
	pass(10000 * MS); /* once */
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 1);
}

static void device_behind_catches_up_with_one_commit(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 90);
	m = next(1, MESSAGE_DELTA);
	assert_non_null(m);
	assert_int_equal(m->delta.from, 90);
	assert_string_equal(m->delta.scope, "tenant");
	m = next(1, MESSAGE_COMMIT);
	assert_non_null(m);
	assert_int_equal(m->commit.position, 100);
	assert_int_equal(m->commit.mark, 1000);
	assert_false(m->commit.fill_done);
	assert_int_equal(count_of(1, MESSAGE_DELTA), 1); /* not of scope user:9 */
}

static void device_too_far_behind_for_a_feed_is_filled_at_its_next_hello(void **state)
{
	(void)state;
	w.feed_error = FERRY_PRUNED;
	connect_at(1, 90);
	assert_ended(1, FERRY_PRUNED);
	greet_at(1, 90);
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_FILL);
	hub_core_closed(w.core, w.links[1].session);
	greet_at(1, 100);
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
}

static void other_schema_means_schema_and_a_fill(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	m.hello.schema_hash = 41;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.code, FERRY_SCHEMA);
	assert_non_null(next(1, MESSAGE_SCHEMA));
}

static void refusals_of_hello_end_the_session_with_their_code(void **state)
{
	struct message m;

	(void)state;
	w.devices[1].revoked = true;
	connect_at(1, 100);
	assert_ended(1, FERRY_REVOKED);
	w.devices[2].incarnation = id(77);
	connect_at(2, 100);
	assert_ended(2, FERRY_CLONE);
	w.devices[3].shut = FERRY_TENANT_SUSPENDED;
	connect_at(3, 100);
	assert_ended(3, FERRY_TENANT_SUSPENDED);
	m = hello_message(4, 100);
	m.hello.version_min = m.hello.version_max = 9;
	link_up(4);
	deliver(4, &m);
	assert_ended(4, FERRY_VERSION);
}

static void each_status_of_a_tenant_turns_its_devices_away_with_its_own_code(void **state)
{
	static const int codes[] = {FERRY_TENANT_SUSPENDED, FERRY_TENANT_INACTIVE, FERRY_TENANT_PENDING, FERRY_TENANT_MIGRATING,
				    FERRY_TENANT_DELETED, FERRY_QUOTA_CALLS};

	(void)state;
	for (int i = 0; i < 6; i++) {
		const struct message_error *e;

		w.devices[i].shut = codes[i];
		connect_at(i, 100);
		assert_ended(i, codes[i]);
		e = &w.links[i].messages[w.links[i].count - 1].error;
		assert_int_equal(e->retry, codes[i] != FERRY_TENANT_DELETED);
		if (e->retry)
			assert_int_equal(e->retry_after_ms, hub_limits_default.shut_retry_us / 1000);
	}
}

static void sessions_of_a_tenant_that_is_suspended_end_at_once_and_no_others(void **state)
{
	struct uuid tenant = id(200), other = id(201);

	(void)state;
	w.devices[2].tenant = other;
	connect_at(1, 100);
	connect_at(2, 100);
	hub_core_tenant(w.core, &tenant, FERRY_OK, FERRY_OK);
	assert_true(w.links[1].open);
	hub_core_tenant(w.core, &tenant, FERRY_TENANT_SUSPENDED, FERRY_OK);
	assert_ended(1, FERRY_TENANT_SUSPENDED);
	assert_true(w.links[2].open);
}

static void device_of_an_archived_tenant_gets_no_credit_and_comes_again_when_that_ends(void **state)
{
	struct uuid tenant = id(200);
	const struct message *m;

	(void)state;
	w.devices[1].held = FERRY_TENANT_ARCHIVED;
	connect_at(1, 100);
	m = next(1, MESSAGE_WELCOME);
	assert_int_equal(m->welcome.held, FERRY_TENANT_ARCHIVED);
	assert_int_equal(m->welcome.credit_bytes, 0);
	hub_core_tenant(w.core, &tenant, FERRY_OK, FERRY_TENANT_ARCHIVED);
	assert_true(w.links[1].open);
	hub_core_tenant(w.core, &tenant, FERRY_OK, FERRY_OK);
	assert_ended(1, FERRY_LINK_CLOSED);
	assert_int_equal(w.links[1].messages[w.links[1].count - 1].error.retry_after_ms, 0);
}

static void push_without_credit_of_an_archived_tenant_ends_the_session(void **state)
{
	struct change_set set = set_of(1);
	struct message m = {.type = MESSAGE_PUSH, .push = {.sets = &set, .set_count = 1}};

	(void)state;
	w.devices[1].held = FERRY_TENANT_ARCHIVED;
	connect_at(1, 100);
	deliver(1, &m);
	assert_ended(1, FERRY_CREDIT);
}

static void bookmark_from_another_history_is_filled_anew(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	w.devices[1].bookmark_code = FERRY_OTHER_HISTORY;
	w.devices[1].common = 70;
	w.devices[1].common_mark = -7;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.code, FERRY_OTHER_HISTORY);
	assert_int_equal(w.links[1].messages[0].welcome.common, 70);
	assert_int_equal(w.links[1].messages[0].welcome.common_mark, -7);
	connect_at(2, 500); /* ahead of the hub: it was restored */
	assert_int_equal(next(2, MESSAGE_WELCOME)->welcome.code, FERRY_OTHER_HISTORY);
	w.devices[3].bookmark_code = FERRY_PRUNED;
	connect_at(3, 5);
	assert_int_equal(next(3, MESSAGE_WELCOME)->welcome.code, FERRY_PRUNED);
	assert_int_equal(w.links[3].messages[0].welcome.mode, WELCOME_FILL);
}

/* A hub that went back in time has another epoch; what is older than the
 * backup is as good as ever. */
static void bookmark_with_a_known_mark_is_good_whatever_its_epoch(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	m.hello.epoch = id(98);
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
}

static void newer_session_of_a_device_closes_the_older(void **state)
{
	struct link *old = &w.links[50];
	uint8_t fingerprint[32] = {1};
	struct message m = hello_message(1, 100);

	(void)state;
	/* The same device over two links: 50 first, then 1. */
	*old = (struct link){.open = true};
	old->session = hub_core_open(w.core, old, fingerprint);
	deliver(50, &m);
	run();
	connect_at(1, 100);
	assert_ended(50, FERRY_LINK_CLOSED);
	assert_true(w.links[1].open);
}

static void silent_link_is_closed_in_time(void **state)
{
	(void)state;
	link_up(1);
	pass(limits.hello_timeout_us + MS);
	assert_ended(1, FERRY_LINK_TIMEOUT);
}

static void P9_garbage_ends_only_its_session(void **state)
{
	static const uint8_t garbage[] = {0, 0xff, 0x13, 0x37};
	static const uint8_t unknown[] = {0, 0xa1, 0x00, 0x18, 0x63};
	struct message m = {.type = MESSAGE_FILL_ACK, .fill_ack = {.table = 7}};

	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	connect_at(3, 100);
	link_up(4);
	hub_core_message(w.core, w.links[1].session, garbage, sizeof(garbage));
	assert_ended(1, FERRY_MALFORMED);
	hub_core_message(w.core, w.links[2].session, unknown, sizeof(unknown));
	assert_ended(2, FERRY_UNKNOWN_MESSAGE);
	deliver(4, &m);
	assert_ended(4, FERRY_UNEXPECTED_MESSAGE);
	assert_true(w.links[3].open);
}

static void push_before_the_welcome_is_refused(void **state)
{
	(void)state;
	link_up(1);
	push(1, 1);
	assert_ended(1, FERRY_UNEXPECTED_MESSAGE);
}

static void R21_device_whose_checksums_differ_is_filled_when_it_asks(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	m.hello.refill = true;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_FILL);
	assert_int_equal(w.links[1].messages[0].welcome.code, FERRY_MISMATCH);
}

static void ask_about(int device, const char *scope, uint32_t ranges, uint32_t keys)
{
	static const struct key_range range;
	static const struct wanted_key key = {.key = {.b = {1}}};
	struct message m = {.type = MESSAGE_COMPARE,
			    .compare = {.scope = scope, .table = 7, .ranges = &range, .range_count = ranges, .keys = &key,
					.key_count = keys}};

	deliver(device, &m);
}

static void R21_hashes_stand_right_behind_the_commit_of_their_state(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 90);
	assert_true(next(1, MESSAGE_WELCOME)->welcome.compares);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 100);
	ask_about(1, "tenant", 1, 0);
	w.position = 105; /* others write meanwhile */
	run();
	m = next(1, MESSAGE_RANGES);
	assert_non_null(m);
	assert_int_equal(m->ranges.position, 105);
	assert_int_equal(m->ranges.table, 7);
	assert_int_equal(m->ranges.range_count, 1);
	assert_int_equal(m->ranges.ranges[0].hash, 7);
	assert_int_equal((m - 1)->type, MESSAGE_COMMIT);
	assert_int_equal((m - 1)->commit.position, 105);
}

static void R21_rows_that_were_asked_for_come_even_where_nothing_changed(void **state)
{
	(void)state;
	connect_at(1, 100);
	ask_about(1, "tenant", 0, 1);
	run();
	assert_non_null(next(1, MESSAGE_DELTA));
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 100);
	assert_int_equal(next(1, MESSAGE_RANGES)->ranges.range_count, 0);
	ask_about(1, "tenant", 0, 1); /* the next one may follow */
	run();
	assert_non_null(next(1, MESSAGE_RANGES));
}

static void R21_answer_waits_for_the_devices_credit(void **state)
{
	struct message m = hello_message(1, 100), credit = {.type = MESSAGE_CREDIT};
	uint64_t used;

	(void)state;
	m.hello.credit_bytes = 120; /* for commits, not for the answer, too */
	link_up(1);
	deliver(1, &m);
	run();
	used = w.links[1].bytes;
	ask_about(1, "tenant", 1, 0);
	for (int i = 0; i < 50 && next(1, MESSAGE_RANGES) == NULL; i++) {
		run();
		credit.credit.bytes = 20;
		if (w.links[1].bytes == used)
			break;
		deliver(1, &credit);
	}
	run();
	assert_int_equal(count_of(1, MESSAGE_RANGES), 1);
	assert_true(w.links[1].open);
}

static void second_question_before_the_answer_ends_the_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	ask_about(1, "tenant", 1, 0);
	ask_about(1, "tenant", 1, 0);
	assert_ended(1, FERRY_UNEXPECTED_MESSAGE);
	run();
}

static void P7_question_about_a_scope_of_others_ends_the_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	ask_about(1, "user:9", 1, 1);
	assert_ended(1, FERRY_OUT_OF_SCOPE);
	assert_int_equal(w.call_count, 0);
}

static void ping_tells_the_store_now_and_then_where_the_device_stands(void **state)
{
	struct message m = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 123}};

	(void)state;
	connect_at(1, 100);
	assert_int_equal(w.applied_calls, 0);
	deliver(1, &m);
	assert_int_equal(w.applied_calls, 1);
	assert_int_equal(w.applied, 100);
	deliver(1, &m);
	assert_int_equal(w.applied_calls, 1); /* not with every one */
}

static void ping_is_answered_with_the_clock(void **state)
{
	struct message m = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 123}};

	(void)state;
	connect_at(1, 100);
	deliver(1, &m);
	assert_int_equal(w.links[1].messages[1].type, MESSAGE_PONG);
	assert_int_equal(w.links[1].messages[1].ping.sent, 123);
	assert_int_equal(w.links[1].messages[1].ping.received, fx_wall(NULL));
}

/* --- ends --- */

static void revoked_device_is_cut_off_at_once(void **state)
{
	struct uuid device = id(1);

	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	hub_core_revoke(w.core, &device);
	assert_ended(1, FERRY_REVOKED);
	assert_true(w.links[2].open);
}

static void drain_finishes_what_is_under_way(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	push(1, 2);
	hub_core_drain(w.core);
	assert_ended(2, FERRY_SHUTTING_DOWN);
	assert_true(w.links[1].open);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_ended(1, FERRY_SHUTTING_DOWN);
	assert_int_equal(w.verdict_count, 1); /* 2 stays in the outbox */
}

static void new_schema_ends_the_sessions_so_that_they_fetch_it(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.schema_hash = 43;
	pass(6000 * MS);
	assert_ended(1, FERRY_SCHEMA);
}

static void session_may_end_at_any_moment(void **state)
{
	(void)state;
	for (int cut = 0; cut < 12; cut++) {
		struct message m = hello_message(1, cut % 2 ? 90 : -1);
		bool pushed = false;

		link_up(1);
		deliver(1, &m);
		for (int step = 0; step < cut && w.call_count > 0; step++) {
			answer_first();
			if (w.links[1].open && count_of(1, MESSAGE_WELCOME) == 1 && !pushed) {
				pushed = true;
				push(1, 1 + cut);
				push_part(1, 100 + cut, 0, true);
				push_part(1, 100 + cut, 1, false);
			}
		}
		hub_core_closed(w.core, w.links[1].session);
		if (cut % 3 == 0)
			run();
	}
	run();
	pass(1000 * MS);
	{
		struct hub_core_stats stats;

		hub_core_stats(w.core, &stats);
		assert_int_equal(stats.sessions, 0);
		assert_int_equal(stats.tenants, 0);
		assert_int_equal(stats.merge_queue, 0);
	}
}

static void core_is_freed_with_everything_under_way(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, -1);
	push(1, 1);
	push(1, 2);
	push_part(1, 3, 0, true);
	push_part(1, 3, 1, false);
	assert_true(w.call_count > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(known_device_at_the_head_is_welcomed_to_deltas),
		T(device_at_the_head_learns_that_it_has_caught_up),
		T(device_behind_catches_up_with_one_commit),
		T(device_too_far_behind_for_a_feed_is_filled_at_its_next_hello),
		T(other_schema_means_schema_and_a_fill),
		T(refusals_of_hello_end_the_session_with_their_code),
		T(each_status_of_a_tenant_turns_its_devices_away_with_its_own_code),
		T(sessions_of_a_tenant_that_is_suspended_end_at_once_and_no_others),
		T(device_of_an_archived_tenant_gets_no_credit_and_comes_again_when_that_ends),
		T(push_without_credit_of_an_archived_tenant_ends_the_session),
		T(bookmark_from_another_history_is_filled_anew),
		T(bookmark_with_a_known_mark_is_good_whatever_its_epoch),
		T(newer_session_of_a_device_closes_the_older),
		T(silent_link_is_closed_in_time),
		T(P9_garbage_ends_only_its_session),
		T(push_before_the_welcome_is_refused),
		T(R21_device_whose_checksums_differ_is_filled_when_it_asks),
		T(R21_hashes_stand_right_behind_the_commit_of_their_state),
		T(R21_rows_that_were_asked_for_come_even_where_nothing_changed),
		T(R21_answer_waits_for_the_devices_credit),
		T(second_question_before_the_answer_ends_the_session),
		T(P7_question_about_a_scope_of_others_ends_the_session),
		T(ping_tells_the_store_now_and_then_where_the_device_stands),
		T(ping_is_answered_with_the_clock),
		T(revoked_device_is_cut_off_at_once),
		T(drain_finishes_what_is_under_way),
		T(new_schema_ends_the_sessions_so_that_they_fetch_it),
		T(session_may_end_at_any_moment),
		T(core_is_freed_with_everything_under_way),
	};

	return cmocka_run_group_tests_name("hub_core", tests, NULL, NULL);
}
