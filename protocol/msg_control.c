/* [P 9.8] credit, [P 9.9] error, [P 9.10] ping and pong, [P 9.15] unknown: what both sides send.
 *
 *   credit { 0: 8, 1: bytes }
 *   error  { 0: 9, 1: code, ? 2: sentence, ? 3: retry, ? 4: after so many milliseconds }
 *   ping   { 0: 10, 1: id, 2: sent }
 *   pong   { 0: 11, 1: id, 2: sent, 3: received, 4: answered }   microseconds since 1970
 *   unknown { 0: 18, 1: type }     of a message that was passed over
 */
#include "protocol/fields.h"

static const struct field credit_fields[] = {
	REQUIRED(1, U64, message_credit, bytes, .max = FERRY_CREDIT_BYTES_MAX),
};

const struct shape credit_shape = {.size = sizeof(struct message_credit), FIELDS(credit_fields)};

static const struct field error_fields[] = {
	REQUIRED(1, INT, message_error, code, .max = FERRY_CODE_MAX),
	OPTIONAL(2, TEXT, message_error, sentence),
	OPTIONAL(3, BOOL, message_error, retry),
	OPTIONAL(4, I64, message_error, retry_after_ms, .max = FERRY_RETRY_AFTER_MS_MAX),
};

const struct shape error_shape = {.size = sizeof(struct message_error), FIELDS(error_fields)};

static const struct field ping_fields[] = {
	REQUIRED(1, I64, message_ping, id),
	REQUIRED(2, I64, message_ping, sent),
	REQUIRED(3, I64, message_ping, received),
	REQUIRED(4, I64, message_ping, answered),
};

const struct shape ping_shape = {.size = sizeof(struct message_ping), .fields = ping_fields, .field_count = 2};
const struct shape pong_shape = {.size = sizeof(struct message_ping), FIELDS(ping_fields)};

static const struct field unknown_fields[] = {
	REQUIRED(1, U32, message_unknown, message_type, .min = MESSAGE_OPTIONAL_MIN, .max = MESSAGE_OPTIONAL_MAX),
};

const struct shape unknown_shape = {.size = sizeof(struct message_unknown), FIELDS(unknown_fields)};
