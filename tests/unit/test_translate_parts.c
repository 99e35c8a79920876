/* Late edits of columns that stand in another table now: redacted ones, and those that came
 * back from a restricted table (hub/translate.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/translate.h"

#define ROWS 2u

enum { FLATS = 3, RESTRICTED = 7, FORMER = 5 }; /* the last was revealed */

static const struct schema_column flat_columns[] = {
	{.num = 2, .name = "code", .kind = KIND_TEXT},
	{.num = 6, .name = "beds", .kind = KIND_INT},
	{.num = 8, .name = "floor", .kind = KIND_INT, .not_null = true, .has_default = true},
};
static const struct schema_column restricted_columns[] = {
	{.num = 3, .name = "price", .kind = KIND_INT, .has_default = true, .default_sql = "3"},
	{.num = 4, .name = "note", .kind = KIND_TEXT, .has_default = true, .default_sql = "'it''s'"},
};
static const struct schema_table tables[] = {
	{.table = FLATS, .name = "flats", .key = "id", .key_num = 1, .writable = true, .columns = flat_columns, .column_count = 3},
	{.table = RESTRICTED, .name = "flats_restricted", .key = "id", .key_num = 1, .writable = true, .columns = restricted_columns,
	 .column_count = 2},
};
static const struct schema now = {.hash = 1, .tables = tables, .table_count = 2, .step = 30};
static const struct past_column past_columns[] = {
	{.table = FLATS, .num = 4, .name = "price", .kind = PAST_NO_KIND, .to = 3, .to_table = RESTRICTED},
	{.table = FLATS, .num = 4, .step = 20, .name = "price", .kind = PAST_NO_KIND},
	{.table = FLATS, .num = 5, .name = "note", .kind = PAST_NO_KIND, .to = 4, .to_table = RESTRICTED},
	{.table = FORMER, .num = 2, .name = "tenant_id", .kind = PAST_NO_KIND, .to_table = FLATS, .discarded = true},
	{.table = FORMER, .num = 3, .name = "beds", .kind = PAST_NO_KIND, .to = 6, .to_table = FLATS},
	{.table = FORMER, .num = 4, .name = "price", .kind = PAST_NO_KIND, .to = 4, .to_table = FLATS},
	{.table = FORMER, .num = 5, .name = "floor", .kind = PAST_NO_KIND, .to = 8, .to_table = FLATS},
};
static const struct past past = {.columns = past_columns, .count = 7};

struct fixture {
	struct arena arena;
	struct uuid keys[ROWS];
	int64_t at[ROWS];
	uint16_t nums[4];
	struct value cells[4 * ROWS];
	struct block block;
	struct change_set set;
	struct translation out;
};

/* Rows 1 and 2 of these columns, each cell the number of its column. */
static void make(struct fixture *f, uint32_t table, enum row_op op, const uint16_t *nums, uint16_t count)
{
	*f = (struct fixture){.at = {10, 20}};
	arena_init(&f->arena, 1u << 20);
	f->keys[0].b[0] = 1;
	f->keys[1].b[0] = 2;
	memcpy(f->nums, nums, count * sizeof(*nums));
	for (size_t i = 0; i < (size_t)count * ROWS; i++)
		f->cells[i] = value_int(nums[i / ROWS]);
	f->block = (struct block){.table = table, .op = op, .row_count = ROWS, .column_count = count, .nums = f->nums, .keys = f->keys,
				  .at = f->at, .cells = f->cells};
	f->set = (struct change_set){.number = 1, .step = 10, .blocks = &f->block, .block_count = 1};
}

static uint32_t translated(struct fixture *f)
{
	assert_int_equal(translate_set(&now, &past, &f->set, &f->arena, NULL, &f->out), FERRY_OK);
	return f->out.set->block_count;
}

static void update_of_plain_and_redacted_columns_becomes_one_of_each_row(void **state)
{
	const struct row_base bases[] = {{0, 4, 41}, {1, 0, 42}};
	const uint16_t old_nums[] = {4};
	const struct value olds[ROWS] = {value_int(7), value_int(8)};
	const struct block *plain, *part;
	struct fixture f;

	(void)state;
	make(&f, FLATS, ROW_UPDATE, (const uint16_t[]){2, 4}, 2);
	f.block.bases = bases;
	f.block.base_count = 2;
	f.block.old_nums = old_nums;
	f.block.olds = olds;
	f.block.old_count = 1;
	assert_int_equal(translated(&f), 2);
	plain = &f.out.set->blocks[0];
	part = &f.out.set->blocks[1];
	assert_int_equal(plain->table, FLATS);
	assert_int_equal(plain->part_of, 0);
	assert_int_equal(plain->column_count, 1);
	assert_int_equal(plain->nums[0], 2);
	assert_int_equal(plain->old_count, 0);
	assert_int_equal(plain->base_count, 1);
	assert_int_equal(part->table, RESTRICTED);
	assert_int_equal(part->op, ROW_UPDATE);
	assert_int_equal(part->part_of, FLATS);
	assert_int_equal(part->column_count, 1);
	assert_int_equal(part->nums[0], 3);
	assert_int_equal(part->cells[1].i, 4);
	assert_int_equal(part->at[1], 20);
	assert_int_equal(part->base_count, 2);
	assert_int_equal(part->bases[0].num, 3);
	assert_int_equal(part->bases[0].position, 41);
	assert_int_equal(part->old_nums[0], 3);
	assert_int_equal(part->olds[1].i, 8);
	arena_deinit(&f.arena);
}

