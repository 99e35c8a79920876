/* Tenants: where they live, what they may do and use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli.h"
#include "hub/cli_place.h"

/* ---- status ---- */

struct change {
	const char *status, *done; /* as the database says it, as a person does */
	const char *effect;
	bool confirm;
};

static const struct change suspend = {"SUSPENDED", "suspended",
				      "its devices stop syncing at once and keep their changes", false};
static const struct change resume = {"ACTIVE", "active", "its devices sync", false};
static const struct change archive = {"ARCHIVED", "archived",
				      "its devices may read, and keep their changes", false};
static const struct change delete = {"DELETED", "deleted",
				     "its devices remove its data; what they had not sent is kept beside the replica", true};

/* How many devices hear of it. */
static enum ferry_error count_devices(struct pg_admin *home, const char *tenant, int64_t *out, struct ferry_why *why)
{
	const char *params[] = {tenant};
	struct pg_rows *rows;
	enum ferry_error e = pg_admin_query(
		home, "SELECT count(*) FROM ferry.device WHERE tenant_id = $1::uuid AND status = 'active'", params, 1, &rows, why);
	if (e != FERRY_OK)
		return e;
	*out = strtoll(pg_rows_text(rows, 0, 0), NULL, 10);
	pg_rows_free(rows);
	return FERRY_OK;
}

/* The model's row first: it knows what may follow what. The home database is
 * told by it, or, when it lives elsewhere, here. */
static enum ferry_error set_status(struct pg_admin *home, const struct cli_place *p, const char *status,
				   struct pg_admin **out_failed, struct ferry_why *why)
{
	const char *params[] = {p->tenant, status};
	char sql[200];
	snprintf(sql, sizeof(sql), "SELECT %sidentity.set_tenant_status($1::uuid, $2)", p->prefix);
	*out_failed = p->db;
	enum ferry_error e = pg_admin_query(p->db, sql, params, 2, NULL, why);
	if (e != FERRY_OK || p->db == home)
		return e;
	*out_failed = home;
	return pg_admin_query(home,
			      "UPDATE ferry.placement SET status = $2, status_at = now() WHERE tenant_id = $1::uuid", params,
			      2, NULL, why);
}

static int tell(struct cli *c, const struct cli_setting *s, const struct cli_place *p, const struct change *what,
		int64_t devices, bool dry)
{
	struct ferry_why ignored;
	struct json *told = dry ? NULL : cli_ask_hub(s, "/v1/tenants", json_new_object(), &ignored);
	struct json *o = json_new_object();
	json_put_text(o, "tenant", p->tenant);
	json_put_text(o, "slug", p->slug);
	json_put_text(o, "before", p->status);
	json_put_text(o, "status", what->status);
	json_put_int(o, "devices", devices);
	json_put_bool(o, "done", !dry);
	json_put_bool(o, "hub_told", told != NULL);
	json_release(told);
	if (dry)
		return cli_print_done(c, o, "Tenant %s would be %s (now %s): %s; %lld devices are enrolled", p->slug, what->done,
				      p->status, what->effect, (long long)devices);
	return cli_print_done(c, o, "Tenant %s is %s: %s", p->slug, what->done, what->effect);
}

static int change_status(struct cli *c, const struct cli_setting *s, struct pg_admin *home, const struct change *what)
{
	struct ferry_why why = {0};
	struct cli_place p;
	struct pg_admin *failed = home;
	int64_t devices = 0;
	int exit_code = CLI_OK;
	bool dry = cli_flag(c, "dry-run");
	if (!cli_place_open(c, s, home, cli_argument(c, 0), &p, &exit_code))
		return exit_code;
	const char *confirmed = what->confirm && !dry ? cli_value(c, "confirm") : p.slug;
	enum ferry_error e = count_devices(home, p.tenant, &devices, &why);
	if (!confirmed || strcmp(confirmed, p.slug) != 0) {
		snprintf(why.text, sizeof(why.text), "%lld devices would remove the data of tenant %s for good",
			 (long long)devices, p.slug);
		exit_code = cli_fail(c, FERRY_USAGE, why.text, "Look at --dry-run, then repeat it with --confirm and the slug");
	} else {
		if (e == FERRY_OK && !dry)
			e = set_status(home, &p, what->status, &failed, &why);
		exit_code = e == FERRY_OK ? tell(c, s, &p, what, devices, dry)
			    : strcmp(pg_admin_sqlstate(failed), "55000") == 0
				    ? cli_fail(c, FERRY_TENANT_DELETED, why.text, "Make a new tenant and enrol devices anew")
				    : cli_fail_database(c, failed, e, &why);
	}
	cli_place_close(&p, home);
	return exit_code;
}

