/* R21: the rows that differ are found by hashes of ranges of keys and replaced alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/replica_fixture.h"
#include "tests/unit/replica_ranges.h"

#define HOUR_US INT64_C(3600000000)

static struct {
	uint32_t questions, keys, slices;
} said;

static void raise_alarm(struct fixture *f)
{
	char detail[160];
	bool match = true;

	assert_ok(replica_checksum_recompute(f->r, &match, detail, &fixture_why));
	assert_false(match);
}

/* ---- The hub's side, from the model's rows ---- */

static void send_wanted(struct fixture *f, const struct message_compare *q)
{
	for (uint32_t i = 0; i < q->key_count; i++) {
		struct hub_row none = {.table = q->table, .key = q->keys[i].key};
		struct hub_row *row = hub_find(f, q->table, &q->keys[i].key, false);
		struct block b = hub_block(f, row == NULL ? &none : row, true);
		struct message_delta d = {.scope = SCOPE, .from = f->applied, .to = f->position, .blocks = &b, .block_count = 1};

		assert_ok(replica_store_ops.delta(f->r, &d, &fixture_why));
	}
}

/* One question and its answer. False: nothing is asked. */
static bool compare_once(struct fixture *f)
{
	struct message_compare q;
	struct message_ranges answer = {.scope = SCOPE};
	struct key_range ranges[FERRY_RANGES_MAX];
	bool any = false, more = true;

	assert_ok(replica_store_ops.compare(f->r, &q, &any, &fixture_why));
	if (!any)
		return false;
	said.questions++;
	said.keys += q.key_count;
	assert_string_equal(q.scope, SCOPE);
	assert_true(q.range_count <= FERRY_COMPARE_RANGES_MAX && q.key_count <= FERRY_COMPARE_KEYS_MAX);
	answer.table = q.table;
	for (uint32_t i = 0; i < q.range_count; i++)
		answer.range_count += cut_range(f, q.table, &q.ranges[i], ranges + answer.range_count);
	answer.ranges = ranges;
	send_wanted(f, &q);
	assert_ok(hub_commit(f, false, f->applied));
	answer.position = f->position;
	for (; more; said.slices++)
		assert_ok(replica_store_ops.ranges(f->r, &answer, &more, &fixture_why));
	return true;
}

static void compare_all(struct fixture *f)
{
	memset(&said, 0, sizeof(said));
	while (compare_once(f))
		assert_true(said.questions < 1000);
}

static void many_units(struct fixture *f, uint32_t count)
{
	for (uint32_t n = 100; n < 100 + count; n++)
		hub_write(f, n, "code", "N");
	commit(f);
}

static void assert_healed(struct fixture *f)
{
	assert_says(f, "0", "SELECT mismatches FROM ferry_status");
	assert_proof(f);
	commit(f);
}

/* ---- Tests ---- */

static void R21_nothing_is_asked_while_nothing_differs(void **state)
{
	struct fixture *f = *state;

	assert_false(compare_once(f));
}

static void R21_a_changed_a_lost_and_an_extra_row_are_replaced_alone(void **state)
{
	struct fixture *f = *state;

	many_units(f, 1500);
	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(140));
	damage(f, "DELETE FROM units WHERE id = '%s'", unit(1500));
	damage(f, "INSERT INTO units(id, status, created_at) VALUES ('%s', 'free', '2026-01-01T00:00:00.000000Z')", unit(3000));
	raise_alarm(f);
	compare_all(f);
	assert_int_equal(said.keys, 3);
	assert_true(said.questions <= 6);
	assert_says(f, "N", "SELECT code FROM units WHERE id = '%s'", unit(140));
	assert_says(f, "1", "SELECT count(*) FROM units WHERE id = '%s'", unit(1500));
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(3000));
	assert_says(f, "{\"code\":\"rot\"}->{\"code\":\"N\"}", "SELECT before || '->' || after FROM ferry_repaired WHERE what = 'differs'");
	assert_says(f, "1", "SELECT count(*) FROM ferry_repaired WHERE what = 'missing' AND before IS NULL");
	assert_says(f, "1", "SELECT count(*) FROM ferry_repaired WHERE what = 'extra' AND after IS NULL");
	assert_says(f, "3", "SELECT count(*) FROM ferry_repaired WHERE \"table\" = 'units' AND scope = '" SCOPE "'");
	assert_healed(f);
}

