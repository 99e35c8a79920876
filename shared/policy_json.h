/* JSON as policies need it: a document is read into items that point at its
 * bytes and written back compact, so that numbers keep every digit. shared/json.h
 * would turn them into doubles. Only shared/policy*.c use this. */
#ifndef FERRY_SHARED_POLICY_JSON_H
#define FERRY_SHARED_POLICY_JSON_H

#include "shared/policy.h"

enum item_kind { ITEM_ATOM, ITEM_ARRAY, ITEM_OBJECT };

struct item {
	enum item_kind kind;
	const uint8_t *text; /* an atom in its one form: a number as it is written, a text without needless escapes */
	uint32_t n;
	struct item *items;  /* elements, or values of an object */
	struct item *keys;   /* of an object, as atoms; as PostgreSQL orders them: shorter ones first */
	uint32_t count;
};

/* What is no JSON, too deep, or has a key twice: POLICY_UNFIT. */
enum policy_outcome item_read(struct arena *a, const struct value *text, struct item *out);
enum policy_outcome item_write(struct arena *a, const struct item *item, struct value *out); /* as PostgreSQL prints jsonb */
enum policy_outcome item_write_compact(struct arena *a, const struct item *item, struct value *out); /* without spaces */
/* A text (NULL: the empty one) as an atom. */
enum policy_outcome item_of_text(struct arena *a, const struct value *text, struct item *out);
bool item_equal(const struct item *x, const struct item *y);
int item_compare_keys(const struct item *x, const struct item *y);

#endif