static int run_status(struct cli *c, const struct change *what)
{
	struct cli_setting s;
	struct pg_admin *home = NULL;
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &home, &exit_code))
		exit_code = change_status(c, &s, home, what);
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}

int cli_tenant_suspend(struct cli *c)
{
	return run_status(c, &suspend);
}

int cli_tenant_resume(struct cli *c)
{
	return run_status(c, &resume);
}

int cli_tenant_archive(struct cli *c)
{
	return run_status(c, &archive);
}

int cli_tenant_delete(struct cli *c)
{
	return run_status(c, &delete);
}

/* ---- limits ---- */

#define LIMIT_COUNT 3

static const struct {
	const char *option, *column, *noted;
} limits[LIMIT_COUNT] = {
	{"max-users", "max_users", "max_users = $2::bigint"},
	{"max-storage", "max_storage", "max_storage_bytes = $2::bigint * 1048576"},
	{"max-calls", "max_api_calls", "max_api_calls = $2::bigint"},
};

static bool limit_is_valid(const char *text)
{
	size_t n = strspn(text, "0123456789");
	return strcmp(text, "none") == 0 || (n > 0 && n < 10 && text[n] == '\0');
}

static enum ferry_error set_limit(struct pg_admin *home, const struct cli_place *p, int which, const char *value,
				  struct ferry_why *why)
{
	const char *params[] = {p->tenant, strcmp(value, "none") == 0 ? NULL : value};
	char sql[200];
	snprintf(sql, sizeof(sql), "UPDATE %sidentity.tenants SET %s = $2::int WHERE id = $1::uuid", p->prefix,
		 limits[which].column);
	enum ferry_error e = pg_admin_query(p->db, sql, params, 2, NULL, why);
	if (e != FERRY_OK || p->db == home)
		return e;
	snprintf(sql, sizeof(sql), "UPDATE ferry.placement SET %s WHERE tenant_id = $1::uuid", limits[which].noted);
	return pg_admin_query(home, sql, params, 2, NULL, why);
}

static const char usage_sql[] =
	"SELECT p.slug, p.status, p.max_users AS \"max_users::int\", p.max_storage_bytes AS \"max_storage_bytes::int\", "
	"p.storage_bytes AS \"storage_bytes::int\", p.storage_at, p.max_api_calls AS \"max_api_calls::int\", "
	"coalesce(u.api_calls, 0) AS \"api_calls::int\" FROM ferry.placement p LEFT JOIN ferry.usage u "
	"ON u.tenant_id = p.tenant_id AND u.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date "
	"WHERE p.tenant_id = $1::uuid";

static int show_usage(struct cli *c, struct pg_admin *home, const struct cli_place *p)
{
	static const struct cli_column columns[] = {
		{"slug", NULL}, {"status", NULL}, {"max_users", "max users"}, {"max_storage_bytes", "max storage, bytes"},
		{"storage_bytes", "storage, bytes"}, {"storage_at", "counted at"}, {"max_api_calls", "max calls a month"},
		{"api_calls", "calls this month"}, {NULL, NULL}};
	const char *params[] = {p->tenant};
	struct ferry_why why = {0};
	struct pg_rows *rows = NULL;
	enum ferry_error e = pg_admin_query(home, usage_sql, params, 1, &rows, &why);
	if (e != FERRY_OK)
		return cli_fail_database(c, home, e, &why);
	int exit_code = cli_print_rows(c, cli_rows(rows), columns, "There is no such tenant.");
	pg_rows_free(rows);
	return exit_code;
}

static int change_limits(struct cli *c, const struct cli_setting *s, struct pg_admin *home)
{
	struct ferry_why why = {0};
	struct cli_place p;
	int exit_code = CLI_OK;
	enum ferry_error e = FERRY_OK;
	if (!cli_place_open(c, s, home, cli_argument(c, 0), &p, &exit_code))
		return exit_code;
	for (int i = 0; i < LIMIT_COUNT && e == FERRY_OK; i++)
		if (cli_value(c, limits[i].option))
			e = set_limit(home, &p, i, cli_value(c, limits[i].option), &why);
	exit_code = e == FERRY_OK ? show_usage(c, home, &p) : cli_fail_database(c, p.db, e, &why);
	cli_place_close(&p, home);
	return exit_code;
}

int cli_tenant_limit(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *home = NULL;
	int exit_code = CLI_OK;
	for (int i = 0; i < LIMIT_COUNT; i++)
		if (cli_value(c, limits[i].option) && !limit_is_valid(cli_value(c, limits[i].option)))
			return cli_fail(c, FERRY_USAGE, "a limit is a number below a thousand million, or none",
					"See: ferry-hub tenant limit --help");
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &home, &exit_code))
		exit_code = change_limits(c, &s, home);
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}
