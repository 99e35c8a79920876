/* Who gets which rows, and who may write them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pg_store/pg_store_driver.h"

void P7_tenants_are_kept_apart(void)
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

void P7_rows_outside_the_scopes_are_refused(void)
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

void moved_rows_leave_one_scope_and_enter_the_other(void)
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
