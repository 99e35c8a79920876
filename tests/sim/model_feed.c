#include "tests/sim/model_inner.h"

#include <stdlib.h>
#include <string.h>

#include "shared/cell_hash.h"

/* Feeds: differences between two states that were. */

static void scope_rows(const struct sim_state *s, int scope, bool in[KEYS_MAX])
{
	for (int key = 0; key < KEYS_MAX; key++)
		in[key] = s->rows[key].exists && sim_scope_of(s, key) == scope;
}

struct frame_maker {
	struct arena *arena;
	struct block *blocks;
	uint32_t count;
	unsigned from, to; /* changes of the schema */
};

static void add_block(struct frame_maker *m, int key, enum row_op op, const struct sim_row *row, unsigned columns)
{
	struct block *b = &m->blocks[m->count++];
	uint16_t *nums = arena_array(m->arena, CELLS_MAX, sizeof *nums);
	struct value *cells = arena_array(m->arena, CELLS_MAX, sizeof *cells);
	*b = (struct block){.table = row->table, .op = op, .row_count = 1, .nums = nums, .cells = cells,
			    .keys = sim_key(key)};
	const struct schema_table *t = sim_table(m->to, row->table);
	for (int i = 0; t && i < t->column_count; i++) {
		int cell = sim_cell_of(row->table, t->columns[i].num);
		if (!(columns & 1u << cell))
			continue;
		nums[b->column_count] = t->columns[i].num;
		cells[b->column_count++] = sim_value(t->columns[i].kind, row->table, cell, row->cells[cell]);
	}
}

/* With a change of the schema also what stands in another column now, or is of another type. */
static unsigned changed_columns(const struct frame_maker *m, const struct sim_row *a, const struct sim_row *b)
{
	unsigned columns = 0;
	for (int i = 0; i < sim_columns(a->table); i++)
		if (sim_column(m->to, b->table, i) && (a->cells[i] != b->cells[i] || !sim_same_column(b->table, i, m->from, m->to)))
			columns |= 1u << i;
	return columns;
}

/* A fill may have read at any moment since `from`. So only rows that were in
 * the scope all the time are told by their changed columns, and whatever was
 * there at some time and is no more has to be taken back. */
struct stay {
	bool ever[KEYS_MAX], always[KEYS_MAX], now[KEYS_MAX];
	unsigned other[TALLIES_MAX]; /* cells of tallies that were not what they are: unlike tokens, their values come back */
};

static void note_others(const struct sim_state *was, const struct sim_state *is, struct stay *s)
{
	for (int i = 0; i < TALLIES_MAX; i++)
		for (int cell = 0; cell < CELLS_MAX; cell++)
			if (was->rows[KEYS_MAX - 1 - i].cells[cell] != is->rows[KEYS_MAX - 1 - i].cells[cell])
				s->other[i] |= 1u << cell;
}

static void find_stays(const struct model_db *db, const struct feed_result *r, int scope, struct stay *s)
{
	memset(s->ever, false, KEYS_MAX);
	memset(s->other, 0, sizeof s->other);
	memset(s->always, true, KEYS_MAX);
	const struct sim_state *to = &model_commit_at(db, r->to)->state;
	scope_rows(to, scope, s->now);
	for (const struct past_commit *p = model_commit_at(db, r->to); p && p->position >= r->from; p = p->previous) {
		bool in[KEYS_MAX];
		scope_rows(&p->state, scope, in);
		note_others(&p->state, to, s);
		for (int key = 0; key < KEYS_MAX; key++) {
			s->ever[key] = s->ever[key] || in[key];
			s->always[key] = s->always[key] && in[key];
		}
	}
}

static void add_row(struct frame_maker *m, const struct stay *s, int key, const struct sim_row *from,
		    const struct sim_row *to)
{
	if (s->now[key] && !s->always[key]) {
		add_block(m, key, ROW_INSERT, to, ~0u);
	} else if (s->now[key]) {
		unsigned changed = changed_columns(m, from, to) | (to->table == TALLY ? s->other[KEYS_MAX - 1 - key] : 0);
		if (changed)
			add_block(m, key, ROW_UPDATE, to, changed);
	} else if (s->ever[key]) {
		add_block(m, key, to->exists ? ROW_LEFT : ROW_DELETE, to, 0);
	}
}

/* The table of a key never changes; deleted rows remember it. */
static void add_scope(struct frame_maker *m, const struct model_db *db, const struct feed_result *r, int scope)
{
	const struct sim_state *from = &model_commit_at(db, r->from)->state, *to = &model_commit_at(db, r->to)->state;
	struct stay *stay = sim_alloc(sizeof *stay);
	find_stays(db, r, scope, stay);
	for (uint32_t table = 1; table <= TABLES; table++)
		for (int key = 0; key < KEYS_MAX; key++)
			if (to->rows[key].table == table)
				add_row(m, stay, key, &from->rows[key], &to->rows[key]);
	free(stay);
}

