#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "shared/log.h"

static char last[LOG_LINE_MAX];
static int lines;

static void keep(void *ctx, const char *line)
{
	(void)ctx;
	snprintf(last, sizeof(last), "%s", line);
	lines++;
}

static int set_up(void **state)
{
	(void)state;
	log_open("ferry-test", LEVEL_INFO);
	log_redirect(keep, NULL);
	last[0] = '\0';
	lines = 0;
	return 0;
}

static void a_line_names_its_device_and_tenant(void **state)
{
	struct log_context ctx = {"d-1", "t-1"};

	(void)state;
	LOG(LEVEL_INFO, &ctx, "link_up", LOG_TEXT("peer", "hub:7443"), LOG_INT("tries", 3));
	assert_non_null(strstr(last, " level=info program=ferry-test event=link_up device=d-1 tenant=t-1 "
				     "peer=hub:7443 tries=3"));
	LOG(LEVEL_WARNING, NULL, "started");
	assert_non_null(strstr(last, " event=started device=- tenant=-"));
}

static void levels_below_the_chosen_one_are_silent(void **state)
{
	enum log_level level;

	(void)state;
	LOG(LEVEL_DEBUG, NULL, "detail");
	assert_int_equal(lines, 0);
	assert_true(log_level_from_name("debug", &level));
	assert_int_equal(level, LEVEL_DEBUG);
	assert_false(log_level_from_name("loud", &level));
	assert_string_equal(log_level_name(LEVEL_ERROR), "error");
}

static void a_value_cannot_forge_a_line(void **state)
{
	(void)state;
	LOG(LEVEL_INFO, NULL, "x", LOG_TEXT("why", "a\nlevel=error \"b\" \x1b[2J"), LOG_TEXT("none", NULL));
	assert_non_null(strstr(last, "why=\"a\\x0alevel=error \\\"b\\\" \\x1b[2J\" none=\"\""));
	assert_null(strchr(last, '\n'));
}

static void a_long_line_is_cut(void **state)
{
	char text[LOG_LINE_MAX * 2];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	LOG(LEVEL_INFO, NULL, "long", LOG_TEXT("a", text), LOG_TEXT("b", "tail"));
	assert_int_equal(strlen(last), LOG_LINE_MAX - 1);
}

static void a_limit_counts_what_it_drops(void **state)
{
	struct log_limit l = {.interval_us = 1000, .count_max = 2};
	uint32_t dropped;

	(void)state;
	assert_true(log_allowed(&l, 10, &dropped));
	assert_true(log_allowed(&l, 11, &dropped));
	assert_false(log_allowed(&l, 12, &dropped));
	assert_false(log_allowed(&l, 1009, &dropped));
	assert_true(log_allowed(&l, 1010, &dropped));
	assert_int_equal(dropped, 2);
	assert_true(log_allowed(&l, 1011, &dropped));
	assert_int_equal(dropped, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_line_names_its_device_and_tenant, set_up),
		cmocka_unit_test_setup(levels_below_the_chosen_one_are_silent, set_up),
		cmocka_unit_test_setup(a_value_cannot_forge_a_line, set_up),
		cmocka_unit_test_setup(a_long_line_is_cut, set_up),
		cmocka_unit_test_setup(a_limit_counts_what_it_drops, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
