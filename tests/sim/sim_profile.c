#include "tests/sim/sim_profile.h"

#include "tests/sim/sim_data.h"
#include "tests/sim/sim.h"

#include <string.h>

const struct sim_profile profile_busy = {
	.name = "busy", .agents_min = 1, .agents_max = 4, .hubs_max = 2, .busy_us = 40 * (int64_t)SIM_S,
	.pause_us = 300 * SIM_MS, .keys = KEYS_MAX, .insert_percent = 20, .delete_percent = 10, .trouble_per_mille = 60,
	.twin_per_mille = 50,
	.weights = {[TROUBLE_CUT] = 25, [TROUBLE_LINGER] = 5, [TROUBLE_AGENT_CRASH] = 25, [TROUBLE_HUB_CRASH] = 20,
		    [TROUBLE_CLOCK] = 10, [TROUBLE_OUTAGE] = 8, [TROUBLE_AWAY] = 4, [TROUBLE_PRUNE] = 5, [TROUBLE_LOCK] = 5,
		    [TROUBLE_RESCOPE] = 3},
};

const struct sim_profile profile_hour = {
	.name = "hour", .agents_min = 2, .agents_max = 8, .hubs_max = 3, .poll_us = 400 * SIM_MS, .busy_us = 3600 * (int64_t)SIM_S,
	.pause_us = 20 * SIM_S, .keys = KEYS_MAX, .insert_percent = 14, .delete_percent = 5, .trouble_per_mille = 150,
	.twin_per_mille = 50,
	.weights = {[TROUBLE_CUT] = 20, [TROUBLE_LINGER] = 8, [TROUBLE_AGENT_CRASH] = 20, [TROUBLE_HUB_CRASH] = 12,
		    [TROUBLE_CLOCK] = 15, [TROUBLE_OUTAGE] = 5, [TROUBLE_AWAY] = 15, [TROUBLE_PRUNE] = 3, [TROUBLE_LOCK] = 8,
		    [TROUBLE_RESCOPE] = 5},
	.drawn_per_mille = 400, .restored_per_mille = 80,
	.drawn = {[TROUBLE_COPY] = 12, [TROUBLE_PUT_BACK] = 6, [TROUBLE_CLONE] = 3, [TROUBLE_POWER] = 8, [TROUBLE_SCHEMA] = 8,
		  [TROUBLE_BACKUP] = 9, [TROUBLE_RESTORE] = 6},
};

const struct sim_profile profile_fleet = {
	.name = "fleet", .agents_min = 50, .agents_max = DEVICES_MAX, .hubs_max = HUBS_MAX, .poll_us = 400 * SIM_MS, .busy_us = 900 * (int64_t)SIM_S,
	.pause_us = 2 * SIM_S, .keys = KEYS_MAX, .insert_percent = 14, .delete_percent = 5, .trouble_per_mille = 300,
	.twin_per_mille = 20,
	.weights = {[TROUBLE_CUT] = 30, [TROUBLE_LINGER] = 10, [TROUBLE_AGENT_CRASH] = 25, [TROUBLE_HUB_CRASH] = 3,
		    [TROUBLE_CLOCK] = 15, [TROUBLE_OUTAGE] = 1, [TROUBLE_AWAY] = 25, [TROUBLE_PRUNE] = 1, [TROUBLE_LOCK] = 4,
		    [TROUBLE_RESCOPE] = 3},
};

const struct sim_profile profile_restores = {
	.name = "restores", .agents_min = 1, .agents_max = 4, .hubs_max = 2, .busy_us = 120 * (int64_t)SIM_S,
	.pause_us = 2 * SIM_S, .keys = KEYS_MAX, .insert_percent = 20, .delete_percent = 5, .trouble_per_mille = 200,
	.twin_per_mille = 20,
	.weights = {[TROUBLE_CUT] = 20, [TROUBLE_LINGER] = 5, [TROUBLE_AGENT_CRASH] = 15, [TROUBLE_HUB_CRASH] = 10,
		    [TROUBLE_OUTAGE] = 5, [TROUBLE_AWAY] = 10, [TROUBLE_BACKUP] = 12, [TROUBLE_RESTORE] = 12},
};

