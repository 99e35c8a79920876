/* ferry-agent barrier: waits until the hub has confirmed what is committed. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/cli.h"
#include "agent/local_feed.h"
#include "shared/clock.h"

#define TIMEOUT_MAX_S 1000000

struct answer {
	struct json *line;
	char bytes[LOCAL_QUEUE_BYTES_MAX + 512]; /* a line fits into the other side's queue */
	size_t n;
};

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Takes whole lines out; true: one of them is the answer. */
static bool find_answer(struct answer *a)
{
	char *end;
	while (!a->line && (end = memchr(a->bytes, '\n', a->n)) != NULL) {
		struct json *line = NULL;
		size_t n = (size_t)(end - a->bytes);
		if (json_read_text(a->bytes, n, &line, NULL) == FERRY_OK && json_text(json_get(line, "answer")))
			a->line = line;
		else
			json_release(line);
		a->n -= n + 1;
		memmove(a->bytes, end + 1, a->n);
	}
	return a->line != NULL;
}

/* FERRY_LINK_TIMEOUT, FERRY_LINK_CLOSED: the agent ended meanwhile. */
static enum ferry_error wait_answer(int fd, int64_t deadline_us, struct answer *a, struct ferry_why *why)
{
	static const char request[] = "{\"wait\":\"durable\"}\n";
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
		return ferry_fail(why, FERRY_LINK_CLOSED, "the agent does not answer");
	while (!find_answer(a)) {
		int64_t left_us = deadline_us - clock_monotonic_us();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (left_us <= 0 || a->n == sizeof(a->bytes))
			return ferry_fail(why, FERRY_LINK_TIMEOUT, "the hub has not confirmed everything in time");
		if (poll(&p, 1, left_us > 1000000 ? 1000 : (int)(left_us / 1000) + 1) <= 0)
			continue;
		ssize_t n = recv(fd, a->bytes + a->n, sizeof(a->bytes) - a->n, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ferry_fail(why, FERRY_LINK_CLOSED, "the agent ended meanwhile");
		a->n += (size_t)n;
	}
	return FERRY_OK;
}

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
	struct answer *a;
	int fd = connect_to(s->paths.socket), exit_code;
	if (fd < 0)
		return cli_fail(c, FERRY_LINK_CLOSED, "no agent runs on this state folder", "Start ferry-agent run, or use ferry-agent sync");
	a = calloc(1, sizeof(*a));
	enum ferry_error e = a ? wait_answer(fd, clock_monotonic_us() + timeout_us, a, &why) : FERRY_NO_MEMORY;
	exit_code = e == FERRY_OK ? print_answer(c, a->line)
				  : cli_fail(c, e, why.text, "Nothing is lost: the changes wait in the outbox (ferry-agent outbox)");
	if (a)
		json_release(a->line);
	free(a);
	close(fd);
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
