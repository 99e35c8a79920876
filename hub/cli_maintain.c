/* maintain: what has to be done now and then, in all places of tenants. It
 * says what it would do with --dry-run, and what it did without. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli.h"
#include "hub/cli_place.h"

#define PARAMS_MAX 4
#define KEEP_CHANGES_S INT64_C(604800)     /* 7 days */
#define KEEP_TOMBSTONES_S INT64_C(7776000) /* 90 days */
#define KEEP_MAX_S INT64_C(3155760000)     /* 100 years */

struct maintaining {
	struct cli *c;
	const struct cli_setting *s;
	struct pg_admin *home, *db;
	const char *place, *prefix;
	const char *tenant; /* only this one's; NULL: all */
	bool dry;
	char keep_changes[24], keep_tombstones[24]; /* seconds */
	struct json *rows;
	int problems;
	struct ferry_why why;
};

/* A statement whose rows are (subject, action, n, problem). {p} stands for the
 * prefix of schemas; $1 is the tenant or NULL, $2 whether it is a dry run, and
 * where `ages` says so $3 and $4 how many seconds changes and tombstones are kept. */
struct step {
	const char *name, *sql;
	bool once; /* for a database, not for each set of schemas in it */
	bool all;  /* not for a single tenant */
	bool ages;
};

static const struct step steps[] = {
	{"months", "SELECT tab, action, n, problem FROM {p}governance.make_months(3, $2::bool) WHERE $1::uuid IS NULL", false, true, false},
	{"months", "SELECT tab, action, n, problem FROM {p}governance.drop_months($2::bool) WHERE $1::uuid IS NULL", false, true, false},
	{"retention", "SELECT tab, action, n, problem FROM {p}governance.apply_retention($1::uuid, $2::bool)", false, false, false},
	{"deleted tenants",
	 "SELECT tab, action, n, problem FROM {p}governance.purge_deleted_tenants(now() - interval '30 days', $1::uuid, $2::bool)",
	 false, false, false},
	{"audit months",
	 "SELECT m, 'make', 0, NULL FROM {p}governance.make_audit_partitions() m WHERE NOT $2::bool AND $1::uuid IS NULL", false, true, false},
	{"audit months",
	 "SELECT partition_name, 'drop', entries, NULL FROM {p}governance.purge_audit(now() - interval '10 years', $2::bool) "
	 "WHERE $1::uuid IS NULL",
	 false, true, false},
	{"engine", "SELECT what || coalesce(' of ' || tenant_id, ''), CASE WHEN what = 'sums' THEN 'fold' ELSE 'forget' END, n, NULL "
		   "FROM ferry.upkeep($2::bool, $1::uuid, $3::float8 * interval '1 second', $4::float8 * interval '1 second')",
	 true, false, true},
	{"calls", "WITH old AS (SELECT tenant_id, month FROM ferry.usage WHERE month < now() - interval '2 years'), "
		  "gone AS (DELETE FROM ferry.usage u USING old o WHERE NOT $2::bool AND u.tenant_id = o.tenant_id AND u.month = o.month) "
		  "SELECT 'months', 'forget', count(*), NULL FROM old WHERE $1::uuid IS NULL HAVING count(*) > 0",
	 true, true, false},
};

/* The statement with the prefix in it. */
static void place_sql(const char *sql, const char *prefix, char *out, size_t max)
{
	size_t n = 0;
	while (*sql && n + 1 < max) {
		if (strncmp(sql, "{p}", 3) == 0) {
			n += (size_t)snprintf(out + n, max - n, "%s", prefix);
			sql += 3;
		} else {
			out[n++] = *sql++;
		}
	}
	out[n < max ? n : max - 1] = '\0';
}

static void add_row(struct maintaining *m, const char *step, const struct pg_rows *rows, int row)
{
	struct json *o = json_new_object();
	const char *n = pg_rows_text(rows, row, 2), *problem = pg_rows_text(rows, row, 3);
	json_put_text(o, "place", *m->prefix ? m->prefix : *m->place ? m->place : "home");
	json_put_text(o, "step", step);
	json_put_text(o, "subject", pg_rows_text(rows, row, 0));
	json_put_text(o, "action", pg_rows_text(rows, row, 1));
	json_put_int(o, "rows", n ? strtoll(n, NULL, 10) : 0);
	json_put_text(o, "problem", problem);
	json_put_bool(o, "done", !m->dry && !problem);
	m->problems += problem != NULL;
	json_add(m->rows, o);
}

