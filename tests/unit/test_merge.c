/* The merge's truth table (hub/merge.h), row by row, and its rules by name. */
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
static struct version loaded_versions[64][5];
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

static void load_unit_with_version(uint8_t key, int column, struct version v)
{
	struct merge_row *row = unit(key, version(1, HUB, 0, 10));

	for (int c = 0; c < 5; c++)
		loaded_versions[loaded_count][c] = row->version;
	loaded_versions[loaded_count][column] = v;
	row->column_versions = loaded_versions[loaded_count];
	load(row);
}

static void load_none(uint8_t key)
{
	load(&(struct merge_row){.table = UNITS, .key = id(key)});
}

static void load_deleted(uint8_t key, struct version v)
{
	load(&(struct merge_row){.table = UNITS, .key = id(key), .known = true, .version = v});
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

static struct one *with_base(struct one *o, uint16_t num, int64_t position)
{
	o->base = (struct row_base){.row = 0, .num = num, .position = position};
	o->block.bases = &o->base;
	o->block.base_count = 1;
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

static void assert_rejected(int code, const char *mentions)
{
	assert_int_equal(outcome.verdict, VERDICT_REJECTED);
	assert_int_equal(outcome.code, code);
	assert_non_null(strstr(outcome.why.text, mentions));
	assert_int_equal(outcome.conflict_count, 0);
	assert_no_writes();
}

static struct one *insert(unsigned slot, uint8_t key, int64_t number, int64_t base, const char *name)
{
	return with(one(slot, ROW_INSERT, key, number, base), NAME, text(name));
}

static struct one *rename_unit(unsigned slot, uint8_t key, int64_t number, int64_t base, const char *name)
{
	return with(one(slot, ROW_UPDATE, key, number, base), NAME, text(name));
}

/* Who wrote what a conflict met. */
static void assert_other(uint32_t conflict, uint8_t author)
{
	struct uuid expected = id(author);

	assert_true(uuid_equal(&outcome.conflicts[conflict].other, &expected));
}

/* --- the table --- */

static void insert_of_a_row_that_never_was_is_a_new_row(void **state)
{
	(void)state;
	load_none(1);
	apply(1, insert(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.rows_changed, 1);
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_INSERT, 1);
}

static void insert_after_a_seen_delete_is_a_new_row(void **state)
{
	(void)state;
	load_deleted(1, version(5, 2, 3, 400));
	apply(1, insert(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_INSERT, 1);
}

static void insert_after_an_own_delete_is_a_new_row(void **state)
{
	(void)state;
	load_deleted(1, version(9, 1, 3, 400));
	apply(1, insert(0, 1, 4, 5, "new"));
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_INSERT, 1);
}

static void insert_after_an_unseen_delete_stands_and_keeps_a_conflict(void **state)
{
	(void)state;
	load_deleted(1, version(6, 2, 3, 400));
	apply(1, insert(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 1);
	assert_int_equal(outcome.conflicts[0].kind, CONFLICT_UPDATE_DELETE);
	assert_int_equal(outcome.conflicts[0].num, 0);
	assert_true(outcome.conflicts[0].device_won);
	assert_other(0, 2);
	assert_one_write(ROW_INSERT, 1);
}

static void insert_over_an_own_earlier_row_updates_it(void **state)
{
	struct merge_row *row;

	(void)state;
	row = unit(1, version(9, 1, 3, 400));
	row->born = 9;
	row->born_author = id(1);
	row->born_number = 3;
	load(row);
	apply(1, with(insert(0, 1, 4, 5, "again"), NOTE, text("-")));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_UPDATE, 1);
}

static void insert_over_anothers_row_merges_each_column_as_concurrent(void **state)
{
	struct merge_row *row;

	(void)state;
	row = unit(1, version(9, 2, 3, 600)); /* later than this edit's 500 */
	row->born = 9;
	load(row);
	apply(1, with(insert(0, 1, 4, 5, "mine"), NOTE, text("-")));
	assert_int_equal(outcome.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(outcome.conflict_count, 1);
	assert_int_equal(outcome.conflicts[0].num, NAME);
	assert_false(outcome.conflicts[0].device_won);
	assert_text(outcome.conflicts[0].device_value, "mine");
	assert_text(outcome.conflicts[0].hub_value, "old");
	assert_no_writes();
}

static void conflict_with_the_hubs_own_edit_names_no_device(void **state)
{
	(void)state;
	load(unit(1, version(9, 0, 0, 501)));
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.conflict_count, 1);
	assert_other(0, 0);
}

static void update_of_a_seen_column_stands(void **state)
{
	struct merge_writes w;

	(void)state;
	load(unit(1, version(5, 2, 3, 900)));
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 0);
	w = take();
	assert_int_equal(w.write_count, 1);
	assert_int_equal(w.writes[0].nums[0], NAME);
	assert_text(w.writes[0].cells[0], "new");
	assert_int_equal(w.stamp_count, 1);
	assert_int_equal(w.stamps[w.writes[0].stamps[0]].number, 1);
	assert_int_equal(w.stamps[w.writes[0].stamps[0]].at, 500);
}

static void update_to_the_hubs_own_value_is_neither_write_nor_conflict(void **state)
{
	(void)state;
	load(unit(1, version(9, 2, 3, 900)));
	apply(1, rename_unit(0, 1, 1, 5, "old"));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 0);
	assert_int_equal(outcome.rows_changed, 0);
	assert_no_writes();
}

