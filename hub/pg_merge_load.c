/* What a run touches: rows locked and loaded with their versions, set-wise
 * by table, and given to the merge. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/pg_merge.h"

#define SURROGATE_MASK ((INT64_C(1) << 48) - 1)

/* ------------------------------------------------------------------- wants */

static struct merge_table *table_of(struct merge_op *m, uint32_t tbl)
{
	struct pg_table *t;

	for (uint32_t i = 0; i < m->table_count; i++) {
		if (m->tables[i].table->tbl == tbl)
			return &m->tables[i];
	}
	t = pg_catalog_table(m->op.catalog, tbl);
	if (!t || !t->writable)
		return NULL; /* the merge refuses the change-set */
	if (!m->tables)
		m->tables = arena_array(&m->load_arena, m->op.catalog->table_count, sizeof(*m->tables));
	if (!m->tables)
		return NULL;
	m->tables[m->table_count] = (struct merge_table){.table = t};
	return &m->tables[m->table_count++];
}

const struct merge_table *pg_load_table(const struct merge_op *m, uint32_t tbl)
{
	for (uint32_t i = 0; i < m->table_count; i++) {
		if (m->tables[i].table->tbl == tbl)
			return &m->tables[i];
	}
	return NULL;
}

static bool add_keys(struct merge_op *m, struct merge_table *t, const struct uuid *keys, uint32_t count)
{
	if (count == 0)
		return true;
	if (t->count + count > t->capacity) {
		uint32_t capacity = t->capacity * 2 > t->count + count ? t->capacity * 2 : t->count + count;
		struct uuid *more = arena_array(&m->load_arena, capacity, sizeof(*more));

		if (!more)
			return false;
		if (t->count)
			memcpy(more, t->keys, t->count * sizeof(*more));
		t->keys = more;
		t->capacity = capacity;
	}
	memcpy(t->keys + t->count, keys, count * sizeof(*keys));
	t->count += count;
	return true;
}

/* No more stamps than moments, which mostly many rows in turn share. */
static uint32_t count_moments(const struct block *b)
{
	uint32_t n = 0;

	for (uint32_t r = 0; b->at && r < b->row_count; r++)
		n += r == 0 || b->at[r] != b->at[r - 1];
	return n;
}

/* An edit meets the cells that it writes; a deletion keeps the whole row. */
static void want_columns(struct merge_table *t, const struct block *b)
{
	if (b->op == ROW_DELETE)
		t->columns = UINT64_MAX;
	for (uint16_t i = 0; i < b->column_count; i++) {
		int c = pg_table_column(t->table, b->nums[i]);

		if (c >= 0)
			t->columns |= UINT64_C(1) << c;
	}
}

/* What is written of a restricted row goes into its table's row too. Whoever
 * writes that one locks it first, so this does too: tables are locked in the
 * order of their numbers, and a restricted one was tracked later. */
static bool want_beside(struct merge_op *m, uint32_t tbl, const struct block *b)
{
	struct merge_table *t = tbl ? table_of(m, tbl) : NULL;

	return !t || add_keys(m, t, b->keys, b->row_count);
}

bool pg_load_wants(struct merge_op *m, const struct change_set *s)
{
	uint32_t stamps = 0;

	for (uint32_t i = 0; i < s->block_count; i++) {
		const struct block *b = &s->blocks[i];
		struct merge_table *t = table_of(m, b->table);

		m->row_wish += b->row_count;
		stamps += count_moments(b);
		if (t && !add_keys(m, t, b->keys, b->row_count))
			return false;
		if (t)
			want_columns(t, b);
		if (t && !want_beside(m, t->table->beside, b))
			return false;
	}
	m->stamp_wish += stamps + 1; /* and one for rows without a moment of their own */
	return !m->load_arena.full;
}

static int compare_uuid(const void *a, const void *b)
{
	return uuid_compare(a, b);
}

static void sort_keys(struct merge_table *t)
{
	uint32_t n = 0;

	qsort(t->keys, t->count, sizeof(*t->keys), compare_uuid);
	for (uint32_t i = 0; i < t->count; i++) {
		if (n == 0 || !uuid_equal(&t->keys[n - 1], &t->keys[i]))
			t->keys[n++] = t->keys[i];
	}
	t->count = n;
}

