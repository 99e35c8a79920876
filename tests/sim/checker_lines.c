/* The judge of copies: which replica file a life of a device belongs to, and what of one copy's
 * work holds for another. */
#include "tests/sim/checker_inner.h"

#include <stdlib.h>
#include <string.h>

int checker_last(const struct checker *c, int line)
{
	return line < 0 ? c->hub_last : c->lines[line].last;
}

/* Oldest first, so that edits of a line stay in the order in which they were made. */
static void copy_edits(struct checker *c, int from, int to)
{
	int *order = sim_alloc((size_t)(c->edit_count + 1) * sizeof *order), n = 0;
	for (int i = checker_last(c, from); i >= 0; i = c->edits[i].previous)
		order[n++] = i;
	if (c->edit_count + n > EDITS_MAX)
		abort();
	while (n > 0) {
		struct edit *e = &c->edits[c->edit_count++];
		*e = c->edits[order[--n]];
		e->line = to;
		e->previous = c->lines[to].last;
		e->clock_known = e->clock_known && e->number > 0; /* by which clock it is stamped nobody knows yet */
		c->lines[to].last = c->edit_count - 1;
	}
	free(order);
}

int checker_copied(struct checker *c, int line)
{
	if (c->line_count == LINES_MAX)
		abort();
	int to = c->line_count++;
	struct line *copy = &c->lines[to];
	*copy = c->lines[line];
	copy->last = -1;
	copy->shut = true;
	copy->left = NULL;
	copy->watched.clock_known = false;
	copy->numbers = sim_dup(c->lines[line].numbers, NUMBERS_MAX * sizeof *copy->numbers);
	for (int64_t n = 0; n < NUMBERS_MAX; n++)
		memset(copy->numbers[n].noted, 0, sizeof copy->numbers[n].noted);
	copy_edits(c, line, to);
	return to;
}

void checker_gone(struct checker *c, int line)
{
	c->lines[line].gone = true;
}

void checker_shut(struct checker *c, int line, const struct sim_state *visible)
{
	c->lines[line].shut = true;
	free(c->lines[line].left);
	c->lines[line].left = sim_dup(visible, sizeof *visible);
}

void checker_open(struct checker *c, int line)
{
	c->lines[line].shut = false;
}

void checker_untouched(struct checker *c, int line, const struct sim_state *visible)
{
	const struct sim_state *left = c->lines[line].left;
	for (int key = 0; key < KEYS_MAX; key++) {
		const struct sim_row *was = &left->rows[key], *is = &visible->rows[key];
		if (was->exists != is->exists || (was->exists && memcmp(was->cells, is->cells, sizeof was->cells) != 0))
			sim_fail(c->sim, "replica %d was turned away and has not kept row %d as it was written there", line, key);
	}
	c->counts.states_compared++;
}

void checker_proposed(struct checker *c, int line, int64_t next_mark)
{
	if (c->proposal_count == c->proposal_capacity) {
		c->proposal_capacity = c->proposal_capacity ? 2 * c->proposal_capacity : 256;
		c->proposals = realloc(c->proposals, (size_t)c->proposal_capacity * sizeof *c->proposals);
		if (!c->proposals)
			abort();
	}
	c->proposals[c->proposal_count++] = (struct proposal){.line = line, .mark = next_mark};
}

static void add_life(struct checker *c, struct life life)
{
	if (c->life_count == c->life_capacity) {
		c->life_capacity = c->life_capacity ? 2 * c->life_capacity : 256;
		c->lives = realloc(c->lives, (size_t)c->life_capacity * sizeof *c->lives);
		if (!c->lives)
			abort();
	}
	c->lives[c->life_count++] = life;
}

void checker_life(struct checker *c, int device, int64_t next_mark, int64_t life)
{
	for (int i = c->proposal_count - 1; i >= 0; i--)
		if (c->lines[c->proposals[i].line].device == device && c->proposals[i].mark == next_mark) {
			add_life(c, (struct life){.device = device, .line = c->proposals[i].line, .number = life});
			return;
		}
	sim_fail(c->sim, "life %lld of device %d begins with a mark that none of its copies proposed", (long long)life, device);
}

int checker_line(const struct checker *c, int device, int64_t life)
{
	for (int i = c->life_count - 1; i >= 0; i--)
		if (c->lives[i].device == device && c->lives[i].number == life)
			return c->lives[i].line;
	return device;
}

uint64_t checker_parked(const struct checker *c, int line)
{
	uint64_t n = 0;
	for (int64_t number = 0; number < NUMBERS_MAX; number++)
		n += c->lines[line].numbers[number].parked;
	return n;
}

static bool same_content(const struct verdict_seen *a, const struct verdict_seen *b)
{
	return memcmp(a->content, b->content, sizeof a->content) == 0;
}

