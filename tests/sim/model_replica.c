/* A replica in memory: the confirmed rows whole, the outbox as a list, and
 * what the app sees worked out from both each time. Slow and obviously right;
 * shares nothing with agent/replica*.c. What a crash loses is in `memory`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cell_hash.h"
#include "tests/sim/sim_replica.h"

#define SETS_MAX 4000
#define RAW_MAX 2000
#define FRAME_ROWS_MAX 4000

struct raw_edit {
	int key;
	int64_t position; /* the bookmark it was made at */
	int64_t at;
	struct sim_row before, after;
	unsigned changes; /* of the schema it was made under */
	int64_t base[CELLS_MAX], row_base; /* R1, taken when the edit is made */
};

struct pending_row {
	int key;
	enum row_op op;
	struct sim_row after;
	bool has[CELLS_MAX];
	int64_t old[CELLS_MAX]; /* what its author saw (R2) */
	int64_t base[CELLS_MAX]; /* R1, per cell */
	int64_t row_base;
};

struct pending_set {
	int64_t number, base, at;
	unsigned changes; /* of the schema it was made under */
	uint32_t row_count;
	struct pending_row *rows;
	bool settled, kept; /* kept: refused, since another copy used the number */
	bool refused;       /* by the hub */
};

struct frame_row {
	int64_t to;
	int key;
	enum row_op op;
	bool has[CELLS_MAX];
	struct sim_row row;
};

struct model_replica {
	void *self;
	struct sim *sim;
	int device;
	const int64_t *skew;
	struct replica_faults faults;
	/* Durable. */
	struct sim_state confirmed, staging;
	int64_t position, mark, last_number, fill_position;
	int64_t offered; /* numbers up to here may have been pushed */
	int64_t life, life_mark, tried[FERRY_LIFE_MARKS_MAX]; /* tried[0]: life_mark; then what was proposed since, newest first */
	uint32_t tried_count;
	uint32_t fill_table;
	struct uuid fill_after, epoch;
	char fill_scope[64];
	uint64_t schema_hash; /* of what is shown; 0: none yet */
	uint64_t fill_hash;   /* of what is being filled */
	int64_t clock_offset; /* hub minus device */
	int64_t commit_clock; /* the hub's, of the state that is shown */
	int64_t cut_at, cut_offset; /* when all was cut last, true as far as known, and the offset then; 0: not in this life */
	const char *scopes[SCOPES], *fill_scopes[SCOPES]; /* static names */
	uint32_t scope_count, fill_scope_count;
	bool filling, beside; /* beside: the staged scopes come into a replica in force */
	struct pending_set *sets;
	int set_count;
	struct raw_edit *raw;
	int raw_count;
	/* Memory. */
	struct frame_row *frames;
	int frame_count;
	int64_t next_mark;
};

static unsigned changes_of(uint64_t schema_hash)
{
	return schema_hash ? (unsigned)(schema_hash - SCHEMA_HASH) : 0;
}

/* A difference is laid over what is beneath; any other value hides it. */
static int64_t laid_over(const struct model_replica *m, uint32_t table, int cell, int64_t old, int64_t mine, int64_t beneath)
{
	enum column_policy policy = sim_policy(table, cell);
	bool differs = policy == POLICY_COUNTER || policy == POLICY_SET;
	return differs && !m->faults.hide_beneath ? sim_laid_over(table, cell, old, mine, beneath) : mine;
}

static void apply_pending(const struct model_replica *m, struct sim_state *s, const struct pending_row *p)
{
	struct sim_row *row = &s->rows[p->key];
	if (p->op == ROW_DELETE)
		row->exists = false;
	if (p->op == ROW_INSERT)
		*row = p->after;
	for (int i = 0; p->op == ROW_UPDATE && row->exists && i < CELLS_MAX; i++)
		if (p->has[i])
			row->cells[i] = laid_over(m, row->table, i, p->old[i], p->after.cells[i], row->cells[i]);
}

static void apply_raw(const struct model_replica *m, struct sim_state *s, const struct raw_edit *e)
{
	struct sim_row *row = &s->rows[e->key];
	if (!e->before.exists || !e->after.exists) {
		*row = e->after;
		return;
	}
	for (int i = 0; row->exists && i < CELLS_MAX; i++)
		if (e->before.cells[i] != e->after.cells[i])
			row->cells[i] = laid_over(m, row->table, i, e->before.cells[i], e->after.cells[i], row->cells[i]);
}

