/* [P 7.2] A settled change-set, and [P 7.3] the conflicts it met.
 *
 *   settled  {   1: number
 *                2: verdict       1 accepted, 2 superseded, 3 rejected, 4 parked
 *              ? 3: position      of the transaction that settled it
 *              ? 4: code          of a refusal
 *              ? 5: sentence
 *              ? 6: [conflict ...]
 *              ? 7: mine          the row that met a unique value,
 *              ? 8: other         and the one that has it: mine may be merged into it }
 *
 *   conflict {   1: table
 *                2: key           16 bytes
 *              ? 3: num           column; left out: the whole row
 *                4: kind          1 update/update, 2 update/delete, 3 delete/update
 *              ? 5: device won    bool
 *              ? 6: device value
 *              ? 7: hub value
 *              ? 8: other         the device that wrote what was met; left out: the hub
 *              ? 9: left out      bool: both values are too large for the message, and stay at the hub }
 */
#include "protocol/fields.h"

static const struct field conflict_fields[] = {
	REQUIRED(1, U32, conflict, table, .min = 1, .max = UINT32_MAX),
	REQUIRED(2, UUID, conflict, key),
	OPTIONAL(3, U16, conflict, num),
	REQUIRED(4, U32, conflict, kind, .min = CONFLICT_UPDATE_UPDATE, .max = CONFLICT_DELETE_UPDATE),
	OPTIONAL(5, BOOL, conflict, device_won),
	OPTIONAL(6, VALUE, conflict, device_value),
	OPTIONAL(7, VALUE, conflict, hub_value),
	OPTIONAL(8, UUID, conflict, other),
	OPTIONAL(9, BOOL, conflict, left_out),
};

static const struct shape conflict_shape = {.size = sizeof(struct conflict), FIELDS(conflict_fields)};

static const char *check_settled(const void *p)
{
	const struct settled *s = p;
	bool stands = s->verdict == VERDICT_ACCEPTED || s->verdict == VERDICT_SUPERSEDED;

	if (stands && s->code != FERRY_OK)
		return "a change-set that stands with an error code";
	if (s->verdict == VERDICT_REJECTED && s->code == FERRY_OK)
		return "a refusal without a code";
	return NULL;
}

static const struct field settled_fields[] = {
	REQUIRED(1, I64, settled, number, .min = 1, .max = INT64_MAX),
	REQUIRED(2, U32, settled, verdict, .min = VERDICT_ACCEPTED, .max = VERDICT_PARKED),
	OPTIONAL(3, I64, settled, position, .max = INT64_MAX),
	OPTIONAL(4, INT, settled, code, .max = FERRY_CODE_MAX),
	OPTIONAL(5, TEXT, settled, sentence),
	OPTIONAL(6, LIST, settled, conflicts, COUNT(settled, conflict_count), .max = FERRY_CONFLICTS_MAX,
		 .shape = &conflict_shape),
	OPTIONAL(7, UUID, settled, mine),
	OPTIONAL(8, UUID, settled, other),
};

const struct shape settled_shape = {
	.size = sizeof(struct settled),
	FIELDS(settled_fields),
	.check = check_settled,
};
