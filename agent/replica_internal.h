/* What the files agent/replica*.c share. agent/REPLICA.md explains the words:
 * entry, stack, confirmed, visible, target. Nobody else includes this.
 *
 * Inside a transaction failures are noted in the gate and checked at its end;
 * so most functions here return nothing. */
#ifndef FERRY_AGENT_REPLICA_INTERNAL_H
#define FERRY_AGENT_REPLICA_INTERNAL_H

#include "agent/replica.h"
#include "agent/sqlite_gate.h"
#include "protocol/row_pieces.h"
#include "shared/time_text.h"

enum target { TARGET_LIVE = 0, TARGET_FILL = 1 };

#define REPLICA_LAYOUT 21 /* of the file's own tables */
#define REPLICA_OTHER_LAYOUT "%s is of another version than this program: an agent that starts brings it up to date."
#define FILL_PREFIX "ferry_fill_" /* of staged tables */
#define MEMBER_COLUMNS \
	"(tbl INTEGER NOT NULL, key BLOB NOT NULL, scope INTEGER NOT NULL, PRIMARY KEY(tbl, key, scope)) STRICT, WITHOUT ROWID"

/* ferry_log.op: an operation and flags. */
enum entry_op {
	OP_NONE = 0,   /* holds the log's last seq, so that numbers never go back */
	OP_INSERT = 1,
	OP_UPDATE = 2,
	OP_DELETE = 3,
	OP_NOTE = 4,   /* a row that an INSERT of the same key may be replacing */
	OP_MARK = 5,   /* INSERT INTO ferry_tx: key = note, mask = base */
	OP_ASIDE = 6,  /* keeps the visible row of pending updates whose row has gone */
	OP_MASK = 7,
	OP_GONE = 8,   /* update, delete: the confirmed row beneath is absent */
	OP_HAD = 16,   /* insert: the confirmed row beneath is there; o0.. hold it */
	OP_MERGED = 32, /* made of several captured entries; columns to be compared again */
};

enum set_state {
	SET_BUILDING = 0, /* takes in captured entries */
	SET_COMPLETE = 1, /* ended; content not yet fixed */
	SET_READY = 2,    /* fixed: may be pushed */
	SET_SPLIT = 3,    /* refused and offered again under other numbers; remembered for its dependants */
	SET_CARRIED = 4,  /* settled; rows of it stay in sight until their scope is filled (replica_carry.c) */
};

enum split_level { SPLIT_NOT = 0, SPLIT_PAUSES = 1, SPLIT_ROWS = 2 };

/* Statements that read and set some of a table's columns, kept by which. A
 * feed's rows mostly change the same few; setting all rewrites every index. */
#define COLUMN_SETS_KEPT 4
struct column_set {
	uint64_t mask;
	sqlite3_stmt *select, *update;
};

struct side { /* a table as seen in one target */
	sqlite3_stmt *select, *insert, *remove;
	struct column_set sets[COLUMN_SETS_KEPT];
	uint32_t set_next; /* the one to give way */
	int64_t main_scope;    /* scope of the rows that ferry_member does not list; 0: none yet */
	int explicit_members;  /* -1 unknown, 0 ferry_member lists no row of the table, 1 it may */
};

struct table {
	const struct schema_table *t;
	uint64_t all;      /* mask of all columns */
	uint64_t writable; /* of those devices may write */
	uint64_t refs;     /* of those with a ref_table */
	uint64_t differs;  /* of those whose policy takes old values */
	struct side side[2];
};

struct model { /* a schema in memory */
	struct arena arena;
	struct schema schema;
	struct table *tables; /* as schema.tables */
};

enum fill_kind { /* ferry_state.fill_active */
	FILL_NONE = 0,
	FILL_ALL = 1,    /* of the whole replica: its tables are swapped at the end */
	FILL_BESIDE = 2, /* of scopes that a replica in force lacks: their rows are joined to it */
};

struct state { /* ferry_state, its only row */
	struct uuid incarnation, device, tenant, epoch, fill_after;
	int64_t position, mark, last_number, ingested, clock_offset, commit_clock;
	int64_t fill_position, fill_scope;
	int64_t life, life_mark;       /* copies of one device are told apart by them; 0: none yet */
	int64_t offered;               /* change-sets up to this number may have been pushed from this file */
	int64_t kept_bytes, forgotten; /* of the kept history; change-sets that fell out of it */
	uint32_t fill_table;
	enum fill_kind fill;
	int64_t rewound; /* R17: the rows are those of a history that the hub has lost, at this position; 0: they are not */
	uint64_t schema_hash;
};

