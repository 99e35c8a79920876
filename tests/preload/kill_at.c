/* A library to preload: the program is killed before the n-th time that it
 * touches the world, which is a deterministic kill -9 at every step.
 *
 *   KILL_AT=7         before which one
 *   KILL_ARMED=path   counting starts when this file is there
 *
 * What counts: writing to, cutting and syncing a file, and sending. Output
 * to the standard streams does not. */
#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static void step(void)
{
	static long left = -1;
	static bool armed;
	const char *at = getenv("KILL_AT"), *path = getenv("KILL_ARMED");

	if (!at || !path)
		return;
	if (left < 0)
		left = strtol(at, NULL, 10);
	if (!armed)
		armed = access(path, F_OK) == 0;
	if (armed && --left == 0)
		kill(getpid(), SIGKILL);
}

#define NEXT(call) \
	static __typeof__(&call) next; \
	if (!next) \
		*(void **)&next = dlsym(RTLD_NEXT, #call)

/* The system's headers name parameters with reserved words. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	NEXT(pwrite64);
	step();
	return next(fd, p, n, at);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	NEXT(pwrite);
	step();
	return next(fd, p, n, at);
}

ssize_t write(int fd, const void *p, size_t n)
{
	NEXT(write);
	if (fd > STDERR_FILENO)
		step();
	return next(fd, p, n);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
	NEXT(send);
	step();
	return next(fd, p, n, flags);
}

int ftruncate64(int fd, off64_t length)
{
	NEXT(ftruncate64);
	step();
	return next(fd, length);
}

int ftruncate(int fd, off_t length)
{
	NEXT(ftruncate);
	step();
	return next(fd, length);
}

int fsync(int fd)
{
	NEXT(fsync);
	step();
	return next(fd);
}

int fdatasync(int fd)
{
	NEXT(fdatasync);
	step();
	return next(fd);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
