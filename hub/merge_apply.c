/* The rules of the merge: the truth table of merge.h, row by row. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/merge.h"
#include "hub/merge_internal.h"
#include "hub/merge_policy.h"

/* One row of a block, seen by its author. */
struct edit {
	struct merge *m;
	const struct uuid *author;
	const struct change_set *set;
	int64_t now;
	const struct block *block;
	const struct schema_table *table;
	uint32_t table_index;
	uint8_t columns[FERRY_COLUMNS_MAX]; /* index of each of the block's columns */
	uint32_t r;                         /* row in the block */
	struct row *row;
	int64_t at;
	const struct row_base *bases; /* this row's */
	uint32_t base_count;
	uint32_t stamp; /* NO_STAMP: not made yet */
	uint32_t rows_changed;
	bool lost; /* something of the device does not stand */
	enum ferry_error refused; /* a policy's refusal, FERRY_OK: none */
	struct uuid holder; /* whose value refused it */
	struct ferry_why why;
};

static const struct value *cell_of(const struct edit *e, uint16_t i)
{
	return &e->block->cells[(size_t)i * e->block->row_count + e->r];
}

/* R1: the cell's own base, else the row's, else the change-set's. Nothing can
 * have been seen that this batch writes, whatever the device says. */
static int64_t base_of(const struct edit *e, uint16_t num)
{
	int64_t base = e->set->base_position;
	int64_t stated = base;

	for (uint32_t i = 0; i < e->base_count; i++) {
		if (e->bases[i].num == num || e->bases[i].num == 0)
			stated = e->bases[i].position;
		if (e->bases[i].num == num)
			break;
	}
	base = stated < base ? stated : base;
	return base < MERGE_PENDING ? base : MERGE_PENDING - 1;
}

/* Had a replay that stood at this position been seen? Not where another history lay then. */
static bool was_there(const struct change_set *set, int64_t position, int64_t base)
{
	for (uint32_t i = 0; i + 1 < set->gap_count; i += 2) {
		if (position > set->gaps[i] && position < set->gaps[i + 1])
			return false;
	}
	return position > 0 && position <= base;
}

/* R17, R18: of a lost history only what came back as a replay was seen. */
static bool seen_there(const struct edit *e, const struct version *v, int64_t base)
{
	int64_t lost = e->set->lost_from;

	if (lost == 0 || base < lost)
		return v->position <= base;
	return v->position < lost || was_there(e->set, v->old_position, base) || was_there(e->set, v->last_position, base);
}

static bool by_device(const struct edit *e, const struct version *v)
{
	return v->number <= e->set->number && !uuid_is_zero(&v->author) && uuid_equal(&v->author, e->author);
}

/* R17: a replay that had been settled when the edit was made, and lost: its replica showed it no more then.
 * An edit of the lost history is older than that. */
static bool lost_by_then(const struct edit *e, const struct version *v)
{
	const struct change_set *s = e->set;
	bool of_lost = s->old_position > 0 || (s->lost_from > 0 && s->base_position >= s->lost_from);

	return !of_lost && v->old_position > 0 && v->old_position <= s->base_position;
}

/* R2. What another copy of the device's replica may have written is not its own. */
static bool is_own(const struct edit *e, const struct version *v)
{
	return by_device(e, v) && v->number > e->m->apart && !lost_by_then(e, v);
}

static bool seen(const struct edit *e, const struct version *v, int64_t base)
{
	return seen_there(e, v, base) || is_own(e, v);
}

static struct version version_of_stamp(const struct merge *m, uint32_t stamp)
{
	const struct merge_stamp *s = &m->stamps[stamp];

	return (struct version){.position = MERGE_PENDING, .at = s->at, .author = s->author, .number = s->number,
				.old_position = s->old_position, .last_position = s->last_position};
}

static struct version column_version(const struct merge *m, const struct row *row, int c)
{
	if (row->state.by_hub & COLUMN_BIT(c))
		return (struct version){.position = MERGE_PENDING, .at = m->stamps[row->state.stamp_of[c]].at};
	if (row->state.stamped & COLUMN_BIT(c))
		return version_of_stamp(m, row->state.stamp_of[c]);
	if (row->state.born_stamp != NO_STAMP)
		return version_of_stamp(m, row->state.born_stamp);
	return row->column_versions == NULL ? row->version : row->column_versions[c];
}

