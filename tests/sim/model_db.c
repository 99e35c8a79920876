#include "tests/sim/model_inner.h"

#include <stdlib.h>
#include <string.h>

const struct uuid sim_tenant = {.b = {0x7e, 1}};

struct model_db *model_db_new(struct sim *sim, struct checker *checker, int devices)
{
	struct model_db *db = sim_alloc(sizeof *db);
	db->sim = sim;
	db->checker = checker;
	db->devices = devices;
	for (int i = 0; i < DEVICES_MAX; i++)
		db->device[i].lives = (struct lives){.adopt_mark = NO_MARK, .refused_mark = NO_MARK};
	db->head = sim_alloc(sizeof *db->head);
	return db;
}

static void drop_commit(struct model_db *db)
{
	struct past_commit *p = db->head->previous;
	free(db->head);
	db->head = p;
}

static void drop_verdict(struct model_db *db)
{
	struct verdict_row *v = db->verdicts->next;
	free((void *)(uintptr_t)db->verdicts->settled.conflicts);
	free(db->verdicts);
	db->verdicts = v;
}

static void drop_staged(struct model_db *db)
{
	for (int i = 0; i < STAGED_MAX; i++)
		if (db->staged[i].number) {
			buffer_deinit(&db->staged[i].body);
			db->staged[i].number = 0;
		}
}

void model_db_free(struct model_db *db)
{
	while (db->head)
		drop_commit(db);
	while (db->verdicts)
		drop_verdict(db);
	drop_staged(db);
	free(db->backup);
	free(db);
}

void model_db_slow_fills(struct model_db *db, int64_t page_us)
{
	db->fill_us = page_us;
}

void model_db_faults(struct model_db *db, const struct model_faults *faults)
{
	db->faults = *faults;
}

void model_db_device(struct model_db *db, int device, const bool scopes[SCOPES])
{
	memcpy(db->device[device].scopes, scopes, SCOPES * sizeof(bool));
	db->device[device].rights = ++db->rights;
	checker_scopes(db->checker, device, scopes);
}

void model_db_release(struct model_db *db, int device)
{
	struct lives *l = &db->device[device].lives;
	if (l->refused_mark == NO_MARK)
		return;
	l->mark = l->adopt_mark = l->refused_mark;
	l->refused_mark = NO_MARK;
	sim_log(db->sim, "the copy of device %d that was turned away last is released", device);
}

void model_db_fingerprint(int device, uint8_t out[32])
{
	memset(out, 0xf0, 32);
	out[0] = (uint8_t)(device >> 8);
	out[1] = (uint8_t)device;
}

const struct sim_state *model_db_state(const struct model_db *db)
{
	return &db->now.state;
}

int64_t model_db_head(const struct model_db *db)
{
	return db->head->position;
}

void model_db_lock(struct model_db *db, int key, int64_t until)
{
	if (until > db->locked_until[key])
		db->locked_until[key] = until;
}

void model_db_locked(const struct model_db *db, bool out[KEYS_MAX])
{
	for (int key = 0; key < KEYS_MAX; key++)
		out[key] = db->locked_until[key] > db->sim->now;
}

void model_db_backup(struct model_db *db)
{
	if (!db->backup)
		db->backup = sim_alloc(sizeof *db->backup);
	db->backup->position = db->head->position;
	db->backup->database = db->now;
	for (int i = 0; i < DEVICES_MAX; i++)
		db->backup->lives[i] = db->device[i].lives;
	sim_log(db->sim, "a backup at %lld", (long long)db->head->position);
}

int64_t model_db_restore(struct model_db *db)
{
	if (!db->backup)
		return -1;
	int64_t position = db->backup->position;
	db->now = db->backup->database;
	for (int i = 0; i < DEVICES_MAX; i++)
		db->device[i].lives = db->backup->lives[i];
	while (db->head->position > position)
		drop_commit(db);
	while (!db->faults.hide_loss && db->verdicts && db->verdicts->settled.position > position)
		drop_verdict(db);
	drop_staged(db);
	if (db->pruned > position)
		db->pruned = position;
	db->epoch++;
	db->restored_at = SIM_EPOCH_US + db->sim->now;
	sim_log(db->sim, "the database is back at %lld", (long long)position);
	return position;
}

void model_db_prune(struct model_db *db)
{
	db->pruned = db->head->position;
}

/* The constraints of the tenant's model; what a deferred check at commit says. */
enum ferry_error model_constraints(const struct sim_state *s)
{
	for (int key = 0; key < KEYS_MAX; key++) {
		const struct sim_row *r = &s->rows[key];
		if (!r->exists)
			continue;
		if (r->table == UNIT && POISON(r->cells[2]))
			return FERRY_CONSTRAINT;
		if (r->table == NOTE && !s->rows[r->cells[0]].exists)
			return FERRY_FOREIGN_KEY;
	}
	return FERRY_OK;
}

void model_commit_state(struct model_db *db, const struct database *next, int64_t position)
{
	struct past_commit *p = sim_alloc(sizeof *p);
	db->now = *next;
	*p = (struct past_commit){.previous = db->head, .position = position, .changes = next->changes,
				  .mark = (int64_t)(sim_random(db->sim) >> 2), .state = next->state};
	db->head = p;
}

