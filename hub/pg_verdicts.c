/* What became of the change-sets of a state's commits, for their devices. */
#include <string.h>

#include "hub/pg_json.h"
#include "hub/pg_verdicts.h"

static const char settled_sql[] =
	"SELECT s.device_id, s.number, s.verdict, coalesce(s.code, 0), s.sentence, p.position, "
	"(s.detail ->> 'mine')::uuid, (s.detail ->> 'other')::uuid, coalesce(d.life, 0) FROM ferry.commit p "
	"JOIN ferry.settled s ON s.tenant_id = p.tenant_id AND s.tx = p.tx "
	"LEFT JOIN ferry.device d ON d.tenant_id = s.tenant_id AND d.id = s.device_id "
	"WHERE p.tenant_id = $1 AND p.position > $2 AND ($3::uuid IS NULL OR s.device_id = $3) "
	"ORDER BY s.device_id, s.number";
enum { S_DEVICE, S_NUMBER, S_VERDICT, S_CODE, S_SENTENCE, S_POSITION, S_MINE, S_OTHER, S_LIFE };
static const char conflicts_sql[] =
	"SELECT x.device_id, x.number, x.tbl, x.key, x.num, x.kind, x.winner, x.device_value #>> '{}', "
	"x.hub_value #>> '{}', x.other_device_id FROM ferry.commit p JOIN ferry.conflict x ON x.tenant_id = p.tenant_id AND x.tx = p.tx "
	"WHERE p.tenant_id = $1 AND p.position > $2 AND ($3::uuid IS NULL OR x.device_id = $3) AND NOT x.at_hub "
	"ORDER BY x.device_id, x.number, x.tbl, x.key, x.num";
enum { X_DEVICE, X_NUMBER, X_TBL, X_KEY, X_NUM, X_KIND, X_WINNER, X_DEVICE_VALUE, X_HUB_VALUE, X_OTHER };

const char *pg_verdict_name(enum verdict v)
{
	switch (v) {
	case VERDICT_ACCEPTED:
		return "accepted";
	case VERDICT_SUPERSEDED:
		return "superseded";
	case VERDICT_PARKED:
		return "parked";
	default:
		return "rejected";
	}
}

enum verdict pg_verdict_named(const char *name)
{
	switch (name[0]) {
	case 'a':
		return VERDICT_ACCEPTED;
	case 's':
		return VERDICT_SUPERSEDED;
	case 'p':
		return VERDICT_PARKED;
	default:
		return VERDICT_REJECTED;
	}
}

struct reader {
	const struct pg_batch *b;
	const struct pg_verdicts *calls;
	const struct pg_catalog *catalog;
	struct arena *arena;
};

static uint32_t ask(struct pg_batch *b, const char *sql, const struct uuid *tenant, int64_t from, const struct uuid *device)
{
	uint32_t call = pg_call(b, sql);

	pg_arg_uuid(b, tenant);
	pg_arg_int8(b, from);
	if (device)
		pg_arg_uuid(b, device);
	else
		pg_arg_null(b, 2950); /* uuid */
	return call;
}

void pg_verdicts_ask(struct pg_verdicts *v, struct pg_batch *b, const struct uuid *tenant, int64_t from,
		     const struct uuid *device)
{
	v->settled = ask(b, settled_sql, tenant, from, device);
	v->conflicts = ask(b, conflicts_sql, tenant, from, device);
}

static enum conflict_kind conflict_from_name(const char *name)
{
	if (strcmp(name, "update_update") == 0)
		return CONFLICT_UPDATE_UPDATE;
	return strcmp(name, "update_delete") == 0 ? CONFLICT_UPDATE_DELETE : CONFLICT_DELETE_UPDATE;
}

static struct value conflict_value(struct reader *r, uint32_t row, uint32_t col, enum column_kind kind)
{
	const struct pg_batch *b = r->b;
	const uint32_t call = r->calls->conflicts;

	return pg_json_read(r->arena, kind, pg_is_null(b, call, row, col) ? NULL : pg_text(b, call, row, col));
}

