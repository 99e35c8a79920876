/* The agent's protocol engine against a fake replica and a fake hub: every
 * transition, every timer, and what comes from a hub that misbehaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/backoff.h"
#include "agent/clock_probe.h"
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
};

struct bench {
	struct agent_core *core;
	struct fake_store store;
	int64_t now, wall, wake;
	int connects, disconnects, changes;
	size_t queued;
	bool refuse_at_once; /* connect fails from within the effect */
	bool hub_compares;
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

static void note(struct fake_store *s, char what)
{
	size_t n = strlen(s->order);
	if (n + 1 < sizeof s->order)
		s->order[n] = what;
}

static enum ferry_error fake_hello(void *store, struct message_hello *out, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)why;
	if (s->hello)
		return s->hello;
	*out = s->at;
	return FERRY_OK;
}

static enum ferry_error fake_welcome(void *store, const struct message_welcome *w, struct ferry_why *why)
{
	(void)w;
	return ferry_fail(why, ((struct fake_store *)store)->welcome, "welcome");
}

static enum ferry_error fake_schema(void *store, const struct schema *schema, struct ferry_why *why)
{
	(void)schema;
	return ferry_fail(why, ((struct fake_store *)store)->schema, "schema");
}

static enum ferry_error fake_cut(void *store, bool *out_more, struct ferry_why *why)
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

static enum ferry_error fake_next_push(void *store, struct push_cursor *cursor, size_t budget, struct arena *arena,
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

static enum ferry_error fake_ack(void *store, const struct message_ack *ack, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)ack;
	s->calls_ack++;
	note(s, 'a');
	return ferry_fail(why, s->ack, "ack");
}

static enum ferry_error fake_delta(void *store, const struct message_delta *delta, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)delta;
	s->calls_delta++;
	if (!s->delta)
		note(s, 'd');
	return ferry_fail(why, s->delta, "delta");
}

static enum ferry_error fake_commit(void *store, const struct message_commit *c, struct store_commit_report *report,
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

static enum ferry_error fake_fill(void *store, const struct message_fill *fill, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)fill;
	s->calls_fill++;
	if (!s->fill)
		note(s, 'f');
	return ferry_fail(why, s->fill, "fill");
}

static enum ferry_error fake_status(void *store, struct store_status *out, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)why;
	*out = (struct store_status){.outbox_sets = (uint64_t)(s->sets - s->settled)};
	return FERRY_OK;
}

static void fake_disconnected(void *store)
{
	((struct fake_store *)store)->calls_disconnected++;
}

static bool fake_heal_due(void *store)
{
	return ((struct fake_store *)store)->heal_due;
}

static enum ferry_error fake_compare(void *store, struct message_compare *out, bool *out_any, struct ferry_why *why)
{
	struct fake_store *s = store;
	static const struct key_range all;
	(void)why;
	*out_any = s->questions > 0;
	*out = (struct message_compare){.scope = "tenant", .table = 7, .ranges = &all, .range_count = 1};
	s->questions -= *out_any;
	return FERRY_OK;
}

static enum ferry_error fake_ranges(void *store, const struct message_ranges *m, bool *out_more, struct ferry_why *why)
{
	struct fake_store *s = store;
	(void)why;
	assert_int_equal(m->table, 7);
	*out_more = s->slices > 0;
	s->slices -= *out_more;
	s->calls_ranges++;
	return FERRY_OK;
}

static void fake_clock(void *store, int64_t offset)
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

static void shell_connect(void *shell)
{
	struct bench *b = shell;
	b->connects++;
	if (b->refuse_at_once)
		agent_core_link_down(b->core, "connection refused");
}

static void shell_send(void *shell, const uint8_t *bytes, size_t n)
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

static size_t shell_queued(void *shell)
{
	return ((struct bench *)shell)->queued;
}

static void shell_disconnect(void *shell)
{
	((struct bench *)shell)->disconnects++;
}

static int64_t shell_wall(void *shell)
{
	return ((struct bench *)shell)->wall;
}

static int64_t shell_monotonic(void *shell)
{
	return ((struct bench *)shell)->now;
}

static void shell_wake_at(void *shell, int64_t at)
{
	((struct bench *)shell)->wake = at;
}

static void shell_log(void *shell, int level, const char *text)
{
	(void)shell;
	(void)level;
	assert_true(strlen(text) > 0);
}

static void shell_changed(void *shell)
{
	((struct bench *)shell)->changes++;
}

static const struct agent_effects effects = {
	.connect = shell_connect, .send = shell_send, .queued = shell_queued, .disconnect = shell_disconnect,
	.wall = shell_wall, .monotonic = shell_monotonic, .wake_at = shell_wake_at, .log = shell_log,
	.changed = shell_changed,
};

static int set_up(void **state)
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

