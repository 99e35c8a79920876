/* Drives the PostgreSQL store through its public calls and checks what comes back;
 * tests/integration/test_pg_store.py starts the server and names the cases.
 * Usage: pg-store-driver --list | <case> <conninfo as ferry_hub> <as superuser>
 *
 * Each case takes a database of its own, made by pg_store.sql. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pg_store/pg_store_driver.h"

#define CASE(name) {#name, name}
static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	CASE(repeated_change_set_takes_effect_once),
	CASE(P5_what_a_copy_pushes_in_a_life_that_is_over_is_not_settled),
	CASE(R6_settled_numbers_above_a_gap_are_kept_as_a_set),
	CASE(R6_attempts_that_are_refused_settle_nothing),
	CASE(R6_dependant_of_a_refused_one_is_refused),
	CASE(R6_dependant_waits_for_one_that_is_not_settled),
	CASE(R6_two_hubs_cannot_settle_the_same_number),
	CASE(R7_staged_parts_merge_as_one),
	CASE(staged_one_that_meets_a_value_names_the_row_whatever_is_behind),
	CASE(R6_R7_staged_one_that_builds_on_a_refused_one_is_refused),
	CASE(P3_R7_parts_of_two_copies_of_a_device_are_never_joined),
	CASE(P6_what_the_hub_has_no_room_for_is_refused_and_others_flow_on),
	CASE(R18_one_that_waits_on_its_device_is_not_counted_as_settled_with_the_others),
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
	CASE(P7_rows_that_another_device_makes_in_the_same_batch_are_judged_by_the_scope_they_come_to),
	CASE(P7_rows_that_another_device_moves_in_the_same_batch_are_judged_by_the_scope_they_come_to),
	CASE(P7_edits_of_rows_that_another_device_s_replay_makes_in_the_same_batch_are_judged_once_written),
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
