#include "shared/json.h"

#include <jansson.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/value.h"

/* A struct json is never defined: its pointer is jansson's, under our name. */
static json_t *theirs(const struct json *v)
{
	return (json_t *)(uintptr_t)v;
}

static struct json *ours(json_t *v)
{
	return (struct json *)v;
}

static json_t *must(json_t *v)
{
	if (v)
		return v;
	fputs("no memory is left\n", stderr);
	exit(1);
}

struct json *json_new_object(void)
{
	return ours(must(json_object()));
}

struct json *json_new_array(void)
{
	return ours(must(json_array()));
}

void json_release(struct json *v)
{
	json_decref(theirs(v));
}

static json_t *text_value(const char *text)
{
	if (!text)
		return json_null();
	size_t n = strlen(text);
	if (utf8_valid(text, n))
		return must(json_stringn_nocheck(text, n));
	char *copy = strdup(text);
	if (!copy)
		return must(NULL);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)copy[i] >= 0x80)
			copy[i] = '?';
	json_t *v = must(json_stringn_nocheck(copy, n));
	free(copy);
	return v;
}

static void put(struct json *object, const char *key, json_t *value)
{
	if (!object) {
		json_decref(value);
		return;
	}
	if (!utf8_valid(key, strlen(key)))
		key = "?";
	if (json_object_set_new_nocheck(theirs(object), key, value) != 0)
		must(NULL);
}

void json_put(struct json *object, const char *key, struct json *value)
{
	put(object, key, value ? theirs(value) : json_null());
}

struct json *json_new_text(const char *text)
{
	return ours(text_value(text));
}

void json_put_text(struct json *object, const char *key, const char *text)
{
	put(object, key, text_value(text));
}

void json_put_int(struct json *object, const char *key, int64_t i)
{
	put(object, key, must(json_integer(i)));
}

void json_put_real(struct json *object, const char *key, double d)
{
	put(object, key, isfinite(d) ? must(json_real(d)) : json_null());
}

void json_put_bool(struct json *object, const char *key, bool b)
{
	put(object, key, json_boolean(b));
}

void json_put_null(struct json *object, const char *key)
{
	put(object, key, json_null());
}

void json_add(struct json *array, struct json *value)
{
	if (!array) {
		json_release(value);
		return;
	}
	if (json_array_append_new(theirs(array), value ? theirs(value) : json_null()) != 0)
		must(NULL);
}

void json_add_text(struct json *array, const char *text)
{
	json_add(array, ours(text_value(text)));
}

const struct json *json_get(const struct json *object, const char *key)
{
	return object ? ours(json_object_get(theirs(object), key)) : NULL;
}

const char *json_text(const struct json *v)
{
	return v ? json_string_value(theirs(v)) : NULL;
}

int64_t json_int(const struct json *v, int64_t otherwise)
{
	return v && json_is_integer(theirs(v)) ? json_integer_value(theirs(v)) : otherwise;
}

bool json_bool(const struct json *v, bool otherwise)
{
	return v && json_is_boolean(theirs(v)) ? json_is_true(theirs(v)) : otherwise;
}

bool json_number(const struct json *v, double *out)
{
	if (!v || !json_is_number(theirs(v)))
		return false;
	*out = json_number_value(theirs(v));
	return true;
}

bool json_is_bool(const struct json *v)
{
	return v && json_is_boolean(theirs(v));
}

#undef json_is_array
bool json_is_array(const struct json *v)
{
	return v && json_typeof(theirs(v)) == JSON_ARRAY;
}

#undef json_is_null
bool json_is_null(const struct json *v)
{
	return !v || json_typeof(theirs(v)) == JSON_NULL;
}

#undef json_is_object
bool json_is_object(const struct json *v)
{
	return v && json_typeof(theirs(v)) == JSON_OBJECT;
}

size_t json_count(const struct json *array)
{
	return array ? json_array_size(theirs(array)) : 0;
}

const struct json *json_at(const struct json *array, size_t i)
{
	return array ? ours(json_array_get(theirs(array), i)) : NULL;
}

void json_each(const struct json *object, void (*each)(void *ctx, const char *key, const struct json *value),
	       void *ctx)
{
	const char *key;
	json_t *value;
	if (!json_is_object(object))
		return;
	json_object_foreach(theirs(object), key, value)
		each(ctx, key, ours(value));
}

static int depth_of(const char *text, size_t n)
{
	int depth = 0, deepest = 0;
	bool inside = false;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (inside) {
			if (c == '\\')
				i++;
			else if (c == '"')
				inside = false;
		} else if (c == '"') {
			inside = true;
		} else if (c == '{' || c == '[') {
			if (++depth > deepest)
				deepest = depth;
		} else if (c == '}' || c == ']') {
			depth--;
		}
	}
	return deepest;
}

enum ferry_error json_read_text(const char *text, size_t n, struct json **out, struct ferry_why *why)
{
	if (n > JSON_DOCUMENT_BYTES_MAX)
		return ferry_fail(why, FERRY_MALFORMED, "the JSON text is longer than %u bytes",
				  JSON_DOCUMENT_BYTES_MAX);
	if (depth_of(text, n) > JSON_DEPTH_MAX)
		return ferry_fail(why, FERRY_MALFORMED, "the JSON text is nested deeper than %d", JSON_DEPTH_MAX);
	json_error_t error;
	json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
	if (!v)
		return ferry_fail(why, FERRY_MALFORMED, "not valid JSON: %s (line %d)", error.text, error.line);
	*out = ours(v);
	return FERRY_OK;
}

enum ferry_error json_read_file(const char *path, struct json **out, struct ferry_why *why)
{
	FILE *f = fopen(path, "re");
	if (!f)
		return ferry_fail(why, errno == ENOENT ? FERRY_NOT_FOUND : FERRY_IO, "%s cannot be opened: %s", path,
				  strerror(errno));
	char *text = malloc(JSON_DOCUMENT_BYTES_MAX + 1);
	if (!text) {
		fclose(f);
		return FERRY_NO_MEMORY;
	}
	size_t n = fread(text, 1, JSON_DOCUMENT_BYTES_MAX + 1, f);
	enum ferry_error e = ferror(f) ? ferry_fail(why, FERRY_IO, "%s cannot be read", path) : FERRY_OK;
	fclose(f);
	struct ferry_why inner = {0};
	if (e == FERRY_OK && json_read_text(text, n, out, &inner) != FERRY_OK)
		e = ferry_fail(why, FERRY_CORRUPT, "%s: %s", path, inner.text);
	free(text);
	return e;
}

char *json_write_text(const struct json *v, bool compact)
{
	char *text = json_dumps(theirs(v), (compact ? JSON_COMPACT : JSON_INDENT(2)) | JSON_ENCODE_ANY);
	if (!text)
		must(NULL);
	return text;
}
