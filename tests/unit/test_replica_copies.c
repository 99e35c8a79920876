/* Replicas that are older than what the hub knows of them: put back from a copy, or without the last
 * writes after a loss of power. Their hub tells them that numbers are settled which they give out anew. */
#include "agent/replica_internal.h"
#include "tests/unit/replica_fixture.h"

/* The hub has settled everything up to it. */
static void welcome_settled(struct fixture *f, int64_t settled)
{
	static const char *const scopes[] = {SCOPE};
	struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(3), .mode = WELCOME_DELTA,
				    .scopes = scopes, .scope_count = 1, .clock = f->wall, .settled = settled};

	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

static void restart(struct fixture *f)
{
	replica_close(f->r);
	fixture_open(f);
}

static void P5_an_edit_under_a_number_that_another_copy_has_used_is_kept(void **state)
{
	struct fixture *f = *state;

	replica_store_ops.disconnected(f->r);
	app(f, "UPDATE units SET floor = 33 WHERE id = '%s'", unit(1));
	cut(f);
	restart(f);
	welcome_settled(f, 1);
	assert_says(f, "0", "SELECT count(*) FROM ferry_outbox");
	assert_says(f, "1", "SELECT count(*) FROM ferry_rejected WHERE code = 204 AND \"values\" LIKE '%%33%%'");
	assert_says(f, "0", "SELECT count(*) FROM units WHERE floor = 33");
	f->last_number = 1;
	f->verdicts[1] = (struct hub_verdict){.verdict = VERDICT_ACCEPTED, .position = ++f->position};
	commit(f); /* the verdict on what the other copy pushed */
	assert_says(f, "1", "SELECT count(*) FROM ferry_rejected WHERE code = 204");
	assert_proof(f);
}

static void what_was_made_since_keeps_its_place_behind_the_numbers_of_the_other_copy(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	replica_store_ops.disconnected(f->r);
	for (int i = 0; i < 3; i++) {
		app(f, "UPDATE units SET floor = %d WHERE id = '%s'", 40 + i, unit((uint32_t)i + 1));
		cut(f);
	}
	welcome_settled(f, 2);
	assert_says(f, "2", "SELECT count(*) FROM ferry_rejected WHERE code = 204");
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 1);
	assert_int_equal(push.sets[0].number, 3);
	assert_says(f, "1", "SELECT count(*) FROM units WHERE floor = 42");
}

static void P2_a_pushed_change_set_whose_answer_was_lost_is_settled_as_ever(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	replica_store_ops.disconnected(f->r);
	app(f, "UPDATE units SET floor = 33 WHERE id = '%s'", unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push)); /* a bundle, too, is written without a welcome */
	restart(f);
	welcome_settled(f, 1);
	assert_says(f, "0", "SELECT count(*) FROM ferry_rejected");
	assert_says(f, "1", "SELECT count(*) FROM ferry_outbox"); /* until the commit that brings its effect (R3) */
}

static void P2_a_change_set_that_was_cut_in_contact_may_have_been_pushed(void **state)
{
	struct fixture *f = *state;

	welcome_settled(f, 0);
	app(f, "UPDATE units SET floor = 33 WHERE id = '%s'", unit(1));
	cut(f);
	restart(f);
	welcome_settled(f, 1);
	assert_says(f, "0", "SELECT count(*) FROM ferry_rejected");
}

static void numbers_of_a_lost_future_are_not_used_again(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	replica_store_ops.disconnected(f->r);
	welcome_settled(f, 7);
	app(f, "UPDATE units SET floor = 33 WHERE id = '%s'", unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.sets[0].number, 8);
}

/* By it the hub finds that it has settled what this file never pushed. */
static void P5_hello_says_what_was_pushed_and_not_what_was_only_numbered(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello;
	struct message_push push;

	replica_store_ops.disconnected(f->r);
	app(f, "UPDATE units SET floor = 33 WHERE id = '%s'", unit(1));
	cut(f);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.last_number, 0);
	assert_true(next_push(f, 65536, &push));
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.last_number, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(P5_an_edit_under_a_number_that_another_copy_has_used_is_kept),
		replica_test(what_was_made_since_keeps_its_place_behind_the_numbers_of_the_other_copy),
		replica_test(P2_a_pushed_change_set_whose_answer_was_lost_is_settled_as_ever),
		replica_test(P2_a_change_set_that_was_cut_in_contact_may_have_been_pushed),
		replica_test(P5_hello_says_what_was_pushed_and_not_what_was_only_numbered),
		replica_test(numbers_of_a_lost_future_are_not_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
