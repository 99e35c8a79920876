/* The policies of columns: the truth tables of docs/merge.md, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/merge.h"
#include "hub/merge_policy.h"
#include "shared/policy.h"

#define STOCK 7u
#define NOW INT64_C(1000000)

static struct value text(const char *t)
{
	return t == NULL ? value_null() : value_text(t, strlen(t));
}

static struct uuid id(uint8_t n)
{
	return (struct uuid){.b = {[0] = n, [15] = n}};
}

static void assert_value(const struct value *got, const struct value *want)
{
	if (!value_equal(got, want) && got->kind == VALUE_TEXT && want->kind == VALUE_TEXT)
		print_error("got %.*s, not %.*s\n", (int)got->n, (const char *)got->p, (int)want->n, (const char *)want->p);
	assert_true(value_equal(got, want));
}

/* ---- One cell ---- */

struct cell_case {
	enum column_policy policy;
	enum column_kind kind;
	struct value old, mine, theirs;
	bool no_old, seen, later;
	const char *options;
};

static struct arena arena;
static struct ferry_why why;

static enum ferry_error meet(const struct cell_case *c, struct cell_result *out)
{
	static struct schema_column column;
	static struct version version;
	struct cell_edit e = {.table = "stock", .column = &column, .mine = &c->mine, .theirs = &c->theirs,
			      .old = c->no_old ? NULL : &c->old, .version = &version, .seen = c->seen, .later = c->later,
			      .arena = &arena};

	column = (struct schema_column){.num = 2, .name = "c", .kind = c->kind, .policy = c->policy,
					.policy_options = c->options};
	version = (struct version){.position = 9, .at = INT64_C(1767225600000000), .author = id(3), .number = 4};
	return merge_policy(&e, out, &why);
}

#define MEET(out, ...) assert_int_equal(meet(&(struct cell_case){__VA_ARGS__}, (out)), FERRY_OK)

static int set_up(void **state)
{
	(void)state;
	arena_init(&arena, 1 << 24);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	arena_deinit(&arena);
	return 0;
}

static void max_concurrent_greater_stands_whoever_is_later(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_MAX, .kind = KIND_INT, .mine = value_int(5), .theirs = value_int(3), .later = false);
	assert_true(r.writes && r.conflict && r.device_won && !r.by_hub && r.value.i == 5);
	MEET(&r, .policy = POLICY_MAX, .kind = KIND_INT, .mine = value_int(3), .theirs = value_int(5), .later = true);
	assert_true(!r.writes && r.conflict && !r.device_won);
	MEET(&r, .policy = POLICY_MIN, .kind = KIND_INT, .mine = value_int(3), .theirs = value_int(5), .later = false);
	assert_true(r.writes && r.device_won);
	MEET(&r, .policy = POLICY_MIN, .kind = KIND_INT, .mine = value_int(5), .theirs = value_int(3), .later = true);
	assert_true(!r.writes && r.conflict);
}

static void max_seen_edit_stands_also_when_it_is_less(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_MAX, .kind = KIND_INT, .mine = value_int(3), .theirs = value_int(5), .seen = true);
	assert_true(r.writes && !r.conflict && r.value.i == 3);
	MEET(&r, .policy = POLICY_MAX, .kind = KIND_INT, .mine = value_int(5), .theirs = value_int(5));
	assert_true(!r.writes && !r.conflict);
}

static void max_null_gives_way_to_a_value(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_MIN, .kind = KIND_INT, .mine = value_int(3), .theirs = value_null());
	assert_true(r.writes && r.device_won);
	MEET(&r, .policy = POLICY_MAX, .kind = KIND_INT, .mine = value_null(), .theirs = value_int(-3), .later = true);
	assert_true(!r.writes && r.conflict);
}

