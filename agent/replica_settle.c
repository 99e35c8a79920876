/* Verdicts: what leaves the outbox, what was refused and why, and a refused
 * joined change-set offered again in pieces (R5).
 *
 * Called inside the transaction that applies the hub's state (R3), after
 * everything captured has become change-sets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/time_text.h"

#define PAUSE_MS 1000 /* R5: edits further apart were hardly one transaction */

static bool set_find(struct replica *r, int64_t number, struct set *out)
{
	sqlite3_stmt *s = q(r, Q_SET_GET);

	return gate_step(&r->g, s, "i", number) && set_get(r, s, out);
}

void time_now(struct replica *r, char out[TIME_TEXT_MAX])
{
	struct value v = value_int(replica_wall(r));

	if (!timestamp_to_text(&v, out))
		out[0] = '\0';
}

/* ---- ferry_rejected ---- */

static void append_json_text(sqlite3_str *s, const uint8_t *p, size_t n)
{
	sqlite3_str_appendchar(s, 1, '"');
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '"' || p[i] == '\\')
			sqlite3_str_appendf(s, "\\%c", p[i]);
		else if (p[i] < 0x20)
			sqlite3_str_appendf(s, "\\u%04x", p[i]);
		else
			sqlite3_str_append(s, (const char *)p + i, 1);
	}
	sqlite3_str_appendchar(s, 1, '"');
}

static void append_json(sqlite3_str *s, const struct cell *c)
{
	switch (c->type) {
	case SQLITE_INTEGER:
		sqlite3_str_appendf(s, "%lld", (long long)c->i);
		break;
	case SQLITE_FLOAT:
		if (isinf(c->f)) /* JSON has no word for it, but numbers that are too large for it */
			sqlite3_str_appendall(s, c->f > 0 ? "9e999" : "-9e999");
		else
			sqlite3_str_appendf(s, "%!.17g", c->f);
		break;
	case SQLITE_TEXT:
		append_json_text(s, c->p, c->n);
		break;
	case SQLITE_BLOB: /* as PostgreSQL prints it */
		sqlite3_str_appendall(s, "\"\\\\x");
		for (uint32_t i = 0; i < c->n; i++)
			sqlite3_str_appendf(s, "%02x", c->p[i]);
		sqlite3_str_appendchar(s, 1, '"');
		break;
	default:
		sqlite3_str_appendall(s, "null");
	}
}

/* R6: which refused one it builds on; 0: none that is known. */
static int64_t blocked_by(struct replica *r, const struct set *set, int code)
{
	for (uint32_t i = set->depends_count; code == FERRY_DEPENDS && i > 0; i--) {
		sqlite3_stmt *s = q(r, Q_REJECT_OF);

		if (gate_step(&r->g, s, "i", set->depends[i - 1])) {
			int64_t number = sqlite3_column_int64(s, 0);

			sqlite3_reset(s); /* a statement under way would keep the snapshot beyond the commit */
			return number;
		}
	}
	return 0;
}

/* Values too large to be read stand beside the row, whole: their place is in
 * the replica, and the edit that made them is about to be taken back. */
static void keep_far_values(struct replica *r, const struct table *t, const struct entry *e, uint64_t mask)
{
	int64_t rejected = sqlite3_last_insert_rowid(r->g.db);

	for (int i = 0; i < t->t->column_count && (e->op & OP_MASK) != OP_DELETE; i++) {
		sqlite3_stmt *s = q(r, Q_REJECT_VALUE);

		if ((mask >> i & 1) == 0 || e->fresh[i].type != CELL_FAR || s == NULL)
			continue;
		gate_run(&r->g, s, "itc", rejected, t->t->columns[i].name, &e->fresh[i]);
		sqlite3_clear_bindings(s);
	}
}

