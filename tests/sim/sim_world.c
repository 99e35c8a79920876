#include "tests/sim/sim_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/envelope.h"

#define QUIET_LIMIT_US (1200 * (int64_t)SIM_S) /* after the last fault all must be exchanged within */

struct world;
struct agent;
struct hub;

struct direction {
	int64_t last_at; /* deliveries keep their order */
	size_t queued;
	bool cut;        /* nothing arrives any more */
};

struct conn {
	struct conn *next;
	struct agent *agent;
	struct hub *hub;
	struct hub_session *session;
	uint64_t hub_generation;
	bool agent_open, hub_open;
	struct direction up, down;
};

struct hub {
	struct world *world;
	int number;
	bool running;
	uint64_t generation; /* counts its lives */
	uint64_t wake;       /* only the latest wish to be woken counts */
	struct model_store *store;
	struct hub_core *core;
};

struct agent {
	struct world *world;
	int number;
	bool running;
	uint64_t generation, wake;
	int64_t skew;  /* of its wall clock */
	struct sim_replica replica;
	struct agent_core *core;
	struct conn *conn;
	bool scopes[SCOPES];
};

struct world {
	struct sim sim;
	struct sim_options options;
	struct checker *checker;
	struct model_db *db;
	struct packer *packer; /* of the tap that reads what passes */
	struct hub hubs[HUBS_MAX];
	int hub_count;
	struct agent agents[DEVICES_MAX];
	int agent_count;
	struct conn *conns;
	bool network_down;
	struct agent_limits agent_limits;
	struct hub_limits hub_limits;
	int next_key;
	int64_t next_token;
	struct sim_outcome outcome;
};

struct delivery {
	struct conn *conn;
	bool close;
	size_t n;
	uint8_t bytes[];
};

static bool chance(struct world *w, int per_mille)
{
	return !w->sim.calm && !w->options.no_faults && sim_chance(&w->sim, per_mille);
}

/* The network. */

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

/* Each side may hear of it soon or, half-open, not at all. */
static void cut(struct world *w, struct conn *c)
{
	c->up.cut = c->down.cut = true;
	w->outcome.cuts++;
	sim_log(&w->sim, "agent %d: link cut", c->agent->number);
	if (!sim_chance(&w->sim, 250))
		notice_later(w, c, notice_hub_side);
	if (!sim_chance(&w->sim, 250))
		notice_later(w, c, notice_agent_side);
}

static void deliver_up(void *ctx, void *arg)
{
	struct world *w = ctx;
	struct delivery *d = arg;
	struct conn *c = d->conn;
	c->up.queued -= d->n;
	if (c->up.cut || !c->hub_open || c->hub_generation != c->hub->generation)
		return;
	if (d->close)
		drop_hub_side(c);
	else
		hub_core_message(c->hub->core, c->session, d->bytes, d->n);
	if (c->agent_open && c->agent->running && c->up.queued == 0)
		agent_core_drained(c->agent->core);
	if (chance(w, 4))
		cut(w, c);
}

static void deliver_down(void *ctx, void *arg)
{
	struct world *w = ctx;
	struct delivery *d = arg;
	struct conn *c = d->conn;
	c->down.queued -= d->n;
	if (c->down.cut || !c->agent_open)
		return;
	if (d->close)
		drop_agent_side(c, "the hub closed the link");
	else
		agent_core_message(c->agent->core, d->bytes, d->n);
	if (c->hub_open && c->hub_generation == c->hub->generation && c->down.queued == 0)
		hub_core_drained(c->hub->core, c->session);
	if (chance(w, 4))
		cut(w, c);
}