/* A restored database goes on at its time, so that no position belongs to two histories. */
int64_t model_next_position(struct model_db *db)
{
	int64_t last = db->head->position > db->restored_at ? db->head->position : db->restored_at;

	return last + 1 + (sim_chance(db->sim, 100) ? sim_range(db->sim, 1, 5) : 0);
}

/* `from` is the row as it is, `to` as it shall be. */
void model_write_row(struct database *d, int key, const struct sim_row *to, const struct version *v)
{
	struct sim_row *row = &d->state.rows[key];
	struct row_meta *meta = &d->meta[key];
	bool begins = to->exists && !row->exists;
	for (int i = 0; to->exists && i < CELLS_MAX; i++)
		if (begins || to->cells[i] != row->cells[i])
			meta->columns[i] = *v;
	if (begins) {
		meta->born = v->position;
		meta->born_old_position = v->old_position;
		meta->born_last_position = v->last_position;
		meta->born_author = v->author;
		meta->born_number = v->number;
	}
	meta->known = true;
	meta->row = *v;
	*row = *to;
}

bool model_db_write(struct model_db *db, int key, const struct sim_row *row)
{
	struct database *next = sim_dup(&db->now, sizeof db->now);
	struct version v = {.position = model_next_position(db), .at = SIM_EPOCH_US + db->sim->now};
	struct sim_row before = db->now.state.rows[key], after = *row;
	if (!after.exists)
		after = (struct sim_row){.table = before.table};
	model_write_row(next, key, &after, &v);
	bool good = db->locked_until[key] <= db->sim->now && model_constraints(&next->state) == FERRY_OK && memcmp(&before, &after, sizeof after) != 0;
	if (good) {
		model_commit_state(db, next, v.position);
		checker_edit(db->checker, -1, key, &before, &after);
		checker_commit(db->checker, v.position, &db->now.state, NULL, NULL, 0);
		sim_log(db->sim, "sql writes row %d: position %lld", key, (long long)v.position);
	}
	free(next);
	return good;
}

const struct past_commit *model_commit_at(const struct model_db *db, int64_t position)
{
	const struct past_commit *p = db->head;
	while (p->previous && p->position > position)
		p = p->previous;
	return p;
}

unsigned model_db_changes(const struct model_db *db, int64_t position)
{
	return position < 0 ? db->now.changes : model_commit_at(db, position)->changes;
}

/* What stands in a column that is dropped goes with it. */
static void drop_cells(struct model_db *db, struct database *next, const struct version *v)
{
	for (int key = 0; key < KEYS_MAX; key++) {
		struct sim_row before = next->state.rows[key], after = before;
		sim_row_under(&after, next->changes);
		if (memcmp(&before, &after, sizeof after) == 0)
			continue;
		model_write_row(next, key, &after, v);
		checker_edit(db->checker, -1, key, &before, &after);
	}
}

bool model_db_migrate(struct model_db *db, unsigned change)
{
	int bit = 0;
	if ((db->now.changes & change) || (change == CHANGE_STATE && (db->now.changes & CHANGE_NO_STATUS)))
		return false;
	while (1u << bit != change)
		bit++;
	struct database *next = sim_dup(&db->now, sizeof db->now);
	struct version v = {.position = model_next_position(db), .at = SIM_EPOCH_US + db->sim->now};
	next->changes |= change;
	db->steps[bit] = sim_schema_step(next->changes);
	drop_cells(db, next, &v);
	model_commit_state(db, next, v.position);
	checker_commit(db->checker, v.position, &db->now.state, NULL, NULL, 0);
	sim_log(db->sim, "the schema changes by %u: step %lld, position %lld", change, (long long)db->steps[bit], (long long)v.position);
	free(next);
	return true;
}

uint32_t model_past(const struct model_db *db, struct past_column *out)
{
	static const struct past_column became[] = {
		{.table = UNIT, .num = 3, .name = "name", .kind = PAST_NO_KIND, .to = 7},
		{.table = UNIT, .num = 4, .name = "price", .kind = KIND_INT},
		{.table = UNIT, .num = 5, .name = "status", .kind = PAST_NO_KIND},
	};
	static const int bits[] = {3, 4, 5}; /* TITLE, PRICE, NO_STATUS */
	uint32_t n = 0;
	for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
		if (!(db->now.changes & 1u << bits[i]))
			continue;
		out[n] = became[i];
		out[n].step = db->steps[bits[i]];
		out[n].discarded = (bits[i] == 5 && db->faults.drop_untranslated) || (bits[i] == 3 && db->faults.forget_renames);
		out[n].to = db->faults.forget_renames ? 0 : out[n].to;
		n++;
	}
	return n;
}

const struct verdict_row *model_verdict_of(const struct model_db *db, int device, int64_t number)
{
	for (const struct verdict_row *v = db->verdicts; v; v = v->next)
		if (v->device == device && v->settled.number == number)
			return v;
	return NULL;
}

bool model_db_fails(struct model_db *db)
{
	return !db->sim->calm && sim_chance(db->sim, 5);
}

