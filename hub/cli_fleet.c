/* Tenants, tokens and devices: statements in the database. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/authority.h"
#include "hub/cli.h"
#include "hub/cli_place.h"
#include "shared/clock.h"
#include "shared/random.h"
#include "shared/sha256.h"
#include "shared/token.h"

#define TTL_DEFAULT_S 86400
#define TTL_MAX_S     (365 * 86400)

/* A query whose rows are the answer. */
static int list(struct cli *c, const char *sql, const char *tenant, const struct cli_column *columns, const char *empty)
{
	struct cli_setting s;
	struct pg_admin *db = NULL;
	struct pg_rows *rows = NULL;
	struct ferry_why why = {0};
	char id[UUID_TEXT];
	const char *params[] = {NULL};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &db, &exit_code) &&
	    (!tenant || cli_tenant(c, db, tenant, id, &exit_code))) {
		params[0] = tenant ? id : NULL;
		enum ferry_error e = pg_admin_query(db, sql, params, strstr(sql, "$1") ? 1 : 0, &rows, &why);
		exit_code = e == FERRY_OK ? cli_print_rows(c, cli_rows(rows), columns, empty)
					  : cli_fail_database(c, db, e, &why);
		pg_rows_free(rows);
	}
	pg_admin_close(db);
	cli_setting_deinit(&s);
	return exit_code;
}

/* ---- tenants ---- */

int cli_tenant_list(struct cli *c)
{
	static const struct cli_column columns[] = {{"slug", NULL}, {"name", NULL}, {"id", NULL}, {"status", NULL},
						    {"isolation", NULL}, {"devices", NULL}, {NULL, NULL}};
	return list(c,
		    "SELECT p.slug, p.name, p.tenant_id AS id, p.status, p.isolation, "
		    "(SELECT count(*) FROM ferry.device d WHERE d.tenant_id = p.tenant_id AND d.status = 'active') AS \"devices::int\" "
		    "FROM ferry.placement p ORDER BY p.slug",
		    NULL, columns, "There are no tenants yet: ferry-hub tenant create makes one.");
}

/* ---- tokens ---- */

static bool is_word(const char *text, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(text, word, n) == 0;
}

/* "project:<uuid>" and the like, or one of the two that stand for themselves;
 * with "+archived" behind, the softly deleted rows of it. */
static bool scope_is_valid(const char *scope)
{
	struct uuid id;
	const char *colon = strchr(scope, ':');
	size_t n = strcspn(scope, "+");

	if (scope[n] && strcmp(scope + n, "+archived") != 0)
		return false;
	if (!colon)
		return is_word(scope, n, "tenant") || is_word(scope, n, "global");
	return colon > scope && uuid_parse(colon + 1, (size_t)(scope + n - colon - 1), &id);
}

/* As the text of a PostgreSQL array: scopes hold no character that needs quotes. */
static bool scopes_text(const struct cli *c, const char *user, char *out, size_t max)
{
	int n = snprintf(out, max, "{tenant,global");
	for (int i = 0; cli_value_at(c, "scope", i); i++) {
		const char *scope = cli_value_at(c, "scope", i);
		if (!scope_is_valid(scope))
			return false;
		n += snprintf(out + n, max - (size_t)n, ",%s", scope);
		if ((size_t)n >= max)
			return false;
	}
	if (user)
		n += snprintf(out + n, max - (size_t)n, ",user:%s", user);
	if ((size_t)n + 1 >= max)
		return false;
	snprintf(out + n, max - (size_t)n, "}");
	return true;
}

static bool find_user(struct cli *c, struct pg_admin *db, const char *tenant, char out[UUID_TEXT], int *exit_code)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	const char *params[] = {tenant, cli_value(c, "user")};
	enum ferry_error e = pg_admin_query(
		db, "SELECT id FROM identity.users WHERE tenant_id = $1::uuid AND (email::text = lower($2) OR id::text = lower($2))",
		params, 2, &rows, &why);
	if (e != FERRY_OK) {
		*exit_code = cli_fail_database(c, db, e, &why);
		return false;
	}
	bool found = pg_rows_count(rows) == 1;
	if (found)
		snprintf(out, UUID_TEXT, "%s", pg_rows_text(rows, 0, 0));
	else
		*exit_code = cli_fail(c, FERRY_NOT_FOUND, "this tenant has no such user", "Give an e-mail or uuid of one");
	pg_rows_free(rows);
	return found;
}

