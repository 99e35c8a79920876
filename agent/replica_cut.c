/* The cut (R5): captured entries become change-sets.
 *
 *   captured --ingest--> BUILDING --boundary--> COMPLETE --fix--> READY
 *
 * Ingest folds the entries of one row in one change-set into the first of
 * them, and notes what each cell's author had seen (R1). Fix, once nothing
 * captured is left over, drops columns that ended as they began (R4) and
 * names what the change-set depends on (R6). From then on its content stays. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"

#define LOOK_ERROR_US 1000000 /* what measuring a clock and looking may be late by */
#define RESTAMP_ROWS_MAX 2000 /* a change-set with more may go in parts */

/* ---- Numbers ---- */

bool number_list_add(struct number_list *l, int64_t number)
{
	uint32_t i = l->count;

	if (number_list_has(l, number))
		return true;
	if (l->count == l->capacity) {
		uint32_t capacity = l->capacity == 0 ? 64 : l->capacity * 2;
		int64_t *grown = realloc(l->p, capacity * sizeof(*grown));

		if (grown == NULL)
			return false;
		l->p = grown;
		l->capacity = capacity;
	}
	for (; i > 0 && l->p[i - 1] > number; i--)
		l->p[i] = l->p[i - 1];
	l->p[i] = number;
	l->count++;
	return true;
}

