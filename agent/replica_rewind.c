/* After the hub went back in time (R17): which rows differ from the hub's, and
 * they alone are fetched; all others stay as they are.
 *
 * The session is that of a fill [P 9.16]: nothing shows before the commit that
 * closes it, and what the hub writes meanwhile comes with that commit. First
 * the hub's sums of all scopes and tables are held against what stands in the
 * file; where these are the same nothing more is asked. Else the hub sends hashes
 * of ranges of keys; ranges that differ are asked about again until they hold one
 * row of the hub's at most. That row is asked for; rows of ours that the hub has
 * not are known by then. Each range is compared once: what changes behind it
 * comes with the closing deltas, which reach back to the first answer.
 *
 *   ferry_restored   a row as the hub has it (`frame`, in pieces where it is
 *                    large), or that it has not (`present` 0), by scope
 *
 * It stays in the file when the link is cut. What is in it counts as ours in the
 * next comparison, so rows are not fetched twice, and nothing in it is trusted:
 * it may be of a history that is lost by then, too.
 *
 * Hashing goes in slices, each a short transaction, while the answer waits. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/cell_hash.h"

#define RANGES_OPEN_MAX 1024  /* ranges known to differ; where more do, the table is compared once more */
#define RANGES_OPEN_MANY 512  /* from there on one is asked about at a time */
#define WANTS_MAX 256         /* rows asked for at once */
#define RESTORED_MAX 100000   /* rows that differ: more would hold the write lock for long */
#define CHEAP 2000            /* ranges and rows that may come in any case */
#define NAMES_BYTES_MAX ((size_t)1 << 20)
#define FRAME_BYTES_MAX ((size_t)64 << 20)

struct pair { /* a scope and table: what stands here, or is fetched */
	int64_t rows;
	uint64_t hash; /* xor of all its cells' */
	bool same;     /* as at the hub */
};

struct rewind {
	struct arena names;
	const char **scopes;
	int64_t *ids;          /* of the scopes */
	uint32_t scope_count;
	struct pair *pairs;    /* table by table, of all scopes */
	bool summing, summed;  /* the hub's sums are asked for; have come */
	uint32_t scope, table; /* where it stands: indexes */
	bool open;             /* that pair has begun */
	bool again;            /* more of its ranges differ than are kept */
	bool ended;            /* the hub was told that all is compared */
	struct key_range todo[RANGES_OPEN_MAX];
	uint32_t todo_count;
	struct wanted_key wants[WANTS_MAX], asked[WANTS_MAX];
	uint32_t want_count;
	int64_t ranges, fetched; /* that came: what the comparison costs */
	int64_t kept;            /* rows of ferry_restored */

	/* The answer being worked on, and what was known before it. */
	struct key_walk walk;
	const struct key_range *part;
	bool working;
	uint32_t at, todo_before, want_before;
	int64_t rows;
	uint64_t hash;
};

/* ---- Life ---- */

void rewind_drop(struct replica *r)
{
	if (r->rewind == NULL)
		return;
	walk_end(&r->rewind->walk);
	arena_deinit(&r->rewind->names);
	free(r->rewind->pairs);
	free(r->rewind);
	r->rewind = NULL;
}

bool rewind_possible(const struct replica *r)
{
	return r->st.position >= 0 && r->st.fill != FILL_ALL && r->next.schema.table_count == 0 && !r->fill_rather;
}

bool rewind_ended(const struct replica *r)
{
	return r->rewind->ended;
}

void rewind_prepare(struct replica *r)
{
	gate_exec(&r->g, "CREATE TABLE IF NOT EXISTS ferry_restored(id INTEGER PRIMARY KEY, scope INTEGER NOT NULL, tbl INTEGER NOT NULL, "
			 "key TEXT NOT NULL, present INTEGER NOT NULL, hash INTEGER, frame BLOB) STRICT; "
			 "CREATE INDEX IF NOT EXISTS ferry_restored_row ON ferry_restored(scope, tbl, key)");
}

void rewind_forget(struct replica *r)
{
	gate_exec(&r->g, "DROP TABLE IF EXISTS ferry_restored");
}