static int compare_rank(const void *x, const void *y)
{
	const struct merge_table *a = x, *b = y;

	return a->table->tbl < b->table->tbl ? -1 : 1;
}

/* --------------------------------------------------------------- questions
 *
 * Keys meet their tables in LATERAL subqueries: one descent of the primary
 * key for each, in the order of the keys, which is the order of the locks.
 * (Plans are made anew as tables grow: see pg_op_begin.)
 */

static void ask_rows(struct merge_op *m, struct merge_table *t)
{
	struct pg_batch *b = &m->op.batch;
	struct pg_sql sql;

	/* Few rows are read whole, by a statement that is prepared; and rows that
	 * may come back from a deletion. */
	if (!m->op.plans_for_size || t->table->update_wins)
		t->columns = UINT64_MAX;
	pg_sql_init(&sql);
	pg_sql_add(&sql, "SELECT x.* FROM unnest($2::uuid[]) AS k(key) CROSS JOIN LATERAL (SELECT r.%s", t->table->key);
	for (uint16_t c = 0; c < t->table->column_count; c++) {
		if (t->columns >> c & 1)
			pg_sql_add(&sql, ", %s", t->table->columns[c].wire);
	}
	pg_sql_add(&sql, " FROM %s r WHERE r.%s = $1 AND r.%s = k.key FOR NO KEY UPDATE OF r SKIP LOCKED) x",
		   t->table->name, t->table->tenant, t->table->key);
	t->rows_call = pg_call(b, sql.p);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, t->keys, t->count);
	if (sql.failed)
		b->full = true;
	pg_sql_deinit(&sql);
}

/* Deleted rows as they were, where an update may put them back. */
static void ask_last(struct merge_op *m, struct merge_table *t)
{
	struct pg_batch *b = &m->op.batch;
	struct pg_sql sql;

	pg_sql_init(&sql);
	pg_sql_add(&sql, "SELECT g.key");
	for (uint16_t c = 0; c < t->table->column_count; c++)
		pg_sql_add(&sql, ", %s", t->table->columns[c].wire);
	pg_sql_add(&sql, " FROM ferry.last_rows($1, %u, $2) g CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, g.image) r",
		   t->table->tbl, t->table->name);
	t->last_call = pg_call(b, sql.p);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, t->keys, t->count);
	if (sql.failed)
		b->full = true;
	pg_sql_deinit(&sql);
}

/* Versions, and behind them, without a key, what their surrogates stand for:
 * each once, as mostly a few transactions wrote many rows. */
static const char versions_sql[] =
	"WITH v AS MATERIALIZED (SELECT x.* FROM unnest($3::uuid[]) AS k(key) CROSS JOIN LATERAL ("
	"SELECT v.key, v.deleted, v.tx, v.base_tx, v.born, v.scope, v.over, v.also, v.own FROM ferry.version v "
	"WHERE v.tenant_id = $1 AND v.tbl = $2 AND v.key = k.key OFFSET 0) x), "
	"u AS MATERIALIZED (SELECT v.base_tx AS id FROM v UNION SELECT v.born FROM v "
	"UNION SELECT v.tx FROM v WHERE v.deleted "
	"UNION SELECT x & 281474976710655 FROM v, unnest(v.over) x WHERE v.over IS NOT NULL) "
	"SELECT v.*, NULL::bigint, NULL::uuid, NULL::bigint, NULL::bigint, NULL::timestamptz, NULL::bigint, NULL::bigint FROM v UNION ALL "
	"SELECT NULL, NULL, u.id, NULL, NULL, NULL, NULL, NULL, NULL, c.position, s.device_id, coalesce(s.number, 0), s.at, c.at, coalesce(s.old_position, 0), "
	"coalesce(s.last_position, 0) FROM u "
	"LEFT JOIN LATERAL (SELECT * FROM ferry.stamp s WHERE s.id = u.id OFFSET 0) s ON true "
	"CROSS JOIN LATERAL (SELECT c.position, c.at FROM ferry.commit c "
	"WHERE c.tx = coalesce(s.tx, u.id) AND c.tenant_id = $1 OFFSET 0) c";
enum { V_KEY, V_DELETED, V_TX, V_BASE, V_BORN, V_SCOPE, V_OVER, V_ALSO, V_OWN, U_POSITION, U_DEVICE, U_NUMBER, U_AT, U_COMMIT_AT, U_OLD, U_LAST };

