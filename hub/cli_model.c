/* ferry-hub model: the tenant model as a person wants to see it: its domains
 * and tables, and what devices get of them. All from the database's own
 * catalogue, so it can't be out of date. */
#include <stdio.h>

#include "hub/cli.h"

/* The model is what stands in the schemas of ferry_owner. Partitions are their table's. */
#define MODEL_TABLES \
	"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspowner = 'ferry_owner'::regrole " \
	"LEFT JOIN ferry.tracked t ON t.relid = c.oid " \
	"WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition "

#define DEVICES_WRITE \
	"CASE WHEN t.tbl IS NULL THEN NULL WHEN t.write THEN 'yes' ELSE 'no' END"

#define KEY_COLUMNS \
	"(SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM pg_index i, unnest(i.indkey::int[]) WITH ORDINALITY AS k(num, n) " \
	"JOIN pg_attribute a ON a.attnum = k.num WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid)"

/* "insert leads.create, update leads.edit": what the operations need; NULL: nothing beyond the scope. */
#define WRITE_PERMISSIONS \
	"(SELECT string_agg(r.operation || ' ' || r.permission, ', ' ORDER BY r.operation DESC) " \
	"FROM ferry.permission_rule r WHERE r.tbl = t.tbl AND r.num = 0)"

static const char tables_sql[] =
	"SELECT n.nspname AS domain, c.relname AS name, coalesce(t.scope, 'hub') AS scope, "
	"to_jsonb(t) ->> 'read_permission' AS read_permission, " DEVICES_WRITE " AS write, "
	"t.replica_name, " KEY_COLUMNS " AS key, "
	"(SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS \"columns::int\", "
	"obj_description(c.oid, 'pg_class') AS purpose " MODEL_TABLES "ORDER BY 1, 2";

static const char domains_sql[] =
	"SELECT n.nspname AS domain, count(*) AS \"tables::int\", count(t.tbl) AS \"synced::int\", "
	"obj_description(n.oid, 'pg_namespace') AS purpose " MODEL_TABLES "GROUP BY n.oid, n.nspname ORDER BY 1";

static const char table_sql[] =
	"SELECT c.oid AS \"oid::int\", n.nspname || '.' || c.relname AS name, obj_description(c.oid, 'pg_class') AS purpose, "
	KEY_COLUMNS " AS key, coalesce(t.scope, 'hub') AS scope, to_jsonb(t) ->> 'read_permission' AS read_permission, "
	DEVICES_WRITE " AS write, " WRITE_PERMISSIONS " AS write_permissions, t.replica_name, nullif(array_to_string(t.excluded, ', '), '') AS excluded "
	MODEL_TABLES "AND $1::text IN (c.relname::text, n.nspname || '.' || c.relname) ORDER BY 2";

static const char columns_sql[] =
	"SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, "
	"CASE WHEN a.attnotnull THEN 'required' END AS required, "
	"(SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = a.atttypid) AS \"values\", "
	"(SELECT string_agg(DISTINCT k.confrelid::regclass::text, ', ') FROM pg_constraint k "
	" WHERE k.conrelid = a.attrelid AND k.contype = 'f' AND a.attnum = ANY (k.conkey) "
	" AND (cardinality(k.conkey) = 1 OR a.attname <> 'tenant_id')) AS refers_to, "
	"CASE WHEN t.tbl IS NULL THEN NULL WHEN k.num IS NULL THEN 'stays at the hub' "
	"ELSE k.policy || coalesce(' ' || k.policy_options::text, '') END AS sync, "
	"(SELECT string_agg(r.operation || ' ' || r.permission, ', ' ORDER BY r.operation DESC) FROM ferry.permission_rule r "
	" WHERE r.tbl = t.tbl AND r.num = k.num) AS write_permissions, "
	"col_description(a.attrelid, a.attnum) AS meaning "
	"FROM pg_attribute a LEFT JOIN ferry.tracked t ON t.relid = a.attrelid "
	"LEFT JOIN ferry.tracked_column k ON k.tbl = t.tbl AND k.num = a.attnum "
	"WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

static bool ask(const struct cli *c, struct pg_admin *db, const char *sql, const char *param, struct json **out,
		int *out_exit)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	enum ferry_error e = pg_admin_query(db, sql, &param, param ? 1 : 0, &rows, &why);
	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, db, e, &why);
		return false;
	}
	*out = cli_rows(rows);
	pg_rows_free(rows);
	return true;
}

/* How many rows a table really has: counted, which takes a while on a large one. */
static bool count_rows(const struct cli *c, struct pg_admin *db, struct json **out, int *out_exit)
{
	return ask(c, db,
		   "SELECT n.nspname AS domain, c.relname AS name, (xpath('/row/n/text()', query_to_xml(format("
		   "'SELECT count(*) AS n FROM %s', c.oid::regclass), false, true, '')))[1]::text::bigint AS \"rows::int\", "
		   "obj_description(c.oid, 'pg_class') AS purpose " MODEL_TABLES "ORDER BY 1, 2",
		   NULL, out, out_exit);
}