static struct version deletion_version(const struct merge *m, const struct row *row)
{
	return row->state.gone_stamp != NO_STAMP ? version_of_stamp(m, row->state.gone_stamp) : row->version;
}

static struct version birth_version(const struct merge *m, const struct row *row)
{
	if (row->state.born_stamp != NO_STAMP)
		return version_of_stamp(m, row->state.born_stamp);
	return (struct version){.position = row->born, .author = row->born_author, .number = row->born_number,
				.old_position = row->born_old_position, .last_position = row->born_last_position};
}

/* A life that a copy of this replica began is this one's, too: a key is made once, so whoever edits
 * such a row had it from the file that both came from. What the copy wrote to its cells stays unseen. */
static bool begun(const struct edit *e, const struct version *v, int64_t base)
{
	return seen_there(e, v, base) || by_device(e, v);
}

/* R4. Where the store could not name who began a life, the version that is
 * left from its beginning does. */
static bool life_seen(const struct edit *e, int64_t base)
{
	const struct row *row = e->row;
	struct version birth = birth_version(e->m, row);

	if (begun(e, &birth, base))
		return true;
	if (row->state.born_stamp != NO_STAMP || !uuid_is_zero(&row->born_author))
		return false;
	if (row->version.position == row->born && begun(e, &row->version, base))
		return true;
	for (int c = 0; row->column_versions != NULL && c < e->table->column_count; c++) {
		if (row->column_versions[c].position == row->born && begun(e, &row->column_versions[c], base))
			return true;
	}
	return false;
}

/* The later (at, author) stands. */
static bool device_wins(const struct edit *e, const struct version *v)
{
	int order;

	if (e->at != v->at)
		return e->at > v->at;
	order = memcmp(e->author->b, v->author.b, sizeof(v->author.b));
	return order != 0 ? order > 0 : e->set->number > v->number;
}

static enum ferry_error keep_conflict(struct edit *e, uint16_t num, enum conflict_kind kind, bool device_won,
				      const struct value *device_value, const struct value *hub_value,
				      const struct uuid *other)
{
	struct merge *m = e->m;

	if (!vector_grow((void **)&m->conflicts, m->conflict_count, &m->conflict_capacity, sizeof(struct conflict)))
		return FERRY_NO_MEMORY;
	m->conflicts[m->conflict_count++] = (struct conflict){
		.table = e->block->table,
		.key = e->row->key,
		.num = num,
		.kind = kind,
		.device_won = device_won,
		.device_value = device_value == NULL ? value_null() : *device_value,
		.hub_value = hub_value == NULL ? value_null() : *hub_value,
		.other = *other,
	};
	if (!device_won)
		e->lost = true;
	return FERRY_OK;
}

static enum ferry_error keep_ask(struct edit *e, uint16_t num, const struct value *value)
{
	struct merge *m = e->m;

	if (!vector_grow((void **)&m->asks, m->ask_count, &m->ask_capacity, sizeof(struct merge_ask)))
		return FERRY_NO_MEMORY;
	m->asks[m->ask_count++] = (struct merge_ask){.table = e->block->table, .key = e->row->key, .num = num,
						     .value = *value, .at = e->at};
	e->lost = true; /* the hub's stands meanwhile */
	return FERRY_OK;
}

static enum ferry_error arena_error(const struct merge *m)
{
	return m->arena.full ? FERRY_LIMIT : FERRY_NO_MEMORY;
}

static enum ferry_error edit_stamp(struct edit *e)
{
	if (e->stamp != NO_STAMP)
		return FERRY_OK;
	/* Stamps count towards the limit though they are not in the arena. */
	if ((size_t)e->m->stamp_count * sizeof(struct merge_stamp) > e->m->limit_bytes)
		return FERRY_LIMIT;
	if (!merge_stamp_find(e->m, e->author, e->set->number, e->at, &e->stamp))
		return FERRY_NO_MEMORY;
	e->m->stamps[e->stamp].old_position = e->set->old_position;
	e->m->stamps[e->stamp].last_position = e->set->last_position;
	return FERRY_OK;
}

