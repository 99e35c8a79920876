/* The enrolment token: one printable line that a person copies to a device.
 *
 *   ferry1.<base64url of the bytes below, without padding>
 *
 *   secret        32 bytes, random; the hub keeps only its SHA-256
 *   CA            32 bytes, SHA-256 of the CA certificate's DER
 *   enrolment     2 bytes, port, high byte first
 *   host length   1 byte, 1..253
 *   host          name or address of the hub
 *   check         4 bytes, the first of the SHA-256 of all bytes before, so
 *                 that a token cut or mistyped is told from a refused one
 *
 * The token pins the CA: a device trusts nothing else while it enrols. It is
 * a secret until used. */
#ifndef FERRY_SHARED_TOKEN_H
#define FERRY_SHARED_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/errors.h"

#define TOKEN_SECRET_BYTES 32
#define TOKEN_HOST_MAX	   253
#define TOKEN_TEXT_MAX	   512 /* with its NUL */

struct token {
	uint8_t secret[TOKEN_SECRET_BYTES];
	uint8_t ca_fingerprint[32];
	uint16_t port;
	char host[TOKEN_HOST_MAX + 1];
};

/* FERRY_LIMIT when the host is empty or too long. */
FERRY_CHECK enum ferry_error token_write(const struct token *t, char out[TOKEN_TEXT_MAX]);
/* FERRY_BAD_TOKEN with a sentence when it is not one, or is damaged. */
FERRY_CHECK enum ferry_error token_read(const char *text, struct token *out, struct ferry_why *why);

/* Base64url without padding (RFC 4648 section 5), for secrets in JSON. */
void base64url_write(const uint8_t *bytes, size_t n, char *out); /* (n * 4 + 2) / 3 + 1 bytes */
/* Strict: no padding, no other characters, no loose bits. */
bool base64url_read(const char *text, size_t n, uint8_t *out, size_t out_max, size_t *out_n);

#endif
