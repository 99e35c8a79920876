/* ferry-hub webhooks deliver: sends the webhooks that are due. */
#include <stdlib.h>
#include <string.h>

#include "hub/cli.h"
#include "hub/webhooks.h"
#include "shared/files.h"

#define CA_FILE_DEFAULT	   "/etc/ssl/certs/ca-certificates.crt"
#define LOOK_AGAIN_US	   LOOP_SECOND_US
#define TIMEOUT_MAX_S	   30 /* well below the lease of a round */

struct sender {
	struct loop *loop;
	struct webhook_settings settings;
	struct webhook_counts counts;
	char *ca_pem;
	bool once, stopped;
};

static void on_signal(void *context, int signal_number)
{
	(void)signal_number;
	((struct sender *)context)->stopped = true;
}

static bool is_stopped(void *context)
{
	return ((struct sender *)context)->stopped;
}

/* Without --once: until a signal, looking every second. */
static enum ferry_error deliver(struct sender *s, struct pg_admin *db, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;
	while (e == FERRY_OK && !s->stopped) {
		int taken = 0;
		e = webhooks_round(db, s->loop, &s->settings, &s->counts, &taken, why);
		if (e != FERRY_OK || taken > 0)
			continue;
		if (s->once)
			break;
		(void)loop_run_until(s->loop, is_stopped, s, loop_now_us() + LOOK_AGAIN_US);
	}
	return e;
}

static int print_counts(const struct cli *c, const struct webhook_counts *counts)
{
	struct json *o = json_new_object();
	json_put_int(o, "sent", counts->sent);
	json_put_int(o, "delivered", counts->delivered);
	json_put_int(o, "again", counts->again);
	json_put_int(o, "failed", counts->failed);
	return cli_print_done(c, o, "%d sent: %d delivered, %d to be tried again, %d given up", counts->sent, counts->delivered,
			      counts->again, counts->failed);
}

static bool read_timeout(const struct cli *c, struct sender *s)
{
	const char *text = cli_value(c, "timeout");
	char *end;
	s->settings.timeout_us = WEBHOOK_TIMEOUT_US;
	if (!text)
		return true;
	long seconds = strtol(text, &end, 10);
	if (end == text || *end || seconds < 1 || seconds > TIMEOUT_MAX_S)
		return false;
	s->settings.timeout_us = seconds * LOOP_SECOND_US;
	return true;
}

/* The system's CAs may be missing; a file that was named may not. */
static enum ferry_error read_ca(const struct cli *c, struct sender *s, struct ferry_why *why)
{
	size_t n;
	const char *path = cli_value(c, "ca-file") ? cli_value(c, "ca-file") : CA_FILE_DEFAULT;
	if (!cli_value(c, "ca-file") && !files_exists(path))
		return FERRY_OK;
	enum ferry_error e = files_read(path, &s->ca_pem, &n, why);
	s->settings.ca_pem = s->ca_pem;
	return e;
}

static int run(struct cli *c, struct sender *s, struct pg_admin *db)
{
	struct ferry_why why = {0};
	enum ferry_error e = read_ca(c, s, &why);
	if (e == FERRY_OK)
		e = loop_new(NULL, &s->loop, &why);
	if (e == FERRY_OK)
		e = loop_signals(s->loop, on_signal, s, &why);
	if (e != FERRY_OK)
		return cli_fail(c, e, why.text, NULL);
	e = deliver(s, db, &why);
	return e == FERRY_OK ? print_counts(c, &s->counts) : cli_fail_database(c, db, e, &why);
}

int cli_webhooks_deliver(struct cli *c)
{
	struct cli_setting setting;
	struct pg_admin *db = NULL;
	struct sender s = {.once = cli_flag(c, "once")};
	int exit_code = CLI_OK;
	s.settings.allow_http = cli_flag(c, "allow-http");
	if (!read_timeout(c, &s))
		return cli_fail(c, FERRY_USAGE, "--timeout takes 1 to 30 seconds", NULL);
	if (cli_setting_init(c, &setting, &exit_code) && cli_database(c, &setting, &db, &exit_code))
		exit_code = run(c, &s, db);
	loop_free(s.loop);
	free(s.ca_pem);
	pg_admin_close(db);
	cli_setting_deinit(&setting);
	return exit_code;
}
