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
	static const uint32_t likely[] = {UNIT, UNIT, UNIT, NOTE, NOTE, CODE, TAG};
	const struct sim_profile *p = w->profile;
	uint32_t table = likely[sim_range(&w->sim, 0, changes & CHANGE_TAG ? 6 : 5)];
	int what = (int)sim_range(&w->sim, 0, 99);
	*key = pick_row(w, s, table);
	if (*key < 0 || (what < p->insert_percent && w->next_key < p->keys)) {
		if (w->next_key == p->keys || ((table == CODE || table == TAG) && !scopes[0]))
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

