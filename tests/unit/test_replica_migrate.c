/* A changed schema takes force in place: rows, pending edits, sums and what
 * apps made stay (agent/replica_migrate.c). */
#include "tests/unit/replica_fixture.h"

#include <sqlite3.h>

#define CHANGED_MAX 10

struct changed { /* the fixture's schema, to be altered */
	struct schema_column columns[CHANGED_MAX];
	struct schema_table tables[3];
	struct schema schema;
};

static void changed_init(struct changed *c)
{
	memcpy(c->columns, unit_columns, sizeof(unit_columns));
	memcpy(c->tables, fixture_tables, sizeof(fixture_tables));
	c->tables[1].columns = c->columns;
	c->schema = (struct schema){.hash = 12, .tables = c->tables, .table_count = 2, .step = 7};
}

static void changed_add(struct changed *c, struct schema_column column)
{
	c->columns[c->tables[1].column_count++] = column;
}

static void changed_drop(struct changed *c, int column)
{
	c->tables[1].column_count--;
	memmove(&c->columns[column], &c->columns[column + 1], (size_t)(CHANGED_MAX - column - 1) * sizeof(c->columns[0]));
}

/* The hub's state of nothing, after the schema. */
static enum ferry_error take(struct fixture *f, const struct schema *schema)
{
	const struct message_commit c = {.position = ++f->position, .mark = 1};

	fixture_welcome(f, WELCOME_DELTA);
	assert_ok(replica_store_ops.schema(f->r, schema, &fixture_why));
	return replica_store_ops.commit(f->r, &c, &f->report, &fixture_why);
}

static const char *columns_of(struct fixture *f, const char *table)
{
	return ask(f, "SELECT group_concat(name, ' ') FROM pragma_table_info('%s')", table);
}

static void waiting_schema_shows_nothing_until_the_first_state_and_outlives_a_crash(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};
	struct message_commit c = {.position = 50, .mark = 1};
	struct changed to;

	changed_init(&to);
	changed_add(&to, (struct schema_column){.num = 10, .name = "extra", .kind = KIND_INT});
	fixture_welcome(f, WELCOME_DELTA);
	assert_ok(replica_store_ops.schema(f->r, &to.schema, &fixture_why));
	assert_string_equal(columns_of(f, "units"), "id project_id code floor status created_at serial area");
	replica_close(f->r);
	fixture_open(f);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.schema_hash, 12);
	fixture_welcome(f, WELCOME_DELTA);
	assert_ok(replica_store_ops.schema(f->r, &to.schema, &fixture_why));
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	assert_string_equal(columns_of(f, "units"), "id project_id code floor status created_at serial area extra");
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.step, 7);
}

static void new_column_has_its_value_in_rows_and_beneath_pending_edits(void **state)
{
	struct fixture *f = *state;
	struct changed to;

	changed_init(&to);
	changed_add(&to, (struct schema_column){.num = 10, .name = "city", .kind = KIND_TEXT, .not_null = true, .has_default = true,
						.default_sql = "'Kairo'", .filled = value_text("Kairo", 5)});
	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'; DELETE FROM units WHERE id = '%s'; "
	       "INSERT INTO units(id, code) VALUES ('%s', 'new')", unit(1), unit(2), unit(20));
	assert_ok(take(f, &to.schema));
	assert_says(f, "5", "SELECT count(*) FROM units WHERE city = 'Kairo'");
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
	replica_close(f->r); /* and so says the file */
	fixture_open(f);
	assert_proof(f);
	assert_says(f, "ok", "PRAGMA integrity_check");
}

static void column_that_got_another_value_than_its_default_is_copied(void **state)
{
	struct fixture *f = *state;
	struct changed to;

	changed_init(&to);
	changed_add(&to, (struct schema_column){.num = 10, .name = "price", .kind = KIND_NUMERIC, .filled = value_text("1.50", 4)});
	changed_add(&to, (struct schema_column){.num = 11, .name = "grade", .kind = KIND_TEXT, .has_default = true,
						.default_sql = "'b'"});
	assert_ok(take(f, &to.schema));
	assert_says(f, "5", "SELECT count(*) FROM units WHERE price = '1.50' AND grade IS NULL");
	app(f, "INSERT INTO units(id) VALUES ('%s')", unit(20));
	assert_says(f, "b", "SELECT grade FROM units WHERE id = '%s'", unit(20));
	assert_proof(f);
}

