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

/* One to four bytes changed, cut out, doubled, or put in the place of others. */
static void mutate(struct rng *r, struct buffer *b)
{
	for (uint32_t i = 1 + rng_below(r, 4); i > 0 && b->n > 1; i--) {
		uint32_t at = rng_below(r, (uint32_t)b->n), other = rng_below(r, (uint32_t)b->n);

		switch (rng_below(r, 5)) {
		case 0:
			b->p[at] ^= (uint8_t)(1u << rng_below(r, 8));
			break;
		case 1:
			b->p[at] = (uint8_t)rng_next(r);
			break;
		case 2:
			b->p[at] = b->p[other];
			break;
		case 3:
			memmove(b->p + at, b->p + at + 1, b->n - at - 1);
			b->n--;
			break;
		default:
			b->n = at + 1;
			break;
		}
	}
}

/* What a damaged message still says must be a message: it encodes again. */
static void mutated_messages_are_refused_or_mean_something(void **state)
{
	struct rng r = {pick_seed()};
	struct arena scratch, decoded;
	struct buffer a, b;
	struct message m, back;
	struct ferry_why why;
	int refused = 0;

	(void)state;
	arena_init(&scratch, 1 << 24);
	arena_init(&decoded, FERRY_DECODE_BYTES_MAX);
	buffer_init(&a, FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&b, 2 * FERRY_MESSAGE_BYTES_MAX);
	for (int i = 0; i < rounds(ROUNDS * 10); i++) {
		if (i % 20 == 0) {
			arena_reset(&scratch);
			rng_message(&r, &scratch, &m);
		}
		must_encode(&m, &a);
		mutate(&r, &a);
		arena_reset(&decoded);
		if (message_decode(&decoded, a.p, a.n, &back, &why) == FERRY_OK)
			must_encode(&back, &b);
		else
			refused++;
		assert_true(decoded.used_bytes <= FERRY_DECODE_BYTES_MAX);
	}
	assert_true(refused > rounds(ROUNDS * 10) / 2);
	buffer_deinit(&a);
	buffer_deinit(&b);
	arena_deinit(&scratch);
	arena_deinit(&decoded);
}

static struct block plain_block(struct arena *a, uint16_t columns, uint32_t rows)
{
	struct uuid *keys = arena_array(a, rows, sizeof(*keys));
	uint16_t *nums = arena_array(a, columns, sizeof(*nums));

	for (uint32_t r = 0; r < rows; r++)
		keys[r] = (struct uuid){{(uint8_t)(r >> 16), (uint8_t)(r >> 8), (uint8_t)r}};
	for (uint16_t c = 0; c < columns; c++)
		nums[c] = (uint16_t)(c + 2);
	return (struct block){
		.table = 1,
		.op = ROW_INSERT,
		.column_count = columns,
		.row_count = rows,
		.nums = nums,
		.keys = keys,
		.cells = arena_array(a, (size_t)columns * rows, sizeof(struct value)),
	};
}

static enum ferry_error encode_fill(struct buffer *out, const struct block *b)
{
	struct message m = {.type = MESSAGE_FILL, .fill = {.scope = "tenant", .block = *b}};

	buffer_clear(out);
	return message_encode(&m, out);
}

/* The largest number of cells, in the form that takes the fewest bytes. */
static void the_fullest_message_fits_its_memory(void **state)
{
	struct arena scratch, decoded;
	struct buffer out;
	struct message m;
	struct block b;

	(void)state;
	arena_init(&scratch, 1 << 24);
	arena_init(&decoded, FERRY_DECODE_BYTES_MAX);
	buffer_init(&out, FERRY_MESSAGE_BYTES_MAX);
	b = plain_block(&scratch, 2, FERRY_CELLS_MAX / 2 - 1024);
	assert_int_equal(encode_fill(&out, &b), FERRY_OK);
	assert_true(out.n <= block_encoded_bytes(&b) + 32);
	assert_int_equal(message_decode(&decoded, out.p, out.n, &m, NULL), FERRY_OK);
	arena_deinit(&scratch);
	arena_deinit(&decoded);
	buffer_deinit(&out);
}

static void more_cells_than_the_limit_are_refused_on_both_sides(void **state)
{
	struct arena scratch, decoded;
	struct buffer out;
	struct block b;

	(void)state;
	arena_init(&scratch, 1 << 24);
	arena_init(&decoded, FERRY_DECODE_BYTES_MAX);
	buffer_init(&out, FERRY_MESSAGE_BYTES_MAX);
	b = plain_block(&scratch, 32, FERRY_CELLS_MAX / 32 + 1);
	assert_int_equal(encode_fill(&out, &b), FERRY_MESSAGE_TOO_LARGE);
	assert_int_equal(out.n, 0);
	b.row_count--;
	assert_int_equal(encode_fill(&out, &b), FERRY_OK);
	arena_deinit(&scratch);
	arena_deinit(&decoded);
	buffer_deinit(&out);
}

