/* What a replica keeps to whatever is written to it and comes to it: rules R9 and R14 to R18 of the design. */
#include "agent/replica_internal.h"
#include "shared/clock.h"
#include "tests/unit/replica_fixture.h"

#include <sqlite3.h>

static const struct change_set *only_set(struct fixture *f, struct message_push *push)
{
	cut(f);
	assert_true(next_push(f, 65536, push));
	assert_int_equal(push->set_count, 1);
	return &push->sets[0];
}

static void a_rested_replica_uses_less_memory_and_goes_on(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	sqlite3_int64 before;

	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	cut(f);
	before = sqlite3_memory_used();
	replica_rest(f->r);
	assert_true(sqlite3_memory_used() < before);
	hub_write(f, 1, "code", "theirs");
	commit(f);
	replica_rest(f->r);
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_int_equal(only_set(f, &push)->blocks[0].table, T_UNITS);
}

/* ---- R14 ---- */

static void frame(struct fixture *f, const char *scope, uint32_t n, enum row_op op)
{
	struct uuid key = key_of(n);
	struct hub_row *row = hub_find(f, T_UNITS, &key, true);
	struct block b;
	struct message_delta d = {.scope = scope, .from = f->applied, .to = f->position, .blocks = &b, .block_count = 1};

	row->alive = op == ROW_INSERT;
	arena_reset(&f->arena);
	b = hub_block(f, row, op == ROW_LEFT);
	row->alive = true;
	assert_ok(replica_store_ops.delta(f->r, &d, &fixture_why));
}

static void bare_commit(struct fixture *f)
{
	struct message_commit c = {.position = ++f->position, .mark = 5};

	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	f->applied = f->position;
}

static void R14_row_moves_between_held_scopes_and_stays(void **state)
{
	struct fixture *f = *state;

	frame(f, "tenant", 1, ROW_LEFT); /* the leaving comes first */
	frame(f, "project:b", 1, ROW_INSERT);
	bare_commit(f);
	assert_says(f, "1", "SELECT count(*) FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
	frame(f, "tenant", 1, ROW_INSERT);
	bare_commit(f);
	frame(f, "project:b", 1, ROW_LEFT);
	bare_commit(f);
	assert_says(f, "1", "SELECT count(*) FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "0", "SELECT count(*) FROM ferry_member");
	frame(f, "tenant", 1, ROW_LEFT);
	bare_commit(f);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
}

/* A commit may bring several states: what leaves with one comes back with the next. */
static void come_and_go_in_one_commit(struct fixture *f)
{
	frame(f, "tenant", 1, ROW_LEFT);
	frame(f, "project:b", 2, ROW_INSERT);
	f->position++;
	frame(f, "project:b", 2, ROW_LEFT);
	frame(f, "tenant", 1, ROW_INSERT);
	bare_commit(f);
	assert_says(f, "1", "SELECT count(*) FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
	frame(f, "tenant", 1, ROW_INSERT);
	f->position++;
	frame(f, "tenant", 1, ROW_LEFT);
	bare_commit(f);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
}

static void R14_states_of_one_commit_are_folded_one_after_the_other(void **state)
{
	come_and_go_in_one_commit(*state);
}

static void R14_row_that_left_keeps_its_pending_edits(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	cut(f);
	frame(f, "tenant", 1, ROW_LEFT);
	bare_commit(f);
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
	assert_memory_equal(only_set(f, &push)->blocks[0].cells[0].p, "mine", 4);
	frame(f, "tenant", 1, ROW_INSERT);
	bare_commit(f);
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
}

/* ---- R15 ---- */

static void R15_kill_during_fill_resumes(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};
	struct uuid last;

	app(f, "UPDATE units SET floor = 4 WHERE id = '%s'", unit(2));
	for (uint32_t n = 10; n < 30; n++)
		hub_write(f, n, "code", "N");
	hub_delete(f, 1);
	fixture_welcome(f, WELCOME_FILL);
	fill_rows(f, 0, 12);
	last = f->rows[11].key;
	replica_close(f->r);
	fixture_open(f);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.fill_table, T_UNITS);
	assert_int_equal(hello.fill_position, f->position);
	assert_true(uuid_equal(&hello.fill_after, &last));
	assert_string_equal(hello.fill_scope, SCOPE);
	assert_says(f, "1", "SELECT count(*) FROM units WHERE id = '%s'", unit(1)); /* nothing shows yet */
	fixture_welcome(f, WELCOME_RESUME);
	fill_rows(f, 10, f->row_count); /* two of them again */
	assert_ok(hub_commit(f, true, f->position));
	assert_true(f->report.sums_checked);
	assert_string_equal(f->report.mismatch, "");
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "24", "SELECT count(*) FROM units");
	assert_says(f, "4", "SELECT floor FROM units WHERE id = '%s'", unit(2)); /* pending on top */
	sync_all(f);
	assert_proof(f);
}

