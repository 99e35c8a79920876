/* backup-mark: tells devices what a backup holds, so that they may forget it.
 *
 * Before a backup `--begin` notes each tenant's position; after it, without
 * the option, these count: whatever was committed then is surely in it. */
#include <stdio.h>
#include <stdlib.h>

#include "hub/cli.h"
#include "hub/cli_place.h"

struct marking {
	struct cli *c;
	struct json *rows;
	const char *sql;
	bool missing; /* a place without a backup that was begun */
	struct ferry_why why;
};

static const char begin_sql[] =
	"SELECT b.id, b.begun_at, (SELECT count(*) FROM jsonb_object_keys(b.heads)) AS tenants, 'begun' AS state FROM ferry.backup_begin() b";
static const char done_sql[] =
	"SELECT b.id, b.begun_at, (SELECT count(*) FROM jsonb_object_keys(b.heads)) AS tenants, 'complete' AS state FROM ferry.backup_done() b";
static const char dry_sql[] =
	"SELECT b.id, b.begun_at, (SELECT count(*) FROM jsonb_object_keys(b.heads)) AS tenants, 'begun' AS state FROM ferry.backup b "
	"WHERE b.id = (SELECT max(n.id) FROM ferry.backup n) AND b.done_at IS NULL";

static void add(struct marking *m, const struct pg_rows *rows, const char *place)
{
	struct json *o = json_new_object();
	json_put_text(o, "place", *place ? place : "home");
	json_put_int(o, "backup", strtoll(pg_rows_text(rows, 0, 0), NULL, 10));
	json_put_text(o, "begun_at", pg_rows_text(rows, 0, 1));
	json_put_int(o, "tenants", strtoll(pg_rows_text(rows, 0, 2), NULL, 10));
	json_put_text(o, "state", pg_rows_text(rows, 0, 3));
	json_add(m->rows, o);
}

/* A set of schemas is backed up with its database. */
static bool mark_place(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant, int *out_exit)
{
	struct marking *m = ctx;
	struct pg_rows *rows;
	(void)tenant;
	if (*prefix)
		return true;
	enum ferry_error e = pg_admin_query(db, m->sql, NULL, 0, &rows, &m->why);
	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(m->c, db, e, &m->why);
		return false;
	}
	if (pg_rows_count(rows) == 1)
		add(m, rows, conninfo);
	else
		m->missing = true;
	pg_rows_free(rows);
	return true;
}

static int mark(struct marking *m, const struct cli_setting *s, struct pg_admin *home)
{
	static const struct cli_column columns[] = {{"place", NULL}, {"backup", NULL}, {"begun_at", "begun at"}, {"tenants", NULL},
						    {"state", NULL}, {NULL, NULL}};
	int exit_code = CLI_OK;
	m->rows = json_new_array();
	bool good = cli_each_place(m->c, s, home, mark_place, m, &exit_code);
	if (good && !m->missing)
		return cli_print_rows(m->c, m->rows, columns, "There is no database.");
	json_release(m->rows);
	if (!good)
		return exit_code;
	return cli_fail(m->c, FERRY_NOT_FOUND, "no backup was begun here since the last one was marked",
			"Run 'ferry-hub backup-mark --begin', then the backup, then 'ferry-hub backup-mark'");
}

int cli_backup_mark(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *home = NULL;
	struct marking m = {.c = c, .sql = cli_flag(c, "begin") ? begin_sql : cli_flag(c, "dry-run") ? dry_sql : done_sql};
	int exit_code = CLI_OK;
	if (cli_flag(c, "begin") && cli_flag(c, "dry-run"))
		return cli_fail(c, FERRY_USAGE, "--begin changes nothing that devices see", "Leave --dry-run away");
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &home, &exit_code))
		exit_code = mark(&m, &s, home);
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}
