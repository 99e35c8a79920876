/* For the command line and checks: SQL as an app would run it, and the slow
 * proof behind the running checksums. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

#define QUERY_BUSY_MS 10000

static char *hex_text(const struct cell *c)
{
	char *text = malloc((size_t)c->n * 2 + 1);

	if (text == NULL)
		return NULL;
	for (uint32_t i = 0; i < c->n; i++)
		(void)snprintf(text + (size_t)i * 2, 3, "%02x", c->p[i]);
	text[(size_t)c->n * 2] = '\0';
	return text;
}

static bool give_row(sqlite3_stmt *s, bool (*row)(void *ctx, const struct replica_field *fields, int count), void *ctx)
{
	int n = sqlite3_column_count(s);
	struct replica_field *fields = calloc((size_t)n + 1, sizeof(*fields));
	char **hex = calloc((size_t)n + 1, sizeof(*hex));
	bool go_on = fields != NULL && hex != NULL;

	for (int i = 0; go_on && i < n; i++) {
		struct cell c = cell_column(s, i);

		fields[i].name = sqlite3_column_name(s, i);
		fields[i].number = c.type == SQLITE_INTEGER || c.type == SQLITE_FLOAT;
		if (c.type == SQLITE_BLOB)
			fields[i].text = hex[i] = hex_text(&c);
		else if (c.type != SQLITE_NULL)
			fields[i].text = (const char *)sqlite3_column_text(s, i);
	}
	if (go_on)
		go_on = row(ctx, fields, n);
	for (int i = 0; hex != NULL && i < n; i++)
		free(hex[i]);
	free(hex);
	free(fields);
	return go_on;
}

enum ferry_error replica_query(const char *path, const char *sql, bool read_only,
			       bool (*row)(void *ctx, const struct replica_field *fields, int count), void *ctx,
			       struct ferry_why *why)
{
	struct gate g;
	enum ferry_error e = gate_open(&g, path, read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, QUERY_BUSY_MS, why);
	bool go_on = true;

	if (e != FERRY_OK)
		return e;
	gate_as_apps(&g, true);
	while (go_on && *sql != '\0' && g.error == FERRY_OK) {
		sqlite3_stmt *s = NULL;
		int code = sqlite3_prepare_v2(g.db, sql, -1, &s, &sql);

		while (code == SQLITE_OK && s != NULL && go_on && (code = sqlite3_step(s)) == SQLITE_ROW) {
			go_on = row == NULL || give_row(s, row, ctx);
			code = SQLITE_OK;
		}
		if (code == SQLITE_ERROR) /* the statement's fault, not the file's */
			gate_fail(&g, FERRY_USAGE, "The replica answers: %s", sqlite3_errmsg(g.db));
		else if (code != SQLITE_OK && code != SQLITE_DONE) {
			gate_fail_sqlite(&g);
			if (g.error == FERRY_INTERNAL)
				g.error = FERRY_USAGE;
		}
		sqlite3_finalize(s);
	}
	if (g.error == FERRY_OK && sqlite3_txn_state(g.db, NULL) == SQLITE_TXN_WRITE)
		gate_fail(&g, FERRY_USAGE, "The statements end without COMMIT: nothing of their transaction was kept.");
	e = g.error == FERRY_OK ? FERRY_OK : ferry_fail(why, g.error, "%s", g.why.text);
	gate_close(&g);
	return e;
}

/* ---- R21: the proof ---- */

/* Adds the confirmed row of a key to the sums being made (held as those of
 * TARGET_FILL in a list of their own). */
static void add_confirmed(struct replica *r, struct table *t, const char *key)
{
	struct scopes none, scopes;
	struct row absent = {0};
	struct stack s;
	struct uuid id;

	none.count = 0;
	arena_reset(&r->work);
	stack_load(r, t, key, &s);
	if (r->g.error != FERRY_OK || !s.confirmed.present || !uuid_parse(key, UUID_TEXT - 1, &id))
		return;
	scopes_get(r, TARGET_LIVE, t, &id, &scopes);
	absent.cells = s.confirmed.cells;
	sums_change(r, TARGET_FILL, t, &id, &absent, &none, &s.confirmed, &scopes);
}

