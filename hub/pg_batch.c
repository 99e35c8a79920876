#include "hub/pg_batch.h"

#include <assert.h>
#include <endian.h>
#include <libpq-fe.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Type oids: fixed numbers of PostgreSQL's catalogue. */
enum {
	OID_BOOL = 16, OID_BYTEA = 17, OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, OID_TEXT = 25,
	OID_FLOAT4 = 700, OID_FLOAT8 = 701, OID_DATE = 1082, OID_TIMESTAMPTZ = 1184, OID_UUID = 2950,
	OID_BOOLS = 1000, OID_BYTEAS = 1001, OID_INT4S = 1007, OID_TEXTS = 1009, OID_INT8S = 1016,
	OID_FLOAT8S = 1022, OID_DATES = 1182, OID_TIMESTAMPTZS = 1185, OID_UUIDS = 2951,
};

#define EPOCH_2000_US INT64_C(946684800000000) /* PostgreSQL counts from 2000-01-01 */
#define EPOCH_2000_DAYS 10957

/* ----------------------------------------------------------------- batch */

void pg_batch_init(struct pg_batch *b, size_t limit_bytes)
{
	memset(b, 0, sizeof(*b));
	arena_init(&b->arena, limit_bytes);
}

void pg_batch_reset(struct pg_batch *b)
{
	for (uint32_t i = 0; i < b->count; i++)
		PQclear(b->calls[i].result);
	b->count = 0;
	b->full = false;
	b->overflowed = false;
	b->result_bytes = b->result_bytes_max = 0;
	memset(&b->failure, 0, sizeof(b->failure));
	arena_reset(&b->arena);
}

void pg_batch_deinit(struct pg_batch *b)
{
	pg_batch_reset(b);
	free(b->calls);
	b->calls = NULL;
	b->capacity = 0;
	arena_deinit(&b->arena);
}

static bool batch_grow(struct pg_batch *b)
{
	uint32_t capacity = b->capacity ? b->capacity * 2 : 32;
	struct pg_call *more = realloc(b->calls, capacity * sizeof(*more));

	if (!more)
		return false;
	b->calls = more;
	b->capacity = capacity;
	return true;
}

uint32_t pg_call(struct pg_batch *b, const char *sql)
{
	struct pg_call *call;

	if (b->count == b->capacity && !batch_grow(b)) {
		b->full = true;
		return 0;
	}
	call = &b->calls[b->count];
	*call = (struct pg_call){.sql = arena_text(&b->arena, sql, strlen(sql)),
				 .args = arena_alloc(&b->arena, PG_ARGS_MAX * sizeof(struct pg_arg))};
	if (!call->sql || !call->args)
		b->full = true;
	return b->count++;
}

/* ------------------------------------------------------------ parameters */

/* Room for a parameter of n bytes; NULL when the batch is full. */
static char *arg_room(struct pg_batch *b, uint32_t type, size_t n)
{
	struct pg_call *call;
	char *p;

	if (b->full || b->count == 0)
		return NULL;
	call = &b->calls[b->count - 1];
	assert(call->arg_count < PG_ARGS_MAX);
	p = n <= INT32_MAX ? arena_alloc(&b->arena, n ? n : 1) : NULL;
	if (!p) {
		b->full = true;
		return NULL;
	}
	call->args[call->arg_count++] = (struct pg_arg){.type = type, .n = (int)n, .p = p};
	return p;
}

static char *put4(char *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, 4);
	return p + 4;
}

static char *put8(char *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, 8);
	return p + 8;
}

void pg_arg_null(struct pg_batch *b, uint32_t type)
{
	if (arg_room(b, type, 0)) {
		struct pg_call *call = &b->calls[b->count - 1];
		call->args[call->arg_count - 1].n = -1;
	}
}

void pg_arg_int4(struct pg_batch *b, int32_t v)
{
	char *p = arg_room(b, OID_INT4, 4);

	if (p)
		put4(p, (uint32_t)v);
}

void pg_arg_int8(struct pg_batch *b, int64_t v)
{
	char *p = arg_room(b, OID_INT8, 8);

	if (p)
		put8(p, (uint64_t)v);
}

