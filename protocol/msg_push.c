/* [P 7.4] push: change-sets from the agent, and [P 7.5] ack: how they fared.
 *
 *   push { 0: 4, 1: [change-set ...] }   one author's in the order of number and part
 *   ack  { 0: 5, 1: [settled ...] }
 */
#include "protocol/fields.h"

/* Within a message each author's change-sets ascend, and a set's parts follow
 * one another: a part that says `more` is followed by the next or by nothing. */
static const char *check_order(const struct change_set *before, const struct change_set *s)
{
	if (!uuid_equal(&before->author, &s->author))
		return NULL;
	if (s->number < before->number)
		return "change-sets are not in order";
	if (s->number == before->number && (!before->more || s->part != before->part + 1))
		return "the parts of a change-set are not in order";
	if (s->number > before->number && before->more)
		return "a change-set is cut short by the next";
	return NULL;
}

static const char *check_push(const void *p)
{
	const struct message_push *m = p;
	const char *complaint = NULL;

	if (m->set_count == 0)
		return "a push of nothing";
	for (uint32_t i = 1; i < m->set_count && complaint == NULL; i++)
		complaint = check_order(&m->sets[i - 1], &m->sets[i]);
	return complaint;
}

static const struct field push_fields[] = {
	REQUIRED(1, LIST, message_push, sets, COUNT(message_push, set_count), .max = FERRY_CHANGE_SETS_MAX,
		 .shape = &change_set_shape),
};

const struct shape push_shape = {.size = sizeof(struct message_push), FIELDS(push_fields), .check = check_push};

static const struct field ack_fields[] = {
	REQUIRED(1, LIST, message_ack, settled, COUNT(message_ack, settled_count), .max = FERRY_SETTLED_MAX,
		 .shape = &settled_shape),
};

const struct shape ack_shape = {.size = sizeof(struct message_ack), FIELDS(ack_fields)};
