/* The merge transaction: runs, groups, verdicts. What it looks like as a
 * whole stands in pg_merge.h. */
#include "hub/pg_merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_begin(struct pg_op *op);
static void group_next(struct merge_op *m);

/* ----------------------------------------------------------------- entries */

static const char *answer_text(struct merge_op *m, const char *text)
{
	const char *copy = arena_text(&m->answers, text, strlen(text));

	return copy ? copy : "";
}

void pg_run_reject(struct merge_op *m, struct merge_entry *e, int code, const char *sentence)
{
	e->state = ITEM_REJECTED;
	e->verdict = VERDICT_REJECTED;
	e->code = code;
	e->sentence = answer_text(m, sentence && sentence[0] ? sentence : ferry_error_text(code));
}

void pg_run_refuse(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f)
{
	struct ferry_why why = {{0}};

	pg_sentence_of_failure(f, &why);
	pg_run_reject(m, e, pg_code_of_failure(f), why.text);
	e->device->failed = true;
}

static int compare_number(const void *x, const void *y)
{
	const struct run_number *a = x, *b = y;
	int order = uuid_compare(&a->device, &b->device);

	if (order)
		return order;
	return a->number < b->number ? -1 : a->number > b->number;
}

static const struct run_number *find_number(const struct run_number *list, uint32_t count, const struct uuid *device,
					    int64_t number)
{
	struct run_number key = {.device = *device, .number = number};

	return count ? bsearch(&key, list, count, sizeof(key), compare_number) : NULL;
}

struct merge_entry *pg_run_find(struct merge_op *m, const struct uuid *device, int64_t number)
{
	const struct run_number *n = find_number(m->numbers, m->number_count, device, number);

	return n ? &m->entries[n->index] : NULL;
}

static int compare_device(const void *x, const void *y)
{
	return uuid_compare(&((const struct merge_device *)x)->id, &((const struct merge_device *)y)->id);
}

static struct merge_device *find_device(struct merge_op *m, const struct uuid *id)
{
	struct merge_device key = {.id = *id};

	return bsearch(&key, m->devices, m->device_count, sizeof(key), compare_device);
}

/* --------------------------------------------------------------- the answer */

static void merge_answer(struct pg_op *op, enum ferry_error e)
{
	struct merge_op *m = (struct merge_op *)op;

	if (e != FERRY_OK && m->committed) {
		/* What is committed must be told; the rest comes again. */
		for (uint32_t i = m->first; i < m->count; i++)
			m->results[i].retry = true;
		e = FERRY_OK;
	}
	m->cb(m->ctx, e, e == FERRY_OK ? m->results : NULL, e == FERRY_OK ? m->count : 0);
}

static void merge_release(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	merge_free(m->merge);
	pg_batch_deinit(&m->load);
	arena_deinit(&m->arena);
	arena_deinit(&m->load_arena);
	arena_deinit(&m->part_arena);
	arena_deinit(&m->answers);
	free(m->results);
}

static void run_results(struct merge_op *m, int64_t position)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_entry *e = &m->entries[i];
		struct merge_result *r = &m->results[m->first + i];

		r->repeated = e->state == ITEM_REPEATED;
		r->retry = e->state == ITEM_HELD || e->state == ITEM_WAITING;
		m->op.store->stats.held_back += r->retry;
		r->settled.verdict = e->verdict;
		r->settled.position = r->repeated ? e->position : position;
		r->settled.code = e->code;
		r->settled.sentence = e->sentence;
	}
}

/* The next run's end; false: there is none. */
static bool run_next(struct merge_op *m)
{
	if (m->first == m->count)
		return false;
	m->staged = m->items[m->first].set == NULL;
	m->last = m->first + 1;
	while (!m->staged && m->last < m->count && m->last - m->first < m->run_max && m->items[m->last].set)
		m->last++;
	return true;
}

static void run_end(struct merge_op *m)
{
	m->first = m->last;
	m->passing = 0;
	m->key_clashes = 0;
	m->op.attempts = 0;
	if (!run_next(m))
		pg_op_end(&m->op, FERRY_OK);
	else
		run_begin(&m->op);
}

static void run_rolled_back(struct pg_op *op)
{
	run_end((struct merge_op *)op);
}

