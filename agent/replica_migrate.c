/* A changed schema is taken in place: by a few statements instead of a fill.
 *
 * The new schema waits in r->next until the first commit after the welcome,
 * and takes force in that commit's transaction: what the change did to rows at
 * the hub comes with the same state, as ordinary changes or, of a new column,
 * as one value for all rows. So an app sees the tables of before with their
 * rows, or the new ones with theirs.
 *
 * A table of which columns are only renamed or added stays where it is; the
 * text of its constraints is written anew, which touches no row (sqlite.org,
 * "ALTER TABLE", 7). Anything else copies its rows. Pending edits keep their
 * places in the stacks; their old values move with their columns. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/cell_hash.h"

#define NEW_PREFIX "ferry_new_"

struct table_move {
	struct table *old, *fresh;
	int from[FERRY_COLUMNS_MAX]; /* of a fresh column, the old one; -1: it is new */
	uint64_t converts;           /* fresh columns that hold another kind of value now */
	bool copies;                 /* rows are copied into a new table */
	bool moves;                  /* some column stands in another place, or there are new ones */
};

/* ---- What differs ---- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Is the default what rows get that are there? Then SQLite fills them by it. */
static bool default_fills(struct replica *r, const struct schema_column *c)
{
	struct cell filled = value_to_cell(&r->work, c->kind, &c->filled);
	sqlite3_stmt *s = NULL;
	bool same = false;
	char *sql;

	if (c->default_sql == NULL)
		return filled.type == SQLITE_NULL;
	sql = sqlite3_mprintf("SELECT (%s) IS ?1", c->default_sql);
	if (sql != NULL && gate_step(&r->g, gate_statement(&r->g, &s, sql), "c", &filled))
		same = sqlite3_column_int(s, 0) != 0;
	gate_finalize(&s);
	sqlite3_free(sql);
	return same;
}

/* Rows with fewer values than the table has columns take the rest from the
 * defaults in force: so a changed default copies, too. */
static bool copies_column(const struct schema_column *was, const struct schema_column *now)
{
	return kind_converts(was->kind, now->kind) || !same_text(was->default_sql, now->default_sql) ||
	       (was->kind == KIND_CITEXT) != (now->kind == KIND_CITEXT);
}

static void plan_table(struct replica *r, struct table_move *m)
{
	const struct schema_table *old = m->old->t, *fresh = m->fresh->t;
	int found = 0;

	m->moves = old->column_count != fresh->column_count;
	for (int i = 0; i < fresh->column_count; i++) {
		const struct schema_column *c = &fresh->columns[i];
		int from = table_column(m->old, c->num);

		m->from[i] = from;
		m->moves |= from != i;
		if (from < 0) {
			m->copies |= found < old->column_count || !default_fills(r, c);
			continue;
		}
		found++;
		m->copies |= copies_column(&old->columns[from], c);
		if (kind_converts(old->columns[from].kind, c->kind))
			m->converts |= UINT64_C(1) << i;
	}
	m->copies |= found < old->column_count;
}

static bool same_columns(const struct schema_table *a, const struct schema_table *b)
{
	if (a->column_count != b->column_count || a->writable != b->writable)
		return false;
	for (int i = 0; i < a->column_count; i++) {
		const struct schema_column *x = &a->columns[i], *y = &b->columns[i];

		if (x->num != y->num || x->kind != y->kind || x->read_only != y->read_only ||
		    (x->policy == POLICY_SEQUENCE) != (y->policy == POLICY_SEQUENCE))
			return false;
	}
	return true;
}

/* As the file keeps it: its text and its triggers. */
static bool same_table(const struct schema_table *a, const struct schema_table *b)
{
	char *x = table_ddl(a, ""), *y = table_ddl(b, "");
	bool same = x != NULL && y != NULL && strcmp(x, y) == 0 && same_columns(a, b);

	sqlite3_free(x);
	sqlite3_free(y);
	return same;
}

/* ---- Tables ---- */

static void run_built(struct replica *r, char *sql)
{
	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		gate_exec(&r->g, sql);
	sqlite3_free(sql);
}

