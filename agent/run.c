#include "agent/run.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core.h"
#include "agent/local_feed.h"
#include "agent/renew.h"
#include "agent/replica.h"
#include "agent/replica_repair.h"
#include "agent/wake.h"
#include "agent/wipe.h"
#include "shared/json.h"
#include "shared/link.h"
#include "shared/log.h"
#include "shared/loop.h"
#include "shared/random.h"

/* Between two writings of the status file. A change of state is written at once; a bookmark
 * moves all the time beside a busy fleet, and each writing makes a file. */
#define VERSION_RETRY_US  INT64_C(600000000) /* the hub, or this agent, may be upgraded meanwhile */
#define STATUS_PAUSE_US	  1000000
/* The file is filled up with blanks to this, so that it can be written over where it stands:
 * on a full disk there is no room for another one. */
#define STATUS_BYTES	  4096
#define REPAIR_BUSY_MS	  200 /* the loop stands still meanwhile */
#define REPAIR_AGAIN_US	  1000000 /* a repair that another program's lock or a full disk held up */
#define QUEUE_BYTES_MAX	  (8u << 20)
#define GOODBYE_US	  1000000 /* for the close frame, at the end */
#define REST_AFTER_US	  10000000 /* quiet for so long: memory that only work needs is given back */
#define REST_AGAIN_US	  1000000  /* the same after a look that found nothing */
/* once: a hub looks for devices enrolled at others every second or so */
#define UNKNOWN_PATIENCE_US INT64_C(3000000)

struct run {
	const struct agent_settings *settings;
	const struct run_options *options;
	struct identity identity;
	struct agent_paths paths;
	const char *host;
	int port;
	int lock_fd;

	struct loop *loop;
	struct replica *replica;
	struct agent_core *core;
	struct loop_timer *core_timer, *wake_timer, *status_timer, *once_timer, *retry_timer, *repair_timer,
		*rest_timer;
	bool rested; /* nothing has been read since */
	struct wake *wake;
	struct local_feed *local;
	struct renewal *renewal;
	struct loop_watch *wake_watch;
	int64_t versions;            /* of the replica, counted */
	struct link *link;
	unsigned closing;            /* links whose on_close is still to come, besides `link` */
	struct ferry_why connect_why; /* of an attempt that failed at once */

	struct log_context log;
	struct log_limit log_limit;
	int64_t status_at;           /* when the file was written */
	int64_t since;               /* of the state, wall clock */
	enum agent_state state;

	/* once */
	int64_t started_at, progress_at;
	int64_t messages;
	int64_t unknown_since;       /* once: when the hub first did not know this device; 0: not */
	bool ever_open;

	struct wipe_report wiped;
	bool is_wiped;

	bool ending;
	enum ferry_error result;
	struct ferry_why *why;
};

static const char *state_name(enum agent_state state)
{
	static const char *const names[] = {"offline", "connecting", "greeting", "filling", "live", "stopped"};
	return names[state];
}

static void end(struct run *r, enum ferry_error e, const char *sentence)
{
	if (r->ending)
		return;
	r->ending = true;
	r->result = e;
	if (e != FERRY_OK)
		(void)ferry_fail(r->why, e, "%s", sentence);
	loop_stop(r->loop);
}

/* ---- status file ---- */

