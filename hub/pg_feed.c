/* The feed [R20]: one state of a tenant after a position, from one snapshot.
 *
 * One REPEATABLE READ transaction in two round trips: first what changed
 * (keys with versions, leavings, verdicts, sums), then the cells that go out.
 * Whether a column changed since `from` is asked of its surrogate: the
 * surrogates of all commits above `from` are loaded once and looked up here,
 * so that no version is resolved by itself. */
#include <stdlib.h>
#include <string.h>

#include "hub/pg_bound.h"
#include "hub/pg_compare.h"
#include "hub/pg_feed.h"
#include "hub/pg_sql.h"
#include "hub/pg_verdicts.h"

#define FEED_ARENA_BYTES_MAX ((size_t)512 << 20)
#define FEED_MASKS_MAX 32 /* column lists of a table; more are sent as one, with all their columns */
#define SURROGATE_MASK ((INT64_C(1) << 48) - 1)

struct surrogate_set { /* open addressing; 0 is no surrogate */
	int64_t *slots;
	uint32_t mask;
};

struct feed_op {
	struct pg_op op;
	int64_t from;
	char **scopes; /* NULL: all */
	uint32_t scope_count;
	struct uuid device; /* whose verdicts; zero: all */
	bool has_device;
	struct pg_question *question; /* NULL: a feed alone */
	struct pg_verdicts verdicts;
	hub_feed_cb cb;
	void *ctx;

	struct arena arena;
	struct surrogate_set since;
	struct feed_entry *entries;
	uint32_t entry_count, entry_capacity;
	struct feed_piece *pieces;
	uint32_t piece_count;
	uint32_t calls[6];
	struct frame_writer frames;
	bool writing;
	struct feed_result result;
};

enum { F_HEAD, F_HORIZON, F_SINCE, F_VERSIONS, F_LEFT, F_SUMS };

/* ------------------------------------------------------------ the questions */

#define CHANGED_SQL \
	"WITH ch AS MATERIALIZED (SELECT DISTINCT c.tenant_id, c.tbl, k AS key FROM ferry.commit p " \
	"JOIN ferry.change c ON c.tenant_id = p.tenant_id AND c.tx = p.tx CROSS JOIN LATERAL unnest(c.keys) k " \
	"WHERE p.tenant_id = ANY (ARRAY[$1, ferry.nobody()]) AND p.position > $2 " \
	"AND ($3::text[] IS NULL OR c.scope = ANY ($3)) LIMIT $4) "

static const char head_sql[] =
	"SELECT h.position, h.mark, (SELECT u.position FROM ferry.backed_up u WHERE u.tenant_id = $1) "
	"FROM unnest(ARRAY[$1, ferry.nobody()]) t, ferry.head(t) h "
	"WHERE h.position IS NOT NULL ORDER BY 1 DESC LIMIT 1";
/* The same from a bookmark below which changes have been forgotten: a version
 * knows its row's last change. Only for feeds of one device: the hub's own
 * never begin that far back. */
#define CHANGED_LONG_AGO_SQL \
	"WITH ch AS MATERIALIZED (SELECT * FROM (SELECT c.tenant_id, c.tbl, k AS key FROM ferry.commit p " \
	"JOIN ferry.change c ON c.tenant_id = p.tenant_id AND c.tx = p.tx CROSS JOIN LATERAL unnest(c.keys) k " \
	"WHERE p.tenant_id = ANY (ARRAY[$1, ferry.nobody()]) AND p.position > $2 AND c.scope = ANY ($3) " \
	"UNION SELECT h.tenant_id, x.tbl, x.key FROM ferry.horizon h CROSS JOIN LATERAL (SELECT v.tbl, v.key " \
	"FROM ferry.surrogates_since(h.tenant_id, $2) s JOIN ferry.version v ON v.tenant_id = h.tenant_id AND v.tx = s.surrogate " \
	"WHERE v.scope = ANY ($3) OR v.also && $3 UNION ALL SELECT l.tbl, l.key FROM ferry.surrogates_since(h.tenant_id, $2) s " \
	"JOIN ferry.left l ON l.tenant_id = h.tenant_id AND l.tx = s.surrogate WHERE l.scope = ANY ($3)) x " \
	"WHERE h.tenant_id = ANY (ARRAY[$1, ferry.nobody()]) AND h.changes > $2) u LIMIT $4) "

static const char horizon_sql[] =
	"SELECT max(greatest(h.changes, h.tombstones)), (SELECT q.last_value FROM ferry.position_seq q) FROM ferry.horizon h "
	"WHERE h.tenant_id = ANY (ARRAY[$1, ferry.nobody()])";