static void R15_changed_schema_keeps_values_of_dropped_columns(void **state)
{
	struct fixture *f = *state;
	struct schema_column columns[2] = {unit_columns[1], {.num = 12, .name = "extra", .kind = KIND_JSON}};
	struct schema_table tables[2] = {fixture_tables[0], fixture_tables[1]};
	struct schema schema = {.hash = 12, .tables = tables, .table_count = 2};
	struct message_commit c = {.position = 77, .mark = 1, .fill_done = true};
	struct message_hello hello = {0};

	tables[1].columns = columns;
	tables[1].column_count = 2;
	app(f, "CREATE INDEX gone ON units(floor); CREATE INDEX mine ON units(code); "
	       "UPDATE units SET code = 'B', floor = 12 WHERE id = '%s'", unit(1));
	fixture_welcome(f, WELCOME_FILL);
	assert_ok(replica_store_ops.schema(f->r, &schema, &fixture_why));
	assert_says(f, "12", "SELECT floor FROM units WHERE id = '%s'", unit(1));
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	assert_says(f, "{\"floor\":12}", "SELECT \"values\" FROM ferry_rejected");
	assert_says(f, "1", "SELECT count(*) FROM sqlite_schema WHERE name = 'mine'");
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE name = 'gone'"); /* its column is */
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.schema_hash, 12);
	app(f, "INSERT INTO units(id, extra) VALUES ('%s', '{}')", unit(60));
}

/* Cut between the schema and the first rows, it shows the old state still: who says
 * that it has the new schema would get changes instead of a fill. */
static void R15_fill_that_got_no_rows_says_the_schema_of_what_it_shows(void **state)
{
	struct fixture *f = *state;
	struct schema other = fixture_schema;
	struct message_hello hello = {0};

	other.hash = 12;
	fixture_welcome(f, WELCOME_FILL);
	assert_ok(replica_store_ops.schema(f->r, &other, &fixture_why));
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.fill_table, 0);
	assert_int_equal(hello.schema_hash, fixture_schema.hash);
	fill_rows(f, 0, f->row_count);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.fill_table, T_UNITS);
	assert_int_equal(hello.schema_hash, 12);
}

/* ---- R16 ---- */

static void R16_replace_keeps_old_values(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	const struct change_set *s;

	app(f, "INSERT OR REPLACE INTO units(id, code, floor, created_at, status) "
	       "SELECT id, 'R', floor, created_at, status FROM units WHERE id = '%s'", unit(1));
	s = only_set(f, &push);
	assert_int_equal(s->blocks[0].op, ROW_UPDATE);
	assert_int_equal(s->blocks[0].column_count, 1);
	assert_int_equal(s->blocks[0].nums[0], 3);
	f->verdicts[1] = (struct hub_verdict){VERDICT_REJECTED, FERRY_CONSTRAINT, ++f->position};
	f->last_number = 1;
	commit(f);
	assert_says(f, "A", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "11", "SELECT serial FROM units WHERE id = '%s'", unit(1));
}

static void R16_upsert_and_ignore_are_captured_once(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "INSERT INTO units(id, code) VALUES ('%s', 'U') ON CONFLICT(id) DO UPDATE SET code = excluded.code;"
	       "INSERT OR IGNORE INTO units(id, code) VALUES ('%s', 'I')", unit(1), unit(2));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 1);
	assert_int_equal(push.sets[0].block_count, 1);
	assert_int_equal(push.sets[0].blocks[0].row_count, 1);
	assert_int_equal(push.sets[0].blocks[0].op, ROW_UPDATE);
}