static enum ferry_error run_step(struct maintaining *m, const struct step *step)
{
	char sql[1024];
	struct pg_rows *rows;
	const char *params[PARAMS_MAX] = {m->tenant, m->dry ? "true" : "false", m->keep_changes, m->keep_tombstones};
	place_sql(step->sql, m->prefix, sql, sizeof(sql));
	enum ferry_error e = pg_admin_query(m->db, sql, params, step->ages ? 4 : 2, &rows, &m->why);
	if (e != FERRY_OK)
		return e;
	for (int i = 0; i < pg_rows_count(rows); i++)
		add_row(m, step->name, rows, i);
	pg_rows_free(rows);
	return FERRY_OK;
}

/* ---- storage ---- */

/* What a database elsewhere counted is noted at home, where the hub looks. */
static enum ferry_error note_at_home(struct maintaining *m, const char *tenant, const char *bytes)
{
	const char *params[] = {tenant, bytes};
	if (m->db == m->home)
		return FERRY_OK;
	return pg_admin_query(m->home,
			      "UPDATE ferry.placement SET storage_bytes = $2::bigint, storage_at = now() WHERE tenant_id = $1::uuid",
			      params, 2, NULL, &m->why);
}

static enum ferry_error measure(struct maintaining *m)
{
	struct pg_rows *rows;
	if (m->dry || *m->prefix)
		return FERRY_OK;
	enum ferry_error e = pg_admin_query(m->db, "SELECT ferry.open_to_engine()", NULL, 0, NULL, &m->why);
	if (e == FERRY_OK)
		e = pg_admin_query(m->db, "SELECT s.tenant_id::text, 'count', s.bytes, NULL FROM ferry.measure_storage() s "
				   "WHERE s.tenant_id <> ferry.nobody() ORDER BY 1", NULL, 0, &rows, &m->why);
	if (e != FERRY_OK)
		return e;
	for (int i = 0; e == FERRY_OK && i < pg_rows_count(rows); i++) {
		if (m->tenant && strcmp(m->tenant, pg_rows_text(rows, i, 0)) != 0)
			continue;
		add_row(m, "storage", rows, i);
		e = note_at_home(m, pg_rows_text(rows, i, 0), pg_rows_text(rows, i, 2));
	}
	pg_rows_free(rows);
	return e;
}

/* ---- all places ---- */

static bool maintain_place(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant,
			   int *out_exit)
{
	struct maintaining *m = ctx;
	enum ferry_error e = FERRY_OK;
	(void)tenant;
	m->db = db;
	m->place = conninfo;
	m->prefix = prefix;
	for (size_t i = 0; e == FERRY_OK && i < sizeof(steps) / sizeof(*steps); i++)
		if (!(steps[i].once && *prefix) && !(steps[i].all && m->tenant))
			e = run_step(m, &steps[i]);
	if (e == FERRY_OK)
		e = measure(m);
	if (e != FERRY_OK)
		*out_exit = cli_fail_database(m->c, db, e, &m->why);
	return e == FERRY_OK;
}

/* How long it is kept, in seconds as text. False: it is no time. */
static bool keep(const struct cli *c, const char *option, int64_t otherwise, char out[24])
{
	const char *given = cli_value(c, option);
	int64_t seconds = otherwise;
	if (given && !cli_duration(given, 0, KEEP_MAX_S, &seconds))
		return false;
	snprintf(out, 24, "%lld", (long long)seconds);
	return true;
}

static int maintain(struct maintaining *m)
{
	static const struct cli_column columns[] = {{"place", NULL}, {"step", NULL}, {"subject", NULL}, {"action", NULL},
						    {"rows", NULL}, {"problem", NULL}, {NULL, NULL}};
	char tenant[UUID_TEXT];
	int exit_code = CLI_OK;
	const char *given = cli_value(m->c, "tenant");
	if (given && !cli_tenant(m->c, m->home, given, tenant, &exit_code))
		return exit_code;
	m->tenant = given ? tenant : NULL;
	m->dry = cli_flag(m->c, "dry-run");
	m->rows = json_new_array();
	if (!cli_each_place(m->c, m->s, m->home, maintain_place, m, &exit_code)) {
		json_release(m->rows);
		return exit_code;
	}
	return cli_print_rows(m->c, m->rows, columns, "There is nothing to do.");
}

int cli_maintain(struct cli *c)
{
	struct cli_setting s;
	struct maintaining m = {.c = c, .s = &s};
	int exit_code = CLI_OK;
	if (!keep(c, "keep-changes", KEEP_CHANGES_S, m.keep_changes) ||
	    !keep(c, "keep-tombstones", KEEP_TOMBSTONES_S, m.keep_tombstones))
		return cli_fail(c, FERRY_USAGE, "--keep-changes and --keep-tombstones take a time", "Write --keep-tombstones 90d");
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &m.home, &exit_code))
		exit_code = maintain(&m);
	pg_admin_close(m.home);
	cli_setting_deinit(&s);
	return exit_code;
}
