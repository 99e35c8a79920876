/* Push, merge and ack in the hub's core. */
#include "tests/unit/hub_core_fixture.h"

/* --- push, merge, ack --- */

static void change_set_is_acked_and_then_committed_to_all(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	assert_int_equal(count_of(1, MESSAGE_ACK), 0); /* not before the store has it */
	run();
	m = next(1, MESSAGE_ACK);
	assert_non_null(m);
	assert_int_equal(m->ack.settled[0].number, 1);
	m = next(1, MESSAGE_COMMIT);
	assert_int_equal(m->commit.position, 101);
	assert_int_equal(m->commit.settled_count, 1);
	m = next(2, MESSAGE_COMMIT);
	assert_int_equal(m->commit.position, 101);
	assert_int_equal(m->commit.settled_count, 0);
	assert_int_equal(count_of(2, MESSAGE_DELTA), 1);
}

static void change_sets_that_come_during_a_merge_are_one_batch(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	push(1, 2);
	push(2, 1);
	push(1, 3);
	assert_int_equal(w.merges, 1);
	assert_int_equal(w.batch_sizes[0], 1);
	run();
	assert_int_equal(w.merges, 2);
	assert_int_equal(w.batch_sizes[1], 3);
}

static void R6_dependant_waits_and_others_overtake_it(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.locked = 1;
	push(1, 1);
	run();
	push_after(1, 2, 1);
	push(1, 3);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(next(1, MESSAGE_ACK)->ack.settled[0].number, 3);
	w.locked = 0;
	pass(1000 * MS);
	{
		const struct message *m = next(1, MESSAGE_ACK);

		assert_int_equal(m->ack.settled_count, 2); /* in one batch, in order */
		assert_int_equal(m->ack.settled[0].number, 1);
		assert_int_equal(m->ack.settled[1].number, 2);
	}
}

static void R6_dependant_of_an_earlier_settled_number_goes_at_once(void **state)
{
	static const int64_t above[] = {7};

	(void)state;
	w.devices[1].settled = 5;
	w.devices[1].settled_above = above;
	w.devices[1].settled_above_count = 1;
	connect_at(1, 100);
	push_after(1, 8, 7);
	push_after(1, 9, 3);
	run();
	push_after(1, 10, 6); /* nobody has seen 6 */
	run();
	assert_int_equal(w.verdict_count, 2);
	push(1, 6);
	run();
	assert_int_equal(w.verdict_count, 4);
}

/* What was settled when it was made is not among what it names. */
static void R18_what_is_new_waits_for_the_replays_of_its_device(void **state)
{
	struct change_set replay = set_of(1);
	const struct message *m;

	(void)state;
	w.devices[1].epoch_at = fx_wall(NULL);
	connect_at(1, 100);
	connect_at(2, 100);
	replay.old_position = 90;
	push_set(1, &replay);
	push(1, 2);
	push(2, 1);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 0); /* replays of many devices are gathered */
	assert_int_equal(count_of(2, MESSAGE_ACK), 1);
	pass(hub_limits_default.heal_window_us);
	m = next(1, MESSAGE_ACK);
	assert_non_null(m);
	assert_int_equal(m->ack.settled_count, 2);
	assert_int_equal(m->ack.settled[0].number, 1);
	assert_int_equal(m->ack.settled[1].number, 2);
}

