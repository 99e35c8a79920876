/* A page of a fill [R15]: rows of a table in a scope, in key order, read in a
 * transaction of its own and encoded straight from the binary result. No
 * snapshot is held between pages: what changes meanwhile comes by the feed
 * from the position at which the fill began. */
#include <stdlib.h>
#include <string.h>

#include "hub/pg_bound.h"
#include "hub/pg_op.h"
#include "hub/pg_sql.h"
#include "protocol/row_pieces.h"

#define PAGE_ROWS_MAX 20000
#define ROW_BYTES_MIN 64 /* taken for a row at least, so that a page is bounded where its next rows are longer */
#define FILL_ARENA_BYTES_MAX ((size_t)128 << 20)
#define PIECE_ROOM 8192 /* of a message: its own fields, and the cells that are no text */
#define PIECES_BYTES_MAX (FERRY_ROW_BYTES_MAX + FERRY_ROW_BYTES_MAX / 8)

struct fill_op {
	struct pg_op op;
	struct fill_request request;
	char *scope;
	char *root;    /* the scope without permission and archive */
	bool archived;
	bool brought; /* the table has no rows there by themselves */
	uint32_t limit;
	enum pg_bound_form form;
	uint32_t rows_call;
	struct arena arena;
	struct buffer message;
	struct buffer pieces; /* of a row that fits no message */
	struct fill_result result;
	hub_fill_cb cb;
	void *ctx;
};

/* ------------------------------------------------------------- the question */

/* Is the scope one that rows of the table can be in? Then *out_where is the
 * condition; it may use $4, which add_scope_arg gives. */
static bool scope_condition(const struct pg_table *t, const char *scope, struct pg_sql *sql)
{
	bool is_tenant = strcmp(scope, "tenant") == 0;
	bool fits = strncmp(scope, t->scope_prefix, strlen(t->scope_prefix)) == 0;

	switch (t->scope_form) {
	case PG_SCOPE_TENANT:
		return is_tenant;
	case PG_SCOPE_GLOBAL:
		return is_tenant || strcmp(scope, "global") == 0;
	case PG_SCOPE_COLUMN:
		if (is_tenant)
			pg_sql_add(sql, " AND r.%s IS NULL", t->scope_column);
		else if (fits)
			pg_sql_add(sql, " AND r.%s::text = $4", t->scope_column);
		return is_tenant || fits;
	default:
		return is_tenant || fits; /* the versions say */
	}
}

/* Do only the versions say where a row is? */
static bool by_version(const struct pg_table *t)
{
	return t->scope_form == PG_SCOPE_PATH || t->brought;
}

static bool scope_is_argument(const struct pg_table *t, const char *scope)
{
	return by_version(t) || (t->scope_form == PG_SCOPE_COLUMN && strcmp(scope, "tenant") != 0);
}

/* A uuid column is compared as such, so that its index serves. */
static bool scope_uuid(const struct pg_table *t, const char *scope, struct uuid *out)
{
	const char *id = scope + strlen(t->scope_prefix);
	int c = t->scope_num ? pg_table_column(t, t->scope_num) : -1;

	if (t->scope_form != PG_SCOPE_COLUMN || (c >= 0 && t->columns[c].kind != KIND_UUID))
		return false;
	return uuid_parse(id, strlen(id), out);
}

/* Takes the scope apart: is it one of the table's? */
static bool read_scope(struct fill_op *f, const struct pg_table *t)
{
	size_t n = strlen(f->scope), suffix = strlen(t->scope_suffix), archived = strlen(PG_ARCHIVED);

	f->archived = t->archives && n > archived && strcmp(f->scope + n - archived, PG_ARCHIVED) == 0;
	if (f->archived)
		n -= archived;
	if (n <= suffix || strncmp(f->scope + n - suffix, t->scope_suffix, suffix) != 0)
		return false;
	free(f->root);
	f->root = strndup(f->scope, n - suffix);
	return f->root != NULL;
}

/* Rows that are in the scope because others there refer to them. */
static void add_from_brought(const struct pg_table *t, struct pg_sql *sql)
{
	pg_sql_add(sql, " FROM ferry.brought b JOIN %s r ON r.%s = $2 AND r.%s = b.key WHERE b.tenant_id = $2 AND b.tbl = %u "
		   "AND b.scope = $4 AND b.key > $1 AND b.refs > 0 ORDER BY r.%s LIMIT $3",
		   t->name, t->tenant, t->key, t->tbl, t->key);
}