/* What an old value comes to in a column of another kind, where SQLite can say
 * so: else nothing. The hub's own value comes with the state. */
static char *converted(enum column_kind was, enum column_kind now, const char *value)
{
	if (was == KIND_INT && kind_text_like(now) && now != KIND_ENUM)
		return sqlite3_mprintf("CAST(%s AS TEXT)", value);
	if (was == KIND_BOOL && now == KIND_INT)
		return sqlite3_mprintf("%s", value);
	if (was == KIND_INT && now == KIND_FLOAT)
		return sqlite3_mprintf("CAST(%s AS REAL)", value);
	return sqlite3_mprintf("NULL");
}

/* The value of a fresh column made of the old ones, which `format` names (%w
 * a name, %d an index). A new column's is its parameter. */
static char *moved_value(const struct table_move *m, int column, const char *format)
{
	int from = m->from[column];
	const struct schema_column *was;
	char *value, *out;

	if (from < 0)
		return sqlite3_mprintf("?%d", column + 1);
	was = &m->old->t->columns[from];
	value = format[strcspn(format, "%") + 1] == 'd' ? sqlite3_mprintf(format, from) : sqlite3_mprintf(format, was->name);
	if ((m->converts >> column & 1) == 0 || value == NULL)
		return value;
	out = converted(was->kind, m->fresh->t->columns[column].kind, value);
	sqlite3_free(value);
	return out;
}

static void bind_filled(struct replica *r, const struct table_move *m, sqlite3_stmt *s)
{
	for (int i = 0; s != NULL && i < m->fresh->t->column_count; i++) {
		struct cell c;

		if (m->from[i] >= 0)
			continue;
		c = value_to_cell(&r->work, m->fresh->t->columns[i].kind, &m->fresh->t->columns[i].filled);
		cell_bind(s, i + 1, &c);
	}
}

/* Runs a statement whose parameters are the new columns' values. */
static void run_filled(struct replica *r, const struct table_move *m, sqlite3_str *text)
{
	char *sql = sqlite3_str_finish(text);
	sqlite3_stmt *s = NULL;

	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else if (gate_statement(&r->g, &s, sql) != NULL) {
		bind_filled(r, m, s);
		gate_run(&r->g, s, "");
	}
	gate_finalize(&s);
	sqlite3_free(sql);
}

static void copy_table(struct replica *r, const struct table_move *m, const char *name)
{
	const struct schema_table *t = m->fresh->t;
	struct app_objects kept = {0};
	sqlite3_str *s = sqlite3_str_new(NULL);

	app_objects_note(r, name, &kept);
	run_built(r, table_ddl(t, NEW_PREFIX));
	sqlite3_str_appendf(s, "INSERT INTO \"" NEW_PREFIX "%w\" SELECT \"%w\"", t->name, m->old->t->key);
	for (int i = 0; i < t->column_count; i++) {
		char *value = moved_value(m, i, "\"%w\"");

		sqlite3_str_appendf(s, ", %s", value);
		sqlite3_free(value);
	}
	sqlite3_str_appendf(s, " FROM \"%w\"", name);
	run_filled(r, m, s);
	gate_execf(&r->g, "DROP TABLE \"%w\"; ALTER TABLE \"" NEW_PREFIX "%w\" RENAME TO \"%w\"", name, t->name, t->name);
	app_objects_make(r, &kept);
}

static void rename_column(struct replica *r, const char *table, const char *from, const char *to)
{
	gate_execf(&r->g, "ALTER TABLE \"%w\" RENAME COLUMN \"%w\" TO \"%w\"", table, from, to);
}

