/* The entries of a run: what the database knows of their devices and numbers,
 * asked before anything is merged (part A of pg_merge.h). */
#include <stdlib.h>
#include <string.h>

#include "hub/pg_merge.h"
#include "hub/pg_verdicts.h"

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

void pg_run_park(struct merge_op *m, struct merge_entry *e, int code, const char *sentence)
{
	e->state = ITEM_PARKED;
	e->verdict = VERDICT_PARKED;
	e->code = code;
	e->sentence = answer_text(m, sentence);
}

void pg_run_refuse(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f)
{
	struct ferry_why why = {{0}};

	pg_sentence_of_failure(f, &why);
	pg_run_reject(m, e, pg_code_of_failure(f), why.text);
	e->constraint = f->constraint[0] ? answer_text(m, f->constraint) : NULL;
	e->table = f->table[0] ? answer_text(m, f->table) : NULL;
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

bool pg_entry_refused(const struct merge_op *m, const struct uuid *device, int64_t number)
{
	const struct run_number *n = find_number(m->refused, m->refused_count, device, number);

	return n && !n->parked;
}

bool pg_entry_parked(const struct merge_op *m, const struct uuid *device, int64_t number)
{
	const struct run_number *n = find_number(m->refused, m->refused_count, device, number);

	return n && n->parked;
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
	"SELECT d.id, d.settled, d.settled_above, coalesce(d.failed_at > now() - make_interval(secs => $3::int), false), d.life, d.apart "
	"FROM ferry.device d WHERE d.tenant_id = $1 AND d.id = ANY ($2) AND d.status = 'active' ORDER BY d.id FOR UPDATE";
static const char scopes_sql[] =
	"SELECT s.device_id, s.scope FROM ferry.held_scope s WHERE s.device_id = ANY ($1)";
static const char settled_sql[] =
	"SELECT s.device_id, s.number, s.verdict, coalesce(s.code, 0), s.sentence, coalesce(c.position, 0) "
	"FROM unnest($2::uuid[], $3::bigint[]) AS u(device, number) "
	"JOIN ferry.settled s ON s.tenant_id = $1 AND s.device_id = u.device AND s.number = u.number "
	"LEFT JOIN ferry.commit c ON c.tx = s.tx AND c.tenant_id = $1";
static const char refused_sql[] =
	"SELECT r.device_id, r.number, r.parked_until IS NOT NULL FROM unnest($2::uuid[], $3::bigint[]) AS u(device, number) "
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

static void ask_refused(struct merge_op *m, const struct uuid *devices, const int64_t *numbers, uint32_t n)
{
	struct pg_batch *b = &m->op.batch;

	m->refused_call = pg_call(b, refused_sql);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, devices, n);
	pg_arg_int8s(b, numbers, n);
}

void pg_entries_ask_refused(struct merge_op *m, const struct change_set *part)
{
	struct pg_batch *b = &m->op.batch;
	struct uuid *devices = arena_array(&b->arena, part->depends_count + 1u, sizeof(*devices));

	if (!devices) {
		b->full = true;
		return;
	}
	for (uint32_t d = 0; d < part->depends_count; d++)
		devices[d] = m->entries[0].item->device;
	ask_refused(m, devices, part->depends, part->depends_count);
}

/* The refused among the change-sets that the run's depend on. */
static void ask_all_refused(struct merge_op *m)
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
	ask_refused(m, devices, numbers, n);
}

bool pg_entries_make(struct merge_op *m)
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
void pg_entries_take_forced(struct merge_op *m)
{
	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct settled *s = &m->results[m->first + i].settled;

		m->entries[i].device = find_device(m, &m->entries[i].item->device);
		if (s->code != 0)
			pg_run_reject(m, &m->entries[i], s->code, s->sentence);
		else if (m->entries[i].item->refused != FERRY_OK) /* a replay keeps its verdict (R18) */
			pg_run_reject(m, &m->entries[i], m->entries[i].item->refused, m->entries[i].item->sentence);
		else
			continue;
		m->entries[i].forced = true;
	}
}

void pg_entries_ask(struct merge_op *m)
{
	ask_devices(m);
	ask_items(m, settled_sql, &m->settled_call);
	ask_all_refused(m);
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
		d->life = pg_int(b, m->device_call, row, 4);
		d->apart = pg_int(b, m->device_call, row, 5);
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

bool pg_entry_settled(const struct merge_device *d, int64_t number)
{
	if (number <= d->settled)
		return true;
	for (uint32_t i = 0; i < d->above_count; i++) {
		if (d->above[i] == number)
			return true;
	}
	return false;
}

/* Of two copies that are connected to two hubs, the older one's numbers may mean
 * other content than what was settled under them. */
bool pg_entry_elsewhere(const struct merge_entry *e)
{
	return e->device->known && e->item->life != 0 && e->item->life != e->device->life;
}

/* The stored verdict of a repeated one; none is kept when the device had it
 * confirmed long ago, and then it was not rejected (see bookmark upkeep). */
static void read_repeated(struct merge_op *m)
{
	const struct pg_batch *b = &m->load;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		struct merge_entry *e = &m->entries[i];

		if (!e->device->known || pg_entry_elsewhere(e))
			e->state = ITEM_HELD; /* revoked or moved meanwhile: the session ends */
		else if (pg_entry_settled(e->device, e->item->number))
			e->state = ITEM_REPEATED;
		else if (pg_run_find(m, &e->item->device, e->item->number) != e)
			e->state = ITEM_HELD; /* twice in one call: later it is a repeated one */
	}
	for (uint32_t row = 0; row < pg_rows(b, m->settled_call); row++) {
		struct uuid id = pg_uuid(b, m->settled_call, row, 0);
		struct merge_entry *e = pg_run_find(m, &id, pg_int(b, m->settled_call, row, 1));

		if (!e || e->state != ITEM_REPEATED)
			continue;
		e->verdict = pg_verdict_named(pg_text(b, m->settled_call, row, 2));
		if (e->item->again && (e->verdict == VERDICT_REJECTED || e->verdict == VERDICT_PARKED)) {
			e->state = ITEM_WAITING; /* the device's lock keeps others from doing the same */
			if (e->verdict == VERDICT_PARKED && !pg_is_null(b, m->settled_call, row, 4))
				e->former = answer_text(m, pg_text(b, m->settled_call, row, 4));
			e->verdict = VERDICT_ACCEPTED;
			continue;
		}
		e->code = (int)pg_int(b, m->settled_call, row, 3);
		if (!pg_is_null(b, m->settled_call, row, 4))
			e->sentence = answer_text(m, pg_text(b, m->settled_call, row, 4));
		e->position = pg_int(b, m->settled_call, row, 5);
	}
}

bool pg_entries_read_refused(struct merge_op *m)
{
	const struct pg_batch *b = &m->load;
	uint32_t rows = pg_rows(b, m->refused_call);

	m->refused = arena_array(&m->arena, rows + 1u, sizeof(*m->refused));
	if (!m->refused)
		return false;
	for (uint32_t row = 0; row < rows; row++)
		m->refused[row] = (struct run_number){.device = pg_uuid(b, m->refused_call, row, 0),
						      .number = pg_int(b, m->refused_call, row, 1),
						      .parked = pg_bool(b, m->refused_call, row, 2)};
	m->refused_count = rows;
	if (rows)
		qsort(m->refused, rows, sizeof(*m->refused), compare_number);
	return true;
}

bool pg_entries_read(struct merge_op *m)
{
	if (!read_devices(m) || !pg_entries_read_refused(m))
		return false;
	read_repeated(m);
	return true;
}
