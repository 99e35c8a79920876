#include "tests/sim/sim_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct schema_column unit_columns[] = {
	{.num = 2, .name = "project", .kind = KIND_INT, .not_null = true},
	{.num = 3, .name = "name", .kind = KIND_TEXT},
	{.num = 4, .name = "price", .kind = KIND_INT},
	{.num = 5, .name = "status", .kind = KIND_INT},
};
static const struct schema_column note_columns[] = {
	{.num = 2, .name = "unit_id", .kind = KIND_UUID, .not_null = true, .ref_table = UNIT},
	{.num = 3, .name = "body", .kind = KIND_TEXT},
};
static const struct schema_column code_columns[] = {
	{.num = 2, .name = "label", .kind = KIND_TEXT},
};
static const struct schema_table tables[TABLES] = {
	{.table = UNIT, .name = "unit", .key = "id", .key_num = 1, .writable = true, .rank = 0,
	 .columns = unit_columns, .column_count = 4},
	{.table = NOTE, .name = "note", .key = "id", .key_num = 1, .writable = true, .rank = 1,
	 .columns = note_columns, .column_count = 2},
	{.table = CODE, .name = "code", .key = "id", .key_num = 1, .writable = true, .rank = 0,
	 .columns = code_columns, .column_count = 1},
};
static const struct schema schema = {.hash = 0x5153, .tables = tables, .table_count = TABLES};

const struct schema *sim_schema(void)
{
	return &schema;
}

int sim_columns(uint32_t table)
{
	return tables[table - 1].column_count;
}

uint16_t sim_num(int column)
{
	return (uint16_t)(column + 2);
}

/* Scattered, so that key order is not creation order. */
const struct uuid *sim_key(int key)
{
	static struct uuid keys[KEYS_MAX];
	struct uuid *u = &keys[key];
	u->b[0] = (uint8_t)(key * 97 + 13);
	u->b[1] = (uint8_t)(key >> 8);
	u->b[2] = (uint8_t)key;
	u->b[6] = 0x40;
	u->b[8] = 0x80;
	u->b[15] = 0x5a;
	return u;
}

int sim_key_number(const struct uuid *key)
{
	int n = key->b[1] << 8 | key->b[2];
	return n < KEYS_MAX && uuid_equal(key, sim_key(n)) ? n : -1;
}

struct value sim_value(uint32_t table, int column, int64_t cell)
{
	static char texts[TOKENS_MAX][12];
	enum column_kind kind = tables[table - 1].columns[column].kind;
	if (cell == CELL_NULL)
		return value_null();
	if (kind == KIND_INT)
		return value_int(cell);
	if (kind == KIND_UUID)
		return value_bytes(sim_key((int)cell), sizeof(struct uuid));
	int n = snprintf(texts[cell], sizeof texts[cell], "t%lld", (long long)cell);
	return value_text(texts[cell], (size_t)n);
}

bool sim_cell(uint32_t table, int column, const struct value *v, int64_t *out)
{
	char text[16] = "";
	if (column >= sim_columns(table))
		return false;
	switch (v->kind) {
	case VALUE_NULL:
		*out = CELL_NULL;
		break;
	case VALUE_INT:
		*out = v->i;
		break;
	case VALUE_BYTES:
		*out = v->n == sizeof(struct uuid) ? sim_key_number((const struct uuid *)(const void *)v->p) : -1;
		if (*out < 0)
			return false;
		break;
	case VALUE_TEXT:
		if (v->n < 2 || v->n >= sizeof text)
			return false;
		memcpy(text, v->p, v->n);
		*out = strtoll(text + 1, NULL, 10);
		if (*out >= TOKENS_MAX)
			return false;
		break;
	default:
		return false;
	}
	struct value back = sim_value(table, column, *out);
	return value_equal(&back, v);
}

int sim_scope_of(const struct sim_state *s, int key)
{
	const struct sim_row *row = &s->rows[key];
	if (row->table == CODE)
		return 0;
	if (row->table == NOTE) {
		row = &s->rows[row->cells[0]];
		if (!row->exists)
			return -1;
	}
	return (int)(row->cells[0] % 4);
}

const char *sim_scope_name(int scope)
{
	static const char *const names[SCOPES] = {"tenant", "project:1", "project:2", "project:3"};
	return names[scope];
}

int sim_scope_number(const char *name)
{
	for (int i = 0; i < SCOPES; i++)
		if (strcmp(name, sim_scope_name(i)) == 0)
			return i;
	return -1;
}

struct uuid sim_device_id(int device)
{
	return (struct uuid){.b = {0xde, 0x1c, 0xe0, [14] = (uint8_t)((device + 1) >> 8), [15] = (uint8_t)(device + 1)}};
}

int sim_device_number(const struct uuid *id)
{
	int device = (id->b[14] << 8 | id->b[15]) - 1;
	struct uuid expected = sim_device_id(device);
	return device >= 0 && uuid_equal(id, &expected) ? device : -1;
}
