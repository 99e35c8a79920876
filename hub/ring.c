/* A tenant's ring: the newest states of its feed, encoded once and shared by
 * all its sessions. One store call at a time; a new one when a position is
 * known beyond the ring's head. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

/* With many sessions a state costs more to hand out than to make, so states
 * keep a distance and each holds more. With few there is none: one write
 * reaches the others at once. Half the distance that merges keep: a merge's
 * own state never waits, a flood of ordinary SQL is still folded. */
#define FEED_PACE_SESSIONS 4u
#define FEED_PACE_US_EACH INT64_C(250)
#define FEED_PACE_MAX_US INT64_C(30000)

#define ENTRY_ARENA_BYTES_MAX ((size_t)64 << 20)

static bool value_copy(struct arena *a, struct value *v)
{
	if (v->kind != VALUE_TEXT && v->kind != VALUE_BYTES)
		return true;
	v->p = arena_copy(a, v->p, v->n);
	return v->p != NULL || v->n == 0;
}

bool settled_copy(struct arena *a, const struct settled *from, struct settled *out)
{
	struct conflict *conflicts = NULL;

	*out = *from;
	if (from->sentence != NULL)
		out->sentence = arena_text(a, from->sentence, strlen(from->sentence));
	if (from->conflict_count > 0) {
		conflicts = arena_copy(a, from->conflicts, from->conflict_count * sizeof(*conflicts));
		if (conflicts == NULL)
			return false;
	}
	for (uint32_t i = 0; i < from->conflict_count; i++) {
		if (!value_copy(a, &conflicts[i].device_value) || !value_copy(a, &conflicts[i].hub_value))
			return false;
	}
	out->conflicts = conflicts;
	return from->sentence == NULL || out->sentence != NULL;
}

static bool copy_verdicts(struct ring_entry *e, const struct feed_result *r)
{
	struct feed_settled *to = arena_array(&e->arena, r->settled_count + 1u, sizeof(*to));

	if (to == NULL)
		return false;
	for (uint32_t i = 0; i < r->settled_count; i++) {
		to[i].device = r->settled[i].device;
		to[i].life = r->settled[i].life;
		if (!settled_copy(&e->arena, &r->settled[i].settled, &to[i].settled))
			return false;
	}
	e->settled = to;
	e->settled_count = r->settled_count;
	return true;
}

static bool copy_sums(struct ring_entry *e, const struct feed_result *r)
{
	struct scope_sum *to = arena_array(&e->arena, r->sum_count + 1u, sizeof(*to));

	if (to == NULL)
		return false;
	for (uint32_t i = 0; i < r->sum_count; i++) {
		const struct scope_sum *from = &r->sums[i];

		to[i] = *from;
		to[i].scope = arena_text(&e->arena, from->scope, strlen(from->scope));
		if (from->sum_count > 0)
			to[i].sums = arena_copy(&e->arena, from->sums, from->sum_count * sizeof(*from->sums));
		if (to[i].scope == NULL || (from->sum_count > 0 && to[i].sums == NULL))
			return false;
	}
	e->sums = to;
	e->sum_count = r->sum_count;
	return true;
}

/* Frames are allocated by themselves: each is replaced by its envelope when
 * the first session needs it. */
static bool copy_frames(struct ring_entry *e, const struct feed_result *r)
{
	e->frames = arena_array(&e->arena, r->frame_count + 1u, sizeof(*e->frames));
	if (e->frames == NULL)
		return false;
	for (uint32_t i = 0; i < r->frame_count; i++) {
		const struct feed_frame *from = &r->frames[i];
		struct ring_frame *to = &e->frames[i];

		to->scope = arena_text(&e->arena, from->scope, strlen(from->scope));
		to->bytes = malloc(from->message_bytes + 1);
		if (to->scope == NULL || to->bytes == NULL) {
			free(to->bytes);
			return false;
		}
		memcpy(to->bytes, from->message, from->message_bytes);
		to->n = from->message_bytes;
		e->bytes += to->n;
		e->frame_count++;
	}
	return true;
}

struct ring_entry *ring_entry_new(const struct feed_result *r)
{
	struct ring_entry *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	arena_init(&e->arena, ENTRY_ARENA_BYTES_MAX);
	e->from = r->from;
	e->to = r->to;
	e->mark = r->mark;
	if (!copy_frames(e, r) || !copy_verdicts(e, r) || !copy_sums(e, r)) {
		ring_entry_free(e);
		return NULL;
	}
	e->bytes += sizeof(*e) + e->arena.used_bytes;
	return e;
}

void ring_entry_free(struct ring_entry *e)
{
	if (e == NULL)
		return;
	for (uint32_t i = 0; i < e->frame_count; i++)
		free(e->frames[i].bytes);
	arena_deinit(&e->arena);
	free(e);
}

static void drop_first(struct tenant *t)
{
	struct ring_entry *e = TAILQ_FIRST(&t->ring);

	TAILQ_REMOVE(&t->ring, e, link);
	t->ring_bytes -= e->bytes;
	ring_entry_free(e);
}

void ring_free(struct tenant *t)
{
	while (!TAILQ_EMPTY(&t->ring))
		drop_first(t);
}

