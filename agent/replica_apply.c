/* The hub's states: frames are kept until their commit, then applied in one
 * transaction beneath the pending edits, with the verdicts that belong to
 * that state (R3) and the bookmark. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

#define SPILLED_FRAME_BYTES_MAX ((size_t)64 << 20)

/* ---- Frames ---- */

void frames_drop(struct replica *r)
{
	arena_reset(&r->frame_arena);
	r->frame_count = 0;
	if (r->frames_spilled) {
		r->g.error = FERRY_OK;
		gate_exec(&r->g, "DELETE FROM ferry_frame"); /* best effort: welcome empties it, too */
	}
	r->frames_spilled = false;
	row_joiner_deinit(&r->frame_row);
	row_joiner_deinit(&r->fill_row);
	r->fill_row_whole = false;
}

static bool copy_cells(struct arena *a, struct value *cells, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct value *v = &cells[i];

		if ((v->kind != VALUE_TEXT && v->kind != VALUE_BYTES) || v->n == 0)
			continue;
		v->p = arena_copy(a, v->p, v->n);
		if (v->p == NULL)
			return false;
	}
	return true;
}

static bool copy_block(struct arena *a, struct block *b)
{
	size_t cells = (size_t)b->row_count * b->column_count;
	struct value *copied = arena_copy(a, b->cells, cells * sizeof(*copied));

	b->nums = arena_copy(a, b->nums, b->column_count * sizeof(*b->nums));
	b->keys = arena_copy(a, b->keys, b->row_count * sizeof(*b->keys));
	b->cells = copied;
	return copied != NULL && b->nums != NULL && b->keys != NULL && copy_cells(a, copied, cells);
}

static bool keep_in_memory(struct replica *r, const struct message_delta *delta)
{
	struct message_delta *copy;
	struct block *blocks;

	if (r->frame_count == r->frame_capacity) {
		uint32_t capacity = r->frame_capacity == 0 ? 16 : r->frame_capacity * 2;
		struct message_delta *grown = realloc(r->frames, capacity * sizeof(*grown));

		if (grown == NULL)
			return false;
		r->frames = grown;
		r->frame_capacity = capacity;
	}
	copy = &r->frames[r->frame_count];
	*copy = *delta;
	copy->scope = arena_text(&r->frame_arena, delta->scope, strlen(delta->scope));
	blocks = arena_copy(&r->frame_arena, delta->blocks, delta->block_count * sizeof(*blocks));
	if (copy->scope == NULL || blocks == NULL)
		return false;
	for (uint32_t i = 0; i < delta->block_count; i++) {
		if (!copy_block(&r->frame_arena, &blocks[i]))
			return false;
	}
	copy->blocks = blocks;
	r->frame_count++;
	return true;
}

static enum ferry_error spill(struct replica *r, const struct message_delta *delta, struct ferry_why *why)
{
	struct message m = {.type = MESSAGE_DELTA, .delta = *delta};
	struct buffer b;
	enum ferry_error e;

	buffer_init(&b, SPILLED_FRAME_BYTES_MAX);
	e = message_encode(&m, &b);
	if (e == FERRY_OK)
		e = replica_begin(r, why);
	if (e == FERRY_OK) {
		r->frames_spilled = true;
		gate_run(&r->g, q(r, Q_FRAME_ADD), "b", b.p, (int)b.n);
		e = replica_end(r, why);
	}
	buffer_deinit(&b);
	return e;
}

/* Once one frame is spilled, those after it are, too: their order counts. */
enum ferry_error replica_delta(void *store, const struct message_delta *delta, struct ferry_why *why)
{
	struct replica *r = store;

	if (!r->frames_spilled && keep_in_memory(r, delta))
		return FERRY_OK;
	return spill(r, delta, why);
}

#define NO_STATE INT64_MIN

/* ---- One row of a frame ---- */

struct frame { /* what a block's rows have in common */
	struct replica *r;
	enum target target;
	struct table *t;
	const struct block *b;
	int64_t scope;
	int columns[FERRY_COLUMNS_MAX]; /* of the block's columns, the table's; -1: unknown to us */
	uint64_t mask;                  /* those known */
};

static void change_cells(struct frame *f, uint32_t row, struct row *to)
{
	const struct block *b = f->b;

	if (b->op == ROW_INSERT) {
		to->present = true;
		for (int i = 0; i < f->r->log_width; i++)
			to->cells[i] = cell_null();
	}
	for (uint32_t c = 0; c < b->column_count; c++) {
		int i = f->columns[c];

		if (i >= 0)
			to->cells[i] = value_to_cell(&f->r->work, f->t->t->columns[i].kind,
						     &b->cells[(size_t)c * b->row_count + row]);
	}
}

