/* A replica in a temporary folder, an app that writes plain SQL to it, and a
 * model of the hub: rows in memory, positions, verdicts, frames and sums.
 * Each test file includes this once. */
#ifndef FERRY_TESTS_REPLICA_FIXTURE_H
#define FERRY_TESTS_REPLICA_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/replica.h"
#include "shared/cell_hash.h"
#include "tests/lib/temp_folder.h"

#define T_PROJECTS 3u
#define T_UNITS 7u
#define UNIT_COLUMNS 7
#define ROWS_MAX 4000
#define SETS_MAX 20000
#define SCOPE "tenant"

static const struct schema_column project_columns[] = {
	{.num = 2, .name = "name", .kind = KIND_TEXT, .not_null = true},
};
static const char *const states[] = {"free", "sold"};
static const struct schema_column unit_columns[UNIT_COLUMNS] = {
	{.num = 2, .name = "project_id", .kind = KIND_UUID, .ref_table = T_PROJECTS},
	{.num = 3, .name = "code", .kind = KIND_TEXT},
	{.num = 4, .name = "floor", .kind = KIND_INT},
	{.num = 5, .name = "status", .kind = KIND_TEXT, .not_null = true, .has_default = true, .default_sql = "'free'",
	 .labels = states, .label_count = 2},
	{.num = 7, .name = "created_at", .kind = KIND_TIMESTAMPTZ, .not_null = true, .has_default = true},
	{.num = 8, .name = "serial", .kind = KIND_INT, .read_only = true, .has_default = true},
	{.num = 9, .name = "area", .kind = KIND_FLOAT},
};
static const struct schema_table fixture_tables[] = {
	{.table = T_PROJECTS, .name = "projects", .key = "id", .key_num = 1, .writable = true, .columns = project_columns,
	 .column_count = 1},
	{.table = T_UNITS, .name = "units", .key = "id", .key_num = 1, .writable = true, .rank = 1, .columns = unit_columns,
	 .column_count = UNIT_COLUMNS},
};
static const struct schema fixture_schema = {.hash = 11, .tables = fixture_tables, .table_count = 2, .step = 1};

struct hub_cell {
	struct value v;
	uint8_t bytes[48]; /* of text and bytes */
};

struct hub_row {
	uint32_t table;
	struct uuid key;
	bool alive;
	int64_t position; /* of the last change */
	struct hub_cell cells[UNIT_COLUMNS];
};

struct hub_verdict {
	enum verdict verdict;
	int code;
	int64_t position;
};

struct fixture {
	char folder[64], path[96];
	struct replica *r;
	struct push_cursor cursor;
	struct arena arena;
	int64_t position, applied; /* of the hub; the replica's bookmark */
	struct hub_row rows[ROWS_MAX];
	uint32_t row_count;
	struct hub_verdict verdicts[SETS_MAX];
	int64_t last_number;
	bool (*refuses)(struct fixture *f, const struct change_set *s);
	struct store_commit_report report;
	int64_t wall; /* the hub's clock */
	int64_t skew; /* how far the device's is ahead */
	uint64_t random;
};

static struct ferry_why fixture_why;

#define assert_ok(e) \
	do { \
		int assert_ok_e = (int)(e); \
		if (assert_ok_e != FERRY_OK) \
			fail_msg("%s: %s", ferry_error_name(assert_ok_e), fixture_why.text); \
	} while (0)

static int64_t fixture_wall(void *ctx)
{
	const struct fixture *f = ctx;

	return f->wall + f->skew;
}

static struct uuid key_of(uint32_t n)
{
	struct uuid id = {{0}};

	id.b[0] = 0xab;
	id.b[14] = (uint8_t)(n >> 8);
	id.b[15] = (uint8_t)n;
	return id;
}

static void fixture_open(struct fixture *f)
{
	const struct replica_options o = {.create = true, .busy_timeout_ms = 2000, .wall = fixture_wall, .wall_ctx = f};

	assert_ok(replica_open(f->path, &o, &f->r, &fixture_why));
	f->cursor = (struct push_cursor){0};
}

static void fixture_welcome(struct fixture *f, enum welcome_mode mode)
{
	static const char *const scopes[] = {SCOPE};
	struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(3), .mode = mode,
				    .scopes = scopes, .scope_count = 1, .clock = f->wall};
	int64_t *above;

	arena_reset(&f->arena);
	above = arena_array(&f->arena, (size_t)f->last_number + 1, sizeof(*above));
	while (w.settled < f->last_number && f->verdicts[w.settled + 1].verdict != 0)
		w.settled++;
	for (int64_t n = w.settled + 1; n <= f->last_number; n++) {
		if (f->verdicts[n].verdict != 0)
			above[w.settled_above_count++] = n;
	}
	w.settled_above = above;
	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