static struct json *status_json(struct run *r)
{
	struct store_status s = {.position = -1};
	struct json *o = json_new_object();
	char hub[300];
	int error = agent_core_error(r->core);
	bool known = !r->is_wiped && replica_store_ops.status(r->replica, &s, NULL) == FERRY_OK;
	bool failed = r->ending && r->result != FERRY_OK;
	snprintf(hub, sizeof(hub), "%s:%d", r->host, r->port);
	json_put_int(o, "pid", getpid());
	json_put_text(o, "state", r->is_wiped ? "wiped" : state_name(agent_core_state(r->core)));
	json_put_int(o, "since", r->since);
	json_put_text(o, "hub", hub);
	json_put_text(o, "error", failed ? ferry_error_name((int)r->result) : error ? ferry_error_name(error) : NULL);
	json_put_text(o, "why", failed ? r->why->text : *agent_core_why(r->core) ? agent_core_why(r->core) : NULL);
	json_put_int(o, "clock_offset_us", agent_core_clock_offset(r->core));
	json_put_bool(o, "caught_up", agent_core_idle(r->core));
	json_put_int(o, "updated_at", loop_wall_us());
	if (r->is_wiped) {
		json_put_text(o, "error", ferry_error_name(FERRY_TENANT_DELETED));
		json_put_text(o, "why", r->why->text);
		json_put_text(o, "unsent_file", *r->wiped.unsent ? r->wiped.unsent : NULL);
		json_put_int(o, "unsent_sets", r->wiped.sets);
	}
	if (known) {
		json_put_int(o, "position", s.position);
		json_put_int(o, "outbox_sets", (int64_t)s.outbox_sets);
	}
	return o;
}

static void write_status(struct run *r)
{
	struct json *o = status_json(r);
	char *text = json_write_text(o, false), padded[STATUS_BYTES + 1];
	struct ferry_why why = {0};
	r->status_at = loop_now_us();
	local_feed_status(r->local, &(struct local_status){json_text(json_get(o, "state")), json_text(json_get(o, "error")),
			  json_text(json_get(o, "why")), json_bool(json_get(o, "caught_up"), false)});
	/* Two sentences of FERRY_WHY_MAX and a host's name fit by far. */
	int n = snprintf(padded, sizeof(padded), "%-*s", STATUS_BYTES, text);
	assert(n == STATUS_BYTES);
	enum ferry_error e = files_replace(r->paths.status, padded, STATUS_BYTES, 0644, true, &why);
	if (e == FERRY_NO_SPACE)
		e = files_overwrite(r->paths.status, padded, STATUS_BYTES, &why);
	if (e != FERRY_OK)
		LOG(LEVEL_WARNING, &r->log, "status_not_written", LOG_TEXT("why", why.text));
	free(text);
	json_release(o);
}

static void status_due(void *ctx)
{
	write_status(ctx);
}

/* ---- what the core asks for ---- */

static void on_open(struct link *link, void *ctx)
{
	struct run *r = ctx;
	if (link != r->link)
		return;
	r->ever_open = true;
	r->progress_at = loop_now_us();
	LOG(LEVEL_INFO, &r->log, "link_up", LOG_TEXT("hub", r->host), LOG_INT("port", r->port));
	agent_core_link_up(r->core);
}

/* A ping's look loads the replica's schema; after it the agent rests on. */
static void rest_on(struct run *r)
{
	if (r->rested)
		loop_timer_set(r->rest_timer, loop_now_us() + REST_AGAIN_US);
	r->rested = false;
}

static void on_message(struct link *link, void *ctx, const uint8_t *bytes, size_t n)
{
	struct run *r = ctx;
	if (link != r->link)
		return;
	r->messages++;
	r->progress_at = loop_now_us();
	agent_core_message(r->core, bytes, n);
	rest_on(r);
}

static void on_drained(struct link *link, void *ctx)
{
	struct run *r = ctx;
	if (link == r->link)
		agent_core_drained(r->core);
}

/* A hub that knows the certificate no more, or not yet, is tried again: it may
 * have been restored, or the device enrolled at another hub a moment ago. A
 * revoked device is for a person. */
static void refused(struct run *r, const struct link_end *end_of_link)
{
	bool unknown = end_of_link->code == FERRY_UNKNOWN_DEVICE;
	int64_t now = loop_now_us();
	if (unknown && !r->unknown_since)
		r->unknown_since = now;
	agent_core_link_down(r->core, end_of_link->text);
	if (unknown && (!r->options->once || now - r->unknown_since < UNKNOWN_PATIENCE_US))
		return;
	end(r, end_of_link->code, end_of_link->text);
}

