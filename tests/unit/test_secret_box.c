/* Secrets at rest: a known answer, what is tampered with, what is swapped,
 * and the key file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/secret_box.h"
#include "shared/files.h"
#include "shared/sha256.h"
#include "tests/lib/temp_folder.h"

static const struct uuid tenant = {{0xaa, 1}}, other_tenant = {{0xaa, 2}}, secret = {{0xbb, 1}}, other_secret = {{0xbb, 2}};
static const char word[] = "correct horse battery staple";

static struct secret_keys new_keys(int count)
{
	struct secret_keys keys = {.count = count};

	for (int k = 0; k < count; k++) {
		for (int i = 0; i < SECRET_KEY_BYTES; i++)
			keys.list[k].key[i] = (uint8_t)(i + k);
		memset(keys.list[k].id, k + 1, SECRET_KEY_ID_BYTES);
	}
	return keys;
}

static struct buffer sealed_word(const struct secret_keys *keys)
{
	struct buffer b;

	buffer_init(&b, 1 << 20);
	assert_int_equal(secret_seal(keys, &tenant, &secret, word, sizeof(word), &b), FERRY_OK);
	return b;
}

static enum ferry_error try_open(const struct secret_keys *keys, const struct uuid *t, const struct uuid *s,
				 const uint8_t *p, size_t n)
{
	struct buffer out;
	enum ferry_error e;

	buffer_init(&out, 1 << 20);
	e = secret_open(keys, t, s, p, n, &out);
	if (e == FERRY_OK)
		assert_memory_equal(out.p, word, sizeof(word));
	else
		assert_int_equal(out.n, 0);
	buffer_deinit(&out);
	return e;
}

/* Made with Python's cryptography: AESGCM(bytes(range(32))).encrypt(bytes(12),
 * b"ferry", bytes([1]) + bytes([1]) * 8 + tenant + secret). */
static void sealed_text_is_the_known_answer(void **state)
{
	static const char answer[] = "010101010101010101000000000000000000000000"
				     "68d9c7accc2744e42a2475290f6aea895568e8f91e";
	struct secret_keys keys = new_keys(1);
	uint8_t nonce[12] = {0};
	char hex[200];
	struct buffer b;

	(void)state;
	buffer_init(&b, 4096);
	assert_int_equal(secret_seal_with(&keys.list[0], nonce, &tenant, &secret, "ferry", 5, &b), FERRY_OK);
	hex_of(b.p, b.n, hex);
	assert_string_equal(hex, answer);
	buffer_deinit(&b);
}

static void sealed_text_opens_and_differs_each_time(void **state)
{
	struct secret_keys keys = new_keys(1);
	struct buffer a = sealed_word(&keys), b = sealed_word(&keys);

	(void)state;
	assert_int_equal(a.n, sizeof(word) + SECRET_OVERHEAD_BYTES);
	assert_memory_not_equal(a.p, b.p, a.n);
	assert_int_equal(try_open(&keys, &tenant, &secret, a.p, a.n), FERRY_OK);
	buffer_deinit(&a);
	buffer_deinit(&b);
}

