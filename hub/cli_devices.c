/* device list: what the home database knows of each device, and what the
 * database of its tenant does: where it stands, and whether a copy of it was
 * turned away. A database that does not answer costs the others nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli.h"
#include "hub/cli_place.h"
#include "protocol/arena.h"

#define STANDINGS_BYTES_MAX ((size_t)256 << 20)

static const char databases_sql[] = "SELECT DISTINCT p.conninfo FROM ferry.placement p WHERE p.conninfo IS NOT NULL "
				    "AND p.tenant_id = coalesce($1::uuid, p.tenant_id) ORDER BY 1";
static const char standing_sql[] =
	"SELECT coalesce(jsonb_agg(jsonb_build_object('id', d.id, 'bookmark', d.bookmark, 'settled', d.settled, "
	"'last_seen', d.last_seen, 'quarantined_at', d.quarantined_at, 'kept', k.bytes)), '[]') FROM ferry.device d "
	"LEFT JOIN ferry.kept k ON k.tenant_id = d.tenant_id AND k.device_id = d.id";
/* $2: what the other databases answered, an array of arrays. */
static const char list_sql[] =
	"SELECT d.name, t.slug AS tenant, d.status, d.class, greatest(d.last_seen, e.last_seen) AS last_seen, "
	"CASE WHEN t.conninfo IS NULL THEN d.bookmark ELSE e.bookmark END AS \"bookmark::int\", "
	"CASE WHEN t.conninfo IS NULL THEN d.settled ELSE e.settled END AS \"settled::int\", d.not_after, "
	"CASE WHEN t.conninfo IS NULL THEN d.quarantined_at ELSE e.quarantined_at END AS quarantined_at, "
	"coalesce(CASE WHEN t.conninfo IS NULL THEN k.bytes ELSE e.kept END, 0) AS \"kept_bytes::int\", "
	"(SELECT string_agg(s.scope, ' ' ORDER BY s.scope) FROM ferry.device_scope s WHERE s.device_id = d.id) AS scopes, "
	"d.id FROM ferry.device d LEFT JOIN ferry.kept k ON k.tenant_id = d.tenant_id AND k.device_id = d.id LEFT JOIN ferry.placement t ON t.tenant_id = d.tenant_id "
	"LEFT JOIN (SELECT r.* FROM jsonb_array_elements($2::jsonb) a, jsonb_to_recordset(a) "
	"AS r(id uuid, bookmark bigint, settled bigint, last_seen timestamptz, quarantined_at timestamptz, kept bigint)) e ON e.id = d.id "
	"AND t.conninfo IS NOT NULL WHERE d.tenant_id = coalesce($1::uuid, d.tenant_id) ORDER BY t.slug, d.name, d.id";

static void add(struct buffer *all, const char *text)
{
	(void)buffer_append(all, text, strlen(text)); /* without the end the last one fails, too */
}

/* Nothing is added where the database does not answer; the warning says so. */
static void ask_database(const struct cli_setting *s, const char *conninfo, struct buffer *all)
{
	char full[CLI_CONNINFO_MAX];
	struct pg_admin *db = NULL;
	struct pg_rows *rows = NULL;
	struct ferry_why why = {0};
	enum ferry_error e = cli_place_conninfo(s, conninfo, full, sizeof(full), &why);
	if (e == FERRY_OK)
		e = pg_admin_open(full, &db, &why);
	if (e == FERRY_OK)
		e = pg_admin_query(db, standing_sql, NULL, 0, &rows, &why);
	if (e == FERRY_OK) {
		add(all, all->n > 1 ? "," : "");
		add(all, pg_rows_text(rows, 0, 0));
	} else {
		fprintf(stderr, "ferry-hub: a tenant's own database does not say where its devices stand: %s\n", why.text);
	}
	pg_rows_free(rows);
	pg_admin_close(db);
}

static enum ferry_error ask_databases(const struct cli_setting *s, struct pg_admin *home, const char *tenant, struct buffer *all,
				      struct ferry_why *why)
{
	const char *params[] = {tenant};
	struct pg_rows *rows = NULL;
	enum ferry_error e = pg_admin_query(home, databases_sql, params, 1, &rows, why);
	if (e != FERRY_OK)
		return e;
	add(all, "[");
	for (int i = 0; i < pg_rows_count(rows); i++)
		ask_database(s, pg_rows_text(rows, i, 0), all);
	pg_rows_free(rows);
	return buffer_append(all, "]", 2) ? FERRY_OK : FERRY_NO_MEMORY; /* and the end of the text */
}

static int device_list(struct cli *c, const struct cli_setting *s, struct pg_admin *home, const char *tenant)
{
	static const struct cli_column columns[] = {{"name", NULL},	{"tenant", NULL},    {"status", NULL},
						    {"class", NULL},	{"last_seen", "last seen"}, {"bookmark", NULL},
						    {"settled", NULL},	{"quarantined_at", "copy turned away"}, {"kept_bytes", "kept bytes"}, {"scopes", NULL},    {"id", NULL},
						    {NULL, NULL}};
	struct ferry_why why = {0};
	struct pg_rows *rows = NULL;
	struct buffer all;
	int exit_code;
	buffer_init(&all, STANDINGS_BYTES_MAX);
	enum ferry_error e = ask_databases(s, home, tenant, &all, &why);
	const char *params[] = {tenant, (const char *)all.p};
	if (e == FERRY_OK)
		e = pg_admin_query(home, list_sql, params, 2, &rows, &why);
	exit_code = e == FERRY_OK ? cli_print_rows(c, cli_rows(rows), columns,
						   "No device is enrolled: ferry-hub token create makes a token for one.")
				  : cli_fail_database(c, home, e, &why);
	pg_rows_free(rows);
	buffer_deinit(&all);
	return exit_code;
}

int cli_device_list(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *home = NULL;
	char id[UUID_TEXT];
	const char *tenant = cli_value(c, "tenant");
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &home, &exit_code) &&
	    (!tenant || cli_tenant(c, home, tenant, id, &exit_code)))
		exit_code = device_list(c, &s, home, tenant ? id : NULL);
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}
