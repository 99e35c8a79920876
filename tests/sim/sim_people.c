#include "tests/sim/sim_inner.h"

#include <stdlib.h>
#include <string.h>

static int pick_row(struct world *w, const struct sim_state *s, uint32_t table)
{
	int start = (int)sim_range(&w->sim, 0, KEYS_MAX - 1);
	for (int i = 0; i < KEYS_MAX; i++) {
		int key = (start + i) % KEYS_MAX;
		if (s->rows[key].exists && s->rows[key].table == table)
			return key;
	}
	return -1;
}

static int64_t token(struct world *w)
{
	if (w->next_token >= TOKENS_MAX)
		abort(); /* a run this long needs a larger table */
	return w->next_token++;
}

static int pick_project(struct world *w, const bool *scopes)
{
	for (;;) {
		int p = (int)sim_range(&w->sim, 1, PROJECTS);
		if (scopes[p])
			return p;
	}
}

/* What is drawn for tallies comes from a generator of its own. */

static int pick_tally(struct world *w, const struct sim_state *s)
{
	int start = (int)sim_range(&w->tally_dice, 0, TALLIES_MAX - 1);
	for (int i = 0; i < TALLIES_MAX; i++) {
		int key = KEYS_MAX - 1 - (start + i) % TALLIES_MAX;
		if (s->rows[key].exists)
			return key;
	}
	return -1;
}

static int64_t marks(struct world *w, int count)
{
	int64_t bits = 0;
	for (int i = 0; i < count; i++)
		bits |= INT64_C(1) << sim_range(&w->tally_dice, 0, MARKS - 1);
	return bits;
}

static void new_tally(struct world *w, const bool *scopes, struct sim_row *row)
{
	struct sim *dice = &w->tally_dice;
	int project = (int)sim_range(dice, 1, PROJECTS);
	while (!scopes[project])
		project = project % PROJECTS + 1;
	*row = (struct sim_row){.exists = true, .table = TALLY};
	row->cells[TALLY_PROJECT] = PROJECT_CELL(project, token(w));
	row->cells[TALLY_WORD] = token(w);
	row->cells[TALLY_COUNT] = COUNT_CELL(sim_range(dice, 0, 100));
	row->cells[TALLY_TOP] = LEVEL_CELL(1 << 16, token(w));
	row->cells[TALLY_LOW] = LEVEL_CELL(1 << 16, token(w));
	row->cells[TALLY_MARKS] = sim_chance(dice, 300) ? CELL_NULL : MARKS_CELL(marks(w, 3));
	row->cells[TALLY_STAGE] = sim_range(dice, 0, STAGES - 1);
	row->cells[TALLY_REMARK] = sim_chance(dice, 500) ? CELL_NULL : token(w);
}

/* Mostly a step that the guard allows. */
static int64_t next_stage(struct sim *dice, int64_t stage)
{
	if (sim_chance(dice, 150))
		return sim_range(dice, 0, STAGES - 1);
	return stage == 1 && sim_chance(dice, 400) ? 0 : (stage + 1) % STAGES;
}

/* Who sets an extreme goes beyond what he sees, so that the extreme of all is to stand. */
static void change_tally(struct world *w, struct sim_row *row)
{
	struct sim *dice = &w->tally_dice;
	int64_t *cells = row->cells;
	cells[TALLY_WORD] = token(w);
	if (sim_chance(dice, 600))
		cells[TALLY_COUNT] += sim_range(dice, -20, 20);
	if (sim_chance(dice, 250))
		cells[TALLY_TOP] = LEVEL_CELL(LEVEL(cells[TALLY_TOP]) + sim_range(dice, 1, 9), token(w));
	if (sim_chance(dice, 250))
		cells[TALLY_LOW] = LEVEL_CELL(LEVEL(cells[TALLY_LOW]) - sim_range(dice, 1, 9), token(w));
	if (sim_chance(dice, 400))
		cells[TALLY_MARKS] = MARKS_CELL((sim_marks(cells[TALLY_MARKS]) & ~marks(w, 2)) | marks(w, 2));
	if (sim_chance(dice, 200))
		cells[TALLY_STAGE] = next_stage(dice, cells[TALLY_STAGE]);
	if (sim_chance(dice, 150))
		cells[TALLY_REMARK] = token(w);
	if (sim_chance(dice, 40))
		cells[TALLY_PROJECT] = PROJECT_CELL(sim_range(dice, 1, PROJECTS), token(w));
}

static bool think_of_tally(struct world *w, const struct sim_state *s, const bool *scopes, int *key, struct sim_row *row)
{
	struct sim *dice = &w->tally_dice;
	*key = pick_tally(w, s);
	if (w->tallies < TALLIES_MAX && (*key < 0 || sim_chance(dice, 80))) {
		*key = KEYS_MAX - 1 - w->tallies++;
		new_tally(w, scopes, row);
		return true;
	}
	if (*key < 0)
		return false;
	*row = s->rows[*key];
	if (sim_chance(dice, 20))
		*row = (struct sim_row){.table = TALLY};
	else
		change_tally(w, row);
	return true;
}

