/* The writes of a group of change-sets: a statement for each table,
 * operation and list of columns, whatever the number of rows. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hub/pg_json.h"
#include "hub/pg_merge.h"
#include "shared/cell_hash.h"

/* The columns of a write as the table has them. */
struct written {
	const struct merge_write *w;
	const struct pg_table *table;
	const struct pg_column *columns[FERRY_COLUMNS_MAX];
	bool postpone; /* unique columns get their values at the end */
};

static const struct value *cells_of(const struct written *x, uint16_t c)
{
	return x->w->cells + (size_t)c * x->w->row_count;
}

/* ----------------------------------------------------------------- columns */

/* Placeholders of the unnest: $first::type[], ... and their names. */
static void add_unnest(struct pg_sql *sql, const struct written *x, unsigned first)
{
	pg_sql_add(sql, " FROM unnest($2::uuid[]");
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->is_tenant)
			pg_sql_add(sql, ", $%u::%s", first++, pg_array_type(x->columns[c]->kind));
	}
	pg_sql_add(sql, ") AS u(k");
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->is_tenant)
			pg_sql_add(sql, ", c%u", c);
	}
	pg_sql_add(sql, ")");
}

static void add_in(struct pg_sql *sql, const struct written *x, uint16_t c)
{
	char value[16];

	snprintf(value, sizeof(value), "u.c%u", c);
	pg_sql_add_filled(sql, x->columns[c]->in, value, "");
}

static bool is_postponed(const struct written *x, uint16_t c)
{
	return x->postpone && x->columns[c]->placeholder;
}

/* What the statement writes there. */
static void add_new(struct pg_sql *sql, const struct written *x, uint16_t c)
{
	if (is_postponed(x, c))
		pg_sql_add_filled(sql, x->columns[c]->placeholder, "u.k", "");
	else
		add_in(sql, x, c);
}

static void add_cell_args(struct pg_batch *b, const struct written *x)
{
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->is_tenant)
			pg_arg_cells(b, x->columns[c]->kind, cells_of(x, c), x->w->row_count);
	}
}

/* The tenant column is the hub's to fill: a device's own value was compared
 * with its tenant before. */
static void insert_sql(struct pg_sql *sql, const struct written *x)
{
	bool separate = strcmp(x->table->tenant, x->table->key) != 0;

	pg_sql_add(sql, "INSERT INTO %s (%s", x->table->name, x->table->key);
	if (separate)
		pg_sql_add(sql, ", %s", x->table->tenant);
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->is_tenant)
			pg_sql_add(sql, ", %s", x->columns[c]->name);
	}
	pg_sql_add(sql, ") SELECT u.k");
	pg_sql_add(sql, separate ? ", $1" : "");
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (x->columns[c]->is_tenant)
			continue;
		pg_sql_add(sql, ", ");
		add_new(sql, x, c);
	}
	add_unnest(sql, x, 3);
	if (!separate)
		pg_sql_add(sql, " WHERE u.k = $1");
}

static bool update_sql(struct pg_sql *sql, const struct written *x)
{
	const char *comma = "";

	pg_sql_add(sql, "UPDATE %s AS t SET ", x->table->name);
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (x->columns[c]->is_tenant)
			continue;
		pg_sql_add(sql, "%s%s = ", comma, x->columns[c]->name);
		add_new(sql, x, c);
		comma = ", ";
	}
	add_unnest(sql, x, 3);
	pg_sql_add(sql, " WHERE t.%s = $1 AND t.%s = u.k", x->table->tenant, x->table->key);
	return comma[0] != 0;
}

static void write_rows(struct merge_op *m, const struct written *x)
{
	struct pg_batch *b = &m->op.batch;
	struct pg_sql sql;
	bool any = true;

	pg_sql_init(&sql);
	if (x->w->op == ROW_INSERT)
		insert_sql(&sql, x);
	else if (x->w->op == ROW_UPDATE)
		any = update_sql(&sql, x);
	else
		pg_sql_add(&sql, "DELETE FROM %s AS t USING unnest($2::uuid[]) AS u(k) WHERE t.%s = $1 AND t.%s = u.k",
			   x->table->name, x->table->tenant, x->table->key);
	if (any) {
		pg_call(b, sql.p);
		pg_arg_uuid(b, &m->op.tenant);
		pg_arg_uuids(b, x->w->keys, x->w->row_count);
		if (x->w->op != ROW_DELETE)
			add_cell_args(b, x);
	}
	if (sql.failed)
		b->full = true;
	pg_sql_deinit(&sql);
}

