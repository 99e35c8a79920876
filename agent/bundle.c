#include "agent/bundle.h"

#include <string.h>
#include <unistd.h>

#include "protocol/bundle.h"
#include "protocol/envelope.h"

#define PUSH_BYTES (256u << 10)
#define ARENA_BYTES_MAX ((size_t)FERRY_DECODE_BYTES_MAX * 2)
#define BUSY_TRIES 600 /* of so long: half a minute in all */
#define BUSY_PAUSE_US 50000

struct work {
	const struct agent_store_ops *ops;
	void *store;
	struct packer *packer;
	struct arena arena;
	struct buffer plain, other;
	struct ferry_why *why;
};

static bool work_init(struct work *w, const struct agent_store_ops *ops, void *store, struct ferry_why *why)
{
	*w = (struct work){.ops = ops, .store = store, .packer = packer_new(), .why = why};
	arena_init(&w->arena, ARENA_BYTES_MAX);
	buffer_init(&w->plain, FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&w->other, BUNDLE_RECORD_MAX);
	return w->packer != NULL;
}

static void work_deinit(struct work *w)
{
	packer_free(w->packer);
	arena_deinit(&w->arena);
	buffer_deinit(&w->plain);
	buffer_deinit(&w->other);
}

/* ---- out ---- */

static enum ferry_error add(struct work *w, const struct message *m, struct buffer *records)
{
	enum ferry_error e;

	buffer_clear(&w->plain);
	buffer_clear(&w->other);
	e = message_encode(m, &w->plain);
	if (e == FERRY_OK)
		e = packer_pack(w->packer, w->plain.p, w->plain.n, &w->other);
	if (e == FERRY_OK)
		bundle_add(records, w->other.p, w->other.n);
	if (e == FERRY_OK && records->overflowed)
		e = ferry_fail(w->why, FERRY_LIMIT, "the outbox is larger than a bundle may be (%zu MiB)", BUNDLE_BYTES_MAX >> 20);
	return e;
}

/* What is captured becomes change-sets first, as with every look (R5). */
static enum ferry_error cut_all(struct work *w)
{
	enum ferry_error e = FERRY_OK;
	bool more = true;
	int tries = 0;

	while (more && (e == FERRY_OK || (e == FERRY_BUSY && tries++ < BUSY_TRIES))) {
		if (e == FERRY_BUSY)
			(void)usleep(BUSY_PAUSE_US);
		e = w->ops->cut(w->store, &more, w->why);
	}
	return e;
}

static enum ferry_error collect_pushes(struct work *w, struct buffer *records, struct bundle_made *out)
{
	struct push_cursor cursor = {0};
	struct message m = {.type = MESSAGE_PUSH};
	enum ferry_error e;

	do {
		arena_reset(&w->arena);
		e = w->ops->next_push(w->store, &cursor, PUSH_BYTES, &w->arena, &m.push, w->why);
		if (e == FERRY_OK && m.push.set_count > 0)
			e = add(w, &m, records);
		for (uint32_t i = 0; e == FERRY_OK && i < m.push.set_count; i++)
			out->change_sets += !m.push.sets[i].more;
	} while (e == FERRY_OK && m.push.set_count > 0);
	return e;
}

static enum ferry_error say_hello(struct work *w, struct message_hello *out)
{
	enum ferry_error e = w->ops->hello(w->store, out, w->why);

	out->version_min = FERRY_PROTOCOL_LOWEST;
	out->version_max = FERRY_PROTOCOL_HIGHEST;
	out->agent_version = FERRY_PROGRAM_VERSION;
	return e;
}

enum ferry_error bundle_collect(const struct agent_store_ops *ops, void *store, int64_t clock, struct buffer *records,
				struct bundle_made *out, struct ferry_why *why)
{
	struct message m = {.type = MESSAGE_HELLO};
	struct bundle_made made = {0};
	struct work w;
	enum ferry_error e = work_init(&w, ops, store, why) ? FERRY_OK : FERRY_NO_MEMORY;

	if (e == FERRY_OK)
		e = cut_all(&w);
	if (e == FERRY_OK)
		e = say_hello(&w, &m.hello);
	m.hello.clock = clock;
	made.position = m.hello.position;
	if (e == FERRY_OK)
		e = add(&w, &m, records);
	if (e == FERRY_OK)
		e = collect_pushes(&w, records, &made);
	work_deinit(&w);
	*out = made;
	return e;
}

/* ---- in ---- */

static enum ferry_error decode(struct work *w, const uint8_t *bytes, size_t n, struct message *out)
{
	const uint8_t *plain = NULL;
	size_t plain_n = 0;
	enum ferry_error e = packer_unpack(w->packer, bytes, n, &w->other, &plain, &plain_n, w->why);

	arena_reset(&w->arena);
	return e == FERRY_OK ? message_decode(&w->arena, plain, plain_n, out, w->why) : e;
}

struct answer { /* what the records are, as read before they are applied */
	struct message_hello asked; /* without its texts */
	int64_t position;           /* of the last commit; -1: none */
	uint32_t records;
	bool welcomed, filling;
};

