#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/cli.h"
#include "shared/flags_command.h"
#include "shared/link_http.h"

#define SETTINGS_BYTES_MAX (1u << 20)
#define ADMIN_TIMEOUT_US   INT64_C(5000000)

const struct cli_option hub_options[] = {
	{"config", "FILE", "the configuration (default " HUB_CONFIG_FILE ", if there)"},
	{"state-dir", "DIR", "the state folder (default $FERRY_HUB_DIR, else " HUB_STATE_DIR ")"},
	{"database", "CONNINFO", "how to connect to PostgreSQL, instead of what the configuration says"},
	{"check-config", NULL, "check the configuration and end"},
	{"print-config", NULL, "print the configuration in force and end"},
	{NULL, NULL, NULL},
};

static const struct cli_option migrate_options[] = {
	{"dry-run", NULL, "only show what would be done"},
	{"all-placements", NULL, "also the databases and sets of schemas that tenants have to themselves"},
	{"sql", "DIR", "folder of the migrations"},
	{NULL, NULL, NULL},
};

static const struct cli_option token_options[] = {
	{"tenant", "TENANT", "slug or uuid of the tenant (required)"},
	{"name", "NAME", "name of the device to be (required)"},
	{"scope", "SCOPE", "a scope the device gets beside tenant and global: project:<uuid>; may be repeated"},
	{"user", "USER", "e-mail or uuid of its user; gives the scope user:<uuid>"},
	{"class", "CLASS", "device class (default generic)"},
	{"ttl", "TIME", "how long the token is good: 30min, 24h, 7d (default 24h)"},
	{NULL, NULL, NULL},
};

static const struct cli_option list_options[] = {
	{"tenant", "TENANT", "only of this tenant (slug or uuid)"},
	{NULL, NULL, NULL},
};

static const struct cli_option tenant_options[] = {
	{"slug", "SLUG", "short name for the command line (default: made from the name)"},
	{"isolation", "LEVEL", "shared-database (default), dedicated-schema, dedicated-database, dedicated-instance"},
	{"conninfo", "CONNINFO", "where its database differs from the home one: host, port, dbname, passfile; no user, no password"},
	{"sql", "DIR", "folder of the migrations"},
	{NULL, NULL, NULL},
};

static const struct cli_option status_options[] = {
	{"dry-run", NULL, "only say what would be done"},
	{NULL, NULL, NULL},
};

static const struct cli_option delete_options[] = {
	{"dry-run", NULL, "only say what would be done"},
	{"confirm", "SLUG", "the tenant's slug once more"},
	{NULL, NULL, NULL},
};

static const struct cli_option limit_options[] = {
	{"max-users", "N", "users that are neither deactivated nor deleted; none: no limit"},
	{"max-storage", "MIB", "what all its rows may take, in MiB; none: no limit"},
	{"max-calls", "N", "sessions of devices a month; none: no limit"},
	{NULL, NULL, NULL},
};

static const struct cli_option maintain_options[] = {
	{"dry-run", NULL, "only say what would be done"},
	{"tenant", "TENANT", "only for this tenant (slug or uuid)"},
	{"keep-changes", "TIME", "how long the engine's list of changes reaches back (default 7d)"},
	{"keep-tombstones", "TIME", "how long deletions are remembered (default 90d); a device that is away for longer is filled anew"},
	{NULL, NULL, NULL},
};

static const struct cli_option verify_options[] = {
	{"repair", NULL, "capture these rows as they stand, so that devices get them"},
	{"tenant", "TENANT", "only of this tenant (slug or uuid)"},
	{"table", "TABLE", "only of this table"},
	{"limit", "N", "list so many rows of a table (default 1000); all are repaired"},
	{NULL, NULL, NULL},
};

static const struct cli_option bundle_options[] = {
	{"answer", "FILE", "also make the device's answer: verdicts, and what changed at the hub"},
	{NULL, NULL, NULL},
};

static const struct cli_option backup_options[] = {
	{"begin", NULL, "before the backup: note what it will surely hold"},
	{"dry-run", NULL, "only say which backup would be marked"},
	{NULL, NULL, NULL},
};

static const struct cli_option secret_options[] = {
	{"mfa-of", "USER", "e-mail or uuid of the user whose second factor it is"},
	{NULL, NULL, NULL},
};

