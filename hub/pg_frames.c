/* Frames of a feed [P 6]: pieces cut to blocks, blocks gathered to messages
 * below the message limit. */
#include <string.h>

#include "hub/pg_feed.h"
#include "protocol/row_pieces.h"

#define FRAME_BLOCKS_MAX 1024
#define FRAME_ROOM 4096          /* of a message: its own fields, and the estimate's error */
#define FRAME_CELLS_MAX (FERRY_CELLS_MAX / 2)
#define FRAMES_MAX 65536

void pg_frames_init(struct frame_writer *w, struct pg_store *s, struct arena *arena, int64_t from, int64_t to)
{
	*w = (struct frame_writer){.store = s, .arena = arena, .from = from, .to = to,
				   .message_bytes_max = s->config.message_bytes_max};
	buffer_init(&w->bytes, s->config.feed_bytes_max);
	w->blocks = arena_array(arena, FRAME_BLOCKS_MAX, sizeof(*w->blocks));
	if (!w->blocks)
		w->error = FERRY_NO_MEMORY;
}

void pg_frames_deinit(struct frame_writer *w)
{
	buffer_deinit(&w->bytes);
}

static bool frames_room(struct frame_writer *w)
{
	uint32_t capacity = w->frame_capacity ? w->frame_capacity * 2 : 16;
	struct feed_frame *more;

	if (w->frame_count < w->frame_capacity)
		return true;
	more = capacity <= FRAMES_MAX ? arena_array(w->arena, capacity, sizeof(*more)) : NULL;
	if (!more)
		return false;
	if (w->frame_count)
		memcpy(more, w->frames, w->frame_count * sizeof(*more));
	w->frames = more;
	w->frame_capacity = capacity;
	return true;
}

static void frames_flush(struct frame_writer *w)
{
	struct message m = {.type = MESSAGE_DELTA, .delta = {.scope = w->scope, .from = w->from, .to = w->to,
							     .blocks = w->blocks, .block_count = w->block_count}};
	size_t start = w->bytes.n;

	if (w->block_count == 0 || w->error != FERRY_OK)
		return;
	w->error = message_encode(&m, &w->bytes);
	if (w->error == FERRY_MESSAGE_TOO_LARGE || !frames_room(w))
		w->error = FERRY_LIMIT; /* the whole feed: blocks were cut to fit */
	if (w->error != FERRY_OK)
		return;
	/* The buffer may still move: offsets first. */
	w->frames[w->frame_count++] = (struct feed_frame){.scope = w->scope, .message_bytes = w->bytes.n - start};
	w->block_count = 0;
	w->block_bytes = 0;
	w->cell_count = 0;
}

/* Rows [first, first + count) of a piece as a block of its own. */
static bool cut(struct frame_writer *w, const struct feed_piece *p, uint32_t first, uint32_t count, struct block *out)
{
	uint16_t columns = 0, n = 0;
	uint16_t *nums;
	struct value *cells;

	for (uint16_t c = 0; c < p->table->column_count; c++)
		columns = (uint16_t)(columns + (p->mask >> c & 1));
	nums = arena_array(w->arena, columns + 1u, sizeof(*nums));
	cells = arena_array(w->arena, (size_t)columns * count + 1, sizeof(*cells));
	if (!nums || !cells)
		return false;
	for (uint16_t c = 0; c < p->table->column_count; c++) {
		if (!(p->mask >> c & 1))
			continue;
		nums[n] = p->table->columns[c].num;
		memcpy(cells + (size_t)n * count, p->cells + (size_t)n * p->count + first, count * sizeof(*cells));
		n++;
	}
	*out = (struct block){.table = p->table->tbl, .op = p->op, .column_count = columns, .row_count = count,
			      .nums = nums, .keys = p->keys + first, .cells = cells};
	return true;
}

/* [P 6.6] A row that fits no message goes in pieces, each the last block of its
 * message. One that is larger than a row may be is left out, so that it holds
 * up nobody else (P6). */
static void add_pieces(struct frame_writer *w, const struct feed_piece *p, uint32_t row, const struct block *whole)
{
	struct row_cutter cutter = {.row = *whole};
	struct block b = {.goes_on = true};

	if (row_bytes(whole, 0) > FERRY_ROW_BYTES_MAX) {
		pg_store_leave_out(w->store, p->table, &p->keys[row]);
		return;
	}
	frames_flush(w);
	while (b.goes_on && w->error == FERRY_OK) {
		if (!row_cut(&cutter, w->message_bytes_max - 2 * FRAME_ROOM, w->arena, &b))
			w->error = FERRY_LIMIT;
		else
			w->blocks[w->block_count++] = b;
		frames_flush(w);
	}
}

/* Halves what does not fit, down to a single row. */
static void add_rows(struct frame_writer *w, const struct feed_piece *p, uint32_t first, uint32_t count)
{
	size_t room = w->message_bytes_max - FRAME_ROOM;
	struct block b;
	size_t bytes, cells;

	if (w->error != FERRY_OK)
		return;
	if (!cut(w, p, first, count, &b)) {
		w->error = FERRY_LIMIT;
		return;
	}
	bytes = block_encoded_bytes(&b);
	cells = (size_t)b.column_count * count;
	if ((bytes > room || cells > FRAME_CELLS_MAX) && count > 1) {
		add_rows(w, p, first, count / 2);
		add_rows(w, p, first + count / 2, count - count / 2);
		return;
	}
	if (bytes > room) {
		add_pieces(w, p, first, &b);
		return;
	}
	if (w->block_bytes + bytes > room || w->cell_count + cells > FRAME_CELLS_MAX ||
	    w->block_count == FRAME_BLOCKS_MAX)
		frames_flush(w);
	w->blocks[w->block_count++] = b;
	w->block_bytes += bytes;
	w->cell_count += cells;
}

void pg_frames_add(struct frame_writer *w, const struct feed_piece *piece)
{
	uint32_t step = FRAME_CELLS_MAX / (piece->table->column_count + 1u);

	if (w->error != FERRY_OK)
		return;
	if (w->scope && strcmp(w->scope, piece->scope) != 0)
		frames_flush(w);
	w->scope = piece->scope;
	for (uint32_t first = 0; first < piece->count; first += step)
		add_rows(w, piece, first, piece->count - first < step ? piece->count - first : step);
}

enum ferry_error pg_frames_finish(struct frame_writer *w)
{
	size_t at = 0;

	frames_flush(w);
	if (w->error != FERRY_OK)
		return w->error;
	for (uint32_t i = 0; i < w->frame_count; i++) {
		w->frames[i].message = w->bytes.p + at;
		at += w->frames[i].message_bytes;
	}
	return FERRY_OK;
}
