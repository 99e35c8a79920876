/* How edits become change-sets, and what verdicts do to them: rules R1 and R3 to R7 of the design. */
#include "tests/unit/replica_fixture.h"

#define UNIT_1 "ab000000-0000-0000-0000-000000000001" /* unit(1) */

/* ---- R1, R4 ---- */

static void R1_pending_edit_keeps_base(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	int64_t first = f->applied;

	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	cut(f);
	hub_write(f, 1, "code", "theirs");
	commit(f);
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(1));
	app(f, "UPDATE units SET code = 'mine again', floor = 3 WHERE id = '%s'", unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 2);
	assert_int_equal(push.sets[0].base_position, first);
	assert_int_equal(push.sets[1].base_position, f->applied);
	assert_int_equal(push.sets[1].blocks[0].base_count, 1);
	assert_int_equal(push.sets[1].blocks[0].bases[0].num, 3); /* code, not floor */
	assert_int_equal(push.sets[1].blocks[0].bases[0].position, first);
	assert_int_equal(push.sets[1].depends_count, 1);
}

static void R1_column_that_ended_as_it_began_leaves_no_base(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	cut(f);
	hub_write(f, 2, "code", "x");
	commit(f);
	app(f, "BEGIN; UPDATE units SET code = 'other', floor = 3 WHERE id = '%s';"
	       "UPDATE units SET code = 'mine' WHERE id = '%s'; COMMIT", unit(1), unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 2);
	assert_int_equal(push.sets[1].blocks[0].column_count, 1);
	assert_int_equal(push.sets[1].blocks[0].nums[0], 4); /* floor */
	assert_int_equal(push.sets[1].blocks[0].base_count, 0);
}

static void R1_delete_takes_the_rows_base(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	int64_t first = f->applied;

	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	cut(f);
	hub_write(f, 2, "code", "x");
	commit(f);
	app(f, "DELETE FROM units WHERE id = '%s'", unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.sets[1].blocks[0].op, ROW_DELETE);
	assert_int_equal(push.sets[1].blocks[0].base_count, 1);
	assert_int_equal(push.sets[1].blocks[0].bases[0].num, 0);
	assert_int_equal(push.sets[1].blocks[0].bases[0].position, first);
}

/* An app commits between the agent's look and its push. */
static void assert_stays_out(struct fixture *f, enum row_op op, const char *later)
{
	struct message_push push;
	const struct block *b;

	app(f, "UPDATE units SET code = 'first' WHERE id = '%s'", unit(1));
	cut(f);
	app(f, "%s", later);
	assert_true(next_push(f, 65536, &push));
	b = &push.sets[0].blocks[0];
	assert_int_equal(b->op, ROW_UPDATE);
	assert_int_equal(b->column_count, 1);
	assert_int_equal(b->cells[0].n, 5);
	assert_memory_equal(b->cells[0].p, "first", 5);
	assert_int_equal(push.set_count, 2);
	assert_int_equal(push.sets[1].blocks[0].op, op);
	assert_false(next_push(f, 65536, &push));
	commit(f);
	assert_proof(f);
}

static void P4_update_that_is_not_cut_yet_stays_out_of_the_change_set_before_it(void **state)
{
	assert_stays_out(*state, ROW_UPDATE, "UPDATE units SET floor = 9, code = 'later' WHERE id = '" UNIT_1 "'");
}

static void P4_deletion_that_is_not_cut_yet_stays_out_of_the_change_set_before_it(void **state)
{
	assert_stays_out(*state, ROW_DELETE, "DELETE FROM units WHERE id = '" UNIT_1 "'");
}

static void P4_replaced_row_that_is_not_cut_yet_stays_out_of_the_change_set_before_it(void **state)
{
	assert_stays_out(*state, ROW_UPDATE, "REPLACE INTO units (id, code) VALUES ('" UNIT_1 "', 'later')");
}

static void R4_mask_holds_only_changed_columns(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "UPDATE units SET code = 'B', floor = floor, status = status WHERE id = '%s'", unit(1));
	app(f, "UPDATE units SET code = code WHERE id = '%s'", unit(2));
	app(f, "BEGIN; UPDATE units SET code = 'Z' WHERE id = '%s'; UPDATE units SET code = 'A' WHERE id = '%s'; COMMIT",
	    unit(3), unit(3));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.sets[0].block_count, 1);
	assert_int_equal(push.sets[0].blocks[0].row_count, 1);
	assert_int_equal(push.sets[0].blocks[0].column_count, 1);
	assert_int_equal(push.sets[0].blocks[0].nums[0], 3);
	for (uint32_t i = 1; i < push.set_count; i++)
		assert_int_equal(push.sets[i].block_count, 0); /* there and back */
}