static struct cell *copy_of(struct replica *r, const struct cell *cells)
{
	struct cell *copy = arena_copy(&r->work, cells, (size_t)r->log_width * sizeof(*cells));

	if (copy == NULL)
		gate_fail(&r->g, FERRY_LIMIT, "A row is too large to be handled.");
	return copy;
}

static void leave(struct scopes *s, int64_t id)
{
	for (int i = 0; i < s->count; i++) {
		if (s->ids[i] == id) {
			s->ids[i] = s->ids[--s->count];
			return;
		}
	}
}

/* The confirmed row and its scopes, before and after. False: nothing to do. */
static bool change_row(struct frame *f, uint32_t row, const struct row *before, const struct scopes *scopes_before,
		       struct row *after, struct scopes *scopes_after)
{

	scopes_copy(scopes_after, scopes_before);
	after->present = before->present;
	after->cells = copy_of(f->r, before->cells);
	if (after->cells == NULL)
		return false;
	if (f->b->op == ROW_DELETE || f->b->op == ROW_LEFT) {
		/* It goes when its last membership goes (R14). */
		leave(scopes_after, f->scope);
		after->present = before->present && scopes_after->count > 0;
	} else if (f->b->op == ROW_UPDATE && !before->present) {
		f->r->stray = true;
		return false;
	} else {
		change_cells(f, row, after);
		if (!scopes_have(scopes_after, f->scope)) {
			if (scopes_after->count == ROW_SCOPES_MAX) {
				gate_fail(&f->r->g, FERRY_LIMIT, "A row is in too many scopes.");
				return false;
			}
			scopes_after->ids[scopes_after->count++] = f->scope;
		}
	}
	return f->r->g.error == FERRY_OK;
}

/* The row beneath, and its scopes. Where a row stays in the one scope it is in,
 * only what changes has to be read. False after a failure. */
static bool read_before(struct frame *f, const struct uuid *key, const char *text, struct row *before,
			struct scopes *scopes)
{
	struct replica *r = f->r;
	bool some = f->b->op == ROW_UPDATE && f->mask != 0;

	if (some ? !row_read_some(r, f->target, f->t, text, f->mask, before) : !row_read(r, f->target, f->t, text, before))
		return false;
	if (!before->present)
		return true;
	scopes_get(r, f->target, f->t, key, scopes);
	if (some && !(scopes->count == 1 && scopes->ids[0] == f->scope))
		return row_read(r, f->target, f->t, text, before);
	return r->g.error == FERRY_OK;
}

/* Columns that pending edits are about: they tell what was there. */
static uint64_t edited_columns(const struct table *t, const struct stack *s)
{
	uint64_t mask = 0;

	for (uint32_t i = 0; i < s->count; i++)
		mask |= (s->entries[i].op & OP_MASK) == OP_UPDATE ? s->entries[i].mask : t->all;
	return mask;
}

static void apply_row(struct frame *f, uint32_t index)
{
	struct replica *r = f->r;
	const struct uuid *key = &f->b->keys[index];
	struct scopes before_scopes, after_scopes;
	struct stack s = {0};
	struct row before, after;
	char text[UUID_TEXT];

	before_scopes.count = 0;
	arena_reset(&r->work);
	uuid_format(key, text);
	if (f->target == TARGET_LIVE && pending_exists(r, f->t, text)) {
		stack_load(r, f->t, text, &s);
		before = s.confirmed;
		if (before.present)
			scopes_get(r, f->target, f->t, key, &before_scopes);
	} else if (!read_before(f, key, text, &before, &before_scopes)) {
		return;
	}
	if (r->g.error != FERRY_OK)
		return;
	if (!change_row(f, index, &before, &before_scopes, &after, &after_scopes))
		return;
	if (f->target == TARGET_LIVE && f->b->op != ROW_UPDATE && heal_asked(r, f->t->t->table, key))
		heal_report(r, f->t, text, &before, &after);
	sums_change(r, f->target, f->t, key, &before, &before_scopes, &after, &after_scopes);
	if (after_scopes.count != before_scopes.count) /* a frame adds one or takes one */
		scopes_set(r, f->target, f->t, key, &after_scopes);
	if (r->restoring)
		lost_note(r, f->t, text, &before, &after, edited_columns(f->t, &s));
	if (f->target == TARGET_LIVE)
		lost_found(r, f->t, text, &after, s.count == 0 && f->b->op == ROW_UPDATE ? f->mask : f->t->all);
	if (s.count > 0)
		stack_rebase(r, f->target, f->t, text, &s, &after, &s.visible);
	else
		row_write(r, f->target, f->t, text, &before, &after);
}

static bool leaves(enum row_op op)
{
	return op == ROW_DELETE || op == ROW_LEFT;
}

static void apply_block(struct replica *r, enum target target, int64_t scope, const struct block *b,
			struct store_commit_report *report)
{
	struct frame f = {.r = r, .target = target, .t = model_table(target_model(r, target), b->table), .b = b,
			  .scope = scope};

