#include "hub/registry.h"

#include <stdlib.h>
#include <string.h>

#include "hub/pg_conn.h"
#include "protocol/arena.h"

#define BATCH_BYTES_MAX	 (1u << 20)
#define TENANTS_MAX	 1000000
#define REFRESH_PAUSE_US 100000 /* at most ten looks a second, whoever knocks */

#define TENANTS_BYTES_MAX ((size_t)256 << 20)
#define CALLS_MAX	  10000 /* tenants whose calls wait to be written; further ones go uncounted */

struct entry {
	uint8_t fingerprint[32];
	struct uuid device, tenant;
	bool revoked;
};

struct tenants { /* ordered by id */
	struct registry_tenant *list;
	uint32_t count;
	struct arena arena;
};

struct calls {
	struct uuid *tenants;
	int64_t *numbers;
	uint32_t count, sent; /* the first `sent` are on their way */
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
	int64_t seen_sum, seen_count, tenants_sum, tenants_seen;
	int64_t looked_at;
	uint64_t looks; /* begun */
	struct entry *entries;   /* ordered by fingerprint */
	uint32_t entry_count;
	struct tenants tenants;
	struct calls calls;
};

static const char look_sql[] =
	"SELECT count(*), coalesce(bit_xor(hashtextextended(id::text || status || encode(fingerprint, 'hex') || "
	"coalesce(encode(next_fingerprint, 'hex'), ''), 0)), 0), "
	"(SELECT coalesce(bit_xor(hashtextextended(t::text, 0)), 0) FROM ferry.tenancy t) "
	"FROM ferry.device WHERE fingerprint IS NOT NULL";
/* A device that renews its certificate has two (ferry.seen_certificate). */
static const char load_sql[] =
	"SELECT d.id, p.print, d.status = 'revoked', d.tenant_id FROM ferry.device d "
	"CROSS JOIN LATERAL (VALUES (d.fingerprint), (d.next_fingerprint)) AS p(print) WHERE p.print IS NOT NULL ORDER BY p.print";
static const char tenants_sql[] = "SELECT tenant_id, conninfo, own_schema, shut, held FROM ferry.tenancy ORDER BY tenant_id";
enum { T_ID, T_CONNINFO, T_OWN_SCHEMA, T_SHUT, T_HELD };
static const char calls_sql[] = "SELECT ferry.count_calls($1, $2)";

/* Why, as ferry.tenancy writes it. One that is not known shuts, too. */
static const struct {
	const char *name;
	int code;
} reasons[] = {
	{"SUSPENDED", FERRY_TENANT_SUSPENDED}, {"INACTIVE", FERRY_TENANT_INACTIVE},
	{"PENDING_ACTIVATION", FERRY_TENANT_PENDING}, {"MIGRATING", FERRY_TENANT_MIGRATING},
	{"ARCHIVED", FERRY_TENANT_ARCHIVED}, {"DELETED", FERRY_TENANT_DELETED},
	{"STORAGE", FERRY_QUOTA_STORAGE}, {"CALLS", FERRY_QUOTA_CALLS},
};

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

static void submit(struct registry *r, void (*done)(void *ctx))
{
	r->busy = true;
	pg_link_submit(r->link, &r->batch, done, r);
}

static void submit_look(struct registry *r)
{
	struct calls *c = &r->calls;
	pg_batch_reset(&r->batch);
	pg_call(&r->batch, look_sql);
	c->sent = c->count;
	if (c->sent > 0) {
		pg_call(&r->batch, calls_sql);
		pg_arg_uuids(&r->batch, c->tenants, c->sent);
		pg_arg_int8s(&r->batch, c->numbers, c->sent);
	}
	submit(r, looked);
}

static void submit_load(struct registry *r)
{
	pg_batch_reset(&r->batch);
	pg_call(&r->batch, load_sql);
	pg_call(&r->batch, tenants_sql);
	submit(r, loaded);
}

/* Those on their way are written; what came meanwhile moves up. */
static void forget_calls(struct calls *c)
{
	memmove(c->tenants, c->tenants + c->sent, (c->count - c->sent) * sizeof(*c->tenants));
	memmove(c->numbers, c->numbers + c->sent, (c->count - c->sent) * sizeof(*c->numbers));
	c->count -= c->sent;
	c->sent = 0;
}

