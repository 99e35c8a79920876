/* A library to preload: somebody else takes a port a moment after the program
 * has seen that it is free.
 *
 *   PORT_TAKEN=8443   the first bind() to it succeeds, the others fail */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

static long port_of(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)a)->sin_port);
	return a->sa_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)(const void *)a)->sin6_port) : -1;
}

/* The system's header names parameters with reserved words. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
int bind(int fd, const struct sockaddr *address, socklen_t size)
{
	static __typeof__(&bind) next;
	static int times;
	const char *taken = getenv("PORT_TAKEN");

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "bind");
	if (taken && port_of(address) == strtol(taken, NULL, 10) && times++ > 0) {
		errno = EADDRINUSE;
		return -1;
	}
	return next(fd, address, size);
}
