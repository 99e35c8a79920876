/* [P 9.3] schema: the tables that a device gets.
 *
 *   schema { 0: 3
 *            1: hash           never 0
 *          ? 2: [table ...]    ordered by number
 *          ? 3: step           only rises }
 *
 *   table  { 1: number, 2: name in the replica, 3: name of the key column,
 *            4: number of the key column, ? 5: writable, ? 6: rank,
 *          ? 7: [column ...]   ordered by number, without the key column }
 *
 *   column { 1: number, 2: name, 3: kind, ? 4: not null, ? 5: read only,
 *          ? 6: has a default, ? 7: default as SQL, ? 8: [label ...],
 *          ? 9: table it refers to, ? 10: policy,
 *          ? 11: cell          what rows got that were there when the column came,
 *          ? 12: lease }
 */
#include "protocol/fields.h"

static const struct field column_fields[] = {
	REQUIRED(1, U16, schema_column, num, .min = 1, .max = UINT16_MAX),
	REQUIRED(2, TEXT, schema_column, name),
	REQUIRED(3, U32, schema_column, kind, .min = 0, .max = KIND_COUNT - 1),
	OPTIONAL(4, BOOL, schema_column, not_null),
	OPTIONAL(5, BOOL, schema_column, read_only),
	OPTIONAL(6, BOOL, schema_column, has_default),
	OPTIONAL(7, TEXT, schema_column, default_sql),
	OPTIONAL(8, TEXTS, schema_column, labels, COUNT(schema_column, label_count), .max = FERRY_LABELS_MAX),
	OPTIONAL(9, U32, schema_column, ref_table),
	OPTIONAL(10, U32, schema_column, policy, .min = 0, .max = UINT16_MAX),
	OPTIONAL(11, VALUE, schema_column, filled),
	OPTIONAL(12, U32, schema_column, lease, .max = FERRY_LEASE_MAX),
};

static const struct shape column_shape = {.size = sizeof(struct schema_column), FIELDS(column_fields)};

static const char *check_table(const void *p)
{
	const struct schema_table *t = p;

	if (t->name[0] == '\0' || t->key[0] == '\0')
		return "a table or key without a name";
	for (uint16_t i = 0; i < t->column_count; i++) {
		if (i > 0 && t->columns[i].num <= t->columns[i - 1].num)
			return "columns are not ordered by number";
		if (t->columns[i].num == t->key_num)
			return "the key column is among the columns";
		if (t->columns[i].name[0] == '\0')
			return "a column without a name";
	}
	return NULL;
}

static const struct field table_fields[] = {
	REQUIRED(1, U32, schema_table, table, .min = 1, .max = UINT32_MAX),
	REQUIRED(2, TEXT, schema_table, name),
	REQUIRED(3, TEXT, schema_table, key),
	REQUIRED(4, U16, schema_table, key_num, .min = 1, .max = UINT16_MAX),
	OPTIONAL(5, BOOL, schema_table, writable),
	OPTIONAL(6, U32, schema_table, rank),
	OPTIONAL(7, LIST, schema_table, columns, COUNT(schema_table, column_count), .count16 = true,
		 .max = FERRY_COLUMNS_MAX, .shape = &column_shape),
};

static const struct shape table_shape = {
	.size = sizeof(struct schema_table),
	FIELDS(table_fields),
	.check = check_table,
};

static const char *check_schema(const void *p)
{
	const struct schema *s = p;

	if (s->hash == 0)
		return "a schema hash of 0";
	for (uint32_t i = 1; i < s->table_count; i++) {
		if (s->tables[i].table <= s->tables[i - 1].table)
			return "tables are not ordered by number";
	}
	return NULL;
}

static const struct field schema_fields[] = {
	REQUIRED(1, U64, schema, hash),
	OPTIONAL(2, LIST, schema, tables, COUNT(schema, table_count), .max = FERRY_TABLES_MAX,
		 .shape = &table_shape),
	OPTIONAL(3, I64, schema, step, .max = INT64_MAX),
};

const struct shape schema_shape = {.size = sizeof(struct schema), FIELDS(schema_fields), .check = check_schema};
