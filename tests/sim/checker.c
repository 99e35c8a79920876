#include "tests/sim/checker_inner.h"

#include <stdlib.h>
#include <string.h>

static const struct sim_state nothing;

struct checker *checker_new(struct sim *sim, int devices)
{
	struct checker *c = sim_alloc(sizeof *c);
	c->sim = sim;
	c->devices = devices;
	c->edits = sim_alloc(EDITS_MAX * sizeof *c->edits);
	c->line_count = devices;
	c->hub_last = -1;
	for (int i = 0; i < devices; i++)
		c->lines[i] = (struct line){.device = i, .last = -1, .numbers = sim_alloc(NUMBERS_MAX * sizeof(struct verdict_seen))};
	c->history = sim_alloc(EDITS_MAX * sizeof(void *));
	return c;
}

void checker_free(struct checker *c)
{
	for (int i = 0; i < c->history_count; i++)
		free(c->history[i]);
	free(c->history);
	free(c->edits);
	free(c->cells);
	free(c->tallies);
	free(c->replaced);
	checker_lines_free(c);
	free(c);
}

struct checker_counts checker_counts(const struct checker *c)
{
	return c->counts;
}

static void add_scopes(struct watched *w, const bool scopes[SCOPES])
{
	if (w->count == SCOPE_SETS_MAX)
		abort();
	for (int s = 0; s < SCOPES; s++)
		w->scopes[w->count] |= scopes[s] ? 1u << s : 0;
	if (w->count == 0)
		w->may[0][w->scopes[0]] = true;
	w->count++;
}

void checker_scopes(struct checker *c, int device, const bool scopes[SCOPES])
{
	for (int line = 0; line < c->line_count; line++)
		if (c->lines[line].device == device)
			add_scopes(&c->lines[line].watched, scopes);
}

const struct sim_state *checker_state_at(const struct checker *c, int64_t position)
{
	for (int i = c->history_count - 1; i >= 0; i--)
		if (c->history[i]->position <= position)
			return &c->history[i]->state;
	return &nothing;
}

void checker_group(struct checker *c, bool timely)
{
	c->group++;
	c->timely = timely;
}

void checker_clock_known(struct checker *c, int line)
{
	c->lines[line].watched.clock_known = true;
}

void checker_clock_unknown(struct checker *c, int line)
{
	c->lines[line].watched.clock_known = false;
}

void checker_schema(struct checker *c, int line, unsigned changes)
{
	c->lines[line].changes = changes;
}

void checker_hub_clock(struct checker *c)
{
	c->timeless = true;
}

/* Edits. */

/* What makes the cell's value one that was written once; 0: nothing. */
static int64_t token_of(int64_t cell)
{
	int64_t token = cell >= LEVEL_CELL(0, 0) ? cell & 0xffff : cell >= PROJECT_CELL(0, 0) ? (cell - PROJECT_CELL(0, 0)) / 4 : cell;
	return is_token(token) ? token : 0;
}

void checker_edit(struct checker *c, int line, int key, const struct sim_row *before, const struct sim_row *after)
{
	if (c->edit_count == EDITS_MAX)
		abort();
	struct edit *e = &c->edits[c->edit_count++];
	*e = (struct edit){.line = line, .key = key, .changes = line < 0 ? 0 : c->lines[line].changes, .before = *before, .after = *after,
			   .deletes = before->exists && !after->exists, .inserts = !before->exists && after->exists,
			   .at = c->sim->now, .clock_known = line < 0 || (c->timely && c->lines[line].watched.clock_known),
			   .group = c->group, .previous = checker_last(c, line)};
	*(line < 0 ? &c->hub_last : &c->lines[line].last) = c->edit_count - 1;
	if (line >= 0 && c->lines[line].left)
		c->lines[line].left->rows[key] = *after;
	c->counts.edits++;
	char was[ROW_TEXT_MAX], is[ROW_TEXT_MAX];
	sim_log(c->sim, "edit %d of replica %d: row %d was %s, is %s", c->edit_count - 1, line, key, sim_row_text(before, was),
		sim_row_text(after, is));
	for (int i = 0; after->exists && i < sim_columns(after->table); i++)
		if (token_of(after->cells[i]) && !c->token_edit[token_of(after->cells[i])])
			c->token_edit[token_of(after->cells[i])] = c->edit_count;
}

