/* Scopes that come and go while the rest of the replica stays as it is. */
#include "tests/unit/replica_scopes.h"

#include <sqlite3.h>

static int64_t root_page(struct fixture *f)
{
	return strtoll(ask(f, "SELECT rootpage FROM sqlite_schema WHERE name = 'units'"), NULL, 10);
}

static void R14_row_that_goes_in_one_state_and_comes_back_in_the_next_stays(void **state)
{
	struct fixture *f = *state;

	hold_a(f);
	told(f, A, 101, 1, ROW_DELETE, "a1");
	told(f, A, 102, 1, ROW_INSERT, "again");
	told(f, A, 101, 2, ROW_LEFT, "a2");
	closed(f, 102, false);
	assert_string_equal(codes(f), "again");
	assert_proof(f);
}

static void R15_scope_that_comes_is_filled_beside_the_others_and_shows_in_one_state(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};
	int64_t page;

	hold_a(f);
	page = root_page(f);
	greet(f, both, 2, only_b, 1, false);
	filled(f, B, 3, "b3");
	told(f, A, 101, 1, ROW_INSERT, "a1+");
	closed(f, 101, false); /* the others live on */
	assert_string_equal(codes(f), "a1+,a2");
	filled(f, B, 4, "b4");
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_true(hello.fill_beside);
	assert_int_equal(hello.scope_count, 1);
	assert_string_equal(hello.scopes[0], A);
	assert_int_equal(hello.fill_scope_count, 1);
	assert_string_equal(hello.fill_scopes[0], B);
	assert_string_equal(codes(f), "a1+,a2"); /* nothing of it shows yet */
	told(f, B, 102, 4, ROW_DELETE, "b4");
	told(f, B, 102, 5, ROW_INSERT, "b5");
	told(f, A, 102, 2, ROW_LEFT, "a2");
	told(f, B, 102, 2, ROW_INSERT, "a2 moved");
	closed(f, 102, true);
	assert_string_equal(codes(f), "a1+,a2 moved,b3,b5");
	assert_int_equal(root_page(f), page);
	assert_proof(f);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.scope_count, 2);
	assert_int_equal(hello.fill_scope_count, 0);
	assert_false(hello.fill_beside);
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'ferry_fill_u*'");
}

static void R15_kill_during_a_fill_beside_resumes(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};

	hold_a(f);
	greet(f, both, 2, only_b, 1, false);
	filled(f, B, 3, "b3");
	replica_close(f->r);
	fixture_open(f);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_true(hello.fill_beside);
	assert_int_equal(hello.position, 100);
	assert_int_equal(hello.fill_position, 3);
	assert_int_equal(hello.fill_table, T_UNITS);
	assert_string_equal(hello.fill_scope, B);
	greet(f, both, 2, only_b, 1, true);
	filled(f, B, 3, "b3"); /* again */
	filled(f, B, 4, "b4");
	closed(f, 101, true);
	assert_string_equal(codes(f), "a1,a2,b3,b4");
	assert_proof(f);
}

static void row_that_is_here_already_is_in_both_scopes_when_the_second_comes(void **state)
{
	struct fixture *f = *state;

	hold_a(f);
	greet(f, both, 2, only_b, 1, false);
	filled(f, B, 2, "a2"); /* in both */
	filled(f, B, 3, "b3");
	app(f, "UPDATE units SET floor = 7 WHERE id = '%s'", unit(2));
	cut(f);
	closed(f, 101, true);
	assert_string_equal(codes(f), "a1,a2,b3");
	assert_says(f, "7", "SELECT floor FROM units WHERE id = '%s'", unit(2)); /* pending on top */
	assert_proof(f);
	greet(f, only_b, 1, NULL, 0, false);
	assert_string_equal(codes(f), "a2,b3");
	assert_proof(f);
	greet(f, both, 2, only_a, 1, false);
	closed(f, 102, true); /* it has no rows now */
	greet(f, only_a, 1, NULL, 0, false);
	assert_says(f, "0", "SELECT count(*) FROM units");
	assert_says(f, "0", "SELECT count(*) FROM ferry_member");
	assert_proof(f);
}