	if (f.t == NULL) {
		gate_fail(&r->g, FERRY_SCHEMA, "The hub sent rows of table %u, which the schema does not hold.", b->table);
		return;
	}
	for (uint32_t c = 0; c < b->column_count; c++) {
		f.columns[c] = table_column(f.t, b->nums[c]);
		if (f.columns[c] < 0)
			gate_fail(&r->g, FERRY_SCHEMA, "The hub sent column %u of table %s, which the schema does not hold.",
				  b->nums[c], f.t->t->name);
		else
			f.mask |= UINT64_C(1) << f.columns[c];
	}
	for (uint32_t i = 0; i < b->row_count && r->g.error == FERRY_OK; i++)
		apply_row(&f, i);
	report->rows_applied += b->row_count;
}

/* A row of a fill that is staged already. */
void fill_again(struct replica *r, int64_t scope, const struct block *b, struct store_commit_report *report)
{
	apply_block(r, TARGET_FILL, scope, b, report);
}

/* [P 6.6] A row that goes on over several frames is applied with its last piece. */
static void apply_piece(struct replica *r, enum target target, int64_t scope, const struct block *piece,
			struct store_commit_report *report)
{
	bool whole = false;
	enum ferry_error e = row_join(&r->frame_row, piece, &whole);

	if (e != FERRY_OK)
		gate_fail(&r->g, e, "The hub sent a row in pieces that do not fit together.");
	if (!whole)
		return;
	apply_block(r, target, scope, &r->frame_row.row, report);
	row_joiner_deinit(&r->frame_row);
}

static void apply_frame(struct replica *r, enum target target, const struct message_delta *delta, bool leaving,
			struct store_commit_report *report)
{
	int64_t scope = scope_id(r, delta->scope);

	for (uint32_t i = 0; i < delta->block_count && r->g.error == FERRY_OK; i++) {
		const struct block *b = &delta->blocks[i];

		if (leaves(b->op) != leaving)
			continue;
		if (b->goes_on || r->frame_row.open)
			apply_piece(r, target, scope, b, report);
		else
			apply_block(r, target, scope, b, report);
	}
}

void frame_apply(struct replica *r, const struct message_delta *delta, bool leaving, struct store_commit_report *report)
{
	apply_frame(r, TARGET_LIVE, delta, leaving, report);
}

/* The frames of one state among those spilled after `id`; gives the last one's id.
 * *to: which state; NO_STATE: that of the first, which is told. */
static int64_t apply_spilled(struct replica *r, enum target target, int64_t id, int64_t *to, bool leaving,
			     struct store_commit_report *report)
{
	sqlite3_stmt *s = q(r, Q_FRAME_GET);
	bool same = true;

	while (same && gate_step(&r->g, s, "i", id)) {
		struct arena a;
		struct message m;
		struct ferry_why why;
		enum ferry_error e;
		int64_t next = sqlite3_column_int64(s, 0);

		arena_init(&a, 64u << 20);
		e = message_decode(&a, sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1), &m, &why);
		if (e == FERRY_OK && m.type == MESSAGE_DELTA) {
			*to = *to == NO_STATE ? m.delta.to : *to;
			same = m.delta.to == *to;
		}
		if (e != FERRY_OK)
			gate_fail(&r->g, e, "A kept frame cannot be read: %.200s", why.text);
		else if (same && m.type == MESSAGE_DELTA)
			apply_frame(r, target, &m.delta, leaving, report);
		if (same)
			id = next;
		arena_deinit(&a);
		s = q(r, Q_FRAME_GET);
	}
	return id;
}

/* A state: frames first..end-1 in memory, and where it goes on, those of the
 * same state among the spilled after `id`. Additions of all scopes come first,
 * then all leavings (R14): a row that moves from one held scope to another
 * never goes. Gives the id of its last spilled frame. */
static int64_t apply_state(struct replica *r, enum target target, uint32_t first, uint32_t end, bool goes_on, int64_t id,
			   struct store_commit_report *report)
{
	int64_t to = first < end ? r->frames[first].to : NO_STATE, last = id;

	for (int leaving = 0; leaving < 2; leaving++) {
		for (uint32_t i = first; i < end && r->g.error == FERRY_OK; i++)
			apply_frame(r, target, &r->frames[i], leaving, report);
		if (goes_on && r->g.error == FERRY_OK)
			last = apply_spilled(r, target, id, &to, leaving, report);
		if (r->frame_row.open)
			gate_fail(&r->g, FERRY_BAD_MESSAGE, "The hub did not send the end of a row.");
	}
	return last;
}

/* A commit may bring several states at once. Each is folded by itself, since
 * a row may leave with one and come back with the next. */
