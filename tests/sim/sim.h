/* The bottom of the simulator: a virtual clock, an event queue and a seeded
 * generator. Nothing here or above asks the machine for time or chance, so a
 * seed replays a run exactly. */
#ifndef FERRY_TESTS_SIM_H
#define FERRY_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_MS 1000
#define SIM_S 1000000
#define SIM_EPOCH_US (1700000000 * (int64_t)SIM_S) /* wall clock of virtual time 0 */

typedef void (*sim_event_fn)(void *ctx, void *arg);

struct sim_event;

struct sim {
	uint64_t random;
	int64_t now; /* microseconds */
	struct sim_event *heap;
	size_t count, capacity;
	uint64_t next_id;
	uint64_t events_run;
	bool verbose;
	bool calm;            /* the last phase: no more faults by chance */
	bool failed;          /* the checker found something: the run ends */
	char failure[1000];
};

void sim_init(struct sim *s, uint64_t seed);
void sim_deinit(struct sim *s);

/* Calls fn(ctx, arg) at the time; arg is freed after it (or at deinit).
 * Events of one time run in the order of their scheduling. An event whose
 * *generation differs then from what it is now is dropped: its owner crashed.
 * generation NULL: never dropped. */
void sim_at(struct sim *s, int64_t at, const uint64_t *generation, sim_event_fn fn, void *ctx, void *arg);
bool sim_step(struct sim *s, int64_t until); /* false: nothing before `until`, and now == until */

uint64_t sim_random(struct sim *s);
int64_t sim_range(struct sim *s, int64_t low, int64_t high); /* both included */
bool sim_chance(struct sim *s, int per_mille);
/* The wall clock of a machine that is so far off; none shows a time before 1970. */
int64_t sim_device_clock(const struct sim *s, int64_t skew);
int64_t sim_delay(struct sim *s); /* mostly short, sometimes long: microseconds */

void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_log(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *sim_alloc(size_t n); /* zeroed; never NULL: a test may abort */
void *sim_dup(const void *p, size_t n);

#endif
