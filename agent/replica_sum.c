/* Running checksums (R21) and membership (R14): which scopes a row is in.
 *
 * Most tables come in one scope. Then ferry_table.scope says it for all rows
 * and ferry_member is empty; a row that is not exactly in that one scope is
 * listed there with all its scopes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/cell_hash.h"

/* ---- Sums ---- */

struct sum *sum_of(struct replica *r, enum target target, int64_t scope, uint32_t table)
{
	struct sum *s;

	for (uint32_t i = 0; i < r->sum_count; i++) {
		s = &r->sums[i];
		if (s->scope == scope && s->table == table && s->target == target)
			return s;
	}
	if (r->sum_count == r->sum_capacity) {
		uint32_t capacity = r->sum_capacity == 0 ? 16 : r->sum_capacity * 2;
		struct sum *grown = realloc(r->sums, capacity * sizeof(*grown));

		if (grown == NULL) {
			gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for checksums.");
			return NULL;
		}
		r->sums = grown;
		r->sum_capacity = capacity;
	}
	s = &r->sums[r->sum_count++];
	*s = (struct sum){.scope = scope, .table = table, .target = target, .dirty = true};
	return s;
}

void sums_load(struct replica *r)
{
	sqlite3_stmt *q_all = NULL;

	r->sum_count = 0;
	gate_statement(&r->g, &q_all, "SELECT scope, tbl, fill, rows, sums FROM ferry_sum");
	for (bool more = gate_step(&r->g, q_all, ""); more; more = gate_next(&r->g, q_all)) {
		struct sum *s = sum_of(r, sqlite3_column_int(q_all, 2) != 0 ? TARGET_FILL : TARGET_LIVE,
				       sqlite3_column_int64(q_all, 0), (uint32_t)sqlite3_column_int64(q_all, 1));
		int n = sqlite3_column_bytes(q_all, 4);

		if (s == NULL)
			break;
		s->rows = sqlite3_column_int64(q_all, 3);
		if (n > 0)
			memcpy(s->sums, sqlite3_column_blob(q_all, 4), (size_t)n > sizeof(s->sums) ? sizeof(s->sums) : (size_t)n);
		s->dirty = false;
	}
	gate_finalize(&q_all);
}

void sums_save(struct replica *r)
{
	for (uint32_t i = 0; i < r->sum_count; i++) {
		struct sum *s = &r->sums[i];

		if (!s->dirty)
			continue;
		gate_run(&r->g, q(r, Q_SUM_SAVE), "iiiib", s->scope, (int64_t)s->table, (int64_t)s->target, s->rows,
			 s->sums, (int)sizeof(s->sums));
		s->dirty = false;
	}
}

/* The staged sums take the place of the live ones. */
void sums_swap(struct replica *r)
{
	gate_exec(&r->g, "DELETE FROM ferry_sum");
	for (uint32_t i = r->sum_count; i-- > 0;) {
		if (r->sums[i].target == TARGET_LIVE) {
			r->sums[i] = r->sums[--r->sum_count];
			continue;
		}
	}
	for (uint32_t i = 0; i < r->sum_count; i++) {
		r->sums[i].target = TARGET_LIVE;
		r->sums[i].dirty = true;
	}
}

static uint64_t hash_cell(struct replica *r, const struct table *t, int column, uint64_t seed, const struct cell *c)
{
	const struct schema_column *sc = &t->t->columns[column];
	struct value v;
	int code;

	if (c->type == SQLITE_NULL || !cell_to_value(&r->work, sc->kind, c, &v, &code))
		return 0;
	return cell_hash(seed, sc->num, sc->kind, &v);
}

void row_hashes(struct replica *r, const struct table *t, const struct uuid *key, const struct row *row, uint64_t *out)
{
	uint64_t seed = cell_hash_row_seed(key);

	for (int i = 0; i < t->t->column_count; i++)
		out[i] = hash_cell(r, t, i, seed, &row->cells[i]);
}

uint64_t sum_hash(struct replica *r, const struct table *t, int column, const struct uuid *key, const struct cell *c)
{
	return hash_cell(r, t, column, cell_hash_row_seed(key), c);
}

void scopes_copy(struct scopes *to, const struct scopes *from)
{
	to->count = from->count;
	memcpy(to->ids, from->ids, (size_t)from->count * sizeof(*to->ids));
}

bool scopes_have(const struct scopes *s, int64_t id)
{
	for (int i = 0; i < s->count; i++) {
		if (s->ids[i] == id)
			return true;
	}
	return false;
}

static void apply_hashes(struct replica *r, enum target target, const struct table *t, int64_t scope, int64_t rows,
			 const uint64_t *hashes)
{
	struct sum *s = sum_of(r, target, scope, t->t->table);

	if (s == NULL)
		return;
	s->rows += rows;
	s->dirty = true;
	for (int i = 0; i < t->t->column_count; i++)
		s->sums[i] ^= hashes[i];
}

