/* R15: the end of a fill, where staged tables become the live ones. */
#include "tests/unit/replica_fixture.h"

static void refill(struct fixture *f)
{
	fixture_welcome(f, WELCOME_FILL);
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
	assert_true(f->report.sums_match);
	assert_proof(f);
}

static void assert_sound(struct fixture *f)
{
	assert_says(f, "ok", "PRAGMA integrity_check");
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE tbl_name GLOB 'ferry_fill_*'");
	assert_says(f, "0", "SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%%\"ferry_fill_%%'");
}

/* No name that a table may have is one of ours, also while it is staged. */
static void R15_a_table_named_as_the_members_are_is_filled_as_any_other(void **state)
{
	struct fixture *f = *state;
	struct schema_table tables[2];
	struct schema schema = fixture_schema;

	memcpy(tables, fixture_tables, sizeof(fixture_tables));
	for (uint32_t i = 0; i < 2; i++)
		tables[i].name = tables[i].table == T_UNITS ? "member" : tables[i].name;
	schema.hash = 13;
	schema.tables = tables;
	for (int round = 0; round < 2; round++) {
		fixture_welcome(f, WELCOME_FILL);
		assert_ok(replica_store_ops.schema(f->r, &schema, &fixture_why));
		fill_rows(f, 0, f->row_count);
		assert_says(f, "5", "SELECT count(*) FROM ferry_fill_member");
		assert_ok(hub_commit(f, true, f->position));
		assert_says(f, "5", "SELECT count(*) FROM member");
		assert_says(f, "ok", "PRAGMA integrity_check");
		assert_proof(f);
	}
}

/* Indexes, views and triggers that an app made go on working. */
static void R15_a_fill_keeps_what_apps_built_on_the_tables(void **state)
{
	struct fixture *f = *state;

	app(f, "CREATE TABLE seen(id TEXT); CREATE INDEX mine ON units(code); CREATE INDEX names ON projects(name);"
	       "CREATE VIEW free_units AS SELECT u.id, p.name FROM units u LEFT JOIN projects p ON p.id = u.project_id "
	       "WHERE u.status = 'free';"
	       "CREATE TRIGGER watch AFTER UPDATE ON units BEGIN INSERT INTO seen VALUES (NEW.id); END");
	hub_write(f, 9, "code", "N");
	refill(f);
	assert_sound(f);
	assert_says(f, "6", "SELECT count(*) FROM free_units");
	assert_says(f, "mine,names", "SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema "
				     "WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('units', 'projects') ORDER BY 1)");
	app(f, "UPDATE units SET code = 'X' WHERE id = '%s'", unit(1));
	assert_says(f, unit(1), "SELECT id FROM seen");
	sync_all(f);
	assert_proof(f);
}

/* A table that was empty and stays so is left alone, and still captures. */
static void R15_an_empty_table_is_captured_after_a_fill(void **state)
{
	struct fixture *f = *state;

	refill(f);
	assert_sound(f);
	app(f, "INSERT INTO projects(id, name) VALUES ('%s', 'P')", unit(50));
	sync_all(f);
	assert_non_null(hub_find(f, T_PROJECTS, &(struct uuid){.b = {0xab, [15] = 50}}, false));
	assert_proof(f);
}

static void R15_a_table_that_lost_all_rows_is_empty_after_a_fill(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET code = 'late' WHERE id = '%s'", unit(2));
	for (uint32_t n = 1; n <= 5; n++)
		hub_delete(f, n);
	refill(f);
	assert_sound(f);
	assert_says(f, "0", "SELECT count(*) FROM units");
	app(f, "INSERT INTO units(id, code) VALUES ('%s', 'again')", unit(1));
	sync_all(f);
	assert_says(f, "again", "SELECT code FROM units");
	assert_proof(f);
}

/* A column that a program added is not the hub's: the fill makes the table as
 * the schema says. */
