/* The shell around each hub's engine. */
#include "tests/sim/sim_inner.h"

static void hub_send(void *shell, void *link, const uint8_t *bytes, size_t n)
{
	struct hub *h = shell;
	struct conn *c = link;
	net_send(h->world, c, true, bytes, n);
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
	net_close(h->world, c, true);
	net_notice_hub_later(h->world, c);
}

static int64_t hub_wall(void *shell)
{
	struct hub *h = shell;
	return sim_device_clock(&h->world->sim, h->skew);
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

void hub_start(void *ctx, void *arg)
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
void hub_crash(struct world *w, struct hub *h)
{
	sim_log(&w->sim, "hub %d crashes", h->number);
	w->outcome.hub_crashes++;
	h->running = false;
	h->generation++;
	net_drop_hub(w, h);
	hub_core_free(h->core);
	model_store_free(h->store);
	sim_at(&w->sim, w->sim.now + sim_range(&w->sim, 10 * SIM_MS, 8 * SIM_S), NULL, hub_start, h, NULL);
}
