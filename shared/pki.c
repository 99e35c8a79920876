#include "shared/pki.h"

#include <arpa/inet.h>
#include <assert.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/random.h"
#include "shared/sha256.h"

#define NAME_FIELD "CN="
#define SERIAL_BYTES 16

static_assert(PKI_FINGERPRINT_BYTES == SHA256_BYTES, "a fingerprint is a SHA-256");

struct pki_ca {
	mbedtls_pk_context key;
	mbedtls_x509_crt certificate;
	char subject[256]; /* as mbedTLS's parser takes it */
};

static int rng(void *context, unsigned char *out, size_t n)
{
	(void)context;
	random_bytes(out, n);
	return 0;
}

/* mbedTLS's number as a sentence; what says what we were doing. */
static enum ferry_error failed(struct ferry_why *why, enum ferry_error code, const char *what, int number)
{
	char text[128] = "";

	mbedtls_strerror(number, text, sizeof text);
	return ferry_fail(why, code, "%s: %s (-0x%04x)", what, text, (unsigned)-number);
}

/* --- names and times ------------------------------------------------------------------- */

/* The name goes into a distinguished name that mbedTLS parses: a comma or '+' would start
 * another field. Our names are UUIDs, host names and addresses. */
static bool name_is_plain(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > PKI_NAME_MAX)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:_-* ") == n &&
	       name[0] != ' ' && name[n - 1] != ' ';
}

static enum ferry_error subject_of(const char *name, char *out, size_t size, struct ferry_why *why)
{
	if (!name || !name_is_plain(name))
		return ferry_fail(why, FERRY_BAD_VALUE,
				  "a certificate's name must be 1 to %d letters, digits, spaces or . : _ - *", PKI_NAME_MAX);
	assert(sizeof NAME_FIELD + strlen(name) <= size);
	memcpy(out, NAME_FIELD, sizeof NAME_FIELD - 1);
	memcpy(out + sizeof NAME_FIELD - 1, name, strlen(name) + 1);
	return FERRY_OK;
}

static enum ferry_error stamp(int64_t seconds, char out[15], struct ferry_why *why)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	/* The upper end is where the format's four digits of a year end. */
	if (seconds < 0 || seconds > 253402300799 || !gmtime_r(&t, &tm) || strftime(out, 15, "%Y%m%d%H%M%S", &tm) != 14)
		return ferry_fail(why, FERRY_BAD_VALUE, "a certificate cannot hold the time %lld", (long long)seconds);
	return FERRY_OK;
}

static enum ferry_error set_validity(mbedtls_x509write_cert *w, int64_t not_before_s, int64_t not_after_s,
				     struct ferry_why *why)
{
	enum ferry_error rc;
	char from[15];
	char to[15];
	int number;

	if (not_before_s >= not_after_s)
		return ferry_fail(why, FERRY_BAD_VALUE, "a certificate must end after it begins");
	rc = stamp(not_before_s > PKI_BACKDATE_S ? not_before_s - PKI_BACKDATE_S : 0, from, why);
	if (rc == FERRY_OK)
		rc = stamp(not_after_s, to, why);
	if (rc != FERRY_OK)
		return rc;
	number = mbedtls_x509write_crt_set_validity(w, from, to);
	return number ? failed(why, FERRY_BAD_VALUE, "a certificate's validity", number) : FERRY_OK;
}

static int64_t seconds_of(const mbedtls_x509_time *t)
{
	struct tm tm = {.tm_year = t->year - 1900, .tm_mon = t->mon - 1, .tm_mday = t->day,
			.tm_hour = t->hour,	   .tm_min = t->min,	 .tm_sec = t->sec};

	return (int64_t)timegm(&tm);
}

/* --- keys ------------------------------------------------------------------------------ */

static enum ferry_error key_parse(const char *pem, mbedtls_pk_context *out, struct ferry_why *why)
{
	int number = mbedtls_pk_parse_key(out, (const unsigned char *)pem, strlen(pem) + 1, NULL, 0, rng, NULL);

	return number ? failed(why, FERRY_CORRUPT, "the private key cannot be read", number) : FERRY_OK;
}

static bool key_is_p256(const mbedtls_pk_context *key)
{
	return mbedtls_pk_get_type(key) == MBEDTLS_PK_ECKEY &&
	       mbedtls_ecp_keypair_get_group_id(mbedtls_pk_ec(*key)) == MBEDTLS_ECP_DP_SECP256R1;
}

