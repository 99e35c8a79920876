/* Several change-sets in one merge: they meet each other, are refused alone, and have their limits. */
#include "tests/unit/merge_fixture.h"

static void assert_rejected(int code, const char *mentions)
{
	assert_int_equal(outcome.verdict, VERDICT_REJECTED);
	assert_int_equal(outcome.code, code);
	assert_non_null(strstr(outcome.why.text, mentions));
	assert_int_equal(outcome.conflict_count, 0);
	assert_no_writes();
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