static void R21_a_row_without_any_value_counts(void **state)
{
	struct fixture *f = *state;
	struct uuid key = key_of(50);

	hub_write(f, 50, NULL, NULL);
	memset(hub_find(f, T_UNITS, &key, false)->cells, 0, sizeof(f->rows[0].cells));
	commit(f);
	damage(f, "DELETE FROM units WHERE id = '%s'", unit(50));
	raise_alarm(f);
	compare_all(f);
	assert_says(f, "1", "SELECT count(*) FROM units WHERE id = '%s'", unit(50));
	assert_healed(f);
}

static void R21_unsent_edits_of_a_damaged_row_stay_on_top(void **state)
{
	struct fixture *f = *state;

	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(1));
	raise_alarm(f);
	app(f, "UPDATE units SET floor = 44 WHERE id = '%s'", unit(1));
	app(f, "DELETE FROM units WHERE id = '%s'", unit(2));
	compare_all(f);
	assert_says(f, "44", "SELECT floor FROM units WHERE id = '%s'", unit(1));
	assert_true(strcmp(ask(f, "SELECT code FROM units WHERE id = '%s'", unit(1)), "rot") != 0);
	assert_says(f, "1", "SELECT count(*) FROM ferry_repaired");
	assert_says(f, "2", "SELECT waiting_rows FROM ferry_status");
	assert_healed(f);
	sync_all(f);
	assert_says(f, "44", "SELECT floor FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(2));
}

static void R21_more_differences_than_are_asked_for_at_once_take_several_rounds(void **state)
{
	struct fixture *f = *state;

	many_units(f, 1200);
	damage(f, "UPDATE units SET code = 'rot' || id WHERE rowid %% 2 = 0");
	raise_alarm(f);
	compare_all(f);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE code GLOB 'rot*'");
	assert_healed(f);
}

static void R21_what_the_hub_writes_meanwhile_is_no_difference(void **state)
{
	struct fixture *f = *state;

	many_units(f, 500);
	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(300));
	raise_alarm(f);
	memset(&said, 0, sizeof(said));
	do {
		hub_write(f, 100 + said.questions * 40, "code", "busy");
		hub_delete(f, 120 + said.questions);
		hub_write(f, 2000 + said.questions, "code", "new");
	} while (compare_once(f) && said.questions < 100);
	assert_int_equal(said.keys, 1);
	assert_says(f, "1", "SELECT count(*) FROM ferry_repaired");
	assert_healed(f);
}

static void R21_what_apps_write_between_two_slices_is_no_difference(void **state)
{
	struct fixture *f = *state;
	struct message_compare q;
	struct key_range ranges[FERRY_RANGES_MAX];
	struct message_ranges answer = {.scope = SCOPE, .table = T_UNITS, .ranges = ranges};
	bool any = false, more = true;

	many_units(f, 3500);
	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(110));
	raise_alarm(f);
	assert_ok(replica_store_ops.compare(f->r, &q, &any, &fixture_why));
	assert_true(any && q.range_count == 1);
	answer.range_count = cut_range(f, T_UNITS, &q.ranges[0], ranges);
	assert_ok(hub_commit(f, false, f->applied));
	answer.position = f->position;
	assert_ok(replica_store_ops.ranges(f->r, &answer, &more, &fixture_why));
	assert_true(more);
	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(3400));
	app(f, "DELETE FROM units WHERE id = '%s'", unit(3500));
	while (more)
		assert_ok(replica_store_ops.ranges(f->r, &answer, &more, &fixture_why));
	compare_all(f);
	assert_int_equal(said.keys, 1);
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(3400));
	assert_healed(f);
}

static void R21_sums_alone_that_were_wrong_are_made_right_without_any_row(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	damage(f, "UPDATE ferry_sum SET rows = rows + 1 WHERE tbl = %u", T_UNITS);
	fixture_open(f);
	fixture_welcome(f, WELCOME_DELTA);
	assert_ok(hub_commit(f, false, f->applied));
	assert_false(f->report.sums_match);
	compare_all(f);
	assert_int_equal(said.keys, 0);
	assert_says(f, "0", "SELECT count(*) FROM ferry_repaired");
	assert_healed(f);
}

