#include "hub/pg_schema.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "hub/pg_json.h"
#include "hub/pg_sql.h"

#define CATALOG_BYTES_MAX ((size_t)64 << 20)

static const char tables_sql[] =
	"SELECT t.tbl, t.nsp, t.name, t.replica_name, t.key_col, t.tenant_col, t.scope, t.write, t.rank, s.joins, s.expr, "
	"(SELECT k.conname FROM pg_constraint k WHERE k.conrelid = t.relid AND k.contype = 'p'), "
	"coalesce('/' || t.read_permission, ''), t.archives, t.guarded, t.policed OR t.validator IS NOT NULL, t.on_missing_parent = 'park', t.on_delete = 'update_wins', s.also, t.brought, "
	"(SELECT d.tbl FROM ferry.redaction d WHERE d.restricted = t.tbl) "
	"FROM ferry.tracked t, LATERAL ferry.own_sql(t.tbl) s "
	"WHERE coalesce(t.tenant_id, ferry.nobody()) = $1 OR ferry.is_shared(t.relid) ORDER BY t.tbl";
enum { T_TBL, T_NSP, T_NAME, T_REPLICA, T_KEY, T_TENANT, T_SCOPE, T_WRITE, T_RANK, T_JOINS, T_EXPR, T_PKEY,
       T_SUFFIX, T_ARCHIVES, T_GUARDED, T_POLICED, T_PARKS, T_UPDATE_WINS, T_ALSO, T_BROUGHT, T_BESIDE };

static const char columns_sql[] =
	"SELECT c.tbl, c.num, c.name, c.pg_type, c.kind, c.not_null, c.has_default, c.policy, c.labels, "
	"coalesce(c.ref_tbl, 0), c.wire_expr, c.in_expr, c.hash_expr, "
	"(SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = t.relid AND d.adnum = c.num), "
	"c.generated, c.policy_options::text, h.expr, c.filled #>> '{}', "
	"CASE c.policy WHEN 'sequence' THEN coalesce((c.policy_options ->> 'lease')::int, 0) ELSE 0 END, "
	"(SELECT max(y.tx) FROM ferry.retyped y WHERE y.tbl = c.tbl AND y.num = c.num) "
	"FROM ferry.tracked_column c JOIN ferry.tracked t ON t.tbl = c.tbl "
	"LEFT JOIN ferry.placeholder h ON h.tbl = c.tbl AND h.num = c.num "
	"WHERE coalesce(t.tenant_id, ferry.nobody()) = $1 OR ferry.is_shared(t.relid) ORDER BY c.tbl, c.num";
enum { C_TBL, C_NUM, C_NAME, C_TYPE, C_KIND, C_NOT_NULL, C_DEFAULT, C_POLICY, C_LABELS, C_REF, C_WIRE, C_IN, C_HASH,
       C_DEFAULT_SQL, C_GENERATED, C_OPTIONS, C_PLACEHOLDER, C_FILLED, C_LEASE, C_RETYPED };

static const char past_sql[] =
	"SELECT p.tbl, p.num, p.n, p.name, p.kind, p.to_num, p.to_tbl, p.discarded, p.converts FROM ferry.late_column p ORDER BY p.tbl, p.num, p.n";
enum { P_TBL, P_NUM, P_STEP, P_NAME, P_KIND, P_TO, P_TO_TBL, P_DISCARDED, P_CONVERTS };

static const char edges_sql[] =
	"SELECT DISTINCT p.tbl, c.tbl FROM pg_constraint k JOIN ferry.tracked p ON p.relid = k.confrelid "
	"JOIN ferry.tracked c ON c.relid = k.conrelid WHERE k.contype = 'f'";

struct reader {
	const struct pg_batch *b;
	uint32_t tables, columns; /* calls */
	struct arena *arena;
	struct pg_sql sql;
	bool failed;
};

/* ------------------------------------------------------------ small parts */

