/* The hub's core between a model store and model links: nothing else runs,
 * time stands still unless a test moves it. */
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

/* --- the world --- */

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
	int64_t refused;  /* this number is refused */
	int64_t poison;   /* a batch with this number fails whole */
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

static struct uuid id(int n)
{
	return (struct uuid){.b = {[0] = (uint8_t)n, [1] = 1}};
}

/* effects */

static void fx_send(void *shell, void *link, const uint8_t *bytes, size_t n)
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

static size_t fx_queued(void *shell, void *link)
{
	(void)shell;
	return ((struct link *)link)->queued;
}

static void fx_close(void *shell, void *link, int code, const char *sentence)
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

static int64_t fx_wall(void *shell)
{
	(void)shell;
	return INT64_C(1700000000000000) + w.now;
}

static int64_t fx_monotonic(void *shell)
{
	(void)shell;
	return w.now;
}

static void fx_wake_at(void *shell, int64_t at)
{
	(void)shell;
	if (at < w.wake)
		w.wake = at;
}

static void fx_log(void *shell, int level, const struct uuid *tenant, const struct uuid *device, const char *text)
{
	(void)shell;
	(void)level;
	(void)tenant;
	(void)device;
	assert_non_null(text);
}

static const struct hub_effects effects = {fx_send, fx_queued, fx_close, fx_wall, fx_monotonic, fx_wake_at, fx_log};

/* the store: calls are kept and answered by run() */

static struct call *add_call(enum call_kind kind, void *ctx)
{
	struct call *c = &w.calls[w.call_count++];

	assert_true(w.call_count <= CALLS);
	*c = (struct call){.kind = kind, .ctx = ctx};
	return c;
}

static void st_device(void *store, const uint8_t fingerprint[32], const struct message_hello *hello, hub_device_cb cb,
		      void *ctx)
{
	struct call *c = add_call(CALL_DEVICE, ctx);

	(void)store;
	(void)hello;
	c->cb.device = cb;
	c->index = fingerprint[0];
}

static void st_schema(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx)
{
	(void)store;
	(void)tenant;
	add_call(CALL_SCHEMA, ctx)->cb.schema = cb;
}

static void st_merge(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
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

static void st_stage(void *store, const struct uuid *tenant, const struct uuid *device, const struct change_set *part,
		     hub_stage_cb cb, void *ctx)
{
	(void)store;
	(void)tenant;
	(void)device;
	assert_true(part->more || part->part > 0);
	w.stages++;
	add_call(CALL_STAGE, ctx)->cb.stage = cb;
}

static void st_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
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

static void st_compare(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		       uint32_t scope_count, const struct uuid *device, const struct message_compare *question,
		       hub_feed_cb cb, void *ctx)
{
	st_feed(store, tenant, from, scopes, scope_count, device, cb, ctx);
	w.calls[w.call_count - 1].question = question;
}

static void st_fill(void *store, const struct fill_request *request, hub_fill_cb cb, void *ctx)
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

static void st_poll(void *store, hub_poll_cb cb, void *ctx)
{
	(void)store;
	w.polls++;
	add_call(CALL_POLL, ctx)->cb.poll = cb;
}

static void st_applied(void *store, const struct uuid *tenant, const struct uuid *device, int64_t position)
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

static void answer_device(struct call *c)
{
	struct hub_device d = w.devices[c->index];

	d.head = w.position;
	c->cb.device(c->ctx, FERRY_OK, &d);
}

static const struct verdict_row *verdict_of(const struct merge_item *item)
{
	for (uint32_t i = 0; i < w.verdict_count; i++) {
		if (uuid_equal(&w.verdicts[i].device, &item->device) && w.verdicts[i].settled.number == item->number)
			return &w.verdicts[i];
	}
	return NULL;
}

static struct merge_result merge_one(const struct merge_item *item, int64_t position)
{
	const struct verdict_row *old = verdict_of(item);
	struct settled settled = {.number = item->number, .verdict = VERDICT_ACCEPTED, .position = position};

	if (old != NULL)
		return (struct merge_result){.device = item->device, .settled = old->settled, .repeated = true};
	if (item->number == w.locked)
		return (struct merge_result){.device = item->device, .settled = settled, .retry = true};
	if (item->number == w.refused) {
		settled.verdict = VERDICT_REJECTED;
		settled.code = FERRY_UNIQUE;
		settled.sentence = "taken";
	}
	w.verdicts[w.verdict_count++] = (struct verdict_row){item->device, settled};
	return (struct merge_result){.device = item->device, .settled = settled};
}

static void answer_merge(struct call *c)
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
		c->cb.merge(c->ctx, FERRY_OK, results, c->count);
	}
	free(results);
}

static void encode(const struct message *m, struct buffer *b)
{
	buffer_init(b, 1 << 20);
	assert_int_equal(message_encode(m, b), FERRY_OK);
}

static void answer_feed(struct call *c)
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
			settled[r.settled_count++] = (struct feed_settled){w.verdicts[i].device, w.verdicts[i].settled};
	}
	c->cb.feed(c->ctx, FERRY_OK, &r);
	free(noise);
	buffer_deinit(&b);
	buffer_deinit(&other);
}

static void answer_fill(struct call *c)
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

static void answer(struct call *c)
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

static void answer_first(void)
{
	struct call c = w.calls[0];

	memmove(w.calls, w.calls + 1, (w.call_count - 1) * sizeof(struct call));
	w.call_count--;
	answer(&c);
}

/* Answers everything, until nothing is asked any more. */
static void run(void)
{
	while (w.call_count > 0)
		answer_first();
}

static uint32_t calls_of(enum call_kind kind)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w.call_count; i++)
		n += w.calls[i].kind == kind;
	return n;
}

/* Moves time on, from one wake-up to the next, answering in between. */
static void pass(int64_t us)
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

static void deliver(int device, const struct message *m)
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

static struct message hello_message(int device, int64_t position)
{
	struct message m = {.type = MESSAGE_HELLO};

	m.hello = (struct message_hello){.version_min = 1, .version_max = 1, .agent_version = "test", .incarnation = id(device),
					 .epoch = id(99), .schema_hash = w.schema_hash, .position = position,
					 .mark = position * 10, .credit_bytes = 4 << 20,
					 .scopes = w.devices[device].scopes, .scope_count = w.devices[device].scope_count};
	return m;
}

