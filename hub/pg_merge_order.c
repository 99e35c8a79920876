/* The orders in which a change-set can be written (enum write_order): what is
 * fine at its end may not be on the way there, where unique values change
 * hands. Only what was refused alone is written in another order. */
#include "hub/pg_merge.h"

#include <string.h>

/* Values last comes before deletions first: that takes along by foreign keys what is to be moved away, and
 * a staged one is read twice for it. It comes where a column could hold no placeholder, or a check refused it. Where
 * the values themselves were refused, at the end, all deletions were done. */
bool pg_order_next(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f)
{
	int code = pg_code_of_failure(f);

	if (e->order == WRITE_PLAIN && code == FERRY_UNIQUE)
		e->order = WRITE_POSTPONED;
	else if (e->order == WRITE_POSTPONED && code != FERRY_FOREIGN_KEY && f->call < m->postponed_call)
		e->order = WRITE_DELETES_FIRST;
	else
		return false;
	if (!e->taken)
		e->taken = arena_copy(&m->arena, f, sizeof(*f));
	return e->taken != NULL;
}

/* A placeholder may break a rule that the value itself would not: then it
 * is the unique value that was not free. */
const struct pg_failure *pg_order_failure(const struct merge_entry *e, const struct pg_failure *f)
{
	return e->taken && pg_code_of_failure(f) != FERRY_UNIQUE ? e->taken : f;
}
