#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim_event {
	int64_t at;
	uint64_t id;
	const uint64_t *generation;
	uint64_t born;
	sim_event_fn fn;
	void *ctx, *arg;
};

void *sim_alloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);
	if (!p)
		abort();
	return p;
}

void *sim_dup(const void *p, size_t n)
{
	void *copy = sim_alloc(n);
	if (n)
		memcpy(copy, p, n);
	return copy;
}

void sim_init(struct sim *s, uint64_t seed)
{
	*s = (struct sim){.random = seed, .now = 1000 * (int64_t)SIM_S};
}

void sim_deinit(struct sim *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->heap[i].arg);
	free(s->heap);
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at != b->at ? a->at < b->at : a->id < b->id;
}

static void swap(struct sim_event *a, struct sim_event *b)
{
	struct sim_event t = *a;
	*a = *b;
	*b = t;
}

void sim_at(struct sim *s, int64_t at, const uint64_t *generation, sim_event_fn fn, void *ctx, void *arg)
{
	if (s->count == s->capacity) {
		s->capacity = s->capacity ? 2 * s->capacity : 256;
		s->heap = realloc(s->heap, s->capacity * sizeof *s->heap);
		if (!s->heap)
			abort();
	}
	size_t i = s->count++;
	s->heap[i] = (struct sim_event){.at = at < s->now ? s->now : at, .id = s->next_id++, .generation = generation,
					.born = generation ? *generation : 0, .fn = fn, .ctx = ctx, .arg = arg};
	for (; i > 0 && before(&s->heap[i], &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&s->heap[i], &s->heap[(i - 1) / 2]);
}

static struct sim_event pop(struct sim *s)
{
	struct sim_event first = s->heap[0];
	s->heap[0] = s->heap[--s->count];
	for (size_t i = 0;;) {
		size_t least = i;
		for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++)
			if (child < s->count && before(&s->heap[child], &s->heap[least]))
				least = child;
		if (least == i)
			return first;
		swap(&s->heap[i], &s->heap[least]);
		i = least;
	}
}

bool sim_step(struct sim *s, int64_t until)
{
	if (s->failed || s->count == 0 || s->heap[0].at > until) {
		s->now = until;
		return false;
	}
	struct sim_event e = pop(s);
	s->now = e.at;
	s->events_run++;
	if (!e.generation || *e.generation == e.born)
		e.fn(e.ctx, e.arg);
	free(e.arg);
	return true;
}

uint64_t sim_random(struct sim *s)
{
	uint64_t z = (s->random += 0x9e3779b97f4a7c15u); /* splitmix64 */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

int64_t sim_range(struct sim *s, int64_t low, int64_t high)
{
	return low + (int64_t)(sim_random(s) % (uint64_t)(high - low + 1));
}

bool sim_chance(struct sim *s, int per_mille)
{
	return sim_range(s, 0, 999) < per_mille;
}

int64_t sim_delay(struct sim *s)
{
	if (sim_chance(s, 20))
		return sim_range(s, 100 * SIM_MS, 3 * SIM_S);
	return sim_range(s, 50, 20 * SIM_MS);
}

int64_t sim_device_clock(const struct sim *s, int64_t skew)
{
	int64_t at = SIM_EPOCH_US + s->now + skew;
	return at < 0 ? 0 : at;
}

void sim_fail(struct sim *s, const char *format, ...)
{
	if (s->failed)
		return;
	s->failed = true;
	va_list args;
	va_start(args, format);
	(void)vsnprintf(s->failure, sizeof s->failure, format, args);
	va_end(args);
	sim_log(s, "FAILURE %s", s->failure);
}

void sim_log(struct sim *s, const char *format, ...)
{
	if (!s->verbose)
		return;
	va_list args;
	va_start(args, format);
	printf("%12.6f ", (double)s->now / SIM_S);
	(void)vprintf(format, args);
	(void)putchar('\n');
	va_end(args);
}
