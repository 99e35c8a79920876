/* The outbox as push messages. A change-set's content is read from the stacks
 * of its rows each time, and is the same each time: what an edit made of a
 * cell is the old value of the next edit above, or the visible cell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

#define AT_STEP_MS 100 /* times of rows are told this finely: they only break ties */
#define ROW_OVERHEAD_BYTES 24
#define OLD_BYTES_MAX 262144u /* [P 6.7] of a row's old values */
#define PUSH_ROWS_MAX 4096 /* each may need a block of its own: FERRY_BLOCKS_MAX */
#define PUSH_SETS_MAX 1024
#define KEPT_PART_BYTES (256u << 10) /* of a change-set in the kept history, about */
#define KEPT_ARENA_BYTES ((size_t)24 * FERRY_MESSAGE_BYTES_MAX)
#define PUSH_BUDGET_BYTES 131072u /* of parts that are made before the first push */

struct push_row {
	struct table *t;
	enum row_op op;
	uint64_t columns;
	struct uuid key;
	struct value *values; /* of the columns, in order */
	uint64_t old_columns; /* those whose old values go along */
	struct value *olds;
	int64_t at;
	int64_t *bases; /* pairs (num, position) */
	uint32_t base_count;
	uint32_t order;
};

struct push {
	struct replica *r;
	struct arena *arena;
	struct push_row *rows;
	uint32_t count, capacity;
	size_t bytes;
	uint32_t rows_before; /* in the message already */
	int64_t after; /* place of the last row taken whole */
	size_t budget; /* of text and bytes; a row with more goes in pieces [P 6.6] */
	bool large;    /* the row last taken is such a one, its values not copied */
	struct row_cutter cutter;
	struct block piece;
	int64_t refused; /* the change-set that has a value without a wire form, 0: none */
	int bad_code;
	char bad[160];
};

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

static bool keep_values(struct push *p, struct value *values, uint32_t n)
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
				(void)snprintf(p->bad, sizeof(p->bad), "The value of %s.%s has not the form of its type.",
					       t->name, t->columns[i].name);
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
	return p->large || keep_values(p, row->values, n);
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
	return row->olds != NULL && (row->old_columns == 0 || keep_values(p, row->olds, n));
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
static bool take_row(struct push *p, sqlite3_stmt *s)
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

/* ---- Blocks ---- */

static int compare_rows(const void *pa, const void *pb)
{
	const struct push_row *a = pa, *b = pb;

	if (a->t != b->t)
		return a->t->t->table < b->t->t->table ? -1 : 1;
	if (a->op != b->op)
		return a->op < b->op ? -1 : 1;
	if (a->columns != b->columns)
		return a->columns < b->columns ? -1 : 1;
	if (a->old_columns != b->old_columns)
		return a->old_columns < b->old_columns ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static bool same_block(const struct push_row *a, const struct push_row *b)
{
	return a->t == b->t && a->op == b->op && a->columns == b->columns &&
	       a->old_columns == b->old_columns;
}

/* In the order of their column numbers, as the wire wants them; they were
 * noted in the order of the edits. */
static void add_base(struct row_base *row_first, struct row_base *end, struct row_base base)
{
	for (; end > row_first && end[-1].num > base.num; end--)
		*end = end[-1];
	*end = base;
}

static int64_t row_at(const struct push_row *row, int64_t first_ms)
{
	int64_t after = (row->at - first_ms) / AT_STEP_MS * AT_STEP_MS;

	return after > 0 ? after * 1000 : 0;
}

static bool fill_bases(struct push *p, struct block *b, const struct push_row *rows)
{
	struct row_base *bases;
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->row_count; i++)
		b->base_count += rows[i].base_count;
	if (b->base_count == 0)
		return true;
	bases = arena_array(p->arena, b->base_count, sizeof(*bases));
	if (bases == NULL)
		return false;
	for (uint32_t i = 0; i < b->row_count; i++) {
		for (uint32_t k = 0; k < rows[i].base_count; k++) {
			int64_t position = rows[i].bases[k * 2 + 1];

			/* Made before the first fill: nothing of the hub was seen. */
			add_base(bases + n - k, bases + n,
				 (struct row_base){i, (uint16_t)rows[i].bases[k * 2], position < 0 ? 0 : position});
			n++;
		}
	}
	b->bases = bases;
	return true;
}