static void concurrent_updates_of_different_columns_both_stand(void **state)
{
	(void)state;
	load_unit_with_version(1, 2, version(9, 2, 3, 900)); /* note */
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_UPDATE, 1);
}

static void later_of_two_concurrent_updates_stands(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, 2, 3, 499));
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 1);
	assert_true(outcome.conflicts[0].device_won);
	assert_text(outcome.conflicts[0].hub_value, "old");
	assert_one_write(ROW_UPDATE, 1);
}

static void earlier_of_two_concurrent_updates_is_kept_as_conflict(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, 2, 3, 501));
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(outcome.conflict_count, 1);
	assert_other(0, 2);
	assert_int_equal(outcome.conflicts[0].kind, CONFLICT_UPDATE_UPDATE);
	assert_text(outcome.conflicts[0].device_value, "new");
	assert_no_writes();
}

static void tie_of_clocks_is_broken_by_author(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, 2, 3, 500));
	apply(1, rename_unit(0, 1, 1, 5, "lower"));
	assert_false(outcome.conflicts[0].device_won);
	apply(3, rename_unit(1, 1, 1, 5, "higher"));
	assert_true(outcome.conflicts[0].device_won);
	assert_one_write(ROW_UPDATE, 1);
}

static void R4_update_of_a_row_born_after_the_base_is_a_conflict(void **state)
{
	struct merge_row *row;

	(void)state;
	row = unit(1, version(9, 2, 3, 100));
	row->born = 9;
	row->born_author = id(2);
	row->born_number = 3;
	load(row);
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(outcome.conflicts[0].kind, CONFLICT_UPDATE_DELETE);
	assert_text(outcome.conflicts[0].device_value, "new");
	assert_text(outcome.conflicts[0].hub_value, "old");
	assert_no_writes();
}

static void R4_own_row_that_is_not_confirmed_yet_goes_on_being_edited(void **state)
{
	struct merge_row *row;

	(void)state;
	row = unit(1, version(9, 2, 8, 100)); /* another changed all of it since */
	row->born = 8;
	row->born_author = id(1);
	row->born_number = 1;
	load(row);
	apply(1, rename_unit(0, 1, 2, 5, "new"));
	assert_int_equal(outcome.conflict_count, 1);
	assert_int_equal(outcome.conflicts[0].kind, CONFLICT_UPDATE_UPDATE);
	assert_true(outcome.conflicts[0].device_won);
}

