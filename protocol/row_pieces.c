#include "protocol/row_pieces.h"

#include <assert.h>
#include <string.h>

static bool has_bytes(const struct value *v)
{
	return v->kind == VALUE_TEXT || v->kind == VALUE_BYTES;
}

size_t row_bytes(const struct block *b, uint32_t row)
{
	size_t n = 0;

	for (uint16_t c = 0; c < b->column_count; c++) {
		const struct value *v = &b->cells[(size_t)c * b->row_count + row];

		n += has_bytes(v) ? v->n : 0;
	}
	return n;
}

/* ---- Cutting ---- */

/* As much of a cell as there is room for, whole characters of a text. */
static struct value slice(const struct value *v, uint32_t offset, size_t room)
{
	struct value out = *v;

	out.p = v->p + offset;
	out.n = v->n - offset;
	if (out.n <= room)
		return out;
	out.n = (uint32_t)room;
	while (v->kind == VALUE_TEXT && out.n > 0 && (out.p[out.n] & 0xc0) == 0x80)
		out.n--;
	return out;
}

/* The bases of the columns that begin in this piece. */
static bool take_bases(const struct row_cutter *c, struct arena *a, struct block *out)
{
	uint16_t first = (uint16_t)(c->column + c->begun);
	uint16_t end = (uint16_t)(c->column + out->column_count);
	struct row_base *bases = arena_array(a, c->row.base_count + 1u, sizeof(*bases));

	for (uint32_t i = 0; bases != NULL && i < c->row.base_count; i++) {
		bool here = c->row.bases[i].num == 0 && !c->begun;

		for (uint16_t k = first; k < end; k++)
			here |= c->row.bases[i].num == c->row.nums[k];
		if (here)
			bases[out->base_count++] = c->row.bases[i];
	}
	out->bases = bases;
	return bases != NULL;
}

bool row_cut(struct row_cutter *c, size_t room_bytes, struct arena *a, struct block *out)
{
	uint16_t left = (uint16_t)(c->row.column_count - c->column), column = c->column;
	struct value *cells = arena_array(a, left + 1u, sizeof(*cells));
	uint32_t offset = c->offset;

	assert(c->row.row_count == 1 && room_bytes >= ROW_PIECE_BYTES_MIN);
	if (cells == NULL)
		return false;
	*out = c->row;
	out->nums = c->row.nums + column;
	out->cells = cells;
	out->column_count = 0;
	out->base_count = 0;
	out->old_count = 0; /* [P 6.7] */
	out->goes_on = false;
	out->at = c->begun ? NULL : c->row.at;
	for (; column < c->row.column_count && !out->goes_on; column++) {
		struct value *cell = &cells[out->column_count++];

		*cell = c->row.cells[column];
		if (has_bytes(cell)) {
			*cell = slice(cell, offset, room_bytes);
			room_bytes -= cell->n;
			out->goes_on = offset + cell->n < c->row.cells[column].n;
			offset = out->goes_on ? offset + cell->n : 0;
		}
	}
	if (!take_bases(c, a, out))
		return false;
	c->column = (uint16_t)(column - out->goes_on);
	c->offset = offset;
	c->begun = out->goes_on;
	return true;
}

/* ---- Joining ---- */

void row_joiner_init(struct row_joiner *j)
{
	*j = (struct row_joiner){.open = false};
	buffer_init(&j->bytes, FERRY_ROW_BYTES_MAX);
}

void row_joiner_deinit(struct row_joiner *j)
{
	buffer_deinit(&j->bytes);
	row_joiner_init(j);
}

static void begin(struct row_joiner *j, const struct block *first)
{
	j->open = true;
	j->key = first->keys[0];
	j->at = first->at == NULL ? 0 : first->at[0];
	j->row = (struct block){.table = first->table, .op = first->op, .row_count = 1, .nums = j->nums, .keys = &j->key,
				.cells = j->cells, .at = first->at == NULL ? NULL : &j->at, .bases = j->bases};
}

static bool continues(const struct row_joiner *j, const struct block *piece)
{
	uint16_t last = (uint16_t)(j->row.column_count - 1);

	return piece->table == j->row.table && piece->op == j->row.op && piece->row_count == 1 &&
	       uuid_equal(&piece->keys[0], &j->key) && piece->column_count > 0 && piece->nums[0] == j->nums[last] &&
	       piece->cells[0].kind == j->cells[last].kind && piece->at == NULL;
}

static enum ferry_error take_cell(struct row_joiner *j, uint16_t num, const struct value *v, bool appended)
{
	struct value *into;

	if (!appended) {
		if (j->row.column_count == FERRY_COLUMNS_MAX)
			return FERRY_BAD_MESSAGE;
		j->nums[j->row.column_count] = num;
		j->cells[j->row.column_count] = *v;
		j->cells[j->row.column_count++].n = 0;
	}
	into = &j->cells[j->row.column_count - 1];
	if (!has_bytes(v))
		return FERRY_OK;
	if (!buffer_append(&j->bytes, v->p, v->n))
		return FERRY_ROW_TOO_LARGE;
	into->n += v->n;
	return FERRY_OK;
}

static enum ferry_error take_piece(struct row_joiner *j, const struct block *piece)
{
	bool appends = j->row.column_count > 0;
	enum ferry_error e = FERRY_OK;

	for (uint16_t c = 0; c < piece->column_count && e == FERRY_OK; c++)
		e = take_cell(j, piece->nums[c], &piece->cells[c], appends && c == 0);
	for (uint32_t i = 0; i < piece->base_count && e == FERRY_OK; i++) {
		const struct row_base *base = &piece->bases[i];

		if (j->row.base_count > 0 && j->bases[j->row.base_count - 1].num >= base->num)
			e = FERRY_BAD_MESSAGE;
		else
			j->bases[j->row.base_count++] = *base;
	}
	return e;
}

/* The buffer moves no more. */
static void finish(struct row_joiner *j)
{
	size_t at = 0;

	for (uint16_t c = 0; c < j->row.column_count; c++) {
		if (!has_bytes(&j->cells[c]))
			continue;
		j->cells[c].p = j->bytes.p + at;
		at += j->cells[c].n;
	}
	j->open = false;
}

enum ferry_error row_join(struct row_joiner *j, const struct block *piece, bool *out_whole)
{
	enum ferry_error e;

	if (j->open && !continues(j, piece)) {
		row_joiner_deinit(j);
		return FERRY_BAD_MESSAGE;
	}
	if (!j->open)
		begin(j, piece);
	e = take_piece(j, piece);
	if (e != FERRY_OK) {
		row_joiner_deinit(j);
		return e;
	}
	*out_whole = !piece->goes_on;
	if (*out_whole)
		finish(j);
	return FERRY_OK;
}
