/* ferry-agent barrier: waits until the hub has confirmed what is committed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli.h"

#define TIMEOUT_MAX_S 1000000

static int print_answer(const struct cli *c, const struct json *line)
{
	int64_t refused = json_int(json_get(line, "rejected"), 0), position = json_int(json_get(line, "position"), 0);
	int64_t parked = json_int(json_get(line, "parked"), 0);
	if (!json_text(json_get(line, "answer")))
		return cli_fail(c, FERRY_BUSY, json_text(json_get(line, "error")), NULL);
	struct json *o = json_new_object();
	json_put_bool(o, "durable", true);
	json_put_int(o, "position", position);
	json_put_int(o, "rejected", refused);
	json_put_int(o, "parked", parked);
	if (refused == 0 && parked > 0)
		return cli_print_done(c, o, "The hub has everything, at position %lld; %lld change-sets wait there: see ferry-agent outbox",
				      (long long)position, (long long)parked);
	if (refused == 0)
		return cli_print_done(c, o, "The hub has confirmed everything, at position %lld", (long long)position);
	(void)cli_print_done(c, o, "The hub has answered everything, and refused %lld change-sets: see ferry-agent rejected",
			     (long long)refused);
	return CLI_PROBLEM;
}

static void put_told(struct json *o, const struct json *line, const char *key)
{
	json_put_text(o, key, json_text(json_get(line, key)));
}

/* Of one transaction. */
static int print_told(const struct cli *c, const struct json *line)
{
	const char *note = json_text(json_get(line, "note")), *verdict = json_text(json_get(line, "verdict"));
	const char *sentence = json_text(json_get(line, "sentence")), *error = json_text(json_get(line, "error"));
	if (!verdict)
		return cli_fail(c, FERRY_NOT_FOUND, error ? error : "the agent that runs cannot wait for one transaction: restart it",
				"The transaction ends with INSERT INTO ferry_tx(note) VALUES (...)");
	bool refused = strcmp(verdict, "rejected") == 0;
	struct json *o = json_new_object();
	json_put_bool(o, "durable", true);
	put_told(o, line, "note");
	json_put_int(o, "number", json_int(json_get(line, "number"), 0));
	put_told(o, line, "verdict");
	put_told(o, line, "code");
	put_told(o, line, "sentence");
	json_put_int(o, "position", json_int(json_get(line, "position"), 0));
	(void)cli_print_done(c, o, "%s: %s%s%s", note ? note : "", verdict, sentence ? ": " : "", sentence ? sentence : "");
	return refused ? CLI_PROBLEM : CLI_OK;
}

/* What is asked, as a line; owned by the caller. */
static char *request_of(const char *note)
{
	struct json *o = json_new_object();
	char *text;
	json_put_text(o, "wait", "durable");
	if (note)
		json_put_text(o, "note", note);
	text = json_write_text(o, true);
	json_release(o);
	return text;
}

static int barrier(struct cli *c, const struct cli_setting *s, int64_t timeout_us)
{
	struct ferry_why why = {0};
	struct json *line = NULL;
	const char *note = cli_value(c, "note");
	char *request = request_of(note);
	int exit_code;
	enum ferry_error e = cli_local_ask(s->paths.socket, request, timeout_us, &line, &why);
	free(request);
	if (e == FERRY_NOT_FOUND)
		return cli_fail(c, FERRY_LINK_CLOSED, "no agent runs on this state folder", "Start ferry-agent run, or use ferry-agent sync");
	if (e == FERRY_LINK_TIMEOUT)
		e = ferry_fail(&why, e, note ? "the hub has not answered this transaction in time" : "the hub has not confirmed everything in time");
	exit_code = e == FERRY_OK && note ? print_told(c, line)
		    : e == FERRY_OK ? print_answer(c, line)
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
