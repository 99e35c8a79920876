#include "agent/enrol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/replica.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/link_http.h"
#include "shared/random.h"
#include "shared/sha256.h"
#include "shared/token.h"

#define ENROL_TIMEOUT_US INT64_C(20000000)

struct place { /* where the hub enrols */
	const char *host;
	int port;
};

static enum ferry_error fetch_ca(const struct place *at, const struct token *token, char out[PKI_PEM_MAX],
				 struct ferry_why *why)
{
	struct http_client_config config = {
		.host = at->host, .port = at->port, .path = ENROL_CA_PATH, .timeout_us = ENROL_TIMEOUT_US};
	struct pki_certificate ca;
	unsigned status;
	char *body;
	size_t n;
	enum ferry_error e = http_fetch_now(&config, &status, &body, &n, why);
	if (e != FERRY_OK)
		return e;
	if (status != 200 || n >= PKI_PEM_MAX || pki_certificate_read_pem(body, &ca, NULL) != FERRY_OK)
		e = ferry_fail(why, FERRY_BAD_TOKEN, "%s port %d is no enrolment port of a hub", at->host, at->port);
	else if (!secret_equal(ca.fingerprint, token->ca_fingerprint, sizeof(ca.fingerprint)))
		e = ferry_fail(why, FERRY_BAD_TOKEN,
			       "the hub at %s port %d is not the one that made the token (its CA differs)", at->host,
			       at->port);
	else
		memcpy(out, body, n + 1);
	free(body);
	return e;
}

/* The hub's refusal as it said it. */
static enum ferry_error refused(unsigned status, const struct json *answer, struct ferry_why *why)
{
	const struct json *error = json_get(answer, "error");
	int64_t number = json_int(json_get(error, "number"), 0);
	const char *sentence = json_text(json_get(error, "sentence"));
	if (number > 0 && number < 1000 && ferry_error_known((int)number) && sentence)
		return ferry_fail(why, (enum ferry_error)number, "%s", sentence);
	return ferry_fail(why, FERRY_LINK_CLOSED, "the hub answered with HTTP status %u", status);
}

static bool take_text(char *out, size_t max, const struct json *v)
{
	const char *text = json_text(v);
	if (!text || strlen(text) >= max)
		return false;
	memcpy(out, text, strlen(text) + 1);
	return true;
}

static bool take_uuid(struct uuid *out, const struct json *v)
{
	const char *text = json_text(v);
	return text && uuid_parse(text, strlen(text), out);
}

static enum ferry_error take_answer(const struct json *answer, struct identity *id, struct ferry_why *why)
{
	struct pki_certificate certificate;
	int64_t port = json_int(json_get(answer, "hub_port"), 0);
	bool good = take_uuid(&id->device, json_get(answer, "device")) &&
		    take_uuid(&id->tenant, json_get(answer, "tenant")) &&
		    take_text(id->name, sizeof(id->name), json_get(answer, "name")) &&
		    take_text(id->certificate_pem, sizeof(id->certificate_pem), json_get(answer, "certificate")) &&
		    take_text(id->hub_host, sizeof(id->hub_host), json_get(answer, "hub_host")) && port > 0 &&
		    port < 65536;
	id->hub_port = (int)port;
	if (!good)
		return ferry_fail(why, FERRY_BAD_MESSAGE, "the hub's answer lacks a field");
	enum ferry_error e = pki_certificate_read_pem(id->certificate_pem, &certificate, why);
	if (e == FERRY_OK)
		e = pki_key_matches(id->key_pem, id->certificate_pem, why);
	if (e == FERRY_OK && (certificate.is_ca || !certificate.for_client))
		e = ferry_fail(why, FERRY_BAD_MESSAGE, "the hub's certificate is not one for a device");
	return e;
}

enum ferry_error enrol_read_answer(unsigned status, const char *text, size_t n, struct identity *id,
				   struct ferry_why *why)
{
	struct json *answer = NULL;
	if (json_read_text(text, n, &answer, NULL) != FERRY_OK)
		answer = NULL;
	enum ferry_error e = status == 200 ? take_answer(answer, id, why) : refused(status, answer, why);
	json_release(answer);
	return e;
}

static char *request_body(const struct token *token, const char *request_pem, const char *device_class)
{
	char secret[2 * TOKEN_SECRET_BYTES];
	struct json *o = json_new_object();
	base64url_write(token->secret, TOKEN_SECRET_BYTES, secret);
	json_put_text(o, "secret", secret);
	json_put_text(o, "request", request_pem);
	json_put_text(o, "class", device_class);
	char *text = json_write_text(o, true);
	json_release(o);
	secret_wipe(secret, sizeof(secret));
	return text;
}

static enum ferry_error ask(const struct place *at, const struct token *token, const char *device_class,
			    struct identity *id, struct ferry_why *why)
{
	char request[PKI_PEM_MAX];
	enum ferry_error e = pki_key_create(id->key_pem, why);
	if (e == FERRY_OK)
		e = pki_request_create(id->key_pem, "device", request, why);
	if (e != FERRY_OK)
		return e;
	char *body = request_body(token, request, device_class), *answer_text;
	struct http_client_config config = {.host = at->host, .port = at->port, .path = ENROL_POST_PATH,
					    .ca_pem = id->ca_pem, .body = body, .body_bytes = strlen(body),
					    .timeout_us = ENROL_TIMEOUT_US};
	unsigned status;
	size_t n;
	e = http_fetch_now(&config, &status, &answer_text, &n, why);
	secret_wipe(body, strlen(body));
	free(body);
	if (e != FERRY_OK)
		return e;
	e = enrol_read_answer(status, answer_text, n, id, why);
	free(answer_text);
	return e;
}

