#include "agent/replica_repair.h"

#include <string.h>

#include "agent/replica_internal.h"
#include "shared/policy.h"

#define REPAIR_COLUMNS_MAX (FERRY_COLUMNS_MAX + 1)

struct repair { /* one row of ferry_repair under way */
	struct gate *g;
	struct arena *a;
	int64_t id, target;
	bool of_conflict;
	const char *action;
};

struct values { /* columns and what they shall hold */
	const char *names[REPAIR_COLUMNS_MAX];
	struct cell cells[REPAIR_COLUMNS_MAX];
	int count;
};

bool replica_repair_due(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_REPAIR_DUE);
	bool due = s != NULL && sqlite3_step(s) == SQLITE_ROW;

	if (s != NULL)
		sqlite3_reset(s);
	return due;
}

/* ---- SQL on tables whose names are data ---- */

static const char *text_of(struct repair *p, sqlite3_stmt *s, int column)
{
	const char *text = (const char *)sqlite3_column_text(s, column);

	return text == NULL ? NULL : arena_text(p->a, text, strlen(text));
}

/* The key column of a synced table; NULL: there is none of that name. */
static const char *key_of(struct repair *p, const char *table)
{
	sqlite3_stmt *s = NULL;
	const char *key = NULL;

	(void)gate_statement(p->g, &s, "SELECT key FROM ferry_table WHERE gen = 0 AND name = ?1");
	if (gate_step(p->g, s, "t", table))
		key = text_of(p, s, 0);
	else
		gate_fail(p->g, FERRY_UNKNOWN_TABLE, "The table %.80s is no more.", table);
	gate_finalize(&s);
	return key;
}

