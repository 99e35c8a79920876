#include "protocol/bundle.h"

#include <string.h>

#define MAGIC "FERRYBDL"
#define MAGIC_BYTES 8
#define LAYOUT 1

struct cursor {
	const uint8_t *p;
	size_t left;
	bool short_of; /* sticky: more was asked for than is there */
};

static const uint8_t *take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->short_of || n > c->left) {
		c->short_of = true;
		return NULL;
	}
	c->p += n;
	c->left -= n;
	return p;
}

static uint64_t number(struct cursor *c, size_t bytes)
{
	const uint8_t *p = take(c, bytes);
	uint64_t v = 0;

	for (size_t i = 0; p != NULL && i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

enum ferry_error bundle_parse(const uint8_t *bytes, size_t n, struct bundle *out, struct ferry_why *why)
{
	struct cursor c = {.p = bytes, .left = n};
	const uint8_t *magic = take(&c, MAGIC_BYTES);
	struct bundle b = {.kind = BUNDLE_FROM_DEVICE};
	uint64_t kind, sealed;

	if (magic == NULL || memcmp(magic, MAGIC, MAGIC_BYTES) != 0 || number(&c, 1) != LAYOUT)
		return ferry_fail(why, FERRY_CORRUPT, "this is no bundle of this version");
	kind = number(&c, 1);
	b.kind = kind == BUNDLE_FROM_HUB ? BUNDLE_FROM_HUB : BUNDLE_FROM_DEVICE;
	b.recipient = take(&c, BUNDLE_FINGERPRINT_BYTES);
	b.point = take(&c, BUNDLE_POINT_BYTES);
	b.certificate_bytes = (size_t)number(&c, 2);
	b.certificate = take(&c, b.certificate_bytes);
	sealed = number(&c, 8);
	b.head_bytes = n - c.left;
	b.sealed_bytes = sealed > n ? n + 1 : (size_t)sealed;
	b.sealed = take(&c, b.sealed_bytes);
	b.signed_bytes = n - c.left;
	b.signature_bytes = (size_t)number(&c, 1);
	b.signature = take(&c, b.signature_bytes);
	if (c.short_of || c.left > 0 || kind < BUNDLE_FROM_DEVICE || kind > BUNDLE_FROM_HUB ||
	    b.certificate_bytes > BUNDLE_CERTIFICATE_MAX || b.sealed_bytes < BUNDLE_TAG_BYTES ||
	    b.signature_bytes > BUNDLE_SIGNATURE_MAX)
		return ferry_fail(why, FERRY_CORRUPT, "the bundle is damaged or cut short");
	*out = b;
	return FERRY_OK;
}

static void put_number(struct buffer *out, uint64_t v, size_t bytes)
{
	uint8_t be[8];

	for (size_t i = 0; i < bytes; i++)
		be[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
	buffer_append(out, be, bytes);
}

enum ferry_error bundle_head(const struct bundle *b, struct buffer *out)
{
	buffer_append(out, MAGIC, MAGIC_BYTES);
	put_number(out, LAYOUT, 1);
	put_number(out, (uint64_t)b->kind, 1);
	buffer_append(out, b->recipient, BUNDLE_FINGERPRINT_BYTES);
	buffer_append(out, b->point, BUNDLE_POINT_BYTES);
	put_number(out, b->certificate_bytes, 2);
	buffer_append(out, b->certificate, b->certificate_bytes);
	put_number(out, b->sealed_bytes, 8);
	return out->overflowed ? FERRY_LIMIT : FERRY_OK;
}

void bundle_add(struct buffer *records, const uint8_t *envelope, size_t n)
{
	put_number(records, n, 4);
	buffer_append(records, envelope, n);
}

bool bundle_next(const uint8_t *records, size_t n, size_t *at, const uint8_t **out, size_t *out_n, bool *out_damaged)
{
	struct cursor c = {.p = records + *at, .left = n - *at};
	uint64_t length;

	*out_damaged = false;
	if (c.left == 0)
		return false;
	length = number(&c, 4);
	*out = length <= BUNDLE_RECORD_MAX ? take(&c, (size_t)length) : NULL;
	*out_n = (size_t)length;
	if (*out == NULL || length == 0) {
		*out_damaged = true;
		return false;
	}
	*at = n - c.left;
	return true;
}