/* The port for enrolment; a hub that took any free one is asked. */
static bool enrolment_port(const struct cli_setting *s, uint16_t *out)
{
	int64_t port = s->settings.public_enrol_port ? s->settings.public_enrol_port : s->settings.enrol_port;
	struct ferry_why why;
	if (!port) {
		struct json *status = cli_ask_hub(s, "/v1/status", NULL, &why);
		port = json_int(json_get(status, "enrol_port"), 0);
		json_release(status);
	}
	*out = (uint16_t)port;
	return port > 0;
}

static enum ferry_error make_token(const struct cli_setting *s, uint16_t port, struct token *t, struct ferry_why *why)
{
	struct authority a;
	enum ferry_error e = authority_open(&s->settings, clock_wall_us() / 1000000, &a, why);
	if (e != FERRY_OK)
		return e;
	memset(t, 0, sizeof(*t));
	random_bytes(t->secret, sizeof(t->secret));
	memcpy(t->ca_fingerprint, a.ca_fingerprint, sizeof(t->ca_fingerprint));
	t->port = port;
	snprintf(t->host, sizeof(t->host), "%s", hub_public_host(&s->settings));
	authority_close(&a);
	return FERRY_OK;
}

static enum ferry_error store_token(struct cli *c, struct pg_admin *db, const struct token *t, const char *tenant,
				    const char *user, const char *scopes, int64_t ttl_s, struct ferry_why *why)
{
	uint8_t digest[SHA256_BYTES];
	char hash[SHA256_HEX_BYTES], ttl[24];
	sha256_of(t->secret, sizeof(t->secret), digest);
	hex_of(digest, sizeof(digest), hash);
	snprintf(ttl, sizeof(ttl), "%lld", (long long)ttl_s);
	const char *params[] = {tenant, hash, cli_value(c, "name"), user,
				cli_value(c, "class") ? cli_value(c, "class") : "generic", scopes, ttl};
	return pg_admin_query(db,
			      "INSERT INTO ferry.token (tenant_id, secret_hash, name, user_id, class, scopes, expires_at) "
			      "VALUES ($1::uuid, decode($2, 'hex'), $3, $4::uuid, $5, $6::text[], "
			      "now() + $7::float8 * interval '1 second')",
			      params, 7, NULL, why);
}

static int token_create(struct cli *c, const struct cli_setting *s, struct pg_admin *db, int64_t ttl_s)
{
	char tenant[UUID_TEXT], user[UUID_TEXT], scopes[4096], text[TOKEN_TEXT_MAX];
	struct token t;
	struct ferry_why why = {0};
	uint16_t port;
	int exit_code = CLI_OK;
	bool has_user = cli_value(c, "user") != NULL;
	if (!cli_tenant(c, db, cli_value(c, "tenant"), tenant, &exit_code))
		return exit_code;
	if (has_user && !find_user(c, db, tenant, user, &exit_code))
		return exit_code;
	if (!scopes_text(c, has_user ? user : NULL, scopes, sizeof(scopes)))
		return cli_fail(c, FERRY_USAGE, "a scope is not of its form, or there are too many", "Write --scope project:<uuid>");
	if (!enrolment_port(s, &port))
		return cli_fail(c, FERRY_CONFIG, "the enrolment port is not known", "Start the hub, or set enrol.port");
	enum ferry_error e = make_token(s, port, &t, &why);
	if (e == FERRY_OK)
		e = token_write(&t, text);
	if (e != FERRY_OK)
		return cli_fail(c, e, why.text, NULL);
	e = store_token(c, db, &t, tenant, has_user ? user : NULL, scopes, ttl_s, &why);
	secret_wipe(&t, sizeof(t));
	if (e != FERRY_OK)
		return cli_fail_database(c, db, e, &why);
	struct json *o = json_new_object();
	json_put_text(o, "token", text);
	json_put_text(o, "tenant", tenant);
	json_put_text(o, "name", cli_value(c, "name"));
	json_put_int(o, "ttl_s", ttl_s);
	exit_code = cli_print_done(c, o, "%s", text);
	secret_wipe(text, sizeof(text));
	return exit_code;
}

int cli_token_create(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *db = NULL;
	int64_t ttl_s = TTL_DEFAULT_S;
	int exit_code = CLI_OK;
	if (!cli_value(c, "tenant") || !cli_value(c, "name") || !*cli_value(c, "name") || strlen(cli_value(c, "name")) > 120)
		return cli_fail(c, FERRY_USAGE, "token create needs --tenant and --name (up to 120 bytes)",
				"See: ferry-hub token create --help");
	if (cli_value(c, "ttl") && !cli_duration(cli_value(c, "ttl"), 1, TTL_MAX_S, &ttl_s))
		return cli_fail(c, FERRY_USAGE, "--ttl takes a time of up to a year with its unit", "Write 30min, 24h or 7d");
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &db, &exit_code))
		exit_code = token_create(c, &s, db, ttl_s);
	pg_admin_close(db);
	cli_setting_deinit(&s);
	return exit_code;
}

