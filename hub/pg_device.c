/* Devices: who a certificate is and where its replica stands, parts of large
 * change-sets, applied bookmarks; and the two cheap questions of upkeep. */
#include <stdlib.h>
#include <string.h>

#include "hub/pg_op.h"

/* ------------------------------------------------------------------ device */

struct device_op {
	struct pg_op op;
	uint8_t fingerprint[32];
	struct uuid incarnation, epoch;
	int64_t position, mark;
	int64_t life, next_mark, last_number, life_marks[FERRY_LIFE_MARKS_MAX];
	uint32_t life_mark_count;
	int64_t past[FERRY_PAST_MAX], past_marks[FERRY_PAST_MAX];
	uint32_t past_count;
	hub_device_cb cb;
	void *ctx;
	uint32_t greet_call, device_call, changes_call, common_call, epoch_call;
	struct hub_device device; /* answered when found */
	struct arena arena;
};

static const char contact_sql[] =
	"SELECT g.clone, g.adopted, g.life FROM ferry.greet($1, $2, $3, $4, $5, $6) g";

/* ferry.change is under row-level security, so who asks must be set first. */
static const char device_tenant_sql[] =
	"SELECT set_config('app.tenant_id', coalesce((SELECT (x.device).tenant_id::text "
	"FROM ferry.device_by_fingerprint($1) x), ''), true)";

/* Roles may have begun or expired since somebody looked. */
static const char device_due_sql[] =
	"SELECT ferry.renew_due(nullif(current_setting('app.tenant_id', true), '')::uuid)";

static const char device_sql[] =
	"SELECT (x.device).id, (x.device).tenant_id, (x.device).status <> 'active', (x.device).incarnation, "
	"(x.device).settled, (x.device).settled_above, x.scopes, h.epoch, "
	"(SELECT max(p) FROM (SELECT position FROM ferry.head((x.device).tenant_id) UNION ALL "
	"SELECT position FROM ferry.head(ferry.nobody())) AS heads(p)), "
	"(SELECT max(z.tombstones) FROM ferry.horizon z "
	"WHERE z.tenant_id IN ((x.device).tenant_id, ferry.nobody())), "
	"(SELECT c.mark FROM ferry.commit c WHERE c.tenant_id IN ((x.device).tenant_id, ferry.nobody()) "
	"AND c.position = $2), "
	"(SELECT v.n FROM ferry.rights_version v WHERE v.tenant_id = (x.device).tenant_id), "
	"(SELECT u.position FROM ferry.backed_up u WHERE u.tenant_id = (x.device).tenant_id), h.created_at, "
	"EXISTS (SELECT FROM ferry.rewind r WHERE r.epoch = h.epoch) "
	"FROM ferry.device_by_fingerprint($1) x, ferry.history h";
enum { D_ID, D_TENANT, D_REVOKED, D_INCARNATION, D_SETTLED, D_ABOVE, D_SCOPES, D_EPOCH, D_HEAD, D_HORIZON, D_MARK,
       D_RIGHTS, D_BACKED_UP, D_EPOCH_AT, D_RESTORED };

/* The newest of a device's past bookmarks that this history has, too. */
static const char common_sql[] =
	"SELECT c.position, c.mark FROM unnest($2::bigint[], $3::bigint[]) AS u(position, mark) JOIN ferry.commit c "
	"ON c.position = u.position AND c.mark = u.mark AND c.tenant_id IN (ferry.nobody(), "
	"(SELECT (x.device).tenant_id FROM ferry.device_by_fingerprint($1) x)) ORDER BY 1 DESC LIMIT 1";

/* How much a feed from there would hold: a bound of it, looked at no further
 * than needed. Asked once the tenant is known, since changes are isolated. */
static const char changes_sql[] =
	"SELECT coalesce(sum(l.n), 0)::bigint FROM (SELECT cardinality(c.keys) AS n "
	"FROM ferry.commit p JOIN ferry.change c ON c.tenant_id = p.tenant_id AND c.tx = p.tx "
	"WHERE p.tenant_id IN ($1, ferry.nobody()) AND p.position > $2 LIMIT $3) l";

