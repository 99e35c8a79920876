/* CBOR [RFC 8949] of the profile [P 4]: the only gate to libcbor.
 *
 * The profile is deterministic encoding [RFC 8949, 4.2.1] narrowed to what
 * the protocol needs: unsigned and negative integers that fit int64 (some
 * fields uint64), byte strings, valid UTF-8 text, definite arrays, definite
 * maps whose keys are unsigned integers in ascending order, false, true, null
 * and floats of 64 bits. No tags, nothing of indefinite length.
 *
 * libcbor's streaming decoder reads one item at a time and never allocates;
 * its tree builder (cbor_load) is not used: it allocates what a header claims.
 * Here no count is believed that the remaining bytes cannot hold.
 *
 * A reader keeps its first error: after it every call returns 0 and does
 * nothing, so that callers read a whole structure and check once. Text and
 * bytes are borrowed from the input. Memory: none. */
#ifndef FERRY_PROTOCOL_CBOR_H
#define FERRY_PROTOCOL_CBOR_H

#include "protocol/arena.h"
#include "protocol/errors.h"
#include "protocol/value.h"

#define READER_DEPTH_MAX 16
#define READER_ITEMS_MAX 1000000u
#define READER_BYTES_MAX (64u << 20)

struct reader {
	const uint8_t *start;
	const uint8_t *p;
	const uint8_t *end;
	uint32_t depth;
	uint32_t items_left;
	enum ferry_error error; /* the first one */
	const char *complaint;  /* static; says what is wrong at `p` */
};

struct reader_map {
	uint32_t left;
	bool started;
	uint64_t last_key;
};

void reader_init(struct reader *r, const uint8_t *bytes, size_t n);
void reader_fail(struct reader *r, enum ferry_error code, const char *complaint); /* keeps the first */
void reader_finish(struct reader *r); /* nothing may be left */
size_t reader_offset(const struct reader *r);

bool reader_bool(struct reader *r);
uint64_t reader_uint(struct reader *r);
int64_t reader_int(struct reader *r);
const uint8_t *reader_bytes(struct reader *r, uint32_t *out_n);
const uint8_t *reader_text(struct reader *r, uint32_t *out_n);
void reader_value(struct reader *r, struct value *out); /* null, bool, int, float, text or bytes */
uint32_t reader_array(struct reader *r);                /* its count; then as many items, then: */
void reader_leave(struct reader *r);
void reader_map(struct reader *r, struct reader_map *m);
bool reader_key(struct reader *r, struct reader_map *m, uint64_t *out_key); /* false: the map is done and left, or error */
void reader_skip(struct reader *r); /* one item with all in it, checked all the same */

/* One item in diagnostic notation [RFC 8949, 8], for people. */
void reader_diagnose(struct reader *r, struct buffer *out);

/* Writers append to a buffer; whether it held them all is asked once, at the
 * end (buffer.overflowed). The caller sees to counts and ascending keys. */
void writer_null(struct buffer *b);
void writer_bool(struct buffer *b, bool v);
void writer_uint(struct buffer *b, uint64_t v);
void writer_int(struct buffer *b, int64_t v);
void writer_float(struct buffer *b, double v); /* every NaN as 7ff8000000000000 */
void writer_bytes(struct buffer *b, const void *p, size_t n);
void writer_bytes_head(struct buffer *b, size_t n); /* the caller appends the n bytes */
void writer_text(struct buffer *b, const void *p, size_t n);
void writer_value(struct buffer *b, const struct value *v);
void writer_array(struct buffer *b, size_t count);
void writer_map(struct buffer *b, size_t count);

size_t value_encoded_bytes(const struct value *v); /* exact */

#endif