static void R4_own_birth_is_known_by_what_is_left_of_it(void **state)
{
	struct merge_row *row;

	(void)state;
	row = unit(1, version(9, 1, 1, 100)); /* born_author not given */
	row->born = 9;
	load(row);
	apply(1, rename_unit(0, 1, 2, 5, "new"));
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_UPDATE, 1);
}

static void R4_update_of_a_deleted_row_is_kept_column_by_column(void **state)
{
	(void)state;
	load_deleted(1, version(9, 2, 3, 100));
	apply(1, with(rename_unit(0, 1, 1, 5, "new"), NOTE, text("n")));
	assert_int_equal(outcome.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(outcome.conflict_count, 2);
	assert_int_equal(outcome.conflicts[0].kind, CONFLICT_UPDATE_DELETE);
	assert_other(0, 2);
	assert_int_equal(outcome.conflicts[1].num, NOTE);
	assert_text(outcome.conflicts[1].device_value, "n");
	assert_int_equal(outcome.conflicts[1].hub_value.kind, VALUE_NULL);
	assert_no_writes();
}

static void update_of_a_row_that_never_was_is_kept(void **state)
{
	(void)state;
	load_none(1);
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(outcome.conflict_count, 1);
	assert_no_writes();
}

static void delete_of_a_row_all_seen_deletes(void **state)
{
	(void)state;
	load(unit(1, version(5, 2, 3, 900)));
	apply(1, one(0, ROW_DELETE, 1, 1, 5));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_DELETE, 0);
}

static void delete_that_meets_an_unseen_change_deletes_and_keeps_the_row(void **state)
{
	(void)state;
	load_unit_with_version(1, 2, version(9, 2, 3, 900)); /* note */
	apply(1, one(0, ROW_DELETE, 1, 1, 5));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(outcome.conflicts[i].kind, CONFLICT_DELETE_UPDATE);
		assert_true(outcome.conflicts[i].device_won);
		assert_int_equal(outcome.conflicts[i].num, NAME + (int)i);
	}
	assert_text(outcome.conflicts[2].hub_value, "-");
	assert_one_write(ROW_DELETE, 0);
}

static void R4_delete_of_a_row_born_after_the_base_changes_nothing(void **state)
{
	struct merge_row *row;

	(void)state;
	row = unit(1, version(9, 2, 3, 100));
	row->born = 9;
	row->born_author = id(2);
	load(row);
	apply(1, one(0, ROW_DELETE, 1, 1, 5));
	assert_int_equal(outcome.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(outcome.conflict_count, 1);
	assert_int_equal(outcome.conflicts[0].kind, CONFLICT_DELETE_UPDATE);
	assert_false(outcome.conflicts[0].device_won);
	assert_no_writes();
}

static void delete_of_no_row_is_nothing_to_do(void **state)
{
	(void)state;
	load_deleted(1, version(9, 2, 3, 100));
	apply(1, one(0, ROW_DELETE, 1, 1, 5));
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	assert_int_equal(outcome.conflict_count, 0);
	assert_no_writes();
}

/* --- the rules --- */

static void R1_a_cells_own_older_base_makes_it_concurrent(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, 2, 3, 900));
	/* The device is at 10, but this column's pending edit began at 5. */
	apply(1, with_base(rename_unit(0, 1, 1, 10, "new"), NAME, 5));
	assert_int_equal(outcome.conflict_count, 1);
	apply(1, with(one(1, ROW_UPDATE, 1, 2, 10), NOTE, text("n")));
	assert_int_equal(outcome.conflict_count, 0);
}

static void R1_a_deletes_own_older_base_counts(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, 2, 3, 900));
	apply(1, with_base(one(0, ROW_DELETE, 1, 1, 10), 0, 5));
	assert_int_equal(outcome.conflict_count, 5);
}

