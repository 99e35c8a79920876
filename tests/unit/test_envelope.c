/* [P 3] The envelope: what goes in comes out, and nothing grows beyond its bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "protocol/envelope.h"
#include "tests/lib/random_message.h"

struct fixture {
	struct packer *packer;
	struct buffer packed;
	struct buffer scratch;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->packer = packer_new();
	buffer_init(&f->packed, FERRY_MESSAGE_BYTES_MAX + 1);
	buffer_init(&f->scratch, FERRY_MESSAGE_BYTES_MAX);
	*state = f;
	return f->packer == NULL;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	packer_free(f->packer);
	buffer_deinit(&f->packed);
	buffer_deinit(&f->scratch);
	free(f);
	return 0;
}

static void must_survive(struct fixture *f, const uint8_t *message, size_t n, int form)
{
	const uint8_t *out;
	size_t out_n;

	buffer_clear(&f->packed);
	assert_int_equal(packer_pack(f->packer, message, n, &f->packed), FERRY_OK);
	assert_int_equal(f->packed.p[0], form);
	assert_int_equal(packer_unpack(f->packer, f->packed.p, f->packed.n, &f->scratch, &out, &out_n, NULL), FERRY_OK);
	assert_int_equal(out_n, n);
	assert_memory_equal(out, message, n);
}

static void compressible(uint8_t *bytes, size_t n)
{
	struct rng r = {3};

	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)("available"[i % 9] + (rng_below(&r, 50) == 0));
}

static void sizes_choose_the_form(void **state)
{
	struct fixture *f = *state;
	static uint8_t text[FERRY_MESSAGE_BYTES_MAX];
	struct rng r = {1};

	compressible(text, sizeof(text));
	must_survive(f, text, 1, 0);
	must_survive(f, text, 39, 0);
	must_survive(f, text, 2000, 1);
	must_survive(f, text, 32768, 1);
	must_survive(f, text, 32769, 2);
	must_survive(f, text, sizeof(text), 2);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)rng_next(&r);
	must_survive(f, text, 2000, 0);
	must_survive(f, text, sizeof(text), 0);
}

static enum ferry_error unpack(struct fixture *f, const uint8_t *bytes, size_t n)
{
	const uint8_t *out;
	size_t out_n;

	return packer_unpack(f->packer, bytes, n, &f->scratch, &out, &out_n, NULL);
}

/* zstd does not end what it could not fit; the next message must not pay for it. */
static void what_does_not_shrink_leaves_the_next_message_packed(void **state)
{
	uint8_t noise[4096], text[4096];
	struct rng r = {7};

	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)rng_below(&r, 256);
	compressible(text, sizeof(text));
	for (size_t n = 40; n <= sizeof(noise); n += 13) {
		must_survive(*state, noise, n, 0);
		must_survive(*state, text, sizeof(text), 1);
	}
}

static void nonsense_is_refused(void **state)
{
	struct fixture *f = *state;
	static const uint8_t unknown[] = {3, 0xa0}, no_frame[] = {1, 0xa0}, empty_frame[] = {2};

	assert_int_equal(unpack(f, unknown, 0), FERRY_MALFORMED);
	assert_int_equal(unpack(f, unknown, sizeof(unknown)), FERRY_MALFORMED);
	assert_int_equal(unpack(f, no_frame, sizeof(no_frame)), FERRY_COMPRESSION);
	assert_int_equal(unpack(f, empty_frame, sizeof(empty_frame)), FERRY_COMPRESSION);
}

static void a_bomb_is_refused_by_its_header(void **state)
{
	struct fixture *f = *state;
	static uint8_t zeros[FERRY_MESSAGE_BYTES_MAX];

	assert_int_equal(packer_pack(f->packer, zeros, sizeof(zeros), &f->packed), FERRY_OK);
	assert_true(f->packed.n < 200);
	f->scratch.max_bytes = sizeof(zeros) - 1;
	assert_int_equal(unpack(f, f->packed.p, f->packed.n), FERRY_MESSAGE_TOO_LARGE);
	assert_null(f->scratch.p);
}

static void plain_data_beyond_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[102] = {0};

	f->scratch.max_bytes = 100;
	assert_int_equal(unpack(f, bytes, 101), FERRY_OK);
	assert_int_equal(unpack(f, bytes, 102), FERRY_MESSAGE_TOO_LARGE);
}

static void damage_is_found_or_harmless(void **state)
{
	struct fixture *f = *state;
	uint8_t text[3000], copy[3001];
	struct rng r = {4};
	size_t n;

	compressible(text, sizeof(text));
	assert_int_equal(packer_pack(f->packer, text, sizeof(text), &f->packed), FERRY_OK);
	n = f->packed.n;
	memcpy(copy, f->packed.p, n);
	assert_int_equal(unpack(f, copy, n - 1), FERRY_COMPRESSION);
	copy[n] = 0;
	assert_int_equal(unpack(f, copy, n + 1), FERRY_COMPRESSION);
	for (int i = 0; i < 5000; i++) {
		memcpy(copy, f->packed.p, n);
		copy[rng_below(&r, (uint32_t)n)] ^= (uint8_t)(1u << rng_below(&r, 8));
		(void)!unpack(f, copy, n);
		assert_true(f->scratch.capacity <= FERRY_MESSAGE_BYTES_MAX);
	}
	must_survive(f, text, sizeof(text), 1);
}

static void a_full_buffer_is_told(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[100] = {0};

	f->packed.max_bytes = 100;
	assert_int_equal(packer_pack(f->packer, bytes, 100, &f->packed), FERRY_MESSAGE_TOO_LARGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sizes_choose_the_form, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_does_not_shrink_leaves_the_next_message_packed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nonsense_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_bomb_is_refused_by_its_header, set_up, tear_down),
		cmocka_unit_test_setup_teardown(plain_data_beyond_the_limit_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damage_is_found_or_harmless, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_full_buffer_is_told, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