/* ---- The app ---- */

static enum ferry_error app_try(struct fixture *f, const char *sql)
{
	return replica_query(f->path, sql, false, NULL, NULL, &fixture_why);
}

__attribute__((format(printf, 2, 3))) static void app(struct fixture *f, const char *format, ...)
{
	char sql[4096];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	assert_ok(app_try(f, sql));
}

static bool first_field(void *ctx, const struct replica_field *fields, int count)
{
	if (count > 0)
		(void)snprintf(ctx, 1024, "%s", fields[0].text == NULL ? "NULL" : fields[0].text);
	return false;
}

__attribute__((format(printf, 2, 3))) static const char *ask(struct fixture *f, const char *format, ...)
{
	static char answer[1024];
	char sql[2048];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	(void)snprintf(answer, sizeof(answer), "no row");
	assert_ok(replica_query(f->path, sql, true, first_field, answer, &fixture_why));
	return answer;
}

#define assert_says(f, expected, ...) assert_string_equal(ask(f, __VA_ARGS__), expected)

/* The text of a unit's key. */
static const char *unit(uint32_t n)
{
	static char text[4][UUID_TEXT];
	static int turn;
	struct uuid id = key_of(n);

	turn = (turn + 1) % 4;
	uuid_format(&id, text[turn]);
	return text[turn];
}

/* ---- The hub ---- */

static const struct schema_table *table_of(uint32_t table)
{
	return table == T_UNITS ? &fixture_tables[1] : &fixture_tables[0];
}

static int column_of(uint32_t table, uint16_t num)
{
	for (int i = 0; i < table_of(table)->column_count; i++) {
		if (table_of(table)->columns[i].num == num)
			return i;
	}
	fail_msg("unknown column %u", num);
	return -1;
}

static struct hub_row *hub_find(struct fixture *f, uint32_t table, const struct uuid *key, bool make)
{
	for (uint32_t i = 0; i < f->row_count; i++) {
		if (f->rows[i].table == table && uuid_equal(&f->rows[i].key, key))
			return &f->rows[i];
	}
	if (!make)
		return NULL;
	assert_true(f->row_count < ROWS_MAX);
	f->rows[f->row_count] = (struct hub_row){.table = table, .key = *key};
	return &f->rows[f->row_count++];
}

static void hub_set_cell(struct hub_row *row, int column, const struct value *v)
{
	struct hub_cell *c = &row->cells[column];

	c->v = *v;
	if (v->kind == VALUE_TEXT || v->kind == VALUE_BYTES) {
		assert_true(v->n <= sizeof(c->bytes));
		memcpy(c->bytes, v->p, v->n);
		c->v.p = c->bytes;
	}
}

/* What the hub fills in itself. */
static void hub_defaults(struct fixture *f, struct hub_row *row)
{
	struct value v;

	memset(row->cells, 0, sizeof(row->cells));
	if (row->table != T_UNITS)
		return;
	v = value_text("free", 4);
	hub_set_cell(row, 3, &v);
	v = value_int(1700000000000000 + f->position);
	hub_set_cell(row, 4, &v);
	v = value_int(f->position);
	hub_set_cell(row, 5, &v);
}

static void hub_apply_block(struct fixture *f, const struct block *b)
{
	for (uint32_t i = 0; i < b->row_count; i++) {
		struct hub_row *row = hub_find(f, b->table, &b->keys[i], b->op == ROW_INSERT);

		if (row == NULL || (b->op == ROW_UPDATE && !row->alive))
			continue;
		if (b->op == ROW_INSERT && !row->alive)
			hub_defaults(f, row);
		row->alive = b->op != ROW_DELETE;
		row->position = f->position;
		for (uint32_t c = 0; c < b->column_count; c++)
			hub_set_cell(row, column_of(b->table, b->nums[c]), &b->cells[(size_t)c * b->row_count + i]);
	}
}

static bool hub_depends_refused(const struct fixture *f, const struct change_set *s)
{
	for (uint32_t i = 0; i < s->depends_count; i++) {
		if (s->depends[i] >= s->number)
			fail_msg("change-set %lld depends on %lld", (long long)s->number, (long long)s->depends[i]);
		if (f->verdicts[s->depends[i]].verdict == VERDICT_REJECTED)
			return true;
	}
	return false;
}

