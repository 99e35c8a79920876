/* Change-sets take effect once and whole, and a bad one costs the others nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pg_store/pg_store_driver.h"

void repeated_change_set_takes_effect_once(void)
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
void P5_what_a_copy_pushes_in_a_life_that_is_over_is_not_settled(void)
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

void R6_settled_numbers_above_a_gap_are_kept_as_a_set(void)
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

/* One that is refused is tried in other groups and orders first, and each attempt says what it would settle. */
void R6_attempts_that_are_refused_settle_nothing(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	static const char *const codes[] = {"B0", "A9", "B2", "B3", "A9", "B5"};
	struct merge_item items[6];

	merge(s, &tenant_a, (struct merge_item[]){item(device_new(2, &tenant_a, "tenant"), new_unit(1, id_of(9), "A9", "x"))}, 1);
	for (unsigned i = 0; i < 6; i++) /* from 2 on: number 1 is not there yet */
		items[i] = item(d, new_unit(2 + (int)i, id_of(10 + i), codes[i], "x"));
	merge(s, &tenant_a, items, 6);
	for (uint32_t i = 0; i < 6; i++)
		CHECK(i == 1 || i == 4 ? verdict_is(i, VERDICT_REJECTED, FERRY_UNIQUE) : accepted(i));
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device WHERE id = '%s'", text_of(&d)), "0 {2,3,4,5,6,7}"));
	items[0] = item(d, new_unit(1, id_of(20), "C1", "x"));
	merge(s, &tenant_a, items, 1);
	CHECK(is(ask("SELECT settled || ' ' || settled_above::text FROM ferry.device WHERE id = '%s'", text_of(&d)), "7 {}"));
	pg_store_close(s);
}

void R6_dependant_of_a_refused_one_is_refused(void)
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

void R6_dependant_waits_for_one_that_is_not_settled(void)
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

void one_bad_among_many_costs_the_others_nothing(void)
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
void many_rows_leave_the_planning_of_triggers_alone(void)
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
void many_rows_are_read_by_what_is_written(void)
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

void each_constraint_gives_its_code(void)
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

void own_edits_in_a_row_do_not_conflict(void)
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

static void on_stage(void *ctx, enum ferry_error e)
{
	*(int *)ctx = (int)e;
}

static int stage(struct pg_store *s, const struct uuid *d, int64_t staging, const struct change_set *part)
{
	int64_t end = clock_monotonic_us() + DEADLINE_US;
	int code = -1;

	pg_store_ops.stage(s, &tenant_a, d, staging, part, on_stage, &code);
	while (code == -1) {
		CHECK(clock_monotonic_us() < end);
		poll_io_turn(&poll_state);
	}
	return code;
}

void R7_staged_parts_merge_as_one(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item whole = {.device = d, .number = 1, .staging = 7};
	struct small_set *part;

	for (unsigned i = 0; i < 5; i++) {
		char code[16];

		snprintf(code, sizeof(code), "P%u", i);
		part = new_unit(1, id_of(i + 1), code, "x");
		part->set.part = i;
		part->set.more = i < 4;
		CHECK(stage(s, &d, 7, &part->set) == FERRY_OK);
		CHECK(stage(s, &d, 7, &part->set) == FERRY_OK);
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
		CHECK(stage(s, &d, 7, &part->set) == FERRY_OK);
	}
	whole.number = 2;
	merge(s, &tenant_a, &whole, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_UNIQUE));
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "5"));
	CHECK(is(ask("SELECT count(*) FROM ferry.rejected r JOIN ferry.stage g USING (device_id, number, staging)"), "3"));
	CHECK(is(ask("SELECT settled FROM ferry.device"), "2"));
	/* Told again, its verdict is told again, and what is kept stays. */
	merge(s, &tenant_a, &whole, 1);
	CHECK(merged.results[0].repeated && verdict_is(0, VERDICT_REJECTED, FERRY_UNIQUE));
	CHECK(is(ask("SELECT count(*) FROM ferry.stage"), "3"));
	/* And once more, when the value is free: all of it, and nothing is kept any more. */
	ask("UPDATE t.unit SET code = 'free' WHERE code = 'P0'");
	whole.again = true;
	merge(s, &tenant_a, &whole, 1);
	CHECK(accepted(0));
	CHECK(is(ask("SELECT (SELECT count(*) FROM t.unit) || ' ' || (SELECT count(*) FROM ferry.stage) || ' ' || "
		     "(SELECT count(*) FROM ferry.rejected)"), "8 0 0"));
	pg_store_close(s);
}

/* A part of the change-set 1: `last` ends it. */
static int stage_unit(struct pg_store *s, const struct uuid *d, int64_t staging, uint32_t number, const char *code, bool last)
{
	struct small_set *part = new_unit(1, id_of(number + 1), code, "x");

	part->set.part = number;
	part->set.more = !last;
	return stage(s, d, staging, &part->set);
}

