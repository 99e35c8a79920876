/* Notices that another program committed to the replica, at once and without
 * polling in the normal case.
 *
 * inotify alone misses 12-20 % of commits: SQLite writes the WAL with write()
 * and only afterwards makes the commit visible through the shared-memory
 * index, which is mapped and raises no event. So an event starts a ladder of
 * looks at PRAGMA data_version with growing pauses (0.1 ms, 0.4 ms ... up to
 * the safety interval), which catches a writer that was slow between the
 * two (an fsync, a busy processor). The ladder goes on after a change was
 * found, since events of two commits come as one. Without any event there is
 * a slow safety look, which also covers events that never come (a change of
 * the folder beneath us, a queue that overflowed).
 *
 *   event on db, db-wal, db-journal  -> ladder from the start; when we wrote
 *                                       meanwhile it is most likely our own:
 *                                       then the ladder begins higher up
 *   look: version differs            -> changed() once
 *   ladder at its end                -> a look every WAKE_SAFETY_US
 *   no inotify to be had             -> a look every WAKE_POLL_US
 *
 * The caller polls wake_fd() for reading, calls wake_readable() then, and
 * wake_tick() at wake_at(). One thread. */
#ifndef FERRY_AGENT_WAKE_H
#define FERRY_AGENT_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/errors.h"

#define WAKE_FIRST_US  100
#define WAKE_OWN_US    6400
#define WAKE_GROWTH    4 /* each pause of the ladder is so many times the one before */
#define WAKE_SAFETY_US 2000000
#define WAKE_POLL_US   50000

struct wake_effects {
	/* PRAGMA data_version on a connection kept open: changes when another
	 * connection committed. False: cannot be read now (busy); asked again. */
	bool (*version)(void *ctx, int64_t *out);
	/* A number that grows when our own connection commits; NULL: it never does. */
	int64_t (*own)(void *ctx);
	void (*changed)(void *ctx); /* somebody committed since the last call */
};

struct wake;

/* path: the database file, which must exist. Works without inotify too
 * (wake_fd() is -1 then). The first look counts what it sees as known. */
FERRY_CHECK enum ferry_error wake_open(const char *path, const struct wake_effects *effects, void *ctx,
				       int64_t now_us, struct wake **out, struct ferry_why *why);
void wake_close(struct wake *w); /* accepts NULL */

int wake_fd(const struct wake *w);
int64_t wake_at(const struct wake *w);              /* when the next look is due, on the monotonic clock */
void wake_readable(struct wake *w, int64_t now_us); /* takes the events and looks */
void wake_tick(struct wake *w, int64_t now_us);     /* looks if one is due */

struct wake_stats {
	uint64_t events, looks, changes;
	uint64_t by_safety; /* changes that only the safety look found; 0 is normal */
};
void wake_stats(const struct wake *w, struct wake_stats *out);

#endif