void pg_run_settled(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	int64_t position = 0;

	for (uint32_t row = 0; row < pg_rows(&op->batch, m->finish_call); row++) {
		struct uuid tenant = pg_uuid(&op->batch, m->finish_call, row, 0);

		if (uuid_equal(&tenant, &op->tenant))
			position = pg_int(&op->batch, m->finish_call, row, 1);
	}
	m->committed = true;
	op->store->stats.merges++;
	op->store->rows_written += m->row_wish;
	pg_store_fold(op->store);
	run_results(m, position);
	run_end(m);
}

void pg_run_abandon(struct merge_op *m)
{
	run_results(m, 0);
	m->phase = MERGE_LOADS;
	pg_batch_reset(&m->op.batch);
	pg_call(&m->op.batch, "ROLLBACK");
	pg_op_run(&m->op, run_rolled_back);
}

/* ------------------------------------------------------------ A: what to ask */

static void ask_items(struct merge_op *m, const char *sql, uint32_t *out_call)
{
	struct pg_batch *b = &m->op.batch;
	struct uuid *devices = arena_array(&b->arena, m->entry_count, sizeof(*devices));
	int64_t *numbers = arena_array(&b->arena, m->entry_count, sizeof(*numbers));

	if (!devices || !numbers) {
		b->full = true;
		return;
	}
	for (uint32_t i = 0; i < m->entry_count; i++) {
		devices[i] = m->entries[i].item->device;
		numbers[i] = m->entries[i].item->number;
	}
	*out_call = pg_call(b, sql);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, devices, m->entry_count);
	pg_arg_int8s(b, numbers, m->entry_count);
}

static const char devices_sql[] =
	"SELECT d.id, d.settled, d.settled_above, coalesce(d.failed_at > now() - make_interval(secs => $3::int), false) "
	"FROM ferry.device d WHERE d.tenant_id = $1 AND d.id = ANY ($2) AND d.status = 'active' ORDER BY d.id FOR UPDATE";
static const char scopes_sql[] =
	"SELECT s.device_id, s.scope FROM ferry.device_scope s WHERE s.device_id = ANY ($1)";
static const char settled_sql[] =
	"SELECT s.device_id, s.number, s.verdict, coalesce(s.code, 0), s.sentence, coalesce(c.position, 0) "
	"FROM unnest($2::uuid[], $3::bigint[]) AS u(device, number) "
	"JOIN ferry.settled s ON s.tenant_id = $1 AND s.device_id = u.device AND s.number = u.number "
	"LEFT JOIN ferry.commit c ON c.tx = s.tx AND c.tenant_id = $1";
static const char refused_sql[] =
	"SELECT r.device_id, r.number FROM unnest($2::uuid[], $3::bigint[]) AS u(device, number) "
	"JOIN ferry.rejected r ON r.tenant_id = $1 AND r.device_id = u.device AND r.number = u.number";

static void ask_devices(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	struct uuid *ids = arena_array(&b->arena, m->device_count, sizeof(*ids));

	if (!ids) {
		b->full = true;
		return;
	}
	for (uint32_t i = 0; i < m->device_count; i++)
		ids[i] = m->devices[i].id;
	m->device_call = pg_call(b, devices_sql);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, ids, m->device_count);
	pg_arg_int4(b, MERGE_SUSPECT_SECONDS);
	m->scopes_call = pg_call(b, scopes_sql);
	pg_arg_uuids(b, ids, m->device_count);
}

/* The refused among the change-sets that the run's depend on. */
static void ask_refused(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	struct uuid *devices;
	int64_t *numbers;
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->entry_count; i++)
		n += m->entries[i].item->set ? m->entries[i].item->set->depends_count : 0;
	devices = arena_array(&b->arena, n + 1u, sizeof(*devices));
	numbers = arena_array(&b->arena, n + 1u, sizeof(*numbers));
	if (!devices || !numbers) {
		b->full = true;
		return;
	}
	n = 0;
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct change_set *s = m->entries[i].item->set;

		for (uint32_t d = 0; s && d < s->depends_count; d++) {
			devices[n] = m->entries[i].item->device;
			numbers[n++] = s->depends[d];
		}
	}
	m->refused_call = pg_call(b, refused_sql);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, devices, n);
	pg_arg_int8s(b, numbers, n);
}

