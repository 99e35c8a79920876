/* Conditions of feature flags (flags.h, 4): attribute by attribute, operator by operator. */
#include <string.h>

#include "shared/flags.h"

/* An attribute of the subject, or a value of a condition. */
struct operand {
	enum { OPERAND_NONE, OPERAND_TEXT, OPERAND_NUMBER, OPERAND_BOOL } kind;
	const char *text;
	double number;
	bool truth;
};

static struct operand operand_of(const struct json *v)
{
	struct operand o = {OPERAND_NONE, NULL, 0, false};

	if ((o.text = json_text(v)))
		o.kind = OPERAND_TEXT;
	else if (json_number(v, &o.number))
		o.kind = OPERAND_NUMBER;
	else if (json_is_bool(v)) {
		o.kind = OPERAND_BOOL;
		o.truth = json_bool(v, false);
	}
	return o;
}

static struct operand text_operand(const char *text)
{
	return (struct operand){text ? OPERAND_TEXT : OPERAND_NONE, text, 0, false};
}

static struct operand attribute_of(const struct flag_subject *who, const char *name)
{
	if (strcmp(name, "tenant") == 0)
		return text_operand(who->tenant);
	if (strcmp(name, "user") == 0)
		return text_operand(who->user);
	if (strcmp(name, "environment") == 0)
		return text_operand(who->environment ? who->environment : FLAG_DEFAULT_ENVIRONMENT);
	return operand_of(json_get(who->attributes, name));
}

static bool equal(const struct operand *a, const struct operand *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case OPERAND_TEXT:
		return strcmp(a->text, b->text) == 0;
	case OPERAND_NUMBER:
		return !(a->number < b->number) && !(a->number > b->number);
	case OPERAND_BOOL:
		return a->truth == b->truth;
	default:
		return false;
	}
}

static bool among(const struct operand *a, const struct json *list)
{
	for (size_t i = 0; i < json_count(list); i++) {
		struct operand b = operand_of(json_at(list, i));

		if (equal(a, &b))
			return true;
	}
	return false;
}

/* False: the two have no order. */
static bool order(const struct operand *a, const struct operand *b, int *out)
{
	if (a->kind != b->kind || (a->kind != OPERAND_TEXT && a->kind != OPERAND_NUMBER))
		return false;
	if (a->kind == OPERAND_TEXT)
		*out = strcmp(a->text, b->text);
	else
		*out = (a->number > b->number) - (a->number < b->number);
	return true;
}

static bool compares(const char *op, const struct operand *a, const struct operand *b)
{
	int sign;

	if (!order(a, b, &sign))
		return false;
	if (strcmp(op, "gt") == 0)
		return sign > 0;
	if (strcmp(op, "gte") == 0)
		return sign >= 0;
	if (strcmp(op, "lt") == 0)
		return sign < 0;
	return strcmp(op, "lte") == 0 && sign <= 0;
}

static bool operator_holds(const char *op, const struct operand *a, const struct json *wanted)
{
	struct operand b = operand_of(wanted);

	if (strcmp(op, "eq") == 0)
		return equal(a, &b);
	if (strcmp(op, "ne") == 0)
		return b.kind != OPERAND_NONE && !equal(a, &b);
	if (strcmp(op, "in") == 0)
		return json_is_array(wanted) && among(a, wanted);
	if (strcmp(op, "not_in") == 0)
		return json_is_array(wanted) && !among(a, wanted);
	if (strcmp(op, "exists") == 0)
		return b.kind == OPERAND_BOOL && b.truth == (a->kind != OPERAND_NONE);
	if (strcmp(op, "contains") == 0)
		return a->kind == OPERAND_TEXT && b.kind == OPERAND_TEXT && strstr(a->text, b.text) != NULL;
	if (strcmp(op, "starts_with") == 0)
		return a->kind == OPERAND_TEXT && b.kind == OPERAND_TEXT && strncmp(a->text, b.text, strlen(b.text)) == 0;
	return compares(op, a, &b);
}

struct walk {
	const struct flag_subject *who;
	struct operand attribute; /* of the condition being looked at */
	bool holds;
};

static void check_operator(void *ctx, const char *op, const struct json *wanted)
{
	struct walk *w = ctx;

	w->holds = w->holds && operator_holds(op, &w->attribute, wanted);
}

static void check_condition(void *ctx, const char *name, const struct json *wanted)
{
	struct walk *w = ctx;

	w->attribute = attribute_of(w->who, name);
	if (json_is_object(wanted)) {
		json_each(wanted, check_operator, w);
	} else if (json_is_array(wanted)) {
		w->holds = w->holds && among(&w->attribute, wanted);
	} else {
		struct operand b = operand_of(wanted);

		w->holds = w->holds && equal(&w->attribute, &b);
	}
}

bool flag_conditions_hold(const struct json *conditions, const struct flag_subject *who)
{
	struct walk w = {.who = who, .holds = true};

	if (json_is_null(conditions))
		return true;
	if (!json_is_object(conditions))
		return false;
	json_each(conditions, check_condition, &w);
	return w.holds;
}
