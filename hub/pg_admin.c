#include "hub/pg_admin.h"

#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRIPT_BYTES_MAX (16u << 20)

struct pg_admin {
	PGconn *conn;
	char sqlstate[6];
};

struct pg_rows {
	PGresult *result;
};

/* The session looks the same whatever the server's defaults are. */
static const char session_sql[] =
	"SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; "
	"SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex'; "
	"SET client_min_messages = 'warning'; SET standard_conforming_strings = on";

static void strip_newline(char *text)
{
	size_t n = strlen(text);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = 0;
}

static void ignore_notice(void *arg, const PGresult *r)
{
	(void)arg;
	(void)r;
}

static enum ferry_error fail_connect(PGconn *conn, struct ferry_why *why)
{
	char message[FERRY_WHY_MAX];

	snprintf(message, sizeof(message), "%s", conn ? PQerrorMessage(conn) : "no memory");
	strip_newline(message);
	return ferry_fail(why, FERRY_DATABASE, "cannot connect to PostgreSQL: %s", message);
}

enum ferry_error pg_admin_open(const char *conninfo, struct pg_admin **out, struct ferry_why *why)
{
	struct pg_admin *a = calloc(1, sizeof(*a));
	enum ferry_error e;

	if (!a)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory for a connection");
	a->conn = PQconnectdb(conninfo);
	if (!a->conn || PQstatus(a->conn) != CONNECTION_OK) {
		e = fail_connect(a->conn, why);
		goto fail;
	}
	PQsetNoticeReceiver(a->conn, ignore_notice, NULL);
	e = pg_admin_exec(a, session_sql, why);
	if (e)
		goto fail;
	*out = a;
	return FERRY_OK;
fail:
	pg_admin_close(a);
	return e;
}

bool pg_admin_server_away(const char *conninfo)
{
	PGPing answer = PQping(conninfo);
	return answer == PQPING_REJECT || answer == PQPING_NO_RESPONSE;
}

void pg_admin_close(struct pg_admin *a)
{
	if (!a)
		return;
	PQfinish(a->conn);
	free(a);
}

static bool result_is_good(const PGresult *r)
{
	ExecStatusType s = PQresultStatus(r);

	return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK || s == PGRES_EMPTY_QUERY;
}

/* Takes the result over. `where` names what ran, for the sentence. */
static enum ferry_error fail_result(struct pg_admin *a, PGresult *r, const char *where, struct ferry_why *why)
{
	const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
	const char *primary = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL) : NULL;
	const char *hint = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_HINT) : NULL;
	bool lost = PQstatus(a->conn) != CONNECTION_OK;
	char message[FERRY_WHY_MAX];

	snprintf(a->sqlstate, sizeof(a->sqlstate), "%s", state ? state : "08006");
	snprintf(message, sizeof(message), "%s%s%s%s%s", primary ? primary : PQerrorMessage(a->conn),
		 detail ? "; " : "", detail ? detail : "", hint ? "; " : "", hint ? hint : "");
	strip_newline(message);
	PQclear(r);
	return ferry_fail(why, lost ? FERRY_DATABASE : FERRY_USAGE, "%s%s%s", where ? where : "",
			  where ? ": " : "", message);
}

enum ferry_error pg_admin_exec(struct pg_admin *a, const char *sql, struct ferry_why *why)
{
	PGresult *r = PQexec(a->conn, sql);

	if (!r || !result_is_good(r))
		return fail_result(a, r, NULL, why);
	PQclear(r);
	return FERRY_OK;
}

static enum ferry_error read_script(const char *path, char **out, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;
	FILE *f = fopen(path, "rb");
	char *text = NULL;
	long size;

	if (!f)
		return ferry_fail(why, FERRY_IO, "cannot read %s: %m", path);
	if (fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) != 0) {
		e = ferry_fail(why, FERRY_IO, "cannot read %s: %m", path);
		goto out;
	}
	if ((unsigned long)size > SCRIPT_BYTES_MAX) {
		e = ferry_fail(why, FERRY_LIMIT, "%s is larger than %u bytes", path, SCRIPT_BYTES_MAX);
		goto out;
	}
	text = malloc((size_t)size + 1);
	if (!text || fread(text, 1, (size_t)size, f) != (size_t)size) {
		e = ferry_fail(why, text ? FERRY_IO : FERRY_NO_MEMORY, "cannot read %s", path);
		goto out;
	}
	text[size] = 0;
	*out = text;
	text = NULL;
out:
	free(text);
	fclose(f);
	return e;
}

static long line_of_position(const char *text, const char *position)
{
	long characters = position ? strtol(position, NULL, 10) : 0;
	long line = 1;

	/* The server counts characters, not bytes. */
	for (; *text && characters > 1; text++) {
		if (*text == '\n')
			line++;
		if (((unsigned char)text[1] & 0xc0) != 0x80)
			characters--;
	}
	return line;
}

enum ferry_error pg_admin_exec_file(struct pg_admin *a, const char *path, struct ferry_why *why)
{
	char where[256];
	char *text = NULL;
	enum ferry_error e = read_script(path, &text, why);
	PGresult *r;

