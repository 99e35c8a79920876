/* A device's row on its way from the home database to its tenant's. */
#include <stdlib.h>
#include <string.h>

#include "hub/pg_op.h"

struct card_op {
	struct pg_op op;
	uint8_t fingerprint[32];
	char *card; /* adopt: to be taken over */
	void (*came)(void *ctx, enum ferry_error e, const char *card);
	void (*adopted)(void *ctx, enum ferry_error e);
	void *ctx;
};

static void card_done(struct pg_op *op)
{
	pg_op_end(op, FERRY_OK);
}

static void card_ask(struct pg_op *op)
{
	struct card_op *c = (struct card_op *)op;

	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT ferry.seen_certificate($1)");
	pg_arg_bytes(&op->batch, c->fingerprint, sizeof(c->fingerprint));
	pg_call(&op->batch, "SELECT ferry.device_card($1)::text");
	pg_arg_bytes(&op->batch, c->fingerprint, sizeof(c->fingerprint));
	pg_op_run(op, card_done);
}

static void card_answer(struct pg_op *op, enum ferry_error e)
{
	const struct card_op *c = (const struct card_op *)op;
	bool found = e == FERRY_OK && pg_rows(&op->batch, 1) == 1 && !pg_is_null(&op->batch, 1, 0, 0);

	c->came(c->ctx, e, found ? pg_text(&op->batch, 1, 0, 0) : NULL);
}

void pg_store_card(struct pg_store *s, const uint8_t fingerprint[32],
		   void (*came)(void *ctx, enum ferry_error e, const char *card), void *ctx)
{
	struct card_op *c = pg_op_new(s, sizeof(*c), &PG_NOBODY, PG_LANE_READ);

	if (!c) {
		came(ctx, FERRY_NO_MEMORY, NULL);
		return;
	}
	memcpy(c->fingerprint, fingerprint, sizeof(c->fingerprint));
	c->came = came;
	c->ctx = ctx;
	c->op.first = card_ask;
	c->op.answer = card_answer;
	pg_op_start(&c->op);
}

static void adopt_ask(struct pg_op *op)
{
	struct card_op *c = (struct card_op *)op;

	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT ferry.adopt_device($1::text::jsonb)");
	pg_arg_text(&op->batch, c->card);
	pg_op_run(op, card_done);
}

static void adopt_answer(struct pg_op *op, enum ferry_error e)
{
	const struct card_op *c = (const struct card_op *)op;

	c->adopted(c->ctx, e);
}

static void adopt_release(struct pg_op *op)
{
	free(((struct card_op *)op)->card);
}

void pg_store_adopt(struct pg_store *s, const char *card, void (*adopted)(void *ctx, enum ferry_error e), void *ctx)
{
	struct card_op *c = pg_op_new(s, sizeof(*c), &PG_NOBODY, PG_LANE_WRITE);

	if (!c) {
		adopted(ctx, FERRY_NO_MEMORY);
		return;
	}
	c->card = strdup(card);
	c->adopted = adopted;
	c->ctx = ctx;
	c->op.first = adopt_ask;
	c->op.answer = adopt_answer;
	c->op.release = adopt_release;
	if (!c->card)
		pg_op_end(&c->op, FERRY_NO_MEMORY);
	else
		pg_op_start(&c->op);
}