static void link_up(int device)
{
	struct link *l = &w.links[device];
	uint8_t fingerprint[32] = {(uint8_t)device};

	*l = (struct link){.open = true};
	l->session = hub_core_open(w.core, l, fingerprint);
	assert_non_null(l->session);
}

static void greet_at(int device, int64_t position)
{
	struct message m = hello_message(device, position);

	link_up(device);
	deliver(device, &m);
	run();
}

/* The commit of nothing that follows the welcome of a device at the head is
 * taken out: tests count what comes besides. */
static void take_greeting(int device, int64_t position)
{
	struct link *l = &w.links[device];
	const struct message *last = l->count > 0 ? &l->messages[l->count - 1] : NULL;

	if (last != NULL && last->type == MESSAGE_COMMIT && last->commit.position == position &&
	    last->commit.settled_count == 0 && !last->commit.fill_done)
		l->count--;
}

static void connect_at(int device, int64_t position)
{
	greet_at(device, position);
	take_greeting(device, position);
}

/* The next message of a type, or NULL. */
static const struct message *next(int device, enum message_type type)
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
static const struct message *first(int device, enum message_type type)
{
	struct link *l = &w.links[device];
	uint32_t i = 0;

	while (i < l->count && l->messages[i].type != type)
		i++;
	assert_true(i < l->count);
	return &l->messages[i];
}

static uint32_t count_of(int device, enum message_type type)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w.links[device].count; i++)
		n += w.links[device].messages[i].type == type;
	return n;
}

static void assert_ended(int device, int code)
{
	const struct link *l = &w.links[device];

	assert_false(l->open);
	assert_int_equal(l->closed_code, code);
	assert_true(l->count > 0);
	assert_int_equal(l->messages[l->count - 1].type, MESSAGE_ERROR);
	assert_int_equal(l->messages[l->count - 1].error.code, code);
}

static struct change_set set_of(int64_t number)
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

static void push_set(int device, const struct change_set *set)
{
	struct message m = {.type = MESSAGE_PUSH, .push = {.sets = set, .set_count = 1}};

	deliver(device, &m);
}

static void push(int device, int64_t number)
{
	struct change_set set = set_of(number);

	push_set(device, &set);
}

static void push_after(int device, int64_t number, int64_t depends)
{
	struct change_set set = set_of(number);

	set.depends = &depends;
	set.depends_count = 1;
	push_set(device, &set);
}

static void push_part(int device, int64_t number, uint32_t part, bool more)
{
	struct change_set set = set_of(number);

	set.part = part;
	set.more = more;
	push_set(device, &set);
}

static struct hub_limits limits;

static int set_up(void **state)
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

static int tear_down(void **state)
{
	(void)state;
	hub_core_free(w.core);
	packer_free(w.packer);
	arena_deinit(&w.arena);
	return 0;
}

static void new_limits(const struct hub_limits *l)
{
	hub_core_free(w.core);
	w.core = hub_core_new(l, &effects, NULL, &store_ops, NULL);
	assert_non_null(w.core);
}

/* --- hello --- */

static void known_device_at_the_head_is_welcomed_to_deltas(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 100);
	m = next(1, MESSAGE_WELCOME);
	assert_non_null(m);
	assert_int_equal(m->welcome.mode, WELCOME_DELTA);
	assert_int_equal(m->welcome.scope_count, 2);
	assert_int_equal(m->welcome.credit_bytes, limits.session_credit_bytes);
	assert_int_equal(count_of(1, MESSAGE_SCHEMA), 0);
	assert_int_equal(w.links[1].count, 1);
}

static void device_at_the_head_learns_that_it_has_caught_up(void **state)
{
	(void)state;
	greet_at(1, 100);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 100);
	assert_int_equal(w.links[1].count, 2);
	pass(10000 * MS); /* once */
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 1);
}

static void device_behind_catches_up_with_one_commit(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 90);
	m = next(1, MESSAGE_DELTA);
	assert_non_null(m);
	assert_int_equal(m->delta.from, 90);
	assert_string_equal(m->delta.scope, "tenant");
	m = next(1, MESSAGE_COMMIT);
	assert_non_null(m);
	assert_int_equal(m->commit.position, 100);
	assert_int_equal(m->commit.mark, 1000);
	assert_false(m->commit.fill_done);
	assert_int_equal(count_of(1, MESSAGE_DELTA), 1); /* not of scope user:9 */
}

static void device_too_far_behind_for_a_feed_is_filled_at_its_next_hello(void **state)
{
	(void)state;
	w.feed_error = FERRY_PRUNED;
	connect_at(1, 90);
	assert_ended(1, FERRY_PRUNED);
	greet_at(1, 90);
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_FILL);
	hub_core_closed(w.core, w.links[1].session);
	greet_at(1, 100);
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
}

static void other_schema_means_schema_and_a_fill(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	m.hello.schema_hash = 41;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.code, FERRY_SCHEMA);
	assert_non_null(next(1, MESSAGE_SCHEMA));
}

static void refusals_of_hello_end_the_session_with_their_code(void **state)
{
	struct message m;

	(void)state;
	w.devices[1].revoked = true;
	connect_at(1, 100);
	assert_ended(1, FERRY_REVOKED);
	w.devices[2].incarnation = id(77);
	connect_at(2, 100);
	assert_ended(2, FERRY_CLONE);
	w.devices[3].shut = FERRY_TENANT_SUSPENDED;
	connect_at(3, 100);
	assert_ended(3, FERRY_TENANT_SUSPENDED);
	m = hello_message(4, 100);
	m.hello.version_min = m.hello.version_max = 9;
	link_up(4);
	deliver(4, &m);
	assert_ended(4, FERRY_VERSION);
}

static void each_status_of_a_tenant_turns_its_devices_away_with_its_own_code(void **state)
{
	static const int codes[] = {FERRY_TENANT_SUSPENDED, FERRY_TENANT_INACTIVE, FERRY_TENANT_PENDING, FERRY_TENANT_MIGRATING,
				    FERRY_TENANT_DELETED, FERRY_QUOTA_CALLS};

	(void)state;
	for (int i = 0; i < 6; i++) {
		const struct message_error *e;

		w.devices[i].shut = codes[i];
		connect_at(i, 100);
		assert_ended(i, codes[i]);
		e = &w.links[i].messages[w.links[i].count - 1].error;
		assert_int_equal(e->retry, codes[i] != FERRY_TENANT_DELETED);
		if (e->retry)
			assert_int_equal(e->retry_after_ms, hub_limits_default.shut_retry_us / 1000);
	}
}

