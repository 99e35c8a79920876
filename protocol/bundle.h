/* A bundle [P 12]: the messages of an exchange as a file, for where no link
 * leads. Here are its bytes; shared/pki_bundle.h seals and opens them.
 *
 *    8  "FERRYBDL"
 *    1  layout: 1
 *    1  kind: 1 of a device for its hub, 2 of a hub for a device
 *   32  recipient: SHA-256 of its certificate (of a hub: of its CA's)
 *   65  ephemeral public key: a point of P-256, uncompressed
 *    2  n: bytes of
 *    n  the sender's certificate, DER (of a hub: its CA's)
 *    8  m: bytes of
 *    m  the sealed records: AES-256-GCM, the tag at the end
 *    1  k: bytes of
 *    k  the signature: ECDSA of all before, SHA-256, DER
 *
 * Numbers are big-endian. A record is 4 bytes of length and a message in its
 * envelope [P 3]; the first one is a hello. */
#ifndef FERRY_PROTOCOL_BUNDLE_H
#define FERRY_PROTOCOL_BUNDLE_H

#include "protocol/arena.h"
#include "protocol/errors.h"

#define BUNDLE_BYTES_MAX ((size_t)256 << 20)
#define BUNDLE_FINGERPRINT_BYTES 32
#define BUNDLE_POINT_BYTES 65
#define BUNDLE_CERTIFICATE_MAX 3072
#define BUNDLE_TAG_BYTES 16
#define BUNDLE_SIGNATURE_MAX 80
#define BUNDLE_RECORD_MAX ((1u << 20) + 1024) /* an envelope */
#define BUNDLE_OVERHEAD_MAX 4096              /* all but the records, more or less */

enum bundle_kind { BUNDLE_FROM_DEVICE = 1, BUNDLE_FROM_HUB = 2 };

struct bundle { /* its parts: pointers into the bytes that were parsed */
	enum bundle_kind kind;
	const uint8_t *recipient, *point, *certificate, *sealed, *signature;
	size_t certificate_bytes, sealed_bytes, signature_bytes;
	size_t head_bytes;   /* authenticated along: all before `sealed` */
	size_t signed_bytes; /* all before the signature's length */
};

/* FERRY_CORRUPT: no bundle, or not all of one. */
FERRY_CHECK enum ferry_error bundle_parse(const uint8_t *bytes, size_t n, struct bundle *out, struct ferry_why *why);
/* All before the sealed records, whose length is given. FERRY_LIMIT: too large. */
FERRY_CHECK enum ferry_error bundle_head(const struct bundle *b, struct buffer *out);

/* Appends a record; what does not fit leaves the buffer overflowed. */
void bundle_add(struct buffer *records, const uint8_t *envelope, size_t n);
/* The record at *at, which moves on. False at the end, or (with *out_damaged)
 * where the rest is no record. */
bool bundle_next(const uint8_t *records, size_t n, size_t *at, const uint8_t **out, size_t *out_n, bool *out_damaged);

#endif