static int64_t *read_ints(struct arena *a, const struct pg_batch *b, uint32_t call, uint32_t col, uint32_t *out_count)
{
	struct pg_elements e;
	uint32_t n = pg_elements(b, call, 0, col, &e);
	int64_t *v = arena_array(a, n ? n : 1, sizeof(*v));
	const uint8_t *p;
	size_t length;

	*out_count = 0;
	while (v && *out_count < n && pg_element(&e, &p, &length))
		v[(*out_count)++] = pg_element_int(p, length);
	return v;
}

static const char **read_texts(struct arena *a, const struct pg_batch *b, uint32_t call, uint32_t col,
			       uint32_t *out_count)
{
	struct pg_elements e;
	uint32_t n = pg_elements(b, call, 0, col, &e);
	const char **v = arena_array(a, n ? n : 1, sizeof(*v));
	const uint8_t *p;
	size_t length;

	*out_count = 0;
	while (v && *out_count < n && pg_element(&e, &p, &length)) {
		v[*out_count] = arena_text(a, p ? (const char *)p : "", length);
		if (!v[*out_count])
			return NULL;
		(*out_count)++;
	}
	return v;
}

/* Marks decide, whatever the epoch: a bookmark from before a restore is as
 * good as ever. Position 0 is before everything, so it needs no commit to
 * stand on. */
static int bookmark_code(const struct device_op *d, uint32_t call)
{
	const struct pg_batch *b = &d->op.batch;
	bool known = !pg_is_null(b, call, 0, D_MARK);

	if (d->position < 0)
		return FERRY_OK;
	if (d->position != 0 && (!known || pg_int(b, call, 0, D_MARK) != d->mark))
		return FERRY_OTHER_HISTORY;
	if (d->position < pg_int(b, call, 0, D_HORIZON))
		return FERRY_PRUNED;
	return FERRY_OK;
}

/* A fill is cheaper than a feed of so much, which would be refused. */
static void device_counted(struct pg_op *op)
{
	struct device_op *d = (struct device_op *)op;

	if (pg_int(&op->batch, d->changes_call, 0, 0) >= op->store->config.feed_rows_max)
		d->device.bookmark_code = FERRY_PRUNED;
	pg_op_end(op, FERRY_OK);
}

static void device_count(struct pg_op *op)
{
	struct device_op *d = (struct device_op *)op;

	op->tenant = d->device.tenant;
	pg_op_begin(op, "READ COMMITTED READ ONLY");
	d->changes_call = pg_call(&op->batch, changes_sql);
	pg_arg_uuid(&op->batch, &op->tenant);
	pg_arg_int8(&op->batch, d->position);
	pg_arg_int8(&op->batch, op->store->config.feed_rows_max);
	pg_call(&op->batch, "COMMIT");
	pg_op_run(op, device_counted);
}

static void rewind_noted(struct pg_op *op)
{
	struct device_op *d = (struct device_op *)op;

	d->device.epoch = pg_uuid(&op->batch, d->epoch_call, 0, 0);
	d->device.since = d->device.epoch_at = pg_time(&op->batch, d->epoch_call, 0, 1);
	pg_op_end(op, FERRY_OK);
}

/* This database has lost the history that the device stands on. */
static void device_rewound(struct pg_op *op)
{
	struct device_op *d = (struct device_op *)op;
	struct hub_device *v = &d->device;

	if (pg_rows(&op->batch, d->common_call) > 0) {
		v->common = pg_int(&op->batch, d->common_call, 0, 0);
		v->common_mark = pg_int(&op->batch, d->common_call, 0, 1);
	}
	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT ferry.note_rewind('device', $1, $2, $3, $4, $5)");
	pg_arg_uuid(&op->batch, &v->tenant);
	pg_arg_uuid(&op->batch, &v->id);
	pg_arg_uuid(&op->batch, &d->epoch);
	pg_arg_int8(&op->batch, d->position);
	pg_arg_int8(&op->batch, v->common);
	d->epoch_call = pg_call(&op->batch, "SELECT h.epoch, h.created_at FROM ferry.history h");
	pg_op_run(op, rewind_noted);
}

