/* Change-sets that wait at the hub for a row they refer to, where the table
 * says so (ferry.row_policy): settled as parked and kept whole, merged anew
 * once the row has come (pg_parked.c), refused when it has not in time. What
 * builds on one waits behind it (R6). */
#include "hub/pg_merge.h"

#include <stdio.h>
#include <string.h>

static bool waits_add(struct merge_op *m, struct park_waits *w, uint32_t table, const struct value *key)
{
	if (key->kind != VALUE_BYTES || key->n != sizeof(w->keys->b))
		return true;
	if (!w->keys) {
		w->keys = arena_array(&m->arena, PARK_WAITS_MAX, sizeof(*w->keys));
		w->tables = arena_array(&m->arena, PARK_WAITS_MAX, sizeof(*w->tables));
	}
	if (!w->keys || !w->tables || w->count == PARK_WAITS_MAX)
		return false;
	memcpy(w->keys[w->count].b, key->p, key->n);
	w->tables[w->count++] = (int32_t)table;
	return true;
}

/* What the rows of a block refer to; the server knows which of it is there. */
static bool waits_of_block(struct merge_op *m, struct park_waits *w, const struct block *b)
{
	const struct pg_table *t = pg_catalog_table(m->op.catalog, b->table);

	if (!t || !t->parks || b->op == ROW_DELETE)
		return true;
	w->child = (int32_t)b->table;
	for (uint16_t c = 0; c < b->column_count; c++) {
		int column = pg_table_column(t, b->nums[c]);
		uint32_t table = column < 0 ? 0 : m->op.catalog->hub.schema.tables[t - m->op.catalog->tables].columns[column].ref_table;

		for (uint32_t r = 0; table != 0 && r < b->row_count; r++) {
			if (!waits_add(m, w, table, &b->cells[(size_t)c * b->row_count + r]))
				return false;
		}
	}
	return true;
}

static void park(struct merge_op *m, struct merge_entry *e, int code, const char *sentence)
{
	pg_run_reject(m, e, code, sentence);
	e->verdict = VERDICT_PARKED;
}

bool pg_park_missing(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f)
{
	struct park_waits w = {0};

	if (pg_code_of_failure(f) != FERRY_FOREIGN_KEY || !e->set || e->set->joined)
		return false; /* a joined one comes again in parts, and then only what lacks its parent waits */
	for (uint32_t i = 0; i < e->set->block_count; i++) {
		if (!waits_of_block(m, &w, &e->set->blocks[i]))
			return false;
	}
	if (w.count == 0)
		return false;
	if (e->item->expired) {
		pg_run_reject(m, e, FERRY_FOREIGN_KEY, "it refers to a row that did not come to the hub in time");
	} else if (e->item->again) {
		e->state = ITEM_HELD;
	} else {
		park(m, e, FERRY_FOREIGN_KEY, "it refers to a row that is not at the hub yet, and waits there for it");
		e->waits = w;
	}
	return true;
}

void pg_park_behind(struct merge_op *m, struct merge_entry *e, int64_t number)
{
	char sentence[120];

	if (m->staged || e->item->again) {
		e->state = ITEM_HELD;
		return;
	}
	snprintf(sentence, sizeof(sentence), "it builds on change-set %lld, which waits at the hub", (long long)number);
	park(m, e, FERRY_DEPENDS, sentence);
	e->waits.number = number;
}

void pg_park_settle(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_entry *e = &m->entries[i];

		if (e->state != ITEM_REJECTED || e->verdict != VERDICT_PARKED)
			continue;
		pg_call(b, "SELECT ferry.park($1, $2, $3, $4, $5, $6, $7)");
		pg_arg_uuid(b, &m->op.tenant);
		pg_arg_uuid(b, &e->item->device);
		pg_arg_int8(b, e->item->number);
		pg_arg_int4(b, e->waits.child);
		pg_arg_int4s(b, e->waits.tables, e->waits.count);
		pg_arg_uuids(b, e->waits.keys, e->waits.count);
		pg_arg_int8(b, e->waits.number);
	}
}
