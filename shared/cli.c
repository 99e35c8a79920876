#include "shared/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cli {
	const struct cli_program *program;
	const struct cli_command *command;
	bool json;
	const char *arguments[CLI_ARGUMENTS_MAX];
	int argument_count;
	struct {
		const struct cli_option *option;
		const char *text;
	} values[CLI_VALUES_MAX];
	int value_count;
};

static const struct cli_option built_in[] = {
	{"json", NULL, "print JSON"},
	{"help", NULL, "print this help"},
	{"version", NULL, "print the version"},
	{NULL, NULL, NULL},
};

int cli_exit_of(enum ferry_error code)
{
	switch (code) {
	case FERRY_OK:
		return CLI_OK;
	case FERRY_USAGE:
	case FERRY_CONFIG:
		return CLI_USAGE;
	case FERRY_NOT_ENROLLED:
		return CLI_NOT_ENROLLED;
	case FERRY_LINK_CLOSED:
	case FERRY_LINK_TIMEOUT:
	case FERRY_DATABASE:
	case FERRY_OVERLOADED:
	case FERRY_SHUTTING_DOWN:
	case FERRY_TENANT_SUSPENDED:
		return CLI_UNREACHABLE;
	case FERRY_NO_CERTIFICATE:
	case FERRY_UNKNOWN_DEVICE:
	case FERRY_REVOKED:
	case FERRY_BAD_TOKEN:
	case FERRY_CLONE:
	case FERRY_VERSION:
		return CLI_PERSON;
	default:
		return CLI_PROBLEM;
	}
}

static const char *advice(enum ferry_error code)
{
	switch (ferry_error_class((int)code)) {
	case FERRY_CLASS_RETRY:
		return "Try again later.";
	case FERRY_CLASS_BUG:
		return "This is a fault of Ferry: please report it with the log.";
	default:
		return NULL;
	}
}

static void end_sentence(FILE *out, const char *text)
{
	size_t n = strlen(text);
	fputs(text, out);
	if (n && !strchr(".!?", text[n - 1]))
		fputc('.', out);
}

static void fail_json(enum ferry_error code, const char *what, const char *todo)
{
	struct json *o = json_new_object(), *inner = json_new_object();
	json_put_text(inner, "code", ferry_error_name((int)code));
	json_put_int(inner, "number", code);
	json_put_text(inner, "sentence", what);
	json_put_text(inner, "advice", todo);
	json_put(o, "error", inner);
	char *text = json_write_text(o, false);
	puts(text);
	free(text);
	json_release(o);
}

int cli_fail(const struct cli *c, enum ferry_error code, const char *what, const char *todo)
{
	if (!what || !*what)
		what = ferry_error_text((int)code);
	if (!todo)
		todo = advice(code);
	if (c->json)
		fail_json(code, what, todo);
	fprintf(stderr, "%s: ", c->program->name);
	end_sentence(stderr, what);
	if (todo) {
		fputc(' ', stderr);
		end_sentence(stderr, todo);
	}
	fprintf(stderr, " [%s]\n", ferry_error_name((int)code));
	return cli_exit_of(code);
}

/* ---- what was given ---- */

static const struct cli_option *find_option(const struct cli_option *table, const char *name, size_t n)
{
	for (; table && table->name; table++)
		if (strlen(table->name) == n && strncmp(table->name, name, n) == 0)
			return table;
	return NULL;
}

static const struct cli_option *known_option(const struct cli *c, const char *name, size_t n)
{
	const struct cli_option *o = find_option(built_in, name, n);
	if (!o)
		o = find_option(c->program->common, name, n);
	if (!o && c->command)
		o = find_option(c->command->options, name, n);
	return o;
}

const char *cli_value_at(const struct cli *c, const char *name, int i)
{
	for (int v = 0; v < c->value_count; v++)
		if (strcmp(c->values[v].option->name, name) == 0 && i-- == 0)
			return c->values[v].text;
	return NULL;
}

const char *cli_value(const struct cli *c, const char *name)
{
	for (int v = c->value_count; v-- > 0;)
		if (strcmp(c->values[v].option->name, name) == 0)
			return c->values[v].text;
	return NULL;
}

