/* Small fleets through hours of virtual time: long absences, wrong clocks,
 * locked rows, other scopes. Each seed is one run of an hour. */
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(500)};
	struct sim_options options = {.profile = &profile_hour};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_many(&a, options, "hours");
}
