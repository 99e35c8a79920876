/* The data that simulations work on: a few tables, and cells as plain
 * numbers. Every edit writes numbers that nobody wrote before (tokens), so
 * that a value names the edit it came from. Only `project` (which decides
 * the scope) and `unit_id` (a reference) have meaning.
 *
 *   unit  project int, name text, price int, status int   scope project:<n>
 *   note  unit_id uuid -> unit, body text                 scope of its unit
 *   code  label text                                      scope tenant
 *   tally project int, word text, count int (counter), top int (max), low int (min),
 *         marks array (set), stage text (guard), remark text (review)   scope project:<n>
 *
 * The columns of a tally whose policy merges differences hold numbers and sets that several
 * edits may share; every edit of one writes a new word besides, by which the judge knows it.
 * There are few tallies, so that people meet in them. NULL is the empty set.
 *
 * The hub's people may change the schema, in any order. A cell stays what it is,
 * whatever its column is called:
 *
 *   EXTRA      unit has a column more, extra text
 *   TAG        a table more: tag, word text, scope tenant
 *   STATE      status is called state
 *   TITLE      name goes, and title, a new column, has its values (declared)
 *   PRICE      price becomes text
 *   NO_STATUS  status is dropped with what stood there */
#ifndef FERRY_TESTS_SIM_DATA_H
#define FERRY_TESTS_SIM_DATA_H

#include "protocol/message.h"

enum { UNIT = 1, NOTE = 2, CODE = 3, TALLY = 4, TAG = 5, TABLES = 5 };
enum { TALLY_PROJECT, TALLY_WORD, TALLY_COUNT, TALLY_TOP, TALLY_LOW, TALLY_MARKS, TALLY_STAGE, TALLY_REMARK };
enum {
	CHANGE_EXTRA = 1,
	CHANGE_TAG = 2,
	CHANGE_STATE = 4,
	CHANGE_TITLE = 8,
	CHANGE_PRICE = 16,
	CHANGE_NO_STATUS = 32,
	CHANGES = 6
};
#define SCHEMA_HASH 0x5153
#define CELLS_MAX 8
#define KEYS_MAX 200
#define TOKENS_MAX 60000
#define CELL_NULL (-1)
#define PROJECTS 3
#define SCOPES (PROJECTS + 1) /* 0: tenant, n: project n */
#define DEVICES_MAX 300
#define HUBS_MAX 4
#define FIRST_TOKEN 1000
#define POISON(price) ((price) < CELL_NULL) /* a constraint of the hub refuses prices below zero */
/* A project in a cell: the number, and something that makes the value new. */
#define PROJECT_CELL(project, token) (1000000 + (token)*4 + (project))
/* A counter's numbers are no tokens. */
#define COUNT_CELL(n) ((INT64_C(1) << 40) + (n))
/* Marks in a cell, a bit each. */
#define MARKS 10
#define MARKS_CELL(bits) ((INT64_C(1) << 41) + (bits))
/* What max and min compare is the level; the token makes it new. */
#define LEVEL_CELL(level, token) ((INT64_C(1) << 42) + ((int64_t)(level) << 16) + (token))
#define LEVEL(cell) (((cell) - (INT64_C(1) << 42)) >> 16)
#define STAGES 4
#define TALLIES_MAX 12 /* rows that are ever made; their keys are the last ones */

static inline bool sim_is_tally(int key)
{
	return key >= KEYS_MAX - TALLIES_MAX;
}

static inline bool is_token(int64_t cell)
{
	return cell >= FIRST_TOKEN && cell < TOKENS_MAX;
}

struct sim_row {
	bool exists;
	uint32_t table;
	int64_t cells[CELLS_MAX];
};

/* A whole database: rows by key number; table is set once a key was used. */
struct sim_state {
	struct sim_row rows[KEYS_MAX];
};

/* The schema after these changes, and how many steps that were; static. */
const struct schema *sim_schema(unsigned changes);
int64_t sim_schema_step(unsigned changes);
const struct schema_table *sim_table(unsigned changes, uint32_t table); /* NULL: not there */
const struct schema_column *sim_column(unsigned changes, uint32_t table, int cell);
enum column_policy sim_policy(uint32_t table, int cell);
/* What stands in a cell whose policy merges differences (counter, set) when an edit from old to mine
 * meets theirs. */
int64_t sim_laid_over(uint32_t table, int cell, int64_t old, int64_t mine, int64_t theirs);
int64_t sim_marks(int64_t cell);         /* its bits; what is no set, as NULL, has none */
int sim_columns(uint32_t table);         /* number of its cells, under all schemas */
int sim_cell_of(uint32_t table, uint16_t num); /* of a column that is or was; -1: none */
bool sim_same_column(uint32_t table, int cell, unsigned a, unsigned b);
void sim_row_under(struct sim_row *row, unsigned changes); /* cells without a column are NULL */
#define ROW_TEXT_MAX 200
const char *sim_row_text(const struct sim_row *row, char out[ROW_TEXT_MAX]); /* for people */
const struct uuid *sim_key(int key);     /* static */
int sim_key_number(const struct uuid *key); /* -1: none of ours */
struct value sim_value(enum column_kind kind, uint32_t table, int cell, int64_t value); /* points to static data */
struct value sim_static(uint32_t table, uint16_t num, const struct value *v); /* the same; null if it is none of ours */
/* False: the value is none that sim_value makes. */
bool sim_cell(uint32_t table, uint16_t num, const struct value *v, int64_t *out);

/* Scope of a row within a state: 0..SCOPES-1. A note whose unit is missing
 * belongs nowhere: -1. */
int sim_scope_of(const struct sim_state *s, int key);
const char *sim_scope_name(int scope); /* static */
int sim_scope_number(const char *name); /* -1: unknown */
struct uuid sim_device_id(int device);
int sim_device_number(const struct uuid *id); /* -1: none, as for the hub's zero */

#endif
