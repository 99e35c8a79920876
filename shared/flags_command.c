#include "shared/flags_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/time_text.h"

static void put_attribute(struct json *attributes, const char *name, const char *value)
{
	char *end;
	double number = strtod(value, &end);

	if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
		json_put_bool(attributes, name, value[0] == 't');
	else if (end != value && *end == '\0')
		json_put_real(attributes, name, number);
	else
		json_put_text(attributes, name, value);
}

static bool read_attributes(const struct cli *c, struct json *attributes, int *out_exit)
{
	const char *given;

	for (int i = 0; (given = cli_value_at(c, "attribute", i)); i++) {
		const char *equals = strchr(given, '=');
		char name[80];

		if (!equals || equals == given || (size_t)(equals - given) >= sizeof(name)) {
			*out_exit = cli_fail(c, FERRY_USAGE, "an attribute has the form name=value",
					     "For example: --attribute app=field");
			return false;
		}
		snprintf(name, sizeof(name), "%.*s", (int)(equals - given), given);
		put_attribute(attributes, name, equals + 1);
	}
	return true;
}

static bool read_time(const struct cli *c, int64_t *out_us, int *out_exit)
{
	const char *given = cli_value(c, "at");
	struct value at;

	*out_us = clock_wall_us();
	if (!given)
		return true;
	if (!timestamp_from_text(given, strlen(given), &at) || at.kind != VALUE_INT) {
		*out_exit = cli_fail(c, FERRY_USAGE, "that is no time", "Write it as 2026-06-01T12:00:00Z");
		return false;
	}
	*out_us = at.i;
	return true;
}

bool flag_question_init(const struct cli *c, struct flag_question *q, int *out_exit)
{
	memset(q, 0, sizeof(*q));
	q->attributes = json_new_object();
	q->subject.attributes = q->attributes;
	q->subject.environment = cli_value(c, "environment");
	if (cli_value(c, "role")) {
		q->roles = json_new_array();
		for (int i = 0; cli_value_at(c, "role", i); i++)
			json_add_text(q->roles, cli_value_at(c, "role", i));
		q->subject.roles = q->roles;
	}
	return read_attributes(c, q->attributes, out_exit) && read_time(c, &q->subject.now_us, out_exit);
}

void flag_question_deinit(struct flag_question *q)
{
	json_release(q->roles);
	json_release(q->attributes);
}

void flag_question_roles(struct flag_question *q, struct json *roles)
{
	if (q->roles) {
		json_release(roles);
		return;
	}
	q->roles = roles;
	q->subject.roles = roles;
}

struct json *flag_rows_of_texts(const struct json *list)
{
	struct json *rows = json_new_array();

	for (size_t i = 0; i < json_count(list); i++) {
		const char *text = json_text(json_get(json_at(list, i), "row"));
		struct ferry_why why;
		struct json *row;

		/* A row beyond the limits of a document is one that nobody can read: off. */
		if (text && json_read_text(text, strlen(text), &row, &why) == FERRY_OK)
			json_add(rows, row);
	}
	return rows;
}

int flag_print(struct cli *c, const struct json *rows, const char *key, const struct flag_question *q)
{
	static const struct cli_column columns[] = {{"key", "flag"}, {"on", NULL},	 {"sentence", "why"},
						    {"scope", NULL}, {"priority", NULL}, {NULL, NULL}};

	return cli_print_rows(c, flag_answers(rows, key, &q->subject), columns, "There are no feature flags.");
}
