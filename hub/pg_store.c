#include "hub/pg_store.h"

#include <stdlib.h>
#include <string.h>

#include "hub/pg_op.h"

static void use_default(uint32_t *v, uint32_t value)
{
	if (*v == 0)
		*v = value;
}

static void pool_log(void *ctx, const char *text)
{
	pg_store_log(ctx, "PostgreSQL: %s", text);
}

struct pg_store *pg_store_open(const struct pg_store_config *config, const struct pg_io *io)
{
	struct pg_store *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->config = *config;
	s->io = io;
	use_default(&s->config.connections, 4);
	use_default(&s->config.lock_timeout_ms, 300);
	use_default(&s->config.message_bytes_max, FERRY_MESSAGE_BYTES_MAX);
	use_default(&s->config.feed_rows_max, 200000);
	if (s->config.kept_device_bytes_max == 0)
		s->config.kept_device_bytes_max = INT64_C(2) << 30;
	if (s->config.kept_tenant_bytes_max == 0)
		s->config.kept_tenant_bytes_max = INT64_C(32) << 30;
	if (s->config.merge_bytes_max == 0)
		s->config.merge_bytes_max = (size_t)256 << 20;
	if (s->config.feed_bytes_max == 0)
		s->config.feed_bytes_max = (size_t)64 << 20;
	s->conninfo = strdup(config->conninfo);
	s->config.conninfo = s->conninfo;
	if (s->conninfo)
		s->pool = pg_pool_open(s->conninfo, s->config.connections, io, pool_log, s);
	if (!s->pool) {
		pg_store_close(s);
		return NULL;
	}
	return s;
}

/* Operations go without an answer; those that wait for a link are taken out
 * of the pool's queue first, so that it does not answer them either. */
static void drop_operations(struct pg_store *s)
{
	struct pg_op *op = s->ops;

	s->ops = NULL;
	while (op) {
		struct pg_op *later = op->later;

		pg_pool_cancel(s->pool, &op->waiter);
		if (op->release)
			op->release(op);
		if (op->timer)
			s->io->timer_free(s->io->ctx, op->timer);
		if (op->catalog && --op->catalog->refs == 0)
			pg_catalog_free(op->catalog);
		pg_batch_deinit(&op->batch);
		free(op);
		op = later;
	}
}

void pg_store_close(struct pg_store *s)
{
	if (!s)
		return;
	if (s->pool)
		drop_operations(s);
	pg_pool_close(s->pool);
	for (int i = 0; i < PG_CATALOGS_MAX; i++)
		pg_catalog_free(s->old[i]);
	pg_catalog_free(s->current.catalog);
	if (s->applied_timer)
		s->io->timer_free(s->io->ctx, s->applied_timer);
	free(s->applied);
	free(s->conninfo);
	free(s);
}

void pg_store_stats(const struct pg_store *s, struct pg_store_stats *out)
{
	struct pg_pool_stats pool;

	pg_pool_stats(s->pool, &pool);
	*out = s->stats;
	out->links = pool.links;
	out->links_ready = pool.ready;
	out->waiting = pool.waiting;
	out->lost = pool.lost;
	out->operations = 0;
	for (const struct pg_op *op = s->ops; op; op = op->later)
		out->operations++;
}

const struct hub_store_ops pg_store_ops = {
	.device = pg_store_device,
	.schema = pg_store_schema,
	.merge = pg_store_merge,
	.stage = pg_store_stage,
	.feed = pg_store_feed,
	.compare = pg_store_compare,
	.fill = pg_store_fill,
	.poll = pg_store_poll,
	.applied = pg_store_applied,
	.rights = pg_store_rights,
	.parked = pg_store_parked,
	.lease = pg_store_lease,
};
