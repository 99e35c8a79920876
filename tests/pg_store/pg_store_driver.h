/* What the cases of pg-store-driver share: the store under test, two tenants in a database of the
 * case's own, change-sets of one row, and what the store answered. One case runs in a process, so
 * all of it is global and ends with the program. */
#ifndef FERRY_TESTS_PG_STORE_DRIVER_H
#define FERRY_TESTS_PG_STORE_DRIVER_H

#include <stdio.h>
#include <stdlib.h>

#include "hub/pg_admin.h"
#include "hub/pg_store.h"
#include "tests/lib/poll_io.h"

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

#define DEADLINE_US 20000000

extern struct poll_io poll_state;
extern struct pg_io io;
extern struct pg_admin *admin; /* a superuser's session */
extern const char *hub_conninfo, *admin_conninfo;
extern struct uuid tenant_a, tenant_b;
extern const struct hub_schema *schema; /* of tenant_a, as store_open read it */
extern uint32_t lock_timeout_ms; /* of stores opened from now on */
extern int64_t stage_bytes_max;  /* the same, of a device; 0: as ever */

#define ROWS_KEEP 4096
struct seen_row {
	char scope[80];
	uint32_t table;
	enum row_op op;
	struct uuid key;
	uint16_t nums[FERRY_COLUMNS_MAX];
	struct value cells[FERRY_COLUMNS_MAX];
	uint16_t column_count;
};

/* How the last merge ended. */
extern struct merged {
	bool done;
	enum ferry_error error;
	struct merge_result results[256];
	char sentences[256][400];
	uint32_t count;
} merged;

/* What the last feed brought. */
extern struct fed {
	bool done;
	enum ferry_error error;
	int64_t from, to, mark;
	uint32_t frame_count, settled_count, sum_count;
	size_t largest;
	struct seen_row *rows;
	uint32_t row_count;
	struct feed_settled settled[64];
	struct conflict conflicts[64][8];
	char sum_scopes[64][80];
	struct scope_sum sums[64];
	uint64_t sum_values[64][FERRY_COLUMNS_MAX];
	struct arena arena;
} fed;

/* A change-set of one row, up to 8 columns; lives as long as the program. */
struct small_set {
	struct small_set *older;
	struct change_set set;
	struct block block;
	uint16_t nums[8];
	struct value cells[8];
	struct uuid key;
	int64_t depends;
	struct uuid cell_uuid;
};

