#include "shared/token.h"

#include <string.h>

#include "shared/random.h"
#include "shared/sha256.h"

#define PREFIX	     "ferry1."
#define CHECK_BYTES  4
#define FIXED_BYTES  (TOKEN_SECRET_BYTES + 32 + 2 + 1)
#define BYTES_MAX    (FIXED_BYTES + TOKEN_HOST_MAX + CHECK_BYTES)

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64url_write(const uint8_t *bytes, size_t n, char *out)
{
	uint32_t bits = 0;
	int count = 0;
	for (size_t i = 0; i < n; i++) {
		bits = (bits << 8 | bytes[i]) & 0xffffff;
		for (count += 8; count >= 6; count -= 6)
			*out++ = alphabet[bits >> (count - 6) & 63];
	}
	if (count)
		*out++ = alphabet[bits << (6 - count) & 63];
	*out = '\0';
}

bool base64url_read(const char *text, size_t n, uint8_t *out, size_t out_max, size_t *out_n)
{
	uint32_t bits = 0;
	int count = 0;
	size_t done = 0;
	for (size_t i = 0; i < n; i++) {
		const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;
		if (!at)
			return false;
		bits = (bits << 6 | (uint32_t)(at - alphabet)) & 0xffffff;
		count += 6;
		if (count < 8)
			continue;
		if (done == out_max)
			return false;
		count -= 8;
		out[done++] = (uint8_t)(bits >> count & 255);
	}
	if (count >= 6 || (bits & ((1u << count) - 1)))
		return false;
	*out_n = done;
	return true;
}

enum ferry_error token_write(const struct token *t, char out[TOKEN_TEXT_MAX])
{
	uint8_t bytes[BYTES_MAX], digest[SHA256_BYTES];
	size_t host = strnlen(t->host, sizeof(t->host)), n = 0;
	if (host == 0 || host > TOKEN_HOST_MAX)
		return FERRY_LIMIT;
	memcpy(bytes, t->secret, TOKEN_SECRET_BYTES);
	memcpy(bytes + TOKEN_SECRET_BYTES, t->ca_fingerprint, 32);
	n = TOKEN_SECRET_BYTES + 32;
	bytes[n++] = (uint8_t)(t->port >> 8);
	bytes[n++] = (uint8_t)(t->port & 255);
	bytes[n++] = (uint8_t)host;
	memcpy(bytes + n, t->host, host);
	n += host;
	sha256_of(bytes, n, digest);
	memcpy(bytes + n, digest, CHECK_BYTES);
	memcpy(out, PREFIX, strlen(PREFIX));
	base64url_write(bytes, n + CHECK_BYTES, out + strlen(PREFIX));
	secret_wipe(bytes, sizeof(bytes));
	return FERRY_OK;
}

static enum ferry_error read_bytes(const uint8_t *bytes, size_t n, struct token *out, struct ferry_why *why)
{
	uint8_t digest[SHA256_BYTES];
	if (n < FIXED_BYTES + 1 + CHECK_BYTES || n != (size_t)FIXED_BYTES + bytes[FIXED_BYTES - 1] + CHECK_BYTES)
		return ferry_fail(why, FERRY_BAD_TOKEN, "the token is cut or has characters too many");
	sha256_of(bytes, n - CHECK_BYTES, digest);
	if (memcmp(digest, bytes + n - CHECK_BYTES, CHECK_BYTES) != 0)
		return ferry_fail(why, FERRY_BAD_TOKEN, "the token is damaged: a character is wrong");
	size_t host = bytes[FIXED_BYTES - 1];
	if (host > TOKEN_HOST_MAX || memchr(bytes + FIXED_BYTES, 0, host))
		return ferry_fail(why, FERRY_BAD_TOKEN, "the token names no hub");
	memset(out, 0, sizeof(*out));
	memcpy(out->secret, bytes, TOKEN_SECRET_BYTES);
	memcpy(out->ca_fingerprint, bytes + TOKEN_SECRET_BYTES, 32);
	out->port = (uint16_t)(bytes[TOKEN_SECRET_BYTES + 32] << 8 | bytes[TOKEN_SECRET_BYTES + 33]);
	memcpy(out->host, bytes + FIXED_BYTES, host);
	return FERRY_OK;
}

enum ferry_error token_read(const char *text, struct token *out, struct ferry_why *why)
{
	uint8_t bytes[BYTES_MAX];
	size_t n = 0, prefix = strlen(PREFIX), length = strlen(text);
	if (strncmp(text, PREFIX, prefix) != 0)
		return ferry_fail(why, FERRY_BAD_TOKEN, "this is not a token: one begins with \"" PREFIX "\"");
	if (length >= TOKEN_TEXT_MAX || !base64url_read(text + prefix, length - prefix, bytes, sizeof(bytes), &n))
		return ferry_fail(why, FERRY_BAD_TOKEN, "the token is damaged: it has a character that cannot occur");
	enum ferry_error e = read_bytes(bytes, n, out, why);
	secret_wipe(bytes, sizeof(bytes));
	return e;
}
