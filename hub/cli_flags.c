/* ferry-hub flags: feature flags as a tenant's user gets them. */
#include <stdio.h>
#include <string.h>

#include "hub/cli_place.h"
#include "shared/flags_command.h"

#define FLAG_SQL_MAX 1024

/* The form that shared/flags.h describes; the tenant's flags and those of all. %s: before
 * the model's schemas. */
static const char rows_sql[] =
	"SELECT jsonb_build_object('id', f.id, 'tenant_id', f.tenant_id, 'key', f.key, 'status', f.status, "
	"'deleted', f.deleted_at IS NOT NULL, 'enabled', f.enabled, 'rollout_percentage', f.rollout_percentage, "
	"'scope', f.scope, 'target_user_ids', to_jsonb(f.target_user_ids), 'target_roles', to_jsonb(f.target_roles), "
	"'conditions', f.conditions, 'start_date', f.start_date, 'end_date', f.end_date, "
	"'environment', f.environment, 'priority', f.priority)::text AS \"row\" FROM %sgovernance.feature_flags f "
	"WHERE f.tenant_id IN ($1::uuid, '00000000-0000-0000-0000-000000000000')";
static const char user_sql[] = "SELECT u.id FROM %sidentity.users u "
			       "WHERE u.tenant_id = $1::uuid AND (u.email = $2 OR u.id::text = lower($2))";
static const char roles_sql[] =
	"SELECT DISTINCT r.code FROM %1$sidentity.role_assignments a "
	"JOIN %1$sidentity.roles r ON r.tenant_id = a.tenant_id AND r.id = a.role_id "
	"WHERE a.tenant_id = $1::uuid AND a.user_id = $2::uuid AND coalesce(a.starts_at <= now(), true) "
	"AND coalesce(a.expires_at > now(), true) ORDER BY 1";

static bool ask(const struct cli *c, const struct cli_place *p, const char *sql, const char *second, struct json **out,
		int *out_exit)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	const char *params[] = {p->tenant, second};
	enum ferry_error e = pg_admin_query(p->db, sql, params, second ? 2 : 1, &rows, &why);

	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, p->db, e, &why);
		return false;
	}
	*out = cli_rows(rows);
	pg_rows_free(rows);
	return true;
}

static bool find_user(const struct cli *c, const struct cli_place *p, char out[UUID_TEXT], int *out_exit)
{
	char sql[FLAG_SQL_MAX], what[128];
	struct json *rows;

	snprintf(sql, sizeof(sql), user_sql, p->prefix);
	if (!ask(c, p, sql, cli_value(c, "user"), &rows, out_exit))
		return false;
	bool found = json_count(rows) == 1;
	snprintf(out, UUID_TEXT, "%s", found ? json_text(json_get(json_at(rows, 0), "id")) : "");
	json_release(rows);
	if (!found) {
		snprintf(what, sizeof(what), "there is no user %.80s in this tenant", cli_value(c, "user"));
		*out_exit = cli_fail(c, FERRY_NOT_FOUND, what, "Name a user by the e-mail address or the uuid");
	}
	return found;
}

static bool find_roles(const struct cli *c, const struct cli_place *p, const char *user, struct flag_question *q,
		       int *out_exit)
{
	char sql[FLAG_SQL_MAX];
	struct json *rows, *codes;

	snprintf(sql, sizeof(sql), roles_sql, p->prefix);
	if (!ask(c, p, sql, user, &rows, out_exit))
		return false;
	codes = json_new_array();
	for (size_t i = 0; i < json_count(rows); i++)
		json_add_text(codes, json_text(json_get(json_at(rows, i), "code")));
	json_release(rows);
	flag_question_roles(q, codes);
	return true;
}

/* user: UUID_TEXT bytes, which q borrows. */
static int answer(struct cli *c, const struct cli_place *p, struct flag_question *q, char *user)
{
	char sql[FLAG_SQL_MAX];
	struct json *texts, *rows;
	struct ferry_why why = {0};
	const char *params[] = {p->tenant};
	int exit_code = CLI_OK;
	enum ferry_error e = pg_admin_query(p->db, "SELECT set_config('app.tenant_id', $1, false)", params, 1, NULL, &why);

	if (e != FERRY_OK)
		return cli_fail_database(c, p->db, e, &why);
	if (cli_value(c, "user") &&
	    (!find_user(c, p, user, &exit_code) || !find_roles(c, p, user, q, &exit_code)))
		return exit_code;
	q->subject.tenant = p->tenant;
	q->subject.user = *user ? user : NULL;
	snprintf(sql, sizeof(sql), rows_sql, p->prefix);
	if (!ask(c, p, sql, NULL, &texts, &exit_code))
		return exit_code;
	rows = flag_rows_of_texts(texts);
	exit_code = flag_print(c, rows, cli_argument(c, 0), q);
	json_release(rows);
	json_release(texts);
	return exit_code;
}

int cli_flags(struct cli *c)
{
	char user[UUID_TEXT] = "";
	struct cli_setting s;
	struct cli_place place = {.db = NULL};
	struct flag_question q;
	struct pg_admin *home = NULL;
	int exit_code = CLI_OK;

	if (!cli_value(c, "tenant"))
		return cli_fail(c, FERRY_USAGE, "no tenant is named", "Name one with --tenant");
	if (cli_setting_init(c, &s, &exit_code)) {
		if (flag_question_init(c, &q, &exit_code) && cli_database(c, &s, &home, &exit_code) &&
		    cli_place_open(c, &s, home, cli_value(c, "tenant"), &place, &exit_code)) {
			exit_code = answer(c, &place, &q, user);
			cli_place_close(&place, home);
		}
		flag_question_deinit(&q);
	}
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}
