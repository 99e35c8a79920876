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

void carry_forget(struct replica *r)
{
	r->removed.count = r->carried.count = 0;
	r->lost_count = 0;
}

void carry_begin(struct replica *r)
{
	carry_forget(r);
	list_carried(r, r->scopes_lack ? &r->carried : &r->removed);
}

#define CARRIED_ENTRIES_MAX 1000 /* of a row; beyond, it goes with its verdict, and comes with its scope */

struct lost_row {
	int64_t number; /* entries of this change-set are not true any more; 0: of none */
	uint32_t table;
	struct uuid key;
};

/* A whole row's fate was decided against this device: an edit met a deletion, and nothing made of the
 * row here is true, or a deletion met an edit, and only that is not. */
static void note_lost(struct replica *r, int64_t number, const struct conflict *c)
{
	if (c->kind == CONFLICT_UPDATE_UPDATE || c->device_won)
		return;
	if (!vector_grow((void **)&r->lost, r->lost_count, &r->lost_capacity, sizeof(*r->lost))) {
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for verdicts.");
		return;
	}
	r->lost[r->lost_count++] = (struct lost_row){c->kind == CONFLICT_UPDATE_DELETE ? 0 : number, c->table, c->key};
}

void carry_settled(struct replica *r, const struct settled *v)
{
	if (!r->scopes_lack || v->verdict == VERDICT_REJECTED)
		return;
	for (uint32_t i = 0; i < v->conflict_count; i++)
		note_lost(r, v->number, &v->conflicts[i]);
	if (!number_list_add(&r->carried, v->number))
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for verdicts.");
}

static bool is_lost(const struct replica *r, int64_t number, uint32_t table, const struct uuid *key)
{
	for (uint32_t i = 0; i < r->lost_count; i++) {
		const struct lost_row *l = &r->lost[i];

		if (l->table == table && uuid_equal(&l->key, key) && (l->number == 0 || l->number == number))
			return true;
	}
	return false;
}

void carry_row(const struct replica *r, const struct table *t, const char *key, struct stack *s)
{
	bool made = false;
	struct uuid id;

	if (s->confirmed.present || s->count > CARRIED_ENTRIES_MAX || r->carried.count == 0 || !uuid_parse(key, strlen(key), &id))
		return;
	for (uint32_t i = 0; i < s->count; i++) {
		struct entry *e = &s->entries[i];

		e->carried = number_list_has(&r->carried, e->number) && !is_lost(r, e->number, t->t->table, &id);
		made |= e->carried && (e->op & OP_MASK) == OP_INSERT;
	}
	for (uint32_t i = 0; !made && i < s->count; i++)
		s->entries[i].carried = false;
}

bool entry_settled(const struct replica *r, const struct entry *e)
{
	return number_list_has(&r->removed, e->number) || number_list_has(&r->carried, e->number);
}
