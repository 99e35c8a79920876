/* [P 9.11] compare: what of a table in a scope a replica wants to hold against
 * the hub's, and [P 9.12] ranges: the hub's side of it.
 *
 *   compare  {   0: 14
 *                1: scope
 *                2: table
 *              ? 3: [{? 1: after, ? 2: up to} ...]   ranges of keys
 *              ? 4: [{1: key} ...]                   rows that are to come whole
 *              ? 5: sums                             bool, after a rewind: of all scopes and tables [P 9.16] }
 *
 *   ranges   {   0: 15
 *                1: scope
 *                2: table
 *                3: position
 *              ? 4: [{? 1: after, ? 2: up to, ? 3: rows, ? 4: hash} ...]
 *              ? 5: [sum ...]        as in a commit,
 *              ? 6: all              bool, where none is given there are no rows }
 *
 * A range holds the keys above `after` (zero: from the first) up to and with
 * `up to` (zero: to the last).
 */
#include "protocol/fields.h"

static const char *check_range(const void *p)
{
	const struct key_range *r = p;

	if (!uuid_is_zero(&r->upto) && uuid_compare(&r->after, &r->upto) >= 0)
		return "a range of keys that ends before it begins";
	if (r->rows == 0 && r->hash != 0)
		return "a hash of no rows";
	return NULL;
}

static const struct field asked_fields[] = {
	OPTIONAL(1, UUID, key_range, after),
	OPTIONAL(2, UUID, key_range, upto),
};

static const struct shape asked_shape = {.size = sizeof(struct key_range), FIELDS(asked_fields), .check = check_range};

static const struct field key_fields[] = {
	REQUIRED(1, UUID, wanted_key, key),
};

static const struct shape key_shape = {.size = sizeof(struct wanted_key), FIELDS(key_fields)};

static const struct field compare_fields[] = {
	REQUIRED(1, TEXT, message_compare, scope),
	REQUIRED(2, U32, message_compare, table, .min = 1, .max = UINT32_MAX),
	OPTIONAL(3, LIST, message_compare, ranges, COUNT(message_compare, range_count), .max = FERRY_COMPARE_RANGES_MAX,
		 .shape = &asked_shape),
	OPTIONAL(4, LIST, message_compare, keys, COUNT(message_compare, key_count), .max = FERRY_COMPARE_KEYS_MAX,
		 .shape = &key_shape),
	OPTIONAL(5, BOOL, message_compare, sums),
};

const struct shape compare_shape = {.size = sizeof(struct message_compare), FIELDS(compare_fields)};

static const struct field range_fields[] = {
	OPTIONAL(1, UUID, key_range, after),
	OPTIONAL(2, UUID, key_range, upto),
	OPTIONAL(3, I64, key_range, rows, .max = INT64_MAX),
	OPTIONAL(4, U64, key_range, hash),
};

static const struct shape range_shape = {.size = sizeof(struct key_range), FIELDS(range_fields), .check = check_range};

static const struct field ranges_fields[] = {
	REQUIRED(1, TEXT, message_ranges, scope),
	REQUIRED(2, U32, message_ranges, table, .min = 1, .max = UINT32_MAX),
	REQUIRED(3, I64, message_ranges, position, .max = INT64_MAX),
	OPTIONAL(4, LIST, message_ranges, ranges, COUNT(message_ranges, range_count), .max = FERRY_RANGES_MAX,
		 .shape = &range_shape),
	OPTIONAL(5, LIST, message_ranges, sums, COUNT(message_ranges, sum_count), .max = FERRY_SUMS_MAX, .shape = &sum_shape),
	OPTIONAL(6, BOOL, message_ranges, all_sums),
};

const struct shape ranges_shape = {.size = sizeof(struct message_ranges), FIELDS(ranges_fields)};
