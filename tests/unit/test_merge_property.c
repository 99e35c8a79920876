/* Random histories against a model that is written from the truth table in
 * hub/merge.h and knows nothing of merge.c: every cell by itself, one
 * change-set at a time, no batches.
 *
 *   FERRY_SEED=n test-unit-merge_property    replays one seed
 *   FERRY_ROUNDS=n                           histories (default 300) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "hub/merge.h"

#define KEYS 4
#define COLUMNS 3
#define DEVICES 3
#define NOW 15
#define STEPS 40
#define BATCH_MAX 5
#define ROWS_MAX 3

static const struct schema_column columns[COLUMNS] = {
	{.num = 2, .name = "a", .kind = KIND_INT},
	{.num = 3, .name = "b", .kind = KIND_INT},
	{.num = 5, .name = "c", .kind = KIND_INT, .not_null = true, .has_default = false},
};
static const struct schema_table table = {.table = 7, .name = "t", .writable = true, .columns = columns, .column_count = COLUMNS};
static const struct schema schema = {.tables = &table, .table_count = 1};

struct cell {
	struct value value;
	struct version version;
};

struct row {
	bool exists, known;
	struct cell cells[COLUMNS];
	struct version gone; /* of the deletion */
	struct version born;
};

struct world {
	struct row rows[KEYS];
	int64_t position;
};

struct edit {
	int key;
	enum row_op op;
	uint32_t mask; /* columns listed */
	struct value values[COLUMNS];
	bool has_base;
	int64_t base; /* of the whole row, when it has one */
	int64_t later; /* at, after the change-set's */
};

struct set {
	int device;
	int64_t number, base, at;
	struct edit edits[ROWS_MAX];
	uint32_t count;
	bool bad; /* must be refused */
};

static uint64_t random_state;

static uint32_t below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 20) % n);
}

static struct uuid device_id(int d)
{
	return (struct uuid){.b = {(uint8_t)(d + 1)}};
}

static struct uuid key_id(int k)
{
	return (struct uuid){.b = {[3] = (uint8_t)(k + 1)}};
}

/* --- the model --- */

static int64_t at_of(const struct set *s, const struct edit *e)
{
	int64_t at = s->at + e->later;

	return at < NOW ? at : NOW;
}

static struct version mine(const struct set *s, const struct edit *e, int64_t position)
{
	return (struct version){.position = position, .at = at_of(s, e), .author = device_id(s->device), .number = s->number};
}

static int64_t model_base(const struct set *s, const struct edit *e)
{
	return e->has_base && e->base < s->base ? e->base : s->base;
}

static bool model_seen(const struct set *s, const struct edit *e, const struct version *v)
{
	struct uuid me = device_id(s->device);

	return v->position <= model_base(s, e) || (uuid_equal(&v->author, &me) && v->number <= s->number);
}

static bool model_later(const struct set *s, const struct edit *e, const struct version *v)
{
	struct uuid me = device_id(s->device);
	int order = uuid_compare(&me, &v->author);

	if (at_of(s, e) != v->at)
		return at_of(s, e) > v->at;
	return order != 0 ? order > 0 : s->number > v->number;
}

/* What the model expects of one cell: does the device's value stand, and is
 * there a conflict? */
static void model_cell(const struct set *s, const struct edit *e, struct cell *c, int i, bool life_seen, bool merge_anyway,
		       int64_t position, uint32_t *conflicts, bool *lost)
{
	bool stands;

	if (value_equal(&c->value, &e->values[i]))
		return;
	if (!life_seen && !merge_anyway) {
		(*conflicts)++;
		*lost = true;
		return;
	}
	stands = life_seen && model_seen(s, e, &c->version);
	if (!stands) {
		(*conflicts)++;
		stands = model_later(s, e, &c->version);
		*lost |= !stands;
	}
	if (stands)
		*c = (struct cell){e->values[i], mine(s, e, position)};
}