static int tear_down(void **state)
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

static void hub_says(struct bench *b, const struct message *m)
{
	buffer_clear(&b->plain);
	buffer_clear(&b->wire);
	assert_int_equal(message_encode(m, &b->plain), FERRY_OK);
	assert_int_equal(packer_pack(b->packer, b->plain.p, b->plain.n, &b->wire), FERRY_OK);
	agent_core_message(b->core, b->wire.p, b->wire.n);
}

static void pass(struct bench *b, int64_t us)
{
	b->now += us;
	b->wall += us;
	agent_core_tick(b->core);
}

/* Sleeps as the shell does: until the time the core asked for. */
static void pass_to_wake(struct bench *b)
{
	pass(b, b->wake > b->now ? b->wake - b->now : 0);
}

static void greet(struct bench *b)
{
	agent_core_start(b->core);
	agent_core_link_up(b->core);
	assert_int_equal(agent_core_state(b->core), AGENT_GREETING);
}

static void welcome(struct bench *b, enum welcome_mode mode, uint64_t credit)
{
	struct message m = {.type = MESSAGE_WELCOME,
			    .welcome = {.version = 1, .hub_version = "1", .schema_hash = 7, .mode = mode,
					.credit_bytes = credit, .message_bytes_max = FERRY_MESSAGE_BYTES_MAX,
					.compares = b->hub_compares}};
	hub_says(b, &m);
}

static void go_live(struct bench *b)
{
	greet(b);
	welcome(b, WELCOME_DELTA, 1u << 20);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void say_delta(struct bench *b)
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

static void say_commit(struct bench *b, int64_t position, int64_t settled, bool fill_done)
{
	struct settled s = {.number = settled, .verdict = VERDICT_ACCEPTED, .position = position};
	struct message m = {.type = MESSAGE_COMMIT,
			    .commit = {.position = position, .mark = 9, .settled = &s, .settled_count = settled > 0,
				       .fill_done = fill_done}};
	hub_says(b, &m);
}

static void say_fill(struct bench *b, uint32_t table, uint8_t key_byte, uint32_t rows)
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

static void say_ack(struct bench *b, int64_t number)
{
	struct settled s = {.number = number, .verdict = VERDICT_ACCEPTED, .position = 4};
	struct message m = {.type = MESSAGE_ACK, .ack = {.settled = &s, .settled_count = 1}};
	hub_says(b, &m);
}

static void say_error(struct bench *b, int code, int64_t retry_after_ms)
{
	struct message m = {.type = MESSAGE_ERROR,
			    .error = {.code = code, .sentence = "because", .retry = retry_after_ms > 0,
				      .retry_after_ms = retry_after_ms}};
	hub_says(b, &m);
}

static void say_credit(struct bench *b, uint64_t bytes)
{
	struct message m = {.type = MESSAGE_CREDIT, .credit = {.bytes = bytes}};
	hub_says(b, &m);
}

static void expect_backing_off(struct bench *b, int code)
{
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	assert_int_equal(agent_core_error(b->core), code);
	assert_true(strlen(agent_core_why(b->core)) > 0);
	int before = b->connects;
	pass(b, 61 * (int64_t)SECOND);
	assert_int_equal(b->connects, before + 1);
	assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
}

/* States. */

static void R21_a_mismatch_is_told_to_the_hub_and_the_link_begins_anew(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sums_wrong = b->store.heal_due = true;
	say_commit(b, 5, 0, false);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_MISMATCH);
	expect_backing_off(b, FERRY_MISMATCH);
}

static void say_ranges(struct bench *b)
{
	struct message m = {.type = MESSAGE_RANGES, .ranges = {.scope = "tenant", .table = 7, .position = 5}};
	hub_says(b, &m);
}

