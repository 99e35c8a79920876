#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pg_store/pg_store_driver.h"

struct poll_io poll_state;
struct pg_io io;
struct pg_admin *admin;
const char *hub_conninfo, *admin_conninfo;
struct uuid tenant_a, tenant_b;
struct merged merged;
struct fed fed;
const struct hub_schema *schema;

struct uuid id_of(unsigned n)
{
	struct uuid id = {{0}};

	id.b[6] = 0x40;
	id.b[8] = 0x80;
	id.b[0] = 0xaa;
	id.b[12] = (uint8_t)(n >> 24);
	id.b[13] = (uint8_t)(n >> 16);
	id.b[14] = (uint8_t)(n >> 8);
	id.b[15] = (uint8_t)n;
	return id;
}

void sql_as(struct pg_admin *a, const char *statement)
{
	struct ferry_why why = {{0}};

	if (pg_admin_exec(a, statement, &why) != FERRY_OK) {
		fprintf(stderr, "%s\n  in: %s\n", why.text, statement);
		exit(1);
	}
}

void sql(const char *format, ...)
{
	char text[8192];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	sql_as(admin, text);
}

const char *ask(const char *format, ...)
{
	static char answer[4096];
	char text[8192];
	struct ferry_why why = {{0}};
	struct pg_rows *rows;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (pg_admin_query(admin, text, NULL, 0, &rows, &why) != FERRY_OK) {
		fprintf(stderr, "%s\n  in: %s\n", why.text, text);
		exit(1);
	}
	snprintf(answer, sizeof(answer), "%s",
		 pg_rows_count(rows) == 0 ? "(none)" : pg_rows_text(rows, 0, 0) ? pg_rows_text(rows, 0, 0) : "(null)");
	pg_rows_free(rows);
	return answer;
}

bool is(const char *got, const char *want)
{
	if (strcmp(got, want) == 0)
		return true;
	fprintf(stderr, "got '%s', not '%s'\n", got, want);
	return false;
}

const char *text_of(const struct uuid *id)
{
	static char texts[8][UUID_TEXT];
	static unsigned next;
	char *t = texts[next++ % 8];

	uuid_format(id, t);
	return t;
}

struct pg_admin *another_session(void)
{
	struct ferry_why why = {{0}};
	struct pg_admin *a;

	if (pg_admin_open(admin_conninfo, &a, &why) != FERRY_OK) {
		fprintf(stderr, "%s\n", why.text);
		exit(1);
	}
	return a;
}

static void on_merge(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count)
{
	(void)ctx;
	merged.done = true;
	merged.error = e;
	merged.count = count;
	for (uint32_t i = 0; i < count && i < 256; i++) {
		merged.results[i] = results[i];
		snprintf(merged.sentences[i], sizeof(merged.sentences[i]), "%s",
			 results[i].settled.sentence ? results[i].settled.sentence : "");
	}
}

void wait_for(const bool *done)
{
	int64_t end = clock_monotonic_us() + DEADLINE_US;

	while (!*done) {
		CHECK(clock_monotonic_us() < end);
		poll_io_turn(&poll_state);
	}
}

void merge_start(struct pg_store *s, const struct uuid *tenant, const struct merge_item *items, uint32_t count)
{
	merged.done = false;
	pg_store_ops.merge(s, tenant, items, count, on_merge, NULL);
}

void merge(struct pg_store *s, const struct uuid *tenant, const struct merge_item *items, uint32_t count)
{
	merge_start(s, tenant, items, count);
	wait_for(&merged.done);
	CHECK(merged.error == FERRY_OK);
	CHECK(merged.count == count);
}