static void put(struct world *w, struct conn *c, struct direction *dir, sim_event_fn fn, const uint8_t *bytes, size_t n,
		bool closes)
{
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
	sim_at(&w->sim, at, NULL, fn, w, d);
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
		sim_log(&w->sim, "agent %d %s hub %d: %s (%zu bytes)%s%s", c->agent->number, down ? "<-" : "->",
			c->hub->number, message_type_name((int)m.type), n, m.type == MESSAGE_ERROR ? " " : "",
			m.type == MESSAGE_ERROR && m.error.sentence ? m.error.sentence : "");
		for (uint32_t i = 0; down && m.type == MESSAGE_ACK && i < m.ack.settled_count; i++)
			checker_acked(w->checker, c->agent->number, &m.ack.settled[i]);
		if (m.type == MESSAGE_ERROR && ferry_error_class(m.error.code) == FERRY_CLASS_PEER)
			sim_fail(&w->sim, "%s says the other broke the protocol: %s %s", down ? "the hub" : "an agent",
				 ferry_error_name(m.error.code), m.error.sentence ? m.error.sentence : "");
	}
	arena_deinit(&arena);
	buffer_deinit(&scratch);
}

/* Hubs. */

static void hub_send(void *shell, void *link, const uint8_t *bytes, size_t n)
{
	struct hub *h = shell;
	struct conn *c = link;
	tap(h->world, c, true, bytes, n);
	put(h->world, c, &c->down, deliver_down, bytes, n, false);
}

static size_t hub_queued(void *shell, void *link)
{
	(void)shell;
	return ((struct conn *)link)->down.queued;
}

/* As a real shell: what is queued leaves first, then both sides learn. */
static void hub_close(void *shell, void *link, int code, const char *sentence)
{
	struct hub *h = shell;
	struct conn *c = link;
	sim_log(&h->world->sim, "hub %d closes agent %d: %s %s", h->number, c->agent->number, ferry_error_name(code),
		sentence ? sentence : "");
	put(h->world, c, &c->down, deliver_down, NULL, 0, true);
	notice_later(h->world, c, notice_hub_side);
}

static int64_t hub_wall(void *shell)
{
	return 1700000000 * (int64_t)SIM_S + ((struct hub *)shell)->world->sim.now;
}

static int64_t hub_monotonic(void *shell)
{
	return ((struct hub *)shell)->world->sim.now;
}

static void hub_tick(void *ctx, void *arg)
{
	struct hub *h = ctx;
	if (h->running && *(uint64_t *)arg == h->wake)
		hub_core_tick(h->core);
}

static void hub_wake_at(void *shell, int64_t at)
{
	struct hub *h = shell;
	uint64_t wake = ++h->wake;
	sim_at(&h->world->sim, at <= h->world->sim.now ? h->world->sim.now + 1 : at, &h->generation, hub_tick, h,
	       sim_dup(&wake, sizeof wake));
}

static void hub_log(void *shell, int level, const struct uuid *tenant, const struct uuid *device, const char *text)
{
	struct hub *h = shell;
	(void)tenant;
	(void)device;
	sim_log(&h->world->sim, "hub %d log %d: %s", h->number, level, text);
}

static const struct hub_effects hub_effects = {
	.send = hub_send, .queued = hub_queued, .close = hub_close, .wall = hub_wall, .monotonic = hub_monotonic,
	.wake_at = hub_wake_at, .log = hub_log,
};

static void start_hub(void *ctx, void *arg)
{
	struct hub *h = ctx;
	(void)arg;
	if (h->running)
		return;
	h->store = model_store_new(h->world->db, &h->generation);
	h->core = hub_core_new(&h->world->hub_limits, &hub_effects, h, &model_store_ops, h->store);
	h->running = true;
	hub_core_tick(h->core);
}

/* kill -9: the kernel closes its sockets. */
static void crash_hub(struct world *w, struct hub *h)
{
	sim_log(&w->sim, "hub %d crashes", h->number);
	w->outcome.hub_crashes++;
	h->running = false;
	h->generation++;
	for (struct conn *c = w->conns; c; c = c->next)
		if (c->hub == h && c->hub_open) {
			c->hub_open = false;
			put(w, c, &c->down, deliver_down, NULL, 0, true);
		}
	hub_core_free(h->core);
	model_store_free(h->store);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 10 * SIM_MS, 8 * SIM_S), NULL, start_hub, h, NULL);
}

/* Agents. */

