/* What the files that make push messages of the outbox share, and nobody else
 * includes. Each stands on the next:
 *
 *   replica_push.c        messages: which change-set or part goes next
 *   replica_push_parts.c  a change-set's parts: rows as blocks [P 6.1], within a budget (R7)
 *   replica_push_rows.c   one row: its cells and bases, read from its stack
 *
 * All of it reads within a transaction of the caller's, whose state holds
 * nothing that was captured and not cut. Memory is the arena's, which the
 * caller resets; `rows` alone is the heap's, and the caller frees it. */
#ifndef FERRY_AGENT_REPLICA_PUSH_H
#define FERRY_AGENT_REPLICA_PUSH_H

#include "agent/replica_internal.h"

#define PUSH_ROWS_MAX 4096 /* each may need a block of its own: FERRY_BLOCKS_MAX */

struct push_row {
	struct table *t;
	enum row_op op;
	uint64_t columns;
	struct uuid key;
	struct value *values; /* of the columns, in order */
	uint64_t old_columns; /* those whose old values go along */
	struct value *olds;
	int64_t at;
	int64_t *bases; /* pairs (num, position) */
	uint32_t base_count;
	uint32_t order;
};

struct push {
	struct replica *r;
	struct arena *arena;
	struct push_row *rows;
	uint32_t count, capacity;
	size_t bytes;
	uint32_t rows_before; /* in the message already */
	int64_t after; /* place of the last row taken whole */
	size_t budget; /* of text and bytes; a row with more goes in pieces [P 6.6] */
	bool large;    /* the row last taken is such a one, its values not copied */
	struct row_cutter cutter;
	struct block piece;
	int64_t refused; /* the change-set that has a value without a wire form, 0: none */
	int bad_code;
	char bad[160];
};

/* replica_push_rows.c. s stands on an entry of the log: its row is added to p->rows.
 * False: stop (bad_code: a value without a wire form; else no memory, or the gate's error). */
bool push_take_row(struct push *p, sqlite3_stmt *s);
bool push_keep_values(struct push *p, struct value *values, uint32_t n); /* texts and bytes, into the arena */

/* replica_push_parts.c. When the change-set's first edit was made, in milliseconds. */
int64_t push_first_ms(struct replica *r, const struct set *set);
/* Rows of a change-set from place `after` on, up to the budget. *out_more: others are
 * left for the next part. */
bool push_take_part(struct push *p, const struct set *set, int64_t after, int64_t first_ms, bool *out_more);
/* The rows taken as a part; *out lives as long as the arena. */
bool push_make_blocks(struct push *p, const struct set *set, int64_t first_ms, struct change_set *out);
/* The cursor behind that part. */
void push_advance(struct push_cursor *c, const struct push *p, struct change_set *out, bool more);

#endif