static void model_insert(const struct set *s, const struct edit *e, struct row *row, int64_t position, uint32_t *conflicts)
{
	*conflicts += row->known && !model_seen(s, e, &row->gone);
	row->exists = row->known = true;
	row->born = mine(s, e, position);
	for (int i = 0; i < COLUMNS; i++) {
		row->cells[i] = (struct cell){value_null(), row->born};
		if (e->mask & 1u << i)
			row->cells[i].value = e->values[i];
	}
}

static void model_delete(const struct set *s, const struct edit *e, struct row *row, int64_t position, uint32_t *conflicts,
			 bool *lost)
{
	bool all_seen = true;

	if (!model_seen(s, e, &row->born)) {
		(*conflicts)++;
		*lost = true;
		return;
	}
	for (int i = 0; i < COLUMNS; i++)
		all_seen &= model_seen(s, e, &row->cells[i].version);
	for (int i = 0; i < COLUMNS && !all_seen; i++)
		*conflicts += row->cells[i].value.kind != VALUE_NULL || !model_seen(s, e, &row->cells[i].version);
	row->exists = false;
	row->gone = mine(s, e, position);
}

static void model_edit(struct world *w, const struct set *s, const struct edit *e, uint32_t *conflicts, bool *lost)
{
	struct row *row = &w->rows[e->key];
	bool life_seen;

	if (e->op == ROW_INSERT && !row->exists) {
		model_insert(s, e, row, w->position, conflicts);
		return;
	}
	if (!row->exists) {
		uint32_t kept = e->op == ROW_UPDATE ? (uint32_t)__builtin_popcount(e->mask) : 0;

		*conflicts += kept;
		*lost |= kept > 0;
		return;
	}
	if (e->op == ROW_DELETE) {
		model_delete(s, e, row, w->position, conflicts, lost);
		return;
	}
	life_seen = model_seen(s, e, &row->born);
	for (int i = 0; i < COLUMNS; i++) {
		if (e->mask & 1u << i)
			model_cell(s, e, &row->cells[i], i, life_seen, e->op == ROW_INSERT, w->position, conflicts, lost);
	}
}

/* --- the merge, fed from the model's rows --- */

struct wire { /* a change-set with its storage */
	struct uuid keys[ROWS_MAX];
	uint16_t nums[ROWS_MAX][COLUMNS];
	struct value cells[ROWS_MAX][COLUMNS];
	struct row_base bases[ROWS_MAX];
	int64_t at[ROWS_MAX];
	struct block blocks[ROWS_MAX];
	struct change_set set;
};

static void to_wire(const struct set *s, struct wire *w)
{
	memset(w, 0, sizeof(*w));
	for (uint32_t r = 0; r < s->count; r++) {
		const struct edit *e = &s->edits[r];
		struct block *b = &w->blocks[r];

		w->keys[r] = key_id(e->key);
		w->at[r] = e->later;
		w->bases[r] = (struct row_base){.row = 0, .num = 0, .position = e->base};
		*b = (struct block){.table = 7, .op = e->op, .row_count = 1, .nums = w->nums[r], .keys = &w->keys[r],
				    .cells = w->cells[r], .at = &w->at[r], .bases = &w->bases[r], .base_count = e->has_base};
		for (int i = 0; i < COLUMNS; i++) {
			if (!(e->mask & 1u << i))
				continue;
			w->nums[r][b->column_count] = columns[i].num;
			w->cells[r][b->column_count++] = e->values[i];
		}
	}
	w->set = (struct change_set){.number = s->number, .base_position = s->base, .at = s->at, .blocks = w->blocks,
				     .block_count = s->count};
}

struct loaded {
	struct value cells[KEYS][COLUMNS];
	struct version versions[KEYS][COLUMNS];
};