static void sessions_of_a_tenant_that_is_suspended_end_at_once_and_no_others(void **state)
{
	struct uuid tenant = id(200), other = id(201);

	(void)state;
	w.devices[2].tenant = other;
	connect_at(1, 100);
	connect_at(2, 100);
	hub_core_tenant(w.core, &tenant, FERRY_OK, FERRY_OK);
	assert_true(w.links[1].open);
	hub_core_tenant(w.core, &tenant, FERRY_TENANT_SUSPENDED, FERRY_OK);
	assert_ended(1, FERRY_TENANT_SUSPENDED);
	assert_true(w.links[2].open);
}

static void device_of_an_archived_tenant_gets_no_credit_and_comes_again_when_that_ends(void **state)
{
	struct uuid tenant = id(200);
	const struct message *m;

	(void)state;
	w.devices[1].held = FERRY_TENANT_ARCHIVED;
	connect_at(1, 100);
	m = next(1, MESSAGE_WELCOME);
	assert_int_equal(m->welcome.held, FERRY_TENANT_ARCHIVED);
	assert_int_equal(m->welcome.credit_bytes, 0);
	hub_core_tenant(w.core, &tenant, FERRY_OK, FERRY_TENANT_ARCHIVED);
	assert_true(w.links[1].open);
	hub_core_tenant(w.core, &tenant, FERRY_OK, FERRY_OK);
	assert_ended(1, FERRY_LINK_CLOSED);
	assert_int_equal(w.links[1].messages[w.links[1].count - 1].error.retry_after_ms, 0);
}

static void push_without_credit_of_an_archived_tenant_ends_the_session(void **state)
{
	struct change_set set = set_of(1);
	struct message m = {.type = MESSAGE_PUSH, .push = {.sets = &set, .set_count = 1}};

	(void)state;
	w.devices[1].held = FERRY_TENANT_ARCHIVED;
	connect_at(1, 100);
	deliver(1, &m);
	assert_ended(1, FERRY_CREDIT);
}

static void bookmark_from_another_history_is_filled_anew(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	w.devices[1].bookmark_code = FERRY_OTHER_HISTORY;
	w.devices[1].common = 70;
	w.devices[1].common_mark = -7;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.code, FERRY_OTHER_HISTORY);
	assert_int_equal(w.links[1].messages[0].welcome.common, 70);
	assert_int_equal(w.links[1].messages[0].welcome.common_mark, -7);
	connect_at(2, 500); /* ahead of the hub: it was restored */
	assert_int_equal(next(2, MESSAGE_WELCOME)->welcome.code, FERRY_OTHER_HISTORY);
	w.devices[3].bookmark_code = FERRY_PRUNED;
	connect_at(3, 5);
	assert_int_equal(next(3, MESSAGE_WELCOME)->welcome.code, FERRY_PRUNED);
	assert_int_equal(w.links[3].messages[0].welcome.mode, WELCOME_FILL);
}

/* A hub that went back in time has another epoch; what is older than the
 * backup is as good as ever. */
static void bookmark_with_a_known_mark_is_good_whatever_its_epoch(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	m.hello.epoch = id(98);
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
}

static void newer_session_of_a_device_closes_the_older(void **state)
{
	struct link *old = &w.links[50];
	uint8_t fingerprint[32] = {1};
	struct message m = hello_message(1, 100);

	(void)state;
	/* The same device over two links: 50 first, then 1. */
	*old = (struct link){.open = true};
	old->session = hub_core_open(w.core, old, fingerprint);
	deliver(50, &m);
	run();
	connect_at(1, 100);
	assert_ended(50, FERRY_LINK_CLOSED);
	assert_true(w.links[1].open);
}

static void silent_link_is_closed_in_time(void **state)
{
	(void)state;
	link_up(1);
	pass(limits.hello_timeout_us + MS);
	assert_ended(1, FERRY_LINK_TIMEOUT);
}

static void P9_garbage_ends_only_its_session(void **state)
{
	static const uint8_t garbage[] = {0, 0xff, 0x13, 0x37};
	static const uint8_t unknown[] = {0, 0xa1, 0x00, 0x18, 0x63};
	struct message m = {.type = MESSAGE_FILL_ACK, .fill_ack = {.table = 7}};

	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	connect_at(3, 100);
	link_up(4);
	hub_core_message(w.core, w.links[1].session, garbage, sizeof(garbage));
	assert_ended(1, FERRY_MALFORMED);
	hub_core_message(w.core, w.links[2].session, unknown, sizeof(unknown));
	assert_ended(2, FERRY_UNKNOWN_MESSAGE);
	deliver(4, &m);
	assert_ended(4, FERRY_UNEXPECTED_MESSAGE);
	assert_true(w.links[3].open);
}

static void push_before_the_welcome_is_refused(void **state)
{
	(void)state;
	link_up(1);
	push(1, 1);
	assert_ended(1, FERRY_UNEXPECTED_MESSAGE);
}

static void R21_device_whose_checksums_differ_is_filled_when_it_asks(void **state)
{
	struct message m = hello_message(1, 100);

	(void)state;
	m.hello.refill = true;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_FILL);
	assert_int_equal(w.links[1].messages[0].welcome.code, FERRY_MISMATCH);
}

static void ask_about(int device, const char *scope, uint32_t ranges, uint32_t keys)
{
	static const struct key_range range;
	static const struct wanted_key key = {.key = {.b = {1}}};
	struct message m = {.type = MESSAGE_COMPARE,
			    .compare = {.scope = scope, .table = 7, .ranges = &range, .range_count = ranges, .keys = &key,
					.key_count = keys}};

	deliver(device, &m);
}

