/* The judge of replicas: what each shows, and what is left at the end. */
#include "tests/sim/checker_inner.h"

#include <stdlib.h>
#include <string.h>

struct pending { /* this device's edits of a row that position does not include */
	bool any, inserted, deleted;
	bool split; /* a joined change-set was refused: shown until its parts are decided */
	bool has[CELLS_MAX];
	int64_t cells[CELLS_MAX];
};

static void add_pending(struct pending *p, const struct edit *e)
{
	p->any = true;
	p->inserted = (p->inserted || e->inserts) && !e->deletes;
	p->deleted = e->deletes;
	for (int i = 0; i < CELLS_MAX; i++) {
		p->has[i] = !e->deletes && (p->has[i] || e->inserts || e->before.cells[i] != e->after.cells[i]);
		if (e->deletes || e->inserts || e->before.cells[i] != e->after.cells[i])
			p->cells[i] = e->after.cells[i];
	}
}

static bool row_right(const struct pending *p, const struct sim_row *base, const struct sim_row *shown)
{
	if (p->deleted)
		return !shown->exists;
	if (!p->inserted && base->exists != shown->exists)
		return p->any && !base->exists; /* an edit of a row that is gone at the hub: shown or not */
	if (p->inserted && !shown->exists)
		return false;
	for (int i = 0; shown->exists && i < sim_columns(shown->table); i++) {
		int64_t expected = p->has[i] ? p->cells[i] : base->cells[i];
		if ((p->has[i] || base->exists) && shown->cells[i] != expected)
			return false;
	}
	return true;
}

static const struct sim_row *base_row(const struct sim_state *hub, int key, const bool scopes[SCOPES])
{
	static const struct sim_row none;
	int scope = hub->rows[key].exists ? sim_scope_of(hub, key) : -1;
	return scope >= 0 && scopes[scope] ? &hub->rows[key] : &none;
}

/* The first row that is not as it should be; -1: none. */
static int wrong_row(const struct sim_state *hub, const struct pending *pending, const bool scopes[SCOPES],
		     const struct sim_state *visible)
{
	for (int key = 0; key < KEYS_MAX; key++)
		if (!pending[key].split && !row_right(&pending[key], base_row(hub, key, scopes), &visible->rows[key]))
			return key;
	return -1;
}

/* In the order in which they were made. */
static void gather_pending(const struct checker *c, int device, int64_t position, struct pending *pending)
{
	int *order = sim_alloc((size_t)c->edit_count * sizeof *order);
	int n = 0;
	for (int i = c->last_of[device + 1]; i >= 0; i = c->edits[i].previous)
		order[n++] = i;
	while (n > 0) {
		const struct edit *e = &c->edits[order[--n]];
		if (e->number > 0 && (c->numbers[device][e->number].lost || c->numbers[device][e->number].parked))
			pending[e->key].split = true; /* being brought back */
		else if (!checker_settled_by(c, device, e->number, position))
			add_pending(&pending[e->key], e);
		else if (c->numbers[device][e->number].joined && c->numbers[device][e->number].verdict == VERDICT_REJECTED)
			pending[e->key].split = true;
	}
	free(order);
}

/* On the way to set i: what it held all the time is there, of the rest of the
 * set some, each scope whole; what is not in the set is gone. */
static bool on_the_way(const struct watched *w, int i, const struct sim_state *hub, const struct pending *pending,
		       const struct sim_state *visible)
{
	for (unsigned some = 0; some < 1u << SCOPES; some++) {
		bool scopes[SCOPES], possible = true;
		for (int s = 0; s < SCOPES; s++) {
			bool always = true;
			for (int k = w->first; k <= i; k++)
				always &= w->scopes[k][s];
			scopes[s] = some >> s & 1;
			possible &= scopes[s] ? w->scopes[i][s] : !always;
		}
		if (possible && wrong_row(hub, pending, scopes, visible) < 0)
			return true;
	}
	return false;
}

/* A replica has the scopes that it was last told, and follows the hub's. */
static int follow_scopes(struct watched *w, const struct sim_state *hub, const struct pending *pending,
			 const struct sim_state *visible, bool quiet)
{
	int first = quiet ? w->count - 1 : w->first, wrong = -1;
	for (int i = first; i < w->count; i++) {
		int key = wrong_row(hub, pending, w->scopes[i], visible);
		if (key < 0) {
			w->first = i;
			return -1;
		}
		wrong = i == first ? key : wrong;
	}
	for (int i = first + 1; i < w->count; i++)
		if (on_the_way(w, i, hub, pending, visible))
			return -1;
	return wrong;
}

