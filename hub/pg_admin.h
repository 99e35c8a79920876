/* A small synchronous door to PostgreSQL for the command line: migrations,
 * tokens, device and tenant lists. Never used inside the event loop.
 *
 * Results are text, as psql would print them under the engine's fixed
 * settings. Errors: FERRY_DATABASE when the server cannot be reached or the
 * connection broke, FERRY_USAGE when it refused the statement; the sentence
 * holds the server's own message. */
#ifndef FERRY_HUB_PG_ADMIN_H
#define FERRY_HUB_PG_ADMIN_H

#include "protocol/errors.h"

struct pg_admin;
struct pg_rows;

/* conninfo: as libpq takes it ("host=/run/ferry dbname=crm user=ferry_hub" or
 * a postgresql:// address). *out is owned by the caller: pg_admin_close(). */
FERRY_CHECK enum ferry_error pg_admin_open(const char *conninfo, struct pg_admin **out, struct ferry_why *why);
void pg_admin_close(struct pg_admin *a); /* accepts NULL */
/* After a FERRY_DATABASE: the server is down, starts or stops, so that the same call may succeed later
 * (false: it answers, and refused us). */
bool pg_admin_server_away(const char *conninfo);

/* Runs one or more statements; a script without BEGIN runs as one
 * transaction. */
FERRY_CHECK enum ferry_error pg_admin_exec(struct pg_admin *a, const char *sql, struct ferry_why *why);
/* The same with the content of a file; the sentence names file and line. */
FERRY_CHECK enum ferry_error pg_admin_exec_file(struct pg_admin *a, const char *path, struct ferry_why *why);

/* One statement with text parameters $1..$n (NULL entries are NULL). out may
 * be NULL when the rows do not matter; else owned by the caller. */
FERRY_CHECK enum ferry_error pg_admin_query(struct pg_admin *a, const char *sql, const char *const *params, int count,
					    struct pg_rows **out, struct ferry_why *why);
/* SQLSTATE of the last failed statement, "" if none. */
const char *pg_admin_sqlstate(const struct pg_admin *a);

int pg_rows_count(const struct pg_rows *r);
int pg_rows_columns(const struct pg_rows *r);
const char *pg_rows_name(const struct pg_rows *r, int column);
const char *pg_rows_text(const struct pg_rows *r, int row, int column); /* NULL for NULL; lives as long as r */
void pg_rows_free(struct pg_rows *r); /* accepts NULL */

/* The hub's start-up check: its role must be held by row-level security
 * (not a superuser, no BYPASSRLS, owner of no tracked table), and the server
 * must keep what it confirms (fsync, full_page_writes, synchronous_commit),
 * unless allow_unsafe. FERRY_CONFIG with a sentence that says what to do. */
FERRY_CHECK enum ferry_error pg_check_role(struct pg_admin *a, bool allow_unsafe, struct ferry_why *why);

#endif