char *row_json(const struct table *t, const struct cell *cells, uint64_t mask)
{
	sqlite3_str *s = sqlite3_str_new(NULL);
	const char *comma = "";

	sqlite3_str_appendchar(s, 1, '{');
	for (int i = 0; i < t->t->column_count; i++) {
		if ((mask >> i & 1) == 0)
			continue;
		sqlite3_str_appendall(s, comma);
		append_json_text(s, (const uint8_t *)t->t->columns[i].name, strlen(t->t->columns[i].name));
		sqlite3_str_appendchar(s, 1, ':');
		append_json(s, &cells[i]);
		comma = ",";
	}
	sqlite3_str_appendchar(s, 1, '}');
	return sqlite3_str_finish(s);
}

/* What an update saw and made of columns whose policy merges differences (R2), by column: whoever tries it again
 * wants that, not the value. NULL: nothing. */
static char *differences_json(const struct table *t, const struct entry *e, uint64_t mask)
{
	sqlite3_str *s = sqlite3_str_new(NULL);

	for (int i = 0; i < t->t->column_count && e->old != NULL && (e->op & OP_MASK) == OP_UPDATE; i++) {
		if ((mask & t->differs & UINT64_C(1) << i) == 0 || e->old[i].type == CELL_FAR || e->fresh[i].type == CELL_FAR)
			continue;
		sqlite3_str_appendall(s, sqlite3_str_length(s) > 0 ? "," : "{");
		append_json_text(s, (const uint8_t *)t->t->columns[i].name, strlen(t->t->columns[i].name));
		sqlite3_str_appendall(s, ":[");
		append_json(s, &e->old[i]);
		sqlite3_str_appendchar(s, 1, ',');
		append_json(s, &e->fresh[i]);
		sqlite3_str_appendchar(s, 1, ']');
	}
	if (sqlite3_str_length(s) > 0)
		sqlite3_str_appendchar(s, 1, '}');
	return sqlite3_str_finish(s);
}

/* What it said of columns that went with a schema joins the others. */
static char *with_former_values(struct replica *r, int64_t seq, char *json)
{
	sqlite3_stmt *s = q(r, Q_FORMER_VALUE_GET);
	sqlite3_str *out;
	bool more = json != NULL && gate_step(&r->g, s, "i", seq);

	if (!more)
		return json;
	out = sqlite3_str_new(NULL);
	sqlite3_str_append(out, json, (int)strlen(json) - 1);
	for (; more; more = gate_next(&r->g, s)) {
		struct cell value = cell_column(s, 1);

		sqlite3_str_appendall(out, sqlite3_str_length(out) > 1 ? "," : "");
		append_json_text(out, sqlite3_column_text(s, 0), (size_t)sqlite3_column_bytes(s, 0));
		sqlite3_str_appendchar(out, 1, ':');
		append_json(out, &value);
	}
	sqlite3_str_appendchar(out, 1, '}');
	sqlite3_free(json);
	return sqlite3_str_finish(out);
}

/* Those columns of the present schema whose value was kept from the former one. */
static uint64_t former_columns(struct replica *r, const struct table *t, int64_t seq)
{
	sqlite3_stmt *s = q(r, Q_FORMER_VALUE_GET);
	uint64_t mask = 0;

	for (bool more = gate_step(&r->g, s, "i", seq); more; more = gate_next(&r->g, s)) {
		for (int i = 0; i < t->t->column_count; i++) {
			if (strcmp(t->t->columns[i].name, (const char *)sqlite3_column_text(s, 0)) == 0)
				mask |= UINT64_C(1) << i;
		}
	}
	return mask;
}

