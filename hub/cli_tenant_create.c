/* A new tenant, in the home database or in a place of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli.h"
#include "hub/cli_place.h"
#include "hub/migrate.h"
#include "hub/pg_conninfo.h"

enum isolation { SHARED_DATABASE, DEDICATED_SCHEMA, DEDICATED_DATABASE, DEDICATED_INSTANCE, ISOLATIONS };

static const struct {
	const char *option, *label;
} isolations[ISOLATIONS] = {
	[SHARED_DATABASE] = {"shared-database", "SHARED_DATABASE"},
	[DEDICATED_SCHEMA] = {"dedicated-schema", "DEDICATED_SCHEMA"},
	[DEDICATED_DATABASE] = {"dedicated-database", "DEDICATED_DATABASE"},
	[DEDICATED_INSTANCE] = {"dedicated-instance", "DEDICATED_INSTANCE"},
};

struct making {
	struct cli *c;
	const struct cli_setting *s;
	struct pg_admin *home;
	const char *name;
	char slug[64], id[UUID_TEXT], prefix[40], conninfo[1024], folder[FILES_PATH_MAX];
	enum isolation isolation;
};

static void slug_of(const char *name, char out[64])
{
	size_t n = 0;
	for (; *name && n < 60; name++) {
		char k = *name >= 'A' && *name <= 'Z' ? (char)(*name - 'A' + 'a') : *name;
		bool plain = (k >= 'a' && k <= 'z') || (k >= '0' && k <= '9');
		if (plain)
			out[n++] = k;
		else if (n && out[n - 1] != '-')
			out[n++] = '-';
	}
	while (n && out[n - 1] == '-')
		n--;
	out[n] = '\0';
}

/* As names in PostgreSQL are written without quotes; at most 30 characters. */
static void identifier_of(const char *slug, char out[32])
{
	size_t n = 0;
	if (*slug >= '0' && *slug <= '9')
		out[n++] = 't';
	for (; *slug && n < 30; slug++)
		out[n++] = *slug == '-' ? '_' : *slug;
	out[n] = '\0';
}

/* ---- the home database's row ---- */

/* One that is unfinished, since something failed, is taken up again. */
static enum ferry_error reserve(struct making *m, struct ferry_why *why)
{
	struct pg_rows *rows;
	const char *params[] = {m->slug, m->name, isolations[m->isolation].label, *m->prefix ? m->prefix : NULL,
				*m->conninfo ? m->conninfo : NULL};
	enum ferry_error e = pg_admin_query(
		m->home,
		"INSERT INTO ferry.placement AS p (tenant_id, slug, name, status, isolation, schema_prefix, conninfo) "
		"VALUES (gen_random_uuid(), $1, $2, 'PENDING_ACTIVATION', $3, $4, $5) "
		"ON CONFLICT (slug) DO UPDATE SET name = excluded.name "
		"WHERE p.status = 'PENDING_ACTIVATION' AND p.isolation = excluded.isolation "
		"AND p.conninfo IS NOT DISTINCT FROM excluded.conninfo AND p.schema_prefix IS NOT DISTINCT FROM excluded.schema_prefix "
		"RETURNING tenant_id",
		params, 5, &rows, why);
	if (e != FERRY_OK)
		return e;
	if (pg_rows_count(rows) == 1)
		snprintf(m->id, sizeof(m->id), "%s", pg_rows_text(rows, 0, 0));
	else
		e = ferry_fail(why, FERRY_EXISTS, "there is a tenant with the slug %.60s already", m->slug);
	pg_rows_free(rows);
	return e;
}

/* The limits that the model gives stand in the tenant's own database. */
static enum ferry_error activate(struct making *m, struct pg_admin *db, struct ferry_why *why)
{
	struct pg_rows *rows;
	const char *id[] = {m->id};
	if (db == m->home)
		return FERRY_OK;
	enum ferry_error e = pg_admin_query(
		db, "SELECT max_users, max_storage_bytes, max_api_calls FROM ferry.placement WHERE tenant_id = $1::uuid", id, 1, &rows, why);
	if (e != FERRY_OK)
		return e;
	bool there = pg_rows_count(rows) == 1;
	const char *params[] = {m->id, there ? pg_rows_text(rows, 0, 0) : NULL, there ? pg_rows_text(rows, 0, 1) : NULL,
				there ? pg_rows_text(rows, 0, 2) : NULL};
	e = pg_admin_query(m->home,
			   "UPDATE ferry.placement SET status = 'ACTIVE', status_at = now(), max_users = $2::bigint, "
			   "max_storage_bytes = $3::bigint, max_api_calls = $4::bigint WHERE tenant_id = $1::uuid",
			   params, 4, NULL, why);
	pg_rows_free(rows);
	return e;
}