/* `by` stands at the hub now where `was` stood, and that was right: all the same whether its author had
 * seen `was`, or won over it. */
static void note_replaced(struct checker *c, int64_t by, int64_t was)
{
	by = token_of(by);
	if (!by)
		return;
	if (c->replaced_count + 1 >= c->replaced_capacity) {
		c->replaced_capacity = c->replaced_capacity ? 2 * c->replaced_capacity : 1024;
		c->replaced = realloc(c->replaced, (size_t)c->replaced_capacity * sizeof *c->replaced);
		if (!c->replaced)
			abort();
	}
	c->replaced[++c->replaced_count] = (struct replaced){.was = was, .next = c->replaced_by[by]};
	c->replaced_by[by] = c->replaced_count;
}

/* line: whose own values are not followed at the hub; what they met there they meet again, before what builds
 * on them. -2: nobody's are. */
static bool leads_back(struct checker *c, int line, int64_t shown, int column, int64_t value)
{
	if (shown == value)
		return true;
	shown = token_of(shown);
	if (!c->rewound || !shown || !c->token_edit[shown] || c->looked_at[shown] == c->look)
		return false;
	c->looked_at[shown] = c->look;
	const struct edit *e = &c->edits[c->token_edit[shown] - 1];
	if (e->before.exists && leads_back(c, line, e->before.cells[column], column, value))
		return true;
	for (int i = line == -2 || e->line == line ? 0 : c->replaced_by[shown]; i; i = c->replaced[i].next)
		if (leads_back(c, line, c->replaced[i].was, column, value))
			return true;
	return false;
}

/* Is `value` what the row shows, or what whoever wrote that had before his eyes, or overwrote at the
 * hub, and so on? After a rewind only: the hub shows values again that the device
 * saw overwritten by others. */
static bool stands_behind(struct checker *c, int line, const struct sim_row *row, int column, int64_t value)
{
	c->look++;
	return row->exists && leads_back(c, line, row->cells[column], column, value);
}

/* Was the value on the device's screen, at this edit of the row or an
 * earlier one? */
static bool seen(struct checker *c, const struct offered_cell *by, int column, int64_t value)
{
	for (int i = by->edit; i >= 0; i = c->edits[i].previous) {
		const struct edit *e = &c->edits[i];
		if (e->key == by->key && (stands_behind(c, e->line, &e->before, column, value) ||
					  stands_behind(c, -2, &e->after, column, value)))
			return true;
	}
	return false;
}

bool checker_settled_by(const struct checker *c, int line, int64_t number, int64_t position)
{
	const struct verdict_seen *v = &c->lines[line].numbers[number];
	return number > 0 && v->position > 0 && v->position <= position;
}

/* Offers. */

static uint64_t mix(uint64_t h, uint64_t x)
{
	h ^= x + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
	return h * 0xff51afd7ed558ccdu;
}

static void keep_cell(struct checker *c, struct offered_cell cell)
{
	if (c->cell_count == c->cell_capacity) {
		c->cell_capacity = c->cell_capacity ? 2 * c->cell_capacity : 1024;
		c->cells = realloc(c->cells, (size_t)c->cell_capacity * sizeof *c->cells);
		if (!c->cells)
			abort();
	}
	c->cells[c->cell_count++] = cell;
}

int checker_last_edit(const struct checker *c, int line, int key, bool only_deletes)
{
	for (int i = checker_last(c, line); i >= 0; i = c->edits[i].previous)
		if (c->edits[i].key == key && (!only_deletes || c->edits[i].deletes))
			return i;
	return -1;
}

