/* [P 4] The CBOR gate: the profile, its budgets, the sticky error. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "protocol/cbor.h"
#include "tests/lib/random_message.h"

static enum ferry_error skip_all(const uint8_t *bytes, size_t n)
{
	struct reader r;

	reader_init(&r, bytes, n);
	reader_skip(&r);
	reader_finish(&r);
	return r.error;
}

static void integers_take_their_shortest_form(void **state)
{
	static const struct {
		int64_t v;
		size_t n;
	} known[] = {
		{0, 1}, {23, 1}, {24, 2}, {255, 2}, {256, 3}, {65535, 3}, {65536, 5}, {UINT32_MAX, 5},
		{(int64_t)UINT32_MAX + 1, 9}, {INT64_MAX, 9}, {-1, 1}, {-24, 1}, {-25, 2}, {-256, 2}, {-257, 3}, {INT64_MIN, 9},
	};
	struct buffer b;
	struct reader r;

	(void)state;
	buffer_init(&b, 100);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct value v = value_int(known[i].v);

		buffer_clear(&b);
		writer_int(&b, known[i].v);
		assert_int_equal(b.n, known[i].n);
		assert_int_equal(value_encoded_bytes(&v), known[i].n);
		reader_init(&r, b.p, b.n);
		assert_int_equal(reader_int(&r), known[i].v);
		reader_finish(&r);
		assert_int_equal(r.error, FERRY_OK);
	}
	buffer_deinit(&b);
}

static void any_value_survives_a_round_trip(void **state)
{
	struct rng rng = {11};
	struct arena a;
	struct buffer b;

	(void)state;
	arena_init(&a, 1 << 20);
	buffer_init(&b, 1000);
	for (int i = 0; i < 20000; i++) {
		struct value v, back;
		struct reader r;

		arena_reset(&a);
		buffer_clear(&b);
		v = rng_value(&rng, &a);
		writer_value(&b, &v);
		assert_int_equal(b.n, value_encoded_bytes(&v));
		reader_init(&r, b.p, b.n);
		reader_value(&r, &back);
		assert_int_equal(r.error, FERRY_OK);
		assert_true(value_equal(&v, &back));
	}
	buffer_deinit(&b);
	arena_deinit(&a);
}

static void every_nan_becomes_one(void **state)
{
	static const uint8_t expected[] = {0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0};
	struct buffer b;

	(void)state;
	buffer_init(&b, 100);
	writer_float(&b, -(double)NAN);
	assert_int_equal(b.n, sizeof(expected));
	assert_memory_equal(b.p, expected, sizeof(expected));
	buffer_deinit(&b);
}

static void the_first_error_stays_and_nothing_moves(void **state)
{
	static const uint8_t bytes[] = {0x05, 0x61, 'a', 0xf6};
	struct reader r;
	uint32_t n = 7;

	(void)state;
	reader_init(&r, bytes, sizeof(bytes));
	assert_int_equal(reader_uint(&r), 5);
	assert_int_equal(reader_uint(&r), 0);
	assert_int_equal(r.error, FERRY_BAD_MESSAGE);
	assert_int_equal(reader_offset(&r), 1);
	assert_null(reader_text(&r, &n));
	assert_int_equal(n, 0);
	reader_fail(&r, FERRY_INTERNAL, "later");
	assert_int_equal(r.error, FERRY_BAD_MESSAGE);
	assert_int_equal(reader_offset(&r), 1);
}

static void nesting_is_bounded(void **state)
{
	uint8_t bytes[40];

	(void)state;
	memset(bytes, 0x81, sizeof(bytes));
	bytes[16] = 0x01;
	assert_int_equal(skip_all(bytes, 17), FERRY_OK);
	bytes[16] = 0x81;
	bytes[17] = 0x01;
	assert_int_equal(skip_all(bytes, 18), FERRY_MALFORMED);
}

static void items_are_bounded(void **state)
{
	size_t n = READER_ITEMS_MAX + 5;
	uint8_t *bytes = malloc(n);

	(void)state;
	memset(bytes, 0x01, n);
	bytes[0] = 0x9a;
	bytes[1] = (uint8_t)((n - 5) >> 24);
	bytes[2] = (uint8_t)((n - 5) >> 16);
	bytes[3] = (uint8_t)((n - 5) >> 8);
	bytes[4] = (uint8_t)(n - 5);
	assert_int_equal(skip_all(bytes, n), FERRY_MESSAGE_TOO_LARGE);
	free(bytes);
}

static void counts_beyond_the_bytes_are_refused_at_once(void **state)
{
	static const uint8_t array[] = {0x9a, 0x7f, 0xff, 0xff, 0xff}, map[] = {0xb9, 0xff, 0xff, 1, 2};
	static const uint8_t text[] = {0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'a'};

	(void)state;
	assert_int_equal(skip_all(array, sizeof(array)), FERRY_MALFORMED);
	assert_int_equal(skip_all(map, sizeof(map)), FERRY_MALFORMED);
	assert_int_equal(skip_all(text, sizeof(text)), FERRY_MALFORMED);
	assert_int_equal(skip_all(text, 0), FERRY_MALFORMED);
}

/* Every first byte, with enough behind it. */
static void only_the_profile_is_taken(void **state)
{
	uint8_t bytes[32];

	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		unsigned major = first >> 5, info = first & 31;
		bool simple = first == 0xf4 || first == 0xf5 || first == 0xf6 || first == 0xfb;
		bool direct = info < 24 && major != 6 && major != 7;

		memset(bytes, 0x00, sizeof(bytes));
		bytes[0] = (uint8_t)first;
		if (major == 5)
			continue; /* keys must ascend: below */
		assert_int_equal(skip_all(bytes, sizeof(bytes)), FERRY_MALFORMED); /* bytes behind the end at least */
		if (direct && (major < 2 || info == 0))
			assert_int_equal(skip_all(bytes, 1), FERRY_OK);
		if (simple)
			assert_int_equal(skip_all(bytes, first == 0xfb ? 9 : 1), FERRY_OK);
		if (!direct && !simple)
			for (size_t n = 1; n < 12; n++)
				assert_int_equal(skip_all(bytes, n), FERRY_MALFORMED);
	}
}

