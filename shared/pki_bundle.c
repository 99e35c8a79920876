#include "shared/pki_bundle.h"

#include <mbedtls/ecdh.h>
#include <mbedtls/ecp.h>
#include <mbedtls/gcm.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "shared/random.h"
#include "shared/sha256.h"

#define KEY_BYTES 32
#define NONCE_BYTES 12
#define SECRET_BYTES 32

static const char info[] = "ferry.v1 bundle";

static int rng(void *context, unsigned char *out, size_t n)
{
	(void)context;
	random_bytes(out, n);
	return 0;
}

enum ferry_error bundle_file_read(const char *path, struct buffer *out, struct ferry_why *why)
{
	uint8_t piece[65536];
	FILE *f = fopen(path, "rb");
	size_t n;
	bool failed;

	if (f == NULL)
		return ferry_fail(why, errno == ENOENT ? FERRY_NOT_FOUND : FERRY_IO, "%s: %s", path, strerror(errno));
	while ((n = fread(piece, 1, sizeof piece, f)) > 0 && buffer_append(out, piece, n))
		;
	failed = ferror(f) != 0;
	(void)fclose(f);
	if (failed)
		return ferry_fail(why, FERRY_IO, "%s cannot be read", path);
	return out->overflowed ? ferry_fail(why, FERRY_CORRUPT, "%s is larger than a bundle may be", path) : FERRY_OK;
}

/* ---- keys ---- */

static enum ferry_error derive(const uint8_t secret[SECRET_BYTES], const struct bundle *b, uint8_t out[KEY_BYTES + NONCE_BYTES])
{
	uint8_t salted[BUNDLE_FINGERPRINT_BYTES + BUNDLE_POINT_BYTES + 1], salt[SHA256_BYTES];

	salted[0] = (uint8_t)b->kind;
	memcpy(salted + 1, b->recipient, BUNDLE_FINGERPRINT_BYTES);
	memcpy(salted + 1 + BUNDLE_FINGERPRINT_BYTES, b->point, BUNDLE_POINT_BYTES);
	sha256_of(salted, sizeof salted, salt);
	return mbedtls_hkdf(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), salt, sizeof salt, secret, SECRET_BYTES,
			    (const unsigned char *)info, sizeof info - 1, out, KEY_BYTES + NONCE_BYTES) == 0
		       ? FERRY_OK
		       : FERRY_INTERNAL;
}

struct exchange { /* what an ECDH on P-256 takes */
	mbedtls_ecp_group group;
	mbedtls_mpi d, z;
	mbedtls_ecp_point mine, theirs;
};

static bool exchange_init(struct exchange *x)
{
	mbedtls_ecp_group_init(&x->group);
	mbedtls_mpi_init(&x->d);
	mbedtls_mpi_init(&x->z);
	mbedtls_ecp_point_init(&x->mine);
	mbedtls_ecp_point_init(&x->theirs);
	return mbedtls_ecp_group_load(&x->group, MBEDTLS_ECP_DP_SECP256R1) == 0;
}

static void exchange_free(struct exchange *x)
{
	mbedtls_ecp_group_free(&x->group);
	mbedtls_mpi_free(&x->d);
	mbedtls_mpi_free(&x->z);
	mbedtls_ecp_point_free(&x->mine);
	mbedtls_ecp_point_free(&x->theirs);
}

static bool exchange_secret(struct exchange *x, uint8_t out[SECRET_BYTES])
{
	return mbedtls_ecp_check_pubkey(&x->group, &x->theirs) == 0 &&
	       mbedtls_ecdh_compute_shared(&x->group, &x->z, &x->theirs, &x->d, rng, NULL) == 0 &&
	       mbedtls_mpi_write_binary(&x->z, out, SECRET_BYTES) == 0;
}

/* The public point of a certificate, of a key of ours (with its private part). */
static bool point_of(const mbedtls_pk_context *pk, mbedtls_mpi *out_d, mbedtls_ecp_point *out_q)
{
	mbedtls_ecp_group group;
	bool good;

	if (mbedtls_pk_get_type(pk) != MBEDTLS_PK_ECKEY)
		return false;
	mbedtls_ecp_group_init(&group);
	good = mbedtls_ecp_export(mbedtls_pk_ec(*pk), &group, out_d, out_q) == 0 && group.id == MBEDTLS_ECP_DP_SECP256R1;
	mbedtls_ecp_group_free(&group);
	return good;
}

