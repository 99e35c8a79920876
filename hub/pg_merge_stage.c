/* A change-set too large for a message [R7]: merged portion by portion inside
 * one transaction and one savepoint, so that memory holds one portion at a
 * time and the whole stands or falls together. A portion is a part, or some
 * that together are no larger than a message: a statement costs by what it is
 * as well as by its rows. A row is in one part only (its entries are net
 * changes), so each portion has a merge of its own. A row that goes on over
 * several parts [P 6.6] is merged with its last piece; until then it waits in
 * memory, which is bounded by what a row may hold. */
#include <string.h>

#include "hub/pg_merge.h"
#include "protocol/message.h"

static void stage_part(struct merge_op *m);
static void stage_written(struct pg_op *op);
static void stage_next(struct pg_op *op);

static struct merge_entry *entry(struct merge_op *m)
{
	return &m->entries[0];
}

void pg_stage_ask(struct merge_op *m, uint32_t part)
{
	struct pg_batch *b = &m->op.batch;

	m->part = part;
	m->stage_call = pg_call(b, "SELECT s.part, s.body FROM ("
				   "SELECT s.part, s.body, sum(length(s.body)) OVER (ORDER BY s.part) AS bytes "
				   "FROM ferry.stage s WHERE s.tenant_id = $1 AND s.device_id = $2 AND s.number = $3 "
				   "AND s.part >= $4 AND s.part < $4 + $5) s "
				   "WHERE s.part = $4 OR s.bytes <= $6 ORDER BY s.part");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &entry(m)->item->device);
	pg_arg_int8(b, entry(m)->item->number);
	pg_arg_int4(b, (int32_t)part);
	pg_arg_int4(b, MERGE_PARTS_MAX);
	pg_arg_int8(b, FERRY_MESSAGE_BYTES_MAX);
}

/* Nothing of it stands; its verdict does. */
static void stage_settle(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_batch_reset(&op->batch);
	m->phase = MERGE_SETTLES;
	pg_run_settle(m);
}

static void stage_reject(struct merge_op *m)
{
	if (m->savepoint)
		pg_run_undo(m, stage_settle);
	else
		stage_settle(&m->op);
}

/* From its first part on, in the next order. */
static void stage_again(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	struct merge_entry *e = entry(m);

	e->state = ITEM_WAITING;
	e->verdict = VERDICT_ACCEPTED;
	row_joiner_deinit(&m->row);
	pg_batch_reset(&op->batch);
	pg_stage_ask(m, 0);
	pg_op_run(op, stage_next);
}

void pg_stage_refused(struct merge_op *m)
{
	struct pg_failure f = m->op.batch.failure;

	m->savepoint = true;
	if (pg_order_next(m, entry(m), &f)) {
		pg_run_undo(m, stage_again);
		return;
	}
	pg_run_refuse(m, entry(m), pg_order_failure(entry(m), &f));
	pg_tell_note(m, entry(m));
	stage_reject(m);
}

static bool take_part(struct merge_op *m, const struct pg_batch *from, uint32_t row)
{
	struct ferry_why why = {{0}};
	const uint8_t *body;
	size_t n;

	if (pg_int(from, m->stage_call, row, 0) != (int64_t)m->part + row) {
		pg_run_reject(m, entry(m), FERRY_BAD_MESSAGE, "a part of this change-set never arrived");
		return false;
	}
	body = pg_bytes(from, m->stage_call, row, 1, &n);
	body = arena_copy(&m->part_arena, body, n);
	if (!body || change_set_decode(&m->part_arena, body, n, &m->parts[row], &why) != FERRY_OK) {
		pg_run_reject(m, entry(m), FERRY_BAD_MESSAGE, why.text);
		return false;
	}
	return true;
}

/* The row that was open, whole now, in the arena that its part lives in. */
static bool place_row(struct merge_op *m, struct block *into)
{
	struct arena *a = &m->part_arena;
	struct value *cells = arena_copy(a, m->row.cells, m->row.row.column_count * sizeof(*cells));
	bool good = cells != NULL;

	*into = m->row.row;
	into->nums = arena_copy(a, m->row.nums, into->column_count * sizeof(*into->nums));
	into->keys = arena_copy(a, &m->row.key, sizeof(m->row.key));
	into->at = into->at ? arena_copy(a, into->at, sizeof(*into->at)) : NULL;
	into->bases = arena_copy(a, m->row.bases, (into->base_count + 1u) * sizeof(*into->bases));
	into->cells = cells;
	for (uint16_t c = 0; good && c < into->column_count; c++) {
		if ((cells[c].kind != VALUE_TEXT && cells[c].kind != VALUE_BYTES) || cells[c].n == 0)
			continue;
		cells[c].p = arena_copy(a, cells[c].p, cells[c].n);
		good = cells[c].p != NULL;
	}
	row_joiner_deinit(&m->row);
	return good && into->nums && into->keys && into->bases;
}

static bool row_refused(struct merge_op *m, enum ferry_error e)
{
	if (e == FERRY_ROW_TOO_LARGE)
		pg_run_reject(m, entry(m), (int)e, "a row has more bytes than a row may have");
	else
		pg_run_reject(m, entry(m), (int)e, "the pieces of a row do not fit together");
	return false;
}

