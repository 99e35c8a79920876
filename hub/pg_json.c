#include "hub/pg_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_string(struct pg_sql *out, const uint8_t *p, uint32_t n)
{
	uint32_t plain = 0; /* start of what needs no escape */

	pg_sql_add(out, "\"");
	for (uint32_t i = 0; i < n; i++) {
		if (p[i] != '"' && p[i] != '\\' && p[i] >= 0x20)
			continue;
		pg_sql_add(out, "%.*s", (int)(i - plain), (const char *)p + plain);
		pg_sql_add(out, "\\u%04x", p[i]);
		plain = i + 1;
	}
	pg_sql_add(out, "%.*s\"", (int)(n - plain), (const char *)p + plain);
}

static void add_bytes(struct pg_sql *out, enum column_kind kind, const struct value *v)
{
	char text[UUID_TEXT];
	struct uuid id;

	if (kind == KIND_UUID && v->n == sizeof(id.b)) {
		memcpy(id.b, v->p, sizeof(id.b));
		uuid_format(&id, text);
		pg_sql_add(out, "\"%s\"", text);
		return;
	}
	pg_sql_add(out, "\"\\\\x");
	for (uint32_t i = 0; i < v->n; i++)
		pg_sql_add(out, "%02x", v->p[i]);
	pg_sql_add(out, "\"");
}

static void add_float(struct pg_sql *out, double f)
{
	if (isnan(f))
		pg_sql_add(out, "\"NaN\"");
	else if (isinf(f))
		pg_sql_add(out, f > 0 ? "\"Infinity\"" : "\"-Infinity\"");
	else if (f == 0 && signbit(f))
		pg_sql_add(out, "\"-0\"");
	else
		pg_sql_add(out, "%.17g", f);
}

void pg_json_add(struct pg_sql *out, enum column_kind kind, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL:
		break;
	case VALUE_BOOL:
		pg_sql_add(out, v->b ? "true" : "false");
		break;
	case VALUE_INT:
		pg_sql_add(out, "%lld", (long long)v->i);
		break;
	case VALUE_FLOAT:
		add_float(out, v->f);
		break;
	case VALUE_TEXT:
		add_string(out, v->p, v->n);
		break;
	case VALUE_BYTES:
		add_bytes(out, kind, v);
		break;
	}
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

static struct value read_bytes(struct arena *a, const char *text)
{
	size_t n = strlen(text);
	uint8_t *p = arena_alloc(a, n / 2 + 1);

	if (!p || n < 2 || n % 2 != 0 || strncmp(text, "\\x", 2) != 0)
		return value_null();
	for (size_t i = 2; i < n; i += 2) {
		int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);

		if (high < 0 || low < 0)
			return value_null();
		p[i / 2 - 1] = (uint8_t)(high << 4 | low);
	}
	return value_bytes(p, n / 2 - 1);
}

static struct value read_uuid(struct arena *a, const char *text)
{
	struct uuid id;
	const void *p;

	if (!uuid_parse(text, strlen(text), &id))
		return value_null();
	p = arena_copy(a, id.b, sizeof(id.b));
	return p ? value_bytes(p, sizeof(id.b)) : value_null();
}

static struct value read_number(enum column_kind kind, const char *text)
{
	char *end;
	struct value v;

	if (kind == KIND_FLOAT || strstr(text, "Inf"))
		v = (struct value){.kind = VALUE_FLOAT, .f = strtod(text, &end)};
	else
		v = value_int(strtoll(text, &end, 10));
	return end != text && *end == 0 ? v : value_null();
}

struct value pg_json_read(struct arena *a, enum column_kind kind, const char *text)
{
	const char *copy;

	if (!text)
		return value_null();
	switch (kind) {
	case KIND_BOOL:
		return (struct value){.kind = VALUE_BOOL, .b = strcmp(text, "true") == 0};
	case KIND_INT:
	case KIND_FLOAT:
	case KIND_TIMESTAMPTZ:
	case KIND_DATE:
		return read_number(kind, text);
	case KIND_UUID:
		return read_uuid(a, text);
	case KIND_BYTES:
		return read_bytes(a, text);
	default:
		copy = arena_text(a, text, strlen(text));
		return copy ? value_text(copy, strlen(text)) : value_null();
	}
}
