/* ferry-agent barrier: waits until the hub has confirmed what is committed. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/cli.h"

#define TIMEOUT_MAX_S 1000000

static int print_answer(const struct cli *c, const struct json *line)
{
	int64_t refused = json_int(json_get(line, "rejected"), 0), position = json_int(json_get(line, "position"), 0);
	struct json *o = json_new_object();
	json_put_bool(o, "durable", true);
	json_put_int(o, "position", position);
	json_put_int(o, "rejected", refused);
	if (refused == 0)
		return cli_print_done(c, o, "The hub has confirmed everything, at position %lld", (long long)position);
	(void)cli_print_done(c, o, "The hub has answered everything, and refused %lld change-sets: see ferry-agent rejected",
			     (long long)refused);
	return CLI_PROBLEM;
}

static int barrier(struct cli *c, const struct cli_setting *s, int64_t timeout_us)
{
	struct ferry_why why = {0};
	struct json *line = NULL;
	int exit_code;
	enum ferry_error e = cli_local_ask(s->paths.socket, "{\"wait\":\"durable\"}", timeout_us, &line, &why);
	if (e == FERRY_NOT_FOUND)
		return cli_fail(c, FERRY_LINK_CLOSED, "no agent runs on this state folder", "Start ferry-agent run, or use ferry-agent sync");
	if (e == FERRY_LINK_TIMEOUT)
		e = ferry_fail(&why, e, "the hub has not confirmed everything in time");
	exit_code = e == FERRY_OK ? print_answer(c, line)
				  : cli_fail(c, e, why.text, "Nothing is lost: the changes wait in the outbox (ferry-agent outbox)");
	json_release(line);
	return exit_code;
}

int cli_barrier(struct cli *c)
{
	struct cli_setting s;
	const char *text = cli_value(c, "timeout") ? cli_value(c, "timeout") : "60";
	char *end;
	int exit_code = CLI_OK;
	long long seconds = strtoll(text, &end, 10);
	if (end == text || *end || seconds < 0 || seconds > TIMEOUT_MAX_S)
		return cli_fail(c, FERRY_USAGE, "--timeout takes whole seconds", NULL);
	if (cli_setting_init(c, &s, &exit_code))
		exit_code = barrier(c, &s, seconds * 1000000);
	cli_setting_deinit(&s);
	return exit_code;
}
