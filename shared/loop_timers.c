#include "shared/loop_timers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NOWHERE SIZE_MAX

struct loop_timer {
	struct timers *timers;
	loop_timer_fn *call;
	void *context;
	int64_t at_us;
	size_t place; /* in the heap; NOWHERE: not set */
};

enum ferry_error timers_init(struct timers *t, struct ferry_why *why)
{
	*t = (struct timers){.armed_us = INT64_MAX, .fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)};
	if (t->fd < 0)
		return ferry_fail(why, FERRY_LIMIT, "no descriptor for the loop's timers: %s", strerror(errno));
	return FERRY_OK;
}

void timers_deinit(struct timers *t)
{
	if (t->fd >= 0)
		close(t->fd);
	free(t->heap);
}

/* --- the heap --------------------------------------------------------------------------- */

static void put(struct timers *t, size_t place, struct loop_timer *timer)
{
	t->heap[place] = timer;
	timer->place = place;
}

static void rise(struct timers *t, size_t place, struct loop_timer *timer)
{
	while (place > 0 && timer->at_us < t->heap[(place - 1) / 2]->at_us) {
		put(t, place, t->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	put(t, place, timer);
}

static void sink(struct timers *t, size_t place, struct loop_timer *timer)
{
	for (;;) {
		size_t child = 2 * place + 1;

		if (child + 1 < t->set_count && t->heap[child + 1]->at_us < t->heap[child]->at_us)
			child++;
		if (child >= t->set_count || timer->at_us <= t->heap[child]->at_us)
			break;
		put(t, place, t->heap[child]);
		place = child;
	}
	put(t, place, timer);
}

static void take_out(struct loop_timer *timer)
{
	struct timers *t = timer->timers;
	size_t place = timer->place;
	struct loop_timer *last;

	if (place == NOWHERE)
		return;
	timer->place = NOWHERE;
	last = t->heap[--t->set_count];
	if (last == timer)
		return;
	if (place > 0 && last->at_us < t->heap[(place - 1) / 2]->at_us)
		rise(t, place, last);
	else
		sink(t, place, last);
}

/* --- waking ----------------------------------------------------------------------------- */

static void arm(struct timers *t, int64_t at_us)
{
	struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(at_us / LOOP_SECOND_US),
					       .tv_nsec = (long)(at_us % LOOP_SECOND_US) * 1000}};

	if (timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
		t->armed_us = at_us;
}

void timers_rang(struct timers *t)
{
	uint64_t times;

	if (read(t->fd, &times, sizeof times) == (ssize_t)sizeof times)
		t->armed_us = INT64_MAX;
}

/* Set too early is as good as set: whoever cancels or postpones the earliest costs at most
 * one waking for nothing. */
bool timers_due(struct timers *t)
{
	if (t->set_count == 0)
		return false;
	if (t->heap[0]->at_us <= loop_now_us())
		return true;
	if (t->heap[0]->at_us < t->armed_us)
		arm(t, t->heap[0]->at_us);
	return false;
}

void timers_run(struct timers *t)
{
	int64_t now = t->set_count ? loop_now_us() : 0;

	while (t->set_count > 0 && t->heap[0]->at_us <= now) {
		struct loop_timer *timer = t->heap[0];

		take_out(timer);
		timer->call(timer->context); /* may free it */
	}
}

/* --- timers, as loop.h has them ----------------------------------------------------------- */

enum ferry_error loop_timer_new(struct loop *loop, loop_timer_fn *call, void *context, struct loop_timer **out_timer)
{
	struct timers *t = loop_timers(loop);
	struct loop_timer *timer;

	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 16;
		struct loop_timer **more = reallocarray(t->heap, room, sizeof(struct loop_timer *));

		if (!more)
			return FERRY_NO_MEMORY;
		t->heap = more;
		t->room = room;
	}
	timer = malloc(sizeof *timer);
	if (!timer)
		return FERRY_NO_MEMORY;
	*timer = (struct loop_timer){.timers = t, .call = call, .context = context, .place = NOWHERE};
	t->count++;
	*out_timer = timer;
	return FERRY_OK;
}

void loop_timer_set(struct loop_timer *timer, int64_t at_us)
{
	struct timers *t = timer->timers;
	int64_t soonest = loop_now_us() + 1; /* behind the run that we may be in */

	take_out(timer);
	timer->at_us = at_us > soonest ? at_us : soonest;
	assert(t->set_count < t->count);
	rise(t, t->set_count++, timer);
	/* The library may go to sleep before the loop looks at its timers again. */
	if (timer->at_us < t->armed_us && timer->place == 0)
		arm(t, timer->at_us);
}

void loop_timer_cancel(struct loop_timer *timer)
{
	take_out(timer);
}

bool loop_timer_is_set(const struct loop_timer *timer)
{
	return timer->place != NOWHERE;
}

void loop_timer_free(struct loop_timer *timer)
{
	if (!timer)
		return;
	take_out(timer);
	timer->timers->count--;
	free(timer);
}
