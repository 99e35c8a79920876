/* verify: proves what stands in the replica by its checksums; with --hub
 * compares the sums of all that is held with the hub's, and with --repair
 * replaces the rows that differ, alone. An agent that runs does it itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli.h"
#include "agent/replica.h"
#include "agent/run.h"
#include "shared/log.h"

#define SQL_BYTES_MAX 256
#define PATIENCE_US INT64_C(60000000)

struct verifying {
	struct cli *c;
	struct cli_setting *s;
	bool hub, repair;
	long long repaired_before; /* the last row of ferry_repaired */
};

/* Every confirmed value anew. What differs is noted in ferry_mismatch. */
static enum ferry_error prove(struct verifying *v, bool *out_match, char detail[160], struct ferry_why *why)
{
	struct replica_options options = {.busy_timeout_ms = (int)(v->s->settings.busy_timeout_us / 1000)};
	struct replica *r = NULL;
	enum ferry_error e = replica_open(v->s->paths.replica, &options, &r, why);
	if (e == FERRY_OK)
		e = replica_checksum_recompute(r, out_match, detail, why);
	if (e == FERRY_OK && v->hub)
		e = replica_verify_soon(r, "ferry-agent verify", why);
	replica_close(r);
	return e;
}

static enum ferry_error ask_hub(struct verifying *v, struct ferry_why *why)
{
	struct run_options options = {.once = true, .patience_us = PATIENCE_US, .compare_only = !v->repair};
	log_open("ferry-agent", v->s->settings.log_level > LEVEL_INFO ? LEVEL_DEBUG : LEVEL_ERROR);
	return agent_run(&v->s->settings, &options, NULL, why);
}

static bool number(struct verifying *v, const char *sql, long long *out, int *exit_code)
{
	struct json *rows;
	if (!cli_query(v->c, v->s, sql, &rows, exit_code))
		return false;
	*out = json_int(json_get(json_at(rows, 0), "n"), 0);
	json_release(rows);
	return true;
}

static int report(struct verifying *v)
{
	char sql[SQL_BYTES_MAX];
	struct json *o = json_new_object(), *differences = NULL, *repaired = NULL;
	int exit_code = CLI_OK;
	snprintf(sql, sizeof(sql), "SELECT scope, \"table\", key, what, before, after FROM ferry_repaired WHERE id > %lld ORDER BY id",
		 v->repaired_before);
	if (!cli_query(v->c, v->s, "SELECT scope, \"table\", what FROM ferry_mismatch WHERE healed_at IS NULL ORDER BY 1, 2",
		       &differences, &exit_code) ||
	    !cli_query(v->c, v->s, sql, &repaired, &exit_code)) {
		json_release(differences);
		json_release(o);
		return exit_code;
	}
	size_t left = json_count(differences), done = json_count(repaired);
	const struct json *first = json_at(differences, 0);
	char detail[240] = "";
	if (first)
		snprintf(detail, sizeof(detail), "%.80s: %.120s", json_text(json_get(first, "table")),
			 json_text(json_get(first, "what")));
	json_put_bool(o, "match", left == 0);
	json_put_bool(o, "hub_asked", v->hub);
	json_put(o, "differences", differences);
	json_put(o, "repaired", repaired);
	if (left == 0)
		return cli_print_done(v->c, o, done ? "Every confirmed value is as the hub has it; %zu rows were repaired: see ferry_repaired"
						    : "Every confirmed value is as the hub gave it",
				      done);
	if (cli_json(v->c)) {
		(void)cli_print_done(v->c, o, "%s", detail);
		return CLI_PROBLEM;
	}
	json_release(o);
	return cli_fail(v->c, FERRY_MISMATCH, detail,
			"ferry-agent verify --repair, or the next run or sync, compares it with the hub and replaces the rows that "
			"differ; unsent changes stay");
}

/* The agent that runs proves its replica itself, and compares it with the hub
 * as it does after any difference: it repairs what it finds. */
static int verify_beside(struct verifying *v)
{
	struct ferry_why why = {0};
	struct json *answer = NULL;
	int exit_code = CLI_OK;
	if (v->hub && !v->repair)
		return cli_fail(v->c, FERRY_EXISTS, "ferry-agent is running on this replica, and repairs what it finds",
				"Use --repair, or stop it to compare alone");
	if (!number(v, "SELECT coalesce(max(id), 0) AS n FROM ferry_repaired", &v->repaired_before, &exit_code))
		return exit_code;
	enum ferry_error e = cli_local_ask(v->s->paths.socket, v->hub ? "{\"verify\":\"hub\"}" : "{\"verify\":\"replica\"}",
					   PATIENCE_US, &answer, &why);
	if (e == FERRY_OK && json_text(json_get(answer, "failed")))
		e = ferry_fail(&why, FERRY_BUSY, "%s", json_text(json_get(answer, "failed")));
	else if (e == FERRY_OK && !json_text(json_get(answer, "answer")))
		e = ferry_fail(&why, FERRY_EXISTS, "ferry-agent is running on this replica, and is older than this command");
	json_release(answer);
	if (e != FERRY_OK)
		return cli_fail(v->c, e, why.text, e == FERRY_BUSY ? "If another program writes, try again when it is done"
		    : e == FERRY_IO		   ? NULL
								    : "Stop the agent first, then verify again");
	if (!v->hub)
		return report(v);
	struct json *o = json_new_object();
	json_put_bool(o, "asked", true);
	return cli_print_done(v->c, o, "The running agent compares every row with the hub's, and replaces those that differ: see "
				       "ferry-agent status, ferry_mismatch and ferry_repaired");
}

static int verify(struct verifying *v)
{
	struct ferry_why why = {0};
	char detail[160] = "";
	bool match = false;
	int exit_code = CLI_OK, lock = -1;
	enum ferry_error e = files_lock(v->s->paths.lock, &lock, &why);
	if (e == FERRY_EXISTS)
		return verify_beside(v);
	if (e != FERRY_OK)
		return cli_fail(v->c, e, why.text, "Run this as the user that ferry-agent runs as");
	e = prove(v, &match, detail, &why);
	close(lock); /* asking the hub takes it again */
	if (e == FERRY_OK && !number(v, "SELECT coalesce(max(id), 0) AS n FROM ferry_repaired", &v->repaired_before, &exit_code))
		return exit_code;
	if (e == FERRY_OK && v->hub)
		e = ask_hub(v, &why);
	return e == FERRY_OK ? report(v) : cli_fail(v->c, e, why.text, NULL);
}

int cli_verify(struct cli *c)
{
	struct cli_setting s;
	struct verifying v = {.c = c, .s = &s, .repair = cli_flag(c, "repair")};
	int exit_code = CLI_OK;
	v.hub = v.repair || cli_flag(c, "hub");
	if (cli_setting_init(c, &s, &exit_code)) {
		if (files_exists(s.paths.replica))
			exit_code = verify(&v);
		else
			exit_code = cli_fail(c, FERRY_NOT_ENROLLED, "there is no replica: this device is not enrolled",
					     "Run ferry-agent enrol with a token, or name the folder with --state-dir");
	}
	cli_setting_deinit(&s);
	return exit_code;
}
