#include "hub/pg_bound.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROW_BYTES_MIN 32      /* of a row, whatever it holds */
#define SHORT_CHARACTERS 256  /* a column that holds no more needs no measure */
#define STORED_SHARE 4        /* stored bytes that are taken for one of the bound's: text may be so much shorter */
#define BYTES_TOLD_MAX 2000000000

/* How a column's bytes are known. */
enum measure {
	MEASURE_NONE,  /* it is short */
	MEASURE_CELL,  /* by its length, which stands in front of it */
	MEASURE_STORED /* only by making its text; first by what is stored */
};

static bool is_short_text(const char *type)
{
	const char *length = strchr(type, '(');

	return length && strtol(length + 1, NULL, 10) <= SHORT_CHARACTERS;
}

static enum measure measure_of(const struct pg_column *c)
{
	switch (c->kind) {
	case KIND_TEXT:
	case KIND_CITEXT:
		return is_short_text(c->type) ? MEASURE_NONE : MEASURE_CELL;
	case KIND_BYTES:
		return MEASURE_CELL;
	case KIND_NUMERIC: /* without a precision it may have 147,455 digits, and be stored in ten bytes */
		return strchr(c->type, '(') ? MEASURE_NONE : MEASURE_STORED;
	case KIND_JSON:
	case KIND_ARRAY:
	case KIND_OTHER:
		return MEASURE_STORED;
	default:
		return MEASURE_NONE;
	}
}

static bool asked(const struct pg_bound *q, uint16_t c)
{
	return q->mask >> c & 1;
}

static bool any(const struct pg_table *t, uint64_t mask, enum measure m)
{
	for (uint16_t c = 0; c < t->column_count; c++) {
		if ((mask >> c & 1) && measure_of(&t->columns[c]) == m)
			return true;
	}
	return false;
}

bool pg_bound_is_measured(const struct pg_table *t)
{
	return !any(t, UINT64_MAX, MEASURE_STORED);
}

/* ------------------------------------------------------------ the measures */

static void begin_size(struct pg_sql *sql)
{
	pg_sql_add(sql, "least(0::int8");
}

static void end_size(struct pg_sql *sql)
{
	pg_sql_add(sql, ", %d)::int4 AS ferry_bytes", BYTES_TOLD_MAX);
}

/* What is known without reading long values. */
static void add_rough_size(const struct pg_bound *q, struct pg_sql *sql)
{
	begin_size(sql);
	for (uint16_t c = 0; c < q->table->column_count; c++) {
		const struct pg_column *column = &q->table->columns[c];

		if (asked(q, c) && measure_of(column) == MEASURE_CELL)
			pg_sql_add(sql, " + coalesce(octet_length(%s), 0)", column->wire);
		else if (asked(q, c) && measure_of(column) == MEASURE_STORED)
			pg_sql_add(sql, " + coalesce(pg_column_size(r.%s), 0)", column->name);
	}
	end_size(sql);
}

/* Of wire forms that stand there already. */
static void add_exact_size(const struct pg_bound *q, struct pg_sql *sql)
{
	begin_size(sql);
	for (uint16_t c = 0; c < q->table->column_count; c++) {
		if (asked(q, c) && measure_of(&q->table->columns[c]) != MEASURE_NONE)
			pg_sql_add(sql, " + coalesce(octet_length(r.c%u), 0)", c);
	}
	end_size(sql);
}

/* What a measured row takes of the bound: cells that nobody reads take nothing. */
static void add_share(struct pg_sql *sql)
{
	pg_sql_add(sql, "CASE WHEN r.ferry_bytes > %u THEN %u ELSE r.ferry_bytes + %u END", FERRY_ROW_BYTES_MAX, ROW_BYTES_MIN,
		   ROW_BYTES_MIN);
}

static void open_sum(struct pg_sql *sql)
{
	pg_sql_add(sql, "SELECT r.*, sum(");
	add_share(sql);
	pg_sql_add(sql, ") OVER (ORDER BY r.ferry_order ROWS UNBOUNDED PRECEDING) AS ferry_upto FROM (");
}

/* The rows that begin below the bound. */
static void close_sum(struct pg_sql *sql, size_t bytes_max)
{
	pg_sql_add(sql, ") r) r WHERE r.ferry_upto - ");
	add_share(sql);
	pg_sql_add(sql, " < %zu", bytes_max);
}

/* ---------------------------------------------------------------- the rows */

/* The rows with their columns as they are stored. */
static void add_rows(const struct pg_bound *q, struct pg_sql *sql)
{
	pg_sql_add(sql, "SELECT %s AS ferry_order", q->order);
	for (uint16_t c = 0; c < q->table->column_count; c++) {
		if (asked(q, c))
			pg_sql_add(sql, ", r.%s", q->table->columns[c].name);
	}
	pg_sql_add(sql, ", ");
	add_rough_size(q, sql);
	pg_sql_add(sql, "%s", q->from);
}

