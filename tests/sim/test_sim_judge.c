/* The judge itself, told short stories by hand: what is right passes, what is wrong is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/checker.h"

struct story {
	struct sim sim;
	struct checker *checker;
	struct sim_state hub;
	int64_t position;
};

static int set_up(void **state)
{
	struct story *s = sim_alloc(sizeof *s);
	sim_init(&s->sim, 1);
	s->checker = checker_new(&s->sim, 2);
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

/* The hub's people put a unit into a project, or take it to another. */
static void hub_puts_unit(struct story *s, int key, int project, int64_t token)
{
	struct sim_row before = s->hub.rows[key], *row = &s->hub.rows[key];
	*row = (struct sim_row){.exists = true, .table = UNIT, .cells = {PROJECT_CELL(project, token), token + 1, token + 2, CELL_NULL}};
	checker_edit(s->checker, -1, key, &before, row);
	checker_commit(s->checker, ++s->position, &s->hub, NULL, NULL, 0);
}

/* It shows the hub's rows of these projects. */
static void device_shows(struct story *s, const bool scopes[SCOPES])
{
	struct sim_state visible = s->hub;
	for (int key = 0; key < KEYS_MAX; key++)
		visible.rows[key].exists = s->hub.rows[key].exists && scopes[sim_scope_of(&s->hub, key)];
	checker_replica(s->checker, 0, s->position, &visible);
}

static const bool one[SCOPES] = {true, true, false, false}, both[SCOPES] = {true, true, true, false},
		  only_two[SCOPES] = {true, false, true, false};

/* While project 2 has no row, one cannot tell whether it was filled already. */
static void an_empty_scope_that_is_being_filled_is_not_taken_as_arrived(void **state)
{
	struct story *s = *state;
	checker_scopes(s->checker, 0, one);
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	device_shows(s, one);
	checker_scopes(s->checker, 0, both);
	device_shows(s, one);
	hub_puts_unit(s, 0, 2, FIRST_TOKEN + 10);
	device_shows(s, one); /* the row has left project 1 */
	assert_false(s->sim.failed);
	device_shows(s, both);
	assert_false(s->sim.failed);
}

static void P3_a_scope_that_was_there_and_vanishes_is_found(void **state)
{
	struct story *s = *state;
	checker_scopes(s->checker, 0, one);
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	hub_puts_unit(s, 1, 2, FIRST_TOKEN + 10);
	checker_scopes(s->checker, 0, both);
	device_shows(s, both);
	assert_false(s->sim.failed);
	device_shows(s, one);
	assert_true(s->sim.failed);
}

static void P3_a_held_scope_that_is_left_out_while_another_comes_is_found(void **state)
{
	struct story *s = *state;
	checker_scopes(s->checker, 0, one);
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	hub_puts_unit(s, 1, 2, FIRST_TOKEN + 10);
	device_shows(s, one);
	checker_scopes(s->checker, 0, both);
	device_shows(s, only_two);
	assert_true(s->sim.failed);
}

static void a_scope_that_was_taken_away_for_a_while_may_be_missing(void **state)
{
	struct story *s = *state;
	checker_scopes(s->checker, 0, both);
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	hub_puts_unit(s, 1, 2, FIRST_TOKEN + 10);
	device_shows(s, both);
	checker_scopes(s->checker, 0, one);
	checker_scopes(s->checker, 0, both);
	device_shows(s, one);
	assert_false(s->sim.failed);
}

static void device_writes_unit(struct story *s, int line, struct sim_state *visible, int key, int64_t token)
{
	struct sim_row before = visible->rows[key];
	if (token)
		visible->rows[key] = (struct sim_row){.exists = true, .table = UNIT, .cells = {PROJECT_CELL(1, token), token + 1, token + 2, CELL_NULL, CELL_NULL}};
	else
		visible->rows[key] = (struct sim_row){.table = UNIT};
	checker_edit(s->checker, line, key, &before, &visible->rows[key]);
}

/* Change-set 1 of a unit; static. */
static const struct change_set *set_of(int key, const struct sim_row *row)
{
	static uint16_t nums[] = {2, 3, 4};
	static struct value cells[3];
	static struct block block;
	static struct change_set set;
	cells[0] = sim_value(KIND_INT, UNIT, 0, row->cells[0]);
	cells[1] = sim_value(KIND_TEXT, UNIT, 1, row->cells[1]);
	cells[2] = sim_value(KIND_INT, UNIT, 2, row->cells[2]);
	block = (struct block){.table = UNIT, .op = ROW_INSERT, .row_count = 1, .column_count = 3, .nums = nums, .keys = sim_key(key), .cells = cells};
	set = (struct change_set){.number = 1, .blocks = &block, .block_count = 1};
	return &set;
}