/* In two steps, for names may change places. */
static void rename_columns(struct replica *r, const struct table_move *m, const char *table)
{
	gate_as_apps(&r->g, true); /* their views and triggers are rewritten, too */
	for (int step = 0; step < 2; step++) {
		for (int i = 0; i < m->fresh->t->column_count; i++) {
			const struct schema_column *c = &m->fresh->t->columns[i], *was = &m->old->t->columns[m->from[i] < 0 ? 0 : m->from[i]];
			char *between = sqlite3_mprintf("ferry_between_%u", c->num);

			if (between != NULL && m->from[i] >= 0 && strcmp(was->name, c->name) != 0)
				rename_column(r, table, step == 0 ? was->name : between, step == 0 ? between : c->name);
			sqlite3_free(between);
		}
		if (step == 0 && strcmp(m->old->t->key, m->fresh->t->key) != 0)
			rename_column(r, table, m->old->t->key, m->fresh->t->key);
	}
	gate_as_apps(&r->g, false);
}

static void add_columns(struct replica *r, const struct table_move *m, const char *table)
{
	for (int i = 0; i < m->fresh->t->column_count; i++) {
		const struct schema_column *c = &m->fresh->t->columns[i];

		if (m->from[i] < 0)
			gate_execf(&r->g, "ALTER TABLE \"%w\" ADD COLUMN \"%w\" %s%s%s", table, c->name, column_type(c->kind),
				   c->default_sql != NULL ? " DEFAULT " : "", c->default_sql != NULL ? c->default_sql : "");
	}
}

/* The table stays where it is; only what its text says changes. */
static void write_text(struct replica *r, const struct schema_table *t)
{
	char *sql = table_ddl(t, "");
	sqlite3_stmt *s = NULL;

	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else if (gate_statement(&r->g, &s, "UPDATE sqlite_schema SET sql = ?1 WHERE type = 'table' AND name = ?2") != NULL)
		gate_run(&r->g, s, "tt", sql, t->name);
	gate_finalize(&s);
	sqlite3_free(sql);
}

static void change_table(struct replica *r, const struct table_move *m)
{
	const struct schema_table *old = m->old->t, *fresh = m->fresh->t;
	char *between = strcmp(old->name, fresh->name) == 0 ? NULL : sqlite3_mprintf("ferry_between_%u", old->table);
	const char *name = between != NULL ? between : old->name;

	if (m->copies) {
		copy_table(r, m, name);
	} else {
		rename_columns(r, m, name);
		add_columns(r, m, name);
		if (between != NULL)
			gate_execf(&r->g, "ALTER TABLE \"%w\" RENAME TO \"%w\"", between, fresh->name);
		write_text(r, fresh);
	}
	sqlite3_free(between);
}

/* ---- Pending edits ---- */

static void append_moved_mask(sqlite3_str *s, const struct table_move *m)
{
	sqlite3_str_appendall(s, "mask = iif(op & 7 = 2, 0");
	for (int i = 0; i < m->fresh->t->column_count; i++) {
		if (m->from[i] >= 0)
			sqlite3_str_appendf(s, " | ((mask >> %d & 1) << %d)", m->from[i], i);
	}
	sqlite3_str_appendf(s, ", %lld)", (long long)m->fresh->all);
}

/* A row beneath a deletion, an insert over it, or kept aside has the new
 * columns' values; an update says nothing of them. */
static void move_log(struct replica *r, const struct table_move *m)
{
	sqlite3_str *s = sqlite3_str_new(NULL);

	sqlite3_str_appendall(s, "UPDATE ferry_log SET ");
	append_moved_mask(s, m);
	for (int i = 0; i < r->log_width; i++) {
		char *value = i < m->fresh->t->column_count ? moved_value(m, i, "o%d") : NULL;

		if (value != NULL && m->from[i] < 0)
			sqlite3_str_appendf(s, ", o%d = iif(op & 7 IN (3, 6) OR op & 16 <> 0, %s, NULL)", i, value);
		else
			sqlite3_str_appendf(s, ", o%d = %s", i, value != NULL ? value : "NULL");
		sqlite3_free(value);
	}
	sqlite3_str_appendf(s, " WHERE tbl = %u AND op & 7 IN (1, 2, 3, 6)", m->old->t->table);
	run_filled(r, m, s);
}

/* ---- Checksums ---- */

