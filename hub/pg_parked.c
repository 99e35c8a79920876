/* Parked change-sets whose time has come: asked for, decoded and merged anew.
 * What comes of them is told to their devices by the feed, as the work of
 * another hub would be. */
#include <stdlib.h>

#include "hub/pg_op.h"

#define PARKED_MAX 100 /* at once */
#define PARKED_BYTES_MAX ((size_t)64 << 20)

struct parked_op {
	struct pg_op op;
	struct arena arena;
	struct merge_item *items;
	uint32_t count, call;
	hub_stage_cb cb;
	void *ctx;
};

/* The merge outlives the question: what it merges goes with it. */
struct parked_merge {
	struct arena arena;
	hub_stage_cb cb;
	void *ctx;
};

static const struct change_set *parked_set(struct parked_op *p, uint32_t row)
{
	struct change_set *set = arena_alloc(&p->arena, sizeof(*set));
	struct ferry_why why = {{0}};
	size_t n;
	const uint8_t *body = pg_bytes(&p->op.batch, p->call, row, 3, &n);

	body = set ? arena_copy(&p->arena, body, n) : NULL;
	return body && change_set_decode(&p->arena, body, n, set, &why) == FERRY_OK ? set : NULL;
}

static bool parked_item(struct parked_op *p, uint32_t row, struct merge_item *out)
{
	const struct pg_batch *b = &p->op.batch;
	bool staged = !pg_is_null(b, p->call, row, 4);

	*out = (struct merge_item){.device = pg_uuid(b, p->call, row, 0), .number = pg_int(b, p->call, row, 1), .again = true,
				   .expired = pg_bool(b, p->call, row, 2), .staging = staged ? pg_int(b, p->call, row, 4) : 0,
				   .set = staged ? NULL : parked_set(p, row)};
	return staged || out->set;
}

static void parked_read(struct pg_op *op)
{
	struct parked_op *p = (struct parked_op *)op;
	uint32_t rows = pg_rows(&op->batch, p->call);

	p->items = arena_array(&p->arena, rows + 1u, sizeof(*p->items));
	for (uint32_t row = 0; p->items && row < rows; row++)
		p->count += parked_item(p, row, &p->items[p->count]); /* what does not fit now comes next time */
	pg_op_end(op, FERRY_OK);
}

static void parked_ask(struct pg_op *op)
{
	struct parked_op *p = (struct parked_op *)op;

	pg_batch_reset(&op->batch);
	p->call = pg_call(&op->batch, "SELECT d.device_id, d.number, d.expired, d.body, d.staging FROM ferry.parked_due($1, $2) d "
				      "ORDER BY d.device_id, d.number");
	pg_arg_uuid(&op->batch, &op->tenant);
	pg_arg_int4(&op->batch, PARKED_MAX);
	pg_op_run(op, parked_read);
}

static void parked_merged(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count)
{
	struct parked_merge *m = ctx;

	(void)results;
	(void)count;
	m->cb(m->ctx, e);
	arena_deinit(&m->arena);
	free(m);
}

static void parked_answer(struct pg_op *op, enum ferry_error e)
{
	struct parked_op *p = (struct parked_op *)op;
	struct parked_merge *m = e == FERRY_OK && p->count > 0 ? malloc(sizeof(*m)) : NULL;

	if (!m) {
		p->cb(p->ctx, e);
		return;
	}
	*m = (struct parked_merge){.arena = p->arena, .cb = p->cb, .ctx = p->ctx};
	arena_init(&p->arena, 0); /* handed over */
	pg_store_merge(op->store, &op->tenant, p->items, p->count, parked_merged, m);
}

static void parked_release(struct pg_op *op)
{
	arena_deinit(&((struct parked_op *)op)->arena);
}

static void parked_start(struct pg_store *store, const struct uuid *tenant, pg_step first, void (*answer)(struct pg_op *op, enum ferry_error e),
			 hub_stage_cb cb, void *ctx)
{
	struct parked_op *p = pg_op_new(store, sizeof(*p), tenant, PG_LANE_READ);

	if (!p) {
		cb(ctx, FERRY_NO_MEMORY);
		return;
	}
	arena_init(&p->arena, PARKED_BYTES_MAX);
	p->cb = cb;
	p->ctx = ctx;
	p->op.first = first;
	p->op.answer = answer;
	p->op.release = parked_release;
	pg_op_start(&p->op);
}

/* -------------------------------------------------------------- all tenants */

static void nobody_waits(void *ctx, enum ferry_error e)
{
	(void)ctx;
	(void)e;
}

static void tenants_read(struct pg_op *op)
{
	pg_op_end(op, FERRY_OK);
}

static void tenants_ask(struct pg_op *op)
{
	struct parked_op *p = (struct parked_op *)op;

	pg_batch_reset(&op->batch);
	p->call = pg_call(&op->batch, "SELECT t FROM ferry.parked_tenants($1) t");
	pg_arg_uuid(&op->batch, &op->store->config.set);
	pg_op_run(op, tenants_read);
}

static void tenants_answer(struct pg_op *op, enum ferry_error e)
{
	struct parked_op *p = (struct parked_op *)op;

	for (uint32_t row = 0; e == FERRY_OK && row < pg_rows(&op->batch, p->call); row++) {
		struct uuid tenant = pg_uuid(&op->batch, p->call, row, 0);

		parked_start(op->store, &tenant, parked_ask, parked_answer, nobody_waits, NULL);
	}
	if (op->store->config.parked_found)
		op->store->config.parked_found(op->store->config.parked_ctx, e, e == FERRY_OK && pg_rows(&op->batch, p->call) > 0);
	p->cb(p->ctx, e);
}

void pg_store_parked(void *store, const struct uuid *tenant, hub_stage_cb cb, void *ctx)
{
	const struct uuid nobody = {{0}};

	if (tenant)
		parked_start(store, tenant, parked_ask, parked_answer, cb, ctx);
	else
		parked_start(store, &nobody, tenants_ask, tenants_answer, cb, ctx);
}