bool number_list_has(const struct number_list *l, int64_t number)
{
	uint32_t low = 0, high = l->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (l->p[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < l->count && l->p[low] == number;
}

/* ---- ferry_change_set ---- */

bool set_get(struct replica *r, sqlite3_stmt *s, struct set *out)
{
	const char *note = (const char *)sqlite3_column_text(s, 13);
	int n = sqlite3_column_bytes(s, 14);

	*out = (struct set){.number = sqlite3_column_int64(s, 0), .state = (enum set_state)sqlite3_column_int(s, 1),
			    .first = sqlite3_column_int64(s, 2), .last = sqlite3_column_int64(s, 3),
			    .base = sqlite3_column_int64(s, 4), .at = sqlite3_column_int64(s, 5),
			    .joined = sqlite3_column_int(s, 6) != 0, .listed = sqlite3_column_int(s, 7) != 0,
			    .level = (enum split_level)sqlite3_column_int(s, 8), .rows = sqlite3_column_int64(s, 9),
			    .tc = sqlite3_column_int64(s, 10), .origin = sqlite3_column_int64(s, 11),
			    .inserts = (uint64_t)sqlite3_column_int64(s, 12), .lost_from = sqlite3_column_int64(s, 15)};
	if (note != NULL)
		out->note = arena_text(&r->work, note, strlen(note));
	out->depends = n > 0 ? arena_copy(&r->work, sqlite3_column_blob(s, 14), (size_t)n) : NULL;
	out->depends_count = out->depends == NULL ? 0 : (uint32_t)((size_t)n / sizeof(*out->depends));
	sqlite3_reset(s);
	return r->g.error == FERRY_OK;
}

void set_save(struct replica *r, const struct set *s)
{
	gate_run(&r->g, q(r, Q_SET_SAVE), "iiiiiiiiiiiiitbi", s->number, (int64_t)s->state, s->first, s->last, s->base, s->at,
		 (int64_t)s->joined, (int64_t)s->listed, (int64_t)s->level, s->rows, s->tc, s->origin,
		 (int64_t)s->inserts, s->note, s->depends_count == 0 ? NULL : s->depends,
		 (int)(s->depends_count * sizeof(*s->depends)), s->lost_from);
}

void set_add(struct replica *r, struct set *s)
{
	s->number = ++r->st.last_number;
	set_save(r, s);
}

/* Columns: ferry_log's, then the place to go on after. */
sqlite3_stmt *set_entries(struct replica *r, const struct set *s, int64_t after)
{
	sqlite3_stmt *stmt = q(r, s->listed ? Q_LOG_LISTED : Q_LOG_RANGE);

	if (stmt == NULL)
		return NULL;
	if (!s->listed && after < s->first)
		after = s->first - 1;
	sqlite3_bind_int64(stmt, 1, after);
	sqlite3_bind_int64(stmt, 2, s->last);
	if (s->listed)
		sqlite3_bind_int64(stmt, 3, s->number);
	return stmt;
}

/* ---- Ingest ---- */

struct cut {
	struct replica *r;
	struct set set;      /* the one being built; number 0: none */
	int64_t note_seq;    /* an OP_NOTE whose insert may follow */
	uint32_t note_table;
	char note_key[UUID_TEXT];
	struct number_list depends;
};

static void depend(struct cut *c, int64_t number)
{
	if (number > 0 && !number_list_add(&c->depends, number))
		gate_fail(&c->r->g, FERRY_NO_MEMORY, "No memory for a change-set.");
}

/* Until a rewound replica is compared, apps see the rows of the lost history (R17). */
static void set_begin(struct cut *c, const struct entry *e)
{
	const struct state *st = &c->r->st;

	c->set = (struct set){.state = SET_BUILDING, .first = e->seq, .last = e->seq, .at = e->at * 1000,
			      .base = st->rewound > 0 ? st->rewound : st->position,
			      .lost_from = st->rewound > 0 ? st->position + 1 : 0};
	c->set.number = ++c->r->st.last_number;
	c->depends.count = 0;
}

static void set_put(struct cut *c)
{
	if (c->set.number == 0)
		return;
	c->set.depends = c->depends.p;
	c->set.depends_count = c->depends.count;
	set_save(c->r, &c->set);
}

/* A number is only used up by a change-set that holds something. */
static void set_finish(struct cut *c, bool declared)
{
	struct set *s = &c->set;

	if (s->number == 0)
		return;
	if (s->rows == 0) {
		gate_run(&c->r->g, q(c->r, Q_SET_DELETE), "i", s->number);
		c->r->st.last_number--;
	} else {
		s->joined = !declared && s->rows > 1;
		s->state = SET_COMPLETE;
		set_put(c);
	}
	c->set = (struct set){0};
}

struct base_note { /* in ferry_pending.base: a cell (num 0: the row) that saw less */
	int64_t num, position;
};

static int64_t note_position(const void *blob, int bytes, int64_t num, int64_t otherwise)
{
	struct base_note note;

	for (int i = 0; i + (int)sizeof(note) <= bytes; i += (int)sizeof(note)) {
		memcpy(&note, (const uint8_t *)blob + i, sizeof(note));
		if (note.num == num || note.num == 0)
			return note.position;
	}
	return otherwise;
}

/* All its columns went with a schema, and it is not sent as it was written: nothing of it can come
 * before or after anything. */
static bool says_nothing(struct replica *r, int op, uint64_t mask, int64_t number)
{
	return (op & OP_MASK) == OP_UPDATE && mask == 0 && !former_has(r, number);
}

/* R1: the bases that this edit takes over from pending edits beneath it;
 * also notes the change-sets it depends on. Fills `notes`, at most one a
 * column and one for the row. */
static int inherited_bases(struct cut *c, struct table *t, const char *key, const struct entry *e,
			   struct base_note *notes)
{
	struct replica *r = c->r;
	sqlite3_stmt *s = q(r, Q_PENDING_BASE);
	uint64_t open = (e->op & OP_MASK) == OP_UPDATE ? e->mask : 0;
	int64_t row = c->set.base;
	int n = 0;

	for (bool more = gate_step(&r->g, s, "itii", (int64_t)t->t->table, key, e->seq, c->set.lost_from); more;
	     more = gate_next(&r->g, s)) {
		int op = sqlite3_column_int(s, 0);
		uint64_t covers = (op & OP_MASK) == OP_UPDATE ? (uint64_t)sqlite3_column_int64(s, 1) : t->all;
		const void *blob = sqlite3_column_blob(s, 2);
		int bytes = sqlite3_column_bytes(s, 2);
		int64_t base = sqlite3_column_int64(s, 3), number = sqlite3_column_int64(s, 4);

		if (number == c->set.number || says_nothing(r, op, covers, number))
			continue;
		depend(c, number);
		for (int i = 0; i < t->t->column_count; i++) {
			int64_t p = note_position(blob, bytes, t->t->columns[i].num, base);

			if (covers >> i & 1)
				row = p < row ? p : row;
			if ((covers & open) >> i & 1) {
				open &= ~(UINT64_C(1) << i);
				if (p != c->set.base)
					notes[n++] = (struct base_note){t->t->columns[i].num, p};
			}
		}
	}
	if ((e->op & OP_MASK) != OP_UPDATE && row != c->set.base)
		notes[n++] = (struct base_note){0, row};
	return n;
}

static void add_pending(struct cut *c, struct table *t, const char *key, const struct entry *e, bool beneath)
{
	struct base_note notes[FERRY_COLUMNS_MAX + 1];
	int n = beneath ? inherited_bases(c, t, key, e, notes) : 0;

	gate_run(&c->r->g, q(c->r, Q_PENDING_ADD), "itiib", (int64_t)t->t->table, key, e->seq, c->set.number,
		 n == 0 ? NULL : notes, n * (int)sizeof(notes[0]));
	c->set.rows++;
	if ((e->op & OP_MASK) == OP_INSERT)
		c->set.inserts |= UINT64_C(1) << t->t->table % 63;
}

static void read_old(struct replica *r, sqlite3_stmt *s, struct cell *old)
{
	for (int i = 0; i < r->log_width; i++)
		old[i] = keep_of_log(r, s, i);
	for (int i = r->log_width; i < FERRY_COLUMNS_MAX; i++)
		old[i] = cell_null();
}

static bool read_logged(struct replica *r, int64_t seq, struct entry *e, struct cell *old)
{
	sqlite3_stmt *s = q(r, Q_LOG_GET);

	if (!gate_step(&r->g, s, "i", seq))
		return false;
	*e = (struct entry){.seq = seq, .op = sqlite3_column_int(s, 3), .mask = (uint64_t)sqlite3_column_int64(s, 4),
			    .at = sqlite3_column_int64(s, 6), .old = old};
	read_old(r, s, old);
	sqlite3_reset(s);
	return true;
}

static void take_old(struct entry *into, const struct entry *from, uint64_t mask)
{
	for (int i = 0; i < FERRY_COLUMNS_MAX; i++) {
		if (mask >> i & 1)
			into->old[i] = from->old[i];
	}
}

/* A second edit of a row in the same change-set: the first one takes it in.
 *
 *   first    second   together
 *   insert   update   insert
 *   insert   delete   nothing
 *   update   update   update of both's columns
 *   update   delete   delete
 *   delete   insert   update of all columns */
static void merge_entries(struct cut *c, struct table *t, const char *key, int64_t first_seq, const struct entry *e)
{
	struct replica *r = c->r;
	struct cell first_old[FERRY_COLUMNS_MAX], second_old[FERRY_COLUMNS_MAX];
	struct entry first, second;
	int a, b = e->op & OP_MASK, merged;

	arena_reset(&r->work);
	if (!read_logged(r, first_seq, &first, first_old) || !read_logged(r, e->seq, &second, second_old))
		return;
	a = first.op & OP_MASK;
	second.mask = b == OP_DELETE ? t->all : second.mask;
	gate_run(&r->g, q(r, Q_LOG_DELETE), "i", e->seq);
	if (a == OP_INSERT && b == OP_DELETE) {
		entry_delete(r, t->t->table, key, first_seq);
		c->set.rows--;
		return;
	}
	if (a == OP_INSERT)
		return;
	if (a == OP_DELETE) {
		first.op = OP_UPDATE | OP_MERGED;
		first.mask = t->all;
	} else {
		struct base_note notes[FERRY_COLUMNS_MAX + 1];
		int n;

		/* Only a column that was edited twice may have ended as it began. */
		merged = (first.mask & second.mask) != 0 ? OP_MERGED : first.op & OP_MERGED;
		take_old(&first, &second, second.mask & ~first.mask);
		first.op = b == OP_DELETE ? OP_DELETE : OP_UPDATE | merged;
		first.mask |= second.mask;
		n = inherited_bases(c, t, key, &first, notes);
		gate_run(&r->g, q(r, Q_PENDING_NUMBER), "itiib", (int64_t)t->t->table, key, first_seq, c->set.number,
			 n == 0 ? NULL : notes, n * (int)sizeof(notes[0]));
	}
	entry_write(r, &first);
}

/* The row that a REPLACE replaced was noted just before: the two are an
 * update of all columns, the note becoming its entry. */
static bool replaces_noted(struct cut *c, struct table *t, const char *key, struct entry *e)
{
	if (c->note_seq == 0 || c->note_table != t->t->table || strcmp(c->note_key, key) != 0)
		return false;
	gate_run(&c->r->g, q(c->r, Q_LOG_DELETE), "i", e->seq);
	gate_run(&c->r->g, q(c->r, Q_LOG_MERGE), "iii", c->note_seq, (int64_t)(OP_UPDATE | OP_MERGED), (int64_t)t->all);
	e->seq = c->note_seq;
	e->op = OP_UPDATE | OP_MERGED;
	e->mask = t->all;
	c->note_seq = 0;
	return true;
}

static void forget_note(struct cut *c)
{
	if (c->note_seq != 0)
		gate_run(&c->r->g, q(c->r, Q_LOG_DELETE), "i", c->note_seq);
	c->note_seq = 0;
}

static void ingest_edit(struct cut *c, struct table *t, const char *key, struct entry *e)
{
	struct replica *r = c->r;
	sqlite3_stmt *s;
	bool replaced = (e->op & OP_MASK) == OP_INSERT && replaces_noted(c, t, key, e);
	bool beneath;

	if (!replaced)
		forget_note(c);
	if (c->set.number == 0)
		set_begin(c, e);
	c->set.last = e->seq;
	s = q(r, Q_PENDING_LAST);
	beneath = gate_step(&r->g, s, "it", (int64_t)t->t->table, key);
	if (beneath) {
		int64_t seq = sqlite3_column_int64(s, 0), number = sqlite3_column_int64(s, 1);

		sqlite3_reset(s);
		if (number == c->set.number) {
			merge_entries(c, t, key, seq, e);
			return;
		}
	}
	if ((e->op & OP_MASK) == OP_DELETE)
		gate_run(&r->g, q(r, Q_LOG_MASK), "ii", e->seq, (int64_t)t->all);
	add_pending(c, t, key, e, beneath);
}

static void ingest_mark(struct cut *c, sqlite3_stmt *s, int64_t seq)
{
	forget_note(c);
	arena_reset(&c->r->work);
	if (c->set.number != 0) {
		const char *note = (const char *)sqlite3_column_text(s, 2);
		int64_t base = sqlite3_column_type(s, 4) == SQLITE_INTEGER ? sqlite3_column_int64(s, 4) : INT64_MAX;

		if (base >= 0 && base < c->set.base)
			c->set.base = base;
		c->set.note = note == NULL ? NULL : arena_text(&c->r->work, note, strlen(note));
		set_finish(c, true);
	}
	gate_run(&c->r->g, q(c->r, Q_LOG_DELETE), "i", seq);
}

/* One captured entry. s stands on it. */
static void ingest_one(struct cut *c, sqlite3_stmt *s)
{
	struct replica *r = c->r;
	struct entry e = {.seq = sqlite3_column_int64(s, 0), .op = sqlite3_column_int(s, 3) & OP_MASK,
			  .mask = (uint64_t)sqlite3_column_int64(s, 4), .at = sqlite3_column_int64(s, 6)};
	struct table *t = model_table(&r->now, (uint32_t)sqlite3_column_int64(s, 1));
	int64_t tc = sqlite3_column_int64(s, 5);
	char key[UUID_TEXT] = "";

	/* One connection's count only rises (R5.2). */
	if (c->set.number != 0 && tc <= c->set.tc) {
		forget_note(c);
		set_finish(c, false);
	}
	if (e.op == OP_MARK) {
		ingest_mark(c, s, e.seq);
		return;
	}
	if (sqlite3_column_bytes(s, 2) == UUID_TEXT - 1)
		memcpy(key, sqlite3_column_text(s, 2), UUID_TEXT - 1);
	if (t == NULL || key[0] == '\0') { /* of a table that has gone, or not ours */
		gate_run(&r->g, q(r, Q_LOG_DELETE), "i", e.seq);
		return;
	}
	if (e.op == OP_NOTE) {
		forget_note(c);
		c->note_seq = e.seq;
		c->note_table = t->t->table;
		memcpy(c->note_key, key, sizeof(key));
	} else {
		ingest_edit(c, t, key, &e);
	}
	if (c->set.number != 0)
		c->set.tc = tc;
}

static void cut_open(struct cut *c, struct replica *r)
{
	sqlite3_stmt *s;

	*c = (struct cut){.r = r};
	s = q(r, Q_SET_BUILDING);
	if (!gate_step(&r->g, s, "") || !set_get(r, s, &c->set))
		return;
	for (uint32_t i = 0; i < c->set.depends_count; i++)
		depend(c, c->set.depends[i]);
}

/* Ingests up to `most` captured entries; the end of what was captured is a
 * boundary: the agent has looked (R5.3). True: more are left. */
static bool ingest(struct replica *r, int64_t most)
{
	int64_t before = r->st.ingested, seq = before, count = 0;
	sqlite3_stmt *s;
	struct cut c;
	bool more;

	cut_open(&c, r);
	s = q(r, Q_LOG_RAW);
	for (more = gate_step(&r->g, s, "i", before); more; more = gate_next(&r->g, s)) {
		if (count++ >= most && c.note_seq == 0)
			break;
		seq = sqlite3_column_int64(s, 0);
		ingest_one(&c, s);
	}
	if (s != NULL)
		sqlite3_reset(s);
	forget_note(&c);
	if (!more)
		set_finish(&c, false);
	set_put(&c);
	free(c.depends.p);
	if (seq > before) {
		r->st.ingested = seq;
		gate_run(&r->g, q(r, Q_LOG_DROP_NONE), "i", before);
		gate_run(&r->g, q(r, Q_LOG_KEEP), "i", seq);
	}
	return more;
}

/* ---- Fix ---- */

static void fix_columns(struct replica *r, struct table *t, const char *key, int64_t seq, struct set *set)
{
	struct stack s;
	struct entry *e = NULL;

	arena_reset(&r->work);
	stack_load(r, t, key, &s);
	for (uint32_t i = 0; i < s.count; i++) {
		if (s.entries[i].seq == seq)
			e = &s.entries[i];
	}
	if (e == NULL || r->g.error != FERRY_OK)
		return;
	for (int i = 0; i < t->t->column_count; i++) {
		if ((e->mask >> i & 1) != 0 && cell_equal(&e->old[i], &e->fresh[i])) {
			e->mask &= ~(UINT64_C(1) << i);
			e->old[i] = cell_null();
		}
	}
	e->op &= ~OP_MERGED;
	if (e->mask == 0) {
		entry_delete(r, t->t->table, key, seq);
		set->rows--;
	} else {
		entry_write(r, e);
	}
}

static void fix_merged(struct replica *r, struct set *set)
{
	sqlite3_stmt *s = q(r, Q_LOG_MERGED);
	struct set copy = *set;

	for (bool more = gate_step(&r->g, s, "ii", set->first, set->last); more; more = gate_next(&r->g, s)) {
		struct table *t = model_table(&r->now, (uint32_t)sqlite3_column_int64(s, 1));
		char key[UUID_TEXT] = "";

		memcpy(key, sqlite3_column_text(s, 2), UUID_TEXT - 1);
		if (t != NULL)
			fix_columns(r, t, key, sqlite3_column_int64(s, 0), &copy);
	}
	set->rows = copy.rows;
}

static bool earlier_inserts(struct replica *r, const struct set *set, uint64_t *out_tables)
{
	sqlite3_stmt *s = q(r, Q_SET_INSERTS);

	*out_tables = 0;
	for (bool more = gate_step(&r->g, s, "i", set->number); more; more = gate_next(&r->g, s)) {
		if (sqlite3_column_int64(s, 1) < set->number)
			*out_tables |= (uint64_t)sqlite3_column_int64(s, 0);
	}
	return *out_tables != 0;
}

/* What this very commit settles is nothing to depend on, though it is not swept yet. */
static void depend_on(struct replica *r, int64_t number, struct number_list *depends)
{
	if (!number_list_has(&r->removed, number) && !number_list_add(depends, number))
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a change-set.");
}

static void depend_on_parents(struct replica *r, const struct set *set, struct table *t, const struct entry *e,
			      uint64_t tables, struct number_list *depends)
{
	uint64_t look = (e->op & OP_MASK) == OP_INSERT ? t->refs : t->refs & e->mask;

	for (int i = 0; i < t->t->column_count; i++) {
		uint32_t parent = t->t->columns[i].ref_table;
		sqlite3_stmt *s;

		if ((look >> i & 1) == 0 || (tables >> parent % 63 & 1) == 0 || e->fresh[i].type != SQLITE_TEXT)
			continue;
		s = q(r, Q_PARENT);
		for (bool more = gate_step(&r->g, s, "ic", (int64_t)parent, &e->fresh[i]); more;
		     more = gate_next(&r->g, s)) {
			int64_t number = sqlite3_column_int64(s, 0);

			if (number < set->number)
				depend_on(r, number, depends);
		}
	}
}

/* What was offered again stands on the edits beneath it as they are now. */
static void depend_on_beneath(struct replica *r, const struct set *set, const struct stack *stack, uint32_t i,
			      struct number_list *depends)
{
	const struct entry *mine = &stack->entries[i];

	if (says_nothing(r, mine->op, mine->mask, mine->number))
		return;
	for (uint32_t k = 0; k < i; k++) {
		const struct entry *e = &stack->entries[k];
		int64_t number = e->number;

		if (number > 0 && number != set->number && !says_nothing(r, e->op, e->mask, number))
			depend_on(r, number, depends);
	}
}

/* May a row of t refer to a row that an earlier change-set inserts? */
static bool refers_to(const struct table *t, uint64_t tables)
{
	for (int i = 0; i < t->t->column_count; i++) {
		uint32_t parent = t->t->columns[i].ref_table;

		if (parent != 0 && (tables >> parent % 63 & 1) != 0)
			return true;
	}
	return false;
}

static void fix_depends(struct replica *r, const struct set *set, struct number_list *depends)
{
	sqlite3_stmt *s;
	uint64_t tables;

	if (!earlier_inserts(r, set, &tables) && !set->listed)
		return;
	s = set_entries(r, set, 0);
	while (gate_next(&r->g, s)) {
		struct table *t = model_table(&r->now, (uint32_t)sqlite3_column_int64(s, 1));
		int64_t seq = sqlite3_column_int64(s, 0);
		char key[UUID_TEXT] = "";
		struct stack stack;

		if (t == NULL || (!set->listed && (!refers_to(t, tables) || (sqlite3_column_int(s, 3) & OP_MASK) == OP_DELETE)))
			continue;
		memcpy(key, sqlite3_column_text(s, 2), UUID_TEXT - 1);
		arena_reset(&r->work);
		stack_load(r, t, key, &stack);
		for (uint32_t i = 0; i < stack.count && r->g.error == FERRY_OK; i++) {
			if (stack.entries[i].seq != seq)
				continue;
			if (set->listed)
				depend_on_beneath(r, set, &stack, i, depends);
			if ((stack.entries[i].op & OP_MASK) != OP_DELETE)
				depend_on_parents(r, set, t, &stack.entries[i], tables, depends);
		}
	}
}

static bool between_looks(struct replica *r, int64_t at)
{
	int64_t now = replica_wall(r) + r->st.clock_offset;

	return at >= r->looked_at - LOOK_ERROR_US && at <= now + LOOK_ERROR_US;
}

static void note_look(struct replica *r)
{
	r->looked_at = replica_wall(r) + r->st.clock_offset;
	r->looked_offset = r->st.clock_offset;
}

/* Somebody may have set the clock between an edit and this look at it: where only
 * the offset of the last look puts the edit between the two looks, it was made by that. */
static int64_t offset_of(struct replica *r, int64_t at)
{
	bool set_since = r->looked_at && !between_looks(r, at + r->st.clock_offset) && between_looks(r, at + r->looked_offset);

	return set_since ? r->looked_offset : r->st.clock_offset;
}

/* A device clock may be years off: the hub's clock, as far as it was ever
 * heard, corrects it. An edit is later than the state it was made on (P10). */
static int64_t corrected(const struct replica *r, int64_t at, int64_t offset)
{
	at += offset;
	if (at <= r->st.commit_clock)
		at = r->st.commit_clock + 1;
	return at < 0 ? 0 : at > FERRY_CLOCK_MAX ? FERRY_CLOCK_MAX : at;
}

/* The contact shows that the clock is plainly wrong. What was stamped by it and
 * not offered yet, or could not be told from an earlier offer, is stamped anew:
 * what lies ahead of the hub's time, and what was pushed up to the state it was
 * made on. A stamp that is likely stays, since the clock may have been right
 * then; so does one that the clock of now puts earlier, or ahead: later states came
 * while it waited, and somebody has set the clock since. One that goes in parts stays,
 * too: they have to be the same each time. */
void cut_restamp(struct replica *r, int64_t hub_now)
{
	struct set set = {.number = 0};

	while (r->g.error == FERRY_OK) {
		sqlite3_stmt *s = q(r, Q_SET_NEXT);
		int64_t after = set.number, edited = -1, at;

		arena_reset(&r->work);
		if (!gate_step(&r->g, s, "i", after) || !set_get(r, s, &set))
			return;
		if ((set.at <= hub_now && set.at > r->st.commit_clock + 1) || set.rows > RESTAMP_ROWS_MAX)
			continue;
		s = set_entries(r, &set, 0);
		if (gate_next(&r->g, s)) {
			edited = sqlite3_column_int64(s, 6) * 1000;
			sqlite3_reset(s);
		}
		at = edited + r->st.clock_offset;
		if (edited < 0 || (set.at <= hub_now && (at <= set.at || at > hub_now)))
			continue;
		if (set.at > hub_now) /* else it is later than the state it was made on, which the stamp was put behind */
			at = corrected(r, edited, r->st.clock_offset);
		gate_run(&r->g, q(r, Q_SET_AT), "ii", set.number, at < hub_now ? at : hub_now);
	}
}

/* Adds what it cost to *rows. False: there is none left. */
static bool fix_one(struct replica *r, int64_t *rows)
{
	sqlite3_stmt *s = q(r, Q_SET_COMPLETE);
	struct number_list depends = {0};
	struct set set;

	arena_reset(&r->work);
	if (!gate_step(&r->g, s, "") || !set_get(r, s, &set))
		return false;
	for (uint32_t i = 0; i < set.depends_count; i++) {
		if (!number_list_add(&depends, set.depends[i]))
			gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a change-set.");
	}
	set.note = NULL;
	*rows += set.rows + 1;
	if (!set.listed)
		fix_merged(r, &set);
	fix_depends(r, &set, &depends);
	if (set.origin == 0)
		set.at = corrected(r, set.at, offset_of(r, set.at));
	set.joined = set.joined && set.rows > 1;
	if (depends.count > FERRY_DEPENDS_MAX) { /* the latest: earlier ones are settled before those */
		memmove(depends.p, depends.p + depends.count - FERRY_DEPENDS_MAX, FERRY_DEPENDS_MAX * sizeof(*depends.p));
		depends.count = FERRY_DEPENDS_MAX;
	}
	gate_run(&r->g, q(r, Q_SET_FIX), "iiiib", set.number, set.at, set.rows, (int64_t)set.joined, depends.p,
		 (int)(depends.count * sizeof(*depends.p)));
	for (uint32_t i = 0; i < depends.count; i++) /* for people: what is blocked by what */
		gate_run(&r->g, q(r, Q_DEPEND_ADD), "ii", set.number, depends.p[i]);
	free(depends.p);
	return r->g.error == FERRY_OK;
}

/* ---- In transactions ---- */

void cut_rest(struct replica *r)
{
	int64_t rows = 0;

	while (r->g.error == FERRY_OK && ingest(r, INT64_MAX))
		;
	while (r->g.error == FERRY_OK && fix_one(r, &rows))
		;
}

/* Is there anything to do? Read without a lock, so that an idle look writes
 * nothing. */
static bool anything(struct replica *r)
{
	sqlite3_stmt *s;
	bool any;

	r->g.error = FERRY_OK;
	s = q(r, Q_CUT_ANY);
	any = gate_step(&r->g, s, "i", r->st.ingested) || r->g.error != FERRY_OK;
	if (s != NULL)
		sqlite3_reset(s);
	return any;
}

enum ferry_error replica_cut(void *store, bool *out_more, struct ferry_why *why)
{
	struct replica *r = store;
	int64_t rows = 0;
	bool more = true;
	enum ferry_error e;

	if (!anything(r)) {
		note_look(r);
		*out_more = false;
		return FERRY_OK;
	}
	e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	/* Mostly one transaction does it all: an app's write costs one of ours. */
	if (!ingest(r, REPLICA_BATCH_ENTRIES)) {
		while (rows < REPLICA_BATCH_ENTRIES && more)
			more = fix_one(r, &rows);
	}
	*out_more = more;
	e = replica_end(r, why);
	if (e == FERRY_OK && !more)
		note_look(r);
	return e;
}

enum ferry_error cut_all(struct replica *r, struct ferry_why *why)
{
	bool more = true;
	enum ferry_error e = FERRY_OK;

	while (more && e == FERRY_OK)
		e = replica_cut(r, &more, why);
	return e;
}
