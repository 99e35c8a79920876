/* R17: the hub went back in time, and the replica finds by hashes of ranges
 * which of its rows differ: they alone are fetched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/replica_fixture.h"
#include "tests/unit/replica_ranges.h"

#define ROWS 1500
#define FIRST 100 /* number of the first of them */

static struct {
	uint32_t questions, keys, ranges;
	int64_t begun; /* position of the first answer: the closing deltas reach back to it */
} said;

static bool tells_no_sums; /* they are more than a message holds */
static struct hub_row backup[ROWS_MAX];
static uint32_t backup_count;
static int64_t backup_position;

static void take_backup(struct fixture *f)
{
	memcpy(backup, f->rows, sizeof(backup));
	backup_count = f->row_count;
	backup_position = f->position;
}

static void point_to_own_bytes(struct fixture *f)
{
	for (uint32_t i = 0; i < f->row_count; i++) {
		for (int c = 0; c < UNIT_COLUMNS; c++) {
			struct hub_cell *cell = &f->rows[i].cells[c];

			if (cell->v.kind == VALUE_TEXT || cell->v.kind == VALUE_BYTES)
				cell->v.p = cell->bytes;
		}
	}
}

/* Positions of the new history begin above those of the lost one. */
static void restore(struct fixture *f)
{
	memcpy(f->rows, backup, sizeof(backup));
	f->row_count = backup_count;
	point_to_own_bytes(f);
	f->position += 1000;
	memset(&said, 0, sizeof(said));
}

static void meet(struct fixture *f, int code, bool compared)
{
	static const char *const scopes[] = {SCOPE};
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(4), .mode = WELCOME_FILL,
					  .code = code, .scopes = scopes, .scope_count = 1, .clock = f->wall, .common = backup_position,
					  .common_mark = backup_position * 7, .compared = compared};

	f->cursor = (struct push_cursor){0};
	f->applied = backup_position;
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

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

/* One question and its answer. False: all is compared. */
static bool compare_once(struct fixture *f, enum ferry_error *out)
{
	struct message_compare q;
	struct message_ranges answer = {.scope = SCOPE, .position = f->position};
	struct key_range ranges[FERRY_RANGES_MAX];
	bool any = false, more = true;

	arena_reset(&f->arena);
	assert_ok(replica_store_ops.compare(f->r, &q, &any, &fixture_why));
	assert_true(any);
	if (q.range_count == 0 && q.key_count == 0 && !q.sums)
		return false;
	if (said.questions++ == 0)
		said.begun = f->position;
	said.keys += q.key_count;
	assert_true(q.range_count <= FERRY_COMPARE_RANGES_MAX && q.key_count <= FERRY_COMPARE_KEYS_MAX);
	answer.table = q.table;
	for (uint32_t i = 0; i < q.range_count; i++)
		answer.range_count += cut_range(f, q.table, &q.ranges[i], ranges + answer.range_count);
	answer.ranges = ranges;
	if (q.sums && !tells_no_sums) {
		answer.sums = hub_sums(f);
		answer.sum_count = 2;
		answer.all_sums = true;
	}
	said.ranges += answer.range_count;
	send_wanted(f, &q);
	while (more && *out == FERRY_OK)
		*out = replica_store_ops.ranges(f->r, &answer, &more, &fixture_why);
	return *out == FERRY_OK;
}

static void compare_all(struct fixture *f)
{
	enum ferry_error e = FERRY_OK;

	while (compare_once(f, &e))
		assert_true(said.questions < 2000);
	assert_ok(e);
}

static void close_it(struct fixture *f)
{
	assert_ok(hub_commit(f, true, said.begun));
	if (!f->report.sums_match)
		fail_msg("sums differ: %s", f->report.mismatch);
	assert_proof(f);
}

static void many_units(struct fixture *f)
{
	for (uint32_t n = FIRST; n < FIRST + ROWS; n++)
		hub_write(f, n, "code", "N");
	commit(f);
	take_backup(f);
}

