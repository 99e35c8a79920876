#include "hub/pg_sql.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char nothing[1];

void pg_sql_init(struct pg_sql *s)
{
	*s = (struct pg_sql){.p = nothing};
}

void pg_sql_deinit(struct pg_sql *s)
{
	if (s->p != nothing)
		free(s->p);
	pg_sql_init(s);
}

void pg_sql_clear(struct pg_sql *s)
{
	s->n = 0;
	s->failed = false;
	s->p[0] = 0;
}

static bool room_for(struct pg_sql *s, size_t n)
{
	size_t capacity = s->capacity ? s->capacity : 1024;
	char *more;

	if (s->failed)
		return false;
	if (s->n + n < s->capacity)
		return true;
	while (capacity <= s->n + n)
		capacity *= 2;
	more = capacity <= PG_SQL_BYTES_MAX ? realloc(s->p == nothing ? NULL : s->p, capacity) : NULL;
	if (!more) {
		s->failed = true;
		return false;
	}
	s->p = more;
	s->capacity = capacity;
	return true;
}

static void add_bytes(struct pg_sql *s, const char *text, size_t n)
{
	if (!room_for(s, n))
		return;
	memcpy(s->p + s->n, text, n);
	s->n += n;
	s->p[s->n] = 0;
}

void pg_sql_add(struct pg_sql *s, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0 || !room_for(s, (size_t)n))
		return;
	va_start(args, format);
	vsnprintf(s->p + s->n, (size_t)n + 1, format, args);
	va_end(args);
	s->n += (size_t)n;
}

void pg_sql_add_quoted(struct pg_sql *s, const char *name)
{
	add_bytes(s, "\"", 1);
	for (; *name; name++) {
		if (*name == '"')
			add_bytes(s, "\"", 1);
		add_bytes(s, name, 1);
	}
	add_bytes(s, "\"", 1);
}

static void add_seeded(struct pg_sql *s, const char *template, size_t n, const char *seed)
{
	static const char mark[] = "{seed}";
	const char *end = template + n;

	while (template < end) {
		const char *at = memmem(template, (size_t)(end - template), mark, sizeof(mark) - 1);

		add_bytes(s, template, (size_t)((at ? at : end) - template));
		if (!at)
			return;
		add_bytes(s, seed, strlen(seed));
		template = at + sizeof(mark) - 1;
	}
}

void pg_sql_add_filled(struct pg_sql *s, const char *template, const char *value, const char *seed)
{
	const char *at = strstr(template, "%s");

	if (!at) {
		add_seeded(s, template, strlen(template), seed);
		return;
	}
	add_seeded(s, template, (size_t)(at - template), seed);
	add_bytes(s, value, strlen(value));
	add_seeded(s, at + 2, strlen(at + 2), seed);
}