/* ---- its place ---- */

/* Asked of the server's database postgres, where it may be asked. */
static enum ferry_error make_database(const char *merged, struct ferry_why *why)
{
	char server[CLI_CONNINFO_MAX], sql[200];
	struct pg_admin *db;
	struct pg_rows *rows = NULL;
	char name[64];
	enum ferry_error e = pg_conninfo_database(merged, name, sizeof(name), why);
	const char *params[] = {name};
	if (e == FERRY_OK)
		e = pg_conninfo_merge(merged, "dbname=postgres", server, sizeof(server), why);
	if (e == FERRY_OK)
		e = pg_admin_open(server, &db, why);
	if (e != FERRY_OK)
		return e;
	e = pg_admin_query(db, "SELECT format('CREATE DATABASE %I', $1::text) WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
			   params, 1, &rows, why);
	bool missing = e == FERRY_OK && pg_rows_count(rows) == 1;
	if (missing)
		snprintf(sql, sizeof(sql), "%s", pg_rows_text(rows, 0, 0));
	pg_rows_free(rows);
	if (missing)
		e = pg_admin_exec(db, sql, why);
	pg_admin_close(db);
	return e;
}

static enum ferry_error open_place(const struct making *m, struct pg_admin **out, struct ferry_why *why)
{
	char merged[CLI_CONNINFO_MAX];
	*out = m->home;
	if (!*m->conninfo)
		return FERRY_OK;
	enum ferry_error e = cli_place_conninfo(m->s, m->conninfo, merged, sizeof(merged), why);
	if (e == FERRY_OK)
		e = make_database(merged, why);
	return e == FERRY_OK ? pg_admin_open(merged, out, why) : e;
}

static enum ferry_error migrate_place(const struct making *m, struct pg_admin *db, struct ferry_why *why)
{
	struct migrate_set set = {m->prefix, m->id};
	int count;
	if (m->isolation == SHARED_DATABASE)
		return FERRY_OK;
	return migrate_apply(db, m->folder, *m->prefix ? &set : NULL, NULL, NULL, &count, why);
}

/* Repeated without harm: a tenant that is there stays as it is. */
static enum ferry_error make_tenant(const struct making *m, struct pg_admin *db, struct ferry_why *why)
{
	char sql[512];
	const char *params[] = {m->id, m->name, m->slug, isolations[m->isolation].label};
	snprintf(sql, sizeof(sql), "SELECT %sidentity.create_tenant($2, $3, $1::uuid) "
		 "WHERE $4::text IS NOT NULL AND NOT EXISTS (SELECT FROM %sidentity.tenants WHERE id = $1::uuid)", m->prefix, m->prefix);
	enum ferry_error e = pg_admin_exec(db, "BEGIN", why);
	if (e == FERRY_OK)
		e = pg_admin_query(db, sql, params, 4, NULL, why);
	snprintf(sql, sizeof(sql), "UPDATE %sidentity.tenants SET isolation_level = $2::%sidentity.data_isolation_level "
		 "WHERE id = $1::uuid AND isolation_level::text <> $2", m->prefix, m->prefix);
	const char *level[] = {m->id, isolations[m->isolation].label};
	if (e == FERRY_OK && m->isolation != SHARED_DATABASE)
		e = pg_admin_query(db, sql, level, 2, NULL, why);
	return e == FERRY_OK ? pg_admin_exec(db, "COMMIT", why) : e;
}

static int report(const struct making *m)
{
	struct json *o = json_new_object();
	json_put_text(o, "id", m->id);
	json_put_text(o, "name", m->name);
	json_put_text(o, "slug", m->slug);
	json_put_text(o, "isolation", isolations[m->isolation].label);
	json_put_text(o, "schema_prefix", *m->prefix ? m->prefix : NULL);
	json_put_text(o, "conninfo", *m->conninfo ? m->conninfo : NULL);
	return cli_print_done(m->c, o, "Tenant %s is %s", m->slug, m->id);
}