static void R2_own_earlier_edit_is_seen_below_the_position(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, 1, 3, 900));
	apply(1, rename_unit(0, 1, 4, 5, "new"));
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_UPDATE, 1);
}

static void R2_own_later_edit_is_not_seen(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, 1, 5, 900));
	apply(1, rename_unit(0, 1, 4, 5, "new"));
	assert_int_equal(outcome.conflict_count, 1);
}

static void R2_what_a_trigger_made_of_an_own_edit_is_the_hubs(void **state)
{
	(void)state;
	load_unit_with_version(1, 0, version(9, HUB, 0, 900));
	apply(1, rename_unit(0, 1, 4, 5, "new"));
	assert_int_equal(outcome.conflict_count, 1);
	assert_false(outcome.conflicts[0].device_won);
}

static void P10_a_stamp_from_the_future_counts_as_now(void **state)
{
	struct merge_writes w;
	struct one *o;

	(void)state;
	load_unit_with_version(1, 0, version(9, 2, 3, NOW));
	o = rename_unit(0, 1, 1, 5, "ahead");
	o->set.at = INT64_MAX;
	apply(1, o);
	assert_false(outcome.conflicts[0].device_won); /* a tie at NOW, decided by author 1 < 2 */
	o = rename_unit(1, 1, 1, 5, "ahead");
	o->set.at = INT64_MAX;
	apply(3, o);
	assert_true(outcome.conflicts[0].device_won);
	w = take();
	assert_int_equal(w.stamps[0].at, NOW);
}

static void a_base_from_the_future_does_not_see_this_batch(void **state)
{
	(void)state;
	load(unit(1, version(5, HUB, 0, 10)));
	apply(1, rename_unit(0, 1, 1, 5, "first"));
	apply(2, rename_unit(1, 1, 1, INT64_MAX, "second"));
	assert_int_equal(outcome.conflict_count, 1);
}

/* --- in a batch --- */

static void batch_second_device_meets_the_first_as_concurrent(void **state)
{
	struct merge_writes w;

	(void)state;
	load(unit(1, version(5, HUB, 0, 10)));
	apply(1, rename_unit(0, 1, 1, 5, "first"));
	apply(2, rename_unit(1, 1, 1, 5, "second"));
	assert_int_equal(outcome.conflict_count, 1);
	assert_true(outcome.conflicts[0].device_won);
	assert_text(outcome.conflicts[0].hub_value, "first");
	w = take();
	assert_int_equal(w.write_count, 1);
	assert_int_equal(w.stamp_count, 1);
	assert_text(w.writes[0].cells[0], "second");
}

static void batch_same_device_builds_on_itself(void **state)
{
	(void)state;
	load_none(1);
	apply(1, insert(0, 1, 1, 5, "a"));
	apply(1, rename_unit(1, 1, 2, 5, "b"));
	assert_int_equal(outcome.conflict_count, 0);
	apply(1, one(2, ROW_DELETE, 1, 3, 5));
	assert_int_equal(outcome.conflict_count, 0);
	assert_no_writes();
}

static void batch_insert_and_later_update_are_an_insert_and_an_update_with_their_own_stamps(void **state)
{
	struct merge_writes w;

	(void)state;
	load_none(1);
	apply(1, insert(0, 1, 1, 5, "a"));
	apply(2, rename_unit(1, 1, 1, 5, "b"));
	/* Device 2 never saw the row: the edit is kept, the row stays. */
	assert_int_equal(outcome.conflicts[0].kind, CONFLICT_UPDATE_DELETE);
	apply(1, with(rename_unit(2, 1, 2, 5, "c"), NOTE, text("n")));
	w = take();
	assert_int_equal(w.write_count, 2);
	assert_int_equal(w.writes[0].op, ROW_INSERT);
	assert_text(w.writes[0].cells[0], "a");
	assert_int_equal(w.stamps[w.writes[0].stamps[0]].number, 1);
	assert_int_equal(w.writes[1].op, ROW_UPDATE);
	assert_int_equal(w.writes[1].column_count, 2);
	assert_int_equal(w.stamps[w.writes[1].stamps[0]].number, 2);
}

