/* The feed and the fill in the hub's core. */
#include "tests/unit/hub_core_fixture.h"

/* --- the feed --- */

static void idle_write_reaches_the_others_without_any_timer(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	run(); /* time stands still */
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 1);
}

static void commits_of_others_are_found_by_the_poll(void **state)
{
	(void)state;
	connect_at(1, 100);
	w.position = 105;
	pass(2 * limits.poll_interval_us);
	assert_int_equal(next(1, MESSAGE_COMMIT)->commit.position, 105);
	assert_true(w.polls <= 3);
}

static void many_sessions_get_fewer_larger_states(void **state)
{
	(void)state;
	for (int d = 0; d < 100; d++)
		connect_at(d, 100);
	for (int64_t n = 1; n <= 50; n++) {
		push(1, n);
		pass(2 * MS);
	}
	pass(100 * MS);
	assert_int_equal(w.verdict_count, 50);
	/* 50 writes in 100 ms: a merge every 50 ms, and its state with it. */
	assert_in_range(count_of(2, MESSAGE_COMMIT), 3, 6);
	assert_in_range(w.merges, 2, 5);
	assert_int_equal(w.links[2].messages[w.links[2].count - 1].type, MESSAGE_COMMIT);
	assert_int_equal(w.links[2].messages[w.links[2].count - 1].commit.position, w.position);
}

static void slow_link_holds_only_its_cursor(void **state)
{
	(void)state;
	connect_at(1, 100);
	connect_at(2, 100);
	w.links[2].queued = 1 << 20;
	for (int64_t n = 1; n <= 20; n++) {
		push(1, n);
		run();
	}
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 20);
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 0);
	w.links[2].queued = 0;
	hub_core_drained(w.core, w.links[2].session);
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 1);
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 120);
}

static void session_behind_the_ring_catches_up_and_joins_it(void **state)
{
	struct hub_limits small = limits;

	(void)state;
	small.ring_bytes_max = 3000;
	new_limits(&small);
	w.frame_padding = 1000;
	connect_at(1, 100);
	connect_at(2, 100);
	w.links[2].queued = 1 << 20;
	for (int64_t n = 1; n <= 20; n++) {
		push(1, n);
		run();
	}
	w.links[2].queued = 0;
	hub_core_drained(w.core, w.links[2].session);
	run();
	assert_int_equal(count_of(2, MESSAGE_DELTA), 1);
	assert_int_equal(next(2, MESSAGE_DELTA)->delta.from, 100);
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 120);
	push(1, 21);
	run();
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 121);
}

static void frames_wait_for_the_devices_credit(void **state)
{
	struct message m = hello_message(2, 100);
	size_t before;

	(void)state;
	w.frame_padding = 4000;
	connect_at(1, 100);
	m.hello.credit_bytes = 5000;
	link_up(2);
	deliver(2, &m);
	run();
	take_greeting(2, 100);
	before = w.links[2].bytes;
	push(1, 1);
	run();
	push(1, 2);
	run();
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 1);
	assert_in_range(w.links[2].bytes - before, 2500, 5000);
	m = (struct message){.type = MESSAGE_CREDIT, .credit = {.bytes = w.links[2].bytes - before}};
	deliver(2, &m);
	run();
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 2);
	assert_int_equal(w.links[2].messages[w.links[2].count - 1].commit.position, 102);
}

static void credit_never_used_is_refused(void **state)
{
	struct message m = {.type = MESSAGE_CREDIT, .credit = {.bytes = 1 << 20}};

	(void)state;
	connect_at(1, 100);
	deliver(1, &m);
	assert_ended(1, FERRY_CREDIT);
}

static void applied_position_is_told_when_the_credit_has_come_back(void **state)
{
	struct message m = {.type = MESSAGE_CREDIT};

	(void)state;
	connect_at(1, 90);
	assert_int_equal(w.applied, 0);
	m.credit.bytes = 40;
	deliver(1, &m);
	assert_int_equal(w.applied, 0);
	/* What is left of delta and commit. */
	for (m.credit.bytes = 1; w.applied == 0 && w.links[1].open;)
		deliver(1, &m);
	assert_int_equal(w.applied, 100);
}

static void bookmark_moves_on_when_nothing_is_for_the_device(void **state)
{
	static const char *const only[] = {"user:77"};

	(void)state;
	w.devices[2].scopes = only;
	w.devices[2].scope_count = 1;
	connect_at(1, 100);
	connect_at(2, 100);
	push(1, 1);
	run();
	assert_int_equal(count_of(2, MESSAGE_COMMIT), 0);
	pass(3000 * MS);
	assert_int_equal(count_of(2, MESSAGE_DELTA), 0);
	assert_int_equal(next(2, MESSAGE_COMMIT)->commit.position, 101);
}