static const char *keep(struct reader *r, const char *text)
{
	const char *copy = text ? arena_text(r->arena, text, strlen(text)) : NULL;

	if (!copy) {
		r->failed = true;
		return "";
	}
	return copy;
}

static const char *keep_sql(struct reader *r)
{
	if (r->sql.failed)
		r->failed = true;
	return keep(r, r->sql.p);
}

static const char *quoted(struct reader *r, const char *name)
{
	pg_sql_clear(&r->sql);
	pg_sql_add_quoted(&r->sql, name);
	return keep_sql(r);
}

static const char *cell(struct reader *r, uint32_t call, uint32_t row, uint32_t col)
{
	return pg_text(r->b, call, row, col);
}

static const char *const *read_labels(struct reader *r, uint32_t row, uint32_t *out_count)
{
	struct pg_elements e;
	uint32_t n = pg_elements(r->b, r->columns, row, C_LABELS, &e);
	const char **labels = arena_array(r->arena, n ? n : 1, sizeof(*labels));
	const uint8_t *p;
	size_t length;

	*out_count = 0;
	if (!labels) {
		r->failed = true;
		return NULL;
	}
	while (*out_count < n && pg_element(&e, &p, &length)) {
		const char *label = p ? arena_text(r->arena, p, length) : NULL;

		if (!label) {
			r->failed = true;
			return NULL;
		}
		labels[(*out_count)++] = label;
	}
	return n ? labels : NULL;
}

static bool is_number(const char *text)
{
	char *end;

	if (!isdigit((unsigned char)text[text[0] == '-']))
		return false;
	strtod(text, &end);
	return *end == 0;
}

/* 'text'::type as PostgreSQL prints a literal: where the quoted part ends. */
static const char *literal_end(const char *text)
{
	if (*text != '\'')
		return NULL;
	for (text++; *text; text++) {
		if (*text != '\'')
			continue;
		if (text[1] != '\'')
			return text + 1;
		text++;
	}
	return NULL;
}

/* The default as SQLite can state it; NULL when it can't be sure to be the
 * same value (functions, other types). */
static const char *sqlite_default(struct reader *r, enum column_kind kind, const char *text)
{
	const char *end = literal_end(text);
	bool plain = end && (*end == 0 || strncmp(end, "::", 2) == 0) && !strpbrk(end, "( '");

	switch (kind) {
	case KIND_BOOL:
		if (strcmp(text, "true") == 0)
			return "1";
		return strcmp(text, "false") == 0 ? "0" : NULL;
	case KIND_INT:
	case KIND_FLOAT:
		return is_number(text) ? keep(r, text) : NULL;
	case KIND_ARRAY:
		return strncmp(text, "'{}'::", 6) == 0 ? "'[]'" : NULL;
	case KIND_JSON:
		return strcmp(text, "'{}'::jsonb") == 0 ? "'{}'" : strcmp(text, "'[]'::jsonb") == 0 ? "'[]'" : NULL;
	case KIND_TEXT:
	case KIND_CITEXT:
	case KIND_ENUM:
		if (!plain)
			return NULL;
		pg_sql_clear(&r->sql);
		pg_sql_add(&r->sql, "%.*s", (int)(end - text), text);
		return keep_sql(r);
	default:
		return NULL;
	}
}

/* What the server stores is what was sent, so its hash can be computed here. */
static bool hash_in_c(enum column_kind kind, const char *type)
{
	switch (kind) {
	case KIND_BOOL:
	case KIND_INT:
	case KIND_FLOAT:
	case KIND_UUID:
	case KIND_BYTES:
	case KIND_DATE:
	case KIND_ENUM:
	case KIND_CITEXT:
		return true;
	case KIND_TIMESTAMPTZ: /* timestamptz(n) rounds */
		return strcmp(type, "timestamp with time zone") == 0;
	case KIND_TEXT: /* char(n) pads and trims */
		return strcmp(type, "text") == 0 || strncmp(type, "character varying", 17) == 0;
	default:
		return false;
	}
}

