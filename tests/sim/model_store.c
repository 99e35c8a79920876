#include "tests/sim/model_store.h"

#include <stdlib.h>
#include <string.h>

#include "shared/cell_hash.h"

#define MESSAGE_BYTES (1u << 20)
#define MERGE_BYTES (16u << 20)
#define STAGED_MAX 64

const struct uuid sim_tenant = {.b = {0x7e, 1}};

struct row_meta { /* beside state.rows */
	bool known;
	struct version row, columns[CELLS_MAX];
	int64_t born;
	struct uuid born_author;
	int64_t born_number;
};

struct database { /* what one transaction works on */
	struct sim_state state;
	struct row_meta meta[KEYS_MAX];
};

struct verdict_row {
	struct verdict_row *next;
	int device;
	struct settled settled;
};

struct past_commit {
	struct past_commit *previous;
	int64_t position, mark;
	struct sim_state state;
};

struct staged {
	int device;
	int64_t number;
	uint32_t part;
	struct buffer body;
};

struct device_row {
	struct uuid incarnation; /* zero until its first contact */
	bool scopes[SCOPES];
};

struct model_db {
	struct sim *sim;
	struct checker *checker;
	int devices;
	struct device_row device[DEVICES_MAX];
	struct database now;
	struct past_commit *head;
	struct verdict_row *verdicts; /* newest first */
	struct staged staged[STAGED_MAX];
	int64_t pruned;               /* bookmarks below are too old */
	struct model_faults faults;
};

struct model_store {
	struct model_db *db;
	const uint64_t *generation;
};

/* The database. */

struct model_db *model_db_new(struct sim *sim, struct checker *checker, int devices)
{
	struct model_db *db = sim_alloc(sizeof *db);
	db->sim = sim;
	db->checker = checker;
	db->devices = devices;
	db->head = sim_alloc(sizeof *db->head);
	return db;
}

void model_db_free(struct model_db *db)
{
	while (db->head) {
		struct past_commit *p = db->head->previous;
		free(db->head);
		db->head = p;
	}
	while (db->verdicts) {
		struct verdict_row *v = db->verdicts->next;
		free((void *)(uintptr_t)db->verdicts->settled.conflicts);
		free(db->verdicts);
		db->verdicts = v;
	}
	for (int i = 0; i < STAGED_MAX; i++)
		if (db->staged[i].number)
			buffer_deinit(&db->staged[i].body);
	free(db);
}

void model_db_faults(struct model_db *db, const struct model_faults *faults)
{
	db->faults = *faults;
}

void model_db_device(struct model_db *db, int device, const bool scopes[SCOPES])
{
	memcpy(db->device[device].scopes, scopes, SCOPES * sizeof(bool));
	checker_scopes(db->checker, device, scopes);
}

void model_db_fingerprint(int device, uint8_t out[32])
{
	memset(out, 0xf0 + device, 32);
}

const struct sim_state *model_db_state(const struct model_db *db)
{
	return &db->now.state;
}

int64_t model_db_head(const struct model_db *db)
{
	return db->head->position;
}

void model_db_prune(struct model_db *db)
{
	db->pruned = db->head->position;
}

/* The constraints of the tenant's model; what a deferred check at commit says. */
static enum ferry_error constraints(const struct sim_state *s)
{
	for (int key = 0; key < KEYS_MAX; key++) {
		const struct sim_row *r = &s->rows[key];
		if (!r->exists)
			continue;
		if (r->table == UNIT && POISON(r->cells[2]))
			return FERRY_CONSTRAINT;
		if (r->table == NOTE && !s->rows[r->cells[0]].exists)
			return FERRY_FOREIGN_KEY;
	}
	return FERRY_OK;
}

static void commit_state(struct model_db *db, const struct database *next, int64_t position)
{
	struct past_commit *p = sim_alloc(sizeof *p);
	db->now = *next;
	*p = (struct past_commit){.previous = db->head, .position = position,
				  .mark = (int64_t)(sim_random(db->sim) >> 2), .state = next->state};
	db->head = p;
}

