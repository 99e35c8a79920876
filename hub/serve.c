#include "hub/serve.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/admin.h"
#include "hub/authority.h"
#include "hub/enrol.h"
#include "hub/migrate.h"
#include "hub/pg_admin.h"
#include "hub/pg_loop.h"
#include "hub/places.h"
#include "hub/witness.h"
#include "shared/link.h"
#include "shared/log.h"
#include "shared/loop.h"

#define DESCRIPTORS_BESIDES 128 /* database, admin, enrolment */
#define QUEUE_BYTES_MAX	    ((size_t)24 << 20)
#define SILENCE_TIMEOUT_S   10
#define DATABASE_RETRY_US   250000
#define REFUSALS_BELIEVED   3

struct serve {
	const struct hub_settings *settings;
	struct authority authority;
	struct loop *loop;
	struct pg_io io;
	struct pg_store *store;
	struct registry *registry;
	struct places *places;
	struct enrol_desk *desk;
	struct hub_core *core;
	struct loop_timer *core_timer, *drain_timer, *witness_timer;
	struct link_server *devices;
	struct http_server *enrolment, *administration;
	struct admin_view view;
	struct log_context log;
	struct log_limit limit;
	bool draining;
	int64_t drain_until;
};

static void say(struct serve *s, enum log_level level, const char *event, const char *text)
{
	uint32_t dropped = 0;
	if (log_enabled(level) && log_allowed(&s->limit, loop_now_us(), &dropped))
		LOG(level, &s->log, event, LOG_TEXT("text", text), LOG_INT("dropped", dropped));
}

/* ---- devices ---- */

/* The link has verified the certificate with our CA; who it is decides here,
 * before the upgrade is answered. */
static enum ferry_error on_verify(void *ctx, const struct link_peer *peer)
{
	struct serve *s = ctx;
	if (!peer->has_certificate)
		return FERRY_NO_CERTIFICATE;
	if (s->draining)
		return FERRY_SHUTTING_DOWN;
	enum ferry_error e = registry_ask(s->registry, peer->certificate.fingerprint);
	if (e != FERRY_OK) {
		uint32_t dropped = 0;
		if (log_allowed(&s->limit, loop_now_us(), &dropped))
			LOG(LEVEL_WARNING, &s->log, "device_refused", LOG_TEXT("peer", peer->address),
			    LOG_TEXT("name", peer->certificate.name), LOG_TEXT("code", ferry_error_name((int)e)),
			    LOG_INT("dropped", dropped));
	}
	return e;
}

static void on_open(struct link *link, void *ctx)
{
	struct serve *s = ctx;
	const uint8_t *fingerprint = link_peer_fingerprint(link);
	/* The listener's context stays the serve; a session stands in its place. */
	link_set_context(link, NULL);
	struct hub_session *session = fingerprint ? hub_core_open(s->core, link, fingerprint) : NULL;
	if (session)
		link_set_context(link, session);
	else
		link_close(link, LINK_CLOSE_POLICY, "no certificate, or no memory");
}

/* Callbacks of a link carry its session; the one hub of this process is here. */
static struct serve *the_serve;

static void on_message(struct link *link, void *ctx, const uint8_t *bytes, size_t n)
{
	(void)link;
	if (ctx)
		hub_core_message(the_serve->core, ctx, bytes, n);
}

static void on_drained(struct link *link, void *ctx)
{
	(void)link;
	if (ctx)
		hub_core_drained(the_serve->core, ctx);
}

static void on_close(struct link *link, void *ctx, const struct link_end *end)
{
	(void)link;
	if (end->code != FERRY_OK && log_enabled(LEVEL_DEBUG))
		say(the_serve, LEVEL_DEBUG, "link_down", end->text);
	if (ctx)
		hub_core_closed(the_serve->core, ctx);
}

/* ---- what the core asks for ---- */

static void do_send(void *ctx, void *link, const uint8_t *bytes, size_t n)
{
	struct serve *s = ctx;
	if (link_send(link, bytes, n) != LINK_FULL)
		return;
	/* Credit and queued() keep the core below this: a device that takes
	 * nothing and asks for ever. A message must not be left out. */
	say(s, LEVEL_WARNING, "queue_full", link_peer_name(link));
	link_close(link, LINK_CLOSE_TRY_LATER, "the queue is full");
}

