/* What one column of an edit comes to where it meets a value: one function a
 * policy (docs/merge.md). Pure; merge_apply.c carries out the answer.
 *
 * What merges differences stands in shared/policy.h, for agents need it too;
 * here stands what only the hub decides. */
#ifndef FERRY_HUB_MERGE_POLICY_H
#define FERRY_HUB_MERGE_POLICY_H

#include "hub/merge.h"
#include "protocol/arena.h"

struct cell_edit {
	const char *table; /* for sentences */
	const struct schema_column *column;
	const struct value *mine, *theirs; /* the device's, the hub's */
	const struct value *old;           /* what the author saw; NULL: it does not say */
	const struct version *version;     /* of theirs */
	bool seen;  /* R1, R2: the author had seen theirs */
	bool later; /* of two concurrent edits, the device's stands by (time, author) */
	struct arena *arena;
};

struct cell_result {
	bool writes;
	bool by_hub;      /* R2: the value is a merge's, not the device's */
	bool asks;        /* mine waits for an approval */
	bool conflict;    /* mine and theirs are kept */
	bool device_won;
	struct value value; /* when it writes */
};

/* Errors: FERRY_COUNTER, FERRY_GUARD, FERRY_NUMBER with *why refuse the change-set;
 * FERRY_LIMIT or FERRY_NO_MEMORY. */
FERRY_CHECK enum ferry_error merge_policy(const struct cell_edit *e, struct cell_result *out, struct ferry_why *why);

#endif