void pg_arg_uuid(struct pg_batch *b, const struct uuid *v)
{
	char *p = arg_room(b, OID_UUID, 16);

	if (p)
		memcpy(p, v->b, 16);
}

void pg_arg_text(struct pg_batch *b, const char *v)
{
	char *p;

	if (!v) {
		pg_arg_null(b, OID_TEXT);
		return;
	}
	p = arg_room(b, OID_TEXT, strlen(v));
	if (p)
		memcpy(p, v, strlen(v));
}

void pg_arg_bytes(struct pg_batch *b, const void *v, size_t n)
{
	char *p = arg_room(b, OID_BYTEA, n);

	if (p && n > 0)
		memcpy(p, v, n);
}

/* An array's header: dimensions, has-NULL flag, element type, length, lower
 * bound. An empty array has no dimension. */
#define ARRAY_HEADER 20

static size_t array_bytes(uint32_t n, size_t data)
{
	return n ? ARRAY_HEADER + (size_t)n * 4 + data : 12;
}

static char *put_array(char *p, uint32_t element, uint32_t n, bool nulls)
{
	p = put4(p, n ? 1 : 0);
	p = put4(p, nulls);
	p = put4(p, element);
	if (n) {
		p = put4(p, n);
		p = put4(p, 1);
	}
	return p;
}

void pg_arg_int4s(struct pg_batch *b, const int32_t *v, uint32_t n)
{
	char *p = arg_room(b, OID_INT4S, array_bytes(n, (size_t)n * 4));

	if (!p)
		return;
	p = put_array(p, OID_INT4, n, false);
	for (uint32_t i = 0; i < n; i++)
		p = put4(put4(p, 4), (uint32_t)v[i]);
}

void pg_arg_int8s(struct pg_batch *b, const int64_t *v, uint32_t n)
{
	char *p = arg_room(b, OID_INT8S, array_bytes(n, (size_t)n * 8));

	if (!p)
		return;
	p = put_array(p, OID_INT8, n, false);
	for (uint32_t i = 0; i < n; i++)
		p = put8(put4(p, 8), (uint64_t)v[i]);
}

void pg_arg_uuids(struct pg_batch *b, const struct uuid *v, uint32_t n)
{
	char *p = arg_room(b, OID_UUIDS, array_bytes(n, (size_t)n * 16));

	if (!p)
		return;
	p = put_array(p, OID_UUID, n, false);
	for (uint32_t i = 0; i < n; i++) {
		p = put4(p, 16);
		memcpy(p, v[i].b, 16);
		p += 16;
	}
}

void pg_arg_texts(struct pg_batch *b, const char *const *v, uint32_t n)
{
	size_t data = 0;
	char *p;

	for (uint32_t i = 0; i < n; i++)
		data += v[i] ? strlen(v[i]) : 0;
	p = arg_room(b, OID_TEXTS, array_bytes(n, data));
	if (!p)
		return;
	p = put_array(p, OID_TEXT, n, true);
	for (uint32_t i = 0; i < n; i++) {
		size_t length = v[i] ? strlen(v[i]) : 0;

		p = put4(p, v[i] ? (uint32_t)length : UINT32_MAX);
		if (length > 0)
			memcpy(p, v[i], length);
		p += length;
	}
}

struct array_kind {
	const char *name;
	uint32_t array, element;
	uint32_t width; /* 0: as long as the value */
};

static const struct array_kind array_text = {"text[]", OID_TEXTS, OID_TEXT, 0};

static const struct array_kind *array_of_kind(enum column_kind kind)
{
	static const struct array_kind bools = {"bool[]", OID_BOOLS, OID_BOOL, 1};
	static const struct array_kind ints = {"int8[]", OID_INT8S, OID_INT8, 8};
	static const struct array_kind floats = {"float8[]", OID_FLOAT8S, OID_FLOAT8, 8};
	static const struct array_kind uuids = {"uuid[]", OID_UUIDS, OID_UUID, 16};
	static const struct array_kind blobs = {"bytea[]", OID_BYTEAS, OID_BYTEA, 0};
	static const struct array_kind times = {"timestamptz[]", OID_TIMESTAMPTZS, OID_TIMESTAMPTZ, 8};
	static const struct array_kind dates = {"date[]", OID_DATES, OID_DATE, 4};

	switch (kind) {
	case KIND_BOOL:
		return &bools;
	case KIND_INT:
		return &ints;
	case KIND_FLOAT:
		return &floats;
	case KIND_UUID:
		return &uuids;
	case KIND_BYTES:
		return &blobs;
	case KIND_TIMESTAMPTZ:
		return &times;
	case KIND_DATE:
		return &dates;
	default:
		return &array_text;
	}
}