static const struct cli_option flag_options[] = {
	{"tenant", "TENANT", "slug or uuid of the tenant (required)"},
	{"user", "USER", "e-mail or uuid of the user (default: nobody in particular)"},
	FLAG_OPTIONS,
	{NULL, NULL, NULL},
};

static const struct cli_option model_options[] = {
	{"counts", NULL, "count the rows of each table instead"},
	{NULL, NULL, NULL},
};

static const struct cli_option webhook_options[] = {
	{"once", NULL, "end when nothing is due any more, instead of waiting for more"},
	{"ca-file", "FILE", "the CAs that are trusted for https, PEM (default: the system's)"},
	{"allow-http", NULL, "send to other machines without TLS, too; payload and signature can be read on the way"},
	{"timeout", "SECONDS", "for one attempt (default 10)"},
	{NULL, NULL, NULL},
};

static const struct cli_option conflict_options[] = {
	{"tenant", "TENANT", "only of this tenant (slug or uuid)"},
	{"device", "DEVICE", "only of this device (name or uuid)"},
	{"table", "TABLE", "only of this table"},
	{"all", NULL, "also those that are resolved"},
	{"limit", "N", "the newest so many (default 200)"},
	{NULL, NULL, NULL},
};

static const struct cli_option resolve_options[] = {
	{"take", "SIDE", "device, hub, null, or value, with the value as a second argument (required)"},
	{"by", "NAME", "who chose (default: the role at the database)"},
	{"dry-run", NULL, "only say what would be done"},
	{NULL, NULL, NULL},
};

static const struct cli_option rejected_options[] = {
	{"tenant", "TENANT", "only of this tenant (slug or uuid)"},
	{"device", "DEVICE", "only of this device (name or uuid)"},
	{"limit", "N", "the newest so many (default 200)"},
	{NULL, NULL, NULL},
};

static const struct cli_option shown_options[] = {
	{"limit", "N", "so many rows of it (default 1000)"},
	{"skip", "N", "without the first so many"},
	{NULL, NULL, NULL},
};

