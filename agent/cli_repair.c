/* ferry-agent conflicts and rejected with a verb: what a person decides goes
 * into ferry_repair, as any app would write it, and is carried out at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli.h"
#include "agent/identity.h"
#include "agent/replica_repair.h"
#include "agent/replica_would.h"
#include "protocol/arena.h"

#define SQL_BYTES_MAX  8192
#define REPAIR_BUSY_MS 10000
#define COLUMN_BYTES_MAX 128
#define PATH_BYTES_MAX 420 /* of a column's name, each character of which may be a quote */
#define EDITS_BYTES_MAX ((size_t)1 << 20) /* of all --set and --without of a dry run */
#define WRITES_MAX 1000    /* that a dry run lists */

/* A number given on the command line: it goes into SQL as it is. */
static bool number_of(const struct cli *c, char out[24], int *exit_code)
{
	const char *text = cli_argument(c, 0);
	char *end;
	long long n = strtoll(text, &end, 10);
	if (end != text && !*end && n > 0) {
		snprintf(out, 24, "%lld", n);
		return true;
	}
	*exit_code = cli_fail(c, FERRY_USAGE, "a number is needed", "The lists of ferry-agent conflicts and rejected name them");
	return false;
}

/* ---- show ---- */

static int fail_missing(const struct cli *c, bool conflict)
{
	return conflict ? cli_fail(c, FERRY_NOT_FOUND, "there is no such conflict", "See: ferry-agent conflicts")
			: cli_fail(c, FERRY_NOT_FOUND, "there is no such refused change-set", "See: ferry-agent rejected");
}

/* Adds the row as it stands, if there is one, to a conflict or refused row. */
static bool add_row_now(struct cli *c, const struct cli_setting *s, struct json *to, const char *table, const char *key,
			int *exit_code)
{
	char sql[SQL_BYTES_MAX];
	struct json *names, *rows = NULL;
	json_put_null(to, "row");
	snprintf(sql, sizeof(sql), "SELECT key, replace(name, '\"', '\"\"') AS name FROM ferry_table WHERE gen = 0 AND name = '%.200s'", table);
	if (strchr(table, '\'') || !cli_query(c, s, sql, &names, exit_code))
		return false;
	if (json_count(names) == 1) {
		snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\" WHERE \"%s\" = '%.40s'", json_text(json_get(json_at(names, 0), "name")),
			 json_text(json_get(json_at(names, 0), "key")), key);
		if (!cli_query(c, s, sql, &rows, exit_code)) {
			json_release(names);
			return false;
		}
		if (json_count(rows) == 1) {
			char *text = json_write_text(json_at(rows, 0), true);
			json_put_text(to, "row", text);
			free(text);
		}
	}
	json_release(rows);
	json_release(names);
	return true;
}

static void copy_member(void *ctx, const char *key, const struct json *value)
{
	double d;
	if (json_text(value))
		json_put_text(ctx, key, json_text(value));
	else if (json_is_null(value))
		json_put_null(ctx, key);
	else if (json_int(value, 0) == json_int(value, 1))
		json_put_int(ctx, key, json_int(value, 0));
	else if (json_number(value, &d))
		json_put_real(ctx, key, d);
}

/* Copies of the rows, each with its table's row as it stands. */
static struct json *with_rows(struct cli *c, const struct cli_setting *s, const struct json *rows, int *exit_code)
{
	struct json *out = json_new_array();
	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *row = json_at(rows, i);
		struct json *o = json_new_object();
		json_each(row, copy_member, o);
		json_add(out, o);
		if (!add_row_now(c, s, o, json_text(json_get(row, "table")), json_text(json_get(row, "key")), exit_code)) {
			json_release(out);
			return NULL;
		}
	}
	return out;
}

static int print_each(const struct cli *c, struct json *rows, const struct cli_column *columns)
{
	if (cli_json(c))
		return cli_print_rows(c, rows, columns, "");
	for (size_t i = 0; i < json_count(rows); i++) {
		struct json *o = json_new_object();
		json_each(json_at(rows, i), copy_member, o);
		if (i > 0)
			putchar('\n');
		(void)cli_print_object(c, o, columns);
	}
	json_release(rows);
	return CLI_OK;
}

