#include "protocol/value.h"

#include <math.h>
#include <string.h>

static const char *const kind_names[KIND_COUNT] = {
	[KIND_BOOL] = "bool",
	[KIND_INT] = "int",
	[KIND_FLOAT] = "float",
	[KIND_TEXT] = "text",
	[KIND_UUID] = "uuid",
	[KIND_BYTES] = "bytes",
	[KIND_TIMESTAMPTZ] = "timestamptz",
	[KIND_DATE] = "date",
	[KIND_NUMERIC] = "numeric",
	[KIND_JSON] = "json",
	[KIND_ARRAY] = "array",
	[KIND_CITEXT] = "citext",
	[KIND_ENUM] = "enum",
	[KIND_OTHER] = "other",
};

static uint64_t float_bits(double f)
{
	uint64_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

bool value_equal(const struct value *a, const struct value *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case VALUE_NULL:
		return true;
	case VALUE_BOOL:
		return a->b == b->b;
	case VALUE_INT:
		return a->i == b->i;
	case VALUE_FLOAT:
		return float_bits(a->f) == float_bits(b->f);
	case VALUE_TEXT:
	case VALUE_BYTES:
		return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
	}
	return false;
}

bool value_fits(enum column_kind kind, const struct value *v)
{
	if (v->kind == VALUE_NULL)
		return true;
	switch (kind) {
	case KIND_BOOL:
		return v->kind == VALUE_BOOL;
	case KIND_INT:
		return v->kind == VALUE_INT;
	case KIND_FLOAT:
		return v->kind == VALUE_FLOAT;
	case KIND_UUID:
		return v->kind == VALUE_BYTES && v->n == sizeof(struct uuid);
	case KIND_BYTES:
		return v->kind == VALUE_BYTES;
	case KIND_TIMESTAMPTZ:
	case KIND_DATE:
		return v->kind == VALUE_INT || (v->kind == VALUE_FLOAT && isinf(v->f));
	case KIND_TEXT:
	case KIND_NUMERIC:
	case KIND_JSON:
	case KIND_ARRAY:
	case KIND_CITEXT:
	case KIND_ENUM:
	case KIND_OTHER:
		return v->kind == VALUE_TEXT;
	case KIND_COUNT:
		break;
	}
	return false;
}

int column_kind_from_name(const char *name)
{
	for (int i = 0; i < KIND_COUNT; i++) {
		if (strcmp(kind_names[i], name) == 0)
			return i;
	}
	return -1;
}

const char *column_kind_name(enum column_kind kind)
{
	return (unsigned)kind < KIND_COUNT ? kind_names[kind] : NULL;
}

int column_policy_from_name(const char *name)
{
	static const char *const names[POLICY_COUNT] = {"lww", "max", "min", "counter", "set", "json", "text", "review", "guard",
							 "approval", "sequence"};

	for (int i = 0; i < POLICY_COUNT; i++) {
		if (strcmp(names[i], name) == 0)
			return i;
	}
	return -1;
}

/* One multi-byte character [RFC 3629]: its length, or 0 when it is not valid.
 * The second byte's range excludes overlong forms, surrogates and what lies
 * beyond U+10FFFF. */
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t length;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		length = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		length = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (n < length || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	return length;
}

bool utf8_valid(const void *text, size_t n)
{
	const uint8_t *p = text;
	size_t i = 0;

	while (i < n) {
		uint64_t eight;
		size_t length;

		if (n - i >= sizeof(eight)) { /* most text is ASCII */
			memcpy(&eight, p + i, sizeof(eight));
			if ((eight & 0x8080808080808080u) == 0) {
				i += sizeof(eight);
				continue;
			}
		}
		length = p[i] < 0x80 ? 1 : utf8_sequence(p + i, n - i);
		if (length == 0)
			return false;
		i += length;
	}
	return true;
}

bool value_has_nul(const struct value *v)
{
	return v->kind == VALUE_TEXT && v->n > 0 && memchr(v->p, 0, v->n) != NULL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool dash_before(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const struct uuid *id, char out[UUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < sizeof(id->b); i++) {
		if (dash_before(i))
			*out++ = '-';
		*out++ = digits[id->b[i] >> 4];
		*out++ = digits[id->b[i] & 15];
	}
	*out = '\0';
}

bool uuid_parse(const char *text, size_t n, struct uuid *out_id)
{
	struct uuid id;

	if (n != UUID_TEXT - 1)
		return false;
	for (size_t i = 0; i < sizeof(id.b); i++) {
		int high, low;

		if (dash_before(i) && *text++ != '-')
			return false;
		high = hex_digit(*text++);
		low = hex_digit(*text++);
		if (high < 0 || low < 0)
			return false;
		id.b[i] = (uint8_t)(high << 4 | low);
	}
	*out_id = id;
	return true;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int uuid_compare(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a, b, sizeof(*a));
}

bool uuid_is_zero(const struct uuid *id)
{
	static const struct uuid zero;

	return uuid_equal(id, &zero);
}