static const char tombstones_sql[] =
	"SELECT max(h.tombstones), (SELECT q.last_value FROM ferry.position_seq q) FROM ferry.horizon h "
	"WHERE h.tenant_id = ANY (ARRAY[$1, ferry.nobody()])";
static const char since_sql[] =
	"SELECT s.surrogate FROM ferry.surrogates_since($1, $2) s UNION ALL "
	"SELECT s.surrogate FROM ferry.surrogates_since(ferry.nobody(), $2) s";
#define VERSIONS_SQL \
	"SELECT v.tenant_id = ferry.nobody(), v.tbl, v.scope, v.key, v.deleted, v.base_tx, v.born, v.moved, v.over, v.also " \
	"FROM ch CROSS JOIN LATERAL (SELECT * FROM ferry.version v WHERE v.tenant_id = ch.tenant_id AND v.tbl = ch.tbl " \
	"AND v.key = ch.key OFFSET 0) v WHERE $3::text[] IS NULL OR v.scope = ANY ($3) OR v.also && $3"
static const char versions_sql[] = CHANGED_SQL VERSIONS_SQL;
static const char versions_long_ago_sql[] = CHANGED_LONG_AGO_SQL VERSIONS_SQL;
enum { V_GLOBAL, V_TBL, V_SCOPE, V_KEY, V_DELETED, V_BASE, V_BORN, V_MOVED, V_OVER, V_ALSO };
#define LEFT_SQL \
	"SELECT l.tenant_id = ferry.nobody(), l.tbl, l.scope, l.key, l.tx FROM ch CROSS JOIN LATERAL (" \
	"SELECT * FROM ferry.left l WHERE l.tenant_id = ch.tenant_id AND l.tbl = ch.tbl AND l.key = ch.key OFFSET 0) l " \
	"WHERE $3::text[] IS NULL OR l.scope = ANY ($3)"
static const char left_sql[] = CHANGED_SQL LEFT_SQL;
static const char left_long_ago_sql[] = CHANGED_LONG_AGO_SQL LEFT_SQL;
enum { L_GLOBAL, L_TBL, L_SCOPE, L_KEY, L_TX };
/* Of scopes with changes; with names, of all tables in these. */
static const char sums_changed_sql[] =
	"SELECT z.tbl, z.scope, z.sums, z.rows FROM (SELECT DISTINCT c.tenant_id, c.tbl, c.scope FROM ferry.commit p "
	"JOIN ferry.change c ON c.tenant_id = p.tenant_id AND c.tx = p.tx "
	"WHERE p.tenant_id = ANY (ARRAY[$1, ferry.nobody()]) AND p.position > $2) c "
	"JOIN ferry.sum z ON z.tenant_id = c.tenant_id AND z.tbl = c.tbl AND z.scope = c.scope "
	"ORDER BY z.scope, z.tbl";
static const char sums_named_sql[] =
	"SELECT z.tbl, z.scope, z.sums, z.rows FROM ferry.sum z "
	"WHERE z.tenant_id = ANY (ARRAY[$1, ferry.nobody()]) AND z.scope = ANY ($2) ORDER BY z.scope, z.tbl";
enum { Z_TBL, Z_SCOPE, Z_SUMS, Z_ROWS };

static void arg_scopes(struct feed_op *f)
{
	if (f->scopes)
		pg_arg_texts(&f->op.batch, (const char *const *)f->scopes, f->scope_count);
	else
		pg_arg_null(&f->op.batch, 1009); /* text[] */
}

static void ask(struct feed_op *f, int which, const char *sql)
{
	f->calls[which] = pg_call(&f->op.batch, sql);
	pg_arg_uuid(&f->op.batch, &f->op.tenant);
}

static void ask_changes(struct feed_op *f, int which, const char *sql)
{
	ask(f, which, sql);
	pg_arg_int8(&f->op.batch, f->from);
	arg_scopes(f);
	pg_arg_int8(&f->op.batch, (int64_t)f->op.store->config.feed_rows_max + 1);
}

/* What libpq may hold of a feed's answers: beside its bytes each cell takes a
 * few words. */
static size_t answers_bytes_max(const struct feed_op *f)
{
	return 4 * f->op.store->config.feed_bytes_max;
}

static void feed_read_changes(struct pg_op *op);

static void feed_forget(struct feed_op *f)
{
	if (f->writing)
		pg_frames_deinit(&f->frames);
	f->writing = false;
	arena_reset(&f->arena);
	f->entries = NULL;
	f->entry_count = f->entry_capacity = 0;
	f->piece_count = 0;
	f->result = (struct feed_result){.from = f->from};
}

