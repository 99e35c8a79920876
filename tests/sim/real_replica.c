#include "tests/sim/real_replica.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/replica.h"
#include "tests/sim/sim_app.h"
#include "tests/sim/sim_sqlite.h"
#include "tests/lib/temp_folder.h"

static char folder[200]; /* of all replicas; "": not made yet */

#define APPS 2

struct real_replica {
	struct sim *sim;
	int device;
	bool opened; /* it is not the first time */
	const int64_t *skew;
	struct replica *replica;
	void *handle; /* the same */
	char path[300];
	struct sim_app apps[APPS]; /* on the device; the first one also shows the rows */
};

static int64_t wall(void *ctx)
{
	struct real_replica *r = ctx;
	return sim_device_clock(r->sim, *r->skew);
}

static uint64_t chance(void *ctx)
{
	return sim_random(((struct real_replica *)ctx)->sim);
}

static void die(const char *what, const struct ferry_why *why)
{
	fprintf(stderr, "simulator: %s: %s\n", what, why->text);
	abort();
}

static void open_replica(struct real_replica *r)
{
	struct replica_options options = {.create = !r->opened, .wall = wall, .wall_ctx = r, .random = chance, .random_ctx = r};
	struct ferry_why why = {0};
	if (replica_open(r->path, &options, &r->replica, &why))
		die("a replica cannot be opened", &why);
	r->handle = r->replica;
	r->opened = true;
}

static void remove_folder(void)
{
	(void)rmdir(folder);
}

static void make_folder(void)
{
	if (*folder)
		return;
	if (!temp_folder("sim", folder, sizeof folder)) {
		perror("simulator: a temporary folder");
		abort();
	}
	(void)atexit(remove_folder);
}

/* Each crash and each copy goes on in files of a new name. */
static void name_path(struct real_replica *r)
{
	static int files;
	(void)snprintf(r->path, sizeof r->path, "%s/replica-%d-%d.db", folder, r->device, files++);
}

static void copy_file(const char *from, const char *to, const char *suffix)
{
	static const size_t chunk = 1u << 16;
	char a[320], b[320];
	(void)snprintf(a, sizeof a, "%s%s", from, suffix);
	(void)snprintf(b, sizeof b, "%s%s", to, suffix);
	FILE *in = fopen(a, "rb");
	if (!in)
		return;
	FILE *out = fopen(b, "wb");
	char *bytes = sim_alloc(chunk);
	for (size_t n; out && (n = fread(bytes, 1, chunk, in)) > 0;)
		if (fwrite(bytes, 1, n, out) != n)
			abort();
	free(bytes);
	(void)fclose(in);
	if (!out || fclose(out))
		abort();
}

static void copy_files(const char *from, const char *to)
{
	copy_file(from, to, "");
	copy_file(from, to, "-wal");
}

static void remove_files(const char *path)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	for (size_t i = 0; i < 3; i++) {
		char name[320];
		(void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
		(void)unlink(name);
	}
}

static void close_apps(struct real_replica *r)
{
	for (int i = 0; i < APPS; i++)
		sim_app_close(&r->apps[i]);
}

/* What a killed process leaves: the file and its WAL as they are. */
static void real_crash(void *store)
{
	struct real_replica *r = store;
	char old[300];
	memcpy(old, r->path, sizeof old);
	name_path(r);
	copy_files(old, r->path);
	close_apps(r);
	replica_close(r->replica);
	remove_files(old);
	open_replica(r);
}

static void real_free(void *store)
{
	struct real_replica *r = store;
	close_apps(r);
	replica_close(r->replica);
	remove_files(r->path);
	free(r);
}

/* Apps: plain SQL. */

static bool look(struct real_replica *r, const char *sql, bool (*row)(void *ctx, const struct replica_field *fields, int count),
		 void *ctx, struct ferry_why *why)
{
	return sim_app_run(&r->apps[0], r->path, sql, row, ctx, why);
}

static void literal(uint32_t table, const struct schema_column *c, int64_t cell, char out[64])
{
	struct value v = sim_value(c->kind, table, sim_cell_of(table, c->num), cell);
	char id[UUID_TEXT];
	if (v.kind == VALUE_NULL) {
		(void)snprintf(out, 64, "NULL");
	} else if (v.kind == VALUE_INT) {
		(void)snprintf(out, 64, "%lld", (long long)v.i);
	} else if (v.kind == VALUE_BYTES) {
		uuid_format((const struct uuid *)(const void *)v.p, id);
		(void)snprintf(out, 64, "'%s'", id);
	} else {
		(void)snprintf(out, 64, "'%.*s'", (int)v.n, (const char *)v.p);
	}
}