static bool is_final(enum ferry_error code)
{
	return code == FERRY_REVOKED || code == FERRY_UNKNOWN_DEVICE || code == FERRY_VERSION || code == FERRY_CLONE;
}

static void connect_failed(struct run *r, enum ferry_error code, const char *text)
{
	bool give_up = r->options->once && !r->ever_open &&
		       loop_now_us() - r->started_at >= r->options->wait_us;
	agent_core_link_down(r->core, text);
	if (give_up && !r->unknown_since)
		end(r, code == FERRY_OK ? FERRY_LINK_CLOSED : code, text);
}

static void on_close(struct link *link, void *ctx, const struct link_end *end_of_link)
{
	struct run *r = ctx;
	if (link != r->link) {
		r->closing--;
		return;
	}
	r->link = NULL;
	LOG(LEVEL_INFO, &r->log, "link_down", LOG_TEXT("code", ferry_error_name((int)end_of_link->code)),
	    LOG_TEXT("why", end_of_link->text));
	if (!end_of_link->opened && is_final(end_of_link->code))
		refused(r, end_of_link);
	else if (!end_of_link->opened)
		connect_failed(r, end_of_link->code, end_of_link->text);
	else
		agent_core_link_down(r->core, end_of_link->text[0] ? end_of_link->text : "the hub closed the link");
}

/* The core must not be called back from within its own effect. */
static void connect_failed_at_once(void *ctx)
{
	struct run *r = ctx;
	connect_failed(r, FERRY_LINK_CLOSED, r->connect_why.text);
}

static void do_connect(void *ctx)
{
	struct run *r = ctx;
	struct link_client_config config = {
		.host = r->host,
		.port = r->port,
		.ca_pem = r->identity.ca_pem,
		.certificate_pem = r->identity.certificate_pem,
		.key_pem = r->identity.key_pem,
		.connect_timeout_us = r->settings->connect_timeout_us,
		.clock_is_unsure = true,
		.reached_us = replica_hub_time(r->replica),
		.limits = {.queue_bytes_max = QUEUE_BYTES_MAX, .heartbeat_us = r->settings->ping_interval_us},
	};
	static const struct link_calls calls = {
		.on_open = on_open, .on_message = on_message, .on_drained = on_drained, .on_close = on_close};
	if (link_connect(r->loop, &config, &calls, r, &r->link, &r->connect_why) == FERRY_OK)
		return;
	r->link = NULL;
	loop_timer_set(r->retry_timer, loop_now_us());
}

static void do_send(void *ctx, const uint8_t *bytes, size_t n)
{
	struct run *r = ctx;
	if (!r->link || link_send(r->link, bytes, n) == LINK_SENT)
		return;
	/* The core looks at queued() before it sends, so this is a hub that takes
	 * nothing. A message must not be left out: the link ends instead. */
	LOG(LEVEL_WARNING, &r->log, "queue_full", LOG_INT("bytes", link_queue_bytes(r->link)));
	link_close(r->link, LINK_CLOSE_TRY_LATER, "the queue is full");
}

static size_t do_queued(void *ctx)
{
	struct run *r = ctx;
	return r->link ? link_queue_bytes(r->link) : 0;
}

static void do_disconnect(void *ctx)
{
	struct run *r = ctx;
	struct link *link = r->link;
	if (!link)
		return;
	r->link = NULL;
	r->closing++;
	link_close(link, LINK_CLOSE_NORMAL, NULL);
}

static int64_t do_wall(void *ctx)
{
	(void)ctx;
	return loop_wall_us();
}

static int64_t do_monotonic(void *ctx)
{
	(void)ctx;
	return loop_now_us();
}

static void do_wake_at(void *ctx, int64_t at_us)
{
	loop_timer_set(((struct run *)ctx)->core_timer, at_us);
}

