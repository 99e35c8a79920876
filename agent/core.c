/* The life of the agent's core: states, timers, and the work that every
 * event ends in. Messages: handle_hub.c and send_hub.c. */
#include "agent/core_private.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const struct agent_limits agent_limits_default = {
	.backoff_min_us = 500000,
	.backoff_max_us = 60000000,
	.greeting_timeout_us = 15000000,
	.ping_interval_us = 20000000,
	.message_bytes_max = FERRY_MESSAGE_BYTES_MAX,
	.credit_bytes = 4u << 20,
	.push_bytes = 256u << 10,
	.version_min = FERRY_PROTOCOL_LOWEST,
	.version_max = FERRY_PROTOCOL_HIGHEST,
};

static const char *state_name(enum agent_state state)
{
	static const char *const names[] = {"offline", "connecting", "greeting", "filling", "live", "stopped"};
	return names[state];
}

int64_t agent_now(const struct agent_core *core)
{
	return core->fx.monotonic(core->shell);
}

void agent_log(struct agent_core *core, int level, const char *format, ...)
{
	char text[FERRY_WHY_MAX + 200];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	core->fx.log(core->shell, level, text);
}

bool agent_linked(const struct agent_core *core)
{
	return core->state == AGENT_GREETING || core->state == AGENT_FILLING || core->state == AGENT_LIVE;
}

bool agent_store_waits(const struct agent_core *core)
{
	return core->store_retry_at != 0;
}

/* What the link knew is gone with it: the next one starts from what the
 * store holds. */
static void forget_link(struct agent_core *core)
{
	agent_clear_inbox(core);
	core->cursor = (struct push_cursor){0};
	core->held = false;
	core->hello_sent = core->welcomed = core->caught_up = core->adding = false;
	core->compares = core->comparing = false;
	core->version = 0;
	core->not_taking = 0;
	core->credit = 0;
	core->credit_owed = 0;
	core->pings_missed = 0;
	core->probe.waiting = false;
	core->replaying = core->rewinding = false;
	core->deadline = core->ping_at = core->store_retry_at = core->again_at = core->leases_at = core->repush_at = 0;
}

static void enter_live(struct agent_core *core)
{
	core->live_since = agent_now(core);
	core->deadline = 0;
	core->look = true;
	core->error = core->not_taking;
	ferry_why_set(&core->why, "%s", core->not_taking ? ferry_error_text(core->not_taking) : "");
}

/* The one place that changes the state. What may follow what:
 *
 *   from         to
 *   ------------------------------------------------------
 *   OFFLINE      CONNECTING
 *   CONNECTING   GREETING, OFFLINE, STOPPED
 *   GREETING     FILLING, LIVE, OFFLINE, STOPPED
 *   FILLING      LIVE, OFFLINE, STOPPED
 *   LIVE         OFFLINE, STOPPED
 *   STOPPED      OFFLINE (agent_core_start, agent_core_stop)
 */
void agent_enter(struct agent_core *core, enum agent_state state)
{
	static const unsigned allowed[] = {
		[AGENT_OFFLINE] = 1u << AGENT_CONNECTING,
		[AGENT_CONNECTING] = 1u << AGENT_GREETING | 1u << AGENT_OFFLINE | 1u << AGENT_STOPPED,
		[AGENT_GREETING] = 1u << AGENT_FILLING | 1u << AGENT_LIVE | 1u << AGENT_OFFLINE | 1u << AGENT_STOPPED,
		[AGENT_FILLING] = 1u << AGENT_LIVE | 1u << AGENT_OFFLINE | 1u << AGENT_STOPPED,
		[AGENT_LIVE] = 1u << AGENT_OFFLINE | 1u << AGENT_STOPPED,
		[AGENT_STOPPED] = 1u << AGENT_OFFLINE,
	};
	if (state == core->state)
		return;
	assert(allowed[core->state] & 1u << state);
	agent_log(core, LEVEL_INFO, "state %s -> %s%s%s", state_name(core->state), state_name(state),
		 core->why.text[0] ? ": " : "", core->why.text);
	if (core->state == AGENT_LIVE && agent_now(core) - core->live_since >= LIVE_RESET_US)
		backoff_reset(&core->backoff);
	core->state = state;
	if (state == AGENT_FILLING)
		core->deadline = 0; /* the hub has greeted, and its rows may take long */
	if (state == AGENT_LIVE)
		enter_live(core);
	core->fx.changed(core->shell);
}

