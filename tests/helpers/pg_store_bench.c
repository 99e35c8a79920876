/* Measures the store alone: merges of inserts and one-column updates of
 * units, a catch-up feed, fill pages. Usage: pg-store-bench <conninfo as
 * ferry_hub> <tenant> <project> <device> <rows> <batch>; the device exists
 * and holds the scope of the project. Prints a line each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/pg_store.h"
#include "tests/lib/poll_io.h"

static struct poll_io poll_state;
static struct pg_io io;
static struct pg_store *store;
static const struct schema_table *units;
static struct uuid tenant, project, device;
static bool done;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void wait_done(void)
{
	while (!done)
		poll_io_turn(&poll_state);
	done = false;
}

static void on_schema(void *ctx, enum ferry_error e, const struct hub_schema *s)
{
	(void)ctx;
	if (e != FERRY_OK)
		fail("no schema");
	for (uint32_t i = 0; i < s->schema.table_count; i++) {
		if (strcmp(s->schema.tables[i].name, "units") == 0)
			units = &s->schema.tables[i];
	}
	done = true;
}

static void on_merge(void *ctx, enum ferry_error e, const struct merge_result *r, uint32_t count)
{
	(void)ctx;
	if (e != FERRY_OK)
		fail(ferry_error_text((int)e));
	for (uint32_t i = 0; i < count; i++) {
		if (r[i].retry || r[i].settled.verdict != VERDICT_ACCEPTED)
			fail(r[i].settled.sentence ? r[i].settled.sentence : "held back");
	}
	done = true;
}

static struct value cell_for(const struct schema_column *c, uint32_t row)
{
	static char texts[64][24];
	char *text = texts[row % 64];

	if (strcmp(c->name, "project_id") == 0)
		return value_bytes(project.b, 16);
	switch (c->kind) {
	case KIND_INT:
		return value_int(row % 5000);
	case KIND_NUMERIC:
		return value_text("95.50", 5);
	case KIND_TIMESTAMPTZ:
		return value_int(1772355000000000 + row);
	default:
		if (strcmp(c->name, "currency") == 0)
			return value_text("EGP", 3);
		if (strcmp(c->name, "status") == 0)
			return value_text("available", 9);
		snprintf(text, sizeof(texts[0]), "%c-%u", c->name[0], row % 64);
		return value_text(text, strlen(text));
	}
}

static struct uuid key_of(uint32_t row)
{
	struct uuid id = {{0}};
	uint64_t x = (row + 1) * 0x9e3779b97f4a7c15u;

	memcpy(id.b, &x, 8);
	memcpy(id.b + 8, &row, 4);
	return id;
}

static void *many(size_t count, size_t size)
{
	void *p = count ? calloc(count, size) : NULL;

	if (!p)
		fail("no memory");
	return p;
}

/* A batch as one push: change-sets of 500 rows each. */
static void merge_rows(bool insert, uint32_t first, uint32_t count, int64_t *number, bool each_own_time)
{
	enum { SET_ROWS = 500 };
	uint32_t sets = (count + SET_ROWS - 1) / SET_ROWS;
	struct merge_item *items = many(sets, sizeof(*items));
	struct change_set *set = many(sets, sizeof(*set));
	struct block *blocks = many(sets, sizeof(*blocks));
	uint16_t nums[FERRY_COLUMNS_MAX], columns[FERRY_COLUMNS_MAX], n = 0;

	for (uint16_t c = 0; c < units->column_count; c++) {
		bool taken = insert ? strcmp(units->columns[c].name, "tenant_id") != 0
				    : strcmp(units->columns[c].name, "floor") == 0;

		if (taken) {
			columns[n] = c;
			nums[n++] = units->columns[c].num;
		}
	}
	for (uint32_t i = 0; i < sets; i++) {
		uint32_t rows = count - i * SET_ROWS < SET_ROWS ? count - i * SET_ROWS : SET_ROWS;
		struct uuid *keys = many(rows, sizeof(*keys));
		struct value *cells = many((size_t)rows * n, sizeof(*cells));
		int64_t *at = each_own_time ? many(rows, sizeof(*at)) : NULL;

		for (uint32_t r = 0; r < rows; r++) {
			keys[r] = key_of(first + i * SET_ROWS + r);
			if (at)
				at[r] = r;
			for (uint16_t c = 0; c < n; c++)
				cells[(size_t)c * rows + r] = insert ? cell_for(&units->columns[columns[c]], r)
								     : value_int(9000 + r);
		}
		blocks[i] = (struct block){.table = units->table, .op = insert ? ROW_INSERT : ROW_UPDATE, .column_count = n,
					   .row_count = rows, .nums = nums, .keys = keys, .cells = cells,
					   .at = at};
		set[i] = (struct change_set){.number = ++*number, .base_position = 1000000, .at = clock_wall_us(),
					     .blocks = &blocks[i], .block_count = 1};
		items[i] = (struct merge_item){.device = device, .number = *number, .set = &set[i]};
	}
	pg_store_ops.merge(store, &tenant, items, sets, on_merge, NULL);
	wait_done();
	for (uint32_t i = 0; i < sets; i++) {
		free((void *)(uintptr_t)blocks[i].keys);
		free((void *)(uintptr_t)blocks[i].cells);
		free((void *)(uintptr_t)blocks[i].at);
	}
	free(items);
	free(set);
	free(blocks);
}

