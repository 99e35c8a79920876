/* ferry-hub rejected: refused change-sets, in words, and merged again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli_place.h"
#include "hub/cli_repair.h"
#include "hub/pg_conninfo.h"
#include "hub/pg_json.h"
#include "hub/requeue.h"
#include "protocol/cbor.h"
#include "shared/time_text.h"

#define LIST_PARAMS	 4
#define BODY_BYTES_MAX	 ((size_t)512 << 20)
#define SHOWN_ROWS_MAX	 1000 /* of a change-set that is shown */
#define SHOWN_TEXT_MAX	 4096 /* bytes of a value that is shown */

#define UTC(column) "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

/* $4: one of "<device>/<number>". %s: further columns. */
static const char list_sql[] =
	"SELECT r.device_id || '/' || r.number AS id, " UTC("r.at") " AS at, coalesce(p.slug, r.tenant_id::text) AS tenant, "
	"r.tenant_id, coalesce(d.name, r.device_id::text) AS device, r.device_id, r.number AS \"number::int\", "
	"r.code AS \"code::int\", r.sentence, "
	"CASE WHEN r.parked_until IS NULL THEN 'refused' ELSE 'parked until ' || " UTC("r.parked_until") " || ', for ' || "
	"date_trunc('second', greatest(now() - r.at, interval '0')) END AS state, "
	UTC("r.parked_until") " AS parked_until, "
	"CASE WHEN r.parked_until IS NOT NULL THEN greatest(extract(epoch FROM now() - r.at), 0)::bigint END AS \"parked_seconds::int\", "
	"s.detail ->> 'constraint' AS \"constraint\", k.parts AS \"parts::int\", length(r.body) + k.bytes AS \"bytes::int\", "
	"r.staging AS \"staging::int\" %s"
	"FROM ferry.rejected r LEFT JOIN ferry.placement p ON p.tenant_id = r.tenant_id "
	"LEFT JOIN ferry.device d ON d.tenant_id = r.tenant_id AND d.id = r.device_id "
	"LEFT JOIN ferry.settled s ON s.tenant_id = r.tenant_id AND s.device_id = r.device_id AND s.number = r.number "
	"CROSS JOIN LATERAL (SELECT greatest(count(*), 1) AS parts, coalesce(sum(length(g.body)), 0) AS bytes FROM ferry.stage g "
	"WHERE g.tenant_id = r.tenant_id AND g.device_id = r.device_id AND g.number = r.number AND g.staging = r.staging) k "
	"WHERE ($1::uuid IS NULL OR r.tenant_id = $1::uuid) AND ($2::text IS NULL OR d.name = $2 OR r.device_id::text = lower($2)) "
	"AND ($4::text IS NULL OR r.device_id || '/' || r.number = lower($4)) ORDER BY r.at DESC, r.number LIMIT $3::int";

/* Of one that is kept in parts as many as can be shown. */
static const char body_sql[] =
	", encode(CASE WHEN r.staging IS NULL THEN r.body ELSE (SELECT string_agg(g.body, ''::bytea ORDER BY g.part) FROM ferry.stage g "
	"WHERE g.tenant_id = r.tenant_id AND g.device_id = r.device_id AND g.number = r.number AND g.staging = r.staging "
	"AND g.part < 32) END, 'hex') AS body ";

static const char columns_sql[] =
	"SELECT t.tbl, t.nsp || '.' || t.name, t.key_col, c.num, c.name, c.kind FROM ferry.tracked t "
	"JOIN ferry.tracked_column c ON c.tbl = t.tbl ORDER BY t.tbl, c.num";
enum { C_TBL, C_TABLE, C_KEY, C_NUM, C_NAME, C_KIND };

/* ---- list ---- */

static void name_codes(const struct json *rows, struct json *into)
{
	static const char *const texts[] = {"id", "at", "tenant", "tenant_id", "device", "device_id", "sentence", "constraint", "state", "parked_until", "body"};
	static const char *const ints[] = {"number", "code", "parts", "bytes", "staging"};
	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *from = json_at(rows, i);
		struct json *o = json_new_object();
		for (size_t k = 0; k < sizeof(texts) / sizeof(*texts); k++)
			if (json_get(from, texts[k]))
				json_put_text(o, texts[k], json_text(json_get(from, texts[k])));
		for (size_t k = 0; k < sizeof(ints) / sizeof(*ints); k++)
			json_put_int(o, ints[k], json_int(json_get(from, ints[k]), 0));
		if (json_text(json_get(from, "parked_until")))
			json_put_int(o, "parked_seconds", json_int(json_get(from, "parked_seconds"), 0));
		json_put_text(o, "name", ferry_error_name((int)json_int(json_get(from, "code"), 0)));
		json_add(into, o);
	}
}

