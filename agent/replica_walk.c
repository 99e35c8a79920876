/* The keys of a range, in slices: what comparisons hash (R17, R21). */
#include <stdio.h>
#include <string.h>

#include "agent/replica_internal.h"

static sqlite3_stmt *keys_statement(struct replica *r, struct key_walk *w, const struct table *t)
{
	sqlite3_stmt *s;
	char *sql, *more;

	if (w->keys != NULL)
		return gate_statement(&r->g, &w->keys, "");
	more = !w->fetched ? sqlite3_mprintf("")
			   : sqlite3_mprintf("UNION SELECT key FROM ferry_restored WHERE tbl = %u AND key > ?1 AND key <= ?2 ", t->t->table);
	sql = more == NULL ? NULL : sqlite3_mprintf("SELECT \"%w\" FROM \"%w\" WHERE \"%w\" > ?1 AND \"%w\" <= ?2 UNION SELECT key "
						    "FROM ferry_pending WHERE tbl = %u AND key > ?1 AND key <= ?2 %sORDER BY 1 LIMIT %d",
						    t->t->key, t->t->name, t->t->key, t->t->key, t->t->table, more, WALK_SLICE_ROWS);
	s = sql == NULL ? NULL : gate_statement(&r->g, &w->keys, sql);
	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	sqlite3_free(more);
	sqlite3_free(sql);
	return s;
}

void walk_end(struct key_walk *w)
{
	gate_finalize(&w->keys);
}

bool walk_slice(struct replica *r, struct key_walk *w, struct table *t, const struct uuid *to, walk_cb each, void *ctx,
		uint32_t *done)
{
	char after[UUID_TEXT], upto[UUID_TEXT];
	sqlite3_stmt *s = keys_statement(r, w, t);
	uint32_t n = 0;

	uuid_format(&w->after, after);
	if (uuid_is_zero(to))
		(void)snprintf(upto, sizeof(upto), "ffffffff-ffff-ffff-ffff-ffffffffffff");
	else
		uuid_format(to, upto);
	for (bool more = gate_step(&r->g, s, "tt", after, upto); more; more = gate_next(&r->g, s)) {
		const char *text = (const char *)sqlite3_column_text(s, 0);
		struct uuid key;

		n++;
		if (text == NULL || !uuid_parse(text, UUID_TEXT - 1, &key))
			continue;
		memcpy(after, text, UUID_TEXT - 1);
		each(r, ctx, t, &key, after);
		w->after = key;
	}
	*done += n;
	return n < WALK_SLICE_ROWS;
}