/* The wire forms of the rows that the rough measure leaves, each made once. */
static void add_wires(const struct pg_bound *q, struct pg_sql *sql)
{
	bool sum = q->form == PG_BOUND_SUM;

	pg_sql_add(sql, "SELECT %s", sum ? "r.ferry_order, r.ferry_upto AS ferry_rough" : "r.ferry_order");
	for (uint16_t c = 0; c < q->table->column_count; c++) {
		if (asked(q, c))
			pg_sql_add(sql, ", %s AS c%u", q->table->columns[c].wire, c);
	}
	pg_sql_add(sql, " FROM (");
	if (sum)
		open_sum(sql);
	add_rows(q, sql);
	if (sum)
		close_sum(sql, STORED_SHARE * q->bytes_max);
	else
		pg_sql_add(sql, ") r");
	pg_sql_add(sql, " OFFSET 0");
}

static void add_measured_wires(const struct pg_bound *q, struct pg_sql *sql)
{
	pg_sql_add(sql, "SELECT r.*, ");
	add_exact_size(q, sql);
	pg_sql_add(sql, " FROM (");
	add_wires(q, sql);
	pg_sql_add(sql, ") r");
}

/* The answer's cells, of wires that stand there or of the columns. */
static void add_cells(const struct pg_bound *q, struct pg_sql *sql, bool wires)
{
	for (uint16_t c = 0; c < q->table->column_count; c++) {
		const struct pg_column *column = &q->table->columns[c];
		char name[16];

		snprintf(name, sizeof(name), "r.c%u", c);
		if (!asked(q, c))
			continue;
		if (measure_of(column) == MEASURE_NONE)
			pg_sql_add(sql, ", %s", wires ? name : column->wire);
		else
			pg_sql_add(sql, ", CASE WHEN r.ferry_bytes <= %u THEN %s END", FERRY_ROW_BYTES_MAX,
				   wires ? name : column->wire);
	}
}

static void select_sum(const struct pg_bound *q, struct pg_sql *sql, bool documents)
{
	pg_sql_add(sql, "SELECT r.ferry_order, r.ferry_bytes, r.ferry_upto >= %zu", q->bytes_max);
	if (documents)
		pg_sql_add(sql, " OR r.ferry_rough >= %zu", STORED_SHARE * q->bytes_max);
	add_cells(q, sql, documents);
	pg_sql_add(sql, " FROM (");
	open_sum(sql);
	if (documents)
		add_measured_wires(q, sql);
	else
		add_rows(q, sql);
	close_sum(sql, q->bytes_max);
	pg_sql_add(sql, " ORDER BY r.ferry_order");
}

static void select_one(const struct pg_bound *q, struct pg_sql *sql, bool documents)
{
	pg_sql_add(sql, "SELECT r.ferry_order, r.ferry_bytes, false");
	add_cells(q, sql, documents);
	pg_sql_add(sql, " FROM (");
	if (documents)
		add_measured_wires(q, sql);
	else
		add_rows(q, sql);
	pg_sql_add(sql, ") r");
}

static void select_short(const struct pg_bound *q, struct pg_sql *sql)
{
	pg_sql_add(sql, "SELECT %s, 0, greatest(0", q->order);
	for (uint16_t c = 0; c < q->table->column_count; c++) {
		if (asked(q, c) && measure_of(&q->table->columns[c]) != MEASURE_NONE)
			pg_sql_add(sql, ", octet_length(%s)", q->table->columns[c].wire);
	}
	pg_sql_add(sql, ") > %u", PG_BOUND_CELL_BYTES);
	for (uint16_t c = 0; c < q->table->column_count; c++) {
		const struct pg_column *column = &q->table->columns[c];

		if (!asked(q, c))
			continue;
		if (measure_of(column) == MEASURE_NONE)
			pg_sql_add(sql, ", %s", column->wire);
		else
			pg_sql_add(sql, ", CASE WHEN octet_length(%s) <= %u THEN %s END", column->wire, PG_BOUND_CELL_BYTES,
				   column->wire);
	}
	pg_sql_add(sql, "%s", q->from);
}

void pg_bound_select(const struct pg_bound *q, struct pg_sql *sql)
{
	bool documents = any(q->table, q->mask, MEASURE_STORED);

	assert(q->form != PG_BOUND_SHORT || !documents);
	if (q->form == PG_BOUND_SHORT)
		select_short(q, sql);
	else if (q->form == PG_BOUND_ONE)
		select_one(q, sql, documents);
	else
		select_sum(q, sql, documents);
}

/* --------------------------------------------------------------- the answer */

bool pg_bound_full(const struct pg_batch *b, uint32_t call)
{
	uint32_t rows = pg_rows(b, call);

	return rows > 0 && pg_bool(b, call, rows - 1, PG_BOUND_FULL);
}

bool pg_bound_too_large(const struct pg_batch *b, uint32_t call, uint32_t row)
{
	return pg_int(b, call, row, PG_BOUND_BYTES) > (int64_t)FERRY_ROW_BYTES_MAX;
}

uint32_t pg_bound_whole_rows(const struct pg_batch *b, uint32_t call, enum pg_bound_form form)
{
	uint32_t rows = pg_rows(b, call), n = 0;

	while (n < rows && !pg_bound_too_large(b, call, n) &&
	       !(form == PG_BOUND_SHORT && pg_bool(b, call, n, PG_BOUND_FULL)))
		n++;
	return n;
}