static enum ferry_error note_touched(struct merge *m, struct row *row)
{
	if (row->touched)
		return FERRY_OK;
	if (!vector_grow((void **)&m->touched, m->touched_count, &m->touched_capacity, sizeof(struct row *)))
		return FERRY_NO_MEMORY;
	m->touched[m->touched_count++] = row;
	row->touched = true;
	return FERRY_OK;
}

static enum ferry_error copy_arrays(struct merge *m, struct row *row, uint16_t columns)
{
	struct value *cells = arena_array(&m->arena, columns + 1u, sizeof(struct value));
	uint32_t *stamp_of = arena_array(&m->arena, columns + 1u, sizeof(uint32_t));

	if (cells == NULL || stamp_of == NULL)
		return arena_error(m);
	if (row->state.cells != NULL)
		memcpy(cells, row->state.cells, columns * sizeof(*cells));
	if (row->state.stamp_of != NULL)
		memcpy(stamp_of, row->state.stamp_of, columns * sizeof(*stamp_of));
	row->state.cells = row->state.own_cells = cells;
	row->state.stamp_of = row->state.own_stamps = stamp_of;
	return FERRY_OK;
}

/* Makes the row this change-set's own to change; the journal keeps how it was. */
static enum ferry_error touch(struct edit *e)
{
	struct merge *m = e->m;
	struct row *row = e->row;
	enum ferry_error error = edit_stamp(e);

	if (error != FERRY_OK || row->serial == m->serial)
		return error;
	error = note_touched(m, row);
	if (error != FERRY_OK)
		return error;
	merge_note_write(m, e->table_index, e->author, e->block->op == ROW_DELETE);
	if (!vector_grow((void **)&m->journal, m->journal_count, &m->journal_capacity, sizeof(struct undo)))
		return FERRY_NO_MEMORY;
	m->journal[m->journal_count++] = (struct undo){.row = row, .state = row->state, .serial = row->serial};
	row->serial = m->serial;
	e->rows_changed++;
	return copy_arrays(m, row, e->table->column_count);
}

static enum ferry_error set_cell(struct edit *e, int c, const struct value *v)
{
	struct row_state *state = &e->row->state;
	enum ferry_error error = touch(e);

	if (error != FERRY_OK)
		return error;
	assert(state->cells == state->own_cells); /* since touch() */
	state->own_cells[c] = *v;
	state->own_stamps[c] = e->stamp;
	state->stamped |= COLUMN_BIT(c);
	state->by_hub &= ~COLUMN_BIT(c);
	state->dirty |= COLUMN_BIT(c);
	state->given |= COLUMN_BIT(c);
	return FERRY_OK;
}

/* [P 6.7] NULL: the edit does not say. */
static const struct value *old_of(const struct edit *e, uint16_t num)
{
	for (uint16_t o = 0; o < e->block->old_count; o++) {
		if (e->block->old_nums[o] == num)
			return &e->block->olds[(size_t)o * e->block->row_count + e->r];
	}
	return NULL;
}

/* The hub fills the column by its default, which is not known here: whatever
 * it is, this batch's insert left it to the hub. */
static enum ferry_error merge_unknown(struct edit *e, uint16_t i, const struct version *v, bool cell_seen)
{
	const struct value *device = cell_of(e, i), none = value_null();
	bool won = cell_seen || device_wins(e, v);
	enum ferry_error error = FERRY_OK;

	if (!cell_seen)
		error = keep_conflict(e, e->block->nums[i], CONFLICT_UPDATE_UPDATE, won, device, &none, &v->author);
	return error == FERRY_OK && won ? set_cell(e, e->columns[i], device) : error;
}

static enum ferry_error take_result(struct edit *e, int c, const struct cell_result *x)
{
	enum ferry_error error = set_cell(e, c, &x->value);

	if (error == FERRY_OK && x->by_hub)
		e->row->state.by_hub |= COLUMN_BIT(c);
	return error;
}