static bool make_entries(struct merge_op *m)
{
	m->entry_count = m->last - m->first;
	m->entries = arena_array(&m->arena, m->entry_count, sizeof(*m->entries));
	m->numbers = arena_array(&m->arena, m->entry_count, sizeof(*m->numbers));
	m->devices = arena_array(&m->arena, m->entry_count, sizeof(*m->devices));
	m->order = arena_array(&m->arena, m->entry_count, sizeof(*m->order));
	m->outcomes = arena_array(&m->arena, m->entry_count, sizeof(*m->outcomes));
	m->stack = arena_array(&m->arena, (size_t)m->entry_count * 2 + 64, sizeof(*m->stack));
	if (!m->entries || !m->numbers || !m->devices || !m->order || !m->outcomes || !m->stack)
		return false;
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_item *item = &m->items[m->first + i];

		m->entries[i] = (struct merge_entry){.item = item, .verdict = VERDICT_ACCEPTED};
		m->numbers[i] = (struct run_number){.device = item->device, .number = item->number, .index = i};
		m->devices[i].id = item->device;
	}
	m->number_count = m->entry_count;
	qsort(m->numbers, m->number_count, sizeof(*m->numbers), compare_number);
	qsort(m->devices, m->entry_count, sizeof(*m->devices), compare_device);
	m->device_count = 0;
	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (m->device_count == 0 || !uuid_equal(&m->devices[m->device_count - 1].id, &m->devices[i].id))
			m->devices[m->device_count++].id = m->devices[i].id;
	}
	return true;
}

/* Rejections that an error at the commit has forced outlive the attempt. */
static void take_forced(struct merge_op *m)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct settled *s = &m->results[m->first + i].settled;

		m->entries[i].device = find_device(m, &m->entries[i].item->device);
		if (s->code == 0)
			continue;
		pg_run_reject(m, &m->entries[i], s->code, s->sentence);
		m->entries[i].forced = true;
	}
}

static void run_forget(struct merge_op *m)
{
	merge_free(m->merge);
	m->merge = NULL;
	m->merge_is_whole = false;
	pg_load_forget(m);
	arena_reset(&m->load_arena);
	arena_reset(&m->part_arena);
	arena_reset(&m->arena);
	m->refused_count = m->stack_count = m->order_count = m->check_count = 0;
	m->part = 0;
	m->row_wish = 0;
	m->savepoint = false;
	m->phase = MERGE_LOADS;
}

static void run_loaded(struct pg_op *op);

static void run_begin(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	char timeout[16];
	bool ok;

	run_next(m);
	run_forget(m);
	ok = make_entries(m);
	if (ok)
		take_forced(m);
	pg_op_begin(op, "");
	m->touch_call = pg_call(&op->batch, "SELECT ferry.touch($1), ferry.merging(true), set_config('lock_timeout', $2, true)");
	pg_arg_uuid(&op->batch, &op->tenant);
	snprintf(timeout, sizeof(timeout), "%u", op->store->config.lock_timeout_ms);
	pg_arg_text(&op->batch, timeout);
	if (ok) {
		ask_devices(m);
		ask_items(m, settled_sql, &m->settled_call);
		ask_refused(m);
	}
	if (ok && m->staged)
		pg_stage_ask(m, 0);
	for (uint32_t i = 0; ok && !m->staged && i < m->entry_count; i++)
		ok = m->entries[i].forced || pg_load_wants(m, m->entries[i].item->set);
	if (ok && (m->staged || m->row_wish > PG_PLAN_FOR_SIZE_ROWS))
		pg_op_plan_for_size(op);
	if (ok && !m->staged)
		pg_load_ask(m, true);
	if (!ok)
		pg_op_end(op, FERRY_LIMIT);
	else
		pg_op_run(op, run_loaded);
}

/* ----------------------------------------------------------- A: the answers */

static bool read_above(struct merge_op *m, uint32_t row, struct merge_device *d)
{
	struct pg_elements e;
	uint32_t n = pg_elements(&m->load, m->device_call, row, 2, &e);
	const uint8_t *p;
	size_t length;

	d->above = arena_array(&m->arena, n + m->entry_count, sizeof(*d->above));
	if (!d->above)
		return false;
	while (pg_element(&e, &p, &length))
		d->above[d->above_count++] = pg_element_int(p, length);
	return true;
}

