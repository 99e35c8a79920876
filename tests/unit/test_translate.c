/* Change-sets of an earlier schema in the present one (hub/translate.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/translate.h"

#define ROWS 2u

static const struct schema_column columns[] = {
	{.num = 2, .name = "name", .kind = KIND_TEXT},
	{.num = 4, .name = "budget", .kind = KIND_TEXT}, /* an int until step 20 */
	{.num = 8, .name = "phone_number", .kind = KIND_TEXT},
	{.num = 9, .name = "level", .kind = KIND_INT}, /* a date until step 20 */
};
static const struct schema_table tables[] = {{.table = 3, .name = "leads", .key = "id", .key_num = 1, .columns = columns,
					       .column_count = 4}};
static const struct schema now = {.hash = 1, .tables = tables, .table_count = 1, .step = 30};
static const struct past_column past_columns[] = {
	{.table = 3, .num = 4, .step = 20, .name = "budget", .kind = KIND_INT},
	{.table = 3, .num = 5, .step = 0, .name = "phone", .kind = PAST_NO_KIND, .to = 6},
	{.table = 3, .num = 5, .step = 21, .name = "phone", .kind = PAST_NO_KIND},
	{.table = 3, .num = 6, .step = 0, .name = "telephone", .kind = PAST_NO_KIND, .to = 8},
	{.table = 3, .num = 7, .step = 22, .name = "fax", .kind = PAST_NO_KIND},
	{.table = 3, .num = 9, .step = 20, .name = "level", .kind = KIND_DATE},
	{.table = 3, .num = 10, .step = 0, .name = "hobby", .kind = PAST_NO_KIND, .discarded = true},
};
static const struct past past = {.columns = past_columns, .count = 7};

struct fixture {
	struct arena arena;
	struct uuid keys[ROWS];
	uint16_t nums[4];
	struct value cells[4 * ROWS];
	struct block block;
	struct change_set set;
	struct translation out;
};

/* A block of these columns; every cell is `cell`. */
static struct fixture make(int64_t step, enum row_op op, const uint16_t *nums, uint16_t count, struct value cell)
{
	struct fixture f = {.block = {.table = 3, .op = op, .row_count = ROWS, .column_count = count}, .set = {.number = 1}};

	arena_init(&f.arena, 1u << 20);
	memcpy(f.nums, nums, count * sizeof(*nums));
	for (size_t i = 0; i < (size_t)count * ROWS; i++)
		f.cells[i] = cell;
	f.set.step = step;
	return f;
}

static const struct block *translated(struct fixture *f)
{
	f->block.keys = f->keys;
	f->block.nums = f->nums;
	f->block.cells = f->cells;
	f->set.blocks = &f->block;
	f->set.block_count = 1;
	assert_int_equal(translate_set(&now, &past, &f->set, &f->arena, NULL, &f->out), FERRY_OK);
	return f->out.set->block_count > 0 ? &f->out.set->blocks[0] : NULL;
}

static void change_set_of_the_present_schema_is_left_alone(void **state)
{
	struct fixture f = make(30, ROW_UPDATE, (const uint16_t[]){7}, 1, value_int(1));

	(void)state;
	assert_ptr_equal(translated(&f), &f.block);
	f.set.step = 0; /* an old agent's */
	assert_ptr_equal(translated(&f), &f.block);
	arena_deinit(&f.arena);
}

static void what_did_not_change_is_not_copied(void **state)
{
	struct fixture f = make(10, ROW_INSERT, (const uint16_t[]){2, 8}, 2, value_text("x", 1));

	(void)state;
	(void)translated(&f);
	assert_ptr_equal(f.out.set, &f.set);
	arena_deinit(&f.arena);
}

static void renamed_column_goes_on_under_its_last_number_with_its_bases_and_old_values(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){2, 5}, 2, value_text("x", 1));
	const struct row_base bases[] = {{0, 2, 40}, {0, 5, 41}, {1, 0, 42}};
	const uint16_t old_nums[] = {5};
	const struct value olds[ROWS] = {value_text("a", 1), value_text("b", 1)};
	const struct block *b;

	(void)state;
	f.block.bases = bases;
	f.block.base_count = 3;
	f.block.old_nums = old_nums;
	f.block.olds = olds;
	f.block.old_count = 1;
	b = translated(&f);
	assert_int_equal(f.out.code, FERRY_OK);
	assert_int_equal(b->column_count, 2);
	assert_int_equal(b->nums[1], 8);
	assert_memory_equal(b->cells[3].p, "x", 1);
	assert_int_equal(b->base_count, 3);
	assert_int_equal(b->bases[1].num, 8);
	assert_int_equal(b->bases[1].position, 41);
	assert_int_equal(b->bases[2].num, 0);
	assert_int_equal(b->old_nums[0], 8);
	assert_memory_equal(b->olds[1].p, "b", 1);
	arena_deinit(&f.arena);
}

static void dropped_column_that_said_something_refuses_and_names_it(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){2, 7}, 2, value_text("x", 1));

	(void)state;
	(void)translated(&f);
	assert_int_equal(f.out.code, FERRY_UNKNOWN_COLUMN);
	assert_non_null(strstr(f.out.why.text, "leads.fax"));
	assert_ptr_equal(f.out.set, &f.set); /* kept as it came */
	arena_deinit(&f.arena);
}

static void dropped_column_without_a_value_and_a_discarded_one_are_left_out(void **state)
{
	struct fixture f = make(10, ROW_INSERT, (const uint16_t[]){2, 7, 10}, 3, value_text("x", 1));
	const struct block *b;

	(void)state;
	f.cells[2] = f.cells[3] = value_null();
	b = translated(&f);
	assert_int_equal(f.out.code, FERRY_OK);
	assert_int_equal(b->column_count, 1);
	assert_int_equal(b->nums[0], 2);
	arena_deinit(&f.arena);
}