/* A unit that is made, and copied before it was cut; the original pushes it as change-set 1. The copy's line. */
static int a_unit_is_copied_and_pushed_by_the_original(struct story *s, struct sim_state *visible, enum verdict verdict)
{
	checker_scopes(s->checker, 0, one);
	device_writes_unit(s, 0, visible, 0, FIRST_TOKEN);
	int copy = checker_copied(s->checker, 0), line = 0;
	checker_open(s->checker, copy);
	struct settled settled = {.number = 1, .verdict = verdict, .position = ++s->position};
	if (verdict == VERDICT_ACCEPTED)
		s->hub.rows[0] = visible->rows[0];
	checker_offered(s->checker, 0, set_of(0, &visible->rows[0]));
	checker_commit(s->checker, s->position, &s->hub, &line, &settled, 1);
	assert_false(s->sim.failed);
	return copy;
}

/* It is the same change-set, though the copy has not offered it yet. */
static void what_a_copy_holds_is_refused_with_the_same_of_the_original(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0};
	int copy = a_unit_is_copied_and_pushed_by_the_original(s, &visible, VERDICT_REJECTED);
	checker_held(s->checker, copy, set_of(0, &visible.rows[0]));
	checker_replica(s->checker, copy, s->position, &s->hub);
	assert_false(s->sim.failed);
}

static void P3_a_refused_edit_of_which_the_copy_knows_nothing_and_which_it_hides_is_found(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0};
	int copy = a_unit_is_copied_and_pushed_by_the_original(s, &visible, VERDICT_REJECTED);
	checker_replica(s->checker, copy, s->position, &s->hub);
	assert_true(s->sim.failed);
}

static void P5_a_refused_value_that_its_replica_does_not_keep_is_found(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0};
	struct sim_kept *refused = sim_alloc(sizeof *refused);
	(void)a_unit_is_copied_and_pushed_by_the_original(s, &visible, VERDICT_REJECTED);
	refused->cells[FIRST_TOKEN + 1] = refused->cells[FIRST_TOKEN + 2] = true;
	checker_refused(s->checker, 0, refused);
	assert_false(s->sim.failed);
	refused->cells[FIRST_TOKEN + 2] = false;
	checker_refused(s->checker, 0, refused);
	free(refused);
	assert_true(s->sim.failed);
}

/* Numbers that another copy has used need not be the oldest. */
static void what_waits_before_a_kept_change_set_is_shown(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0}, first;
	struct sim_kept *kept = sim_alloc(sizeof *kept);
	checker_scopes(s->checker, 0, one);
	device_writes_unit(s, 0, &visible, 0, FIRST_TOKEN);
	first = visible;
	struct sim_row before = visible.rows[0];
	visible.rows[0].cells[1] = FIRST_TOKEN + 10;
	checker_edit(s->checker, 0, 0, &before, &visible.rows[0]);
	kept->cells[FIRST_TOKEN + 10] = kept->pending[FIRST_TOKEN + 1] = kept->pending[FIRST_TOKEN + 2] = true;
	checker_kept(s->checker, 0, kept);
	checker_replica(s->checker, 0, s->position, &first);
	assert_false(s->sim.failed);
	checker_replica(s->checker, 0, s->position, &s->hub);
	free(kept);
	assert_true(s->sim.failed);
}

/* Within one cut it comes to nothing; then the row comes like anybody's. */
static void what_a_copy_deleted_before_anybody_heard_of_it_may_come_from_the_original(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0};
	int copy = a_unit_is_copied_and_pushed_by_the_original(s, &visible, VERDICT_ACCEPTED);
	device_writes_unit(s, copy, &visible, 0, 0);
	checker_replica(s->checker, copy, s->position, &visible);
	checker_replica(s->checker, copy, s->position, &s->hub);
	assert_false(s->sim.failed);
}

static void P3_what_a_device_deleted_and_is_still_shown_is_found(void **state)
{
	struct story *s = *state;
	checker_scopes(s->checker, 0, one);
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	struct sim_state visible = s->hub;
	device_writes_unit(s, 0, &visible, 0, 0);
	checker_replica(s->checker, 0, s->position, &s->hub);
	assert_true(s->sim.failed);
}

/* What the hub's people make of the unit's second cell. */
static void hub_writes(struct story *s, int64_t token)
{
	struct sim_row before = s->hub.rows[0];
	s->hub.rows[0].cells[1] = token;
	checker_edit(s->checker, -1, 0, &before, &s->hub.rows[0]);
	checker_commit(s->checker, ++s->position, &s->hub, NULL, NULL, 0);
}

