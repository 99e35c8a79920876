/* What the PostgreSQL connections need from an event loop: descriptors
 * watched and timers. serve.c gives them the hub's loop, a test its poll().
 * One thread; no call of these may call back into the caller at once. */
#ifndef FERRY_HUB_PG_IO_H
#define FERRY_HUB_PG_IO_H

#include <stdbool.h>
#include <stdint.h>

struct pg_io {
	void *ctx;
	/* Watches fd for what pg_io.want() asks; NULL on failure. The
	 * descriptor stays the caller's. */
	void *(*watch)(void *ctx, int fd, void (*ready)(void *arg), void *arg);
	void (*want)(void *ctx, void *watch, bool readable, bool writable);
	void (*unwatch)(void *ctx, void *watch);
	/* A timer, not running; NULL on failure. Fires once after each set. */
	void *(*timer)(void *ctx, void (*fire)(void *arg), void *arg);
	void (*timer_set)(void *ctx, void *timer, int64_t delay_us); /* again: starts anew; -1: stops */
	void (*timer_free)(void *ctx, void *timer);
	int64_t (*wall)(void *ctx);           /* microseconds since 1970 */
	uint64_t (*random)(void *ctx);        /* for jitter and identifiers */
};

#endif