static void batch_delete_and_new_insert_come_out_as_delete_before_insert(void **state)
{
	struct merge_writes w;

	(void)state;
	load(unit(1, version(5, HUB, 0, 10)));
	load(unit(2, version(5, HUB, 0, 10)));
	apply(1, one(0, ROW_DELETE, 1, 1, 5));
	apply(1, insert(1, 1, 2, 5, "anew"));
	apply(1, one(2, ROW_DELETE, 2, 3, 5));
	w = take();
	assert_int_equal(w.write_count, 3);
	assert_int_equal(w.writes[0].op, ROW_DELETE);
	assert_true(uuid_equal(&w.writes[0].keys[0], &ones[0].key));
	assert_int_equal(w.writes[1].op, ROW_INSERT);
	assert_int_equal(w.writes[2].op, ROW_DELETE);
}

static void batch_cells_of_two_authors_in_one_row_are_two_writes(void **state)
{
	struct merge_writes w;

	(void)state;
	load(unit(1, version(5, HUB, 0, 10)));
	apply(1, rename_unit(0, 1, 1, 5, "a"));
	apply(2, with(one(1, ROW_UPDATE, 1, 1, 5), NOTE, text("b")));
	assert_int_equal(outcome.conflict_count, 0);
	w = take();
	assert_int_equal(w.write_count, 2);
	assert_int_equal(w.stamp_count, 2);
}

static void batch_writes_are_grouped_and_ordered_by_rank(void **state)
{
	static struct uuid lead_keys[2];
	static const uint16_t num = NAME;
	static struct value refs[2];
	struct block block = {.table = LEADS, .op = ROW_INSERT, .column_count = 1, .row_count = 2, .nums = &num,
			      .keys = lead_keys, .cells = refs};
	struct change_set set = {.number = 1, .base_position = 5, .at = 1, .blocks = &block, .block_count = 1};
	struct uuid author = id(1);
	struct merge_writes w;

	(void)state;
	for (uint8_t i = 0; i < 2; i++) {
		lead_keys[i] = id((uint8_t)(20 + i));
		refs[i] = value_bytes(lead_keys[i].b, 16);
		load(&(struct merge_row){.table = LEADS, .key = lead_keys[i]});
	}
	load_none(1);
	assert_int_equal(merge_apply(merge, &author, &set, NOW, &outcome), FERRY_OK);
	apply(1, insert(0, 1, 2, 5, "parent"));
	w = take();
	assert_int_equal(w.write_count, 2);
	assert_int_equal(w.writes[0].table, UNITS);
	assert_int_equal(w.writes[1].table, LEADS);
	assert_int_equal(w.writes[1].row_count, 2);
	assert_memory_equal(w.writes[1].cells[1].p, lead_keys[1].b, 16);
}

static void later_take_gives_only_what_came_since(void **state)
{
	struct merge_writes w;

	(void)state;
	load_none(1);
	apply(1, insert(0, 1, 1, 5, "a"));
	assert_one_write(ROW_INSERT, 1);
	assert_no_writes();
	apply(1, rename_unit(1, 1, 2, 5, "b"));
	assert_int_equal(outcome.conflict_count, 0);
	w = take();
	assert_int_equal(w.write_count, 1);
	assert_int_equal(w.writes[0].op, ROW_UPDATE);
	apply(1, one(2, ROW_DELETE, 1, 3, 5));
	assert_one_write(ROW_DELETE, 0);
}

