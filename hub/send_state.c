/* From the ring, or a catch-up of its own, to a device: the frames of its
 * scopes, then one commit that makes them a state [P 8].
 *
 * A session has one state under way. While its link or its credit is short it
 * stays where it is, and what happens meanwhile joins the next state: a busy
 * or slow device gets fewer, larger ones, and costs the hub nothing but its
 * cursor. When the ring has moved past a session in the middle of a state,
 * the catch-up begins again at the last commit: its frames overlap what was
 * sent, which is harmless, since rows stand in them as they are later. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

static bool add_verdict(struct hub_core *core, uint32_t *count, const struct settled *settled)
{
	if (!vector_grow((void **)&core->settled, *count, &core->settled_capacity, sizeof(struct settled)))
		return false;
	core->settled[(*count)++] = *settled;
	return true;
}

/* Another copy of the device has come since, maybe at another hub: its
 * change-sets are not this one's, though the numbers are. */
static bool of_later_life(const struct hub_session *s, const struct feed_settled *f)
{
	return uuid_equal(&f->device, &s->device) && s->found.life != 0 && f->life > s->found.life;
}

/* False: this session's life is over. */
static bool still_lives(struct hub_session *s, const struct feed_settled *settled, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!of_later_life(s, &settled[i]))
			continue;
		session_fail(s, FERRY_LINK_CLOSED, 0, "a newer session of this device has begun");
		return false;
	}
	return true;
}

#define CONFLICT_BYTES_KEPT 4096 /* of a value: larger ones are the first to stay at the hub */

/* R3: this device's verdicts of the state. */
static bool gather_entry(struct hub_session *s, const struct ring_entry *e, uint32_t *count)
{
	for (uint32_t i = 0; i < e->settled_count; i++) {
		const struct feed_settled *f = &e->settled[i];

		if (f->settled.position <= s->position || !uuid_equal(&f->device, &s->device))
			continue;
		if (!add_verdict(s->core, count, &f->settled))
			return false;
	}
	return true;
}

static bool same_sum(const struct scope_sum *a, const struct scope_sum *b)
{
	return a->table == b->table && strcmp(a->scope, b->scope) == 0;
}

/* The newest sum of each scope and table; entries come newest first. */
static bool gather_sums(struct hub_session *s, const struct ring_entry *e, uint32_t *count)
{
	struct hub_core *core = s->core;
	uint32_t newer = *count;

	for (uint32_t i = 0; i < e->sum_count && *count < FERRY_SUMS_MAX; i++) {
		bool known = !scope_list_has(&s->scopes, e->sums[i].scope);

		for (uint32_t j = 0; j < newer && !known; j++)
			known = same_sum(&core->sums[j], &e->sums[i]);
		if (known)
			continue;
		if (!vector_grow((void **)&core->sums, *count, &core->sum_capacity, sizeof(struct scope_sum)))
			return false;
		core->sums[(*count)++] = e->sums[i];
	}
	return true;
}

/* Into the core's scratch: what the state from position to cursor settles. */
static bool gather(struct hub_session *s, uint32_t *out_verdicts, uint32_t *out_sums)
{
	const struct ring_entry *first = s->own != NULL ? s->own : ring_after(s->tenant, s->position);
	const struct ring_entry *e, *last = NULL;

	*out_verdicts = *out_sums = 0;
	for (e = first; e != NULL && e->to <= s->cursor; e = s->own != NULL ? NULL : TAILQ_NEXT(e, link)) {
		if (!gather_entry(s, e, out_verdicts))
			return false;
		last = e;
	}
	for (e = last; e != NULL; e = e == first ? NULL : TAILQ_PREV(e, entry_list, link)) {
		if (!gather_sums(s, e, out_sums))
			return false;
	}
	for (const struct owed *o = s->owed; o != NULL; o = o->next) {
		if (!add_verdict(s->core, out_verdicts, &o->settled))
			return false;
	}
	return true;
}

static uint32_t value_length(const struct value *v)
{
	return v->kind == VALUE_TEXT || v->kind == VALUE_BYTES ? v->n : 0;
}

/* Large values of conflicts stay at the hub, in ferry.conflict, and the device
 * is told so. Makes a list of the verdict's own in *bare. */