static bool take_scopes(struct replica *r, struct rewind *w, const struct message_welcome *m)
{
	w->scopes = arena_array(&w->names, m->scope_count, sizeof(*w->scopes));
	w->ids = arena_array(&w->names, m->scope_count, sizeof(*w->ids));
	w->pairs = calloc((size_t)m->scope_count * r->now.schema.table_count, sizeof(*w->pairs));
	if (w->scopes == NULL || w->ids == NULL || w->pairs == NULL)
		return false;
	for (uint32_t i = 0; i < m->scope_count; i++) {
		w->scopes[i] = arena_text(&w->names, m->scopes[i], strlen(m->scopes[i]));
		if (w->scopes[i] == NULL)
			return false;
		w->ids[i] = scope_id(r, w->scopes[i]);
	}
	w->scope_count = m->scope_count;
	w->walk.fetched = true;
	return true;
}

static int64_t count_kept(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_RESTORED_COUNT);
	int64_t n = gate_step(&r->g, s, "") ? sqlite3_column_int64(s, 0) : 0;

	if (s != NULL)
		sqlite3_reset(s);
	return n;
}

enum ferry_error rewind_begin(struct replica *r, const struct message_welcome *w, struct ferry_why *why)
{
	rewind_drop(r);
	if (r->st.rewound == 0 || !rewind_possible(r) || w->scope_count == 0 || r->now.schema.table_count == 0)
		return ferry_fail(why, FERRY_UNEXPECTED_MESSAGE, "The hub compares a replica that cannot be compared.");
	r->rewind = calloc(1, sizeof(*r->rewind));
	if (r->rewind == NULL)
		return ferry_fail(why, FERRY_NO_MEMORY, "No memory for a comparison.");
	arena_init(&r->rewind->names, NAMES_BYTES_MAX);
	r->g.error = FERRY_OK;
	r->rewind->kept = count_kept(r);
	if (take_scopes(r, r->rewind, w) && r->g.error == FERRY_OK)
		return FERRY_OK;
	rewind_drop(r);
	return ferry_fail(why, FERRY_NO_MEMORY, "No memory for a comparison.");
}

/* ---- The next question ---- */

static struct pair *pair_of(const struct rewind *w, uint32_t scope, uint32_t table)
{
	return &w->pairs[(size_t)table * w->scope_count + scope];
}

static void step(struct replica *r, struct rewind *w)
{
	if (++w->table < r->now.schema.table_count)
		return;
	w->table = 0;
	w->scope++;
}

/* The next scope and table that differ, as a whole. False: there is none. */
static bool next_pair(struct replica *r, struct rewind *w)
{
	if (w->open && !w->again)
		step(r, w);
	while (w->scope < w->scope_count && pair_of(w, w->scope, w->table)->same)
		step(r, w);
	w->open = true;
	w->again = false;
	walk_end(&w->walk);
	if (w->scope == w->scope_count)
		return false;
	w->todo[0] = (struct key_range){.rows = 0};
	w->todo_count = 1;
	return true;
}

/* The ranges found last come first, so that few are known at a time. */
static void ask(struct replica *r, struct rewind *w, struct message_compare *out)
{
	uint32_t most = w->todo_count > RANGES_OPEN_MANY ? 1 : FERRY_COMPARE_RANGES_MAX;
	uint32_t n = w->todo_count < most ? w->todo_count : most;

	w->todo_count -= n;
	memcpy(w->asked, w->wants, w->want_count * sizeof(w->wants[0]));
	*out = (struct message_compare){.scope = w->scopes[w->scope], .table = r->now.schema.tables[w->table].table,
					.ranges = w->todo + w->todo_count, .range_count = n, .keys = w->asked,
					.key_count = w->want_count};
	w->want_count = 0;
}

enum ferry_error rewind_compare(struct replica *r, struct message_compare *out, bool *out_any)
{
	struct rewind *w = r->rewind;

	*out_any = !w->ended;
	if (w->ended)
		return FERRY_OK;
	w->summing = !w->summed;
	if (w->summed && w->todo_count == 0 && w->want_count == 0)
		w->ended = !next_pair(r, w);
	if (w->summing || w->ended)
		*out = (struct message_compare){.scope = w->scopes[0], .table = r->now.schema.tables[0].table, .sums = w->summing};
	else
		ask(r, w, out);
	return FERRY_OK;
}