static void feed_ask(struct pg_op *op)
{
	struct feed_op *f = (struct feed_op *)op;
	struct pg_batch *b = &op->batch;

	feed_forget(f);
	b->result_bytes_max = answers_bytes_max(f);
	pg_op_begin(op, "REPEATABLE READ READ ONLY");
	ask(f, F_HEAD, head_sql);
	ask(f, F_HORIZON, f->scopes ? tombstones_sql : horizon_sql);
	ask(f, F_SINCE, since_sql);
	pg_arg_int8(b, f->from);
	ask_changes(f, F_VERSIONS, f->scopes ? versions_long_ago_sql : versions_sql);
	ask_changes(f, F_LEFT, f->scopes ? left_long_ago_sql : left_sql);
	pg_verdicts_ask(&f->verdicts, b, &op->tenant, f->from, f->has_device ? &f->device : NULL);
	if (f->scopes) {
		ask(f, F_SUMS, sums_named_sql);
		arg_scopes(f);
	} else {
		ask(f, F_SUMS, sums_changed_sql);
		pg_arg_int8(b, f->from);
	}
	if (f->question && !pg_question_ask(f->question, b, op->catalog, &op->tenant))
		pg_op_end(op, FERRY_UNKNOWN_TABLE);
	else
		pg_op_run(op, feed_read_changes);
}

/* ------------------------------------------------------ surrogates above from */

static uint32_t slot_of(int64_t id, uint32_t mask)
{
	return (uint32_t)(((uint64_t)id * 0x9e3779b97f4a7c15u) >> 32) & mask;
}

static bool read_since(struct feed_op *f)
{
	uint32_t rows = pg_rows(&f->op.batch, f->calls[F_SINCE]);
	uint32_t size = 16;

	while (size < rows * 2)
		size *= 2;
	f->since.slots = arena_array(&f->arena, size, sizeof(int64_t));
	f->since.mask = size - 1;
	if (!f->since.slots)
		return false;
	for (uint32_t i = 0; i < rows; i++) {
		int64_t id = pg_int(&f->op.batch, f->calls[F_SINCE], i, 0);
		uint32_t slot = slot_of(id, f->since.mask);

		while (f->since.slots[slot] != 0 && f->since.slots[slot] != id)
			slot = (slot + 1) & f->since.mask;
		f->since.slots[slot] = id;
	}
	return true;
}

static bool is_since(const struct feed_op *f, int64_t id)
{
	uint32_t slot = slot_of(id, f->since.mask);

	while (f->since.slots[slot] != 0) {
		if (f->since.slots[slot] == id)
			return true;
		slot = (slot + 1) & f->since.mask;
	}
	return false;
}

/* ---------------------------------------------------------------- entries */

static struct feed_entry *entry_add(struct feed_op *f)
{
	if (f->entry_count == f->entry_capacity) {
		uint32_t capacity = f->entry_capacity ? f->entry_capacity * 2 : 256;
		struct feed_entry *more = arena_array(&f->arena, capacity, sizeof(*more));

		if (!more)
			return NULL;
		if (f->entry_count)
			memcpy(more, f->entries, f->entry_count * sizeof(*more));
		f->entries = more;
		f->entry_capacity = capacity;
	}
	return &f->entries[f->entry_count++];
}

/* Columns whose values took another form: that is in no version. */
static uint64_t retyped_since(const struct feed_op *f, const struct pg_table *t)
{
	uint64_t mask = 0;

	for (uint16_t c = 0; c < t->column_count; c++) {
		if (t->columns[c].retyped != 0 && is_since(f, t->columns[c].retyped))
			mask |= UINT64_C(1) << c;
	}
	return mask;
}

/* Columns without an override changed when the base did, but then the row
 * goes whole; else exactly those whose override is above `from`. */
static void read_change(const struct feed_op *f, uint32_t row, struct feed_entry *e)
{
	const struct pg_batch *b = &f->op.batch;
	const uint32_t call = f->calls[F_VERSIONS];
	struct pg_elements over;
	const uint8_t *p;
	size_t n;

	e->mask = pg_table_mask(e->table);
	e->op = ROW_INSERT;
	if (is_since(f, pg_int(b, call, row, V_BORN)) || is_since(f, pg_int(b, call, row, V_MOVED)))
		return;
	e->op = ROW_UPDATE;
	if (is_since(f, pg_int(b, call, row, V_BASE)))
		return;
	e->mask = retyped_since(f, e->table);
	pg_elements(b, call, row, V_OVER, &over);
	while (pg_element(&over, &p, &n)) {
		int64_t packed = pg_element_int(p, n);
		int c = pg_table_column(e->table, (uint16_t)(packed >> 48));

		if (c >= 0 && is_since(f, packed & SURROGATE_MASK))
			e->mask |= UINT64_C(1) << c;
	}
}

