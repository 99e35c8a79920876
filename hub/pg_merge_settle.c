/* The end of a run: verdicts, refused change-sets whole, the devices'
 * watermarks (R6), the position, COMMIT; and only then the answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/pg_merge.h"
#include "hub/pg_verdicts.h"

static bool settles(const struct merge_entry *e)
{
	return e->state == ITEM_APPLIED || e->state == ITEM_REJECTED;
}

/* ---------------------------------------------------------------- verdicts */

struct verdict_lists {
	struct uuid *devices;
	int64_t *numbers;
	int32_t *codes;
	struct uuid *mine, *others; /* zero: none */
	const char **verdicts, **sentences, **constraints;
	uint32_t count;
};

static bool list_verdicts(struct merge_op *m, bool rejected_only, struct verdict_lists *l)
{
	struct arena *a = &m->op.batch.arena;

	*l = (struct verdict_lists){.devices = arena_array(a, m->entry_count, sizeof(struct uuid)),
				    .numbers = arena_array(a, m->entry_count, sizeof(int64_t)),
				    .codes = arena_array(a, m->entry_count, sizeof(int32_t)),
				    .mine = arena_array(a, m->entry_count, sizeof(struct uuid)),
				    .others = arena_array(a, m->entry_count, sizeof(struct uuid)),
				    .verdicts = arena_array(a, m->entry_count, sizeof(char *)),
				    .sentences = arena_array(a, m->entry_count, sizeof(char *)),
				    .constraints = arena_array(a, m->entry_count, sizeof(char *))};
	if (!l->devices || !l->numbers || !l->codes || !l->verdicts || !l->sentences || !l->constraints || !l->mine || !l->others)
		return false;
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_entry *e = &m->entries[i];

		if (!settles(e) || (rejected_only && e->state != ITEM_REJECTED))
			continue;
		l->devices[l->count] = e->item->device;
		l->numbers[l->count] = e->item->number;
		l->codes[l->count] = e->code;
		l->verdicts[l->count] = pg_verdict_name(e->verdict);
		l->constraints[l->count] = e->constraint;
		l->mine[l->count] = e->mine;
		l->others[l->count] = e->other;
		l->sentences[l->count++] = e->sentence;
	}
	return true;
}

static bool settle_verdicts(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	struct verdict_lists l;

	if (!list_verdicts(m, false, &l))
		return false;
	pg_call(b, "INSERT INTO ferry.settled (tenant_id, tx, device_id, number, verdict, code, sentence, detail) "
		   "SELECT $1, $2, u.device, u.number, u.verdict, nullif(u.code, 0), u.sentence, "
		   "CASE WHEN u.rule IS NOT NULL THEN jsonb_strip_nulls(jsonb_build_object('constraint', u.rule, "
		   "'mine', nullif(u.mine, ferry.nobody()), 'other', nullif(u.other, ferry.nobody()))) END "
		   "FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::int[], $7::text[], $8::text[], $9::uuid[], $10::uuid[]) "
		   "AS u(device, number, verdict, code, sentence, rule, mine, other)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int8(b, m->tx);
	pg_arg_uuids(b, l.devices, l.count);
	pg_arg_int8s(b, l.numbers, l.count);
	pg_arg_texts(b, l.verdicts, l.count);
	pg_arg_int4s(b, l.codes, l.count);
	pg_arg_texts(b, l.sentences, l.count);
	pg_arg_texts(b, l.constraints, l.count);
	pg_arg_uuids(b, l.mine, l.count);
	pg_arg_uuids(b, l.others, l.count);
	return true;
}

/* One that is judged anew gets its verdict in the place of the former one. */
static void forget_former(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_item *item = m->entries[i].item;

		if (!item->again || !settles(&m->entries[i]))
			continue;
		pg_call(b, "WITH gone AS (DELETE FROM ferry.rejected WHERE tenant_id = $1 AND device_id = $2 AND number = $3), "
			   "waits AS (DELETE FROM ferry.parked_wait WHERE tenant_id = $1 AND device_id = $2 AND number = $3) "
			   "DELETE FROM ferry.settled WHERE tenant_id = $1 AND device_id = $2 AND number = $3");
		pg_arg_uuid(b, &m->op.tenant);
		pg_arg_uuid(b, &item->device);
		pg_arg_int8(b, item->number);
	}
}

