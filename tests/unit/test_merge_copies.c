/* R2 with copies of a device's replica: what another copy pushed under the device's name is not the
 * author's own, and was not seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/merge.h"

#define UNITS 7u
#define NAME 2
#define BASE 10  /* what the copy had seen */
#define LATER 20 /* where the other copy's change-set 5 stands */

static const struct schema_column columns[] = {{.num = NAME, .name = "name", .kind = KIND_TEXT}};
static const struct schema_table tables[] = {{.table = UNITS, .name = "units", .writable = true, .columns = columns, .column_count = 1}};
static const struct schema schema = {.hash = 1, .tables = tables, .table_count = 1};
static const struct uuid unit = {.b = {1}}, device = {.b = {2}};

static struct value text(const char *t)
{
	return value_text(t, strlen(t));
}

/* What a merge borrows has to last: one row and one change-set for each merge. */

static void load(struct merge *m, int64_t number, int64_t born)
{
	static const struct version seen = {.position = 1, .at = 1};
	static struct value name;
	static struct version v;

	name = text("the other copy's");
	v = (struct version){.position = LATER, .at = 500, .author = device, .number = number};
	const struct merge_row row = {.table = UNITS, .key = unit, .exists = true, .known = true, .version = born == LATER ? v : seen,
				      .born = born, .born_author = born == LATER ? device : (struct uuid){{0}}, .born_number = number,
				      .cells = &name, .column_versions = &v};

	assert_int_equal(merge_row(m, &row), FERRY_OK);
}

static struct merge_outcome apply(struct merge *m, int64_t number, enum row_op op, int64_t at)
{
	static const uint16_t num = NAME;
	static struct value name;
	static struct block b;
	static struct change_set s;
	struct merge_outcome o;

	name = text("this copy's");
	b = (struct block){.table = UNITS, .op = op, .column_count = op == ROW_DELETE ? 0 : 1, .row_count = 1, .nums = &num,
			   .keys = &unit, .cells = &name};
	s = (struct change_set){.number = number, .base_position = BASE, .at = at, .blocks = &b, .block_count = 1};
	assert_int_equal(merge_apply(m, &device, &s, 1000, &o), FERRY_OK);
	return o;
}

static void R2_what_another_copy_wrote_is_kept_as_a_conflict(void **state)
{
	struct merge *m = merge_new(&schema, 1 << 20);
	struct merge_outcome o;

	(void)state;
	load(m, 5, 1);
	merge_apart(m, 6);
	o = apply(m, 7, ROW_UPDATE, 900);
	assert_int_equal(o.conflict_count, 1);
	assert_true(o.conflicts[0].device_won);
	assert_memory_equal(o.conflicts[0].hub_value.p, "the other copy's", 16);
	merge_free(m);
}

static void R2_the_later_of_two_copies_edits_stands(void **state)
{
	struct merge *m = merge_new(&schema, 1 << 20);
	struct merge_outcome o;

	(void)state;
	load(m, 5, 1);
	merge_apart(m, 6);
	o = apply(m, 7, ROW_UPDATE, 400);
	assert_int_equal(o.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(o.conflict_count, 1);
	assert_false(o.conflicts[0].device_won);
	merge_free(m);
}

static void R2_what_a_copy_wrote_since_it_is_alone_is_its_own(void **state)
{
	struct merge *m = merge_new(&schema, 1 << 20);

	(void)state;
	load(m, 7, 1);
	merge_apart(m, 6);
	assert_int_equal(apply(m, 8, ROW_UPDATE, 400).conflict_count, 0);
	merge_free(m);
}

/* Both copies have the row from the same file: it is no new life to either. */
static void R4_P10_of_two_copies_edits_of_a_row_that_one_of_them_pushed_the_later_stands(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		struct merge *m = merge_new(&schema, 1 << 20);
		struct merge_outcome o;

		load(m, 5, LATER);
		merge_apart(m, 6);
		o = apply(m, 7, ROW_UPDATE, late ? 900 : 400);
		assert_int_equal(o.conflict_count, 1);
		assert_int_equal(o.conflicts[0].kind, CONFLICT_UPDATE_UPDATE);
		assert_int_equal(o.conflicts[0].device_won, late);
		merge_free(m);
	}
}

static void R4_a_deletion_of_a_row_that_another_copy_pushed_keeps_what_that_wrote_P5(void **state)
{
	struct merge *m = merge_new(&schema, 1 << 20);
	struct merge_outcome o;

	(void)state;
	load(m, 5, LATER);
	merge_apart(m, 6);
	o = apply(m, 7, ROW_DELETE, 900);
	assert_int_equal(o.rows_changed, 1);
	assert_int_equal(o.conflict_count, 1);
	assert_memory_equal(o.conflicts[0].hub_value.p, "the other copy's", 16);
	merge_free(m);
}

static void R4_a_life_that_another_copy_began_under_a_later_number_was_not_seen(void **state)
{
	struct merge *m = merge_new(&schema, 1 << 20);

	(void)state;
	load(m, 8, LATER);
	merge_apart(m, 8);
	assert_int_equal(apply(m, 7, ROW_UPDATE, 900).rows_changed, 0);
	merge_free(m);
}

static void R2_without_copies_a_device_has_seen_its_own_edits(void **state)
{
	struct merge *m = merge_new(&schema, 1 << 20);

	(void)state;
	load(m, 5, 1);
	assert_int_equal(apply(m, 7, ROW_UPDATE, 400).conflict_count, 0);
	merge_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(R2_what_another_copy_wrote_is_kept_as_a_conflict),
		cmocka_unit_test(R2_the_later_of_two_copies_edits_stands),
		cmocka_unit_test(R2_what_a_copy_wrote_since_it_is_alone_is_its_own),
		cmocka_unit_test(R4_P10_of_two_copies_edits_of_a_row_that_one_of_them_pushed_the_later_stands),
		cmocka_unit_test(R4_a_deletion_of_a_row_that_another_copy_pushed_keeps_what_that_wrote_P5),
		cmocka_unit_test(R4_a_life_that_another_copy_began_under_a_later_number_was_not_seen),
		cmocka_unit_test(R2_without_copies_a_device_has_seen_its_own_edits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
