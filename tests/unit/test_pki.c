/* The CA: what it issues says what it should, and what it should refuse it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/pki.h"
#include "shared/random.h"
#include "shared/sha256.h"

#define T0 1800000000 /* 2027-01-15 */
#define DAY 86400

static char ca_key[PKI_PEM_MAX];
static char ca_pem[PKI_PEM_MAX];
static char device_key[PKI_PEM_MAX];
static char request[PKI_PEM_MAX];
static struct pki_ca *ca;
static struct ferry_why why;

#define DEVICE "6f1c2a3e-8a0d-4c55-9b1e-0d7f0a9b7c11"

static void must(enum ferry_error rc)
{
	if (rc != FERRY_OK)
		fail_msg("%s: %s", ferry_error_name((int)rc), why.text);
}

static int setup(void **state)
{
	(void)state;
	must(pki_ca_create("Ferry CA of a test", T0, T0 + 3650 * (int64_t)DAY, ca_key, ca_pem, &why));
	must(pki_ca_load(ca_key, ca_pem, &ca, &why));
	must(pki_key_create(device_key, &why));
	must(pki_request_create(device_key, "any name", request, &why));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pki_ca_free(ca);
	pki_ca_free(NULL);
	return 0;
}

static void ca_certificate_is_one_of_a_ca(void **state)
{
	struct pki_certificate c;

	(void)state;
	must(pki_certificate_read_pem(ca_pem, &c, &why));
	assert_true(c.is_ca);
	assert_string_equal(c.name, "Ferry CA of a test");
	assert_int_equal(c.not_before_s, T0 - PKI_BACKDATE_S);
	assert_int_equal(c.not_after_s, T0 + 3650 * (int64_t)DAY);
	assert_int_equal(c.serial_bytes, 16);
	must(pki_key_matches(ca_key, ca_pem, &why));
}

static void device_certificate_has_the_name_that_the_hub_chose(void **state)
{
	char pem[PKI_PEM_MAX];
	struct pki_certificate c;

	(void)state;
	must(pki_issue_device(ca, request, DEVICE, T0, T0 + 90 * DAY, pem, &why));
	must(pki_certificate_read_pem(pem, &c, &why));
	assert_string_equal(c.name, DEVICE);
	assert_false(c.is_ca);
	assert_true(c.for_client);
	assert_false(c.for_server);
	assert_int_equal(c.not_before_s, T0 - PKI_BACKDATE_S);
	assert_int_equal(c.not_after_s, T0 + 90 * DAY);
	must(pki_key_matches(device_key, pem, &why));
	assert_int_equal(pki_key_matches(ca_key, pem, &why), FERRY_CORRUPT);
}

static void serials_and_fingerprints_differ(void **state)
{
	char one[PKI_PEM_MAX];
	char two[PKI_PEM_MAX];
	struct pki_certificate a;
	struct pki_certificate b;

	(void)state;
	must(pki_issue_device(ca, request, DEVICE, T0, T0 + DAY, one, &why));
	must(pki_issue_device(ca, request, DEVICE, T0, T0 + DAY, two, &why));
	must(pki_certificate_read_pem(one, &a, &why));
	must(pki_certificate_read_pem(two, &b, &why));
	assert_memory_not_equal(a.serial, b.serial, 16);
	assert_memory_not_equal(a.fingerprint, b.fingerprint, PKI_FINGERPRINT_BYTES);
	assert_true((a.serial[0] & 0x80) == 0 && (b.serial[0] & 0x80) == 0);
}

static void server_certificate_is_for_servers_only(void **state)
{
	static const char *const names[] = {"hub.example.org", "127.0.0.1", "::1"};
	char key[PKI_PEM_MAX];
	char pem[PKI_PEM_MAX];
	struct pki_certificate c;

	(void)state;
	must(pki_key_create(key, &why));
	must(pki_issue_server(ca, key, names, 3, T0, T0 + DAY, pem, &why));
	must(pki_certificate_read_pem(pem, &c, &why));
	assert_string_equal(c.name, "hub.example.org");
	assert_true(c.for_server);
	assert_false(c.for_client);
	assert_int_equal(pki_issue_server(ca, key, names, 0, T0, T0 + DAY, pem, &why), FERRY_BAD_VALUE);
	assert_int_equal(pki_issue_server(ca, key, names, PKI_SERVER_NAMES_MAX + 1, T0, T0 + DAY, pem, &why),
			 FERRY_BAD_VALUE);
}