/* An id that ends in n. */
struct uuid id_of(unsigned n);
/* A statement of a session, and one of `admin`; both end the program with its error. */
void sql_as(struct pg_admin *a, const char *statement);
void sql(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The first cell of a query as superuser, "(none)", "(null)"; owned until the next call. */
const char *ask(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says on stderr what it got when the two differ. */
bool is(const char *got, const char *want);
/* Written; owned for the next eight calls. */
const char *text_of(const struct uuid *id);
/* A superuser connection of its own; pg_admin_close. */
struct pg_admin *another_session(void);
/* Turns the loop until *done, or the deadline ends the program. */
void wait_for(const bool *done);
/* Starts a merge; its end is in `merged`. */
void merge_start(struct pg_store *s, const struct uuid *tenant, const struct merge_item *items, uint32_t count);
/* The same to its end, which must be FERRY_OK. */
void merge(struct pg_store *s, const struct uuid *tenant, const struct merge_item *items, uint32_t count);
/* The changes after `from`, into `fed`. */
void feed(struct pg_store *s, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t count);
/* NULL: `fed` has none. */
const struct seen_row *fed_row(uint32_t table, const struct uuid *key);
/* The answer to the store's schema call: table_named and num_of look there from then on. ctx: a bool that is set. */
void on_schema(void *ctx, enum ferry_error e, const struct hub_schema *s);
/* Opens the store and reads the schema of tenant_a; pg_store_close. */
struct pg_store *store_open(void);
/* A table that there is. */
const struct schema_table *table_named(const char *name);
uint16_t num_of(const char *table, const char *column);
struct value text(const char *s);
/* A change-set of one row without cells. */
struct small_set *set_new(int64_t number, int64_t base, const char *table, enum row_op op, struct uuid key);
/* Columns may come in any order. */
void set_cell(struct small_set *s, const char *table, const char *column, struct value v);
struct merge_item item(struct uuid device, const struct small_set *s);
struct small_set *new_unit(int64_t number, struct uuid key, const char *code, const char *title);
struct small_set *retitle(int64_t number, int64_t base, struct uuid key, const char *title);
/* Enrols device n; scopes: a list with commas. */
struct uuid device_new(unsigned n, const struct uuid *tenant, const char *scopes);
/* Says on stderr what item i got instead. */
bool verdict_is(uint32_t i, enum verdict v, int code);
bool accepted(uint32_t i);

/* cases_settle.c */
void repeated_change_set_takes_effect_once(void);
void P5_what_a_copy_pushes_in_a_life_that_is_over_is_not_settled(void);
void R6_settled_numbers_above_a_gap_are_kept_as_a_set(void);
void R6_attempts_that_are_refused_settle_nothing(void);
void R6_dependant_of_a_refused_one_is_refused(void);
void R6_dependant_waits_for_one_that_is_not_settled(void);
void one_bad_among_many_costs_the_others_nothing(void);
void many_rows_leave_the_planning_of_triggers_alone(void);
void many_rows_are_read_by_what_is_written(void);
void each_constraint_gives_its_code(void);
void own_edits_in_a_row_do_not_conflict(void);
void R7_staged_parts_merge_as_one(void);
void staged_one_that_meets_a_value_names_the_row_whatever_is_behind(void);
void R6_R7_staged_one_that_builds_on_a_refused_one_is_refused(void);
void P3_R7_parts_of_two_copies_of_a_device_are_never_joined(void);
void P6_what_the_hub_has_no_room_for_is_refused_and_others_flow_on(void);
void R18_one_that_waits_on_its_device_is_not_counted_as_settled_with_the_others(void);
void R6_two_hubs_cannot_settle_the_same_number(void);
void key_of_another_tenant_is_refused(void);
void applied_verdicts_are_forgotten(void);

/* cases_locks.c */
void R12_rows_held_by_somebody_wait_alone(void);
void R11_deferred_violation_is_refused_alone(void);
void R10_lock_timeout_is_retried(void);
void R10_deadlock_is_retried(void);
void R10_locks_that_do_not_pass_hold_the_change_set_back(void);
void P2_killed_connection_loses_and_doubles_nothing(void);

/* cases_scopes.c */
void P7_tenants_are_kept_apart(void);
void P7_rows_outside_the_scopes_are_refused(void);
void P7_rows_that_another_device_makes_in_the_same_batch_are_judged_by_the_scope_they_come_to(void);
void P7_rows_that_another_device_moves_in_the_same_batch_are_judged_by_the_scope_they_come_to(void);
void P7_edits_of_rows_that_another_device_s_replay_makes_in_the_same_batch_are_judged_once_written(void);
void moved_rows_leave_one_scope_and_enter_the_other(void);

/* cases_feed.c */
void R8_cells_changed_by_a_trigger_belong_to_the_hub(void);
void R20_feed_gives_only_what_changed(void);
void global_rows_come_with_every_tenants_feed(void);
void R20_no_position_is_passed_before_it_is_visible(void);
void every_type_makes_the_round_trip(void);
void R15_fill_pages_cover_a_scope_in_key_order(void);
void oversized_rows_hold_up_nobody(void);

/* cases_store.c */
void device_and_its_bookmark_are_known(void);
void changed_schema_is_noticed(void);
void no_database_is_an_answer(void);
void role_is_checked_at_start(void);

#endif
