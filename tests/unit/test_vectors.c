/* The protocol's vectors: bytes to fields, fields to bytes, and refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "protocol/describe.h"
#include "tests/lib/vector_value.h"

struct fixture {
	struct arena bytes;
	struct arena decoded;
	struct buffer again;
	struct buffer described;
};

static struct json *read_vectors(const char *name)
{
	const char *root = getenv("FERRY_SOURCE");
	char path[1024];
	struct ferry_why why = {""};
	struct json *vectors;

	snprintf(path, sizeof(path), "%s/protocol/vectors/%s", root == NULL ? "." : root, name);
	if (json_read_file(path, &vectors, &why) != FERRY_OK)
		fail_msg("%s: %s", path, why.text);
	return vectors;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	arena_init(&f->bytes, 1 << 20);
	arena_init(&f->decoded, FERRY_DECODE_BYTES_MAX);
	buffer_init(&f->again, FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&f->described, FERRY_MESSAGE_BYTES_MAX);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	arena_deinit(&f->bytes);
	arena_deinit(&f->decoded);
	buffer_deinit(&f->again);
	buffer_deinit(&f->described);
	free(f);
	return 0;
}

/* Both as JSON without regard to spaces; the order of members is the wire's. */
static void must_describe(struct fixture *f, const char *name, const struct message *m, const struct json *expected)
{
	struct json *got;
	char *a, *b;

	buffer_clear(&f->described);
	message_describe(m, &f->described);
	assert_int_equal(json_read_text((const char *)f->described.p, f->described.n, &got, NULL), FERRY_OK);
	a = json_write_text(got, true);
	b = json_write_text(expected, true);
	if (strcmp(a, b) != 0)
		fail_msg("%s:\n  got      %s\n  expected %s", name, a, b);
	free(a);
	free(b);
	json_release(got);
}

static void check_message(struct fixture *f, const struct json *v)
{
	const char *name = json_text(json_get(v, "name")), *hex = json_text(json_get(v, "hex"));
	const char *canonical = json_text(json_get(v, "canonical"));
	struct ferry_why why = {""};
	struct message m;
	uint8_t *bytes;
	size_t n;

	arena_reset(&f->bytes);
	arena_reset(&f->decoded);
	buffer_clear(&f->again);
	bytes = vector_bytes(&f->bytes, hex, &n);
	if (message_decode(&f->decoded, bytes, n, &m, &why) != FERRY_OK)
		fail_msg("%s: %s", name, why.text);
	must_describe(f, name, &m, json_get(v, "message"));
	assert_int_equal(message_encode(&m, &f->again), FERRY_OK);
	bytes = vector_bytes(&f->bytes, canonical == NULL ? hex : canonical, &n);
	assert_int_equal(f->again.n, n);
	assert_memory_equal(f->again.p, bytes, n);
}

static void valid_vectors_are_read_and_written(void **state)
{
	struct json *vectors = read_vectors("messages.json");

	for (size_t i = 0; i < json_count(vectors); i++)
		check_message(*state, json_at(vectors, i));
	assert_true(json_count(vectors) > 20);
	json_release(vectors);
}

static void check_invalid(struct fixture *f, const struct json *v)
{
	const char *name = json_text(json_get(v, "name")), *code = json_text(json_get(v, "code"));
	struct ferry_why why = {""};
	struct message m;
	uint8_t *bytes;
	int error;
	size_t n;

	arena_reset(&f->bytes);
	arena_reset(&f->decoded);
	bytes = vector_bytes(&f->bytes, json_text(json_get(v, "hex")), &n);
	error = (int)message_decode(&f->decoded, bytes, n, &m, &why);
	if (strcmp(ferry_error_name(error), code) != 0)
		fail_msg("%s: %s (%s) in place of %s", name, ferry_error_name(error), why.text, code);
	assert_string_not_equal(why.text, "");
	assert_true(f->decoded.used_bytes < 100000);
}

static void invalid_vectors_are_refused_with_their_code(void **state)
{
	struct json *vectors = read_vectors("invalid.json");

	for (size_t i = 0; i < json_count(vectors); i++)
		check_invalid(*state, json_at(vectors, i));
	assert_true(json_count(vectors) > 90);
	json_release(vectors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(valid_vectors_are_read_and_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(invalid_vectors_are_refused_with_their_code, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
