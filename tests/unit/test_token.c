/* The enrolment token and base64url. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "shared/token.h"

static struct token sample(const char *host)
{
	struct token t = {.port = 7443};
	for (int i = 0; i < 32; i++) {
		t.secret[i] = (uint8_t)(i * 7);
		t.ca_fingerprint[i] = (uint8_t)(200 - i);
	}
	snprintf(t.host, sizeof(t.host), "%s", host);
	return t;
}

static void token_comes_back_as_written(void **state)
{
	(void)state;
	const char *hosts[] = {"h", "hub.example.com", "2001:db8::1", "127.0.0.1"};
	for (size_t i = 0; i < 4; i++) {
		struct token t = sample(hosts[i]), back;
		char text[TOKEN_TEXT_MAX];
		struct ferry_why why;
		assert_int_equal(FERRY_OK, token_write(&t, text));
		assert_memory_equal("ferry1.", text, 7);
		assert_int_equal(FERRY_OK, token_read(text, &back, &why));
		assert_memory_equal(&t, &back, sizeof(t));
	}
}

static void longest_host_fits_and_a_longer_one_is_refused(void **state)
{
	(void)state;
	struct token t = sample("x"), back;
	char text[TOKEN_TEXT_MAX];
	struct ferry_why why;
	memset(t.host, 'a', TOKEN_HOST_MAX);
	t.host[TOKEN_HOST_MAX] = '\0';
	assert_int_equal(FERRY_OK, token_write(&t, text));
	assert_int_equal(FERRY_OK, token_read(text, &back, &why));
	t.host[0] = '\0';
	assert_int_equal(FERRY_LIMIT, token_write(&t, text));
}

static void every_changed_or_missing_character_is_noticed(void **state)
{
	(void)state;
	struct token t = sample("hub.example.com"), back;
	char text[TOKEN_TEXT_MAX], bad[TOKEN_TEXT_MAX];
	assert_int_equal(FERRY_OK, token_write(&t, text));
	size_t n = strlen(text);
	for (size_t i = 0; i < n; i++) {
		struct ferry_why why = {0};
		memcpy(bad, text, n + 1);
		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		assert_int_equal(FERRY_BAD_TOKEN, token_read(bad, &back, &why));
		assert_true(why.text[0]);
		memcpy(bad, text, n + 1);
		bad[i] = '\0';
		assert_int_equal(FERRY_BAD_TOKEN, token_read(bad, &back, &why));
	}
}

static void text_that_is_no_token_is_refused(void **state)
{
	(void)state;
	char longest[4 * TOKEN_TEXT_MAX];
	struct token back;
	struct ferry_why why;
	memset(longest, 'A', sizeof(longest) - 1);
	memcpy(longest, "ferry1.", 7);
	longest[sizeof(longest) - 1] = '\0';
	const char *texts[] = {"", "ferry1.", "ferry1.=", "ferry2.AAAA", "hello", longest};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		assert_int_equal(FERRY_BAD_TOKEN, token_read(texts[i], &back, &why));
}

static void base64url_is_strict(void **state)
{
	(void)state;
	uint8_t bytes[16];
	size_t n;
	char text[16];
	base64url_write((const uint8_t *)"\xfb\xff\xfe", 3, text);
	assert_string_equal("-__-", text);
	base64url_write((const uint8_t *)"f", 1, text);
	assert_string_equal("Zg", text);
	assert_true(base64url_read("Zg", 2, bytes, sizeof(bytes), &n));
	assert_int_equal(1, n);
	assert_false(base64url_read("Zh", 2, bytes, sizeof(bytes), &n)); /* a loose bit */
	assert_false(base64url_read("Z", 1, bytes, sizeof(bytes), &n));
	assert_false(base64url_read("Zg==", 4, bytes, sizeof(bytes), &n));
	assert_false(base64url_read("Z\0", 2, bytes, sizeof(bytes), &n));
	assert_false(base64url_read("AAAAAAAA", 8, bytes, 5, &n)); /* more than the room */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(token_comes_back_as_written),
		cmocka_unit_test(longest_host_fits_and_a_longer_one_is_refused),
		cmocka_unit_test(every_changed_or_missing_character_is_noticed),
		cmocka_unit_test(text_that_is_no_token_is_refused),
		cmocka_unit_test(base64url_is_strict),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