/* Mostly a scope stands in both lists at one place. */
static bool have_at(const struct scopes *s, int place, int64_t id)
{
	return (place < s->count && s->ids[place] == id) || scopes_have(s, id);
}

/* The row's part in the sums: out with `before`, in with `after`. */
void sums_change(struct replica *r, enum target target, const struct table *t, const struct uuid *key,
		 const struct row *before, const struct scopes *scopes_before, const struct row *after,
		 const struct scopes *scopes_after)
{
	uint64_t old[FERRY_COLUMNS_MAX] = {0}, fresh[FERRY_COLUMNS_MAX] = {0}, both[FERRY_COLUMNS_MAX];
	uint64_t seed = cell_hash_row_seed(key);
	bool changed = false;

	for (int i = 0; i < t->t->column_count; i++) {
		bool equal = before->present && after->present && cell_equal(&before->cells[i], &after->cells[i]);
		bool same_scopes = scopes_before->count == 1 && scopes_after->count == 1 &&
				   scopes_before->ids[0] == scopes_after->ids[0];

		if (!(equal && same_scopes)) {
			old[i] = before->present ? hash_cell(r, t, i, seed, &before->cells[i]) : 0;
			fresh[i] = after->present ? hash_cell(r, t, i, seed, &after->cells[i]) : 0;
		}
		both[i] = old[i] ^ fresh[i];
		changed |= both[i] != 0;
	}
	for (int i = 0; before->present && i < scopes_before->count; i++) {
		bool stays = after->present && have_at(scopes_after, i, scopes_before->ids[i]);

		if (!stays || changed)
			apply_hashes(r, target, t, scopes_before->ids[i], stays ? 0 : -1, stays ? both : old);
	}
	for (int i = 0; after->present && i < scopes_after->count; i++) {
		if (!(before->present && have_at(scopes_before, i, scopes_after->ids[i])))
			apply_hashes(r, target, t, scopes_after->ids[i], 1, fresh);
	}
}

/* ---- Scopes ---- */

bool scope_held(struct replica *r, int64_t id, char out_name[ALARM_SCOPE_MAX])
{
	sqlite3_stmt *s = q(r, Q_SCOPE_IS_HELD);
	bool held = gate_step(&r->g, s, "i", id);

	if (held)
		(void)snprintf(out_name, ALARM_SCOPE_MAX, "%s", (const char *)sqlite3_column_text(s, 0));
	if (s != NULL)
		sqlite3_reset(s);
	return held;
}

int64_t scope_id(struct replica *r, const char *name)
{
	sqlite3_stmt *s = q(r, Q_SCOPE_ID);
	int64_t id = 0;

	if (gate_step(&r->g, s, "t", name)) {
		id = sqlite3_column_int64(s, 0);
		sqlite3_reset(s);
		return id;
	}
	gate_run(&r->g, q(r, Q_SCOPE_ADD), "t", name);
	return sqlite3_last_insert_rowid(r->g.db);
}

static bool has_explicit(struct replica *r, enum target target, struct table *t)
{
	struct side *side = &t->side[target];

	if (side->explicit_members < 0) {
		sqlite3_stmt *s = q(r, target == TARGET_FILL ? Q_FILL_MEMBER_ANY : Q_MEMBER_ANY);

		side->explicit_members = gate_step(&r->g, s, "i", (int64_t)t->t->table);
		if (s != NULL)
			sqlite3_reset(s);
	}
	return side->explicit_members > 0;
}

/* The scopes of a row that is there. */
void scopes_get(struct replica *r, enum target target, struct table *t, const struct uuid *key, struct scopes *out)
{
	out->count = 0;
	if (has_explicit(r, target, t)) {
		sqlite3_stmt *s = q(r, target == TARGET_FILL ? Q_FILL_MEMBER_GET : Q_MEMBER_GET);

		for (bool more = gate_step(&r->g, s, "ib", (int64_t)t->t->table, key, (int)sizeof(*key)); more;
		     more = gate_next(&r->g, s)) {
			if (out->count == ROW_SCOPES_MAX) {
				gate_fail(&r->g, FERRY_LIMIT, "A row of %s is in more than %d scopes.", t->t->name,
					  ROW_SCOPES_MAX);
				return;
			}
			out->ids[out->count++] = sqlite3_column_int64(s, 0);
		}
	}
	if (out->count == 0 && t->side[target].main_scope != 0)
		out->ids[out->count++] = t->side[target].main_scope;
}

static void set_main_scope(struct replica *r, enum target target, struct table *t, int64_t scope)
{
	bool fill = target == TARGET_FILL;

	t->side[target].main_scope = scope;
	gate_execf(&r->g, "UPDATE ferry_table SET %s = %lld WHERE gen = %d AND tbl = %u", fill ? "fill_scope" : "scope",
		   (long long)scope, fill && r->next.schema.table_count > 0 ? 1 : 0, t->t->table);
}

/* The first scope that rows of a table get. What is filled beside the live rows has theirs, and they
 * have its: so what is not listed there needs not be listed when it is joined. */