static int show(struct cli *c, bool conflict, const struct cli_column *columns)
{
	struct cli_setting s;
	struct json *rows = NULL, *full;
	char number[24], sql[200];
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && number_of(c, number, &exit_code)) {
		snprintf(sql, sizeof(sql), "SELECT * FROM %s WHERE %s = %s ORDER BY id", conflict ? "ferry_conflict" : "ferry_rejected",
			 conflict ? "id" : "number", number);
		if (cli_query(c, &s, sql, &rows, &exit_code)) {
			full = with_rows(c, &s, rows, &exit_code);
			if (full && json_count(full) == 0) {
				json_release(full);
				exit_code = fail_missing(c, conflict);
			} else if (full) {
				exit_code = print_each(c, full, columns);
			}
		}
	}
	json_release(rows);
	cli_setting_deinit(&s);
	return exit_code;
}

int cli_conflicts_show(struct cli *c)
{
	static const struct cli_column columns[] = {
		{"id", NULL}, {"at", NULL}, {"number", "change-set"}, {"table", NULL}, {"key", NULL}, {"column", NULL}, {"kind", NULL},
		{"device_value", "my value"}, {"hub_value", "what it met"}, {"winner", "stands"}, {"other_device", "written by"},
		{"row", "the row now"}, {NULL, NULL}};
	return show(c, true, columns);
}

int cli_rejected_show(struct cli *c)
{
	static const struct cli_column columns[] = {
		{"number", "change-set"}, {"at", NULL}, {"name", "code"}, {"sentence", NULL}, {"blocked_by", "blocked by"},
		{"note", NULL}, {"table", NULL}, {"key", NULL}, {"op", NULL}, {"values", NULL}, {"row", "the row now"}, {NULL, NULL}};
	return show(c, false, columns);
}

/* ---- repair ---- */

static bool run_sql(const struct cli *c, const struct cli_setting *s, const char *sql,
		    bool (*row)(void *ctx, const struct replica_field *fields, int count), void *ctx, int *exit_code)
{
	struct ferry_why why = {0};
	enum ferry_error e = replica_query(s->paths.replica, sql, false, row, ctx, &why);
	if (e != FERRY_OK)
		*exit_code = cli_fail(c, e, why.text, e == FERRY_BUSY ? "Another program writes; try again" : NULL);
	return e == FERRY_OK;
}

static bool take_text(void *ctx, const struct replica_field *fields, int count)
{
	snprintf(ctx, 400, "%s", count > 0 && fields[0].text ? fields[0].text : "");
	return true;
}

static void append_quoted(char *out, size_t max, const char *text)
{
	size_t n = strlen(out);
	for (; *text && n + 3 < max; text++) {
		if (*text == '\'')
			out[n++] = '\'';
		out[n++] = *text;
	}
	out[n] = '\0';
}

/* A column that exactly one row of the change-set holds, as a path into its values, quoted for SQL. */
static bool column_path(struct cli *c, const struct cli_setting *s, const char *number, const char *option, const char *column,
			size_t n, char out[PATH_BYTES_MAX], int *exit_code)
{
	char path[PATH_BYTES_MAX / 2] = "$.\"", sql[SQL_BYTES_MAX], count[400] = "", sentence[100];
	snprintf(path + 3, sizeof(path) - 3, "%.*s\"", (int)n, column);
	out[0] = '\0';
	append_quoted(out, PATH_BYTES_MAX, path);
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM ferry_rejected WHERE number = %s AND json_type(\"values\", '%s') IS NOT NULL",
		 number, out);
	if (!run_sql(c, s, sql, take_text, count, exit_code))
		return false;
	if (strcmp(count, "1") == 0)
		return true;
	snprintf(sentence, sizeof(sentence), "%s names a column that not exactly one row of it holds", option);
	*exit_code = cli_fail(c, FERRY_USAGE, sentence, "Edit it in SQL: UPDATE ferry_rejected SET \"values\" = json_set(...)");
	return false;
}

static bool is_column(const char *text, size_t n)
{
	return n > 0 && n <= COLUMN_BYTES_MAX && !memchr(text, '"', n);
}

/* Done at once, or gathered for a dry run (dry not NULL). */
static bool edit(struct cli *c, const struct cli_setting *s, const char *sql, struct buffer *dry, int *exit_code)
{
	if (!dry)
		return run_sql(c, s, sql, NULL, NULL, exit_code);
	if (buffer_append(dry, sql, strlen(sql)) && buffer_append(dry, ";", 1))
		return true;
	*exit_code = cli_fail(c, FERRY_LIMIT, "these are too many values", "Edit them in SQL: UPDATE ferry_rejected");
	return false;
}

