#include "shared/clock.h"

#include <time.h>

#include "protocol/message.h"

int64_t hlc_now(struct hlc *c, int64_t wall_us)
{
	if (wall_us > FERRY_CLOCK_MAX)
		wall_us = FERRY_CLOCK_MAX;
	if (wall_us > c->last)
		c->last = wall_us;
	else if (c->last < FERRY_CLOCK_MAX)
		c->last++;
	return c->last;
}

bool hlc_observe(struct hlc *c, int64_t seen, int64_t wall_us)
{
	if (seen <= c->last)
		return true;
	if (seen > FERRY_CLOCK_MAX || wall_us > INT64_MAX - CLOCK_AHEAD_MAX_US || seen > wall_us + CLOCK_AHEAD_MAX_US)
		return false;
	c->last = seen;
	return true;
}

static int64_t read_clock(clockid_t id)
{
	struct timespec t;

	/* Both clocks exist on every Linux, so that no failure is possible. */
	(void)clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void)
{
	return read_clock(CLOCK_MONOTONIC);
}