static void connect_done(void *ctx, void *arg)
{
	struct agent *a = ctx;
	struct world *w = a->world;
	struct hub *h = &w->hubs[sim_range(&w->sim, 0, w->hub_count - 1)];
	uint8_t fingerprint[32];
	(void)arg;
	if (!h->running || w->network_down || chance(w, 50)) {
		agent_core_link_down(a->core, "connection refused");
		return;
	}
	struct conn *c = sim_alloc(sizeof *c);
	*c = (struct conn){.next = w->conns, .agent = a, .hub = h, .hub_generation = h->generation, .agent_open = true,
			   .hub_open = true};
	w->conns = c;
	a->conn = c;
	w->outcome.links++;
	model_db_fingerprint(a->number, fingerprint);
	c->session = hub_core_open(h->core, c, fingerprint);
	agent_core_link_up(a->core);
}

static void agent_connect(void *shell)
{
	struct agent *a = shell;
	sim_at(&a->world->sim, a->world->sim.now + sim_delay(&a->world->sim), &a->generation, connect_done, a, NULL);
}

static void agent_send(void *shell, const uint8_t *bytes, size_t n)
{
	struct agent *a = shell;
	if (!a->conn)
		return;
	tap(a->world, a->conn, false, bytes, n);
	put(a->world, a->conn, &a->conn->up, deliver_up, bytes, n, false);
}

static size_t agent_queued(void *shell)
{
	struct agent *a = shell;
	return a->conn ? a->conn->up.queued : 0;
}

static void agent_disconnect(void *shell)
{
	struct agent *a = shell;
	struct conn *c = a->conn;
	if (!c)
		return;
	c->agent_open = false;
	a->conn = NULL;
	put(a->world, c, &c->up, deliver_up, NULL, 0, true);
}

static int64_t agent_wall(void *shell)
{
	struct agent *a = shell;
	return hub_wall(&a->world->hubs[0]) + a->skew;
}

static int64_t agent_monotonic(void *shell)
{
	return ((struct agent *)shell)->world->sim.now;
}

static void agent_tick(void *ctx, void *arg)
{
	struct agent *a = ctx;
	if (a->running && *(uint64_t *)arg == a->wake)
		agent_core_tick(a->core);
}

static void agent_wake_at(void *shell, int64_t at)
{
	struct agent *a = shell;
	uint64_t wake = ++a->wake;
	sim_at(&a->world->sim, at <= a->world->sim.now ? a->world->sim.now + 1 : at, &a->generation, agent_tick, a,
	       sim_dup(&wake, sizeof wake));
}

static void agent_log(void *shell, int level, const char *text)
{
	struct agent *a = shell;
	sim_log(&a->world->sim, "agent %d log %d: %s", a->number, level, text);
	if (strstr(text, "checksum mismatch"))
		sim_fail(&a->world->sim, "agent %d: %s", a->number, text);
}

static void agent_changed(void *shell)
{
	(void)shell;
}

static const struct agent_effects agent_effects = {
	.connect = agent_connect, .send = agent_send, .queued = agent_queued, .disconnect = agent_disconnect,
	.wall = agent_wall, .monotonic = agent_monotonic, .wake_at = agent_wake_at, .log = agent_log,
	.changed = agent_changed,
};

/* The store that the core sees: the replica's, at times busy, and with the
 * checker looking after each commit. */

static bool busy(struct agent *a)
{
	return chance(a->world, 15);
}

#define PASS_ON(name, type)                                                                      \
	static enum ferry_error store_##name(void *store, type arg, struct ferry_why *why)        \
	{                                                                                         \
		struct agent *a = store;                                                          \
		return busy(a) ? FERRY_BUSY : a->replica.ops->name(*a->replica.handle, arg, why);   \
	}
PASS_ON(hello, struct message_hello *)
PASS_ON(schema, const struct schema *)
PASS_ON(cut, bool *)
PASS_ON(ack, const struct message_ack *)
PASS_ON(delta, const struct message_delta *)
PASS_ON(fill, const struct message_fill *)

static enum ferry_error store_welcome(void *store, const struct message_welcome *m, struct ferry_why *why)
{
	struct agent *a = store;
	if (busy(a))
		return FERRY_BUSY;
	a->world->outcome.fills += m->mode == WELCOME_FILL;
	return a->replica.ops->welcome(*a->replica.handle, m, why);
}

