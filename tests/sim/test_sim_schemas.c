/* The schema changes while devices with unsent work are away: columns and a table come, go, get other
 * names, places and types. What was written under an earlier schema is translated, or refused and kept. */
#include <stdio.h>
#include <unistd.h>

#include "tests/lib/temp_folder.h"
#include "tests/sim/real_replica.h"
#include "tests/sim/sim_world.h"

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(60)};
	struct sim_options options = {.profile = &profile_schemas};
	char folder[200];
	if (!sim_arguments(argc, argv, &a))
		return 2;
	int failures = sim_run_many(&a, options, "changed schemas");
	if (!temp_folder("sim", folder, sizeof folder)) {
		perror(folder);
		return 2;
	}
	options.new_replica = real_replica_new;
	options.replica_ctx = folder;
	a.runs = (a.runs + 9) / 10;
	failures += sim_run_many(&a, options, "changed schemas, replicas on SQLite");
	(void)rmdir(folder);
	return failures > 0;
}