static void dropped_column_leaves_the_others_and_their_pending_edits(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	struct changed to;

	changed_init(&to);
	changed_drop(&to, 2); /* floor */
	app(f, "CREATE INDEX mine ON units(code); CREATE INDEX gone ON units(floor); CREATE VIEW seen AS SELECT floor FROM units");
	app(f, "UPDATE units SET code = 'mine', area = 2.5 WHERE id = '%s'; DELETE FROM units WHERE id = '%s'", unit(1), unit(2));
	assert_ok(take(f, &to.schema));
	assert_string_equal(columns_of(f, "units"), "id project_id code status created_at serial area");
	assert_says(f, "mine 2.5", "SELECT code || ' ' || area FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "1", "SELECT count(*) FROM sqlite_schema WHERE name = 'mine'");
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE name = 'gone'");
	assert_proof(f);
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.sets[0].blocks[0].column_count, 2);
	assert_int_equal(push.sets[0].blocks[0].nums[1], 9);
	assert_memory_equal(push.sets[0].blocks[0].cells[0].p, "mine", 4);
}

/* The hub's verdict on everything. */
static enum ferry_error refuse_all(struct fixture *f, int64_t last)
{
	struct settled settled[8];
	struct message_commit c = {.position = ++f->position, .mark = 1, .settled = settled};

	for (int64_t n = 1; n <= last; n++)
		settled[c.settled_count++] = (struct settled){.number = n, .verdict = VERDICT_REJECTED, .code = FERRY_UNKNOWN_COLUMN,
							      .sentence = "no", .position = f->position};
	return replica_store_ops.commit(f->r, &c, &f->report, &fixture_why);
}

static void P5_edits_of_a_dropped_column_are_sent_as_they_were_written_and_kept_when_refused(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	struct changed to;

	changed_init(&to);
	changed_drop(&to, 2); /* floor */
	app(f, "UPDATE units SET code = 'mine', floor = 12 WHERE id = '%s'", unit(1));
	cut(f);
	app(f, "INSERT INTO units(id, code, floor) VALUES ('%s', 'new', 3)", unit(20));
	cut(f);
	app(f, "UPDATE units SET code = 'other' WHERE id = '%s'", unit(2));
	assert_ok(take(f, &to.schema));
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(1));
	for (int again = 0; again < 2; again++) { /* the same after a restart */
		f->cursor = (struct push_cursor){0};
		assert_true(next_push(f, 65536, &push));
		assert_int_equal(push.set_count, 1);
		assert_int_equal(push.sets[0].step, 1);
		assert_int_equal(push.sets[0].blocks[0].column_count, 2);
		assert_int_equal(push.sets[0].blocks[0].nums[1], 4);
		assert_int_equal(push.sets[0].blocks[0].cells[1].i, 12);
		assert_true(next_push(f, 65536, &push));
		assert_int_equal(push.sets[0].number, 2);
		assert_int_equal(push.sets[0].blocks[0].op, ROW_INSERT);
		assert_true(next_push(f, 65536, &push));
		assert_int_equal(push.sets[0].number, 3); /* touches nothing that went */
		assert_int_equal(push.sets[0].blocks[0].column_count, 1);
		assert_false(next_push(f, 65536, &push));
		replica_close(f->r);
		fixture_open(f);
	}
	assert_ok(refuse_all(f, 2));
	assert_says(f, "{\"code\":\"mine\",\"floor\":12}", "SELECT \"values\" FROM ferry_rejected WHERE number = 1");
	assert_says(f, "3", "SELECT json_extract(\"values\", '$.floor') FROM ferry_rejected WHERE number = 2");
	assert_says(f, "A", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "0", "SELECT (SELECT count(*) FROM ferry_former) + (SELECT count(*) FROM ferry_former_value)");
	assert_proof(f);
}

