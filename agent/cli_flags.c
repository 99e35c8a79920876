/* ferry-agent flags: feature flags as the replica has them, for this device's
 * user; offline as well as connected. */
#include <stdio.h>
#include <string.h>

#include "agent/cli.h"
#include "protocol/value.h"
#include "shared/files.h"
#include "shared/flags_command.h"

/* The form that shared/flags.h describes. */
static const char rows_sql[] =
	"SELECT json_object('id', id, 'tenant_id', tenant_id, 'key', key, 'status', status, "
	"'deleted', json(iif(deleted_at IS NULL, 'false', 'true')), 'enabled', json(iif(enabled, 'true', 'false')), "
	"'rollout_percentage', rollout_percentage, 'scope', scope, 'target_user_ids', json(target_user_ids), "
	"'target_roles', json(target_roles), 'conditions', json(conditions), 'start_date', start_date, "
	"'end_date', end_date, 'environment', environment, 'priority', priority) AS \"row\" FROM feature_flags";

static bool has_tables(struct cli *c, const struct cli_setting *s, const char *names, int64_t count, int *exit_code)
{
	char sql[160];
	struct json *rows;

	snprintf(sql, sizeof(sql), "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name IN (%s)", names);
	if (!cli_query(c, s, sql, &rows, exit_code))
		return false;
	bool all = json_int(json_get(json_at(rows, 0), "n"), 0) == count;
	json_release(rows);
	return all;
}

static struct json *read_enrolment(const struct cli_setting *s)
{
	char path[FILES_PATH_MAX];
	struct json *file = NULL;

	if (files_join(path, s->paths.identity, "enrolment.json", NULL) != FERRY_OK ||
	    json_read_file(path, &file, NULL) != FERRY_OK)
		return NULL;
	return file;
}

/* The user of the scope user:<uuid> that this device holds, or the one given. */
static bool find_user(struct cli *c, const struct cli_setting *s, char out[UUID_TEXT], int *exit_code)
{
	struct json *rows = NULL;
	const char *given = cli_value(c, "user");
	struct uuid id;

	out[0] = '\0';
	if (!given) {
		if (!cli_query(c, s, "SELECT substr(name, 6) AS id FROM ferry_scope WHERE held <> 0 AND name LIKE 'user:%' LIMIT 1",
			       &rows, exit_code))
			return false;
		given = json_text(json_get(json_at(rows, 0), "id"));
	}
	bool ok = !given || uuid_parse(given, strlen(given), &id);
	if (ok && given)
		uuid_format(&id, out);
	json_release(rows);
	if (!ok)
		*exit_code = cli_fail(c, FERRY_USAGE, "a user is named by the uuid", "See: ferry-agent flags --help");
	return ok;
}

/* The codes of the user's roles, where this device has them. */
static bool find_roles(struct cli *c, const struct cli_setting *s, const char *user, struct flag_question *q, int *exit_code)
{
	char sql[512];
	struct json *rows, *codes;

	if (!*user || !has_tables(c, s, "'roles', 'role_assignments'", 2, exit_code))
		return *exit_code == CLI_OK;
	snprintf(sql, sizeof(sql),
		 "SELECT r.code FROM roles r JOIN role_assignments a ON a.role_id = r.id WHERE a.user_id = '%s' "
		 "AND (a.starts_at IS NULL OR julianday(a.starts_at) <= julianday('now')) "
		 "AND (a.expires_at IS NULL OR julianday(a.expires_at) > julianday('now'))",
		 user);
	if (!cli_query(c, s, sql, &rows, exit_code))
		return false;
	codes = json_new_array();
	for (size_t i = 0; i < json_count(rows); i++)
		json_add_text(codes, json_text(json_get(json_at(rows, i), "code")));
	json_release(rows);
	flag_question_roles(q, codes);
	return true;
}

/* user: UUID_TEXT bytes, which q borrows. */
static int answer(struct cli *c, const struct cli_setting *s, struct flag_question *q, char *user, int exit_code)
{
	struct json *enrolment = read_enrolment(s), *texts = NULL, *rows;
	const char *tenant = json_text(json_get(enrolment, "tenant"));

	q->subject.tenant = tenant ? tenant : "";
	if (find_user(c, s, user, &exit_code) && find_roles(c, s, user, q, &exit_code)) {
		q->subject.user = *user ? user : NULL;
		if (!has_tables(c, s, "'feature_flags'", 1, &exit_code)) {
			exit_code = exit_code != CLI_OK ? exit_code
							: cli_fail(c, FERRY_NOT_FOUND, "this device gets no feature flags",
								   "Its hub has to track governance.feature_flags");
		} else if (cli_query(c, s, rows_sql, &texts, &exit_code)) {
			rows = flag_rows_of_texts(texts);
			exit_code = flag_print(c, rows, cli_argument(c, 0), q);
			json_release(rows);
			json_release(texts);
		}
	}
	json_release(enrolment);
	return exit_code;
}

int cli_flags(struct cli *c)
{
	char user[UUID_TEXT] = "";
	struct cli_setting s;
	struct flag_question q;
	int exit_code = CLI_OK;

	if (cli_setting_init(c, &s, &exit_code)) {
		if (flag_question_init(c, &q, &exit_code))
			exit_code = answer(c, &s, &q, user, exit_code);
		flag_question_deinit(&q);
	}
	cli_setting_deinit(&s);
	return exit_code;
}
