/* What the replica and the status file tell: status, outbox, conflicts,
 * rejected, sql. None needs the agent to run, none disturbs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli.h"
#include "agent/identity.h"
#include "agent/replica.h"
#include "shared/clock.h"
#include "shared/time_text.h"

#define STATEMENT_BYTES_MAX (1u << 20)

/* ---- lists ---- */

static int list(struct cli *c, const char *sql, const struct cli_column *columns, const char *empty)
{
	struct cli_setting s;
	struct json *rows;
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && cli_query(c, &s, sql, &rows, &exit_code))
		exit_code = cli_print_rows(c, rows, columns, empty);
	cli_setting_deinit(&s);
	return exit_code;
}

int cli_outbox(struct cli *c)
{
	static const struct cli_column columns[] = {
		{"number", "change-set"}, {"table", NULL}, {"key", NULL}, {"op", NULL}, {"at", NULL},
		{"blocked_by", "blocked by"}, {"parked", "waits at the hub"}, {NULL, NULL}};
	return list(c, "SELECT * FROM ferry_outbox", columns, "Nothing waits: the hub has confirmed every local change.");
}

int cli_conflicts(struct cli *c)
{
	static const struct cli_column columns[] = {
		{"id", NULL},	  {"at", NULL},	  {"table", NULL},	  {"key", NULL},	{"column", NULL},
		{"kind", NULL},	  {"device_value", NULL}, {"hub_value", NULL}, {"winner", NULL},
		{"other_device", "other device"},
		{NULL, NULL}};
	return list(c, "SELECT * FROM ferry_conflict ORDER BY id", columns, "No conflicts.");
}

int cli_rejected(struct cli *c)
{
	static const struct cli_column columns[] = {{"number", "change-set"}, {"at", NULL},  {"name", "code"}, {"blocked_by", "blocked by"},
						    {"sentence", NULL},	      {"table", NULL}, {"key", NULL},
						    {"op", NULL},	      {"values", NULL}, {NULL, NULL}};
	return list(c, "SELECT * FROM ferry_rejected ORDER BY id", columns, "Nothing was refused.");
}

/* ---- status ---- */

static void copy_member(void *ctx, const char *key, const struct json *value)
{
	struct json *o = ctx;
	char *text;
	if (json_text(value)) {
		json_put_text(o, key, json_text(value));
	} else if (json_is_null(value)) {
		json_put_null(o, key);
	} else {
		/* A number: texts of other kinds stand in no status row. */
		text = json_write_text(value, true);
		json_put_int(o, key, strtoll(text, NULL, 10));
		free(text);
	}
}

static void age_text(struct json *o, const char *key, const char *oldest)
{
	struct value at;
	char text[64];
	if (!oldest || !timestamp_from_text(oldest, strlen(oldest), &at) || at.kind != VALUE_INT)
		return;
	int64_t seconds = (clock_wall_us() - at.i) / 1000000;
	json_put_int(o, "oldest_unsent_age_s", seconds < 0 ? 0 : seconds);
	if (seconds < 120)
		snprintf(text, sizeof(text), "%lld s", (long long)(seconds < 0 ? 0 : seconds));
	else if (seconds < 7200)
		snprintf(text, sizeof(text), "%lld min", (long long)(seconds / 60));
	else
		snprintf(text, sizeof(text), "%lld h", (long long)(seconds / 3600));
	json_put_text(o, key, text);
}

/* Every difference that checksums ever found, and the newest rows that were repaired for
 * them; the sentence is for those that still stand. */
static bool add_mismatches(struct cli *c, struct cli_setting *s, struct json *o, int *exit_code)
{
	struct json *rows;
	char text[240];
	if (!cli_query(c, s, "SELECT scope, \"table\", what, position, at, tries, healed_at FROM ferry_mismatch "
			     "ORDER BY healed_at IS NOT NULL, at DESC", &rows, exit_code))
		return false;
	const struct json *first = json_at(rows, 0);
	if (first && json_is_null(json_get(first, "healed_at"))) {
		snprintf(text, sizeof(text), "%.60s: %.80s (scope %.60s)", json_text(json_get(first, "table")),
			 json_text(json_get(first, "what")), json_text(json_get(first, "scope")));
		json_put_text(o, "alarm", text);
	}
	json_put(o, "checksums", rows);
	if (!cli_query(c, s, "SELECT at, scope, \"table\", key, what, reason FROM ferry_repaired ORDER BY id DESC LIMIT 20", &rows,
		       exit_code))
		return false;
	json_put(o, "repaired", rows);
	return true;
}

