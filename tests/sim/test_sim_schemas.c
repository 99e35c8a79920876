/* The schema changes while devices with unsent work are away: columns and a table come, go, get other
 * names, places and types. What was written under an earlier schema is translated, or refused and kept. */
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(60)};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_both(a, (struct sim_options){.profile = &profile_schemas}, "changed schemas");
}