static void load(struct merge *m, const struct world *w, struct loaded *l, bool backwards)
{
	for (int n = 0; n < KEYS; n++) {
		int k = backwards ? KEYS - 1 - n : n;
		const struct row *row = &w->rows[k];
		struct merge_row out = {.table = 7, .key = key_id(k), .exists = row->exists, .known = row->known};

		for (int i = 0; i < COLUMNS; i++) {
			l->cells[k][i] = row->cells[i].value;
			l->versions[k][i] = row->cells[i].version;
		}
		out.version = row->exists ? row->cells[0].version : row->gone;
		out.born = row->born.position;
		out.born_author = row->born.author;
		out.born_number = row->born.number;
		out.cells = l->cells[k];
		out.column_versions = l->versions[k];
		assert_int_equal(merge_row(m, &out), FERRY_OK);
	}
}

static struct row *row_of(struct world *w, const struct uuid *key)
{
	return &w->rows[key->b[3] - 1];
}

static int index_of(uint16_t num)
{
	for (int i = 0; i < COLUMNS; i++) {
		if (columns[i].num == num)
			return i;
	}
	fail();
	return 0;
}

/* Carries writes out as a database would, and as strictly. */
static void carry_out(struct world *w, const struct merge_writes *writes)
{
	for (uint32_t i = 0; i < writes->write_count; i++) {
		const struct merge_write *mw = &writes->writes[i];

		for (uint32_t r = 0; r < mw->row_count; r++) {
			const struct merge_stamp *st = &writes->stamps[mw->stamps[r]];
			struct version v = {.position = w->position, .at = st->at, .author = st->author, .number = st->number};
			struct row *row = row_of(w, &mw->keys[r]);

			assert_true(row->exists == (mw->op != ROW_INSERT));
			if (mw->op == ROW_DELETE) {
				row->exists = false;
				row->gone = v;
				continue;
			}
			for (int c = 0; c < COLUMNS && mw->op == ROW_INSERT; c++)
				row->cells[c] = (struct cell){value_null(), v};
			if (mw->op == ROW_INSERT)
				row->born = v;
			row->exists = row->known = true;
			for (uint16_t c = 0; c < mw->column_count; c++)
				row->cells[index_of(mw->nums[c])] = (struct cell){mw->cells[c * mw->row_count + r], v};
		}
	}
}

static void assert_same(const struct world *a, const struct world *b)
{
	for (int k = 0; k < KEYS; k++) {
		const struct row *x = &a->rows[k], *y = &b->rows[k];

		assert_int_equal(x->exists, y->exists);
		for (int i = 0; i < COLUMNS && x->exists; i++) {
			assert_true(value_equal(&x->cells[i].value, &y->cells[i].value));
			assert_int_equal(x->cells[i].version.at, y->cells[i].version.at);
			assert_int_equal(x->cells[i].version.number, y->cells[i].version.number);
			assert_true(uuid_equal(&x->cells[i].version.author, &y->cells[i].version.author));
		}
	}
}

/* P5: each of the device's values stands, or is in a conflict. */
static void assert_nothing_lost(const struct world *after, const struct set *s, const struct merge_outcome *o)
{
	for (uint32_t r = 0; r < s->count; r++) {
		const struct edit *e = &s->edits[r];
		struct uuid key = key_id(e->key);
		const struct row *row = &after->rows[e->key];

		for (int i = 0; i < COLUMNS; i++) {
			bool kept = row->exists && value_equal(&row->cells[i].value, &e->values[i]);

			for (uint32_t c = 0; c < o->conflict_count && !kept; c++)
				kept = uuid_equal(&o->conflicts[c].key, &key) && o->conflicts[c].num == columns[i].num &&
				       value_equal(&o->conflicts[c].device_value, &e->values[i]);
			assert_true(kept || !(e->mask & 1u << i));
		}
	}
}

