/* What feeds and fills bring, value by value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pg_store/pg_store_driver.h"

void R8_cells_changed_by_a_trigger_belong_to_the_hub(void)
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

void R20_feed_gives_only_what_changed(void)
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

void global_rows_come_with_every_tenants_feed(void)
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
void R20_no_position_is_passed_before_it_is_visible(void)
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

void every_type_makes_the_round_trip(void)
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

void R15_fill_pages_cover_a_scope_in_key_order(void)
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

void oversized_rows_hold_up_nobody(void)
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
