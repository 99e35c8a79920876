/* A staged change-set's parts on their way to the merge (pg_merge_stage.c): asked
 * for, decoded, rows in pieces joined, put into the present schema. A portion
 * is a part, or some that together are no larger than a message. */
#include <string.h>

#include "hub/pg_merge.h"
#include "protocol/message.h"

void pg_portion_ask(struct merge_op *m, uint32_t part)
{
	struct pg_batch *b = &m->op.batch;

	m->part = part;
	m->stage_call = pg_call(b, "SELECT s.part, s.body FROM ("
				   "SELECT s.part, s.body, sum(length(s.body)) OVER (ORDER BY s.part) AS bytes "
				   "FROM ferry.stage s WHERE s.tenant_id = $1 AND s.device_id = $2 AND s.number = $3 AND s.staging = $7 "
				   "AND s.part >= $4 AND s.part < $4 + $5) s "
				   "WHERE s.part = $4 OR s.bytes <= $6 ORDER BY s.part");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &m->entries[0].item->device);
	pg_arg_int8(b, m->entries[0].item->number);
	pg_arg_int4(b, (int32_t)part);
	pg_arg_int4(b, MERGE_PARTS_MAX);
	pg_arg_int8(b, FERRY_MESSAGE_BYTES_MAX);
	pg_arg_int8(b, m->entries[0].item->staging);
}

void pg_portion_hold(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	pg_call(b, "SELECT FROM ferry.stage s WHERE s.tenant_id = $1 AND s.device_id = $2 AND s.number = $3 AND s.staging = $4 "
		   "AND s.part = 0 FOR KEY SHARE");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &m->entries[0].item->device);
	pg_arg_int8(b, m->entries[0].item->number);
	pg_arg_int8(b, m->entries[0].item->staging);
}

static bool take_part(struct merge_op *m, const struct pg_batch *from, uint32_t row)
{
	struct ferry_why why = {{0}};
	const uint8_t *body;
	size_t n;

	body = pg_bytes(from, m->stage_call, row, 1, &n);
	if (n == 0) {
		pg_run_reject(m, &m->entries[0], FERRY_KEPT_FULL,
			      "the hub has no room for it beside what it keeps of this device or tenant: its values are kept on the device alone");
		m->entries[0].unstored = true;
		return false;
	}
	body = arena_copy(&m->part_arena, body, n);
	if (!body || change_set_decode(&m->part_arena, body, n, &m->parts[row], &why) != FERRY_OK) {
		pg_run_reject(m, &m->entries[0], FERRY_BAD_MESSAGE, why.text);
		return false;
	}
	return true;
}

/* The row that was open, whole now, in the arena that its part lives in. */
static bool place_row(struct merge_op *m, struct block *into)
{
	struct arena *a = &m->part_arena;
	struct value *cells = arena_copy(a, m->row.cells, m->row.row.column_count * sizeof(*cells));
	bool good = cells != NULL;

	*into = m->row.row;
	into->nums = arena_copy(a, m->row.nums, into->column_count * sizeof(*into->nums));
	into->keys = arena_copy(a, &m->row.key, sizeof(m->row.key));
	into->at = into->at ? arena_copy(a, into->at, sizeof(*into->at)) : NULL;
	into->bases = arena_copy(a, m->row.bases, (into->base_count + 1u) * sizeof(*into->bases));
	into->cells = cells;
	for (uint16_t c = 0; good && c < into->column_count; c++) {
		if ((cells[c].kind != VALUE_TEXT && cells[c].kind != VALUE_BYTES) || cells[c].n == 0)
			continue;
		cells[c].p = arena_copy(a, cells[c].p, cells[c].n);
		good = cells[c].p != NULL;
	}
	row_joiner_deinit(&m->row);
	return good && into->nums && into->keys && into->bases;
}

static bool row_refused(struct merge_op *m, enum ferry_error e)
{
	if (e == FERRY_ROW_TOO_LARGE)
		pg_run_reject(m, &m->entries[0], (int)e, "a row has more bytes than a row may have");
	else
		pg_run_reject(m, &m->entries[0], (int)e, "the pieces of a row do not fit together");
	return false;
}