static bool leave_values_out(struct settled *v, struct conflict **bare, uint32_t bytes_max)
{
	if (*bare == NULL) {
		*bare = malloc(v->conflict_count * sizeof(**bare));
		if (*bare == NULL)
			return false;
		memcpy(*bare, v->conflicts, v->conflict_count * sizeof(**bare));
		v->conflicts = *bare;
	}
	for (uint32_t i = 0; i < v->conflict_count; i++) {
		struct conflict *c = &(*bare)[i];

		if (value_length(&c->device_value) <= bytes_max && value_length(&c->hub_value) <= bytes_max)
			continue;
		c->device_value = c->hub_value = value_null();
		c->left_out = true;
	}
	return true;
}

/* Encodes a commit with as many of the verdicts as a message holds. */
static enum ferry_error encode_commit(struct hub_core *core, struct message *m, struct settled *verdicts)
{
	struct message_commit *c = &m->commit;
	uint32_t bytes_max = CONFLICT_BYTES_KEPT;
	struct conflict *bare = NULL;
	enum ferry_error e;

	if (c->settled_count > FERRY_SETTLED_MAX)
		c->settled_count = FERRY_SETTLED_MAX;
	for (;;) {
		buffer_clear(&core->plain);
		e = message_encode(m, &core->plain);
		if (e != FERRY_MESSAGE_TOO_LARGE)
			break;
		if (c->settled_count > 1) {
			c->settled_count /= 2;
		} else if (c->settled_count == 1 && verdicts != NULL && verdicts->conflict_count > 0 && bytes_max > 0) {
			if (!leave_values_out(verdicts, &bare, bytes_max))
				e = FERRY_NO_MEMORY;
			bytes_max = bytes_max == CONFLICT_BYTES_KEPT ? 1 : 0;
		} else if (c->sum_count > 0) {
			c->sum_count = 0;
		} else {
			break;
		}
		if (e == FERRY_NO_MEMORY)
			break;
	}
	if (bare != NULL)
		verdicts->conflict_count = 0; /* encoded, and freed here */
	free(bare);
	return e;
}

static void free_owed(struct hub_session *s)
{
	while (s->owed != NULL) {
		struct owed *o = s->owed;

		s->owed = o->next;
		arena_deinit(&o->arena);
		free(o);
	}
}

static void note_newest(const struct hub_session *s)
{
	struct hub_newest *newest = &s->core->newest;

	if (s->cursor > newest->position)
		*newest = (struct hub_newest){.tenant = s->tenant->id, .position = s->cursor, .mark = s->cursor_mark};
}

static void committed(struct hub_session *s)
{
	note_newest(s);
	s->position = s->bookmark = s->cursor;
	s->mark = s->cursor_mark;
	s->in_state = false;
	s->greeted |= s->position >= s->found.head;
	s->verdicts_sent = 0;
	s->committed_at = core_now(s->core);
	free_owed(s);
	if (s->applied_at_total == 0) {
		s->applied_at_total = s->sent_total;
		s->applied_position = s->position;
	}
	if (s->state == FILLING || s->fill.closing)
		fill_end(s);
}

/* verdicts: the first of those that the message points to. */
static bool pack_commit(struct hub_session *s, struct message *m, struct settled *verdicts)
{
	struct hub_core *core = s->core;
	enum ferry_error e = encode_commit(core, m, verdicts);

	buffer_clear(&core->envelope);
	if (e == FERRY_OK)
		e = packer_pack(core->packer, core->plain.p, core->plain.n, &core->envelope);
	if (e != FERRY_OK)
		session_fail(s, (int)e, RETRY_HINT_MS, "a commit cannot be sent: %s", ferry_error_text((int)e));
	return e == FERRY_OK;
}

/* The first commit applies the state and carries its sums; verdicts that do
 * not fit follow in others of the same position. False: credit is short. */
static bool send_commit(struct hub_session *s)
{
	struct hub_core *core = s->core;
	uint32_t verdicts, sums;

	if (!gather(s, &verdicts, &sums)) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for a commit");
		return false;
	}
	do {
		struct message m = {.type = MESSAGE_COMMIT};
		bool first = s->verdicts_sent == 0;
		struct settled *rest = verdicts > s->verdicts_sent ? core->settled + s->verdicts_sent : NULL;

		m.commit = (struct message_commit){
			.position = s->cursor,
			.mark = s->cursor_mark,
			.settled = rest,
			.settled_count = rest == NULL ? 0 : verdicts - s->verdicts_sent,
			.sums = first ? core->sums : NULL,
			.sum_count = first ? sums : 0,
			.clock = core->fx.wall(core->shell),
			.fill_done = first && (s->state == FILLING || s->fill.closing),
			.backed_up = s->tenant->backed_up > s->backed_up ? s->tenant->backed_up : 0,
		};
		if (!pack_commit(s, &m, rest) || !session_send_packed(s, core->envelope.p, core->envelope.n))
			return false;
		s->verdicts_sent += m.commit.settled_count;
		s->backed_up = s->tenant->backed_up;
	} while (s->verdicts_sent < verdicts);
	committed(s);
	return true;
}