/* A fresh key: its point goes into the bundle, its secret with the recipient's out. */
static bool secret_for(const mbedtls_x509_crt *recipient, uint8_t out_point[BUNDLE_POINT_BYTES], uint8_t out_secret[SECRET_BYTES])
{
	struct exchange x;
	mbedtls_mpi none;
	size_t n = 0;
	bool good = exchange_init(&x);

	mbedtls_mpi_init(&none);
	good = good && point_of(&recipient->pk, &none, &x.theirs) &&
	       mbedtls_ecdh_gen_public(&x.group, &x.d, &x.mine, rng, NULL) == 0 &&
	       mbedtls_ecp_point_write_binary(&x.group, &x.mine, MBEDTLS_ECP_PF_UNCOMPRESSED, &n, out_point,
					      BUNDLE_POINT_BYTES) == 0 &&
	       n == BUNDLE_POINT_BYTES && exchange_secret(&x, out_secret);
	mbedtls_mpi_free(&none);
	exchange_free(&x);
	return good;
}

static bool secret_of(const char *key_pem, const uint8_t point[BUNDLE_POINT_BYTES], uint8_t out_secret[SECRET_BYTES])
{
	mbedtls_pk_context key;
	struct exchange x;
	bool good = exchange_init(&x);

	mbedtls_pk_init(&key);
	good = good && mbedtls_pk_parse_key(&key, (const unsigned char *)key_pem, strlen(key_pem) + 1, NULL, 0, rng, NULL) == 0 &&
	       point_of(&key, &x.d, &x.mine) &&
	       mbedtls_ecp_point_read_binary(&x.group, &x.theirs, point, BUNDLE_POINT_BYTES) == 0 && exchange_secret(&x, out_secret);
	mbedtls_pk_free(&key);
	exchange_free(&x);
	return good;
}

/* ---- sealing ---- */

static bool crypt(int mode, const uint8_t material[KEY_BYTES + NONCE_BYTES], const uint8_t *head, size_t head_n,
		  const uint8_t *in, size_t n, uint8_t *out, uint8_t *tag)
{
	mbedtls_gcm_context gcm;
	bool good;

	mbedtls_gcm_init(&gcm);
	good = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, material, KEY_BYTES * 8) == 0;
	if (mode == MBEDTLS_GCM_ENCRYPT)
		good = good && mbedtls_gcm_crypt_and_tag(&gcm, mode, n, material + KEY_BYTES, NONCE_BYTES, head, head_n, in, out,
							 BUNDLE_TAG_BYTES, tag) == 0;
	else
		good = good && mbedtls_gcm_auth_decrypt(&gcm, n, material + KEY_BYTES, NONCE_BYTES, head, head_n, tag,
							BUNDLE_TAG_BYTES, in, out) == 0;
	mbedtls_gcm_free(&gcm);
	return good;
}

static enum ferry_error sign(const char *key_pem, struct buffer *out, size_t start, struct ferry_why *why)
{
	uint8_t signature[PKI_SIGNATURE_MAX], length;
	size_t n = 0;
	enum ferry_error e = pki_sign(key_pem, out->p + start, out->n - start, signature, &n, why);

	if (e != FERRY_OK)
		return e;
	length = (uint8_t)n;
	buffer_append(out, &length, 1);
	buffer_append(out, signature, n);
	return out->overflowed ? FERRY_LIMIT : FERRY_OK;
}

static enum ferry_error seal(const struct bundle *b, const uint8_t secret[SECRET_BYTES], const void *records, size_t n,
			     struct buffer *out)
{
	uint8_t material[KEY_BYTES + NONCE_BYTES], *sealed;
	size_t start = out->n;
	enum ferry_error e = derive(secret, b, material);

	if (e == FERRY_OK)
		e = bundle_head(b, out);
	sealed = e == FERRY_OK ? buffer_reserve(out, n + BUNDLE_TAG_BYTES) : NULL;
	if (e == FERRY_OK && sealed == NULL)
		e = FERRY_LIMIT;
	if (e == FERRY_OK && !crypt(MBEDTLS_GCM_ENCRYPT, material, out->p + start, out->n - start, records, n, sealed, sealed + n))
		e = FERRY_INTERNAL;
	if (e == FERRY_OK)
		out->n += n + BUNDLE_TAG_BYTES;
	secret_wipe(material, sizeof material);
	return e;
}

enum ferry_error pki_bundle_seal(enum bundle_kind kind, const char *key_pem, const char *certificate_pem,
				 const uint8_t *recipient_der, size_t recipient_bytes, const void *records, size_t n,
				 struct buffer *out, struct ferry_why *why)
{
	uint8_t der[PKI_DER_MAX], point[BUNDLE_POINT_BYTES], fingerprint[SHA256_BYTES];
	uint8_t secret[SECRET_BYTES] = {0};
	struct bundle b = {.kind = kind, .recipient = fingerprint, .point = point, .certificate = der,
			   .sealed_bytes = n + BUNDLE_TAG_BYTES};
	mbedtls_x509_crt recipient;
	size_t start = out->n;
	enum ferry_error e = pki_pem_to_der(certificate_pem, der, &b.certificate_bytes, why);

