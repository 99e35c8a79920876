/* Drives the PostgreSQL store through its public calls and checks what comes
 * back; tests/integration/test_pg_store.py starts the server and names the
 * cases. Usage: pg-store-driver <case> <conninfo as ferry_hub> <as superuser>
 *
 * Each case takes a database of its own, made by pg_store.sql. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/pg_admin.h"
#include "hub/pg_store.h"
#include "tests/lib/poll_io.h"

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

#define DEADLINE_US 20000000

static struct poll_io poll_state;
static struct pg_io io;
static struct pg_admin *admin;
static const char *hub_conninfo, *admin_conninfo;
static struct uuid tenant_a, tenant_b;
static const struct hub_schema *schema;

/* ------------------------------------------------------------- small tools */

static struct uuid id_of(unsigned n)
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

static void sql_as(struct pg_admin *a, const char *sql)
{
	struct ferry_why why = {{0}};

	if (pg_admin_exec(a, sql, &why) != FERRY_OK) {
		fprintf(stderr, "%s\n  in: %s\n", why.text, sql);
		exit(1);
	}
}

static void sql(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void sql(const char *format, ...)
{
	char text[8192];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	sql_as(admin, text);
}

/* The first cell; owned until the next call. */
static const char *ask(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *ask(const char *format, ...)
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

static bool is(const char *got, const char *want)
{
	if (strcmp(got, want) == 0)
		return true;
	fprintf(stderr, "got '%s', not '%s'\n", got, want);
	return false;
}

static const char *text_of(const struct uuid *id)
{
	static char texts[8][UUID_TEXT];
	static unsigned next;
	char *t = texts[next++ % 8];

	uuid_format(id, t);
	return t;
}

static struct pg_admin *another_session(void)
{
	struct ferry_why why = {{0}};
	struct pg_admin *a;

	if (pg_admin_open(admin_conninfo, &a, &why) != FERRY_OK) {
		fprintf(stderr, "%s\n", why.text);
		exit(1);
	}
	return a;
}

/* ------------------------------------------------- the store, call by call */

static struct {
	bool done;
	enum ferry_error error;
	struct merge_result results[256];
	char sentences[256][400];
	uint32_t count;
} merged;

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

static void wait_for(const bool *done)
{
	int64_t end = clock_monotonic_us() + DEADLINE_US;

	while (!*done) {
		CHECK(clock_monotonic_us() < end);
		poll_io_turn(&poll_state);
	}
}

static void merge_start(struct pg_store *s, const struct uuid *tenant, const struct merge_item *items, uint32_t count)
{
	merged.done = false;
	pg_store_ops.merge(s, tenant, items, count, on_merge, NULL);
}

static void merge(struct pg_store *s, const struct uuid *tenant, const struct merge_item *items, uint32_t count)
{
	merge_start(s, tenant, items, count);
	wait_for(&merged.done);
	CHECK(merged.error == FERRY_OK);
	CHECK(merged.count == count);
}

#define ROWS_KEEP 4096
struct seen_row {
	char scope[80];
	uint32_t table;
	enum row_op op;
	struct uuid key;
	uint16_t nums[FERRY_COLUMNS_MAX];
	struct value cells[FERRY_COLUMNS_MAX];
	uint16_t column_count;
};

static struct {
	bool done;
	enum ferry_error error;
	int64_t from, to, mark;
	uint32_t frame_count, settled_count, sum_count;
	size_t largest;
	struct seen_row *rows;
	uint32_t row_count;
	struct feed_settled settled[64];
	struct conflict conflicts[64][8];
	char sum_scopes[64][80];
	struct scope_sum sums[64];
	uint64_t sum_values[64][FERRY_COLUMNS_MAX];
	struct arena arena;
} fed;

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

static void feed(struct pg_store *s, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t count)
{
	arena_deinit(&fed.arena);
	free(fed.rows);
	memset(&fed, 0, sizeof(fed));
	arena_init(&fed.arena, (size_t)64 << 20);
	fed.rows = calloc(ROWS_KEEP, sizeof(*fed.rows));
	pg_store_ops.feed(s, tenant, from, scopes, count, NULL, on_feed, NULL);
	wait_for(&fed.done);
}

static const struct seen_row *fed_row(uint32_t table, const struct uuid *key)
{
	for (uint32_t i = 0; i < fed.row_count; i++) {
		if (fed.rows[i].table == table && uuid_equal(&fed.rows[i].key, key))
			return &fed.rows[i];
	}
	return NULL;
}

static void on_schema(void *ctx, enum ferry_error e, const struct hub_schema *s)
{
	CHECK(e == FERRY_OK);
	schema = s;
	*(bool *)ctx = true;
}

static uint32_t lock_timeout_ms = 200;

static struct pg_store *store_open(void)
{
	struct pg_store_config config = {.conninfo = hub_conninfo, .lock_timeout_ms = lock_timeout_ms};
	struct pg_store *s = pg_store_open(&config, &io);
	bool done = false;

	CHECK(s != NULL);
	pg_store_ops.schema(s, &tenant_a, on_schema, &done);
	wait_for(&done);
	return s;
}

/* ------------------------------------------------------------ change-sets */

static const struct schema_table *table_named(const char *name)
{
	for (uint32_t i = 0; i < schema->schema.table_count; i++) {
		if (strcmp(schema->schema.tables[i].name, name) == 0)
			return &schema->schema.tables[i];
	}
	CHECK(strcmp(name, "a table that exists") == 0);
	return NULL;
}

static uint16_t num_of(const char *table, const char *column)
{
	const struct schema_table *t = table_named(table);

	for (uint16_t c = 0; c < t->column_count; c++) {
		if (strcmp(t->columns[c].name, column) == 0)
			return t->columns[c].num;
	}
	CHECK(strcmp(column, "a column that exists") == 0);
	return 0;
}

static struct value text(const char *s)
{
	return s ? value_text(s, strlen(s)) : value_null();
}

/* One row, up to 8 columns; lives as long as the program. */
struct small_set {
	struct small_set *older;
	struct change_set set;
	struct block block;
	uint16_t nums[8];
	struct value cells[8];
	struct uuid key;
	int64_t depends;
	struct uuid cell_uuid;
};

static struct small_set *newest_set;

static struct small_set *set_new(int64_t number, int64_t base, const char *table, enum row_op op, struct uuid key)
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

static void set_cell(struct small_set *s, const char *table, const char *column, struct value v)
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

static struct merge_item item(struct uuid device, const struct small_set *s)
{
	return (struct merge_item){.device = device, .number = s->set.number, .set = &s->set};
}

static struct small_set *new_unit(int64_t number, struct uuid key, const char *code, const char *title)
{
	struct small_set *s = set_new(number, 0, "unit", ROW_INSERT, key);

	set_cell(s, "unit", "code", text(code));
	set_cell(s, "unit", "title", text(title));
	return s;
}

static struct small_set *retitle(int64_t number, int64_t base, struct uuid key, const char *title)
{
	struct small_set *s = set_new(number, base, "unit", ROW_UPDATE, key);

	set_cell(s, "unit", "title", text(title));
	return s;
}

static struct uuid device_new(unsigned n, const struct uuid *tenant, const char *scopes)
{
	struct uuid id = id_of(0xde000000u + n);

	sql("INSERT INTO ferry.device (id, tenant_id, name, class, fingerprint) VALUES ('%s', '%s', 'd%u', 'tablet', "
	    "sha256('%u'))", text_of(&id), text_of(tenant), n, n);
	sql("INSERT INTO ferry.device_scope SELECT '%s', s FROM unnest('{%s}'::text[]) s", text_of(&id), scopes);
	return id;
}

static bool verdict_is(uint32_t i, enum verdict v, int code)
{
	const struct merge_result *r = &merged.results[i];

	if (!r->retry && r->settled.verdict == v && r->settled.code == code)
		return true;
	fprintf(stderr, "item %u: verdict %d code %d (%s) retry %d: %s\n", i, (int)r->settled.verdict, r->settled.code,
		ferry_error_name(r->settled.code), r->retry, merged.sentences[i]);
	return false;
}

static bool accepted(uint32_t i)
{
	return verdict_is(i, VERDICT_ACCEPTED, 0);
}

/* ------------------------------------------------------------------- cases */

static void repeated_change_set_takes_effect_once(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item first = item(d, new_unit(1, id_of(1), "A1", "one"));
	int64_t position;

	merge(s, &tenant_a, &first, 1);
	CHECK(accepted(0) && !merged.results[0].repeated);
	position = merged.results[0].settled.position;
	CHECK(position > 0);
	merge(s, &tenant_a, &first, 1);
	CHECK(merged.results[0].repeated && accepted(0) && merged.results[0].settled.position == position);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "1"));
	CHECK(is(ask("SELECT settled FROM ferry.device"), "1"));
	CHECK(is(ask("SELECT count(*) FROM ferry.commit WHERE tenant_id = '%s'", text_of(&tenant_a)), "1"));
	pg_store_close(s);
}