static enum ferry_error store_next_push(void *store, struct push_cursor *cursor, size_t budget, struct arena *arena,
					struct message_push *out, struct ferry_why *why)
{
	struct agent *a = store;
	return busy(a) ? FERRY_BUSY : a->replica.ops->next_push(*a->replica.handle, cursor, budget, arena, out, why);
}

static void look_at_replica(struct agent *a, int64_t position, bool quiet)
{
	struct sim_state *visible = sim_alloc(sizeof *visible);
	a->replica.visible(a->replica.store, visible);
	if (quiet)
		checker_quiet(a->world->checker, a->number, position, visible);
	else
		checker_replica(a->world->checker, a->number, position, visible);
	free(visible);
}

static enum ferry_error store_commit(void *store, const struct message_commit *m, struct store_commit_report *report,
				     struct ferry_why *why)
{
	struct agent *a = store;
	if (busy(a))
		return FERRY_BUSY;
	enum ferry_error e = a->replica.ops->commit(*a->replica.handle, m, report, why);
	if (e == FERRY_OK) {
		sim_log(&a->world->sim, "agent %d at position %lld", a->number, (long long)m->position);
		look_at_replica(a, m->position, false);
	}
	return e;
}

static enum ferry_error store_status(void *store, struct store_status *out, struct ferry_why *why)
{
	struct agent *a = store;
	return a->replica.ops->status(*a->replica.handle, out, why);
}

static void store_disconnected(void *store)
{
	struct agent *a = store;
	a->replica.ops->disconnected(*a->replica.handle);
}

static const struct agent_store_ops watched_ops = {
	.hello = store_hello, .welcome = store_welcome, .schema = store_schema, .cut = store_cut,
	.next_push = store_next_push, .ack = store_ack, .delta = store_delta, .commit = store_commit,
	.fill = store_fill, .status = store_status, .disconnected = store_disconnected,
};

static void start_agent(void *ctx, void *arg)
{
	struct agent *a = ctx;
	(void)arg;
	if (a->running)
		return;
	a->core = agent_core_new(&a->world->agent_limits, &agent_effects, a, &watched_ops, a, sim_random(&a->world->sim));
	a->running = true;
	agent_core_start(a->core);
}

static void crash_agent(struct world *w, struct agent *a)
{
	sim_log(&w->sim, "agent %d crashes", a->number);
	w->outcome.agent_crashes++;
	agent_disconnect(a);
	a->running = false;
	a->generation++;
	agent_core_free(a->core);
	a->core = NULL;
	a->replica.crash(a->replica.store);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 10 * SIM_MS, 8 * SIM_S), NULL, start_agent, a, NULL);
}

/* People. */

static int pick_row(struct world *w, const struct sim_state *s, uint32_t table)
{
	int start = (int)sim_range(&w->sim, 0, KEYS_MAX - 1);
	for (int i = 0; i < KEYS_MAX; i++) {
		int key = (start + i) % KEYS_MAX;
		if (s->rows[key].exists && s->rows[key].table == table)
			return key;
	}
	return -1;
}

static int64_t token(struct world *w)
{
	if (w->next_token >= TOKENS_MAX)
		abort(); /* a run this long needs a larger table */
	return w->next_token++;
}

static int pick_project(struct world *w, const bool *scopes)
{
	for (;;) {
		int p = (int)sim_range(&w->sim, 1, PROJECTS);
		if (scopes[p])
			return p;
	}
}

static bool new_row(struct world *w, const struct sim_state *s, uint32_t table, const bool *scopes, struct sim_row *row)
{
	*row = (struct sim_row){.exists = true, .table = table};
	if (table == UNIT) {
		row->cells[0] = PROJECT_CELL(pick_project(w, scopes), token(w));
		row->cells[1] = token(w);
		row->cells[2] = token(w);
		row->cells[3] = sim_chance(&w->sim, 500) ? CELL_NULL : token(w);
	} else if (table == NOTE) {
		int unit = pick_row(w, s, UNIT);
		row->cells[0] = unit;
		row->cells[1] = token(w);
		return unit >= 0;
	} else {
		row->cells[0] = token(w);
	}
	return true;
}

