/* The shell of the agent's core: loop, link, replica, wake. It feeds events
 * and carries out effects; what happens when is the core's business.
 *
 * While it runs it holds run/lock and keeps run/status.json current:
 *
 *   pid, state, hub, why, error (name), since, position, outbox_sets,
 *   outbox_rows, oldest_unsent_at, rejected, conflicts, clock_offset_us,
 *   updated_at (times: microseconds since 1970)
 *
 * Logs once, here; the core returns sentences. */
#ifndef FERRY_AGENT_RUN_H
#define FERRY_AGENT_RUN_H

#include "agent/identity.h"
#include "agent/settings.h"
#include "agent/store.h"

struct run_options {
	bool once;              /* sync: end when everything is exchanged */
	int64_t patience_us;    /* once: give up after so long without progress */
	int64_t wait_us;        /* once: how long an unreachable hub is tried; 0: one attempt */
	bool compare_only;      /* differences that checksums find are noted and not repaired */
	/* once: called about twice a second; may be NULL. */
	void (*progress)(void *ctx, const char *state, const struct store_status *status);
	void *progress_ctx;
};

struct run_report {
	struct store_status status;
	int64_t messages;      /* received */
	int64_t clock_offset_us;
};

/* Runs until SIGTERM or SIGINT (FERRY_OK), until a person must act (that
 * code), or, once, until caught up. report may be NULL. */
FERRY_CHECK enum ferry_error agent_run(const struct agent_settings *settings, const struct run_options *options,
				       struct run_report *report, struct ferry_why *why);

#endif
