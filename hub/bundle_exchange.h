/* A device's bundle taken in by a session of its own [P 12]: the same core,
 * store and messages as over a link, in the command's process. No hub has to
 * run, and one that runs sees the commits as any other's; the device's row is
 * locked by the merge, so that a number takes effect once, whichever way it
 * comes first. What the hub says in that session is the answer's records. */
#ifndef FERRY_HUB_BUNDLE_EXCHANGE_H
#define FERRY_HUB_BUNDLE_EXCHANGE_H

#include "hub/settings.h"
#include "protocol/arena.h"
#include "protocol/value.h"

#define BUNDLE_PATIENCE_US INT64_C(120000000) /* without anything happening */

struct bundle_exchange {
	const struct hub_settings *settings;
	const uint8_t *fingerprint;         /* of the certificate that signed the bundle */
	const uint8_t *records;
	size_t record_bytes;
	bool take;                          /* merge its change-sets; else only the answer is made */
	struct buffer *answer;              /* gets records; NULL: none is wanted */
	void (*progress)(void *ctx, uint64_t settled, uint64_t of); /* may be NULL */
	void *ctx;
};

struct bundle_outcome {
	struct uuid device;
	uint64_t change_sets;               /* in the bundle, whole */
	uint64_t accepted, superseded, rejected, parked;
	uint64_t repeated;                  /* of them settled before this bundle came */
	int64_t position;                   /* of the answer's last state */
	bool filled;                        /* the answer is a replica from its beginning */
};

/* FERRY_EXISTS: every change-set in it had been settled before, and nothing
 * was done. FERRY_CORRUPT: its records are none. The hub's own reasons to turn
 * a device away: UNKNOWN_DEVICE, REVOKED, CLONE, TENANT_SUSPENDED ... */
FERRY_CHECK enum ferry_error bundle_exchange(const struct bundle_exchange *what, struct bundle_outcome *out,
					     struct ferry_why *why);

#endif