static bool new_row(struct world *w, const struct sim_state *s, uint32_t table, const bool *scopes, unsigned changes, struct sim_row *row)
{
	*row = (struct sim_row){.exists = true, .table = table};
	if (table == UNIT) {
		row->cells[0] = PROJECT_CELL(pick_project(w, scopes), token(w));
		row->cells[1] = token(w);
		row->cells[2] = token(w);
		row->cells[3] = sim_chance(&w->sim, 500) ? CELL_NULL : token(w);
		row->cells[4] = sim_column(changes, UNIT, 4) ? token(w) : CELL_NULL;
	} else if (table == NOTE) {
		int unit = pick_row(w, s, UNIT);
		row->cells[0] = unit;
		row->cells[1] = token(w);
		return unit >= 0;
	} else {
		row->cells[0] = token(w);
	}
	sim_row_under(row, changes);
	return true;
}

static bool change_row(struct world *w, unsigned changes, struct sim_row *row)
{
	if (row->table == UNIT) {
		int cell = (int)sim_range(&w->sim, 1, changes ? 4 : 3);
		row->cells[sim_column(changes, UNIT, cell) ? cell : 1] = token(w);
		if (sim_chance(&w->sim, 60)) {
			row->cells[0] = PROJECT_CELL(sim_range(&w->sim, 1, PROJECTS), token(w));
			row->cells[1] = token(w);
		} else if (sim_chance(&w->sim, 30)) {
			row->cells[2] = -token(w);
			row->cells[1] = token(w);
		}
	} else if (row->table == NOTE) {
		row->cells[1] = token(w);
	} else {
		row->cells[0] = token(w);
	}
	return true;
}

/* One statement on what somebody sees. False: nothing came to mind. */
static bool think(struct world *w, const struct sim_state *s, const bool *scopes, unsigned changes, int *key, struct sim_row *row)
{
	if (sim_chance(&w->tally_dice, 250))
		return think_of_tally(w, s, scopes, key, row);
	static const uint32_t likely[] = {UNIT, UNIT, UNIT, NOTE, NOTE, CODE, TAG};
	const struct sim_profile *p = w->profile;
	int keys = p->keys < KEYS_MAX - TALLIES_MAX ? p->keys : KEYS_MAX - TALLIES_MAX;
	uint32_t table = likely[sim_range(&w->sim, 0, changes & CHANGE_TAG ? 6 : 5)];
	int what = (int)sim_range(&w->sim, 0, 99);
	*key = pick_row(w, s, table);
	if (*key < 0 || (what < p->insert_percent && w->next_key < keys)) {
		if (w->next_key == keys || ((table == CODE || table == TAG) && !scopes[0]))
			return false;
		*key = w->next_key;
		if (!new_row(w, s, table, scopes, changes, row))
			return false;
		w->next_key++;
		return true;
	}
	*row = s->rows[*key];
	if (what >= p->insert_percent && what < p->insert_percent + p->delete_percent) {
		*row = (struct sim_row){.table = table};
		return true;
	}
	return change_row(w, changes, row);
}

void people_edit_on_device(struct world *w, struct agent *a)
{
	struct sim_state *s = sim_alloc(sizeof *s);
	bool poke = a->running && !sim_chance(&w->sim, 20); /* a wake-up that was missed costs a heartbeat */
	a->uncut = a->uncut || !poke;
	checker_group(w->checker, !a->uncut);
	int statements = sim_chance(&w->sim, 200) ? (int)sim_range(&w->sim, 2, 6) : 1;
	for (int i = 0; i < statements; i++) {
		struct sim_row row;
		int key;
		memset(&row, 0, sizeof row);
		a->replica.visible(a->replica.store, s);
		int changes = a->replica.changes(a->replica.store);
		checker_schema(w->checker, a->line, changes < 0 ? 0 : (unsigned)changes);
		if (changes < 0 || !think(w, s, a->scopes, (unsigned)changes, &key, &row) || !a->replica.edit(a->replica.store, key, &row))
			continue;
		struct sim_row before = s->rows[key];
		checker_edit(w->checker, a->line, key, &before, &row);
		sim_log(&w->sim, "agent %d edits row %d: %s %lld %lld %lld %lld", a->line, key,
			row.exists ? "set" : "delete", (long long)row.cells[0], (long long)row.cells[1],
			(long long)row.cells[2], (long long)row.cells[3]);
	}
	free(s);
	if (poke)
		agent_core_poke(a->core);
}

void people_edit_at_hub(struct world *w)
{
	static const bool all[SCOPES] = {true, true, true, true};
	struct sim_row row;
	int key;
	memset(&row, 0, sizeof row);
	if (think(w, model_db_state(w->db), all, model_db_changes(w->db, -1), &key, &row))
		(void)model_db_write(w->db, key, &row);
}