static size_t do_queued(void *ctx, void *link)
{
	(void)ctx;
	return link_queue_bytes(link);
}

static unsigned close_code(int code)
{
	switch (code) {
	case FERRY_OK:
		return LINK_CLOSE_NORMAL;
	case FERRY_MESSAGE_TOO_LARGE:
		return LINK_CLOSE_TOO_LARGE;
	case FERRY_SHUTTING_DOWN:
		return LINK_CLOSE_GOING_AWAY;
	default:
		break;
	}
	switch (ferry_error_class(code)) {
	case FERRY_CLASS_RETRY:
		return LINK_CLOSE_TRY_LATER;
	case FERRY_CLASS_BUG:
		return LINK_CLOSE_INTERNAL;
	default:
		return LINK_CLOSE_POLICY;
	}
}

static void do_close(void *ctx, void *link, int code, const char *sentence)
{
	(void)ctx;
	link_close(link, close_code(code), sentence);
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
	loop_timer_set(((struct serve *)ctx)->core_timer, at_us);
}

static void do_log(void *ctx, int level, const struct uuid *tenant, const struct uuid *device, const char *text)
{
	struct serve *s = ctx;
	struct log_context log = {0};
	uint32_t dropped = 0;
	if (!log_enabled((enum log_level)level) || !log_allowed(&s->limit, loop_now_us(), &dropped))
		return;
	if (tenant)
		uuid_format(tenant, log.tenant);
	if (device)
		uuid_format(device, log.device);
	LOG((enum log_level)level, &log, "core", LOG_TEXT("text", text), LOG_INT("dropped", dropped));
}

static const struct hub_effects effects = {do_send, do_queued, do_close, do_wall, do_monotonic, do_wake_at, do_log};

static void core_due(void *ctx)
{
	hub_core_tick(((struct serve *)ctx)->core);
}

/* ---- registry, enrolment, store ---- */

static void on_revoked(void *ctx, const struct uuid *device)
{
	struct serve *s = ctx;
	struct log_context log = {0};
	uuid_format(device, log.device);
	LOG(LEVEL_INFO, &log, "device_revoked");
	hub_core_revoke(s->core, device);
}

static void on_loaded(void *ctx, uint32_t devices)
{
	struct serve *s = ctx;
	LOG(LEVEL_INFO, &s->log, "ready", LOG_INT("devices", devices), LOG_INT("device_port", s->view.device_port),
	    LOG_INT("enrol_port", s->view.enrol_port));
}

static void on_tenant(void *ctx, const struct registry_tenant *t)
{
	struct serve *s = ctx;
	hub_core_tenant(s->core, &t->id, t->shut, t->held);
}

static void on_looked(void *ctx, uint64_t look)
{
	struct serve *s = ctx;
	if (s->places)
		places_looked(s->places, look);
}

static void on_registry_log(void *ctx, const char *text)
{
	say(ctx, LEVEL_WARNING, "registry", text);
}

static void on_enrolled(void *ctx, const struct uuid *tenant, const struct uuid *device, const char *name,
			const uint8_t fingerprint[32])
{
	struct serve *s = ctx;
	struct log_context log = {0};
	uuid_format(tenant, log.tenant);
	uuid_format(device, log.device);
	registry_add(s->registry, tenant, device, fingerprint);
	registry_refresh(s->registry); /* its tenant may be new, too */
	LOG(LEVEL_INFO, &log, "device_enrolled", LOG_TEXT("name", name));
}

static void on_renewed(void *ctx, const struct uuid *tenant, const struct uuid *device, const uint8_t fingerprint[32])
{
	struct serve *s = ctx;
	struct log_context log = {0};
	uuid_format(tenant, log.tenant);
	uuid_format(device, log.device);
	registry_add(s->registry, tenant, device, fingerprint);
	LOG(LEVEL_INFO, &log, "certificate_renewed");
}

