/* The merge: what a device's change-set does to the hub's rows.
 *
 * Pure: no I/O, no clock, no global. The caller loads the rows that a batch
 * of change-sets touches, with their versions; applies the change-sets one
 * after the other; and gets the writes of the whole batch, grouped set-wise.
 * A change-set sees the result of those before it in the batch.
 *
 * What counts as seen (R1, R2, R4). For column c of an edit with base B
 * (the change-set's, or the cell's own exception) by device D, number n:
 *
 *   version v of c          the edit has seen it when
 *   -------------------------------------------------------------------
 *   v.position <= B         always
 *   v.author == D           apart < v.number <= n (its value is D's verbatim: what
 *                           a trigger or a merge changed has author hub; n
 *                           itself: an earlier part or row of the same set;
 *                           apart: up to there another copy of D's replica may
 *                           have used the numbers, and this one never saw it);
 *                           but for the next row
 *   D's own replay's (R17)  not as D's: its old position <= the change-set's base,
 *                           and the edit is of no lost history. It had been
 *                           settled and lost when the edit was made, and D's
 *                           replica showed it no more
 *   a replay's (R18)        B is of the same lost history, and its old position <= B,
 *                           or the one where it had come back; not in a gap of B's history
 *   anything else           never: the two are concurrent
 *
 * A base of a lost history (R17) counts as the newest common position.
 *
 * Concurrent edits of one column (lww): equal values are no conflict; else
 * the later (at, author) stands and the other is kept as a conflict.
 * Other policies: hub/merge_policy.h.
 * Row lives (R4): a row born after B is a new life that the edit never saw;
 * an update or delete of it, or of a row deleted after B, is a
 * update/delete conflict: the deletion (or the new life) stands, and the
 * edit is kept. A delete that meets columns changed after B deletes, and the
 * hub's values are kept as a conflict.
 *
 *   change-set     hub's row                      result
 *   insert         none, never was / delete seen  new row
 *   insert         none, delete not seen          new row, conflict kept
 *   insert         there, own or life seen        column by column as update
 *   insert         there, another's               column by column, concurrent
 *   update         there, life seen               column by column
 *   update         there, born after B            no change, conflict
 *   update         deleted (or never was)         no change, conflict
 *   delete         there, all seen                deleted
 *   delete         there, some not seen           deleted, conflict keeps the row
 *   delete         there, born after B            no change, conflict
 *   delete         none                           nothing to do
 *
 * Where an update wins (update_wins, a policy of tables), these rows differ:
 *
 *   update         deleted, not seen, kept        put back as it was, then column by column, concurrent
 *   update         there, born after B            column by column, concurrent
 *   delete         there, changed by others       no change, conflict
 *
 * A life is seen when it was born at or below B or by D itself (number <= n),
 * also by another copy of D's replica: keys are made once.
 * A conflict names one column each, so that every value is kept; a deletion
 * that met unseen changes keeps all values of the row; num 0 stands for the
 * row where no value is in dispute. A value equal to the hub's is neither a
 * write nor a conflict. docs/merge.md has the same with examples. */
#ifndef FERRY_HUB_MERGE_H
#define FERRY_HUB_MERGE_H

#include "protocol/message.h"

/* Who last set a column and when. author zero = hub. */
struct version {
	int64_t position;  /* MERGE_PENDING: written by this batch */
	int64_t at;        /* hybrid clock, microseconds */
	struct uuid author;
	int64_t number;    /* author's change-set */
	int64_t old_position; /* of a replay's: where it stood in the lost history (R18); 0: none */
	int64_t last_position; /* where it stood in the last of several; 0: there is one */
};
#define MERGE_PENDING INT64_MAX

/* A row as loaded. Arrays are in the order of the table's columns in the
 * schema given to merge_new, and borrowed until merge_free. */
struct merge_row {
	uint32_t table;
	struct uuid key;
	bool exists;               /* the row is there */
	bool known;                /* it has a version (false: never existed) */
	struct version version;    /* of all columns without one of their own; of the deletion when !exists */
	int64_t born;              /* position with which its present life began */
	struct uuid born_author;   /* who began it, as in struct version: a device's own new row, */
	int64_t born_number;       /* which it goes on editing before it saw it confirmed (R4) */
	int64_t born_old_position; /* as in struct version */
	int64_t born_last_position;
	const struct value *cells; /* NULL when !exists */
	const struct version *column_versions; /* NULL: all as `version` */
	bool update_wins;               /* the table's policy, whether the row is there or not */
	const struct value *last_cells; /* !exists: what it was when it was deleted, as far as kept; else NULL */
};

/* A value that waits for an approval instead of being written. */
struct merge_ask {
	uint32_t table;
	struct uuid key;
	uint16_t num;
	struct value value;
	int64_t at; /* of the edit */
};

/* What one change-set came to. Conflicts, asks and their values live as long
 * as the merge. */
