#include "shared/random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void random_bytes(void *out, size_t n)
{
	unsigned char *at = out;

	while (n > 0) {
		ssize_t got = getrandom(at, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		/* Only a kernel older than any we run on has no getrandom: keys made
		 * without it would be worse than none. */
		if (got <= 0)
			abort();
		at += got;
		n -= (size_t)got;
	}
}

uint64_t random_u64(void)
{
	uint64_t value;

	random_bytes(&value, sizeof value);
	return value;
}

void secret_wipe(void *secret, size_t n)
{
	if (secret && n > 0)
		explicit_bzero(secret, n);
}