static void every_changed_bit_is_noticed(void **state)
{
	struct secret_keys keys = new_keys(1);
	struct buffer b = sealed_word(&keys);

	(void)state;
	for (size_t i = 0; i < b.n * 8; i++) {
		b.p[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_not_equal(try_open(&keys, &tenant, &secret, b.p, b.n), FERRY_OK);
		b.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(try_open(&keys, &tenant, &secret, b.p, n), FERRY_CORRUPT);
	assert_int_equal(try_open(&keys, &tenant, &secret, b.p, b.n), FERRY_OK);
	buffer_deinit(&b);
}

static void sealed_text_in_the_place_of_another_does_not_open(void **state)
{
	struct secret_keys keys = new_keys(1);
	struct buffer b = sealed_word(&keys);

	(void)state;
	assert_int_equal(try_open(&keys, &other_tenant, &secret, b.p, b.n), FERRY_CORRUPT);
	assert_int_equal(try_open(&keys, &tenant, &other_secret, b.p, b.n), FERRY_CORRUPT);
	buffer_deinit(&b);
}

static void old_key_still_opens_and_unknown_key_is_named_as_such(void **state)
{
	struct secret_keys keys = new_keys(2), old = {.count = 1}, current = {.count = 1};
	struct buffer b;

	(void)state;
	old.list[0] = keys.list[1];
	current.list[0] = keys.list[0];
	b = sealed_word(&old);
	assert_int_equal(try_open(&keys, &tenant, &secret, b.p, b.n), FERRY_OK);
	assert_int_equal(try_open(&current, &tenant, &secret, b.p, b.n), FERRY_NOT_FOUND);
	buffer_deinit(&b);
}

static void too_long_a_secret_is_refused(void **state)
{
	struct secret_keys keys = new_keys(1);
	char *large = calloc(1, SECRET_BYTES_MAX + 1);
	struct buffer b;

	(void)state;
	buffer_init(&b, 1 << 20);
	assert_int_equal(secret_seal(&keys, &tenant, &secret, large, SECRET_BYTES_MAX, &b), FERRY_OK);
	assert_int_equal(secret_seal(&keys, &tenant, &secret, large, SECRET_BYTES_MAX + 1, &b), FERRY_LIMIT);
	buffer_deinit(&b);
	free(large);
}

static void key_file_is_made_kept_private_and_grows(void **state)
{
	char folder[64], path[100];
	struct secret_keys keys = {.count = 0}, again;
	struct stat s;

	(void)state;
	assert_true(temp_folder("secret", folder, sizeof(folder)));
	snprintf(path, sizeof(path), "%s/keys", folder);
	assert_int_equal(secret_keys_load(path, &again, NULL), FERRY_NOT_FOUND);
	assert_int_equal(secret_keys_add(path, &keys, NULL), FERRY_OK);
	assert_int_equal(secret_keys_add(path, &keys, NULL), FERRY_OK);
	assert_int_equal(secret_keys_load(path, &again, NULL), FERRY_OK);
	assert_int_equal(again.count, 2);
	assert_memory_equal(again.list, keys.list, 2 * sizeof(keys.list[0]));
	assert_memory_not_equal(keys.list[0].key, keys.list[1].key, SECRET_KEY_BYTES);
	assert_int_equal(stat(path, &s), 0);
	assert_int_equal(s.st_mode & 0777, 0600);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(secret_keys_load(path, &again, NULL), FERRY_CONFIG);
	unlink(path);
	rmdir(folder);
}

static void key_file_that_is_not_of_its_form_is_refused(void **state)
{
	static const char *const texts[] = {"", "# nothing\n", "12\n",
		"zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00\n"};
	char folder[64], path[100];
	struct secret_keys keys;

	(void)state;
	assert_true(temp_folder("secret", folder, sizeof(folder)));
	snprintf(path, sizeof(path), "%s/keys", folder);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		assert_int_equal(files_replace(path, texts[i], strlen(texts[i]), 0600, true, NULL), FERRY_OK);
		assert_int_equal(secret_keys_load(path, &keys, NULL), FERRY_CONFIG);
	}
	unlink(path);
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sealed_text_is_the_known_answer),
		cmocka_unit_test(sealed_text_opens_and_differs_each_time),
		cmocka_unit_test(every_changed_bit_is_noticed),
		cmocka_unit_test(sealed_text_in_the_place_of_another_does_not_open),
		cmocka_unit_test(old_key_still_opens_and_unknown_key_is_named_as_such),
		cmocka_unit_test(too_long_a_secret_is_refused),
		cmocka_unit_test(key_file_is_made_kept_private_and_grows),
		cmocka_unit_test(key_file_that_is_not_of_its_form_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