static void do_log(void *ctx, int level, const char *text)
{
	struct run *r = ctx;
	uint32_t dropped = 0;
	if (!log_enabled((enum log_level)level) || !log_allowed(&r->log_limit, loop_now_us(), &dropped))
		return;
	LOG((enum log_level)level, &r->log, "core", LOG_TEXT("text", text), LOG_INT("dropped", dropped));
}

/* What the tenant may do now is for nobody here to wait for. One that is only
 * held lets the device in again at once. */
static bool tenant_is_shut(const struct run *r)
{
	int error = agent_core_error(r->core);
	return agent_core_state(r->core) == AGENT_OFFLINE && error >= FERRY_TENANT_SUSPENDED &&
	       error <= FERRY_QUOTA_CALLS && error != FERRY_TENANT_ARCHIVED && error != FERRY_QUOTA_STORAGE;
}

static void check_once(struct run *r)
{
	if (!r->options->once)
		return;
	if (renewal_is_busy(r->renewal))
		return; /* its end is looked for again */
	if (agent_core_idle(r->core))
		end(r, FERRY_OK, "");
	else if (agent_core_held(r->core) || tenant_is_shut(r))
		end(r, (enum ferry_error)agent_core_error(r->core), agent_core_why(r->core));
}

static void do_changed(void *ctx)
{
	struct run *r = ctx;
	enum agent_state state = agent_core_state(r->core);
	bool other = state != r->state;
	if (other) {
		r->state = state;
		r->since = loop_wall_us();
		LOG(LEVEL_INFO, &r->log, "state", LOG_TEXT("state", state_name(state)),
		    LOG_TEXT("why", agent_core_why(r->core)));
	}
	if (state == AGENT_STOPPED)
		end(r, agent_core_error(r->core) ? (enum ferry_error)agent_core_error(r->core) : FERRY_INTERNAL,
		    agent_core_why(r->core));
	if (r->options->once)
		loop_timer_set(r->once_timer, loop_now_us());
	loop_timer_set(r->rest_timer, loop_now_us() + REST_AFTER_US);
	r->rested = false;
	if (other)
		loop_timer_set(r->status_timer, loop_now_us());
	else if (!loop_timer_is_set(r->status_timer))
		loop_timer_set(r->status_timer, r->status_at + STATUS_PAUSE_US);
}

static const struct agent_effects effects = {do_connect, do_send, do_queued, do_disconnect, do_wall,
					     do_monotonic, do_wake_at, do_log, do_changed};

/* ---- what happens around it ---- */

static void core_due(void *ctx)
{
	struct run *r = ctx;
	agent_core_tick(r->core);
	rest_on(r);
}

static bool read_version(void *ctx, int64_t *out)
{
	/* replica_changed() keeps the version itself; here it becomes a count. */
	struct run *r = ctx;
	r->versions += replica_changed(r->replica);
	*out = r->versions;
	return true;
}

static int64_t own_commits(void *ctx)
{
	return replica_commits(((struct run *)ctx)->replica);
}

/* What ferry_repair asks is done as an app would do it: its commit wakes us again. */
static void repair_due(void *ctx)
{
	struct run *r = ctx;
	struct ferry_why why = {0};
	int done = 0;
	if (!replica_repair_due(r->replica))
		return;
	enum ferry_error e = replica_repair(r->paths.replica, REPAIR_BUSY_MS, &done, &why);
	LOG(e == FERRY_OK ? LEVEL_INFO : LEVEL_WARNING, &r->log, "repaired", LOG_INT("count", done), LOG_TEXT("why", why.text));
	if (e != FERRY_OK)
		loop_timer_set(r->repair_timer, loop_now_us() + REPAIR_AGAIN_US);
}

static void on_commit(void *ctx)
{
	struct run *r = ctx;
	repair_due(r);
	local_feed_written(r->local);
	agent_core_poke(r->core);
}