void frames_apply(struct replica *r, enum target target, struct store_commit_report *report)
{
	int64_t id = 0, last = -1;

	row_joiner_deinit(&r->frame_row);
	for (uint32_t i = 0, end; i < r->frame_count && r->g.error == FERRY_OK; i = end) {
		for (end = i + 1; end < r->frame_count && r->frames[end].to == r->frames[i].to; end++)
			;
		id = apply_state(r, target, i, end, r->frames_spilled && end == r->frame_count, id, report);
	}
	while (r->frames_spilled && last != id && r->g.error == FERRY_OK) {
		last = id;
		id = apply_state(r, target, 0, 0, true, id, report);
	}
}

void frames_each(struct replica *r, void (*each)(struct replica *r, void *ctx, const struct message_delta *delta), void *ctx)
{
	int64_t id = 0;
	sqlite3_stmt *s;

	for (uint32_t i = 0; i < r->frame_count && r->g.error == FERRY_OK; i++)
		each(r, ctx, &r->frames[i]);
	while (r->frames_spilled && gate_step(&r->g, s = q(r, Q_FRAME_GET), "i", id)) {
		struct message m;
		struct ferry_why why;
		struct arena a;

		id = sqlite3_column_int64(s, 0);
		arena_init(&a, SPILLED_FRAME_BYTES_MAX);
		if (message_decode(&a, sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1), &m, &why) == FERRY_OK)
			each(r, ctx, &m.delta);
		else
			gate_fail(&r->g, FERRY_CORRUPT, "A kept frame cannot be read.");
		arena_deinit(&a);
	}
}

void block_row(const struct block *b, uint32_t row, struct value cells[FERRY_COLUMNS_MAX], struct block *out)
{
	*out = *b;
	for (uint32_t c = 0; c < b->column_count; c++)
		cells[c] = b->cells[(size_t)c * b->row_count + row];
	out->row_count = 1;
	out->keys = &b->keys[row];
	out->cells = cells;
}

/* ---- Commit ---- */

/* Of a session that compares after a rewind the commit that closes it is the
 * first, and none may come before all is compared. */
static enum ferry_error check_close(const struct replica *r, const struct message_commit *c, struct ferry_why *why)
{
	if (r->rewind == NULL || (c->fill_done && rewind_ended(r)))
		return FERRY_OK;
	return ferry_fail(why, FERRY_UNEXPECTED_MESSAGE, "The hub closed a comparison that had not ended.");
}

static void move_bookmark(struct replica *r, const struct message_commit *c)
{
	r->st.position = c->position;
	r->st.mark = c->mark;
	bookmark_note(r);
	if (r->frames_spilled)
		gate_exec(&r->g, "DELETE FROM ferry_frame");
}

enum ferry_error replica_commit(void *store, const struct message_commit *c, struct store_commit_report *report,
				struct ferry_why *why)
{
	struct replica *r = store;
	struct store_commit_report out = {.sums_match = true};
	enum ferry_error e = check_close(r, c, why);
	bool migrates = migration_waits(r) && !c->fill_done, rewinds = r->rewind != NULL;
	bool swap = c->fill_done && r->st.fill != FILL_BESIDE && !rewinds;

	r->stray = false;
	if (e == FERRY_OK)
		e = cut_all(r, why); /* in short transactions, as far as it goes */
	if (e == FERRY_OK && swap)
		e = fill_fold(r, &out, why);
	if (e == FERRY_OK)
		e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	/* What was captured since then was made on the old bookmark, too. */
	cut_rest(r);
	r->scopes_lack &= !c->fill_done;
	if (c->clock > r->st.commit_clock)
		r->st.commit_clock = c->clock;
	settle_take(r, c->settled, c->settled_count, &out);
	if (migrates || swap)
		cut_rest(r); /* what is offered again was written under the schema that goes: former_keep wants it whole */
	if (swap && r->st.rewound > 0)
		lost_keep(r);
	if (swap) {
		fill_swap(r);
	} else {
		if (migrates)
			replica_migrate(r);
		if (rewinds)
			rewind_apply(r, &out);
		else if (c->fill_done)
			scopes_join(r);
		frames_apply(r, TARGET_LIVE, &out);
	}
	settle_sweep(r);
	if (swap)
		alarms_healed(r);
	sums_compare(r, c, &out);
	move_bookmark(r, c);
	kept_backed_up(r, c->backed_up);
	kept_trim(r);
	cut_rest(r); /* makes what is offered again ready */
	e = replica_end(r, why);
	if (e != FERRY_OK && migrates)
		schema_stays(r, e);
	if (e != FERRY_OK)
		return e; /* the frames are kept for another try */
	frames_drop(r);
	rewind_drop(r);
	out.forgotten = r->fell_out;
	r->fell_out = 0;
	*report = out;
	return FERRY_OK;
}