/* ---------------------------------------------------------------- rejected */

/* The bodies one after the other in one buffer, then as values into it. */
static bool encode_rejected(struct merge_op *m, struct buffer *bytes, struct value *bodies)
{
	size_t at = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (m->entries[i].state != ITEM_REJECTED)
			continue;
		if (change_set_encode(m->entries[i].item->set, bytes) != FERRY_OK)
			return false;
		bodies[n] = (struct value){.kind = VALUE_BYTES, .n = (uint32_t)(bytes->n - at)};
		n++;
		at = bytes->n;
	}
	at = 0;
	for (uint32_t i = 0; i < n; i++) { /* the buffer has stopped moving */
		bodies[i].p = bytes->p + at;
		at += bodies[i].n;
	}
	return true;
}

static void rejected_args(struct merge_op *m, const struct verdict_lists *l)
{
	struct pg_batch *b = &m->op.batch;

	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, l->devices, l->count);
	pg_arg_int8s(b, l->numbers, l->count);
	pg_arg_int4s(b, l->codes, l->count);
	pg_arg_texts(b, l->sentences, l->count);
}

/* The name under which a staged one's parts stay; 0: they go. */
static int64_t kept_staging(const struct merge_op *m)
{
	const struct merge_entry *e = &m->entries[0];

	return (e->state == ITEM_REJECTED || e->state == ITEM_HELD) && !e->unstored ? e->item->staging : 0;
}

/* A staged one stays in its parts. */
static bool settle_rejected(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	struct value *bodies = arena_array(&b->arena, m->entry_count, sizeof(*bodies));
	struct verdict_lists l;
	struct buffer bytes;
	bool ok = true;

	if (!bodies || !list_verdicts(m, true, &l))
		return false;
	if (l.count == 0)
		return true;
	if (m->staged) {
		pg_call(b, "INSERT INTO ferry.rejected (tenant_id, device_id, number, code, sentence, body, staging) "
			   "SELECT $1, u.device, u.number, u.code, u.sentence, ''::bytea, nullif($6, 0) "
			   "FROM unnest($2::uuid[], $3::bigint[], $4::int[], $5::text[]) AS u(device, number, code, sentence)");
		rejected_args(m, &l);
		pg_arg_int8(b, kept_staging(m));
		return true;
	}
	buffer_init(&bytes, PG_BATCH_BYTES_MAX / 2);
	ok = encode_rejected(m, &bytes, bodies);
	if (ok) {
		pg_call(b, "INSERT INTO ferry.rejected (tenant_id, device_id, number, code, sentence, body) "
			   "SELECT $1, u.device, u.number, u.code, u.sentence, u.body "
			   "FROM unnest($2::uuid[], $3::bigint[], $4::int[], $5::text[], $6::bytea[]) "
			   "AS u(device, number, code, sentence, body)");
		rejected_args(m, &l);
		pg_arg_blobs(b, bodies, l.count);
	}
	buffer_deinit(&bytes);
	return ok;
}

/* -------------------------------------------------------------- watermarks */

static int compare_int(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

	return a < b ? -1 : a > b;
}

/* Numbers that close the gap raise the watermark; the rest stays above it. */
static void advance(struct merge_device *d)
{
	uint32_t kept = 0;

	if (d->above_count)
		qsort(d->above, d->above_count, sizeof(*d->above), compare_int);
	for (uint32_t i = 0; i < d->above_count; i++) {
		if (d->above[i] <= d->settled)
			continue;
		if (d->above[i] == d->settled + 1)
			d->settled++;
		else
			d->above[kept++] = d->above[i];
	}
	d->above_count = kept;
}