static int show_domains(struct cli *c, struct pg_admin *db)
{
	static const struct cli_column domain_columns[] = {
		{"domain", NULL}, {"tables", NULL}, {"synced", "on devices"}, {"purpose", NULL}, {NULL, NULL}};
	static const struct cli_column table_columns[] = {
		{"domain", NULL}, {"name", "table"}, {"scope", NULL}, {"write", "devices write"},
		{"read_permission", "to read"}, {"purpose", NULL}, {NULL, NULL}};
	struct json *domains, *tables;
	int exit_code = CLI_OK;
	if (!ask(c, db, domains_sql, NULL, &domains, &exit_code))
		return exit_code;
	if (!ask(c, db, tables_sql, NULL, &tables, &exit_code)) {
		json_release(domains);
		return exit_code;
	}
	if (cli_json(c)) {
		struct json *o = json_new_object();
		json_put(o, "domains", domains);
		json_put(o, "tables", tables);
		return cli_print_object(c, o, domain_columns);
	}
	exit_code = cli_print_rows(c, domains, domain_columns, "The model is empty: ferry-hub migrate brings it.");
	printf("\n");
	int second = cli_print_rows(c, tables, table_columns, "");
	return exit_code == CLI_OK ? second : exit_code;
}

static int show_counts(struct cli *c, struct pg_admin *db)
{
	static const struct cli_column columns[] = {
		{"domain", NULL}, {"name", "table"}, {"rows", NULL}, {"purpose", NULL}, {NULL, NULL}};
	struct json *rows;
	int exit_code = CLI_OK;
	return count_rows(c, db, &rows, &exit_code)
		       ? cli_print_rows(c, rows, columns, "The model is empty: ferry-hub migrate brings it.")
		       : exit_code;
}

/* One table that the name means; else what is wrong is printed. */
static bool one_table(const struct cli *c, const struct json *found, const char *name, int *out_exit)
{
	char what[256];
	if (json_count(found) == 1)
		return true;
	if (json_count(found) == 0)
		snprintf(what, sizeof(what), "the model has no table %.80s", name);
	else
		snprintf(what, sizeof(what), "%.80s is in several domains: %.60s and %.60s", name,
			 json_text(json_get(json_at(found, 0), "name")), json_text(json_get(json_at(found, 1), "name")));
	*out_exit = cli_fail(c, json_count(found) ? FERRY_USAGE : FERRY_NOT_FOUND, what,
			     "ferry-hub model lists the tables; write domain.table");
	return false;
}

static struct json *copy_of(const struct json *row, const char *const *keys)
{
	struct json *o = json_new_object();
	for (; *keys; keys++)
		json_put_text(o, *keys, json_text(json_get(row, *keys)));
	return o;
}

static int print_table(struct cli *c, const struct json *row, struct json *columns)
{
	static const char *const keys[] = {"name", "purpose", "key", "scope", "read_permission", "write",
					   "write_permissions", "replica_name", "excluded", NULL};
	static const struct cli_column table_columns[] = {
		{"name", "table"}, {"purpose", NULL}, {"key", NULL}, {"scope", NULL}, {"read_permission", "to read"},
		{"write", "devices write"}, {"write_permissions", "to write"}, {"replica_name", "name on devices"},
		{"excluded", "never leaves the hub"}, {NULL, NULL}};
	static const struct cli_column column_columns[] = {
		{"name", "column"}, {"type", NULL}, {"required", NULL}, {"refers_to", "refers to"}, {"sync", NULL},
		{"write_permissions", "to write"}, {"values", NULL}, {"meaning", NULL}, {NULL, NULL}};
	struct json *o = copy_of(row, keys);
	if (cli_json(c)) {
		json_put(o, "columns", columns);
		return cli_print_object(c, o, table_columns);
	}
	int exit_code = cli_print_object(c, o, table_columns);
	printf("\n");
	int second = cli_print_rows(c, columns, column_columns, "");
	return exit_code == CLI_OK ? second : exit_code;
}

static int show_table(struct cli *c, struct pg_admin *db, const char *name)
{
	struct json *found, *columns;
	char oid[24];
	int exit_code = CLI_OK;
	if (!ask(c, db, table_sql, name, &found, &exit_code))
		return exit_code;
	if (one_table(c, found, name, &exit_code)) {
		const struct json *row = json_at(found, 0);
		snprintf(oid, sizeof(oid), "%lld", (long long)json_int(json_get(row, "oid"), 0));
		if (ask(c, db, columns_sql, oid, &columns, &exit_code))
			exit_code = print_table(c, row, columns);
	}
	json_release(found);
	return exit_code;
}

int cli_model(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *db = NULL;
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &db, &exit_code)) {
		if (cli_argument(c, 0))
			exit_code = show_table(c, db, cli_argument(c, 0));
		else
			exit_code = cli_flag(c, "counts") ? show_counts(c, db) : show_domains(c, db);
	}
	pg_admin_close(db);
	cli_setting_deinit(&s);
	return exit_code;
}
