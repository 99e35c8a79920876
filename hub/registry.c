#include "hub/registry.h"

#include <stdlib.h>
#include <string.h>

#include "hub/pg_conn.h"

#define BATCH_BYTES_MAX	 (1u << 20)
#define REFRESH_PAUSE_US 100000 /* at most ten looks a second, whoever knocks */

struct entry {
	uint8_t fingerprint[32];
	struct uuid device;
	bool revoked;
};

struct registry {
	const struct pg_io *io;
	int64_t interval_us;
	struct registry_effects effects;
	void *ctx;
	struct pg_link *link;
	struct pg_batch batch;
	void *timer;
	bool busy, again, loaded, loading;
	int64_t sum, count;      /* of what is loaded */
	int64_t seen_sum, seen_count;
	int64_t looked_at;
	struct entry *entries;   /* ordered by fingerprint */
	uint32_t entry_count;
};

static const char look_sql[] =
	"SELECT count(*), coalesce(bit_xor(hashtextextended(id::text || status || encode(fingerprint, 'hex'), 0)), 0) "
	"FROM ferry.device WHERE fingerprint IS NOT NULL";
static const char load_sql[] = "SELECT id, fingerprint, status = 'revoked' FROM ferry.device "
			       "WHERE fingerprint IS NOT NULL ORDER BY fingerprint";

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

static struct entry *find(const struct registry *r, const uint8_t fingerprint[32])
{
	if (r->entry_count == 0)
		return NULL;
	return bsearch(fingerprint, r->entries, r->entry_count, sizeof(*r->entries), compare);
}

static void plan(struct registry *r, int64_t delay_us)
{
	r->io->timer_set(r->io->ctx, r->timer, delay_us);
}

static void looked(void *ctx);
static void loaded(void *ctx);

static void submit(struct registry *r, const char *sql, void (*done)(void *ctx))
{
	pg_batch_reset(&r->batch);
	pg_call(&r->batch, sql);
	r->busy = true;
	pg_link_submit(r->link, &r->batch, done, r);
}

static void look(struct registry *r)
{
	if (r->busy || !pg_link_is_ready(r->link)) {
		r->again = true;
		return;
	}
	r->again = false;
	r->looked_at = r->io->wall(r->io->ctx);
	submit(r, look_sql, looked);
}

static bool failed(struct registry *r)
{
	r->busy = false;
	if (r->batch.failure.class == PG_FINE)
		return false;
	if (r->batch.failure.class == PG_STALE)
		pg_link_forget(r->link);
	r->effects.log(r->ctx, r->batch.failure.message);
	plan(r, r->interval_us);
	return true;
}

static void looked(void *ctx)
{
	struct registry *r = ctx;
	if (failed(r))
		return;
	r->seen_count = pg_int(&r->batch, 0, 0, 0);
	r->seen_sum = pg_int(&r->batch, 0, 0, 1);
	if (!r->loaded || r->seen_count != r->count || r->seen_sum != r->sum)
		submit(r, load_sql, loaded);
	else
		plan(r, r->again ? REFRESH_PAUSE_US : r->interval_us);
}

static bool read_entry(const struct pg_batch *b, uint32_t row, struct entry *out)
{
	size_t n;
	const uint8_t *print = pg_bytes(b, 0, row, 1, &n);
	if (n != sizeof(out->fingerprint))
		return false;
	memcpy(out->fingerprint, print, n);
	out->device = pg_uuid(b, 0, row, 0);
	out->revoked = pg_bool(b, 0, row, 2);
	return true;
}

/* Takes the new list; tells of those that were good and are not any more. */
static void replace(struct registry *r, struct entry *entries, uint32_t count)
{
	struct entry *old = r->entries;
	uint32_t old_count = r->entry_count;
	r->entries = entries;
	r->entry_count = count;
	for (uint32_t i = 0; i < old_count; i++) {
		const struct entry *now = find(r, old[i].fingerprint);
		if (!old[i].revoked && (!now || now->revoked))
			r->effects.revoked(r->ctx, &old[i].device);
	}
	free(old);
}

static void loaded(void *ctx)
{
	struct registry *r = ctx;
	if (failed(r))
		return;
	uint32_t rows = pg_rows(&r->batch, 0), count = 0;
	struct entry *entries = calloc(rows ? rows : 1, sizeof(*entries));
	if (!entries) {
		r->effects.log(r->ctx, "no memory for the list of devices");
		plan(r, r->interval_us);
		return;
	}
	for (uint32_t i = 0; i < rows; i++)
		count += read_entry(&r->batch, i, &entries[count]);
	replace(r, entries, count);
	r->count = r->seen_count;
	r->sum = r->seen_sum;
	if (!r->loaded) {
		r->loaded = true;
		r->effects.loaded(r->ctx, count);
	}
	plan(r, r->again ? REFRESH_PAUSE_US : r->interval_us);
}

static void due(void *ctx)
{
	look(ctx);
}

static void up(void *ctx, struct pg_link *link)
{
	(void)link;
	look(ctx);
}

static void down(void *ctx, struct pg_link *link, const char *message)
{
	struct registry *r = ctx;
	(void)link;
	r->effects.log(r->ctx, message);
}

struct registry *registry_open(const char *conninfo, const struct pg_io *io, int64_t interval_us,
			       const struct registry_effects *effects, void *ctx)
{
	static const struct pg_link_events events = {up, down};
	struct registry *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->io = io;
	r->interval_us = interval_us;
	r->effects = *effects;
	r->ctx = ctx;
	pg_batch_init(&r->batch, BATCH_BYTES_MAX);
	r->timer = io->timer(io->ctx, due, r);
	r->link = r->timer ? pg_link_open(conninfo, io, &events, r) : NULL;
	if (!r->link) {
		registry_close(r);
		return NULL;
	}
	return r;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	if (r->link)
		pg_link_close(r->link);
	if (r->timer)
		r->io->timer_free(r->io->ctx, r->timer);
	pg_batch_deinit(&r->batch);
	free(r->entries);
	free(r);
}

void registry_refresh(struct registry *r)
{
	int64_t since = r->io->wall(r->io->ctx) - r->looked_at;
	if (since < 0 || since >= REFRESH_PAUSE_US)
		look(r);
	else if (!r->again) {
		r->again = true;
		if (!r->busy)
			plan(r, REFRESH_PAUSE_US - since);
	}
}

enum ferry_error registry_ask(struct registry *r, const uint8_t fingerprint[32])
{
	if (!r->loaded)
		return FERRY_DATABASE;
	const struct entry *e = find(r, fingerprint);
	if (e)
		return e->revoked ? FERRY_REVOKED : FERRY_OK;
	registry_refresh(r);
	return FERRY_UNKNOWN_DEVICE;
}

void registry_add(struct registry *r, const struct uuid *device, const uint8_t fingerprint[32])
{
	if (find(r, fingerprint))
		return;
	struct entry *entries = realloc(r->entries, (r->entry_count + 1) * sizeof(*entries));
	if (!entries) {
		registry_refresh(r);
		return;
	}
	r->entries = entries;
	memcpy(entries[r->entry_count].fingerprint, fingerprint, 32);
	entries[r->entry_count].device = *device;
	entries[r->entry_count].revoked = false;
	r->entry_count++;
	qsort(entries, r->entry_count, sizeof(*entries), compare);
}

uint32_t registry_count(const struct registry *r)
{
	return r->entry_count;
}