static void R16_key_update_aborts(void **state)
{
	struct fixture *f = *state;
	char sql[256];

	(void)snprintf(sql, sizeof(sql), "UPDATE units SET id = '%s' WHERE id = '%s'", unit(99), unit(1));
	assert_int_equal(app_try(f, sql), FERRY_USAGE);
	assert_non_null(strstr(fixture_why.text, "cannot change"));
	(void)snprintf(sql, sizeof(sql), "UPDATE units SET id = id, code = 'B' WHERE id = '%s'", unit(1));
	assert_int_equal(app_try(f, sql), FERRY_OK);
}

static void R16_capture_misses_only_the_agents_own_writes(void **state)
{
	struct fixture *f = *state;

	hub_write(f, 1, "code", "hub");
	commit(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_log WHERE op > 0");
	app(f, "UPDATE units SET code = 'app' WHERE id = '%s'", unit(1));
	assert_says(f, "1", "SELECT count(*) FROM ferry_log WHERE op > 0");
}

static void wrong_writes_abort_with_a_message(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(app_try(f, "UPDATE units SET serial = 5"), FERRY_USAGE);
	assert_non_null(strstr(fixture_why.text, "read-only"));
	assert_int_equal(app_try(f, "INSERT INTO units(id) VALUES ('AB000000-0000-0000-0000-000000000001')"), FERRY_USAGE);
	assert_int_equal(app_try(f, "UPDATE units SET status = 'gone'"), FERRY_USAGE);
	assert_says(f, "0", "SELECT count(*) FROM ferry_log WHERE op > 0");
}

static void bad_value_is_set_aside_and_jams_nothing(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET code = 'nul' || char(0) || 'x' WHERE id = '%s'; UPDATE units SET code = 'fine' WHERE id = '%s'",
	    unit(1), unit(2));
	cut(f);
	app(f, "UPDATE units SET floor = 5 WHERE id IN ('%s', '%s')", unit(1), unit(2));
	sync_all(f);
	assert_says(f, "fine", "SELECT code FROM units WHERE id = '%s'", unit(2));
	assert_says(f, "5", "SELECT floor FROM units WHERE id = '%s'", unit(2));
	assert_says(f, "A", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "NUL_IN_TEXT", "SELECT name FROM ferry_rejected ORDER BY id LIMIT 1");
	assert_says(f, "1", "SELECT sentence LIKE 'The value of units.code has a NUL character in it.%%' FROM ferry_rejected ORDER BY id LIMIT 1");
	assert_proof(f);
}

static void sentence_of_a_bad_value_says_what_form_it_should_have(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET created_at = 'tomorrow' WHERE id = '%s'", unit(1));
	sync_all(f);
	app(f, "UPDATE units SET code = CAST(x'61ff' AS TEXT) WHERE id = '%s'", unit(1));
	sync_all(f);
	assert_says(f, "The value of units.created_at is no time as 2026-03-01T08:30:00Z.", "SELECT sentence FROM ferry_rejected ORDER BY id LIMIT 1");
	assert_says(f, "The value of units.code is no text in UTF-8.", "SELECT sentence FROM ferry_rejected ORDER BY id DESC LIMIT 1");
}

static void insert_then_delete_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	struct message_hello hello = {0};

	app(f, "BEGIN; INSERT INTO units(id) VALUES ('%s'); DELETE FROM units WHERE id = '%s'; COMMIT", unit(70), unit(70));
	cut(f);
	assert_false(next_push(f, 65536, &push));
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.last_number, 0);
	app(f, "BEGIN; DELETE FROM units WHERE id = '%s'; INSERT INTO units(id, code) VALUES ('%s', 'new'); COMMIT", unit(1),
	    unit(1));
	assert_int_equal(only_set(f, &push)->blocks[0].op, ROW_UPDATE);
}

static void floats_keep_nan_and_negative_zero(void **state)
{
	struct fixture *f = *state;
	struct uuid key = key_of(1);
	struct hub_row *row = hub_find(f, T_UNITS, &key, false);

	row->cells[6].v = (struct value){.kind = VALUE_FLOAT, .f = -0.0};
	row->position = ++f->position;
	commit(f);
	assert_says(f, "-0", "SELECT area FROM units WHERE id = '%s'", unit(1));
	app(f, "UPDATE units SET area = 'NaN' WHERE id = '%s'", unit(1));
	sync_all(f);
	assert_true(row->cells[6].v.kind == VALUE_FLOAT && row->cells[6].v.f != row->cells[6].v.f);
	assert_proof(f);
}