static void look(struct registry *r)
{
	if (r->busy || !pg_link_is_ready(r->link)) {
		r->again = true;
		return;
	}
	r->again = false;
	r->looked_at = r->io->wall(r->io->ctx);
	r->looks++;
	submit_look(r);
}

static void end_look(struct registry *r)
{
	plan(r, r->again ? REFRESH_PAUSE_US : r->interval_us);
	r->effects.looked(r->ctx, r->looks);
}

static bool failed(struct registry *r)
{
	r->busy = false;
	if (r->batch.failure.class == PG_FINE)
		return false;
	r->calls.sent = 0;
	if (r->batch.failure.class == PG_STALE)
		pg_link_forget(r->link);
	r->effects.log(r->ctx, r->batch.failure.message);
	end_look(r);
	return true;
}

static void looked(void *ctx)
{
	struct registry *r = ctx;
	if (failed(r))
		return;
	r->seen_count = pg_int(&r->batch, 0, 0, 0);
	r->seen_sum = pg_int(&r->batch, 0, 0, 1);
	r->tenants_seen = pg_int(&r->batch, 0, 0, 2);
	if (r->calls.sent > 0)
		forget_calls(&r->calls);
	if (!r->loaded || r->seen_count != r->count || r->seen_sum != r->sum || r->tenants_seen != r->tenants_sum)
		submit_load(r);
	else
		end_look(r);
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
	out->tenant = pg_uuid(b, 0, row, 3);
	return true;
}

static int code_of(const struct pg_batch *b, uint32_t row, uint32_t column)
{
	if (pg_is_null(b, 1, row, column))
		return FERRY_OK;
	const char *name = pg_text(b, 1, row, column);
	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (strcmp(reasons[i].name, name) == 0)
			return reasons[i].code;
	return FERRY_TENANT_INACTIVE;
}

static bool read_tenants(const struct pg_batch *b, struct tenants *out)
{
	uint32_t n = pg_rows(b, 1);
	arena_init(&out->arena, TENANTS_BYTES_MAX);
	out->count = 0;
	out->list = n < TENANTS_MAX ? arena_array(&out->arena, n + 1, sizeof(*out->list)) : NULL;
	for (uint32_t i = 0; out->list && i < n; i++) {
		struct registry_tenant *t = &out->list[out->count++];
		const char *conninfo = pg_text(b, 1, i, T_CONNINFO);
		*t = (struct registry_tenant){.id = pg_uuid(b, 1, i, T_ID), .own_schema = pg_bool(b, 1, i, T_OWN_SCHEMA),
					      .conninfo = arena_text(&out->arena, conninfo, strlen(conninfo)),
					      .shut = code_of(b, i, T_SHUT), .held = code_of(b, i, T_HELD)};
		if (!t->conninfo)
			out->list = NULL;
	}
	if (!out->list)
		arena_deinit(&out->arena);
	return out->list != NULL;
}

static int compare_tenants(const void *a, const void *b)
{
	return uuid_compare(&((const struct registry_tenant *)a)->id, &((const struct registry_tenant *)b)->id);
}

static const struct registry_tenant *find_tenant(const struct tenants *t, const struct uuid *id)
{
	struct registry_tenant key = {.id = *id};
	return t->count == 0 ? NULL : bsearch(&key, t->list, t->count, sizeof(*t->list), compare_tenants);
}

static bool same_tenant(const struct registry_tenant *a, const struct registry_tenant *b)
{
	return a->shut == b->shut && a->held == b->held && a->own_schema == b->own_schema &&
	       strcmp(a->conninfo, b->conninfo) == 0;
}

static void replace_tenants(struct registry *r, const struct tenants *now)
{
	struct tenants old = r->tenants;
	r->tenants = *now;
	for (uint32_t i = 0; i < now->count; i++) {
		const struct registry_tenant *before = find_tenant(&old, &now->list[i].id);
		if (!before || !same_tenant(before, &now->list[i]))
			r->effects.tenant(r->ctx, &now->list[i]);
	}
	arena_deinit(&old.arena);
}

