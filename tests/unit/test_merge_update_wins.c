/* Where an update wins against a deletion: that truth table of docs/merge.md, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/merge.h"

#define STOCK 7u
#define NOW INT64_C(1000000)
#define FLOOR 2
#define CODE 3

static const struct schema_column columns[] = {
	{.num = FLOOR, .name = "floor", .kind = KIND_INT, .policy = POLICY_COUNTER},
	{.num = CODE, .name = "code", .kind = KIND_INT},
};
static const struct schema_table stock = {.table = STOCK, .name = "stock", .writable = true, .columns = columns, .column_count = 2};
static const struct schema schema = {.hash = 1, .tables = &stock, .table_count = 1};
static const struct value was[2] = {{.kind = VALUE_INT, .i = 3}, {.kind = VALUE_INT, .i = 70}};

static struct uuid id(uint8_t n)
{
	return (struct uuid){.b = {[0] = n, [15] = n}};
}

/* A merge that knows one row: there since position 1, or deleted at 5. */
static struct merge *with_row(bool exists, bool kept, const struct version *versions)
{
	struct merge *m = merge_new(&schema, 1 << 20);

	assert_non_null(m);
	assert_int_equal(merge_row(m, &(struct merge_row){.table = STOCK, .key = id(1), .exists = exists, .known = true, .born = 1,
							  .version = {.position = exists ? 1 : 5, .author = id(3), .number = 4},
							  .cells = exists ? was : NULL, .column_versions = versions,
							  .update_wins = true, .last_cells = kept ? was : NULL}), FERRY_OK);
	return m;
}

struct edit {
	struct uuid key;
	uint16_t num;
	struct value old, mine;
	struct block block;
	struct change_set set;
};

static struct merge_outcome push(struct merge *m, struct edit *e, uint8_t device, enum row_op op, uint16_t num, int64_t base,
				 int64_t mine)
{
	struct uuid author = id(device);
	struct merge_outcome out;

	*e = (struct edit){.key = id(1), .num = num, .old = was[num - FLOOR], .mine = value_int(mine)};
	e->block = (struct block){.table = STOCK, .op = op, .row_count = 1, .column_count = op != ROW_DELETE, .nums = &e->num,
				  .keys = &e->key,
				  .cells = &e->mine, .old_nums = &e->num, .olds = &e->old, .old_count = op != ROW_DELETE};
	e->set = (struct change_set){.number = 9, .base_position = base, .at = 500, .blocks = &e->block, .block_count = 1};
	assert_int_equal(merge_apply(m, &author, &e->set, NOW, &out), FERRY_OK);
	return out;
}

static void update_of_a_row_deleted_behind_its_author_puts_it_back_and_merges(void **state)
{
	struct merge *m = with_row(false, true, NULL);
	struct merge_outcome out;
	struct merge_writes w;
	const struct uuid deleter = id(3);
	struct edit e[2];

	(void)state;
	out = push(m, &e[0], 8, ROW_UPDATE, CODE, 4, 71);
	assert_int_equal(out.verdict, VERDICT_ACCEPTED);
	assert_int_equal(out.conflict_count, 2); /* the deletion, and the value that nobody says was seen */
	assert_true(out.conflicts[0].num == 0 && out.conflicts[0].kind == CONFLICT_UPDATE_DELETE && out.conflicts[0].device_won);
	assert_true(out.conflicts[1].num == CODE && out.conflicts[1].device_won && out.conflicts[1].hub_value.i == 70);
	assert_memory_equal(&out.conflicts[0].other, &deleter, sizeof(deleter));
	out = push(m, &e[1], 9, ROW_UPDATE, FLOOR, 4, 5); /* another's: two more than the 3 it saw */
	assert_int_equal(out.verdict, VERDICT_ACCEPTED);
	assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
	assert_int_equal(w.write_count, 3);
	assert_true(w.writes[0].revives && w.writes[0].op == ROW_INSERT && w.writes[0].column_count == 0);
	for (uint32_t i = 1; i < 3; i++) {
		assert_true(w.writes[i].op == ROW_UPDATE && !w.writes[i].revives && w.writes[i].column_count == 1);
		assert_int_equal(w.writes[i].cells[0].i, w.writes[i].nums[0] == CODE ? 71 : 5);
	}
	merge_free(m);
}