static void add_from(struct fill_op *f, const struct pg_table *t, struct pg_sql *sql, const struct uuid *id)
{
	if (f->brought) {
		add_from_brought(t, sql);
		return;
	}
	pg_sql_add(sql, " FROM %s r", t->name);
	if (by_version(t))
		pg_sql_add(sql, " JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = %u AND v.key = r.%s", t->tbl, t->key);
	pg_sql_add(sql, " WHERE r.%s = $2 AND r.%s > $1", t->tenant, t->key);
	if (id)
		pg_sql_add(sql, " AND r.%s = $4", t->scope_column);
	else if (by_version(t))
		pg_sql_add(sql, " AND (v.scope = $4 OR $4 = ANY (v.also))");
	else
		(void)scope_condition(t, f->root, sql);
	if (t->archives && !t->brought)
		pg_sql_add(sql, f->archived ? " AND r.deleted_at IS NOT NULL" : " AND r.deleted_at IS NULL");
	pg_sql_add(sql, " ORDER BY r.%s LIMIT $3", t->key);
}

static void fill_question(struct fill_op *f, const struct pg_table *t, struct pg_sql *sql)
{
	struct pg_batch *b = &f->op.batch;
	bool global = !f->brought && strcmp(f->root, "global") == 0;
	bool argument = scope_is_argument(t, f->root);
	struct uuid id;
	bool by_id = argument && !by_version(t) && scope_uuid(t, f->root, &id);
	struct pg_sql from, order;

	pg_sql_init(&from);
	add_from(f, t, &from, by_id ? &id : NULL);
	pg_sql_init(&order);
	pg_sql_add(&order, "r.%s", t->key);
	pg_bound_select(&(struct pg_bound){.table = t, .mask = pg_table_mask(t), .order = order.p, .from = from.p,
					   .form = f->form, .bytes_max = f->request.bytes_max}, sql);
	sql->failed |= from.failed || order.failed;
	pg_sql_deinit(&from);
	pg_sql_deinit(&order);
	f->rows_call = pg_call(b, sql->p);
	pg_arg_uuid(b, &f->request.after);
	pg_arg_uuid(b, global ? &PG_NOBODY : &f->op.tenant);
	pg_arg_int8(b, f->limit);
	if (by_id)
		pg_arg_uuid(b, &id);
	else if (argument)
		pg_arg_text(b, by_version(t) ? f->scope : f->root + strlen(t->scope_prefix));
}

/* --------------------------------------------------------------- the answer */

static bool read_cells(struct fill_op *f, const struct pg_table *t, uint32_t rows, struct block *out)
{
	const struct pg_batch *b = &f->op.batch;
	struct uuid *keys = arena_array(&f->arena, rows + 1u, sizeof(*keys));
	uint16_t *nums = arena_array(&f->arena, t->column_count + 1u, sizeof(*nums));
	struct value *cells = arena_array(&f->arena, (size_t)rows * t->column_count + 1, sizeof(*cells));

	if (!keys || !nums || !cells)
		return false;
	for (uint32_t r = 0; r < rows; r++)
		keys[r] = pg_uuid(b, f->rows_call, r, PG_BOUND_ORDER);
	for (uint16_t c = 0; c < t->column_count; c++) {
		nums[c] = t->columns[c].num;
		for (uint32_t r = 0; r < rows; r++)
			cells[(size_t)c * rows + r] = pg_value(b, f->rows_call, r, PG_BOUND_CELLS + c, t->columns[c].kind);
	}
	*out = (struct block){.table = t->tbl, .op = ROW_INSERT, .column_count = t->column_count, .row_count = rows,
			      .nums = nums, .keys = keys, .cells = cells};
	return true;
}

static enum ferry_error encode_rows(struct fill_op *f, const struct pg_table *t, uint32_t rows, bool done)
{
	struct message m = {.type = MESSAGE_FILL, .fill = {.scope = f->scope, .position = f->request.position,
							   .table_done = done}};

	arena_reset(&f->arena);
	buffer_clear(&f->message);
	if (!read_cells(f, t, rows, &m.fill.block))
		return FERRY_LIMIT;
	return message_encode(&m, &f->message);
}