static int64_t next_position(struct model_db *db)
{
	return db->head->position + 1 + (sim_chance(db->sim, 100) ? sim_range(db->sim, 1, 5) : 0);
}

/* `from` is the row as it is, `to` as it shall be. */
static void write_row(struct database *d, int key, const struct sim_row *to, const struct version *v)
{
	struct sim_row *row = &d->state.rows[key];
	struct row_meta *meta = &d->meta[key];
	bool begins = to->exists && !row->exists;
	for (int i = 0; to->exists && i < CELLS_MAX; i++)
		if (begins || to->cells[i] != row->cells[i])
			meta->columns[i] = *v;
	if (begins) {
		meta->born = v->position;
		meta->born_author = v->author;
		meta->born_number = v->number;
	}
	meta->known = true;
	meta->row = *v;
	*row = *to;
}

bool model_db_write(struct model_db *db, int key, const struct sim_row *row)
{
	struct database *next = sim_dup(&db->now, sizeof db->now);
	struct version v = {.position = next_position(db), .at = db->sim->now};
	struct sim_row before = db->now.state.rows[key], after = *row;
	if (!after.exists)
		after = (struct sim_row){.table = before.table};
	write_row(next, key, &after, &v);
	bool good = constraints(&next->state) == FERRY_OK && memcmp(&before, &after, sizeof after) != 0;
	if (good) {
		commit_state(db, next, v.position);
		checker_edit(db->checker, -1, key, &before, &after);
		checker_commit(db->checker, v.position, &db->now.state, NULL, NULL, 0);
		sim_log(db->sim, "sql writes row %d: position %lld", key, (long long)v.position);
	}
	free(next);
	return good;
}

static const struct past_commit *commit_at(const struct model_db *db, int64_t position)
{
	const struct past_commit *p = db->head;
	while (p->previous && p->position > position)
		p = p->previous;
	return p;
}

static const struct verdict_row *verdict_of(const struct model_db *db, int device, int64_t number)
{
	for (const struct verdict_row *v = db->verdicts; v; v = v->next)
		if (v->device == device && v->settled.number == number)
			return v;
	return NULL;
}

/* Merging. */

struct work { /* one merge call */
	struct model_db *db;
	struct database *d; /* tentative */
	int64_t position;
	struct arena arena;
	struct merge *merge;
};

static void load_row(struct work *w, uint32_t table, int key)
{
	const struct sim_row *row = &w->d->state.rows[key];
	const struct row_meta *meta = &w->d->meta[key];
	struct merge_row out = {.table = table, .key = *sim_key(key), .exists = row->exists, .known = meta->known,
				.version = meta->row, .born = meta->born, .born_author = meta->born_author,
				.born_number = meta->born_number};
	if (row->exists) {
		struct value *cells = arena_array(&w->arena, CELLS_MAX, sizeof *cells);
		for (int i = 0; i < sim_columns(table); i++)
			cells[i] = sim_value(table, i, row->cells[i]);
		out.cells = cells;
		out.column_versions = arena_copy(&w->arena, meta->columns, sizeof meta->columns);
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
	struct version v = {.position = w->position, .at = stamp->at, .author = stamp->author, .number = stamp->number};
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
		if (!sim_cell(m->table, m->nums[i] - 2, &m->cells[(size_t)i * m->row_count + r], &to.cells[m->nums[i] - 2]))
			sim_fail(w->db->sim, "the merge writes a value that is none");
	if (m->op != ROW_DELETE && !to.exists) {
		sim_fail(w->db->sim, "the merge updates row %d, which does not exist", key);
		return;
	}
	write_row(w->d, key, &to, &v);
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
			if (s->number == item->number && s->part == part && s->device == sim_device_number(&item->device) &&
			    change_set_decode(&w->arena, s->body.p, s->body.n, &out[n], &why) == FERRY_OK)
				n++;
		}
	return n;
}

