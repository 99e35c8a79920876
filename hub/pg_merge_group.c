/* Part B of pg_merge.h: change-sets are admitted, merged and written in groups;
 * a group that the database refuses is taken back and halved. */
#include "hub/pg_merge.h"

#include <stdio.h>
#include <string.h>

static void group_next(struct merge_op *m);

/* --------------------------------------------------------------- admission */

static bool holds_scope(const struct merge_device *d, const char *scope)
{
	for (uint32_t i = 0; i < d->scope_count; i++) {
		if (strcmp(d->scopes[i], scope) == 0)
			return true;
	}
	return false;
}

enum holding {
	HOLDS_NOT,
	HOLDS_TO_READ, /* only where rows refer to it, which brought it along */
	HOLDS,
};

/* Does it hold one of the row's further scopes? */
static enum holding holds_another(const struct merge_device *d, const struct merge_table *t, int64_t row)
{
	struct pg_elements also = t->also ? t->also[row] : (struct pg_elements){0};
	const uint8_t *p;
	size_t n;

	for (uint32_t at = 0; pg_element(&also, &p, &n); at++) {
		for (uint32_t i = 0; i < d->scope_count; i++) {
			if (strlen(d->scopes[i]) == n && memcmp(d->scopes[i], p, n) == 0)
				return at < t->own[row] ? HOLDS : HOLDS_TO_READ;
		}
	}
	return HOLDS_NOT;
}

/* The device holds none of the scopes that the row has by itself. */
static void refuse_row(struct merge_op *m, struct merge_entry *e, enum holding holding)
{
	if (holding == HOLDS_TO_READ)
		pg_run_reject(m, e, FERRY_READ_ONLY, "a row is here because others refer to it, and this device may only read it");
	else
		pg_run_reject(m, e, FERRY_OUT_OF_SCOPE, "a row is outside this device's scopes");
}

static void admit_depends(struct merge_op *m, struct merge_entry *e, const struct change_set *s)
{
	for (uint32_t i = 0; i < s->depends_count && e->state == ITEM_WAITING; i++) {
		int64_t number = s->depends[i];
		const struct merge_entry *other = pg_run_find(m, &e->item->device, number);
		char sentence[120];

		if (pg_entry_refused(m, &e->item->device, number) ||
		    (other && other->verdict == VERDICT_REJECTED)) {
			snprintf(sentence, sizeof(sentence), "it builds on change-set %lld, which was refused",
				 (long long)number);
			pg_run_reject(m, e, FERRY_DEPENDS, sentence);
		} else if (other && other->state == ITEM_PARKED) {
			pg_run_park(m, e, FERRY_DEPENDS, "it builds on a change-set that is parked");
		} else if (other ? other->verdict == VERDICT_PARKED : pg_entry_parked(m, &e->item->device, number)) {
			pg_park_behind(m, e, number);
		} else if (other ? other->state == ITEM_WAITING || other->state == ITEM_HELD
				 : !pg_entry_settled(e->device, number)) {
			e->state = ITEM_HELD;
		}
	}
}

/* R18: earlier replays of the same rows have to have their verdicts, and any will do. The core
 * lets it go with those that are settled, or before it in the batch. */
static void admit_after(struct merge_op *m, struct merge_entry *e, const struct change_set *s)
{
	for (uint32_t i = 0; i < s->after_count && e->state == ITEM_WAITING; i++) {
		const struct merge_entry *other = pg_run_find(m, &e->item->device, s->after[i]);

		if (other && other->state == ITEM_PARKED)
			pg_run_park(m, e, FERRY_DEPENDS, "it builds on a change-set that is parked");
		else if (other ? other->state == ITEM_WAITING || other->state == ITEM_HELD : !pg_entry_settled(e->device, s->after[i]))
			e->state = ITEM_HELD;
	}
}

/* A deleted row that an update may put back is where it was. */
static bool in_scope_now(const struct merge_row *r, enum row_op op)
{
	return r->exists || (r->last_cells && op == ROW_UPDATE);
}

/* Does somebody hold the row, or the one that it is a part of? */
static bool is_held(const struct merge_op *m, const struct merge_table *t, int64_t row)
{
	const struct merge_table *whole = t->table->beside ? pg_load_table(m, t->table->beside) : NULL;
	int64_t i = whole ? pg_load_row(whole, &t->keys[row]) : -1;

	return t->held[row] || (i >= 0 && whole->held[i]);
}

