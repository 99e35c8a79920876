#include "hub/cli_repair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli_place.h"

#define LIMIT_DEFAULT "200"
#define LIMIT_MAX     100000

int cli_repair_run(struct cli *c, int (*run)(struct cli_repair *r))
{
	struct cli_setting s;
	struct cli_repair r = {.c = c, .s = &s};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &r.home, &exit_code))
		exit_code = run(&r);
	pg_admin_close(r.home);
	cli_setting_deinit(&s);
	return exit_code;
}

const char *cli_repair_limit(const struct cli *c)
{
	return cli_value(c, "limit") ? cli_value(c, "limit") : LIMIT_DEFAULT;
}

static bool limit_is_right(const struct cli *c)
{
	const char *text = cli_value(c, "limit");
	char *end;
	long n = text ? strtol(text, &end, 10) : 1;
	return !text || (*text && !*end && n > 0 && n <= LIMIT_MAX);
}

/* sql: a row if something in some place has the name ($2). */
static bool is_known(struct cli_repair *r, const char *sql, const char *name, const char *what, const char *advice, int *out_exit)
{
	const char *params[] = {NULL, name};
	struct ferry_why why;
	struct json *rows = cli_repair_query(r, sql, params, 2, out_exit);
	bool known = json_count(rows) > 0;
	if (rows && !known) {
		ferry_why_set(&why, "there is no %s %.80s", what, name);
		*out_exit = cli_fail(r->c, FERRY_NOT_FOUND, why.text, advice);
	}
	json_release(rows);
	return known;
}

/* A device that never connected is known at home alone, where it enrolled, though its tenant lives elsewhere. */
static bool is_enrolled(struct cli_repair *r, const char *device)
{
	static const char sql[] = "SELECT FROM ferry.device d JOIN ferry.placement p ON p.tenant_id = d.tenant_id "
				  "WHERE (p.slug = $1 OR p.tenant_id::text = lower($1)) AND (d.name = $2 OR d.id::text = lower($2)) LIMIT 1";
	const char *params[] = {cli_value(r->c, "tenant"), device};
	struct ferry_why why = {0};
	struct pg_rows *rows;
	if (!params[0] || pg_admin_query(r->home, sql, params, 2, &rows, &why) != FERRY_OK)
		return false;
	bool found = pg_rows_count(rows) > 0;
	pg_rows_free(rows);
	return found;
}

bool cli_repair_filters(struct cli_repair *r, int *out_exit)
{
	const char *device = cli_value(r->c, "device"), *table = cli_value(r->c, "table");
	if (!limit_is_right(r->c)) {
		*out_exit = cli_fail(r->c, FERRY_USAGE, "--limit takes a number from 1 to 100000", NULL);
		return false;
	}
	return (!device || is_enrolled(r, device) ||
		is_known(r, "SELECT id FROM ferry.device WHERE ($1::uuid IS NULL OR tenant_id = $1::uuid) "
			    "AND (name = $2 OR id::text = lower($2)) LIMIT 1", device, "device", "See: ferry-hub device list", out_exit)) &&
	       (!table || is_known(r, "SELECT name FROM ferry.tracked WHERE ($1::uuid IS NULL OR true) "
				      "AND $2 IN (name, nsp || '.' || name) LIMIT 1", table, "table", "See: ferry-hub model", out_exit));
}

/* "FE010": SQL of ours says which code it means. */
int cli_repair_fail(const struct cli *c, struct pg_admin *db, enum ferry_error e, const struct ferry_why *why)
{
	const char *state = pg_admin_sqlstate(db);
	if (strncmp(state, "FE", 2) == 0)
		return cli_fail(c, (enum ferry_error)strtol(state + 2, NULL, 10), why->text, NULL);
	if (e == FERRY_USAGE && (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0))
		return cli_fail(c, strncmp(state, "22", 2) == 0 ? FERRY_BAD_VALUE : FERRY_CONSTRAINT, why->text,
				"Nothing was changed: take another value");
	return cli_fail_database(c, db, e, why);
}

/* ---- in every place ---- */

struct asking {
	struct cli_repair *r;
	const char *sql;
	const char *const *params;
	int count;
	struct json *rows;
};

static void copy_text(void *ctx, const char *key, const struct json *value)
{
	double d;
	if (json_number(value, &d))
		json_put_int(ctx, key, json_int(value, 0));
	else if (json_is_bool(value))
		json_put_bool(ctx, key, json_bool(value, false));
	else
		json_put_text(ctx, key, json_text(value));
}

