#include "tests/sim/model_inner.h"

#include <stdlib.h>
#include <string.h>

struct work { /* one merge call */
	struct model_db *db;
	struct database *d; /* tentative */
	int64_t position;
	struct arena arena;
	struct merge *merge;
	struct verdict_row **verdicts; /* of this call so far */
	uint32_t count;
};

static void load_row(struct work *w, uint32_t table, int key)
{
	const struct sim_row *row = &w->d->state.rows[key];
	const struct row_meta *meta = &w->d->meta[key];
	struct merge_row out = {.table = table, .key = *sim_key(key), .exists = row->exists, .known = meta->known,
				.version = meta->row, .born = meta->born, .born_author = meta->born_author,
				.born_number = meta->born_number, .born_old_position = meta->born_old_position,
				.born_last_position = meta->born_last_position};
	if (row->exists) {
		struct value *cells = arena_array(&w->arena, CELLS_MAX, sizeof *cells);
		struct version *versions = arena_array(&w->arena, CELLS_MAX, sizeof *versions);
		const struct schema_table *t = sim_table(w->d->changes, table);
		for (int i = 0; i < t->column_count; i++) {
			int cell = sim_cell_of(table, t->columns[i].num);
			cells[i] = sim_value(t->columns[i].kind, table, cell, row->cells[cell]);
			versions[i] = meta->columns[cell];
		}
		out.cells = cells;
		out.column_versions = versions;
	}
	enum ferry_error e = merge_row(w->merge, &out);
	if (e)
		sim_fail(w->db->sim, "merge_row: %s", ferry_error_text((int)e));
}

static void load_wanted(void *ctx, uint32_t table, const struct uuid *keys, uint32_t count)
{
	struct work *w = ctx;
	for (uint32_t i = 0; i < count; i++)
		load_row(w, table, sim_key_number(&keys[i]));
}

static void apply_write(struct work *w, const struct merge_write *m, uint32_t r, const struct merge_stamp *stamps)
{
	const struct merge_stamp *stamp = &stamps[m->stamps ? m->stamps[r] : 0];
	struct version v = {.position = w->position, .at = stamp->at, .author = stamp->author, .number = stamp->number,
			    .old_position = stamp->old_position, .last_position = stamp->last_position};
	int key = sim_key_number(&m->keys[r]);
	struct sim_row to = w->d->state.rows[key];
	if (m->op == ROW_DELETE)
		to = (struct sim_row){.table = m->table};
	if (m->op == ROW_INSERT) {
		to = (struct sim_row){.exists = true, .table = m->table};
		for (int i = 0; i < sim_columns(m->table); i++)
			to.cells[i] = CELL_NULL;
	}
	for (uint16_t i = 0; m->op != ROW_DELETE && i < m->column_count; i++)
		if (!sim_cell(m->table, m->nums[i], &m->cells[(size_t)i * m->row_count + r], &to.cells[sim_cell_of(m->table, m->nums[i])]))
			sim_fail(w->db->sim, "the merge writes a value that is none");
	if (m->op != ROW_DELETE && !to.exists) {
		sim_fail(w->db->sim, "the merge updates row %d, which does not exist", key);
		return;
	}
	struct sim_row was = w->d->state.rows[key];
	model_write_row(w->d, key, &to, &v);
	for (uint16_t i = 0; m->op == ROW_UPDATE && i < m->column_count; i++) {
		int cell = sim_cell_of(m->table, m->nums[i]);
		if ((m->by_hub >> i & 1) && was.cells[cell] != to.cells[cell])
			w->d->meta[key].columns[cell] = (struct version){.position = w->position, .at = stamp->at};
	}
}

static void apply_writes(struct work *w)
{
	struct merge_writes out;
	enum ferry_error e = merge_take_writes(w->merge, &out);
	if (e) {
		sim_fail(w->db->sim, "merge_take_writes: %s", ferry_error_text((int)e));
		return;
	}
	for (uint32_t i = 0; i < out.write_count; i++)
		for (uint32_t r = 0; r < out.writes[i].row_count; r++)
			if (!w->db->faults.half_transactions || r == 0)
				apply_write(w, &out.writes[i], r, out.stamps);
}

/* A staged change-set's parts, or the one set. */
static uint32_t sets_of(struct work *w, const struct merge_item *item, struct change_set *out, uint32_t max)
{
	uint32_t n = 0;
	struct ferry_why why;
	if (item->set) {
		out[0] = *item->set;
		n = 1;
	}
	for (uint32_t part = 0; !item->set && part < max; part++)
		for (int i = 0; i < STAGED_MAX; i++) {
			const struct staged *s = &w->db->staged[i];
			if (s->number == item->number && s->staging == item->staging && s->part == part && s->device == sim_device_number(&item->device) &&
			    change_set_decode(&w->arena, s->body.p, s->body.n, &out[n], &why) == FERRY_OK)
				n++;
		}
	return n;
}

