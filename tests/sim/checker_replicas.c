/* The judge of replicas: what each shows, and what is left at the end. */
#include "tests/sim/checker_inner.h"

#include <stdlib.h>
#include <string.h>

struct pending { /* this device's edits of a row that position does not include */
	bool any, inserted, deleted;
	bool unsent; /* inserted so, and not cut yet: with its deletion that comes to nothing */
	struct difference difference;
	bool split; /* a joined change-set was refused: shown until its parts are decided */
	bool has[CELLS_MAX];
	bool moved[CELLS_MAX]; /* the column is another one since, or gone: the value need not be shown */
	int64_t cells[CELLS_MAX];
	int64_t sure[CELLS_MAX]; /* gather_written(): the same without what was superseded */
};

static void add_pending(struct pending *p, const struct edit *e, unsigned changes)
{
	p->any = true;
	p->unsent = ((p->unsent && !p->deleted) || e->inserts) && e->number == 0;
	p->inserted = (p->inserted || e->inserts) && !e->deletes;
	p->deleted = e->deletes;
	checker_add_difference(&p->difference, e);
	for (int i = 0; i < CELLS_MAX; i++) {
		p->has[i] = !e->deletes && (p->has[i] || e->inserts || e->before.cells[i] != e->after.cells[i]);
		if (e->deletes || e->inserts || e->before.cells[i] != e->after.cells[i])
			p->cells[i] = e->after.cells[i];
		p->moved[i] = p->moved[i] || (e->after.exists && !sim_same_column(e->after.table, i, e->changes, changes));
	}
}

/* What was made and deleted within one cut was never told to anybody. Where a copy of the replica
 * had it from before, and pushed it, it comes like anybody's row. */
static bool came_from_a_copy(const struct pending *p, const struct sim_row *base, const struct sim_row *shown)
{
	return p->unsent && base->exists && shown->exists && memcmp(base->cells, shown->cells, sizeof base->cells) == 0;
}

static bool row_right(const struct pending *p, const struct sim_row *base, const struct sim_row *shown)
{
	if (p->deleted)
		return !shown->exists || came_from_a_copy(p, base, shown);
	if (!p->inserted && base->exists != shown->exists)
		return p->any && !base->exists; /* an edit of a row that is gone at the hub: shown or not */
	if (p->inserted && !shown->exists)
		return false;
	for (int i = 0; shown->exists && i < sim_columns(shown->table); i++) {
		if (p->has[i] && !p->inserted && base->exists && checker_has_own_judge(shown->table, i)) {
			if (!checker_shows_difference(&p->difference, i, p->cells[i], base->cells[i], shown->cells[i]))
				return false;
			continue;
		}
		int64_t expected = p->has[i] ? p->cells[i] : base->cells[i];
		if (p->has[i] && p->moved[i] && (!base->exists || shown->cells[i] == base->cells[i] || shown->cells[i] == CELL_NULL))
			continue;
		if ((p->has[i] || base->exists) && shown->cells[i] != expected)
			return false;
	}
	return true;
}

static const struct sim_row *base_row(const struct sim_state *hub, int key, unsigned scopes)
{
	static const struct sim_row none;
	int scope = hub->rows[key].exists ? sim_scope_of(hub, key) : -1;
	return scope >= 0 && (scopes >> scope & 1) ? &hub->rows[key] : &none;
}

/* A row that was made here in a scope which is on its way may be shown as it was written until
 * that is there: no state has told of it. Of a column that merges differences, the refused ones are not in it; an
 * edit that met a deletion at the hub is not shown any more. */
static bool row_carried(const struct pending *written, const struct sim_row *base, const struct sim_row *shown)
{
	if (base->exists || !written->inserted || !shown->exists)
		return false;
	for (int i = 0; i < sim_columns(shown->table); i++)
		if (!written->moved[i] && !checker_has_own_judge(shown->table, i) && shown->cells[i] != written->cells[i] &&
		    shown->cells[i] != written->sure[i])
			return false;
	return true;
}

/* The first row that is not as it should be; -1: none. written: NULL, or all edits of the device
 * that were not refused, while other scopes are on their way. */
static int wrong_row(const struct sim_state *hub, const struct pending *pending, const struct pending *written,
		     unsigned scopes, const struct sim_state *visible)
{
	for (int key = 0; key < KEYS_MAX; key++) {
		const struct sim_row *base = base_row(hub, key, scopes), *shown = &visible->rows[key];
		if (!pending[key].split && !row_right(&pending[key], base, shown) &&
		    !(written && row_carried(&written[key], base, shown)))
			return key;
	}
	return -1;
}

/* Settled in a history that is lost, or waiting for what was: it shows again when the replica stands where it
 * is settled anew. */
static bool being_brought_back(const struct checker *c, int line, int64_t number, int64_t position)
{
	const struct verdict_seen *v = &c->lines[line].numbers[number];
	return number > 0 && (v->lost || v->parked || (v->replayed && !checker_settled_by(c, line, number, position)));
}

