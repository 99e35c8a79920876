/* Hubs restored from backups, with the product's own replica, which keeps what
 * a restored hub may need (R18); and a hub that hides its loss is found out. */
#include <stdio.h>

#include "tests/sim/sim_world.h"

#define SEEDS_MAX 10

/* The planted bug. */
static bool says_that_it_has_what_it_lost_P8(const struct sim_arguments *a, struct sim_options options)
{
	options.hub_faults.hide_loss = true;
	for (int i = 0; i < SEEDS_MAX; i++) {
		options.seed = a->seed + (uint64_t)i;
		struct sim_outcome o = sim_run(&options);
		if (o.failed) {
			printf("found a hub that hides its loss with seed %llu: %s\n", (unsigned long long)options.seed, o.failure);
			return true;
		}
	}
	printf("NOT FOUND within %d seeds from %llu: a hub that hides its loss\n", SEEDS_MAX, (unsigned long long)a->seed);
	return false;
}

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(8)};
	struct sim_options options = {.sqlite = true, .profile = &profile_restores};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	int failures = sim_run_many(&a, options, "hubs restored");
	return failures + !says_that_it_has_what_it_lost_P8(&a, options);
}