/* Moves the files of a replica that belongs to another device out of the way;
 * its unsent changes stay readable there. */
static enum ferry_error set_replica_aside(const char *path, char out[FILES_PATH_MAX], struct ferry_why *why)
{
	static const char *const parts[] = {"", "-wal", "-shm"};
	int n = snprintf(out, FILES_PATH_MAX, "%s.%lld", path, (long long)(clock_wall_us() / 1000000));
	if (n < 0 || n >= FILES_PATH_MAX - 8)
		return ferry_fail(why, FERRY_LIMIT, "the path %.60s... is too long", path);
	for (size_t i = 0; i < 3; i++) {
		char from[FILES_PATH_MAX + 8], to[FILES_PATH_MAX + 8];
		snprintf(from, sizeof(from), "%s%s", path, parts[i]);
		snprintf(to, sizeof(to), "%s%s", out, parts[i]);
		if (rename(from, to) != 0 && errno != ENOENT)
			return ferry_fail(why, FERRY_IO, "%s cannot be moved: %s", from, strerror(errno));
	}
	return FERRY_OK;
}

/* Apps of other users write to the replica when they are in the group of its
 * folder and that may be written by it; nobody else gets to see it. SQLite
 * gives the files beside it the same mode. */
static enum ferry_error set_replica_mode(const char *path, const char *folder, struct ferry_why *why)
{
	struct stat s;
	mode_t mode = 0600;
	if (stat(folder, &s) == 0 && (s.st_mode & S_IWGRP))
		mode = 0660;
	if (chmod(path, mode) != 0)
		return ferry_fail(why, FERRY_IO, "the mode of %s cannot be set: %s", path, strerror(errno));
	return FERRY_OK;
}

static enum ferry_error give_replica(const char *path, const struct agent_settings *settings,
				     const struct identity *id, struct ferry_why *why)
{
	struct replica_options options = {.create = true, .full = settings->durable,
					  .busy_timeout_ms = (int)(settings->busy_timeout_us / 1000)};
	struct replica *r;
	enum ferry_error e = replica_open(path, &options, &r, why);
	if (e != FERRY_OK)
		return e;
	e = set_replica_mode(path, settings->state_dir, why);
	if (e == FERRY_OK)
		e = replica_enrol(r, &id->tenant, &id->device, id->hub_host, why);
	replica_close(r);
	return e;
}

static enum ferry_error put_in_place(const struct agent_paths *paths, const struct agent_settings *settings,
				     const struct identity *id, char set_aside[FILES_PATH_MAX], struct ferry_why *why)
{
	set_aside[0] = '\0';
	enum ferry_error e = FERRY_OK;
	if (files_exists(paths->replica)) /* of another device for certain: this one is minutes old */
		e = set_replica_aside(paths->replica, set_aside, why);
	if (e == FERRY_OK)
		e = give_replica(paths->replica, settings, id, why);
	/* Last: with it the device is enrolled. */
	return e == FERRY_OK ? identity_store(paths->identity, id, why) : e;
}

static enum ferry_error enrol_locked(const struct agent_settings *settings, const struct agent_paths *paths,
				     const struct enrol_request *request, struct identity *out,
				     char set_aside[FILES_PATH_MAX], struct ferry_why *why)
{
	struct token token;
	if (!request->force && identity_exists(paths->identity))
		return ferry_fail(why, FERRY_EXISTS, "this device is enrolled already (%s)", paths->identity);
	enum ferry_error e = token_read(request->token, &token, why);
	if (e != FERRY_OK)
		return e;
	struct place at = {request->host ? request->host : token.host, request->port ? request->port : token.port};
	memset(out, 0, sizeof(*out));
	snprintf(out->enrol_host, sizeof(out->enrol_host), "%s", at.host);
	out->enrol_port = at.port;
	e = fetch_ca(&at, &token, out->ca_pem, why);
	if (e == FERRY_OK)
		e = ask(&at, &token, settings->device_class, out, why);
	if (e == FERRY_OK)
		e = put_in_place(paths, settings, out, set_aside, why);
	secret_wipe(&token, sizeof(token));
	return e;
}

enum ferry_error enrol(const struct agent_settings *settings, const struct enrol_request *request,
		       struct identity *out, char set_aside[FILES_PATH_MAX], struct ferry_why *why)
{
	struct agent_paths paths;
	int lock;
	enum ferry_error e = agent_paths_of(settings->state_dir, &paths, why);
	if (e == FERRY_OK)
		e = files_make_folder(settings->state_dir, 0750, why);
	if (e == FERRY_OK)
		e = files_make_folder(paths.run, 0755, why);
	if (e == FERRY_OK)
		e = files_lock(paths.lock, &lock, why);
	if (e == FERRY_EXISTS)
		return ferry_fail(why, FERRY_EXISTS, "ferry-agent is running on %s", settings->state_dir);
	if (e != FERRY_OK)
		return e;
	e = enrol_locked(settings, &paths, request, out, set_aside, why);
	close(lock);
	return e;
}