static void model_visible(void *store, struct sim_state *out)
{
	struct model_replica *m = store;
	*out = m->confirmed;
	for (int i = 0; i < m->set_count; i++)
		for (uint32_t r = 0; !m->sets[i].settled && r < m->sets[i].row_count; r++)
			apply_pending(m, out, &m->sets[i].rows[r]);
	for (int i = 0; i < m->raw_count; i++)
		apply_raw(m, out, &m->raw[i]);
	for (int key = 0; key < KEYS_MAX; key++)
		sim_row_under(&out->rows[key], changes_of(m->schema_hash));
}

static int model_changes(void *store)
{
	const struct model_replica *m = store;
	return m->schema_hash ? (int)changes_of(m->schema_hash) : -1;
}

static void take_base(struct raw_edit *e, const int64_t base[CELLS_MAX], const bool has[CELLS_MAX])
{
	for (int i = 0; i < CELLS_MAX; i++) {
		if (has && !has[i])
			continue;
		if (base[i] < e->base[i])
			e->base[i] = base[i];
		if (base[i] < e->row_base)
			e->row_base = base[i];
	}
}

/* R1: over a pending edit of the same cell, its base; also when that one is
 * settled before this one is cut. */
static void note_bases(const struct model_replica *m, struct raw_edit *e)
{
	for (int i = 0; i < CELLS_MAX; i++)
		e->base[i] = e->position;
	e->row_base = e->position;
	for (int s = 0; s < m->set_count && !m->faults.base_is_now; s++)
		for (uint32_t r = 0; !m->sets[s].settled && r < m->sets[s].row_count; r++) {
			const struct pending_row *q = &m->sets[s].rows[r];
			if (q->key == e->key)
				take_base(e, q->base, q->op == ROW_UPDATE ? q->has : NULL);
		}
	for (int i = 0; i < m->raw_count && !m->faults.base_is_now; i++) {
		const struct raw_edit *q = &m->raw[i];
		bool has[CELLS_MAX];
		for (int c = 0; c < CELLS_MAX; c++)
			has[c] = q->before.cells[c] != q->after.cells[c];
		if (q->key == e->key)
			take_base(e, q->base, q->before.exists && q->after.exists ? has : NULL);
	}
}

static bool model_edit(void *store, int key, const struct sim_row *after)
{
	struct model_replica *m = store;
	if (!m->schema_hash)
		return false;
	struct sim_state *now = sim_alloc(sizeof *now);
	model_visible(m, now);
	if (m->raw_count == RAW_MAX)
		abort();
	struct raw_edit *e = &m->raw[m->raw_count];
	*e = (struct raw_edit){.key = key, .position = m->position < 0 ? 0 : m->position,
				.at = sim_device_clock(m->sim, *m->skew), .changes = changes_of(m->schema_hash),
				.before = now->rows[key], .after = *after};
	note_bases(m, e);
	m->raw_count++;
	free(now);
	return true;
}

/* Cutting. */

static bool net_row(const struct model_replica *m, int first, int count, struct pending_row *p)
{
	const struct raw_edit *a = &m->raw[first], *b = a;
	bool changed = false;
	*p = (struct pending_row){.key = a->key, .op = ROW_UPDATE, .row_base = a->row_base};
	memcpy(p->base, a->base, sizeof p->base);
	memcpy(p->old, a->before.cells, sizeof p->old);
	for (int i = first + 1; i < count; i++) {
		if (m->raw[i].key != a->key)
			continue;
		b = &m->raw[i];
		p->row_base = b->row_base < p->row_base ? b->row_base : p->row_base;
		for (int c = 0; c < CELLS_MAX; c++)
			p->base[c] = b->base[c] < p->base[c] ? b->base[c] : p->base[c];
	}
	p->after = b->after;
	if (!a->before.exists && !b->after.exists)
		return false;
	if (!a->before.exists)
		p->op = ROW_INSERT;
	else if (!b->after.exists)
		p->op = ROW_DELETE;
	if (p->op == ROW_DELETE)
		p->after = (struct sim_row){.table = a->before.table};
	for (int i = 0; p->op != ROW_DELETE && i < sim_columns(b->after.table); i++) {
		p->has[i] = p->op == ROW_INSERT || a->before.cells[i] != b->after.cells[i];
		changed = changed || p->has[i];
	}
	return p->op == ROW_DELETE || changed;
}

