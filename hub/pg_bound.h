/* Questions for rows that are answered up to a number of bytes [P9], since
 * libpq holds an answer whole: rows in order, the first of them always, and
 * those behind it as long as the rows before them stay below the bound.
 *
 * Bytes are those of texts and blobs in their wire form, as row_bytes() of
 * protocol/row_pieces.h counts them; a row adds a little of its own to the
 * bound. A row above FERRY_ROW_BYTES_MAX comes without its long cells: it is
 * told by its size, and read by nobody. Texts and blobs are measured without
 * being read; documents are first measured by what is stored, and then once
 * more by their text, which only those get that the first measure left. */
#ifndef FERRY_HUB_PG_BOUND_H
#define FERRY_HUB_PG_BOUND_H

#include "hub/pg_schema.h"
#include "hub/pg_sql.h"

enum pg_bound_form {
	PG_BOUND_SUM,   /* rows up to bytes_max */
	PG_BOUND_ONE,   /* there is but one row to answer with */
	PG_BOUND_SHORT, /* rows up to the first with a long cell (PG_BOUND_CELL_BYTES), which is a third of the work; ends like the bound */
};

#define PG_BOUND_CELL_BYTES 1024

struct pg_bound {
	const struct pg_table *table;
	uint64_t mask;     /* the columns, by their index in the table */
	const char *order; /* expression that rows are ordered by */
	const char *from;  /* FROM and all behind it; the table's rows are r. */
	enum pg_bound_form form;
	size_t bytes_max;
};

/* Columns of the answer; the cells follow, in the table's order. */
enum { PG_BOUND_ORDER, PG_BOUND_BYTES, PG_BOUND_FULL, PG_BOUND_CELLS };

/* Can all cells be measured without being read? Then PG_BOUND_SHORT may be asked. */
bool pg_bound_is_measured(const struct pg_table *t);
void pg_bound_select(const struct pg_bound *q, struct pg_sql *sql);

/* Did the bound end the answer? There may be rows behind it. */
bool pg_bound_full(const struct pg_batch *b, uint32_t call);
/* How many rows there are before one whose cells were left out. */
uint32_t pg_bound_whole_rows(const struct pg_batch *b, uint32_t call, enum pg_bound_form form);
bool pg_bound_too_large(const struct pg_batch *b, uint32_t call, uint32_t row);

#endif