static void ask_versions(struct merge_op *m, struct merge_table *t)
{
	struct pg_batch *b = &m->op.batch;

	t->versions_call = pg_call(b, versions_sql);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int4(b, (int32_t)t->table->tbl);
	pg_arg_uuids(b, t->keys, t->count);
}

void pg_load_ask(struct merge_op *m, bool stamps)
{
	if (m->table_count)
		qsort(m->tables, m->table_count, sizeof(*m->tables), compare_rank);
	for (uint32_t i = 0; i < m->table_count; i++) {
		sort_keys(&m->tables[i]);
		ask_rows(m, &m->tables[i]);
	}
	for (uint32_t i = 0; i < m->table_count; i++) {
		ask_versions(m, &m->tables[i]);
		if (!m->tables[i].table->update_wins)
			continue;
		ask_last(m, &m->tables[i]);
		m->stamp_wish += !m->revives;
		m->revives = true;
	}
	m->stamps_call = UINT32_MAX;
	if (stamps && m->stamp_wish) {
		m->stamps_call = pg_call(&m->op.batch,
					 "SELECT nextval('ferry.surrogate_seq') FROM generate_series(1, $1::bigint)");
		pg_arg_int8(&m->op.batch, m->stamp_wish);
	}
}

/* ----------------------------------------------------------------- answers */

static int compare_surrogate(const void *x, const void *y)
{
	const struct named_surrogate *a = x, *b = y;

	return a->id < b->id ? -1 : a->id > b->id;
}

static bool is_surrogate(const struct merge_op *m, const struct merge_table *t, uint32_t row)
{
	return pg_is_null(&m->load, t->versions_call, row, V_KEY);
}

static void read_surrogate(const struct merge_op *m, uint32_t call, uint32_t row, struct named_surrogate *out)
{
	const struct pg_batch *b = &m->load;

	out->id = pg_int(b, call, row, V_TX);
	out->version = (struct version){.position = pg_int(b, call, row, U_POSITION),
					.author = pg_uuid(b, call, row, U_DEVICE),
					.number = pg_int(b, call, row, U_NUMBER),
					.old_position = pg_int(b, call, row, U_OLD),
					.last_position = pg_int(b, call, row, U_LAST),
					.at = pg_is_null(b, call, row, U_AT) ? pg_time(b, call, row, U_COMMIT_AT)
									     : pg_int(b, call, row, U_AT)};
}

static bool read_surrogates(struct merge_op *m)
{
	uint32_t total = 0;

	for (uint32_t i = 0; i < m->table_count; i++) {
		for (uint32_t row = 0; row < pg_rows(&m->load, m->tables[i].versions_call); row++)
			total += is_surrogate(m, &m->tables[i], row);
	}
	m->surrogates = arena_array(&m->load_arena, total + 1u, sizeof(*m->surrogates));
	if (!m->surrogates)
		return false;
	for (uint32_t i = 0; i < m->table_count; i++) {
		uint32_t call = m->tables[i].versions_call;

		for (uint32_t row = 0; row < pg_rows(&m->load, call); row++) {
			if (is_surrogate(m, &m->tables[i], row))
				read_surrogate(m, call, row, &m->surrogates[m->surrogate_count++]);
		}
	}
	qsort(m->surrogates, m->surrogate_count, sizeof(*m->surrogates), compare_surrogate);
	return true;
}

/* A surrogate without a commit is older than the log: below every bookmark
 * that is still good. */
static struct version version_of(const struct merge_op *m, int64_t id)
{
	struct named_surrogate key = {.id = id};
	const struct named_surrogate *s =
		m->surrogate_count ? bsearch(&key, m->surrogates, m->surrogate_count, sizeof(key), compare_surrogate) : NULL;

	return s ? s->version : (struct version){0};
}

static bool read_over(struct merge_op *m, const struct merge_table *t, uint32_t row, struct merge_row *out)
{
	struct version *versions;
	struct pg_elements e;
	const uint8_t *p;
	size_t n;

	if (pg_elements(&m->load, t->versions_call, row, V_OVER, &e) == 0)
		return true;
	versions = arena_array(&m->load_arena, t->table->column_count, sizeof(*versions));
	if (!versions)
		return false;
	for (uint16_t c = 0; c < t->table->column_count; c++)
		versions[c] = out->version;
	while (pg_element(&e, &p, &n)) {
		int64_t packed = pg_element_int(p, n);
		int c = pg_table_column(t->table, (uint16_t)(packed >> 48));

		if (c >= 0)
			versions[c] = version_of(m, packed & SURROGATE_MASK);
	}
	out->column_versions = versions;
	return true;
}