static void update_of_redacted_columns_alone_leaves_nothing_for_the_table(void **state)
{
	struct fixture f;

	(void)state;
	make(&f, FLATS, ROW_UPDATE, (const uint16_t[]){4}, 1);
	assert_int_equal(translated(&f), 1);
	assert_int_equal(f.out.set->blocks[0].table, RESTRICTED);
	arena_deinit(&f.arena);
}

static void new_row_that_says_nothing_there_begins_no_restricted_one(void **state)
{
	const struct row_base bases[] = {{0, 4, 41}, {1, 4, 42}};
	const struct block *part;
	struct fixture f;

	(void)state;
	make(&f, FLATS, ROW_INSERT, (const uint16_t[]){2, 4, 5}, 3);
	f.cells[2] = value_int(3); /* of row 1 the defaults, of row 2 one and a value */
	f.cells[3] = value_int(3);
	f.cells[4] = value_text("it's", 4);
	f.cells[5] = value_text("it'", 3);
	f.block.bases = bases;
	f.block.base_count = 2;
	assert_int_equal(translated(&f), 2);
	assert_int_equal(f.out.set->blocks[0].row_count, ROWS);
	assert_int_equal(f.out.set->blocks[0].op, ROW_INSERT);
	part = &f.out.set->blocks[1];
	assert_int_equal(part->op, ROW_INSERT);
	assert_int_equal(part->part_of, 0);
	assert_int_equal(part->row_count, 1);
	assert_int_equal(part->keys[0].b[0], 2);
	assert_int_equal(part->at[0], 20);
	assert_int_equal(part->cells[0].i, 3);
	assert_int_equal(part->cells[1].n, 3);
	assert_int_equal(part->base_count, 1);
	assert_int_equal(part->bases[0].row, 0);
	assert_int_equal(part->bases[0].position, 42);
	f.cells[5] = value_null();
	assert_int_equal(translated(&f), 1);
	arena_deinit(&f.arena);
}

static void new_restricted_row_of_a_revealed_table_is_an_update_of_its_row(void **state)
{
	const struct block *b;
	struct fixture f;

	(void)state;
	make(&f, FORMER, ROW_INSERT, (const uint16_t[]){2, 3, 4}, 3);
	assert_int_equal(translated(&f), 2); /* price was redacted again */
	b = f.out.set->blocks;
	assert_int_equal(b[0].table, FLATS);
	assert_int_equal(b[0].op, ROW_UPDATE);
	assert_int_equal(b[0].part_of, FORMER);
	assert_int_equal(b[0].column_count, 1);
	assert_int_equal(b[0].nums[0], 6);
	assert_int_equal(b[0].cells[0].i, 3);
	assert_int_equal(b[1].table, RESTRICTED);
	assert_int_equal(b[1].op, ROW_UPDATE);
	assert_int_equal(b[1].nums[0], 3);
	arena_deinit(&f.arena);
}

static void deleted_restricted_row_of_a_revealed_table_empties_what_may_be_empty(void **state)
{
	const struct block *b;
	struct fixture f;

	(void)state;
	make(&f, FORMER, ROW_DELETE, (const uint16_t[]){0}, 0);
	assert_int_equal(translated(&f), 2);
	b = f.out.set->blocks;
	assert_int_equal(b[0].table, FLATS);
	assert_int_equal(b[0].op, ROW_UPDATE);
	assert_int_equal(b[0].column_count, 1);
	assert_int_equal(b[0].nums[0], 6);
	assert_int_equal(b[0].cells[1].kind, VALUE_NULL);
	assert_int_equal(b[1].table, RESTRICTED);
	arena_deinit(&f.arena);
}

static void column_that_a_revealed_table_had_lost_before_refuses(void **state)
{
	struct fixture f;

	(void)state;
	make(&f, FORMER, ROW_UPDATE, (const uint16_t[]){3, 9}, 2);
	(void)translated(&f);
	assert_int_equal(f.out.code, FERRY_UNKNOWN_COLUMN);
	arena_deinit(&f.arena);
}

static void table_that_never_was_a_part_is_left_to_the_merge(void **state)
{
	struct fixture f;

	(void)state;
	make(&f, 99, ROW_UPDATE, (const uint16_t[]){3}, 1);
	assert_int_equal(translated(&f), 1);
	assert_ptr_equal(f.out.set, &f.set);
	arena_deinit(&f.arena);
}

static void full_arena_is_told(void **state)
{
	struct fixture f;

	(void)state;
	for (size_t bytes = 16; bytes < 2048; bytes += 16) {
		make(&f, FLATS, ROW_INSERT, (const uint16_t[]){2, 4, 5}, 3);
		f.cells[2] = f.cells[4] = value_null();
		arena_deinit(&f.arena);
		arena_init(&f.arena, bytes);
		if (translate_set(&now, &past, &f.set, &f.arena, NULL, &f.out) == FERRY_OK)
			break;
		arena_deinit(&f.arena);
	}
	assert_int_equal(f.out.set->block_count, 2);
	assert_int_equal(f.out.set->blocks[1].row_count, 1);
	arena_deinit(&f.arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(update_of_plain_and_redacted_columns_becomes_one_of_each_row),
		cmocka_unit_test(update_of_redacted_columns_alone_leaves_nothing_for_the_table),
		cmocka_unit_test(new_row_that_says_nothing_there_begins_no_restricted_one),
		cmocka_unit_test(new_restricted_row_of_a_revealed_table_is_an_update_of_its_row),
		cmocka_unit_test(deleted_restricted_row_of_a_revealed_table_empties_what_may_be_empty),
		cmocka_unit_test(column_that_a_revealed_table_had_lost_before_refuses),
		cmocka_unit_test(table_that_never_was_a_part_is_left_to_the_merge),
		cmocka_unit_test(full_arena_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
