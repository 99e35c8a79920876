/* What comes after what, while the hub is given back what it has lost (R18).
 *
 * A change-set names those that it builds on as long as the hub has not settled
 * them (R6). What was settled when it was made it need not name; but once the
 * hub has lost that, too, the order has to be told: an earlier one of the same row
 * may have to wait for the row, which another device brings back, and a later one
 * must not overtake it. So for as long as there are replays, each push names
 * the last one before it of each of its rows. That one names the one before.
 *
 * Which rows those are is noted as replays are pushed, and forgotten when the
 * push begins anew: in a temporary table, since it may be all that a day has seen. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

void after_begin(struct replica *r, const struct push_cursor *cursor)
{
	if (!cursor->inside)
		r->after.count = 0;
	if (cursor->number > 0 || cursor->inside || !r->replays_noted)
		return;
	gate_exec(&r->g, "DELETE FROM temp.ferry_after");
	r->replays_noted = false;
}

/* Where there are too many the latest: earlier ones mostly come before those. */
static bool add(struct number_list *l, int64_t number)
{
	if (!number_list_add(l, number))
		return false;
	if (l->count > FERRY_DEPENDS_MAX) {
		l->count--;
		memmove(l->p, l->p + 1, l->count * sizeof(*l->p));
	}
	return true;
}

static bool name_row(struct replica *r, int64_t number, uint32_t table, const struct uuid *key)
{
	sqlite3_stmt *s = q(r, Q_AFTER_GET);
	int64_t earlier = gate_step(&r->g, s, "ib", (int64_t)table, key->b, (int)sizeof(key->b)) ? sqlite3_column_int64(s, 0) : number;

	if (s != NULL)
		sqlite3_reset(s);
	return earlier >= number || add(&r->after, earlier);
}

static void note(struct replica *r, const struct change_set *replay)
{
	if (replay->old_verdict == VERDICT_REJECTED || replay->block_count == 0)
		return; /* nothing stood on it */
	if (!r->replays_noted)
		gate_exec(&r->g, "CREATE TEMP TABLE IF NOT EXISTS ferry_after(tbl INTEGER NOT NULL, key BLOB NOT NULL, "
				 "number INTEGER NOT NULL, PRIMARY KEY(tbl, key)) WITHOUT ROWID");
	r->replays_noted = true;
	for (uint32_t i = 0; i < replay->block_count; i++) {
		const struct block *b = &replay->blocks[i];

		for (uint32_t row = 0; row < b->row_count && r->g.error == FERRY_OK; row++)
			gate_run(&r->g, q(r, Q_AFTER_ADD), "ibi", (int64_t)b->table, b->keys[row].b, (int)sizeof(b->keys[row].b),
				 replay->number);
	}
}

bool after_name(struct replica *r, struct arena *arena, struct change_set *set)
{
	for (uint32_t i = 0; r->replays_noted && i < set->block_count; i++) {
		for (uint32_t row = 0; row < set->blocks[i].row_count; row++) {
			if (!name_row(r, set->number, set->blocks[i].table, &set->blocks[i].keys[row]))
				return false;
		}
	}
	set->after = r->after.count > 0 ? arena_copy(arena, r->after.p, r->after.count * sizeof(*r->after.p)) : NULL;
	set->after_count = r->after.count;
	if (set->old_position > 0)
		note(r, set);
	return r->g.error == FERRY_OK && (r->after.count == 0 || set->after != NULL);
}
