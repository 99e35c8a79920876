/* A refused change-set merged again, as it came, by a store of its own: no hub
 * has to run, and one that runs sees the commit as any other.
 *
 * Exactly once: the merge locks the device's row, and judges the number anew
 * only while its stored verdict is a refusal; the new verdict takes that one's
 * place in the same transaction. */
#ifndef FERRY_HUB_REQUEUE_H
#define FERRY_HUB_REQUEUE_H

#include "protocol/message.h"

#define REQUEUE_TIMEOUT_US INT64_C(120000000)

struct requeue {
	const char *conninfo; /* of the role ferry_hub, where the tenant lives */
	struct uuid set;      /* the tenant whose own set of schemas it is; zero: the shared set */
	struct uuid tenant, device;
	int64_t number;
	const struct change_set *whole; /* one that is kept so */
	int64_t staging;                /* or under which name its parts are kept; 0: it is whole */
};

struct requeue_outcome {
	enum verdict verdict;
	int code;
	char sentence[FERRY_WHY_MAX];
	int64_t position;
	bool repeated; /* it was not a refused one any more; the verdict that stands */
};

/* FERRY_BUSY: rows are locked, the device is not active, or what it builds on
 * has no verdict; FERRY_DATABASE; FERRY_LINK_TIMEOUT; FERRY_NO_MEMORY. A refused
 * one whose parent is missing still, where its table says that it waits:
 * FERRY_FOREIGN_KEY, and it stays refused. A parked one comes back in the same
 * way and waits on, maybe for another row now, which its device is told. What it
 * was is changed by nothing else, and asking again tells the verdict. */
FERRY_CHECK enum ferry_error requeue(const struct requeue *what, struct requeue_outcome *out, struct ferry_why *why);

#endif
