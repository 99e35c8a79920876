/* Copies of a device's replica: an older one is put back, or a second machine goes on with one. The
 * hub turns away whoever comes with a mark of the past; then people remove that copy or release it. */
#include "tests/sim/sim_inner.h"

#include <stdlib.h>
#include <string.h>

void copies_back_up(struct world *w, struct agent *a)
{
	if (w->copies == COPIES_MAX)
		return;
	if (a->has_copy) {
		a->copy.free(a->copy.store);
		checker_gone(w->checker, a->copy_line);
	}
	w->copies++;
	a->has_copy = true;
	a->copy = a->replica.copy(a->replica.store, &a->skew);
	a->copy_line = checker_copied(w->checker, a->line);
	sim_log(&w->sim, "agent %d: its replica %d is copied, as %d", a->number, a->line, a->copy_line);
}

/* The machine is lost; another goes on with the copy. What was under way still arrives. */
void copies_put_back(struct world *w, struct agent *a)
{
	if (!a->has_copy)
		return;
	if (a->running)
		agent_kill(w, a);
	a->replica.free(a->replica.store);
	checker_gone(w->checker, a->line);
	sim_log(&w->sim, "agent %d: copy %d is put back for %d", a->number, a->copy_line, a->line);
	a->replica = a->copy;
	a->line = a->copy_line;
	a->has_copy = a->shut = a->wanted = a->uncut = false;
	a->copied = true;
	checker_open(w->checker, a->line);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, SIM_S, 20 * SIM_S), NULL, agent_start, a, NULL);
}

static void power_lost(void *ctx, void *arg)
{
	struct agent *a = ctx;
	if (a->contacts == *(int *)arg)
		copies_put_back(a->world, a);
}

/* What the disk holds then is the replica of up to some seconds before: commits are only ordered there
 * (synchronous=NORMAL), also those that the hub has heard of. A contact's mark is synced, so it holds all before that. */
void copies_power_loss(struct world *w, struct agent *a)
{
	copies_back_up(w, a);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 0, 5 * SIM_S), NULL, power_lost, a, sim_dup(&a->contacts, sizeof a->contacts));
}

void copies_clone(struct world *w, struct agent *a)
{
	if (w->clones == CLONES_MAX || w->copies == COPIES_MAX)
		return;
	struct agent *clone = &w->agents[w->agent_count++];
	w->clones++;
	w->copies++;
	*clone = (struct agent){.world = w, .number = a->number, .skew = a->skew, .copied = true, .rescoped = a->rescoped};
	memcpy(clone->scopes, a->scopes, sizeof clone->scopes);
	clone->replica = a->replica.copy(a->replica.store, &clone->skew);
	clone->line = checker_copied(w->checker, a->line);
	checker_open(w->checker, clone->line);
	a->copied = true;
	sim_log(&w->sim, "agent %d: a second machine has a copy of its replica %d, as %d", a->number, a->line, clone->line);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 0, 20 * SIM_S), NULL, agent_start, clone, NULL);
}

/* Is there another copy of its device that was not turned away? */
static bool another_is_in(const struct agent *a)
{
	const struct world *w = a->world;
	for (int i = 0; i < w->agent_count; i++)
		if (&w->agents[i] != a && w->agents[i].number == a->number && !w->agents[i].shut)
			return true;
	return false;
}

static void try_again(void *ctx, void *arg)
{
	struct agent *a = ctx;
	(void)arg;
	a->shut = false;
	checker_open(a->world->checker, a->line);
	if (a->running)
		agent_core_start(a->core);
}

/* The hub releases whichever copy came last: so this one comes once more. */
static void decide(void *ctx, void *arg)
{
	struct agent *a = ctx;
	if (!a->shut || (another_is_in(a) && !world_chance(a->world, 300)))
		return; /* it stays as it is */
	a->wanted = true;
	try_again(a, arg);
}

void copies_turned_away(struct agent *a)
{
	if (a->shut)
		return;
	struct sim_state *visible = sim_alloc(sizeof *visible);
	a->shut = true;
	a->replica.visible(a->replica.store, visible);
	checker_shut(a->world->checker, a->line, visible);
	free(visible);
	a->world->outcome.turned_away++;
	sim_log(&a->world->sim, "agent %d: replica %d is turned away", a->number, a->line);
	if (a->wanted)
		model_db_release(a->world->db, a->number);
	sim_at(&a->world->sim, a->wanted ? 0 : a->world->sim.now + sim_range(&a->world->sim, SIM_S, 30 * SIM_S), NULL,
	       a->wanted ? try_again : decide, a, NULL);
	a->wanted = false;
}

void copies_free(struct world *w)
{
	for (int i = 0; i < w->agent_count; i++)
		if (w->agents[i].has_copy)
			w->agents[i].copy.free(w->agents[i].copy.store);
}
