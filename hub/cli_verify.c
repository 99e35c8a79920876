/* verify: rows that were written past the capture (triggers disabled, a table
 * restored without them), in all places, table by table. It only tells unless
 * --repair is given; then they are captured as the hub's own changes, a
 * transaction for each table, and go to the devices. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/cli.h"
#include "hub/cli_place.h"

#define LIMIT_DEFAULT 1000

struct verifying {
	struct cli *c;
	const char *tenant, *table; /* only of these; NULL: all */
	char limit[24];             /* rows listed of each table */
	bool repair, shown, met; /* met: some place has the table */
	struct json *rows;
	int64_t found;
	struct ferry_why why;
};

static void add_rows(struct verifying *v, const char *place, const char *table, const struct pg_rows *rows)
{
	for (int i = 0; i < pg_rows_count(rows); i++) {
		struct json *o = json_new_object();
		json_put_text(o, "place", *place ? place : "home");
		json_put_text(o, "table", table);
		json_put_text(o, "tenant", pg_rows_text(rows, i, 0));
		json_put_text(o, "key", pg_rows_text(rows, i, 1));
		json_put_text(o, "what", pg_rows_text(rows, i, 2));
		json_put_text(o, "columns", pg_rows_text(rows, i, 3));
		json_put_bool(o, "repaired", v->repair);
		json_add(v->rows, o);
	}
	if (pg_rows_count(rows) > 0)
		v->found += strtoll(pg_rows_text(rows, 0, 4), NULL, 10);
}

static enum ferry_error verify_table(struct verifying *v, struct pg_admin *db, const char *place, const char *number,
				     const char *table)
{
	const char *params[] = {number, v->tenant, v->repair ? "true" : "false", v->limit};
	struct pg_rows *rows;
	if (v->shown) {
		fprintf(stderr, "\rcomparing %s; %" PRId64 " found so far\033[K", table, v->found);
		fflush(stderr);
	}
	enum ferry_error e = pg_admin_query(db,
					    "SELECT tenant_id, key, what, array_to_string(columns, ', '), count(*) OVER () "
					    "FROM ferry.verify_table($1::int, $2::uuid, $3::bool) LIMIT $4::bigint",
					    params, 4, &rows, &v->why);
	if (e != FERRY_OK)
		return e;
	add_rows(v, place, table, rows);
	pg_rows_free(rows);
	return FERRY_OK;
}

/* The engine's books are a database's, whatever sets of schemas it holds. */
static bool verify_place(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant,
			 int *out_exit)
{
	struct verifying *v = ctx;
	struct pg_rows *tables = NULL;
	const char *params[] = {v->table};
	(void)tenant;
	if (*prefix)
		return true;
	enum ferry_error e = pg_admin_query(db,
					    "SELECT t.tbl, t.relid::text FROM ferry.tracked t "
					    "WHERE $1::text IS NULL OR $1 IN (t.replica_name, t.name, t.relid::text) ORDER BY t.tbl",
					    params, 1, &tables, &v->why);
	for (int i = 0; e == FERRY_OK && i < pg_rows_count(tables); i++) {
		v->met = true;
		e = verify_table(v, db, conninfo, pg_rows_text(tables, i, 0), pg_rows_text(tables, i, 1));
	}
	pg_rows_free(tables);
	if (v->shown)
		fputs("\r\033[K", stderr);
	if (e != FERRY_OK)
		*out_exit = cli_fail_database(v->c, db, e, &v->why);
	return e == FERRY_OK;
}

static int report(struct verifying *v)
{
	static const struct cli_column columns[] = {{"place", NULL}, {"table", NULL}, {"tenant", NULL}, {"key", NULL},
						    {"what", NULL}, {"columns", NULL}, {"repaired", NULL}, {NULL, NULL}};
	int64_t listed = (int64_t)json_count(v->rows);
	int exit_code = cli_print_rows(v->c, v->rows, columns, "Every row is as the engine's books have it.");
	if (v->found > listed)
		fprintf(stderr, "%" PRId64 " more are not listed; see --limit.\n", v->found - listed);
	if (v->found > 0 && !v->repair)
		fprintf(stderr, "Nothing was changed. ferry-hub verify --repair captures these rows as they stand.\n");
	return exit_code == CLI_OK && v->found > 0 && !v->repair ? CLI_PROBLEM : exit_code;
}

static int verify(struct verifying *v, const struct cli_setting *s, struct pg_admin *home)
{
	const char *given = cli_value(v->c, "tenant");
	char tenant[UUID_TEXT];
	int exit_code = CLI_OK;
	if (given && !cli_tenant(v->c, home, given, tenant, &exit_code))
		return exit_code;
	v->tenant = given ? tenant : NULL;
	v->rows = json_new_array();
	bool asked = cli_each_place(v->c, s, home, verify_place, v, &exit_code);
	if (asked && (v->met || !v->table))
		return report(v);
	if (asked)
		exit_code = cli_fail(v->c, FERRY_NOT_FOUND, "no tracked table has this name", "See: ferry-hub model");
	json_release(v->rows);
	return exit_code;
}

int cli_verify(struct cli *c)
{
	struct cli_setting s;
	struct verifying v = {.c = c, .table = cli_value(c, "table"), .repair = cli_flag(c, "repair"),
			      .shown = isatty(STDERR_FILENO) && !cli_json(c)};
	struct pg_admin *home = NULL;
	const char *limit = cli_value(c, "limit");
	char *end = NULL;
	long long n = limit ? strtoll(limit, &end, 10) : LIMIT_DEFAULT;
	int exit_code = CLI_OK;
	if (n < 1 || n > 1000000 || (end && *end))
		return cli_fail(c, FERRY_USAGE, "--limit takes a number from 1 to 1000000", NULL);
	snprintf(v.limit, sizeof(v.limit), "%lld", n);
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &home, &exit_code))
		exit_code = verify(&v, &s, home);
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}
