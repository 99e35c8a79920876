/* The merge's output: net changes of the touched rows, grouped set-wise by
 * (phase, table, columns). Two passes: count, then fill. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/merge.h"
#include "hub/merge_internal.h"

enum phase { PHASE_EARLY_DELETE, PHASE_REVIVE, PHASE_INSERT, PHASE_UPDATE, PHASE_DELETE, PHASE_BURY };

struct group {
	enum phase phase;
	uint32_t table; /* index */
	uint64_t mask;
	uint64_t by_hub; /* of mask */
	uint32_t row_count;
	uint32_t filled;
	uint32_t order; /* of creation */
	struct merge_write write;
	struct uuid *keys; /* the write's arrays, while they are filled */
	struct value *cells;
	uint32_t *stamps;
};

struct emission { /* one row in one group */
	const struct row *row;
	uint32_t group;
	uint32_t stamp;
};

struct output {
	struct merge *m;
	struct group *groups;
	uint32_t group_count, group_capacity;
	struct index group_index;
	struct emission *emissions;
	uint32_t emission_count, emission_capacity;
	uint32_t *stamp_names; /* inside -> in the output; NO_STAMP: not used yet */
	struct merge_stamp *stamps;
	uint32_t stamp_count;
};

static uint64_t group_hash(enum phase phase, uint32_t table, uint64_t mask, uint64_t by_hub)
{
	return merge_mix(mask ^ by_hub << 1, ((uint64_t)table << 3) | (uint64_t)phase);
}

static uint64_t hash_of_group(const void *ctx, uint32_t i)
{
	const struct output *o = ctx;

	return group_hash(o->groups[i].phase, o->groups[i].table, o->groups[i].mask, o->groups[i].by_hub);
}

static bool group_is(const struct group *g, enum phase phase, uint32_t table, uint64_t mask, uint64_t by_hub)
{
	return g->phase == phase && g->table == table && g->mask == mask && g->by_hub == by_hub;
}

static bool find_group(struct output *o, enum phase phase, uint32_t table, uint64_t mask, uint64_t by_hub,
		       uint32_t *out_group)
{
	uint32_t slot;

	if (!index_reserve(&o->group_index, hash_of_group, o) ||
	    !vector_grow((void **)&o->groups, o->group_count, &o->group_capacity, sizeof(struct group)))
		return false;
	slot = (uint32_t)group_hash(phase, table, mask, by_hub) & o->group_index.mask;
	for (; o->group_index.slots[slot] != 0; slot = (slot + 1) & o->group_index.mask) {
		*out_group = o->group_index.slots[slot] - 1;
		if (group_is(&o->groups[*out_group], phase, table, mask, by_hub))
			return true;
	}
	*out_group = o->group_count;
	o->groups[o->group_count] = (struct group){.phase = phase, .table = table, .mask = mask, .by_hub = by_hub,
						   .order = o->group_count};
	o->group_count++;
	o->group_index.slots[slot] = ++o->group_index.count;
	return true;
}

static bool emit(struct output *o, const struct row *row, enum phase phase, uint64_t mask, uint32_t stamp)
{
	/* An insert's cells are the device's; what was merged since is an update. */
	uint64_t by_hub = phase == PHASE_UPDATE ? row->state.by_hub & mask : 0;
	uint32_t group;

	assert(stamp != NO_STAMP);
	if (!find_group(o, phase, row->table, mask, by_hub, &group) ||
	    !vector_grow((void **)&o->emissions, o->emission_count, &o->emission_capacity, sizeof(struct emission)))
		return false;
	o->groups[group].row_count++;
	o->emissions[o->emission_count++] = (struct emission){.row = row, .group = group, .stamp = stamp};
	if (o->stamp_names[stamp] == NO_STAMP) {
		o->stamp_names[stamp] = o->stamp_count;
		o->stamps[o->stamp_count++] = o->m->stamps[stamp];
	}
	return true;
}

static bool emit_updates(struct output *o, const struct row *row)
{
	uint64_t left = row->state.dirty;

	while (left != 0) {
		uint32_t stamp = row->state.stamp_of[__builtin_ctzll(left)];
		uint64_t mask = 0;

		for (uint64_t rest = left; rest != 0; rest &= rest - 1) {
			int c = __builtin_ctzll(rest);

			if (row->state.stamp_of[c] == stamp)
				mask |= COLUMN_BIT(c);
		}
		if (!emit(o, row, PHASE_UPDATE, mask, stamp))
			return false;
		left &= ~mask;
	}
	return true;
}

/* It never stood in a committed state here, so that the database would not
 * remember it; yet in the lost history devices had it. */
static bool to_be_buried(const struct row *row)
{
	return row->fresh && row->state.replayed && row->state.gone_stamp != NO_STAMP;
}

static bool emit_row(struct output *o, const struct row *row)
{
	const struct row_state *s = &row->state;

	if (!s->exists)
		return (!row->in_database || emit(o, row, PHASE_DELETE, 0, s->gone_stamp)) &&
		       (!to_be_buried(row) || emit(o, row, PHASE_BURY, 0, s->gone_stamp));
	if (s->revive_pending && !emit(o, row, PHASE_REVIVE, 0, s->born_stamp))
		return false;
	if (s->insert_pending) {
		if (row->in_database && !emit(o, row, PHASE_EARLY_DELETE, 0, s->gone_stamp))
			return false;
		if (!emit(o, row, PHASE_INSERT, s->insert_mask, s->born_stamp))
			return false;
	}
	return emit_updates(o, row);
}

