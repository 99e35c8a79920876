/* The event loop: one thread, timers, foreign descriptors, signals. The links of link.h and
 * the services of link_http.h run in it; a libwebsockets context is underneath, and seen only
 * by the files loop*.c and link*.c.
 *
 * Every callback runs inside loop_run() (or loop_run_until()), one after another. A callback
 * may make, change and free anything of the loop, itself included, but the loop.
 *
 * Times are microseconds of CLOCK_MONOTONIC unless a name says wall. */
#ifndef FERRY_SHARED_LOOP_H
#define FERRY_SHARED_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/errors.h"

#define LOOP_SECOND_US INT64_C(1000000)

struct loop;
struct loop_timer;
struct loop_watch;

struct loop_config {
	/* Descriptors that the loop can hold: 0 means 256, enough for an agent. A hub asks for its
	 * connections and some more. Capped by the process's own limit. */
	unsigned descriptors_max;
	/* TLS handshakes at a time, further ones wait in the kernel: a returning fleet must not
	 * starve those who are in. 0 means 128. */
	unsigned handshakes_max;
	/* Connections from one address, 0: no limit (behind a balancer all come from one). */
	unsigned connections_per_address_max;
	/* How long a peer may take for its handshake and its request; 0 means 10. */
	unsigned handshake_timeout_s;
	/* Warnings of the library below; NULL: silence. line is one line without its end. */
	void (*log)(void *context, const char *line);
	void *log_context;
};

/* config may be NULL. One loop a process: the library's log is global. */
FERRY_CHECK enum ferry_error loop_new(const struct loop_config *config, struct loop **out_loop, struct ferry_why *why);
/* Frees what is still in it: links and services are closed without their callbacks; timers
 * and watches must have been freed before. NULL is fine. */
void loop_free(struct loop *loop);

/* Runs until loop_stop(), which a callback calls. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Runs until done(context) is true (asked after every event) or the deadline; returns done. */
bool loop_run_until(struct loop *loop, bool (*done)(void *context), void *context, int64_t deadline_us);

int64_t loop_now_us(void);  /* monotonic */
int64_t loop_wall_us(void); /* since 1970, may jump */

/* A timer calls back once each time it is set. */
typedef void loop_timer_fn(void *context);
FERRY_CHECK enum ferry_error loop_timer_new(struct loop *loop, loop_timer_fn *call, void *context,
					    struct loop_timer **out_timer);
void loop_timer_set(struct loop_timer *timer, int64_t at_us); /* replaces an earlier time; past: as soon as possible */
void loop_timer_cancel(struct loop_timer *timer);
bool loop_timer_is_set(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* NULL is fine */

/* A foreign descriptor: libpq's socket, inotify, a pipe. It is duplicated, so its owner closes
 * its own when it likes, but frees the watch first. A hang-up is reported as readable, once. */
struct loop_watch_calls {
	void (*on_readable)(void *context);
	void (*on_writable)(void *context); /* may be NULL; once for each loop_watch_want_write */
};
FERRY_CHECK enum ferry_error loop_watch_new(struct loop *loop, int fd, const struct loop_watch_calls *calls,
					    void *context, struct loop_watch **out_watch, struct ferry_why *why);
void loop_watch_want_write(struct loop_watch *watch);
/* No on_readable while paused (what is there stays there). */
void loop_watch_pause(struct loop_watch *watch, bool paused);
void loop_watch_free(struct loop_watch *watch); /* NULL is fine */

/* SIGTERM, SIGINT and SIGHUP come as calls from the loop from now on. Once a loop. */
FERRY_CHECK enum ferry_error loop_signals(struct loop *loop, void (*on_signal)(void *context, int signal_number),
					  void *context, struct ferry_why *why);

#endif
