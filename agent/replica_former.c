/* Change-sets that a new schema has no place for are sent as they were written.
 *
 * A column that goes, or that holds another kind of value from now on, would
 * take what pending edits said of it along. So, before the tables change, the
 * messages of such change-sets are kept as bytes, under the step of the schema
 * that they were made under: the hub translates them, or refuses them and
 * keeps them whole. And what the edits said of those columns is kept by name,
 * for ferry_rejected. Both go when the change-set is settled. */
#include <string.h>

#include "agent/replica_internal.h"

/* What an entry says of the columns that go. Deletions say something of a
 * whole table only (no column: num 0). */
static uint64_t said(const struct table *t, const struct entry *e, uint64_t lost)
{
	uint64_t mask = 0;

	if ((e->op & OP_MASK) == OP_UPDATE)
		return e->mask & lost;
	for (int i = 0; (e->op & OP_MASK) == OP_INSERT && i < t->t->column_count; i++) {
		if (e->fresh[i].type != SQLITE_NULL)
			mask |= UINT64_C(1) << i;
	}
	return mask & lost;
}

static void keep_value(struct replica *r, const struct entry *e, uint16_t num, const char *name, const struct cell *value)
{
	sqlite3_stmt *s = q(r, Q_FORMER_VALUE_ADD);

	gate_run(&r->g, s, "iiitc", e->seq, (int64_t)num, e->number, name, value);
	if (s != NULL)
		sqlite3_clear_bindings(s);
}

static void keep_row(struct replica *r, struct table *t, const char *key, uint64_t lost)
{
	const struct cell nothing = cell_null();
	struct stack s;

	stack_load(r, t, key, &s);
	for (uint32_t k = 0; k < s.count && r->g.error == FERRY_OK; k++) {
		const struct entry *e = &s.entries[k];
		uint64_t mask;

		if (e->number <= 0 || entry_settled(r, e))
			continue;
		mask = said(t, e, lost);
		for (int i = 0; i < t->t->column_count; i++) {
			if (mask >> i & 1)
				keep_value(r, e, t->t->columns[i].num, t->t->columns[i].name, &e->fresh[i]);
		}
		if (lost == t->all && mask == 0)
			keep_value(r, e, 0, "", &nothing);
	}
}

static void former_note(struct replica *r, struct table *t, uint64_t lost)
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
		keep_row(r, t, key, lost);
	}
}

/* SQLite keeps these alike, and the wire's text is one text. */
bool kind_text_like(enum column_kind kind)
{
	return kind == KIND_TEXT || kind == KIND_ENUM || kind == KIND_OTHER || kind == KIND_JSON || kind == KIND_ARRAY ||
	       kind == KIND_NUMERIC || kind == KIND_CITEXT;
}

bool kind_converts(enum column_kind was, enum column_kind now)
{
	return was != now && !(kind_text_like(was) && kind_text_like(now));
}

static void keep_body(struct replica *r, const struct change_set *set)
{
	struct buffer body;

	buffer_init(&body, REPLICA_WORK_BYTES_MAX);
	if (change_set_encode(set, &body) != FERRY_OK)
		gate_fail(&r->g, FERRY_LIMIT, "Change-set %lld does not fit into the memory to keep it.", (long long)set->number);
	else
		gate_run(&r->g, q(r, Q_FORMER_ADD), "iib", set->number, (int64_t)set->part, body.p, (int)body.n);
	buffer_deinit(&body);
}

static void former_make(struct replica *r)
{
	int64_t number = 0;

	for (;;) {
		sqlite3_stmt *s = q(r, Q_FORMER_DUE);

		if (!gate_step(&r->g, s, "i", number))
			return;
		number = sqlite3_column_int64(s, 0);
		sqlite3_reset(s);
		push_each(r, number, keep_body);
	}
}

/* Columns of which pending edits would lose what they say. */
static uint64_t lost_columns(const struct table *old, const struct table *fresh)
{
	uint64_t lost = 0;

	for (int i = 0; i < old->t->column_count; i++) {
		int to = fresh == NULL ? -1 : table_column(fresh, old->t->columns[i].num);

		if (to < 0 || kind_converts(old->t->columns[i].kind, fresh->t->columns[to].kind))
			lost |= UINT64_C(1) << i;
	}
	return lost;
}

void former_keep(struct replica *r, const struct model *next, bool gone_tables)
{
	for (uint32_t i = 0; i < r->now.schema.table_count; i++) {
		struct table *old = &r->now.tables[i];
		const struct table *fresh = model_table(next, old->t->table);
		uint64_t lost = fresh != NULL || gone_tables ? lost_columns(old, fresh) : 0;

		if (lost != 0)
			former_note(r, old, lost);
	}
	former_make(r);
}

bool former_body(struct replica *r, int64_t number, uint32_t part, struct arena *a, struct change_set *out)
{
	sqlite3_stmt *s = q(r, Q_FORMER_GET);
	struct ferry_why why = {{0}};
	const uint8_t *body;
	size_t n;

	if (!gate_step(&r->g, s, "ii", number, (int64_t)part))
		return false;
	n = (size_t)sqlite3_column_bytes(s, 0);
	body = arena_copy(a, sqlite3_column_blob(s, 0), n);
	sqlite3_reset(s);
	if (body == NULL || change_set_decode(a, body, n, out, &why) != FERRY_OK)
		gate_fail(&r->g, FERRY_CORRUPT, "The kept change-set %lld cannot be read: %.200s", (long long)number, why.text);
	return r->g.error == FERRY_OK;
}

bool former_has(struct replica *r, int64_t number)
{
	sqlite3_stmt *s = q(r, Q_FORMER_GET);
	bool has = gate_step(&r->g, s, "ii", number, (int64_t)0);

	if (s != NULL)
		sqlite3_reset(s);
	return has;
}

void former_forget(struct replica *r, int64_t number)
{
	gate_run(&r->g, q(r, Q_FORMER_DELETE), "i", number);
	gate_run(&r->g, q(r, Q_FORMER_VALUE_DELETE), "i", number);
}