struct sum { /* ferry_sum */
	int64_t scope;
	uint32_t table;
	enum target target;
	int64_t rows;
	bool dirty;
	int64_t compared; /* at this position with the hub's; not stored */
	uint64_t sums[FERRY_COLUMNS_MAX];
};

/* Statements with fixed text; see replica_sql.c. */
enum query {
	Q_STATE_LOAD, Q_STATE_SAVE, Q_LEASES_DUE, Q_LEASE_ADD, Q_LEASE_FORGET, Q_CUT_ANY, Q_LOG_ANY, Q_LOG_RAW, Q_LOG_GET, Q_LOG_DELETE, Q_LOG_NONE, Q_LOG_DROP_NONE, Q_LOG_MAX,
	Q_LOG_RANGE, Q_LOG_LISTED, Q_LOG_KEEP, Q_LOG_MASK, Q_LOG_MERGE, Q_LOG_MERGED, Q_PENDING_ADD, Q_PENDING_DELETE, Q_PENDING_LAST, Q_PENDING_STACK,
	Q_PENDING_BASE, Q_PENDING_NUMBER, Q_PENDING_ANY, Q_PENDING_ROWS, Q_SET_ADD, Q_SET_SAVE, Q_SET_GET, Q_SET_NEXT,
	Q_SET_BUILDING, Q_SET_COMPLETE, Q_SET_FIX, Q_SET_DELETE, Q_SET_AT, Q_SET_FORGET, Q_SET_CARRY, Q_SETS_CARRIED, Q_SET_INSERTS, Q_PARK_ADD, Q_PARK_NOTE, Q_PARK_DELETE, Q_DEPEND_ADD, Q_DEPEND_DELETE, Q_SPLIT_ADD, Q_SPLIT_DELETE,
	Q_PARENT, Q_SCOPE_ID, Q_SCOPE_NAME, Q_SCOPE_ADD, Q_SCOPES_HELD, Q_SCOPES_FILLING, Q_REJECT_ADD, Q_REJECT_OTHER, Q_REJECT_OF, Q_REJECT_LIFTED, Q_REJECT_VERDICT,
	Q_REJECT_LOCAL, Q_VERDICT_ADD, Q_VERDICT_CHANGE, Q_VERDICTS_TRIM, Q_NOTE_UNCUT, Q_NOTE_WAITS, Q_NOTE_VERDICT, Q_REPAIR_DUE, Q_WATCH_MARK, Q_WATCH_LEFT, Q_WATCH_REFUSED, Q_CONFLICT_ADD, Q_REJECT_VALUE, Q_SUM_SAVE, Q_FRAME_ADD, Q_FRAME_GET,
	Q_STATUS, Q_DATA_VERSION, Q_PENDING_FROM,
	Q_BOOKMARKS, Q_BOOKMARK_ADD, Q_BOOKMARK_DELETE, Q_BOOKMARKS_CUT,
	Q_KEPT_ADD, Q_KEPT_PART_ADD, Q_KEPT_PART_DELETE, Q_KEPT_DELETE, Q_KEPT_BACKED_UP, Q_KEPT_OLDEST, Q_KEPT_AGED,
	Q_KEPT_BODY, Q_KEPT_PART, Q_KEPT_GET, Q_KEPT_SETTLE, Q_KEPT_GAP, Q_KEPT_DUE, Q_KEPT_NOT_DUE, Q_KEPT_ABOVE, Q_KEPT_NEXT,
	Q_KEPT_REPLAY, Q_KEPT_LOST, Q_AFTER_GET, Q_AFTER_ADD, Q_SETS_ABOVE, Q_LIFE_MARKS, Q_LIFE_PROPOSE, Q_LIFE_FORGET,
	Q_LOST_CHAFF, Q_LOST_ROW_CHAFF, Q_LOST_ANY, Q_LOST_ROW, Q_LOST_DELETE, Q_LOST_ROW_THERE, Q_LOST_COUNT, Q_LOST_ADD,
	Q_RESTORED_GET, Q_RESTORED_ADD, Q_RESTORED_DELETE, Q_RESTORED_NEXT, Q_RESTORED_COUNT,
	Q_FORMER_ADD, Q_FORMER_GET, Q_FORMER_DUE, Q_FORMER_DELETE, Q_FORMER_VALUE_ADD, Q_FORMER_VALUE_GET, Q_FORMER_VALUE_DELETE,
	Q_SEEN_GET, Q_SEEN_ADD, Q_SEEN_DELETE,
	Q_MISMATCH_ADD, Q_MISMATCH_HEALED, Q_MISMATCH_TRIED, Q_MISMATCH_DUE, Q_MISMATCH_TRY, Q_MISMATCH_AGAIN, Q_MISMATCH_HEAL,
	Q_REPAIRED_ADD, Q_REPAIRED_TRIM, Q_SCOPE_HELD, Q_SCOPE_IS_HELD,
	Q_MEMBER_GET, Q_MEMBER_ADD, Q_MEMBER_DELETE, Q_MEMBER_ANY,
	Q_FILL_MEMBER_GET, Q_FILL_MEMBER_ADD, Q_FILL_MEMBER_DELETE, Q_FILL_MEMBER_ANY,
	Q_COUNT
};

