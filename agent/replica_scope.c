/* The scopes of a replica: those it holds, those that come and those that go.
 *
 * A scope that goes is evicted at the welcome that says so, in one transaction:
 * its rows vanish unless they are in another scope, and nothing is sent. Edits
 * of them that the hub does not have stay in the outbox: the hub judges them,
 * and what it refuses is kept in ferry_rejected.
 *
 * A scope that comes is staged while the others live on (replica_fill.c), and
 * joined to them in the transaction of the commit that ends its fill. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

/* ferry_scope.held: 0 no, 1 its rows are here, and within one transaction: */
#define GOING "(SELECT id FROM ferry_scope WHERE held = 2)"

/* The text of a key in ferry_member. */
#define MEMBER_KEY \
	"lower(printf('%%s-%%s-%%s-%%s-%%s', substr(hex(m.key), 1, 8), substr(hex(m.key), 9, 4), substr(hex(m.key), 13, 4), " \
	"substr(hex(m.key), 17, 4), substr(hex(m.key), 21)))"

static bool is_named(const char *const *names, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

/* ---- Hello ---- */

static enum ferry_error list_scopes(struct replica *r, enum query which, const char *const **out, uint32_t *out_count)
{
	sqlite3_stmt *s = q(r, which);
	const char **names = arena_array(&r->hello, FERRY_SCOPES_MAX, sizeof(*names));
	uint32_t n = 0;

	for (bool more = names != NULL && gate_step(&r->g, s, ""); more; more = gate_next(&r->g, s)) {
		if (n == FERRY_SCOPES_MAX)
			gate_fail(&r->g, FERRY_LIMIT, "The replica holds more than %d scopes.", FERRY_SCOPES_MAX);
		else
			names[n++] = arena_text(&r->hello, (const char *)sqlite3_column_text(s, 0), (size_t)sqlite3_column_bytes(s, 0));
	}
	if (names == NULL || r->hello.full)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for the names of scopes.");
	*out = names;
	*out_count = n;
	return r->g.error;
}

enum ferry_error scopes_hello(struct replica *r, struct message_hello *out)
{
	enum ferry_error e;

	arena_reset(&r->hello);
	out->fill_scopes = NULL;
	out->fill_scope_count = 0;
	e = list_scopes(r, Q_SCOPES_HELD, &out->scopes, &out->scope_count);
	if (e == FERRY_OK && r->st.fill != FILL_NONE)
		e = list_scopes(r, Q_SCOPES_FILLING, &out->fill_scopes, &out->fill_scope_count);
	out->fill_beside = r->st.fill == FILL_BESIDE;
	return e;
}

/* ---- Those that go ---- */

static bool is_going(const int64_t *going, uint32_t count, int64_t scope)
{
	for (uint32_t i = 0; i < count; i++) {
		if (going[i] == scope)
			return true;
	}
	return false;
}

/* A row with pending edits: its confirmed row goes from beneath them. */
static void evict_pending(struct replica *r, struct table *t, const char *text, const int64_t *going, uint32_t count)
{
	const struct cell key_cell = {.type = SQLITE_TEXT, .p = (const uint8_t *)text, .n = UUID_TEXT - 1};
	struct scopes before, after;
	struct stack s = {0};
	struct row left;
	struct uuid key;

	before.count = after.count = 0;
	stack_load(r, t, text, &s);
	if (r->g.error != FERRY_OK || !s.confirmed.present || !key_to_uuid(&key_cell, &key))
		return;
	scopes_get(r, TARGET_LIVE, t, &key, &before);
	for (int i = 0; i < before.count; i++) {
		if (!is_going(going, count, before.ids[i]))
			after.ids[after.count++] = before.ids[i];
	}
	if (after.count == before.count)
		return;
	left = s.confirmed;
	left.present = after.count > 0;
	sums_change(r, TARGET_LIVE, t, &key, &s.confirmed, &before, &left, &after);
	scopes_set(r, TARGET_LIVE, t, &key, &after);
	stack_rebase(r, TARGET_LIVE, t, text, &s, &left, &s.visible);
}

static void evict_all_pending(struct replica *r, struct table *t, const int64_t *going, uint32_t count)
{
	char key[UUID_TEXT] = "";

	for (;;) {
		sqlite3_stmt *s = q(r, Q_PENDING_ROWS);

		if (!gate_step(&r->g, s, "it", (int64_t)t->t->table, key))
			return;
		bool same = sqlite3_column_int64(s, 0) == (int64_t)t->t->table;
		memcpy(key, sqlite3_column_text(s, 1), UUID_TEXT - 1);
		sqlite3_reset(s);
		if (!same)
			return;
		arena_reset(&r->work);
		evict_pending(r, t, key, going, count);
	}
}

/* All others at once: first those that are listed, then those of the table's main scope. */
static void evict_rows(struct replica *r, struct table *t, bool main_goes)
{
	const char *name = t->t->name, *key = t->t->key;
	unsigned tbl = t->t->table;

	gate_execf(&r->g,
		   "DELETE FROM \"%w\" WHERE \"%w\" IN (SELECT " MEMBER_KEY " FROM ferry_member m WHERE m.tbl = %u "
		   "GROUP BY m.key HAVING min(m.scope IN " GOING ")) "
		   "AND \"%w\" NOT IN (SELECT key FROM ferry_pending WHERE tbl = %u)",
		   name, key, tbl, key, tbl);
	if (main_goes)
		gate_execf(&r->g,
			   "DELETE FROM \"%w\" WHERE \"%w\" NOT IN (SELECT " MEMBER_KEY " FROM ferry_member m WHERE m.tbl = %u) "
			   "AND \"%w\" NOT IN (SELECT key FROM ferry_pending WHERE tbl = %u)",
			   name, key, tbl, key, tbl);
	gate_execf(&r->g, "DELETE FROM ferry_member WHERE tbl = %u AND scope IN " GOING, tbl);
	t->side[TARGET_LIVE].explicit_members = -1;
	if (main_goes) {
		t->side[TARGET_LIVE].main_scope = 0;
		gate_execf(&r->g, "UPDATE ferry_table SET scope = 0 WHERE gen = 0 AND tbl = %u", tbl);
	}
}

static void evict_table(struct replica *r, struct table *t, const int64_t *going, uint32_t count)
{
	bool main_goes = is_going(going, count, t->side[TARGET_LIVE].main_scope);
	bool any = main_goes;

	for (uint32_t i = 0; i < r->sum_count && !any; i++)
		any = r->sums[i].target == TARGET_LIVE && r->sums[i].table == t->t->table && r->sums[i].rows > 0 &&
		      is_going(going, count, r->sums[i].scope);
	if (!any)
		return;
	evict_all_pending(r, t, going, count);
	evict_rows(r, t, main_goes);
	for (uint32_t i = 0; i < r->sum_count; i++) {
		struct sum *s = &r->sums[i];

		if (s->target != TARGET_LIVE || s->table != t->t->table || !is_going(going, count, s->scope))
			continue;
		s->rows = 0;
		s->dirty = true;
		memset(s->sums, 0, sizeof(s->sums));
	}
}

/* Into an array of the caller; how many. */
static uint32_t find_going(struct replica *r, const struct message_welcome *w, int64_t going[FERRY_SCOPES_MAX])
{
	sqlite3_stmt *s = q(r, Q_SCOPES_HELD);
	uint32_t n = 0;

	for (bool more = gate_step(&r->g, s, ""); more; more = gate_next(&r->g, s)) {
		if (!is_named(w->scopes, w->scope_count, (const char *)sqlite3_column_text(s, 0)) && n < FERRY_SCOPES_MAX)
			going[n++] = sqlite3_column_int64(s, 1);
	}
	return n;
}

bool scopes_go(struct replica *r, const struct message_welcome *w)
{
	sqlite3_stmt *s = q(r, Q_SCOPES_HELD);
	bool go = false;

	for (bool more = gate_step(&r->g, s, ""); more && !go; more = gate_next(&r->g, s))
		go = !is_named(w->scopes, w->scope_count, (const char *)sqlite3_column_text(s, 0));
	if (s != NULL)
		sqlite3_reset(s);
	return go;
}

/* In a transaction, when all that was captured is ingested. */
void scopes_evict(struct replica *r, const struct message_welcome *w)
{
	int64_t *going = calloc(FERRY_SCOPES_MAX, sizeof(*going));
	uint32_t count;

	if (going == NULL) {
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for scopes.");
		return;
	}
	count = find_going(r, w, going);
	for (uint32_t i = 0; i < count; i++)
		gate_execf(&r->g, "UPDATE ferry_scope SET held = 2 WHERE id = %lld", (long long)going[i]);
	for (uint32_t i = 0; count > 0 && i < r->now.schema.table_count && r->g.error == FERRY_OK; i++)
		evict_table(r, &r->now.tables[i], going, count);
	if (count > 0) {
		gate_exec(&r->g, "DELETE FROM ferry_mismatch WHERE scope IN (SELECT name FROM ferry_scope WHERE held = 2); "
				 "UPDATE ferry_scope SET held = 0 WHERE held = 2");
		if (r->news != NULL)
			r->news->filled(r->news_ctx);
	}
	free(going);
}

/* ---- Those that come ---- */

void scopes_filling(struct replica *r, const char *const *names, uint32_t count)
{
	gate_exec(&r->g, "UPDATE ferry_scope SET filling = 0 WHERE filling");
	for (uint32_t i = 0; i < count; i++)
		gate_execf(&r->g, "UPDATE ferry_scope SET filling = 1 WHERE id = %lld", (long long)scope_id(r, names[i]));
}

void scopes_filled(struct replica *r, bool beside)
{
	if (!beside)
		gate_exec(&r->g, "UPDATE ferry_scope SET held = filling");
	gate_exec(&r->g, "UPDATE ferry_scope SET held = 1, filling = 0 WHERE filling");
}

/* Rows that are staged and here too, or edited here: one by one, as a frame's. */
static void join_row(struct replica *r, struct table *t, const char *text)
{
	const struct cell key_cell = {.type = SQLITE_TEXT, .p = (const uint8_t *)text, .n = UUID_TEXT - 1};
	struct scopes before_scopes, after_scopes, staged_scopes, nowhere;
	struct row staged, before, none = {.present = false};
	struct stack s = {0};
	struct uuid key;

	before_scopes.count = nowhere.count = 0;
	arena_reset(&r->work);
	if (!key_to_uuid(&key_cell, &key) || !row_read(r, TARGET_FILL, t, text, &staged))
		return;
	scopes_get(r, TARGET_FILL, t, &key, &staged_scopes);
	if (pending_exists(r, t, text)) {
		stack_load(r, t, text, &s);
		before = s.confirmed;
	} else if (!row_read(r, TARGET_LIVE, t, text, &before)) {
		return;
	}
	if (before.present)
		scopes_get(r, TARGET_LIVE, t, &key, &before_scopes);
	scopes_copy(&after_scopes, &before_scopes);
	for (int i = 0; i < staged_scopes.count && after_scopes.count < ROW_SCOPES_MAX; i++) {
		if (!scopes_have(&after_scopes, staged_scopes.ids[i]))
			after_scopes.ids[after_scopes.count++] = staged_scopes.ids[i];
	}
	sums_change(r, TARGET_LIVE, t, &key, &before, &before_scopes, &staged, &after_scopes);
	scopes_set(r, TARGET_LIVE, t, &key, &after_scopes);
	if (s.count > 0)
		stack_rebase(r, TARGET_LIVE, t, text, &s, &staged, &s.visible);
	else
		row_write(r, TARGET_LIVE, t, text, &before, &staged);
	none.cells = staged.cells;
	sums_change(r, TARGET_FILL, t, &key, &staged, &staged_scopes, &none, &nowhere);
	scopes_set(r, TARGET_FILL, t, &key, &nowhere);
	row_write(r, TARGET_FILL, t, text, &staged, &none);
}

static void join_known_rows(struct replica *r, struct table *t)
{
	const char *name = t->t->name, *key = t->t->key;
	sqlite3_stmt *s = NULL;
	char text[UUID_TEXT] = "";
	char *sql = sqlite3_mprintf("SELECT f.\"%w\" FROM \"ferry_fill_%w\" f WHERE f.\"%w\" > ?1 AND (EXISTS("
				    "SELECT 1 FROM \"%w\" l WHERE l.\"%w\" = f.\"%w\") OR EXISTS("
				    "SELECT 1 FROM ferry_pending p WHERE p.tbl = %u AND p.key = f.\"%w\")) ORDER BY 1 LIMIT 1",
				    key, name, key, name, key, key, t->t->table, key);

	gate_statement(&r->g, &s, sql == NULL ? "no memory" : sql);
	while (gate_step(&r->g, s, "t", text)) {
		memcpy(text, sqlite3_column_text(s, 0), UUID_TEXT - 1);
		sqlite3_reset(s);
		join_row(r, t, text);
	}
	gate_finalize(&s);
	sqlite3_free(sql);
}

static char *column_names(const struct schema_table *t)
{
	sqlite3_str *s = sqlite3_str_new(NULL);

	sqlite3_str_appendf(s, "\"%w\"", t->key);
	for (int i = 0; i < t->column_count; i++)
		sqlite3_str_appendf(s, ", \"%w\"", t->columns[i].name);
	return sqlite3_str_finish(s);
}

static void join_table(struct replica *r, struct table *t)
{
	char *names = column_names(t->t);

	join_known_rows(r, t);
	if (names == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		gate_execf(&r->g, "INSERT INTO \"%w\"(%s) SELECT %s FROM \"ferry_fill_%w\"", t->t->name, names, names, t->t->name);
	gate_execf(&r->g, "INSERT OR IGNORE INTO ferry_member SELECT * FROM ferry_member_fill WHERE tbl = %u", t->t->table);
	t->side[TARGET_LIVE].explicit_members = -1;
	sqlite3_free(names);
}

/* A scope that comes has no rows here yet but those it shares with others. */
static void join_sums(struct replica *r)
{
	for (uint32_t i = r->sum_count; i-- > 0;) {
		struct sum staged = r->sums[i], *live;

		if (staged.target != TARGET_FILL)
			continue;
		r->sums[i] = r->sums[--r->sum_count];
		live = sum_of(r, TARGET_LIVE, staged.scope, staged.table);
		if (live == NULL)
			return;
		live->rows += staged.rows;
		live->dirty = true;
		for (int c = 0; c < FERRY_COLUMNS_MAX; c++)
			live->sums[c] ^= staged.sums[c];
	}
}

/* In the transaction of the commit, before its frames. The write lock lasts
 * for the rows that come, in one INSERT a table. */
void scopes_join(struct replica *r)
{
	for (uint32_t i = 0; i < r->now.schema.table_count && r->g.error == FERRY_OK; i++) {
		if (staging_exists(r, r->now.schema.tables[i].name))
			join_table(r, &r->now.tables[i]);
	}
	join_sums(r);
	gate_exec(&r->g, "DELETE FROM ferry_member_fill; DELETE FROM ferry_sum WHERE fill = 1");
	staging_drop(r);
	scopes_filled(r, true);
	r->st.fill = FILL_NONE;
	r->st.fill_position = -1;
	r->st.fill_table = 0;
	if (r->news != NULL)
		r->news->filled(r->news_ctx);
}