const char *pg_array_type(enum column_kind kind)
{
	return array_of_kind(kind)->name;
}

/* Infinity has the extreme integers; whatever else would come out as one of
 * them, or does not fit, is sent as the number beside it, which the server
 * refuses as out of range. */
static int64_t time_to_pg(const struct value *v)
{
	int64_t t;

	if (v->kind == VALUE_FLOAT)
		return v->f > 0 ? INT64_MAX : INT64_MIN;
	if (__builtin_sub_overflow(v->i, EPOCH_2000_US, &t) || t == INT64_MIN)
		return INT64_MIN + 1;
	return t;
}

static int32_t date_to_pg(const struct value *v)
{
	int64_t d;

	if (v->kind == VALUE_FLOAT)
		return v->f > 0 ? INT32_MAX : INT32_MIN;
	if (__builtin_sub_overflow(v->i, EPOCH_2000_DAYS, &d) || d <= INT32_MIN || d >= INT32_MAX)
		return INT32_MIN + 1;
	return (int32_t)d;
}

static char *put_fixed(char *p, enum column_kind kind, const struct value *v)
{
	uint64_t bits;

	switch (kind) {
	case KIND_BOOL:
		*p = v->b;
		return p + 1;
	case KIND_INT:
		return put8(p, (uint64_t)v->i);
	case KIND_FLOAT:
		memcpy(&bits, &v->f, 8);
		return put8(p, bits);
	case KIND_TIMESTAMPTZ:
		return put8(p, (uint64_t)time_to_pg(v));
	case KIND_DATE:
		return put4(p, (uint32_t)date_to_pg(v));
	default: /* KIND_UUID; its length was checked with the value */
		memcpy(p, v->p, 16);
		return p + 16;
	}
}

void pg_arg_cells(struct pg_batch *b, enum column_kind kind, const struct value *v, uint32_t n)
{
	const struct array_kind *a = array_of_kind(kind);
	bool nulls = false;
	size_t data = 0;
	char *p;

	for (uint32_t i = 0; i < n; i++) {
		assert(value_fits(kind, &v[i]));
		if (v[i].kind == VALUE_NULL)
			nulls = true;
		else
			data += a->width ? a->width : v[i].n;
	}
	p = arg_room(b, a->array, array_bytes(n, data));
	if (!p)
		return;
	p = put_array(p, a->element, n, nulls);
	for (uint32_t i = 0; i < n; i++) {
		if (v[i].kind == VALUE_NULL) {
			p = put4(p, UINT32_MAX);
		} else if (a->width) {
			p = put_fixed(put4(p, a->width), kind, &v[i]);
		} else {
			p = put4(p, v[i].n);
			if (v[i].n)
				memcpy(p, v[i].p, v[i].n);
			p += v[i].n;
		}
	}
}

void pg_arg_blobs(struct pg_batch *b, const struct value *v, uint32_t n)
{
	pg_arg_cells(b, KIND_BYTES, v, n);
}

/* --------------------------------------------------------------- results */

static uint32_t get4(const void *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return be32toh(v);
}

static uint64_t get8(const void *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return be64toh(v);
}

static const PGresult *result_of(const struct pg_batch *b, uint32_t call)
{
	assert(call < b->count && b->calls[call].result);
	return b->calls[call].result;
}

uint32_t pg_rows(const struct pg_batch *b, uint32_t call)
{
	return (uint32_t)PQntuples(result_of(b, call));
}

bool pg_is_null(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col)
{
	return PQgetisnull(result_of(b, call), (int)row, (int)col);
}

static const char *cell_of(const PGresult *r, uint32_t row, uint32_t col, int *out_n)
{
	*out_n = PQgetlength(r, (int)row, (int)col);
	return PQgetvalue(r, (int)row, (int)col);
}

