/* [P 6] A block: rows of one table, one operation, one list of columns.
 *
 *   { 1: table                uint, from the schema message
 *     2: operation            1 insert, 2 update, 3 delete, 4 left
 *   ? 3: [num ...]            column numbers, ascending
 *     4: keys                 16 bytes a row
 *   ? 5: [[cell ...] ...]     a list for each num: a cell for each row, or one
 *                             cell that all rows have
 *   ? 6: [difference ...]     of each row's time to the row before (first: to 0)
 *   ? 7: [row, num, position, row, num, position ...]  exceptional bases
 *   ? 8: goes on            bool: the last cell goes on in the next message
 *   ? 9: [[num, cell ...] ...]  old values of columns, as in 5 }
 */
#include <assert.h>
#include <string.h>

#include "protocol/describe.h"
#include "protocol/fields.h"

enum block_key {
	BLOCK_TABLE = 1,
	BLOCK_OP = 2,
	BLOCK_NUMS = 3,
	BLOCK_KEYS = 4,
	BLOCK_COLUMNS = 5,
	BLOCK_AT = 6,
	BLOCK_BASES = 7,
	BLOCK_GOES_ON = 8,
	BLOCK_OLDS = 9,
};

static void fail(struct decoder *d, const char *complaint)
{
	reader_fail(&d->reader, FERRY_BAD_MESSAGE, complaint);
}

static uint32_t decode_table(struct decoder *d)
{
	uint64_t table = reader_uint(&d->reader);

	if (table == 0 || table > UINT32_MAX)
		fail(d, "a table number is out of range");
	return (uint32_t)table;
}

static enum row_op decode_op(struct decoder *d)
{
	uint64_t op = reader_uint(&d->reader);

	if (op < ROW_INSERT || op > ROW_LEFT) {
		fail(d, "an unknown row operation");
		return ROW_INSERT;
	}
	return (enum row_op)op;
}

static void decode_nums(struct decoder *d, struct block *b)
{
	uint32_t count = reader_array(&d->reader);
	uint16_t *nums;

	if (count > FERRY_COLUMNS_MAX)
		fail(d, "too many columns");
	if (d->reader.error != FERRY_OK)
		return;
	nums = decoder_array(d, count, sizeof(*nums));
	for (uint32_t i = 0; i < count && d->reader.error == FERRY_OK; i++) {
		uint64_t num = reader_uint(&d->reader);

		if (num > UINT16_MAX || num <= (i == 0 ? 0 : nums[i - 1]))
			fail(d, "column numbers are not ascending");
		nums[i] = (uint16_t)num;
	}
	reader_leave(&d->reader);
	b->nums = nums;
	b->column_count = (uint16_t)count;
}

/* The keys are used where they stand: struct uuid is 16 bytes without alignment. */
static void decode_keys(struct decoder *d, struct block *b)
{
	uint32_t n;
	const uint8_t *p = reader_bytes(&d->reader, &n);

	if (n % sizeof(struct uuid) != 0)
		fail(d, "keys that are not 16 bytes each");
	b->keys = (const struct uuid *)p;
	b->row_count = n / (uint32_t)sizeof(struct uuid);
}

/* `count` cells are what is left of the array that was entered. */
static void decode_cells(struct decoder *d, struct value *cells, uint32_t rows, uint32_t count)
{
	if (count != rows && count != 1)
		fail(d, "a column with another number of cells than rows");
	for (uint32_t r = 0; r < count && d->reader.error == FERRY_OK; r++)
		reader_value(&d->reader, &cells[r]);
	if (d->reader.error != FERRY_OK)
		return;
	for (uint32_t r = count; r < rows; r++)
		cells[r] = cells[0];
	reader_leave(&d->reader);
}

static void take_cells(struct decoder *d, uint64_t cells)
{
	if (cells > d->cells_left)
		reader_fail(&d->reader, FERRY_MESSAGE_TOO_LARGE, "more cells than a message may hold");
	else
		d->cells_left -= (uint32_t)cells;
}

