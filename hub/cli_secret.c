/* Secrets: stored encrypted, shown never (hub/secret_box.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli.h"
#include "hub/cli_place.h"
#include "hub/secret_box.h"
#include "shared/random.h"
#include "shared/sha256.h"

#define SEALED_MAX (SECRET_BYTES_MAX + SECRET_OVERHEAD_BYTES)
#define PAGE	   200 /* secrets of a transaction while rotating */
#define PAGE_TEXT  "200"

struct secrets {
	struct cli *c;
	struct cli_setting setting;
	struct pg_admin *home;
	struct secret_keys keys;
	char path[FILES_PATH_MAX], current[2 * SECRET_KEY_ID_BYTES + 1];
	int64_t total, behind, changed, bad, unknown; /* secrets looked at */
	bool dry;
};

static void note_current(struct secrets *x)
{
	hex_of(x->keys.list[0].id, SECRET_KEY_ID_BYTES, x->current);
}

/* False: *out_exit says why. make: a file is made when there is none. */
static bool load_keys(struct secrets *x, bool make, int *out_exit)
{
	struct ferry_why why = {0};
	const struct hub_settings *s = &x->setting.settings;
	enum ferry_error e = FERRY_OK;
	if (*s->secret_keys)
		snprintf(x->path, sizeof(x->path), "%s", s->secret_keys);
	else
		e = files_join(x->path, s->state_dir, "secret.keys", &why);
	if (e == FERRY_OK)
		e = secret_keys_load(x->path, &x->keys, &why);
	if (e == FERRY_NOT_FOUND && make)
		e = files_exists(s->state_dir) ? FERRY_OK : files_make_folder(s->state_dir, 0700, &why);
	if (e == FERRY_OK && x->keys.count == 0)
		e = secret_keys_add(x->path, &x->keys, &why);
	if (e == FERRY_OK)
		note_current(x);
	else
		*out_exit = cli_fail(x->c, e, why.text, "Put the key file back, mode 0600, or name it as secret_keys");
	return e == FERRY_OK;
}

static bool begin(struct secrets *x, struct cli *c, bool make, int *out_exit)
{
	x->c = c;
	return cli_setting_init(c, &x->setting, out_exit) && load_keys(x, make, out_exit) &&
	       cli_database(c, &x->setting, &x->home, out_exit);
}

static int finish(struct secrets *x, int exit_code)
{
	pg_admin_close(x->home);
	secret_wipe(&x->keys, sizeof(x->keys));
	cli_setting_deinit(&x->setting);
	free(x);
	return exit_code;
}

static char *hex_text(const struct buffer *b)
{
	char *text = malloc(2 * b->n + 1);
	if (text)
		hex_of(b->p, b->n, text);
	return text;
}

static enum ferry_error use_tenant(struct pg_admin *db, const char *tenant, struct ferry_why *why)
{
	const char *params[] = {tenant};
	return pg_admin_query(db, "SELECT set_config('app.tenant_id', $1, false)", params, 1, NULL, why);
}

/* The key's row of that tenant; tables name keys, files hold them. */
static enum ferry_error note_key(struct pg_admin *db, const char *prefix, const char *tenant, const char *key,
				 struct ferry_why *why)
{
	char sql[256];
	const char *params[] = {tenant, key};
	snprintf(sql, sizeof(sql), "INSERT INTO %sgovernance.kms_keys (tenant_id, alias, provider) VALUES ($1::uuid, $2, 'file') "
		 "ON CONFLICT (tenant_id, alias) DO NOTHING", prefix);
	return pg_admin_query(db, sql, params, 2, NULL, why);
}

/* ---- set ---- */

static bool read_value(char *out, size_t *out_n)
{
	size_t n = fread(out, 1, SECRET_BYTES_MAX + 2, stdin);
	if (n > 0 && out[n - 1] == '\n')
		n--;
	*out_n = n;
	return n > 0 && n <= SECRET_BYTES_MAX;
}