struct merge_outcome {
	enum verdict verdict; /* accepted, superseded or rejected */
	int code;             /* enum ferry_error when rejected */
	struct ferry_why why;
	struct uuid holder; /* a guard's refusal: the device whose value it met, whom `why` names by id; zero: none */
	const struct conflict *conflicts;
	uint32_t conflict_count;
	const struct merge_ask *asks;
	uint32_t ask_count;
	uint32_t rows_changed;
};

/* One set-wise write: rows of one table with one operation and one list of
 * columns. Cells are column-major as in struct block. `stamps` gives for
 * each row the index of the stamp its cells belong to. */
struct merge_write {
	uint32_t table;
	enum row_op op; /* ROW_INSERT, ROW_UPDATE, ROW_DELETE */
	uint16_t column_count;
	const uint16_t *nums;
	uint32_t row_count;
	const struct uuid *keys;
	const struct value *cells;
	const uint32_t *stamps;
	bool revives;    /* ROW_INSERT without columns: deleted rows come back as they were */
	bool buries;     /* ROW_DELETE of rows that came and went within the batch: only noted as deleted */
	uint64_t by_hub; /* bit i: the cells of column i are a merge's, not the stamps' authors' (R2) */
};

struct merge_stamp { /* becomes a row of ferry.stamp */
	struct uuid author;
	int64_t number;
	int64_t at;
	int64_t old_position, last_position;
};

struct merge_writes {
	/* To be carried out in this order: deletes of rows that are inserted anew
	 * by rank descending, revivals, inserts by rank ascending, updates, deletes by rank
	 * descending, burials. A row may be in one insert and several updates (one for
	 * each stamp). A row that replays made and somebody deleted, all since the
	 * last commit, is buried: other replays may still edit it, and would wait
	 * for it for ever (R18). */
	const struct merge_write *writes;
	uint32_t write_count;
	const struct merge_stamp *stamps;
	uint32_t stamp_count;
};

struct merge;

/* The schema is borrowed for the life of the merge. limit_bytes bounds the
 * working memory; a merge that is full answers FERRY_LIMIT. */
struct merge *merge_new(const struct schema *schema, size_t limit_bytes);
void merge_free(struct merge *m);

/* Tells which rows a change-set needs that were not given yet: calls `want`
 * for each run of such keys (borrowed from the change-set). Call before
 * loading; a key that several change-sets touch may come several times. */
void merge_wants(const struct merge *m, const struct change_set *s,
		 void (*want)(void *ctx, uint32_t table, const struct uuid *keys, uint32_t count), void *ctx);

/* Gives a loaded row; a key that the database does not know at all is given
 * with exists = known = false. Rows given twice keep the first state. */
FERRY_CHECK enum ferry_error merge_row(struct merge *m, const struct merge_row *row);

/* Does the hub know this row, or know that it is deleted, with what was applied? */
bool merge_knows(const struct merge *m, uint32_t table, const struct uuid *key);

/* Did what was applied make this row, or write this column of it (0: none), by somebody else than this device? */
bool merge_placed_by_another(const struct merge *m, uint32_t table, const struct uuid *key, uint16_t num,
			     const struct uuid *device);

/* Is the row there, with what was applied? */
bool merge_stands(const struct merge *m, uint32_t table, const struct uuid *key);

/* Did what was applied delete rows of the table? Did others than the author make or edit some? Maybe taken back since. */
bool merge_deletes(const struct merge *m, uint32_t table);
bool merge_written_by_others(const struct merge *m, uint32_t table, const struct uuid *author);

/* Of the author of what is applied from now on: copies of its replica have used
 * numbers up to here; 0: none has, as a new merge takes it. */
void merge_apart(struct merge *m, int64_t number);

/* Applies a change-set of device `author`. All-or-nothing: a rejected one
 * leaves no trace in the working state. A change-set in parts is applied by
 * one call per part, with no other change-set between them; a rejection in a
 * later part takes the earlier ones back, and the parts after a rejected one
 * get its verdict. Verdict, conflicts and rows_changed are those of this part.
 * Values are checked against the schema here: a bad one rejects this
 * change-set alone. The change-set's values are borrowed until merge_free.
 * now: the hub's clock; stamps from the future count as now (P10).
 * Errors: FERRY_LIMIT, FERRY_NO_MEMORY (nothing of this change-set is kept;
 * those before it stand), FERRY_INTERNAL (a row was not loaded). */
FERRY_CHECK enum ferry_error merge_apply(struct merge *m, const struct uuid *author, const struct change_set *s,
					 int64_t now, struct merge_outcome *out);

/* The net writes of all that was applied since the last call; they live until
 * merge_free. Whoever takes writes in the middle of a change-set in parts
 * must be able to take them back (savepoint) if a later part is rejected, and
 * throw the merge away then. */
FERRY_CHECK enum ferry_error merge_take_writes(struct merge *m, struct merge_writes *out);

#endif