static void R21_hashes_stand_right_behind_the_commit_of_their_state(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 90);
	assert_true(next(1, MESSAGE_WELCOME)->welcome.compares);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 100);
	ask_about(1, "tenant", 1, 0);
	w.position = 105; /* others write meanwhile */
	run();
	m = next(1, MESSAGE_RANGES);
	assert_non_null(m);
	assert_int_equal(m->ranges.position, 105);
	assert_int_equal(m->ranges.table, 7);
	assert_int_equal(m->ranges.range_count, 1);
	assert_int_equal(m->ranges.ranges[0].hash, 7);
	assert_int_equal((m - 1)->type, MESSAGE_COMMIT);
	assert_int_equal((m - 1)->commit.position, 105);
}

static void R21_rows_that_were_asked_for_come_even_where_nothing_changed(void **state)
{
	(void)state;
	connect_at(1, 100);
	ask_about(1, "tenant", 0, 1);
	run();
	assert_non_null(next(1, MESSAGE_DELTA));
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 100);
	assert_int_equal(next(1, MESSAGE_RANGES)->ranges.range_count, 0);
	ask_about(1, "tenant", 0, 1); /* the next one may follow */
	run();
	assert_non_null(next(1, MESSAGE_RANGES));
}

static void R21_answer_waits_for_the_devices_credit(void **state)
{
	struct message m = hello_message(1, 100), credit = {.type = MESSAGE_CREDIT};
	uint64_t used;

	(void)state;
	m.hello.credit_bytes = 120; /* for commits, not for the answer, too */
	link_up(1);
	deliver(1, &m);
	run();
	used = w.links[1].bytes;
	ask_about(1, "tenant", 1, 0);
	for (int i = 0; i < 50 && next(1, MESSAGE_RANGES) == NULL; i++) {
		run();
		credit.credit.bytes = 20;
		if (w.links[1].bytes == used)
			break;
		deliver(1, &credit);
	}
	run();
	assert_int_equal(count_of(1, MESSAGE_RANGES), 1);
	assert_true(w.links[1].open);
}

static void second_question_before_the_answer_ends_the_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	ask_about(1, "tenant", 1, 0);
	ask_about(1, "tenant", 1, 0);
	assert_ended(1, FERRY_UNEXPECTED_MESSAGE);
	run();
}

static void P7_question_about_a_scope_of_others_ends_the_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	ask_about(1, "user:9", 1, 1);
	assert_ended(1, FERRY_OUT_OF_SCOPE);
	assert_int_equal(w.call_count, 0);
}

static void ping_tells_the_store_now_and_then_where_the_device_stands(void **state)
{
	struct message m = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 123}};

	(void)state;
	connect_at(1, 100);
	assert_int_equal(w.applied_calls, 0);
	deliver(1, &m);
	assert_int_equal(w.applied_calls, 1);
	assert_int_equal(w.applied, 100);
	deliver(1, &m);
	assert_int_equal(w.applied_calls, 1); /* not with every one */
}

static void ping_is_answered_with_the_clock(void **state)
{
	struct message m = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 123}};

	(void)state;
	connect_at(1, 100);
	deliver(1, &m);
	assert_int_equal(w.links[1].messages[1].type, MESSAGE_PONG);
	assert_int_equal(w.links[1].messages[1].ping.sent, 123);
	assert_int_equal(w.links[1].messages[1].ping.received, fx_wall(NULL));
}

/* --- push, merge, ack --- */

static void change_set_is_acked_and_then_committed_to_all(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	assert_int_equal(count_of(1, MESSAGE_ACK), 0); /* not before the store has it */
	run();
	m = next(1, MESSAGE_ACK);
	assert_non_null(m);
	assert_int_equal(m->ack.settled[0].number, 1);
	m = next(1, MESSAGE_COMMIT);
	assert_int_equal(m->commit.position, 101);
	assert_int_equal(m->commit.settled_count, 1);
	m = next(2, MESSAGE_COMMIT);
	assert_int_equal(m->commit.position, 101);
	assert_int_equal(m->commit.settled_count, 0);
	assert_int_equal(count_of(2, MESSAGE_DELTA), 1);
}

static void change_sets_that_come_during_a_merge_are_one_batch(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	push(1, 2);
	push(2, 1);
	push(1, 3);
	assert_int_equal(w.merges, 1);
	assert_int_equal(w.batch_sizes[0], 1);
	run();
	assert_int_equal(w.merges, 2);
	assert_int_equal(w.batch_sizes[1], 3);
}

static void R6_dependant_waits_and_others_overtake_it(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.locked = 1;
	push(1, 1);
	run();
	push_after(1, 2, 1);
	push(1, 3);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(next(1, MESSAGE_ACK)->ack.settled[0].number, 3);
	w.locked = 0;
	pass(1000 * MS);
	{
		const struct message *m = next(1, MESSAGE_ACK);

		assert_int_equal(m->ack.settled_count, 2); /* in one batch, in order */
		assert_int_equal(m->ack.settled[0].number, 1);
		assert_int_equal(m->ack.settled[1].number, 2);
	}
}

static void R6_dependant_of_an_earlier_settled_number_goes_at_once(void **state)
{
	static const int64_t above[] = {7};

	(void)state;
	w.devices[1].settled = 5;
	w.devices[1].settled_above = above;
	w.devices[1].settled_above_count = 1;
	connect_at(1, 100);
	push_after(1, 8, 7);
	push_after(1, 9, 3);
	run();
	push_after(1, 10, 6); /* nobody has seen 6 */
	run();
	assert_int_equal(w.verdict_count, 2);
	push(1, 6);
	run();
	assert_int_equal(w.verdict_count, 4);
}

/* What was settled when it was made is not among what it names. */
static void R18_what_is_new_waits_for_the_replays_of_its_device(void **state)
{
	struct change_set replay = set_of(1);
	const struct message *m;

	(void)state;
	w.devices[1].epoch_at = fx_wall(NULL);
	connect_at(1, 100);
	connect_at(2, 100);
	replay.old_position = 90;
	push_set(1, &replay);
	push(1, 2);
	push(2, 1);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 0); /* replays of many devices are gathered */
	assert_int_equal(count_of(2, MESSAGE_ACK), 1);
	pass(hub_limits_default.heal_window_us);
	m = next(1, MESSAGE_ACK);
	assert_non_null(m);
	assert_int_equal(m->ack.settled_count, 2);
	assert_int_equal(m->ack.settled[0].number, 1);
	assert_int_equal(m->ack.settled[1].number, 2);
}

