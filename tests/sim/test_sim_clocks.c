/* Clocks of hubs and devices that jump: to 1970, to 2038, by days and by decades. Which of two edits
 * is the later one nobody knows then; nothing gets stuck, lost or different for it. */
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(150)};
	struct sim_options options = {.profile = &profile_clocks};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_many(&a, options, "clocks of hubs and devices");
}
