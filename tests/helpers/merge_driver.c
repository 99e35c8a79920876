/* Merges change-sets with the hub's store on a real PostgreSQL, as tests/integration/test_missing_parent_property.py
 * tells it: merge-driver <conninfo as ferry_hub> <tenant>, a command a line of JSON on stdin, an answer a line:
 *
 *   {"do": "merge", "items": [{"device": id, "number": 1, "base": 5, "at": 7, "joined": false, "staged": false,
 *                              "depends": [], "rows": [{"op": "insert", "table": "room", "key": id,
 *                                                       "values": {"site_id": id, "v": 3}}]}]}
 *       {"results": [{"verdict": 1, "code": "OK", "sentence": "", "retry": false, "repeated": false}]}
 *       a staged one goes row by row as parts
 *   {"do": "parked"}             looks for parked ones whose time has come, and merges them: {"error": "OK"}
 *   {"do": "feed", "from": 5}    {"to": 6, "settled": [{"device": id, "number": 1, "verdict": 4, "code": ..., "sentence": ...}]}
 *
 * Values are numbers, null, and text, which is an id in columns of that kind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/pg_store.h"
#include "shared/json.h"
#include "tests/lib/poll_io.h"

#define ITEMS_MAX 16
#define ROWS_MAX 16
#define COLUMNS_MAX 8
#define DEPENDS_MAX 64
#define STAGING 7 /* one session stages them all */
#define DEADLINE_US 60000000

struct row {
	struct uuid key, ids[COLUMNS_MAX];
	uint16_t nums[COLUMNS_MAX];
	struct value cells[COLUMNS_MAX];
};

struct sent { /* one item */
	struct row rows[ROWS_MAX];
	struct block blocks[ROWS_MAX];
	int64_t depends[DEPENDS_MAX];
	struct change_set set;
};

static struct poll_io poll_state;
static struct pg_io io;
static struct pg_store *store;
static const struct hub_schema *schema;
static struct uuid tenant;
static bool done;
static enum ferry_error error;
static struct json *answer;

static _Noreturn void fail(const char *what, const char *more)
{
	fprintf(stderr, "%s %s\n", what, more);
	exit(1);
}

static void wait_done(void)
{
	int64_t end = clock_monotonic_us() + DEADLINE_US;

	while (!done) {
		if (clock_monotonic_us() > end)
			fail("no answer", "");
		poll_io_turn(&poll_state);
	}
	done = false;
}

static void on_schema(void *ctx, enum ferry_error e, const struct hub_schema *s)
{
	(void)ctx;
	schema = s;
	error = e;
	done = true;
}

static void on_end(void *ctx, enum ferry_error e)
{
	(void)ctx;
	error = e;
	done = true;
}

/* ---------------------------------------------------------------- change-sets */

static struct uuid id_of(const struct json *v)
{
	const char *text = json_text(v);
	struct uuid id;

	if (!text || !uuid_parse(text, strlen(text), &id))
		fail("no id:", text ? text : "");
	return id;
}

static const struct schema_table *table_named(const char *name)
{
	for (uint32_t i = 0; name && i < schema->schema.table_count; i++) {
		if (strcmp(schema->schema.tables[i].name, name) == 0)
			return &schema->schema.tables[i];
	}
	fail("no table:", name ? name : "");
}

static struct value value_of(const struct json *v, enum column_kind kind, struct uuid *id)
{
	const char *text = json_text(v);

	if (json_is_null(v))
		return value_null();
	if (kind == KIND_UUID) {
		*id = id_of(v);
		return value_bytes(id->b, sizeof(id->b));
	}
	return text ? value_text(text, strlen(text)) : value_int(json_int(v, 0));
}

static enum row_op op_of(const struct json *v)
{
	const char *text = json_text(v);

	if (!text)
		fail("no op", "");
	return strcmp(text, "insert") == 0 ? ROW_INSERT : strcmp(text, "delete") == 0 ? ROW_DELETE : ROW_UPDATE;
}

static void row_read(const struct json *j, struct row *r, struct block *b)
{
	const struct schema_table *t = table_named(json_text(json_get(j, "table")));
	const struct json *values = json_get(j, "values");

	r->key = id_of(json_get(j, "key"));
	*b = (struct block){.table = t->table, .op = op_of(json_get(j, "op")), .row_count = 1, .nums = r->nums, .keys = &r->key, .cells = r->cells};
	for (uint16_t c = 0; c < t->column_count; c++) {
		const struct json *v = json_get(values, t->columns[c].name);

		if (!v)
			continue;
		if (b->column_count == COLUMNS_MAX)
			fail("too many columns in", t->name);
		r->nums[b->column_count] = t->columns[c].num;
		r->cells[b->column_count] = value_of(v, t->columns[c].kind, &r->ids[b->column_count]);
		b->column_count++;
	}
}

