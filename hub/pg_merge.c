/* The merge transaction: runs, their beginning, end and failures. What it
 * looks like as a whole stands in pg_merge.h. */
#include "hub/pg_merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_begin(struct pg_op *op);

/* --------------------------------------------------------------- the answer */

static void merge_answer(struct pg_op *op, enum ferry_error e)
{
	struct merge_op *m = (struct merge_op *)op;

	if (e != FERRY_OK && m->committed) {
		/* What is committed must be told; the rest comes again. */
		for (uint32_t i = m->first; i < m->count; i++)
			m->results[i].retry = true;
		e = FERRY_OK;
	}
	m->cb(m->ctx, e, e == FERRY_OK ? m->results : NULL, e == FERRY_OK ? m->count : 0);
}

static void merge_release(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	merge_free(m->merge);
	pg_batch_deinit(&m->load);
	arena_deinit(&m->arena);
	arena_deinit(&m->load_arena);
	arena_deinit(&m->part_arena);
	row_joiner_deinit(&m->row);
	pg_sql_deinit(&m->told);
	arena_deinit(&m->answers);
	free(m->results);
}

static void run_results(struct merge_op *m, int64_t position)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_entry *e = &m->entries[i];
		struct merge_result *r = &m->results[m->first + i];

		r->repeated = e->state == ITEM_REPEATED;
		r->retry = e->state == ITEM_HELD || e->state == ITEM_WAITING;
		r->next = r->retry && e->next;
		r->elsewhere = pg_entry_elsewhere(e);
		r->parked = e->state == ITEM_PARKED;
		m->op.store->stats.held_back += r->retry;
		r->settled.verdict = e->verdict;
		r->settled.position = r->repeated ? e->position : position;
		r->settled.code = e->code;
		r->settled.sentence = e->sentence;
	}
}

/* The next run's end; false: there is none. */
static bool run_next(struct merge_op *m)
{
	if (m->first == m->count)
		return false;
	m->staged = m->items[m->first].set == NULL;
	m->last = m->first + 1;
	while (!m->staged && m->last < m->count && m->last - m->first < m->run_max && m->items[m->last].set)
		m->last++;
	return true;
}

static void run_end(struct merge_op *m)
{
	m->first = m->last;
	m->passing = 0;
	m->key_clashes = 0;
	m->op.attempts = 0;
	if (!run_next(m))
		pg_op_end(&m->op, FERRY_OK);
	else
		run_begin(&m->op);
}

static void run_rolled_back(struct pg_op *op)
{
	run_end((struct merge_op *)op);
}

void pg_run_settled(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	int64_t position = 0;

	for (uint32_t row = 0; row < pg_rows(&op->batch, m->finish_call); row++) {
		struct uuid tenant = pg_uuid(&op->batch, m->finish_call, row, 0);

		if (uuid_equal(&tenant, &op->tenant))
			position = pg_int(&op->batch, m->finish_call, row, 1);
	}
	m->committed = true;
	op->store->stats.merges++;
	op->store->rows_written += m->row_wish;
	pg_store_fold(op->store);
	run_results(m, position);
	run_end(m);
}

void pg_run_abandon(struct merge_op *m)
{
	run_results(m, 0);
	m->phase = MERGE_LOADS;
	pg_batch_reset(&m->op.batch);
	pg_call(&m->op.batch, "ROLLBACK");
	pg_op_run(&m->op, run_rolled_back);
}

/* ---------------------------------------------------------------- beginning */

static void run_forget(struct merge_op *m)
{
	merge_free(m->merge);
	m->merge = NULL;
	m->merge_is_whole = false;
	pg_load_forget(m);
	arena_reset(&m->load_arena);
	arena_reset(&m->part_arena);
	row_joiner_deinit(&m->row);
	arena_reset(&m->arena);
	m->refused_count = m->stack_count = m->order_count = m->check_count = 0;
	m->part = m->part_count = 0;
	m->scans = NULL;
	m->rest = m->tells = false;
	pg_sql_deinit(&m->told);
	m->row_wish = 0;
	m->conversions = (struct conversions){0};
	m->savepoint = false;
	m->phase = MERGE_LOADS;
}

static void run_loaded(struct pg_op *op);

/* In the present schema, whatever the device knew. */
static bool entry_translate(struct merge_op *m, struct merge_entry *e)
{
	struct translation t;

	if (!e->item->set)
		return true;
	if (translate_set(&m->op.catalog->hub.schema, &m->op.catalog->past, e->item->set, &m->arena, &m->conversions, &t) != FERRY_OK)
		return false;
	e->set = t.set;
	e->misfit = t.code;
	if (t.code)
		e->misfit_sentence = arena_text(&m->arena, t.why.text, strlen(t.why.text));
	return true;
}

static bool run_translate(struct merge_op *m)
{
	bool ok = true;

	for (uint32_t i = 0; ok && !m->staged && i < m->entry_count; i++)
		ok = entry_translate(m, &m->entries[i]);
	return ok;
}

static void run_load(struct merge_op *m, bool ok)
{
	struct pg_op *op = &m->op;
	char timeout[16];

	pg_op_begin(op, "");
	m->touch_call = pg_call(&op->batch, "SELECT ferry.touch($1), ferry.merging(true), set_config('lock_timeout', $2, true)");
	pg_arg_uuid(&op->batch, &op->tenant);
	snprintf(timeout, sizeof(timeout), "%u", op->store->config.lock_timeout_ms);
	pg_arg_text(&op->batch, timeout);
	if (ok)
		pg_entries_ask(m);
	if (ok && m->staged) {
		pg_portion_hold(m);
		pg_portion_ask(m, 0);
	}
	for (uint32_t i = 0; ok && !m->staged && i < m->entry_count; i++)
		ok = m->entries[i].forced || pg_load_wants(m, m->entries[i].set);
	if (ok && (m->staged || m->row_wish > PG_PLAN_FOR_SIZE_ROWS))
		pg_op_plan_for_size(op);
	if (ok && !m->staged)
		pg_load_ask(m, true);
	if (!ok)
		pg_op_end(op, FERRY_LIMIT);
	else
		pg_op_run(op, run_loaded);
}

