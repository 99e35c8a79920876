/* What the checksums found (R21): kept until it is healed, and shown. A
 * difference heals by comparing ranges (replica_compare.c), or by a fill where
 * the hub cannot compare; what neither can heal is tried again after
 * MISMATCH_PAUSE_S and stays visible. */
#include <stdio.h>

#include "agent/replica_internal.h"

#define MISMATCH_PAUSE_S 3600 /* between two attempts for one scope and table */
#define CUT_PAUSE_S 60        /* after one that the link's end cut short */

/* table: its name; position: of the hub's state that was compared with. */
void alarm_raise(struct replica *r, const char *scope, const char *table, int64_t position, const char *what)
{
	char now[TIME_TEXT_MAX];

	time_now(r, now);
	gate_run(&r->g, q(r, Q_MISMATCH_ADD), "ttitt", scope, table, position, now, what);
}

enum ferry_error replica_verify_soon(struct replica *r, const char *reason, struct ferry_why *why)
{
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	alarm_raise(r, "", "", r->st.position, reason);
	gate_run(&r->g, q(r, Q_MISMATCH_AGAIN), "");
	return replica_end(r, why);
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

bool alarm_next(struct replica *r, struct alarm *out)
{
	int64_t now = replica_wall(r) / 1000000;
	sqlite3_stmt *s = q(r, Q_MISMATCH_DUE);
	bool due = gate_step(&r->g, s, "iii", now - MISMATCH_PAUSE_S, now, (int64_t)r->options.compare_only);

	if (due) {
		(void)snprintf(out->scope, sizeof(out->scope), "%s", (const char *)sqlite3_column_text(s, 0));
		(void)snprintf(out->table, sizeof(out->table), "%s", (const char *)sqlite3_column_text(s, 1));
		(void)snprintf(out->what, sizeof(out->what), "%s", (const char *)sqlite3_column_text(s, 2));
	}
	if (s != NULL)
		sqlite3_reset(s);
	return due;
}

bool alarm_due(struct replica *r)
{
	struct alarm a;

	return alarm_next(r, &a);
}

void alarm_try(struct replica *r, const struct alarm *a)
{
	gate_run(&r->g, q(r, Q_MISMATCH_TRY), "itti", replica_wall(r) / 1000000, a->scope, a->table, INT64_C(1));
}

void alarm_soon(struct replica *r, const struct alarm *a)
{
	r->g.error = FERRY_OK; /* best effort: else it waits for its hour */
	gate_run(&r->g, q(r, Q_MISMATCH_TRY), "itti", replica_wall(r) / 1000000 - MISMATCH_PAUSE_S + CUT_PAUSE_S, a->scope,
		 a->table, INT64_C(0));
}

void alarm_healed(struct replica *r, const struct alarm *a)
{
	char now[TIME_TEXT_MAX];

	time_now(r, now);
	gate_run(&r->g, q(r, Q_MISMATCH_HEAL), "ttt", now, a->scope, a->table);
}