static enum ferry_error key_generate(mbedtls_pk_context *out, struct ferry_why *why)
{
	int number = mbedtls_pk_setup(out, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));

	if (number == 0)
		number = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*out), rng, NULL);
	return number ? failed(why, FERRY_INTERNAL, "a key cannot be made", number) : FERRY_OK;
}

static enum ferry_error key_write(const mbedtls_pk_context *key, char out_pem[PKI_PEM_MAX], struct ferry_why *why)
{
	unsigned char pem[PKI_PEM_MAX];
	int number = mbedtls_pk_write_key_pem(key, pem, sizeof pem);

	if (number == 0)
		memcpy(out_pem, pem, strlen((const char *)pem) + 1);
	secret_wipe(pem, sizeof pem);
	return number ? failed(why, FERRY_INTERNAL, "a key cannot be written", number) : FERRY_OK;
}

enum ferry_error pki_key_create(char out_pem[PKI_PEM_MAX], struct ferry_why *why)
{
	mbedtls_pk_context key;
	enum ferry_error rc;

	mbedtls_pk_init(&key);
	rc = key_generate(&key, why);
	if (rc == FERRY_OK)
		rc = key_write(&key, out_pem, why);
	mbedtls_pk_free(&key);
	return rc;
}

/* --- certificates ---------------------------------------------------------------------- */

static enum ferry_error certificate_parse_pem(const char *pem, mbedtls_x509_crt *out, struct ferry_why *why)
{
	int number = mbedtls_x509_crt_parse(out, (const unsigned char *)pem, strlen(pem) + 1);

	/* A positive number counts the certificates of a bundle that could not be read. */
	if (number > 0)
		return ferry_fail(why, FERRY_CORRUPT, "%d of the certificates cannot be read", number);
	return number ? failed(why, FERRY_CORRUPT, "the certificate cannot be read", number) : FERRY_OK;
}

/* What a certificate is for; decides its extensions. */
enum use { USE_CA, USE_DEVICE, USE_SERVER };

struct issue {
	enum use use;
	const char *subject;
	const char *issuer;
	mbedtls_pk_context *subject_key;
	mbedtls_pk_context *issuer_key;
	int64_t not_before_s;
	int64_t not_after_s;
	const mbedtls_x509_san_list *names; /* servers only */
};

/* 16 random bytes, positive and never shorter: the top bit off, the next one on. */
static int set_serial(mbedtls_x509write_cert *w)
{
	unsigned char serial[SERIAL_BYTES];

	random_bytes(serial, sizeof serial);
	serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40);
	return mbedtls_x509write_crt_set_serial_raw(w, serial, sizeof serial);
}

static int set_extensions(mbedtls_x509write_cert *w, const struct issue *issue)
{
	mbedtls_asn1_sequence eku = {
		.buf = {.tag = MBEDTLS_ASN1_OID},
	};
	bool ca = issue->use == USE_CA;
	int number;

	number = mbedtls_x509write_crt_set_basic_constraints(w, ca, ca ? 0 : -1);
	if (number == 0)
		number = mbedtls_x509write_crt_set_key_usage(
			w, ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN : MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
	if (number == 0)
		number = mbedtls_x509write_crt_set_subject_key_identifier(w);
	if (number == 0)
		number = mbedtls_x509write_crt_set_authority_key_identifier(w);
	if (number == 0 && issue->names)
		number = mbedtls_x509write_crt_set_subject_alternative_name(w, issue->names);
	if (number != 0 || ca)
		return number;

	if (issue->use == USE_DEVICE) {
		eku.buf.p = (unsigned char *)MBEDTLS_OID_CLIENT_AUTH;
		eku.buf.len = MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH);
	} else {
		eku.buf.p = (unsigned char *)MBEDTLS_OID_SERVER_AUTH;
		eku.buf.len = MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH);
	}
	return mbedtls_x509write_crt_set_ext_key_usage(w, &eku);
}

static enum ferry_error certificate_write(const struct issue *issue, char out_pem[PKI_PEM_MAX], struct ferry_why *why)
{
	unsigned char pem[PKI_PEM_MAX];
	mbedtls_x509write_cert w;
	enum ferry_error rc;
	int number;

