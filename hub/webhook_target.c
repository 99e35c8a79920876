/* The address of a webhook's target, taken apart. */
#include <stdio.h>
#include <string.h>

#include "hub/webhooks.h"

static enum ferry_error refuse(struct ferry_why *why, const char *what)
{
	return ferry_fail(why, FERRY_USAGE, "the target's address %s", what);
}

/* This machine, by its names and addresses; what a name resolves to does not count. */
static bool is_loopback(const char *host)
{
	unsigned octets = 0;
	if (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0)
		return true;
	if (strncmp(host, "127.", 4) != 0)
		return false;
	for (const char *p = host; *p; p++) {
		if (*p == '.')
			octets++;
		else if (*p < '0' || *p > '9')
			return false;
	}
	return octets == 3;
}

static bool take_port(const char *text, size_t n, int *out)
{
	long port = 0;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9' || port > 65535)
			return false;
		port = port * 10 + (text[i] - '0');
	}
	*out = (int)port;
	return n > 0 && port >= 1 && port <= 65535;
}

static bool host_is_valid(const char *host)
{
	if (!*host)
		return false;
	for (const char *p = host; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr(".-_:", *p)))
			return false;
	return true;
}

/* host, host:port, [v6], [v6]:port */
static bool take_authority(const char *text, size_t n, struct webhook_target *out)
{
	const char *close = text[0] == '[' ? memchr(text, ']', n) : NULL;
	const char *host = close ? text + 1 : text;
	const char *end = close ? close : memchr(text, ':', n);
	const char *rest = close ? close + 1 : end ? end : text + n;
	size_t host_n = (size_t)((end ? end : text + n) - host);
	size_t left = (size_t)(text + n - rest);
	if ((text[0] == '[' && !close) || host_n >= sizeof(out->host))
		return false;
	memcpy(out->host, host, host_n);
	out->host[host_n] = '\0';
	if (left > 0 && (*rest != ':' || !take_port(rest + 1, left - 1, &out->port)))
		return false;
	return host_is_valid(out->host) && (close || !strchr(out->host, ':'));
}

enum ferry_error webhook_target_read(const char *url, struct webhook_target *out, struct ferry_why *why)
{
	struct webhook_target t = {0};
	size_t n = strlen(url);
	if (n > WEBHOOK_URL_MAX)
		return refuse(why, "is too long");
	for (const char *p = url; *p; p++)
		if (*p <= ' ' || *p > '~')
			return refuse(why, "holds a character that must be percent-encoded");
	t.plain = strncmp(url, "http://", 7) == 0;
	if (!t.plain && strncmp(url, "https://", 8) != 0)
		return refuse(why, "must begin with https://");
	t.port = t.plain ? 80 : 443;
	const char *authority = url + (t.plain ? 7 : 8);
	size_t authority_n = strcspn(authority, "/?#");
	if (memchr(authority, '@', authority_n))
		return refuse(why, "must not hold a user's name");
	if (authority_n == 0 || !take_authority(authority, authority_n, &t))
		return refuse(why, "names no valid host and port");
	const char *path = authority + authority_n;
	if (strchr(path, '#'))
		return refuse(why, "must not hold a fragment");
	snprintf(t.path, sizeof(t.path), "%s%s", *path == '/' ? "" : "/", path);
	t.loopback = is_loopback(t.host);
	*out = t;
	return FERRY_OK;
}
