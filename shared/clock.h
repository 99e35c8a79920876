/* A hybrid logical clock: microseconds since 1970 that never stand still or
 * run backwards, though the machine's clock may.
 *
 * It stamps edits. Stamps only break ties between edits that are concurrent,
 * so a wrong clock costs nobody an edit (P10); still, a stamp seen from a
 * peer moves the clock forward by at most CLOCK_AHEAD_MAX_US beyond the
 * machine's own, so that one device set to 2090 does not drag others along.
 * Pure: the caller passes the wall clock in. */
#ifndef FERRY_SHARED_CLOCK_H
#define FERRY_SHARED_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_AHEAD_MAX_US 60000000 /* a minute */

struct hlc {
	int64_t last; /* the latest stamp given or observed; keep it over restarts */
};

/* The next stamp: the wall clock, or one above the last stamp where that is
 * later. Always in 0..FERRY_CLOCK_MAX. */
int64_t hlc_now(struct hlc *c, int64_t wall_us);

/* Stamps given from now on are above `seen`. False: it lies too far in the
 * future and was not taken over. */
bool hlc_observe(struct hlc *c, int64_t seen, int64_t wall_us);

/* The machine's clocks, microseconds: since 1970, and one that nobody sets. */
int64_t clock_wall_us(void);
int64_t clock_monotonic_us(void);

#endif
