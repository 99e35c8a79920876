/* hello: who is it, may it come in, where does it stand [P 7.1]. Two lookups
 * (device, schema), then the welcome. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

static bool copy_settled(struct hub_session *s, const struct hub_device *d)
{
	s->settled = d->settled;
	s->settled_above = malloc((d->settled_above_count + 1u) * sizeof(*s->settled_above));
	if (s->settled_above == NULL)
		return false;
	if (d->settled_above_count > 0)
		memcpy(s->settled_above, d->settled_above, d->settled_above_count * sizeof(*s->settled_above));
	s->settled_above_count = d->settled_above_count;
	s->settled_above_capacity = d->settled_above_count + 1;
	return true;
}

static void close_older(struct hub_session *s)
{
	struct hub_session *other;

	for (other = TAILQ_FIRST(&s->core->sessions); other != NULL; other = TAILQ_NEXT(other, all)) {
		if (other != s && other->tenant == s->tenant && session_up(other) &&
		    uuid_equal(&other->device, &s->device))
			session_fail(other, FERRY_LINK_CLOSED, 0, "a newer session of this device has begun");
	}
}

/* Where the device goes on: OK, or why its replica must be filled anew. */
static int bookmark_code(const struct hub_session *s)
{
	const struct hub_device *d = &s->found;

	if (d->bookmark_code != FERRY_OK)
		return d->bookmark_code;
	return s->hello.position > d->head ? FERRY_OTHER_HISTORY : FERRY_OK;
}

/* What was staged may be of another history unless the epoch is the same; a
 * replica that was never filled may have none. And it has to be of these scopes,
 * no more and no less. */
static bool fill_can_go_on(const struct hub_session *s, const struct schema *schema, const struct scope_list *scopes)
{
	const struct message_hello *h = &s->hello;

	return h->fill_table != 0 && h->schema_hash == schema->hash && h->fill_position >= 0 &&
	       h->fill_position <= s->found.head && scope_list_equal(&s->staged, scopes) &&
	       (uuid_is_zero(&h->epoch) || uuid_equal(&h->epoch, &s->found.epoch));
}

/* Can the replica go from its schema to this one by itself? Rows that the
 * change concerns come as changes. */
static bool can_migrate(const struct hub_session *s, const struct hub_schema *schema)
{
	return s->hello.step > 0 && s->hello.step >= schema->refill;
}

/* Has the replica this schema in force, or does it wait for its next state? */
static bool schema_in_force(const struct hub_session *s, const struct schema *schema)
{
	return s->hello.schema_hash == schema->hash && (s->hello.step == 0 || s->hello.step == schema->step);
}

/* R17: rows of a lost history are compared, and those that differ replaced,
 * while schema and scopes are what they were; else all come anew. */
static bool can_compare(const struct hub_session *s, const struct schema *schema, int code)
{
	const struct message_hello *h = &s->hello;

	return session_has(s, FEATURE_REWIND) && h->comparable && (code == FERRY_OTHER_HISTORY || h->rewound) &&
	       schema_in_force(s, schema) && schema->table_count > 0 && s->owned.count > 0 && scope_list_equal(&s->here, &s->owned);
}

static enum welcome_mode choose_mode(struct hub_session *s, const struct hub_schema *hub, int *out_code)
{
	const struct schema *schema = &hub->schema;
	int code = s->hello.position < 0 ? FERRY_OK : bookmark_code(s);

	bool too_far = core_take_too_far(s->core, &s->device);

	if (code == FERRY_OK && s->hello.position >= 0 && !can_migrate(s, hub) &&
	    (s->hello.schema_hash != schema->hash || s->hello.step > 0))
		code = FERRY_SCHEMA;
	if (code == FERRY_OK && too_far)
		code = FERRY_PRUNED;
	if (code == FERRY_OK && s->hello.position >= 0 && s->hello.refill)
		code = FERRY_MISMATCH;
	*out_code = code;
	s->fill.compared = !too_far && code != FERRY_OK && can_compare(s, schema, code);
	if (!too_far && !s->fill.compared && !s->hello.fill_beside && fill_can_go_on(s, schema, &s->owned))
		return WELCOME_RESUME;
	return code == FERRY_OK && s->hello.position >= 0 ? WELCOME_DELTA : WELCOME_FILL;
}

