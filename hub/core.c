/* The hub's core: its life, its timers, and the calls from outside. */
#include "hub/core.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

const struct hub_limits hub_limits_default = {
	.message_bytes_max = FERRY_MESSAGE_BYTES_MAX,
	.session_credit_bytes = 4u << 20,
	.batch_rows_max = 20000,
	.batch_bytes_max = 8u << 20,
	.ring_bytes_max = 16u << 20,
	.fill_chunk_bytes = 256u << 10,
	.hello_timeout_us = 10000000,
	.poll_interval_us = 100000,
	.shut_retry_us = 30000000,
	.heal_window_us = 30000000,
	.heal_park_us = INT64_C(604800000000),
	.version_min = FERRY_PROTOCOL_LOWEST,
	.version_max = FERRY_PROTOCOL_HIGHEST,
};

int64_t core_now(const struct hub_core *core)
{
	return core->fx.monotonic(core->shell);
}

void core_wake(struct hub_core *core, int64_t at)
{
	if (at >= core->wake)
		return;
	core->wake = at;
	core->fx.wake_at(core->shell, at);
}

/* A peer may cause lines: no more than so many a second get through. Lines of
 * level ERROR are ours and always do. */
static bool log_allowed(struct hub_core *core, int level)
{
	int64_t second = core_now(core) / 1000000;

	if (second != core->log_second) {
		core->log_second = second;
		core->log_lines = 0;
	}
	if (level != HUB_LOG_ERROR && core->log_lines >= LOG_LINES_PER_SECOND) {
		core->log_dropped++;
		return false;
	}
	core->log_lines++;
	return true;
}

void core_log(struct hub_core *core, int level, const struct uuid *tenant, const struct uuid *device,
	      const char *format, ...)
{
	char text[FERRY_WHY_MAX + 128];
	va_list args;
	int n;

	if (!log_allowed(core, level))
		return;
	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n > 0 && (size_t)n < sizeof(text) && core->log_dropped > 0) {
		(void)snprintf(text + n, sizeof(text) - (size_t)n, " lines_left_out=%u", core->log_dropped);
		core->log_dropped = 0;
	}
	core->fx.log(core->shell, level, tenant, device, text);
}

static struct tenant *tenant_new(struct hub_core *core, const struct uuid *id)
{
	struct tenant *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->core = core;
	t->id = *id;
	t->head = -1;
	t->known = -1;
	t->recheck_us = RECHECK_US;
	t->merged_at = t->fed_at = INT64_MIN / 2;
	t->schema_checked_at = core_now(core);
	TAILQ_INIT(&t->sessions);
	TAILQ_INIT(&t->queue);
	TAILQ_INIT(&t->ring);
	TAILQ_INSERT_TAIL(&core->tenants, t, link);
	core->tenant_count++;
	return t;
}

struct tenant *core_tenant(struct hub_core *core, const struct uuid *id)
{
	struct tenant *t;

	for (t = TAILQ_FIRST(&core->tenants); t != NULL; t = TAILQ_NEXT(t, link)) {
		if (uuid_equal(&t->id, id))
			return t;
	}
	return tenant_new(core, id);
}

static void tenant_free(struct tenant *t)
{
	TAILQ_REMOVE(&t->core->tenants, t, link);
	t->core->tenant_count--;
	merge_queue_free(t);
	ring_free(t);
	free(t);
}

static void sweep(struct hub_core *core)
{
	struct hub_session *s, *next_session;
	struct tenant *t, *next_tenant;

	core->sweep = false;
	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = next_session) {
		next_session = TAILQ_NEXT(s, all);
		if (s->link == NULL && s->refs == 0)
			session_free(s);
	}
	for (t = TAILQ_FIRST(&core->tenants); t != NULL; t = next_tenant) {
		next_tenant = TAILQ_NEXT(t, link);
		if (t->refs == 0 && t->batch == NULL)
			tenant_free(t);
	}
}

void core_enter(struct hub_core *core)
{
	core->depth++;
}

void core_leave(struct hub_core *core)
{
	assert(core->depth > 0);
	if (core->depth == 1 && core->sweep)
		sweep(core);
	core->depth--;
}

