/* R21: what the checksums find is kept and shown; where the hub cannot compare it is healed by a fill. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sqlite3.h>

#include "agent/replica_repair.h"
#include "agent/replica_would.h"
#include "tests/unit/replica_fixture.h"

#define HOUR_US INT64_C(3600000000)

/* As a fault would: no trigger notes it. */
static void corrupt(struct fixture *f, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 2000);
	assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_changes(db), 1);
	sqlite3_close(db);
}

static bool asks_for_a_fill(struct fixture *f)
{
	struct message_hello hello = {0};
	bool due = replica_store_ops.heal_due(f->r);

	assert_ok(replica_store_ops.hello(f->r, &hello, &fixture_why));
	assert_true(hello.refill == due);
	return due;
}

static void fill_again_whole(struct fixture *f)
{
	fixture_welcome(f, WELCOME_FILL);
	fill_rows(f, 0, f->row_count);
	assert_ok(hub_commit(f, true, f->position));
}

/* The hub changes the cell that is wrong: the running sum parts from the hub's. */
static void corrupt_and_change(struct fixture *f, const char *value)
{
	corrupt(f, "UPDATE units SET code = 'rot' WHERE code = (SELECT code FROM units ORDER BY id LIMIT 1) "
		   "AND id = (SELECT id FROM units ORDER BY id LIMIT 1)");
	hub_write(f, 1, "code", value);
	assert_ok(hub_commit(f, false, f->applied));
}

static void R21_a_corrupt_value_is_noticed_and_a_fill_heals_it(void **state)
{
	struct fixture *f = *state;

	assert_false(asks_for_a_fill(f));
	app(f, "UPDATE units SET floor = 4 WHERE id = '%s'", unit(2));
	corrupt_and_change(f, "B");
	assert_true(f->report.sums_checked);
	assert_false(f->report.sums_match);
	assert_says(f, "1", "SELECT mismatches FROM ferry_status");
	assert_says(f, "column code", "SELECT what FROM ferry_mismatch WHERE \"table\" = 'units' AND healed_at IS NULL");
	assert_true(asks_for_a_fill(f));
	fill_again_whole(f);
	assert_true(f->report.sums_match);
	assert_says(f, "0", "SELECT mismatches FROM ferry_status");
	assert_says(f, "1", "SELECT count(*) FROM ferry_mismatch WHERE healed_at IS NOT NULL");
	assert_says(f, "B", "SELECT code FROM units WHERE id = '%s'", unit(1));
	assert_says(f, "4", "SELECT floor FROM units WHERE id = '%s'", unit(2)); /* unsent, and kept */
	assert_false(asks_for_a_fill(f));
	sync_all(f);
	assert_proof(f);
}

static void R21_the_same_scope_is_filled_again_after_an_hour_at_the_earliest(void **state)
{
	struct fixture *f = *state;

	corrupt_and_change(f, "B");
	assert_true(asks_for_a_fill(f));
	fixture_welcome(f, WELCOME_FILL); /* cut off: it is not asked for twice */
	assert_false(asks_for_a_fill(f));
	fill_again_whole(f);
	corrupt_and_change(f, "C");
	assert_says(f, "1", "SELECT mismatches FROM ferry_status"); /* never silent */
	assert_false(asks_for_a_fill(f));
	f->wall += HOUR_US - 1000000;
	assert_false(asks_for_a_fill(f));
	f->wall += 2000000;
	assert_true(asks_for_a_fill(f));
	f->wall -= 100 * HOUR_US; /* a clock that is set back does not put it off for ever */
	assert_true(asks_for_a_fill(f));
}

static void R21_the_proof_finds_what_no_running_sum_can_see(void **state)
{
	struct fixture *f = *state;
	char detail[160];
	bool match = true;

	corrupt(f, "UPDATE units SET code = 'rot' WHERE id = (SELECT id FROM units ORDER BY id LIMIT 1)");
	hub_delete(f, 5); /* of another row */
	assert_ok(hub_commit(f, false, f->applied));
	assert_true(f->report.sums_match);
	assert_false(asks_for_a_fill(f));
	assert_ok(replica_checksum_recompute(f->r, &match, detail, &fixture_why));
	assert_false(match);
	assert_string_equal(detail, "units: column code");
	assert_says(f, "1", "SELECT mismatches FROM ferry_status");
	assert_true(asks_for_a_fill(f));
	fill_again_whole(f);
	assert_says(f, "0", "SELECT mismatches FROM ferry_status");
	assert_proof(f);
}