static void P5_joined_edits_are_taken_apart_and_what_a_dropped_column_held_is_kept(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	struct changed to;

	changed_init(&to);
	changed_drop(&to, 2); /* floor */
	app(f, "UPDATE units SET floor = 12 WHERE id = '%s'; UPDATE units SET code = 'mine', floor = 13 WHERE id = '%s'", unit(1),
	    unit(2));
	assert_ok(take(f, &to.schema));
	assert_true(next_push(f, 65536, &push));
	assert_true(push.sets[0].joined);
	assert_int_equal(push.sets[0].step, 1);
	assert_ok(refuse_all(f, 1));
	assert_says(f, "12 13", "SELECT group_concat(json_extract(\"values\", '$.floor'), ' ') FROM ferry_rejected");
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(2)); /* is offered again */
	cut(f);
	f->cursor = (struct push_cursor){0};
	assert_true(next_push(f, 65536, &push));
	for (uint32_t i = 0; i < push.set_count; i++)
		assert_true(push.sets[i].block_count == 0 || push.sets[i].blocks[0].nums[0] == 3);
	assert_proof(f);
}

/* Two joined edits are refused by the very commit that a schema without their column comes in force with. */
static void check_parts_of_the_same_commit(struct fixture *f, bool fill)
{
	const struct settled refused = {.number = 1, .verdict = VERDICT_REJECTED, .position = ++f->position, .code = FERRY_CONSTRAINT};
	const struct message_commit c = {.position = f->position, .mark = 1, .settled = &refused, .settled_count = 1, .fill_done = fill};
	struct message_push push;
	int64_t floors = 0;
	struct changed to;

	changed_init(&to);
	changed_drop(&to, 2); /* floor */
	app(f, "UPDATE units SET floor = 12 WHERE id = '%s'; UPDATE units SET floor = 13 WHERE id = '%s'", unit(1), unit(2));
	cut(f);
	fixture_welcome(f, fill ? WELCOME_FILL : WELCOME_DELTA);
	assert_ok(replica_store_ops.schema(f->r, &to.schema, &fixture_why));
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	cut(f);
	f->cursor = (struct push_cursor){0};
	while (next_push(f, 65536, &push)) {
		for (uint32_t i = 0; i < push.set_count; i++) {
			assert_int_equal(push.sets[i].step, fixture_schema.step);
			assert_int_equal(push.sets[i].blocks[0].column_count, 1);
			assert_int_equal(push.sets[i].blocks[0].nums[0], 4);
			floors = floors * 100 + push.sets[i].blocks[0].cells[0].i;
		}
	}
	assert_int_equal(floors, 1213);
	assert_ok(refuse_all(f, 3));
	assert_says(f, "12 13", "SELECT group_concat(json_extract(\"values\", '$.floor'), ' ') FROM ferry_rejected");
	assert_says(f, "0", "SELECT (SELECT count(*) FROM ferry_former) + (SELECT count(*) FROM ferry_former_value)");
}

