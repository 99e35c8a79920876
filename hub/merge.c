/* The merge's rows: what was loaded, found by (table, key). The rules are in
 * merge_apply.c, the output in merge_writes.c. */
#include "hub/merge.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/merge_internal.h"

#define INDEX_SLOTS_MIN 256u
#define OUTPUT_BYTES_MIN ((size_t)1 << 16)

/* Keys come from devices, so the hash is keyed: who does not know hash_key
 * cannot make keys that collide. Results never depend on it. */
uint64_t merge_mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b | 1);

	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 29;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ (x >> 32);
}

static uint64_t row_hash(uint64_t hash_key, uint32_t table, const struct uuid *key)
{
	uint64_t halves[2];

	memcpy(halves, key->b, sizeof(halves));
	return merge_mix(merge_mix(halves[0] ^ hash_key, hash_key + table) ^ halves[1], hash_key);
}

static uint64_t hash_of_row(const void *ctx, uint32_t i)
{
	const struct merge *m = ctx;

	return row_hash(m->hash_key, m->rows[i]->table, &m->rows[i]->key);
}

/* Room for one more at a load of at most one half. */
bool index_reserve(struct index *x, uint64_t (*hash_of)(const void *ctx, uint32_t i), const void *ctx)
{
	uint32_t size = x->slots == NULL ? INDEX_SLOTS_MIN : (x->mask + 1) * 2;
	uint32_t *slots;

	if (x->slots != NULL && x->count < (x->mask + 1) / 2)
		return true;
	if (size == 0)
		return false;
	slots = calloc(size, sizeof(*slots));
	if (slots == NULL)
		return false;
	for (uint32_t i = 0; i < x->count; i++) {
		uint32_t at = (uint32_t)hash_of(ctx, i) & (size - 1);

		while (slots[at] != 0)
			at = (at + 1) & (size - 1);
		slots[at] = i + 1;
	}
	free(x->slots);
	x->slots = slots;
	x->mask = size - 1;
	return true;
}

int64_t merge_table_index(const struct schema *schema, uint32_t table)
{
	uint32_t low = 0, high = schema->table_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (schema->tables[middle].table < table)
			low = middle + 1;
		else
			high = middle;
	}
	return low < schema->table_count && schema->tables[low].table == table ? (int64_t)low : -1;
}

int merge_column_index(const struct schema_table *t, uint16_t num)
{
	int low = 0, high = t->column_count;

	while (low < high) {
		int middle = low + (high - low) / 2;

		if (t->columns[middle].num < num)
			low = middle + 1;
		else
			high = middle;
	}
	return low < t->column_count && t->columns[low].num == num ? low : -1;
}

static uint32_t row_slot(const struct merge *m, uint32_t table_index, const struct uuid *key)
{
	uint32_t at = (uint32_t)row_hash(m->hash_key, table_index, key) & m->row_index.mask;

	for (; m->row_index.slots[at] != 0; at = (at + 1) & m->row_index.mask) {
		const struct row *row = m->rows[m->row_index.slots[at] - 1];

		if (row->table == table_index && memcmp(row->key.b, key->b, sizeof(key->b)) == 0)
			break;
	}
	return at;
}

struct row *merge_find(const struct merge *m, uint32_t table_index, const struct uuid *key)
{
	uint32_t slot;

	if (m->row_index.slots == NULL)
		return NULL;
	slot = m->row_index.slots[row_slot(m, table_index, key)];
	return slot == 0 ? NULL : m->rows[slot - 1];
}

struct merge *merge_new(const struct schema *schema, size_t limit_bytes)
{
	struct merge *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	for (uint32_t i = 0; i < schema->table_count; i++)
		assert(schema->tables[i].column_count <= FERRY_COLUMNS_MAX);
	m->notes = calloc(schema->table_count + 1u, sizeof(*m->notes));
	if (m->notes == NULL) {
		free(m);
		return NULL;
	}
	m->schema = schema;
	m->limit_bytes = limit_bytes;
	m->hash_key = merge_mix((uint64_t)(uintptr_t)m, (uint64_t)(uintptr_t)schema);
	arena_init(&m->arena, limit_bytes);
	arena_init(&m->output, limit_bytes > SIZE_MAX / 8 ? SIZE_MAX / 2 : OUTPUT_BYTES_MIN + 4 * limit_bytes);
	return m;
}