static void R4_form_states_the_bookmark_it_read_at(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "BEGIN; UPDATE units SET code = 'B' WHERE id = '%s'; INSERT INTO ferry_tx(note, base) VALUES ('form', 4); COMMIT",
	    unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 1);
	assert_int_equal(push.sets[0].base_position, 4);
}

static void R4_base_that_is_no_position_is_refused(void **state)
{
	static const char *const wrong[] = {"'abc'", "''", "4.5", "-1", "'4 '", "x'34'||'x'"};
	struct fixture *f = *state;
	struct message_push push;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		char sql[120];

		snprintf(sql, sizeof(sql), "INSERT INTO ferry_tx(note, base) VALUES ('form', %s)", wrong[i]);
		assert_int_not_equal(app_try(f, sql), FERRY_OK);
		assert_non_null(strstr(fixture_why.text, "a whole number"));
	}
	app(f, "BEGIN; UPDATE units SET code = 'B' WHERE id = '%s'; INSERT INTO ferry_tx(note, base) VALUES ('form', '4'); COMMIT", unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.sets[0].base_position, 4); /* a text of it will do */
}

/* ---- R3 ---- */

static void R3_ack_alone_removes_nothing(void **state)
{
	struct fixture *f = *state;
	struct settled s = {.number = 1, .verdict = VERDICT_ACCEPTED, .position = 99};
	const struct message_ack ack = {.settled = &s, .settled_count = 1};
	struct store_status status;

	app(f, "UPDATE units SET code = 'B' WHERE id = '%s'", unit(1));
	push_all(f);
	assert_ok(replica_store_ops.ack(f->r, &ack, &fixture_why));
	assert_ok(replica_store_ops.status(f->r, &status, &fixture_why));
	assert_int_equal(status.outbox_sets, 1);
	commit(f);
	assert_int_equal(f->report.settled, 1);
	assert_ok(replica_store_ops.status(f->r, &status, &fixture_why));
	assert_int_equal(status.outbox_sets, 0);
	assert_int_equal(status.outbox_rows, 0);
}

static void R3_superseded_edit_gives_way_to_the_confirmed_value(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET code = 'mine', floor = 9 WHERE id = '%s'", unit(1));
	cut(f);
	hub_write(f, 1, "code", "theirs");
	commit(f);
	/* The hub lets its own value stand: no row of its own comes with that. */
	f->verdicts[1] = (struct hub_verdict){VERDICT_SUPERSEDED, 0, ++f->position};
	f->last_number = 1;
	commit(f);
	assert_says(f, "theirs", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "NULL", "SELECT floor FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
}

static bool refuse_first(struct fixture *f, const struct change_set *s)
{
	(void)f;
	return s->number == 1;
}

static void R3_refused_edit_is_undone_and_kept(void **state)
{
	struct fixture *f = *state;

	f->refuses = refuse_first;
	app(f, "UPDATE units SET code = 'bad' WHERE id = '%s'", unit(1));
	sync_all(f);
	assert_says(f, "A", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "{\"code\":\"bad\"}", "SELECT \"values\" FROM ferry_rejected");
	assert_says(f, "CONSTRAINT", "SELECT name FROM ferry_rejected");
}

/* ---- R5 ---- */

static void R5_mark_ends_a_change_set(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "BEGIN; UPDATE units SET code = 'a' WHERE id = '%s'; UPDATE units SET code = 'b' WHERE id = '%s';"
	       "INSERT INTO ferry_tx(note) VALUES ('one'); COMMIT; UPDATE units SET code = 'c' WHERE id = '%s';"
	       "UPDATE units SET code = 'd' WHERE id = '%s'", unit(1), unit(2), unit(3), unit(4));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 2);
	assert_false(push.sets[0].joined);
	assert_int_equal(push.sets[0].blocks[0].row_count, 2);
	assert_true(push.sets[1].joined);
}

static void R5_another_connection_ends_a_change_set(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	/* Each app() is a connection of its own; its first entry counts from 0. */
	for (uint32_t n = 1; n <= 5; n++)
		app(f, "UPDATE units SET floor = 1 WHERE id = '%s'", unit(n));
	app(f, "UPDATE units SET floor = 2; UPDATE units SET floor = 3");
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 6);
	assert_int_equal(push.sets[5].blocks[0].row_count, 5);
}