struct number_list { /* sorted change-set numbers */
	int64_t *p;
	uint32_t count, capacity;
};

struct replica {
	struct gate g;
	struct replica_options options;
	sqlite3_stmt *q[Q_COUNT];
	sqlite3_stmt *log_insert, *log_update; /* depend on log_width */
	int log_width;                         /* columns o0.. of ferry_log */
	struct state st;
	struct model now, next;                /* next: in force with the end of the running fill; else no tables */
	struct sum *sums;
	uint32_t sum_count, sum_capacity;
	struct arena work;                     /* one row's, or one frame's */
	struct arena hello;                    /* the names in the last hello */
	struct arena frame_arena;
	struct message_delta *frames;
	uint32_t frame_count, frame_capacity;
	bool frames_spilled;
	struct row_joiner frame_row;           /* of the frames being applied: a row over several of them */
	struct row_joiner fill_row;            /* of a fill, over several messages */
	bool fill_row_whole;                   /* it is to be staged, however often that is tried */
	struct number_list removed;            /* entries of these sets go at the next rebase */
	struct number_list carried;            /* of these, too, but those of rows that are carried (replica_carry.c) */
	struct lost_row *lost;                 /* rows whose fate was decided against this device (replica_carry.c) */
	uint32_t lost_count, lost_capacity;
	bool scopes_lack;                      /* the hub has named scopes whose rows have yet to come */
	struct number_list after;              /* replays that the change-set being pushed comes after */
	bool replays_noted;                    /* rows of those pushed are in temp.ferry_after */
	int64_t data_version;
	int64_t commits; /* our own, counted */
	uint32_t triggers_restored; /* tables whose capture was made anew when the file was opened */
	uint64_t welcome_hash; /* of the hub's schema in this session; 0: none */
	int64_t hello_step; /* that it said at its beginning */
	size_t push_budget; /* of the last push */
	bool in_contact; /* welcomed: what is cut now is pushed, too */
	bool in_place; /* deltas follow: a schema that waits takes force with the first commit */
	int64_t past[FERRY_PAST_MAX], past_marks[FERRY_PAST_MAX]; /* for hello */
	int64_t tried[FERRY_LIFE_MARKS_MAX];   /* for hello: the last life's mark, and those proposed since */
	uint32_t tried_count;
	int64_t next_mark;                     /* of the life that begins with the next welcome; 0: not made yet */
	uint32_t fell_out;                     /* change-sets forgotten since somebody asked */
	int64_t looked_at, looked_offset;      /* the last look that left no edit: the hub's time, the offset; 0: none yet */
	int64_t lost_values;                   /* in ferry_lost, while a rewind is applied */
	int lost_any;                          /* -1 unknown, 0 ferry_lost is empty, 1 it may not be */
	const struct replica_news *news; /* NULL: nobody watches */
	void *news_ctx;
	struct heal *heal; /* a comparison with the hub; NULL: none */
	struct rewind *rewind; /* one of all rows, after a rewind (R17); NULL: none */
	bool restoring; /* rows of it are being applied */
	bool fill_rather; /* more of them differ than is worth comparing */
	bool refill; /* the next hello asks for a fill: the hub cannot compare */
	bool stray; /* a frame spoke of a row that is not there: the sums will tell */
};

