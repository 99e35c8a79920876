/* The device's identity: a folder that is replaced whole and never half. */
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

#include "agent/identity.h"
#include "shared/files.h"
#include "tests/lib/temp_folder.h"

#define NOW INT64_C(1790000000)

static char folder[64], place[128];
static struct ferry_why why;
static struct identity id, back;

static int setup(void **state)
{
	(void)state;
	if (!temp_folder("identity", folder, sizeof(folder)))
		return -1;
	snprintf(place, sizeof(place), "%s/identity", folder);
	memset(&why, 0, sizeof(why));
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static void make(const char *name)
{
	char ca_key[PKI_PEM_MAX], request[PKI_PEM_MAX];
	struct pki_ca *ca;
	memset(&id, 0, sizeof(id));
	assert_int_equal(FERRY_OK, pki_ca_create("Test", NOW, NOW + 86400, ca_key, id.ca_pem, &why));
	assert_int_equal(FERRY_OK, pki_ca_load(ca_key, id.ca_pem, &ca, &why));
	assert_int_equal(FERRY_OK, pki_key_create(id.key_pem, &why));
	assert_int_equal(FERRY_OK, pki_request_create(id.key_pem, name, request, &why));
	assert_int_equal(FERRY_OK, pki_issue_device(ca, request, name, NOW, NOW + 86400, id.certificate_pem, &why));
	pki_ca_free(ca);
	snprintf(id.name, sizeof(id.name), "%s", name);
	snprintf(id.hub_host, sizeof(id.hub_host), "hub.example");
	id.hub_port = 7443;
	snprintf(id.enrol_host, sizeof(id.enrol_host), "enrol.example.org");
	id.enrol_port = 7444;
	id.device.b[0] = 1;
	id.tenant.b[0] = 2;
}

static void path_of(char out[FILES_PATH_MAX], const char *name)
{
	assert_int_equal(FERRY_OK, files_join(out, place, name, &why));
}

static void identity_comes_back_as_stored(void **state)
{
	char key[FILES_PATH_MAX];
	struct stat s;
	(void)state;
	make("tablet-7");
	assert_false(identity_exists(place));
	assert_int_equal(FERRY_OK, identity_store(place, &id, &why));
	assert_true(identity_exists(place));
	assert_int_equal(FERRY_OK, identity_load(place, &back, &why));
	assert_memory_equal(&id, &back, sizeof(id));
	path_of(key, "device.key");
	assert_int_equal(0, stat(key, &s));
	assert_int_equal(0600, s.st_mode & 0777);
}

static void later_identity_replaces_the_former_whole(void **state)
{
	char beside[FILES_PATH_MAX];
	(void)state;
	make("first");
	assert_int_equal(FERRY_OK, identity_store(place, &id, &why));
	make("second");
	assert_int_equal(FERRY_OK, identity_store(place, &id, &why));
	assert_int_equal(FERRY_OK, identity_load(place, &back, &why));
	assert_string_equal("second", back.name);
	snprintf(beside, sizeof(beside), "%s.new", place);
	assert_false(files_exists(beside));
}

static void left_over_of_an_interrupted_enrolment_is_no_hindrance(void **state)
{
	char beside[FILES_PATH_MAX], file[FILES_PATH_MAX];
	(void)state;
	make("tablet");
	snprintf(beside, sizeof(beside), "%s.new", place);
	assert_int_equal(FERRY_OK, files_make_folder(beside, 0700, &why));
	assert_int_equal(FERRY_OK, files_join(file, beside, "device.key", &why));
	assert_int_equal(FERRY_OK, files_replace(file, "half", 4, 0600, false, &why));
	assert_int_equal(FERRY_NOT_ENROLLED, identity_load(place, &back, &why));
	assert_int_equal(FERRY_OK, identity_store(place, &id, &why));
	assert_int_equal(FERRY_OK, identity_load(place, &back, &why));
}

static void key_that_others_may_read_is_refused(void **state)
{
	char key[FILES_PATH_MAX];
	(void)state;
	make("tablet");
	assert_int_equal(FERRY_OK, identity_store(place, &id, &why));
	path_of(key, "device.key");
	assert_int_equal(0, chmod(key, 0644));
	assert_int_equal(FERRY_IO, identity_load(place, &back, &why));
	assert_non_null(strstr(why.text, "chmod 600"));
}

static void key_of_another_certificate_is_refused(void **state)
{
	char key[FILES_PATH_MAX], pem[PKI_PEM_MAX];
	(void)state;
	make("tablet");
	assert_int_equal(FERRY_OK, identity_store(place, &id, &why));
	path_of(key, "device.key");
	assert_int_equal(FERRY_OK, pki_key_create(pem, &why));
	assert_int_equal(FERRY_OK, files_replace(key, pem, strlen(pem), 0600, false, &why));
	assert_int_equal(FERRY_CORRUPT, identity_load(place, &back, &why));
}

static void damaged_enrolment_is_told_apart_from_none(void **state)
{
	static const char *const texts[] = {"", "{}", "{\"device\": \"x\"}", "\xff\xfe", "[1]"};
	char path[FILES_PATH_MAX];
	(void)state;
	make("tablet");
	assert_int_equal(FERRY_OK, identity_store(place, &id, &why));
	path_of(path, "enrolment.json");
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		assert_int_equal(FERRY_OK, files_replace(path, texts[i], strlen(texts[i]), 0644, false, &why));
		assert_int_equal(FERRY_CORRUPT, identity_load(place, &back, &why));
	}
	assert_int_equal(0, unlink(path));
	assert_int_equal(FERRY_NOT_ENROLLED, identity_load(place, &back, &why));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(identity_comes_back_as_stored, setup, teardown),
		cmocka_unit_test_setup_teardown(later_identity_replaces_the_former_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(left_over_of_an_interrupted_enrolment_is_no_hindrance, setup, teardown),
		cmocka_unit_test_setup_teardown(key_that_others_may_read_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(key_of_another_certificate_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_enrolment_is_told_apart_from_none, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