static void on_enrol_refused(void *ctx, const char *address, enum ferry_error code, const char *sentence)
{
	struct serve *s = ctx;
	uint32_t dropped = 0;
	if (log_allowed(&s->limit, loop_now_us(), &dropped))
		LOG(LEVEL_WARNING, &s->log, "enrolment_refused", LOG_TEXT("peer", address),
		    LOG_TEXT("code", ferry_error_name((int)code)), LOG_TEXT("why", sentence),
		    LOG_INT("dropped", dropped));
}

static void on_enrol_log(void *ctx, const char *text)
{
	say(ctx, LEVEL_WARNING, "enrolment", text);
}

static void on_store_log(void *ctx, const char *text)
{
	say(ctx, LEVEL_WARNING, "store", text);
}

static void on_loop_log(void *ctx, const char *line)
{
	say(ctx, LEVEL_DEBUG, "network", line);
}

/* ---- the end ---- */

static void end_when_empty(void *ctx)
{
	struct serve *s = ctx;
	struct hub_core_stats stats;
	hub_core_drain(s->core); /* what was merging may be done */
	hub_core_stats(s->core, &stats);
	bool empty = stats.sessions == 0 && link_server_count(s->devices) == 0;
	if (empty || loop_now_us() >= s->drain_until)
		loop_stop(s->loop);
	else
		loop_timer_set(s->drain_timer, loop_now_us() + 20000);
}

static void on_signal(void *ctx, int number)
{
	struct serve *s = ctx;
	LOG(LEVEL_INFO, &s->log, "signal", LOG_INT("number", number));
	if (number == SIGHUP)
		return;
	if (s->draining) { /* asked twice: at once */
		loop_stop(s->loop);
		return;
	}
	s->draining = s->view.draining = true;
	s->drain_until = loop_now_us() + s->settings->drain_timeout_us;
	end_when_empty(s);
}

/* ---- witness ---- */

static void write_witness(void *ctx)
{
	struct serve *s = ctx;
	struct hub_newest newest;
	struct ferry_why why = {0};
	hub_core_newest(s->core, &newest);
	const struct registry_tenant *t = registry_tenant(s->registry, &newest.tenant);
	if (t && !*t->conninfo && witness_write(s->settings->state_dir, &newest, &why) != FERRY_OK)
		say(s, LEVEL_WARNING, "no_witness", why.text);
	loop_timer_set(s->witness_timer, loop_now_us() + WITNESS_INTERVAL_US);
}

/* ---- start ---- */

static void tell_lost(struct serve *s, int64_t lost)
{
	if (lost > 0)
		LOG(LEVEL_ERROR, &s->log, "rewound", LOG_INT("position", lost),
		    LOG_TEXT("sentence", "the database is older than the witness beside this hub: it was restored from a backup; what "
					 "devices kept comes back as they connect, and leased numbers are skipped"));
}

/* Before anything listens: is this a database we may serve? */
static enum ferry_error check_database(struct serve *s, struct ferry_why *why)
{
	const struct hub_settings *settings = s->settings;
	int64_t lost = 0;
	char folder[FILES_PATH_MAX];
	struct pg_admin *db;
	enum ferry_error e = migrate_find(*settings->sql_dir ? settings->sql_dir : NULL, folder, why);
	if (e != FERRY_OK)
		return e;
	e = pg_admin_open(settings->database, &db, why);
	if (e != FERRY_OK)
		return e;
	e = migrate_check(db, folder, why);
	if (e == FERRY_OK)
		e = pg_check_role(db, settings->allow_unsafe_database, why);
	if (e == FERRY_OK)
		e = witness_check(settings->state_dir, db, &lost, why);
	if (e == FERRY_OK)
		tell_lost(s, lost);
	pg_admin_close(db);
	return e;
}

/* A machine that just booted starts this hub before PostgreSQL is ready. A server that answers may still have
 * broken one connection; what it says three times it means. */
