/* Change-sets that wait at the hub for a row they refer to, where the table
 * says so (ferry.row_policy): settled as parked and kept whole, merged anew
 * once the row has come (pg_parked.c), refused when it has not in time. What
 * builds on one waits behind it (R6).
 *
 * What is missing the database finds out: of all that the change-set refers to it
 * takes what is there, and what the change-set makes itself. A staged one is read once
 * more for that, portion by portion, after it was taken back. */
#include "hub/pg_merge.h"

#include <stdio.h>
#include <string.h>

static bool add_key(struct arena *a, struct row_keys *l, uint32_t table, const struct uuid *key)
{
	if (l->count == l->capacity) {
		uint32_t capacity = l->capacity ? l->capacity * 2 : 64;
		struct uuid *keys = arena_array(a, capacity, sizeof(*keys));
		int32_t *tables = arena_array(a, capacity, sizeof(*tables));

		if (!keys || !tables)
			return false;
		if (l->count) {
			memcpy(keys, l->keys, l->count * sizeof(*keys));
			memcpy(tables, l->tables, l->count * sizeof(*tables));
		}
		l->keys = keys;
		l->tables = tables;
		l->capacity = capacity;
	}
	l->keys[l->count] = *key;
	l->tables[l->count++] = (int32_t)table;
	return true;
}

static bool add_reference(struct arena *a, struct park_waits *w, uint32_t table, const struct value *key)
{
	struct uuid id;

	if (key->kind != VALUE_BYTES || key->n != sizeof(id.b))
		return true;
	memcpy(id.b, key->p, sizeof(id.b));
	return add_key(a, &w->refs, table, &id);
}

/* Do rows that may wait refer to the table? */
static bool is_waited_for(const struct pg_catalog *c, uint32_t table)
{
	for (uint32_t i = 0; i < c->table_count; i++) {
		for (uint16_t k = 0; c->tables[i].parks && k < c->tables[i].column_count; k++) {
			if (c->hub.schema.tables[i].columns[k].ref_table == table)
				return true;
		}
	}
	return false;
}

/* False: no memory. */
static bool waits_of_block(struct merge_op *m, struct arena *a, struct park_waits *w, const struct block *b)
{
	const struct pg_catalog *catalog = m->op.catalog;
	const struct pg_table *t = pg_catalog_table(m->op.catalog, b->table);
	bool ok = true;

	for (uint32_t r = 0; ok && b->op == ROW_INSERT && r < b->row_count && (r > 0 || is_waited_for(catalog, b->table)); r++)
		ok = add_key(a, &w->own, b->table, &b->keys[r]);
	if (!t || !t->parks || b->op == ROW_DELETE)
		return ok;
	w->child = (int32_t)b->table;
	for (uint16_t c = 0; c < b->column_count; c++) {
		int column = pg_table_column(t, b->nums[c]);
		uint32_t table = column < 0 ? 0 : catalog->hub.schema.tables[t - catalog->tables].columns[column].ref_table;

		for (uint32_t r = 0; ok && table != 0 && r < b->row_count; r++)
			ok = add_reference(a, w, table, &b->cells[(size_t)c * b->row_count + r]);
	}
	return ok;
}

static void forget_waits(struct merge_op *m, const struct merge_entry *e)
{
	struct pg_batch *b = &m->op.batch;

	pg_call(b, "DELETE FROM ferry.parked_wait WHERE tenant_id = $1 AND device_id = $2 AND number = $3");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &e->item->device);
	pg_arg_int8(b, e->item->number);
}

