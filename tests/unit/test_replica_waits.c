/* What waits for what on the device: parked change-sets, and those that build
 * on a parked or refused one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/replica_fixture.h"

static bool refuse_unit_101(struct fixture *f, const struct change_set *s)
{
	struct uuid key = key_of(101);

	(void)f;
	return s->block_count > 0 && s->blocks[0].op == ROW_INSERT && uuid_equal(&s->blocks[0].keys[0], &key);
}

/* The hub keeps a change-set for its parent. */
static void hub_parks(struct fixture *f, int64_t number)
{
	f->verdicts[number] = (struct hub_verdict){VERDICT_PARKED, FERRY_FOREIGN_KEY, ++f->position};
	if (number > f->last_number)
		f->last_number = number;
}

static void insert_unit(struct fixture *f, uint32_t n)
{
	app(f, "INSERT INTO units(id, code) VALUES ('%s', 'U%u')", unit(n), n);
	cut(f);
}

static void R6_parked_stays_visible_says_why_and_holds_up_nobody(void **state)
{
	struct fixture *f = *state;
	struct store_status status;

	insert_unit(f, 101);
	insert_unit(f, 102);
	hub_parks(f, 1);
	push_all(f);
	hub_delete(f, 1); /* others' changes come as ever */
	commit(f);
	assert_says(f, "1", "SELECT number FROM ferry_outbox WHERE parked = 'no' AND blocked_by IS NULL");
	assert_says(f, "1", "SELECT count(*) FROM ferry_outbox");
	assert_says(f, "6", "SELECT count(*) FROM units");
	assert_says(f, "FOREIGN_KEY", "SELECT name FROM ferry_parked");
	/* The hub has it: nothing waits here. */
	assert_says(f, "0 0 1", "SELECT waiting_sets || ' ' || waiting_rows || ' ' || parked FROM ferry_status");
	assert_ok(replica_store_ops.status(f->r, &status, &fixture_why));
	assert_int_equal(status.outbox_sets, 0);
	assert_int_equal(status.outbox_rows, 0);
}

static void R6_parked_leaves_with_the_verdict_that_follows(void **state)
{
	struct fixture *f = *state;

	insert_unit(f, 101);
	hub_parks(f, 1);
	push_all(f);
	commit(f);
	f->verdicts[1].verdict = 0; /* its parent has come: the hub merges what it kept */
	f->cursor = (struct push_cursor){0};
	sync_all(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_outbox");
	assert_says(f, "0", "SELECT count(*) FROM ferry_parked");
	assert_says(f, "6", "SELECT count(*) FROM units");
	assert_proof(f);
}

static void R6_parked_that_is_refused_in_the_end_is_undone_and_kept(void **state)
{
	struct fixture *f = *state;

	insert_unit(f, 101);
	hub_parks(f, 1);
	push_all(f);
	commit(f);
	f->verdicts[1] = (struct hub_verdict){VERDICT_REJECTED, FERRY_FOREIGN_KEY, ++f->position};
	commit(f);
	assert_says(f, "5", "SELECT count(*) FROM units");
	assert_says(f, "0", "SELECT count(*) FROM ferry_parked");
	assert_says(f, "FOREIGN_KEY", "SELECT name FROM ferry_rejected");
	assert_proof(f);
}

static void R6_what_builds_on_a_parked_one_names_it(void **state)
{
	struct fixture *f = *state;

	insert_unit(f, 101);
	hub_parks(f, 1);
	push_all(f);
	commit(f);
	app(f, "UPDATE units SET code = 'V1' WHERE id = '%s'", unit(101));
	insert_unit(f, 102);
	assert_says(f, "2", "SELECT number FROM ferry_outbox WHERE blocked_by = 1");
	assert_says(f, "1", "SELECT count(*) FROM ferry_outbox WHERE blocked_by IS NOT NULL");
}

static void R6_what_builds_on_a_refused_one_names_it_until_it_is_refused_itself(void **state)
{
	struct fixture *f = *state;

	f->refuses = refuse_unit_101;
	insert_unit(f, 101);
	push_all(f);
	app(f, "UPDATE units SET code = 'V1' WHERE id = '%s'", unit(101));
	insert_unit(f, 102);
	commit(f);
	assert_says(f, "2", "SELECT number FROM ferry_outbox WHERE blocked_by = 1");
	assert_says(f, "1", "SELECT count(*) FROM ferry_outbox WHERE blocked_by IS NULL");
	push_all(f);
	commit(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_outbox");
	assert_says(f, "2 1", "SELECT number || ' ' || blocked_by FROM ferry_rejected WHERE name = 'DEPENDS'");
	assert_says(f, "6", "SELECT count(*) FROM units");
	assert_says(f, "0", "SELECT count(*) FROM ferry_depends");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R6_parked_stays_visible_says_why_and_holds_up_nobody),
		replica_test(R6_parked_leaves_with_the_verdict_that_follows),
		replica_test(R6_parked_that_is_refused_in_the_end_is_undone_and_kept),
		replica_test(R6_what_builds_on_a_parked_one_names_it),
		replica_test(R6_what_builds_on_a_refused_one_names_it_until_it_is_refused_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