static void hub_take_set(struct fixture *f, const struct change_set *s)
{
	struct hub_verdict *v = &f->verdicts[s->number];

	assert_true(s->number > 0 && s->number < SETS_MAX);
	if (v->verdict != 0)
		return; /* settled before */
	f->position++;
	*v = (struct hub_verdict){.verdict = VERDICT_ACCEPTED, .position = f->position};
	if (s->number > f->last_number)
		f->last_number = s->number;
	if (hub_depends_refused(f, s))
		*v = (struct hub_verdict){VERDICT_REJECTED, FERRY_DEPENDS, f->position};
	else if (f->refuses != NULL && f->refuses(f, s))
		*v = (struct hub_verdict){VERDICT_REJECTED, FERRY_CONSTRAINT, f->position};
	else
		for (uint32_t i = 0; i < s->block_count; i++)
			hub_apply_block(f, &s->blocks[i]);
}

/* The hub's own edit of a unit's text column. */
static void hub_write(struct fixture *f, uint32_t n, const char *column, const char *text)
{
	struct uuid key = key_of(n);
	struct hub_row *row = hub_find(f, T_UNITS, &key, true);
	struct value v;

	f->position++;
	if (!row->alive)
		hub_defaults(f, row);
	row->alive = true;
	row->position = f->position;
	for (int i = 0; column != NULL && i < UNIT_COLUMNS; i++) {
		if (strcmp(unit_columns[i].name, column) != 0)
			continue;
		v = unit_columns[i].kind == KIND_INT ? value_int(strtoll(text, NULL, 10)) : value_text(text, strlen(text));
		hub_set_cell(row, i, &v);
	}
}

static inline void hub_delete(struct fixture *f, uint32_t n)
{
	struct uuid key = key_of(n);
	struct hub_row *row = hub_find(f, T_UNITS, &key, true);

	row->alive = false;
	row->position = ++f->position;
}

/* ---- The exchange ---- */

static void cut(struct fixture *f)
{
	bool more = true;

	while (more)
		assert_ok(replica_store_ops.cut(f->r, &more, &fixture_why));
}

/* One push message into f->arena; false: nothing to push. */
static bool next_push(struct fixture *f, size_t budget, struct message_push *out)
{
	arena_reset(&f->arena);
	assert_ok(replica_store_ops.next_push(f->r, &f->cursor, budget, &f->arena, out, &fixture_why));
	return out->set_count > 0;
}

static void push_all(struct fixture *f)
{
	struct message_push push;

	cut(f);
	while (next_push(f, 65536, &push)) {
		for (uint32_t i = 0; i < push.set_count; i++) {
			assert_false(push.sets[i].more);
			hub_take_set(f, &push.sets[i]);
		}
	}
}

static struct block hub_block(struct fixture *f, const struct hub_row *row, bool left)
{
	const struct schema_table *t = table_of(row->table);
	struct block b = {.table = row->table, .op = row->alive ? ROW_INSERT : left ? ROW_LEFT : ROW_DELETE, .row_count = 1,
			  .keys = &row->key};
	struct value *cells = arena_array(&f->arena, UNIT_COLUMNS, sizeof(*cells));
	uint16_t *nums = arena_array(&f->arena, UNIT_COLUMNS, sizeof(*nums));

	for (int i = 0; row->alive && i < t->column_count; i++) {
		cells[i] = row->cells[i].v;
		if (cells[i].kind == VALUE_TEXT || cells[i].kind == VALUE_BYTES)
			cells[i].p = row->cells[i].bytes;
		nums[i] = t->columns[i].num;
	}
	b.column_count = row->alive ? t->column_count : 0;
	b.cells = cells;
	b.nums = nums;
	return b;
}

static struct scope_sum *hub_sums(struct fixture *f)
{
	struct scope_sum *sums = arena_array(&f->arena, 2, sizeof(*sums));

