/* R18 in the hub's core: what waits for a row that a lost history had, and what waits behind it. */
#include "tests/unit/hub_core_fixture.h"

static void push_replay(int64_t number)
{
	struct change_set set = set_of(number);

	set.old_position = 90;
	push_set(1, &set);
}

static void push_behind(int64_t number, int64_t after, int64_t old_position)
{
	struct change_set set = set_of(number);

	set.after = &after;
	set.after_count = 1;
	set.old_position = old_position;
	push_set(1, &set);
}

static const struct settled *acked(int64_t number)
{
	const struct settled *found = NULL;

	for (uint32_t i = 0; i < w.links[1].count; i++) {
		const struct message *m = &w.links[1].messages[i];

		for (uint32_t k = 0; m->type == MESSAGE_ACK && k < m->ack.settled_count; k++) {
			if (m->ack.settled[k].number == number)
				found = &m->ack.settled[k];
		}
	}
	return found;
}

static void assert_acked(int64_t number, enum verdict verdict)
{
	assert_non_null(acked(number));
	assert_int_equal(acked(number)->verdict, verdict);
}

static void begin(void)
{
	w.devices[1].epoch_at = fx_wall(NULL);
	connect_at(1, 100);
	push_replay(1);
}

static void R18_what_comes_after_a_parked_replay_is_parked_and_others_go(void **state)
{
	(void)state;
	w.lacking = 1;
	begin();
	pass(hub_limits_default.heal_window_us);
	assert_acked(1, VERDICT_PARKED);
	push_behind(2, 1, 91);
	push_behind(3, 2, 0);
	push(1, 4);
	run();
	assert_acked(2, VERDICT_PARKED);
	assert_acked(3, VERDICT_PARKED);
	assert_acked(4, VERDICT_ACCEPTED);
	w.lacking = 0; /* somebody has brought the row back */
	push_replay(1);
	push_behind(2, 1, 91);
	push_behind(3, 2, 0);
	pass(2 * hub_limits_default.heal_window_us);
	for (int64_t number = 1; number < 4; number++)
		assert_acked(number, VERDICT_ACCEPTED);
}

static void R18_a_refused_replay_holds_nothing_up(void **state)
{
	(void)state;
	w.refused = 1;
	begin();
	push_behind(2, 1, 0);
	pass(2 * hub_limits_default.heal_window_us);
	assert_acked(1, VERDICT_REJECTED);
	assert_acked(2, VERDICT_ACCEPTED);
}

static void push_on_lost(int64_t number, int64_t base)
{
	struct change_set set = set_of(number);

	set.base_position = base;
	set.lost_from = 80;
	push_set(1, &set);
}

/* Also where the device has no replay of its own. */
static void R18_what_is_new_and_was_made_on_lost_rows_waits_for_them(void **state)
{
	(void)state;
	w.devices[1].epoch_at = fx_wall(NULL);
	connect_at(1, 100);
	w.lacking = 1;
	push_on_lost(1, 80);
	run();
	assert_null(acked(1)); /* replays of other devices are gathered */
	pass(hub_limits_default.heal_window_us);
	assert_acked(1, VERDICT_PARKED);
}

static void R18_what_was_made_on_rows_that_the_hub_has_is_judged_at_once(void **state)
{
	(void)state;
	w.devices[1].epoch_at = fx_wall(NULL);
	connect_at(1, 100);
	w.lacking = 1;
	push_on_lost(1, 79);
	run();
	assert_acked(1, VERDICT_ACCEPTED);
}

static void R18_nothing_is_parked_when_the_time_for_that_is_over(void **state)
{
	(void)state;
	w.devices[1].epoch_at = fx_wall(NULL) - hub_limits_default.heal_park_us;
	connect_at(1, 100);
	w.lacking = 1;
	push_on_lost(1, 80);
	run();
	assert_acked(1, VERDICT_ACCEPTED); /* as the store judges it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(R18_what_comes_after_a_parked_replay_is_parked_and_others_go),
		T(R18_a_refused_replay_holds_nothing_up),
		T(R18_what_is_new_and_was_made_on_lost_rows_waits_for_them),
		T(R18_what_was_made_on_rows_that_the_hub_has_is_judged_at_once),
		T(R18_nothing_is_parked_when_the_time_for_that_is_over),
	};

	return cmocka_run_group_tests_name("hub_parks", tests, NULL, NULL);
}