static int edit_that_wrote(const struct checker *c, int line, int key, int column, int64_t token)
{
	for (int i = checker_last(c, line); i >= 0; i = c->edits[i].previous) {
		const struct edit *e = &c->edits[i];
		if (e->key == key && e->after.exists && e->after.cells[column] == token &&
		    (e->inserts || e->before.cells[column] != token))
			return i;
	}
	return -1;
}

/* A token, also as a price that is refused or in a project: parts of what was refused may have nothing else left. */
static bool names_its_edit(int64_t cell)
{
	return is_token(cell) || is_token(-cell) || (cell >= PROJECT_CELL(0, FIRST_TOKEN) && cell < PROJECT_CELL(0, TOKENS_MAX));
}

/* Which edit a row of a change-set ends with: the latest whose token it holds. */
static int edit_of_row(struct checker *c, int line, int key, const struct block *b, uint32_t row)
{
	int latest = -1;
	if (b->op == ROW_DELETE)
		return checker_last_edit(c, line, key, true);
	for (uint16_t i = 0; i < b->column_count; i++) {
		int64_t v;
		if (!sim_cell(b->table, b->nums[i], &b->cells[(size_t)i * b->row_count + row], &v)) {
			sim_fail(c->sim, "replica %d pushed a value that nobody wrote", line);
			return -1;
		}
		int wrote = names_its_edit(v) ? edit_that_wrote(c, line, key, sim_cell_of(b->table, b->nums[i]), v) : -1;
		latest = wrote > latest ? wrote : latest;
		if (wrote >= 0)
			c->edits[wrote].kept = false; /* it stood in another change-set than what is kept of the row */
	}
	return latest;
}

/* Offered again, all edits of the row that were in the refused one go together. */
static void number_edits(struct checker *c, int line, int key, int latest, int64_t number)
{
	int64_t old = c->edits[latest].number;
	bool again = old > 0 && old < number && c->lines[line].numbers[old].verdict == VERDICT_REJECTED;
	for (int i = latest; i >= 0; i = c->edits[i].previous) {
		struct edit *e = &c->edits[i];
		if (e->key == key && !e->kept && (e->number == 0 || (again && e->number == old)))
			e->number = number;
	}
}

static void keep_row(struct checker *c, int line, int64_t number, const struct block *b, uint32_t row)
{
	int key = sim_key_number(&b->keys[row]);
	int edit = key < 0 ? -1 : edit_of_row(c, line, key, b, row);
	if (edit < 0) {
		sim_fail(c->sim, "replica %d pushed in %lld a row %d that it never edited so", line, (long long)number, key);
		return;
	}
	number_edits(c, line, key, edit, number);
	if (b->table == TALLY)
		checker_note_tally(c, (struct offered_row){.number = number, .line = line, .key = key, .edit = edit, .op = b->op});
	if (b->op == ROW_DELETE)
		keep_cell(c, (struct offered_cell){.number = number, .line = line, .key = key, .column = -1, .edit = edit});
	for (uint16_t i = 0; i < b->column_count; i++) {
		struct offered_cell cell = {.number = number, .line = line, .key = key, .column = sim_cell_of(b->table, b->nums[i]),
					    .edit = edit};
		if (sim_cell(b->table, b->nums[i], &b->cells[(size_t)i * b->row_count + row], &cell.value))
			keep_cell(c, cell);
	}
}

/* The same in whatever order, and under whatever schema, it says it: what is null has no column
 * sometimes. */