static void R21_a_hub_that_compares_is_asked_and_the_link_stays(void **state)
{
	struct bench *b = *state;
	b->hub_compares = true;
	go_live(b);
	b->store.sums_wrong = b->store.heal_due = true;
	b->store.questions = 2;
	say_commit(b, 5, 0, false);
	assert_int_equal(b->count[MESSAGE_ERROR], 0);
	assert_int_equal(b->count[MESSAGE_COMPARE], 1); /* the next one only after the answer */
	say_ranges(b);
	assert_int_equal(b->count[MESSAGE_COMPARE], 2);
	say_ranges(b);
	assert_int_equal(b->count[MESSAGE_COMPARE], 2);
	assert_int_equal(b->store.calls_ranges, 2);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void R21_no_state_is_applied_while_an_answer_is_worked_on(void **state)
{
	struct bench *b = *state;
	b->hub_compares = true;
	go_live(b);
	b->store.sums_wrong = true;
	b->store.questions = 1;
	b->store.slices = 3;
	say_commit(b, 5, 0, false);
	int commits = b->store.calls_commit;
	say_ranges(b);
	say_commit(b, 6, 0, false);
	assert_int_equal(b->store.calls_commit, commits);
	pass(b, SECOND);
	assert_int_equal(b->store.calls_ranges, 4);
	assert_int_equal(b->store.calls_commit, commits + 1);
}

static void answer_that_was_not_asked_for_closes_the_link(void **state)
{
	struct bench *b = *state;
	b->hub_compares = true;
	go_live(b);
	say_ranges(b);
	assert_int_equal(b->store.calls_ranges, 0);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void R21_a_mismatch_that_was_tried_lately_does_not_end_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sums_wrong = true;
	say_commit(b, 5, 0, false);
	assert_int_equal(b->count[MESSAGE_ERROR], 0);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void credit_comes_back_with_each_ping_and_at_the_end(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_commit(b, 5, 0, false);
	assert_int_equal(b->credit_back, 0);
	pass(b, 21 * (int64_t)SECOND);
	assert_true(b->credit_back > 0);
	uint64_t before = b->credit_back;
	say_commit(b, 6, 0, false);
	agent_core_stop(b->core);
	assert_true(b->credit_back > before);
}

static void start_connects_and_greets_with_what_the_store_says(void **state)
{
	struct bench *b = *state;
	b->store.at = (struct message_hello){.position = 17, .mark = 99, .last_number = 4, .schema_hash = 7,
					     .fill_position = 5, .fill_table = 2, .fill_after = {{8}}};
	greet(b);
	assert_int_equal(b->connects, 1);
	const struct message_hello *h = &b->last[MESSAGE_HELLO].hello;
	assert_int_equal(b->count[MESSAGE_HELLO], 1);
	assert_int_equal(h->position, 17);
	assert_int_equal(h->mark, 99);
	assert_int_equal(h->last_number, 4);
	assert_int_equal(h->fill_table, 2);
	assert_int_equal(h->fill_after.b[0], 8);
	assert_int_equal(h->version_min, FERRY_PROTOCOL_LOWEST);
	assert_int_equal(h->version_max, FERRY_PROTOCOL_HIGHEST);
	assert_true(h->clock == b->wall);
	assert_int_equal(h->credit_bytes, agent_limits_default.credit_bytes);
}

static void welcome_delta_makes_live_and_probes_the_clock(void **state)
{
	struct bench *b = *state;
	go_live(b);
	assert_int_equal(b->count[MESSAGE_PING], 1);
	assert_int_equal(agent_core_error(b->core), 0);
	assert_false(agent_core_idle(b->core)); /* what the hub has besides may be on its way */
	say_commit(b, 1, 0, false);
	assert_true(agent_core_idle(b->core));
}

static void refused_connection_backs_off_and_never_gives_up(void **state)
{
	struct bench *b = *state;
	b->refuse_at_once = true;
	agent_core_start(b->core);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
		assert_true(b->wake >= b->now && b->wake <= b->now + 60 * (int64_t)SECOND);
		pass_to_wake(b);
		assert_int_equal(b->connects, i + 2);
	}
}

static void connection_without_answer_times_out(void **state)
{
	struct bench *b = *state;
	agent_core_start(b->core);
	pass(b, 14 * SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
	pass(b, 2 * SECOND);
	assert_int_equal(b->disconnects, 1);
	expect_backing_off(b, FERRY_LINK_TIMEOUT);
}

static void hub_that_does_not_greet_times_out(void **state)
{
	struct bench *b = *state;
	greet(b);
	pass(b, 16 * SECOND);
	assert_int_equal(b->disconnects, 1);
	assert_int_equal(b->store.calls_disconnected, 1);
	expect_backing_off(b, FERRY_LINK_TIMEOUT);
}

static void lost_link_drops_frames_and_reconnects(void **state)
{
	struct bench *b = *state;
	go_live(b);
	agent_core_link_down(b->core, "reset by peer");
	assert_int_equal(b->store.calls_disconnected, 1);
	assert_string_equal(agent_core_why(b->core), "reset by peer");
	expect_backing_off(b, FERRY_LINK_CLOSED);
}

static void late_link_up_after_giving_up_is_ignored(void **state)
{
	struct bench *b = *state;
	agent_core_start(b->core);
	agent_core_stop(b->core);
	agent_core_link_up(b->core);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	pass(b, 120 * (int64_t)SECOND);
	assert_int_equal(b->connects, 1);
}

static void stop_ends_the_link_and_start_begins_anew(void **state)
{
	struct bench *b = *state;
	go_live(b);
	agent_core_stop(b->core);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	assert_int_equal(b->disconnects, 1);
	agent_core_start(b->core);
	assert_int_equal(b->connects, 2);
}

static void revoked_stops_with_a_sentence_until_started_again(void **state)
{
	static const int codes[] = {FERRY_REVOKED, FERRY_CLONE, FERRY_VERSION, FERRY_UNKNOWN_DEVICE};
	struct bench *b = *state;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		greet(b);
		say_error(b, codes[i], 0);
		assert_int_equal(agent_core_state(b->core), AGENT_STOPPED);
		assert_int_equal(agent_core_error(b->core), codes[i]);
		assert_string_equal(agent_core_why(b->core), "the hub says: because");
		int before = b->connects;
		pass(b, 3600 * (int64_t)SECOND);
		assert_int_equal(b->connects, before);
	}
}

static void trouble_of_the_hubs_own_machine_does_not_stop_the_device(void **state)
{
	static const int codes[] = {FERRY_IO, FERRY_CONFIG, FERRY_CORRUPT, FERRY_DATABASE, FERRY_INTERNAL, 9999, 0};
	struct bench *b = *state;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		greet(b);
		say_error(b, codes[i], 0);
		assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
		pass(b, 61 * (int64_t)SECOND);
		assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
	}
}

