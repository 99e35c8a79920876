/* Seals and opens bundles [P 12] with the keys that the link's TLS uses: a
 * device's own, and for a hub its CA's, which is all that a device knows of
 * its hub while no link leads there.
 *
 * The key of a bundle: HKDF-SHA256 (RFC 5869) of the ECDH secret of a fresh
 * key and the recipient's; salt: SHA-256 of all bytes before the certificate's
 * length; info: "ferry.v1 bundle". 32 bytes are the key of AES-256-GCM (NIST
 * SP 800-38D), 12 its nonce; authenticated along are all bytes before the
 * sealed ones. The signature is looked at first, then the tag; nothing is
 * given out before both held. */
#ifndef FERRY_SHARED_PKI_BUNDLE_H
#define FERRY_SHARED_PKI_BUNDLE_H

#include "protocol/bundle.h"
#include "shared/pki.h"

/* A file of up to BUNDLE_BYTES_MAX, appended to out. FERRY_NOT_FOUND, FERRY_IO, FERRY_CORRUPT (larger). */
FERRY_CHECK enum ferry_error bundle_file_read(const char *path, struct buffer *out, struct ferry_why *why);

/* Appends the whole file to out. key and certificate: the sender's, PEM; the recipient's
 * certificate: DER. FERRY_LIMIT: it does not fit. */
FERRY_CHECK enum ferry_error pki_bundle_seal(enum bundle_kind kind, const char *key_pem, const char *certificate_pem,
					     const uint8_t *recipient_der, size_t recipient_bytes, const void *records,
					     size_t n, struct buffer *out, struct ferry_why *why);

/* Appends the records to out, which the caller wipes. key and certificate:
 * the reader's. sender_pem: who alone may have made it; NULL: whoever the
 * caller knows by out_sender, the fingerprint of the certificate in it.
 * FERRY_CORRUPT: damaged, cut or tampered with. FERRY_BUNDLE: it is for
 * somebody else, or by somebody else. */
FERRY_CHECK enum ferry_error pki_bundle_open(enum bundle_kind kind, const uint8_t *bytes, size_t n, const char *key_pem,
					     const char *certificate_pem, const char *sender_pem, struct buffer *out,
					     uint8_t out_sender[PKI_FINGERPRINT_BYTES], struct ferry_why *why);

#endif