/* Ends the link, whichever side wants it so. */
static void leave(struct agent_core *core, enum agent_state next)
{
	bool linked = core->state == AGENT_CONNECTING || agent_linked(core);
	forget_link(core);
	if (linked)
		core->ops->disconnected(core->store);
	agent_enter(core, next);
}

static void plan_connect(struct agent_core *core, int64_t at_least_us)
{
	int64_t delay = backoff_next_us(&core->backoff);
	if (delay < at_least_us)
		delay = at_least_us;
	core->connect_at = agent_now(core) + delay;
	if (core->connect_at == 0)
		core->connect_at = 1;
}

void agent_fail(struct agent_core *core, int code, int64_t retry_after_us, const char *sentence)
{
	bool had_link = core->state == AGENT_CONNECTING || agent_linked(core);
	/* A hub that is upgraded, or its devices, may come to a common version
	 * without anybody at this device. */
	bool later = code == FERRY_VERSION && core->limits.version_retry_us > 0;
	bool stop = ferry_error_class(code) == FERRY_CLASS_STOP && !later;
	if (!had_link)
		return;
	core->error = code;
	ferry_why_set(&core->why, "%s", sentence);
	leave(core, stop ? AGENT_STOPPED : AGENT_OFFLINE);
	if (!stop)
		plan_connect(core, later ? core->limits.version_retry_us : retry_after_us);
	core->fx.disconnect(core->shell);
}

void agent_violation(struct agent_core *core, enum ferry_error code, const char *sentence)
{
	struct message m = {.type = MESSAGE_ERROR, .error = {.code = (int)code, .sentence = sentence, .retry = true}};
	agent_log(core, LEVEL_WARNING, "the hub broke the protocol: %s: %s", ferry_error_name((int)code), sentence);
	agent_send(core, &m);
	agent_fail(core, (int)code, 0, sentence);
}

static void store_problem(struct agent_core *core, enum ferry_error e, const char *call, const struct ferry_why *why)
{
	core->error = (int)e;
	ferry_why_set(&core->why, "replica, %s: %s%s%s", call, ferry_error_text((int)e), why->text[0] ? ": " : "",
		      why->text);
}

bool agent_store_ok(struct agent_core *core, enum ferry_error e, const char *call, const struct ferry_why *why)
{
	if (e == FERRY_OK) {
		if (core->error == FERRY_NO_SPACE) { /* somebody made some */
			core->error = 0;
			core->why.text[0] = '\0';
			core->fx.changed(core->shell);
		}
		core->store_retry_us = 0;
		return true;
	}
	if (e == FERRY_BUSY) {
		core->store_retry_us = core->store_retry_us ? core->store_retry_us * 2 : STORE_RETRY_MIN_US;
		if (core->store_retry_us > STORE_RETRY_MAX_US)
			core->store_retry_us = STORE_RETRY_MAX_US;
		core->store_retry_at = agent_now(core) + core->store_retry_us;
		return false;
	}
	if (e == FERRY_NO_SPACE) {
		store_problem(core, e, call, why);
		agent_log(core, LEVEL_ERROR, "%s", core->why.text);
		core->store_retry_at = agent_now(core) + STORE_RETRY_SPACE_US;
		core->fx.changed(core->shell);
		return false;
	}
	struct ferry_why sentence;
	store_problem(core, e, call, why);
	sentence = core->why;
	agent_log(core, LEVEL_ERROR, "%s", sentence.text);
	agent_fail(core, (int)e, 0, sentence.text);
	return false;
}

/* Level-triggered work. */

static void do_connect(struct agent_core *core)
{
	core->connect_at = 0;
	core->deadline = agent_now(core) + core->limits.greeting_timeout_us;
	agent_enter(core, AGENT_CONNECTING);
	core->fx.connect(core->shell);
}

static void check_deadline(struct agent_core *core, int64_t now)
{
	if (core->deadline == 0 || now < core->deadline)
		return;
	/* Ours was the delay when the answer waits in the inbox for the replica. */
	if (core->state == AGENT_GREETING && core->inbox)
		core->deadline = now + core->limits.greeting_timeout_us;
	else
		agent_fail(core, FERRY_LINK_TIMEOUT, 0,
			  core->state == AGENT_CONNECTING ? "the hub cannot be reached" : "the hub does not greet");
}