static void retry_after_is_respected(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_error(b, FERRY_OVERLOADED, 90000);
	pass(b, 89 * (int64_t)SECOND);
	assert_int_equal(b->connects, 1);
	pass(b, 2 * SECOND);
	assert_int_equal(b->connects, 2);
}

static void other_version_in_welcome_stops(void **state)
{
	struct bench *b = *state;
	greet(b);
	struct message m = {.type = MESSAGE_WELCOME, .welcome = {.version = FERRY_PROTOCOL_HIGHEST + 1, .hub_version = "9", .mode = WELCOME_DELTA, .message_bytes_max = 4096}};
	hub_says(b, &m);
	assert_int_equal(agent_core_state(b->core), AGENT_STOPPED);
	assert_int_equal(agent_core_error(b->core), FERRY_VERSION);
}

static void minute_of_live_resets_the_backoff(void **state)
{
	struct bench *b = *state;
	b->refuse_at_once = true;
	agent_core_start(b->core);
	for (int i = 0; i < 20; i++)
		pass_to_wake(b);
	b->refuse_at_once = false;
	pass_to_wake(b);
	agent_core_link_up(b->core);
	welcome(b, WELCOME_DELTA, 1000);
	for (int i = 0; i < 7; i++) {
		pass(b, 10 * SECOND);
		say_credit(b, 1);
	}
	agent_core_link_down(b->core, "gone");
	assert_true(b->wake - b->now <= agent_limits_default.backoff_min_us);
}

/* What a hub may not do. */

static void garbage_closes_the_link_and_tells_the_hub(void **state)
{
	static const uint8_t garbage[][6] = {{0xff, 1, 2, 3, 4, 5}, {0x00, 0xff, 0xff, 0xff, 0xff, 0xff},
					     {0x01, 9, 9, 9, 9, 9}, {0x00, 0xa1, 0x00, 0x18, 0x63, 0x00}};
	struct bench *b = *state;
	for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
		greet(b);
		agent_core_message(b->core, garbage[i], sizeof garbage[i]);
		assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
		assert_int_equal(b->count[MESSAGE_ERROR], (int)i + 1);
		pass(b, 61 * (int64_t)SECOND);
		assert_int_equal(agent_core_state(b->core), AGENT_CONNECTING);
		agent_core_stop(b->core);
	}
	greet(b);
	agent_core_message(b->core, garbage[0], 0);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
}

static void oversized_message_closes_the_link(void **state)
{
	struct bench *b = *state;
	greet(b);
	size_t n = FERRY_MESSAGE_BYTES_MAX + 4096;
	uint8_t *big = calloc(1, n);
	assert_non_null(big);
	agent_core_message(b->core, big, n);
	free(big);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_MESSAGE_TOO_LARGE);
	expect_backing_off(b, FERRY_MESSAGE_TOO_LARGE);
}

static void repeated_welcome_closes_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	welcome(b, WELCOME_DELTA, 1000);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_UNEXPECTED_MESSAGE);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void rows_before_welcome_close_the_link(void **state)
{
	struct bench *b = *state;
	greet(b);
	say_delta(b);
	assert_int_equal(b->store.calls_delta, 0);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void messages_of_an_agent_close_the_link(void **state)
{
	struct bench *b = *state;
	struct message ours[] = {
		{.type = MESSAGE_HELLO, .hello = {.agent_version = "x", .position = -1, .version_min = 1, .version_max = 1}},
		{.type = MESSAGE_FILL_ACK, .fill_ack = {.table = 1}},
	};
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
		go_live(b);
		hub_says(b, &ours[i]);
		expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
		agent_core_stop(b->core);
	}
}