static sqlite3_stmt *prepare(struct repair *p, sqlite3_str *sql)
{
	char *text = sqlite3_str_finish(sql);
	sqlite3_stmt *s = NULL;

	if (text == NULL)
		gate_fail(p->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		(void)gate_statement(p->g, &s, text);
	sqlite3_free(text);
	return s;
}

/* Runs it with the values, and then the key, bound; rows it changed. */
static int run_values(struct repair *p, sqlite3_str *sql, const struct values *v, const char *key)
{
	sqlite3_stmt *s = prepare(p, sql);
	struct cell k = {.type = SQLITE_TEXT, .n = (uint32_t)strlen(key), .p = (const uint8_t *)key};
	int changed = 0;

	if (s != NULL) {
		for (int i = 0; i < v->count; i++)
			cell_bind(s, i + 1, &v->cells[i]);
		cell_bind(s, v->count + 1, &k);
		gate_run(p->g, s, "");
		changed = sqlite3_changes(p->g->db);
	}
	gate_finalize(&s);
	return p->g->error == FERRY_OK ? changed : 0;
}

static void insert_row(struct repair *p, const char *table, const char *key, const struct values *v)
{
	const char *key_column = key_of(p, table);
	sqlite3_str *sql = sqlite3_str_new(p->g->db);

	if (key_column != NULL) {
		sqlite3_str_appendf(sql, "INSERT INTO \"%w\"(", table);
		for (int i = 0; i < v->count; i++)
			sqlite3_str_appendf(sql, "\"%w\", ", v->names[i]);
		sqlite3_str_appendf(sql, "\"%w\") VALUES (", key_column);
		for (int i = 0; i < v->count; i++)
			sqlite3_str_appendf(sql, "?%d, ", i + 1);
		sqlite3_str_appendf(sql, "?%d)", v->count + 1);
		(void)run_values(p, sql, v, key);
		return;
	}
	sqlite3_free(sqlite3_str_finish(sql));
}

/* False: there is no such row. */
static bool update_row(struct repair *p, const char *table, const char *key, const struct values *v)
{
	const char *key_column = key_of(p, table);
	sqlite3_str *sql = sqlite3_str_new(p->g->db);

	if (key_column == NULL || v->count == 0) {
		sqlite3_free(sqlite3_str_finish(sql));
		return true;
	}
	sqlite3_str_appendf(sql, "UPDATE \"%w\" SET ", table);
	for (int i = 0; i < v->count; i++)
		sqlite3_str_appendf(sql, "%s\"%w\" = ?%d", i ? ", " : "", v->names[i], i + 1);
	sqlite3_str_appendf(sql, " WHERE \"%w\".\"%w\" = ?%d", table, key_column, v->count + 1);
	return run_values(p, sql, v, key) > 0;
}

static bool delete_row(struct repair *p, const char *table, const char *key)
{
	static const struct values none = {.count = 0};
	const char *key_column = key_of(p, table);
	sqlite3_str *sql = sqlite3_str_new(p->g->db);

	if (key_column == NULL) {
		sqlite3_free(sqlite3_str_finish(sql));
		return true;
	}
	sqlite3_str_appendf(sql, "DELETE FROM \"%w\" WHERE \"%w\".\"%w\" = ?1", table, table, key_column);
	return run_values(p, sql, &none, key) > 0;
}

static bool row_exists(struct repair *p, const char *table, const char *key)
{
	const char *key_column = key_of(p, table);
	sqlite3_str *sql = sqlite3_str_new(p->g->db);
	sqlite3_stmt *s;
	bool exists;

	sqlite3_str_appendf(sql, "SELECT 1 FROM \"%w\" WHERE \"%w\".\"%w\" = ?1", table, table, key_column ? key_column : "");
	s = prepare(p, sql);
	exists = gate_step(p->g, s, "t", key);
	gate_finalize(&s);
	return exists;
}

/* A transaction of one purpose: never taken apart (R5). */
static void mark(struct repair *p, const char *note)
{
	sqlite3_stmt *s = NULL;

	(void)gate_statement(p->g, &s, "INSERT INTO ferry_tx(note) VALUES (?1)");
	gate_run(p->g, s, "t", note);
	gate_finalize(&s);
}

/* ---- Conflicts ---- */

struct clash { /* a row of ferry_conflict */
	const char *kind, *table, *key, *column;
	struct cell mine, theirs;
	int64_t number;
};

static bool clash_read(struct repair *p, struct clash *c)
{
	sqlite3_stmt *s = NULL;
	bool found;

	(void)gate_statement(p->g, &s, "SELECT kind, \"table\", key, \"column\", device_value, hub_value, number "
				       "FROM ferry_conflict WHERE id = ?1");
	found = gate_step(p->g, s, "i", p->target);
	if (found)
		*c = (struct clash){.kind = text_of(p, s, 0), .table = text_of(p, s, 1), .key = text_of(p, s, 2),
				    .column = text_of(p, s, 3), .mine = cell_keep(p->a, s, 4),
				    .theirs = cell_keep(p->a, s, 5), .number = sqlite3_column_int64(s, 6)};
	else
		gate_fail(p->g, FERRY_NOT_FOUND, "There is no conflict %lld.", (long long)p->target);
	gate_finalize(&s);
	return found && p->g->error == FERRY_OK;
}

/* All that the hub kept of the row that this device deleted. */
static void insert_theirs(struct repair *p, const struct clash *c)
{
	struct values *v = arena_alloc(p->a, sizeof(*v));
	sqlite3_stmt *s = NULL;

	if (v == NULL) {
		gate_fail(p->g, FERRY_NO_MEMORY, "No memory for a row.");
		return;
	}
	v->count = 0;
	(void)gate_statement(p->g, &s, "SELECT \"column\", hub_value FROM ferry_conflict WHERE number = ?1 AND \"table\" = ?2 "
				       "AND key = ?3 AND kind = 'delete_update' AND \"column\" IS NOT NULL ORDER BY id");
	for (bool more = gate_step(p->g, s, "itt", c->number, c->table, c->key); more && v->count < REPAIR_COLUMNS_MAX;
	     more = gate_next(p->g, s)) {
		v->names[v->count] = text_of(p, s, 0);
		v->cells[v->count++] = cell_keep(p->a, s, 1);
	}
	gate_finalize(&s);
	insert_row(p, c->table, c->key, v);
}

static void choose(struct repair *p, const struct clash *c, bool theirs)
{
	bool deletion = strcmp(c->kind, theirs ? "update_delete" : "delete_update") == 0;
	struct values v = {.count = 1, .names = {c->column}, .cells = {theirs ? c->theirs : c->mine}};

	if (deletion) {
		(void)delete_row(p, c->table, c->key); /* gone is gone */
		return;
	}
	if (c->column == NULL ? row_exists(p, c->table, c->key) : update_row(p, c->table, c->key, &v))
		return;
	if (p->g->error == FERRY_OK && theirs && strcmp(c->kind, "delete_update") == 0 && c->column != NULL)
		insert_theirs(p, c);
	else
		gate_fail(p->g, FERRY_NOT_FOUND, "The row is deleted: insert it again, then dismiss the conflict.");
}

#define CONFLICTS_OF \
	"(id = ?1 OR ('take theirs' = ?2 AND (number, \"table\", key, kind) = " \
	"(SELECT number, \"table\", key, kind FROM ferry_conflict WHERE id = ?1 AND kind = 'delete_update')))"

/* One deletion's values are one conflict to a person. */
static void forget_conflict(struct repair *p)
{
	sqlite3_stmt *keep = NULL, *drop = NULL;

	(void)gate_statement(p->g, &keep,
			     "UPDATE ferry_repair SET kept = (SELECT json_group_array(json_object('kind', kind, 'winner', winner, "
			     "'table', \"table\", 'key', key, 'column', \"column\", "
			     "'device_value', iif(typeof(device_value) = 'blob', '\\x' || lower(hex(device_value)), device_value), "
			     "'hub_value', iif(typeof(hub_value) = 'blob', '\\x' || lower(hex(hub_value)), hub_value), "
			     "'other_device', other_device)) FROM ferry_conflict WHERE " CONFLICTS_OF ") WHERE id = ?3");
	gate_run(p->g, keep, "iti", p->target, p->action, p->id);
	(void)gate_statement(p->g, &drop, "DELETE FROM ferry_conflict WHERE id IN (SELECT id FROM ferry_conflict WHERE " CONFLICTS_OF ")");
	gate_run(p->g, drop, "it", p->target, p->action);
	gate_finalize(&keep);
	gate_finalize(&drop);
}

static void repair_conflict(struct repair *p)
{
	struct clash c;

	if (!clash_read(p, &c))
		return;
	if (strcmp(p->action, "dismiss") != 0) {
		choose(p, &c, strcmp(p->action, "take theirs") == 0);
		mark(p, p->action);
	}
	forget_conflict(p);
}

/* ---- Refused change-sets ---- */

static int hex_digit(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Bytes stand in JSON as PostgreSQL prints them. */
static void unhex(struct repair *p, struct cell *c)
{
	uint32_t n = c->n / 2 - 1;
	uint8_t *bytes;

	if (c->type != SQLITE_TEXT || c->n < 2 || c->n % 2 != 0 || c->p[0] != '\\' || c->p[1] != 'x')
		return;
	bytes = arena_alloc(p->a, (size_t)n + 1);
	for (uint32_t i = 0; bytes != NULL && i < n; i++) {
		int high = hex_digit(c->p[2 * i + 2]), low = hex_digit(c->p[2 * i + 3]);

		if (high < 0 || low < 0)
			return;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	if (bytes == NULL)
		gate_fail(p->g, FERRY_NO_MEMORY, "No memory for a value.");
	else
		*c = (struct cell){.type = SQLITE_BLOB, .n = n, .p = bytes};
}

/* `values` of ferry_rejected, which a person may have edited. */
static void read_values(struct repair *p, const char *table, const char *json, struct values *v)
{
	sqlite3_stmt *s = NULL;

	v->count = 0;
	(void)gate_statement(p->g, &s, "SELECT e.key, e.value, c.kind FROM json_each(?1) e LEFT JOIN ferry_table t ON t.gen = 0 "
				       "AND t.name = ?2 LEFT JOIN ferry_column c ON c.gen = 0 AND c.tbl = t.tbl AND c.name = e.key");
	for (bool more = gate_step(p->g, s, "tt", json, table); more; more = gate_next(p->g, s)) {
		if (v->count == REPAIR_COLUMNS_MAX) {
			gate_fail(p->g, FERRY_LIMIT, "More columns than a table may have.");
			break;
		}
		v->names[v->count] = text_of(p, s, 0);
		v->cells[v->count] = cell_keep(p->a, s, 1);
		if (sqlite3_column_type(s, 2) != SQLITE_NULL && sqlite3_column_int(s, 2) == KIND_BYTES)
			unhex(p, &v->cells[v->count]);
		v->count++;
	}
	gate_finalize(&s);
}

/* What the row has in a column; NULL: the row is not there. */
static const struct cell *present_cell(struct repair *p, const char *table, const char *key, const char *column)
{
	const char *key_column = key_of(p, table);
	sqlite3_str *sql = sqlite3_str_new(p->g->db);
	struct cell *out = NULL;
	sqlite3_stmt *s;

	sqlite3_str_appendf(sql, "SELECT \"%w\".\"%w\" FROM \"%w\" WHERE \"%w\".\"%w\" = ?1", table, column, table, table,
			    key_column != NULL ? key_column : "");
	s = prepare(p, sql);
	if (s != NULL && gate_step(p->g, s, "t", key)) {
		out = arena_alloc(p->a, sizeof(*out));
		if (out != NULL)
			*out = cell_keep(p->a, s, 0);
		else
			gate_fail(p->g, FERRY_NO_MEMORY, "No memory for a value.");
	}
	gate_finalize(&s);
	return out;
}

static struct cell *value_named(struct values *v, const char *column)
{
	for (int i = 0; i < v->count; i++) {
		if (strcmp(v->names[i], column) == 0)
			return &v->cells[i];
	}
	return NULL;
}

/* What the difference comes to over the row as it is now; where there is none, the value stays. */
static void lay_over(struct repair *p, const char *column, enum column_policy policy, enum column_kind kind, const struct cell *old,
		     const struct cell *present, struct cell *value)
{
	struct policy_edit e = {.mine_wins = true};
	struct value merged;
	enum policy_outcome outcome;
	int code;

	if (!cell_to_value(p->a, kind, old, &e.old, &code) || !cell_to_value(p->a, kind, value, &e.mine, &code) ||
	    !cell_to_value(p->a, kind, present, &e.theirs, &code))
		return;
	outcome = policy_merge(p->a, policy, kind, &e, &merged);
	if (outcome == POLICY_FULL)
		gate_fail(p->g, FERRY_LIMIT, "A value is too large to be merged.");
	else if (outcome == POLICY_MERGED || outcome == POLICY_OVERLAP)
		*value = value_to_cell(p->a, kind, &merged);
	else if (!cell_equal(present, old))
		gate_fail(p->g, FERRY_USAGE, "What was made of %.80s does not go with what stands there now: give another value, or leave it out.", column);
}

/* R2: a difference is one however late it is tried again. A value that a person has put in the place
 * of the refused one is what he wants. */
static void lay_differences(struct repair *p, const char *table, const char *key, const char *json, struct values *v)
{
	sqlite3_stmt *s = NULL;

	(void)gate_statement(p->g, &s, "SELECT e.key, json_extract(e.value, '$[0]'), json_extract(e.value, '$[1]'), c.policy, c.kind "
				       "FROM json_each(?1) e JOIN ferry_table t ON t.gen = 0 AND t.name = ?2 "
				       "JOIN ferry_column c ON c.gen = 0 AND c.tbl = t.tbl AND c.name = e.key");
	for (bool more = gate_step(p->g, s, "tt", json, table); more; more = gate_next(p->g, s)) {
		const char *column = text_of(p, s, 0);
		struct cell old = cell_keep(p->a, s, 1), made = cell_keep(p->a, s, 2);
		struct cell *value = column == NULL ? NULL : value_named(v, column);
		const struct cell *present = value != NULL && cell_equal(value, &made) ? present_cell(p, table, key, column) : NULL;

		if (present != NULL)
			lay_over(p, column, (enum column_policy)sqlite3_column_int(s, 3), (enum column_kind)sqlite3_column_int(s, 4), &old,
				 present, value);
	}
	gate_finalize(&s);
}

static void retry_row(struct repair *p, sqlite3_stmt *s)
{
	const char *table = text_of(p, s, 0), *key = text_of(p, s, 1), *op = text_of(p, s, 2), *json = text_of(p, s, 3);
	const char *differences = text_of(p, s, 5);
	struct values *v = arena_alloc(p->a, sizeof(*v));

	if (table == NULL || key == NULL || op == NULL || json == NULL || v == NULL) {
		gate_fail(p->g, FERRY_NO_MEMORY, "No memory for a row.");
		return;
	}
	if (strcmp(op, "delete") == 0) {
		if (!delete_row(p, table, key))
			gate_fail(p->g, FERRY_NOT_FOUND, "The row of %.80s is deleted already: discard this one.", table);
		return;
	}
	read_values(p, table, json, v);
	if (strcmp(op, "update") == 0 && differences != NULL)
		lay_differences(p, table, key, differences, v);
	if (strcmp(op, "insert") == 0)
		insert_row(p, table, key, v);
	else if (!update_row(p, table, key, v))
		gate_fail(p->g, FERRY_NOT_FOUND, "The row of %.80s is deleted: its values cannot be put back alone.", table);
}

/* All rows again, in the order they were made: parents before children. */
static void retry(struct repair *p)
{
	sqlite3_stmt *s = NULL;
	const char *note = NULL;
	bool any = false;

	(void)gate_statement(p->g, &s, "SELECT \"table\", key, op, \"values\", note, differences FROM ferry_rejected WHERE number = ?1 ORDER BY id");
	for (bool more = gate_step(p->g, s, "i", p->target); more; more = gate_next(p->g, s)) {
		any = true;
		note = text_of(p, s, 4) != NULL ? text_of(p, s, 4) : note;
		retry_row(p, s);
	}
	gate_finalize(&s);
	if (any)
		mark(p, note != NULL ? note : "retry");
}

/* ---- Merged into another row ---- */

/* What an update of the other row must not touch: what the hub alone writes,
 * and numbers, which are given once. And NULLs: they say nothing here. */
static void leave_out(struct repair *p, const char *table, struct values *v)
{
	sqlite3_stmt *s = NULL;
	int kept = 0;

	(void)gate_statement(p->g, &s, "SELECT 1 FROM ferry_table t JOIN ferry_column c ON c.gen = 0 AND c.tbl = t.tbl WHERE t.gen = 0 "
				       "AND t.name = ?1 AND c.name = ?2 AND (c.read_only OR c.policy = ?3)");
	for (int i = 0; i < v->count; i++) {
		bool fixed = gate_step(p->g, s, "tti", table, v->names[i], (int64_t)POLICY_SEQUENCE);

		if (s != NULL)
			sqlite3_reset(s);
		if (fixed || v->cells[i].type == SQLITE_NULL)
			continue;
		v->names[kept] = v->names[i];
		v->cells[kept++] = v->cells[i];
	}
	v->count = kept;
	gate_finalize(&s);
}

/* What refers to `mine`, here and among the refused, refers to `other` now. */
static void point_to(struct repair *p, const char *table, const char *mine, const char *other)
{
	sqlite3_stmt *s = NULL;

	(void)gate_statement(p->g, &s, "SELECT t.name, c.name FROM ferry_table o JOIN ferry_column c ON c.gen = 0 AND c.ref_table = o.tbl "
				       "JOIN ferry_table t ON t.gen = 0 AND t.tbl = c.tbl AND t.writable "
				       "WHERE o.gen = 0 AND o.name = ?1 AND NOT c.read_only");
	for (bool more = gate_step(p->g, s, "t", table); more; more = gate_next(p->g, s)) {
		const char *child = text_of(p, s, 0), *column = text_of(p, s, 1);
		sqlite3_stmt *refused = NULL, *rows = NULL;
		sqlite3_str *sql = sqlite3_str_new(p->g->db);

		sqlite3_str_appendf(sql, "UPDATE \"%w\" SET \"%w\" = ?1 WHERE \"%w\".\"%w\" = ?2", child, column, child, column);
		rows = prepare(p, sql);
		gate_run(p->g, rows, "tt", other, mine);
		(void)gate_statement(p->g, &refused, "UPDATE ferry_rejected SET \"values\" = json_set(\"values\", '$.\"' || ?3 || '\"', ?4) "
						     "WHERE \"table\" = ?1 AND json_extract(\"values\", '$.\"' || ?3 || '\"') = ?2");
		gate_run(p->g, refused, "tttt", child, mine, column, other);
		gate_finalize(&rows);
		gate_finalize(&refused);
	}
	gate_finalize(&s);
}

/* The refused insert becomes an update of the row that has its unique value. */
static bool merge_row(struct repair *p)
{
	struct values *v = arena_alloc(p->a, sizeof(*v));
	const char *table = NULL, *mine = NULL, *other = NULL, *json = NULL;
	sqlite3_stmt *s = NULL;

	(void)gate_statement(p->g, &s, "SELECT \"table\", key, other, \"values\" FROM ferry_rejected WHERE number = ?1 AND other IS NOT NULL");
	if (gate_step(p->g, s, "i", p->target)) {
		table = text_of(p, s, 0);
		mine = text_of(p, s, 1);
		other = text_of(p, s, 2);
		json = text_of(p, s, 3);
	}
	gate_finalize(&s);
	if (v == NULL || json == NULL || other == NULL) {
		gate_fail(p->g, FERRY_NOT_FOUND, "Change-set %lld has no row that may be merged into another.", (long long)p->target);
		return false;
	}
	read_values(p, table, json, v);
	leave_out(p, table, v);
	if (!row_exists(p, table, other) || !update_row(p, table, other, v)) {
		gate_fail(p->g, FERRY_NOT_FOUND, "The other row of %.80s is not here (any more): retry with another value.", table);
		return false;
	}
	point_to(p, table, mine, other);
	return p->g->error == FERRY_OK;
}

static void write_again(struct repair *p, int64_t number)
{
	sqlite3_stmt *s = NULL;

	(void)gate_statement(p->g, &s, "SELECT \"table\", key, op, \"values\", note, differences FROM ferry_rejected WHERE number = ?1 AND other IS NULL ORDER BY id");
	for (bool more = gate_step(p->g, s, "i", number); more; more = gate_next(p->g, s))
		retry_row(p, s);
	gate_finalize(&s);
}

/* With all else of its change-set, and what was refused for building on it. */
static void merge(struct repair *p)
{
	sqlite3_stmt *s = NULL, *drop = NULL;

	if (!merge_row(p))
		return;
	write_again(p, p->target);
	(void)gate_statement(p->g, &s, "SELECT DISTINCT number FROM ferry_rejected WHERE blocked_by = ?1 ORDER BY number");
	for (bool more = gate_step(p->g, s, "i", p->target); more; more = gate_next(p->g, s))
		write_again(p, sqlite3_column_int64(s, 0));
	gate_finalize(&s);
	(void)gate_statement(p->g, &drop, "DELETE FROM ferry_rejected WHERE blocked_by = ?1");
	gate_run(p->g, drop, "i", p->target);
	gate_finalize(&drop);
	mark(p, "merge");
}

static void repair_rejected(struct repair *p)
{
	sqlite3_stmt *keep = NULL, *drop = NULL;

	(void)gate_statement(p->g, &keep,
			     "UPDATE ferry_repair SET kept = (SELECT json_group_array(json_object('number', number, 'name', name, "
			     "'sentence', sentence, 'table', \"table\", 'key', key, 'op', op, 'values', json(\"values\"))) "
			     "FROM ferry_rejected WHERE number = ?1) WHERE id = ?2 "
			     "AND EXISTS (SELECT 1 FROM ferry_rejected WHERE number = ?1)");
	gate_run(p->g, keep, "ii", p->target, p->id);
	if (p->g->error == FERRY_OK && sqlite3_changes(p->g->db) == 0)
		gate_fail(p->g, FERRY_NOT_FOUND, "There is no refused change-set %lld.", (long long)p->target);
	if (strcmp(p->action, "retry") == 0)
		retry(p);
	else if (strcmp(p->action, "merge") == 0)
		merge(p);
	(void)gate_statement(p->g, &drop, "DELETE FROM ferry_rejected WHERE number = ?1");
	gate_run(p->g, drop, "i", p->target);
	gate_finalize(&keep);
	gate_finalize(&drop);
}

/* ---- One after the other ---- */

void repair_carry_out(struct gate *g, struct arena *a, int64_t id, const char *action, bool of_conflict, int64_t target)
{
	struct repair p = {.g = g, .a = a, .id = id, .target = target, .of_conflict = of_conflict, .action = action};
	sqlite3_stmt *done = NULL;

	if (of_conflict)
		repair_conflict(&p);
	else
		repair_rejected(&p);
	if (a->full)
		gate_fail(g, FERRY_LIMIT, "The values are too large to be written again in one piece.");
	(void)gate_statement(g, &done, "UPDATE ferry_repair SET done_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = ?1");
	gate_run(g, done, "i", id);
	gate_finalize(&done);
}

/* The transaction of one repair; *out_found false: nothing was left to do. */
static enum ferry_error repair_next(struct gate *g, struct arena *a, int64_t *out_id, bool *out_found, struct ferry_why *why)
{
	struct repair p = {.g = g, .a = a};
	sqlite3_stmt *s = NULL;
	enum ferry_error e = gate_begin(g, why);

	*out_found = false;
	if (e != FERRY_OK)
		return e;
	arena_reset(a);
	(void)gate_statement(g, &s, "SELECT id, action, conflict, rejected FROM ferry_repair WHERE done_at IS NULL ORDER BY id LIMIT 1");
	if (gate_step(g, s, "")) {
		*out_id = p.id = sqlite3_column_int64(s, 0);
		*out_found = true;
		p.action = text_of(&p, s, 1);
		p.of_conflict = sqlite3_column_type(s, 2) != SQLITE_NULL;
		p.target = sqlite3_column_int64(s, p.of_conflict ? 2 : 3);
	}
	gate_finalize(&s);
	if (p.action && g->error == FERRY_OK)
		repair_carry_out(g, a, p.id, p.action, p.of_conflict, p.target);
	return gate_end(g, why);
}

static enum ferry_error note_failure(struct gate *g, int64_t id, const char *sentence, struct ferry_why *why)
{
	sqlite3_stmt *s = NULL;
	enum ferry_error e = gate_begin(g, why);

	if (e != FERRY_OK)
		return e;
	(void)gate_statement(g, &s, "UPDATE ferry_repair SET done_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), error = ?2 WHERE id = ?1");
	gate_run(g, s, "it", id, sentence);
	gate_finalize(&s);
	return gate_end(g, why);
}

/* The machine's trouble, not the repair's: it is tried again. */
static bool is_passing(enum ferry_error e)
{
	return e == FERRY_BUSY || e == FERRY_NO_SPACE || e == FERRY_IO || e == FERRY_CORRUPT || e == FERRY_NO_MEMORY;
}

enum ferry_error replica_repair(const char *path, int busy_ms, int *out_done, struct ferry_why *why)
{
	struct gate g;
	struct arena a;
	bool found = true;
	enum ferry_error e = gate_open(&g, path, SQLITE_OPEN_READWRITE, busy_ms, why);

	if (e != FERRY_OK)
		return e;
	g.asked = true;
	*out_done = 0;
	if (replica_layout(&g) != REPLICA_LAYOUT) { /* what is asked for stays so until an agent has brought the file up to date */
		gate_close(&g);
		return ferry_fail(why, FERRY_USAGE, REPLICA_OTHER_LAYOUT, path);
	}
	gate_as_apps(&g, true);
	arena_init(&a, REPLICA_WORK_BYTES_MAX);
	for (; e == FERRY_OK && found && *out_done < REPAIRS_MAX; *out_done += found) {
		struct ferry_why what = {{0}};
		int64_t id = 0;

		e = repair_next(&g, &a, &id, &found, &what);
		if (e != FERRY_OK && !is_passing(e) && found)
			e = note_failure(&g, id, what.text, why);
		else if (e != FERRY_OK)
			e = ferry_fail(why, e, "%s", what.text);
	}
	arena_deinit(&a);
	gate_close(&g);
	return e;
}