static uint64_t content_of(const struct change_set *set)
{
	uint64_t h = 1;
	for (uint32_t i = 0; i < set->block_count; i++) {
		const struct block *b = &set->blocks[i];
		for (uint32_t r = 0; r < b->row_count; r++) {
			uint64_t cells = 0;
			h = mix(h, (uint64_t)sim_key_number(&b->keys[r]) * 8 + b->op);
			for (uint16_t n = 0; n < b->column_count; n++) {
				int64_t v = 0;
				(void)sim_cell(b->table, b->nums[n], &b->cells[(size_t)n * b->row_count + r], &v);
				cells += v == CELL_NULL ? 0 : mix(1, (uint64_t)v * 64 + (uint64_t)sim_cell_of(b->table, b->nums[n]));
			}
			h = mix(h, cells);
		}
	}
	return h | 1;
}

/* R5: when the one that it builds on is refused and offered again in parts, it is, too. */
static bool builds_on_joined(const struct checker *c, int line, const struct change_set *set)
{
	for (uint32_t i = 0; i < set->depends_count; i++)
		if (c->lines[line].numbers[set->depends[i]].joined)
			return true;
	return false;
}

/* What another copy had settled this one keeps aside as refused (checker_refused looks); when the hub loses
 * that, the number goes out empty. */
static bool given_up(const struct checker *c, int line, const struct change_set *set)
{
	bool copied = false;
	for (int other = 0; other < c->line_count; other++)
		copied = copied || (other != line && c->lines[other].device == c->lines[line].device);
	return copied && set->block_count == 0 && c->lines[line].numbers[set->number].replayed;
}

void checker_offered(struct checker *c, int line, const struct change_set *set)
{
	if (set->number >= NUMBERS_MAX || set->part >= 4)
		abort();
	uint64_t content = content_of(set);
	struct verdict_seen *v = &c->lines[line].numbers[set->number];
	uint64_t *known = &v->content[set->part];
	if (given_up(c, line, set)) {
		*known = content;
		return;
	}
	if (*known && *known != content)
		sim_fail(c->sim, "replica %d used number %lld for two contents", line, (long long)set->number);
	if (v->noted[set->part])
		return;
	*known = content;
	v->noted[set->part] = true;
	v->joined = set->joined || builds_on_joined(c, line, set);
	for (uint32_t i = 0; i < set->block_count; i++)
		for (uint32_t r = 0; r < set->blocks[i].row_count; r++)
			keep_row(c, line, set->number, &set->blocks[i], r);
}

static void number_rows(struct checker *c, int line, const struct change_set *set)
{
	for (uint32_t i = 0; i < set->block_count; i++)
		for (uint32_t r = 0; r < set->blocks[i].row_count; r++) {
			int key = sim_key_number(&set->blocks[i].keys[r]);
			int edit = key < 0 ? -1 : edit_of_row(c, line, key, &set->blocks[i], r);
			if (edit >= 0)
				number_edits(c, line, key, edit, set->number);
		}
}

void checker_held(struct checker *c, int line, const struct change_set *set)
{
	if (set->number >= NUMBERS_MAX || set->part >= 4)
		abort();
	uint64_t *known = &c->lines[line].numbers[set->number].content[set->part];
	if (*known)
		return;
	*known = content_of(set);
	number_rows(c, line, set);
	checker_settled_before(c, line, set->number);
}

/* Commits. */

static const struct settled *verdict_in(const struct commit *t, const struct offered_cell *cell)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (t->lines[i] == cell->line && t->settled[i].number == cell->number &&
		    t->settled[i].verdict != VERDICT_REJECTED)
			return &t->settled[i];
	return NULL;
}

static bool conflict_names(const struct settled *s, int key, uint32_t table, int column, int64_t value, bool of_hub)
{
	for (uint32_t i = 0; i < s->conflict_count; i++) {
		const struct conflict *f = &s->conflicts[i];
		int64_t v;
		if (!uuid_equal(&f->key, sim_key(key)))
			continue;
		if (f->num == 0)
			return true;
		if (column >= 0 && sim_cell_of(table, f->num) == column &&
		    sim_cell(table, f->num, of_hub ? &f->hub_value : &f->device_value, &v) && v == value)
			return true;
	}
	return false;
}

