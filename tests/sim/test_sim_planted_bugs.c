/* The simulator is worth something only if it finds bugs: each of these is
 * planted in a model layer and must be found within a number of seeds. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim_world.h"

#define SEEDS_MAX 200

struct planted {
	const char *name;
	struct model_faults hub;
	struct replica_faults replica;
	bool hours;  /* it takes time to show */
	bool clocks; /* it takes clocks that jump, of hubs too */
	bool copies; /* it takes copies of replicas */
	bool schemas; /* it takes changes of the schema */
};

static const struct planted planted[] = {
	{.name = "acknowledge_before_the_commit", .hub.ack_before_commit = true},
	{.name = "forget_settled_numbers_so_that_a_repeat_applies_twice_P2", .hub.forget_settled = true},
	{.name = "take_what_an_edit_met_as_seen_P5", .hub.see_everything = true},
	{.name = "commit_a_part_of_a_change_set_P3", .hub.half_transactions = true},
	{.name = "skip_a_frame_P4", .hub.skip_frames = true},
	{.name = "leave_verdicts_out_of_commits_R3", .hub.lose_verdicts = true},
	{.name = "remove_from_the_outbox_on_ack_R3", .replica.forget_on_ack = true},
	{.name = "apply_a_frame_without_its_commit_P3", .replica.frames_without_commit = true},
	{.name = "move_the_bookmark_but_lose_the_rows", .replica.bookmark_first = true},
	{.name = "claim_to_have_seen_what_a_pending_edit_hides_R1", .replica.base_is_now = true},
	{.name = "hold_up_a_batch_for_one_locked_row_P6", .hub.lock_all = true, .hours = true},
	{.name = "merge_before_what_it_builds_on_is_merged_R6", .hub.forget_depends = true, .hours = true},
	{.name = "stamp_edits_by_a_wrong_clock_P10", .replica.ignore_offset = true, .hours = true},
	{.name = "believe_in_other_scopes_before_they_are_filled_P4", .replica.scopes_early = true, .hours = true},
	{.name = "let_a_copy_with_a_mark_of_the_past_in", .hub.welcome_copies = true, .copies = true},
	{.name = "merge_what_a_former_life_has_sent_P2", .hub.merge_old_lives = true, .copies = true},
	{.name = "tell_a_former_life_of_the_verdicts_of_another_copy_P5", .hub.hide_lives = true, .copies = true},
	{.name = "take_what_another_copy_wrote_as_seen_by_its_author_P5", .hub.take_copies_as_own = true, .copies = true},
	{.name = "go_on_with_numbers_that_another_copy_has_used", .replica.numbers_again = true, .copies = true},
	{.name = "drop_what_stands_under_the_number_of_another_copy_P5", .replica.strange_vanish = true, .copies = true},
	{.name = "drop_a_value_whose_column_is_no_more_P5", .hub.drop_untranslated = true, .schemas = true},
	{.name = "drop_what_was_written_before_another_column_took_the_place_P5", .hub.forget_renames = true, .schemas = true},
	{.name = "show_a_former_schema_with_the_state_of_the_next_P3", .replica.keep_old_schema = true, .schemas = true},
	{.name = "drop_what_is_refused_since_the_schema_has_no_place_for_it_P5", .replica.forget_refused = true, .schemas = true},
	{.name = "count_a_repeated_change_set_again_P2", .hub.count_again = true},
	{.name = "merge_a_counter_as_lww_R2", .hub.as_lww = 1u << POLICY_COUNTER},
	{.name = "merge_a_set_as_lww_R2", .hub.as_lww = 1u << POLICY_SET},
	{.name = "merge_a_maximum_as_lww", .hub.as_lww = 1u << POLICY_MAX},
	{.name = "let_any_step_pass_a_guard", .hub.as_lww = 1u << POLICY_GUARD},
	{.name = "let_the_later_win_what_is_to_be_reviewed", .hub.as_lww = 1u << POLICY_REVIEW},
	{.name = "show_a_pending_count_instead_of_its_difference_R2", .replica.hide_beneath = true},
	{.name = "send_what_the_hub_has_as_what_the_author_saw_R2", .replica.old_is_hubs = true},
	{.name = "wait_for_a_hub_s_clock_that_was_set_back", .replica.trust_hub_clock = true, .clocks = true},
};

static bool found(const struct planted *p, const struct sim_arguments *a)
{
	for (int i = 0; i < SEEDS_MAX; i++) {
		struct sim_options options = {.seed = a->seed + (uint64_t)i, .hub_faults = p->hub,
					      .replica_faults = p->replica,
					      .profile = p->schemas ? &profile_schemas : p->copies ? &profile_copies : p->clocks ? &profile_clocks : p->hours ? &profile_hour : &profile_busy};
		struct sim_outcome o = sim_run(&options);
		if (o.failed) {
			printf("found %s with seed %llu: %s\n", p->name, (unsigned long long)options.seed, o.failure);
			return true;
		}
	}
	printf("NOT FOUND within %d seeds from %llu: %s\n", SEEDS_MAX, (unsigned long long)a->seed, p->name);
	return false;
}

int main(int argc, char **argv)
{
	struct sim_arguments a = {.seed = 1};
	int missed = 0;
	if (!sim_arguments(argc, argv, &a))
		return 2;
	for (size_t i = 0; i < sizeof planted / sizeof *planted; i++)
		missed += !found(&planted[i], &a);
	return missed > 0;
}