static int line_of(const struct model_db *db, const struct merge_item *item)
{
	return checker_line(db->checker, sim_device_number(&item->device), item->life);
}

/* As the present schema has it; false: it has no place there, and is refused. */
static bool translate(struct work *w, struct change_set *set, struct merge_outcome *out)
{
	struct past_column columns[CHANGES];
	struct past past = {.columns = columns, .count = model_past(w->db, columns)};
	struct translation t;
	if (translate_set(sim_schema(w->d->changes), &past, set, &w->arena, NULL, &t))
		sim_fail(w->db->sim, "a change-set cannot be translated");
	if (t.code)
		*out = (struct merge_outcome){.verdict = VERDICT_REJECTED, .code = t.code};
	else
		*set = *t.set;
	return t.code == FERRY_OK;
}

static bool was_refused(const struct work *w, int device, int64_t number)
{
	const struct verdict_row *v = model_verdict_of(w->db, device, number);
	for (uint32_t i = 0; i < w->count && !v; i++)
		if (w->verdicts[i] && w->verdicts[i]->device == device && w->verdicts[i]->settled.number == number)
			v = w->verdicts[i];
	return v && v->settled.verdict == VERDICT_REJECTED;
}

/* R6: what builds on a refused one is refused, too; if that was joined its device offers both again. */
static bool builds_on_refused(const struct work *w, const struct merge_item *item, const struct change_set *set, struct merge_outcome *out)
{
	for (uint32_t i = 0; i < set->depends_count; i++)
		if (was_refused(w, sim_device_number(&item->device), set->depends[i])) {
			*out = (struct merge_outcome){.verdict = VERDICT_REJECTED, .code = FERRY_DEPENDS};
			return true;
		}
	return false;
}

static void apply_item(struct work *w, const struct merge_item *item, struct merge_outcome *out)
{
	struct change_set sets[8];
	uint32_t n = sets_of(w, item, sets, 8);
	*out = (struct merge_outcome){.verdict = VERDICT_ACCEPTED};
	if (n == 0)
		sim_fail(w->db->sim, "a staged change-set without parts is merged");
	for (uint32_t i = 0; i < n && out->verdict != VERDICT_REJECTED; i++) {
		checker_offered(w->db->checker, line_of(w->db, item), &sets[i]);
		if (builds_on_refused(w, item, &sets[i], out) || !translate(w, &sets[i], out))
			return;
		if (w->db->faults.see_everything)
			sets[i].base_position = w->db->head->position;
		merge_wants(w->merge, &sets[i], load_wanted, w);
		if (!w->db->faults.take_copies_as_own)
			merge_apart(w->merge, w->db->device[sim_device_number(&item->device)].lives.apart);
		struct merge_outcome part;
		enum ferry_error e = merge_apply(w->merge, &item->device, &sets[i], SIM_EPOCH_US + w->db->sim->now, &part);
		if (e) {
			sim_fail(w->db->sim, "merge_apply: %s", ferry_error_text((int)e));
			return;
		}
		if (i == 0 || part.verdict != VERDICT_ACCEPTED)
			*out = part;
	}
}

static struct value static_value(const struct conflict *c, const struct value *v)
{
	return c->num < 2 ? value_null() : sim_static(c->table, c->num, v);
}

static struct verdict_row *new_verdict(struct work *w, const struct merge_item *item, const struct merge_outcome *o)
{
	struct verdict_row *v = sim_alloc(sizeof *v);
	struct conflict *conflicts = sim_dup(o->conflicts, o->conflict_count * sizeof *conflicts);
	for (uint32_t i = 0; i < o->conflict_count; i++) {
		conflicts[i].device_value = static_value(&conflicts[i], &o->conflicts[i].device_value);
		conflicts[i].hub_value = static_value(&conflicts[i], &o->conflicts[i].hub_value);
	}
	v->device = sim_device_number(&item->device);
	v->line = line_of(w->db, item);
	v->settled = (struct settled){.number = item->number, .verdict = o->verdict, .position = w->position,
				      .code = o->code, .conflicts = conflicts, .conflict_count = o->conflict_count,
				      .sentence = o->verdict == VERDICT_REJECTED ? ferry_error_text(o->code) : NULL};
	return v;
}

/* The planted bug: some policies are none. */
static const struct schema *merged_schema(struct work *w)
{
	const struct schema *real = sim_schema(w->d->changes);
	if (!w->db->faults.as_lww)
		return real;
	struct schema *s = arena_copy(&w->arena, real, sizeof *s);
	struct schema_table *tables = arena_copy(&w->arena, real->tables, real->table_count * sizeof *tables);
	s->tables = tables;
	for (uint32_t t = 0; t < s->table_count; t++) {
		struct schema_column *columns = arena_copy(&w->arena, tables[t].columns, tables[t].column_count * sizeof *columns);
		for (int i = 0; i < tables[t].column_count; i++)
			if (w->db->faults.as_lww >> columns[i].policy & 1)
				columns[i].policy = POLICY_LWW;
		tables[t].columns = columns;
	}
	return s;
}

