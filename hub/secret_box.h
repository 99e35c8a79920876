/* Secrets at rest: AES-256-GCM (NIST SP 800-38D) with keys from a file that
 * no database and no backup of one holds.
 *
 *   sealed   1 byte   layout, 1
 *            8 bytes  key id
 *           12 bytes  nonce, random
 *            n bytes  ciphertext
 *           16 bytes  tag
 *
 * Authenticated with it, though not stored: the layout and key id, the tenant
 * and the secret's id. So a sealed text that was put in another's place does
 * not open. The tag is looked at before any byte is given out.
 *
 * Key file (mode 0600): lines of 64 hexadecimal digits, the current key
 * first; '#' begins a comment. A key's id is the first 8 bytes of the SHA-256
 * of "ferry-secret-key" and the key. */
#ifndef FERRY_HUB_SECRET_BOX_H
#define FERRY_HUB_SECRET_BOX_H

#include <stddef.h>

#include "protocol/arena.h"
#include "protocol/errors.h"
#include "protocol/value.h"

#define SECRET_KEY_BYTES      32
#define SECRET_KEY_ID_BYTES   8
#define SECRET_KEYS_MAX	      32
#define SECRET_BYTES_MAX      65536
#define SECRET_OVERHEAD_BYTES 37

struct secret_key {
	uint8_t id[SECRET_KEY_ID_BYTES];
	uint8_t key[SECRET_KEY_BYTES];
};

struct secret_keys { /* the caller wipes it (secret_wipe) */
	struct secret_key list[SECRET_KEYS_MAX];
	int count; /* list[0] is the current one */
};

/* FERRY_NOT_FOUND: no such file. FERRY_CONFIG: others may read it, or it is
 * not of its form. */
FERRY_CHECK enum ferry_error secret_keys_load(const char *path, struct secret_keys *out, struct ferry_why *why);
/* A new current key, also in the file (made if need be), durably. */
FERRY_CHECK enum ferry_error secret_keys_add(const char *path, struct secret_keys *keys, struct ferry_why *why);

/* Appends the sealed text to out. FERRY_LIMIT: longer than SECRET_BYTES_MAX. */
FERRY_CHECK enum ferry_error secret_seal(const struct secret_keys *keys, const struct uuid *tenant,
					 const struct uuid *id, const void *plain, size_t n, struct buffer *out);
/* Appends the plain text to out, whose memory the caller wipes. FERRY_NOT_FOUND:
 * its key is not in the file. FERRY_CORRUPT: it does not open. */
FERRY_CHECK enum ferry_error secret_open(const struct secret_keys *keys, const struct uuid *tenant,
					 const struct uuid *id, const uint8_t *sealed, size_t n, struct buffer *out);
/* NULL: too short to have one. */
const uint8_t *secret_key_id_of(const uint8_t *sealed, size_t n);
/* The same with a nonce that is given: for known answers in tests alone. */
FERRY_CHECK enum ferry_error secret_seal_with(const struct secret_key *key, const uint8_t nonce[12],
					      const struct uuid *tenant, const struct uuid *id, const void *plain,
					      size_t n, struct buffer *out);

#endif
