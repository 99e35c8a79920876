/* The outbox as push messages: which change-set or part goes next, what was settled
 * and is due again among them (R18), and the state in which all of it is read. */
#include <stdlib.h>
#include <string.h>

#include "agent/replica_push.h"

#define PUSH_SETS_MAX 1024
#define PUSH_BUDGET_BYTES 131072u /* of parts that are made before the first push */

/* ---- Change-sets ---- */

static bool next_set(struct replica *r, int64_t after, struct set *out)
{
	sqlite3_stmt *s = q(r, Q_SET_NEXT);

	return gate_step(&r->g, s, "i", after) && set_get(r, s, out);
}

static enum ferry_error take_failed(struct push *p, const struct set *set, struct ferry_why *why)
{
	if (p->r->g.error != FERRY_OK)
		return ferry_fail(why, p->r->g.error, "%s", p->r->g.why.text);
	if (p->bad_code == 0)
		return ferry_fail(why, FERRY_LIMIT, "A change-set does not fit into the memory for a message.");
	p->refused = set->number;
	return FERRY_OK;
}

/* ---- Replays (R18) ---- */

static bool replay_is_next(struct replica *r, const struct push_cursor *cursor)
{
	int64_t after = cursor->number - cursor->inside, replay = kept_next(r, after);
	struct set set;

	if (replay == INT64_MAX || (cursor->inside && replay != cursor->number))
		return false;
	return !next_set(r, after, &set) || replay < set.number;
}

/* Bodies are pushed as they are kept; one that goes on goes alone. */
static enum ferry_error add_replay(struct push *p, struct push_cursor *cursor, size_t budget, size_t *used,
				   struct message_push *out, struct change_set *sets, bool *out_done, struct ferry_why *why)
{
	struct change_set *s = &sets[out->set_count];
	int64_t number = kept_next(p->r, cursor->number - cursor->inside);
	bool inside = cursor->inside;
	size_t before = p->arena->used_bytes;

	*out_done = true;
	if (!kept_part(p->r, number, inside ? cursor->part : 0, p->arena, s))
		return out->set_count > 0 ? FERRY_OK : ferry_fail(why, p->r->g.error != FERRY_OK ? p->r->g.error : FERRY_LIMIT,
								  "A kept change-set cannot be offered again: %s", p->r->g.why.text);
	if (out->set_count > 0 && (s->more || inside || *used + (p->arena->used_bytes - before) > budget))
		return FERRY_OK;
	*used += p->arena->used_bytes - before;
	*cursor = (struct push_cursor){.number = number, .inside = s->more, .part = s->more ? s->part + 1 : 0};
	out->set_count++;
	*out_done = s->more || inside || *used >= budget || out->set_count == PUSH_SETS_MAX;
	return FERRY_OK;
}

/* A change-set that was kept as it was written goes alone, part by part. */
static bool add_former(struct push *p, struct push_cursor *cursor, const struct set *set, struct message_push *out,
		     struct change_set *sets)
{
	uint32_t part = cursor->inside ? cursor->part : 0;
	struct change_set kept;

	if (!former_body(p->r, set->number, part, p->arena, &kept))
		return false;
	if (out->set_count > 0)
		return true;
	sets[0] = kept;
	out->set_count = 1;
	*cursor = (struct push_cursor){.number = set->number, .inside = kept.more, .part = kept.more ? part + 1 : 0};
	return true;
}

/* One more change-set, or part, into sets[]. *out_done: the message is full
 * or the outbox is. */
static enum ferry_error add_set(struct push *p, struct push_cursor *cursor, size_t budget, size_t *used,
				struct message_push *out, struct change_set *sets, bool *out_done, struct ferry_why *why)
{
	struct replica *r = p->r;
	bool more, inside = cursor->inside;
	struct set set;
	int64_t start;