int64_t pg_load_row(const struct merge_table *t, const struct uuid *key)
{
	const struct uuid *found = t->count ? bsearch(key, t->keys, t->count, sizeof(*key), compare_uuid) : NULL;

	return found ? found - t->keys : -1;
}

bool pg_made_by_another(const struct merge_op *m, const struct merge_table *t, int64_t row, const struct uuid *device)
{
	return row >= 0 && !t->rows[row].exists && m->merge && merge_placed_by_another(m->merge, t->table->tbl, &t->keys[row], 0, device);
}

static bool read_version(struct merge_op *m, struct merge_table *t, uint32_t row)
{
	const struct pg_batch *b = &m->load;
	struct uuid key = pg_uuid(b, t->versions_call, row, V_KEY);
	int64_t i = pg_load_row(t, &key);
	struct merge_row *r = &t->rows[i];
	bool deleted = pg_bool(b, t->versions_call, row, V_DELETED);
	struct version born = version_of(m, pg_int(b, t->versions_call, row, V_BORN));

	r->known = true;
	r->version = version_of(m, pg_int(b, t->versions_call, row, r->exists ? V_BASE : V_TX));
	r->born = born.position;
	r->born_author = born.author;
	r->born_number = born.number;
	r->born_old_position = born.old_position;
	r->born_last_position = born.last_position;
	t->scopes[i] = pg_text(b, t->versions_call, row, V_SCOPE);
	if (t->also) {
		pg_elements(b, t->versions_call, row, V_ALSO, &t->also[i]);
		t->own[i] = pg_is_null(b, t->versions_call, row, V_OWN) ? UINT32_MAX
									: (uint32_t)pg_int(b, t->versions_call, row, V_OWN);
	}
	if (!deleted && !r->exists) {
		t->held[i] = true; /* or gone: pg_load_ask_suspects asks */
		t->suspects++;
	}
	return !r->exists || read_over(m, t, row, r);
}

/* The cells behind the key in a row of an answer, which holds the columns of
 * the mask; NULL: no memory. */
static struct value *read_cells(struct merge_op *m, const struct merge_table *t, uint32_t call, uint32_t row,
				uint64_t columns)
{
	struct value *cells = arena_array(&m->load_arena, t->table->column_count + 1u, sizeof(*cells));
	uint32_t at = 1;

	for (uint16_t c = 0; cells && c < t->table->column_count; c++)
		cells[c] = columns >> c & 1 ? pg_value(&m->load, call, row, at++, t->table->columns[c].kind) : value_null();
	return cells;
}

static bool read_row(struct merge_op *m, struct merge_table *t, uint32_t row)
{
	struct uuid key = pg_uuid(&m->load, t->rows_call, row, 0);
	struct merge_row *r = &t->rows[pg_load_row(t, &key)];

	r->exists = true;
	r->known = true;
	r->cells = read_cells(m, t, t->rows_call, row, t->columns);
	return r->cells != NULL;
}

static bool read_last(struct merge_op *m, struct merge_table *t)
{
	bool ok = true;

	for (uint32_t row = 0; ok && t->table->update_wins && row < pg_rows(&m->load, t->last_call); row++) {
		struct uuid key = pg_uuid(&m->load, t->last_call, row, 0);
		struct merge_row *r = &t->rows[pg_load_row(t, &key)];

		if (r->exists)
			continue;
		r->last_cells = read_cells(m, t, t->last_call, row, UINT64_MAX);
		ok = r->last_cells != NULL;
	}
	return ok;
}