/* A history that the hub is about to lose. */
static void lose_some(struct fixture *f)
{
	hub_write(f, 140, "code", "dead");
	hub_delete(f, 200);
	for (uint32_t n = 3000; n < 3040; n++)
		hub_write(f, n, "code", "newest");
	commit(f);
}

static void assert_lost_is_told(struct fixture *f)
{
	assert_says(f, "dead", "SELECT value FROM ferry_lost WHERE key = '%s' AND what = 'value' AND \"column\" = 'code'", unit(140));
	assert_says(f, "newest", "SELECT value FROM ferry_lost WHERE key = '%s' AND what = 'row' AND \"column\" = 'code'", unit(3003));
	assert_says(f, "deletion", "SELECT what FROM ferry_lost WHERE key = '%s'", unit(200));
	assert_says(f, "42", "SELECT lost FROM ferry_status");
}

/* ---- Tests ---- */

static void R17_rows_that_differ_are_fetched_and_all_others_stay(void **state)
{
	struct fixture *f = *state;
	char before[64];

	many_units(f);
	lose_some(f);
	(void)snprintf(before, sizeof(before), "%s",
		       ask(f, "SELECT group_concat(rowid) FROM units WHERE id IN ('%s', '%s')", unit(141), unit(1500)));
	restore(f);
	hub_write(f, 300, "code", "of the new history");
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	assert_says(f, "dead", "SELECT code FROM units WHERE id = '%s'", unit(140)); /* until the state is whole */
	assert_int_equal(said.keys, 3); /* rows that the hub has not are known by the ranges */
	assert_true(said.questions <= 10);
	close_it(f);
	assert_int_equal(f->report.restored, 43);
	assert_says(f, "N", "SELECT code FROM units WHERE id = '%s'", unit(140));
	assert_says(f, "1", "SELECT count(*) FROM units WHERE id = '%s'", unit(200));
	assert_says(f, "0", "SELECT count(*) FROM units WHERE code = 'newest'");
	assert_says(f, "of the new history", "SELECT code FROM units WHERE id = '%s'", unit(300));
	assert_says(f, before, "SELECT group_concat(rowid) FROM units WHERE id IN ('%s', '%s')", unit(141), unit(1500));
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE name = 'ferry_restored'");
	hub_write(f, 140, "code", "goes on");
	commit(f);
}

