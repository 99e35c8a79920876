/* [P 9.6] fill: rows of a scope in the order of their keys, from a hub to an
 * empty or outdated replica, and [P 9.7] fill-ack: how far they are staged.
 *
 *   fill     {   0: 12
 *                1: scope
 *              ? 2: position    that the fill was started at
 *              ? 3: done        no more rows of this table in this scope
 *                4: block       inserts, keys ascending }
 *
 *   fill-ack {   0: 13, 1: table, 2: key   (all up to it is staged durably) }
 */
#include "protocol/fields.h"

static const char *check_fill(const void *p)
{
	const struct block *b = &((const struct message_fill *)p)->block;

	if (b->op != ROW_INSERT || b->at != NULL || b->base_count > 0 || b->old_count > 0)
		return "a fill holds plain rows only";
	for (uint32_t r = 1; r < b->row_count; r++) {
		if (uuid_compare(&b->keys[r - 1], &b->keys[r]) >= 0)
			return "the keys of a fill are not ascending";
	}
	return NULL;
}

static const struct field fill_fields[] = {
	REQUIRED(1, TEXT, message_fill, scope),
	OPTIONAL(2, I64, message_fill, position, .max = INT64_MAX),
	OPTIONAL(3, BOOL, message_fill, table_done),
	REQUIRED(4, ONE, message_fill, block, .shape = &block_shape),
};

const struct shape fill_shape = {.size = sizeof(struct message_fill), FIELDS(fill_fields), .check = check_fill};

static const struct field fill_ack_fields[] = {
	REQUIRED(1, U32, message_fill_ack, table, .min = 1, .max = UINT32_MAX),
	REQUIRED(2, UUID, message_fill_ack, after),
};

const struct shape fill_ack_shape = {.size = sizeof(struct message_fill_ack), FIELDS(fill_ack_fields)};
