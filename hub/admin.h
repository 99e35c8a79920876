/* Administration of a running hub: HTTP over a unix socket that only its
 * owner may open (mode 0600). Bodies are JSON.
 *
 *   GET  /v1/status     process, ports, counters
 *   GET  /v1/sessions   [{tenant, device, bookmark, state}]
 *   POST /v1/revoke     {"device"}  cut now what the database says is revoked
 *   POST /v1/tenants    {}          look now at what the database says of tenants
 *   POST /v1/log-level  {"level"}
 *
 * Revoking itself is a statement in the database (ferry-hub device revoke);
 * this makes it felt at once rather than at the next look. */
#ifndef FERRY_HUB_ADMIN_H
#define FERRY_HUB_ADMIN_H

#include "hub/core.h"
#include "hub/pg_store.h"
#include "hub/places.h"
#include "hub/registry.h"
#include "shared/link_http.h"

struct admin_view { /* what it shows; all borrowed */
	struct hub_core *core;
	struct pg_store *store;
	struct places *places;
	struct registry *registry;
	int64_t started_wall_us;
	int device_port, enrol_port;
	bool draining;
};

http_request_fn admin_request; /* context: a struct admin_view */

#endif
