/* The shell around each agent's engine, and the store that it sees. */
#include "tests/sim/sim_inner.h"

#include <stdlib.h>
#include <string.h>

#define PUSH_BYTES (8u << 20)

static void agent_connect(void *shell)
{
	((struct agent *)shell)->contacts++;
	net_connect(shell);
}

static void agent_send(void *shell, const uint8_t *bytes, size_t n)
{
	struct agent *a = shell;
	if (a->conn)
		net_send(a->world, a->conn, false, bytes, n);
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
	net_close(a->world, c, false);
}

static int64_t agent_wall(void *shell)
{
	struct agent *a = shell;
	return sim_device_clock(&a->world->sim, a->skew);
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
	struct agent *a = shell;
	if (a->core && agent_core_state(a->core) == AGENT_STOPPED && agent_core_error(a->core) == FERRY_CLONE)
		copies_turned_away(a);
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
	return world_chance(a->world, 15);
}

#define PASS_ON(name, type)                                                                      \
	static enum ferry_error store_##name(void *store, type arg, struct ferry_why *why)        \
	{                                                                                         \
		struct agent *a = store;                                                          \
		return busy(a) ? FERRY_BUSY : a->replica.ops->name(*a->replica.handle, arg, why);   \
	}
PASS_ON(hello, struct message_hello *)
PASS_ON(live, struct message_hello *)
PASS_ON(schema, const struct schema *)
PASS_ON(ack, const struct message_ack *)
PASS_ON(delta, const struct message_delta *)
PASS_ON(fill, const struct message_fill *)

static enum ferry_error store_cut(void *store, bool *out_more, struct ferry_why *why)
{
	struct agent *a = store;
	enum ferry_error e = busy(a) ? FERRY_BUSY : a->replica.ops->cut(*a->replica.handle, out_more, why);
	if (e == FERRY_OK && !*out_more)
		a->uncut = false;
	return e;
}

static void note_pending(struct agent *a, const struct change_set *set, struct sim_kept *out)
{
	(void)a;
	for (uint32_t i = 0; i < set->block_count; i++) {
		const struct block *b = &set->blocks[i];
		for (uint32_t cell = 0; cell < b->column_count * b->row_count; cell++) {
			int64_t value;
			if (sim_cell(b->table, b->nums[cell / b->row_count], &b->cells[cell], &value) && is_token(value))
				out->pending[value] = true;
		}
	}
}

static void tell_held(struct agent *a, const struct change_set *set, struct sim_kept *out)
{
	if (set->number <= out->last_number)
		checker_held(a->world->checker, a->line, set);
}

static void each_held(struct agent *a, struct sim_replica *replica, struct sim_kept *kept,
		      void (*fn)(struct agent *a, const struct change_set *set, struct sim_kept *out))
{
	struct push_cursor cursor = {0};
	struct message_push push;
	struct arena arena;
	struct ferry_why why;
	arena_init(&arena, PUSH_BYTES);
	do {
		if (replica->ops->next_push(*replica->handle, &cursor, PUSH_BYTES / 8, &arena, &push, &why))
			abort();
		for (uint32_t i = 0; i < push.set_count; i++)
			fn(a, &push.sets[i], kept);
	} while (push.set_count > 0);
	arena_deinit(&arena);
}

static void cut_all(struct sim_replica *replica)
{
	struct ferry_why why;
	bool more = true;
	while (more)
		if (replica->ops->cut(*replica->handle, &more, &why))
			abort();
}

/* What it holds in its outbox is read from a copy: pushing leaves a trace in the replica. */
static void look_at_kept(struct agent *a)
{
	struct sim_kept *kept = sim_alloc(sizeof *kept);
	struct sim_replica copy = a->replica.copy(a->replica.store, &a->skew);
	a->replica.kept(a->replica.store, kept);
	kept->last_number = copy.last_number(copy.store);
	cut_all(&copy);
	each_held(a, &copy, kept, note_pending);
	checker_kept(a->world->checker, a->line, kept);
	each_held(a, &copy, kept, tell_held);
	copy.free(copy.store);
	free(kept);
}

static enum ferry_error store_welcome(void *store, const struct message_welcome *m, struct ferry_why *why)
{
	struct agent *a = store;
	if (busy(a))
		return FERRY_BUSY;
	a->world->outcome.fills += m->mode == WELCOME_FILL && !m->compared;
	a->world->outcome.comparisons += m->compared;
	enum ferry_error e = a->replica.ops->welcome(*a->replica.handle, m, why);
	if (e == FERRY_OK && a->shut) { /* turned away before, and released meanwhile */
		a->shut = false;
		checker_open(a->world->checker, a->line);
	}
	if (e == FERRY_OK && a->copied)
		look_at_kept(a); /* before anything else is pushed */
	return e;
}

