#include "hub/pg_op.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define RETRY_PAUSE_US 2000 /* doubled at each attempt, with jitter */

void pg_store_log(const struct pg_store *s, const char *format, ...)
{
	char text[512];
	va_list args;

	if (!s->config.log)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	s->config.log(s->config.log_ctx, text);
}

void pg_store_leave_out(struct pg_store *s, const struct pg_table *t, const struct uuid *key)
{
	char text[UUID_TEXT];

	uuid_format(key, text);
	pg_store_log(s, "row %s of %s has more than %u bytes and does not reach devices", text, t->name, FERRY_ROW_BYTES_MAX);
	s->stats.oversized++;
}

/* ------------------------------------------------------------- life cycle */

void *pg_op_new(struct pg_store *s, size_t bytes, const struct uuid *tenant, enum pg_lane lane)
{
	struct pg_op *op = calloc(1, bytes);

	if (!op)
		return NULL;
	op->store = s;
	op->tenant = *tenant;
	op->lane = lane;
	pg_batch_init(&op->batch, PG_BATCH_BYTES_MAX);
	op->later = s->ops;
	op->earlier = &s->ops;
	if (s->ops)
		s->ops->earlier = &op->later;
	s->ops = op;
	return op;
}

static void op_drop_catalog(struct pg_op *op)
{
	if (op->catalog && --op->catalog->refs == 0)
		pg_catalog_free(op->catalog);
	op->catalog = NULL;
}

static void op_give_back(struct pg_op *op)
{
	if (op->link)
		pg_pool_release(op->store->pool, op->link);
	op->link = NULL;
}

void pg_op_end(struct pg_op *op, enum ferry_error e)
{
	op_give_back(op);
	*op->earlier = op->later;
	if (op->later)
		op->later->earlier = op->earlier;
	if (op->answer)
		op->answer(op, e);
	if (op->release)
		op->release(op);
	if (op->timer)
		op->store->io->timer_free(op->store->io->ctx, op->timer);
	op_drop_catalog(op);
	pg_batch_deinit(&op->batch);
	free(op);
}

/* ------------------------------------------------------------------ steps */

static void op_failed(struct pg_op *op)
{
	const struct pg_failure *f = &op->batch.failure;

	if (op->on_failure && op->on_failure(op))
		return;
	if (f->class == PG_REFUSED) {
		pg_store_log(op->store, "PostgreSQL refused a statement of the hub: %s %s", f->sqlstate, f->message);
		pg_op_end(op, FERRY_DATABASE);
		return;
	}
	pg_op_again(op);
}

static void op_done(void *ctx)
{
	struct pg_op *op = ctx;

	if (op->batch.failure.class != PG_FINE)
		op_failed(op);
	else
		op->next(op);
}

void pg_op_run(struct pg_op *op, pg_step next)
{
	op->next = next;
	op->batch.planned_each = op->plans_for_size;
	if (op->batch.full) {
		pg_op_end(op, FERRY_LIMIT);
		return;
	}
	if (!pg_link_is_ready(op->link)) { /* lost between two steps */
		op->batch.failure.class = PG_LOST;
		op_failed(op);
		return;
	}
	pg_link_submit(op->link, &op->batch, op_done, op);
}

static void catalog_loaded(struct pg_op *op)
{
	struct pg_store *s = op->store;
	struct pg_catalog *c;
	enum ferry_error e = pg_catalog_read(&op->batch, 2, &c);
	struct pg_catalog **old = &s->old[s->old_next];

	if (e != FERRY_OK) {
		pg_op_end(op, e);
		return;
	}
	if (*old && --(*old)->refs == 0)
		pg_catalog_free(*old);
	*old = s->current.catalog;
	s->old_next = (s->old_next + 1) % PG_CATALOGS_MAX;
	c->hub.schema.step = pg_int(&op->batch, 1, 0, 0);
	c->hub.refill = pg_int(&op->batch, 1, 0, 1);
	s->current = (struct pg_catalog_slot){.catalog = c, .generation = c->hub.schema.step};
	op->catalog = c;
	c->refs++;
	op->first(op);
}