#define WITHOUT_DIFFERENCES "ALTER TABLE ferry_rejected DROP COLUMN differences; "
#define WITHOUT_LAYOUT WITHOUT_DIFFERENCES "ALTER TABLE ferry_state DROP COLUMN layout; "
#define WITHOUT_CARRIED \
	WITHOUT_LAYOUT "DROP INDEX ferry_change_set_carried; DROP VIEW ferry_status; DROP VIEW ferry_outbox; " \
	"CREATE VIEW ferry_outbox AS SELECT number FROM ferry_pending; CREATE VIEW ferry_status AS SELECT position FROM ferry_state; "
#define WITHOUT_VERDICTS WITHOUT_CARRIED "DROP TABLE ferry_verdict; "
#define WITHOUT_OFFERED WITHOUT_VERDICTS "ALTER TABLE ferry_state DROP COLUMN offered; "
#define WITHOUT_NAME WITHOUT_OFFERED "ALTER TABLE ferry_member_fill RENAME TO ferry_fill_member; "
#define WITHOUT_FIRST WITHOUT_NAME "ALTER TABLE ferry_kept DROP COLUMN first_position; "
#define WITHOUT_SCOPES WITHOUT_FIRST "ALTER TABLE ferry_scope DROP COLUMN filling; "
#define WITHOUT_FORMER WITHOUT_SCOPES "DROP TABLE ferry_former; DROP TABLE ferry_former_value; "
#define WITHOUT_MERGE \
	WITHOUT_FORMER "ALTER TABLE ferry_rejected DROP COLUMN other; DROP TABLE ferry_repair; " \
	"CREATE TABLE ferry_repair(id INTEGER PRIMARY KEY, action TEXT NOT NULL, conflict INTEGER, rejected INTEGER, " \
	"asked_at TEXT NOT NULL DEFAULT '', done_at TEXT, error TEXT, kept TEXT, CHECK(action IN ('retry', 'discard'))) STRICT; " \
	"CREATE INDEX ferry_repair_due ON ferry_repair(id) WHERE done_at IS NULL; "
#define WITHOUT_HISTORY \
	WITHOUT_MERGE "DROP VIEW ferry_status; CREATE VIEW ferry_status AS SELECT position FROM ferry_state; " \
	"DROP TABLE ferry_kept; DROP TABLE ferry_kept_part; DROP TABLE ferry_bookmark; DROP TABLE ferry_lost; DROP TABLE ferry_life; " \
	"ALTER TABLE ferry_state DROP COLUMN life; ALTER TABLE ferry_state DROP COLUMN life_mark; " \
	"ALTER TABLE ferry_state DROP COLUMN kept_bytes; ALTER TABLE ferry_state DROP COLUMN forgotten; " \
	"ALTER TABLE ferry_state DROP COLUMN rewound; ALTER TABLE ferry_change_set DROP COLUMN lost_from; "
#define WITHOUT_LEASES \
	WITHOUT_HISTORY "ALTER TABLE ferry_column DROP COLUMN lease; DROP VIEW ferry_number; DROP TABLE ferry_lease; "
#define WITHOUT_WAITS \
	WITHOUT_LEASES "DROP VIEW ferry_outbox; DROP VIEW ferry_status; DROP TABLE ferry_parked; DROP TABLE ferry_depends; " \
	"CREATE VIEW ferry_outbox AS SELECT number FROM ferry_pending; CREATE VIEW ferry_status AS SELECT position FROM ferry_state; "
