/* Connection strings: one that says where another differs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/pg_conninfo.h"

static void expect(const char *base, const char *over, const char *wanted)
{
	char out[256];

	assert_int_equal(pg_conninfo_merge(base, over, out, sizeof(out), NULL), FERRY_OK);
	assert_string_equal(out, wanted);
}

static void what_differs_stands_in_its_place(void **state)
{
	(void)state;
	expect("user=u dbname=home host=/run", "dbname=acme", "user='u' dbname='acme' host='/run'");
	expect("postgresql://u@h:5/home", "dbname=acme", "user='u' dbname='acme' host='h' port='5'");
	expect("dbname=home", "", "dbname='home'");
}

static void address_of_another_host_does_not_stay(void **state)
{
	(void)state;
	expect("dbname=d host=a hostaddr=127.0.0.1", "host=b", "dbname='d' host='b'");
}

static void quotes_and_backslashes_are_kept(void **state)
{
	char out[256], name[64];

	(void)state;
	assert_int_equal(pg_conninfo_merge("dbname=x", "dbname='it\\'s \\\\ x'", out, sizeof(out), NULL), FERRY_OK);
	assert_string_equal(out, "dbname='it\\'s \\\\ x'");
	assert_int_equal(pg_conninfo_database(out, name, sizeof(name), NULL), FERRY_OK);
	assert_string_equal(name, "it's \\ x");
}

static void what_does_not_fit_or_is_not_of_its_form_is_refused(void **state)
{
	char out[16];

	(void)state;
	assert_int_equal(pg_conninfo_merge("dbname=home user=somebody", "", out, sizeof(out), NULL), FERRY_LIMIT);
	assert_int_equal(pg_conninfo_merge("nonsense", "", out, sizeof(out), NULL), FERRY_CONFIG);
	assert_int_equal(pg_conninfo_merge("dbname=x", "what=1", out, sizeof(out), NULL), FERRY_CONFIG);
}

static void passwords_and_users_do_not_belong_into_a_placement(void **state)
{
	struct ferry_why why = {""};

	(void)state;
	assert_int_equal(pg_conninfo_check("host=h dbname=d passfile=/f", &why), FERRY_OK);
	assert_int_equal(pg_conninfo_check("service=s", &why), FERRY_OK);
	assert_int_equal(pg_conninfo_check("dbname=d password=p", &why), FERRY_USAGE);
	assert_non_null(strstr(why.text, "passfile"));
	assert_int_equal(pg_conninfo_check("postgresql://u:p@h/d", &why), FERRY_USAGE);
	assert_int_equal(pg_conninfo_check("dbname=d user=u", &why), FERRY_USAGE);
	assert_int_equal(pg_conninfo_check("host=h", &why), FERRY_USAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_differs_stands_in_its_place),
		cmocka_unit_test(address_of_another_host_does_not_stay),
		cmocka_unit_test(quotes_and_backslashes_are_kept),
		cmocka_unit_test(what_does_not_fit_or_is_not_of_its_form_is_refused),
		cmocka_unit_test(passwords_and_users_do_not_belong_into_a_placement),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
