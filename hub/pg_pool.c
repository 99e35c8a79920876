#include "hub/pg_pool.h"

#include <assert.h>
#include <stdlib.h>

enum hold { HOLD_FREE, HOLD_BUSY, HOLD_CLEANING };

struct pooled {
	struct pg_link *link;
	struct pg_pool *pool;
	struct pg_batch rollback;
	enum hold hold;
	enum pg_lane lane;
	bool tried; /* a first attempt to connect has ended */
};

struct pg_pool {
	const struct pg_io *io;
	void *timer; /* waiters are served from here, never from within acquire */
	struct pooled *pooled;
	uint32_t count;
	uint32_t in_lane[PG_LANE_COUNT];
	struct pg_waiter *first, **last;
	void (*log)(void *ctx, const char *text);
	void *log_ctx;
	uint64_t lost;
};

static void pool_wake(struct pg_pool *pool)
{
	pool->io->timer_set(pool->io->ctx, pool->timer, 0);
}

static struct pooled *pooled_of(struct pg_pool *pool, const struct pg_link *link)
{
	for (uint32_t i = 0; i < pool->count; i++) {
		if (pool->pooled[i].link == link)
			return &pool->pooled[i];
	}
	return NULL;
}

static struct pg_waiter *pool_take(struct pg_pool *pool, struct pg_waiter **at)
{
	struct pg_waiter *w = *at;

	*at = w->next;
	if (!w->next)
		pool->last = at;
	w->next = NULL;
	return w;
}

static bool pool_has_room(const struct pg_pool *pool, enum pg_lane lane)
{
	return pool->count == 1 || pool->in_lane[lane] < pool->count - 1;
}

static struct pooled *pool_free_link(struct pg_pool *pool)
{
	for (uint32_t i = 0; i < pool->count; i++) {
		if (pool->pooled[i].hold == HOLD_FREE && pg_link_is_ready(pool->pooled[i].link))
			return &pool->pooled[i];
	}
	return NULL;
}

/* No connection stands, each was tried, and none is held. */
static bool pool_is_down(const struct pg_pool *pool)
{
	for (uint32_t i = 0; i < pool->count; i++) {
		const struct pooled *p = &pool->pooled[i];

		if (!p->tried || p->hold != HOLD_FREE || pg_link_backend(p->link) != 0)
			return false;
	}
	return true;
}

static void pool_fail_all(struct pg_pool *pool)
{
	struct pg_waiter *w = pool->first;

	pool->first = NULL;
	pool->last = &pool->first;
	while (w) {
		struct pg_waiter *next = w->next;

		w->next = NULL;
		w->granted(w->ctx, NULL);
		w = next;
	}
}

static void pool_serve(void *arg)
{
	struct pg_pool *pool = arg;
	struct pg_waiter **at = &pool->first;

	while (*at) {
		struct pooled *p = pool_free_link(pool);
		struct pg_waiter *w;

		if (!p)
			break;
		if (!pool_has_room(pool, (*at)->lane)) {
			at = &(*at)->next;
			continue;
		}
		w = pool_take(pool, at);
		p->hold = HOLD_BUSY;
		p->lane = w->lane;
		pool->in_lane[w->lane]++;
		w->granted(w->ctx, p->link);
		at = &pool->first; /* the callback may have changed the queue */
	}
	if (pool->first && pool_is_down(pool))
		pool_fail_all(pool);
}

static void link_up(void *ctx, struct pg_link *link)
{
	struct pg_pool *pool = ctx;
	struct pooled *p = pooled_of(pool, link);

	if (p)
		p->tried = true;
	pool_wake(pool);
}

static void link_down(void *ctx, struct pg_link *link, const char *message)
{
	struct pg_pool *pool = ctx;
	struct pooled *p = pooled_of(pool, link);

	if (p)
		p->tried = true;
	pool->lost++;
	if (pool->log)
		pool->log(pool->log_ctx, message);
	pool_wake(pool);
}

static const struct pg_link_events pool_events = {.up = link_up, .down = link_down};

struct pg_pool *pg_pool_open(const char *conninfo, uint32_t links, const struct pg_io *io,
			     void (*log)(void *ctx, const char *text), void *log_ctx)
{
	struct pg_pool *pool = calloc(1, sizeof(*pool));

	assert(links >= 1 && links <= PG_POOL_LINKS_MAX);
	if (!pool)
		return NULL;
	*pool = (struct pg_pool){.io = io, .last = &pool->first, .log = log, .log_ctx = log_ctx};
	pool->pooled = calloc(links, sizeof(*pool->pooled));
	pool->timer = io->timer(io->ctx, pool_serve, pool);
	if (!pool->pooled || !pool->timer)
		goto fail;
	for (uint32_t i = 0; i < links; i++) {
		struct pooled *p = &pool->pooled[i];

		p->pool = pool;
		pg_batch_init(&p->rollback, 64 << 10);
		pool->count++;
		p->link = pg_link_open(conninfo, io, &pool_events, pool);
		if (!p->link)
			goto fail;
	}
	return pool;
fail:
	pg_pool_close(pool);
	return NULL;
}

void pg_pool_close(struct pg_pool *pool)
{
	if (!pool)
		return;
	pool_fail_all(pool);
	for (uint32_t i = 0; pool->pooled && i < pool->count; i++) {
		pg_link_close(pool->pooled[i].link);
		pg_batch_deinit(&pool->pooled[i].rollback);
	}
	if (pool->timer)
		pool->io->timer_free(pool->io->ctx, pool->timer);
	free(pool->pooled);
	free(pool);
}

void pg_pool_acquire(struct pg_pool *pool, struct pg_waiter *w)
{
	w->next = NULL;
	*pool->last = w;
	pool->last = &w->next;
	pool_wake(pool);
}

void pg_pool_cancel(struct pg_pool *pool, struct pg_waiter *w)
{
	for (struct pg_waiter **at = &pool->first; *at; at = &(*at)->next) {
		if (*at == w) {
			pool_take(pool, at);
			return;
		}
	}
}

static void pool_give_back(struct pooled *p)
{
	if (pg_link_is_ready(p->link) && pg_link_is_worn(p->link))
		pg_link_restart(p->link);
	p->hold = HOLD_FREE;
	pool_wake(p->pool);
}

static void pool_cleaned(void *ctx)
{
	struct pooled *p = ctx;

	pg_batch_reset(&p->rollback);
	if (pg_link_is_ready(p->link) && pg_link_in_transaction(p->link))
		pg_link_restart(p->link);
	pool_give_back(p);
}

void pg_pool_release(struct pg_pool *pool, struct pg_link *link)
{
	struct pooled *p = pooled_of(pool, link);

	assert(p && p->hold == HOLD_BUSY);
	pool->in_lane[p->lane]--;
	if (!pg_link_is_ready(link) || !pg_link_in_transaction(link)) {
		pool_give_back(p);
		return;
	}
	p->hold = HOLD_CLEANING;
	pg_call(&p->rollback, "ROLLBACK");
	if (p->rollback.full) {
		pg_link_restart(link);
		pool_give_back(p);
		return;
	}
	pg_link_submit(link, &p->rollback, pool_cleaned, p);
}

void pg_pool_stats(const struct pg_pool *pool, struct pg_pool_stats *out)
{
	*out = (struct pg_pool_stats){.links = pool->count, .lost = pool->lost};
	for (uint32_t i = 0; i < pool->count; i++) {
		out->ready += pg_link_is_ready(pool->pooled[i].link);
		out->held += pool->pooled[i].hold != HOLD_FREE;
	}
	for (const struct pg_waiter *w = pool->first; w; w = w->next)
		out->waiting++;
}
