/* Late values of columns whose type has changed since, by the functions that were
 * declared for it (ferry.change_type). They are asked for before the merge's
 * transaction begins: what a function refuses is then known like any other
 * value that has no place, and one that fails or is slow holds no row.
 * A staged change-set's are asked for portion by portion, inside the transaction,
 * since all of them together may be more than memory holds: of it they hold up the rows
 * that its earlier portions wrote. */
#include "hub/pg_merge.h"

#include <string.h>

#include "hub/pg_json.h"

/* What #>> '{}' would give of a value's JSON: strings bare. Only text has
 * characters to escape, and the backslash of bytes. */
static const char *plain_text(struct merge_op *m, const struct conversion *c)
{
	struct arena *a = &m->op.batch.arena;
	struct pg_sql sql;
	const char *text = NULL;

	if (c->in.kind == VALUE_TEXT)
		return arena_text(a, c->in.p, c->in.n);
	pg_sql_init(&sql);
	pg_json_add(&sql, c->kind, &c->in);
	if (!sql.failed && sql.p[0] == '"') {
		size_t skip = sql.p[1] == '\\' ? 2 : 1;

		text = arena_text(a, sql.p + skip, strlen(sql.p) - skip - 1);
	} else if (!sql.failed) {
		text = arena_text(a, sql.p, strlen(sql.p));
	}
	pg_sql_deinit(&sql);
	return text;
}

/* Adds the question to the batch. */
static void ask(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	struct conversions *list = &m->conversions;
	int64_t *numbers[5];
	const char **texts = arena_array(&b->arena, list->count, sizeof(*texts));

	b->full |= texts == NULL;
	for (int i = 0; i < 5; i++) {
		numbers[i] = arena_array(&b->arena, list->count, sizeof(**numbers));
		b->full |= numbers[i] == NULL;
	}
	for (uint32_t i = 0; !b->full && i < list->count; i++) {
		const struct conversion *c = &list->list[i];

		numbers[0][i] = (int64_t)c->table;
		numbers[1][i] = c->num;
		numbers[2][i] = (int64_t)c->to_table;
		numbers[3][i] = c->to;
		numbers[4][i] = c->step;
		texts[i] = plain_text(m, c);
		b->full |= texts[i] == NULL;
	}
	if (b->full)
		return;
	m->convert_call = pg_call(b, "SELECT c.value, c.refusal FROM ferry.convert_late($1, $2, $3, $4, $5, $6) c ORDER BY c.i");
	for (int i = 0; i < 5; i++)
		pg_arg_int8s(b, numbers[i], list->count);
	pg_arg_texts(b, texts, list->count);
}

void pg_conversions_ask(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	char tenant[UUID_TEXT];

	pg_batch_reset(b);
	uuid_format(&m->op.tenant, tenant);
	pg_call(b, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY");
	pg_call(b, "SELECT set_config('app.tenant_id', $1, true)");
	pg_arg_text(b, tenant);
	ask(m);
	pg_call(b, "COMMIT");
}

/* Read-only as well, which ends with the savepoint. */
void pg_conversions_ask_within(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;

	pg_batch_reset(b);
	pg_call(b, "SAVEPOINT ferry_convert");
	pg_call(b, "SET TRANSACTION READ ONLY");
	ask(m);
	pg_call(b, "ROLLBACK TO SAVEPOINT ferry_convert");
	pg_call(b, "RELEASE SAVEPOINT ferry_convert");
}

bool pg_conversions_read(struct merge_op *m, struct arena *a)
{
	const struct pg_batch *b = &m->op.batch;
	struct conversions *list = &m->conversions;

	if (pg_rows(b, m->convert_call) != list->count)
		return false;
	for (uint32_t i = 0; i < list->count; i++) {
		struct conversion *c = &list->list[i];

		if (!pg_is_null(b, m->convert_call, i, 1)) {
			const char *why = pg_text(b, m->convert_call, i, 1);

			c->refusal = arena_text(a, why, strlen(why));
			if (c->refusal == NULL)
				return false;
		}
		c->out = pg_json_read(a, c->now, pg_is_null(b, m->convert_call, i, 0) ? NULL : pg_text(b, m->convert_call, i, 0));
	}
	list->answered = true;
	return true;
}
