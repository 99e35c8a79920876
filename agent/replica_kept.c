/* Kept history (R18): what the hub has confirmed, until a backup of it holds
 * that; and what follows from a hub that was restored to an earlier state.
 *
 *   ferry_kept       a settled change-set: where, with which verdict, its body
 *   ferry_kept_part  the further parts of one that did not fit in a message
 *   ferry_bookmark   bookmarks of the past, spaced: by them the hub finds the
 *                    newest position that both histories have
 *
 * A number that the hub does not know as settled, though it has been, is due:
 * it is pushed again (a replay), ahead of what is new. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

#define BODY_BYTES_MAX (4u * FERRY_MESSAGE_BYTES_MAX)
#define BOOKMARKS_NEWEST 16 /* of these every one is kept */
#define TRIM_SETS 64        /* forgotten at a time */
#define POSITION_LEAP (INT64_C(1) << 40)

/* ---- Bookmarks of the past ---- */

/* Positions of a restored hub begin anew far above those of the history it has
 * lost: such a leap counts as one step. */
static int64_t steps_between(int64_t newer, int64_t older)
{
	return newer - older < POSITION_LEAP ? newer - older : 1;
}

/* positions: newest first. Which to keep: the newest few, then each that is at
 * least as far from the one kept before as half of its way back, and the
 * oldest. So 64 reach over any history. */
uint32_t bookmarks_thin(const int64_t *positions, uint32_t count, bool *keep)
{
	uint32_t kept = 0;
	int64_t back = 0, last = 0; /* steps from the newest one */

	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			back += steps_between(positions[i - 1], positions[i]);
		keep[i] = i < BOOKMARKS_NEWEST || i + 1 == count || back - last >= back / 2;
		if (keep[i]) {
			last = back;
			kept++;
		}
	}
	return kept;
}

static void thin_out(struct replica *r)
{
	int64_t positions[4 * FERRY_PAST_MAX];
	bool keep[4 * FERRY_PAST_MAX];
	sqlite3_stmt *s = q(r, Q_BOOKMARKS);
	uint32_t n = 0;

	for (bool more = gate_step(&r->g, s, ""); more && n < 4 * FERRY_PAST_MAX; more = gate_next(&r->g, s))
		positions[n++] = sqlite3_column_int64(s, 0);
	if (s != NULL)
		sqlite3_reset(s);
	if (n <= FERRY_PAST_MAX)
		return;
	(void)bookmarks_thin(positions, n, keep);
	for (uint32_t i = 0; i < n; i++) {
		if (!keep[i])
			gate_run(&r->g, q(r, Q_BOOKMARK_DELETE), "i", positions[i]);
	}
}

void bookmark_note(struct replica *r)
{
	if (r->st.position <= 0)
		return;
	gate_run(&r->g, q(r, Q_BOOKMARK_ADD), "ii", r->st.position, r->st.mark);
	if (r->commits % FERRY_PAST_MAX == 0)
		thin_out(r);
}

/* Into r->past and r->past_marks, ascending. */
uint32_t bookmarks_list(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_BOOKMARKS);
	uint32_t n = 0;

	for (bool more = gate_step(&r->g, s, ""); more && n < FERRY_PAST_MAX; more = gate_next(&r->g, s)) {
		r->past[FERRY_PAST_MAX - 1 - n] = sqlite3_column_int64(s, 0);
		r->past_marks[FERRY_PAST_MAX - 1 - n] = sqlite3_column_int64(s, 1);
		n++;
	}
	if (s != NULL)
		sqlite3_reset(s);
	return n;
}

/* ---- Keeping ---- */

struct keeping {
	struct replica *r;
	int64_t number;
	struct buffer body, first;
	int64_t bytes;
	uint32_t parts;
};

static bool keep_part(void *ctx, const struct change_set *part)
{
	struct keeping *k = ctx;
	struct gate *g = &k->r->g;

	buffer_clear(&k->body);
	if (change_set_encode(part, &k->body) != FERRY_OK)
		return false;
	k->bytes += (int64_t)k->body.n;
	if (k->parts++ == 0) {
		struct buffer first = k->first;

		k->first = k->body;
		k->body = first;
	} else {
		gate_run(g, q(k->r, Q_KEPT_PART_ADD), "iib", k->number, (int64_t)part->part, k->body.p, (int)k->body.n);
	}
	return g->error == FERRY_OK;
}

/* How old what is kept is, the hub's clock says (P10): this device's may be set by years at any time. */
static int64_t hub_now(struct replica *r)
{
	return r->st.commit_clock > 0 ? r->st.commit_clock : replica_wall(r);
}

