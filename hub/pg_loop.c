#include "hub/pg_loop.h"

#include <stdlib.h>

#include "shared/random.h"

struct pg_loop_watch {
	struct loop_watch *watch;
	void (*ready)(void *arg);
	void *arg;
};

/* The owner asks anew for what it wants after each call, so both directions
 * lead to the same place. */
static void on_ready(void *ctx)
{
	struct pg_loop_watch *w = ctx;
	w->ready(w->arg);
}

static void *watch(void *ctx, int fd, void (*ready)(void *arg), void *arg)
{
	static const struct loop_watch_calls calls = {.on_readable = on_ready, .on_writable = on_ready};
	struct pg_loop_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->ready = ready;
	w->arg = arg;
	if (loop_watch_new(ctx, fd, &calls, w, &w->watch, NULL) == FERRY_OK)
		return w;
	free(w);
	return NULL;
}

static void want(void *ctx, void *watched, bool readable, bool writable)
{
	struct pg_loop_watch *w = watched;
	(void)ctx;
	loop_watch_pause(w->watch, !readable);
	if (writable)
		loop_watch_want_write(w->watch);
}

static void unwatch(void *ctx, void *watched)
{
	struct pg_loop_watch *w = watched;
	(void)ctx;
	if (!w)
		return;
	loop_watch_free(w->watch);
	free(w);
}

static void *timer(void *ctx, void (*fire)(void *arg), void *arg)
{
	struct loop_timer *t;
	return loop_timer_new(ctx, fire, arg, &t) == FERRY_OK ? t : NULL;
}

static void timer_set(void *ctx, void *t, int64_t delay_us)
{
	(void)ctx;
	if (delay_us < 0)
		loop_timer_cancel(t);
	else
		loop_timer_set(t, loop_now_us() + delay_us);
}

static void timer_free(void *ctx, void *t)
{
	(void)ctx;
	loop_timer_free(t);
}

static int64_t wall(void *ctx)
{
	(void)ctx;
	return loop_wall_us();
}

static uint64_t random_of(void *ctx)
{
	(void)ctx;
	return random_u64();
}

void pg_loop_init(struct pg_io *out, struct loop *loop)
{
	*out = (struct pg_io){.ctx = loop, .watch = watch, .want = want, .unwatch = unwatch, .timer = timer,
			      .timer_set = timer_set, .timer_free = timer_free, .wall = wall, .random = random_of};
}
