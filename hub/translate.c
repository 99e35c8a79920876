#include "hub/translate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENAMES_MAX 16 /* of one column in turn */

struct blocks {
	struct block *list; /* in the arena */
	uint32_t count, capacity;
};

struct work {
	const struct schema *now;
	const struct past *past;
	struct arena *arena;
	struct translation *out;
	struct conversions *conversions;
	struct blocks blocks; /* of the translation */
	int64_t step;
	bool full;
	bool changed; /* it is not as it was */
};

struct move { /* where a column of a block goes */
	const struct schema_table *table;
	uint16_t num;
	uint16_t from;       /* index in the block */
	int was;             /* its kind then, if it was another; else PAST_NO_KIND */
	uint32_t then_table; /* what had that kind */
	uint16_t then;
	enum column_kind kind;
};

struct moves {
	struct move list[FERRY_COLUMNS_MAX + 1];
	uint16_t count;
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
		/* Where it is now counts before what was once declared. */
		if (p->to != 0 && (p->to_table != 0 || all.to_table == 0)) {
			all.to = p->to;
			all.to_table = p->to_table;
		}
		all.discarded |= p->discarded;
	}
	return all;
}

/* A table that is no more, whose columns are another's again. */
static bool was_part(const struct past *past, uint32_t table)
{
	for (uint32_t i = 0; i < past->count; i++) {
		if (past->columns[i].table == table && past->columns[i].to_table != 0)
			return true;
	}
	return false;
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
	(void)snprintf(w->out->why.text, sizeof(w->out->why.text), "%s.%s %s", t != NULL ? t->name : "a former table", name, what);
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
	m->then_table = table;
	m->then = num;
}

static void refuse_gone(struct work *w, const struct schema_table *t, const char *name)
{
	refuse(w, FERRY_UNKNOWN_COLUMN, t, name != NULL ? name : "a column of a former schema",
	       "is no more: what was written there has no place");
}

/* False: the column is left out, or the change-set refused. */
static bool place_column(struct work *w, uint32_t table, uint16_t num, bool nothing, struct move *m)
{
	for (int i = 0; i < RENAMES_MAX; i++) {
		const struct schema_table *t = find_table(w->now, table);
		const struct schema_column *c = t != NULL ? find_column(t, num) : NULL;
		struct past_column p;

		if (c != NULL) {
			m->table = t;
			m->num = num;
			m->kind = c->kind;
			note_kind(w, table, num, m);
			return true;
		}
		p = what_became(w->past, table, num);
		if (p.to == 0) {
			if (!p.discarded && !nothing)
				refuse_gone(w, t, p.name);
			return false;
		}
		note_kind(w, table, num, m);
		table = p.to_table != 0 ? p.to_table : table;
		num = p.to;
	}
	return false;
}

/* In the order of tables, the block's own first, and numbers. */
static bool comes_before(const struct move *a, const struct move *b, uint32_t own)
{
	if (a->table != b->table)
		return a->table->table == own || (b->table->table != own && a->table->table < b->table->table);
	return a->num < b->num;
}

/* Of two for one column the one that had its number. */
static void add_move(struct moves *moves, const struct move *m, const struct block *b)
{
	struct move *list = moves->list;
	uint16_t at = moves->count;

	while (at > 0 && comes_before(m, &list[at - 1], b->table))
		at--;
	if (at > 0 && list[at - 1].table == m->table && list[at - 1].num == m->num) {
		if (b->nums[m->from] == m->num)
			list[at - 1] = *m;
		return;
	}
	memmove(&list[at + 1], &list[at], (size_t)(moves->count - at) * sizeof(*list));
	list[at] = *m;
	moves->count++;
}

static bool moves_nothing(const struct block *b, const struct moves *moves)
{
	bool same = moves->count == b->column_count;

	for (uint16_t i = 0; same && i < moves->count; i++)
		same = moves->list[i].table->table == b->table && moves->list[i].num == b->nums[i] && moves->list[i].was == PAST_NO_KIND;
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
static const char *convert_asked(struct work *w, const struct move *m, const struct value *in, struct value *out)
{
	struct conversions *c = w->conversions;

	*out = *in;
	if (in->kind == VALUE_NULL)
		return NULL;
	if (c == NULL)
		return "has another type now: a change-set of several messages is not converted";
	if (!c->answered) {
		ask(w, &(struct conversion){.table = m->then_table, .num = m->then, .to_table = m->table->table, .to = m->num,
					    .step = w->step, .kind = (enum column_kind)m->was, .now = m->kind, .in = *in});
		return NULL;
	}
	*out = c->list[c->next].out;
	return c->list[c->next++].refusal;
}

/* Into out[0..rows). NULL: all found their place; else why one did not. */
static const char *move_cells(struct work *w, const struct move *m, const struct value *in, uint32_t rows, struct value *out)
{
	bool asks = m->was != PAST_NO_KIND && converts_by_function(w, m->then_table, m->then);
	const char *first = NULL;

	for (uint32_t r = 0; r < rows; r++) {
		const char *why = NULL;

		out[r] = in[r];
		if (asks)
			why = convert_asked(w, m, &in[r], &out[r]);
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
static void move_olds(struct work *w, const struct block *b, const struct move *moves, uint16_t count, struct block *out)
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
			if (move_cells(w, &moves[i], b->olds + (size_t)o * b->row_count, b->row_count,
				       olds + (size_t)out->old_count * b->row_count) == NULL)
				nums[out->old_count++] = moves[i].num;
		}
	}
}

