/* The merge transaction (private to hub/pg_merge*.c).
 *
 * A call's change-sets are cut into runs: neighbours together, a staged one
 * by itself. A run is one transaction:
 *
 *   A  BEGIN, position asked for, device rows locked in order (R6), verdicts
 *      of numbers settled before, then rows (SKIP LOCKED, R12), versions and
 *      what their surrogates stand for
 *   B  SAVEPOINT, stamps, set-wise writes with their declarations (R8),
 *      conflicts, deferred constraints checked (R11), RELEASE
 *   C  verdicts, device watermarks, ferry.finish(), COMMIT
 *
 * B and C travel together unless a scope must be asked for after the write.
 * A refusal in B rolls back to the savepoint and halves the group of
 * change-sets until the one at fault stands alone; those written before keep
 * standing. Passing failures roll back all and begin again (R10).
 *
 *   item:  WAITING -> APPLIED            its writes stand (or REJECTED)
 *                  -> REPEATED           settled before: the stored verdict
 *                  -> HELD               not now: offered again (retry)
 *                  -> PARKED             lacks its predecessor after a restore (R18) */
#ifndef FERRY_HUB_PG_MERGE_H
#define FERRY_HUB_PG_MERGE_H

#include "protocol/row_pieces.h"
#include "hub/pg_op.h"
#include "hub/pg_sql.h"

#define MERGE_ARENA_BYTES_MAX ((size_t)512 << 20)
#define MERGE_PASSING_MAX 5      /* attempts of a run; then its change-sets are held */
#define MERGE_SUSPECT_SECONDS 60 /* a device that failed so lately merges in a group of its own */
#define MERGE_KEY_CLASHES_MAX 2  /* a key that is taken though we could not see its row */
#define MERGE_PARTS_MAX 4        /* parts of a staged change-set that are merged at once */

/* What the batch under way is, so that a refusal of it can be placed. */
enum merge_phase { MERGE_LOADS, MERGE_WRITES, MERGE_SETTLES };

enum item_state { ITEM_WAITING, ITEM_APPLIED, ITEM_REJECTED, ITEM_REPEATED, ITEM_HELD, ITEM_PARKED };

struct merge_device {
	struct uuid id;
	bool known, suspect, failed;
	int64_t life;
	int64_t apart; /* numbers up to here may be of another copy of its replica */
	int64_t held;  /* the first of the run's that is held: a later deletion must not overtake it; 0: none is */
	int64_t next;  /* the first that is for the next transaction, as are those behind it; 0: none is */
	int64_t settled;
	int64_t *above; /* sorted; has room for the run's numbers */
	uint32_t above_count;
	const char **scopes;
	uint32_t scope_count;
};

/* How a change-set is written that stands alone in its group; each is tried
 * when a unique value was taken in the one before. */
enum write_order {
	WRITE_PLAIN,         /* deletions last, so that what refers to a row can be moved away before */
	WRITE_POSTPONED,     /* unique values last: they may go from row to row, or be freed by a deletion */
	WRITE_DELETES_FIRST, /* what it deletes may free the value */
};

struct row_keys { /* rows of several tables */
	int32_t *tables;
	struct uuid *keys;
	uint32_t count, capacity;
};

struct park_waits { /* what a parked change-set may wait for */
	int32_t child;        /* the table whose rows lack it */
	struct row_keys refs; /* all that these refer to; of a staged one the database has them already */
	struct row_keys own;  /* rows that the change-set makes itself */
	int64_t number;       /* or the change-set that it builds on; 0: none */
};

struct merge_entry { /* an item of the run */
	const struct merge_item *item;
	const struct change_set *set; /* the item's in the present schema; NULL: staged */
	int misfit;                   /* why it has no place there, or OK */
	const char *misfit_sentence;
	struct merge_device *device;
	enum item_state state;
	bool forced; /* its rejection is certain from an earlier attempt */
	bool next;   /* state held: by what this transaction does, not by anybody else */
	enum write_order order;
	struct pg_failure *taken; /* the unique value that was, when it is written in another order; else NULL */
	const char *clash;        /* the rows that met a unique value, as JSON for ferry.clash(); NULL: none, or asked */
	struct uuid mine, other;  /* the row that may be merged into the other; zero: none */
	struct uuid holder;       /* whose device's value a guard met: to be named; zero: nobody's */
	enum verdict verdict;
	int code;
	const char *sentence;
	const char *constraint; /* that refused it, or NULL */
	const char *table;      /* whose constraint it is */
	int64_t position; /* of a repeated one */
	bool unstored;    /* a staged one whose parts are not all there: nothing of it is kept */
	struct park_waits waits; /* verdict parked */
	bool waits_noted;        /* in this transaction */
	bool waits_came;         /* it was refused, and then nothing was missing */
	bool parks_on;           /* state held: it waits for something else than its device was told */
	const char *former;      /* what that was told why it is parked; NULL: it is not */
};