static void ring_append(struct tenant *t, struct ring_entry *e)
{
	assert(e->from == t->head && e->to > e->from);
	TAILQ_INSERT_TAIL(&t->ring, e, link);
	t->ring_bytes += e->bytes;
	t->head = e->to;
	while (t->ring_bytes > t->core->limits.ring_bytes_max && !TAILQ_EMPTY(&t->ring))
		drop_first(t);
}

bool ring_covers(const struct tenant *t, int64_t position)
{
	const struct ring_entry *first = TAILQ_FIRST(&t->ring);

	return position >= (first == NULL ? t->head : first->from);
}

struct ring_entry *ring_after(const struct tenant *t, int64_t position)
{
	struct ring_entry *e = TAILQ_LAST(&t->ring, entry_list), *before;

	if (e == NULL || e->to <= position)
		return NULL;
	while ((before = TAILQ_PREV(e, entry_list, link)) != NULL && before->to > position)
		e = before;
	return e;
}

static bool frame_pack(struct hub_core *core, struct ring_frame *f)
{
	uint8_t *packed;

	if (f->in_envelope)
		return true;
	buffer_clear(&core->envelope);
	if (packer_pack(core->packer, f->bytes, f->n, &core->envelope) != FERRY_OK)
		return false;
	packed = malloc(core->envelope.n);
	if (packed == NULL)
		return false;
	memcpy(packed, core->envelope.p, core->envelope.n);
	free(f->bytes);
	f->bytes = packed;
	f->n = core->envelope.n;
	f->in_envelope = true;
	return true;
}

bool ring_send_frames(struct hub_session *s, struct ring_entry *e)
{
	for (; s->frame_index < e->frame_count; s->frame_index++) {
		struct ring_frame *f = &e->frames[s->frame_index];

		if (!scope_list_has(&s->scopes, f->scope))
			continue;
		if (!frame_pack(s->core, f)) {
			session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for a frame");
			return false;
		}
		if (!session_send_packed(s, f->bytes, f->n))
			return false;
		s->in_state = true;
		s->core->stats.frames_sent++;
	}
	return true;
}

/* A position exists, of this tenant or another: the next feed tells. */
void ring_know(struct tenant *t, int64_t position)
{
	int64_t soonest;

	if (position <= t->known)
		return;
	t->known = position;
	t->recheck_us = RECHECK_US;
	/* With very many tenants most positions are of others. */
	soonest = t->core->tenant_count < 20 ? 0 : t->fed_at + (int64_t)t->core->tenant_count * RECHECK_US;
	if (t->feed_not_before > soonest)
		t->feed_not_before = soonest;
}

static int64_t feed_due(const struct tenant *t)
{
	int64_t us = (int64_t)t->session_count * FEED_PACE_US_EACH;
	int64_t due = t->fed_at;

	if (t->session_count > FEED_PACE_SESSIONS)
		due += us < FEED_PACE_MAX_US ? us : FEED_PACE_MAX_US;
	return due > t->feed_not_before ? due : t->feed_not_before;
}

static void recheck_later(struct tenant *t)
{
	t->feed_not_before = core_now(t->core) + t->recheck_us;
	t->recheck_us = t->recheck_us * 2 < RECHECK_MAX_US ? t->recheck_us * 2 : RECHECK_MAX_US;
}

static void pump_all(struct tenant *t)
{
	struct hub_session *s, *next;

	for (s = TAILQ_FIRST(&t->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, peers);
		session_pump(s);
	}
}

static void take_feed(struct tenant *t, const struct feed_result *r)
{
	struct ring_entry *e;

	t->backed_up = r->backed_up;
	assert(r->from == t->head && r->to >= r->from);
	if (r->to > r->from) {
		e = ring_entry_new(r);
		if (e == NULL) {
			recheck_later(t); /* no memory now */
			return;
		}
		ring_append(t, e);
		t->recheck_us = RECHECK_US;
		t->feed_not_before = 0;
		pump_all(t);
	}
	/* What is known but not there yet may be in the middle of its commit, or
	 * another tenant's. */
	if (t->head < t->known)
		recheck_later(t);
}

/* The ring's own place is gone from the log: a new ring from the present;
 * each session catches up by itself and learns that it must be filled. */
static void restart_ring(struct tenant *t)
{
	ring_free(t);
	t->head = t->known;
	pump_all(t);
}

static void fed(void *ctx, enum ferry_error e, const struct feed_result *result)
{
	struct tenant *t = ctx;
	struct hub_core *core = t->core;

	core_enter(core);
	t->feeding = false;
	if (e == FERRY_OK && core_schema_met(t, result->schema_hash, result->step))
		take_feed(t, result);
	else if (e == FERRY_PRUNED || e == FERRY_OTHER_HISTORY)
		restart_ring(t);
	else
		recheck_later(t);
	ring_work(t);
	t->refs--;
	core->sweep = true;
	core_leave(core);
}

void ring_work(struct tenant *t)
{
	struct hub_core *core = t->core;
	int64_t now = core_now(core), due;

	if (t->feeding || t->head < 0 || t->known <= t->head || TAILQ_EMPTY(&t->sessions))
		return;
	due = feed_due(t);
	if (now < due) {
		core_wake(core, due);
		return;
	}
	t->feeding = true;
	t->fed_at = now;
	t->refs++;
	core->stats.feeds++;
	core->ops->feed(core->store, &t->id, t->head, NULL, 0, NULL, fed, t);
}
