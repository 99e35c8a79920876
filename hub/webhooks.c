#include "hub/webhooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/json.h"
#include "shared/link_http.h"

enum column { TENANT, ID, ATTEMPT, EVENT, URL, HEADERS, KEY, SIGNED_AT, SIGNATURE, BODY };

struct round;

struct delivery {
	struct round *round;
	int row;
	bool answered;
	unsigned status;	/* 0: no answer came */
	char error[FERRY_WHY_MAX];
};

struct round {
	struct pg_rows *rows;
	int count, open;
	struct delivery deliveries[WEBHOOKS_AT_ONCE];
};

struct header_list {
	struct http_header list[HTTP_HEADERS_MAX];
	size_t n;
};

static const char *cell(const struct delivery *d, enum column c)
{
	const char *text = pg_rows_text(d->round->rows, d->row, (int)c);
	return text ? text : "";
}

static void end(struct delivery *d, unsigned status, const char *error)
{
	if (d->answered)
		return;
	d->answered = true;
	d->status = status;
	snprintf(d->error, sizeof(d->error), "%s", error);
	d->round->open--;
}

static void on_response(void *context, enum ferry_error code, const char *text, unsigned status, const uint8_t *body,
			size_t n)
{
	struct delivery *d = context;
	char error[64];
	(void)body;
	(void)n;
	/* The status has come even if the answer was too large or broke off: it is what counts. */
	if (code != FERRY_OK && (status == 0 || code != FERRY_LIMIT)) {
		end(d, 0, text);
		return;
	}
	snprintf(error, sizeof(error), "the target answered %u", status);
	end(d, status, error);
}

static void add_header(void *ctx, const char *key, const struct json *value)
{
	struct header_list *h = ctx;
	if (h->n < HTTP_HEADERS_MAX && json_text(value))
		h->list[h->n++] = (struct http_header){key, json_text(value)};
}

/* Names of events and keys are anybody's text: what no header can hold becomes '?'. */
static void printable(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

static enum ferry_error request(struct delivery *d, struct loop *loop, const struct webhook_settings *s,
				const struct webhook_target *target, const struct json *headers, struct ferry_why *why)
{
	char signature[120], event[256], key[512];
	struct header_list h = {.n = 0};
	snprintf(signature, sizeof(signature), "t=%s,v1=%s", cell(d, SIGNED_AT), cell(d, SIGNATURE));
	snprintf(event, sizeof(event), "%s", cell(d, EVENT));
	snprintf(key, sizeof(key), "%s", cell(d, KEY));
	printable(event);
	printable(key);
	h.list[h.n++] = (struct http_header){"Ferry-Event", event};
	h.list[h.n++] = (struct http_header){"Ferry-Delivery", cell(d, ID)};
	h.list[h.n++] = (struct http_header){"Ferry-Attempt", cell(d, ATTEMPT)};
	h.list[h.n++] = (struct http_header){"Ferry-Signature", signature};
	h.list[h.n++] = (struct http_header){"Idempotency-Key", key};
	json_each(headers, add_header, &h);
	const struct http_client_config config = {
		.host = target->host,
		.port = target->port,
		.plain = target->plain,
		.ca_pem = target->plain ? NULL : s->ca_pem,
		.method = "POST",
		.path = target->path,
		.body = cell(d, BODY),
		.body_bytes = strlen(cell(d, BODY)),
		.content_type = "application/json",
		.headers = h.list,
		.header_count = h.n,
		.timeout_us = s->timeout_us,
		.response_bytes_max = WEBHOOK_ANSWER_BYTES,
	};
	return http_fetch(loop, &config, on_response, d, why);
}

static enum ferry_error start(struct delivery *d, struct loop *loop, const struct webhook_settings *s,
			      struct ferry_why *why)
{
	struct webhook_target target;
	struct json *headers = NULL;
	enum ferry_error e = webhook_target_read(cell(d, URL), &target, why);
	if (e != FERRY_OK)
		return e;
	if (target.plain && !target.loopback && !s->allow_http)
		return ferry_fail(why, FERRY_CONFIG, "plain http is allowed to this machine only: use https, or --allow-http");
	/* Without a CA the client would verify nothing. */
	if (!target.plain && !s->ca_pem)
		return ferry_fail(why, FERRY_CONFIG, "no CA is trusted: give --ca-file");
	e = json_read_text(cell(d, HEADERS), strlen(cell(d, HEADERS)), &headers, why);
	if (e == FERRY_OK)
		e = request(d, loop, s, &target, headers, why);
	json_release(headers);
	return e;
}

static bool round_is_over(void *context)
{
	return ((struct round *)context)->open == 0;
}

static void count(struct webhook_counts *counts, const char *status)
{
	counts->sent++;
	if (!status)
		return; /* another sender has it by now */
	if (strcmp(status, "delivered") == 0)
		counts->delivered++;
	else if (strcmp(status, "failed") == 0)
		counts->failed++;
	else
		counts->again++;
}

static enum ferry_error settle(struct pg_admin *db, const struct delivery *d, struct webhook_counts *counts,
			       struct ferry_why *why)
{
	char code[16];
	struct pg_rows *rows;
	snprintf(code, sizeof(code), "%u", d->status);
	const char *params[] = {cell(d, TENANT), cell(d, ID), cell(d, ATTEMPT), d->status ? code : NULL, d->error};
	enum ferry_error e = pg_admin_query(db, "SELECT integration.settle_delivery($1::uuid, $2::uuid, $3::int, $4::int, $5)",
					    params, 5, &rows, why);
	if (e != FERRY_OK)
		return e;
	count(counts, pg_rows_text(rows, 0, 0));
	pg_rows_free(rows);
	return FERRY_OK;
}

static enum ferry_error send_all(struct pg_admin *db, struct loop *loop, const struct webhook_settings *s,
				 struct round *r, struct webhook_counts *counts, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;
	for (int i = 0; i < r->count; i++) {
		struct delivery *d = &r->deliveries[i];
		struct ferry_why reason = {0};
		*d = (struct delivery){.round = r, .row = i};
		if (start(d, loop, s, &reason) != FERRY_OK)
			end(d, 0, reason.text);
	}
	/* Each exchange has a deadline of its own, so this ends. */
	(void)loop_run_until(loop, round_is_over, r, INT64_MAX / 4);
	for (int i = 0; i < r->count && e == FERRY_OK; i++)
		e = settle(db, &r->deliveries[i], counts, why);
	return e;
}

enum ferry_error webhooks_round(struct pg_admin *db, struct loop *loop, const struct webhook_settings *s,
				struct webhook_counts *counts, int *out_taken, struct ferry_why *why)
{
	char most[16];
	struct round r = {0};
	snprintf(most, sizeof(most), "%d", WEBHOOKS_AT_ONCE);
	const char *params[] = {most, WEBHOOK_LEASE};
	enum ferry_error e = pg_admin_query(db,
					    "SELECT tenant_id, id, attempt, event, target_url, headers, idempotency_key, signed_at, "
					    "signature, body FROM integration.claim_deliveries($1::int, $2::interval)",
					    params, 2, &r.rows, why);
	if (e != FERRY_OK)
		return e;
	r.count = r.open = pg_rows_count(r.rows);
	e = send_all(db, loop, s, &r, counts, why);
	*out_taken = r.count;
	pg_rows_free(r.rows);
	return e;
}