static void decode_columns(struct decoder *d, struct block *b)
{
	uint32_t count = reader_array(&d->reader);
	uint64_t cells = (uint64_t)b->column_count * b->row_count;
	struct value *values;

	if (count != b->column_count || cells == 0)
		fail(d, "columns that do not match their numbers and rows");
	take_cells(d, cells);
	if (d->reader.error != FERRY_OK)
		return;
	values = decoder_array(d, cells, sizeof(*values));
	for (uint32_t c = 0; c < count && d->reader.error == FERRY_OK; c++)
		decode_cells(d, values + (size_t)c * b->row_count, b->row_count, reader_array(&d->reader));
	reader_leave(&d->reader);
	b->cells = values;
}

static void decode_old(struct decoder *d, struct value *cells, uint32_t rows, uint16_t *out_num)
{
	uint32_t count = reader_array(&d->reader);
	uint64_t num = count == 0 ? 0 : reader_uint(&d->reader);

	if (num == 0 || num > UINT16_MAX) {
		fail(d, "old values of no column");
		return;
	}
	*out_num = (uint16_t)num;
	decode_cells(d, cells, rows, count - 1);
}

static void decode_olds(struct decoder *d, struct block *b)
{
	uint32_t count = reader_array(&d->reader);
	uint64_t cells = (uint64_t)count * b->row_count;
	struct value *values;
	uint16_t *nums;

	if (count == 0 || count > FERRY_COLUMNS_MAX || b->row_count == 0)
		fail(d, "old values of no columns or rows");
	take_cells(d, cells);
	if (d->reader.error != FERRY_OK)
		return;
	nums = decoder_array(d, count, sizeof(*nums));
	values = decoder_array(d, cells, sizeof(*values));
	for (uint32_t o = 0; o < count && d->reader.error == FERRY_OK; o++)
		decode_old(d, values + (size_t)o * b->row_count, b->row_count, &nums[o]);
	reader_leave(&d->reader);
	b->old_nums = nums;
	b->olds = values;
	b->old_count = (uint16_t)count;
}

static void decode_at(struct decoder *d, struct block *b)
{
	uint32_t count = reader_array(&d->reader);
	int64_t *at, now = 0;

	if (count != b->row_count || count == 0)
		fail(d, "as many times as rows are needed");
	if (d->reader.error != FERRY_OK)
		return;
	at = decoder_array(d, count, sizeof(*at));
	for (uint32_t i = 0; i < count && d->reader.error == FERRY_OK; i++) {
		int64_t step = reader_int(&d->reader);

		if (__builtin_add_overflow(now, step, &now) || now < 0 || now > FERRY_CLOCK_MAX)
			fail(d, "a row's time is out of range");
		at[i] = now;
	}
	reader_leave(&d->reader);
	b->at = at;
}

static struct row_base decode_base(struct decoder *d, const struct block *b)
{
	uint64_t row = reader_uint(&d->reader);
	uint64_t num = reader_uint(&d->reader);
	int64_t position = reader_int(&d->reader);

	if (row >= b->row_count || num > UINT16_MAX || position < 0) {
		fail(d, "a base is out of range");
		return (struct row_base){0};
	}
	return (struct row_base){.row = (uint32_t)row, .num = (uint16_t)num, .position = position};
}

static void decode_bases(struct decoder *d, struct block *b)
{
	uint32_t count = reader_array(&d->reader);
	struct row_base *bases;

	if (count % 3 != 0)
		fail(d, "bases are three numbers each");
	count /= 3;
	if (count > d->bases_left)
		reader_fail(&d->reader, FERRY_MESSAGE_TOO_LARGE, "more bases than a message may hold");
	if (d->reader.error != FERRY_OK)
		return;
	d->bases_left -= count;
	bases = decoder_array(d, count, sizeof(*bases));
	for (uint32_t i = 0; i < count && d->reader.error == FERRY_OK; i++)
		bases[i] = decode_base(d, b);
	reader_leave(&d->reader);
	b->bases = bases;
	b->base_count = count;
}