static void rewrite_block(struct work *w, const struct block *b, const struct move *moves, uint16_t count, struct block *out)
{
	uint16_t *nums = arena_array(w->arena, count + 1u, sizeof(*nums));
	struct value *cells = arena_array(w->arena, (size_t)count * b->row_count + 1, sizeof(*cells));

	*out = *b;
	out->nums = nums;
	out->cells = cells;
	out->column_count = count;
	w->full |= nums == NULL || cells == NULL;
	for (uint16_t i = 0; !w->full && i < count; i++) {
		const struct move *m = &moves[i];
		const char *why = move_cells(w, m, b->cells + (size_t)m->from * b->row_count, b->row_count,
					     cells + (size_t)i * b->row_count);

		nums[i] = m->num;
		if (why != NULL)
			refuse(w, FERRY_BAD_VALUE, m->table, find_column(m->table, m->num)->name, why);
	}
	move_bases(w, b, moves, count, out);
	move_olds(w, b, moves, count, out);
}

/* ---- Columns that went to another table, or came back from one ---- */

static bool is_text_default(const char *literal, const struct value *v)
{
	size_t n = strlen(literal), at = 0;

	if (n < 2 || literal[0] != '\'' || literal[n - 1] != '\'')
		return false;
	for (size_t i = 1; i < n - 1; i++, at++) {
		if (at == v->n || v->p[at] != (uint8_t)literal[i])
			return false;
		i += literal[i] == '\'' && literal[i + 1] == '\''; /* doubled in SQL */
	}
	return at == v->n;
}

/* Would the database have this value without being told? A new row of a device holds the
 * defaults, too: whoever wrote it said nothing by them. */
static bool is_default(const struct schema_column *c, const struct value *v)
{
	const char *literal = c->default_sql;

	if (v->kind == VALUE_NULL || literal == NULL)
		return v->kind == VALUE_NULL;
	switch (v->kind) {
	case VALUE_BOOL:
		return strcmp(literal, v->b ? "1" : "0") == 0;
	case VALUE_INT:
		return strtoll(literal, NULL, 10) == v->i && strpbrk(literal, ".eE") == NULL;
	case VALUE_TEXT:
		return is_text_default(literal, v);
	default:
		return false;
	}
}

static bool row_says_nothing(const struct schema_table *t, const struct block *b, uint32_t r)
{
	for (uint16_t i = 0; i < b->column_count; i++) {
		if (!is_default(find_column(t, b->nums[i]), &b->cells[(size_t)i * b->row_count + r]))
			return false;
	}
	return true;
}

/* Of a new row's block: out gets the rows that are kept, `to` says where each of b's goes. */
static void copy_rows(struct work *w, const struct block *b, const uint32_t *to, uint32_t kept, struct block *out)
{
	struct uuid *keys = arena_array(w->arena, kept + 1u, sizeof(*keys));
	int64_t *at = arena_array(w->arena, kept + 1u, sizeof(*at));
	struct value *cells = arena_array(w->arena, (size_t)b->column_count * kept + 1, sizeof(*cells));
	struct row_base *bases = arena_array(w->arena, b->base_count + 1u, sizeof(*bases));

	*out = *b;
	w->full |= keys == NULL || at == NULL || cells == NULL || bases == NULL;
	if (w->full)
		return;
	for (uint32_t r = 0; r < b->row_count; r++) {
		if (to[r] == UINT32_MAX)
			continue;
		keys[to[r]] = b->keys[r];
		at[to[r]] = b->at != NULL ? b->at[r] : 0;
		for (uint16_t i = 0; i < b->column_count; i++)
			cells[(size_t)i * kept + to[r]] = b->cells[(size_t)i * b->row_count + r];
	}
	out->base_count = 0;
	for (uint32_t i = 0; i < b->base_count; i++) {
		if (to[b->bases[i].row] == UINT32_MAX)
			continue;
		bases[out->base_count] = b->bases[i];
		bases[out->base_count++].row = to[b->bases[i].row];
	}
	out->keys = keys;
	out->at = b->at != NULL ? at : NULL;
	out->cells = cells;
	out->bases = bases;
	out->row_count = kept;
	out->old_count = 0; /* a new row has none */
}

/* Rows of a restricted table need its permission: none is made that says nothing. */
static void drop_silent_rows(struct work *w, const struct schema_table *t, struct block *b)
{
	uint32_t *to = arena_array(w->arena, b->row_count + 1u, sizeof(*to)), kept = 0;
	struct block out;

	w->full |= to == NULL;
	if (w->full)
		return;
	for (uint32_t r = 0; r < b->row_count; r++)
		to[r] = row_says_nothing(t, b, r) ? UINT32_MAX : kept++;
	if (kept == b->row_count)
		return;
	copy_rows(w, b, to, kept, &out);
	*b = out;
}

