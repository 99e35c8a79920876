/* Replicas that are put back from older copies, and copies of one replica on two machines, at one hub
 * and at several: no number means two things, nothing takes effect twice, and what a copy wrote
 * that was turned away, or under numbers that another has used, is kept there. */
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(60)};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_both(a, (struct sim_options){.profile = &profile_copies}, "copies of devices");
}