int64_t pg_element_int(const uint8_t *p, size_t n)
{
	switch (n) {
	case 8:
		return (int64_t)get8(p);
	case 4:
		return (int32_t)get4(p);
	case 2:
		return (int16_t)((p[0] << 8) | p[1]);
	case 1:
		return p[0];
	default:
		return 0;
	}
}

int64_t pg_int(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col)
{
	int n;
	const char *p = cell_of(result_of(b, call), row, col, &n);

	return pg_element_int((const uint8_t *)p, (size_t)n);
}

bool pg_bool(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col)
{
	return pg_int(b, call, row, col) != 0;
}

int64_t pg_time(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col)
{
	int64_t t = pg_int(b, call, row, col);

	return pg_is_null(b, call, row, col) ? 0 : t + EPOCH_2000_US;
}

struct uuid pg_uuid(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col)
{
	struct uuid id = {{0}};
	int n;
	const char *p = cell_of(result_of(b, call), row, col, &n);

	if (n == 16)
		memcpy(id.b, p, 16);
	return id;
}

const char *pg_text(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col)
{
	return PQgetvalue(result_of(b, call), (int)row, (int)col);
}

const uint8_t *pg_bytes(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col, size_t *out_n)
{
	int n;
	const char *p = cell_of(result_of(b, call), row, col, &n);

	*out_n = (size_t)n;
	return (const uint8_t *)p;
}

static struct value float_value(double f)
{
	return (struct value){.kind = VALUE_FLOAT, .f = f};
}

static struct value time_value(int64_t t)
{
	if (t == INT64_MAX || t == INT64_MIN)
		return float_value(t > 0 ? INFINITY : -INFINITY);
	return value_int(t + EPOCH_2000_US);
}

static struct value date_value(int32_t d)
{
	if (d == INT32_MAX || d == INT32_MIN)
		return float_value(d > 0 ? INFINITY : -INFINITY);
	return value_int((int64_t)d + EPOCH_2000_DAYS);
}

static struct value float_of_bits(const char *p, int n)
{
	uint64_t bits8;
	uint32_t bits4;
	double d;
	float f;

	if (n == 8) {
		bits8 = get8(p);
		memcpy(&d, &bits8, 8);
		return float_value(d);
	}
	bits4 = get4(p);
	memcpy(&f, &bits4, 4);
	return float_value((double)f);
}

struct value pg_value(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col, enum column_kind kind)
{
	const PGresult *r = result_of(b, call);
	int n;
	const char *p = cell_of(r, row, col, &n);

	if (PQgetisnull(r, (int)row, (int)col))
		return value_null();
	switch (kind) {
	case KIND_BOOL:
		return (struct value){.kind = VALUE_BOOL, .b = *p != 0};
	case KIND_INT:
		return value_int(pg_element_int((const uint8_t *)p, (size_t)n));
	case KIND_FLOAT:
		return float_of_bits(p, n);
	case KIND_TIMESTAMPTZ:
		return time_value((int64_t)get8(p));
	case KIND_DATE:
		return date_value((int32_t)get4(p));
	case KIND_UUID:
	case KIND_BYTES:
		return value_bytes(p, (size_t)n);
	default:
		return value_text(p, (size_t)n);
	}
}

uint32_t pg_elements(const struct pg_batch *b, uint32_t call, uint32_t row, uint32_t col, struct pg_elements *out)
{
	size_t n;
	const uint8_t *p = pg_bytes(b, call, row, col, &n);

	*out = (struct pg_elements){0};
	if (n < ARRAY_HEADER || get4(p) != 1)
		return 0;
	out->p = p + ARRAY_HEADER;
	out->end = p + n;
	out->left = get4(p + 12);
	return out->left;
}

bool pg_element(struct pg_elements *e, const uint8_t **out_p, size_t *out_n)
{
	uint32_t n;

	if (e->left == 0 || e->end - e->p < 4)
		return false;
	n = get4(e->p);
	e->p += 4;
	e->left--;
	*out_p = n == UINT32_MAX ? NULL : e->p;
	*out_n = n == UINT32_MAX ? 0 : n;
	if (n != UINT32_MAX) {
		if ((size_t)(e->end - e->p) < n)
			return false;
		e->p += n;
	}
	return true;
}