static void add_block(struct work *w, const struct block *b)
{
	struct blocks *all = &w->blocks;

	if (all->count == all->capacity) {
		uint32_t capacity = all->capacity * 2 + 8;
		struct block *more = arena_array(w->arena, capacity, sizeof(*more));

		w->full |= more == NULL;
		if (more == NULL)
			return;
		if (all->count > 0)
			memcpy(more, all->list, all->count * sizeof(*more));
		all->list = more;
		all->capacity = capacity;
	}
	all->list[all->count++] = *b;
}

/* The columns of one table, which is not the block's own: a part of each row. */
static void add_part(struct work *w, const struct block *b, const struct move *moves, uint16_t count)
{
	struct block part;

	rewrite_block(w, b, moves, count, &part);
	part.table = moves[0].table->table;
	if (b->op == ROW_INSERT && find_table(w->now, b->table) != NULL) {
		if (!w->full)
			drop_silent_rows(w, moves[0].table, &part);
	} else {
		part.op = ROW_UPDATE; /* whatever its device did: a restricted row's is not the table's */
		part.part_of = b->table;
	}
	if (part.row_count > 0)
		add_block(w, &part);
}

/* All from one on, table by table. */
static void add_parts(struct work *w, const struct block *b, const struct moves *moves, uint16_t from)
{
	for (uint16_t i = from, n; i < moves->count && !w->full; i = (uint16_t)(i + n)) {
		n = 1;
		while (i + n < moves->count && moves->list[i + n].table == moves->list[i].table)
			n++;
		add_part(w, b, &moves->list[i], n);
	}
}

/* A restricted row that a device deleted, of a table that is no more: nothing is known of its
 * columns. One that is never NULL stays. */
static void add_blank(struct work *w, const struct block *b)
{
	struct value *nothing = arena_array(w->arena, (size_t)(FERRY_COLUMNS_MAX + 1) * b->row_count + 1, sizeof(*nothing));
	uint16_t *nums = arena_array(w->arena, FERRY_COLUMNS_MAX + 1u, sizeof(*nums));
	struct moves moves = {.count = 0};
	struct block from = *b;

	w->full |= nothing == NULL || nums == NULL;
	if (w->full)
		return;
	from.column_count = 0;
	from.nums = nums;
	from.cells = nothing;
	from.op = ROW_UPDATE;
	for (uint32_t i = 0; i < w->past->count && from.column_count < FERRY_COLUMNS_MAX; i++) {
		struct move m = {.from = from.column_count, .was = PAST_NO_KIND};
		const struct schema_column *c;

		if (w->past->columns[i].table != b->table || w->past->columns[i].to_table == 0 ||
		    !place_column(w, b->table, w->past->columns[i].num, true, &m))
			continue;
		c = find_column(m.table, m.num);
		if (c->not_null || c->read_only)
			continue;
		nums[from.column_count++] = w->past->columns[i].num;
		add_move(&moves, &m, &from);
	}
	add_parts(w, &from, &moves, 0);
}

/* ---- A change-set ---- */

/* Adds what becomes of it. */
static void translate_block(struct work *w, const struct block *b)
{
	const struct schema_table *own = find_table(w->now, b->table);
	struct moves moves = {.count = 0};
	uint16_t i = 0;

	if (own == NULL && !was_part(w->past, b->table)) {
		add_block(w, b); /* the merge refuses it */
		return;
	}
	for (uint16_t c = 0; c < b->column_count; c++) {
		struct move m = {.from = c, .was = PAST_NO_KIND};

		if (place_column(w, b->table, b->nums[c], says_nothing(b, c), &m))
			add_move(&moves, &m, b);
	}
	if (own != NULL && moves_nothing(b, &moves)) {
		add_block(w, b);
		return;
	}
	w->changed = true;
	if (own == NULL && b->op == ROW_DELETE)
		add_blank(w, b);
	while (i < moves.count && moves.list[i].table == own)
		i++;
	if (own != NULL && (i > 0 || b->op != ROW_UPDATE)) {
		struct block kept;

		rewrite_block(w, b, moves.list, i, &kept);
		add_block(w, &kept);
	}
	add_parts(w, b, &moves, i);
}

enum ferry_error translate_set(const struct schema *now, const struct past *past, const struct change_set *in, struct arena *a,
			       struct conversions *conversions, struct translation *out)
{
	struct work w = {.now = now, .past = past, .arena = a, .conversions = conversions, .out = out, .step = in->step};
	struct change_set *set;

	*out = (struct translation){.set = in};
	if (in->step == 0 || in->step >= now->step || past->count == 0)
		return FERRY_OK;
	set = arena_copy(a, in, sizeof(*in));
	if (set == NULL)
		return FERRY_NO_MEMORY;
	for (uint32_t i = 0; i < in->block_count && !w.full; i++)
		translate_block(&w, &in->blocks[i]);
	set->blocks = w.blocks.list;
	set->block_count = w.blocks.count;
	if (w.changed && out->code == FERRY_OK)
		out->set = set;
	return w.full ? FERRY_NO_MEMORY : FERRY_OK;
}
