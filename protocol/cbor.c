#include "protocol/cbor.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cbor.h>

#include "protocol/describe.h"

#define HEAD_BYTES_MAX 9
#define NAN_BITS 0x7ff8000000000000u

enum item_kind {
	ITEM_UNSUPPORTED, /* what a callback that is not ours was called for */
	ITEM_UINT,
	ITEM_NEGATIVE, /* -1 - u */
	ITEM_BYTES,
	ITEM_TEXT,
	ITEM_ARRAY,
	ITEM_MAP,
	ITEM_BOOL,
	ITEM_NULL,
	ITEM_FLOAT,
};

struct item {
	enum item_kind kind;
	uint64_t u; /* integer, count, length or bool */
	double f;
	const uint8_t *p;
};

static void on_uint8(void *context, uint8_t v)
{
	struct item *i = context;

	i->kind = ITEM_UINT;
	i->u = v;
}

static void on_uint16(void *context, uint16_t v)
{
	struct item *i = context;

	i->kind = ITEM_UINT;
	i->u = v;
}

static void on_uint32(void *context, uint32_t v)
{
	struct item *i = context;

	i->kind = ITEM_UINT;
	i->u = v;
}

static void on_uint64(void *context, uint64_t v)
{
	struct item *i = context;

	i->kind = ITEM_UINT;
	i->u = v;
}

static void on_negative8(void *context, uint8_t v)
{
	struct item *i = context;

	i->kind = ITEM_NEGATIVE;
	i->u = v;
}

static void on_negative16(void *context, uint16_t v)
{
	struct item *i = context;

	i->kind = ITEM_NEGATIVE;
	i->u = v;
}

static void on_negative32(void *context, uint32_t v)
{
	struct item *i = context;

	i->kind = ITEM_NEGATIVE;
	i->u = v;
}

static void on_negative64(void *context, uint64_t v)
{
	struct item *i = context;

	i->kind = ITEM_NEGATIVE;
	i->u = v;
}

static void on_bytes(void *context, cbor_data p, size_t n)
{
	struct item *i = context;

	i->kind = ITEM_BYTES;
	i->p = p;
	i->u = n;
}

static void on_text(void *context, cbor_data p, size_t n)
{
	struct item *i = context;

	i->kind = ITEM_TEXT;
	i->p = p;
	i->u = n;
}

static void on_array(void *context, size_t n)
{
	struct item *i = context;

	i->kind = ITEM_ARRAY;
	i->u = n;
}

static void on_map(void *context, size_t n)
{
	struct item *i = context;

	i->kind = ITEM_MAP;
	i->u = n;
}

static void on_bool(void *context, bool v)
{
	struct item *i = context;

	i->kind = ITEM_BOOL;
	i->u = v;
}

static void on_null(void *context)
{
	struct item *i = context;

	i->kind = ITEM_NULL;
}

static void on_float8(void *context, double v)
{
	struct item *i = context;

	i->kind = ITEM_FLOAT;
	i->f = v;
}

static void on_other(void *context)
{
	(void)context;
}

static void on_other_float(void *context, float v)
{
	(void)context;
	(void)v;
}

static const struct cbor_callbacks callbacks = {
	.uint8 = on_uint8,
	.uint16 = on_uint16,
	.uint32 = on_uint32,
	.uint64 = on_uint64,
	.negint8 = on_negative8,
	.negint16 = on_negative16,
	.negint32 = on_negative32,
	.negint64 = on_negative64,
	.byte_string = on_bytes,
	.byte_string_start = on_other,
	.string = on_text,
	.string_start = on_other,
	.array_start = on_array,
	.indef_array_start = on_other,
	.map_start = on_map,
	.indef_map_start = on_other,
	.tag = cbor_null_tag_callback,
	.float2 = on_other_float,
	.float4 = on_other_float,
	.float8 = on_float8,
	.boolean = on_bool,
	.null = on_null,
	.undefined = on_other,
	.indef_break = on_other,
};

void reader_init(struct reader *r, const uint8_t *bytes, size_t n)
{
	*r = (struct reader){.start = bytes, .p = bytes, .end = bytes + n, .items_left = READER_ITEMS_MAX};
	if (n > READER_BYTES_MAX)
		reader_fail(r, FERRY_MESSAGE_TOO_LARGE, "the message is too long");
}

void reader_fail(struct reader *r, enum ferry_error code, const char *complaint)
{
	if (r->error != FERRY_OK)
		return;
	r->error = code;
	r->complaint = complaint;
}

void reader_finish(struct reader *r)
{
	assert(r->error != FERRY_OK || r->depth == 0);
	if (r->p != r->end)
		reader_fail(r, FERRY_MALFORMED, "bytes after the end");
}

