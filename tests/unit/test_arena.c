#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "protocol/arena.h"

static void allocations_are_aligned_and_apart(void **state)
{
	struct arena a;
	uint8_t *before = NULL;

	(void)state;
	arena_init(&a, 1 << 20);
	for (size_t n = 0; n < 3000; n += 7) {
		uint8_t *p = arena_alloc(&a, n);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, 0xaa, n);
		assert_true(p != before || n == 7);
		before = p;
		assert_non_null(arena_text(&a, "odd", 3));
	}
	arena_deinit(&a);
}

static void the_limit_refuses_and_marks(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1000);
	assert_non_null(arena_alloc(&a, 600));
	assert_null(arena_alloc(&a, 401));
	assert_true(a.full);
	assert_non_null(arena_alloc(&a, 400));
	arena_reset(&a);
	assert_false(a.full);
	assert_non_null(arena_alloc(&a, 1000));
	arena_deinit(&a);
}

static void an_overflowing_product_is_refused(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, SIZE_MAX / 2);
	assert_null(arena_array(&a, SIZE_MAX / 2, 3));
	assert_true(a.full);
	arena_deinit(&a);
}

static void arrays_are_zeroed_and_text_is_ended(void **state)
{
	struct arena a;
	uint64_t *numbers;

	(void)state;
	arena_init(&a, 1 << 16);
	memset(arena_alloc(&a, 800), 0xff, 800);
	arena_reset(&a);
	numbers = arena_array(&a, 100, 8);
	for (int i = 0; i < 100; i++)
		assert_int_equal(numbers[i], 0);
	assert_string_equal(arena_text(&a, "units!", 5), "units");
	assert_string_equal(arena_text(&a, NULL, 0), "");
	assert_memory_equal(arena_copy(&a, "abc", 3), "abc", 3);
	arena_deinit(&a);
}

static void reset_keeps_one_chunk(void **state)
{
	struct arena a;
	void *first;

	(void)state;
	arena_init(&a, 1 << 20);
	first = arena_alloc(&a, 100);
	arena_reset(&a);
	assert_ptr_equal(arena_alloc(&a, 100), first);
	arena_deinit(&a);
	arena_deinit(&a);
}

static void a_buffer_grows_to_its_maximum(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b, 1000);
	for (int i = 0; i < 100; i++)
		assert_true(buffer_append(&b, "0123456789", 10));
	assert_int_equal(b.n, 1000);
	assert_false(buffer_append(&b, "x", 1));
	assert_true(b.overflowed);
	assert_int_equal(b.n, 1000);
	assert_true(b.capacity <= 1000);
	buffer_clear(&b);
	assert_true(buffer_append(&b, NULL, 0));
	assert_non_null(buffer_reserve(&b, 1000));
	assert_null(buffer_reserve(&b, 1001));
	buffer_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocations_are_aligned_and_apart),
		cmocka_unit_test(the_limit_refuses_and_marks),
		cmocka_unit_test(an_overflowing_product_is_refused),
		cmocka_unit_test(arrays_are_zeroed_and_text_is_ended),
		cmocka_unit_test(reset_keeps_one_chunk),
		cmocka_unit_test(a_buffer_grows_to_its_maximum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
