/* The gate to SQLite: the one header that brings sqlite3.h in, for the files
 * agent/replica*.c. Errors become enum ferry_error with a sentence.
 *
 * A struct gate is sticky: after the first failure of a step the later calls
 * do nothing and gate_end() tells, so that a long sequence of small writes is
 * checked once, at its commit. */
#ifndef FERRY_AGENT_SQLITE_GATE_H
#define FERRY_AGENT_SQLITE_GATE_H

#include <sqlite3.h>

#include "protocol/arena.h"
#include "protocol/errors.h"
#include "protocol/value.h"

/* Text or bytes with more than FERRY_ROW_BYTES_MAX: they stay in the file. n is
 * their size, p the statement that gives them, which cell_bind runs. Two are
 * equal when they stand in the same place. */
#define CELL_FAR 100

/* A value in SQLite's own terms, as it stands in the file. Borrowed. */
struct cell {
	int type; /* SQLITE_NULL, _INTEGER, _FLOAT, _TEXT, _BLOB, CELL_FAR */
	uint32_t n;
	union {
		int64_t i;
		double f;
		const uint8_t *p;
	};
};

struct gate {
	sqlite3 *db;
	sqlite3_stmt *begin, *commit; /* kept prepared: an agent beside a busy app runs them all the time */
	bool asked;             /* statements have names and values that a person gave: what SQLite cannot make
				 * of them is FERRY_USAGE, no fault of the file */
	enum ferry_error error; /* the first failure since gate_begin */
	struct ferry_why why;
};

enum ferry_error gate_open(struct gate *g, const char *path, int flags, int busy_timeout_ms, struct ferry_why *why);
/* For one that runs or rewrites what apps have written (triggers, views): these may say "text" where they mean
 * 'text', as SQLite lets them. A column in an expression of ours has to be qualified meanwhile: "c" of a table
 * that has none would be a text. */
void gate_as_apps(struct gate *g, bool on);
void gate_close(struct gate *g);

/* Notes a failure (the first one counts). */
void gate_fail(struct gate *g, enum ferry_error e, const char *format, ...) __attribute__((format(printf, 3, 4)));
void gate_fail_sqlite(struct gate *g);

/* BEGIN IMMEDIATE; clears an older failure. FERRY_BUSY when locked. */
FERRY_CHECK enum ferry_error gate_begin(struct gate *g, struct ferry_why *why);
/* COMMIT, or ROLLBACK when anything failed since gate_begin. */
FERRY_CHECK enum ferry_error gate_end(struct gate *g, struct ferry_why *why);

void gate_exec(struct gate *g, const char *sql);
/* With sqlite3_mprintf's formats (%Q, %w), which the compiler does not know. */
void gate_execf(struct gate *g, const char *format, ...);

/* The statement in *slot, prepared on first use and reset. NULL after a failure. */
sqlite3_stmt *gate_statement(struct gate *g, sqlite3_stmt **slot, const char *sql);
void gate_finalize(sqlite3_stmt **slot);

/* Binds by letters: i int64, t text (NUL-terminated or NULL), c struct cell *,
 * b pointer + int length (blob; NULL is NULL). Runs to the first row: true
 * when there is one. A NULL statement gives false. */
bool gate_step(struct gate *g, sqlite3_stmt *s, const char *letters, ...);
bool gate_next(struct gate *g, sqlite3_stmt *s);
void gate_run(struct gate *g, sqlite3_stmt *s, const char *letters, ...); /* no rows wanted */

bool cell_bind(sqlite3_stmt *s, int index, const struct cell *c); /* false: a far one could not be read */
struct cell cell_column(sqlite3_stmt *s, int index); /* borrowed until the next step */
struct cell cell_keep(struct arena *a, sqlite3_stmt *s, int index); /* copied; p of a far one is the caller's to set */
bool cell_equal(const struct cell *a, const struct cell *b);

static inline struct cell cell_null(void)
{
	return (struct cell){.type = SQLITE_NULL};
}

#endif
