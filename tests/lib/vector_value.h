/* Values as the vectors' JSON describes them: null, true, 5, "text",
 * {"bytes": "00ff"}, {"float": "-Infinity"}. */
#ifndef FERRY_TESTS_VECTOR_VALUE_H
#define FERRY_TESTS_VECTOR_VALUE_H

#include <stdlib.h>
#include <string.h>

#include "protocol/arena.h"
#include "protocol/value.h"
#include "shared/json.h"

static inline int vector_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static inline uint8_t *vector_bytes(struct arena *a, const char *hex, size_t *out_n)
{
	size_t n = strlen(hex) / 2;
	uint8_t *bytes = arena_alloc(a, n);

	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(vector_digit(hex[2 * i]) << 4 | vector_digit(hex[2 * i + 1]));
	*out_n = n;
	return bytes;
}

static inline struct value vector_value(struct arena *a, const struct json *v)
{
	const char *text = json_text(v);
	const char *bytes = json_text(json_get(v, "bytes")), *number = json_text(json_get(v, "float"));
	size_t n;

	if (json_is_null(v))
		return value_null();
	if (text != NULL)
		return value_text(arena_text(a, text, strlen(text)), strlen(text));
	if (number != NULL)
		return (struct value){.kind = VALUE_FLOAT, .f = strtod(number, NULL)};
	if (bytes != NULL) {
		uint8_t *p = vector_bytes(a, bytes, &n);

		return value_bytes(p, n);
	}
	if (json_bool(v, true) == json_bool(v, false))
		return (struct value){.kind = VALUE_BOOL, .b = json_bool(v, true)};
	return value_int(json_int(v, 0));
}

#endif
