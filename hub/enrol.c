#include "hub/enrol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/pg_conn.h"
#include "shared/json.h"
#include "shared/random.h"
#include "shared/sha256.h"
#include "shared/token.h"

#define BATCH_BYTES_MAX (1u << 20)
#define DEVICE_CLASS_BYTES_MAX 60
#define CLASS_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

struct applicant {
	struct http_request *request;
	struct applicant *next;
	bool renews;
	uint8_t secret_hash[SHA256_BYTES];        /* of a token */
	uint8_t used[PKI_FINGERPRINT_BYTES];      /* renews: the certificate that it has */
	char request_pem[PKI_PEM_MAX];
	char class[DEVICE_CLASS_BYTES_MAX + 1]; /* as the device calls its own; "": it does not say */
	/* once it is known who it is */
	struct uuid device, tenant;
	char name[128];
	char certificate[PKI_PEM_MAX];
	uint8_t fingerprint[PKI_FINGERPRINT_BYTES];
};

struct enrol_desk {
	struct enrol_config config;
	const struct pg_io *io;
	struct enrol_effects effects;
	void *ctx;
	struct pg_link *link;
	struct pg_batch batch;
	struct applicant *first, **end; /* the first is being served while busy */
	unsigned waiting;
	bool busy;
};

static void next(struct enrol_desk *d);

/* ---- answers ---- */

static unsigned status_of(enum ferry_error e)
{
	switch (e) {
	case FERRY_OK:
		return 200;
	case FERRY_BAD_TOKEN:
	case FERRY_REVOKED:
	case FERRY_UNKNOWN_DEVICE:
	case FERRY_NO_CERTIFICATE:
		return 403;
	case FERRY_BAD_REQUEST:
	case FERRY_MALFORMED:
		return 400;
	case FERRY_NOT_FOUND:
		return 404;
	default:
		return 503;
	}
}

static void answer_json(struct http_request *request, unsigned status, struct json *o)
{
	char *text = json_write_text(o, true);
	http_respond(request, status, "application/json", text, strlen(text));
	free(text);
	json_release(o);
}

static void refuse(struct enrol_desk *d, struct http_request *request, enum ferry_error e, const char *sentence)
{
	struct json *o = json_new_object(), *error = json_new_object();
	json_put_text(error, "code", ferry_error_name((int)e));
	json_put_int(error, "number", e);
	json_put_text(error, "sentence", sentence);
	json_put(o, "error", error);
	d->effects.refused(d->ctx, http_request_address(request), e, sentence);
	answer_json(request, status_of(e), o);
}

static void leave(struct enrol_desk *d, struct applicant *a)
{
	d->first = a->next;
	if (!d->first)
		d->end = &d->first;
	d->waiting--;
	secret_wipe(a, sizeof(*a));
	free(a);
}

static void admit(struct enrol_desk *d, struct applicant *a)
{
	char text[UUID_TEXT];
	struct json *o = json_new_object();
	uuid_format(&a->device, text);
	json_put_text(o, "device", text);
	uuid_format(&a->tenant, text);
	json_put_text(o, "tenant", text);
	json_put_text(o, "name", a->name);
	json_put_text(o, "certificate", a->certificate);
	json_put_text(o, "hub_host", d->config.hub_host);
	json_put_int(o, "hub_port", d->config.hub_port);
	if (a->renews)
		d->effects.renewed(d->ctx, &a->tenant, &a->device, a->fingerprint);
	else
		d->effects.enrolled(d->ctx, &a->tenant, &a->device, a->name, a->fingerprint);
	answer_json(a->request, 200, o);
	leave(d, a);
}

/* ---- the transaction ---- */

static void rolled_back(void *ctx)
{
	struct enrol_desk *d = ctx;
	d->busy = false;
	next(d);
}

/* The applicant is answered; the connection is brought back to order. */
static void give_up(struct enrol_desk *d, enum ferry_error e, const char *sentence)
{
	refuse(d, d->first->request, e, sentence);
	leave(d, d->first);
	if (!pg_link_is_ready(d->link)) {
		d->busy = false; /* up() goes on */
		return;
	}
	pg_batch_reset(&d->batch);
	pg_call(&d->batch, "ROLLBACK");
	pg_link_submit(d->link, &d->batch, rolled_back, d);
}

