/* Ranges of keys with their hashes [P 9.12], of the rows of the fixture's hub,
 * and a replica that is damaged.
 * Each test file includes this once, behind replica_fixture.h. */
#ifndef FERRY_TESTS_REPLICA_RANGES_H
#define FERRY_TESTS_REPLICA_RANGES_H

#include <sqlite3.h>

#define CUTS 32

/* As a fault would: no trigger notes it. */
__attribute__((format(printf, 2, 3))) static void damage(struct fixture *f, const char *format, ...)
{
	char sql[1024];
	sqlite3 *db;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 2000);
	assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_true(sqlite3_changes(db) > 0);
	sqlite3_close(db);
}

static int hub_rows_by_key(const void *a, const void *b)
{
	return uuid_compare(&(*(struct hub_row *const *)a)->key, &(*(struct hub_row *const *)b)->key);
}

static uint64_t row_hash(const struct hub_row *row)
{
	const struct schema_table *t = table_of(row->table);
	uint64_t seed = cell_hash_row_seed(&row->key), hash = seed;

	for (int c = 0; c < t->column_count; c++) {
		struct value v = row->cells[c].v;

		if (v.kind == VALUE_TEXT || v.kind == VALUE_BYTES)
			v.p = row->cells[c].bytes;
		if (v.kind != VALUE_NULL)
			hash ^= cell_hash(seed, t->columns[c].num, t->columns[c].kind, &v);
	}
	return hash;
}

static uint32_t cut_range(struct fixture *f, uint32_t table, const struct key_range *asked, struct key_range *out)
{
	static struct hub_row *rows[ROWS_MAX];
	struct key_range rest = *asked;
	uint32_t n = 0, cuts = 0;

	for (uint32_t i = 0; i < f->row_count; i++) {
		struct hub_row *row = &f->rows[i];

		if (row->alive && row->table == table && uuid_compare(&row->key, &asked->after) > 0 &&
		    (uuid_is_zero(&asked->upto) || uuid_compare(&row->key, &asked->upto) <= 0))
			rows[n++] = row;
	}
	if (n > 1)
		qsort(rows, n, sizeof(rows[0]), hub_rows_by_key);
	for (uint32_t i = 0; i < n; i++) {
		if (i == 0 || n <= CUTS || i * CUTS / n != (i - 1) * CUTS / n)
			out[cuts++] = (struct key_range){.after = rest.after};
		out[cuts - 1].upto = rest.after = rows[i]->key;
		out[cuts - 1].rows++;
		out[cuts - 1].hash ^= row_hash(rows[i]);
	}
	if (uuid_is_zero(&rest.upto) || !uuid_equal(&rest.after, &rest.upto))
		out[cuts++] = (struct key_range){.after = rest.after, .upto = rest.upto};
	return cuts;
}

#endif
