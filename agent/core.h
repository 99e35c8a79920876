/* The agent's protocol engine: a state machine without sockets, clock or
 * files. The shell (agent/run.c) or the simulator feeds events and carries
 * out effects; the store is passed in.
 *
 *   OFFLINE --timer--> CONNECTING --link up--> GREETING --welcome--> LIVE
 *      ^                   |                      |          |  ^
 *      |                   |                      |          v  | fill done
 *      +---- link lost, error, timeout -----------+------ FILLING
 *   STOPPED: a person must act (revoked, clone, bad version); status says why
 *
 * Level-triggered: every event ends in agent_core_work(), which asks what
 * there is to do (raw edits to cut, change-sets to send, credit to give) and
 * does it, so that no event can be missed. Back-off is exponential with full
 * jitter from the seed given, reset after a minute of being LIVE. */
#ifndef FERRY_AGENT_CORE_H
#define FERRY_AGENT_CORE_H

#include "agent/store.h"

struct agent_core;

enum agent_state { AGENT_OFFLINE, AGENT_CONNECTING, AGENT_GREETING, AGENT_FILLING, AGENT_LIVE, AGENT_STOPPED };

struct agent_limits {
	int64_t backoff_min_us;   /* 0.5 s */
	int64_t backoff_max_us;   /* 60 s */
	int64_t greeting_timeout_us; /* 15 s */
	int64_t ping_interval_us; /* 20 s; the peer is dead after 2 missed */
	uint32_t message_bytes_max;
	uint32_t credit_bytes;    /* given to the hub: 4 MiB */
	uint32_t push_bytes;      /* about so much per push message: 256 KiB */
	int version_min, version_max; /* of the protocol */
	int64_t version_retry_us; /* pause after a hub that has no version in common; 0: that is the end */
};
extern const struct agent_limits agent_limits_default;

struct agent_effects {
	void (*connect)(void *shell);  /* answered by agent_core_link_up or _link_down */
	void (*send)(void *shell, const uint8_t *bytes, size_t n); /* in its envelope; copied */
	size_t (*queued)(void *shell);
	void (*disconnect)(void *shell); /* after what is queued; nothing more comes from that link, link_down neither */
	int64_t (*wall)(void *shell);
	int64_t (*monotonic)(void *shell);
	void (*wake_at)(void *shell, int64_t monotonic_us); /* call agent_core_tick then; replaces an earlier wish */
	void (*log)(void *shell, int level, const char *text); /* enum log_level */
	void (*changed)(void *shell); /* state, status or replica changed: for status file and watchers */
};

struct agent_core *agent_core_new(const struct agent_limits *limits, const struct agent_effects *effects, void *shell,
				  const struct agent_store_ops *store_ops, void *store, uint64_t seed);
void agent_core_free(struct agent_core *core);

void agent_core_start(struct agent_core *core);              /* begin to connect */
void agent_core_link_up(struct agent_core *core);
void agent_core_link_down(struct agent_core *core, const char *reason);
void agent_core_message(struct agent_core *core, const uint8_t *bytes, size_t n);
void agent_core_drained(struct agent_core *core);
void agent_core_poke(struct agent_core *core);               /* somebody committed to the replica */
void agent_core_tick(struct agent_core *core);
void agent_core_stop(struct agent_core *core);               /* orderly end */

enum agent_state agent_core_state(const struct agent_core *core);
const char *agent_core_why(const struct agent_core *core);   /* last problem, one sentence; "" when fine */
int agent_core_error(const struct agent_core *core);
/* LIVE and caught up, but the hub takes no changes: agent_core_error() says why. */
bool agent_core_held(const struct agent_core *core);
bool agent_core_idle(const struct agent_core *core);         /* LIVE, what the hub had at the welcome is here, nothing to send, all sent is settled and applied */
int64_t agent_core_clock_offset(const struct agent_core *core); /* hub minus device, microseconds, measured */

#endif