static enum ferry_error store_next_push(void *store, struct push_cursor *cursor, size_t budget, struct arena *arena,
					struct message_push *out, struct ferry_why *why)
{
	struct agent *a = store;
	return busy(a) ? FERRY_BUSY : a->replica.ops->next_push(*a->replica.handle, cursor, budget, arena, out, why);
}

/* What it shows is of the schema that the hub had at that position. */
static void look_at_schema(struct agent *a, int64_t position)
{
	struct world *w = a->world;
	int changes = a->replica.changes(a->replica.store);
	checker_schema(w->checker, a->line, changes < 0 ? 0 : (unsigned)changes);
	if (!a->shut && position >= 0 && changes != (int)model_db_changes(w->db, position))
		sim_fail(&w->sim, "P3: replica %d at %lld shows schema %d, the hub had %u", a->line, (long long)position, changes,
			 model_db_changes(w->db, position));
}

static void look_at_end(struct agent *a, int64_t position, const struct sim_state *visible)
{
	struct sim_kept *refused = sim_alloc(sizeof *refused);
	a->replica.refused(a->replica.store, refused);
	checker_quiet(a->world->checker, a->line, position, visible);
	checker_refused(a->world->checker, a->line, refused);
	free(refused);
}

void agent_look(struct agent *a, int64_t position, bool quiet)
{
	struct sim_state *visible = sim_alloc(sizeof *visible);
	a->replica.visible(a->replica.store, visible);
	look_at_schema(a, position);
	if (quiet && a->shut)
		checker_untouched(a->world->checker, a->line, visible);
	else if (quiet)
		look_at_end(a, position, visible);
	else
		checker_replica(a->world->checker, a->line, position, visible);
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
		agent_look(a, m->position, false);
	}
	return e;
}

static enum ferry_error store_status(void *store, struct store_status *out, struct ferry_why *why)
{
	struct agent *a = store;
	return a->replica.ops->status(*a->replica.handle, out, why);
}

static void store_clock(void *store, int64_t offset)
{
	struct agent *a = store;
	checker_clock_known(a->world->checker, a->line);
	if (a->replica.ops->clock)
		a->replica.ops->clock(*a->replica.handle, offset);
}

static void store_disconnected(void *store)
{
	struct agent *a = store;
	a->replica.ops->disconnected(*a->replica.handle);
}

static enum ferry_error store_compare(void *store, struct message_compare *out, bool *out_any, struct ferry_why *why)
{
	struct agent *a = store;
	return busy(a) ? FERRY_BUSY : a->replica.ops->compare(*a->replica.handle, out, out_any, why);
}

static enum ferry_error store_ranges(void *store, const struct message_ranges *m, bool *out_more, struct ferry_why *why)
{
	struct agent *a = store;
	return busy(a) ? FERRY_BUSY : a->replica.ops->ranges(*a->replica.handle, m, out_more, why);
}

#define WATCHED_OPS                                                                                          \
	.hello = store_hello, .live = store_live, .welcome = store_welcome, .schema = store_schema,          \
	.cut = store_cut, .next_push = store_next_push, .ack = store_ack, .delta = store_delta,               \
	.commit = store_commit, .fill = store_fill, .status = store_status, .clock = store_clock,                 \
	.disconnected = store_disconnected
static const struct agent_store_ops watched_ops = {WATCHED_OPS};
static const struct agent_store_ops watched_comparing_ops = {WATCHED_OPS, .compare = store_compare, .ranges = store_ranges};

void agent_start(void *ctx, void *arg)
{
	struct agent *a = ctx;
	(void)arg;
	if (a->running)
		return;
	a->core = agent_core_new(&a->world->agent_limits, &agent_effects, a,
				 a->replica.ops->compare ? &watched_comparing_ops : &watched_ops, a, sim_random(&a->world->sim));
	a->running = true;
	agent_core_start(a->core);
}

void agent_kill(struct world *w, struct agent *a)
{
	agent_disconnect(a);
	a->running = false;
	a->generation++;
	checker_clock_unknown(w->checker, a->line);
	agent_core_free(a->core);
	a->core = NULL;
}

void agent_crash(struct world *w, struct agent *a)
{
	sim_log(&w->sim, "agent %d crashes", a->number);
	w->outcome.agent_crashes++;
	agent_kill(w, a);
	a->replica.crash(a->replica.store);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 10 * SIM_MS, 8 * SIM_S), NULL, agent_start, a, NULL);
}
