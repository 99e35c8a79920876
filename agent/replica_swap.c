/* The end of a fill: staged tables become the live ones by an edit of SQLite's
 * own list of tables. ALTER TABLE would read every table, view and trigger of
 * the file again for each renaming (5 ms each, with fifty tables more than the
 * filling of 100,000 rows), and refuse where an app's view names a table that
 * is away for that moment. The way is that of SQLite's documentation ("Making
 * Other Kinds Of Table Schema Changes"): the schema's number goes up, and
 * everybody reads it anew. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

/* ---- What each table needs ---- */

enum table_way {
	WAY_ANEW,   /* no rows came for it, but it had some or looked otherwise */
	WAY_STAGED, /* the staged one takes its place */
	WAY_STAYS,  /* it was empty and is */
};

static int table_named(const struct schema *schema, const char *name)
{
	for (uint32_t i = 0; i < schema->table_count; i++) {
		if (strcmp(schema->tables[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

static bool is_as_made(const struct schema_table *t, const char *sql)
{
	char *ddl = table_ddl(t, "");
	bool same = ddl != NULL && sql != NULL && strcmp(ddl, sql) == 0;

	sqlite3_free(ddl);
	return same;
}

static bool is_empty(struct replica *r, const struct schema_table *t)
{
	char *sql = sqlite3_mprintf("SELECT 1 FROM \"%w\" LIMIT 1", t->name);
	sqlite3_stmt *s = NULL;
	bool empty;

	empty = !gate_step(&r->g, gate_statement(&r->g, &s, sql == NULL ? "no memory" : sql), "");
	gate_finalize(&s);
	sqlite3_free(sql);
	return empty;
}

/* ways: one for each table of the schema that comes into force. */
static void choose_ways(struct replica *r, enum table_way *ways)
{
	const struct model *fresh = target_model(r, TARGET_FILL);
	sqlite3_stmt *s = NULL;

	gate_statement(&r->g, &s, "SELECT name, sql FROM sqlite_schema WHERE type = 'table'");
	for (bool more = gate_step(&r->g, s, ""); more; more = gate_next(&r->g, s)) {
		const char *name = (const char *)sqlite3_column_text(s, 0);
		bool staged = strncmp(name, FILL_PREFIX, strlen(FILL_PREFIX)) == 0;
		int i = table_named(&fresh->schema, staged ? name + strlen(FILL_PREFIX) : name);

		if (i >= 0 && staged)
			ways[i] = WAY_STAGED;
		else if (i >= 0 && ways[i] == WAY_ANEW && fresh == &r->now &&
			 is_as_made(&fresh->schema.tables[i], (const char *)sqlite3_column_text(s, 1)))
			ways[i] = WAY_STAYS;
	}
	gate_finalize(&s);
	for (uint32_t i = 0; i < fresh->schema.table_count; i++) {
		if (ways[i] == WAY_STAYS && !is_empty(r, &fresh->schema.tables[i]))
			ways[i] = WAY_ANEW;
	}
}

/* ---- What apps made ---- */

void app_objects_note(struct replica *r, const char *table, struct app_objects *o)
{
	sqlite3_stmt *s = NULL;

	gate_statement(&r->g, &s, "SELECT sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL "
				  "AND name NOT GLOB 'ferry_*' AND tbl_name = ?1");
	for (bool more = gate_step(&r->g, s, "t", table); more; more = gate_next(&r->g, s)) {
		char **bigger = realloc(o->sql, (o->count + 1) * sizeof(*o->sql));

		if (bigger == NULL) {
			gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for the indexes of apps.");
			break;
		}
		o->sql = bigger;
		o->sql[o->count] = sqlite3_mprintf("%s", sqlite3_column_text(s, 0));
		if (o->sql[o->count] != NULL)
			o->count++;
	}
	gate_finalize(&s);
}

/* One on a column that is no more cannot be made again; the others can. */
void app_objects_make(struct replica *r, struct app_objects *o)
{
	for (size_t i = 0; i < o->count; i++) {
		if (r->g.error == FERRY_OK) {
			gate_exec(&r->g, "SAVEPOINT app_object");
			if (sqlite3_exec(r->g.db, o->sql[i], NULL, NULL, NULL) != SQLITE_OK)
				gate_exec(&r->g, "ROLLBACK TO app_object");
			gate_exec(&r->g, "RELEASE app_object");
		}
		sqlite3_free(o->sql[i]);
	}
	free(o->sql);
}

/* ---- The swap ---- */

/* With the table go its triggers; those that stand behind a view, with that. */
static void drop_old(struct replica *r, const enum table_way *ways, struct app_objects *kept)
{
	const struct schema *old = &r->now.schema;
	bool same = target_model(r, TARGET_FILL) == &r->now;

	for (uint32_t i = 0; i < old->table_count; i++) {
		if (same && ways[i] == WAY_STAYS)
			continue;
		app_objects_note(r, old->tables[i].name, kept);
		gate_execf(&r->g, "DROP VIEW IF EXISTS \"ferry_%u_old\"; DROP TABLE \"%w\"", old->tables[i].table,
			   old->tables[i].name);
	}
}

/* Two tables of one name would damage the file; and an index or trigger on a
 * staged table would name one that is gone. Neither is ours. */
static void check_names(struct replica *r)
{
	sqlite3_stmt *s = NULL;

	gate_statement(&r->g, &s, "SELECT b.name FROM sqlite_schema a JOIN sqlite_schema b "
				  "ON b.name = substr(a.name, 12) COLLATE NOCASE "
				  "OR (b.tbl_name = a.name AND b.type <> 'table' AND b.sql IS NOT NULL) "
				  "WHERE a.type = 'table' AND a.name GLOB '" FILL_PREFIX "*'");
	if (gate_step(&r->g, s, ""))
		gate_fail(&r->g, FERRY_SCHEMA, "%s is in the way of a table of the hub: give it another name.",
			  (const char *)sqlite3_column_text(s, 0));
	gate_finalize(&s);
}

static int64_t schema_number(struct replica *r)
{
	sqlite3_stmt *s = NULL;
	int64_t number = 0;

	if (gate_step(&r->g, gate_statement(&r->g, &s, "PRAGMA schema_version"), ""))
		number = sqlite3_column_int64(s, 0);
	gate_finalize(&s);
	return number;
}

/* "ferry_fill_" has 11 characters, "sqlite_autoindex_ferry_fill_" 28, and
 * `CREATE TABLE "ferry_fill_` 25. */
static void rename_staged(struct replica *r)
{
	check_names(r);
	if (r->g.error != FERRY_OK)
		return;
	(void)sqlite3_db_config(r->g.db, SQLITE_DBCONFIG_DEFENSIVE, 0, (int *)NULL);
	gate_exec(&r->g, "PRAGMA writable_schema = ON; "
			 "UPDATE sqlite_schema SET tbl_name = substr(tbl_name, 12), "
			 "name = iif(type = 'table', substr(name, 12), 'sqlite_autoindex_' || substr(name, 29)), "
			 "sql = iif(type = 'table', 'CREATE TABLE \"' || substr(sql, 26), NULL) "
			 "WHERE tbl_name GLOB '" FILL_PREFIX "*'; "
			 "UPDATE sqlite_schema SET name = 'ferry_member', tbl_name = 'ferry_member', "
			 "sql = 'CREATE TABLE ferry_member" MEMBER_COLUMNS "' "
			 "WHERE name = 'ferry_member_fill' AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'ferry_member')");
	gate_execf(&r->g, "PRAGMA schema_version = %lld", (long long)schema_number(r) + 1);
	/* In any case: the statement before may have failed. */
	if (sqlite3_exec(r->g.db, "PRAGMA writable_schema = RESET", NULL, NULL, NULL) != SQLITE_OK)
		gate_fail_sqlite(&r->g);
}

static bool members_staged(struct replica *r)
{
	sqlite3_stmt *s = NULL;
	bool any = gate_step(&r->g, gate_statement(&r->g, &s, "SELECT 1 FROM ferry_member_fill LIMIT 1"), "");

	gate_finalize(&s);
	return any;
}

static void swap_tables(struct replica *r, const enum table_way *ways)
{
	const struct schema *fresh = &target_model(r, TARGET_FILL)->schema;
	struct app_objects kept = {0};

	drop_old(r, ways, &kept);
	gate_exec(&r->g, members_staged(r) ? "DROP TABLE ferry_member" : "DELETE FROM ferry_member");
	rename_staged(r);
	gate_exec(&r->g, "CREATE TABLE IF NOT EXISTS ferry_member_fill" MEMBER_COLUMNS);
	for (uint32_t i = 0; i < fresh->table_count; i++) {
		if (ways[i] == WAY_ANEW)
			live_table_create(r, &fresh->tables[i]);
		if (ways[i] != WAY_STAYS)
			triggers_create(r, &fresh->tables[i]);
	}
	app_objects_make(r, &kept);
}

static void swap_schema(struct replica *r)
{
	if (r->next.schema.table_count == 0) {
		gate_exec(&r->g, "UPDATE ferry_table SET scope = fill_scope, fill_scope = 0 WHERE gen = 0");
		return;
	}
	r->st.schema_hash = r->next.schema.hash;
	gate_exec(&r->g, "UPDATE ferry_table SET scope = fill_scope, fill_scope = 0 WHERE gen = 1");
	schema_advance(r);
}

void fill_swap_tables(struct replica *r)
{
	enum table_way *ways = calloc(target_model(r, TARGET_FILL)->schema.table_count + 1u, sizeof(*ways));

	model_finalize(&r->now);
	model_finalize(&r->next);
	if (ways == NULL) {
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for the end of the fill.");
		return;
	}
	choose_ways(r, ways);
	swap_tables(r, ways);
	swap_schema(r);
	free(ways);
}
