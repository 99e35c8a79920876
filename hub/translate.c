#include "hub/translate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENAMES_MAX 16 /* of one column in turn */

struct work {
	const struct schema *now;
	const struct past *past;
	struct arena *arena;
	struct translation *out;
	struct conversions *conversions;
	int64_t step;
	bool full;
};

struct move { /* where a column of a block goes */
	uint16_t num;
	uint16_t from; /* index in the block */
	int was;       /* its kind then, if it was another; else PAST_NO_KIND */
	uint16_t then; /* the number that had that kind */
	enum column_kind kind;
};

/* ---- What is known ---- */

static const struct schema_table *find_table(const struct schema *schema, uint32_t number)
{
	for (uint32_t low = 0, high = schema->table_count; low < high;) {
		uint32_t middle = low + (high - low) / 2;

		if (schema->tables[middle].table == number)
			return &schema->tables[middle];
		if (schema->tables[middle].table < number)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static const struct schema_column *find_column(const struct schema_table *t, uint16_t num)
{
	for (uint16_t i = 0; i < t->column_count; i++) {
		if (t->columns[i].num == num)
			return &t->columns[i];
	}
	return NULL;
}

/* Its name, where it went, or that nobody wants it: said by one row or several. */
static struct past_column what_became(const struct past *past, uint32_t table, uint16_t num)
{
	struct past_column all = {.table = table, .num = num};

	for (uint32_t i = 0; i < past->count; i++) {
		const struct past_column *p = &past->columns[i];

		if (p->table != table || p->num != num)
			continue;
		all.name = p->name[0] != '\0' ? p->name : all.name;
		all.to = p->to != 0 ? p->to : all.to;
		all.discarded |= p->discarded;
	}
	return all;
}

/* The kind that a column had under the schema of a step, if it was another. */
static int kind_then(const struct work *w, uint32_t table, uint16_t num)
{
	for (uint32_t i = 0; i < w->past->count; i++) {
		const struct past_column *p = &w->past->columns[i];

		if (p->table == table && p->num == num && p->kind != PAST_NO_KIND && p->step > w->step)
			return p->kind;
	}
	return PAST_NO_KIND;
}

/* Does a declared function stand between then and now? */
static bool converts_by_function(const struct work *w, uint32_t table, uint16_t num)
{
	for (uint32_t i = 0; i < w->past->count; i++) {
		const struct past_column *p = &w->past->columns[i];

		if (p->table == table && p->num == num && p->converts && p->step > w->step)
			return true;
	}
	return false;
}

/* ---- Values ---- */

static bool text_like(enum column_kind kind)
{
	return kind == KIND_TEXT || kind == KIND_CITEXT || kind == KIND_ENUM || kind == KIND_OTHER || kind == KIND_NUMERIC ||
	       kind == KIND_JSON || kind == KIND_ARRAY;
}

static bool number_text(struct arena *a, int64_t i, struct value *out)
{
	char text[24];
	const char *copy;
	int n = snprintf(text, sizeof(text), "%lld", (long long)i);

	copy = arena_text(a, text, (size_t)n);
	*out = copy != NULL ? value_text(copy, (size_t)n) : value_null();
	return copy != NULL;
}

static bool text_number(const struct value *v, int64_t *out)
{
	char text[24], *end;

	if (v->kind != VALUE_TEXT || v->n == 0 || v->n >= sizeof(text) || strchr("-0123456789", v->p[0]) == NULL)
		return false;
	memcpy(text, v->p, v->n);
	text[v->n] = '\0';
	*out = strtoll(text, &end, 10);
	return *end == '\0';
}

/* PostgreSQL's casts between these kinds, where they cannot fail or round. */
static bool convert(struct arena *a, int was, enum column_kind now, const struct value *v, struct value *out)
{
	int64_t i;

	*out = *v;
	if (v->kind == VALUE_NULL || (text_like((enum column_kind)was) && text_like(now)))
		return true;
	if (was == KIND_INT && (now == KIND_TEXT || now == KIND_CITEXT || now == KIND_NUMERIC))
		return number_text(a, v->i, out);
	if (was == KIND_BOOL && (now == KIND_TEXT || now == KIND_CITEXT)) {
		*out = v->b ? value_text("true", 4) : value_text("false", 5);
		return true;
	}
	if (was == KIND_BOOL && now == KIND_INT)
		*out = value_int(v->b);
	else if (was == KIND_INT && now == KIND_FLOAT)
		*out = (struct value){.kind = VALUE_FLOAT, .f = (double)v->i};
	else if (was == KIND_INT && now == KIND_BOOL)
		*out = (struct value){.kind = VALUE_BOOL, .b = v->i != 0};
	else if (text_like((enum column_kind)was) && now == KIND_INT && text_number(v, &i))
		*out = value_int(i);
	else
		return false;
	return true;
}

static void refuse(struct work *w, int code, const struct schema_table *t, const char *name, const char *what)
{
	if (w->out->code != FERRY_OK)
		return;
	w->out->code = code;
	(void)snprintf(w->out->why.text, sizeof(w->out->why.text), "%s.%s %s", t->name, name, what);
}

/* ---- Blocks ---- */

static bool says_nothing(const struct block *b, uint16_t column)
{
	for (uint32_t r = 0; r < b->row_count; r++) {
		if (b->cells[(size_t)column * b->row_count + r].kind != VALUE_NULL)
			return false;
	}
	return true;
}

static void note_kind(const struct work *w, uint32_t table, uint16_t num, struct move *m)
{
	if (m->was != PAST_NO_KIND)
		return;
	m->was = kind_then(w, table, num);
	m->then = num;
}

/* False: the column is left out, or the change-set refused. */
static bool place_column(struct work *w, const struct schema_table *t, uint16_t num, bool nothing, struct move *m)
{
	for (int i = 0; i < RENAMES_MAX; i++) {
		const struct schema_column *c = find_column(t, num);
		struct past_column p;

		if (c != NULL) {
			m->num = num;
			m->kind = c->kind;
			note_kind(w, t->table, num, m);
			return true;
		}
		p = what_became(w->past, t->table, num);
		if (p.to == 0) {
			if (!p.discarded && !nothing)
				refuse(w, FERRY_UNKNOWN_COLUMN, t, p.name != NULL ? p.name : "a column of a former schema",
				       "is no more: what was written there has no place");
			return false;
		}
		note_kind(w, t->table, num, m);
		num = p.to;
	}
	return false;
}

/* In the order of numbers; of two for one column the one that had its number. */
static uint16_t add_move(struct move *moves, uint16_t count, const struct move *m, const uint16_t *nums)
{
	uint16_t at = count;

	while (at > 0 && moves[at - 1].num > m->num)
		at--;
	if (at > 0 && moves[at - 1].num == m->num) {
		if (nums[m->from] == m->num)
			moves[at - 1] = *m;
		return count;
	}
	memmove(&moves[at + 1], &moves[at], (size_t)(count - at) * sizeof(*moves));
	moves[at] = *m;
	return (uint16_t)(count + 1);
}

static bool moves_nothing(const struct block *b, const struct move *moves, uint16_t count)
{
	bool same = count == b->column_count;

	for (uint16_t i = 0; same && i < count; i++)
		same = moves[i].num == b->nums[i] && moves[i].was == PAST_NO_KIND;
	return same;
}

static void ask(struct work *w, const struct conversion *wanted)
{
	struct conversions *c = w->conversions;

	if (c->count == c->capacity) {
		uint32_t capacity = c->capacity == 0 ? 16 : c->capacity * 2;
		struct conversion *more = arena_array(w->arena, capacity, sizeof(*more));

		w->full |= more == NULL;
		if (more == NULL)
			return;
		if (c->count > 0)
			memcpy(more, c->list, c->count * sizeof(*more));
		c->list = more;
		c->capacity = capacity;
	}
	c->list[c->count++] = *wanted;
}

/* NULL: there is a value in *out. Else why there is none. */
static const char *convert_asked(struct work *w, const struct schema_table *t, const struct move *m, const struct value *in,
				 struct value *out)
{
	struct conversions *c = w->conversions;

	*out = *in;
	if (in->kind == VALUE_NULL)
		return NULL;
	if (c == NULL)
		return "has another type now: a change-set of several messages is not converted";
	if (!c->answered) {
		ask(w, &(struct conversion){.table = t->table, .num = m->then, .to = m->num, .step = w->step,
					    .kind = (enum column_kind)m->was, .now = m->kind, .in = *in});
		return NULL;
	}
	*out = c->list[c->next].out;
	return c->list[c->next++].refusal;
}

/* Into out[0..rows). NULL: all found their place; else why one did not. */
static const char *move_cells(struct work *w, const struct schema_table *t, const struct move *m, const struct value *in,
			      uint32_t rows, struct value *out)
{
	bool asks = m->was != PAST_NO_KIND && converts_by_function(w, t->table, m->then);
	const char *first = NULL;

	for (uint32_t r = 0; r < rows; r++) {
		const char *why = NULL;

		out[r] = in[r];
		if (asks)
			why = convert_asked(w, t, m, &in[r], &out[r]);
		else if (m->was != PAST_NO_KIND && !convert(w->arena, m->was, m->kind, &in[r], &out[r]))
			why = "has another type now, in which what was written has no place";
		first = first != NULL ? first : why;
	}
	return first;
}

static const struct move *move_of(const struct block *b, const struct move *moves, uint16_t count, uint16_t num)
{
	for (uint16_t i = 0; i < count; i++) {
		if (b->nums[moves[i].from] == num)
			return &moves[i];
	}
	return NULL;
}

static void move_bases(struct work *w, const struct block *b, const struct move *moves, uint16_t count, struct block *out)
{
	struct row_base *bases = arena_array(w->arena, b->base_count + 1u, sizeof(*bases));

	out->base_count = 0;
	out->bases = bases;
	w->full |= bases == NULL;
	for (uint32_t i = 0; bases != NULL && i < b->base_count; i++) {
		const struct move *m = move_of(b, moves, count, b->bases[i].num);
		struct row_base base = b->bases[i];
		uint32_t at = out->base_count;

		if (base.num != 0 && m == NULL)
			continue;
		base.num = base.num == 0 ? 0 : m->num;
		while (at > 0 && bases[at - 1].row == base.row && bases[at - 1].num > base.num) {
			bases[at] = bases[at - 1];
			at--;
		}
		bases[at] = base;
		out->base_count++;
	}
}

/* Old values follow their columns; where one cannot, its column merges without. */
static void move_olds(struct work *w, const struct schema_table *t, const struct block *b, const struct move *moves,
		      uint16_t count, struct block *out)
{
	uint16_t *nums = arena_array(w->arena, b->old_count + 1u, sizeof(*nums));
	struct value *olds = arena_array(w->arena, (size_t)b->old_count * b->row_count + 1, sizeof(*olds));

	out->old_count = 0;
	out->old_nums = nums;
	out->olds = olds;
	w->full |= nums == NULL || olds == NULL;
	for (uint16_t i = 0; !w->full && i < count; i++) {
		for (uint16_t o = 0; o < b->old_count; o++) {
			if (b->old_nums[o] != b->nums[moves[i].from])
				continue;
			if (move_cells(w, t, &moves[i], b->olds + (size_t)o * b->row_count, b->row_count,
				       olds + (size_t)out->old_count * b->row_count) == NULL)
				nums[out->old_count++] = moves[i].num;
		}
	}
}

static void rewrite_block(struct work *w, const struct schema_table *t, const struct block *b, const struct move *moves,
			  uint16_t count, struct block *out)
{
	uint16_t *nums = arena_array(w->arena, count + 1u, sizeof(*nums));
	struct value *cells = arena_array(w->arena, (size_t)count * b->row_count + 1, sizeof(*cells));

	*out = *b;
	out->nums = nums;
	out->cells = cells;
	out->column_count = count;
	w->full |= nums == NULL || cells == NULL;
	for (uint16_t i = 0; !w->full && i < count; i++) {
		const char *why = move_cells(w, t, &moves[i], b->cells + (size_t)moves[i].from * b->row_count, b->row_count,
					     cells + (size_t)i * b->row_count);

		nums[i] = moves[i].num;
		if (why != NULL)
			refuse(w, FERRY_BAD_VALUE, t, find_column(t, moves[i].num)->name, why);
	}
	move_bases(w, b, moves, count, out);
	move_olds(w, t, b, moves, count, out);
}

/* False: nothing is left of it. *changed: it is not as it was. */
static bool translate_block(struct work *w, const struct block *b, struct block *out, bool *changed)
{
	const struct schema_table *t = find_table(w->now, b->table);
	struct move moves[FERRY_COLUMNS_MAX + 1];
	uint16_t count = 0;

	*out = *b;
	if (t == NULL) /* the merge refuses it */
		return true;
	for (uint16_t c = 0; c < b->column_count; c++) {
		struct move m = {.from = c, .was = PAST_NO_KIND};

		if (place_column(w, t, b->nums[c], says_nothing(b, c), &m))
			count = add_move(moves, count, &m, b->nums);
	}
	if (moves_nothing(b, moves, count))
		return true;
	*changed = true;
	if (b->op == ROW_UPDATE && count == 0)
		return false;
	rewrite_block(w, t, b, moves, count, out);
	return true;
}

enum ferry_error translate_set(const struct schema *now, const struct past *past, const struct change_set *in, struct arena *a,
			       struct conversions *conversions, struct translation *out)
{
	struct work w = {.now = now, .past = past, .arena = a, .conversions = conversions, .out = out, .step = in->step};
	struct change_set *set;
	struct block *blocks;
	bool changed = false;

	*out = (struct translation){.set = in};
	if (in->step == 0 || in->step >= now->step || past->count == 0)
		return FERRY_OK;
	set = arena_copy(a, in, sizeof(*in));
	blocks = arena_array(a, in->block_count + 1u, sizeof(*blocks));
	if (set == NULL || blocks == NULL)
		return FERRY_NO_MEMORY;
	set->blocks = blocks;
	set->block_count = 0;
	for (uint32_t i = 0; i < in->block_count && !w.full; i++)
		set->block_count += translate_block(&w, &in->blocks[i], &blocks[set->block_count], &changed);
	if (changed && out->code == FERRY_OK)
		out->set = set;
	return w.full ? FERRY_NO_MEMORY : FERRY_OK;
}
