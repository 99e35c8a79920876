/* A single wire value as JSON, for ferry.conflict, and back. */
#ifndef FERRY_HUB_PG_JSON_H
#define FERRY_HUB_PG_JSON_H

#include "hub/pg_sql.h"
#include "protocol/arena.h"
#include "protocol/value.h"

/* Appends v. NULL appends nothing: it is SQL NULL. What JSON has no number
 * for (infinities, NaN, negative zero), UUIDs and bytes (\x...) are strings. */
void pg_json_add(struct pg_sql *out, enum column_kind kind, const struct value *v);
/* From the text that #>> '{}' gives (NULL: SQL NULL); text is copied into the
 * arena. A text that no longer fits the kind gives NULL. */
struct value pg_json_read(struct arena *a, enum column_kind kind, const char *text);

#endif
