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

/* A cut leaves whole characters: the sentence goes on into UTF-8 places. */
static void drop_half_character(char *text, size_t n)
{
	size_t lead = n;

	while (lead > 0 && n - lead < 3 && ((unsigned char)text[lead - 1] & 0xc0) == 0x80)
		lead--;
	if (lead > 0 && (unsigned char)text[lead - 1] >= 0xc0)
		text[lead - 1] = '\0';
}

void ferry_why_set(struct ferry_why *why, const char *format, ...)
{
	int saved = errno; /* the code beside the sentence may be chosen by it */
	va_list args;
	int n;

	if (why == NULL)
		return;
	va_start(args, format);
	n = vsnprintf(why->text, sizeof(why->text), format, args);
	if (n < 0)
		why->text[0] = '\0';
	else if ((size_t)n >= sizeof(why->text))
		drop_half_character(why->text, sizeof(why->text) - 1);
	va_end(args);
	errno = saved;
}