/* On a device, which shows the row with one token there and writes another one. */
static void device_writes(struct story *s, int line, int64_t number, int64_t shown, int64_t token)
{
	struct sim_row before = s->hub.rows[0], after;
	uint16_t num = 3;
	struct uuid key = *sim_key(0);
	struct value cell = sim_value(KIND_TEXT, UNIT, 1, token);
	struct block block = {.table = UNIT, .op = ROW_UPDATE, .column_count = 1, .row_count = 1, .nums = &num, .keys = &key,
			      .cells = &cell};
	struct change_set set = {.number = number, .blocks = &block, .block_count = 1};
	before.cells[1] = shown;
	after = before;
	after.cells[1] = token;
	checker_edit(s->checker, line, 0, &before, &after);
	checker_offered(s->checker, line, &set);
}

/* met 0: the hub keeps no conflict; else it kept this value. */
static void hub_settles(struct story *s, int line, int64_t number, int64_t token, int64_t met)
{
	struct conflict f = {.table = UNIT, .key = *sim_key(0), .num = 3, .kind = CONFLICT_UPDATE_UPDATE, .device_won = true,
			     .device_value = sim_value(KIND_TEXT, UNIT, 1, token), .hub_value = sim_value(KIND_TEXT, UNIT, 1, met)};
	struct settled settled = {.number = number, .verdict = VERDICT_ACCEPTED, .position = ++s->position, .conflicts = &f,
				  .conflict_count = met != 0};
	s->hub.rows[0].cells[1] = token;
	checker_commit(s->checker, s->position, &s->hub, &line, &settled, 1);
}

/* The unit holds A, V with the backup and B after it; then one device, which had seen A alone, wins over B with W. */
#define A (FIRST_TOKEN + 1)
#define V (FIRST_TOKEN + 20)
#define B (FIRST_TOKEN + 21)
#define W (FIRST_TOKEN + 22)
#define X (FIRST_TOKEN + 23)
static void hub_goes_back(struct story *s)
{
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	device_writes(s, 0, 1, A, W);
	hub_writes(s, V);
	struct sim_state backup = s->hub;
	int64_t position = s->position;
	hub_writes(s, B);
	hub_settles(s, 0, 1, W, B);
	checker_rewind(s->checker, position);
	s->hub = backup;
}

/* What stood there when V had been overwritten twice was seen; so V was. */
static void a_value_that_had_been_overwritten_and_came_back_with_a_restore_is_not_missed(void **state)
{
	struct story *s = *state;
	hub_goes_back(s);
	device_writes(s, 1, 1, W, X);
	hub_settles(s, 1, 1, X, 0);
	assert_false(s->sim.failed);
}

static void P5_a_value_that_came_back_and_that_nobody_had_seen_overwritten_is_missed(void **state)
{
	struct story *s = *state;
	hub_goes_back(s);
	device_writes(s, 1, 1, A, X);
	hub_settles(s, 1, 1, X, 0);
	assert_true(s->sim.failed);
}

/* W never saw V: it has to meet it as it met B. */
static void P5_a_replay_that_wins_over_what_it_has_not_seen_without_a_conflict_is_found(void **state)
{
	struct story *s = *state;
	hub_goes_back(s);
	hub_settles(s, 0, 1, W, 0);
	assert_true(s->sim.failed);
}

static void a_replay_that_meets_what_came_back_as_a_conflict_is_right(void **state)
{
	struct story *s = *state;
	hub_goes_back(s);
	hub_settles(s, 0, 1, W, V);
	assert_false(s->sim.failed);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(an_empty_scope_that_is_being_filled_is_not_taken_as_arrived),
		STORY(P3_a_scope_that_was_there_and_vanishes_is_found),
		STORY(P3_a_held_scope_that_is_left_out_while_another_comes_is_found),
		STORY(a_scope_that_was_taken_away_for_a_while_may_be_missing),
		STORY(what_a_copy_deleted_before_anybody_heard_of_it_may_come_from_the_original),
		STORY(P3_what_a_device_deleted_and_is_still_shown_is_found),
		STORY(what_a_copy_holds_is_refused_with_the_same_of_the_original),
		STORY(P3_a_refused_edit_of_which_the_copy_knows_nothing_and_which_it_hides_is_found),
		STORY(P5_a_refused_value_that_its_replica_does_not_keep_is_found),
		STORY(what_waits_before_a_kept_change_set_is_shown),
		STORY(a_value_that_had_been_overwritten_and_came_back_with_a_restore_is_not_missed),
		STORY(P5_a_value_that_came_back_and_that_nobody_had_seen_overwritten_is_missed),
		STORY(P5_a_replay_that_wins_over_what_it_has_not_seen_without_a_conflict_is_found),
		STORY(a_replay_that_meets_what_came_back_as_a_conflict_is_right),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