static void apply_item(struct work *w, const struct merge_item *item, struct merge_outcome *out)
{
	struct change_set sets[8];
	uint32_t n = sets_of(w, item, sets, 8);
	*out = (struct merge_outcome){.verdict = VERDICT_ACCEPTED};
	if (n == 0)
		sim_fail(w->db->sim, "a staged change-set without parts is merged");
	for (uint32_t i = 0; i < n && out->verdict != VERDICT_REJECTED; i++) {
		checker_offered(w->db->checker, sim_device_number(&item->device), &sets[i]);
		if (w->db->faults.see_everything)
			sets[i].base_position = w->db->head->position;
		merge_wants(w->merge, &sets[i], load_wanted, w);
		struct merge_outcome part;
		enum ferry_error e = merge_apply(w->merge, &item->device, &sets[i], w->db->sim->now, &part);
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
	int64_t cell;
	if (c->num < 2 || !sim_cell(c->table, c->num - 2, v, &cell))
		return value_null();
	return sim_value(c->table, c->num - 2, cell);
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
	v->settled = (struct settled){.number = item->number, .verdict = o->verdict, .position = w->position,
				      .code = o->code, .conflicts = conflicts, .conflict_count = o->conflict_count,
				      .sentence = o->verdict == VERDICT_REJECTED ? ferry_error_text(o->code) : NULL};
	return v;
}

/* All in one merge; false when a constraint speaks against the whole. */
static bool merge_together(struct work *w, const struct merge_item *items, const bool *take, uint32_t count,
			   struct verdict_row **out)
{
	w->merge = merge_new(sim_schema(), MERGE_BYTES);
	for (uint32_t i = 0; i < count; i++) {
		struct merge_outcome o;
		if (!take[i])
			continue;
		apply_item(w, &items[i], &o);
		out[i] = new_verdict(w, &items[i], &o);
	}
	apply_writes(w);
	merge_free(w->merge);
	return constraints(&w->d->state) == FERRY_OK;
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
static void merge_apart(struct work *w, const struct merge_item *items, const bool *take, uint32_t count,
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
		struct merge_outcome refused = {.verdict = VERDICT_REJECTED, .code = (int)constraints(&w->d->state)};
		*w->d = *before;
		drop_verdicts(&out[i], 1);
		out[i] = new_verdict(w, &items[i], &refused);
	}
	free(before);
}

static void commit_verdicts(struct work *w, struct verdict_row **v, uint32_t count)
{
	struct settled *settled = sim_alloc(count * sizeof *settled);
	int *devices = sim_alloc(count * sizeof *devices);
	uint32_t n = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (!v[i])
			continue;
		v[i]->next = w->db->verdicts;
		w->db->verdicts = v[i];
		devices[n] = v[i]->device;
		settled[n++] = v[i]->settled;
		sim_log(w->db->sim, "settled device %d number %lld verdict %d at %lld", v[i]->device,
			(long long)v[i]->settled.number, (int)v[i]->settled.verdict, (long long)w->position);
	}
	if (n > 0) {
		commit_state(w->db, w->d, w->position);
		checker_commit(w->db->checker, w->position, &w->db->now.state, devices, settled, n);
	}
	free(settled);
	free(devices);
}

/* Calls: each is a small struct that travels through the event queue, first
 * to the moment of its effect, then to that of its answer. */

struct call {
	struct model_store *store;
	void *ctx;
	union {
		hub_device_cb device;
		hub_merge_cb merge;
		hub_stage_cb stage;
		hub_feed_cb feed;
		hub_fill_cb fill;
		hub_schema_cb schema;
		hub_poll_cb poll;
	} cb;
	enum ferry_error error;
	int device;
	int64_t number, position, mark; /* of hello, feed, fill */
	struct uuid incarnation;
	bool all_scopes;
	bool scopes[SCOPES];
	const struct merge_item *items; /* merge: the core's, valid until the answer */
	uint32_t count;
	struct merge_result results[];  /* merge */
};

