/* [P 4-9] Messages: round trips, refusals, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "tests/lib/random_message.h"

#define ROUNDS 3000

static uint64_t pick_seed(void)
{
	const char *given = getenv("FERRY_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);

	printf("FERRY_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static int rounds(int n)
{
	return getenv("FERRY_VALGRIND") != NULL ? n / 20 : n;
}

static void must_encode(const struct message *m, struct buffer *out)
{
	buffer_clear(out);
	assert_int_equal(message_encode(m, out), FERRY_OK);
}

static void round_trip(struct rng *r, struct arena *scratch, struct arena *decoded, struct buffer *a, struct buffer *b)
{
	struct message m, back;
	struct ferry_why why = {""};

	arena_reset(scratch);
	arena_reset(decoded);
	rng_message(r, scratch, &m);
	must_encode(&m, a);
	if (message_decode(decoded, a->p, a->n, &back, &why) != FERRY_OK)
		fail_msg("%s: %s", message_type_name((int)m.type), why.text);
	assert_int_equal(back.type, m.type);
	must_encode(&back, b);
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->p, b->p, a->n);
}

static void any_message_survives_a_round_trip(void **state)
{
	struct rng r = {pick_seed()};
	struct arena scratch, decoded;
	struct buffer a, b;

	(void)state;
	arena_init(&scratch, 1 << 24);
	arena_init(&decoded, FERRY_DECODE_BYTES_MAX);
	buffer_init(&a, FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&b, FERRY_MESSAGE_BYTES_MAX);
	for (int i = 0; i < rounds(ROUNDS); i++)
		round_trip(&r, &scratch, &decoded, &a, &b);
	buffer_deinit(&a);
	buffer_deinit(&b);
	arena_deinit(&scratch);
	arena_deinit(&decoded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_message_survives_a_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
