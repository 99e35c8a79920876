#include "agent/sqlite_gate.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/message.h"

static enum ferry_error map_error(int code)
{
	switch (code & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return FERRY_BUSY;
	case SQLITE_FULL:
		return FERRY_NO_SPACE;
	case SQLITE_NOMEM:
		return FERRY_NO_MEMORY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* our statements are right: a table, view or column was taken away */
		return FERRY_CORRUPT;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return FERRY_IO;
	default:
		return FERRY_INTERNAL;
	}
}

enum ferry_error gate_open(struct gate *g, const char *path, int flags, int busy_timeout_ms, struct ferry_why *why)
{
	int code;

	*g = (struct gate){0};
	code = sqlite3_open_v2(path, &g->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
	if (code != SQLITE_OK) {
		enum ferry_error e = code == SQLITE_CANTOPEN && (flags & SQLITE_OPEN_CREATE) == 0 ? FERRY_NOT_FOUND
												 : map_error(code);

		ferry_why_set(why, "The replica %s cannot be opened: %s.", path, sqlite3_errmsg(g->db));
		gate_close(g);
		return e;
	}
	sqlite3_extended_result_codes(g->db, 1);
	sqlite3_busy_timeout(g->db, busy_timeout_ms);
	gate_as_apps(g, false); /* else "view" of a table whose column an app has renamed is the text 'view', and goes to the hub */
	return FERRY_OK;
}

void gate_as_apps(struct gate *g, bool on)
{
	(void)sqlite3_db_config(g->db, SQLITE_DBCONFIG_DQS_DML, (int)on, (int *)NULL);
}

void gate_close(struct gate *g)
{
	gate_finalize(&g->begin);
	gate_finalize(&g->commit);
	sqlite3_close_v2(g->db);
	g->db = NULL;
}

void gate_fail(struct gate *g, enum ferry_error e, const char *format, ...)
{
	va_list args;

	if (g->error != FERRY_OK)
		return;
	g->error = e;
	va_start(args, format);
	(void)vsnprintf(g->why.text, sizeof(g->why.text), format, args);
	va_end(args);
}

void gate_fail_sqlite(struct gate *g)
{
	enum ferry_error e = map_error(sqlite3_errcode(g->db));

	if (e == FERRY_NO_SPACE)
		gate_fail(g, e, "The disk of the replica is full; free some space.");
	else if ((sqlite3_errcode(g->db) & 0xff) == SQLITE_READONLY)
		gate_fail(g, e, "The replica cannot be written (%s): use the user that ferry-agent runs as, on a disk that may be written.",
			  sqlite3_errmsg(g->db));
	else if (sqlite3_errcode(g->db) == SQLITE_ERROR && g->asked)
		gate_fail(g, FERRY_USAGE, "The replica answers: %s", sqlite3_errmsg(g->db));
	else if (sqlite3_errcode(g->db) == SQLITE_ERROR)
		gate_fail(g, e, "A program changed the replica's tables (%s): undo that, or enrol anew with --force, which puts the "
			  "file aside.", sqlite3_errmsg(g->db));
	else if (e == FERRY_CORRUPT)
		gate_fail(g, e, "The replica is damaged (%s): enrol anew with --force, which puts the file aside.",
			  sqlite3_errmsg(g->db));
	else
		gate_fail(g, e, "The replica answers: %s", sqlite3_errmsg(g->db));
}

enum ferry_error gate_begin(struct gate *g, struct ferry_why *why)
{
	g->error = FERRY_OK;
	g->why.text[0] = '\0';
	gate_run(g, gate_statement(g, &g->begin, "BEGIN IMMEDIATE"), "");
	if (g->error != FERRY_OK)
		return ferry_fail(why, g->error, "%s", g->why.text);
	return FERRY_OK;
}

enum ferry_error gate_end(struct gate *g, struct ferry_why *why)
{
	gate_run(g, gate_statement(g, &g->commit, "COMMIT"), "");
	if (g->error == FERRY_OK)
		return FERRY_OK;
	if (!sqlite3_get_autocommit(g->db))
		(void)sqlite3_exec(g->db, "ROLLBACK", NULL, NULL, NULL);
	return ferry_fail(why, g->error, "%s", g->why.text);
}

void gate_exec(struct gate *g, const char *sql)
{
	if (g->error == FERRY_OK && sqlite3_exec(g->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		gate_fail_sqlite(g);
}

void gate_execf(struct gate *g, const char *format, ...)
{
	va_list args;
	char *sql;

	va_start(args, format);
	sql = sqlite3_vmprintf(format, args);
	va_end(args);
	if (sql == NULL)
		gate_fail(g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		gate_exec(g, sql);
	sqlite3_free(sql);
}

sqlite3_stmt *gate_statement(struct gate *g, sqlite3_stmt **slot, const char *sql)
{
	if (g->error != FERRY_OK)
		return NULL;
	if (*slot != NULL) {
		sqlite3_reset(*slot);
		return *slot;
	}
	if (sqlite3_prepare_v3(g->db, sql, -1, SQLITE_PREPARE_PERSISTENT, slot, NULL) != SQLITE_OK) {
		gate_fail_sqlite(g);
		*slot = NULL;
	}
	return *slot;
}

void gate_finalize(sqlite3_stmt **slot)
{
	sqlite3_finalize(*slot);
	*slot = NULL;
}

static bool bind_far(sqlite3_stmt *s, int index, const struct cell *c)
{
	sqlite3_stmt *from = NULL;
	bool bound = c->p != NULL &&
		     sqlite3_prepare_v2(sqlite3_db_handle(s), (const char *)c->p, -1, &from, NULL) == SQLITE_OK &&
		     sqlite3_step(from) == SQLITE_ROW &&
		     sqlite3_bind_value(s, index, sqlite3_column_value(from, 0)) == SQLITE_OK;

	sqlite3_finalize(from);
	return bound;
}

bool cell_bind(sqlite3_stmt *s, int index, const struct cell *c)
{
	switch (c->type) {
	case SQLITE_INTEGER:
		sqlite3_bind_int64(s, index, c->i);
		return true;
	case SQLITE_FLOAT:
		sqlite3_bind_double(s, index, c->f);
		return true;
	case SQLITE_TEXT:
		sqlite3_bind_text(s, index, c->n == 0 ? "" : (const char *)c->p, (int)c->n, SQLITE_STATIC);
		return true;
	case SQLITE_BLOB:
		if (c->n == 0)
			sqlite3_bind_zeroblob(s, index, 0);
		else
			sqlite3_bind_blob(s, index, c->p, (int)c->n, SQLITE_STATIC);
		return true;
	case CELL_FAR:
		return bind_far(s, index, c);
	default:
		sqlite3_bind_null(s, index);
		return true;
	}
}

static bool bind_all(sqlite3_stmt *s, const char *letters, va_list args)
{
	bool all = true;

	for (int i = 1; *letters != '\0'; i++, letters++) {
		const void *p;

		switch (*letters) {
		case 'i':
			sqlite3_bind_int64(s, i, va_arg(args, int64_t));
			break;
		case 't':
			sqlite3_bind_text(s, i, va_arg(args, const char *), -1, SQLITE_STATIC);
			break;
		case 'c':
			all &= cell_bind(s, i, va_arg(args, const struct cell *));
			break;
		default:
			p = va_arg(args, const void *);
			sqlite3_bind_blob(s, i, p, va_arg(args, int), SQLITE_STATIC);
		}
	}
	return all;
}

bool gate_next(struct gate *g, sqlite3_stmt *s)
{
	int code;

	if (s == NULL || g->error != FERRY_OK)
		return false;
	code = sqlite3_step(s);
	if (code == SQLITE_ROW)
		return true;
	if (code != SQLITE_DONE)
		gate_fail_sqlite(g);
	sqlite3_reset(s);
	return false;
}

bool gate_step(struct gate *g, sqlite3_stmt *s, const char *letters, ...)
{
	va_list args;

	if (s == NULL || g->error != FERRY_OK)
		return false;
	va_start(args, letters);
	bind_all(s, letters, args);
	va_end(args);
	return gate_next(g, s);
}

void gate_run(struct gate *g, sqlite3_stmt *s, const char *letters, ...)
{
	va_list args;

	if (s == NULL || g->error != FERRY_OK)
		return;
	va_start(args, letters);
	bind_all(s, letters, args);
	va_end(args);
	while (gate_next(g, s))
		;
}

struct cell cell_column(sqlite3_stmt *s, int index)
{
	struct cell c = {.type = sqlite3_column_type(s, index)};

	if (c.type == SQLITE_INTEGER) {
		c.i = sqlite3_column_int64(s, index);
	} else if (c.type == SQLITE_FLOAT) {
		c.f = sqlite3_column_double(s, index);
	} else if (c.type == SQLITE_TEXT) {
		c.p = sqlite3_column_text(s, index);
		c.n = (uint32_t)sqlite3_column_bytes(s, index);
	} else if (c.type == SQLITE_BLOB) {
		c.p = sqlite3_column_blob(s, index);
		c.n = (uint32_t)sqlite3_column_bytes(s, index);
	}
	return c;
}

struct cell cell_keep(struct arena *a, sqlite3_stmt *s, int index)
{
	struct cell c = cell_column(s, index);

	if ((c.type == SQLITE_TEXT || c.type == SQLITE_BLOB) && c.n > FERRY_ROW_BYTES_MAX)
		return (struct cell){.type = CELL_FAR, .n = c.n};
	if ((c.type == SQLITE_TEXT || c.type == SQLITE_BLOB) && c.n > 0) {
		c.p = arena_copy(a, c.p, c.n);
		if (c.p == NULL)
			c = cell_null(); /* the arena is marked full: its owner fails */
	}
	return c;
}

bool cell_equal(const struct cell *a, const struct cell *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case SQLITE_INTEGER:
		return a->i == b->i;
	case SQLITE_FLOAT:
		return memcmp(&a->f, &b->f, sizeof(a->f)) == 0;
	case SQLITE_TEXT:
	case SQLITE_BLOB:
		return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
	case CELL_FAR:
		return a->p != NULL && b->p != NULL && strcmp((const char *)a->p, (const char *)b->p) == 0;
	default:
		return true;
	}
}