static void note_waits(struct merge_op *m, const struct merge_entry *e, const struct park_waits *w)
{
	struct pg_batch *b = &m->op.batch;

	if (w->refs.count + w->own.count == 0)
		return;
	pg_call(b, "SELECT ferry.note_waits($1, $2, $3, $4, $5, $6, $7)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &e->item->device);
	pg_arg_int8(b, e->item->number);
	pg_arg_int4s(b, w->refs.tables, w->refs.count);
	pg_arg_uuids(b, w->refs.keys, w->refs.count);
	pg_arg_int4s(b, w->own.tables, w->own.count);
	pg_arg_uuids(b, w->own.keys, w->own.count);
}

static void count_waits(struct merge_op *m, const struct merge_entry *e)
{
	struct pg_batch *b = &m->op.batch;

	m->waits_call = pg_call(b, "SELECT missing, one FROM ferry.count_waits($1, $2, $3)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &e->item->device);
	pg_arg_int8(b, e->item->number);
}

static void park(struct merge_op *m, struct merge_entry *e, int code, const char *sentence)
{
	pg_run_reject(m, e, code, sentence);
	e->verdict = VERDICT_PARKED;
}

/* Names one of the rows that it lacks, and says how many more there are. */
static void missing_sentence(const struct merge_op *m, const char *one_end, const char *more_end, struct ferry_why *out)
{
	const struct pg_batch *b = &m->op.batch;
	int64_t missing = pg_int(b, m->waits_call, 0, 0);
	const char *one = pg_is_null(b, m->waits_call, 0, 1) ? "a row" : pg_text(b, m->waits_call, 0, 1);

	if (missing == 1)
		ferry_why_set(out, "it refers to %s, which %s", one, one_end);
	else
		ferry_why_set(out, "it refers to %s and %lld more, which %s", one, (long long)missing - 1, more_end);
}

static void refuse_expired(struct merge_op *m, struct merge_entry *e)
{
	struct ferry_why why;

	missing_sentence(m, "did not come to the hub in time", "did not come to the hub in time", &why);
	pg_run_reject(m, e, FERRY_FOREIGN_KEY, why.text);
}

/* One that waits already goes on; its device is told when it is for something else now. One that was refused
 * and is tried again stays so, and waits for nothing. */
static void park_for_parent(struct merge_op *m, struct merge_entry *e)
{
	struct ferry_why why;

	if (e->item->again && !e->former)
		missing_sentence(m, "is not at the hub yet", "are not at the hub yet", &why);
	else
		missing_sentence(m, "is not at the hub yet, and waits there for it", "are not at the hub yet, and waits there for them", &why);
	park(m, e, FERRY_FOREIGN_KEY, why.text);
	if (!e->item->again)
		return;
	e->state = ITEM_HELD;
	e->parks_on = e->former && strcmp(e->former, why.text) != 0;
}

/* What it lacks is counted, after its write was taken back. Where nothing is missing, that may have
 * come between the two, or it is something else that refuses it: a second attempt shows it. */
void pg_park_decide(struct merge_op *m, struct merge_entry *e)
{
	if (pg_int(&m->op.batch, m->waits_call, 0, 0) > 0) {
		if (e->item->expired)
			refuse_expired(m, e);
		else
			park_for_parent(m, e);
	} else if (e->waits_came) {
		pg_run_refuse(m, e, pg_order_failure(e, m->scans));
	}
	e->waits_came = true;
	m->scans = NULL;
}

bool pg_park_may(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f)
{
	struct park_waits w = {0};

	if (pg_code_of_failure(f) != FERRY_FOREIGN_KEY || !e->set || e->set->joined)
		return false; /* a joined one comes again in parts, and then only what lacks its parent waits */
	for (uint32_t i = 0; i < e->set->block_count; i++) {
		if (!waits_of_block(m, &m->arena, &w, &e->set->blocks[i]))
			return false;
	}
	m->scans = arena_copy(&m->arena, f, sizeof(*f));
	e->waits = w;
	return w.refs.count > 0 && m->scans;
}

/* The database counts a row that this transaction makes as missing until it ends. */
static void leave_out_made(const struct merge_op *m, struct row_keys *refs)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < refs->count; i++) {
		if (m->merge && merge_stands(m->merge, (uint32_t)refs->tables[i], &refs->keys[i]))
			continue;
		refs->tables[n] = refs->tables[i];
		refs->keys[n++] = refs->keys[i];
	}
	refs->count = n;
}

