/* The timers of a loop, the earliest first: a binary heap, and a timerfd that wakes the loop
 * to the microsecond. (The library's own timers end in poll(2), whose milliseconds it rounds
 * down: it would spin through the last one of each wait.) For loop.c alone. */
#ifndef FERRY_SHARED_LOOP_TIMERS_H
#define FERRY_SHARED_LOOP_TIMERS_H

#include <stddef.h>

#include "shared/loop.h"

struct timers {
	struct loop_timer **heap;  /* those that are set */
	size_t set_count;
	size_t count, room;        /* timers that exist; the heap has room for all of them */
	int fd;                    /* readable when the earliest is due, or before */
	int64_t armed_us;          /* what fd is set to; INT64_MAX: nothing */
};

FERRY_CHECK enum ferry_error timers_init(struct timers *t, struct ferry_why *why);
void timers_deinit(struct timers *t);
/* Runs those that are due now; what they set in turn is for the next call. */
void timers_run(struct timers *t);
/* Is one due? If not, fd is armed for the earliest. */
bool timers_due(struct timers *t);
/* fd was readable. */
void timers_rang(struct timers *t);

/* A loop's timers, for loop_timer_new(). */
struct timers *loop_timers(struct loop *loop);

#endif