/* The parsed schema of a large model and the pages of the last fill are most of an idle agent's memory. */
static void rest_due(void *ctx)
{
	struct run *r = ctx;
	replica_rest(r->replica);
	malloc_trim(0);
	r->rested = true;
}

static void wake_again(struct run *r)
{
	loop_timer_set(r->wake_timer, wake_at(r->wake));
}

static void wake_due(void *ctx)
{
	struct run *r = ctx;
	wake_tick(r->wake, loop_now_us());
	wake_again(r);
}

static void on_event(void *ctx)
{
	struct run *r = ctx;
	wake_readable(r->wake, loop_now_us());
	wake_again(r);
}

static void on_signal(void *ctx, int number)
{
	struct run *r = ctx;
	LOG(LEVEL_INFO, &r->log, "signal", LOG_INT("number", number));
	if (number != SIGHUP)
		end(r, FERRY_OK, "");
}

/* Twice a second while syncing once: progress, patience, and whether it is done. */
static void once_due(void *ctx)
{
	struct run *r = ctx;
	struct store_status status;
	int64_t now = loop_now_us();
	check_once(r);
	if (r->options->progress && replica_store_ops.status(r->replica, &status, NULL) == FERRY_OK)
		r->options->progress(r->options->progress_ctx, state_name(r->state), &status);
	if (now - r->progress_at > r->options->patience_us)
		end(r, FERRY_LINK_TIMEOUT, *agent_core_why(r->core) ? agent_core_why(r->core)
								    : "the hub has gone silent");
	loop_timer_set(r->once_timer, now + 500000);
}

/* ---- life ---- */

static enum ferry_error make_timers(struct run *r)
{
	struct {
		struct loop_timer **timer;
		loop_timer_fn *call;
	} all[] = {{&r->core_timer, core_due}, {&r->wake_timer, wake_due}, {&r->status_timer, status_due},
		   {&r->once_timer, once_due}, {&r->retry_timer, connect_failed_at_once},
		   {&r->repair_timer, repair_due},
		   {&r->rest_timer, rest_due}};
	enum ferry_error e = FERRY_OK;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all) && e == FERRY_OK; i++)
		e = loop_timer_new(r->loop, all[i].call, r, all[i].timer);
	return e;
}

static enum ferry_error open_replica(struct run *r)
{
	struct replica_options options = {.create = false, .full = r->settings->durable,
					  .compare_only = r->options->compare_only,
					  .busy_timeout_ms = (int)(r->settings->busy_timeout_us / 1000),
					  .history_age_us = r->settings->history_age_us,
					  .history_bytes_max = r->settings->history_bytes};
	enum ferry_error e = replica_open(r->paths.replica, &options, &r->replica, r->why);
	if (e == FERRY_OK && replica_triggers_restored(r->replica))
		LOG(LEVEL_WARNING, &r->log, "triggers_restored", LOG_INT("tables", replica_triggers_restored(r->replica)),
		    LOG_TEXT("why", "a program dropped capture triggers; run ferry-agent verify to see what it wrote"));
	return e;
}

static void loop_log(void *ctx, const char *line)
{
	struct run *r = ctx;
	LOG(LEVEL_DEBUG, &r->log, "network", LOG_TEXT("text", line));
}

static enum ferry_error watch_replica(struct run *r)
{
	static const struct wake_effects wake_effects = {read_version, own_commits, on_commit};
	static const struct loop_watch_calls calls = {.on_readable = on_event};
	enum ferry_error e = wake_open(r->paths.replica, &wake_effects, r, loop_now_us(), &r->wake, r->why);
	if (e != FERRY_OK)
		return e;
	if (wake_fd(r->wake) >= 0)
		e = loop_watch_new(r->loop, wake_fd(r->wake), &calls, r, &r->wake_watch, r->why);
	else
		LOG(LEVEL_WARNING, &r->log, "no_inotify", LOG_TEXT("effect", "commits are noticed within 50 ms"));
	wake_again(r);
	return e;
}