/* All in one merge; false when a constraint speaks against the whole. */
static bool merge_together(struct work *w, const struct merge_item *items, const bool *take, uint32_t count,
			   struct verdict_row **out)
{
	w->merge = merge_new(merged_schema(w), MERGE_BYTES);
	for (uint32_t i = 0; i < count; i++) {
		struct merge_outcome o;
		if (!take[i])
			continue;
		if (items[i].refused)
			o = (struct merge_outcome){.verdict = VERDICT_REJECTED, .code = items[i].refused};
		else
			apply_item(w, &items[i], &o);
		out[i] = new_verdict(w, &items[i], &o);
	}
	apply_writes(w);
	merge_free(w->merge);
	return model_constraints(&w->d->state) == FERRY_OK;
}

static void drop_verdicts(struct verdict_row **v, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (v[i])
			free((void *)(uintptr_t)v[i]->settled.conflicts);
		free(v[i]);
		v[i] = NULL;
	}
}

/* One by one, as savepoints do: what breaks a constraint is refused alone. */
static void merge_singly(struct work *w, const struct merge_item *items, const bool *take, uint32_t count,
			struct verdict_row **out)
{
	struct database *before = sim_alloc(sizeof *before);
	for (uint32_t i = 0; i < count; i++) {
		bool one[1] = {true};
		if (!take[i])
			continue;
		*before = *w->d;
		if (merge_together(w, &items[i], one, 1, &out[i]))
			continue;
		struct merge_outcome refused = {.verdict = VERDICT_REJECTED, .code = (int)model_constraints(&w->d->state)};
		*w->d = *before;
		drop_verdicts(&out[i], 1);
		out[i] = new_verdict(w, &items[i], &refused);
	}
	free(before);
}

static void commit_verdicts(struct work *w, struct verdict_row **v, uint32_t count)
{
	struct settled *settled = sim_alloc(count * sizeof *settled);
	int *lines = sim_alloc(count * sizeof *lines);
	uint32_t n = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (!v[i])
			continue;
		v[i]->next = w->db->verdicts;
		w->db->verdicts = v[i];
		lines[n] = v[i]->line;
		settled[n++] = v[i]->settled;
		sim_log(w->db->sim, "settled device %d number %lld verdict %d at %lld", v[i]->device,
			(long long)v[i]->settled.number, (int)v[i]->settled.verdict, (long long)w->position);
	}
	if (n > 0) {
		model_commit_state(w->db, w->d, w->position);
		checker_commit(w->db->checker, w->position, &w->db->now.state, lines, settled, n);
	}
	free(settled);
	free(lines);
}

/* R12: somebody's open transaction holds one of its rows. */
static bool rows_locked(const struct model_db *db, const struct change_set *set)
{
	for (uint32_t i = 0; set && i < set->block_count; i++)
		for (uint32_t r = 0; r < set->blocks[i].row_count; r++) {
			int key = sim_key_number(&set->blocks[i].keys[r]);
			if (key >= 0 && db->locked_until[key] > db->sim->now)
				return true;
		}
	return false;
}

/* One of these numbers is neither settled nor taken before it. */
static bool numbers_wait(const struct call *c, uint32_t i, const bool *take, const int64_t *numbers, uint32_t count)
{
	const struct merge_item *item = &c->items[i];
	const struct model_db *db = c->store->db;
	int device = sim_device_number(&item->device);
	for (uint32_t d = 0; !db->faults.forget_depends && d < count; d++) {
		bool there = model_verdict_of(db, device, numbers[d]) != NULL;
		for (uint32_t k = 0; k < i && !there; k++)
			there = take[k] && uuid_equal(&c->items[k].device, &item->device) && c->items[k].number == numbers[d];
		if (!there)
			return true;
	}
	return false;
}

/* R6, R18 */
static bool depends_wait(const struct call *c, uint32_t i, const bool *take)
{
	const struct change_set *set = c->items[i].set;
	return set && (numbers_wait(c, i, take, set->depends, set->depends_count) ||
		       numbers_wait(c, i, take, set->after, set->after_count));
}

static bool made_before(const struct call *c, uint32_t i, const bool *take, int key)
{
	if (c->store->db->now.meta[key].known)
		return true;
	for (uint32_t k = 0; k < i; k++)
		for (uint32_t b = 0; take[k] && c->items[k].set && b < c->items[k].set->block_count; b++)
			for (uint32_t r = 0; r < c->items[k].set->blocks[b].row_count; r++)
				if (c->items[k].set->blocks[b].op == ROW_INSERT &&
				    sim_key_number(&c->items[k].set->blocks[b].keys[r]) == key)
					return true;
	return false;
}