static void check_heartbeat(struct agent_core *core, int64_t now)
{
	if (core->ping_at == 0 || now < core->ping_at)
		return;
	if (core->pings_missed >= PINGS_MISSED_MAX) {
		agent_fail(core, FERRY_LINK_TIMEOUT, 0, "the hub does not answer any more");
		return;
	}
	core->pings_missed++;
	core->look = true; /* nothing should depend on it; a missed poke costs one interval */
	agent_send_ping(core);
}

static void check_timers(struct agent_core *core)
{
	int64_t now = agent_now(core);
	if (core->store_retry_at && now >= core->store_retry_at)
		core->store_retry_at = 0;
	if (core->again_at && now >= core->again_at)
		core->again_at = 0;
	if (core->repush_at && now >= core->repush_at && !core->held && !core->cursor.inside) {
		core->repush_at = 0;
		core->cursor = (struct push_cursor){0};
		core->look = true;
	}
	if (core->state == AGENT_OFFLINE && core->wanted && core->connect_at && now >= core->connect_at)
		do_connect(core);
	check_deadline(core, now);
	check_heartbeat(core, now);
}

/* What was measured holds though somebody has set this device's clock since
 * (P10): edits are stamped by what the two differ now, link or not. */
static void tell_clock(struct agent_core *core)
{
	if (core->ops->clock && clock_probe_round_trip(&core->probe) >= 0)
		core->ops->clock(core->store, agent_core_clock_offset(core));
}

/* False: the replica could not be asked. */
static bool cut(struct agent_core *core, bool *out_more)
{
	*out_more = true;
	tell_clock(core);
	for (int i = 0; *out_more && i < CUTS_PER_WORK; i++) {
		struct ferry_why why = {0};
		if (!agent_store_ok(core, core->ops->cut(core->store, out_more, &why), "cut", &why))
			return false;
	}
	return true;
}

/* Also without a link: each look ends a change-set (R5), so that what an app
 * commits one after the other while offline is not joined. */
static void look_for_edits(struct agent_core *core)
{
	bool more = false;
	if (core->look && !cut(core, &more))
		return;
	if (core->state == AGENT_LIVE && core->look)
		agent_ask_leases(core);
	if (more) { /* pushing would cut the rest at once */
		core->look = true;
		core->again_at = agent_now(core);
	} else if (core->state == AGENT_LIVE || (core->state == AGENT_FILLING && core->replaying)) {
		agent_push(core);
	} else {
		core->look = false; /* going LIVE looks again */
	}
}

/* R21: the differing rows are found and asked for. A hub that cannot compare is
 * told, and the link begins anew with a hello that asks for a fill. The store
 * says how often. */
static void check_alarm(struct agent_core *core)
{
	bool live = core->state == AGENT_LIVE && core->caught_up;
	if (!core->look_for_alarm || core->comparing || (!live && !(core->state == AGENT_FILLING && core->rewinding)))
		return;
	core->look_for_alarm = false;
	if (core->compares && core->ops->compare != NULL) {
		agent_send_compare(core);
		return;
	}
	if (core->ops->heal_due == NULL || !core->ops->heal_due(core->store))
		return;
	agent_ask_refill(core, ferry_error_text(FERRY_MISMATCH));
}

static void work_once(struct agent_core *core)
{
	check_timers(core);
	if (core->state == AGENT_GREETING && !core->hello_sent && !agent_store_waits(core))
		agent_send_hello(core);
	agent_drain_inbox(core);
	if (!agent_store_waits(core)) {
		look_for_edits(core);
		check_alarm(core);
	}
}

static void earlier(int64_t *at, int64_t candidate)
{
	if (candidate && (*at == 0 || candidate < *at))
		*at = candidate;
}

static void plan_wake(struct agent_core *core)
{
	int64_t at = 0;
	if (core->state == AGENT_OFFLINE && core->wanted)
		earlier(&at, core->connect_at);
	earlier(&at, core->deadline);
	earlier(&at, core->ping_at);
	earlier(&at, core->store_retry_at);
	earlier(&at, core->again_at);
	earlier(&at, core->repush_at);
	if (at)
		core->fx.wake_at(core->shell, at);
}

/* A shell may answer an effect at once, from within it; then this asks for
 * one more round instead of working inside of itself. */
static void agent_core_work(struct agent_core *core)
{
	core->work_again = true;
	if (core->working)
		return;
	core->working = true;
	while (core->work_again) {
		core->work_again = false;
		work_once(core);
	}
	core->working = false;
	plan_wake(core);
}

/* Events. */