static bool failed(struct enrol_desk *d)
{
	const struct pg_failure *f = &d->batch.failure;
	if (f->class == PG_FINE)
		return false;
	if (strncmp(f->sqlstate, "28", 2) == 0) {
		give_up(d, d->first->renews ? FERRY_UNKNOWN_DEVICE : FERRY_BAD_TOKEN, f->message);
	} else {
		d->effects.log(d->ctx, f->message);
		if (f->class == PG_STALE)
			pg_link_forget(d->link);
		give_up(d, FERRY_DATABASE, "the hub's database does not answer");
	}
	return true;
}

static void certified(void *ctx)
{
	struct enrol_desk *d = ctx;
	if (failed(d))
		return;
	d->busy = false;
	admit(d, d->first);
	next(d);
}

static enum ferry_error issue(struct enrol_desk *d, struct applicant *a, int64_t *out_not_after_s,
			      struct ferry_why *why)
{
	char name[UUID_TEXT];
	struct pki_certificate made;
	int64_t now_s = d->io->wall(d->io->ctx) / 1000000;
	uuid_format(&a->device, name);
	enum ferry_error e = pki_issue_device(d->config.authority->ca, a->request_pem, name, now_s,
					      now_s + d->config.certificate_us / 1000000, a->certificate, why);
	if (e == FERRY_OK)
		e = pki_certificate_read_pem(a->certificate, &made, why);
	if (e != FERRY_OK)
		return e;
	memcpy(a->fingerprint, made.fingerprint, sizeof(a->fingerprint));
	*out_not_after_s = made.not_after_s;
	return FERRY_OK;
}

static void record_new_device(struct enrol_desk *d, const struct applicant *a, int64_t not_after_s)
{
	pg_call(&d->batch, "SELECT ferry.certify($1, $2, timestamptz 'epoch' + $3 * interval '1 second')");
	pg_arg_uuid(&d->batch, &a->device);
	pg_arg_bytes(&d->batch, a->fingerprint, sizeof(a->fingerprint));
	pg_arg_int8(&d->batch, not_after_s);
	/* A class that was given with the token counts more than what the device says. */
	pg_call(&d->batch, "UPDATE ferry.device SET class = $2 WHERE id = $1 AND class = 'generic' AND $2 <> ''");
	pg_arg_uuid(&d->batch, &a->device);
	pg_arg_text(&d->batch, a->class);
}

static void record_renewed(struct enrol_desk *d, const struct applicant *a, int64_t not_after_s)
{
	pg_call(&d->batch, "SELECT ferry.renew_certificate($1, $2, $3, timestamptz 'epoch' + $4 * interval '1 second')");
	pg_arg_uuid(&d->batch, &a->device);
	pg_arg_bytes(&d->batch, a->used, sizeof(a->used));
	pg_arg_bytes(&d->batch, a->fingerprint, sizeof(a->fingerprint));
	pg_arg_int8(&d->batch, not_after_s);
}

/* A certificate that may not be renewed. */
static bool is_refused(struct enrol_desk *d)
{
	enum ferry_error e = FERRY_OK;
	if (pg_rows(&d->batch, 1) == 0)
		e = FERRY_UNKNOWN_DEVICE;
	else if (d->first->renews && strcmp(pg_text(&d->batch, 1, 0, 3), "active") != 0)
		e = FERRY_REVOKED;
	if (e != FERRY_OK)
		give_up(d, e, ferry_error_text((int)e));
	return e != FERRY_OK;
}

static void identified(void *ctx)
{
	struct enrol_desk *d = ctx;
	struct applicant *a = d->first;
	struct ferry_why why = {0};
	int64_t not_after_s = 0;
	if (failed(d) || is_refused(d))
		return;
	a->device = pg_uuid(&d->batch, 1, 0, 0);
	a->tenant = pg_uuid(&d->batch, 1, 0, 1);
	snprintf(a->name, sizeof(a->name), "%s", pg_text(&d->batch, 1, 0, 2));
	enum ferry_error e = issue(d, a, &not_after_s, &why);
	if (e != FERRY_OK) {
		give_up(d, e, why.text);
		return;
	}
	pg_batch_reset(&d->batch);
	if (a->renews)
		record_renewed(d, a, not_after_s);
	else
		record_new_device(d, a, not_after_s);
	pg_call(&d->batch, "COMMIT");
	pg_link_submit(d->link, &d->batch, certified, d);
}