static void commit_of_another_connection_is_noticed_once(void **state)
{
	struct fixture *f = *state;

	(void)replica_changed(f->r);
	assert_false(replica_changed(f->r));
	app(f, "UPDATE units SET floor = 2 WHERE id = '%s'", unit(1));
	assert_true(replica_changed(f->r));
	assert_false(replica_changed(f->r));
}

static void R14_states_that_were_spilled_are_folded_one_after_the_other(void **state)
{
	struct fixture *f = *state;
	struct replica_options o = {.busy_timeout_ms = 2000, .wall = fixture_wall, .wall_ctx = f};

	for (o.frames_bytes_max = 1; o.frames_bytes_max < 4000; o.frames_bytes_max = o.frames_bytes_max * 2) {
		replica_close(f->r); /* none, some and all of the frames have room */
		assert_ok(replica_open(f->path, &o, &f->r, &fixture_why));
		come_and_go_in_one_commit(f);
		frame(f, "tenant", 1, ROW_INSERT);
		bare_commit(f);
	}
}

static void frames_beyond_the_memory_bound_are_spilled_and_applied(void **state)
{
	struct fixture *f = *state;
	struct replica_options o = {.busy_timeout_ms = 2000, .frames_bytes_max = 2000, .wall = fixture_wall, .wall_ctx = f};

	replica_close(f->r);
	assert_ok(replica_open(f->path, &o, &f->r, &fixture_why));
	for (uint32_t n = 100; n < 150; n++)
		hub_write(f, n, "code", "spilled");
	hub_delete(f, 1);
	commit(f);
	assert_says(f, "50", "SELECT count(*) FROM units WHERE code = 'spilled'");
	assert_says(f, "0", "SELECT count(*) FROM ferry_frame");
	assert_proof(f);
}

static void no_replica_is_told_from_a_damaged_one(void **state)
{
	struct fixture *f = *state;
	const struct replica_options o = {0};
	struct replica *r = NULL;
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/none.db", f->folder);
	assert_int_equal(replica_open(path, &o, &r, &fixture_why), FERRY_NOT_FOUND);
	file = fopen(path, "w");
	assert_non_null(file);
	for (int i = 0; i < 500; i++)
		(void)fputs("this is no database ", file);
	(void)fclose(file);
	assert_int_equal(replica_open(path, &o, &r, &fixture_why), FERRY_CORRUPT);
	(void)unlink(path);
}

static void R9_dropped_triggers_are_made_anew_when_the_file_is_opened(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	const struct change_set *s;

	assert_int_equal(replica_triggers_restored(f->r), 0);
	app(f, "DROP TRIGGER ferry_%u_update_0; DROP TRIGGER ferry_%u_noted", T_UNITS, T_UNITS);
	replica_close(f->r);
	fixture_open(f);
	assert_int_equal(replica_triggers_restored(f->r), 1);
	app(f, "UPDATE units SET code = 'captured' WHERE id = '%s'", unit(1));
	s = only_set(f, &push);
	assert_int_equal(s->blocks[0].op, ROW_UPDATE);
	replica_close(f->r);
	fixture_open(f);
	assert_int_equal(replica_triggers_restored(f->r), 0);
}

static void table_of_the_replica_that_was_dropped_needs_a_person(void **state)
{
	struct fixture *f = *state;

	bool more = false;

	app(f, "DROP TABLE ferry_log");
	assert_int_equal(replica_store_ops.cut(f->r, &more, &fixture_why), FERRY_CORRUPT);
	assert_non_null(strstr(fixture_why.text, "ferry_log"));
	assert_non_null(strstr(fixture_why.text, "--force"));
	assert_int_equal(ferry_error_class(FERRY_CORRUPT), FERRY_CLASS_STOP); /* the agent ends with 5 */
}

/* 272 MiB: more than the working memory; 68 MiB: more than a row may have. The edits above it are refused with
 * it or go on, and the value itself stays in the replica. */
