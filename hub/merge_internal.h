/* What merge.c (rows), merge_apply.c (rules) and merge_writes.c (output)
 * share; nobody else includes it.
 *
 * A row's working state points at arrays that are never changed once another
 * change-set has touched the row: a change-set that touches a row takes its
 * own copy first. So taking a change-set back is restoring the structs kept
 * in the journal, whatever it did to how many rows. */
#ifndef FERRY_HUB_MERGE_INTERNAL_H
#define FERRY_HUB_MERGE_INTERNAL_H

#include "hub/merge.h"
#include "protocol/arena.h"

#define NO_STAMP UINT32_MAX
#define COLUMN_BIT(c) (UINT64_C(1) << (c))

/* Column masks are by index in the schema's table, not by column number. */
struct row_state {
	bool exists;
	bool known;
	const struct value *cells; /* NULL: does not exist */
	const uint32_t *stamp_of;  /* stamp of each column in `stamped`; NULL: none */
	struct value *own_cells;   /* `cells`, while a change-set has the row as its own */
	uint32_t *own_stamps;
	uint64_t by_hub;           /* of those stamped: the value is a merge's, so its author is the hub (R2) */
	uint64_t stamped;          /* version comes from a stamp, not from what was loaded */
	uint64_t dirty;            /* to be written as an update */
	uint64_t given;            /* the value is known; else the hub's default fills it */
	uint32_t born_stamp;       /* NO_STAMP: as loaded */
	uint32_t gone_stamp;       /* the last deletion made here; NO_STAMP: as loaded */
	bool replayed;             /* a replay made this life of it here, or a former one */
	/* What is not written yet: */
	bool revive_pending; /* it was deleted, and comes back as it was */
	uint64_t lost;       /* was to be written when it was deleted */
	bool insert_pending;
	const struct value *insert_cells; /* as its insert gave them */
	uint64_t insert_mask;
};

struct row {
	struct uuid key;
	uint32_t table;    /* index in the schema */
	uint32_t serial;   /* change-set that touched it last */
	bool in_database;  /* it exists there, before what is not written yet */
	bool touched;      /* is in the list of rows to write */
	bool update_wins;
	bool fresh;        /* the database had no version of it when it was loaded */
	bool kept;         /* the database has deleted it and keeps what it was */
	const struct value *last_cells;
	struct version version; /* as loaded */
	const struct version *column_versions;
	int64_t born;
	struct uuid born_author;
	int64_t born_number;
	int64_t born_old_position, born_last_position;
	struct row_state state;
};

struct undo {
	struct row *row;
	struct row_state state;
	uint32_t serial;
};

/* Open addressing over numbers of things kept elsewhere; 0 is empty. */
struct index {
	uint32_t *slots;
	uint32_t mask; /* slots - 1 */
	uint32_t count;
};

struct table_note { /* what change-sets did to a table; what was taken back stays noted */
	bool deleted, written, several; /* several: not only by the writer */
	struct uuid writer;
};

struct merge {
	const struct schema *schema;
	struct table_note *notes; /* of each table */
	struct arena arena;
	struct arena output; /* of merge_take_writes: bounded by what it is made from */
	size_t limit_bytes;
	uint64_t hash_key;
	struct row **rows;
	uint32_t row_count, row_capacity;
	struct index row_index;
	struct merge_stamp *stamps; /* all that were made; the index is the stamp's name inside */
	uint32_t stamp_count, stamp_capacity;
	struct index stamp_index;
	struct row **touched;
	uint32_t touched_count, touched_capacity;
	struct undo *journal;
	uint32_t journal_count, journal_capacity;
	struct conflict *conflicts;
	uint32_t conflict_count, conflict_capacity;
	struct merge_ask *asks;
	uint32_t ask_count, ask_capacity;
	uint32_t serial;
	int64_t apart;
	/* A change-set in parts that is under way */
	bool open;
	bool open_rejected;
	struct uuid open_author;
	int64_t open_number;
	uint32_t open_part;
	int open_code;
	struct ferry_why open_why;
};

struct row *merge_find(const struct merge *m, uint32_t table_index, const struct uuid *key);
int64_t merge_table_index(const struct schema *schema, uint32_t table); /* -1: unknown */
int merge_column_index(const struct schema_table *t, uint16_t num);     /* -1: unknown */
uint64_t merge_mix(uint64_t a, uint64_t b);
/* Finds where `hash` belongs: the caller compares. Grows when needed. */
bool index_reserve(struct index *x, uint64_t (*hash_of)(const void *ctx, uint32_t i), const void *ctx);
bool merge_stamp_find(struct merge *m, const struct uuid *author, int64_t number, int64_t at, uint32_t *out_stamp);
void merge_note_write(struct merge *m, uint32_t table_index, const struct uuid *author, bool deletes);
/* Values against the schema; independent of rows. */
FERRY_CHECK enum ferry_error merge_check(const struct schema *schema, const struct change_set *s,
					 struct ferry_why *why);

#endif
