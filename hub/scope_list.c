/* Sorted lists of scopes: what a device holds, what its replica has, and what
 * of it is to come. */
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool scope_list_copy(struct arena *a, const char *const *names, uint32_t count, struct scope_list *out)
{
	*out = (struct scope_list){.names = arena_array(a, count + 1u, sizeof(*out->names))};
	if (out->names == NULL)
		return false;
	for (; out->count < count; out->count++) {
		out->names[out->count] = arena_text(a, names[out->count], strlen(names[out->count]));
		if (out->names[out->count] == NULL)
			return false;
	}
	if (count > 1)
		qsort(out->names, count, sizeof(*out->names), compare);
	return true;
}

bool scope_list_has(const struct scope_list *l, const char *name)
{
	return l->count > 0 && bsearch(&name, l->names, l->count, sizeof(*l->names), compare) != NULL;
}

bool scope_list_equal(const struct scope_list *a, const struct scope_list *b)
{
	if (a->count != b->count)
		return false;
	for (uint32_t i = 0; i < a->count; i++) {
		if (strcmp(a->names[i], b->names[i]) != 0)
			return false;
	}
	return true;
}

void scope_list_pick(const struct scope_list *a, const struct scope_list *b, bool in, struct scope_list *out)
{
	out->count = 0;
	for (uint32_t i = 0; i < a->count; i++) {
		if (scope_list_has(b, a->names[i]) == in)
			out->names[out->count++] = a->names[i];
	}
}
