#include "hub/bundle_exchange.h"

#include <stdlib.h>
#include <string.h>

#include "hub/core.h"
#include "hub/pg_loop.h"
#include "hub/places.h"
#include "protocol/bundle.h"
#include "protocol/envelope.h"

#define ARENA_BYTES_MAX ((size_t)FERRY_DECODE_BYTES_MAX * 2)
#define ENVELOPE_BYTES_MAX (FERRY_MESSAGE_BYTES_MAX + 1024u)

struct number { /* a change-set of the bundle */
	int64_t number;
	bool settled; /* its verdict has come */
};

struct exchange {
	const struct bundle_exchange *what;
	struct bundle_outcome *out;
	struct ferry_why *why;
	struct loop *loop;
	struct pg_io io;
	struct loop_timer *core_timer;
	struct pg_store *store;
	struct registry *registry;
	struct places *places;
	struct hub_core *core;
	struct hub_session *session;
	struct packer *packer;
	struct arena arena;
	struct buffer unpacked, plain, envelope;

	struct number *numbers; /* ascending, without repetition */
	uint32_t number_count, number_capacity;
	size_t at;              /* the next record to say */
	uint64_t credit;
	uint64_t settled_count;
	int64_t settled_position, said_at; /* monotonic: when something happened last */
	struct message_fill_ack fill_ack;
	bool loaded, welcomed, filling, fill_ack_due, committed, ended, stepping;
	enum ferry_error error;
};

/* ---- records ---- */

static enum ferry_error decode(struct exchange *x, const uint8_t *bytes, size_t n, struct message *out)
{
	const uint8_t *plain = NULL;
	size_t plain_n = 0;
	enum ferry_error e = packer_unpack(x->packer, bytes, n, &x->unpacked, &plain, &plain_n, x->why);

	arena_reset(&x->arena);
	return e == FERRY_OK ? message_decode(&x->arena, plain, plain_n, out, x->why) : e;
}

static bool next_record(struct exchange *x, const uint8_t **out, size_t *out_n, bool *out_damaged)
{
	return bundle_next(x->what->records, x->what->record_bytes, &x->at, out, out_n, out_damaged);
}

static enum ferry_error add_numbers(struct exchange *x, const struct message_push *push)
{
	for (uint32_t i = 0; i < push->set_count; i++) {
		if (push->sets[i].more)
			continue;
		if (x->number_count > 0 && push->sets[i].number <= x->numbers[x->number_count - 1].number)
			return ferry_fail(x->why, FERRY_CORRUPT, "the bundle's change-sets are not in order");
		if (!vector_grow((void **)&x->numbers, x->number_count, &x->number_capacity, sizeof(*x->numbers)))
			return FERRY_NO_MEMORY;
		x->numbers[x->number_count++] = (struct number){.number = push->sets[i].number};
	}
	return FERRY_OK;
}

/* All of it is read before anything is done. */
static enum ferry_error read_records(struct exchange *x)
{
	const uint8_t *bytes;
	bool damaged = false, first = true;
	size_t n;
	enum ferry_error e = FERRY_OK;

	while (e == FERRY_OK && next_record(x, &bytes, &n, &damaged)) {
		struct message m;

		e = decode(x, bytes, n, &m);
		if (e != FERRY_OK || m.type != (first ? MESSAGE_HELLO : MESSAGE_PUSH))
			return ferry_fail(x->why, FERRY_CORRUPT, "the bundle does not hold what a device says");
		if (!first)
			e = add_numbers(x, &m.push);
		first = false;
	}
	x->at = 0;
	x->out->change_sets = x->number_count;
	return e == FERRY_OK && (damaged || first) ? ferry_fail(x->why, FERRY_CORRUPT, "the bundle's records are damaged") : e;
}

/* ---- what the hub says ---- */

static void fail(struct exchange *x, enum ferry_error e, const char *sentence)
{
	if (x->error == FERRY_OK) {
		x->error = e;
		ferry_why_set(x->why, "%s", sentence);
	}
	x->ended = true;
}