static void R12_locked_rows_hold_nobody_up_and_end_the_session_at_last(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.locked = 4;
	push(1, 4);
	run();
	push(2, 1);
	run();
	assert_int_equal(count_of(2, MESSAGE_ACK), 1);
	for (int i = 0; i < 60 && w.links[1].open; i++) {
		struct message m = {.type = MESSAGE_PING, .ping = {.id = i}};

		w.merges = 0; /* the log of batches is short */
		pass(10000 * MS);
		for (int d = 1; d <= 2; d++) {
			if (w.links[d].open)
				deliver(d, &m);
		}
	}
	assert_ended(1, FERRY_ROW_LOCKED);
	assert_true(w.links[2].open);
}

static void R11_device_that_failed_merges_alone_for_a_while(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.refused = 5;
	push(1, 5);
	run();
	assert_int_equal(next(1, MESSAGE_ACK)->ack.settled[0].code, FERRY_UNIQUE);
	push(2, 1); /* under way; the rest gathers */
	push(1, 6);
	push(2, 2);
	push(1, 7);
	push(2, 3);
	run();
	assert_int_equal(w.merges, 4);
	assert_int_equal(w.batch_sizes[2], 2);
	assert_int_equal(w.batch_numbers[2][0], 6);
	assert_int_equal(w.batch_sizes[3], 2);
	assert_int_equal(w.batch_numbers[3][0], 2);
	pass(11000 * MS);
	push(2, 4);
	push(1, 8);
	push(2, 5);
	run();
	assert_int_equal(w.batch_sizes[5], 2); /* together again */
}

static void P2_number_settled_before_is_acked_again_with_its_verdict(void **state)
{
	const struct message *m;

	(void)state;
	w.verdicts[w.verdict_count++] =
		(struct verdict_row){id(1), {.number = 1, .verdict = VERDICT_REJECTED, .position = 95, .code = FERRY_UNIQUE}};
	connect_at(1, 100);
	push(1, 1);
	run();
	m = next(1, MESSAGE_ACK);
	assert_int_equal(m->ack.settled[0].verdict, VERDICT_REJECTED);
	/* It lies before the bookmark, so no state would bring it (R3). */
	m = next(1, MESSAGE_COMMIT);
	assert_non_null(m);
	assert_int_equal(m->commit.settled_count, 1);
	assert_int_equal(m->commit.settled[0].code, FERRY_UNIQUE);
}

static void P2_same_number_from_a_new_session_waits_for_the_merge_under_way(void **state)
{
	struct link *l = &w.links[1];

	(void)state;
	connect_at(1, 100);
	push(1, 1);
	assert_int_equal(calls_of(CALL_MERGE), 1);
	hub_core_closed(w.core, l->session);
	link_up(1);
	{
		struct message m = hello_message(1, 100);

		deliver(1, &m);
	}
	while (calls_of(CALL_SCHEMA) + calls_of(CALL_DEVICE) > 0) { /* all but the merge */
		struct call first = w.calls[0];

		memmove(w.calls, w.calls + 1, (w.call_count - 1) * sizeof(struct call));
		w.call_count--;
		if (first.kind == CALL_MERGE)
			w.calls[w.call_count++] = first;
		else
			answer(&first);
	}
	take_greeting(1, 100);
	push(1, 1);
	assert_int_equal(w.merges, 1);
	run();
	assert_int_equal(w.verdict_count, 1);
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.settled_count, 1);
}

static void database_failure_is_retried_and_acks_nothing_before(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.merge_error = FERRY_DATABASE;
	w.merge_failures = 2;
	push(1, 1);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 0);
	pass(1000 * MS);
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(w.merges, 3);
}

static void database_that_stays_away_ends_the_sessions_with_a_hint(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.merge_error = FERRY_DATABASE;
	w.merge_failures = 1000;
	push(1, 1);
	run();
	pass(30000 * MS);
	assert_ended(1, FERRY_DATABASE);
	assert_true(w.links[1].messages[w.links[1].count - 1].error.retry);
	assert_int_equal(count_of(1, MESSAGE_ACK), 0);
	assert_true(w.links[2].open);
}

static void P6_change_set_that_breaks_its_batch_ends_only_its_own_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.poison = 66;
	push(2, 1);
	push(1, 66);
	push(2, 2);
	run();
	pass(100 * MS);
	assert_ended(1, FERRY_INTERNAL);
	assert_int_equal(w.verdict_count, 2);
	assert_true(w.links[2].open);
}

static void R7_parts_are_staged_and_merged_when_complete(void **state)
{
	(void)state;
	connect_at(1, 100);
	push_part(1, 1, 0, true);
	push_part(1, 1, 1, true);
	push_after(1, 3, 1); /* waits for the parts */
	run();
	assert_int_equal(w.merges, 0);
	push_part(1, 1, 2, false);
	push_part(1, 2, 0, true); /* the next one in parts follows at once */
	push_part(1, 2, 1, false);
	run();
	assert_int_equal(w.stages, 5);
	assert_int_equal(w.merges, 3);
	assert_int_equal(w.verdict_count, 3);
}

static void R7_part_out_of_turn_ends_the_session(void **state)
{
	(void)state;
	connect_at(1, 100);
	push_part(1, 1, 0, true);
	push_part(1, 1, 2, false);
	assert_ended(1, FERRY_UNEXPECTED_MESSAGE);
	run();
}

static void credit_is_given_back_as_work_is_settled(void **state)
{
	struct hub_limits small = limits;
	int64_t n = 1;

	(void)state;
	small.session_credit_bytes = 4096;
	new_limits(&small);
	connect_at(1, 100);
	for (; n < 200; n++) {
		push(1, n);
		run();
	}
	assert_true(w.links[1].open);
	assert_true(count_of(1, MESSAGE_CREDIT) > 2);
	assert_int_equal(count_of(1, MESSAGE_ACK), 199);
	for (; w.links[1].open; n++)
		push(1, n); /* and nothing is settled any more */
	assert_ended(1, FERRY_CREDIT);
	run();
}

/* A megabyte of one letter is a few bytes on the wire: credit alone would let
 * a device fill the hub's memory. */