/* --- the fill --- */

static void ack_fills(int device)
{
	struct message m = {.type = MESSAGE_FILL_ACK, .fill_ack = {.table = 7}};
	uint32_t acked = 0;

	while (acked < count_of(device, MESSAGE_FILL)) {
		deliver(device, &m);
		acked++;
		run();
	}
}

static void empty_replica_is_filled_in_rank_order_and_closed_by_a_commit(void **state)
{
	const struct message *m;
	uint32_t tables[8];

	(void)state;
	connect_at(1, -1);
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_FILL);
	assert_int_equal(count_of(1, MESSAGE_FILL), 2); /* at most two under way */
	w.position = 104;
	ack_fills(1);
	assert_int_equal(count_of(1, MESSAGE_FILL), 8); /* 2 tables, 2 scopes, 2 chunks */
	for (int i = 0; i < 8; i++) {
		m = next(1, MESSAGE_FILL);
		tables[i] = m->fill.block.table;
		assert_int_equal(m->fill.position, 100);
	}
	assert_int_equal(tables[0], 7);
	assert_int_equal(tables[3], 7);
	assert_int_equal(tables[4], 3);
	m = next(1, MESSAGE_DELTA);
	assert_int_equal(m->delta.from, 100);
	m = next(1, MESSAGE_COMMIT);
	assert_true(m->commit.fill_done);
	assert_int_equal(m->commit.position, 104);
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 1);
	connect_at(2, 104);
	push(2, 1);
	run();
	assert_false(next(1, MESSAGE_COMMIT)->commit.fill_done);
}

static void empty_table_costs_no_message_and_no_stack(void **state)
{
	uint32_t first = 3, last = 7;

	(void)state;
	for (w.empty_table = first; w.empty_table <= last; w.empty_table += last - first) {
		int device = w.empty_table == first ? 1 : 2;

		w.fills = 0;
		connect_at(device, -1);
		ack_fills(device);
		assert_int_equal(w.fills, 2 + 4);
		assert_int_equal(count_of(device, MESSAGE_FILL), 4); /* the other table: 2 scopes, 2 chunks */
		for (int i = 0; i < 4; i++)
			assert_int_not_equal(next(device, MESSAGE_FILL)->fill.block.table, w.empty_table);
		assert_true(next(device, MESSAGE_COMMIT)->commit.fill_done);
	}
}

static void R15_unfinished_fill_goes_on_at_its_table(void **state)
{
	struct message m = hello_message(1, -1);
	const struct message *fill;

	(void)state;
	m.hello.epoch = (struct uuid){{0}}; /* no bookmark yet */
	m.hello.fill_position = 80;
	m.hello.fill_table = 3;
	m.hello.fill_after = id(4);
	m.hello.fill_scope = tenant_scope[1];
	m.hello.fill_scopes = tenant_scope;
	m.hello.fill_scope_count = 2;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_RESUME);
	fill = next(1, MESSAGE_FILL);
	assert_int_equal(fill->fill.block.table, 3);
	assert_int_equal(fill->fill.position, 80);
	assert_string_equal(fill->fill.scope, "tenant"); /* project:1 comes before it, and is staged */
	assert_int_equal(fill->fill.block.keys[0].b[0], 4);
	ack_fills(1);
	assert_int_equal(next(1, MESSAGE_DELTA)->delta.from, 80);
	assert_true(next(1, MESSAGE_COMMIT)->commit.fill_done);
}

/* The replica has the tenant's scope alone; project:1 was granted since. */
static struct message hello_without_the_project(int64_t position)
{
	struct message m = hello_message(1, position);

	m.hello.scopes = tenant_scope + 1;
	m.hello.scope_count = 1;
	return m;
}

static void R15_scope_that_comes_is_filled_beside_the_deltas_of_the_others(void **state)
{
	struct message m = hello_without_the_project(90);
	const struct link *l = &w.links[1];

	(void)state;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.scope_count, 2);
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.adding_count, 1);
	assert_string_equal(first(1, MESSAGE_WELCOME)->welcome.adding[0], "project:1");
	assert_false(first(1, MESSAGE_WELCOME)->welcome.adding_goes_on);
	assert_int_equal(first(1, MESSAGE_DELTA)->delta.from, 90);
	assert_false(first(1, MESSAGE_COMMIT)->commit.fill_done);
	assert_string_equal(first(1, MESSAGE_FILL)->fill.scope, "project:1");
	assert_int_equal(first(1, MESSAGE_FILL)->fill.position, 100);
	assert_int_equal(l->messages[l->count - 1].type, MESSAGE_FILL);
	ack_fills(1);
	assert_int_equal(count_of(1, MESSAGE_FILL), 4); /* 2 tables, 1 scope, 2 chunks */
	assert_int_equal(l->messages[l->count - 1].type, MESSAGE_COMMIT);
	assert_true(l->messages[l->count - 1].commit.fill_done);
}