static const char *scope_name(struct feed_op *f, const char *text)
{
	/* Results of one query mostly repeat the scope of the row before. */
	if (f->entry_count > 1 && strcmp(f->entries[f->entry_count - 2].scope, text) == 0)
		return f->entries[f->entry_count - 2].scope;
	return arena_text(&f->arena, text, strlen(text));
}

static bool is_asked(const struct feed_op *f, const char *scope)
{
	for (uint32_t i = 0; f->scopes && i < f->scope_count; i++) {
		if (strcmp(f->scopes[i], scope) == 0)
			return true;
	}
	return !f->scopes;
}

/* The last entry, of a row in several scopes, once for each that is asked for. */
static enum ferry_error spread(struct feed_op *f, uint32_t row)
{
	struct feed_entry first = f->entries[f->entry_count - 1], *e;
	struct pg_elements also;
	const uint8_t *p;
	size_t n;

	if (pg_elements(&f->op.batch, f->calls[F_VERSIONS], row, V_ALSO, &also) == 0)
		return FERRY_OK;
	if (!is_asked(f, first.scope))
		f->entry_count--;
	while (pg_element(&also, &p, &n)) {
		first.scope = arena_text(&f->arena, (const char *)p, n);
		if (!first.scope)
			return FERRY_LIMIT;
		if (!is_asked(f, first.scope))
			continue;
		e = entry_add(f);
		if (!e)
			return FERRY_LIMIT;
		*e = first;
	}
	return FERRY_OK;
}

static enum ferry_error read_versions(struct feed_op *f)
{
	const struct pg_batch *b = &f->op.batch;
	const uint32_t call = f->calls[F_VERSIONS];

	for (uint32_t row = 0; row < pg_rows(b, call); row++) {
		const struct pg_table *t = pg_catalog_table(f->op.catalog, (uint32_t)pg_int(b, call, row, V_TBL));
		struct feed_entry *e;

		if (!t)
			continue; /* untracked in this very moment */
		e = entry_add(f);
		if (!e)
			return FERRY_LIMIT;
		*e = (struct feed_entry){.table = t, .key = pg_uuid(b, call, row, V_KEY), .op = ROW_DELETE,
					 .global = pg_bool(b, call, row, V_GLOBAL)};
		e->scope = scope_name(f, pg_text(b, call, row, V_SCOPE));
		if (!e->scope)
			return FERRY_LIMIT;
		if (!pg_bool(b, call, row, V_DELETED))
			read_change(f, row, e);
		if (e->op == ROW_UPDATE && e->mask == 0)
			f->entry_count--; /* a newer surrogate on an unsynced column only */
		else if (spread(f, row) != FERRY_OK)
			return FERRY_LIMIT;
	}
	return FERRY_OK;
}

static enum ferry_error read_left(struct feed_op *f)
{
	const struct pg_batch *b = &f->op.batch;
	const uint32_t call = f->calls[F_LEFT];

	for (uint32_t row = 0; row < pg_rows(b, call); row++) {
		const struct pg_table *t = pg_catalog_table(f->op.catalog, (uint32_t)pg_int(b, call, row, L_TBL));
		struct feed_entry *e;

		if (!t || !is_since(f, pg_int(b, call, row, L_TX)))
			continue;
		e = entry_add(f);
		if (!e)
			return FERRY_LIMIT;
		*e = (struct feed_entry){.table = t, .key = pg_uuid(b, call, row, L_KEY), .op = ROW_LEFT,
					 .global = pg_bool(b, call, row, L_GLOBAL)};
		e->scope = scope_name(f, pg_text(b, call, row, L_SCOPE));
		if (!e->scope)
			return FERRY_LIMIT;
	}
	return FERRY_OK;
}

/* Rows that a device asked for again. That one of them changed besides does no
 * harm: what is said twice is said of the same state. */
static enum ferry_error read_wanted(struct feed_op *f)
{
	const struct pg_question *q = f->question;
	const struct pg_batch *b = &f->op.batch;
	const struct pg_table *t = q ? pg_catalog_table(f->op.catalog, q->asked.table) : NULL;
	const char *scope = q ? arena_text(&f->arena, q->asked.scope, strlen(q->asked.scope)) : NULL;