static void P9_what_unpacks_to_much_waits_packed_and_keeps_its_order(void **state)
{
	size_t n = 700000;
	char *much = malloc(n);

	(void)state;
	memset(much, 'x', n);
	connect_at(1, 100);
	for (int64_t number = 1; number <= 20; number++) {
		struct change_set set = set_of(number);
		struct block block = set.blocks[0];
		struct value cell = value_text(much, n);

		block.cells = &cell;
		set.blocks = &block;
		push_set(1, &set);
	}
	assert_true(w.links[1].open);
	run();
	assert_int_equal(w.verdict_count, 20);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(w.verdicts[i].settled.number, i + 1);
	/* The first went at once, the next were what fitted; the rest came after. */
	assert_in_range(w.merges, 3, 8);
	free(much);
}

static void foreign_author_is_refused(void **state)
{
	struct change_set set = set_of(1);

	(void)state;
	connect_at(1, 100);
	set.author = id(2);
	push_set(1, &set);
	assert_ended(1, FERRY_BAD_MESSAGE);
}

/* --- the feed --- */

static void idle_write_reaches_the_others_without_any_timer(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	run(); /* time stands still */
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 1);
}

static void commits_of_others_are_found_by_the_poll(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.position = 105;
	pass(2 * limits.poll_interval_us);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 105);
	assert_true(w.polls <= 3);
}

static void many_sessions_get_fewer_larger_states(void **state)
{
	(void)state;
	for (int d = 0; d < 100; d++)
		connect_at(d, 100);
	for (int64_t n = 1; n <= 50; n++) {
		push(1, n);
		pass(2 * MS);
	}
	pass(100 * MS);
	assert_int_equal(w.verdict_count, 50);
	/* 50 writes in 100 ms: a merge every 50 ms, and its state with it. */
	assert_in_range(count_of(2, MESSAGE_COMMIT), 3, 6);
	assert_in_range(w.merges, 2, 5);
	assert_int_equal(w.links[2].messages[w.links[2].count - 1].type, MESSAGE_COMMIT);
	assert_int_equal(w.links[2].messages[w.links[2].count - 1].commit.position, w.position);
}

static void slow_link_holds_only_its_cursor(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.links[2].queued = 1 << 20;
	for (int64_t n = 1; n <= 20; n++) {
		push(1, n);
		run();
	}
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 20);
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 0);
	w.links[2].queued = 0;
	hub_core_drained(w.core, w.links[2].session);
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 1);
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 120);
}

static void session_behind_the_ring_catches_up_and_joins_it(void **state)
{
	struct hub_limits small = limits;

	(void)state;
	small.ring_bytes_max = 3000;
	new_limits(&small);
	w.frame_padding = 1000;
	connect_at(1, 100);
	connect_at(2, 100);
	w.links[2].queued = 1 << 20;
	for (int64_t n = 1; n <= 20; n++) {
		push(1, n);
		run();
	}
	w.links[2].queued = 0;
	hub_core_drained(w.core, w.links[2].session);
	run();
	assert_int_equal(count_of(2, MESSAGE_DELTA), 1);
	assert_int_equal(next(2, MESSAGE_DELTA)->delta.from, 100);
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 120);
	push(1, 21);
	run();
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 121);
}

static void frames_wait_for_the_devices_credit(void **state)
{
	struct message m = hello_message(2, 100);
	size_t before;

	(void)state;
	w.frame_padding = 4000;
	connect_at(1, 100);
	m.hello.credit_bytes = 5000;
	link_up(2);
	deliver(2, &m);
	run();
	take_greeting(2, 100);
	before = w.links[2].bytes;
	push(1, 1);
	run();
	push(1, 2);
	run();
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 1);
	assert_in_range(w.links[2].bytes - before, 2500, 5000);
	m = (struct message){.type = MESSAGE_CREDIT, .credit = {.bytes = w.links[2].bytes - before}};
	deliver(2, &m);
	run();
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 2);
	assert_int_equal(w.links[2].messages[w.links[2].count - 1].commit.position, 102);
}

static void credit_never_used_is_refused(void **state)
{
	struct message m = {.type = MESSAGE_CREDIT, .credit = {.bytes = 1 << 20}};

	(void)state;
	connect_at(1, 100);
	deliver(1, &m);
	assert_ended(1, FERRY_CREDIT);
}

static void applied_position_is_told_when_the_credit_has_come_back(void **state)
{
	struct message m = {.type = MESSAGE_CREDIT};

	(void)state;
	connect_at(1, 90);
	assert_int_equal(w.applied, 0);
	m.credit.bytes = 40;
	deliver(1, &m);
	assert_int_equal(w.applied, 0);
	/* What is left of delta and commit. */
	for (m.credit.bytes = 1; w.applied == 0 && w.links[1].open;)
		deliver(1, &m);
	assert_int_equal(w.applied, 100);
}

static void bookmark_moves_on_when_nothing_is_for_the_device(void **state)
{
	static const char *const only[] = {"user:77"};

	(void)state;
	w.devices[2].scopes = only;
	w.devices[2].scope_count = 1;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	run();
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 0);
	pass(3000 * MS);
	assert_int_equal(count_of(2, MESSAGE_DELTA), 0);
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 101);
}

/* --- the fill --- */

static void ack_fills(int device)
{
	struct message m = {.type = MESSAGE_FILL_ACK, .fill_ack = {.table = 7}};
	uint32_t acked = 0;

	while (acked < count_of(device, MESSAGE_FILL)) {
		deliver(device, &m);
		acked++;
		run();
	}
}

static void empty_replica_is_filled_in_rank_order_and_closed_by_a_commit(void **state)
{
	const struct message *m;
	uint32_t tables[8];

	(void)state;
	connect_at(1, -1);
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_FILL);
	assert_int_equal(count_of(1, MESSAGE_FILL), 2); /* at most two under way */
	w.position = 104;
	ack_fills(1);
	assert_int_equal(count_of(1, MESSAGE_FILL), 8); /* 2 tables, 2 scopes, 2 chunks */
	for (int i = 0; i < 8; i++) {
		m = next(1, MESSAGE_FILL);
		tables[i] = m->fill.block.table;
		assert_int_equal(m->fill.position, 100);
	}
	assert_int_equal(tables[0], 7);
	assert_int_equal(tables[3], 7);
	assert_int_equal(tables[4], 3);
	m = next(1, MESSAGE_DELTA);
	assert_int_equal(m->delta.from, 100);
	m = next(1, MESSAGE_COMMIT);
	assert_true(m->commit.fill_done);
	assert_int_equal(m->commit.position, 104);
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 1);
	connect_at(2, 104);
	push(2, 1);
	run();
	assert_false(next(1, MESSAGE_COMMIT)->commit.fill_done);
}

