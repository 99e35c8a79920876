/* What a repair would write, for a dry run: it is carried out in a transaction
 * that is rolled back, and each row that was written there is compared with
 * what others see of it. So it is what the repair itself would do, triggers
 * and refusals of the replica included. Bounded by rows and by what is shown
 * of a value. */
#ifndef FERRY_AGENT_REPLICA_WOULD_H
#define FERRY_AGENT_REPLICA_WOULD_H

#include "agent/replica.h"

#define WOULD_TEXT_MAX 200 /* bytes of a value that are shown; more ends in "..." */

struct would_ask {
	const char *action;  /* as in ferry_repair */
	bool of_conflict;
	int64_t number;      /* of the conflict or refused change-set */
	const char *edits;   /* statements on ferry_rejected that come first; NULL: none */
};

struct would_write { /* a column of a row; borrowed until the callback returns */
	const char *table, *key, *op; /* insert, update, delete */
	const char *column;           /* NULL: the row goes */
	const char *before, *after;   /* as text; NULL */
};

typedef void would_fn(void *ctx, const struct would_write *w);

/* The repair's own error with its sentence, where it could not be done; FERRY_BUSY as for replica_repair; FERRY_USAGE: the file
 * is of another version. */
FERRY_CHECK enum ferry_error replica_would(const char *path, int busy_ms, const struct would_ask *ask, would_fn *each, void *ctx,
					   struct ferry_why *why);

#endif