static bool change_row(struct world *w, struct sim_row *row)
{
	if (row->table == UNIT) {
		row->cells[sim_range(&w->sim, 1, 3)] = token(w);
		if (sim_chance(&w->sim, 60)) {
			row->cells[0] = PROJECT_CELL(sim_range(&w->sim, 1, PROJECTS), token(w));
			row->cells[1] = token(w);
		} else if (sim_chance(&w->sim, 30)) {
			row->cells[2] = -token(w);
			row->cells[1] = token(w);
		}
	} else if (row->table == NOTE) {
		row->cells[1] = token(w);
	} else {
		row->cells[0] = token(w);
	}
	return true;
}

/* One statement on what somebody sees. False: nothing came to mind. */
static bool think(struct world *w, const struct sim_state *s, const bool *scopes, int *key, struct sim_row *row)
{
	static const uint32_t likely[] = {UNIT, UNIT, UNIT, NOTE, NOTE, CODE};
	uint32_t table = likely[sim_range(&w->sim, 0, 5)];
	int what = (int)sim_range(&w->sim, 0, 99);
	*key = pick_row(w, s, table);
	if (*key < 0 || (what < 20 && w->next_key < KEYS_MAX)) {
		if (w->next_key == KEYS_MAX || (table == CODE && !scopes[0]))
			return false;
		*key = w->next_key;
		if (!new_row(w, s, table, scopes, row))
			return false;
		w->next_key++;
		return true;
	}
	*row = s->rows[*key];
	if (what < 30) {
		*row = (struct sim_row){.table = table};
		return true;
	}
	return change_row(w, row);
}

static void edit_on_device(struct world *w, struct agent *a)
{
	struct sim_state *s = sim_alloc(sizeof *s);
	int statements = sim_chance(&w->sim, 200) ? (int)sim_range(&w->sim, 2, 6) : 1;
	for (int i = 0; i < statements; i++) {
		struct sim_row row;
		int key;
		memset(&row, 0, sizeof row);
		a->replica.visible(a->replica.store, s);
		if (!think(w, s, a->scopes, &key, &row) || !a->replica.edit(a->replica.store, key, &row))
			continue;
		struct sim_row before = s->rows[key];
		checker_edit(w->checker, a->number, key, &before, &row);
		sim_log(&w->sim, "agent %d edits row %d: %s %lld %lld %lld %lld", a->number, key,
			row.exists ? "set" : "delete", (long long)row.cells[0], (long long)row.cells[1],
			(long long)row.cells[2], (long long)row.cells[3]);
	}
	free(s);
	if (a->running && !sim_chance(&w->sim, 20)) /* a wake-up that was missed costs a heartbeat */
		agent_core_poke(a->core);
}

static void edit_at_hub(struct world *w)
{
	static const bool all[SCOPES] = {true, true, true, true};
	struct sim_row row;
	int key;
	memset(&row, 0, sizeof row);
	if (think(w, model_db_state(w->db), all, &key, &row))
		(void)model_db_write(w->db, key, &row);
}

/* Things that go wrong. */

static void network_back(void *ctx, void *arg)
{
	(void)arg;
	((struct world *)ctx)->network_down = false;
}

static void trouble(struct world *w)
{
	struct agent *a = &w->agents[sim_range(&w->sim, 0, w->agent_count - 1)];
	struct hub *h = &w->hubs[sim_range(&w->sim, 0, w->hub_count - 1)];
	int what = (int)sim_range(&w->sim, 0, 99);
	if (what < 30 && a->conn) {
		cut(w, a->conn);
	} else if (what < 55 && a->running) {
		crash_agent(w, a);
	} else if (what < 75 && h->running) {
		crash_hub(w, h);
	} else if (what < 85) {
		a->skew = sim_range(&w->sim, -1000000, 1000000) * SIM_S;
	} else if (what < 95) {
		w->network_down = true;
		sim_at(&w->sim, w->sim.now + sim_range(&w->sim, SIM_S, 10 * SIM_S), NULL, network_back, w, NULL);
	} else {
		model_db_prune(w->db);
	}
}