static void compare(struct checker *c, int device, int64_t position, const struct sim_state *visible, bool quiet)
{
	const struct sim_state *hub = checker_state_at(c, position);
	struct pending *pending = sim_alloc(KEYS_MAX * sizeof *pending);
	struct watched *w = &c->device[device];
	if (!quiet)
		gather_pending(c, device, position, pending);
	int key = follow_scopes(w, hub, pending, visible, quiet);
	if (key >= 0) {
		const struct sim_row *base = base_row(hub, key, w->scopes[w->first]), *shown = &visible->rows[key];
		sim_fail(c->sim,
			 "%s: device %d at %lld shows row %d as %s %lld %lld %lld %lld; the hub had %s %lld %lld %lld %lld; "
			 "pending %s%s",
			 quiet ? "P4" : "P3", device, (long long)position, key, shown->exists ? "there" : "gone",
			 (long long)shown->cells[0], (long long)shown->cells[1], (long long)shown->cells[2],
			 (long long)shown->cells[3], base->exists ? "there" : "gone", (long long)base->cells[0],
			 (long long)base->cells[1], (long long)base->cells[2], (long long)base->cells[3],
			 pending[key].any ? "edits" : "none", pending[key].deleted ? ", deleted" : "");
	}
	free(pending);
	c->counts.states_compared++;
}

/* While a lost history is brought back, replicas show some of it already; then
 * only the end is judged. */
void checker_replica(struct checker *c, int device, int64_t position, const struct sim_state *visible)
{
	if (!c->rewound)
		compare(c, device, position, visible, false);
}

/* The last word on each row was said to the hub, or came to nothing before. */
static void check_nothing_left(struct checker *c, int device)
{
	for (int key = 0; key < KEYS_MAX; key++) {
		int i = checker_last_edit(c, device, key, false);
		if (i < 0 || checker_settled_by(c, device, c->edits[i].number, INT64_MAX))
			continue;
		if (c->edits[i].number > 0 && c->numbers[device][c->edits[i].number].parked)
			continue;
		bool net_nothing = c->edits[i].deletes && c->edits[i].number == 0;
		if (!net_nothing)
			sim_fail(c->sim, "the last edit of row %d on device %d (change-set %lld) was never settled", key, device,
				 (long long)c->edits[i].number);
	}
}

static void check_healed(struct checker *c, int device)
{
	for (int64_t n = 0; n < NUMBERS_MAX; n++) {
		const struct verdict_seen *v = &c->numbers[device][n];
		c->counts.regained += v->replayed && !v->lost;
		if (v->lost && !v->parked)
			sim_fail(c->sim, "P8: change-set %lld of device %d is missing since the hub was restored", (long long)n,
				 device);
	}
}

void checker_quiet(struct checker *c, int device, int64_t position, const struct sim_state *visible)
{
	if (c->history_count && position < c->history[c->history_count - 1]->position)
		sim_fail(c->sim, "all is quiet, but device %d stands at %lld of %lld", device, (long long)position,
			 (long long)c->history[c->history_count - 1]->position);
	check_healed(c, device);
	check_nothing_left(c, device);
	compare(c, device, position, visible, true);
}

/* P6. An edit may wait for a locked row; so may what was pushed or written
 * together with it, and what builds on it. */

static bool waits_rightly(const struct edit *e, const bool waiting[KEYS_MAX], const bool *groups, const bool *numbers)
{
	const struct sim_row *row = e->after.exists ? &e->after : &e->before;
	return waiting[e->key] || groups[e->group] || (e->number > 0 && numbers[e->number]) ||
	       (row->table == NOTE && waiting[row->cells[0]]);
}

static bool spread(const struct checker *c, int device, bool waiting[KEYS_MAX], bool *groups, bool *numbers)
{
	bool more = false;
	for (int i = c->last_of[device + 1]; i >= 0; i = c->edits[i].previous) {
		const struct edit *e = &c->edits[i];
		if (checker_settled_by(c, device, e->number, INT64_MAX) || !waits_rightly(e, waiting, groups, numbers))
			continue;
		more = more || !waiting[e->key] || !groups[e->group] || (e->number > 0 && !numbers[e->number]);
		waiting[e->key] = groups[e->group] = true;
		if (e->number > 0)
			numbers[e->number] = true;
	}
	return more;
}

void checker_no_jam(struct checker *c, const bool locked[KEYS_MAX])
{
	for (int device = 0; device < c->devices; device++) {
		bool waiting[KEYS_MAX], *groups = sim_alloc((size_t)c->group + 1), *numbers = sim_alloc(NUMBERS_MAX);
		memcpy(waiting, locked, sizeof waiting);
		while (spread(c, device, waiting, groups, numbers))
			;
		for (int key = 0; key < KEYS_MAX; key++) {
			int i = checker_last_edit(c, device, key, false);
			const struct edit *e = i < 0 ? NULL : &c->edits[i];
			if (e && !checker_settled_by(c, device, e->number, INT64_MAX) && !(e->deletes && e->number == 0) &&
			    !waits_rightly(e, waiting, groups, numbers))
				sim_fail(c->sim, "P6: device %d's edit of row %d (change-set %lld) waits though its rows are free",
					 device, key, (long long)e->number);
		}
		free(groups);
		free(numbers);
	}
}