static bool fill_olds(struct push *p, struct block *b, const struct push_row *rows)
{
	const struct schema_table *t = rows[0].t->t;
	uint16_t count = (uint16_t)__builtin_popcountll(rows[0].old_columns), n = 0;
	uint16_t *nums = arena_array(p->arena, count, sizeof(*nums));
	struct value *olds = arena_array(p->arena, (size_t)count * b->row_count, sizeof(*olds));

	if (count == 0)
		return true;
	if (nums == NULL || olds == NULL)
		return false;
	for (int i = 0; i < t->column_count; i++) {
		if (rows[0].old_columns >> i & 1)
			nums[n++] = t->columns[i].num;
	}
	for (uint32_t i = 0; i < b->row_count; i++) {
		for (uint16_t o = 0; o < count; o++)
			olds[(size_t)o * b->row_count + i] = rows[i].olds[o];
	}
	b->old_nums = nums;
	b->olds = olds;
	b->old_count = count;
	return true;
}

static bool fill_block(struct push *p, struct block *b, const struct push_row *rows, uint32_t count, int64_t first_ms)
{
	const struct schema_table *t = rows[0].t->t;
	uint16_t *nums, n = 0;
	struct uuid *keys = arena_array(p->arena, count, sizeof(*keys));
	int64_t *at = arena_array(p->arena, count, sizeof(*at));
	struct value *cells;
	bool any_at = false;

	*b = (struct block){.table = t->table, .op = rows[0].op, .row_count = count,
			    .column_count = (uint16_t)__builtin_popcountll(rows[0].columns)};
	nums = arena_array(p->arena, b->column_count, sizeof(*nums));
	cells = arena_array(p->arena, (size_t)count * b->column_count, sizeof(*cells));
	if (keys == NULL || at == NULL || nums == NULL || cells == NULL)
		return false;
	for (int i = 0; i < t->column_count; i++) {
		if (rows[0].columns >> i & 1)
			nums[n++] = t->columns[i].num;
	}
	for (uint32_t i = 0; i < count; i++) {
		keys[i] = rows[i].key;
		at[i] = row_at(&rows[i], first_ms);
		any_at |= at[i] != 0;
		for (uint16_t c = 0; c < b->column_count; c++)
			cells[(size_t)c * count + i] = rows[i].values[c];
	}
	b->nums = nums;
	b->keys = keys;
	b->cells = cells;
	b->at = any_at ? at : NULL;
	return fill_olds(p, b, rows) && fill_bases(p, b, rows);
}

static bool make_blocks(struct push *p, const struct set *set, int64_t first_ms, struct change_set *out)
{
	struct block *blocks;
	uint32_t n = 0;

	*out = (struct change_set){.number = set->number, .base_position = set->base < 0 ? 0 : set->base, .at = set->at,
				   .lost_from = set->lost_from, .joined = set->joined, .depends_count = set->depends_count,
				   .step = p->r->now.schema.step};

	/* Left out where the hub knows it from hello. */
	if (p->r->st.schema_hash == p->r->welcome_hash && out->step == p->r->hello_step)
		out->step = 0;
	out->depends = arena_copy(p->arena, set->depends, set->depends_count * sizeof(*set->depends));
	if (p->count == 0)
		return true;
	if (p->large) {
		out->blocks = arena_copy(p->arena, &p->piece, sizeof(p->piece));
		out->block_count = 1;
		return out->blocks != NULL;
	}
	qsort(p->rows, p->count, sizeof(*p->rows), compare_rows);
	for (uint32_t i = 0; i < p->count; i++)
		n += i == 0 || !same_block(&p->rows[i - 1], &p->rows[i]);
	blocks = arena_array(p->arena, n, sizeof(*blocks));
	if (blocks == NULL)
		return false;
	for (uint32_t i = 0, k = 0; i < p->count; k++) {
		uint32_t end = i + 1;

		while (end < p->count && same_block(&p->rows[i], &p->rows[end]))
			end++;
		if (!fill_block(p, &blocks[k], p->rows + i, end - i, first_ms))
			return false;
		i = end;
	}
	out->blocks = blocks;
	out->block_count = n;
	return true;
}