/* ---- What was fetched ---- */

static uint64_t hash_of(const struct table *t, const struct block *b)
{
	uint64_t seed = cell_hash_row_seed(&b->keys[0]), hash = seed;

	for (uint16_t c = 0; c < b->column_count; c++) {
		int i = table_column(t, b->nums[c]);

		if (i >= 0 && b->cells[c].kind != VALUE_NULL)
			hash ^= cell_hash(seed, b->nums[c], t->t->columns[i].kind, &b->cells[c]);
	}
	return hash;
}

static void encode_row(struct replica *r, const struct message_delta *d, const struct block *row, struct buffer *out)
{
	struct message m = {.type = MESSAGE_DELTA, .delta = *d};
	enum ferry_error e;

	m.delta.blocks = row;
	m.delta.block_count = 1;
	buffer_init(out, FRAME_BYTES_MAX);
	e = message_encode(&m, out);
	if (e != FERRY_OK)
		gate_fail(&r->g, e, "A row that the hub sent cannot be kept.");
}

/* hash NULL: a piece that another follows. */
static void keep(struct replica *r, int64_t scope, uint32_t table, const char *key, bool first, const uint64_t *hash,
		 const struct buffer *frame)
{
	sqlite3_stmt *s;

	if (first)
		gate_run(&r->g, q(r, Q_RESTORED_DELETE), "iit", scope, (int64_t)table, key);
	s = q(r, Q_RESTORED_ADD);
	if (s == NULL)
		return;
	sqlite3_clear_bindings(s);
	if (hash != NULL)
		sqlite3_bind_int64(s, 5, (int64_t)*hash);
	if (frame != NULL)
		sqlite3_bind_blob64(s, 6, frame->p, frame->n, SQLITE_STATIC);
	gate_run(&r->g, s, "iiti", scope, (int64_t)table, key, (int64_t)(frame != NULL));
	r->rewind->kept++;
}

/* A row of a frame, or a piece of one that goes on over several [P 6.6]. */
static void keep_row(struct replica *r, const struct message_delta *d, int64_t scope, const struct table *t,
		     const struct block *row)
{
	bool first = !r->frame_row.open, whole = true, pieces = row->goes_on || r->frame_row.open;
	enum ferry_error e = pieces ? row_join(&r->frame_row, row, &whole) : FERRY_OK;
	char key[UUID_TEXT];
	struct buffer frame;
	uint64_t hash = 0;

	if (e != FERRY_OK)
		gate_fail(&r->g, e, "The hub sent a row in pieces that do not fit together.");
	if (r->g.error != FERRY_OK)
		return;
	if (whole)
		hash = hash_of(t, pieces ? &r->frame_row.row : row);
	uuid_format(&row->keys[0], key);
	encode_row(r, d, row, &frame);
	keep(r, scope, t->t->table, key, first, whole ? &hash : NULL, &frame);
	buffer_deinit(&frame);
	if (pieces && whole)
		row_joiner_deinit(&r->frame_row);
	r->rewind->fetched += whole;
}

static void keep_absent(struct replica *r, int64_t scope, const struct table *t, const char *key)
{
	const uint64_t none = 0;

	keep(r, scope, t->t->table, key, true, &none, NULL);
}

static void keep_block(struct replica *r, const struct message_delta *d, int64_t scope, const struct block *b)
{
	struct table *t = model_table(&r->now, b->table);
	struct value cells[FERRY_COLUMNS_MAX];
	struct block row;
	char key[UUID_TEXT];

	if (t == NULL || b->op == ROW_UPDATE || b->column_count > FERRY_COLUMNS_MAX) {
		gate_fail(&r->g, FERRY_UNEXPECTED_MESSAGE, "The hub sent a row that was not asked for.");
		return;
	}
	for (uint32_t i = 0; i < b->row_count && r->g.error == FERRY_OK; i++) {
		block_row(b, i, cells, &row);
		uuid_format(&row.keys[0], key);
		if (b->op == ROW_INSERT)
			keep_row(r, d, scope, t, &row);
		else
			keep_absent(r, scope, t, key);
	}
}

