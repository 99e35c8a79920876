/* R17: values that this device had from the hub and that the hub has lost, for
 * it was restored to an earlier state: kept and shown as "lost by restore",
 * until the hub has them again. What was written by devices mostly comes back
 * with their replays; what somebody wrote at the hub by SQL does not. */
#include <string.h>

#include "agent/replica_internal.h"

#define LOST_ROWS_MAX 100000 /* of a restore; more is not kept */

/* Keys of rows whose confirmed values are not those that are staged. A row
 * with pending edits is told by these. */
static void find_rows(struct replica *r, const struct table *old, const struct table *fresh)
{
	sqlite3_str *s = sqlite3_str_new(NULL);
	char *sql;

	sqlite3_str_appendf(s, "INSERT INTO temp.ferry_lost_key SELECT l.\"%w\", f.\"%w\" IS NOT NULL FROM main.\"%w\" l "
			       "LEFT JOIN \"" FILL_PREFIX "%w\" f ON f.\"%w\" = l.\"%w\" WHERE (f.\"%w\" IS NULL",
			    old->t->key, fresh->t->key, old->t->name, fresh->t->name, fresh->t->key, old->t->key, fresh->t->key);
	for (int i = 0; i < old->t->column_count; i++) {
		int j = table_column(fresh, old->t->columns[i].num);

		if (j >= 0)
			sqlite3_str_appendf(s, " OR l.\"%w\" IS NOT f.\"%w\"", old->t->columns[i].name, fresh->t->columns[j].name);
	}
	sqlite3_str_appendf(s, ") AND NOT EXISTS(SELECT 1 FROM ferry_pending p WHERE p.tbl = %u AND p.key = l.\"%w\") "
			       "LIMIT (SELECT max(0, %d - count(*)) FROM ferry_lost)",
			    old->t->table, old->t->key, LOST_ROWS_MAX);
	sql = sqlite3_str_finish(s);
	gate_exec(&r->g, sql == NULL ? "no memory" : sql);
	sqlite3_free(sql);
}

static void keep_columns(struct replica *r, const struct table *old, const struct table *fresh, const char *now)
{
	for (int i = 0; i < old->t->column_count && r->g.error == FERRY_OK; i++) {
		const char *name = old->t->columns[i].name;
		int j = table_column(fresh, old->t->columns[i].num);

		if (j >= 0)
			gate_execf(&r->g, "INSERT INTO ferry_lost(\"table\", key, what, \"column\", value, at) "
					  "SELECT %Q, k.key, iif(k.there, 'value', 'row'), %Q, l.\"%w\", %Q FROM temp.ferry_lost_key k "
					  "JOIN main.\"%w\" l ON l.\"%w\" = k.key LEFT JOIN \"" FILL_PREFIX "%w\" f ON f.\"%w\" = k.key "
					  "WHERE l.\"%w\" IS NOT f.\"%w\"",
				   old->t->name, name, name, now, old->t->name, old->t->key, fresh->t->name, fresh->t->key, name,
				   fresh->t->columns[j].name);
	}
}

/* Rows that had been deleted, and are back. */
static void keep_deletions(struct replica *r, const struct table *old, const struct table *fresh, const char *now)
{
	gate_execf(&r->g, "INSERT INTO ferry_lost(\"table\", key, what, at) SELECT %Q, f.\"%w\", 'deletion', %Q "
			  "FROM \"" FILL_PREFIX "%w\" f WHERE NOT EXISTS(SELECT 1 FROM main.\"%w\" l WHERE l.\"%w\" = f.\"%w\") "
			  "AND NOT EXISTS(SELECT 1 FROM ferry_pending p WHERE p.tbl = %u AND p.key = f.\"%w\") "
			  "LIMIT (SELECT max(0, %d - count(*)) FROM ferry_lost)",
		   old->t->name, fresh->t->key, now, fresh->t->name, old->t->name, old->t->key, fresh->t->key, old->t->table,
		   fresh->t->key, LOST_ROWS_MAX);
}

