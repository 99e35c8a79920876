/* The agent's protocol engine against a fake replica and a fake hub: every
 * transition, every timer, and what comes from a hub that misbehaves. Each
 * test file includes this once. */
#ifndef FERRY_TESTS_AGENT_CORE_FIXTURE_H
#define FERRY_TESTS_AGENT_CORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/core.h"
#include "protocol/envelope.h"

#define SECOND 1000000
#define SENT_MAX 256
#define TYPES 16

struct fake_store {
	enum ferry_error hello, welcome, schema, cut, next_push, ack, delta, commit, fill; /* answers */
	int calls_cut, calls_delta, calls_commit, calls_fill, calls_ack, calls_disconnected;
	int64_t sets;      /* change-sets 1..sets wait in the outbox */
	int64_t settled;   /* up to here the commit took them out */
	size_t set_bytes;  /* text in each */
	int cuts_left;     /* cut says `more` so often */
	char order[200];   /* d, c, f, a: what was done, in order */
	struct message_hello at; /* what hello says */
	bool sums_wrong, heal_due;
	int64_t clock_at_cut, clock; /* offsets that it was told */
	int questions, slices, calls_ranges; /* to ask, of an answer's work, answers */
	bool too_much;     /* differs: the next answer is told so */
};

struct bench {
	struct agent_core *core;
	struct fake_store store;
	int64_t now, wall, wake;
	int connects, disconnects, changes;
	size_t queued;
	bool refuse_at_once; /* connect fails from within the effect */
	bool hub_compares, compared; /* what the welcome says */
	int sent_count;
	enum message_type sent[SENT_MAX];
	size_t sent_bytes[SENT_MAX];
	int count[TYPES];
	struct message last[TYPES];
	int64_t pushed[SENT_MAX]; /* numbers of change-sets as they were pushed */
	int pushed_count;
	uint64_t credit_back;
	struct packer *packer;
	struct arena arena;
	struct buffer plain, wire, scratch;
};

/* Fake replica. */

static inline void note(struct fake_store *s, char what)
{
	size_t n = strlen(s->order);
	if (n + 1 < sizeof s->order)
		s->order[n] = what;
}

static inline enum ferry_error fake_hello(void *store, struct message_hello *out, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)why;
	if (s->hello)
		return s->hello;
	*out = s->at;
	return FERRY_OK;
}

static inline enum ferry_error fake_welcome(void *store, const struct message_welcome *w, struct ferry_why *why)
{
	(void)w;
	return ferry_fail(why, ((struct fake_store *)store)->welcome, "welcome");
}

static inline enum ferry_error fake_schema(void *store, const struct schema *schema, struct ferry_why *why)
{
	(void)schema;
	return ferry_fail(why, ((struct fake_store *)store)->schema, "schema");
}

static inline enum ferry_error fake_cut(void *store, bool *out_more, struct ferry_why *why)
{
	struct fake_store *s = store;
	s->clock_at_cut = s->clock;
	s->calls_cut++;
	if (s->cut)
		return ferry_fail(why, s->cut, "cut");
	*out_more = s->cuts_left > 0;
	if (s->cuts_left > 0)
		s->cuts_left--;
	return FERRY_OK;
}

