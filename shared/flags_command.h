/* What ferry-agent flags and ferry-hub flags have in common: the options that
 * say whom the flags are asked for, and the printed answer. */
#ifndef FERRY_SHARED_FLAGS_COMMAND_H
#define FERRY_SHARED_FLAGS_COMMAND_H

#include "shared/cli.h"
#include "shared/flags.h"

/* Options of both; a command's own come before or after them. */
#define FLAG_OPTIONS                                                                                                       \
	{"role", "CODE", "a role of the user, instead of those he has; may be repeated"},                                  \
	{"environment", "NAME", "the environment (default " FLAG_DEFAULT_ENVIRONMENT ")"},                                 \
	{"attribute", "NAME=VALUE", "what conditions ask about: app=field, ram=8, beta=true; may be repeated"},            \
	{"at", "TIME", "answer as of this time, as 2026-06-01T12:00:00Z (default now)"}

struct flag_question {
	struct flag_subject subject; /* tenant and user are the command's to fill */
	struct json *roles;	     /* owned; NULL: --role was not given */
	struct json *attributes;     /* owned */
};

/* False: *out_exit is the exit code to end with; what is wrong is printed. deinit also then. */
bool flag_question_init(const struct cli *c, struct flag_question *q, int *out_exit);
void flag_question_deinit(struct flag_question *q);
/* Gives the roles found for the user, unless --role was given. Takes over roles. */
void flag_question_roles(struct flag_question *q, struct json *roles);

/* Texts of one JSON object each, in the form of flags.h, to rows; they are the member
 * "row" of the objects of `list`. Owned by the caller. */
struct json *flag_rows_of_texts(const struct json *list);

/* Prints the answers to one key, or to all (NULL); the exit code. */
int flag_print(struct cli *c, const struct json *rows, const char *key, const struct flag_question *q);

#endif
