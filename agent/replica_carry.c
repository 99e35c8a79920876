/* Rows that apps made in a scope which is on its way.
 *
 * The hub settles the change-set that made such a row long before the fill of its scope ends, and
 * no state says anything of it until then. It would vanish from the apps' sight. So its entries are
 * carried: they stay over the row though their change-set is settled (SET_CARRIED), as pending ones
 * do, and go with the first state that speaks of the row, or with the end of the fill, in the same
 * transaction. Nothing of them is pushed, counted as unsent, or part of a checksum: what is confirmed
 * beneath is still no row. An edit made meanwhile takes over their base (R1), for its author has seen
 * nothing of what others did to the row since.
 *
 * A row that a frame of a held scope names, also as deleted, is never carried: that is where it was. */
#include <string.h>

#include "agent/replica_internal.h"

static bool is_held(struct replica *r, const char *name)
{
	sqlite3_stmt *s = q(r, Q_SCOPES_HELD);
	bool held = false;

	for (bool more = gate_step(&r->g, s, ""); more && !held; more = gate_next(&r->g, s))
		held = strcmp((const char *)sqlite3_column_text(s, 0), name) == 0;
	if (s != NULL)
		sqlite3_reset(s);
	return held;
}

/* Does a scope lack whose rows will come? */
static bool scopes_lack(struct replica *r, const struct message_welcome *w)
{
	for (uint32_t i = 0; i < w->scope_count; i++) {
		if (!is_held(r, w->scopes[i]))
			return true;
	}
	return false;
}

static void list_carried(struct replica *r, struct number_list *into)
{
	sqlite3_stmt *s = q(r, Q_SETS_CARRIED);

	for (bool more = gate_step(&r->g, s, ""); more; more = gate_next(&r->g, s)) {
		if (!number_list_add(into, sqlite3_column_int64(s, 0)))
			gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for change-sets.");
	}
}

bool carry_greet(struct replica *r, const struct message_welcome *w)
{
	sqlite3_stmt *s;
	bool any;

	r->scopes_lack = w->mode != WELCOME_DELTA || scopes_lack(r, w);
	if (r->scopes_lack)
		return false;
	s = q(r, Q_SETS_CARRIED);
	any = gate_step(&r->g, s, "");
	if (s != NULL)
		sqlite3_reset(s);
	return any;
}

void carry_end(struct replica *r)
{
	r->scopes_lack = false;
	carry_begin(r);
	settle_sweep(r);
}

void carry_begin(struct replica *r)
{
	r->removed.count = r->carried.count = 0;
	list_carried(r, r->scopes_lack ? &r->carried : &r->removed);
}

/* A whole row's fate was decided against this device: nothing that it made of it is true. */
static bool lost_a_row(const struct settled *v)
{
	for (uint32_t i = 0; i < v->conflict_count; i++) {
		if (v->conflicts[i].kind != CONFLICT_UPDATE_UPDATE && !v->conflicts[i].device_won)
			return true;
	}
	return false;
}

void carry_settled(struct replica *r, const struct settled *v)
{
	if (r->scopes_lack && v->verdict != VERDICT_REJECTED && !lost_a_row(v) && !number_list_add(&r->carried, v->number))
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for verdicts.");
}

bool carry_row(const struct replica *r, const struct stack *s)
{
	for (uint32_t i = 0; !s->confirmed.present && i < s->count; i++) {
		if ((s->entries[i].op & OP_MASK) == OP_INSERT && number_list_has(&r->carried, s->entries[i].number))
			return true;
	}
	return false;
}

bool entry_settled(const struct replica *r, const struct entry *e)
{
	return number_list_has(&r->removed, e->number) || number_list_has(&r->carried, e->number);
}