/* What the running agent last wrote; only its lock tells whether it lives. */
static void add_running(const struct cli_setting *s, struct json *o)
{
	struct json *file = NULL;
	bool running = files_locked(s->paths.lock);
	json_put_bool(o, "running", running);
	if (json_read_file(s->paths.status, &file, NULL) != FERRY_OK)
		file = NULL;
	const char *state = json_text(json_get(file, "state"));
	json_put_text(o, "state", running && state ? state : "not running");
	json_put_text(o, "hub", json_text(json_get(file, "hub")));
	json_put_text(o, "error", json_text(json_get(file, "error")));
	json_put_text(o, "why", json_text(json_get(file, "why")));
	if (running && file) {
		json_put_int(o, "clock_offset_us", json_int(json_get(file, "clock_offset_us"), 0));
		json_put_bool(o, "caught_up", json_bool(json_get(file, "caught_up"), false));
		json_put_int(o, "pid", json_int(json_get(file, "pid"), 0));
	}
	json_release(file);
}

static void add_identity(const struct cli_setting *s, struct json *o)
{
	char path[FILES_PATH_MAX];
	struct json *file = NULL;
	if (files_join(path, s->paths.identity, "enrolment.json", NULL) != FERRY_OK ||
	    json_read_file(path, &file, NULL) != FERRY_OK)
		return;
	json_put_text(o, "name", json_text(json_get(file, "name")));
	json_put_text(o, "device", json_text(json_get(file, "device")));
	json_put_text(o, "tenant", json_text(json_get(file, "tenant")));
	json_release(file);
}

/* The hub had this device remove a deleted tenant's data, and nobody has
 * enrolled it anew. */
static bool add_wiped(const struct cli_setting *s, struct json *o)
{
	struct json *file = NULL;
	if (files_exists(s->paths.replica) || json_read_file(s->paths.status, &file, NULL) != FERRY_OK)
		return false;
	const char *state = json_text(json_get(file, "state"));
	bool wiped = state && strcmp(state, "wiped") == 0;
	if (wiped) {
		json_put_text(o, "state", state);
		json_put_text(o, "unsent_file", json_text(json_get(file, "unsent_file")));
		json_put_int(o, "unsent_sets", json_int(json_get(file, "unsent_sets"), 0));
	}
	json_release(file);
	return wiped;
}

static bool gather_status(struct cli *c, struct cli_setting *s, struct json *o, int *exit_code)
{
	struct json *rows, *scopes;
	if (!cli_query(c, s, "SELECT * FROM ferry_status", &rows, exit_code))
		return false;
	json_each(json_at(rows, 0), copy_member, o);
	age_text(o, "oldest_unsent_age", json_text(json_get(json_at(rows, 0), "oldest_at")));
	json_release(rows);
	if (!cli_query(c, s, "SELECT name FROM ferry_scope WHERE held <> 0 ORDER BY name", &rows, exit_code))
		return false;
	scopes = json_new_array();
	for (size_t i = 0; i < json_count(rows); i++)
		json_add_text(scopes, json_text(json_get(json_at(rows, i), "name")));
	json_put(o, "scopes", scopes);
	json_release(rows);
	return add_mismatches(c, s, o, exit_code);
}

/* ---- status, printed ---- */

int cli_status(struct cli *c)
{
	static const struct cli_column columns[] = {{"name", NULL},
						    {"device", NULL},
						    {"tenant", NULL},
						    {"state", NULL},
						    {"hub", NULL},
						    {"error", "problem"},
						    {"why", NULL},
						    {"alarm", "checksum alarm"},
						    {"position", NULL},
						    {"caught_up", "caught up"},
						    {"waiting_sets", "change-sets waiting"},
						    {"waiting_rows", "rows waiting"},
						    {"oldest_unsent_age", "oldest unsent"},
						    {"rejected", NULL},
						    {"conflicts", NULL},
						    {"clock_offset_us", "clock offset (us)"},
						    {"scopes", NULL},
						    {"unsent_file", "unsent changes in"},
						    {"unsent_sets", "unsent change-sets"},
						    {NULL, NULL}};
	struct cli_setting s;
	int exit_code = CLI_OK;
	struct json *o = json_new_object();
	if (cli_setting_init(c, &s, &exit_code)) {
		add_identity(&s, o);
		add_running(&s, o);
		if (add_wiped(&s, o) || gather_status(c, &s, o, &exit_code)) {
			exit_code = cli_print_object(c, o, columns);
			o = NULL;
		}
	}
	json_release(o);
	cli_setting_deinit(&s);
	return exit_code;
}