/* --set column=value. */
static bool set_value(struct cli *c, const struct cli_setting *s, const char *number, const char *given, struct buffer *dry, int *exit_code)
{
	char sql[SQL_BYTES_MAX], path[PATH_BYTES_MAX], value[4100] = "";
	const char *equals = strchr(given, '=');
	if (!equals || !is_column(given, (size_t)(equals - given)) || strlen(equals + 1) > 2000) {
		*exit_code = cli_fail(c, FERRY_USAGE, "--set takes column=value, of at most 2000 bytes",
				      "Longer values: UPDATE ferry_rejected in SQL");
		return false;
	}
	if (!column_path(c, s, number, "--set", given, (size_t)(equals - given), path, exit_code))
		return false;
	append_quoted(value, sizeof(value), equals + 1);
	snprintf(sql, sizeof(sql), "UPDATE ferry_rejected SET \"values\" = json_set(\"values\", '%s', '%s') WHERE number = %s "
		 "AND json_type(\"values\", '%s') IS NOT NULL", path, value, number, path);
	return edit(c, s, sql, dry, exit_code);
}

/* --without column: as if it had not been written, so that the hub or a range of numbers gives it. */
static bool leave_value_out(struct cli *c, const struct cli_setting *s, const char *number, const char *column, struct buffer *dry,
			    int *exit_code)
{
	char sql[SQL_BYTES_MAX], path[PATH_BYTES_MAX];
	if (!is_column(column, strlen(column))) {
		*exit_code = cli_fail(c, FERRY_USAGE, "--without takes the name of a column", NULL);
		return false;
	}
	if (!column_path(c, s, number, "--without", column, strlen(column), path, exit_code))
		return false;
	snprintf(sql, sizeof(sql), "UPDATE ferry_rejected SET \"values\" = json_remove(\"values\", '%s') WHERE number = %s "
		 "AND json_type(\"values\", '%s') IS NOT NULL", path, number, path);
	return edit(c, s, sql, dry, exit_code);
}

static bool exists(struct cli *c, const struct cli_setting *s, bool conflict, const char *number, int *exit_code)
{
	char sql[160];
	struct json *rows;
	snprintf(sql, sizeof(sql), "SELECT 1 AS one FROM %s WHERE %s = %s LIMIT 1", conflict ? "ferry_conflict" : "ferry_rejected",
		 conflict ? "id" : "number", number);
	if (!cli_query(c, s, sql, &rows, exit_code))
		return false;
	bool found = json_count(rows) == 1;
	json_release(rows);
	if (!found)
		*exit_code = fail_missing(c, conflict);
	return found;
}

/* Asks for it, does it (an agent that runs may be quicker: the same), and tells. */
static int carry_out(struct cli *c, const struct cli_setting *s, bool conflict, const char *action, const char *number)
{
	char sql[SQL_BYTES_MAX], id[400] = "", error[400] = "";
	struct ferry_why why = {0};
	int done = 0, exit_code = CLI_OK;
	snprintf(sql, sizeof(sql), "INSERT INTO ferry_repair(action, %s) VALUES ('%s', %s) RETURNING id",
		 conflict ? "conflict" : "rejected", action, number);
	if (!run_sql(c, s, sql, take_text, id, &exit_code))
		return exit_code;
	enum ferry_error e = replica_repair(s->paths.replica, REPAIR_BUSY_MS, &done, &why);
	if (e != FERRY_OK)
		return cli_fail(c, e, why.text, "It stays asked for: ferry-agent run does it as soon as it can");
	snprintf(sql, sizeof(sql), "SELECT error FROM ferry_repair WHERE id = %s", id);
	if (!run_sql(c, s, sql, take_text, error, &exit_code))
		return exit_code;
	if (*error)
		return cli_fail(c, FERRY_CONSTRAINT, error, "Nothing was changed; what was kept is kept still");
	struct json *o = json_new_object();
	json_put_text(o, "action", action);
	json_put_int(o, conflict ? "conflict" : "rejected", strtoll(number, NULL, 10));
	json_put_int(o, "repair", strtoll(id, NULL, 10));
	json_put_bool(o, "done", true);
	return cli_print_done(c, o, "Done (%s). What was kept of it stands in ferry_repair %s", action, id);
}