static void a_small_arena_refuses_and_nothing_leaks(void **state)
{
	struct arena scratch, decoded;
	struct buffer out;
	struct message m = {.type = MESSAGE_PING};
	struct block b;

	(void)state;
	arena_init(&scratch, 1 << 20);
	arena_init(&decoded, 1000);
	buffer_init(&out, FERRY_MESSAGE_BYTES_MAX);
	b = plain_block(&scratch, 10, 100);
	assert_int_equal(encode_fill(&out, &b), FERRY_OK);
	assert_int_equal(message_decode(&decoded, out.p, out.n, &m, NULL), FERRY_MESSAGE_TOO_LARGE);
	assert_int_equal(m.type, MESSAGE_PING); /* written on success only */
	arena_deinit(&scratch);
	arena_deinit(&decoded);
	buffer_deinit(&out);
}

static void a_message_that_does_not_fit_leaves_the_buffer_as_it_was(void **state)
{
	struct message m = {.type = MESSAGE_CREDIT, .credit = {.bytes = 1u << 30}};
	struct buffer out;

	(void)state;
	buffer_init(&out, 12);
	assert_int_equal(message_encode(&m, &out), FERRY_OK);
	assert_int_equal(out.n, 9);
	assert_int_equal(message_encode(&m, &out), FERRY_MESSAGE_TOO_LARGE);
	assert_int_equal(out.n, 9);
	assert_false(out.overflowed);
	buffer_deinit(&out);
}

static void a_change_set_alone_survives_a_round_trip(void **state)
{
	struct rng r = {pick_seed()};
	struct arena scratch, decoded;
	struct buffer a, b;

	(void)state;
	arena_init(&scratch, 1 << 20);
	arena_init(&decoded, FERRY_DECODE_BYTES_MAX);
	buffer_init(&a, FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&b, FERRY_MESSAGE_BYTES_MAX);
	for (int i = 0; i < rounds(500); i++) {
		struct change_set s, back;

		arena_reset(&scratch);
		arena_reset(&decoded);
		buffer_clear(&a);
		buffer_clear(&b);
		s = rng_change_set(&r, &scratch, 5000);
		assert_int_equal(change_set_encode(&s, &a), FERRY_OK);
		assert_int_equal(change_set_decode(&decoded, a.p, a.n, &back, NULL), FERRY_OK);
		assert_int_equal(change_set_encode(&back, &b), FERRY_OK);
		assert_int_equal(a.n, b.n);
		assert_memory_equal(a.p, b.p, a.n);
	}
	arena_deinit(&scratch);
	arena_deinit(&decoded);
	buffer_deinit(&a);
	buffer_deinit(&b);
}

static void equal_cells_travel_once(void **state)
{
	struct arena scratch, decoded;
	struct buffer out;
	struct message m;
	struct block b;
	struct value *cells;

	(void)state;
	arena_init(&scratch, 1 << 20);
	arena_init(&decoded, FERRY_DECODE_BYTES_MAX);
	buffer_init(&out, FERRY_MESSAGE_BYTES_MAX);
	b = plain_block(&scratch, 1, 100);
	cells = arena_array(&scratch, 100, sizeof(*cells));
	for (int i = 0; i < 100; i++)
		cells[i] = value_text("available", 9);
	b.cells = cells;
	assert_int_equal(encode_fill(&out, &b), FERRY_OK);
	assert_true(out.n < 16 * 100 + 50);
	assert_int_equal(message_decode(&decoded, out.p, out.n, &m, NULL), FERRY_OK);
	for (int i = 0; i < 100; i++)
		assert_true(value_equal(&cells[i], &m.fill.block.cells[i]));
	arena_deinit(&scratch);
	arena_deinit(&decoded);
	buffer_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_message_survives_a_round_trip),
		cmocka_unit_test(mutated_messages_are_refused_or_mean_something),
		cmocka_unit_test(the_fullest_message_fits_its_memory),
		cmocka_unit_test(more_cells_than_the_limit_are_refused_on_both_sides),
		cmocka_unit_test(a_small_arena_refuses_and_nothing_leaks),
		cmocka_unit_test(a_message_that_does_not_fit_leaves_the_buffer_as_it_was),
		cmocka_unit_test(a_change_set_alone_survives_a_round_trip),
		cmocka_unit_test(equal_cells_travel_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
