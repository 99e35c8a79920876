/* Bundles: the layout, and who can make and open them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/bundle.h"
#include "shared/pki_bundle.h"
#include "tests/lib/random_message.h"
#include "tests/lib/vector_value.h"

#define YEAR_S 31536000

struct party { /* with a certificate of its own */
	char key[PKI_PEM_MAX], certificate[PKI_PEM_MAX];
	uint8_t der[PKI_DER_MAX];
	size_t der_bytes;
};

struct fixture {
	struct party hub, device, other;
	struct buffer file, records;
};

static struct ferry_why why;

static void make_party(struct party *p, const char *name)
{
	assert_int_equal(pki_ca_create(name, 1700000000, 1700000000 + YEAR_S, p->key, p->certificate, &why), FERRY_OK);
	assert_int_equal(pki_pem_to_der(p->certificate, p->der, &p->der_bytes, &why), FERRY_OK);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	make_party(&f->hub, "hub");
	make_party(&f->device, "device");
	make_party(&f->other, "other");
	buffer_init(&f->file, 1 << 20);
	buffer_init(&f->records, 1 << 20);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	buffer_deinit(&f->file);
	buffer_deinit(&f->records);
	free(f);
	return 0;
}

static void seal(struct fixture *f, const void *records, size_t n)
{
	buffer_clear(&f->file);
	assert_int_equal(pki_bundle_seal(BUNDLE_FROM_DEVICE, f->device.key, f->device.certificate, f->hub.der, f->hub.der_bytes,
					 records, n, &f->file, &why),
			 FERRY_OK);
}

static enum ferry_error open_as(struct fixture *f, enum bundle_kind kind, const struct party *reader, const struct party *sender)
{
	uint8_t fingerprint[PKI_FINGERPRINT_BYTES];

	buffer_clear(&f->records);
	why.text[0] = '\0';
	return pki_bundle_open(kind, f->file.p, f->file.n, reader->key, reader->certificate,
			       sender == NULL ? NULL : sender->certificate, &f->records, fingerprint, &why);
}

static void bundle_is_opened_by_its_recipient_and_says_who_made_it(void **state)
{
	struct fixture *f = *state;
	uint8_t fingerprint[PKI_FINGERPRINT_BYTES];
	struct pki_certificate device;

	seal(f, "records", 7);
	assert_int_equal(pki_bundle_open(BUNDLE_FROM_DEVICE, f->file.p, f->file.n, f->hub.key, f->hub.certificate, NULL, &f->records,
					 fingerprint, &why),
			 FERRY_OK);
	assert_int_equal(f->records.n, 7);
	assert_memory_equal(f->records.p, "records", 7);
	assert_int_equal(pki_certificate_read_pem(f->device.certificate, &device, &why), FERRY_OK);
	assert_memory_equal(fingerprint, device.fingerprint, sizeof(fingerprint));
}

static void the_vector_opens(void **state)
{
	struct fixture *f = *state;
	const char *root = getenv("FERRY_SOURCE");
	uint8_t sender[PKI_FINGERPRINT_BYTES], *bytes, *records;
	struct json *v = NULL;
	struct pki_certificate device;
	struct arena a;
	char path[1024];
	size_t n, record_n;

	(void)snprintf(path, sizeof(path), "%s/protocol/vectors/bundle.json", root == NULL ? "." : root);
	assert_int_equal(json_read_file(path, &v, &why), FERRY_OK);
	arena_init(&a, 1 << 20);
	bytes = vector_bytes(&a, json_text(json_get(v, "bundle")), &n);
	records = vector_bytes(&a, json_text(json_get(v, "records")), &record_n);
	assert_int_equal(pki_bundle_open(BUNDLE_FROM_DEVICE, bytes, n, json_text(json_get(v, "hub_key")),
					 json_text(json_get(v, "hub_certificate")), NULL, &f->records, sender, &why),
			 FERRY_OK);
	assert_int_equal(f->records.n, record_n);
	assert_memory_equal(f->records.p, records, record_n);
	assert_int_equal(pki_certificate_read_pem(json_text(json_get(v, "device_certificate")), &device, &why), FERRY_OK);
	assert_memory_equal(sender, device.fingerprint, sizeof(sender));
	arena_deinit(&a);
	json_release(v);
}

static void bundle_without_records_is_a_bundle(void **state)
{
	struct fixture *f = *state;

	seal(f, "", 0);
	assert_int_equal(open_as(f, BUNDLE_FROM_DEVICE, &f->hub, NULL), FERRY_OK);
	assert_int_equal(f->records.n, 0);
}