/* Notes a column's values for ferry.write_postponed(); of two writes of a row
 * in one change-set the later. */
static void postpone_column(struct merge_op *m, const struct written *x, uint16_t c)
{
	struct pg_batch *b = &m->op.batch;
	struct pg_sql sql;

	pg_sql_init(&sql);
	pg_sql_add(&sql, "INSERT INTO ferry.postponed AS p (tenant_id, tx, tbl, num, key, value) SELECT $1, $4, %u, %u, u.k, ((",
		   x->table->tbl, x->columns[c]->num);
	pg_sql_add_filled(&sql, x->columns[c]->in, "u.c", "");
	pg_sql_add(&sql, ")::%s)::text FROM unnest($2::uuid[], $3::%s) AS u(k, c) "
		   "ON CONFLICT (tenant_id, tx, tbl, num, key) DO UPDATE SET value = excluded.value",
		   x->columns[c]->type, pg_array_type(x->columns[c]->kind));
	pg_call(b, sql.p);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
	pg_arg_cells(b, x->columns[c]->kind, cells_of(x, c), x->w->row_count);
	pg_arg_int8(b, m->tx);
	if (sql.failed)
		b->full = true;
	pg_sql_deinit(&sql);
}

static void postpone_columns(struct merge_op *m, const struct written *x)
{
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (is_postponed(x, c))
			postpone_column(m, x, c);
	}
}

/* ------------------------------------------------------------ declarations */

/* The row is declared as the device's, which the audit log names; but a merge's
 * value is the hub's (R2): its declared hash is one that the cell doesn't have. */

/* As the column will hold it: a float4 rounds. */
static struct value stored(const struct pg_column *c, const struct value *v)
{
	struct value out = *v;

	if (c->single && v->kind == VALUE_FLOAT && fabs(v->f) <= 3.5e38)
		out.f = (double)(float)v->f;
	return out;
}

/* Hashes that need no server, row by row: one flat array which SQL slices. */
static int64_t *own_hashes(struct merge_op *m, const struct written *x, uint16_t own)
{
	int64_t *hashes = arena_array(&m->op.batch.arena, (size_t)own * x->w->row_count + 1, sizeof(*hashes));
	uint16_t n = 0;

	if (!hashes)
		return NULL;
	for (uint32_t r = 0; r < x->w->row_count; r++) {
		uint64_t seed = cell_hash_row_seed(&x->w->keys[r]);

		n = 0;
		for (uint16_t c = 0; c < x->w->column_count; c++) {
			struct value v;

			if (!x->columns[c]->hash_in_c)
				continue;
			v = stored(x->columns[c], &cells_of(x, c)[r]);
			hashes[(size_t)r * own + n] = (int64_t)cell_hash(seed, x->columns[c]->num, x->columns[c]->kind, &v);
			if (x->w->by_hub >> c & 1)
				hashes[(size_t)r * own + n] ^= 1;
			n++;
		}
	}
	return hashes;
}

/* $1 surrogate, $2 keys, $3 stamps, $4 column numbers (own first), $5 own
 * hashes, $6... values whose hash the server makes. */
static void declare_sql(struct pg_sql *sql, const struct written *x, uint16_t own)
{
	unsigned arg = 6;

	pg_sql_add(sql, "INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes) SELECT $1, %u, u.k, u.s, $4, ",
		   x->table->tbl);
	if (own)
		pg_sql_add(sql, "($5::bigint[])[(u.n - 1) * %u + 1 : u.n * %u]", own, own);
	else
		pg_sql_add(sql, "$5::bigint[]");
	if (own < x->w->column_count) {
		const char *comma = "";

		pg_sql_add(sql, " || ARRAY[");
		for (uint16_t c = 0; c < x->w->column_count; c++) {
			char seed[80], value[256];
			struct pg_sql in;

			if (x->columns[c]->hash_in_c)
				continue;
			snprintf(seed, sizeof(seed), "pg_catalog.uuid_hash_extended(u.k, 0) # %u", x->columns[c]->num);
			pg_sql_init(&in);
			add_in(&in, x, c);
			/* The column's own type first: it decides the text (scale, padding). */
			snprintf(value, sizeof(value), "(%s)::%s", in.p, x->columns[c]->type);
			pg_sql_add(sql, "%scoalesce(", comma);
			pg_sql_add_filled(sql, x->columns[c]->hash, value, seed);
			pg_sql_add(sql, x->w->by_hub >> c & 1 ? ", 0) # 1" : ", 0)");
			comma = ", ";
			sql->failed |= in.failed || strlen(value) + 1 >= sizeof(value);
			pg_sql_deinit(&in);
		}
		pg_sql_add(sql, "]");
	}
	pg_sql_add(sql, " FROM unnest($2::uuid[], $3::bigint[]");
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->hash_in_c)
			pg_sql_add(sql, ", $%u::%s", arg++, pg_array_type(x->columns[c]->kind));
	}
	pg_sql_add(sql, ") WITH ORDINALITY AS u(k, s");
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->hash_in_c)
			pg_sql_add(sql, ", c%u", c);
	}
	pg_sql_add(sql, ", n)");
}