/* ---- Change-sets ---- */

/* The row last taken is alone in its part, and too large for it: the next
 * piece of it, with the values that it holds. */
static bool take_piece(struct push *p, int64_t first_ms)
{
	struct row_cutter *c = &p->cutter;
	struct value *values;

	if (!fill_block(p, &c->row, p->rows, 1, first_ms) || !row_cut(c, p->budget, p->arena, &p->piece))
		return false;
	values = arena_copy(p->arena, p->piece.cells, p->piece.column_count * sizeof(*values));
	p->piece.cells = values;
	return values != NULL && keep_values(p, values, p->piece.column_count);
}

/* Rows of a change-set from `after` on, up to the budget. *out_more: others
 * are left for the next part. */
static bool take_part(struct push *p, const struct set *set, int64_t after, int64_t first_ms, bool *out_more)
{
	struct gate *g = &p->r->g;
	sqlite3_stmt *s = set_entries(p->r, set, after);
	bool ok = true;

	p->count = 0;
	p->bytes = 32;
	p->after = after;
	p->large = false;
	*out_more = false;
	while (ok && gate_next(g, s)) {
		if (p->count > 0 && (p->bytes >= p->budget || p->count == PUSH_ROWS_MAX)) {
			*out_more = true;
			break;
		}
		ok = take_row(p, s);
		if (ok && p->large && p->count > 1) { /* it gets parts of its own */
			p->count--;
			p->large = false;
			*out_more = true;
			break;
		}
		if (ok && p->large)
			ok = take_piece(p, first_ms);
		if (!p->large || !p->piece.goes_on)
			p->after = sqlite3_column_int64(s, 7 + p->r->log_width);
		if (p->large) {
			*out_more = p->piece.goes_on || gate_next(g, s);
			break;
		}
	}
	if (s != NULL)
		sqlite3_reset(s);
	return ok && g->error == FERRY_OK;
}

static int64_t first_ms(struct replica *r, const struct set *set)
{
	sqlite3_stmt *s = set_entries(r, set, 0);
	int64_t at = INT64_MAX;

	if (gate_next(&r->g, s)) {
		at = sqlite3_column_int64(s, 6);
		sqlite3_reset(s);
	}
	return at;
}

static enum ferry_error take_failed(struct push *p, const struct set *set, struct ferry_why *why)
{
	if (p->r->g.error != FERRY_OK)
		return ferry_fail(why, p->r->g.error, "%s", p->r->g.why.text);
	if (p->bad_code == 0)
		return ferry_fail(why, FERRY_LIMIT, "A change-set does not fit into the memory for a message.");
	p->refused = set->number;
	return FERRY_OK;
}

static void advance(struct push_cursor *c, const struct push *p, struct change_set *out, bool more);

bool push_parts(struct replica *r, const struct set *set, bool (*take)(void *ctx, const struct change_set *part), void *ctx)
{
	struct arena work = r->work, arena;
	struct push p = {.r = r, .arena = &arena, .budget = KEPT_PART_BYTES};
	struct push_cursor c = {0};
	struct change_set part;
	bool more = true, ok = true;
	int64_t start = first_ms(r, set);

	arena_init(&r->work, REPLICA_WORK_BYTES_MAX); /* the set's own lists live in the other one */
	arena_init(&arena, KEPT_ARENA_BYTES);
	while (ok && more) {
		arena_reset(&arena);
		p.cutter = (struct row_cutter){.column = c.column, .offset = c.offset, .begun = c.begun};
		ok = take_part(&p, set, c.inside ? c.after_seq : 0, start, &more) && make_blocks(&p, set, start, &part);
		if (ok) {
			advance(&c, &p, &part, more);
			part.step = r->now.schema.step; /* it may be offered again under another */
			ok = take(ctx, &part);
		}
	}
	free(p.rows);
	arena_deinit(&arena);
	arena_deinit(&r->work);
	r->work = work;
	return ok;
}