static void order_is_postgresqls(void **state)
{
	static const char *const numerics[] = {"-Infinity", "-100", "-99.5", "-0.001", "0", "0.0010001", "9", "10.00",
					       "123456789012345678901234567890", "Infinity", "NaN"};
	const struct value minus = {.kind = VALUE_FLOAT, .f = -__builtin_inf()}, plus = {.kind = VALUE_FLOAT, .f = __builtin_inf()};
	const struct value nan = {.kind = VALUE_FLOAT, .f = __builtin_nan("")}, day = value_int(INT64_MIN), bad = text("1e5");
	int order;

	(void)state;
	for (int i = 0; i < 11; i++) {
		for (int k = 0; k < 11; k++) {
			struct value x = text(numerics[i]), y = text(numerics[k]);

			assert_true(policy_compare(&arena, KIND_NUMERIC, &x, &y, &order));
			assert_int_equal(order, i < k ? -1 : i > k);
		}
	}
	assert_true(policy_compare(&arena, KIND_TIMESTAMPTZ, &minus, &day, &order) && order == -1);
	assert_true(policy_compare(&arena, KIND_DATE, &plus, &day, &order) && order == 1);
	assert_true(policy_compare(&arena, KIND_FLOAT, &nan, &plus, &order) && order == 1);
	assert_false(policy_compare(&arena, KIND_NUMERIC, &bad, &bad, &order));
	assert_false(policy_compare(&arena, KIND_TEXT, &bad, &bad, &order));
}

static void R2_counter_applies_the_difference(void **state)
{
	static const struct {
		const char *old, *mine, *theirs, *want;
	} cases[] = {
		{"0.10", "0.30", "10.00", "10.20"}, {"5", "3", "1", "-1"}, {"5", "3", "2", "0"},
		{"99999999999999999999.99", "100000000000000000000.00", "0.00", "0.01"},
		{"-1.5", "1.5", "-3.00", "0.00"}, {"0", "0.1", "0", "0.1"}, {NULL, "7", NULL, "7"}, {NULL, "7", "1", "8"},
		{"1", "2", "99", "100"}, {"100", "1", "99", "0"}, {"100", "0", "99", "-1"}, {"2", "1", "-99.00", "-100.00"},
	};
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_INT, .old = value_int(5), .mine = value_int(8), .theirs = value_int(20));
	assert_true(r.writes && r.by_hub && !r.conflict && r.value.i == 23);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct value want = text(cases[i].want);

		MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_NUMERIC, .old = text(cases[i].old), .mine = text(cases[i].mine),
		     .theirs = text(cases[i].theirs));
		assert_false(r.conflict);
		assert_value(&r.value, &want);
	}
}

static void R2_counter_that_met_what_it_saw_is_the_devices_own(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_INT, .old = value_int(5), .mine = value_int(8), .theirs = value_int(5));
	assert_true(r.writes && !r.by_hub && r.value.i == 8);
	/* Equal to the hub's by chance: it adds all the same. */
	MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_INT, .old = value_int(5), .mine = value_int(8), .theirs = value_int(8));
	assert_true(r.writes && r.by_hub && r.value.i == 11);
}

static void counter_without_a_difference_merges_as_lww(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_INT, .no_old = true, .mine = value_int(8), .theirs = value_int(5), .later = true);
	assert_true(r.writes && r.conflict && !r.by_hub && r.value.i == 8);
	MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_INT, .old = value_int(1), .mine = value_null(), .theirs = value_int(5));
	assert_true(!r.writes && r.conflict);
	MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_NUMERIC, .old = text("1"), .mine = text("NaN"), .theirs = text("2"), .later = true);
	assert_true(r.writes && r.conflict);
}

static void counter_beyond_64_bits_is_refused_never_wrapped(void **state)
{
	struct cell_result r;

	(void)state;
	assert_int_equal(meet(&(struct cell_case){.policy = POLICY_COUNTER, .kind = KIND_INT, .old = value_int(0),
						  .mine = value_int(1), .theirs = value_int(INT64_MAX)}, &r), FERRY_COUNTER);
	assert_non_null(strstr(why.text, "stock.c"));
	assert_int_equal(meet(&(struct cell_case){.policy = POLICY_COUNTER, .kind = KIND_INT, .old = value_int(INT64_MAX),
						  .mine = value_int(INT64_MIN), .theirs = value_int(0)}, &r), FERRY_COUNTER);
	/* The difference alone does not fit, but the sum does. */
	MEET(&r, .policy = POLICY_COUNTER, .kind = KIND_INT, .old = value_int(INT64_MIN), .mine = value_int(5),
	     .theirs = value_int(INT64_MIN));
	assert_true(r.value.i == 5);
}

/* What a text-like policy makes of old -> mine over theirs; the conflict is
 * won by the device if `later`. */
