/* The judge of merging policies, told short stories by hand: what is right passes, what is wrong is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/checker.h"

#define ROW (KEYS_MAX - 1)

struct story {
	struct sim sim;
	struct checker *checker;
	struct sim_state hub;
	struct sim_row seen; /* by both devices */
	int64_t position, token;
};

static const bool all[SCOPES] = {true, true, true, true};

/* A tally that both devices have. */
static int set_up(void **state)
{
	struct story *s = sim_alloc(sizeof *s);
	sim_init(&s->sim, 1);
	s->checker = checker_new(&s->sim, 2);
	checker_scopes(s->checker, 0, all);
	checker_scopes(s->checker, 1, all);
	s->token = FIRST_TOKEN;
	s->seen = (struct sim_row){.exists = true, .table = TALLY,
				   .cells = {PROJECT_CELL(1, s->token), s->token + 1, COUNT_CELL(10), LEVEL_CELL(50, s->token + 2),
					     LEVEL_CELL(50, s->token + 3), MARKS_CELL(3), 0, CELL_NULL}};
	s->token += 4;
	struct sim_row none = s->hub.rows[ROW];
	s->hub.rows[ROW] = s->seen;
	checker_edit(s->checker, -1, ROW, &none, &s->seen);
	checker_commit(s->checker, ++s->position, &s->hub, NULL, NULL, 0);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct story *s = *state;
	checker_free(s->checker);
	sim_deinit(&s->sim);
	free(s);
	return 0;
}

/* A device makes this of one cell of the row as all know it. */
static struct sim_row device_writes(struct story *s, int line, int cell, int64_t value)
{
	struct sim_row after = s->seen;
	after.cells[TALLY_WORD] = s->token++;
	after.cells[cell] = value;
	checker_edit(s->checker, line, ROW, &s->seen, &after);
	return after;
}

/* ... and pushes it as its first change-set, of which the hub keeps the words. */
static void hub_settles(struct story *s, int line, int cell, const struct sim_row *made, enum verdict verdict, int code)
{
	const struct schema_column *word = sim_column(0, TALLY, TALLY_WORD), *other = sim_column(0, TALLY, cell);
	uint16_t nums[] = {word->num, other->num};
	int64_t stood = s->hub.rows[ROW].cells[TALLY_WORD];
	struct value cells[] = {sim_value(word->kind, TALLY, TALLY_WORD, made->cells[TALLY_WORD]),
				sim_value(other->kind, TALLY, cell, made->cells[cell])};
	struct block block = {.table = TALLY, .op = ROW_UPDATE, .column_count = 2, .row_count = 1, .nums = nums, .keys = sim_key(ROW), .cells = cells};
	struct change_set set = {.number = 1, .blocks = &block, .block_count = 1};
	struct conflict met = {.table = TALLY, .key = *sim_key(ROW), .num = word->num, .kind = CONFLICT_UPDATE_UPDATE, .device_won = true,
			       .device_value = cells[0], .hub_value = sim_value(word->kind, TALLY, TALLY_WORD, stood)};
	struct settled settled = {.number = 1, .verdict = verdict, .code = code, .position = ++s->position, .conflicts = &met,
				  .conflict_count = verdict != VERDICT_REJECTED};
	checker_offered(s->checker, line, &set);
	if (verdict != VERDICT_REJECTED)
		s->hub.rows[ROW].cells[TALLY_WORD] = made->cells[TALLY_WORD];
	checker_commit(s->checker, s->position, &s->hub, &line, &settled, 1);
}

/* Both write the cell, and this is what the hub holds after the one and after the other. */
static bool passes(struct story *s, int cell, int64_t first, int64_t second, int64_t then, int64_t last)
{
	struct sim_row a = device_writes(s, 0, cell, first), b = device_writes(s, 1, cell, second);
	s->hub.rows[ROW].cells[cell] = then;
	hub_settles(s, 0, cell, &a, VERDICT_ACCEPTED, 0);
	assert_false(s->sim.failed);
	s->hub.rows[ROW].cells[cell] = last;
	hub_settles(s, 1, cell, &b, VERDICT_ACCEPTED, 0);
	return !s->sim.failed;
}

static void differences_of_two_devices_add_up(void **state)
{
	assert_true(passes(*state, TALLY_COUNT, COUNT_CELL(15), COUNT_CELL(7), COUNT_CELL(15), COUNT_CELL(12)));
}

/* Within one cut it comes to nothing; then the row comes from another copy of the replica. */
static void what_was_made_and_deleted_before_a_copy_s_row_came_is_no_difference(void **state)
{
	struct story *s = *state;
	static const struct sim_row none = {.table = TALLY};
	checker_edit(s->checker, 0, ROW, &none, &s->seen);
	checker_edit(s->checker, 0, ROW, &s->seen, &none);
	struct sim_row a = device_writes(s, 0, TALLY_COUNT, COUNT_CELL(15));
	s->hub.rows[ROW].cells[TALLY_COUNT] = COUNT_CELL(15);
	hub_settles(s, 0, TALLY_COUNT, &a, VERDICT_ACCEPTED, 0);
	assert_false(s->sim.failed);
}

static void R2_a_difference_that_is_added_twice_is_found(void **state)
{
	assert_false(passes(*state, TALLY_COUNT, COUNT_CELL(15), COUNT_CELL(7), COUNT_CELL(15), COUNT_CELL(9)));
}

