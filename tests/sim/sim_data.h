/* The data that simulations work on: three tables, and cells as plain
 * numbers. Every edit writes numbers that nobody wrote before (tokens), so
 * that a value names the edit it came from. Only `project` (which decides
 * the scope) and `unit_id` (a reference) have meaning.
 *
 *   unit  project int, name text, price int, status int   scope project:<n>
 *   note  unit_id uuid -> unit, body text                 scope of its unit
 *   code  label text                                      scope tenant
 */
#ifndef FERRY_TESTS_SIM_DATA_H
#define FERRY_TESTS_SIM_DATA_H

#include "protocol/message.h"

enum { UNIT = 1, NOTE = 2, CODE = 3, TABLES = 3 };
#define CELLS_MAX 4
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

const struct schema *sim_schema(void);
int sim_columns(uint32_t table);         /* number of its cells */
uint16_t sim_num(int column);            /* column number of cell index */
const struct uuid *sim_key(int key);     /* static */
int sim_key_number(const struct uuid *key); /* -1: none of ours */
struct value sim_value(uint32_t table, int column, int64_t cell); /* points to static data */
/* False: the value is none that sim_value makes. */
bool sim_cell(uint32_t table, int column, const struct value *v, int64_t *out);

/* Scope of a row within a state: 0..SCOPES-1. A note whose unit is missing
 * belongs nowhere: -1. */
int sim_scope_of(const struct sim_state *s, int key);
const char *sim_scope_name(int scope); /* static */
int sim_scope_number(const char *name); /* -1: unknown */
struct uuid sim_device_id(int device);
int sim_device_number(const struct uuid *id); /* -1: none, as for the hub's zero */

#endif
