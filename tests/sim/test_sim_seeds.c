/* Seeds that once failed, each a run of its own. What a seed does changes with the simulator; so
 * the cause has a test of its own besides, named here. */
#include <stdio.h>

#include "tests/sim/sim_world.h"

struct known {
	const struct sim_profile *profile;
	uint64_t seed;
	const char *what;
	bool sqlite;
};

static const struct known known[] = {
	/* test_replica_rules: P10_an_edit_that_was_made_before_the_clock_was_set_is_stamped_by_the_clock_of_then */
	{&profile_hour, 50364, "a clock is set between an edit and the look at it", false},
	/* test_sim_judge: an_empty_scope_that_is_being_filled_is_not_taken_as_arrived */
	{&profile_busy, 100098, "a row moves into a scope that was empty and is being filled", false},
	/* the simulator called it quiet before a hub had looked who has other scopes */
	{&profile_clocks, 1592, "a device gets other scopes in the last moment", false},
	/* test_merge_copies: R4_P10_of_two_copies_edits_of_a_row_that_one_of_them_pushed_the_later_stands */
	{&profile_copies, 2138, "a copy edits a row that it made and another copy pushed", false},
	/* test_sim_judge: what_a_copy_deleted_before_anybody_heard_of_it_may_come_from_the_original */
	{&profile_copies, 3107, "a row is copied, pushed by the original, and deleted in the copy, all before the copy's first cut", false},
	/* test_sim_judge: what_waits_before_a_kept_change_set_is_shown */
	{&profile_copies, 10668, "what waits in a copy was written before what is kept aside", false},
	{&profile_copies, 10683, "a deletion is kept aside, and the insertion before it waits", false},
	/* test_sim_judge: what_a_copy_holds_is_refused_with_the_same_of_the_original */
	{&profile_copies, 12612, "what two copies hold is refused for one of them", false},
	/* test_heal_edits: R18_... */
	{&profile_restores, 306, "a device edits a row that only the lost history had", true},
	{&profile_restores, 314, "a row is edited again while an earlier edit waits for another row", true},
	/* test_merge_gaps; test_heal_twice: P5_... */
	{&profile_restores, 353, "a hub is restored twice, and a device was away between", true},
	/* test_replica_migrate: P5_joined_edits_that_are_refused_as_a_column_is_dropped_keep_what_it_held */
	{&profile_schemas, 5, "joined edits are refused by the commit that drops a column of theirs", true},
	/* test_replica_migrate: P6_edit_of_which_a_dropped_column_leaves_nothing_neither_waits_nor_makes_others_wait */
	{&profile_schemas, 386, "an edit lies on one that a dropped column emptied, whose transaction waits", true},
	{&profile_schemas, 652, "an edit that a dropped column emptied lies on one that waits", true},
	/* the judge wanted order after what had been refused */
	{&profile_restores, 2177, "a replay was refused in the lost history, and an edit builds on it", true},
};

int main(int argc, char **argv)
{
	int failures = 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		struct sim_arguments a = {.seed = known[i].seed, .runs = 1};
		struct sim_options options = {.profile = known[i].profile, .sqlite = known[i].sqlite};
		char *unused[] = {argv[0], NULL};
		if (argc > 1 || !sim_arguments(1, unused, &a))
			return 2;
		a.seed = known[i].seed; /* whatever the environment wants of others */
		a.runs = 1;
		a.profile = known[i].profile;
		failures += sim_run_many(&a, options, known[i].what);
	}
	return failures;
}