/* And each value of the hub that the device had not seen stays, or is in one. */
static void assert_no_unseen_lost(const struct world *before, const struct world *after, const struct set *s,
				  const struct merge_outcome *o)
{
	for (uint32_t r = 0; r < s->count; r++) {
		const struct edit *e = &s->edits[r];
		const struct row *was = &before->rows[e->key], *is = &after->rows[e->key];
		struct uuid key = key_id(e->key);

		for (int i = 0; i < COLUMNS && was->exists; i++) {
			bool kept = is->exists && value_equal(&is->cells[i].value, &was->cells[i].value);

			kept |= model_seen(s, e, &was->cells[i].version);
			for (uint32_t c = 0; c < o->conflict_count && !kept; c++)
				kept = uuid_equal(&o->conflicts[c].key, &key) && o->conflicts[c].num == columns[i].num &&
				       value_equal(&o->conflicts[c].hub_value, &was->cells[i].value);
			assert_true(kept);
		}
	}
}

static void check_verdict(const struct set *s, const struct merge_outcome *o, uint32_t conflicts, bool lost)
{
	if (s->bad) {
		assert_int_equal(o->verdict, VERDICT_REJECTED);
		assert_int_equal(o->conflict_count, 0);
		return;
	}
	assert_int_equal(o->verdict, lost ? VERDICT_SUPERSEDED : VERDICT_ACCEPTED);
	assert_int_equal(o->conflict_count, conflicts);
}

/* One change-set, one transaction: model and merge side by side. */
static void step_alone(struct world *w, const struct set *s)
{
	struct world model = *w, before = *w;
	struct loaded loaded;
	struct merge *m = merge_new(&schema, 1 << 20);
	struct uuid author = device_id(s->device);
	struct merge_outcome o;
	struct merge_writes writes;
	struct wire wire;
	uint32_t conflicts = 0;
	bool lost = false;

	for (uint32_t r = 0; r < s->count && !s->bad; r++)
		model_edit(&model, s, &s->edits[r], &conflicts, &lost);
	to_wire(s, &wire);
	load(m, w, &loaded, false);
	assert_int_equal(merge_apply(m, &author, &wire.set, NOW, &o), FERRY_OK);
	check_verdict(s, &o, conflicts, lost);
	assert_int_equal(merge_take_writes(m, &writes), FERRY_OK);
	carry_out(w, &writes);
	assert_same(&model, w);
	if (!s->bad) {
		assert_nothing_lost(w, s, &o);
		assert_no_unseen_lost(&before, w, s, &o);
	}
	/* Again: nothing changes. */
	assert_int_equal(merge_apply(m, &author, &wire.set, NOW, &o), FERRY_OK);
	assert_int_equal(merge_take_writes(m, &writes), FERRY_OK);
	assert_int_equal(writes.write_count, 0);
	merge_free(m);
}

/* The same change-sets as one batch; rows loaded twice, in another order. */
static void step_batch(struct world *w, const struct set *sets, uint32_t count, bool in_parts)
{
	struct loaded first, second;
	struct merge *m = merge_new(&schema, 1 << 20);
	struct wire wires[BATCH_MAX];
	struct merge_writes writes;

	load(m, w, &first, true);
	load(m, w, &second, false);
	for (uint32_t i = 0; i < count; i++) {
		struct uuid author = device_id(sets[i].device);
		struct change_set part;
		struct merge_outcome o;

		to_wire(&sets[i], &wires[i]);
		part = wires[i].set;
		for (uint32_t p = 0; in_parts && p + 1 < wires[i].set.block_count; p++) {
			part.part = p;
			part.more = true;
			part.blocks = &wires[i].blocks[p];
			part.block_count = 1;
			assert_int_equal(merge_apply(m, &author, &part, NOW, &o), FERRY_OK);
			part.part = p + 1;
			part.more = false;
			part.blocks = &wires[i].blocks[p + 1];
		}
		assert_int_equal(merge_apply(m, &author, &part, NOW, &o), FERRY_OK);
		assert_int_equal(o.verdict == VERDICT_REJECTED, sets[i].bad);
	}
	assert_int_equal(merge_take_writes(m, &writes), FERRY_OK);
	carry_out(w, &writes);
	merge_free(m);
}

/* --- histories --- */

