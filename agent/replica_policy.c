/* Pending edits of columns whose policy merges differences (R2). Such an edit
 * is what its author saw and what he made of it, and stays that: when the
 * confirmed value beneath it changes, both are kept in ferry_seen, and what
 * is laid over is the difference, not the value. So what is pushed does not
 * depend on what came from the hub meanwhile, and a row may be rebased any
 * number of times. */
#include "agent/replica_internal.h"
#include "shared/policy.h"

/* False: the edit stands as it was captured. */
static bool seen_get(struct replica *r, int64_t seq, uint16_t num, struct cell *old, struct cell *fresh)
{
	sqlite3_stmt *s = q(r, Q_SEEN_GET);

	if (!gate_step(&r->g, s, "ii", seq, (int64_t)num))
		return false;
	*old = cell_keep(&r->work, s, 0);
	*fresh = cell_keep(&r->work, s, 1);
	sqlite3_reset(s);
	return true;
}

bool policy_pair(struct replica *r, const struct table *t, int64_t seq, int column, struct cell *old, struct cell *fresh)
{
	return (t->differs >> column & 1) != 0 && seen_get(r, seq, t->t->columns[column].num, old, fresh);
}

/* The difference from old to fresh, over what is beneath. What has none stands
 * as it is; the hub will say what comes of it. */
static struct cell difference(struct replica *r, const struct schema_column *column, const struct cell *old,
			      const struct cell *fresh, const struct cell *beneath)
{
	struct policy_edit e = {.mine_wins = true};
	struct value merged;
	enum policy_outcome outcome;
	int code;

	if (!cell_to_value(&r->work, column->kind, old, &e.old, &code) ||
	    !cell_to_value(&r->work, column->kind, fresh, &e.mine, &code) ||
	    !cell_to_value(&r->work, column->kind, beneath, &e.theirs, &code))
		return *fresh;
	outcome = policy_merge(&r->work, column->policy, column->kind, &e, &merged);
	if (outcome == POLICY_FULL)
		gate_fail(&r->g, FERRY_LIMIT, "A value of %s is too large to be merged.", column->name);
	return outcome == POLICY_MERGED || outcome == POLICY_OVERLAP ? value_to_cell(&r->work, column->kind, &merged) : *fresh;
}

struct cell policy_over(struct replica *r, const struct table *t, const struct entry *e, int column,
			const struct cell *beneath)
{
	const struct schema_column *c = &t->t->columns[column];
	struct cell old = e->old[column], fresh = e->fresh[column];

	if (!seen_get(r, e->seq, c->num, &old, &fresh)) {
		if (cell_equal(&old, beneath))
			return fresh;
		gate_run(&r->g, q(r, Q_SEEN_ADD), "iicc", e->seq, (int64_t)c->num, &old, &fresh);
	}
	return difference(r, c, &old, &fresh, beneath);
}

void policy_forget(struct replica *r, uint32_t table, int64_t seq)
{
	const struct table *t = model_table(&r->now, table);

	if (t != NULL && t->differs != 0)
		gate_run(&r->g, q(r, Q_SEEN_DELETE), "i", seq);
}
