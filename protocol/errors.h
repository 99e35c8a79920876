/* Error codes: one enum for return values, the wire and stored verdicts.
 *
 * The table itself is errors.def. A function that can fail returns enum
 * ferry_error and is marked FERRY_CHECK; where a person will read it, a
 * `struct ferry_why` rides along with a sentence that says what to do. */
#ifndef FERRY_PROTOCOL_ERRORS_H
#define FERRY_PROTOCOL_ERRORS_H

#include <stdarg.h>
#include <stdbool.h>

#define FERRY_CHECK __attribute__((warn_unused_result))

enum ferry_error {
#define X(name, number, class, text) FERRY_##name = number,
#include "protocol/errors.def"
#undef X
};

enum ferry_error_class {
	FERRY_CLASS_NONE,
	FERRY_CLASS_RETRY,  /* temporary: try again, with a deadline */
	FERRY_CLASS_PEER,   /* the peer's fault: end that session */
	FERRY_CLASS_REFUSE, /* one change-set is refused */
	FERRY_CLASS_STOP,   /* a person must act */
	FERRY_CLASS_BUG,    /* ours */
};

#define FERRY_WHY_MAX 400 /* bytes of a sentence, with its NUL */

/* A sentence for a person; empty when there is nothing to add. */
struct ferry_why {
	char text[FERRY_WHY_MAX];
};

/* Static strings; never NULL. An unknown number gives "unknown error". */
const char *ferry_error_name(int code);
const char *ferry_error_text(int code);
enum ferry_error_class ferry_error_class(int code);
bool ferry_error_known(int code);

/* Writes the sentence, cut at FERRY_WHY_MAX, when why is not NULL; errno stays. */
void ferry_why_set(struct ferry_why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ferry_fail(why, code, format, ...): writes the sentence and gives code, so
 * that a failing path reads `return ferry_fail(...)`. A macro, so that compilers
 * and analyzers see which code it is. Each argument is evaluated once, code last. */
#define ferry_fail(why, code, ...) (ferry_why_set((why), __VA_ARGS__), (enum ferry_error)(code))

#endif