/* --------------------------------------------------------------- columns */

static void read_policy(struct reader *r, uint32_t row, struct schema_column *s)
{
	int policy = column_policy_from_name(cell(r, r->columns, row, C_POLICY));

	s->policy = policy < 0 ? POLICY_LWW : (enum column_policy)policy;
	if (!pg_is_null(r->b, r->columns, row, C_OPTIONS))
		s->policy_options = keep(r, cell(r, r->columns, row, C_OPTIONS));
	s->lease = (uint32_t)pg_int(r->b, r->columns, row, C_LEASE);
}

static void read_column(struct reader *r, uint32_t row, const char *tenant_col, struct schema_column *s,
			struct pg_column *c)
{
	const char *name = cell(r, r->columns, row, C_NAME);
	const char *type = cell(r, r->columns, row, C_TYPE);
	int kind = column_kind_from_name(cell(r, r->columns, row, C_KIND));
	bool is_tenant = strcmp(name, tenant_col) == 0;

	if (kind < 0) {
		r->failed = true;
		return;
	}
	*s = (struct schema_column){.num = (uint16_t)pg_int(r->b, r->columns, row, C_NUM), .name = keep(r, name),
				    .kind = (enum column_kind)kind,
				    .not_null = pg_bool(r->b, r->columns, row, C_NOT_NULL),
				    .has_default = is_tenant || pg_bool(r->b, r->columns, row, C_DEFAULT),
				    .ref_table = (uint32_t)pg_int(r->b, r->columns, row, C_REF)};
	s->read_only = !is_tenant && strcmp(cell(r, r->columns, row, C_POLICY), "hub") == 0;
	read_policy(r, row, s);
	/* Whatever the hub writes there, devices leave it out, or may. */
	s->has_default |= s->read_only || s->policy == POLICY_SEQUENCE;
	s->labels = read_labels(r, row, &s->label_count);
	s->filled = pg_json_read(r->arena, s->kind, pg_is_null(r->b, r->columns, row, C_FILLED) ? NULL : cell(r, r->columns, row, C_FILLED));
	if (!pg_is_null(r->b, r->columns, row, C_DEFAULT_SQL) && !pg_bool(r->b, r->columns, row, C_GENERATED))
		s->default_sql = sqlite_default(r, s->kind, cell(r, r->columns, row, C_DEFAULT_SQL));
	*c = (struct pg_column){.num = s->num, .kind = s->kind, .name = quoted(r, name),
				.type = keep(r, type),
				.in = keep(r, cell(r, r->columns, row, C_IN)),
				.hash = keep(r, cell(r, r->columns, row, C_HASH)),
				.hash_in_c = hash_in_c(s->kind, type), .single = strcmp(type, "real") == 0,
				.is_tenant = is_tenant};
	if (!pg_is_null(r->b, r->columns, row, C_RETYPED))
		c->retyped = pg_int(r->b, r->columns, row, C_RETYPED);
	if (!pg_is_null(r->b, r->columns, row, C_PLACEHOLDER))
		c->placeholder = keep(r, cell(r, r->columns, row, C_PLACEHOLDER));
	pg_sql_clear(&r->sql);
	pg_sql_add(&r->sql, "r.%s", c->name);
	name = keep_sql(r);
	pg_sql_clear(&r->sql);
	pg_sql_add_filled(&r->sql, cell(r, r->columns, row, C_WIRE), name, "");
	c->wire = keep_sql(r);
}

/* Rows [from, to) of the columns' answer are the table's. */
static void read_columns(struct reader *r, uint32_t from, uint32_t to, const char *key_col, const char *tenant_col,
			 struct schema_table *s, struct pg_table *t)
{
	struct schema_column *device = arena_array(r->arena, to - from + 1, sizeof(*device));
	struct pg_column *columns = arena_array(r->arena, to - from + 1, sizeof(*columns));
	uint16_t n = 0;

