/* Healing by ranges (R21): which rows of a table differ from the hub's, and
 * they alone are replaced.
 *
 * A comparison is of one scope and table. It begins with the whole table: the
 * hub answers each range cut into some thirty, with their hashes at the state
 * that was just applied here, and the ranges that differ are asked about
 * again, until they hold one row of the hub's at most; then its key and ours
 * are asked for. The rows come in the frames of the next answer's state.
 * Then the whole table is compared again: nothing differs, or more is found.
 * A round that repaired nothing ends the attempt; the alarm stays.
 *
 * What is compared is what stands in the file, never a running sum: those are
 * made anew from the rows while the whole table is compared.
 *
 * Hashing goes in slices, each a short transaction, while the answer waits in
 * the core's inbox: no commit is applied in between, so the confirmed values
 * stay those of one state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/cell_hash.h"

#define RANGES_OPEN_MAX 512         /* ranges known to differ; more are found in the next round */
#define WANTS_MAX 256        /* rows asked for at once */
#define REPAIRED_ROWS_MAX 10000 /* kept in ferry_repaired */

struct heal {
	bool active;
	bool sums_only;      /* the question is only there for the sums that its commit brings */
	bool top;            /* the question under way is about the whole table */
	int64_t scope;
	uint32_t table;
	char scope_name[ALARM_SCOPE_MAX];
	struct alarm alarm;  /* what it is for */
	struct key_range todo[RANGES_OPEN_MAX];
	uint32_t todo_count;
	struct wanted_key wants[WANTS_MAX], asked[WANTS_MAX]; /* asked: their rows are on the way */
	uint32_t want_count, asked_count;
	bool first_round;
	uint64_t repaired, repaired_before; /* rows, of this comparison; as its round began */

	/* The answer being worked on: how far, and the sums of the part. */
	struct key_walk walk;
	bool working;
	uint32_t part;
	int64_t rows;
	uint64_t hash;
	struct wanted_key mine[WANTS_MAX]; /* our keys in the part, the first ones */
	uint32_t mine_count;
	struct sum fresh;
	bool differs;
};

/* ---- Life ---- */

void heal_drop(struct replica *r)
{
	if (r->heal == NULL)
		return;
	walk_end(&r->heal->walk);
	free(r->heal);
	r->heal = NULL;
}

void heal_disconnected(struct replica *r)
{
	if (r->heal != NULL && r->heal->active)
		alarm_soon(r, &r->heal->alarm);
	heal_drop(r);
}

static void heal_end(struct replica *r, bool healed)
{
	struct heal *h = r->heal;

	h->active = false;
	h->todo_count = h->want_count = h->asked_count = 0;
	walk_end(&h->walk);
	if (healed)
		alarm_healed(r, &h->alarm);
}

/* ---- The next question ---- */

static struct table *table_named(struct replica *r, const char *name)
{
	for (uint32_t i = 0; i < r->now.schema.table_count; i++) {
		if (strcmp(r->now.schema.tables[i].name, name) == 0)
			return &r->now.tables[i];
	}
	return NULL;
}

/* A scope to ask by, where the question is only for the sums. */
static bool any_scope(struct replica *r, char out[ALARM_SCOPE_MAX])
{
	sqlite3_stmt *s = q(r, Q_SCOPE_HELD);
	bool found = gate_step(&r->g, s, "");

	if (found)
		(void)snprintf(out, ALARM_SCOPE_MAX, "%s", (const char *)sqlite3_column_text(s, 0));
	if (s != NULL)
		sqlite3_reset(s);
	return found;
}

static void begin_round(struct heal *h)
{
	h->todo[0] = (struct key_range){.rows = 0};
	h->todo_count = 1;
}

/* Takes up the alarm that is due. False: it cannot be compared (its scope is
 * not held any more, or nothing is). */
static bool take_up(struct replica *r, struct heal *h, const struct alarm *a)
{
	struct table *t = table_named(r, a->table);

	*h = (struct heal){.first_round = true, .sums_only = t == NULL, .alarm = *a};
	(void)snprintf(h->scope_name, sizeof(h->scope_name), "%s", a->scope);
	if (r->now.schema.table_count == 0)
		return false;
	if (t == NULL) {
		h->table = r->now.schema.tables[0].table;
		return any_scope(r, h->scope_name);
	}
	h->table = t->t->table;
	h->scope = scope_id(r, a->scope);
	begin_round(h);
	return scope_held(r, h->scope, h->scope_name);
}

/* A write transaction, so that the attempt is noted before it is made. */
static enum ferry_error begin_next(struct replica *r, struct ferry_why *why)
{
	struct heal *h = r->heal;
	struct alarm a;
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	while (!h->active && r->g.error == FERRY_OK && alarm_next(r, &a)) {
		alarm_try(r, &a);
		h->active = take_up(r, h, &a);
	}
	e = replica_end(r, why);
	if (e != FERRY_OK)
		h->active = false;
	return e;
}