/* Two copies of a device, connected to two hubs. */
static void P5_what_a_copy_pushes_in_a_life_that_is_over_is_not_settled(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item before = item(d, new_unit(1, id_of(1), "A1", "of the copy that came first"));
	struct merge_item now = item(d, new_unit(1, id_of(2), "A2", "of the other"));

	sql("UPDATE ferry.device SET life = 2");
	before.life = 1;
	now.life = 2;
	merge(s, &tenant_a, &before, 1);
	CHECK(merged.results[0].retry && merged.results[0].elsewhere);
	merge(s, &tenant_a, &now, 1);
	CHECK(accepted(0) && !merged.results[0].elsewhere);
	merge(s, &tenant_a, &before, 1); /* no verdict of the other's either */
	CHECK(merged.results[0].retry && merged.results[0].elsewhere && !merged.results[0].repeated);
	CHECK(is(ask("SELECT string_agg(title, ',') FROM t.unit"), "of the other"));
	now.life = 0; /* came as a file */
	merge(s, &tenant_a, &now, 1);
	CHECK(merged.results[0].repeated);
	pg_store_close(s);
}

static void R6_settled_numbers_above_a_gap_are_kept_as_a_set(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item third = item(d, new_unit(3, id_of(3), "A3", "x"));
	struct merge_item second = item(d, new_unit(2, id_of(2), "A2", "x"));
	struct merge_item first = item(d, new_unit(1, id_of(1), "A1", "x"));

	merge(s, &tenant_a, &third, 1);
	CHECK(accepted(0));
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "0 {3}"));
	merge(s, &tenant_a, &first, 1);
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "1 {3}"));
	merge(s, &tenant_a, &second, 1);
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "3 {}"));
	merge(s, &tenant_a, &third, 1);
	CHECK(merged.results[0].repeated);
	pg_store_close(s);
}

static void R6_dependant_of_a_refused_one_is_refused(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct small_set *bad = new_unit(1, id_of(1), "A1", "x"), *builds = retitle(2, 0, id_of(1), "y");
	struct small_set *later = retitle(3, 0, id_of(1), "z");
	struct merge_item both[2], last;

	set_cell(bad, "unit", "price", value_int(-1));
	builds->depends = 1;
	builds->set.depends = &builds->depends;
	builds->set.depends_count = 1;
	later->depends = 2;
	later->set.depends = &later->depends;
	later->set.depends_count = 1;
	both[0] = item(d, bad);
	both[1] = item(d, builds);
	last = item(d, later);
	merge(s, &tenant_a, both, 2);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_CONSTRAINT));
	CHECK(verdict_is(1, VERDICT_REJECTED, FERRY_DEPENDS));
	merge(s, &tenant_a, &last, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_DEPENDS));
	pg_store_close(s);
}

static void R6_dependant_waits_for_one_that_is_not_settled(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct small_set *builds = new_unit(2, id_of(2), "A2", "x");
	struct merge_item items[1];

	builds->depends = 1;
	builds->set.depends = &builds->depends;
	builds->set.depends_count = 1;
	items[0] = item(d, builds);
	merge(s, &tenant_a, items, 1);
	CHECK(merged.results[0].retry);
	CHECK(is(ask("SELECT count(*) FROM ferry.settled"), "0"));
	CHECK(is(ask("SELECT count(*) FROM ferry.dirty"), "0"));
	pg_store_close(s);
}

static void one_bad_among_many_costs_the_others_nothing(void)
{
	struct pg_store *s = store_open();
	struct uuid devices[4];
	struct merge_item items[40];
	struct pg_store_stats stats;

	for (unsigned i = 0; i < 4; i++)
		devices[i] = device_new(i + 1, &tenant_a, "tenant");
	sql("INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', gen_random_uuid(), 'taken')", text_of(&tenant_a));
	for (unsigned i = 0; i < 40; i++) {
		char *code = malloc(16);

		snprintf(code, 16, i == 17 ? "taken" : "C%u", i);
		items[i] = item(devices[i % 4], new_unit(i / 4 + 1, id_of(i + 1), code, "x"));
	}
	merge(s, &tenant_a, items, 40);
	for (unsigned i = 0; i < 40; i++)
		CHECK(i == 17 ? verdict_is(i, VERDICT_REJECTED, FERRY_UNIQUE) : accepted(i));
	CHECK(strstr(merged.sentences[17], "unit_code_uq") != NULL);
	CHECK(strstr(merged.sentences[17], "taken") == NULL);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "40"));
	CHECK(is(ask("SELECT count(*) FROM ferry.commit"), "2"));
	CHECK(is(ask("SELECT count(*) FROM ferry.rejected WHERE length(body) > 20"), "1"));
	CHECK(is(ask("SELECT count(*) FROM ferry.device WHERE failed_at IS NOT NULL"), "1"));
	pg_store_stats(s, &stats);
	CHECK(stats.narrowings >= 1 && stats.merges == 1);
	pg_store_close(s);
}

/* Much work is planned for its size, but not what it fires: each check of a
 * reference would else be planned for its row. */
static void many_rows_leave_the_planning_of_triggers_alone(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item items[256];

	sql("CREATE TABLE t.seen (mode text)");
	sql("CREATE FUNCTION t.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
	    "$$BEGIN INSERT INTO t.seen VALUES (current_setting('plan_cache_mode')); RETURN NULL; END$$");
	sql("CREATE TRIGGER see AFTER INSERT ON t.unit EXECUTE FUNCTION t.see()");
	for (unsigned i = 0; i < 256; i++) {
		char *code = malloc(16);

		snprintf(code, 16, "C%u", i);
		items[i] = item(d, new_unit(i + 1, id_of(i + 1), code, "x"));
	}
	merge(s, &tenant_a, items, 256);
	for (unsigned i = 0; i < 256; i++)
		CHECK(accepted(i));
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "256"));
	CHECK(is(ask("SELECT string_agg(DISTINCT mode, ',') FROM t.seen"), "force_generic_plan")); /* as each link sets it */
	pg_store_close(s);
}