	if (!device || !columns) {
		r->failed = true;
		return;
	}
	for (uint32_t row = from; row < to; row++) {
		if (strcmp(cell(r, r->columns, row, C_NAME), key_col) == 0) {
			s->key_num = t->key_num = (uint16_t)pg_int(r->b, r->columns, row, C_NUM);
			continue;
		}
		read_column(r, row, tenant_col, &device[n], &columns[n]);
		columns[n].sum_index = row - from;
		n++;
	}
	s->columns = device;
	t->columns = columns;
	s->column_count = t->column_count = n;
}

/* ---------------------------------------------------------------- tables */

/* The row's own column that the path begins with. */
static void read_scope_column(struct reader *r, const char *colon, struct pg_table *t)
{
	char column[128];
	size_t n = strcspn(colon + 1, ".");

	if (n >= sizeof(column)) {
		r->failed = true;
		return;
	}
	memcpy(column, colon + 1, n);
	column[n] = 0;
	t->scope_column = quoted(r, column);
	for (uint16_t c = 0; c < t->column_count; c++) {
		if (strcmp(t->columns[c].name, t->scope_column) == 0)
			t->scope_num = t->columns[c].num;
	}
}

static void read_scope(struct reader *r, uint32_t row, struct pg_table *t)
{
	const char *scope = cell(r, r->tables, row, T_SCOPE);
	const char *colon = strchr(scope, ':');

	t->scope_joins = keep(r, cell(r, r->tables, row, T_JOINS));
	t->scope_expr = keep(r, cell(r, r->tables, row, T_EXPR));
	t->scope_prefix = "";
	t->brought = pg_bool(r->b, r->tables, row, T_BROUGHT);
	if (!colon) {
		t->scope_form = strcmp(scope, "global") == 0 ? PG_SCOPE_GLOBAL : PG_SCOPE_TENANT;
		return;
	}
	if (!pg_is_null(r->b, r->tables, row, T_ALSO)) { /* any, as far as this knows: the versions say which */
		t->scope_form = PG_SCOPE_PATH;
		t->scope_also = keep(r, cell(r, r->tables, row, T_ALSO));
		return;
	}
	if (strncmp(scope, "row:", 4) == 0) { /* the row says its whole scope: any may be one of the table's */
		t->scope_form = PG_SCOPE_PATH;
		read_scope_column(r, colon, t);
		return;
	}
	t->scope_form = strchr(colon, '.') ? PG_SCOPE_PATH : PG_SCOPE_COLUMN;
	pg_sql_clear(&r->sql);
	pg_sql_add(&r->sql, "%.*s", (int)(colon - scope + 1), scope);
	t->scope_prefix = keep_sql(r);
	read_scope_column(r, colon, t);
}

static void read_rights(struct reader *r, uint32_t row, struct pg_table *t)
{
	t->scope_suffix = keep(r, cell(r, r->tables, row, T_SUFFIX));
	pg_sql_clear(&r->sql);
	pg_sql_add(&r->sql, "tenant%s", t->scope_suffix);
	t->tenant_scope = keep_sql(r);
	t->archives = pg_bool(r->b, r->tables, row, T_ARCHIVES);
	t->guarded = pg_bool(r->b, r->tables, row, T_GUARDED);
	t->policed = pg_bool(r->b, r->tables, row, T_POLICED);
	t->parks = pg_bool(r->b, r->tables, row, T_PARKS);
	t->update_wins = pg_bool(r->b, r->tables, row, T_UPDATE_WINS);
}