	*out_done = true;
	arena_reset(&r->work);
	if (replay_is_next(r, cursor))
		return add_replay(p, cursor, budget, used, out, sets, out_done, why);
	if (!next_set(r, cursor->number - inside, &set) || (inside && set.number != cursor->number)) {
		cursor->inside = false;
		return r->g.error == FERRY_OK ? FERRY_OK : ferry_fail(why, r->g.error, "%s", r->g.why.text);
	}
	if (add_former(p, cursor, &set, out, sets))
		return FERRY_OK;
	set.depends = arena_copy(p->arena, set.depends, set.depends_count * sizeof(*set.depends));
	start = push_first_ms(r, &set);
	p->cutter = (struct row_cutter){.column = cursor->column, .offset = cursor->offset, .begun = cursor->begun};
	if (!push_take_part(p, &set, inside ? cursor->after_seq : 0, start, &more))
		return take_failed(p, &set, why);
	/* Parts go alone, so that they are cut alike each time (R7). */
	if (out->set_count > 0 && (more || inside || *used + p->bytes > budget ||
				   p->rows_before + p->count > PUSH_ROWS_MAX))
		return FERRY_OK;
	if (!push_make_blocks(p, &set, start, &sets[out->set_count]))
		return take_failed(p, &set, why);
	*used += p->bytes;
	p->rows_before += p->count;
	push_advance(cursor, p, &sets[out->set_count], more);
	out->set_count++;
	*out_done = more || inside || *used >= budget || out->set_count == PUSH_SETS_MAX;
	return FERRY_OK;
}

/* The same, with what it comes after, and what its author never saw (R18). */
static enum ferry_error add_in_order(struct push *p, struct push_cursor *cursor, size_t budget, size_t *used,
				     struct message_push *out, struct change_set *sets, bool *out_done, struct ferry_why *why)
{
	struct push_cursor before = *cursor;
	uint32_t count = out->set_count;
	enum ferry_error e;

	after_begin(p->r, cursor);
	e = add_set(p, cursor, budget, used, out, sets, out_done, why);
	if (e != FERRY_OK || out->set_count == count)
		return e;
	if (after_name(p->r, p->arena, &sets[count]) && gaps_name(p->r, p->arena, &sets[count]))
		return FERRY_OK;
	*cursor = before;
	out->set_count = count;
	*out_done = true;
	return ferry_fail(why, FERRY_LIMIT, "No memory for what a change-set comes after.");
}

/* ---- Reading ---- */

/* What was offered is durable before anything leaves, also where commits are only ordered on the
 * disk: a file that lost it would take what it pushed for what another copy did. With the
 * link up it goes along with the cuts. */
static enum ferry_error begin_synced(struct replica *r, struct ferry_why *why)
{
	if (!r->options.full)
		(void)sqlite3_exec(r->g.db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
	return replica_begin(r, why);
}

static enum ferry_error end_synced(struct replica *r, enum ferry_error begun, struct ferry_why *why)
{
	if (begun == FERRY_OK) {
		r->st.offered = r->st.last_number;
		begun = replica_end(r, why);
	}
	if (!r->options.full)
		(void)sqlite3_exec(r->g.db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
	return begun;
}

static bool anything_captured(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_LOG_ANY);
	bool any = gate_step(&r->g, s, "i", r->st.ingested);

