/* Verdicts as the database has them: their names, and what became of the
 * change-sets of a state's commits. Private to hub/pg_*.c. */
#ifndef FERRY_HUB_PG_VERDICTS_H
#define FERRY_HUB_PG_VERDICTS_H

#include "hub/pg_op.h"

const char *pg_verdict_name(enum verdict v);
enum verdict pg_verdict_named(const char *name);

struct pg_verdicts { /* the questions' places in their batch */
	uint32_t settled, conflicts;
};

/* Of commits above `from`; device NULL: of all devices. */
void pg_verdicts_ask(struct pg_verdicts *v, struct pg_batch *b, const struct uuid *tenant, int64_t from,
		     const struct uuid *device);
/* Fills out->settled, in the arena. LIMIT: the arena is full. */
FERRY_CHECK enum ferry_error pg_verdicts_read(const struct pg_verdicts *v, const struct pg_batch *b,
					      const struct pg_catalog *catalog, struct arena *arena, struct feed_result *out);

#endif