static int compare_ranks(const void *a, const void *b)
{
	const struct schema_table *const *x = a, *const *y = b;

	if ((*x)->rank != (*y)->rank)
		return (*x)->rank < (*y)->rank ? -1 : 1;
	return (*x)->table < (*y)->table ? -1 : 1;
}

static bool list_tables(struct hub_session *s, const struct schema *schema)
{
	const struct schema_table **sorted = arena_array(&s->arena, schema->table_count + 1u, sizeof(struct schema_table *));
	uint32_t *tables = arena_array(&s->arena, schema->table_count + 1u, sizeof(*tables));

	if (sorted == NULL || tables == NULL)
		return false;
	for (uint32_t i = 0; i < schema->table_count; i++)
		sorted[i] = &schema->tables[i];
	if (schema->table_count > 1)
		qsort(sorted, schema->table_count, sizeof(struct schema_table *), compare_ranks);
	for (uint32_t i = 0; i < schema->table_count; i++)
		tables[i] = sorted[i]->table;
	s->fill.tables = tables;
	s->fill.table_count = schema->table_count;
	return true;
}

/* What is fed and what is filled. A replica that stays in force and lacks
 * scopes gets these beside the others. False: no memory. */
static bool share_scopes(struct hub_session *s, enum welcome_mode mode, const struct schema *schema)
{
	s->scopes = s->fill.scopes = s->owned;
	if (mode != WELCOME_DELTA)
		return true;
	s->scopes.names = arena_array(&s->arena, s->owned.count + 1u, sizeof(*s->scopes.names));
	s->fill.scopes.names = arena_array(&s->arena, s->owned.count + 1u, sizeof(*s->fill.scopes.names));
	if (s->scopes.names == NULL || s->fill.scopes.names == NULL)
		return false;
	scope_list_pick(&s->owned, &s->here, true, &s->scopes);
	scope_list_pick(&s->owned, &s->here, false, &s->fill.scopes);
	s->scopes_wait = s->fill.scopes.count > 0 && !schema_in_force(s, schema);
	s->fill.beside = s->fill.scopes.count > 0 && !s->scopes_wait;
	return true;
}

/* A resumed fill goes on after the last key of the scope it stands at. Where
 * that is not known the table is begun again, which only sends some rows twice. */
static void place_fill(struct hub_session *s, bool goes_on)
{
	struct filling *f = &s->fill;

	f->position = s->found.head;
	if (!goes_on)
		return;
	f->position = s->hello.fill_position;
	while (f->table < f->table_count && f->tables[f->table] != s->hello.fill_table)
		f->table++;
	if (f->table == f->table_count) {
		f->table = 0; /* that table is gone: from the start */
		return;
	}
	for (uint32_t i = 0; s->hello.fill_scope != NULL && i < f->scopes.count; i++) {
		if (strcmp(f->scopes.names[i], s->hello.fill_scope) == 0) {
			f->scope = i;
			f->after = s->hello.fill_after;
		}
	}
}

static void send_welcome(struct hub_session *s, const struct schema *schema, enum welcome_mode mode, int code, bool goes_on)
{
	struct hub_core *core = s->core;
	struct message m = {.type = MESSAGE_WELCOME};

	m.welcome = (struct message_welcome){
		.version = s->version,
		.hub_version = HUB_VERSION,
		.tenant = s->tenant->id,
		.device = s->device,
		.epoch = s->found.epoch,
		.schema_hash = schema->hash,
		.mode = mode,
		.code = code,
		.settled = s->settled,
		.settled_above = s->settled_above,
		.settled_above_count =
			s->settled_above_count < FERRY_SETTLED_ABOVE_MAX ? s->settled_above_count : FERRY_SETTLED_ABOVE_MAX,
		.scopes = s->owned.names,
		.scope_count = s->owned.count,
		.credit_bytes = s->credit_in,
		.message_bytes_max = core->limits.message_bytes_max,
		.clock = core->fx.wall(core->shell),
		.held = s->found.held,
		.compares = s->version < 2 && session_has(s, FEATURE_COMPARE),
		.features = s->version >= 2 ? s->features : 0,
		.common = s->found.common,
		.common_mark = s->found.common_mark,
		.backed_up = s->found.backed_up,
		.life = s->found.life,
		.adopted = s->found.adopted,
		.compared = s->fill.compared,
		.since = s->found.since,
	};
	if (s->fill.beside) {
		m.welcome.adding = s->fill.scopes.names;
		m.welcome.adding_count = s->fill.scopes.count;
		m.welcome.adding_goes_on = goes_on;
	}
	session_send(s, &m);
	if (schema->hash == s->hello.schema_hash)
		return;
	m.type = MESSAGE_SCHEMA;
	m.schema = *schema;
	session_send(s, &m);
}

