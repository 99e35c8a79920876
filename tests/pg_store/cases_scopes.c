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

/* Where it is, is known when it is written: until then nobody else may touch it. */
void P7_rows_that_another_device_makes_in_the_same_batch_are_judged_by_the_scope_they_come_to(void)
{
	struct pg_store *s = store_open();
	struct uuid p1 = id_of(101), p2 = id_of(102), room = id_of(1), gone = id_of(2), mine = id_of(3);
	struct uuid insider, outsider;
	struct small_set *made, *edit;
	struct merge_item items[6];
	char scopes[200];

	snprintf(scopes, sizeof(scopes), "project:%s", text_of(&p1));
	insider = device_new(1, &tenant_a, scopes);
	snprintf(scopes, sizeof(scopes), "project:%s", text_of(&p2));
	outsider = device_new(2, &tenant_a, scopes);
	for (uint32_t n = 1; n <= 3; n++) {
		struct uuid key = id_of(n);

		made = set_new(n, 0, "room", ROW_INSERT, key);
		set_cell(made, "room", "project_id", value_bytes(n == 3 ? p2.b : p1.b, 16));
		set_cell(made, "room", "name", text("mine"));
		items[n - 1] = item(n == 3 ? outsider : insider, made);
	}
	edit = set_new(4, 1000, "room", ROW_UPDATE, room);
	set_cell(edit, "room", "name", text("whose?"));
	items[3] = item(outsider, edit);
	items[4] = item(outsider, set_new(5, 1000, "room", ROW_DELETE, gone));
	edit = set_new(6, 1000, "room", ROW_UPDATE, mine);
	set_cell(edit, "room", "name", text("still mine"));
	items[5] = item(outsider, edit);
	merge(s, &tenant_a, items, 6);
	CHECK(accepted(0) && accepted(1) && accepted(2) && accepted(5));
	CHECK(merged.results[3].retry && merged.results[4].retry);
	CHECK(is(ask("SELECT string_agg(name, ',' ORDER BY id) FROM t.room"), "mine,mine,still mine"));
	merge(s, &tenant_a, items + 3, 2);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE) && verdict_is(1, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE));
	CHECK(is(ask("SELECT count(*) FROM t.room"), "3"));
	pg_store_close(s);
}

void P7_rows_that_another_device_moves_in_the_same_batch_are_judged_by_the_scope_they_come_to(void)
{
	struct pg_store *s = store_open();
	struct uuid p1 = id_of(101), p2 = id_of(102), insider, outsider;
	struct merge_item items[6];
	char scopes[200];

	snprintf(scopes, sizeof(scopes), "project:%s", text_of(&p1));
	outsider = device_new(2, &tenant_a, scopes);
	snprintf(scopes, sizeof(scopes), "project:%s,project:%s", text_of(&p1), text_of(&p2));
	insider = device_new(1, &tenant_a, scopes);
	for (uint32_t n = 0; n < 3; n++) {
		struct small_set *made = set_new(n + 1, 0, "room", ROW_INSERT, id_of(n + 1));

		set_cell(made, "room", "project_id", value_bytes(p1.b, 16));
		items[n] = item(insider, made);
	}
	merge(s, &tenant_a, items, 3);
	CHECK(accepted(0) && accepted(1) && accepted(2));
	for (uint32_t n = 0; n < 3; n++) {
		struct small_set *moved = set_new(n + 4, 1000, "room", ROW_UPDATE, id_of(n + 1));
		struct small_set *touch = set_new(n + 1, 2000, "room", n == 1 ? ROW_DELETE : ROW_UPDATE, id_of(n + 1));

		set_cell(moved, "room", "name", text("secret"));
		if (n < 2) /* the third stays */
			set_cell(moved, "room", "project_id", value_bytes(p2.b, 16));
		if (n != 1)
			set_cell(touch, "room", "name", text("whose?"));
		items[n] = item(insider, moved);
		items[n + 3] = item(outsider, touch);
	}
	merge(s, &tenant_a, items, 6);
	CHECK(accepted(0) && accepted(1) && accepted(2));
	CHECK(merged.results[3].retry && merged.results[4].retry && !merged.results[5].retry);
	merge(s, &tenant_a, items + 3, 2);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE) && verdict_is(1, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE));
	CHECK(merged.results[0].settled.conflict_count == 0 && merged.results[1].settled.conflict_count == 0);
	CHECK(is(ask("SELECT string_agg(name, ',' ORDER BY id) FROM t.room"), "secret,secret,whose?"));
	pg_store_close(s);
}

/* What a lost history is brought back with stands together (R18): there an edit does not wait. */
void P7_edits_of_rows_that_another_device_s_replay_makes_in_the_same_batch_are_judged_once_written(void)
{
	struct pg_store *s = store_open();
	struct uuid p1 = id_of(101), p2 = id_of(102);
	struct uuid maker, colleague, outsider;
	struct merge_item items[4];
	char scopes[200];

	snprintf(scopes, sizeof(scopes), "project:%s", text_of(&p1));
	maker = device_new(1, &tenant_a, scopes);
	colleague = device_new(2, &tenant_a, scopes);
	snprintf(scopes, sizeof(scopes), "project:%s", text_of(&p2));
	outsider = device_new(3, &tenant_a, scopes);
	for (uint32_t i = 0; i < 2; i++) {
		struct small_set *made = set_new(i + 1, 0, "room", ROW_INSERT, id_of(i + 1));
		struct small_set *edit = set_new(1, 2000, "room", ROW_UPDATE, id_of(i + 1));

		made->set.old_position = 2000;
		made->set.old_verdict = edit->set.old_verdict = VERDICT_ACCEPTED;
		made->set.lost_from = edit->set.lost_from = 5;
		edit->set.old_position = 3000;
		set_cell(made, "room", "project_id", value_bytes(p1.b, 16));
		set_cell(edit, "room", "name", text("edited"));
		items[i] = item(maker, made);
		items[i + 2] = item(i == 0 ? colleague : outsider, edit);
	}
	for (uint32_t i = 0; i < 4; i++)
		items[i].park = true;
	merge(s, &tenant_a, items, 4);
	CHECK(accepted(0) && accepted(1) && !merged.results[2].retry && merged.results[2].settled.verdict != VERDICT_REJECTED);
	CHECK(verdict_is(3, VERDICT_REJECTED, FERRY_OUT_OF_SCOPE));
	CHECK(is(ask("SELECT string_agg(coalesce(name, 'as made'), ',' ORDER BY id) FROM t.room"), "edited,as made"));
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
