/* [P 9.4] delta: a frame of a scope's feed, and [P 9.5] commit: the frames
 * since the last commit are one state of the hub.
 *
 *   delta  {   0: 6
 *              1: scope
 *              2: from         the frame holds what changed after this position
 *              3: to           and up to this one
 *            ? 4: [block ...] }
 *
 *   commit {   0: 7
 *              1: position
 *              2: mark         the position's random tag
 *            ? 3: [settled ...]    this device's, settled at or below position
 *            ? 4: [sum ...]
 *              5: clock
 *            ? 6: fill done    the staged fill becomes visible with this commit
 *            ? 7: backed up    position that a backup of the hub surely holds, when it has moved }
 *
 *   sum    { 1: scope, 2: table, 3: rows, ? 4: xor of each column's cell hashes,
 *            8 bytes each, big-endian, in the order of the column numbers }
 */
#include "protocol/fields.h"

/* What only a push may say. */
static bool has_authorship(const struct block *b)
{
	return b->at != NULL || b->base_count > 0 || b->old_count > 0;
}

static const char *check_delta(const void *p)
{
	const struct message_delta *m = p;

	if (m->to < m->from)
		return "a frame that runs backwards";
	for (uint32_t i = 0; i < m->block_count; i++) {
		if (has_authorship(&m->blocks[i]))
			return "times, bases or old values in a delta";
		if (m->blocks[i].row_count == 0)
			return "a block without rows";
		if (m->blocks[i].goes_on && i + 1 < m->block_count)
			return "a row that goes on is not the last of its message";
	}
	return NULL;
}

static const struct field delta_fields[] = {
	REQUIRED(1, TEXT, message_delta, scope),
	REQUIRED(2, I64, message_delta, from, .max = INT64_MAX),
	REQUIRED(3, I64, message_delta, to, .max = INT64_MAX),
	OPTIONAL(4, LIST, message_delta, blocks, COUNT(message_delta, block_count), .max = FERRY_BLOCKS_MAX,
		 .shape = &block_shape),
};

const struct shape delta_shape = {.size = sizeof(struct message_delta), FIELDS(delta_fields), .check = check_delta};

static const struct field sum_fields[] = {
	REQUIRED(1, TEXT, scope_sum, scope),
	REQUIRED(2, U32, scope_sum, table, .min = 1, .max = UINT32_MAX),
	REQUIRED(3, I64, scope_sum, rows, .max = INT64_MAX),
	OPTIONAL(4, U64S, scope_sum, sums, COUNT(scope_sum, sum_count), .max = FERRY_COLUMNS_MAX),
};

const struct shape sum_shape = {.size = sizeof(struct scope_sum), FIELDS(sum_fields)};

static const char *check_commit(const void *p)
{
	const struct message_commit *m = p;

	for (uint32_t i = 0; i < m->settled_count; i++) {
		if (m->settled[i].position > m->position)
			return "a verdict from after the commit";
	}
	return NULL;
}

static const struct field commit_fields[] = {
	REQUIRED(1, I64, message_commit, position, .max = INT64_MAX),
	REQUIRED(2, I64, message_commit, mark),
	OPTIONAL(3, LIST, message_commit, settled, COUNT(message_commit, settled_count),
		 .max = FERRY_SETTLED_MAX, .shape = &settled_shape),
	OPTIONAL(4, LIST, message_commit, sums, COUNT(message_commit, sum_count), .max = FERRY_SUMS_MAX,
		 .shape = &sum_shape),
	REQUIRED(5, I64, message_commit, clock),
	OPTIONAL(6, BOOL, message_commit, fill_done),
	OPTIONAL(7, I64, message_commit, backed_up, .max = INT64_MAX),
};

const struct shape commit_shape = {.size = sizeof(struct message_commit), FIELDS(commit_fields), .check = check_commit};