static void left_out_column_is_the_hubs_default_until_somebody_sets_it(void **state)
{
	struct merge_writes w;

	(void)state;
	load_none(1);
	/* NULL for a required column with a default means: the hub's. */
	apply(1, with(insert(0, 1, 1, 5, "a"), STATUS, value_null()));
	apply(1, with(one(1, ROW_UPDATE, 1, 2, 5), NOTE, value_null())); /* no default: it is NULL already */
	assert_int_equal(outcome.rows_changed, 0);
	apply(1, with(one(2, ROW_UPDATE, 1, 3, 5), STATUS, text("free"))); /* may differ from the default */
	assert_int_equal(outcome.rows_changed, 1);
	assert_int_equal(outcome.conflict_count, 0);
	w = take();
	assert_int_equal(w.writes[0].column_count, 1);
	assert_int_equal(w.write_count, 2);
}

/* --- refusals --- */

static void refuses_what_the_schema_does_not_allow(void **state)
{
	struct one *o;

	(void)state;
	load(unit(1, version(5, HUB, 0, 10)));
	load_none(2);

	o = rename_unit(0, 1, 1, 5, "x");
	o->block.table = 99;
	apply(1, o);
	assert_rejected(FERRY_UNKNOWN_TABLE, "99");
	o = rename_unit(1, 1, 1, 5, "x");
	o->block.table = CODES;
	apply(1, o);
	assert_rejected(FERRY_UNKNOWN_TABLE, "codes");
	apply(1, with(one(2, ROW_UPDATE, 1, 1, 5), 77, value_int(1)));
	assert_rejected(FERRY_UNKNOWN_COLUMN, "77");
	apply(1, with(one(3, ROW_UPDATE, 1, 1, 5), 6, value_int(1)));
	assert_rejected(FERRY_UNKNOWN_COLUMN, "units.price");
	apply(1, with(one(4, ROW_UPDATE, 1, 1, 5), NAME, value_int(1)));
	assert_rejected(FERRY_BAD_VALUE, "units.name");
	apply(1, with(one(5, ROW_UPDATE, 1, 1, 5), NOTE, value_text("a\0b", 3)));
	assert_rejected(FERRY_NUL_IN_TEXT, "units.note");
	apply(1, with(one(6, ROW_UPDATE, 1, 1, 5), STATUS, text("gone")));
	assert_rejected(FERRY_BAD_VALUE, "units.status");
	apply(1, with(one(7, ROW_UPDATE, 1, 1, 5), NAME, value_null()));
	assert_rejected(FERRY_NOT_NULL, "units.name");
	apply(1, with(one(8, ROW_INSERT, 2, 1, 5), NOTE, text("n")));
	assert_rejected(FERRY_NOT_NULL, "units.name");
	apply(1, one(9, ROW_LEFT, 1, 1, 5));
	assert_rejected(FERRY_BAD_VALUE, "units");
	apply(1, with(rename_unit(10, 1, 1, 5, "x"), NAME, text("y")));
	assert_rejected(FERRY_BAD_VALUE, "units");
}

static void rejection_costs_the_others_of_the_batch_nothing(void **state)
{
	struct merge_writes w;
	struct uuid author = id(1);
	struct one *good, *bad;
	struct block blocks[2];
	struct change_set set;

	(void)state;
	load_none(1);
	load_none(2);
	good = insert(0, 1, 1, 5, "a");
	bad = with(one(1, ROW_INSERT, 2, 1, 5), NOTE, text("n"));
	blocks[0] = good->block;
	blocks[1] = bad->block;
	set = good->set;
	set.blocks = blocks;
	set.block_count = 2;
	assert_int_equal(merge_apply(merge, &author, &set, NOW, &outcome), FERRY_OK);
	assert_int_equal(outcome.verdict, VERDICT_REJECTED);
	apply(2, insert(2, 2, 1, 5, "b"));
	w = take();
	assert_int_equal(w.write_count, 1);
	assert_text(w.writes[0].cells[0], "b");
}

