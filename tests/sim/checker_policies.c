/* The judge of merging policies: what stands in a tally after each commit, reckoned here from what
 * people did, shown as they saw it and as they made it. A commit that holds anything else is wrong;
 * so at the end a counter is what it began with plus the differences of the accepted edits, each once.
 *
 *   counter   plus the difference of each accepted edit
 *   set       with what accepted edits added, without what they took away
 *   max, min  the extreme of all that was accepted, since nobody writes less than he sees
 *   guard     one step of the map after the other, each from where its author saw it; what is refused
 *             as none is none
 *   review    of two that had not seen each other the one at the hub
 *
 * What is no difference is judged as lww, by the conflict that names it: an insertion that meets
 * its row, which only another copy of the replica can have made. The differences that two copies of
 * a replica held when neither was cut are edits of each of them: no one can know that they are the
 * same, so where both are accepted both count. */
#include "tests/sim/checker_inner.h"

#include <stdlib.h>
#include <string.h>

static const bool leads[STAGES][STAGES] = {[0][1] = true, [1][0] = true, [1][2] = true, [2][3] = true, [3][0] = true};

struct tallies {
	struct sim_row rows[TALLIES_MAX];
};

static struct sim_row *row_of(struct tallies *s, int key)
{
	return &s->rows[key - (KEYS_MAX - TALLIES_MAX)];
}

void checker_note_tally(struct checker *c, struct offered_row row)
{
	if (c->tally_count == c->tally_capacity) {
		c->tally_capacity = c->tally_capacity ? 2 * c->tally_capacity : 256;
		c->tallies = realloc(c->tallies, (size_t)c->tally_capacity * sizeof *c->tallies);
		if (!c->tallies)
			abort();
	}
	c->tallies[c->tally_count++] = row;
}

/* What the change-set made of the row: as its author saw it first, and as he left it. Before a deletion
 * lies what came to nothing: within one cut a row was made and deleted again, and then another copy's came. */
static void net(const struct checker *c, const struct offered_row *o, const struct sim_row **before, const struct sim_row **after)
{
	*before = &c->edits[o->edit].before;
	*after = &c->edits[o->edit].after;
	for (int i = o->edit; i >= 0; i = c->edits[i].previous) {
		const struct edit *e = &c->edits[i];
		if (e->key != o->key || e->number != o->number)
			continue;
		if (e->deletes && i != o->edit)
			break;
		*before = &e->before;
	}
}

static const struct conflict *conflict_of(const struct settled *s, int key, int cell)
{
	for (uint32_t i = 0; i < s->conflict_count; i++)
		if (uuid_equal(&s->conflicts[i].key, sim_key(key)) && s->conflicts[i].num >= 2 &&
		    sim_cell_of(TALLY, s->conflicts[i].num) == cell)
			return &s->conflicts[i];
	return NULL;
}

static int64_t summed(int64_t saw, int64_t made, int64_t stands)
{
	return stands + (made - saw);
}

static int64_t united(int64_t saw, int64_t made, int64_t stands)
{
	int64_t bits = sim_marks(stands);
	for (int64_t mark = 1; mark < 1 << MARKS; mark <<= 1) {
		bool before = sim_marks(saw) & mark, after = sim_marks(made) & mark;
		if (before != after)
			bits = after ? bits | mark : bits & ~mark;
	}
	return MARKS_CELL(bits);
}

static bool step_allowed(int64_t saw, int64_t made, int64_t stands)
{
	return saw == stands && leads[saw][made];
}

static void judge_cell(struct checker *c, const struct offered_row *o, const struct settled *s, int cell, int64_t saw, int64_t made,
		       int64_t *stands)
{
	const struct conflict *f = conflict_of(s, o->key, cell);
	switch (sim_policy(TALLY, cell)) {
	case POLICY_COUNTER:
		*stands = summed(saw, made, *stands);
		break;
	case POLICY_SET:
		*stands = united(saw, made, *stands);
		break;
	case POLICY_MAX:
		*stands = made > *stands ? made : *stands;
		return;
	case POLICY_MIN:
		*stands = made < *stands ? made : *stands;
		return;
	case POLICY_GUARD:
		if (!step_allowed(saw, made, *stands))
			sim_fail(c->sim, "guard: change-set %lld of replica %d took row %d from %lld to %lld, seen from %lld", (long long)o->number,
				 o->line, o->key, (long long)*stands, (long long)made, (long long)saw);
		*stands = made;
		break;
	default:
		if (f && f->device_won && sim_policy(TALLY, cell) == POLICY_REVIEW)
			sim_fail(c->sim, "review: change-set %lld of replica %d won over what it had not seen in row %d", (long long)o->number,
				 o->line, o->key);
		*stands = f && !f->device_won ? *stands : made;
		return;
	}
	if (f)
		sim_fail(c->sim, "change-set %lld of replica %d has a conflict of kind %d in row %d column %d, where none can be", (long long)o->number,
			 o->line, (int)f->kind, o->key, cell);
}