static void device_found(struct pg_op *op)
{
	struct device_op *d = (struct device_op *)op;
	const struct pg_batch *b = &op->batch;
	struct hub_device *v = &d->device;
	const uint32_t call = d->device_call;
	size_t n;
	const uint8_t *p;

	if (pg_rows(b, call) == 0) {
		pg_op_end(op, FERRY_UNKNOWN_DEVICE);
		return;
	}
	v->id = pg_uuid(b, call, 0, D_ID);
	v->tenant = pg_uuid(b, call, 0, D_TENANT);
	v->revoked = pg_bool(b, call, 0, D_REVOKED);
	p = pg_bytes(b, call, 0, D_INCARNATION, &n);
	if (n == sizeof(v->incarnation.b))
		memcpy(v->incarnation.b, p, n);
	if (pg_rows(b, d->greet_call) > 0) {
		v->clone = pg_bool(b, d->greet_call, 0, 0);
		v->adopted = pg_bool(b, d->greet_call, 0, 1);
		v->life = pg_int(b, d->greet_call, 0, 2);
	}
	v->staging = (int64_t)(op->store->io->random(op->store->io->ctx) >> 1 | 1);
	v->settled = pg_int(b, call, 0, D_SETTLED);
	v->settled_above = read_ints(&d->arena, b, call, D_ABOVE, &v->settled_above_count);
	v->scopes = read_texts(&d->arena, b, call, D_SCOPES, &v->scope_count);
	v->rights = pg_int(b, call, 0, D_RIGHTS);
	v->epoch = pg_uuid(b, call, 0, D_EPOCH);
	v->epoch_at = pg_time(b, call, 0, D_EPOCH_AT);
	v->since = pg_bool(b, call, 0, D_RESTORED) ? v->epoch_at : 0;
	v->head = pg_int(b, call, 0, D_HEAD);
	v->backed_up = pg_is_null(b, call, 0, D_BACKED_UP) ? 0 : pg_int(b, call, 0, D_BACKED_UP);
	v->bookmark_code = bookmark_code(d, call);
	if (!v->settled_above || !v->scopes)
		pg_op_end(op, FERRY_NO_MEMORY);
	else if (v->clone)
		pg_op_end(op, FERRY_OK); /* what it stands on counts for nothing */
	else if (!v->revoked && v->bookmark_code == FERRY_OTHER_HISTORY)
		device_rewound(op);
	else if (v->revoked || d->position < 0 || v->bookmark_code != FERRY_OK)
		pg_op_end(op, v->revoked ? FERRY_REVOKED : FERRY_OK);
	else
		device_count(op);
}

static void device_ask(struct pg_op *op)
{
	struct device_op *d = (struct device_op *)op;

	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT ferry.seen_certificate($1)");
	pg_arg_bytes(&op->batch, d->fingerprint, sizeof(d->fingerprint));
	d->greet_call = pg_call(&op->batch, contact_sql);
	pg_arg_bytes(&op->batch, d->fingerprint, sizeof(d->fingerprint));
	if (uuid_is_zero(&d->incarnation))
		pg_arg_null(&op->batch, 17); /* bytea */
	else
		pg_arg_bytes(&op->batch, d->incarnation.b, sizeof(d->incarnation.b));
	pg_arg_int8(&op->batch, d->life);
	pg_arg_int8s(&op->batch, d->life_marks, d->life_mark_count);
	if (d->next_mark == 0)
		pg_arg_null(&op->batch, 20); /* bigint */
	else
		pg_arg_int8(&op->batch, d->next_mark);
	pg_arg_int8(&op->batch, d->last_number);
	pg_call(&op->batch, device_tenant_sql);
	pg_arg_bytes(&op->batch, d->fingerprint, sizeof(d->fingerprint));
	pg_call(&op->batch, device_due_sql);
	d->device_call = pg_call(&op->batch, device_sql);
	pg_arg_bytes(&op->batch, d->fingerprint, sizeof(d->fingerprint));
	pg_arg_int8(&op->batch, d->position);
	d->common_call = pg_call(&op->batch, common_sql);
	pg_arg_bytes(&op->batch, d->fingerprint, sizeof(d->fingerprint));
	pg_arg_int8s(&op->batch, d->past, d->past_count);
	pg_arg_int8s(&op->batch, d->past_marks, d->past_count);
	pg_op_run(op, device_found);
}

