/* Connections between agents and hubs: ordered within themselves, delayed,
 * cut with or without a word, and side by side: an old one may still deliver
 * when a new one is up, and a doubled one tells another hub the same. */
#include "tests/sim/sim_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/envelope.h"

struct delivery {
	struct conn *conn;
	bool close;
	size_t n;
	uint8_t bytes[];
};

static void drop_hub_side(struct conn *c)
{
	if (!c->hub_open)
		return;
	c->hub_open = false;
	if (c->hub->running && c->hub_generation == c->hub->generation)
		hub_core_closed(c->hub->core, c->session);
}

static void drop_agent_side(struct conn *c, const char *reason)
{
	if (!c->agent_open)
		return;
	c->agent_open = false;
	if (c->agent->conn == c)
		c->agent->conn = NULL;
	if (c->agent->running)
		agent_core_link_down(c->agent->core, reason);
}

static void notice_hub_side(void *unused, void *arg)
{
	(void)unused;
	drop_hub_side(((struct delivery *)arg)->conn);
}

static void notice_agent_side(void *unused, void *arg)
{
	(void)unused;
	drop_agent_side(((struct delivery *)arg)->conn, "connection reset");
}

static void notice_later(struct world *w, struct conn *c, sim_event_fn fn)
{
	struct delivery d = {.conn = c};
	sim_at(&w->sim, w->sim.now + sim_delay(&w->sim), NULL, fn, NULL, sim_dup(&d, sizeof d));
}

void net_notice_hub_later(struct world *w, struct conn *c)
{
	notice_later(w, c, notice_hub_side);
}

/* Each side may hear of it soon or, half-open, not at all. */
void net_cut(struct world *w, struct conn *c)
{
	c->up.cut = c->down.cut = true;
	w->outcome.cuts++;
	sim_log(&w->sim, "agent %d: link cut", c->agent->number);
	if (!sim_chance(&w->sim, 250))
		notice_later(w, c, notice_hub_side);
	if (!sim_chance(&w->sim, 250))
		notice_later(w, c, notice_agent_side);
}

/* The agent sees it broken and comes back on another, while a router still
 * holds what it had sent, and lets it go up to a minute later. */
void net_linger(struct world *w, struct conn *c)
{
	sim_log(&w->sim, "agent %d: its link lingers", c->agent->number);
	w->outcome.cuts++;
	c->up.held_until = w->sim.now + sim_range(&w->sim, 0, 60 * SIM_S);
	c->down.cut = true;
	notice_later(w, c, notice_agent_side);
}

static void deliver_up(void *ctx, void *arg)
{
	struct world *w = ctx;
	struct delivery *d = arg;
	struct conn *c = d->conn;
	if (w->sim.now < c->up.held_until) {
		sim_at(&w->sim, c->up.held_until, NULL, deliver_up, w, sim_dup(d, sizeof *d + d->n));
		return;
	}
	c->up.queued -= d->n;
	if (c->up.cut || !c->hub_open || c->hub_generation != c->hub->generation)
		return;
	if (d->close)
		drop_hub_side(c);
	else
		hub_core_message(c->hub->core, c->session, d->bytes, d->n);
	if (c->agent_open && c->agent->running && c->up.queued == 0)
		agent_core_drained(c->agent->core);
	if (world_chance(w, 4))
		net_cut(w, c);
}

static void deliver_down(void *ctx, void *arg)
{
	struct world *w = ctx;
	struct delivery *d = arg;
	struct conn *c = d->conn;
	c->down.queued -= d->n;
	if (!c->down.cut && c->agent_open) {
		if (d->close)
			drop_agent_side(c, "the hub closed the link");
		else
			agent_core_message(c->agent->core, d->bytes, d->n);
	} else if (!c->is_twin) {
		return;
	}
	if (c->hub_open && c->hub_generation == c->hub->generation && c->down.queued == 0)
		hub_core_drained(c->hub->core, c->session);
	if (world_chance(w, 4))
		net_cut(w, c);
}

static void put(struct world *w, struct conn *c, bool down, const uint8_t *bytes, size_t n, bool closes)
{
	struct direction *dir = down ? &c->down : &c->up;
	struct delivery *d = sim_alloc(sizeof *d + n);
	int64_t at = w->sim.now + sim_delay(&w->sim);
	if (at <= dir->last_at)
		at = dir->last_at + 1;
	dir->last_at = at;
	dir->queued += n;
	d->conn = c;
	d->close = closes;
	d->n = n;
	if (n)
		memcpy(d->bytes, bytes, n);
	sim_at(&w->sim, at, NULL, down ? deliver_down : deliver_up, w, d);
}

static void log_set(struct world *w, const struct change_set *set)
{
	for (uint32_t i = 0; w->sim.verbose && i < set->block_count; i++)
		for (uint32_t r = 0; r < set->blocks[i].row_count; r++) {
			const struct block *b = &set->blocks[i];
			char text[200] = "";
			for (uint16_t c = 0; c < b->column_count; c++) {
				int64_t cell = 0;
				(void)sim_cell(b->table, b->nums[c], &b->cells[(size_t)c * b->row_count + r], &cell);
				size_t n = strlen(text);
				(void)snprintf(text + n, sizeof text - n, " %u=%lld", b->nums[c], (long long)cell);
			}
			sim_log(&w->sim, "  number %lld of %.3f step %lld: op %d row %d%s", (long long)set->number, (double)(set->at - SIM_EPOCH_US) / SIM_S, (long long)set->step, (int)b->op,
				sim_key_number(&b->keys[r]), text);
		}
}