static int64_t head_of(const struct uuid *tenant)
{
	return strtoll(ask("SELECT max(position) FROM ferry.commit WHERE tenant_id = '%s'", text_of(tenant)), NULL, 10);
}

/* A large merge reads the columns that it writes: what it leaves alone stays,
 * and what a deletion takes away is kept whole. */
static void many_rows_are_read_by_what_is_written(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item items[250];
	int64_t base;

	sql("INSERT INTO t.unit (tenant_id, id, code, title, price) SELECT '%s', "
	    "('aa000000-0000-4000-8000-0000' || lpad(to_hex(g), 8, '0'))::uuid, 'C' || g, 'old', 5 "
	    "FROM generate_series(1, 250) g", text_of(&tenant_a));
	base = head_of(&tenant_a);
	sql("UPDATE t.unit SET title = 'theirs' WHERE code = 'C1'");
	for (unsigned i = 0; i < 250; i++)
		items[i] = item(d, retitle(i + 1, base, id_of(i + 1), "mine"));
	merge(s, &tenant_a, items, 250);
	for (unsigned i = 0; i < 250; i++)
		CHECK(i == 0 ? merged.results[i].settled.verdict != VERDICT_REJECTED : accepted(i));
	CHECK(is(ask("SELECT count(*) FROM t.unit WHERE title = 'mine' AND price = 5 AND code LIKE 'C%%'"), "250"));
	CHECK(is(ask("SELECT string_agg(hub_value::text, ',') FROM ferry.conflict"), "\"theirs\""));

	base = head_of(&tenant_a);
	sql("UPDATE t.unit SET price = 9 WHERE code = 'C2'");
	for (unsigned i = 0; i < 250; i++)
		items[i] = item(d, i == 1 ? set_new(252, base, "unit", ROW_DELETE, id_of(2))
					  : retitle(i + 251, base, id_of(i + 1), "again"));
	merge(s, &tenant_a, items, 250);
	CHECK(is(ask("SELECT count(*) FROM t.unit WHERE title = 'again' AND price = 5"), "249"));
	CHECK(is(ask("SELECT string_agg(hub_value::text, ',' ORDER BY hub_value::text COLLATE \"C\") FROM ferry.conflict "
		     "WHERE kind = 'delete_update' AND hub_value::text IN ('\"C2\"', '\"mine\"', '9')"), "\"C2\",\"mine\",9"));
	pg_store_close(s);
}

static void each_constraint_gives_its_code(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct small_set *sets[4];
	struct merge_item items[4];

	sets[0] = new_unit(1, id_of(1), "A1", "x");
	set_cell(sets[0], "unit", "status", text("nonsense"));
	sets[1] = new_unit(2, id_of(2), "A2", "x");
	set_cell(sets[1], "unit", "area", text("not a number"));
	sets[2] = new_unit(3, id_of(3), NULL, "x");
	sets[3] = set_new(4, 0, "kinds", ROW_INSERT, id_of(4));
	set_cell(sets[3], "kinds", "i2", value_int(70000));
	for (int i = 0; i < 4; i++)
		items[i] = item(d, sets[i]);
	merge(s, &tenant_a, items, 4);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_CONSTRAINT));
	CHECK(verdict_is(1, VERDICT_REJECTED, FERRY_BAD_VALUE));
	CHECK(verdict_is(2, VERDICT_REJECTED, FERRY_NOT_NULL));
	CHECK(verdict_is(3, VERDICT_REJECTED, FERRY_BAD_VALUE));
	pg_store_close(s);
}

static void R8_cells_changed_by_a_trigger_belong_to_the_hub(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), unit = id_of(1);
	struct small_set *edit = retitle(2, 0, unit, "tidy me");
	struct merge_item items[2] = {item(d, new_unit(1, unit, "A1", "one")), item(d, edit)};
	int64_t position;

	merge(s, &tenant_a, &items[0], 1);
	position = merged.results[0].settled.position;
	CHECK(is(ask("SELECT (SELECT d.device_id IS NOT NULL FROM ferry.resolve(v.tenant_id, ARRAY[v.base_tx]) d) "
		     "FROM ferry.version v"), "t"));
	edit->set.base_position = position;
	merge(s, &tenant_a, &items[1], 1);
	CHECK(accepted(0));
	CHECK(is(ask("SELECT title || shouted FROM t.unit"), "Tidy MeTIDY ME"));
	/* Neither the title (the trigger changed it) nor the shouted one is the device's. */
	CHECK(is(ask("SELECT count(*) FROM ferry.version v, unnest(v.over) o, "
		     "ferry.resolve(v.tenant_id, ARRAY[o & 281474976710655]) r "
		     "WHERE r.device_id IS NOT NULL AND r.number = 2"), "0"));
	/* So an edit made without having seen it conflicts. */
	items[0] = item(d, retitle(3, position, unit, "blind"));
	merge(s, &tenant_a, &items[0], 1);
	CHECK(is(ask("SELECT count(*) FROM ferry.conflict"), "1"));
	pg_store_close(s);
}

static void own_edits_in_a_row_do_not_conflict(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), unit = id_of(1);
	struct small_set *json = set_new(3, 0, "unit", ROW_UPDATE, unit), *json2 = set_new(4, 0, "unit", ROW_UPDATE, unit);
	struct merge_item items[4] = {item(d, new_unit(1, unit, "A1", "one")), item(d, retitle(2, 0, unit, "two"))};

	set_cell(json, "unit", "attrs", text("{\"b\":1,\"a\":[1,2]}"));
	set_cell(json, "unit", "area", text("7.5"));
	set_cell(json2, "unit", "attrs", text("{\"b\":2}"));
	set_cell(json2, "unit", "area", text("8.25"));
	items[2] = item(d, json);
	items[3] = item(d, json2);
	for (int i = 0; i < 4; i++) {
		merge(s, &tenant_a, &items[i], 1);
		CHECK(accepted(0));
	}
	CHECK(is(ask("SELECT count(*) FROM ferry.conflict"), "0"));
	CHECK(is(ask("SELECT title || attrs || area FROM t.unit"), "two{\"b\": 2}8.25"));
	pg_store_close(s);
}

static void R12_rows_held_by_somebody_wait_alone(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item items[3] = {item(d, new_unit(1, id_of(1), "A1", "x")), item(d, new_unit(2, id_of(2), "A2", "x"))};
	struct pg_admin *other = another_session();
	struct small_set *after = retitle(5, 0, id_of(1), "after");

	merge(s, &tenant_a, items, 2);
	sql_as(other, "BEGIN; UPDATE t.unit SET price = 5 WHERE code = 'A1'");
	items[0] = item(d, retitle(3, 0, id_of(1), "held"));
	items[1] = item(d, retitle(4, 0, id_of(2), "free"));
	after->depends = 3;
	after->set.depends = &after->depends;
	after->set.depends_count = 1;
	items[2] = item(d, after);
	merge(s, &tenant_a, items, 3);
	CHECK(merged.results[0].retry && accepted(1) && merged.results[2].retry);
	CHECK(is(ask("SELECT string_agg(title, ' ' ORDER BY code) FROM t.unit"), "x free"));
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "2 {4}"));
	sql_as(other, "COMMIT");
	merge(s, &tenant_a, items, 3);
	CHECK(accepted(0) && merged.results[1].repeated && accepted(2));
	CHECK(is(ask("SELECT string_agg(title || coalesce(price, 0), ' ' ORDER BY code) FROM t.unit"), "after5 free0"));
	pg_admin_close(other);
	pg_store_close(s);
}

