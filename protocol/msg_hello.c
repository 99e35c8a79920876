/* [P 9.1] hello, the agent's first message, and [P 9.2] welcome, its answer.
 *
 *   hello   {   0: 1
 *               1: lowest and 2: highest protocol version it speaks
 *               3: version of the agent
 *               4: incarnation   16 bytes, of the replica file
 *             ? 5: epoch         16 bytes, history of the bookmark
 *             ? 6: schema hash
 *               7: position      bookmark; -1: none
 *             ? 8: mark          of that position
 *             ? 9: last number   highest change-set number given out
 *              10: clock         microseconds since 1970
 *            ? 11: credit        bytes that the hub may send
 *            ? 12: position, ? 13: table, ? 14: key,
 *            ? 15: scope         where an unfinished fill stands
 *            ? 16: refill        bool, the checksums differ: fill the replica anew
 *            ? 17: [position ...] bookmarks of the past, ascending, spaced,
 *            ? 18: [mark ...]    and the marks of these positions
 *            ? 19: life          how many lives (contacts) it had,
 *            ? 20: step          of the schema in force
 *            ? 21: [mark ...]    the mark of the last one, and those proposed since,
 *            ? 22: next mark     and that of this one
 *            ? 23: [scope ...]   whose rows the replica holds
 *            ? 24: [scope ...]   that the unfinished fill brings
 *            ? 25: beside        bool, it adds them to a replica in force
 *            ? 26: features      bits [P 1.3]
 *            ? 27: comparable    bool, its rows can be compared after a rewind [P 9.16]
 *            ? 28: rewound       bool, they are of a history that the hub has lost }
 *
 *   welcome {   0: 2
 *               1: version       that both will speak
 *               2: version of the hub
 *               3: tenant, 4: device, 5: epoch   16 bytes each
 *             ? 6: schema hash
 *               7: mode          1 delta, 2 fill, 3 resume
 *             ? 8: code          why a fill
 *             ? 9: settled       all own numbers up to it are settled
 *            ? 10: [number ...]  those settled above it, ascending
 *            ? 11: [scope ...]
 *            ? 12: credit
 *              13: largest message, in bytes
 *              14: clock
 *            ? 15: held          code: why the hub takes no changes now
 *            ? 16: compares      version 1: it answers compare [P 9.11]
 *            ? 17: common        position, with code OTHER_HISTORY: the newest that both have,
 *            ? 18: common mark   and its mark
 *            ? 19: backed up     position that a backup of the hub surely holds
 *            ? 20: life          lives of this device, this one included
 *            ? 21: adopted       bool, this copy was turned away and is released
 *            ? 22: [scope ...]   that come by a fill beside the deltas
 *            ? 23: goes on       bool, that fill does where it stopped
 *            ? 24: features      bits that both have; from version 2
 *            ? 25: compared      bool, mode fill: by comparing [P 9.16]
 *            ? 26: since         position, with which this history began }
 */
#include "protocol/fields.h"

static const char *check_hello(const void *p)
{
	const struct message_hello *m = p;

	if (m->version_min > m->version_max)
		return "the lowest version is above the highest";
	if (m->past_count != m->past_mark_count)
		return "bookmarks of the past and their marks are not as many";
	return check_ascending(m->past, m->past_count, 0, INT64_MAX);
}