size_t reader_offset(const struct reader *r)
{
	return (size_t)(r->p - r->start);
}

static size_t head_bytes(uint64_t argument)
{
	if (argument < 24)
		return 1;
	if (argument <= UINT8_MAX)
		return 2;
	if (argument <= UINT16_MAX)
		return 3;
	return argument <= UINT32_MAX ? 5 : 9;
}

/* Is the item's head as short as it can be [RFC 8949, 4.2.1]? */
static bool is_shortest(const struct item *i, size_t read)
{
	if (i->kind == ITEM_BYTES || i->kind == ITEM_TEXT)
		return read - i->u == head_bytes(i->u);
	if (i->kind < ITEM_BOOL)
		return read == head_bytes(i->u);
	return true;
}

static const char *profile_complaint(const struct item *i)
{
	uint64_t bits;

	if (i->kind == ITEM_UNSUPPORTED)
		return "a kind of item that the profile does not have";
	if (i->kind == ITEM_TEXT && !utf8_valid(i->p, i->u))
		return "text that is not UTF-8";
	if (i->kind == ITEM_FLOAT && isnan(i->f)) {
		memcpy(&bits, &i->f, sizeof(bits));
		if (bits != NAN_BITS)
			return "a NaN that is not 7ff8000000000000";
	}
	return NULL;
}

static struct item reader_item(struct reader *r)
{
	struct item i = {.kind = ITEM_UNSUPPORTED};
	struct cbor_decoder_result result;
	const char *complaint;

	if (r->error != FERRY_OK)
		return i;
	if (r->items_left == 0) {
		reader_fail(r, FERRY_MESSAGE_TOO_LARGE, "too many items");
		return i;
	}
	r->items_left--;
	result = cbor_stream_decode(r->p, (size_t)(r->end - r->p), &callbacks, &i);
	if (result.status == CBOR_DECODER_NEDATA)
		complaint = "the end comes too early";
	else if (result.status != CBOR_DECODER_FINISHED)
		complaint = "not CBOR";
	else
		complaint = profile_complaint(&i);
	if (complaint == NULL && !is_shortest(&i, result.read))
		complaint = "a head that is longer than need be";
	if (complaint != NULL) {
		reader_fail(r, FERRY_MALFORMED, complaint);
		i.kind = ITEM_UNSUPPORTED;
		return i;
	}
	r->p += result.read;
	return i;
}

/* An item of the expected kind, or a sticky error and zeros. */
static struct item reader_expect(struct reader *r, enum item_kind kind, const char *complaint)
{
	const uint8_t *start = r->p;
	struct item i = reader_item(r);

	if (r->error != FERRY_OK)
		return (struct item){0};
	if (i.kind != kind) {
		r->p = start;
		reader_fail(r, FERRY_BAD_MESSAGE, complaint);
		return (struct item){0};
	}
	return i;
}

bool reader_bool(struct reader *r)
{
	return reader_expect(r, ITEM_BOOL, "not a boolean").u != 0;
}

uint64_t reader_uint(struct reader *r)
{
	return reader_expect(r, ITEM_UINT, "not an unsigned integer").u;
}

static int64_t item_int(struct reader *r, const struct item *i)
{
	if (i->u > INT64_MAX) {
		reader_fail(r, FERRY_BAD_MESSAGE, "an integer beyond 64 bits");
		return 0;
	}
	return i->kind == ITEM_UINT ? (int64_t)i->u : -1 - (int64_t)i->u;
}

int64_t reader_int(struct reader *r)
{
	struct item i = reader_item(r);

	if (r->error != FERRY_OK)
		return 0;
	if (i.kind != ITEM_UINT && i.kind != ITEM_NEGATIVE) {
		reader_fail(r, FERRY_BAD_MESSAGE, "not an integer");
		return 0;
	}
	return item_int(r, &i);
}

const uint8_t *reader_bytes(struct reader *r, uint32_t *out_n)
{
	struct item i = reader_expect(r, ITEM_BYTES, "not a byte string");

	*out_n = (uint32_t)i.u; /* below READER_BYTES_MAX, for it is in the input */
	return i.p;
}

const uint8_t *reader_text(struct reader *r, uint32_t *out_n)
{
	struct item i = reader_expect(r, ITEM_TEXT, "not text");

	*out_n = (uint32_t)i.u;
	return i.p;
}