static void next(struct enrol_desk *d)
{
	if (d->busy || !d->first || !pg_link_is_ready(d->link))
		return;
	d->busy = true;
	pg_batch_reset(&d->batch);
	pg_call(&d->batch, "BEGIN");
	if (d->first->renews) {
		pg_call(&d->batch, "SELECT device_id, tenant_id, name, status FROM ferry.renewing_device($1)");
		pg_arg_bytes(&d->batch, d->first->used, sizeof(d->first->used));
	} else {
		pg_call(&d->batch, "SELECT device_id, tenant_id, name FROM ferry.redeem_token($1)");
		pg_arg_bytes(&d->batch, d->first->secret_hash, SHA256_BYTES);
	}
	pg_link_submit(d->link, &d->batch, identified, d);
}

/* ---- requests ---- */

/* A device class is the name of a folder of firmware-configs: anything else is no class. */
static bool take_class(const char *text, char out[DEVICE_CLASS_BYTES_MAX + 1])
{
	size_t n = text ? strlen(text) : 0;
	if (n > DEVICE_CLASS_BYTES_MAX || (n && strspn(text, CLASS_LETTERS) != n))
		return false;
	memcpy(out, n ? text : "", n + 1);
	return true;
}

static enum ferry_error read_application(const uint8_t *body, size_t n, struct applicant *a, struct ferry_why *why)
{
	uint8_t secret[TOKEN_SECRET_BYTES];
	size_t secret_n = 0;
	struct json *o;
	enum ferry_error e = json_read_text((const char *)body, n, &o, why);
	if (e != FERRY_OK)
		return e;
	const char *secret_text = json_text(json_get(o, "secret")), *pem = json_text(json_get(o, "request"));
	if (!secret_text || !base64url_read(secret_text, strlen(secret_text), secret, sizeof(secret), &secret_n) ||
	    secret_n != sizeof(secret)) {
		e = ferry_fail(why, FERRY_BAD_TOKEN, "the token's secret is not of its form");
	} else if (!pem || strlen(pem) >= PKI_PEM_MAX) {
		e = ferry_fail(why, FERRY_BAD_REQUEST, "there is no certificate request");
	} else if (!take_class(json_text(json_get(o, "class")), a->class)) {
		e = ferry_fail(why, FERRY_BAD_REQUEST, "a device class is a name of up to %d letters, digits, - _ and .",
			       DEVICE_CLASS_BYTES_MAX);
	} else {
		sha256_of(secret, sizeof(secret), a->secret_hash);
		memcpy(a->request_pem, pem, strlen(pem) + 1);
		/* Before the token is touched: a bad request costs nothing. */
		e = pki_request_check(pem, why);
	}
	secret_wipe(secret, sizeof(secret));
	json_release(o);
	return e;
}

/* Only who has the certificate's key can have signed this. */
static enum ferry_error check_renewal(const struct enrol_desk *d, const char *certificate, const struct json *signature,
				      struct applicant *a, struct ferry_why *why)
{
	char said[sizeof(PKI_RENEW_PREFIX) + PKI_PEM_MAX];
	uint8_t bytes[PKI_SIGNATURE_MAX];
	size_t n = 0;
	struct pki_certificate read;
	const char *text = json_text(signature);
	if (!text || !base64url_read(text, strlen(text), bytes, sizeof(bytes), &n))
		return ferry_fail(why, FERRY_BAD_REQUEST, "there is no signature");
	snprintf(said, sizeof(said), "%s%s", PKI_RENEW_PREFIX, a->request_pem);
	enum ferry_error e = pki_ca_issued(d->config.authority->ca, certificate, why);
	if (e == FERRY_OK)
		e = pki_verify(certificate, said, strlen(said), bytes, n, why);
	if (e == FERRY_OK)
		e = pki_certificate_read_pem(certificate, &read, why);
	if (e == FERRY_OK)
		memcpy(a->used, read.fingerprint, sizeof(a->used));
	return e;
}