static bool first_of_key(const struct model_replica *m, int i)
{
	for (int j = 0; j < i; j++)
		if (m->raw[j].key == m->raw[i].key)
			return false;
	return true;
}

static int64_t hub_now(const struct model_replica *m)
{
	return sim_device_clock(m->sim, *m->skew) + m->clock_offset;
}

/* P10: by the hub's clock as far as it is known, and later than the state
 * that the edit was made on. When the device's clock was set since the edit,
 * only by the offset of before can the edit lie between the last cut and now. */
static int64_t stamp(const struct model_replica *m, int64_t at)
{
	int64_t today = at + m->clock_offset, before = at + m->cut_offset, first = m->cut_at - SIM_S, last = hub_now(m) + SIM_S;
	if (m->faults.ignore_offset)
		return at;
	at = m->cut_at && (today < first || today > last) && before >= first && before <= last ? before : today;
	if (at <= m->commit_clock)
		at = m->commit_clock + 1;
	return at < 0 ? 0 : at > FERRY_CLOCK_MAX ? FERRY_CLOCK_MAX : at;
}

static void cut_raw(struct model_replica *m, int count)
{
	if (m->set_count == SETS_MAX)
		abort();
	struct pending_set *s = &m->sets[m->set_count];
	*s = (struct pending_set){.changes = m->raw[0].changes, .base = m->raw[0].position, .at = stamp(m, m->raw[0].at)};
	s->rows = sim_alloc((size_t)count * sizeof *s->rows);
	for (int i = 0; i < count; i++)
		if (first_of_key(m, i) && net_row(m, i, count, &s->rows[s->row_count]))
			s->row_count++;
	if (s->row_count > 0) {
		s->number = ++m->last_number;
		m->set_count++;
	} else {
		free(s->rows);
	}
	memmove(m->raw, m->raw + count, (size_t)(m->raw_count - count) * sizeof *m->raw);
	m->raw_count -= count;
}

static enum ferry_error model_cut(void *store, bool *out_more, struct ferry_why *why)
{
	struct model_replica *m = store;
	int count = 0;
	(void)why;
	while (count < m->raw_count && m->raw[count].position == m->raw[0].position && m->raw[count].changes == m->raw[0].changes)
		count++;
	if (count > 0)
		cut_raw(m, count);
	*out_more = m->raw_count > 0;
	if (!*out_more) {
		m->cut_at = hub_now(m);
		m->cut_offset = m->clock_offset;
	}
	return FERRY_OK;
}

/* Pushing. */

static bool touches(const struct pending_set *s, int key)
{
	for (uint32_t r = 0; r < s->row_count; r++)
		if (s->rows[r].key == key)
			return true;
	return false;
}

static void put_depends(const struct model_replica *m, const struct pending_set *s, struct arena *arena,
			struct change_set *out)
{
	int64_t *depends = arena_array(arena, (size_t)m->set_count + 1, sizeof *depends);
	for (int i = 0; i < m->set_count && &m->sets[i] < s; i++) {
		bool needs = false;
		for (uint32_t r = 0; r < s->row_count; r++)
			needs = needs || touches(&m->sets[i], s->rows[r].key) ||
				(s->rows[r].after.table == NOTE && s->rows[r].op == ROW_INSERT &&
				 touches(&m->sets[i], (int)s->rows[r].after.cells[0]));
		if (needs && !m->sets[i].settled)
			depends[out->depends_count++] = m->sets[i].number;
	}
	out->depends = depends;
}

