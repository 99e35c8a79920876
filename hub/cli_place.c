#include "hub/cli_place.h"

#include <stdio.h>
#include <string.h>

#include "hub/pg_conninfo.h"

static const char place_sql[] =
	"SELECT tenant_id, slug, status, isolation, coalesce(schema_prefix, ''), coalesce(conninfo, '') "
	"FROM ferry.placement WHERE slug = $1 OR tenant_id::text = lower($1)";
enum { P_ID, P_SLUG, P_STATUS, P_ISOLATION, P_PREFIX, P_CONNINFO };

enum ferry_error cli_place_conninfo(const struct cli_setting *s, const char *conninfo, char *out, size_t max,
				    struct ferry_why *why)
{
	const char *home = *s->settings.admin_database ? s->settings.admin_database : s->settings.database;
	return pg_conninfo_merge(home, conninfo, out, max, why);
}

static enum ferry_error connect_to(const struct cli_setting *s, const char *conninfo, struct pg_admin **out,
				   struct ferry_why *why)
{
	char merged[CLI_CONNINFO_MAX];
	enum ferry_error e = cli_place_conninfo(s, conninfo, merged, sizeof(merged), why);
	return e == FERRY_OK ? pg_admin_open(merged, out, why) : e;
}

static enum ferry_error take(const struct cli_setting *s, struct pg_admin *home, const struct pg_rows *rows,
			     struct cli_place *out, struct ferry_why *why)
{
	snprintf(out->tenant, sizeof(out->tenant), "%s", pg_rows_text(rows, 0, P_ID));
	snprintf(out->slug, sizeof(out->slug), "%s", pg_rows_text(rows, 0, P_SLUG));
	snprintf(out->status, sizeof(out->status), "%s", pg_rows_text(rows, 0, P_STATUS));
	snprintf(out->isolation, sizeof(out->isolation), "%s", pg_rows_text(rows, 0, P_ISOLATION));
	snprintf(out->prefix, sizeof(out->prefix), "%s", pg_rows_text(rows, 0, P_PREFIX));
	out->db = home;
	if (!*pg_rows_text(rows, 0, P_CONNINFO))
		return FERRY_OK;
	return connect_to(s, pg_rows_text(rows, 0, P_CONNINFO), &out->db, why);
}

bool cli_place_open(const struct cli *c, const struct cli_setting *s, struct pg_admin *home, const char *given,
		    struct cli_place *out, int *out_exit)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	const char *params[] = {given};
	enum ferry_error e = pg_admin_query(home, place_sql, params, 1, &rows, &why);
	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, home, e, &why);
		return false;
	}
	if (pg_rows_count(rows) == 1)
		e = take(s, home, rows, out, &why);
	else
		e = ferry_fail(&why, FERRY_NOT_FOUND, "there is no tenant %.80s", given);
	pg_rows_free(rows);
	if (e == FERRY_NOT_FOUND)
		*out_exit = cli_fail(c, e, why.text, "See: ferry-hub tenant list");
	else if (e != FERRY_OK)
		*out_exit = cli_fail(c, e, why.text, "The tenant lives in a database of its own: check that it runs");
	return e == FERRY_OK;
}

void cli_place_close(struct cli_place *p, const struct pg_admin *home)
{
	if (p->db != home)
		pg_admin_close(p->db);
	p->db = NULL;
}

static const char places_sql[] =
	"SELECT coalesce(conninfo, ''), coalesce(schema_prefix, ''), CASE WHEN schema_prefix IS NOT NULL THEN min(tenant_id::text) END "
	"FROM ferry.placement WHERE conninfo IS NOT NULL OR schema_prefix IS NOT NULL GROUP BY conninfo, schema_prefix ORDER BY 1, 2";

static bool visit(const struct cli *c, const struct cli_setting *s, struct pg_admin *home, const struct pg_rows *rows, int row,
		  cli_place_fn *each, void *ctx, int *out_exit)
{
	const char *conninfo = pg_rows_text(rows, row, 0), *prefix = pg_rows_text(rows, row, 1), *tenant = pg_rows_text(rows, row, 2);
	struct ferry_why why = {0};
	struct pg_admin *db = home;
	if (*conninfo) {
		enum ferry_error e = connect_to(s, conninfo, &db, &why);
		if (e != FERRY_OK) {
			*out_exit = cli_fail(c, e, why.text, "A tenant lives there: check that this database runs");
			return false;
		}
	}
	bool good = each(ctx, db, conninfo, prefix, tenant, out_exit);
	if (db != home)
		pg_admin_close(db);
	return good;
}

bool cli_each_place(const struct cli *c, const struct cli_setting *s, struct pg_admin *home, cli_place_fn *each, void *ctx,
		    int *out_exit)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	if (!each(ctx, home, "", "", NULL, out_exit))
		return false;
	enum ferry_error e = pg_admin_query(home, places_sql, NULL, 0, &rows, &why);
	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, home, e, &why);
		return false;
	}
	bool good = true;
	for (int i = 0; good && i < pg_rows_count(rows); i++)
		good = visit(c, s, home, rows, i, each, ctx, out_exit);
	pg_rows_free(rows);
	return good;
}