static void read_conflict(struct reader *r, uint32_t row, struct conflict *out)
{
	const struct pg_batch *b = r->b;
	const uint32_t call = r->calls->conflicts;
	const struct pg_table *t = pg_catalog_table(r->catalog, (uint32_t)pg_int(b, call, row, X_TBL));
	uint16_t num = (uint16_t)pg_int(b, call, row, X_NUM);
	int c = t && num ? pg_table_column(t, num) : -1;

	*out = (struct conflict){.table = (uint32_t)pg_int(b, call, row, X_TBL), .key = pg_uuid(b, call, row, X_KEY),
				 .num = num, .kind = conflict_from_name(pg_text(b, call, row, X_KIND)),
				 .device_won = strcmp(pg_text(b, call, row, X_WINNER), "device") == 0};
	if (!pg_is_null(b, call, row, X_OTHER))
		out->other = pg_uuid(b, call, row, X_OTHER);
	if (c >= 0) {
		out->device_value = conflict_value(r, row, X_DEVICE_VALUE, t->columns[c].kind);
		out->hub_value = conflict_value(r, row, X_HUB_VALUE, t->columns[c].kind);
	}
}

/* Both answers are ordered by device and number: conflicts are dealt out to
 * their change-sets in one pass. *next is the first conflict not dealt. */
static enum ferry_error read_conflicts_of(struct reader *r, struct feed_settled *s, uint32_t *next)
{
	const struct pg_batch *b = r->b;
	const uint32_t call = r->calls->conflicts;
	uint32_t rows = pg_rows(b, call), first, n = 0;
	struct conflict *list;
	struct uuid device;

	for (; *next < rows; (*next)++) {
		device = pg_uuid(b, call, *next, X_DEVICE);
		int order = uuid_compare(&device, &s->device);

		if (order > 0 || (order == 0 && pg_int(b, call, *next, X_NUMBER) >= s->settled.number))
			break;
	}
	first = *next;
	while (first + n < rows && pg_int(b, call, first + n, X_NUMBER) == s->settled.number) {
		device = pg_uuid(b, call, first + n, X_DEVICE);
		if (!uuid_equal(&device, &s->device))
			break;
		n++;
	}
	*next = first + n;
	if (n > FERRY_CONFLICTS_MAX)
		n = FERRY_CONFLICTS_MAX; /* the rest stays to be seen in ferry.conflict */
	list = arena_array(r->arena, n + 1u, sizeof(*list));
	if (!list)
		return FERRY_LIMIT;
	for (uint32_t i = 0; i < n; i++)
		read_conflict(r, first + i, &list[i]);
	s->settled.conflicts = list;
	s->settled.conflict_count = n;
	return FERRY_OK;
}

static enum ferry_error read_settled(struct reader *r, struct feed_result *out)
{
	const struct pg_batch *b = r->b;
	const uint32_t call = r->calls->settled;
	uint32_t rows = pg_rows(b, call), next = 0;
	struct feed_settled *list = arena_array(r->arena, rows + 1u, sizeof(*list));
	enum ferry_error e = list ? FERRY_OK : FERRY_LIMIT;

	for (uint32_t row = 0; row < rows && e == FERRY_OK; row++) {
		struct feed_settled *s = &list[row];

		s->device = pg_uuid(b, call, row, S_DEVICE);
		s->life = pg_int(b, call, row, S_LIFE);
		s->settled = (struct settled){.number = pg_int(b, call, row, S_NUMBER),
					      .verdict = pg_verdict_named(pg_text(b, call, row, S_VERDICT)),
					      .code = (int)pg_int(b, call, row, S_CODE),
					      .position = pg_int(b, call, row, S_POSITION)};
		if (!pg_is_null(b, call, row, S_OTHER) && !pg_is_null(b, call, row, S_MINE)) {
			s->settled.mine = pg_uuid(b, call, row, S_MINE);
			s->settled.other = pg_uuid(b, call, row, S_OTHER);
		}
		if (!pg_is_null(b, call, row, S_SENTENCE)) {
			const char *text = pg_text(b, call, row, S_SENTENCE);

			s->settled.sentence = arena_text(r->arena, text, strlen(text));
		}
		e = read_conflicts_of(r, s, &next);
	}
	out->settled = list;
	out->settled_count = rows;
	return e;
}

enum ferry_error pg_verdicts_read(const struct pg_verdicts *v, const struct pg_batch *b, const struct pg_catalog *catalog,
				  struct arena *arena, struct feed_result *out)
{
	struct reader r = {b, v, catalog, arena};

	return read_settled(&r, out);
}