static bool has_num(const struct block *b, uint16_t num)
{
	for (uint16_t c = 0; c < b->column_count; c++) {
		if (b->nums[c] == num)
			return true;
	}
	return false;
}

static const char *check_bases(const struct block *b)
{
	for (uint32_t i = 0; i < b->base_count; i++) {
		const struct row_base *base = &b->bases[i], *before = base - 1;

		if (base->num != 0 && !has_num(b, base->num))
			return "a base of a column that the block does not have";
		if (i > 0 && (before->row > base->row || (before->row == base->row && before->num >= base->num)))
			return "bases are not in order";
	}
	return NULL;
}

static const char *check_olds(const struct block *b)
{
	if (b->old_count > 0 && (b->op != ROW_UPDATE || b->goes_on))
		return "old values of what is no whole update";
	for (uint16_t o = 0; o < b->old_count; o++) {
		if (!has_num(b, b->old_nums[o]))
			return "old values of a column that the block does not have";
		if (o > 0 && b->old_nums[o] <= b->old_nums[o - 1])
			return "old values are not in the order of their columns";
	}
	return NULL;
}

static bool may_go_on(const struct block *b)
{
	const struct value *last = b->column_count > 0 ? &b->cells[b->column_count - 1] : NULL;

	return b->row_count == 1 && last != NULL && (last->kind == VALUE_TEXT || last->kind == VALUE_BYTES);
}

/* No rows: only at the end of a fill, and then no columns either. */
static const char *check_block(const struct block *b)
{
	bool whole = b->op == ROW_DELETE || b->op == ROW_LEFT;

	if (b->table == 0 || b->keys == NULL)
		return "a block without table or keys";
	if (b->row_count == 0)
		return b->column_count + b->base_count + b->old_count > 0 || b->goes_on ? "columns or bases of no rows" : NULL;
	if (whole && b->column_count > 0)
		return "a deletion with columns";
	if (b->op == ROW_UPDATE && b->column_count == 0)
		return "an update without columns";
	if (b->column_count > 0 && b->cells == NULL)
		return "column numbers without columns";
	if (b->goes_on && !may_go_on(b))
		return "only one row's last text or bytes can go on";
	return b->old_count > 0 && check_olds(b) != NULL ? check_olds(b) : check_bases(b);
}

static void decode_member(struct decoder *d, uint64_t key, struct block *b)
{
	switch (key) {
	case BLOCK_TABLE:
		b->table = decode_table(d);
		break;
	case BLOCK_OP:
		b->op = decode_op(d);
		break;
	case BLOCK_NUMS:
		decode_nums(d, b);
		break;
	case BLOCK_KEYS:
		decode_keys(d, b);
		break;
	case BLOCK_COLUMNS:
		decode_columns(d, b);
		break;
	case BLOCK_AT:
		decode_at(d, b);
		break;
	case BLOCK_BASES:
		decode_bases(d, b);
		break;
	case BLOCK_GOES_ON:
		b->goes_on = reader_bool(&d->reader);
		break;
	case BLOCK_OLDS:
		decode_olds(d, b);
		break;
	default:
		reader_skip(&d->reader);
		break;
	}
}

static void block_decode(struct decoder *d, void *out)
{
	struct block *b = out;
	struct reader_map m;
	bool has_op = false;
	const char *complaint;
	uint64_t key;

	if (d->blocks_left == 0)
		reader_fail(&d->reader, FERRY_MESSAGE_TOO_LARGE, "more blocks than a message may hold");
	else
		d->blocks_left--;
	reader_map(&d->reader, &m);
	while (reader_key(&d->reader, &m, &key)) {
		has_op |= key == BLOCK_OP;
		decode_member(d, key, b);
	}
	if (d->reader.error != FERRY_OK)
		return;
	complaint = has_op ? check_block(b) : "a block without operation";
	if (complaint != NULL)
		fail(d, complaint);
}

