/* Scopes that take long to come, and people who write there at once: what they made stays as they wrote
 * it until its scope is there, and is the hub's from then on. */
#include "tests/sim/sim_world.h"

static const struct sim_profile coming = {
	.name = "coming", .agents_min = 2, .agents_max = 5, .hubs_max = 3, .poll_us = 400 * SIM_MS, .busy_us = 600 * (int64_t)SIM_S,
	.pause_us = 10 * SIM_S, .keys = KEYS_MAX, .insert_percent = 25, .delete_percent = 8, .trouble_per_mille = 200,
	.twin_per_mille = 50, .fill_us = 2 * SIM_S, .eager_edits = 12,
	.weights = {[TROUBLE_CUT] = 15, [TROUBLE_LINGER] = 5, [TROUBLE_AGENT_CRASH] = 15, [TROUBLE_HUB_CRASH] = 8,
		    [TROUBLE_AWAY] = 5, [TROUBLE_LOCK] = 5, [TROUBLE_RESCOPE] = 40},
	.drawn_per_mille = 250,
	.drawn = {[TROUBLE_COPY] = 8, [TROUBLE_PUT_BACK] = 4, [TROUBLE_POWER] = 8, [TROUBLE_SCHEMA] = 6},
};

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1, .runs = SIM_RUNS(30)};
	struct sim_options options = {.profile = &coming, .sqlite = true};
	if (!sim_arguments(argc, argv, &a))
		return 2;
	return sim_run_many(&a, options, "scopes that come, replicas on SQLite");
}
