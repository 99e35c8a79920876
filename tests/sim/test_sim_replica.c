/* The product's replica on SQLite, under the real engines of agent and hub,
 * in random fleets: agents are killed at any moment, apps write plain SQL. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/temp_folder.h"
#include "tests/sim/real_replica.h"
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(20)};
	struct sim_options options = {.new_replica = real_replica_new, .busy_us = 20 * (int64_t)SIM_S};
	char folder[200];
	if (!sim_arguments(argc, argv, &a))
		return 2;
	if (!temp_folder("sim", folder, sizeof folder)) {
		perror(folder);
		return 2;
	}
	options.replica_ctx = folder;
	int failures = sim_run_many(&a, options, "replicas on SQLite");
	(void)rmdir(folder);
	return failures;
}
