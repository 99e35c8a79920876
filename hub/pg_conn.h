/* One connection to PostgreSQL in the event loop: libpq's pipeline mode.
 *
 * A link connects by itself, again and again with a jittered back-off, and
 * runs one batch at a time: all statements are sent at once, prepared once
 * per connection by their text, and the callback comes when the last result
 * is there, or with the failure. Transactions are the caller's business and
 * may span batches; a lost connection ends them.
 *
 *   DOWN --timer--> CONNECTING --up--> READY --submit--> BUSY --sync--> READY
 *   any --connection lost--> DOWN (a running batch fails with PG_LOST) */
#ifndef FERRY_HUB_PG_CONN_H
#define FERRY_HUB_PG_CONN_H

#include "hub/pg_batch.h"
#include "hub/pg_io.h"

struct pg_link;

#define PG_STATEMENTS_MAX 2000      /* prepared on a connection; then it is replaced */
#define PG_PLANS_ROWS_MIN 500
#define PG_PLANS_US 60000000
#define PG_BACKOFF_MIN_US 100000
#define PG_BACKOFF_MAX_US 10000000

struct pg_link_events {
	void (*up)(void *ctx, struct pg_link *link);
	void (*down)(void *ctx, struct pg_link *link, const char *message); /* also a failed attempt to connect */
};

/* conninfo and io are borrowed for the life of the link. NULL: no memory. */
struct pg_link *pg_link_open(const char *conninfo, const struct pg_io *io, const struct pg_link_events *events,
			     void *ctx);
void pg_link_close(struct pg_link *link); /* a running batch's callback does not come any more; accepts NULL */

bool pg_link_is_ready(const struct pg_link *link);
bool pg_link_in_transaction(const struct pg_link *link);
/* Runs the batch; link must be ready and the batch neither empty nor full.
 * The batch stays the caller's and must live until done. */
void pg_link_submit(struct pg_link *link, struct pg_batch *batch, void (*done)(void *ctx), void *ctx);
/* Prepared statements may be stale: prepare anew. */
void pg_link_forget(struct pg_link *link);
/* So many statements were prepared that it should be restarted when idle. */
bool pg_link_is_worn(const struct pg_link *link);
/* Plans are kept with the prepared statements, and the server makes them
 * anew only when a table was analyzed. A plan made for an empty table may
 * compare all with all in a full one, so they are dropped (DISCARD PLANS)
 * as the rows written double, and now and then for what others write.
 * True: now is the time; the caller sends it. */
bool pg_link_plans_due(struct pg_link *link, uint64_t rows_written);
/* Drops the connection and connects anew: for one whose state is unknown. */
void pg_link_restart(struct pg_link *link);
int pg_link_backend(const struct pg_link *link); /* the server's process id, 0 while down */

#endif
