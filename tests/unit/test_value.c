#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "protocol/value.h"

static struct value real(double f)
{
	return (struct value){.kind = VALUE_FLOAT, .f = f};
}

static bool equal(struct value a, struct value b)
{
	return value_equal(&a, &b);
}

static void values_are_compared_by_kind_and_content(void **state)
{
	(void)state;
	assert_true(equal(value_null(), value_null()));
	assert_false(equal(value_null(), value_int(0)));
	assert_true(equal(value_text("ab", 2), value_text("abc", 2)));
	assert_false(equal(value_text("ab", 2), value_bytes("ab", 2)));
	assert_true(equal(value_text(NULL, 0), value_text("", 0)));
	assert_true(equal(real(NAN), real(NAN)));
	assert_false(equal(real(0.0), real(-0.0)));
	assert_int_equal(sizeof(struct value), 16);
}

static bool fits(enum column_kind kind, struct value v)
{
	return value_fits(kind, &v);
}

static void each_kind_has_its_wire_form(void **state)
{
	uint8_t id[16] = {0};

	(void)state;
	for (int k = 0; k < KIND_COUNT; k++)
		assert_true(fits((enum column_kind)k, value_null()));
	assert_true(fits(KIND_BOOL, (struct value){.kind = VALUE_BOOL}));
	assert_false(fits(KIND_BOOL, value_int(1)));
	assert_true(fits(KIND_INT, value_int(1)));
	assert_true(fits(KIND_FLOAT, real(1)));
	assert_false(fits(KIND_FLOAT, value_int(1)));
	assert_true(fits(KIND_UUID, value_bytes(id, 16)));
	assert_false(fits(KIND_UUID, value_bytes(id, 15)));
	assert_true(fits(KIND_BYTES, value_bytes(id, 15)));
	assert_true(fits(KIND_TIMESTAMPTZ, real(-INFINITY)));
	assert_false(fits(KIND_DATE, real(1.5)));
	assert_true(fits(KIND_NUMERIC, value_text("1.50", 4)));
	assert_false(fits(KIND_NUMERIC, real(1.5)));
}

static void kinds_have_names_both_ways(void **state)
{
	(void)state;
	for (int k = 0; k < KIND_COUNT; k++)
		assert_int_equal(column_kind_from_name(column_kind_name((enum column_kind)k)), k);
	assert_int_equal(column_kind_from_name("money"), -1);
	assert_null(column_kind_name(KIND_COUNT));
}

static void uuids_are_text_both_ways(void **state)
{
	static const char *const wrong[] = {
		"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeefg",
		"001122334455-6677-8899-aabbccddeeff--", "0011223344556677-8899-aabb-ccddeeffaa",
	};
	struct uuid id, other;
	char text[UUID_TEXT];

	(void)state;
	assert_true(uuid_parse("00112233-4455-6677-8899-AABBccddeeff", 36, &id));
	uuid_format(&id, text);
	assert_string_equal(text, "00112233-4455-6677-8899-aabbccddeeff");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(uuid_parse(wrong[i], strlen(wrong[i]), &other));
	assert_false(uuid_is_zero(&id));
	other = id;
	other.b[15]--;
	assert_true(uuid_compare(&other, &id) < 0);
	assert_false(uuid_equal(&other, &id));
}

static void utf8_is_checked_to_the_letter(void **state)
{
	static const char *const right[] = {
		"", "plain text that is longer than eight", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
		"\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "1234567\xc3\xa9", "12345678\xc3\xa9tail",
	};
	static const char *const wrong[] = {
		"\x80", "\xc0\xaf", "\xc1\xbf", "\xc2", "\xc2x", "\xe0\x9f\xbf", "\xe2\x82", "\xe2\x82x", "\xed\xa0\x80",
		"\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "1234567\xc3", "12345678901234\xc3",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		assert_true(utf8_valid(right[i], strlen(right[i])));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(utf8_valid(wrong[i], strlen(wrong[i])));
	assert_true(utf8_valid("a\0b", 3));
}

static void a_nul_is_found_in_text_only(void **state)
{
	struct value text = value_text("a\0b", 3), bytes = value_bytes("a\0b", 3), none = value_text(NULL, 0);

	(void)state;
	assert_true(value_has_nul(&text));
	assert_false(value_has_nul(&bytes));
	assert_false(value_has_nul(&none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_compared_by_kind_and_content),
		cmocka_unit_test(each_kind_has_its_wire_form),
		cmocka_unit_test(kinds_have_names_both_ways),
		cmocka_unit_test(uuids_are_text_both_ways),
		cmocka_unit_test(utf8_is_checked_to_the_letter),
		cmocka_unit_test(a_nul_is_found_in_text_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