static inline enum ferry_error fake_next_push(void *store, struct push_cursor *cursor, size_t budget, struct arena *arena,
				       struct message_push *out, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)budget;
	if (s->next_push)
		return ferry_fail(why, s->next_push, "next_push");
	if (cursor->number < s->settled)
		cursor->number = s->settled;
	*out = (struct message_push){0};
	if (cursor->number >= s->sets)
		return FERRY_OK;
	struct change_set *set = arena_array(arena, 1, sizeof *set);
	struct block *block = arena_array(arena, 1, sizeof *block);
	uint16_t *num = arena_array(arena, 1, sizeof *num);
	struct uuid *key = arena_array(arena, 1, sizeof *key);
	struct value *cell = arena_array(arena, 1, sizeof *cell);
	char *text = arena_array(arena, 1, s->set_bytes + 1);
	uint32_t noise = (uint32_t)cursor->number * 2654435761u + 1; /* must not compress */
	for (size_t i = 0; i < s->set_bytes; i++) {
		noise = noise * 1664525u + 1013904223u;
		text[i] = (char)(' ' + (noise >> 24) % 95);
	}
	*num = 2;
	key->b[0] = 1;
	*cell = value_text(text, s->set_bytes);
	*block = (struct block){.table = 1, .op = ROW_UPDATE, .column_count = 1, .row_count = 1, .nums = num,
				.keys = key, .cells = cell};
	*set = (struct change_set){.number = ++cursor->number, .at = 1, .blocks = block, .block_count = 1};
	*out = (struct message_push){.sets = set, .set_count = 1};
	return FERRY_OK;
}

static inline enum ferry_error fake_ack(void *store, const struct message_ack *ack, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)ack;
	s->calls_ack++;
	note(s, 'a');
	return ferry_fail(why, s->ack, "ack");
}

static inline enum ferry_error fake_delta(void *store, const struct message_delta *delta, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)delta;
	s->calls_delta++;
	if (!s->delta)
		note(s, 'd');
	return ferry_fail(why, s->delta, "delta");
}

static inline enum ferry_error fake_commit(void *store, const struct message_commit *c, struct store_commit_report *report,
				    struct ferry_why *why)
{
	struct fake_store *s = store;
	s->calls_commit++;
	if (s->commit)
		return ferry_fail(why, s->commit, "commit");
	note(s, 'c');
	for (uint32_t i = 0; i < c->settled_count; i++)
		s->settled = c->settled[i].number;
	report->sums_checked = s->sums_wrong;
	return FERRY_OK;
}

static inline enum ferry_error fake_fill(void *store, const struct message_fill *fill, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)fill;
	s->calls_fill++;
	if (!s->fill)
		note(s, 'f');
	return ferry_fail(why, s->fill, "fill");
}

static inline enum ferry_error fake_status(void *store, struct store_status *out, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)why;
	*out = (struct store_status){.outbox_sets = (uint64_t)(s->sets - s->settled)};
	return FERRY_OK;
}

static inline void fake_disconnected(void *store)
{
	((struct fake_store *)store)->calls_disconnected++;
}

static inline bool fake_heal_due(void *store)
{
	return ((struct fake_store *)store)->heal_due;
}

static inline enum ferry_error fake_compare(void *store, struct message_compare *out, bool *out_any, struct ferry_why *why)
{
	struct fake_store *s = store;
	static const struct key_range all;
	(void)why;
	*out_any = s->questions > 0;
	*out = (struct message_compare){.scope = "tenant", .table = 7, .ranges = &all, .range_count = 1};
	s->questions -= *out_any;
	return FERRY_OK;
}

static inline enum ferry_error fake_ranges(void *store, const struct message_ranges *m, bool *out_more, struct ferry_why *why)
{
	struct fake_store *s = store;
	assert_int_equal(m->table, 7);
	*out_more = s->slices > 0;
	s->slices -= *out_more;
	s->calls_ranges++;
	return s->too_much ? ferry_fail(why, FERRY_MISMATCH, "too much differs") : FERRY_OK;
}

static inline void fake_clock(void *store, int64_t offset)
{
	((struct fake_store *)store)->clock = offset;
}

static const struct agent_store_ops fake_ops = {
	.hello = fake_hello, .welcome = fake_welcome, .schema = fake_schema, .cut = fake_cut,
	.next_push = fake_next_push, .ack = fake_ack, .delta = fake_delta, .commit = fake_commit,
	.fill = fake_fill, .status = fake_status, .disconnected = fake_disconnected,
	.heal_due = fake_heal_due, .clock = fake_clock, .compare = fake_compare, .ranges = fake_ranges,
};