void reader_value(struct reader *r, struct value *out)
{
	struct item i = reader_item(r);

	*out = value_null();
	if (r->error != FERRY_OK)
		return;
	switch (i.kind) {
	case ITEM_NULL:
		break;
	case ITEM_UINT:
	case ITEM_NEGATIVE:
		*out = value_int(item_int(r, &i));
		break;
	case ITEM_TEXT:
		*out = value_text(i.p, i.u);
		break;
	case ITEM_BYTES:
		*out = value_bytes(i.p, i.u);
		break;
	case ITEM_BOOL:
		*out = (struct value){.kind = VALUE_BOOL, .b = i.u != 0};
		break;
	case ITEM_FLOAT:
		*out = (struct value){.kind = VALUE_FLOAT, .f = i.f};
		break;
	case ITEM_ARRAY:
	case ITEM_MAP:
	case ITEM_UNSUPPORTED:
		reader_fail(r, FERRY_BAD_MESSAGE, "a cell that is no value");
		break;
	}
}

/* Steps into an array or a map. An announced count is checked against the
 * bytes that are left before anybody allocates by it. */
static uint32_t reader_enter(struct reader *r, const struct item *i, size_t bytes_each)
{
	if (r->error != FERRY_OK)
		return 0;
	if (i->u > (size_t)(r->end - r->p) / bytes_each) {
		reader_fail(r, FERRY_MALFORMED, "a count larger than what follows");
		return 0;
	}
	if (r->depth == READER_DEPTH_MAX) {
		reader_fail(r, FERRY_MALFORMED, "nested too deep");
		return 0;
	}
	r->depth++;
	return (uint32_t)i->u;
}

uint32_t reader_array(struct reader *r)
{
	struct item i = reader_expect(r, ITEM_ARRAY, "not an array");

	return reader_enter(r, &i, 1);
}

void reader_leave(struct reader *r)
{
	if (r->error != FERRY_OK)
		return;
	assert(r->depth > 0);
	r->depth--;
}

static void map_enter(struct reader *r, struct reader_map *m, const struct item *i)
{
	*m = (struct reader_map){.left = reader_enter(r, i, 2)};
}

void reader_map(struct reader *r, struct reader_map *m)
{
	struct item i = reader_expect(r, ITEM_MAP, "not a map");

	map_enter(r, m, &i);
}

bool reader_key(struct reader *r, struct reader_map *m, uint64_t *out_key)
{
	struct item i;

	if (r->error != FERRY_OK)
		return false;
	if (m->left == 0) {
		reader_leave(r);
		return false;
	}
	m->left--;
	i = reader_item(r);
	if (i.kind != ITEM_UINT)
		reader_fail(r, FERRY_MALFORMED, "a map key that is no unsigned integer");
	else if (m->started && i.u <= m->last_key)
		reader_fail(r, FERRY_MALFORMED, "map keys are not ascending");
	if (r->error != FERRY_OK)
		return false;
	m->started = true;
	m->last_key = i.u;
	*out_key = i.u;
	return true;
}

/* Recursion is bounded by READER_DEPTH_MAX. */
void reader_skip(struct reader *r)
{
	struct item i = reader_item(r);
	struct reader_map m;
	uint64_t key;

	if (i.kind == ITEM_MAP) {
		map_enter(r, &m, &i);
		while (reader_key(r, &m, &key))
			reader_skip(r);
	} else if (i.kind == ITEM_ARRAY) {
		uint32_t n = reader_enter(r, &i, 1);

		for (uint32_t k = 0; k < n && r->error == FERRY_OK; k++)
			reader_skip(r);
		reader_leave(r);
	}
}

static void diagnose_float(double f, struct buffer *out)
{
	char text[40];

	if (isnan(f))
		snprintf(text, sizeof(text), "NaN");
	else if (isinf(f))
		snprintf(text, sizeof(text), "%sInfinity", f < 0 ? "-" : "");
	else
		snprintf(text, sizeof(text), "%.17g%s", f, f == floor(f) && fabs(f) < 1e15 ? ".0" : "");
	describe_text(out, text);
}

static void diagnose_integer(const struct item *i, struct buffer *out)
{
	char text[32];

	if (i->kind == ITEM_NEGATIVE && i->u < UINT64_MAX)
		snprintf(text, sizeof(text), "-%" PRIu64, i->u + 1);
	else if (i->kind == ITEM_NEGATIVE)
		snprintf(text, sizeof(text), "-18446744073709551616");
	else
		snprintf(text, sizeof(text), "%" PRIu64, i->u);
	describe_text(out, text);
}

static void diagnose_scalar(const struct item *i, struct buffer *out)
{
	switch (i->kind) {
	case ITEM_UINT:
	case ITEM_NEGATIVE:
		diagnose_integer(i, out);
		break;
	case ITEM_BYTES:
		describe_text(out, "h'");
		for (uint64_t k = 0; k < i->u; k++) {
			describe_text(out, (const char[]){"0123456789abcdef"[i->p[k] >> 4],
							  "0123456789abcdef"[i->p[k] & 15], '\0'});
		}
		describe_text(out, "'");
		break;
	case ITEM_TEXT:
		describe_quoted(out, (const char *)i->p, i->u);
		break;
	case ITEM_BOOL:
		describe_text(out, i->u ? "true" : "false");
		break;
	case ITEM_NULL:
		describe_text(out, "null");
		break;
	case ITEM_FLOAT:
		diagnose_float(i->f, out);
		break;
	case ITEM_ARRAY:
	case ITEM_MAP:
	case ITEM_UNSUPPORTED:
		break;
	}
}

