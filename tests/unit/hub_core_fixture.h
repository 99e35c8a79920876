/* The hub's core between a model store and model links: nothing else runs,
 * time stands still unless a test moves it. Each test file includes this once. */
#ifndef FERRY_TESTS_HUB_CORE_FIXTURE_H
#define FERRY_TESTS_HUB_CORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/core.h"
#include "protocol/envelope.h"

#define DEVICES 120
#define SETS 64
#define CALLS 512
#define MS INT64_C(1000)

struct link {
	struct hub_session *session;
	bool open;
	int closed_code;
	size_t queued;
	struct message *messages; /* all that came, in the world's arena */
	uint32_t count, capacity;
	uint32_t read; /* messages looked at by next() */
	size_t bytes;
};

enum call_kind { CALL_DEVICE, CALL_SCHEMA, CALL_MERGE, CALL_STAGE, CALL_FEED, CALL_FILL, CALL_POLL };

struct call {
	enum call_kind kind;
	void *ctx;
	union {
		hub_device_cb device;
		hub_schema_cb schema;
		hub_merge_cb merge;
		hub_stage_cb stage;
		hub_feed_cb feed;
		hub_fill_cb fill;
		hub_poll_cb poll;
	} cb;
	int index;
	const struct merge_item *items;
	uint32_t count;
	int64_t from;
	bool for_device;
	struct uuid device;
	struct fill_request fill;
	const struct message_compare *question;
};

struct verdict_row {
	struct uuid device;
	struct settled settled;
};

static struct {
	int64_t now;
	int64_t wake;
	struct link links[DEVICES];
	struct packer *packer;
	struct arena arena;
	struct hub_core *core;

	struct hub_device devices[DEVICES];
	struct call calls[CALLS];
	uint32_t call_count;
	int64_t position;
	struct verdict_row verdicts[4096];
	uint32_t verdict_count;
	uint64_t schema_hash;
	enum ferry_error feed_error; /* the next feed fails with it, once */
	enum ferry_error merge_error; /* the next merges fail with it, so many times */
	uint32_t merge_failures;
	enum ferry_error stage_error;
	int64_t locked;   /* this number's rows are locked */
	int64_t apart;    /* from this number on they are for the next transaction, once */
	int64_t refused;  /* this number is refused */
	int64_t lacking;  /* this number lacks its predecessor: parked where that is allowed */
	int64_t poison;   /* a batch with this number fails whole */
	int64_t life;     /* of every device, as the store has it now; 0: not counted */
	uint32_t merges, batch_sizes[256], feeds, fills, stages, polls;
	int64_t batch_numbers[256][SETS];
	int64_t applied;
	uint32_t applied_calls;
	uint32_t fill_chunks; /* of each table and scope */
	uint32_t empty_table; /* has no rows, and the store knows so at once */
	bool nothing_to_fill; /* no table has rows */
	int fill_depth;
	size_t frame_padding;
} w;

static const char *const tenant_scope[] = {"project:1", "tenant"};
static const struct schema_column column = {.num = 2, .name = "name", .kind = KIND_TEXT};
static const struct schema_table world_tables[] = {
	{.table = 3, .name = "leads", .key = "id", .key_num = 1, .writable = true, .rank = 1, .columns = &column, .column_count = 1},
	{.table = 7, .name = "units", .key = "id", .key_num = 1, .writable = true, .rank = 0, .columns = &column, .column_count = 1},
};

static inline struct uuid id(int n)
{
	return (struct uuid){.b = {[0] = (uint8_t)n, [1] = 1}};
}

/* effects */

static inline void fx_send(void *shell, void *link, const uint8_t *bytes, size_t n)
{
	struct link *l = link;
	struct ferry_why why;
	struct buffer scratch;
	const uint8_t *plain;
	uint8_t *copy;
	size_t plain_n;

	(void)shell;
	assert_true(l->open);
	buffer_init(&scratch, 1 << 20);
	assert_int_equal(packer_unpack(w.packer, bytes, n, &scratch, &plain, &plain_n, &why), FERRY_OK);
	copy = arena_copy(&w.arena, plain, plain_n);
	assert_non_null(copy);
	if (l->count == l->capacity) {
		uint32_t capacity = l->capacity == 0 ? 16 : l->capacity * 2;
		struct message *grown = arena_array(&w.arena, capacity, sizeof(*grown));

		assert_non_null(grown);
		if (l->count > 0)
			memcpy(grown, l->messages, l->count * sizeof(*grown));
		l->messages = grown;
		l->capacity = capacity;
	}
	assert_int_equal(message_decode(&w.arena, copy, plain_n, &l->messages[l->count++], &why), FERRY_OK);
	l->bytes += n;
	buffer_deinit(&scratch);
}

