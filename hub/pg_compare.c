#include "hub/pg_compare.h"

#include <stdlib.h>
#include <string.h>

#include "hub/pg_sql.h"

#define QUESTION_BYTES_MAX ((size_t)256 << 10)
#define CUTS 32 /* ranges with rows that an asked one is cut into */

static const char wanted_sql[] =
	"SELECT k.key, v.key IS NOT NULL FROM unnest($3::uuid[]) k(key) LEFT JOIN ferry.version v "
	"ON v.tenant_id = $1 AND v.tbl = $2 AND v.key = k.key AND (v.scope = $4 OR $4 = ANY (v.also)) AND NOT v.deleted";

enum { R_RANGE, R_ROWS, R_HASH, R_LAST };

static bool copy(struct pg_question *q, const struct message_compare *asked)
{
	struct message_compare *to = &q->asked;

	*to = *asked;
	to->scope = arena_text(&q->arena, asked->scope, strlen(asked->scope));
	to->ranges = arena_copy(&q->arena, asked->ranges, asked->range_count * sizeof(*asked->ranges));
	to->keys = arena_copy(&q->arena, asked->keys, asked->key_count * sizeof(*asked->keys));
	return to->scope && (to->ranges || !to->range_count) && (to->keys || !to->key_count);
}

struct pg_question *pg_question_new(const struct message_compare *asked)
{
	struct pg_question *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	arena_init(&q->arena, QUESTION_BYTES_MAX);
	if (copy(q, asked))
		return q;
	pg_question_free(q);
	return NULL;
}

void pg_question_free(struct pg_question *q)
{
	if (!q)
		return;
	arena_deinit(&q->arena);
	free(q);
}

bool pg_question_global(const struct pg_question *q)
{
	return strncmp(q->asked.scope, "global", strlen("global")) == 0;
}

static struct uuid last_key(const struct key_range *r)
{
	struct uuid last = r->upto;

	if (uuid_is_zero(&last))
		memset(last.b, 0xff, sizeof(last.b));
	return last;
}

/* A row's hash [P 8.4]: the seed of its key and the columns that devices get. */
static void ranges_sql(struct pg_sql *sql, const struct pg_table *t)
{
	pg_sql_add(sql, "SELECT r.n::int, count(*), bit_xor(x.h), max(x.key::text COLLATE \"C\")::uuid "
			"FROM unnest($3::uuid[], $4::uuid[]) WITH ORDINALITY AS r(after, upto, n) CROSS JOIN LATERAL ("
			"SELECT v.key, ntile(%d) OVER (ORDER BY v.key) AS cut, uuid_hash_extended(v.key, 0)", CUTS);
	for (uint16_t c = 0; c < t->column_count; c++)
		pg_sql_add(sql, " # coalesce(v.hashes[%u], 0)", t->columns[c].sum_index + 1u);
	pg_sql_add(sql, " AS h FROM ferry.version v WHERE v.tenant_id = $1 AND v.tbl = $2 AND (v.scope = $5 OR $5 = ANY (v.also)) AND NOT v.deleted "
			"AND v.key > r.after AND v.key <= r.upto) x GROUP BY r.n, x.cut ORDER BY r.n, x.cut");
}

static void ask_wanted(struct pg_question *q, struct pg_batch *b, const struct uuid *tenant)
{
	struct uuid *keys = arena_array(&q->arena, q->asked.key_count + 1u, sizeof(*keys));

	for (uint32_t i = 0; keys && i < q->asked.key_count; i++)
		keys[i] = q->asked.keys[i].key;
	q->wanted_call = pg_call(b, wanted_sql);
	pg_arg_uuid(b, tenant);
	pg_arg_int4(b, (int32_t)q->asked.table);
	pg_arg_uuids(b, keys, keys ? q->asked.key_count : 0);
	pg_arg_text(b, q->asked.scope);
}

static void ask_ranges(struct pg_question *q, struct pg_batch *b, const struct pg_table *t, const struct uuid *tenant)
{
	struct uuid after[FERRY_COMPARE_RANGES_MAX], upto[FERRY_COMPARE_RANGES_MAX];
	struct pg_sql sql;

	for (uint32_t i = 0; i < q->asked.range_count; i++) {
		after[i] = q->asked.ranges[i].after;
		upto[i] = last_key(&q->asked.ranges[i]);
	}
	pg_sql_init(&sql);
	ranges_sql(&sql, t);
	q->ranges_call = pg_call(b, sql.p);
	pg_arg_uuid(b, tenant);
	pg_arg_int4(b, (int32_t)q->asked.table);
	pg_arg_uuids(b, after, q->asked.range_count);
	pg_arg_uuids(b, upto, q->asked.range_count);
	pg_arg_text(b, q->asked.scope);
	if (sql.failed)
		b->full = true;
	pg_sql_deinit(&sql);
}

bool pg_question_ask(struct pg_question *q, struct pg_batch *b, const struct pg_catalog *catalog,
		     const struct uuid *tenant)
{
	const struct pg_table *t = pg_catalog_table(catalog, q->asked.table);
	const struct uuid *of = pg_question_global(q) ? &PG_NOBODY : tenant;

	if (!t)
		return false;
	ask_wanted(q, b, of);
	ask_ranges(q, b, t, of);
	return true;
}

/* The cuts of one asked range, and what is behind its last row. */
static uint32_t read_range(const struct pg_question *q, const struct pg_batch *b, uint32_t range, uint32_t *row,
			   struct key_range *out)
{
	struct key_range rest = q->asked.ranges[range];
	uint32_t n = 0;

	for (; *row < pg_rows(b, q->ranges_call) && pg_int(b, q->ranges_call, *row, R_RANGE) == range + 1; (*row)++) {
		out[n] = (struct key_range){.after = rest.after, .upto = pg_uuid(b, q->ranges_call, *row, R_LAST),
					    .rows = pg_int(b, q->ranges_call, *row, R_ROWS),
					    .hash = (uint64_t)pg_int(b, q->ranges_call, *row, R_HASH)};
		rest.after = out[n++].upto;
	}
	if (uuid_is_zero(&rest.upto) || !uuid_equal(&rest.after, &rest.upto)) /* also where there is no row at all */
		out[n++] = (struct key_range){.after = rest.after, .upto = rest.upto};
	return n;
}

enum ferry_error pg_question_read(const struct pg_question *q, const struct pg_batch *b, struct arena *arena,
				  struct feed_result *out)
{
	struct key_range *ranges = arena_array(arena, FERRY_COMPARE_RANGES_MAX * (CUTS + 1), sizeof(*ranges));
	uint32_t row = 0;

	if (!ranges)
		return FERRY_LIMIT;
	out->ranges = ranges;
	for (uint32_t i = 0; i < q->asked.range_count; i++)
		out->range_count += read_range(q, b, i, &row, ranges + out->range_count);
	return FERRY_OK;
}
