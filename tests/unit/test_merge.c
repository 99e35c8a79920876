/* The merge's truth table (hub/merge.h), row by row, and its rules by name. */
#include "tests/unit/merge_fixture.h"

static struct version loaded_versions[64][5];

static void load_unit_with_version(uint8_t key, int column, struct version v)
{
	struct merge_row *row = unit(key, version(1, HUB, 0, 10));

	for (int c = 0; c < 5; c++)
		loaded_versions[loaded_count][c] = row->version;
	loaded_versions[loaded_count][column] = v;
	row->column_versions = loaded_versions[loaded_count];
	load(row);
}

static void load_deleted(uint8_t key, struct version v)
{
	load(&(struct merge_row){.table = UNITS, .key = id(key), .known = true, .version = v});
}

static struct one *with_base(struct one *o, uint16_t num, int64_t position)
{
	o->base = (struct row_base){.row = 0, .num = num, .position = position};
	o->block.bases = &o->base;
	o->block.base_count = 1;
	return o;
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
	};

	return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
