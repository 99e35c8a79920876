/* When to try again: exponential back-off with full jitter, so that a fleet
 * that lost its hub at one moment doesn't come back at one moment. Source:
 * M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
 *
 * Pure: the randomness is a generator (splitmix64) seeded at init. */
#ifndef FERRY_AGENT_BACKOFF_H
#define FERRY_AGENT_BACKOFF_H

#include <stdint.h>

struct backoff {
	uint64_t random;
	int64_t min_us, max_us;
	int64_t cap_us; /* the next delay is drawn from [0, cap_us] */
};

/* max_us >= min_us > 0. */
void backoff_init(struct backoff *b, int64_t min_us, int64_t max_us, uint64_t seed);
int64_t backoff_next_us(struct backoff *b); /* draws a delay and doubles the cap */
void backoff_reset(struct backoff *b);      /* the peer has proven itself: start small again */

#endif
