/* What devices may see: which devices' scopes have changed. */
#include <stdlib.h>

#include "hub/pg_op.h"

struct rights_op {
	struct pg_op op;
	int64_t after;
	uint32_t call;
	struct hub_rescoped *devices;
	uint32_t count;
	hub_rights_cb cb;
	void *ctx;
};

static void rights_read(struct pg_op *op)
{
	struct rights_op *r = (struct rights_op *)op;
	uint32_t rows = pg_rows(&op->batch, r->call);

	r->devices = calloc(rows + 1u, sizeof(*r->devices));
	if (!r->devices) {
		pg_op_end(op, FERRY_NO_MEMORY);
		return;
	}
	for (uint32_t row = 0; row < rows; row++)
		r->devices[row] = (struct hub_rescoped){.device = pg_uuid(&op->batch, r->call, row, 0),
							.rights = pg_int(&op->batch, r->call, row, 1)};
	r->count = rows;
	pg_op_end(op, FERRY_OK);
}

static void rights_ask(struct pg_op *op)
{
	struct rights_op *r = (struct rights_op *)op;

	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT ferry.renew_due($1)");
	pg_arg_uuid(&op->batch, &op->tenant);
	r->call = pg_call(&op->batch, "SELECT device_id, n FROM ferry.rescoped WHERE tenant_id = $1 AND n > $2");
	pg_arg_uuid(&op->batch, &op->tenant);
	pg_arg_int8(&op->batch, r->after);
	pg_op_run(op, rights_read);
}

static void rights_answer(struct pg_op *op, enum ferry_error e)
{
	struct rights_op *r = (struct rights_op *)op;

	r->cb(r->ctx, e, e == FERRY_OK ? r->devices : NULL, e == FERRY_OK ? r->count : 0);
}

static void rights_release(struct pg_op *op)
{
	free(((struct rights_op *)op)->devices);
}

void pg_store_rights(void *store, const struct uuid *tenant, int64_t after, hub_rights_cb cb, void *ctx)
{
	struct rights_op *r = pg_op_new(store, sizeof(*r), tenant, PG_LANE_READ);

	if (!r) {
		cb(ctx, FERRY_NO_MEMORY, NULL, 0);
		return;
	}
	r->after = after;
	r->cb = cb;
	r->ctx = ctx;
	r->op.first = rights_ask;
	r->op.answer = rights_answer;
	r->op.release = rights_release;
	pg_op_start(&r->op);
}