const struct cli_command hub_commands[] = {
	{"serve", "", 0, 0, "run the hub",
	 "Makes the CA and the server's certificate at the first start. Refuses to start on a\n"
	 "database that is not migrated, or with a role that row-level security does not hold.",
	 "ferry-hub serve --config /etc/ferry/hub.yaml", NULL, cli_serve},
	{"init", "", 0, 0, "make the CA and the server's certificate in the state folder", NULL, "ferry-hub init", NULL,
	 cli_init},
	{"migrate", "", 0, 0, "bring the database's schema up to date",
	 "Each file runs once, in a transaction of its own. Run it as the owner of the database.",
	 "ferry-hub migrate --database \"dbname=crm user=postgres\"", migrate_options, cli_migrate},
	{"token create", "", 0, 0, "make a one-time token with which a device enrols", NULL,
	 "ferry-hub token create --tenant acme --name tablet-7 --scope project:0190a1b2-...", token_options,
	 cli_token_create},
	{"device list", "", 0, 0, "the enrolled devices", NULL, "ferry-hub device list --tenant acme", list_options,
	 cli_device_list},
	{"device revoke", "<device>", 1, 1, "turn a device away for good, at once", NULL,
	 "ferry-hub device revoke 0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001", NULL, cli_device_revoke},
	{"device release", "<device>", 1, 1, "let the copy of a device in that was turned away last",
	 "For a device that was restored from an older copy of its files, or whose replica was lost: it goes\n"
	 "on with what that copy holds, and any other copy of it is turned away. Nothing unsent is lost.",
	 "ferry-hub device release 0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001 --dry-run", status_options, cli_device_release},
	{"tenant create", "<name>", 1, 1, "make a tenant", NULL, "ferry-hub tenant create \"Acme Homes\" --slug acme",
	 tenant_options, cli_tenant_create},
	{"tenant suspend", "<tenant>", 1, 1, "stop its devices' sync at once; they keep their changes", NULL,
	 "ferry-hub tenant suspend acme", status_options, cli_tenant_suspend},
	{"tenant resume", "<tenant>", 1, 1, "let its devices sync (again)", NULL, "ferry-hub tenant resume acme", status_options,
	 cli_tenant_resume},
	{"tenant archive", "<tenant>", 1, 1, "make it read-only: its devices keep what they change", NULL,
	 "ferry-hub tenant archive acme", status_options, cli_tenant_archive},
	{"tenant delete", "<tenant>", 1, 1, "have all its devices remove its data, for good",
	 "What a device had not sent is kept in a file beside its replica. The rows at the hub\n"
	 "go with ferry-hub maintain.",
	 "ferry-hub tenant delete acme --confirm acme", delete_options, cli_tenant_delete},
	{"tenant limit", "<tenant>", 1, 1, "show what it uses, and set how much it may", NULL,
	 "ferry-hub tenant limit acme --max-users 50 --max-storage none", limit_options, cli_tenant_limit},
	{"tenant list", "", 0, 0, "the tenants", NULL, "ferry-hub tenant list", NULL, cli_tenant_list},
	{"maintain", "", 0, 0, "purge and archive what policies say, forget old changes, count storage",
	 "Once a day, in all places of tenants, as a role that row-level security does not hold.\n"
	 "Nothing else deletes rows by their age.",
	 "ferry-hub maintain --dry-run", maintain_options, cli_maintain},
	{"verify", "", 0, 0, "find rows that were written past the capture, and repair what devices have",
	 "In all places of tenants: rows whose values, scope or being there differ from what was\n"
	 "captured, as after triggers were disabled. Changes nothing without --repair. Ends with 1\n"
	 "when something was found and not repaired.",
	 "ferry-hub verify --tenant acme --repair", verify_options, cli_verify},
	{"bundle import", "<file>", 1, 1, "merge a device's changes that came as a file",
	 "As over a link: each change-set takes effect once, whichever way it comes first. Needs the\n"
	 "state folder, for the CA's key. A hub may run beside it or not.",
	 "ferry-hub bundle import tablet-7.bundle --answer tablet-7.answer", bundle_options, cli_bundle_import},
	{"bundle export", "<file> <answer>", 2, 2, "make the answer to a device's bundle without merging it",
	 "Brings the device from where it stood when it made the bundle to the present. For an answer\n"
	 "that was lost, or a device that is only to receive.",
	 "ferry-hub bundle export tablet-7.bundle tablet-7.answer", NULL, cli_bundle_export},
	{"backup-mark", "", 0, 0, "tell devices what a backup holds, so that they may forget it",
	 "With --begin before each backup, and without once it is complete and kept. Devices give back to a\n"
	 "restored hub what they have not been told to forget.",
	 "ferry-hub backup-mark --begin && pg_dump -Fc -f ferry.dump ferry && ferry-hub backup-mark", backup_options, cli_backup_mark},
	{"secret set", "<tenant> <name>", 2, 2, "store a secret, encrypted; its value is read from stdin",
	 "One newline at its end is left out. The key file is made when there is none.",
	 "ferry-hub secret set acme smtp-password < password.txt", secret_options, cli_secret_set},
	{"secret list", "<tenant>", 1, 1, "the names of a tenant's secrets and their keys", NULL, "ferry-hub secret list acme",
	 NULL, cli_secret_list},
	{"secret rotate", "", 0, 0, "encrypt all secrets with a new key",
	 "One that was cut short is finished first. The old keys stay in the file: backups need them.",
	 "ferry-hub secret rotate --dry-run", status_options, cli_secret_rotate},
	{"secret check", "", 0, 0, "see whether every secret opens", NULL, "ferry-hub secret check --json", NULL, cli_secret_check},
	{"conflict list", "", 0, 0, "edits of one value that had not seen each other", NULL,
	 "ferry-hub conflict list --tenant acme --table units", conflict_options, cli_conflict_list},
	{"conflict show", "<id>", 1, 1, "a conflict, and the row as it stands", NULL,
	 "ferry-hub conflict show 0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001", NULL, cli_conflict_show},
	{"conflict resolve", "<id> [value]", 1, 2, "choose a side of a conflict, or another value",
	 "What is chosen is written as SQL at the hub and goes to every device; who chose, and\n"
	 "when, stays with the conflict. A row that a deletion took comes back whole.",
	 "ferry-hub conflict resolve 0190a1b2-... --take value 'sea view' --by ann", resolve_options, cli_conflict_resolve},
	{"rejected list", "", 0, 0, "change-sets that were refused", NULL, "ferry-hub rejected list --tenant acme", rejected_options,
	 cli_rejected_list},
	{"rejected show", "<id>", 1, 1, "a refused change-set in words, and the hub's rows", NULL,
	 "ferry-hub rejected show 0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001/17", shown_options, cli_rejected_show},
	{"rejected requeue", "<id>", 1, 1, "merge a refused change-set again, as it came",
	 "Once what it was refused for is put right. It takes effect at most once, also when this\n"
	 "is cut short and tried again. Ends with 1 when it is refused again, and says why.",
	 "ferry-hub rejected requeue 0190a1b2-7d30-7cc1-8b1f-2f0f3ad0a001/17", status_options, cli_rejected_requeue},
	{"flags", "[name]", 0, 1, "which feature flags are on for a tenant or one of its users",
	 "The same answer as ferry-agent flags gives on a device: both ask one function.",
	 "ferry-hub flags --tenant acme --user ann@acme.com", flag_options, cli_flags},
	{"audit verify", "", 0, 0, "recompute the audit log's chains of hashes and name the first broken entry",
	 "Ends with 1 when a chain is broken. The last hash, noted elsewhere, shows later that\n"
	 "nothing was cut off the end.",
	 "ferry-hub audit verify --tenant acme", list_options, cli_audit_verify},
	{"model", "[table]", 0, 1, "the tenant model: domains, tables, and what devices get of them",
	 "With a table: its columns, what they mean, and how each syncs.", "ferry-hub model inventory.units", model_options,
	 cli_model},
	{"webhooks deliver", "", 0, 0, "send the webhooks that are due, signed, and try again what failed",
	 "Runs until it is ended, and several may run side by side. Targets must be https, but for\n"
	 "this machine.",
	 "ferry-hub webhooks deliver --once --json", webhook_options, cli_webhooks_deliver},
	{"status", "", 0, 0, "how the running hub is", NULL, "ferry-hub status --json", NULL, cli_status},
	{"sessions", "", 0, 0, "the devices connected to it", NULL, "ferry-hub sessions", NULL, cli_sessions},
	{"log-level", "<level>", 1, 1, "how much the running hub says: error, warning, info, debug", NULL,
	 "ferry-hub log-level debug", NULL, cli_log_level},
	{NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};

bool cli_setting_init(const struct cli *c, struct cli_setting *s, int *out_exit)
{
	struct ferry_why why = {0};
	arena_init(&s->arena, SETTINGS_BYTES_MAX);
	enum ferry_error e = hub_settings_load(cli_value(c, "config"), cli_value(c, "state-dir"), cli_value(c, "database"),
					       &s->arena, &s->settings, &why);
	return cli_settings_ready(c, &hub_config_table, &s->settings, e, &why, out_exit);
}

void cli_setting_deinit(struct cli_setting *s)
{
	arena_deinit(&s->arena);
}

int cli_config(struct cli *c)
{
	struct cli_setting s;
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code))
		exit_code = cli_fail(c, FERRY_USAGE, "no command is given", "See: ferry-hub --help");
	cli_setting_deinit(&s);
	return exit_code;
}