void pg_park_ask(struct merge_op *m, struct merge_entry *e)
{
	leave_out_made(m, &e->waits.refs);
	forget_waits(m, e);
	note_waits(m, e, &e->waits);
	count_waits(m, e);
	e->waits_noted = true;
}

void pg_park_behind(struct merge_op *m, struct merge_entry *e, int64_t number)
{
	char sentence[120];

	snprintf(sentence, sizeof(sentence), "it builds on change-set %lld, which waits at the hub", (long long)number);
	park(m, e, FERRY_DEPENDS, sentence);
	if (e->item->again)
		e->state = ITEM_HELD;
	else
		e->waits.number = number;
}

static void settle_parked(struct merge_op *m, const struct merge_entry *e)
{
	struct pg_batch *b = &m->op.batch;

	pg_call(b, "SELECT ferry.park($1, $2, $3, $4, $5)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &e->item->device);
	pg_arg_int8(b, e->item->number);
	pg_arg_int4(b, e->waits.child);
	pg_arg_int8(b, e->waits.number);
}

static void settle_parked_on(struct merge_op *m, const struct merge_entry *e)
{
	struct pg_batch *b = &m->op.batch;

	pg_call(b, "SELECT ferry.park_on($1, $2, $3, $4, $5, $6, $7)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &e->item->device);
	pg_arg_int8(b, e->item->number);
	pg_arg_int4(b, e->waits.child);
	pg_arg_int8(b, m->tx);
	pg_arg_int4(b, e->code);
	pg_arg_text(b, e->sentence);
}

void pg_park_settle(struct merge_op *m)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_entry *e = &m->entries[i];

		if (e->parks_on)
			settle_parked_on(m, e);
		else if (e->state == ITEM_REJECTED && e->verdict == VERDICT_PARKED)
			settle_parked(m, e);
		else if (e->waits_noted && (e->state == ITEM_PARKED || (e->state == ITEM_HELD && !e->former)))
			forget_waits(m, e); /* there was no room to keep it, or it does not wait */
	}
}

/* ------------------------------------------------------------ a staged one */

static bool something_parks(const struct pg_catalog *c)
{
	for (uint32_t i = 0; i < c->table_count; i++) {
		if (c->tables[i].parks)
			return true;
	}
	return false;
}

bool pg_park_scans(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f)
{
	if (pg_code_of_failure(f) != FERRY_FOREIGN_KEY || !something_parks(m->op.catalog) || m->part_count == 0 || m->parts[0].joined)
		return false;
	m->scans = arena_copy(&m->arena, pg_order_failure(e, f), sizeof(*f));
	e->waits = (struct park_waits){0};
	e->waits_noted = true;
	return m->scans != NULL;
}

static void scan_counted(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_park_decide(m, &m->entries[0]);
	if (m->entries[0].state == ITEM_WAITING) {
		pg_stage_again(op);
		return;
	}
	pg_stage_reject(m);
}

void pg_park_scan(struct merge_op *m)
{
	struct merge_entry *e = &m->entries[0];
	struct park_waits w = {0};
	bool ok = true;

	arena_reset(&m->load_arena);
	pg_batch_reset(&m->op.batch);
	for (uint32_t i = 0; i < m->part_count; i++) {
		for (uint32_t k = 0; ok && k < m->parts[i].block_count; k++)
			ok = waits_of_block(m, &m->load_arena, &w, &m->parts[i].blocks[k]);
	}
	if (!ok) {
		pg_op_end(&m->op, FERRY_LIMIT);
		return;
	}
	if (w.child != 0)
		e->waits.child = w.child;
	if (m->part == 0)
		forget_waits(m, e);
	note_waits(m, e, &w);
	if (pg_portion_more(m)) {
		pg_portion_ask(m, m->part + m->part_count);
		pg_op_run(&m->op, pg_stage_next);
	} else {
		count_waits(m, e);
		pg_op_run(&m->op, scan_counted);
	}
}