static void keep_block(const char *scope, const struct block *b)
{
	for (uint32_t r = 0; r < b->row_count; r++) {
		struct seen_row *row = &fed.rows[fed.row_count];

		CHECK(fed.row_count < ROWS_KEEP);
		fed.row_count++;
		snprintf(row->scope, sizeof(row->scope), "%s", scope);
		row->table = b->table;
		row->op = b->op;
		row->key = b->keys[r];
		row->column_count = b->column_count;
		for (uint16_t c = 0; c < b->column_count; c++) {
			row->nums[c] = b->nums[c];
			row->cells[c] = b->cells[(size_t)c * b->row_count + r];
		}
	}
}

static void on_feed(void *ctx, enum ferry_error e, const struct feed_result *f)
{
	(void)ctx;
	fed.done = true;
	fed.error = e;
	if (e != FERRY_OK)
		return;
	fed.from = f->from;
	fed.to = f->to;
	fed.mark = f->mark;
	fed.frame_count = f->frame_count;
	for (uint32_t i = 0; i < f->frame_count; i++) {
		struct message m;
		struct ferry_why why = {{0}};
		void *copy = arena_copy(&fed.arena, f->frames[i].message, f->frames[i].message_bytes);

		CHECK(message_decode(&fed.arena, copy, f->frames[i].message_bytes, &m, &why) == FERRY_OK);
		CHECK(m.type == MESSAGE_DELTA && m.delta.from == f->from && m.delta.to == f->to);
		CHECK(strcmp(m.delta.scope, f->frames[i].scope) == 0);
		if (f->frames[i].message_bytes > fed.largest)
			fed.largest = f->frames[i].message_bytes;
		for (uint32_t b = 0; b < m.delta.block_count; b++)
			keep_block(m.delta.scope, &m.delta.blocks[b]);
	}
	fed.settled_count = f->settled_count;
	for (uint32_t i = 0; i < f->settled_count && i < 64; i++) {
		fed.settled[i] = f->settled[i];
		for (uint32_t c = 0; c < f->settled[i].settled.conflict_count && c < 8; c++) {
			fed.conflicts[i][c] = f->settled[i].settled.conflicts[c];
			for (struct value *v = &fed.conflicts[i][c].device_value; v; v = v == &fed.conflicts[i][c].device_value ? &fed.conflicts[i][c].hub_value : NULL) {
				if (v->kind == VALUE_TEXT || v->kind == VALUE_BYTES)
					v->p = arena_copy(&fed.arena, v->p, v->n);
			}
		}
	}
	fed.sum_count = f->sum_count;
	for (uint32_t i = 0; i < f->sum_count && i < 64; i++) {
		fed.sums[i] = f->sums[i];
		snprintf(fed.sum_scopes[i], sizeof(fed.sum_scopes[i]), "%s", f->sums[i].scope);
		memcpy(fed.sum_values[i], f->sums[i].sums, f->sums[i].sum_count * sizeof(uint64_t));
	}
}

void feed(struct pg_store *s, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t count)
{
	arena_deinit(&fed.arena);
	free(fed.rows);
	memset(&fed, 0, sizeof(fed));
	arena_init(&fed.arena, (size_t)64 << 20);
	fed.rows = calloc(ROWS_KEEP, sizeof(*fed.rows));
	pg_store_ops.feed(s, tenant, from, scopes, count, NULL, on_feed, NULL);
	wait_for(&fed.done);
}

const struct seen_row *fed_row(uint32_t table, const struct uuid *key)
{
	for (uint32_t i = 0; i < fed.row_count; i++) {
		if (fed.rows[i].table == table && uuid_equal(&fed.rows[i].key, key))
			return &fed.rows[i];
	}
	return NULL;
}

void on_schema(void *ctx, enum ferry_error e, const struct hub_schema *s)
{
	CHECK(e == FERRY_OK);
	schema = s;
	*(bool *)ctx = true;
}

uint32_t lock_timeout_ms = 200;
int64_t stage_bytes_max;

struct pg_store *store_open(void)
{
	struct pg_store_config config = {.conninfo = hub_conninfo, .lock_timeout_ms = lock_timeout_ms,
					 .kept_device_bytes_max = stage_bytes_max};
	struct pg_store *s = pg_store_open(&config, &io);
	bool done = false;