static bool read_devices(struct merge_op *m)
{
	const struct pg_batch *b = &m->load;

	for (uint32_t row = 0; row < pg_rows(b, m->device_call); row++) {
		struct uuid id = pg_uuid(b, m->device_call, row, 0);
		struct merge_device *d = find_device(m, &id);

		d->known = true;
		d->settled = pg_int(b, m->device_call, row, 1);
		d->suspect = pg_bool(b, m->device_call, row, 3);
		if (!read_above(m, row, d))
			return false;
	}
	for (uint32_t row = 0; row < pg_rows(b, m->scopes_call); row++) {
		struct uuid id = pg_uuid(b, m->scopes_call, row, 0);
		struct merge_device *d = find_device(m, &id);
		const char *scope = pg_text(b, m->scopes_call, row, 1);

		if (!d->scopes) /* each device at most all of them */
			d->scopes = arena_array(&m->arena, pg_rows(b, m->scopes_call), sizeof(*d->scopes));
		if (!d->scopes)
			return false;
		scope = arena_text(&m->arena, scope, strlen(scope));
		if (!scope)
			return false;
		d->scopes[d->scope_count++] = scope;
	}
	return true;
}

static bool is_settled(const struct merge_device *d, int64_t number)
{
	if (number <= d->settled)
		return true;
	for (uint32_t i = 0; i < d->above_count; i++) {
		if (d->above[i] == number)
			return true;
	}
	return false;
}

static enum verdict verdict_from_name(const char *name)
{
	switch (name[0]) {
	case 'a':
		return VERDICT_ACCEPTED;
	case 's':
		return VERDICT_SUPERSEDED;
	case 'p':
		return VERDICT_PARKED;
	default:
		return VERDICT_REJECTED;
	}
}

/* The stored verdict of a repeated one; none is kept when the device had it
 * confirmed long ago, and then it was not rejected (see bookmark upkeep). */
static void read_repeated(struct merge_op *m)
{
	const struct pg_batch *b = &m->load;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		struct merge_entry *e = &m->entries[i];

		if (!e->device->known)
			e->state = ITEM_HELD; /* revoked or moved meanwhile: the session ends */
		else if (is_settled(e->device, e->item->number))
			e->state = ITEM_REPEATED;
		else if (pg_run_find(m, &e->item->device, e->item->number) != e)
			e->state = ITEM_HELD; /* twice in one call: later it is a repeated one */
	}
	for (uint32_t row = 0; row < pg_rows(b, m->settled_call); row++) {
		struct uuid id = pg_uuid(b, m->settled_call, row, 0);
		struct merge_entry *e = pg_run_find(m, &id, pg_int(b, m->settled_call, row, 1));

		if (!e || e->state != ITEM_REPEATED)
			continue;
		e->verdict = verdict_from_name(pg_text(b, m->settled_call, row, 2));
		e->code = (int)pg_int(b, m->settled_call, row, 3);
		if (!pg_is_null(b, m->settled_call, row, 4))
			e->sentence = answer_text(m, pg_text(b, m->settled_call, row, 4));
		e->position = pg_int(b, m->settled_call, row, 5);
	}
}

static bool read_refused(struct merge_op *m)
{
	const struct pg_batch *b = &m->load;
	uint32_t rows = pg_rows(b, m->refused_call);

	m->refused = arena_array(&m->arena, rows + 1u, sizeof(*m->refused));
	if (!m->refused)
		return false;
	for (uint32_t row = 0; row < rows; row++)
		m->refused[row] = (struct run_number){.device = pg_uuid(b, m->refused_call, row, 0),
						      .number = pg_int(b, m->refused_call, row, 1)};
	m->refused_count = rows;
	if (rows)
		qsort(m->refused, rows, sizeof(*m->refused), compare_number);
	return true;
}

static void groups_start(struct merge_op *m);

static void suspects_seen(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	pg_load_read_suspects(m);
	groups_start(m);
}