static inline size_t fx_queued(void *shell, void *link)
{
	(void)shell;
	return ((struct link *)link)->queued;
}

static inline void fx_close(void *shell, void *link, int code, const char *sentence)
{
	struct link *l = link;

	(void)shell;
	assert_non_null(sentence);
	assert_true(l->open);
	l->open = false;
	l->closed_code = code;
	hub_core_closed(w.core, l->session); /* at once, the hardest case */
	l->session = NULL;
}

static inline int64_t fx_wall(void *shell)
{
	(void)shell;
	return INT64_C(1700000000000000) + w.now;
}

static inline int64_t fx_monotonic(void *shell)
{
	(void)shell;
	return w.now;
}

static inline void fx_wake_at(void *shell, int64_t at)
{
	(void)shell;
	if (at < w.wake)
		w.wake = at;
}

static inline void fx_log(void *shell, int level, const struct uuid *tenant, const struct uuid *device, const char *text)
{
	(void)shell;
	(void)level;
	(void)tenant;
	(void)device;
	assert_non_null(text);
}

static const struct hub_effects effects = {fx_send, fx_queued, fx_close, fx_wall, fx_monotonic, fx_wake_at, fx_log};

/* the store: calls are kept and answered by run() */

static inline struct call *add_call(enum call_kind kind, void *ctx)
{
	struct call *c = &w.calls[w.call_count++];

	assert_true(w.call_count <= CALLS);
	*c = (struct call){.kind = kind, .ctx = ctx};
	return c;
}

static inline void st_device(void *store, const uint8_t fingerprint[32], const struct message_hello *hello, hub_device_cb cb,
		      void *ctx)
{
	struct call *c = add_call(CALL_DEVICE, ctx);

	(void)store;
	(void)hello;
	c->cb.device = cb;
	c->index = fingerprint[0];
}

static inline void st_schema(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx)
{
	(void)store;
	(void)tenant;
	add_call(CALL_SCHEMA, ctx)->cb.schema = cb;
}

static inline void st_merge(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
		     hub_merge_cb cb, void *ctx)
{
	struct call *c = add_call(CALL_MERGE, ctx);

	(void)store;
	(void)tenant;
	assert_true(w.merges < 256);
	w.batch_sizes[w.merges] = count;
	for (uint32_t i = 0; i < count && i < SETS; i++)
		w.batch_numbers[w.merges][i] = items[i].number;
	w.merges++;
	c->cb.merge = cb;
	c->items = items;
	c->count = count;
}

static inline void st_stage(void *store, const struct uuid *tenant, const struct uuid *device, int64_t staging,
			    const struct change_set *part, hub_stage_cb cb, void *ctx)
{
	(void)store;
	(void)staging;
	(void)tenant;
	(void)device;
	assert_true(part->more || part->part > 0);
	w.stages++;
	add_call(CALL_STAGE, ctx)->cb.stage = cb;
}

static inline void st_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		    uint32_t scope_count, const struct uuid *device, hub_feed_cb cb, void *ctx)
{
	struct call *c = add_call(CALL_FEED, ctx);

	(void)store;
	(void)tenant;
	(void)scope_count;
	w.feeds++;
	c->cb.feed = cb;
	c->from = from;
	c->for_device = scopes != NULL;
	if (device != NULL)
		c->device = *device;
}

static inline void st_compare(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		       uint32_t scope_count, const struct uuid *device, const struct message_compare *question,
		       hub_feed_cb cb, void *ctx)
{
	st_feed(store, tenant, from, scopes, scope_count, device, cb, ctx);
	w.calls[w.call_count - 1].question = question;
}

static inline void st_fill(void *store, const struct fill_request *request, hub_fill_cb cb, void *ctx)
{
	const struct fill_result nothing = {.table_done = true, .last = request->after};
	struct call *c;

	(void)store;
	w.fills++;
	if (request->table == w.empty_table || w.nothing_to_fill) {
		assert_int_equal(w.fill_depth++, 0);
		cb(ctx, FERRY_OK, &nothing);
		w.fill_depth--;
		return;
	}
	c = add_call(CALL_FILL, ctx);
	c->cb.fill = cb;
	c->fill = *request;
}

static inline void st_poll(void *store, hub_poll_cb cb, void *ctx)
{
	(void)store;
	w.polls++;
	add_call(CALL_POLL, ctx)->cb.poll = cb;
}

static inline void st_applied(void *store, const struct uuid *tenant, const struct uuid *device, int64_t position)
{
	(void)store;
	(void)tenant;
	(void)device;
	w.applied = position;
	w.applied_calls++;
}

