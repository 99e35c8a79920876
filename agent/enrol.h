/* Enrolment: from a one-time token to an identity, over HTTPS.
 *
 *   GET  /v1/ca      the hub's CA certificate (PEM); believed only when its
 *                    fingerprint is the token's
 *   POST /v1/enrol   {"secret", "request", "class"} over TLS verified by that
 *                    CA -> {"device", "tenant", "name", "certificate",
 *                    "hub_host", "hub_port"}
 *
 * The key pair is made here and never leaves. The token is spent by the
 * POST's success: should the answer be lost, a new token is needed. */
#ifndef FERRY_AGENT_ENROL_H
#define FERRY_AGENT_ENROL_H

#include "agent/identity.h"
#include "agent/settings.h"

#define ENROL_CA_PATH	 "/v1/ca"
#define ENROL_POST_PATH	 "/v1/enrol"
#define ENROL_RENEW_PATH "/v1/renew"

struct enrol_request {
	const char *token;
	const char *host; /* NULL: the token's */
	int port;         /* of enrolment; 0: the token's */
	bool force;       /* replaces an identity; a replica of another device is put aside */
};

/* Takes the state folder's lock, asks the hub, writes identity and replica.
 * *out is the caller's to wipe. set_aside gets the path of the old replica,
 * "" when there was none. */
FERRY_CHECK enum ferry_error enrol(const struct agent_settings *settings, const struct enrol_request *request,
				   struct identity *out, char set_aside[FILES_PATH_MAX], struct ferry_why *why);

/* What the hub answered to either request: its refusal, or device, tenant, name,
 * address of the hub and certificate, which belongs to id->key_pem. */
FERRY_CHECK enum ferry_error enrol_read_answer(unsigned status, const char *text, size_t n, struct identity *id,
					       struct ferry_why *why);

#endif