static void P6_value_far_beyond_the_limit_is_set_aside_and_the_others_flow(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET code = hex(zeroblob(35651584)) WHERE id = '%s'", unit(1));
	app(f, "UPDATE units SET floor = 5 WHERE id = '%s'", unit(2));
	app(f, "UPDATE units SET code = 'short' WHERE id = '%s'", unit(1));
	app(f, "INSERT INTO units(id, code) VALUES ('%s', hex(zeroblob(142606336)))", unit(50));
	cut(f);
	hub_write(f, 1, "floor", "7"); /* laid beneath the pending edits */
	commit(f);
	sync_all(f);
	assert_says(f, "5", "SELECT floor FROM units WHERE id = '%s'", unit(2));
	assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", unit(50));
	assert_says(f, "0", "SELECT count(*) FROM ferry_outbox");
	assert_says(f, "2", "SELECT count(*) FROM ferry_rejected WHERE name = 'ROW_TOO_LARGE'");
	assert_says(f, "71303168,285212672",
		    "SELECT group_concat(length(v.value)) FROM (SELECT * FROM ferry_rejected ORDER BY id) r JOIN ferry_rejected_value v ON v.rejected = r.id "
		    "WHERE v.\"column\" = 'code' AND r.name = 'ROW_TOO_LARGE'");
	app(f, "DELETE FROM ferry_rejected");
	assert_says(f, "0", "SELECT count(*) FROM ferry_rejected_value");
	assert_proof(f);
}

static void P6_value_far_beyond_the_limit_survives_a_fill_until_it_is_refused(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET code = hex(zeroblob(35651584)) WHERE id = '%s'", unit(1));
	cut(f);
	fill_all(f);
	assert_says(f, "71303168", "SELECT length(code) FROM units WHERE id = '%s'", unit(1));
	sync_all(f);
	assert_says(f, "71303168", "SELECT length(value) FROM ferry_rejected_value");
	assert_proof(f);
}

/* ---- P10 ---- */

static void P10_a_stamp_of_a_clock_that_was_ahead_is_corrected_with_the_first_contact(void **state)
{
	static const char *const scopes[] = {SCOPE};
	struct fixture *f = *state;
	struct message_push push;
	int64_t now, made;

	app(f, "UPDATE units SET floor = 3 WHERE id = '%s'", unit(1));
	cut(f);
	assert_true(next_push(f, 65536, &push));
	made = push.sets[0].at;
	now = made - INT64_C(3600000000); /* the hub: it is an hour earlier */
	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &(struct message_welcome){.tenant = key_of(1), .device = key_of(2),
							 .epoch = key_of(3), .mode = WELCOME_DELTA, .scopes = scopes,
							 .scope_count = 1, .clock = now}, &fixture_why));
	assert_true(next_push(f, 65536, &push));
	assert_true(push.sets[0].at <= now);
}

static int64_t stamp_of_last(struct fixture *f)
{
	struct message_push push;

	f->cursor = (struct push_cursor){.number = f->last_number};
	cut(f);
	assert_true(next_push(f, 65536, &push));
	f->last_number = push.sets[push.set_count - 1].number;
	return push.sets[push.set_count - 1].at;
}

/* The app's clock is this machine's; the agent's is set after the edit and before the look at it. */
static void P10_an_edit_that_was_made_before_the_clock_was_set_is_stamped_by_the_clock_of_then(void **state)
{
	static const int64_t day = INT64_C(86400000000);
	struct fixture *f = *state;

	for (int64_t jump = -10 * day; jump <= 10 * day; jump += 20 * day) {
		f->wall = clock_wall_us();
		replica_store_ops.clock(f->r, 0);
		cut(f);
		app(f, "UPDATE units SET floor = coalesce(floor, 0) + 1 WHERE id = '%s'", unit(1));
		f->wall = clock_wall_us() + jump;
		replica_store_ops.clock(f->r, -jump);
		int64_t stamp = stamp_of_last(f);
		assert_true(stamp > clock_wall_us() - day && stamp < clock_wall_us() + day);
	}
}

static void P10_an_edit_of_after_the_clock_was_set_is_stamped_by_the_clock_of_now(void **state)
{
	static const int64_t day = INT64_C(86400000000);
	struct fixture *f = *state;

	f->wall = clock_wall_us() - 10 * day; /* the hub's */
	replica_store_ops.clock(f->r, 0);
	cut(f);
	f->wall += 10 * day;
	replica_store_ops.clock(f->r, -10 * day);
	app(f, "UPDATE units SET floor = coalesce(floor, 0) + 1 WHERE id = '%s'", unit(1));
	int64_t stamp = stamp_of_last(f);
	assert_true(stamp > clock_wall_us() - 11 * day && stamp < clock_wall_us() - 9 * day);
}