static void records_are_not_readable_in_the_file_and_no_two_files_are_alike(void **state)
{
	struct fixture *f = *state;
	static const char text[] = "a text that would be seen";
	struct buffer first;

	buffer_init(&first, 1 << 20);
	seal(f, text, sizeof(text));
	assert_true(buffer_append(&first, f->file.p, f->file.n));
	for (size_t i = 0; i + 8 <= first.n; i++)
		assert_memory_not_equal(first.p + i, text, 8);
	seal(f, text, sizeof(text));
	assert_memory_not_equal(first.p + 42, f->file.p + 42, 65); /* the ephemeral key */
	buffer_deinit(&first);
}

static void bundle_for_another_or_by_another_is_refused(void **state)
{
	struct fixture *f = *state;

	seal(f, "records", 7);
	assert_int_equal(open_as(f, BUNDLE_FROM_DEVICE, &f->other, NULL), FERRY_BUNDLE);
	assert_int_equal(open_as(f, BUNDLE_FROM_HUB, &f->hub, NULL), FERRY_BUNDLE);
	assert_int_equal(open_as(f, BUNDLE_FROM_DEVICE, &f->hub, &f->other), FERRY_BUNDLE);
	assert_int_equal(open_as(f, BUNDLE_FROM_DEVICE, &f->hub, &f->device), FERRY_OK);
}

/* Another's certificate beside one's own signature, and the like. */
static void no_byte_of_a_bundle_may_be_another(void **state)
{
	struct fixture *f = *state;

	seal(f, "records", 7);
	for (size_t i = 0; i < f->file.n; i++) {
		enum ferry_error e;

		f->file.p[i] ^= 1;
		e = open_as(f, BUNDLE_FROM_DEVICE, &f->hub, NULL);
		if (e != FERRY_CORRUPT && e != FERRY_BUNDLE)
			fail_msg("byte %zu of %zu: %s", i, f->file.n, ferry_error_name((int)e));
		assert_int_equal(f->records.n, 0);
		f->file.p[i] ^= 1;
	}
	assert_int_equal(open_as(f, BUNDLE_FROM_DEVICE, &f->hub, NULL), FERRY_OK);
}

static void bundle_that_is_cut_anywhere_or_goes_on_is_damaged(void **state)
{
	struct fixture *f = *state;
	size_t whole;

	seal(f, "records", 7);
	whole = f->file.n;
	for (f->file.n = 0; f->file.n < whole; f->file.n++)
		assert_int_equal(open_as(f, BUNDLE_FROM_DEVICE, &f->hub, NULL), FERRY_CORRUPT);
	assert_true(buffer_append(&f->file, "", 1));
	assert_int_equal(open_as(f, BUNDLE_FROM_DEVICE, &f->hub, NULL), FERRY_CORRUPT);
}

static void what_does_not_fit_is_a_limit(void **state)
{
	struct fixture *f = *state;
	struct buffer small;

	buffer_init(&small, 600);
	assert_int_equal(pki_bundle_seal(BUNDLE_FROM_DEVICE, f->device.key, f->device.certificate, f->hub.der, f->hub.der_bytes,
					 f->device.certificate, sizeof(f->device.certificate), &small, &why),
			 FERRY_LIMIT);
	buffer_deinit(&small);
}

static void records_come_back_in_their_order(void **state)
{
	struct fixture *f = *state;
	struct rng r = {.state = 11};
	uint8_t bytes[300];
	const uint8_t *p;
	size_t at = 0, n = 0;
	bool damaged = true;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rng_next(&r);
	for (size_t i = 1; i <= sizeof(bytes); i++)
		bundle_add(&f->records, bytes, i);
	for (size_t i = 1; i <= sizeof(bytes); i++) {
		assert_true(bundle_next(f->records.p, f->records.n, &at, &p, &n, &damaged));
		assert_int_equal(n, i);
		assert_memory_equal(p, bytes, n);
	}
	assert_false(bundle_next(f->records.p, f->records.n, &at, &p, &n, &damaged));
	assert_false(damaged);
}

static void record_that_is_empty_too_long_or_cut_is_damage(void **state)
{
	static const uint8_t wrong[][8] = {{0, 0, 0, 0}, {0, 0, 0, 5, 1, 2, 3, 4}, {0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, {0, 0}};
	static const size_t lengths[] = {4, 8, 8, 2};
	const uint8_t *p;
	size_t n;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		size_t at = 0;
		bool damaged = false;

		assert_false(bundle_next(wrong[i], lengths[i], &at, &p, &n, &damaged));
		assert_true(damaged);
		assert_int_equal(at, 0);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bundle_is_opened_by_its_recipient_and_says_who_made_it),
		T(the_vector_opens),
		T(bundle_without_records_is_a_bundle),
		T(records_are_not_readable_in_the_file_and_no_two_files_are_alike),
		T(bundle_for_another_or_by_another_is_refused),
		T(no_byte_of_a_bundle_may_be_another),
		T(bundle_that_is_cut_anywhere_or_goes_on_is_damaged),
		T(what_does_not_fit_is_a_limit),
		T(records_come_back_in_their_order),
		T(record_that_is_empty_too_long_or_cut_is_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