static struct number *find(struct exchange *x, int64_t number)
{
	uint32_t low = 0, high = x->number_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (x->numbers[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < x->number_count && x->numbers[low].number == number ? &x->numbers[low] : NULL;
}

static bool was_settled(const struct message_welcome *w, int64_t number)
{
	if (number <= w->settled)
		return true;
	for (uint32_t i = 0; i < w->settled_above_count; i++) {
		if (w->settled_above[i] == number)
			return true;
	}
	return false;
}

static void take_welcome(struct exchange *x, const struct message_welcome *w)
{
	x->welcomed = true;
	x->filling = w->mode != WELCOME_DELTA;
	x->out->filled = x->filling;
	x->out->device = w->device;
	x->credit = w->credit_bytes;
	for (uint32_t i = 0; i < x->number_count; i++)
		x->out->repeated += was_settled(w, x->numbers[i].number);
	if (!x->what->take)
		return;
	if (w->held != FERRY_OK)
		fail(x, (enum ferry_error)w->held, ferry_error_text(w->held));
	else if (x->number_count > 0 && x->out->repeated == x->number_count)
		fail(x, FERRY_EXISTS, "every change-set in this bundle was settled before: it, or the link, brought them");
}

static void take_ack(struct exchange *x, const struct message_ack *ack)
{
	uint64_t *const counts[] = {NULL, &x->out->accepted, &x->out->superseded, &x->out->rejected, &x->out->parked};

	for (uint32_t i = 0; i < ack->settled_count; i++) {
		const struct settled *s = &ack->settled[i];
		struct number *n = find(x, s->number);

		if (n == NULL || n->settled)
			continue;
		n->settled = true;
		x->settled_count++;
		(*counts[s->verdict])++;
		if (s->position > x->settled_position)
			x->settled_position = s->position;
	}
	if (x->what->progress != NULL)
		x->what->progress(x->what->ctx, x->settled_count, x->number_count);
}

static void take_commit(struct exchange *x, const struct message_commit *c)
{
	x->filling = x->filling && !c->fill_done;
	x->committed = true;
	x->out->position = c->position;
}

static void take_message(struct exchange *x, const struct message *m)
{
	switch (m->type) {
	case MESSAGE_WELCOME:
		take_welcome(x, &m->welcome);
		break;
	case MESSAGE_ACK:
		take_ack(x, &m->ack);
		break;
	case MESSAGE_CREDIT:
		x->credit += m->credit.bytes;
		break;
	case MESSAGE_COMMIT:
		take_commit(x, &m->commit);
		break;
	case MESSAGE_FILL:
		x->fill_ack = (struct message_fill_ack){.table = m->fill.block.table};
		if (m->fill.block.row_count > 0)
			x->fill_ack.after = m->fill.block.keys[m->fill.block.row_count - 1];
		x->fill_ack_due = true;
		break;
	default:
		break;
	}
}

/* What a device needs of it, later: the state. Credit, acks and pongs were for now. */
static bool belongs_in_answer(enum message_type type)
{
	return type == MESSAGE_WELCOME || type == MESSAGE_SCHEMA || type == MESSAGE_DELTA || type == MESSAGE_COMMIT ||
	       type == MESSAGE_FILL;
}

static void fx_send(void *shell, void *link, const uint8_t *bytes, size_t n)
{
	struct exchange *x = shell;
	struct message m;

	(void)link;
	x->said_at = loop_now_us();
	if (decode(x, bytes, n, &m) != FERRY_OK) {
		fail(x, FERRY_INTERNAL, "the hub's own message cannot be read");
		return;
	}
	if (x->what->answer != NULL && belongs_in_answer(m.type))
		bundle_add(x->what->answer, bytes, n);
	take_message(x, &m);
}

static size_t fx_queued(void *shell, void *link)
{
	(void)shell;
	(void)link;
	return 0;
}

static void fx_close(void *shell, void *link, int code, const char *sentence)
{
	struct exchange *x = shell;

	(void)link;
	fail(x, code == FERRY_OK ? FERRY_LINK_CLOSED : (enum ferry_error)code, sentence);
}

static int64_t fx_wall(void *shell)
{
	(void)shell;
	return loop_wall_us();
}

static int64_t fx_monotonic(void *shell)
{
	(void)shell;
	return loop_now_us();
}

static void fx_wake_at(void *shell, int64_t at)
{
	loop_timer_set(((struct exchange *)shell)->core_timer, at);
}

static void fx_log(void *shell, int level, const struct uuid *tenant, const struct uuid *device, const char *text)
{
	(void)shell;
	(void)level;
	(void)tenant;
	(void)device;
	(void)text; /* the outcome says it */
}

static const struct hub_effects effects = {fx_send, fx_queued, fx_close, fx_wall, fx_monotonic, fx_wake_at, fx_log};

static void core_due(void *ctx)
{
	hub_core_tick(((struct exchange *)ctx)->core);
}

/* ---- what the device says ---- */

static bool say(struct exchange *x, const struct message *m)
{
	buffer_clear(&x->plain);
	buffer_clear(&x->envelope);
	if (message_encode(m, &x->plain) != FERRY_OK || packer_pack(x->packer, x->plain.p, x->plain.n, &x->envelope) != FERRY_OK)
		return false;
	hub_core_message(x->core, x->session, x->envelope.p, x->envelope.n);
	return true;
}

static void say_pushes(struct exchange *x)
{
	const uint8_t *bytes;
	bool damaged;
	size_t n, at = x->at;

	while (!x->ended && next_record(x, &bytes, &n, &damaged)) {
		if (at == 0) { /* the hello, said before */
			at = x->at;
			continue;
		}
		if (n > x->credit) {
			x->at = at;
			return;
		}
		x->credit -= n;
		at = x->at;
		hub_core_message(x->core, x->session, bytes, n);
	}
}

/* With an answer: until its last state holds what was settled. */
static bool finished(const struct exchange *x)
{
	bool settled = !x->what->take || x->settled_count == x->number_count;

	if (!x->welcomed || !settled)
		return false;
	if (x->what->answer == NULL && x->what->take)
		return true;
	return x->committed && !x->filling && (!x->what->take || x->out->position >= x->settled_position);
}

static bool step(void *ctx)
{
	struct exchange *x = ctx;

	if (x->ended || x->session == NULL || x->stepping)
		return x->ended || (x->session == NULL && x->loaded);
	x->stepping = true;
	if (x->fill_ack_due) {
		struct message m = {.type = MESSAGE_FILL_ACK, .fill_ack = x->fill_ack};

		x->fill_ack_due = false;
		if (!say(x, &m))
			fail(x, FERRY_NO_MEMORY, "no memory for an answer");
	}
	if (!x->ended && x->welcomed && x->what->take)
		say_pushes(x);
	if (!x->ended && finished(x))
		x->ended = true;
	x->stepping = false;
	return x->ended;
}

/* ---- life ---- */

static void on_device(void *ctx, const struct uuid *device)
{
	(void)ctx;
	(void)device; /* the session asks the database itself */
}

static void on_loaded(void *ctx, uint32_t devices)
{
	struct exchange *x = ctx;

	(void)devices;
	x->loaded = true;
	x->said_at = loop_now_us();
}

static void on_tenant(void *ctx, const struct registry_tenant *t)
{
	(void)ctx;
	(void)t;
}

static void on_text(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static void on_looked(void *ctx, uint64_t look)
{
	struct exchange *x = ctx;

	if (x->places != NULL)
		places_looked(x->places, look);
}

static enum ferry_error open_store(struct exchange *x)
{
	static const struct registry_effects registry_effects = {on_device, on_loaded, on_tenant, on_text, on_looked};
	const struct hub_settings *s = x->what->settings;
	struct pg_store_config store = {.conninfo = s->database, .connections = 2, .lock_timeout_ms = 2000,
					.kept_device_bytes_max = s->kept_device, .kept_tenant_bytes_max = s->kept_tenant};
	struct places_config places;

	pg_loop_init(&x->io, x->loop);
	if (loop_timer_new(x->loop, core_due, x, &x->core_timer) != FERRY_OK)
		return FERRY_NO_MEMORY;
	x->registry = registry_open(s->database, &x->io, s->registry_interval_us, &registry_effects, x);
	x->store = pg_store_open(&store, &x->io);
	places = (struct places_config){.home = x->store, .registry = x->registry, .store = store, .idle_us = s->placement_idle_us};
	if (x->registry != NULL && x->store != NULL)
		x->places = places_open(&places, &x->io);
	if (x->places != NULL)
		x->core = hub_core_new(&hub_limits_default, &effects, x, &places_ops, x->places);
	return x->core == NULL ? FERRY_NO_MEMORY : FERRY_OK;
}

/* Runs while something happens now and then. */
static enum ferry_error run(struct exchange *x)
{
	bool done = false;

	x->said_at = loop_now_us();
	while (!done && loop_now_us() < x->said_at + BUNDLE_PATIENCE_US)
		done = loop_run_until(x->loop, step, x, x->said_at + BUNDLE_PATIENCE_US);
	if (!done)
		return ferry_fail(x->why, FERRY_DATABASE, "the database does not answer");
	return x->error;
}

static enum ferry_error begin(struct exchange *x)
{
	struct message m;
	const uint8_t *bytes;
	bool damaged;
	size_t n;
	enum ferry_error e = run(x); /* until the registry is there */

	if (e == FERRY_OK)
		e = registry_ask(x->registry, x->what->fingerprint);
	if (e != FERRY_OK)
		return x->why->text[0] != '\0' ? e : ferry_fail(x->why, e, "%s", ferry_error_text((int)e));
	x->session = hub_core_open(x->core, x, x->what->fingerprint);
	if (x->session == NULL || !next_record(x, &bytes, &n, &damaged))
		return FERRY_NO_MEMORY;
	x->at = 0;
	if (x->what->answer != NULL)
		bundle_add(x->what->answer, bytes, n); /* so that the device knows its question */
	e = decode(x, bytes, n, &m);
	if (e != FERRY_OK)
		return e;
	m.hello.credit_bytes = FERRY_CREDIT_BYTES_MAX; /* a file takes what there is */
	return say(x, &m) ? FERRY_OK : FERRY_NO_MEMORY;
}

static void close_all(struct exchange *x)
{
	if (x->session != NULL)
		hub_core_closed(x->core, x->session);
	places_close(x->places);
	x->places = NULL; /* the registry may speak once more */
	if (x->store != NULL)
		pg_store_close(x->store);
	registry_close(x->registry);
	if (x->core != NULL)
		hub_core_free(x->core);
	loop_timer_free(x->core_timer);
	loop_free(x->loop);
	packer_free(x->packer);
	arena_deinit(&x->arena);
	buffer_deinit(&x->unpacked);
	buffer_deinit(&x->plain);
	buffer_deinit(&x->envelope);
	free(x->numbers);
}

static enum ferry_error exchange(struct exchange *x)
{
	enum ferry_error e = read_records(x);

	if (e == FERRY_OK)
		e = loop_new(NULL, &x->loop, x->why);
	if (e == FERRY_OK)
		e = open_store(x);
	if (e == FERRY_OK)
		e = begin(x);
	return e == FERRY_OK ? run(x) : e;
}

enum ferry_error bundle_exchange(const struct bundle_exchange *what, struct bundle_outcome *out, struct ferry_why *why)
{
	struct bundle_outcome made = {.position = -1};
	struct exchange x = {.what = what, .out = &made, .why = why, .packer = packer_new()};
	enum ferry_error e = FERRY_NO_MEMORY;

	arena_init(&x.arena, ARENA_BYTES_MAX);
	buffer_init(&x.unpacked, FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&x.plain, FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&x.envelope, ENVELOPE_BYTES_MAX);
	if (x.packer != NULL)
		e = exchange(&x);
	if (e == FERRY_OK && what->answer != NULL && what->answer->overflowed)
		e = ferry_fail(why, FERRY_LIMIT, "the answer is larger than a bundle may be (%zu MiB)", BUNDLE_BYTES_MAX >> 20);
	close_all(&x);
	*out = made;
	return e;
}