static void assert_merges(enum column_policy policy, enum column_kind kind, const char *old, const char *mine, const char *theirs,
			  bool later, const char *want, bool conflict)
{
	struct cell_result r;
	struct value wanted = text(want);

	MEET(&r, .policy = policy, .kind = kind, .old = text(old), .mine = text(mine), .theirs = text(theirs), .later = later);
	assert_int_equal(r.conflict, conflict);
	if (conflict)
		assert_int_equal(r.device_won, later);
	if (r.writes) {
		assert_value(&r.value, &wanted);
		assert_int_equal(r.by_hub, !value_equal(&r.value, &(struct value){.kind = VALUE_TEXT, .n = (uint32_t)strlen(mine),
											 .p = (const uint8_t *)mine}));
	} else {
		assert_string_equal(want, theirs);
	}
}

#define SET(...) assert_merges(POLICY_SET, KIND_ARRAY, __VA_ARGS__)
#define JSON(...) assert_merges(POLICY_JSON, KIND_JSON, __VA_ARGS__)
#define TEXT(...) assert_merges(POLICY_TEXT, KIND_TEXT, __VA_ARGS__)

static void R2_set_elements_come_and_go_one_by_one(void **state)
{
	(void)state;
	SET("[\"a\"]", "[\"a\",\"b\"]", "[\"a\",\"c\"]", false, "[\"a\",\"c\",\"b\"]", false);
	SET("[\"a\",\"b\"]", "[\"b\"]", "[\"b\",\"a\",\"c\"]", false, "[\"b\",\"c\"]", false);
	SET("[1,2]", "[2,3]", "[1,2]", false, "[2,3]", false);
	SET("[1]", "[1,2]", "[2,1]", true, "[2,1]", false);           /* added by both */
	SET("[1,2]", "[2]", "[2,3]", true, "[2,3]", false);           /* removed by both */
	SET(NULL, "[1]", NULL, false, "[1]", false);
	SET(NULL, "[1]", "[2]", false, "[2,1]", false);
	SET("[]", "[\"\\u00e9\"]", "[\"\xc3\xa9\"]", false, "[\"\xc3\xa9\"]", false); /* one text, two ways to write it */
	SET("[1.0]", "[]", "[1.0,1.00]", false, "[1.00]", false);     /* as they are printed */
	SET("[null]", "[null,[1, 2]]", "[null,\"x\"]", false, "[null,\"x\",[1,2]]", false);
}

static void set_that_is_none_merges_as_lww(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_SET, .kind = KIND_ARRAY, .old = text("[1]"), .mine = text("[1,"), .theirs = text("[2]"));
	assert_true(!r.writes && r.conflict);
	MEET(&r, .policy = POLICY_SET, .kind = KIND_ARRAY, .old = text("[1]"), .mine = value_null(), .theirs = text("[2]"), .later = true);
	assert_true(r.writes && r.conflict && r.value.kind == VALUE_NULL);
}

static void R2_json_merges_key_by_key_at_every_depth(void **state)
{
	(void)state;
	JSON("{\"a\":1}", "{\"a\":1,\"b\":2}", "{\"a\": 5}", false, "{\"a\": 5, \"b\": 2}", false);
	JSON("{\"a\":1,\"b\":2}", "{\"b\":2}", "{\"a\": 1, \"b\": 3}", false, "{\"b\": 3}", false);
	JSON("{\"a\":{\"x\":1,\"y\":1}}", "{\"a\":{\"x\":2,\"y\":1}}", "{\"a\": {\"x\": 1, \"y\": 2}}", false,
	     "{\"a\": {\"x\": 2, \"y\": 2}}", false);
	JSON("{}", "{\"n\":12345678901234567890.10}", "{\"m\": true}", false,
	     "{\"m\": true, \"n\": 12345678901234567890.10}", false);
	JSON(NULL, "{\"a\":1}", "{\"b\": 2}", false, "{\"a\": 1, \"b\": 2}", false);
	JSON("{\"a\":{}}", "{\"a\":{\"x\":1}}", "{\"a\": {\"y\": 2}}", false, "{\"a\": {\"x\": 1, \"y\": 2}}", false);
}

static void json_one_key_changed_by_both_goes_to_the_later_and_is_kept(void **state)
{
	(void)state;
	JSON("{\"a\":1,\"b\":1}", "{\"a\":2,\"b\":2}", "{\"a\": 3, \"b\": 1}", true, "{\"a\":2,\"b\":2}", true);
	JSON("{\"a\":1,\"b\":1}", "{\"a\":2,\"b\":2}", "{\"a\": 3, \"b\": 1}", false, "{\"a\": 3, \"b\": 2}", true);
	JSON("{\"a\":[1]}", "{\"a\":[1,2]}", "{\"a\": [1, 3]}", false, "{\"a\": [1, 3]}", true); /* an array is one value */
	JSON("{\"a\":1}", "{}", "{\"a\": 2}", true, "{}", true);
	JSON("{\"a\":1}", "{\"a\":2}", "{\"a\": 2}", false, "{\"a\": 2}", false);
}

