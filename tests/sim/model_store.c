#include "tests/sim/model_inner.h"

#include <stdlib.h>
#include <string.h>

void model_later(struct call *c, sim_event_fn fn)
{
	struct sim *sim = c->store->db->sim;
	struct call *copy = sim_dup(c, sizeof *c + c->count * sizeof c->results[0]);
	sim_at(sim, sim->now + sim_delay(sim), c->store->generation, fn, NULL, copy);
}

/* The newest of its past bookmarks that is of this history, too. */
static void other_history(const struct model_db *db, const struct message_hello *hello, struct hub_device *d)
{
	d->bookmark_code = FERRY_OTHER_HISTORY;
	for (uint32_t i = 0; i < hello->past_count; i++) {
		const struct past_commit *p = model_commit_at(db, hello->past[i]);
		if (p->position == hello->past[i] && p->mark == hello->past_marks[i] && p->position > d->common) {
			d->common = p->position;
			d->common_mark = p->mark;
		}
	}
}

static bool names(const struct message_hello *hello, int64_t mark)
{
	for (uint32_t i = 0; i < hello->life_mark_count; i++)
		if (hello->life_marks[i] == mark)
			return true;
	return false;
}

static int64_t highest_settled(const struct model_db *db, int device)
{
	int64_t highest = 0;
	for (const struct verdict_row *v = db->verdicts; v; v = v->next)
		if (v->device == device && v->settled.number > highest)
			highest = v->settled.number;
	return highest;
}

/* Begins a life of the device, or finds that it is a copy with a mark of the past. */
static void greet(struct model_db *db, int device, const struct message_hello *hello, struct hub_device *d)
{
	struct lives *l = &db->device[device].lives;
	if (hello->next_mark == 0)
		return;
	if (l->mark && !names(hello, l->mark) && hello->life <= l->count && !db->faults.welcome_copies) {
		l->refused_mark = hello->life_marks[0];
		d->clone = true;
		return;
	}
	if (l->adopt_mark != NO_MARK && l->adopt_mark != hello->life_marks[0])
		l->adopt_mark = NO_MARK;
	d->adopted = l->adopt_mark != NO_MARK;
	l->count = (hello->life > l->count ? hello->life : l->count) + 1;
	l->mark = hello->next_mark;
	if (d->adopted || hello->last_number < highest_settled(db, device))
		l->apart = highest_settled(db, device);
	d->life = l->count;
	checker_life(db->checker, device, hello->next_mark, l->count);
	sim_log(db->sim, "device %d begins life %lld%s", device, (long long)l->count, d->adopted ? ", adopted" : "");
}

static void answer_device(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	if (model_db_fails(db) || c->device < 0) {
		c->cb.device(c->ctx, c->device < 0 ? FERRY_UNKNOWN_DEVICE : FERRY_DATABASE, NULL);
		return;
	}
	const char *scopes[SCOPES];
	int64_t *above = sim_alloc(10000 * sizeof *above);
	struct hub_device d = {.id = sim_device_id(c->device), .tenant = sim_tenant,
			       .incarnation = db->device[c->device].incarnation, .scopes = scopes,
			       .settled_above = above, .epoch = {.b = {0xee, db->epoch}}, .epoch_at = db->restored_at, .since = db->restored_at, .head = db->head->position, .staging = ++db->stagings, .rights = db->device[c->device].rights};
	greet(db, c->device, c->hello, &d);
	if (uuid_is_zero(&d.incarnation))
		db->device[c->device].incarnation = c->incarnation;
	for (int i = 0; i < SCOPES; i++)
		if (db->device[c->device].scopes[i])
			scopes[d.scope_count++] = sim_scope_name(i);
	while (model_verdict_of(db, c->device, d.settled + 1))
		d.settled++;
	for (int64_t n = d.settled + 2, last = highest_settled(db, c->device); n <= last; n++) /* else it pushes them again */
		if (model_verdict_of(db, c->device, n))
			above[d.settled_above_count++] = n;
	const struct past_commit *p = model_commit_at(db, c->position);
	d.bookmark_code = FERRY_OK;
	if (c->position >= 0 && c->position < db->pruned)
		d.bookmark_code = FERRY_PRUNED;
	else if (c->position >= 0 && (p->position != c->position || p->mark != c->mark))
		other_history(db, c->hello, &d);
	c->cb.device(c->ctx, FERRY_OK, &d);
	free(above);
}

