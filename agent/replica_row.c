/* Rows and their stacks of pending edits: reading what is confirmed beneath
 * them, and laying them over what the hub says now. */
#include <string.h>

#include "agent/replica_internal.h"

/* ---- The tables ---- */

static void append_names(sqlite3_str *s, const struct schema_table *t, const char *format)
{
	for (uint32_t i = 0; i < t->column_count; i++)
		sqlite3_str_appendf(s, format, t->columns[i].name, i + 2);
}

enum row_statement { ROW_SELECT_ONE, ROW_INSERT_ONE, ROW_DELETE_ONE };

static char *row_sql(const struct schema_table *t, enum target target, enum row_statement which)
{
	const char *prefix = target == TARGET_FILL ? FILL_PREFIX : "";
	sqlite3_str *s = sqlite3_str_new(NULL);

	switch (which) {
	case ROW_SELECT_ONE:
		sqlite3_str_appendall(s, "SELECT 1");
		append_names(s, t, ", \"%w\"");
		sqlite3_str_appendf(s, " FROM \"%w%w\" WHERE \"%w\" = ?1", prefix, t->name, t->key);
		break;
	case ROW_INSERT_ONE:
		sqlite3_str_appendf(s, "INSERT INTO \"%w%w\"(\"%w\"", prefix, t->name, t->key);
		append_names(s, t, ", \"%w\"");
		sqlite3_str_appendall(s, ") VALUES (?1");
		for (int i = 0; i < t->column_count; i++)
			sqlite3_str_appendf(s, ", ?%d", i + 2);
		sqlite3_str_appendall(s, ")");
		break;
	case ROW_DELETE_ONE:
		sqlite3_str_appendf(s, "DELETE FROM \"%w%w\" WHERE \"%w\" = ?1", prefix, t->name, t->key);
	}
	return sqlite3_str_finish(s);
}

static sqlite3_stmt *row_statement(struct replica *r, enum target target, struct table *t, enum row_statement which)
{
	struct side *side = &t->side[target];
	sqlite3_stmt **slots[] = {&side->select, &side->insert, &side->remove};
	char *sql;

	if (*slots[which] != NULL)
		return gate_statement(&r->g, slots[which], "");
	if (target == TARGET_FILL)
		staging_make(r, t->t);
	sql = row_sql(t->t, target, which);
	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		(void)gate_statement(&r->g, slots[which], sql);
	sqlite3_free(sql);
	return r->g.error == FERRY_OK ? *slots[which] : NULL;
}

static char *some_sql(const struct schema_table *t, enum target target, uint64_t mask, bool update)
{
	const char *prefix = target == TARGET_FILL ? FILL_PREFIX : "";
	sqlite3_str *s = sqlite3_str_new(NULL);
	const char *comma = "";

	if (update)
		sqlite3_str_appendf(s, "UPDATE \"%w%w\" SET ", prefix, t->name);
	else
		sqlite3_str_appendall(s, "SELECT ");
	for (int i = 0; i < t->column_count; i++) {
		if ((mask >> i & 1) == 0)
			continue;
		sqlite3_str_appendf(s, update ? "%s\"%w\" = ?%d" : "%s\"%w\"", comma, t->columns[i].name, i + 2);
		comma = ", ";
	}
	if (!update)
		sqlite3_str_appendf(s, " FROM \"%w%w\"", prefix, t->name);
	sqlite3_str_appendf(s, " WHERE \"%w\" = ?1", t->key);
	return sqlite3_str_finish(s);
}

static struct column_set *column_set(struct side *side, uint64_t mask)
{
	struct column_set *c;

	for (int i = 0; i < COLUMN_SETS_KEPT; i++) {
		if (side->sets[i].mask == mask)
			return &side->sets[i];
	}
	c = &side->sets[side->set_next++ % COLUMN_SETS_KEPT];
	gate_finalize(&c->select);
	gate_finalize(&c->update);
	c->mask = mask;
	return c;
}

static sqlite3_stmt *some_statement(struct replica *r, enum target target, struct table *t, uint64_t mask, bool update)
{
	struct column_set *c = column_set(&t->side[target], mask);
	sqlite3_stmt **slot = update ? &c->update : &c->select;
	char *sql;

	if (*slot != NULL)
		return gate_statement(&r->g, slot, "");
	if (target == TARGET_FILL)
		staging_make(r, t->t);
	sql = some_sql(t->t, target, mask, update);
	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		(void)gate_statement(&r->g, slot, sql);
	sqlite3_free(sql);
	return r->g.error == FERRY_OK ? *slot : NULL;
}

