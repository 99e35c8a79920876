#include "shared/flags.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/sha256.h"
#include "shared/time_text.h"

#define HASHED_BYTES_MAX 512

static bool text_is(const struct json *row, const char *member, const char *wanted)
{
	const char *text = json_text(json_get(row, member));

	return text && strcmp(text, wanted) == 0;
}

static bool list_has(const struct json *list, const char *wanted)
{
	for (size_t i = 0; wanted && i < json_count(list); i++) {
		const char *text = json_text(json_at(list, i));

		if (text && strcmp(text, wanted) == 0)
			return true;
	}
	return false;
}

/* ---- which rows count, and which applies ---- */

/* A time that can't be read is one that never comes. */
static bool time_of(const struct json *row, const char *member, int64_t open, int64_t *out)
{
	const char *text = json_text(json_get(row, member));
	struct value at;

	*out = open;
	if (json_is_null(json_get(row, member)))
		return true;
	if (!text || !timestamp_from_text(text, strlen(text), &at))
		return false;
	if (at.kind == VALUE_INT)
		*out = at.i;
	return true;
}

static bool counts(const struct json *row, const struct flag_subject *who)
{
	int64_t start, end;

	return text_is(row, "status", "ACTIVE") && !json_bool(json_get(row, "deleted"), true) &&
	       text_is(row, "environment", who->environment ? who->environment : FLAG_DEFAULT_ENVIRONMENT) &&
	       time_of(row, "start_date", INT64_MIN, &start) && time_of(row, "end_date", INT64_MAX, &end) &&
	       start <= who->now_us && who->now_us < end;
}

static bool names_user(const struct json *row, const struct flag_subject *who)
{
	return list_has(json_get(row, "target_user_ids"), who->user);
}

static bool names_role(const struct json *row, const struct flag_subject *who)
{
	for (size_t i = 0; i < json_count(who->roles); i++) {
		if (list_has(json_get(row, "target_roles"), json_text(json_at(who->roles, i))))
			return true;
	}
	return false;
}

static bool applies(const struct json *row, const struct flag_subject *who)
{
	if (text_is(row, "scope", "USER"))
		return names_user(row, who);
	if (text_is(row, "scope", "ROLE"))
		return names_role(row, who);
	return text_is(row, "scope", "GLOBAL") || text_is(row, "scope", "TENANT");
}

/* Does a decide before b? */
static bool stands_above(const struct json *a, const struct json *b, const struct flag_subject *who)
{
	int64_t first = json_int(json_get(a, "priority"), 0), second = json_int(json_get(b, "priority"), 0);
	bool own = text_is(a, "tenant_id", who->tenant), other_own = text_is(b, "tenant_id", who->tenant);
	const char *id = json_text(json_get(a, "id")), *other = json_text(json_get(b, "id"));

	if (first != second)
		return first > second;
	if (own != other_own)
		return own;
	return strcmp(id ? id : "", other ? other : "") < 0;
}

/* ---- the answer ---- */

unsigned flag_bucket(const char *key, const struct flag_subject *who)
{
	char text[HASHED_BYTES_MAX];
	uint8_t digest[SHA256_BYTES];
	uint64_t n = 0;

	snprintf(text, sizeof(text), "%s\n%s", key, who->user ? who->user : who->tenant);
	sha256_of(text, strlen(text), digest);
	for (int i = 0; i < 8; i++)
		n = n << 8 | digest[i];
	return (unsigned)(n % FLAG_BUCKETS);
}

static struct flag_answer decide(const struct json *row, const char *key, const struct flag_subject *who)
{
	struct flag_answer answer = {.row = row};
	int64_t percentage = json_int(json_get(row, "rollout_percentage"), 0);

	if (!json_bool(json_get(row, "enabled"), false)) {
		answer.reason = FLAG_DISABLED;
	} else if (!flag_conditions_hold(json_get(row, "conditions"), who)) {
		answer.reason = FLAG_CONDITION;
	} else if (names_user(row, who) || names_role(row, who)) {
		answer.reason = FLAG_NAMED;
		answer.on = true;
	} else {
		answer.on = (int64_t)flag_bucket(key, who) < percentage * (FLAG_BUCKETS / 100);
		answer.reason = answer.on ? FLAG_ROLLED_OUT : FLAG_OUTSIDE;
	}
	return answer;
}

struct flag_answer flag_evaluate(const struct json *rows, const char *key, const struct flag_subject *who)
{
	struct flag_answer none = {.reason = FLAG_UNKNOWN};
	const struct json *best = NULL;

	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *row = json_at(rows, i);

		if (!text_is(row, "key", key))
			continue;
		if (!counts(row, who)) {
			none.reason = none.reason == FLAG_UNKNOWN ? FLAG_NOT_NOW : none.reason;
			continue;
		}
		if (!applies(row, who))
			none.reason = FLAG_NOT_MEANT;
		else if (!best || stands_above(row, best, who))
			best = row;
	}
	return best ? decide(best, key, who) : none;
}

static const struct {
	const char *name, *sentence;
} reasons[] = {
	[FLAG_UNKNOWN] = {"unknown", "there is no such flag"},
	[FLAG_NOT_NOW] = {"not_now", "inactive, of another environment, or outside its dates"},
	[FLAG_NOT_MEANT] = {"not_meant", "for other users or roles"},
	[FLAG_DISABLED] = {"disabled", "switched off"},
	[FLAG_CONDITION] = {"condition", "a condition does not hold"},
	[FLAG_OUTSIDE] = {"outside", "not in the rollout"},
	[FLAG_NAMED] = {"named", "the user or a role is named"},
	[FLAG_ROLLED_OUT] = {"rolled_out", "in the rollout"},
};

const char *flag_reason_name(enum flag_reason reason)
{
	return reasons[reason].name;
}

const char *flag_reason_sentence(enum flag_reason reason)
{
	return reasons[reason].sentence;
}

/* ---- all of them ---- */

static void add_answer(struct json *list, const struct json *rows, const char *key, const struct flag_subject *who)
{
	struct flag_answer answer = flag_evaluate(rows, key, who);
	struct json *o = json_new_object();

	json_put_text(o, "key", key);
	json_put_bool(o, "on", answer.on);
	json_put_text(o, "reason", flag_reason_name(answer.reason));
	json_put_text(o, "sentence", flag_reason_sentence(answer.reason));
	json_put_text(o, "scope", json_text(json_get(answer.row, "scope")));
	if (answer.row)
		json_put_int(o, "priority", json_int(json_get(answer.row, "priority"), 0));
	json_add(list, o);
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct json *flag_answers(const struct json *rows, const char *key, const struct flag_subject *who)
{
	struct json *list = json_new_array();
	size_t n = json_count(rows), used = 0;
	const char **keys = n && !key ? calloc(n, sizeof(*keys)) : NULL;

	if (key)
		add_answer(list, rows, key, who);
	for (size_t i = 0; keys && i < n; i++) {
		const char *text = json_text(json_get(json_at(rows, i), "key"));

		if (text)
			keys[used++] = text;
	}
	if (keys)
		qsort(keys, used, sizeof(*keys), compare_keys);
	for (size_t i = 0; keys && i < used; i++) {
		if (i == 0 || strcmp(keys[i], keys[i - 1]) != 0)
			add_answer(list, rows, keys[i], who);
	}
	free(keys);
	return list;
}