/* A value that was the hub's is gone: somebody who wrote that cell (or
 * deleted the row) must have seen it, or a conflict keeps it. */
static bool loss_accounted(struct checker *c, const struct commit *t, int key, int column, int64_t value)
{
	if (c->rewound && token_of(value) && c->kept[token_of(value)])
		return true; /* it lost once already, and its device was told */
	uint32_t table = t->before->rows[key].table ? t->before->rows[key].table : t->after->rows[key].table;
	for (int i = 0; i < c->cell_count; i++) {
		const struct offered_cell *cell = &c->cells[i];
		if (cell->key != key || (cell->column != column && cell->column != -1))
			continue;
		if (cell->column == column && cell->value == value)
			continue; /* who writes it does not take it away */
		const struct settled *s = verdict_in(t, cell);
		if (s && (seen(c, cell, column, value) || conflict_names(s, key, table, column, value, true)))
			return true;
	}
	return false;
}

static bool hub_wrote(const struct checker *c, int key, const struct sim_row *after)
{
	int i = checker_last_edit(c, -1, key, false);
	return i >= 0 && memcmp(&c->edits[i].after, after, sizeof *after) == 0;
}

static bool written_here(const struct checker *c, const struct commit *t, int key, int column, int64_t value)
{
	for (int i = 0; i < c->cell_count; i++) {
		const struct offered_cell *cell = &c->cells[i];
		if (cell->key == key && cell->column == column && (column == -1 || cell->value == value) &&
		    verdict_in(t, cell))
			return true;
	}
	return false;
}

static void check_row(struct checker *c, const struct commit *t, int key)
{
	const struct sim_row *b = &t->before->rows[key], *a = &t->after->rows[key];
	if (memcmp(b, a, sizeof *a) == 0)
		return;
	if (t->count == 0) {
		if (!hub_wrote(c, key, a))
			sim_fail(c->sim, "P2: row %d changed at %lld by nobody", key, (long long)t->position);
		return; /* its edit had what was there before its eyes */
	}
	if (b->exists && !a->exists && !written_here(c, t, key, -1, 0))
		sim_fail(c->sim, "P2: row %d vanished at %lld without a deletion", key, (long long)t->position);
	for (int i = 0; i < sim_columns(a->table ? a->table : b->table); i++) {
		if (checker_has_own_judge(a->table ? a->table : b->table, i))
			continue;
		bool gone = b->exists && b->cells[i] != CELL_NULL && (!a->exists || a->cells[i] != b->cells[i]);
		bool new = a->exists && a->cells[i] != CELL_NULL && (!b->exists || a->cells[i] != b->cells[i]);
		if (new && !written_here(c, t, key, i, a->cells[i]))
			sim_fail(c->sim, "P2: row %d column %d holds %lld at %lld, of no change-set settled there", key, i,
				 (long long)a->cells[i], (long long)t->position);
		if (gone && !loss_accounted(c, t, key, i, b->cells[i]))
			sim_fail(c->sim, "P5: row %d column %d lost %lld at %lld unseen and without a conflict", key, i,
				 (long long)b->cells[i], (long long)t->position);
		else if (gone && new)
			note_replaced(c, a->cells[i], b->cells[i]);
	}
}

/* What an accepted change-set wrote stands, or is kept as a conflict, or was
 * overwritten in the same commit by somebody who saw it. */
