#include "protocol/errors.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

struct entry {
	int code;
	enum ferry_error_class class;
	const char *name;
	const char *text;
};

static const struct entry entries[] = {
#define X(name, number, class, text) {number, FERRY_CLASS_##class, #name, text},
#include "protocol/errors.def"
#undef X
};

static const struct entry *find(int code)
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		if (entries[i].code == code)
			return &entries[i];
	}
	return NULL;
}

const char *ferry_error_name(int code)
{
	const struct entry *e = find(code);

	return e == NULL ? "UNKNOWN" : e->name;
}

const char *ferry_error_text(int code)
{
	const struct entry *e = find(code);

	return e == NULL ? "unknown error" : e->text;
}

/* A peer may know codes that we do not: its fault ends its session, no more. */
enum ferry_error_class ferry_error_class(int code)
{
	const struct entry *e = find(code);

	return e == NULL ? FERRY_CLASS_PEER : e->class;
}

bool ferry_error_known(int code)
{
	return find(code) != NULL;
}

void ferry_why_set(struct ferry_why *why, const char *format, ...)
{
	int saved = errno; /* the code beside the sentence may be chosen by it */
	va_list args;

	if (why == NULL)
		return;
	va_start(args, format);
	if (vsnprintf(why->text, sizeof(why->text), format, args) < 0)
		why->text[0] = '\0';
	va_end(args);
	errno = saved;
}
