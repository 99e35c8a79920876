/* The hub's protocol engine: sessions of devices and the tenants they share.
 *
 * Pure but for the calls it is given: the shell (hub/serve.c) feeds events
 * and carries out effects; the simulator does the same with a model network
 * and store. One thread; no blocking.
 *
 *   event                          what the core does
 *   hub_core_open(peer)            session in state GREETING, waits for hello
 *   hub_core_message(bytes)        decodes, acts
 *   hub_core_drained()             the link took all that was queued: send more
 *   hub_core_closed()              forgets the session
 *   hub_core_tick(now)             poll for others' commits, timeouts
 *
 * Session states:
 *
 *   GREETING --hello--> LOOKUP --device known--> LIVE
 *                          |                      ^
 *                          +--fill needed--> FILLING
 *   any --error, timeout, revoked, newer session of the same device--> CLOSED
 *
 * A tenant holds a ring of encoded frames, one entry per feed result, shared
 * by all its sessions; a session whose bookmark is in the ring is served from
 * it, an older one by a catch-up feed of its own. One merge and one feed per
 * tenant are under way at a time; change-sets that arrive meanwhile form the
 * next batch, which is what makes batches large under load.
 *
 * Limits (hub_limits): queued bytes per session (credit), rows and bytes of a
 * merge batch, ring bytes, session count, time to say hello. */
#ifndef FERRY_HUB_CORE_H
#define FERRY_HUB_CORE_H

#include "hub/store.h"

struct hub_core;
struct hub_session;

struct hub_limits {
	uint32_t message_bytes_max;      /* 1 MiB */
	uint32_t session_credit_bytes;   /* what a device may have under way: 4 MiB */
	uint32_t batch_rows_max;         /* rows of a merge transaction: 20000 */
	uint32_t batch_bytes_max;        /* 8 MiB */
	uint32_t ring_bytes_max;         /* frames kept per tenant: 16 MiB */
	uint32_t fill_chunk_bytes;       /* 256 KiB */
	int64_t hello_timeout_us;        /* 10 s */
	int64_t poll_interval_us;        /* 100 ms */
	int64_t shut_retry_us;           /* a device of a tenant that is shut may come again after: 30 s */
	int64_t heal_window_us;          /* after a rewind was found out, replays are gathered so long: 30 s */
	int64_t heal_park_us;            /* and so long what lacks its predecessor is parked: 7 days */
	int version_min, version_max;    /* of the protocol */
};
extern const struct hub_limits hub_limits_default;

/* Effects. `link` is the shell's handle of a connection. send hands over a
 * whole message in its envelope; the shell copies it. */
struct hub_effects {
	void (*send)(void *shell, void *link, const uint8_t *bytes, size_t n);
	size_t (*queued)(void *shell, void *link);          /* bytes not yet taken by the network */
	void (*close)(void *shell, void *link, int code, const char *sentence); /* after what is queued */
	int64_t (*wall)(void *shell);                       /* microseconds since 1970 */
	int64_t (*monotonic)(void *shell);                  /* microseconds */
	void (*wake_at)(void *shell, int64_t monotonic_us); /* call hub_core_tick then, at the latest */
	void (*log)(void *shell, int level, const struct uuid *tenant, const struct uuid *device, const char *text);
};

struct hub_core *hub_core_new(const struct hub_limits *limits, const struct hub_effects *effects, void *shell,
			      const struct hub_store_ops *store_ops, void *store);
void hub_core_free(struct hub_core *core);

/* fingerprint: SHA-256 of the peer's certificate, checked by the link. */
struct hub_session *hub_core_open(struct hub_core *core, void *link, const uint8_t fingerprint[32]);
void hub_core_message(struct hub_core *core, struct hub_session *s, const uint8_t *bytes, size_t n);
void hub_core_drained(struct hub_core *core, struct hub_session *s);
void hub_core_closed(struct hub_core *core, struct hub_session *s);
void hub_core_tick(struct hub_core *core);
void hub_core_revoke(struct hub_core *core, const struct uuid *device); /* takes effect at once */
/* What holds for a tenant now (struct hub_device: shut, held): its sessions
 * that began under something else end, and come again. */
void hub_core_tenant(struct hub_core *core, const struct uuid *tenant, int shut, int held);
void hub_core_drain(struct hub_core *core); /* shutting down: finish what is under way, close with a retry hint */

struct hub_core_stats {
	uint32_t sessions, tenants;
	uint64_t merges, change_sets, superseded, rejected, feeds, frames_sent, bytes_sent, bytes_received;
	uint32_t merge_queue; /* change-sets waiting */
};
void hub_core_stats(const struct hub_core *core, struct hub_core_stats *out);
/* The newest state of any tenant that was sent to devices; position 0: none. */
struct hub_newest {
	struct uuid tenant;
	int64_t position, mark;
};
void hub_core_newest(const struct hub_core *core, struct hub_newest *out);
/* Each live session: for `ferry-hub status` and the tests. */
void hub_core_sessions(const struct hub_core *core,
		       void (*each)(void *ctx, const struct uuid *tenant, const struct uuid *device, int64_t bookmark,
				    const char *state),
		       void *ctx);

#endif