/* ---- database ---- */

bool cli_database(const struct cli *c, const struct cli_setting *s, struct pg_admin **out, int *out_exit)
{
	struct ferry_why why = {0};
	const char *conninfo = *s->settings.admin_database ? s->settings.admin_database : s->settings.database;
	enum ferry_error e = pg_admin_open(conninfo, out, &why);
	if (e == FERRY_OK)
		return true;
	*out_exit = cli_fail(c, e, why.text, "Check that PostgreSQL runs and what admin_database or --database says");
	return false;
}

int cli_fail_database(const struct cli *c, struct pg_admin *db, enum ferry_error e, const struct ferry_why *why)
{
	const char *state = pg_admin_sqlstate(db);
	/* 42P01, 3F000: no such table or schema; 42501: no right. */
	if (strcmp(state, "42P01") == 0 || strcmp(state, "3F000") == 0 || strcmp(state, "42883") == 0)
		return cli_fail(c, FERRY_CONFIG, why->text, "Run ferry-hub migrate first");
	if (strcmp(state, "42501") == 0)
		return cli_fail(c, FERRY_CONFIG, why->text, "Set admin_database to a role that may do this, or use --database");
	return cli_fail(c, e == FERRY_USAGE ? FERRY_INTERNAL : e, why->text, NULL);
}

