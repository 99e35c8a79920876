/* What replays do to rows: change-sets that a restored hub had lost (R18). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/merge.h"

#define UNITS 7u
#define NAME 2
#define NOW INT64_C(1000000)

static const struct schema_column columns[] = {{.num = NAME, .name = "name", .kind = KIND_TEXT}};
static const struct schema_table tables[] = {{.table = UNITS, .name = "units", .writable = true, .columns = columns, .column_count = 1}};
static const struct schema schema = {.hash = 1, .tables = tables, .table_count = 1};

static struct merge *merge;
static struct merge_outcome outcome;

static int set_up(void **state)
{
	(void)state;
	merge = merge_new(&schema, 1 << 24);
	return merge == NULL;
}

static int tear_down(void **state)
{
	(void)state;
	merge_free(merge);
	return 0;
}

static struct uuid id(uint8_t n)
{
	return (struct uuid){.b = {[0] = n, [15] = n}};
}

static const uint16_t nums[] = {NAME};

/* A change-set of one row; old_position 0: it is new. Kept until the program ends. */
static void apply(uint8_t author, int64_t number, enum row_op op, uint8_t key, const char *name, int64_t base, int64_t old_position)
{
	static struct uuid keys[16];
	static struct value cells[16];
	static struct block blocks[16];
	static struct change_set sets[16];
	static unsigned used;
	struct uuid a = id(author);
	unsigned n = used++ % 16;

	keys[n] = id(key);
	cells[n] = value_text(name, strlen(name));
	blocks[n] = (struct block){.table = UNITS, .op = op, .row_count = 1, .keys = &keys[n], .nums = nums, .cells = &cells[n],
				   .column_count = op == ROW_DELETE ? 0 : 1};
	sets[n] = (struct change_set){.number = number, .base_position = base, .at = 500, .blocks = &blocks[n], .block_count = 1,
				      .old_position = old_position, .old_verdict = old_position > 0 ? VERDICT_ACCEPTED : 0,
				      .lost_from = old_position > 0 ? 5 : 0};
	assert_int_equal(merge_apply(merge, &a, &sets[n], NOW, &outcome), FERRY_OK);
	assert_int_not_equal(outcome.verdict, VERDICT_REJECTED);
}

static void load_unknown(uint8_t key)
{
	assert_int_equal(merge_row(merge, &(struct merge_row){.table = UNITS, .key = id(key)}), FERRY_OK);
}

static struct merge_writes take(void)
{
	struct merge_writes w;

	assert_int_equal(merge_take_writes(merge, &w), FERRY_OK);
	return w;
}

static void R18_a_row_that_replays_made_and_deleted_at_once_is_buried(void **state)
{
	struct merge_writes w;

	(void)state;
	load_unknown(1);
	apply(1, 1, ROW_INSERT, 1, "made", 4, 10);
	apply(2, 1, ROW_DELETE, 1, "", 11, 12);
	w = take();
	assert_int_equal(w.write_count, 1);
	assert_true(w.writes[0].buries);
	assert_int_equal(w.writes[0].op, ROW_DELETE);
	assert_int_equal(w.writes[0].row_count, 1);
	assert_int_equal(w.stamps[w.writes[0].stamps[0]].number, 1);
	assert_int_equal(w.stamps[w.writes[0].stamps[0]].old_position, 12);
}

static void R18_a_row_whose_insert_was_written_before_is_deleted_and_buried(void **state)
{
	struct merge_writes w;

	(void)state;
	load_unknown(1);
	apply(1, 1, ROW_INSERT, 1, "made", 4, 10);
	assert_int_equal(take().writes[0].op, ROW_INSERT);
	apply(2, 1, ROW_DELETE, 1, "", 11, 12);
	w = take();
	assert_int_equal(w.write_count, 2);
	assert_false(w.writes[0].buries);
	assert_int_equal(w.writes[0].op, ROW_DELETE);
	assert_true(w.writes[1].buries);
}

static void a_new_row_that_is_deleted_at_once_leaves_nothing(void **state)
{
	(void)state;
	load_unknown(1);
	apply(1, 1, ROW_INSERT, 1, "made", 4, 0);
	apply(1, 2, ROW_DELETE, 1, "", 4, 0);
	assert_int_equal(take().write_count, 0);
}

static void R18_a_row_that_the_database_knows_is_not_buried(void **state)
{
	struct merge_writes w;

	(void)state;
	assert_int_equal(merge_row(merge, &(struct merge_row){.table = UNITS, .key = id(1), .known = true,
							      .version = {.position = 3}}), FERRY_OK);
	apply(1, 1, ROW_INSERT, 1, "made", 4, 10);
	apply(2, 1, ROW_DELETE, 1, "", 11, 12);
	w = take();
	assert_int_equal(w.write_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(R18_a_row_that_replays_made_and_deleted_at_once_is_buried, set_up, tear_down),
		cmocka_unit_test_setup_teardown(R18_a_row_whose_insert_was_written_before_is_deleted_and_buried, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_new_row_that_is_deleted_at_once_leaves_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(R18_a_row_that_the_database_knows_is_not_buried, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