/* ---- a dry run ---- */

struct writes {
	struct json *list;
	int64_t left_out;
};

static void add_write(void *ctx, const struct would_write *w)
{
	struct writes *all = ctx;
	struct json *o;
	if (json_count(all->list) == WRITES_MAX) {
		all->left_out++;
		return;
	}
	o = json_new_object();
	json_put_text(o, "table", w->table);
	json_put_text(o, "key", w->key);
	json_put_text(o, "op", w->op);
	json_put_text(o, "column", w->column);
	json_put_text(o, "before", w->before);
	json_put_text(o, "after", w->after);
	json_add(all->list, o);
}

static int tell(struct cli *c, const char *action, const char *number, struct writes *w)
{
	struct json *o = json_new_object();
	json_put_text(o, "action", action);
	json_put_int(o, "number", strtoll(number, NULL, 10));
	json_put_bool(o, "done", false);
	if (!cli_json(c)) {
		(void)cli_print_done(c, o, "%s would be done with %s", action, number);
		cli_print_writes(w->list, w->left_out);
		json_release(w->list);
		return CLI_OK;
	}
	json_put(o, "writes", w->list);
	json_put_int(o, "left_out", w->left_out);
	return cli_print_done(c, o, "%s", "");
}

static int try_out(struct cli *c, const struct cli_setting *s, bool conflict, const char *action, const char *number, const char *edits)
{
	struct writes w = {.list = json_new_array()};
	struct would_ask ask = {.action = action, .of_conflict = conflict, .number = strtoll(number, NULL, 10), .edits = edits};
	struct ferry_why why = {0};
	enum ferry_error e = replica_would(s->paths.replica, REPAIR_BUSY_MS, &ask, add_write, &w, &why);
	if (e == FERRY_OK)
		return tell(c, action, number, &w);
	json_release(w.list);
	return cli_fail(c, e, why.text, e == FERRY_BUSY ? "Another program writes; try again" : "Nothing was changed. The repair itself fails so, too");
}

/* dry: NULL, or where the edits go instead. */
static bool edit_values(struct cli *c, const struct cli_setting *s, const char *number, struct buffer *dry, int *exit_code)
{
	bool good = true;
	for (int i = 0; good && cli_value_at(c, "set", i); i++)
		good = set_value(c, s, number, cli_value_at(c, "set", i), dry, exit_code);
	for (int i = 0; good && cli_value_at(c, "without", i); i++)
		good = leave_value_out(c, s, number, cli_value_at(c, "without", i), dry, exit_code);
	return good;
}

static int try_repair(struct cli *c, const struct cli_setting *s, bool conflict, const char *action, const char *number, bool edits)
{
	struct buffer sql;
	int exit_code = CLI_OK;
	buffer_init(&sql, EDITS_BYTES_MAX);
	if (!edits || edit_values(c, s, number, &sql, &exit_code)) {
		bool ended = buffer_append(&sql, "", 1);
		exit_code = ended ? try_out(c, s, conflict, action, number, (const char *)sql.p) : cli_fail(c, FERRY_LIMIT, "these are too many values", NULL);
	}
	buffer_deinit(&sql);
	return exit_code;
}

static int repair(struct cli *c, bool conflict, const char *action, bool edits)
{
	struct cli_setting s;
	char number[24];
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && number_of(c, number, &exit_code) && exists(c, &s, conflict, number, &exit_code)) {
		if (cli_flag(c, "dry-run"))
			exit_code = try_repair(c, &s, conflict, action, number, edits);
		else if (!edits || edit_values(c, &s, number, NULL, &exit_code))
			exit_code = carry_out(c, &s, conflict, action, number);
	}
	cli_setting_deinit(&s);
	return exit_code;
}

int cli_conflicts_put_back(struct cli *c)
{
	return repair(c, true, "put back", false);
}

int cli_conflicts_take_theirs(struct cli *c)
{
	return repair(c, true, "take theirs", false);
}

int cli_conflicts_dismiss(struct cli *c)
{
	return repair(c, true, "dismiss", false);
}

int cli_rejected_retry(struct cli *c)
{
	return repair(c, false, "retry", true);
}

int cli_rejected_merge(struct cli *c)
{
	return repair(c, false, "merge", true);
}

int cli_rejected_discard(struct cli *c)
{
	return repair(c, false, "discard", false);
}
