#include "hub/pg_conninfo.h"

#include <libpq-fe.h>
#include <string.h>

struct writer {
	char *out;
	size_t n, max;
};

static void put(struct writer *w, char c)
{
	if (w->n < w->max)
		w->out[w->n] = c;
	w->n++;
}

static void put_option(struct writer *w, const char *keyword, const char *value)
{
	if (w->n > 0)
		put(w, ' ');
	for (; *keyword; keyword++)
		put(w, *keyword);
	put(w, '=');
	put(w, '\'');
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			put(w, '\\');
		put(w, *value);
	}
	put(w, '\'');
}

static enum ferry_error parse(const char *text, PQconninfoOption **out, struct ferry_why *why)
{
	char *message = NULL;
	enum ferry_error e = FERRY_OK;

	*out = PQconninfoParse(text, &message);
	if (!*out)
		e = ferry_fail(why, FERRY_CONFIG, "a connection string is not of its form: %s",
			       message ? message : "no memory");
	if (message)
		PQfreemem(message);
	return e;
}

static const char *value_of(const PQconninfoOption *list, const char *keyword)
{
	for (; list->keyword; list++) {
		if (strcmp(list->keyword, keyword) == 0)
			return list->val;
	}
	return NULL;
}

enum ferry_error pg_conninfo_merge(const char *base, const char *over, char *out, size_t max, struct ferry_why *why)
{
	PQconninfoOption *a = NULL, *b = NULL;
	struct writer w = {out, 0, max};
	enum ferry_error e = parse(base, &a, why);

	if (e == FERRY_OK)
		e = parse(over, &b, why);
	/* Another host's address must not stay. */
	bool other_host = e == FERRY_OK && (value_of(b, "host") || value_of(b, "hostaddr"));
	for (const PQconninfoOption *o = a; e == FERRY_OK && o->keyword; o++) {
		const char *value = value_of(b, o->keyword);

		if (!value && !(other_host && strncmp(o->keyword, "host", 4) == 0))
			value = o->val;
		if (value)
			put_option(&w, o->keyword, value);
	}
	put(&w, 0);
	if (e == FERRY_OK && w.n > max)
		e = ferry_fail(why, FERRY_LIMIT, "a connection string is longer than %zu bytes", max - 1);
	PQconninfoFree(a);
	PQconninfoFree(b);
	return e;
}

enum ferry_error pg_conninfo_check(const char *over, struct ferry_why *why)
{
	PQconninfoOption *list;
	enum ferry_error e = parse(over, &list, why);

	if (e != FERRY_OK)
		return FERRY_USAGE;
	if (value_of(list, "password"))
		e = ferry_fail(why, FERRY_USAGE, "a password must not stand in the table: name a passfile or a service");
	else if (value_of(list, "user"))
		e = ferry_fail(why, FERRY_USAGE, "the roles are the configuration's: leave the user out");
	else if (!value_of(list, "dbname") && !value_of(list, "service"))
		e = ferry_fail(why, FERRY_USAGE, "the connection string names no database (dbname=...)");
	PQconninfoFree(list);
	return e;
}

enum ferry_error pg_conninfo_database(const char *conninfo, char *out, size_t max, struct ferry_why *why)
{
	PQconninfoOption *list;
	enum ferry_error e = parse(conninfo, &list, why);
	const char *name;

	if (e != FERRY_OK)
		return e;
	name = value_of(list, "dbname");
	if (!name || strlen(name) >= max)
		e = ferry_fail(why, FERRY_CONFIG, "the connection string names no database");
	else
		memcpy(out, name, strlen(name) + 1);
	PQconninfoFree(list);
	return e;
}