/* [P 6.6] The first row in pieces. FERRY_ROW_TOO_LARGE: not even so. */
static enum ferry_error encode_pieces(struct fill_op *f, const struct pg_table *t, bool done)
{
	struct message m = {.type = MESSAGE_FILL, .fill = {.scope = f->scope, .position = f->request.position}};
	size_t room = f->op.store->config.message_bytes_max - PIECE_ROOM, *ends;
	struct row_cutter cutter = {0};
	enum ferry_error e = FERRY_OK;

	arena_reset(&f->arena);
	if (!read_cells(f, t, 1, &cutter.row))
		return FERRY_LIMIT;
	if (row_bytes(&cutter.row, 0) > FERRY_ROW_BYTES_MAX)
		return FERRY_ROW_TOO_LARGE;
	ends = arena_array(&f->arena, row_bytes(&cutter.row, 0) / (room / 2) + 2, sizeof(*ends));
	if (!ends)
		return FERRY_LIMIT;
	buffer_clear(&f->pieces);
	f->result.piece_count = 0;
	do {
		buffer_clear(&f->message);
		if (!row_cut(&cutter, room, &f->arena, &m.fill.block))
			return FERRY_LIMIT;
		m.fill.table_done = done && !m.fill.block.goes_on;
		e = message_encode(&m, &f->message);
		if (e == FERRY_OK && !buffer_append(&f->pieces, f->message.p, f->message.n))
			e = FERRY_LIMIT;
		ends[f->result.piece_count++] = f->pieces.n;
	} while (m.fill.block.goes_on && e == FERRY_OK);
	f->result.piece_ends = ends;
	return e;
}

static enum ferry_error leave_out(struct fill_op *f, const struct pg_table *t, bool done)
{
	pg_store_leave_out(f->op.store, t, &f->result.last);
	f->result.row_count = 0;
	return encode_rows(f, t, 0, done);
}

/* The rows from the first on that fit a message; one that does not fit by
 * itself goes in pieces, and one that is larger than a row may be is left out,
 * so that it holds up nobody (P6). */
static enum ferry_error encode_page(struct fill_op *f, struct pg_table *t, uint32_t found)
{
	uint32_t rows = pg_bound_whole_rows(&f->op.batch, f->rows_call, f->form);
	bool ends = found < f->limit && !pg_bound_full(&f->op.batch, f->rows_call);
	bool done = ends && rows == found;
	bool alone = ends && found == 1;
	enum ferry_error e = rows || !found ? encode_rows(f, t, rows, done) : FERRY_ROW_TOO_LARGE;

	while (e == FERRY_MESSAGE_TOO_LARGE && rows > 1) {
		rows = (rows + 1) / 2;
		e = encode_rows(f, t, rows, false);
		done = false;
	}
	f->result.row_count = rows;
	f->result.last = found ? pg_uuid(&f->op.batch, f->rows_call, rows ? rows - 1 : 0, PG_BOUND_ORDER) : f->request.after;
	if (e == FERRY_MESSAGE_TOO_LARGE) {
		done = alone;
		e = encode_pieces(f, t, alone);
	}
	if (e == FERRY_ROW_TOO_LARGE) {
		done = alone;
		e = leave_out(f, t, alone);
	}
	f->result.table_done = done;
	return e;
}

/* How many rows to ask for next time: only an estimate, since the bytes of a
 * page are bounded anyhow. */
static void note_row_bytes(const struct fill_op *f, struct pg_table *t)
{
	if (f->result.row_count > 0)
		t->row_bytes = (uint32_t)((f->result.piece_count ? f->pieces.n : f->message.n) / f->result.row_count) + 1;
}

static void fill_question_run(struct fill_op *f, struct pg_table *t);

/* A page that begins with a long row is asked for once more, up to its bytes;
 * so are then all pages of the table until one of them is of short rows. */
static bool begins_long(const struct fill_op *f, uint32_t found)
{
	return f->form == PG_BOUND_SHORT && found > 0 && pg_bound_whole_rows(&f->op.batch, f->rows_call, f->form) == 0;
}

