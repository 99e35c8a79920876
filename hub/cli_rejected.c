/* ferry-hub rejected: refused change-sets, in words, and merged again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli_kept.h"
#include "hub/cli_place.h"
#include "hub/cli_repair.h"
#include "hub/pg_conninfo.h"
#include "hub/pg_json.h"
#include "hub/requeue.h"
#include "shared/time_text.h"

#define LIST_PARAMS	 4
#define SHOWN_ROWS	 1000 /* of a change-set, unless --limit says else */
#define SHOWN_ROWS_MAX	 100000
#define SHOWN_TEXT_MAX	 4096 /* bytes of a value that is shown */
#define CELL_BYTES_MIN	 64   /* of a value as JSON, with its column, beside its own bytes */

#define UTC(column) "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

/* $4: one of "<device>/<number>". */
static const char list_sql[] =
	"SELECT r.device_id || '/' || r.number AS id, " UTC("r.at") " AS at, coalesce(p.slug, r.tenant_id::text) AS tenant, "
	"r.tenant_id, coalesce(d.name, r.device_id::text) AS device, r.device_id, r.number AS \"number::int\", "
	"r.code AS \"code::int\", r.sentence, "
	"CASE WHEN r.parked_until IS NULL THEN 'refused' ELSE 'parked until ' || " UTC("r.parked_until") " || ', for ' || "
	"date_trunc('second', greatest(now() - r.at, interval '0')) END AS state, "
	UTC("r.parked_until") " AS parked_until, "
	"CASE WHEN r.parked_until IS NOT NULL THEN greatest(extract(epoch FROM now() - r.at), 0)::bigint END AS \"parked_seconds::int\", "
	"s.detail ->> 'constraint' AS \"constraint\", k.parts AS \"parts::int\", length(r.body) + k.bytes AS \"bytes::int\", "
	"r.staging AS \"staging::int\" "
	"FROM ferry.rejected r LEFT JOIN ferry.placement p ON p.tenant_id = r.tenant_id "
	"LEFT JOIN ferry.device d ON d.tenant_id = r.tenant_id AND d.id = r.device_id "
	"LEFT JOIN ferry.settled s ON s.tenant_id = r.tenant_id AND s.device_id = r.device_id AND s.number = r.number "
	"CROSS JOIN LATERAL (SELECT greatest(count(*), 1) AS parts, coalesce(sum(length(g.body)), 0) AS bytes FROM ferry.stage g "
	"WHERE g.tenant_id = r.tenant_id AND g.device_id = r.device_id AND g.number = r.number AND g.staging = r.staging) k "
	"WHERE ($1::uuid IS NULL OR r.tenant_id = $1::uuid) AND ($2::text IS NULL OR d.name = $2 OR r.device_id::text = lower($2)) "
	"AND ($4::text IS NULL OR r.device_id || '/' || r.number = lower($4)) ORDER BY r.at DESC, r.number LIMIT $3::int";

static const char columns_sql[] =
	"SELECT t.tbl, t.nsp || '.' || t.name, t.key_col, c.num, c.name, c.kind FROM ferry.tracked t "
	"JOIN ferry.tracked_column c ON c.tbl = t.tbl ORDER BY t.tbl, c.num";
enum { C_TBL, C_TABLE, C_KEY, C_NUM, C_NAME, C_KIND };

/* ---- list ---- */