static void join_ring(struct hub_session *s)
{
	struct tenant *t = s->tenant;

	if (t->head < 0)
		t->head = s->found.head;
	ring_know(t, s->found.head);
}

static void welcome(struct hub_session *s, const struct hub_schema *hub)
{
	const struct schema *schema = &hub->schema;
	struct hub_core *core = s->core;
	int code = FERRY_OK;
	enum welcome_mode mode = choose_mode(s, hub, &code);

	if (!core_schema_met(s->tenant, schema->hash, schema->step)) {
		session_fail(s, FERRY_SCHEMA, 0, "the hub's schema has changed");
		return;
	}
	if (!list_tables(s, schema) || !share_scopes(s, mode, schema)) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this session");
		return;
	}
	bool goes_on = mode == WELCOME_RESUME ||
		       (s->fill.beside && s->hello.fill_beside && fill_can_go_on(s, schema, &s->fill.scopes));

	close_older(s);
	place_fill(s, goes_on);
	/* Who has no credit cannot push, and keeps its outbox. */
	s->credit_in = s->found.held == FERRY_OK ? core->limits.session_credit_bytes : 0;
	s->credit_out = s->hello.credit_bytes;
	s->committed_at = core_now(core);
	if (mode == WELCOME_DELTA) {
		s->position = s->cursor = s->bookmark = s->hello.position;
		s->mark = s->cursor_mark = s->hello.mark;
		s->applied_position = s->hello.position;
	}
	s->schema_waits = mode == WELCOME_DELTA && !schema_in_force(s, schema);
	s->step = s->hello.step > 0 && s->hello.schema_hash == schema->hash ? s->hello.step : schema->step;
	rights_note(s);
	heal_greet(s, code);
	s->backed_up = s->found.backed_up;
	send_welcome(s, schema, mode, code, goes_on);
	join_ring(s);
	session_enter(s, mode == WELCOME_DELTA ? LIVE : FILLING);
	core_log(core, HUB_LOG_INFO, &s->tenant->id, &s->device, "event=welcome mode=%s code=%s position=%lld scopes=%u adding=%u version=%d",
		 s->fill.compared ? "compare" : mode == WELCOME_DELTA ? "delta" : mode == WELCOME_FILL ? "fill" : "resume", ferry_error_name(code),
		 (long long)s->position, s->owned.count, s->fill.beside ? s->fill.scopes.count : 0, s->version);
	core_wake(core, core_now(core) + core->limits.poll_interval_us);
	tenant_work(s->tenant);
	session_pump(s);
}

static void schema_came(void *ctx, enum ferry_error e, const struct hub_schema *schema)
{
	struct hub_session *s = ctx;
	struct hub_core *core = s->core;

	core_enter(core);
	session_release(s);
	if (s->link != NULL && s->state == LOOKUP) {
		if (e == FERRY_OK)
			welcome(s, schema);
		else
			session_fail(s, (int)e, RETRY_HINT_MS, "the schema cannot be read: %s", ferry_error_text((int)e));
	}
	core_leave(core);
}