static void run_converted(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	run_load(m, pg_conversions_read(m, &m->arena) && run_translate(m));
}

static void run_begin(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	bool ok;

	run_next(m);
	run_forget(m);
	ok = pg_entries_make(m);
	if (ok)
		pg_entries_take_forced(m);
	ok = ok && run_translate(m);
	if (!ok || m->conversions.count == 0) {
		run_load(m, ok);
		return;
	}
	pg_conversions_ask(m);
	pg_op_run(op, run_converted);
}

static void suspects_seen(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_load_read_suspects(m);
	pg_groups_start(m);
}

static void run_loaded(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	enum ferry_error e;

	if (!pg_op_current(op))
		return;
	/* The answers stay while further batches run: rows point into them. */
	pg_batch_deinit(&m->load);
	m->load = op->batch;
	pg_batch_init(&op->batch, PG_BATCH_BYTES_MAX);
	m->tx = pg_int(&m->load, m->touch_call, 0, 0);
	if (!pg_entries_read(m)) {
		pg_op_end(op, FERRY_LIMIT);
		return;
	}
	if (m->staged) {
		pg_stage_begin(m);
		return;
	}
	e = pg_load_read(m);
	if (e != FERRY_OK)
		pg_op_end(op, e);
	else if (pg_load_ask_suspects(m))
		pg_op_run(op, suspects_seen);
	else
		pg_groups_start(m);
}

/* ---------------------------------------------------------------- failures */

/* An error at the very end names nobody: the change-sets go one by one, and
 * the one that still fails is refused by it. */
static void settle_refused(struct merge_op *m)
{
	const struct pg_failure *f = &m->op.batch.failure;
	struct merge_entry *e = &m->entries[0];
	struct settled *s = &m->results[m->first].settled;

	if (m->entry_count > 1) {
		m->run_max = 1;
		pg_op_again(&m->op);
		return;
	}
	if (e->forced) {
		pg_store_log(m->op.store, "a verdict could not be stored: %s %s", f->sqlstate, f->message);
		pg_op_end(&m->op, FERRY_DATABASE);
		return;
	}
	pg_run_refuse(m, e, f);
	s->code = e->code;
	s->sentence = e->sentence;
	pg_op_again(&m->op);
}

/* Passing failures: again from the start; when they do not pass, the
 * change-sets come again later instead of holding up others (R10, R12). */
static void merge_retry(struct merge_op *m)
{
	m->op.store->stats.merge_retries++;
	if (++m->passing < MERGE_PASSING_MAX) {
		pg_op_again(&m->op);
		return;
	}
	for (uint32_t i = m->first; i < m->last; i++) {
		m->results[i].retry = true;
		m->op.store->stats.held_back++;
	}
	m->first = m->last;
	m->passing = 0;
	if (run_next(m)) {
		pg_op_reacquire(&m->op);
		return;
	}
	pg_op_end(&m->op, FERRY_OK);
}

static bool merge_failed(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	const struct pg_failure *f = &op->batch.failure;

	switch (f->class) {
	case PG_RETRY:
		merge_retry(m);
		return true;
	case PG_REFUSED:
		break;
	case PG_LOST: /* of a COMMIT the outcome is unknown: offered again, the settled numbers answer (P2) */
		pg_op_end(op, FERRY_DATABASE);
		return true;
	default:
		return false; /* stale: again */
	}
	if (m->phase == MERGE_LOADS)
		return false;
	if (m->phase == MERGE_WRITES && f->call <= m->release_call) {
		if (m->staged)
			pg_stage_refused(m);
		else
			pg_group_refused(m);
		return true;
	}
	settle_refused(m);
	return true;
}

void pg_store_merge(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
		    hub_merge_cb cb, void *ctx)
{
	struct merge_op *m = pg_op_new(store, sizeof(*m), tenant, PG_LANE_WRITE);

	if (!m) {
		cb(ctx, FERRY_NO_MEMORY, NULL, 0);
		return;
	}
	m->items = items;
	m->count = count;
	m->cb = cb;
	m->ctx = ctx;
	m->run_max = UINT32_MAX;
	arena_init(&m->answers, 64 << 20);
	arena_init(&m->arena, MERGE_ARENA_BYTES_MAX);
	arena_init(&m->load_arena, MERGE_ARENA_BYTES_MAX);
	arena_init(&m->part_arena, 8 * FERRY_DECODE_BYTES_MAX + FERRY_ROW_BYTES_MAX);
	row_joiner_init(&m->row);
	pg_sql_init(&m->told);
	pg_batch_init(&m->load, PG_BATCH_BYTES_MAX);
	m->op.wants_catalog = true;
	m->op.first = run_begin;
	m->op.on_failure = merge_failed;
	m->op.answer = merge_answer;
	m->op.release = merge_release;
	m->results = calloc(count + 1u, sizeof(*m->results));
	if (!m->results) {
		pg_op_end(&m->op, FERRY_NO_MEMORY);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		m->results[i].device = items[i].device;
		m->results[i].settled.number = items[i].number;
	}
	if (count == 0)
		pg_op_end(&m->op, FERRY_OK);
	else
		pg_op_start(&m->op);
}