/* In the transaction that applies its verdict. What cannot be read back any
 * more is kept without its body: then its number is all that comes back. */
void kept_add(struct replica *r, const struct set *set, const struct settled *v)
{
	struct keeping k = {.r = r, .number = set->number};
	bool whole;

	buffer_init(&k.body, BODY_BYTES_MAX);
	buffer_init(&k.first, BODY_BYTES_MAX);
	gate_run(&r->g, q(r, Q_KEPT_PART_DELETE), "i", set->number);
	whole = push_parts(r, set, keep_part, &k);
	if (!whole && r->g.error == FERRY_OK)
		gate_run(&r->g, q(r, Q_KEPT_PART_DELETE), "i", set->number);
	gate_run(&r->g, q(r, Q_KEPT_ADD), "iiiitiib", set->number, v->position, (int64_t)v->verdict, (int64_t)v->code,
		 v->sentence, hub_now(r), whole ? k.bytes : 0, whole ? k.first.p : NULL, (int)k.first.n);
	r->st.kept_bytes += whole ? k.bytes : 0;
	buffer_deinit(&k.body);
	buffer_deinit(&k.first);
}

static void forget(struct replica *r, int64_t number, int64_t bytes)
{
	gate_run(&r->g, q(r, Q_KEPT_PART_DELETE), "i", number);
	gate_run(&r->g, q(r, Q_KEPT_DELETE), "i", number);
	r->st.kept_bytes -= bytes;
}

/* Runs a query of (number, bytes) and forgets what it finds; how many. */
static uint32_t forget_found(struct replica *r, enum query which, int64_t given)
{
	int64_t numbers[TRIM_SETS], bytes[TRIM_SETS];
	uint32_t total = 0, n = TRIM_SETS;

	while (n == TRIM_SETS && r->g.error == FERRY_OK) {
		sqlite3_stmt *s = q(r, which);

		n = 0;
		for (bool more = gate_step(&r->g, s, "ii", given, (int64_t)TRIM_SETS); more && n < TRIM_SETS;
		     more = gate_next(&r->g, s)) {
			numbers[n] = sqlite3_column_int64(s, 0);
			bytes[n++] = sqlite3_column_int64(s, 1);
		}
		if (s != NULL)
			sqlite3_reset(s);
		for (uint32_t i = 0; i < n; i++)
			forget(r, numbers[i], bytes[i]);
		total += n;
	}
	return total;
}

void kept_backed_up(struct replica *r, int64_t position)
{
	if (position > 0)
		(void)forget_found(r, Q_KEPT_BACKED_UP, position);
}

/* Bounded by age and bytes; what falls out before a backup held it is counted
 * and said. Replays stay until they are settled. */
void kept_trim(struct replica *r)
{
	uint32_t n = 0;

	if (r->st.kept_bytes > r->options.history_bytes_max) {
		int64_t over = r->st.kept_bytes - r->options.history_bytes_max;
		sqlite3_stmt *s;

		while (over > 0 && r->g.error == FERRY_OK && gate_step(&r->g, s = q(r, Q_KEPT_OLDEST), "")) {
			int64_t number = sqlite3_column_int64(s, 0), bytes = sqlite3_column_int64(s, 1);

			sqlite3_reset(s);
			forget(r, number, bytes);
			over -= bytes;
			n++;
		}
	}
	if (r->commits % FERRY_PAST_MAX == 0)
		n += forget_found(r, Q_KEPT_AGED, hub_now(r) - r->options.history_age_us);
	if (n == 0)
		return;
	r->st.forgotten += n;
	r->fell_out += n;
}

/* ---- Verdicts of replays ---- */

struct kept_body {
	struct arena arena;
	struct change_set set;
};

static bool body_read(struct replica *r, int64_t number, uint32_t part, struct arena *arena, struct change_set *out)
{
	sqlite3_stmt *s = part == 0 ? q(r, Q_KEPT_BODY) : q(r, Q_KEPT_PART);
	bool found = part == 0 ? gate_step(&r->g, s, "i", number) : gate_step(&r->g, s, "ii", number, (int64_t)part);
	size_t n = found ? (size_t)sqlite3_column_bytes(s, 0) : 0;
	const uint8_t *bytes = n > 0 ? arena_copy(arena, sqlite3_column_blob(s, 0), n) : NULL;
	struct ferry_why why;

	if (s != NULL)
		sqlite3_reset(s);
	return bytes != NULL && change_set_decode(arena, bytes, n, out, &why) == FERRY_OK;
}

/* A replay that is refused now had been accepted before: its values are kept
 * and shown as those of any refusal. */