/* A row that another device makes or moves in this transaction has no scope to compare yet, but where all
 * rows of the table are in one: who touches it too is judged in the next. Not so what a lost history is
 * brought back with, which has to stand together (R18): its edits are judged when they are written. */
static void admit_placed_row(struct merge_op *m, struct merge_entry *e, const struct merge_table *t, int64_t row)
{
	const struct pg_table *table = t->table;

	if (!m->merge || !merge_placed_by_another(m->merge, table->tbl, &t->keys[row], table->scope_num, &e->item->device))
		return;
	if (table->scope_form > PG_SCOPE_GLOBAL && !e->item->park)
		e->state = ITEM_HELD;
	else if (table->scope_form <= PG_SCOPE_GLOBAL && !holds_scope(e->device, table->tenant_scope))
		refuse_row(m, e, HOLDS_NOT);
}

/* A foreign key may take rows along with what was deleted before in this transaction, or refuse those that refer to
 * it; and a deletion may take along what others have written: who comes later is judged in the next, when that is
 * seen. Not so what a lost history is brought back with, and the parts of a staged one. */
static bool is_apart(struct merge_op *m, const struct merge_entry *e, const struct block *b)
{
	const struct pg_catalog *c = m->op.catalog;

	if (!m->merge || m->staged || e->item->park)
		return false;
	for (uint32_t i = 0; i < c->table_count; i++) {
		uint32_t other = c->tables[i].tbl;

		if (b->op == ROW_DELETE ? merge_written_by_others(m->merge, other, &e->item->device) && pg_catalog_beneath(c, b->table, other)
					: merge_deletes(m->merge, other) && pg_catalog_beneath(c, other, b->table))
			return true;
	}
	return false;
}

static bool is_behind(const struct merge_entry *e, int64_t number)
{
	return number != 0 && e->item->number > number;
}

static void note_held(struct merge_entry *e)
{
	struct merge_device *d = e->device;

	if (!is_behind(e, d->held))
		d->held = e->item->number;
	if (e->next && !is_behind(e, d->next))
		d->next = e->item->number;
}

/* Rows that somebody else holds make it wait; rows that are outside the
 * device's scopes before the write refuse it (P7). */
static void admit_rows(struct merge_op *m, struct merge_entry *e, const struct block *b)
{
	const struct merge_table *t = pg_load_table(m, b->table);
	const char *good = NULL; /* scope of the row before: mostly the same */

	if (!t)
		return;
	if ((b->op == ROW_INSERT || b->part_of) && t->table->scope_form <= PG_SCOPE_GLOBAL && !holds_scope(e->device, t->table->tenant_scope)) {
		pg_run_reject(m, e, FERRY_OUT_OF_SCOPE, "a new row would be outside this device's scopes");
		return;
	}
	if (is_apart(m, e, b)) {
		e->state = ITEM_HELD;
		e->next = true;
		return;
	}
	if (b->op == ROW_DELETE && is_behind(e, e->device->held) && pg_catalog_above(m->op.catalog, b->table)) {
		e->state = ITEM_HELD;
		return;
	}
	for (uint32_t r = 0; r < b->row_count; r++) {
		int64_t i = pg_load_row(t, &b->keys[r]);

		if (i < 0)
			continue;
		if (is_held(m, t, i)) {
			e->state = ITEM_HELD;
			return;
		}
		admit_placed_row(m, e, t, i);
		if (e->state != ITEM_WAITING)
			return;
		if (!in_scope_now(&t->rows[i], b->op) || !t->scopes[i] || (good && strcmp(good, t->scopes[i]) == 0))
			continue;
		if (!holds_scope(e->device, t->scopes[i])) {
			enum holding holding = holds_another(e->device, t, i);

			if (holding == HOLDS)
				continue;
			refuse_row(m, e, holding);
			return;
		}
		good = t->scopes[i];
	}
}

