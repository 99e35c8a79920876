/* migrate: the home database, and every other place of tenants. */
#include <stdio.h>
#include <stdlib.h>

#include "hub/cli.h"
#include "hub/cli_place.h"
#include "hub/migrate.h"

struct migrating {
	struct cli *c;
	char folder[FILES_PATH_MAX];
	struct json *rows; /* dry run */
	int applied;
};

static const char *const state_names[] = {"pending", "applied", "changed", "missing"};

static enum ferry_error add_plan(struct migrating *x, struct pg_admin *db, const char *place, const struct migrate_set *set,
				 struct ferry_why *why)
{
	struct migrations m;
	enum ferry_error e = migrate_plan(db, x->folder, set, &m, why);
	if (e != FERRY_OK)
		return e;
	for (int i = 0; i < m.count; i++) {
		struct json *o = json_new_object();
		json_put_text(o, "part", m.list[i].part);
		json_put_int(o, "number", m.list[i].number);
		json_put_text(o, "name", m.list[i].name);
		json_put_text(o, "state", state_names[m.list[i].state]);
		json_put_text(o, "place", *place ? place : "home");
		json_add(x->rows, o);
	}
	migrations_free(&m);
	return FERRY_OK;
}

static void say_applied(void *ctx, const struct migration *m)
{
	struct migrating *x = ctx;
	if (!cli_json(x->c))
		printf("applied %s/%s\n", m->part, m->name);
	fflush(stdout);
}

static int fail(const struct cli *c, enum ferry_error e, const struct ferry_why *why)
{
	if (e == FERRY_USAGE) /* the file's own error: its sentence names file and line */
		return cli_fail(c, FERRY_CORRUPT, why->text, "The files before it are applied; this one left no trace");
	return cli_fail(c, e, why->text, NULL);
}

static bool migrate_place(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant,
			  int *out_exit)
{
	struct migrating *x = ctx;
	struct ferry_why why = {0};
	struct migrate_set set = {prefix, tenant};
	int count = 0;
	enum ferry_error e = x->rows ? add_plan(x, db, conninfo, tenant ? &set : NULL, &why)
				     : migrate_apply(db, x->folder, tenant ? &set : NULL, say_applied, x, &count, &why);
	x->applied += count;
	if (e != FERRY_OK)
		*out_exit = fail(x->c, e, &why);
	return e == FERRY_OK;
}

/* An empty database names no other places, nor does one before they came. */
static bool knows_places(struct pg_admin *db)
{
	struct ferry_why ignored;
	struct pg_rows *rows;
	if (pg_admin_query(db, "SELECT 1 WHERE to_regclass('ferry.placement') IS NOT NULL", NULL, 0, &rows, &ignored) != FERRY_OK)
		return false;
	bool known = pg_rows_count(rows) == 1;
	pg_rows_free(rows);
	return known;
}

static int migrate(struct migrating *x, const struct cli_setting *s, struct pg_admin *home)
{
	static const struct cli_column columns[] = {{"part", NULL}, {"number", NULL}, {"name", NULL}, {"state", NULL},
						    {"place", NULL}, {NULL, NULL}};
	int exit_code = CLI_OK;
	bool all = cli_flag(x->c, "all-placements"), good;
	x->rows = cli_flag(x->c, "dry-run") ? json_new_array() : NULL;
	if (all && knows_places(home))
		good = cli_each_place(x->c, s, home, migrate_place, x, &exit_code);
	else
		good = migrate_place(x, home, "", "", NULL, &exit_code);
	if (!good) {
		json_release(x->rows);
		return exit_code;
	}
	if (x->rows)
		return cli_print_rows(x->c, x->rows, columns, "There are no migrations.");
	struct json *o = json_new_object();
	json_put_int(o, "applied", x->applied);
	return cli_print_done(x->c, o, x->applied ? "%d migrations applied" : "The database is up to date", x->applied);
}

int cli_migrate(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *db = NULL;
	struct ferry_why why = {0};
	struct migrating x = {.c = c};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code)) {
		const char *wanted = cli_value(c, "sql") ? cli_value(c, "sql") : *s.settings.sql_dir ? s.settings.sql_dir : NULL;
		enum ferry_error e = migrate_find(wanted, x.folder, &why);
		if (e != FERRY_OK)
			exit_code = cli_fail(c, e, why.text, NULL);
		else if (cli_database(c, &s, &db, &exit_code))
			exit_code = migrate(&x, &s, db);
	}
	pg_admin_close(db);
	cli_setting_deinit(&s);
	return exit_code;
}