static void note_head(struct tenant *t, int64_t to)
{
	/* A ring without entries began at a place that turned out to lie ahead of
	 * this tenant's last commit. */
	if (TAILQ_EMPTY(&t->ring) && !t->feeding && to < t->head)
		t->head = to;
	ring_know(t, to);
}

bool state_take_own(struct hub_session *s, const struct feed_result *r)
{
	note_head(s->tenant, r->to);
	s->own = ring_entry_new(r);
	s->own_passed = false;
	return s->own != NULL;
}

static void take_catch_up(struct hub_session *s, const struct feed_result *r)
{
	s->tenant->backed_up = r->backed_up;
	s->schema_waits = false;
	note_head(s->tenant, r->to);
	if (r->to == r->from && s->state == LIVE && !s->fill.closing) {
		s->in_state = false;
		if (!ring_covers(s->tenant, s->position))
			session_fail(s, FERRY_INTERNAL, RETRY_HINT_MS, "the feed does not reach the present");
		return;
	}
	if (!state_take_own(s, r))
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this state");
}

static void caught_up(void *ctx, enum ferry_error e, const struct feed_result *result)
{
	struct hub_session *s = ctx;
	struct hub_core *core = s->core;

	core_enter(core);
	session_release(s);
	s->catching = false;
	if (session_up(s)) {
		if (e == FERRY_PRUNED || e == FERRY_OTHER_HISTORY)
			core_note_too_far(core, &s->device);
		if (e == FERRY_OK && core_schema_met(s->tenant, result->schema_hash, result->step) && session_up(s))
			take_catch_up(s, result);
		else if (e != FERRY_OK)
			session_fail(s, (int)e, RETRY_HINT_MS, "the feed cannot be read: %s", ferry_error_text((int)e));
		session_pump(s);
		if (session_up(s))
			ring_work(s->tenant);
	}
	core_leave(core);
}

/* A fill of new scopes can be over before the others are at the position it
 * began at: then these lack what came between. What scopes hear twice does no
 * harm. */
static int64_t closing_from(const struct hub_session *s)
{
	return s->fill.position < s->position ? s->fill.position : s->position;
}

void state_begin_own(struct hub_session *s)
{
	assert(!s->catching && s->own == NULL);
	s->catching = true;
	s->frame_index = 0;
	s->verdicts_sent = 0;
	s->cursor = s->fill.closing ? closing_from(s) : s->position;
	s->cursor_mark = s->mark;
	session_hold(s);
}

void state_catch_up(struct hub_session *s)
{
	int64_t from = s->position;

	if (s->state == FILLING)
		from = s->fill.position;
	else if (s->fill.closing)
		from = closing_from(s);
	state_begin_own(s);
	s->core->ops->feed(s->core->store, &s->tenant->id, from, (const char *const *)s->scopes.names, s->scopes.count,
			   &s->device, caught_up, s);
}

static void old_verdicts_came(void *ctx, enum ferry_error e, const struct feed_result *result)
{
	struct hub_session *s = ctx;
	struct hub_core *core = s->core;

	core_enter(core);
	session_release(s);
	s->catching = false;
	s->fill.verdicts_known = true;
	if (session_up(s)) {
		/* Where the log is pruned that far the device offers its change-sets
		 * again, and learns the verdicts then. */
		if (e != FERRY_OK && e != FERRY_PRUNED)
			session_fail(s, (int)e, RETRY_HINT_MS, "the verdicts cannot be read: %s", ferry_error_text((int)e));
		bool lives = e != FERRY_OK || still_lives(s, result->settled, result->settled_count);

		for (uint32_t i = 0; e == FERRY_OK && lives && i < result->settled_count; i++)
			state_owe(s, &result->settled[i].settled);
		if (session_up(s))
			session_pump(s);
	}
	core_leave(core);
}

/* A fill skips from the bookmark to the position it began at; the verdicts
 * between belong into the commit that closes it (R3), or the device would
 * show settled change-sets as pending on top of a state that has them. */
static void ask_old_verdicts(struct hub_session *s)
{
	s->catching = true;
	session_hold(s);
	s->core->ops->feed(s->core->store, &s->tenant->id, s->hello.position, (const char *const *)s->scopes.names, 0,
			   &s->device, old_verdicts_came, s);
}

