#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "shared/clock.h"

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
		cmocka_unit_test(the_machines_clocks_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
