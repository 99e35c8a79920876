/* ferry-dump: prints what went over the wire for a person.
 *
 *   ferry-dump [options] [file]
 *
 * Reads a captured exchange: one websocket message a line, in hexadecimal,
 * with an optional time and direction before it:
 *
 *   1767225600123456 > 00a2000801...     from the agent to the hub
 *   1767225600125000 < 01...             from the hub to the agent
 *
 * Exit code: 0 all messages are valid, 1 one is not, 2 usage. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/cbor.h"
#include "protocol/describe.h"
#include "protocol/envelope.h"
#include "shared/json.h"
#include "shared/time_text.h"

#define CAPTURE_BYTES_MAX (256u << 20)

struct dump {
	bool binary;    /* the input is one message as it is, not lines of hexadecimal */
	bool bare;      /* CBOR without the envelope's first byte */
	bool diagnose;  /* CBOR's own notation too */
	bool brief;     /* a line a message */
	struct packer *packer;
	struct arena arena;
	struct buffer scratch;
	struct buffer words;
	bool failed;
};

struct captured {
	const char *direction; /* "" when not known */
	int64_t time;          /* -1 when not known */
	const uint8_t *bytes;
	size_t n;
};

static void print_head(const struct captured *c, const char *name, size_t n)
{
	struct value at = value_int(c->time);
	char time[TIME_TEXT_MAX];

	if (c->time >= 0 && timestamp_to_text(&at, time))
		printf("%s ", time);
	if (c->direction[0] == '>')
		printf("agent -> hub ");
	else if (c->direction[0] == '<')
		printf("hub -> agent ");
	printf("%s, %zu bytes", name, c->n);
	if (n + 1 != c->n && n != c->n)
		printf(" (%zu unpacked)", n);
	printf("\n");
}

/* Indented, unless it is too much for that. */
static void print_words(struct dump *d, const struct message *m)
{
	struct json *document;
	char *text;

	buffer_clear(&d->words);
	message_describe(m, &d->words);
	if (json_read_text((const char *)d->words.p, d->words.n, &document, NULL) != FERRY_OK) {
		printf("%.*s\n", (int)d->words.n, (const char *)d->words.p);
		return;
	}
	text = json_write_text(document, false);
	printf("%s\n", text);
	free(text);
	json_release(document);
}

static void print_diagnosis(struct dump *d, const uint8_t *p, size_t n)
{
	struct reader r;

	buffer_clear(&d->words);
	reader_init(&r, p, n);
	reader_diagnose(&r, &d->words);
	reader_finish(&r);
	printf("%.*s\n", (int)d->words.n, (const char *)d->words.p);
}

static void print_failure(struct dump *d, const struct captured *c, enum ferry_error error, const struct ferry_why *why)
{
	print_head(c, "not valid", c->n);
	printf("%s: %s\n", ferry_error_name((int)error), why->text);
	d->failed = true;
}

static void dump_message(struct dump *d, const struct captured *c)
{
	struct ferry_why why = {""};
	enum ferry_error error = FERRY_OK;
	const uint8_t *p = c->bytes;
	struct message m;
	size_t n = c->n;

	if (!d->bare)
		error = packer_unpack(d->packer, c->bytes, c->n, &d->scratch, &p, &n, &why);
	if (error != FERRY_OK) {
		print_failure(d, c, error, &why);
		return;
	}
	arena_reset(&d->arena);
	error = message_decode(&d->arena, p, n, &m, &why);
	if (error != FERRY_OK)
		print_failure(d, c, error, &why);
	else
		print_head(c, message_type_name((int)m.type), n);
	if (d->diagnose)
		print_diagnosis(d, p, n);
	if (error == FERRY_OK && !d->brief)
		print_words(d, &m);
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef0123456789ABCDEF", *found = c == '\0' ? NULL : strchr(digits, c);

	return found == NULL ? -1 : (int)((found - digits) % 16);
}

/* In place; -1 when it is not hexadecimal. */
static long from_hex(char *text)
{
	uint8_t *out = (uint8_t *)text;
	size_t n = strlen(text);

	if (n % 2 != 0)
		return -1;
	for (size_t i = 0; i < n; i += 2) {
		int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);

		if (high < 0 || low < 0)
			return -1;
		*out++ = (uint8_t)(high << 4 | low);
	}
	return (long)(n / 2);
}