void merge_free(struct merge *m)
{
	if (m == NULL)
		return;
	arena_deinit(&m->arena);
	arena_deinit(&m->output);
	free(m->rows);
	free(m->row_index.slots);
	free(m->stamps);
	free(m->stamp_index.slots);
	free(m->touched);
	free(m->journal);
	free(m->conflicts);
	free(m->asks);
	free(m->notes);
	free(m);
}

static void want_block(const struct merge *m, const struct block *b, uint32_t table_index,
		       void (*want)(void *ctx, uint32_t table, const struct uuid *keys, uint32_t count), void *ctx)
{
	uint32_t start = 0;

	for (uint32_t r = 0; r <= b->row_count; r++) {
		if (r < b->row_count && merge_find(m, table_index, &b->keys[r]) == NULL)
			continue;
		if (r > start)
			want(ctx, b->table, b->keys + start, r - start);
		start = r + 1;
	}
}

void merge_apart(struct merge *m, int64_t number)
{
	m->apart = number;
}

void merge_wants(const struct merge *m, const struct change_set *s,
		 void (*want)(void *ctx, uint32_t table, const struct uuid *keys, uint32_t count), void *ctx)
{
	for (uint32_t i = 0; i < s->block_count; i++) {
		int64_t table_index = merge_table_index(m->schema, s->blocks[i].table);

		/* An unknown table needs no rows: merge_apply refuses it. */
		if (table_index >= 0)
			want_block(m, &s->blocks[i], (uint32_t)table_index, want, ctx);
	}
}

static uint64_t all_columns(const struct schema_table *t)
{
	return COLUMN_BIT(t->column_count) - 1;
}

static void row_init(struct row *row, const struct merge_row *from, uint32_t table_index, uint64_t columns)
{
	*row = (struct row){
		.key = from->key,
		.table = table_index,
		.in_database = from->exists,
		.fresh = !from->known,
		.update_wins = from->update_wins,
		.kept = from->last_cells != NULL,
		.last_cells = from->last_cells,
		.version = from->version,
		.column_versions = from->column_versions,
		.born = from->born,
		.born_author = from->born_author,
		.born_number = from->born_number,
		.born_old_position = from->born_old_position,
		.born_last_position = from->born_last_position,
		.state = {
			.exists = from->exists,
			.known = from->known,
			.cells = from->exists ? from->cells : NULL,
			.given = columns,
			.born_stamp = NO_STAMP,
			.gone_stamp = NO_STAMP,
		},
	};
}

enum ferry_error merge_row(struct merge *m, const struct merge_row *from)
{
	int64_t table_index = merge_table_index(m->schema, from->table);
	struct row *row;
	uint32_t slot;

	assert(table_index >= 0);
	assert(!from->exists || from->cells != NULL || m->schema->tables[table_index].column_count == 0);
	if (!index_reserve(&m->row_index, hash_of_row, m) ||
	    !vector_grow((void **)&m->rows, m->row_count, &m->row_capacity, sizeof(struct row *)))
		return FERRY_NO_MEMORY;
	slot = row_slot(m, (uint32_t)table_index, &from->key);
	if (m->row_index.slots[slot] != 0)
		return FERRY_OK;
	row = arena_alloc(&m->arena, sizeof(*row));
	if (row == NULL)
		return m->arena.full ? FERRY_LIMIT : FERRY_NO_MEMORY;
	row_init(row, from, (uint32_t)table_index, all_columns(&m->schema->tables[table_index]));
	m->rows[m->row_count++] = row;
	m->row_index.slots[slot] = ++m->row_index.count;
	assert(m->row_index.count == m->row_count);
	return FERRY_OK;
}

static const struct row *row_of(const struct merge *m, uint32_t table, const struct uuid *key)
{
	int64_t table_index = merge_table_index(m->schema, table);

	return table_index < 0 ? NULL : merge_find(m, (uint32_t)table_index, key);
}

