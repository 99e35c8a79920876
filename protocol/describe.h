/* Messages in words, for people: JSON with the names that message.h uses.
 *
 * What the vectors hold, and what ferry-dump prints. Numbers are as in the C
 * structs; 64-bit hashes, sums and bytes are hexadecimal; members that a
 * message left out are left out here too. Cells: null, true, 5, "text",
 * {"bytes": "00ff"}, {"float": "-Infinity"}; text that JSON cannot show (it
 * has a NUL) {"text": "6100"} in hexadecimal. */
#ifndef FERRY_PROTOCOL_DESCRIBE_H
#define FERRY_PROTOCOL_DESCRIBE_H

#include "protocol/message.h"

void message_describe(const struct message *m, struct buffer *out);

/* Pieces, for the codecs. */
void describe_text(struct buffer *out, const char *text); /* as it is */
void describe_quoted(struct buffer *out, const char *p, size_t n);
void describe_int(struct buffer *out, int64_t v);
void describe_hex(struct buffer *out, const uint8_t *p, size_t n);
void describe_u64(struct buffer *out, uint64_t v); /* "0123456789abcdef" */
void describe_uuid(struct buffer *out, const struct uuid *id);
void describe_value(struct buffer *out, const struct value *v);

#endif