static void R11_deferred_violation_is_refused_alone(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), e = device_new(2, &tenant_a, "tenant"), nowhere = id_of(99);
	struct small_set *orphan = set_new(1, 0, "note", ROW_INSERT, id_of(5));
	struct merge_item items[3];

	set_cell(orphan, "note", "unit_id", value_bytes(nowhere.b, 16));
	items[0] = item(d, orphan);
	items[1] = item(d, new_unit(2, id_of(1), "A1", "x"));
	items[2] = item(e, new_unit(1, id_of(2), "A2", "x"));
	merge(s, &tenant_a, items, 3);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_FOREIGN_KEY) && accepted(1) && accepted(2));
	CHECK(strstr(merged.sentences[0], "note_unit_fk") != NULL);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "2"));
	CHECK(is(ask("SELECT count(*) FROM ferry.commit"), "1"));
	pg_store_close(s);
}

static void R10_lock_timeout_is_retried(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item one;
	struct pg_admin *other = another_session();
	struct pg_store_stats stats;

	/* An insert that waits for another's of the same key, longer than the lock timeout. */
	sql_as(other, "BEGIN");
	{
		char text_sql[300];
		struct uuid unit = id_of(1);

		snprintf(text_sql, sizeof(text_sql), "INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', '%s', 'other')",
			 text_of(&tenant_a), text_of(&unit));
		sql_as(other, text_sql);
	}
	one = item(d, new_unit(1, id_of(1), "A1", "mine"));
	merge_start(s, &tenant_a, &one, 1);
	do {
		poll_io_turn(&poll_state);
		pg_store_stats(s, &stats);
	} while (stats.merge_retries == 0 && !merged.done);
	CHECK(!merged.done);
	sql_as(other, "COMMIT");
	wait_for(&merged.done);
	/* Now the row is there: another's insert of the same key, merged column by column. */
	CHECK(merged.error == FERRY_OK && !merged.results[0].retry && merged.results[0].settled.verdict != VERDICT_REJECTED);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "1"));
	pg_admin_close(other);
	pg_store_close(s);
}

/* Each waits for a unique code that the other has inserted: the merge is ended,
 * as the other does not look for deadlocks, and it is done again. (When the
 * merge looked before there was one, its lock timeout ends it.) */
static void R10_deadlock_is_retried(void)
{
	struct pg_store *s;
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item items[2];
	struct pg_admin *other = another_session();
	struct pg_store_stats stats;
	char insert[200];

	lock_timeout_ms = 15000;
	s = store_open();
	snprintf(insert, sizeof(insert), "INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', gen_random_uuid(), 'A')",
		 text_of(&tenant_a));
	sql_as(other, "SET deadlock_timeout = '10min'");
	sql_as(other, "BEGIN");
	sql_as(other, insert);
	items[0] = item(d, new_unit(1, id_of(1), "B", "x"));
	items[1] = item(d, new_unit(2, id_of(2), "A", "x"));
	merge_start(s, &tenant_a, items, 2);
	while (strcmp(ask("SELECT count(*) FROM pg_stat_activity WHERE usename = 'ferry_hub' AND wait_event_type = 'Lock'"),
		      "1") != 0)
		poll_io_turn(&poll_state);
	insert[strlen(insert) - 3] = 'B';
	sql_as(other, insert); /* returns once the merge was ended */
	sql_as(other, "ROLLBACK");
	wait_for(&merged.done);
	CHECK(merged.error == FERRY_OK && accepted(0) && accepted(1));
	pg_store_stats(s, &stats);
	CHECK(stats.merge_retries == 1 && stats.narrowings == 0);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "2"));
	pg_admin_close(other);
	pg_store_close(s);
}

static void R10_locks_that_do_not_pass_hold_the_change_set_back(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), unit = id_of(1);
	struct merge_item one;
	struct pg_admin *other = another_session();
	char text_sql[300];

	snprintf(text_sql, sizeof(text_sql), "BEGIN; INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', '%s', 'other')",
		 text_of(&tenant_a), text_of(&unit));
	sql_as(other, text_sql);
	one = item(d, new_unit(1, unit, "A1", "mine"));
	merge(s, &tenant_a, &one, 1);
	CHECK(merged.results[0].retry);
	sql_as(other, "ROLLBACK");
	merge(s, &tenant_a, &one, 1);
	CHECK(accepted(0));
	pg_admin_close(other);
	pg_store_close(s);
}

static void P2_killed_connection_loses_and_doubles_nothing(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	int64_t number = 1;
	unsigned seed = (unsigned)clock_wall_us(), failures = 0;

	fprintf(stderr, "seed %u\n", seed);
	srand(seed);
	for (; number <= 60; number++) {
		char code[24];
		struct merge_item one;

		snprintf(code, sizeof(code), "K%lld", (long long)number);
		one = item(d, new_unit(number, id_of((unsigned)number), code, "x"));
		for (int attempt = 0;; attempt++) {
			int turns = rand() % 5;

			CHECK(attempt < 50);
			merge_start(s, &tenant_a, &one, 1);
			for (int i = 0; attempt == 0 && number % 2 && i < turns && !merged.done; i++)
				poll_io_turn(&poll_state);
			if (attempt == 0 && number % 2)
				sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ferry_hub' "
				    "AND datname = current_database()");
			wait_for(&merged.done);
			if (merged.error == FERRY_OK && !merged.results[0].retry)
				break;
			failures++;
		}
		CHECK(accepted(0));
	}
	fprintf(stderr, "failures %u\n", failures);
	CHECK(is(ask("SELECT count(*) || ' ' || count(DISTINCT code) FROM t.unit"), "60 60"));
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device"), "60 {}"));
	CHECK(is(ask("SELECT count(*) FROM ferry.settled"), "60"));
	pg_store_close(s);
}

static void P7_tenants_are_kept_apart(void)
{
	struct pg_store *s = store_open();
	struct uuid a = device_new(1, &tenant_a, "tenant"), b = device_new(2, &tenant_b, "tenant"), unit = id_of(1);
	struct small_set *foreign = new_unit(2, id_of(7), "A7", "x");
	struct merge_item one = item(a, new_unit(1, unit, "A1", "a's"));

	merge(s, &tenant_a, &one, 1);
	CHECK(accepted(0));
	one = item(b, retitle(1, 100, unit, "b was here"));
	merge(s, &tenant_b, &one, 1);
	CHECK(is(ask("SELECT title FROM t.unit"), "a's"));
	set_cell(foreign, "unit", "tenant_id", value_bytes(tenant_a.b, 16));
	one = item(b, foreign);
	merge(s, &tenant_b, &one, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_FOREIGN_TENANT));
	feed(s, &tenant_b, 0, NULL, 0);
	CHECK(fed.error == FERRY_OK && fed.row_count == 0);
	/* A device asked for under the wrong tenant settles nothing. */
	one = item(a, new_unit(9, id_of(9), "A9", "x"));
	merge(s, &tenant_b, &one, 1);
	CHECK(merged.results[0].retry);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "1"));
	pg_store_close(s);
}