static void reject_block(struct replica *r, const struct set *set, const struct settled *v, const struct block *b)
{
	struct table *t = model_table(&r->now, b->table);
	struct cell *cells, *olds;

	for (uint32_t row = 0; t != NULL && row < b->row_count && r->g.error == FERRY_OK; row++) {
		struct entry e = {.number = set->number, .op = (int)b->op};
		char key[UUID_TEXT];

		arena_reset(&r->work);
		cells = arena_array(&r->work, FERRY_COLUMNS_MAX, sizeof(*cells));
		olds = arena_array(&r->work, FERRY_COLUMNS_MAX, sizeof(*olds));
		if (cells == NULL || olds == NULL)
			return;
		for (int i = 0; i < FERRY_COLUMNS_MAX; i++) {
			cells[i] = cell_null();
			olds[i] = (struct cell){.type = CELL_FAR}; /* until it is said */
		}
		for (uint16_t c = 0; c < b->column_count; c++) {
			int column = table_column(t, b->nums[c]);

			if (column < 0)
				continue;
			cells[column] = value_to_cell(&r->work, t->t->columns[column].kind, &b->cells[(size_t)c * b->row_count + row]);
			e.mask |= UINT64_C(1) << column;
		}
		for (uint16_t o = 0; o < b->old_count; o++) {
			int column = table_column(t, b->old_nums[o]);

			if (column >= 0)
				olds[column] = value_to_cell(&r->work, t->t->columns[column].kind, &b->olds[(size_t)o * b->row_count + row]);
		}
		e.fresh = cells;
		e.old = b->old_count > 0 ? olds : NULL;
		uuid_format(&b->keys[row], key);
		reject_row(r, set, v->code, v->sentence != NULL ? v->sentence : ferry_error_text(v->code), t, key, &e, e.mask);
	}
}

static void reject_kept(struct replica *r, const struct settled *v)
{
	const struct set set = {.number = v->number};
	struct change_set part = {.more = true};
	struct arena keep = r->work, arena;

	arena_init(&r->work, REPLICA_WORK_BYTES_MAX);
	arena_init(&arena, REPLICA_WORK_BYTES_MAX);
	for (uint32_t i = 0; part.more && body_read(r, v->number, i, &arena, &part); i++) {
		for (uint32_t b = 0; b < part.block_count; b++)
			reject_block(r, &set, v, &part.blocks[b]);
		arena_reset(&arena);
	}
	arena_deinit(&arena);
	arena_deinit(&r->work);
	r->work = keep;
}

bool kept_settle(struct replica *r, const struct settled *v)
{
	sqlite3_stmt *s = q(r, Q_KEPT_GET);
	int64_t old;

	if (!gate_step(&r->g, s, "i", v->number))
		return false;
	old = sqlite3_column_int64(s, 0);
	sqlite3_reset(s);
	if (v->verdict == VERDICT_REJECTED && old != VERDICT_REJECTED)
		reject_kept(r, v);
	gate_run(&r->g, q(r, Q_KEPT_SETTLE), "iiiit", v->number, v->position, (int64_t)v->verdict, (int64_t)v->code, v->sentence);
	return true;
}

/* ---- Replays ---- */

/* Numbers that were given out, are settled, and yet unknown to hub and kept
 * history: fallen out. Numbers have no gaps, so they go out empty. */
static void fill_gaps(struct replica *r, const struct message_welcome *w)
{
	uint32_t above = 0;

	for (int64_t n = w->settled + 1; n <= r->st.last_number && r->g.error == FERRY_OK; n++) {
		while (above < w->settled_above_count && w->settled_above[above] < n)
			above++;
		if (above < w->settled_above_count && w->settled_above[above] == n)
			continue;
		gate_run(&r->g, q(r, Q_KEPT_GAP), "iiiti", n, (int64_t)VERDICT_REJECTED, (int64_t)FERRY_FORGOTTEN,
			 ferry_error_text(FERRY_FORGOTTEN), hub_now(r));
	}
}

static int64_t count_of(struct replica *r, enum query which, int64_t given)
{
	sqlite3_stmt *s = q(r, which);
	int64_t n = gate_step(&r->g, s, "i", given) ? sqlite3_column_int64(s, 0) : 0;

	if (s != NULL)
		sqlite3_reset(s);
	return n;
}

