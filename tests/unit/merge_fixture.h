/* A merge of a small schema, rows as the hub has them, and change-sets of one row. Each test file
 * includes this once; what the merge borrows lives until the test ends. */
#ifndef FERRY_TESTS_MERGE_FIXTURE_H
#define FERRY_TESTS_MERGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/merge.h"

#define UNITS 7u
#define LEADS 9u
#define CODES 11u
#define NAME 2
#define STATUS 3
#define NOTE 4
#define NOW INT64_C(1000000)
#define HUB 0

static const char *const labels[] = {"free", "sold"};
static const struct schema_column unit_columns[] = {
	{.num = NAME, .name = "name", .kind = KIND_TEXT, .not_null = true},
	{.num = STATUS, .name = "status", .kind = KIND_ENUM, .not_null = true, .has_default = true, .labels = labels,
	 .label_count = 2},
	{.num = NOTE, .name = "note", .kind = KIND_TEXT},
	{.num = 5, .name = "area", .kind = KIND_INT},
	{.num = 6, .name = "price", .kind = KIND_INT, .read_only = true},
};
static const struct schema_column lead_columns[] = {{.num = NAME, .name = "unit", .kind = KIND_UUID, .ref_table = UNITS}};
static const struct schema_table tables[] = {
	{.table = UNITS, .name = "units", .writable = true, .rank = 0, .columns = unit_columns, .column_count = 5},
	{.table = LEADS, .name = "leads", .writable = true, .rank = 1, .columns = lead_columns, .column_count = 1},
	{.table = CODES, .name = "codes", .writable = false, .rank = 0, .columns = lead_columns, .column_count = 1},
};
static const struct schema schema = {.hash = 1, .tables = tables, .table_count = 3};

static struct merge *merge;
static struct merge_outcome outcome;
static struct value loaded_cells[64][5];
static unsigned loaded_count;

static int set_up(void **state)
{
	(void)state;
	merge = merge_new(&schema, 1 << 24);
	loaded_count = 0;
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

static struct value text(const char *t)
{
	return value_text(t, strlen(t));
}

static struct version version(int64_t position, uint8_t author, int64_t number, int64_t at)
{
	/* id(HUB) is the zero uuid */
	return (struct version){.position = position, .at = at, .author = id(author), .number = number};
}

/* A unit (name "old", status free, note "-", area 1) as the hub has it. */
static struct merge_row *unit(uint8_t key, struct version v)
{
	static struct merge_row row;
	struct value *cells = loaded_cells[loaded_count++];

	cells[0] = text("old");
	cells[1] = text("free");
	cells[2] = text("-");
	cells[3] = value_int(1);
	cells[4] = value_int(100);
	row = (struct merge_row){.table = UNITS, .key = id(key), .exists = true, .known = true, .version = v, .born = 1,
				 .cells = cells};
	return &row;
}

static void load(const struct merge_row *row)
{
	assert_int_equal(merge_row(merge, row), FERRY_OK);
}

static void load_none(uint8_t key)
{
	load(&(struct merge_row){.table = UNITS, .key = id(key)});
}

/* One-row change-sets. Storage lives until the test ends: the merge borrows. */
struct one {
	struct uuid key;
	uint16_t nums[3];
	struct value cells[3];
	struct row_base base;
	struct block block;
	struct change_set set;
};
static struct one ones[64];

static struct one *one(unsigned slot, enum row_op op, uint8_t key, int64_t number, int64_t base)
{
	struct one *o = &ones[slot];

	memset(o, 0, sizeof(*o));
	o->key = id(key);
	o->block = (struct block){.table = UNITS, .op = op, .row_count = 1, .nums = o->nums, .keys = &o->key,
				  .cells = o->cells};
	o->set = (struct change_set){.number = number, .base_position = base, .at = 500, .blocks = &o->block,
				     .block_count = 1};
	return o;
}

static struct one *with(struct one *o, uint16_t num, struct value v)
{
	o->nums[o->block.column_count] = num;
	o->cells[o->block.column_count++] = v;
	return o;
}

static void apply(uint8_t author, struct one *o)
{
	struct uuid a = id(author);

	assert_int_equal(merge_apply(merge, &a, &o->set, NOW, &outcome), FERRY_OK);
}

static struct merge_writes take(void)
{
	struct merge_writes w;

	assert_int_equal(merge_take_writes(merge, &w), FERRY_OK);
	return w;
}

static void assert_text(struct value v, const char *expected)
{
	assert_int_equal(v.kind, VALUE_TEXT);
	assert_int_equal(v.n, strlen(expected));
	assert_memory_equal(v.p, expected, v.n);
}

static void assert_one_write(enum row_op op, uint16_t columns)
{
	struct merge_writes w = take();

	assert_int_equal(w.write_count, 1);
	assert_int_equal(w.writes[0].op, op);
	assert_int_equal(w.writes[0].column_count, columns);
	assert_int_equal(w.writes[0].row_count, 1);
}

static void assert_no_writes(void)
{
	assert_int_equal(take().write_count, 0);
}

static struct one *insert(unsigned slot, uint8_t key, int64_t number, int64_t base, const char *name)
{
	return with(one(slot, ROW_INSERT, key, number, base), NAME, text(name));
}

static struct one *rename_unit(unsigned slot, uint8_t key, int64_t number, int64_t base, const char *name)
{
	return with(one(slot, ROW_UPDATE, key, number, base), NAME, text(name));
}

#endif