static void rejection_of_a_later_part_takes_the_earlier_back(void **state)
{
	struct one *o;

	(void)state;
	load(unit(1, version(5, HUB, 0, 10)));
	load_none(2);
	load_none(3);
	apply(2, rename_unit(9, 1, 1, 5, "other"));
	o = rename_unit(0, 1, 1, 5, "part");
	o->set.more = true;
	o->set.at = 600;
	apply(1, o);
	assert_int_equal(outcome.verdict, VERDICT_ACCEPTED);
	o = with(one(1, ROW_INSERT, 2, 1, 5), NOTE, text("n"));
	o->set.part = 1;
	o->set.more = true;
	apply(1, o);
	assert_int_equal(outcome.code, FERRY_NOT_NULL);
	o = insert(2, 3, 1, 5, "tail");
	o->set.part = 2;
	apply(1, o);
	assert_int_equal(outcome.code, FERRY_NOT_NULL); /* the whole change-set's verdict */
	{
		struct merge_writes w = take();

		assert_int_equal(w.write_count, 1);
		assert_text(w.writes[0].cells[0], "other");
		assert_int_equal(w.writes[0].row_count, 1);
	}
}

static void R7_parts_that_are_all_good_come_out_as_one(void **state)
{
	struct merge_writes w;
	struct one *o;

	(void)state;
	load_none(2);
	load_none(3);
	o = insert(0, 2, 1, 5, "a");
	o->set.more = true;
	apply(1, o);
	o = insert(1, 3, 1, 5, "b");
	o->set.part = 1;
	apply(1, o);
	w = take();
	assert_int_equal(w.write_count, 1);
	assert_int_equal(w.writes[0].row_count, 2);
	assert_int_equal(w.stamp_count, 1);
}

/* --- loading and limits --- */

struct wanted {
	unsigned calls, keys;
};

static void count_wanted(void *ctx, uint32_t table, const struct uuid *keys, uint32_t count)
{
	struct wanted *w = ctx;

	assert_int_equal(table, UNITS);
	assert_non_null(keys);
	w->calls++;
	w->keys += count;
}

static void wants_only_rows_that_were_not_given(void **state)
{
	struct uuid keys[4];
	struct block block = {.table = UNITS, .op = ROW_DELETE, .row_count = 4, .keys = keys};
	struct change_set set = {.blocks = &block, .block_count = 1};
	struct wanted w = {0, 0};

	(void)state;
	for (uint8_t i = 0; i < 4; i++)
		keys[i] = id((uint8_t)(i + 1));
	merge_wants(merge, &set, count_wanted, &w);
	assert_int_equal(w.calls, 1);
	assert_int_equal(w.keys, 4);
	load_none(2);
	w = (struct wanted){0, 0};
	merge_wants(merge, &set, count_wanted, &w);
	assert_int_equal(w.calls, 2);
	assert_int_equal(w.keys, 3);
	block.table = 99;
	w = (struct wanted){0, 0};
	merge_wants(merge, &set, count_wanted, &w);
	assert_int_equal(w.calls, 0);
}

static void row_given_twice_keeps_the_first_state(void **state)
{
	(void)state;
	load(unit(1, version(5, HUB, 0, 10)));
	load_none(1);
	apply(1, rename_unit(0, 1, 1, 5, "new"));
	assert_int_equal(outcome.conflict_count, 0);
	assert_one_write(ROW_UPDATE, 1);
}

static void row_that_was_not_loaded_is_an_internal_error(void **state)
{
	struct uuid author = id(1);
	struct one *o = rename_unit(0, 1, 1, 5, "new");

	(void)state;
	assert_int_equal(merge_apply(merge, &author, &o->set, NOW, &outcome), FERRY_INTERNAL);
}