static void init_buffers(struct agent_core *core)
{
	size_t message = core->limits.message_bytes_max;
	buffer_init(&core->plain, message);
	buffer_init(&core->envelope, message + ENVELOPE_SLACK_BYTES);
	buffer_init(&core->unpacked, message);
	arena_init(&core->in_arena, message * DECODE_ARENA_FACTOR);
	arena_init(&core->out_arena, message * DECODE_ARENA_FACTOR);
}

struct agent_core *agent_core_new(const struct agent_limits *limits, const struct agent_effects *effects, void *shell,
				  const struct agent_store_ops *store_ops, void *store, uint64_t seed)
{
	struct agent_core *core = calloc(1, sizeof *core);
	if (!core)
		return NULL;
	core->packer = packer_new();
	if (!core->packer) {
		free(core);
		return NULL;
	}
	core->limits = limits ? *limits : agent_limits_default;
	core->fx = *effects;
	core->shell = shell;
	core->ops = store_ops;
	core->store = store;
	core->state = AGENT_OFFLINE;
	core->inbox_end = &core->inbox;
	backoff_init(&core->backoff, core->limits.backoff_min_us, core->limits.backoff_max_us, seed);
	init_buffers(core);
	return core;
}

void agent_core_free(struct agent_core *core)
{
	if (!core)
		return;
	agent_clear_inbox(core);
	packer_free(core->packer);
	buffer_deinit(&core->plain);
	buffer_deinit(&core->envelope);
	buffer_deinit(&core->unpacked);
	arena_deinit(&core->in_arena);
	arena_deinit(&core->out_arena);
	free(core);
}

void agent_core_start(struct agent_core *core)
{
	core->wanted = true;
	if (core->state == AGENT_STOPPED) {
		core->error = 0;
		core->why.text[0] = '\0';
		agent_enter(core, AGENT_OFFLINE);
	}
	if (core->state == AGENT_OFFLINE)
		do_connect(core);
	agent_core_work(core);
}

void agent_core_link_up(struct agent_core *core)
{
	if (core->state != AGENT_CONNECTING)
		return; /* the attempt was given up meanwhile */
	core->hub_message_max = core->limits.message_bytes_max;
	core->deadline = agent_now(core) + core->limits.greeting_timeout_us;
	agent_enter(core, AGENT_GREETING);
	agent_core_work(core);
}

void agent_core_link_down(struct agent_core *core, const char *reason)
{
	if (core->state == AGENT_CONNECTING || agent_linked(core)) {
		core->error = FERRY_LINK_CLOSED;
		ferry_why_set(&core->why, "%s", reason ? reason : "the link is closed");
		leave(core, AGENT_OFFLINE);
		plan_connect(core, 0);
	}
	agent_core_work(core);
}

void agent_core_message(struct agent_core *core, const uint8_t *bytes, size_t n)
{
	if (agent_linked(core)) {
		core->pings_missed = 0;
		agent_receive(core, bytes, n);
	}
	agent_core_work(core);
}

void agent_core_drained(struct agent_core *core)
{
	agent_core_work(core);
}

void agent_core_poke(struct agent_core *core)
{
	core->look = true;
	agent_core_work(core);
}

void agent_core_tick(struct agent_core *core)
{
	agent_core_work(core);
}

void agent_core_stop(struct agent_core *core)
{
	bool linked = core->state == AGENT_CONNECTING || agent_linked(core);
	if (core->welcomed)
		agent_send_credit(core, true);
	core->wanted = false;
	core->connect_at = 0;
	core->error = 0;
	core->why.text[0] = '\0';
	leave(core, AGENT_OFFLINE);
	if (linked)
		core->fx.disconnect(core->shell);
}

enum agent_state agent_core_state(const struct agent_core *core)
{
	return core->state;
}

const char *agent_core_why(const struct agent_core *core)
{
	return core->why.text;
}

int agent_core_error(const struct agent_core *core)
{
	return core->error;
}

bool agent_core_held(const struct agent_core *core)
{
	return core->state == AGENT_LIVE && core->caught_up && core->not_taking && !core->inbox;
}

bool agent_core_idle(const struct agent_core *core)
{
	struct store_status status = {0};
	struct ferry_why why = {0};
	if (core->state != AGENT_LIVE || !core->caught_up || core->adding || core->look || core->held || core->inbox || core->comparing ||
	    core->look_for_alarm)
		return false;
	return core->ops->status(core->store, &status, &why) == FERRY_OK && status.outbox_sets == 0;
}

int64_t agent_core_clock_offset(const struct agent_core *core)
{
	return clock_probe_offset(&core->probe, core->fx.wall(core->shell), agent_now(core));
}
