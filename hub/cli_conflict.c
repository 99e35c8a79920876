/* ferry-hub conflict: values that lost at the hub, and putting them right. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli_place.h"
#include "hub/cli_repair.h"

#define FILTERS_MAX 6

static const char list_sql[] =
	"SELECT x.id, to_char(x.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS at, "
	"coalesce(p.slug, x.tenant_id::text) AS tenant, x.tenant_id, t.nsp || '.' || t.name AS \"table\", x.key, "
	"CASE WHEN x.num = 0 THEN '(row)' ELSE coalesce(c.name, '#' || x.num) END AS \"column\", x.kind, x.winner, "
	"coalesce(d.name, x.device_id::text) AS device, x.device_id, x.number AS \"number::int\", "
	"ferry.value_text(c.kind, x.device_value) AS device_value, ferry.value_text(c.kind, x.hub_value) AS hub_value, "
	"coalesce(o.name, x.other_device_id::text) AS other_device, x.state, "
	"to_char(x.resolved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS resolved_at, x.resolved_by, x.resolution "
	"FROM ferry.conflict x LEFT JOIN ferry.tracked t ON t.tbl = x.tbl "
	"LEFT JOIN ferry.tracked_column c ON c.tbl = x.tbl AND c.num = x.num "
	"LEFT JOIN ferry.placement p ON p.tenant_id = x.tenant_id "
	"LEFT JOIN ferry.device d ON d.tenant_id = x.tenant_id AND d.id = x.device_id "
	"LEFT JOIN ferry.device o ON o.tenant_id = x.tenant_id AND o.id = x.other_device_id "
	"WHERE ($1::uuid IS NULL OR x.tenant_id = $1::uuid) AND ($2::text IS NULL OR d.name = $2 OR x.device_id::text = lower($2)) "
	"AND ($3::text IS NULL OR t.name = $3 OR t.nsp || '.' || t.name = $3) "
	"AND ($4::text IS NULL OR x.id::text = lower($4)) AND ($5::bool OR x.state = 'open') "
	"ORDER BY x.at DESC, x.id LIMIT $6::int";

/* ---- list, show ---- */

static int list(struct cli_repair *r)
{
	static const struct cli_column columns[] = {
		{"id", NULL}, {"at", NULL}, {"tenant", NULL}, {"table", NULL}, {"key", NULL}, {"column", NULL}, {"kind", NULL},
		{"device", NULL}, {"device_value", "device's value"}, {"hub_value", "what it met"}, {"winner", "stands"},
		{"state", NULL}, {NULL, NULL}};
	int exit_code = CLI_OK;
	const char *params[FILTERS_MAX] = {NULL, cli_value(r->c, "device"), cli_value(r->c, "table"), NULL,
					   cli_flag(r->c, "all") ? "true" : "false", cli_repair_limit(r->c)};
	struct json *rows = cli_repair_filters(r, &exit_code) ? cli_repair_query(r, list_sql, params, FILTERS_MAX, &exit_code) : NULL;
	return rows ? cli_print_rows(r->c, rows, columns, "There are no open conflicts.") : exit_code;
}

static int show(struct cli_repair *r)
{
	static const struct cli_column columns[] = {
		{"id", NULL}, {"at", NULL}, {"tenant", NULL}, {"table", NULL}, {"key", NULL}, {"column", NULL}, {"kind", NULL},
		{"device", NULL}, {"number", "change-set"}, {"device_value", "device's value"}, {"hub_value", "what it met"},
		{"other_device", "written by"}, {"winner", "stands"}, {"state", NULL}, {"resolution", "taken"},
		{"resolved_by", "resolved by"}, {"resolved_at", "resolved at"}, {"row", "the hub's row now"}, {NULL, NULL}};
	int exit_code = CLI_OK;
	const char *params[FILTERS_MAX] = {NULL, NULL, NULL, cli_argument(r->c, 0), "true", "1"};
	struct json *rows = cli_repair_query(r, list_sql, params, FILTERS_MAX, &exit_code), *o;
	if (!rows)
		return exit_code;
	if (json_count(rows) == 0) {
		json_release(rows);
		return cli_fail(r->c, FERRY_NOT_FOUND, "there is no such conflict", "See: ferry-hub conflict list --all");
	}
	o = cli_repair_with_row(r, json_at(rows, 0), &exit_code);
	json_release(rows);
	return o ? cli_print_object(r->c, o, columns) : exit_code;
}