	mbedtls_x509write_crt_init(&w);
	mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
	mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
	mbedtls_x509write_crt_set_subject_key(&w, issue->subject_key);
	mbedtls_x509write_crt_set_issuer_key(&w, issue->issuer_key);
	rc = set_validity(&w, issue->not_before_s, issue->not_after_s, why);
	if (rc != FERRY_OK)
		goto out;
	number = mbedtls_x509write_crt_set_subject_name(&w, issue->subject);
	if (number == 0)
		number = mbedtls_x509write_crt_set_issuer_name(&w, issue->issuer);
	if (number == 0)
		number = set_serial(&w);
	if (number == 0)
		number = set_extensions(&w, issue);
	if (number == 0)
		number = mbedtls_x509write_crt_pem(&w, pem, sizeof pem, rng, NULL);
	if (number == 0)
		memcpy(out_pem, pem, strlen((const char *)pem) + 1);
	else
		rc = failed(why, FERRY_INTERNAL, "a certificate cannot be written", number);
out:
	mbedtls_x509write_crt_free(&w);
	return rc;
}

/* --- the CA ---------------------------------------------------------------------------- */

enum ferry_error pki_ca_create(const char *name, int64_t not_before_s, int64_t not_after_s,
			       char out_key_pem[PKI_PEM_MAX], char out_certificate_pem[PKI_PEM_MAX],
			       struct ferry_why *why)
{
	char subject[sizeof NAME_FIELD + PKI_NAME_MAX];
	struct issue issue = {.use = USE_CA,
			      .subject = subject,
			      .issuer = subject,
			      .not_before_s = not_before_s,
			      .not_after_s = not_after_s};
	char certificate[PKI_PEM_MAX];
	mbedtls_pk_context key;
	enum ferry_error rc;

	mbedtls_pk_init(&key);
	issue.subject_key = &key;
	issue.issuer_key = &key;
	rc = subject_of(name, subject, sizeof subject, why);
	if (rc == FERRY_OK)
		rc = key_generate(&key, why);
	if (rc == FERRY_OK)
		rc = certificate_write(&issue, certificate, why);
	if (rc == FERRY_OK)
		rc = key_write(&key, out_key_pem, why);
	if (rc == FERRY_OK)
		memcpy(out_certificate_pem, certificate, strlen(certificate) + 1);
	mbedtls_pk_free(&key);
	return rc;
}

/* The issuer of what we sign must be written as the CA's subject is. */
static enum ferry_error ca_subject(struct pki_ca *ca, struct ferry_why *why)
{
	int n = mbedtls_x509_dn_gets(ca->subject, sizeof ca->subject, &ca->certificate.subject);

	return n < 0 ? failed(why, FERRY_CORRUPT, "the CA's name cannot be read", n) : FERRY_OK;
}

enum ferry_error pki_ca_load(const char *key_pem, const char *certificate_pem, struct pki_ca **out_ca,
			     struct ferry_why *why)
{
	struct pki_ca *ca = calloc(1, sizeof *ca);
	enum ferry_error rc;

	if (!ca)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory for the CA");
	mbedtls_pk_init(&ca->key);
	mbedtls_x509_crt_init(&ca->certificate);
	rc = key_parse(key_pem, &ca->key, why);
	if (rc == FERRY_OK)
		rc = certificate_parse_pem(certificate_pem, &ca->certificate, why);
	if (rc == FERRY_OK && !mbedtls_x509_crt_get_ca_istrue(&ca->certificate))
		rc = ferry_fail(why, FERRY_CORRUPT, "the CA's certificate is not one of a CA");
	if (rc == FERRY_OK && mbedtls_pk_check_pair(&ca->certificate.pk, &ca->key, rng, NULL) != 0)
		rc = ferry_fail(why, FERRY_CORRUPT, "the CA's key does not belong to its certificate");
	if (rc == FERRY_OK)
		rc = ca_subject(ca, why);
	if (rc != FERRY_OK) {
		pki_ca_free(ca);
		return rc;
	}
	*out_ca = ca;
	return FERRY_OK;
}

void pki_ca_free(struct pki_ca *ca)
{
	if (!ca)
		return;
	mbedtls_pk_free(&ca->key); /* wipes the key */
	mbedtls_x509_crt_free(&ca->certificate);
	free(ca);
}

/* --- requests -------------------------------------------------------------------------- */

