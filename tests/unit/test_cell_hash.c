/* [P 8] Cell hashes against vectors that PostgreSQL made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "shared/cell_hash.h"
#include "tests/lib/vector_value.h"

static struct json *read_vectors(const char *name)
{
	const char *root = getenv("FERRY_SOURCE");
	char path[1024];
	struct ferry_why why = {""};
	struct json *vectors;

	snprintf(path, sizeof(path), "%s/protocol/vectors/%s", root == NULL ? "." : root, name);
	if (json_read_file(path, &vectors, &why) != FERRY_OK)
		fail_msg("%s: %s", path, why.text);
	return vectors;
}

static void check(struct arena *a, const struct json *v)
{
	const char *key = json_text(json_get(v, "key")), *expected = json_text(json_get(v, "hash"));
	int kind = column_kind_from_name(json_text(json_get(v, "kind")));
	struct value value = vector_value(a, json_get(v, "value"));
	uint16_t num = (uint16_t)json_int(json_get(v, "num"), 0);
	struct uuid id;
	uint64_t hash;

	assert_true(kind >= 0);
	assert_true(uuid_parse(key, strlen(key), &id));
	hash = cell_hash(cell_hash_row_seed(&id), num, (enum column_kind)kind, &value);
	if (hash != strtoull(expected, NULL, 16))
		fail_msg("%s %s: %016llx in place of %s", key, column_kind_name((enum column_kind)kind),
			 (unsigned long long)hash, expected);
}

static void hashes_equal_those_of_postgresql(void **state)
{
	struct json *vectors = read_vectors("cell_hash.json");
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	assert_true(json_count(vectors) > 80);
	for (size_t i = 0; i < json_count(vectors); i++)
		check(&a, json_at(vectors, i));
	arena_deinit(&a);
	json_release(vectors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_equal_those_of_postgresql),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
