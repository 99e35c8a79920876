/* ferry-bench: the measuring hands of tools/bench.
 *
 * Each subcommand does one timed piece of work and prints one line of JSON.
 * tools/bench prepares the databases, calls these, and forms the ratios. The
 * same code writes to the replica (with capture) and to the plain floor
 * table, so that a ratio compares nothing but the product.
 *
 *   sqlite-insert DB ROWS ROWS_PER_TX SYNC SEED TENANT PROJECT
 *   sqlite-update DB ROWS SYNC
 *   copy-to-sqlite CONNINFO SELECT DB SYNC
 *   pg-load CONNINFO TABLE ROWS BATCH TENANT PROJECT
 *   pg-upsert CONNINFO TABLE ROWS BATCH TENANT PROJECT
 *   pg-update CONNINFO TABLE ROWS BATCH
 *   pg-single CONNINFO TABLE COUNT
 *   hop A.db B.db COUNT TENANT PROJECT
 *   storm SECONDS RATE OBSERVERS DB... (one write per device and 1/RATE s)
 */
#include <libpq-fe.h>
#include <sqlite3.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNIT_COLUMNS 19
#define TEXT_MAX 64

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sleep_s(double s)
{
	if (s <= 0)
		return;
	struct timespec t = {.tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)};
	nanosleep(&t, NULL);
}

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* A version 7 UUID: time-ordered, as the product's own key generator makes. */
static void uuid7(char out[37], uint64_t ms, uint64_t *state)
{
	uint64_t a = random_next(state), b = random_next(state);
	snprintf(out, 37, "%08x-%04x-7%03x-%04x-%012" PRIx64, (unsigned)(ms >> 16), (unsigned)(ms & 0xffff),
		 (unsigned)(a & 0xfff), (unsigned)(0x8000 | ((a >> 12) & 0x3fff)), b & 0xffffffffffffu);
}

/* One row of units with realistic variety, as text; NULL where empty. */
struct unit {
	char text[UNIT_COLUMNS][TEXT_MAX];
	bool null[UNIT_COLUMNS];
};

enum { U_ID, U_TENANT, U_PROJECT, U_CODE, U_FLOOR, U_TYPE, U_SIZE, U_BED, U_BATH, U_VIEW, U_PRICE, U_CURRENCY,
       U_STATUS, U_TOUR, U_LENGTH, U_WIDTH, U_HEIGHT, U_CREATED, U_UPDATED };

static const char *const unit_columns =
	"id,tenant_id,project_id,code,floor,unit_type_code,size_sqm,bedrooms,bathrooms,view,price_minor,currency,"
	"status,virtual_tour_url,length_m,width_m,height_m,created_at,updated_at";