static void fill_outside_of_filling_closes_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_fill(b, 1, 1, 1);
	assert_int_equal(b->store.calls_fill, 0);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void fill_done_while_live_closes_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_commit(b, 5, 0, true);
	expect_backing_off(b, FERRY_UNEXPECTED_MESSAGE);
}

static void messages_after_the_link_is_gone_are_ignored(void **state)
{
	struct bench *b = *state;
	go_live(b);
	agent_core_link_down(b->core, "gone");
	say_delta(b);
	say_commit(b, 5, 0, false);
	assert_int_equal(b->store.calls_delta + b->store.calls_commit, 0);
}

/* Pushing. */

static void poke_while_live_cuts_and_pushes(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sets = 3;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 3);
	assert_int_equal(b->pushed[2], 3);
	assert_false(agent_core_idle(b->core));
	say_ack(b, 3);
	assert_false(agent_core_idle(b->core));
	say_commit(b, 5, 3, false);
	assert_true(agent_core_idle(b->core));
}

static void poke_while_offline_is_cut_at_once_and_pushed_once_live(void **state)
{
	struct bench *b = *state;
	b->store.sets = 1;
	agent_core_poke(b->core);
	assert_int_equal(b->store.calls_cut, 1);
	agent_core_poke(b->core);
	assert_int_equal(b->store.calls_cut, 2);
	go_live(b);
	assert_int_equal(b->pushed_count, 1);
}

static void long_backlog_is_worked_off_in_bounded_steps(void **state)
{
	struct bench *b = *state;
	b->store.sets = 100;
	b->store.cuts_left = 40;
	go_live(b);
	assert_true(b->pushed_count < 100);
	assert_true(b->store.cuts_left > 0);
	for (int i = 0; i < 20; i++)
		pass_to_wake(b);
	assert_int_equal(b->pushed_count, 100);
	assert_int_equal(b->store.cuts_left, 0);
}

static void exhausted_credit_holds_the_push_until_more_comes(void **state)
{
	struct bench *b = *state;
	b->store.sets = 5;
	b->store.set_bytes = 1000;
	greet(b);
	welcome(b, WELCOME_DELTA, 2500);
	assert_int_equal(b->pushed_count, 2);
	pass(b, SECOND);
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 2);
	say_credit(b, 100);
	assert_int_equal(b->pushed_count, 2);
	say_credit(b, 10000);
	assert_int_equal(b->pushed_count, 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(b->pushed[i], i + 1);
	size_t spent = 0;
	for (int i = 0; i < b->sent_count; i++)
		spent += b->sent[i] == MESSAGE_PUSH ? b->sent_bytes[i] : 0;
	assert_true(spent <= 2500 + 100 + 10000);
}

static void control_messages_pass_while_a_push_waits_for_credit(void **state)
{
	struct bench *b = *state;
	b->store.sets = 1;
	greet(b);
	welcome(b, WELCOME_DELTA, 0);
	struct message ping = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 6}};
	hub_says(b, &ping);
	assert_int_equal(b->count[MESSAGE_PONG], 1);
	assert_int_equal(b->pushed_count, 0);
	say_credit(b, 5000);
	assert_int_equal(b->pushed_count, 1);
}

static void endless_credit_does_not_overflow(void **state)
{
	struct bench *b = *state;
	go_live(b);
	say_credit(b, FERRY_CREDIT_BYTES_MAX);
	say_credit(b, FERRY_CREDIT_BYTES_MAX);
	b->store.sets = 1;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 1);
}

static void full_link_queue_holds_pushes_until_drained(void **state)
{
	struct bench *b = *state;
	b->queued = agent_limits_default.push_bytes;
	b->store.sets = 2;
	go_live(b);
	assert_int_equal(b->pushed_count, 0);
	b->queued = 0;
	agent_core_drained(b->core);
	assert_int_equal(b->pushed_count, 2);
}

static void restart_mid_push_offers_all_that_is_unsettled_again(void **state)
{
	struct bench *b = *state;
	b->store.sets = 4;
	go_live(b);
	say_ack(b, 2);
	say_commit(b, 5, 1, false);
	agent_core_link_down(b->core, "cut");
	b->pushed_count = 0;
	pass(b, 61 * (int64_t)SECOND);
	agent_core_link_up(b->core);
	welcome(b, WELCOME_DELTA, 100000);
	assert_int_equal(b->pushed_count, 3);
	assert_int_equal(b->pushed[0], 2);
}

static void push_too_large_to_send_does_not_hold_up_the_next_P6(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.sets = 1;
	b->store.set_bytes = FERRY_MESSAGE_BYTES_MAX + 1;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 0);
	assert_int_equal(agent_core_error(b->core), FERRY_MESSAGE_TOO_LARGE);
	b->store.sets = 2;
	b->store.set_bytes = 10;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 1);
	assert_int_equal(b->pushed[0], 2);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