static void report(const char *what, uint32_t rows, int64_t from, size_t bytes)
{
	double seconds = (double)(clock_monotonic_us() - from) / 1e6;

	printf("%s: %u rows, %.3f s, %.0f rows/s", what, rows, seconds, rows / seconds);
	if (bytes)
		printf(", %.1f bytes a row", (double)bytes / rows);
	printf("\n");
}

static void on_feed(void *ctx, enum ferry_error e, const struct feed_result *f)
{
	size_t *bytes = ctx;

	if (e != FERRY_OK)
		fail(ferry_error_text((int)e));
	for (uint32_t i = 0; i < f->frame_count; i++)
		*bytes += f->frames[i].message_bytes;
	done = true;
}

static struct fill_request page;
static uint32_t filled;
static size_t filled_bytes;
static bool fill_end;

static void on_fill(void *ctx, enum ferry_error e, const struct fill_result *r)
{
	(void)ctx;
	if (e != FERRY_OK)
		fail(ferry_error_text((int)e));
	filled += r->row_count;
	filled_bytes += r->message_bytes;
	page.after = r->last;
	fill_end = r->table_done;
	done = true;
}

static void fill_all(void)
{
	char scope[80], id[UUID_TEXT];
	int64_t from = clock_monotonic_us();

	uuid_format(&project, id);
	snprintf(scope, sizeof(scope), "project:%s", id);
	page = (struct fill_request){.tenant = tenant, .scope = scope, .table = units->table, .bytes_max = 256 << 10};
	while (!fill_end) {
		pg_store_ops.fill(store, &page, on_fill, NULL);
		wait_done();
	}
	report("fill", filled, from, filled_bytes);
}

static int64_t merge_all(const char *what, bool insert, uint32_t rows, uint32_t batch, int64_t number, bool own_time)
{
	int64_t from = clock_monotonic_us();

	for (uint32_t first = 0; first < rows; first += batch)
		merge_rows(insert, first, rows - first < batch ? rows - first : batch, &number, own_time);
	report(what, rows, from, 0);
	return number;
}

int main(int argc, char **argv)
{
	struct pg_store_config config = {.conninfo = argc > 1 ? argv[1] : ""};
	uint32_t rows, batch;
	int64_t number = 0, from;
	size_t bytes = 0;

	if (argc != 7 || !uuid_parse(argv[2], strlen(argv[2]), &tenant) || !uuid_parse(argv[3], strlen(argv[3]), &project) ||
	    !uuid_parse(argv[4], strlen(argv[4]), &device))
		return 2;
	rows = (uint32_t)strtoul(argv[5], NULL, 10);
	batch = (uint32_t)strtoul(argv[6], NULL, 10);
	if (rows == 0 || batch == 0)
		return 2;
	poll_io_init(&poll_state, &io);
	store = pg_store_open(&config, &io);
	if (!store)
		return 1;
	pg_store_ops.schema(store, &tenant, on_schema, NULL);
	wait_done();
	number = merge_all("insert", true, rows, batch, number, false);
	merge_all("update", false, rows, batch, number, false);
	from = clock_monotonic_us();
	pg_store_ops.feed(store, &tenant, 0, NULL, 0, NULL, on_feed, &bytes);
	wait_done();
	report("feed", rows, from, bytes);
	fill_all();
	pg_store_close(store);
	return 0;
}