static void later(struct call *c, sim_event_fn fn)
{
	struct sim *sim = c->store->db->sim;
	struct call *copy = sim_dup(c, sizeof *c + c->count * sizeof c->results[0]);
	sim_at(sim, sim->now + sim_delay(sim), c->store->generation, fn, NULL, copy);
}

static bool database_fails(struct model_db *db)
{
	return !db->sim->calm && sim_chance(db->sim, 5);
}

static void answer_device(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	if (database_fails(db) || c->device < 0) {
		c->cb.device(c->ctx, c->device < 0 ? FERRY_UNKNOWN_DEVICE : FERRY_DATABASE, NULL);
		return;
	}
	const char *scopes[SCOPES];
	int64_t *above = sim_alloc(10000 * sizeof *above);
	struct hub_device d = {.id = sim_device_id(c->device), .tenant = sim_tenant,
			       .incarnation = db->device[c->device].incarnation, .scopes = scopes,
			       .settled_above = above, .epoch = {.b = {0xee}}, .head = db->head->position};
	if (uuid_is_zero(&d.incarnation))
		db->device[c->device].incarnation = c->incarnation;
	for (int i = 0; i < SCOPES; i++)
		if (db->device[c->device].scopes[i])
			scopes[d.scope_count++] = sim_scope_name(i);
	while (verdict_of(db, c->device, d.settled + 1))
		d.settled++;
	for (int64_t n = d.settled + 2; n < d.settled + 200; n++)
		if (verdict_of(db, c->device, n))
			above[d.settled_above_count++] = n;
	const struct past_commit *p = commit_at(db, c->position);
	d.bookmark_code = FERRY_OK;
	if (c->position >= 0 && c->position < db->pruned)
		d.bookmark_code = FERRY_PRUNED;
	else if (c->position >= 0 && (p->position != c->position || p->mark != c->mark))
		d.bookmark_code = FERRY_OTHER_HISTORY;
	c->cb.device(c->ctx, FERRY_OK, &d);
	free(above);
}

static void store_device(void *store, const uint8_t fingerprint[32], const struct message_hello *hello, hub_device_cb cb,
			 void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.device = cb, .device = fingerprint[0] - 0xf0,
			 .position = hello->position, .mark = hello->mark, .incarnation = hello->incarnation};
	later(&c, answer_device);
}

static void answer_schema(void *unused, void *arg)
{
	struct call *c = arg;
	struct hub_schema schema = {.schema = *sim_schema()};
	(void)unused;
	c->cb.schema(c->ctx, FERRY_OK, &schema);
}

static void store_schema(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.schema = cb};
	(void)tenant;
	later(&c, answer_schema);
}

static void answer_merge(void *unused, void *arg)
{
	struct call *c = arg;
	(void)unused;
	c->cb.merge(c->ctx, c->error, c->results, c->error ? 0 : c->count);
}

/* Locked the device's row, this sees what any hub settled before. */
static bool take_item(struct call *c, uint32_t i, bool may_lock)
{
	struct model_db *db = c->store->db;
	struct merge_result *r = &c->results[i];
	int device = sim_device_number(&c->items[i].device);
	const struct verdict_row *known = verdict_of(db, device, c->items[i].number);
	*r = (struct merge_result){.device = c->items[i].device, .settled.number = c->items[i].number};
	if (known && !db->faults.forget_settled) {
		r->settled = known->settled;
		r->repeated = true;
		return false;
	}
	r->retry = may_lock && sim_chance(db->sim, 20); /* R12: rows held by somebody's open transaction */
	return !r->retry;
}

