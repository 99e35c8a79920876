/* A batch: statements that travel to PostgreSQL together, and their results.
 *
 * Filled by pg_call() and pg_arg_*(), run by pg_link_submit(), read through
 * pg_cell_*() until pg_batch_reset(). The first failed statement stops those
 * behind it. Parameters and results are binary; arrays are PostgreSQL's own
 * one-dimensional form, so one parameter carries a column of many rows.
 *
 * Memory: parameters live in the batch's arena, bounded; a batch that has
 * overflowed is marked `full` and must not be submitted. */
#ifndef FERRY_HUB_PG_BATCH_H
#define FERRY_HUB_PG_BATCH_H

#include "protocol/arena.h"
#include "protocol/errors.h"
#include "protocol/value.h"

struct pg_result; /* libpq's PGresult */

enum pg_failure_class {
	PG_FINE = 0,
	PG_LOST,    /* the connection is gone; of a COMMIT the outcome is unknown */
	PG_RETRY,   /* deadlock, serialization, lock timeout, shortage: run it again whole */
	PG_STALE,   /* the catalogue changed under a prepared statement: forget, reload, run again */
	PG_REFUSED, /* the data does not fit: a constraint, a type, a right, a trigger's own error */
};

struct pg_failure {
	enum pg_failure_class class;
	uint32_t call;          /* which statement */
	char sqlstate[6];
	char message[240];
	char detail[240];
	char constraint[64];
	char table[64];
	char column[64];
};

#define PG_ARGS_MAX 80

struct pg_arg {
	uint32_t type; /* PostgreSQL's type oid */
	int n;         /* bytes; -1: NULL */
	const char *p;
};

struct pg_call {
	const char *sql;
	struct pg_arg *args; /* PG_ARGS_MAX of them, from the arena */
	uint32_t arg_count;
	struct pg_result *result; /* NULL: did not run, failed, or was more than the batch may hold */
};

struct pg_batch {
	struct arena arena;
	struct pg_call *calls;
	uint32_t count, capacity;
	bool full;
	size_t result_bytes_max; /* set before it is submitted: answers of more bytes are not kept; 0: no bound */
	size_t result_bytes;
	bool overflowed; /* answers are missing: there was more than that */
	bool planned_each; /* set before it is submitted: each statement is planned for its own parameters */
	struct pg_failure failure;
};

#define PG_BATCH_BYTES_MAX ((size_t)256 << 20)

void pg_batch_init(struct pg_batch *b, size_t limit_bytes);
void pg_batch_reset(struct pg_batch *b);  /* forgets statements and results */
void pg_batch_deinit(struct pg_batch *b);

/* Adds a statement and returns its index; the text is copied. */
uint32_t pg_call(struct pg_batch *b, const char *sql);

/* Parameters of the statement added last, in order. */
void pg_arg_null(struct pg_batch *b, uint32_t type);
void pg_arg_int4(struct pg_batch *b, int32_t v);
void pg_arg_int8(struct pg_batch *b, int64_t v);
void pg_arg_uuid(struct pg_batch *b, const struct uuid *v);
void pg_arg_text(struct pg_batch *b, const char *v); /* NULL: NULL */
void pg_arg_bytes(struct pg_batch *b, const void *v, size_t n);
void pg_arg_int4s(struct pg_batch *b, const int32_t *v, uint32_t n);
void pg_arg_int8s(struct pg_batch *b, const int64_t *v, uint32_t n);
void pg_arg_uuids(struct pg_batch *b, const struct uuid *v, uint32_t n);
void pg_arg_texts(struct pg_batch *b, const char *const *v, uint32_t n); /* NULL entries: NULL */
void pg_arg_blobs(struct pg_batch *b, const struct value *v, uint32_t n); /* VALUE_BYTES; bytea[] */
/* A column of wire values as the array that goes with the kind: bool[],
 * int8[], float8[], uuid[], bytea[], timestamptz[], date[], else text[].
 * A value out of the type's range is sent so that the server refuses it. */
void pg_arg_cells(struct pg_batch *b, enum column_kind kind, const struct value *v, uint32_t n);
/* The SQL name of that array type. */
const char *pg_array_type(enum column_kind kind);

/* Results. Row and column must exist; a NULL cell reads as 0 or "". */
uint32_t pg_rows(const struct pg_batch *b, uint32_t call);
bool pg_is_null(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col);
bool pg_bool(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col);
int64_t pg_int(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col); /* int2, int4, int8 */
int64_t pg_time(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col); /* timestamptz, us since 1970 */
struct uuid pg_uuid(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col);
const char *pg_text(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col); /* NUL-terminated; lives as long as the result */
const uint8_t *pg_bytes(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col, size_t *out_n);
/* A wire value of the kind; borrowed from the result. */
struct value pg_value(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col, enum column_kind kind);

/* A bigint[], int[], uuid[] or text[] cell read element by element. */
struct pg_elements {
	const uint8_t *p, *end;
	uint32_t left;
};
uint32_t pg_elements(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col, struct pg_elements *out);
/* The next element; false at the end. A NULL element gives *out_p NULL. */
bool pg_element(struct pg_elements *e, const uint8_t **out_p, size_t *out_n);
int64_t pg_element_int(const uint8_t *p, size_t n);

/* ------------------------------------------------- for pg_conn.c and tests */

enum pg_failure_class pg_class_of_sqlstate(const char *sqlstate);
/* What a refusal means for a change-set (enum ferry_error). */
int pg_code_of_failure(const struct pg_failure *f);
/* A sentence for a person on the device: names the rule, holds no data. */
void pg_sentence_of_failure(const struct pg_failure *f, struct ferry_why *why);

#endif