/* OK, or the code with which the device is turned away. */
static int admit(const struct hub_session *s, const struct hub_device *d)
{
	if (d->revoked)
		return FERRY_REVOKED;
	if (d->shut != FERRY_OK)
		return d->shut;
	if (d->clone)
		return FERRY_CLONE;
	if (!uuid_is_zero(&d->incarnation) && !uuid_equal(&d->incarnation, &s->hello.incarnation))
		return FERRY_CLONE;
	return FERRY_OK;
}

static void take_device(struct hub_session *s, const struct hub_device *d)
{
	int code = admit(s, d);

	s->device = d->id;
	if (code != FERRY_OK) {
		session_turn_away(s, code);
		return;
	}
	s->tenant = core_tenant(s->core, &d->tenant);
	if (s->tenant != NULL)
		s->tenant->refs++; /* given back by session_free() */
	if (s->tenant == NULL || !scope_list_copy(&s->arena, d->scopes, d->scope_count, &s->owned) || !copy_settled(s, d)) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this session");
		return;
	}
	s->found = *d;
	s->found.scopes = NULL; /* borrowed: the copies stand in the session */
	s->found.settled_above = NULL;
	session_hold(s);
	s->core->ops->schema(s->core->store, &s->tenant->id, schema_came, s);
}

static void device_came(void *ctx, enum ferry_error e, const struct hub_device *device)
{
	struct hub_session *s = ctx;
	struct hub_core *core = s->core;

	core_enter(core);
	session_release(s);
	if (s->link != NULL && s->state == LOOKUP) {
		if (e == FERRY_OK)
			take_device(s, device);
		else
			session_fail(s, (int)e, ferry_error_class((int)e) == FERRY_CLASS_RETRY ? RETRY_HINT_MS : -1, "%s",
				     ferry_error_text((int)e));
	}
	core_leave(core);
}

/* [P 1.1], [P 1.3] An agent of version 1 states no features, and has compare. */
static bool agree(struct hub_session *s, const struct message_hello *hello)
{
	const struct hub_limits *l = &s->core->limits;
	uint64_t features = s->core->ops->compare != NULL ? FEATURE_COMPARE | FEATURE_REWIND : 0;

	s->version = protocol_version_common(l->version_min, l->version_max, hello->version_min, hello->version_max);
	s->features = features & (s->version >= 2 ? hello->features : FEATURE_COMPARE);
	if (s->version != 0)
		return true;
	session_fail(s, FERRY_VERSION, -1,
		     "the hub speaks the protocol's versions %d to %d, this device %d to %d: upgrade the %s; what is unsent stays there",
		     l->version_min, l->version_max, hello->version_min, hello->version_max,
		     hello->version_max < l->version_min ? "device" : "hub");
	return false;
}

void handle_hello(struct hub_session *s, const struct message_hello *hello)
{
	assert(s->state == GREETING);
	if (!agree(s, hello))
		return;
	s->hello = *hello;
	s->hello.agent_version = NULL; /* borrowed */
	s->hello.past = arena_copy(&s->arena, hello->past, hello->past_count * sizeof(*hello->past));
	s->hello.past_marks = arena_copy(&s->arena, hello->past_marks, hello->past_count * sizeof(*hello->past_marks));
	if (s->hello.past == NULL || s->hello.past_marks == NULL)
		s->hello.past_count = s->hello.past_mark_count = 0;
	s->hello.life_marks = arena_copy(&s->arena, hello->life_marks, hello->life_mark_count * sizeof(*hello->life_marks));
	if (s->hello.life_marks == NULL)
		s->hello.life_mark_count = 0;
	if (hello->fill_scope != NULL)
		s->hello.fill_scope = arena_text(&s->arena, hello->fill_scope, strlen(hello->fill_scope));
	s->hello.scopes = s->hello.fill_scopes = NULL;
	if (!scope_list_copy(&s->arena, hello->scopes, hello->scope_count, &s->here) ||
	    !scope_list_copy(&s->arena, hello->fill_scopes, hello->fill_scope_count, &s->staged)) {
		session_fail(s, FERRY_LIMIT, -1, "hello names more than the hub can hold");
		return;
	}
	session_enter(s, LOOKUP);
	session_hold(s);
	s->core->ops->device(s->core->store, s->fingerprint, &s->hello, device_came, s);
}
