/* Asking the agent that runs on a state folder, by its local socket. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/cli.h"
#include "agent/local_feed.h"
#include "shared/clock.h"

struct answer {
	struct json *line;
	char bytes[LOCAL_QUEUE_BYTES_MAX + 512]; /* a line fits into the other side's queue */
	size_t n;
};

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	errno = ENOENT;
	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		int reason = errno;
		close(fd);
		errno = reason;
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
		if (json_read_text(a->bytes, n, &line, NULL) == FERRY_OK && !json_get(line, "event"))
			a->line = line; /* an answer, or that the request is unknown */
		else
			json_release(line);
		a->n -= n + 1;
		memmove(a->bytes, end + 1, a->n);
	}
	return a->line != NULL;
}

/* FERRY_LINK_TIMEOUT, FERRY_LINK_CLOSED: the agent ended meanwhile. */
static enum ferry_error wait_answer(int fd, const char *request, int64_t deadline_us, struct answer *a, struct ferry_why *why)
{
	const ssize_t length = (ssize_t)strlen(request);
	if (send(fd, request, (size_t)length, MSG_NOSIGNAL) != length || send(fd, "\n", 1, MSG_NOSIGNAL) != 1)
		return ferry_fail(why, FERRY_LINK_CLOSED, "the agent does not answer");
	while (!find_answer(a)) {
		int64_t left_us = deadline_us - clock_monotonic_us();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (left_us <= 0 || a->n == sizeof(a->bytes))
			return ferry_fail(why, FERRY_LINK_TIMEOUT, "the agent has not answered in time");
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

enum ferry_error cli_local_ask(const char *socket_path, const char *request, int64_t timeout_us, struct json **out,
			       struct ferry_why *why)
{
	struct answer *a;
	enum ferry_error e;
	int fd = connect_to(socket_path);
	if (fd < 0 && errno == EACCES)
		return ferry_fail(why, FERRY_IO, "the agent's socket is not for this user: run this as the user that ferry-agent runs as");
	if (fd < 0)
		return ferry_fail(why, FERRY_NOT_FOUND, "no agent runs on this state folder");
	a = calloc(1, sizeof(*a));
	e = a ? wait_answer(fd, request, clock_monotonic_us() + timeout_us, a, why) : FERRY_NO_MEMORY;
	if (e == FERRY_OK)
		*out = a->line;
	else if (a)
		json_release(a->line);
	free(a);
	close(fd);
	return e;
}