static void what_is_for_the_next_transaction_comes_at_once_and_in_its_order(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.apart = 3;
	for (int64_t number = 1; number <= 4; number++)
		push(1, number);
	run(); /* no time passes */
	assert_int_equal(w.apart, 0);
	assert_int_equal(w.verdict_count, 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(w.verdicts[i].settled.number, i + 1);
}

static void R12_locked_rows_hold_nobody_up_and_end_the_session_at_last(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.locked = 4;
	push(1, 4);
	run();
	push(2, 1);
	run();
	assert_int_equal(count_of(2, MESSAGE_ACK), 1);
	for (int i = 0; i < 60 && w.links[1].open; i++) {
		struct message m = {.type = MESSAGE_PING, .ping = {.id = i}};

		w.merges = 0; /* the log of batches is short */
		pass(10000 * MS);
		for (int d = 1; d <= 2; d++) {
			if (w.links[d].open)
				deliver(d, &m);
		}
	}
	assert_ended(1, FERRY_ROW_LOCKED);
	assert_true(w.links[2].open);
}

static void R11_device_that_failed_merges_alone_for_a_while(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.refused = 5;
	push(1, 5);
	run();
	assert_int_equal(next(1, MESSAGE_ACK)->ack.settled[0].code, FERRY_UNIQUE);
	push(2, 1); /* under way; the rest gathers */
	push(1, 6);
	push(2, 2);
	push(1, 7);
	push(2, 3);
	run();
	assert_int_equal(w.merges, 4);
	assert_int_equal(w.batch_sizes[2], 2);
	assert_int_equal(w.batch_numbers[2][0], 6);
	assert_int_equal(w.batch_sizes[3], 2);
	assert_int_equal(w.batch_numbers[3][0], 2);
	pass(11000 * MS);
	push(2, 4);
	push(1, 8);
	push(2, 5);
	run();
	assert_int_equal(w.batch_sizes[5], 2); /* together again */
}

static void P2_number_settled_before_is_acked_again_with_its_verdict(void **state)
{
	const struct message *m;

	(void)state;
	w.verdicts[w.verdict_count++] =
		(struct verdict_row){id(1), {.number = 1, .verdict = VERDICT_REJECTED, .position = 95, .code = FERRY_UNIQUE}};
	connect_at(1, 100);
	push(1, 1);
	run();
	m = next(1, MESSAGE_ACK);
	assert_int_equal(m->ack.settled[0].verdict, VERDICT_REJECTED);
	/* It lies before the bookmark, so no state would bring it (R3). */
	m = next(1, MESSAGE_COMMIT);
	assert_non_null(m);
	assert_int_equal(m->commit.settled_count, 1);
	assert_int_equal(m->commit.settled[0].code, FERRY_UNIQUE);
}

/* A replica has a new schema in force from its next commit on: that has to be of a state with this schema. */
static void P3_verdict_of_before_waits_for_the_state_that_the_schema_is_of(void **state)
{
	struct message m = hello_message(1, 100);
	const struct message *commit;

	(void)state;
	w.verdicts[w.verdict_count++] = (struct verdict_row){id(1), {.number = 1, .verdict = VERDICT_ACCEPTED, .position = 95}};
	connect_at(2, 100);
	w.position = 110; /* others wrote, and the schema changed */
	m.hello.schema_hash = w.schema_hash - 1;
	m.hello.step = 1;
	link_up(1);
	deliver(1, &m);
	answer_all_but(CALL_FEED);
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
	assert_non_null(next(1, MESSAGE_SCHEMA));
	push(1, 1);
	answer_all_but(CALL_FEED);
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 0);
	run();
	commit = next(1, MESSAGE_COMMIT);
	assert_int_equal(commit->commit.position, w.position);
	assert_int_equal(commit->commit.settled_count, 1);
}

static void P2_same_number_from_a_new_session_waits_for_the_merge_under_way(void **state)
{
	struct link *l = &w.links[1];

	(void)state;
	connect_at(1, 100);
	push(1, 1);
	assert_int_equal(calls_of(CALL_MERGE), 1);
	hub_core_closed(w.core, l->session);
	link_up(1);
	{
		struct message m = hello_message(1, 100);

		deliver(1, &m);
	}
	answer_all_but(CALL_MERGE);
	take_greeting(1, 100);
	push(1, 1);
	assert_int_equal(w.merges, 1);
	run();
	assert_int_equal(w.verdict_count, 1);
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.settled_count, 1);
}

static void P5_session_ends_when_another_copy_has_begun_a_life_at_another_hub(void **state)
{
	(void)state;
	w.life = 3;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	push(1, 2);
	push(1, 3);
	w.life = 4;
	run();
	assert_int_equal(w.verdict_count, 0);
	assert_int_equal(count_of(1, MESSAGE_ACK), 0);
	assert_false(w.links[1].open);
	assert_true(w.links[2].open);
	connect_at(1, 100);
	push(1, 1);
	run();
	assert_int_equal(w.verdict_count, 1);
}

/* The other copy's verdict is of what that one wrote, whatever this one has under the number. */
static void P5_session_ends_instead_of_telling_the_verdict_of_another_copy(void **state)
{
	(void)state;
	w.life = 3;
	connect_at(1, 100);
	w.life = 4; /* begun at another hub */
	w.verdicts[w.verdict_count++] =
		(struct verdict_row){w.devices[1].id, {.number = 1, .verdict = VERDICT_ACCEPTED, .position = ++w.position}};
	pass(10000 * MS);
	for (const struct message *m = NULL; (m = next(1, MESSAGE_COMMIT)) != NULL;)
		assert_int_equal(m->commit.settled_count, 0);
	assert_false(w.links[1].open);
}

static void database_failure_is_retried_and_acks_nothing_before(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.merge_error = FERRY_DATABASE;
	w.merge_failures = 2;
	push(1, 1);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 0);
	pass(1000 * MS);
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(w.merges, 3);
}

static void database_that_stays_away_ends_the_sessions_with_a_hint(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.merge_error = FERRY_DATABASE;
	w.merge_failures = 1000;
	push(1, 1);
	run();
	pass(30000 * MS);
	assert_ended(1, FERRY_DATABASE);
	assert_true(w.links[1].messages[w.links[1].count - 1].error.retry);
	assert_int_equal(count_of(1, MESSAGE_ACK), 0);
	assert_true(w.links[2].open);
}