static bool next_set(struct replica *r, int64_t after, struct set *out)
{
	sqlite3_stmt *s = q(r, Q_SET_NEXT);

	return gate_step(&r->g, s, "i", after) && set_get(r, s, out);
}

static void advance(struct push_cursor *c, const struct push *p, struct change_set *out, bool more)
{
	out->part = c->inside ? c->part : 0;
	out->more = more;
	c->number = out->number;
	c->inside = more;
	c->part = more ? out->part + 1 : 0;
	c->after_seq = more ? p->after : 0;
	c->begun = p->large && p->piece.goes_on;
	c->column = c->begun ? p->cutter.column : 0;
	c->offset = c->begun ? p->cutter.offset : 0;
}

/* ---- Replays (R18) ---- */

static bool replay_is_next(struct replica *r, const struct push_cursor *cursor)
{
	int64_t after = cursor->number - cursor->inside, replay = kept_next(r, after);
	struct set set;

	if (replay == INT64_MAX || (cursor->inside && replay != cursor->number))
		return false;
	return !next_set(r, after, &set) || replay < set.number;
}

/* Bodies are pushed as they are kept; one that goes on goes alone. */
static enum ferry_error add_replay(struct push *p, struct push_cursor *cursor, size_t budget, size_t *used,
				   struct message_push *out, struct change_set *sets, bool *out_done, struct ferry_why *why)
{
	struct change_set *s = &sets[out->set_count];
	int64_t number = kept_next(p->r, cursor->number - cursor->inside);
	bool inside = cursor->inside;
	size_t before = p->arena->used_bytes;

	*out_done = true;
	if (!kept_part(p->r, number, inside ? cursor->part : 0, p->arena, s))
		return out->set_count > 0 ? FERRY_OK : ferry_fail(why, p->r->g.error != FERRY_OK ? p->r->g.error : FERRY_LIMIT,
								  "A kept change-set cannot be offered again: %s", p->r->g.why.text);
	if (out->set_count > 0 && (s->more || inside || *used + (p->arena->used_bytes - before) > budget))
		return FERRY_OK;
	*used += p->arena->used_bytes - before;
	*cursor = (struct push_cursor){.number = number, .inside = s->more, .part = s->more ? s->part + 1 : 0};
	out->set_count++;
	*out_done = s->more || inside || *used >= budget || out->set_count == PUSH_SETS_MAX;
	return FERRY_OK;
}

/* A change-set that was kept as it was written goes alone, part by part. */
static bool add_former(struct push *p, struct push_cursor *cursor, const struct set *set, struct message_push *out,
		     struct change_set *sets)
{
	uint32_t part = cursor->inside ? cursor->part : 0;
	struct change_set kept;

	if (!former_body(p->r, set->number, part, p->arena, &kept))
		return false;
	if (out->set_count > 0)
		return true;
	sets[0] = kept;
	out->set_count = 1;
	*cursor = (struct push_cursor){.number = set->number, .inside = kept.more, .part = kept.more ? part + 1 : 0};
	return true;
}

/* One more change-set, or part, into sets[]. *out_done: the message is full
 * or the outbox is. */
static enum ferry_error add_set(struct push *p, struct push_cursor *cursor, size_t budget, size_t *used,
				struct message_push *out, struct change_set *sets, bool *out_done, struct ferry_why *why)
{
	struct replica *r = p->r;
	bool more, inside = cursor->inside;
	struct set set;
	int64_t start;

