/* The loop's timers: their order, their precision, and that waiting costs nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "shared/loop.h"

#define TIMERS 500

static struct loop *loop;
static struct ferry_why why;

struct alarm {
	struct loop_timer *timer;
	int64_t at_us;
	unsigned *rung; /* counts those that have rung */
	unsigned place; /* which it was; 0: none yet */
	unsigned times;
};

static int start(void **state)
{
	(void)state;
	if (loop_new(NULL, &loop, &why) != FERRY_OK)
		fail_msg("%s", why.text);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

static void rings(void *context)
{
	struct alarm *a = context;

	assert_true(loop_now_us() >= a->at_us);
	assert_false(loop_timer_is_set(a->timer));
	a->place = ++*a->rung;
	a->times++;
}

static bool has_rung(void *context)
{
	return *(unsigned *)context == 0;
}

static bool never(void *context)
{
	(void)context;
	return false;
}

static unsigned seed_of_run(void)
{
	const char *given = getenv("FERRY_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);

	printf("FERRY_SEED=%u\n", seed);
	return seed;
}

/* Set, set again, cancelled and freed at random: those that are left ring once each, in order
 * of their times and none too early. */
static void timers_ring_in_order_of_their_times(void **state)
{
	static struct alarm alarms[TIMERS];
	unsigned seed = seed_of_run(), rung = 0;
	/* Setting them all takes much longer there, and none may lie in the past before the loop runs. */
	int64_t base = loop_now_us() + (getenv("FERRY_VALGRIND") ? 3000000 : 20000);

	(void)state;
	for (unsigned i = 0; i < TIMERS; i++) {
		alarms[i] = (struct alarm){.rung = &rung};
		assert_int_equal(loop_timer_new(loop, rings, &alarms[i], &alarms[i].timer), FERRY_OK);
	}
	for (unsigned i = 0; i < 4 * TIMERS; i++) {
		struct alarm *a = &alarms[(unsigned)rand_r(&seed) % TIMERS];

		if (!a->timer)
			continue;
		a->at_us = base + rand_r(&seed) % 50000;
		loop_timer_set(a->timer, a->at_us);
		if (rand_r(&seed) % 5 == 0)
			loop_timer_cancel(a->timer);
		if (rand_r(&seed) % 20 == 0) {
			loop_timer_free(a->timer);
			a->timer = NULL;
		}
	}
	unsigned set = 0;
	for (unsigned i = 0; i < TIMERS; i++)
		set += alarms[i].timer && loop_timer_is_set(alarms[i].timer);
	loop_run_until(loop, never, NULL, base + 60000);
	assert_int_equal(rung, set);
	for (unsigned i = 0; i < TIMERS; i++)
		for (unsigned k = 0; k < TIMERS; k++)
			if (alarms[i].place && alarms[k].place && alarms[i].at_us < alarms[k].at_us)
				assert_true(alarms[i].place < alarms[k].place);
	for (unsigned i = 0; i < TIMERS; i++) {
		assert_true(alarms[i].times <= 1);
		loop_timer_free(alarms[i].timer);
	}
}

struct ticker {
	struct loop_timer *timer;
	unsigned left;
};

static void ticks(void *context)
{
	struct ticker *t = context;

	if (--t->left > 0)
		loop_timer_set(t->timer, loop_now_us() + 700);
}

static int64_t processor_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * LOOP_SECOND_US + t.tv_nsec / 1000;
}

/* Below a millisecond, too: an agent that waits must not run its battery down. */
static void waiting_for_a_timer_takes_no_processor_time(void **state)
{
	struct ticker t = {.left = 500};
	int64_t used, began;

	(void)state;
	assert_int_equal(loop_timer_new(loop, ticks, &t, &t.timer), FERRY_OK);
	began = loop_now_us();
	used = processor_us();
	loop_timer_set(t.timer, 0);
	assert_true(loop_run_until(loop, has_rung, &t.left, began + 60 * LOOP_SECOND_US));
	used = processor_us() - used;
	began = loop_now_us() - began;
	assert_true(began >= 499 * 700);
	if (!getenv("FERRY_VALGRIND") && used * 4 > began)
		fail_msg("%lld us of processor time in %lld us", (long long)used, (long long)began);
	loop_timer_free(t.timer);
}

struct greedy {
	struct loop_timer *timer;
	unsigned times;
};

static void again_at_once(void *context)
{
	struct greedy *g = context;

	g->times++;
	loop_timer_set(g->timer, 0);
}

static bool rang_twice(void *context)
{
	return ((struct greedy *)context)->times > 1;
}

static void byte_came(void *context)
{
	char byte;
	int *from = context;

	assert_int_equal(read(*from, &byte, 1), 1);
	loop_stop(loop);
}

static void timer_that_is_always_due_leaves_descriptors_their_turn(void **state)
{
	static const struct loop_watch_calls calls = {.on_readable = byte_came};
	struct greedy g = {0};
	struct loop_watch *watch;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(loop_watch_new(loop, ends[0], &calls, &ends[0], &watch, &why), FERRY_OK);
	assert_int_equal(loop_timer_new(loop, again_at_once, &g, &g.timer), FERRY_OK);
	loop_timer_set(g.timer, 0);
	assert_true(loop_run_until(loop, rang_twice, &g, loop_now_us() + 30 * LOOP_SECOND_US));
	assert_int_equal(write(ends[1], "x", 1), 1);
	loop_run(loop);
	loop_timer_free(g.timer);
	loop_watch_free(watch);
	close(ends[0]);
	close(ends[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(timers_ring_in_order_of_their_times),
		TEST(waiting_for_a_timer_takes_no_processor_time),
		TEST(timer_that_is_always_due_leaves_descriptors_their_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
