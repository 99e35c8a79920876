#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "shared/config.h"

struct settings {
	const char *url;
	const char *state;
	const char *note;
	bool fast;
	int64_t tries;
	int64_t size;
	int64_t pause;
	int level;
	struct config_list scopes;
};

static const char *const levels[] = {"error", "info", "debug", NULL};

#define KEY(n, t, m, d) .name = (n), .type = CONFIG_##t, .offset = offsetof(struct settings, m), .otherwise = (d)

static const struct config_key keys[] = {
	{KEY("hub.url", TEXT, url, NULL), .max = 100, .text = "Where the hub listens."},
	{KEY("hub.pause", TIME, pause, "30s"), .min = 1000, .max = 3600000000, .text = "Rest between tries."},
	{KEY("state", PATH, state, "/var/lib/x"), .text = "The state folder."},
	{KEY("note", TEXT, note, ""), .text = "A note."},
	{KEY("fast", BOOL, fast, "no"), .text = "Whether to hurry."},
	{KEY("tries", INT, tries, "3"), .min = -5, .max = 10, .text = "How often."},
	{KEY("size", BYTES, size, "1MiB"), .text = "How large."},
	{KEY("level", CHOICE, level, "info"), .choices = levels, .text = "How much to say."},
	{KEY("scopes", LIST, scopes, ""), .text = "Which parts."},
};

static const struct config_table table = {keys, sizeof(keys) / sizeof(keys[0])};

struct fixture {
	struct arena arena;
	struct settings s;
	struct ferry_why why;
};

static struct fixture f;

static int set_up(void **state)
{
	(void)state;
	arena_init(&f.arena, 1 << 20);
	config_set_defaults(&table, &f.s);
	f.why.text[0] = '\0';
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	arena_deinit(&f.arena);
	return 0;
}

static enum ferry_error read_text(const char *text)
{
	return config_read_text(&table, "x.yaml", "/etc/ferry", text, strlen(text), &f.arena, &f.s, &f.why);
}

static void must_fail(const char *text, const char *why)
{
	assert_int_equal(read_text(text), FERRY_CONFIG);
	if (strstr(f.why.text, why) == NULL)
		fail_msg("'%s' in place of '%s'", f.why.text, why);
}

static void defaults_come_from_the_table(void **state)
{
	(void)state;
	assert_null(f.s.url);
	assert_int_equal(f.s.pause, 30000000);
	assert_string_equal(f.s.state, "/var/lib/x");
	assert_int_equal(f.s.size, 1 << 20);
	assert_int_equal(f.s.level, 1);
	assert_int_equal(config_check(&table, &f.s, &f.why), FERRY_CONFIG);
	assert_non_null(strstr(f.why.text, "'hub.url' is missing"));
	assert_int_equal(read_text(""), FERRY_OK);
	assert_int_equal(read_text("# nothing\n"), FERRY_OK);
}

static void a_file_sets_what_it_names(void **state)
{
	(void)state;
	assert_int_equal(read_text("hub:\n  url: \"wss://h:1\" # there\n  pause: 1500ms\nstate: run/here\nfast: on\n"
				   "tries: -5\nsize: 64 KiB\nlevel: debug\nscopes: [tenant, \"project:1\"]\n"),
			 FERRY_OK);
	assert_string_equal(f.s.url, "wss://h:1");
	assert_int_equal(f.s.pause, 1500000);
	assert_string_equal(f.s.state, "/etc/ferry/run/here");
	assert_true(f.s.fast);
	assert_int_equal(f.s.tries, -5);
	assert_int_equal(f.s.size, 65536);
	assert_int_equal(f.s.level, 2);
	assert_int_equal(f.s.scopes.count, 2);
	assert_string_equal(f.s.scopes.items[1], "project:1");
	assert_int_equal(config_check(&table, &f.s, &f.why), FERRY_OK);
}

static void an_unknown_key_names_its_line_and_the_nearest(void **state)
{
	(void)state;
	must_fail("fast: no\n\ntrys: 3\n", "x.yaml:3: unknown key 'trys'; the nearest known key is 'tries'");
	must_fail("hub:\n  ulr: x\n", "x.yaml:2: unknown key 'hub.ulr'; the nearest known key is 'hub.url'");
	must_fail("hbu:\n  url: x\n", "x.yaml:1: unknown key 'hbu'");
	must_fail("a12345678901234567890123456789012345678901234567890123456789012345: x\n", "unknown key 'a123");
}