static bool has_verdict(const struct hub_session *s, const struct ring_entry *e)
{
	for (uint32_t i = 0; i < e->settled_count; i++) {
		if (e->settled[i].settled.position > s->position && uuid_equal(&e->settled[i].device, &s->device))
			return true;
	}
	return false;
}

/* False: it stopped for want of credit, or ended. */
static bool pass_entry(struct hub_session *s, struct ring_entry *e)
{
	if (!still_lives(s, e->settled, e->settled_count) || !ring_send_frames(s, e))
		return false;
	s->in_state |= has_verdict(s, e);
	s->frame_index = 0;
	s->cursor = e->to;
	s->cursor_mark = e->mark;
	return true;
}

static bool pump_own(struct hub_session *s)
{
	if (!s->own_passed && !pass_entry(s, s->own))
		return false;
	s->own_passed = true;
	s->cursor = s->own->to;
	s->cursor_mark = s->own->mark;
	if (!send_commit(s))
		return false;
	ring_entry_free(s->own);
	s->own = NULL;
	return true;
}

static void pump_ring(struct hub_session *s)
{
	struct ring_entry *e;

	while (s->verdicts_sent == 0 && (e = ring_after(s->tenant, s->cursor)) != NULL) {
		if (!pass_entry(s, e))
			return;
	}
	/* After the welcome one commit comes in any case, be it of nothing: by it
	 * the device knows that it has all that was there when it came. */
	bool greet = !s->greeted && s->cursor >= s->found.head;

	if (s->in_state || s->owed != NULL || greet) {
		(void)send_commit(s); /* or later, when there is credit */
		return;
	}
	s->position = s->cursor; /* nothing of it was for this device */
	s->mark = s->cursor_mark;
}

/* All rows of the new scopes are sent: one catch-up of everything since their
 * fill began, or since where the session stands if that is older, joins them
 * with what it was fed. */
static bool begin_closing(struct hub_session *s)
{
	if (!s->fill.beside || !s->fill.done || s->fill.closing || s->own != NULL || s->in_state)
		return false;
	s->fill.closing = true;
	s->scopes = s->owned;
	state_catch_up(s);
	return true;
}

void state_pump(struct hub_session *s)
{
	struct hub_core *core = s->core;

	if (s->state == FILLING && s->fill.compared && !s->fill.done)
		compare_pump_rewound(s);
	if (s->catching || (s->state == FILLING && !s->fill.done))
		return;
	if (core->fx.queued(core->shell, s->link) > LINK_QUEUE_BYTES_MAX)
		return; /* drained() comes */
	if (s->state == FILLING && !s->fill.verdicts_known && s->hello.position >= 0) {
		ask_old_verdicts(s);
		return;
	}
	if (begin_closing(s))
		return;
	if (s->own == NULL && (s->state == FILLING || s->schema_waits || !ring_covers(s->tenant, s->position))) {
		state_catch_up(s);
		return;
	}
	if (s->own != NULL && !pump_own(s))
		return;
	if (!compare_send(s))
		return;
	if (!ring_covers(s->tenant, s->position))
		state_catch_up(s);
	else
		pump_ring(s);
	if (session_up(s))
		compare_pump(s);
}

/* Commits of nothing are saved up, but a bookmark should not grow old. */
void state_idle_commit(struct hub_session *s)
{
	if (!session_up(s) || s->state != LIVE || s->in_state || s->catching || s->own != NULL)
		return;
	if (s->position > s->bookmark && core_now(s->core) >= s->committed_at + IDLE_COMMIT_US)
		(void)send_commit(s);
}

/* A verdict from before the device's bookmark comes in no state any more, and
 * an ack alone removes nothing (R3): the next commit repeats it. */
void state_owe(struct hub_session *s, const struct settled *settled)
{
	int64_t passed = s->state == FILLING ? s->fill.position : s->position;
	struct owed **end = &s->owed, *o;

	if (settled->position > passed)
		return;
	o = calloc(1, sizeof(*o));
	if (o == NULL)
		return; /* the device will ask again */
	arena_init(&o->arena, (size_t)s->core->limits.message_bytes_max * 2);
	if (!settled_copy(&o->arena, settled, &o->settled)) {
		arena_deinit(&o->arena);
		free(o);
		return;
	}
	while (*end != NULL)
		end = &(*end)->next;
	*end = o;
}

void state_free(struct hub_session *s)
{
	ring_entry_free(s->own);
	s->own = NULL;
	free_owed(s);
}