static void json_that_is_damaged_or_too_deep_merges_as_lww(void **state)
{
	static const char *const bad[] = {"{", "{\"a\":}", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{\"a\":01}", "{\"a\":\"\\ud800\"}",
					  "{\"a\":tru}", "[1] 2", "\"\\q\"", "{a:1}", "", "\"", "\"\\"};
	char deep[400];
	struct cell_result r;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		MEET(&r, .policy = POLICY_JSON, .kind = KIND_JSON, .old = text("{}"), .mine = text(bad[i]), .theirs = text("{\"b\": 1}"));
		assert_true(!r.writes && r.conflict);
	}
	memset(deep, '[', sizeof(deep));
	memset(deep + sizeof(deep) / 2, ']', sizeof(deep) / 2);
	deep[sizeof(deep) - 1] = 0;
	MEET(&r, .policy = POLICY_JSON, .kind = KIND_JSON, .old = text("{}"), .mine = text(deep), .theirs = text("{\"b\": 1}"));
	assert_true(!r.writes && r.conflict);
}

static void R2_text_merges_by_lines_and_then_by_words(void **state)
{
	(void)state;
	TEXT("a\nb\nc", "a1\nb\nc", "a\nb\nc1", false, "a1\nb\nc1", false);
	TEXT("the key is at the desk", "the red key is at the desk", "the key is at the porter", false,
	     "the red key is at the porter", false);
	TEXT("a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n", false, "a\nc\nd\n", false);
	TEXT("call", "call\nAnna", "call\nBen", false, "call\nBen\nAnna", false); /* lines that both added */
	TEXT(NULL, "x", "y", false, "y\nx", false);
	TEXT("", "x\n", "y", false, "y\nx\n", false);
	TEXT("a\n", "a\nx", "a\ny", false, "a\ny\nx", false);
	TEXT("a\n\nb", "a\nx\nb", "a\ny\nb", false, "a\ny\nx\nb", false); /* an empty line that both filled */
	TEXT("a", "", "a b", false, "a b", true); /* to empty it is to change all of it */
}

static void text_one_word_changed_by_both_goes_to_the_later_and_is_kept(void **state)
{
	(void)state;
	TEXT("key at desk\nend", "key at porter\nend!", "key at gate\nend", true, "key at porter\nend!", true);
	TEXT("key at desk\nend", "key at porter\nend!", "key at gate\nend", false, "key at gate\nend!", true);
	TEXT("x y", "x1 y", "x1 y2", true, "x1 y2", false);
}

static void text_too_long_to_compare_merges_as_lww(void **state)
{
	static char old[8001], mine[8001], theirs[8001];
	struct cell_result r;

	(void)state;
	for (int i = 0; i < 8000; i += 2) {
		memcpy(old + i, "a\n", 2);
		memcpy(mine + i, i % 4 ? "a\n" : "b\n", 2);
		memcpy(theirs + i, i % 6 ? "a\n" : "c\n", 2);
	}
	MEET(&r, .policy = POLICY_TEXT, .kind = KIND_TEXT, .old = text(old), .mine = text(mine), .theirs = text(theirs), .later = true);
	assert_true(r.writes && r.conflict && !r.by_hub);
}

static void review_concurrent_hubs_value_stands_however_early(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, .policy = POLICY_REVIEW, .kind = KIND_TEXT, .old = text("a"), .mine = text("b"), .theirs = text("c"), .later = true);
	assert_true(!r.writes && r.conflict && !r.device_won);
	MEET(&r, .policy = POLICY_REVIEW, .kind = KIND_TEXT, .mine = text("b"), .theirs = text("c"), .seen = true);
	assert_true(r.writes && !r.conflict);
	MEET(&r, .policy = POLICY_REVIEW, .kind = KIND_TEXT, .mine = text("c"), .theirs = text("c"));
	assert_true(!r.writes && !r.conflict);
}

#define MAP "{\"free\": [\"reserved\"], \"reserved\": [\"free\", \"sold\"], \"\": [\"free\"], \"q\\\"q\": [\"free\"]}"
#define GUARD .policy = POLICY_GUARD, .kind = KIND_TEXT, .options = MAP