static void R17_values_that_differ_are_kept_as_lost_until_they_are_back(void **state)
{
	struct fixture *f = *state;

	many_units(f);
	lose_some(f);
	restore(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	close_it(f);
	assert_lost_is_told(f);
	hub_write(f, 140, "code", "dead");
	commit(f);
	assert_says(f, "41", "SELECT lost FROM ferry_status");
}

static void R17_what_comes_back_before_the_close_is_not_lost(void **state)
{
	struct fixture *f = *state;
	enum ferry_error e = FERRY_OK;

	many_units(f);
	lose_some(f);
	restore(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	for (uint32_t n = 400; compare_once(f, &e); n++) { /* others write meanwhile */
		hub_write(f, n, "code", "busy");
		hub_write(f, 4000 + n, "code", "new");
		hub_delete(f, 900 + n);
	}
	assert_ok(e);
	hub_write(f, 140, "code", "dead");
	hub_write(f, 3003, "code", "newest"); /* a new life of the row, with the times and the serial number of now */
	close_it(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_lost WHERE key = '%s'", unit(3003)); /* these alone tell nobody anything */
	assert_says(f, "dead", "SELECT code FROM units WHERE id = '%s'", unit(140));
	assert_says(f, "busy", "SELECT code FROM units WHERE id = '%s'", unit(400));
	assert_says(f, "0", "SELECT count(*) FROM ferry_lost WHERE key = '%s'", unit(140));
}

static void R17_a_kill_in_the_midst_shows_nothing_and_what_was_fetched_is_not_fetched_again(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};
	enum ferry_error e = FERRY_OK;
	uint32_t keys;

	many_units(f);
	for (uint32_t n = 110; n < 1500; n += 20)
		hub_write(f, n, "code", "dead");
	commit(f);
	restore(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	while (said.keys < 30 && compare_once(f, &e))
		;
	assert_ok(e);
	keys = said.keys;
	assert_true(keys < 70);
	replica_close(f->r);
	fixture_open(f);
	assert_says(f, "dead", "SELECT code FROM units WHERE id = '%s'", unit(110));
	assert_says(f, "70", "SELECT count(*) FROM units WHERE code = 'dead'");
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_true(hello.rewound && hello.comparable && hello.refill);
	assert_int_equal(hello.position, backup_position);
	memset(&said, 0, sizeof(said));
	meet(f, FERRY_MISMATCH, true);
	compare_all(f);
	assert_int_equal(said.keys, 70 - keys);
	close_it(f);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE code = 'dead'");
	assert_says(f, "70", "SELECT lost FROM ferry_status");
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_false(hello.rewound || hello.refill);
}

/* What was fetched from the first restored hub is of a lost history by then. */
static void R17_a_hub_that_is_restored_again_in_the_midst_is_compared_with_as_it_is_then(void **state)
{
	struct fixture *f = *state;

	many_units(f);
	lose_some(f);
	restore(f);
	hub_write(f, 140, "code", "of the second history");
	hub_write(f, 1400, "code", "of the second history");
	hub_write(f, 3500, "code", "of the second history");
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	replica_store_ops.disconnected(f->r);
	restore(f);
	meet(f, FERRY_MISMATCH, true);
	compare_all(f);
	close_it(f);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE code = 'of the second history'");
	assert_says(f, "N", "SELECT code FROM units WHERE id = '%s'", unit(140));
	assert_lost_is_told(f);
}

static void R17_unsent_edits_stay_on_top_of_rows_that_differ(void **state)
{
	struct fixture *f = *state;

	many_units(f);
	lose_some(f);
	app(f, "UPDATE units SET floor = 44 WHERE id IN ('%s', '%s')", unit(140), unit(3005));
	app(f, "DELETE FROM units WHERE id = '%s'", unit(141));
	app(f, "INSERT INTO units(id, code) VALUES ('%s', 'mine')", unit(3200));
	restore(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	close_it(f);
	assert_says(f, "44", "SELECT floor FROM units WHERE id = '%s'", unit(140));
	assert_says(f, "N", "SELECT code FROM units WHERE id = '%s'", unit(140));
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(141));
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(3200));
	assert_says(f, "4", "SELECT waiting_rows FROM ferry_status");
	assert_says(f, "dead", "SELECT value FROM ferry_lost WHERE key = '%s' AND \"column\" = 'code'", unit(140));
	assert_says(f, "0", "SELECT count(*) FROM ferry_lost WHERE key = '%s'", unit(3200));
	sync_all(f);
	assert_says(f, "44", "SELECT floor FROM units WHERE id = '%s'", unit(140));
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(3200));
	assert_proof(f);
}

static void R17_where_much_differs_a_fill_is_asked_for_and_it_is_said_why(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};
	enum ferry_error e = FERRY_OK;

	for (uint32_t n = FIRST; n < 3900; n++)
		hub_write(f, n, "code", "N");
	commit(f);
	take_backup(f);
	for (uint32_t n = FIRST; n < 3900; n++)
		hub_write(f, n, "code", "dead");
	commit(f);
	restore(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	while (compare_once(f, &e))
		;
	assert_int_equal(e, FERRY_MISMATCH);
	assert_non_null(strstr(fixture_why.text, "filled anew"));
	assert_true(said.ranges + said.keys < 3900 / 2 + 2000 + 300 + 256);
	replica_store_ops.disconnected(f->r);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_true(hello.rewound && hello.refill && !hello.comparable);
	meet(f, FERRY_MISMATCH, false);
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
	assert_true(f->report.sums_match);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE code = 'dead'");
	assert_says(f, "3800", "SELECT lost FROM ferry_status");
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_true(hello.comparable && !hello.rewound);
}

static void R17_a_commit_before_the_end_of_the_comparison_is_refused(void **state)
{
	struct fixture *f = *state;
	enum ferry_error e = FERRY_OK;

	many_units(f);
	lose_some(f);
	restore(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	assert_true(compare_once(f, &e));
	assert_int_equal(hub_commit(f, true, said.begun), FERRY_UNEXPECTED_MESSAGE);
	assert_int_equal(hub_commit(f, false, said.begun), FERRY_UNEXPECTED_MESSAGE);
	assert_says(f, "dead", "SELECT code FROM units WHERE id = '%s'", unit(140));
}

static void R17_a_row_without_any_value_counts(void **state)
{
	struct fixture *f = *state;
	struct uuid key = key_of(50);

	many_units(f);
	hub_write(f, 50, NULL, NULL);
	memset(hub_find(f, T_UNITS, &key, false)->cells, 0, sizeof(f->rows[0].cells));
	commit(f);
	restore(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	close_it(f);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(50));
}

static void R17_rows_of_a_table_that_the_hub_has_none_of_go(void **state)
{
	struct fixture *f = *state;

	many_units(f);
	restore(f);
	for (uint32_t i = 0; i < f->row_count; i++)
		f->rows[i].alive = false;
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	assert_int_equal(said.questions, 2);
	close_it(f);
	assert_says(f, "0", "SELECT count(*) FROM units");
}

static void R17_a_hub_that_has_everything_again_sends_no_row(void **state)
{
	struct fixture *f = *state;

	many_units(f);
	lose_some(f);
	memset(&said, 0, sizeof(said));
	meet(f, FERRY_OTHER_HISTORY, true); /* the restore was undone */
	compare_all(f);
	assert_int_equal(said.questions, 1); /* the sums tell */
	assert_int_equal(said.keys, 0);
	close_it(f);
	assert_int_equal(f->report.restored, 0);
	assert_says(f, "0", "SELECT lost FROM ferry_status");
	assert_says(f, "dead", "SELECT code FROM units WHERE id = '%s'", unit(140));
}

static void R17_a_hub_that_tells_no_sums_is_compared_table_by_table(void **state)
{
	struct fixture *f = *state;

	many_units(f);
	lose_some(f);
	restore(f);
	tells_no_sums = true;
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	tells_no_sums = false;
	assert_int_equal(said.keys, 2);
	close_it(f);
	assert_lost_is_told(f);
}

/* A running sum that is wrong must not pass for what stands in the file. */
static void R17_rows_that_were_damaged_unseen_are_found_whatever_the_running_sums_say(void **state)
{
	struct fixture *f = *state;

	many_units(f);
	lose_some(f);
	restore(f);
	replica_close(f->r);
	damage(f, "UPDATE units SET code = 'rot' WHERE id = '%s'", unit(1200));
	fixture_open(f);
	meet(f, FERRY_OTHER_HISTORY, true);
	compare_all(f);
	assert_int_equal(said.keys, 3);
	assert_ok(hub_commit(f, true, said.begun));
	assert_says(f, "N", "SELECT code FROM units WHERE id = '%s'", unit(1200));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R17_rows_that_differ_are_fetched_and_all_others_stay),
		replica_test(R17_values_that_differ_are_kept_as_lost_until_they_are_back),
		replica_test(R17_what_comes_back_before_the_close_is_not_lost),
		replica_test(R17_a_kill_in_the_midst_shows_nothing_and_what_was_fetched_is_not_fetched_again),
		replica_test(R17_a_hub_that_is_restored_again_in_the_midst_is_compared_with_as_it_is_then),
		replica_test(R17_unsent_edits_stay_on_top_of_rows_that_differ),
		replica_test(R17_where_much_differs_a_fill_is_asked_for_and_it_is_said_why),
		replica_test(R17_a_commit_before_the_end_of_the_comparison_is_refused),
		replica_test(R17_a_row_without_any_value_counts),
		replica_test(R17_rows_of_a_table_that_the_hub_has_none_of_go),
		replica_test(R17_a_hub_that_has_everything_again_sends_no_row),
		replica_test(R17_a_hub_that_tells_no_sums_is_compared_table_by_table),
		replica_test(R17_rows_that_were_damaged_unseen_are_found_whatever_the_running_sums_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
