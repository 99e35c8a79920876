/* What goes wrong, as often as the profile says. */
#include "tests/sim/sim_inner.h"

#include <string.h>

static void network_back(void *ctx, void *arg)
{
	(void)arg;
	((struct world *)ctx)->network_down = false;
}

static void outage(struct world *w)
{
	w->network_down = true;
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, SIM_S, 10 * SIM_S), NULL, network_back, w, NULL);
}

/* Days off, decades off, 1970, 2038, or right again. */
static void set_clock(struct world *w, int64_t *skew, const char *whose, int number)
{
	int64_t now = SIM_EPOCH_US + w->sim.now;
	switch (sim_range(&w->sim, 0, 5)) {
	case 0:
		*skew = 0;
		break;
	case 1:
		*skew = -now;
		break;
	case 2:
		*skew = (INT64_C(1) << 31) * SIM_S - now;
		break;
	case 3:
		*skew = sim_range(&w->sim, -1000000000, 1000000000) * SIM_S;
		break;
	default:
		*skew += sim_range(&w->sim, -1000000, 1000000) * SIM_S;
	}
	*skew = *skew < -now ? -now : *skew; /* before 1970 it would stand still: nobody could tell when edits were made */
	sim_log(&w->sim, "%s %d: its clock jumps, %.0f s off", whose, number, (double)*skew / SIM_S);
}

static void away(struct world *w, struct agent *a)
{
	a->away_until = w->sim.now + sim_range(&w->sim, 0, w->profile->busy_us / 4);
	sim_log(&w->sim, "agent %d is away until %.0f", a->number, (double)a->away_until / SIM_S);
	if (a->conn)
		net_cut(w, a->conn);
}

static void lock_rows(struct world *w, int64_t until)
{
	int count = (int)sim_range(&w->sim, 1, 4);
	for (int i = 0; i < count && w->next_key > 0; i++)
		model_db_lock(w->db, (int)sim_range(&w->sim, 0, w->next_key - 1), until);
	if (w->tallies > 0 && sim_chance(&w->tally_dice, 300))
		model_db_lock(w->db, KEYS_MAX - (int)sim_range(&w->tally_dice, 1, w->tallies), until);
}

static void write_eagerly(void *ctx, void *arg)
{
	struct agent *a = ctx;
	(void)arg;
	if (!a->world->sim.calm)
		people_edit_on_device(a->world, a);
}

static void rescope(struct world *w, struct agent *a)
{
	if (a->rescoped == RESCOPES_MAX)
		return;
	a->rescoped++;
	for (int s = 1; s < SCOPES; s++)
		a->scopes[s] = sim_chance(&w->sim, 600);
	a->scopes[sim_range(&w->sim, 1, PROJECTS)] = true;
	for (int i = 0; i < w->agent_count; i++)
		if (w->agents[i].number == a->number) {
			memcpy(w->agents[i].scopes, a->scopes, sizeof a->scopes);
			w->agents[i].rescoped = a->rescoped;
		}
	model_db_device(w->db, a->number, a->scopes);
	sim_log(&w->sim, "agent %d gets other scopes", a->number);
	for (int i = 0; i < w->profile->eager_edits; i++)
		sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 1, 12 * (int64_t)SIM_S), NULL, write_eagerly, a, NULL);
}

/* Nothing of the lost history is under way any more when the hubs come back. */
static void restore(struct world *w)
{
	for (int i = 0; i < w->hub_count; i++)
		if (w->hubs[i].running)
			hub_crash(w, &w->hubs[i]);
	net_forget(w);
	int64_t position = model_db_restore(w->db);
	if (position >= 0)
		checker_rewind(w->checker, position);
}

static enum trouble choose(struct world *w)
{
	int sum = 0, what = 0;
	for (int i = 0; i < TROUBLES; i++)
		sum += w->weights[i];
	for (int64_t dice = sim_range(&w->sim, 0, sum - 1); dice >= w->weights[what]; what++)
		dice -= w->weights[what];
	return (enum trouble)what;
}

static void on_link(struct world *w, struct agent *a, void (*harm)(struct world *, struct conn *))
{
	if (a->conn)
		harm(w, a->conn);
}

void trouble_strike(struct world *w)
{
	struct agent *a = &w->agents[sim_range(&w->sim, 0, w->agent_count - 1)];
	struct hub *h = &w->hubs[sim_range(&w->sim, 0, w->hub_count - 1)];
	enum trouble what = choose(w);
	w->outcome.troubles[what]++;
	switch (what) {
	case TROUBLE_CUT:
		on_link(w, a, net_cut);
		break;
	case TROUBLE_LINGER:
		on_link(w, a, net_linger);
		break;
	case TROUBLE_AGENT_CRASH:
		if (a->running)
			agent_crash(w, a);
		break;
	case TROUBLE_HUB_CRASH:
		if (h->running)
			hub_crash(w, h);
		break;
	case TROUBLE_CLOCK:
		set_clock(w, &a->skew, "agent", a->number);
		break;
	case TROUBLE_HUB_CLOCK:
		set_clock(w, &h->skew, "hub", h->number);
		checker_hub_clock(w->checker);
		break;
	case TROUBLE_OUTAGE:
		outage(w);
		break;
	case TROUBLE_AWAY:
		away(w, a);
		break;
	case TROUBLE_PRUNE:
		model_db_prune(w->db);
		break;
	case TROUBLE_LOCK:
		lock_rows(w, w->sim.now + sim_range(&w->sim, SIM_S, w->profile->busy_us / 10));
		break;
	case TROUBLE_BACKUP:
		model_db_backup(w->db);
		break;
	case TROUBLE_RESTORE:
		restore(w);
		break;
	case TROUBLE_RESCOPE:
		rescope(w, a);
		break;
	case TROUBLE_COPY:
		copies_back_up(w, a);
		break;
	case TROUBLE_PUT_BACK:
		copies_put_back(w, a);
		break;
	case TROUBLE_CLONE:
		copies_clone(w, a);
		break;
	case TROUBLE_POWER:
		copies_power_loss(w, a);
		break;
	case TROUBLE_SCHEMA:
		(void)model_db_migrate(w->db, 1u << sim_range(&w->sim, 0, CHANGES - 1));
		break;
	case TROUBLES:
		break;
	}
}

void trouble_forgotten_transaction(struct world *w, int64_t until)
{
	lock_rows(w, until);
}