static void read_table(struct reader *r, uint32_t row, uint32_t *column_row, struct schema_table *s, struct pg_table *t)
{
	const char *key_col = cell(r, r->tables, row, T_KEY);
	const char *tenant_col = cell(r, r->tables, row, T_TENANT);
	uint32_t from = *column_row, to = from, rows = pg_rows(r->b, r->columns);
	int64_t tbl = pg_int(r->b, r->tables, row, T_TBL);

	while (to < rows && pg_int(r->b, r->columns, to, C_TBL) == tbl)
		to++;
	*column_row = to;
	*s = (struct schema_table){.table = (uint32_t)tbl, .name = keep(r, cell(r, r->tables, row, T_REPLICA)),
				   .key = keep(r, key_col), .writable = pg_bool(r->b, r->tables, row, T_WRITE),
				   .rank = (uint32_t)pg_int(r->b, r->tables, row, T_RANK)};
	*t = (struct pg_table){.tbl = (uint32_t)tbl, .key = quoted(r, key_col), .tenant = quoted(r, tenant_col),
			       .writable = s->writable, .row_bytes = 200,
			       .key_constraint = keep(r, cell(r, r->tables, row, T_PKEY))};
	pg_sql_clear(&r->sql);
	pg_sql_add_quoted(&r->sql, cell(r, r->tables, row, T_NSP));
	pg_sql_add(&r->sql, ".");
	pg_sql_add_quoted(&r->sql, cell(r, r->tables, row, T_NAME));
	t->name = keep_sql(r);
	if (!pg_is_null(r->b, r->tables, row, T_BESIDE))
		t->beside = (uint32_t)pg_int(r->b, r->tables, row, T_BESIDE);
	read_columns(r, from, to, key_col, tenant_col, s, t);
	read_scope(r, row, t);
	read_rights(r, row, t);
}

static void read_past(struct reader *r, uint32_t call, struct past *out)
{
	uint32_t count = pg_rows(r->b, call);
	struct past_column *columns = arena_array(r->arena, count + 1u, sizeof(*columns));

	if (!columns) {
		r->failed = true;
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		int kind = pg_is_null(r->b, call, i, P_KIND) ? PAST_NO_KIND : column_kind_from_name(cell(r, call, i, P_KIND));

		columns[i] = (struct past_column){.table = (uint32_t)pg_int(r->b, call, i, P_TBL),
						  .num = (uint16_t)pg_int(r->b, call, i, P_NUM),
						  .step = pg_int(r->b, call, i, P_STEP), .kind = kind,
						  .name = keep(r, cell(r, call, i, P_NAME)),
						  .to = (uint16_t)pg_int(r->b, call, i, P_TO),
						  .to_table = (uint32_t)pg_int(r->b, call, i, P_TO_TBL),
						  .discarded = pg_bool(r->b, call, i, P_DISCARDED),
						  .converts = pg_bool(r->b, call, i, P_CONVERTS)};
	}
	*out = (struct past){.columns = columns, .count = count};
}

/* Foreign keys, and those over other tables: each step reaches one table further. */
static void read_edges(struct reader *r, uint32_t call, struct pg_catalog *c)
{
	uint32_t n = c->table_count;

	c->beneath = arena_array(r->arena, (size_t)n * n + 1, sizeof(*c->beneath));
	if (!c->beneath) {
		r->failed = true;
		return;
	}
	memset(c->beneath, 0, (size_t)n * n * sizeof(*c->beneath));
	for (uint32_t row = 0; row < pg_rows(r->b, call); row++) {
		const struct pg_table *above = pg_catalog_table(c, (uint32_t)pg_int(r->b, call, row, 0));
		const struct pg_table *below = pg_catalog_table(c, (uint32_t)pg_int(r->b, call, row, 1));

		if (above && below)
			c->beneath[(size_t)(above - c->tables) * n + (size_t)(below - c->tables)] = true;
	}
	for (uint32_t over = 0; over < n; over++) {
		for (uint32_t a = 0; a < n; a++) {
			for (uint32_t b = 0; c->beneath[(size_t)a * n + over] && b < n; b++)
				c->beneath[(size_t)a * n + b] |= c->beneath[(size_t)over * n + b];
		}
	}
}