static struct json *find(struct cli_repair *r, const char *id, const char *further, int *out_exit)
{
	char sql[4096];
	const char *params[LIST_PARAMS] = {NULL, id ? NULL : cli_value(r->c, "device"), id ? "1" : cli_repair_limit(r->c), id};
	snprintf(sql, sizeof(sql), list_sql, further);
	struct json *rows = cli_repair_query(r, sql, params, LIST_PARAMS, out_exit), *named;
	if (!rows)
		return NULL;
	named = json_new_array();
	name_codes(rows, named);
	json_release(rows);
	if (!id || json_count(named) == 1)
		return named;
	json_release(named);
	*out_exit = cli_fail(r->c, FERRY_NOT_FOUND, "there is no such refused change-set",
			     "See: ferry-hub rejected list. One that was requeued with success is gone from it");
	return NULL;
}

static int list(struct cli_repair *r)
{
	static const struct cli_column columns[] = {{"id", NULL}, {"at", NULL}, {"tenant", NULL}, {"device", NULL},
						    {"number", "change-set"}, {"name", "code"}, {"constraint", NULL},
						    {"sentence", NULL}, {"state", NULL}, {"bytes", NULL}, {NULL, NULL}};
	int exit_code = CLI_OK;
	struct json *rows = find(r, NULL, "", &exit_code);
	return rows ? cli_print_rows(r->c, rows, columns, "Nothing was refused.") : exit_code;
}

/* ---- the body ---- */

struct body { /* a refused change-set, decoded */
	struct arena arena;
	uint8_t *bytes;
	size_t n;
	struct change_set *parts;
	uint32_t count;
};

