/* Replicas that are put back from older copies, and copies of one replica on two machines, at one hub
 * and at several: no number means two things, nothing takes effect twice, and what a copy wrote
 * that was turned away, or under numbers that another has used, is kept there. */
#include <stdio.h>
#include <unistd.h>

#include "tests/lib/temp_folder.h"
#include "tests/sim/real_replica.h"
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(60)};
	struct sim_options options = {.profile = &profile_copies};
	char folder[200];
	if (!sim_arguments(argc, argv, &a))
		return 2;
	int failures = sim_run_many(&a, options, "copies of devices");
	if (!temp_folder("sim", folder, sizeof folder)) {
		perror(folder);
		return 2;
	}
	options.new_replica = real_replica_new;
	options.replica_ctx = folder;
	a.runs = (a.runs + 9) / 10;
	failures += sim_run_many(&a, options, "copies of replicas on SQLite");
	(void)rmdir(folder);
	return failures > 0;
}