static void add_sums(struct arena *arena, int scope, const struct past_commit *p, struct feed_result *r)
{
	const struct sim_state *s = &p->state;
	bool is[KEYS_MAX];
	scope_rows(s, scope, is);
	for (uint32_t table = 1; table <= TABLES; table++) {
		const struct schema_table *t = sim_table(p->changes, table);
		if (!t)
			continue;
		uint64_t *sums = arena_array(arena, CELLS_MAX, sizeof *sums);
		struct scope_sum *sum = (struct scope_sum *)(uintptr_t)&r->sums[r->sum_count++];
		*sum = (struct scope_sum){.scope = sim_scope_name(scope), .table = table, .sums = sums,
					  .sum_count = t->column_count};
		for (int key = 0; key < KEYS_MAX; key++) {
			if (!is[key] || s->rows[key].table != table)
				continue;
			sum->rows++;
			for (int i = 0; i < t->column_count; i++) {
				const struct schema_column *c = &t->columns[i];
				int cell = sim_cell_of(table, c->num);
				struct value v = sim_value(c->kind, table, cell, s->rows[key].cells[cell]);
				sums[i] ^= cell_hash(cell_hash_row_seed(sim_key(key)), c->num, c->kind, &v);
			}
		}
	}
}

static void add_frame(struct model_db *db, struct arena *arena, struct feed_result *r, int scope, const struct block *blocks,
		      uint32_t count)
{
	struct message m = {.type = MESSAGE_DELTA, .delta = {.scope = sim_scope_name(scope), .from = r->from, .to = r->to,
							     .blocks = blocks, .block_count = count}};
	struct buffer b;
	buffer_init(&b, MESSAGE_BYTES);
	if (message_encode(&m, &b))
		sim_fail(db->sim, "a frame cannot be encoded");
	struct feed_frame *f = (struct feed_frame *)(uintptr_t)&r->frames[r->frame_count];
	*f = (struct feed_frame){.scope = sim_scope_name(scope), .message = arena_copy(arena, b.p, b.n),
				 .message_bytes = b.n};
	if (!db->faults.skip_frames || !sim_chance(db->sim, 100))
		r->frame_count++;
	buffer_deinit(&b);
}

void model_wanted_row(struct model_db *db, struct arena *arena, struct feed_result *r, int scope, uint32_t table, int key,
		      const struct sim_row *row)
{
	unsigned changes = model_commit_at(db, r->to)->changes;
	struct frame_maker m = {.arena = arena, .from = changes, .to = changes, .blocks = arena_array(arena, 1, sizeof(struct block))};
	const struct sim_row none = {.table = table};
	if (row)
		add_block(&m, key, ROW_INSERT, row, ~0u);
	else
		add_block(&m, key, ROW_LEFT, &none, 0);
	add_frame(db, arena, r, scope, m.blocks, 1);
}

static void feed_scope(struct model_db *db, struct arena *arena, struct feed_result *r, int scope)
{
	struct frame_maker m = {.arena = arena, .from = model_commit_at(db, r->from)->changes,
				.to = model_commit_at(db, r->to)->changes, .blocks = arena_array(arena, KEYS_MAX, sizeof(struct block))};
	add_scope(&m, db, r, scope);
	uint32_t cut = m.count > 1 && sim_chance(db->sim, 300) ? m.count / 2 : m.count;
	if (cut > 0)
		add_frame(db, arena, r, scope, m.blocks, cut);
	if (cut < m.count)
		add_frame(db, arena, r, scope, m.blocks + cut, m.count - cut);
	if (m.count > 0)
		add_sums(arena, scope, model_commit_at(db, r->to), r);
}

static void feed_verdicts(const struct call *c, struct arena *arena, struct feed_result *r)
{
	struct model_db *db = c->store->db;
	uint32_t n = 0;
	for (const struct verdict_row *v = db->verdicts; v; v = v->next)
		n++;
	struct feed_settled *out = arena_array(arena, n, sizeof *out);
	r->settled = out;
	for (const struct verdict_row *v = db->verdicts; v; v = v->next)
		if (v->settled.position > r->from && v->settled.position <= r->to &&
		    (c->device < 0 || c->device == v->device) && !(db->faults.lose_verdicts && sim_chance(db->sim, 100)))
			out[r->settled_count++] = (struct feed_settled){.device = sim_device_id(v->device),
									.life = db->faults.hide_lives ? 0 : db->device[v->device].lives.count,
									.settled = v->settled};
}

static void answer_feed(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	if (model_db_fails(db)) {
		c->cb.feed(c->ctx, FERRY_DATABASE, NULL);
		return;
	}
	struct arena arena;
	arena_init(&arena, 64u << 20);
	struct feed_result r = {.from = c->position, .to = c->mark > c->position ? c->mark : c->position};
	r.mark = model_commit_at(db, r.to)->mark;
	r.schema_hash = sim_schema(model_commit_at(db, r.to)->changes)->hash;
	r.step = sim_schema_step(model_commit_at(db, r.to)->changes);
	r.frames = arena_array(&arena, 2 * SCOPES + KEYS_MAX, sizeof *r.frames);
	r.sums = arena_array(&arena, TABLES * SCOPES * 2, sizeof *r.sums);
	feed_verdicts(c, &arena, &r);
	for (int scope = 0; scope < SCOPES; scope++) {
		if (!c->all_scopes && !c->scopes[scope])
			continue;
		uint32_t sums = r.sum_count;
		feed_scope(db, &arena, &r, scope);
		if (!c->all_scopes && r.sum_count == sums)
			add_sums(&arena, scope, model_commit_at(db, r.to), &r);
	}
	if (c->question.asked)
		model_compare_answer(c, &arena, model_commit_at(db, r.to), &r);
	c->cb.feed(c->ctx, FERRY_OK, &r);
	arena_deinit(&arena);
}