static bool has_times(const struct block *b)
{
	for (uint32_t r = 0; b->at != NULL && r < b->row_count; r++) {
		if (b->at[r] != 0)
			return true;
	}
	return false;
}

static bool is_constant(const struct value *cells, uint32_t rows)
{
	for (uint32_t r = 1; r < rows; r++) {
		if (!value_equal(&cells[0], &cells[r]))
			return false;
	}
	return true;
}

static void encode_column(const struct value *cells, uint32_t rows, struct buffer *out)
{
	uint32_t count = is_constant(cells, rows) ? 1 : rows;

	writer_array(out, count);
	for (uint32_t r = 0; r < count; r++)
		writer_value(out, &cells[r]);
}

static void encode_columns(const struct block *b, struct buffer *out)
{
	writer_uint(out, BLOCK_NUMS);
	writer_array(out, b->column_count);
	for (uint16_t c = 0; c < b->column_count; c++)
		writer_uint(out, b->nums[c]);
	writer_uint(out, BLOCK_KEYS);
	writer_bytes(out, b->keys, b->row_count * sizeof(struct uuid));
	writer_uint(out, BLOCK_COLUMNS);
	writer_array(out, b->column_count);
	for (uint16_t c = 0; c < b->column_count; c++)
		encode_column(b->cells + (size_t)c * b->row_count, b->row_count, out);
}

static void encode_at(const struct block *b, struct buffer *out)
{
	writer_uint(out, BLOCK_AT);
	writer_array(out, b->row_count);
	for (uint32_t r = 0; r < b->row_count; r++)
		writer_int(out, b->at[r] - (r == 0 ? 0 : b->at[r - 1]));
}

static void encode_bases(const struct block *b, struct buffer *out)
{
	writer_uint(out, BLOCK_BASES);
	writer_array(out, (size_t)b->base_count * 3);
	for (uint32_t i = 0; i < b->base_count; i++) {
		writer_uint(out, b->bases[i].row);
		writer_uint(out, b->bases[i].num);
		writer_int(out, b->bases[i].position);
	}
}

static void encode_olds(const struct block *b, struct buffer *out)
{
	writer_uint(out, BLOCK_OLDS);
	writer_array(out, b->old_count);
	for (uint16_t o = 0; o < b->old_count; o++) {
		const struct value *cells = b->olds + (size_t)o * b->row_count;
		uint32_t count = is_constant(cells, b->row_count) ? 1 : b->row_count;

		writer_array(out, (size_t)count + 1);
		writer_uint(out, b->old_nums[o]);
		for (uint32_t r = 0; r < count; r++)
			writer_value(out, &cells[r]);
	}
}

static void block_encode(const void *p, struct buffer *out)
{
	const struct block *b = p;
	bool times = has_times(b), columns = b->column_count > 0 && b->row_count > 0;

	assert(b->row_count == 0 || check_block(b) == NULL);
	writer_map(out, 3u + 2u * columns + times + (b->base_count > 0) + b->goes_on + (b->old_count > 0));
	writer_uint(out, BLOCK_TABLE);
	writer_uint(out, b->table);
	writer_uint(out, BLOCK_OP);
	writer_uint(out, b->op);
	if (columns) {
		encode_columns(b, out);
	} else {
		writer_uint(out, BLOCK_KEYS);
		writer_bytes(out, b->keys, b->row_count * sizeof(struct uuid));
	}
	if (times)
		encode_at(b, out);
	if (b->base_count > 0)
		encode_bases(b, out);
	if (b->goes_on) {
		writer_uint(out, BLOCK_GOES_ON);
		writer_bool(out, true);
	}
	if (b->old_count > 0)
		encode_olds(b, out);
}

static void describe_column(const struct value *cells, uint32_t rows, struct buffer *out)
{
	describe_text(out, "[");
	for (uint32_t r = 0; r < rows; r++) {
		describe_text(out, r == 0 ? "" : ", ");
		describe_value(out, &cells[r]);
	}
	describe_text(out, "]");
}