static void choose_main_scope(struct replica *r, enum target target, struct table *t, int64_t scope)
{
	enum target other = target == TARGET_FILL ? TARGET_LIVE : TARGET_FILL;
	bool shared = r->st.fill == FILL_BESIDE;

	if (shared && t->side[other].main_scope != 0)
		scope = t->side[other].main_scope;
	else if (shared)
		set_main_scope(r, other, t, scope);
	set_main_scope(r, target, t, scope);
}

void scopes_set(struct replica *r, enum target target, struct table *t, const struct uuid *key, const struct scopes *s)
{
	struct side *side = &t->side[target];
	bool fill = target == TARGET_FILL;

	if (side->main_scope == 0 && s->count > 0)
		choose_main_scope(r, target, t, s->ids[0]);
	if (has_explicit(r, target, t))
		gate_run(&r->g, q(r, fill ? Q_FILL_MEMBER_DELETE : Q_MEMBER_DELETE), "ib", (int64_t)t->t->table, key,
			 (int)sizeof(*key));
	if (s->count == 0 || (s->count == 1 && s->ids[0] == side->main_scope))
		return;
	side->explicit_members = 1;
	for (int i = 0; i < s->count; i++)
		gate_run(&r->g, q(r, fill ? Q_FILL_MEMBER_ADD : Q_MEMBER_ADD), "ibi", (int64_t)t->t->table, key,
			 (int)sizeof(*key), s->ids[i]);
}

void scopes_set_one(struct replica *r, enum target target, struct table *t, const struct uuid *key, int64_t scope)
{
	struct scopes one;

	one.ids[0] = scope;
	one.count = 1;
	scopes_set(r, target, t, key, &one);
}

/* ---- The alarm ---- */

/* A comparison that was asked for gives what it finds its reason. */
static void raise_found(struct replica *r, const char *scope, const char *table, int64_t position, const char *what)
{
	const char *reason = heal_reason(r);
	char both[160];

	(void)snprintf(both, sizeof(both), "%.70s%s%.80s", what, reason == NULL ? "" : "; ", reason == NULL ? "" : reason);
	alarm_raise(r, scope, table, position, both);
}

/* The report names the first, ferry_mismatch keeps each. */
static void mismatch(struct replica *r, struct store_commit_report *report, int64_t position, const char *scope,
		     const char *table, const char *what)
{
	raise_found(r, scope, table, position, what);
	if (!report->sums_match)
		return;
	report->sums_match = false;
	(void)snprintf(report->mismatch, sizeof(report->mismatch), "%.60s, table %.40s: %.40s", scope, table, what);
}

/* What differs of a sum; false: nothing. */
static bool difference(const struct table *t, const struct sum *mine, const struct scope_sum *s, char what[64])
{
	if (mine->rows != s->rows) {
		(void)snprintf(what, 64, "%lld rows, the hub has %lld", (long long)mine->rows, (long long)s->rows);
		return true;
	}
	if (s->sum_count != t->t->column_count) {
		(void)snprintf(what, 64, "other columns");
		return true;
	}
	for (uint32_t i = 0; i < s->sum_count; i++) {
		if (mine->sums[i] != s->sums[i]) {
			(void)snprintf(what, 64, "column %.50s", t->t->columns[i].name);
			return true;
		}
	}
	return false;
}

static void compare_one(struct replica *r, int64_t position, const struct scope_sum *s,
			struct store_commit_report *report)
{
	struct table *t = model_table(&r->now, s->table);
	struct sum *mine = sum_of(r, TARGET_LIVE, scope_id(r, s->scope), s->table);
	char what[64];

	if (mine == NULL)
		return;
	mine->compared = position;
	if (t == NULL) {
		(void)snprintf(what, sizeof(what), "number %u is unknown here", s->table);
		mismatch(r, report, position, s->scope, "", what);
	} else if (difference(t, mine, s, what)) {
		mismatch(r, report, position, s->scope, t->t->name, what);
	}
}

void sums_unmentioned(struct replica *r)
{
	for (uint32_t i = 0; i < r->sum_count; i++) {
		const struct sum *s = &r->sums[i];
		const struct table *t = model_table(&r->now, s->table);
		char what[64], scope[ALARM_SCOPE_MAX];

		if (s->target != TARGET_LIVE || s->rows == 0 || s->compared == r->st.position || t == NULL ||
		    !scope_held(r, s->scope, scope))
			continue;
		(void)snprintf(what, sizeof(what), "%lld rows, the hub has none", (long long)s->rows);
		raise_found(r, scope, t->t->name, r->st.position, what);
	}
}

void sums_compare(struct replica *r, const struct message_commit *c, struct store_commit_report *report)
{
	report->sums_match = true;
	report->sums_checked = c->sum_count > 0;
	for (uint32_t i = 0; i < c->sum_count; i++)
		compare_one(r, c->position, &c->sums[i], report);
	if (r->stray && report->sums_match)
		mismatch(r, report, c->position, "", "", "a change of a row that is not here");
}