	if (e)
		return e;
	r = PQexec(a->conn, text);
	if (r && result_is_good(r)) {
		PQclear(r);
	} else {
		const char *at = r ? PQresultErrorField(r, PG_DIAG_STATEMENT_POSITION) : NULL;
		if (at)
			snprintf(where, sizeof(where), "%s:%ld", path, line_of_position(text, at));
		else
			snprintf(where, sizeof(where), "%s", path);
		e = fail_result(a, r, where, why);
	}
	free(text);
	return e;
}

enum ferry_error pg_admin_query(struct pg_admin *a, const char *sql, const char *const *params, int count,
				struct pg_rows **out, struct ferry_why *why)
{
	PGresult *r = PQexecParams(a->conn, sql, count, NULL, params, NULL, NULL, 0);
	struct pg_rows *rows;

	if (!r || !result_is_good(r))
		return fail_result(a, r, NULL, why);
	if (!out) {
		PQclear(r);
		return FERRY_OK;
	}
	rows = malloc(sizeof(*rows));
	if (!rows) {
		PQclear(r);
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory for the rows");
	}
	rows->result = r;
	*out = rows;
	return FERRY_OK;
}

const char *pg_admin_sqlstate(const struct pg_admin *a)
{
	return a->sqlstate;
}

int pg_rows_count(const struct pg_rows *r)
{
	return PQntuples(r->result);
}

int pg_rows_columns(const struct pg_rows *r)
{
	return PQnfields(r->result);
}

const char *pg_rows_name(const struct pg_rows *r, int column)
{
	return PQfname(r->result, column);
}

const char *pg_rows_text(const struct pg_rows *r, int row, int column)
{
	return PQgetisnull(r->result, row, column) ? NULL : PQgetvalue(r->result, row, column);
}

void pg_rows_free(struct pg_rows *r)
{
	if (!r)
		return;
	PQclear(r->result);
	free(r);
}

/* Columns: name, superuser, bypasses row security, a tracked table whose
 * owner it is (or could become), then the three settings. */
static const char role_sql[] =
	"SELECT r.rolname, r.rolsuper, r.rolbypassrls, "
	"(SELECT format('%I.%I', n.nspname, c.relname) FROM ferry.tracked t JOIN pg_class c ON c.oid = t.relid "
	" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE pg_has_role(r.oid, c.relowner, 'MEMBER') LIMIT 1), "
	"current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit') "
	"FROM pg_roles r WHERE r.rolname = current_user";

static enum ferry_error check_rights(const struct pg_rows *r, struct ferry_why *why)
{
	const char *name = pg_rows_text(r, 0, 0);
	const char *table = pg_rows_text(r, 0, 3);

	if (strcmp(pg_rows_text(r, 0, 1), "t") == 0)
		return ferry_fail(why, FERRY_CONFIG,
				  "the role \"%s\" is a superuser, so row-level security would not hold it; "
				  "connect as ferry_hub", name);
	if (strcmp(pg_rows_text(r, 0, 2), "t") == 0)
		return ferry_fail(why, FERRY_CONFIG,
				  "the role \"%s\" has BYPASSRLS; run ALTER ROLE %s NOBYPASSRLS or connect as ferry_hub",
				  name, name);
	if (table)
		return ferry_fail(why, FERRY_CONFIG,
				  "the role \"%s\" owns the tracked table %s (or is a member of its owner), so it could "
				  "switch row-level security off; connect as ferry_hub", name, table);
	return FERRY_OK;
}

static enum ferry_error check_durability(const struct pg_rows *r, struct ferry_why *why)
{
	if (strcmp(pg_rows_text(r, 0, 4), "on") != 0 || strcmp(pg_rows_text(r, 0, 5), "on") != 0)
		return ferry_fail(why, FERRY_CONFIG,
				  "PostgreSQL runs with fsync or full_page_writes off, so a power cut could lose what "
				  "devices were told is safe; switch them on, or allow it for a test");
	if (strcmp(pg_rows_text(r, 0, 6), "off") == 0)
		return ferry_fail(why, FERRY_CONFIG,
				  "synchronous_commit is off for this role, so a crash could lose what devices were told "
				  "is safe; set it to on, or allow it for a test");
	return FERRY_OK;
}

enum ferry_error pg_check_role(struct pg_admin *a, bool allow_unsafe, struct ferry_why *why)
{
	struct pg_rows *r;
	enum ferry_error e = pg_admin_query(a, role_sql, NULL, 0, &r, why);

	if (e == FERRY_USAGE && (strcmp(a->sqlstate, "42P01") == 0 || strcmp(a->sqlstate, "3F000") == 0))
		return ferry_fail(why, FERRY_CONFIG, "the database has no schema \"ferry\" yet; run ferry-hub migrate");
	if (e)
		return e;
	if (pg_rows_count(r) != 1)
		e = ferry_fail(why, FERRY_CONFIG, "the connection's role cannot be found in pg_roles");
	if (!e)
		e = check_rights(r, why);
	if (!e && !allow_unsafe)
		e = check_durability(r, why);
	pg_rows_free(r);
	return e;
}