/* A row as it stands somewhere: present, and its cells in order of columns. */
struct row {
	bool present;
	struct cell *cells;
};

struct entry { /* of ferry_log, in a stack */
	int64_t seq, number, at;
	int op;
	uint64_t mask;
	struct cell *old; /* all columns; NULL cells outside the mask */
	struct cell *fresh; /* what the edit made of them */
	bool carried;       /* settled, and stays all the same (carry_row) */
};

struct stack { /* a row with its pending edits, oldest first */
	struct row visible, confirmed;
	struct entry *entries;
	uint32_t count;
	bool had_aside;
};

struct set { /* ferry_change_set */
	int64_t number, first, last, base, at, rows, tc, origin;
	enum set_state state;
	bool joined, listed;
	enum split_level level;
	int64_t lost_from; /* bases from there on are of a history that the hub has lost (R17); 0: none are */
	uint64_t inserts; /* bit (table % 63): the set may insert rows of it */
	const char *note;
	int64_t *depends;
	uint32_t depends_count;
};

/* replica.c */
sqlite3_stmt *q(struct replica *r, enum query which);
enum ferry_error replica_begin(struct replica *r, struct ferry_why *why);
enum ferry_error replica_end(struct replica *r, struct ferry_why *why);
void state_load(struct replica *r);
int64_t replica_wall(struct replica *r);
extern const char *const replica_sql[Q_COUNT];
extern const char replica_ddl[], replica_upgrade_2[], replica_upgrade_3[], replica_upgrade_4[], replica_upgrade_5[],
	replica_upgrade_6[], replica_upgrade_7[], replica_upgrade_8[], replica_upgrade_9[], replica_upgrade_10[], replica_upgrade_11[],
	replica_upgrade_12[], replica_upgrade_13[], replica_upgrade_14[], replica_upgrade_15[],
	replica_upgrade_16[], replica_upgrade_17[], replica_upgrade_18[], replica_upgrade_19[],
	replica_upgrade_20[], replica_upgrade_21[];

/* replica_schema.c */
void model_load(struct replica *r, struct model *m, int gen);
void model_finalize(struct model *m); /* its statements */
void model_close(struct model *m);
void schema_store(struct replica *r, const struct schema *schema, int gen);
void schema_advance(struct replica *r); /* what waited is in force */
/* It cannot, unless e is what may be over at the next try: then the next hello asks for a fill. */
void schema_stays(struct replica *r, enum ferry_error e);
const char *column_type(enum column_kind kind);
struct table *model_table(const struct model *m, uint32_t number);
int table_column(const struct table *t, uint16_t num); /* index, or -1 */
void live_table_create(struct replica *r, const struct schema_table *t); /* without its triggers */
void triggers_create(struct replica *r, const struct schema_table *t);
void triggers_drop(struct replica *r, const struct schema_table *t);
/* Makes the triggers of tables anew that lack some, since a program dropped them. */
enum ferry_error triggers_restore(struct replica *r, struct ferry_why *why);
char *table_ddl(const struct schema_table *t, const char *prefix); /* sqlite3_free */
void log_widen(struct replica *r, const struct schema *schema);
struct model *target_model(struct replica *r, enum target target);
enum ferry_error replica_take_schema(void *store, const struct schema *schema, struct ferry_why *why);

/* replica_value.c */
bool cell_to_value(struct arena *a, enum column_kind kind, const struct cell *c, struct value *out, int *out_code);
struct cell value_to_cell(struct arena *a, enum column_kind kind, const struct value *v);
bool key_to_uuid(const struct cell *c, struct uuid *out);

/* replica_row.c */
bool row_read(struct replica *r, enum target target, struct table *t, const char *key, struct row *out);
/* Only the columns of mask; the other cells are NULL. */
bool row_read_some(struct replica *r, enum target target, struct table *t, const char *key, uint64_t mask,
		   struct row *out);
