/* compare [P 9.11]: a device looks for what differs, or wants rows again.
 *
 * The answer belongs to one state: a catch-up of the session's own takes the
 * snapshot, its frames hold the wanted rows beside what changed, its commit
 * closes it, and right behind that commit stand the hashes. A session has one
 * question at a time, which begins when no other state is under way. */
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

#define QUESTION_BYTES_MAX ((size_t)256 << 10)

struct comparing {
	struct arena arena;
	struct message_compare question;
	bool asked;            /* of the store */
	struct packed *answer; /* waits for its commit, then for credit */
};

static bool copy_question(struct comparing *c, const struct message_compare *m)
{
	struct message_compare *to = &c->question;

	*to = *m;
	to->scope = arena_text(&c->arena, m->scope, strlen(m->scope));
	to->ranges = arena_copy(&c->arena, m->ranges, m->range_count * sizeof(*m->ranges));
	to->keys = arena_copy(&c->arena, m->keys, m->key_count * sizeof(*m->keys));
	return to->scope != NULL && (to->ranges != NULL || m->range_count == 0) && (to->keys != NULL || m->key_count == 0);
}

void compare_free(struct hub_session *s)
{
	if (s->comparing == NULL)
		return;
	free(s->comparing->answer);
	arena_deinit(&s->comparing->arena);
	free(s->comparing);
	s->comparing = NULL;
}

void handle_compare(struct hub_session *s, const struct message_compare *m)
{
	bool rewinding = s->state == FILLING && s->fill.compared && !s->fill.done;

	if ((s->state != LIVE && !rewinding) || s->comparing != NULL || s->core->ops->compare == NULL) {
		session_fail(s, FERRY_UNEXPECTED_MESSAGE, -1, "a message compare is not allowed now");
		return;
	}
	if (!scope_list_has(&s->scopes, m->scope)) {
		session_fail(s, FERRY_OUT_OF_SCOPE, RETRY_HINT_MS, "this device does not hold that scope");
		return;
	}
	if (rewinding && !m->sums && m->range_count == 0 && m->key_count == 0) { /* it has compared all */
		s->fill.done = true;
		session_pump(s);
		return;
	}
	s->comparing = calloc(1, sizeof(*s->comparing));
	if (s->comparing != NULL)
		arena_init(&s->comparing->arena, QUESTION_BYTES_MAX);
	if (s->comparing == NULL || !copy_question(s->comparing, m)) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for a comparison");
		return;
	}
	core_log(s->core, rewinding ? HUB_LOG_DEBUG : HUB_LOG_INFO, &s->tenant->id, &s->device,
		 "event=compare table=%u scope=%s ranges=%u rows=%u", m->table, m->scope, m->range_count, m->key_count);
	session_pump(s);
}

/* Also while nothing differs it ends a state, so the next question may come. */
bool compare_send(struct hub_session *s)
{
	struct packed *answer = s->comparing == NULL ? NULL : s->comparing->answer;

	if (answer == NULL)
		return true;
	if (!session_send_packed(s, answer->bytes, answer->n))
		return false;
	compare_free(s);
	return true;
}

static bool pack_answer(struct hub_session *s, const struct feed_result *r)
{
	struct comparing *c = s->comparing;
	struct message m = {.type = MESSAGE_RANGES,
			    .ranges = {.scope = c->question.scope, .table = c->question.table, .position = r->to,
				       .ranges = r->ranges, .range_count = r->range_count, .sums = r->sums,
				       .sum_count = c->question.sums ? r->sum_count : 0, .all_sums = c->question.sums}};
	struct hub_core *core = s->core;
	enum ferry_error e;

	buffer_clear(&core->plain);
	buffer_clear(&core->envelope);
	e = message_encode(&m, &core->plain);
	if (e != FERRY_OK && m.ranges.sum_count > 0) { /* more than a message holds: then the device compares all */
		m.ranges.sum_count = 0;
		m.ranges.all_sums = false;
		buffer_clear(&core->plain);
		e = message_encode(&m, &core->plain);
	}
	if (e == FERRY_OK)
		e = packer_pack(core->packer, core->plain.p, core->plain.n, &core->envelope);
	if (e == FERRY_OK)
		c->answer = malloc(sizeof(*c->answer) + core->envelope.n);
	if (c->answer == NULL)
		return false;
	c->answer->next = NULL;
	c->answer->n = core->envelope.n;
	memcpy(c->answer->bytes, core->envelope.p, core->envelope.n);
	return true;
}

/* All that changes from here on comes with the deltas that close the session. */
static void note_begin(struct hub_session *s, const struct feed_result *r)
{
	if (s->fill.begun || s->state != FILLING)
		return;
	s->fill.begun = true;
	s->fill.position = r->to;
}

static void compared(void *ctx, enum ferry_error e, const struct feed_result *result)
{
	struct hub_session *s = ctx;
	struct hub_core *core = s->core;

	core_enter(core);
	session_release(s);
	s->catching = false;
	if (session_up(s)) {
		if (e == FERRY_PRUNED && s->state == FILLING)
			core_note_too_far(core, &s->device); /* too large for an answer: a fill is not */
		if (e != FERRY_OK)
			session_fail(s, (int)e, RETRY_HINT_MS, "the comparison cannot go on: %s", ferry_error_text((int)e));
		else if (!pack_answer(s, result) || !state_take_own(s, result))
			session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for a comparison");
		else
			note_begin(s, result);
		session_pump(s);
		if (session_up(s))
			ring_work(s->tenant);
	}
	core_leave(core);
}

void compare_pump(struct hub_session *s)
{
	struct comparing *c = s->comparing;

	if (c == NULL || c->asked || s->state != LIVE || s->catching || s->own != NULL || s->in_state || s->owed != NULL)
		return;
	c->asked = true;
	state_begin_own(s);
	s->core->ops->compare(s->core->store, &s->tenant->id, s->position, (const char *const *)s->scopes.names, s->scopes.count,
			      &s->device, &c->question, compared, s);
}

/* As new as can be: what changed since then is read and not told. */
static int64_t read_from(const struct hub_session *s)
{
	return s->tenant->head > s->fill.position ? s->tenant->head : s->fill.position;
}

/* After a rewind: the rows that were asked for and the hashes make no state
 * yet, so no commit stands between them, and nothing of others is told. What
 * devices give back is waited for first: fewer rows differ then. */
void compare_pump_rewound(struct hub_session *s)
{
	struct comparing *c;

	if (heal_waits(s) || s->catching)
		return;
	if (s->own != NULL) { /* of sums they are what was given back since the welcome, and come with the close */
		if (!s->comparing->question.sums && !ring_send_frames(s, s->own))
			return;
		ring_entry_free(s->own);
		s->own = NULL;
		s->in_state = false;
	}
	if (!compare_send(s))
		return;
	c = s->comparing;
	if (c == NULL || c->asked)
		return;
	c->asked = true;
	state_begin_own(s);
	s->core->ops->compare(s->core->store, &s->tenant->id, read_from(s), (const char *const *)s->scopes.names,
			      c->question.sums ? s->scopes.count : 0, &s->device, &c->question, compared, s);
}