static void run_loaded(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	enum ferry_error e;

	if (!pg_op_current(op))
		return;
	/* The answers stay while further batches run: rows point into them. */
	pg_batch_deinit(&m->load);
	m->load = op->batch;
	pg_batch_init(&op->batch, PG_BATCH_BYTES_MAX);
	m->tx = pg_int(&m->load, m->touch_call, 0, 0);
	if (!read_devices(m) || !read_refused(m)) {
		pg_op_end(op, FERRY_LIMIT);
		return;
	}
	read_repeated(m);
	if (m->staged) {
		pg_stage_begin(m);
		return;
	}
	e = pg_load_read(m);
	if (e != FERRY_OK)
		pg_op_end(op, e);
	else if (pg_load_ask_suspects(m))
		pg_op_run(op, suspects_seen);
	else
		groups_start(m);
}

/* --------------------------------------------------------------- admission */

static bool holds_scope(const struct merge_device *d, const char *scope)
{
	for (uint32_t i = 0; i < d->scope_count; i++) {
		if (strcmp(d->scopes[i], scope) == 0)
			return true;
	}
	return false;
}

static void admit_depends(struct merge_op *m, struct merge_entry *e, const struct change_set *s)
{
	for (uint32_t i = 0; i < s->depends_count && e->state == ITEM_WAITING; i++) {
		int64_t number = s->depends[i];
		const struct merge_entry *other = pg_run_find(m, &e->item->device, number);
		char sentence[120];

		if (find_number(m->refused, m->refused_count, &e->item->device, number) ||
		    (other && other->verdict == VERDICT_REJECTED)) {
			snprintf(sentence, sizeof(sentence), "it builds on change-set %lld, which was refused",
				 (long long)number);
			pg_run_reject(m, e, FERRY_DEPENDS, sentence);
		} else if (other ? other->state == ITEM_WAITING || other->state == ITEM_HELD
				 : !is_settled(e->device, number)) {
			e->state = ITEM_HELD;
		}
	}
}

/* Rows that somebody else holds make it wait; rows that are outside the
 * device's scopes before the write refuse it (P7). */
static void admit_rows(struct merge_op *m, struct merge_entry *e, const struct block *b)
{
	const struct merge_table *t = pg_load_table(m, b->table);
	const char *good = NULL; /* scope of the row before: mostly the same */

	if (!t)
		return;
	if (b->op == ROW_INSERT && t->table->scope_form <= PG_SCOPE_GLOBAL && !holds_scope(e->device, "tenant")) {
		pg_run_reject(m, e, FERRY_OUT_OF_SCOPE, "a new row would be outside this device's scopes");
		return;
	}
	for (uint32_t r = 0; r < b->row_count; r++) {
		int64_t i = pg_load_row(t, &b->keys[r]);

		if (i < 0)
			continue;
		if (t->held[i]) {
			e->state = ITEM_HELD;
			return;
		}
		if (!t->rows[i].exists || !t->scopes[i] || (good && strcmp(good, t->scopes[i]) == 0))
			continue;
		if (!holds_scope(e->device, t->scopes[i])) {
			pg_run_reject(m, e, FERRY_OUT_OF_SCOPE, "a row is outside this device's scopes");
			return;
		}
		good = t->scopes[i];
	}
}

static void admit_tenant(struct merge_op *m, struct merge_entry *e, const struct block *b)
{
	const struct merge_table *t = pg_load_table(m, b->table);

	for (uint16_t c = 0; t && c < b->column_count; c++) {
		int column = pg_table_column(t->table, b->nums[c]);

		if (column < 0 || !t->table->columns[column].is_tenant)
			continue;
		for (uint32_t r = 0; r < b->row_count; r++) {
			const struct value *v = &b->cells[(size_t)c * b->row_count + r];

			if (v->kind != VALUE_BYTES || v->n != sizeof(m->op.tenant.b) ||
			    memcmp(v->p, m->op.tenant.b, v->n) == 0)
				continue;
			pg_run_reject(m, e, FERRY_FOREIGN_TENANT, "a row names another tenant");
			return;
		}
	}
}