static void name_codes(const struct json *rows, struct json *into)
{
	static const char *const texts[] = {"id", "at", "tenant", "tenant_id", "device", "device_id", "sentence", "constraint", "state", "parked_until"};
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

static struct json *find(struct cli_repair *r, const char *id, int *out_exit)
{
	const char *params[LIST_PARAMS] = {NULL, id ? NULL : cli_value(r->c, "device"), id ? "1" : cli_repair_limit(r->c), id};
	struct json *rows = cli_repair_query(r, list_sql, params, LIST_PARAMS, out_exit), *named;
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
	struct json *rows = cli_repair_filters(r, &exit_code) ? find(r, NULL, &exit_code) : NULL;
	return rows ? cli_print_rows(r->c, rows, columns, "Nothing was refused.") : exit_code;
}

/* ---- what is kept of it ---- */

struct found { /* the one that the command names */
	const struct json *set;
	struct cli_place place;
	struct kept kept;
};

static int kept_fail(const struct cli_repair *r, struct found *f, enum ferry_error e, const struct ferry_why *why)
{
	return e == FERRY_DATABASE ? cli_repair_fail(r->c, f->place.db, e, why)
				   : cli_fail(r->c, e, *why->text ? why->text : "the kept change-set cannot be read", NULL);
}

static int with_found(struct cli_repair *r, struct found *f, int (*run)(struct cli_repair *r, struct found *f))
{
	struct ferry_why why = {0};
	int exit_code;
	f->kept = (struct kept){.db = f->place.db, .tenant = json_text(json_get(f->set, "tenant_id")),
				.device = json_text(json_get(f->set, "device_id")), .number = json_int(json_get(f->set, "number"), 0),
				.parts = (uint32_t)json_int(json_get(f->set, "parts"), 1)};
	enum ferry_error e = kept_open(&f->kept, &why);
	if (e != FERRY_OK)
		exit_code = kept_fail(r, f, e, &why);
	else if (!f->kept.stored)
		exit_code = cli_fail(r->c, FERRY_NOT_FOUND, "nothing of it is kept at the hub, which had no room for it",
				     "Its device has its values: ferry-agent rejected");
	else
		exit_code = run(r, f);
	kept_deinit(&f->kept);
	return exit_code;
}

static int of_argument(struct cli_repair *r, int (*run)(struct cli_repair *r, struct found *f))
{
	int exit_code = CLI_OK;
	struct json *found = find(r, cli_argument(r->c, 0), &exit_code);
	struct found f;
	if (!found)
		return exit_code;
	f.set = json_at(found, 0);
	if (cli_place_open(r->c, r->s, r->home, json_text(json_get(f.set, "tenant_id")), &f.place, &exit_code)) {
		exit_code = with_found(r, &f, run);
		cli_place_close(&f.place, r->home);
	}
	json_release(found);
	return exit_code;
}

static bool count_row(void *ctx, const struct block *b, uint32_t row)
{
	int64_t *rows = ctx;
	(void)b;
	(void)row;
	++*rows;
	return true;
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

/* As text: uuids, bytes, and numbers of JSON that are no integers. */
static void put_as_text(struct json *o, const char *name, enum column_kind kind, struct value v)
{
	struct pg_sql text, whole;
	struct json *read = NULL;
	if (v.kind == VALUE_BYTES && v.n > SHOWN_TEXT_MAX)
		v.n = SHOWN_TEXT_MAX;
	pg_sql_init(&text);
	pg_sql_init(&whole);
	pg_json_add(&text, kind, &v);
	pg_sql_add(&whole, "[%s]", text.p);
	if (json_read_text(whole.p, whole.n, &read, NULL) != FERRY_OK)
		read = NULL;
	const char *plain = json_text(json_at(read, 0));
	json_put_text(o, name, plain ? plain : text.p);
	json_release(read);
	pg_sql_deinit(&whole);
	pg_sql_deinit(&text);
}

static void put_value(struct json *o, const char *name, enum column_kind kind, const struct value *v)
{
	char time[TIME_TEXT_MAX];
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
		put_as_text(o, name, kind, *v);
	}
}

static enum column_kind kind_of(const struct pg_rows *columns, uint32_t tbl, uint32_t num)
{
	int i = find_column(columns, tbl, num);
	return i >= 0 ? (enum column_kind)column_kind_from_name(pg_rows_text(columns, i, C_KIND)) : KIND_OTHER;
}

/* table, key and op. */
static struct json *name_row(const struct pg_rows *columns, const struct block *b, uint32_t row)
{
	static const char *const ops[] = {"", "insert", "update", "delete"};
	struct json *o = json_new_object();
	char key[UUID_TEXT];
	int at = find_column(columns, b->table, 0);
	uuid_format(&b->keys[row], key);
	json_put_text(o, "table", at >= 0 ? pg_rows_text(columns, at, C_TABLE) : "(no more)");
	json_put_text(o, "key", key);
	json_put_text(o, "op", b->op >= ROW_INSERT && b->op <= ROW_DELETE ? ops[b->op] : "");
	return o;
}

static struct json *describe_row(const struct pg_rows *columns, const struct json *set, const struct block *b, uint32_t row)
{
	struct json *o = name_row(columns, b, row), *values = json_new_object();
	char name[40];
	json_put_text(o, "tenant_id", json_text(json_get(set, "tenant_id")));
	for (uint32_t c = 0; c < b->column_count; c++) {
		int i = find_column(columns, b->table, b->nums[c]);
		snprintf(name, sizeof(name), "#%u", b->nums[c]);
		put_value(values, i >= 0 ? pg_rows_text(columns, i, C_NAME) : name, kind_of(columns, b->table, b->nums[c]),
			  &b->cells[(size_t)c * b->row_count + row]);
	}
	char *text = json_write_text(values, true);
	json_put_text(o, "values", text);
	free(text);
	json_release(values);
	return o;
}

struct shown { /* a window over the rows, each beside the hub's */
	struct cli_repair *r;
	struct found *f;
	struct pg_rows *columns;
	int64_t skip, limit, rows; /* rows: all that it has */
	int64_t too_long;          /* values that are not compared */
	struct json *list;
	int exit_code;
};

static bool describe(void *ctx, const struct block *b, uint32_t row)
{
	struct shown *s = ctx;
	int64_t at = s->rows++;
	if (at < s->skip || at - s->skip >= s->limit)
		return true;
	struct json *one = describe_row(s->columns, s->f->set, b, row);
	struct json *both = cli_repair_with_row(s->r, one, &s->exit_code);
	json_release(one);
	if (!both)
		return false;
	json_add(s->list, both);
	return true;
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

static int print_described(struct shown *s)
{
	const struct kept *k = &s->f->kept;
	static const struct cli_column head[] = {{"id", NULL}, {"at", NULL}, {"tenant", NULL}, {"device", NULL}, {"name", "code"},
						 {"sentence", NULL}, {"constraint", NULL}, {"joined", "joined"}, {"rows", NULL},
						 {NULL, NULL}};
	static const char *const texts[] = {"id", "at", "tenant", "tenant_id", "device", "device_id", "name", "sentence", "constraint"};
	struct json *o = json_new_object();
	int64_t shown = (int64_t)json_count(s->list), more = s->rows - s->skip - shown;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		json_put_text(o, texts[i], json_text(json_get(s->f->set, texts[i])));
	json_put_int(o, "number", k->number);
	json_put_int(o, "code", json_int(json_get(s->f->set, "code"), 0));
	json_put_int(o, "base", k->base);
	json_put_bool(o, "joined", k->joined);
	json_put_int(o, "rows", s->rows);
	json_put_int(o, "skipped", s->skip);
	json_put_int(o, "more", more > 0 ? more : 0);
	if (cli_json(s->r->c)) {
		json_put(o, "changes", s->list);
		s->list = NULL;
		return cli_print_object(s->r->c, o, head);
	}
	int exit_code = cli_print_object(s->r->c, o, head);
	for (int64_t i = 0; i < shown; i++)
		print_change(s->r->c, json_at(s->list, (size_t)i));
	if (more > 0)
		printf("\n%lld more rows: --skip %lld\n", (long long)more, (long long)(s->skip + shown));
	return exit_code;
}

/* False: the option is no number, and it is printed. */
static bool number_option(const struct cli *c, const char *name, int64_t most, int64_t otherwise, int64_t *out, int *out_exit)
{
	const char *text = cli_value(c, name);
	char *end = NULL, what[80];
	long long n = text ? strtoll(text, &end, 10) : otherwise;
	*out = n;
	if (!text || (*text && !*end && n >= 0 && n <= most))
		return true;
	snprintf(what, sizeof(what), "--%s is not a number from 0 to %lld", name, (long long)most);
	*out_exit = cli_fail(c, FERRY_USAGE, what, NULL);
	return false;
}

/* Lists what `each` makes of the changes that the limits let through, then prints it. */
static int print_changes(struct shown *s, kept_row_fn *each, int (*print)(struct shown *s))
{
	struct ferry_why why = {0};
	enum ferry_error e = pg_admin_query(s->f->place.db, columns_sql, NULL, 0, &s->columns, &why);
	if (e != FERRY_OK)
		return cli_repair_fail(s->r->c, s->f->place.db, e, &why);
	s->list = json_new_array();
	e = kept_each(&s->f->kept, each, s, &why);
	if (e != FERRY_OK)
		s->exit_code = kept_fail(s->r, s->f, e, &why);
	else if (s->exit_code == CLI_OK)
		s->exit_code = print(s);
	json_release(s->list);
	pg_rows_free(s->columns);
	return s->exit_code;
}

static int show_found(struct cli_repair *r, struct found *f)
{
	struct shown s = {.r = r, .f = f, .exit_code = CLI_OK};
	if (!number_option(r->c, "limit", SHOWN_ROWS_MAX, SHOWN_ROWS, &s.limit, &s.exit_code) ||
	    !number_option(r->c, "skip", INT64_MAX / 2, 0, &s.skip, &s.exit_code))
		return s.exit_code;
	return print_changes(&s, describe, print_described);
}

static int show(struct cli_repair *r)
{
	return of_argument(r, show_found);
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

static int requeue_at(struct cli_repair *r, const struct found *f, const char *conninfo)
{
	char merged[CLI_CONNINFO_MAX];
	struct requeue what = {.conninfo = merged, .number = f->kept.number, .whole = &f->kept.set,
			       .staging = json_int(json_get(f->set, "staging"), 0)};
	struct requeue_outcome out;
	struct ferry_why why = {0};
	const char *device = f->kept.device, *tenant = f->place.tenant;
	if (!uuid_parse(tenant, strlen(tenant), &what.tenant) || !uuid_parse(device, strlen(device), &what.device))
		return cli_fail(r->c, FERRY_INTERNAL, "a key is not a uuid", NULL);
	if (*f->place.prefix)
		what.set = what.tenant;
	enum ferry_error e = pg_conninfo_merge(r->s->settings.database, conninfo, merged, sizeof(merged), &why);
	if (e == FERRY_OK)
		e = requeue(&what, &out, &why);
	if (e != FERRY_OK)
		return cli_fail(r->c, e, why.text, "Nothing was lost: try again");
	return print_outcome(r->c, json_text(json_get(f->set, "id")), &out);
}

static int requeue_in(struct cli_repair *r, const struct found *f)
{
	struct pg_rows *rows;
	struct ferry_why why = {0};
	const char *params[] = {f->kept.tenant};
	enum ferry_error e = pg_admin_query(r->home, "SELECT coalesce(conninfo, '') FROM ferry.placement WHERE tenant_id = $1::uuid",
					    params, 1, &rows, &why);
	if (e != FERRY_OK)
		return cli_repair_fail(r->c, r->home, e, &why);
	int exit_code = requeue_at(r, f, pg_rows_count(rows) == 1 ? pg_rows_text(rows, 0, 0) : "");
	pg_rows_free(rows);
	return exit_code;
}

/* ---- a dry run of it ---- */

static const char differences_sql[] =
	"SELECT name, stands, wanted FROM ferry.row_differences($1::uuid, $2::int, $3::uuid, $4::jsonb)";

/* Of 6 bytes at most for each of the value's. */
static bool has_room(const struct pg_sql *cells, const struct value *v)
{
	bool is_long = v->kind == VALUE_TEXT || v->kind == VALUE_BYTES;
	return !is_long || cells->n + 6 * (size_t)v->n + CELL_BYTES_MIN < PG_SQL_BYTES_MAX;
}

/* PostgreSQL takes no text with a NUL character: it equals nothing that stands. */
static void add_cell(struct pg_sql *cells, uint32_t num, enum column_kind kind, const struct value *v)
{
	pg_sql_add(cells, "%s\"%u\":", cells->n > 1 ? "," : "", num);
	if (v->kind == VALUE_NULL)
		pg_sql_add(cells, "null");
	else if (value_has_nul(v))
		pg_sql_add(cells, "\"(text with a NUL character)\"");
	else
		pg_json_add(cells, kind, v);
}

static void add_cells(struct shown *s, struct pg_sql *cells, const struct block *b, uint32_t row)
{
	pg_sql_add(cells, "{");
	for (uint32_t c = 0; c < b->column_count; c++) {
		const struct value *v = &b->cells[(size_t)c * b->row_count + row];
		if (has_room(cells, v))
			add_cell(cells, b->nums[c], kind_of(s->columns, b->table, b->nums[c]), v);
		else
			s->too_long++;
	}
	pg_sql_add(cells, "}");
}

static enum ferry_error ask_differences(struct shown *s, const struct block *b, const char *key, const char *cells, struct pg_rows **out,
					struct ferry_why *why)
{
	char tbl[16];
	const char *params[] = {s->f->kept.tenant, tbl, key, cells};
	snprintf(tbl, sizeof(tbl), "%u", b->table);
	enum ferry_error e = pg_admin_query(s->f->place.db, "SELECT set_config('app.tenant_id', $1, false)", params, 1, NULL, why);
	return e == FERRY_OK ? pg_admin_query(s->f->place.db, differences_sql, params, 4, out, why) : e;
}

/* Adds to the list where the row differs from the hub's. */
static bool differs(void *ctx, const struct block *b, uint32_t row)
{
	struct shown *s = ctx;
	struct ferry_why why = {0};
	struct pg_sql cells;
	struct pg_rows *rows;
	if (s->rows++ >= s->limit)
		return true;
	struct json *of = name_row(s->columns, b, row);
	pg_sql_init(&cells);
	add_cells(s, &cells, b, row);
	enum ferry_error e = ask_differences(s, b, json_text(json_get(of, "key")), b->op == ROW_DELETE ? NULL : cells.p, &rows, &why);
	for (int i = 0; e == FERRY_OK && i < pg_rows_count(rows); i++)
		json_add(s->list, cli_repair_write(of, pg_rows_text(rows, i, 0), pg_rows_text(rows, i, 1), pg_rows_text(rows, i, 2)));
	if (e == FERRY_OK)
		pg_rows_free(rows);
	else
		s->exit_code = cli_repair_fail(s->r->c, s->f->place.db, e, &why);
	pg_sql_deinit(&cells);
	json_release(of);
	return e == FERRY_OK;
}

static int print_requeue(struct shown *s)
{
	const struct cli *c = s->r->c;
	struct json *o = json_new_object();
	const char *waits = json_text(json_get(s->f->set, "parked_until")), *name = json_text(json_get(s->f->set, "name"));
	int64_t left_out = s->rows > s->limit ? s->rows - s->limit : 0;
	json_put_text(o, "id", json_text(json_get(s->f->set, "id")));
	json_put_int(o, "rows", s->rows);
	json_put_bool(o, "done", false);
	if (cli_json(c)) {
		json_put(o, "writes", s->list);
		s->list = NULL;
		json_put_int(o, "left_out", left_out);
		json_put_int(o, "not_compared", s->too_long);
		return cli_print_done(c, o, "%s", "");
	}
	(void)cli_print_done(c, o, "%lld rows would be merged again; they %s with %s. %s", (long long)s->rows,
			     waits ? "are parked" : "were refused", name,
			     json_count(s->list) > 0 ? "What they have against what stands:" : "What stands has all their values.");
	cli_print_writes(s->list, 0);
	if (s->too_long > 0)
		printf("  %lld values are too long to be compared\n", (long long)s->too_long);
	if (left_out > 0)
		printf("  and %lld more rows, which were not compared\n", (long long)left_out);
	return CLI_OK;
}

static int say_requeue(struct cli_repair *r, struct found *f)
{
	struct shown s = {.r = r, .f = f, .limit = SHOWN_ROWS, .exit_code = CLI_OK};
	return print_changes(&s, differs, print_requeue);
}

static bool has_two(void *ctx, const struct block *b, uint32_t row)
{
	int64_t *rows = ctx;
	(void)count_row(ctx, b, row);
	return *rows < 2;
}

static int requeue_found(struct cli_repair *r, struct found *f)
{
	struct ferry_why why = {0};
	int64_t rows = 0;
	enum ferry_error e = f->kept.joined ? kept_each(&f->kept, has_two, &rows, &why) : FERRY_OK;
	if (e != FERRY_OK)
		return kept_fail(r, f, e, &why);
	if (rows > 1)
		return cli_fail(r->c, FERRY_EXISTS, "its device offers it again in parts, of which some may have been taken",
				"Requeue the part that was refused: it stands in ferry-hub rejected list under a later number");
	return cli_flag(r->c, "dry-run") ? say_requeue(r, f) : requeue_in(r, f);
}

static int requeue_one(struct cli_repair *r)
{
	return of_argument(r, requeue_found);
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
