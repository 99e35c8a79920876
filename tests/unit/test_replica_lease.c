/* Numbers that a replica gives by itself: plain SQL of an app, ranges from
 * the hub (policy `sequence`). */
#include "tests/unit/replica_fixture.h"

#define NUMBER_COLUMN 3 /* units.code */

/* The fixture's schema with numbers in units.code, and ranges of four. */
static void number_units(struct fixture *f)
{
	struct schema_column columns[UNIT_COLUMNS];
	struct schema_table tables[2];
	struct schema schema = fixture_schema;

	memcpy(columns, unit_columns, sizeof(unit_columns));
	columns[1].policy = POLICY_SEQUENCE;
	columns[1].has_default = true;
	columns[1].lease = 4;
	memcpy(tables, fixture_tables, sizeof(fixture_tables));
	tables[1].columns = columns;
	schema.hash = 12;
	schema.tables = tables;
	fixture_welcome(f, WELCOME_FILL);
	assert_ok(replica_store_ops.schema(f->r, &schema, &fixture_why));
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
}

static int start(void **state)
{
	if (setup(state) != 0)
		return -1;
	number_units(*state);
	return 0;
}

static void grant(struct fixture *f, int64_t first, int64_t last, const char *head, int64_t until)
{
	const struct message_lease l = {.table = T_UNITS, .num = NUMBER_COLUMN, .first = first, .last = last, .step = 2,
					.padding = 3, .head = head, .tail = "/x", .until = until};

	assert_ok(replica_store_ops.lease(f->r, &l, &fixture_why));
}

static void insert(struct fixture *f, uint32_t n)
{
	app(f, "INSERT INTO units(id) VALUES ('%s')", unit(n));
}

/* Of the rows that were made here; the fixture's own are 1 to 5. */
#define assert_numbers(f, expected) \
	assert_says(f, expected, "SELECT group_concat(coalesce(code, '-'), ' ') FROM (SELECT code FROM units " \
				 "WHERE id > '%s' ORDER BY id)", unit(9))

static void numbers_are_taken_in_order_over_ranges_and_then_left_to_the_hub(void **state)
{
	struct fixture *f = *state;
	struct message_lease_ask asks[LEASE_ASKS_MAX];

	assert_int_equal(replica_store_ops.leases_due(f->r, asks), 1);
	assert_int_equal(asks[0].table, T_UNITS);
	assert_int_equal(asks[0].num, NUMBER_COLUMN);
	grant(f, 7, 11, "A-", 0);
	assert_int_equal(replica_store_ops.leases_due(f->r, asks), 0);
	grant(f, 998, 1000, "A-", 0);
	for (uint32_t n = 10; n < 16; n++)
		insert(f, n);
	assert_numbers(f, "A-007/x A-009/x A-011/x A-998/x A-1000/x -");
	assert_int_equal(replica_store_ops.leases_due(f->r, asks), 1);
	cut(f);
	assert_says(f, "6", "SELECT count(*) FROM ferry_outbox WHERE op = 'insert'");
	assert_says(f, "6", "SELECT count(*) FROM ferry_outbox");
}

static void a_range_is_not_used_after_its_end_nor_in_another_incarnation(void **state)
{
	struct fixture *f = *state;

	grant(f, 1, 3, "OLD-", 1000000);
	insert(f, 10);
	grant(f, 1, 3, "B-", 0);
	insert(f, 11);
	app(f, "UPDATE ferry_state SET incarnation = x'00000000000000000000000000000009'");
	insert(f, 12);
	assert_numbers(f, "- B-001/x -");
}

static void a_transaction_that_is_rolled_back_gives_its_numbers_back(void **state)
{
	struct fixture *f = *state;

	grant(f, 1, 9, "A-", 0);
	app(f, "BEGIN; INSERT INTO units(id) VALUES ('%s'); ROLLBACK", unit(10));
	insert(f, 11);
	assert_numbers(f, "A-001/x");
}

static void a_replaced_row_keeps_its_number_and_a_given_one_cannot_change(void **state)
{
	struct fixture *f = *state;

	grant(f, 1, 9, "A-", 0);
	insert(f, 10);
	app(f, "INSERT OR REPLACE INTO units(id, floor) VALUES ('%s', 3)", unit(10));
	insert(f, 11);
	assert_numbers(f, "A-001/x A-003/x");
	assert_int_not_equal(app_try(f, "UPDATE units SET code = 'mine' WHERE floor = 3"), FERRY_OK);
	app(f, "UPDATE units SET code = code, floor = 4 WHERE floor = 3");
	assert_numbers(f, "A-001/x A-003/x");
}

static void a_number_goes_to_the_hub_and_back_and_one_of_a_deleted_row_is_not_given_again(void **state)
{
	struct fixture *f = *state;

	grant(f, 1, 9, "A-", 0);
	insert(f, 10);
	sync_all(f);
	hub_delete(f, 10);
	commit(f);
	insert(f, 11);
	sync_all(f);
	assert_numbers(f, "A-003/x");
	assert_proof(f);
}

/* The hub has settled more than this file ever numbered: another one, which this was put back from, went on. */
static void welcome_settled(struct fixture *f, int64_t settled)
{
	static const char *const scopes[] = {SCOPE};
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(3), .mode = WELCOME_DELTA,
					  .schema_hash = 12, .scopes = scopes, .scope_count = 1, .clock = f->wall, .settled = settled};

	replica_store_ops.disconnected(f->r);
	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

static void R19_a_file_that_is_behind_what_the_hub_settled_gives_no_more_of_its_ranges(void **state)
{
	struct fixture *f = *state;

	grant(f, 1, 9, "A-", 0);
	welcome_settled(f, 0);
	insert(f, 10);
	welcome_settled(f, 3);
	insert(f, 11);
	assert_numbers(f, "A-001/x -");
	grant(f, 21, 29, "A-", 0);
	welcome_settled(f, 3); /* known by now */
	insert(f, 12);
	assert_numbers(f, "A-001/x - A-021/x");
}

static void R19_a_file_that_was_put_back_before_it_wrote_anything_gives_no_more_of_its_ranges(void **state)
{
	struct fixture *f = *state;

	grant(f, 1, 9, "A-", 0);
	welcome_settled(f, 3);
	insert(f, 10);
	assert_numbers(f, "-");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(numbers_are_taken_in_order_over_ranges_and_then_left_to_the_hub, start, teardown),
		cmocka_unit_test_setup_teardown(a_range_is_not_used_after_its_end_nor_in_another_incarnation, start, teardown),
		cmocka_unit_test_setup_teardown(a_transaction_that_is_rolled_back_gives_its_numbers_back, start, teardown),
		cmocka_unit_test_setup_teardown(a_number_goes_to_the_hub_and_back_and_one_of_a_deleted_row_is_not_given_again, start, teardown),
		cmocka_unit_test_setup_teardown(a_replaced_row_keeps_its_number_and_a_given_one_cannot_change, start, teardown),
		cmocka_unit_test_setup_teardown(R19_a_file_that_is_behind_what_the_hub_settled_gives_no_more_of_its_ranges, start, teardown),
		cmocka_unit_test_setup_teardown(R19_a_file_that_was_put_back_before_it_wrote_anything_gives_no_more_of_its_ranges, start, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