	if (!t)
		return FERRY_OK;
	for (uint32_t row = 0; row < pg_rows(b, q->wanted_call); row++) {
		bool held = pg_bool(b, q->wanted_call, row, W_HELD);
		struct feed_entry *e = entry_add(f);

		if (!e || !scope)
			return FERRY_LIMIT;
		*e = (struct feed_entry){.table = t, .scope = scope, .key = pg_uuid(b, q->wanted_call, row, W_KEY),
					 .op = held ? ROW_INSERT : ROW_LEFT, .global = pg_question_global(q),
					 .mask = held ? pg_table_mask(t) : 0};
	}
	return pg_question_read(q, b, &f->arena, &f->result);
}

/* -------------------------------------------------------------------- sums */

static void add_sum(const struct pg_batch *b, uint32_t call, uint32_t row, const struct pg_table *t, uint64_t *sums)
{
	struct pg_elements e;
	const uint8_t *p;
	size_t n;

	pg_elements(b, call, row, Z_SUMS, &e);
	for (uint32_t i = 0; pg_element(&e, &p, &n); i++) {
		for (uint16_t c = 0; c < t->column_count; c++) {
			if (t->columns[c].sum_index == i && p)
				sums[c] ^= (uint64_t)pg_element_int(p, n);
		}
	}
}

/* Rows of one scope and table lie together: the folded base and what came
 * since. */
static enum ferry_error read_sums(struct feed_op *f)
{
	const struct pg_batch *b = &f->op.batch;
	const uint32_t call = f->calls[F_SUMS];
	uint32_t rows = pg_rows(b, call);
	struct scope_sum *list = arena_array(&f->arena, rows + 1u, sizeof(*list));
	struct scope_sum *last = NULL;
	uint64_t *sums = NULL;

	if (!list)
		return FERRY_LIMIT;
	for (uint32_t row = 0; row < rows; row++) {
		uint32_t tbl = (uint32_t)pg_int(b, call, row, Z_TBL);
		const struct pg_table *t = pg_catalog_table(f->op.catalog, tbl);
		const char *scope = pg_text(b, call, row, Z_SCOPE);

		if (!t)
			continue;
		if (!last || last->table != tbl || strcmp(last->scope, scope) != 0) {
			last = &list[f->result.sum_count++];
			sums = arena_array(&f->arena, t->column_count + 1u, sizeof(*sums));
			*last = (struct scope_sum){.scope = arena_text(&f->arena, scope, strlen(scope)), .table = tbl,
						   .sums = sums, .sum_count = t->column_count};
			if (!sums || !last->scope)
				return FERRY_LIMIT;
		}
		last->rows += pg_int(b, call, row, Z_ROWS);
		add_sum(b, call, row, t, sums);
	}
	f->result.sums = list;
	return FERRY_OK;
}

/* ------------------------------------------------------------------ pieces */

static int compare_text(const char *a, const char *b)
{
	return a == b ? 0 : strcmp(a, b);
}

/* The order of the questions: by table, operation and columns; within one,
 * by scope and key, so that a piece of one scope is a run of the answer. */
static int compare_entries(const void *x, const void *y)
{
	const struct feed_entry *a = x, *b = y;
	int order;

	if (a->table != b->table)
		return a->table->tbl < b->table->tbl ? -1 : 1;
	if (a->global != b->global)
		return a->global ? 1 : -1;
	if (a->op != b->op)
		return a->op < b->op ? -1 : 1;
	if (a->mask != b->mask)
		return a->mask < b->mask ? -1 : 1;
	order = compare_text(a->scope, b->scope);
	return order ? order : uuid_compare(&a->key, &b->key);
}

static bool same_question(const struct feed_entry *a, const struct feed_entry *b)
{
	return a->table == b->table && a->global == b->global && a->op == b->op && a->mask == b->mask;
}

/* Many column lists would mean many statements: past a bound the updates of
 * a table go with all columns that any of them changed. */
static void join_masks(struct feed_entry *first, uint32_t count)
{
	uint64_t masks[FEED_MASKS_MAX];
	uint64_t all = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t m = 0;

		if (first[i].op != ROW_UPDATE)
			continue;
		all |= first[i].mask;
		while (m < n && masks[m] != first[i].mask)
			m++;
		if (m == n && n < FEED_MASKS_MAX)
			masks[n++] = first[i].mask;
		else if (m == n)
			n = FEED_MASKS_MAX + 1;
		if (n > FEED_MASKS_MAX)
			break;
	}
	if (n <= FEED_MASKS_MAX)
		return;
	for (uint32_t i = 0; i < count; i++)
		all |= first[i].op == ROW_UPDATE ? first[i].mask : 0;
	for (uint32_t i = 0; i < count; i++)
		first[i].mask = first[i].op == ROW_UPDATE ? all : first[i].mask;
}