static void put_row(const struct model_replica *m, const struct pending_row *p, const struct pending_set *s, struct arena *arena, struct block *b)
{
	uint16_t *nums = arena_array(arena, CELLS_MAX, sizeof *nums);
	struct value *cells = arena_array(arena, CELLS_MAX, sizeof *cells);
	struct row_base *bases = arena_array(arena, CELLS_MAX + 1, sizeof *bases);
	uint16_t *old_nums = arena_array(arena, CELLS_MAX, sizeof *old_nums);
	struct value *olds = arena_array(arena, CELLS_MAX, sizeof *olds);
	*b = (struct block){.table = p->after.table, .op = p->op, .row_count = 1, .nums = nums, .cells = cells,
			    .keys = sim_key(p->key), .bases = bases, .old_nums = old_nums, .olds = olds};
	if (p->op != ROW_UPDATE && p->row_base < s->base)
		bases[b->base_count++] = (struct row_base){.position = p->row_base};
	const struct schema_table *t = sim_table(s->changes, p->after.table);
	for (int i = 0; p->op != ROW_DELETE && i < t->column_count; i++) {
		const struct schema_column *c = &t->columns[i];
		int cell = sim_cell_of(p->after.table, c->num);
		if (!p->has[cell])
			continue;
		if (p->op == ROW_UPDATE && p->base[cell] < s->base)
			bases[b->base_count++] = (struct row_base){.num = c->num, .position = p->base[cell]};
		if (p->op == ROW_UPDATE && policy_takes_old(c->policy)) {
			old_nums[b->old_count] = c->num;
			olds[b->old_count++] = sim_value(c->kind, p->after.table, cell,
							m->faults.old_is_hubs ? m->confirmed.rows[p->key].cells[cell] : p->old[cell]);
		}
		nums[b->column_count] = c->num;
		cells[b->column_count++] = sim_value(c->kind, p->after.table, cell, p->after.cells[cell]);
	}
	if (b->base_count == 0)
		b->bases = NULL;
}

static void put_set(const struct model_replica *m, const struct pending_set *s, struct arena *arena, struct change_set *out)
{
	struct block *blocks = arena_array(arena, s->row_count, sizeof *blocks);
	*out = (struct change_set){.step = sim_schema_step(s->changes), .number = s->number, .base_position = s->base, .at = s->at, .blocks = blocks,
				   .block_count = s->row_count};
	for (uint32_t r = 0; r < s->row_count; r++)
		put_row(m, &s->rows[r], s, arena, &blocks[r]);
	put_depends(m, s, arena, out);
}

static enum ferry_error model_next_push(void *store, struct push_cursor *cursor, size_t budget, struct arena *arena,
					struct message_push *out, struct ferry_why *why)
{
	struct model_replica *m = store;
	struct change_set *sets = arena_array(arena, 3, sizeof *sets);
	(void)budget;
	(void)why;
	*out = (struct message_push){.sets = sets};
	m->offered = m->last_number;
	for (int i = 0; i < m->set_count && out->set_count < 3; i++) {
		if (m->sets[i].settled || m->sets[i].number <= cursor->number)
			continue;
		put_set(m, &m->sets[i], arena, &sets[out->set_count++]);
		cursor->number = m->sets[i].number;
	}
	return FERRY_OK;
}

static void settle(struct model_replica *m, const struct settled *s)
{
	bool forgets = m->faults.forget_refused && (s->code == FERRY_UNKNOWN_COLUMN || s->code == FERRY_BAD_VALUE);
	for (int i = 0; i < m->set_count; i++)
		if (m->sets[i].number == s->number) {
			m->sets[i].settled = true;
			m->sets[i].refused = s->verdict == VERDICT_REJECTED && !forgets;
		}
}

static enum ferry_error model_ack(void *store, const struct message_ack *ack, struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	for (uint32_t i = 0; m->faults.forget_on_ack && i < ack->settled_count; i++)
		settle(m, &ack->settled[i]);
	return FERRY_OK;
}

/* The hub's states. */

static void apply_frame_row(struct model_replica *m, struct sim_state *s, const struct frame_row *f)
{
	struct sim_row *row = &s->rows[f->key];
	if (f->op == ROW_DELETE || f->op == ROW_LEFT) {
		row->exists = false;
		return;
	}
	if (f->op == ROW_INSERT) {
		*row = f->row;
		return;
	}
	if (!row->exists)
		sim_fail(m->sim, "device %d gets an update of row %d, which it does not have", m->device, f->key);
	for (int i = 0; i < CELLS_MAX; i++)
		if (f->has[i])
			row->cells[i] = f->row.cells[i];
}