struct hub_core *hub_core_new(const struct hub_limits *limits, const struct hub_effects *effects, void *shell,
			      const struct hub_store_ops *store_ops, void *store)
{
	struct hub_core *core = calloc(1, sizeof(*core));

	if (core == NULL)
		return NULL;
	core->limits = *limits;
	core->fx = *effects;
	core->shell = shell;
	core->ops = store_ops;
	core->store = store;
	core->wake = NEVER;
	core->packer = packer_new();
	if (core->packer == NULL) {
		free(core);
		return NULL;
	}
	TAILQ_INIT(&core->sessions);
	TAILQ_INIT(&core->tenants);
	TAILQ_INIT(&core->stage_calls);
	arena_init(&core->arena, FERRY_DECODE_BYTES_MAX);
	buffer_init(&core->unpacked, limits->message_bytes_max);
	buffer_init(&core->plain, limits->message_bytes_max);
	buffer_init(&core->envelope, (size_t)limits->message_bytes_max + ENVELOPE_SLACK_BYTES);
	return core;
}

/* The store is closed by now: no callback comes any more, so references
 * count for nothing. */
void core_note_too_far(struct hub_core *core, const struct uuid *device)
{
	core->too_far[core->too_far_next++ % TOO_FAR_MAX] = *device;
}

bool core_take_too_far(struct hub_core *core, const struct uuid *device)
{
	bool found = false;

	for (uint32_t i = 0; i < TOO_FAR_MAX; i++) {
		if (!uuid_equal(&core->too_far[i], device))
			continue;
		core->too_far[i] = (struct uuid){{0}};
		found = true;
	}
	return found;
}

void hub_core_free(struct hub_core *core)
{
	struct hub_session *s, *next_session;
	struct tenant *t, *next_tenant;

	if (core == NULL)
		return;
	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		s->link = NULL;
		session_enter(s, CLOSED);
	}
	push_forget_calls(core);
	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = next_session) {
		next_session = TAILQ_NEXT(s, all);
		session_free(s);
	}
	for (t = TAILQ_FIRST(&core->tenants); t != NULL; t = next_tenant) {
		next_tenant = TAILQ_NEXT(t, link);
		tenant_free(t);
	}
	packer_free(core->packer);
	arena_deinit(&core->arena);
	buffer_deinit(&core->unpacked);
	buffer_deinit(&core->plain);
	buffer_deinit(&core->envelope);
	free(core->settled);
	free(core->sums);
	free(core);
}

struct hub_session *hub_core_open(struct hub_core *core, void *link, const uint8_t fingerprint[32])
{
	struct hub_session *s = calloc(1, sizeof(*s));

	assert(link != NULL);
	if (s == NULL)
		return NULL;
	core_enter(core);
	s->core = core;
	s->link = link;
	memcpy(s->fingerprint, fingerprint, sizeof(s->fingerprint));
	s->opened_at = s->heard_at = core_now(core);
	s->position = s->cursor = s->bookmark = -1;
	s->backlog_end = &s->backlog;
	arena_init(&s->arena, (size_t)1 << 20);
	TAILQ_INSERT_TAIL(&core->sessions, s, all);
	core->stats.sessions++;
	core_wake(core, s->opened_at + core->limits.hello_timeout_us);
	if (core->draining)
		session_fail(s, FERRY_SHUTTING_DOWN, RETRY_HINT_MS, "the hub is shutting down");
	core_leave(core);
	return s;
}

void hub_core_closed(struct hub_core *core, struct hub_session *s)
{
	core_enter(core);
	assert(s->link != NULL);
	s->link = NULL;
	core->stats.sessions--;
	session_enter(s, CLOSED);
	core->sweep = true;
	core_leave(core);
}

/* That the device is there, and where its replica stands, now and then. */
static void note_contact(struct hub_session *s)
{
	int64_t now = core_now(s->core);

	if (s->contact_at != 0 && now < s->contact_at + CONTACT_US)
		return;
	s->contact_at = now;
	s->core->ops->applied(s->core->store, &s->tenant->id, &s->device, s->applied_position);
}

static void handle_ping(struct hub_session *s, const struct message_ping *ping)
{
	int64_t wall = s->core->fx.wall(s->core->shell);
	struct message m = {.type = MESSAGE_PONG,
			    .ping = {.id = ping->id, .sent = ping->sent, .received = wall, .answered = wall}};

	session_send(s, &m);
	if (session_up(s))
		note_contact(s);
}

static void handle_error(struct hub_session *s, const struct message_error *e)
{
	core_log(s->core, HUB_LOG_WARNING, s->tenant == NULL ? NULL : &s->tenant->id, &s->device,
		 "event=device-error code=%s sentence=\"%s\"", ferry_error_name(e->code),
		 e->sentence == NULL ? "" : e->sentence);
	session_enter(s, CLOSED);
	s->core->fx.close(s->core->shell, s->link, e->code, "the device ended the session");
}