/* Its row is gone, or another life of it: the edit is kept. */
static void judge_kept(struct checker *c, const struct offered_row *o, const struct settled *s, int cell, int64_t made)
{
	int64_t kept;
	const struct conflict *f = conflict_of(s, o->key, cell);
	if (made != CELL_NULL && (!f || !sim_cell(TALLY, f->num, &f->device_value, &kept) || kept != made))
		sim_fail(c->sim, "P5: change-set %lld of replica %d edits row %d column %d, which is gone, and no conflict keeps it",
			 (long long)o->number, o->line, o->key, cell);
}

static bool names_other_life(const struct settled *s, int key, int cell)
{
	const struct conflict *f = conflict_of(s, key, cell);
	return f && f->kind == CONFLICT_UPDATE_DELETE && !f->device_won;
}

/* A row that was made again after a deletion, which a copy of its maker can do; or one of which a hub
 * that went back in time cannot know whether this device had seen it, since it has no bookmark of before.
 * A value that stands there all the same needs no conflict; that of the word, which is always new, tells. */
static bool into_other_life(const struct checker *c, const struct offered_row *o, const struct settled *s, int cell, bool stands)
{
	return (c->births[o->key] > 1 || c->rewound) &&
	       (names_other_life(s, o->key, cell) || (stands && names_other_life(s, o->key, TALLY_WORD)));
}

static void judge_update(struct checker *c, const struct offered_row *o, const struct settled *s, struct sim_row *row)
{
	const struct sim_row *before, *after;
	net(c, o, &before, &after);
	for (int cell = TALLY_COUNT; cell <= TALLY_REMARK; cell++) {
		if (before->cells[cell] == after->cells[cell])
			continue;
		bool stands = row->exists && row->cells[cell] == after->cells[cell];
		if (row->exists && !into_other_life(c, o, s, cell, stands))
			judge_cell(c, o, s, cell, before->cells[cell], after->cells[cell], &row->cells[cell]);
		else if (!stands)
			judge_kept(c, o, s, cell, after->cells[cell]);
	}
}

static void judge_insert(struct checker *c, const struct offered_row *o, const struct settled *s, struct sim_row *row)
{
	const struct sim_row *after = &c->edits[o->edit].after;
	if (!row->exists) {
		c->births[o->key]++;
		*row = *after;
		return;
	}
	for (int cell = TALLY_COUNT; cell <= TALLY_REMARK; cell++) {
		const struct conflict *f = conflict_of(s, o->key, cell);
		if (!f || f->device_won)
			row->cells[cell] = after->cells[cell];
	}
}

static void judge_accepted(struct checker *c, const struct offered_row *o, const struct settled *s, struct sim_row *row)
{
	bool in_vain = false;
	for (uint32_t i = 0; i < s->conflict_count; i++)
		in_vain = in_vain || (uuid_equal(&s->conflicts[i].key, sim_key(o->key)) && s->conflicts[i].num == 0 && !s->conflicts[i].device_won);
	if (o->op == ROW_INSERT)
		judge_insert(c, o, s, row);
	else if (o->op == ROW_UPDATE)
		judge_update(c, o, s, row);
	else
		row->exists = row->exists && in_vain;
}

/* Is there a step in it that the guard has to refuse? */
static bool forbidden(const struct checker *c, const struct offered_row *o, const struct sim_row *row)
{
	const struct sim_row *before, *after;
	net(c, o, &before, &after);
	if (!row->exists || o->op == ROW_DELETE || (o->op == ROW_UPDATE && before->cells[TALLY_STAGE] == after->cells[TALLY_STAGE]))
		return false;
	return o->op == ROW_INSERT || !step_allowed(before->cells[TALLY_STAGE], after->cells[TALLY_STAGE], row->cells[TALLY_STAGE]);
}