/* Sums of columns that stayed as they were move with them; the others' are
 * made of the rows once the new schema is in force. Those of a copy's
 * converted columns are what the copy holds: the state brings the rest. */
static uint64_t move_sums(struct replica *r, const struct table_move *m)
{
	uint64_t due = 0;

	for (int i = 0; i < m->fresh->t->column_count; i++) {
		if (m->from[i] < 0 ? m->fresh->t->columns[i].filled.kind != VALUE_NULL : (m->converts >> i & 1) != 0)
			due |= UINT64_C(1) << i;
	}
	for (uint32_t k = 0; k < r->sum_count; k++) {
		struct sum *sum = &r->sums[k];
		uint64_t moved[FERRY_COLUMNS_MAX] = {0};

		if (sum->table != m->old->t->table || sum->target != TARGET_LIVE)
			continue;
		for (int i = 0; i < m->fresh->t->column_count; i++) {
			if (m->from[i] >= 0 && (due >> i & 1) == 0)
				moved[i] = sum->sums[m->from[i]];
		}
		memcpy(sum->sums, moved, sizeof(moved));
		sum->dirty = true;
	}
	return due;
}

static void add_hashes(struct replica *r, struct table *t, const char *key, const struct cell *cells, uint64_t due)
{
	struct scopes scopes;
	struct uuid id;

	if (!uuid_parse(key, UUID_TEXT - 1, &id))
		return;
	scopes_get(r, TARGET_LIVE, t, &id, &scopes);
	for (int k = 0; k < scopes.count; k++) {
		struct sum *sum = sum_of(r, TARGET_LIVE, scopes.ids[k], t->t->table);

		for (int i = 0; sum != NULL && i < t->t->column_count; i++) {
			if (due >> i & 1)
				sum->sums[i] ^= sum_hash(r, t, i, &id, &cells[i]);
		}
		if (sum != NULL)
			sum->dirty = true;
	}
}

/* Of confirmed rows, as everywhere: beneath pending edits their stacks know. */
static void sum_row(struct replica *r, struct table *t, const char *key, uint64_t due)
{
	struct row row;
	struct stack s;

	arena_reset(&r->work);
	if (pending_exists(r, t, key)) {
		stack_load(r, t, key, &s);
		if (r->g.error == FERRY_OK && s.confirmed.present)
			add_hashes(r, t, key, s.confirmed.cells, due);
	} else if (row_read_some(r, TARGET_LIVE, t, key, due, &row) && row.present) {
		add_hashes(r, t, key, row.cells, due);
	}
}

static void sum_columns(struct replica *r, struct table *t, uint64_t due)
{
	char *sql = sqlite3_mprintf("SELECT \"%w\" FROM \"%w\" UNION SELECT key FROM ferry_pending WHERE tbl = %u", t->t->key,
				    t->t->name, t->t->table);
	sqlite3_stmt *s = NULL;

	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		(void)gate_statement(&r->g, &s, sql);
	sqlite3_free(sql);
	for (bool more = gate_step(&r->g, s, ""); more; more = gate_next(&r->g, s)) {
		char key[UUID_TEXT] = "";

		if (sqlite3_column_bytes(s, 0) == UUID_TEXT - 1)
			memcpy(key, sqlite3_column_text(s, 0), UUID_TEXT - 1);
		sum_row(r, t, key, due);
	}
	gate_finalize(&s);
}

/* ---- The whole ---- */

struct due { /* columns whose sums are to be made */
	uint32_t table;
	uint64_t columns;
};

struct migration {
	struct table_move *moves;
	uint32_t count;
	struct due *due;
};

/* What pending edits said of a table that devices no longer get is kept. */
static void drop_table(struct replica *r, struct table *t)
{
	pending_drop_table(r, t);
	triggers_drop(r, t->t);
	gate_execf(&r->g, "DROP TABLE \"%w\"; DELETE FROM ferry_member WHERE tbl = %u; DELETE FROM ferry_sum WHERE tbl = %u",
		   t->t->name, t->t->table, t->t->table);
	for (uint32_t i = r->sum_count; i-- > 0;) {
		if (r->sums[i].table == t->t->table && r->sums[i].target == TARGET_LIVE)
			r->sums[i] = r->sums[--r->sum_count];
	}
}

