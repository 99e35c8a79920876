#include "hub/requeue.h"

#include <stdio.h>
#include <string.h>

#include "hub/pg_loop.h"
#include "hub/pg_store.h"

struct work {
	const struct requeue *what;
	struct requeue_outcome *out;
	struct loop *loop;
	struct pg_io io;
	struct pg_store *store;
	bool done, retry;
	enum ferry_error error;
};

static bool is_done(void *ctx)
{
	return ((struct work *)ctx)->done;
}

static void finish(struct work *w, enum ferry_error e)
{
	w->error = e;
	w->done = true;
}

static void on_merged(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count)
{
	struct work *w = ctx;
	if (e == FERRY_OK && count == 1) {
		const struct settled *s = &results->settled;
		*w->out = (struct requeue_outcome){.verdict = s->verdict, .code = s->code, .position = s->position,
						   .repeated = results->repeated};
		snprintf(w->out->sentence, sizeof(w->out->sentence), "%s", s->sentence ? s->sentence : "");
		w->retry = results->retry;
	}
	finish(w, e);
}

static void merge(struct work *w, struct merge_item *item)
{
	*item = (struct merge_item){.device = w->what->device, .number = w->what->number, .again = true,
				    .set = w->what->staging == 0 ? w->what->whole : NULL, .staging = w->what->staging};
	pg_store_ops.merge(w->store, &w->what->tenant, item, 1, on_merged, w);
}

static enum ferry_error wait(struct work *w, struct ferry_why *why)
{
	(void)loop_run_until(w->loop, is_done, w, loop_now_us() + REQUEUE_TIMEOUT_US);
	if (!w->done)
		return ferry_fail(why, FERRY_LINK_TIMEOUT, "the database did not answer in time");
	w->done = false;
	return w->error == FERRY_OK ? FERRY_OK : ferry_fail(why, w->error, "the database could not be asked");
}

enum ferry_error requeue(const struct requeue *what, struct requeue_outcome *out, struct ferry_why *why)
{
	struct work w = {.what = what, .out = out};
	struct merge_item item;
	struct pg_store_config config = {.conninfo = what->conninfo, .set = what->set, .connections = 1, .lock_timeout_ms = 2000};
	enum ferry_error e = loop_new(NULL, &w.loop, why);
	if (e != FERRY_OK)
		return e;
	pg_loop_init(&w.io, w.loop);
	w.store = pg_store_open(&config, &w.io);
	if (!w.store)
		e = FERRY_NO_MEMORY;
	if (e == FERRY_OK) {
		merge(&w, &item);
		e = wait(&w, why);
	}
	if (e == FERRY_OK && w.retry && out->code != FERRY_OK)
		e = ferry_fail(why, (enum ferry_error)out->code, "%s", out->sentence);
	else if (e == FERRY_OK && w.retry)
		e = ferry_fail(why, FERRY_BUSY, "another transaction holds its rows, or its device is not active");
	pg_store_close(w.store);
	loop_free(w.loop);
	return e;
}