static const char *above_text(struct merge_op *m, const struct merge_device *d)
{
	size_t room = (size_t)d->above_count * 21 + 3, n = 1;
	char *text = arena_alloc(&m->op.batch.arena, room);

	if (!text)
		return NULL;
	text[0] = '{';
	for (uint32_t i = 0; i < d->above_count; i++)
		n += (size_t)snprintf(text + n, room - n, "%s%lld", i ? "," : "", (long long)d->above[i]);
	snprintf(text + n, room - n, "}");
	return text;
}

/* As it will be, beside what was loaded: what was taken for settled in an attempt that failed may
 * not be so in the next. */
static bool copy_devices(struct merge_op *m, struct merge_device *now)
{
	struct arena *a = &m->op.batch.arena;

	for (uint32_t i = 0; i < m->device_count; i++) {
		const struct merge_device *d = &m->devices[i];

		now[i] = *d;
		now[i].above = arena_array(a, d->above_count + m->entry_count, sizeof(*d->above));
		if (!now[i].above)
			return false;
		if (d->above_count)
			memcpy(now[i].above, d->above, d->above_count * sizeof(*d->above));
	}
	return true;
}

static bool settle_devices(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	struct merge_device *now = arena_array(&b->arena, m->device_count, sizeof(*now));
	struct uuid *ids = arena_array(&b->arena, m->device_count, sizeof(*ids));
	int64_t *settled = arena_array(&b->arena, m->device_count, sizeof(*settled));
	const char **above = arena_array(&b->arena, m->device_count, sizeof(*above));
	struct value *failed = arena_array(&b->arena, m->device_count, sizeof(*failed));
	uint32_t n = 0;

	if (!now || !ids || !settled || !above || !failed || !copy_devices(m, now))
		return false;
	for (uint32_t i = 0; i < m->entry_count; i++) {
		struct merge_device *d = &now[m->entries[i].device - m->devices];

		if (settles(&m->entries[i]) && !m->entries[i].item->again)
			d->above[d->above_count++] = m->entries[i].item->number;
	}
	for (uint32_t i = 0; i < m->device_count; i++) {
		struct merge_device *d = &now[i];

		if (!d->known)
			continue;
		advance(d);
		ids[n] = d->id;
		settled[n] = d->settled;
		above[n] = above_text(m, d);
		failed[n] = (struct value){.kind = VALUE_BOOL, .b = d->failed};
		if (!above[n++])
			return false;
	}
	pg_call(b, "UPDATE ferry.device d SET settled = u.settled, settled_above = u.above::bigint[], "
		   "failed_at = CASE WHEN u.failed THEN now() ELSE d.failed_at END "
		   "FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::bool[]) AS u(id, settled, above, failed) "
		   "WHERE d.tenant_id = $1 AND d.id = u.id");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, ids, n);
	pg_arg_int8s(b, settled, n);
	pg_arg_texts(b, above, n);
	pg_arg_cells(b, KIND_BOOL, failed, n);
	return true;
}

/* --------------------------------------------------------------------- end */

/* All of this number but what is kept. */
static void settle_stage(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	pg_call(b, "DELETE FROM ferry.stage WHERE tenant_id = $1 AND device_id = $2 AND number = $3 AND staging <> $4");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &m->entries[0].item->device);
	pg_arg_int8(b, m->entries[0].item->number);
	pg_arg_int8(b, kept_staging(m));
}

static void settle(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	forget_former(m);
	if (!settle_verdicts(m) || !settle_rejected(m) || !settle_devices(m)) {
		pg_op_end(&m->op, FERRY_LIMIT);
		return;
	}
	pg_park_settle(m);
	if (m->staged)
		settle_stage(m);
	m->finish_call = pg_call(b, "SELECT tenant_id, position FROM ferry.finish()");
	pg_call(b, "COMMIT");
	pg_op_run(&m->op, pg_run_settled);
}

static void told(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_tell_read(m);
	pg_room_read(m);
	pg_batch_reset(&op->batch);
	m->phase = MERGE_SETTLES;
	settle(m);
}

void pg_run_settle(struct merge_op *m)
{
	bool asks = pg_tell_ask(m);

	if (pg_room_ask(m) || asks)
		pg_op_run(&m->op, told);
	else
		settle(m);
}