static enum ferry_error find_id(const struct cli_place *p, const char *name, char out[UUID_TEXT], struct ferry_why *why)
{
	char sql[256];
	struct pg_rows *rows;
	const char *params[] = {p->tenant, name};
	snprintf(sql, sizeof(sql), "SELECT coalesce((SELECT id FROM %sgovernance.secrets WHERE tenant_id = $1::uuid AND name = $2), "
		 "%sidentity.uuid7())", p->prefix, p->prefix);
	enum ferry_error e = pg_admin_query(p->db, sql, params, 2, &rows, why);
	if (e != FERRY_OK)
		return e;
	snprintf(out, UUID_TEXT, "%s", pg_rows_text(rows, 0, 0));
	pg_rows_free(rows);
	return FERRY_OK;
}

static enum ferry_error write_sealed(const struct cli_place *p, const char *id, const char *name, const char *key,
				     const char *sealed, struct ferry_why *why)
{
	char sql[768];
	struct pg_rows *rows;
	const char *params[] = {p->tenant, id, name, key, sealed};
	snprintf(sql, sizeof(sql),
		 "INSERT INTO %sgovernance.secrets AS s (tenant_id, id, name, kms_key_id, kms_key_alias, ciphertext) "
		 "SELECT $1::uuid, $2::uuid, $3, k.id, k.alias, decode($5, 'hex') FROM %sgovernance.kms_keys k "
		 "WHERE k.tenant_id = $1::uuid AND k.alias = $4 ON CONFLICT (tenant_id, id) DO UPDATE "
		 "SET kms_key_id = excluded.kms_key_id, kms_key_alias = excluded.kms_key_alias, "
		 "ciphertext = excluded.ciphertext, rotated_at = now() RETURNING id",
		 p->prefix, p->prefix);
	enum ferry_error e = pg_admin_query(p->db, sql, params, 5, &rows, why);
	if (e == FERRY_OK)
		pg_rows_free(rows);
	return e;
}

static enum ferry_error set_mfa(const struct cli_place *p, const char *id, const char *user, struct ferry_why *why)
{
	char sql[320];
	struct pg_rows *rows;
	const char *params[] = {p->tenant, id, user};
	snprintf(sql, sizeof(sql), "UPDATE %sidentity.users SET mfa_secret_id = $2::uuid, mfa_enabled = true WHERE tenant_id = $1::uuid "
		 "AND (email::text = lower($3) OR id::text = lower($3)) RETURNING id", p->prefix);
	enum ferry_error e = pg_admin_query(p->db, sql, params, 3, &rows, why);
	if (e != FERRY_OK)
		return e;
	if (pg_rows_count(rows) != 1)
		e = ferry_fail(why, FERRY_NOT_FOUND, "this tenant has no user %.80s", user);
	pg_rows_free(rows);
	return e;
}

static enum ferry_error store(struct secrets *x, const struct cli_place *p, const char *name, const char *plain, size_t n,
			      char id[UUID_TEXT], struct ferry_why *why)
{
	struct uuid tenant, secret;
	struct buffer sealed;
	const char *user = cli_value(x->c, "mfa-of");
	enum ferry_error e = pg_admin_exec(p->db, "BEGIN", why);
	buffer_init(&sealed, SEALED_MAX);
	if (e == FERRY_OK)
		e = use_tenant(p->db, p->tenant, why);
	if (e == FERRY_OK)
		e = find_id(p, name, id, why);
	if (e == FERRY_OK)
		e = uuid_parse(p->tenant, strlen(p->tenant), &tenant) && uuid_parse(id, strlen(id), &secret)
			    ? secret_seal(&x->keys, &tenant, &secret, plain, n, &sealed)
			    : FERRY_INTERNAL;
	char *text = e == FERRY_OK ? hex_text(&sealed) : NULL;
	if (e == FERRY_OK)
		e = text ? note_key(p->db, p->prefix, p->tenant, x->current, why) : FERRY_NO_MEMORY;
	if (e == FERRY_OK)
		e = write_sealed(p, id, name, x->current, text, why);
	if (e == FERRY_OK && user)
		e = set_mfa(p, id, user, why);
	if (e == FERRY_OK)
		e = pg_admin_exec(p->db, "COMMIT", why);
	free(text);
	buffer_deinit(&sealed);
	return e;
}

