/* Keys, certificate requests and certificates: Ferry's own small CA, on mbedTLS.
 *
 * The hub owns one CA. A device makes its key pair and a request; the hub checks the request
 * and issues a certificate whose subject the hub chooses: from the request it takes the public
 * key and nothing else. The identity of a device is the SHA-256 fingerprint of its
 * certificate, looked up in the hub's device table; names inside certificates are for people.
 *
 *   key           P-256, PEM (SEC1); on disk through files_replace() with mode 0600
 *   CA            self-signed, basicConstraints CA pathlen 0, keyCertSign | cRLSign, SKID
 *   device        CN=<device>, digitalSignature, EKU clientAuth, SKID, AKID, no CA
 *   server        CN=<first name>, digitalSignature, EKU serverAuth, SAN DNS and IP, no CA
 *   serial        16 random bytes, positive
 *   notBefore     PKI_BACKDATE_S earlier than asked, for clocks that are a little behind
 *
 * PEM is text with a NUL; der/der_bytes is binary. All out buffers are the caller's. Output is
 * written only on success. Keys in our own memory are wiped; those handed out are the
 * caller's to wipe (secret_wipe). Times are seconds since 1970. */
#ifndef FERRY_SHARED_PKI_H
#define FERRY_SHARED_PKI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/errors.h"

#define PKI_PEM_MAX	      4096 /* bytes of any PEM we make or accept, with its NUL */
#define PKI_DER_MAX	      3072
#define PKI_NAME_MAX	      64   /* characters of a common name (X.520's bound) */
#define PKI_SERVER_NAMES_MAX  16
#define PKI_FINGERPRINT_BYTES 32
#define PKI_SERIAL_BYTES_MAX  20
#define PKI_BACKDATE_S	      60

struct pki_ca;

/* What a certificate says, read from its DER and nothing else. */
struct pki_certificate {
	uint8_t fingerprint[PKI_FINGERPRINT_BYTES]; /* SHA-256 of the DER */
	uint8_t serial[PKI_SERIAL_BYTES_MAX];
	size_t serial_bytes;
	char name[PKI_NAME_MAX + 1]; /* the subject's only CN; "" when it has none or several */
	int64_t not_before_s;
	int64_t not_after_s;
	bool is_ca;
	bool for_client; /* EKU allows clientAuth, or there is no EKU */
	bool for_server;
};

/* A fresh P-256 key as PEM. */
FERRY_CHECK enum ferry_error pki_key_create(char out_pem[PKI_PEM_MAX], struct ferry_why *why);

/* A CA: key and self-signed certificate as PEM, both to be kept by the caller. */
FERRY_CHECK enum ferry_error pki_ca_create(const char *name, int64_t not_before_s, int64_t not_after_s,
					   char out_key_pem[PKI_PEM_MAX], char out_certificate_pem[PKI_PEM_MAX],
					   struct ferry_why *why);

/* A CA ready to issue; checks that key and certificate belong together and that it is one. */
FERRY_CHECK enum ferry_error pki_ca_load(const char *key_pem, const char *certificate_pem, struct pki_ca **out_ca,
					 struct ferry_why *why);
void pki_ca_free(struct pki_ca *ca); /* NULL is fine; wipes the key */

/* A request for this key. The name is a courtesy to whoever reads it. */
FERRY_CHECK enum ferry_error pki_request_create(const char *key_pem, const char *name, char out_pem[PKI_PEM_MAX],
						struct ferry_why *why);

/* Is the request (PEM) whole, for a P-256 key, and signed by that key? FERRY_BAD_REQUEST if not. */
FERRY_CHECK enum ferry_error pki_request_check(const char *request_pem, struct ferry_why *why);

/* A device's certificate for the key in the request, which is checked first. */
FERRY_CHECK enum ferry_error pki_issue_device(const struct pki_ca *ca, const char *request_pem, const char *name,
					      int64_t not_before_s, int64_t not_after_s, char out_pem[PKI_PEM_MAX],
					      struct ferry_why *why);

/* A server's certificate for a key that the hub holds. names: DNS names and IP addresses. */
FERRY_CHECK enum ferry_error pki_issue_server(const struct pki_ca *ca, const char *key_pem, const char *const *names,
					      size_t names_count, int64_t not_before_s, int64_t not_after_s,
					      char out_pem[PKI_PEM_MAX], struct ferry_why *why);

/* Reads one certificate. */
FERRY_CHECK enum ferry_error pki_certificate_read(const uint8_t *der, size_t der_bytes,
						  struct pki_certificate *out_certificate, struct ferry_why *why);
FERRY_CHECK enum ferry_error pki_certificate_read_pem(const char *pem, struct pki_certificate *out_certificate,
						      struct ferry_why *why);

/* Does the key (PEM) belong to the certificate (PEM)? FERRY_CORRUPT if not. */
FERRY_CHECK enum ferry_error pki_key_matches(const char *key_pem, const char *certificate_pem, struct ferry_why *why);

/* A request to renew a certificate is signed as this text and the request, one after the other. */
#define PKI_RENEW_PREFIX "ferry.v1 renew\n"

/* Proof of having a key: an ECDSA signature of bytes (SHA-256), DER. */
#define PKI_SIGNATURE_MAX 80
FERRY_CHECK enum ferry_error pki_sign(const char *key_pem, const void *bytes, size_t n,
				      uint8_t out_signature[PKI_SIGNATURE_MAX], size_t *out_bytes,
				      struct ferry_why *why);
/* Was it made with the key of this certificate? FERRY_BAD_REQUEST if not. */
FERRY_CHECK enum ferry_error pki_verify(const char *certificate_pem, const void *bytes, size_t n,
					const uint8_t *signature, size_t signature_bytes, struct ferry_why *why);
/* Did this CA issue the certificate, and is it in force now (of the machine's clock), for a
 * client? FERRY_NO_CERTIFICATE if not. */
FERRY_CHECK enum ferry_error pki_ca_issued(const struct pki_ca *ca, const char *certificate_pem, struct ferry_why *why);

/* Is this the certificate (DER) of a server at `host`, issued by one of these CAs (PEM)? By its
 * dates it has to last until `reached_s` (since 1970), and may begin any time: for a machine
 * whose own clock may be years off. FERRY_NO_CERTIFICATE if not. */
FERRY_CHECK enum ferry_error pki_server_good(const uint8_t *der, size_t bytes, const char *ca_pem, const char *host,
					     int64_t reached_s, struct ferry_why *why);

/* The DER of a certificate that is given as PEM, and its length. */
FERRY_CHECK enum ferry_error pki_pem_to_der(const char *pem, uint8_t out_der[PKI_DER_MAX], size_t *out_bytes,
					    struct ferry_why *why);

#endif
