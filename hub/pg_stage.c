/* Parts of change-sets too large for a message (R7), stored as they come.
 *
 * They stand under a name that each session has for itself. So the parts of one
 * never stand among those that another copy of the device has brought, under
 * the same number and with other content; and one that a session has begun
 * and not finished is in nobody's way. What earlier sessions have left behind goes
 * with the first part of the next, unless it is being merged or is kept as
 * refused or parked (ferry.rejected). That may be a part without the first one: the
 * database may store what a hub had sent after that hub died, and after all of it was settled.
 *
 * A device has room for PG_STAGE_DEVICE_BYTES_MAX, a tenant for
 * PG_STAGE_TENANT_BYTES_MAX, with what is kept. A part beyond that is stored
 * without its content: the merge then refuses the change-set, which stays whole on its
 * device, instead of ending a session that has other work, too (P6). */
#include "hub/pg_op.h"

struct stage_op {
	struct pg_op op;
	struct uuid device;
	int64_t number, staging;
	int32_t part;
	struct buffer body;
	hub_stage_cb cb;
	void *ctx;
};

static const char tidy_sql[] =
	"WITH begun AS (SELECT f.number, f.staging FROM ferry.stage f WHERE f.tenant_id = $1 AND f.device_id = $2 AND f.part = 0 "
	"AND f.staging <> $3 FOR UPDATE OF f SKIP LOCKED) "
	"DELETE FROM ferry.stage s WHERE s.tenant_id = $1 AND s.device_id = $2 AND s.staging <> $3 "
	"AND NOT EXISTS (SELECT FROM ferry.rejected r WHERE r.tenant_id = $1 AND r.device_id = $2 AND r.number = s.number "
	"AND r.staging = s.staging) AND (EXISTS (SELECT FROM begun o WHERE o.number = s.number AND o.staging = s.staging) "
	"OR NOT EXISTS (SELECT FROM ferry.stage f WHERE f.tenant_id = $1 AND f.device_id = $2 AND f.number = s.number "
	"AND f.staging = s.staging AND f.part = 0))";

/* Bodies are stored as they are, so that their length costs no look at them. */
static const char stage_sql[] =
	"INSERT INTO ferry.stage AS s (tenant_id, device_id, number, staging, part, body) SELECT $1, $2, $3, $4, $5, "
	"CASE WHEN ferry.stage_has_room($1, $2, $3, $4, $5, $7, $8) THEN $6::bytea ELSE ''::bytea END "
	"ON CONFLICT (tenant_id, device_id, number, staging, part) DO UPDATE SET body = excluded.body, at = excluded.at";

static void stage_done(struct pg_op *op)
{
	pg_op_end(op, FERRY_OK);
}

static void stage_write(struct pg_op *op)
{
	struct stage_op *s = (struct stage_op *)op;
	struct pg_batch *b = &op->batch;

	pg_op_begin(op, "");
	if (s->part == 0) {
		pg_call(b, tidy_sql);
		pg_arg_uuid(b, &op->tenant);
		pg_arg_uuid(b, &s->device);
		pg_arg_int8(b, s->staging);
	}
	pg_call(b, stage_sql);
	pg_arg_uuid(b, &op->tenant);
	pg_arg_uuid(b, &s->device);
	pg_arg_int8(b, s->number);
	pg_arg_int8(b, s->staging);
	pg_arg_int4(b, s->part);
	pg_arg_bytes(b, s->body.p, s->body.n);
	pg_arg_int8(b, op->store->config.kept_device_bytes_max);
	pg_arg_int8(b, op->store->config.kept_tenant_bytes_max);
	pg_call(b, "COMMIT");
	pg_op_run(op, stage_done);
}

static void stage_answer(struct pg_op *op, enum ferry_error e)
{
	struct stage_op *s = (struct stage_op *)op;

	s->cb(s->ctx, e);
}

static void stage_release(struct pg_op *op)
{
	buffer_deinit(&((struct stage_op *)op)->body);
}

void pg_store_stage(void *store, const struct uuid *tenant, const struct uuid *device, int64_t staging,
		    const struct change_set *part, hub_stage_cb cb, void *ctx)
{
	struct stage_op *s = pg_op_new(store, sizeof(*s), tenant, PG_LANE_WRITE);

	if (!s) {
		cb(ctx, FERRY_NO_MEMORY);
		return;
	}
	s->device = *device;
	s->number = part->number;
	s->staging = staging;
	s->part = (int32_t)part->part;
	s->cb = cb;
	s->ctx = ctx;
	s->op.first = stage_write;
	s->op.answer = stage_answer;
	s->op.release = stage_release;
	buffer_init(&s->body, 4 * FERRY_MESSAGE_BYTES_MAX);
	if (change_set_encode(part, &s->body) != FERRY_OK)
		pg_op_end(&s->op, FERRY_CHANGE_SET_TOO_LARGE);
	else
		pg_op_start(&s->op);
}