static void P6_change_set_that_breaks_its_batch_ends_only_its_own_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.poison = 66;
	push(2, 1);
	push(1, 66);
	push(2, 2);
	run();
	pass(100 * MS);
	assert_ended(1, FERRY_INTERNAL);
	assert_int_equal(w.verdict_count, 2);
	assert_true(w.links[2].open);
}

static void R7_parts_are_staged_and_merged_when_complete(void **state)
{
	(void)state;
	connect_at(1, 100);
	push_part(1, 1, 0, true);
	push_part(1, 1, 1, true);
	push_after(1, 3, 1); /* waits for the parts */
	run();
	assert_int_equal(w.merges, 0);
	push_part(1, 1, 2, false);
	push_part(1, 2, 0, true); /* the next one in parts follows at once */
	push_part(1, 2, 1, false);
	run();
	assert_int_equal(w.stages, 5);
	assert_int_equal(w.merges, 3);
	assert_int_equal(w.verdict_count, 3);
}

static void R7_part_out_of_turn_ends_the_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	push_part(1, 1, 0, true);
	push_part(1, 1, 2, false);
	assert_ended(1, FERRY_UNEXPECTED_MESSAGE);
	run();
}

static void credit_is_given_back_as_work_is_settled(void **state)
{
	struct hub_limits small = limits;
	int64_t n = 1;

	(void)state;
	small.session_credit_bytes = 4096;
	new_limits(&small);
	connect_at(1, 100);
	for (; n < 200; n++) {
		push(1, n);
		run();
	}
	assert_true(w.links[1].open);
	assert_true(count_of(1, MESSAGE_CREDIT) > 2);
	assert_int_equal(count_of(1, MESSAGE_ACK), 199);
	for (; w.links[1].open; n++)
		push(1, n); /* and nothing is settled any more */
	assert_ended(1, FERRY_CREDIT);
	run();
}

/* A megabyte of one letter is a few bytes on the wire: credit alone would let
 * a device fill the hub's memory. */
static void P9_what_unpacks_to_much_waits_packed_and_keeps_its_order(void **state)
{
	size_t n = 700000;
	char *much = malloc(n);

	(void)state;
	memset(much, 'x', n);
	connect_at(1, 100);
	for (int64_t number = 1; number <= 20; number++) {
		struct change_set set = set_of(number);
		struct block block = set.blocks[0];
		struct value cell = value_text(much, n);

		block.cells = &cell;
		set.blocks = &block;
		push_set(1, &set);
	}
	assert_true(w.links[1].open);
	run();
	assert_int_equal(w.verdict_count, 20);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(w.verdicts[i].settled.number, i + 1);
	/* The first went at once, the next were what fitted; the rest came after. */
	assert_in_range(w.merges, 3, 8);
	free(much);
}

static void foreign_author_is_refused(void **state)
{
	struct change_set set = set_of(1);

	(void)state;
	connect_at(1, 100);
	set.author = id(2);
	push_set(1, &set);
	assert_ended(1, FERRY_BAD_MESSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(change_set_is_acked_and_then_committed_to_all),
		T(change_sets_that_come_during_a_merge_are_one_batch),
		T(R6_dependant_waits_and_others_overtake_it),
		T(R6_dependant_of_an_earlier_settled_number_goes_at_once),
		T(R18_what_is_new_waits_for_the_replays_of_its_device),
		T(what_is_for_the_next_transaction_comes_at_once_and_in_its_order),
		T(R12_locked_rows_hold_nobody_up_and_end_the_session_at_last),
		T(R11_device_that_failed_merges_alone_for_a_while),
		T(P2_number_settled_before_is_acked_again_with_its_verdict),
		T(P3_verdict_of_before_waits_for_the_state_that_the_schema_is_of),
		T(P2_same_number_from_a_new_session_waits_for_the_merge_under_way),
		T(P5_session_ends_when_another_copy_has_begun_a_life_at_another_hub),
		T(P5_session_ends_instead_of_telling_the_verdict_of_another_copy),
		T(database_failure_is_retried_and_acks_nothing_before),
		T(database_that_stays_away_ends_the_sessions_with_a_hint),
		T(P6_change_set_that_breaks_its_batch_ends_only_its_own_session),
		T(R7_parts_are_staged_and_merged_when_complete),
		T(R7_part_out_of_turn_ends_the_session),
		T(credit_is_given_back_as_work_is_settled),
		T(P9_what_unpacks_to_much_waits_packed_and_keeps_its_order),
		T(foreign_author_is_refused),
	};

	return cmocka_run_group_tests_name("hub_push", tests, NULL, NULL);
}