static void guard_lets_pass_what_its_map_allows(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, GUARD, .old = text("free"), .mine = text("reserved"), .theirs = text("free"));
	assert_true(r.writes && !r.by_hub && !r.conflict);
	MEET(&r, GUARD, .old = value_null(), .mine = text("free"), .theirs = value_null());
	assert_true(r.writes);
	MEET(&r, GUARD, .old = text("q\"q"), .mine = text("free"), .theirs = text("q\"q"));
	assert_true(r.writes);
	MEET(&r, GUARD, .no_old = true, .seen = true, .mine = text("reserved"), .theirs = text("free"));
	assert_true(r.writes);
	assert_int_equal(meet(&(struct cell_case){GUARD, .old = text("free"), .mine = text("sold"), .theirs = text("free")}, &r), FERRY_GUARD);
	assert_string_equal(why.text, "stock.c cannot go from free to sold");
	assert_int_equal(meet(&(struct cell_case){GUARD, .old = text("sold"), .mine = text("free"), .theirs = text("sold")}, &r), FERRY_GUARD);
}

static void guard_the_second_of_two_is_told_who_has_it_and_since_when(void **state)
{
	struct cell_result r;

	(void)state;
	assert_int_equal(meet(&(struct cell_case){GUARD, .old = text("free"), .mine = text("reserved"), .theirs = text("reserved"),
						  .later = true}, &r), FERRY_GUARD);
	assert_non_null(strstr(why.text, "reserved since 2026-01-01T00:00:00"));
	assert_non_null(strstr(why.text, "03000000-0000-0000-0000-000000000003"));
	/* Allowed by the map, but not what its author saw. */
	assert_int_equal(meet(&(struct cell_case){GUARD, .old = text("free"), .mine = text("sold"), .theirs = text("reserved")}, &r), FERRY_GUARD);
	assert_int_equal(meet(&(struct cell_case){GUARD, .no_old = true, .mine = text("reserved"), .theirs = text("reserved")}, &r), FERRY_GUARD);
}

static void guard_there_and_back_again_still_applies(void **state)
{
	struct cell_result r;

	(void)state;
	MEET(&r, GUARD, .old = text("free"), .mine = text("reserved"), .theirs = text("free"), .seen = false);
	assert_true(r.writes && !r.conflict);
}

static void sequence_a_number_that_stands_is_not_changed(void **state)
{
	struct cell_result r;

	(void)state;
	for (int i = 0; i < 4; i++) {
		const struct cell_case other = {.policy = POLICY_SEQUENCE, .kind = KIND_TEXT, .old = text("L-1"), .mine = text("L-2"),
						.theirs = text("L-1"), .seen = i & 1, .later = i & 2};

		MEET(&r, .policy = POLICY_SEQUENCE, .kind = KIND_TEXT, .mine = text("L-1"), .theirs = text("L-1"), .seen = i & 1, .later = i & 2);
		assert_true(!r.writes && !r.conflict);
		assert_int_equal(meet(&other, &r), FERRY_NUMBER);
		assert_string_equal(why.text, "stock.c is given once, when the row is made, and stays");
	}
}

static void approval_another_value_waits_seen_or_not(void **state)
{
	struct cell_result r;

	(void)state;
	for (int i = 0; i < 4; i++) {
		MEET(&r, .policy = POLICY_APPROVAL, .kind = KIND_INT, .mine = value_int(5), .theirs = value_int(3), .seen = i & 1, .later = i & 2);
		assert_true(r.asks && !r.writes && !r.conflict);
		MEET(&r, .policy = POLICY_APPROVAL, .kind = KIND_INT, .mine = value_int(3), .theirs = value_int(3), .seen = i & 1, .later = i & 2);
		assert_true(!r.asks && !r.writes && !r.conflict);
	}
}

/* ---- In a merge ---- */

static const struct schema_column stock_columns[] = {
	{.num = 2, .name = "count", .kind = KIND_INT, .policy = POLICY_COUNTER},
	{.num = 3, .name = "note", .kind = KIND_TEXT},
};
static const struct schema_table stock = {.table = STOCK, .name = "stock", .writable = true, .columns = stock_columns, .column_count = 2};
static const struct schema schema = {.hash = 1, .tables = &stock, .table_count = 1};

