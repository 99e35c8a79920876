/* A replica that holds project a, and a hub that gives it project b: what the
 * tests of scopes that come and go share. */
#ifndef FERRY_TESTS_REPLICA_SCOPES_H
#define FERRY_TESTS_REPLICA_SCOPES_H

#include "tests/unit/replica_fixture.h"

#define A "project:a"
#define B "project:b"

static const char *const only_a[] = {A}, *const only_b[] = {B}, *const both[] = {A, B};

/* A welcome to deltas: the scopes that are held, and those of them that come. */
static inline void greet(struct fixture *f, const char *const *scopes, uint32_t count, const char *const *adding, uint32_t adding_count,
		  bool goes_on)
{
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(3), .mode = WELCOME_DELTA,
					  .scopes = scopes, .scope_count = count, .clock = f->wall, .adding = adding,
					  .adding_count = adding_count, .adding_goes_on = goes_on};

	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
}

/* Unit n with a code, as a frame or a page of a fill has it. */
static struct block unit_block(struct fixture *f, uint32_t n, enum row_op op, const char *code)
{
	struct uuid key = key_of(n);
	struct hub_row *row = hub_find(f, T_UNITS, &key, true);
	struct value v = value_text(code, strlen(code));

	hub_defaults(f, row);
	hub_set_cell(row, 1, &v);
	row->alive = op == ROW_INSERT;
	arena_reset(&f->arena);
	return hub_block(f, row, op == ROW_LEFT);
}

static inline void told(struct fixture *f, const char *scope, int64_t to, uint32_t n, enum row_op op, const char *code)
{
	struct block b = unit_block(f, n, op, code);
	struct message_delta d = {.scope = scope, .from = f->applied, .to = to, .blocks = &b, .block_count = 1};

	assert_ok(replica_store_ops.delta(f->r, &d, &fixture_why));
}

static inline void filled(struct fixture *f, const char *scope, uint32_t n, const char *code)
{
	struct message_fill fill = {.scope = scope, .position = 3, .block = unit_block(f, n, ROW_INSERT, code)};

	assert_ok(replica_store_ops.fill(f->r, &fill, &fixture_why));
}

static inline void closed(struct fixture *f, int64_t position, bool fill_done)
{
	struct message_commit c = {.position = position, .mark = position * 3, .fill_done = fill_done};

	assert_ok(replica_store_ops.commit(f->r, &c, &f->report, &fixture_why));
	f->applied = f->position = position;
}

/* The replica holds scope a with units 1 and 2. */
static inline void hold_a(struct fixture *f)
{
	const struct message_welcome w = {.tenant = key_of(1), .device = key_of(2), .epoch = key_of(3), .mode = WELCOME_FILL,
					  .scopes = only_a, .scope_count = 1, .clock = f->wall};

	f->cursor = (struct push_cursor){0};
	assert_ok(replica_store_ops.welcome(f->r, &w, &fixture_why));
	filled(f, A, 1, "a1");
	filled(f, A, 2, "a2");
	closed(f, 100, true);
	assert_says(f, "a1,a2", "SELECT group_concat(code) FROM (SELECT code FROM units ORDER BY code)");
}

static inline const char *codes(struct fixture *f)
{
	return ask(f, "SELECT group_concat(code) FROM (SELECT code FROM units ORDER BY code)");
}

#endif