/* The old value of a column in the entry that s stands on. */
struct cell keep_of_log(struct replica *r, sqlite3_stmt *s, int column);
void row_write(struct replica *r, enum target target, struct table *t, const char *key, const struct row *before,
	       const struct row *after);
void stack_load(struct replica *r, struct table *t, const char *key, struct stack *out);
void stack_rebase(struct replica *r, enum target target, struct table *t, const char *key, struct stack *s,
		  const struct row *confirmed, const struct row *standing);
bool pending_exists(struct replica *r, const struct table *t, const char *key);
void entry_write(struct replica *r, const struct entry *e);
int64_t entry_append(struct replica *r, uint32_t table, const char *key, const struct entry *e);
void log_delete(struct replica *r, int64_t seq);
void entry_delete(struct replica *r, uint32_t table, const char *key, int64_t seq);
void row_rebase(struct replica *r, struct table *t, const char *key); /* after numbers were added to r->removed */

/* replica_carry.c: rows that were made in a scope which is on its way */
bool carry_greet(struct replica *r, const struct message_welcome *w); /* true: what is carried goes now (carry_end) */
/* Within a transaction, when all that was captured is ingested. */
void carry_end(struct replica *r);
void carry_begin(struct replica *r);                                   /* of the transaction that takes verdicts */
void carry_settled(struct replica *r, const struct settled *v);        /* one that was not refused */
void carry_forget(struct replica *r);                                  /* all that a transaction settled */
void carry_row(const struct replica *r, const struct table *t, const char *key, struct stack *s); /* tells entries that stay */
bool entry_settled(const struct replica *r, const struct entry *e);    /* the hub has its change-set */

/* replica_verdict.c; within the transaction that applies the verdict */
#define REPLICA_VERDICTS_MAX 10000
void verdict_keep(struct replica *r, const struct set *set, const struct settled *v, const char *sentence);
void verdict_change(struct replica *r, const struct settled *v);
void verdicts_trim(struct replica *r);

/* replica_lease.c: calls of the core */
uint32_t replica_leases_due(void *store, struct message_lease_ask *out);
enum ferry_error replica_take_lease(void *store, const struct message_lease *lease, struct ferry_why *why);

/* replica_policy.c; cells in r->work */
/* What the author of an entry saw in a column and made of it, where that is
 * not what the log and the stack say. False: it is, and nothing is set. */
bool policy_pair(struct replica *r, const struct table *t, int64_t seq, int column, struct cell *old, struct cell *fresh);
/* What an update's column comes to over `beneath`; for columns in t->differs. */
struct cell policy_over(struct replica *r, const struct table *t, const struct entry *e, int column,
			const struct cell *beneath);
void policy_forget(struct replica *r, uint32_t table, int64_t seq);

/* replica_sum.c */
/* A version-7 UUID in plain SQL of any SQLite since 3.38: 48 bits of
 * milliseconds since 1970, 74 random ones. 'now' is one instant within a
 * statement, so that both reads of it agree. */
#define MS_NOW_SQL "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
#define UUID_SQL \
	"printf('%08x-%04x-7%03x-%04x-%012x', " MS_NOW_SQL " >> 16, " MS_NOW_SQL " & 65535, random() & 4095, " \
	"32768 | (random() & 16383), random() & 281474976710655)"

/* As many as a device holds: a row may be in each because rows there refer to
 * it. So these are never copied or cleared whole. */
#define ROW_SCOPES_MAX FERRY_SCOPES_MAX
struct scopes {
	int64_t ids[ROW_SCOPES_MAX];
	int count;
};
void sums_load(struct replica *r);
void sums_save(struct replica *r);
struct sum *sum_of(struct replica *r, enum target target, int64_t scope, uint32_t table);
void sums_change(struct replica *r, enum target target, const struct table *t, const struct uuid *key,
		 const struct row *before, const struct scopes *scopes_before, const struct row *after,
		 const struct scopes *scopes_after);
int64_t scope_id(struct replica *r, const char *name);
bool scope_held(struct replica *r, int64_t id, char out_name[256]); /* does this device hold it? */
void scopes_get(struct replica *r, enum target target, struct table *t, const struct uuid *key, struct scopes *out);
void scopes_set(struct replica *r, enum target target, struct table *t, const struct uuid *key,
		const struct scopes *s);