static void device_answer(struct pg_op *op, enum ferry_error e)
{
	struct device_op *d = (struct device_op *)op;

	d->cb(d->ctx, e, e == FERRY_OK || e == FERRY_REVOKED ? &d->device : NULL);
}

static void device_release(struct pg_op *op)
{
	arena_deinit(&((struct device_op *)op)->arena);
}

void pg_store_device(void *store, const uint8_t fingerprint[32], const struct message_hello *hello, hub_device_cb cb,
		     void *ctx)
{
	struct device_op *d = pg_op_new(store, sizeof(*d), &PG_NOBODY, PG_LANE_READ);

	if (!d) {
		cb(ctx, FERRY_NO_MEMORY, NULL);
		return;
	}
	memcpy(d->fingerprint, fingerprint, sizeof(d->fingerprint));
	d->incarnation = hello->incarnation;
	d->epoch = hello->epoch;
	d->position = hello->position;
	d->mark = hello->mark;
	d->life = hello->life;
	d->next_mark = hello->next_mark;
	d->last_number = hello->last_number;
	d->life_mark_count = hello->life_mark_count < FERRY_LIFE_MARKS_MAX ? hello->life_mark_count : FERRY_LIFE_MARKS_MAX;
	if (d->life_mark_count > 0)
		memcpy(d->life_marks, hello->life_marks, d->life_mark_count * sizeof(*d->life_marks));
	d->past_count = hello->past_count < FERRY_PAST_MAX ? hello->past_count : FERRY_PAST_MAX;
	if (d->past_count > 0) {
		memcpy(d->past, hello->past, d->past_count * sizeof(*d->past));
		memcpy(d->past_marks, hello->past_marks, d->past_count * sizeof(*d->past_marks));
	}
	d->cb = cb;
	d->ctx = ctx;
	arena_init(&d->arena, 4 << 20);
	d->op.first = device_ask;
	d->op.answer = device_answer;
	d->op.release = device_release;
	pg_op_start(&d->op);
}

/* ------------------------------------------------------------------ schema */

struct schema_op {
	struct pg_op op;
	hub_schema_cb cb;
	void *ctx;
};

static void schema_checked(struct pg_op *op)
{
	if (pg_op_current(op))
		pg_op_end(op, FERRY_OK);
}

static void schema_ask(struct pg_op *op)
{
	pg_op_begin(op, "");
	pg_call(&op->batch, "COMMIT");
	pg_op_run(op, schema_checked);
}

static void schema_answer(struct pg_op *op, enum ferry_error e)
{
	struct schema_op *s = (struct schema_op *)op;

	s->cb(s->ctx, e, e == FERRY_OK ? &op->catalog->hub : NULL);
}

void pg_store_schema(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx)
{
	struct schema_op *s = pg_op_new(store, sizeof(*s), tenant, PG_LANE_READ);

	if (!s) {
		cb(ctx, FERRY_NO_MEMORY, NULL);
		return;
	}
	s->cb = cb;
	s->ctx = ctx;
	s->op.wants_catalog = true;
	s->op.first = schema_ask;
	s->op.answer = schema_answer;
	pg_op_start(&s->op);
}

