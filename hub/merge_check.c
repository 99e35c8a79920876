/* A change-set's form against the schema: whatever a device may get wrong
 * without the hub's rows being looked at. Refuses with a sentence that names
 * table and column. */
#include <string.h>

#include "hub/merge.h"
#include "hub/merge_internal.h"

static bool has_label(const struct schema_column *c, const struct value *v)
{
	for (uint32_t i = 0; i < c->label_count; i++) {
		if (strlen(c->labels[i]) == v->n && memcmp(c->labels[i], v->p, v->n) == 0)
			return true;
	}
	return c->label_count == 0;
}

static enum ferry_error check_cell(const struct schema_table *t, const struct schema_column *c, bool may_leave,
				   const struct value *v, struct ferry_why *why)
{
	if (v->kind == VALUE_NULL) {
		/* What makes a row may leave to the hub what has a default there. */
		if (!c->not_null || (may_leave && c->has_default))
			return FERRY_OK;
		return ferry_fail(why, FERRY_NOT_NULL, "%s.%s must have a value", t->name, c->name);
	}
	if (!value_fits(c->kind, v))
		return ferry_fail(why, FERRY_BAD_VALUE, "%s.%s: the value is no %s", t->name, c->name,
				  column_kind_name(c->kind));
	if (value_has_nul(v))
		return ferry_fail(why, FERRY_NUL_IN_TEXT, "%s.%s: the text holds a NUL character; remove it", t->name,
				  c->name);
	if (c->kind == KIND_ENUM && !has_label(c, v))
		return ferry_fail(why, FERRY_BAD_VALUE, "%s.%s: the value is none of the column's labels", t->name,
				  c->name);
	return FERRY_OK;
}

static enum ferry_error check_columns(const struct schema_table *t, const struct block *b, struct ferry_why *why)
{
	for (uint16_t i = 0; i < b->column_count; i++) {
		int c = merge_column_index(t, b->nums[i]);

		if (c < 0)
			return ferry_fail(why, FERRY_UNKNOWN_COLUMN, "%s has no column number %u", t->name,
					  (unsigned)b->nums[i]);
		if (t->columns[c].read_only)
			return ferry_fail(why, FERRY_UNKNOWN_COLUMN, "%s.%s cannot be written by devices", t->name,
					  t->columns[c].name);
		if (i > 0 && b->nums[i] <= b->nums[i - 1])
			return ferry_fail(why, FERRY_BAD_VALUE, "%s: the column numbers do not ascend", t->name);
	}
	return FERRY_OK;
}

static bool lists_column(const struct block *b, uint16_t num)
{
	for (uint16_t i = 0; i < b->column_count; i++) {
		if (b->nums[i] == num)
			return true;
	}
	return false;
}

static enum ferry_error check_left_out(const struct schema_table *t, const struct block *b, struct ferry_why *why)
{
	for (uint16_t c = 0; c < t->column_count; c++) {
		const struct schema_column *column = &t->columns[c];

		if (column->not_null && !column->has_default && !lists_column(b, column->num))
			return ferry_fail(why, FERRY_NOT_NULL, "%s.%s must have a value", t->name, column->name);
	}
	return FERRY_OK;
}

static enum ferry_error check_cells(const struct schema_table *t, const struct block *b, struct ferry_why *why)
{
	for (uint16_t i = 0; i < b->column_count; i++) {
		const struct schema_column *c = &t->columns[merge_column_index(t, b->nums[i])];
		const struct value *cells = b->cells + (size_t)i * b->row_count;

		for (uint32_t r = 0; r < b->row_count; r++) {
			enum ferry_error e = check_cell(t, c, b->op == ROW_INSERT || b->part_of != 0, &cells[r], why);

			if (e != FERRY_OK)
				return e;
		}
	}
	return FERRY_OK;
}

static enum ferry_error check_bases(const struct schema_table *t, const struct block *b, struct ferry_why *why)
{
	for (uint32_t i = 0; i < b->base_count; i++) {
		const struct row_base *base = &b->bases[i];

		if (base->row >= b->row_count || (i > 0 && base->row < base[-1].row))
			return ferry_fail(why, FERRY_BAD_VALUE, "%s: the bases are not in the order of the rows", t->name);
	}
	return FERRY_OK;
}

static enum ferry_error check_block(const struct schema *schema, const struct block *b, struct ferry_why *why)
{
	int64_t i = merge_table_index(schema, b->table);
	const struct schema_table *t;
	enum ferry_error e;

	if (i < 0)
		return ferry_fail(why, FERRY_UNKNOWN_TABLE, "there is no table number %u", (unsigned)b->table);
	t = &schema->tables[i];
	if (!t->writable)
		return ferry_fail(why, FERRY_UNKNOWN_TABLE, "%s cannot be written by devices", t->name);
	if (b->op != ROW_INSERT && b->op != ROW_UPDATE && b->op != ROW_DELETE)
		return ferry_fail(why, FERRY_BAD_VALUE, "%s: a device cannot push operation %d", t->name, (int)b->op);
	if (b->op == ROW_DELETE && b->column_count > 0)
		return ferry_fail(why, FERRY_BAD_VALUE, "%s: a delete has no columns", t->name);
	e = check_columns(t, b, why);
	if (e == FERRY_OK)
		e = check_bases(t, b, why);
	if (e == FERRY_OK && b->op == ROW_INSERT)
		e = check_left_out(t, b, why);
	return e == FERRY_OK ? check_cells(t, b, why) : e;
}

enum ferry_error merge_check(const struct schema *schema, const struct change_set *s, struct ferry_why *why)
{
	for (uint32_t i = 0; i < s->block_count; i++) {
		enum ferry_error e = check_block(schema, &s->blocks[i], why);

		if (e != FERRY_OK)
			return e;
	}
	return FERRY_OK;
}
