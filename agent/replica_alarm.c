/* What the checksums found (R21): kept until the replica has been filled anew,
 * and shown. A difference heals by a fill, which keeps unsent edits; what a
 * fill cannot heal is tried again after MISMATCH_PAUSE_S and stays visible. */
#include "agent/replica_internal.h"

#define MISMATCH_PAUSE_S 3600 /* between two fills for one scope and table */

/* table: its name; position: of the hub's state that was compared with. */
void alarm_raise(struct replica *r, const char *scope, const char *table, int64_t position, const char *what)
{
	char now[TIME_TEXT_MAX];

	time_now(r, now);
	gate_run(&r->g, q(r, Q_MISMATCH_ADD), "ttitt", scope, table, position, now, what);
}

/* A fill has replaced every row: what is wrong from now on is found anew. */
void alarms_healed(struct replica *r)
{
	char now[TIME_TEXT_MAX];

	time_now(r, now);
	gate_run(&r->g, q(r, Q_MISMATCH_HEALED), "t", now);
}

void alarms_tried(struct replica *r)
{
	gate_run(&r->g, q(r, Q_MISMATCH_TRIED), "i", replica_wall(r) / 1000000);
}

bool alarm_due(struct replica *r)
{
	int64_t now = replica_wall(r) / 1000000;
	sqlite3_stmt *s = q(r, Q_MISMATCH_DUE);
	bool due = gate_step(&r->g, s, "ii", now - MISMATCH_PAUSE_S, now);

	if (s != NULL)
		sqlite3_reset(s);
	return due;
}