static enum ferry_error await_database(struct serve *s, struct ferry_why *why)
{
	const struct hub_settings *settings = s->settings;
	int64_t end = loop_now_us() + settings->database_wait_us;
	for (int refusals = 0;;) {
		enum ferry_error e = check_database(s, why);
		if (e != FERRY_DATABASE || loop_now_us() >= end)
			return e;
		if (!pg_admin_server_away(settings->database) && ++refusals == REFUSALS_BELIEVED)
			return e;
		LOG(LEVEL_WARNING, &s->log, "database_away", LOG_TEXT("why", why->text));
		(void)usleep(DATABASE_RETRY_US);
	}
}

static enum ferry_error make_core(struct serve *s)
{
	const struct hub_settings *t = s->settings;
	struct hub_limits limits = hub_limits_default;
	limits.session_credit_bytes = (uint32_t)t->session_credit;
	limits.batch_rows_max = (uint32_t)t->batch_rows;
	limits.batch_bytes_max = (uint32_t)t->batch_bytes;
	limits.ring_bytes_max = (uint32_t)t->ring_bytes;
	limits.fill_chunk_bytes = (uint32_t)t->fill_bytes;
	limits.hello_timeout_us = t->hello_timeout_us;
	limits.poll_interval_us = t->poll_interval_us;
	limits.shut_retry_us = t->shut_retry_us;
	limits.heal_window_us = t->heal_window_us;
	limits.heal_park_us = t->heal_park_us;
	limits.version_min = (int)t->version_min;
	limits.version_max = (int)t->version_max;
	struct pg_store_config store = {.conninfo = t->database,
					.connections = (uint32_t)t->connections,
					.lock_timeout_ms = (uint32_t)(t->lock_timeout_us / 1000),
					.kept_device_bytes_max = t->kept_device,
					.kept_tenant_bytes_max = t->kept_tenant,
					.log = on_store_log,
					.log_ctx = s};
	s->store = pg_store_open(&store, &s->io);
	struct places_config places = {.home = s->store, .registry = s->registry, .store = store,
				       .idle_us = t->placement_idle_us};
	if (s->store)
		s->places = places_open(&places, &s->io);
	if (s->places)
		s->core = hub_core_new(&limits, &effects, s, &places_ops, s->places);
	return s->core ? FERRY_OK : FERRY_NO_MEMORY;
}

static enum ferry_error make_registry(struct serve *s)
{
	static const struct registry_effects registry_effects = {on_revoked, on_loaded, on_tenant, on_registry_log, on_looked};
	s->registry = registry_open(s->settings->database, &s->io, s->settings->registry_interval_us,
				    &registry_effects, s);
	return s->registry ? FERRY_OK : FERRY_NO_MEMORY;
}

static enum ferry_error listen_devices(struct serve *s, struct ferry_why *why)
{
	struct link_server_config config = {
		.address = s->settings->device_address,
		.port = (int)s->settings->device_port,
		.certificate_pem = s->authority.server_pem,
		.key_pem = s->authority.server_key_pem,
		.client_ca_pem = s->authority.ca_pem,
		.connections_max = (unsigned)s->settings->links_max,
		.limits = {.queue_bytes_max = QUEUE_BYTES_MAX},
	};
	static const struct link_calls calls = {on_verify, on_open, on_message, on_drained, on_close};
	enum ferry_error e = link_listen(s->loop, &config, &calls, s, &s->devices, why);
	if (e == FERRY_OK)
		s->view.device_port = link_server_port(s->devices);
	return e;
}

static enum ferry_error listen_enrolment(struct serve *s, struct ferry_why *why)
{
	static const struct enrol_effects enrol_effects = {on_enrolled, on_renewed, on_enrol_refused, on_enrol_log};
	const struct hub_settings *t = s->settings;
	struct enrol_config desk = {
		.conninfo = t->database,
		.authority = &s->authority,
		.hub_host = hub_public_host(t),
		.hub_port = t->public_device_port ? (int)t->public_device_port : s->view.device_port,
		.certificate_us = t->device_certificate_us,
	};
	struct http_server_config config = {
		.address = t->enrol_address,
		.port = (int)t->enrol_port,
		.certificate_pem = s->authority.server_pem,
		.key_pem = s->authority.server_key_pem,
		.body_bytes_max = ENROL_BODY_BYTES_MAX,
	};
	s->desk = enrol_desk_open(&desk, &s->io, &enrol_effects, s);
	if (!s->desk)
		return FERRY_NO_MEMORY;
	enum ferry_error e = http_serve(s->loop, &config, enrol_desk_request, s->desk, &s->enrolment, why);
	if (e == FERRY_OK)
		s->view.enrol_port = http_server_port(s->enrolment);
	return e;
}