bool scopes_have(const struct scopes *s, int64_t id);
void scopes_copy(struct scopes *to, const struct scopes *from);
void scopes_set_one(struct replica *r, enum target target, struct table *t, const struct uuid *key, int64_t scope);
void sums_compare(struct replica *r, const struct message_commit *c, struct store_commit_report *report);
void sums_swap(struct replica *r);
/* After a commit with the sums of all that is held: those of rows that the hub does not know. */
void sums_unmentioned(struct replica *r);
/* The cell hashes of a row, in the order of columns. */
void row_hashes(struct replica *r, const struct table *t, const struct uuid *key, const struct row *row, uint64_t *out);
uint64_t sum_hash(struct replica *r, const struct table *t, int column, const struct uuid *key, const struct cell *c);

/* replica_alarm.c */
void alarm_raise(struct replica *r, const char *scope, const char *table, int64_t position, const char *what);
void alarms_healed(struct replica *r); /* all of them, by a fill */
void alarms_tried(struct replica *r);  /* a fill begins */
bool alarm_due(struct replica *r);     /* is there one that may be healed now? */
#define ALARM_SCOPE_MAX 256
struct alarm { /* a row of ferry_mismatch; table "": all that is held is compared */
	char scope[ALARM_SCOPE_MAX], table[128], what[160];
};
bool alarm_next(struct replica *r, struct alarm *out); /* the one to heal now */
void alarm_try(struct replica *r, const struct alarm *a); /* an attempt begins */
void alarm_soon(struct replica *r, const struct alarm *a); /* the attempt was cut short: outside of transactions */
void alarm_healed(struct replica *r, const struct alarm *a);

/* replica_walk.c */
#define WALK_SLICE_ROWS 2000 /* in a transaction */
struct key_walk {
	sqlite3_stmt *keys; /* of one table */
	struct uuid after;  /* how far it came */
	bool fetched;       /* also keys of rows that were fetched after a rewind */
};
typedef void (*walk_cb)(struct replica *r, void *ctx, struct table *t, const struct uuid *key, const char *text);
/* Up to WALK_SLICE_ROWS keys above w->after, up to and with `to` (zero: the last);
 * *done grows by them. True: the range is at its end. Within a transaction. */
bool walk_slice(struct replica *r, struct key_walk *w, struct table *t, const struct uuid *to, walk_cb each, void *ctx,
		uint32_t *done);
void walk_end(struct key_walk *w); /* before another table */

/* replica_rewind.c */
bool rewind_possible(const struct replica *r); /* can its rows be compared, instead of filled anew? */
void rewind_prepare(struct replica *r);        /* in the transaction of a welcome */
enum ferry_error rewind_begin(struct replica *r, const struct message_welcome *w, struct ferry_why *why);
void rewind_forget(struct replica *r);         /* what was fetched; in a transaction */
void rewind_drop(struct replica *r);           /* the link is gone: what was fetched stays in the file */
bool rewind_ended(const struct replica *r);    /* all is compared: the hub may close it */
void rewind_apply(struct replica *r, struct store_commit_report *report); /* in the transaction of the commit that closes it */
enum ferry_error rewind_compare(struct replica *r, struct message_compare *out, bool *out_any);
enum ferry_error rewind_ranges(struct replica *r, const struct message_ranges *m, bool *out_more, struct ferry_why *why);

/* replica_compare.c */
enum ferry_error replica_compare(void *store, struct message_compare *out, bool *out_any, struct ferry_why *why);
enum ferry_error replica_ranges(void *store, const struct message_ranges *m, bool *out_more, struct ferry_why *why);
void heal_drop(struct replica *r);
/* Why the sums of all that is held are being compared; NULL: they are not. */
const char *heal_reason(const struct replica *r);
void heal_disconnected(struct replica *r);
bool heal_asked(const struct replica *r, uint32_t table, const struct uuid *key); /* the hub sends it because it differed */
void heal_report(struct replica *r, const struct table *t, const char *key, const struct row *before,
		 const struct row *after);