const struct sim_profile profile_clocks = {
	.name = "clocks", .agents_min = 1, .agents_max = 6, .hubs_max = 3, .poll_us = 400 * SIM_MS, .busy_us = 600 * (int64_t)SIM_S,
	.pause_us = 5 * SIM_S, .keys = KEYS_MAX, .insert_percent = 20, .delete_percent = 8, .trouble_per_mille = 200,
	.twin_per_mille = 20,
	.weights = {[TROUBLE_CUT] = 20, [TROUBLE_LINGER] = 5, [TROUBLE_AGENT_CRASH] = 15, [TROUBLE_HUB_CRASH] = 15,
		    [TROUBLE_CLOCK] = 20, [TROUBLE_HUB_CLOCK] = 25, [TROUBLE_OUTAGE] = 5, [TROUBLE_AWAY] = 10, [TROUBLE_RESCOPE] = 3},
};

const struct sim_profile profile_copies = {
	.name = "copies", .agents_min = 1, .agents_max = 3, .hubs_max = 3, .poll_us = 400 * SIM_MS, .busy_us = 240 * (int64_t)SIM_S,
	.pause_us = 2 * SIM_S, .keys = KEYS_MAX, .insert_percent = 20, .delete_percent = 8, .trouble_per_mille = 200,
	.twin_per_mille = 50,
	.weights = {[TROUBLE_CUT] = 20, [TROUBLE_LINGER] = 10, [TROUBLE_AGENT_CRASH] = 10, [TROUBLE_HUB_CRASH] = 5,
		    [TROUBLE_CLOCK] = 3, [TROUBLE_OUTAGE] = 5, [TROUBLE_AWAY] = 10, [TROUBLE_LOCK] = 5, [TROUBLE_RESCOPE] = 3,
		    [TROUBLE_COPY] = 25, [TROUBLE_PUT_BACK] = 15, [TROUBLE_CLONE] = 8, [TROUBLE_POWER] = 15},
};

const struct sim_profile profile_schemas = {
	.name = "schemas", .agents_min = 1, .agents_max = 4, .hubs_max = 3, .poll_us = 400 * SIM_MS, .busy_us = 300 * (int64_t)SIM_S,
	.pause_us = 2 * SIM_S, .keys = KEYS_MAX, .insert_percent = 20, .delete_percent = 8, .trouble_per_mille = 150,
	.twin_per_mille = 20,
	.weights = {[TROUBLE_CUT] = 20, [TROUBLE_LINGER] = 10, [TROUBLE_AGENT_CRASH] = 15, [TROUBLE_HUB_CRASH] = 10,
		    [TROUBLE_CLOCK] = 3, [TROUBLE_OUTAGE] = 5, [TROUBLE_AWAY] = 25, [TROUBLE_PRUNE] = 1, [TROUBLE_LOCK] = 5,
		    [TROUBLE_RESCOPE] = 4, [TROUBLE_SCHEMA] = 25},
};

enum { COPIES = 1, SCHEMAS, RESTORES, GROUPS };

static const int groups[TROUBLES] = {[TROUBLE_COPY] = COPIES, [TROUBLE_PUT_BACK] = COPIES, [TROUBLE_CLONE] = COPIES, [TROUBLE_POWER] = COPIES,
				     [TROUBLE_SCHEMA] = SCHEMAS, [TROUBLE_BACKUP] = RESTORES, [TROUBLE_RESTORE] = RESTORES};

void profile_draw(const struct sim_profile *p, struct sim *sim, int out_weights[TROUBLES])
{
	bool comes[GROUPS] = {false};
	memcpy(out_weights, p->weights, sizeof p->weights);
	for (int group = 1; p->drawn_per_mille > 0 && group < GROUPS; group++)
		comes[group] = sim_chance(sim, group == RESTORES ? p->restored_per_mille : p->drawn_per_mille);
	/* With an earlier database an earlier schema comes back: what a device says of a column or a table that
	 * the hub has no more is kept on the device, and the judge does not follow that yet. */
	comes[SCHEMAS] = comes[SCHEMAS] && !comes[RESTORES];
	for (int i = 0; i < TROUBLES; i++)
		out_weights[i] += comes[groups[i]] ? p->drawn[i] : 0;
}