/* ---- resolve ---- */

struct resolving {
	struct cli_repair *r;
	const char *id, *take, *value;
	bool dry, found;
};

/* Which value it is about; and all that the hub kept of a row that would be inserted again. $1: its id. */
static const char about_sql[] =
	"SELECT t.nsp || '.' || t.name, k.key::text, c.name FROM ferry.conflict k LEFT JOIN ferry.tracked t ON t.tbl = k.tbl "
	"LEFT JOIN ferry.tracked_column c ON c.tbl = k.tbl AND c.num = k.num WHERE k.id::text = lower($1)";
static const char kept_sql[] =
	"SELECT c.name, left(ferry.value_text(c.kind, k.hub_value), 4096) FROM ferry.conflict x JOIN ferry.conflict k "
	"ON k.tenant_id = x.tenant_id AND k.tx = x.tx AND k.device_id = x.device_id AND k.number = x.number AND k.tbl = x.tbl "
	"AND k.key = x.key AND k.kind = x.kind JOIN ferry.tracked_column c ON c.tbl = k.tbl AND c.num = k.num AND NOT c.generated "
	"WHERE x.id::text = lower($1) AND k.hub_value IS NOT NULL ORDER BY c.num";

/* What it writes, or would. NULL: *e. */
static struct json *writes_of(const struct resolving *x, struct pg_admin *db, const struct pg_rows *about, const struct pg_rows *done,
			      enum ferry_error *e, struct ferry_why *why)
{
	const char *action = pg_rows_text(done, 0, 0), *column = pg_rows_text(about, 0, 2);
	struct json *list = json_new_array(), *of = json_new_object();
	json_put_text(of, "table", pg_rows_text(about, 0, 0));
	json_put_text(of, "key", pg_rows_text(about, 0, 1));
	json_put_text(of, "op", action);
	*e = FERRY_OK;
	if (strcmp(action, "update") == 0) {
		json_add(list, cli_repair_write(of, column, pg_rows_text(done, 0, 1), pg_rows_text(done, 0, 2)));
	} else if (strcmp(action, "delete") == 0) {
		json_add(list, cli_repair_write(of, NULL, NULL, NULL));
	} else if (strcmp(action, "insert") == 0) {
		struct pg_rows *kept;
		*e = pg_admin_query(db, kept_sql, &x->id, 1, &kept, why);
		for (int i = 0; *e == FERRY_OK && i < pg_rows_count(kept); i++)
			json_add(list, cli_repair_write(of, pg_rows_text(kept, i, 0), NULL, pg_rows_text(kept, i, 1)));
		if (*e == FERRY_OK)
			pg_rows_free(kept);
	}
	json_release(of);
	if (*e == FERRY_OK)
		return list;
	json_release(list);
	return NULL;
}

static int print_dry(const struct cli *c, struct json *o, struct json *writes, const char *action, const char *stands)
{
	if (cli_json(c)) {
		json_put(o, "writes", writes);
		return cli_print_done(c, o, "%s", "");
	}
	if (strcmp(action, "none") == 0)
		(void)cli_print_done(c, o, "Would be resolved: what stands is what was chosen (%s)", stands);
	else
		(void)cli_print_done(c, o, "Would be resolved by an %s:", action);
	cli_print_writes(writes, 0);
	json_release(writes);
	return CLI_OK;
}