enum ferry_error pki_request_create(const char *key_pem, const char *name, char out_pem[PKI_PEM_MAX],
				    struct ferry_why *why)
{
	char subject[sizeof NAME_FIELD + PKI_NAME_MAX];
	unsigned char pem[PKI_PEM_MAX];
	mbedtls_x509write_csr w;
	mbedtls_pk_context key;
	enum ferry_error rc;
	int number;

	mbedtls_pk_init(&key);
	mbedtls_x509write_csr_init(&w);
	rc = subject_of(name, subject, sizeof subject, why);
	if (rc == FERRY_OK)
		rc = key_parse(key_pem, &key, why);
	if (rc != FERRY_OK)
		goto out;
	mbedtls_x509write_csr_set_md_alg(&w, MBEDTLS_MD_SHA256);
	mbedtls_x509write_csr_set_key(&w, &key);
	number = mbedtls_x509write_csr_set_subject_name(&w, subject);
	if (number == 0)
		number = mbedtls_x509write_csr_pem(&w, pem, sizeof pem, rng, NULL);
	if (number == 0)
		memcpy(out_pem, pem, strlen((const char *)pem) + 1);
	else
		rc = failed(why, FERRY_INTERNAL, "a certificate request cannot be written", number);
out:
	mbedtls_x509write_csr_free(&w);
	mbedtls_pk_free(&key);
	return rc;
}

/* mbedTLS parses a request but has no function that checks its signature: without this,
 * anybody could have somebody else's public key certified. */
static bool request_is_signed(mbedtls_x509_csr *csr)
{
	const mbedtls_md_info_t *md = mbedtls_md_info_from_type(csr->MBEDTLS_PRIVATE(sig_md));
	unsigned char hash[MBEDTLS_MD_MAX_SIZE];

	return md && mbedtls_md(md, csr->cri.p, csr->cri.len, hash) == 0 &&
	       mbedtls_pk_verify(&csr->pk, csr->MBEDTLS_PRIVATE(sig_md), hash, mbedtls_md_get_size(md),
				 csr->MBEDTLS_PRIVATE(sig).p, csr->MBEDTLS_PRIVATE(sig).len) == 0;
}

static bool request_hash_is_sound(const mbedtls_x509_csr *csr)
{
	switch (csr->MBEDTLS_PRIVATE(sig_md)) {
	case MBEDTLS_MD_SHA256:
	case MBEDTLS_MD_SHA384:
	case MBEDTLS_MD_SHA512:
		return true;
	default:
		return false;
	}
}

static enum ferry_error request_parse(const char *pem, mbedtls_x509_csr *out, struct ferry_why *why)
{
	size_t n = strnlen(pem, PKI_PEM_MAX);
	int number;

	if (n == PKI_PEM_MAX)
		return ferry_fail(why, FERRY_BAD_REQUEST, "the certificate request is longer than %d bytes", PKI_PEM_MAX - 1);
	/* The parser takes DER as well; then its length would be a guess of ours. */
	if (!strstr(pem, "-----BEGIN CERTIFICATE REQUEST-----"))
		return ferry_fail(why, FERRY_BAD_REQUEST, "the certificate request is not PEM");
	number = mbedtls_x509_csr_parse(out, (const unsigned char *)pem, n + 1);
	if (number != 0)
		return failed(why, FERRY_BAD_REQUEST, "the certificate request cannot be read", number);
	if (!key_is_p256(&out->pk))
		return ferry_fail(why, FERRY_BAD_REQUEST, "the certificate request's key is not P-256");
	if (!request_hash_is_sound(out))
		return ferry_fail(why, FERRY_BAD_REQUEST, "the certificate request is not signed with SHA-2");
	if (!request_is_signed(out))
		return ferry_fail(why, FERRY_BAD_REQUEST, "the certificate request is not signed by its own key");
	return FERRY_OK;
}

enum ferry_error pki_request_check(const char *request_pem, struct ferry_why *why)
{
	mbedtls_x509_csr csr;
	enum ferry_error rc;

	mbedtls_x509_csr_init(&csr);
	rc = request_parse(request_pem, &csr, why);
	mbedtls_x509_csr_free(&csr);
	return rc;
}

/* --- issuing --------------------------------------------------------------------------- */

