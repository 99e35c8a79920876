#include "agent/clock_probe.h"

#include <stddef.h>

int64_t clock_probe_ping(struct clock_probe *p, int64_t monotonic_us)
{
	p->waiting = true;
	p->id++;
	p->sent_monotonic_us = monotonic_us;
	return p->id;
}

/* Stamps of a peer are anything: far-off ones would overflow the sums below. */
static bool stamp_sane(int64_t us)
{
	return us > -(INT64_MAX / 4) && us < INT64_MAX / 4;
}

bool clock_probe_pong(struct clock_probe *p, int64_t id, int64_t received, int64_t answered, int64_t monotonic_us)
{
	if (!p->waiting || id != p->id || answered < received || !stamp_sane(received) || !stamp_sane(answered))
		return false;
	int64_t round_trip = (monotonic_us - p->sent_monotonic_us) - (answered - received);
	if (round_trip < 0)
		return false;
	p->waiting = false;
	p->samples[p->count % CLOCK_PROBE_SAMPLES] = (struct clock_sample){
		.hub_minus_monotonic_us = ((received - p->sent_monotonic_us) + (answered - monotonic_us)) / 2,
		.round_trip_us = round_trip,
	};
	p->count++;
	return true;
}

static const struct clock_sample *best_sample(const struct clock_probe *p)
{
	const struct clock_sample *best = NULL;
	uint32_t held = p->count < CLOCK_PROBE_SAMPLES ? p->count : CLOCK_PROBE_SAMPLES;
	for (uint32_t i = 0; i < held; i++)
		if (!best || p->samples[i].round_trip_us < best->round_trip_us)
			best = &p->samples[i];
	return best;
}

int64_t clock_probe_offset(const struct clock_probe *p, int64_t wall_us, int64_t monotonic_us)
{
	const struct clock_sample *best = best_sample(p);
	if (!best)
		return 0;
	int64_t offset = best->hub_minus_monotonic_us - (wall_us - monotonic_us);
	/* The way there and back may differ by all of it: within that error two
	 * right clocks can't be told from each other, and are not pulled apart. */
	int64_t error = best->round_trip_us / 2;
	return offset > error || offset < -error ? offset : 0;
}

int64_t clock_probe_round_trip(const struct clock_probe *p)
{
	const struct clock_sample *best = best_sample(p);
	return best ? best->round_trip_us : -1;
}