static void a_signature_is_of_one_key_and_one_text(void **state)
{
	uint8_t signature[PKI_SIGNATURE_MAX];
	char pem[PKI_PEM_MAX], other[PKI_PEM_MAX], other_request[PKI_PEM_MAX], other_pem[PKI_PEM_MAX];
	size_t n = 0;

	(void)state;
	must(pki_issue_device(ca, request, DEVICE, T0, T0 + DAY, pem, &why));
	must(pki_sign(device_key, "text", 4, signature, &n, &why));
	must(pki_verify(pem, "text", 4, signature, n, &why));
	assert_int_equal(pki_verify(pem, "tex", 3, signature, n, &why), FERRY_BAD_REQUEST);
	assert_int_equal(pki_verify(pem, "text", 4, signature, n - 1, &why), FERRY_BAD_REQUEST);
	must(pki_key_create(other, &why));
	must(pki_request_create(other, DEVICE, other_request, &why));
	must(pki_issue_device(ca, other_request, DEVICE, T0, T0 + DAY, other_pem, &why));
	assert_int_equal(pki_verify(other_pem, "text", 4, signature, n, &why), FERRY_BAD_REQUEST);
}

/* A CA of its own: this is judged by the machine's clock. */
static struct pki_ca *ca_of_today(int64_t now)
{
	char own_key[PKI_PEM_MAX], own_pem[PKI_PEM_MAX];
	struct pki_ca *made = NULL;

	must(pki_ca_create("Ferry CA", now - 3 * DAY, now + DAY, own_key, own_pem, &why));
	must(pki_ca_load(own_key, own_pem, &made, &why));
	return made;
}

static void only_a_ca_s_own_device_certificates_in_force_count_as_issued(void **state)
{
	char pem[PKI_PEM_MAX];
	const char *names[] = {"hub.example.org"};
	int64_t now = (int64_t)time(NULL);
	struct pki_ca *own = ca_of_today(now), *foreign = ca_of_today(now);

	(void)state;
	must(pki_issue_device(own, request, DEVICE, now, now + DAY, pem, &why));
	must(pki_ca_issued(own, pem, &why));
	assert_int_equal(pki_ca_issued(foreign, pem, &why), FERRY_NO_CERTIFICATE); /* though of the same name */
	must(pki_issue_device(own, request, DEVICE, now - 2 * DAY, now - DAY, pem, &why));
	assert_int_equal(pki_ca_issued(own, pem, &why), FERRY_NO_CERTIFICATE);
	must(pki_issue_server(own, device_key, names, 1, now, now + DAY, pem, &why));
	assert_int_equal(pki_ca_issued(own, pem, &why), FERRY_NO_CERTIFICATE); /* a server's is no device's */
	pki_ca_free(own);
	pki_ca_free(foreign);
}

static enum ferry_error server_good(const char *pem, const char *cas, const char *host, int64_t reached)
{
	uint8_t der[PKI_DER_MAX];
	size_t n = 0;

	must(pki_pem_to_der(pem, der, &n, &why));
	return pki_server_good(der, n, cas, host, reached, &why);
}

