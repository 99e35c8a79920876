/* The tracked tables: their schema in ferry_table, ferry_column and
 * ferry_label, their DDL, and the triggers that capture what apps write. */
#include <string.h>

#include "agent/replica_internal.h"

#define AT_NOW "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

/* Columns of one update trigger. An UPDATE of one column pays for comparing so
 * many; one of all columns writes an entry for each trigger that finds a
 * change, which the cut puts together again (REPLICA.md, Capture). */
#define UPDATE_COLUMNS 5u

/* ---- In memory ---- */

static const char *text_of(struct arena *a, sqlite3_stmt *s, int i)
{
	const char *p = (const char *)sqlite3_column_text(s, i);

	return p == NULL ? NULL : arena_text(a, p, (size_t)sqlite3_column_bytes(s, i));
}

/* The statements of a loading, prepared once for all tables. */
struct loading {
	struct replica *r;
	struct model *m;
	int gen;
	sqlite3_stmt *columns, *labels;
};

static struct schema_column *column_numbered(struct schema_column *columns, uint32_t count, int num)
{
	for (uint32_t i = 0; i < count; i++) {
		if (columns[i].num == num)
			return &columns[i];
	}
	return NULL;
}

static void load_filled(struct model *m, sqlite3_stmt *s, struct schema_column *c)
{
	struct cell cell = cell_keep(&m->arena, s, 9);
	int code;

	if (!cell_to_value(&m->arena, c->kind, &cell, &c->filled, &code))
		c->filled = value_null();
}

static void load_labels(struct loading *l, const struct schema_table *t, struct schema_column *columns)
{
	struct gate *g = &l->r->g;
	sqlite3_stmt *s = gate_statement(g, &l->labels, "SELECT num, label, count(*) OVER (PARTITION BY num) FROM ferry_label "
							"WHERE gen = ?1 AND tbl = ?2 ORDER BY num, i");
	struct schema_column *c = NULL;
	const char **labels = NULL;

	for (bool more = gate_step(g, s, "ii", (int64_t)l->gen, (int64_t)t->table); more; more = gate_next(g, s)) {
		if (c == NULL || c->num != sqlite3_column_int(s, 0)) {
			c = column_numbered(columns, t->column_count, sqlite3_column_int(s, 0));
			labels = arena_array(&l->m->arena, (size_t)sqlite3_column_int64(s, 2), sizeof(*labels));
			if (c != NULL)
				c->labels = labels;
		}
		if (c != NULL && labels != NULL)
			labels[c->label_count++] = text_of(&l->m->arena, s, 1);
	}
}

static void load_columns(struct loading *l, struct schema_table *t)
{
	struct arena *a = &l->m->arena;
	struct schema_column *columns = arena_array(a, FERRY_COLUMNS_MAX, sizeof(*columns));
	struct gate *g = &l->r->g;
	sqlite3_stmt *s = gate_statement(g, &l->columns, "SELECT num, name, kind, not_null, read_only, has_default, default_sql, "
							 "ref_table, policy, filled, lease FROM ferry_column WHERE gen = ?1 AND tbl = ?2 ORDER BY num");

	if (columns == NULL)
		return;
	for (bool more = gate_step(g, s, "ii", (int64_t)l->gen, (int64_t)t->table);
	     more && t->column_count < FERRY_COLUMNS_MAX; more = gate_next(g, s)) {
		columns[t->column_count++] = (struct schema_column){
			.num = (uint16_t)sqlite3_column_int(s, 0), .name = text_of(a, s, 1),
			.kind = (enum column_kind)sqlite3_column_int(s, 2), .not_null = sqlite3_column_int(s, 3) != 0,
			.read_only = sqlite3_column_int(s, 4) != 0, .has_default = sqlite3_column_int(s, 5) != 0,
			.default_sql = text_of(a, s, 6), .ref_table = (uint32_t)sqlite3_column_int64(s, 7),
			.policy = (enum column_policy)sqlite3_column_int(s, 8),
			.lease = (uint32_t)sqlite3_column_int64(s, 10)};
		load_filled(l->m, s, &columns[t->column_count - 1]);
	}
	load_labels(l, t, columns);
	t->columns = columns;
}

