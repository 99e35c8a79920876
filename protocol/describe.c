#include "protocol/describe.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "protocol/fields.h"

void describe_text(struct buffer *out, const char *text)
{
	buffer_append(out, text, strlen(text));
}

void describe_quoted(struct buffer *out, const char *p, size_t n)
{
	char escape[8];

	describe_text(out, "\"");
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '"' || p[i] == '\\') {
			buffer_append(out, "\\", 1);
			buffer_append(out, &p[i], 1);
		} else if ((unsigned char)p[i] < ' ' || p[i] == 0x7f) {
			snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)p[i]);
			describe_text(out, escape);
		} else {
			buffer_append(out, &p[i], 1);
		}
	}
	describe_text(out, "\"");
}

void describe_int(struct buffer *out, int64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, v);
	describe_text(out, text);
}

void describe_hex(struct buffer *out, const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	describe_text(out, "\"");
	for (size_t i = 0; i < n; i++) {
		buffer_append(out, &digits[p[i] >> 4], 1);
		buffer_append(out, &digits[p[i] & 15], 1);
	}
	describe_text(out, "\"");
}

void describe_u64(struct buffer *out, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "\"%016" PRIx64 "\"", v);
	describe_text(out, text);
}

void describe_uuid(struct buffer *out, const struct uuid *id)
{
	char text[UUID_TEXT];

	uuid_format(id, text);
	describe_quoted(out, text, strlen(text));
}

static void describe_float(struct buffer *out, double f)
{
	char text[40];

	if (isnan(f))
		snprintf(text, sizeof(text), "NaN");
	else if (isinf(f))
		snprintf(text, sizeof(text), "%sInfinity", f < 0 ? "-" : "");
	else
		snprintf(text, sizeof(text), "%.17g", f);
	describe_text(out, "{\"float\": \"");
	describe_text(out, text);
	describe_text(out, "\"}");
}

static void describe_as_hex(struct buffer *out, const char *what, const struct value *v)
{
	describe_text(out, "{\"");
	describe_text(out, what);
	describe_text(out, "\": ");
	describe_hex(out, v->p, v->n);
	describe_text(out, "}");
}

void describe_value(struct buffer *out, const struct value *v)
{
	switch (v->kind) {
	case VALUE_NULL:
		describe_text(out, "null");
		break;
	case VALUE_BOOL:
		describe_text(out, v->b ? "true" : "false");
		break;
	case VALUE_INT:
		describe_int(out, v->i);
		break;
	case VALUE_FLOAT:
		describe_float(out, v->f);
		break;
	case VALUE_TEXT:
		if (value_has_nul(v))
			describe_as_hex(out, "text", v);
		else
			describe_quoted(out, (const char *)v->p, v->n);
		break;
	case VALUE_BYTES:
		describe_as_hex(out, "bytes", v);
		break;
	}
}

static void describe_element(const struct field *f, const char *list, uint32_t i, struct buffer *out)
{
	const char *text;
	int64_t i64;
	uint64_t u64;

	switch (f->type) {
	case FIELD_I64S:
		memcpy(&i64, list + i * sizeof(i64), sizeof(i64));
		describe_int(out, i64);
		break;
	case FIELD_U64S:
		memcpy(&u64, list + i * sizeof(u64), sizeof(u64));
		describe_u64(out, u64);
		break;
	case FIELD_TEXTS:
		memcpy(&text, list + i * sizeof(text), sizeof(text));
		describe_quoted(out, text, strlen(text));
		break;
	default:
		shape_describe(f->shape, list + i * f->shape->size, out);
		break;
	}
}

static void describe_list(const struct field *f, const void *p, struct buffer *out)
{
	uint32_t count = field_count(f, p);
	const char *list;

	memcpy(&list, (const char *)p + f->offset, sizeof(list));
	describe_text(out, "[");
	for (uint32_t i = 0; i < count; i++) {
		describe_text(out, i == 0 ? "" : ", ");
		describe_element(f, list, i, out);
	}
	describe_text(out, "]");
}

static void describe_field(const struct field *f, const void *p, struct buffer *out)
{
	const char *member = (const char *)p + f->offset, *text;
	uint64_t u64;

	switch (f->type) {
	case FIELD_BOOL:
		describe_text(out, field_number(f, p) ? "true" : "false");
		break;
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_INT:
	case FIELD_I64:
		describe_int(out, field_number(f, p));
		break;
	case FIELD_U64:
		memcpy(&u64, member, sizeof(u64));
		if (f->max != 0) /* a count; else a hash */
			describe_int(out, (int64_t)u64);
		else
			describe_u64(out, u64);
		break;
	case FIELD_TEXT:
		memcpy(&text, member, sizeof(text));
		describe_quoted(out, text, strlen(text));
		break;
	case FIELD_UUID:
		describe_uuid(out, (const struct uuid *)member);
		break;
	case FIELD_VALUE:
		describe_value(out, (const struct value *)(const void *)member);
		break;
	case FIELD_I64S:
	case FIELD_U64S:
	case FIELD_TEXTS:
	case FIELD_LIST:
		describe_list(f, p, out);
		break;
	case FIELD_ONE:
		shape_describe(f->shape, member, out);
		break;
	}
}

static void describe_fields(const struct shape *s, const void *p, struct buffer *out, bool first)
{
	for (size_t i = 0; i < s->field_count; i++) {
		const struct field *f = &s->fields[i];

		if (!f->required && field_is_default(f, p))
			continue;
		describe_text(out, first ? "\"" : ", \"");
		describe_text(out, f->name);
		describe_text(out, "\": ");
		describe_field(f, p, out);
		first = false;
	}
}

void shape_describe(const struct shape *s, const void *p, struct buffer *out)
{
	if (s->describe != NULL) {
		s->describe(p, out);
		return;
	}
	describe_text(out, "{");
	describe_fields(s, p, out, true);
	describe_text(out, "}");
}

void message_describe(const struct message *m, struct buffer *out)
{
	const struct shape *s = message_shape((int)m->type);

	assert(s != NULL);
	describe_text(out, "{\"type\": \"");
	describe_text(out, message_type_name((int)m->type));
	describe_text(out, "\"");
	describe_fields(s, &m->hello, out, false);
	describe_text(out, "}");
}