/* None of these certificates is in force by this machine's clock. */
static void P10_a_server_s_certificate_is_judged_by_the_time_that_is_known_to_be_past(void **state)
{
	char pem[PKI_PEM_MAX], device[PKI_PEM_MAX], other_key[PKI_PEM_MAX], other[PKI_PEM_MAX];
	const char *const names[] = {"hub.example.com", "10.1.2.3"};

	(void)state;
	must(pki_issue_server(ca, device_key, names, 2, T0 + 3000 * (int64_t)DAY, T0 + 3001 * (int64_t)DAY, pem, &why));
	must(server_good(pem, ca_pem, "hub.example.com", 0));
	must(server_good(pem, ca_pem, "10.1.2.3", T0 + 3000 * (int64_t)DAY));
	assert_int_equal(server_good(pem, ca_pem, "hub.example.com", T0 + 3002 * (int64_t)DAY), FERRY_NO_CERTIFICATE);
	assert_int_equal(server_good(pem, ca_pem, "other.example.com", 0), FERRY_NO_CERTIFICATE);
	must(pki_ca_create("Ferry CA of a test", T0, T0 + 3650 * (int64_t)DAY, other_key, other, &why));
	assert_int_equal(server_good(pem, other, "hub.example.com", 0), FERRY_NO_CERTIFICATE);
	must(pki_issue_device(ca, request, "hub.example.com", T0, T0 + DAY, device, &why));
	assert_int_equal(server_good(device, ca_pem, "hub.example.com", 0), FERRY_NO_CERTIFICATE);
}

static void a_certificate_ends_where_its_der_ends(void **state)
{
	char pem[PKI_PEM_MAX];
	uint8_t der[PKI_DER_MAX + 1];
	struct pki_certificate c;
	size_t n;

	(void)state;
	must(pki_issue_device(ca, request, DEVICE, T0, T0 + DAY, pem, &why));
	must(pki_pem_to_der(pem, der, &n, &why));
	must(pki_certificate_read(der, n, &c, &why));

	/* A trailing byte would change the fingerprint of one and the same certificate. */
	der[n] = 0;
	assert_int_equal(pki_certificate_read(der, n + 1, &c, &why), FERRY_CORRUPT);
	assert_int_equal(pki_certificate_read(der, n - 1, &c, &why), FERRY_CORRUPT);
	assert_int_equal(pki_certificate_read(der, 0, &c, &why), FERRY_CORRUPT);
}

/* The base64 between the lines of dashes; returns where it starts. */
static size_t request_body(const char *pem, char *out, size_t size)
{
	const char *from = strstr(pem, "-----\n") + 6;
	const char *to = strstr(from, "-----END");
	size_t n = (size_t)(to - from);

	assert_true(n < size);
	memcpy(out, from, n);
	out[n] = '\0';
	return (size_t)(from - pem);
}

static void request_signature_is_checked(void **state)
{
	char body[PKI_PEM_MAX];
	char bad[PKI_PEM_MAX];
	char pem[PKI_PEM_MAX];
	size_t start;
	size_t refused = 0;
	size_t tried = 0;

	(void)state;
	must(pki_request_check(request, &why));

	start = request_body(request, body, sizeof body);
	for (size_t i = 0; i < strlen(body); i++) {
		char old = request[start + i];

		if (old == '\n' || old == '=')
			continue;
		memcpy(bad, request, sizeof bad);
		bad[start + i] = old == 'A' ? 'B' : 'A';
		tried++;
		if (pki_request_check(bad, &why) == FERRY_BAD_REQUEST)
			refused++;
	}
	assert_true(tried > 100);
	/* Every changed character changes the signed part or the signature, but for the few bits
	 * behind the last byte that base64 does not use. */
	assert_true(refused + 1 >= tried);
	memcpy(bad, request, sizeof bad);
	bad[start + 80] = bad[start + 80] == 'A' ? 'B' : 'A';
	assert_int_equal(pki_issue_device(ca, bad, DEVICE, T0, T0 + DAY, pem, &why), FERRY_BAD_REQUEST);
}

static void bad_requests_are_refused_with_a_sentence(void **state)
{
	static const char rsa[] = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
	char *large = malloc(PKI_PEM_MAX + 1);

	(void)state;
	assert_int_equal(pki_request_check("", &why), FERRY_BAD_REQUEST);
	assert_int_equal(pki_request_check("hello", &why), FERRY_BAD_REQUEST);
	assert_int_equal(pki_request_check(rsa, &why), FERRY_BAD_REQUEST);
	assert_true(strlen(why.text) > 10);
	assert_int_equal(pki_request_check(ca_pem, &why), FERRY_BAD_REQUEST);
	assert_int_equal(pki_request_check(device_key, &why), FERRY_BAD_REQUEST);
	memset(large, 'A', PKI_PEM_MAX);
	large[PKI_PEM_MAX] = '\0';
	assert_int_equal(pki_request_check(large, &why), FERRY_BAD_REQUEST);
	free(large);
}

