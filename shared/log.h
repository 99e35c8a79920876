/* The log: lines of key=value on standard error, for a person with grep and
 * for a collector alike.
 *
 *   time=2026-03-01T12:34:56.123456Z level=info program=ferry-agent
 *   event=link_up device=0194… tenant=3f2c… peer="hub.example:7443"   (one line)
 *
 * Only program code logs, and once; cores and libraries return. No row data,
 * no secrets. Values from outside are quoted and escaped here, so that a peer
 * cannot write lines of its own. What a peer can cause goes through a limit. */
#ifndef FERRY_SHARED_LOG_H
#define FERRY_SHARED_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"

enum log_level { LEVEL_ERROR, LEVEL_WARNING, LEVEL_INFO, LEVEL_DEBUG };

#define LOG_LINE_MAX 2048 /* bytes; a longer line is cut */

struct log_context { /* in every line; empty: "-" */
	char device[UUID_TEXT];
	char tenant[UUID_TEXT];
};

struct log_field {
	const char *key; /* NULL: no field */
	const char *text; /* NULL: the number */
	int64_t number;
};

static inline const char *log_text(const char *text) /* of LOG_TEXT: NULL is written as nothing */
{
	return text ? text : "";
}

#define LOG_TEXT(k, v) ((struct log_field){.key = (k), .text = log_text(v)})
#define LOG_INT(k, v)  ((struct log_field){.key = (k), .number = (int64_t)(v)})

void log_open(const char *program, enum log_level most); /* most: the most talkative level that is written */
bool log_enabled(enum log_level level);
const char *log_level_name(enum log_level level);
bool log_level_from_name(const char *name, enum log_level *out); /* error, warning, info, debug */

/* Where lines go instead of standard error (tests); NULL: back there. */
void log_redirect(void (*sink)(void *ctx, const char *line), void *ctx);

void log_event(enum log_level level, const struct log_context *ctx, const char *event, const struct log_field *fields,
	       size_t count);

/* LOG(LEVEL_INFO, &ctx, "link_up", LOG_TEXT("peer", p), LOG_INT("tries", n)) */
#define LOG(level, ctx, event, ...)                                                                \
	log_event(level, ctx, event, (const struct log_field[]){{.key = NULL}, __VA_ARGS__},       \
		  sizeof((const struct log_field[]){{.key = NULL}, __VA_ARGS__}) / sizeof(struct log_field))

/* At most `count_max` lines in each interval; asked before a line that a peer
 * can cause. The first line of the next interval should carry *out_dropped. */
struct log_limit {
	int64_t interval_us;
	uint32_t count_max;
	int64_t started_us; /* below: the limit's own; zero at first */
	uint32_t count;
	uint32_t dropped;
};

bool log_allowed(struct log_limit *l, int64_t monotonic_us, uint32_t *out_dropped);

#endif