/* R14: of each state first what goes, then what comes. */
static void apply_frames(struct model_replica *m, struct sim_state *s)
{
	for (int i = 0; i < m->frame_count;) {
		int end = i;
		while (end < m->frame_count && m->frames[end].to == m->frames[i].to)
			end++;
		for (int going = 1; going >= 0; going--)
			for (int j = i; j < end; j++)
				if (going == (m->frames[j].op == ROW_DELETE || m->frames[j].op == ROW_LEFT))
					apply_frame_row(m, s, &m->frames[j]);
		i = end;
	}
	m->frame_count = 0;
}

static void keep_block(struct model_replica *m, const struct block *b, int64_t to)
{
	for (uint32_t r = 0; r < b->row_count; r++) {
		if (m->frame_count == FRAME_ROWS_MAX)
			abort();
		struct frame_row *f = &m->frames[m->frame_count++];
		*f = (struct frame_row){.to = to, .key = sim_key_number(&b->keys[r]), .op = b->op,
					.row = {.exists = true, .table = b->table}};
		for (int c = 0; c < sim_columns(b->table); c++)
			f->row.cells[c] = CELL_NULL;
		for (uint16_t i = 0; i < b->column_count; i++) {
			int c = sim_cell_of(b->table, b->nums[i]);
			f->has[c] = sim_cell(b->table, b->nums[i], &b->cells[(size_t)i * b->row_count + r], &f->row.cells[c]);
			if (!f->has[c])
				sim_fail(m->sim, "device %d gets a value that nobody wrote", m->device);
		}
	}
}

static enum ferry_error model_delta(void *store, const struct message_delta *delta, struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	for (uint32_t i = 0; i < delta->block_count; i++)
		keep_block(m, &delta->blocks[i], delta->to);
	if (m->faults.frames_without_commit && !m->filling)
		apply_frames(m, &m->confirmed);
	return FERRY_OK;
}

/* R21, from nothing but the rows. */
static void check_sum(const struct model_replica *m, const struct scope_sum *sum)
{
	const struct schema_table *t = sim_table(changes_of(m->schema_hash), sum->table);
	uint64_t sums[CELLS_MAX] = {0};
	int64_t rows = 0;
	for (int key = 0; key < KEYS_MAX; key++) {
		const struct sim_row *row = &m->confirmed.rows[key];
		if (!row->exists || row->table != sum->table ||
		    sim_scope_of(&m->confirmed, key) != sim_scope_number(sum->scope))
			continue;
		rows++;
		for (int i = 0; t && i < t->column_count; i++) {
			const struct schema_column *c = &t->columns[i];
			int cell = sim_cell_of(row->table, c->num);
			struct value v = sim_value(c->kind, row->table, cell, row->cells[cell]);
			sums[i] ^= cell_hash(cell_hash_row_seed(sim_key(key)), c->num, c->kind, &v);
		}
	}
	bool same = rows == sum->rows && t && sum->sum_count == t->column_count;
	for (uint32_t i = 0; same && i < sum->sum_count; i++)
		same = sums[i] == sum->sums[i];
	if (!same)
		sim_fail(m->sim, "R21: device %d has %lld rows of table %u in %s at %lld, the hub's sum says %lld or other values",
			 m->device, (long long)rows, sum->table, sum->scope, (long long)m->position, (long long)sum->rows);
}

