/* JSON objects: each key by itself, and objects within objects likewise. All
 * else, arrays too, is one value. */
#include <string.h>

#include "shared/policy_json.h"

struct merging {
	struct arena *a;
	bool mine_wins, overlap, full;
};

static bool same(const struct item *x, const struct item *y) /* NULL: not there */
{
	return x == NULL || y == NULL ? x == y : item_equal(x, y);
}

static bool is_object(const struct item *x)
{
	return x != NULL && x->kind == ITEM_OBJECT;
}

static const struct item *merge_members(struct merging *m, const struct item *old, const struct item *mine,
					const struct item *theirs);

/* Any may be NULL for "not there", the result too. */
static const struct item *merge_item(struct merging *m, const struct item *old, const struct item *mine,
				     const struct item *theirs)
{
	if (same(mine, old))
		return theirs;
	if (same(theirs, old) || same(mine, theirs))
		return mine;
	if (is_object(mine) && is_object(theirs))
		return merge_members(m, is_object(old) ? old : NULL, mine, theirs);
	m->overlap = true;
	return m->mine_wins ? mine : theirs;
}

/* The value that the object has under the key, if that is where the walk
 * stands; the walk then moves on. */
static const struct item *take(const struct item *object, uint32_t *at, const struct item *key)
{
	if (object == NULL || *at >= object->count || item_compare_keys(&object->keys[*at], key) != 0)
		return NULL;
	return &object->items[(*at)++];
}

static const struct item *least(const struct item *object, uint32_t at, const struct item *key)
{
	if (object == NULL || at >= object->count)
		return key;
	return key == NULL || item_compare_keys(&object->keys[at], key) < 0 ? &object->keys[at] : key;
}

static const struct item *merge_members(struct merging *m, const struct item *old, const struct item *mine,
					const struct item *theirs)
{
	uint32_t o = 0, i = 0, t = 0, most = mine->count + theirs->count;
	struct item *out = arena_array(m->a, 1, sizeof(*out));
	struct item *keys = arena_array(m->a, (size_t)most + 1, sizeof(*keys));
	struct item *items = arena_array(m->a, (size_t)most + 1, sizeof(*items));
	const struct item *key;

	if (out == NULL || keys == NULL || items == NULL) {
		m->full = true;
		return mine;
	}
	*out = (struct item){.kind = ITEM_OBJECT, .keys = keys, .items = items};
	while ((key = least(old, o, least(mine, i, least(theirs, t, NULL)))) != NULL) {
		const struct item *was = take(old, &o, key), *my = take(mine, &i, key), *their = take(theirs, &t, key);
		const struct item *value = merge_item(m, was, my, their);

		if (value == NULL)
			continue;
		keys[out->count] = *key;
		items[out->count++] = *value;
	}
	return out;
}

static enum policy_outcome read_three(struct arena *a, const struct policy_edit *e, struct item *old, struct item *mine,
				      struct item *theirs)
{
	enum policy_outcome outcome = item_read(a, &e->mine, mine);

	if (outcome == POLICY_MERGED)
		outcome = item_read(a, &e->theirs, theirs);
	if (outcome == POLICY_MERGED && e->old.kind != VALUE_NULL)
		outcome = item_read(a, &e->old, old);
	return outcome;
}

enum policy_outcome policy_json(struct arena *a, const struct policy_edit *e, struct value *out)
{
	struct merging m = {.a = a, .mine_wins = e->mine_wins};
	struct item old, mine, theirs;
	const struct item *merged;
	enum policy_outcome outcome;

	*out = e->mine;
	if (value_equal(&e->old, &e->theirs) && e->mine.kind != VALUE_NULL)
		return POLICY_MERGED;
	outcome = read_three(a, e, &old, &mine, &theirs);
	if (outcome != POLICY_MERGED)
		return outcome;
	merged = merge_item(&m, e->old.kind == VALUE_NULL ? NULL : &old, &mine, &theirs);
	if (m.full)
		return POLICY_FULL;
	if (item_equal(merged, &theirs))
		*out = e->theirs;
	else if (!item_equal(merged, &mine))
		outcome = item_write(a, merged, out);
	return outcome == POLICY_MERGED && m.overlap ? POLICY_OVERLAP : outcome;
}