/* Of three edits of a row that are offered again the second says nothing any more, since its column went. */
static void P6_edit_of_which_a_dropped_column_leaves_nothing_neither_waits_nor_makes_others_wait(void **state)
{
	static const int codes[] = {FERRY_UNKNOWN_COLUMN, FERRY_DEPENDS, FERRY_DEPENDS};
	struct fixture *f = *state;
	struct settled settled[3];
	struct message_commit c = {.mark = 1, .settled = settled, .settled_count = 3};
	struct message_push push;
	struct changed to;

	changed_init(&to);
	changed_drop(&to, 2); /* floor */
	app(f, "UPDATE units SET code = 'first', floor = 12 WHERE id = '%s'; UPDATE units SET code = 'B' WHERE id = '%s'", unit(1), unit(3));
	cut(f);
	app(f, "UPDATE units SET floor = 13 WHERE id = '%s'; UPDATE units SET code = 'second' WHERE id = '%s'", unit(1), unit(2));
	cut(f);
	app(f, "UPDATE units SET code = 'third' WHERE id = '%s'", unit(1));
	cut(f);
	assert_ok(take(f, &to.schema));
	c.position = ++f->position;
	for (int i = 0; i < 3; i++)
		settled[i] = (struct settled){.number = i + 1, .verdict = VERDICT_REJECTED, .code = codes[i], .position = c.position};
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	app(f, "UPDATE units SET status = 'sold' WHERE id = '%s'", unit(1));
	cut(f);
	f->cursor = (struct push_cursor){0};
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.set_count, 5);
	assert_memory_equal(push.sets[0].blocks[0].cells[0].p, "first", 5);
	assert_memory_equal(push.sets[2].blocks[0].cells[0].p, "second", 6);
	assert_int_equal(push.sets[2].depends_count, 0);
	assert_memory_equal(push.sets[3].blocks[0].cells[0].p, "third", 5);
	assert_int_equal(push.sets[3].depends_count, 1);
	assert_int_equal(push.sets[3].depends[0], push.sets[0].number);
	assert_int_equal(push.sets[4].depends_count, 2);
	assert_int_equal(push.sets[4].depends[0], push.sets[0].number);
	assert_int_equal(push.sets[4].depends[1], push.sets[3].number);
	assert_says(f, "12 13", "SELECT group_concat(json_extract(\"values\", '$.floor'), ' ') FROM ferry_rejected");
	assert_proof(f);
}

static void P5_joined_edits_that_are_refused_as_a_column_is_dropped_keep_what_it_held(void **state)
{
	struct fixture *f = *state;

	check_parts_of_the_same_commit(f, false);
	assert_proof(f);
}

static void P5_joined_edits_that_are_refused_as_a_fill_drops_a_column_keep_what_it_held(void **state)
{
	check_parts_of_the_same_commit(*state, true);
}