/* One column of an edit that meets a row. */
static enum ferry_error merge_cell(struct edit *e, uint16_t i, bool row_seen)
{
	int c = e->columns[i];
	uint16_t num = e->block->nums[i];
	struct value hub = e->row->state.cells[c];
	struct version v = column_version(e->m, e->row, c);
	struct cell_edit x = {.table = e->table->name, .column = &e->table->columns[c], .mine = cell_of(e, i),
			      .theirs = &hub, .version = &v, .old = old_of(e, num), .arena = &e->m->arena,
			      .seen = row_seen && seen(e, &v, base_of(e, num)), .later = device_wins(e, &v)};
	struct cell_result result;
	enum ferry_error error;

	if (x.column->policy == POLICY_SEQUENCE && x.mine->kind == VALUE_NULL)
		return FERRY_OK; /* left to the hub, whatever stands there */
	if (!(e->row->state.given & COLUMN_BIT(c)) && x.column->policy != POLICY_SEQUENCE) {
		if (x.column->policy == POLICY_APPROVAL)
			return keep_ask(e, num, x.mine);
		if (x.column->policy != POLICY_GUARD || x.old == NULL)
			return merge_unknown(e, i, &v, x.seen);
		hub = *x.old; /* the default as the author has it: a guard does not let it pass unseen */
	}
	error = merge_policy(&x, &result, &e->why);
	if (error == FERRY_COUNTER || error == FERRY_GUARD || error == FERRY_NUMBER) {
		e->refused = error;
		e->holder = error == FERRY_GUARD ? v.author : (struct uuid){{0}};
	}
	if (error == FERRY_OK && result.asks)
		error = keep_ask(e, num, x.mine);
	if (error == FERRY_OK && result.conflict)
		error = keep_conflict(e, num, CONFLICT_UPDATE_UPDATE, result.device_won, x.mine, &hub, &v.author);
	return error == FERRY_OK && result.writes ? take_result(e, c, &result) : error;
}

/* Where updates win: what was deleted behind the author's back comes back as it
 * was. Only the database can put it there, so it has to have it. */
static bool can_revive(const struct edit *e)
{
	const struct row *row = e->row;
	struct version gone = deletion_version(e->m, row);

	return row->update_wins && !row->state.exists && row->state.known && !seen(e, &gone, base_of(e, 0)) &&
	       (row->in_database || row->kept) && (row->state.cells != NULL || row->last_cells != NULL);
}

/* Nobody has seen these cells together, so their author is the hub; and who had
 * not seen them is later than they are, for his update is to win. */
static enum ferry_error revive(struct edit *e)
{
	struct row_state *state = &e->row->state;
	struct version gone = deletion_version(e->m, e->row);
	const struct value *last = state->cells != NULL ? state->cells : e->row->last_cells;
	uint16_t columns = e->table->column_count;
	static const struct uuid hub = {{0}};
	uint32_t oldest = NO_STAMP;
	enum ferry_error error = keep_conflict(e, 0, CONFLICT_UPDATE_DELETE, true, NULL, NULL, &gone.author);

	if (error == FERRY_OK)
		error = touch(e);
	if (error == FERRY_OK && !merge_stamp_find(e->m, &hub, 0, 0, &oldest))
		error = FERRY_NO_MEMORY;
	if (error != FERRY_OK)
		return error;
	memmove(state->own_cells, last, columns * sizeof(struct value));
	for (uint16_t c = 0; c < columns; c++)
		state->own_stamps[c] = state->lost & COLUMN_BIT(c) ? e->stamp : oldest; /* those are written */
	state->exists = true;
	state->stamped = state->by_hub = state->given = COLUMN_BIT(columns) - 1;
	state->dirty = state->lost; /* the database has not seen what this batch wrote before */
	state->lost = 0;
	state->born_stamp = e->stamp;
	state->insert_pending = false;
	state->revive_pending = !e->row->in_database;
	return FERRY_OK;
}

/* The edit's row is gone, or another stands under its key: the edit is kept. */
static enum ferry_error keep_cell(struct edit *e, uint16_t i)
{
	const struct value *device = cell_of(e, i);
	const struct value *hub = e->row->state.exists ? &e->row->state.cells[e->columns[i]] : NULL;
	struct version other = hub != NULL ? column_version(e->m, e->row, e->columns[i]) : deletion_version(e->m, e->row);

	if (hub != NULL && value_equal(device, hub))
		return FERRY_OK;
	return keep_conflict(e, e->block->nums[i], CONFLICT_UPDATE_DELETE, false, device, hub, &other.author);
}