static void fill_beside_that_ends_before_the_ring_moves_skips_nothing_of_the_others(void **state)
{
	struct message m = hello_without_the_project(100);

	(void)state;
	connect_at(2, 100); /* the ring stands at 100, and is behind what device 1 is told to be there */
	w.position = 110;
	w.nothing_to_fill = true;
	w.verdicts[w.verdict_count++] =
		(struct verdict_row){id(1), {.number = 1, .verdict = VERDICT_ACCEPTED, .position = 105}};
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(first(1, MESSAGE_WELCOME)->welcome.adding_count, 1);
	assert_true(first(1, MESSAGE_COMMIT)->commit.fill_done);
	assert_int_equal(first(1, MESSAGE_COMMIT)->commit.position, 110);
	assert_int_equal(first(1, MESSAGE_COMMIT)->commit.settled_count, 1);
	assert_int_equal(first(1, MESSAGE_DELTA)->delta.from, 100);
	assert_int_equal(first(1, MESSAGE_DELTA)->delta.to, 110);
}

static void R15_fill_beside_goes_on_with_the_same_scopes_only(void **state)
{
	struct message m = hello_without_the_project(90);

	(void)state;
	m.hello.fill_position = 80;
	m.hello.fill_table = 3;
	m.hello.fill_after = id(4);
	m.hello.fill_scope = tenant_scope[0];
	m.hello.fill_beside = true;
	m.hello.fill_scopes = tenant_scope;
	m.hello.fill_scope_count = 2; /* it was begun for others */
	link_up(1);
	deliver(1, &m);
	run();
	assert_false(first(1, MESSAGE_WELCOME)->welcome.adding_goes_on);
	assert_int_equal(first(1, MESSAGE_FILL)->fill.position, 100);
	m.hello.fill_scope_count = 1;
	link_up(2);
	deliver(2, &m);
	run();
	assert_true(first(2, MESSAGE_WELCOME)->welcome.adding_goes_on);
	assert_int_equal(first(2, MESSAGE_FILL)->fill.position, 80);
}

static void scope_that_went_is_not_filled_and_costs_no_fill(void **state)
{
	static const char *const more[] = {"project:1", "project:2", "tenant"};
	struct message m = hello_message(1, 90);

	(void)state;
	m.hello.scopes = more;
	m.hello.scope_count = 3;
	link_up(1);
	deliver(1, &m);
	run();
	assert_int_equal(next(1, MESSAGE_WELCOME)->welcome.mode, WELCOME_DELTA);
	assert_int_equal(count_of(1, MESSAGE_FILL), 0);
}

static void push_is_merged_while_the_replica_is_filled(void **state)
{
	const struct message *m;

	(void)state;
	connect_at(1, -1);
	push(1, 1);
	run();
	assert_int_equal(count_of(1, MESSAGE_ACK), 1);
	assert_int_equal(count_of(1, MESSAGE_COMMIT), 0);
	ack_fills(1);
	m = next(1, MESSAGE_COMMIT);
	assert_true(m->commit.fill_done);
	assert_int_equal(m->commit.settled_count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(idle_write_reaches_the_others_without_any_timer),
		T(commits_of_others_are_found_by_the_poll),
		T(many_sessions_get_fewer_larger_states),
		T(slow_link_holds_only_its_cursor),
		T(session_behind_the_ring_catches_up_and_joins_it),
		T(frames_wait_for_the_devices_credit),
		T(credit_never_used_is_refused),
		T(applied_position_is_told_when_the_credit_has_come_back),
		T(bookmark_moves_on_when_nothing_is_for_the_device),
		T(empty_replica_is_filled_in_rank_order_and_closed_by_a_commit),
		T(empty_table_costs_no_message_and_no_stack),
		T(R15_unfinished_fill_goes_on_at_its_table),
		T(R15_scope_that_comes_is_filled_beside_the_deltas_of_the_others),
		T(fill_beside_that_ends_before_the_ring_moves_skips_nothing_of_the_others),
		T(R15_fill_beside_goes_on_with_the_same_scopes_only),
		T(scope_that_went_is_not_filled_and_costs_no_fill),
		T(push_is_merged_while_the_replica_is_filled),
	};

	return cmocka_run_group_tests_name("hub_feed", tests, NULL, NULL);
}
