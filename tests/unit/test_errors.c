#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "protocol/errors.h"

static const int codes[] = {
#define X(name, number, class, text) number,
#include "protocol/errors.def"
#undef X
};

#define COUNT (sizeof(codes) / sizeof(codes[0]))

static void every_code_has_its_own_number_name_and_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		assert_true(ferry_error_known(codes[i]));
		assert_true(strlen(ferry_error_text(codes[i])) > 5);
		for (size_t k = 0; k < i; k++) {
			assert_true(codes[k] < codes[i]);
			assert_string_not_equal(ferry_error_name(codes[k]), ferry_error_name(codes[i]));
		}
	}
}

static void classes_come_from_the_table(void **state)
{
	(void)state;
	assert_int_equal(ferry_error_class(FERRY_OK), FERRY_CLASS_NONE);
	assert_int_equal(ferry_error_class(FERRY_UNIQUE), FERRY_CLASS_REFUSE);
	assert_int_equal(ferry_error_class(FERRY_MALFORMED), FERRY_CLASS_PEER);
	assert_string_equal(ferry_error_name(FERRY_UNIQUE), "UNIQUE");
}

static void an_unknown_code_ends_the_session_only(void **state)
{
	(void)state;
	assert_false(ferry_error_known(65535));
	assert_string_equal(ferry_error_name(65535), "UNKNOWN");
	assert_string_equal(ferry_error_text(-1), "unknown error");
	assert_int_equal(ferry_error_class(65535), FERRY_CLASS_PEER);
}

static void a_sentence_is_cut_at_its_bound(void **state)
{
	struct ferry_why why;
	char longer[FERRY_WHY_MAX * 2];

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(ferry_fail(&why, FERRY_IO, "%s", longer), FERRY_IO);
	assert_int_equal(strlen(why.text), FERRY_WHY_MAX - 1);
	assert_int_equal(ferry_fail(NULL, FERRY_BUSY, "%d", 5), FERRY_BUSY);
	/* Whole characters stay. */
	longer[FERRY_WHY_MAX - 3] = (char)0xe2;
	longer[FERRY_WHY_MAX - 2] = (char)0x82;
	longer[FERRY_WHY_MAX - 1] = (char)0xac;
	assert_int_equal(ferry_fail(&why, FERRY_IO, "%s", longer), FERRY_IO);
	assert_int_equal(strlen(why.text), FERRY_WHY_MAX - 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_has_its_own_number_name_and_text),
		cmocka_unit_test(classes_come_from_the_table),
		cmocka_unit_test(an_unknown_code_ends_the_session_only),
		cmocka_unit_test(a_sentence_is_cut_at_its_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