bool cli_flag(const struct cli *c, const char *name)
{
	return cli_value(c, name) != NULL;
}

const char *cli_argument(const struct cli *c, int i)
{
	return i < c->argument_count ? c->arguments[i] : NULL;
}

bool cli_json(const struct cli *c)
{
	return c->json;
}

bool cli_near(const char *given, const char *known)
{
	/* Levenshtein distance of at most 2 (1 for names of up to three letters). */
	size_t n = strlen(given), m = strlen(known);
	unsigned row[64];
	if (n == 0 || n > 60 || m > 60)
		return false;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned above = row[j], best = diagonal + (given[i - 1] != known[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
			diagonal = above;
		}
	}
	return row[m] <= (m > 3 ? 2u : 1u);
}

static const char *near_option(const struct cli *c, const char *name)
{
	const struct cli_option *tables[] = {built_in, c->program->common, c->command ? c->command->options : NULL};
	for (size_t t = 0; t < 3; t++)
		for (const struct cli_option *o = tables[t]; o && o->name; o++)
			if (cli_near(name, o->name))
				return o->name;
	return NULL;
}

static int fail_usage(const struct cli *c, const char *what)
{
	char todo[160];
	if (c->command)
		snprintf(todo, sizeof(todo), "See: %s %s --help", c->program->name, c->command->name);
	else
		snprintf(todo, sizeof(todo), "See: %s --help", c->program->name);
	return cli_fail(c, FERRY_USAGE, what, todo);
}

static int take_option(struct cli *c, const char *given, char **argv, int argc, int *i)
{
	char what[200];
	const char *name = given + 2, *equals = strchr(name, '=');
	size_t n = equals ? (size_t)(equals - name) : strlen(name);
	const struct cli_option *o = known_option(c, name, n);
	if (!o) {
		const char *near = near_option(c, name);
		snprintf(what, sizeof(what), "the option %.60s is unknown%s%s%s", given, near ? "; did you mean --" : "",
			 near ? near : "", near ? "?" : "");
		return fail_usage(c, what);
	}
	if (c->value_count == CLI_VALUES_MAX)
		return fail_usage(c, "too many options are given");
	const char *text = "";
	if (o->value) {
		text = equals ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
		if (!text) {
			snprintf(what, sizeof(what), "the option --%s needs a value: %s", o->name, o->value);
			return fail_usage(c, what);
		}
	} else if (equals) {
		snprintf(what, sizeof(what), "the option --%s takes no value", o->name);
		return fail_usage(c, what);
	}
	c->values[c->value_count].option = o;
	c->values[c->value_count++].text = text;
	return 0;
}

/* The command is the first one or two words that are no options, two where
 * both would do; options of both kinds may stand anywhere. */
static const struct cli_command *find_command(const struct cli_program *p, int argc, char **argv, int *out_first,
					      int *out_second)
{
	int first = 0, second = 0;
	for (int i = 1; i < argc && !second; i++) {
		if (strcmp(argv[i], "--") == 0)
			break;
		if (strncmp(argv[i], "--", 2) == 0) {
			const struct cli_option *o = find_option(p->common, argv[i] + 2, strlen(argv[i] + 2));
			if (o && o->value)
				i++;
		} else if (!first) {
			first = i;
		} else {
			second = i;
		}
	}
	*out_first = first;
	*out_second = 0;
	if (!first)
		return NULL;
	const struct cli_command *short_one = NULL;
	for (const struct cli_command *k = p->commands; k->name; k++) {
		const char *space = strchr(k->name, ' ');
		if (!space && strcmp(k->name, argv[first]) == 0)
			short_one = k;
		if (space && second && strncmp(k->name, argv[first], (size_t)(space - k->name)) == 0 &&
		    strlen(argv[first]) == (size_t)(space - k->name) && strcmp(space + 1, argv[second]) == 0) {
			*out_second = second;
			return k;
		}
	}
	return short_one;
}

/* ---- help ---- */

static void print_options(const struct cli_option *o)
{
	for (; o && o->name; o++) {
		char left[80];
		snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
		printf("  %-24s %s\n", left, o->help);
	}
}