static bool has_good(const struct registry *r, const struct uuid *device)
{
	for (uint32_t i = 0; i < r->entry_count; i++)
		if (!r->entries[i].revoked && uuid_equal(&r->entries[i].device, device))
			return true;
	return false;
}

/* Takes the new list; tells of those that were good and are not any more. A
 * certificate that was renewed goes, its device stays. */
static void replace(struct registry *r, struct entry *entries, uint32_t count)
{
	struct entry *old = r->entries;
	uint32_t old_count = r->entry_count;
	r->entries = entries;
	r->entry_count = count;
	for (uint32_t i = 0; i < old_count; i++) {
		const struct entry *now = find(r, old[i].fingerprint);
		if (!old[i].revoked && (!now || now->revoked) && !has_good(r, &old[i].device))
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
	struct tenants tenants;
	if (!entries || !read_tenants(&r->batch, &tenants)) {
		free(entries);
		r->effects.log(r->ctx, "no memory for the list of devices and tenants");
		end_look(r);
		return;
	}
	for (uint32_t i = 0; i < rows; i++)
		count += read_entry(&r->batch, i, &entries[count]);
	replace(r, entries, count);
	replace_tenants(r, &tenants);
	r->tenants_sum = r->tenants_seen;
	r->count = r->seen_count;
	r->sum = r->seen_sum;
	if (!r->loaded) {
		r->loaded = true;
		r->effects.loaded(r->ctx, count);
	}
	end_look(r);
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
	r->effects.looked(r->ctx, r->looks + 1); /* no look is near */
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
	arena_init(&r->tenants.arena, TENANTS_BYTES_MAX);
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
	arena_deinit(&r->tenants.arena);
	free(r->calls.tenants);
	free(r->calls.numbers);
	free(r->entries);
	free(r);
}

uint64_t registry_refresh(struct registry *r)
{
	uint64_t next = r->looks + 1;
	int64_t since = r->io->wall(r->io->ctx) - r->looked_at;
	if (since < 0 || since >= REFRESH_PAUSE_US)
		look(r);
	else if (!r->again) {
		r->again = true;
		if (!r->busy)
			plan(r, REFRESH_PAUSE_US - since);
	}
	return r->busy || pg_link_is_ready(r->link) ? next : 0; /* a link that works on a look is not ready */
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

void registry_add(struct registry *r, const struct uuid *tenant, const struct uuid *device,
		  const uint8_t fingerprint[32])
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
	entries[r->entry_count].tenant = *tenant;
	entries[r->entry_count].revoked = false;
	r->entry_count++;
	qsort(entries, r->entry_count, sizeof(*entries), compare);
}

bool registry_is_loaded(const struct registry *r)
{
	return r->loaded;
}

uint32_t registry_count(const struct registry *r)
{
	return r->entry_count;
}

const struct registry_tenant *registry_tenant(const struct registry *r, const struct uuid *id)
{
	return find_tenant(&r->tenants, id);
}

bool registry_tenant_of(const struct registry *r, const uint8_t fingerprint[32], struct uuid *out_tenant)
{
	const struct entry *e = find(r, fingerprint);
	if (e)
		*out_tenant = e->tenant;
	return e != NULL;
}

/* Room for one more tenant; the arrays grow together. */
static bool calls_room(struct calls *c)
{
	if (c->count == CALLS_MAX)
		return false;
	struct uuid *tenants = realloc(c->tenants, (c->count + 1) * sizeof(*tenants));
	if (!tenants)
		return false;
	c->tenants = tenants;
	int64_t *numbers = realloc(c->numbers, (c->count + 1) * sizeof(*numbers));
	if (!numbers)
		return false;
	c->numbers = numbers;
	return true;
}

void registry_count_call(struct registry *r, const struct uuid *tenant)
{
	struct calls *c = &r->calls;
	for (uint32_t i = c->sent; i < c->count; i++) {
		if (uuid_equal(&c->tenants[i], tenant)) {
			c->numbers[i]++;
			return;
		}
	}
	if (!calls_room(c))
		return;
	c->tenants[c->count] = *tenant;
	c->numbers[c->count++] = 1;
}