static void check_cell(struct checker *c, const struct commit *t, const struct offered_cell *cell)
{
	const struct settled *s = verdict_in(t, cell);
	const struct sim_row *a = &t->after->rows[cell->key];
	if (!s)
		return;
	if (cell->column < 0) {
		if (a->exists && !conflict_names(s, cell->key, a->table, -1, 0, false) &&
		    t->before->rows[cell->key].exists && s->conflict_count == 0 && !written_here(c, t, cell->key, 0, a->cells[0]))
			sim_fail(c->sim, "P5: the deletion of row %d by replica %d, %lld came to nothing", cell->key,
				 cell->line, (long long)cell->number);
		return;
	}
	uint32_t table = c->edits[cell->edit].after.table;
	if (checker_has_own_judge(table, cell->column) || (a->exists && a->cells[cell->column] == cell->value) || cell->value == CELL_NULL ||
	    conflict_names(s, cell->key, table, cell->column, cell->value, false) ||
	    loss_accounted(c, t, cell->key, cell->column, cell->value))
		return;
	sim_fail(c->sim, "P5: %lld of replica %d, change-set %lld (row %d column %d) is lost at %lld", (long long)cell->value,
		 cell->line, (long long)cell->number, cell->key, cell->column, (long long)t->position);
}

static void keep_conflicts(struct checker *c, const struct settled *s)
{
	for (uint32_t i = 0; i < s->conflict_count; i++) {
		const struct conflict *f = &s->conflicts[i];
		int64_t v;
		if (f->num < 2)
			continue;
		if (sim_cell(f->table, f->num, &f->device_value, &v) && token_of(v))
			c->kept[token_of(v)] = true;
		if (sim_cell(f->table, f->num, &f->hub_value, &v) && token_of(v))
			c->kept[token_of(v)] = true;
	}
}

static void keep_verdicts(struct checker *c, const struct commit *t)
{
	for (uint32_t i = 0; i < t->count; i++) {
		const struct settled *s = &t->settled[i];
		struct verdict_seen *v = &c->lines[t->lines[i]].numbers[s->number];
		if (v->position)
			sim_fail(c->sim, "P2: change-set %lld of replica %d is settled at %lld and again at %lld",
				 (long long)s->number, t->lines[i], (long long)v->position, (long long)t->position);
		if (v->elsewhere)
			sim_fail(c->sim, "P2: change-set %lld of replica %d is settled at %lld, and that of another copy was at %lld",
				 (long long)s->number, t->lines[i], (long long)t->position, (long long)v->elsewhere);
		if (!v->content[0])
			sim_fail(c->sim, "P2: change-set %lld of replica %d is settled but was never sent",
				 (long long)s->number, t->lines[i]);
		v->position = t->position;
		v->lost = v->parked = false;
		v->verdict = s->verdict;
		checker_settled_together(c, t->lines[i], s->number);
		keep_conflicts(c, s);
		c->counts.settled++;
		c->counts.rejected += s->verdict == VERDICT_REJECTED;
		c->counts.conflicts += (int)s->conflict_count;
	}
}

/* R6: whatever builds on an earlier change-set of its device comes after it. A part of a refused one that
 * is offered again has a higher number than what was written later. */
static void check_order(struct checker *c, const struct commit *t, const struct offered_cell *cell)
{
	for (int i = 0; i < c->cell_count; i++) {
		const struct offered_cell *other = &c->cells[i];
		const struct verdict_seen *v = &c->lines[cell->line].numbers[other->number];
		bool in_vain = v->lost && v->verdict == VERDICT_REJECTED; /* refused in a lost history: it did nothing */
		if (other->line == cell->line && other->key == cell->key && other->number < cell->number && other->edit < cell->edit && !v->elsewhere && !in_vain &&
		    !checker_settled_by(c, other->line, other->number, t->position))
			sim_fail(c->sim, "causality: change-set %lld of replica %d is settled at %lld before %lld, on which it builds",
				 (long long)cell->number, cell->line, (long long)t->position, (long long)other->number);
	}
}

/* P10: of two concurrent edits of a column whose authors knew how wrong their clocks
 * were, the truly later one stands. A deletion wins over edits of whatever time. */