static void admit_tenant(struct merge_op *m, struct merge_entry *e, const struct block *b)
{
	const struct merge_table *t = pg_load_table(m, b->table);

	for (uint16_t c = 0; t && c < b->column_count; c++) {
		int column = pg_table_column(t->table, b->nums[c]);

		if (column < 0 || !t->table->columns[column].is_tenant)
			continue;
		for (uint32_t r = 0; r < b->row_count; r++) {
			const struct value *v = &b->cells[(size_t)c * b->row_count + r];

			if (v->kind != VALUE_BYTES || v->n != sizeof(m->op.tenant.b) ||
			    memcmp(v->p, m->op.tenant.b, v->n) == 0)
				continue;
			pg_run_reject(m, e, FERRY_FOREIGN_TENANT, "a row names another tenant");
			return;
		}
	}
}

/* R18: a replay that changes or deletes a row that nobody knows here comes
 * before the one that makes it, which another device has still to offer; so
 * does what is new and was made on such a row. */
static void admit_replay(struct merge_op *m, struct merge_entry *e, const struct block *b)
{
	const struct merge_table *t = pg_load_table(m, b->table);

	for (uint32_t r = 0; t && b->op != ROW_INSERT && r < b->row_count; r++) {
		int64_t i = pg_load_row(t, &b->keys[r]);

		if (i >= 0 && !t->rows[i].known && !(m->merge && merge_knows(m->merge, b->table, &b->keys[r]))) {
			pg_run_park(m, e, FERRY_NOT_FOUND, "a row that it changes or deletes is not there yet");
			return;
		}
	}
}

void pg_run_admit(struct merge_op *m, struct merge_entry *e, const struct change_set *s)
{
	if (e->misfit) {
		pg_run_reject(m, e, e->misfit, e->misfit_sentence);
		return;
	}
	if (is_behind(e, e->device->next) && !e->item->park) {
		e->state = ITEM_HELD;
		e->next = true;
		return;
	}
	admit_depends(m, e, s);
	admit_after(m, e, s);
	for (uint32_t i = 0; i < s->block_count && e->item->park && e->state == ITEM_WAITING; i++)
		admit_replay(m, e, &s->blocks[i]);
	for (uint32_t i = 0; i < s->block_count && e->state == ITEM_WAITING; i++) {
		admit_rows(m, e, &s->blocks[i]);
		if (e->state == ITEM_WAITING)
			admit_tenant(m, e, &s->blocks[i]);
	}
	if (e->state == ITEM_HELD)
		note_held(e);
}

/* ------------------------------------------------------------------ groups */

/* Devices that failed lately come last, each in a group of its own (R11). */
void pg_groups_start(struct merge_op *m)
{
	uint32_t sound;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (!m->entries[i].device->suspect)
			m->order[m->order_count++] = i;
	}
	sound = m->order_count;
	for (uint32_t d = 0; d < m->device_count; d++) {
		uint32_t first = m->order_count;

		for (uint32_t i = 0; m->devices[d].suspect && i < m->entry_count; i++) {
			if (m->entries[i].device == &m->devices[d])
				m->order[m->order_count++] = i;
		}
		if (m->order_count > first)
			m->stack[m->stack_count++] = (struct range){first, m->order_count - first};
	}
	if (sound)
		m->stack[m->stack_count++] = (struct range){0, sound};
	group_next(m);
}

static enum ferry_error apply_entry(struct merge_op *m, struct merge_entry *e)
{
	int64_t now = m->op.store->io->wall(m->op.store->io->ctx);
	struct merge_outcome *o = &m->outcomes[e - m->entries];
	enum ferry_error error;

	merge_apart(m->merge, e->device->apart);
	error = merge_apply(m->merge, &e->item->device, e->set, now, o);

	if (error != FERRY_OK)
		return error;
	if (o->verdict == VERDICT_REJECTED) {
		pg_run_reject(m, e, o->code, o->why.text);
		e->holder = o->holder;
		return FERRY_OK;
	}
	e->state = ITEM_APPLIED;
	e->verdict = o->verdict;
	return FERRY_OK;
}

/* A merge that holds exactly what stands: after a group was taken back. */
static enum ferry_error rebuild(struct merge_op *m)
{
	struct merge_writes ignored;
	enum ferry_error e;