/* hello, welcome, then states; the last is a commit. */
static bool fits(struct answer *a, const struct message *m)
{
	if (a->records == 0) {
		a->asked = m->hello;
		return m->type == MESSAGE_HELLO;
	}
	if (a->records == 1) {
		a->welcomed = m->type == MESSAGE_WELCOME && m->welcome.version >= FERRY_PROTOCOL_LOWEST &&
			      m->welcome.version <= FERRY_PROTOCOL_HIGHEST;
		a->filling = m->welcome.mode != WELCOME_DELTA;
		return a->welcomed;
	}
	if (m->type == MESSAGE_COMMIT) {
		if (m->commit.fill_done && !a->filling)
			return false;
		a->filling = a->filling && !m->commit.fill_done;
		a->position = m->commit.position;
		return true;
	}
	return m->type == MESSAGE_SCHEMA || m->type == MESSAGE_DELTA || (m->type == MESSAGE_FILL && a->filling);
}

static enum ferry_error read_answer(struct work *w, const uint8_t *records, size_t n, struct answer *out)
{
	const uint8_t *bytes;
	size_t length, at = 0;
	bool damaged = false;
	struct message m = {.type = MESSAGE_ERROR};

	*out = (struct answer){.position = -1};
	while (bundle_next(records, n, &at, &bytes, &length, &damaged)) {
		if (decode(w, bytes, length, &m) != FERRY_OK || !fits(out, &m))
			return ferry_fail(w->why, FERRY_CORRUPT, "the bundle does not hold what a hub says");
		out->records++;
	}
	if (damaged || m.type != MESSAGE_COMMIT || out->filling)
		return ferry_fail(w->why, FERRY_CORRUPT, "the bundle's records are damaged");
	return FERRY_OK;
}

/* Only where the replica stands as it did when it asked do the frames fit. */
static enum ferry_error check_place(struct work *w, const struct answer *a)
{
	const struct message_hello *then = &a->asked;
	struct message_hello now = {0};
	enum ferry_error e = say_hello(w, &now);

	if (e != FERRY_OK)
		return e;
	if (!uuid_equal(&now.incarnation, &then->incarnation))
		return ferry_fail(w->why, FERRY_BUNDLE, "the bundle answers another replica of this device");
	if (now.position == then->position && now.mark == then->mark && now.schema_hash == then->schema_hash &&
	    uuid_equal(&now.epoch, &then->epoch))
		return FERRY_OK;
	if (now.position >= a->position && now.position > then->position)
		return ferry_fail(w->why, FERRY_EXISTS, "the replica is at position %lld already, and the bundle leads to %lld",
				  (long long)now.position, (long long)a->position);
	return ferry_fail(w->why, FERRY_BUNDLE_ORDER, "the bundle leads on from position %lld, and the replica is at %lld",
			  (long long)then->position, (long long)now.position);
}

static enum ferry_error apply(struct work *w, const struct message *m, struct bundle_taken *out)
{
	struct store_commit_report report = {0};
	enum ferry_error e;

	switch (m->type) {
	case MESSAGE_WELCOME:
		out->filled = m->welcome.mode != WELCOME_DELTA;
		return w->ops->welcome(w->store, &m->welcome, w->why);
	case MESSAGE_SCHEMA:
		return w->ops->schema(w->store, &m->schema, w->why);
	case MESSAGE_DELTA:
		return w->ops->delta(w->store, &m->delta, w->why);
	case MESSAGE_FILL:
		return w->ops->fill(w->store, &m->fill, w->why);
	case MESSAGE_COMMIT:
		e = w->ops->commit(w->store, &m->commit, &report, w->why);
		if (e != FERRY_OK)
			return e;
		out->position = m->commit.position;
		out->settled += report.settled;
		out->rejected += report.rejected;
		out->conflicts += report.conflicts;
		out->rows += report.rows_applied;
		return FERRY_OK;
	default:
		return FERRY_OK; /* the hello */
	}
}

static enum ferry_error apply_all(struct work *w, const uint8_t *records, size_t n, struct bundle_taken *out)
{
	const uint8_t *bytes;
	size_t length, at = 0;
	bool damaged;
	enum ferry_error e = FERRY_OK;

	while (e == FERRY_OK && bundle_next(records, n, &at, &bytes, &length, &damaged)) {
		struct message m;

		e = decode(w, bytes, length, &m);
		if (e == FERRY_OK)
			e = apply(w, &m, out);
		for (int tries = 0; e == FERRY_BUSY && tries < BUSY_TRIES; tries++) {
			(void)usleep(BUSY_PAUSE_US);
			e = apply(w, &m, out);
		}
	}
	return e;
}

enum ferry_error bundle_apply(const struct agent_store_ops *ops, void *store, const uint8_t *records, size_t n,
			      struct bundle_taken *out, struct ferry_why *why)
{
	struct bundle_taken taken = {.position = -1};
	struct answer answer;
	struct work w;
	enum ferry_error e = work_init(&w, ops, store, why) ? FERRY_OK : FERRY_NO_MEMORY;

	if (e == FERRY_OK)
		e = read_answer(&w, records, n, &answer);
	if (e == FERRY_OK)
		e = check_place(&w, &answer);
	if (e == FERRY_OK)
		e = apply_all(&w, records, n, &taken);
	ops->disconnected(store);
	work_deinit(&w);
	*out = taken;
	return e;
}
