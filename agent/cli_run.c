#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/cli.h"
#include "agent/run.h"
#include "shared/log.h"

static const char *todo_of(enum ferry_error e)
{
	switch (e) {
	case FERRY_NOT_ENROLLED:
		return "Run ferry-agent enrol with a token, or name the folder with --state-dir";
	case FERRY_EXISTS:
		return "Stop it first, or just let it work: ferry-agent status shows how far it is";
	case FERRY_REVOKED:
	case FERRY_UNKNOWN_DEVICE:
	case FERRY_CLONE:
		return "Enrol this device again with a new token; what was not sent stays in the old replica";
	case FERRY_TENANT_DELETED:
		return "Ask the tenant's administrator; a new token makes this device one of another tenant";
	case FERRY_TENANT_ARCHIVED:
	case FERRY_QUOTA_STORAGE:
	case FERRY_TENANT_SUSPENDED:
	case FERRY_TENANT_INACTIVE:
	case FERRY_TENANT_PENDING:
	case FERRY_TENANT_MIGRATING:
	case FERRY_QUOTA_CALLS:
		return "Nothing is lost: changes wait in the outbox, and are sent once the tenant may sync again";
	case FERRY_VERSION:
		return "Install the newer of agent and hub on both sides";
	case FERRY_LINK_CLOSED:
	case FERRY_LINK_TIMEOUT:
		return "Nothing is lost: try again when the hub can be reached";
	default:
		return NULL;
	}
}

static int failed(const struct cli *c, enum ferry_error e, const struct ferry_why *why)
{
	int exit_code = cli_fail(c, e, why->text, todo_of(e));
	/* A service that is started again would find the same damaged file. */
	return e == FERRY_CORRUPT ? CLI_PERSON : exit_code;
}

int cli_run(struct cli *c)
{
	struct cli_setting s;
	struct run_options options = {0};
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	if (cli_setting_init(c, &s, &exit_code)) {
		log_open("ferry-agent", (enum log_level)s.settings.log_level);
		enum ferry_error e = agent_run(&s.settings, &options, NULL, &why);
		if (e != FERRY_OK)
			exit_code = failed(c, e, &why);
	}
	cli_setting_deinit(&s);
	return exit_code;
}

static bool seconds_of(const struct cli *c, const char *name, int64_t otherwise, int64_t *out_us)
{
	const char *text = cli_value(c, name);
	char *end;
	*out_us = otherwise * 1000000;
	if (!text)
		return true;
	long long value = strtoll(text, &end, 10);
	if (end == text || *end || value < 0 || value > 1000000)
		return false;
	*out_us = value * 1000000;
	return true;
}

/* One line that is written over itself. */
static void show_progress(void *ctx, const char *state, const struct store_status *status)
{
	(void)ctx;
	fprintf(stderr, "\r%-10s %" PRIu64 " change-sets to settle, at position %" PRId64 "\033[K", state,
		status->outbox_sets, status->position);
	fflush(stderr);
}

static int report_sync(const struct cli *c, const struct run_report *report)
{
	const struct store_status *s = &report->status;
	struct json *o = json_new_object();
	json_put_bool(o, "caught_up", true);
	json_put_int(o, "position", s->position);
	json_put_int(o, "outbox_sets", (int64_t)s->outbox_sets);
	json_put_int(o, "rejected", (int64_t)s->rejected);
	json_put_int(o, "conflicts", (int64_t)s->conflicts);
	json_put_int(o, "clock_offset_us", report->clock_offset_us);
	return cli_print_done(c, o, "Caught up at position %" PRId64 "; %" PRIu64 " rejected, %" PRIu64 " conflicts so far",
			      s->position, s->rejected, s->conflicts);
}

int cli_sync(struct cli *c)
{
	struct cli_setting s;
	struct run_options options = {.once = true};
	struct run_report report = {0};
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	bool shown = isatty(STDERR_FILENO) && !cli_json(c);
	if (!seconds_of(c, "wait", 0, &options.wait_us) || !seconds_of(c, "patience", 60, &options.patience_us))
		return cli_fail(c, FERRY_USAGE, "--wait and --patience take whole seconds", NULL);
	if (options.patience_us < options.wait_us)
		options.patience_us = options.wait_us;
	options.progress = shown ? show_progress : NULL;
	if (cli_setting_init(c, &s, &exit_code)) {
		log_open("ferry-agent", s.settings.log_level > LEVEL_INFO ? LEVEL_DEBUG : LEVEL_ERROR);
		enum ferry_error e = agent_run(&s.settings, &options, &report, &why);
		if (shown)
			fputs("\r\033[K", stderr);
		exit_code = e == FERRY_OK ? report_sync(c, &report) : failed(c, e, &why);
	}
	cli_setting_deinit(&s);
	return exit_code;
}