static void order_entries(struct feed_op *f)
{
	if (f->entry_count == 0)
		return;
	qsort(f->entries, f->entry_count, sizeof(*f->entries), compare_entries);
	for (uint32_t i = 0, n; i < f->entry_count; i += n) {
		for (n = 1; i + n < f->entry_count && f->entries[i + n].table == f->entries[i].table; n++)
			;
		join_masks(&f->entries[i], n);
	}
	qsort(f->entries, f->entry_count, sizeof(*f->entries), compare_entries);
}

static void ask_cells(struct feed_op *f, const struct feed_entry *first, const struct uuid *keys, uint32_t count)
{
	const struct pg_table *t = first->table;
	struct pg_sql sql, from;

	/* One descent of the primary key for each row: see pg_merge_load.c. Only
	 * columns that go out are named: others the hub may not even read. */
	pg_sql_init(&from);
	pg_sql_add(&from, " FROM unnest($1::uuid[]) WITH ORDINALITY AS k(key, n) CROSS JOIN LATERAL (SELECT r.%s", t->key);
	for (uint16_t c = 0; c < t->column_count; c++) {
		if (first->mask >> c & 1)
			pg_sql_add(&from, ", r.%s", t->columns[c].name);
	}
	pg_sql_add(&from, " FROM %s r WHERE r.%s = $2 AND r.%s = k.key OFFSET 0) r", t->name, t->tenant, t->key);
	pg_sql_init(&sql);
	pg_bound_select(&(struct pg_bound){.table = t, .mask = first->mask, .order = "k.n::int", .from = from.p,
					   .form = count == 1 ? PG_BOUND_ONE : PG_BOUND_SUM,
					   .bytes_max = f->op.store->config.feed_bytes_max}, &sql);
	pg_call(&f->op.batch, sql.p);
	pg_arg_uuids(&f->op.batch, keys, count);
	pg_arg_uuid(&f->op.batch, first->global ? &PG_NOBODY : &f->op.tenant);
	if (sql.failed || from.failed)
		f->op.batch.full = true;
	pg_sql_deinit(&sql);
	pg_sql_deinit(&from);
}

static uint32_t rank_of(const struct feed_op *f, const struct pg_table *t)
{
	return f->op.catalog->hub.schema.tables[t - f->op.catalog->tables].rank;
}

struct answer { /* to a question about rows of one table, operation and column list */
	const struct feed_entry *first; /* of those that were asked for */
	uint32_t call; /* UINT32_MAX: none, for operations without columns */
	uint32_t rows;
};

static uint32_t entry_of(const struct feed_op *f, const struct answer *a, uint32_t row)
{
	return a->call == UINT32_MAX ? row : (uint32_t)pg_int(&f->op.batch, a->call, row, PG_BOUND_ORDER) - 1;
}

static bool is_too_large(const struct feed_op *f, const struct answer *a, uint32_t row)
{
	return a->call != UINT32_MAX && pg_bound_too_large(&f->op.batch, a->call, row);
}

static bool read_piece_cells(struct feed_op *f, const struct answer *a, uint32_t row, struct feed_piece *p)
{
	const struct pg_table *t = p->table;
	struct value *cells = arena_array(&f->arena, (size_t)p->count * (size_t)__builtin_popcountll(p->mask) + 1, sizeof(*cells));
	uint32_t column = 0;

	p->cells = cells;
	for (uint16_t c = 0; cells && c < t->column_count; c++) {
		if (!(p->mask >> c & 1))
			continue;
		for (uint32_t r = 0; r < p->count; r++)
			cells[(size_t)column * p->count + r] =
				pg_value(&f->op.batch, a->call, row + r, PG_BOUND_CELLS + column, t->columns[c].kind);
		column++;
	}
	return cells != NULL;
}

/* The rows of one scope from `row` on; 0: no memory. */
static uint32_t read_piece(struct feed_op *f, const struct answer *a, uint32_t row)
{
	const struct pg_table *t = a->first->table;
	const char *scope = a->first[entry_of(f, a, row)].scope;
	struct uuid *keys = arena_array(&f->arena, a->rows - row, sizeof(*keys));
	struct feed_piece *p = &f->pieces[f->piece_count++];
	uint32_t n = 0;

	for (; keys && row + n < a->rows && !is_too_large(f, a, row + n); n++) {
		const struct feed_entry *e = &a->first[entry_of(f, a, row + n)];

		if (compare_text(e->scope, scope) != 0)
			break;
		keys[n] = e->key;
	}
	*p = (struct feed_piece){.table = t, .rank = rank_of(f, t), .scope = scope, .op = a->first->op,
				 .mask = a->call == UINT32_MAX ? 0 : a->first->mask, .keys = keys, .count = n};
	return read_piece_cells(f, a, row, p) ? n : 0;
}

