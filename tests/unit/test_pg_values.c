/* The parts of the PostgreSQL store that need no server: values as JSON and
 * back, statements from templates, what an SQLSTATE means. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/pg_batch.h"
#include "hub/pg_json.h"

static void assert_json(enum column_kind kind, struct value v, const char *json)
{
	struct pg_sql out;

	pg_sql_init(&out);
	pg_json_add(&out, kind, &v);
	assert_false(out.failed);
	assert_string_equal(out.p, json);
	pg_sql_deinit(&out);
}

static void assert_read(enum column_kind kind, const char *text, struct value v)
{
	struct arena a;
	struct value got;

	arena_init(&a, 1 << 16);
	got = pg_json_read(&a, kind, text);
	assert_true(value_equal(&got, &v));
	arena_deinit(&a);
}

static struct value number(double f)
{
	return (struct value){.kind = VALUE_FLOAT, .f = f};
}

static void conflict_values_come_back_from_json(void **state)
{
	static const uint8_t bytes[] = {0, 0x7f, 0xff};
	static const uint8_t id[16] = {0xaa, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

	(void)state;
	assert_json(KIND_INT, value_int(INT64_MIN), "-9223372036854775808");
	assert_read(KIND_INT, "-9223372036854775808", value_int(INT64_MIN));
	assert_json(KIND_FLOAT, number(0.1), "0.10000000000000001");
	assert_read(KIND_FLOAT, "0.10000000000000001", number(0.1));
	assert_json(KIND_FLOAT, number(-0.0), "\"-0\"");
	assert_read(KIND_FLOAT, "-0", number(-0.0));
	assert_json(KIND_TIMESTAMPTZ, number(-INFINITY), "\"-Infinity\"");
	assert_read(KIND_TIMESTAMPTZ, "-Infinity", number(-INFINITY));
	assert_read(KIND_TIMESTAMPTZ, "-1", value_int(-1));
	assert_json(KIND_BYTES, value_bytes(bytes, 3), "\"\\\\x007fff\"");
	assert_read(KIND_BYTES, "\\x007fff", value_bytes(bytes, 3));
	assert_json(KIND_UUID, value_bytes(id, 16), "\"aa010203-0405-0607-0809-0a0b0c0d0e0f\"");
	assert_read(KIND_UUID, "aa010203-0405-0607-0809-0a0b0c0d0e0f", value_bytes(id, 16));
	assert_json(KIND_TEXT, value_text("a\"\\\n\xc3\xa9", 6), "\"a\\u0022\\u005c\\u000a\xc3\xa9\"");
	assert_json(KIND_TEXT, value_null(), "");
	assert_read(KIND_TEXT, NULL, value_null());
	assert_json(KIND_BOOL, (struct value){.kind = VALUE_BOOL, .b = true}, "true");
}

static void text_that_no_longer_fits_its_kind_reads_as_null(void **state)
{
	(void)state;
	assert_read(KIND_INT, "12 apples", value_null());
	assert_read(KIND_UUID, "no uuid", value_null());
	assert_read(KIND_BYTES, "\\x0", value_null());
	assert_read(KIND_BYTES, "\\xzz", value_null());
	assert_read(KIND_BYTES, "", value_null());
}

static void templates_and_names_are_filled_in_whole(void **state)
{
	struct pg_sql s;

	(void)state;
	pg_sql_init(&s);
	pg_sql_add_filled(&s, "h((%s)::text, {seed}) # {seed}", "r.\"50%s\"", "q");
	assert_string_equal(s.p, "h((r.\"50%s\")::text, q) # q");
	pg_sql_clear(&s);
	pg_sql_add_quoted(&s, "odd\"name");
	assert_string_equal(s.p, "\"odd\"\"name\"");
	pg_sql_deinit(&s);
}

static void statement_longer_than_the_limit_is_marked_failed(void **state)
{
	struct pg_sql s;

	(void)state;
	pg_sql_init(&s);
	for (int i = 0; i < 20; i++)
		pg_sql_add(&s, "%1000000d", 1);
	assert_true(s.failed);
	pg_sql_deinit(&s);
}

static void sqlstates_fall_into_their_classes(void **state)
{
	static const struct {
		const char *state;
		enum pg_failure_class class;
	} expected[] = {{"40P01", PG_RETRY}, {"40001", PG_RETRY}, {"55P03", PG_RETRY}, {"57014", PG_RETRY},
			{"57P01", PG_LOST}, {"08006", PG_LOST}, {"40003", PG_LOST}, {"23505", PG_REFUSED},
			{"22003", PG_REFUSED}, {"42501", PG_REFUSED}, {"P0001", PG_REFUSED}, {"42703", PG_STALE},
			{"26000", PG_STALE}, {"0A000", PG_STALE}, {"53300", PG_RETRY}};

	(void)state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++)
		assert_int_equal(pg_class_of_sqlstate(expected[i].state), expected[i].class);
}

static void sentence_of_a_refusal_names_the_rule_and_no_value(void **state)
{
	struct pg_failure f = {.class = PG_REFUSED, .sqlstate = "23505", .constraint = "unit_code_uq", .table = "unit",
			       .message = "duplicate key", .detail = "Key (code)=(secret) already exists."};
	struct ferry_why why = {{0}};

	(void)state;
	assert_int_equal(pg_code_of_failure(&f), FERRY_UNIQUE);
	pg_sentence_of_failure(&f, &why);
	assert_non_null(strstr(why.text, "unit_code_uq"));
	assert_null(strstr(why.text, "secret"));
}

static void batch_beyond_its_limit_is_full(void **state)
{
	struct pg_batch b;
	static char big[4096];

	(void)state;
	pg_batch_init(&b, 8192);
	pg_call(&b, "SELECT $1");
	pg_arg_bytes(&b, big, sizeof(big));
	assert_false(b.full && b.count == 0);
	pg_call(&b, "SELECT $1");
	pg_arg_bytes(&b, big, sizeof(big));
	pg_arg_bytes(&b, big, sizeof(big));
	assert_true(b.full);
	pg_batch_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conflict_values_come_back_from_json),
		cmocka_unit_test(text_that_no_longer_fits_its_kind_reads_as_null),
		cmocka_unit_test(templates_and_names_are_filled_in_whole),
		cmocka_unit_test(statement_longer_than_the_limit_is_marked_failed),
		cmocka_unit_test(sqlstates_fall_into_their_classes),
		cmocka_unit_test(sentence_of_a_refusal_names_the_rule_and_no_value),
		cmocka_unit_test(batch_beyond_its_limit_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
