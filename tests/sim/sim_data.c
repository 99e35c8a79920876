#include "tests/sim/sim_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A column as the simulator knows it: the number it has where it is. */
struct place {
	uint32_t table;
	int cell;
	uint16_t num;
	const char *name;
	enum column_kind kind;
	unsigned with, without; /* changes that it takes, and that end it */
	bool not_null;
	uint32_t ref_table;
	const char *options; /* of its policy */
};

#define STAGE_MAP "{\"t0\":[\"t1\"],\"t1\":[\"t0\",\"t2\"],\"t2\":[\"t3\"],\"t3\":[\"t0\"]}"

static const struct place places[] = {
	{.table = UNIT, .cell = 0, .num = 2, .name = "project", .kind = KIND_INT, .not_null = true},
	{.table = UNIT, .cell = 1, .num = 3, .name = "name", .kind = KIND_TEXT, .without = CHANGE_TITLE},
	{.table = UNIT, .cell = 2, .num = 4, .name = "price", .kind = KIND_INT, .without = CHANGE_PRICE},
	{.table = UNIT, .cell = 2, .num = 4, .name = "price", .kind = KIND_TEXT, .with = CHANGE_PRICE},
	{.table = UNIT, .cell = 3, .num = 5, .name = "status", .kind = KIND_INT, .without = CHANGE_STATE | CHANGE_NO_STATUS},
	{.table = UNIT, .cell = 3, .num = 5, .name = "state", .kind = KIND_INT, .with = CHANGE_STATE, .without = CHANGE_NO_STATUS},
	{.table = UNIT, .cell = 4, .num = 6, .name = "extra", .kind = KIND_TEXT, .with = CHANGE_EXTRA},
	{.table = UNIT, .cell = 1, .num = 7, .name = "title", .kind = KIND_TEXT, .with = CHANGE_TITLE},
	{.table = NOTE, .cell = 0, .num = 2, .name = "unit_id", .kind = KIND_UUID, .not_null = true, .ref_table = UNIT},
	{.table = NOTE, .cell = 1, .num = 3, .name = "body", .kind = KIND_TEXT},
	{.table = CODE, .cell = 0, .num = 2, .name = "label", .kind = KIND_TEXT},
	{.table = TALLY, .cell = TALLY_PROJECT, .num = 2, .name = "project", .kind = KIND_INT, .not_null = true},
	{.table = TALLY, .cell = TALLY_WORD, .num = 3, .name = "word", .kind = KIND_TEXT},
	{.table = TALLY, .cell = TALLY_COUNT, .num = 4, .name = "count", .kind = KIND_INT},
	{.table = TALLY, .cell = TALLY_TOP, .num = 5, .name = "top", .kind = KIND_INT},
	{.table = TALLY, .cell = TALLY_LOW, .num = 6, .name = "low", .kind = KIND_INT},
	{.table = TALLY, .cell = TALLY_MARKS, .num = 7, .name = "marks", .kind = KIND_ARRAY},
	{.table = TALLY, .cell = TALLY_STAGE, .num = 8, .name = "stage", .kind = KIND_TEXT, .options = STAGE_MAP},
	{.table = TALLY, .cell = TALLY_REMARK, .num = 9, .name = "remark", .kind = KIND_TEXT},
	{.table = TAG, .cell = 0, .num = 2, .name = "word", .kind = KIND_TEXT, .with = CHANGE_TAG},
};
#define PLACES (sizeof places / sizeof *places)

static bool is_there(const struct place *p, unsigned changes)
{
	return (p->with & ~changes) == 0 && (p->without & changes) == 0;
}

struct made { /* a schema with what it points to */
	struct schema schema;
	struct schema_table tables[TABLES];
	struct schema_column columns[TABLES][CELLS_MAX];
	const struct schema_column *of_cell[TABLES][CELLS_MAX]; /* NULL: no column has it */
};