void pg_run_admit(struct merge_op *m, struct merge_entry *e, const struct change_set *s)
{
	admit_depends(m, e, s);
	for (uint32_t i = 0; i < s->block_count && e->state == ITEM_WAITING; i++) {
		admit_rows(m, e, &s->blocks[i]);
		if (e->state == ITEM_WAITING)
			admit_tenant(m, e, &s->blocks[i]);
	}
}

/* ------------------------------------------------------------------ groups */

/* Devices that failed lately come last, each in a group of its own (R11). */
static void groups_start(struct merge_op *m)
{
	uint32_t sound;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (!m->entries[i].device->suspect)
			m->order[m->order_count++] = i;
	}
	sound = m->order_count;
	for (uint32_t d = 0; d < m->device_count; d++) {
		uint32_t first = m->order_count;

		for (uint32_t i = 0; m->devices[d].suspect && i < m->entry_count; i++) {
			if (m->entries[i].device == &m->devices[d])
				m->order[m->order_count++] = i;
		}
		if (m->order_count > first)
			m->stack[m->stack_count++] = (struct range){first, m->order_count - first};
	}
	if (sound)
		m->stack[m->stack_count++] = (struct range){0, sound};
	group_next(m);
}

static enum ferry_error apply_entry(struct merge_op *m, struct merge_entry *e)
{
	int64_t now = m->op.store->io->wall(m->op.store->io->ctx);
	struct merge_outcome *o = &m->outcomes[e - m->entries];
	enum ferry_error error = merge_apply(m->merge, &e->item->device, e->item->set, now, o);

	if (error != FERRY_OK)
		return error;
	if (o->verdict == VERDICT_REJECTED) {
		pg_run_reject(m, e, o->code, o->why.text);
		return FERRY_OK;
	}
	e->state = ITEM_APPLIED;
	e->verdict = o->verdict;
	return FERRY_OK;
}

/* A merge that holds exactly what stands: after a group was taken back. */
static enum ferry_error rebuild(struct merge_op *m)
{
	struct merge_writes ignored;
	enum ferry_error e;

	merge_free(m->merge);
	m->merge = merge_new(&m->op.catalog->hub.schema, m->op.store->config.merge_bytes_max);
	if (!m->merge)
		return FERRY_NO_MEMORY;
	e = pg_load_feed(m, m->merge);
	for (uint32_t i = 0; i < m->order_count && e == FERRY_OK; i++) {
		if (m->entries[m->order[i]].state == ITEM_APPLIED)
			e = apply_entry(m, &m->entries[m->order[i]]);
	}
	m->merge_is_whole = e == FERRY_OK;
	return e ? e : merge_take_writes(m->merge, &ignored);
}

/* What does not fit beside the others comes with the next batch; what does
 * not fit alone never will. */
static void entry_too_large(struct merge_op *m, struct merge_entry *e)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (m->entries[i].state == ITEM_APPLIED) {
			e->state = ITEM_HELD;
			return;
		}
	}
	pg_run_reject(m, e, FERRY_CHANGE_SET_TOO_LARGE, "the change-set is larger than the hub can merge at once");
}

static enum ferry_error apply_group(struct merge_op *m, uint32_t *out_applied)
{
	*out_applied = 0;
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		struct merge_entry *e = &m->entries[m->order[i]];
		enum ferry_error error;

		if (e->state == ITEM_WAITING)
			pg_run_admit(m, e, e->item->set);
		if (e->state != ITEM_WAITING)
			continue;
		error = apply_entry(m, e);
		if (error == FERRY_LIMIT)
			entry_too_large(m, e);
		else if (error != FERRY_OK)
			return error;
		*out_applied += e->state == ITEM_APPLIED;
	}
	return FERRY_OK;
}

static bool write_entries(struct merge_op *m)
{
	struct merge_writes w;

	if (merge_take_writes(m->merge, &w) != FERRY_OK || !pg_write_group(m, &w))
		return false;
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		uint32_t n = m->order[i];

		if (m->entries[n].state == ITEM_APPLIED)
			pg_write_conflicts(m, &m->entries[n], &m->outcomes[n]);
	}
	return true;
}

static void batch_reset(struct merge_op *m)
{
	pg_batch_reset(&m->op.batch);
	if (m->savepoint)
		pg_call(&m->op.batch, "RELEASE SAVEPOINT ferry_group");
	m->savepoint = false;
}