#define WITHOUT_PLACE WITHOUT_WAITS "DROP TABLE ferry_schema; ALTER TABLE ferry_column DROP COLUMN filled; "
#define WITHOUT_REPAIRED WITHOUT_PLACE "DROP TABLE ferry_repaired; "
#define WITHOUT_FAR_VALUES \
	WITHOUT_REPAIRED "DROP TRIGGER ferry_rejected_gone; DROP TABLE ferry_rejected_value; ALTER TABLE ferry_conflict DROP COLUMN values_at_hub; "
#define WITHOUT_POLICIES WITHOUT_FAR_VALUES "DROP TABLE ferry_seen; ALTER TABLE ferry_column DROP COLUMN policy; "
#define WITHOUT_REPAIR \
	"DROP TABLE ferry_repair; ALTER TABLE ferry_rejected DROP COLUMN pushed; ALTER TABLE ferry_rejected DROP COLUMN blocked_by; "

static void a_replica_of_the_second_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_POLICIES WITHOUT_REPAIR "PRAGMA user_version = 2", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT count(pushed) + count(blocked_by) FROM ferry_rejected");
	assert_says(f, "0", "SELECT count(*) FROM ferry_repair");
}

static void a_replica_of_the_third_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_POLICIES "PRAGMA user_version = 3", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_seen");
	assert_says(f, "0", "SELECT sum(policy) FROM ferry_column");
}

static void a_replica_of_the_fourth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_FAR_VALUES "PRAGMA user_version = 4", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_rejected_value");
	assert_says(f, "0", "SELECT count(values_at_hub) FROM ferry_conflict");
}

static void a_replica_of_the_twelfth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_SCOPES "PRAGMA user_version = 12", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "1", "SELECT count(*) FROM ferry_scope WHERE held AND NOT filling");
}

/* Whatever it has may have been pushed by the version before. */
static void a_replica_of_the_fifteenth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET floor = 3 WHERE id = '%s'", unit(1));
	cut(f);
	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_OFFERED "PRAGMA user_version = 15", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "1", "SELECT offered FROM ferry_state");
}

static void a_replica_of_the_sixteenth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_VERDICTS "PRAGMA user_version = 16", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_verdict");
}

static void a_replica_of_the_seventeenth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_CARRIED "DROP TRIGGER ferry_tx_insert; CREATE TRIGGER ferry_tx_insert INSTEAD OF INSERT ON ferry_tx "
				"BEGIN SELECT 1; END; PRAGMA user_version = 17", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "1", "SELECT sql LIKE '%%ferry_log%%' FROM sqlite_master WHERE name = 'ferry_tx_insert'");
	assert_says(f, "1", "SELECT layout = user_version FROM ferry_state, pragma_user_version");
}

/* Libraries that migrate apps' own tables count in user_version. */
static void user_version_and_application_id_are_for_apps_to_set(void **state)
{
	static const int versions[] = {0, 1, 3, 17, 99};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(versions) / sizeof(*versions); i++) {
		char sql[80];

		replica_close(f->r);
		f->r = NULL;
		snprintf(sql, sizeof(sql), "PRAGMA user_version = %d; PRAGMA application_id = 7", versions[i]);
		assert_ok(replica_query(f->path, sql, false, NULL, NULL, &fixture_why));
		fixture_open(f);
		snprintf(sql, sizeof(sql), "%d", versions[i]);
		assert_says(f, sql, "PRAGMA user_version");
		assert_says(f, "1", "SELECT count(*) FROM ferry_status");
	}
}

static void a_replica_of_the_eighteenth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	app(f, "UPDATE units SET floor = 3 WHERE id = '%s'", unit(1));
	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_CARRIED "PRAGMA user_version = 18", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "1", "SELECT count(*) FROM ferry_outbox");
	assert_says(f, "1", "SELECT waiting_rows FROM ferry_status");
	sync_all(f);
	assert_says(f, "0", "SELECT waiting_rows FROM ferry_status");
}

static void unexpected_write(void *ctx, const struct would_write *w)
{
	(void)ctx;
	fail_msg("%s is written", w->table);
}

