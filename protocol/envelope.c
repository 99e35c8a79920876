#include "protocol/envelope.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

/* Measured in README.md: level 2 costs as much time as 1 on small messages and
 * gives more; 3 takes a third longer on large ones for 1 per cent. */
#define LEVEL 2
#define TRY_BYTES_MIN 40
#define DICTIONARY_BYTES_MAX 32768 /* of a message: a larger one has patterns enough of its own */

enum form {
	FORM_PLAIN = 0,
	FORM_DICTIONARY = 1,
	FORM_ZSTD = 2,
};

static const uint8_t dictionary[] = {
#include "protocol/dictionary/dictionary.inc"
};

struct packer {
	ZSTD_CCtx *compressor;
	ZSTD_DCtx *decompressor;
	ZSTD_CDict *compress_dictionary;
	ZSTD_DDict *decompress_dictionary;
};

void packer_free(struct packer *p)
{
	if (p == NULL)
		return;
	ZSTD_freeCCtx(p->compressor);
	ZSTD_freeDCtx(p->decompressor);
	ZSTD_freeCDict(p->compress_dictionary);
	ZSTD_freeDDict(p->decompress_dictionary);
	free(p);
}

struct packer *packer_new(void)
{
	struct packer *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->compressor = ZSTD_createCCtx();
	p->decompressor = ZSTD_createDCtx();
	p->compress_dictionary = ZSTD_createCDict(dictionary, sizeof(dictionary), LEVEL);
	p->decompress_dictionary = ZSTD_createDDict(dictionary, sizeof(dictionary));
	if (p->compressor == NULL || p->decompressor == NULL || p->compress_dictionary == NULL ||
	    p->decompress_dictionary == NULL ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(p->compressor, ZSTD_c_compressionLevel, LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(p->compressor, ZSTD_c_dictIDFlag, 0))) {
		packer_free(p);
		return NULL;
	}
	return p;
}

static bool pays(size_t packed, size_t n)
{
	return !ZSTD_isError(packed) && packed + n / 32 < n;
}

/* The frame's length, or 0 when the message should go out as it is. */
static size_t compress(struct packer *p, const uint8_t *message, size_t n, enum form form, uint8_t *to)
{
	size_t packed;

	/* A frame that did not fit is still open, and would refuse the dictionary. */
	if (ZSTD_isError(ZSTD_CCtx_reset(p->compressor, ZSTD_reset_session_only)) ||
	    ZSTD_isError(ZSTD_CCtx_refCDict(p->compressor, form == FORM_DICTIONARY ? p->compress_dictionary : NULL)))
		return 0;
	packed = ZSTD_compress2(p->compressor, to, n, message, n);
	return pays(packed, n) ? packed : 0;
}

enum ferry_error packer_pack(struct packer *p, const uint8_t *message, size_t n, struct buffer *out)
{
	enum form form = n <= DICTIONARY_BYTES_MAX ? FORM_DICTIONARY : FORM_ZSTD;
	uint8_t *to = n < SIZE_MAX ? buffer_reserve(out, n + 1) : NULL;
	size_t packed;

	if (to == NULL)
		return FERRY_MESSAGE_TOO_LARGE;
	packed = n < TRY_BYTES_MIN ? 0 : compress(p, message, n, form, to + 1);
	if (packed == 0) {
		form = FORM_PLAIN;
		packed = n;
		if (n > 0)
			memcpy(to + 1, message, n);
	}
	to[0] = (uint8_t)form;
	out->n += packed + 1;
	return FERRY_OK;
}

/* What the frame says of its content, or an error. One frame and nothing
 * behind it; its header must state the size, for memory is taken by it. */
static enum ferry_error content_size(const uint8_t *frame, size_t n, size_t max_bytes, size_t *out_size,
				     struct ferry_why *why)
{
	unsigned long long size = ZSTD_getFrameContentSize(frame, n);

	if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN)
		return ferry_fail(why, FERRY_COMPRESSION, "the compressed data does not state its size");
	if (size > max_bytes)
		return ferry_fail(why, FERRY_MESSAGE_TOO_LARGE, "%llu bytes unpacked; the limit is %zu", size, max_bytes);
	if (ZSTD_findFrameCompressedSize(frame, n) != n)
		return ferry_fail(why, FERRY_COMPRESSION, "the compressed data is cut or has bytes behind it");
	*out_size = (size_t)size;
	return FERRY_OK;
}

static enum ferry_error decompress(struct packer *p, enum form form, const uint8_t *frame, size_t n,
				   struct buffer *scratch, struct ferry_why *why)
{
	size_t size = 0, unpacked;
	enum ferry_error error = content_size(frame, n, scratch->max_bytes, &size, why);
	uint8_t *to;

	if (error != FERRY_OK)
		return error;
	buffer_clear(scratch);
	to = buffer_reserve(scratch, size);
	if (to == NULL)
		return FERRY_NO_MEMORY;
	if (form == FORM_DICTIONARY)
		unpacked = ZSTD_decompress_usingDDict(p->decompressor, to, size, frame, n, p->decompress_dictionary);
	else
		unpacked = ZSTD_decompressDCtx(p->decompressor, to, size, frame, n);
	if (ZSTD_isError(unpacked) || unpacked != size)
		return ferry_fail(why, FERRY_COMPRESSION, "the compressed data is damaged");
	scratch->n = size;
	return FERRY_OK;
}

static enum ferry_error too_large(size_t n, size_t max_bytes, struct ferry_why *why)
{
	return ferry_fail(why, FERRY_MESSAGE_TOO_LARGE, "%zu bytes; the limit is %zu", n, max_bytes);
}

enum ferry_error packer_unpack(struct packer *p, const uint8_t *bytes, size_t n, struct buffer *scratch,
			       const uint8_t **out_p, size_t *out_n, struct ferry_why *why)
{
	enum ferry_error error;

	if (n == 0)
		return ferry_fail(why, FERRY_MALFORMED, "an empty websocket message");
	if (bytes[0] == FORM_PLAIN) {
		if (n - 1 > scratch->max_bytes)
			return too_large(n - 1, scratch->max_bytes, why);
		*out_p = bytes + 1;
		*out_n = n - 1;
		return FERRY_OK;
	}
	if (bytes[0] != FORM_DICTIONARY && bytes[0] != FORM_ZSTD)
		return ferry_fail(why, FERRY_MALFORMED, "an envelope of the unknown form %u", bytes[0]);
	error = decompress(p, (enum form)bytes[0], bytes + 1, n - 1, scratch, why);
	if (error != FERRY_OK)
		return error;
	*out_p = scratch->p;
	*out_n = scratch->n;
	return FERRY_OK;
}
