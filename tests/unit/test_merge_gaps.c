/* What an edit has seen that was made between two restores of a hub (R18). Positions:
 *
 *   the first history   1 ... 90      restored to 40
 *   the second one      100 ... 190   the edit, at 150; restored to 20
 *   the third one       from 200 on */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/merge.h"

#define UNITS 7u

static const struct schema_column columns[] = {{.num = 2, .name = "name", .kind = KIND_TEXT}};
static const struct schema_table tables[] = {{.table = UNITS, .name = "units", .writable = true, .columns = columns, .column_count = 1}};
static const struct schema schema = {.hash = 1, .tables = tables, .table_count = 1};

/* Does the edit meet a replay, of a device that had it settled first and last there, as one that it has not seen? */
static bool conflicts(int64_t first, int64_t last, uint32_t gap_count)
{
	static const int64_t gaps[] = {40, 100};
	const struct uuid key = {.b = {1}}, editor = {.b = {2}};
	const uint16_t num = 2;
	struct value is = value_text("theirs", 6), becomes = value_text("mine", 4);
	const struct block block = {.table = UNITS, .op = ROW_UPDATE, .column_count = 1, .row_count = 1, .nums = &num, .keys = &key,
				    .cells = &becomes};
	const struct change_set edit = {.number = 9, .base_position = 150, .lost_from = 21, .at = 500, .gaps = gaps,
					.gap_count = gap_count, .blocks = &block, .block_count = 1};
	struct merge *merge = merge_new(&schema, 1 << 20);
	struct merge_outcome outcome;
	bool any;

	assert_non_null(merge);
	assert_int_equal(merge_row(merge, &(struct merge_row){.table = UNITS, .key = key, .exists = true, .known = true, .born = 1,
							      .version = {.position = 201, .author = {.b = {3}}, .number = 1,
									  .old_position = first, .last_position = last},
							      .cells = &is}), FERRY_OK);
	assert_int_equal(merge_apply(merge, &editor, &edit, 1000, &outcome), FERRY_OK);
	any = outcome.conflict_count > 0;
	merge_free(merge);
	return any;
}

static void P5_what_had_not_come_back_when_the_edit_was_made_was_not_seen(void **state)
{
	(void)state;
	assert_true(conflicts(70, 0, 2));
	assert_true(conflicts(70, 190, 2)); /* it came back, but later */
	assert_true(conflicts(160, 0, 2));
}

static void R18_what_came_back_in_time_or_was_in_the_backup_was_seen(void **state)
{
	(void)state;
	assert_false(conflicts(70, 120, 2));
	assert_false(conflicts(120, 0, 2));
	assert_false(conflicts(40, 0, 2));
	assert_false(conflicts(100, 0, 2));
	assert_false(conflicts(70, 0, 0)); /* an edit of the first history's own */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P5_what_had_not_come_back_when_the_edit_was_made_was_not_seen),
		cmocka_unit_test(R18_what_came_back_in_time_or_was_in_the_backup_was_seen),
	};

	return cmocka_run_group_tests_name("merge_gaps", tests, NULL, NULL);
}
