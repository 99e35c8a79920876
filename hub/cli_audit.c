/* ferry-hub audit verify: recomputes the chains of hashes of the audit log. */
#include <stdio.h>
#include <string.h>

#include "hub/cli_place.h"

/* Tenants that have a chain: also deleted ones, whose log stays, and the reserved one. */
static const char tenants_sql[] =
	"SELECT t.id::text AS id FROM identity.tenants t UNION SELECT c.tenant_id::text FROM governance.audit_chain c ORDER BY 1";

static bool verify_at(const struct cli *c, struct pg_admin *db, const char *prefix, const char *tenant, const char *slug,
		      struct json *out, int *out_exit)
{
	char sql[512];
	struct ferry_why why = {0};
	struct pg_rows *rows;
	const char *params[] = {tenant, slug};

	snprintf(sql, sizeof(sql),
		 "SELECT $2 AS tenant, $1 AS tenant_id, v.ok AS \"ok::bool\", v.entries AS \"entries::int\", "
		 "v.seq AS \"seq::int\", v.entry_id, v.problem, v.last_hash FROM %sgovernance.verify_audit($1::uuid) v",
		 prefix);
	enum ferry_error e = pg_admin_query(db, sql, params, 2, &rows, &why);
	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, db, e, &why);
		return false;
	}
	struct json *list = cli_rows(rows);
	pg_rows_free(rows);
	json_put(out, tenant, list);
	return true;
}

/* A tenant by its slug or uuid, wherever it lives; one that is gone left its log at home. */
static bool verify_one(const struct cli *c, const struct cli_setting *s, struct pg_admin *home, const char *given,
		       struct json *out, int *out_exit)
{
	static const char sql[] = "SELECT tenant_id FROM ferry.placement WHERE slug = $1 OR tenant_id::text = lower($1)";
	struct ferry_why why = {0};
	struct pg_rows *rows;
	struct cli_place place;
	struct uuid id;
	const char *params[] = {given};
	enum ferry_error e = pg_admin_query(home, sql, params, 1, &rows, &why);

	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, home, e, &why);
		return false;
	}
	bool gone = pg_rows_count(rows) == 0 && uuid_parse(given, strlen(given), &id);
	pg_rows_free(rows);
	if (gone)
		return verify_at(c, home, "", given, "", out, out_exit);
	if (!cli_place_open(c, s, home, given, &place, out_exit))
		return false;
	bool ok = verify_at(c, place.db, place.prefix, place.tenant, place.slug, out, out_exit);
	cli_place_close(&place, home);
	return ok;
}

static bool verify_all(const struct cli *c, const struct cli_setting *s, struct pg_admin *home, struct json *out,
		       int *out_exit)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	bool ok = true;
	enum ferry_error e = pg_admin_query(home, tenants_sql, NULL, 0, &rows, &why);

	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, home, e, &why);
		return false;
	}
	for (int i = 0; ok && i < pg_rows_count(rows); i++)
		ok = verify_one(c, s, home, pg_rows_text(rows, i, 0), out, out_exit);
	pg_rows_free(rows);
	return ok;
}

struct collected {
	struct json *rows;
	bool broken;
};

static void collect(void *ctx, const char *tenant, const struct json *list)
{
	static const char *const texts[] = {"tenant", "tenant_id", "entry_id", "problem", "last_hash"};
	struct collected *to = ctx;
	const struct json *from = json_at(list, 0);
	struct json *row = json_new_object();
	bool ok = json_bool(json_get(from, "ok"), false);

	(void)tenant;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		json_put_text(row, texts[i], json_text(json_get(from, texts[i])));
	json_put_bool(row, "ok", ok);
	json_put_int(row, "entries", json_int(json_get(from, "entries"), 0));
	if (!json_is_null(json_get(from, "seq")))
		json_put_int(row, "seq", json_int(json_get(from, "seq"), 0));
	json_add(to->rows, row);
	to->broken = to->broken || !ok;
}

static int print(struct cli *c, const struct json *found)
{
	static const struct cli_column columns[] = {{"tenant", NULL}, {"ok", NULL},	  {"entries", "checked"},
						    {"seq", "place"}, {"entry_id", "entry"}, {"problem", NULL},
						    {"last_hash", "last hash"}, {NULL, NULL}};
	struct collected all = {.rows = json_new_array()};

	json_each(found, collect, &all);
	int exit_code = cli_print_rows(c, all.rows, columns, "There are no audit entries.");
	return exit_code == CLI_OK && all.broken ? CLI_PROBLEM : exit_code;
}

int cli_audit_verify(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *home = NULL;
	struct json *found = json_new_object();
	const char *tenant = cli_value(c, "tenant");
	int exit_code = CLI_OK;

	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &home, &exit_code) &&
	    (tenant ? verify_one(c, &s, home, tenant, found, &exit_code)
		    : verify_all(c, &s, home, found, &exit_code)))
		exit_code = print(c, found);
	json_release(found);
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}