static void full_merge_answers_limit_and_keeps_what_stood(void **state)
{
	static struct one many[2000];
	struct merge *small = merge_new(&schema, 200000);
	struct uuid author = id(1);
	enum ferry_error e = FERRY_OK;
	struct merge_writes w;
	uint32_t applied = 0;

	(void)state;
	for (unsigned i = 0; i < 2000 && e == FERRY_OK; i++) {
		struct merge_row row = {.table = UNITS};

		row.key = (struct uuid){.b = {(uint8_t)i, (uint8_t)(i >> 8)}};
		many[i] = *insert(0, 1, 1 + (int64_t)i, 5, "a");
		many[i].key = row.key;
		many[i].block.nums = many[i].nums;
		many[i].block.keys = &many[i].key;
		many[i].block.cells = many[i].cells;
		many[i].set.blocks = &many[i].block;
		e = merge_row(small, &row);
		if (e == FERRY_OK)
			e = merge_apply(small, &author, &many[i].set, NOW, &outcome);
		if (e == FERRY_OK)
			applied++;
	}
	assert_int_equal(e, FERRY_LIMIT);
	assert_true(applied > 100);
	assert_int_equal(merge_take_writes(small, &w), FERRY_OK);
	assert_int_equal(w.write_count, 1);
	assert_int_equal(w.writes[0].row_count, applied);
	merge_free(small);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(insert_of_a_row_that_never_was_is_a_new_row),
		T(insert_after_a_seen_delete_is_a_new_row),
		T(insert_after_an_own_delete_is_a_new_row),
		T(insert_after_an_unseen_delete_stands_and_keeps_a_conflict),
		T(insert_over_an_own_earlier_row_updates_it),
		T(insert_over_anothers_row_merges_each_column_as_concurrent),
		T(update_of_a_seen_column_stands),
		T(update_to_the_hubs_own_value_is_neither_write_nor_conflict),
		T(concurrent_updates_of_different_columns_both_stand),
		T(later_of_two_concurrent_updates_stands),
		T(earlier_of_two_concurrent_updates_is_kept_as_conflict),
		T(conflict_with_the_hubs_own_edit_names_no_device),
		T(tie_of_clocks_is_broken_by_author),
		T(R4_update_of_a_row_born_after_the_base_is_a_conflict),
		T(R4_own_row_that_is_not_confirmed_yet_goes_on_being_edited),
		T(R4_own_birth_is_known_by_what_is_left_of_it),
		T(R4_update_of_a_deleted_row_is_kept_column_by_column),
		T(update_of_a_row_that_never_was_is_kept),
		T(delete_of_a_row_all_seen_deletes),
		T(delete_that_meets_an_unseen_change_deletes_and_keeps_the_row),
		T(R4_delete_of_a_row_born_after_the_base_changes_nothing),
		T(delete_of_no_row_is_nothing_to_do),
		T(R1_a_cells_own_older_base_makes_it_concurrent),
		T(R1_a_deletes_own_older_base_counts),
		T(R2_own_earlier_edit_is_seen_below_the_position),
		T(R2_own_later_edit_is_not_seen),
		T(R2_what_a_trigger_made_of_an_own_edit_is_the_hubs),
		T(P10_a_stamp_from_the_future_counts_as_now),
		T(a_base_from_the_future_does_not_see_this_batch),
		T(batch_second_device_meets_the_first_as_concurrent),
		T(batch_same_device_builds_on_itself),
		T(batch_insert_and_later_update_are_an_insert_and_an_update_with_their_own_stamps),
		T(batch_delete_and_new_insert_come_out_as_delete_before_insert),
		T(batch_cells_of_two_authors_in_one_row_are_two_writes),
		T(batch_writes_are_grouped_and_ordered_by_rank),
		T(later_take_gives_only_what_came_since),
		T(left_out_column_is_the_hubs_default_until_somebody_sets_it),
		T(refuses_what_the_schema_does_not_allow),
		T(rejection_costs_the_others_of_the_batch_nothing),
		T(rejection_of_a_later_part_takes_the_earlier_back),
		T(R7_parts_that_are_all_good_come_out_as_one),
		T(wants_only_rows_that_were_not_given),
		T(row_given_twice_keeps_the_first_state),
		T(row_that_was_not_loaded_is_an_internal_error),
		T(full_merge_answers_limit_and_keeps_what_stood),
	};

	return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