/* A busy or full replica. */

static void busy_commit_is_kept_and_done_later_in_order(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.commit = FERRY_BUSY;
	say_delta(b);
	say_commit(b, 5, 0, false);
	say_delta(b);
	say_commit(b, 6, 0, false);
	assert_string_equal(b->store.order, "d");
	assert_int_equal(b->store.calls_commit, 1);
	pass_to_wake(b);
	assert_int_equal(b->store.calls_commit, 2);
	b->store.commit = FERRY_OK;
	pass_to_wake(b);
	assert_string_equal(b->store.order, "dcdc");
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void busy_replica_still_answers_pings(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.delta = FERRY_BUSY;
	say_delta(b);
	struct message ping = {.type = MESSAGE_PING, .ping = {.id = 5, .sent = 6}};
	hub_says(b, &ping);
	assert_int_equal(b->last[MESSAGE_PONG].ping.id, 5);
	assert_int_equal(b->last[MESSAGE_PONG].ping.sent, 6);
	assert_true(b->last[MESSAGE_PONG].ping.answered == b->wall);
}

static void busy_at_hello_is_tried_again(void **state)
{
	struct bench *b = *state;
	b->store.hello = FERRY_BUSY;
	greet(b);
	assert_int_equal(b->count[MESSAGE_HELLO], 0);
	b->store.hello = FERRY_OK;
	pass_to_wake(b);
	assert_int_equal(b->count[MESSAGE_HELLO], 1);
}

static void busy_at_welcome_outlasts_the_greeting_timeout(void **state)
{
	struct bench *b = *state;
	greet(b);
	b->store.welcome = FERRY_BUSY;
	welcome(b, WELCOME_DELTA, 1000);
	for (int i = 0; i < 60; i++)
		pass(b, SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_GREETING);
	b->store.welcome = FERRY_OK;
	pass(b, SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void busy_at_cut_and_push_keeps_the_link_and_goes_on(void **state)
{
	struct bench *b = *state;
	b->store.sets = 1;
	b->store.cut = FERRY_BUSY;
	go_live(b);
	assert_int_equal(b->pushed_count, 0);
	b->store.cut = FERRY_OK;
	b->store.next_push = FERRY_BUSY;
	pass_to_wake(b);
	assert_int_equal(b->pushed_count, 0);
	b->store.next_push = FERRY_OK;
	pass_to_wake(b);
	assert_int_equal(b->pushed_count, 1);
}

static void no_space_is_said_and_tried_again(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.commit = FERRY_NO_SPACE;
	say_commit(b, 5, 0, false);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
	assert_int_equal(agent_core_error(b->core), FERRY_NO_SPACE);
	pass(b, 6 * SECOND);
	assert_int_equal(agent_core_error(b->core), FERRY_NO_SPACE);
	b->store.commit = FERRY_OK;
	pass(b, 6 * SECOND);
	assert_string_equal(b->store.order, "c");
	assert_int_equal(agent_core_error(b->core), 0);
}

static void damaged_replica_stops(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.delta = FERRY_CORRUPT;
	say_delta(b);
	assert_int_equal(agent_core_state(b->core), AGENT_STOPPED);
	assert_int_equal(agent_core_error(b->core), FERRY_CORRUPT);
}

static void bug_in_the_replica_backs_off(void **state)
{
	struct bench *b = *state;
	go_live(b);
	b->store.delta = FERRY_INTERNAL;
	say_delta(b);
	expect_backing_off(b, FERRY_INTERNAL);
}

static void hub_that_ignores_credit_is_cut_off_while_the_replica_is_busy_P9(void **state)
{
	struct bench *b = *state;
	struct agent_limits tight = agent_limits_default;
	tight.credit_bytes = 4000;
	tight.message_bytes_max = 4000;
	agent_core_free(b->core);
	b->core = agent_core_new(&tight, &effects, b, &fake_ops, &b->store, 1);
	go_live(b);
	b->store.delta = FERRY_BUSY;
	for (int i = 0; i < 2000 && agent_core_state(b->core) == AGENT_LIVE; i++)
		say_delta(b);
	assert_int_equal(b->last[MESSAGE_ERROR].error.code, FERRY_CREDIT);
	expect_backing_off(b, FERRY_CREDIT);
}

/* Credit, filling, heartbeat, clock. */

static void credit_is_given_back_only_for_what_was_dealt_with(void **state)
{
	struct bench *b = *state;
	struct agent_limits tight = agent_limits_default;
	tight.credit_bytes = 400;
	agent_core_free(b->core);
	b->core = agent_core_new(&tight, &effects, b, &fake_ops, &b->store, 1);
	go_live(b);
	b->store.delta = FERRY_BUSY;
	size_t sent = 0;
	for (int i = 0; i < 10; i++) {
		say_delta(b);
		sent += b->wire.n;
	}
	assert_int_equal(b->count[MESSAGE_CREDIT], 0);
	b->store.delta = FERRY_OK;
	pass_to_wake(b);
	assert_true(b->credit_back <= sent);
	assert_true(sent - b->credit_back < tight.credit_bytes / 4);
}

static void fill_is_acknowledged_with_its_place_and_ends_live(void **state)
{
	struct bench *b = *state;
	greet(b);
	welcome(b, WELCOME_FILL, 100000);
	assert_int_equal(agent_core_state(b->core), AGENT_FILLING);
	b->store.sets = 1;
	agent_core_poke(b->core);
	assert_int_equal(b->pushed_count, 0);
	say_fill(b, 1, 0x11, 1);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.table, 1);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.after.b[0], 0x11);
	say_fill(b, 2, 0x07, 1);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.table, 2);
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.after.b[0], 0x07);
	say_fill(b, 3, 0, 0); /* a table that has no rows here */
	assert_int_equal(b->last[MESSAGE_FILL_ACK].fill_ack.table, 3);
	say_delta(b);
	say_commit(b, 9, 0, true);
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
	assert_int_equal(b->pushed_count, 1);
}