/* Fake shell. */

static inline void shell_connect(void *shell)
{
	struct bench *b = shell;
	b->connects++;
	if (b->refuse_at_once)
		agent_core_link_down(b->core, "connection refused");
}

static inline void shell_send(void *shell, const uint8_t *bytes, size_t n)
{
	struct bench *b = shell;
	const uint8_t *plain = NULL;
	size_t plain_n = 0;
	struct ferry_why why = {0};
	struct message m;
	assert_int_equal(packer_unpack(b->packer, bytes, n, &b->scratch, &plain, &plain_n, &why), FERRY_OK);
	uint8_t *copy = arena_copy(&b->arena, plain, plain_n);
	assert_non_null(copy);
	assert_int_equal(message_decode(&b->arena, copy, plain_n, &m, &why), FERRY_OK);
	assert_true(b->sent_count < SENT_MAX && m.type < TYPES);
	b->sent[b->sent_count] = m.type;
	b->sent_bytes[b->sent_count++] = n;
	b->count[m.type]++;
	b->last[m.type] = m;
	if (m.type == MESSAGE_CREDIT)
		b->credit_back += m.credit.bytes;
	for (uint32_t i = 0; m.type == MESSAGE_PUSH && i < m.push.set_count; i++)
		b->pushed[b->pushed_count++] = m.push.sets[i].number;
}

static inline size_t shell_queued(void *shell)
{
	return ((struct bench *)shell)->queued;
}

static inline void shell_disconnect(void *shell)
{
	((struct bench *)shell)->disconnects++;
}

static inline int64_t shell_wall(void *shell)
{
	return ((struct bench *)shell)->wall;
}

static inline int64_t shell_monotonic(void *shell)
{
	return ((struct bench *)shell)->now;
}

static inline void shell_wake_at(void *shell, int64_t at)
{
	((struct bench *)shell)->wake = at;
}

static inline void shell_log(void *shell, int level, const char *text)
{
	(void)shell;
	(void)level;
	assert_true(strlen(text) > 0);
}

static inline void shell_changed(void *shell)
{
	((struct bench *)shell)->changes++;
}

static const struct agent_effects effects = {
	.connect = shell_connect, .send = shell_send, .queued = shell_queued, .disconnect = shell_disconnect,
	.wall = shell_wall, .monotonic = shell_monotonic, .wake_at = shell_wake_at, .log = shell_log,
	.changed = shell_changed,
};

static inline int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof *b);
	assert_non_null(b);
	b->now = 1000 * (int64_t)SECOND;
	b->wall = 1700000000 * (int64_t)SECOND;
	b->store.set_bytes = 10;
	b->store.at.position = -1;
	b->packer = packer_new();
	arena_init(&b->arena, 64u << 20);
	buffer_init(&b->plain, 2u << 20);
	buffer_init(&b->wire, 2u << 20);
	buffer_init(&b->scratch, 2u << 20);
	b->core = agent_core_new(NULL, &effects, b, &fake_ops, &b->store, 42);
	assert_non_null(b->core);
	*state = b;
	return 0;
}

static inline int tear_down(void **state)
{
	struct bench *b = *state;
	agent_core_free(b->core);
	packer_free(b->packer);
	arena_deinit(&b->arena);
	buffer_deinit(&b->plain);
	buffer_deinit(&b->wire);
	buffer_deinit(&b->scratch);
	free(b);
	return 0;
}

/* Drivers. */

static inline void hub_says(struct bench *b, const struct message *m)
{
	buffer_clear(&b->plain);
	buffer_clear(&b->wire);
	assert_int_equal(message_encode(m, &b->plain), FERRY_OK);
	assert_int_equal(packer_pack(b->packer, b->plain.p, b->plain.n, &b->wire), FERRY_OK);
	agent_core_message(b->core, b->wire.p, b->wire.n);
}