	*out_done = true;
	arena_reset(&r->work);
	if (replay_is_next(r, cursor))
		return add_replay(p, cursor, budget, used, out, sets, out_done, why);
	if (!next_set(r, cursor->number - inside, &set) || (inside && set.number != cursor->number)) {
		cursor->inside = false;
		return r->g.error == FERRY_OK ? FERRY_OK : ferry_fail(why, r->g.error, "%s", r->g.why.text);
	}
	if (add_former(p, cursor, &set, out, sets))
		return FERRY_OK;
	set.depends = arena_copy(p->arena, set.depends, set.depends_count * sizeof(*set.depends));
	start = first_ms(r, &set);
	p->cutter = (struct row_cutter){.column = cursor->column, .offset = cursor->offset, .begun = cursor->begun};
	if (!take_part(p, &set, inside ? cursor->after_seq : 0, start, &more))
		return take_failed(p, &set, why);
	/* Parts go alone, so that they are cut alike each time (R7). */
	if (out->set_count > 0 && (more || inside || *used + p->bytes > budget ||
				   p->rows_before + p->count > PUSH_ROWS_MAX))
		return FERRY_OK;
	if (!make_blocks(p, &set, start, &sets[out->set_count]))
		return take_failed(p, &set, why);
	*used += p->bytes;
	p->rows_before += p->count;
	advance(cursor, p, &sets[out->set_count], more);
	out->set_count++;
	*out_done = more || inside || *used >= budget || out->set_count == PUSH_SETS_MAX;
	return FERRY_OK;
}

/* The same, with what it comes after, and what its author never saw (R18). */
static enum ferry_error add_in_order(struct push *p, struct push_cursor *cursor, size_t budget, size_t *used,
				     struct message_push *out, struct change_set *sets, bool *out_done, struct ferry_why *why)
{
	struct push_cursor before = *cursor;
	uint32_t count = out->set_count;
	enum ferry_error e;

	after_begin(p->r, cursor);
	e = add_set(p, cursor, budget, used, out, sets, out_done, why);
	if (e != FERRY_OK || out->set_count == count)
		return e;
	if (after_name(p->r, p->arena, &sets[count]) && gaps_name(p->r, p->arena, &sets[count]))
		return FERRY_OK;
	*cursor = before;
	out->set_count = count;
	*out_done = true;
	return ferry_fail(why, FERRY_LIMIT, "No memory for what a change-set comes after.");
}

/* ---- Reading ---- */

/* What was offered is durable before anything leaves, also where commits are only ordered on the
 * disk: a file that lost it would take what it pushed for what another copy did. With the
 * link up it goes along with the cuts. */
static enum ferry_error begin_synced(struct replica *r, struct ferry_why *why)
{
	if (!r->options.full)
		(void)sqlite3_exec(r->g.db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
	return replica_begin(r, why);
}

static enum ferry_error end_synced(struct replica *r, enum ferry_error begun, struct ferry_why *why)
{
	if (begun == FERRY_OK) {
		r->st.offered = r->st.last_number;
		begun = replica_end(r, why);
	}
	if (!r->options.full)
		(void)sqlite3_exec(r->g.db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
	return begun;
}

static bool anything_captured(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_LOG_ANY);
	bool any = gate_step(&r->g, s, "i", r->st.ingested);

