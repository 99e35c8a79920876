#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli.h"
#include "agent/identity.h"
#include "agent/replica.h"
#include "shared/flags_command.h"

#define SETTINGS_BYTES_MAX (1u << 20)

const struct cli_option agent_options[] = {
	{"state-dir", "DIR", "the state folder (default $FERRY_AGENT_DIR, else " AGENT_STATE_DIR ")"},
	{"config", "FILE", "the configuration (default " AGENT_CONFIG_FILE ", if there)"},
	{"profile", "FILE", "a device class's profile, read before the configuration"},
	{"check-config", NULL, "check the configuration and end"},
	{"print-config", NULL, "print the configuration in force and end"},
	{NULL, NULL, NULL},
};

static const struct cli_option enrol_options[] = {
	{"hub", "HOST[:PORT]", "enrol at this address instead of the token's"},
	{"force", NULL, "enrol anew; the old replica is put aside"},
	{NULL, NULL, NULL},
};

static const struct cli_option sync_options[] = {
	{"wait", "SECONDS", "keep trying so long while the hub cannot be reached (default 0)"},
	{"patience", "SECONDS", "give up after so long without progress (default 60)"},
	{NULL, NULL, NULL},
};

static const struct cli_option sql_options[] = {
	{"read-only", NULL, "refuse statements that write"},
	{NULL, NULL, NULL},
};

static const struct cli_option verify_options[] = {
	{"hub", NULL, "also compare the sums of all that is held with the hub's"},
	{"repair", NULL, "and replace the rows that differ, from the hub"},
	{NULL, NULL, NULL},
};

static const struct cli_option barrier_options[] = {
	{"note", "TEXT", "wait for the transaction that wrote this into ferry_tx, and say what became of it"},
	{"timeout", "SECONDS", "give up after so long (default 60)"},
	{NULL, NULL, NULL},
};

static const struct cli_option dry_options[] = {
	{"dry-run", NULL, "only say what would be done"},
	{NULL, NULL, NULL},
};

static const struct cli_option retry_options[] = {
	{"set", "COLUMN=VALUE", "write another value instead of the refused one; may be repeated"},
	{"without", "COLUMN", "leave a value out, as a number that the hub shall give; may be repeated"},
	{"dry-run", NULL, "only say what would be done"},
	{NULL, NULL, NULL},
};

static const struct cli_option flag_options[] = {
	{"user", "UUID", "ask for this user instead of this device's"},
	FLAG_OPTIONS,
	{NULL, NULL, NULL},
};

