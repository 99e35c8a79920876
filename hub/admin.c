#include "hub/admin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/json.h"
#include "shared/log.h"

static void answer(struct http_request *request, unsigned status, struct json *o)
{
	char *text = json_write_text(o, false);
	http_respond(request, status, "application/json", text, strlen(text));
	free(text);
	json_release(o);
}

static void refuse(struct http_request *request, unsigned status, enum ferry_error e, const char *sentence)
{
	struct json *o = json_new_object(), *error = json_new_object();
	json_put_text(error, "code", ferry_error_name((int)e));
	json_put_int(error, "number", e);
	json_put_text(error, "sentence", sentence);
	json_put(o, "error", error);
	answer(request, status, o);
}

static void put_store(struct json *o, const struct pg_store *store)
{
	struct pg_store_stats s;
	struct json *d = json_new_object();
	pg_store_stats(store, &s);
	json_put_int(d, "connections_ready", s.links_ready);
	json_put_int(d, "connections", s.links);
	json_put_int(d, "connections_lost", (int64_t)s.lost);
	json_put_int(d, "waiting", s.waiting);
	json_put_int(d, "merges", (int64_t)s.merges);
	json_put_int(d, "merge_retries", (int64_t)s.merge_retries);
	json_put_int(d, "narrowings", (int64_t)s.narrowings);
	json_put_int(d, "held_back", (int64_t)s.held_back);
	json_put_int(d, "kept_full", (int64_t)s.kept_full);
	json_put_int(d, "feeds", (int64_t)s.feeds);
	json_put_int(d, "fills", (int64_t)s.fills);
	json_put_int(d, "oversized_rows", (int64_t)s.oversized);
	json_put(o, "database", d);
}

static void add_place(void *ctx, const char *conninfo, const struct uuid *tenant, const struct pg_store *store)
{
	char text[UUID_TEXT];
	struct pg_store_stats s;
	struct json *o = json_new_object();
	pg_store_stats(store, &s);
	uuid_format(tenant, text);
	json_put_text(o, "conninfo", *conninfo ? conninfo : NULL);
	json_put_text(o, "tenant", uuid_is_zero(tenant) ? NULL : text);
	json_put_int(o, "connections_ready", s.links_ready);
	json_put_int(o, "merges", (int64_t)s.merges);
	json_add(ctx, o);
}

static void show_status(const struct admin_view *v, struct http_request *request)
{
	struct hub_core_stats s;
	struct json *o = json_new_object();
	hub_core_stats(v->core, &s);
	json_put_text(o, "version", FERRY_PROGRAM_VERSION);
	json_put_text(o, "state", v->draining ? "draining" : "serving");
	json_put_int(o, "pid", getpid());
	json_put_int(o, "started_at", v->started_wall_us);
	json_put_int(o, "device_port", v->device_port);
	json_put_int(o, "enrol_port", v->enrol_port);
	json_put_int(o, "devices", registry_count(v->registry));
	json_put_int(o, "sessions", s.sessions);
	json_put_int(o, "tenants", s.tenants);
	json_put_int(o, "merge_queue", s.merge_queue);
	json_put_int(o, "merges", (int64_t)s.merges);
	json_put_int(o, "change_sets", (int64_t)s.change_sets);
	json_put_int(o, "rejected", (int64_t)s.rejected);
	json_put_int(o, "superseded", (int64_t)s.superseded);
	json_put_int(o, "feeds", (int64_t)s.feeds);
	json_put_int(o, "frames_sent", (int64_t)s.frames_sent);
	json_put_int(o, "bytes_sent", (int64_t)s.bytes_sent);
	json_put_int(o, "bytes_received", (int64_t)s.bytes_received);
	put_store(o, v->store);
	struct json *places = json_new_array();
	places_each(v->places, add_place, places);
	json_put(o, "places", places);
	answer(request, 200, o);
}

static void add_session(void *ctx, const struct uuid *tenant, const struct uuid *device, int64_t bookmark,
			const char *state)
{
	char text[UUID_TEXT];
	struct json *o = json_new_object();
	uuid_format(tenant, text);
	json_put_text(o, "tenant", text);
	uuid_format(device, text);
	json_put_text(o, "device", text);
	json_put_int(o, "bookmark", bookmark);
	json_put_text(o, "state", state);
	json_add(ctx, o);
}

static void show_sessions(const struct admin_view *v, struct http_request *request)
{
	struct json *list = json_new_array();
	hub_core_sessions(v->core, add_session, list);
	answer(request, 200, list);
}

static void cut_device(const struct admin_view *v, struct http_request *request, const struct json *body)
{
	const char *text = json_text(json_get(body, "device"));
	struct uuid device;
	if (!text || !uuid_parse(text, strlen(text), &device)) {
		refuse(request, 400, FERRY_USAGE, "the body names no device");
		return;
	}
	hub_core_revoke(v->core, &device);
	registry_refresh(v->registry);
	struct json *o = json_new_object();
	json_put_text(o, "device", text);
	answer(request, 200, o);
}

static void look_at_tenants(const struct admin_view *v, struct http_request *request)
{
	registry_refresh(v->registry);
	answer(request, 200, json_new_object());
}

static void set_level(struct http_request *request, const struct json *body)
{
	const char *text = json_text(json_get(body, "level"));
	enum log_level level;
	if (!text || !log_level_from_name(text, &level)) {
		refuse(request, 400, FERRY_USAGE, "the level is one of error, warning, info, debug");
		return;
	}
	log_open("ferry-hub", level);
	struct json *o = json_new_object();
	json_put_text(o, "level", text);
	answer(request, 200, o);
}

void admin_request(struct http_request *request, void *context)
{
	const struct admin_view *v = context;
	const char *path = http_request_path(request);
	bool post = strcmp(http_request_method(request), "POST") == 0;
	struct ferry_why why = {0};
	struct json *body = NULL;
	size_t n;
	const char *text = (const char *)http_request_body(request, &n);
	if (post && json_read_text(text, n, &body, &why) != FERRY_OK)
		refuse(request, 400, FERRY_MALFORMED, why.text);
	else if (!post && strcmp(path, "/v1/status") == 0)
		show_status(v, request);
	else if (!post && strcmp(path, "/v1/sessions") == 0)
		show_sessions(v, request);
	else if (post && strcmp(path, "/v1/revoke") == 0)
		cut_device(v, request, body);
	else if (post && strcmp(path, "/v1/tenants") == 0)
		look_at_tenants(v, request);
	else if (post && strcmp(path, "/v1/log-level") == 0)
		set_level(request, body);
	else
		refuse(request, 404, FERRY_NOT_FOUND, "there is no such address here");
	json_release(body);
}