/* Takes pieces of rows out of a part, and puts a row in that has become whole. */
static bool join_rows(struct merge_op *m, struct change_set *part)
{
	uint32_t last = part->block_count ? part->block_count - 1 : 0, first = 0;
	struct block *blocks;
	enum ferry_error e;
	bool whole;

	if (!m->row.open && (part->block_count == 0 || !part->blocks[last].goes_on))
		return true;
	if (part->block_count == 0)
		return row_refused(m, FERRY_BAD_MESSAGE);
	blocks = arena_copy(&m->part_arena, part->blocks, part->block_count * sizeof(*blocks));
	if (!blocks)
		return row_refused(m, FERRY_ROW_TOO_LARGE);
	if (m->row.open) {
		e = row_join(&m->row, &blocks[0], &whole);
		if (e == FERRY_OK && whole && !place_row(m, &blocks[0]))
			e = FERRY_ROW_TOO_LARGE;
		if (e != FERRY_OK)
			return row_refused(m, e);
		first = whole ? 0 : 1;
	}
	part->blocks = blocks + first;
	part->block_count -= first;
	if (part->block_count == 0 || !blocks[last].goes_on)
		return true;
	part->block_count--;
	e = row_join(&m->row, &blocks[last], &whole);
	return e == FERRY_OK || row_refused(m, e);
}

static bool more_parts(const struct merge_op *m)
{
	return m->part_count == 0 || m->parts[m->part_count - 1].more;
}

static bool translate_part(struct merge_op *m, struct change_set *part)
{
	struct translation t;

	if (translate_set(&m->op.catalog->hub.schema, &m->op.catalog->past, part, &m->part_arena, NULL, &t) != FERRY_OK) {
		pg_run_reject(m, entry(m), FERRY_CHANGE_SET_TOO_LARGE, "the change-set is larger than the hub can translate");
		return false;
	}
	*part = *t.set;
	if (t.code)
		pg_run_reject(m, entry(m), t.code, t.why.text);
	return t.code == FERRY_OK;
}

/* Takes the portion out of the answer `from`; false: the entry has its fate. */
static bool stage_take(struct merge_op *m, const struct pg_batch *from)
{
	uint32_t rows = pg_rows(from, m->stage_call);

	arena_reset(&m->part_arena);
	m->part_count = 0;
	if (rows == 0)
		pg_run_reject(m, entry(m), FERRY_BAD_MESSAGE, "a part of this change-set never arrived");
	while (m->part_count < rows && m->part_count < MERGE_PARTS_MAX && more_parts(m)) {
		struct change_set *part = &m->parts[m->part_count];

		if (!take_part(m, from, m->part_count) || !join_rows(m, part) || !translate_part(m, part))
			return false;
		m->part_count++;
	}
	return rows > 0;
}

/* Settled before: only the parts are still here. */
static void stage_repeated(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	pg_batch_reset(b);
	m->phase = MERGE_SETTLES;
	pg_call(b, "DELETE FROM ferry.stage WHERE tenant_id = $1 AND device_id = $2 AND number = $3");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &entry(m)->item->device);
	pg_arg_int8(b, entry(m)->item->number);
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
	else if (e->state == ITEM_REJECTED || !stage_take(m, &m->load))
		stage_reject(m);
	else
		stage_part(m);
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

static void part_write(struct merge_op *m)
{
	struct merge_entry *e = entry(m);
	struct merge_outcome outcomes[MERGE_PARTS_MAX];

	parts_admit(m);
	if (e->state == ITEM_HELD) {
		pg_run_abandon(m);
		return;
	}
	if (e->state == ITEM_REJECTED || !parts_apply(m, outcomes)) {
		stage_reject(m);
		return;
	}
	pg_batch_reset(&m->op.batch);
	m->phase = MERGE_WRITES;
	m->release_call = UINT32_MAX;
	if (!m->savepoint)
		pg_write_savepoint(m);
	m->savepoint = true;
	if (merge_take_writes(m->merge, &m->writes) != FERRY_OK || !pg_write_group(m, &m->writes, e->order)) {
		pg_op_end(&m->op, FERRY_LIMIT);
		return;
	}
	for (uint32_t i = 0; i < m->part_count; i++) {
		pg_write_conflicts(m, e, &outcomes[i]);
		pg_write_asks(m, e, &outcomes[i]);
	}
	if (more_parts(m))
		pg_stage_ask(m, m->part + m->part_count);
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
	e = pg_load_read(m);
	if (e != FERRY_OK)
		pg_op_end(op, e);
	else if (pg_load_ask_suspects(m))
		pg_op_run(op, part_suspects);
	else
		part_write(m);
}

static void stage_next(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	if (stage_take(m, &op->batch))
		stage_part(m);
	else
		stage_reject(m);
}

/* Only pieces of a row that goes on. */
static bool portion_is_empty(const struct merge_op *m)
{
	for (uint32_t i = 0; i < m->part_count; i++) {
		if (m->parts[i].block_count > 0)
			return false;
	}
	return true;
}

static void stage_part(struct merge_op *m)
{
	m->phase = MERGE_LOADS;
	pg_load_forget(m);
	arena_reset(&m->load_arena);
	pg_batch_reset(&m->op.batch);
	if (portion_is_empty(m) && more_parts(m)) {
		pg_stage_ask(m, m->part + m->part_count);
		pg_op_run(&m->op, stage_next);
		return;
	}
	for (uint32_t i = 0; i < m->part_count; i++) {
		if (!pg_load_wants(m, &m->parts[i])) {
			pg_op_end(&m->op, FERRY_LIMIT);
			return;
		}
	}
	pg_load_ask(m, true);
	pg_op_run(&m->op, part_loaded);
}

static void stage_written(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	struct merge_entry *e = entry(m);

	if (pg_write_read_checks(m) > 0) {
		stage_reject(m);
		return;
	}
	if (more_parts(m)) {
		if (stage_take(m, &op->batch))
			stage_part(m);
		else
			stage_reject(m);
		return;
	}
	e->state = ITEM_APPLIED;
	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "RELEASE SAVEPOINT ferry_group");
	m->savepoint = false;
	m->phase = MERGE_SETTLES;
	pg_run_settle(m);
}