static int make(struct making *m)
{
	struct ferry_why why = {0};
	struct pg_admin *db = m->home;
	enum ferry_error e = reserve(m, &why);
	if (e == FERRY_OK)
		e = open_place(m, &db, &why);
	if (e == FERRY_OK)
		e = migrate_place(m, db, &why);
	if (e == FERRY_OK)
		e = make_tenant(m, db, &why);
	struct pg_admin *failed = db;
	if (e == FERRY_OK)
		e = activate(m, db, &why);
	int exit_code = e == FERRY_OK ? report(m)
			: e == FERRY_EXISTS ? cli_fail(m->c, e, why.text, "Choose another with --slug")
			: m->isolation != SHARED_DATABASE
				? cli_fail(m->c, e == FERRY_USAGE ? FERRY_DATABASE : e, why.text, "Mend it and repeat the command: it goes on where it stopped")
				: cli_fail_database(m->c, failed, e, &why);
	if (db != m->home)
		pg_admin_close(db);
	return exit_code;
}

/* ---- what was asked for ---- */

static bool take_isolation(struct making *m)
{
	const char *wanted = cli_value(m->c, "isolation");
	for (int i = 0; i < ISOLATIONS; i++)
		if (strcmp(wanted ? wanted : isolations[0].option, isolations[i].option) == 0) {
			m->isolation = (enum isolation)i;
			return true;
		}
	return false;
}

/* FERRY_USAGE with a sentence when options do not fit each other. */
static enum ferry_error take_place(struct making *m, struct ferry_why *why)
{
	char word[32];
	const char *given = cli_value(m->c, "conninfo");
	bool elsewhere = m->isolation == DEDICATED_DATABASE || m->isolation == DEDICATED_INSTANCE;
	identifier_of(m->slug, word);
	if (given && !elsewhere)
		return ferry_fail(why, FERRY_USAGE, "--conninfo belongs to dedicated-database and dedicated-instance");
	if (!given && m->isolation == DEDICATED_INSTANCE)
		return ferry_fail(why, FERRY_USAGE, "dedicated-instance needs --conninfo: where is that server?");
	if (given && strlen(given) >= sizeof(m->conninfo))
		return ferry_fail(why, FERRY_USAGE, "--conninfo is longer than %zu bytes", sizeof(m->conninfo) - 1);
	if (m->isolation == DEDICATED_SCHEMA)
		snprintf(m->prefix, sizeof(m->prefix), "%s_", word);
	if (given)
		snprintf(m->conninfo, sizeof(m->conninfo), "%s", given);
	else if (elsewhere)
		snprintf(m->conninfo, sizeof(m->conninfo), "dbname=ferry_%s", word);
	return elsewhere ? pg_conninfo_check(m->conninfo, why) : FERRY_OK;
}

static enum ferry_error prepare(struct making *m, struct ferry_why *why)
{
	const char *sql = cli_value(m->c, "sql") ? cli_value(m->c, "sql") : m->s->settings.sql_dir;
	enum ferry_error e = take_place(m, why);
	if (e != FERRY_OK || m->isolation == SHARED_DATABASE)
		return e;
	return migrate_find(*sql ? sql : NULL, m->folder, why);
}

int cli_tenant_create(struct cli *c)
{
	struct cli_setting s;
	struct making m = {.c = c, .s = &s, .name = cli_argument(c, 0)};
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	slug_of(cli_value(c, "slug") ? cli_value(c, "slug") : m.name, m.slug);
	if (!*m.slug)
		return cli_fail(c, FERRY_USAGE, "the slug would be empty", "Give one of letters and digits with --slug");
	if (!take_isolation(&m))
		return cli_fail(c, FERRY_USAGE, "the isolation is not known",
				"One of shared-database, dedicated-schema, dedicated-database, dedicated-instance");
	if (cli_setting_init(c, &s, &exit_code)) {
		enum ferry_error e = prepare(&m, &why);
		if (e != FERRY_OK)
			exit_code = cli_fail(c, e, why.text, "See: ferry-hub tenant create --help");
		else if (cli_database(c, &s, &m.home, &exit_code))
			exit_code = make(&m);
	}
	pg_admin_close(m.home);
	cli_setting_deinit(&s);
	return exit_code;
}