static void R5_look_ends_a_change_set(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "UPDATE units SET floor = 1");
	cut(f);
	app(f, "UPDATE units SET floor = 2");
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 2);
	assert_int_equal(push.sets[0].blocks[0].cells[0].i, 1); /* not 2: content stays */
	assert_int_equal(push.sets[1].blocks[0].cells[0].i, 2);
}

static bool refuse_code_bad(struct fixture *f, const struct change_set *s)
{
	(void)f;
	for (uint32_t i = 0; i < s->block_count; i++) {
		const struct block *b = &s->blocks[i];

		for (size_t k = 0; k < (size_t)b->row_count * b->column_count; k++) {
			if (b->cells[k].kind == VALUE_TEXT && b->cells[k].n == 3 && memcmp(b->cells[k].p, "bad", 3) == 0)
				return true;
		}
	}
	return false;
}

static void R5_refused_joined_set_is_offered_again_by_row(void **state)
{
	struct fixture *f = *state;

	f->refuses = refuse_code_bad;
	/* One connection, no look between: 400 transactions joined, one bad. */
	for (uint32_t n = 100; n < 500; n += 20) {
		char sql[4096] = "";

		for (uint32_t k = n; k < n + 20; k++)
			(void)snprintf(sql + strlen(sql), sizeof(sql) - strlen(sql), "INSERT INTO units(id, code) VALUES ('%s', '%s');",
				       unit(k), k == 333 ? "bad" : "ok");
		app(f, "%s", sql);
	}
	sync_all(f);
	assert_says(f, "404", "SELECT count(*) FROM units");
	assert_says(f, "1", "SELECT count(*) FROM ferry_rejected");
	assert_says(f, unit(333), "SELECT key FROM ferry_rejected");
	assert_says(f, "1", "SELECT sentence LIKE '%%offered again in parts%%' FROM ferry_rejected");
	assert_proof(f);
}

static void exchange(struct fixture *f)
{
	f->cursor = (struct push_cursor){0};
	push_all(f);
	commit(f);
}

/* Six transactions of one program while no agent looked: two, a pause, two of which one is bad, a pause, two. */
static void R5_refused_joined_set_is_split_at_pauses_first(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	char sql[2048] = "";

	f->refuses = refuse_code_bad;
	for (uint32_t n = 100; n < 106; n++)
		(void)snprintf(sql + strlen(sql), sizeof(sql) - strlen(sql), "INSERT INTO units(id, code) VALUES ('%s', '%s');", unit(n),
			       n == 103 ? "bad" : "ok");
	app(f, "%s", sql);
	app(f, "UPDATE ferry_log SET at = (SELECT min(at) FROM ferry_log) + CASE WHEN key < '%s' THEN 0 WHEN key < '%s' THEN 1500 "
	       "ELSE 3000 END WHERE op = 1", unit(102), unit(104));
	exchange(f);
	assert_says(f, "5", "SELECT count(*) FROM units WHERE code IS NOT 'ok' AND code IS NOT 'bad'");
	assert_says(f, "6", "SELECT count(*) FROM ferry_outbox"); /* refused as one, and offered again */
	assert_says(f, "0", "SELECT count(*) FROM ferry_rejected");
	f->cursor = (struct push_cursor){0};
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_true(push.sets[i].joined);
		assert_int_equal(push.sets[i].blocks[0].row_count, 2);
	}
	exchange(f);
	assert_says(f, "2", "SELECT count(*) FROM ferry_outbox"); /* the pair with the bad one, row by row now */
	sync_all(f);
	assert_says(f, "5", "SELECT count(*) FROM units WHERE code = 'ok'");
	assert_says(f, unit(103), "SELECT key FROM ferry_rejected");
	assert_says(f, "1", "SELECT count(*) FROM ferry_rejected WHERE sentence LIKE '%%offered again in parts%%'");
	assert_proof(f);
}