static void describe(struct table *t)
{
	for (uint32_t i = 0; i < t->t->column_count; i++) {
		uint64_t bit = UINT64_C(1) << i;

		t->all |= bit;
		if (!t->t->columns[i].read_only && t->t->writable)
			t->writable |= bit;
		if (t->t->columns[i].ref_table != 0)
			t->refs |= bit;
		if (policy_takes_old(t->t->columns[i].policy))
			t->differs |= bit;
	}
	t->side[TARGET_LIVE].explicit_members = -1;
	t->side[TARGET_FILL].explicit_members = -1;
}

void model_finalize(struct model *m)
{
	for (uint32_t i = 0; i < m->schema.table_count; i++) {
		for (int side = 0; side < 2; side++) {
			gate_finalize(&m->tables[i].side[side].select);
			gate_finalize(&m->tables[i].side[side].insert);
			for (int k = 0; k < COLUMN_SETS_KEPT; k++) {
				gate_finalize(&m->tables[i].side[side].sets[k].select);
				gate_finalize(&m->tables[i].side[side].sets[k].update);
			}
			gate_finalize(&m->tables[i].side[side].remove);
		}
	}
}

void model_close(struct model *m)
{
	model_finalize(m);
	arena_deinit(&m->arena);
	m->schema = (struct schema){0};
	m->tables = NULL;
}

static int64_t step_of(struct replica *r, int gen)
{
	sqlite3_stmt *s = NULL;
	int64_t step = 0;

	gate_statement(&r->g, &s, "SELECT step FROM ferry_schema WHERE gen = ?1");
	if (gate_step(&r->g, s, "i", (int64_t)gen))
		step = sqlite3_column_int64(s, 0);
	gate_finalize(&s);
	return step;
}

static uint64_t next_hash(struct replica *r)
{
	sqlite3_stmt *s = NULL;
	uint64_t hash = 0;

	if (gate_step(&r->g, gate_statement(&r->g, &s, "SELECT next_hash FROM ferry_state"), ""))
		hash = (uint64_t)sqlite3_column_int64(s, 0);
	gate_finalize(&s);
	return hash;
}

void model_load(struct replica *r, struct model *m, int gen)
{
	sqlite3_stmt *s = NULL;
	struct schema_table *tables = NULL;
	struct loading l = {.r = r, .m = m, .gen = gen};
	uint32_t n = 0, count;

	model_close(m);
	arena_init(&m->arena, 16u << 20);
	gate_statement(&r->g, &s, "SELECT tbl, name, key, key_num, writable, rank, scope, fill_scope, "
				  "(SELECT count(*) FROM ferry_table WHERE gen = ?1) FROM ferry_table WHERE gen = ?1 ORDER BY tbl");
	for (bool more = gate_step(&r->g, s, "i", (int64_t)gen); more; more = gate_next(&r->g, s), n++) {
		if (tables == NULL) {
			count = (uint32_t)sqlite3_column_int64(s, 8);
			tables = arena_array(&m->arena, count, sizeof(*tables));
			m->tables = arena_array(&m->arena, count, sizeof(*m->tables));
		}
		if (tables == NULL || m->tables == NULL)
			break;
		tables[n] = (struct schema_table){
			.table = (uint32_t)sqlite3_column_int64(s, 0), .name = text_of(&m->arena, s, 1),
			.key = text_of(&m->arena, s, 2), .key_num = (uint16_t)sqlite3_column_int(s, 3),
			.writable = sqlite3_column_int(s, 4) != 0, .rank = (uint32_t)sqlite3_column_int64(s, 5)};
		m->tables[n].t = &tables[n];
		m->tables[n].side[TARGET_LIVE].main_scope = sqlite3_column_int64(s, 6);
		m->tables[n].side[TARGET_FILL].main_scope = sqlite3_column_int64(s, 7);
	}
	gate_finalize(&s);
	for (uint32_t i = 0; i < n; i++) {
		load_columns(&l, &tables[i]);
		describe(&m->tables[i]);
	}
	gate_finalize(&l.columns);
	gate_finalize(&l.labels);
	m->schema = (struct schema){.hash = gen == 0 ? r->st.schema_hash : next_hash(r), .tables = tables, .table_count = n,
				    .step = step_of(r, gen)};
	if (m->arena.full)
		gate_fail(&r->g, FERRY_LIMIT, "The schema is too large.");
}