/* -------------------------------------------------------------------- poll */

struct poll_op {
	struct pg_op op;
	int64_t position;
	hub_poll_cb cb;
	void *ctx;
};

/* Handed out, not committed: a position is taken just before its commit, and
 * the core looks again until the feed has reached it. */
static const char poll_sql[] = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ferry.position_seq";

static void poll_seen(struct pg_op *op)
{
	((struct poll_op *)op)->position = pg_int(&op->batch, 0, 0, 0);
	pg_op_end(op, FERRY_OK);
}

static void poll_ask(struct pg_op *op)
{
	pg_batch_reset(&op->batch);
	pg_call(&op->batch, poll_sql);
	pg_op_run(op, poll_seen);
}

static void poll_answer(struct pg_op *op, enum ferry_error e)
{
	struct poll_op *p = (struct poll_op *)op;

	p->cb(p->ctx, e, p->position);
}

void pg_store_poll(void *store, hub_poll_cb cb, void *ctx)
{
	struct poll_op *p = pg_op_new(store, sizeof(*p), &PG_NOBODY, PG_LANE_READ);

	if (!p) {
		cb(ctx, FERRY_NO_MEMORY, 0);
		return;
	}
	p->cb = cb;
	p->ctx = ctx;
	p->op.first = poll_ask;
	p->op.answer = poll_answer;
	pg_op_start(&p->op);
}

/* ----------------------------------------------------------------- applied */

#define APPLIED_DELAY_US 1000000 /* gathered so long, then written as one */
#define APPLIED_MAX 100000       /* devices; beyond, the next contact tells it again */

struct pg_applied {
	struct uuid tenant, device;
	int64_t position;
};

struct applied_op {
	struct pg_op op;
	struct uuid *devices;
	int64_t *positions;
	uint32_t count;
};

/* A rejected change-set stays named: others may depend on it (R6). */
static const char bookmark_sql[] =
	"UPDATE ferry.device d SET bookmark = u.position, last_seen = now() "
	"FROM unnest($2::uuid[], $3::bigint[]) AS u(id, position) "
	"WHERE d.id = u.id AND d.tenant_id = $1 "
	"AND (d.bookmark < u.position OR d.last_seen < now() - interval '1 minute')";
static const char forget_sql[] =
	"DELETE FROM ferry.settled s USING unnest($2::uuid[], $3::bigint[]) AS u(id, position), ferry.commit c "
	"WHERE s.tenant_id = $1 AND s.device_id = u.id AND s.verdict IN ('accepted', 'superseded') "
	"AND c.tx = s.tx AND c.tenant_id = $1 AND c.position <= u.position";

static void applied_next(struct pg_store *s);

static void applied_fired(void *arg)
{
	applied_next(arg);
}

static void applied_done(struct pg_op *op)
{
	pg_op_end(op, FERRY_OK);
}

static void applied_write(struct pg_op *op)
{
	struct applied_op *a = (struct applied_op *)op;
	static const char *const statements[] = {bookmark_sql, forget_sql};

	pg_op_begin(op, "");
	for (int i = 0; i < 2; i++) {
		pg_call(&op->batch, statements[i]);
		pg_arg_uuid(&op->batch, &op->tenant);
		pg_arg_uuids(&op->batch, a->devices, a->count);
		pg_arg_int8s(&op->batch, a->positions, a->count);
	}
	pg_call(&op->batch, "COMMIT");
	pg_op_run(op, applied_done);
}

static void applied_answer(struct pg_op *op, enum ferry_error e)
{
	(void)e; /* a lost bookmark is told again by the next one */
	op->store->applied_busy = false;
	applied_next(op->store);
}

static void applied_release(struct pg_op *op)
{
	struct applied_op *a = (struct applied_op *)op;

	free(a->devices);
	free(a->positions);
}

/* Moves the entries of one tenant from the list to the operation, sorted by
 * device, so that two hubs lock rows in the same order. */