static int compare_keys(const void *a, const void *b)
{
	return uuid_compare(&((const struct wanted_key *)a)->key, &((const struct wanted_key *)b)->key);
}

/* The ranges found last come first, so that few are known at a time. */
static void ask(struct heal *h, struct message_compare *out)
{
	uint32_t n = h->todo_count < FERRY_COMPARE_RANGES_MAX ? h->todo_count : FERRY_COMPARE_RANGES_MAX;

	h->todo_count -= n;
	h->top = n > 0 && uuid_is_zero(&h->todo[h->todo_count].after) && uuid_is_zero(&h->todo[h->todo_count].upto);
	memcpy(h->asked, h->wants, h->want_count * sizeof(h->wants[0]));
	h->asked_count = h->want_count;
	h->want_count = 0;
	if (h->asked_count > 1)
		qsort(h->asked, h->asked_count, sizeof(h->asked[0]), compare_keys);
	*out = (struct message_compare){.scope = h->scope_name, .table = h->table, .ranges = h->todo + h->todo_count,
					.range_count = n, .keys = h->asked, .key_count = h->asked_count};
}

enum ferry_error replica_compare(void *store, struct message_compare *out, bool *out_any, struct ferry_why *why)
{
	struct replica *r = store;
	struct heal *h;
	enum ferry_error e;

	*out_any = false;
	if (r->rewind != NULL)
		return rewind_compare(r, out, out_any);
	r->g.error = FERRY_OK;
	if ((r->heal == NULL || !r->heal->active) && !alarm_due(r))
		return FERRY_OK;
	if (r->heal == NULL)
		r->heal = calloc(1, sizeof(*r->heal));
	h = r->heal;
	if (h == NULL)
		return ferry_fail(why, FERRY_NO_MEMORY, "No memory for a comparison.");
	if (!h->active) {
		walk_end(&h->walk);
		e = begin_next(r, why);
		if (e != FERRY_OK || !h->active)
			return e;
	}
	ask(h, out);
	*out_any = true;
	return FERRY_OK;
}

/* ---- Hashing what stands here ---- */

/* The confirmed row of a key, if it is in the scope: into the part's hash and,
 * where the whole table is compared, the sums. */
static void add_row(struct replica *r, void *ctx, struct table *t, const struct uuid *key, const char *text)
{
	struct heal *h = ctx;
	uint64_t hashes[FERRY_COLUMNS_MAX];
	struct scopes scopes;
	struct stack s;

	arena_reset(&r->work);
	stack_load(r, t, text, &s);
	if (r->g.error != FERRY_OK || !s.confirmed.present)
		return;
	scopes_get(r, TARGET_LIVE, t, key, &scopes);
	if (!scopes_have(&scopes, h->scope))
		return;
	row_hashes(r, t, key, &s.confirmed, hashes);
	h->rows++;
	h->fresh.rows++;
	h->hash ^= cell_hash_row_seed(key);
	for (int i = 0; i < t->t->column_count; i++) {
		h->hash ^= hashes[i];
		h->fresh.sums[i] ^= hashes[i];
	}
	if (h->mine_count < WANTS_MAX)
		h->mine[h->mine_count++].key = *key;
}

/* ---- The answer ---- */

static void want(struct heal *h, const struct uuid *key)
{
	for (uint32_t i = 0; i < h->want_count; i++) {
		if (uuid_equal(&h->wants[i].key, key))
			return;
	}
	if (h->want_count < WANTS_MAX)
		h->wants[h->want_count++].key = *key;
}

static void judge(struct heal *h, const struct key_range *part)
{
	if (part->rows == h->rows && part->hash == h->hash)
		return;
	h->differs = true;
	if (part->rows > 1) {
		if (h->todo_count < RANGES_OPEN_MAX)
			h->todo[h->todo_count++] = (struct key_range){.after = part->after, .upto = part->upto};
		return;
	}
	if (part->rows == 1)
		want(h, &part->upto);
	for (uint32_t i = 0; i < h->mine_count; i++)
		want(h, &h->mine[i].key);
}

static void begin_part(struct heal *h, const struct message_ranges *m)
{
	h->rows = 0;
	h->hash = 0;
	h->mine_count = 0;
	if (h->part < m->range_count)
		h->walk.after = m->ranges[h->part].after;
}

static void begin_answer(struct heal *h, const struct message_ranges *m)
{
	h->working = true;
	h->asked_count = 0;
	h->differs = false;
	h->part = 0;
	h->fresh = (struct sum){.rows = 0};
	begin_part(h, m);
}

