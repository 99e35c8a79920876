/* [P 6.6] A row too large for a message: cut into pieces, and joined again.
 *
 * Both walk the row's cells in order. Memory: a cutter borrows everything; a
 * joiner holds one row, at most FERRY_ROW_BYTES_MAX of text and bytes. */
#ifndef FERRY_PROTOCOL_ROW_PIECES_H
#define FERRY_PROTOCOL_ROW_PIECES_H

#include "protocol/message.h"

#define ROW_PIECE_BYTES_MIN 16 /* of text and bytes in a piece: more than a character */

struct row_cutter {
	struct block row; /* of one row; what it points to is borrowed */
	uint16_t column;  /* index where the next piece begins */
	uint32_t offset;  /* and how much of that cell has gone before */
	bool begun;       /* it goes on from an earlier piece */
};

/* Bytes of text and bytes in a row of a block. */
size_t row_bytes(const struct block *b, uint32_t row);

/* The next piece, with at most room_bytes (ROW_PIECE_BYTES_MIN or more) of text
 * and bytes; moves on. The last one has goes_on false. *out and its lists are
 * in the arena, its values stay where they are. False: the arena is full. */
bool row_cut(struct row_cutter *c, size_t room_bytes, struct arena *a, struct block *out);

struct row_joiner {
	bool open; /* a row has begun and is not whole */
	struct block row;
	struct uuid key;
	uint16_t nums[FERRY_COLUMNS_MAX];
	struct value cells[FERRY_COLUMNS_MAX]; /* text and bytes: in `bytes`, once the row is whole */
	struct row_base bases[FERRY_COLUMNS_MAX + 1];
	int64_t at;
	struct buffer bytes;
};

void row_joiner_init(struct row_joiner *j);
void row_joiner_deinit(struct row_joiner *j); /* ready for the next row; gives the memory back */

/* Takes a piece: of the row that is open, or the first of one. *out_whole: the
 * row is whole and stands in j->row, until deinit. FERRY_BAD_MESSAGE: it does
 * not continue the open row; FERRY_ROW_TOO_LARGE. After an error the joiner
 * is as after deinit. */
FERRY_CHECK enum ferry_error row_join(struct row_joiner *j, const struct block *piece, bool *out_whole);

#endif