	if (s != NULL)
		sqlite3_reset(s);
	return any;
}

/* The newest values of a change-set are those that stand in the rows (stacks, REPLICA.md), so it is read
 * from a state in which nothing that apps wrote since waits for its cut: else their next transaction
 * would leave with it in part (P4). *out_locked: such a state had to be made, and is held against them. */
static enum ferry_error begin_reading(struct replica *r, bool *out_locked, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;

	*out_locked = false;
	if (r->st.offered < r->st.last_number)
		e = end_synced(r, begin_synced(r, why), why);
	if (e != FERRY_OK)
		return e;
	gate_exec(&r->g, "BEGIN");
	if (!anything_captured(r) && r->g.error == FERRY_OK)
		return FERRY_OK;
	(void)sqlite3_exec(r->g.db, "ROLLBACK", NULL, NULL, NULL);
	if (r->g.error != FERRY_OK)
		return ferry_fail(why, r->g.error, "%s", r->g.why.text);
	e = begin_synced(r, why);
	if (e != FERRY_OK)
		return end_synced(r, e, why);
	cut_rest(r);
	*out_locked = true;
	return FERRY_OK;
}

static enum ferry_error end_reading(struct replica *r, bool locked, struct ferry_why *why)
{
	if (locked)
		return end_synced(r, FERRY_OK, why);
	(void)sqlite3_exec(r->g.db, "COMMIT", NULL, NULL, NULL); /* what was noted of replays stays */
	return FERRY_OK;
}

static enum ferry_error read_message(struct push *p, struct push_cursor *cursor, size_t budget, struct message_push *out,
				     struct change_set *sets, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK, ended;
	size_t used = 0;
	bool locked, noted = p->r->replays_noted;

	p->refused = 0;
	e = begin_reading(p->r, &locked, why);
	if (e != FERRY_OK)
		return e;
	for (bool done = false; !done && e == FERRY_OK;) {
		p->bad_code = 0;
		e = add_in_order(p, cursor, budget, &used, out, sets, &done, why);
	}
	ended = end_reading(p->r, locked, why);
	if (ended != FERRY_OK) {
		out->set_count = 0;
		p->r->replays_noted = noted;
		return ended;
	}
	/* What was made is sent; a failure comes again with the next call. */
	return out->set_count > 0 ? FERRY_OK : e;
}

enum ferry_error replica_next_push(void *store, struct push_cursor *cursor, size_t budget_bytes, struct arena *arena,
				   struct message_push *out, struct ferry_why *why)
{
	struct replica *r = store;
	struct push p = {.r = r, .arena = arena, .budget = budget_bytes};
	struct change_set *sets = arena_array(arena, PUSH_SETS_MAX, sizeof(*sets));
	struct push_cursor start = *cursor;
	enum ferry_error e;

	*out = (struct message_push){.sets = sets};
	r->g.error = FERRY_OK;
	r->push_budget = budget_bytes;
	if (sets == NULL)
		return ferry_fail(why, FERRY_LIMIT, "No memory for a message.");
	do {
		e = read_message(&p, cursor, budget_bytes, out, sets, why);
		if (e == FERRY_OK && p.refused != 0) /* set aside here: the others go on (P6) */
			e = refuse_locally(r, p.refused, p.bad_code, p.bad, why);
	} while (e == FERRY_OK && out->set_count == 0 && p.refused != 0);
	free(p.rows);
	if (out->set_count == 0 && e != FERRY_OK)
		*cursor = start;
	return out->set_count > 0 ? FERRY_OK : e;
}

/* What cannot be sent (a value without a wire form) is not given: it is refused
 * when its turn comes. */
void push_each(struct replica *r, int64_t number, void (*take)(struct replica *r, const struct change_set *set))
{
	struct push p = {.r = r, .budget = r->push_budget != 0 ? r->push_budget : PUSH_BUDGET_BYTES};
	struct push_cursor cursor = {0};
	struct arena arena;
	struct set set;

	arena_init(&arena, REPLICA_WORK_BYTES_MAX);
	p.arena = &arena;
	for (bool more = true; more && r->g.error == FERRY_OK;) {
		struct change_set part;
		int64_t start;

		arena_reset(&r->work);
		arena_reset(&arena);
		if (!next_set(r, number - 1, &set) || set.number != number)
			break;
		set.depends = arena_copy(&arena, set.depends, set.depends_count * sizeof(*set.depends));
		start = first_ms(r, &set);
		p.cutter = (struct row_cutter){.column = cursor.column, .offset = cursor.offset, .begun = cursor.begun};
		if (!take_part(&p, &set, cursor.inside ? cursor.after_seq : 0, start, &more) || !make_blocks(&p, &set, start, &part))
			break;
		advance(&cursor, &p, &part, more);
		part.step = r->now.schema.step;
		take(r, &part);
	}
	free(p.rows);
	arena_deinit(&arena);
}
