#include "tests/sim/sim_app.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define FIELDS_MAX 20

static bool refused(const struct sim_app *a, struct ferry_why *why)
{
	ferry_why_set(why, "SQLite answers: %s", sqlite3_errmsg(a->db));
	return false;
}

static struct sqlite3_stmt *kept_statement(const struct sim_app *a, const char *sql)
{
	for (int i = 0; i < APP_STATEMENTS_MAX; i++)
		if (a->kept[i].sql && strcmp(a->kept[i].sql, sql) == 0)
			return a->kept[i].statement;
	return NULL;
}

static void forget(struct sim_app *a, int i)
{
	free(a->kept[i].sql);
	sqlite3_finalize(a->kept[i].statement);
	a->kept[i].sql = NULL;
	a->kept[i].statement = NULL;
}

static struct sqlite3_stmt *prepare(struct sim_app *a, const char *sql)
{
	struct sqlite3_stmt *s = kept_statement(a, sql);
	if (s || sqlite3_prepare_v2(a->db, sql, -1, &s, NULL))
		return s;
	forget(a, a->next);
	a->kept[a->next].sql = sim_dup(sql, strlen(sql) + 1);
	a->kept[a->next].statement = s;
	a->next = (a->next + 1) % APP_STATEMENTS_MAX;
	return s;
}

static bool give_row(struct sqlite3_stmt *s, bool (*row)(void *ctx, const struct replica_field *fields, int count), void *ctx)
{
	struct replica_field fields[FIELDS_MAX] = {0};
	int count = sqlite3_column_count(s);
	if (count > FIELDS_MAX)
		abort();
	for (int i = 0; i < count; i++) {
		fields[i].name = sqlite3_column_name(s, i);
		fields[i].number = sqlite3_column_type(s, i) == SQLITE_INTEGER;
		fields[i].text = (const char *)sqlite3_column_text(s, i);
	}
	return row(ctx, fields, count);
}

bool sim_app_run(struct sim_app *a, const char *path, const char *sql,
		 bool (*row)(void *ctx, const struct replica_field *fields, int count), void *ctx, struct ferry_why *why)
{
	if (!a->db && sqlite3_open_v2(path, &a->db, SQLITE_OPEN_READWRITE, NULL))
		return refused(a, why);
	struct sqlite3_stmt *s = prepare(a, sql);
	if (!s)
		return refused(a, why);
	int code = sqlite3_step(s);
	while (code == SQLITE_ROW && give_row(s, row, ctx))
		code = sqlite3_step(s);
	bool good = code == SQLITE_DONE || code == SQLITE_ROW || refused(a, why);
	sqlite3_reset(s);
	return good;
}

void sim_app_close(struct sim_app *a)
{
	for (int i = 0; i < APP_STATEMENTS_MAX; i++)
		forget(a, i);
	sqlite3_close(a->db);
	*a = (struct sim_app){0};
}