static void describe_cells(const struct block *b, struct buffer *out)
{
	describe_text(out, ", \"cells\": [");
	for (uint16_t c = 0; c < b->column_count; c++) {
		describe_text(out, c == 0 ? "" : ", ");
		describe_column(b->cells + (size_t)c * b->row_count, b->row_count, out);
	}
	describe_text(out, "]");
}

static void describe_olds(const struct block *b, struct buffer *out)
{
	for (uint16_t o = 0; o < b->old_count; o++) {
		describe_text(out, o == 0 ? ", \"olds\": [{\"num\": " : ", {\"num\": ");
		describe_int(out, b->old_nums[o]);
		describe_text(out, ", \"cells\": ");
		describe_column(b->olds + (size_t)o * b->row_count, b->row_count, out);
		describe_text(out, "}");
	}
	describe_text(out, b->old_count == 0 ? "" : "]");
}

static void describe_times(const struct block *b, struct buffer *out)
{
	for (uint32_t r = 0; b->at != NULL && r < b->row_count; r++) {
		describe_text(out, r == 0 ? ", \"at\": [" : ", ");
		describe_int(out, b->at[r]);
	}
	describe_text(out, b->at == NULL ? "" : "]");
}

static void describe_bases(const struct block *b, struct buffer *out)
{
	for (uint32_t i = 0; i < b->base_count; i++) {
		describe_text(out, i == 0 ? ", \"bases\": [{\"row\": " : ", {\"row\": ");
		describe_int(out, b->bases[i].row);
		describe_text(out, ", \"num\": ");
		describe_int(out, b->bases[i].num);
		describe_text(out, ", \"position\": ");
		describe_int(out, b->bases[i].position);
		describe_text(out, "}");
	}
	describe_text(out, b->base_count == 0 ? "" : "]");
}

static void block_describe(const void *p, struct buffer *out)
{
	static const char *const ops[] = {"", "insert", "update", "delete", "left"};
	const struct block *b = p;

	describe_text(out, "{\"table\": ");
	describe_int(out, b->table);
	describe_text(out, ", \"op\": \"");
	describe_text(out, ops[b->op]);
	describe_text(out, "\", \"nums\": [");
	for (uint16_t c = 0; c < b->column_count; c++) {
		describe_text(out, c == 0 ? "" : ", ");
		describe_int(out, b->nums[c]);
	}
	describe_text(out, "], \"keys\": [");
	for (uint32_t r = 0; r < b->row_count; r++) {
		describe_text(out, r == 0 ? "" : ", ");
		describe_uuid(out, &b->keys[r]);
	}
	describe_text(out, "]");
	if (b->column_count > 0)
		describe_cells(b, out);
	describe_times(b, out);
	describe_bases(b, out);
	describe_olds(b, out);
	describe_text(out, b->goes_on ? ", \"goes_on\": true}" : "}");
}

const struct shape block_shape = {
	.size = sizeof(struct block),
	.decode = block_decode,
	.encode = block_encode,
	.describe = block_describe,
};

size_t block_encoded_bytes(const struct block *b)
{
	size_t head = 32, column_head = 5, num_bytes = 3, time_bytes = 9, base_bytes = 5 + 3 + 9;
	size_t n = head + (size_t)b->row_count * sizeof(struct uuid);

	n += b->column_count * (num_bytes + column_head);
	for (size_t i = 0; i < (size_t)b->column_count * b->row_count; i++)
		n += value_encoded_bytes(&b->cells[i]);
	for (size_t i = 0; i < (size_t)b->old_count * b->row_count; i++)
		n += value_encoded_bytes(&b->olds[i]);
	n += b->old_count * (num_bytes + column_head);
	if (b->at != NULL)
		n += b->row_count * time_bytes;
	return n + b->base_count * base_bytes;
}
