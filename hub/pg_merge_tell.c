/* What a refusal tells of whom it met: names, which the merge does not know.
 * Asked once a run's fate is clear, and only where something was refused. */
#include "hub/pg_json.h"
#include "hub/pg_merge.h"

#include <stdio.h>
#include <string.h>

#define CLASH_BYTES_MAX ((size_t)256 << 10) /* of rows that are asked about; of more nobody is named */
#define INDEXED_BYTES_MAX 8192u             /* a longer value fits in no index: a page's entry is a third of it */

static bool names_holder(const struct merge_entry *e)
{
	return e->state == ITEM_REJECTED && !uuid_is_zero(&e->holder);
}

static bool names_clash(const struct merge_entry *e)
{
	return e->state == ITEM_REJECTED && e->clash && e->constraint;
}

/* ------------------------------------------------------------ unique values */

static void add_value(struct pg_sql *sql, const struct pg_column *c, const struct value *v)
{
	struct pg_sql json;

	pg_sql_init(&json);
	pg_json_add(&json, c->kind, v);
	pg_sql_add(sql, "%s", v->kind == VALUE_NULL ? "null" : json.p);
	sql->failed |= json.failed;
	pg_sql_deinit(&json);
}

struct told { /* rows of one table that were to be written */
	const struct pg_table *table;
	enum row_op op;
	uint16_t column_count;
	uint32_t row_count;
	const uint16_t *nums;
	const struct uuid *keys;
	const struct value *cells;
};

/* What was not merged yet has not been looked at either. NULL: the index cannot hold the cell, or nothing can. */
static const struct pg_column *indexed(const struct told *w, uint16_t num, const struct value *v)
{
	int at = pg_table_column(w->table, num);
	const struct pg_column *c = at < 0 ? NULL : &w->table->columns[at];
	bool is_long = (v->kind == VALUE_TEXT || v->kind == VALUE_BYTES) && v->n > INDEXED_BYTES_MAX;

	return c && !is_long && value_fits(c->kind, v) && !value_has_nul(v) ? c : NULL;
}

static void add_cells(struct pg_sql *sql, const struct told *w, uint32_t row)
{
	const char *before = ",\"c\":{", *after = "";

	for (uint16_t c = 0; c < w->column_count; c++) {
		const struct value *v = &w->cells[(size_t)c * w->row_count + row];
		const struct pg_column *column = indexed(w, w->nums[c], v);

		if (!column)
			continue;
		pg_sql_add(sql, "%s\"%u\":", before, w->nums[c]);
		add_value(sql, column, v);
		before = ",";
		after = "}";
	}
	pg_sql_add(sql, "%s", after);
}

/* Deleted ones, too: their values are free for the others. */
static void add_rows(struct pg_sql *sql, const struct told *w)
{
	char key[UUID_TEXT];

	for (uint32_t row = 0; row < w->row_count && sql->n < CLASH_BYTES_MAX; row++) {
		uuid_format(&w->keys[row], key);
		pg_sql_add(sql, "%s{\"t\":%u,\"k\":\"%s\"", sql->n ? "," : "[", w->table->tbl, key);
		if (w->op != ROW_DELETE)
			add_cells(sql, w, row);
		pg_sql_add(sql, "}");
	}
}

static void note_clash(struct merge_op *m, struct merge_entry *e, struct pg_sql *sql)
{
	pg_sql_add(sql, "]");
	if (!sql->failed && sql->n > 1 && sql->n < CLASH_BYTES_MAX)
		e->clash = arena_text(&m->arena, sql->p, sql->n);
}

bool pg_tell_wants(const struct merge_entry *e)
{
	return e->state == ITEM_REJECTED && e->verdict == VERDICT_REJECTED && e->code == FERRY_UNIQUE && e->constraint && e->table;
}

/* The catalogue has "schema"."name". */
static bool is_table(const struct pg_table *t, const char *name)
{
	size_t all = strlen(t->name), n = strlen(name);

	return all > n + 2 && t->name[all - n - 2] == '"' && strncmp(t->name + all - n - 1, name, n) == 0;
}

void pg_tell_note(struct merge_op *m, struct merge_entry *e)
{
	struct pg_sql sql;

	if (!pg_tell_wants(e))
		return;
	pg_sql_init(&sql);
	for (uint32_t i = 0; i < m->writes.write_count; i++) {
		const struct merge_write *w = &m->writes.writes[i];
		struct told rows = {.table = pg_catalog_table(m->op.catalog, w->table), .op = w->op, .column_count = w->column_count,
				    .row_count = w->row_count, .nums = w->nums, .keys = w->keys, .cells = w->cells};

		if (rows.table && is_table(rows.table, e->table))
			add_rows(&sql, &rows);
	}
	note_clash(m, e, &sql);
	pg_sql_deinit(&sql);
}

