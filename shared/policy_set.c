/* Arrays as sets: what the edit added comes, what it removed goes. */
#include <stdlib.h>
#include <string.h>

#include "shared/policy_json.h"

struct set { /* an array's elements as compact text: in their order, and sorted */
	struct value *elements, *sorted;
	uint32_t count;
};

static int compare_texts(const void *px, const void *py)
{
	const struct value *x = px, *y = py;

	if (x->n != y->n)
		return x->n < y->n ? -1 : 1;
	return memcmp(x->p, y->p, x->n);
}

static bool has(const struct set *s, const struct value *element)
{
	return s->count > 0 && bsearch(element, s->sorted, s->count, sizeof(*element), compare_texts) != NULL;
}

/* NULL is the empty set. */
static enum policy_outcome set_read(struct arena *a, const struct value *v, struct set *out)
{
	enum policy_outcome outcome;
	struct item array;

	*out = (struct set){.count = 0};
	if (v->kind == VALUE_NULL)
		return POLICY_MERGED;
	outcome = item_read(a, v, &array);
	if (outcome != POLICY_MERGED || array.kind != ITEM_ARRAY)
		return outcome == POLICY_MERGED ? POLICY_UNFIT : outcome;
	out->elements = arena_array(a, (size_t)array.count + 1, sizeof(*out->elements));
	if (out->elements == NULL)
		return POLICY_FULL;
	for (; out->count < array.count; out->count++) {
		outcome = item_write_compact(a, &array.items[out->count], &out->elements[out->count]);
		if (outcome != POLICY_MERGED)
			return outcome;
	}
	out->sorted = arena_copy(a, out->elements, ((size_t)out->count + 1) * sizeof(*out->sorted));
	if (out->sorted == NULL)
		return POLICY_FULL;
	qsort(out->sorted, out->count, sizeof(*out->sorted), compare_texts);
	return POLICY_MERGED;
}

static bool equal(const struct set *x, const struct set *y)
{
	for (uint32_t i = 0; i < x->count && x->count == y->count; i++) {
		if (compare_texts(&x->elements[i], &y->elements[i]) != 0)
			return false;
	}
	return x->count == y->count;
}

/* The hub's elements in their order without what the edit removed; then what
 * it added, in its order. *out_same: that changes nothing. */
static uint32_t choose(const struct set *old, const struct set *mine, const struct set *theirs, struct value *to,
		       bool *out_same)
{
	uint32_t n = 0, kept;

	for (uint32_t i = 0; i < theirs->count; i++) {
		const struct value *x = &theirs->elements[i];

		if (!has(old, x) || has(mine, x))
			to[n++] = *x;
	}
	kept = n;
	for (uint32_t i = 0; i < mine->count; i++) {
		if (!has(old, &mine->elements[i]) && !has(theirs, &mine->elements[i]))
			to[n++] = mine->elements[i];
	}
	*out_same = kept == theirs->count && n == kept;
	return n;
}

static enum policy_outcome print(struct arena *a, const struct value *elements, uint32_t count, struct value *out)
{
	size_t n = 2;
	uint8_t *p, *to;

	for (uint32_t i = 0; i < count; i++)
		n += (size_t)elements[i].n + (i > 0);
	p = arena_alloc(a, n);
	if (p == NULL)
		return POLICY_FULL;
	to = p;
	*to++ = '[';
	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			*to++ = ',';
		memcpy(to, elements[i].p, elements[i].n);
		to += elements[i].n;
	}
	*to = ']';
	*out = value_text(p, n);
	return POLICY_MERGED;
}

enum policy_outcome policy_set(struct arena *a, const struct policy_edit *e, struct value *out)
{
	struct set old, mine, theirs;
	enum policy_outcome outcome = e->mine.kind == VALUE_NULL ? POLICY_UNFIT : set_read(a, &e->mine, &mine);
	struct value *chosen;
	uint32_t count;
	bool same;

	if (outcome == POLICY_MERGED)
		outcome = set_read(a, &e->old, &old);
	if (outcome == POLICY_MERGED)
		outcome = set_read(a, &e->theirs, &theirs);
	if (outcome != POLICY_MERGED)
		return outcome;
	*out = e->mine;
	if (e->old.kind == e->theirs.kind && equal(&old, &theirs))
		return POLICY_MERGED; /* verbatim: also its order and what it holds twice */
	chosen = arena_array(a, (size_t)theirs.count + mine.count + 1, sizeof(*chosen));
	if (chosen == NULL)
		return POLICY_FULL;
	count = choose(&old, &mine, &theirs, chosen, &same);
	*out = e->theirs;
	return same ? POLICY_MERGED : print(a, chosen, count, out);
}
