#include <string.h>

#include "shared/policy_json.h"

static const struct item *member(const struct item *object, const struct item *key)
{
	for (uint32_t i = 0; i < object->count; i++) {
		if (item_equal(&object->keys[i], key))
			return &object->items[i];
	}
	return NULL;
}

bool policy_guard_allows(struct arena *a, const char *map, const struct value *from, const struct value *to)
{
	struct value text = map == NULL ? value_null() : value_text(map, strlen(map));
	struct item object, key, wanted;
	const struct item *next;

	if (item_read(a, &text, &object) != POLICY_MERGED || object.kind != ITEM_OBJECT ||
	    item_of_text(a, from, &key) != POLICY_MERGED || item_of_text(a, to, &wanted) != POLICY_MERGED)
		return false;
	next = member(&object, &key);
	for (uint32_t i = 0; next != NULL && i < next->count; i++) {
		if (item_equal(&next->items[i], &wanted))
			return true;
	}
	return false;
}