static void R2_a_counter_that_holds_the_later_value_is_found(void **state)
{
	assert_false(passes(*state, TALLY_COUNT, COUNT_CELL(15), COUNT_CELL(7), COUNT_CELL(15), COUNT_CELL(7)));
}

static void marks_come_and_go_one_by_one(void **state)
{
	assert_true(passes(*state, TALLY_MARKS, MARKS_CELL(7), MARKS_CELL(10), MARKS_CELL(7), MARKS_CELL(14)));
}

static void R2_a_mark_that_nobody_took_away_and_that_is_gone_is_found(void **state)
{
	assert_false(passes(*state, TALLY_MARKS, MARKS_CELL(7), MARKS_CELL(10), MARKS_CELL(7), MARKS_CELL(10)));
}

/* The values of the conflict that is told are the words'; here the second is the greater one. */
static void the_greater_of_two_stands(void **state)
{
	struct story *s = *state;
	int64_t low = LEVEL_CELL(51, s->token + 100), high = LEVEL_CELL(52, s->token + 101);
	struct sim_row a = device_writes(s, 0, TALLY_TOP, low);
	s->hub.rows[ROW].cells[TALLY_TOP] = low;
	hub_settles(s, 0, TALLY_TOP, &a, VERDICT_ACCEPTED, 0);
	s->seen = s->hub.rows[ROW];
	struct sim_row b = device_writes(s, 1, TALLY_TOP, high);
	s->hub.rows[ROW].cells[TALLY_TOP] = high;
	hub_settles(s, 1, TALLY_TOP, &b, VERDICT_ACCEPTED, 0);
	assert_false(s->sim.failed);
}

static void a_maximum_that_gave_way_to_less_is_found(void **state)
{
	struct story *s = *state;
	int64_t low = LEVEL_CELL(51, s->token + 100), high = LEVEL_CELL(52, s->token + 101);
	assert_false(passes(s, TALLY_TOP, high, low, high, low));
}

static void a_step_from_where_its_author_saw_it_is_right(void **state)
{
	struct story *s = *state;
	struct sim_row a = device_writes(s, 0, TALLY_STAGE, 1), b = device_writes(s, 1, TALLY_STAGE, 1);
	s->hub.rows[ROW].cells[TALLY_STAGE] = 1;
	hub_settles(s, 0, TALLY_STAGE, &a, VERDICT_ACCEPTED, 0);
	hub_settles(s, 1, TALLY_STAGE, &b, VERDICT_REJECTED, FERRY_GUARD);
	assert_false(s->sim.failed);
}

static void a_step_that_the_map_does_not_have_is_found(void **state)
{
	struct story *s = *state;
	struct sim_row a = device_writes(s, 0, TALLY_STAGE, 2);
	s->hub.rows[ROW].cells[TALLY_STAGE] = 2;
	hub_settles(s, 0, TALLY_STAGE, &a, VERDICT_ACCEPTED, 0);
	assert_true(s->sim.failed);
}

static void the_second_of_two_same_steps_that_passes_is_found(void **state)
{
	assert_false(passes(*state, TALLY_STAGE, 1, 1, 1, 1));
}

static void a_step_that_is_refused_for_no_reason_is_found(void **state)
{
	struct story *s = *state;
	struct sim_row a = device_writes(s, 0, TALLY_STAGE, 1);
	hub_settles(s, 0, TALLY_STAGE, &a, VERDICT_REJECTED, FERRY_GUARD);
	assert_true(s->sim.failed);
}

/* The hub has taken the first device's count; the second has its own pending. */
static bool may_show(struct story *s, int64_t count)
{
	struct sim_row a = device_writes(s, 0, TALLY_COUNT, COUNT_CELL(15)), b = device_writes(s, 1, TALLY_COUNT, COUNT_CELL(7));
	s->hub.rows[ROW].cells[TALLY_COUNT] = COUNT_CELL(15);
	hub_settles(s, 0, TALLY_COUNT, &a, VERDICT_ACCEPTED, 0);
	struct sim_state visible = s->hub;
	visible.rows[ROW].cells[TALLY_WORD] = b.cells[TALLY_WORD];
	visible.rows[ROW].cells[TALLY_COUNT] = count;
	checker_replica(s->checker, 1, s->position, &visible);
	return !s->sim.failed;
}

static void a_pending_difference_is_laid_over_what_the_hub_has(void **state)
{
	assert_true(may_show(*state, COUNT_CELL(12)));
}

static void P3_a_pending_count_that_hides_what_the_hub_has_is_found(void **state)
{
	assert_false(may_show(*state, COUNT_CELL(7)));
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(differences_of_two_devices_add_up),
		STORY(what_was_made_and_deleted_before_a_copy_s_row_came_is_no_difference),
		STORY(R2_a_difference_that_is_added_twice_is_found),
		STORY(R2_a_counter_that_holds_the_later_value_is_found),
		STORY(marks_come_and_go_one_by_one),
		STORY(R2_a_mark_that_nobody_took_away_and_that_is_gone_is_found),
		STORY(the_greater_of_two_stands),
		STORY(a_maximum_that_gave_way_to_less_is_found),
		STORY(a_step_from_where_its_author_saw_it_is_right),
		STORY(a_step_that_the_map_does_not_have_is_found),
		STORY(the_second_of_two_same_steps_that_passes_is_found),
		STORY(a_step_that_is_refused_for_no_reason_is_found),
		STORY(a_pending_difference_is_laid_over_what_the_hub_has),
		STORY(P3_a_pending_count_that_hides_what_the_hub_has_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