static bool declare_args(struct merge_op *m, const struct written *x, uint16_t own)
{
	struct pg_batch *b = &m->op.batch;
	int32_t nums[FERRY_COLUMNS_MAX];
	int64_t *stamps = arena_array(&b->arena, x->w->row_count + 1u, sizeof(*stamps));
	int64_t *hashes = own_hashes(m, x, own);
	uint16_t n = 0;

	if (!stamps || !hashes)
		return false;
	for (uint32_t r = 0; r < x->w->row_count; r++)
		stamps[r] = m->stamps[m->stamp_next + x->w->stamps[r]];
	for (int pass = 0; pass < 2; pass++) {
		for (uint16_t c = 0; c < x->w->column_count; c++) {
			if (x->columns[c]->hash_in_c == (pass == 0))
				nums[n++] = x->columns[c]->num;
		}
	}
	pg_arg_int8(b, m->tx);
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
	pg_arg_int8s(b, stamps, x->w->row_count);
	pg_arg_int4s(b, nums, n);
	pg_arg_int8s(b, hashes, (uint32_t)own * x->w->row_count);
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->hash_in_c)
			pg_arg_cells(b, x->columns[c]->kind, cells_of(x, c), x->w->row_count);
	}
	return true;
}

static bool declare_rows(struct merge_op *m, const struct written *x)
{
	struct pg_sql sql;
	uint16_t own = 0;
	bool ok;

	for (uint16_t c = 0; c < x->w->column_count; c++)
		own = (uint16_t)(own + x->columns[c]->hash_in_c);
	pg_sql_init(&sql);
	declare_sql(&sql, x, own);
	pg_call(&m->op.batch, sql.p);
	ok = !sql.failed && declare_args(m, x, own);
	pg_sql_deinit(&sql);
	return ok;
}

/* ------------------------------------------------------------------ scopes */

/* Where all rows of a table are in one scope, that was compared before. */
static bool has_scopes(const struct written *x)
{
	return x->w->op != ROW_DELETE && x->table->scope_form != PG_SCOPE_TENANT && x->table->scope_form != PG_SCOPE_GLOBAL;
}

/* A row can only be elsewhere after the write than before when it is new or
 * a column of its scope's path was written. */
static bool needs_check(const struct written *x)
{
	if (!has_scopes(x))
		return false;
	if (x->w->op == ROW_INSERT || x->table->scope_also)
		return true;
	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (x->w->nums[c] == x->table->scope_num)
			return true;
	}
	return false;
}

/* Did somebody else make the row in this transaction? Then there was nothing to compare before. */
static bool is_another_s(const struct merge_op *m, const struct written *x, const struct merge_writes *w, uint32_t r)
{
	const struct merge_table *t = pg_load_table(m, x->w->table);

	return t && pg_made_by_another(m, t, pg_load_row(t, &x->w->keys[r]), &w->stamps[x->w->stamps[r]].author);
}

