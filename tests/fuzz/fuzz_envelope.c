/* libFuzzer: an envelope from any bytes is refused or unpacks within its
 * bound; what unpacks survives being packed again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/envelope.h"

#define BYTES_MAX (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void check_again(struct packer *p, const uint8_t *message, size_t n)
{
	struct buffer packed, scratch;
	const uint8_t *out;
	size_t out_n;

	buffer_init(&packed, BYTES_MAX + 1);
	buffer_init(&scratch, BYTES_MAX);
	must(packer_pack(p, message, n, &packed) == FERRY_OK, "what was unpacked does not pack");
	must(packer_unpack(p, packed.p, packed.n, &scratch, &out, &out_n, NULL) == FERRY_OK, "what was packed is refused");
	must(out_n == n && (n == 0 || memcmp(out, message, n) == 0), "other bytes came back");
	buffer_deinit(&packed);
	buffer_deinit(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct packer *packer;
	struct buffer scratch;
	const uint8_t *out;
	size_t out_n;

	if (packer == NULL)
		packer = packer_new();
	buffer_init(&scratch, BYTES_MAX);
	if (packer_unpack(packer, bytes, n, &scratch, &out, &out_n, NULL) == FERRY_OK) {
		must(out_n <= BYTES_MAX && scratch.capacity <= BYTES_MAX, "unpacked beyond the bound");
		check_again(packer, out, out_n);
	}
	buffer_deinit(&scratch);
	return 0;
}