static const struct field hello_fields[] = {
	REQUIRED(1, INT, message_hello, version_min, .min = 1, .max = UINT16_MAX),
	REQUIRED(2, INT, message_hello, version_max, .min = 1, .max = UINT16_MAX),
	REQUIRED(3, TEXT, message_hello, agent_version),
	REQUIRED(4, UUID, message_hello, incarnation),
	OPTIONAL(5, UUID, message_hello, epoch),
	OPTIONAL(6, U64, message_hello, schema_hash),
	REQUIRED(7, I64, message_hello, position, .min = -1, .max = INT64_MAX),
	OPTIONAL(8, I64, message_hello, mark),
	OPTIONAL(9, I64, message_hello, last_number, .max = INT64_MAX),
	REQUIRED(10, I64, message_hello, clock),
	OPTIONAL(11, U64, message_hello, credit_bytes, .max = FERRY_CREDIT_BYTES_MAX),
	OPTIONAL(12, I64, message_hello, fill_position, .max = INT64_MAX),
	OPTIONAL(13, U32, message_hello, fill_table),
	OPTIONAL(14, UUID, message_hello, fill_after),
	OPTIONAL(15, TEXT, message_hello, fill_scope),
	OPTIONAL(16, BOOL, message_hello, refill),
	OPTIONAL(17, I64S, message_hello, past, COUNT(message_hello, past_count), .max = FERRY_PAST_MAX),
	OPTIONAL(18, I64S, message_hello, past_marks, COUNT(message_hello, past_mark_count), .max = FERRY_PAST_MAX),
	OPTIONAL(19, I64, message_hello, life, .max = INT64_MAX),
	OPTIONAL(20, I64, message_hello, step, .max = INT64_MAX),
	OPTIONAL(21, I64S, message_hello, life_marks, COUNT(message_hello, life_mark_count), .max = FERRY_LIFE_MARKS_MAX),
	OPTIONAL(22, I64, message_hello, next_mark),
	OPTIONAL(23, TEXTS, message_hello, scopes, COUNT(message_hello, scope_count), .max = FERRY_SCOPES_MAX),
	OPTIONAL(24, TEXTS, message_hello, fill_scopes, COUNT(message_hello, fill_scope_count), .max = FERRY_SCOPES_MAX),
	OPTIONAL(25, BOOL, message_hello, fill_beside),
	OPTIONAL(26, U64, message_hello, features),
	OPTIONAL(27, BOOL, message_hello, comparable),
	OPTIONAL(28, BOOL, message_hello, rewound),
};

const struct shape hello_shape = {
	.size = sizeof(struct message_hello),
	FIELDS(hello_fields),
	.check = check_hello,
};

static const char *check_welcome(const void *p)
{
	const struct message_welcome *m = p;

	return check_ascending(m->settled_above, m->settled_above_count, m->settled + 1, INT64_MAX);
}

static const struct field welcome_fields[] = {
	REQUIRED(1, INT, message_welcome, version, .min = 1, .max = UINT16_MAX),
	REQUIRED(2, TEXT, message_welcome, hub_version),
	REQUIRED(3, UUID, message_welcome, tenant),
	REQUIRED(4, UUID, message_welcome, device),
	REQUIRED(5, UUID, message_welcome, epoch),
	OPTIONAL(6, U64, message_welcome, schema_hash),
	REQUIRED(7, U32, message_welcome, mode, .min = WELCOME_DELTA, .max = WELCOME_RESUME),
	OPTIONAL(8, INT, message_welcome, code, .max = FERRY_CODE_MAX),
	OPTIONAL(9, I64, message_welcome, settled, .max = INT64_MAX - 1),
	OPTIONAL(10, I64S, message_welcome, settled_above, COUNT(message_welcome, settled_above_count),
		 .max = FERRY_SETTLED_ABOVE_MAX),
	OPTIONAL(11, TEXTS, message_welcome, scopes, COUNT(message_welcome, scope_count), .max = FERRY_SCOPES_MAX),
	OPTIONAL(12, U64, message_welcome, credit_bytes, .max = FERRY_CREDIT_BYTES_MAX),
	REQUIRED(13, U32, message_welcome, message_bytes_max, .min = 4096, .max = READER_BYTES_MAX),
	REQUIRED(14, I64, message_welcome, clock),
	OPTIONAL(15, INT, message_welcome, held, .max = FERRY_CODE_MAX),
	OPTIONAL(16, BOOL, message_welcome, compares),
	OPTIONAL(17, I64, message_welcome, common, .max = INT64_MAX),
	OPTIONAL(18, I64, message_welcome, common_mark),
	OPTIONAL(19, I64, message_welcome, backed_up, .max = INT64_MAX),
	OPTIONAL(20, I64, message_welcome, life, .max = INT64_MAX),
	OPTIONAL(21, BOOL, message_welcome, adopted),
	OPTIONAL(22, TEXTS, message_welcome, adding, COUNT(message_welcome, adding_count), .max = FERRY_SCOPES_MAX),
	OPTIONAL(23, BOOL, message_welcome, adding_goes_on),
	OPTIONAL(24, U64, message_welcome, features),
	OPTIONAL(25, BOOL, message_welcome, compared),
	OPTIONAL(26, I64, message_welcome, since, .max = INT64_MAX),
};

const struct shape welcome_shape = {
	.size = sizeof(struct message_welcome),
	FIELDS(welcome_fields),
	.check = check_welcome,
};
