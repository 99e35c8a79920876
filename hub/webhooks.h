/* Webhooks: takes deliveries that are due from the database, sends them, and
 * writes down what became of each. What is due, the signature, and whether
 * and when to try again is decided in SQL (integration.claim_deliveries,
 * integration.settle_delivery), so several senders may run side by side.
 *
 * A request is POST with a JSON body and the headers
 *   Ferry-Event: <name>             Ferry-Delivery: <uuid>
 *   Ferry-Attempt: <n>              Idempotency-Key: <key>
 *   Ferry-Signature: t=<seconds since 1970>,v1=<hex>
 * where v1 is HMAC-SHA256 with the subscription's key over "<t>.<body>". */
#ifndef FERRY_HUB_WEBHOOKS_H
#define FERRY_HUB_WEBHOOKS_H

#include "hub/pg_admin.h"
#include "shared/loop.h"

#define WEBHOOK_URL_MAX	     2000
#define WEBHOOKS_AT_ONCE     20
#define WEBHOOK_TIMEOUT_US   (10 * LOOP_SECOND_US)
#define WEBHOOK_LEASE	     "60 seconds" /* longer than a whole round can take */
#define WEBHOOK_ANSWER_BYTES 65536	  /* of an answer that is read; its content does not matter */

struct webhook_target {
	char host[256]; /* without the brackets of an IPv6 address */
	int port;
	char path[WEBHOOK_URL_MAX + 2]; /* with the query */
	bool plain;			/* http, not https */
	bool loopback;
};

/* FERRY_USAGE: url is no http or https address of a host. User names,
 * fragments and characters that a request line can't hold are refused. */
FERRY_CHECK enum ferry_error webhook_target_read(const char *url, struct webhook_target *out, struct ferry_why *why);

struct webhook_settings {
	const char *ca_pem; /* trusted for https; borrowed */
	bool allow_http;    /* plain http to other hosts than this one */
	int64_t timeout_us; /* for an attempt */
};

struct webhook_counts {
	int sent;      /* attempts made */
	int delivered; /* of them: answered with 2xx */
	int again;     /* will be tried again */
	int failed;    /* given up */
};

/* One round: up to WEBHOOKS_AT_ONCE deliveries, side by side. Adds to counts;
 * *out_taken is how many there were (0: nothing is due). */
FERRY_CHECK enum ferry_error webhooks_round(struct pg_admin *db, struct loop *loop, const struct webhook_settings *s,
					    struct webhook_counts *counts, int *out_taken, struct ferry_why *why);

#endif