static void R5_dependants_of_a_split_set_follow_it(void **state)
{
	struct fixture *f = *state;

	f->refuses = refuse_code_bad;
	app(f, "INSERT INTO units(id, code) VALUES ('%s', 'bad'); INSERT INTO units(id, code) VALUES ('%s', 'ok')", unit(50),
	    unit(51));
	cut(f);
	app(f, "UPDATE units SET floor = 7 WHERE id = '%s'", unit(51));
	cut(f);
	app(f, "UPDATE units SET floor = 8 WHERE id = '%s'", unit(50));
	sync_all(f);
	assert_says(f, "7", "SELECT floor FROM units WHERE id = '%s'", unit(51));
	assert_says(f, "no row", "SELECT floor FROM units WHERE id = '%s'", unit(50));
	assert_says(f, "2", "SELECT count(*) FROM ferry_rejected"); /* the bad row, and the edit on it */
	assert_proof(f);
}

static void R5_declared_set_is_never_split(void **state)
{
	struct fixture *f = *state;

	f->refuses = refuse_code_bad;
	app(f, "BEGIN; INSERT INTO units(id, code) VALUES ('%s', 'bad'), ('%s', 'ok');"
	       "INSERT INTO ferry_tx(note) VALUES ('both or none'); COMMIT", unit(50), unit(51));
	sync_all(f);
	assert_says(f, "5", "SELECT count(*) FROM units");
	assert_says(f, "2", "SELECT count(*) FROM ferry_rejected WHERE note = 'both or none'");
}

/* ---- R6, R7 ---- */

static void R6_depends_names_parent(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "INSERT INTO projects(id, name) VALUES ('%s', 'P')", unit(900));
	cut(f);
	app(f, "UPDATE units SET floor = 1 WHERE id = '%s'", unit(1));
	cut(f);
	app(f, "INSERT INTO units(id, project_id) VALUES ('%s', '%s')", unit(50), unit(900));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 3);
	assert_int_equal(push.sets[1].depends_count, 0);
	assert_int_equal(push.sets[2].depends_count, 1);
	assert_int_equal(push.sets[2].depends[0], 1);
}

static void R7_large_set_goes_in_equal_parts_each_time(void **state)
{
	struct fixture *f = *state;
	uint32_t rows[2] = {0, 0}, parts[2] = {0, 0};
	uint64_t hash[2] = {0, 0};

	app(f, "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 2999) "
	       "INSERT INTO units(id, code) SELECT printf('ab000000-0000-0000-0000-%%012x', i), 'c' || i FROM n");
	cut(f);
	for (int round = 0; round < 2; round++) {
		struct message_push push;
		bool more = true;

		f->cursor = (struct push_cursor){0};
		while (more) {
			const struct change_set *s;

			assert_true(next_push(f, 20000, &push));
			assert_int_equal(push.set_count, 1);
			s = &push.sets[0];
			assert_int_equal(s->part, parts[round]++);
			assert_int_equal(s->block_count, 1);
			rows[round] += s->blocks[0].row_count;
			hash[round] = hash[round] * 31 + cell_hash_bytes(s->blocks[0].keys, s->blocks[0].row_count * 16, 0);
			more = s->more;
		}
	}
	assert_true(parts[0] > 5);
	assert_int_equal(parts[0], parts[1]);
	assert_int_equal(rows[0], 2000);
	assert_int_equal(rows[1], 2000);
	assert_true(hash[0] == hash[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R1_pending_edit_keeps_base),
		replica_test(R1_column_that_ended_as_it_began_leaves_no_base),
		replica_test(R1_delete_takes_the_rows_base),
		replica_test(P4_update_that_is_not_cut_yet_stays_out_of_the_change_set_before_it),
		replica_test(P4_deletion_that_is_not_cut_yet_stays_out_of_the_change_set_before_it),
		replica_test(P4_replaced_row_that_is_not_cut_yet_stays_out_of_the_change_set_before_it),
		replica_test(R4_mask_holds_only_changed_columns),
		replica_test(R4_form_states_the_bookmark_it_read_at),
		replica_test(R4_base_that_is_no_position_is_refused),
		replica_test(R3_ack_alone_removes_nothing),
		replica_test(R3_superseded_edit_gives_way_to_the_confirmed_value),
		replica_test(R3_refused_edit_is_undone_and_kept),
		replica_test(R5_mark_ends_a_change_set),
		replica_test(R5_another_connection_ends_a_change_set),
		replica_test(R5_look_ends_a_change_set),
		replica_test(R5_refused_joined_set_is_offered_again_by_row),
		replica_test(R5_refused_joined_set_is_split_at_pauses_first),
		replica_test(R5_dependants_of_a_split_set_follow_it),
		replica_test(R5_declared_set_is_never_split),
		replica_test(R6_depends_names_parent),
		replica_test(R7_large_set_goes_in_equal_parts_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