static void what_does_not_parse_is_told(void **state)
{
	(void)state;
	must_fail("tries: many\n", "x.yaml:1: tries: 'many' is not a whole number");
	must_fail("tries: 11\n", "the most is 10");
	must_fail("tries: 99999999999999999999\n", "not a whole number");
	must_fail("hub:\n  pause: 30\n", "'30' is not a time");
	must_fail("hub:\n  pause: 2h\n", "the most is 1h");
	must_fail("size: -1\n", "negative");
	must_fail("size: 9999999999GiB\n", "not a number of bytes");
	must_fail("fast: perhaps\n", "neither true nor false");
	must_fail("level: loud\n", "is none of: error, info, debug");
	must_fail("scopes: one\n", "not a list");
	must_fail("fast: [yes]\n", "takes one value");
	must_fail("tries:\n", "has no value");
	must_fail("tries: 1\ntries: 2\n", "x.yaml:2: the key 'tries' stands here a second time");
}

static void yaml_beyond_the_plain_is_refused(void **state)
{
	(void)state;
	must_fail("- a\n", "not a list of 'key: value'");
	must_fail("tries: &a 1\n", "anchors");
	must_fail("tries: !!int 1\n", "anchors");
	must_fail("note: *a\n", "takes a value");
	must_fail("fast: no\n--- \nfast: no\n", "second document");
	must_fail("fast: \"no\n", "not YAML");
	must_fail("? [a]\n: b\n", "a key must be a word");
	must_fail("scopes: [[a]]\n", "no text");
	must_fail("note: \"\\0\"\n", "NUL");
}

static void a_command_line_overrides(void **state)
{
	(void)state;
	assert_int_equal(config_set(&table, "hub.url", "wss://other", &f.arena, &f.s, &f.why), FERRY_OK);
	assert_string_equal(f.s.url, "wss://other");
	assert_int_equal(config_set(&table, "scopes", "a,b", &f.arena, &f.s, &f.why), FERRY_OK);
	assert_int_equal(f.s.scopes.count, 2);
	assert_int_equal(config_set(&table, "tries", "x", &f.arena, &f.s, &f.why), FERRY_CONFIG);
	assert_int_equal(config_set(&table, "hub.urk", "x", &f.arena, &f.s, &f.why), FERRY_CONFIG);
	assert_non_null(strstr(f.why.text, "'hub.url'"));
}

static void printed_settings_read_back_the_same(void **state)
{
	struct buffer first, second;

	(void)state;
	buffer_init(&first, 1 << 16);
	buffer_init(&second, 1 << 16);
	assert_int_equal(read_text("hub: {url: \"a\\\"b\\\\c\\td\", pause: 90s}\nscopes: [x, \"y z\"]\nsize: 1025\n"), FERRY_OK);
	config_print(&table, &f.s, &first);
	config_set_defaults(&table, &f.s);
	assert_int_equal(config_read_text(&table, "x", NULL, (const char *)first.p, first.n, &f.arena, &f.s, &f.why),
			 FERRY_OK);
	config_print(&table, &f.s, &second);
	assert_int_equal(first.n, second.n);
	assert_memory_equal(first.p, second.p, first.n);
	assert_string_equal(f.s.url, "a\"b\\c\td");
	assert_int_equal(f.s.size, 1025);
	buffer_deinit(&first);
	buffer_deinit(&second);
}

static void the_manual_lists_every_key(void **state)
{
	struct buffer out;

	(void)state;
	buffer_init(&out, 1 << 16);
	config_print_man(&table, &out);
	buffer_append(&out, "", 1);
	for (size_t i = 0; i < table.count; i++)
		assert_non_null(strstr((const char *)out.p, keys[i].name));
	assert_non_null(strstr((const char *)out.p, "One of error, info, debug."));
	buffer_deinit(&out);
}

static void a_missing_file_is_told(void **state)
{
	(void)state;
	assert_int_not_equal(config_read_file(&table, "/nonexistent/x.yaml", &f.arena, &f.s, &f.why), FERRY_OK);
	assert_string_not_equal(f.why.text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(defaults_come_from_the_table, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_file_sets_what_it_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_unknown_key_names_its_line_and_the_nearest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_does_not_parse_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(yaml_beyond_the_plain_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_command_line_overrides, set_up, tear_down),
		cmocka_unit_test_setup_teardown(printed_settings_read_back_the_same, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_manual_lists_every_key, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_missing_file_is_told, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
