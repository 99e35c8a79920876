/* A change-set that was made under an earlier schema, as the present one has
 * it [P 7.6]: cells of renamed columns under their new number, of columns whose
 * type changed as a value of the new kind, without columns that are not wanted
 * any more or said nothing. Columns that stand in another table now (redacted ones
 * and, once revealed, those of a restricted table) become an edit of the row there,
 * beside the rest (block.part_of). What has no place in the present schema makes the
 * whole change-set refused, so that it is kept with its values.
 *
 * Pure: no I/O, no clock. Numbers of tables and columns are never used twice,
 * so that a number says by itself which column was meant. */
#ifndef FERRY_HUB_TRANSLATE_H
#define FERRY_HUB_TRANSLATE_H

#include "protocol/arena.h"
#include "protocol/message.h"

#define PAST_NO_KIND (-1)

struct past_column { /* what became of a column: a row of ferry.late_column */
	uint32_t table;
	uint16_t num;
	int64_t step;     /* with which schema; 0: declared, for all */
	const char *name; /* that it had */
	int kind;         /* enum column_kind before that step, where it changed; else PAST_NO_KIND */
	uint16_t to;      /* the column that took its place; 0: none */
	uint32_t to_table; /* whose that is; 0: of the same table */
	bool discarded;   /* its values are not wanted any more */
	bool converts;    /* a function of the database makes its values ones of the next kind */
};

struct past { /* ordered by table, number and step */
	const struct past_column *columns;
	uint32_t count;
};

struct translation {
	const struct change_set *set; /* `in` itself where nothing is to be done */
	int code;                     /* OK; or why it is refused: UNKNOWN_COLUMN, BAD_VALUE */
	struct ferry_why why;
};

/* A value for the database to convert. A first pass lists them, the caller fills
 * in what they come to, and a second pass takes that in the same order. */
struct conversion {
	uint32_t table;
	uint32_t to_table;
	uint16_t num, to;       /* the column as it was numbered then, and now */
	int64_t step;           /* of the change-set */
	enum column_kind kind;  /* of `in` */
	enum column_kind now;   /* of `out` */
	struct value in, out;
	const char *refusal;    /* what the function said; NULL: it took the value */
};

struct conversions {
	struct conversion *list; /* in the arena */
	uint32_t count, capacity;
	bool answered;           /* the second pass */
	uint32_t next;           /* of it */
};

/* The translation lives in the arena and borrows from `in`. FERRY_NO_MEMORY:
 * the arena is full. Without conversions (NULL) values that need one are refused. */
FERRY_CHECK enum ferry_error translate_set(const struct schema *now, const struct past *past, const struct change_set *in,
					   struct arena *a, struct conversions *conversions, struct translation *out);

#endif