struct merge_table { /* rows of a table that the run touches */
	struct pg_table *table;
	struct uuid *keys; /* sorted, each once */
	uint32_t count, capacity;
	uint64_t columns; /* to be read: those that the run writes, or all */
	uint32_t rows_call, versions_call, present_call, last_call;
	struct merge_row *rows;      /* one per key */
	const char **scopes;         /* of rows that exist */
	struct pg_elements *also;    /* and their further ones; NULL: the table's rows have one */
	uint32_t *own;               /* how many of these, from the first, they have by themselves; UINT32_MAX: all */
	bool *held;                  /* somebody else's lock */
	uint32_t suspects;
};

struct named_surrogate {
	int64_t id;
	struct version version;
};

struct run_number { /* a device's change-set number */
	bool parked;
	struct uuid device;
	int64_t number;
	uint32_t index; /* entry */
};

struct range {
	uint32_t first, count;
};

struct scope_check { /* rows whose scope is asked for after the write */
	uint32_t call;
	uint32_t *owners; /* entry of each row */
};

struct merge_op {
	struct pg_op op;
	const struct merge_item *items;
	uint32_t count;
	struct merge_result *results;
	struct arena answers; /* sentences, as long as the call */
	hub_merge_cb cb;
	void *ctx;
	bool committed; /* a run of this call has been */

	/* The run. */
	uint32_t first, last;    /* of items */
	uint32_t run_max;        /* items a run may have: 1 after an error at commit */
	unsigned passing, key_clashes;
	struct arena arena;      /* as long as the run */
	struct arena load_arena; /* what was loaded and asked: a staged one's part by part */
	struct pg_batch load;    /* A's answers: rows point into them */
	struct merge_entry *entries;
	uint32_t entry_count;
	struct merge_device *devices;
	uint32_t device_count;
	struct run_number *numbers, *refused; /* sorted */
	uint32_t number_count, refused_count;
	struct merge_table *tables;
	uint32_t table_count;
	struct named_surrogate *surrogates; /* sorted by id */
	uint32_t surrogate_count;
	uint32_t convert_call, device_call, scopes_call, settled_call, refused_call, touch_call, stamps_call, stage_call;
	int64_t tx;
	const int64_t *stamps; /* ids to give out */
	uint32_t stamp_count, stamp_next, stamp_wish;
	bool revives; /* some table's updates win: the first stamp is for rows that come back */
	uint32_t row_wish;
	struct conversions conversions; /* of values of earlier types, by the database */

	/* The groups. */
	struct merge *merge;
	bool merge_is_whole;  /* holds all that is applied and nothing else */
	uint32_t *order;      /* entries in the order of application */
	uint32_t order_count;
	struct range *stack;
	uint32_t stack_count;
	struct range group;
	struct merge_outcome *outcomes; /* by entry, of the group */
	enum merge_phase phase;
	uint32_t release_call; /* phase WRITE: statements behind it are C's */
	uint32_t postponed_call; /* of the statement that writes postponed values; UINT32_MAX: not in this batch */
	uint32_t finish_call, tell_call, clash_call, room_call;
	uint32_t group_stamps;
	struct merge_writes writes; /* of the group, or of a staged one's portion */
	bool savepoint; /* it is still open */
	struct scope_check *checks;
	uint32_t check_count;

	/* A staged change-set. */
	bool staged;
	uint32_t part; /* the portion's first */
	struct arena part_arena;
	struct change_set parts[MERGE_PARTS_MAX]; /* the portion */
	uint32_t part_count;
	struct row_joiner row; /* one that goes on over several parts */
	struct pg_failure *scans; /* taken back with this; now its references are looked at. NULL: it is merged */
	struct merge_entry *parks; /* a small one, of which that is so */
	uint32_t waits_call;
	bool rest; /* WRITE_DELETES_FIRST: its deletions are written, now all else */
	bool tells; /* refused for a unique value: its rows are put together to ask whose it is */
	struct pg_sql told;
};

