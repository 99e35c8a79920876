/* JSON values: what commands print with --json, the status file, the admin
 * socket and the enrolment request are made of. A gate to jansson.
 *
 * Ownership: json_new_* and json_read_* give a value to the caller, who
 * releases it or hands it over to a parent (json_put, json_add). Setters on
 * NULL do nothing, and a reader of NULL answers "not there", so that a chain
 * needs one check at its end. Memory running out ends the program: these are
 * the short-lived documents of commands, never a peer's bulk data. */
#ifndef FERRY_SHARED_JSON_H
#define FERRY_SHARED_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/errors.h"

#define JSON_DOCUMENT_BYTES_MAX (1u << 20)
#define JSON_DEPTH_MAX 32

struct json;

struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_text(const char *text); /* as a member's value */
void json_release(struct json *v); /* accepts NULL */

/* A repeated key replaces. Text that is not UTF-8 has its bad bytes replaced by '?'. */
void json_put(struct json *object, const char *key, struct json *value); /* value is handed over; NULL: null */
void json_put_text(struct json *object, const char *key, const char *text); /* NULL: null */
void json_put_int(struct json *object, const char *key, int64_t i);
void json_put_real(struct json *object, const char *key, double d); /* NaN, infinity: null */
void json_put_bool(struct json *object, const char *key, bool b);
void json_put_null(struct json *object, const char *key);
void json_add(struct json *array, struct json *value); /* value is handed over */
void json_add_text(struct json *array, const char *text);

/* Reading; all borrowed from the value. */
const struct json *json_get(const struct json *object, const char *key); /* NULL: absent */
const char *json_text(const struct json *v);                /* NULL: not a text */
int64_t json_int(const struct json *v, int64_t otherwise);
bool json_bool(const struct json *v, bool otherwise);
bool json_number(const struct json *v, double *out); /* integers too; false: not a number */
bool json_is_null(const struct json *v); /* also when absent */
bool json_is_bool(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_object(const struct json *v);
size_t json_count(const struct json *array);
const struct json *json_at(const struct json *array, size_t i);
void json_each(const struct json *object, void (*each)(void *ctx, const char *key, const struct json *value),
	       void *ctx); /* in the order the keys were put */

/* FERRY_MALFORMED for what is not one JSON object or array within the limits
 * (bytes, depth, no duplicate keys). */
FERRY_CHECK enum ferry_error json_read_text(const char *text, size_t n, struct json **out, struct ferry_why *why);
FERRY_CHECK enum ferry_error json_read_file(const char *path, struct json **out, struct ferry_why *why);

/* The text, owned by the caller (free). One line when compact. */
char *json_write_text(const struct json *v, bool compact);

#endif