static void R15_a_table_that_an_app_altered_is_made_anew(void **state)
{
	struct fixture *f = *state;

	app(f, "ALTER TABLE projects ADD COLUMN note TEXT");
	refill(f);
	assert_sound(f);
	assert_says(f, "0", "SELECT count(*) FROM pragma_table_info('projects') WHERE name = 'note'");
}

/* Two fills in turn: also the table of members has another name by then. */
static void R15_members_of_other_scopes_survive_fills(void **state)
{
	struct fixture *f = *state;
	const struct uuid other = key_of(40);
	struct hub_row row = {.table = T_UNITS, .key = other, .alive = true, .position = f->position};

	hub_defaults(f, &row);
	for (int round = 0; round < 3; round++) {
		struct message_fill fill = {.scope = "project:x", .position = f->position};

		fixture_welcome(f, WELCOME_FILL);
		fill_rows(f, 0, f->row_count);
		fill.block = hub_block(f, &row, false);
		assert_ok(replica_store_ops.fill(f->r, &fill, &fixture_why));
		assert_ok(hub_commit(f, true, f->position));
		assert_sound(f);
		assert_says(f, "6", "SELECT count(*) FROM units");
		assert_says(f, "1", "SELECT count(*) FROM ferry_member");
	}
	refill(f); /* without it */
	assert_says(f, "5", "SELECT count(*) FROM units");
	assert_says(f, "0", "SELECT count(*) FROM ferry_member");
}

/* A new table of the hub whose name an app had taken: the fill fails with a
 * sentence, and the file is as it was. */
static void R15_a_name_that_an_app_took_refuses_the_fill_and_harms_nothing(void **state)
{
	struct fixture *f = *state;
	struct schema_table tables[3] = {fixture_tables[0], fixture_tables[1],
					 {.table = 9, .name = "notes", .key = "id", .key_num = 1, .writable = true,
					  .columns = project_columns, .column_count = 1}};
	struct schema schema = {.hash = 12, .tables = tables, .table_count = 3};
	struct hub_row row = {.table = T_PROJECTS, .key = key_of(40), .alive = true, .position = f->position};
	struct message_fill fill = {.scope = SCOPE, .position = f->position};
	struct message_commit c = {.position = 77, .mark = 1, .fill_done = true};
	struct ferry_why why = {0};

	row.cells[0].v = value_text("n", 1);
	row.cells[0].bytes[0] = 'n';
	app(f, "CREATE TABLE notes(text TEXT); INSERT INTO notes VALUES ('mine')");
	fixture_welcome(f, WELCOME_FILL);
	assert_ok(replica_store_ops.schema(f->r, &schema, &fixture_why));
	fill_rows(f, 0, f->row_count);
	fill.block = hub_block(f, &row, false);
	fill.block.table = 9;
	assert_ok(replica_store_ops.fill(f->r, &fill, &fixture_why));
	assert_int_equal(replica_store_ops.commit(f->r, &c, &f->report, &why), FERRY_SCHEMA);
	assert_non_null(strstr(why.text, "notes"));
	assert_says(f, "mine", "SELECT text FROM notes");
	assert_says(f, "5", "SELECT count(*) FROM units");
	assert_says(f, "ok", "PRAGMA integrity_check");
	app(f, "ALTER TABLE notes RENAME TO my_notes");
	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	assert_sound(f);
	assert_says(f, "1", "SELECT count(*) FROM notes");
	assert_says(f, "mine", "SELECT text FROM my_notes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R15_a_table_named_as_the_members_are_is_filled_as_any_other),
		replica_test(R15_a_fill_keeps_what_apps_built_on_the_tables),
		replica_test(R15_an_empty_table_is_captured_after_a_fill),
		replica_test(R15_a_table_that_lost_all_rows_is_empty_after_a_fill),
		replica_test(R15_a_table_that_an_app_altered_is_made_anew),
		replica_test(R15_members_of_other_scopes_survive_fills),
		replica_test(R15_a_name_that_an_app_took_refuses_the_fill_and_harms_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
