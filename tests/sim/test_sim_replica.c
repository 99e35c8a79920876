/* The product's replica on SQLite, under the real engines of agent and hub,
 * in random fleets: agents are killed at any moment, apps write plain SQL. */
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(20)};
	struct sim_options options = {.sqlite = true, .busy_us = 20 * (int64_t)SIM_S};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_many(&a, options, "replicas on SQLite");
}