/* Takes pieces of rows out of a part, and puts a row in that has become whole. */
static bool join_rows(struct merge_op *m, struct change_set *part)
{
	uint32_t last = part->block_count ? part->block_count - 1 : 0, first = 0;
	struct block *blocks;
	enum ferry_error e;
	bool whole;

	if (!m->row.open && (part->block_count == 0 || !part->blocks[last].goes_on))
		return true;
	if (part->block_count == 0)
		return row_refused(m, FERRY_BAD_MESSAGE);
	blocks = arena_copy(&m->part_arena, part->blocks, part->block_count * sizeof(*blocks));
	if (!blocks)
		return row_refused(m, FERRY_ROW_TOO_LARGE);
	if (m->row.open) {
		e = row_join(&m->row, &blocks[0], &whole);
		if (e == FERRY_OK && whole && !place_row(m, &blocks[0]))
			e = FERRY_ROW_TOO_LARGE;
		if (e != FERRY_OK)
			return row_refused(m, e);
		first = whole ? 0 : 1;
	}
	part->blocks = blocks + first;
	part->block_count -= first;
	if (part->block_count == 0 || !blocks[last].goes_on)
		return true;
	part->block_count--;
	e = row_join(&m->row, &blocks[last], &whole);
	return e == FERRY_OK || row_refused(m, e);
}

bool pg_portion_more(const struct merge_op *m)
{
	return m->part_count == 0 || m->parts[m->part_count - 1].more;
}

/* Parts come one after the other or not at all: what a session has begun and not
 * finished is not asked for. One that is missing was taken away meanwhile by the
 * device's next session, which offers it again. */
static bool is_there(const struct merge_op *m, const struct pg_batch *from)
{
	uint32_t rows = pg_rows(from, m->stage_call);

	for (uint32_t row = 0; row < rows; row++) {
		if (pg_int(from, m->stage_call, row, 0) != (int64_t)m->part + row)
			return false;
	}
	return rows > 0;
}

enum portion pg_portion_take(struct merge_op *m, const struct pg_batch *from)
{
	uint32_t rows = pg_rows(from, m->stage_call);

	arena_reset(&m->part_arena);
	m->part_count = 0;
	if (!is_there(m, from)) {
		m->entries[0].state = ITEM_HELD;
		return PORTION_GONE;
	}
	while (m->part_count < rows && m->part_count < MERGE_PARTS_MAX && pg_portion_more(m)) {
		if (!take_part(m, from, m->part_count) || !join_rows(m, &m->parts[m->part_count]))
			return PORTION_REFUSED;
		m->part_count++;
	}
	m->conversions = (struct conversions){0};
	return pg_portion_translate(m);
}

enum portion pg_portion_translate(struct merge_op *m)
{
	struct change_set now[MERGE_PARTS_MAX];

	for (uint32_t i = 0; i < m->part_count; i++) {
		struct translation t;

		if (translate_set(&m->op.catalog->hub.schema, &m->op.catalog->past, &m->parts[i], &m->part_arena, &m->conversions,
				  &t) != FERRY_OK) {
			pg_run_reject(m, &m->entries[0], FERRY_CHANGE_SET_TOO_LARGE,
				      "the change-set is larger than the hub can translate");
			return PORTION_REFUSED;
		}
		if (t.code) {
			pg_run_reject(m, &m->entries[0], t.code, t.why.text);
			return PORTION_REFUSED;
		}
		now[i] = *t.set;
	}
	if (m->conversions.count > 0 && !m->conversions.answered)
		return PORTION_CONVERTS;
	memcpy(m->parts, now, m->part_count * sizeof(*now));
	return PORTION_READY;
}

bool pg_portion_keep(struct merge_op *m, bool deletions)
{
	for (uint32_t i = 0; i < m->part_count; i++) {
		struct block *kept = arena_array(&m->part_arena, m->parts[i].block_count + 1u, sizeof(*kept));
		uint32_t n = 0;

		if (!kept)
			return false;
		for (uint32_t k = 0; k < m->parts[i].block_count; k++) {
			if ((m->parts[i].blocks[k].op == ROW_DELETE) == deletions)
				kept[n++] = m->parts[i].blocks[k];
		}
		m->parts[i].blocks = kept;
		m->parts[i].block_count = n;
	}
	return true;
}

/* Pieces of a row that goes on are no blocks yet. */
bool pg_portion_is_empty(const struct merge_op *m)
{
	for (uint32_t i = 0; i < m->part_count; i++) {
		if (m->parts[i].block_count > 0)
			return false;
	}
	return true;
}
