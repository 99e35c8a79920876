/* Feature flags against vectors (tests/vectors/flags.json): each case names its rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "shared/flags.h"
#include "shared/time_text.h"

static struct json *read_vectors(void)
{
	const char *root = getenv("FERRY_SOURCE");
	char path[1024];
	struct ferry_why why = {""};
	struct json *vectors;

	snprintf(path, sizeof(path), "%s/tests/vectors/flags.json", root == NULL ? "." : root);
	if (json_read_file(path, &vectors, &why) != FERRY_OK)
		fail_msg("%s: %s", path, why.text);
	return vectors;
}

static struct flag_subject subject_of(const struct json *who)
{
	struct flag_subject s = {.tenant = json_text(json_get(who, "tenant")),
				 .user = json_text(json_get(who, "user")),
				 .roles = json_get(who, "roles"),
				 .environment = json_text(json_get(who, "environment")),
				 .attributes = json_get(who, "attributes")};
	const char *now = json_text(json_get(who, "now"));
	struct value at;

	assert_true(timestamp_from_text(now, strlen(now), &at));
	s.now_us = at.i;
	return s;
}

static void answers_equal_the_vectors(void **state)
{
	struct json *vectors = read_vectors();
	const struct json *cases = json_get(vectors, "cases");

	(void)state;
	assert_true(json_count(cases) > 50);
	for (size_t i = 0; i < json_count(cases); i++) {
		const struct json *c = json_at(cases, i);
		struct flag_subject who = subject_of(json_get(c, "who"));
		struct flag_answer a = flag_evaluate(json_get(c, "rows"), json_text(json_get(c, "key")), &who);

		if (a.on != json_bool(json_get(c, "on"), false) ||
		    strcmp(flag_reason_name(a.reason), json_text(json_get(c, "reason"))) != 0)
			fail_msg("%s: answered %s, %s", json_text(json_get(c, "name")), a.on ? "on" : "off",
				 flag_reason_name(a.reason));
	}
	json_release(vectors);
}

static void buckets_equal_the_vectors(void **state)
{
	struct json *vectors = read_vectors();
	const struct json *buckets = json_get(vectors, "buckets");

	(void)state;
	assert_true(json_count(buckets) > 10);
	for (size_t i = 0; i < json_count(buckets); i++) {
		const struct json *b = json_at(buckets, i);
		struct flag_subject who = {.tenant = "t", .user = json_text(json_get(b, "subject"))};

		assert_int_equal(flag_bucket(json_text(json_get(b, "key")), &who), json_int(json_get(b, "bucket"), -1));
	}
	json_release(vectors);
}

static struct json *one_row(int percentage)
{
	char text[512];
	struct json *rows;
	struct ferry_why why;

	snprintf(text, sizeof(text),
		 "[{\"id\":\"1\",\"tenant_id\":\"t\",\"key\":\"f\",\"status\":\"ACTIVE\",\"deleted\":false,\"enabled\":true,"
		 "\"rollout_percentage\":%d,\"scope\":\"TENANT\",\"environment\":\"production\",\"priority\":0}]",
		 percentage);
	assert_int_equal(json_read_text(text, strlen(text), &rows, &why), FERRY_OK);
	return rows;
}

/* Whoever is in at one percentage is in at every higher one, and the share is about right. */
static void rollout_grows_and_its_share_is_near_the_percentage(void **state)
{
	enum { USERS = 2000 };
	static bool in[USERS];
	char user[32];

	(void)state;
	memset(in, 0, sizeof(in));
	for (int percentage = 0; percentage <= 100; percentage += 10) {
		struct json *rows = one_row(percentage);
		int count = 0;

		for (int i = 0; i < USERS; i++) {
			struct flag_subject who = {.tenant = "t", .user = user};

			snprintf(user, sizeof(user), "user-%d", i);
			bool on = flag_evaluate(rows, "f", &who).on;
			assert_true(on || !in[i]);
			in[i] = on;
			count += on;
		}
		assert_in_range(count, percentage * USERS / 100 - (percentage % 100 ? USERS / 25 : 0),
				percentage * USERS / 100 + (percentage % 100 ? USERS / 25 : 0));
		json_release(rows);
	}
}

static void each_key_is_answered_once_in_order(void **state)
{
	static const char text[] = "[{\"key\":\"b\"},{\"key\":\"a\"},{\"key\":\"b\"},{\"nokey\":1},7]";
	struct flag_subject who = {.tenant = "t"};
	struct ferry_why why;
	struct json *rows, *list;

	(void)state;
	assert_int_equal(json_read_text(text, strlen(text), &rows, &why), FERRY_OK);
	list = flag_answers(rows, NULL, &who);
	assert_int_equal(json_count(list), 2);
	assert_string_equal(json_text(json_get(json_at(list, 0), "key")), "a");
	json_release(list);
	list = flag_answers(rows, "none", &who);
	assert_int_equal(json_count(list), 1);
	assert_string_equal(json_text(json_get(json_at(list, 0), "reason")), "unknown");
	json_release(list);
	json_release(rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_equal_the_vectors),
		cmocka_unit_test(buckets_equal_the_vectors),
		cmocka_unit_test(rollout_grows_and_its_share_is_near_the_percentage),
		cmocka_unit_test(each_key_is_answered_once_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