static void make(struct made *m, unsigned changes)
{
	static const char *const names[TABLES] = {"unit", "note", "code", "tally", "tag"};
	for (uint32_t t = 0; t < TABLES; t++) {
		uint16_t n = 0;
		for (size_t i = 0; i < PLACES; i++)
			if (places[i].table == t + 1 && is_there(&places[i], changes))
				m->columns[t][n++] = (struct schema_column){.num = places[i].num, .name = places[i].name, .kind = places[i].kind,
									   .not_null = places[i].not_null, .ref_table = places[i].ref_table,
									   .policy = sim_policy(places[i].table, places[i].cell), .policy_options = places[i].options};
		if (n > 0)
			m->tables[m->schema.table_count++] =
				(struct schema_table){.table = t + 1, .name = names[t], .key = "id", .key_num = 1, .writable = true,
						      .rank = t + 1 == NOTE, .columns = m->columns[t], .column_count = n};
	}
	for (uint32_t t = 0; t < TABLES; t++)
		for (int i = 0; i < CELLS_MAX && m->columns[t][i].num; i++)
			m->of_cell[t][sim_cell_of(t + 1, m->columns[t][i].num)] = &m->columns[t][i];
	m->schema.hash = SCHEMA_HASH + changes;
	m->schema.step = sim_schema_step(changes);
	m->schema.tables = m->tables;
}

static const struct made *made_of(unsigned changes)
{
	static struct made made[1u << CHANGES];
	if (!made[changes].schema.hash)
		make(&made[changes], changes);
	return &made[changes];
}

const struct schema *sim_schema(unsigned changes)
{
	return &made_of(changes)->schema;
}

int64_t sim_schema_step(unsigned changes)
{
	int64_t step = changes ? 1 : 0; /* a hub whose schema never changes counts no steps */
	for (unsigned c = changes; c; c &= c - 1)
		step++;
	return step;
}

const struct schema_table *sim_table(unsigned changes, uint32_t table)
{
	const struct schema *s = sim_schema(changes);
	return table >= 1 && table <= s->table_count ? &s->tables[table - 1] : NULL;
}

const struct schema_column *sim_column(unsigned changes, uint32_t table, int cell)
{
	return made_of(changes)->of_cell[table - 1][cell];
}

int sim_columns(uint32_t table)
{
	static const int cells[TABLES + 1] = {0, 5, 2, 1, 8, 1};
	return cells[table];
}

enum column_policy sim_policy(uint32_t table, int cell)
{
	static const enum column_policy tally[CELLS_MAX] = {[TALLY_COUNT] = POLICY_COUNTER, [TALLY_TOP] = POLICY_MAX,
		[TALLY_LOW] = POLICY_MIN, [TALLY_MARKS] = POLICY_SET, [TALLY_STAGE] = POLICY_GUARD, [TALLY_REMARK] = POLICY_REVIEW};
	return table == TALLY ? tally[cell] : POLICY_LWW;
}

int64_t sim_marks(int64_t cell)
{
	return cell < MARKS_CELL(0) ? 0 : cell - MARKS_CELL(0);
}

int64_t sim_laid_over(uint32_t table, int cell, int64_t old, int64_t mine, int64_t theirs)
{
	if (sim_policy(table, cell) == POLICY_COUNTER)
		return theirs + mine - old;
	int64_t was = sim_marks(old), is = sim_marks(mine);
	return MARKS_CELL((sim_marks(theirs) & ~(was & ~is)) | (is & ~was));
}

#define NUMS_MAX 16

int sim_cell_of(uint32_t table, uint16_t num)
{
	static int cells[TABLES + 1][NUMS_MAX]; /* 1 + cell */
	static bool made;
	for (size_t i = 0; !made && i < PLACES; i++)
		cells[places[i].table][places[i].num] = 1 + places[i].cell;
	made = true;
	return table <= TABLES && num < NUMS_MAX ? cells[table][num] - 1 : -1;
}

/* A cell whose column is none, or another one with another name or kind, between the two. */
bool sim_same_column(uint32_t table, int cell, unsigned a, unsigned b)
{
	const struct schema_column *x = sim_column(a, table, cell), *y = sim_column(b, table, cell);
	return x == y || (x && y && x->num == y->num && x->kind == y->kind);
}

void sim_row_under(struct sim_row *row, unsigned changes)
{
	for (int i = 0; row->exists && i < sim_columns(row->table); i++)
		if (!sim_column(changes, row->table, i))
			row->cells[i] = CELL_NULL;
}