static void P7_rows_outside_the_scopes_are_refused(void)
{
	struct pg_store *s = store_open();
	struct uuid p1 = id_of(101), p2 = id_of(102), room = id_of(1);
	char scopes[200];
	struct uuid d;
	struct small_set *in, *out, *move, *scan;
	struct merge_item items[3];

	snprintf(scopes, sizeof(scopes), "project:%s", text_of(&p1));
	d = device_new(1, &tenant_a, scopes);
	in = set_new(1, 0, "room", ROW_INSERT, room);
	set_cell(in, "room", "project_id", value_bytes(p1.b, 16));
	out = set_new(2, 0, "room", ROW_INSERT, id_of(2));
	set_cell(out, "room", "project_id", value_bytes(p2.b, 16));
	scan = set_new(3, 0, "scan", ROW_INSERT, id_of(3));
	set_cell(scan, "scan", "room_id", value_bytes(room.b, 16));
	items[0] = item(d, in);
	items[1] = item(d, out);
	items[2] = item(d, scan);
	merge(s, &tenant_a, items, 3);
	CHECK(accepted(0) && verdict_is(1, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE) && accepted(2));
	move = set_new(4, 1000, "room", ROW_UPDATE, room);
	set_cell(move, "room", "project_id", value_bytes(p2.b, 16));
	items[0] = item(d, move);
	items[1] = item(d, new_unit(5, id_of(5), "A5", "x"));
	merge(s, &tenant_a, items, 2);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE) && verdict_is(1, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE));
	sql("UPDATE t.room SET project_id = '%s'", text_of(&p2));
	move = set_new(6, 1000, "room", ROW_UPDATE, room);
	set_cell(move, "room", "name", text("mine?"));
	items[0] = item(d, move);
	merge(s, &tenant_a, items, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE));
	pg_store_close(s);
}

static void moved_rows_leave_one_scope_and_enter_the_other(void)
{
	struct pg_store *s = store_open();
	struct uuid p1 = id_of(101), p2 = id_of(102), room = id_of(1), scan = id_of(2);
	char scope1[80], scope2[80];
	const char *wanted[1] = {scope1};
	const struct seen_row *row;
	int64_t before;

	snprintf(scope1, sizeof(scope1), "project:%s", text_of(&p1));
	snprintf(scope2, sizeof(scope2), "project:%s", text_of(&p2));
	sql("INSERT INTO t.room VALUES ('%s', '%s', '%s', 'r')", text_of(&tenant_a), text_of(&room), text_of(&p1));
	sql("INSERT INTO t.scan VALUES ('%s', '%s', '%s', 's')", text_of(&tenant_a), text_of(&scan), text_of(&room));
	feed(s, &tenant_a, 0, NULL, 0);
	before = fed.to;
	row = fed_row(table_named("scan")->table, &scan);
	CHECK(row && row->op == ROW_INSERT && is(row->scope, scope1));
	sql("UPDATE t.room SET project_id = '%s'", text_of(&p2));
	feed(s, &tenant_a, before, NULL, 0);
	CHECK(fed.row_count == 4);
	for (uint32_t i = 0; i < 4; i++)
		CHECK(fed.rows[i].op == (strcmp(fed.rows[i].scope, scope1) == 0 ? ROW_LEFT : ROW_INSERT));
	feed(s, &tenant_a, before, wanted, 1);
	CHECK(fed.row_count == 2 && fed.rows[0].op == ROW_LEFT && fed.rows[1].op == ROW_LEFT);
	pg_store_close(s);
}

static void R20_feed_gives_only_what_changed(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), e = device_new(2, &tenant_a, "tenant"), unit = id_of(1);
	struct merge_item one = item(d, new_unit(1, unit, "A1", "one"));
	const struct seen_row *row;
	int64_t first, second;
	uint32_t table = table_named("unit")->table;

	merge(s, &tenant_a, &one, 1);
	feed(s, &tenant_a, 0, NULL, 0);
	first = fed.to;
	CHECK(fed.error == FERRY_OK && first == merged.results[0].settled.position);
	row = fed_row(table, &unit);
	CHECK(row && row->op == ROW_INSERT && row->column_count == table_named("unit")->column_count);
	CHECK(fed.settled_count == 1 && fed.settled[0].settled.number == 1 && fed.settled[0].settled.position == first);
	CHECK(fed.sum_count == 1 && fed.sums[0].rows == 1 && is(fed.sum_scopes[0], "tenant"));
	sql("UPDATE t.unit SET price = 7");
	one = item(e, retitle(1, first, unit, "theirs"));
	merge(s, &tenant_a, &one, 1);
	feed(s, &tenant_a, first, NULL, 0);
	second = fed.to;
	row = fed_row(table, &unit);
	CHECK(row && row->op == ROW_UPDATE && row->column_count == 3); /* title, price, shouted */
	one = item(d, retitle(2, first, unit, "mine"));
	merge(s, &tenant_a, &one, 1);
	CHECK(verdict_is(0, VERDICT_SUPERSEDED, 0) || accepted(0));
	feed(s, &tenant_a, second, NULL, 0);
	CHECK(fed.settled_count == 1 && fed.settled[0].settled.conflict_count == 1);
	CHECK(fed.conflicts[0][0].device_value.n == 4 && memcmp(fed.conflicts[0][0].device_value.p, "mine", 4) == 0);
	CHECK(fed.conflicts[0][0].hub_value.n == 6 && memcmp(fed.conflicts[0][0].hub_value.p, "theirs", 6) == 0);
	second = fed.to;
	feed(s, &tenant_a, second, NULL, 0);
	CHECK(fed.from == fed.to && fed.frame_count == 0 && fed.settled_count == 0 && fed.mark != 0);
	sql("DELETE FROM t.unit");
	feed(s, &tenant_a, second, NULL, 0);
	row = fed_row(table, &unit);
	CHECK(row && row->op == ROW_DELETE && row->column_count == 0);
	feed(s, &tenant_a, fed.to + 1000, NULL, 0);
	CHECK(fed.error == FERRY_OTHER_HISTORY);
	pg_store_close(s);
}

static void global_rows_come_with_every_tenants_feed(void)
{
	struct pg_store *s = store_open();
	struct uuid country = id_of(1);
	const struct seen_row *row;
	int64_t before;

	feed(s, &tenant_a, 0, NULL, 0);
	before = fed.to;
	sql("INSERT INTO t.country VALUES ('00000000-0000-0000-0000-000000000000', '%s', 'Egypt')", text_of(&country));
	feed(s, &tenant_a, before, NULL, 0);
	row = fed_row(table_named("country")->table, &country);
	CHECK(row && row->op == ROW_INSERT && is(row->scope, "global"));
	feed(s, &tenant_b, 0, NULL, 0);
	CHECK(fed_row(table_named("country")->table, &country) != NULL);
	pg_store_close(s);
}

/* One frame must not pass a commit of the reserved tenant that took a lower
 * position and is not visible yet. */
static void R20_no_position_is_passed_before_it_is_visible(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), country = id_of(1);
	struct pg_admin *other = another_session();
	struct merge_item one = item(d, new_unit(1, id_of(2), "A1", "x"));
	char text_sql[400];
	int64_t to;

	snprintf(text_sql, sizeof(text_sql), "BEGIN; INSERT INTO t.country VALUES ('00000000-0000-0000-0000-000000000000', "
		 "'%s', 'Egypt'); SET CONSTRAINTS ALL IMMEDIATE", text_of(&country));
	sql_as(other, text_sql); /* has its position now */
	merge_start(s, &tenant_a, &one, 1);
	for (int i = 0; i < 5 && !merged.done; i++)
		poll_io_turn(&poll_state);
	feed(s, &tenant_a, 0, NULL, 0);
	to = fed.to;
	sql_as(other, "COMMIT");
	wait_for(&merged.done);
	CHECK(merged.error == FERRY_OK);
	feed(s, &tenant_a, to, NULL, 0);
	CHECK(fed_row(table_named("country")->table, &country) != NULL);
	pg_admin_close(other);
	pg_store_close(s);
}

struct kinds_row {
	const char *column;
	struct value v;
};