static const struct hub_store_ops store_ops = {st_device, st_schema, st_merge, st_stage,
					       st_feed,   st_fill,   st_poll,  NULL, st_applied, NULL, NULL,
					       st_compare, NULL};

static inline void answer_device(struct call *c)
{
	struct hub_device d = w.devices[c->index];

	d.head = w.position;
	d.life = w.life;
	c->cb.device(c->ctx, FERRY_OK, &d);
}

static inline const struct verdict_row *verdict_of(const struct merge_item *item)
{
	for (uint32_t i = 0; i < w.verdict_count; i++) {
		if (uuid_equal(&w.verdicts[i].device, &item->device) && w.verdicts[i].settled.number == item->number)
			return &w.verdicts[i];
	}
	return NULL;
}

static inline struct merge_result merge_one(const struct merge_item *item, int64_t position)
{
	const struct verdict_row *old = verdict_of(item);
	struct settled settled = {.number = item->number, .verdict = VERDICT_ACCEPTED, .position = position};

	if (item->life != w.life)
		return (struct merge_result){.device = item->device, .settled = settled, .retry = true, .elsewhere = true};
	if (old != NULL)
		return (struct merge_result){.device = item->device, .settled = old->settled, .repeated = true};
	if (item->number == w.locked)
		return (struct merge_result){.device = item->device, .settled = settled, .retry = true};
	if (w.apart != 0 && item->number >= w.apart)
		return (struct merge_result){.device = item->device, .settled = settled, .retry = true, .next = true};
	if (item->number == w.lacking && item->park) {
		settled.verdict = VERDICT_PARKED;
		settled.code = FERRY_NOT_FOUND;
		return (struct merge_result){.device = item->device, .settled = settled, .parked = true};
	}
	if (item->number == w.refused) {
		settled.verdict = VERDICT_REJECTED;
		settled.code = FERRY_UNIQUE;
		settled.sentence = "taken";
	}
	w.verdicts[w.verdict_count++] = (struct verdict_row){item->device, settled};
	return (struct merge_result){.device = item->device, .settled = settled};
}

static inline void answer_merge(struct call *c)
{
	struct merge_result *results = calloc(c->count, sizeof(*results));
	bool fails = w.merge_failures > 0;
	enum ferry_error e = w.merge_error;

	for (uint32_t i = 0; i < c->count; i++) {
		if (w.poison != 0 && c->items[i].number == w.poison) {
			fails = true;
			e = FERRY_INTERNAL;
		}
	}
	if (fails) {
		if (w.merge_failures > 0)
			w.merge_failures--;
		c->cb.merge(c->ctx, e, NULL, 0);
	} else {
		w.position++;
		for (uint32_t i = 0; i < c->count; i++)
			results[i] = merge_one(&c->items[i], w.position);
		if (c->count > 0 && results[c->count - 1].next)
			w.apart = 0;
		c->cb.merge(c->ctx, FERRY_OK, results, c->count);
	}
	free(results);
}

static inline void encode(const struct message *m, struct buffer *b)
{
	buffer_init(b, 1 << 20);
	assert_int_equal(message_encode(m, b), FERRY_OK);
}

static inline void answer_feed(struct call *c)
{
	struct feed_settled settled[512];
	struct message m = {.type = MESSAGE_DELTA, .delta = {.scope = "tenant", .from = c->from, .to = w.position}};
	struct feed_frame frames[2];
	struct feed_result r = {.from = c->from, .to = w.position, .mark = w.position * 10, .frames = frames,
				.settled = settled};
	struct key_range range = {.rows = 1, .hash = 7};
	struct buffer b, other;
	char *noise = malloc(w.frame_padding + 1);
	uint16_t num = 2;
	struct uuid key = id(1);
	struct value cell;
	struct block block = {.table = 7, .op = ROW_INSERT, .column_count = 1, .row_count = 1, .nums = &num, .keys = &key,
			      .cells = &cell};

	srand(7);
	for (size_t i = 0; i < w.frame_padding; i++)
		noise[i] = (char)('!' + rand() % 90);
	cell = value_text(noise, w.frame_padding);
	m.delta.blocks = &block;
	m.delta.block_count = 1;
	encode(&m, &b);
	m.delta.scope = "user:9"; /* nobody here has it */
	encode(&m, &other);
	frames[0] = (struct feed_frame){"tenant", b.p, b.n};
	frames[1] = (struct feed_frame){"user:9", other.p, other.n};
	r.frame_count = r.to > r.from || (c->question != NULL && c->question->key_count > 0) ? 2 : 0;
	r.ranges = &range;
	r.range_count = c->question != NULL && c->question->range_count > 0;
	for (uint32_t i = 0; i < w.verdict_count && r.settled_count < 512; i++) {
		if (w.verdicts[i].settled.position > c->from &&
		    (!c->for_device || uuid_equal(&w.verdicts[i].device, &c->device)))
			settled[r.settled_count++] = (struct feed_settled){.device = w.verdicts[i].device, .life = w.life,
										     .settled = w.verdicts[i].settled};
	}
	c->cb.feed(c->ctx, FERRY_OK, &r);
	free(noise);
	buffer_deinit(&b);
	buffer_deinit(&other);
}

