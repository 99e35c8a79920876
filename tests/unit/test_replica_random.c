/* Random edits by an app and by the hub, random looks, pushes, refusals,
 * commits, restarts and refills; at the end all is exchanged and the replica
 * equals the model. FERRY_SEED=<n> replays one seed. */
#include "tests/unit/replica_fixture.h"

#define KEYS 12
#define STEPS 120
#define SEEDS 25

static uint64_t next_random(struct fixture *f)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return f->random;
}

static uint32_t below(struct fixture *f, uint32_t n)
{
	return (uint32_t)(next_random(f) >> 33) % n;
}

static bool refuse_some(struct fixture *f, const struct change_set *s)
{
	(void)s;
	return below(f, 6) == 0;
}

static void random_statement(struct fixture *f, char *sql, size_t n)
{
	const char *key = unit(1 + below(f, KEYS));
	uint32_t x = below(f, 100);

	switch (below(f, 8)) {
	case 0:
		(void)snprintf(sql, n, "INSERT OR IGNORE INTO units(id, code, floor) VALUES ('%s', 'i%u', %u);", key, x, x);
		break;
	case 1:
		(void)snprintf(sql, n, "INSERT OR REPLACE INTO units(id, code) VALUES ('%s', 'r%u');", key, x);
		break;
	case 2:
		(void)snprintf(sql, n, "DELETE FROM units WHERE id = '%s';", key);
		break;
	case 3:
		(void)snprintf(sql, n, "UPDATE units SET floor = %u, status = 'sold' WHERE id = '%s';", x, key);
		break;
	case 4:
		(void)snprintf(sql, n, "INSERT INTO ferry_tx(note) VALUES ('m');");
		break;
	case 5:
		(void)snprintf(sql, n, "INSERT INTO units(id, code) VALUES ('%s', 'u') ON CONFLICT(id) DO UPDATE SET floor = %u;",
			       key, x);
		break;
	default:
		(void)snprintf(sql, n, "UPDATE units SET code = 'c%u' WHERE id = '%s';", x, key);
	}
}

static void app_step(struct fixture *f)
{
	char sql[4096] = "";
	uint32_t n = 1 + below(f, 4);

	for (uint32_t i = 0; i < n; i++)
		random_statement(f, sql + strlen(sql), sizeof(sql) - strlen(sql));
	if (below(f, 2) == 0)
		app(f, "BEGIN; %s %s", sql, below(f, 4) == 0 ? "ROLLBACK" : "COMMIT");
	else
		app(f, "%s", sql);
}

static void hub_step(struct fixture *f)
{
	uint32_t n = 1 + below(f, KEYS);
	char text[16];

	(void)snprintf(text, sizeof(text), "%u", below(f, 1000));
	if (below(f, 4) == 0)
		hub_delete(f, n);
	else
		hub_write(f, n, below(f, 2) == 0 ? "code" : "floor", text);
}

static void push_some(struct fixture *f)
{
	struct message_push push;

	cut(f);
	if (!next_push(f, 300, &push))
		return;
	for (uint32_t i = 0; i < push.set_count; i++) {
		if (!push.sets[i].more && push.sets[i].part == 0)
			hub_take_set(f, &push.sets[i]);
	}
}

static void restart(struct fixture *f)
{
	replica_close(f->r);
	fixture_open(f);
	fixture_welcome(f, WELCOME_DELTA);
}

static void refill(struct fixture *f)
{
	fixture_welcome(f, WELCOME_FILL);
	fill_rows(f, 0, f->row_count);
	if (below(f, 2) == 0)
		app_step(f);
	assert_ok(hub_commit(f, true, f->position));
	assert_string_equal(f->report.mismatch, "");
}

static void step(struct fixture *f)
{
	switch (below(f, 16)) {
	case 0: case 1: case 2: case 3: case 4:
		app_step(f);
		break;
	case 5: case 6: case 7:
		hub_step(f);
		break;
	case 8: case 9: case 10:
		push_some(f);
		break;
	case 11: case 12: case 13:
		commit(f);
		break;
	case 14:
		if (below(f, 3) == 0)
			refill(f);
		else
			restart(f);
		break;
	default:
		cut(f);
	}
}

static void compare_row(struct fixture *f, const struct hub_row *row)
{
	char key[UUID_TEXT], expected[64];
	const struct hub_cell *code = &row->cells[1], *number = &row->cells[2];

	uuid_format(&row->key, key);
	if (!row->alive) {
		assert_says(f, "0", "SELECT count(*) FROM units WHERE id = '%s'", key);
		return;
	}
	if (code->v.kind == VALUE_NULL)
		(void)snprintf(expected, sizeof(expected), "NULL");
	else
		(void)snprintf(expected, sizeof(expected), "%.*s", (int)code->v.n, code->bytes);
	assert_says(f, expected, "SELECT code FROM units WHERE id = '%s'", key);
	if (number->v.kind == VALUE_NULL)
		(void)snprintf(expected, sizeof(expected), "NULL");
	else
		(void)snprintf(expected, sizeof(expected), "%lld", (long long)number->v.i);
	assert_says(f, expected, "SELECT floor FROM units WHERE id = '%s'", key);
}

static void run_seed(uint64_t seed)
{
	void *state;
	struct fixture *f;
	char alive[32];
	uint32_t count = 0;

	assert_int_equal(setup(&state), 0);
	f = state;
	f->random = seed * 0x9e3779b97f4a7c15u + 1;
	f->refuses = refuse_some;
	for (int i = 0; i < STEPS; i++) {
		step(f);
		if (i % 20 == 0)
			assert_proof(f);
	}
	f->refuses = NULL;
	restart(f);
	sync_all(f);
	assert_proof(f);
	for (uint32_t i = 0; i < f->row_count; i++) {
		compare_row(f, &f->rows[i]);
		count += f->rows[i].alive;
	}
	(void)snprintf(alive, sizeof(alive), "%u", count);
	assert_says(f, alive, "SELECT count(*) FROM units");
	assert_says(f, "0", "SELECT count(*) FROM ferry_log WHERE op > 0");
	assert_says(f, "0", "SELECT count(*) FROM ferry_pending");
	assert_int_equal(teardown(&state), 0);
}

static void random_edits_converge(void **state)
{
	const char *only = getenv("FERRY_SEED");
	uint64_t first = only == NULL ? 1 : strtoull(only, NULL, 10);
	uint64_t count = getenv("FERRY_VALGRIND") == NULL ? SEEDS : 4;
	uint64_t last = only == NULL ? count : first;

	(void)state;
	for (uint64_t seed = first; seed <= last; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		run_seed(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_edits_converge)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