/* Reads what passes, for the checker and the log. */
static void tap(struct world *w, const struct conn *c, bool down, const uint8_t *bytes, size_t n)
{
	struct arena arena;
	struct buffer scratch;
	const uint8_t *plain;
	size_t plain_n;
	struct message m;
	struct ferry_why why = {0};
	arena_init(&arena, 64u << 20);
	buffer_init(&scratch, 4u << 20);
	if (packer_unpack(w->packer, bytes, n, &scratch, &plain, &plain_n, &why) ||
	    message_decode(&arena, plain, plain_n, &m, &why)) {
		sim_fail(&w->sim, "a message cannot be read: %s", why.text);
	} else {
		sim_log(&w->sim, "agent %d %s hub %d%s: %s (%zu bytes)%s%s", c->agent->number, down ? "<-" : "->",
			c->hub->number, c->is_twin ? " (doubled)" : "", message_type_name((int)m.type), n,
			m.type == MESSAGE_ERROR ? " " : "",
			m.type == MESSAGE_ERROR && m.error.sentence ? m.error.sentence : "");
		if (m.type == MESSAGE_DELTA)
			sim_log(&w->sim, "  %s from %lld to %lld, %u blocks", m.delta.scope, (long long)m.delta.from,
				(long long)m.delta.to, m.delta.block_count);
		for (uint32_t i = 0; down && m.type == MESSAGE_ACK && i < m.ack.settled_count; i++)
			checker_acked(w->checker, c->line, &m.ack.settled[i]);
		for (uint32_t i = 0; !down && m.type == MESSAGE_PUSH && i < m.push.set_count; i++) {
			log_set(w, &m.push.sets[i]);
			checker_offered(w->checker, c->line, &m.push.sets[i]);
		}
		if (!down && m.type == MESSAGE_HELLO)
			checker_proposed(w->checker, c->line, m.hello.next_mark);
		if (m.type == MESSAGE_ERROR && ferry_error_class(m.error.code) == FERRY_CLASS_PEER && !c->is_twin)
			sim_fail(&w->sim, "%s says the other broke the protocol: %s %s", down ? "the hub" : "an agent",
				 ferry_error_name(m.error.code), m.error.sentence ? m.error.sentence : "");
	}
	arena_deinit(&arena);
	buffer_deinit(&scratch);
}

void net_send(struct world *w, struct conn *c, bool down, const uint8_t *bytes, size_t n)
{
	tap(w, c, down, bytes, n);
	put(w, c, down, bytes, n, false);
	if (!down && c->twin)
		put(w, c->twin, false, bytes, n, false);
}

void net_close(struct world *w, struct conn *c, bool down)
{
	put(w, c, down, NULL, 0, true);
	if (!down && c->twin)
		put(w, c->twin, false, NULL, 0, true);
}

void net_drop_hub(struct world *w, struct hub *h)
{
	for (struct conn *c = w->conns; c; c = c->next)
		if (c->hub == h && c->hub_open) {
			c->hub_open = false;
			put(w, c, true, NULL, 0, true);
		}
}

void net_forget(struct world *w)
{
	for (struct conn *c = w->conns; c; c = c->next) {
		if (c->agent_open && !c->down.cut)
			notice_later(w, c, notice_agent_side);
		c->up.cut = c->down.cut = true;
	}
}

static struct conn *conn_open(struct agent *a, struct hub *h)
{
	struct world *w = a->world;
	struct conn *c = sim_alloc(sizeof *c);
	uint8_t fingerprint[32];
	*c = (struct conn){.next = w->conns, .agent = a, .line = a->line, .hub = h, .hub_generation = h->generation, .hub_open = true};
	w->conns = c;
	w->outcome.links++;
	model_db_fingerprint(a->number, fingerprint);
	c->session = hub_core_open(h->core, c, fingerprint);
	return c;
}

static struct hub *some_hub(struct world *w)
{
	return &w->hubs[sim_range(&w->sim, 0, w->hub_count - 1)];
}

static void connect_done(void *ctx, void *arg)
{
	struct agent *a = ctx;
	struct world *w = a->world;
	struct hub *h = some_hub(w), *other = some_hub(w);
	(void)arg;
	if (!h->running || w->network_down || w->sim.now < a->away_until || world_chance(w, 50)) {
		agent_core_link_down(a->core, "connection refused");
		return;
	}
	struct conn *c = conn_open(a, h);
	c->agent_open = true;
	a->conn = c;
	if (other != h && other->running && world_chance(w, w->profile->twin_per_mille)) {
		c->twin = conn_open(a, other);
		c->twin->is_twin = true;
	}
	agent_core_link_up(a->core);
}

void net_connect(struct agent *a)
{
	sim_at(&a->world->sim, a->world->sim.now + sim_delay(&a->world->sim), &a->generation, connect_done, a, NULL);
}

void net_free(struct world *w)
{
	while (w->conns) {
		struct conn *next = w->conns->next;
		free(w->conns);
		w->conns = next;
	}
}