static inline void answer_fill(struct call *c)
{
	struct fill_result r = {.row_count = 1, .last = c->fill.after};
	struct uuid key;
	uint16_t num = 2;
	struct value cell = value_text("x", 1);
	struct message m = {.type = MESSAGE_FILL};
	struct buffer b;

	r.last.b[15]++;
	key = r.last;
	r.table_done = r.last.b[15] >= w.fill_chunks;
	m.fill = (struct message_fill){.scope = c->fill.scope, .position = c->fill.position, .table_done = r.table_done,
				       .block = {.table = c->fill.table, .op = ROW_INSERT, .column_count = 1, .row_count = 1,
						 .nums = &num, .keys = &key, .cells = &cell}};
	encode(&m, &b);
	r.message = b.p;
	r.message_bytes = b.n;
	c->cb.fill(c->ctx, FERRY_OK, &r);
	buffer_deinit(&b);
}

static inline void answer(struct call *c)
{
	struct hub_schema schema = {.schema = {.hash = w.schema_hash, .tables = world_tables, .table_count = 2}};

	switch (c->kind) {
	case CALL_DEVICE:
		answer_device(c);
		break;
	case CALL_SCHEMA:
		c->cb.schema(c->ctx, FERRY_OK, &schema);
		break;
	case CALL_MERGE:
		answer_merge(c);
		break;
	case CALL_STAGE:
		c->cb.stage(c->ctx, w.stage_error);
		break;
	case CALL_FEED:
		if (w.feed_error != FERRY_OK)
			c->cb.feed(c->ctx, w.feed_error, NULL);
		else
			answer_feed(c);
		w.feed_error = FERRY_OK;
		break;
	case CALL_FILL:
		answer_fill(c);
		break;
	case CALL_POLL:
		c->cb.poll(c->ctx, FERRY_OK, w.position);
		break;
	}
}

static inline void answer_first(void)
{
	struct call c = w.calls[0];

	memmove(w.calls, w.calls + 1, (w.call_count - 1) * sizeof(struct call));
	w.call_count--;
	answer(&c);
}

/* Answers everything, until nothing is asked any more. */
static inline void run(void)
{
	while (w.call_count > 0)
		answer_first();
}

/* Calls of this kind stay. */
static inline void answer_all_but(enum call_kind kind)
{
	uint32_t at = 0;

	while (at < w.call_count) {
		struct call c = w.calls[at];

		if (c.kind == kind) {
			at++;
			continue;
		}
		memmove(w.calls + at, w.calls + at + 1, (w.call_count - at - 1) * sizeof(struct call));
		w.call_count--;
		answer(&c);
	}
}

static inline uint32_t calls_of(enum call_kind kind)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w.call_count; i++)
		n += w.calls[i].kind == kind;
	return n;
}

/* Moves time on, from one wake-up to the next, answering in between. */
static inline void pass(int64_t us)
{
	int64_t until = w.now + us;

	run();
	while (w.wake <= until) {
		w.now = w.wake > w.now ? w.wake : w.now;
		w.wake = INT64_MAX;
		hub_core_tick(w.core);
		run();
	}
	w.now = until;
}

/* the agents */

static inline void deliver(int device, const struct message *m)
{
	struct link *l = &w.links[device];
	struct buffer plain, packed;

	encode(m, &plain);
	buffer_init(&packed, 1 << 21);
	assert_int_equal(packer_pack(w.packer, plain.p, plain.n, &packed), FERRY_OK);
	assert_non_null(l->session);
	hub_core_message(w.core, l->session, packed.p, packed.n);
	buffer_deinit(&plain);
	buffer_deinit(&packed);
}

static inline struct message hello_message(int device, int64_t position)
{
	struct message m = {.type = MESSAGE_HELLO};

	m.hello = (struct message_hello){.version_min = 1, .version_max = 1, .agent_version = "test", .incarnation = id(device),
					 .epoch = id(99), .schema_hash = w.schema_hash, .position = position,
					 .mark = position * 10, .credit_bytes = 4 << 20,
					 .scopes = w.devices[device].scopes, .scope_count = w.devices[device].scope_count};
	return m;
}

