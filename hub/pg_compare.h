/* The two statements that a question about differences [P 9.11] adds to a
 * feed's snapshot: which of the wanted rows the scope holds, and the hashes of
 * ranges of keys, from the cell hashes beside the rows' versions. Private to
 * hub/pg_*.c; pg_feed.c runs them. */
#ifndef FERRY_HUB_PG_COMPARE_H
#define FERRY_HUB_PG_COMPARE_H

#include "hub/pg_op.h"

struct pg_question { /* owned by the operation */
	struct arena arena;
	struct message_compare asked;
	uint32_t wanted_call, ranges_call;
};

enum { W_KEY, W_HELD }; /* columns of the wanted rows' answer */

struct pg_question *pg_question_new(const struct message_compare *asked); /* a copy; NULL: no memory */
void pg_question_free(struct pg_question *q);
/* False: the catalogue has no such table. */
bool pg_question_ask(struct pg_question *q, struct pg_batch *b, const struct pg_catalog *catalog,
		     const struct uuid *tenant);
bool pg_question_global(const struct pg_question *q); /* about rows of the reserved tenant */
/* The asked ranges, each cut at keys of rows; in the arena. */
FERRY_CHECK enum ferry_error pg_question_read(const struct pg_question *q, const struct pg_batch *b, struct arena *arena,
					      struct feed_result *out);

#endif