static void update_of_a_deletion_that_was_seen_or_not_kept_changes_nothing(void **state)
{
	(void)state;
	for (int kept = 0; kept < 2; kept++) {
		struct merge *m = with_row(false, kept, NULL);
		struct merge_writes w;
		struct edit e;

		assert_int_equal(push(m, &e, 8, ROW_UPDATE, CODE, kept ? 5 : 4, 71).verdict, VERDICT_SUPERSEDED);
		assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
		assert_int_equal(w.write_count, 0);
		merge_free(m);
	}
}

static void deletion_that_met_an_unseen_update_leaves_the_row(void **state)
{
	const struct version versions[2] = {{.position = 1}, {.position = 6, .author = id(3), .number = 2}};
	struct merge *m = with_row(true, false, versions);
	struct merge_outcome out;
	struct merge_writes w;
	struct edit e[2];

	(void)state;
	out = push(m, &e[0], 8, ROW_DELETE, CODE, 5, 0);
	assert_int_equal(out.verdict, VERDICT_SUPERSEDED);
	assert_true(out.conflict_count == 1 && out.conflicts[0].kind == CONFLICT_DELETE_UPDATE && !out.conflicts[0].device_won);
	assert_memory_equal(&out.conflicts[0].other, &versions[1].author, sizeof(struct uuid));
	out = push(m, &e[1], 9, ROW_DELETE, CODE, 6, 0);
	assert_true(out.verdict == VERDICT_ACCEPTED && out.conflict_count == 0);
	assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
	assert_true(w.write_count == 1 && w.writes[0].op == ROW_DELETE);
	merge_free(m);
}

static void R2_what_triggers_made_of_an_own_edit_is_nobodys_update(void **state)
{
	const struct version versions[2] = {{.position = 6, .author = id(8), .number = 2}, {.position = 6}};
	struct merge *m = with_row(true, false, versions);
	struct edit e[2];

	(void)state;
	assert_int_equal(push(m, &e[0], 9, ROW_DELETE, CODE, 5, 0).verdict, VERDICT_SUPERSEDED);
	assert_int_equal(push(m, &e[1], 8, ROW_DELETE, CODE, 5, 0).verdict, VERDICT_ACCEPTED);
	merge_free(m);
}

/* What was to be written before the deletion of the same batch is written after all. */
static void in_a_batch_a_row_is_put_back_with_what_the_batch_wrote_before(void **state)
{
	struct merge *m = with_row(true, false, NULL);
	struct merge_writes w;
	struct edit e[3];

	(void)state;
	assert_int_equal(push(m, &e[0], 8, ROW_UPDATE, CODE, 1, 71).verdict, VERDICT_ACCEPTED);
	assert_int_equal(push(m, &e[1], 8, ROW_DELETE, CODE, 1, 0).verdict, VERDICT_ACCEPTED);
	assert_int_equal(push(m, &e[2], 9, ROW_UPDATE, FLOOR, 1, 4).verdict, VERDICT_ACCEPTED);
	assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
	assert_int_equal(w.write_count, 1);
	assert_true(w.writes[0].op == ROW_UPDATE && w.writes[0].column_count == 2);
	assert_int_equal(w.writes[0].cells[0].i, 4);
	assert_int_equal(w.writes[0].cells[1].i, 71);
	merge_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(update_of_a_row_deleted_behind_its_author_puts_it_back_and_merges),
		cmocka_unit_test(update_of_a_deletion_that_was_seen_or_not_kept_changes_nothing),
		cmocka_unit_test(deletion_that_met_an_unseen_update_leaves_the_row),
		cmocka_unit_test(R2_what_triggers_made_of_an_own_edit_is_nobodys_update),
		cmocka_unit_test(in_a_batch_a_row_is_put_back_with_what_the_batch_wrote_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