static bool same_value(const struct value *a, const struct value *b)
{
	return value_equal(a, b);
}

static void every_type_makes_the_round_trip(void)
{
	static const uint8_t bytes[] = {0, 1, 0xff, 0}, uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
	const struct kinds_row rows[][8] = {
		{{"b", {.kind = VALUE_BOOL, .b = true}}, {"i2", value_int(-32768)}, {"i4", value_int(2147483647)},
		 {"i8", value_int(INT64_MIN)}, {"f4", {.kind = VALUE_FLOAT, .f = 1.5}}, {"f8", {.kind = VALUE_FLOAT, .f = 0.1}},
		 {"t", text("h\xc3\xa9llo \"\\ \n")}, {"v", text("twenty")}},
		{{"u", value_bytes(uuid, 16)}, {"y", value_bytes(bytes, 4)}, {"ts", value_int(1772355000123456)},
		 {"d", value_int(20513)}, {"n", text("12345678901234567890.1234567890")}, {"n2", text("95.50")},
		 {"jb", text("{\"a\": 1, \"b\": null}")}, {"ta", text("[\"x\",null,\"y\\\"z\"]")}},
		{{"ts", {.kind = VALUE_FLOAT, .f = __builtin_inf()}}, {"d", {.kind = VALUE_FLOAT, .f = -__builtin_inf()}},
		 {"f8", {.kind = VALUE_FLOAT, .f = -0.0}}, {"jb", text("null")}, {"ta", text("[]")}, {"ci", text("MiXed")},
		 {"e", text("green")}, {"ip", text("10.0.0.0/8")}},
		{{"ts", value_int(-1)}, {"d", value_int(-719162)}, {"n", text("NaN")}, {"js", text("{\"b\":1,  \"a\":2}")},
		 {"ia", text("[1,2,null]")}, {"iv", text("1 year 2 mons 3 days 04:05:06.789")}, {"t", text("")},
		 {"c", text("ab")}},
	};
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");

	for (unsigned i = 0; i < 4; i++) {
		struct small_set *set = set_new(i + 1, 0, "kinds", ROW_INSERT, id_of(i + 1));
		struct merge_item one;
		const struct seen_row *row;

		for (int c = 0; c < 8; c++)
			set_cell(set, "kinds", rows[i][c].column, rows[i][c].v);
		one = item(d, set);
		merge(s, &tenant_a, &one, 1);
		CHECK(accepted(0));
		feed(s, &tenant_a, 0, NULL, 0);
		row = fed_row(table_named("kinds")->table, &set->key);
		CHECK(row && row->op == ROW_INSERT);
		for (uint16_t c = 0; c < row->column_count; c++) {
			const char *name = table_named("kinds")->columns[c].name;
			struct value want = value_null();

			for (int k = 0; k < 8; k++) {
				if (strcmp(rows[i][k].column, name) == 0)
					want = rows[i][k].v;
			}
			if (strcmp(name, "tenant_id") == 0)
				continue;
			if (!same_value(&row->cells[c], &want)) {
				fprintf(stderr, "row %u, column %s differs: %.*s\n", i, name,
					row->cells[c].kind == VALUE_TEXT ? (int)row->cells[c].n : 0,
					row->cells[c].kind == VALUE_TEXT ? (const char *)row->cells[c].p : "");
				exit(1);
			}
		}
		/* All of it is the device's own: so were the declared hashes right. */
		CHECK(is(ask("SELECT count(*) FROM ferry.version v, unnest(v.over) o WHERE v.key = '%s' AND o >> 48 <> 1",
			     text_of(&set->key)), "0"));
		CHECK(is(ask("SELECT count(*) FROM ferry.version v, ferry.stamp p WHERE v.key = '%s' AND p.id = v.base_tx",
			     text_of(&set->key)), "1"));
	}
	CHECK(is(ask("SELECT count(*) FROM ferry.sums('%1$s') a JOIN ferry.sums_full('%1$s') b USING (tbl, scope) "
		     "WHERE a.sums = b.sums AND a.rows = b.rows", text_of(&tenant_a)), "1"));
	pg_store_close(s);
}

static void on_stage(void *ctx, enum ferry_error e)
{
	*(int *)ctx = (int)e;
}

static int stage(struct pg_store *s, const struct uuid *d, const struct change_set *part)
{
	int64_t end = clock_monotonic_us() + DEADLINE_US;
	int code = -1;

	pg_store_ops.stage(s, &tenant_a, d, part, on_stage, &code);
	while (code == -1) {
		CHECK(clock_monotonic_us() < end);
		poll_io_turn(&poll_state);
	}
	return code;
}

static void R7_staged_parts_merge_as_one(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item whole = {.device = d, .number = 1};
	struct small_set *part;

	for (unsigned i = 0; i < 5; i++) {
		char code[16];

		snprintf(code, sizeof(code), "P%u", i);
		part = new_unit(1, id_of(i + 1), code, "x");
		part->set.part = i;
		part->set.more = i < 4;
		CHECK(stage(s, &d, &part->set) == FERRY_OK);
		CHECK(stage(s, &d, &part->set) == FERRY_OK);
		set_cell(part, "unit", "price", value_int(1));
		CHECK(stage(s, &d, &part->set) == FERRY_NUMBER_REUSED);
	}
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "0"));
	merge(s, &tenant_a, &whole, 1);
	CHECK(accepted(0));
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "5"));
	CHECK(is(ask("SELECT count(*) FROM ferry.stage"), "0"));
	CHECK(is(ask("SELECT count(*) FROM ferry.commit"), "1"));
	merge(s, &tenant_a, &whole, 1);
	CHECK(merged.results[0].repeated && accepted(0));
	/* A bad row in the last part takes all of it back. */
	for (unsigned i = 0; i < 3; i++) {
		char code[16];

		snprintf(code, sizeof(code), "Q%u", i);
		part = new_unit(2, id_of(i + 11), i == 2 ? "P0" : code, "x");
		part->set.part = i;
		part->set.more = i < 2;
		CHECK(stage(s, &d, &part->set) == FERRY_OK);
	}
	whole.number = 2;
	merge(s, &tenant_a, &whole, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_UNIQUE));
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "5"));
	CHECK(is(ask("SELECT count(*) FROM ferry.rejected WHERE length(body) > 100"), "1"));
	CHECK(is(ask("SELECT count(*) FROM ferry.stage"), "0"));
	CHECK(is(ask("SELECT settled FROM ferry.device"), "2"));
	pg_store_close(s);
}

static struct {
	bool done;
	struct merge_result result;
} second;

static void on_second(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count)
{
	(void)ctx;
	CHECK(e == FERRY_OK && count == 1);
	second.result = results[0];
	second.done = true;
}

static void R6_two_hubs_cannot_settle_the_same_number(void)
{
	struct pg_store *one = store_open(), *two = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");

	for (int64_t number = 1; number <= 20; number++) {
		char code[24];
		struct merge_item i;

		snprintf(code, sizeof(code), "N%lld", (long long)number);
		i = item(d, new_unit(number, id_of((unsigned)number), code, "x"));
		second.done = false;
		merge_start(one, &tenant_a, &i, 1);
		pg_store_ops.merge(two, &tenant_a, &i, 1, on_second, NULL);
		wait_for(&merged.done);
		wait_for(&second.done);
		CHECK(merged.error == FERRY_OK && !merged.results[0].retry && !second.result.retry);
		CHECK(merged.results[0].repeated != second.result.repeated);
		CHECK(merged.results[0].settled.position == second.result.settled.position);
	}
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "20"));
	CHECK(is(ask("SELECT count(*) FROM ferry.commit"), "20"));
	pg_store_close(one);
	pg_store_close(two);
}

