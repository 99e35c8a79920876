/* The command line of both programs: commands with options and arguments,
 * help made from the same tables, output as a table or as JSON, and errors as
 * two sentences (what is wrong, what to do) with the code's name.
 *
 * A command computes a struct json; what a person sees is a table made from
 * it, so the two can't differ. Data in a table is printed with its control
 * characters escaped: a row of a replica can't drive the terminal. */
#ifndef FERRY_SHARED_CLI_H
#define FERRY_SHARED_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/errors.h"
#include "shared/json.h"

struct config_table;

#define CLI_ARGUMENTS_MAX 16
#define CLI_VALUES_MAX 32

/* Exit codes of both programs. */
enum cli_exit {
	CLI_OK = 0,
	CLI_PROBLEM = 1,      /* it could not be done */
	CLI_USAGE = 2,        /* arguments or configuration are wrong */
	CLI_NOT_ENROLLED = 3,
	CLI_UNREACHABLE = 4,  /* hub or database cannot be reached, or not now: try again */
	CLI_PERSON = 5,       /* a person must act: revoked, wrong token, a copy of this device... */
};

struct cli_option {
	const char *name;  /* without the dashes */
	const char *value; /* name of its value in the help; NULL: a flag */
	const char *help;
};

struct cli;

struct cli_command {
	const char *name;      /* "token create": of one or two words */
	const char *arguments; /* as in the help: "<token>", "" */
	int arguments_min, arguments_max;
	const char *summary;   /* one line */
	const char *more;      /* further sentences, or NULL */
	const char *example;   /* one line, without the prompt */
	const struct cli_option *options; /* ends with a NULL name; may be NULL */
	int (*run)(struct cli *c);
};

struct cli_program {
	const char *name, *summary;
	const struct cli_command *commands; /* ends with a NULL name */
	const struct cli_option *common;    /* options of every command; --json, --help, --version are there anyway */
	const char *notes;                  /* printed at the end of the general help */
	int (*bare)(struct cli *c);         /* options without a command (--check-config); may be NULL */
};

/* Parses and runs; the value is the exit code. */
int cli_main(const struct cli_program *program, int argc, char **argv);

bool cli_flag(const struct cli *c, const char *name);
const char *cli_value(const struct cli *c, const char *name);           /* NULL: not given; the last of several */
const char *cli_value_at(const struct cli *c, const char *name, int i); /* NULL: fewer were given */
const char *cli_argument(const struct cli *c, int i);                   /* NULL: not given */
bool cli_json(const struct cli *c);

/* Prints the error to stderr, as JSON to stdout with --json, and gives the
 * exit code that belongs to it. todo may be NULL: then the code's own advice. */
int cli_fail(const struct cli *c, enum ferry_error code, const char *what, const char *todo);
int cli_exit_of(enum ferry_error code);

struct cli_column {
	const char *key;   /* of the object */
	const char *title; /* NULL: the key */
};

/* An array of objects, as a table with a heading (or `empty` when there is
 * none), or as JSON. columns end with a NULL key. Releases rows. */
int cli_print_rows(const struct cli *c, struct json *rows, const struct cli_column *columns, const char *empty);
/* One object, a line each for the columns given. Releases object. */
int cli_print_object(const struct cli *c, struct json *object, const struct cli_column *columns);
/* For people: what a dry run found, a line each of objects with table, key, column (null: the row is
 * deleted), before and after; left_out: how many more there would be. */
void cli_print_writes(const struct json *writes, int64_t left_out);
/* A sentence for a person, or with --json the object. Releases object. */
int cli_print_done(const struct cli *c, struct json *object, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* What every program does once its settings are loaded (with `loaded` and `why`): says what is
 * wrong with them, or answers --print-config and --check-config. False: that was it, and
 * *out_exit is the exit code. */
bool cli_settings_ready(const struct cli *c, const struct config_table *table, const void *settings,
			enum ferry_error loaded, const struct ferry_why *why, int *out_exit);

/* Does name, as given, come close to known? For "did you mean". */
bool cli_near(const char *given, const char *known);

#endif