static void empty_table_costs_no_message_and_no_stack(void **state)
{
	uint32_t first = 3, last = 7;

	(void)state;
	for (w.empty_table = first; w.empty_table <= last; w.empty_table += last - first) {
		int device = w.empty_table == first ? 1 : 2;

		w.fills = 0;
		connect_at(device, -1);
		ack_fills(device);
		assert_int_equal(w.fills, 2 + 4);
		assert_int_equal(count_of(device, MESSAGE_FILL), 4); /* the other table: 2 scopes, 2 chunks */
		for (int i = 0; i < 4; i++)
			assert_int_not_equal(next(device, MESSAGE_FILL)->fill.block.table, w.empty_table);
		assert_true(next(device, MESSAGE_COMMIT)->commit.fill_done);
	}
}

static void R15_unfinished_fill_goes_on_at_its_table(void **state)
{
	struct message m = hello_message(1, -1);
	const struct message *fill;

	(void)state;
	m.hello.epoch = (struct uuid){{0}}; /* no bookmark yet */
	m.hello.fill_position = 80;
	m.hello.fill_table = 3;
	m.hello.fill_after = id(4);
	m.hello.fill_scope = tenant_scope[1];
	m.hello.fill_scopes = tenant_scope;
	m.hello.fill_scope_count = 2;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_RESUME);
	fill = next(1, MESSAGE_FILL);
	assert_int_equal(fill->fill.block.table, 3);
	assert_int_equal(fill->fill.position, 80);
	assert_string_equal(fill->fill.scope, "tenant"); /* project:1 comes before it, and is staged */
	assert_int_equal(fill->fill.block.keys[0].b[0], 4);
	ack_fills(1);
	assert_int_equal(next(1, MESSAGE_DELTA)->delta.from, 80);
	assert_true(next(1, MESSAGE_COMMIT)->commit.fill_done);
}

/* The replica has the tenant's scope alone; project:1 was granted since. */
static struct message hello_without_the_project(int64_t position)
{
	struct message m = hello_message(1, position);

	m.hello.scopes = tenant_scope + 1;
	m.hello.scope_count = 1;
	return m;
}

static void R15_scope_that_comes_is_filled_beside_the_deltas_of_the_others(void **state)
{
	struct message m = hello_without_the_project(90);
	const struct link *l = &w.links[1];

	(void)state;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.scope_count, 2);
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.adding_count, 1);
	assert_string_equal(first(1, MESSAGE_WELCOME)->welcome.adding[0], "project:1");
	assert_false(first(1, MESSAGE_WELCOME)->welcome.adding_goes_on);
	assert_int_equal(first(1, MESSAGE_DELTA)->delta.from, 90);
	assert_false(first(1, MESSAGE_COMMIT)->commit.fill_done);
	assert_string_equal(first(1, MESSAGE_FILL)->fill.scope, "project:1");
	assert_int_equal(first(1, MESSAGE_FILL)->fill.position, 100);
	assert_int_equal(l->messages[l->count - 1].type, MESSAGE_FILL);
	ack_fills(1);
	assert_int_equal(count_of(1, MESSAGE_FILL), 4); /* 2 tables, 1 scope, 2 chunks */
	assert_int_equal(l->messages[l->count - 1].type, MESSAGE_COMMIT);
	assert_true(l->messages[l->count - 1].commit.fill_done);
}

static void fill_beside_that_ends_before_the_ring_moves_skips_nothing_of_the_others(void **state)
{
	struct message m = hello_without_the_project(100);

	(void)state;
	connect_at(2, 100); /* the ring stands at 100, and is behind what device 1 is told to be there */
	w.position = 110;
	w.nothing_to_fill = true;
	w.verdicts[w.verdict_count++] =
		(struct verdict_row){id(1), {.number = 1, .verdict = VERDICT_ACCEPTED, .position = 105}};
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.adding_count, 1);
	assert_true(first(1, MESSAGE_COMMIT)->commit.fill_done);
	assert_int_equal(first(1, MESSAGE_COMMIT)->commit.position, 110);
	assert_int_equal(first(1, MESSAGE_COMMIT)->commit.settled_count, 1);
	assert_int_equal(first(1, MESSAGE_DELTA)->delta.from, 100);
	assert_int_equal(first(1, MESSAGE_DELTA)->delta.to, 110);
}

static void R15_fill_beside_goes_on_with_the_same_scopes_only(void **state)
{
	struct message m = hello_without_the_project(90);

	(void)state;
	m.hello.fill_position = 80;
	m.hello.fill_table = 3;
	m.hello.fill_after = id(4);
	m.hello.fill_scope = tenant_scope[0];
	m.hello.fill_beside = true;
	m.hello.fill_scopes = tenant_scope;
	m.hello.fill_scope_count = 2; /* it was begun for others */
	link_up(1);
	deliver(1, &m);
	run();
	assert_false(first(1, MESSAGE_WELCOME)->welcome.adding_goes_on);
	assert_int_equal(first(1, MESSAGE_FILL)->fill.position, 100);
	m.hello.fill_scope_count = 1;
	link_up(2);
	deliver(2, &m);
	run();
	assert_true(first(2, MESSAGE_WELCOME)->welcome.adding_goes_on);
	assert_int_equal(first(2, MESSAGE_FILL)->fill.position, 80);
}

static void scope_that_went_is_not_filled_and_costs_no_fill(void **state)
{
	static const char *const more[] = {"project:1", "project:2", "tenant"};
	struct message m = hello_message(1, 90);

	(void)state;
	m.hello.scopes = more;
	m.hello.scope_count = 3;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
	assert_int_equal(count_of(1, MESSAGE_FILL), 0);
}

static void push_is_merged_while_the_replica_is_filled(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, -1);
	push(1, 1);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 0);
	ack_fills(1);
	m = next(1, MESSAGE_COMMIT);
	assert_true(m->commit.fill_done);
	assert_int_equal(m->commit.settled_count, 1);
}