	if (s != NULL)
		sqlite3_reset(s);
	return any;
}

/* The newest values of a change-set are those that stand in the rows (stacks, REPLICA.md), so it is read
 * from a state in which nothing that apps wrote since waits for its cut: else their next transaction
 * would leave with it in part (P4). *out_locked: such a state had to be made, and is held against them. */
static enum ferry_error begin_reading(struct replica *r, bool *out_locked, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;

	*out_locked = false;
	if (r->st.offered < r->st.last_number)
		e = end_synced(r, begin_synced(r, why), why);
	if (e != FERRY_OK)
		return e;
	gate_exec(&r->g, "BEGIN");
	if (!anything_captured(r) && r->g.error == FERRY_OK)
		return FERRY_OK;
	(void)sqlite3_exec(r->g.db, "ROLLBACK", NULL, NULL, NULL);
	if (r->g.error != FERRY_OK)
		return ferry_fail(why, r->g.error, "%s", r->g.why.text);
	e = begin_synced(r, why);
	if (e != FERRY_OK)
		return end_synced(r, e, why);
	cut_rest(r);
	*out_locked = true;
	return FERRY_OK;
}

static enum ferry_error end_reading(struct replica *r, bool locked, struct ferry_why *why)
{
	if (locked)
		return end_synced(r, FERRY_OK, why);
	(void)sqlite3_exec(r->g.db, "COMMIT", NULL, NULL, NULL); /* what was noted of replays stays */
	return FERRY_OK;
}

static enum ferry_error read_message(struct push *p, struct push_cursor *cursor, size_t budget, struct message_push *out,
				     struct change_set *sets, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK, ended;
	size_t used = 0;
	bool locked, noted = p->r->replays_noted;

	p->refused = 0;
	e = begin_reading(p->r, &locked, why);
	if (e != FERRY_OK)
		return e;
	for (bool done = false; !done && e == FERRY_OK;) {
		p->bad_code = 0;
		e = add_in_order(p, cursor, budget, &used, out, sets, &done, why);
	}
	ended = end_reading(p->r, locked, why);
	if (ended != FERRY_OK) {
		out->set_count = 0;
		p->r->replays_noted = noted;
		return ended;
	}
	/* What was made is sent; a failure comes again with the next call. */
	return out->set_count > 0 ? FERRY_OK : e;
}

enum ferry_error replica_next_push(void *store, struct push_cursor *cursor, size_t budget_bytes, struct arena *arena,
				   struct message_push *out, struct ferry_why *why)
{
	struct replica *r = store;
	struct push p = {.r = r, .arena = arena, .budget = budget_bytes};
	struct change_set *sets = arena_array(arena, PUSH_SETS_MAX, sizeof(*sets));
	struct push_cursor start = *cursor;
	enum ferry_error e;

	*out = (struct message_push){.sets = sets};
	r->g.error = FERRY_OK;
	r->push_budget = budget_bytes;
	if (sets == NULL)
		return ferry_fail(why, FERRY_LIMIT, "No memory for a message.");
	do {
		e = read_message(&p, cursor, budget_bytes, out, sets, why);
		if (e == FERRY_OK && p.refused != 0) /* set aside here: the others go on (P6) */
			e = refuse_locally(r, p.refused, p.bad_code, p.bad, why);
	} while (e == FERRY_OK && out->set_count == 0 && p.refused != 0);
	free(p.rows);
	if (out->set_count == 0 && e != FERRY_OK)
		*cursor = start;
	return out->set_count > 0 ? FERRY_OK : e;
}

/* What cannot be sent (a value without a wire form) is not given: it is refused
 * when its turn comes. */
void push_each(struct replica *r, int64_t number, void (*take)(struct replica *r, const struct change_set *set))
{
	struct push p = {.r = r, .budget = r->push_budget != 0 ? r->push_budget : PUSH_BUDGET_BYTES};
	struct push_cursor cursor = {0};
	struct arena arena;
	struct set set;

	arena_init(&arena, REPLICA_WORK_BYTES_MAX);
	p.arena = &arena;
	for (bool more = true; more && r->g.error == FERRY_OK;) {
		struct change_set part;
		int64_t start;

		arena_reset(&r->work);
		arena_reset(&arena);
		if (!next_set(r, number - 1, &set) || set.number != number)
			break;
		set.depends = arena_copy(&arena, set.depends, set.depends_count * sizeof(*set.depends));
		start = push_first_ms(r, &set);
		p.cutter = (struct row_cutter){.column = cursor.column, .offset = cursor.offset, .begun = cursor.begun};
		if (!push_take_part(&p, &set, cursor.inside ? cursor.after_seq : 0, start, &more) || !push_make_blocks(&p, &set, start, &part))
			break;
		push_advance(&cursor, &p, &part, more);
		part.step = r->now.schema.step;
		take(r, &part);
	}
	free(p.rows);
	arena_deinit(&arena);
}