static void settle_only(struct merge_op *m)
{
	batch_reset(m);
	m->phase = MERGE_SETTLES;
	pg_run_settle(m);
}

static bool anything_to_settle(const struct merge_op *m)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (m->entries[i].state == ITEM_APPLIED || m->entries[i].state == ITEM_REJECTED)
			return true;
	}
	return false;
}

static void group_written(struct pg_op *op);

static void group_next(struct merge_op *m)
{
	uint32_t applied = 0;
	enum ferry_error e = FERRY_OK;

	while (m->stack_count > 0 && applied == 0 && e == FERRY_OK) {
		m->group = m->stack[--m->stack_count];
		if (!m->merge_is_whole)
			e = rebuild(m);
		if (e == FERRY_OK)
			e = apply_group(m, &applied);
	}
	if (e != FERRY_OK) {
		pg_op_end(&m->op, e);
		return;
	}
	if (applied == 0) {
		if (anything_to_settle(m))
			settle_only(m);
		else
			pg_run_abandon(m);
		return;
	}
	batch_reset(m);
	m->phase = MERGE_WRITES;
	pg_write_savepoint(m);
	if (!write_entries(m)) {
		pg_op_end(&m->op, FERRY_LIMIT);
		return;
	}
	pg_write_release(m);
	if (m->stack_count == 0 && !m->savepoint)
		pg_run_settle(m);
	else
		pg_op_run(&m->op, group_written);
}

/* Entries of the group that were applied wait again. */
static uint32_t group_reopen(struct merge_op *m)
{
	uint32_t n = 0;

	m->merge_is_whole = false;
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		struct merge_entry *e = &m->entries[m->order[i]];

		if (e->state != ITEM_APPLIED)
			continue;
		e->state = ITEM_WAITING;
		e->verdict = VERDICT_ACCEPTED;
		n++;
	}
	return n;
}

static void group_undone(struct pg_op *op)
{
	group_next((struct merge_op *)op);
}

void pg_run_undo(struct merge_op *m, pg_step next)
{
	pg_batch_reset(&m->op.batch);
	pg_call(&m->op.batch, "ROLLBACK TO SAVEPOINT ferry_group");
	pg_call(&m->op.batch, "RELEASE SAVEPOINT ferry_group");
	m->savepoint = false;
	m->phase = MERGE_LOADS;
	m->op.store->stats.narrowings++;
	pg_op_run(&m->op, next);
}

static void group_written(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;

	if (pg_write_read_checks(m) > 0) {
		(void)group_reopen(m); /* without those that are rejected now */
		m->stack[m->stack_count++] = m->group;
		pg_run_undo(m, group_undone);
		return;
	}
	m->stamp_next += m->group_stamps;
	group_next(m);
}

/* ---------------------------------------------------------------- failures */

static struct merge_entry *first_waiting(struct merge_op *m, uint32_t *out_at)
{
	for (uint32_t i = m->group.first; i < m->group.first + m->group.count; i++) {
		if (m->entries[m->order[i]].state == ITEM_WAITING) {
			*out_at = i;
			return &m->entries[m->order[i]];
		}
	}
	return NULL;
}

static void group_halve(struct merge_op *m, uint32_t waiting)
{
	uint32_t end = m->group.first + m->group.count, at = m->group.first, n = 0;

	while (n < waiting / 2)
		n += m->entries[m->order[at++]].state == ITEM_WAITING;
	m->stack[m->stack_count++] = (struct range){at, end - at};
	m->stack[m->stack_count++] = (struct range){m->group.first, at - m->group.first};
}

/* The primary key is taken by a row that was not there when we looked: made
 * meanwhile, so look again; or another tenant's, whom we cannot see. */
static bool is_key_clash(const struct merge_op *m, const struct pg_failure *f)
{
	if (strcmp(f->sqlstate, "23505") != 0)
		return false;
	for (uint32_t i = 0; i < m->table_count; i++) {
		if (strcmp(m->tables[i].table->key_constraint, f->constraint) == 0)
			return true;
	}
	return false;
}