/* What was refused in a history that the hub lost stays so. */
static void judge_settled(struct checker *c, int line, const struct settled *s, struct tallies *now)
{
	bool reason = c->lines[line].numbers[s->number].replayed;
	for (int i = 0; i < c->tally_count; i++) {
		const struct offered_row *o = &c->tallies[i];
		if (o->line != line || o->number != s->number)
			continue;
		if (s->verdict != VERDICT_REJECTED)
			judge_accepted(c, o, s, row_of(now, o->key));
		else
			reason = reason || forbidden(c, o, row_of(now, o->key));
	}
	if (s->verdict == VERDICT_REJECTED && s->code == (int)FERRY_GUARD && !reason)
		sim_fail(c->sim, "guard: change-set %lld of replica %d is refused, and all its steps are allowed", (long long)s->number, line);
}

static bool same(int cell, int64_t a, int64_t b)
{
	return a == b || (sim_policy(TALLY, cell) == POLICY_SET && sim_marks(a) == sim_marks(b));
}

void checker_policies(struct checker *c, const struct commit *t)
{
	struct tallies now;
	memcpy(now.rows, &t->before->rows[KEYS_MAX - TALLIES_MAX], sizeof now.rows);
	for (uint32_t i = 0; i < t->count; i++)
		judge_settled(c, t->lines[i], &t->settled[i], &now);
	for (int key = KEYS_MAX - TALLIES_MAX; key < KEYS_MAX; key++) {
		const struct sim_row *should = row_of(&now, key), *is = &t->after->rows[key];
		for (int cell = TALLY_COUNT; should->exists && is->exists && cell <= TALLY_REMARK; cell++)
			if (!same(cell, should->cells[cell], is->cells[cell]))
				sim_fail(c->sim, "R2: row %d column %d holds %lld at %lld, and %lld comes of what was accepted", key, cell,
					 (long long)is->cells[cell], (long long)t->position, (long long)should->cells[cell]);
		c->counts.tallies += should->exists && is->exists;
	}
}

/* What a replica keeps of refused edits. */

void checker_keep_tally(struct sim_kept *kept, int key, int64_t cell)
{
	if (kept->tally_count == KEPT_TALLIES_MAX)
		abort();
	kept->tallies[kept->tally_count].key = key;
	kept->tallies[kept->tally_count++].cell = cell;
}

/* What is kept of a difference is what it came to over the hub's value of then. */
static bool is_of(int column, int64_t made, int64_t kept)
{
	if (column == TALLY_COUNT)
		return kept > COUNT_CELL(-TOKENS_MAX) && kept < COUNT_CELL(TOKENS_MAX);
	if (column == TALLY_MARKS)
		return kept >= MARKS_CELL(0) && kept < MARKS_CELL(1 << MARKS);
	return kept == made;
}

bool checker_is_tally_kept(const struct sim_kept *kept, int key, int column, int64_t made)
{
	for (int i = 0; i < kept->tally_count; i++)
		if (kept->tallies[i].key == key && is_of(column, made, kept->tallies[i].cell))
			return true;
	return false;
}

/* Pending differences of a replica. */

void checker_add_difference(struct difference *d, const struct edit *e)
{
	if (e->after.table != TALLY || !e->before.exists || !e->after.exists)
		return;
	int64_t saw = sim_marks(e->before.cells[TALLY_MARKS]), made = sim_marks(e->after.cells[TALLY_MARKS]);
	int64_t plus = made & ~saw, minus = saw & ~made;
	d->unclear |= (plus & d->minus) | (minus & d->plus);
	d->plus = (d->plus | plus) & ~minus;
	d->minus = (d->minus | minus) & ~plus;
	d->count += e->after.cells[TALLY_COUNT] - e->before.cells[TALLY_COUNT];
	if (!d->any)
		d->stage = e->before.cells[TALLY_STAGE];
	d->any = true;
}

/* A mark that came and went, or the other way round, is a difference or none, by whether the
 * replica had taken it as two change-sets or as one; so is a stage that is again what it was. */
bool checker_shows_difference(const struct difference *d, int cell, int64_t mine, int64_t base, int64_t shown)
{
	if (sim_policy(TALLY, cell) == POLICY_GUARD)
		return shown == mine || (mine == d->stage && shown == base);
	if (sim_policy(TALLY, cell) == POLICY_COUNTER)
		return shown == base + d->count;
	return ((((sim_marks(base) | d->plus) & ~d->minus) ^ sim_marks(shown)) & ~d->unclear) == 0;
}

bool checker_has_own_judge(uint32_t table, int cell)
{
	enum column_policy policy = sim_policy(table, cell);
	return policy == POLICY_COUNTER || policy == POLICY_SET || policy == POLICY_GUARD;
}