static void store_device(void *store, const uint8_t fingerprint[32], const struct message_hello *hello, hub_device_cb cb,
			 void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.device = cb, .device = fingerprint[0] << 8 | fingerprint[1],
			 .position = hello->position, .mark = hello->mark, .incarnation = hello->incarnation, .hello = hello};
	model_later(&c, answer_device);
}

static void answer_schema(void *unused, void *arg)
{
	struct call *c = arg;
	struct hub_schema schema = {.schema = *sim_schema(c->store->db->now.changes)};
	(void)unused;
	c->cb.schema(c->ctx, FERRY_OK, &schema);
}

static void store_schema(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.schema = cb};
	(void)tenant;
	model_later(&c, answer_schema);
}

static void answer_merge(void *unused, void *arg)
{
	struct call *c = arg;
	(void)unused;
	c->cb.merge(c->ctx, c->error, c->results, c->error ? 0 : c->count);
}

static void effect_merge(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	if (model_db_fails(db)) {
		c->error = FERRY_DATABASE;
	} else {
		model_merge_run(c);
		if (model_db_fails(db)) /* the connection broke at COMMIT: done, but nobody was told */
			c->error = FERRY_DATABASE;
	}
	model_later(c, answer_merge);
}

/* The planted bug: says what will surely be, and leaves the doing for later. */
static void guess_merge(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	(void)unused;
	for (uint32_t i = 0; i < c->count; i++) {
		const struct verdict_row *known =
			model_verdict_of(db, sim_device_number(&c->items[i].device), c->items[i].number);
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
	model_later(c, s->db->faults.ack_before_commit ? guess_merge : effect_merge);
	free(c);
}

static void answer_stage(void *unused, void *arg)
{
	struct call *c = arg;
	(void)unused;
	c->cb.stage(c->ctx, c->error);
}

static bool keep_part(struct model_db *db, int device, int64_t staging, const struct change_set *part)
{
	for (int i = 0; i < STAGED_MAX; i++) {
		struct staged *s = &db->staged[i];
		if (s->number == part->number && s->device == device && s->part == part->part && s->staging == staging)
			return true;
		if (s->number && model_verdict_of(db, s->device, s->number)) { /* settled: its parts may go */
			buffer_deinit(&s->body);
			s->number = 0;
		}
		if (s->number)
			continue;
		*s = (struct staged){.device = device, .number = part->number, .staging = staging, .part = part->part};
		buffer_init(&s->body, MESSAGE_BYTES);
		return change_set_encode(part, &s->body) == FERRY_OK;
	}
	return false;
}

static void store_stage(void *store, const struct uuid *tenant, const struct uuid *device, int64_t staging,
			const struct change_set *part, hub_stage_cb cb, void *ctx)
{
	struct model_store *s = store;
	struct call c = {.store = s, .ctx = ctx, .cb.stage = cb};
	(void)tenant;
	if (model_db_fails(s->db) || !keep_part(s->db, sim_device_number(device), staging, part))
		c.error = FERRY_DATABASE;
	model_later(&c, answer_stage);
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
	model_later(&c, answer_poll);
}

static void answer_rights(void *unused, void *arg)
{
	struct call *c = arg;
	struct model_db *db = c->store->db;
	struct hub_rescoped *out = sim_alloc((size_t)db->devices * sizeof *out);
	uint32_t n = 0;
	(void)unused;
	for (int i = 0; i < db->devices; i++)
		if (db->device[i].rights > c->position)
			out[n++] = (struct hub_rescoped){.device = sim_device_id(i), .rights = db->device[i].rights};
	c->cb.rights(c->ctx, FERRY_OK, out, n);
	free(out);
}

static void store_rights(void *store, const struct uuid *tenant, int64_t after, hub_rights_cb cb, void *ctx)
{
	struct call c = {.store = store, .ctx = ctx, .cb.rights = cb, .position = after};
	(void)tenant;
	model_later(&c, answer_rights);
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
	.feed = model_feed, .compare = model_compare, .fill = model_fill, .poll = store_poll, .applied = store_applied, .rights = store_rights,
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