static enum ferry_error listen_administration(struct serve *s, struct ferry_why *why)
{
	char path[FILES_PATH_MAX];
	struct http_server_config config = {.unix_path = path};
	enum ferry_error e = hub_admin_socket(s->settings, path, why);
	s->view.core = s->core;
	s->view.store = s->store;
	s->view.places = s->places;
	s->view.registry = s->registry;
	s->view.started_wall_us = loop_wall_us();
	return e == FERRY_OK ? http_serve(s->loop, &config, admin_request, &s->view, &s->administration, why) : e;
}

static enum ferry_error begin(struct serve *s, struct ferry_why *why)
{
	struct loop_config config = {.descriptors_max = (unsigned)s->settings->links_max + DESCRIPTORS_BESIDES,
				     .handshake_timeout_s = SILENCE_TIMEOUT_S,
				     .log = on_loop_log,
				     .log_context = s};
	enum ferry_error e = authority_open(s->settings, loop_wall_us() / 1000000, &s->authority, why);
	if (e == FERRY_OK)
		e = await_database(s, why);
	if (e == FERRY_OK)
		e = loop_new(&config, &s->loop, why);
	if (e != FERRY_OK)
		return e;
	pg_loop_init(&s->io, s->loop);
	e = loop_timer_new(s->loop, core_due, s, &s->core_timer);
	if (e == FERRY_OK)
		e = loop_timer_new(s->loop, end_when_empty, s, &s->drain_timer);
	if (e == FERRY_OK)
		e = loop_timer_new(s->loop, write_witness, s, &s->witness_timer);
	if (e == FERRY_OK)
		e = loop_signals(s->loop, on_signal, s, why);
	if (e == FERRY_OK)
		e = make_registry(s); /* its first answer comes from the loop: the core is there by then */
	if (e == FERRY_OK)
		e = make_core(s);
	if (e == FERRY_OK)
		e = listen_devices(s, why);
	if (e == FERRY_OK)
		e = listen_enrolment(s, why);
	if (e == FERRY_OK)
		e = listen_administration(s, why);
	if (e == FERRY_OK)
		loop_timer_set(s->witness_timer, loop_now_us() + WITNESS_INTERVAL_US);
	if (e == FERRY_OK)
		loop_timer_set(s->core_timer, loop_now_us()); /* what is parked is looked at though nobody comes */
	return e;
}

/* Listeners first: none of their callbacks comes once the core is gone. */
static void finish(struct serve *s)
{
	http_server_free(s->administration);
	http_server_free(s->enrolment);
	link_server_free(s->devices);
	enrol_desk_close(s->desk);
	places_close(s->places);
	s->places = NULL; /* the registry may speak once more */
	if (s->store)
		pg_store_close(s->store);
	registry_close(s->registry);
	if (s->core)
		hub_core_free(s->core);
	loop_timer_free(s->core_timer);
	loop_timer_free(s->drain_timer);
	loop_timer_free(s->witness_timer);
	loop_free(s->loop);
	authority_close(&s->authority);
}

enum ferry_error hub_serve(const struct hub_settings *settings, struct ferry_why *why)
{
	struct serve s = {.settings = settings, .limit = {.interval_us = 10000000, .count_max = 200}};
	the_serve = &s;
	enum ferry_error e = begin(&s, why);
	if (e == FERRY_OK) {
		if (s.authority.made_ca)
			LOG(LEVEL_INFO, &s.log, "ca_made", LOG_TEXT("folder", settings->state_dir));
		loop_run(s.loop);
		write_witness(&s);
		LOG(LEVEL_INFO, &s.log, "stopped");
	}
	finish(&s);
	the_serve = NULL;
	return e;
}