/* replica_cut.c */
enum ferry_error replica_cut(void *store, bool *out_more, struct ferry_why *why);
enum ferry_error cut_all(struct replica *r, struct ferry_why *why); /* in short transactions */
void cut_restamp(struct replica *r, int64_t hub_now);               /* P10: the clock turned out to be wrong */
void cut_rest(struct replica *r);                                   /* in the running one */
bool set_get(struct replica *r, sqlite3_stmt *s, struct set *out);  /* a row of ferry_change_set; depends in r->work */
void set_save(struct replica *r, const struct set *s);
void set_add(struct replica *r, struct set *s);                     /* gives it the next number */
sqlite3_stmt *set_entries(struct replica *r, const struct set *s, int64_t after); /* ferry_log.*, place, number */
bool number_list_add(struct number_list *l, int64_t number);
bool number_list_has(const struct number_list *l, int64_t number);

/* replica_push.c */
enum ferry_error replica_next_push(void *store, struct push_cursor *cursor, size_t budget_bytes, struct arena *arena,
				   struct message_push *out, struct ferry_why *why);
/* Gives the parts of a change-set as they stand, if they can be sent. */
void push_each(struct replica *r, int64_t number, void (*take)(struct replica *r, const struct change_set *set));

/* replica_push_parts.c: a change-set as it was pushed, part by part; false: it cannot
 * be read back, or `take` refused. */
bool push_parts(struct replica *r, const struct set *set, bool (*take)(void *ctx, const struct change_set *part), void *ctx);

/* replica_after.c: in the order in which change-sets are pushed */
void after_begin(struct replica *r, const struct push_cursor *cursor); /* cursor: as it is before the next one */
/* Fills in what the change-set comes after, and notes its rows where it is a
 * replay. False: no memory. */
bool after_name(struct replica *r, struct arena *arena, struct change_set *set);

/* replica_gap.c */
void gap_note(struct replica *r, int64_t since); /* the hub's history began there; 0: nothing is known */
bool gaps_name(struct replica *r, struct arena *arena, struct change_set *set); /* into the set; false: no memory */

/* replica_kept.c */
uint32_t bookmarks_thin(const int64_t *positions, uint32_t count, bool *keep); /* how many are kept */
void bookmark_note(struct replica *r);
uint32_t bookmarks_list(struct replica *r); /* they stand at the end of r->past */
void kept_add(struct replica *r, const struct set *set, const struct settled *v);
bool kept_settle(struct replica *r, const struct settled *v); /* false: it is not kept */
void kept_backed_up(struct replica *r, int64_t position);
void kept_trim(struct replica *r);
void kept_welcome(struct replica *r, const struct message_welcome *w);
void kept_rewind(struct replica *r, const struct message_welcome *w);
int64_t kept_next(struct replica *r, int64_t after); /* the next replay that is due; INT64_MAX: none */
bool kept_part(struct replica *r, int64_t number, uint32_t part, struct arena *arena, struct change_set *out);

/* replica_lost.c */
void lost_keep(struct replica *r); /* R17: before the staged rows take the place of the lost history's */
/* The same row by row, of confirmed values. mine: columns that pending edits are about. */
void lost_begin(struct replica *r);
void lost_note(struct replica *r, const struct table *t, const char *key, const struct row *before, const struct row *after,
	       uint64_t mine);
void lost_end(struct replica *r);
/* row: as the hub has it now; mask: the columns that are known of it. */
void lost_found(struct replica *r, const struct table *t, const char *key, const struct row *row, uint64_t mask);

/* replica_repair.c */
/* One row of ferry_repair, within a transaction of an app's kind; failures stand in the gate. */
void repair_carry_out(struct gate *g, struct arena *a, int64_t id, const char *action, bool of_conflict, int64_t target);

/* replica_settle.c */
void time_now(struct replica *r, char out[TIME_TEXT_MAX]);
/* The columns of mask as a JSON object; sqlite3_free, NULL: no memory. */
char *row_json(const struct table *t, const struct cell *cells, uint64_t mask);
/* Of an ack: the hub had no room to keep it, so it waits in the outbox. */
bool settle_waits_here(const struct settled *v);
FERRY_CHECK enum ferry_error settle_note_waiting(struct replica *r, const struct settled *settled, uint32_t count, struct ferry_why *why);
void settle_take(struct replica *r, const struct settled *settled, uint32_t count, struct store_commit_report *report);
void settle_sweep(struct replica *r);
/* What stands in the outbox under numbers that the hub has settled, and that this file has not
 * pushed (or, in a copy that was turned away and is released, may not have), is kept aside. */
