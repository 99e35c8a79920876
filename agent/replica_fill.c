/* The fill (R15): rows are staged in tables of their own, in short
 * transactions, and take the place of the live ones in one. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/cell_hash.h"

/* ---- Start ---- */

static char *names_like(struct replica *r, const char *glob, const char *format)
{
	sqlite3_stmt *s = NULL;
	sqlite3_str *sql = sqlite3_str_new(r->g.db);

	sqlite3_str_appendall(sql, " "); /* so that NULL means no memory */
	gate_statement(&r->g, &s, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB ?1");
	for (bool more = gate_step(&r->g, s, "t", glob); more; more = gate_next(&r->g, s))
		sqlite3_str_appendf(sql, format, sqlite3_column_text(s, 0));
	gate_finalize(&s);
	return sqlite3_str_finish(sql);
}

void staging_drop(struct replica *r)
{
	char *sql = names_like(r, FILL_PREFIX "*", "DROP TABLE \"%w\";");

	model_finalize(&r->now);
	model_finalize(&r->next);
	gate_exec(&r->g, sql == NULL ? "no memory" : sql);
	sqlite3_free(sql);
}

bool staging_exists(struct replica *r, const char *table)
{
	sqlite3_stmt *s = NULL;
	char *name = sqlite3_mprintf(FILL_PREFIX "%s", table);
	bool found;

	gate_statement(&r->g, &s, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1");
	found = name != NULL && gate_step(&r->g, s, "t", name);
	gate_finalize(&s);
	sqlite3_free(name);
	return found;
}

static void forget_staged(struct replica *r, enum fill_kind next)
{
	staging_drop(r);
	gate_exec(&r->g, "DELETE FROM ferry_member_fill; DELETE FROM ferry_sum WHERE fill = 1; "
			 "UPDATE ferry_table SET fill_scope = 0");
	r->st.fill = next;
	r->st.fill_position = -1;
	r->st.fill_table = 0;
	r->st.fill_scope = 0;
	r->st.fill_after = (struct uuid){{0}};
}

void fill_forget(struct replica *r)
{
	forget_staged(r, FILL_NONE);
	scopes_filling(r, NULL, 0);
	for (uint32_t i = r->sum_count; i-- > 0;) {
		if (r->sums[i].target == TARGET_FILL)
			r->sums[i] = r->sums[--r->sum_count];
	}
}

/* A new fill: what an older one had staged goes. A schema that waits for a
 * fill of all stays; the hub sends the schema after its welcome when it has to. */
enum ferry_error fill_start(struct replica *r, enum fill_kind kind, const char *const *scopes, uint32_t scope_count,
			    struct ferry_why *why)
{
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	forget_staged(r, kind);
	scopes_filling(r, scopes, scope_count);
	/* Rows in the same main scope need not be listed when they are joined. */
	if (kind == FILL_BESIDE)
		gate_exec(&r->g, "UPDATE ferry_table SET fill_scope = scope WHERE gen = 0");
	e = replica_end(r, why);
	if (e != FERRY_OK)
		return e;
	r->g.error = FERRY_OK;
	sums_load(r);
	model_load(r, &r->now, 0);
	model_load(r, &r->next, 1);
	return r->g.error == FERRY_OK ? FERRY_OK : ferry_fail(why, r->g.error, "%s", r->g.why.text);
}

/* Made with its first statement: most tables have no rows on a device, and
 * each table costs a moment here, at the end, and in every app's look at the
 * schema. */
void staging_make(struct replica *r, const struct schema_table *t)
{
	char *sql = table_ddl(t, FILL_PREFIX);

	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		gate_execf(&r->g, "CREATE TABLE IF NOT EXISTS %s", sql + strlen("CREATE TABLE "));
	sqlite3_free(sql);
}

/* ---- Rows ---- */

static sqlite3_stmt *staging_insert(struct replica *r, struct table *t)
{
	struct side *side = &t->side[TARGET_FILL];
	sqlite3_str *s;
	char *sql;

	if (side->insert != NULL)
		return gate_statement(&r->g, &side->insert, "");
	staging_make(r, t->t);
	s = sqlite3_str_new(NULL);
	sqlite3_str_appendf(s, "INSERT INTO \"" FILL_PREFIX "%w\"(\"%w\"", t->t->name, t->t->key);
	for (int i = 0; i < t->t->column_count; i++)
		sqlite3_str_appendf(s, ", \"%w\"", t->t->columns[i].name);
	sqlite3_str_appendall(s, ") VALUES (?1");
	for (int i = 0; i < t->t->column_count; i++)
		sqlite3_str_appendf(s, ", ?%d", i + 2);
	sqlite3_str_appendall(s, ") ON CONFLICT DO NOTHING");
	sql = sqlite3_str_finish(s);
	if (sql != NULL)
		(void)gate_statement(&r->g, &side->insert, sql);
	sqlite3_free(sql);
	return side->insert;
}

struct filling {
	struct replica *r;
	struct table *t;
	const struct block *b;
	int64_t scope;
	int columns[FERRY_COLUMNS_MAX];
	uint64_t sums[FERRY_COLUMNS_MAX];
	int64_t rows;
};

/* The usual row is new and in the table's main scope: one insert, no look. */
static bool stage_new(struct filling *f, sqlite3_stmt *s, uint32_t row)
{
	const struct uuid *key = &f->b->keys[row];
	uint64_t seed = cell_hash_row_seed(key), hashes[FERRY_COLUMNS_MAX] = {0};
	char text[UUID_TEXT];

	uuid_format(key, text);
	sqlite3_clear_bindings(s);
	for (uint32_t c = 0; c < f->b->column_count; c++) {
		const struct value *v = &f->b->cells[(size_t)c * f->b->row_count + row];
		int i = f->columns[c];
		struct cell cell;

		if (i < 0 || v->kind == VALUE_NULL)
			continue;
		cell = value_to_cell(&f->r->work, f->t->t->columns[i].kind, v);
		cell_bind(s, i + 2, &cell);
		hashes[i] = cell_hash(seed, f->t->t->columns[i].num, f->t->t->columns[i].kind, v);
	}
	gate_run(&f->r->g, s, "t", text);
	if (sqlite3_changes(f->r->g.db) == 0)
		return false;
	for (int i = 0; i < f->t->t->column_count; i++)
		f->sums[i] ^= hashes[i];
	f->rows++;
	if (f->scope != f->t->side[TARGET_FILL].main_scope)
		scopes_set_one(f->r, TARGET_FILL, f->t, key, f->scope);
	return true;
}

static void stage_block(struct filling *f, struct store_commit_report *report)
{
	struct replica *r = f->r;
	sqlite3_stmt *s = staging_insert(r, f->t);
	struct side *side = &f->t->side[TARGET_FILL];

	if (s == NULL)
		return;
	if (side->main_scope == 0)
		scopes_set_one(r, TARGET_FILL, f->t, &f->b->keys[0], f->scope);
	for (uint32_t i = 0; i < f->b->row_count && r->g.error == FERRY_OK; i++) {
		struct block one;
		struct value cells[FERRY_COLUMNS_MAX];

		arena_reset(&r->work);
		if (stage_new(f, s, i) || r->g.error != FERRY_OK)
			continue;
		/* There already: sent again, or in a second scope. */
		block_row(f->b, i, cells, &one);
		fill_again(r, f->scope, &one, report);
	}
}

static bool take_table(struct filling *f, struct ferry_why *why)
{
	f->t = model_table(target_model(f->r, TARGET_FILL), f->b->table);
	if (f->t == NULL || f->b->column_count > FERRY_COLUMNS_MAX) {
		(void)ferry_fail(why, FERRY_SCHEMA, "The hub sent rows of table %u, which the schema does not hold.",
				 f->b->table);
		return false;
	}
	for (uint32_t c = 0; c < f->b->column_count; c++)
		f->columns[c] = table_column(f->t, f->b->nums[c]);
	return true;
}

static void stage_rows(struct filling *f, const struct message_fill *fill)
{
	struct replica *r = f->r;
	struct store_commit_report report = {0};
	struct sum *sum;

	f->scope = scope_id(r, fill->scope);
	if (f->b->row_count > 0) {
		stage_block(f, &report);
		r->st.fill_after = f->b->keys[f->b->row_count - 1];
	} else if (r->st.fill_table != f->b->table || r->st.fill_scope != f->scope) {
		r->st.fill_after = (struct uuid){{0}};
	}
	sum = sum_of(r, TARGET_FILL, f->scope, f->t->t->table);
	if (sum != NULL) {
		sum->rows += f->rows;
		sum->dirty = true;
		for (int i = 0; i < f->t->t->column_count; i++)
			sum->sums[i] ^= f->sums[i];
	}
	r->st.fill_table = f->b->table;
	r->st.fill_scope = f->scope;
	r->st.fill_position = fill->position;
}

/* [P 6.6] A row that goes on is staged with its last piece; a fill that is cut
 * before goes on from the row before it. */
static enum ferry_error join_fill(struct replica *r, const struct block *piece, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;

	if (!r->fill_row_whole) /* else: tried again */
		e = row_join(&r->fill_row, piece, &r->fill_row_whole);
	return e == FERRY_OK ? e : ferry_fail(why, e, "The hub sent a row in pieces that do not fit together.");
}

enum ferry_error replica_fill(void *store, const struct message_fill *fill, struct ferry_why *why)
{
	struct replica *r = store;
	struct filling f = {.r = r, .b = &fill->block};
	enum ferry_error e = FERRY_OK;

	if (r->st.fill == FILL_NONE)
		return ferry_fail(why, FERRY_UNEXPECTED_MESSAGE, "The hub sent rows of a fill that was not begun.");
	if (fill->block.goes_on || r->fill_row.open || r->fill_row_whole) {
		e = join_fill(r, &fill->block, why);
		if (e != FERRY_OK || !r->fill_row_whole)
			return e;
		f.b = &r->fill_row.row;
	}
	if (!take_table(&f, why))
		return FERRY_SCHEMA;
	e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	stage_rows(&f, fill);
	e = replica_end(r, why);
	if (e == FERRY_OK && r->fill_row_whole) {
		row_joiner_deinit(&r->fill_row);
		r->fill_row_whole = false;
	}
	return e;
}

/* ---- The end ---- */

/* Deltas since the fill's rows were read are folded into the staging in a
 * transaction of their own: told again they change nothing, so that a kill
 * in between does no harm. */
enum ferry_error fill_fold(struct replica *r, struct store_commit_report *report, struct ferry_why *why)
{
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	if (r->st.fill != FILL_ALL)
		gate_fail(&r->g, FERRY_UNEXPECTED_MESSAGE, "The hub ended a fill that was not begun.");
	frames_apply(r, TARGET_FILL, report);
	return replica_end(r, why);
}

/* The pending edits of one row move onto the staged row. What they say of columns that are no
 * more, or hold another kind of value, goes to the hub as it was written (former_keep), where the
 * hub can translate it; else, and for tables that are no more, it is kept as refused. */
struct moved {
	int column[FERRY_COLUMNS_MAX]; /* of an old column, the new one; -1: gone */
	bool same;
	bool kept; /* what has no column goes to the hub as it was */
};

static void match_columns(const struct table *old, const struct table *fresh, struct moved *m)
{
	m->same = old == fresh || old->t->column_count == fresh->t->column_count;
	for (int i = 0; i < old->t->column_count; i++) {
		m->column[i] = old == fresh ? i : table_column(fresh, old->t->columns[i].num);
		if (m->kept && m->column[i] >= 0 && kind_converts(old->t->columns[i].kind, fresh->t->columns[m->column[i]].kind))
			m->column[i] = -1;
		m->same = m->same && m->column[i] == i;
	}
}

static struct cell *moved_cells(struct replica *r, const struct table *old, const struct moved *m,
				const struct cell *cells)
{
	struct cell *out = arena_alloc(&r->work, FERRY_COLUMNS_MAX * sizeof(*out));

	if (out == NULL) {
		gate_fail(&r->g, FERRY_LIMIT, "A row is too large to be handled.");
		return NULL;
	}
	for (int i = 0; i < FERRY_COLUMNS_MAX; i++)
		out[i] = cell_null();
	for (int i = 0; cells != NULL && i < old->t->column_count; i++) {
		if (m->column[i] >= 0)
			out[m->column[i]] = cells[i];
	}
	return out;
}

static uint64_t moved_mask(const struct table *old, const struct moved *m, uint64_t mask)
{
	uint64_t out = 0;

	for (int i = 0; i < old->t->column_count; i++) {
		if ((mask >> i & 1) != 0 && m->column[i] >= 0)
			out |= UINT64_C(1) << m->column[i];
	}
	return out;
}

static void reject_gone(struct replica *r, struct table *old, const char *key, const struct entry *e, uint64_t gone)
{
	const struct set set = {.number = e->number};

	if (gone != 0 && e->number > 0 && !entry_settled(r, e))
		reject_row(r, &set, FERRY_UNKNOWN_COLUMN, "The hub's schema no longer has these columns.", old, key, e, gone);
}

static void move_entry(struct replica *r, struct table *old, struct table *fresh, const char *key, const struct moved *m,
		       struct entry *e)
{
	uint64_t mask = moved_mask(old, m, e->mask), gone = 0;

	if ((e->op & OP_MASK) == OP_UPDATE || (e->op & OP_MASK) == OP_INSERT) {
		for (int i = 0; i < old->t->column_count; i++) {
			bool said = (e->op & OP_MASK) == OP_INSERT ? e->fresh[i].type != SQLITE_NULL : e->mask >> i & 1;

			if (said && m->column[i] < 0)
				gone |= UINT64_C(1) << i;
		}
		if (!m->kept)
			reject_gone(r, old, key, e, gone);
	}
	e->mask = (e->op & OP_MASK) == OP_UPDATE ? mask : fresh->all;
	e->old = moved_cells(r, old, m, e->old);
	e->fresh = moved_cells(r, old, m, e->fresh);
	if (r->g.error == FERRY_OK)
		entry_write(r, e);
}

/* A hub that counts steps translates what was written under an earlier one. */
static bool translates(struct replica *r)
{
	return r->now.schema.step > 0 && target_model(r, TARGET_FILL)->schema.step > 0;
}

static void move_row(struct replica *r, struct table *old, struct table *fresh, const char *key)
{
	struct moved m = {.kept = translates(r)};
	struct stack s;
	struct row staged;

	match_columns(old, fresh, &m);
	stack_load(r, old, key, &s);
	for (uint32_t i = 0; i < s.count && !m.same && r->g.error == FERRY_OK; i++)
		move_entry(r, old, fresh, key, &m, &s.entries[i]);
	if (r->g.error == FERRY_OK && row_read(r, TARGET_FILL, fresh, key, &staged))
		stack_rebase(r, TARGET_FILL, fresh, key, &s, &staged, &staged);
}

static void drop_row(struct replica *r, struct table *old, const char *key)
{
	struct stack s;

	stack_load(r, old, key, &s);
	for (uint32_t i = 0; i < s.count && r->g.error == FERRY_OK; i++) {
		struct entry *e = &s.entries[i];
		const struct set set = {.number = e->number};

		if (e->number > 0 && !entry_settled(r, e))
			reject_row(r, &set, FERRY_UNKNOWN_TABLE, "This device no longer gets the table.", old, key, e,
				   (e->op & OP_MASK) == OP_INSERT ? old->all : e->mask);
		entry_delete(r, old->t->table, key, e->seq);
	}
}

void pending_drop_table(struct replica *r, struct table *t)
{
	char key[UUID_TEXT] = "";

	for (;;) {
		sqlite3_stmt *s = q(r, Q_PENDING_ROWS);

		if (!gate_step(&r->g, s, "it", (int64_t)t->t->table, key))
			return;
		if (sqlite3_column_int64(s, 0) != (int64_t)t->t->table) {
			sqlite3_reset(s);
			return;
		}
		memcpy(key, sqlite3_column_text(s, 1), UUID_TEXT - 1);
		sqlite3_reset(s);
		arena_reset(&r->work);
		drop_row(r, t, key);
	}
}

static void move_pending(struct replica *r)
{
	char key[UUID_TEXT] = "";
	int64_t number = -1;

	for (;;) {
		sqlite3_stmt *s = q(r, Q_PENDING_ROWS);
		struct table *old, *fresh;

		if (!gate_step(&r->g, s, "it", number, key))
			return;
		number = sqlite3_column_int64(s, 0);
		memcpy(key, sqlite3_column_text(s, 1), UUID_TEXT - 1);
		sqlite3_reset(s);
		arena_reset(&r->work);
		old = model_table(&r->now, (uint32_t)number);
		fresh = model_table(target_model(r, TARGET_FILL), (uint32_t)number);
		if (old != NULL && fresh != NULL)
			move_row(r, old, fresh, key);
		else if (old != NULL)
			drop_row(r, old, key);
	}
}

/* The staged tables become the live ones, pending edits on top. In the
 * transaction of the commit. Its write lock lasts for the pending rows and
 * the freeing of the old tables' pages, not for the rows filled. */
void fill_swap(struct replica *r)
{
	if (r->news != NULL)
		r->news->filled(r->news_ctx);
	if (translates(r))
		former_keep(r, target_model(r, TARGET_FILL), false);
	move_pending(r);
	fill_swap_tables(r);
	sums_swap(r);
	scopes_filled(r, false);
	r->st.fill = FILL_NONE;
	r->st.fill_position = -1;
	r->st.fill_table = 0;
	model_load(r, &r->now, 0);
	model_load(r, &r->next, 1);
}
