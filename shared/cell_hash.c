#include "shared/cell_hash.h"

#include <math.h>
#include <string.h>

#define INITIAL (0x9e3779b9u + 3923095u)
#define BLOCK_BYTES 12

#define UNIX_TO_PG_US 946684800000000 /* 1970-01-01 to 2000-01-01 */
#define DAY_US 86400000000

struct state {
	uint32_t a, b, c;
};

static uint32_t rotate(uint32_t x, unsigned bits)
{
	return x << bits | x >> (32 - bits);
}

static void mix(struct state *s)
{
	s->a -= s->c, s->a ^= rotate(s->c, 4), s->c += s->b;
	s->b -= s->a, s->b ^= rotate(s->a, 6), s->a += s->c;
	s->c -= s->b, s->c ^= rotate(s->b, 8), s->b += s->a;
	s->a -= s->c, s->a ^= rotate(s->c, 16), s->c += s->b;
	s->b -= s->a, s->b ^= rotate(s->a, 19), s->a += s->c;
	s->c -= s->b, s->c ^= rotate(s->b, 4), s->b += s->a;
}

static uint64_t finish(struct state *s)
{
	s->c ^= s->b, s->c -= rotate(s->b, 14);
	s->a ^= s->c, s->a -= rotate(s->c, 11);
	s->b ^= s->a, s->b -= rotate(s->a, 25);
	s->c ^= s->b, s->c -= rotate(s->b, 16);
	s->a ^= s->c, s->a -= rotate(s->c, 4);
	s->b ^= s->a, s->b -= rotate(s->a, 14);
	s->c ^= s->b, s->c -= rotate(s->b, 24);
	return (uint64_t)s->b << 32 | s->c;
}

static struct state start(size_t n, uint64_t seed)
{
	uint32_t first = INITIAL + (uint32_t)n;
	struct state s = {first, first, first};

	if (seed != 0) {
		s.a += (uint32_t)(seed >> 32);
		s.b += (uint32_t)seed;
		mix(&s);
	}
	return s;
}

/* Little-endian, as hash partitioning sees it on the machines we run on;
 * written so that the result is the same on any. */
static uint32_t word(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void add_block(struct state *s, const uint8_t *p)
{
	s->a += word(p);
	s->b += word(p + 4);
	s->c += word(p + 8);
	mix(s);
}

/* The last 0 to 11 bytes: the lowest byte of c belongs to the length, so the
 * bytes from the ninth on lie one byte higher. */
static uint64_t add_tail(struct state *s, const uint8_t *p, size_t n)
{
	uint8_t padded[BLOCK_BYTES + 4] = {0};

	for (size_t i = 0; i < n; i++)
		padded[i < 8 ? i : i + 1] = p[i];
	s->a += word(padded);
	s->b += word(padded + 4);
	s->c += word(padded + 8);
	return finish(s);
}

uint64_t cell_hash_bytes(const void *p, size_t n, uint64_t seed)
{
	const uint8_t *byte = p;
	struct state s = start(n, seed);

	for (; n >= BLOCK_BYTES; n -= BLOCK_BYTES, byte += BLOCK_BYTES)
		add_block(&s, byte);
	return add_tail(&s, byte, n);
}

static void to_hex(const uint8_t *p, size_t n, uint8_t *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = (uint8_t)digits[p[i] >> 4];
		*out++ = (uint8_t)digits[p[i] & 15];
	}
}

/* The hash of the bytes' hexadecimal text, without making the text. */
static uint64_t hash_hex(const uint8_t *p, size_t n, uint64_t seed)
{
	uint8_t hex[BLOCK_BYTES];
	struct state s = start(n * 2, seed);

	for (; n >= BLOCK_BYTES / 2; n -= BLOCK_BYTES / 2, p += BLOCK_BYTES / 2) {
		to_hex(p, BLOCK_BYTES / 2, hex);
		add_block(&s, hex);
	}
	to_hex(p, n, hex);
	return add_tail(&s, hex, n * 2);
}

/* hashint8extended: equal numbers of any width hash alike. */
static uint64_t hash_int(int64_t v, uint64_t seed)
{
	uint32_t low = (uint32_t)v, high = (uint32_t)((uint64_t)v >> 32);
	struct state s = start(sizeof(low), seed);

	s.a += low ^ (v >= 0 ? high : ~high);
	return finish(&s);
}

/* hashfloat8extended: both zeros hash alike, and every NaN. */
static uint64_t hash_float(double f, uint64_t seed)
{
	static const uint64_t nan_bits = 0x7ff8000000000000u;
	uint64_t bits;
	uint8_t bytes[8];

	if (f == 0.0)
		return seed;
	memcpy(&bits, &f, sizeof(bits));
	if (isnan(f))
		bits = nan_bits;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(bits >> (8 * i));
	return cell_hash_bytes(bytes, sizeof(bytes), seed);
}

/* PostgreSQL counts from 2000; the ends of the range are its infinities. */
static uint64_t hash_time(const struct value *v, int64_t unit_us, uint64_t seed)
{
	uint64_t us;

	if (v->kind == VALUE_FLOAT)
		return hash_int(v->f > 0 ? INT64_MAX : INT64_MIN, seed);
	us = (uint64_t)v->i * (uint64_t)unit_us - (uint64_t)UNIX_TO_PG_US;
	return hash_int((int64_t)us, seed);
}

uint64_t cell_hash_row_seed(const struct uuid *key)
{
	return cell_hash_bytes(key->b, sizeof(key->b), 0);
}

uint64_t cell_hash(uint64_t row_seed, uint16_t num, enum column_kind kind, const struct value *v)
{
	uint64_t seed = row_seed ^ num;

	if (v->kind == VALUE_NULL)
		return 0;
	if (kind == KIND_TIMESTAMPTZ && v->kind != VALUE_TEXT)
		return hash_time(v, 1, seed);
	if (kind == KIND_DATE && v->kind != VALUE_TEXT)
		return hash_time(v, DAY_US, seed);
	switch (v->kind) {
	case VALUE_BOOL:
		return hash_int(v->b, seed);
	case VALUE_INT:
		return hash_int(v->i, seed);
	case VALUE_FLOAT:
		return hash_float(v->f, seed);
	case VALUE_BYTES:
		return kind == KIND_UUID ? cell_hash_bytes(v->p, v->n, seed) : hash_hex(v->p, v->n, seed);
	case VALUE_TEXT:
		return cell_hash_bytes(v->p, v->n, seed);
	case VALUE_NULL:
		break;
	}
	return 0;
}