const char *sim_row_text(const struct sim_row *row, char out[ROW_TEXT_MAX])
{
	int n = snprintf(out, ROW_TEXT_MAX, row->exists ? "there" : "gone");
	for (int i = 0; row->exists && i < sim_columns(row->table); i++)
		n += snprintf(out + n, ROW_TEXT_MAX - (size_t)n, " %lld", (long long)row->cells[i]);
	return out;
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

/* A price that has become text is its number, as PostgreSQL casts it. */
static bool plain(uint32_t table, int cell)
{
	return table == UNIT && cell == 2;
}

static bool is_marks(uint32_t table, int cell)
{
	return table == TALLY && cell == TALLY_MARKS;
}

static struct value marks_of(int64_t bits)
{
	static char texts[1 << MARKS][4 * MARKS + 3];
	char *text = texts[bits], *to = text;
	*to++ = '[';
	for (int i = 0; i < MARKS; i++)
		if (bits >> i & 1)
			to += snprintf(to, 5, "%s\"%c\"", to > text + 1 ? "," : "", 'a' + i);
	*to++ = ']';
	return value_text(text, (size_t)(to - text));
}

static struct value text_of(uint32_t table, int cell, int64_t value)
{
	if (is_marks(table, cell))
		return marks_of(sim_marks(value));
	static char texts[3][TOKENS_MAX][12];
	int kind = !plain(table, cell) ? 0 : value < 0 ? 1 : 2;
	char *text = texts[kind][value < 0 ? -value : value];
	int n = snprintf(text, sizeof texts[0][0], "%s%lld", kind == 0 ? "t" : "", (long long)value);
	return value_text(text, (size_t)n);
}

struct value sim_value(enum column_kind kind, uint32_t table, int cell, int64_t value)
{
	if (value == CELL_NULL)
		return value_null();
	if (kind == KIND_INT)
		return value_int(value);
	if (kind == KIND_UUID)
		return value_bytes(sim_key((int)value), sizeof(struct uuid));
	return text_of(table, cell, value);
}

/* In whatever order, each once. */
static bool read_marks(const struct value *v, int64_t *out)
{
	int64_t bits = 0;
	if (v->n < 2 || v->p[0] != '[' || v->p[v->n - 1] != ']')
		return false;
	for (size_t i = 1; i + 1 < v->n; i += 4) {
		int mark = i + 3 < v->n ? v->p[i + 1] - 'a' : -1;
		if (mark < 0 || mark >= MARKS || (bits >> mark & 1) || v->p[i] != '"' || v->p[i + 2] != '"')
			return false;
		bits |= INT64_C(1) << mark;
	}
	*out = MARKS_CELL(bits);
	return true;
}

static bool read_text(uint32_t table, int cell, const struct value *v, int64_t *out)
{
	if (is_marks(table, cell))
		return read_marks(v, out);
	char text[16] = "";
	size_t skip = plain(table, cell) ? 0 : 1;
	if (v->n <= skip || v->n >= sizeof text)
		return false;
	memcpy(text, v->p, v->n);
	*out = strtoll(text + skip, NULL, 10);
	if (*out >= TOKENS_MAX || *out <= -TOKENS_MAX)
		return false;
	struct value back = text_of(table, cell, *out);
	return value_equal(&back, v);
}

bool sim_cell(uint32_t table, uint16_t num, const struct value *v, int64_t *out)
{
	int cell = sim_cell_of(table, num);
	if (cell < 0)
		return false;
	switch (v->kind) {
	case VALUE_NULL:
		*out = CELL_NULL;
		return true;
	case VALUE_INT:
		*out = v->i;
		return true;
	case VALUE_BYTES:
		*out = v->n == sizeof(struct uuid) ? sim_key_number((const struct uuid *)(const void *)v->p) : -1;
		return *out >= 0;
	case VALUE_TEXT:
		return read_text(table, cell, v, out);
	default:
		return false;
	}
}

struct value sim_static(uint32_t table, uint16_t num, const struct value *v)
{
	int64_t value;
	enum column_kind kind = v->kind == VALUE_INT ? KIND_INT : v->kind == VALUE_BYTES ? KIND_UUID : KIND_TEXT;
	if (!sim_cell(table, num, v, &value))
		return value_null();
	return sim_value(kind, table, sim_cell_of(table, num), value);
}

int sim_scope_of(const struct sim_state *s, int key)
{
	const struct sim_row *row = &s->rows[key];
	if (row->table == CODE || row->table == TAG)
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