static void print_command_help(const struct cli *c)
{
	const struct cli_command *k = c->command;
	printf("%s %s%s%s: %s\n", c->program->name, k->name, *k->arguments ? " " : "", k->arguments, k->summary);
	if (k->more)
		printf("\n%s\n", k->more);
	printf("\nOptions:\n");
	print_options(k->options);
	print_options(c->program->common);
	print_options(built_in);
	printf("\nExample:\n  %s\n", k->example);
}

static void print_help(const struct cli *c)
{
	const struct cli_program *p = c->program;
	printf("%s: %s\n\nUsage: %s <command> [options]\n\nCommands:\n", p->name, p->summary, p->name);
	for (const struct cli_command *k = p->commands; k->name; k++) {
		char left[64];
		snprintf(left, sizeof(left), "%s %s", k->name, k->arguments);
		printf("  %-24s %s\n", left, k->summary);
	}
	printf("\nOptions of every command:\n");
	print_options(p->common);
	print_options(built_in);
	printf("\nExit codes:\n"
	       "  0  done\n"
	       "  1  it could not be done\n"
	       "  2  the arguments or the configuration are wrong\n"
	       "  3  this device is not enrolled\n"
	       "  4  the hub or its database cannot be reached, or not now: try again later\n"
	       "  5  a person must act: the device is revoked, the token is wrong or used, ...\n");
	if (p->notes)
		printf("\n%s\n", p->notes);
}

static int fail_command(const struct cli *c, int argc, char **argv, int first)
{
	char what[240];
	(void)argc;
	if (!first)
		return fail_usage(c, "no command is given");
	const char *near = NULL;
	for (const struct cli_command *k = c->program->commands; k->name && !near; k++) {
		size_t n = strlen(argv[first]);
		if (cli_near(argv[first], k->name) || (strncmp(k->name, argv[first], n) == 0 && k->name[n] == ' '))
			near = k->name;
	}
	snprintf(what, sizeof(what), "the command %.60s is unknown%s%s%s", argv[first], near ? "; did you mean " : "",
		 near ? near : "", near ? "?" : "");
	return fail_usage(c, what);
}

static int take_all(struct cli *c, int argc, char **argv, int first, int second)
{
	bool only_arguments = false;
	for (int i = 1; i < argc; i++) {
		if ((first && i == first) || (second && i == second))
			continue;
		if (!only_arguments && strcmp(argv[i], "--") == 0) {
			only_arguments = true;
		} else if (!only_arguments && strncmp(argv[i], "--", 2) == 0) {
			int failed = take_option(c, argv[i], argv, argc, &i);
			if (failed)
				return failed;
		} else if (c->argument_count == CLI_ARGUMENTS_MAX) {
			return fail_usage(c, "too many arguments are given");
		} else {
			c->arguments[c->argument_count++] = argv[i];
		}
	}
	return 0;
}

int cli_main(const struct cli_program *program, int argc, char **argv)
{
	struct cli c = {.program = program};
	int first, second;
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--json") == 0)
			c.json = true; /* also for errors in what follows */
	c.command = find_command(program, argc, argv, &first, &second);
	int failed = take_all(&c, argc, argv, c.command ? first : 0, second);
	if (!failed && cli_flag(&c, "version")) {
		printf("%s " FERRY_PROGRAM_VERSION "\n", program->name);
		return CLI_OK;
	}
	if (!failed && !c.command && (cli_flag(&c, "help") || argc == 1)) {
		print_help(&c);
		return argc == 1 ? CLI_USAGE : CLI_OK;
	}
	if (!failed && !c.command && !first && c.value_count && program->bare)
		return program->bare(&c);
	if (!c.command)
		return failed && !first ? failed : fail_command(&c, argc, argv, first);
	if (!failed && cli_flag(&c, "help")) {
		print_command_help(&c);
		return CLI_OK;
	}
	if (failed)
		return failed;
	if (c.argument_count < c.command->arguments_min || c.argument_count > c.command->arguments_max) {
		char what[160];
		snprintf(what, sizeof(what), c.argument_count < c.command->arguments_min ? "%s needs %s" : "%s takes %s",
			 c.command->name, *c.command->arguments ? c.command->arguments : "no arguments");
		return fail_usage(&c, what);
	}
	return c.command->run(&c);
}