/* The snapshot is taken now, the answer comes later. */
static void effect_feed(void *unused, void *arg)
{
	struct call *c = arg;
	(void)unused;
	c->mark = c->store->db->head->position;
	model_later(c, answer_feed);
}

void model_compare(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t scope_count,
		   const struct uuid *device, const struct message_compare *question, hub_feed_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.feed = cb, .position = from, .all_scopes = scopes == NULL,
			 .device = scopes && device ? sim_device_number(device) : -1};
	(void)tenant;
	for (uint32_t i = 0; scopes && i < scope_count; i++)
		c.scopes[sim_scope_number(scopes[i])] = true;
	if (question && !model_question_copy(question, &c.question))
		sim_fail(c.store->db->sim, "a device asks about what there is not");
	model_later(&c, effect_feed);
}

void model_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t scope_count,
		const struct uuid *device, hub_feed_cb cb, void *ctx)
{
	model_compare(store, tenant, from, scopes, scope_count, device, NULL, cb, ctx);
}

/* Fills. */

static int by_key(const void *a, const void *b)
{
	return uuid_compare(sim_key(*(const int *)a), sim_key(*(const int *)b));
}

static void fill_message(struct model_db *db, const struct call *c, const int *keys, uint32_t n, bool done,
			 struct buffer *out)
{
	uint32_t table = (uint32_t)c->number;
	uint16_t nums[CELLS_MAX];
	struct uuid *ids = sim_alloc(n * sizeof *ids);
	struct value *cells = sim_alloc((size_t)n * CELLS_MAX * sizeof *cells);
	const struct schema_table *t = sim_table(db->now.changes, table);
	for (int i = 0; i < t->column_count; i++) {
		int cell = sim_cell_of(table, t->columns[i].num);
		nums[i] = t->columns[i].num;
		for (uint32_t r = 0; r < n; r++)
			cells[(size_t)i * n + r] = sim_value(t->columns[i].kind, table, cell, db->now.state.rows[keys[r]].cells[cell]);
	}
	for (uint32_t r = 0; r < n; r++)
		ids[r] = *sim_key(keys[r]);
	struct message m = {.type = MESSAGE_FILL,
			    .fill = {.scope = sim_scope_name(c->device), .position = c->position, .table_done = done,
				     .block = {.table = table, .op = ROW_INSERT, .column_count = t->column_count,
					       .row_count = n, .nums = nums, .keys = ids, .cells = cells}}};
	if (message_encode(&m, out))
		sim_fail(db->sim, "a fill cannot be encoded");
	free(ids);
	free(cells);
}

static void answer_fill(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	int keys[KEYS_MAX];
	uint32_t n = 0, most = (uint32_t)sim_range(db->sim, 1, 6);
	bool in[KEYS_MAX];
	(void)unused;
	if (model_db_fails(db)) {
		c->cb.fill(c->ctx, FERRY_DATABASE, NULL);
		return;
	}
	scope_rows(&db->now.state, c->device, in);
	for (int key = 0; key < KEYS_MAX; key++)
		if (in[key] && db->now.state.rows[key].table == (uint32_t)c->number &&
		    (c->mark < 0 || uuid_compare(sim_key(key), sim_key((int)c->mark)) > 0))
			keys[n++] = key;
	qsort(keys, n, sizeof keys[0], by_key);
	struct fill_result r = {.table_done = n <= most};
	struct buffer b;
	buffer_init(&b, MESSAGE_BYTES);
	n = n < most ? n : most;
	fill_message(db, c, keys, n, r.table_done, &b);
	if (n > 0)
		r.last = *sim_key(keys[n - 1]);
	r.row_count = n;
	r.message = b.p;
	r.message_bytes = b.n;
	c->cb.fill(c->ctx, FERRY_OK, &r);
	buffer_deinit(&b);
}

void model_fill(void *store, const struct fill_request *q, hub_fill_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.fill = cb, .device = sim_scope_number(q->scope),
			 .number = q->table, .position = q->position,
			 .mark = uuid_is_zero(&q->after) ? -1 : sim_key_number(&q->after)};
	struct sim *sim = c.store->db->sim;
	if (c.store->db->fill_us > 0)
		sim_at(sim, sim->now + sim_range(sim, 1, c.store->db->fill_us), c.store->generation, answer_fill, NULL,
		       sim_dup(&c, sizeof c));
	else
		model_later(&c, answer_fill);
}