/* Tables with another name go to one of their own first: names may change
 * places. */
static void begin_tables(struct replica *r, struct migration *m)
{
	for (uint32_t i = 0; i < r->now.schema.table_count; i++) {
		struct table *old = &r->now.tables[i], *fresh = model_table(&r->next, old->t->table);

		if (fresh == NULL) {
			drop_table(r, old);
			continue;
		}
		if (same_table(old->t, fresh->t))
			continue;
		m->moves[m->count] = (struct table_move){.old = old, .fresh = fresh};
		plan_table(r, &m->moves[m->count]);
		m->count++;
		triggers_drop(r, old->t);
		if (strcmp(old->t->name, fresh->t->name) != 0)
			gate_execf(&r->g, "ALTER TABLE \"%w\" RENAME TO \"ferry_between_%u\"", old->t->name, old->t->table);
	}
}

static void change_tables(struct replica *r, struct migration *m)
{
	gate_exec(&r->g, "PRAGMA writable_schema = ON");
	for (uint32_t i = 0; i < m->count && r->g.error == FERRY_OK; i++) {
		const struct table_move *t = &m->moves[i];

		arena_reset(&r->work);
		change_table(r, t);
		if (t->moves || t->converts != 0) {
			move_log(r, t);
			m->due[i] = (struct due){t->fresh->t->table, move_sums(r, t)};
		}
	}
	gate_exec(&r->g, "PRAGMA writable_schema = RESET"); /* reads the texts again */
}

static void make_tables(struct replica *r, const struct migration *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		triggers_create(r, m->moves[i].fresh->t);
	for (uint32_t i = 0; i < r->next.schema.table_count; i++) {
		const struct schema_table *t = &r->next.schema.tables[i];

		if (model_table(&r->now, t->table) != NULL)
			continue;
		live_table_create(r, t);
		triggers_create(r, t);
	}
}

static void take_force(struct replica *r)
{
	r->st.schema_hash = r->next.schema.hash;
	gate_exec(&r->g, "UPDATE ferry_table SET scope = coalesce((SELECT o.scope FROM ferry_table o "
			 "WHERE o.gen = 0 AND o.tbl = ferry_table.tbl), 0) WHERE gen = 1");
	schema_advance(r);
	model_load(r, &r->now, 0);
	model_load(r, &r->next, 1);
}

static bool keys_stay(const struct replica *r)
{
	for (uint32_t i = 0; i < r->now.schema.table_count; i++) {
		const struct schema_table *old = &r->now.schema.tables[i];
		const struct table *fresh = model_table(&r->next, old->table);

		if (fresh != NULL && fresh->t->key_num != old->key_num)
			return false;
	}
	return true;
}

bool migration_waits(const struct replica *r)
{
	return r->in_place && r->next.schema.table_count > 0;
}

void replica_migrate(struct replica *r)
{
	uint32_t tables = r->now.schema.table_count + 1;
	struct migration m = {.moves = calloc(tables, sizeof(*m.moves)), .due = calloc(tables, sizeof(*m.due))};

	if (m.moves == NULL || m.due == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory to change the schema.");
	else if (!keys_stay(r))
		gate_fail(&r->g, FERRY_SCHEMA, "A table has another key now.");
	else if (r->g.error == FERRY_OK) {
		former_keep(r, &r->next, true);
		model_finalize(&r->now);
		model_finalize(&r->next);
		begin_tables(r, &m);
		change_tables(r, &m);
		make_tables(r, &m);
		take_force(r);
		for (uint32_t i = 0; i < m.count && r->g.error == FERRY_OK; i++) {
			if (m.due[i].columns != 0)
				sum_columns(r, model_table(&r->now, m.due[i].table), m.due[i].columns);
		}
		if (r->news != NULL)
			r->news->filled(r->news_ctx);
	}
	free(m.moves);
	free(m.due);
}
