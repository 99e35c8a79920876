#include "hub/merge_policy.h"

#include <string.h>

#include "shared/policy.h"
#include "shared/time_text.h"

static enum ferry_error keep_theirs(struct cell_result *out)
{
	*out = (struct cell_result){.writes = false};
	return FERRY_OK;
}

static enum ferry_error take_mine(const struct cell_edit *e, struct cell_result *out)
{
	*out = (struct cell_result){.writes = true, .value = *e->mine};
	return FERRY_OK;
}

/* Concurrent: one stands, the other is kept. */
static enum ferry_error choose(const struct cell_edit *e, bool mine, struct cell_result *out)
{
	*out = (struct cell_result){.writes = mine, .value = *e->mine, .conflict = true, .device_won = mine};
	return FERRY_OK;
}

static enum ferry_error merge_lww(const struct cell_edit *e, struct cell_result *out)
{
	if (value_equal(e->mine, e->theirs))
		return keep_theirs(out);
	return e->seen ? take_mine(e, out) : choose(e, e->later, out);
}

/* sign 1: the greater stands, -1: the lesser. A value stands against NULL. */
static enum ferry_error merge_extreme(const struct cell_edit *e, int sign, struct cell_result *out)
{
	int order;

	if (value_equal(e->mine, e->theirs))
		return keep_theirs(out);
	if (e->seen)
		return take_mine(e, out);
	if (e->mine->kind == VALUE_NULL || e->theirs->kind == VALUE_NULL)
		return choose(e, e->mine->kind != VALUE_NULL, out);
	if (!policy_compare(e->arena, e->column->kind, e->mine, e->theirs, &order))
		return choose(e, e->later, out);
	return choose(e, order * sign > 0, out);
}

static enum ferry_error merge_max(const struct cell_edit *e, struct cell_result *out)
{
	return merge_extreme(e, 1, out);
}

static enum ferry_error merge_min(const struct cell_edit *e, struct cell_result *out)
{
	return merge_extreme(e, -1, out);
}

/* What comes of a difference: the hub's value unless it is the device's verbatim. */
static enum ferry_error take_merged(const struct cell_edit *e, const struct value *merged, bool overlap,
				    struct cell_result *out)
{
	*out = (struct cell_result){.writes = !value_equal(merged, e->theirs), .by_hub = !value_equal(merged, e->mine),
				    .conflict = overlap && !e->seen, .device_won = e->later, .value = *merged};
	return FERRY_OK;
}

/* Counter, set, json, text. Whoever does not say what it saw has no difference
 * to apply: an insert, and an agent that does not know the policy. */
static enum ferry_error merge_difference(const struct cell_edit *e, struct cell_result *out, struct ferry_why *why)
{
	struct policy_edit d;
	struct value merged;

	if (e->old == NULL)
		return merge_lww(e, out);
	d = (struct policy_edit){.old = *e->old, .mine = *e->mine, .theirs = *e->theirs, .mine_wins = e->seen || e->later};
	switch (policy_merge(e->arena, e->column->policy, e->column->kind, &d, &merged)) {
	case POLICY_MERGED:
		return take_merged(e, &merged, false, out);
	case POLICY_OVERLAP:
		return take_merged(e, &merged, true, out);
	case POLICY_RANGE:
		return ferry_fail(why, FERRY_COUNTER, "%s.%s: the sum would leave the range of its type; change it by less",
				  e->table, e->column->name);
	case POLICY_FULL:
		return e->arena->full ? FERRY_LIMIT : FERRY_NO_MEMORY;
	default:
		return merge_lww(e, out);
	}
}

/* The hub's stands, however much earlier it is, until a person chooses. */
static enum ferry_error merge_review(const struct cell_edit *e, struct cell_result *out)
{
	if (value_equal(e->mine, e->theirs))
		return keep_theirs(out);
	return e->seen ? take_mine(e, out) : choose(e, false, out);
}

#define WORD_MAX 40

static const char *word(const struct value *v, char out[WORD_MAX])
{
	size_t n = v->kind != VALUE_TEXT ? 0 : v->n < WORD_MAX ? v->n : WORD_MAX - 1;

	while (n > 0 && n < v->n && (v->p[n] & 0xc0) == 0x80) /* whole characters */
		n--;
	if (n > 0)
		memcpy(out, v->p, n);
	out[n] = '\0';
	return n == 0 ? "empty" : out;
}

/* Who has it, and since when. */
static enum ferry_error refuse_late(const struct cell_edit *e, struct ferry_why *why)
{
	struct value at = value_int(e->version->at);
	char theirs[WORD_MAX], since[TIME_TEXT_MAX], by[UUID_TEXT];
	bool hub = uuid_is_zero(&e->version->author);

	if (!timestamp_to_text(&at, since))
		since[0] = '\0';
	uuid_format(&e->version->author, by);
	return ferry_fail(why, FERRY_GUARD, "%s.%s is %s since %s, set by %s%s; this change had not seen it", e->table,
			  e->column->name, word(e->theirs, theirs), since, hub ? "the hub" : "device ", hub ? "" : by);
}

/* Of two transitions from one value the first at the hub stands. */
static enum ferry_error merge_guard(const struct cell_edit *e, struct cell_result *out, struct ferry_why *why)
{
	char from[WORD_MAX], to[WORD_MAX];
	bool current = e->old != NULL ? value_equal(e->old, e->theirs) : e->seen;

	if (!current)
		return refuse_late(e, why);
	if (value_equal(e->mine, e->theirs))
		return keep_theirs(out);
	if (policy_guard_allows(e->arena, e->column->policy_options, e->theirs, e->mine))
		return take_mine(e, out);
	if (e->arena->full)
		return FERRY_LIMIT;
	return ferry_fail(why, FERRY_GUARD, "%s.%s cannot go from %s to %s", e->table, e->column->name,
			  word(e->theirs, from), word(e->mine, to));
}

/* However late, and whether it has seen theirs or not: a person decides, who
 * sees both. */
static enum ferry_error merge_approval(const struct cell_edit *e, struct cell_result *out)
{
	*out = (struct cell_result){.asks = !value_equal(e->mine, e->theirs)};
	return FERRY_OK;
}

/* Given once, with the row: what stands is not changed any more. */
static enum ferry_error merge_sequence(const struct cell_edit *e, struct cell_result *out, struct ferry_why *why)
{
	if (value_equal(e->mine, e->theirs))
		return keep_theirs(out);
	return ferry_fail(why, FERRY_NUMBER, "%s.%s is given once, when the row is made, and stays", e->table, e->column->name);
}

enum ferry_error merge_policy(const struct cell_edit *e, struct cell_result *out, struct ferry_why *why)
{
	switch (e->column->policy) {
	case POLICY_MAX:
		return merge_max(e, out);
	case POLICY_MIN:
		return merge_min(e, out);
	case POLICY_REVIEW:
		return merge_review(e, out);
	case POLICY_APPROVAL:
		return merge_approval(e, out);
	case POLICY_GUARD:
		return merge_guard(e, out, why);
	case POLICY_SEQUENCE:
		return merge_sequence(e, out, why);
	case POLICY_COUNTER:
	case POLICY_SET:
	case POLICY_JSON:
	case POLICY_TEXT:
		return merge_difference(e, out, why);
	default:
		return merge_lww(e, out);
	}
}