/* ---- its certificate ---- */

/* The hub takes the former one until it has seen the new one: shown at once. */
static void on_renewed(void *ctx)
{
	struct run *r = ctx;
	LOG(LEVEL_INFO, &r->log, "certificate_renewed");
	if (r->link)
		link_close(r->link, LINK_CLOSE_NORMAL, "the certificate was renewed");
}

static void on_renewal_failed(void *ctx, const char *text)
{
	struct run *r = ctx;
	LOG(LEVEL_WARNING, &r->log, "certificate_not_renewed", LOG_TEXT("why", text));
}

static enum ferry_error watch_certificate(struct run *r)
{
	static const struct renewal_effects renewal_effects = {on_renewed, on_renewal_failed};
	struct renewal_config config = {.loop = r->loop, .folder = r->paths.identity,
					.host = *r->settings->hub_host ? r->settings->hub_host : NULL,
					.port = (int)r->settings->hub_enrol_port};
	return renewal_open(&config, &r->identity, &renewal_effects, r, &r->renewal, r->why);
}

static enum ferry_error start_core(struct run *r)
{
	struct agent_limits limits = agent_limits_default;
	limits.backoff_min_us = r->settings->backoff_min_us;
	limits.backoff_max_us = r->settings->backoff_max_us;
	limits.greeting_timeout_us = r->settings->greeting_timeout_us;
	limits.ping_interval_us = r->settings->ping_interval_us;
	limits.credit_bytes = (uint32_t)r->settings->credit_bytes;
	limits.push_bytes = (uint32_t)r->settings->push_bytes;
	limits.version_min = (int)r->settings->version_min;
	limits.version_max = (int)r->settings->version_max;
	limits.version_retry_us = r->options->once ? 0 : VERSION_RETRY_US;
	r->core = agent_core_new(&limits, &effects, r, &replica_store_ops, r->replica, random_u64());
	return r->core ? FERRY_OK : FERRY_NO_MEMORY;
}

/* Apps can work without it: a folder that takes no socket stops nobody. */
static void listen_locally(struct run *r)
{
	struct ferry_why why = {0};
	if (local_feed_open(r->loop, r->replica, r->paths.socket, &r->local, &why) != FERRY_OK)
		LOG(LEVEL_WARNING, &r->log, "no_local_socket", LOG_TEXT("why", why.text));
}

static enum ferry_error begin(struct run *r)
{
	struct loop_config config = {.log = loop_log, .log_context = r};
	enum ferry_error e = agent_paths_of(r->settings->state_dir, &r->paths, r->why);
	if (e == FERRY_OK)
		e = identity_load(r->paths.identity, &r->identity, r->why);
	if (e == FERRY_OK)
		e = files_make_folder(r->paths.run, 0755, r->why);
	if (e == FERRY_OK)
		e = files_lock(r->paths.lock, &r->lock_fd, r->why);
	if (e == FERRY_EXISTS)
		(void)ferry_fail(r->why, e, "ferry-agent is running on %s already", r->settings->state_dir);
	if (e == FERRY_OK)
		e = open_replica(r);
	if (e == FERRY_OK)
		e = loop_new(&config, &r->loop, r->why);
	if (e == FERRY_OK)
		e = make_timers(r);
	if (e == FERRY_OK)
		e = loop_signals(r->loop, on_signal, r, r->why);
	if (e == FERRY_OK)
		e = start_core(r);
	if (e == FERRY_OK)
		e = watch_certificate(r);
	if (e == FERRY_OK)
		e = watch_replica(r);
	if (e == FERRY_OK)
		listen_locally(r);
	return e;
}

static bool all_closed(void *ctx)
{
	struct run *r = ctx;
	return r->closing == 0 && !renewal_is_busy(r->renewal);
}