static enum ferry_error group_alloc(struct output *o, struct group *g)
{
	static const enum row_op ops[] = {ROW_DELETE, ROW_INSERT, ROW_INSERT, ROW_UPDATE, ROW_DELETE, ROW_DELETE};
	const struct schema_table *t = &o->m->schema->tables[g->table];
	struct arena *a = &o->m->output;
	uint16_t count = (uint16_t)__builtin_popcountll(g->mask), i = 0;
	uint16_t *nums = arena_array(a, count + 1u, sizeof(*nums));

	g->keys = arena_array(a, g->row_count, sizeof(struct uuid));
	g->cells = arena_array(a, (size_t)g->row_count * count + 1, sizeof(struct value));
	g->stamps = arena_array(a, g->row_count, sizeof(uint32_t));
	g->write = (struct merge_write){
		.table = t->table,
		.op = ops[g->phase],
		.revives = g->phase == PHASE_REVIVE,
		.buries = g->phase == PHASE_BURY,
		.column_count = count,
		.nums = nums,
		.row_count = g->row_count,
		.keys = g->keys,
		.cells = g->cells,
		.stamps = g->stamps,
	};
	if (nums == NULL || g->keys == NULL || g->cells == NULL || g->stamps == NULL)
		return a->full ? FERRY_LIMIT : FERRY_NO_MEMORY;
	for (uint64_t rest = g->mask; rest != 0; rest &= rest - 1) {
		int c = __builtin_ctzll(rest);

		g->write.by_hub |= (g->by_hub >> c & 1) << i;
		nums[i++] = t->columns[c].num;
	}
	return FERRY_OK;
}

static void fill_row(const struct output *o, const struct emission *e)
{
	struct group *g = &o->groups[e->group];
	const struct value *from = g->phase == PHASE_INSERT ? e->row->state.insert_cells : e->row->state.cells;
	struct value *to = g->cells + g->filled;

	g->keys[g->filled] = e->row->key;
	g->stamps[g->filled] = o->stamp_names[e->stamp];
	for (uint64_t rest = g->mask; rest != 0; rest &= rest - 1) {
		*to = from[__builtin_ctzll(rest)];
		to += g->row_count;
	}
	g->filled++;
}

struct sorted {
	enum phase phase;
	uint32_t rank;
	uint32_t order;
	struct merge_write write;
};

static int compare_groups(const void *x, const void *y)
{
	const struct sorted *a = x, *b = y;
	bool descending = a->phase == PHASE_DELETE || a->phase == PHASE_EARLY_DELETE;

	if (a->phase != b->phase)
		return a->phase < b->phase ? -1 : 1;
	if (a->phase != PHASE_UPDATE && a->rank != b->rank)
		return (a->rank < b->rank) != descending ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

static enum ferry_error sort_writes(struct output *o, struct merge_writes *out)
{
	struct sorted *sorted = arena_array(&o->m->output, o->group_count + 1u, sizeof(*sorted));
	struct merge_write *writes = arena_array(&o->m->output, o->group_count + 1u, sizeof(*writes));

	if (sorted == NULL || writes == NULL)
		return o->m->output.full ? FERRY_LIMIT : FERRY_NO_MEMORY;
	for (uint32_t i = 0; i < o->group_count; i++) {
		const struct group *g = &o->groups[i];

		assert(g->filled == g->row_count);
		sorted[i] = (struct sorted){g->phase, o->m->schema->tables[g->table].rank, g->order, g->write};
	}
	if (o->group_count > 1)
		qsort(sorted, o->group_count, sizeof(*sorted), compare_groups);
	for (uint32_t i = 0; i < o->group_count; i++)
		writes[i] = sorted[i].write;
	*out = (struct merge_writes){.writes = writes, .write_count = o->group_count, .stamps = o->stamps,
				     .stamp_count = o->stamp_count};
	return FERRY_OK;
}

static enum ferry_error build(struct output *o, struct merge_writes *out)
{
	struct merge *m = o->m;

	o->stamps = arena_array(&m->output, m->stamp_count + 1u, sizeof(*o->stamps));
	o->stamp_names = malloc((m->stamp_count + 1u) * sizeof(*o->stamp_names));
	if (o->stamps == NULL || o->stamp_names == NULL)
		return m->output.full ? FERRY_LIMIT : FERRY_NO_MEMORY;
	memset(o->stamp_names, 0xff, (m->stamp_count + 1u) * sizeof(*o->stamp_names));
	for (uint32_t i = 0; i < m->touched_count; i++) {
		if (!emit_row(o, m->touched[i]))
			return FERRY_NO_MEMORY;
	}
	for (uint32_t i = 0; i < o->group_count; i++) {
		enum ferry_error e = group_alloc(o, &o->groups[i]);

		if (e != FERRY_OK)
			return e;
	}
	for (uint32_t i = 0; i < o->emission_count; i++)
		fill_row(o, &o->emissions[i]);
	return sort_writes(o, out);
}

/* What was taken counts as written; versions stay pending. */
static void settle(struct merge *m)
{
	for (uint32_t i = 0; i < m->touched_count; i++) {
		struct row *row = m->touched[i];

		row->touched = false;
		row->kept = !row->state.exists && (row->kept || row->in_database);
		row->in_database = row->state.exists;
		row->state.dirty = 0;
		row->state.revive_pending = false;
		row->state.insert_pending = false;
		/* The next change takes copies of its own: these are handed out. */
		row->serial = 0;
	}
	m->touched_count = 0;
	m->journal_count = 0;
}

enum ferry_error merge_take_writes(struct merge *m, struct merge_writes *out)
{
	struct output o = {.m = m};
	enum ferry_error e = build(&o, out);

	if (e == FERRY_OK)
		settle(m);
	free(o.groups);
	free(o.group_index.slots);
	free(o.emissions);
	free(o.stamp_names);
	return e;
}