static void dispatch(struct hub_session *s, const struct message *m)
{
	bool up = session_up(s);

	if (m->type == MESSAGE_ERROR)
		handle_error(s, &m->error);
	else if (m->type == MESSAGE_HELLO && s->state == GREETING)
		handle_hello(s, &m->hello);
	else if (m->type == MESSAGE_PING && (up || s->state == LOOKUP))
		handle_ping(s, &m->ping);
	else if (m->type == MESSAGE_CREDIT && up)
		session_credit(s, m->credit.bytes);
	else if (m->type == MESSAGE_FILL_ACK && up)
		handle_fill_ack(s);
	else if (m->type == MESSAGE_COMPARE && up && session_has(s, FEATURE_COMPARE))
		handle_compare(s, &m->compare);
	else if (m->type == MESSAGE_LEASE_ASK && up)
		handle_lease_ask(s, &m->lease_ask);
	else if (m->type == MESSAGE_UNKNOWN && up)
		core_log(s->core, HUB_LOG_DEBUG, &s->tenant->id, &s->device, "event=passed-over type=%u", m->unknown.message_type);
	else if (m->type != MESSAGE_PONG)
		session_fail(s, FERRY_UNEXPECTED_MESSAGE, -1, "a message %s is not allowed in state %s",
			     message_type_name((int)m->type), session_state_name(s->state));
}

/* [P 4] The type stands first: key 0 of a map, and a small number. */
static bool is_push(const uint8_t *p, size_t n)
{
	return n >= 3 && p[0] >> 5 == 5 && p[1] == 0 && p[2] == MESSAGE_PUSH;
}

/* [P 1.4] What comes of a message that cannot be read: of an optional type it
 * is passed over, and its sender told. */
static void refuse(struct hub_session *s, enum ferry_error e, const uint8_t *plain, size_t n, const struct ferry_why *why)
{
	struct message m = {.type = MESSAGE_UNKNOWN};

	if (e == FERRY_UNKNOWN_MESSAGE && session_up(s) && s->version >= 2 && message_optional(plain, n, &m.unknown.message_type))
		session_send(s, &m);
	else
		session_fail(s, (int)e, -1, "%s", why->text[0] == '\0' ? ferry_error_text((int)e) : why->text);
}

static void receive(struct hub_session *s, const uint8_t *bytes, size_t n)
{
	struct hub_core *core = s->core;
	struct ferry_why why = {""};
	struct message m;
	const uint8_t *plain = NULL;
	size_t plain_n = 0;
	enum ferry_error e = FERRY_MESSAGE_TOO_LARGE;

	if (n <= (size_t)core->limits.message_bytes_max + ENVELOPE_SLACK_BYTES)
		e = packer_unpack(core->packer, bytes, n, &core->unpacked, &plain, &plain_n, &why);
	if (e == FERRY_OK && plain_n > core->limits.message_bytes_max)
		e = FERRY_MESSAGE_TOO_LARGE;
	if (e == FERRY_OK && is_push(plain, plain_n)) {
		handle_push(s, bytes, n, plain, plain_n);
		return;
	}
	arena_reset(&core->arena);
	if (e == FERRY_OK)
		e = message_decode(&core->arena, plain, plain_n, &m, &why);
	if (e != FERRY_OK)
		refuse(s, e, plain, plain_n, &why);
	else
		dispatch(s, &m);
}

void hub_core_message(struct hub_core *core, struct hub_session *s, const uint8_t *bytes, size_t n)
{
	if (s->state == CLOSED || s->link == NULL)
		return;
	core_enter(core);
	core->stats.bytes_received += n;
	s->heard_at = core_now(core);
	receive(s, bytes, n);
	core_leave(core);
}

void hub_core_drained(struct hub_core *core, struct hub_session *s)
{
	core_enter(core);
	session_pump(s);
	core_leave(core);
}

void tenant_work(struct tenant *t)
{
	merge_queue_work(t);
	ring_work(t);
}

static void polled(void *ctx, enum ferry_error e, int64_t last_position)
{
	struct hub_core *core = ctx;
	struct tenant *t;

	core_enter(core);
	core->polling = false;
	if (e == FERRY_OK) {
		for (t = TAILQ_FIRST(&core->tenants); t != NULL; t = TAILQ_NEXT(t, link)) {
			ring_know(t, core->ops->position ? core->ops->position(core->store, &t->id, last_position) : last_position);
			ring_work(t);
		}
	}
	core_leave(core);
}

static bool anyone_up(const struct hub_core *core)
{
	const struct tenant *t;

	for (t = TAILQ_FIRST(&core->tenants); t != NULL; t = TAILQ_NEXT(t, link)) {
		if (!TAILQ_EMPTY(&t->sessions))
			return true;
	}
	return false;
}