void checker_settled_together(struct checker *c, int line, int64_t number)
{
	const struct verdict_seen *v = &c->lines[line].numbers[number];
	for (int other = 0; other < c->line_count; other++) {
		struct verdict_seen *o = &c->lines[other].numbers[number];
		if (other == line || c->lines[other].device != c->lines[line].device)
			continue;
		if (same_content(v, o)) {
			o->position = v->position;
			o->verdict = v->verdict;
			o->lost = o->parked = false;
		} else {
			o->elsewhere = v->position;
		}
	}
}

static bool kept_whole(const struct edit *e, const struct sim_kept *kept)
{
	bool any = false;
	for (int i = 0; i < CELLS_MAX; i++) {
		int64_t cell = e->after.cells[i];
		if (!is_token(cell) || (!e->inserts && e->before.cells[i] == cell))
			continue;
		if (!kept->cells[cell])
			return false;
		any = true;
	}
	return any;
}

void checker_settled_before(struct checker *c, int line, int64_t number)
{
	struct verdict_seen *v = &c->lines[line].numbers[number];
	for (int other = 0; other < c->line_count; other++) {
		const struct verdict_seen *o = &c->lines[other].numbers[number];
		if (other == line || c->lines[other].device != c->lines[line].device || !o->position || !same_content(v, o))
			continue;
		v->position = o->position;
		v->verdict = o->verdict;
		v->elsewhere = 0;
		v->lost = v->parked = false;
	}
}

static bool stands_in_outbox(const struct edit *e, const struct sim_kept *kept)
{
	for (int i = 0; i < CELLS_MAX; i++)
		if (is_token(e->after.cells[i]) && (e->inserts || e->before.cells[i] != e->after.cells[i]) && kept->pending[e->after.cells[i]])
			return true;
	return false;
}

static bool may_be_kept(const struct checker *c, const struct edit *e)
{
	return !e->kept && (e->number == 0 || c->lines[e->line].numbers[e->number].elsewhere);
}

/* A row has one deletion at a time in an outbox; one that is kept now is the last. */
static void note_deletions(struct line *l, const struct sim_kept *kept, bool out[KEYS_MAX])
{
	for (int key = 0; key < KEYS_MAX; key++) {
		out[key] = kept->deletions[key] > l->kept_deletions[key];
		l->kept_deletions[key] = kept->deletions[key];
	}
}

/* Of an edit nothing may stand anywhere, since only the last value of each column in a change-set is
 * kept, or waits: then it stood in the same one as the next edit of its row. */
void checker_kept(struct checker *c, int line, const struct sim_kept *kept)
{
	bool rows[KEYS_MAX] = {false}, deletions[KEYS_MAX];
	note_deletions(&c->lines[line], kept, deletions);
	for (int i = checker_last(c, line); i >= 0; i = c->edits[i].previous) {
		struct edit *e = &c->edits[i];
		bool whole = e->deletes ? deletions[e->key] : kept_whole(e, kept);
		if (stands_in_outbox(e, kept))
			rows[e->key] = false;
		else if (may_be_kept(c, e) && (rows[e->key] || whole))
			e->kept = rows[e->key] = true;
		deletions[e->key] = deletions[e->key] && !e->deletes;
	}
}

/* Offered again under a higher number: the last one counts. */
static bool offered_later(const struct checker *c, const struct offered_cell *cell)
{
	for (int i = 0; i < c->cell_count; i++) {
		const struct offered_cell *other = &c->cells[i];
		if (other->line == cell->line && other->key == cell->key && other->column == cell->column &&
		    other->value == cell->value && other->number > cell->number)
			return true;
	}
	return false;
}

static bool is_kept(const struct offered_cell *cell, const struct sim_kept *refused)
{
	if (cell->column < 0)
		return refused->deletions[cell->key] > 0;
	if (sim_is_tally(cell->key) && cell->value != CELL_NULL)
		return checker_is_tally_kept(refused, cell->key, cell->column, cell->value);
	return !is_token(cell->value) || refused->cells[cell->value];
}

void checker_refused(struct checker *c, int line, const struct sim_kept *refused)
{
	for (int i = 0; i < c->cell_count; i++) {
		const struct offered_cell *cell = &c->cells[i];
		const struct verdict_seen *v = &c->lines[line].numbers[cell->number];
		if (cell->line != line || !v->position || v->verdict != VERDICT_REJECTED || is_kept(cell, refused) || offered_later(c, cell))
			continue;
		sim_fail(c->sim, "P5: change-set %lld of replica %d was refused, and %lld (row %d column %d) is not kept there",
			 (long long)cell->number, line, (long long)cell->value, cell->key, cell->column);
	}
}

void checker_lines_free(struct checker *c)
{
	for (int i = 0; i < c->line_count; i++) {
		free(c->lines[i].numbers);
		free(c->lines[i].left);
	}
	free(c->lives);
	free(c->proposals);
}