static void run_merge(struct call *c)
{
	struct model_db *db = c->store->db;
	struct database *d = sim_dup(&db->now, sizeof db->now);
	struct verdict_row **verdicts = sim_alloc(c->count * sizeof(void *));
	bool *take = sim_alloc(c->count);
	struct work w = {.db = db, .d = d, .position = next_position(db)};
	arena_init(&w.arena, MERGE_BYTES);
	for (uint32_t i = 0; i < c->count; i++)
		take[i] = take_item(c, i, c->count == 1);
	if (!merge_together(&w, c->items, take, c->count, verdicts)) {
		*d = db->now;
		drop_verdicts(verdicts, c->count);
		merge_apart(&w, c->items, take, c->count, verdicts);
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

static void effect_merge(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	if (database_fails(db)) {
		c->error = FERRY_DATABASE;
	} else {
		run_merge(c);
		if (database_fails(db)) /* the connection broke at COMMIT: done, but nobody was told */
			c->error = FERRY_DATABASE;
	}
	later(c, answer_merge);
}

/* The planted bug: says what will surely be, and leaves the doing for later. */
static void guess_merge(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	for (uint32_t i = 0; i < c->count; i++) {
		const struct verdict_row *known =
			verdict_of(db, sim_device_number(&c->items[i].device), c->items[i].number);
		c->results[i] = (struct merge_result){.device = c->items[i].device, .repeated = known != NULL};
		c->results[i].settled = known ? known->settled
					      : (struct settled){.number = c->items[i].number,
								 .verdict = VERDICT_ACCEPTED,
								 .position = db->head->position + 1};
	}
	answer_merge(NULL, c);
}

static void store_merge(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
			hub_merge_cb cb, void *ctx)
{
	struct model_store *s = store;
	struct call *c = sim_alloc(sizeof *c + count * sizeof c->results[0]);
	(void)tenant;
	*c = (struct call){.store = s, .ctx = ctx, .cb.merge = cb, .items = items, .count = count};
	later(c, s->db->faults.ack_before_commit ? guess_merge : effect_merge);
	free(c);
}

static void answer_stage(void *unused, void *arg)
{
	struct call *c = arg;
	(void)unused;
	c->cb.stage(c->ctx, c->error);
}

static bool keep_part(struct model_db *db, int device, const struct change_set *part)
{
	for (int i = 0; i < STAGED_MAX; i++) {
		struct staged *s = &db->staged[i];
		if (s->number == part->number && s->device == device && s->part == part->part)
			return true;
		if (s->number && verdict_of(db, s->device, s->number)) { /* settled: its parts may go */
			buffer_deinit(&s->body);
			s->number = 0;
		}
		if (s->number)
			continue;
		*s = (struct staged){.device = device, .number = part->number, .part = part->part};
		buffer_init(&s->body, MESSAGE_BYTES);
		return change_set_encode(part, &s->body) == FERRY_OK;
	}
	return false;
}

static void store_stage(void *store, const struct uuid *tenant, const struct uuid *device, const struct change_set *part,
			hub_stage_cb cb, void *ctx)
{
	struct model_store *s = store;
	struct call c = {.store = s, .ctx = ctx, .cb.stage = cb};
	(void)tenant;
	if (database_fails(s->db) || !keep_part(s->db, sim_device_number(device), part))
		c.error = FERRY_DATABASE;
	later(&c, answer_stage);
}

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
};

static void add_block(struct frame_maker *m, int key, enum row_op op, const struct sim_row *row, unsigned columns)
{
	struct block *b = &m->blocks[m->count++];
	uint16_t *nums = arena_array(m->arena, CELLS_MAX, sizeof *nums);
	struct value *cells = arena_array(m->arena, CELLS_MAX, sizeof *cells);
	*b = (struct block){.table = row->table, .op = op, .row_count = 1, .nums = nums, .cells = cells,
			    .keys = sim_key(key)};
	for (int i = 0; i < sim_columns(row->table); i++)
		if (columns & 1u << i) {
			nums[b->column_count] = sim_num(i);
			cells[b->column_count++] = sim_value(row->table, i, row->cells[i]);
		}
}

static unsigned changed_columns(const struct sim_row *a, const struct sim_row *b)
{
	unsigned columns = 0;
	for (int i = 0; i < sim_columns(a->table); i++)
		columns |= a->cells[i] != b->cells[i] ? 1u << i : 0;
	return columns;
}

/* A fill may have read at any moment since `from`. So only rows that were in
 * the scope all the time are told by their changed columns, and whatever was
 * there at some time and is no more has to be taken back. */
struct stay {
	bool ever[KEYS_MAX], always[KEYS_MAX], now[KEYS_MAX];
};

static void find_stays(const struct model_db *db, const struct feed_result *r, int scope, struct stay *s)
{
	memset(s->ever, false, KEYS_MAX);
	memset(s->always, true, KEYS_MAX);
	scope_rows(&commit_at(db, r->to)->state, scope, s->now);
	for (const struct past_commit *p = commit_at(db, r->to); p && p->position >= r->from; p = p->previous) {
		bool in[KEYS_MAX];
		scope_rows(&p->state, scope, in);
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
		unsigned changed = changed_columns(from, to);
		if (changed)
			add_block(m, key, ROW_UPDATE, to, changed);
	} else if (s->ever[key]) {
		add_block(m, key, to->exists ? ROW_LEFT : ROW_DELETE, to, 0);
	}
}

/* The table of a key never changes; deleted rows remember it. */
static void add_scope(struct frame_maker *m, const struct model_db *db, const struct feed_result *r, int scope)
{
	const struct sim_state *from = &commit_at(db, r->from)->state, *to = &commit_at(db, r->to)->state;
	struct stay *stay = sim_alloc(sizeof *stay);
	find_stays(db, r, scope, stay);
	for (uint32_t table = 1; table <= TABLES; table++)
		for (int key = 0; key < KEYS_MAX; key++)
			if (to->rows[key].table == table)
				add_row(m, stay, key, &from->rows[key], &to->rows[key]);
	free(stay);
}

static void add_sums(struct arena *arena, int scope, const struct sim_state *s, struct feed_result *r)
{
	bool is[KEYS_MAX];
	scope_rows(s, scope, is);
	for (uint32_t table = 1; table <= TABLES; table++) {
		uint64_t *sums = arena_array(arena, CELLS_MAX, sizeof *sums);
		struct scope_sum *sum = (struct scope_sum *)(uintptr_t)&r->sums[r->sum_count++];
		*sum = (struct scope_sum){.scope = sim_scope_name(scope), .table = table, .sums = sums,
					  .sum_count = (uint32_t)sim_columns(table)};
		for (int key = 0; key < KEYS_MAX; key++) {
			if (!is[key] || s->rows[key].table != table)
				continue;
			sum->rows++;
			for (int i = 0; i < sim_columns(table); i++) {
				struct value v = sim_value(table, i, s->rows[key].cells[i]);
				enum column_kind kind = sim_schema()->tables[table - 1].columns[i].kind;
				sums[i] ^= cell_hash(cell_hash_row_seed(sim_key(key)), sim_num(i), kind, &v);
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

static void feed_scope(struct model_db *db, struct arena *arena, struct feed_result *r, int scope)
{
	struct frame_maker m = {.arena = arena, .blocks = arena_array(arena, KEYS_MAX, sizeof(struct block))};
	add_scope(&m, db, r, scope);
	uint32_t cut = m.count > 1 && sim_chance(db->sim, 300) ? m.count / 2 : m.count;
	if (cut > 0)
		add_frame(db, arena, r, scope, m.blocks, cut);
	if (cut < m.count)
		add_frame(db, arena, r, scope, m.blocks + cut, m.count - cut);
	if (m.count > 0)
		add_sums(arena, scope, &commit_at(db, r->to)->state, r);
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
									.settled = v->settled};
}

static void answer_feed(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	if (database_fails(db)) {
		c->cb.feed(c->ctx, FERRY_DATABASE, NULL);
		return;
	}
	struct arena arena;
	arena_init(&arena, 64u << 20);
	struct feed_result r = {.from = c->position, .to = c->mark > c->position ? c->mark : c->position};
	r.mark = commit_at(db, r.to)->mark;
	r.frames = arena_array(&arena, 2 * SCOPES, sizeof *r.frames);
	r.sums = arena_array(&arena, TABLES * SCOPES * 2, sizeof *r.sums);
	feed_verdicts(c, &arena, &r);
	for (int scope = 0; scope < SCOPES; scope++) {
		if (!c->all_scopes && !c->scopes[scope])
			continue;
		uint32_t sums = r.sum_count;
		feed_scope(db, &arena, &r, scope);
		if (!c->all_scopes && r.sum_count == sums)
			add_sums(&arena, scope, &commit_at(db, r.to)->state, &r);
	}
	c->cb.feed(c->ctx, FERRY_OK, &r);
	arena_deinit(&arena);
}

/* The snapshot is taken now, the answer comes later. */
static void effect_feed(void *unused, void *arg)
{
	struct call *c = arg;
	(void)unused;
	c->mark = c->store->db->head->position;
	later(c, answer_feed);
}

static void store_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t scope_count,
		       const struct uuid *device, hub_feed_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.feed = cb, .position = from, .all_scopes = scopes == NULL,
			 .device = scopes && device ? sim_device_number(device) : -1};
	(void)tenant;
	for (uint32_t i = 0; scopes && i < scope_count; i++)
		c.scopes[sim_scope_number(scopes[i])] = true;
	later(&c, effect_feed);
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
	for (int i = 0; i < sim_columns(table); i++) {
		nums[i] = sim_num(i);
		for (uint32_t r = 0; r < n; r++)
			cells[(size_t)i * n + r] = sim_value(table, i, db->now.state.rows[keys[r]].cells[i]);
	}
	for (uint32_t r = 0; r < n; r++)
		ids[r] = *sim_key(keys[r]);
	struct message m = {.type = MESSAGE_FILL,
			    .fill = {.scope = sim_scope_name(c->device), .position = c->position, .table_done = done,
				     .block = {.table = table, .op = ROW_INSERT, .column_count = (uint16_t)sim_columns(table),
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
	if (database_fails(db)) {
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

static void store_fill(void *store, const struct fill_request *q, hub_fill_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.fill = cb, .device = sim_scope_number(q->scope),
			 .number = q->table, .position = q->position,
			 .mark = uuid_is_zero(&q->after) ? -1 : sim_key_number(&q->after)};
	later(&c, answer_fill);
}

static void answer_poll(void *unused, void *arg)
{
	struct call *c = arg;
	(void)unused;
	c->cb.poll(c->ctx, FERRY_OK, c->store->db->head->position);
}

static void store_poll(void *store, hub_poll_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.poll = cb};
	later(&c, answer_poll);
}

static void store_applied(void *store, const struct uuid *tenant, const struct uuid *device, int64_t position)
{
	(void)store;
	(void)tenant;
	(void)device;
	(void)position;
}

const struct hub_store_ops model_store_ops = {
	.device = store_device, .schema = store_schema, .merge = store_merge, .stage = store_stage,
	.feed = store_feed, .fill = store_fill, .poll = store_poll, .applied = store_applied,
};

struct model_store *model_store_new(struct model_db *db, const uint64_t *generation)
{
	struct model_store *s = sim_alloc(sizeof *s);
	s->db = db;
	s->generation = generation;
	return s;
}

void model_store_free(struct model_store *s)
{
	free(s);
}
