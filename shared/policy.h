/* What merging policies make of an edit and a value that its author had not
 * seen. The hub merges with it, and an agent lays pending edits over what the
 * hub says now, so that both come to the same. Pure.
 *
 * An edit is a difference: from `old`, as its author saw it, to `mine` (R2). It
 * is applied to `theirs`. Values have the wire's form [P 5.2]; results point
 * into the arena or at one of the values. docs/merge.md has each policy's rule. */
#ifndef FERRY_SHARED_POLICY_H
#define FERRY_SHARED_POLICY_H

#include "protocol/arena.h"
#include "protocol/value.h"

struct policy_edit {
	struct value old, mine, theirs;
	bool mine_wins; /* where both changed the same part */
};

enum policy_outcome {
	POLICY_MERGED,  /* *out is what stands now */
	POLICY_OVERLAP, /* the same, but a part was changed by both: mine_wins decided it */
	POLICY_UNFIT,   /* there is no difference to apply: merge as lww */
	POLICY_RANGE,   /* the result has no value of the column's kind */
	POLICY_FULL,    /* the arena is full, or there is no memory */
};

#define POLICY_DEPTH_MAX 64          /* of a JSON document; a deeper one is UNFIT */
#define POLICY_DIGITS_MAX 150000     /* of a numeric; PostgreSQL holds fewer */

/* For the policies that merge differences; POLICY_UNFIT for the others. */
enum policy_outcome policy_merge(struct arena *a, enum column_policy policy, enum column_kind kind,
				 const struct policy_edit *e, struct value *out);

/* The order of two values that are not NULL, as PostgreSQL has it. false: the
 * kind has none that is known here, or a value is not in its form. Kinds: int,
 * float, numeric, timestamptz, date. */
bool policy_compare(struct arena *a, enum column_kind kind, const struct value *x, const struct value *y, int *out_order);

/* Does a guard's map ({"free": ["reserved"], "": ["free"]}, "" standing for
 * NULL) lead from one value to the other? */
bool policy_guard_allows(struct arena *a, const char *map, const struct value *from, const struct value *to);

/* One function a policy; policy_merge() chooses. */
enum policy_outcome policy_counter(struct arena *a, enum column_kind kind, const struct policy_edit *e, struct value *out);
enum policy_outcome policy_set(struct arena *a, const struct policy_edit *e, struct value *out);
enum policy_outcome policy_text(struct arena *a, const struct policy_edit *e, struct value *out);
enum policy_outcome policy_json(struct arena *a, const struct policy_edit *e, struct value *out);

#endif