/* The hub has not answered yet, but told of later states; then the clock is set, and the link begins anew. */
static void P10_an_edit_that_waits_keeps_its_stamp_when_the_clock_is_set(void **state)
{
	static const int64_t day = INT64_C(86400000000), minute = INT64_C(60000000);
	static const char *const scopes[] = {SCOPE};
	struct fixture *f = *state;
	struct message_push push;

	f->wall = clock_wall_us();
	replica_store_ops.clock(f->r, 0);
	app(f, "UPDATE units SET floor = 3 WHERE id = '%s'", unit(1));
	int64_t stamp = stamp_of_last(f);
	f->wall += minute;
	hub_write(f, 2, "floor", "9");
	commit(f);
	for (int64_t jump = -day; jump <= day; jump += 2 * day) {
		int64_t now = clock_wall_us() + 2 * minute;

		f->wall = now + jump;
		assert_ok(replica_store_ops.welcome(f->r, &(struct message_welcome){.tenant = key_of(1), .device = key_of(2),
								 .epoch = key_of(3), .mode = WELCOME_DELTA, .scopes = scopes,
								 .scope_count = 1, .clock = now}, &fixture_why));
		f->cursor = (struct push_cursor){0};
		assert_true(next_push(f, 65536, &push));
		assert_int_equal(push.sets[0].at, stamp);
	}
}

/* The clock was a day behind, so the edit was stamped by the state it was made on; then a later state came, and then the hub's time. */
static void P10_an_edit_of_a_clock_that_was_behind_is_not_later_than_states_that_came_after_it(void **state)
{
	static const int64_t day = INT64_C(86400000000), minute = INT64_C(60000000);
	static const char *const scopes[] = {SCOPE};
	struct fixture *f = *state;
	struct message_commit c = {.mark = 1};
	struct message_push push;
	int64_t device = clock_wall_us(), hub = device + day;

	f->wall = device;
	replica_store_ops.clock(f->r, 0);
	c.position = ++f->position;
	c.clock = hub - 60 * minute;
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	app(f, "UPDATE units SET floor = 3 WHERE id = '%s'", unit(1));
	assert_int_equal(stamp_of_last(f), c.clock + 1);
	c.position = ++f->position;
	c.clock = hub + 10 * minute;
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	f->wall = device + 20 * minute;
	assert_ok(replica_store_ops.welcome(f->r, &(struct message_welcome){.tenant = key_of(1), .device = key_of(2),
							 .epoch = key_of(3), .mode = WELCOME_DELTA, .scopes = scopes,
							 .scope_count = 1, .clock = hub + 20 * minute}, &fixture_why));
	f->cursor = (struct push_cursor){0};
	assert_true(next_push(f, 65536, &push));
	assert_true(push.sets[0].at > hub - minute && push.sets[0].at < hub + 5 * minute);
}

/* ---- R17, R18: the hub went back in time ---- */

static void R18_bookmarks_of_the_past_reach_far_back_in_few(void **state)
{
	int64_t positions[4000];
	bool keep[4000];
	uint32_t n = 4000, kept = 0;

	(void)state;
	for (uint32_t round = 0; round < 8; round++) { /* as they come: thinned, then more */
		for (uint32_t i = 0; i < n; i++)
			positions[i] = 1000000 * (round + 1) - (int64_t)i * 250;
		kept = bookmarks_thin(positions, n, keep);
		assert_true(kept <= FERRY_PAST_MAX);
		for (uint32_t i = 0; i < 16; i++)
			assert_true(keep[i]);
		assert_true(keep[n - 1]);
		for (uint32_t i = 16, last = 15; i < n; i++) { /* no gap is longer than what lies before it */
			if (keep[i]) {
				assert_true(positions[last] - positions[i] <= positions[0] - positions[last] + 250 || i + 1 == n);
				last = i;
			}
		}
	}
}

static void rewind_to(struct fixture *f, int64_t position)
{
	static const char *const scopes[] = {SCOPE};
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(4), .mode = WELCOME_FILL,
					  .code = FERRY_OTHER_HISTORY, .scopes = scopes, .scope_count = 1, .clock = f->wall,
					  .common = position, .common_mark = position * 7};

	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