static void put(struct unit *u, int column, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void put(struct unit *u, int column, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(u->text[column], TEXT_MAX, format, args);
	va_end(args);
	u->null[column] = false;
}

static void unit_make(struct unit *u, uint64_t i, uint64_t *state, const char *tenant, const char *project)
{
	static const char *const types[] = {"APT_1BR", "APT_2BR", "VILLA_4BR"};
	static const char *const views[] = {"sea", "garden", "city", "street"};
	static const char *const states[] = {"available", "available", "available", "reserved", "sold"};
	uint64_t r = random_next(state);
	time_t made = (time_t)(1767225600 + i / 10);
	struct tm tm;
	char stamp[40];
	gmtime_r(&made, &tm);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
	memset(u->null, 1, sizeof u->null);
	uuid7(u->text[U_ID], 1767225600000u + i / 16, state);
	u->null[U_ID] = false;
	put(u, U_TENANT, "%s", tenant);
	put(u, U_PROJECT, "%s", project);
	put(u, U_CODE, "%c-%04u", 'A' + (int)(i % 6), (unsigned)(i / 6 % 10000));
	put(u, U_FLOOR, "%u", (unsigned)(i % 40));
	put(u, U_TYPE, "%s", types[r % 3]);
	put(u, U_SIZE, "%u.%02u", (unsigned)(45 + r / 3 % 400), (unsigned)(r / 1200 % 4 * 25));
	put(u, U_BED, "%u", (unsigned)(1 + r / 7 % 4));
	put(u, U_BATH, "%u", (unsigned)(1 + r / 29 % 3));
	put(u, U_VIEW, "%s", views[r / 11 % 4]);
	put(u, U_PRICE, "%u", (unsigned)(10000000 + r / 13 % 4000 * 50000));
	put(u, U_CURRENCY, "EGP");
	put(u, U_STATUS, "%s", states[r / 17 % 5]);
	put(u, U_HEIGHT, "2.%02u", (unsigned)(60 + r / 31 % 4 * 10));
	put(u, U_CREATED, "%s.%06uZ", stamp, (unsigned)(r / 37 % 1000000));
	put(u, U_UPDATED, "%s", u->text[U_CREATED]);
}

/* ---- SQLite ---------------------------------------------------------- */

static void run(sqlite3 *db, const char *sql)
{
	char *why = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		die("%s: %s", sql, why ? why : "?");
}

static sqlite3 *open_db(const char *path, const char *sync)
{
	sqlite3 *db;
	char sql[64];
	if (sqlite3_open(path, &db) != SQLITE_OK)
		die("cannot open %s: %s", path, sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, 20000);
	run(db, "PRAGMA journal_mode=WAL");
	snprintf(sql, sizeof sql, "PRAGMA synchronous=%s", sync);
	run(db, sql);
	return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *s;
	if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
		die("%s: %s", sql, sqlite3_errmsg(db));
	return s;
}

static void step(sqlite3 *db, sqlite3_stmt *s)
{
	if (sqlite3_step(s) != SQLITE_DONE)
		die("step: %s", sqlite3_errmsg(db));
	sqlite3_reset(s);
}

static sqlite3_stmt *prepare_insert(sqlite3 *db)
{
	char sql[1024];
	snprintf(sql, sizeof sql, "INSERT INTO units(%s) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,"
				  "?16,?17,?18,?19)", unit_columns);
	return prepare(db, sql);
}

static bool is_integer(int column)
{
	return column == U_FLOOR || column == U_BED || column == U_BATH || column == U_PRICE;
}

static void bind_unit(sqlite3_stmt *s, const struct unit *u)
{
	for (int c = 0; c < UNIT_COLUMNS; c++) {
		if (u->null[c])
			sqlite3_bind_null(s, c + 1);
		else if (is_integer(c))
			sqlite3_bind_int64(s, c + 1, strtoll(u->text[c], NULL, 10));
		else
			sqlite3_bind_text(s, c + 1, u->text[c], -1, SQLITE_STATIC);
	}
}

static int cmd_sqlite_insert(char **a)
{
	sqlite3 *db = open_db(a[0], a[3]);
	uint64_t rows = strtoull(a[1], NULL, 10), per_tx = strtoull(a[2], NULL, 10), seed = strtoull(a[4], NULL, 10);
	sqlite3_stmt *s = prepare_insert(db);
	struct unit *units = calloc(rows, sizeof *units); /* made beforehand: not part of the work */
	if (!units)
		die("no memory for %" PRIu64 " rows", rows);
	for (uint64_t i = 0; i < rows; i++)
		unit_make(&units[i], i, &seed, a[5], a[6]);
	double start = now_s();
	for (uint64_t i = 0; i < rows; i++) {
		if (i % per_tx == 0)
			run(db, "BEGIN");
		bind_unit(s, &units[i]);
		step(db, s);
		if ((i + 1) % per_tx == 0 || i + 1 == rows)
			run(db, "COMMIT");
	}
	printf("{\"seconds\": %.6f}\n", now_s() - start);
	return 0;
}

static int cmd_sqlite_update(char **a)
{
	sqlite3 *db = open_db(a[0], a[2]);
	size_t rows = strtoull(a[1], NULL, 10), n = 0;
	char(*ids)[37] = calloc(rows, sizeof *ids);
	if (!ids)
		die("no memory");
	sqlite3_stmt *s = prepare(db, "SELECT id FROM units LIMIT ?1");
	sqlite3_bind_int64(s, 1, (int64_t)rows);
	while (sqlite3_step(s) == SQLITE_ROW)
		snprintf(ids[n++], 37, "%s", (const char *)sqlite3_column_text(s, 0));
	sqlite3_finalize(s);
	if (n < rows)
		die("only %zu rows to update", n);
	s = prepare(db, "UPDATE units SET status = iif(status = 'reserved', 'available', 'reserved') "
			"WHERE id = ?1");
	double start = now_s();
	run(db, "BEGIN");
	for (size_t i = 0; i < rows; i++) {
		sqlite3_bind_text(s, 1, ids[i], 36, SQLITE_STATIC);
		step(db, s);
	}
	run(db, "COMMIT");
	printf("{\"seconds\": %.6f}\n", now_s() - start);
	return 0;
}

/* ---- PostgreSQL floors ------------------------------------------------ */

static PGconn *open_pg(const char *conninfo)
{
	PGconn *pg = PQconnectdb(conninfo);
	if (PQstatus(pg) != CONNECTION_OK)
		die("%s", PQerrorMessage(pg));
	return pg;
}

static void pg_run(PGconn *pg, const char *sql)
{
	PGresult *r = PQexec(pg, sql);
	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		die("%s: %s", sql, PQerrorMessage(pg));
	PQclear(r);
}

/* Splits a line of COPY text format in place; NULL fields become NULL. */
static int split_copy(char *line, char **fields, int max)
{
	int n = 0;
	for (char *p = line; n < max;) {
		char *end = p + strcspn(p, "\t\n");
		char stop = *end;
		*end = '\0';
		fields[n++] = strcmp(p, "\\N") == 0 ? NULL : p;
		if (stop != '\t')
			break;
		p = end + 1;
	}
	return n;
}

/* The floor of a bootstrap: one thread takes rows from COPY and inserts them. */
static int cmd_copy_to_sqlite(char **a)
{
	PGconn *pg = open_pg(a[0]);
	sqlite3 *db = open_db(a[2], a[3]);
	sqlite3_stmt *s = prepare_insert(db);
	char sql[2048], *line, *fields[UNIT_COLUMNS];
	uint64_t rows = 0;
	snprintf(sql, sizeof sql, "COPY (%s) TO STDOUT", a[1]);
	double start = now_s();
	PGresult *r = PQexec(pg, sql);
	if (PQresultStatus(r) != PGRES_COPY_OUT)
		die("%s: %s", sql, PQerrorMessage(pg));
	PQclear(r);
	run(db, "BEGIN");
	while (PQgetCopyData(pg, &line, 0) > 0) {
		int n = split_copy(line, fields, UNIT_COLUMNS);
		for (int c = 0; c < n; c++) {
			if (!fields[c])
				sqlite3_bind_null(s, c + 1);
			else if (is_integer(c))
				sqlite3_bind_int64(s, c + 1, strtoll(fields[c], NULL, 10));
			else
				sqlite3_bind_text(s, c + 1, fields[c], -1, SQLITE_STATIC);
		}
		step(db, s);
		PQfreemem(line);
		rows++;
	}
	run(db, "COMMIT");
	printf("{\"seconds\": %.6f, \"rows\": %" PRIu64 "}\n", now_s() - start, rows);
	return 0;
}

struct text_array { /* a PostgreSQL array literal under construction */
	char *p;
	size_t n, capacity;
};

static void array_add(struct text_array *t, const char *text, bool first)
{
	size_t need = t->n + (text ? strlen(text) : 4) + 8;
	if (need > t->capacity) {
		t->capacity = need * 2;
		t->p = realloc(t->p, t->capacity);
		if (!t->p)
			die("no memory");
	}
	t->n += (size_t)snprintf(t->p + t->n, t->capacity - t->n, "%s%s", first ? "{" : ",", text ? text : "NULL");
}

static void upsert_batch(PGconn *pg, const char *sql, const struct unit *units, uint64_t rows)
{
	struct text_array arrays[UNIT_COLUMNS] = {0};
	const char *values[UNIT_COLUMNS];
	for (int c = 0; c < UNIT_COLUMNS; c++) {
		for (uint64_t i = 0; i < rows; i++)
			array_add(&arrays[c], units[i].null[c] ? NULL : units[i].text[c], i == 0);
		if (!arrays[c].p)
			die("an empty batch");
		memcpy(arrays[c].p + arrays[c].n, "}", 2);
		values[c] = arrays[c].p;
	}
	PGresult *r = PQexecParams(pg, sql, UNIT_COLUMNS, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(r) != PGRES_COMMAND_OK)
		die("upsert: %s", PQerrorMessage(pg));
	PQclear(r);
	for (int c = 0; c < UNIT_COLUMNS; c++)
		free(arrays[c].p);
}

static const char *const upsert_format =
	"INSERT INTO %s(id,tenant_id,project_id,code,floor,unit_type_code,size_sqm,bedrooms,bathrooms,view,"
	"price_minor,currency,status,virtual_tour_url,length_m,width_m,height_m,created_at,updated_at) "
	"SELECT * FROM unnest($1::uuid[],$2::uuid[],$3::uuid[],$4::text[],$5::int[],$6::text[],$7::numeric[],"
	"$8::int[],$9::int[],$10::text[],$11::bigint[],$12::bpchar[],$13::text[],$14::text[],$15::numeric[],"
	"$16::numeric[],$17::numeric[],$18::timestamptz[],$19::timestamptz[]) "
	"ON CONFLICT (tenant_id, id) DO UPDATE SET status = excluded.status";

/* Rows to work on, each batch a transaction; made batch by batch, so that a
 * million of them need no memory. */
static int cmd_pg_load(char **a)
{
	PGconn *pg = open_pg(a[0]);
	uint64_t rows = strtoull(a[2], NULL, 10), batch = strtoull(a[3], NULL, 10), seed = 11;
	struct unit *units = calloc(batch, sizeof *units);
	char sql[2048];
	if (!units)
		die("no memory");
	snprintf(sql, sizeof sql, upsert_format, a[1]);
	for (uint64_t i = 0; i < rows; i += batch) {
		uint64_t n = rows - i < batch ? rows - i : batch;
		for (uint64_t k = 0; k < n; k++)
			unit_make(&units[k], i + k, &seed, a[4], a[5]);
		upsert_batch(pg, sql, units, n);
	}
	free(units);
	printf("{\"rows\": %" PRIu64 "}\n", rows);
	return 0;
}

/* 50k inserts, then the same rows again with another status: the floor of W2. */
static int cmd_pg_upsert(char **a)
{
	PGconn *pg = open_pg(a[0]);
	uint64_t rows = strtoull(a[2], NULL, 10), batch = strtoull(a[3], NULL, 10), seed = 7;
	struct unit *units = calloc(rows, sizeof *units);
	char sql[2048];
	double took[2];
	if (!units)
		die("no memory");
	snprintf(sql, sizeof sql, upsert_format, a[1]);
	for (uint64_t i = 0; i < rows; i++)
		unit_make(&units[i], i, &seed, a[4], a[5]);
	for (int round = 0; round < 2; round++) {
		double start = now_s();
		for (uint64_t i = 0; i < rows; i += batch)
			upsert_batch(pg, sql, units + i, rows - i < batch ? rows - i : batch);
		took[round] = now_s() - start;
		for (uint64_t i = 0; i < rows; i++)
			put(&units[i], U_STATUS, "%s", strcmp(units[i].text[U_STATUS], "reserved") ? "reserved" : "available");
	}
	free(units);
	printf("{\"insert_seconds\": %.6f, \"update_seconds\": %.6f}\n", took[0], took[1]);
	return 0;
}

static int cmd_pg_update(char **a)
{
	PGconn *pg = open_pg(a[0]);
	char sql[512];
	snprintf(sql, sizeof sql, "UPDATE %s SET price_minor = price_minor + 1000", a[1]);
	double start = now_s();
	pg_run(pg, sql);
	printf("{\"seconds\": %.6f}\n", now_s() - start);
	return 0;
}

/* COUNT transactions of one row each, ordinary SQL, one connection. */
static int cmd_pg_single(char **a)
{
	PGconn *pg = open_pg(a[0]);
	int count = (int)strtol(a[2], NULL, 10);
	char sql[512];
	snprintf(sql, sizeof sql, "SELECT tenant_id::text, id::text FROM %s LIMIT %d", a[1], count);
	PGresult *ids = PQexec(pg, sql);
	if (PQresultStatus(ids) != PGRES_TUPLES_OK || PQntuples(ids) < count)
		die("not enough rows: %s", PQerrorMessage(pg));
	snprintf(sql, sizeof sql, "UPDATE %s SET price_minor = price_minor + 1000 WHERE tenant_id = $1 AND id = $2", a[1]);
	PQclear(PQprepare(pg, "u", sql, 2, NULL));
	double start = now_s();
	for (int i = 0; i < count; i++) {
		const char *key[] = {PQgetvalue(ids, i, 0), PQgetvalue(ids, i, 1)};
		PGresult *r = PQexecPrepared(pg, "u", 2, key, NULL, NULL, 0);
		if (PQresultStatus(r) != PGRES_COMMAND_OK)
			die("update: %s", PQerrorMessage(pg));
		PQclear(r);
	}
	printf("{\"seconds\": %.6f}\n", now_s() - start);
	return 0;
}

/* ---- latency ---------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void print_percentiles(double *ms, size_t n, const char *extra)
{
	if (n == 0)
		die("nothing was observed");
	qsort(ms, n, sizeof *ms, compare_doubles);
	printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, \"n\": %zu%s}\n", ms[n / 2],
	       ms[(size_t)((double)(n - 1) * 0.99)], ms[n - 1], n, extra);
}

/* One write in A at a time; how long until B's replica shows it? */
static int cmd_hop(char **a)
{
	sqlite3 *from = open_db(a[0], "NORMAL"), *to = open_db(a[1], "NORMAL");
	int count = (int)strtol(a[2], NULL, 10);
	double *ms = calloc((size_t)count, sizeof *ms);
	uint64_t seed = (uint64_t)time(NULL);
	sqlite3_stmt *insert = prepare_insert(from);
	sqlite3_stmt *look = prepare(to, "SELECT 1 FROM units WHERE id = ?1");
	if (!ms)
		die("no memory");
	for (int i = 0; i < count; i++) {
		struct unit u;
		unit_make(&u, (uint64_t)i, &seed, a[3], a[4]);
		bind_unit(insert, &u);
		double start = now_s(), deadline = start + 30;
		step(from, insert);
		for (;;) {
			sqlite3_bind_text(look, 1, u.text[U_ID], 36, SQLITE_STATIC);
			int rc = sqlite3_step(look);
			sqlite3_reset(look);
			if (rc == SQLITE_ROW)
				break;
			if (now_s() > deadline)
				die("write %d did not arrive within 30 s", i);
			sleep_s(0.0002);
		}
		ms[i] = (now_s() - start) * 1000;
		sleep_s(0.005 + (double)(random_next(&seed) % 1000) / 1e5); /* no resonance with anybody's timer */
	}
	print_percentiles(ms, (size_t)count, "");
	free(ms);
	return 0;
}

struct storm {
	int devices, observers;
	sqlite3 **db;
	sqlite3_stmt **write;
	sqlite3_stmt **look;
	sqlite3_stmt **version; /* PRAGMA data_version: has another program committed? */
	int *seen_version;
	double *ms;
	size_t samples, samples_max;
	double rate, start, end;
	uint64_t written;
	char (*ids)[37];
};

/* Every row a device owns carries the time of its last write in
 * virtual_tour_url; an observer's replica shows it when it arrived. */
static void storm_observe(struct storm *s, int o, double **last)
{
	int rc, version;
	sqlite3_step(s->version[o]);
	version = sqlite3_column_int(s->version[o], 0);
	sqlite3_reset(s->version[o]);
	if (version == s->seen_version[o])
		return;
	s->seen_version[o] = version;
	while ((rc = sqlite3_step(s->look[o])) == SQLITE_ROW) {
		int device = sqlite3_column_int(s->look[o], 0);
		const char *text = (const char *)sqlite3_column_text(s->look[o], 1);
		double written = text ? strtod(text, NULL) : 0;
		if (device < 0 || device >= s->devices || written <= last[o][device])
			continue;
		last[o][device] = written;
		if (s->samples < s->samples_max)
			s->ms[s->samples++] = (now_s() - written) * 1000;
	}
	if (rc != SQLITE_DONE)
		die("observe: %s", sqlite3_errmsg(s->db[o]));
	sqlite3_reset(s->look[o]);
}

static void storm_write(struct storm *s, int d)
{
	char text[TEXT_MAX];
	snprintf(text, sizeof text, "%.6f", now_s());
	sqlite3_bind_text(s->write[d], 1, text, -1, SQLITE_TRANSIENT);
	sqlite3_bind_text(s->write[d], 2, s->ids[d], 36, SQLITE_STATIC);
	step(s->db[d], s->write[d]);
	s->written++;
}

static void storm_open(struct storm *s, char **paths)
{
	sqlite3_stmt *pick = NULL;
	for (int d = 0; d < s->devices; d++) {
		s->db[d] = open_db(paths[d], "NORMAL");
		/* This one thread plays the apps of all devices: while it waited for the disk in one
		 * replica's checkpoint, the others would stand still. The agents' connections see to it. */
		run(s->db[d], "PRAGMA wal_autocheckpoint = 0");
		s->write[d] = prepare(s->db[d], "UPDATE units SET virtual_tour_url = ?1 WHERE id = ?2");
	}
	pick = prepare(s->db[0], "SELECT id FROM units WHERE code LIKE 'W5-%' ORDER BY code LIMIT ?1");
	sqlite3_bind_int(pick, 1, s->devices);
	int n = 0;
	while (sqlite3_step(pick) == SQLITE_ROW && n < s->devices)
		snprintf(s->ids[n++], 37, "%s", (const char *)sqlite3_column_text(pick, 0));
	sqlite3_finalize(pick);
	if (n < s->devices)
		die("only %d rows with a code W5-nnn", n);
	for (int o = 0; o < s->observers; o++)
		s->version[o] = prepare(s->db[o], "PRAGMA data_version");
	for (int o = 0; o < s->observers; o++)
		s->look[o] = prepare(s->db[o], "SELECT CAST(substr(code, 4) AS INTEGER), virtual_tour_url FROM units "
					       "WHERE code LIKE 'W5-%'");
}

/* The replicas themselves close with the process. */
static void storm_free(struct storm *s)
{
	free(s->db);
	free(s->write);
	free(s->look);
	free(s->version);
	free(s->seen_version);
	free(s->ids);
	free(s->ms);
}

static int cmd_storm(int argc, char **a)
{
	struct storm s = {.rate = strtod(a[1], NULL), .observers = (int)strtol(a[2], NULL, 10), .devices = argc - 3};
	double seconds = strtod(a[0], NULL);
	size_t n = (size_t)s.devices;
	if (s.observers > s.devices)
		s.observers = s.devices;
	s.samples_max = (size_t)(seconds * s.rate * (double)s.devices * s.observers * 2) + 1000;
	s.db = calloc(n, sizeof *s.db);
	s.write = calloc(n, sizeof *s.write);
	s.look = calloc(n, sizeof *s.look);
	s.version = calloc(n, sizeof *s.version);
	s.seen_version = calloc(n, sizeof *s.seen_version);
	s.ids = calloc(n, sizeof *s.ids);
	s.ms = calloc(s.samples_max, sizeof *s.ms);
	double **last = calloc((size_t)s.observers, sizeof *last), *next = calloc(n, sizeof *next);
	if (!s.db || !s.write || !s.look || !s.version || !s.seen_version || !s.ids || !s.ms || !last || !next)
		die("no memory");
	storm_open(&s, a + 3);
	s.start = now_s();
	s.end = s.start + seconds;
	for (int o = 0; o < s.observers; o++) {
		last[o] = calloc(n, sizeof **last);
		if (!last[o])
			die("no memory");
		for (int d = 0; d < s.devices; d++) /* what stood there before the run is no sample */
			last[o][d] = s.start;
	}
	for (int d = 0; d < s.devices; d++)
		next[d] = s.start + (double)d / ((double)s.devices * s.rate);
	while (now_s() < s.end + 2) {
		for (int d = 0; d < s.devices; d++)
			if (next[d] <= now_s() && next[d] < s.end) {
				storm_write(&s, d);
				next[d] += 1 / s.rate;
			}
		for (int o = 0; o < s.observers; o++)
			storm_observe(&s, o, last);
		sleep_s(0.001);
	}
	char extra[128];
	snprintf(extra, sizeof extra, ", \"written\": %" PRIu64 ", \"observed\": %zu", s.written, s.samples);
	print_percentiles(s.ms, s.samples, extra);
	for (int o = 0; o < s.observers; o++)
		free(last[o]);
	free(last);
	free(next);
	storm_free(&s);
	return 0;
}

struct command {
	const char *name;
	int arguments;
	int (*run)(char **arguments);
};

static const struct command commands[] = {
	{"sqlite-insert", 7, cmd_sqlite_insert}, {"sqlite-update", 3, cmd_sqlite_update},
	{"copy-to-sqlite", 4, cmd_copy_to_sqlite}, {"pg-load", 6, cmd_pg_load}, {"pg-upsert", 6, cmd_pg_upsert},
	{"pg-update", 2, cmd_pg_update}, {"pg-single", 3, cmd_pg_single}, {"hop", 5, cmd_hop},
};

int main(int argc, char **argv)
{
	if (argc > 5 && strcmp(argv[1], "storm") == 0)
		return cmd_storm(argc - 2, argv + 2);
	for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
		if (strcmp(argv[1], commands[i].name) == 0 && argc - 2 == commands[i].arguments)
			return commands[i].run(argv + 2);
	die("ferry-bench: used by tools/bench; see the head of tools/ferry_bench.c for its subcommands");
}
