/* The hub's order to remove a deleted tenant's data from this device [P 9.9].
 *
 * What the hub had not confirmed is put aside first, in a file of JSON lines
 * beside the replica (mode 0600): the schema, then a push message a line, as
 * tools/ferry-dump prints them. Then the replica's content and files go, and
 * the identity with them. */
#ifndef FERRY_AGENT_WIPE_H
#define FERRY_AGENT_WIPE_H

#include "agent/replica.h"
#include "agent/settings.h"

struct wipe_report {
	char unsent[FILES_PATH_MAX]; /* the file; "": nothing was unsent */
	int64_t sets;                /* change-sets (or their parts) in it */
};

/* First, with the replica still open. On failure nothing may be wiped. */
FERRY_CHECK enum ferry_error wipe_keep_unsent(struct replica *r, const struct agent_paths *paths, int64_t wall_us,
					      struct wipe_report *out, struct ferry_why *why);
/* Then, with the replica closed. */
FERRY_CHECK enum ferry_error wipe_remove(const struct agent_paths *paths, struct ferry_why *why);

#endif