static bool read_table(struct merge_op *m, struct merge_table *t)
{
	const struct pg_batch *b = &m->load;
	bool several = t->table->scope_also || t->table->brought, ok;

	t->rows = arena_array(&m->load_arena, t->count + 1u, sizeof(*t->rows));
	t->scopes = arena_array(&m->load_arena, t->count + 1u, sizeof(*t->scopes));
	t->held = arena_array(&m->load_arena, t->count + 1u, sizeof(*t->held));
	if (several) {
		t->also = arena_array(&m->load_arena, t->count + 1u, sizeof(*t->also));
		t->own = arena_array(&m->load_arena, t->count + 1u, sizeof(*t->own));
	}
	ok = t->rows && t->scopes && t->held && ((t->also && t->own) || !several);
	for (uint32_t i = 0; i < t->count && ok; i++) {
		t->rows[i].table = t->table->tbl;
		t->rows[i].key = t->keys[i];
		t->rows[i].update_wins = t->table->update_wins;
	}
	for (uint32_t row = 0; ok && row < pg_rows(b, t->rows_call); row++)
		ok = read_row(m, t, row);
	for (uint32_t row = 0; ok && row < pg_rows(b, t->versions_call); row++)
		ok = is_surrogate(m, t, row) || read_version(m, t, row);
	return ok && read_last(m, t);
}

enum ferry_error pg_load_read(struct merge_op *m)
{
	bool ok = read_surrogates(m);

	for (uint32_t i = 0; i < m->table_count && ok; i++)
		ok = read_table(m, &m->tables[i]);
	if (ok && m->stamps_call != UINT32_MAX) {
		uint32_t n = pg_rows(&m->load, m->stamps_call);
		int64_t *ids = arena_array(&m->load_arena, n + 1u, sizeof(*ids));

		for (uint32_t i = 0; ids && i < n; i++)
			ids[i] = pg_int(&m->load, m->stamps_call, i, 0);
		m->stamps = ids;
		m->stamp_count = n;
		m->stamp_next = m->revives;
		ok = ids != NULL;
	}
	return ok ? FERRY_OK : FERRY_LIMIT;
}

/* ---------------------------------------------------------------- suspects */

/* A living version without a row that could be locked: somebody holds it, or
 * it has gone since. A look without a lock tells. */
bool pg_load_ask_suspects(struct merge_op *m)
{
	bool any = false;

	pg_batch_reset(&m->op.batch);
	for (uint32_t i = 0; i < m->table_count; i++) {
		struct merge_table *t = &m->tables[i];
		struct uuid *keys;
		char sql[512];
		uint32_t n = 0;

		if (t->suspects == 0)
			continue;
		keys = arena_array(&m->load_arena, t->suspects, sizeof(*keys));
		if (!keys)
			continue; /* they stay held */
		for (uint32_t k = 0; k < t->count; k++) {
			if (t->held[k])
				keys[n++] = t->keys[k];
		}
		snprintf(sql, sizeof(sql), "SELECT x.key FROM unnest($2::uuid[]) AS k(key) CROSS JOIN LATERAL "
			 "(SELECT r.%s AS key FROM %s r WHERE r.%s = $1 AND r.%s = k.key OFFSET 0) x", t->table->key,
			 t->table->name, t->table->tenant, t->table->key);
		t->present_call = pg_call(&m->op.batch, sql);
		pg_arg_uuid(&m->op.batch, &m->op.tenant);
		pg_arg_uuids(&m->op.batch, keys, n);
		any = true;
	}
	return any;
}

void pg_load_read_suspects(struct merge_op *m)
{
	for (uint32_t i = 0; i < m->table_count; i++) {
		struct merge_table *t = &m->tables[i];

		if (t->suspects == 0)
			continue;
		memset(t->held, 0, t->count * sizeof(*t->held));
		for (uint32_t row = 0; row < pg_rows(&m->op.batch, t->present_call); row++) {
			struct uuid key = pg_uuid(&m->op.batch, t->present_call, row, 0);

			t->held[pg_load_row(t, &key)] = true;
		}
	}
}

/* ---------------------------------------------------------------- to merge */

enum ferry_error pg_load_feed(struct merge_op *m, struct merge *merge)
{
	for (uint32_t i = 0; i < m->table_count; i++) {
		const struct merge_table *t = &m->tables[i];

		for (uint32_t k = 0; k < t->count; k++) {
			enum ferry_error e = merge_row(merge, &t->rows[k]);

			if (e != FERRY_OK)
				return e;
		}
	}
	return FERRY_OK;
}

void pg_load_forget(struct merge_op *m)
{
	m->tables = NULL;
	m->table_count = 0;
	m->surrogates = NULL;
	m->surrogate_count = 0;
	m->stamps = NULL;
	m->stamp_count = m->stamp_next = m->stamp_wish = 0;
	m->revives = false;
	pg_batch_reset(&m->load);
}