static void fill_is_not_acknowledged_before_it_is_staged(void **state)
{
	struct bench *b = *state;
	greet(b);
	welcome(b, WELCOME_RESUME, 100000);
	b->store.fill = FERRY_BUSY;
	say_fill(b, 1, 1, 1);
	assert_int_equal(b->count[MESSAGE_FILL_ACK], 0);
	b->store.fill = FERRY_OK;
	pass_to_wake(b);
	assert_int_equal(b->count[MESSAGE_FILL_ACK], 1);
}

static void silent_hub_is_dead_after_two_missed_pings(void **state)
{
	struct bench *b = *state;
	go_live(b);
	for (int i = 0; i < 2; i++) {
		pass(b, 20 * SECOND);
		assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
		assert_int_equal(b->count[MESSAGE_PING], i + 2);
	}
	pass(b, 20 * SECOND);
	assert_int_equal(agent_core_state(b->core), AGENT_OFFLINE);
	assert_int_equal(agent_core_error(b->core), FERRY_LINK_TIMEOUT);
	assert_int_equal(b->disconnects, 1);
}

static void answered_pings_keep_the_link(void **state)
{
	struct bench *b = *state;
	go_live(b);
	for (int i = 0; i < 20; i++) {
		pass(b, 20 * SECOND);
		struct message pong = {.type = MESSAGE_PONG, .ping = b->last[MESSAGE_PING].ping};
		hub_says(b, &pong);
	}
	assert_int_equal(agent_core_state(b->core), AGENT_LIVE);
}

static void clock_offset_is_measured_and_survives_a_clock_jump_P10(void **state)
{
	struct bench *b = *state;
	go_live(b);
	int64_t ahead = 3600 * (int64_t)SECOND;
	struct message pong = {.type = MESSAGE_PONG, .ping = b->last[MESSAGE_PING].ping};
	b->now += 40000;
	b->wall += 40000;
	pong.ping.received = b->wall - 20000 + ahead;
	pong.ping.answered = pong.ping.received;
	hub_says(b, &pong);
	assert_true(agent_core_clock_offset(b->core) == ahead);
	b->wall += 5 * ahead;
	assert_true(agent_core_clock_offset(b->core) == -4 * ahead);
}

/* Days without a link may go by until the next ping tells the store. */
static void P10_an_edit_is_stamped_by_what_was_measured_before_the_clock_jumped(void **state)
{
	struct bench *b = *state;
	go_live(b);
	struct message pong = {.type = MESSAGE_PONG, .ping = b->last[MESSAGE_PING].ping};
	b->now += 2000;
	b->wall += 2000;
	pong.ping.received = pong.ping.answered = b->wall - 1000;
	hub_says(b, &pong);
	agent_core_link_down(b->core, "the network is gone");
	b->wall -= 3 * 365 * 86400 * (int64_t)SECOND;
	agent_core_poke(b->core);
	assert_true(b->store.clock_at_cut == 3 * 365 * 86400 * (int64_t)SECOND);
}

