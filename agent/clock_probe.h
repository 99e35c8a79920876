/* How far the hub's clock is from this device's, from the four stamps of a
 * ping and its pong (as NTP does, RFC 5905 section 8).
 *
 * Of the last few samples the one with the shortest round trip counts: its
 * error is at most half of that. The offset is kept against the monotonic
 * clock, so that somebody who sets the device's clock (P10) doesn't spoil
 * what was measured before. */
#ifndef FERRY_AGENT_CLOCK_PROBE_H
#define FERRY_AGENT_CLOCK_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_PROBE_SAMPLES 8

struct clock_sample {
	int64_t hub_minus_monotonic_us;
	int64_t round_trip_us;
};

struct clock_probe {
	struct clock_sample samples[CLOCK_PROBE_SAMPLES]; /* a ring */
	uint32_t count;                                   /* ever taken */
	bool waiting;                                     /* a ping is under way */
	int64_t id;
	int64_t sent_monotonic_us;
};

int64_t clock_probe_ping(struct clock_probe *p, int64_t monotonic_us); /* the id of a ping that leaves now */

/* A pong: received and answered are the hub's wall clock. False: it answers
 * no ping of ours, or its stamps run backwards; nothing is learnt then. */
bool clock_probe_pong(struct clock_probe *p, int64_t id, int64_t received, int64_t answered, int64_t monotonic_us);

/* Hub minus device in microseconds; 0 while nothing was measured, and where
 * the difference is within the error of its measurement. */
int64_t clock_probe_offset(const struct clock_probe *p, int64_t wall_us, int64_t monotonic_us);
int64_t clock_probe_round_trip(const struct clock_probe *p); /* of the sample that counts; -1: none */

#endif