static void life(void *ctx, void *arg)
{
	struct world *w = ctx;
	(void)arg;
	if (w->sim.calm)
		return;
	if (sim_chance(&w->sim, 120))
		edit_at_hub(w);
	else
		edit_on_device(w, &w->agents[sim_range(&w->sim, 0, w->agent_count - 1)]);
	if (chance(w, 60))
		trouble(w);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 1, 300 * SIM_MS), NULL, life, w, NULL);
}

/* A run. */

static void set_up_agent(struct world *w, int i)
{
	struct agent *a = &w->agents[i];
	*a = (struct agent){.world = w, .number = i, .skew = sim_range(&w->sim, -100000, 100000) * SIM_S};
	for (int s = 0; s < SCOPES; s++)
		a->scopes[s] = s <= 1 || sim_chance(&w->sim, 500);
	model_db_device(w->db, i, a->scopes);
	a->replica = w->options.new_replica
			     ? w->options.new_replica(&w->sim, i, &a->skew, w->options.replica_ctx)
			     : model_replica_new(&w->sim, i, &a->skew, &w->options.replica_faults);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 0, 3 * SIM_S), NULL, start_agent, a, NULL);
}

/* Half of the fleets live with windows, rings and batches so small that each
 * limit is met all the time. */
static void choose_limits(struct world *w)
{
	w->agent_limits = agent_limits_default;
	w->hub_limits = hub_limits_default;
	if (sim_chance(&w->sim, 500)) {
		w->agent_limits.credit_bytes = 24000;
		w->agent_limits.push_bytes = 2000;
	}
	if (sim_chance(&w->sim, 500)) {
		w->hub_limits.session_credit_bytes = 24000;
		w->hub_limits.batch_rows_max = 5;
		w->hub_limits.ring_bytes_max = 3000;
	}
}

static void set_up(struct world *w)
{
	choose_limits(w);
	w->agent_count = w->options.agents ? w->options.agents : (int)sim_range(&w->sim, 1, DEVICES_MAX);
	w->hub_count = (int)sim_range(&w->sim, 1, HUBS_MAX);
	w->next_token = FIRST_TOKEN;
	w->packer = packer_new();
	w->checker = checker_new(&w->sim, w->agent_count);
	w->db = model_db_new(&w->sim, w->checker, w->agent_count);
	model_db_faults(w->db, &w->options.hub_faults);
	for (int i = 0; i < 20; i++)
		edit_at_hub(w);
	for (int i = 0; i < w->hub_count; i++) {
		w->hubs[i] = (struct hub){.world = w, .number = i};
		start_hub(&w->hubs[i], NULL);
	}
	for (int i = 0; i < w->agent_count; i++)
		set_up_agent(w, i);
	sim_at(&w->sim, w->sim.now + SIM_S, NULL, life, w, NULL);
}

static int64_t position_of(struct agent *a)
{
	struct store_status status = {0};
	struct ferry_why why;
	return a->replica.ops->status(*a->replica.handle, &status, &why) == FERRY_OK ? status.position : -1;
}

static bool quiet(struct world *w)
{
	for (int i = 0; i < w->agent_count; i++) {
		struct agent *a = &w->agents[i];
		if (!a->running || !agent_core_idle(a->core) || position_of(a) < model_db_head(w->db))
			return false;
	}
	return true;
}

static void settle_down(struct world *w)
{
	int64_t limit = w->sim.now + QUIET_LIMIT_US;
	w->sim.calm = true;
	for (int i = 0; i < w->agent_count; i++) /* pokes that were missed */
		if (w->agents[i].running)
			agent_core_poke(w->agents[i].core);
	while (!w->sim.failed && w->sim.now < limit) {
		int64_t until = w->sim.now + SIM_S;
		while (sim_step(&w->sim, until))
			;
		if (quiet(w))
			break;
	}
	for (int i = 0; !w->sim.failed && i < w->agent_count; i++) {
		struct agent *a = &w->agents[i];
		if (w->sim.now >= limit)
			sim_fail(&w->sim, "stuck: agent %d is in state %d (%s) at %lld of %lld", i,
				 a->running ? (int)agent_core_state(a->core) : -1,
				 a->running ? agent_core_why(a->core) : "not running", (long long)position_of(a),
				 (long long)model_db_head(w->db));
		else
			look_at_replica(a, position_of(a), true);
	}
}