static void keep_frame(struct replica *r, void *ctx, const struct message_delta *d)
{
	int64_t scope = scope_id(r, d->scope);

	(void)ctx;
	for (uint32_t i = 0; i < d->block_count && r->g.error == FERRY_OK; i++)
		keep_block(r, d, scope, &d->blocks[i]);
}

static void keep_frames(struct replica *r)
{
	row_joiner_deinit(&r->frame_row);
	frames_each(r, keep_frame, NULL);
	if (r->frame_row.open)
		gate_fail(&r->g, FERRY_BAD_MESSAGE, "The hub did not send the end of a row.");
}

/* ---- What stands here ---- */

/* Was the row fetched? Then that is what counts. */
static bool fetched(struct replica *r, int64_t scope, const struct table *t, const char *key, bool *out_present,
		    uint64_t *out_hash)
{
	sqlite3_stmt *s = r->rewind->kept > 0 ? q(r, Q_RESTORED_GET) : NULL;
	bool found = s != NULL && gate_step(&r->g, s, "iit", scope, (int64_t)t->t->table, key) &&
		     sqlite3_column_type(s, 0) != SQLITE_NULL;

	if (found) {
		*out_present = sqlite3_column_int(s, 0) != 0;
		*out_hash = (uint64_t)sqlite3_column_int64(s, 1);
	}
	if (s != NULL)
		sqlite3_reset(s);
	return found;
}

/* The confirmed row of a key and its scopes; none: there is no such row. */
static uint64_t confirmed(struct replica *r, struct table *t, const struct uuid *key, const char *text, struct scopes *out)
{
	uint64_t hashes[FERRY_COLUMNS_MAX], hash = cell_hash_row_seed(key);
	struct stack s;

	out->count = 0;
	arena_reset(&r->work);
	stack_load(r, t, text, &s);
	if (r->g.error != FERRY_OK || !s.confirmed.present)
		return 0;
	scopes_get(r, TARGET_LIVE, t, key, out);
	row_hashes(r, t, key, &s.confirmed, hashes);
	for (int i = 0; i < t->t->column_count; i++)
		hash ^= hashes[i];
	return hash;
}

/* Where the hub has one row in the range it is the last key's: ours between
 * are rows that it has not. */
static void add_key(struct replica *r, void *ctx, struct table *t, const struct uuid *key, const char *text)
{
	struct rewind *w = ctx;
	int64_t scope = w->ids[w->scope];
	struct scopes scopes;
	bool present = false;
	uint64_t hash = 0;

	if (!fetched(r, scope, t, text, &present, &hash)) {
		hash = confirmed(r, t, key, text, &scopes);
		present = scopes_have(&scopes, scope);
	}
	if (!present)
		return;
	if (w->part->rows == 0 || (w->part->rows == 1 && !uuid_equal(key, &w->part->upto))) {
		keep_absent(r, scope, t, text);
		return;
	}
	w->rows++;
	w->hash ^= hash;
}

/* ---- Sums ---- */

static void sum_key(struct replica *r, void *ctx, struct table *t, const struct uuid *key, const char *text)
{
	struct rewind *w = ctx;
	struct scopes scopes;
	uint64_t seed = cell_hash_row_seed(key), mine = confirmed(r, t, key, text, &scopes);

	for (uint32_t i = 0; i < w->scope_count; i++) {
		struct pair *p = pair_of(w, i, w->at);
		bool present = false;
		uint64_t hash = mine;

		if (!fetched(r, w->ids[i], t, text, &present, &hash))
			present = scopes_have(&scopes, w->ids[i]);
		if (!present)
			continue;
		p->rows++;
		p->hash ^= hash ^ seed;
	}
}

static void judge_sum(const struct replica *r, struct rewind *w, const struct scope_sum *s)
{
	for (uint32_t i = 0; i < w->scope_count; i++) {
		if (strcmp(w->scopes[i], s->scope) != 0)
			continue;
		for (uint32_t t = 0; t < r->now.schema.table_count; t++) {
			struct pair *p = pair_of(w, i, t);
			uint64_t hash = p->hash;

			if (r->now.schema.tables[t].table != s->table)
				continue;
			for (uint32_t c = 0; c < s->sum_count; c++)
				hash ^= s->sums[c];
			p->same = p->rows == s->rows && hash == 0;
		}
	}
}

