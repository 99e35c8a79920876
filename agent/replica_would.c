#include "agent/replica_would.h"

#include <stdio.h>
#include <string.h>

#include "agent/replica_internal.h"

#define HEX_BYTES_MAX 64

struct would {
	struct gate mine;   /* where it is done */
	struct gate others; /* what stands for others: the file is in WAL mode */
	struct arena a;     /* of one row */
	would_fn *each;
	void *ctx;
};

struct image { /* a row, or none */
	const char *names[FERRY_COLUMNS_MAX + 1];
	struct cell cells[FERRY_COLUMNS_MAX + 1];
	int count;
};

static const char *hex_text(struct arena *a, const struct cell *c)
{
	uint32_t n = c->n < HEX_BYTES_MAX ? c->n : HEX_BYTES_MAX;
	char *out = arena_alloc(a, (size_t)n * 2 + 6);

	if (out == NULL)
		return "";
	memcpy(out, "\\x", 3);
	for (uint32_t i = 0; i < n; i++)
		(void)snprintf(out + 2 + (size_t)i * 2, 3, "%02x", c->p[i]);
	if (n < c->n)
		memcpy(out + 2 + (size_t)n * 2, "...", 4);
	return out;
}

static const char *cut_text(struct arena *a, const struct cell *c)
{
	uint32_t n = c->n < WOULD_TEXT_MAX ? c->n : WOULD_TEXT_MAX;
	char *out = arena_alloc(a, (size_t)n + 4);

	if (out == NULL)
		return "";
	while (n > 0 && n < c->n && (c->p[n] & 0xc0) == 0x80) /* whole characters */
		n--;
	if (n > 0)
		memcpy(out, c->p, n);
	memcpy(out + n, n < c->n ? "..." : "", n < c->n ? 4 : 1);
	return out;
}

static const char *text_of(struct arena *a, const struct cell *c)
{
	char number[40];

	switch (c->type) {
	case SQLITE_NULL:
		return NULL;
	case SQLITE_TEXT:
		return cut_text(a, c);
	case SQLITE_BLOB:
		return hex_text(a, c);
	case SQLITE_INTEGER:
		(void)snprintf(number, sizeof(number), "%lld", (long long)c->i);
		break;
	case SQLITE_FLOAT:
		(void)snprintf(number, sizeof(number), "%.17g", c->f);
		break;
	default:
		(void)snprintf(number, sizeof(number), "(%u bytes)", c->n);
	}
	return arena_text(a, number, strlen(number));
}

/* False: there is no such row there. */
static bool image_read(struct gate *g, struct arena *a, const char *table, const char *key_column, const char *key, struct image *out)
{
	sqlite3_stmt *s = NULL;
	char *sql = sqlite3_mprintf("SELECT * FROM \"%w\" WHERE \"%w\".\"%w\" = ?1", table, table, key_column);
	bool found;

	out->count = 0;
	if (sql != NULL)
		(void)gate_statement(g, &s, sql);
	found = gate_step(g, s, "t", key);
	for (int i = 0; found && i < sqlite3_column_count(s) && i <= FERRY_COLUMNS_MAX; i++) {
		const char *name = sqlite3_column_name(s, i);

		if (name == NULL || strcmp(name, key_column) == 0)
			continue;
		out->names[out->count] = arena_text(a, name, strlen(name));
		out->cells[out->count++] = cell_keep(a, s, i);
	}
	gate_finalize(&s);
	sqlite3_free(sql);
	if (a->full)
		gate_fail(g, FERRY_LIMIT, "A row of %.80s is too large to be shown.", table);
	return found && g->error == FERRY_OK;
}

/* Too large to be looked at: of one length they are taken as one value. */
static bool both_far(const struct cell *a, const struct cell *b)
{
	return a->type == CELL_FAR && b->type == CELL_FAR && a->n == b->n;
}

static void tell_columns(struct would *w, struct would_write *said, const struct image *before, const struct image *after, bool was)
{
	const struct cell none = cell_null();

	said->op = was ? "update" : "insert";
	for (int i = 0; i < after->count; i++) {
		const struct cell *old = was && i < before->count ? &before->cells[i] : &none;

		if (cell_equal(old, &after->cells[i]) || both_far(old, &after->cells[i]))
			continue;
		said->column = after->names[i];
		said->before = text_of(&w->a, old);
		said->after = text_of(&w->a, &after->cells[i]);
		w->each(w->ctx, said);
	}
}

