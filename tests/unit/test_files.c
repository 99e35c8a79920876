/* Files replaced whole, locks, and JSON documents. */
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

#include "shared/files.h"
#include "shared/json.h"
#include "tests/lib/temp_folder.h"

static char folder[64];
static struct ferry_why why;

static int setup(void **state)
{
	(void)state;
	return temp_folder("files", folder, sizeof(folder)) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static void in_folder(char out[FILES_PATH_MAX], const char *name)
{
	assert_int_equal(FERRY_OK, files_join(out, folder, name, &why));
}

static void replaced_file_holds_the_new_content_and_mode(void **state)
{
	(void)state;
	char path[FILES_PATH_MAX], *text;
	size_t n;
	struct stat s;
	in_folder(path, "a");
	assert_int_equal(FERRY_OK, files_replace(path, "one", 3, 0644, false, &why));
	assert_int_equal(FERRY_OK, files_replace(path, "second", 6, 0600, true, &why));
	assert_int_equal(FERRY_OK, files_read(path, &text, &n, &why));
	assert_int_equal(6, n);
	assert_string_equal("second", text);
	free(text);
	assert_int_equal(0, stat(path, &s));
	assert_int_equal(0600, s.st_mode & 0777);
	assert_int_equal(FERRY_OK, files_check_secret(path, &why));
	assert_int_equal(0, chmod(path, 0640));
	assert_int_equal(FERRY_IO, files_check_secret(path, &why));
	assert_non_null(strstr(why.text, "chmod 600"));
}

static void file_that_cannot_be_replaced_stays_as_it_was(void **state)
{
	(void)state;
	char path[FILES_PATH_MAX];
	in_folder(path, "folder");
	assert_int_equal(FERRY_OK, files_make_folder(path, 0755, &why));
	assert_int_equal(FERRY_IO, files_replace(path, "x", 1, 0644, false, &why));
	assert_int_equal(FERRY_IO, files_replace("/nowhere/at/all", "x", 1, 0644, false, &why));
	assert_int_equal(FERRY_NOT_FOUND, files_read("/nowhere/at/all", &(char *){NULL}, NULL, &why));
}

static void folders_are_made_with_their_parents_and_once_only(void **state)
{
	(void)state;
	char path[FILES_PATH_MAX], file[FILES_PATH_MAX];
	in_folder(path, "x/y/z");
	assert_int_equal(FERRY_OK, files_make_folder(path, 0700, &why));
	assert_int_equal(FERRY_OK, files_make_folder(path, 0700, &why));
	in_folder(file, "x/file");
	assert_int_equal(FERRY_OK, files_replace(file, "", 0, 0644, true, &why));
	assert_int_equal(FERRY_IO, files_make_folder(file, 0700, &why));
}

static void lock_has_one_holder_and_a_look_takes_nothing(void **state)
{
	(void)state;
	char path[FILES_PATH_MAX];
	int first, second;
	in_folder(path, "lock");
	assert_false(files_locked(path));
	assert_int_equal(FERRY_OK, files_lock(path, &first, &why));
	assert_true(files_locked(path));
	assert_int_equal(FERRY_EXISTS, files_lock(path, &second, &why));
	close(first);
	assert_false(files_locked(path));
	assert_int_equal(FERRY_OK, files_lock(path, &second, &why));
	close(second);
}

static void document_comes_back_as_written(void **state)
{
	(void)state;
	struct json *o = json_new_object(), *list = json_new_array(), *back;
	json_put_text(o, "text", "\xc3\xa4\n\"");
	json_put_text(o, "bad", "\xff");
	json_put_int(o, "int", INT64_MIN);
	json_put_real(o, "nan", 0.0 / 0.0);
	json_put_bool(o, "yes", true);
	json_add_text(list, "a");
	json_put(o, "list", list);
	char *text = json_write_text(o, true);
	assert_int_equal(FERRY_OK, json_read_text(text, strlen(text), &back, &why));
	assert_string_equal("\xc3\xa4\n\"", json_text(json_get(back, "text")));
	assert_string_equal("?", json_text(json_get(back, "bad")));
	assert_true(json_int(json_get(back, "int"), 0) == INT64_MIN);
	assert_true(json_is_null(json_get(back, "nan")));
	assert_true(json_bool(json_get(back, "yes"), false));
	assert_string_equal("a", json_text(json_at(json_get(back, "list"), 0)));
	assert_null(json_text(json_at(json_get(back, "list"), 1)));
	assert_null(json_get(json_get(back, "nothing"), "further"));
	free(text);
	json_release(back);
	json_release(o);
}

static void bad_documents_are_refused(void **state)
{
	(void)state;
	char deep[200];
	struct json *v;
	memset(deep, '[', sizeof(deep));
	const char *texts[] = {"", "{", "{\"a\":1,\"a\":2}", "[1] x", "nothing", "{\"a\":\"\\ud800\"}", "[\"\xff\"]"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		assert_int_equal(FERRY_MALFORMED, json_read_text(texts[i], strlen(texts[i]), &v, &why));
	assert_int_equal(FERRY_MALFORMED, json_read_text(deep, sizeof(deep), &v, &why));
	assert_non_null(strstr(why.text, "deeper"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(replaced_file_holds_the_new_content_and_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(file_that_cannot_be_replaced_stays_as_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(folders_are_made_with_their_parents_and_once_only, setup, teardown),
		cmocka_unit_test_setup_teardown(lock_has_one_holder_and_a_look_takes_nothing, setup, teardown),
		cmocka_unit_test(document_comes_back_as_written),
		cmocka_unit_test(bad_documents_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
