/* Hundreds of devices against several hubs. */
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(3)};
	struct sim_options options = {.profile = &profile_fleet};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_many(&a, options, "large fleets");
}