/* [time] [> or <] hex */
static bool dump_line(struct dump *d, char *line)
{
	struct captured c = {.direction = "", .time = -1};
	char *rest = line, *word, *last = NULL;
	long n;

	if (line[0] == '#')
		return true;
	while ((word = strsep(&rest, " \t\r\n")) != NULL) {
		if (word[0] == '\0')
			continue;
		if (last != NULL && (last[0] == '<' || last[0] == '>'))
			c.direction = last;
		else if (last != NULL)
			c.time = strtoll(last, NULL, 10);
		last = word;
	}
	if (last == NULL)
		return true;
	n = from_hex(last);
	if (n < 0)
		return false;
	c.bytes = (const uint8_t *)last;
	c.n = (size_t)n;
	dump_message(d, &c);
	return true;
}

static bool dump_lines(struct dump *d, FILE *file)
{
	size_t capacity = 0, number = 0;
	char *line = NULL;
	bool good = true;

	while (good && getline(&line, &capacity, file) >= 0) {
		number++;
		good = dump_line(d, line);
	}
	if (!good)
		fprintf(stderr, "ferry-dump: line %zu is not hexadecimal; for a message as it is use --binary.\n", number);
	free(line);
	return good;
}

static bool dump_binary(struct dump *d, FILE *file)
{
	struct captured c = {.direction = "", .time = -1};
	struct buffer all;
	uint8_t *to;
	size_t got;

	buffer_init(&all, CAPTURE_BYTES_MAX);
	while ((to = buffer_reserve(&all, 65536)) != NULL && (got = fread(to, 1, 65536, file)) > 0)
		all.n += got;
	c.bytes = all.p;
	c.n = all.n;
	dump_message(d, &c);
	buffer_deinit(&all);
	return true;
}

static int usage(FILE *to)
{
	fprintf(to, "Usage: ferry-dump [options] [file]\n"
		    "Prints captured messages; a line is [time] [> or <] and the message in hexadecimal.\n"
		    "  --binary    the input is one message as it is\n"
		    "  --bare      messages are CBOR without an envelope (a stored change-set is no message)\n"
		    "  --cbor      print CBOR's diagnostic notation too\n"
		    "  --brief     one line a message\n"
		    "  --help      this text\n");
	return to == stdout ? 0 : 2;
}

static int parse_options(struct dump *d, int argc, char **argv)
{
	static const struct option options[] = {
		{"binary", no_argument, NULL, 'b'}, {"bare", no_argument, NULL, 'r'}, {"cbor", no_argument, NULL, 'c'},
		{"brief", no_argument, NULL, 's'},  {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			return usage(stdout);
		if (c == '?')
			return usage(stderr);
		d->binary |= c == 'b';
		d->bare |= c == 'r';
		d->diagnose |= c == 'c';
		d->brief |= c == 's';
	}
	return argc - optind > 1 ? usage(stderr) : -1;
}

static int run(struct dump *d, const char *path)
{
	FILE *file = path == NULL || strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	bool good;

	if (file == NULL) {
		fprintf(stderr, "ferry-dump: %s: %s\n", path, strerror(errno));
		return 1;
	}
	good = d->binary ? dump_binary(d, file) : dump_lines(d, file);
	if (file != stdin)
		fclose(file);
	return good && !d->failed ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct dump d = {.packer = packer_new()};
	int code = parse_options(&d, argc, argv);

	if (code < 0 && d.packer != NULL) {
		arena_init(&d.arena, 16 * FERRY_DECODE_BYTES_MAX);
		buffer_init(&d.scratch, READER_BYTES_MAX);
		buffer_init(&d.words, CAPTURE_BYTES_MAX);
		code = run(&d, optind < argc ? argv[optind] : NULL);
		arena_deinit(&d.arena);
		buffer_deinit(&d.scratch);
		buffer_deinit(&d.words);
	}
	packer_free(d.packer);
	return code < 0 ? 1 : code;
}
