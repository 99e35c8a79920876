/* The envelope [P 3]: what stands on the websocket is one byte, then data.
 *
 *   00  the message as CBOR
 *   01  the message as CBOR in one zstd frame made with the shared dictionary
 *   02  the message as CBOR in one zstd frame without dictionary
 *
 * A packer sends 01 up to 32 KiB, 02 above, and 00 where that would not pay.
 * It is reusable state (compression contexts, less than 1 MiB); an agent
 * has one, a hub process has one for all its sessions. */
#ifndef FERRY_PROTOCOL_ENVELOPE_H
#define FERRY_PROTOCOL_ENVELOPE_H

#include "protocol/arena.h"
#include "protocol/errors.h"

struct packer;

struct packer *packer_new(void); /* NULL: no memory */
void packer_free(struct packer *p);

/* Appends the envelope of message bytes to out. Compresses when it pays. */
FERRY_CHECK enum ferry_error packer_pack(struct packer *p, const uint8_t *message, size_t n, struct buffer *out);

/* Gives the message's CBOR. Plain data is not copied: *out_p points into
 * `bytes`; unpacked data is placed in scratch (cleared first), which bounds
 * it (scratch->max_bytes): data that would grow beyond is refused by its
 * header or as soon as it passes the bound. */
FERRY_CHECK enum ferry_error packer_unpack(struct packer *p, const uint8_t *bytes, size_t n, struct buffer *scratch,
					   const uint8_t **out_p, size_t *out_n, struct ferry_why *why);

#endif