/* A question's answer into pieces by scope. Rows that vanished past the
 * triggers are simply not there. */
static enum ferry_error read_cells(struct feed_op *f, const struct feed_entry *first, uint32_t count, uint32_t call)
{
	struct answer a = {.first = first, .call = call};

	a.rows = call == UINT32_MAX ? count : pg_rows(&f->op.batch, call);
	for (uint32_t row = 0, n; row < a.rows; row += n) {
		n = 1;
		if (is_too_large(f, &a, row))
			pg_store_leave_out(f->op.store, first->table, &first[entry_of(f, &a, row)].key);
		else
			n = read_piece(f, &a, row);
		if (n == 0)
			return FERRY_LIMIT;
	}
	return FERRY_OK;
}

static int compare_pieces(const void *x, const void *y)
{
	const struct feed_piece *a = x, *b = y;
	int order = compare_text(a->scope, b->scope);
	bool removes = a->op == ROW_DELETE || a->op == ROW_LEFT;

	if (order)
		return order;
	if (a->op != b->op)
		return a->op < b->op ? -1 : 1;
	if (a->rank != b->rank) /* parents come first and go last */
		return (a->rank < b->rank) != removes ? -1 : 1;
	if (a->table->tbl != b->table->tbl)
		return a->table->tbl < b->table->tbl ? -1 : 1;
	return a->mask < b->mask ? -1 : a->mask > b->mask;
}

/* ------------------------------------------------------------------- steps */

static uint32_t question_length(const struct feed_op *f, uint32_t first)
{
	uint32_t n = 1;

	while (first + n < f->entry_count && same_question(&f->entries[first], &f->entries[first + n]))
		n++;
	return n;
}

static void feed_write(struct feed_op *f)
{
	enum ferry_error e;

	if (f->piece_count)
		qsort(f->pieces, f->piece_count, sizeof(*f->pieces), compare_pieces);
	pg_frames_init(&f->frames, f->op.store, &f->arena, f->from, f->result.to);
	f->writing = true;
	for (uint32_t i = 0; i < f->piece_count; i++)
		pg_frames_add(&f->frames, &f->pieces[i]);
	e = pg_frames_finish(&f->frames);
	f->result.frames = f->frames.frames;
	f->result.frame_count = f->frames.frame_count;
	f->result.schema_hash = f->op.catalog->hub.schema.hash;
	f->result.step = f->op.catalog->hub.schema.step;
	f->op.store->stats.feeds++;
	/* More than a feed may be: a fill has no such bound. */
	pg_op_end(&f->op, e == FERRY_LIMIT ? FERRY_PRUNED : e);
}

static void feed_read_cells(struct pg_op *op)
{
	struct feed_op *f = (struct feed_op *)op;
	enum ferry_error e = FERRY_OK;
	uint32_t call = 0;

	f->pieces = arena_array(&f->arena, f->entry_count + 1u, sizeof(*f->pieces));
	if (!f->pieces || op->batch.overflowed)
		e = FERRY_LIMIT;
	for (uint32_t i = 0, n; i < f->entry_count && e == FERRY_OK; i += n) {
		bool asked = f->entries[i].op == ROW_INSERT || f->entries[i].op == ROW_UPDATE;

		n = question_length(f, i);
		if (asked && pg_bound_full(&op->batch, call))
			e = FERRY_LIMIT;
		else
			e = read_cells(f, &f->entries[i], n, asked ? call++ : UINT32_MAX);
	}
	if (e != FERRY_OK)
		pg_op_end(op, FERRY_PRUNED);
	else
		feed_write(f);
}

static void feed_ask_cells(struct feed_op *f)
{
	struct uuid *keys = arena_array(&f->arena, f->entry_count + 1u, sizeof(*keys));

	if (!keys) {
		pg_op_end(&f->op, FERRY_PRUNED);
		return;
	}
	pg_batch_reset(&f->op.batch);
	f->op.batch.result_bytes_max = answers_bytes_max(f);
	for (uint32_t i = 0, n; i < f->entry_count; i += n) {
		n = question_length(f, i);
		for (uint32_t k = 0; k < n; k++)
			keys[k] = f->entries[i + k].key;
		if (f->entries[i].op == ROW_INSERT || f->entries[i].op == ROW_UPDATE)
			ask_cells(f, &f->entries[i], keys, n);
	}
	pg_call(&f->op.batch, "COMMIT");
	pg_op_run(&f->op, feed_read_cells);
}

