/* The model's text for a set of schemas of its own: what gets the prefix and
 * what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/migrate_rewrite.h"

static const char base[] = "CREATE SCHEMA identity AUTHORIZATION o; CREATE SCHEMA IF NOT EXISTS crm;\n"
			   "CREATE TABLE identity.users (id uuid); CREATE TABLE crm.leads (id uuid);";

static void expect(const char *text, const char *wanted)
{
	struct rewrite_names *n = calloc(1, sizeof(*n));
	struct buffer out;

	assert_non_null(n);
	assert_int_equal(rewrite_gather_schemas(n, base), FERRY_OK);
	assert_int_equal(n->schema_count, 2);
	assert_int_equal(rewrite_gather_objects(n, base), FERRY_OK);
	rewrite_sort(n);
	buffer_init(&out, 1 << 16);
	assert_int_equal(rewrite_text(n, "a_", text, &out), FERRY_OK);
	assert_string_equal((const char *)out.p, wanted);
	assert_int_equal(out.n, strlen(wanted));
	buffer_deinit(&out);
	free(n);
}

static void qualified_names_get_the_prefix(void **state)
{
	(void)state;
	expect("SELECT identity.uuid7(), crm.leads.id FROM crm.\"odd\"", "SELECT a_identity.uuid7(), a_crm.leads.id FROM a_crm.\"odd\"");
	expect("ferry.identity.x my_crm.leads crm_x.y \"crm\".z", "ferry.identity.x my_crm.leads crm_x.y \"crm\".z");
	expect("identity crm", "identity crm");
}

static void names_after_the_word_schema_get_the_prefix(void **state)
{
	(void)state;
	expect("CREATE SCHEMA crm; COMMENT ON SCHEMA identity IS 'crm'; ALL TABLES IN SCHEMA crm TO x",
	       "CREATE SCHEMA a_crm; COMMENT ON SCHEMA a_identity IS 'crm'; ALL TABLES IN SCHEMA a_crm TO x");
	expect("CREATE SCHEMA IF NOT EXISTS crm", "CREATE SCHEMA IF NOT EXISTS a_crm");
}

static void texts_get_it_where_they_name_an_object(void **state)
{
	(void)state;
	expect("'identity.users'::regclass, 'crm.view', format('crm.%I ''crm.leads''')",
	       "'a_identity.users'::regclass, 'crm.view', format('a_crm.%I ''a_crm.leads''')");
	expect("to_regclass('crm.' || name), 'in crm. Then'", "to_regclass('a_crm.' || name), 'in crm. Then'");
	expect("open_schema('crm', 'crm') 'crm'::regnamespace IN ('crm')", "open_schema('a_crm', 'crm') 'a_crm'::regnamespace IN ('crm')");
}

static void comments_stay_and_their_quotes_end_nothing(void **state)
{
	(void)state;
	expect("-- don't touch crm.leads\nSELECT crm.leads /* identity.users isn't */, 'crm.leads'",
	       "-- don't touch crm.leads\nSELECT a_crm.leads /* identity.users isn't */, 'a_crm.leads'");
	expect("/* crm.leads", "/* crm.leads");
	expect("'-- crm.leads' crm.leads", "'-- a_crm.leads' a_crm.leads");
}

static void bodies_in_dollar_quotes_are_code(void **state)
{
	(void)state;
	expect("AS $$ BEGIN PERFORM crm.f('x'); -- it's\n END $$; SELECT 'crm.view'",
	       "AS $$ BEGIN PERFORM a_crm.f('x'); -- it's\n END $$; SELECT 'crm.view'");
}

static void empty_text_stays_empty(void **state)
{
	(void)state;
	expect("", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(qualified_names_get_the_prefix),
		cmocka_unit_test(names_after_the_word_schema_get_the_prefix),
		cmocka_unit_test(texts_get_it_where_they_name_an_object),
		cmocka_unit_test(comments_stay_and_their_quotes_end_nothing),
		cmocka_unit_test(bodies_in_dollar_quotes_are_code),
		cmocka_unit_test(empty_text_stays_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