struct table *model_table(const struct model *m, uint32_t number)
{
	uint32_t low = 0, high = m->schema.table_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (m->schema.tables[middle].table < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < m->schema.table_count && m->schema.tables[low].table == number ? &m->tables[low] : NULL;
}

int table_column(const struct table *t, uint16_t num)
{
	for (int i = 0; i < t->t->column_count; i++) {
		if (t->t->columns[i].num == num)
			return i;
	}
	return -1;
}

struct model *target_model(struct replica *r, enum target target)
{
	return target == TARGET_FILL && r->next.schema.table_count > 0 ? &r->next : &r->now;
}

/* ---- Stored ---- */

static void store_column(struct replica *r, int gen, uint32_t table, const struct schema_column *c)
{
	struct cell filled = value_to_cell(&r->work, c->kind, &c->filled);
	sqlite3_stmt *s = NULL;

	gate_statement(&r->g, &s, "INSERT INTO ferry_column(gen, tbl, num, name, kind, not_null, read_only, has_default, "
				  "default_sql, ref_table, policy, filled, lease) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
	gate_run(&r->g, s, "iiitiiiitiici", (int64_t)gen, (int64_t)table, (int64_t)c->num, c->name, (int64_t)c->kind,
		 (int64_t)c->not_null, (int64_t)c->read_only, (int64_t)c->has_default, c->default_sql,
		 (int64_t)c->ref_table, (int64_t)c->policy, &filled, (int64_t)c->lease);
	gate_finalize(&s);
	for (uint32_t i = 0; i < c->label_count; i++)
		gate_execf(&r->g, "INSERT INTO ferry_label(gen, tbl, num, i, label) VALUES (%d, %u, %u, %u, %Q)", gen,
			   table, c->num, i, c->labels[i]);
}

void schema_store(struct replica *r, const struct schema *schema, int gen)
{
	gate_execf(&r->g, "DELETE FROM ferry_table WHERE gen = %d; DELETE FROM ferry_column WHERE gen = %d; "
			  "DELETE FROM ferry_label WHERE gen = %d; REPLACE INTO ferry_schema(gen, step) VALUES (%d, %lld)", gen, gen, gen, gen,
		   (long long)schema->step);
	for (uint32_t i = 0; i < schema->table_count; i++) {
		const struct schema_table *t = &schema->tables[i];

		gate_execf(&r->g, "INSERT INTO ferry_table(gen, tbl, name, key, key_num, writable, rank) "
				  "VALUES (%d, %u, %Q, %Q, %u, %d, %u)", gen, t->table, t->name, t->key, t->key_num,
			   t->writable, t->rank);
		for (uint32_t c = 0; c < t->column_count; c++)
			store_column(r, gen, t->table, &t->columns[c]);
	}
}

void schema_advance(struct replica *r)
{
	gate_exec(&r->g, "DELETE FROM ferry_table WHERE gen = 0; DELETE FROM ferry_column WHERE gen = 0; "
			 "DELETE FROM ferry_label WHERE gen = 0; DELETE FROM ferry_schema WHERE gen = 0; "
			 "UPDATE ferry_table SET gen = 0; UPDATE ferry_column SET gen = 0; UPDATE ferry_label SET gen = 0; "
			 "UPDATE ferry_schema SET gen = 0");
}

void schema_stays(struct replica *r, enum ferry_error e)
{
	struct ferry_why ignored;

	if (ferry_error_class((int)e) == FERRY_CLASS_RETRY && e != FERRY_SCHEMA)
		return;
	if (replica_begin(r, &ignored) != FERRY_OK)
		return;
	gate_exec(&r->g, "UPDATE ferry_schema SET step = 0 WHERE gen = 0");
	r->now.schema.step = 0;
	if (replica_end(r, &ignored) != FERRY_OK)
		return; /* the next commit tries both again */
}

void log_widen(struct replica *r, const struct schema *schema)
{
	for (uint32_t i = 0; i < schema->table_count; i++) {
		for (; r->log_width < schema->tables[i].column_count; r->log_width++)
			gate_execf(&r->g, "ALTER TABLE ferry_log ADD COLUMN o%d", r->log_width);
	}
	gate_finalize(&r->log_insert);
	gate_finalize(&r->log_update);
}

/* ---- DDL ---- */

#define HEX(n) HEX_##n
#define HEX_4 "[0-9a-f][0-9a-f][0-9a-f][0-9a-f]"
#define HEX_8 HEX_4 HEX_4
#define HEX_12 HEX_8 HEX_4
#define KEY_GLOB HEX(8) "-" HEX(4) "-" HEX(4) "-" HEX(4) "-" HEX(12)

const char *column_type(enum column_kind kind)
{
	static const char *const types[KIND_COUNT] = {
		[KIND_BOOL] = "INTEGER", [KIND_INT] = "INTEGER", [KIND_FLOAT] = "ANY", [KIND_TEXT] = "TEXT",
		[KIND_UUID] = "TEXT", [KIND_BYTES] = "BLOB", [KIND_TIMESTAMPTZ] = "TEXT", [KIND_DATE] = "TEXT",
		[KIND_NUMERIC] = "TEXT", [KIND_JSON] = "TEXT", [KIND_ARRAY] = "TEXT",
		[KIND_CITEXT] = "TEXT COLLATE NOCASE", [KIND_ENUM] = "TEXT", [KIND_OTHER] = "TEXT"};

	return types[kind];
}

static void append_column(sqlite3_str *s, const struct schema_column *c)
{
	sqlite3_str_appendf(s, ", \"%w\" %s", c->name, column_type(c->kind));
	if (c->not_null && !c->has_default && !c->read_only)
		sqlite3_str_appendall(s, " NOT NULL");
	if (c->default_sql != NULL)
		sqlite3_str_appendf(s, " DEFAULT (%s)", c->default_sql);
	if (c->kind == KIND_BOOL)
		sqlite3_str_appendf(s, " CHECK(\"%w\" IN (0, 1))", c->name);
	for (uint32_t i = 0; i < c->label_count; i++) {
		if (i == 0)
			sqlite3_str_appendf(s, " CHECK(\"%w\" IN (%Q", c->name, c->labels[i]);
		else
			sqlite3_str_appendf(s, ", %Q", c->labels[i]);
	}
	if (c->label_count > 0)
		sqlite3_str_appendall(s, "))");
}

char *table_ddl(const struct schema_table *t, const char *prefix)
{
	sqlite3_str *s = sqlite3_str_new(NULL);

	sqlite3_str_appendf(s, "CREATE TABLE \"%w%w\"(\"%w\" TEXT PRIMARY KEY NOT NULL DEFAULT (%s) "
			       "CHECK(\"%w\" GLOB '" KEY_GLOB "')", prefix, t->name, t->key, UUID_SQL, t->key);
	for (uint32_t i = 0; i < t->column_count; i++)
		append_column(s, &t->columns[i]);
	sqlite3_str_appendall(s, ") STRICT");
	return sqlite3_str_finish(s);
}

/* Runs what was built; frees it. */
static void run_built(struct replica *r, sqlite3_str *s)
{
	char *sql = sqlite3_str_finish(s);

	if (sql == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		gate_exec(&r->g, sql);
	sqlite3_free(sql);
}

static void append_old_names(sqlite3_str *s, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
		sqlite3_str_appendf(s, ", o%u", i);
}

static void append_columns(sqlite3_str *s, const struct schema_table *t, const char *prefix)
{
	for (uint32_t i = 0; i < t->column_count; i++)
		sqlite3_str_appendf(s, ", %s\"%w\"", prefix, t->columns[i].name);
}

/* SQLite with recursive_triggers off (its default) deletes the row that a
 * REPLACE replaces without a word; the note tells what it was (R16). Every
 * insert runs the first trigger, hardly any finds a row: so the wide INSERT
 * stands behind a view, and its registers are made only where it runs. */
static void note_triggers(struct replica *r, const struct schema_table *t)
{
	sqlite3_str *s = sqlite3_str_new(NULL);

	sqlite3_str_appendf(s, "CREATE VIEW \"ferry_%u_old\"(key) AS SELECT NULL WHERE 0;"
			       "CREATE TRIGGER \"ferry_%u_note\" BEFORE INSERT ON \"%w\" "
			       "WHEN NEW.\"%w\" IN (SELECT \"%w\" FROM \"%w\") BEGIN "
			       "INSERT INTO \"ferry_%u_old\"(key) VALUES (NEW.\"%w\"); END;",
			    t->table, t->table, t->name, t->key, t->key, t->name, t->table, t->key);
	sqlite3_str_appendf(s, "CREATE TRIGGER \"ferry_%u_noted\" INSTEAD OF INSERT ON \"ferry_%u_old\" BEGIN "
			       "INSERT INTO ferry_log(tbl, key, op, mask, tc, at", t->table, t->table);
	append_old_names(s, 0, t->column_count);
	sqlite3_str_appendf(s, ") SELECT %u, NEW.key, 4, 0, total_changes(), " AT_NOW, t->table);
	append_columns(s, t, "");
	sqlite3_str_appendf(s, " FROM \"%w\" WHERE \"%w\" = NEW.key; END", t->name, t->key);
	run_built(r, s);
}

static bool gives_number(const struct schema_column *c)
{
	return c->policy == POLICY_SEQUENCE && !c->read_only;
}

/* An insert without a number takes the next one, if there is any; a row that
 * is replaced keeps its own, which the note before it holds. Behind the entry
 * of the insert, in its trigger: the order of triggers is SQLite's affair, and
 * what the UPDATE is captured as has to follow. */
#define NOTE_OF "FROM ferry_log WHERE seq = last_insert_rowid() - 1 AND op = 4 AND tbl = %u AND key = NEW.\"%w\""

static void append_number(sqlite3_str *s, const struct schema_table *t, uint32_t i)
{
	const struct schema_column *c = &t->columns[i];

	sqlite3_str_appendf(s, "UPDATE \"%w\" SET \"%w\" = CASE WHEN EXISTS (SELECT 1 " NOTE_OF ") THEN (SELECT o%u " NOTE_OF ") "
			       "ELSE (SELECT number FROM ferry_number WHERE tbl = %u AND num = %u) END "
			       "WHERE NEW.\"%w\" IS NULL AND \"%w\" = NEW.\"%w\"; ",
			    t->name, c->name, t->table, t->key, i, t->table, t->key, t->table, c->num, c->name, t->key, t->key);
	sqlite3_str_appendf(s, "UPDATE ferry_lease SET next = next + step WHERE NEW.\"%w\" IS NULL "
			       "AND id = (SELECT lease FROM ferry_number WHERE tbl = %u AND num = %u) "
			       "AND NOT EXISTS (SELECT 1 " NOTE_OF "); ",
			    c->name, t->table, c->num, t->table, t->key);
}

static void insert_trigger(struct replica *r, const struct schema_table *t)
{
	sqlite3_str *s = sqlite3_str_new(NULL);

	sqlite3_str_appendf(s, "CREATE TRIGGER \"ferry_%u_insert\" AFTER INSERT ON \"%w\" BEGIN "
			       "INSERT INTO ferry_log(tbl, key, op, tc, at) "
			       "VALUES (%u, NEW.\"%w\", 1, total_changes(), " AT_NOW "); ",
			    t->table, t->name, t->table, t->key);
	for (uint32_t i = 0; i < t->column_count; i++) {
		if (gives_number(&t->columns[i]))
			append_number(s, t, i);
	}
	sqlite3_str_appendall(s, "END");
	run_built(r, s);
}

static void number_trigger(struct replica *r, const struct schema_table *t, const struct schema_column *c)
{
	gate_execf(&r->g, "CREATE TRIGGER \"ferry_%u_given_%u\" BEFORE UPDATE OF \"%w\" ON \"%w\" "
			  "WHEN OLD.\"%w\" IS NOT NULL AND OLD.\"%w\" IS NOT NEW.\"%w\" BEGIN "
			  "SELECT RAISE(ABORT, 'The number in %q.%q is given once and stays.'); END",
		   t->table, c->num, c->name, t->name, c->name, c->name, c->name, t->name, c->name);
}

static void key_trigger(struct replica *r, const struct schema_table *t)
{
	gate_execf(&r->g, "CREATE TRIGGER \"ferry_%u_key\" BEFORE UPDATE OF \"%w\" ON \"%w\" "
			  "WHEN OLD.\"%w\" IS NOT NEW.\"%w\" BEGIN SELECT RAISE(ABORT, %Q); END",
		   t->table, t->key, t->name, t->key, t->key,
		   "The key of a row cannot change: delete the row and insert a new one.");
}

/* Two spellings of a NOCASE text are equal to SQLite, but not the same. */
static void append_same(sqlite3_str *s, const struct schema_column *c)
{
	sqlite3_str_appendf(s, "OLD.\"%w\"%s IS NEW.\"%w\"", c->name, c->kind == KIND_CITEXT ? " COLLATE BINARY" : "", c->name);
}

/* Captures the columns from `first` up to `end`, if one of them is named in
 * the UPDATE: SQLite then reads and compares these alone. */
static void update_trigger(struct replica *r, const struct schema_table *t, uint32_t first, uint32_t end)
{
	sqlite3_str *s = sqlite3_str_new(NULL);
	const struct schema_column *c = t->columns;

	sqlite3_str_appendf(s, "CREATE TRIGGER \"ferry_%u_update_%u\" AFTER UPDATE OF ", t->table, first);
	for (uint32_t i = first; i < end; i++)
		sqlite3_str_appendf(s, "%s\"%w\"", i == first ? "" : ", ", c[i].name);
	sqlite3_str_appendf(s, " ON \"%w\" WHEN ", t->name);
	for (uint32_t i = first; i < end; i++) {
		sqlite3_str_appendall(s, i == first ? "NOT (" : " AND ");
		append_same(s, &c[i]);
	}
	sqlite3_str_appendall(s, ") BEGIN INSERT INTO ferry_log(tbl, key, op, mask, tc, at");
	append_old_names(s, first, end);
	sqlite3_str_appendf(s, ") VALUES (%u, OLD.\"%w\", 2, ", t->table, t->key);
	for (uint32_t i = first; i < end; i++) {
		sqlite3_str_appendall(s, i == first ? "iif(" : " | iif(");
		append_same(s, &c[i]);
		sqlite3_str_appendf(s, ", 0, %lld)", (long long)(UINT64_C(1) << i));
	}
	sqlite3_str_appendall(s, ", total_changes(), " AT_NOW);
	for (uint32_t i = first; i < end; i++) {
		sqlite3_str_appendall(s, ", iif(");
		append_same(s, &c[i]);
		sqlite3_str_appendf(s, ", NULL, OLD.\"%w\")", c[i].name);
	}
	sqlite3_str_appendall(s, "); END");
	run_built(r, s);
}

static void delete_trigger(struct replica *r, const struct schema_table *t)
{
	sqlite3_str *s = sqlite3_str_new(NULL);

	sqlite3_str_appendf(s, "CREATE TRIGGER \"ferry_%u_delete\" AFTER DELETE ON \"%w\" BEGIN "
			       "INSERT INTO ferry_log(tbl, key, op, mask, tc, at", t->table, t->name);
	append_old_names(s, 0, t->column_count);
	sqlite3_str_appendf(s, ") VALUES (%u, OLD.\"%w\", 3, 0, total_changes(), " AT_NOW, t->table, t->key);
	append_columns(s, t, "OLD.");
	sqlite3_str_appendall(s, "); END");
	run_built(r, s);
}

static void read_only_table(struct replica *r, const struct schema_table *t)
{
	static const char *const verbs[] = {"INSERT", "UPDATE", "DELETE"};

	for (int i = 0; i < 3; i++)
		gate_execf(&r->g, "CREATE TRIGGER \"ferry_%u_%s\" BEFORE %s ON \"%w\" BEGIN "
				  "SELECT RAISE(ABORT, 'The table %q is read-only on devices.'); END",
			   t->table, verbs[i], verbs[i], t->name, t->name);
}

static void read_only_column(struct replica *r, const struct schema_table *t, const struct schema_column *c)
{
	gate_execf(&r->g, "CREATE TRIGGER \"ferry_%u_ro_%u\" BEFORE UPDATE OF \"%w\" ON \"%w\" "
			  "WHEN OLD.\"%w\" IS NOT NEW.\"%w\" BEGIN "
			  "SELECT RAISE(ABORT, 'The column %q.%q is read-only on devices.'); END",
		   t->table, c->num, c->name, t->name, c->name, c->name, t->name, c->name);
	gate_execf(&r->g, "CREATE TRIGGER \"ferry_%u_roi_%u\" BEFORE INSERT ON \"%w\" "
			  "WHEN NEW.\"%w\" IS NOT NULL AND NEW.\"%w\" IS NOT (%s) AND "
			  "NEW.\"%w\" IS NOT (SELECT \"%w\" FROM \"%w\" WHERE \"%w\" = NEW.\"%w\") BEGIN "
			  "SELECT RAISE(ABORT, 'The column %q.%q is read-only on devices: leave it out.'); END",
		   t->table, c->num, t->name, c->name, c->name, c->default_sql == NULL ? "NULL" : c->default_sql,
		   c->name, c->name, t->name, t->key, t->key, t->name, c->name);
}

void triggers_create(struct replica *r, const struct schema_table *t)
{
	if (!t->writable) {
		read_only_table(r, t);
		return;
	}
	note_triggers(r, t);
	insert_trigger(r, t);
	delete_trigger(r, t);
	key_trigger(r, t);
	for (uint32_t i = 0; i < t->column_count; i += UPDATE_COLUMNS)
		update_trigger(r, t, i, i + UPDATE_COLUMNS < t->column_count ? i + UPDATE_COLUMNS : t->column_count);
	for (uint32_t i = 0; i < t->column_count; i++) {
		if (t->columns[i].read_only)
			read_only_column(r, t, &t->columns[i]);
		else if (gives_number(&t->columns[i]))
			number_trigger(r, t, &t->columns[i]);
	}
}

void triggers_drop(struct replica *r, const struct schema_table *t)
{
	sqlite3_stmt *s = NULL;
	char *names = sqlite3_mprintf("");

	gate_statement(&r->g, &s, "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 "
				  "AND name GLOB 'ferry_[0-9]*'");
	for (bool more = gate_step(&r->g, s, "t", t->name); more; more = gate_next(&r->g, s))
		names = sqlite3_mprintf("%zDROP TRIGGER \"%w\";", names, sqlite3_column_text(s, 0));
	gate_finalize(&s);
	if (names == NULL)
		gate_fail(&r->g, FERRY_NO_MEMORY, "No memory for a statement.");
	else
		gate_exec(&r->g, names);
	sqlite3_free(names);
	gate_execf(&r->g, "DROP VIEW IF EXISTS \"ferry_%u_old\"", t->table);
}

static uint32_t triggers_expected(const struct schema_table *t)
{
	uint32_t n = 5u + (t->column_count + UPDATE_COLUMNS - 1u) / UPDATE_COLUMNS; /* note, noted, insert, key, delete */

	if (!t->writable)
		return 3;
	for (uint32_t i = 0; i < t->column_count; i++)
		n += t->columns[i].read_only ? 2u : gives_number(&t->columns[i]) ? 1u : 0u;
	return n;
}

static bool triggers_whole(struct replica *r, const struct schema_table *t)
{
	sqlite3_stmt *s = NULL;
	bool whole = false;

	gate_statement(&r->g, &s, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'ferry_[0-9]*' "
				  "AND tbl_name IN (?1, 'ferry_' || ?2 || '_old')");
	if (gate_step(&r->g, s, "ti", t->name, (int64_t)t->table))
		whole = sqlite3_column_int64(s, 0) == triggers_expected(t);
	gate_finalize(&s);
	return whole;
}

enum ferry_error triggers_restore(struct replica *r, struct ferry_why *why)
{
	const struct schema *schema = &r->now.schema;
	uint32_t whole = 0;
	enum ferry_error e;

	while (whole < schema->table_count && triggers_whole(r, &schema->tables[whole]))
		whole++;
	if (whole == schema->table_count)
		return FERRY_OK;
	e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	for (uint32_t i = whole; i < schema->table_count; i++) {
		if (triggers_whole(r, &schema->tables[i]))
			continue;
		triggers_drop(r, &schema->tables[i]);
		triggers_create(r, &schema->tables[i]);
		r->triggers_restored++;
	}
	return replica_end(r, why);
}

void live_table_create(struct replica *r, const struct schema_table *t)
{
	char *sql = table_ddl(t, "");

	gate_exec(&r->g, sql == NULL ? "no memory" : sql);
	sqlite3_free(sql);
}

static void live_tables_create(struct replica *r, const struct schema *schema)
{
	for (uint32_t i = 0; i < schema->table_count; i++) {
		live_table_create(r, &schema->tables[i]);
		triggers_create(r, &schema->tables[i]);
	}
}

static bool schema_usable(const struct schema *schema, struct ferry_why *why)
{
	for (uint32_t i = 0; i < schema->table_count; i++) {
		const struct schema_table *t = &schema->tables[i];

		if (t->column_count > FERRY_COLUMNS_MAX || sqlite3_strnicmp(t->name, "ferry_", 6) == 0 ||
		    sqlite3_strnicmp(t->name, "sqlite_", 7) == 0) {
			(void)ferry_fail(why, FERRY_SCHEMA, "The table %s cannot be kept in a replica.", t->name);
			return false;
		}
	}
	return true;
}

/* The first schema makes the tables at once, so that apps can start; a later
 * one waits in `next` for the fill that the hub starts for it. */
enum ferry_error replica_take_schema(void *store, const struct schema *schema, struct ferry_why *why)
{
	struct replica *r = store;
	bool first = r->now.schema.table_count == 0;
	int gen = first ? 0 : 1;
	enum ferry_error e;

	if (!schema_usable(schema, why))
		return FERRY_SCHEMA;
	if (!first && schema->hash == r->st.schema_hash && r->next.schema.table_count == 0)
		return FERRY_OK;
	if (r->next.schema.table_count > 0 && r->next.schema.hash == schema->hash)
		return FERRY_OK;
	e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	log_widen(r, schema);
	schema_store(r, schema, gen);
	if (first) {
		live_tables_create(r, schema);
		r->st.schema_hash = schema->hash;
	} else {
		gate_execf(&r->g, "UPDATE ferry_state SET next_hash = %lld", (long long)schema->hash);
	}
	e = replica_end(r, why);
	if (e != FERRY_OK)
		return e;
	model_load(r, first ? &r->now : &r->next, gen);
	return r->g.error == FERRY_OK ? FERRY_OK : ferry_fail(why, r->g.error, "%s", r->g.why.text);
}