bool pg_tell_portion(struct merge_op *m, const struct merge_entry *e)
{
	for (uint32_t i = 0; i < m->part_count; i++) {
		for (uint32_t k = 0; k < m->parts[i].block_count; k++) {
			const struct block *b = &m->parts[i].blocks[k];
			struct told rows = {.table = pg_catalog_table(m->op.catalog, b->table), .op = b->op, .column_count = b->column_count,
					    .row_count = b->row_count, .nums = b->nums, .keys = b->keys, .cells = b->cells};

			if (rows.table && is_table(rows.table, e->table))
				add_rows(&m->told, &rows);
		}
	}
	return !m->told.failed && m->told.n < CLASH_BYTES_MAX;
}

void pg_tell_portions_end(struct merge_op *m, struct merge_entry *e)
{
	note_clash(m, e, &m->told);
}

static uint32_t ask_clashes(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		const struct merge_entry *e = &m->entries[i];

		if (!names_clash(e))
			continue;
		m->clash_call = n++ ? m->clash_call : b->count;
		pg_call(b, "SELECT said, merges, mine, other FROM ferry.clash($1, $2, $3, $4::text::jsonb)");
		pg_arg_uuid(b, &m->op.tenant);
		pg_arg_uuid(b, &e->item->device);
		pg_arg_text(b, e->constraint);
		pg_arg_text(b, e->clash);
	}
	return n;
}

static void take_clash(struct merge_op *m, struct merge_entry *e, uint32_t call)
{
	const struct pg_batch *b = &m->op.batch;
	bool merges = !pg_is_null(b, call, 0, 1) && pg_bool(b, call, 0, 1);
	struct ferry_why why;

	ferry_why_set(&why, "%s: %s%s", e->sentence, pg_text(b, call, 0, 0), merges ? "; it can be merged into that one" : "");
	pg_run_reject(m, e, e->code, why.text);
	if (!merges)
		return;
	e->mine = pg_uuid(b, call, 0, 2);
	e->other = pg_uuid(b, call, 0, 3);
}

static void read_clashes(struct merge_op *m)
{
	uint32_t call = m->clash_call;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		struct merge_entry *e = &m->entries[i];

		if (!names_clash(e))
			continue;
		e->clash = NULL;
		if (pg_rows(&m->op.batch, call) > 0 && !pg_is_null(&m->op.batch, call, 0, 0))
			take_clash(m, e, call);
		call++;
	}
}

/* ------------------------------------------------------------------- guards */

static uint32_t count_holders(const struct merge_op *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->entry_count; i++)
		n += names_holder(&m->entries[i]);
	return n;
}

static uint32_t ask_holders(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	uint32_t count = count_holders(m), n = 0;
	struct uuid *holders = arena_array(&b->arena, count + 1u, sizeof(*holders));

	if (count == 0 || !holders)
		return 0;
	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (names_holder(&m->entries[i]))
			holders[n++] = m->entries[i].holder;
	}
	m->tell_call = pg_call(b, "SELECT ferry.device_label($1, u.device) FROM unnest($2::uuid[]) WITH ORDINALITY AS u(device, n) "
				  "ORDER BY u.n");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, holders, count);
	return count;
}

/* "set by device 0192..." becomes "set by Anna Berg's tablet". */
static void name_holder(struct merge_op *m, struct merge_entry *e, const char *label)
{
	char id[UUID_TEXT], device[UUID_TEXT + 8];
	struct ferry_why why;
	const char *at;

	uuid_format(&e->holder, id);
	snprintf(device, sizeof(device), "device %s", id);
	at = strstr(e->sentence, device);
	if (!at)
		return;
	ferry_why_set(&why, "%.*s%s%s", (int)(at - e->sentence), e->sentence, label, at + strlen(device));
	pg_run_reject(m, e, e->code, why.text);
}

static void read_holders(struct merge_op *m)
{
	uint32_t row = 0;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		struct merge_entry *e = &m->entries[i];

		if (!names_holder(e) || row == pg_rows(&m->op.batch, m->tell_call))
			continue;
		name_holder(m, e, pg_text(&m->op.batch, m->tell_call, row++, 0));
		e->holder = (struct uuid){{0}};
	}
}

bool pg_tell_ask(struct merge_op *m)
{
	uint32_t clashes = ask_clashes(m);

	return ask_holders(m) + clashes > 0;
}

void pg_tell_read(struct merge_op *m)
{
	read_clashes(m);
	read_holders(m);
}