	for (uint32_t k = 0; k < 2; k++) {
		const struct schema_table *t = &fixture_tables[k];
		uint64_t *values = arena_array(&f->arena, t->column_count, sizeof(*values));

		sums[k] = (struct scope_sum){.scope = SCOPE, .table = t->table, .sums = values, .sum_count = t->column_count};
		for (uint32_t i = 0; i < f->row_count; i++) {
			const struct hub_row *row = &f->rows[i];
			uint64_t seed = cell_hash_row_seed(&row->key);

			if (!row->alive || row->table != t->table)
				continue;
			sums[k].rows++;
			for (int c = 0; c < t->column_count; c++) {
				struct value v = row->cells[c].v;

				if (v.kind == VALUE_TEXT || v.kind == VALUE_BYTES)
					v.p = row->cells[c].bytes;
				if (v.kind != VALUE_NULL)
					values[c] ^= cell_hash(seed, t->columns[c].num, t->columns[c].kind, &v);
			}
		}
	}
	return sums;
}

/* Everything after the replica's bookmark as frames, then the commit. */
static enum ferry_error hub_commit(struct fixture *f, bool fill_done, int64_t since)
{
	struct settled *settled;
	struct message_commit c = {.position = f->position, .mark = f->position * 7, .sum_count = 2, .clock = f->wall,
				   .fill_done = fill_done};
	enum ferry_error e;

	arena_reset(&f->arena);
	for (uint32_t i = 0; i < f->row_count; i++) {
		struct block b;
		struct message_delta d = {.scope = SCOPE, .from = since, .to = f->position, .blocks = &b, .block_count = 1};

		if (f->rows[i].position <= since)
			continue;
		b = hub_block(f, &f->rows[i], false);
		assert_ok(replica_store_ops.delta(f->r, &d, &fixture_why));
	}
	settled = arena_array(&f->arena, (size_t)f->last_number + 1, sizeof(*settled));
	for (int64_t n = 1; n <= f->last_number; n++) {
		if (f->verdicts[n].verdict != 0 && f->verdicts[n].position > f->applied)
			settled[c.settled_count++] = (struct settled){.number = n, .verdict = f->verdicts[n].verdict,
								      .code = f->verdicts[n].code, .sentence = "no",
								      .position = f->verdicts[n].position};
	}
	c.settled = settled;
	c.sums = hub_sums(f);
	e = replica_store_ops.commit(f->r, &c, &f->report, &fixture_why);
	if (e == FERRY_OK)
		f->applied = f->position;
	return e;
}

static void commit(struct fixture *f)
{
	assert_ok(hub_commit(f, false, f->applied));
	if (!f->report.sums_match)
		fail_msg("sums differ: %s", f->report.mismatch);
}

static void assert_proof(struct fixture *f)
{
	char detail[160];
	bool match = false;

	assert_ok(replica_checksum_recompute(f->r, &match, detail, &fixture_why));
	if (!match)
		fail_msg("the recomputed sum differs: %s", detail);
}

/* Until nothing is left to exchange. */
static inline void sync_all(struct fixture *f)
{
	struct store_status status;

	for (int i = 0; i < 50; i++) {
		push_all(f);
		commit(f);
		cut(f);
		assert_ok(replica_store_ops.status(f->r, &status, &fixture_why));
		if (status.outbox_sets == 0)
			return;
		if (i > 40)
			f->cursor = (struct push_cursor){0};
	}
	fail_msg("the outbox never empties");
}

static void fill_rows(struct fixture *f, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to && i < f->row_count; i++) {
		struct message_fill fill = {.scope = SCOPE, .position = f->position};

		if (!f->rows[i].alive)
			continue;
		arena_reset(&f->arena);
		fill.block = hub_block(f, &f->rows[i], false);
		assert_ok(replica_store_ops.fill(f->r, &fill, &fixture_why));
	}
}

static void fill_all(struct fixture *f)
{
	fixture_welcome(f, WELCOME_FILL);
	assert_ok(replica_store_ops.schema(f->r, &fixture_schema, &fixture_why));
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
	assert_true(f->report.sums_match);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	arena_init(&f->arena, 64u << 20);
	f->wall = 1750000000000000;
	f->position = 10;
	assert_true(temp_folder("replica", f->folder, sizeof(f->folder)));
	(void)snprintf(f->path, sizeof(f->path), "%s/replica.db", f->folder);
	fixture_open(f);
	for (uint32_t n = 1; n <= 5; n++)
		hub_write(f, n, "code", "A");
	fill_all(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const endings[] = {"", "-wal", "-shm"};
	struct fixture *f = *state;

	replica_close(f->r);
	for (int i = 0; i < 3; i++) {
		char path[128];

		(void)snprintf(path, sizeof(path), "%s%s", f->path, endings[i]);
		(void)unlink(path);
	}
	(void)rmdir(f->folder);
	arena_deinit(&f->arena);
	free(f);
	return 0;
}

#define replica_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