static struct json *copy_of(const struct json *o)
{
	struct json *copy = json_new_object();
	json_each(o, copy_text, copy);
	return copy;
}

static bool ask(struct asking *a, struct pg_admin *db, int *out_exit)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	enum ferry_error e = pg_admin_query(db, "SELECT set_config('app.tenant_id', coalesce($1, ''), false)", a->params, 1, NULL, &why);
	if (e == FERRY_OK)
		e = pg_admin_query(db, a->sql, a->params, a->count, &rows, &why);
	if (e != FERRY_OK) {
		*out_exit = cli_repair_fail(a->r->c, db, e, &why);
		return false;
	}
	struct json *list = cli_rows(rows);
	pg_rows_free(rows);
	for (size_t i = 0; i < json_count(list); i++)
		json_add(a->rows, copy_of(json_at(list, i)));
	json_release(list);
	return true;
}

static bool ask_place(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant, int *out_exit)
{
	(void)conninfo;
	(void)tenant;
	return *prefix || ask(ctx, db, out_exit); /* a set of schemas shares the engine's tables */
}

struct json *cli_repair_query(struct cli_repair *r, const char *sql, const char **params, int count, int *out_exit)
{
	struct asking a = {.r = r, .sql = sql, .params = params, .count = count, .rows = json_new_array()};
	struct cli_place place;
	bool ok;
	params[0] = NULL;
	if (!cli_value(r->c, "tenant")) {
		ok = cli_each_place(r->c, r->s, r->home, ask_place, &a, out_exit);
	} else {
		ok = cli_place_open(r->c, r->s, r->home, cli_value(r->c, "tenant"), &place, out_exit);
		if (ok) {
			params[0] = place.tenant;
			ok = ask(&a, place.db, out_exit);
			cli_place_close(&place, r->home);
		}
		params[0] = NULL;
	}
	if (ok)
		return a.rows;
	json_release(a.rows);
	return NULL;
}

/* ---- the hub's row ---- */

/* The table's names, quoted, and its key and tenant column. */
static const char names_sql[] =
	"SELECT format('SELECT to_jsonb(r)::text FROM %s r WHERE r.%I = $1::uuid AND r.%I = $2::uuid', t.relid, t.tenant_col, t.key_col) "
	"FROM ferry.tracked t WHERE t.nsp || '.' || t.name = $1";

static enum ferry_error read_row(struct pg_admin *db, const struct json *o, struct json *out, struct ferry_why *why)
{
	struct pg_rows *names, *rows;
	const char *table[] = {json_text(json_get(o, "table"))};
	const char *params[] = {json_text(json_get(o, "tenant_id")), json_text(json_get(o, "key"))};
	enum ferry_error e = pg_admin_query(db, "SELECT set_config('app.tenant_id', $1, false)", params, 1, NULL, why);
	if (e == FERRY_OK)
		e = pg_admin_query(db, names_sql, table, 1, &names, why);
	if (e != FERRY_OK)
		return e;
	json_put_null(out, "row");
	if (pg_rows_count(names) == 1) {
		e = pg_admin_query(db, pg_rows_text(names, 0, 0), params, 2, &rows, why);
		if (e == FERRY_OK) {
			if (pg_rows_count(rows) == 1)
				json_put_text(out, "row", pg_rows_text(rows, 0, 0));
			pg_rows_free(rows);
		}
	}
	pg_rows_free(names);
	return e;
}

struct json *cli_repair_write(const struct json *of, const char *column, const char *before, const char *after)
{
	struct json *o = json_new_object();
	json_put_text(o, "table", json_text(json_get(of, "table")));
	json_put_text(o, "key", json_text(json_get(of, "key")));
	json_put_text(o, "op", json_text(json_get(of, "op")));
	json_put_text(o, "column", column);
	json_put_text(o, "before", before);
	json_put_text(o, "after", after);
	return o;
}

struct json *cli_repair_with_row(struct cli_repair *r, const struct json *o, int *out_exit)
{
	struct ferry_why why = {0};
	struct cli_place place;
	struct json *copy = copy_of(o);
	if (cli_place_open(r->c, r->s, r->home, json_text(json_get(o, "tenant_id")), &place, out_exit)) {
		enum ferry_error e = read_row(place.db, o, copy, &why);
		if (e != FERRY_OK)
			*out_exit = cli_repair_fail(r->c, place.db, e, &why);
		cli_place_close(&place, r->home);
		if (e == FERRY_OK)
			return copy;
	}
	json_release(copy);
	return NULL;
}
