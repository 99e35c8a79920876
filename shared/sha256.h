/* SHA-256, for fingerprints and tokens. */
#ifndef FERRY_SHARED_SHA256_H
#define FERRY_SHARED_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES	 32
#define SHA256_HEX_BYTES 65 /* 64 digits and a NUL */

void sha256_of(const void *bytes, size_t n, uint8_t out[SHA256_BYTES]);

/* Lower-case hex of any digest: 2 * n digits and a NUL into out (2 * n + 1 bytes). */
void hex_of(const uint8_t *bytes, size_t n, char *out);

/* Compares in a time that does not depend on where two secrets differ. */
int secret_equal(const void *a, const void *b, size_t n);

#endif
