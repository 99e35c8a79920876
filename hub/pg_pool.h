/* A few connections shared by the store's operations, first come first
 * served. An operation holds a link for its transaction and gives it back;
 * one that is given back inside a transaction is rolled back first.
 *
 * Writers (merges, staging) and readers (feeds, fills) each leave at least
 * one connection to the other, so that a long fill never holds up a merge. */
#ifndef FERRY_HUB_PG_POOL_H
#define FERRY_HUB_PG_POOL_H

#include "hub/pg_conn.h"

struct pg_pool;

enum pg_lane { PG_LANE_WRITE, PG_LANE_READ, PG_LANE_COUNT };

#define PG_POOL_LINKS_MAX 64

/* In the operation's own memory; untouched by it while it waits. */
struct pg_waiter {
	void (*granted)(void *ctx, struct pg_link *link); /* link NULL: no connection to be had */
	void *ctx;
	enum pg_lane lane;
	struct pg_waiter *next;
};

struct pg_pool_stats {
	uint32_t links, ready, held;
	uint32_t waiting;
	uint64_t lost; /* connections lost or not made */
};

/* log may be NULL; conninfo and io are borrowed. */
struct pg_pool *pg_pool_open(const char *conninfo, uint32_t links, const struct pg_io *io,
			     void (*log)(void *ctx, const char *text), void *log_ctx);
/* Waiters are told (link NULL); operations that hold a link must be gone. */
void pg_pool_close(struct pg_pool *pool);

/* The answer comes later, never from within the call. While no connection
 * stands and none could be made, waiters are told so at once. */
void pg_pool_acquire(struct pg_pool *pool, struct pg_waiter *w);
void pg_pool_cancel(struct pg_pool *pool, struct pg_waiter *w);
void pg_pool_release(struct pg_pool *pool, struct pg_link *link);
void pg_pool_stats(const struct pg_pool *pool, struct pg_pool_stats *out);

#endif