	merge_free(m->merge);
	m->merge = merge_new(&m->op.catalog->hub.schema, m->op.store->config.merge_bytes_max);
	if (!m->merge)
		return FERRY_NO_MEMORY;
	e = pg_load_feed(m, m->merge);
	for (uint32_t i = 0; i < m->order_count && e == FERRY_OK; i++) {
		if (m->entries[m->order[i]].state == ITEM_APPLIED)
			e = apply_entry(m, &m->entries[m->order[i]]);
	}
	m->merge_is_whole = e == FERRY_OK;
	return e ? e : merge_take_writes(m->merge, &ignored);
}

/* What does not fit beside the others comes with the next batch; what does
 * not fit alone never will. */
static void entry_too_large(struct merge_op *m, struct merge_entry *e)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (m->entries[i].state == ITEM_APPLIED) {
			e->state = ITEM_HELD;
			return;
		}
	}
	pg_run_reject(m, e, FERRY_CHANGE_SET_TOO_LARGE, "the change-set is larger than the hub can merge at once");
}

static enum ferry_error apply_group(struct merge_op *m, uint32_t *out_applied)
{
	*out_applied = 0;
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		struct merge_entry *e = &m->entries[m->order[i]];
		enum ferry_error error;

		if (e->state == ITEM_WAITING)
			pg_run_admit(m, e, e->set);
		if (e->state != ITEM_WAITING)
			continue;
		error = apply_entry(m, e);
		if (error == FERRY_LIMIT)
			entry_too_large(m, e);
		else if (error != FERRY_OK)
			return error;
		*out_applied += e->state == ITEM_APPLIED;
	}
	return FERRY_OK;
}

/* Not plain for one that stands alone. */
static enum write_order group_order(const struct merge_op *m)
{
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		const struct merge_entry *e = &m->entries[m->order[i]];

		if (e->state == ITEM_APPLIED && e->order != WRITE_PLAIN)
			return e->order;
	}
	return WRITE_PLAIN;
}

static bool write_entries(struct merge_op *m)
{
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		uint32_t n = m->order[i];

		if (m->entries[n].state == ITEM_APPLIED)
			pg_write_conflicts(m, &m->entries[n], &m->outcomes[n]);
	}
	if (merge_take_writes(m->merge, &m->writes) != FERRY_OK || !pg_write_group(m, &m->writes, group_order(m)))
		return false;
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		uint32_t n = m->order[i];

		if (m->entries[n].state == ITEM_APPLIED)
			pg_write_asks(m, &m->entries[n], &m->outcomes[n]);
	}
	return true;
}

static void batch_reset(struct merge_op *m)
{
	pg_batch_reset(&m->op.batch);
	if (m->savepoint)
		pg_call(&m->op.batch, "RELEASE SAVEPOINT ferry_group");
	m->savepoint = false;
}

static void settle_only(struct merge_op *m)
{
	batch_reset(m);
	m->phase = MERGE_SETTLES;
	pg_run_settle(m);
}

static bool anything_to_settle(const struct merge_op *m)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (m->entries[i].state == ITEM_APPLIED || m->entries[i].state == ITEM_REJECTED || m->entries[i].waits_noted)
			return true;
	}
	return false;
}

static void group_written(struct pg_op *op);

static void group_next(struct merge_op *m)
{
	uint32_t applied = 0;
	enum ferry_error e = FERRY_OK;

	while (m->stack_count > 0 && applied == 0 && e == FERRY_OK) {
		m->group = m->stack[--m->stack_count];
		if (!m->merge_is_whole)
			e = rebuild(m);
		if (e == FERRY_OK)
			e = apply_group(m, &applied);
	}
	if (e != FERRY_OK) {
		pg_op_end(&m->op, e);
		return;
	}
	if (applied == 0) {
		if (anything_to_settle(m))
			settle_only(m);
		else
			pg_run_abandon(m);
		return;
	}
	batch_reset(m);
	m->phase = MERGE_WRITES;
	m->postponed_call = UINT32_MAX;
	pg_write_savepoint(m);
	if (!write_entries(m)) {
		pg_op_end(&m->op, FERRY_LIMIT);
		return;
	}
	pg_write_release(m, group_order(m));
	if (m->stack_count == 0 && !m->savepoint)
		pg_run_settle(m);
	else
		pg_op_run(&m->op, group_written);
}

/* Entries of the group that were applied wait again. */
static uint32_t group_reopen(struct merge_op *m)
{
	uint32_t n = 0;

	m->merge_is_whole = false;
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		struct merge_entry *e = &m->entries[m->order[i]];

		if (e->state != ITEM_APPLIED)
			continue;
		e->state = ITEM_WAITING;
		e->verdict = VERDICT_ACCEPTED;
		n++;
	}
	return n;
}