/* pg_merge.c, pg_merge_settle.c */
void pg_run_abandon(struct merge_op *m); /* nothing to settle: rolls back, on to the next run */
void pg_run_settle(struct merge_op *m);  /* adds C to the batch, after what refusals have to be told */
void pg_run_settled(struct pg_op *op);   /* after COMMIT */

/* pg_merge_convert.c */
void pg_conversions_ask(struct merge_op *m);        /* a batch of its own, before the transaction */
void pg_conversions_ask_within(struct merge_op *m); /* the same inside of it, for a staged one's portion */
FERRY_CHECK bool pg_conversions_read(struct merge_op *m, struct arena *a); /* into the arena; false: no memory */

/* pg_merge_entry.c */
FERRY_CHECK bool pg_entries_make(struct merge_op *m); /* false: no memory */
void pg_entries_take_forced(struct merge_op *m);      /* rejections of an earlier attempt */
void pg_entries_ask(struct merge_op *m);              /* devices, their scopes, verdicts */
FERRY_CHECK bool pg_entries_read(struct merge_op *m); /* from m->load; false: no memory */
void pg_entries_ask_refused(struct merge_op *m, const struct change_set *part); /* of those that a staged one's part names */
FERRY_CHECK bool pg_entries_read_refused(struct merge_op *m);
struct merge_entry *pg_run_find(struct merge_op *m, const struct uuid *device, int64_t number);
bool pg_entry_settled(const struct merge_device *d, int64_t number);
bool pg_entry_elsewhere(const struct merge_entry *e); /* pushed in a life of its device that is over */
/* Of those depended on: */
bool pg_entry_refused(const struct merge_op *m, const struct uuid *device, int64_t number);
bool pg_entry_parked(const struct merge_op *m, const struct uuid *device, int64_t number);
void pg_run_reject(struct merge_op *m, struct merge_entry *e, int code, const char *sentence);
void pg_run_refuse(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f);
void pg_run_park(struct merge_op *m, struct merge_entry *e, int code, const char *sentence);

/* pg_merge_park.c */
/* May the entry, refused with this, wait for rows that it lacks? Then, after it was taken back, the batch asks which
 * these are, and with the answer it ends as refused, parked or still parked. */
bool pg_park_may(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f);
void pg_park_ask(struct merge_op *m, struct merge_entry *e);
void pg_park_decide(struct merge_op *m, struct merge_entry *e); /* or once more: it still waits to be merged */
void pg_park_behind(struct merge_op *m, struct merge_entry *e, int64_t number);
void pg_park_settle(struct merge_op *m); /* adds until when the parked wait, and what else these do now, to the batch */
/* A staged one was refused: is it to be seen what it waits for? Then, after it was taken back, from its first
 * portion on, with m->parts, and it ends in the same ways. */
bool pg_park_scans(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f);
void pg_park_scan(struct merge_op *m);

/* pg_merge_room.c: the small ones that would be kept, and for which there is no room, stay with their devices. */
bool pg_room_ask(struct merge_op *m); /* true: the batch holds the question */
void pg_room_read(struct merge_op *m);

/* pg_merge_group.c */
void pg_groups_start(struct merge_op *m);
void pg_group_refused(struct merge_op *m);          /* a write was refused */
void pg_run_undo(struct merge_op *m, pg_step next); /* back to the savepoint */
void pg_run_undo_begin(struct merge_op *m);         /* the same as the beginning of a batch */
/* Is it that a row's key is taken? Then the entry is refused, or waits to be tried again. */
bool pg_group_key_clash(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f);
/* Before the write: dependencies (R6), locked rows (R12), scopes (P7). */
void pg_run_admit(struct merge_op *m, struct merge_entry *e, const struct change_set *s);