	if (e != FERRY_OK)
		return e;
	sha256_of(recipient_der, recipient_bytes, fingerprint);
	mbedtls_x509_crt_init(&recipient);
	if (mbedtls_x509_crt_parse_der(&recipient, recipient_der, recipient_bytes) != 0 || !secret_for(&recipient, point, secret))
		e = ferry_fail(why, FERRY_CORRUPT, "the recipient's certificate cannot be used");
	mbedtls_x509_crt_free(&recipient);
	if (e == FERRY_OK)
		e = seal(&b, secret, records, n, out);
	if (e == FERRY_OK)
		e = sign(key_pem, out, start, why);
	secret_wipe(secret, sizeof secret);
	return e == FERRY_LIMIT ? ferry_fail(why, e, "the bundle is larger than %zu MiB", BUNDLE_BYTES_MAX >> 20) : e;
}

/* ---- opening ---- */

static enum ferry_error is_for(const struct bundle *b, enum bundle_kind kind, const char *certificate_pem, struct ferry_why *why)
{
	uint8_t der[PKI_DER_MAX], mine[SHA256_BYTES];
	size_t n = 0;
	enum ferry_error e = pki_pem_to_der(certificate_pem, der, &n, why);

	if (e != FERRY_OK)
		return e;
	sha256_of(der, n, mine);
	if (b->kind != kind)
		return ferry_fail(why, FERRY_BUNDLE, "this bundle goes the other way: %s makes it, and does not read it",
				  kind == BUNDLE_FROM_HUB ? "a device" : "a hub");
	if (memcmp(b->recipient, mine, sizeof mine) != 0)
		return ferry_fail(why, FERRY_BUNDLE, "this bundle is for another %s",
				  kind == BUNDLE_FROM_HUB ? "device, or for this one's former certificate" : "hub");
	return FERRY_OK;
}

static enum ferry_error is_from(const struct bundle *b, const char *sender_pem, struct ferry_why *why)
{
	uint8_t der[PKI_DER_MAX];
	size_t n = 0;
	enum ferry_error e = pki_pem_to_der(sender_pem, der, &n, why);

	if (e == FERRY_OK && (b->certificate_bytes != n || memcmp(b->certificate, der, n) != 0))
		e = ferry_fail(why, FERRY_BUNDLE, "this bundle was made by another hub");
	return e;
}

static enum ferry_error check_signature(const struct bundle *b, const uint8_t *bytes, struct ferry_why *why)
{
	uint8_t digest[SHA256_BYTES];
	mbedtls_x509_crt crt;
	bool good;

	mbedtls_x509_crt_init(&crt);
	sha256_of(bytes, b->signed_bytes, digest);
	good = mbedtls_x509_crt_parse_der(&crt, b->certificate, b->certificate_bytes) == 0 &&
	       mbedtls_pk_verify(&crt.pk, MBEDTLS_MD_SHA256, digest, sizeof digest, b->signature, b->signature_bytes) == 0;
	mbedtls_x509_crt_free(&crt);
	return good ? FERRY_OK : ferry_fail(why, FERRY_CORRUPT, "the bundle was changed after it was signed");
}

static enum ferry_error unseal(const struct bundle *b, const uint8_t *bytes, const char *key_pem, struct buffer *out,
			       struct ferry_why *why)
{
	uint8_t secret[SECRET_BYTES] = {0}, material[KEY_BYTES + NONCE_BYTES], tag[BUNDLE_TAG_BYTES];
	size_t n = b->sealed_bytes - BUNDLE_TAG_BYTES;
	uint8_t *p = buffer_reserve(out, n + 1);
	bool good = p != NULL && secret_of(key_pem, b->point, secret) && derive(secret, b, material) == FERRY_OK;

	memcpy(tag, b->sealed + n, sizeof tag);
	good = good && crypt(MBEDTLS_GCM_DECRYPT, material, bytes, b->head_bytes, b->sealed, n, p, tag);
	if (good)
		out->n += n;
	secret_wipe(secret, sizeof secret);
	secret_wipe(material, sizeof material);
	return good ? FERRY_OK : ferry_fail(why, FERRY_CORRUPT, "the bundle does not open");
}

enum ferry_error pki_bundle_open(enum bundle_kind kind, const uint8_t *bytes, size_t n, const char *key_pem,
				 const char *certificate_pem, const char *sender_pem, struct buffer *out,
				 uint8_t out_sender[PKI_FINGERPRINT_BYTES], struct ferry_why *why)
{
	struct bundle b;
	enum ferry_error e = bundle_parse(bytes, n, &b, why);

	if (e == FERRY_OK)
		e = is_for(&b, kind, certificate_pem, why);
	if (e == FERRY_OK)
		e = check_signature(&b, bytes, why);
	if (e == FERRY_OK && sender_pem != NULL)
		e = is_from(&b, sender_pem, why);
	if (e == FERRY_OK)
		e = unseal(&b, bytes, key_pem, out, why);
	if (e == FERRY_OK)
		sha256_of(b.certificate, b.certificate_bytes, out_sender);
	return e;
}
