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

/* A device offers what it wrote there; depends 0: on nothing. */
static void device_offers(struct story *s, int line, int64_t number, int64_t token, bool joined, int64_t depends)
{
	uint16_t num = 3;
	struct uuid key = *sim_key(0);
	struct value cell = sim_value(KIND_TEXT, UNIT, 1, token);
	struct block block = {.table = UNIT, .op = ROW_UPDATE, .column_count = 1, .row_count = 1, .nums = &num, .keys = &key,
			      .cells = &cell};
	struct change_set set = {.number = number, .blocks = &block, .block_count = 1, .joined = joined, .depends = &depends,
				 .depends_count = depends != 0};
	checker_offered(s->checker, line, &set);
}

/* On a device, which shows the row with one token there and writes another one. */
static void device_edits(struct story *s, int line, int64_t shown, int64_t token)
{
	struct sim_row before = s->hub.rows[0], after;
	before.cells[1] = shown;
	after = before;
	after.cells[1] = token;
	checker_edit(s->checker, line, 0, &before, &after);
}

static void device_writes(struct story *s, int line, int64_t number, int64_t shown, int64_t token)
{
	device_edits(s, line, shown, token);
	device_offers(s, line, number, token, false, 0);
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

static void hub_refuses(struct story *s, int line, int64_t number)
{
	struct settled settled = {.number = number, .verdict = VERDICT_REJECTED, .position = ++s->position};
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

/* The device wrote V, then W; that of V was refused, and is offered again in parts. */
static void a_part_that_is_offered_again_comes_before_what_was_written_later(void **state)
{
	struct story *s = *state;
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	device_edits(s, 0, A, V);
	device_offers(s, 0, 1, V, true, 0);
	device_edits(s, 0, V, W);
	device_offers(s, 0, 2, W, false, 1);
	hub_refuses(s, 0, 1);
	device_offers(s, 0, 3, V, false, 0);
	hub_settles(s, 0, 3, V, 0);
	assert_false(s->sim.failed);
	hub_settles(s, 0, 2, W, 0);
	assert_false(s->sim.failed);
}

static void R6_what_was_written_later_and_comes_first_is_found(void **state)
{
	struct story *s = *state;
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	device_writes(s, 0, 1, A, V);
	device_writes(s, 0, 2, V, W);
	hub_settles(s, 0, 2, W, 0);
	assert_true(s->sim.failed);
}

/* V is refused, and W, which builds on it; the replica shows W still. */
static void shows_what_was_refused(struct story *s, bool joined)
{
	struct sim_state visible;
	checker_scopes(s->checker, 0, one);
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	device_edits(s, 0, A, V);
	device_offers(s, 0, 1, V, joined, 0);
	device_edits(s, 0, V, W);
	device_offers(s, 0, 2, W, false, 1);
	hub_refuses(s, 0, 1);
	hub_refuses(s, 0, 2);
	visible = s->hub;
	visible.rows[0].cells[1] = W;
	checker_replica(s->checker, 0, s->position, &visible);
}

static void what_builds_on_a_joined_one_is_shown_while_both_are_offered_again(void **state)
{
	struct story *s = *state;
	shows_what_was_refused(s, true);
	assert_false(s->sim.failed);
}

static void P3_what_is_shown_though_it_was_refused_is_found(void **state)
{
	struct story *s = *state;
	shows_what_was_refused(s, false);
	assert_true(s->sim.failed);
}

/* The device and a copy of its replica hold V under number 1, the hub settles it and loses it; what the copy
 * brings back then is the device's, too. */
static void what_a_copy_brings_back_is_regained_for_the_other(void **state)
{
	struct story *s = *state;
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	checker_scopes(s->checker, 0, one);
	struct sim_state backup = s->hub;
	int64_t position = s->position;
	device_writes(s, 0, 1, A, V);
	hub_settles(s, 0, 1, V, 0);
	int copy = checker_copied(s->checker, 0);
	checker_rewind(s->checker, position);
	s->hub = backup;
	device_offers(s, copy, 1, V, false, 0);
	hub_settles(s, copy, 1, V, 0);
	checker_quiet(s->checker, 0, s->position, &s->hub);
	assert_false(s->sim.failed);
}

/* The same, but of the device's two contents the copy's had been settled, and only in the lost history. */
static void what_another_copy_had_settled_is_open_again_when_it_is_lost(void **state)
{
	struct story *s = *state;
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	struct sim_state backup = s->hub;
	int64_t position = s->position;
	int copy = checker_copied(s->checker, 0);
	device_writes(s, copy, 1, A, V);
	device_writes(s, 0, 1, A, W);
	hub_settles(s, copy, 1, V, 0);
	checker_rewind(s->checker, position);
	s->hub = backup;
	hub_settles(s, 0, 1, W, 0);
	assert_false(s->sim.failed);
}

/* A number that was settled with contents, then lost, and goes out empty. */
static void number_goes_out_empty(struct story *s, bool copied)
{
	struct change_set empty = {.number = 1};
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	int64_t position = s->position;
	device_writes(s, 0, 1, A, V);
	hub_settles(s, 0, 1, V, 0);
	int line = copied ? checker_copied(s->checker, 0) : 0;
	checker_rewind(s->checker, position);
	checker_offered(s->checker, line, &empty);
}

static void a_number_that_another_copy_had_settled_may_go_out_empty_when_that_is_lost(void **state)
{
	struct story *s = *state;
	number_goes_out_empty(s, true);
	assert_false(s->sim.failed);
}

static void a_number_that_its_only_replica_gives_up_is_found(void **state)
{
	struct story *s = *state;
	number_goes_out_empty(s, false);
	assert_true(s->sim.failed);
}

static void P8_what_nobody_brings_back_is_found(void **state)
{
	struct story *s = *state;
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	checker_scopes(s->checker, 0, one);
	struct sim_state backup = s->hub;
	int64_t position = s->position;
	device_writes(s, 0, 1, A, V);
	hub_settles(s, 0, 1, V, 0);
	checker_rewind(s->checker, position);
	s->hub = backup;
	checker_quiet(s->checker, 0, s->position, &s->hub);
	assert_true(s->sim.failed);
}

static void word_that_a_change_set_waits_which_comes_after_its_verdict_says_nothing(void **state)
{
	static const struct settled parked = {.number = 1, .verdict = VERDICT_PARKED};
	struct story *s = *state;
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	device_writes(s, 0, 1, A, V);
	checker_acked(s->checker, 0, &parked);
	assert_int_equal(checker_parked(s->checker, 0), 1);
	hub_settles(s, 0, 1, V, 0);
	checker_acked(s->checker, 0, &parked);
	assert_int_equal(checker_parked(s->checker, 0), 0);
	assert_false(s->sim.failed);
}

/* One transaction of two rows; the hub parked the first row's part, and what it waits for is told by locked. */
static void waits_with_a_parked_one(struct story *s, bool is_locked)
{
	static const struct settled parked = {.number = 1, .verdict = VERDICT_PARKED};
	bool locked[KEYS_MAX] = {is_locked};
	checker_scopes(s->checker, 0, one);
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	hub_puts_unit(s, 1, 1, FIRST_TOKEN + 10);
	checker_group(s->checker, true);
	device_writes(s, 0, 1, A, V);
	struct sim_row before = s->hub.rows[1], after = before;
	after.cells[1] = W;
	checker_edit(s->checker, 0, 1, &before, &after);
	checker_acked(s->checker, 0, &parked);
	checker_no_jam(s->checker, locked);
}

static void what_waits_with_a_parked_one_whose_row_is_locked_is_right(void **state)
{
	struct story *s = *state;
	waits_with_a_parked_one(s, true);
	assert_false(s->sim.failed);
}

static void P6_what_waits_though_no_row_is_locked_is_found(void **state)
{
	struct story *s = *state;
	waits_with_a_parked_one(s, false);
	assert_true(s->sim.failed);
}

/* Two devices whose clocks are known write the unit's second cell, the second one much later; then that
 * edit loses, in a conflict of this kind. */
static void later_edit_loses(struct story *s, enum conflict_kind kind)
{
	hub_puts_unit(s, 0, 1, FIRST_TOKEN);
	for (int line = 0; line < 2; line++) {
		checker_clock_known(s->checker, line);
		checker_group(s->checker, true);
		device_writes(s, line, 1, A, line ? W : V);
		s->sim.now += 600 * (int64_t)SIM_S;
	}
	hub_settles(s, 0, 1, V, 0);
	struct conflict f = {.table = UNIT, .key = *sim_key(0), .num = 3, .kind = kind, .device_value = sim_value(KIND_TEXT, UNIT, 1, W),
			     .hub_value = sim_value(KIND_TEXT, UNIT, 1, V)};
	struct settled settled = {.number = 1, .verdict = VERDICT_SUPERSEDED, .position = ++s->position, .conflicts = &f, .conflict_count = 1};
	int line = 1;
	checker_commit(s->checker, s->position, &s->hub, &line, &settled, 1);
}

static void P10_an_edit_that_loses_to_an_older_one_is_found(void **state)
{
	struct story *s = *state;
	later_edit_loses(s, CONFLICT_UPDATE_UPDATE);
	assert_true(s->sim.failed);
}

static void a_deletion_wins_over_edits_of_whatever_time(void **state)
{
	struct story *s = *state;
	later_edit_loses(s, CONFLICT_UPDATE_DELETE);
	assert_false(s->sim.failed);
}

/* Project 2 has a unit of the hub's, and is on its way to the device, which makes unit 1 there. */
static void a_unit_is_made_in_a_scope_that_comes(struct story *s, struct sim_state *visible)
{
	struct settled settled = {.number = 1, .verdict = VERDICT_ACCEPTED};
	int line = 0;
	checker_scopes(s->checker, 0, one);
	hub_puts_unit(s, 0, 2, FIRST_TOKEN);
	checker_scopes(s->checker, 0, both);
	visible->rows[1] = (struct sim_row){.exists = true, .table = UNIT,
					    .cells = {PROJECT_CELL(2, FIRST_TOKEN + 10), FIRST_TOKEN + 11, FIRST_TOKEN + 12, CELL_NULL, CELL_NULL}};
	checker_edit(s->checker, 0, 1, &(struct sim_row){.table = UNIT}, &visible->rows[1]);
	checker_replica(s->checker, 0, s->position, visible);
	checker_offered(s->checker, 0, set_of(1, &visible->rows[1]));
	s->hub.rows[1] = visible->rows[1];
	settled.position = ++s->position;
	checker_commit(s->checker, s->position, &s->hub, &line, &settled, 1);
	assert_false(s->sim.failed);
}

static void a_row_made_in_a_scope_that_comes_is_shown_until_that_is_there(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0};
	a_unit_is_made_in_a_scope_that_comes(s, &visible);
	checker_replica(s->checker, 0, s->position, &visible);
	checker_replica(s->checker, 0, s->position, &s->hub);
	assert_false(s->sim.failed);
	checker_replica(s->checker, 0, s->position, &visible); /* the scope has come */
	assert_true(s->sim.failed);
}

static void P3_a_row_made_in_a_scope_that_comes_and_shown_otherwise_is_found(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0};
	a_unit_is_made_in_a_scope_that_comes(s, &visible);
	visible.rows[1].cells[1] = FIRST_TOKEN + 1;
	checker_replica(s->checker, 0, s->position, &visible);
	assert_true(s->sim.failed);
}

