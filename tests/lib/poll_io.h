/* struct pg_io over poll(), for programs that drive the PostgreSQL store
 * without the hub's loop. One instance; include once in a program. */
#ifndef FERRY_TESTS_POLL_IO_H
#define FERRY_TESTS_POLL_IO_H

#include <assert.h>
#include <poll.h>
#include <stdlib.h>

#include "hub/pg_io.h"
#include "shared/clock.h"
#include "shared/random.h"

#define POLL_IO_MAX 64

struct poll_watch {
	bool used;
	int fd;
	short events;
	void (*ready)(void *arg);
	void *arg;
};

struct poll_timer {
	bool used;
	int64_t at; /* monotonic; -1: stopped */
	void (*fire)(void *arg);
	void *arg;
};

struct poll_io {
	struct poll_watch watches[POLL_IO_MAX];
	struct poll_timer timers[POLL_IO_MAX * 4];
};

static inline void *poll_io_watch(void *ctx, int fd, void (*ready)(void *arg), void *arg)
{
	struct poll_io *io = ctx;

	for (int i = 0; i < POLL_IO_MAX; i++) {
		if (!io->watches[i].used) {
			io->watches[i] = (struct poll_watch){.used = true, .fd = fd, .ready = ready, .arg = arg};
			return &io->watches[i];
		}
	}
	return NULL;
}

static inline void poll_io_want(void *ctx, void *watch, bool readable, bool writable)
{
	struct poll_watch *w = watch;

	(void)ctx;
	w->events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
}

static inline void poll_io_unwatch(void *ctx, void *watch)
{
	(void)ctx;
	((struct poll_watch *)watch)->used = false;
}

static inline void *poll_io_timer(void *ctx, void (*fire)(void *arg), void *arg)
{
	struct poll_io *io = ctx;

	for (int i = 0; i < POLL_IO_MAX * 4; i++) {
		if (!io->timers[i].used) {
			io->timers[i] = (struct poll_timer){.used = true, .at = -1, .fire = fire, .arg = arg};
			return &io->timers[i];
		}
	}
	return NULL;
}

static inline void poll_io_timer_set(void *ctx, void *timer, int64_t delay_us)
{
	(void)ctx;
	((struct poll_timer *)timer)->at = delay_us < 0 ? -1 : clock_monotonic_us() + delay_us;
}

static inline void poll_io_timer_free(void *ctx, void *timer)
{
	(void)ctx;
	((struct poll_timer *)timer)->used = false;
}

static inline int64_t poll_io_wall(void *ctx)
{
	(void)ctx;
	return clock_wall_us();
}

static inline uint64_t poll_io_random(void *ctx)
{
	(void)ctx;
	return random_u64();
}

static inline int poll_io_fire(struct poll_io *io)
{
	int64_t now = clock_monotonic_us(), next = -1;

	for (int i = 0; i < POLL_IO_MAX * 4; i++) {
		struct poll_timer *t = &io->timers[i];

		if (t->used && t->at >= 0 && t->at <= now) {
			t->at = -1;
			t->fire(t->arg);
		}
	}
	for (int i = 0; i < POLL_IO_MAX * 4; i++) {
		if (io->timers[i].used && io->timers[i].at >= 0 && (next < 0 || io->timers[i].at < next))
			next = io->timers[i].at;
	}
	return next < 0 ? 100 : next <= now ? 0 : (int)((next - now) / 1000) + 1;
}

/* One turn: due timers, then whatever is ready, waiting 100 ms at most. */
static inline void poll_io_turn(struct poll_io *io)
{
	struct pollfd fds[POLL_IO_MAX];
	struct poll_watch *of[POLL_IO_MAX];
	nfds_t n = 0;
	int wait = poll_io_fire(io);

	for (int i = 0; i < POLL_IO_MAX; i++) {
		if (!io->watches[i].used)
			continue;
		fds[n] = (struct pollfd){.fd = io->watches[i].fd, .events = io->watches[i].events};
		of[n++] = &io->watches[i];
	}
	poll(fds, n, wait > 100 ? 100 : wait);
	for (nfds_t i = 0; i < n; i++) {
		if (fds[i].revents && of[i]->used && of[i]->fd == fds[i].fd)
			of[i]->ready(of[i]->arg);
	}
}

static inline void poll_io_init(struct poll_io *io, struct pg_io *out)
{
	*io = (struct poll_io){0};
	*out = (struct pg_io){.ctx = io, .watch = poll_io_watch, .want = poll_io_want, .unwatch = poll_io_unwatch,
			      .timer = poll_io_timer, .timer_set = poll_io_timer_set, .timer_free = poll_io_timer_free,
			      .wall = poll_io_wall, .random = poll_io_random};
}

#endif