static int set(struct secrets *x, const char *plain, size_t n)
{
	struct ferry_why why = {0};
	struct cli_place p;
	char id[UUID_TEXT] = "";
	const char *name = cli_argument(x->c, 1);
	int exit_code = CLI_OK;
	if (!cli_place_open(x->c, &x->setting, x->home, cli_argument(x->c, 0), &p, &exit_code))
		return exit_code;
	enum ferry_error e = store(x, &p, name, plain, n, id, &why);
	if (e == FERRY_NOT_FOUND) {
		exit_code = cli_fail(x->c, e, why.text, "Give an e-mail or uuid of one");
	} else if (e != FERRY_OK) {
		exit_code = cli_fail_database(x->c, p.db, e, &why);
	} else {
		struct json *o = json_new_object();
		json_put_text(o, "tenant", p.tenant);
		json_put_text(o, "name", name);
		json_put_text(o, "id", id);
		json_put_text(o, "key", x->current);
		exit_code = cli_print_done(x->c, o, "The secret %s is stored, encrypted with key %s", name, x->current);
	}
	cli_place_close(&p, x->home);
	return exit_code;
}

int cli_secret_set(struct cli *c)
{
	struct secrets *x = calloc(1, sizeof(*x));
	char *plain = malloc(SECRET_BYTES_MAX + 2);
	size_t n = 0;
	int exit_code = CLI_OK;
	if (!x || !plain) {
		free(x);
		free(plain);
		return cli_fail(c, FERRY_NO_MEMORY, "there is no memory", NULL);
	}
	if (!read_value(plain, &n)) {
		free(x);
		exit_code = cli_fail(c, FERRY_USAGE, "the value on stdin is empty, or longer than 65536 bytes",
				     "Write: ferry-hub secret set <tenant> <name> < file");
	} else {
		if (begin(x, c, true, &exit_code))
			exit_code = set(x, plain, n);
		exit_code = finish(x, exit_code);
	}
	secret_wipe(plain, SECRET_BYTES_MAX + 2);
	free(plain);
	return exit_code;
}

/* ---- list ---- */

static int list(struct cli *c, const struct cli_setting *s, struct pg_admin *home)
{
	static const struct cli_column columns[] = {{"name", NULL}, {"id", NULL}, {"key", NULL}, {"created_at", "made"},
						    {"rotated_at", "changed"}, {NULL, NULL}};
	struct ferry_why why = {0};
	struct cli_place p;
	struct pg_rows *rows = NULL;
	char sql[320];
	int exit_code = CLI_OK;
	if (!cli_place_open(c, s, home, cli_argument(c, 0), &p, &exit_code))
		return exit_code;
	const char *params[] = {p.tenant};
	snprintf(sql, sizeof(sql), "SELECT name, id, encode(substr(ciphertext, 2, 8), 'hex') AS key, created_at, rotated_at "
		 "FROM %sgovernance.secrets WHERE tenant_id = $1::uuid ORDER BY name, id", p.prefix);
	enum ferry_error e = use_tenant(p.db, p.tenant, &why);
	if (e == FERRY_OK)
		e = pg_admin_query(p.db, sql, params, 1, &rows, &why);
	exit_code = e == FERRY_OK ? cli_print_rows(c, cli_rows(rows), columns, "This tenant has no secrets.")
				  : cli_fail_database(c, p.db, e, &why);
	pg_rows_free(rows);
	cli_place_close(&p, home);
	return exit_code;
}

int cli_secret_list(struct cli *c)
{
	struct cli_setting s;
	struct pg_admin *home = NULL;
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code) && cli_database(c, &s, &home, &exit_code))
		exit_code = list(c, &s, home);
	pg_admin_close(home);
	cli_setting_deinit(&s);
	return exit_code;
}

/* ---- all secrets, page by page ---- */