void settle_strange(struct replica *r, const struct message_welcome *w);
enum ferry_error refuse_locally(struct replica *r, int64_t number, int code, const char *sentence,
				struct ferry_why *why);
void reject_row(struct replica *r, const struct set *s, int code, const char *sentence, struct table *t,
		const char *key, const struct entry *e, uint64_t mask);

/* replica_apply.c */
enum ferry_error replica_delta(void *store, const struct message_delta *delta, struct ferry_why *why);
enum ferry_error replica_commit(void *store, const struct message_commit *c, struct store_commit_report *report,
				struct ferry_why *why);
void frames_drop(struct replica *r);
void frames_apply(struct replica *r, enum target target, struct store_commit_report *report);
/* One frame onto the live rows: its additions, or its leavings. */
void frame_apply(struct replica *r, const struct message_delta *delta, bool leaving, struct store_commit_report *report);
/* What has come since the last commit, in its order. `each` runs in the transaction. */
void frames_each(struct replica *r, void (*each)(struct replica *r, void *ctx, const struct message_delta *delta), void *ctx);
void block_row(const struct block *b, uint32_t row, struct value cells[FERRY_COLUMNS_MAX], struct block *out); /* one of its rows, borrowed */
void fill_again(struct replica *r, int64_t scope, const struct block *b, struct store_commit_report *report);

/* replica_fill.c */
enum ferry_error fill_start(struct replica *r, enum fill_kind kind, const char *const *scopes, uint32_t scope_count,
			    struct ferry_why *why);
void fill_forget(struct replica *r); /* within a transaction: the hub wants no fill that was begun */
enum ferry_error replica_fill(void *store, const struct message_fill *fill, struct ferry_why *why);
enum ferry_error fill_fold(struct replica *r, struct store_commit_report *report, struct ferry_why *why);
void fill_swap(struct replica *r);
void staging_make(struct replica *r, const struct schema_table *t); /* if it is not there */

void pending_drop_table(struct replica *r, struct table *t); /* keeps what they say as refused */

/* What apps made on tracked tables (indexes, triggers) stays. Owned until it is made. */
struct app_objects {
	char **sql;
	size_t count;
};

/* replica_swap.c */
void app_objects_note(struct replica *r, const char *table, struct app_objects *o); /* adds those of a table */
void app_objects_make(struct replica *r, struct app_objects *o);
void fill_swap_tables(struct replica *r); /* staged tables become the live ones, with the schema that waits */

/* replica_former.c */
/* Before the next schema takes force: what pending edits say of columns that have another kind or
 * are no more, and the messages of their change-sets. */
void former_keep(struct replica *r, const struct model *next, bool gone_tables);
bool kind_text_like(enum column_kind kind); /* SQLite keeps these alike, and the wire's text is one text */
bool kind_converts(enum column_kind was, enum column_kind now); /* SQLite holds its values in another way */
/* The part of a change-set that was kept, in the arena. False: none was. */
bool former_body(struct replica *r, int64_t number, uint32_t part, struct arena *a, struct change_set *out);
bool former_has(struct replica *r, int64_t number);    /* it was kept so: the hub gets it whole */
void former_forget(struct replica *r, int64_t number); /* it is settled */

/* replica_migrate.c */
bool migration_waits(const struct replica *r);
void replica_migrate(struct replica *r); /* in the transaction of a commit, before its frames */
bool staging_exists(struct replica *r, const char *table);
void staging_drop(struct replica *r);

/* replica_scope.c */
/* The scopes that the replica holds, and those of its unfinished fill. */
enum ferry_error scopes_hello(struct replica *r, struct message_hello *out);
bool scopes_go(struct replica *r, const struct message_welcome *w); /* does one that is held not come back? */
void scopes_evict(struct replica *r, const struct message_welcome *w);
void scopes_filling(struct replica *r, const char *const *names, uint32_t count);
void scopes_filled(struct replica *r, bool beside);
void scopes_join(struct replica *r);

/* replica.c: the layout of a file; -1: it cannot be read, and the gate says why. */
int64_t replica_layout(struct gate *g);

#endif