static void P5_value_of_another_kind_is_sent_as_it_was_written(void **state)
{
	struct fixture *f = *state;
	struct message_push push;
	struct changed to;

	changed_init(&to);
	to.columns[1].kind = KIND_INT; /* code */
	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	assert_ok(take(f, &to.schema));
	assert_says(f, "NULL", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_true(next_push(f, 65536, &push));
	assert_memory_equal(push.sets[0].blocks[0].cells[0].p, "mine", 4);
	assert_ok(refuse_all(f, 1));
	assert_says(f, "{\"code\":\"mine\"}", "SELECT \"values\" FROM ferry_rejected");
	assert_proof(f);
}

/* The hub may have pruned what a state in place would take. */
static void P5_a_fill_under_another_schema_sends_edits_as_they_were_written(void **state)
{
	struct fixture *f = *state;
	const struct message_commit c = {.position = ++f->position, .mark = 1, .fill_done = true};
	struct message_push push;
	struct changed to;

	changed_init(&to);
	to.columns[1].kind = KIND_INT; /* code */
	changed_drop(&to, 2);          /* floor */
	app(f, "UPDATE units SET code = 'mine', floor = 77 WHERE id = '%s'", unit(1));
	cut(f);
	app(f, "UPDATE units SET status = 'sold' WHERE id = '%s'", unit(2));
	cut(f);
	fixture_welcome(f, WELCOME_FILL);
	assert_ok(replica_store_ops.schema(f->r, &to.schema, &fixture_why));
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	assert_says(f, "0", "SELECT count(*) FROM ferry_rejected");
	assert_true(next_push(f, 65536, &push));
	assert_int_equal(push.sets[0].step, fixture_schema.step);
	assert_int_equal(push.sets[0].blocks[0].column_count, 2);
	assert_memory_equal(push.sets[0].blocks[0].cells[0].p, "mine", 4);
	assert_int_equal(push.sets[0].blocks[0].cells[1].i, 77);
	assert_ok(refuse_all(f, 1));
	assert_says(f, "{\"code\":\"mine\",\"floor\":77}", "SELECT \"values\" FROM ferry_rejected WHERE \"values\" LIKE '%%mine%%'");
	assert_says(f, "0", "SELECT (SELECT count(*) FROM ferry_former) + (SELECT count(*) FROM ferry_former_value)");
}

static void names_of_columns_and_tables_may_change_places(void **state)
{
	struct fixture *f = *state;
	struct changed to;

	changed_init(&to);
	to.columns[1].name = "status";
	to.columns[3].name = "code";
	to.tables[0].name = "units";
	to.tables[1].name = "projects";
	to.tables[1].key = "unit_id";
	app(f, "CREATE INDEX mine ON units(code); UPDATE units SET code = 'mine', status = 'sold' WHERE id = '%s'", unit(1));
	assert_ok(take(f, &to.schema));
	assert_string_equal(columns_of(f, "projects"), "unit_id project_id status floor code created_at serial area");
	assert_string_equal(columns_of(f, "units"), "id name");
	assert_says(f, "mine sold", "SELECT status || ' ' || code FROM projects WHERE unit_id = '%s'", unit(1));
	assert_says(f, "status", "SELECT name FROM pragma_index_info('mine')");
	assert_int_equal(app_try(f, "UPDATE projects SET code = 'odd'"), FERRY_USAGE); /* its check went along */
	assert_proof(f);
	hub_delete(f, 3);
	sync_all(f);
	assert_says(f, "4", "SELECT count(*) FROM projects");
	assert_proof(f);
}

static void what_apps_wrote_in_double_quotes_follows_a_renamed_column(void **state)
{
	struct fixture *f = *state;
	struct changed to;

	changed_init(&to);
	to.columns[1].name = "label"; /* code */
	app(f, "CREATE VIEW labels AS SELECT id, code AS name FROM units WHERE code <> \"none\"");
	app(f, "CREATE TABLE seen(name); CREATE TRIGGER see AFTER UPDATE ON units BEGIN INSERT INTO seen VALUES (new.code || \"!\"); END");
	assert_ok(take(f, &to.schema));
	assert_says(f, "5", "SELECT count(name) FROM labels");
	app(f, "UPDATE units SET label = 'mine' WHERE id = '%s'", unit(1));
	assert_says(f, "mine!", "SELECT name FROM seen");
	assert_proof(f);
}

static void changed_checks_rewrite_no_row(void **state)
{
	static const char *const more[] = {"free", "sold", "held"};
	struct fixture *f = *state;
	struct changed to;

	changed_init(&to);
	to.columns[3].labels = more;
	to.columns[3].label_count = 3;
	app(f, "UPDATE units SET code = 'mine' WHERE id = '%s'", unit(1));
	assert_int_equal(app_try(f, "UPDATE units SET status = 'held'"), FERRY_USAGE);
	assert_ok(take(f, &to.schema));
	app(f, "UPDATE units SET status = 'held' WHERE id = '%s'", unit(2));
	assert_int_equal(app_try(f, "UPDATE units SET status = 'odd'"), FERRY_USAGE);
	assert_says(f, "mine", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "ok", "PRAGMA integrity_check");
	assert_proof(f);
}

static void converted_column_holds_what_sqlite_can_say_until_the_hub_says_more(void **state)
{
	struct fixture *f = *state;
	struct changed to;

	changed_init(&to);
	to.columns[2].kind = KIND_TEXT; /* floor */
	app(f, "UPDATE units SET floor = 12 WHERE id = '%s'", unit(1));
	assert_ok(take(f, &to.schema));
	assert_says(f, "text12", "SELECT typeof(floor) || floor FROM units WHERE id = '%s'", unit(1));
	assert_proof(f);
}

static void new_table_and_one_that_is_no_more(void **state)
{
	static const struct schema_column columns[] = {{.num = 2, .name = "name", .kind = KIND_TEXT}};
	struct fixture *f = *state;
	struct changed to;

	changed_init(&to);
	to.tables[0] = to.tables[1];
	to.tables[1] = (struct schema_table){.table = 30, .name = "rooms", .key = "id", .key_num = 1, .writable = true,
					     .columns = columns, .column_count = 1};
	app(f, "INSERT INTO projects(id, name) VALUES ('%s', 'lost')", unit(40));
	assert_ok(take(f, &to.schema));
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE name = 'projects'");
	assert_says(f, "{\"name\":\"lost\"}", "SELECT \"values\" FROM ferry_rejected");
	app(f, "INSERT INTO rooms(id, name) VALUES ('%s', 'hall')", unit(41));
	cut(f);
	assert_says(f, "rooms", "SELECT \"table\" FROM ferry_outbox");
	assert_proof(f);
	replica_close(f->r);
	fixture_open(f);
	assert_int_equal(replica_triggers_restored(f->r), 0);
}

static void another_key_cannot_be_taken_and_the_next_hello_asks_for_a_fill(void **state)
{
	struct fixture *f = *state;
	struct message_hello hello = {0};
	struct changed to;

	changed_init(&to);
	to.tables[1].key_num = 99;
	assert_int_equal(take(f, &to.schema), FERRY_SCHEMA);
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.step, 0);
	assert_int_equal(hello.schema_hash, 0);
	assert_says(f, "5", "SELECT count(*) FROM units");
	/* The fill takes it. */
	fixture_welcome(f, WELCOME_FILL);
	assert_ok(replica_store_ops.schema(f->r, &to.schema, &fixture_why));
	assert_ok(replica_store_ops.commit(f->r, &(struct message_commit){.position = 90, .mark = 2, .fill_done = true}, &f->report,
					   &fixture_why));
	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_int_equal(hello.step, 7);
	assert_int_equal(hello.schema_hash, 12);
}