	CHECK(s != NULL);
	pg_store_ops.schema(s, &tenant_a, on_schema, &done);
	wait_for(&done);
	return s;
}

const struct schema_table *table_named(const char *name)
{
	for (uint32_t i = 0; i < schema->schema.table_count; i++) {
		if (strcmp(schema->schema.tables[i].name, name) == 0)
			return &schema->schema.tables[i];
	}
	CHECK(strcmp(name, "a table that exists") == 0);
	return NULL;
}

uint16_t num_of(const char *table, const char *column)
{
	const struct schema_table *t = table_named(table);

	for (uint16_t c = 0; c < t->column_count; c++) {
		if (strcmp(t->columns[c].name, column) == 0)
			return t->columns[c].num;
	}
	CHECK(strcmp(column, "a column that exists") == 0);
	return 0;
}

struct value text(const char *s)
{
	return s ? value_text(s, strlen(s)) : value_null();
}

static struct small_set *newest_set;

struct small_set *set_new(int64_t number, int64_t base, const char *table, enum row_op op, struct uuid key)
{
	struct small_set *s = calloc(1, sizeof(*s));

	s->older = newest_set;
	newest_set = s;
	s->key = key;
	s->block = (struct block){.table = table_named(table)->table, .op = op, .row_count = 1, .nums = s->nums,
				  .keys = &s->key, .cells = s->cells};
	s->set = (struct change_set){.number = number, .base_position = base, .at = clock_wall_us(), .blocks = &s->block,
				     .block_count = 1};
	return s;
}

void set_cell(struct small_set *s, const char *table, const char *column, struct value v)
{
	uint16_t num = num_of(table, column), at = 0;

	while (at < s->block.column_count && s->nums[at] < num)
		at++;
	for (uint16_t i = s->block.column_count; i > at; i--) {
		s->nums[i] = s->nums[i - 1];
		s->cells[i] = s->cells[i - 1];
	}
	s->nums[at] = num;
	s->cells[at] = v;
	s->block.column_count++;
}

struct merge_item item(struct uuid device, const struct small_set *s)
{
	return (struct merge_item){.device = device, .number = s->set.number, .set = &s->set};
}

struct small_set *new_unit(int64_t number, struct uuid key, const char *code, const char *title)
{
	struct small_set *s = set_new(number, 0, "unit", ROW_INSERT, key);

	set_cell(s, "unit", "code", text(code));
	set_cell(s, "unit", "title", text(title));
	return s;
}

struct small_set *retitle(int64_t number, int64_t base, struct uuid key, const char *title)
{
	struct small_set *s = set_new(number, base, "unit", ROW_UPDATE, key);

	set_cell(s, "unit", "title", text(title));
	return s;
}

struct uuid device_new(unsigned n, const struct uuid *tenant, const char *scopes)
{
	struct uuid id = id_of(0xde000000u + n);

	sql("INSERT INTO ferry.device (id, tenant_id, name, class, fingerprint) VALUES ('%s', '%s', 'd%u', 'tablet', "
	    "sha256('%u'))", text_of(&id), text_of(tenant), n, n);
	sql("INSERT INTO ferry.device_scope SELECT '%s', s FROM unnest('{%s}'::text[]) s", text_of(&id), scopes);
	return id;
}

bool verdict_is(uint32_t i, enum verdict v, int code)
{
	const struct merge_result *r = &merged.results[i];

	if (!r->retry && r->settled.verdict == v && r->settled.code == code)
		return true;
	fprintf(stderr, "item %u: verdict %d code %d (%s) retry %d: %s\n", i, (int)r->settled.verdict, r->settled.code,
		ferry_error_name(r->settled.code), r->retry, merged.sentences[i]);
	return false;
}

bool accepted(uint32_t i)
{
	return verdict_is(i, VERDICT_ACCEPTED, 0);
}