/* log_width cells: as many as the widest table has columns. */
static struct cell *cells_new(struct replica *r)
{
	struct cell *cells = arena_alloc(&r->work, (size_t)r->log_width * sizeof(*cells));

	if (cells == NULL) {
		gate_fail(&r->g, FERRY_LIMIT, "A row is too large to be handled.");
		return NULL;
	}
	for (int i = 0; i < r->log_width; i++)
		cells[i] = cell_null();
	return cells;
}

static struct cell *cells_copy(struct replica *r, const struct cell *from)
{
	struct cell *cells = cells_new(r);

	if (cells != NULL && from != NULL)
		memcpy(cells, from, (size_t)r->log_width * sizeof(*cells));
	return cells;
}

/* Says where a value stands that is too large to be kept in memory. */
static void far_place(struct replica *r, struct cell *c, char *sql)
{
	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		c->p = (const uint8_t *)arena_text(&r->work, sql, strlen(sql));
	sqlite3_free(sql);
}

static struct cell keep_of_row(struct replica *r, enum target target, const struct table *t, const char *key,
			       sqlite3_stmt *s, int index, int column)
{
	struct cell c = cell_keep(&r->work, s, index);

	if (c.type == CELL_FAR)
		far_place(r, &c, sqlite3_mprintf("SELECT \"%w\" FROM \"%w%w\" WHERE \"%w\" = %Q", t->t->columns[column].name,
						 target == TARGET_FILL ? "ferry_fill_" : "", t->t->name, t->t->key, key));
	return c;
}

struct cell keep_of_log(struct replica *r, sqlite3_stmt *s, int column)
{
	struct cell c = cell_keep(&r->work, s, 7 + column);

	if (c.type == CELL_FAR)
		far_place(r, &c, sqlite3_mprintf("SELECT o%d FROM ferry_log WHERE seq = %lld", column,
						 (long long)sqlite3_column_int64(s, 0)));
	return c;
}

/* In r->work. False after a failure; an absent row is read as such. */
bool row_read(struct replica *r, enum target target, struct table *t, const char *key, struct row *out)
{
	sqlite3_stmt *s = row_statement(r, target, t, ROW_SELECT_ONE);

	*out = (struct row){.present = gate_step(&r->g, s, "t", key), .cells = cells_new(r)};
	if (r->g.error != FERRY_OK || out->cells == NULL)
		return false;
	if (out->present) {
		for (int i = 0; i < t->t->column_count; i++)
			out->cells[i] = keep_of_row(r, target, t, key, s, i + 1, i);
		sqlite3_reset(s);
	}
	if (r->work.full)
		gate_fail(&r->g, FERRY_LIMIT, "A row of %s is too large to be handled.", t->t->name);
	return r->g.error == FERRY_OK;
}

bool row_read_some(struct replica *r, enum target target, struct table *t, const char *key, uint64_t mask,
		   struct row *out)
{
	sqlite3_stmt *s = some_statement(r, target, t, mask, false);
	int at = 0;

	*out = (struct row){.present = gate_step(&r->g, s, "t", key), .cells = cells_new(r)};
	if (r->g.error != FERRY_OK || out->cells == NULL)
		return false;
	for (int i = 0; out->present && i < t->t->column_count; i++) {
		if ((mask >> i & 1) != 0)
			out->cells[i] = keep_of_row(r, target, t, key, s, at++, i);
	}
	if (out->present)
		sqlite3_reset(s);
	if (r->work.full)
		gate_fail(&r->g, FERRY_LIMIT, "A row of %s is too large to be handled.", t->t->name);
	return r->g.error == FERRY_OK;
}

/* mask: of the columns that the statement names. */
static void run_row(struct replica *r, sqlite3_stmt *s, struct table *t, const char *key, const struct row *row,
		    uint64_t mask)
{
	if (s == NULL)
		return;
	for (int i = 0; i < t->t->column_count; i++) {
		if ((mask >> i & 1) != 0 && !cell_bind(s, i + 2, &row->cells[i]))
			gate_fail_sqlite(&r->g);
	}
	gate_run(&r->g, s, "t", key);
}