static int hex_of_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool body_unhex(struct body *b, const char *hex)
{
	size_t n = hex ? strlen(hex) / 2 : 0;
	b->bytes = arena_alloc(&b->arena, n + 1);
	if (!b->bytes)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = hex_of_digit(hex[2 * i]), low = hex_of_digit(hex[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		b->bytes[i] = (uint8_t)(high << 4 | low);
	}
	b->n = n;
	return n > 0;
}

/* One that came in parts is a CBOR sequence of them. */
static enum ferry_error body_decode(struct body *b, struct ferry_why *why)
{
	size_t at = 0;
	enum ferry_error e = FERRY_OK;
	b->parts = arena_array(&b->arena, FERRY_PARTS_MAX, sizeof(*b->parts));
	if (!b->parts)
		return FERRY_NO_MEMORY;
	while (e == FERRY_OK && at < b->n && b->count < FERRY_PARTS_MAX) {
		struct reader item;
		reader_init(&item, b->bytes + at, b->n - at);
		reader_skip(&item);
		if (item.error != FERRY_OK)
			return item.error;
		e = change_set_decode(&b->arena, b->bytes + at, reader_offset(&item), &b->parts[b->count++], why);
		at += reader_offset(&item);
	}
	return e;
}

static bool body_open(const struct cli *c, struct body *b, const struct json *o, int *out_exit)
{
	struct ferry_why why = {0};
	enum ferry_error e;
	const char *hex = json_text(json_get(o, "body"));
	*b = (struct body){0};
	arena_init(&b->arena, BODY_BYTES_MAX);
	if (!hex || !*hex) {
		*out_exit = cli_fail(c, FERRY_NOT_FOUND, "nothing of it is kept at the hub, which had no room for it",
				     "Its device has its values: ferry-agent rejected");
		return false;
	}
	e = body_unhex(b, hex) ? body_decode(b, &why) : FERRY_CORRUPT;
	if (e == FERRY_OK)
		return true;
	*out_exit = cli_fail(c, e, *why.text ? why.text : "the kept change-set cannot be read", NULL);
	return false;
}

static uint32_t body_rows(const struct body *b)
{
	uint32_t rows = 0;
	for (uint32_t p = 0; p < b->count; p++)
		for (uint32_t k = 0; k < b->parts[p].block_count; k++)
			rows += b->parts[p].blocks[k].row_count;
	return rows;
}

/* ---- show ---- */

static int find_column(const struct pg_rows *columns, uint32_t tbl, uint32_t num)
{
	for (int i = 0; i < pg_rows_count(columns); i++)
		if (strtoul(pg_rows_text(columns, i, C_TBL), NULL, 10) == tbl &&
		    (num == 0 || strtoul(pg_rows_text(columns, i, C_NUM), NULL, 10) == num))
			return i;
	return -1;
}

static void put_value(struct json *o, const char *name, enum column_kind kind, const struct value *v)
{
	char time[TIME_TEXT_MAX];
	struct pg_sql text;
	if (v->kind == VALUE_NULL) {
		json_put_null(o, name);
	} else if (v->kind == VALUE_TEXT) {
		char *copy = strndup((const char *)v->p, v->n < SHOWN_TEXT_MAX ? v->n : SHOWN_TEXT_MAX);
		json_put_text(o, name, copy);
		free(copy);
	} else if ((kind == KIND_TIMESTAMPTZ && timestamp_to_text(v, time)) || (kind == KIND_DATE && date_to_text(v, time))) {
		json_put_text(o, name, time);
	} else if (v->kind == VALUE_BOOL) {
		json_put_bool(o, name, v->b);
	} else if (v->kind == VALUE_INT) {
		json_put_int(o, name, v->i);
	} else {
		struct value shown = *v;
		if (shown.kind == VALUE_BYTES && shown.n > SHOWN_TEXT_MAX)
			shown.n = SHOWN_TEXT_MAX;
		pg_sql_init(&text);
		pg_json_add(&text, kind, &shown);
		json_put_text(o, name, text.p);
		pg_sql_deinit(&text);
	}
}

static struct json *describe_row(const struct pg_rows *columns, const struct json *set, const struct block *b, uint32_t row)
{
	static const char *const ops[] = {"", "insert", "update", "delete"};
	struct json *o = json_new_object(), *values = json_new_object();
	char key[UUID_TEXT], name[40];
	int at = find_column(columns, b->table, 0);
	uuid_format(&b->keys[row], key);
	json_put_text(o, "table", at >= 0 ? pg_rows_text(columns, at, C_TABLE) : "(no more)");
	json_put_text(o, "tenant_id", json_text(json_get(set, "tenant_id")));
	json_put_text(o, "key", key);
	json_put_text(o, "op", b->op >= ROW_INSERT && b->op <= ROW_DELETE ? ops[b->op] : "");
	for (uint32_t c = 0; c < b->column_count; c++) {
		int i = find_column(columns, b->table, b->nums[c]);
		snprintf(name, sizeof(name), "#%u", b->nums[c]);
		put_value(values, i >= 0 ? pg_rows_text(columns, i, C_NAME) : name,
			  i >= 0 ? (enum column_kind)column_kind_from_name(pg_rows_text(columns, i, C_KIND)) : KIND_OTHER,
			  &b->cells[(size_t)c * b->row_count + row]);
	}
	char *text = json_write_text(values, true);
	json_put_text(o, "values", text);
	free(text);
	json_release(values);
	return o;
}

/* Each row of the change-set beside the hub's. */
static struct json *describe(struct cli_repair *r, const struct pg_rows *columns, const struct json *set, const struct body *b,
			     int *out_exit)
{
	struct json *rows = json_new_array();
	for (uint32_t p = 0; p < b->count; p++)
		for (uint32_t k = 0; k < b->parts[p].block_count; k++)
			for (uint32_t i = 0; i < b->parts[p].blocks[k].row_count && json_count(rows) < SHOWN_ROWS_MAX; i++) {
				struct json *row = describe_row(columns, set, &b->parts[p].blocks[k], i);
				struct json *both = cli_repair_with_row(r, row, out_exit);
				json_release(row);
				if (!both) {
					json_release(rows);
					return NULL;
				}
				json_add(rows, both);
			}
	return rows;
}

struct lines { /* a changed row: what it wanted beside what the hub has */
	const struct json *hub;
	struct json *rows;
};

static void add_line(void *ctx, const char *key, const struct json *value)
{
	struct lines *l = ctx;
	const struct json *has = json_get(l->hub, key);
	struct json *o = json_new_object();
	char *wanted = json_text(value) ? NULL : json_write_text(value, true);
	char *stands = json_text(has) || json_is_null(has) ? NULL : json_write_text(has, true);
	json_put_text(o, "column", key);
	json_put_text(o, "wanted", wanted ? wanted : json_text(value));
	json_put_text(o, "hub", stands ? stands : json_text(has));
	json_add(l->rows, o);
	free(wanted);
	free(stands);
}

static void print_change(const struct cli *c, const struct json *change)
{
	static const struct cli_column head[] = {{"table", NULL}, {"op", NULL}, {"key", NULL}, {NULL, NULL}};
	static const struct cli_column columns[] = {{"column", NULL}, {"wanted", "wanted"}, {"hub", "the hub's row"}, {NULL, NULL}};
	const char *values = json_text(json_get(change, "values")), *row = json_text(json_get(change, "row"));
	struct json *wanted = NULL, *hub = NULL, *o = json_new_object();
	json_put_text(o, "table", json_text(json_get(change, "table")));
	json_put_text(o, "op", json_text(json_get(change, "op")));
	json_put_text(o, "key", json_text(json_get(change, "key")));
	putchar('\n');
	(void)cli_print_object(c, o, head);
	if (json_read_text(values, strlen(values), &wanted, NULL) != FERRY_OK)
		wanted = NULL; /* larger than a document: --json has it as text */
	if (!row || json_read_text(row, strlen(row), &hub, NULL) != FERRY_OK)
		hub = NULL;
	struct lines l = {.hub = hub, .rows = json_new_array()};
	json_each(wanted, add_line, &l);
	(void)cli_print_rows(c, l.rows, columns, "It names no values.");
	if (!hub)
		puts("The hub has no such row.");
	json_release(wanted);
	json_release(hub);
}

static int print_described(struct cli_repair *r, const struct json *set, const struct body *b, struct json *rows)
{
	static const struct cli_column head[] = {{"id", NULL}, {"at", NULL}, {"tenant", NULL}, {"device", NULL}, {"name", "code"},
						 {"sentence", NULL}, {"constraint", NULL}, {"joined", "joined"}, {"rows", NULL},
						 {NULL, NULL}};
	static const char *const texts[] = {"id", "at", "tenant", "tenant_id", "device", "device_id", "name", "sentence", "constraint"};
	struct json *o = json_new_object();
	for (size_t k = 0; k < sizeof(texts) / sizeof(*texts); k++)
		json_put_text(o, texts[k], json_text(json_get(set, texts[k])));
	json_put_int(o, "number", json_int(json_get(set, "number"), 0));
	json_put_int(o, "code", json_int(json_get(set, "code"), 0));
	json_put_int(o, "base", b->parts[0].base_position);
	json_put_bool(o, "joined", b->parts[0].joined);
	json_put_int(o, "rows", body_rows(b));
	if (cli_json(r->c)) {
		json_put(o, "changes", rows);
		return cli_print_object(r->c, o, head);
	}
	int exit_code = cli_print_object(r->c, o, head);
	for (size_t i = 0; i < json_count(rows); i++)
		print_change(r->c, json_at(rows, i));
	json_release(rows);
	return exit_code;
}

static int show(struct cli_repair *r)
{
	int exit_code = CLI_OK;
	struct json *found = find(r, cli_argument(r->c, 0), body_sql, &exit_code), *rows = NULL;
	struct pg_rows *columns = NULL;
	struct ferry_why why = {0};
	struct cli_place place;
	struct body b;
	if (!found)
		return exit_code;
	const struct json *set = json_at(found, 0);
	if (body_open(r->c, &b, set, &exit_code) &&
	    cli_place_open(r->c, r->s, r->home, json_text(json_get(set, "tenant_id")), &place, &exit_code)) {
		enum ferry_error e = pg_admin_query(place.db, columns_sql, NULL, 0, &columns, &why);
		if (e != FERRY_OK)
			exit_code = cli_repair_fail(r->c, place.db, e, &why);
		else if ((rows = describe(r, columns, set, &b, &exit_code)) != NULL)
			exit_code = print_described(r, set, &b, rows);
		pg_rows_free(columns);
		cli_place_close(&place, r->home);
	}
	arena_deinit(&b.arena);
	json_release(found);
	return exit_code;
}

/* ---- requeue ---- */

static int print_outcome(const struct cli *c, const char *id, const struct requeue_outcome *out)
{
	static const char *const names[] = {"", "accepted", "superseded", "rejected", "parked"};
	struct json *o = json_new_object();
	char what[FERRY_WHY_MAX + 40];
	if (out->verdict == VERDICT_REJECTED && !out->repeated) {
		json_release(o);
		snprintf(what, sizeof(what), "it was refused again: %s", out->sentence);
		return cli_fail(c, (enum ferry_error)out->code, what, "Put right what it says, then requeue it again");
	}
	json_put_text(o, "id", id);
	json_put_text(o, "verdict", names[out->verdict]);
	json_put_int(o, "position", out->position);
	json_put_bool(o, "repeated", out->repeated);
	if (out->repeated)
		return cli_print_done(c, o, "Somebody requeued it before: it stands %s", names[out->verdict]);
	return cli_print_done(c, o, "It is %s at position %lld", names[out->verdict], (long long)out->position);
}

static int requeue_at(struct cli_repair *r, const struct json *set, const struct body *b, const struct cli_place *place,
		      const char *conninfo)
{
	char merged[CLI_CONNINFO_MAX];
	struct requeue what = {.conninfo = merged, .number = json_int(json_get(set, "number"), 0), .whole = b->parts,
			       .staging = json_int(json_get(set, "staging"), 0)};
	struct requeue_outcome out;
	struct ferry_why why = {0};
	const char *device = json_text(json_get(set, "device_id"));
	if (!uuid_parse(place->tenant, strlen(place->tenant), &what.tenant) || !uuid_parse(device, strlen(device), &what.device))
		return cli_fail(r->c, FERRY_INTERNAL, "a key is not a uuid", NULL);
	if (*place->prefix)
		what.set = what.tenant;
	enum ferry_error e = pg_conninfo_merge(r->s->settings.database, conninfo, merged, sizeof(merged), &why);
	if (e == FERRY_OK)
		e = requeue(&what, &out, &why);
	if (e != FERRY_OK)
		return cli_fail(r->c, e, why.text, "Nothing was lost: try again");
	return print_outcome(r->c, json_text(json_get(set, "id")), &out);
}

static int requeue_in(struct cli_repair *r, const struct json *set, const struct body *b)
{
	struct cli_place place;
	struct pg_rows *rows;
	struct ferry_why why = {0};
	int exit_code = CLI_OK;
	const char *params[] = {json_text(json_get(set, "tenant_id"))};
	enum ferry_error e = pg_admin_query(r->home, "SELECT coalesce(conninfo, '') FROM ferry.placement WHERE tenant_id = $1::uuid",
					    params, 1, &rows, &why);
	if (e != FERRY_OK)
		return cli_repair_fail(r->c, r->home, e, &why);
	if (cli_place_open(r->c, r->s, r->home, params[0], &place, &exit_code)) {
		exit_code = requeue_at(r, set, b, &place, pg_rows_count(rows) == 1 ? pg_rows_text(rows, 0, 0) : "");
		cli_place_close(&place, r->home);
	}
	pg_rows_free(rows);
	return exit_code;
}

static int requeue_found(struct cli_repair *r, const struct json *set, const struct body *b)
{
	if (b->parts[0].joined && body_rows(b) > 1)
		return cli_fail(r->c, FERRY_EXISTS, "its device offers it again in parts, of which some may have been taken",
				"Requeue the part that was refused: it stands in ferry-hub rejected list under a later number");
	if (cli_flag(r->c, "dry-run")) {
		struct json *o = json_new_object();
		json_put_text(o, "id", json_text(json_get(set, "id")));
		json_put_int(o, "rows", body_rows(b));
		json_put_bool(o, "done", false);
		return cli_print_done(r->c, o, "%u rows would be merged again; they were refused with %s", body_rows(b),
				      json_text(json_get(set, "name")));
	}
	return requeue_in(r, set, b);
}

static int requeue_one(struct cli_repair *r)
{
	int exit_code = CLI_OK;
	struct json *found = find(r, cli_argument(r->c, 0), body_sql, &exit_code);
	struct body b;
	if (!found)
		return exit_code;
	if (body_open(r->c, &b, json_at(found, 0), &exit_code))
		exit_code = requeue_found(r, json_at(found, 0), &b);
	arena_deinit(&b.arena);
	json_release(found);
	return exit_code;
}

int cli_rejected_list(struct cli *c)
{
	return cli_repair_run(c, list);
}

int cli_rejected_show(struct cli *c)
{
	return cli_repair_run(c, show);
}

int cli_rejected_requeue(struct cli *c)
{
	return cli_repair_run(c, requeue_one);
}
