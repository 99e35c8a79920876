#include "agent/backoff.h"

#include <assert.h>

static uint64_t splitmix64(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void backoff_init(struct backoff *b, int64_t min_us, int64_t max_us, uint64_t seed)
{
	assert(min_us > 0 && max_us >= min_us);
	*b = (struct backoff){.random = seed, .min_us = min_us, .max_us = max_us, .cap_us = min_us};
}

int64_t backoff_next_us(struct backoff *b)
{
	uint64_t range = (uint64_t)b->cap_us + 1;
	int64_t delay = (int64_t)(splitmix64(&b->random) % range);
	b->cap_us = b->cap_us > b->max_us / 2 ? b->max_us : b->cap_us * 2;
	return delay;
}

void backoff_reset(struct backoff *b)
{
	b->cap_us = b->min_us;
}
