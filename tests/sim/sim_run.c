#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_world.h"

static const struct sim_profile *profile_named(const char *name)
{
	static const struct sim_profile *const all[] = {&profile_busy, &profile_hour, &profile_fleet, &profile_restores,
							  &profile_clocks, &profile_copies, &profile_schemas};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return NULL;
}

bool sim_arguments(int argc, char **argv, struct sim_arguments *a)
{
	const char *seed = getenv("FERRY_SEED"), *runs = getenv("FERRY_SIM_RUNS");
	if (seed)
		a->seed = strtoull(seed, NULL, 0);
	if (runs)
		a->runs = (int)strtol(runs, NULL, 10);
	a->program = argv[0];
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--verbose") == 0) {
			a->verbose = true;
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			a->seed = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc) {
			a->runs = (int)strtol(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--profile") == 0 && i + 1 < argc && profile_named(argv[i + 1])) {
			a->profile = profile_named(argv[++i]);
		} else {
			fprintf(stderr, "usage: %s [--seed S] [--runs N] [--profile busy|hour|fleet|restores|clocks|copies|schemas] [--verbose]\n", argv[0]);
			return false;
		}
	}
	return true;
}

static void add_outcome(struct sim_outcome *sum, const struct sim_outcome *o)
{
	sum->counts.edits += o->counts.edits;
	sum->counts.commits += o->counts.commits;
	sum->counts.settled += o->counts.settled;
	sum->counts.rejected += o->counts.rejected;
	sum->counts.conflicts += o->counts.conflicts;
	sum->counts.states_compared += o->counts.states_compared;
	sum->counts.tallies += o->counts.tallies;
	sum->counts.regained += o->counts.regained;
	sum->counts.clocks_compared += o->counts.clocks_compared;
	for (int i = 0; i < TROUBLES; i++)
		sum->troubles[i] += o->troubles[i];
	sum->links += o->links;
	sum->cuts += o->cuts;
	sum->agent_crashes += o->agent_crashes;
	sum->hub_crashes += o->hub_crashes;
	sum->fills += o->fills;
	sum->turned_away += o->turned_away;
	sum->comparisons += o->comparisons;
	sum->events += o->events;
	sum->virtual_us += o->virtual_us - 1000 * (int64_t)SIM_S;
}

int sim_run_many(const struct sim_arguments *a, struct sim_options options, const char *what)
{
	struct sim_outcome sum = {0};
	options.verbose = a->verbose;
	if (a->profile) {
		options.profile = a->profile;
		options.busy_us = 0;
	}
	for (int i = 0; i < a->runs; i++) {
		options.seed = a->seed + (uint64_t)i;
		struct sim_outcome o = sim_run(&options);
		add_outcome(&sum, &o);
		if (o.failed) {
			printf("%s: seed %llu failed: %s\nreplay: %s --seed %llu --runs 1%s%s --verbose\n", what,
			       (unsigned long long)options.seed, o.failure, a->program, (unsigned long long)options.seed,
			       a->profile ? " --profile " : "", a->profile ? a->profile->name : "");
			return 1;
		}
	}
	printf("%s: %d runs from seed %llu: %.0f virtual minutes, %llu events, %d links, %d cuts, %d agent and %d hub "
	       "crashes, %d clock jumps and %d of hubs, %d absences, %d locks, %d changes of scopes, %d restores, %d copies put back, %d powers lost, %d clones, %d copies turned away, %d changes of the schema, %d fills, %d comparisons; %d edits, %d settled, "
	       "%d rejected, %d conflicts, %d regained, %d replica states, %d tallies and %d pairs of times compared\n",
	       what, a->runs, (unsigned long long)a->seed, (double)sum.virtual_us / 60e6, (unsigned long long)sum.events,
	       sum.links, sum.cuts, sum.agent_crashes, sum.hub_crashes, sum.troubles[TROUBLE_CLOCK], sum.troubles[TROUBLE_HUB_CLOCK],
	       sum.troubles[TROUBLE_AWAY], sum.troubles[TROUBLE_LOCK], sum.troubles[TROUBLE_RESCOPE], sum.troubles[TROUBLE_RESTORE],
	       sum.troubles[TROUBLE_PUT_BACK], sum.troubles[TROUBLE_POWER], sum.troubles[TROUBLE_CLONE], sum.turned_away, sum.troubles[TROUBLE_SCHEMA], sum.fills, sum.comparisons,
	       sum.counts.edits, sum.counts.settled, sum.counts.rejected, sum.counts.conflicts, sum.counts.regained, sum.counts.states_compared, sum.counts.tallies,
	       sum.counts.clocks_compared);
	return 0;
}

int sim_run_both(struct sim_arguments a, struct sim_options options, const char *what)
{
	char on_sqlite[100];
	int failures = sim_run_many(&a, options, what);
	(void)snprintf(on_sqlite, sizeof on_sqlite, "%s, replicas on SQLite", what);
	options.sqlite = true;
	a.runs = (a.runs + 9) / 10;
	return failures + sim_run_many(&a, options, on_sqlite);
}