bool pg_catalog_beneath(const struct pg_catalog *c, uint32_t above, uint32_t table)
{
	const struct pg_table *a = pg_catalog_table(c, above), *b = pg_catalog_table(c, table);

	return a && b && c->beneath[(size_t)(a - c->tables) * c->table_count + (size_t)(b - c->tables)];
}

bool pg_catalog_above(const struct pg_catalog *c, uint32_t table)
{
	for (uint32_t i = 0; i < c->table_count; i++) {
		if (pg_catalog_beneath(c, table, c->tables[i].tbl))
			return true;
	}
	return false;
}

uint32_t pg_schema_hash_ask(struct pg_batch *b, const struct uuid *tenant)
{
	uint32_t call = pg_call(b, "SELECT ferry.schema_hash($1)");

	pg_arg_uuid(b, tenant);
	return call;
}

uint64_t pg_schema_hash_read(const struct pg_batch *b, uint32_t call)
{
	return pg_rows(b, call) ? (uint64_t)pg_int(b, call, 0, 0) : 0;
}

uint32_t pg_catalog_ask(struct pg_batch *b, const struct uuid *tenant, const struct uuid *set)
{
	uint32_t first = pg_schema_hash_ask(b, tenant);

	pg_call(b, tables_sql);
	pg_arg_uuid(b, set);
	pg_call(b, columns_sql);
	pg_arg_uuid(b, set);
	pg_call(b, past_sql);
	pg_call(b, edges_sql);
	return first;
}

enum ferry_error pg_catalog_read(const struct pg_batch *b, uint32_t first, struct pg_catalog **out)
{
	struct pg_catalog *c = calloc(1, sizeof(*c));
	struct reader r = {.b = b, .tables = first + 1, .columns = first + 2};
	struct schema_table *device;
	uint32_t column_row = 0;

	if (!c)
		return FERRY_NO_MEMORY;
	arena_init(&c->arena, CATALOG_BYTES_MAX);
	r.arena = &c->arena;
	pg_sql_init(&r.sql);
	c->refs = 1;
	c->table_count = pg_rows(b, r.tables);
	c->tables = arena_array(&c->arena, c->table_count + 1, sizeof(*c->tables));
	device = arena_array(&c->arena, c->table_count + 1, sizeof(*device));
	r.failed = !c->tables || !device;
	for (uint32_t i = 0; i < c->table_count && !r.failed; i++)
		read_table(&r, i, &column_row, &device[i], &c->tables[i]);
	read_past(&r, first + 3, &c->past);
	read_edges(&r, first + 4, c);
	pg_sql_deinit(&r.sql);
	if (r.failed) {
		pg_catalog_free(c);
		return FERRY_NO_MEMORY;
	}
	c->hub.schema = (struct schema){.hash = pg_schema_hash_read(b, first), .tables = device,
					.table_count = c->table_count};
	*out = c;
	return FERRY_OK;
}

void pg_catalog_free(struct pg_catalog *c)
{
	if (!c)
		return;
	arena_deinit(&c->arena);
	free(c);
}

struct pg_table *pg_catalog_table(const struct pg_catalog *c, uint32_t tbl)
{
	uint32_t low = 0, high = c->table_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (c->tables[middle].tbl < tbl)
			low = middle + 1;
		else
			high = middle;
	}
	return low < c->table_count && c->tables[low].tbl == tbl ? &c->tables[low] : NULL;
}

int pg_table_column(const struct pg_table *t, uint16_t num)
{
	for (uint16_t c = 0; c < t->column_count; c++) {
		if (t->columns[c].num == num)
			return c;
	}
	return -1;
}

uint64_t pg_table_mask(const struct pg_table *t)
{
	return t->column_count ? UINT64_MAX >> (64 - t->column_count) : 0;
}