static void group_undone(struct pg_op *op)
{
	group_next((struct merge_op *)op);
}

void pg_run_undo_begin(struct merge_op *m)
{
	pg_batch_reset(&m->op.batch);
	pg_call(&m->op.batch, "ROLLBACK TO SAVEPOINT ferry_group");
	pg_call(&m->op.batch, "RELEASE SAVEPOINT ferry_group");
	m->savepoint = false;
	m->phase = MERGE_LOADS;
	m->op.store->stats.narrowings++;
}

void pg_run_undo(struct merge_op *m, pg_step next)
{
	pg_run_undo_begin(m);
	pg_op_run(&m->op, next);
}

static void group_written(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	if (pg_write_read_checks(m) > 0) {
		(void)group_reopen(m); /* without those that are rejected now */
		m->stack[m->stack_count++] = m->group;
		pg_run_undo(m, group_undone);
		return;
	}
	m->stamp_next += m->group_stamps;
	group_next(m);
}

static struct merge_entry *first_waiting(struct merge_op *m, uint32_t *out_at)
{
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		if (m->entries[m->order[i]].state == ITEM_WAITING) {
			*out_at = i;
			return &m->entries[m->order[i]];
		}
	}
	return NULL;
}

static void group_halve(struct merge_op *m, uint32_t waiting)
{
	uint32_t end = m->group.first + m->group.count, at = m->group.first, n = 0;

	while (n < waiting / 2)
		n += m->entries[m->order[at++]].state == ITEM_WAITING;
	m->stack[m->stack_count++] = (struct range){at, end - at};
	m->stack[m->stack_count++] = (struct range){m->group.first, at - m->group.first};
}

/* The primary key is taken by a row that was not there when we looked: made
 * meanwhile, so look again; or another tenant's, whom we cannot see. */
static bool is_key_clash(const struct merge_op *m, const struct pg_failure *f)
{
	if (strcmp(f->sqlstate, "23505") != 0)
		return false;
	for (uint32_t i = 0; i < m->table_count; i++) {
		if (strcmp(m->tables[i].table->key_constraint, f->constraint) == 0)
			return true;
	}
	return false;
}

bool pg_group_key_clash(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f)
{
	if (!is_key_clash(m, f))
		return false;
	if (m->key_clashes++ >= MERGE_KEY_CLASHES_MAX)
		pg_run_reject(m, e, FERRY_FOREIGN_TENANT, "a row with this key exists already and is not visible here");
	return true;
}

static void park_counted(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_park_decide(m, m->parks);
	if (m->parks->state == ITEM_WAITING)
		m->stack[m->stack_count++] = m->group;
	else if (m->parks->state == ITEM_REJECTED && m->parks->verdict == VERDICT_REJECTED)
		pg_tell_note(m, m->parks);
	group_next(m);
}

static void group_parks(struct merge_op *m, struct merge_entry *e)
{
	m->parks = e;
	pg_run_undo_begin(m);
	pg_park_ask(m, e);
	pg_op_run(&m->op, park_counted);
}

void pg_group_refused(struct merge_op *m)
{
	struct pg_failure f = m->op.batch.failure;
	uint32_t waiting = group_reopen(m), at;
	struct merge_entry *e = first_waiting(m, &at);

	if (waiting > 1) {
		group_halve(m, waiting);
	} else if (e && pg_group_key_clash(m, e, &f)) {
		if (e->state == ITEM_WAITING) {
			pg_op_again(&m->op);
			return;
		}
	} else if (e && e->item->park && pg_code_of_failure(&f) == FERRY_FOREIGN_KEY) {
		pg_run_park(m, e, FERRY_FOREIGN_KEY, "a row that it refers to is not there yet");
	} else if (e && pg_order_next(m, e, &f)) {
		m->stack[m->stack_count++] = m->group;
	} else if (e && pg_park_may(m, e, &f)) {
		group_parks(m, e);
		return;
	} else if (e) {
		pg_run_refuse(m, e, pg_order_failure(e, &f));
		pg_tell_note(m, e);
	}
	pg_run_undo(m, group_undone);
}