static inline void pass(struct bench *b, int64_t us)
{
	b->now += us;
	b->wall += us;
	agent_core_tick(b->core);
}

/* Sleeps as the shell does: until the time the core asked for. */
static inline void pass_to_wake(struct bench *b)
{
	pass(b, b->wake > b->now ? b->wake - b->now : 0);
}

static inline void greet(struct bench *b)
{
	agent_core_start(b->core);
	agent_core_link_up(b->core);
	assert_int_equal(agent_core_state(b->core), AGENT_GREETING);
}

static inline void welcome(struct bench *b, enum welcome_mode mode, uint64_t credit)
{
	struct message m = {.type = MESSAGE_WELCOME,
			    .welcome = {.version = 1, .hub_version = "1", .schema_hash = 7, .mode = mode,
					.credit_bytes = credit, .message_bytes_max = FERRY_MESSAGE_BYTES_MAX,
					.compares = b->hub_compares, .compared = b->compared}};
	hub_says(b, &m);
}

static inline void go_live(struct bench *b)
{
	greet(b);
	welcome(b, WELCOME_DELTA, 1u << 20);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static inline void say_delta(struct bench *b)
{
	static const struct uuid key = {{3}};
	static const uint16_t num = 2;
	struct value cell = value_int(5);
	struct block block = {.table = 1, .op = ROW_UPDATE, .column_count = 1, .row_count = 1, .nums = &num,
			      .keys = &key, .cells = &cell};
	struct message m = {.type = MESSAGE_DELTA,
			    .delta = {.scope = "tenant", .from = 1, .to = 2, .blocks = &block, .block_count = 1}};
	hub_says(b, &m);
}

static inline void say_commit(struct bench *b, int64_t position, int64_t settled, bool fill_done)
{
	struct settled s = {.number = settled, .verdict = VERDICT_ACCEPTED, .position = position};
	struct message m = {.type = MESSAGE_COMMIT,
			    .commit = {.position = position, .mark = 9, .settled = &s, .settled_count = settled > 0,
				       .fill_done = fill_done}};
	hub_says(b, &m);
}

static inline void say_fill(struct bench *b, uint32_t table, uint8_t key_byte, uint32_t rows)
{
	struct uuid key = {{key_byte}};
	static const uint16_t num = 2;
	struct value cell = value_int(5);
	struct message m = {.type = MESSAGE_FILL,
			    .fill = {.scope = "tenant",
				     .block = {.table = table, .op = ROW_INSERT, .column_count = 1, .row_count = rows,
					       .nums = &num, .keys = &key, .cells = &cell},
				     .position = 3,
				     .table_done = rows == 0}};
	hub_says(b, &m);
}

static inline void say_ack(struct bench *b, int64_t number)
{
	struct settled s = {.number = number, .verdict = VERDICT_ACCEPTED, .position = 4};
	struct message m = {.type = MESSAGE_ACK, .ack = {.settled = &s, .settled_count = 1}};
	hub_says(b, &m);
}

static inline void say_error(struct bench *b, int code, int64_t retry_after_ms)
{
	struct message m = {.type = MESSAGE_ERROR,
			    .error = {.code = code, .sentence = "because", .retry = retry_after_ms > 0,
				      .retry_after_ms = retry_after_ms}};
	hub_says(b, &m);
}

static inline void say_credit(struct bench *b, uint64_t bytes)
{
	struct message m = {.type = MESSAGE_CREDIT, .credit = {.bytes = bytes}};
	hub_says(b, &m);
}

static inline void expect_backing_off(struct bench *b, int code)
{
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	assert_int_equal(agent_core_error(b->core), code);
	assert_true(strlen(agent_core_why(b->core)) > 0);
	int before = b->connects;
	pass(b, 61 * (int64_t)SECOND);
	assert_int_equal(b->connects, before + 1);
	assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