static struct {
	bool done;
	enum ferry_error error;
	struct fill_result result;
	struct message message;
	struct arena arena;
} filled;

static void on_fill(void *ctx, enum ferry_error e, const struct fill_result *r)
{
	struct ferry_why why = {{0}};
	size_t start = 0;

	(void)ctx;
	filled.done = true;
	filled.error = e;
	if (e != FERRY_OK)
		return;
	filled.result = *r;
	for (uint32_t i = 0; i + 1 < r->piece_count; i++) { /* of a row that goes on; the last piece is read */
		CHECK(r->piece_ends[i] - start <= FERRY_MESSAGE_BYTES_MAX);
		start = r->piece_ends[i];
	}
	arena_deinit(&filled.arena);
	arena_init(&filled.arena, (size_t)64 << 20);
	CHECK(r->message_bytes - start <= FERRY_MESSAGE_BYTES_MAX);
	CHECK(message_decode(&filled.arena, arena_copy(&filled.arena, r->message + start, r->message_bytes - start),
			     r->message_bytes - start, &filled.message, &why) == FERRY_OK);
	CHECK(filled.message.type == MESSAGE_FILL && filled.message.fill.table_done == r->table_done);
	CHECK(filled.message.fill.block.row_count == r->row_count);
}

static uint32_t fill_all(struct pg_store *s, const char *scope, const char *table, uint32_t *out_pages)
{
	struct fill_request r = {.tenant = tenant_a, .scope = scope, .table = table_named(table)->table, .position = 7,
				 .bytes_max = 20000};
	uint32_t rows = 0;

	*out_pages = 0;
	do {
		filled.done = false;
		pg_store_ops.fill(s, &r, on_fill, NULL);
		wait_for(&filled.done);
		CHECK(filled.error == FERRY_OK && filled.message.fill.position == 7);
		for (uint32_t i = 0; i < filled.result.row_count; i++) {
			CHECK(uuid_compare(&filled.message.fill.block.keys[i], &r.after) > 0);
			r.after = filled.message.fill.block.keys[i];
		}
		/* A page may hold no row where one was too large; it still leads on. */
		CHECK(filled.result.row_count == 0 || uuid_equal(&r.after, &filled.result.last));
		r.after = filled.result.last;
		rows += filled.result.row_count;
		++*out_pages;
	} while (!filled.result.table_done);
	return rows;
}

static void R15_fill_pages_cover_a_scope_in_key_order(void)
{
	struct pg_store *s = store_open();
	struct uuid p1 = id_of(101);
	char scope[80];
	uint32_t pages;

	snprintf(scope, sizeof(scope), "project:%s", text_of(&p1));
	sql("INSERT INTO t.unit (tenant_id, id, code) SELECT '%s', gen_random_uuid(), 'U' || i FROM generate_series(1, 1000) i",
	    text_of(&tenant_a));
	sql("INSERT INTO t.unit (tenant_id, id, code) SELECT '%s', gen_random_uuid(), 'U' || i FROM generate_series(1, 10) i",
	    text_of(&tenant_b));
	sql("INSERT INTO t.room SELECT '%s', gen_random_uuid(), CASE WHEN i %% 2 = 0 THEN '%s'::uuid END, 'r' "
	    "FROM generate_series(1, 100) i", text_of(&tenant_a), text_of(&p1));
	sql("INSERT INTO t.scan SELECT tenant_id, gen_random_uuid(), id, 's' FROM t.room");
	sql("INSERT INTO t.country VALUES ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'Egypt')");
	CHECK(fill_all(s, "tenant", "unit", &pages) == 1000 && pages > 1);
	CHECK(fill_all(s, "tenant", "room", &pages) == 50);
	CHECK(fill_all(s, scope, "room", &pages) == 50);
	CHECK(fill_all(s, scope, "scan", &pages) == 50);
	CHECK(fill_all(s, "tenant", "scan", &pages) == 50);
	CHECK(fill_all(s, "global", "country", &pages) == 1);
	CHECK(fill_all(s, "tenant", "country", &pages) == 0);
	CHECK(fill_all(s, "global", "unit", &pages) == 0 && pages == 1);
	pg_store_close(s);
	arena_deinit(&filled.arena);
}

static void oversized_rows_hold_up_nobody(void)
{
	struct pg_store *s = store_open();
	struct pg_store_stats stats;
	uint32_t pages;

	sql("INSERT INTO t.unit (tenant_id, id, code, title) SELECT '%s', gen_random_uuid(), 'U' || i, "
	    "CASE i WHEN 5 THEN repeat('x', 35000000) WHEN 6 THEN repeat('z', 2000000) ELSE repeat('y', 300000) END "
	    "FROM generate_series(1, 10) i", text_of(&tenant_a));
	feed(s, &tenant_a, 0, NULL, 0);
	/* The trigger doubles the text: 600 kB a row, so one to a frame; 4 MB, so in 4 pieces [P 6.6];
	 * and 70 MB, which is more than a row may have. */
	CHECK(fed.error == FERRY_OK && fed.row_count == 8 + 4 && fed.frame_count == 8 + 4 &&
	      fed.largest <= FERRY_MESSAGE_BYTES_MAX);
	CHECK(fill_all(s, "tenant", "unit", &pages) == 9);
	pg_store_stats(s, &stats);
	CHECK(stats.oversized == 2);
	pg_store_close(s);
	arena_deinit(&filled.arena);
}

static struct {
	bool done;
	enum ferry_error error;
	struct hub_device device;
} found;

static void on_device(void *ctx, enum ferry_error e, const struct hub_device *d)
{
	(void)ctx;
	found.done = true;
	found.error = e;
	if (d)
		found.device = *d;
}

static void look_up(struct pg_store *s, unsigned n, int64_t position, int64_t mark)
{
	struct message_hello hello = {.position = position, .mark = mark, .incarnation = id_of(55)};
	uint8_t print[32] = {0};

	if (n) {
		const char *hex = ask("SELECT encode(sha256('%u'), 'hex')", n);

		for (int i = 0; i < 32; i++) {
			const char pair[] = {hex[i * 2], hex[i * 2 + 1], 0};
			char *end;

			print[i] = (uint8_t)strtoul(pair, &end, 16);
			CHECK(end == pair + 2);
		}
	}
	found.done = false;
	pg_store_ops.device(s, print, &hello, on_device, NULL);
	wait_for(&found.done);
}

static void device_and_its_bookmark_are_known(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant,global"), incarnation = id_of(55);

	look_up(s, 0, -1, 0);
	CHECK(found.error == FERRY_UNKNOWN_DEVICE);
	look_up(s, 1, -1, 0);
	CHECK(found.error == FERRY_OK && uuid_equal(&found.device.id, &d) && uuid_equal(&found.device.tenant, &tenant_a));
	CHECK(found.device.scope_count == 2 && found.device.bookmark_code == FERRY_OK && found.device.head == 0);
	CHECK(uuid_equal(&found.device.incarnation, &incarnation));
	sql("INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', gen_random_uuid(), 'x')", text_of(&tenant_a));
	feed(s, &tenant_a, 0, NULL, 0);
	look_up(s, 1, fed.to, fed.mark);
	CHECK(found.device.bookmark_code == FERRY_OK && found.device.head == fed.to);
	look_up(s, 1, fed.to, fed.mark + 1);
	CHECK(found.device.bookmark_code == FERRY_OTHER_HISTORY);
	look_up(s, 1, fed.to + 5, fed.mark);
	CHECK(found.device.bookmark_code == FERRY_OTHER_HISTORY);
	look_up(s, 1, 0, 0);
	CHECK(found.device.bookmark_code == FERRY_OK);
	sql("SELECT ferry.prune_tombstones('%s', %lld)", text_of(&tenant_a), (long long)fed.to);
	look_up(s, 1, 0, 0);
	CHECK(found.device.bookmark_code == FERRY_PRUNED);
	sql("UPDATE ferry.device SET status = 'revoked'");
	look_up(s, 1, -1, 0);
	CHECK(found.error == FERRY_REVOKED);
	pg_store_close(s);
}