/* Where the hub told nothing, all is compared. */
static void judge_sums(const struct replica *r, struct rewind *w, const struct message_ranges *m)
{
	for (size_t i = 0; i < (size_t)w->scope_count * r->now.schema.table_count; i++)
		w->pairs[i].same = m->all_sums && w->pairs[i].rows == 0;
	for (uint32_t i = 0; i < m->sum_count; i++)
		judge_sum(r, w, &m->sums[i]);
	w->summed = true;
}

/* A slice of the work. False: more is left. */
static bool sum_on(struct replica *r, struct rewind *w, const struct message_ranges *m)
{
	uint32_t done = 0;

	while (w->at < r->now.schema.table_count && r->g.error == FERRY_OK) {
		if (done >= WALK_SLICE_ROWS)
			return false;
		if (!walk_slice(r, &w->walk, &r->now.tables[w->at], &(struct uuid){{0}}, sum_key, w, &done))
			continue;
		walk_end(&w->walk);
		w->walk.after = (struct uuid){{0}};
		w->at++;
	}
	if (r->g.error == FERRY_OK)
		judge_sums(r, w, m);
	return true;
}

/* ---- The answer ---- */

static void begin_part(struct rewind *w, const struct message_ranges *m)
{
	w->rows = 0;
	w->hash = 0;
	if (w->at == m->range_count)
		return;
	w->part = &m->ranges[w->at];
	w->walk.after = w->part->after;
}

static void begin_answer(struct replica *r, struct rewind *w, const struct message_ranges *m)
{
	w->working = true;
	w->at = 0;
	w->todo_before = w->todo_count;
	w->want_before = w->want_count;
	w->ranges += m->range_count + m->sum_count;
	if (w->summing) {
		memset(w->pairs, 0, (size_t)w->scope_count * r->now.schema.table_count * sizeof(*w->pairs));
		walk_end(&w->walk);
		w->walk.after = (struct uuid){{0}};
		return;
	}
	keep_frames(r);
	begin_part(w, m);
}

/* This answer again, from its start: what it led to was not written. */
static void undo_answer(struct rewind *w, const struct message_ranges *m)
{
	if (!w->working)
		return;
	w->working = false;
	w->todo_count = w->todo_before;
	w->want_count = w->want_before;
	w->ranges -= m->range_count + m->sum_count;
	w->summed = w->summed && !w->summing;
}

static void judge(struct rewind *w)
{
	const struct key_range *part = w->part;

	if (part->rows == w->rows && part->hash == w->hash)
		return;
	if (part->rows > 1 && w->todo_count < RANGES_OPEN_MAX)
		w->todo[w->todo_count++] = (struct key_range){.after = part->after, .upto = part->upto};
	else if (part->rows == 1 && w->want_count < WANTS_MAX)
		w->wants[w->want_count++].key = part->upto;
	else
		w->again = true;
}

/* A slice of the work. False: more is left. */
static bool work_on(struct replica *r, struct rewind *w, const struct message_ranges *m)
{
	struct table *t = model_table(&r->now, m->table);
	uint32_t done = 0;

	while (w->at < m->range_count && r->g.error == FERRY_OK) {
		if (done >= WALK_SLICE_ROWS)
			return false;
		if (!walk_slice(r, &w->walk, t, &w->part->upto, add_key, w, &done))
			continue;
		judge(w);
		w->at++;
		begin_part(w, m);
	}
	return true;
}

static int64_t rows_held(const struct replica *r)
{
	int64_t rows = 0;

	for (uint32_t i = 0; i < r->sum_count; i++)
		rows += r->sums[i].target == TARGET_LIVE ? r->sums[i].rows : 0;
	return rows;
}

/* A range's hash takes about as many bytes as a row of a fill. */
static enum ferry_error weigh(struct replica *r, const struct rewind *w, struct ferry_why *why)
{
	int64_t held = rows_held(r), cost = w->ranges + w->fetched;

