/* Addresses of webhook targets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "hub/webhooks.h"

static void addresses_are_taken_apart(void **state)
{
	static const struct {
		const char *url, *host, *path;
		int port;
		bool plain, loopback;
	} good[] = {
		{"https://a.example", "a.example", "/", 443, false, false},
		{"https://a.example/x/y?z=1&b=%20", "a.example", "/x/y?z=1&b=%20", 443, false, false},
		{"https://a.example:8443?q", "a.example", "/?q", 8443, false, false},
		{"http://localhost:80/", "localhost", "/", 80, true, true},
		{"http://127.0.0.1:65535/", "127.0.0.1", "/", 65535, true, true},
		{"http://127.1.2.3.evil.example/", "127.1.2.3.evil.example", "/", 80, true, false},
		{"http://127.example.com.x/", "127.example.com.x", "/", 80, true, false},
		{"http://localhost.example/", "localhost.example", "/", 80, true, false},
		{"https://[::1]/", "::1", "/", 443, false, true},
		{"https://[2001:db8::1]:9000/h", "2001:db8::1", "/h", 9000, false, false},
		{"http://10.0.0.1/", "10.0.0.1", "/", 80, true, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct webhook_target t;
		struct ferry_why why;
		assert_int_equal(webhook_target_read(good[i].url, &t, &why), FERRY_OK);
		assert_string_equal(t.host, good[i].host);
		assert_string_equal(t.path, good[i].path);
		assert_int_equal(t.port, good[i].port);
		assert_int_equal(t.plain, good[i].plain);
		assert_int_equal(t.loopback, good[i].loopback);
	}
}

static void what_is_no_address_of_a_target_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "a.example", "ftp://a.example", "https://", "https:///path", "HTTPS://a.example", "https://a:b@c/",
		"https://a.example:0/", "https://a.example:65536/", "https://a.example:99999999999999999999/",
		"https://a.example:/", "https://a.example:8x/", "https://[::1/", "https://[]/", "https://::1/", "https://a b/",
		"https://a.example/\r\nHost: x", "https://a.example/\x7f", "https://a.example/#f", "https://a%2eexample/",
		"https://[::1]x/", "https://?q",
	};
	char longer[WEBHOOK_URL_MAX + 20], host[400];
	struct webhook_target t;
	struct ferry_why why;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		why.text[0] = '\0';
		assert_int_equal(webhook_target_read(bad[i], &t, &why), FERRY_USAGE);
		assert_non_null(strstr(why.text, "the target's address"));
	}
	snprintf(longer, sizeof(longer), "https://a.example/%0*d", WEBHOOK_URL_MAX - 10, 0);
	assert_int_equal(webhook_target_read(longer, &t, &why), FERRY_USAGE);
	snprintf(host, sizeof(host), "https://%0*d/", 300, 0);
	assert_int_equal(webhook_target_read(host, &t, &why), FERRY_USAGE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(what_is_no_address_of_a_target_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