static void clock_probe_keeps_the_best_round_trip_and_ignores_nonsense(void **state)
{
	(void)state;
	struct clock_probe p = {0};
	int64_t id = clock_probe_ping(&p, 1000);
	assert_true(clock_probe_pong(&p, id, 5000, 5000, 1100)); /* round trip 100: offset 3950 */
	assert_int_equal(clock_probe_offset(&p, 1100, 1100), 3950);
	id = clock_probe_ping(&p, 2000);
	assert_false(clock_probe_pong(&p, id + 1, 1, 2, 2100));
	assert_false(clock_probe_pong(&p, id, 10, 2, 2100));
	assert_false(clock_probe_pong(&p, id, INT64_MIN, INT64_MAX, 2100));
	assert_true(clock_probe_pong(&p, id, 9000, 9000, 4000));
	assert_int_equal(clock_probe_offset(&p, 4000, 4000), 3950);
	assert_int_equal(clock_probe_round_trip(&p), 100);
	p = (struct clock_probe){0};
	id = clock_probe_ping(&p, 1000);
	assert_true(clock_probe_pong(&p, id, 1990, 1990, 2000)); /* all of the round trip was the way there */
	assert_int_equal(clock_probe_offset(&p, 2000, 2000), 0);
	assert_false(clock_probe_pong(&p, id, 9000, 9000, 4000));
}

static void backoff_stays_within_its_cap_and_doubles_to_the_maximum(void **state)
{
	(void)state;
	struct backoff b;
	backoff_init(&b, 500, 60000, 7);
	int64_t cap = 500, largest = 0;
	for (int i = 0; i < 1000; i++) {
		int64_t d = backoff_next_us(&b);
		assert_true(d >= 0 && d <= cap);
		largest = d > largest ? d : largest;
		cap = cap * 2 > 60000 ? 60000 : cap * 2;
	}
	assert_true(largest > 55000);
	backoff_reset(&b);
	assert_true(backoff_next_us(&b) <= 500);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(start_connects_and_greets_with_what_the_store_says),
		T(welcome_delta_makes_live_and_probes_the_clock),
		T(refused_connection_backs_off_and_never_gives_up),
		T(connection_without_answer_times_out),
		T(hub_that_does_not_greet_times_out),
		T(lost_link_drops_frames_and_reconnects),
		T(late_link_up_after_giving_up_is_ignored),
		T(stop_ends_the_link_and_start_begins_anew),
		T(revoked_stops_with_a_sentence_until_started_again),
		T(trouble_of_the_hubs_own_machine_does_not_stop_the_device),
		T(retry_after_is_respected),
		T(other_version_in_welcome_stops),
		T(minute_of_live_resets_the_backoff),
		T(garbage_closes_the_link_and_tells_the_hub),
		T(oversized_message_closes_the_link),
		T(repeated_welcome_closes_the_link),
		T(rows_before_welcome_close_the_link),
		T(messages_of_an_agent_close_the_link),
		T(fill_outside_of_filling_closes_the_link),
		T(fill_done_while_live_closes_the_link),
		T(messages_after_the_link_is_gone_are_ignored),
		T(poke_while_live_cuts_and_pushes),
		T(poke_while_offline_is_cut_at_once_and_pushed_once_live),
		T(long_backlog_is_worked_off_in_bounded_steps),
		T(R21_a_mismatch_is_told_to_the_hub_and_the_link_begins_anew),
		T(R21_a_mismatch_that_was_tried_lately_does_not_end_the_link),
		T(R21_a_hub_that_compares_is_asked_and_the_link_stays),
		T(R21_no_state_is_applied_while_an_answer_is_worked_on),
		T(answer_that_was_not_asked_for_closes_the_link),
		T(credit_comes_back_with_each_ping_and_at_the_end),
		T(exhausted_credit_holds_the_push_until_more_comes),
		T(control_messages_pass_while_a_push_waits_for_credit),
		T(endless_credit_does_not_overflow),
		T(full_link_queue_holds_pushes_until_drained),
		T(restart_mid_push_offers_all_that_is_unsettled_again),
		T(push_too_large_to_send_does_not_hold_up_the_next_P6),
		T(busy_commit_is_kept_and_done_later_in_order),
		T(busy_replica_still_answers_pings),
		T(busy_at_hello_is_tried_again),
		T(busy_at_welcome_outlasts_the_greeting_timeout),
		T(busy_at_cut_and_push_keeps_the_link_and_goes_on),
		T(no_space_is_said_and_tried_again),
		T(damaged_replica_stops),
		T(bug_in_the_replica_backs_off),
		T(hub_that_ignores_credit_is_cut_off_while_the_replica_is_busy_P9),
		T(credit_is_given_back_only_for_what_was_dealt_with),
		T(fill_is_acknowledged_with_its_place_and_ends_live),
		T(fill_is_not_acknowledged_before_it_is_staged),
		T(silent_hub_is_dead_after_two_missed_pings),
		T(answered_pings_keep_the_link),
		T(clock_offset_is_measured_and_survives_a_clock_jump_P10),
		T(P10_an_edit_is_stamped_by_what_was_measured_before_the_clock_jumped),
		cmocka_unit_test(clock_probe_keeps_the_best_round_trip_and_ignores_nonsense),
		cmocka_unit_test(backoff_stays_within_its_cap_and_doubles_to_the_maximum),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