static uint64_t columns_that_differ(const struct table *t, const struct row *a, const struct row *b)
{
	uint64_t mask = 0;

	for (int i = 0; i < t->t->column_count; i++) {
		if (!cell_equal(&a->cells[i], &b->cells[i]))
			mask |= UINT64_C(1) << i;
	}
	return mask;
}

void row_write(struct replica *r, enum target target, struct table *t, const char *key, const struct row *before,
	       const struct row *after)
{
	uint64_t mask;

	if (r->g.error != FERRY_OK)
		return;
	if (r->news != NULL && target == TARGET_LIVE && (before->present || after->present))
		r->news->row(r->news_ctx, t->t->name, key);
	if (!before->present && after->present) {
		run_row(r, row_statement(r, target, t, ROW_INSERT_ONE), t, key, after, t->all);
	} else if (before->present && !after->present) {
		run_row(r, row_statement(r, target, t, ROW_DELETE_ONE), t, key, NULL, 0);
	} else if (after->present) {
		mask = columns_that_differ(t, before, after);
		if (mask != 0)
			run_row(r, some_statement(r, target, t, mask, true), t, key, after, mask);
	}
}

/* ---- Entries ---- */

static sqlite3_stmt *entry_statement(struct replica *r, bool insert)
{
	sqlite3_stmt **slot = insert ? &r->log_insert : &r->log_update;
	sqlite3_str *s;
	char *sql;

	if (*slot != NULL)
		return gate_statement(&r->g, slot, "");
	s = sqlite3_str_new(NULL);
	sqlite3_str_appendall(s, insert ? "INSERT INTO ferry_log(seq, op, mask, tbl, key, at"
					: "UPDATE ferry_log SET op = ?2, mask = ?3");
	for (int i = 0; i < r->log_width; i++)
		sqlite3_str_appendf(s, insert ? ", o%d" : ", o%d = ?%d", i, i + 7);
	sqlite3_str_appendall(s, insert ? ") VALUES (?1, ?2, ?3, ?4, ?5, ?6" : " WHERE seq = ?1");
	for (int i = 0; insert && i < r->log_width; i++)
		sqlite3_str_appendf(s, ", ?%d", i + 7);
	sqlite3_str_appendall(s, insert ? ")" : "");
	sql = sqlite3_str_finish(s);
	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		(void)gate_statement(&r->g, slot, sql);
	sqlite3_free(sql);
	return r->g.error == FERRY_OK ? *slot : NULL;
}

static void bind_old(struct replica *r, sqlite3_stmt *s, const struct entry *e)
{
	for (int i = 0; s != NULL && i < r->log_width; i++) {
		if (!cell_bind(s, i + 7, &e->old[i]))
			gate_fail_sqlite(&r->g);
	}
}

void entry_write(struct replica *r, const struct entry *e)
{
	sqlite3_stmt *s = entry_statement(r, false);

	bind_old(r, s, e);
	gate_run(&r->g, s, "iii", e->seq, (int64_t)e->op, (int64_t)e->mask);
}

/* Everything captured is ingested already, so the new seq is too. */
int64_t entry_append(struct replica *r, uint32_t table, const char *key, const struct entry *e)
{
	sqlite3_stmt *s = entry_statement(r, true);
	int64_t seq = r->st.ingested + 1;

	bind_old(r, s, e);
	gate_run(&r->g, s, "iiiiti", seq, (int64_t)e->op, (int64_t)e->mask, (int64_t)table, key, e->at);
	gate_run(&r->g, q(r, Q_PENDING_ADD), "itiib", (int64_t)table, key, seq, e->number, (const void *)NULL, 0);
	gate_run(&r->g, q(r, Q_LOG_DROP_NONE), "i", r->st.ingested);
	r->st.ingested = seq;
	return seq;
}

/* The last seq stays taken: else SQLite would give it out again, and what is
 * captured next would seem to be ingested. */
void log_delete(struct replica *r, int64_t seq)
{
	gate_run(&r->g, q(r, seq == r->st.ingested ? Q_LOG_NONE : Q_LOG_DELETE), "i", seq);
}

void entry_delete(struct replica *r, uint32_t table, const char *key, int64_t seq)
{
	gate_run(&r->g, q(r, Q_PENDING_DELETE), "iti", (int64_t)table, key, seq);
	policy_forget(r, table, seq);
	log_delete(r, seq);
}