const struct cli_command agent_commands[] = {
	{"enrol", "<token>", 1, 1, "make this device known to a hub",
	 "The key pair is made on this device and never leaves it. The token comes from\n"
	 "ferry-hub token create and can be used once.",
	 "ferry-agent enrol ferry1.AbCd...", enrol_options, cli_enrol},
	{"run", "", 0, 0, "keep the replica in step with the hub, for ever", NULL, "ferry-agent run --profile tablet.yaml",
	 NULL, cli_run},
	{"sync", "", 0, 0, "connect, exchange everything, end",
	 "Ends with 0 when all local changes are settled and the hub's are here, with 4 when\n"
	 "the hub cannot be reached.",
	 "ferry-agent sync --wait 30", sync_options, cli_sync},
	{"barrier", "", 0, 0, "wait until the hub has confirmed all that is committed now",
	 "Asks the agent that runs. Ends with 1 when something was refused meanwhile, with 4 when the\n"
	 "time is over or no agent runs.",
	 "ferry-agent barrier --timeout 30", barrier_options, cli_barrier},
	{"status", "", 0, 0, "where this device stands; also while the agent runs", NULL, "ferry-agent status --json", NULL,
	 cli_status},
	{"outbox", "", 0, 0, "local changes the hub has not confirmed", NULL, "ferry-agent outbox", NULL, cli_outbox},
	{"conflicts", "", 0, 0, "edits of one value that had not seen each other", NULL, "ferry-agent conflicts --json",
	 NULL, cli_conflicts},
	{"rejected", "", 0, 0, "changes the hub refused, with the reason", NULL, "ferry-agent rejected", NULL, cli_rejected},
	{"conflicts show", "<id>", 1, 1, "a conflict, and the row as it stands", NULL, "ferry-agent conflicts show 3", NULL,
	 cli_conflicts_show},
	{"conflicts put-back", "<id>", 1, 1, "write my value again, as a new edit that has seen the other", NULL,
	 "ferry-agent conflicts put-back 3", dry_options, cli_conflicts_put_back},
	{"conflicts take-theirs", "<id>", 1, 1, "write the value that mine met", NULL, "ferry-agent conflicts take-theirs 3",
	 dry_options, cli_conflicts_take_theirs},
	{"conflicts dismiss", "<id>", 1, 1, "leave what stands, and forget the conflict", NULL, "ferry-agent conflicts dismiss 3",
	 dry_options, cli_conflicts_dismiss},
	{"rejected show", "<number>", 1, 1, "a refused change-set with its values, and the rows as they stand", NULL,
	 "ferry-agent rejected show 17", NULL, cli_rejected_show},
	{"rejected retry", "<number>", 1, 1, "write the refused values again, all in one transaction",
	 "As new edits on the rows as they stand now. Put right first what the sentence says,\n"
	 "here with --set and --without, or in SQL by an UPDATE of ferry_rejected.",
	 "ferry-agent rejected retry 17 --set code=A-1204", retry_options, cli_rejected_retry},
	{"rejected merge", "<number>", 1, 1, "merge a refused new row into the one that has its unique value",
	 "Its values become an update of that row, and what was written for it refers to that row:\n"
	 "all in one transaction. Offered where the hub allows it for the table.",
	 "ferry-agent rejected merge 17", retry_options, cli_rejected_merge},
	{"rejected discard", "<number>", 1, 1, "give the refused values up", NULL, "ferry-agent rejected discard 17", dry_options,
	 cli_rejected_discard},
	{"flags", "[name]", 0, 1, "which feature flags are on here; also offline",
	 "The same answer as the hub's: both ask one function.", "ferry-agent flags new-map --json", flag_options, cli_flags},
	{"sql", "[statement]", 0, 1, "run SQL on the replica, as any app would",
	 "What it writes is captured and goes to the hub. Without a statement it is read from\n"
	 "standard input.",
	 "ferry-agent sql \"SELECT code, status FROM units LIMIT 5\"", sql_options, cli_sql},
	{"bundle export", "<file>", 1, 1, "write what the hub has not confirmed to a file for it",
	 "Where no link leads: signed by this device, and only its hub can read it. The changes stay\n"
	 "in the outbox; should the link come back first, they take effect once all the same. The\n"
	 "agent must not run.",
	 "ferry-agent bundle export /media/stick/tablet-7.bundle", NULL, cli_bundle_export},
	{"bundle import", "<file>", 1, 1, "take in the hub's answer to a bundle",
	 "Verdicts, and what changed at the hub; also a whole replica, for a device that has none.\n"
	 "An answer fits only where the replica stands as it did when it asked. The agent must not run.",
	 "ferry-agent bundle import /media/stick/tablet-7.answer", NULL, cli_bundle_import},
	{"verify", "", 0, 0, "prove the replica against its checksums",
	 "Computes the checksum of every confirmed value anew. A difference is noted, shown by\n"
	 "ferry-agent status, and healed at the next contact with the hub: the rows that differ are\n"
	 "replaced alone, unsent changes stay. Ends with 1 when something differs. Other programs\n"
	 "cannot write while it computes. A running agent proves it itself; it repairs what it finds,\n"
	 "so that --hub alone needs it stopped.",
	 "ferry-agent verify --repair", verify_options, cli_verify},
	{NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};

/* Else a folder that this user may not enter reads as one without a device. */
static bool may_enter(const struct cli *c, const struct cli_setting *s, int *out_exit)
{
	struct ferry_why why;
	if (access(s->paths.replica, F_OK) == 0 || errno != EACCES)
		return true;
	ferry_why_set(&why, "the state folder %.300s cannot be entered: %s", s->settings.state_dir, strerror(EACCES));
	*out_exit = cli_fail(c, FERRY_IO, why.text, "Run this as the user that ferry-agent runs as");
	return false;
}

bool cli_setting_init(const struct cli *c, struct cli_setting *s, int *out_exit)
{
	struct agent_settings_sources from = {cli_value(c, "profile"), cli_value(c, "config"), cli_value(c, "state-dir")};
	struct ferry_why why = {0};
	arena_init(&s->arena, SETTINGS_BYTES_MAX);
	enum ferry_error e = agent_settings_load(&from, &s->arena, &s->settings, &why);
	if (e == FERRY_OK)
		e = agent_paths_of(s->settings.state_dir, &s->paths, &why);
	return cli_settings_ready(c, &agent_config_table, &s->settings, e, &why, out_exit) && may_enter(c, s, out_exit);
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
		exit_code = cli_fail(c, FERRY_USAGE, "no command is given", "See: ferry-agent --help");
	cli_setting_deinit(&s);
	return exit_code;
}

static void put_field(struct json *row, const struct replica_field *f)
{
	char *end;
	if (!f->text || !f->number) {
		json_put_text(row, f->name, f->text);
		return;
	}
	long long whole = strtoll(f->text, &end, 10);
	double real = strtod(f->text, NULL);
	if (*end == '\0')
		json_put_int(row, f->name, whole);
	else if (isfinite(real))
		json_put_real(row, f->name, real);
	else /* JSON has no such number; as the hub's tables show it */
		json_put_text(row, f->name, real < 0 ? "-Infinity" : "Infinity");
}

struct json *cli_row(const struct replica_field *fields, int count)
{
	struct json *row = json_new_object();
	for (int i = 0; i < count; i++)
		put_field(row, &fields[i]);
	return row;
}

static bool take_row(void *ctx, const struct replica_field *fields, int count)
{
	json_add(ctx, cli_row(fields, count));
	return true;
}

bool cli_query(const struct cli *c, const struct cli_setting *s, const char *sql, struct json **out_rows, int *out_exit)
{
	struct ferry_why why = {0};
	struct json *rows = json_new_array();
	enum ferry_error e = FERRY_OK;
	if (!identity_exists(s->paths.identity) && !files_exists(s->paths.replica))
		e = ferry_fail(&why, FERRY_NOT_ENROLLED, "this device is not enrolled (state folder %s)",
			       s->settings.state_dir);
	if (e == FERRY_OK)
		e = replica_query(s->paths.replica, sql, true, take_row, rows, &why);
	if (e == FERRY_USAGE) /* the statement is ours: what it reads was taken away */
		e = FERRY_CORRUPT;
	if (e == FERRY_OK) {
		*out_rows = rows;
		return true;
	}
	json_release(rows);
	*out_exit = cli_fail(c, e, why.text,
			     e == FERRY_NOT_ENROLLED ? "Run ferry-agent enrol with a token, or name the folder with --state-dir"
			     : e == FERRY_CORRUPT    ? "Enrol anew with --force, which puts the file aside"
						     : NULL);
	if (e == FERRY_CORRUPT)
		*out_exit = CLI_PERSON;
	return false;
}