static void group_refused(struct merge_op *m)
{
	struct pg_failure f = m->op.batch.failure;
	uint32_t waiting = group_reopen(m), at;
	struct merge_entry *e = first_waiting(m, &at);

	if (waiting > 1) {
		group_halve(m, waiting);
	} else if (e && is_key_clash(m, &f)) {
		if (m->key_clashes++ < MERGE_KEY_CLASHES_MAX) {
			pg_op_again(&m->op);
			return;
		}
		pg_run_reject(m, e, FERRY_FOREIGN_TENANT, "a row with this key exists already and is not visible here");
	} else if (e) {
		pg_run_refuse(m, e, &f);
	}
	pg_run_undo(m, group_undone);
}

/* An error at the very end names nobody: the change-sets go one by one, and
 * the one that still fails is refused by it. */
static void settle_refused(struct merge_op *m)
{
	const struct pg_failure *f = &m->op.batch.failure;
	struct merge_entry *e = &m->entries[0];
	struct settled *s = &m->results[m->first].settled;

	if (m->entry_count > 1) {
		m->run_max = 1;
		pg_op_again(&m->op);
		return;
	}
	if (e->forced) {
		pg_store_log(m->op.store, "a verdict could not be stored: %s %s", f->sqlstate, f->message);
		pg_op_end(&m->op, FERRY_DATABASE);
		return;
	}
	pg_run_refuse(m, e, f);
	s->code = e->code;
	s->sentence = e->sentence;
	pg_op_again(&m->op);
}

/* Passing failures: again from the start; when they do not pass, the
 * change-sets come again later instead of holding up others (R10, R12). */
static void merge_retry(struct merge_op *m)
{
	m->op.store->stats.merge_retries++;
	if (++m->passing < MERGE_PASSING_MAX) {
		pg_op_again(&m->op);
		return;
	}
	for (uint32_t i = m->first; i < m->last; i++) {
		m->results[i].retry = true;
		m->op.store->stats.held_back++;
	}
	m->first = m->last;
	m->passing = 0;
	if (run_next(m)) {
		pg_op_reacquire(&m->op);
		return;
	}
	pg_op_end(&m->op, FERRY_OK);
}

static bool merge_failed(struct pg_op *op)
{
	struct merge_op *m = (struct merge_op *)op;
	const struct pg_failure *f = &op->batch.failure;

	switch (f->class) {
	case PG_RETRY:
		merge_retry(m);
		return true;
	case PG_REFUSED:
		break;
	case PG_LOST: /* of a COMMIT the outcome is unknown: offered again, the settled numbers answer (P2) */
		pg_op_end(op, FERRY_DATABASE);
		return true;
	default:
		return false; /* stale: again */
	}
	if (m->phase == MERGE_LOADS)
		return false;
	if (m->phase == MERGE_WRITES && f->call <= m->release_call) {
		if (m->staged)
			pg_stage_refused(m);
		else
			group_refused(m);
		return true;
	}
	settle_refused(m);
	return true;
}

void pg_store_merge(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
		    hub_merge_cb cb, void *ctx)
{
	struct merge_op *m = pg_op_new(store, sizeof(*m), tenant, PG_LANE_WRITE);

	if (!m) {
		cb(ctx, FERRY_NO_MEMORY, NULL, 0);
		return;
	}
	m->items = items;
	m->count = count;
	m->cb = cb;
	m->ctx = ctx;
	m->run_max = UINT32_MAX;
	arena_init(&m->answers, 64 << 20);
	arena_init(&m->arena, MERGE_ARENA_BYTES_MAX);
	arena_init(&m->load_arena, MERGE_ARENA_BYTES_MAX);
	arena_init(&m->part_arena, 8 * FERRY_DECODE_BYTES_MAX);
	pg_batch_init(&m->load, PG_BATCH_BYTES_MAX);
	m->op.wants_catalog = true;
	m->op.first = run_begin;
	m->op.on_failure = merge_failed;
	m->op.answer = merge_answer;
	m->op.release = merge_release;
	m->results = calloc(count + 1u, sizeof(*m->results));
	if (!m->results) {
		pg_op_end(&m->op, FERRY_NO_MEMORY);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		m->results[i].device = items[i].device;
		m->results[i].settled.number = items[i].number;
	}
	if (count == 0)
		pg_op_end(&m->op, FERRY_OK);
	else
		pg_op_start(&m->op);
}