static void set_read(const struct json *j, struct sent *s)
{
	const struct json *rows = json_get(j, "rows"), *depends = json_get(j, "depends");

	if (json_count(rows) == 0 || json_count(rows) > ROWS_MAX || json_count(depends) > DEPENDS_MAX)
		fail("too many rows, or none", "");
	for (size_t i = 0; i < json_count(depends); i++)
		s->depends[i] = json_int(json_at(depends, i), 0);
	for (size_t i = 0; i < json_count(rows); i++)
		row_read(json_at(rows, i), &s->rows[i], &s->blocks[i]);
	s->set = (struct change_set){.number = json_int(json_get(j, "number"), 0), .base_position = json_int(json_get(j, "base"), 0),
				     .at = json_int(json_get(j, "at"), 0), .joined = json_bool(json_get(j, "joined"), false),
				     .depends = s->depends, .depends_count = (uint32_t)json_count(depends),
				     .blocks = s->blocks, .block_count = (uint32_t)json_count(rows)};
}

static void stage(const struct uuid *device, const struct change_set *whole)
{
	for (uint32_t i = 0; i < whole->block_count; i++) {
		struct change_set part = *whole;

		part.blocks = &whole->blocks[i];
		part.block_count = 1;
		part.part = i;
		part.more = i + 1 < whole->block_count;
		pg_store_ops.stage(store, &tenant, device, STAGING, &part, on_end, NULL);
		wait_done();
		if (error != FERRY_OK)
			fail("not staged:", ferry_error_name((int)error));
	}
}

static struct merge_item item_read(const struct json *j, struct sent *s)
{
	bool staged = json_bool(json_get(j, "staged"), false);
	struct uuid device = id_of(json_get(j, "device"));

	set_read(j, s);
	if (staged)
		stage(&device, &s->set);
	return (struct merge_item){.device = device, .number = s->set.number, .set = staged ? NULL : &s->set, .staging = staged ? STAGING : 0};
}

static struct json *settled_json(const struct settled *s)
{
	struct json *j = json_new_object();

	json_put_int(j, "number", s->number);
	json_put_int(j, "verdict", s->verdict);
	json_put_text(j, "code", ferry_error_name(s->code));
	json_put_text(j, "sentence", s->sentence ? s->sentence : "");
	return j;
}

static void on_merge(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count)
{
	struct json *list = json_new_array();

	(void)ctx;
	for (uint32_t i = 0; e == FERRY_OK && i < count; i++) {
		struct json *j = settled_json(&results[i].settled);

		json_put_bool(j, "retry", results[i].retry);
		json_put_bool(j, "repeated", results[i].repeated);
		json_add(list, j);
	}
	json_put(answer, "results", list);
	error = e;
	done = true;
}

static void do_merge(const struct json *j)
{
	static struct sent sent[ITEMS_MAX];
	struct merge_item items[ITEMS_MAX];
	const struct json *list = json_get(j, "items");
	uint32_t count = (uint32_t)json_count(list);

	if (count > ITEMS_MAX)
		fail("too many items", "");
	for (uint32_t i = 0; i < count; i++)
		items[i] = item_read(json_at(list, i), &sent[i]);
	pg_store_ops.merge(store, &tenant, items, count, on_merge, NULL);
	wait_done();
}

/* ------------------------------------------------------------------- the rest */

static void on_feed(void *ctx, enum ferry_error e, const struct feed_result *f)
{
	struct json *list = json_new_array();

	(void)ctx;
	for (uint32_t i = 0; e == FERRY_OK && i < f->settled_count; i++) {
		struct json *j = settled_json(&f->settled[i].settled);
		char device[UUID_TEXT];

		uuid_format(&f->settled[i].device, device);
		json_put_text(j, "device", device);
		json_add(list, j);
	}
	if (e == FERRY_OK)
		json_put_int(answer, "to", f->to);
	json_put(answer, "settled", list);
	error = e;
	done = true;
}

static void obey(const struct json *j)
{
	const char *what = json_text(json_get(j, "do"));
	char *line;

	if (!what)
		fail("no command", "");
	answer = json_new_object();
	if (strcmp(what, "merge") == 0) {
		do_merge(j);
	} else if (strcmp(what, "feed") == 0) {
		pg_store_ops.feed(store, &tenant, json_int(json_get(j, "from"), 0), NULL, 0, NULL, on_feed, NULL);
		wait_done();
	} else if (strcmp(what, "parked") == 0) {
		pg_store_ops.parked(store, &tenant, on_end, NULL);
		wait_done();
	} else {
		fail("no such command:", what);
	}
	json_put_text(answer, "error", ferry_error_name((int)error));
	line = json_write_text(answer, true);
	puts(line);
	fflush(stdout);
	free(line);
	json_release(answer);
}

int main(int argc, char **argv)
{
	struct pg_store_config config = {.conninfo = argc > 1 ? argv[1] : ""};
	char *line = NULL;
	size_t capacity = 0;
	ssize_t n;

	if (argc != 3 || !uuid_parse(argv[2], strlen(argv[2]), &tenant))
		fail("usage: merge-driver <conninfo> <tenant>", "");
	poll_io_init(&poll_state, &io);
	store = pg_store_open(&config, &io);
	if (!store)
		fail("no store", "");
	pg_store_ops.schema(store, &tenant, on_schema, NULL);
	wait_done();
	if (error != FERRY_OK)
		fail("no schema:", ferry_error_name((int)error));
	while ((n = getline(&line, &capacity, stdin)) > 0) {
		struct ferry_why why;
		struct json *j;

		if (json_read_text(line, (size_t)n, &j, &why) != FERRY_OK)
			fail(why.text, "");
		obey(j);
		json_release(j);
	}
	free(line);
	pg_store_close(store);
	return 0;
}
