#include "agent/renew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/enrol.h"
#include "shared/json.h"
#include "shared/link_http.h"
#include "shared/random.h"
#include "shared/token.h"

#define RENEW_TIMEOUT_US INT64_C(20000000)
#define LOOK_AGAIN_S     3600 /* the clock may be set meanwhile */
#define RETRY_MAX_S      3600

struct renewal {
	struct renewal_config config;
	struct identity *identity;
	struct renewal_effects effects;
	void *ctx;
	struct loop_timer *timer;
	struct identity fresh; /* while a request is under way */
	bool busy;
};

/* notBefore lies PKI_BACKDATE_S before the certificate was made. */
static int64_t life_s(const struct pki_certificate *c)
{
	return c->not_after_s - c->not_before_s - PKI_BACKDATE_S;
}

int64_t renewal_due_s(const struct pki_certificate *c)
{
	return c->not_before_s + PKI_BACKDATE_S + life_s(c) / 3 * 2;
}

static void look_in(struct renewal *r, int64_t seconds)
{
	loop_timer_set(r->timer, loop_now_us() + seconds * 1000000);
}

/* A fiftieth of its life, so that there are many attempts before it ends. */
static void failed(struct renewal *r, const char *text)
{
	struct pki_certificate c = {0};
	int64_t pause = RETRY_MAX_S;
	secret_wipe(&r->fresh, sizeof(r->fresh));
	if (pki_certificate_read_pem(r->identity->certificate_pem, &c, NULL) == FERRY_OK && life_s(&c) / 50 < pause)
		pause = life_s(&c) / 50;
	look_in(r, pause < 1 ? 1 : pause);
	r->effects.failed(r->ctx, text);
}

static char *request_body(const struct identity *present, const char *request, struct ferry_why *why)
{
	char said[sizeof(PKI_RENEW_PREFIX) + PKI_PEM_MAX], signature[2 * PKI_SIGNATURE_MAX];
	uint8_t bytes[PKI_SIGNATURE_MAX];
	size_t n = 0;
	snprintf(said, sizeof(said), "%s%s", PKI_RENEW_PREFIX, request);
	if (pki_sign(present->key_pem, said, strlen(said), bytes, &n, why) != FERRY_OK)
		return NULL;
	base64url_write(bytes, n, signature);
	struct json *o = json_new_object();
	json_put_text(o, "certificate", present->certificate_pem);
	json_put_text(o, "request", request);
	json_put_text(o, "signature", signature);
	char *text = json_write_text(o, true);
	json_release(o);
	return text;
}

static enum ferry_error take(struct renewal *r, unsigned status, const uint8_t *body, size_t n, struct ferry_why *why)
{
	struct uuid device = r->fresh.device;
	enum ferry_error e = enrol_read_answer(status, (const char *)body, n, &r->fresh, why);
	if (e == FERRY_OK && !uuid_equal(&device, &r->fresh.device))
		e = ferry_fail(why, FERRY_BAD_MESSAGE, "the hub's certificate is another device's");
	return e == FERRY_OK ? identity_store(r->config.folder, &r->fresh, why) : e;
}

static void answered(void *ctx, enum ferry_error code, const char *text, unsigned status, const uint8_t *body, size_t n)
{
	struct renewal *r = ctx;
	struct ferry_why why = {0};
	r->busy = false;
	if (code != FERRY_OK) {
		failed(r, text);
	} else if (take(r, status, body, n, &why) != FERRY_OK) {
		failed(r, why.text);
	} else {
		*r->identity = r->fresh;
		secret_wipe(&r->fresh, sizeof(r->fresh));
		look_in(r, 1); /* when the new one is due */
		r->effects.renewed(r->ctx);
	}
}

static enum ferry_error ask(struct renewal *r, struct ferry_why *why)
{
	char request[PKI_PEM_MAX];
	const struct identity *id = r->identity;
	struct http_client_config config = {.host = r->config.host ? r->config.host : id->enrol_host,
					    .port = r->config.port ? r->config.port : id->enrol_port,
					    .path = ENROL_RENEW_PATH, .ca_pem = id->ca_pem, .timeout_us = RENEW_TIMEOUT_US};
	if (!config.port || !*config.host)
		return ferry_fail(why, FERRY_CONFIG, "the hub's enrolment port is not known: set hub.enrol_port");
	r->fresh = *id;
	enum ferry_error e = pki_key_create(r->fresh.key_pem, why);
	if (e == FERRY_OK)
		e = pki_request_create(r->fresh.key_pem, "device", request, why);
	if (e != FERRY_OK)
		return e;
	char *body = request_body(id, request, why);
	if (!body)
		return FERRY_INTERNAL;
	config.body = body;
	config.body_bytes = strlen(body);
	e = http_fetch(r->config.loop, &config, answered, r, why);
	free(body);
	r->busy = e == FERRY_OK;
	return e;
}

static void look(void *ctx)
{
	struct renewal *r = ctx;
	struct pki_certificate c;
	struct ferry_why why = {0};
	int64_t now_s = loop_wall_us() / 1000000;
	if (pki_certificate_read_pem(r->identity->certificate_pem, &c, &why) != FERRY_OK) {
		failed(r, why.text);
		return;
	}
	int64_t left = renewal_due_s(&c) - now_s;
	if (left > 0)
		look_in(r, left < LOOK_AGAIN_S ? left : LOOK_AGAIN_S);
	else if (ask(r, &why) != FERRY_OK)
		failed(r, why.text);
}

enum ferry_error renewal_open(const struct renewal_config *config, struct identity *identity,
			      const struct renewal_effects *effects, void *ctx, struct renewal **out,
			      struct ferry_why *why)
{
	struct renewal *r = calloc(1, sizeof(*r));
	if (!r)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory for renewing certificates");
	r->config = *config;
	r->identity = identity;
	r->effects = *effects;
	r->ctx = ctx;
	enum ferry_error e = loop_timer_new(config->loop, look, r, &r->timer);
	if (e != FERRY_OK) {
		free(r);
		return e;
	}
	look_in(r, 0);
	*out = r;
	return FERRY_OK;
}

bool renewal_is_busy(const struct renewal *r)
{
	return r && r->busy;
}

void renewal_close(struct renewal *r)
{
	if (!r)
		return;
	loop_timer_free(r->timer);
	secret_wipe(r, sizeof(*r));
	free(r);
}
