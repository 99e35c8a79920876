/* A session's life: states, errors, credit and sending.
 *
 *   from      to       when
 *   GREETING  LOOKUP   hello came
 *   LOOKUP    FILLING  the replica must be filled, or its filling goes on
 *   LOOKUP    LIVE     its bookmark is good
 *   FILLING   LIVE     the commit that ends the filling is sent
 *   any       CLOSED   error, timeout, revoked, a newer session, link gone */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

const char *session_state_name(enum session_state state)
{
	static const char *const names[] = {"greeting", "lookup", "filling", "live", "closed"};

	return names[state];
}

static void leave_tenant(struct hub_session *s, enum session_state from)
{
	push_drop(s);
	if (from == FILLING || from == LIVE) {
		TAILQ_REMOVE(&s->tenant->sessions, s, peers);
		s->tenant->session_count--;
	}
}

static void join_tenant(struct hub_session *s)
{
	TAILQ_INSERT_TAIL(&s->tenant->sessions, s, peers);
	s->tenant->session_count++;
}

void session_enter(struct hub_session *s, enum session_state to)
{
	enum session_state from = s->state;

	if (from == to || from == CLOSED)
		return;
	assert(to > from);
	s->state = to;
	if (to == CLOSED)
		leave_tenant(s, from);
	if ((to == LIVE || to == FILLING) && from == LOOKUP)
		join_tenant(s);
	core_log(s->core, HUB_LOG_DEBUG, s->tenant == NULL ? NULL : &s->tenant->id, &s->device,
		 "event=state from=%s to=%s", session_state_name(from), session_state_name(to));
	s->core->sweep = true;
}

void session_fail(struct hub_session *s, int code, int64_t retry_after_ms, const char *format, ...)
{
	char sentence[FERRY_WHY_MAX];
	struct message m = {.type = MESSAGE_ERROR};
	va_list args;

	if (s->state == CLOSED || s->link == NULL)
		return;
	va_start(args, format);
	(void)vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	m.error = (struct message_error){.code = code,
					 .sentence = sentence,
					 .retry = retry_after_ms >= 0,
					 .retry_after_ms = retry_after_ms > 0 ? retry_after_ms : 0};
	core_log(s->core, HUB_LOG_WARNING, s->tenant == NULL ? NULL : &s->tenant->id, &s->device,
		 "event=session-ended code=%s sentence=\"%s\"", ferry_error_name(code), sentence);
	session_send(s, &m);
	session_enter(s, CLOSED);
	s->core->fx.close(s->core->shell, s->link, code, sentence);
}

bool session_has(const struct hub_session *s, uint64_t feature)
{
	return (s->features & feature) != 0;
}

bool session_up(const struct hub_session *s)
{
	return s->link != NULL && (s->state == FILLING || s->state == LIVE);
}

static void transmit(struct hub_session *s, const uint8_t *bytes, size_t n)
{
	s->core->fx.send(s->core->shell, s->link, bytes, n);
	s->core->stats.bytes_sent += n;
}

void session_send(struct hub_session *s, const struct message *m)
{
	struct hub_core *core = s->core;
	enum ferry_error e;

	if (s->link == NULL || s->state == CLOSED)
		return;
	assert(!message_takes_credit(m->type));
	buffer_clear(&core->plain);
	buffer_clear(&core->envelope);
	e = message_encode(m, &core->plain);
	if (e == FERRY_OK)
		e = packer_pack(core->packer, core->plain.p, core->plain.n, &core->envelope);
	if (e == FERRY_OK)
		transmit(s, core->envelope.p, core->envelope.n);
	else
		core_log(core, HUB_LOG_ERROR, s->tenant == NULL ? NULL : &s->tenant->id, &s->device,
			 "event=cannot-send message=%s code=%s", message_type_name((int)m->type),
			 ferry_error_name((int)e));
}

bool session_send_packed(struct hub_session *s, const uint8_t *bytes, size_t n)
{
	if (n > s->credit_out)
		return false;
	s->credit_out -= n;
	s->sent_total += n;
	transmit(s, bytes, n);
	return true;
}

/* Credit comes back in the order of what was sent, so a commit is applied
 * once all up to it has come back. */
static void note_applied(struct hub_session *s)
{
	if (s->applied_at_total == 0 || s->returned_total < s->applied_at_total)
		return;
	if (s->returned_total == s->sent_total && !s->in_state)
		s->applied_position = s->bookmark;
	s->applied_at_total = 0;
	s->core->ops->applied(s->core->store, &s->tenant->id, &s->device, s->applied_position);
}

void session_credit(struct hub_session *s, uint64_t bytes)
{
	const uint64_t most = UINT64_MAX / 4;

	if (bytes > s->sent_total - s->returned_total) {
		session_fail(s, FERRY_CREDIT, -1, "more credit came back than was used");
		return;
	}
	s->returned_total += bytes;
	s->credit_out = bytes > most - s->credit_out ? most : s->credit_out + bytes;
	note_applied(s);
	session_pump(s);
}

/* Given back in larger pieces; the device always holds three quarters, which
 * is more than a message. */
void session_owe_credit(struct hub_session *s, uint64_t bytes)
{
	struct message m = {.type = MESSAGE_CREDIT};

	s->credit_owed += bytes;
	if (!session_up(s) || s->credit_owed < s->core->limits.session_credit_bytes / 4)
		return;
	m.credit.bytes = s->credit_owed;
	s->credit_in += s->credit_owed;
	s->credit_owed = 0;
	session_send(s, &m);
}

void session_pump(struct hub_session *s)
{
	if (!session_up(s))
		return;
	if (s->state == FILLING || s->fill.beside)
		fill_pump(s);
	if (session_up(s))
		state_pump(s);
	if (session_up(s) && s->scopes_wait && s->greeted && !s->in_state)
		session_fail(s, FERRY_RIGHTS, 0, "the schema has changed, and new scopes come next");
}

void session_hold(struct hub_session *s)
{
	s->refs++;
}

void session_release(struct hub_session *s)
{
	assert(s->refs > 0);
	s->refs--;
	s->core->sweep = true;
}

static void free_packed(struct packed *p)
{
	while (p != NULL) {
		struct packed *next = p->next;

		free(p);
		p = next;
	}
}

void session_free(struct hub_session *s)
{
	assert(s->state == CLOSED);
	TAILQ_REMOVE(&s->core->sessions, s, all);
	push_drop(s);
	state_free(s);
	compare_free(s);
	free_packed(s->backlog);
	free_packed(s->fill.chunk);
	free(s->items);
	free(s->parked);
	free(s->settled_above);
	free(s->acks);
	arena_deinit(&s->arena);
	if (s->tenant != NULL)
		s->tenant->refs--;
	free(s);
}
