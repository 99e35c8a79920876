/* A change-set too large for a message [R7]: merged portion by portion inside
 * one transaction and one savepoint, so that memory holds one portion at a
 * time and the whole stands or falls together. A statement costs by what it is
 * as well as by its rows, so a portion may be several parts (pg_merge_portion.c).
 * A row is in one part only (its entries are net changes), so each portion has
 * a merge of its own. A row that goes on over several parts [P 6.6] is merged
 * with its last piece; until then it waits in memory, which is bounded by what
 * a row may hold. */
#include <string.h>

#include "hub/pg_merge.h"
#include "protocol/message.h"

static void stage_written(struct pg_op *op);
static void portion_go(struct merge_op *m, enum portion p);

static struct merge_entry *entry(struct merge_op *m)
{
	return &m->entries[0];
}

/* Nothing of it stands; its verdict does. */
static void stage_settle(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_batch_reset(&op->batch);
	m->phase = MERGE_SETTLES;
	pg_run_settle(m);
}

/* From its first part on: to see what it lacks, or whom it met. */
static void stage_reread(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	row_joiner_deinit(&m->row);
	pg_batch_reset(&op->batch);
	pg_portion_ask(m, 0);
	pg_op_run(op, pg_stage_next);
}

/* A row that gives a value away may be in another portion than the one that takes it: whom
 * it met is asked with the rows of all. */
void pg_stage_reject(struct merge_op *m)
{
	pg_step next = stage_settle;

	if (pg_tell_wants(entry(m)) && !m->tells) {
		m->tells = true;
		next = stage_reread;
	}
	if (m->savepoint)
		pg_run_undo(m, next);
	else
		next(&m->op);
}

static void stage_tell(struct merge_op *m)
{
	bool fits = pg_tell_portion(m, entry(m));

	pg_batch_reset(&m->op.batch);
	if (fits && pg_portion_more(m)) {
		pg_portion_ask(m, m->part + m->part_count);
		pg_op_run(&m->op, pg_stage_next);
		return;
	}
	if (fits)
		pg_tell_portions_end(m, entry(m));
	stage_settle(&m->op);
}

/* In the next order, or to see what it lacks. */
void pg_stage_again(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	struct merge_entry *e = entry(m);

	e->state = ITEM_WAITING;
	e->verdict = VERDICT_ACCEPTED;
	m->rest = false;
	stage_reread(op);
}

void pg_stage_refused(struct merge_op *m)
{
	struct pg_failure f = m->op.batch.failure;
	struct merge_entry *e = entry(m);

	m->savepoint = true;
	if (pg_group_key_clash(m, e, &f)) {
		if (e->state == ITEM_REJECTED)
			pg_stage_reject(m);
		else
			pg_op_again(&m->op);
	} else if (e->item->park && pg_code_of_failure(&f) == FERRY_FOREIGN_KEY) {
		pg_run_park(m, e, FERRY_FOREIGN_KEY, "a row that it refers to is not there yet");
		pg_run_abandon(m);
	} else if (pg_order_next(m, e, &f) || pg_park_scans(m, e, &f)) {
		pg_run_undo(m, pg_stage_again);
	} else {
		pg_run_refuse(m, e, pg_order_failure(e, &f));
		pg_stage_reject(m);
	}
}