static void R18_what_was_confirmed_is_offered_again_when_the_hub_has_lost_it(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	struct message_hello hello = {0};
	const struct change_set *s;
	int64_t common = f->applied;

	app(f, "UPDATE units SET code = 'kept' WHERE id = '%s'", unit(1));
	s = only_set(f, &push);
	hub_take_set(f, s);
	commit(f);
	assert_says(f, "1", "SELECT kept_sets FROM ferry_status");
	assert_says(f, "0", "SELECT waiting_sets + replays FROM ferry_status");
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.past[hello.past_count - 1], f->applied);
	assert_int_equal(hello.past_marks[hello.past_count - 1], f->applied * 7);
	app(f, "UPDATE units SET floor = 4 WHERE id = '%s'", unit(1)); /* on top of what is lost */
	cut(f);
	rewind_to(f, common);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.position, common);
	assert_true(hello.refill); /* its rows are still the lost history's */
	assert_says(f, "1", "SELECT replays FROM ferry_status");
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 2);
	s = push.sets;
	assert_int_equal(s[0].number, 1);
	assert_int_equal(s[0].old_position, f->applied);
	assert_int_equal(s[0].old_verdict, VERDICT_ACCEPTED);
	assert_int_equal(s[0].lost_from, common + 1);
	assert_int_equal(s[0].blocks[0].row_count, 1);
	assert_int_equal(s[1].number, 2);
	assert_int_equal(s[1].old_position, 0);
	assert_int_equal(s[1].base_position, f->applied);
	assert_int_equal(s[1].lost_from, common + 1);
}

static void R18_numbers_that_fell_out_of_the_history_go_out_empty_and_refused(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	for (int i = 0; i < 3; i++) {
		app(f, "UPDATE units SET floor = %d WHERE id = '%s'", i + 7, unit(1));
		hub_take_set(f, only_set(f, &push));
		commit(f);
	}
	app(f, "DELETE FROM ferry_kept WHERE number = 2");
	rewind_to(f, 0);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 3);
	assert_int_equal(push.sets[1].number, 2);
	assert_int_equal(push.sets[1].block_count, 0);
	assert_int_equal(push.sets[1].old_verdict, VERDICT_REJECTED);
	assert_int_equal(push.sets[1].old_code, FERRY_FORGOTTEN);
	assert_int_equal(push.sets[2].block_count, 1);
}

static void R18_what_a_backup_holds_is_forgotten_and_no_more(void **state)
{
	struct fixture *f = *state;
	static const char *const scopes[] = {SCOPE};
	struct message_push push;
	int64_t first;

	app(f, "UPDATE units SET floor = 7 WHERE id = '%s'", unit(1));
	hub_take_set(f, only_set(f, &push));
	commit(f);
	first = f->applied;
	app(f, "UPDATE units SET floor = 8 WHERE id = '%s'", unit(1));
	hub_take_set(f, only_set(f, &push));
	commit(f);
	assert_says(f, "2", "SELECT kept_sets FROM ferry_status");
	assert_ok(replica_store_ops.welcome(f->r, &(struct message_welcome){.tenant = key_of(1), .device = key_of(2),
							 .epoch = key_of(3), .mode = WELCOME_DELTA, .settled = 2,
							 .scopes = scopes, .scope_count = 1,
							 .backed_up = first, .clock = f->wall}, &fixture_why));
	assert_says(f, "2", "SELECT group_concat(number) FROM ferry_kept");
	assert_says(f, "0", "SELECT forgotten FROM ferry_status");
}

/* Both by decades; the age is looked at every so many commits. */
static void R18_P10_a_clock_that_is_set_makes_nothing_fall_out_of_the_history(void **state)
{
	static const int64_t year = INT64_C(31536000000000);
	struct fixture *f = *state;
	struct message_push push;

	app(f, "UPDATE units SET floor = 7 WHERE id = '%s'", unit(1));
	hub_take_set(f, only_set(f, &push));
	commit(f);
	for (int i = 0; i <= 2 * FERRY_PAST_MAX; i++) {
		f->skew = i < FERRY_PAST_MAX ? 20 * year : -20 * year;
		f->wall += 1000000;
		hub_write(f, 2, "floor", i % 2 ? "1" : "2");
		commit(f);
	}
	assert_says(f, "1", "SELECT kept_sets FROM ferry_status");
	assert_says(f, "0", "SELECT forgotten FROM ferry_status");
}

