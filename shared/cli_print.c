/* What a command found, as a table for a person or as JSON. */
#include "shared/cli.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/config.h"

#define CONFIG_PRINT_BYTES_MAX (1u << 20)
#define CELL_CHARS_MAX 60   /* a longer cell is cut in a table, never in JSON */
#define LINE_CHARS_MAX 2000 /* the same of a value that has a line to itself */

/* Characters of valid UTF-8; json.c lets nothing else in. */
static size_t chars(const char *text)
{
	size_t n = 0;
	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* Escapes control characters (C0, DEL, and C1 as UTF-8) and cuts. */
static char *printable(const char *text, size_t chars_max)
{
	size_t n = strlen(text), out = 0, shown = 0;
	char *copy = malloc(n * 4 + 4);
	if (!copy)
		abort();
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		bool starts = (c & 0xc0) != 0x80;
		if (starts && shown++ == chars_max) {
			memcpy(copy + out, "\xe2\x80\xa6", 3); /* an ellipsis */
			out += 3;
			break;
		}
		bool c1 = c == 0xc2 && (unsigned char)text[i + 1] < 0xa0;
		if (c1)
			c = (unsigned char)text[++i];
		if (c < 0x20 || c == 0x7f || c1)
			out += (size_t)snprintf(copy + out, 5, "\\x%02x", c);
		else
			copy[out++] = (char)c;
	}
	copy[out] = '\0';
	return copy;
}

static char *cell_text(const struct json *v, size_t chars_max)
{
	const char *text = json_text(v);
	if (text)
		return printable(text, chars_max);
	if (json_is_null(v))
		return printable("", chars_max);
	char *written = json_write_text(v, true), *shown = printable(written, chars_max);
	free(written);
	return shown;
}

static void pad(size_t n)
{
	while (n--)
		putchar(' ');
}

static void print_json(struct json *v)
{
	char *text = json_write_text(v, false);
	puts(text);
	free(text);
}

static const char *title_of(const struct cli_column *column)
{
	return column->title ? column->title : column->key;
}

static size_t column_count(const struct cli_column *columns)
{
	size_t n = 0;
	while (columns[n].key)
		n++;
	return n;
}

static void print_table(const struct json *rows, const struct cli_column *columns)
{
	size_t width = column_count(columns), height = json_count(rows);
	char **cells = calloc(width * height + 1, sizeof(*cells));
	size_t *widest = calloc(width + 1, sizeof(*widest));
	if (!cells || !widest)
		abort();
	for (size_t c = 0; c < width; c++) {
		widest[c] = chars(title_of(&columns[c]));
		for (size_t r = 0; r < height; r++) {
			char *text = cell_text(json_get(json_at(rows, r), columns[c].key), CELL_CHARS_MAX);
			cells[r * width + c] = text;
			if (chars(text) > widest[c])
				widest[c] = chars(text);
		}
	}
	for (size_t c = 0; c < width; c++) {
		fputs(title_of(&columns[c]), stdout);
		if (c + 1 < width)
			pad(widest[c] - chars(title_of(&columns[c])) + 2);
	}
	putchar('\n');
	for (size_t i = 0; i < width * height; i++) {
		bool last = i % width + 1 == width;
		fputs(cells[i], stdout);
		if (!last)
			pad(widest[i % width] - chars(cells[i]) + 2);
		else
			putchar('\n');
		free(cells[i]);
	}
	free(cells);
	free(widest);
}

int cli_print_rows(const struct cli *c, struct json *rows, const struct cli_column *columns, const char *empty)
{
	if (cli_json(c))
		print_json(rows);
	else if (json_count(rows) == 0)
		puts(empty);
	else
		print_table(rows, columns);
	json_release(rows);
	return CLI_OK;
}

int cli_print_object(const struct cli *c, struct json *object, const struct cli_column *columns)
{
	size_t widest = 0;
	if (cli_json(c)) {
		print_json(object);
		json_release(object);
		return CLI_OK;
	}
	for (const struct cli_column *k = columns; k->key; k++)
		if (chars(title_of(k)) > widest)
			widest = chars(title_of(k));
	for (const struct cli_column *k = columns; k->key; k++) {
		const struct json *v = json_get(object, k->key);
		if (json_is_null(v))
			continue;
		char *text = cell_text(v, LINE_CHARS_MAX);
		fputs(title_of(k), stdout);
		pad(widest - chars(title_of(k)) + 2);
		puts(text);
		free(text);
	}
	json_release(object);
	return CLI_OK;
}

static char *value_shown(const struct json *v)
{
	return json_is_null(v) ? printable("NULL", LINE_CHARS_MAX) : cell_text(v, LINE_CHARS_MAX);
}

void cli_print_writes(const struct json *writes, int64_t left_out)
{
	for (size_t i = 0; i < json_count(writes); i++) {
		const struct json *w = json_at(writes, i);
		char *column = cell_text(json_get(w, "column"), LINE_CHARS_MAX), *before = value_shown(json_get(w, "before")),
		     *after = value_shown(json_get(w, "after"));
		printf("  %s %s ", json_text(json_get(w, "table")), json_text(json_get(w, "key")));
		if (json_is_null(json_get(w, "column")))
			puts("is deleted");
		else
			printf("%s: %s -> %s\n", column, before, after);
		free(column);
		free(before);
		free(after);
	}
	if (left_out > 0)
		printf("  and %" PRId64 " more\n", left_out);
}

int cli_print_done(const struct cli *c, struct json *object, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (cli_json(c)) {
		print_json(object);
	} else {
		vprintf(format, args);
		putchar('\n');
	}
	va_end(args);
	json_release(object);
	return CLI_OK;
}

static int print_config(const struct config_table *table, const void *settings)
{
	struct buffer out;

	buffer_init(&out, CONFIG_PRINT_BYTES_MAX);
	config_print(table, settings, &out);
	fwrite(out.p, 1, out.n, stdout);
	buffer_deinit(&out);
	return CLI_OK;
}

bool cli_settings_ready(const struct cli *c, const struct config_table *table, const void *settings,
			enum ferry_error loaded, const struct ferry_why *why, int *out_exit)
{
	if (loaded != FERRY_OK) {
		*out_exit = cli_fail(c, loaded == FERRY_NOT_FOUND ? FERRY_CONFIG : loaded, why->text,
				     "Mend the configuration; --print-config shows every key");
		return false;
	}
	if (cli_flag(c, "print-config")) {
		*out_exit = print_config(table, settings);
		return false;
	}
	if (cli_flag(c, "check-config")) {
		struct json *o = json_new_object();

		json_put_bool(o, "valid", true);
		*out_exit = cli_print_done(c, o, "the configuration is valid");
		return false;
	}
	return true;
}