/* What cannot be repaired (the hub says one thing and sends another) is not tried for ever. */
static void R21_a_round_that_repaired_nothing_ends_the_attempt_and_the_alarm_stays(void **state)
{
	struct fixture *f = *state;
	struct uuid key = key_of(1);
	struct hub_row *row = hub_find(f, T_UNITS, &key, false);

	row->cells[2].v = value_int(77); /* past every position: no frame brings it */
	assert_ok(hub_commit(f, false, f->applied));
	assert_false(f->report.sums_match);
	row->position = 0;
	memset(&said, 0, sizeof(said));
	for (int i = 0; i < 20; i++) {
		struct message_compare q;
		struct key_range ranges[FERRY_RANGES_MAX];
		struct message_ranges answer = {.scope = SCOPE, .table = T_UNITS, .position = f->position, .ranges = ranges};
		bool any = false, more = false;

		assert_ok(replica_store_ops.compare(f->r, &q, &any, &fixture_why));
		if (!any)
			break;
		for (uint32_t k = 0; k < q.range_count; k++)
			answer.range_count += cut_range(f, T_UNITS, &q.ranges[k], ranges + answer.range_count);
		said.questions++;
		assert_ok(replica_store_ops.ranges(f->r, &answer, &more, &fixture_why));
		assert_false(more);
	}
	assert_true(said.questions > 1 && said.questions < 10);
	assert_says(f, "1", "SELECT mismatches FROM ferry_status");
	assert_false(compare_once(f));
	f->wall += HOUR_US + 1000000;
	compare_all(f);
	assert_says(f, "77", "SELECT floor FROM units WHERE id = '%s'", unit(1));
	assert_healed(f);
}

static void R21_an_answer_of_another_state_is_not_compared(void **state)
{
	struct fixture *f = *state;
	struct message_compare q;
	struct message_ranges answer = {.scope = SCOPE, .table = T_UNITS, .position = f->position + 5};
	bool any = false, more = true;

	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(1));
	raise_alarm(f);
	assert_ok(replica_store_ops.compare(f->r, &q, &any, &fixture_why));
	assert_true(any);
	assert_ok(replica_store_ops.ranges(f->r, &answer, &more, &fixture_why));
	assert_false(more);
	assert_says(f, "1", "SELECT mismatches FROM ferry_status");
}

static void R21_a_cut_link_delays_the_repair_by_a_minute_not_an_hour(void **state)
{
	struct fixture *f = *state;
	struct message_compare q;
	bool any = false;

	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(1));
	raise_alarm(f);
	assert_ok(replica_store_ops.compare(f->r, &q, &any, &fixture_why));
	assert_true(any);
	replica_store_ops.disconnected(f->r);
	fixture_welcome(f, WELCOME_DELTA);
	assert_false(compare_once(f));
	f->wall += 61000000;
	compare_all(f);
	assert_healed(f);
}

/* Of a scope that the hub's sums do not name at all. */
static void R21_an_alarm_without_a_table_compares_the_sums_of_all_that_is_held(void **state)
{
	struct fixture *f = *state;

	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(1));
	hub_write(f, 1, "code", "B");
	damage(f, "UPDATE units SET floor = 99 WHERE id = '%s'", unit(2));
	damage(f, "UPDATE ferry_sum SET sums = zeroblob(length(sums)) WHERE tbl = %u", T_UNITS);
	replica_close(f->r);
	fixture_open(f);
	fixture_welcome(f, WELCOME_DELTA);
	assert_ok(replica_verify_soon(f->r, "the hub was restored", &fixture_why));
	compare_all(f);
	assert_says(f, "{\"floor\":99}", "SELECT before FROM ferry_repaired WHERE key = '%s' AND reason GLOB '*; the hub was restored'",
		    unit(2));
	assert_says(f, "B", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_healed(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R21_nothing_is_asked_while_nothing_differs),
		replica_test(R21_a_changed_a_lost_and_an_extra_row_are_replaced_alone),
		replica_test(R21_a_row_without_any_value_counts),
		replica_test(R21_unsent_edits_of_a_damaged_row_stay_on_top),
		replica_test(R21_more_differences_than_are_asked_for_at_once_take_several_rounds),
		replica_test(R21_what_the_hub_writes_meanwhile_is_no_difference),
		replica_test(R21_what_apps_write_between_two_slices_is_no_difference),
		replica_test(R21_sums_alone_that_were_wrong_are_made_right_without_any_row),
		replica_test(R21_a_round_that_repaired_nothing_ends_the_attempt_and_the_alarm_stays),
		replica_test(R21_an_answer_of_another_state_is_not_compared),
		replica_test(R21_a_cut_link_delays_the_repair_by_a_minute_not_an_hour),
		replica_test(R21_an_alarm_without_a_table_compares_the_sums_of_all_that_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
