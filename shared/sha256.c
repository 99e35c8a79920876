#include "shared/sha256.h"

#include <mbedtls/sha256.h>
#include <stdlib.h>

void sha256_of(const void *bytes, size_t n, uint8_t out[SHA256_BYTES])
{
	static const unsigned char nothing[1];

	/* It fails only where a hardware engine does; a wrong digest must not go on. */
	if (mbedtls_sha256(bytes ? bytes : nothing, n, out, 0) != 0)
		abort();
}

void hex_of(const uint8_t *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}

int secret_equal(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a;
	const volatile unsigned char *y = b;
	unsigned char differ = 0;

	for (size_t i = 0; i < n; i++)
		differ = (unsigned char)(differ | (x[i] ^ y[i]));
	return differ == 0;
}