static void a_full_buffer_is_told_at_the_end(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b, 3);
	writer_array(&b, 1);
	writer_text(&b, "ab", 2);
	assert_true(b.overflowed);
	buffer_clear(&b);
	writer_text(&b, "ab", 2);
	assert_false(b.overflowed);
	buffer_deinit(&b);
}

static void a_person_can_read_it(void **state)
{
	static const uint8_t bytes[] = {0xa3, 0x00, 0x04, 0x01, 0x86, 0x38, 0x63, 0xf6, 0xf5, 0x61, 'a',
					0x42, 0x0f, 0xa0, 0xfb, 0x3f, 0xf0, 0,    0,    0,    0,   0,
					0,    0x02, 0xa0};
	struct buffer out;
	struct reader r;

	(void)state;
	buffer_init(&out, 1000);
	reader_init(&r, bytes, sizeof(bytes));
	reader_diagnose(&r, &out);
	reader_finish(&r);
	assert_int_equal(r.error, FERRY_OK);
	buffer_append(&out, "", 1);
	assert_string_equal((const char *)out.p, "{0: 4, 1: [-100, null, true, \"a\", h'0fa0', 1.0], 2: {}}");
	buffer_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_take_their_shortest_form),
		cmocka_unit_test(any_value_survives_a_round_trip),
		cmocka_unit_test(every_nan_becomes_one),
		cmocka_unit_test(the_first_error_stays_and_nothing_moves),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(items_are_bounded),
		cmocka_unit_test(counts_beyond_the_bytes_are_refused_at_once),
		cmocka_unit_test(only_the_profile_is_taken),
		cmocka_unit_test(a_full_buffer_is_told_at_the_end),
		cmocka_unit_test(a_person_can_read_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