/* Others commit too: other hubs, and anybody with SQL. */
static void poll_work(struct hub_core *core, int64_t now)
{
	struct hub_session *s;

	if (!anyone_up(core))
		return;
	if (now >= core->poll_at) {
		core->poll_at = now + core->limits.poll_interval_us;
		if (!core->polling) {
			core->polling = true;
			core->ops->poll(core->store, polled, core);
		}
		for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all))
			state_idle_commit(s);
	}
	core_wake(core, core->poll_at);
}

static void session_timeouts(struct hub_core *core, int64_t now)
{
	struct hub_session *s;

	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		int64_t deadline = s->heard_at + IDLE_TIMEOUT_US;

		if (s->state == CLOSED || s->state == LOOKUP)
			continue;
		if (s->state == GREETING)
			deadline = s->opened_at + core->limits.hello_timeout_us;
		if (now >= deadline)
			session_fail(s, FERRY_LINK_TIMEOUT, 0, "nothing was heard in time");
		else
			core_wake(core, deadline);
	}
}


/* Devices work by the schema they were given: a new one is a new session. */
bool core_schema_met(struct tenant *t, uint64_t hash, int64_t step)
{
	bool first = t->schema_hash == 0;
	struct hub_session *s;

	if (hash == 0 || hash == t->schema_hash)
		return true;
	if (!first && step < t->schema_step)
		return false;
	t->schema_hash = hash;
	t->schema_step = step;
	if (first)
		return true;
	ring_free(t);
	for (s = TAILQ_FIRST(&t->core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		if (s->tenant == t && session_up(s))
			session_fail(s, FERRY_SCHEMA, 0, "the hub's schema has changed");
	}
	return true;
}

static void schema_checked(void *ctx, enum ferry_error e, const struct hub_schema *schema)
{
	struct tenant *t = ctx;
	struct hub_core *core = t->core;

	core_enter(core);
	t->refs--;
	t->schema_asked = false;
	core->sweep = true;
	if (e == FERRY_OK && t->schema_hash != 0)
		(void)core_schema_met(t, schema->schema.hash, schema->schema.step);
	core_leave(core);
}

static void schema_work(struct tenant *t, int64_t now)
{
	if (t->schema_asked || TAILQ_EMPTY(&t->sessions) || now < t->schema_checked_at + SCHEMA_CHECK_US)
		return;
	t->schema_checked_at = now;
	t->schema_asked = true;
	t->refs++;
	t->core->ops->schema(t->core->store, &t->id, schema_checked, t);
}

void hub_core_tick(struct hub_core *core)
{
	int64_t now = core_now(core);
	struct tenant *t;

	core_enter(core);
	core->wake = NEVER;
	session_timeouts(core, now);
	for (t = TAILQ_FIRST(&core->tenants); t != NULL; t = TAILQ_NEXT(t, link)) {
		tenant_work(t);
		schema_work(t, now);
		rights_work(t, now);
		parked_work(t, now);
	}
	heal_tick(core);
	poll_work(core, now);
	parked_work_others(core, now);
	core_leave(core);
}

void hub_core_revoke(struct hub_core *core, const struct uuid *device)
{
	struct hub_session *s;

	core_enter(core);
	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		if ((session_up(s) || s->state == LOOKUP) && uuid_equal(&s->device, device))
			session_fail(s, FERRY_REVOKED, -1, "this device is revoked");
	}
	core_leave(core);
}

/* What is being merged is finished and acknowledged first; the rest of the
 * queue stays in the devices' outboxes. */
void hub_core_drain(struct hub_core *core)
{
	struct hub_session *s;

	core_enter(core);
	core->draining = true;
	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		bool merging = false;

		for (uint32_t i = 0; i < s->item_count; i++)
			merging |= s->items[i]->under_way;
		if (s->state != CLOSED && !merging)
			session_fail(s, FERRY_SHUTTING_DOWN, RETRY_HINT_MS, "the hub is shutting down");
	}
	core_leave(core);
}

void hub_core_newest(const struct hub_core *core, struct hub_newest *out)
{
	*out = core->newest;
}

void hub_core_stats(const struct hub_core *core, struct hub_core_stats *out)
{
	const struct tenant *t;

	*out = core->stats;
	out->tenants = core->tenant_count;
	out->merge_queue = 0;
	for (t = TAILQ_FIRST(&core->tenants); t != NULL; t = TAILQ_NEXT(t, link))
		out->merge_queue += t->queue_count;
}

void hub_core_sessions(const struct hub_core *core,
		       void (*each)(void *ctx, const struct uuid *tenant, const struct uuid *device, int64_t bookmark,
				    const char *state),
		       void *ctx)
{
	const struct hub_session *s;

	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		if (session_up(s))
			each(ctx, &s->tenant->id, &s->device, s->bookmark, session_state_name(s->state));
	}
}