/* The hub's order (P 9.9): the tenant is deleted. When what was not sent cannot
 * be kept, nothing is removed, and the order comes again. */
static void obey_wipe(struct run *r)
{
	struct ferry_why why = {0};
	enum ferry_error e = wipe_keep_unsent(r->replica, &r->paths, loop_wall_us(), &r->wiped, &why);
	if (e == FERRY_OK) {
		r->is_wiped = true;
		replica_close(r->replica);
		r->replica = NULL;
		e = wipe_remove(&r->paths, &why);
	}
	LOG(e == FERRY_OK ? LEVEL_WARNING : LEVEL_ERROR, &r->log, r->is_wiped ? "wiped" : "not_wiped",
	    LOG_TEXT("code", ferry_error_name((int)e)), LOG_TEXT("why", why.text), LOG_TEXT("unsent_file", r->wiped.unsent),
	    LOG_INT("unsent_sets", r->wiped.sets));
	if (r->wiped.sets > 0)
		ferry_why_set(r->why, "the tenant is deleted and its data is gone from here; what was not sent is in %s",
			      r->wiped.unsent);
	else if (r->is_wiped)
		ferry_why_set(r->why, "the tenant is deleted and its data is gone from here; all changes had been sent");
	else
		ferry_why_set(r->why, "the tenant is deleted, but unsent changes cannot be kept aside: %.300s", why.text);
}

static void finish(struct run *r)
{
	if (r->core && r->wake) {
		agent_core_stop(r->core);
		loop_run_until(r->loop, all_closed, r, loop_now_us() + GOODBYE_US);
		local_feed_close(r->local);
		r->local = NULL;
		if (r->result == FERRY_TENANT_DELETED)
			obey_wipe(r);
		r->state = agent_core_state(r->core);
		write_status(r);
	}
	local_feed_close(r->local);
	renewal_close(r->renewal);
	loop_watch_free(r->wake_watch);
	wake_close(r->wake);
	agent_core_free(r->core);
	loop_timer_free(r->core_timer);
	loop_timer_free(r->wake_timer);
	loop_timer_free(r->status_timer);
	loop_timer_free(r->once_timer);
	loop_timer_free(r->retry_timer);
	loop_timer_free(r->repair_timer);
	loop_timer_free(r->rest_timer);
	loop_free(r->loop);
	replica_close(r->replica);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	secret_wipe(&r->identity, sizeof(r->identity));
}

enum ferry_error agent_run(const struct agent_settings *settings, const struct run_options *options,
			   struct run_report *report, struct ferry_why *why)
{
	struct run *r = calloc(1, sizeof(*r));
	if (!r)
		return FERRY_NO_MEMORY;
	*r = (struct run){.settings = settings, .options = options, .lock_fd = -1, .why = why,
			  .log_limit = {.interval_us = 10000000, .count_max = 50}};
	enum ferry_error e = begin(r);
	if (e == FERRY_OK) {
		uuid_format(&r->identity.device, r->log.device);
		uuid_format(&r->identity.tenant, r->log.tenant);
		r->host = *settings->hub_host ? settings->hub_host : r->identity.hub_host;
		r->port = settings->hub_port ? (int)settings->hub_port : r->identity.hub_port;
		r->started_at = r->progress_at = loop_now_us();
		r->since = loop_wall_us();
		agent_core_start(r->core);
		loop_timer_set(r->repair_timer, loop_now_us());
		write_status(r);
		if (options->once)
			loop_timer_set(r->once_timer, loop_now_us() + 500000);
		if (!r->ending)
			loop_run(r->loop);
		e = r->result;
		if (report) {
			report->messages = r->messages;
			report->clock_offset_us = agent_core_clock_offset(r->core);
			(void)replica_store_ops.status(r->replica, &report->status, NULL);
		}
	}
	finish(r);
	free(r);
	return e;
}