enum ferry_error pki_issue_device(const struct pki_ca *ca, const char *request_pem, const char *name,
				  int64_t not_before_s, int64_t not_after_s, char out_pem[PKI_PEM_MAX],
				  struct ferry_why *why)
{
	char subject[sizeof NAME_FIELD + PKI_NAME_MAX];
	struct issue issue = {.use = USE_DEVICE,
			      .subject = subject,
			      .issuer = ca->subject,
			      .not_before_s = not_before_s,
			      .not_after_s = not_after_s};
	mbedtls_x509_csr csr;
	enum ferry_error rc;

	mbedtls_x509_csr_init(&csr);
	issue.subject_key = &csr.pk;
	/* Signing uses the key's blinding state, not its value: the CA stays what it is. */
	issue.issuer_key = (mbedtls_pk_context *)&ca->key;
	rc = subject_of(name, subject, sizeof subject, why);
	if (rc == FERRY_OK)
		rc = request_parse(request_pem, &csr, why);
	if (rc == FERRY_OK)
		rc = certificate_write(&issue, out_pem, why);
	mbedtls_x509_csr_free(&csr);
	return rc;
}

/* The list's nodes and the addresses they point to. */
struct server_names {
	mbedtls_x509_san_list node[PKI_SERVER_NAMES_MAX];
	unsigned char address[PKI_SERVER_NAMES_MAX][16];
};

static enum ferry_error server_names_fill(struct server_names *s, const char *const *names, size_t count,
					  struct ferry_why *why)
{
	if (count == 0 || count > PKI_SERVER_NAMES_MAX)
		return ferry_fail(why, FERRY_BAD_VALUE, "a server certificate needs 1 to %d names", PKI_SERVER_NAMES_MAX);
	memset(s, 0, sizeof *s);
	for (size_t i = 0; i < count; i++) {
		mbedtls_x509_subject_alternative_name *san = &s->node[i].node;

		if (!name_is_plain(names[i]))
			return ferry_fail(why, FERRY_BAD_VALUE, "name %zu of the server is not a host name or address", i + 1);
		san->type = MBEDTLS_X509_SAN_IP_ADDRESS;
		san->san.unstructured_name.p = s->address[i];
		if (inet_pton(AF_INET, names[i], s->address[i]) == 1) {
			san->san.unstructured_name.len = 4;
		} else if (inet_pton(AF_INET6, names[i], s->address[i]) == 1) {
			san->san.unstructured_name.len = 16;
		} else {
			san->type = MBEDTLS_X509_SAN_DNS_NAME;
			san->san.unstructured_name.p = (unsigned char *)names[i];
			san->san.unstructured_name.len = strlen(names[i]);
		}
		s->node[i].next = i + 1 < count ? &s->node[i + 1] : NULL;
	}
	return FERRY_OK;
}

enum ferry_error pki_issue_server(const struct pki_ca *ca, const char *key_pem, const char *const *names,
				  size_t names_count, int64_t not_before_s, int64_t not_after_s,
				  char out_pem[PKI_PEM_MAX], struct ferry_why *why)
{
	char subject[sizeof NAME_FIELD + PKI_NAME_MAX];
	struct server_names list;
	struct issue issue = {.use = USE_SERVER,
			      .subject = subject,
			      .issuer = ca->subject,
			      .not_before_s = not_before_s,
			      .not_after_s = not_after_s,
			      .names = list.node};
	mbedtls_pk_context key;
	enum ferry_error rc;

	mbedtls_pk_init(&key);
	issue.subject_key = &key;
	issue.issuer_key = (mbedtls_pk_context *)&ca->key;
	rc = server_names_fill(&list, names, names_count, why);
	if (rc == FERRY_OK)
		rc = subject_of(names[0], subject, sizeof subject, why);
	if (rc == FERRY_OK)
		rc = key_parse(key_pem, &key, why);
	if (rc == FERRY_OK)
		rc = certificate_write(&issue, out_pem, why);
	mbedtls_pk_free(&key);
	return rc;
}

/* --- reading --------------------------------------------------------------------------- */

/* The one CN of the subject. Several, an embedded NUL or one too long give none: a name that
 * two readers could read differently is no name. */
static void name_read(const mbedtls_x509_crt *crt, char out[PKI_NAME_MAX + 1])
{
	const mbedtls_x509_name *found = NULL;

	out[0] = '\0';
	for (const mbedtls_x509_name *n = &crt->subject; n; n = n->next) {
		if (n->oid.len == 0 || MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid) != 0)
			continue;
		if (found)
			return;
		found = n;
	}
	if (!found || found->val.len == 0 || found->val.len > PKI_NAME_MAX || memchr(found->val.p, 0, found->val.len))
		return;
	memcpy(out, found->val.p, found->val.len);
	out[found->val.len] = '\0';
}