/* What the hub says is settled need not come again; all the rest does. */
void kept_welcome(struct replica *r, const struct message_welcome *w)
{
	gate_run(&r->g, q(r, Q_KEPT_DUE), "i", w->settled);
	for (uint32_t i = 0; i < w->settled_above_count; i++)
		gate_run(&r->g, q(r, Q_KEPT_NOT_DUE), "i", w->settled_above[i]);
	if (w->settled + w->settled_above_count + count_of(r, Q_SETS_ABOVE, w->settled) + count_of(r, Q_KEPT_ABOVE, w->settled) <
	    r->st.last_number)
		fill_gaps(r, w);
	kept_backed_up(r, w->backed_up);
}

int64_t kept_next(struct replica *r, int64_t after)
{
	sqlite3_stmt *s = q(r, Q_KEPT_NEXT);
	int64_t number = gate_step(&r->g, s, "i", after) ? sqlite3_column_int64(s, 0) : INT64_MAX;

	if (s != NULL)
		sqlite3_reset(s);
	return number;
}

bool kept_part(struct replica *r, int64_t number, uint32_t part, struct arena *arena, struct change_set *out)
{
	sqlite3_stmt *s = q(r, Q_KEPT_REPLAY);
	int64_t lost_from, position, last, verdict, code;
	const char *sentence = NULL;
	bool has_body;

	if (!gate_step(&r->g, s, "i", number))
		return false;
	position = sqlite3_column_int64(s, 0);
	verdict = sqlite3_column_int64(s, 1);
	code = sqlite3_column_int64(s, 2);
	if (sqlite3_column_type(s, 3) == SQLITE_TEXT)
		sentence = arena_text(arena, sqlite3_column_text(s, 3), (size_t)sqlite3_column_bytes(s, 3));
	lost_from = sqlite3_column_int64(s, 4);
	has_body = sqlite3_column_int(s, 5) != 0;
	last = sqlite3_column_int64(s, 6);
	sqlite3_reset(s);
	*out = (struct change_set){.number = number};
	if (has_body && !body_read(r, number, part, arena, out)) {
		gate_fail(&r->g, FERRY_CORRUPT, "A kept change-set cannot be read.");
		return false;
	}
	if (lost_from > 0 && (out->lost_from == 0 || out->lost_from > lost_from))
		out->lost_from = lost_from;
	out->old_position = position > 0 ? position : 1;
	out->last_position = last != position ? last : 0;
	out->old_verdict = (int)verdict;
	out->old_code = (int)code;
	out->old_sentence = sentence;
	return true;
}

/* ---- The hub went back in time ---- */

/* A change-set's own base goes out as it is, with where the lost history began.
 * Exceptions of single cells are lowered at once: new edits may inherit them. */
static void clamp_pending(struct replica *r, int64_t common)
{
	sqlite3_stmt *s = NULL, *save = NULL;

	gate_execf(&r->g, "UPDATE ferry_change_set SET lost_from = %lld WHERE base > %lld AND (lost_from = 0 OR lost_from > %lld)",
		   (long long)common + 1, (long long)common, (long long)common + 1);
	gate_statement(&r->g, &s, "SELECT tbl, key, seq, number, base FROM ferry_pending WHERE base IS NOT NULL");
	for (bool more = gate_step(&r->g, s, ""); more; more = gate_next(&r->g, s)) {
		int n = sqlite3_column_bytes(s, 4);
		int64_t *pairs = arena_copy(&r->work, sqlite3_column_blob(s, 4), (size_t)n);
		char key[UUID_TEXT] = "";

		memcpy(key, sqlite3_column_text(s, 1), UUID_TEXT - 1);
		for (int i = 1; pairs != NULL && i < n / 8; i += 2) {
			if (pairs[i] > common)
				pairs[i] = common;
		}
		gate_run(&r->g, gate_statement(&r->g, &save, replica_sql[Q_PENDING_NUMBER]), "itiib", sqlite3_column_int64(s, 0),
			 key, sqlite3_column_int64(s, 2), sqlite3_column_int64(s, 3), pairs, n);
		arena_reset(&r->work);
	}
	gate_finalize(&s);
	gate_finalize(&save);
}

/* R17: positions above the common one count as that. The replica's rows are
 * still those of the lost history, until a fill has replaced them. */
void kept_rewind(struct replica *r, const struct message_welcome *w)
{
	int64_t common = w->common < r->st.position ? w->common : 0;

	if (r->st.position < 0)
		return;
	clamp_pending(r, common);
	gate_run(&r->g, q(r, Q_KEPT_LOST), "i", common + 1);
	gate_run(&r->g, q(r, Q_BOOKMARKS_CUT), "i", common);
	if (r->st.rewound == 0)
		r->st.rewound = r->st.position > 0 ? r->st.position : 1;
	r->st.position = common;
	r->st.mark = common == w->common ? w->common_mark : 0;
}
