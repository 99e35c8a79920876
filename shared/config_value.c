#include "shared/config_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	int64_t factor;
};

/* Largest first: the printer takes the first that divides. */
static const struct unit byte_units[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {NULL, 0}};
static const struct unit time_units[] = {
	{"d", 86400000000}, {"h", 3600000000}, {"min", 60000000}, {"s", 1000000}, {"ms", 1000}, {"us", 1}, {NULL, 0},
};
static const struct unit no_units[] = {{NULL, 0}};

static const struct unit *units_of(const struct config_key *k)
{
	if (k->type == CONFIG_BYTES)
		return byte_units;
	return k->type == CONFIG_TIME ? time_units : no_units;
}

static const char *parse_digits(const char *p, int64_t *out)
{
	bool negative = *p == '-';
	int64_t v = 0;

	p += negative;
	if (*p < '0' || *p > '9')
		return NULL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *p - '0', &v))
			return NULL;
	}
	if (!negative && v == INT64_MIN)
		return NULL;
	*out = negative ? v : -v;
	return p;
}

static bool parse_number(const struct config_key *k, const char *text, int64_t *out)
{
	const struct unit *u = units_of(k);
	const char *p = parse_digits(text, out);

	if (p == NULL)
		return false;
	while (*p == ' ')
		p++;
	if (*p == '\0')
		return k->type != CONFIG_TIME || *out == 0;
	for (; u->name != NULL; u++) {
		if (strcasecmp(u->name, p) == 0)
			return !__builtin_mul_overflow(*out, u->factor, out);
	}
	return false;
}

static const char *form_of(const struct config_key *k)
{
	if (k->type == CONFIG_BYTES)
		return "a number of bytes such as 64KiB or 1MiB";
	return k->type == CONFIG_TIME ? "a time such as 500ms, 30s or 5min" : "a whole number";
}

static void format_number(const struct config_key *k, int64_t v, char *out, size_t n)
{
	const struct unit *u = units_of(k);

	while (u->name != NULL && (v == 0 || v % u->factor != 0) && u->factor != 1)
		u++;
	snprintf(out, n, "%lld", (long long)v);
	if (u->name != NULL)
		snprintf(out, n, "%lld%s", (long long)(v / u->factor), u->name);
}

__attribute__((format(printf, 2, 3))) static bool fail(struct ferry_why *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return false;
}

static bool set_number(const struct config_key *k, const char *text, char *member, struct ferry_why *why)
{
	char low[32], high[32];
	int64_t v;

	if (!parse_number(k, text, &v))
		return fail(why, "'%s' is not %s", text, form_of(k));
	format_number(k, k->min, low, sizeof(low));
	format_number(k, k->max, high, sizeof(high));
	if (k->min == 0 && k->max == 0 && v < 0)
		return fail(why, "'%s' is negative", text);
	if ((k->min != 0 || k->max != 0) && v < k->min)
		return fail(why, "'%s' is too little; the least is %s", text, low);
	if ((k->min != 0 || k->max != 0) && v > k->max)
		return fail(why, "'%s' is too much; the most is %s", text, high);
	memcpy(member, &v, sizeof(v));
	return true;
}

static bool set_bool(const char *text, char *member, struct ferry_why *why)
{
	static const char *const words[] = {"false", "no", "off", "true", "yes", "on"};

	for (size_t i = 0; i < 6; i++) {
		if (strcasecmp(words[i], text) == 0) {
			*(bool *)member = i >= 3;
			return true;
		}
	}
	return fail(why, "'%s' is neither true nor false", text);
}

static bool set_choice(const struct config_key *k, const char *text, char *member, struct ferry_why *why)
{
	char words[200] = "";
	size_t n = 0;

	for (int i = 0; k->choices[i] != NULL; i++) {
		if (strcmp(k->choices[i], text) == 0) {
			memcpy(member, &i, sizeof(i));
			return true;
		}
		if (n < sizeof(words))
			n += (size_t)snprintf(words + n, sizeof(words) - n, "%s%s", i == 0 ? "" : ", ", k->choices[i]);
	}
	return fail(why, "'%s' is none of: %s", text, words);
}

static bool set_text(const struct config_key *k, const char *text, char *member, struct ferry_why *why)
{
	int64_t n = (int64_t)strlen(text);

	if ((k->min != 0 || k->max != 0) && (n < k->min || n > k->max))
		return fail(why, "'%s' is too %s", text, n < k->min ? "short" : "long");
	memcpy(member, &text, sizeof(text));
	return true;
}

bool config_value_parse(const struct config_key *k, const char *text, void *settings, struct ferry_why *why)
{
	char *member = (char *)settings + k->offset;

	switch (k->type) {
	case CONFIG_TEXT:
	case CONFIG_PATH:
		return set_text(k, text, member, why);
	case CONFIG_BOOL:
		return set_bool(text, member, why);
	case CONFIG_INT:
	case CONFIG_BYTES:
	case CONFIG_TIME:
		return set_number(k, text, member, why);
	case CONFIG_CHOICE:
		return set_choice(k, text, member, why);
	case CONFIG_LIST:
		break;
	}
	return fail(why, "'%s' is not a list", text);
}

void config_put(struct buffer *out, const char *format, ...)
{
	char text[1024];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n > 0)
		buffer_append(out, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void put_quoted(struct buffer *out, const char *text)
{
	config_put(out, "\"");
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			config_put(out, "\\%c", *text);
		else if ((unsigned char)*text < ' ' || *text == 0x7f)
			config_put(out, "\\x%02x", (unsigned)*text);
		else
			buffer_append(out, text, 1);
	}
	config_put(out, "\"");
}

static void put_list(struct buffer *out, const struct config_list *list)
{
	config_put(out, "[");
	for (uint32_t i = 0; i < list->count; i++) {
		config_put(out, "%s", i == 0 ? "" : ", ");
		put_quoted(out, list->items[i]);
	}
	config_put(out, "]");
}

void config_value_print(const struct config_key *k, const void *settings, struct buffer *out)
{
	const char *member = (const char *)settings + k->offset;
	char number[32];
	const char *text;
	int64_t v;
	int choice;

	switch (k->type) {
	case CONFIG_TEXT:
	case CONFIG_PATH:
		memcpy(&text, member, sizeof(text));
		put_quoted(out, text == NULL ? "" : text);
		break;
	case CONFIG_BOOL:
		config_put(out, "%s", *(const bool *)member ? "true" : "false");
		break;
	case CONFIG_INT:
	case CONFIG_BYTES:
	case CONFIG_TIME:
		memcpy(&v, member, sizeof(v));
		format_number(k, v, number, sizeof(number));
		config_put(out, "%s", number);
		break;
	case CONFIG_CHOICE:
		memcpy(&choice, member, sizeof(choice));
		config_put(out, "%s", k->choices[choice]);
		break;
	case CONFIG_LIST:
		put_list(out, (const struct config_list *)(const void *)member);
		break;
	}
}
