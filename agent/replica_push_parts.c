/* A change-set of the outbox in parts (R7): rows of one table, operation and set of
 * columns make a block [P 6.1]; a row too large for a part goes in pieces [P 6.6]. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_push.h"

#define AT_STEP_MS 100 /* times of rows are told this finely: they only break ties */
#define KEPT_PART_BYTES (256u << 10) /* of a change-set in the kept history, about */
#define KEPT_ARENA_BYTES ((size_t)24 * FERRY_MESSAGE_BYTES_MAX)

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

bool push_make_blocks(struct push *p, const struct set *set, int64_t first_ms, struct change_set *out)
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

/* ---- Parts ---- */

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
	return values != NULL && push_keep_values(p, values, p->piece.column_count);
}

/* Rows of a change-set from `after` on, up to the budget. *out_more: others
 * are left for the next part. */
bool push_take_part(struct push *p, const struct set *set, int64_t after, int64_t first_ms, bool *out_more)
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
		ok = push_take_row(p, s);
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

int64_t push_first_ms(struct replica *r, const struct set *set)
{
	sqlite3_stmt *s = set_entries(r, set, 0);
	int64_t at = INT64_MAX;

	if (gate_next(&r->g, s)) {
		at = sqlite3_column_int64(s, 6);
		sqlite3_reset(s);
	}
	return at;
}

void push_advance(struct push_cursor *c, const struct push *p, struct change_set *out, bool more)
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

bool push_parts(struct replica *r, const struct set *set, bool (*take)(void *ctx, const struct change_set *part), void *ctx)
{
	struct arena work = r->work, arena;
	struct push p = {.r = r, .arena = &arena, .budget = KEPT_PART_BYTES};
	struct push_cursor c = {0};
	struct change_set part;
	bool more = true, ok = true;
	int64_t start = push_first_ms(r, set);

	arena_init(&r->work, REPLICA_WORK_BYTES_MAX); /* the set's own lists live in the other one */
	arena_init(&arena, KEPT_ARENA_BYTES);
	while (ok && more) {
		arena_reset(&arena);
		p.cutter = (struct row_cutter){.column = c.column, .offset = c.offset, .begun = c.begun};
		ok = push_take_part(&p, set, c.inside ? c.after_seq : 0, start, &more) && push_make_blocks(&p, set, start, &part);
		if (ok) {
			push_advance(&c, &p, &part, more);
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