static void diagnose_map(struct reader *r, const struct item *i, struct buffer *out)
{
	struct reader_map m;
	uint64_t key;

	map_enter(r, &m, i);
	describe_text(out, "{");
	while (reader_key(r, &m, &key)) {
		describe_text(out, m.left + 1 == i->u ? "" : ", ");
		diagnose_integer(&(struct item){.kind = ITEM_UINT, .u = key}, out);
		describe_text(out, ": ");
		reader_diagnose(r, out);
	}
	describe_text(out, "}");
}

static void diagnose_array(struct reader *r, const struct item *i, struct buffer *out)
{
	uint32_t n = reader_enter(r, i, 1);

	describe_text(out, "[");
	for (uint32_t k = 0; k < n && r->error == FERRY_OK; k++) {
		describe_text(out, k == 0 ? "" : ", ");
		reader_diagnose(r, out);
	}
	describe_text(out, "]");
	reader_leave(r);
}

/* Recursion is bounded by READER_DEPTH_MAX. */
void reader_diagnose(struct reader *r, struct buffer *out)
{
	struct item i = reader_item(r);

	if (i.kind == ITEM_MAP)
		diagnose_map(r, &i, out);
	else if (i.kind == ITEM_ARRAY)
		diagnose_array(r, &i, out);
	else
		diagnose_scalar(&i, out);
}

/* What libcbor's encoders share: the value, a place, its size; the length back. */
#define WRITE_HEAD(b, encode, v)                                                              \
	do {                                                                                  \
		uint8_t head[HEAD_BYTES_MAX];                                                 \
		buffer_append(b, head, encode(v, head, sizeof(head)));                        \
	} while (0)

void writer_null(struct buffer *b)
{
	uint8_t head[1];

	buffer_append(b, head, cbor_encode_null(head, sizeof(head)));
}

void writer_bool(struct buffer *b, bool v)
{
	WRITE_HEAD(b, cbor_encode_bool, v);
}

void writer_uint(struct buffer *b, uint64_t v)
{
	WRITE_HEAD(b, cbor_encode_uint, v);
}

void writer_int(struct buffer *b, int64_t v)
{
	if (v >= 0)
		WRITE_HEAD(b, cbor_encode_uint, (uint64_t)v);
	else
		WRITE_HEAD(b, cbor_encode_negint, (uint64_t)(-1 - v));
}

void writer_float(struct buffer *b, double v)
{
	static const uint64_t nan_bits = NAN_BITS;

	if (isnan(v))
		memcpy(&v, &nan_bits, sizeof(v));
	WRITE_HEAD(b, cbor_encode_double, v);
}

void writer_bytes_head(struct buffer *b, size_t n)
{
	WRITE_HEAD(b, cbor_encode_bytestring_start, n);
}

void writer_bytes(struct buffer *b, const void *p, size_t n)
{
	writer_bytes_head(b, n);
	buffer_append(b, p, n);
}

void writer_text(struct buffer *b, const void *p, size_t n)
{
	WRITE_HEAD(b, cbor_encode_string_start, n);
	buffer_append(b, p, n);
}

void writer_array(struct buffer *b, size_t count)
{
	WRITE_HEAD(b, cbor_encode_array_start, count);
}

void writer_map(struct buffer *b, size_t count)
{
	WRITE_HEAD(b, cbor_encode_map_start, count);
}

void writer_value(struct buffer *b, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL:
		writer_null(b);
		break;
	case VALUE_BOOL:
		writer_bool(b, v->b);
		break;
	case VALUE_INT:
		writer_int(b, v->i);
		break;
	case VALUE_FLOAT:
		writer_float(b, v->f);
		break;
	case VALUE_TEXT:
		writer_text(b, v->p, v->n);
		break;
	case VALUE_BYTES:
		writer_bytes(b, v->p, v->n);
		break;
	}
}

size_t value_encoded_bytes(const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL:
	case VALUE_BOOL:
		return 1;
	case VALUE_INT:
		return head_bytes(v->i >= 0 ? (uint64_t)v->i : (uint64_t)(-1 - v->i));
	case VALUE_FLOAT:
		return HEAD_BYTES_MAX;
	case VALUE_TEXT:
	case VALUE_BYTES:
		return head_bytes(v->n) + v->n;
	}
	return 0;
}