enum ferry_error pki_certificate_read(const uint8_t *der, size_t der_bytes, struct pki_certificate *out_certificate,
				      struct ferry_why *why)
{
	struct pki_certificate c = {0};
	mbedtls_x509_crt crt;
	enum ferry_error rc = FERRY_OK;
	int number;

	mbedtls_x509_crt_init(&crt);
	number = mbedtls_x509_crt_parse_der(&crt, der, der_bytes);
	if (number != 0) {
		rc = failed(why, FERRY_CORRUPT, "the certificate cannot be read", number);
		goto out;
	}
	/* Bytes behind the certificate would be in one reader's fingerprint and not in another's. */
	if (crt.raw.len != der_bytes || crt.serial.len > sizeof c.serial) {
		rc = ferry_fail(why, FERRY_CORRUPT, "the certificate is not in its standard form");
		goto out;
	}
	sha256_of(der, der_bytes, c.fingerprint);
	memcpy(c.serial, crt.serial.p, crt.serial.len);
	c.serial_bytes = crt.serial.len;
	name_read(&crt, c.name);
	c.not_before_s = seconds_of(&crt.valid_from);
	c.not_after_s = seconds_of(&crt.valid_to);
	c.is_ca = mbedtls_x509_crt_get_ca_istrue(&crt) != 0;
	c.for_client = mbedtls_x509_crt_check_extended_key_usage(&crt, MBEDTLS_OID_CLIENT_AUTH,
								 MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)) == 0;
	c.for_server = mbedtls_x509_crt_check_extended_key_usage(&crt, MBEDTLS_OID_SERVER_AUTH,
								 MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) == 0;
	*out_certificate = c;
out:
	mbedtls_x509_crt_free(&crt);
	return rc;
}

enum ferry_error pki_certificate_read_pem(const char *pem, struct pki_certificate *out_certificate,
					  struct ferry_why *why)
{
	uint8_t der[PKI_DER_MAX];
	enum ferry_error rc;
	size_t n;

	rc = pki_pem_to_der(pem, der, &n, why);
	return rc == FERRY_OK ? pki_certificate_read(der, n, out_certificate, why) : rc;
}

enum ferry_error pki_key_matches(const char *key_pem, const char *certificate_pem, struct ferry_why *why)
{
	mbedtls_pk_context key;
	mbedtls_x509_crt crt;
	enum ferry_error rc;

	mbedtls_pk_init(&key);
	mbedtls_x509_crt_init(&crt);
	rc = key_parse(key_pem, &key, why);
	if (rc == FERRY_OK)
		rc = certificate_parse_pem(certificate_pem, &crt, why);
	if (rc == FERRY_OK && mbedtls_pk_check_pair(&crt.pk, &key, rng, NULL) != 0)
		rc = ferry_fail(why, FERRY_CORRUPT, "the key does not belong to the certificate");
	mbedtls_x509_crt_free(&crt);
	mbedtls_pk_free(&key);
	return rc;
}

enum ferry_error pki_pem_to_der(const char *pem, uint8_t out_der[PKI_DER_MAX], size_t *out_bytes, struct ferry_why *why)
{
	mbedtls_x509_crt crt;
	enum ferry_error rc;

	mbedtls_x509_crt_init(&crt);
	rc = certificate_parse_pem(pem, &crt, why);
	if (rc == FERRY_OK && crt.raw.len > PKI_DER_MAX)
		rc = ferry_fail(why, FERRY_LIMIT, "the certificate is longer than %d bytes", PKI_DER_MAX);
	if (rc == FERRY_OK) {
		memcpy(out_der, crt.raw.p, crt.raw.len);
		*out_bytes = crt.raw.len;
	}
	mbedtls_x509_crt_free(&crt);
	return rc;
}

/* --- signatures ------------------------------------------------------------------------ */