static bool check_scopes(struct merge_op *m, const struct written *x, const struct merge_writes *w, bool all)
{
	struct pg_batch *b = &m->op.batch;
	struct uuid *devices = arena_array(&b->arena, x->w->row_count + 1u, sizeof(*devices));
	struct uuid *keys = arena_array(&b->arena, x->w->row_count + 1u, sizeof(*keys));
	struct scope_check *check = &m->checks[m->check_count];
	const char *also = x->table->scope_also;
	struct pg_sql sql;
	uint32_t n = 0;

	check->owners = arena_array(&m->load_arena, x->w->row_count + 1u, sizeof(*check->owners));
	if (!devices || !keys || !check->owners)
		return false;
	for (uint32_t r = 0; r < x->w->row_count; r++) {
		const struct merge_stamp *s = &w->stamps[x->w->stamps[r]];
		const struct merge_entry *e;

		if (!all && !is_another_s(m, x, w, r))
			continue;
		e = pg_run_find(m, &s->author, s->number);
		keys[n] = x->w->keys[r];
		devices[n] = s->author;
		check->owners[n++] = e ? (uint32_t)(e - m->entries) : 0;
	}
	if (n == 0)
		return true;
	pg_sql_init(&sql);
	pg_sql_add(&sql, "SELECT u.n::int FROM unnest($1::uuid[], $3::uuid[]) WITH ORDINALITY AS u(k, device, n) "
		   "CROSS JOIN LATERAL (SELECT %s%s%s AS scope FROM %s r%s WHERE r.%s = $2 AND r.%s = u.k OFFSET 0) x "
		   "WHERE NOT EXISTS (SELECT FROM ferry.held_scope d WHERE d.device_id = u.device AND d.scope = %s)",
		   x->table->scope_expr, also ? " || " : "", also ? also : "", x->table->name, x->table->scope_joins,
		   x->table->tenant, x->table->key, also ? "ANY (x.scope)" : "x.scope");
	check->call = pg_call(b, sql.p);
	pg_arg_uuids(b, keys, n);
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, devices, n);
	m->check_count++;
	if (sql.failed)
		b->full = true;
	pg_sql_deinit(&sql);
	return true;
}

/* ------------------------------------------------------------- permissions */

/* The device of each row. */
static const struct uuid *devices_of(struct merge_op *m, const struct written *x, const struct merge_writes *w)
{
	struct uuid *devices = arena_array(&m->op.batch.arena, x->w->row_count + 1u, sizeof(*devices));

	for (uint32_t r = 0; devices && r < x->w->row_count; r++)
		devices[r] = w->stamps[x->w->stamps[r]].author;
	return devices;
}

/* Does a new row say anything there? Its NULLs need no permission. */
static bool says_something(const struct written *x, uint16_t c)
{
	const struct value *cells = cells_of(x, c);

	for (uint32_t r = 0; r < x->w->row_count; r++) {
		if (cells[r].kind != VALUE_NULL)
			return true;
	}
	return false;
}

static const char *op_name(enum row_op op)
{
	return op == ROW_INSERT ? "insert" : op == ROW_UPDATE ? "update" : "delete";
}

