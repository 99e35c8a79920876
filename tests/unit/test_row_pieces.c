/* [P 6.6] Rows too large for a message: cut, and joined again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "protocol/row_pieces.h"

static const uint16_t nums[] = {2, 3, 5, 8, 9};
static const struct uuid key = {{1, 2, 3}};

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void assert_row_equal(const struct block *a, const struct block *b)
{
	assert_int_equal(a->table, b->table);
	assert_int_equal(a->op, b->op);
	assert_int_equal(a->column_count, b->column_count);
	for (uint16_t c = 0; c < a->column_count; c++) {
		assert_int_equal(a->nums[c], b->nums[c]);
		assert_true(value_equal(&a->cells[c], &b->cells[c]));
	}
	assert_int_equal(a->base_count, b->base_count);
	for (uint32_t i = 0; i < a->base_count; i++) {
		assert_int_equal(a->bases[i].num, b->bases[i].num);
		assert_int_equal(a->bases[i].position, b->bases[i].position);
	}
	assert_int_equal(a->at == NULL ? 0 : a->at[0], b->at == NULL ? 0 : b->at[0]);
}

/* Cuts and joins; each piece must be a valid message of its own. */
static uint32_t round_trip(const struct block *row, size_t room)
{
	struct row_cutter cutter = {.row = *row};
	struct row_joiner joiner;
	struct arena a;
	struct buffer bytes;
	uint32_t pieces = 0;
	bool whole = false;

	arena_init(&a, 64u << 20);
	buffer_init(&bytes, FERRY_MESSAGE_BYTES_MAX);
	row_joiner_init(&joiner);
	while (!whole) {
		struct message m = {.type = MESSAGE_PUSH}, got;
		struct change_set set = {.number = 1, .at = 5, .part = pieces};
		struct block piece;
		struct ferry_why why;

		assert_true(row_cut(&cutter, room, &a, &piece));
		assert_true(row_bytes(&piece, 0) <= room);
		set.blocks = &piece;
		set.block_count = 1;
		set.more = piece.goes_on;
		m.push.sets = &set;
		m.push.set_count = 1;
		buffer_clear(&bytes);
		assert_int_equal(message_encode(&m, &bytes), FERRY_OK);
		assert_int_equal(message_decode(&a, bytes.p, bytes.n, &got, &why), FERRY_OK);
		assert_int_equal(row_join(&joiner, &got.push.sets[0].blocks[0], &whole), FERRY_OK);
		pieces++;
	}
	assert_row_equal(row, &joiner.row);
	row_joiner_deinit(&joiner);
	buffer_deinit(&bytes);
	arena_deinit(&a);
	return pieces;
}

/* Characters of one to four bytes. */
static size_t random_text(uint64_t *seed, uint8_t *out, size_t n)
{
	static const char *const characters[] = {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x9a\xa2"};
	size_t at = 0;

	while (at + 4 <= n) {
		uint64_t width = next(seed) % 4;

		memcpy(out + at, characters[width], (size_t)width + 1);
		at += (size_t)width + 1;
	}
	return at;
}

static void random_rows_come_through(void **state)
{
	static uint8_t text[3][400];
	uint64_t seed = (uint64_t)time(NULL);

	(void)state;
	printf("seed %llu\n", (unsigned long long)seed);
	for (int round = 0; round < 2000; round++) {
		struct value cells[5];
		struct row_base bases[] = {{0, 0, 4}, {0, 3, 7}, {0, 9, 9}};
		const int64_t at = (int64_t)(next(&seed) % 2);
		struct block row = {.table = 7, .op = next(&seed) % 2 ? ROW_INSERT : ROW_UPDATE, .column_count = 5, .row_count = 1,
				    .nums = nums, .keys = &key, .cells = cells, .at = &at, .bases = bases,
				    .base_count = (uint32_t)(next(&seed) % 4)};

		for (int i = 0; i < 3; i++)
			cells[i * 2] = value_text(text[i], random_text(&seed, text[i], next(&seed) % sizeof(text[i])));
		cells[2] = value_bytes(cells[2].p, cells[2].n);
		cells[1] = value_int((int64_t)next(&seed) >> 1);
		cells[3] = value_null();
		(void)round_trip(&row, ROW_PIECE_BYTES_MIN + next(&seed) % 300);
	}
}

static struct block text_row(struct value *cell, const void *p, size_t n)
{
	*cell = value_text(p, n);
	return (struct block){.table = 7, .op = ROW_INSERT, .column_count = 1, .row_count = 1, .nums = nums, .keys = &key,
			      .cells = cell};
}

static void row_of_5_mib_goes_in_messages(void **state)
{
	size_t n = 5u << 20;
	uint8_t *text = malloc(n);
	struct value cell;
	struct block row;

	(void)state;
	assert_non_null(text);
	memset(text, 'x', n);
	row = text_row(&cell, text, n);
	assert_int_equal(round_trip(&row, 512u << 10), 10);
	free(text);
}

static void what_does_not_continue_is_refused(void **state)
{
	const struct uuid other = {{9}};
	struct value cell, number = value_int(1);
	struct block first = text_row(&cell, "abc", 3), wrong;
	struct row_joiner j;
	bool whole;

	(void)state;
	first.goes_on = true;
	row_joiner_init(&j);
	for (int i = 0; i < 5; i++) {
		wrong = first;
		wrong.goes_on = false;
		if (i == 0)
			wrong.keys = &other;
		else if (i == 1)
			wrong.table = 8;
		else if (i == 2)
			wrong.op = ROW_UPDATE;
		else if (i == 3)
			wrong.nums = nums + 1;
		else
			wrong.cells = &number;
		assert_int_equal(row_join(&j, &first, &whole), FERRY_OK);
		assert_false(whole);
		assert_int_equal(row_join(&j, &wrong, &whole), FERRY_BAD_MESSAGE);
		assert_false(j.open);
	}
	row_joiner_deinit(&j);
}

static void row_above_the_limit_is_refused_and_its_memory_given_back(void **state)
{
	size_t n = 1u << 20;
	uint8_t *text = malloc(n);
	enum ferry_error e = FERRY_OK;
	struct row_joiner j;
	struct value cell;
	struct block piece;
	bool whole;
	int taken = 0;

	(void)state;
	assert_non_null(text);
	memset(text, 'x', n);
	piece = text_row(&cell, text, n);
	piece.goes_on = true;
	row_joiner_init(&j);
	while ((e = row_join(&j, &piece, &whole)) == FERRY_OK)
		taken++;
	assert_int_equal(e, FERRY_ROW_TOO_LARGE);
	assert_int_equal(taken, FERRY_ROW_BYTES_MAX >> 20);
	assert_int_equal(j.bytes.capacity, 0);
	row_joiner_deinit(&j);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_rows_come_through),
		cmocka_unit_test(row_of_5_mib_goes_in_messages),
		cmocka_unit_test(what_does_not_continue_is_refused),
		cmocka_unit_test(row_above_the_limit_is_refused_and_its_memory_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