enum ferry_error pki_sign(const char *key_pem, const void *bytes, size_t n, uint8_t out_signature[PKI_SIGNATURE_MAX],
			  size_t *out_bytes, struct ferry_why *why)
{
	unsigned char digest[SHA256_BYTES], signature[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
	mbedtls_pk_context key;
	enum ferry_error rc;
	size_t length = 0;
	int number;

	mbedtls_pk_init(&key);
	rc = key_parse(key_pem, &key, why);
	if (rc != FERRY_OK)
		goto out;
	sha256_of(bytes, n, digest);
	number = mbedtls_pk_sign(&key, MBEDTLS_MD_SHA256, digest, sizeof digest, signature, sizeof signature, &length, rng,
				 NULL);
	if (number != 0 || length > PKI_SIGNATURE_MAX) {
		rc = failed(why, FERRY_INTERNAL, "nothing can be signed", number);
		goto out;
	}
	memcpy(out_signature, signature, length);
	*out_bytes = length;
out:
	mbedtls_pk_free(&key);
	return rc;
}

enum ferry_error pki_verify(const char *certificate_pem, const void *bytes, size_t n, const uint8_t *signature,
			    size_t signature_bytes, struct ferry_why *why)
{
	unsigned char digest[SHA256_BYTES];
	mbedtls_x509_crt crt;
	enum ferry_error rc;

	mbedtls_x509_crt_init(&crt);
	rc = certificate_parse_pem(certificate_pem, &crt, why);
	sha256_of(bytes, n, digest);
	if (rc == FERRY_OK && !key_is_p256(&crt.pk))
		rc = ferry_fail(why, FERRY_BAD_REQUEST, "the certificate's key is not of the kind that devices have");
	if (rc == FERRY_OK &&
	    mbedtls_pk_verify(&crt.pk, MBEDTLS_MD_SHA256, digest, sizeof digest, signature, signature_bytes) != 0)
		rc = ferry_fail(why, FERRY_BAD_REQUEST, "the signature is not one of the certificate's key");
	mbedtls_x509_crt_free(&crt);
	return rc;
}

enum ferry_error pki_ca_issued(const struct pki_ca *ca, const char *certificate_pem, struct ferry_why *why)
{
	mbedtls_x509_crt crt;
	enum ferry_error rc;
	uint32_t flags = 0;

	mbedtls_x509_crt_init(&crt);
	rc = certificate_parse_pem(certificate_pem, &crt, why);
	if (rc == FERRY_OK &&
	    (mbedtls_x509_crt_verify(&crt, (mbedtls_x509_crt *)&ca->certificate, NULL, NULL, &flags, NULL, NULL) != 0 ||
	     mbedtls_x509_crt_check_extended_key_usage(&crt, MBEDTLS_OID_CLIENT_AUTH,
						       MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)) != 0))
		rc = ferry_fail(why, FERRY_NO_CERTIFICATE, flags & MBEDTLS_X509_BADCERT_EXPIRED
				? "the certificate has expired" : "the certificate is not one of this hub's devices");
	mbedtls_x509_crt_free(&crt);
	return rc;
}

enum ferry_error pki_server_good(const uint8_t *der, size_t bytes, const char *ca_pem, const char *host, int64_t reached_s,
				 struct ferry_why *why)
{
	mbedtls_x509_crt crt, ca;
	uint32_t flags = 0;
	enum ferry_error rc = FERRY_OK;

	mbedtls_x509_crt_init(&crt);
	mbedtls_x509_crt_init(&ca);
	if (mbedtls_x509_crt_parse_der(&crt, der, bytes) != 0 ||
	    mbedtls_x509_crt_parse(&ca, (const unsigned char *)ca_pem, strlen(ca_pem) + 1) != 0)
		rc = ferry_fail(why, FERRY_NO_CERTIFICATE, "the server's certificate cannot be read");
	if (rc == FERRY_OK)
		(void)mbedtls_x509_crt_verify(&crt, &ca, NULL, host, &flags, NULL, NULL);
	flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
	if (rc == FERRY_OK && (flags != 0 || mbedtls_x509_crt_check_extended_key_usage(&crt, MBEDTLS_OID_SERVER_AUTH,
								MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) != 0))
		rc = ferry_fail(why, FERRY_NO_CERTIFICATE, "the server's certificate is not one of this hub");
	if (rc == FERRY_OK && seconds_of(&crt.valid_to) < reached_s)
		rc = ferry_fail(why, FERRY_NO_CERTIFICATE, "the server's certificate has expired");
	mbedtls_x509_crt_free(&crt);
	mbedtls_x509_crt_free(&ca);
	return rc;
}