/* Nothing is said of a column that is never empty: the hub has a value, or a default. */
static bool left_to_hub(const struct edit *e, uint16_t i)
{
	return cell_of(e, i)->kind == VALUE_NULL && e->table->columns[e->columns[i]].not_null;
}

static enum ferry_error apply_update(struct edit *e)
{
	enum ferry_error error = can_revive(e) ? revive(e) : FERRY_OK;

	for (uint16_t i = 0; i < e->block->column_count && error == FERRY_OK; i++) {
		bool row_seen = e->row->state.exists && life_seen(e, base_of(e, e->block->nums[i]));

		if (e->block->part_of != 0 && left_to_hub(e, i))
			continue;
		if (row_seen || (e->row->state.exists && e->row->update_wins))
			error = merge_cell(e, i, row_seen);
		else
			error = keep_cell(e, i);
	}
	return error;
}

/* What an insert leaves out is NULL, unless the hub has a default for it. */
static uint64_t known_when_left_out(const struct schema_table *t)
{
	uint64_t mask = 0;

	for (uint16_t c = 0; c < t->column_count; c++) {
		if (!t->columns[c].has_default)
			mask |= COLUMN_BIT(c);
	}
	return mask;
}

static enum ferry_error new_row(struct edit *e)
{
	enum ferry_error error;
	struct row_state *state = &e->row->state;

	error = touch(e);
	if (error != FERRY_OK)
		return error;
	/* touch() gave arrays of this change-set's own; what a former life left
	 * in them is not this row's. */
	memset(state->own_cells, 0, e->table->column_count * sizeof(struct value));
	state->exists = true;
	state->known = true;
	state->stamped = 0;
	state->by_hub = 0;
	state->given = known_when_left_out(e->table);
	state->lost = 0;
	state->born_stamp = e->stamp;
	state->replayed |= e->set->old_position > 0;
	for (uint16_t i = 0; i < e->block->column_count; i++) {
		const struct value *v = cell_of(e, i);
		const struct schema_column *column = &e->table->columns[e->columns[i]];

		if (v->kind == VALUE_NULL && column->not_null && column->has_default)
			continue; /* the hub's default */
		error = set_cell(e, e->columns[i], v);
		if (error != FERRY_OK)
			return error;
	}
	state->dirty = 0;
	state->insert_pending = true;
	state->insert_cells = state->cells;
	state->insert_mask = state->stamped;
	return FERRY_OK;
}

static enum ferry_error apply_insert(struct edit *e)
{
	bool row_seen;

	if (!e->row->state.exists) {
		struct version gone = deletion_version(e->m, e->row);
		enum ferry_error error = FERRY_OK;

		if (e->row->state.known && !seen(e, &gone, base_of(e, 0)))
			error = keep_conflict(e, 0, CONFLICT_UPDATE_DELETE, true, NULL, NULL, &gone.author);
		return error == FERRY_OK ? new_row(e) : error;
	}
	row_seen = life_seen(e, base_of(e, 0));
	for (uint16_t i = 0; i < e->block->column_count; i++) {
		enum ferry_error error;

		if (left_to_hub(e, i))
			continue;
		error = merge_cell(e, i, row_seen);
		if (error != FERRY_OK)
			return error;
	}
	return FERRY_OK;
}

/* Is the row there whose part this is, in the life that the edit saw? */
static bool whole_is_there(const struct edit *e)
{
	int64_t index = merge_table_index(e->m->schema, e->block->part_of);
	struct edit whole = *e;

	if (index < 0)
		return false;
	whole.table = &e->m->schema->tables[index];
	whole.row = merge_find(e->m, (uint32_t)index, &e->row->key);
	return whole.row != NULL && whole.row->state.exists && life_seen(&whole, base_of(e, 0));
}

static bool says_something(const struct edit *e)
{
	for (uint16_t i = 0; i < e->block->column_count; i++) {
		if (cell_of(e, i)->kind != VALUE_NULL)
			return true;
	}
	return false;
}

/* An edit of columns that stood in another table's row when it was made. The row that they
 * have now may never have been, for want of something to say, and begins with this. */
static enum ferry_error apply_part(struct edit *e)
{
	if (e->row->state.known || !whole_is_there(e))
		return apply_update(e);
	return says_something(e) ? apply_insert(e) : FERRY_OK;
}

