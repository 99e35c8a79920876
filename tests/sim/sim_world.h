/* A whole fleet in one thread: agents and hubs with their real protocol
 * engines, a network that delays and cuts, people who edit, and things that
 * go wrong, all from one seed. */
#ifndef FERRY_TESTS_SIM_WORLD_H
#define FERRY_TESTS_SIM_WORLD_H

#include "agent/core.h"
#include "hub/core.h"
#include "tests/sim/model_store.h"
#include "tests/sim/sim_profile.h"
#include "tests/sim/sim_replica.h"

struct sim_options {
	uint64_t seed;
	bool verbose;
	const struct sim_profile *profile; /* NULL: profile_busy */
	int64_t busy_us;    /* 0: the profile's */
	struct model_faults hub_faults;
	struct replica_faults replica_faults;
	bool sqlite;        /* the product's replica instead of the model */
};

struct sim_outcome {
	bool failed;
	char failure[1000];
	struct checker_counts counts;
	int links, cuts, agent_crashes, hub_crashes, fills, comparisons, turned_away;
	int troubles[TROUBLES];
	uint64_t events;
	int64_t virtual_us;
};

/* How many runs a suite has time for: fewer with sanitizers. */
#ifdef __SANITIZE_ADDRESS__
#define SIM_RUNS(n) (1 + (n) / 10)
#else
#define SIM_RUNS(n) (n)
#endif

struct sim_outcome sim_run(const struct sim_options *options);

/* --seed S --runs N --profile busy|hour|fleet|restores|clocks|copies|schemas --verbose; FERRY_SEED, FERRY_SIM_RUNS in the environment. */
struct sim_arguments {
	const char *program;
	uint64_t seed;
	int runs;
	const struct sim_profile *profile; /* NULL: the program's own */
	bool verbose;
};
bool sim_arguments(int argc, char **argv, struct sim_arguments *a);
/* Runs with seeds a->seed, +1, ... until one fails; prints what and how to
 * replay. Gives the number of failures (0 or 1). */
int sim_run_many(const struct sim_arguments *a, struct sim_options options, const char *what);
/* With the model, and a tenth as often with the product's replica. */
int sim_run_both(struct sim_arguments a, struct sim_options options, const char *what);

#endif