/* A slice of the work. False: more is left. */
static bool work_on(struct replica *r, struct heal *h, struct table *t, const struct message_ranges *m)
{
	uint32_t done = 0;

	while (h->part < m->range_count && r->g.error == FERRY_OK) {
		if (done >= WALK_SLICE_ROWS)
			return false;
		if (!walk_slice(r, &h->walk, t, &m->ranges[h->part].upto, add_row, h, &done))
			continue;
		judge(h, &m->ranges[h->part]);
		h->part++;
		begin_part(h, m);
	}
	return true;
}

/* What the sums run to is what stands in the file, from here on. */
static void renew_sum(struct replica *r, struct heal *h)
{
	struct sum *s = sum_of(r, TARGET_LIVE, h->scope, h->table);

	if (s == NULL)
		return;
	s->rows = h->fresh.rows;
	memcpy(s->sums, h->fresh.sums, sizeof(s->sums));
	s->dirty = true;
}

static void end_answer(struct replica *r, struct heal *h)
{
	bool top = h->top, fruitless = !h->first_round && h->repaired == h->repaired_before;

	h->working = false;
	if (top)
		renew_sum(r, h);
	if (top && !h->differs)
		heal_end(r, true);
	else if (top && fruitless)
		heal_end(r, false);
	else if (top)
		h->first_round = false;
	else if (h->todo_count == 0 && h->want_count == 0)
		begin_round(h);
	if (top && h->active)
		h->repaired_before = h->repaired;
}

/* Of another state or question than ours: the alarm stays for another try. */
static bool fits(const struct replica *r, const struct heal *h, const struct message_ranges *m)
{
	return m->position == r->st.position && m->table == h->table && strcmp(m->scope, h->scope_name) == 0;
}

enum ferry_error replica_ranges(void *store, const struct message_ranges *m, bool *out_more, struct ferry_why *why)
{
	struct replica *r = store;
	struct heal *h = r->heal;
	struct table *t;
	bool done = true;
	enum ferry_error e;

	*out_more = false;
	if (r->rewind != NULL)
		return rewind_ranges(r, m, out_more, why);
	if (h == NULL || !h->active)
		return FERRY_OK;
	e = cut_all(r, why);
	if (e == FERRY_OK)
		e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	cut_rest(r); /* a captured edit that is not ingested would look confirmed */
	t = model_table(&r->now, h->table);
	if (h->sums_only && m->position == r->st.position) {
		sums_unmentioned(r);
		heal_end(r, true);
	} else if (h->sums_only || t == NULL || !fits(r, h, m)) {
		heal_end(r, false);
	} else {
		if (!h->working)
			begin_answer(h, m);
		done = work_on(r, h, t, m);
		if (done && r->g.error == FERRY_OK)
			end_answer(r, h);
	}
	e = replica_end(r, why);
	*out_more = e == FERRY_OK && !done;
	if (e != FERRY_OK && e != FERRY_BUSY && e != FERRY_NO_SPACE)
		heal_drop(r);
	else if (e != FERRY_OK)
		h->working = false; /* this answer from its start again */
	return e;
}

/* ---- The report ---- */

const char *heal_reason(const struct replica *r)
{
	return r->heal != NULL && r->heal->active && r->heal->sums_only ? r->heal->alarm.what : NULL;
}

bool heal_asked(const struct replica *r, uint32_t table, const struct uuid *key)
{
	const struct heal *h = r->heal;

	return h != NULL && h->asked_count > 0 && h->table == table &&
	       bsearch(key, h->asked, h->asked_count, sizeof(h->asked[0]), compare_keys) != NULL;
}

/* before, after: the confirmed row as it stood here and as the hub has it. */
void heal_report(struct replica *r, const struct table *t, const char *key, const struct row *before,
		 const struct row *after)
{
	struct heal *h = r->heal;
	uint64_t mask = 0;
	const char *what = !before->present ? "missing" : !after->present ? "extra" : "differs";
	char now[TIME_TEXT_MAX], *was, *is;

	for (int i = 0; i < t->t->column_count; i++) {
		bool same = before->present && after->present && cell_equal(&before->cells[i], &after->cells[i]);

		mask |= (uint64_t)!same << i;
	}
	if ((!before->present && !after->present) || (before->present && after->present && mask == 0))
		return;
	was = before->present ? row_json(t, before->cells, mask) : NULL;
	is = after->present ? row_json(t, after->cells, mask) : NULL;
	time_now(r, now);
	gate_run(&r->g, q(r, Q_REPAIRED_ADD), "tttttttti", now, h->scope_name, t->t->name, key, what, was, is, h->alarm.what,
		 r->st.position);
	gate_run(&r->g, q(r, Q_REPAIRED_TRIM), "i", sqlite3_last_insert_rowid(r->g.db) - REPAIRED_ROWS_MAX);
	h->repaired++;
	sqlite3_free(was);
	sqlite3_free(is);
}
