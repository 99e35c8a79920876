/* A seed is the run: played twice, and with other runs between, it does the same, with the model's
 * replicas and with those on SQLite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/sim/sim_world.h"

static struct sim_outcome play(const struct sim_profile *profile, bool sqlite, uint64_t seed)
{
	struct sim_options options = {.seed = seed, .profile = profile, .busy_us = 30 * (int64_t)SIM_S, .sqlite = sqlite};
	return sim_run(&options);
}

static void plays_the_same(const struct sim_profile *profile, bool sqlite)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct sim_outcome first = play(profile, sqlite, seed);
		(void)play(&profile_busy, true, seed + 100);
		struct sim_outcome again = play(profile, sqlite, seed);
		assert_false(first.failed);
		assert_true(first.counts.edits > 0);
		assert_true(first.counts.settled > 0);
		assert_int_equal(first.events, again.events);
		assert_int_equal(first.virtual_us, again.virtual_us);
		assert_memory_equal(&first.counts, &again.counts, sizeof first.counts);
		assert_memory_equal(first.troubles, again.troubles, sizeof first.troubles);
	}
}

static void a_seed_on_the_model_plays_the_same_again(void **state)
{
	(void)state;
	plays_the_same(&profile_copies, false);
}

static void a_seed_on_SQLite_plays_the_same_again(void **state)
{
	(void)state;
	plays_the_same(&profile_restores, true);
	plays_the_same(&profile_copies, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_seed_on_the_model_plays_the_same_again),
		cmocka_unit_test(a_seed_on_SQLite_plays_the_same_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
