#include "tests/sim/model_inner.h"

#include <stdlib.h>
#include <string.h>

#include "shared/cell_hash.h"

/* What a device asks about ranges of keys [P 9.11], answered from a past state. */

#define CUTS 4 /* few rows: so that ranges are asked about again */

struct cutting {
	const struct sim_state *state;
	unsigned changes; /* of its schema */
	int scope;
	uint32_t table;
};

static bool holds(const struct cutting *c, int key)
{
	return c->state->rows[key].exists && c->state->rows[key].table == c->table && sim_scope_of(c->state, key) == c->scope;
}

static uint64_t row_hash(const struct cutting *c, int key)
{
	uint64_t seed = cell_hash_row_seed(sim_key(key)), hash = seed;
	const struct schema_table *t = sim_table(c->changes, c->table);
	for (int i = 0; t && i < t->column_count; i++) {
		const struct schema_column *column = &t->columns[i];
		int cell = sim_cell_of(c->table, column->num);
		struct value v = sim_value(column->kind, c->table, cell, c->state->rows[key].cells[cell]);
		if (v.kind != VALUE_NULL)
			hash ^= cell_hash(seed, column->num, column->kind, &v);
	}
	return hash;
}

static int by_key(const void *a, const void *b)
{
	return uuid_compare(sim_key(*(const int *)a), sim_key(*(const int *)b));
}

static uint32_t cut(const struct cutting *c, const struct model_range *asked, struct key_range *out)
{
	struct key_range rest = {.after = asked->after, .upto = asked->upto};
	int keys[KEYS_MAX];
	uint32_t n = 0, cuts = 0;
	for (int key = 0; key < KEYS_MAX; key++)
		if (holds(c, key) && uuid_compare(sim_key(key), &asked->after) > 0 &&
		    (uuid_is_zero(&asked->upto) || uuid_compare(sim_key(key), &asked->upto) <= 0))
			keys[n++] = key;
	if (n > 1)
		qsort(keys, n, sizeof keys[0], by_key);
	for (uint32_t i = 0; i < n; i++) {
		if (i == 0 || n <= CUTS || i * CUTS / n != (i - 1) * CUTS / n)
			out[cuts++] = (struct key_range){.after = rest.after};
		out[cuts - 1].upto = rest.after = *sim_key(keys[i]);
		out[cuts - 1].rows++;
		out[cuts - 1].hash ^= row_hash(c, keys[i]);
	}
	if (uuid_is_zero(&rest.upto) || !uuid_equal(&rest.after, &rest.upto))
		out[cuts++] = rest;
	return cuts;
}

bool model_question_copy(const struct message_compare *from, struct model_question *to)
{
	*to = (struct model_question){.asked = true, .scope = sim_scope_number(from->scope), .table = from->table};
	for (uint32_t i = 0; i < from->range_count; i++)
		to->ranges[to->range_count++] = (struct model_range){.after = from->ranges[i].after, .upto = from->ranges[i].upto};
	for (uint32_t i = 0; i < from->key_count; i++) {
		int key = sim_key_number(&from->keys[i].key);
		if (key < 0)
			return false;
		to->wanted[key] = true;
	}
	return to->scope >= 0 && to->table >= 1 && to->table <= TABLES;
}

void model_compare_answer(const struct call *call, struct arena *arena, const struct past_commit *at, struct feed_result *r)
{
	const struct sim_state *state = &at->state;
	const struct model_question *q = &call->question;
	struct cutting c = {.state = state, .changes = at->changes, .scope = q->scope, .table = q->table};
	struct key_range *ranges = arena_array(arena, FERRY_COMPARE_RANGES_MAX * (CUTS + 1u), sizeof *ranges);
	r->ranges = ranges;
	for (uint32_t i = 0; i < q->range_count; i++)
		r->range_count += cut(&c, &q->ranges[i], ranges + r->range_count);
	for (int key = 0; key < KEYS_MAX; key++)
		if (q->wanted[key])
			model_wanted_row(call->store->db, arena, r, q->scope, q->table, key, holds(&c, key) ? &state->rows[key] : NULL);
}