/* --- ends --- */

static void revoked_device_is_cut_off_at_once(void **state)
{
	struct uuid device = id(1);

	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	hub_core_revoke(w.core, &device);
	assert_ended(1, FERRY_REVOKED);
	assert_true(w.links[2].open);
}

static void drain_finishes_what_is_under_way(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	push(1, 2);
	hub_core_drain(w.core);
	assert_ended(2, FERRY_SHUTTING_DOWN);
	assert_true(w.links[1].open);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_ended(1, FERRY_SHUTTING_DOWN);
	assert_int_equal(w.verdict_count, 1); /* 2 stays in the outbox */
}

static void new_schema_ends_the_sessions_so_that_they_fetch_it(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.schema_hash = 43;
	pass(6000 * MS);
	assert_ended(1, FERRY_SCHEMA);
}

static void session_may_end_at_any_moment(void **state)
{
	(void)state;
	for (int cut = 0; cut < 12; cut++) {
		struct message m = hello_message(1, cut % 2 ? 90 : -1);
		bool pushed = false;

		link_up(1);
		deliver(1, &m);
		for (int step = 0; step < cut && w.call_count > 0; step++) {
			answer_first();
			if (w.links[1].open && count_of(1, MESSAGE_WELCOME) == 1 && !pushed) {
				pushed = true;
				push(1, 1 + cut);
				push_part(1, 100 + cut, 0, true);
				push_part(1, 100 + cut, 1, false);
			}
		}
		hub_core_closed(w.core, w.links[1].session);
		if (cut % 3 == 0)
			run();
	}
	run();
	pass(1000 * MS);
	{
		struct hub_core_stats stats;

		hub_core_stats(w.core, &stats);
		assert_int_equal(stats.sessions, 0);
		assert_int_equal(stats.tenants, 0);
		assert_int_equal(stats.merge_queue, 0);
	}
}

static void core_is_freed_with_everything_under_way(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, -1);
	push(1, 1);
	push(1, 2);
	push_part(1, 3, 0, true);
	push_part(1, 3, 1, false);
	assert_true(w.call_count > 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(known_device_at_the_head_is_welcomed_to_deltas),
		T(device_at_the_head_learns_that_it_has_caught_up),
		T(device_behind_catches_up_with_one_commit),
		T(device_too_far_behind_for_a_feed_is_filled_at_its_next_hello),
		T(other_schema_means_schema_and_a_fill),
		T(each_status_of_a_tenant_turns_its_devices_away_with_its_own_code),
		T(sessions_of_a_tenant_that_is_suspended_end_at_once_and_no_others),
		T(device_of_an_archived_tenant_gets_no_credit_and_comes_again_when_that_ends),
		T(push_without_credit_of_an_archived_tenant_ends_the_session),
		T(refusals_of_hello_end_the_session_with_their_code),
		T(bookmark_from_another_history_is_filled_anew),
		T(bookmark_with_a_known_mark_is_good_whatever_its_epoch),
		T(newer_session_of_a_device_closes_the_older),
		T(silent_link_is_closed_in_time),
		T(P9_garbage_ends_only_its_session),
		T(push_before_the_welcome_is_refused),
		T(ping_is_answered_with_the_clock),
		T(R21_hashes_stand_right_behind_the_commit_of_their_state),
		T(R21_rows_that_were_asked_for_come_even_where_nothing_changed),
		T(R21_answer_waits_for_the_devices_credit),
		T(second_question_before_the_answer_ends_the_session),
		T(P7_question_about_a_scope_of_others_ends_the_session),
		T(ping_tells_the_store_now_and_then_where_the_device_stands),
		T(R21_device_whose_checksums_differ_is_filled_when_it_asks),
		T(change_set_is_acked_and_then_committed_to_all),
		T(change_sets_that_come_during_a_merge_are_one_batch),
		T(R6_dependant_waits_and_others_overtake_it),
		T(R6_dependant_of_an_earlier_settled_number_goes_at_once),
		T(R18_what_is_new_waits_for_the_replays_of_its_device),
		T(R12_locked_rows_hold_nobody_up_and_end_the_session_at_last),
		T(R11_device_that_failed_merges_alone_for_a_while),
		T(P2_number_settled_before_is_acked_again_with_its_verdict),
		T(P2_same_number_from_a_new_session_waits_for_the_merge_under_way),
		T(database_failure_is_retried_and_acks_nothing_before),
		T(database_that_stays_away_ends_the_sessions_with_a_hint),
		T(P6_change_set_that_breaks_its_batch_ends_only_its_own_session),
		T(R7_parts_are_staged_and_merged_when_complete),
		T(R7_part_out_of_turn_ends_the_session),
		T(credit_is_given_back_as_work_is_settled),
		T(P9_what_unpacks_to_much_waits_packed_and_keeps_its_order),
		T(foreign_author_is_refused),
		T(idle_write_reaches_the_others_without_any_timer),
		T(commits_of_others_are_found_by_the_poll),
		T(many_sessions_get_fewer_larger_states),
		T(slow_link_holds_only_its_cursor),
		T(session_behind_the_ring_catches_up_and_joins_it),
		T(frames_wait_for_the_devices_credit),
		T(credit_never_used_is_refused),
		T(applied_position_is_told_when_the_credit_has_come_back),
		T(bookmark_moves_on_when_nothing_is_for_the_device),
		T(empty_replica_is_filled_in_rank_order_and_closed_by_a_commit),
		T(empty_table_costs_no_message_and_no_stack),
		T(R15_unfinished_fill_goes_on_at_its_table),
		T(R15_scope_that_comes_is_filled_beside_the_deltas_of_the_others),
		T(fill_beside_that_ends_before_the_ring_moves_skips_nothing_of_the_others),
		T(R15_fill_beside_goes_on_with_the_same_scopes_only),
		T(scope_that_went_is_not_filled_and_costs_no_fill),
		T(push_is_merged_while_the_replica_is_filled),
		T(revoked_device_is_cut_off_at_once),
		T(drain_finishes_what_is_under_way),
		T(new_schema_ends_the_sessions_so_that_they_fetch_it),
		T(session_may_end_at_any_moment),
		T(core_is_freed_with_everything_under_way),
	};

	return cmocka_run_group_tests_name("hub_core", tests, NULL, NULL);
}
