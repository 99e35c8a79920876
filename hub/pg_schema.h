/* The catalogue of tracked tables as the hub's statements need it, read from
 * ferry.tracked and ferry.tracked_column, and the schema that devices get.
 *
 * A catalogue never changes: when ferry.generation moves on, a new one is
 * loaded, and the old one goes some changes later, when nobody uses it. All
 * tenants share one. */
#ifndef FERRY_HUB_PG_SCHEMA_H
#define FERRY_HUB_PG_SCHEMA_H

#include "hub/pg_batch.h"
#include "hub/store.h"
#include "hub/translate.h"

struct pg_column {
	uint16_t num;
	enum column_kind kind;
	const char *name;      /* quoted */
	const char *type;      /* as format_type gives it */
	const char *wire;      /* wire_expr over r."name" */
	const char *in;        /* in_expr template */
	const char *hash;      /* hash_expr template */
	const char *placeholder; /* of the key: a value that no other row has; NULL: none, or not unique */
	bool hash_in_c;        /* the wire form decides the hash: no need to ask the server */
	bool single;           /* float4: the column rounds what is written */
	int64_t retyped;       /* surrogate with which its values took another form last; 0: never */
	bool is_tenant;        /* the tenant column: filled by the hub, whatever was left out */
	uint32_t sum_index;    /* place of the column in ferry.sum.sums */
};

enum pg_scope_form {
	PG_SCOPE_TENANT, /* every row is in the scope "tenant" */
	PG_SCOPE_GLOBAL, /* rows of the reserved tenant in "global", others in "tenant" */
	PG_SCOPE_COLUMN, /* prefix:<uuid of a column of the row> */
	PG_SCOPE_PATH,   /* over foreign keys */
};

#define PG_ARCHIVED "+archived"

struct pg_table {
	uint32_t tbl;
	const char *name;          /* qualified and quoted */
	const char *key, *tenant;  /* quoted column names */
	uint16_t key_num;
	const char *key_constraint; /* name of the primary key */
	bool writable;
	enum pg_scope_form scope_form;
	const char *scope_prefix;  /* "project:" */
	const char *scope_column;  /* quoted; PG_SCOPE_COLUMN */
	uint16_t scope_num;        /* the row's own column that decides its scope; 0: none */
	const char *scope_joins, *scope_expr; /* over alias r, tenant $2 */
	const char *scope_also;    /* further scopes as text[]; NULL: rows have one by themselves */
	bool brought;              /* rows are also where rows refer to them, to be read only */
	const char *scope_suffix;  /* "/leads.view", or "" where no permission is needed to read */
	const char *tenant_scope;  /* "tenant" with the suffix: where new rows of these forms are */
	bool archives;             /* softly deleted rows are in the scope with PG_ARCHIVED behind */
	bool guarded;              /* ferry.check_rights is asked about writes */
	bool policed;              /* ferry.check_policies is */
	bool update_wins;          /* an update that meets a deletion stands */
	bool parks;                /* a row whose parent is missing waits for it */
	uint32_t beside;           /* its columns are redacted ones of this table's rows; 0: it is no restricted table */
	const struct pg_column *columns; /* in the order of the device's schema: without the key */
	uint16_t column_count;
	/* What the last page of a fill told of the next; changes. */
	uint32_t row_bytes;        /* estimate of a row's wire size */
	bool long_rows;            /* the page was full before its rows were: ask for bytes at once */
};

struct pg_catalog {
	struct hub_schema hub; /* first: a hub_schema is a catalogue's */
	struct pg_table *tables; /* by tbl ascending, as hub.schema.tables */
	uint32_t table_count;
	bool *beneath; /* [a * table_count + b]: rows of b refer to rows of a by foreign keys, maybe over others */
	struct past past; /* what became of columns that devices may still know */
	uint32_t refs;
	struct arena arena;
	struct pg_catalog *next; /* the store's list */
};

/* The key's, tenant's and other columns as "tbl" and "num" name them; NULL
 * and -1 when unknown. */
struct pg_table *pg_catalog_table(const struct pg_catalog *c, uint32_t tbl);
bool pg_catalog_beneath(const struct pg_catalog *c, uint32_t above, uint32_t table); /* see `beneath`; by tbl */
bool pg_catalog_above(const struct pg_catalog *c, uint32_t table); /* does any other's refer to its rows? */
int pg_table_column(const struct pg_table *t, uint16_t num);
uint64_t pg_table_mask(const struct pg_table *t); /* of all columns, by their index */

/* Adds the statements that read the catalogue of a set of schemas (zero: the
 * shared one) as a tenant sees it; the results start at the returned index. */
uint32_t pg_catalog_ask(struct pg_batch *b, const struct uuid *tenant, const struct uuid *set);
/* Makes the catalogue of the answers, with one reference. */
FERRY_CHECK enum ferry_error pg_catalog_read(const struct pg_batch *b, uint32_t first, struct pg_catalog **out);
void pg_catalog_free(struct pg_catalog *c);

/* Adds `SELECT ferry.schema_hash(tenant)`; reads its answer. */
uint32_t pg_schema_hash_ask(struct pg_batch *b, const struct uuid *tenant);
uint64_t pg_schema_hash_read(const struct pg_batch *b, uint32_t call);

#endif
