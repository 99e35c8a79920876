/* Rows of the outbox, for push messages. A change-set's content is read from the
 * stacks of its rows each time, and is the same each time: what an edit made of a
 * cell is the old value of the next edit above, or the visible cell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/replica_push.h"

#define ROW_OVERHEAD_BYTES 24
#define OLD_BYTES_MAX 262144u /* [P 6.7] of a row's old values */

/* ---- One row ---- */

/* The common case, an edit with nothing pending above it: the visible row is
 * what it made. Else the stack is traced. */
static bool fresh_cells(struct push *p, struct table *t, const char *key, int64_t seq, bool alone, struct cell **out)
{
	struct replica *r = p->r;
	struct stack stack;
	struct row row;

	if (alone) {
		if (!row_read(r, TARGET_LIVE, t, key, &row))
			return false;
		*out = row.cells;
		return true;
	}
	stack_load(r, t, key, &stack);
	for (uint32_t i = 0; i < stack.count; i++) {
		if (stack.entries[i].seq == seq)
			*out = stack.entries[i].fresh;
	}
	return r->g.error == FERRY_OK;
}

/* The bases of the entry's cells, and whether it is the topmost of its row. */
static bool take_bases(struct push *p, struct table *t, const char *key, int64_t seq, struct push_row *row)
{
	sqlite3_stmt *s = q(p->r, Q_PENDING_FROM);
	bool alone = true;

	if (gate_step(&p->r->g, s, "iti", (int64_t)t->t->table, key, seq)) {
		int n = sqlite3_column_bytes(s, 0);

		if (n > 0) {
			row->bases = arena_copy(p->arena, sqlite3_column_blob(s, 0), (size_t)n);
			row->base_count = row->bases == NULL ? 0 : (uint32_t)n / 16;
		}
		alone = !gate_next(&p->r->g, s);
		sqlite3_reset(s);
	}
	return alone;
}

static uint64_t pushed_columns(const struct table *t, int op, uint64_t mask, const struct cell *fresh)
{
	uint64_t columns = 0;

	if (op == OP_UPDATE)
		return mask & t->writable;
	for (int i = 0; op == OP_INSERT && i < t->t->column_count; i++) {
		if ((t->writable >> i & 1) != 0 && !(fresh[i].type == SQLITE_NULL && t->t->columns[i].has_default))
			columns |= UINT64_C(1) << i;
	}
	return columns;
}

/* A column that ended as it began left the entry when it was fixed, but the
 * base that was noted for it stays in the file: it goes here. */
static void trim_bases(struct push_row *row)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < row->base_count; i++) {
		int column = table_column(row->t, (uint16_t)row->bases[i * 2]);

		if (row->bases[i * 2] != 0 && (column < 0 || (row->columns >> column & 1) == 0))
			continue;
		memmove(row->bases + (size_t)kept * 2, row->bases + (size_t)i * 2, 2 * sizeof(*row->bases));
		kept++;
	}
	row->base_count = kept;
}

static bool has_bytes(const struct value *v)
{
	return v->kind == VALUE_TEXT || v->kind == VALUE_BYTES;
}

bool push_keep_values(struct push *p, struct value *values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (!has_bytes(&values[i]) || values[i].n == 0)
			continue;
		values[i].p = arena_copy(p->arena, values[i].p, values[i].n);
		if (values[i].p == NULL)
			return false;
	}
	return true;
}

static void say_too_large(struct push *p, const struct schema_table *t, size_t bytes)
{
	p->bad_code = FERRY_ROW_TOO_LARGE;
	(void)snprintf(p->bad, sizeof(p->bad), "A row of %s has %zu bytes; no more than %u can travel: split it up.", t->name,
		       bytes, FERRY_ROW_BYTES_MAX);
}

/* What is wrong with a value that has no wire form. */
static const char *fault_of(int code, enum column_kind kind)
{
	if (code == FERRY_NUL_IN_TEXT)
		return "has a NUL character in it";
	switch (kind) {
	case KIND_TIMESTAMPTZ:
		return "is no time as 2026-03-01T08:30:00Z";
	case KIND_DATE:
		return "is no date as 2026-03-01";
	case KIND_UUID:
		return "is no uuid of 36 characters";
	case KIND_BOOL:
	case KIND_INT:
	case KIND_FLOAT:
		return "is no number of its type";
	default:
		return "is no text in UTF-8";
	}
}