static void fill_read(struct pg_op *op)
{
	struct fill_op *f = (struct fill_op *)op;
	struct pg_table *t;
	uint32_t found;
	enum ferry_error e;

	if (!pg_op_current(op))
		return;
	t = pg_catalog_table(op->catalog, f->request.table);
	found = pg_rows(&op->batch, f->rows_call);
	if (begins_long(f, found)) {
		t->long_rows = true;
		pg_batch_reset(&op->batch);
		fill_question_run(f, t);
		return;
	}
	f->result.piece_count = 0;
	e = encode_page(f, t, found);
	f->result.message = f->result.piece_count ? f->pieces.p : f->message.p;
	f->result.message_bytes = f->result.piece_count ? f->pieces.n : f->message.n;
	note_row_bytes(f, t);
	t->long_rows = f->form == PG_BOUND_SUM && pg_bound_full(&op->batch, f->rows_call);
	op->store->stats.fills++;
	pg_op_end(op, e);
}

/* No row of the table can be in the scope: said without asking. */
static void fill_nothing(struct pg_op *op)
{
	struct fill_op *f = (struct fill_op *)op;
	const struct pg_table *t = pg_catalog_table(op->catalog, f->request.table);
	enum ferry_error e = encode_rows(f, t, 0, true);

	f->result = (struct fill_result){.message = f->message.p, .message_bytes = f->message.n, .table_done = true,
					 .last = f->request.after};
	pg_op_end(op, e);
}

static uint32_t page_rows(const struct fill_op *f, const struct pg_table *t)
{
	size_t rows = f->request.bytes_max / (t->row_bytes > ROW_BYTES_MIN ? t->row_bytes : ROW_BYTES_MIN);

	if (rows > FERRY_CELLS_MAX / (t->column_count + 1u))
		rows = FERRY_CELLS_MAX / (t->column_count + 1u);
	return rows < 1 ? 1 : rows > PAGE_ROWS_MAX ? PAGE_ROWS_MAX : (uint32_t)rows;
}

static void fill_question_run(struct fill_op *f, struct pg_table *t)
{
	struct pg_sql sql;
	bool failed;

	f->limit = page_rows(f, t);
	f->form = pg_bound_is_measured(t) && !t->long_rows ? PG_BOUND_SHORT : PG_BOUND_SUM;
	pg_op_begin(&f->op, "READ COMMITTED READ ONLY");
	pg_sql_init(&sql);
	fill_question(f, t, &sql);
	pg_call(&f->op.batch, "COMMIT");
	failed = sql.failed;
	pg_sql_deinit(&sql);
	if (failed)
		pg_op_end(&f->op, FERRY_NO_MEMORY);
	else
		pg_op_run(&f->op, fill_read);
}

static void fill_ask(struct pg_op *op)
{
	struct fill_op *f = (struct fill_op *)op;
	struct pg_table *t = pg_catalog_table(op->catalog, f->request.table);
	struct pg_sql condition;
	bool fits;

	if (!t) {
		pg_op_end(op, FERRY_UNKNOWN_TABLE);
		return;
	}
	pg_sql_init(&condition);
	fits = read_scope(f, t) && scope_condition(t, f->root, &condition);
	pg_sql_deinit(&condition);
	f->brought = t->brought && !fits;
	if (fits || t->brought)
		fill_question_run(f, t);
	else
		fill_nothing(op);
}

static void fill_answer(struct pg_op *op, enum ferry_error e)
{
	struct fill_op *f = (struct fill_op *)op;

	f->cb(f->ctx, e, e == FERRY_OK ? &f->result : NULL);
}

static void fill_release(struct pg_op *op)
{
	struct fill_op *f = (struct fill_op *)op;

	arena_deinit(&f->arena);
	buffer_deinit(&f->message);
	buffer_deinit(&f->pieces);
	free(f->scope);
	free(f->root);
}

void pg_store_fill(void *store, const struct fill_request *request, hub_fill_cb cb, void *ctx)
{
	struct pg_store *s = store;
	struct fill_op *f = pg_op_new(s, sizeof(*f), &request->tenant, PG_LANE_READ);

	if (!f) {
		cb(ctx, FERRY_NO_MEMORY, NULL);
		return;
	}
	f->request = *request;
	f->scope = strdup(request->scope);
	f->cb = cb;
	f->ctx = ctx;
	arena_init(&f->arena, FILL_ARENA_BYTES_MAX);
	buffer_init(&f->message, s->config.message_bytes_max);
	buffer_init(&f->pieces, PIECES_BYTES_MAX);
	f->op.wants_catalog = true;
	f->op.first = fill_ask;
	f->op.answer = fill_answer;
	f->op.release = fill_release;
	if (!f->scope)
		pg_op_end(&f->op, FERRY_NO_MEMORY);
	else
		pg_op_start(&f->op);
}
