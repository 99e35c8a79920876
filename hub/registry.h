/* Who may connect, and where its tenant lives: the certificates of the device
 * table and the table of tenants, in memory, so that a link can be let in or
 * turned away while its handshake waits, and work finds its database.
 *
 * Loaded at start and whenever a cheap look (a checksum over the table) shows
 * a difference, so that what another hub or plain SQL enrolled or revoked is
 * known here within the interval; at once for what this hub did. It fails
 * closed: until it is loaded nobody gets in, and a certificate it does not
 * know is refused, with a fresh look under way, since the device may have
 * been enrolled at another hub a moment ago and will come again. The session
 * asks the database once more (hub_core). */
#ifndef FERRY_HUB_REGISTRY_H
#define FERRY_HUB_REGISTRY_H

#include "hub/pg_io.h"
#include "protocol/errors.h"
#include "protocol/value.h"

struct registry;

/* A row of ferry.tenancy. Lives until the next look that finds it changed. */
struct registry_tenant {
	struct uuid id;
	bool own_schema;      /* a set of schemas of its own, in that database */
	const char *conninfo; /* where its database differs from the home one; "": it is that */
	int shut, held;       /* as in struct hub_device */
};

struct registry_effects {
	void (*revoked)(void *ctx, const struct uuid *device); /* it was known as good */
	void (*loaded)(void *ctx, uint32_t devices);           /* the first time */
	void (*tenant)(void *ctx, const struct registry_tenant *t); /* it is new, or changed */
	void (*log)(void *ctx, const char *text);
	void (*looked)(void *ctx, uint64_t look); /* that look of registry_refresh is over, well or not */
};

/* conninfo and io are borrowed. NULL: no memory. */
struct registry *registry_open(const char *conninfo, const struct pg_io *io, int64_t interval_us,
			       const struct registry_effects *effects, void *ctx);
void registry_close(struct registry *r); /* accepts NULL */

/* FERRY_OK, FERRY_REVOKED, FERRY_UNKNOWN_DEVICE, or FERRY_DATABASE before it is loaded. */
enum ferry_error registry_ask(struct registry *r, const uint8_t fingerprint[32]);
/* Looks as soon as it may; the number of the first look that sees what is in the
 * database now. 0: the database does not answer, what is known stays. */
uint64_t registry_refresh(struct registry *r);
/* What this hub just did itself. */
void registry_add(struct registry *r, const struct uuid *tenant, const struct uuid *device,
		  const uint8_t fingerprint[32]);
/* NULL: not known (yet): it lives in the home database, and nothing is against it. */
const struct registry_tenant *registry_tenant(const struct registry *r, const struct uuid *id);
bool registry_tenant_of(const struct registry *r, const uint8_t fingerprint[32], struct uuid *out_tenant);
/* One more call of a tenant; written with the next look. */
void registry_count_call(struct registry *r, const struct uuid *tenant);
uint32_t registry_count(const struct registry *r);
bool registry_is_loaded(const struct registry *r); /* all tenants and devices are known */

#endif