static bool convert(struct push *p, struct push_row *row, const struct cell *fresh)
{
	const struct schema_table *t = row->t->t;
	size_t bytes = 0;
	uint32_t n = 0;

	row->values = arena_array(p->arena, (size_t)__builtin_popcountll(row->columns), sizeof(*row->values));
	if (row->values == NULL)
		return false;
	for (int i = 0; i < t->column_count; i++) {
		struct value *v = &row->values[n];

		if ((row->columns >> i & 1) == 0)
			continue;
		if (!cell_to_value(&p->r->work, t->columns[i].kind, &fresh[i], v, &p->bad_code)) {
			if (p->bad_code == FERRY_ROW_TOO_LARGE)
				say_too_large(p, t, fresh[i].n);
			else
				(void)snprintf(p->bad, sizeof(p->bad), "The value of %s.%s %s.", t->name, t->columns[i].name,
					       fault_of(p->bad_code, t->columns[i].kind));
			return false;
		}
		p->bad_code = 0;
		bytes += has_bytes(v) ? v->n : 0;
		n++;
	}
	if (bytes > FERRY_ROW_BYTES_MAX) {
		say_too_large(p, t, bytes);
		return false;
	}
	p->bytes += bytes + 9u * n;
	p->large = bytes > p->budget;
	return p->large || push_keep_values(p, row->values, n);
}

/* [P 6.7] What the author saw and made of the columns that merge differences.
 * An old value without a wire form stays behind. log: its entry's statement. */
static bool take_olds(struct push *p, struct push_row *row, sqlite3_stmt *log, struct cell *fresh)
{
	const struct table *t = row->t;
	int64_t seq = sqlite3_column_int64(log, 0);
	uint64_t wanted = row->op == ROW_UPDATE ? row->columns & t->differs : 0;
	size_t bytes = 0;
	uint32_t n = 0;

	if (wanted == 0)
		return true;
	row->olds = arena_array(p->arena, (size_t)__builtin_popcountll(wanted), sizeof(*row->olds));
	for (int i = 0; row->olds != NULL && i < t->t->column_count; i++) {
		struct cell old;
		int code;

		if ((wanted >> i & 1) == 0)
			continue;
		old = cell_keep(&p->r->work, log, 7 + i);
		(void)policy_pair(p->r, t, seq, i, &old, &fresh[i]);
		if (!cell_to_value(&p->r->work, t->t->columns[i].kind, &old, &row->olds[n], &code))
			continue;
		bytes += 9u + (has_bytes(&row->olds[n]) ? row->olds[n].n : 0);
		row->old_columns |= UINT64_C(1) << i;
		n++;
	}
	if (bytes > OLD_BYTES_MAX)
		row->old_columns = 0;
	else
		p->bytes += bytes;
	return row->olds != NULL && (row->old_columns == 0 || push_keep_values(p, row->olds, n));
}

static struct push_row *row_slot(struct push *p)
{
	if (p->count == p->capacity) {
		uint32_t capacity = p->capacity == 0 ? 256 : p->capacity * 2;
		struct push_row *grown = realloc(p->rows, capacity * sizeof(*grown));

		if (grown == NULL)
			return NULL;
		p->rows = grown;
		p->capacity = capacity;
	}
	p->rows[p->count] = (struct push_row){.order = p->count};
	return &p->rows[p->count++];
}

/* s stands on an entry of the log. False: stop (full, bad value, failure). */
bool push_take_row(struct push *p, sqlite3_stmt *s)
{
	struct replica *r = p->r;
	int op = sqlite3_column_int(s, 3) & OP_MASK;
	int64_t seq = sqlite3_column_int64(s, 0);
	struct table *t = model_table(&r->now, (uint32_t)sqlite3_column_int64(s, 1));
	char key[UUID_TEXT] = "";
	struct push_row *row;
	struct cell *fresh = NULL;
	bool alone;

	if (t == NULL)
		return true;
	memcpy(key, sqlite3_column_text(s, 2), UUID_TEXT - 1);
	row = row_slot(p);
	if (row == NULL)
		return false;
	row->t = t;
	row->op = (enum row_op)op;
	row->at = sqlite3_column_int64(s, 6);
	arena_reset(&r->work);
	if (!uuid_parse(key, UUID_TEXT - 1, &row->key)) {
		p->bad_code = FERRY_BAD_VALUE;
		(void)snprintf(p->bad, sizeof(p->bad), "The key of a row of %s is not a UUID.", t->t->name);
		return false;
	}
	alone = take_bases(p, t, key, seq, row);
	if (op != OP_DELETE) {
		if (!fresh_cells(p, t, key, seq, alone, &fresh) || fresh == NULL)
			return false;
		row->columns = pushed_columns(t, op, (uint64_t)sqlite3_column_int64(s, 4), fresh);
		if (op == OP_UPDATE && row->columns == 0) { /* a REPLACE that emptied read-only columns: not ours to say */
			p->count--;
			return true;
		}
		trim_bases(row);
		if (!take_olds(p, row, s, fresh))
			return false;
		if (!convert(p, row, fresh))
			return false;
	}
	p->bytes += ROW_OVERHEAD_BYTES + row->base_count * 14;
	return !p->arena->full && r->g.error == FERRY_OK;
}