static void tear_down(struct world *w)
{
	for (int i = 0; i < w->hub_count; i++)
		if (w->hubs[i].running) {
			w->hubs[i].running = false;
			hub_core_free(w->hubs[i].core);
			model_store_free(w->hubs[i].store);
		}
	for (int i = 0; i < w->agent_count; i++) {
		agent_core_free(w->agents[i].core);
		w->agents[i].replica.free(w->agents[i].replica.store);
	}
	while (w->conns) {
		struct conn *next = w->conns->next;
		free(w->conns);
		w->conns = next;
	}
	packer_free(w->packer);
	checker_free(w->checker);
	model_db_free(w->db);
	sim_deinit(&w->sim);
}

struct sim_outcome sim_run(const struct sim_options *options)
{
	struct world *w = sim_alloc(sizeof *w);
	w->options = *options;
	sim_init(&w->sim, options->seed);
	w->sim.verbose = options->verbose;
	set_up(w);
	int64_t end = w->sim.now + (options->busy_us ? options->busy_us : 40 * (int64_t)SIM_S);
	while (sim_step(&w->sim, end))
		;
	settle_down(w);
	struct sim_outcome outcome = w->outcome;
	outcome.failed = w->sim.failed;
	memcpy(outcome.failure, w->sim.failure, sizeof outcome.failure);
	outcome.counts = checker_counts(w->checker);
	outcome.events = w->sim.events_run;
	outcome.virtual_us = w->sim.now;
	tear_down(w);
	free(w);
	return outcome;
}

bool sim_arguments(int argc, char **argv, struct sim_arguments *a)
{
	const char *seed = getenv("FERRY_SEED");
	if (seed)
		a->seed = strtoull(seed, NULL, 0);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--verbose") == 0) {
			a->verbose = true;
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			a->seed = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc) {
			a->runs = (int)strtol(argv[++i], NULL, 10);
		} else {
			fprintf(stderr, "usage: %s [--seed S] [--runs N] [--verbose]\n", argv[0]);
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
	sum->links += o->links;
	sum->cuts += o->cuts;
	sum->agent_crashes += o->agent_crashes;
	sum->hub_crashes += o->hub_crashes;
	sum->fills += o->fills;
	sum->events += o->events;
	sum->virtual_us += o->virtual_us - 1000 * (int64_t)SIM_S;
}

int sim_run_many(const struct sim_arguments *a, struct sim_options options, const char *what)
{
	struct sim_outcome sum = {0};
	options.verbose = a->verbose;
	for (int i = 0; i < a->runs; i++) {
		options.seed = a->seed + (uint64_t)i;
		struct sim_outcome o = sim_run(&options);
		add_outcome(&sum, &o);
		if (o.failed) {
			printf("%s: seed %llu failed: %s\nreplay: --seed %llu --runs 1 --verbose\n", what,
			       (unsigned long long)options.seed, o.failure, (unsigned long long)options.seed);
			return 1;
		}
	}
	printf("%s: %d runs from seed %llu: %.0f virtual minutes, %llu events, %d links, %d cuts, %d agent and %d hub "
	       "crashes, %d fills; %d edits, %d settled, %d rejected, %d conflicts, %d replica states compared\n",
	       what, a->runs, (unsigned long long)a->seed, (double)sum.virtual_us / 60e6, (unsigned long long)sum.events,
	       sum.links, sum.cuts, sum.agent_crashes, sum.hub_crashes, sum.fills, sum.counts.edits, sum.counts.settled,
	       sum.counts.rejected, sum.counts.conflicts, sum.counts.states_compared);
	return 0;
}