/* ---- sql ---- */

#define SQL_COLUMNS_MAX 128

struct sql_output {
	struct json *rows;
	char *names[SQL_COLUMNS_MAX]; /* of the columns of all statements, owned */
	int count;
	bool no_memory;
};

static bool is_known(const struct sql_output *out, int likely, const char *name)
{
	if (likely < out->count && strcmp(out->names[likely], name) == 0)
		return true;
	for (int i = 0; i < out->count; i++)
		if (strcmp(out->names[i], name) == 0)
			return true;
	return false;
}

static bool take_row(void *ctx, const struct replica_field *fields, int count)
{
	struct sql_output *out = ctx;
	for (int i = 0; i < count && out->count < SQL_COLUMNS_MAX; i++) {
		if (is_known(out, i, fields[i].name))
			continue;
		out->names[out->count] = strdup(fields[i].name);
		out->no_memory |= !out->names[out->count];
		if (out->no_memory)
			return false;
		out->count++;
	}
	json_add(out->rows, cli_row(fields, count));
	return true;
}

/* Standard input, whole; NULL: it cannot be taken, and *why says why. */
static char *read_statement(const char **why)
{
	char *text = malloc(STATEMENT_BYTES_MAX + 2);
	size_t n = text ? fread(text, 1, STATEMENT_BYTES_MAX + 1, stdin) : 0;
	*why = !text || ferror(stdin)		? "standard input cannot be read"
	       : n > STATEMENT_BYTES_MAX	? "the statements on standard input are longer than 1 MiB"
	       : memchr(text, '\0', n) != NULL ? "there is a NUL byte in the statements on standard input"
						: NULL;
	if (*why) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

static int run_statement(struct cli *c, const struct cli_setting *s, const char *sql)
{
	struct sql_output out = {.rows = json_new_array()};
	struct cli_column columns[SQL_COLUMNS_MAX + 1];
	struct ferry_why why = {0};
	enum ferry_error e = replica_query(s->paths.replica, sql, cli_flag(c, "read-only"), take_row, &out, &why);
	int exit_code;
	if (e == FERRY_OK && out.no_memory)
		e = ferry_fail(&why, FERRY_NO_MEMORY, "no memory for the rows");
	if (e != FERRY_OK) {
		exit_code = cli_fail(c, e, why.text, e == FERRY_BUSY ? "Another program writes; try again" : NULL);
		json_release(out.rows);
	} else {
		memset(columns, 0, sizeof(columns));
		for (int i = 0; i < out.count; i++)
			columns[i].key = out.names[i];
		exit_code = cli_print_rows(c, out.rows, columns, "Done; no rows.");
	}
	for (int i = 0; i < out.count; i++)
		free(out.names[i]);
	return exit_code;
}

int cli_sql(struct cli *c)
{
	struct cli_setting s;
	int exit_code = CLI_OK;
	char *typed = NULL;
	const char *why = NULL;
	if (cli_setting_init(c, &s, &exit_code)) {
		const char *sql = cli_argument(c, 0) ? cli_argument(c, 0) : (typed = read_statement(&why));
		if (!files_exists(s.paths.replica))
			exit_code = cli_fail(c, FERRY_NOT_ENROLLED, "there is no replica: this device is not enrolled",
					     "Run ferry-agent enrol with a token, or name the folder with --state-dir");
		else if (!sql)
			exit_code = cli_fail(c, FERRY_USAGE, why, "Nothing was run. Give it in smaller pieces, or use sqlite3");
		else
			exit_code = run_statement(c, &s, sql);
	}
	free(typed);
	cli_setting_deinit(&s);
	return exit_code;
}