static void update_of_discarded_columns_alone_becomes_nothing(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){10}, 1, value_text("x", 1));

	(void)state;
	assert_null(translated(&f));
	assert_int_equal(f.out.set->number, 1);
	arena_deinit(&f.arena);
}

static void value_of_another_kind_is_cast_where_that_is_certain(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){4}, 1, value_int(-70));
	const struct block *b = translated(&f);

	(void)state;
	assert_int_equal(b->cells[0].kind, VALUE_TEXT);
	assert_int_equal(b->cells[0].n, 3);
	assert_memory_equal(b->cells[0].p, "-70", 3);
	arena_deinit(&f.arena);
}

static void value_of_another_kind_of_the_same_form_is_not_taken_for_it(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){9}, 1, value_int(20513)); /* days, not a level */

	(void)state;
	(void)translated(&f);
	assert_int_equal(f.out.code, FERRY_BAD_VALUE);
	assert_non_null(strstr(f.out.why.text, "leads.level"));
	arena_deinit(&f.arena);
}

static void change_after_the_kind_changed_is_not_cast_again(void **state)
{
	struct fixture f = make(25, ROW_UPDATE, (const uint16_t[]){9}, 1, value_int(3));

	(void)state;
	(void)translated(&f);
	assert_int_equal(f.out.code, FERRY_OK);
	assert_ptr_equal(f.out.set, &f.set);
	arena_deinit(&f.arena);
}

/* Column 4 went from int to text by a function. */
static enum ferry_error convert(struct fixture *f, struct conversions *c)
{
	static struct past_column by_function[7];
	const struct past known = {.columns = by_function, .count = 7};

	memcpy(by_function, past_columns, sizeof(by_function));
	by_function[0].converts = true;
	f->block.keys = f->keys;
	f->block.nums = f->nums;
	f->block.cells = f->cells;
	f->set.blocks = &f->block;
	f->set.block_count = 1;
	return translate_set(&now, &known, &f->set, &f->arena, c, &f->out);
}

static void values_for_a_function_are_listed_then_taken(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){4}, 1, value_int(7));
	struct conversions c = {0};

	(void)state;
	f.cells[1] = value_null();
	assert_int_equal(convert(&f, &c), FERRY_OK);
	assert_int_equal(c.count, 1); /* NULL is no value to convert */
	assert_int_equal(c.list[0].in.i, 7);
	assert_int_equal(c.list[0].num, 4);
	assert_int_equal(c.list[0].to, 4);
	assert_int_equal(c.list[0].step, 10);
	c.list[0].out = value_text("seven", 5);
	c.answered = true;
	assert_int_equal(convert(&f, &c), FERRY_OK);
	assert_int_equal(f.out.code, FERRY_OK);
	assert_memory_equal(f.out.set->blocks[0].cells[0].p, "seven", 5);
	assert_int_equal(f.out.set->blocks[0].cells[1].kind, VALUE_NULL);
	arena_deinit(&f.arena);
}

static void value_that_the_function_refuses_refuses_the_change_set(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){4}, 1, value_int(7));
	struct conversions c = {0};

	(void)state;
	assert_int_equal(convert(&f, &c), FERRY_OK);
	assert_int_equal(c.count, ROWS);
	c.list[1].refusal = "there is no such floor";
	c.answered = true;
	assert_int_equal(convert(&f, &c), FERRY_OK);
	assert_int_equal(f.out.code, FERRY_BAD_VALUE);
	assert_string_equal(f.out.why.text, "leads.budget there is no such floor");
	arena_deinit(&f.arena);
}

static void set_of_the_present_schema_asks_no_function(void **state)
{
	struct fixture f = make(30, ROW_UPDATE, (const uint16_t[]){4}, 1, value_text("x", 1));
	struct conversions c = {0};

	(void)state;
	assert_int_equal(convert(&f, &c), FERRY_OK);
	assert_int_equal(c.count, 0);
	arena_deinit(&f.arena);
}

static void full_arena_is_told(void **state)
{
	struct fixture f = make(10, ROW_UPDATE, (const uint16_t[]){5}, 1, value_text("x", 1));
	struct arena none;

	(void)state;
	(void)translated(&f);
	arena_init(&none, 16);
	assert_int_equal(translate_set(&now, &past, &f.set, &none, NULL, &f.out), FERRY_NO_MEMORY);
	arena_deinit(&none);
	arena_deinit(&f.arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(change_set_of_the_present_schema_is_left_alone),
		cmocka_unit_test(what_did_not_change_is_not_copied),
		cmocka_unit_test(renamed_column_goes_on_under_its_last_number_with_its_bases_and_old_values),
		cmocka_unit_test(dropped_column_that_said_something_refuses_and_names_it),
		cmocka_unit_test(dropped_column_without_a_value_and_a_discarded_one_are_left_out),
		cmocka_unit_test(update_of_discarded_columns_alone_becomes_nothing),
		cmocka_unit_test(value_of_another_kind_is_cast_where_that_is_certain),
		cmocka_unit_test(value_of_another_kind_of_the_same_form_is_not_taken_for_it),
		cmocka_unit_test(change_after_the_kind_changed_is_not_cast_again),
		cmocka_unit_test(values_for_a_function_are_listed_then_taken),
		cmocka_unit_test(value_that_the_function_refuses_refuses_the_change_set),
		cmocka_unit_test(set_of_the_present_schema_asks_no_function),
		cmocka_unit_test(full_arena_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