static inline void link_up(int device)
{
	struct link *l = &w.links[device];
	uint8_t fingerprint[32] = {(uint8_t)device};

	*l = (struct link){.open = true};
	l->session = hub_core_open(w.core, l, fingerprint);
	assert_non_null(l->session);
}

static inline void greet_at(int device, int64_t position)
{
	struct message m = hello_message(device, position);

	link_up(device);
	deliver(device, &m);
	run();
}

/* The commit of nothing that follows the welcome of a device at the head is
 * taken out: tests count what comes besides. */
static inline void take_greeting(int device, int64_t position)
{
	struct link *l = &w.links[device];
	const struct message *last = l->count > 0 ? &l->messages[l->count - 1] : NULL;

	if (last != NULL && last->type == MESSAGE_COMMIT && last->commit.position == position &&
	    last->commit.settled_count == 0 && !last->commit.fill_done)
		l->count--;
}

static inline void connect_at(int device, int64_t position)
{
	greet_at(device, position);
	take_greeting(device, position);
}

/* The next message of a type, or NULL. */
static inline const struct message *next(int device, enum message_type type)
{
	struct link *l = &w.links[device];

	while (l->read < l->count) {
		const struct message *m = &l->messages[l->read++];

		if (m->type == type)
			return m;
	}
	return NULL;
}

/* The first message of a type since the link is up; there is one. */
static inline const struct message *first(int device, enum message_type type)
{
	struct link *l = &w.links[device];
	uint32_t i = 0;

	while (i < l->count && l->messages[i].type != type)
		i++;
	assert_true(i < l->count);
	return &l->messages[i];
}

static inline uint32_t count_of(int device, enum message_type type)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w.links[device].count; i++)
		n += w.links[device].messages[i].type == type;
	return n;
}

static inline void assert_ended(int device, int code)
{
	const struct link *l = &w.links[device];

	assert_false(l->open);
	assert_int_equal(l->closed_code, code);
	assert_true(l->count > 0);
	assert_int_equal(l->messages[l->count - 1].type, MESSAGE_ERROR);
	assert_int_equal(l->messages[l->count - 1].error.code, code);
}

static inline struct change_set set_of(int64_t number)
{
	static const uint16_t num = 2;
	static struct uuid key;
	static struct value cell;
	static struct block block;

	key = id(1);
	cell = value_text("v", 1);
	block = (struct block){.table = 7, .op = ROW_UPDATE, .column_count = 1, .row_count = 1, .nums = &num, .keys = &key,
			       .cells = &cell};
	return (struct change_set){.number = number, .base_position = 1, .at = 1, .blocks = &block, .block_count = 1};
}

static inline void push_set(int device, const struct change_set *set)
{
	struct message m = {.type = MESSAGE_PUSH, .push = {.sets = set, .set_count = 1}};

	deliver(device, &m);
}

static inline void push(int device, int64_t number)
{
	struct change_set set = set_of(number);

	push_set(device, &set);
}

static inline void push_after(int device, int64_t number, int64_t depends)
{
	struct change_set set = set_of(number);

	set.depends = &depends;
	set.depends_count = 1;
	push_set(device, &set);
}

static inline void push_part(int device, int64_t number, uint32_t part, bool more)
{
	struct change_set set = set_of(number);

	set.part = part;
	set.more = more;
	push_set(device, &set);
}

static struct hub_limits limits;

static inline int set_up(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.now = 1000 * MS;
	w.wake = INT64_MAX;
	w.position = 100;
	w.schema_hash = 42;
	w.fill_chunks = 2;
	w.packer = packer_new();
	arena_init(&w.arena, 1 << 28);
	for (int i = 0; i < DEVICES; i++)
		w.devices[i] = (struct hub_device){.id = id(i), .tenant = id(200), .scopes = tenant_scope,
						   .scope_count = 2, .epoch = id(99)};
	limits = hub_limits_default;
	w.core = hub_core_new(&limits, &effects, NULL, &store_ops, NULL);
	return w.core == NULL;
}

static inline int tear_down(void **state)
{
	(void)state;
	hub_core_free(w.core);
	packer_free(w.packer);
	arena_deinit(&w.arena);
	return 0;
}

static inline void new_limits(const struct hub_limits *l)
{
	hub_core_free(w.core);
	w.core = hub_core_new(l, &effects, NULL, &store_ops, NULL);
	assert_non_null(w.core);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
