/* serve, init, migrate; status, sessions and log level of a running hub. */
#include <stdio.h>
#include <stdlib.h>

#include "hub/authority.h"
#include "hub/cli.h"
#include "hub/serve.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/sha256.h"

static const char *serve_todo(enum ferry_error e)
{
	switch (e) {
	case FERRY_DATABASE:
		return "Check that PostgreSQL runs and what database says in the configuration";
	case FERRY_EXISTS:
		return "Another program listens there: stop it, or choose other ports";
	default:
		return NULL;
	}
}

int cli_serve(struct cli *c)
{
	struct cli_setting s;
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code)) {
		log_open("ferry-hub", (enum log_level)s.settings.log_level);
		enum ferry_error e = hub_serve(&s.settings, &why);
		if (e != FERRY_OK)
			exit_code = cli_fail(c, e, why.text, serve_todo(e));
	}
	cli_setting_deinit(&s);
	return exit_code;
}

int cli_init(struct cli *c)
{
	struct cli_setting s;
	struct authority a;
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code)) {
		enum ferry_error e = authority_open(&s.settings, clock_wall_us() / 1000000, &a, &why);
		if (e != FERRY_OK) {
			exit_code = cli_fail(c, e, why.text, NULL);
		} else {
			char print[2 * PKI_FINGERPRINT_BYTES + 1];
			struct json *o = json_new_object();
			hex_of(a.ca_fingerprint, sizeof(a.ca_fingerprint), print);
			json_put_text(o, "state_dir", s.settings.state_dir);
			json_put_text(o, "ca_fingerprint", print);
			json_put_bool(o, "made_ca", a.made_ca);
			exit_code = cli_print_done(c, o, "%s %s; its fingerprint is %s",
						   a.made_ca ? "A new CA is in" : "The CA is in", s.settings.state_dir, print);
			authority_close(&a);
		}
	}
	cli_setting_deinit(&s);
	return exit_code;
}

/* ---- a running hub ---- */

static int not_running(const struct cli *c, const struct ferry_why *why)
{
	return cli_fail(c, FERRY_LINK_CLOSED, why->text, "Start it with ferry-hub serve, or name its folder with --state-dir");
}

/* Who holds rows that change-sets may wait for (R12); NULL: the database cannot be asked now. */
static struct json *lock_holders(const struct cli_setting *s)
{
	const char *conninfo = *s->settings.admin_database ? s->settings.admin_database : s->settings.database;
	struct pg_admin *db = NULL;
	struct pg_rows *rows;
	struct ferry_why why;
	struct json *list = NULL;
	(void)setenv("PGCONNECT_TIMEOUT", "2", 0); /* the hub's own answer is here already */
	if (pg_admin_open(conninfo, &db, &why) == FERRY_OK &&
	    pg_admin_query(db,
			   "SELECT h.pid AS \"pid::int\", h.role, h.application, h.client, h.since, h.state, "
			   "array_to_string(h.tables, ', ') AS tables FROM ferry.lock_holders() h "
			   "WHERE h.since < now() - interval '1 second' ORDER BY h.since",
			   NULL, 0, &rows, &why) == FERRY_OK) {
		list = cli_rows(rows);
		pg_rows_free(rows);
	}
	pg_admin_close(db);
	return list;
}

static int print_status(const struct cli *c, struct json *answer, struct json *holders)
{
	static const struct cli_column columns[] = {{"state", NULL},	   {"version", NULL},	 {"pid", NULL},
						    {"device_port", "device port"}, {"enrol_port", "enrolment port"},
						    {"devices", NULL},	   {"sessions", NULL},	 {"tenants", NULL},
						    {"merge_queue", "merge queue"}, {"merges", NULL},
						    {"change_sets", "change-sets"}, {"rejected", NULL},
						    {"superseded", NULL},   {"feeds", NULL},	 {"frames_sent", "frames sent"},
						    {"bytes_sent", "bytes sent"}, {"bytes_received", "bytes received"},
						    {"database", NULL},	   {NULL, NULL}};
	static const struct cli_column who[] = {{"pid", NULL}, {"role", NULL}, {"application", NULL}, {"client", NULL},
						{"since", NULL}, {"state", NULL}, {"tables", NULL}, {NULL, NULL}};
	bool any = holders && json_count(holders) > 0;
	if (cli_json(c)) {
		json_put(answer, "lock_holders", holders);
		return cli_print_object(c, answer, columns);
	}
	int exit_code = cli_print_object(c, answer, columns);
	if (!any) {
		json_release(holders);
		return exit_code;
	}
	puts("\nChange-sets that touch rows which these open transactions hold wait for them:");
	return cli_print_rows(c, holders, who, "");
}

int cli_status(struct cli *c)
{
	struct cli_setting s;
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code)) {
		struct json *answer = cli_ask_hub(&s, "/v1/status", NULL, &why);
		exit_code = answer ? print_status(c, answer, lock_holders(&s)) : not_running(c, &why);
	}
	cli_setting_deinit(&s);
	return exit_code;
}

int cli_sessions(struct cli *c)
{
	static const struct cli_column columns[] = {{"tenant", NULL}, {"device", NULL}, {"bookmark", NULL}, {"state", NULL},
						    {NULL, NULL}};
	struct cli_setting s;
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code)) {
		struct json *answer = cli_ask_hub(&s, "/v1/sessions", NULL, &why);
		exit_code = answer ? cli_print_rows(c, answer, columns, "No device is connected.") : not_running(c, &why);
	}
	cli_setting_deinit(&s);
	return exit_code;
}

int cli_log_level(struct cli *c)
{
	struct cli_setting s;
	struct ferry_why why = {0};
	enum log_level level;
	int exit_code = CLI_OK;
	if (!log_level_from_name(cli_argument(c, 0), &level))
		return cli_fail(c, FERRY_USAGE, "the level is one of error, warning, info, debug", NULL);
	if (cli_setting_init(c, &s, &exit_code)) {
		struct json *body = json_new_object();
		json_put_text(body, "level", cli_argument(c, 0));
		struct json *answer = cli_ask_hub(&s, "/v1/log-level", body, &why);
		exit_code = answer ? cli_print_done(c, answer, "the hub's log level is %s now", cli_argument(c, 0))
				   : not_running(c, &why);
	}
	cli_setting_deinit(&s);
	return exit_code;
}