static struct value random_value(bool nullable)
{
	return nullable && below(6) == 0 ? value_null() : value_int(below(4));
}

static void random_edit(struct edit *e, const struct set *s, int key)
{
	static const enum row_op ops[] = {ROW_INSERT, ROW_UPDATE, ROW_UPDATE, ROW_UPDATE, ROW_DELETE};

	*e = (struct edit){.key = key, .op = ops[below(5)], .later = below(6)};
	if (e->op == ROW_UPDATE)
		e->mask = 1 + below((1u << COLUMNS) - 1);
	if (e->op == ROW_INSERT)
		e->mask = 4 | below(1u << COLUMNS);
	for (int i = 0; i < COLUMNS; i++)
		e->values[i] = random_value(i != 2);
	e->has_base = below(4) == 0;
	e->base = below((uint32_t)s->base + 3);
}

static void random_set(struct set *s, int64_t *numbers, int64_t position)
{
	uint32_t key = below(KEYS);

	*s = (struct set){.device = (int)below(DEVICES), .at = below(20)};
	s->number = ++numbers[s->device];
	s->base = below((uint32_t)position + 1);
	s->count = 1 + below(ROWS_MAX);
	for (uint32_t r = 0; r < s->count; r++)
		random_edit(&s->edits[r], s, (int)((key + r) % KEYS));
	if (below(10) == 0) { /* a required value is missing */
		struct edit *e = &s->edits[below(s->count)];

		e->op = ROW_UPDATE;
		e->mask |= 4;
		e->values[2] = value_null();
		s->bad = true;
	}
}

static void hub_edits(struct world *w)
{
	struct row *row = &w->rows[below(KEYS)];
	struct version v = {.position = ++w->position, .at = below(NOW + 1)};

	if (!row->exists) {
		row->born = v;
		for (int i = 0; i < COLUMNS; i++)
			row->cells[i] = (struct cell){value_int(below(4)), v};
		row->exists = row->known = true;
	} else if (below(4) == 0) {
		row->exists = false;
		row->gone = v;
	} else {
		row->cells[below(COLUMNS)] = (struct cell){value_int(below(4)), v};
	}
}

static void history(uint64_t seed)
{
	struct world w;
	int64_t numbers[DEVICES] = {0};

	memset(&w, 0, sizeof(w));
	random_state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	for (int step = 0; step < STEPS; step++) {
		struct set sets[BATCH_MAX];
		uint32_t count = 1 + below(BATCH_MAX);
		struct world batch;

		if (below(3) == 0)
			hub_edits(&w);
		for (uint32_t i = 0; i < count; i++)
			random_set(&sets[i], numbers, w.position);
		batch = w;
		batch.position = w.position + 1;
		step_batch(&batch, sets, count, below(2) == 0);
		for (uint32_t i = 0; i < count; i++) {
			w.position++;
			step_alone(&w, &sets[i]);
		}
		assert_same(&batch, &w);
	}
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static uint64_t current_seed;

static int print_seed(void **state)
{
	(void)state;
	print_message("last seed %llu (replay: FERRY_SEED=%llu)\n", (unsigned long long)current_seed,
		      (unsigned long long)current_seed);
	return 0;
}

static void random_histories_agree_with_the_model_and_lose_nothing(void **state)
{
	bool replay = getenv("FERRY_SEED") != NULL;
	uint64_t seed = number_from("FERRY_SEED", (uint64_t)time(NULL));
	uint64_t rounds = replay ? 1 : number_from("FERRY_ROUNDS", getenv("FERRY_VALGRIND") ? 20 : 300);

	(void)state;
	print_message("seeds %llu to %llu\n", (unsigned long long)seed, (unsigned long long)(seed + rounds - 1));
	for (uint64_t i = 0; i < rounds; i++) {
		current_seed = seed + i;
		history(current_seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_histories_agree_with_the_model_and_lose_nothing, print_seed),
	};

	return cmocka_run_group_tests_name("merge_property", tests, NULL, NULL);
}