static void check_winner(struct checker *c, const struct settled *s, const struct conflict *f)
{
	int64_t mine, theirs;
	if (c->timeless || f->kind != CONFLICT_UPDATE_UPDATE || f->num < 2 || sim_policy(f->table, sim_cell_of(f->table, f->num)) != POLICY_LWW ||
	    f->left_out || !sim_cell(f->table, f->num, &f->device_value, &mine) ||
	    !sim_cell(f->table, f->num, &f->hub_value, &theirs) || !is_token(mine) || !is_token(theirs) ||
	    !c->token_edit[mine] || !c->token_edit[theirs])
		return;
	const struct edit *a = &c->edits[c->token_edit[mine] - 1], *b = &c->edits[c->token_edit[theirs] - 1];
	int64_t later = a->at - b->at;
	if (!a->clock_known || !b->clock_known || (later < CLOCK_ERROR_US && later > -CLOCK_ERROR_US))
		return;
	c->counts.clocks_compared++;
	if (f->device_won != (later > 0))
		sim_fail(c->sim, "P10: of %lld and %lld the one that is %.0f s older stands (change-set %lld of replica %d)",
			 (long long)mine, (long long)theirs, (double)(later > 0 ? later : -later) / SIM_S,
			 (long long)s->number, a->line);
}

static void check_verdicts(struct checker *c, const struct commit *t)
{
	for (int i = 0; i < c->cell_count; i++) {
		if (!verdict_in(t, &c->cells[i]))
			continue;
		check_cell(c, t, &c->cells[i]);
		check_order(c, t, &c->cells[i]);
	}
	for (uint32_t i = 0; i < t->count; i++)
		for (uint32_t f = 0; f < t->settled[i].conflict_count; f++)
			check_winner(c, &t->settled[i], &t->settled[i].conflicts[f]);
}

void checker_commit(struct checker *c, int64_t position, const struct sim_state *after, const int *lines,
		    const struct settled *settled, uint32_t settled_count)
{
	struct commit t = {.before = checker_state_at(c, INT64_MAX), .after = after, .lines = lines, .settled = settled,
			   .count = settled_count, .position = position};
	if (c->history_count && c->history[c->history_count - 1]->position >= position)
		sim_fail(c->sim, "position %lld is not above the last", (long long)position);
	keep_verdicts(c, &t);
	for (int key = 0; key < KEYS_MAX; key++)
		check_row(c, &t, key);
	check_verdicts(c, &t);
	if (settled_count > 0)
		checker_policies(c, &t);
	struct past *p = sim_alloc(sizeof *p);
	p->position = position;
	p->state = *after;
	if (c->history_count == EDITS_MAX)
		abort();
	c->history[c->history_count++] = p;
	c->counts.commits++;
}

void checker_acked(struct checker *c, int line, const struct settled *s)
{
	struct verdict_seen *v = s->number < NUMBERS_MAX ? &c->lines[line].numbers[s->number] : NULL;
	if (v && s->verdict == VERDICT_PARKED) {
		v->parked = v->position == 0; /* it may have been settled since */
		return;
	}
	if (!v || !v->position)
		sim_fail(c->sim, "change-set %lld of replica %d is acknowledged but not committed", (long long)s->number, line);
	else if (v->verdict != s->verdict || v->position != s->position)
		sim_fail(c->sim, "change-set %lld of replica %d is acknowledged as %d at %lld but settled as %d at %lld",
			 (long long)s->number, line, (int)s->verdict, (long long)s->position, (int)v->verdict,
			 (long long)v->position);
}

void checker_rewind(struct checker *c, int64_t position)
{
	c->rewound = true;
	while (c->history_count && c->history[c->history_count - 1]->position > position)
		free(c->history[--c->history_count]);
	for (int line = 0; line < c->line_count; line++)
		for (int64_t n = 0; n < NUMBERS_MAX; n++) {
			struct verdict_seen *v = &c->lines[line].numbers[n];
			if (v->elsewhere > position)
				v->elsewhere = 0;
			if (v->position <= position)
				continue;
			v->position = 0;
			v->lost = v->replayed = true;
		}
}
