/* [P 9.13] lease-ask: few numbers of a column are left at an agent, and
 * [P 9.14] lease: a range of numbers that this agent alone gives.
 *
 *   lease-ask {   0: 16, 1: table, 2: num }
 *
 *   lease     {   0: 17, 1: table, 2: num
 *                 3: first       value
 *                 4: last
 *                 5: step
 *               ? 6: padding     digits, with zeros in front
 *               ? 7: head        what stands before them
 *               ? 8: tail        and behind
 *               ? 9: until       microseconds; given no more from then on }
 */
#include "protocol/fields.h"

static const struct field lease_ask_fields[] = {
	REQUIRED(1, U32, message_lease_ask, table, .min = 1, .max = UINT32_MAX),
	REQUIRED(2, U16, message_lease_ask, num, .min = 1, .max = UINT16_MAX),
};

const struct shape lease_ask_shape = {.size = sizeof(struct message_lease_ask), FIELDS(lease_ask_fields)};

static const char *check_lease(const void *p)
{
	const struct message_lease *l = p;

	return l->last < l->first ? "a lease that ends before it begins" : NULL;
}

static const struct field lease_fields[] = {
	REQUIRED(1, U32, message_lease, table, .min = 1, .max = UINT32_MAX),
	REQUIRED(2, U16, message_lease, num, .min = 1, .max = UINT16_MAX),
	REQUIRED(3, I64, message_lease, first, .max = INT64_MAX),
	REQUIRED(4, I64, message_lease, last, .max = INT64_MAX),
	REQUIRED(5, I64, message_lease, step, .min = 1, .max = INT32_MAX),
	OPTIONAL(6, U32, message_lease, padding, .max = 18),
	OPTIONAL(7, TEXT, message_lease, head),
	OPTIONAL(8, TEXT, message_lease, tail),
	OPTIONAL(9, I64, message_lease, until, .min = INT64_MIN, .max = INT64_MAX),
};

const struct shape lease_shape = {.size = sizeof(struct message_lease), FIELDS(lease_fields), .check = check_lease};