static void rows_of_a_column_that_is_not_known_are_not_applied(void **state)
{
	struct fixture *f = *state;
	uint16_t num = 10;
	struct value cell = value_int(1);
	struct uuid key = key_of(1);
	struct block b = {.table = T_UNITS, .op = ROW_UPDATE, .row_count = 1, .keys = &key, .nums = &num, .cells = &cell,
			  .column_count = 1};
	struct message_delta d = {.scope = SCOPE, .from = f->applied, .to = f->position + 1, .blocks = &b, .block_count = 1};
	const struct message_commit c = {.position = f->position + 1, .mark = 1};

	fixture_welcome(f, WELCOME_DELTA);
	assert_ok(replica_store_ops.delta(f->r, &d, &fixture_why));
	assert_int_equal(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why), FERRY_SCHEMA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(waiting_schema_shows_nothing_until_the_first_state_and_outlives_a_crash),
		replica_test(new_column_has_its_value_in_rows_and_beneath_pending_edits),
		replica_test(column_that_got_another_value_than_its_default_is_copied),
		replica_test(dropped_column_leaves_the_others_and_their_pending_edits),
		replica_test(P5_edits_of_a_dropped_column_are_sent_as_they_were_written_and_kept_when_refused),
		replica_test(P5_joined_edits_are_taken_apart_and_what_a_dropped_column_held_is_kept),
		replica_test(P6_edit_of_which_a_dropped_column_leaves_nothing_neither_waits_nor_makes_others_wait),
		replica_test(P5_joined_edits_that_are_refused_as_a_column_is_dropped_keep_what_it_held),
		replica_test(P5_joined_edits_that_are_refused_as_a_fill_drops_a_column_keep_what_it_held),
		replica_test(P5_value_of_another_kind_is_sent_as_it_was_written),
		replica_test(P5_a_fill_under_another_schema_sends_edits_as_they_were_written),
		replica_test(names_of_columns_and_tables_may_change_places),
		replica_test(what_apps_wrote_in_double_quotes_follows_a_renamed_column),
		replica_test(changed_checks_rewrite_no_row),
		replica_test(converted_column_holds_what_sqlite_can_say_until_the_hub_says_more),
		replica_test(new_table_and_one_that_is_no_more),
		replica_test(another_key_cannot_be_taken_and_the_next_hello_asks_for_a_fill),
		replica_test(rows_of_a_column_that_is_not_known_are_not_applied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
