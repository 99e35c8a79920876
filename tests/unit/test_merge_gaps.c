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

static bool meets_unseen(const struct version *there, struct change_set edit)
{
	const struct uuid key = {.b = {1}}, editor = {.b = {2}};
	const uint16_t num = 2;
	struct value is = value_text("theirs", 6), becomes = value_text("mine", 4);
	const struct block block = {.table = UNITS, .op = ROW_UPDATE, .column_count = 1, .row_count = 1, .nums = &num, .keys = &key,
				    .cells = &becomes};
	struct merge *merge = merge_new(&schema, 1 << 20);
	struct merge_outcome outcome;
	bool any;

	edit.number = 9;
	edit.at = 500;
	edit.blocks = &block;
	edit.block_count = 1;
	assert_non_null(merge);
	assert_int_equal(merge_row(merge, &(struct merge_row){.table = UNITS, .key = key, .exists = true, .known = true, .born = 1,
							      .version = *there, .cells = &is}), FERRY_OK);
	assert_int_equal(merge_apply(merge, &editor, &edit, 1000, &outcome), FERRY_OK);
	any = outcome.conflict_count > 0;
	merge_free(merge);
	return any;
}

/* Does the edit meet a replay, of a device that had it settled first and last there, as one that it has not seen? */
static bool conflicts(int64_t first, int64_t last, uint32_t gap_count)
{
	static const int64_t gaps[] = {40, 100};
	const struct version there = {.position = 201, .author = {.b = {3}}, .number = 1, .old_position = first, .last_position = last};

	return meets_unseen(&there, (struct change_set){.base_position = 150, .lost_from = 21, .gaps = gaps, .gap_count = gap_count});
}

/* The same of its own replay, which came back at this position; the edit may be of a history that is lost from there on. */
static bool meets_own(int64_t position, int64_t first, int64_t lost_from)
{
	const struct version there = {.position = position, .author = {.b = {2}}, .number = 3, .old_position = first};

	return meets_unseen(&there, (struct change_set){.base_position = 150, .lost_from = lost_from});
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

/* Its replica did not show it any more (R17), so a person wrote over what stood there before. */
static void P5_what_a_device_had_written_itself_and_lost_and_what_comes_back_later_was_not_seen(void **state)
{
	(void)state;
	assert_true(meets_own(160, 70, 0));
}

static void R2_what_a_device_wrote_itself_was_seen_unless_it_was_lost_by_then(void **state)
{
	(void)state;
	assert_false(meets_own(120, 70, 0));  /* it had come back */
	assert_false(meets_own(160, 0, 0));   /* it was never lost */
	assert_false(meets_own(201, 70, 21)); /* the edit is of the lost history, too */
	assert_false(meets_own(160, 155, 0)); /* it was waiting still when the edit was made */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(P5_what_had_not_come_back_when_the_edit_was_made_was_not_seen),
		cmocka_unit_test(R18_what_came_back_in_time_or_was_in_the_backup_was_seen),
		cmocka_unit_test(P5_what_a_device_had_written_itself_and_lost_and_what_comes_back_later_was_not_seen),
		cmocka_unit_test(R2_what_a_device_wrote_itself_was_seen_unless_it_was_lost_by_then),
	};

	return cmocka_run_group_tests_name("merge_gaps", tests, NULL, NULL);
}
