/* Statements put together from the catalogue: a growing text, and the
 * templates of ferry.tracked_column filled in. */
#ifndef FERRY_HUB_PG_SQL_H
#define FERRY_HUB_PG_SQL_H

#include <stdbool.h>
#include <stddef.h>

#define PG_SQL_BYTES_MAX ((size_t)16 << 20)

struct pg_sql {
	char *p; /* NUL-terminated; owned: pg_sql_deinit() */
	size_t n, capacity;
	bool failed; /* no memory or too long; p is "" then */
};

void pg_sql_init(struct pg_sql *s);
void pg_sql_deinit(struct pg_sql *s);
void pg_sql_clear(struct pg_sql *s);
void pg_sql_add(struct pg_sql *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pg_sql_add_quoted(struct pg_sql *s, const char *name); /* as an identifier */
/* template with its first %s replaced by value and each {seed} by seed. */
void pg_sql_add_filled(struct pg_sql *s, const char *template, const char *value, const char *seed);

#endif
