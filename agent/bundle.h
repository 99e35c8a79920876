/* What a device says and hears, as records of a bundle [P 12] instead of over
 * a link. Both work on a replica that no agent has open. */
#ifndef FERRY_AGENT_BUNDLE_H
#define FERRY_AGENT_BUNDLE_H

#include "agent/store.h"

struct bundle_made {
	uint64_t change_sets; /* that are not settled; with their rows */
	int64_t position;
};

struct bundle_taken {
	int64_t position;
	uint64_t settled, rejected, conflicts, rows;
	bool filled;
};

/* Appends a hello and the whole outbox as it stands. FERRY_LIMIT: more than
 * the buffer may hold. clock: the device's, microseconds since 1970. */
FERRY_CHECK enum ferry_error bundle_collect(const struct agent_store_ops *ops, void *store, int64_t clock,
					    struct buffer *records, struct bundle_made *out, struct ferry_why *why);

/* Applies an answer's records. All are read before the first is applied.
 * FERRY_CORRUPT: they are no answer. FERRY_BUNDLE: of another replica.
 * FERRY_EXISTS: the replica is there already, or beyond. FERRY_BUNDLE_ORDER:
 * it stands elsewhere than when it asked. In these cases nothing changes. */
FERRY_CHECK enum ferry_error bundle_apply(const struct agent_store_ops *ops, void *store, const uint8_t *records,
					  size_t n, struct bundle_taken *out, struct ferry_why *why);

#endif