static bool applied_take(struct pg_store *s, struct applied_op *a)
{
	uint32_t kept = 0;

	a->devices = calloc(s->applied_count, sizeof(*a->devices));
	a->positions = calloc(s->applied_count, sizeof(*a->positions));
	if (!a->devices || !a->positions)
		return false;
	for (uint32_t i = 0; i < s->applied_count; i++) {
		const struct pg_applied *e = &s->applied[i];

		if (!uuid_equal(&e->tenant, &a->op.tenant)) {
			s->applied[kept++] = *e;
			continue;
		}
		a->devices[a->count] = e->device;
		a->positions[a->count++] = e->position;
	}
	s->applied_count = kept;
	return true;
}

static int compare_applied(const void *a, const void *b)
{
	return uuid_compare(&((const struct pg_applied *)a)->device, &((const struct pg_applied *)b)->device);
}

static void applied_next(struct pg_store *s)
{
	struct applied_op *a;

	if (s->applied_busy || s->applied_count == 0)
		return;
	qsort(s->applied, s->applied_count, sizeof(*s->applied), compare_applied);
	a = pg_op_new(s, sizeof(*a), &s->applied[0].tenant, PG_LANE_WRITE);
	if (!a)
		return;
	s->applied_busy = true;
	a->op.first = applied_write;
	a->op.answer = applied_answer;
	a->op.release = applied_release;
	if (!applied_take(s, a))
		pg_op_end(&a->op, FERRY_NO_MEMORY);
	else
		pg_op_start(&a->op);
}

static struct pg_applied *applied_entry(struct pg_store *s, const struct uuid *device)
{
	for (uint32_t i = 0; i < s->applied_count; i++) {
		if (uuid_equal(&s->applied[i].device, device))
			return &s->applied[i];
	}
	if (s->applied_count == s->applied_capacity) {
		uint32_t capacity = s->applied_capacity ? s->applied_capacity * 2 : 64;
		struct pg_applied *more = capacity <= APPLIED_MAX ? realloc(s->applied, capacity * sizeof(*more)) : NULL;

		if (!more)
			return NULL;
		s->applied = more;
		s->applied_capacity = capacity;
	}
	s->applied[s->applied_count] = (struct pg_applied){.device = *device, .position = -1};
	return &s->applied[s->applied_count++];
}

void pg_store_applied(void *store, const struct uuid *tenant, const struct uuid *device, int64_t position)
{
	struct pg_store *s = store;
	struct pg_applied *e = applied_entry(s, device);

	if (!e)
		return;
	e->tenant = *tenant;
	if (e->position < position)
		e->position = position;
	if (!s->applied_timer)
		s->applied_timer = s->io->timer(s->io->ctx, applied_fired, s);
	if (s->applied_timer && s->applied_count == 1)
		s->io->timer_set(s->io->ctx, s->applied_timer, APPLIED_DELAY_US);
}

/* -------------------------------------------------------------------- fold */

#define FOLD_AFTER_MERGES 200

static void fold_done(struct pg_op *op)
{
	pg_op_end(op, FERRY_OK);
}

static void fold_run(struct pg_op *op)
{
	pg_batch_reset(&op->batch);
	pg_call(&op->batch, "SELECT ferry.fold_sums()");
	pg_op_run(op, fold_done);
}

static void fold_answer(struct pg_op *op, enum ferry_error e)
{
	(void)e; /* the next one folds the more */
	op->store->folding = false;
}

void pg_store_fold(struct pg_store *s)
{
	struct pg_op *op;

	if (s->folding || ++s->merges_since_fold < FOLD_AFTER_MERGES)
		return;
	op = pg_op_new(s, sizeof(*op), &PG_NOBODY, PG_LANE_WRITE);
	if (!op)
		return;
	s->folding = true;
	s->merges_since_fold = 0;
	op->first = fold_run;
	op->answer = fold_answer;
	pg_op_start(op);
}