/* ---- devices ---- */

static int device_revoke(struct cli *c, const struct cli_setting *s, struct pg_admin *db, const char *device)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	const char *params[] = {device};
	enum ferry_error e = pg_admin_query(db, "SELECT status, ferry.revoke_device(id) FROM ferry.device WHERE id = $1::uuid",
					    params, 1, &rows, &why);
	if (e != FERRY_OK)
		return cli_fail_database(c, db, e, &why);
	bool found = pg_rows_count(rows) == 1;
	pg_rows_free(rows);
	if (!found)
		return cli_fail(c, FERRY_NOT_FOUND, "there is no such device", "See: ferry-hub device list");
	struct json *body = json_new_object();
	json_put_text(body, "device", device);
	struct json *told = cli_ask_hub(s, "/v1/revoke", body, &why), *o = json_new_object();
	json_put_text(o, "device", device);
	json_put_bool(o, "revoked", true);
	json_put_bool(o, "hub_told", told != NULL);
	bool at_once = told != NULL;
	json_release(told);
	return cli_print_done(c, o, "Device %s is revoked%s", device,
			      at_once ? "" : "; a hub that runs elsewhere notices within a second");
}

int cli_device_revoke(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *db = NULL;
	struct uuid id;
	char device[UUID_TEXT];
	int exit_code = CLI_OK;
	if (!uuid_parse(cli_argument(c, 0), strlen(cli_argument(c, 0)), &id))
		return cli_fail(c, FERRY_USAGE, "a device is named by its uuid", "See: ferry-hub device list");
	uuid_format(&id, device);
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &db, &exit_code))
		exit_code = device_revoke(c, &s, db, device);
	pg_admin_close(db);
	cli_setting_deinit(&s);
	return exit_code;
}

/* The device's row that counts stands beside its tenant's rows. */
static int device_release(struct cli *c, struct pg_admin *db, const char *device)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	bool dry = cli_flag(c, "dry-run");
	const char *params[] = {device, dry ? "true" : "false"};
	enum ferry_error e = pg_admin_query(db, "SELECT name, quarantined_at FROM ferry.release_device($1::uuid, $2::bool)", params, 2,
					    &rows, &why);
	if (e != FERRY_OK)
		return cli_fail_database(c, db, e, &why);
	if (pg_rows_count(rows) == 0) {
		pg_rows_free(rows);
		return cli_fail(c, FERRY_NOT_FOUND, "no copy of this device was turned away", "See: ferry-hub device list");
	}
	struct json *o = json_new_object();
	json_put_text(o, "device", device);
	json_put_text(o, "name", pg_rows_text(rows, 0, 0));
	json_put_text(o, "quarantined_at", pg_rows_text(rows, 0, 1));
	json_put_bool(o, "released", !dry);
	int exit_code = cli_print_done(c, o, "The copy of %s that was turned away at %s %s", pg_rows_text(rows, 0, 0),
				       pg_rows_text(rows, 0, 1),
				       dry ? "would be let in, and any other turned away"
					   : "is the device from now on: start its agent; any other copy is turned away");
	pg_rows_free(rows);
	return exit_code;
}

static int release_in_place(struct cli *c, const struct cli_setting *s, struct pg_admin *home, const char *device)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	struct cli_place place;
	const char *params[] = {device};
	int exit_code = CLI_OK;
	enum ferry_error e = pg_admin_query(home, "SELECT tenant_id FROM ferry.device WHERE id = $1::uuid", params, 1, &rows, &why);
	if (e != FERRY_OK)
		return cli_fail_database(c, home, e, &why);
	if (pg_rows_count(rows) == 0)
		exit_code = cli_fail(c, FERRY_NOT_FOUND, "there is no such device", "See: ferry-hub device list");
	else if (cli_place_open(c, s, home, pg_rows_text(rows, 0, 0), &place, &exit_code)) {
		exit_code = device_release(c, place.db, device);
		cli_place_close(&place, home);
	}
	pg_rows_free(rows);
	return exit_code;
}

int cli_device_release(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *db = NULL;
	struct uuid id;
	char device[UUID_TEXT];
	int exit_code = CLI_OK;
	if (!uuid_parse(cli_argument(c, 0), strlen(cli_argument(c, 0)), &id))
		return cli_fail(c, FERRY_USAGE, "a device is named by its uuid", "See: ferry-hub device list");
	uuid_format(&id, device);
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &db, &exit_code))
		exit_code = release_in_place(c, &s, db, device);
	pg_admin_close(db);
	cli_setting_deinit(&s);
	return exit_code;
}