static void R18_what_is_older_than_the_history_may_be_falls_out_by_the_hubs_clock(void **state)
{
	struct fixture *f = *state;
	struct message_push push;

	app(f, "UPDATE units SET floor = 7 WHERE id = '%s'", unit(1));
	hub_take_set(f, only_set(f, &push));
	commit(f);
	f->wall += REPLICA_HISTORY_AGE_US + 1;
	f->skew = -REPLICA_HISTORY_AGE_US;
	for (int i = 0; i <= FERRY_PAST_MAX; i++) {
		hub_write(f, 2, "floor", i % 2 ? "1" : "2");
		commit(f);
	}
	assert_says(f, "0", "SELECT kept_sets FROM ferry_status");
	assert_says(f, "1", "SELECT forgotten FROM ferry_status");
}

static void R17_values_of_the_lost_history_are_kept_until_they_are_back(void **state)
{
	struct fixture *f = *state;

	hub_write(f, 1, "code", "lost");
	hub_write(f, 2, "code", "comes back");
	commit(f);
	rewind_to(f, 1);
	hub_write(f, 1, "code", "old");
	hub_write(f, 2, "code", "older");
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
	assert_says(f, "lost", "SELECT value FROM ferry_lost WHERE key = '%s' AND \"column\" = 'code'", unit(1));
	assert_says(f, "old", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "2", "SELECT lost FROM ferry_status");
	hub_write(f, 2, "code", "comes back");
	commit(f);
	assert_says(f, "1", "SELECT lost FROM ferry_status");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(a_rested_replica_uses_less_memory_and_goes_on),
		replica_test(R14_row_moves_between_held_scopes_and_stays),
		replica_test(R14_row_that_left_keeps_its_pending_edits),
		replica_test(R14_states_of_one_commit_are_folded_one_after_the_other),
		replica_test(R14_states_that_were_spilled_are_folded_one_after_the_other),
		replica_test(R15_kill_during_fill_resumes),
		replica_test(R15_changed_schema_keeps_values_of_dropped_columns),
		replica_test(R15_fill_that_got_no_rows_says_the_schema_of_what_it_shows),
		replica_test(R16_replace_keeps_old_values),
		replica_test(R16_upsert_and_ignore_are_captured_once),
		replica_test(R16_key_update_aborts),
		replica_test(P10_a_stamp_of_a_clock_that_was_ahead_is_corrected_with_the_first_contact),
		replica_test(P10_an_edit_that_was_made_before_the_clock_was_set_is_stamped_by_the_clock_of_then),
		replica_test(P10_an_edit_of_after_the_clock_was_set_is_stamped_by_the_clock_of_now),
		replica_test(P10_an_edit_that_waits_keeps_its_stamp_when_the_clock_is_set),
		replica_test(P10_an_edit_of_a_clock_that_was_behind_is_not_later_than_states_that_came_after_it),
		cmocka_unit_test(R18_bookmarks_of_the_past_reach_far_back_in_few),
		replica_test(R18_what_was_confirmed_is_offered_again_when_the_hub_has_lost_it),
		replica_test(R18_numbers_that_fell_out_of_the_history_go_out_empty_and_refused),
		replica_test(R18_what_a_backup_holds_is_forgotten_and_no_more),
		replica_test(R18_P10_a_clock_that_is_set_makes_nothing_fall_out_of_the_history),
		replica_test(R18_what_is_older_than_the_history_may_be_falls_out_by_the_hubs_clock),
		replica_test(R17_values_of_the_lost_history_are_kept_until_they_are_back),
		replica_test(R16_capture_misses_only_the_agents_own_writes),
		replica_test(wrong_writes_abort_with_a_message),
		replica_test(bad_value_is_set_aside_and_jams_nothing),
		replica_test(sentence_of_a_bad_value_says_what_form_it_should_have),
		replica_test(insert_then_delete_leaves_nothing),
		replica_test(floats_keep_nan_and_negative_zero),
		replica_test(commit_of_another_connection_is_noticed_once),
		replica_test(frames_beyond_the_memory_bound_are_spilled_and_applied),
		replica_test(no_replica_is_told_from_a_damaged_one),
		replica_test(R9_dropped_triggers_are_made_anew_when_the_file_is_opened),
		replica_test(table_of_the_replica_that_was_dropped_needs_a_person),
		replica_test(P6_value_far_beyond_the_limit_is_set_aside_and_the_others_flow),
		replica_test(P6_value_far_beyond_the_limit_survives_a_fill_until_it_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
