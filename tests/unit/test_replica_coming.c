/* Rows that apps make in a scope which is on its way: they stay in sight until it is there. */
#include "tests/unit/replica_scopes.h"

#include <sqlite3.h>

static const struct settled taken = {.verdict = VERDICT_ACCEPTED};

/* A state that settles change-sets `first` to `last` alike. */
static void settled(struct fixture *f, int64_t position, int64_t first, int64_t last, struct settled how, bool fill_done)
{
	struct settled list[16];
	struct message_commit c = {.position = position, .mark = position * 3, .fill_done = fill_done, .settled = list};

	for (int64_t n = first; n <= last; n++) {
		how.number = n;
		how.position = position;
		list[c.settled_count++] = how;
	}
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	f->applied = f->position = position;
}

static void made(struct fixture *f, uint32_t n, const char *code)
{
	app(f, "INSERT INTO units(id, code) VALUES ('%s', '%s')", unit(n), code);
	push_all(f);
}

static void b_comes(struct fixture *f)
{
	hold_a(f);
	greet(f, both, 2, only_b, 1, false);
	filled(f, B, 3, "b3");
}

static void assert_nothing_waits(struct fixture *f)
{
	struct store_status status;
	struct message_push push;

	f->cursor = (struct push_cursor){0};
	assert_false(next_push(f, 65536, &push));
	assert_ok(replica_store_ops.status(f->r, &status, &fixture_why));
	assert_int_equal(status.outbox_sets, 0);
	assert_int_equal(status.outbox_rows, 0);
	assert_int_equal(status.oldest_unsent_at, 0);
	assert_says(f, "0 0 0", "SELECT waiting_rows || ' ' || waiting_sets || ' ' || (oldest_at IS NOT NULL) FROM ferry_status");
	assert_says(f, "0", "SELECT count(*) FROM ferry_outbox");
}

static void assert_nothing_kept(struct fixture *f)
{
	assert_says(f, "0", "SELECT count(*) FROM ferry_change_set");
	assert_says(f, "0", "SELECT count(*) FROM ferry_pending");
	assert_says(f, "0", "SELECT count(*) FROM ferry_log WHERE op > 0");
}