static void compose(char *sql, size_t max, const struct schema *schema, int key, const struct sim_row *before, const struct sim_row *after)
{
	uint32_t table = after->table ? after->table : before->table;
	const struct schema_table *t = &schema->tables[table - 1];
	char id[UUID_TEXT], cell[64], names[200] = "id", values[400], sets[400] = "";
	uuid_format(sim_key(key), id);
	(void)snprintf(values, sizeof values, "'%s'", id);
	for (int i = 0; i < t->column_count; i++) {
		int at = sim_cell_of(table, t->columns[i].num);
		literal(table, &t->columns[i], after->cells[at], cell);
		size_t n = strlen(names), v = strlen(values), s = strlen(sets);
		(void)snprintf(names + n, sizeof names - n, ", %s", t->columns[i].name);
		(void)snprintf(values + v, sizeof values - v, ", %s", cell);
		if (before->cells[at] != after->cells[at])
			(void)snprintf(sets + s, sizeof sets - s, "%s%s = %s", s ? ", " : "", t->columns[i].name, cell);
	}
	if (!after->exists)
		(void)snprintf(sql, max, "DELETE FROM %s WHERE id = '%s'", t->name, id);
	else if (!before->exists)
		(void)snprintf(sql, max, "INSERT INTO %s (%s) VALUES (%s)", t->name, names, values);
	else
		(void)snprintf(sql, max, "UPDATE %s SET %s WHERE id = '%s'", t->name, sets, id);
}

struct reading {
	struct sim_state *out;
	const struct schema_table *table;
};

static int64_t read_cell(uint32_t table, const struct schema_column *c, const char *text)
{
	struct value v = value_text(text, strlen(text));
	int64_t cell;
	if (c->kind == KIND_ARRAY)
		return sim_cell(table, c->num, &v, &cell) ? cell : -2;
	return strtoll(text + (text[0] == 't'), NULL, 10);
}

static bool read_row(void *ctx, const struct replica_field *fields, int count)
{
	struct reading *g = ctx;
	struct uuid id;
	const char *text = fields[0].text;
	int key = text && uuid_parse(text, strlen(text), &id) ? sim_key_number(&id) : -1;
	if (key < 0 || count != g->table->column_count + 1)
		abort();
	struct sim_row *row = &g->out->rows[key];
	*row = (struct sim_row){.exists = true, .table = g->table->table};
	for (int i = 0; i < sim_columns(row->table); i++)
		row->cells[i] = CELL_NULL;
	for (int i = 0; i < g->table->column_count; i++) {
		const struct schema_column *c = &g->table->columns[i];
		int64_t *cell = &row->cells[sim_cell_of(row->table, c->num)];
		text = fields[i + 1].text;
		if (text && c->kind == KIND_UUID)
			*cell = uuid_parse(text, strlen(text), &id) ? sim_key_number(&id) : -2;
		else if (text)
			*cell = read_cell(row->table, c, text);
	}
	return true;
}

static void query_of(const struct schema_table *t, char *sql, size_t max)
{
	(void)snprintf(sql, max, "SELECT id");
	for (int i = 0; i < t->column_count; i++)
		(void)snprintf(sql + strlen(sql), max - strlen(sql), ", %s", t->columns[i].name);
	(void)snprintf(sql + strlen(sql), max - strlen(sql), " FROM %s", t->name);
}

static void real_visible(void *store, struct sim_state *out)
{
	struct real_replica *r = store;
	const struct schema *schema = replica_schema(r->replica);
	memset(out, 0, sizeof *out);
	for (uint32_t i = 0; i < schema->table_count; i++) {
		struct reading g = {.out = out, .table = &schema->tables[i]};
		struct ferry_why why = {0};
		char sql[300];
		query_of(g.table, sql, sizeof sql);
		if (!look(r, sql, read_row, &g, &why))
			die("a replica cannot be read", &why);
	}
}

static int real_changes(void *store)
{
	const struct schema *schema = replica_schema(((struct real_replica *)store)->replica);
	return schema->table_count == 0 ? -1 : (int)(schema->hash - SCHEMA_HASH);
}