static void tell_row(struct would *w, const char *table, const char *key_column, const char *key)
{
	struct image before, after;
	struct would_write said = {.table = table, .key = key, .op = "delete"};
	bool was = image_read(&w->others, &w->a, table, key_column, key, &before);
	bool is = image_read(&w->mine, &w->a, table, key_column, key, &after);

	if (w->others.error != FERRY_OK)
		gate_fail(&w->mine, w->others.error, "%s", w->others.why.text);
	if (w->mine.error != FERRY_OK)
		return;
	if (is)
		tell_columns(w, &said, &before, &after, was);
	else if (was)
		w->each(w->ctx, &said);
}

/* The rows that were captured since. */
static void tell(struct would *w, int64_t since)
{
	sqlite3_stmt *s = NULL;

	(void)gate_statement(&w->mine, &s, "SELECT t.name, t.key, l.key FROM ferry_log l JOIN ferry_table t ON t.gen = 0 AND t.tbl = l.tbl "
					   "WHERE l.seq > ?1 AND l.op & 7 IN (1, 2, 3) GROUP BY l.tbl, l.key ORDER BY min(l.seq)");
	for (bool more = gate_step(&w->mine, s, "i", since); more && w->mine.error == FERRY_OK; more = gate_next(&w->mine, s)) {
		arena_reset(&w->a);
		tell_row(w, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
			 (const char *)sqlite3_column_text(s, 2));
	}
	gate_finalize(&s);
}

static int64_t newest_entry(struct gate *g)
{
	sqlite3_stmt *s = NULL;
	int64_t seq = 0;

	(void)gate_statement(g, &s, "SELECT coalesce(max(seq), 0) FROM ferry_log");
	if (gate_step(g, s, ""))
		seq = sqlite3_column_int64(s, 0);
	gate_finalize(&s);
	return seq;
}

static void carry_out(struct would *w, const struct would_ask *ask)
{
	struct gate *g = &w->mine;
	int64_t since = newest_entry(g);

	if (ask->edits != NULL)
		gate_exec(g, ask->edits);
	gate_execf(g, "INSERT INTO ferry_repair(action, %s) VALUES (%Q, %lld)", ask->of_conflict ? "conflict" : "rejected", ask->action,
		   (long long)ask->number);
	if (g->error == FERRY_OK)
		repair_carry_out(g, &w->a, sqlite3_last_insert_rowid(g->db), ask->action, ask->of_conflict, ask->number);
	if (g->error == FERRY_OK)
		tell(w, since);
}

enum ferry_error replica_would(const char *path, int busy_ms, const struct would_ask *ask, would_fn *each, void *ctx,
			       struct ferry_why *why)
{
	struct would w = {.each = each, .ctx = ctx};
	enum ferry_error e = gate_open(&w.mine, path, SQLITE_OPEN_READWRITE, busy_ms, why);

	if (e != FERRY_OK)
		return e;
	e = gate_open(&w.others, path, SQLITE_OPEN_READONLY, busy_ms, why);
	if (e != FERRY_OK) {
		gate_close(&w.mine);
		return e;
	}
	w.mine.asked = w.others.asked = true;
	gate_as_apps(&w.mine, true);
	arena_init(&w.a, REPLICA_WORK_BYTES_MAX);
	e = gate_begin(&w.mine, why);
	if (e == FERRY_OK) {
		if (replica_layout(&w.mine) == REPLICA_LAYOUT)
			carry_out(&w, ask);
		else
			gate_fail(&w.mine, FERRY_USAGE, REPLICA_OTHER_LAYOUT, path);
		e = w.mine.error;
		if (e != FERRY_OK)
			*why = w.mine.why;
		gate_exec(&w.mine, "ROLLBACK"); /* does nothing after a failure: closing the file ends it */
	}
	arena_deinit(&w.a);
	gate_close(&w.others);
	gate_close(&w.mine);
	return e;
}
