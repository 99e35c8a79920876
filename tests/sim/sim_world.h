/* A whole fleet in one thread: agents and hubs with their real protocol
 * engines, a network that delays and cuts, people who edit, and things that
 * go wrong, all from one seed. */
#ifndef FERRY_TESTS_SIM_WORLD_H
#define FERRY_TESTS_SIM_WORLD_H

#include "agent/core.h"
#include "hub/core.h"
#include "tests/sim/model_store.h"
#include "tests/sim/sim_replica.h"

#define HUBS_MAX 2

struct sim_options {
	uint64_t seed;
	bool verbose;
	int agents;         /* 0: by the seed */
	int64_t busy_us;    /* how long people edit and things go wrong; 0: 40 s */
	bool no_faults;     /* network and machines behave */
	struct model_faults hub_faults;
	struct replica_faults replica_faults;
	/* NULL: the model */
	struct sim_replica (*new_replica)(struct sim *sim, int device, const int64_t *skew, void *ctx);
	void *replica_ctx;
};

struct sim_outcome {
	bool failed;
	char failure[1000];
	struct checker_counts counts;
	int links, cuts, agent_crashes, hub_crashes, fills;
	uint64_t events;
	int64_t virtual_us;
};

struct sim_outcome sim_run(const struct sim_options *options);

/* --seed S --runs N --verbose; FERRY_SEED in the environment. */
struct sim_arguments {
	uint64_t seed;
	int runs;
	bool verbose;
};
bool sim_arguments(int argc, char **argv, struct sim_arguments *a);
/* Runs with seeds a->seed, +1, ... until one fails; prints what and how to
 * replay. Gives the number of failures (0 or 1). */
int sim_run_many(const struct sim_arguments *a, struct sim_options options, const char *what);

#endif