static void P3_a_row_made_in_a_scope_that_comes_and_shown_when_that_was_taken_back_is_found(void **state)
{
	struct story *s = *state;
	struct sim_state visible = {0}, none = {0};
	a_unit_is_made_in_a_scope_that_comes(s, &visible);
	checker_scopes(s->checker, 0, one);
	checker_replica(s->checker, 0, s->position, &none);
	assert_false(s->sim.failed);
	checker_quiet(s->checker, 0, s->position, &visible);
	assert_true(s->sim.failed);
}

/* A hello whose link broke is answered after the next one was, and after the device proposed another mark. */
static void a_life_may_begin_with_a_mark_that_was_proposed_before_the_last_one(void **state)
{
	struct story *s = *state;
	checker_proposed(s->checker, 1, 11);
	checker_proposed(s->checker, 1, 11);
	checker_life(s->checker, 1, 11, 1);
	checker_proposed(s->checker, 1, 13);
	checker_life(s->checker, 1, 11, 2);
	assert_false(s->sim.failed);
	assert_int_equal(checker_line(s->checker, 1, 2), 1);
}

static void a_life_that_begins_with_another_devices_mark_is_found(void **state)
{
	struct story *s = *state;
	checker_proposed(s->checker, 1, 11);
	checker_life(s->checker, 0, 11, 1);
	assert_true(s->sim.failed);
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
		STORY(a_part_that_is_offered_again_comes_before_what_was_written_later),
		STORY(R6_what_was_written_later_and_comes_first_is_found),
		STORY(what_builds_on_a_joined_one_is_shown_while_both_are_offered_again),
		STORY(P3_what_is_shown_though_it_was_refused_is_found),
		STORY(what_a_copy_brings_back_is_regained_for_the_other),
		STORY(what_another_copy_had_settled_is_open_again_when_it_is_lost),
		STORY(a_number_that_another_copy_had_settled_may_go_out_empty_when_that_is_lost),
		STORY(a_number_that_its_only_replica_gives_up_is_found),
		STORY(P8_what_nobody_brings_back_is_found),
		STORY(what_waits_with_a_parked_one_whose_row_is_locked_is_right),
		STORY(P6_what_waits_though_no_row_is_locked_is_found),
		STORY(word_that_a_change_set_waits_which_comes_after_its_verdict_says_nothing),
		STORY(P10_an_edit_that_loses_to_an_older_one_is_found),
		STORY(a_deletion_wins_over_edits_of_whatever_time),
		STORY(a_row_made_in_a_scope_that_comes_is_shown_until_that_is_there),
		STORY(P3_a_row_made_in_a_scope_that_comes_and_shown_otherwise_is_found),
		STORY(P3_a_row_made_in_a_scope_that_comes_and_shown_when_that_was_taken_back_is_found),
		STORY(a_life_may_begin_with_a_mark_that_was_proposed_before_the_last_one),
		STORY(a_life_that_begins_with_another_devices_mark_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