static void a_replica_of_the_twentieth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;
	struct would_ask repair = {.action = "retry", .number = 1};
	int done;

	app(f, "UPDATE units SET floor = 3 WHERE id = '%s'", unit(1));
	sync_all(f);
	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_DIFFERENCES "UPDATE ferry_kept SET at = 1; UPDATE ferry_state SET layout = 20; PRAGMA user_version = 20", false, NULL, NULL, &fixture_why));
	assert_int_equal(replica_would(f->path, 1000, &repair, unexpected_write, NULL, &fixture_why), FERRY_USAGE);
	assert_non_null(strstr(fixture_why.text, "an agent that starts brings it up to date"));
	assert_ok(replica_query(f->path, "INSERT INTO ferry_repair(action, rejected) VALUES ('retry', 1)", false, NULL, NULL, &fixture_why));
	assert_int_equal(replica_repair(f->path, 1000, &done, &fixture_why), FERRY_USAGE);
	fixture_open(f);
	assert_says(f, "1", "SELECT count(*) FROM ferry_repair WHERE done_at IS NULL"); /* it stays asked for */
	assert_says(f, "0", "SELECT count(differences) FROM ferry_rejected");
	assert_says(f, "1", "SELECT count(*) FROM ferry_kept JOIN ferry_state ON at = commit_clock AND at > 1"); /* by the hub's clock now (P10) */
}

static void a_replica_of_the_tenth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_MERGE "INSERT INTO ferry_repair(id, action, rejected, done_at, kept) "
				"VALUES (7, 'discard', 3, 'then', '[]'); PRAGMA user_version = 10", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "7 discard 3 then []", "SELECT id || ' ' || action || ' ' || rejected || ' ' || done_at || ' ' || kept FROM ferry_repair");
	app(f, "INSERT INTO ferry_repair(action, rejected) VALUES ('merge', 9)");
	assert_says(f, "0", "SELECT count(other) FROM ferry_rejected");
}

static void a_replica_of_the_ninth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_HISTORY "PRAGMA user_version = 9", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT kept_sets + kept_bytes + forgotten + replays + lost FROM ferry_status");
}

static void a_replica_of_the_fifth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_REPAIRED "PRAGMA user_version = 5", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_repaired");
}

static void a_replica_of_the_sixth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_PLACE "PRAGMA user_version = 6", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT parked FROM ferry_status");
	assert_says(f, "0", "SELECT count(blocked_by) FROM ferry_outbox");
}

static void a_replica_of_the_eighth_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path, WITHOUT_LEASES "PRAGMA user_version = 8", false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT count(*) FROM ferry_number");
	assert_says(f, "0", "SELECT sum(lease) FROM ferry_column");
}

static void a_replica_of_the_first_layout_is_brought_up_to_date(void **state)
{
	struct fixture *f = *state;

	replica_close(f->r);
	f->r = NULL;
	assert_ok(replica_query(f->path,
				WITHOUT_POLICIES WITHOUT_REPAIR "DROP TABLE ferry_mismatch; ALTER TABLE ferry_conflict DROP COLUMN "
				"other_device; PRAGMA user_version = 1",
				false, NULL, NULL, &fixture_why));
	fixture_open(f);
	assert_says(f, "0", "SELECT mismatches FROM ferry_status");
	assert_says(f, "0", "SELECT count(other_device) + count(values_at_hub) FROM ferry_conflict");
	assert_says(f, "0", "SELECT count(*) FROM ferry_rejected_value");
	corrupt_and_change(f, "B");
	assert_true(asks_for_a_fill(f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		replica_test(R21_a_corrupt_value_is_noticed_and_a_fill_heals_it),
		replica_test(R21_the_same_scope_is_filled_again_after_an_hour_at_the_earliest),
		replica_test(R21_the_proof_finds_what_no_running_sum_can_see),
		replica_test(a_replica_of_the_first_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_second_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_third_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_fourth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_sixth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_eighth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_ninth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_tenth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_twelfth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_sixteenth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_seventeenth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_eighteenth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_twentieth_layout_is_brought_up_to_date),
		replica_test(user_version_and_application_id_are_for_apps_to_set),
		replica_test(a_replica_of_the_fifteenth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_fifth_layout_is_brought_up_to_date),
		replica_test(a_replica_of_the_sixth_layout_is_brought_up_to_date),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
