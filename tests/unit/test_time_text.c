/* Times: the wire's numbers and the replica's text. Expected numbers come from
 * PostgreSQL. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "shared/time_text.h"
#include "tests/lib/random_message.h"

struct known {
	int64_t number;
	const char *text;
};

static const struct known timestamps[] = {
	{0, "1970-01-01T00:00:00.000000Z"},
	{-1, "1969-12-31T23:59:59.999999Z"},
	{1772368496123456, "2026-03-01T12:34:56.123456Z"},
	{-2203891200000001, "1900-02-28T23:59:59.999999Z"},
	{-62135596800000000, "0001-01-01T00:00:00.000000Z"},
	{-63517780799500000, "0044-03-15T12:00:00.500000Z BC"},
	{-210866803200000000, "4714-11-24T00:00:00.000000Z BC"},
	{INT64_MAX, "294247-01-10T04:00:54.775807Z"},
};

static const struct known dates[] = {
	{0, "1970-01-01"},
	{-1, "1969-12-31"},
	{11016, "2000-02-29"},
	{-719162, "0001-01-01"},
	{-719163, "0001-12-31 BC"},
	{-2440588, "4714-11-24 BC"},
	{2145042905, "5874897-12-31"},
};

static void timestamps_are_written_and_read(void **state)
{
	char text[TIME_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(timestamps) / sizeof(timestamps[0]); i++) {
		struct value v = value_int(timestamps[i].number), back;

		assert_true(timestamp_to_text(&v, text));
		assert_string_equal(text, timestamps[i].text);
		assert_true(timestamp_from_text(text, strlen(text), &back));
		assert_true(value_equal(&v, &back));
	}
}

static void dates_are_written_and_read(void **state)
{
	char text[TIME_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
		struct value v = value_int(dates[i].number), back;

		assert_true(date_to_text(&v, text));
		assert_string_equal(text, dates[i].text);
		assert_true(date_from_text(text, strlen(text), &back));
		assert_true(value_equal(&v, &back));
	}
}

static void infinities_are_words(void **state)
{
	struct value v = {.kind = VALUE_FLOAT, .f = -INFINITY}, back;
	char text[TIME_TEXT_MAX];

	(void)state;
	assert_true(timestamp_to_text(&v, text));
	assert_string_equal(text, "-infinity");
	assert_true(date_from_text("Infinity", 8, &back));
	assert_true(isinf(back.f) && back.f > 0);
	v.f = 1.5;
	assert_false(timestamp_to_text(&v, text));
	assert_false(date_to_text(&v, text));
}

static void what_apps_write_is_read(void **state)
{
	static const struct known forms[] = {
		{1772368496000000, "2026-03-01 12:34:56"},
		{1772368496123000, "2026-03-01t12:34:56.123z"},
		{1772368496123457, "2026-03-01T12:34:56.1234567Z"},
		{1772348696123457, "2026-03-01T12:34:56.123456789+05:30"},
		{1772372096000000, "2026-03-01T12:34:56-01"},
		{1772372096000000, "2026-03-01T12:34:56-0100"},
		{1772368440000000, "2026-03-01T12:34"},
		{1772323200000000, "2026-03-01"},
		{1772409600000000, "2026-03-01T24:00:00Z"},
		{1772368497000000, "2026-03-01T12:34:56.9999999Z"},
	};
	struct value v;

	(void)state;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (!timestamp_from_text(forms[i].text, strlen(forms[i].text), &v) || v.i != forms[i].number)
			fail_msg("%s gives %lld", forms[i].text, (long long)v.i);
	}
}

static void what_is_no_time_is_refused(void **state)
{
	static const char *const wrong[] = {
		"", "now", "2026", "2026-3-1", "2026-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "0000-01-01",
		"2026-03-01T25:00:00Z", "2026-03-01T24:00:01Z", "2026-03-01T12:60:00Z", "2026-03-01T12:34:60Z",
		"2026-03-01T12:34:56.Z", "2026-03-01T12:34:56.1234567891Z", "2026-03-01T12:34:56Zx",
		"2026-03-01T12:34:56+16:00", "2026-03-01T12:34:56+5", "2026-03-01X12:34:56", "2026-03-01T1:2:3",
		"294248-01-01T00:00:00Z", "4714-11-23 BC", "5874898-01-01", "infinit", "--infinity", "2026-03-01T",
		"99999999-01-01", " 2026-03-01", "2026-03-01 ",
	};
	struct value v = value_int(42);

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (timestamp_from_text(wrong[i], strlen(wrong[i]), &v) || v.i != 42)
			fail_msg("'%s' was taken for %lld", wrong[i], (long long)v.i);
	}
	assert_false(date_from_text("2026-03-01T00:00:00Z", 20, &v));
	assert_false(date_from_text("5874898-01-01", 13, &v));
}

static void numbers_out_of_range_have_no_text(void **state)
{
	struct value early = value_int(-210866803200000001), day = value_int(2145042906), text = value_text("x", 1);
	char out[TIME_TEXT_MAX];

	(void)state;
	assert_false(timestamp_to_text(&early, out));
	assert_false(date_to_text(&day, out));
	assert_false(date_to_text(&text, out));
}

static void any_time_survives_a_round_trip(void **state)
{
	struct rng r = {1};

	(void)state;
	for (int i = 0; i < 100000; i++) {
		struct value v = value_int(rng_bool(&r) ? rng_number(&r) : -(rng_number(&r) % 210866803200000000)), back;
		char text[TIME_TEXT_MAX];

		assert_true(timestamp_to_text(&v, text));
		if (!timestamp_from_text(text, strlen(text), &back) || !value_equal(&v, &back))
			fail_msg("%lld: %s", (long long)v.i, text);
		v.i %= 2145042905;
		if (v.i < -2440588)
			continue;
		assert_true(date_to_text(&v, text));
		assert_true(date_from_text(text, strlen(text), &back) && value_equal(&v, &back));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timestamps_are_written_and_read),
		cmocka_unit_test(dates_are_written_and_read),
		cmocka_unit_test(infinities_are_words),
		cmocka_unit_test(what_apps_write_is_read),
		cmocka_unit_test(what_is_no_time_is_refused),
		cmocka_unit_test(numbers_out_of_range_have_no_text),
		cmocka_unit_test(any_time_survives_a_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