bool merge_knows(const struct merge *m, uint32_t table, const struct uuid *key)
{
	const struct row *row = row_of(m, table, key);

	return row != NULL && row->state.known;
}

bool merge_stands(const struct merge *m, uint32_t table, const struct uuid *key)
{
	const struct row *row = row_of(m, table, key);

	return row != NULL && row->state.exists;
}

void merge_note_write(struct merge *m, uint32_t table_index, const struct uuid *author, bool deletes)
{
	struct table_note *note = &m->notes[table_index];

	note->deleted |= deletes;
	if (deletes)
		return;
	note->several |= note->written && !uuid_equal(&note->writer, author);
	note->written = true;
	note->writer = *author;
}

bool merge_deletes(const struct merge *m, uint32_t table)
{
	int64_t index = merge_table_index(m->schema, table);

	return index >= 0 && m->notes[index].deleted;
}

bool merge_written_by_others(const struct merge *m, uint32_t table, const struct uuid *author)
{
	int64_t index = merge_table_index(m->schema, table);
	const struct table_note *note = index < 0 ? NULL : &m->notes[index];

	return note != NULL && note->written && (note->several || !uuid_equal(&note->writer, author));
}

bool merge_placed_by_another(const struct merge *m, uint32_t table, const struct uuid *key, uint16_t num,
			     const struct uuid *device)
{
	const struct row *row = row_of(m, table, key);
	int column;

	if (row == NULL || !row->state.exists)
		return false;
	if (row->state.born_stamp != NO_STAMP && !uuid_equal(&m->stamps[row->state.born_stamp].author, device))
		return true;
	column = num == 0 || row->state.stamped == 0 ? -1 : merge_column_index(&m->schema->tables[row->table], num);
	return column >= 0 && (row->state.stamped & COLUMN_BIT(column)) != 0 &&
	       !uuid_equal(&m->stamps[row->state.stamp_of[column]].author, device);
}

static uint64_t stamp_hash(const struct merge *m, const struct uuid *author, int64_t number, int64_t at)
{
	uint64_t halves[2];

	memcpy(halves, author->b, sizeof(halves));
	return merge_mix(merge_mix(halves[0] + (uint64_t)number, m->hash_key) ^ halves[1], m->hash_key + (uint64_t)at);
}

static uint64_t hash_of_stamp(const void *ctx, uint32_t i)
{
	const struct merge *m = ctx;

	return stamp_hash(m, &m->stamps[i].author, m->stamps[i].number, m->stamps[i].at);
}

static bool stamp_is(const struct merge_stamp *s, const struct uuid *author, int64_t number, int64_t at)
{
	return s->at == at && s->number == number && memcmp(s->author.b, author->b, sizeof(author->b)) == 0;
}

bool merge_stamp_find(struct merge *m, const struct uuid *author, int64_t number, int64_t at, uint32_t *out_stamp)
{
	uint32_t slot;

	if (m->stamp_count > 0 && stamp_is(&m->stamps[m->stamp_count - 1], author, number, at)) {
		*out_stamp = m->stamp_count - 1;
		return true;
	}
	if (!index_reserve(&m->stamp_index, hash_of_stamp, m) ||
	    !vector_grow((void **)&m->stamps, m->stamp_count, &m->stamp_capacity, sizeof(struct merge_stamp)))
		return false;
	slot = (uint32_t)stamp_hash(m, author, number, at) & m->stamp_index.mask;
	for (; m->stamp_index.slots[slot] != 0; slot = (slot + 1) & m->stamp_index.mask) {
		uint32_t i = m->stamp_index.slots[slot] - 1;

		if (stamp_is(&m->stamps[i], author, number, at)) {
			*out_stamp = i;
			return true;
		}
	}
	m->stamps[m->stamp_count] = (struct merge_stamp){.author = *author, .number = number, .at = at};
	*out_stamp = m->stamp_count++;
	m->stamp_index.slots[slot] = ++m->stamp_index.count;
	return true;
}