bool pending_exists(struct replica *r, const struct table *t, const char *key)
{
	sqlite3_stmt *s = q(r, Q_PENDING_ANY);
	bool any = gate_step(&r->g, s, "it", (int64_t)t->t->table, key);

	if (s != NULL)
		sqlite3_reset(s);
	return any;
}

/* ---- Stacks ---- */

#define ENTRIES_MAX 4096 /* pending edits of one row */

static void read_entries(struct replica *r, struct table *t, const char *key, struct stack *out)
{
	sqlite3_stmt *s = q(r, Q_PENDING_STACK);
	uint32_t capacity = 0;

	for (bool more = gate_step(&r->g, s, "it", (int64_t)t->t->table, key); more; more = gate_next(&r->g, s)) {
		struct entry *e;

		if (out->count == capacity) {
			struct entry *grown = arena_array(&r->work, capacity == 0 ? 4 : (size_t)capacity * 2, sizeof(*grown));

			if (grown == NULL || capacity >= ENTRIES_MAX) {
				gate_fail(&r->g, FERRY_LIMIT, "A row of %s has too many pending edits.", t->t->name);
				return;
			}
			if (capacity > 0)
				memcpy(grown, out->entries, capacity * sizeof(*grown));
			out->entries = grown;
			capacity = capacity == 0 ? 4 : capacity * 2;
		}
		e = &out->entries[out->count++];
		*e = (struct entry){.seq = sqlite3_column_int64(s, 0), .op = sqlite3_column_int(s, 3),
				    .mask = (uint64_t)sqlite3_column_int64(s, 4), .at = sqlite3_column_int64(s, 6),
				    .number = sqlite3_column_int64(s, 7 + r->log_width), .old = cells_new(r)};
		for (int i = 0; e->old != NULL && i < r->log_width; i++)
			e->old[i] = keep_of_log(r, s, i);
	}
}

/* Walks down from the visible row: what stands in a cell above an entry is
 * what the entry made of it; below it stands the entry's old value. */
static void trace(struct replica *r, struct stack *s)
{
	struct cell *running = cells_copy(r, s->visible.cells);

	for (uint32_t i = s->count; i-- > 0 && r->g.error == FERRY_OK;) {
		struct entry *e = &s->entries[i];
		int op = e->op & OP_MASK;

		e->fresh = cells_copy(r, running);
		if (op == OP_UPDATE) {
			for (int c = 0; c < r->log_width; c++) {
				if (e->mask >> c & 1)
					running[c] = e->old[c];
			}
		} else {
			running = cells_copy(r, e->old);
		}
	}
	s->confirmed = (struct row){.present = s->visible.present, .cells = running};
	if (s->count > 0) {
		int op = s->entries[0].op;

		s->confirmed.present = (op & OP_MASK) == OP_INSERT ? (op & OP_HAD) != 0 : (op & OP_GONE) == 0;
	}
}

void stack_load(struct replica *r, struct table *t, const char *key, struct stack *out)
{
	*out = (struct stack){0};
	if (!row_read(r, TARGET_LIVE, t, key, &out->visible))
		return;
	read_entries(r, t, key, out);
	for (uint32_t i = 0; i < out->count; i++)
		out->had_aside |= (out->entries[i].op & OP_MASK) == OP_ASIDE;
	trace(r, out);
}

/* What an insert pushes: the rest is the hub's to fill in. */
static bool insert_sets(const struct table *t, int column, const struct cell *fresh)
{
	return (t->writable >> column & 1) != 0 &&
	       !(fresh->type == SQLITE_NULL && t->t->columns[column].has_default);
}

static void set_beneath(struct replica *r, struct entry *e, int op, uint64_t mask, const struct row *beneath)
{
	bool same = e->op == op;

	for (int c = 0; c < r->log_width; c++) {
		struct cell want = mask >> c & 1 ? beneath->cells[c] : cell_null();

		same = same && cell_equal(&want, &e->old[c]);
	}
	if (same)
		return;
	for (int c = 0; c < r->log_width; c++)
		e->old[c] = mask >> c & 1 ? beneath->cells[c] : cell_null();
	e->op = op;
	entry_write(r, e);
}

static void set_flag(struct replica *r, struct entry *e, int op)
{
	if (e->op == op)
		return;
	e->op = op;
	entry_write(r, e);
}