static bool take_suffix(char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);
	if (n <= m || strcmp(name + n - m, suffix) != 0)
		return false;
	name[n - m] = '\0';
	return true;
}

struct json *cli_rows(const struct pg_rows *rows)
{
	struct json *list = json_new_array();
	for (int r = 0; r < pg_rows_count(rows); r++) {
		struct json *row = json_new_object();
		for (int k = 0; k < pg_rows_columns(rows); k++) {
			char name[80];
			const char *text = pg_rows_text(rows, r, k);
			snprintf(name, sizeof(name), "%s", pg_rows_name(rows, k));
			if (take_suffix(name, "::int") && text)
				json_put_int(row, name, strtoll(text, NULL, 10));
			else if (take_suffix(name, "::bool") && text)
				json_put_bool(row, name, text[0] == 't');
			else
				json_put_text(row, name, text);
		}
		json_add(list, row);
	}
	return list;
}

bool cli_tenant(const struct cli *c, struct pg_admin *db, const char *given, char out[UUID_TEXT], int *out_exit)
{
	struct ferry_why why = {0};
	struct pg_rows *rows;
	const char *params[] = {given};
	enum ferry_error e = pg_admin_query(db, "SELECT tenant_id FROM ferry.placement WHERE slug = $1 OR tenant_id::text = lower($1)",
					    params, 1, &rows, &why);
	if (e != FERRY_OK) {
		*out_exit = cli_fail_database(c, db, e, &why);
		return false;
	}
	bool found = pg_rows_count(rows) == 1;
	if (found)
		snprintf(out, UUID_TEXT, "%s", pg_rows_text(rows, 0, 0));
	pg_rows_free(rows);
	if (!found) {
		snprintf(why.text, sizeof(why.text), "there is no tenant %.80s", given);
		*out_exit = cli_fail(c, FERRY_NOT_FOUND, why.text, "See: ferry-hub tenant list");
	}
	return found;
}

bool cli_duration(const char *text, int64_t least_s, int64_t most_s, int64_t *out_s)
{
	static const struct {
		const char *unit;
		int64_t seconds;
	} units[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
	char *end;
	long long value = strtoll(text, &end, 10);
	if (end == text || value < 0 || value > most_s)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(end, units[i].unit) == 0) {
			*out_s = value * units[i].seconds;
			return *out_s >= least_s && *out_s <= most_s;
		}
	return false;
}

/* ---- the running hub ---- */

static struct json *answer_of(char *text, size_t n, unsigned status, struct ferry_why *why)
{
	struct json *answer = NULL;
	if (json_read_text(text, n, &answer, why) != FERRY_OK)
		return NULL;
	if (status == 200)
		return answer;
	const char *sentence = json_text(json_get(json_get(answer, "error"), "sentence"));
	snprintf(why->text, sizeof(why->text), "%s", sentence ? sentence : "the hub did not understand");
	json_release(answer);
	return NULL;
}

struct json *cli_ask_hub(const struct cli_setting *s, const char *path, struct json *body, struct ferry_why *why)
{
	char socket[FILES_PATH_MAX], *text = body ? json_write_text(body, true) : NULL, *answer_text;
	struct http_client_config config = {.unix_path = socket, .path = path, .body = text,
					    .body_bytes = text ? strlen(text) : 0, .timeout_us = ADMIN_TIMEOUT_US};
	struct json *answer = NULL;
	unsigned status;
	size_t n;
	json_release(body);
	enum ferry_error e = hub_admin_socket(&s->settings, socket, why);
	if (e == FERRY_OK && access(socket, R_OK | W_OK) != 0)
		e = errno == EACCES ? ferry_fail(why, FERRY_IO, "%s cannot be used: %s; run this as the user that ferry-hub runs as",
						 socket, strerror(EACCES))
				    : ferry_fail(why, FERRY_LINK_CLOSED, "no hub runs with the state folder %s", s->settings.state_dir);
	if (e == FERRY_OK)
		e = http_fetch_now(&config, &status, &answer_text, &n, why);
	if (e == FERRY_OK) {
		answer = answer_of(answer_text, n, status, why);
		free(answer_text);
	}
	free(text);
	return answer;
}