static void P7_scope_that_goes_is_evicted_also_when_an_app_held_the_file_at_the_first_try(void **state)
{
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(3), .mode = WELCOME_DELTA,
					  .scopes = only_b, .scope_count = 1};
	struct fixture *f = *state;
	sqlite3 *writer = NULL;

	hold_a(f);
	assert_int_equal(sqlite3_open(f->path, &writer), SQLITE_OK);
	assert_int_equal(sqlite3_exec(writer, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(replica_store_ops.welcome(f->r, &w, &fixture_why), FERRY_BUSY);
	assert_int_equal(sqlite3_exec(writer, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(writer);
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
	assert_says(f, "0", "SELECT count(*) FROM units");
}

static void scope_that_goes_is_evicted_and_unsent_edits_of_it_stay_in_the_outbox(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	hold_a(f);
	greet(f, both, 2, only_b, 1, false);
	filled(f, B, 3, "b3");
	filled(f, B, 4, "b4");
	closed(f, 101, true);
	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	app(f, "INSERT INTO units(id, code) VALUES ('%s', 'new')", unit(9)); /* not looked at yet */
	greet(f, only_b, 1, NULL, 0, false);
	assert_string_equal(codes(f), "b3,b4,new");
	assert_proof(f);
	assert_says(f, "2", "SELECT waiting_rows FROM ferry_status");
	assert_true(next_push(f, 65536, &push));
	assert_memory_equal(push.sets[0].blocks[0].cells[0].p, "mine", 4);
	assert_says(f, "project:b", "SELECT group_concat(name) FROM ferry_scope WHERE held");
}

static void scope_that_is_taken_back_before_it_was_filled_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};

	hold_a(f);
	greet(f, both, 2, only_b, 1, false);
	filled(f, B, 3, "b3");
	greet(f, only_a, 1, NULL, 0, false);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.fill_table, 0);
	assert_int_equal(hello.fill_scope_count, 0);
	told(f, A, 101, 5, ROW_INSERT, "a5");
	closed(f, 101, false);
	assert_string_equal(codes(f), "a1,a2,a5");
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'ferry_fill_u*'");
	assert_proof(f);
}

static void scope_that_comes_into_an_empty_replica_shares_the_tables_main_scope(void **state)
{
	struct fixture *f = *state;

	hold_a(f);
	greet(f, only_b, 1, only_b, 1, false); /* a goes, b comes */
	assert_says(f, "0", "SELECT count(*) FROM units");
	filled(f, B, 3, "b3");
	filled(f, B, 4, "b4");
	closed(f, 101, true);
	assert_string_equal(codes(f), "b3,b4");
	assert_says(f, "0", "SELECT count(*) FROM ferry_member");
	assert_proof(f);
}

/* The main scope went; a state gives the live rows another before the first page of the one that comes. */
static void R21_rows_that_come_are_in_their_scope_when_the_tables_main_one_changed_meanwhile(void **state)
{
	static const char *const c = "project:c", *const only_c[] = {"project:c"}, *const b_and_c[] = {B, "project:c"};
	struct fixture *f = *state;

	hold_a(f);
	greet(f, both, 2, only_b, 1, false);
	filled(f, B, 3, "b3");
	closed(f, 101, true);
	greet(f, only_b, 1, NULL, 0, false);
	greet(f, b_and_c, 2, only_c, 1, false);
	told(f, B, 102, 5, ROW_INSERT, "b5");
	closed(f, 102, false);
	filled(f, c, 4, "c4");
	closed(f, 103, true);
	assert_string_equal(codes(f), "b3,b5,c4");
	assert_proof(f);
	greet(f, only_c, 1, NULL, 0, false);
	assert_string_equal(codes(f), "c4");
	assert_proof(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R14_row_that_goes_in_one_state_and_comes_back_in_the_next_stays),
		replica_test(R15_scope_that_comes_is_filled_beside_the_others_and_shows_in_one_state),
		replica_test(R15_kill_during_a_fill_beside_resumes),
		replica_test(row_that_is_here_already_is_in_both_scopes_when_the_second_comes),
		replica_test(P7_scope_that_goes_is_evicted_also_when_an_app_held_the_file_at_the_first_try),
		replica_test(scope_that_goes_is_evicted_and_unsent_edits_of_it_stay_in_the_outbox),
		replica_test(scope_that_is_taken_back_before_it_was_filled_leaves_nothing),
		replica_test(scope_that_comes_into_an_empty_replica_shares_the_tables_main_scope),
		replica_test(R21_rows_that_come_are_in_their_scope_when_the_tables_main_one_changed_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