static void names_cannot_smuggle_fields(void **state)
{
	static const char *const bad[] = {"", "a,O=b", "a+O=b", "a=b", "a\nb", "a/b", " a", "a ", "a\\2c", "\"a\"",
					  "0123456789012345678901234567890123456789012345678901234567890123x"};
	char pem[PKI_PEM_MAX] = "untouched";

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(pki_issue_device(ca, request, bad[i], T0, T0 + DAY, pem, &why), FERRY_BAD_VALUE);
	assert_int_equal(pki_issue_device(ca, request, NULL, T0, T0 + DAY, pem, &why), FERRY_BAD_VALUE);
	assert_string_equal(pem, "untouched");
}

static void validity_must_make_sense(void **state)
{
	char pem[PKI_PEM_MAX];

	(void)state;
	assert_int_equal(pki_issue_device(ca, request, DEVICE, T0, T0, pem, &why), FERRY_BAD_VALUE);
	assert_int_equal(pki_issue_device(ca, request, DEVICE, T0, T0 - 1, pem, &why), FERRY_BAD_VALUE);
	assert_int_equal(pki_issue_device(ca, request, DEVICE, T0, INT64_MAX, pem, &why), FERRY_BAD_VALUE);
	assert_int_equal(pki_issue_device(ca, request, DEVICE, -5, T0, pem, &why), FERRY_OK);
}

static void ca_is_checked_when_loaded(void **state)
{
	char pem[PKI_PEM_MAX];
	struct pki_ca *none = NULL;

	(void)state;
	must(pki_issue_device(ca, request, DEVICE, T0, T0 + DAY, pem, &why));
	assert_int_equal(pki_ca_load(device_key, pem, &none, &why), FERRY_CORRUPT);
	assert_int_equal(pki_ca_load(device_key, ca_pem, &none, &why), FERRY_CORRUPT);
	assert_int_equal(pki_ca_load("", ca_pem, &none, &why), FERRY_CORRUPT);
	assert_int_equal(pki_ca_load(ca_key, "nothing", &none, &why), FERRY_CORRUPT);
	assert_null(none);
}

static void digests_and_hex_are_the_known_ones(void **state)
{
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX_BYTES];

	(void)state;
	sha256_of("abc", 3, digest);
	hex_of(digest, sizeof digest, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_of(NULL, 0, digest);
	hex_of(digest, sizeof digest, hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	assert_true(secret_equal("same", "same", 4));
	assert_false(secret_equal("same", "sane", 4));
	secret_wipe(digest, sizeof digest);
	assert_int_equal(digest[0] | digest[31], 0);
	secret_wipe(NULL, 0);
	assert_true(random_u64() != random_u64());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ca_certificate_is_one_of_a_ca),
		cmocka_unit_test(device_certificate_has_the_name_that_the_hub_chose),
		cmocka_unit_test(serials_and_fingerprints_differ),
		cmocka_unit_test(server_certificate_is_for_servers_only),
		cmocka_unit_test(a_signature_is_of_one_key_and_one_text),
		cmocka_unit_test(only_a_ca_s_own_device_certificates_in_force_count_as_issued),
		cmocka_unit_test(P10_a_server_s_certificate_is_judged_by_the_time_that_is_known_to_be_past),
		cmocka_unit_test(a_certificate_ends_where_its_der_ends),
		cmocka_unit_test(request_signature_is_checked),
		cmocka_unit_test(bad_requests_are_refused_with_a_sentence),
		cmocka_unit_test(names_cannot_smuggle_fields),
		cmocka_unit_test(validity_must_make_sense),
		cmocka_unit_test(ca_is_checked_when_loaded),
		cmocka_unit_test(digests_and_hex_are_the_known_ones),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