/* writes: of a dry run, handed over; NULL: it is done. */
static int print_resolved(const struct resolving *x, const struct pg_rows *rows, struct json *writes)
{
	const char *action = pg_rows_text(rows, 0, 0), *before = pg_rows_text(rows, 0, 1), *after = pg_rows_text(rows, 0, 2);
	struct json *o = json_new_object();
	json_put_text(o, "id", x->id);
	json_put_text(o, "take", x->take);
	json_put_text(o, "action", action);
	json_put_text(o, "before", before);
	json_put_text(o, "after", after);
	json_put_int(o, "resolved", strtoll(pg_rows_text(rows, 0, 3), NULL, 10));
	json_put_bool(o, "done", !x->dry);
	before = before ? before : "NULL";
	after = after ? after : "NULL";
	if (writes)
		return print_dry(x->r->c, o, writes, action, after);
	if (strcmp(action, "none") == 0)
		return cli_print_done(x->r->c, o, "Resolved: what stands is what was chosen (%s)", after);
	return cli_print_done(x->r->c, o, "Resolved by an %s: %s -> %s", action, before, after);
}

static enum ferry_error resolve_found(struct resolving *x, struct pg_admin *db, const struct pg_rows *about, int *out_exit,
				      struct ferry_why *why)
{
	struct pg_rows *rows;
	struct json *writes = NULL;
	const char *params[] = {x->id, x->take, x->value, cli_value(x->r->c, "by"), x->dry ? "true" : "false"};
	enum ferry_error e = pg_admin_query(db, "SELECT action, before, after, resolved FROM ferry.resolve_conflict($1::uuid, $2, $3, "
					    "coalesce($4, session_user::text), $5::bool)", params, 5, &rows, why);
	if (e != FERRY_OK)
		return e;
	if (x->dry)
		writes = writes_of(x, db, about, rows, &e, why);
	if (e == FERRY_OK)
		*out_exit = print_resolved(x, rows, writes);
	pg_rows_free(rows);
	return e;
}

static bool resolve_at(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant, int *out_exit)
{
	struct resolving *x = ctx;
	struct ferry_why why = {0};
	struct pg_rows *about;
	(void)conninfo;
	(void)tenant;
	if (*prefix || x->found)
		return true; /* a database is asked once */
	enum ferry_error e = pg_admin_query(db, about_sql, &x->id, 1, &about, &why);
	if (e == FERRY_OK) {
		x->found = pg_rows_count(about) == 1;
		if (x->found)
			e = resolve_found(x, db, about, out_exit, &why);
		pg_rows_free(about);
	}
	if (e != FERRY_OK)
		*out_exit = cli_repair_fail(x->r->c, db, e, &why);
	return e == FERRY_OK;
}

static int resolve(struct cli_repair *r)
{
	struct resolving x = {.r = r, .id = cli_argument(r->c, 0), .take = cli_value(r->c, "take"), .value = cli_argument(r->c, 1),
			      .dry = cli_flag(r->c, "dry-run")};
	int exit_code = CLI_OK;
	if (!x.take || (strcmp(x.take, "device") != 0 && strcmp(x.take, "hub") != 0 && strcmp(x.take, "value") != 0 &&
			strcmp(x.take, "null") != 0))
		return cli_fail(r->c, FERRY_USAGE, "it is not said which side to take",
				"Use --take device, --take hub, --take null, or --take value '<text>'");
	if ((strcmp(x.take, "value") == 0) != (x.value != NULL))
		return cli_fail(r->c, FERRY_USAGE, "a value goes with --take value, and only with it",
				"Write: ferry-hub conflict resolve <id> --take value '<text>'");
	if (!cli_each_place(r->c, r->s, r->home, resolve_at, &x, &exit_code) || x.found)
		return exit_code;
	return cli_fail(r->c, FERRY_NOT_FOUND, "there is no such conflict", "See: ferry-hub conflict list");
}

int cli_conflict_list(struct cli *c)
{
	return cli_repair_run(c, list);
}

int cli_conflict_show(struct cli *c)
{
	return cli_repair_run(c, show);
}

int cli_conflict_resolve(struct cli *c)
{
	return cli_repair_run(c, resolve);
}