void lost_keep(struct replica *r)
{
	char now[TIME_TEXT_MAX];

	time_now(r, now);
	gate_exec(&r->g, "CREATE TEMP TABLE IF NOT EXISTS ferry_lost_key(key TEXT PRIMARY KEY, there INTEGER NOT NULL)");
	for (uint32_t i = 0; i < r->now.schema.table_count && r->g.error == FERRY_OK; i++) {
		const struct table *old = &r->now.tables[i];
		const struct table *fresh = model_table(target_model(r, TARGET_FILL), old->t->table);

		if (fresh == NULL)
			continue;
		staging_make(r, fresh->t);
		gate_exec(&r->g, "DELETE FROM temp.ferry_lost_key");
		find_rows(r, old, fresh);
		keep_columns(r, old, fresh, now);
		keep_deletions(r, old, fresh, now);
	}
	gate_exec(&r->g, "DELETE FROM temp.ferry_lost_key");
	lost_end(r);
}

/* ---- Row by row ---- */

void lost_begin(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_LOST_COUNT);

	r->lost_values = gate_step(&r->g, s, "") ? sqlite3_column_int64(s, 0) : 0;
	if (s != NULL)
		sqlite3_reset(s);
}

static void add_lost(struct replica *r, const struct table *t, const char *key, const char *what, const char *column,
		     const struct cell *value)
{
	char now[TIME_TEXT_MAX];

	if (r->lost_values >= LOST_ROWS_MAX)
		return;
	time_now(r, now);
	gate_run(&r->g, q(r, Q_LOST_ADD), "tttttc", t->t->name, key, what, column, now, value);
	r->lost_any = 1;
	r->lost_values++;
}

void lost_note(struct replica *r, const struct table *t, const char *key, const struct row *before, const struct row *after,
	       uint64_t mine)
{
	const struct cell none = cell_null();

	if (!before->present && after->present && mine != t->all)
		add_lost(r, t, key, "deletion", NULL, &none);
	for (int i = 0; before->present && i < t->t->column_count; i++) {
		const struct cell *is = after->present ? &after->cells[i] : &none;

		if ((mine >> i & 1) == 0 && !cell_equal(&before->cells[i], is))
			add_lost(r, t, key, after->present ? "value" : "row", t->t->columns[i].name, &before->cells[i]);
	}
}

void lost_end(struct replica *r)
{
	gate_run(&r->g, q(r, Q_LOST_CHAFF), "i", (int64_t)KIND_TIMESTAMPTZ);
	r->lost_any = 1;
	r->st.rewound = 0;
}

static bool any_lost(struct replica *r)
{
	sqlite3_stmt *s;

	if (r->lost_any >= 0)
		return r->lost_any > 0;
	s = q(r, Q_LOST_ANY);
	r->lost_any = gate_step(&r->g, s, "") ? sqlite3_column_int(s, 0) : 0;
	if (s != NULL)
		sqlite3_reset(s);
	return r->lost_any > 0;
}

static bool is_back(const struct table *t, sqlite3_stmt *s, const struct row *row, uint64_t mask)
{
	const char *what = (const char *)sqlite3_column_text(s, 1), *column = (const char *)sqlite3_column_text(s, 2);
	struct cell was = cell_column(s, 3);

	if (strcmp(what, "deletion") == 0)
		return !row->present;
	for (int i = 0; row->present && column != NULL && i < t->t->column_count; i++) {
		if (strcmp(t->t->columns[i].name, column) == 0)
			return (mask >> i & 1) != 0 && cell_equal(&row->cells[i], &was);
	}
	return false;
}

void lost_found(struct replica *r, const struct table *t, const char *key, const struct row *row, uint64_t mask)
{
	sqlite3_stmt *s;
	bool back = false, there = false;

	if (!any_lost(r))
		return;
	s = q(r, Q_LOST_ROW);
	for (bool more = gate_step(&r->g, s, "tt", t->t->name, key); more; more = gate_next(&r->g, s)) {
		there = there || (row->present && strcmp((const char *)sqlite3_column_text(s, 1), "row") == 0);
		if (!is_back(t, s, row, mask))
			continue;
		gate_run(&r->g, q(r, Q_LOST_DELETE), "i", sqlite3_column_int64(s, 0));
		back = true;
	}
	if (s != NULL)
		sqlite3_reset(s);
	if (there) /* the row is back with other values: these alone are lost */
		gate_run(&r->g, q(r, Q_LOST_ROW_THERE), "tt", t->t->name, key);
	if (back || there)
		gate_run(&r->g, q(r, Q_LOST_ROW_CHAFF), "tti", t->t->name, key, (int64_t)KIND_TIMESTAMPTZ);
}