struct edit {
	struct uuid key;
	uint16_t num;
	struct value old, mine;
	struct block block;
	struct change_set set;
};

static struct merge_outcome push(struct merge *m, struct edit *e, uint8_t device, int64_t number, int64_t base, int64_t old,
				 int64_t mine)
{
	struct uuid author = id(device);
	struct merge_outcome out;

	*e = (struct edit){.key = id(1), .num = 2, .old = value_int(old), .mine = value_int(mine)};
	e->block = (struct block){.table = STOCK, .op = ROW_UPDATE, .row_count = 1, .column_count = 1, .nums = &e->num,
				  .keys = &e->key, .cells = &e->mine, .old_nums = &e->num, .olds = &e->old, .old_count = 1};
	e->set = (struct change_set){.number = number, .base_position = base, .at = 500, .blocks = &e->block, .block_count = 1};
	assert_int_equal(merge_apply(m, &author, &e->set, NOW, &out), FERRY_OK);
	return out;
}

static struct merge *with_count(int64_t count)
{
	static struct value cells[2];
	struct merge *m = merge_new(&schema, 1 << 20);

	cells[0] = value_int(count);
	cells[1] = value_null();
	assert_int_equal(merge_row(m, &(struct merge_row){.table = STOCK, .key = id(1), .exists = true, .known = true, .born = 1,
							  .version = {.position = 1}, .cells = cells}), FERRY_OK);
	return m;
}

static void R2_a_merge_results_author_is_the_hub(void **state)
{
	struct merge *m = with_count(10);
	struct merge_writes w;
	struct edit e[3];

	(void)state;
	assert_int_equal(push(m, &e[0], 1, 1, 1, 10, 13).verdict, VERDICT_ACCEPTED);
	assert_int_equal(push(m, &e[1], 2, 1, 1, 10, 15).verdict, VERDICT_ACCEPTED);
	assert_int_equal(push(m, &e[2], 1, 2, 1, 13, 14).verdict, VERDICT_ACCEPTED);
	assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
	assert_int_equal(w.write_count, 1);
	assert_true(w.writes[0].by_hub == 1 && w.writes[0].cells[0].i == 19);
	merge_free(m);
}

static void R2_verbatim_value_is_written_as_the_devices(void **state)
{
	struct merge *m = with_count(10);
	struct merge_writes w;
	struct edit e;

	(void)state;
	assert_int_equal(push(m, &e, 1, 1, 1, 10, 13).verdict, VERDICT_ACCEPTED);
	assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
	assert_true(w.write_count == 1 && w.writes[0].by_hub == 0 && w.writes[0].cells[0].i == 13);
	merge_free(m);
}

static void refused_counter_leaves_no_trace_and_the_next_ones_add(void **state)
{
	struct merge *m = with_count(INT64_MAX - 5);
	struct merge_writes w;
	struct merge_outcome out;
	struct edit e[2];

	(void)state;
	out = push(m, &e[0], 1, 1, 1, 0, 6);
	assert_int_equal(out.verdict, VERDICT_REJECTED);
	assert_int_equal(out.code, FERRY_COUNTER);
	assert_int_equal(push(m, &e[1], 2, 1, 1, 0, 5).verdict, VERDICT_ACCEPTED);
	assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
	assert_true(w.write_count == 1 && w.writes[0].cells[0].i == INT64_MAX);
	merge_free(m);
}

