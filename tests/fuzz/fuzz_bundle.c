/* libFuzzer: any bytes are refused as a bundle, or its parts lie within them
 * and give the same head again; any bytes taken as records end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void inside(const uint8_t *bytes, size_t n, const uint8_t *part, size_t part_n)
{
	must(part >= bytes && part_n <= n && (size_t)(part - bytes) <= n - part_n, "a part lies outside of the bundle");
}

static void check_parts(const uint8_t *bytes, size_t n, const struct bundle *b)
{
	struct buffer head;

	inside(bytes, n, b->recipient, BUNDLE_FINGERPRINT_BYTES);
	inside(bytes, n, b->point, BUNDLE_POINT_BYTES);
	inside(bytes, n, b->certificate, b->certificate_bytes);
	inside(bytes, n, b->sealed, b->sealed_bytes);
	inside(bytes, n, b->signature, b->signature_bytes);
	must(b->signed_bytes + 1 + b->signature_bytes == n, "bytes that nobody signed");
	buffer_init(&head, n + 1);
	must(bundle_head(b, &head) == FERRY_OK && head.n == b->head_bytes && memcmp(head.p, bytes, head.n) == 0,
	     "another head came back");
	buffer_deinit(&head);
}

static void check_records(const uint8_t *bytes, size_t n)
{
	const uint8_t *p;
	size_t at = 0, before = 0, length;
	bool damaged = false;

	while (bundle_next(bytes, n, &at, &p, &length, &damaged)) {
		inside(bytes, n, p, length);
		must(at > before, "the records do not move on");
		before = at;
	}
	must(damaged || at == n, "records are left");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct bundle b;

	if (bundle_parse(bytes, n, &b, NULL) == FERRY_OK)
		check_parts(bytes, n, &b);
	check_records(bytes, n);
	return 0;
}