static void ask_rights(struct merge_op *m, const struct written *x, const struct uuid *devices)
{
	struct pg_batch *b = &m->op.batch;
	int32_t nums[FERRY_COLUMNS_MAX];
	uint32_t n = 0;

	for (uint16_t c = 0; c < x->w->column_count; c++) {
		if (!x->columns[c]->is_tenant && (x->w->op != ROW_INSERT || says_something(x, c)))
			nums[n++] = x->columns[c]->num;
	}
	pg_call(b, "SELECT ferry.check_rights($1, $2, $3, $4, $5, $6)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int4(b, (int32_t)x->table->tbl);
	pg_arg_text(b, op_name(x->w->op));
	pg_arg_int4s(b, nums, n);
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
	pg_arg_uuids(b, devices, x->w->row_count);
}

static void ask_policies(struct merge_op *m, const struct written *x, const struct uuid *devices)
{
	struct pg_batch *b = &m->op.batch;

	pg_call(b, "SELECT ferry.check_policies($1, $2, $3, $4, $5)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int4(b, (int32_t)x->table->tbl);
	pg_arg_text(b, op_name(x->w->op));
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
	pg_arg_uuids(b, devices, x->w->row_count);
}

static void keep_images(struct merge_op *m, const struct written *x)
{
	struct pg_batch *b = &m->op.batch;

	pg_call(b, "SELECT ferry.keep_images($1, $2, $3)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int4(b, (int32_t)x->table->tbl);
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
}

/* May the devices do this to the rows where they are now? A refusal is an
 * error of the statement, and narrows to its change-set like any other. */
static bool rights_before(struct merge_op *m, const struct written *x, const struct merge_writes *w)
{
	const struct uuid *devices;

	if (!(x->table->guarded || x->table->policed) || x->w->op == ROW_INSERT)
		return true;
	devices = devices_of(m, x, w);
	if (!devices)
		return false;
	if (x->table->guarded)
		ask_rights(m, x, devices);
	if (x->table->policed && x->w->op == ROW_UPDATE)
		keep_images(m, x);
	else if (x->table->policed)
		ask_policies(m, x, devices);
	return true;
}

/* ... and where they have come to? */
static bool rights_after(struct merge_op *m, const struct written *x, const struct merge_writes *w)
{
	bool moved = x->table->guarded && (x->w->op == ROW_INSERT || needs_check(x));
	const struct uuid *devices;

	if (x->w->op == ROW_DELETE || !(moved || x->table->policed))
		return true;
	devices = devices_of(m, x, w);
	if (!devices)
		return false;
	if (moved)
		ask_rights(m, x, devices);
	if (x->table->policed)
		ask_policies(m, x, devices);
	return true;
}

uint32_t pg_write_read_checks(struct merge_op *m)
{
	const struct pg_batch *b = &m->op.batch;
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->check_count; i++) {
		for (uint32_t row = 0; row < pg_rows(b, m->checks[i].call); row++) {
			uint32_t r = (uint32_t)pg_int(b, m->checks[i].call, row, 0) - 1;
			struct merge_entry *e = &m->entries[m->checks[i].owners[r]];

			if (e->state == ITEM_REJECTED)
				continue;
			pg_run_reject(m, e, FERRY_OUT_OF_SCOPE, "a row was moved or made outside this device's scopes");
			n++;
		}
	}
	return n;
}

/* --------------------------------------------------------------- the group */

void pg_write_savepoint(struct merge_op *m)
{
	pg_call(&m->op.batch, "SAVEPOINT ferry_group");
}

static bool write_stamps(struct merge_op *m, const struct merge_writes *w)
{
	struct pg_batch *b = &m->op.batch;
	struct uuid *authors = arena_array(&b->arena, w->stamp_count + 1u, sizeof(*authors));
	int64_t *numbers = arena_array(&b->arena, w->stamp_count + 1u, sizeof(*numbers));
	int64_t *at = arena_array(&b->arena, w->stamp_count + 1u, sizeof(*at));
	int64_t *old = arena_array(&b->arena, w->stamp_count + 1u, sizeof(*old));
	int64_t *last = arena_array(&b->arena, w->stamp_count + 1u, sizeof(*last));

	if (!authors || !numbers || !at || !old || !last)
		return false;
	for (uint32_t i = 0; i < w->stamp_count; i++) {
		authors[i] = w->stamps[i].author;
		numbers[i] = w->stamps[i].number;
		at[i] = w->stamps[i].at;
		old[i] = w->stamps[i].old_position;
		last[i] = w->stamps[i].last_position;
	}
	pg_call(b, "INSERT INTO ferry.stamp (id, tx, tenant_id, device_id, number, at, old_position, last_position) "
		   "SELECT u.id, $2, $1, u.device, u.number, u.at, nullif(u.old, 0), nullif(u.last, 0) "
		   "FROM unnest($3::bigint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) "
		   "AS u(id, device, number, at, old, last)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int8(b, m->tx);
	pg_arg_int8s(b, m->stamps + m->stamp_next, w->stamp_count);
	pg_arg_uuids(b, authors, w->stamp_count);
	pg_arg_int8s(b, numbers, w->stamp_count);
	pg_arg_int8s(b, at, w->stamp_count);
	pg_arg_int8s(b, old, w->stamp_count);
	pg_arg_int8s(b, last, w->stamp_count);
	return true;
}

/* Who changes a row may do so where it was deleted meanwhile. */
static bool revive_rows(struct merge_op *m, const struct written *x, const struct merge_writes *w)
{
	struct pg_batch *b = &m->op.batch;
	const struct uuid *devices = devices_of(m, x, w);
	const int32_t key_num = x->table->key_num;

	if (!devices)
		return false;
	pg_call(b, "SELECT ferry.revive($1, $2, $3, $4, $5)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int4(b, (int32_t)x->table->tbl);
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
	pg_arg_int8(b, m->tx);
	pg_arg_int8(b, m->stamps[0]); /* below the devices', whose declarations count more */
	if (!x->table->guarded)
		return true;
	pg_call(b, "SELECT ferry.check_rights($1, $2, 'update', $3, $4, $5)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int4(b, (int32_t)x->table->tbl);
	pg_arg_int4s(b, &key_num, 1);
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
	pg_arg_uuids(b, devices, x->w->row_count);
	return true;
}

/* They have to be known as deleted, though they never stood in a committed state. */
static bool bury_rows(struct merge_op *m, const struct written *x)
{
	struct pg_batch *b = &m->op.batch;
	int64_t *stamps = arena_array(&b->arena, x->w->row_count, sizeof(*stamps));

	if (!stamps)
		return false;
	for (uint32_t r = 0; r < x->w->row_count; r++)
		stamps[r] = m->stamps[m->stamp_next + x->w->stamps[r]];
	pg_call(b, "SELECT ferry.bury($1, $2, $3, $4, $5)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int4(b, (int32_t)x->table->tbl);
	pg_arg_text(b, x->table->tenant_scope);
	pg_arg_uuids(b, x->w->keys, x->w->row_count);
	pg_arg_int8s(b, stamps, x->w->row_count);
	return true;
}

static bool write_one(struct merge_op *m, const struct merge_write *w, const struct merge_writes *all, bool postpone)
{
	struct written x = {.w = w, .table = pg_catalog_table(m->op.catalog, w->table),
			    .postpone = postpone && w->op != ROW_DELETE};

	for (uint16_t c = 0; c < w->column_count; c++)
		x.columns[c] = &x.table->columns[pg_table_column(x.table, w->nums[c])];
	if (w->revives)
		return revive_rows(m, &x, all);
	if (w->buries)
		return bury_rows(m, &x);
	if (!rights_before(m, &x, all))
		return false;
	/* Declared first: what triggers on the write note of its author (the audit
	 * log, the price history) they read from there. */
	if (!declare_rows(m, &x))
		return false;
	if (w->op == ROW_DELETE && !pg_write_cascades(m, w, all))
		return false;
	write_rows(m, &x);
	postpone_columns(m, &x);
	if (!rights_after(m, &x, all))
		return false;
	return !has_scopes(&x) || check_scopes(m, &x, all, needs_check(&x));
}

static bool write_some(struct merge_op *m, const struct merge_writes *w, bool deletes, bool others, bool postpone)
{
	for (uint32_t i = 0; i < w->write_count; i++) {
		bool wanted = w->writes[i].op == ROW_DELETE ? deletes : others;

		if (wanted && !write_one(m, &w->writes[i], w, postpone))
			return false;
	}
	return true;
}

bool pg_write_group(struct merge_op *m, const struct merge_writes *w, enum write_order order)
{
	m->check_count = 0;
	m->group_stamps = w->stamp_count;
	if (w->write_count == 0)
		return true;
	if (w->stamp_count > m->stamp_count - m->stamp_next)
		return false;
	m->checks = arena_array(&m->load_arena, w->write_count, sizeof(*m->checks));
	if (!m->checks || !write_stamps(m, w))
		return false;
	if (order == WRITE_DELETES_FIRST) {
		if (!write_some(m, w, true, false, false) || !write_some(m, w, false, true, false))
			return false;
		pg_write_expect(m, w); /* a deletion may have taken a row along that was to be moved away from there */
		return true;
	}
	return write_some(m, w, true, true, order == WRITE_POSTPONED);
}

/* --------------------------------------------------------------- conflicts */

static const char *conflict_name(enum conflict_kind kind)
{
	switch (kind) {
	case CONFLICT_UPDATE_UPDATE:
		return "update_update";
	case CONFLICT_UPDATE_DELETE:
		return "update_delete";
	default:
		return "delete_update";
	}
}

struct conflict_lists {
	struct uuid *keys;
	const char **others; /* uuid as text; NULL: the hub */
	int32_t *tables, *nums;
	const char **kinds, **winners, **device_values, **hub_values, **results;
};

static const char *value_json(struct merge_op *m, enum column_kind kind, const struct value *v)
{
	struct pg_sql json;
	const char *text = NULL;

	if (v->kind == VALUE_NULL)
		return NULL;
	pg_sql_init(&json);
	pg_json_add(&json, kind, v);
	if (!json.failed)
		text = arena_text(&m->op.batch.arena, json.p, json.n);
	else
		m->op.batch.full = true;
	pg_sql_deinit(&json);
	return text;
}

static void list_conflict(struct merge_op *m, struct conflict_lists *l, uint32_t i, const struct conflict *c)
{
	const struct pg_table *t = pg_catalog_table(m->op.catalog, c->table);
	int column = c->num && t ? pg_table_column(t, c->num) : -1;
	enum column_kind kind = column >= 0 ? t->columns[column].kind : KIND_TEXT;

	l->keys[i] = c->key;
	if (!uuid_is_zero(&c->other)) {
		char text[UUID_TEXT];

		uuid_format(&c->other, text);
		l->others[i] = arena_text(&m->op.batch.arena, text, strlen(text));
	}
	l->tables[i] = (int32_t)c->table;
	l->nums[i] = c->num;
	l->kinds[i] = conflict_name(c->kind);
	l->winners[i] = c->device_won ? "device" : "hub";
	l->device_values[i] = value_json(m, kind, &c->device_value);
	l->hub_values[i] = value_json(m, kind, &c->hub_value);
	l->results[i] = c->device_won ? l->device_values[i] : l->hub_values[i];
}

void pg_write_conflicts(struct merge_op *m, const struct merge_entry *e, const struct merge_outcome *o)
{
	struct pg_batch *b = &m->op.batch;
	const uint32_t n = o->conflict_count;
	struct conflict_lists l = {.keys = arena_array(&b->arena, n + 1u, sizeof(struct uuid)),
				   .others = arena_array(&b->arena, n + 1u, sizeof(char *)),
				   .tables = arena_array(&b->arena, n + 1u, sizeof(int32_t)),
				   .nums = arena_array(&b->arena, n + 1u, sizeof(int32_t)),
				   .kinds = arena_array(&b->arena, n + 1u, sizeof(char *)),
				   .winners = arena_array(&b->arena, n + 1u, sizeof(char *)),
				   .device_values = arena_array(&b->arena, n + 1u, sizeof(char *)),
				   .hub_values = arena_array(&b->arena, n + 1u, sizeof(char *)),
				   .results = arena_array(&b->arena, n + 1u, sizeof(char *))};

	if (n == 0)
		return;
	if (b->arena.full || !l.results) {
		b->full = true;
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		list_conflict(m, &l, i, &o->conflicts[i]);
	pg_call(b, "INSERT INTO ferry.conflict (tenant_id, tx, device_id, number, tbl, key, num, kind, winner, "
		   "device_value, hub_value, result_value, other_device_id) SELECT $1, $2, $3, $4, u.tbl, u.key, u.num, u.kind, "
		   "u.winner, u.dv::jsonb, u.hv::jsonb, u.rv::jsonb, u.other::uuid FROM unnest($5::int[], $6::uuid[], "
		   "$7::int[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[]) "
		   "AS u(tbl, key, num, kind, winner, dv, hv, rv, other)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int8(b, m->tx);
	pg_arg_uuid(b, &e->item->device);
	pg_arg_int8(b, e->item->number);
	pg_arg_int4s(b, l.tables, n);
	pg_arg_uuids(b, l.keys, n);
	pg_arg_int4s(b, l.nums, n);
	pg_arg_texts(b, l.kinds, n);
	pg_arg_texts(b, l.winners, n);
	pg_arg_texts(b, l.device_values, n);
	pg_arg_texts(b, l.hub_values, n);
	pg_arg_texts(b, l.results, n);
	pg_arg_texts(b, l.others, n);
}

/* R11: what the model defers to the commit is checked here, where it can
 * still be taken back alone. The engine's own deferred trigger leaves its
 * work to ferry.finish() (ferry.merging). */
void pg_write_release(struct merge_op *m, enum write_order order)
{
	if (order == WRITE_POSTPONED) {
		m->postponed_call = pg_call(&m->op.batch, "SELECT ferry.write_postponed($1, $2)");
		pg_arg_uuid(&m->op.batch, &m->op.tenant);
		pg_arg_int8(&m->op.batch, m->tx);
	}
	pg_call(&m->op.batch, "SET CONSTRAINTS ALL IMMEDIATE");
	pg_call(&m->op.batch, "SET CONSTRAINTS ALL DEFERRED");
	m->savepoint = m->check_count > 0 || m->staged;
	m->release_call = m->savepoint ? m->op.batch.count : pg_call(&m->op.batch, "RELEASE SAVEPOINT ferry_group");
}