static bool too_old(const struct feed_op *f)
{
	return f->from < pg_int(&f->op.batch, f->calls[F_HORIZON], 0, 0) ||
	       pg_rows(&f->op.batch, f->calls[F_VERSIONS]) > f->op.store->config.feed_rows_max;
}

static void feed_read_changes(struct pg_op *op)
{
	struct feed_op *f = (struct feed_op *)op;
	const struct pg_batch *b = &op->batch;
	enum ferry_error e;

	if (!b->overflowed && !pg_op_current(op))
		return;
	if (b->overflowed) {
		pg_op_end(op, FERRY_PRUNED);
		return;
	}
	if (pg_rows(b, f->calls[F_HEAD]) > 0) {
		f->result.to = pg_int(b, f->calls[F_HEAD], 0, 0);
		f->result.mark = pg_int(b, f->calls[F_HEAD], 0, 1);
		f->result.backed_up = pg_is_null(b, f->calls[F_HEAD], 0, 2) ? 0 : pg_int(b, f->calls[F_HEAD], 0, 2);
	}
	/* A place above this tenant's last commit is another tenant's, or one
	 * that came to nothing; above all that was handed out it is no place. */
	if (f->result.to < f->from && f->from > pg_int(b, f->calls[F_HORIZON], 0, 1)) {
		pg_op_end(op, FERRY_OTHER_HISTORY);
		return;
	}
	if (f->result.to < f->from)
		f->result.to = f->from;
	if (too_old(f)) {
		pg_op_end(op, FERRY_PRUNED);
		return;
	}
	e = read_since(f) ? FERRY_OK : FERRY_LIMIT;
	e = e ? e : read_versions(f);
	e = e ? e : read_left(f);
	e = e ? e : read_wanted(f);
	e = e ? e : pg_verdicts_read(&f->verdicts, b, op->catalog, &f->arena, &f->result);
	e = e ? e : read_sums(f);
	if (e != FERRY_OK) {
		pg_op_end(op, FERRY_PRUNED);
		return;
	}
	order_entries(f);
	feed_ask_cells(f);
}

static void feed_answer(struct pg_op *op, enum ferry_error e)
{
	struct feed_op *f = (struct feed_op *)op;

	f->cb(f->ctx, e, e == FERRY_OK ? &f->result : NULL);
}

static void feed_release(struct pg_op *op)
{
	struct feed_op *f = (struct feed_op *)op;

	if (f->writing)
		pg_frames_deinit(&f->frames);
	arena_deinit(&f->arena);
	pg_question_free(f->question);
	for (uint32_t i = 0; f->scopes && i < f->scope_count; i++)
		free(f->scopes[i]);
	free(f->scopes);
}

static bool copy_scopes(struct feed_op *f, const char *const *scopes, uint32_t count)
{
	if (!scopes)
		return true;
	f->scopes = calloc(count + 1u, sizeof(*f->scopes));
	if (!f->scopes)
		return false;
	f->scope_count = count;
	for (uint32_t i = 0; i < count; i++) {
		f->scopes[i] = strdup(scopes[i]);
		if (!f->scopes[i])
			return false;
	}
	return true;
}

void pg_store_compare(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		      uint32_t scope_count, const struct uuid *device, const struct message_compare *question,
		      hub_feed_cb cb, void *ctx)
{
	struct feed_op *f = pg_op_new(store, sizeof(*f), tenant, PG_LANE_READ);

	if (!f) {
		cb(ctx, FERRY_NO_MEMORY, NULL);
		return;
	}
	f->from = from;
	f->cb = cb;
	f->ctx = ctx;
	arena_init(&f->arena, FEED_ARENA_BYTES_MAX);
	if (device) {
		f->device = *device;
		f->has_device = true;
	}
	f->op.wants_catalog = true;
	f->op.first = feed_ask;
	f->op.answer = feed_answer;
	f->op.release = feed_release;
	if (question)
		f->question = pg_question_new(question);
	if (!copy_scopes(f, scopes, scope_count) || (question && !f->question))
		pg_op_end(&f->op, FERRY_NO_MEMORY);
	else
		pg_op_start(&f->op);
}

void pg_store_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		   uint32_t scope_count, const struct uuid *device, hub_feed_cb cb, void *ctx)
{
	pg_store_compare(store, tenant, from, scopes, scope_count, device, NULL, cb, ctx);
}