/* Indexes of a line's edits; the caller frees them. */
static int *list_edits(const struct checker *c, int line, int *out_count)
{
	int *newest_first = sim_alloc((size_t)c->edit_count * sizeof *newest_first);
	*out_count = 0;
	for (int i = checker_last(c, line); i >= 0; i = c->edits[i].previous)
		newest_first[(*out_count)++] = i;
	return newest_first;
}

/* In the order in which they were made. */
static void gather_pending(const struct checker *c, int line, int64_t position, struct pending *pending)
{
	int n, *newest_first = list_edits(c, line, &n);
	while (n > 0) {
		const struct edit *e = &c->edits[newest_first[--n]];
		if (e->kept)
			continue;
		if (being_brought_back(c, line, e->number, position))
			pending[e->key].split = true;
		else if (!checker_settled_by(c, line, e->number, position))
			add_pending(&pending[e->key], e, c->lines[line].changes);
		else if (c->lines[line].numbers[e->number].joined && c->lines[line].numbers[e->number].verdict == VERDICT_REJECTED)
			pending[e->key].split = true;
	}
	free(newest_first);
}

static void add_written(struct pending *p, const struct edit *e, enum verdict verdict, unsigned changes)
{
	add_pending(p, e, changes);
	for (int i = 0; verdict != VERDICT_SUPERSEDED && i < CELLS_MAX; i++)
		if (e->inserts || e->before.cells[i] != e->after.cells[i])
			p->sure[i] = e->after.cells[i];
}

/* The same of all its edits but the refused ones, settled or not. */
static void gather_written(const struct checker *c, int line, struct pending *written)
{
	int n, *newest_first = list_edits(c, line, &n);
	while (n > 0) {
		const struct edit *e = &c->edits[newest_first[--n]];
		enum verdict verdict = e->number > 0 ? c->lines[line].numbers[e->number].verdict : VERDICT_ACCEPTED;
		if (!e->kept && verdict != VERDICT_REJECTED)
			add_written(&written[e->key], e, verdict, c->lines[line].changes);
	}
	free(newest_first);
}

/* What waits for rows that nobody brings back may be shown for ever. */
static void gather_parked(const struct checker *c, int line, struct pending *pending)
{
	for (int i = checker_last(c, line); i >= 0; i = c->edits[i].previous) {
		const struct edit *e = &c->edits[i];
		pending[e->key].split |= e->number > 0 && c->lines[line].numbers[e->number].parked;
	}
}

/* From the scopes that it showed, told of set i, to what may be shown now of set k: what all sets
 * since then have stays. */
static bool leads_to(const struct watched *w, int i, unsigned shown, int k, unsigned now)
{
	for (int between = i; between <= k; between++)
		shown &= w->scopes[between];
	return k >= i && (now & shown) == shown && (now & ~w->scopes[k]) == 0;
}

static bool reachable(const struct watched *w, int k, unsigned now)
{
	for (int i = 0; i <= k; i++)
		for (unsigned shown = 0; shown < SCOPE_MASKS; shown++)
			if (w->may[i][shown] && leads_to(w, i, shown, k, now))
				return true;
	return false;
}

/* Where the replica may stand now; -1 when there is such a place, or else a wrong row. */
static int follow_scopes(struct watched *w, const struct sim_state *hub, const struct pending *pending,
			 const struct pending *written, const struct sim_state *visible)
{
	int wrong[2][SCOPE_MASKS], first = -1;
	bool known[2][SCOPE_MASKS] = {{false}}, may[SCOPE_SETS_MAX][SCOPE_MASKS] = {{false}}, any = false;
	for (int k = 0; k < w->count; k++)
		for (unsigned now = 0; now < SCOPE_MASKS; now++) {
			if (!reachable(w, k, now))
				continue;
			int lacks = (w->scopes[k] & ~now) != 0;
			if (!known[lacks][now])
				wrong[lacks][now] = wrong_row(hub, pending, lacks ? written : NULL, now, visible);
			known[lacks][now] = true;
			may[k][now] = wrong[lacks][now] < 0;
			any = any || may[k][now];
			first = first < 0 || now == w->scopes[w->count - 1] ? wrong[lacks][now] : first;
		}
	if (!any)
		return first;
	memcpy(w->may, may, sizeof may);
	return -1;
}

static unsigned last_scopes(const struct watched *w)
{
	return w->scopes[w->count - 1];
}

static void compare(struct checker *c, int line, int64_t position, const struct sim_state *visible, bool quiet)
{
	const struct sim_state *hub = checker_state_at(c, position);
	struct pending *pending = sim_alloc(KEYS_MAX * sizeof *pending), *written = sim_alloc(KEYS_MAX * sizeof *written);
	struct watched *w = &c->lines[line].watched;
	if (quiet)
		gather_parked(c, line, pending);
	else
		gather_pending(c, line, position, pending);
	gather_written(c, line, written);
	int key = quiet ? wrong_row(hub, pending, NULL, last_scopes(w), visible) :
			  follow_scopes(w, hub, pending, written, visible);
	if (key >= 0) {
		const struct sim_row *base = base_row(hub, key, last_scopes(w)), *shown = &visible->rows[key];
		char is[ROW_TEXT_MAX], was[ROW_TEXT_MAX];
		sim_fail(c->sim, "%s: replica %d at %lld shows row %d as %s; the hub had %s; pending %s%s", quiet ? "P4" : "P3", line,
			 (long long)position, key, sim_row_text(shown, is), sim_row_text(base, was), pending[key].any ? "edits" : "none",
			 pending[key].deleted ? ", deleted" : "");
	}
	free(pending);
	free(written);
	c->counts.states_compared++;
}

