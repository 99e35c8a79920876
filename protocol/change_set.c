/* [P 7.1] A change-set, or one part of it.
 *
 *   { ? 1: author        16 bytes; left out: the device at the other end
 *       2: number        the author's own count, from 1
 *     ? 3: base          position of the bookmark its edits were made at
 *       4: at            hybrid clock of its first edit, microseconds
 *     ? 5: joined        bool
 *     ? 6: part          from 0
 *     ? 7: more          bool: another part follows
 *     ? 8: [number ...]  earlier own change-sets it builds on, ascending
 *     ? 9: [block ...]
 *     ? 10: step         of the schema that it was made under
 *   ? 12: lost from      bases from this position on are of a lost history [P 7.7]
 *   a replay, settled by a history that the hub has lost:
 *    ? 11: old position  it was settled there
 *    ? 13: old verdict
 *    ? 14: old code, ? 15: old sentence   of a rejected one
 *   ? 16: [number ...]  earlier own replays it comes after, ascending [P 7.7]
 *   ? 17: last position of a replay that had come back before: where it was settled last
 *   ? 18: [position ...] gaps of its history: after, since, and again }
 */
#include "protocol/fields.h"

static const char *check_gaps(const struct change_set *s)
{
	if (s->gap_count % 2 != 0)
		return "half a gap";
	for (uint32_t i = 0; i < s->gap_count; i += 2) {
		if (s->gaps[i] < 0 || s->gaps[i + 1] <= s->gaps[i])
			return "a gap that ends before it begins";
	}
	return NULL;
}

static const char *check_change_set(const void *p)
{
	const struct change_set *s = p;

	for (uint32_t i = 0; i < s->block_count; i++) {
		const struct block *b = &s->blocks[i];

		if (b->op == ROW_LEFT)
			return "a change-set cannot make a row leave";
		if (b->row_count == 0)
			return "a block without rows";
		if (b->goes_on && (i + 1 < s->block_count || !s->more))
			return "a row that goes on where nothing follows";
	}
	if (s->old_verdict == VERDICT_REJECTED && s->old_code == FERRY_OK)
		return "a refusal of the past without its code";
	if (check_ascending(s->after, s->after_count, 1, s->number - 1) != NULL)
		return "what it comes after is not earlier, or not in order";
	if (check_gaps(s) != NULL)
		return check_gaps(s);
	return check_ascending(s->depends, s->depends_count, 1, s->number - 1);
}

static const struct field change_set_fields[] = {
	OPTIONAL(1, UUID, change_set, author),
	REQUIRED(2, I64, change_set, number, .min = 1, .max = INT64_MAX),
	OPTIONAL(3, I64, change_set, base_position, .max = INT64_MAX),
	REQUIRED(4, I64, change_set, at, .max = FERRY_CLOCK_MAX),
	OPTIONAL(5, BOOL, change_set, joined),
	OPTIONAL(6, U32, change_set, part, .max = FERRY_PARTS_MAX - 1),
	OPTIONAL(7, BOOL, change_set, more),
	OPTIONAL(8, I64S, change_set, depends, COUNT(change_set, depends_count), .max = FERRY_DEPENDS_MAX),
	OPTIONAL(9, LIST, change_set, blocks, COUNT(change_set, block_count), .max = FERRY_BLOCKS_MAX,
		 .shape = &block_shape),
	OPTIONAL(10, I64, change_set, step, .max = INT64_MAX),
	OPTIONAL(11, I64, change_set, old_position, .max = INT64_MAX),
	OPTIONAL(12, I64, change_set, lost_from, .max = INT64_MAX),
	OPTIONAL(13, INT, change_set, old_verdict, .max = VERDICT_PARKED),
	OPTIONAL(14, INT, change_set, old_code, .max = FERRY_CODE_MAX),
	OPTIONAL(15, TEXT, change_set, old_sentence),
	OPTIONAL(16, I64S, change_set, after, COUNT(change_set, after_count), .max = FERRY_DEPENDS_MAX),
	OPTIONAL(17, I64, change_set, last_position, .max = INT64_MAX),
	OPTIONAL(18, I64S, change_set, gaps, COUNT(change_set, gap_count), .max = FERRY_GAPS_MAX),
};

const struct shape change_set_shape = {
	.size = sizeof(struct change_set),
	FIELDS(change_set_fields),
	.check = check_change_set,
};
