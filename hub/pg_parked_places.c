/* Places of tenants are opened when a device needs them. So that what is parked in one
 * is looked at though none of its devices comes, the home database notes which
 * places have some: each hub that looks takes a few of them. */
#include <stdlib.h>
#include <string.h>

#include "hub/pg_op.h"

struct places_op {
	struct pg_op op;
	char *conninfo; /* note */
	struct uuid set;
	bool some;
	void (*came)(void *ctx, const struct uuid *tenants, uint32_t count);
	void *ctx;
};

static void places_done(struct pg_op *op)
{
	pg_op_end(op, FERRY_OK);
}

static void note_ask(struct pg_op *op)
{
	struct places_op *p = (struct places_op *)op;

	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT ferry.note_parked_place($1, $2, $3::int = 1)");
	pg_arg_text(&op->batch, p->conninfo);
	pg_arg_uuid(&op->batch, &p->set);
	pg_arg_int4(&op->batch, p->some);
	pg_op_run(op, places_done);
}

static void note_answer(struct pg_op *op, enum ferry_error e)
{
	(void)op; /* it is noted with the next look */
	(void)e;
}

static void note_release(struct pg_op *op)
{
	free(((struct places_op *)op)->conninfo);
}

void pg_store_note_parked(struct pg_store *s, const char *conninfo, const struct uuid *set, bool some)
{
	struct places_op *p = pg_op_new(s, sizeof(*p), &PG_NOBODY, PG_LANE_READ);

	if (!p)
		return;
	p->conninfo = strdup(conninfo);
	p->set = *set;
	p->some = some;
	p->op.first = note_ask;
	p->op.answer = note_answer;
	p->op.release = note_release;
	if (!p->conninfo)
		pg_op_end(&p->op, FERRY_NO_MEMORY);
	else
		pg_op_start(&p->op);
}

static void due_ask(struct pg_op *op)
{
	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT t FROM ferry.parked_places($1) t");
	pg_arg_int4(&op->batch, PARKED_PLACES_MAX);
	pg_op_run(op, places_done);
}

static void due_answer(struct pg_op *op, enum ferry_error e)
{
	const struct places_op *p = (const struct places_op *)op;
	struct uuid tenants[PARKED_PLACES_MAX];
	uint32_t n = 0;

	for (uint32_t row = 0; e == FERRY_OK && row < pg_rows(&op->batch, 0) && n < PARKED_PLACES_MAX; row++)
		tenants[n++] = pg_uuid(&op->batch, 0, row, 0);
	p->came(p->ctx, tenants, n);
}

void pg_store_parked_places(struct pg_store *s, void (*came)(void *ctx, const struct uuid *tenants, uint32_t count), void *ctx)
{
	struct places_op *p = pg_op_new(s, sizeof(*p), &PG_NOBODY, PG_LANE_READ);

	if (!p)
		return;
	p->came = came;
	p->ctx = ctx;
	p->op.first = due_ask;
	p->op.answer = due_answer;
	pg_op_start(&p->op);
}