void checker_replica(struct checker *c, int line, int64_t position, const struct sim_state *visible)
{
	compare(c, line, position, visible, false);
}

/* The last word on each row was said to the hub, or came to nothing before. */
static void check_nothing_left(struct checker *c, int line)
{
	for (int key = 0; key < KEYS_MAX; key++) {
		int i = checker_last_edit(c, line, key, false);
		if (i < 0 || c->edits[i].kept || checker_settled_by(c, line, c->edits[i].number, INT64_MAX))
			continue;
		if (c->edits[i].number > 0 && c->lines[line].numbers[c->edits[i].number].parked)
			continue;
		bool net_nothing = c->edits[i].deletes && c->edits[i].number == 0;
		if (!net_nothing)
			sim_fail(c->sim, "the last edit of row %d on replica %d (change-set %lld) was never settled", key, line,
				 (long long)c->edits[i].number);
	}
}

static void check_healed(struct checker *c, int line)
{
	for (int64_t n = 0; n < NUMBERS_MAX; n++) {
		const struct verdict_seen *v = &c->lines[line].numbers[n];
		c->counts.regained += v->replayed && !v->lost;
		if (v->lost && !v->parked)
			sim_fail(c->sim, "P8: change-set %lld of replica %d is missing since the hub was restored", (long long)n,
				 line);
	}
}

void checker_quiet(struct checker *c, int line, int64_t position, const struct sim_state *visible)
{
	if (c->history_count && position < c->history[c->history_count - 1]->position)
		sim_fail(c->sim, "all is quiet, but replica %d stands at %lld of %lld", line, (long long)position,
			 (long long)c->history[c->history_count - 1]->position);
	check_healed(c, line);
	check_nothing_left(c, line);
	compare(c, line, position, visible, true);
}

/* P6. An edit may wait for a locked row; so may what was pushed or written
 * together with it, and what builds on it. */

static bool waits_rightly(const struct edit *e, const bool waiting[KEYS_MAX], const bool *groups, const bool *numbers)
{
	const struct sim_row *row = e->after.exists ? &e->after : &e->before;
	return waiting[e->key] || groups[e->group] || (e->number > 0 && numbers[e->number]) ||
	       (row->table == NOTE && waiting[row->cells[0]]);
}

/* It has a verdict, or its replica keeps it. */
static bool is_decided(const struct checker *c, const struct edit *e)
{
	return e->kept || checker_settled_by(c, e->line, e->number, INT64_MAX);
}

/* Or it waits for what is gone for good. */
static bool done_with(const struct checker *c, const struct edit *e)
{
	return is_decided(c, e) || (e->number > 0 && c->lines[e->line].numbers[e->number].parked);
}

static bool spread(const struct checker *c, int line, bool waiting[KEYS_MAX], bool *groups, bool *numbers)
{
	bool more = false;
	for (int i = checker_last(c, line); i >= 0; i = c->edits[i].previous) {
		const struct edit *e = &c->edits[i];
		if (is_decided(c, e) || !waits_rightly(e, waiting, groups, numbers))
			continue; /* what was parked may wait for a lock by now */
		more = more || !waiting[e->key] || !groups[e->group] || (e->number > 0 && !numbers[e->number]);
		waiting[e->key] = groups[e->group] = true;
		if (e->number > 0)
			numbers[e->number] = true;
	}
	return more;
}

void checker_no_jam(struct checker *c, const bool locked[KEYS_MAX])
{
	for (int line = 0; line < c->line_count; line++) {
		if (c->lines[line].gone || c->lines[line].shut)
			continue;
		bool waiting[KEYS_MAX], *groups = sim_alloc((size_t)c->group + 1), *numbers = sim_alloc(NUMBERS_MAX);
		memcpy(waiting, locked, sizeof waiting);
		while (spread(c, line, waiting, groups, numbers))
			;
		for (int key = 0; key < KEYS_MAX; key++) {
			int i = checker_last_edit(c, line, key, false);
			const struct edit *e = i < 0 ? NULL : &c->edits[i];
			if (e && !done_with(c, e) && !(e->deletes && e->number == 0) &&
			    !waits_rightly(e, waiting, groups, numbers))
				sim_fail(c->sim, "P6: replica %d's edit of row %d (change-set %lld) waits though its rows are free",
					 line, key, (long long)e->number);
		}
		free(groups);
		free(numbers);
	}
}