static bool all_seen(const struct edit *e, int64_t base)
{
	const struct row *row = e->row;

	if (row->state.stamped == 0 && row->column_versions == NULL && row->state.born_stamp == NO_STAMP)
		return seen(e, &row->version, base);
	for (int c = 0; c < e->table->column_count; c++) {
		struct version v = column_version(e->m, row, c);

		if (!seen(e, &v, base))
			return false;
	}
	return true;
}

/* Keeps what a deletion takes away, so that the row can be put back whole. */
static enum ferry_error keep_row(struct edit *e, int64_t base)
{
	for (int c = 0; c < e->table->column_count; c++) {
		struct version v = column_version(e->m, e->row, c);
		const struct value *hub = &e->row->state.cells[c];
		enum ferry_error error;

		if (hub->kind == VALUE_NULL && seen(e, &v, base))
			continue;
		error = keep_conflict(e, e->table->columns[c].num, CONFLICT_DELETE_UPDATE, true, NULL, hub, &v.author);
		if (error != FERRY_OK)
			return error;
	}
	return FERRY_OK;
}

/* What triggers of the hub made of the device's own edit is nobody's update. */
static bool by_product(const struct edit *e, const struct version *v)
{
	struct version birth = birth_version(e->m, e->row);

	if (!uuid_is_zero(&v->author))
		return false;
	for (int c = 0; c < e->table->column_count; c++) {
		struct version own = column_version(e->m, e->row, c);

		if (own.position == v->position && is_own(e, &own))
			return true;
	}
	return birth.position == v->position && is_own(e, &birth);
}

static bool updated_by_others(const struct edit *e, int64_t base, struct uuid *out_other)
{
	for (int c = 0; c < e->table->column_count; c++) {
		struct version v = column_version(e->m, e->row, c);

		if (seen(e, &v, base) || by_product(e, &v))
			continue;
		*out_other = v.author;
		return true;
	}
	return false;
}

static enum ferry_error apply_delete(struct edit *e)
{
	struct uuid other;

	struct row_state *state = &e->row->state;
	int64_t base = base_of(e, 0);
	enum ferry_error error;

	if (!state->exists)
		return FERRY_OK;
	if (!life_seen(e, base)) {
		struct version birth = birth_version(e->m, e->row);

		return keep_conflict(e, 0, CONFLICT_DELETE_UPDATE, false, NULL, NULL, &birth.author);
	}
	if (e->row->update_wins && updated_by_others(e, base, &other))
		return keep_conflict(e, 0, CONFLICT_DELETE_UPDATE, false, NULL, NULL, &other);
	if (!all_seen(e, base)) {
		error = keep_row(e, base);
		if (error != FERRY_OK)
			return error;
	}
	error = touch(e);
	if (error != FERRY_OK)
		return error;
	state->exists = false;
	state->stamped = 0;
	state->by_hub = 0;
	state->lost |= state->dirty;
	state->dirty = 0;
	state->born_stamp = NO_STAMP;
	state->insert_pending = false;
	state->revive_pending = false;
	state->gone_stamp = e->stamp;
	return FERRY_OK;
}

/* P10: a clock that is ahead wins nothing by it. */
static int64_t edit_at(const struct edit *e)
{
	int64_t at = e->set->at;

	if (e->block->at != NULL && __builtin_add_overflow(at, e->block->at[e->r], &at))
		at = e->now;
	return at < e->now ? at : e->now;
}

static enum ferry_error apply_row(struct edit *e)
{
	int64_t at = edit_at(e);

	if (at != e->at || e->r == 0)
		e->stamp = NO_STAMP;
	e->at = at;
	e->row = merge_find(e->m, e->table_index, &e->block->keys[e->r]);
	if (e->row == NULL)
		return FERRY_INTERNAL;
	switch (e->block->op) {
	case ROW_INSERT:
		return apply_insert(e);
	case ROW_UPDATE:
		return e->block->part_of != 0 ? apply_part(e) : apply_update(e);
	case ROW_DELETE:
		return apply_delete(e);
	default:
		return FERRY_INTERNAL; /* merge_check() refused it */
	}
}