static int value_of(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static bool unhex(const char *text, struct buffer *out)
{
	size_t n = strlen(text) / 2;
	uint8_t *p = buffer_reserve(out, n + 1);
	for (size_t i = 0; p && i < n; i++)
		p[i] = (uint8_t)(value_of(text[2 * i]) << 4 | value_of(text[2 * i + 1]));
	if (p)
		out->n += n;
	return p != NULL;
}

static enum ferry_error replace(struct pg_admin *db, const char *prefix, const struct secrets *x, const struct pg_rows *rows,
				int row, const struct buffer *sealed, struct ferry_why *why)
{
	char sql[640], *text = hex_text(sealed);
	const char *tenant = pg_rows_text(rows, row, 0);
	const char *params[] = {tenant, pg_rows_text(rows, row, 1), pg_rows_text(rows, row, 2), text, x->current};
	enum ferry_error e = text ? note_key(db, prefix, tenant, x->current, why) : FERRY_NO_MEMORY;
	/* One that was set meanwhile is as good as rotated. */
	snprintf(sql, sizeof(sql), "UPDATE %sgovernance.secrets s SET ciphertext = decode($4, 'hex'), kms_key_id = k.id, "
		 "kms_key_alias = k.alias, rotated_at = now() FROM %sgovernance.kms_keys k WHERE s.tenant_id = $1::uuid "
		 "AND s.id = $2::uuid AND s.ciphertext = decode($3, 'hex') AND k.tenant_id = s.tenant_id AND k.alias = $5",
		 prefix, prefix);
	if (e == FERRY_OK)
		e = pg_admin_query(db, sql, params, 5, NULL, why);
	free(text);
	return e;
}

/* Looks at one secret, and when it rotates, encrypts it anew. */
static enum ferry_error take_one(struct secrets *x, struct pg_admin *db, const char *prefix, bool rotate,
				 const struct pg_rows *rows, int row, struct ferry_why *why)
{
	struct uuid tenant, id;
	struct buffer sealed, plain, anew;
	const char *t = pg_rows_text(rows, row, 0), *i = pg_rows_text(rows, row, 1);
	enum ferry_error e = FERRY_OK;
	buffer_init(&sealed, SEALED_MAX + 1);
	buffer_init(&plain, SECRET_BYTES_MAX + 1);
	buffer_init(&anew, SEALED_MAX);
	bool good = uuid_parse(t, strlen(t), &tenant) && uuid_parse(i, strlen(i), &id) && unhex(pg_rows_text(rows, row, 2), &sealed);
	enum ferry_error opened = good ? secret_open(&x->keys, &tenant, &id, sealed.p, sealed.n, &plain) : FERRY_CORRUPT;
	const uint8_t *key = secret_key_id_of(sealed.p, sealed.n);
	bool behind = !key || memcmp(key, x->keys.list[0].id, SECRET_KEY_ID_BYTES) != 0;
	x->total++;
	x->behind += behind;
	x->unknown += opened == FERRY_NOT_FOUND;
	x->bad += opened != FERRY_OK && opened != FERRY_NOT_FOUND;
	if (rotate && behind && opened == FERRY_OK) {
		e = secret_seal(&x->keys, &tenant, &id, plain.p, plain.n, &anew);
		if (e == FERRY_OK)
			e = use_tenant(db, t, why);
		if (e == FERRY_OK)
			e = replace(db, prefix, x, rows, row, &anew, why);
		x->changed += e == FERRY_OK;
	}
	if (plain.p)
		secret_wipe(plain.p, plain.capacity);
	buffer_deinit(&sealed);
	buffer_deinit(&plain);
	buffer_deinit(&anew);
	return e;
}

static enum ferry_error take_page(struct secrets *x, struct pg_admin *db, const char *prefix, bool rotate,
				  char tenant[UUID_TEXT], char id[UUID_TEXT], int *out_count, struct ferry_why *why)
{
	char sql[320];
	struct pg_rows *rows;
	const char *params[] = {tenant, id};
	snprintf(sql, sizeof(sql), "SELECT tenant_id, id, encode(ciphertext, 'hex') FROM %sgovernance.secrets "
		 "WHERE (tenant_id, id) > ($1::uuid, $2::uuid) ORDER BY 1, 2 LIMIT " PAGE_TEXT, prefix);
	enum ferry_error e = pg_admin_exec(db, "BEGIN", why);
	if (e == FERRY_OK)
		e = pg_admin_query(db, sql, params, 2, &rows, why);
	if (e != FERRY_OK)
		return e;
	*out_count = pg_rows_count(rows);
	for (int i = 0; e == FERRY_OK && i < *out_count; i++)
		e = take_one(x, db, prefix, rotate, rows, i, why);
	if (*out_count > 0) {
		snprintf(tenant, UUID_TEXT, "%s", pg_rows_text(rows, *out_count - 1, 0));
		snprintf(id, UUID_TEXT, "%s", pg_rows_text(rows, *out_count - 1, 1));
	}
	pg_rows_free(rows);
	return e == FERRY_OK ? pg_admin_exec(db, "COMMIT", why) : e;
}

static bool take_place(struct secrets *x, struct pg_admin *db, const char *prefix, bool rotate, int *out_exit)
{
	struct ferry_why why = {0};
	char tenant[UUID_TEXT] = "00000000-0000-0000-0000-000000000000", id[UUID_TEXT] = "00000000-0000-0000-0000-000000000000";
	enum ferry_error e = FERRY_OK;
	for (int count = PAGE; e == FERRY_OK && count == PAGE;)
		e = take_page(x, db, prefix, rotate, tenant, id, &count, &why);
	if (e != FERRY_OK)
		*out_exit = cli_fail_database(x->c, db, e, &why);
	return e == FERRY_OK;
}

static bool look(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant, int *out_exit)
{
	(void)conninfo;
	(void)tenant;
	return take_place(ctx, db, prefix, false, out_exit);
}

static bool rotate(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant, int *out_exit)
{
	(void)conninfo;
	(void)tenant;
	return take_place(ctx, db, prefix, true, out_exit);
}

static void forget_counts(struct secrets *x)
{
	x->total = x->behind = x->changed = x->bad = x->unknown = 0;
}

static struct json *counts(const struct secrets *x)
{
	struct json *o = json_new_object();
	json_put_text(o, "key", x->current);
	json_put_int(o, "secrets", x->total);
	json_put_int(o, "under_older_keys", x->behind - x->changed);
	json_put_int(o, "changed", x->changed);
	json_put_int(o, "damaged", x->bad);
	json_put_int(o, "key_missing", x->unknown);
	return o;
}

static int report_bad(struct secrets *x)
{
	struct ferry_why why;
	snprintf(why.text, sizeof(why.text), "%lld of %lld secrets do not open: %lld are damaged, of %lld the key is not in %.200s",
		 (long long)(x->bad + x->unknown), (long long)x->total, (long long)x->bad, (long long)x->unknown, x->path);
	return cli_fail(x->c, FERRY_CORRUPT, why.text, "Put the older key file's lines back, or set those secrets anew");
}

static int check(struct secrets *x)
{
	int exit_code = CLI_OK;
	if (!cli_each_place(x->c, &x->setting, x->home, look, x, &exit_code))
		return exit_code;
	if (x->bad + x->unknown > 0)
		return report_bad(x);
	return cli_print_done(x->c, counts(x), "%lld secrets open; %lld are under older keys", (long long)x->total,
			      (long long)x->behind);
}

int cli_secret_check(struct cli *c)
{
	struct secrets *x = calloc(1, sizeof(*x));
	int exit_code = CLI_OK;
	if (!x)
		return cli_fail(c, FERRY_NO_MEMORY, "there is no memory", NULL);
	if (begin(x, c, false, &exit_code))
		exit_code = check(x);
	return finish(x, exit_code);
}

/* A new key only when no rotation is unfinished, and nothing is damaged: it
 * would only be more to sort out. */
static int rotate_all(struct secrets *x)
{
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	x->dry = cli_flag(x->c, "dry-run");
	if (!cli_each_place(x->c, &x->setting, x->home, look, x, &exit_code))
		return exit_code;
	if (x->bad + x->unknown > 0)
		return report_bad(x);
	bool go_on = x->behind > 0;
	if (x->dry)
		return cli_print_done(x->c, counts(x), "%lld secrets would be encrypted with %s", (long long)(go_on ? x->behind : x->total),
				      go_on ? "the current key, as a rotation was cut short" : "a new key");
	enum ferry_error e = go_on ? FERRY_OK : secret_keys_add(x->path, &x->keys, &why);
	if (e != FERRY_OK)
		return cli_fail(x->c, e, why.text, NULL);
	note_current(x);
	forget_counts(x);
	if (!cli_each_place(x->c, &x->setting, x->home, rotate, x, &exit_code))
		return exit_code;
	return cli_print_done(x->c, counts(x), "%lld secrets are encrypted with key %s now", (long long)x->changed, x->current);
}

int cli_secret_rotate(struct cli *c)
{
	struct secrets *x = calloc(1, sizeof(*x));
	int exit_code = CLI_OK;
	if (!x)
		return cli_fail(c, FERRY_NO_MEMORY, "there is no memory", NULL);
	if (begin(x, c, false, &exit_code))
		exit_code = rotate_all(x);
	return finish(x, exit_code);
}