static void R15_row_made_in_a_scope_that_comes_stays_in_sight_until_it_is_there(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	assert_string_equal(codes(f), "a1,a2,mine");
	settled(f, 101, 1, 1, taken, false);
	assert_string_equal(codes(f), "a1,a2,mine");
	assert_nothing_waits(f);
	assert_proof(f);
	told(f, A, 102, 1, ROW_INSERT, "a1+");
	closed(f, 102, false);
	assert_string_equal(codes(f), "a1+,a2,mine");
	told(f, B, 103, 9, ROW_INSERT, "mine, and the hub's");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a1+,a2,b3,mine, and the hub's");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void R15_row_that_the_fill_itself_brings_takes_the_place_of_the_one_made_here(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	filled(f, B, 9, "mine"); /* read after it was settled */
	closed(f, 102, true);
	assert_string_equal(codes(f), "a1,a2,b3,mine");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void R15_row_made_in_a_scope_that_comes_stays_over_a_restart(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	replica_close(f->r);
	fixture_open(f);
	assert_string_equal(codes(f), "a1,a2,mine");
	greet(f, both, 2, only_b, 1, true);
	told(f, A, 102, 2, ROW_INSERT, "a2+");
	closed(f, 102, false);
	assert_string_equal(codes(f), "a1,a2+,mine");
	told(f, B, 103, 9, ROW_INSERT, "mine");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a1,a2+,b3,mine");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void row_made_in_a_scope_that_comes_and_deleted_by_others_goes_with_the_end_of_the_fill(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	told(f, B, 103, 9, ROW_DELETE, "mine");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a1,a2,b3");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void row_made_in_a_scope_that_comes_and_never_sent_goes_with_the_end_of_the_fill(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	closed(f, 103, true); /* it was made and deleted between two reads of the fill */
	assert_string_equal(codes(f), "a1,a2,b3");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void R20_row_that_a_held_scope_speaks_of_is_as_it_says_at_once(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "in a");
	made(f, 10, "gone from a");
	told(f, A, 101, 9, ROW_INSERT, "as the hub has it");
	told(f, A, 101, 10, ROW_DELETE, "gone from a");
	settled(f, 101, 1, 2, taken, false);
	assert_string_equal(codes(f), "a1,a2,as the hub has it");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void row_that_moves_into_a_held_scope_is_as_it_says_at_once(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	told(f, A, 102, 9, ROW_INSERT, "moved");
	closed(f, 102, false);
	assert_string_equal(codes(f), "a1,a2,moved");
	assert_says(f, "0", "SELECT count(*) FROM ferry_pending");
	assert_proof(f);
	told(f, B, 103, 9, ROW_LEFT, "moved");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a1,a2,b3,moved");
	assert_nothing_kept(f);
	assert_proof(f);
}

/* R1: the hub's row was not seen since, so what is edited now is judged by what its author had seen. */
static void R1_edit_of_a_row_that_stays_in_sight_takes_over_its_base(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 105, 1, 1, taken, false);
	app(f, "UPDATE units SET code = 'mine+' WHERE id = '%s'", unit(9));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 1);
	assert_int_equal(push.sets[0].number, 2);
	assert_int_equal(push.sets[0].base_position, 105);
	assert_int_equal(push.sets[0].blocks[0].op, ROW_UPDATE);
	assert_int_equal(push.sets[0].blocks[0].base_count, 1);
	assert_int_equal(push.sets[0].blocks[0].bases[0].position, 100);
	assert_int_equal(push.sets[0].depends_count, 1);
	settled(f, 106, 2, 2, taken, false);
	assert_string_equal(codes(f), "a1,a2,mine+");
	assert_nothing_waits(f);
	told(f, B, 107, 9, ROW_INSERT, "mine+");
	closed(f, 107, true);
	assert_string_equal(codes(f), "a1,a2,b3,mine+");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void refused_edit_of_a_row_that_stays_in_sight_is_taken_back(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	app(f, "UPDATE units SET code = 'sold' WHERE id = '%s'", unit(9));
	push_all(f);
	settled(f, 102, 2, 2, (struct settled){.verdict = VERDICT_REJECTED, .code = FERRY_GUARD, .sentence = "No."}, false);
	assert_string_equal(codes(f), "a1,a2,mine");
	assert_says(f, "1", "SELECT count(*) FROM ferry_rejected");
	assert_nothing_waits(f);
	told(f, B, 103, 9, ROW_INSERT, "mine");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a1,a2,b3,mine");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void pending_edit_of_a_row_that_stays_in_sight_lies_over_the_hubs_row_in_the_end(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	app(f, "UPDATE units SET floor = 7 WHERE id = '%s'", unit(9));
	told(f, B, 102, 9, ROW_INSERT, "theirs");
	closed(f, 102, true);
	assert_says(f, "theirs 7", "SELECT code || ' ' || floor FROM units WHERE id = '%s'", unit(9));
	assert_says(f, "1", "SELECT waiting_sets FROM ferry_status");
	assert_proof(f);
	settled(f, 103, 2, 2, taken, false);
	assert_says(f, "1", "SELECT floor IS NULL FROM units WHERE id = '%s'", unit(9));
	assert_nothing_kept(f);
}

static void deleted_row_of_a_scope_that_comes_does_not_show_again(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	app(f, "DELETE FROM units WHERE id = '%s'", unit(9));
	push_all(f);
	settled(f, 102, 2, 2, taken, false);
	assert_string_equal(codes(f), "a1,a2");
	assert_nothing_waits(f);
	told(f, B, 103, 9, ROW_DELETE, "mine");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a1,a2,b3");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void lost(struct fixture *f, int64_t position, int64_t number, uint32_t n)
{
	struct conflict c = {.kind = CONFLICT_UPDATE_DELETE, .table = T_UNITS, .key = key_of(n)};
	struct settled how = {.verdict = VERDICT_SUPERSEDED, .conflicts = &c, .conflict_count = 1};

	settled(f, position, number, number, how, false);
}

static void P3_row_deleted_beside_an_edit_that_lost_another_row_does_not_show_again(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	app(f, "UPDATE units SET code = 'late' WHERE id = '%s'; DELETE FROM units WHERE id = '%s'", unit(1), unit(9));
	push_all(f);
	told(f, A, 102, 1, ROW_DELETE, "a1");
	settled(f, 101, 1, 1, taken, false);
	lost(f, 102, 2, 1);
	assert_string_equal(codes(f), "a2");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a2,b3");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void row_of_a_scope_that_comes_goes_at_once_when_an_edit_of_it_loses_to_a_deletion(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	app(f, "UPDATE units SET code = 'late' WHERE id = '%s'", unit(9));
	push_all(f);
	lost(f, 102, 2, 9);
	assert_string_equal(codes(f), "a1,a2");
	closed(f, 103, true);
	assert_string_equal(codes(f), "a1,a2,b3");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void P6_row_of_a_scope_that_comes_may_be_edited_any_number_of_times(void **state)
{
	struct fixture *f = *state;
	sqlite3 *writer = NULL;
	char edit[200];

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	assert_int_equal(sqlite3_open(f->path, &writer), SQLITE_OK);
	(void)snprintf(edit, sizeof(edit), "UPDATE units SET floor = coalesce(floor, 0) + 1 WHERE id = '%s'", unit(9));
	for (int n = 2; n <= 1001; n++) {
		assert_int_equal(sqlite3_exec(writer, edit, NULL, NULL, NULL), SQLITE_OK);
		cut(f);
		if (n == 1001)
			assert_string_equal(codes(f), "a1,a2,mine");
		settled(f, 100 + n, n, n, taken, false);
	}
	sqlite3_close(writer);
	assert_string_equal(codes(f), "a1,a2"); /* its edits would fill the row's memory: it comes again with its scope */
	closed(f, 1200, true);
	assert_string_equal(codes(f), "a1,a2,b3");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void refused_row_of_a_scope_that_comes_goes_at_once(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, (struct settled){.verdict = VERDICT_REJECTED, .code = FERRY_UNIQUE, .sentence = "No."}, false);
	assert_string_equal(codes(f), "a1,a2");
	assert_nothing_kept(f);
}

static void row_goes_with_the_welcome_that_takes_the_coming_scope_back(void **state)
{
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	app(f, "UPDATE units SET floor = 7 WHERE id = '%s'", unit(1)); /* not looked at yet */
	greet(f, only_a, 1, NULL, 0, false);
	assert_string_equal(codes(f), "a1,a2");
	assert_says(f, "1", "SELECT waiting_rows FROM ferry_status");
	assert_proof(f);
}

/* A new schema comes first, and the scope with the session after. */
static void row_stays_while_a_scope_that_is_due_is_not_filled_yet(void **state)
{
	struct fixture *f = *state;

	hold_a(f);
	greet(f, both, 2, NULL, 0, false);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	assert_string_equal(codes(f), "a1,a2,mine");
	greet(f, both, 2, only_b, 1, false);
	assert_string_equal(codes(f), "a1,a2,mine");
	filled(f, B, 9, "mine");
	closed(f, 102, true);
	assert_string_equal(codes(f), "a1,a2,mine");
	assert_nothing_kept(f);
	assert_proof(f);
}

static void row_that_no_scope_on_its_way_can_bring_goes_with_its_verdict(void **state)
{
	struct fixture *f = *state;

	hold_a(f);
	greet(f, only_a, 1, NULL, 0, false);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	assert_string_equal(codes(f), "a1,a2");
	assert_nothing_kept(f);
}

static void row_stays_until_the_end_of_a_fill_of_all(void **state)
{
	const struct message_welcome all = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(3), .mode = WELCOME_FILL,
					    .scopes = both, .scope_count = 2};
	struct message_welcome w = all;
	struct fixture *f = *state;

	b_comes(f);
	made(f, 9, "mine");
	settled(f, 101, 1, 1, taken, false);
	w.clock = f->wall;
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
	filled(f, A, 1, "a1");
	filled(f, B, 9, "mine");
	assert_string_equal(codes(f), "a1,a2,mine");
	closed(f, 102, true);
	assert_string_equal(codes(f), "a1,mine");
	assert_nothing_kept(f);
	assert_proof(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R15_row_made_in_a_scope_that_comes_stays_in_sight_until_it_is_there),
		replica_test(R15_row_that_the_fill_itself_brings_takes_the_place_of_the_one_made_here),
		replica_test(R15_row_made_in_a_scope_that_comes_stays_over_a_restart),
		replica_test(row_made_in_a_scope_that_comes_and_deleted_by_others_goes_with_the_end_of_the_fill),
		replica_test(row_made_in_a_scope_that_comes_and_never_sent_goes_with_the_end_of_the_fill),
		replica_test(R20_row_that_a_held_scope_speaks_of_is_as_it_says_at_once),
		replica_test(row_that_moves_into_a_held_scope_is_as_it_says_at_once),
		replica_test(R1_edit_of_a_row_that_stays_in_sight_takes_over_its_base),
		replica_test(refused_edit_of_a_row_that_stays_in_sight_is_taken_back),
		replica_test(pending_edit_of_a_row_that_stays_in_sight_lies_over_the_hubs_row_in_the_end),
		replica_test(deleted_row_of_a_scope_that_comes_does_not_show_again),
		replica_test(P3_row_deleted_beside_an_edit_that_lost_another_row_does_not_show_again),
		replica_test(row_of_a_scope_that_comes_goes_at_once_when_an_edit_of_it_loses_to_a_deletion),
		replica_test(P6_row_of_a_scope_that_comes_may_be_edited_any_number_of_times),
		replica_test(refused_row_of_a_scope_that_comes_goes_at_once),
		replica_test(row_goes_with_the_welcome_that_takes_the_coming_scope_back),
		replica_test(row_stays_while_a_scope_that_is_due_is_not_filled_yet),
		replica_test(row_that_no_scope_on_its_way_can_bring_goes_with_its_verdict),
		replica_test(row_stays_until_the_end_of_a_fill_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