	if (cost <= CHEAP + held / 2 && w->kept <= RESTORED_MAX)
		return FERRY_OK;
	r->fill_rather = true;
	return ferry_fail(why, FERRY_MISMATCH,
			  "too much differs from the restored hub: %lld ranges and %lld rows came to compare %lld rows, and %lld rows differ "
			  "so far; the replica is filled anew",
			  (long long)w->ranges, (long long)w->fetched, (long long)held, (long long)w->kept);
}

static bool fits(const struct replica *r, const struct rewind *w, const struct message_ranges *m)
{
	return !w->ended && (w->open || w->summing) && m->table == r->now.schema.tables[w->table].table &&
	       strcmp(m->scope, w->scopes[w->scope]) == 0;
}

enum ferry_error rewind_ranges(struct replica *r, const struct message_ranges *m, bool *out_more, struct ferry_why *why)
{
	struct rewind *w = r->rewind;
	bool first = !w->working, done = false;
	enum ferry_error e;

	*out_more = false;
	if (!fits(r, w, m))
		return ferry_fail(why, FERRY_UNEXPECTED_MESSAGE, "The hub answered what was not asked.");
	e = cut_all(r, why);
	if (e == FERRY_OK)
		e = replica_begin(r, why);
	if (e == FERRY_OK) {
		cut_rest(r); /* a captured edit that is not ingested would look confirmed */
		if (first)
			begin_answer(r, w, m);
		if (r->g.error == FERRY_OK) {
			w->part = !w->summing && w->at < m->range_count ? &m->ranges[w->at] : NULL; /* decoded anew for each slice */
			done = w->summing ? sum_on(r, w, m) : work_on(r, w, m);
		}
		e = replica_end(r, why);
	}
	if (e != FERRY_OK) {
		undo_answer(w, m);
		return e;
	}
	if (first)
		frames_drop(r);
	*out_more = !done;
	if (done)
		w->working = false;
	return done ? weigh(r, w, why) : FERRY_OK;
}

/* ---- The end ---- */

/* The next row after *id, onto the live ones. False: there is none. */
static bool apply_next(struct replica *r, int64_t *id, bool leaving, struct store_commit_report *report)
{
	sqlite3_stmt *s = q(r, Q_RESTORED_NEXT);
	struct block gone = {.op = ROW_LEFT, .row_count = 1};
	struct message m = {.delta = {.blocks = &gone, .block_count = 1}};
	char scope[ALARM_SCOPE_MAX];
	struct ferry_why why;
	struct uuid key;
	struct arena a;
	enum ferry_error e = FERRY_OK;

	if (!gate_step(&r->g, s, "ii", *id, (int64_t)!leaving))
		return false;
	*id = sqlite3_column_int64(s, 0);
	gone.table = (uint32_t)sqlite3_column_int64(s, 2);
	gone.keys = &key;
	arena_init(&a, FRAME_BYTES_MAX);
	if (!leaving)
		e = message_decode(&a, sqlite3_column_blob(s, 4), (size_t)sqlite3_column_bytes(s, 4), &m, &why);
	else if (!scope_held(r, sqlite3_column_int64(s, 1), scope) ||
		 !uuid_parse((const char *)sqlite3_column_text(s, 3), UUID_TEXT - 1, &key))
		e = FERRY_CORRUPT;
	else
		m.delta.scope = scope;
	if (e != FERRY_OK)
		gate_fail(&r->g, FERRY_CORRUPT, "A row that was fetched cannot be read.");
	else
		frame_apply(r, &m.delta, leaving, report);
	arena_deinit(&a);
	return r->g.error == FERRY_OK;
}

/* Additions of all scopes first, then leavings (R14). */
void rewind_apply(struct replica *r, struct store_commit_report *report)
{
	row_joiner_deinit(&r->frame_row);
	lost_begin(r);
	r->restoring = true;
	for (int leaving = 0; leaving < 2; leaving++) {
		int64_t id = 0;

		while (apply_next(r, &id, leaving != 0, report))
			report->restored++;
	}
	r->restoring = false;
	if (r->frame_row.open)
		gate_fail(&r->g, FERRY_BAD_MESSAGE, "The hub did not send the end of a row.");
	rewind_forget(r);
	lost_end(r);
}