static enum ferry_error read_renewal(const struct enrol_desk *d, const uint8_t *body, size_t n, struct applicant *a,
				     struct ferry_why *why)
{
	struct json *o;
	enum ferry_error e = json_read_text((const char *)body, n, &o, why);
	if (e != FERRY_OK)
		return e;
	const char *certificate = json_text(json_get(o, "certificate")), *pem = json_text(json_get(o, "request"));
	a->renews = true;
	if (!certificate || strlen(certificate) >= PKI_PEM_MAX || !pem || strlen(pem) >= PKI_PEM_MAX) {
		e = ferry_fail(why, FERRY_BAD_REQUEST, "the certificate or the request for a new one is missing");
	} else {
		memcpy(a->request_pem, pem, strlen(pem) + 1);
		e = pki_request_check(pem, why);
		if (e == FERRY_OK)
			e = check_renewal(d, certificate, json_get(o, "signature"), a, why);
	}
	json_release(o);
	return e == FERRY_CORRUPT ? FERRY_BAD_REQUEST : e;
}

static void apply(struct enrol_desk *d, struct http_request *request, bool renews)
{
	struct ferry_why why = {0};
	size_t n;
	const uint8_t *body = http_request_body(request, &n);
	struct applicant *a = d->waiting < ENROL_WAITING_MAX ? calloc(1, sizeof(*a)) : NULL;
	if (!a) {
		refuse(d, request, FERRY_OVERLOADED, "too many devices enrol at this moment");
		return;
	}
	enum ferry_error e = renews ? read_renewal(d, body, n, a, &why) : read_application(body, n, a, &why);
	if (e != FERRY_OK) {
		free(a);
		refuse(d, request, e, why.text);
		return;
	}
	a->request = request;
	*d->end = a;
	d->end = &a->next;
	d->waiting++;
	next(d);
}

void enrol_desk_request(struct http_request *request, void *context)
{
	struct enrol_desk *d = context;
	const char *path = http_request_path(request), *method = http_request_method(request);
	if (strcmp(path, "/v1/ca") == 0 && strcmp(method, "GET") == 0) {
		const char *pem = d->config.authority->ca_pem;
		http_respond(request, 200, "application/x-pem-file", pem, strlen(pem));
	} else if (strcmp(path, "/v1/enrol") == 0 && strcmp(method, "POST") == 0) {
		apply(d, request, false);
	} else if (strcmp(path, "/v1/renew") == 0 && strcmp(method, "POST") == 0) {
		apply(d, request, true);
	} else {
		refuse(d, request, FERRY_NOT_FOUND, "there is no such address here");
	}
}

/* ---- life ---- */

static void up(void *ctx, struct pg_link *link)
{
	(void)link;
	next(ctx);
}

/* Whoever waits would wait for a database that is away: better told so. One
 * that is being served learns it by its batch's failure. */
static void down(void *ctx, struct pg_link *link, const char *message)
{
	struct enrol_desk *d = ctx;
	(void)link;
	d->effects.log(d->ctx, message);
	while (d->first && !d->busy) {
		refuse(d, d->first->request, FERRY_DATABASE, "the hub's database does not answer");
		leave(d, d->first);
	}
}

struct enrol_desk *enrol_desk_open(const struct enrol_config *config, const struct pg_io *io,
				   const struct enrol_effects *effects, void *ctx)
{
	static const struct pg_link_events events = {up, down};
	struct enrol_desk *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->config = *config;
	d->io = io;
	d->effects = *effects;
	d->ctx = ctx;
	d->end = &d->first;
	pg_batch_init(&d->batch, BATCH_BYTES_MAX);
	d->link = pg_link_open(config->conninfo, io, &events, d);
	if (!d->link) {
		enrol_desk_close(d);
		return NULL;
	}
	return d;
}

void enrol_desk_close(struct enrol_desk *d)
{
	if (!d)
		return;
	if (d->link)
		pg_link_close(d->link);
	while (d->first)
		leave(d, d->first);
	pg_batch_deinit(&d->batch);
	free(d);
}