static enum ferry_error apply_block(struct edit *e, const struct block *b)
{
	uint32_t base = 0;
	int64_t table_index = merge_table_index(e->m->schema, b->table);

	assert(table_index >= 0);
	e->block = b;
	e->table_index = (uint32_t)table_index;
	e->table = &e->m->schema->tables[table_index];
	for (uint16_t i = 0; i < b->column_count; i++)
		e->columns[i] = (uint8_t)merge_column_index(e->table, b->nums[i]);
	for (e->r = 0; e->r < b->row_count; e->r++) {
		enum ferry_error error;

		e->bases = b->bases == NULL ? NULL : b->bases + base;
		for (e->base_count = 0; b->bases != NULL && base < b->base_count && b->bases[base].row == e->r; base++)
			e->base_count++;
		error = apply_row(e);
		if (error != FERRY_OK)
			return error;
	}
	return FERRY_OK;
}

static enum ferry_error copy_kept(struct merge *m, struct merge_outcome *out)
{
	if (m->conflict_count > 0) {
		out->conflicts = arena_copy(&m->arena, m->conflicts, m->conflict_count * sizeof(struct conflict));
		if (out->conflicts == NULL)
			return arena_error(m);
	}
	if (m->ask_count > 0) {
		out->asks = arena_copy(&m->arena, m->asks, m->ask_count * sizeof(struct merge_ask));
		if (out->asks == NULL)
			return arena_error(m);
	}
	out->conflict_count = m->conflict_count;
	out->ask_count = m->ask_count;
	return FERRY_OK;
}

static void take_back(struct merge *m)
{
	while (m->journal_count > 0) {
		const struct undo *u = &m->journal[--m->journal_count];

		u->row->state = u->state;
		u->row->serial = u->serial;
	}
}

static void open_set(struct merge *m, const struct uuid *author, const struct change_set *s)
{
	if (m->open) {
		assert(uuid_equal(&m->open_author, author) && m->open_number == s->number);
		assert(s->part == m->open_part + 1);
	} else {
		assert(s->part == 0);
		m->serial++;
		m->journal_count = 0;
		m->open_rejected = false;
	}
	m->open = s->more;
	m->open_author = *author;
	m->open_number = s->number;
	m->open_part = s->part;
}

static void reject(struct merge *m, struct merge_outcome *out, int code, const struct ferry_why *why)
{
	take_back(m);
	m->open_rejected = true;
	m->open_code = code;
	m->open_why = *why;
	*out = (struct merge_outcome){.verdict = VERDICT_REJECTED, .code = code, .why = *why};
}

static enum ferry_error apply_blocks(struct edit *e, struct merge_outcome *out)
{
	e->m->conflict_count = 0;
	e->m->ask_count = 0;
	for (uint32_t i = 0; i < e->set->block_count; i++) {
		enum ferry_error error = apply_block(e, &e->set->blocks[i]);

		if (error != FERRY_OK)
			return error;
	}
	return copy_kept(e->m, out);
}

enum ferry_error merge_apply(struct merge *m, const struct uuid *author, const struct change_set *s, int64_t now,
			     struct merge_outcome *out)
{
	struct edit e = {.m = m, .author = author, .set = s, .now = now, .stamp = NO_STAMP};
	struct merge_outcome outcome = {.verdict = VERDICT_ACCEPTED};
	struct ferry_why why = {""};
	enum ferry_error error;

	open_set(m, author, s);
	if (m->open_rejected) {
		why = m->open_why;
		reject(m, out, m->open_code, &why);
		return FERRY_OK;
	}
	error = merge_check(m->schema, s, &why);
	if (error != FERRY_OK) {
		reject(m, out, (int)error, &why);
		return FERRY_OK;
	}
	error = apply_blocks(&e, &outcome);
	if (e.refused != FERRY_OK) {
		reject(m, out, (int)e.refused, &e.why);
		out->holder = e.holder;
		return FERRY_OK;
	}
	if (error != FERRY_OK) {
		take_back(m);
		m->open = false;
		return error;
	}
	outcome.verdict = e.lost ? VERDICT_SUPERSEDED : VERDICT_ACCEPTED;
	outcome.rows_changed = e.rows_changed;
	*out = outcome;
	return FERRY_OK;
}