/* pg_merge_load.c */
bool pg_load_wants(struct merge_op *m, const struct change_set *s); /* false: no memory */
void pg_load_ask(struct merge_op *m, bool stamps); /* rows, versions, surrogates of what is wanted */
FERRY_CHECK enum ferry_error pg_load_read(struct merge_op *m); /* from m->load */
bool pg_load_ask_suspects(struct merge_op *m);     /* true: the batch holds questions */
void pg_load_read_suspects(struct merge_op *m);
FERRY_CHECK enum ferry_error pg_load_feed(struct merge_op *m, struct merge *merge);
void pg_load_forget(struct merge_op *m);
const struct merge_table *pg_load_table(const struct merge_op *m, uint32_t tbl);
int64_t pg_load_row(const struct merge_table *t, const struct uuid *key); /* -1: not loaded */
/* Was it not there when it was loaded, and is made in this transaction by somebody else than this device? */
bool pg_made_by_another(const struct merge_op *m, const struct merge_table *t, int64_t row, const struct uuid *device);

/* pg_merge_write.c */
void pg_write_savepoint(struct merge_op *m);
bool pg_write_group(struct merge_op *m, const struct merge_writes *w, enum write_order order); /* false: no memory */
void pg_write_conflicts(struct merge_op *m, const struct merge_entry *e, const struct merge_outcome *o);
/* pg_merge_cascade.c: before a write that deletes. False: no memory. */
bool pg_write_cascades(struct merge_op *m, const struct merge_write *w, const struct merge_writes *all);
void pg_write_expect(struct merge_op *m, const struct merge_writes *w); /* all rows that were updated are there */
/* pg_merge_ask.c: values that wait for an approval become rows of ferry.approval. */
void pg_write_asks(struct merge_op *m, const struct merge_entry *e, const struct merge_outcome *o);
/* Postponed values are written, deferred constraints checked; the savepoint goes, unless scopes have
 * to be looked at first: then it stays open (m->savepoint). */
void pg_write_release(struct merge_op *m, enum write_order order);
/* Rejects the owners of rows that ended up outside their device's scopes;
 * how many. */
uint32_t pg_write_read_checks(struct merge_op *m);

/* pg_merge_order.c */
/* After a refusal: is there another order to write it in? Notes it then. */
bool pg_order_next(struct merge_op *m, struct merge_entry *e, const struct pg_failure *f);
/* What refused it in the end. */
const struct pg_failure *pg_order_failure(const struct merge_entry *e, const struct pg_failure *f);

/* pg_merge_tell.c */
bool pg_tell_ask(struct merge_op *m);  /* true: the batch holds questions about refusals */
void pg_tell_read(struct merge_op *m); /* their sentences name whom they met */
void pg_tell_note(struct merge_op *m, struct merge_entry *e); /* e is refused for what m->writes wrote: what to ask about */
/* The same of a staged one, with m->parts, portion after portion. */
bool pg_tell_wants(const struct merge_entry *e);
bool pg_tell_portion(struct merge_op *m, const struct merge_entry *e); /* false: there is too much of it, nobody is named */
void pg_tell_portions_end(struct merge_op *m, struct merge_entry *e);

/* pg_merge_portion.c */
enum portion {
	PORTION_READY,    /* m->parts, in the present schema */
	PORTION_CONVERTS, /* m->conversions asks for values; translate it again with the answers */
	PORTION_REFUSED,  /* its entry is */
	PORTION_GONE,     /* parts are missing: its entry is held */
};
void pg_portion_hold(struct merge_op *m);               /* adds a lock: the parts stay until the end */
void pg_portion_ask(struct merge_op *m, uint32_t part); /* adds the question for a portion that begins there */
enum portion pg_portion_take(struct merge_op *m, const struct pg_batch *from); /* with the question's answer */
enum portion pg_portion_translate(struct merge_op *m);
bool pg_portion_keep(struct merge_op *m, bool deletions); /* of m->parts these or all else; false: no memory */
bool pg_portion_more(const struct merge_op *m);     /* there are parts behind it */
bool pg_portion_is_empty(const struct merge_op *m); /* nothing but pieces of a row that goes on */

/* pg_merge_stage.c */
void pg_stage_begin(struct merge_op *m);                /* after A */
void pg_stage_next(struct pg_op *op);                   /* a portion has come */
void pg_stage_again(struct pg_op *op);                  /* from its first part on */
void pg_stage_reject(struct merge_op *m);               /* its entry is: takes it back, asks whom it met, settles */
void pg_stage_refused(struct merge_op *m);              /* a write was refused */

#endif