/* R18: its row, or its row's parent, another one has still to bring back. */
static bool lacks_predecessor(const struct call *c, uint32_t i, const bool *take)
{
	const struct change_set *set = c->items[i].set;
	for (uint32_t b = 0; c->items[i].park && set && b < set->block_count; b++)
		for (uint32_t r = 0; r < set->blocks[b].row_count; r++) {
			const struct block *block = &set->blocks[b];
			int64_t parent;
			if (block->op != ROW_INSERT && !made_before(c, i, take, sim_key_number(&block->keys[r])))
				return true;
			if (block->table == NOTE && block->op == ROW_INSERT &&
			    sim_cell(NOTE, 2, &block->cells[r], &parent) && !made_before(c, i, take, (int)parent))
				return true;
		}
	return false;
}

/* Locked the device's row, this sees what any hub settled before. */
static bool take_item(struct call *c, uint32_t i, const bool *take)
{
	struct model_db *db = c->store->db;
	struct merge_result *r = &c->results[i];
	int device = sim_device_number(&c->items[i].device);
	const struct verdict_row *known = model_verdict_of(db, device, c->items[i].number);
	*r = (struct merge_result){.device = c->items[i].device, .settled.number = c->items[i].number};
	if (c->items[i].life && c->items[i].life != db->device[device].lives.count && !db->faults.merge_old_lives) {
		r->retry = r->elsewhere = true;
		return false;
	}
	if (known && !db->faults.forget_settled) {
		r->settled = known->settled;
		r->repeated = true;
		return false;
	}
	r->retry = depends_wait(c, i, take);
	if (!r->retry && lacks_predecessor(c, i, take)) {
		sim_log(db->sim, "parked device %d number %lld", device, (long long)c->items[i].number);
		r->parked = true;
		r->settled.verdict = VERDICT_PARKED;
		r->settled.code = FERRY_NOT_FOUND;
		r->settled.sentence = "it lacks what it builds on";
		return false;
	}
	r->retry = r->retry || rows_locked(db, c->items[i].set) || (c->count == 1 && sim_chance(db->sim, 20));
	return !r->retry;
}

/* The planted bug: one locked row, and nothing of the batch goes. */
static void lock_together(struct call *c, bool *take)
{
	bool any = false;
	for (uint32_t i = 0; i < c->count; i++)
		any = any || c->results[i].retry;
	for (uint32_t i = 0; any && i < c->count; i++) {
		c->results[i].retry = c->results[i].retry || take[i];
		take[i] = false;
	}
}

/* The planted bug: what is repeated is known, but its counters are added. */
static void count_again(struct model_db *db, const struct merge_item *item)
{
	if (!model_verdict_of(db, sim_device_number(&item->device), item->number))
		return;
	for (uint32_t i = 0; item->set && i < item->set->block_count; i++) {
		const struct block *b = &item->set->blocks[i];
		for (uint16_t o = 0; o < b->old_count; o++)
			for (uint16_t n = 0; n < b->column_count; n++)
				if (b->table == TALLY && sim_cell_of(TALLY, b->nums[n]) == TALLY_COUNT && b->old_nums[o] == b->nums[n])
					db->now.state.rows[sim_key_number(b->keys)].cells[TALLY_COUNT] += b->cells[n].i - b->olds[o].i;
	}
}

void model_merge_run(struct call *c)
{
	struct model_db *db = c->store->db;
	for (uint32_t i = 0; db->faults.count_again && i < c->count; i++)
		count_again(db, &c->items[i]);
	struct database *d = sim_dup(&db->now, sizeof db->now);
	struct verdict_row **verdicts = sim_alloc(c->count * sizeof(void *));
	bool *take = sim_alloc(c->count);
	struct work w = {.db = db, .d = d, .position = model_next_position(db), .verdicts = verdicts, .count = c->count};
	arena_init(&w.arena, MERGE_BYTES);
	for (uint32_t i = 0; i < c->count; i++)
		take[i] = take_item(c, i, take);
	if (db->faults.lock_all)
		lock_together(c, take);
	if (!merge_together(&w, c->items, take, c->count, verdicts)) {
		*d = db->now;
		drop_verdicts(verdicts, c->count);
		merge_singly(&w, c->items, take, c->count, verdicts);
	}
	commit_verdicts(&w, verdicts, c->count);
	for (uint32_t i = 0; i < c->count; i++)
		if (verdicts[i])
			c->results[i].settled = verdicts[i]->settled;
	arena_deinit(&w.arena);
	free(take);
	free(verdicts);
	free(d);
}

