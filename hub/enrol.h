/* The hub's side of enrolment, over HTTPS on a port of its own (TLS with the
 * server's certificate; the client has none yet).
 *
 *   GET  /v1/ca     the CA's certificate, PEM
 *   POST /v1/renew  {"certificate": PEM, "request": PEM, "signature": base64url} -> the same
 *                   as enrol; the signature is the certificate's key's, of PKI_RENEW_PREFIX and the request
 *   POST /v1/enrol  {"secret": base64url, "request": PEM, "class": name} ->
 *                   200 {"device", "tenant", "name", "certificate", "hub_host", "hub_port"}
 *                   else {"error": {"code", "number", "sentence"}}
 *
 * One transaction: the token is spent, the device made, its certificate's
 * fingerprint recorded; only then the certificate leaves. A renewal needs a
 * certificate that is in force and a device that is not revoked; the former
 * certificate stays good until the new one was used. Of the request the
 * public key is taken and nothing else. One request at a time, a bounded
 * number waits: enrolment is rare, and its port is open to anybody. */
#ifndef FERRY_HUB_ENROL_H
#define FERRY_HUB_ENROL_H

#include "hub/authority.h"
#include "hub/pg_io.h"
#include "protocol/value.h"
#include "shared/link_http.h"

#define ENROL_WAITING_MAX    32
#define ENROL_BODY_BYTES_MAX ((size_t)8192)

struct enrol_desk;

struct enrol_effects {
	void (*enrolled)(void *ctx, const struct uuid *tenant, const struct uuid *device, const char *name,
			 const uint8_t fingerprint[32]);
	void (*renewed)(void *ctx, const struct uuid *tenant, const struct uuid *device, const uint8_t fingerprint[32]);
	void (*refused)(void *ctx, const char *address, enum ferry_error code, const char *sentence);
	void (*log)(void *ctx, const char *text);
};

struct enrol_config {
	const char *conninfo;
	const struct authority *authority;
	const char *hub_host; /* what devices are told */
	int hub_port;
	int64_t certificate_us;
};

/* Everything given is borrowed. NULL: no memory. */
struct enrol_desk *enrol_desk_open(const struct enrol_config *config, const struct pg_io *io,
				   const struct enrol_effects *effects, void *ctx);
void enrol_desk_close(struct enrol_desk *d); /* accepts NULL; requests that wait stay unanswered */
http_request_fn enrol_desk_request; /* context: the desk */

#endif
