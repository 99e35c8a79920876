/* What lets programs of different times speak with each other [P 1]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "protocol/message.h"

static void the_highest_common_version_is_taken(void **state)
{
	(void)state;
	assert_int_equal(protocol_version_common(1, 2, 1, 1), 1);
	assert_int_equal(protocol_version_common(1, 2, 1, 3), 2);
	assert_int_equal(protocol_version_common(2, 2, 1, 65535), 2);
	assert_int_equal(protocol_version_common(1, 4, 2, 3), 3);
}

static void ranges_without_a_common_version_have_none(void **state)
{
	(void)state;
	assert_int_equal(protocol_version_common(1, 2, 3, 9), 0);
	assert_int_equal(protocol_version_common(2, 3, 1, 1), 0);
}

static uint32_t optional_type(const char *bytes, size_t n)
{
	uint32_t type = 0;

	return message_optional((const uint8_t *)bytes, n, &type) ? type : 0;
}

#define TYPE_OF(text) optional_type(text, sizeof(text) - 1)

static void unknown_messages_of_optional_types_may_be_passed_over(void **state)
{
	(void)state;
	assert_int_equal(TYPE_OF("\xa1\x00\x18\x80"), 128);
	assert_int_equal(TYPE_OF("\xa2\x00\x18\xff\x01\xa1\x05\x61x"), 255);
}

static void other_types_and_unsound_bytes_may_not(void **state)
{
	(void)state;
	assert_int_equal(TYPE_OF("\xa1\x00\x18\x7f"), 0);         /* 127 */
	assert_int_equal(TYPE_OF("\xa1\x00\x19\x01\x00"), 0);     /* 256 */
	assert_int_equal(TYPE_OF("\xa1\x00\x0a"), 0);             /* ping */
	assert_int_equal(TYPE_OF("\xa1\x01\x18\x80"), 0);         /* no type */
	assert_int_equal(TYPE_OF("\xa2\x00\x18\x80\x01"), 0);     /* cut */
	assert_int_equal(TYPE_OF("\xa1\x00\x18\x80\x00"), 0);     /* bytes behind */
	assert_int_equal(TYPE_OF("\xa2\x00\x18\x80\x01\xc0"), 0); /* a tag */
	assert_int_equal(TYPE_OF(""), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_highest_common_version_is_taken),
		cmocka_unit_test(ranges_without_a_common_version_have_none),
		cmocka_unit_test(unknown_messages_of_optional_types_may_be_passed_over),
		cmocka_unit_test(other_types_and_unsound_bytes_may_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
