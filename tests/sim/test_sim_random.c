/* Random fleets against random trouble: each seed is one run. */
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(400)};
	struct sim_options options = {0};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_many(&a, options, "random fleets");
}