void reject_row(struct replica *r, const struct set *set, int code, const char *sentence, struct table *t,
		const char *key, const struct entry *e, uint64_t mask)
{
	static const char *const ops[] = {"", "insert", "update", "delete"};
	char now[TIME_TEXT_MAX], *json, *differences;

	mask &= ~former_columns(r, t, e->seq);
	json = with_former_values(r, e->seq, row_json(t, e->fresh, (e->op & OP_MASK) == OP_DELETE ? 0 : mask));
	differences = differences_json(t, e, mask);

	time_now(r, now);
	if (json == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a refused row.");
	else
		gate_run(&r->g, q(r, Q_REJECT_ADD), "iittttttttiit", set->origin != 0 ? set->origin : set->number, (int64_t)code,
			 ferry_error_name(code), sentence, now, set->note, t->t->name, key, ops[e->op & OP_MASK], json, set->number,
			 blocked_by(r, set, code), differences);
	keep_far_values(r, t, e, mask);
	sqlite3_free(differences);
	sqlite3_free(json);
}

/* Which row has the unique value that one of these met, and takes it in. */
static void note_other(struct replica *r, const struct settled *v)
{
	char mine[UUID_TEXT], other[UUID_TEXT];

	if (uuid_is_zero(&v->other))
		return;
	uuid_format(&v->mine, mine);
	uuid_format(&v->other, other);
	gate_run(&r->g, q(r, Q_REJECT_OTHER), "itt", v->number, mine, other);
}

static bool keeps_values(struct replica *r, int64_t seq)
{
	sqlite3_stmt *s = q(r, Q_FORMER_VALUE_GET);
	bool any = gate_step(&r->g, s, "i", seq);

	if (s != NULL)
		sqlite3_reset(s);
	return any;
}

/* lost: only what they said of columns that went with a schema. */
static void reject_rows(struct replica *r, const struct set *set, int code, const char *sentence, bool lost)
{
	sqlite3_stmt *s = set_entries(r, set, 0);
	struct arena keep = r->work; /* set's texts live there: rows get an arena of their own */

	arena_init(&r->work, REPLICA_WORK_BYTES_MAX);
	while (gate_next(&r->g, s)) {
		struct table *t = model_table(&r->now, (uint32_t)sqlite3_column_int64(s, 1));
		int64_t seq = sqlite3_column_int64(s, 0);
		char key[UUID_TEXT] = "";
		struct stack stack;

		if (t == NULL)
			continue;
		memcpy(key, sqlite3_column_text(s, 2), UUID_TEXT - 1);
		arena_reset(&r->work);
		stack_load(r, t, key, &stack);
		for (uint32_t i = 0; i < stack.count; i++) {
			struct entry *e = &stack.entries[i];

			uint64_t said = (e->op & OP_MASK) == OP_INSERT ? t->all : e->mask;

			if (e->seq == seq && (!lost || keeps_values(r, seq)))
				reject_row(r, set, code, sentence, t, key, e, lost ? 0 : said);
		}
	}
	arena_deinit(&r->work);
	r->work = keep;
}

/* ---- Offered again ---- */

struct piece { /* an entry of the refused change-set */
	int64_t seq, at;
	uint32_t table;
	int op;
	uint32_t rank;
	char key[UUID_TEXT];
};

struct pieces {
	struct piece *p;
	uint32_t count, capacity;
};

static bool pieces_read(struct replica *r, const struct set *set, struct pieces *out)
{
	sqlite3_stmt *s = set_entries(r, set, 0);

	while (gate_next(&r->g, s)) {
		struct table *t = model_table(&r->now, (uint32_t)sqlite3_column_int64(s, 1));
		struct piece *p;

		if (out->count == out->capacity) {
			uint32_t capacity = out->capacity == 0 ? 64 : out->capacity * 2;
			struct piece *grown = realloc(out->p, capacity * sizeof(*grown));

			if (grown == NULL) {
				gate_fail(&r->g, FERRY_NO_MEMORY, "No memory to split a change-set.");
				return false;
			}
			out->p = grown;
			out->capacity = capacity;
		}
		p = &out->p[out->count++];
		*p = (struct piece){.seq = sqlite3_column_int64(s, 0), .table = (uint32_t)sqlite3_column_int64(s, 1),
				    .op = sqlite3_column_int(s, 3) & OP_MASK, .at = sqlite3_column_int64(s, 6),
				    .rank = t == NULL ? 0 : t->t->rank};
		memcpy(p->key, sqlite3_column_text(s, 2), UUID_TEXT - 1);
	}
	return r->g.error == FERRY_OK;
}

/* Parents come before what refers to them, deletes the other way round. */
static int compare_pieces(const void *pa, const void *pb)
{
	const struct piece *a = pa, *b = pb;
	bool a_deletes = a->op == OP_DELETE, b_deletes = b->op == OP_DELETE;

	if (a_deletes != b_deletes)
		return a_deletes ? 1 : -1;
	if (a->rank != b->rank)
		return (a->rank < b->rank) == !a_deletes ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static bool has_pause(const struct pieces *p)
{
	for (uint32_t i = 1; i < p->count; i++) {
		if (p->p[i].at - p->p[i - 1].at > PAUSE_MS)
			return true;
	}
	return false;
}

static void piece_renumber(struct replica *r, const struct piece *p, int64_t number)
{
	sqlite3_stmt *s = NULL;

	gate_statement(&r->g, &s, "UPDATE ferry_pending SET number = ?4 WHERE tbl = ?1 AND key = ?2 AND seq = ?3");
	gate_run(&r->g, s, "itii", (int64_t)p->table, p->key, p->seq, number);
	gate_finalize(&s);
}

/* Entries [from, to) under a new number. What the author had seen does not
 * change by being offered again: base and its exceptions stay. The same-row
 * dependencies are found by fix_stack_depends. */
static void offer_pieces(struct replica *r, const struct set *old, const struct pieces *p, uint32_t from, uint32_t to,
			 enum split_level level)
{
	struct set set = {.state = SET_COMPLETE, .first = p->p[from].seq, .last = p->p[from].seq, .base = old->base,
			  .at = old->at + (p->p[from].at - p->p[0].at) * 1000, .joined = to - from > 1 && level != SPLIT_ROWS,
			  .listed = true, .level = level, .rows = to - from,
			  .origin = old->origin != 0 ? old->origin : old->number, .note = old->note,
			  .inserts = old->inserts, .lost_from = old->lost_from};

	if (set.at < 0)
		set.at = 0;
	gate_run(&r->g, q(r, Q_SPLIT_DELETE), "i", r->st.last_number + 1);
	set_add(r, &set);
	for (uint32_t i = from; i < to; i++) {
		gate_run(&r->g, q(r, Q_SPLIT_ADD), "iii", set.number, (int64_t)i - from + 1, p->p[i].seq);
		piece_renumber(r, &p->p[i], set.number);
	}
}

/* The old number is remembered until those that named it as a dependency are
 * settled: a refusal of theirs for its sake is then no last word. */
static void remember_split(struct replica *r, const struct set *old)
{
	struct set set = *old;

	reject_rows(r, old, FERRY_UNKNOWN_COLUMN, "The hub's tables have changed: these values have no place there.", true);
	former_forget(r, old->number);
	set.state = SET_SPLIT;
	set.last = r->st.last_number;
	gate_run(&r->g, q(r, Q_SPLIT_DELETE), "i", old->number);
	gate_run(&r->g, q(r, Q_DEPEND_DELETE), "i", old->number);
	set_save(r, &set);
}

/* False: it cannot be taken apart any further. */
static bool split(struct replica *r, const struct set *set)
{
	struct pieces p = {0};
	enum split_level level;

	if (!set->joined || !pieces_read(r, set, &p) || p.count < 2) {
		free(p.p);
		return false;
	}
	level = set->level == SPLIT_NOT && has_pause(&p) ? SPLIT_PAUSES : SPLIT_ROWS;
	if (level == SPLIT_ROWS)
		qsort(p.p, p.count, sizeof(*p.p), compare_pieces);
	for (uint32_t i = 0, from = 0; i < p.count; i++) {
		bool ends = i + 1 == p.count || level == SPLIT_ROWS || p.p[i + 1].at - p.p[i].at > PAUSE_MS;

		if (ends) {
			offer_pieces(r, set, &p, from, i + 1, level);
			from = i + 1;
		}
	}
	free(p.p);
	remember_split(r, set);
	return true;
}

static void offer_whole(struct replica *r, const struct set *set)
{
	struct pieces p = {0};

	if (pieces_read(r, set, &p) && p.count > 0) {
		offer_pieces(r, set, &p, 0, p.count, set->level);
		gate_execf(&r->g, "UPDATE ferry_change_set SET joined = %d WHERE number = %lld", set->joined,
			   (long long)r->st.last_number);
		remember_split(r, set);
	}
	free(p.p);
}

/* Were all its refused dependencies only taken apart? */
static bool waits_for_split(struct replica *r, const struct set *set)
{
	bool any = false;

	for (uint32_t i = 0; i < set->depends_count; i++) {
		struct set other;

		if (set_find(r, set->depends[i], &other) && other.state == SET_SPLIT)
			any = true;
	}
	return any;
}

/* again: it is offered again, so this is no last word. */
static void tell(struct replica *r, const struct settled *v, bool again)
{
	if (r->news != NULL)
		r->news->settled(r->news_ctx, &(struct replica_verdict){v->number, (int)v->verdict, v->code, v->sentence, again});
}

static void refuse(struct replica *r, const struct settled *v, const struct set *set)
{
	const char *sentence = v->sentence != NULL ? v->sentence : ferry_error_text(v->code);
	char *whole = NULL;

	if (v->code == FERRY_DEPENDS && waits_for_split(r, set)) {
		offer_whole(r, set);
		tell(r, v, true);
		return;
	}
	if (split(r, set)) {
		tell(r, v, true);
		return;
	}
	tell(r, v, false);
	if (set->origin != 0)
		whole = sqlite3_mprintf("%s (Part of change-set %lld, which was refused whole and offered again in parts.)",
					sentence, (long long)set->origin);
	reject_rows(r, set, v->code, whole != NULL ? whole : sentence, false);
	verdict_keep(r, set, v, whole);
	note_other(r, v);
	sqlite3_free(whole);
	if (!number_list_add(&r->removed, set->number))
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for verdicts.");
}

/* ---- Conflicts ---- */

static void keep_conflict(struct replica *r, int64_t number, const struct conflict *c)
{
	static const char *const kinds[] = {"", "update_update", "update_delete", "delete_update"};
	struct table *t = model_table(&r->now, c->table);
	int column = t == NULL || c->num == 0 ? -1 : table_column(t, c->num);
	struct cell device, hub;
	char key[UUID_TEXT], other[UUID_TEXT], now[TIME_TEXT_MAX];

	if (t == NULL)
		return;
	uuid_format(&c->key, key);
	uuid_format(&c->other, other);
	time_now(r, now);
	device = value_to_cell(&r->work, column < 0 ? KIND_JSON : t->t->columns[column].kind, &c->device_value);
	hub = value_to_cell(&r->work, column < 0 ? KIND_JSON : t->t->columns[column].kind, &c->hub_value);
	gate_run(&r->g, q(r, Q_CONFLICT_ADD), "itttttt" "ccti", number, now,
		 (unsigned)c->kind < 4 ? kinds[c->kind] : "", c->device_won ? "device" : "hub", t->t->name, key,
		 column < 0 ? NULL : t->t->columns[column].name, &device, &hub,
		 uuid_is_zero(&c->other) ? NULL : other, (int64_t)c->left_out);
	if (r->news != NULL)
		r->news->conflict(r->news_ctx, &(struct replica_conflict){number, t->t->name, key,
				  column < 0 ? NULL : t->t->columns[column].name, c->device_won});
}

/* ---- All verdicts of a commit ---- */

struct verdict_order {
	const struct settled *v;
	int64_t origin;
};

/* In the order of capture, whatever their numbers are by now: what lies lower
 * in a stack is offered again before what builds on it. */
static int compare_verdicts(const void *pa, const void *pb)
{
	const struct verdict_order *a = pa, *b = pb;

	if (a->origin != b->origin)
		return a->origin < b->origin ? -1 : 1;
	return a->v->number < b->v->number ? -1 : a->v->number > b->v->number;
}

/* The hub keeps it until what it lacks has come, and says then what came of it; or it
 * stays here until the hub has room for it, and is offered again. how: Q_PARK_... */
static void park(struct replica *r, const struct settled *v, enum query how)
{
	char now[TIME_TEXT_MAX];
	struct set set;

	if (!set_find(r, v->number, &set) || set.state != SET_READY)
		return;
	time_now(r, now);
	gate_run(&r->g, q(r, how), "iittt", v->number, (int64_t)v->code, ferry_error_name(v->code),
		 v->sentence != NULL ? v->sentence : ferry_error_text(v->code), now);
	if (how == Q_PARK_ADD)
		verdict_keep(r, &set, v, NULL);
	if (how == Q_PARK_ADD || sqlite3_changes(r->g.db) > 0)
		tell(r, v, true);
}

/* What it said of tables that went with a schema stands among the refused rows since then. But
 * the hub had it whole, and may have a place for it: its verdict is the one that counts. */
static void settle_gone(struct replica *r, const struct settled *v)
{
	if (!former_has(r, v->number))
		return;
	if (v->verdict != VERDICT_REJECTED)
		gate_run(&r->g, q(r, Q_REJECT_LIFTED), "i", v->number);
	else
		gate_run(&r->g, q(r, Q_REJECT_VERDICT), "iitt", v->number, (int64_t)v->code, ferry_error_name(v->code),
			 v->sentence != NULL ? v->sentence : ferry_error_text(v->code));
}

static void settle_one(struct replica *r, const struct settled *v, struct store_commit_report *report)
{
	struct set set;

	arena_reset(&r->work);
	if (v->verdict == VERDICT_PARKED) {
		park(r, v, Q_PARK_ADD);
		return;
	}
	gate_run(&r->g, q(r, Q_PARK_DELETE), "i", v->number);
	if (!set_find(r, v->number, &set) || set.state != SET_READY) {
		/* Not in the outbox any more: it was refused, and the hub has merged it after all. */
		if (v->verdict != VERDICT_REJECTED)
			gate_run(&r->g, q(r, Q_REJECT_LIFTED), "i", v->number);
		verdict_change(r, v);
		(void)kept_settle(r, v);
		return;
	}
	kept_add(r, &set, v);
	report->settled++;
	for (uint32_t i = 0; i < v->conflict_count; i++) {
		keep_conflict(r, v->number, &v->conflicts[i]);
		report->conflicts++;
	}
	settle_gone(r, v);
	if (v->verdict == VERDICT_REJECTED) {
		report->rejected++;
		refuse(r, v, &set);
		return;
	}
	verdict_keep(r, &set, v, NULL);
	tell(r, v, false);
	if (!number_list_add(&r->removed, v->number))
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for verdicts.");
	carry_settled(r, v);
}

bool settle_waits_here(const struct settled *v)
{
	return v->verdict == VERDICT_PARKED && v->code == FERRY_KEPT_FULL;
}

enum ferry_error settle_note_waiting(struct replica *r, const struct settled *settled, uint32_t count, struct ferry_why *why)
{
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	for (uint32_t i = 0; i < count; i++) {
		if (settle_waits_here(&settled[i]))
			park(r, &settled[i], Q_PARK_NOTE);
	}
	return replica_end(r, why);
}

/* Fills r->removed: the entries of those go as their rows are rebased. */
void settle_take(struct replica *r, const struct settled *settled, uint32_t count, struct store_commit_report *report)
{
	struct verdict_order *order = calloc((size_t)count + 1, sizeof(*order));
	struct set set;

	carry_begin(r);
	if (order == NULL) {
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for verdicts.");
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		arena_reset(&r->work);
		order[i] = (struct verdict_order){&settled[i], settled[i].number};
		if (set_find(r, settled[i].number, &set) && set.origin != 0)
			order[i].origin = set.origin;
	}
	qsort(order, count, sizeof(*order), compare_verdicts);
	for (uint32_t i = 0; i < count && r->g.error == FERRY_OK; i++)
		settle_one(r, order[i].v, report);
	if (count > 0 && r->g.error == FERRY_OK)
		verdicts_trim(r);
	free(order);
}

static bool any_entry_left(struct replica *r, const struct set *set)
{
	sqlite3_stmt *s = set_entries(r, set, 0);
	bool any = gate_next(&r->g, s);

	if (s != NULL)
		sqlite3_reset(s);
	return any;
}

static void sweep_set(struct replica *r, const struct set *set)
{
	sqlite3_stmt *s = set_entries(r, set, 0);

	while (gate_next(&r->g, s)) {
		struct table *t = model_table(&r->now, (uint32_t)sqlite3_column_int64(s, 1));
		char key[UUID_TEXT] = "";

		memcpy(key, sqlite3_column_text(s, 2), UUID_TEXT - 1);
		if (t != NULL)
			row_rebase(r, t, key);
	}
	former_forget(r, set->number);
	gate_run(&r->g, q(r, Q_DEPEND_DELETE), "i", set->number);
	if (number_list_has(&r->carried, set->number) && any_entry_left(r, set)) {
		gate_run(&r->g, q(r, Q_SET_CARRY), "i", set->number);
		return;
	}
	gate_run(&r->g, q(r, Q_SPLIT_DELETE), "i", set->number);
	gate_run(&r->g, q(r, Q_SET_DELETE), "i", set->number);
}

/* The rows of settled change-sets that no frame spoke of; then the
 * change-sets themselves. */
void settle_sweep(struct replica *r)
{
	for (uint32_t i = 0; i < r->removed.count && r->g.error == FERRY_OK; i++) {
		struct set set;

		arena_reset(&r->work);
		if (set_find(r, r->removed.p[i], &set))
			sweep_set(r, &set);
	}
	carry_forget(r);
	gate_run(&r->g, q(r, Q_SET_FORGET), "");
}

/* ---- What another copy has settled ---- */

static bool is_settled(const struct message_welcome *w, int64_t number)
{
	if (number <= w->settled)
		return true;
	for (uint32_t i = 0; i < w->settled_above_count; i++) {
		if (w->settled_above[i] == number)
			return true;
	}
	return false;
}

static int64_t highest_settled(const struct message_welcome *w)
{
	int64_t highest = w->settled;

	for (uint32_t i = 0; i < w->settled_above_count; i++)
		highest = w->settled_above[i] > highest ? w->settled_above[i] : highest;
	return highest;
}

/* Was the number settled by another copy? A copy that was released cannot know. Any other file
 * has pushed it itself, unless it never pushed so far: then it is older than what the hub knows,
 * be it a copy that was put back or one that lost power before its last writes were on the disk. */
static bool is_strange(const struct replica *r, const struct message_welcome *w, int64_t number)
{
	return is_settled(w, number) && (w->adopted || number > r->st.offered);
}

void settle_strange(struct replica *r, const struct message_welcome *w)
{
	static const char sentence[] = "Another copy of this device has used this number: the change may be at the hub already. "
				       "Retry it if it is not.";
	struct set set = {.number = w->adopted ? 0 : r->st.offered};
	bool any = w->adopted;

	if (w->adopted || highest_settled(w) > r->st.offered)
		cut_rest(r); /* what has a number already is looked at whole */
	r->removed.count = 0;
	while (r->g.error == FERRY_OK) {
		sqlite3_stmt *s = q(r, Q_SET_NEXT);
		int64_t after = set.number;

		arena_reset(&r->work);
		if (!gate_step(&r->g, s, "i", after) || !set_get(r, s, &set))
			break;
		if (!is_strange(r, w, set.number))
			continue;
		any = true;
		reject_rows(r, &set, FERRY_CLONE, sentence, false);
		verdict_keep(r, &set, &(struct settled){.verdict = VERDICT_REJECTED, .code = FERRY_CLONE}, sentence);
		gate_run(&r->g, q(r, Q_REJECT_LOCAL), "i", set.number); /* the hub's verdict on that number is of the other's */
		if (!number_list_add(&r->removed, set.number))
			gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for change-sets.");
	}
	if (!any)
		return;
	settle_sweep(r);
	gate_exec(&r->g, "DELETE FROM ferry_lease"); /* the other copy has them, too */
}

/* ---- Refused before it left ---- */

static void make_empty(struct replica *r, const struct set *set)
{
	const struct set empty = {.number = set->number, .state = SET_READY, .first = 1, .last = 0, .base = set->base,
				  .at = set->at, .origin = set->origin};

	set_save(r, &empty);
}

static bool depends_on_any(const struct set *set, const struct number_list *numbers)
{
	for (uint32_t i = 0; i < set->depends_count; i++) {
		if (number_list_has(numbers, set->depends[i]))
			return true;
	}
	return false;
}

static bool next_ready(struct replica *r, int64_t after, struct set *out)
{
	sqlite3_stmt *s = q(r, Q_SET_NEXT);

	return gate_step(&r->g, s, "i", after) && set_get(r, s, out);
}

/* Those that build on it were never pushed either, for the outbox goes out in
 * order: they follow under new numbers, or are refused with it. */
static void refuse_dependants(struct replica *r, int64_t number, int64_t last, struct number_list *empty)
{
	struct set set;

	for (int64_t after = number; r->g.error == FERRY_OK; after = set.number) {
		struct settled v = {.verdict = VERDICT_REJECTED, .code = FERRY_DEPENDS};

		arena_reset(&r->work);
		if (!next_ready(r, after, &set) || set.number > last)
			return;
		if (!depends_on_any(&set, empty))
			continue;
		v.number = set.number;
		refuse(r, &v, &set);
		if (!number_list_add(empty, set.number))
			gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for verdicts.");
	}
}

/* A value that has no wire form: the change-set is refused here as the hub
 * would refuse it. Its number goes to the hub empty, since numbers have no
 * gaps. */
enum ferry_error refuse_locally(struct replica *r, int64_t number, int code, const char *sentence,
				struct ferry_why *why)
{
	const struct settled v = {.number = number, .verdict = VERDICT_REJECTED, .code = code, .sentence = sentence};
	struct number_list empty = {0};
	struct set set;
	enum ferry_error e = cut_all(r, why);
	int64_t last;

	if (e == FERRY_OK)
		e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	cut_rest(r);
	last = r->st.last_number;
	arena_reset(&r->work);
	r->removed.count = 0;
	if (number_list_add(&empty, number) && set_find(r, number, &set)) {
		refuse(r, &v, &set);
		refuse_dependants(r, number, last, &empty);
	}
	settle_sweep(r);
	/* Those numbers will be accepted, empty: that lifts no refusal. */
	for (uint32_t i = 0; i < empty.count; i++)
		gate_run(&r->g, q(r, Q_REJECT_LOCAL), "i", empty.p[i]);
	for (uint32_t i = 0; i < empty.count; i++)
		make_empty(r, &(struct set){.number = empty.p[i], .base = set.base, .at = set.at, .origin = empty.p[i]});
	cut_rest(r); /* makes the pieces ready */
	free(empty.p);
	return replica_end(r, why);
}
