/* Ranges of numbers that a device may give (engine/0023_sequences.sql). */
#include <stdlib.h>
#include <string.h>

#include "hub/pg_op.h"

struct lease_op {
	struct pg_op op;
	struct uuid device;
	struct message_lease_ask ask;
	uint32_t call;
	hub_lease_cb cb;
	void *ctx;
};

static const char lease_sql[] =
	"SELECT l.first, l.last, l.step::bigint, l.padding, l.head, l.tail, "
	"(extract(epoch FROM l.until) * 1000000)::bigint FROM ferry.lease_numbers($1, $2, $3, $4) l ORDER BY l.first";

static void lease_done(struct pg_op *op)
{
	pg_op_end(op, FERRY_OK);
}

static void lease_ask(struct pg_op *op)
{
	struct lease_op *l = (struct lease_op *)op;

	pg_op_begin(op, "");
	l->call = pg_call(&op->batch, lease_sql);
	pg_arg_uuid(&op->batch, &op->tenant);
	pg_arg_uuid(&op->batch, &l->device);
	pg_arg_int4(&op->batch, (int32_t)l->ask.table);
	pg_arg_int4(&op->batch, l->ask.num);
	pg_call(&op->batch, "COMMIT");
	pg_op_run(op, lease_done);
}

static struct message_lease lease_read(const struct lease_op *l, uint32_t row)
{
	const struct pg_batch *b = &l->op.batch;
	struct message_lease m = {.table = l->ask.table, .num = l->ask.num, .first = pg_int(b, l->call, row, 0),
				  .last = pg_int(b, l->call, row, 1), .step = pg_int(b, l->call, row, 2),
				  .padding = (uint32_t)pg_int(b, l->call, row, 3), .head = pg_text(b, l->call, row, 4),
				  .tail = pg_text(b, l->call, row, 5)};

	if (!pg_is_null(b, l->call, row, 6))
		m.until = pg_int(b, l->call, row, 6);
	return m;
}

static void lease_answer(struct pg_op *op, enum ferry_error e)
{
	struct lease_op *l = (struct lease_op *)op;
	uint32_t count = e == FERRY_OK ? pg_rows(&op->batch, l->call) : 0;
	struct message_lease *leases = arena_array(&op->batch.arena, count + 1u, sizeof(*leases));

	if (!leases)
		count = 0;
	for (uint32_t row = 0; row < count; row++)
		leases[row] = lease_read(l, row);
	l->cb(l->ctx, e, leases, count);
}

void pg_store_lease(void *store, const struct uuid *tenant, const struct uuid *device, const struct message_lease_ask *ask,
		    hub_lease_cb cb, void *ctx)
{
	struct lease_op *l = pg_op_new(store, sizeof(*l), tenant, PG_LANE_WRITE);

	if (!l) {
		cb(ctx, FERRY_NO_MEMORY, NULL, 0);
		return;
	}
	l->device = *device;
	l->ask = *ask;
	l->cb = cb;
	l->ctx = ctx;
	l->op.first = lease_ask;
	l->op.answer = lease_answer;
	pg_op_start(&l->op);
}
