/* Filling a replica (R15): chunks of rows in key order, table by table in the
 * order of rank, each table scope by scope; a few under way at a time. The
 * export takes a short snapshot for each chunk; what changed since the fill
 * began comes after it, as a catch-up from the position it began at, and the
 * commit that closes it makes all of it visible at once.
 *
 * A device that gains scopes keeps what it has: the rows of the new ones come
 * the same way beside the states of the others, and one last catch-up of all
 * its scopes joins the two (send_state.c). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

static bool rows_left(const struct hub_session *s)
{
	return s->fill.table < s->fill.table_count && s->fill.scopes.count > 0;
}

static void advance(struct hub_session *s, const struct fill_result *r)
{
	struct filling *f = &s->fill;

	f->after = r->last;
	if (!r->table_done)
		return;
	f->after = (struct uuid){{0}};
	if (++f->scope < f->scopes.count)
		return;
	f->scope = 0;
	f->table++;
}

/* NULL: the session has ended. */
static struct packed *pack_message(struct hub_session *s, const uint8_t *message, size_t n)
{
	struct hub_core *core = s->core;
	struct packed *chunk;
	enum ferry_error e;

	buffer_clear(&core->envelope);
	e = packer_pack(core->packer, message, n, &core->envelope);
	chunk = e == FERRY_OK ? malloc(sizeof(*chunk) + core->envelope.n) : NULL;
	if (chunk == NULL) {
		session_fail(s, e == FERRY_OK ? FERRY_NO_MEMORY : (int)e, RETRY_HINT_MS, "the filling cannot go on");
		return NULL;
	}
	chunk->next = NULL;
	chunk->n = core->envelope.n;
	memcpy(chunk->bytes, core->envelope.p, chunk->n);
	return chunk;
}

/* A page without rows goes nowhere: most tables have none in most scopes, and
 * each message costs the device a transaction and a round trip. */
static void keep_chunk(struct hub_session *s, const struct fill_result *r)
{
	struct packed **end = &s->fill.chunk;
	size_t start = 0;

	if (r->row_count == 0) {
		advance(s, r);
		return;
	}
	for (uint32_t i = 0; i < r->piece_count || i == 0; i++) {
		size_t stop = r->piece_count ? r->piece_ends[i] : r->message_bytes;

		*end = pack_message(s, r->message + start, stop - start);
		if (*end == NULL)
			return;
		end = &(*end)->next;
		start = stop;
	}
	advance(s, r);
}

static void chunk_came(void *ctx, enum ferry_error e, const struct fill_result *result)
{
	struct hub_session *s = ctx;
	struct hub_core *core = s->core;

	core_enter(core);
	session_release(s);
	s->fill.asked = false;
	if (session_up(s)) {
		if (e == FERRY_OK)
			keep_chunk(s, result);
		else
			session_fail(s, (int)e, RETRY_HINT_MS, "the filling cannot go on: %s", ferry_error_text((int)e));
		session_pump(s);
	}
	core_leave(core);
}

static void ask_chunk(struct hub_session *s)
{
	struct filling *f = &s->fill;
	struct fill_request request = {
		.tenant = s->tenant->id,
		.scope = f->scopes.names[f->scope],
		.table = f->tables[f->table],
		.after = f->after,
		.position = f->position,
		.bytes_max = s->core->limits.fill_chunk_bytes,
	};

	f->asked = true;
	session_hold(s);
	s->core->ops->fill(s->core->store, &request, chunk_came, s);
}

static void send_chunk(struct hub_session *s)
{
	struct filling *f = &s->fill;

	while (f->chunk != NULL) {
		struct packed *chunk = f->chunk;

		if (f->unacked >= FILL_CHUNKS_MAX || !session_send_packed(s, chunk->bytes, chunk->n))
			return;
		f->unacked++;
		f->chunk = chunk->next;
		free(chunk);
	}
}

/* False: it waits, or is done. */
static bool fill_step(struct hub_session *s)
{
	struct filling *f = &s->fill;

	if (f->chunk != NULL)
		send_chunk(s);
	if (f->chunk != NULL || f->asked)
		return false;
	if (!rows_left(s)) {
		f->done = true;
		return false;
	}
	ask_chunk(s); /* read ahead by one */
	return !f->asked && session_up(s);
}

/* The store may answer within the call that asks it: that answer's pump is
 * this loop, so that no row of empty tables piles up on the stack. */
void fill_pump(struct hub_session *s)
{
	struct filling *f = &s->fill;

	assert(s->state == FILLING || f->beside);
	if (f->pumping || f->done || f->compared || heal_waits(s))
		return;
	f->pumping = true;
	while (fill_step(s))
		;
	f->pumping = false;
}

void handle_fill_ack(struct hub_session *s)
{
	if (s->fill.unacked > 0)
		s->fill.unacked--;
	session_pump(s);
}

void fill_end(struct hub_session *s)
{
	s->fill.beside = s->fill.closing = false;
	if (s->state == FILLING)
		session_enter(s, LIVE);
}