/* Every key that has a row, or had one beneath a pending delete. */
static void sum_table(struct replica *r, struct table *t)
{
	char *sql = sqlite3_mprintf("SELECT \"%w\" FROM \"%w\" UNION SELECT key FROM ferry_pending WHERE tbl = %u", t->t->key,
				    t->t->name, t->t->table);
	sqlite3_stmt *s = NULL;

	if (sql != NULL)
		(void)gate_statement(&r->g, &s, sql);
	sqlite3_free(sql);
	for (bool more = gate_step(&r->g, s, ""); more; more = gate_next(&r->g, s)) {
		char key[UUID_TEXT] = "";

		if (sqlite3_column_bytes(s, 0) == UUID_TEXT - 1)
			memcpy(key, sqlite3_column_text(s, 0), UUID_TEXT - 1);
		add_confirmed(r, t, key);
	}
	gate_finalize(&s);
}

/* The name of a scope, in the arena. */
static const char *scope_text(struct replica *r, int64_t id)
{
	sqlite3_stmt *s = q(r, Q_SCOPE_NAME);
	const char *name = "";

	arena_reset(&r->work);
	if (gate_step(&r->g, s, "i", id)) {
		name = arena_text(&r->work, (const char *)sqlite3_column_text(s, 0), (size_t)sqlite3_column_bytes(s, 0));
		sqlite3_reset(s);
	}
	return name != NULL ? name : "";
}

static void compare_sum(struct replica *r, const struct sum *kept, const struct sum *made, uint32_t made_count,
			char detail[160])
{
	static const struct sum zero;
	const struct sum *other = &zero;
	struct table *t = model_table(&r->now, kept->table);
	char what[160] = "";

	for (uint32_t i = 0; i < made_count; i++) {
		if (made[i].scope == kept->scope && made[i].table == kept->table && made[i].target == TARGET_FILL)
			other = &made[i];
	}
	if (t == NULL)
		return;
	if (kept->rows != other->rows)
		(void)snprintf(what, sizeof(what), "%lld rows, the running sum says %lld", (long long)other->rows,
			       (long long)kept->rows);
	for (int i = 0; i < t->t->column_count && what[0] == '\0'; i++) {
		if (kept->sums[i] != other->sums[i])
			(void)snprintf(what, sizeof(what), "column %.70s", t->t->columns[i].name);
	}
	if (what[0] == '\0')
		return;
	alarm_raise(r, scope_text(r, kept->scope), t->t->name, r->st.position, what);
	if (detail[0] == '\0')
		(void)snprintf(detail, 160, "%.70s: %.80s", t->t->name, what);
}

enum ferry_error replica_checksum_recompute(struct replica *r, bool *out_match, char detail[160],
					    struct ferry_why *why)
{
	struct sum *kept;
	uint32_t kept_count, kept_capacity;
	enum ferry_error e = cut_all(r, why);

	if (e == FERRY_OK)
		e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	cut_rest(r);
	kept = r->sums;
	kept_count = r->sum_count;
	kept_capacity = r->sum_capacity;
	r->sums = NULL;
	r->sum_count = r->sum_capacity = 0;
	for (uint32_t i = 0; i < r->now.schema.table_count && r->g.error == FERRY_OK; i++)
		sum_table(r, &r->now.tables[i]);
	detail[0] = '\0';
	for (uint32_t i = 0; i < kept_count; i++) {
		if (kept[i].target == TARGET_LIVE)
			compare_sum(r, &kept[i], r->sums, r->sum_count, detail);
	}
	free(r->sums);
	r->sums = kept;
	r->sum_count = kept_count;
	r->sum_capacity = kept_capacity;
	e = replica_end(r, why);
	if (e == FERRY_OK)
		*out_match = detail[0] == '\0';
	return e;
}
