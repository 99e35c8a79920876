/* Values of columns whose policy is approval: they are not written, but asked
 * for, by one call for a change-set. What comes of it stands in
 * sql/engine/0021_approvals.sql. */
#include "hub/pg_json.h"
#include "hub/pg_merge.h"

struct ask_lists {
	struct uuid *keys;
	int32_t *tables, *nums;
	int64_t *at;
	const char **values;
};

static const char *ask_json(struct merge_op *m, const struct merge_ask *a)
{
	const struct pg_table *t = pg_catalog_table(m->op.catalog, a->table);
	struct pg_sql json;
	const char *text;

	if (a->value.kind == VALUE_NULL)
		return NULL;
	pg_sql_init(&json);
	pg_json_add(&json, t->columns[pg_table_column(t, a->num)].kind, &a->value);
	text = json.failed ? NULL : arena_text(&m->op.batch.arena, json.p, json.n);
	if (!text)
		m->op.batch.full = true;
	pg_sql_deinit(&json);
	return text;
}

void pg_write_asks(struct merge_op *m, const struct merge_entry *e, const struct merge_outcome *o)
{
	struct pg_batch *b = &m->op.batch;
	const uint32_t n = o->ask_count;
	struct ask_lists l;

	if (n == 0)
		return;
	l = (struct ask_lists){.keys = arena_array(&b->arena, n, sizeof(struct uuid)),
			       .tables = arena_array(&b->arena, n, sizeof(int32_t)),
			       .nums = arena_array(&b->arena, n, sizeof(int32_t)),
			       .at = arena_array(&b->arena, n, sizeof(int64_t)),
			       .values = arena_array(&b->arena, n, sizeof(char *))};
	if (!l.keys || !l.tables || !l.nums || !l.at || !l.values) {
		b->full = true;
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		l.keys[i] = o->asks[i].key;
		l.tables[i] = (int32_t)o->asks[i].table;
		l.nums[i] = o->asks[i].num;
		l.at[i] = o->asks[i].at;
		l.values[i] = ask_json(m, &o->asks[i]);
	}
	pg_call(b, "SELECT ferry.ask_approvals($1, $2, $3, $4, $5, $6, $7, $8)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuid(b, &e->item->device);
	pg_arg_int8(b, e->item->number);
	pg_arg_int4s(b, l.tables, n);
	pg_arg_uuids(b, l.keys, n);
	pg_arg_int4s(b, l.nums, n);
	pg_arg_int8s(b, l.at, n);
	pg_arg_texts(b, l.values, n);
}
