/* The hub's own keys: made once, kept, and the server's certificate made anew when it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub/authority.h"
#include "tests/lib/temp_folder.h"

#define NOW   INT64_C(1790000000)
#define DAY_S INT64_C(86400)

static char folder[64];
static struct ferry_why why;
static struct hub_settings settings;
static struct arena arena;

static int setup(void **state)
{
	(void)state;
	arena_init(&arena, 1 << 20);
	memset(&why, 0, sizeof(why));
	return temp_folder("authority", folder, sizeof(folder)) && hub_settings_load(NULL, folder, NULL, &arena, &settings, &why) == FERRY_OK ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	arena_deinit(&arena);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static void path_of(char out[FILES_PATH_MAX], const char *name)
{
	assert_int_equal(FERRY_OK, files_join(out, folder, name, &why));
}

static void first_start_makes_all_and_the_next_keeps_it(void **state)
{
	static const char *const secrets[] = {"ca.key", "server.key"};
	struct authority first, second;
	char path[FILES_PATH_MAX];
	struct stat s;
	(void)state;
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &first, &why));
	assert_true(first.made_ca);
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW + 10 * DAY_S, &second, &why));
	assert_false(second.made_ca);
	assert_string_equal(first.ca_pem, second.ca_pem);
	assert_string_equal(first.server_pem, second.server_pem);
	assert_memory_equal(first.ca_fingerprint, second.ca_fingerprint, sizeof(first.ca_fingerprint));
	for (size_t i = 0; i < 2; i++) {
		path_of(path, secrets[i]);
		assert_int_equal(0, stat(path, &s));
		assert_int_equal(0600, s.st_mode & 0777);
	}
	authority_close(&first);
	authority_close(&second);
}

static void server_certificate_is_renewed_when_a_third_of_its_time_is_left(void **state)
{
	struct authority first, later;
	(void)state;
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &first, &why));
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW + 240 * DAY_S, &later, &why));
	assert_string_equal(first.server_pem, later.server_pem);
	authority_close(&later);
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW + 250 * DAY_S, &later, &why));
	assert_string_not_equal(first.server_pem, later.server_pem);
	assert_string_equal(first.ca_pem, later.ca_pem);
	authority_close(&later);
	authority_close(&first);
}

static void other_public_name_means_another_server_certificate(void **state)
{
	struct authority first, second;
	(void)state;
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &first, &why));
	settings.public_host = "hub.example.com";
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &second, &why));
	assert_string_not_equal(first.server_pem, second.server_pem);
	assert_string_equal(first.ca_pem, second.ca_pem);
	authority_close(&first);
	authority_close(&second);
}

static void ca_key_that_others_may_read_is_refused(void **state)
{
	struct authority a;
	char path[FILES_PATH_MAX];
	(void)state;
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &a, &why));
	authority_close(&a);
	path_of(path, "ca.key");
	assert_int_equal(0, chmod(path, 0640));
	assert_int_equal(FERRY_IO, authority_open(&settings, NOW, &a, &why));
	assert_non_null(strstr(why.text, "chmod 600"));
}

static void damaged_ca_is_refused_and_never_made_anew(void **state)
{
	struct authority a;
	char path[FILES_PATH_MAX], before[PKI_PEM_MAX], after[PKI_PEM_MAX];
	(void)state;
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &a, &why));
	authority_close(&a);
	path_of(path, "ca.key");
	assert_int_equal(FERRY_OK, files_replace(path, "no key", 6, 0600, false, &why));
	assert_true(authority_open(&settings, NOW, &a, &why) != FERRY_OK);
	path_of(path, "ca.crt");
	assert_int_equal(FERRY_OK, files_read_into(path, before, sizeof(before), &why));
	assert_true(authority_open(&settings, NOW, &a, &why) != FERRY_OK);
	assert_int_equal(FERRY_OK, files_read_into(path, after, sizeof(after), &why));
	assert_string_equal(before, after);
}

static void interrupted_making_of_the_server_certificate_is_made_good(void **state)
{
	static const char *const files[] = {"server.key", "server.crt", "server.names"};
	struct authority a;
	char path[FILES_PATH_MAX];
	(void)state;
	assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &a, &why));
	authority_close(&a);
	for (size_t i = 0; i < 3; i++) {
		path_of(path, files[i]);
		assert_int_equal(0, unlink(path));
		assert_int_equal(FERRY_OK, authority_open(&settings, NOW, &a, &why));
		assert_int_equal(FERRY_OK, pki_key_matches(a.server_key_pem, a.server_pem, &why));
		authority_close(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(first_start_makes_all_and_the_next_keeps_it, setup, teardown),
		cmocka_unit_test_setup_teardown(server_certificate_is_renewed_when_a_third_of_its_time_is_left, setup,
						teardown),
		cmocka_unit_test_setup_teardown(other_public_name_means_another_server_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(ca_key_that_others_may_read_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_ca_is_refused_and_never_made_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(interrupted_making_of_the_server_certificate_is_made_good, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