static bool real_edit(void *store, int key, const struct sim_row *after)
{
	struct real_replica *r = store;
	struct ferry_why why = {0};
	char sql[1200];
	if (replica_schema(r->replica)->table_count == 0)
		return false;
	struct sim_state *now = sim_alloc(sizeof *now);
	real_visible(r, now);
	compose(sql, sizeof sql, replica_schema(r->replica), key, &now->rows[key], after);
	free(now);
	sim_sqlite_device(r->skew);
	bool done = sim_app_run(&r->apps[sim_range(r->sim, 0, APPS - 1)], r->path, sql, NULL, NULL, &why);
	if (!done)
		sim_fail(r->sim, "an app's statement is refused: %s: %s", sql, why.text);
	return done;
}

/* A value in JSON: a number, or a text as sim_value makes it, or as what a number has become. */
static void keep_value(int key, const char *value, struct sim_kept *out)
{
	char *end;
	int64_t cell = strtoll(value + (value[0] == 't'), &end, 10);
	if (*end == '\0' && is_token(cell))
		out->cells[cell] = true;
	if (sim_is_tally(key))
		checker_keep_tally(out, key, value[0] == '[' ? read_cell(TALLY, sim_column(0, TALLY, TALLY_MARKS), value) : cell);
}

static bool read_kept(void *ctx, const struct replica_field *fields, int count)
{
	struct sim_kept *out = ctx;
	struct uuid id;
	const char *key = fields[0].text, *op = fields[1].text, *value = fields[2].text;
	if (count != 3 || !key || !op || !uuid_parse(key, strlen(key), &id))
		abort();
	if (strcmp(op, "delete") == 0)
		out->deletions[sim_key_number(&id)]++;
	else if (value)
		keep_value(sim_key_number(&id), value, out);
	return true;
}

#define REFUSED "SELECT r.key, r.op, v.value FROM ferry_rejected r LEFT JOIN json_each(r.\"values\") v"

static void read_refused(struct real_replica *r, const char *query, struct sim_kept *out)
{
	struct ferry_why why = {0};
	if (!look(r, query, read_kept, out, &why))
		die("what a replica keeps cannot be read", &why);
}

static void real_kept(void *store, struct sim_kept *out)
{
	read_refused(store, REFUSED " WHERE r.name = 'CLONE'", out);
}

static void real_refused(void *store, struct sim_kept *out)
{
	read_refused(store, REFUSED, out);
}

static bool read_number(void *ctx, const struct replica_field *fields, int count)
{
	if (count != 1 || !fields[0].text)
		abort();
	*(int64_t *)ctx = strtoll(fields[0].text, NULL, 10);
	return true;
}

static int64_t real_last_number(void *store)
{
	struct real_replica *r = store;
	struct ferry_why why = {0};
	int64_t number = 0;
	if (!look(r, "SELECT last_number FROM ferry_state", read_number, &number, &why))
		die("a replica's last number cannot be read", &why);
	return number;
}

static struct sim_replica real_copy(void *store, const int64_t *skew);

static struct sim_replica as_replica(struct real_replica *r)
{
	return (struct sim_replica){.ops = &replica_store_ops, .handle = &r->handle, .store = r, .edit = real_edit, .visible = real_visible,
				    .changes = real_changes, .crash = real_crash, .copy = real_copy, .kept = real_kept, .refused = real_refused, .last_number = real_last_number, .free = real_free};
}

static struct sim_replica real_copy(void *store, const int64_t *skew)
{
	const struct real_replica *r = store;
	struct real_replica *copy = sim_dup(r, sizeof *r);
	memset(copy->apps, 0, sizeof copy->apps);
	copy->skew = skew;
	name_path(copy);
	copy_files(r->path, copy->path);
	open_replica(copy);
	return as_replica(copy);
}

struct sim_replica real_replica_new(struct sim *sim, int device, const int64_t *skew)
{
	struct real_replica *r = sim_alloc(sizeof *r);
	r->sim = sim;
	r->device = device;
	r->skew = skew;
	make_folder();
	name_path(r);
	remove_files(r->path);
	open_replica(r);
	struct uuid id = sim_device_id(device), tenant = {.b = {0x7e, 1}};
	struct ferry_why why = {0};
	if (replica_enrol(r->replica, &tenant, &id, "sim", &why))
		die("a replica cannot be enrolled", &why);
	return as_replica(r);
}