/* Settled before: only the parts are still here, unless they are what is kept of it. */
static void stage_repeated(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	pg_batch_reset(b);
	m->phase = MERGE_SETTLES;
	pg_call(b, "DELETE FROM ferry.stage s WHERE s.tenant_id = $1 AND s.device_id = $2 AND s.number = $3 AND s.staging = $4 "
		   "AND NOT EXISTS (SELECT FROM ferry.rejected r WHERE r.tenant_id = $1 AND r.device_id = $2 AND r.number = $3 "
		   "AND r.staging = $4)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &entry(m)->item->device);
	pg_arg_int8(b, entry(m)->item->number);
	pg_arg_int8(b, entry(m)->item->staging);
	m->finish_call = pg_call(b, "SELECT tenant_id, position FROM ferry.finish()");
	pg_call(b, "COMMIT");
	pg_op_run(&m->op, pg_run_settled);
}

void pg_stage_begin(struct merge_op *m)
{
	struct merge_entry *e = entry(m);

	if (e->state == ITEM_REPEATED)
		stage_repeated(m);
	else if (e->state == ITEM_HELD)
		pg_run_abandon(m);
	else if (e->state == ITEM_REJECTED)
		pg_stage_reject(m);
	else
		portion_go(m, pg_portion_take(m, &m->load));
}

/* ------------------------------------------------------------- one portion */

static bool part_rejected(struct merge_op *m, enum ferry_error error, const struct merge_outcome *o)
{
	struct merge_entry *e = entry(m);

	if (error != FERRY_OK) {
		pg_run_reject(m, e, FERRY_CHANGE_SET_TOO_LARGE, "a part is larger than the hub can merge at once");
		return true;
	}
	if (o->verdict == VERDICT_REJECTED) {
		pg_run_reject(m, e, o->code, o->why.text);
		e->holder = o->holder;
		return true;
	}
	if (o->verdict == VERDICT_SUPERSEDED)
		e->verdict = VERDICT_SUPERSEDED;
	return false;
}

/* An outcome for each part. */
static bool parts_apply(struct merge_op *m, struct merge_outcome *outcomes)
{
	int64_t now = m->op.store->io->wall(m->op.store->io->ctx);
	enum ferry_error error;

	merge_free(m->merge);
	m->merge = merge_new(&m->op.catalog->hub.schema, m->op.store->config.merge_bytes_max);
	error = m->merge ? pg_load_feed(m, m->merge) : FERRY_NO_MEMORY;
	merge_apart(m->merge, entry(m)->device->apart);
	for (uint32_t i = 0; i < m->part_count; i++) {
		struct change_set s = m->parts[i];

		s.part = i; /* to the merge, the portion is a change-set */
		s.more = i + 1 < m->part_count;
		if (error == FERRY_OK)
			error = merge_apply(m->merge, &entry(m)->item->device, &s, now, &outcomes[i]);
		if (part_rejected(m, error, &outcomes[i]))
			return false;
	}
	return true;
}

static void parts_admit(struct merge_op *m)
{
	struct merge_entry *e = entry(m);

	for (uint32_t i = 0; i < m->part_count && e->state == ITEM_WAITING; i++)
		pg_run_admit(m, e, &m->parts[i]);
}

/* Once more from the first part on: only its deletions are written yet. */
static bool goes_round(const struct merge_op *m)
{
	return m->entries[0].order == WRITE_DELETES_FIRST && !m->rest;
}

static void part_write(struct merge_op *m)
{
	struct merge_entry *e = entry(m);
	struct merge_outcome outcomes[MERGE_PARTS_MAX];

	parts_admit(m);
	if (e->state == ITEM_HELD || e->state == ITEM_PARKED) {
		pg_run_abandon(m);
		return;
	}
	if (e->state == ITEM_REJECTED || !parts_apply(m, outcomes)) {
		pg_stage_reject(m);
		return;
	}
	pg_batch_reset(&m->op.batch);
	m->phase = MERGE_WRITES;
	m->release_call = m->postponed_call = UINT32_MAX;
	if (!m->savepoint)
		pg_write_savepoint(m);
	m->savepoint = true;
	for (uint32_t i = 0; i < m->part_count; i++)
		pg_write_conflicts(m, e, &outcomes[i]);
	if (merge_take_writes(m->merge, &m->writes) != FERRY_OK || !pg_write_group(m, &m->writes, e->order)) {
		pg_op_end(&m->op, FERRY_LIMIT);
		return;
	}
	for (uint32_t i = 0; i < m->part_count; i++)
		pg_write_asks(m, e, &outcomes[i]);
	if (pg_portion_more(m))
		pg_portion_ask(m, m->part + m->part_count);
	else if (goes_round(m))
		pg_portion_ask(m, 0);
	else
		pg_write_release(m, e->order);
	if (m->op.batch.count == 0)
		stage_written(&m->op);
	else
		pg_op_run(&m->op, stage_written);
}

static void part_suspects(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_load_read_suspects(m);
	part_write(m);
}

static void part_loaded(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	enum ferry_error e;

	pg_batch_deinit(&m->load);
	m->load = op->batch;
	pg_batch_init(&op->batch, PG_BATCH_BYTES_MAX);
	e = pg_entries_read_refused(m) ? pg_load_read(m) : FERRY_LIMIT;
	if (e != FERRY_OK)
		pg_op_end(op, e);
	else if (pg_load_ask_suspects(m))
		pg_op_run(op, part_suspects);
	else
		part_write(m);
}

void pg_stage_next(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	portion_go(m, pg_portion_take(m, &op->batch));
}

static void stage_part(struct merge_op *m)
{
	m->phase = MERGE_LOADS;
	if (entry(m)->order == WRITE_DELETES_FIRST && !pg_portion_keep(m, !m->rest)) {
		pg_op_end(&m->op, FERRY_LIMIT);
		return;
	}
	pg_load_forget(m);
	arena_reset(&m->load_arena);
	pg_batch_reset(&m->op.batch);
	if (pg_portion_is_empty(m) && pg_portion_more(m)) {
		pg_portion_ask(m, m->part + m->part_count);
		pg_op_run(&m->op, pg_stage_next);
		return;
	}
	for (uint32_t i = 0; i < m->part_count; i++) {
		if (!pg_load_wants(m, &m->parts[i])) {
			pg_op_end(&m->op, FERRY_LIMIT);
			return;
		}
	}
	pg_entries_ask_refused(m, &m->parts[0]);
	pg_load_ask(m, true);
	pg_op_run(&m->op, part_loaded);
}

static void stage_converted(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	if (pg_conversions_read(m, &m->part_arena))
		portion_go(m, pg_portion_translate(m));
	else
		pg_op_end(op, FERRY_LIMIT);
}

static void portion_go(struct merge_op *m, enum portion p)
{
	switch (p) {
	case PORTION_READY:
		if (m->tells)
			stage_tell(m);
		else if (m->scans)
			pg_park_scan(m);
		else
			stage_part(m);
		break;
	case PORTION_CONVERTS:
		m->phase = MERGE_LOADS;
		pg_conversions_ask_within(m);
		pg_op_run(&m->op, stage_converted);
		break;
	case PORTION_REFUSED:
		pg_stage_reject(m);
		break;
	case PORTION_GONE:
		pg_run_abandon(m);
		break;
	}
}

static void stage_written(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	struct merge_entry *e = entry(m);

	if (pg_write_read_checks(m) > 0) {
		pg_stage_reject(m);
		return;
	}
	if (pg_portion_more(m) || goes_round(m)) {
		m->rest |= !pg_portion_more(m);
		portion_go(m, pg_portion_take(m, &op->batch));
		return;
	}
	e->state = ITEM_APPLIED;
	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "RELEASE SAVEPOINT ferry_group");
	m->savepoint = false;
	m->phase = MERGE_SETTLES;
	pg_run_settle(m);
}