/* Its portions are read again to name whom it met; the ones behind were looked at by nobody yet. */
void staged_one_that_meets_a_value_names_the_row_whatever_is_behind(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item whole = {.device = d, .staging = 7};
	char *much = calloc(1, 700001); /* two such parts are two portions */
	const char *other;

	CHECK(much);
	memset(much, 'x', 700000);
	ask("INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', '%s', 'taken')", text_of(&tenant_a), text_of(&(struct uuid){{1}}));
	other = text_of(&(struct uuid){{1}});
	ask("ALTER TABLE t.unit ADD CHECK (code IN ('taken', 'B'))"); /* no placeholder: the deletions of all portions first, then the rest */
	for (unsigned i = 0; i < 4; i++) {
		struct small_set *first = new_unit(i + 1, id_of(2 * i + 11), "taken", much), *second = new_unit(i + 1, id_of(2 * i + 12), "B", much);

		first->set.more = true;
		second->set.part = 1;
		if (i == 0)
			second->block.table = 4000;
		else if (i == 1)
			second->nums[second->block.column_count - 1] = 4000;
		else if (i == 2)
			second->cells[0] = value_int(7);
		else
			second->cells[0] = value_text("a\0b", 3);
		CHECK(stage(s, &d, 7, &first->set) == FERRY_OK && stage(s, &d, 7, &second->set) == FERRY_OK);
		whole.number = i + 1;
		merge(s, &tenant_a, &whole, 1);
		CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_UNIQUE));
		CHECK(strstr(merged.sentences[0], other));
	}
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "1"));
	free(much);
	pg_store_close(s);
}

void R6_R7_staged_one_that_builds_on_a_refused_one_is_refused(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct small_set *bad = new_unit(1, id_of(1), "A1", "x");
	struct merge_item first = item(d, bad), whole = {.device = d, .number = 2, .staging = 7};

	set_cell(bad, "unit", "price", value_int(-1));
	merge(s, &tenant_a, &first, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_CONSTRAINT));
	for (uint32_t n = 0; n < 2; n++) {
		struct small_set *part = new_unit(2, id_of(n + 2), n ? "B1" : "B0", "x");

		part->depends = 1;
		part->set.depends = &part->depends;
		part->set.depends_count = 1;
		part->set.part = n;
		part->set.more = n == 0;
		CHECK(stage(s, &d, 7, &part->set) == FERRY_OK);
	}
	merge(s, &tenant_a, &whole, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_DEPENDS));
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "0"));
	pg_store_close(s);
}

void P3_R7_parts_of_two_copies_of_a_device_are_never_joined(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item whole = {.device = d, .number = 1, .staging = 7};

	/* One copy has begun, another one offers other content under the same number. */
	CHECK(stage_unit(s, &d, 7, 0, "A0", false) == FERRY_OK);
	CHECK(stage_unit(s, &d, 8, 0, "B0", false) == FERRY_OK);
	CHECK(stage_unit(s, &d, 7, 1, "A1", false) == FERRY_OK); /* of a session that is over, on its way still */
	CHECK(stage_unit(s, &d, 8, 1, "B1", true) == FERRY_OK);
	CHECK(stage_unit(s, &d, 7, 2, "A2", true) == FERRY_OK);
	merge(s, &tenant_a, &whole, 1); /* its first part has gone */
	CHECK(merged.results[0].retry);
	CHECK(is(ask("SELECT count(*) FROM t.unit"), "0"));
	whole.staging = 8;
	merge(s, &tenant_a, &whole, 1);
	CHECK(accepted(0));
	CHECK(is(ask("SELECT string_agg(code, ',' ORDER BY code) FROM t.unit"), "B0,B1"));
	CHECK(is(ask("SELECT count(*) FROM ferry.stage"), "0"));
	pg_store_close(s);
}

void P6_what_the_hub_has_no_room_for_is_refused_and_others_flow_on(void)
{
	struct pg_store *s = (stage_bytes_max = INT64_C(32) << 20, store_open());
	struct uuid d = device_new(1, &tenant_a, "tenant");
	struct merge_item items[2] = {{.device = d, .number = 1, .staging = 7}, item(d, new_unit(2, id_of(99), "C", "x"))};

	ask("INSERT INTO ferry.stage (tenant_id, device_id, number, staging, part, body, at) SELECT tenant_id, id, 50, 3, n, "
	    "decode(repeat('00', 1 << 20), 'hex'), now() FROM ferry.device, generate_series(1, 33) n");
	ask("INSERT INTO ferry.rejected (tenant_id, device_id, number, code, sentence, body, staging) "
	    "SELECT tenant_id, id, 50, 305, 'kept', '', 3 FROM ferry.device");
	for (uint32_t part = 0; part < 20; part++) {
		char code[16];

		snprintf(code, sizeof(code), "A%u", part);
		CHECK(stage_unit(s, &d, 7, part, code, part == 19) == FERRY_OK);
	}
	CHECK(is(ask("SELECT sum(length(body)) FROM ferry.stage WHERE number = 1"), "0"));
	merge(s, &tenant_a, items, 2);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_KEPT_FULL));
	CHECK(accepted(1));
	CHECK(is(ask("SELECT count(*) FROM ferry.stage WHERE number = 1"), "0"));
	CHECK(is(ask("SELECT code FROM t.unit"), "C"));
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

void R6_two_hubs_cannot_settle_the_same_number(void)
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

void key_of_another_tenant_is_refused(void)
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
	one = (struct merge_item){.device = d, .number = 2, .staging = 7}; /* the same in parts */
	for (uint32_t n = 0; n < 2; n++) {
		struct small_set *part = set_new(2, 0, "lone", ROW_INSERT, n ? unit : id_of(2));

		part->set.part = n;
		part->set.more = n == 0;
		CHECK(stage(s, &d, 7, &part->set) == FERRY_OK);
	}
	merge(s, &tenant_a, &one, 1);
	CHECK(verdict_is(0, VERDICT_REJECTED, FERRY_FOREIGN_TENANT));
	pg_store_close(s);
}

void applied_verdicts_are_forgotten(void)
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