static void approval_is_asked_for_what_an_update_says_and_the_rest_stands(void **state)
{
	static const struct schema_column columns[] = {
		{.num = 2, .name = "price", .kind = KIND_INT, .policy = POLICY_APPROVAL},
		{.num = 3, .name = "note", .kind = KIND_TEXT},
	};
	static const struct schema_table table = {.table = STOCK, .name = "stock", .writable = true, .columns = columns, .column_count = 2};
	static const struct schema priced = {.hash = 1, .tables = &table, .table_count = 1};
	const struct value hub[2] = {value_int(10), text("old")}, mine[2] = {value_int(12), text("new")};
	const uint16_t nums[2] = {2, 3};
	const struct uuid key = id(1), fresh = id(2), author = id(9);
	struct block b = {.table = STOCK, .op = ROW_UPDATE, .row_count = 1, .column_count = 2, .nums = nums, .keys = &key, .cells = mine};
	struct change_set set = {.number = 1, .base_position = 1, .at = 500, .blocks = &b, .block_count = 1};
	struct merge *m = merge_new(&priced, 1 << 20);
	struct merge_outcome out;
	struct merge_writes w;

	(void)state;
	assert_int_equal(merge_row(m, &(struct merge_row){.table = STOCK, .key = key, .exists = true, .known = true, .born = 1,
							  .version = {.position = 1}, .cells = hub}), FERRY_OK);
	assert_int_equal(merge_row(m, &(struct merge_row){.table = STOCK, .key = fresh}), FERRY_OK);
	assert_int_equal(merge_apply(m, &author, &set, NOW, &out), FERRY_OK);
	assert_int_equal(out.verdict, VERDICT_SUPERSEDED);
	assert_int_equal(out.conflict_count, 0);
	assert_int_equal(out.ask_count, 1);
	assert_true(out.asks[0].table == STOCK && out.asks[0].num == 2 && out.asks[0].value.i == 12 && out.asks[0].at == 500 &&
		    uuid_equal(&out.asks[0].key, &key));
	b.op = ROW_INSERT; /* a new row begins with any value; what the next change-set says of it waits */
	b.keys = &fresh;
	set.number = 2;
	assert_int_equal(merge_apply(m, &author, &set, NOW, &out), FERRY_OK);
	assert_true(out.verdict == VERDICT_ACCEPTED && out.ask_count == 0);
	assert_int_equal(merge_take_writes(m, &w), FERRY_OK);
	assert_int_equal(w.write_count, 2);
	for (uint32_t i = 0; i < w.write_count; i++)
		assert_int_equal(w.writes[i].column_count, w.writes[i].op == ROW_INSERT ? 2 : 1);
	merge_free(m);
}

static void R2_delete_has_not_seen_a_merge_result(void **state)
{
	struct merge *m = with_count(10);
	struct uuid author = id(1), key = id(1);
	struct block block = {.table = STOCK, .op = ROW_DELETE, .row_count = 1, .keys = &key};
	struct change_set set = {.number = 2, .base_position = 1, .at = 500, .blocks = &block, .block_count = 1};
	struct merge_outcome out;
	struct edit e[2];

	(void)state;
	assert_int_equal(push(m, &e[0], 2, 1, 1, 10, 15).verdict, VERDICT_ACCEPTED);
	assert_int_equal(push(m, &e[1], 1, 1, 1, 10, 13).verdict, VERDICT_ACCEPTED);
	assert_int_equal(merge_apply(m, &author, &set, NOW, &out), FERRY_OK);
	assert_int_equal(out.conflict_count, 1);
	assert_int_equal(out.conflicts[0].kind, CONFLICT_DELETE_UPDATE);
	assert_true(uuid_is_zero(&out.conflicts[0].other) && out.conflicts[0].hub_value.i == 18);
	merge_free(m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(max_concurrent_greater_stands_whoever_is_later),
		T(max_seen_edit_stands_also_when_it_is_less),
		T(max_null_gives_way_to_a_value),
		T(order_is_postgresqls),
		T(R2_counter_applies_the_difference),
		T(R2_counter_that_met_what_it_saw_is_the_devices_own),
		T(counter_without_a_difference_merges_as_lww),
		T(counter_beyond_64_bits_is_refused_never_wrapped),
		T(R2_set_elements_come_and_go_one_by_one),
		T(set_that_is_none_merges_as_lww),
		T(R2_json_merges_key_by_key_at_every_depth),
		T(json_one_key_changed_by_both_goes_to_the_later_and_is_kept),
		T(json_that_is_damaged_or_too_deep_merges_as_lww),
		T(R2_text_merges_by_lines_and_then_by_words),
		T(text_one_word_changed_by_both_goes_to_the_later_and_is_kept),
		T(text_too_long_to_compare_merges_as_lww),
		T(review_concurrent_hubs_value_stands_however_early),
		T(sequence_a_number_that_stands_is_not_changed),
		T(approval_another_value_waits_seen_or_not),
		T(approval_is_asked_for_what_an_update_says_and_the_rest_stands),
		T(guard_lets_pass_what_its_map_allows),
		T(guard_the_second_of_two_is_told_who_has_it_and_since_when),
		T(guard_there_and_back_again_still_applies),
		T(R2_a_merge_results_author_is_the_hub),
		T(R2_verbatim_value_is_written_as_the_devices),
		T(refused_counter_leaves_no_trace_and_the_next_ones_add),
		T(R2_delete_has_not_seen_a_merge_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
