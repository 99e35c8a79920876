/* Values between the file (struct cell) and the wire (struct value). */
#include <math.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/time_text.h"

bool key_to_uuid(const struct cell *c, struct uuid *out)
{
	return c->type == SQLITE_TEXT && uuid_parse((const char *)c->p, c->n, out);
}

static bool float_value(const struct cell *c, struct value *out)
{
	out->kind = VALUE_FLOAT;
	if (c->type == SQLITE_FLOAT)
		out->f = c->f;
	else if (c->type == SQLITE_INTEGER)
		out->f = (double)c->i;
	else if (c->type == SQLITE_TEXT && c->n == 3 && memcmp(c->p, "NaN", 3) == 0)
		out->f = NAN;
	else if (c->type == SQLITE_TEXT && c->n == 2 && memcmp(c->p, "-0", 2) == 0)
		out->f = -0.0;
	else
		return false;
	return true;
}

static bool uuid_value(struct arena *a, const struct cell *c, struct value *out)
{
	struct uuid id;
	uint8_t *p;

	if (!key_to_uuid(c, &id))
		return false;
	p = arena_copy(a, &id, sizeof(id));
	if (p == NULL)
		return false;
	*out = value_bytes(p, sizeof(id));
	return true;
}

/* false: the cell's value has no wire form; *out_code says which rule it
 * breaks. Text and bytes are borrowed from the cell. */
bool cell_to_value(struct arena *a, enum column_kind kind, const struct cell *c, struct value *out, int *out_code)
{
	*out = value_null();
	*out_code = c->type == CELL_FAR ? FERRY_ROW_TOO_LARGE : FERRY_BAD_VALUE;
	if (c->type == SQLITE_NULL)
		return true;
	if (c->type == CELL_FAR)
		return false;
	switch (kind) {
	case KIND_BOOL:
		*out = (struct value){.kind = VALUE_BOOL, .b = c->i != 0};
		return c->type == SQLITE_INTEGER && (c->i == 0 || c->i == 1);
	case KIND_INT:
		*out = value_int(c->i);
		return c->type == SQLITE_INTEGER;
	case KIND_FLOAT:
		return float_value(c, out);
	case KIND_UUID:
		return uuid_value(a, c, out);
	case KIND_BYTES:
		*out = value_bytes(c->p, c->n);
		return c->type == SQLITE_BLOB;
	case KIND_TIMESTAMPTZ:
		return c->type == SQLITE_TEXT && timestamp_from_text((const char *)c->p, c->n, out);
	case KIND_DATE:
		return c->type == SQLITE_TEXT && date_from_text((const char *)c->p, c->n, out);
	default:
		break;
	}
	*out = value_text(c->p, c->n);
	if (c->type != SQLITE_TEXT || !utf8_valid(c->p, c->n))
		return false;
	if (value_has_nul(out)) {
		*out_code = FERRY_NUL_IN_TEXT;
		return false;
	}
	return true;
}

static struct cell text_cell(const void *p, size_t n)
{
	return (struct cell){.type = SQLITE_TEXT, .n = (uint32_t)n, .p = p};
}

static struct cell copied_text(struct arena *a, const char *text)
{
	size_t n = strlen(text);
	char *p = arena_text(a, text, n);

	return p == NULL ? cell_null() : text_cell(p, n);
}

static struct cell float_cell(double f)
{
	if (isnan(f))
		return text_cell("NaN", 3);
	if (f == 0 && signbit(f))
		return text_cell("-0", 2);
	return (struct cell){.type = SQLITE_FLOAT, .f = f};
}

/* Borrows text and bytes from the value; makes the rest in the arena. A value
 * that is not of the kind's form becomes NULL (the codec lets none through). */
struct cell value_to_cell(struct arena *a, enum column_kind kind, const struct value *v)
{
	char text[TIME_TEXT_MAX > UUID_TEXT ? TIME_TEXT_MAX : UUID_TEXT];
	struct uuid id;

	if (v->kind == VALUE_NULL || !value_fits(kind, v))
		return cell_null();
	switch (kind) {
	case KIND_BOOL:
		return (struct cell){.type = SQLITE_INTEGER, .i = v->b};
	case KIND_INT:
		return (struct cell){.type = SQLITE_INTEGER, .i = v->i};
	case KIND_FLOAT:
		return float_cell(v->f);
	case KIND_UUID:
		memcpy(&id, v->p, sizeof(id));
		uuid_format(&id, text);
		return copied_text(a, text);
	case KIND_BYTES:
		return (struct cell){.type = SQLITE_BLOB, .n = v->n, .p = v->p};
	case KIND_TIMESTAMPTZ:
		return timestamp_to_text(v, text) ? copied_text(a, text) : cell_null();
	case KIND_DATE:
		return date_to_text(v, text) ? copied_text(a, text) : cell_null();
	default:
		return text_cell(v->p, v->n);
	}
}
