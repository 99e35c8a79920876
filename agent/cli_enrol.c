#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli.h"
#include "agent/enrol.h"
#include "shared/random.h"

/* "host", "host:port", "[2001:db8::1]:port", or a bare IPv6 address. */
static bool split_address(const char *text, char host[254], int *port)
{
	const char *colon = strrchr(text, ':'), *close = strchr(text, ']');
	bool bracketed = text[0] == '[' && close;
	bool has_port = colon && (bracketed ? colon == close + 1 : strchr(text, ':') == colon);
	size_t n = bracketed ? (size_t)(close - text - 1) : has_port ? (size_t)(colon - text) : strlen(text);
	if (n == 0 || n >= 254)
		return false;
	memcpy(host, text + bracketed, n);
	host[n] = '\0';
	*port = 0;
	if (has_port) {
		char *end;
		long value = strtol(colon + 1, &end, 10);
		if (end == colon + 1 || *end || value < 1 || value > 65535)
			return false;
		*port = (int)value;
	}
	return true;
}

static const char *todo_of(enum ferry_error e)
{
	switch (e) {
	case FERRY_BAD_TOKEN:
		return "Get a new one: ferry-hub token create";
	case FERRY_EXISTS:
		return "Use --force to enrol it anew; a running agent must be stopped first";
	case FERRY_LINK_CLOSED:
	case FERRY_LINK_TIMEOUT:
		return "Check the network and that the hub runs; --hub HOST:PORT names another address";
	default:
		return NULL;
	}
}

static int done(const struct cli *c, const struct identity *id, const char *set_aside)
{
	char device[UUID_TEXT], tenant[UUID_TEXT];
	struct json *o = json_new_object();
	uuid_format(&id->device, device);
	uuid_format(&id->tenant, tenant);
	json_put_text(o, "device", device);
	json_put_text(o, "tenant", tenant);
	json_put_text(o, "name", id->name);
	json_put_text(o, "hub_host", id->hub_host);
	json_put_int(o, "hub_port", id->hub_port);
	json_put_text(o, "set_aside", *set_aside ? set_aside : NULL);
	if (*set_aside && !cli_json(c))
		printf("The replica of before is kept as %s\n", set_aside);
	return cli_print_done(c, o, "Enrolled as %s (device %s) at %s:%d. Next: ferry-agent run", id->name, device,
			      id->hub_host, id->hub_port);
}

int cli_enrol(struct cli *c)
{
	struct cli_setting s;
	struct identity id;
	struct ferry_why why = {0};
	char host[254], set_aside[FILES_PATH_MAX];
	struct enrol_request request = {.token = cli_argument(c, 0), .force = cli_flag(c, "force")};
	int exit_code = CLI_OK;
	if (!cli_setting_init(c, &s, &exit_code)) {
		cli_setting_deinit(&s);
		return exit_code;
	}
	if (cli_value(c, "hub")) {
		if (!split_address(cli_value(c, "hub"), host, &request.port)) {
			cli_setting_deinit(&s);
			return cli_fail(c, FERRY_USAGE, "--hub takes HOST or HOST:PORT", NULL);
		}
		request.host = host;
	}
	enum ferry_error e = enrol(&s.settings, &request, &id, set_aside, &why);
	if (e == FERRY_OK) {
		exit_code = done(c, &id, set_aside);
		secret_wipe(&id, sizeof(id));
	} else {
		exit_code = cli_fail(c, e, why.text, todo_of(e));
	}
	cli_setting_deinit(&s);
	return exit_code;
}