/* What an update makes of each of its columns over *s. */
static void change_cells(struct replica *r, const struct table *t, struct entry *e, struct row *s)
{
	struct cell *cells = cells_copy(r, s->cells);

	for (int c = 0; cells != NULL && c < t->t->column_count; c++) {
		if (e->mask >> c & 1)
			cells[c] = t->differs >> c & 1 ? policy_over(r, t, e, c, &s->cells[c]) : e->fresh[c];
	}
	set_beneath(r, e, e->op & ~OP_GONE, e->mask, s);
	s->cells = cells != NULL ? cells : s->cells;
}

/* Lays one pending edit over *s, which becomes the row above it. */
static void lay_over(struct replica *r, const struct table *t, struct entry *e, struct row *s)
{
	switch (e->op & OP_MASK) {
	case OP_INSERT:
		if (!s->present) {
			set_flag(r, e, e->op & ~OP_HAD);
			memcpy(s->cells, e->fresh, (size_t)r->log_width * sizeof(*s->cells));
			s->present = true;
			return;
		}
		set_beneath(r, e, e->op | OP_HAD, t->all, s);
		for (int c = 0; c < t->t->column_count; c++) {
			if (insert_sets(t, c, &e->fresh[c]))
				s->cells[c] = e->fresh[c];
		}
		return;
	case OP_UPDATE:
		if (!s->present) {
			set_flag(r, e, e->op | OP_GONE);
			return;
		}
		change_cells(r, t, e, s);
		return;
	default: /* delete, aside */
		if (s->present)
			set_beneath(r, e, e->op & ~OP_GONE, t->all, s);
		else
			set_flag(r, e, e->op | OP_GONE);
		s->present = false;
	}
}

/* The row has gone at the hub while updates of it wait: the row they made is
 * kept in an entry of its own, so that nothing they say is lost. */
static void put_aside(struct replica *r, struct table *t, const char *key, const struct entry *update)
{
	struct entry aside = {.op = OP_ASIDE | OP_GONE, .mask = t->all, .at = update->at, .old = update->fresh};

	(void)entry_append(r, t->t->table, key, &aside);
}

static bool goes(const struct replica *r, const struct entry *e)
{
	return !e->carried && entry_settled(r, e);
}

static bool worth_keeping(const struct replica *r, const struct stack *s, uint32_t i, bool row_present)
{
	const struct entry *e = &s->entries[i];
	bool others = false;

	if ((e->op & OP_MASK) != OP_ASIDE)
		return !goes(r, e);
	for (uint32_t k = 0; k < i; k++)
		others |= (s->entries[k].op & OP_MASK) != OP_ASIDE && !goes(r, &s->entries[k]);
	if (!others)
		return false;
	for (uint32_t k = i + 1; k < s->count; k++) {
		if (!goes(r, &s->entries[k]))
			return true;
	}
	return !row_present;
}

/* Makes `confirmed` what stands beneath the pending edits: rewrites their old
 * values, drops those that are settled, and writes the visible row. `standing`
 * is the row as it is now in the target. */
void stack_rebase(struct replica *r, enum target target, struct table *t, const char *key, struct stack *s,
		  const struct row *confirmed, const struct row *standing)
{
	struct row above = {.present = confirmed->present, .cells = cells_copy(r, confirmed->cells)};
	const struct entry *last = NULL;

	if (above.cells == NULL)
		return;
	for (uint32_t i = 0; i < s->count && r->g.error == FERRY_OK; i++) {
		struct entry *e = &s->entries[i];

		if (!worth_keeping(r, s, i, above.present)) {
			entry_delete(r, t->t->table, key, e->seq);
			continue;
		}
		lay_over(r, t, e, &above);
		last = e;
	}
	if (!above.present && last != NULL && (last->op & OP_MASK) == OP_UPDATE && r->g.error == FERRY_OK)
		put_aside(r, t, key, last);
	row_write(r, target, t, key, standing, &above);
}

void row_rebase(struct replica *r, struct table *t, const char *key)
{
	struct stack s;

	arena_reset(&r->work);
	stack_load(r, t, key, &s);
	if (r->g.error != FERRY_OK)
		return;
	carry_row(r, t, key, &s);
	stack_rebase(r, TARGET_LIVE, t, key, &s, &s.confirmed, &s.visible);
}