static void catalog_load(struct pg_op *op)
{
	pg_batch_reset(&op->batch);
	/* One snapshot: the generation is that of all the rest. */
	pg_call(&op->batch, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
	pg_call(&op->batch, "SELECT n, refill FROM ferry.generation");
	pg_catalog_ask(&op->batch, &op->tenant, &op->store->config.set);
	pg_call(&op->batch, "COMMIT");
	pg_op_run(op, catalog_loaded);
}

static void op_granted(void *ctx, struct pg_link *link)
{
	struct pg_op *op = ctx;

	if (!link) {
		pg_op_end(op, FERRY_DATABASE);
		return;
	}
	op->link = link;
	if (!op->wants_catalog) {
		op->first(op);
		return;
	}
	op_drop_catalog(op);
	if (!op->store->current.catalog) {
		catalog_load(op);
		return;
	}
	op->catalog = op->store->current.catalog;
	op->catalog->refs++;
	op->first(op);
}

void pg_op_start(struct pg_op *op)
{
	op->waiter = (struct pg_waiter){.granted = op_granted, .ctx = op, .lane = op->lane};
	pg_pool_acquire(op->store->pool, &op->waiter);
}

static void op_timer(void *arg)
{
	pg_op_start(arg);
}

/* The catalogue that an operation could not work with goes out of use. */
static void catalog_retire(struct pg_store *s, const struct pg_catalog *c)
{
	struct pg_catalog **old = &s->old[s->old_next];

	if (!c || s->current.catalog != c)
		return;
	if (*old && --(*old)->refs == 0)
		pg_catalog_free(*old);
	*old = s->current.catalog;
	s->old_next = (s->old_next + 1) % PG_CATALOGS_MAX;
	s->current.catalog = NULL;
}

void pg_op_again(struct pg_op *op)
{
	const struct pg_io *io = op->store->io;
	int64_t pause = RETRY_PAUSE_US << op->attempts;

	if (op->batch.failure.class == PG_STALE)
		catalog_retire(op->store, op->catalog);
	op_give_back(op);
	if (++op->attempts >= PG_OP_ATTEMPTS_MAX) {
		pg_store_log(op->store, "given up after %u attempts: %s %s", op->attempts, op->batch.failure.sqlstate,
			     op->batch.failure.message);
		pg_op_end(op, FERRY_DATABASE);
		return;
	}
	if (!op->timer)
		op->timer = io->timer(io->ctx, op_timer, op);
	if (!op->timer) {
		pg_op_end(op, FERRY_NO_MEMORY);
		return;
	}
	io->timer_set(io->ctx, op->timer, pause / 2 + (int64_t)(io->random(io->ctx) % (uint64_t)pause));
}

void pg_op_reacquire(struct pg_op *op)
{
	op->attempts = 0;
	op_give_back(op);
	pg_op_start(op);
}

/* ----------------------------------------------------------- transactions */

void pg_op_begin(struct pg_op *op, const char *mode)
{
	char text[96];

	snprintf(text, sizeof(text), "BEGIN%s%s", mode[0] ? " ISOLATION LEVEL " : " ISOLATION LEVEL READ COMMITTED", mode);
	pg_batch_reset(&op->batch);
	op->plans_for_size = false;
	pg_call(&op->batch, text);
	/* Not before BEGIN: a pipeline is one implicit transaction until then. */
	if (pg_link_plans_due(op->link, op->store->rows_written))
		pg_call(&op->batch, "DISCARD PLANS");
	op->generation_call = pg_call(&op->batch, "SELECT n, set_config('app.tenant_id', $1, true) FROM ferry.generation");
	uuid_format(&op->tenant, text);
	pg_arg_text(&op->batch, text);
}

void pg_op_plan_for_size(struct pg_op *op)
{
	op->plans_for_size = true;
}

bool pg_op_current(struct pg_op *op)
{
	int64_t generation;

	if (!op->wants_catalog)
		return true;
	generation = pg_int(&op->batch, op->generation_call, 0, 0);
	if (op->catalog == op->store->current.catalog && generation == op->store->current.generation)
		return true;
	op->batch.failure.class = PG_STALE;
	pg_op_again(op);
	return false;
}
