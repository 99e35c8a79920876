#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "protocol/message.h"
#include "shared/clock.h"

static void stamps_follow_the_wall_clock(void **state)
{
	struct hlc c = {0};

	(void)state;
	assert_int_equal(hlc_now(&c, 1000), 1000);
	assert_int_equal(hlc_now(&c, 2000), 2000);
}

static void stamps_rise_while_the_wall_clock_stands_or_falls(void **state)
{
	struct hlc c = {0};

	(void)state;
	assert_int_equal(hlc_now(&c, 1000), 1000);
	assert_int_equal(hlc_now(&c, 1000), 1001);
	assert_int_equal(hlc_now(&c, 5), 1002);
	assert_int_equal(hlc_now(&c, -5), 1003);
}

static void an_observed_stamp_is_passed(void **state)
{
	struct hlc c = {0};

	(void)state;
	assert_true(hlc_observe(&c, 5000, 1000));
	assert_int_equal(hlc_now(&c, 1000), 5001);
	assert_true(hlc_observe(&c, 20, 1000));
	assert_int_equal(hlc_now(&c, 1000), 5002);
}

static void a_stamp_of_the_far_future_is_not_taken_over(void **state)
{
	struct hlc c = {0};

	(void)state;
	assert_true(hlc_observe(&c, 1000 + CLOCK_AHEAD_MAX_US, 1000));
	assert_false(hlc_observe(&c, 1001 + CLOCK_AHEAD_MAX_US, 1000));
	assert_false(hlc_observe(&c, INT64_MAX, INT64_MAX));
	assert_int_equal(hlc_now(&c, 1000), 1001 + CLOCK_AHEAD_MAX_US);
}

static void stamps_end_at_the_protocols_limit(void **state)
{
	struct hlc c = {0};

	(void)state;
	assert_int_equal(hlc_now(&c, INT64_MAX), FERRY_CLOCK_MAX);
	assert_int_equal(hlc_now(&c, INT64_MAX), FERRY_CLOCK_MAX);
}

static void the_machines_clocks_run(void **state)
{
	int64_t before = clock_monotonic_us();

	(void)state;
	assert_true(clock_wall_us() > 1700000000000000);
	assert_true(clock_monotonic_us() >= before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stamps_follow_the_wall_clock),
		cmocka_unit_test(stamps_rise_while_the_wall_clock_stands_or_falls),
		cmocka_unit_test(an_observed_stamp_is_passed),
		cmocka_unit_test(a_stamp_of_the_far_future_is_not_taken_over),
		cmocka_unit_test(stamps_end_at_the_protocols_limit),
		cmocka_unit_test(the_machines_clocks_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
