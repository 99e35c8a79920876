/* Parts of the feed shared by its files: what changed (pg_feed.c), what became
 * of change-sets (pg_verdicts.h), and frames made of it (pg_frames.c). Private to hub/pg_*.c. */
#ifndef FERRY_HUB_PG_FEED_H
#define FERRY_HUB_PG_FEED_H

#include "hub/pg_op.h"

/* A row that changed, as the receivers of its scope get it. mask: the columns
 * that go out, by their index in the table (ROW_INSERT: all). */
struct feed_entry {
	const struct pg_table *table;
	const char *scope;
	struct uuid key;
	enum row_op op;
	bool global;    /* of the reserved tenant */
	uint64_t mask;
};

/* Entries of one (table, scope, op, mask), with the rows' cells: column-major
 * over `count` rows, NULL without columns. */
struct feed_piece {
	const struct pg_table *table;
	uint32_t rank;
	const char *scope;
	enum row_op op;
	uint64_t mask;
	const struct uuid *keys;
	const struct value *cells;
	uint32_t count;
};

struct frame_writer {
	struct pg_store *store;
	struct arena *arena;   /* for what lives as long as the frames' list */
	struct buffer bytes;   /* the messages one after the other */
	int64_t from, to;
	size_t message_bytes_max;
	struct feed_frame *frames; /* their messages are set by pg_frames_finish */
	uint32_t frame_count, frame_capacity;
	/* the message being filled */
	const char *scope;
	struct block *blocks;
	uint32_t block_count;
	size_t block_bytes, cell_count;
	enum ferry_error error;
};

void pg_frames_init(struct frame_writer *w, struct pg_store *s, struct arena *arena, int64_t from, int64_t to);
void pg_frames_deinit(struct frame_writer *w);
/* Pieces must come scope by scope. */
void pg_frames_add(struct frame_writer *w, const struct feed_piece *piece);
/* LIMIT: more than the store's bound. The frames live until pg_frames_deinit. */
FERRY_CHECK enum ferry_error pg_frames_finish(struct frame_writer *w);

#endif