static bool named(const char *const *names, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void end_fill(struct model_replica *m)
{
	if (m->filling) {
		m->confirmed = m->staging;
		m->schema_hash = m->fill_hash;
		m->scope_count = 0;
	}
	for (uint32_t i = 0; i < m->fill_scope_count; i++)
		m->scopes[m->scope_count++] = m->fill_scopes[i];
	m->filling = m->beside = false;
	m->fill_scope_count = 0;
	m->fill_table = 0;
}

/* Scopes that it does not hold any more: their rows go, and nothing else. */
static void evict(struct model_replica *m, const struct message_welcome *w)
{
	bool goes[KEYS_MAX] = {false};
	uint32_t kept = 0;
	for (int key = 0; key < KEYS_MAX; key++)
		goes[key] = m->confirmed.rows[key].exists &&
			    !named(w->scopes, w->scope_count, sim_scope_name(sim_scope_of(&m->confirmed, key)));
	for (int key = 0; key < KEYS_MAX; key++)
		if (goes[key])
			m->confirmed.rows[key].exists = false;
	for (uint32_t i = 0; i < m->scope_count; i++)
		if (named(w->scopes, w->scope_count, m->scopes[i]))
			m->scopes[kept++] = m->scopes[i];
	m->scope_count = kept;
}

static void begin_fill(struct model_replica *m, const char *const *scopes, uint32_t count)
{
	memset(&m->staging, 0, sizeof m->staging);
	m->fill_table = 0;
	m->fill_position = 0;
	m->fill_scope_count = count;
	for (uint32_t i = 0; i < count; i++)
		m->fill_scopes[i] = sim_scope_name(sim_scope_number(scopes[i]));
}

/* It waited for the first state behind it. */
static void take_schema(struct model_replica *m)
{
	if (m->filling || m->schema_hash == m->fill_hash || m->faults.keep_old_schema)
		return;
	m->schema_hash = m->fill_hash;
	for (int key = 0; key < KEYS_MAX; key++)
		sim_row_under(&m->confirmed.rows[key], changes_of(m->schema_hash));
}

static enum ferry_error model_commit(void *store, const struct message_commit *c, struct store_commit_report *report,
				     struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	if (c->fill_done ? !m->filling && !m->beside : m->filling)
		sim_fail(m->sim, "device %d: a commit that %s the fill", m->device, c->fill_done ? "ends no" : "ignores");
	if (c->position < m->position && !c->fill_done)
		sim_fail(m->sim, "device %d goes back from %lld to %lld", m->device, (long long)m->position,
			 (long long)c->position);
	if (m->faults.trust_hub_clock && c->clock < m->commit_clock)
		return FERRY_BUSY;
	if (m->faults.bookmark_first && sim_chance(m->sim, 20))
		m->frame_count = 0;
	for (int key = 0; c->fill_done && m->beside && key < KEYS_MAX; key++)
		if (m->staging.rows[key].exists)
			m->confirmed.rows[key] = m->staging.rows[key];
	apply_frames(m, m->filling ? &m->staging : &m->confirmed);
	if (c->fill_done)
		end_fill(m);
	else
		take_schema(m);
	for (uint32_t i = 0; i < c->settled_count; i++)
		settle(m, &c->settled[i]);
	m->position = c->position;
	m->mark = c->mark;
	m->commit_clock = c->clock;
	for (uint32_t i = 0; i < c->sum_count; i++)
		check_sum(m, &c->sums[i]);
	report->settled = c->settled_count;
	return FERRY_OK;
}

static enum ferry_error model_fill(void *store, const struct message_fill *fill, struct ferry_why *why)
{
	struct model_replica *m = store;
	const struct block *b = &fill->block;
	(void)why;
	int first = m->frame_count; /* before it are frames that wait for their commit */
	keep_block(m, b, 0);
	for (int i = first; i < m->frame_count; i++)
		apply_frame_row(m, &m->staging, &m->frames[i]);
	m->frame_count = first;
	m->fill_position = fill->position;
	m->fill_table = b->table;
	m->fill_after = b->row_count ? b->keys[b->row_count - 1] : (struct uuid){{0}};
	(void)snprintf(m->fill_scope, sizeof m->fill_scope, "%s", fill->scope);
	return FERRY_OK;
}

/* The rest. */

static enum ferry_error model_hello(void *store, struct message_hello *out, struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	*out = (struct message_hello){.incarnation = {.b = {1, [14] = (uint8_t)(m->device >> 8), [15] = (uint8_t)m->device}},
				      .epoch = m->epoch,
				      .schema_hash = m->fill_table && m->filling ? m->fill_hash : m->schema_hash,
				      .step = m->schema_hash ? sim_schema_step(changes_of(m->schema_hash)) : 0, .position = m->position,
				      .mark = m->mark, .last_number = m->offered, .fill_position = m->fill_position,
				      .fill_table = m->fill_table, .fill_after = m->fill_after,
				      .fill_scope = m->fill_table ? m->fill_scope : NULL, .scopes = m->scopes,
				      .scope_count = m->scope_count, .fill_scopes = m->fill_scopes,
				      .fill_scope_count = m->fill_scope_count, .fill_beside = m->beside};
	if (m->faults.scopes_early && m->beside) {
		for (uint32_t i = 0; i < m->fill_scope_count; i++)
			m->scopes[m->scope_count++] = m->fill_scopes[i];
		out->scope_count = m->scope_count;
	}
	return FERRY_OK;
}

/* A mark for the next life, written down before the hub hears of it. */
static enum ferry_error model_live(void *store, struct message_hello *out, struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	if (!m->next_mark) {
		uint32_t last = m->tried_count < FERRY_LIFE_MARKS_MAX - 1 ? m->tried_count : FERRY_LIFE_MARKS_MAX - 2;
		m->next_mark = (int64_t)(sim_random(m->sim) >> 2) | 1;
		memmove(m->tried + 2, m->tried + 1, last * sizeof m->tried[0]);
		m->tried[1] = m->next_mark;
		m->tried_count = last + 1;
	}
	m->tried[0] = m->life_mark;
	out->life = m->life;
	out->life_marks = m->tried;
	out->life_mark_count = m->tried_count + 1;
	out->next_mark = m->next_mark;
	return FERRY_OK;
}

static bool settled_at_hub(const struct message_welcome *w, int64_t number)
{
	for (uint32_t i = 0; i < w->settled_above_count; i++)
		if (w->settled_above[i] == number)
			return true;
	return number <= w->settled;
}

static int64_t highest_at_hub(const struct message_welcome *w)
{
	int64_t highest = w->settled;
	for (uint32_t i = 0; i < w->settled_above_count; i++)
		highest = w->settled_above[i] > highest ? w->settled_above[i] : highest;
	return highest;
}

static void cut_all(struct model_replica *m)
{
	struct ferry_why why;
	bool more = true;
	while (more)
		(void)model_cut(m, &more, &why);
}

/* What was settled under numbers that this copy never pushed is another copy's; one that was
 * released cannot know what is its own. */
static void meet_other_copies(struct model_replica *m, const struct message_welcome *w)
{
	int64_t highest = highest_at_hub(w), last = m->last_number;
	if (highest > m->last_number && !m->faults.numbers_again)
		m->last_number = highest;
	if (w->adopted || highest > m->offered)
		cut_all(m);
	for (int i = 0; i < m->set_count; i++) {
		struct pending_set *s = &m->sets[i];
		bool strange = settled_at_hub(w, s->number) && (w->adopted || s->number > m->offered);
		if (!s->settled && strange && s->number <= last && !m->faults.numbers_again) {
			s->settled = true;
			s->kept = !m->faults.strange_vanish;
			sim_log(m->sim, "device %d keeps %lld as refused: another copy has used the number", m->device,
				(long long)s->number);
		}
	}
}

static void begin_life(struct model_replica *m, const struct message_welcome *w)
{
	if (w->life == 0)
		return;
	m->life = w->life;
	m->life_mark = m->next_mark;
	m->tried_count = 0;
	m->next_mark = 0;
}

static enum ferry_error model_welcome(void *store, const struct message_welcome *w, struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	m->epoch = w->epoch;
	m->fill_hash = w->schema_hash;
	meet_other_copies(m, w);
	begin_life(m, w);
	evict(m, w);
	m->beside = w->mode == WELCOME_DELTA && w->adding_count > 0;
	m->filling = w->mode != WELCOME_DELTA;
	if (w->mode == WELCOME_FILL)
		begin_fill(m, w->scopes, w->scope_count);
	else if (!m->filling && !(m->beside && w->adding_goes_on))
		begin_fill(m, w->adding, w->adding_count);
	return FERRY_OK;
}

static enum ferry_error model_schema(void *store, const struct schema *schema, struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	m->fill_hash = schema->table_count > 0 ? schema->hash : 0;
	if (!m->schema_hash)
		m->schema_hash = m->fill_hash;
	return FERRY_OK;
}

static enum ferry_error model_status(void *store, struct store_status *out, struct ferry_why *why)
{
	struct model_replica *m = store;
	(void)why;
	*out = (struct store_status){.position = m->position};
	for (int i = 0; i < m->set_count; i++)
		out->outbox_sets += !m->sets[i].settled;
	out->outbox_rows = (uint64_t)m->raw_count;
	return FERRY_OK;
}

static void model_clock(void *store, int64_t offset)
{
	((struct model_replica *)store)->clock_offset = offset;
}

static void model_disconnected(void *store)
{
	((struct model_replica *)store)->frame_count = 0;
}

static void model_crash(void *store)
{
	struct model_replica *m = store;
	m->frame_count = 0;
	m->cut_at = 0;
	m->next_mark = 0;
}

static void keep_row(const struct pending_row *p, struct sim_kept *out)
{
	if (p->op == ROW_DELETE)
		out->deletions[p->key]++;
	for (int i = 0; p->op != ROW_DELETE && i < CELLS_MAX; i++)
		if (p->has[i] && is_token(p->after.cells[i]))
			out->cells[p->after.cells[i]] = true;
	for (int i = 0; p->op != ROW_DELETE && sim_is_tally(p->key) && i < CELLS_MAX; i++)
		if (p->has[i])
			checker_keep_tally(out, p->key, p->after.cells[i]);
}

static void model_kept(void *store, struct sim_kept *out)
{
	const struct model_replica *m = store;
	for (int i = 0; i < m->set_count; i++)
		for (uint32_t r = 0; m->sets[i].kept && r < m->sets[i].row_count; r++)
			keep_row(&m->sets[i].rows[r], out);
}

static void model_refused(void *store, struct sim_kept *out)
{
	const struct model_replica *m = store;
	for (int i = 0; i < m->set_count; i++)
		for (uint32_t r = 0; (m->sets[i].kept || m->sets[i].refused) && r < m->sets[i].row_count; r++)
			keep_row(&m->sets[i].rows[r], out);
}

static int64_t model_last_number(void *store)
{
	return ((const struct model_replica *)store)->last_number;
}

static void model_free(void *store)
{
	struct model_replica *m = store;
	for (int i = 0; i < m->set_count; i++)
		free(m->sets[i].rows);
	free(m->sets);
	free(m->raw);
	free(m->frames);
	free(m);
}

static const struct agent_store_ops model_ops = {
	.hello = model_hello, .live = model_live, .welcome = model_welcome, .schema = model_schema, .cut = model_cut,
	.next_push = model_next_push, .ack = model_ack, .delta = model_delta, .commit = model_commit,
	.fill = model_fill, .status = model_status, .clock = model_clock, .disconnected = model_disconnected,
};

static struct sim_replica model_copy(void *store, const int64_t *skew);

static struct sim_replica as_replica(struct model_replica *m)
{
	return (struct sim_replica){.ops = &model_ops, .handle = &m->self, .store = m, .edit = model_edit, .visible = model_visible,
				    .changes = model_changes, .crash = model_crash, .copy = model_copy, .kept = model_kept, .refused = model_refused, .last_number = model_last_number, .free = model_free};
}

static struct sim_replica model_copy(void *store, const int64_t *skew)
{
	const struct model_replica *m = store;
	struct model_replica *copy = sim_dup(m, sizeof *m);
	copy->self = copy;
	copy->skew = skew;
	copy->sets = sim_dup(m->sets, SETS_MAX * sizeof *m->sets);
	for (int i = 0; i < m->set_count; i++)
		copy->sets[i].rows = sim_dup(m->sets[i].rows, m->sets[i].row_count * sizeof *m->sets[i].rows);
	copy->raw = sim_dup(m->raw, RAW_MAX * sizeof *m->raw);
	copy->frames = sim_alloc(FRAME_ROWS_MAX * sizeof *copy->frames);
	model_crash(copy);
	return as_replica(copy);
}

struct sim_replica model_replica_new(struct sim *sim, int device, const int64_t *skew, const struct replica_faults *faults)
{
	struct model_replica *m = sim_alloc(sizeof *m);
	m->self = m;
	m->sim = sim;
	m->device = device;
	m->skew = skew;
	m->faults = *faults;
	m->position = -1;
	m->sets = sim_alloc(SETS_MAX * sizeof *m->sets);
	m->raw = sim_alloc(RAW_MAX * sizeof *m->raw);
	m->frames = sim_alloc(FRAME_ROWS_MAX * sizeof *m->frames);
	return as_replica(m);
}