static void changed_schema_is_noticed(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), unit = id_of(1);
	struct merge_item one = item(d, new_unit(1, unit, "A1", "x"));
	uint64_t hash = schema->schema.hash;
	bool done = false;
	struct small_set *edit;

	merge(s, &tenant_a, &one, 1);
	sql("ALTER TABLE t.unit ADD COLUMN floor int DEFAULT 3");
	feed(s, &tenant_a, 0, NULL, 0);
	CHECK(fed.error == FERRY_OK);
	pg_store_ops.schema(s, &tenant_a, on_schema, &done);
	wait_for(&done);
	CHECK(schema->schema.hash != hash);
	edit = set_new(2, fed.to, "unit", ROW_UPDATE, unit);
	set_cell(edit, "unit", "floor", value_int(4));
	one = item(d, edit);
	merge(s, &tenant_a, &one, 1);
	CHECK(accepted(0));
	CHECK(is(ask("SELECT floor FROM t.unit"), "4"));
	sql("ALTER TABLE t.unit DROP COLUMN price");
	one = item(d, retitle(3, fed.to, unit, "y"));
	merge(s, &tenant_a, &one, 1);
	CHECK(accepted(0));
	pg_store_close(s);
}

static void key_of_another_tenant_is_refused(void)
{
	struct pg_store *s;
	struct uuid d, unit = id_of(1);
	struct merge_item one;

	sql("SET ROLE ferry_owner; CREATE TABLE t.lone (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, name text); "
	    "SELECT ferry.isolate('t.lone'), ferry.track('t.lone'); RESET ROLE");
	s = store_open();
	d = device_new(1, &tenant_a, "tenant");
	sql("INSERT INTO t.lone VALUES ('%s', '%s', 'b''s')", text_of(&unit), text_of(&tenant_b));
	one = item(d, set_new(1, 0, "lone", ROW_INSERT, unit));
	merge(s, &tenant_a, &one, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_FOREIGN_TENANT));
	pg_store_close(s);
}

static void no_database_is_an_answer(void)
{
	struct pg_store_config config = {.conninfo = "host=/nonexistent dbname=x"};
	struct pg_store *s = pg_store_open(&config, &io);
	struct merge_item one = {.device = id_of(1), .number = 1};

	merge_start(s, &tenant_a, &one, 1);
	wait_for(&merged.done);
	CHECK(merged.error == FERRY_DATABASE);
	pg_store_close(s);
}

static void role_is_checked_at_start(void)
{
	struct ferry_why why = {{0}};
	struct pg_admin *a;

	CHECK(pg_check_role(admin, true, &why) == FERRY_CONFIG && strstr(why.text, "superuser"));
	CHECK(pg_admin_open(hub_conninfo, &a, &why) == FERRY_OK);
	CHECK(pg_check_role(a, true, &why) == FERRY_OK);
	CHECK(pg_check_role(a, false, &why) == FERRY_CONFIG && strstr(why.text, "fsync"));
	sql("ALTER TABLE t.unit OWNER TO ferry_hub");
	CHECK(pg_check_role(a, true, &why) == FERRY_CONFIG && strstr(why.text, "owns"));
	pg_admin_close(a);
}

static void applied_verdicts_are_forgotten(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item one = item(d, new_unit(1, id_of(1), "A1", "x"));
	int64_t end = clock_monotonic_us() + DEADLINE_US;

	merge(s, &tenant_a, &one, 1);
	pg_store_ops.applied(s, &tenant_a, &d, merged.results[0].settled.position);
	while (strcmp(ask("SELECT count(*) FROM ferry.settled"), "0") != 0) {
		CHECK(clock_monotonic_us() < end);
		poll_io_turn(&poll_state);
	}
	CHECK(strcmp(ask("SELECT bookmark FROM ferry.device"), "0") != 0);
	merge(s, &tenant_a, &one, 1);
	CHECK(merged.results[0].repeated && accepted(0));
	pg_store_close(s);
}

#define CASE(name) {#name, name}
static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	CASE(repeated_change_set_takes_effect_once),
	CASE(P5_what_a_copy_pushes_in_a_life_that_is_over_is_not_settled),
	CASE(R6_settled_numbers_above_a_gap_are_kept_as_a_set),
	CASE(R6_dependant_of_a_refused_one_is_refused),
	CASE(R6_dependant_waits_for_one_that_is_not_settled),
	CASE(R6_two_hubs_cannot_settle_the_same_number),
	CASE(R7_staged_parts_merge_as_one),
	CASE(R8_cells_changed_by_a_trigger_belong_to_the_hub),
	CASE(R10_lock_timeout_is_retried),
	CASE(R10_deadlock_is_retried),
	CASE(R10_locks_that_do_not_pass_hold_the_change_set_back),
	CASE(R11_deferred_violation_is_refused_alone),
	CASE(R12_rows_held_by_somebody_wait_alone),
	CASE(R15_fill_pages_cover_a_scope_in_key_order),
	CASE(R20_feed_gives_only_what_changed),
	CASE(R20_no_position_is_passed_before_it_is_visible),
	CASE(P2_killed_connection_loses_and_doubles_nothing),
	CASE(P7_tenants_are_kept_apart),
	CASE(P7_rows_outside_the_scopes_are_refused),
	CASE(one_bad_among_many_costs_the_others_nothing),
	CASE(many_rows_leave_the_planning_of_triggers_alone),
	CASE(many_rows_are_read_by_what_is_written),
	CASE(each_constraint_gives_its_code),
	CASE(own_edits_in_a_row_do_not_conflict),
	CASE(moved_rows_leave_one_scope_and_enter_the_other),
	CASE(global_rows_come_with_every_tenants_feed),
	CASE(every_type_makes_the_round_trip),
	CASE(oversized_rows_hold_up_nobody),
	CASE(device_and_its_bookmark_are_known),
	CASE(changed_schema_is_noticed),
	CASE(key_of_another_tenant_is_refused),
	CASE(applied_verdicts_are_forgotten),
	CASE(no_database_is_an_answer),
	CASE(role_is_checked_at_start),
};

int main(int argc, char **argv)
{
	struct ferry_why why = {{0}};

	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
			puts(cases[i].name);
		return 0;
	}
	if (argc != 4)
		return 2;
	hub_conninfo = argv[2];
	admin_conninfo = argv[3];
	poll_io_init(&poll_state, &io);
	if (pg_admin_open(admin_conninfo, &admin, &why) != FERRY_OK) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	tenant_a = id_of(0xa0000000u);
	tenant_b = id_of(0xb0000000u);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (strcmp(cases[i].name, argv[1]) == 0) {
			cases[i].run();
			pg_admin_close(admin);
			arena_deinit(&fed.arena);
			free(fed.rows);
			return 0;
		}
	}
	fprintf(stderr, "no case %s\n", argv[1]);
	return 2;
}
