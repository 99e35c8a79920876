#include "shared/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/time_text.h"

/* A process has one log; this is the only state of it. */
static struct {
	const char *program;
	enum log_level most;
	void (*sink)(void *ctx, const char *line);
	void *sink_ctx;
} log_state = {.program = "ferry", .most = LEVEL_INFO};

static const char *const level_names[] = {
	[LEVEL_ERROR] = "error",
	[LEVEL_WARNING] = "warning",
	[LEVEL_INFO] = "info",
	[LEVEL_DEBUG] = "debug",
};

struct line {
	char text[LOG_LINE_MAX];
	size_t n;
};

void log_open(const char *program, enum log_level most)
{
	log_state.program = program;
	log_state.most = most;
}

void log_redirect(void (*sink)(void *ctx, const char *line), void *ctx)
{
	log_state.sink = sink;
	log_state.sink_ctx = ctx;
}

bool log_enabled(enum log_level level)
{
	return level <= log_state.most;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

bool log_level_from_name(const char *name, enum log_level *out)
{
	for (enum log_level l = LEVEL_ERROR; l <= LEVEL_DEBUG; l++) {
		if (strcmp(level_names[l], name) == 0) {
			*out = l;
			return true;
		}
	}
	return false;
}

static void __attribute__((format(printf, 2, 3))) put(struct line *l, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(l->text + l->n, sizeof(l->text) - l->n, format, args);
	va_end(args);
	if (n > 0)
		l->n += (size_t)n;
	if (l->n > sizeof(l->text) - 1)
		l->n = sizeof(l->text) - 1;
}

static bool needs_quotes(const char *text)
{
	if (*text == '\0')
		return true;
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text <= ' ' || *text == '"' || *text == '=' || *text == '\\' || *text == 0x7f)
			return true;
	}
	return false;
}

static void put_quoted(struct line *l, const char *text)
{
	put(l, "\"");
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			put(l, "\\x%02x", (unsigned)*text);
		else if (*text == '"' || *text == '\\')
			put(l, "\\%c", *text);
		else
			put(l, "%c", *text);
	}
	put(l, "\"");
}

static void put_field(struct line *l, const struct log_field *f)
{
	put(l, " %s=", f->key);
	if (f->text == NULL)
		put(l, "%lld", (long long)f->number);
	else if (needs_quotes(f->text))
		put_quoted(l, f->text);
	else
		put(l, "%s", f->text);
}

static void put_head(struct line *l, enum log_level level, const struct log_context *ctx, const char *event)
{
	struct value now = value_int(clock_wall_us());
	char time[TIME_TEXT_MAX] = "-";

	(void)timestamp_to_text(&now, time);
	put(l, "time=%s level=%s program=%s event=%s device=%s tenant=%s", time, level_names[level], log_state.program,
	    event, ctx == NULL || ctx->device[0] == '\0' ? "-" : ctx->device,
	    ctx == NULL || ctx->tenant[0] == '\0' ? "-" : ctx->tenant);
}

void log_event(enum log_level level, const struct log_context *ctx, const char *event, const struct log_field *fields,
	       size_t count)
{
	struct line l = {.n = 0};

	if (!log_enabled(level))
		return;
	put_head(&l, level, ctx, event);
	for (size_t i = 0; i < count; i++) {
		if (fields[i].key != NULL)
			put_field(&l, &fields[i]);
	}
	if (log_state.sink != NULL)
		log_state.sink(log_state.sink_ctx, l.text);
	else
		fprintf(stderr, "%s\n", l.text);
}

bool log_allowed(struct log_limit *l, int64_t monotonic_us, uint32_t *out_dropped)
{
	*out_dropped = 0;
	if (l->count == 0 || monotonic_us - l->started_us >= l->interval_us) {
		*out_dropped = l->dropped;
		l->started_us = monotonic_us;
		l->count = 0;
		l->dropped = 0;
	}
	if (l->count == l->count_max) {
		l->dropped++;
		return false;
	}
	l->count++;
	return true;
}
