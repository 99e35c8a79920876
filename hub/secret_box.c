#include "hub/secret_box.h"

#include <mbedtls/gcm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/files.h"
#include "shared/random.h"
#include "shared/sha256.h"

#define LAYOUT	    1
#define NONCE_BYTES 12
#define TAG_BYTES   16
#define HEAD_BYTES  (1 + SECRET_KEY_ID_BYTES)
#define AAD_BYTES   (HEAD_BYTES + 16 + 16)
#define FILE_MAX    (SECRET_KEYS_MAX * 80 + 1024)

static const char id_label[] = "ferry-secret-key";

_Static_assert(SECRET_OVERHEAD_BYTES == HEAD_BYTES + NONCE_BYTES + TAG_BYTES, "the layout above");

/* ---- keys ---- */

static void name_key(struct secret_key *k)
{
	uint8_t text[sizeof(id_label) - 1 + SECRET_KEY_BYTES], digest[SHA256_BYTES];
	memcpy(text, id_label, sizeof(id_label) - 1);
	memcpy(text + sizeof(id_label) - 1, k->key, SECRET_KEY_BYTES);
	sha256_of(text, sizeof(text), digest);
	memcpy(k->id, digest, sizeof(k->id));
	secret_wipe(text, sizeof(text));
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_key(const char *line, size_t n, struct secret_key *out)
{
	if (n != SECRET_KEY_BYTES * 2)
		return false;
	for (size_t i = 0; i < SECRET_KEY_BYTES; i++) {
		int high = digit(line[2 * i]), low = digit(line[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out->key[i] = (uint8_t)(high << 4 | low);
	}
	name_key(out);
	return true;
}

static enum ferry_error read_lines(const char *path, const char *text, struct secret_keys *out, struct ferry_why *why)
{
	out->count = 0;
	for (int number = 1; *text; number++) {
		size_t n = strcspn(text, "\n");
		if (n > 0 && *text != '#') {
			if (out->count == SECRET_KEYS_MAX)
				return ferry_fail(why, FERRY_LIMIT, "%s has more than %d keys", path, SECRET_KEYS_MAX);
			if (!read_key(text, n, &out->list[out->count]))
				return ferry_fail(why, FERRY_CONFIG, "%s, line %d: not a key of 64 hexadecimal digits", path, number);
			out->count++;
		}
		text += n + (text[n] == '\n');
	}
	return out->count ? FERRY_OK : ferry_fail(why, FERRY_CONFIG, "%s holds no key", path);
}

enum ferry_error secret_keys_load(const char *path, struct secret_keys *out, struct ferry_why *why)
{
	char text[FILE_MAX];
	if (!files_exists(path))
		return ferry_fail(why, FERRY_NOT_FOUND, "there is no key file %s", path);
	enum ferry_error e = files_check_secret(path, why);
	if (e != FERRY_OK)
		return FERRY_CONFIG;
	e = files_read_into(path, text, sizeof(text), why);
	if (e == FERRY_OK)
		e = read_lines(path, text, out, why);
	secret_wipe(text, sizeof(text));
	return e;
}

static enum ferry_error write_keys(const char *path, const struct secret_keys *keys, struct ferry_why *why)
{
	static const char heading[] = "# Ferry: keys of secrets, the current one first. Keep a copy apart from the database's.\n";
	char text[FILE_MAX];
	size_t n = sizeof(heading) - 1;
	memcpy(text, heading, n);
	for (int i = 0; i < keys->count; i++) {
		hex_of(keys->list[i].key, SECRET_KEY_BYTES, text + n);
		n += SECRET_KEY_BYTES * 2;
		text[n++] = '\n';
	}
	enum ferry_error e = files_replace(path, text, n, 0600, false, why);
	secret_wipe(text, sizeof(text));
	return e;
}

enum ferry_error secret_keys_add(const char *path, struct secret_keys *keys, struct ferry_why *why)
{
	struct secret_keys more = {.count = keys->count + 1};
	if (keys->count == SECRET_KEYS_MAX)
		return ferry_fail(why, FERRY_LIMIT, "%s has %d keys already: remove those that secret list shows nowhere", path,
				  SECRET_KEYS_MAX);
	random_bytes(more.list[0].key, SECRET_KEY_BYTES);
	name_key(&more.list[0]);
	memcpy(&more.list[1], keys->list, (size_t)keys->count * sizeof(keys->list[0]));
	enum ferry_error e = write_keys(path, &more, why);
	if (e == FERRY_OK)
		*keys = more;
	secret_wipe(&more, sizeof(more));
	return e;
}

/* ---- the box ---- */

static void make_aad(uint8_t out[AAD_BYTES], const uint8_t id[SECRET_KEY_ID_BYTES], const struct uuid *tenant,
		     const struct uuid *secret)
{
	out[0] = LAYOUT;
	memcpy(out + 1, id, SECRET_KEY_ID_BYTES);
	memcpy(out + HEAD_BYTES, tenant->b, 16);
	memcpy(out + HEAD_BYTES + 16, secret->b, 16);
}

static bool use_key(mbedtls_gcm_context *gcm, const struct secret_key *key)
{
	mbedtls_gcm_init(gcm);
	return mbedtls_gcm_setkey(gcm, MBEDTLS_CIPHER_ID_AES, key->key, SECRET_KEY_BYTES * 8) == 0;
}

enum ferry_error secret_seal_with(const struct secret_key *key, const uint8_t nonce[12], const struct uuid *tenant,
				  const struct uuid *id, const void *plain, size_t n, struct buffer *out)
{
	uint8_t aad[AAD_BYTES], *p;
	mbedtls_gcm_context gcm;
	if (n > SECRET_BYTES_MAX)
		return FERRY_LIMIT;
	p = buffer_reserve(out, n + SECRET_OVERHEAD_BYTES);
	if (!p)
		return FERRY_NO_MEMORY;
	make_aad(aad, key->id, tenant, id);
	memcpy(p, aad, HEAD_BYTES);
	memcpy(p + HEAD_BYTES, nonce, NONCE_BYTES);
	uint8_t *text = p + HEAD_BYTES + NONCE_BYTES;
	bool good = use_key(&gcm, key) &&
		    mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, n, nonce, NONCE_BYTES, aad, sizeof(aad), plain, text,
					      TAG_BYTES, text + n) == 0;
	mbedtls_gcm_free(&gcm);
	if (good)
		out->n += n + SECRET_OVERHEAD_BYTES;
	return good ? FERRY_OK : FERRY_INTERNAL;
}

enum ferry_error secret_seal(const struct secret_keys *keys, const struct uuid *tenant, const struct uuid *id,
			     const void *plain, size_t n, struct buffer *out)
{
	uint8_t nonce[NONCE_BYTES];
	random_bytes(nonce, sizeof(nonce));
	return secret_seal_with(&keys->list[0], nonce, tenant, id, plain, n, out);
}

const uint8_t *secret_key_id_of(const uint8_t *sealed, size_t n)
{
	return n >= SECRET_OVERHEAD_BYTES && sealed[0] == LAYOUT ? sealed + 1 : NULL;
}

static const struct secret_key *find_key(const struct secret_keys *keys, const uint8_t *id)
{
	for (int i = 0; i < keys->count; i++)
		if (memcmp(keys->list[i].id, id, SECRET_KEY_ID_BYTES) == 0)
			return &keys->list[i];
	return NULL;
}

enum ferry_error secret_open(const struct secret_keys *keys, const struct uuid *tenant, const struct uuid *id,
			     const uint8_t *sealed, size_t n, struct buffer *out)
{
	uint8_t aad[AAD_BYTES], *p;
	mbedtls_gcm_context gcm;
	const uint8_t *key_id = secret_key_id_of(sealed, n);
	if (!key_id || n - SECRET_OVERHEAD_BYTES > SECRET_BYTES_MAX)
		return FERRY_CORRUPT;
	const struct secret_key *key = find_key(keys, key_id);
	if (!key)
		return FERRY_NOT_FOUND;
	size_t length = n - SECRET_OVERHEAD_BYTES;
	const uint8_t *nonce = sealed + HEAD_BYTES, *text = nonce + NONCE_BYTES;
	p = buffer_reserve(out, length + 1);
	if (!p)
		return FERRY_NO_MEMORY;
	make_aad(aad, key_id, tenant, id);
	bool good = use_key(&gcm, key) && mbedtls_gcm_auth_decrypt(&gcm, length, nonce, NONCE_BYTES, aad, sizeof(aad),
								   text + length, TAG_BYTES, text, p) == 0;
	mbedtls_gcm_free(&gcm);
	if (good)
		out->n += length;
	return good ? FERRY_OK : FERRY_CORRUPT;
}
