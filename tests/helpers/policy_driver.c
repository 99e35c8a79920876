/* Merges histories for tests/integration/test_policies_property.py, which has
 * a model of its own. A history is a line of JSON:
 *
 *   {"policy": "counter", "kind": "int", "options": null, "start": 5,
 *    "edits": [{"device": 1, "number": 1, "base": 0, "at": 7, "old": 5, "new": 8}]}
 *
 * The row's version is position 1 of the hub, at time 0; "old" may be left
 * out. "op": "delete" deletes the row; "born": the position where its life
 * began. "gone": the hub deleted it at position 2,
 * and keeps what it was; "update_wins": the table's policy. The answer is a line: what stands, and each edit's verdict, code,
 * number of conflicts and of values that wait for an approval. Integers are numbers, all else is text or null. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/merge.h"
#include "shared/json.h"

#define EDITS_MAX 64
#define NOW 1000000

struct edit {
	struct uuid key, author;
	uint16_t num;
	struct value old, mine;
	struct block block;
	struct change_set set;
};

static struct value value_of(const struct json *v)
{
	const char *text = json_text(v);

	if (json_is_null(v))
		return value_null();
	return text != NULL ? value_text(text, strlen(text)) : value_int(json_int(v, 0));
}

static void put_value(struct json *object, const char *key, const struct value *v)
{
	char *text;

	if (v->kind == VALUE_INT) {
		json_put_int(object, key, v->i);
		return;
	}
	text = v->kind == VALUE_NULL ? NULL : strndup((const char *)v->p, v->n);
	json_put_text(object, key, text);
	free(text);
}

static void edit_read(struct edit *e, const struct json *j)
{
	bool deletes = json_get(j, "op") != NULL;

	*e = (struct edit){.key = {{1}}, .author = {{(uint8_t)json_int(json_get(j, "device"), 1)}}, .num = 2,
			   .old = value_of(json_get(j, "old")), .mine = value_of(json_get(j, "new"))};
	e->block = (struct block){.table = 1, .op = deletes ? ROW_DELETE : ROW_UPDATE, .row_count = 1, .column_count = !deletes, .nums = &e->num,
				  .keys = &e->key, .cells = &e->mine, .old_nums = &e->num, .olds = &e->old,
				  .old_count = !deletes && json_get(j, "old") != NULL};
	e->set = (struct change_set){.number = json_int(json_get(j, "number"), 1), .base_position = json_int(json_get(j, "base"), 0),
				     .at = json_int(json_get(j, "at"), 0), .blocks = &e->block, .block_count = 1};
}

/* What the writes leave in the cell. */
static void put_result(struct json *answer, struct merge *m, struct value v, bool there)
{
	struct merge_writes w;
	bool by_hub = false;

	if (merge_take_writes(m, &w) != FERRY_OK)
		exit(1);
	for (uint32_t i = 0; i < w.write_count; i++) {
		there = w.writes[i].op != ROW_DELETE;
		if (w.writes[i].column_count == 0)
			continue;
		v = w.writes[i].cells[0];
		by_hub = w.writes[i].by_hub != 0;
	}
	json_put_bool(answer, "there", there);
	put_value(answer, "value", &v);
	json_put_bool(answer, "written", w.write_count > 0);
	json_put_bool(answer, "by_hub", by_hub);
}

static void history(const struct json *j)
{
	static struct edit edits[EDITS_MAX];
	const struct json *list = json_get(j, "edits");
	const char *name = json_text(json_get(j, "policy"));
	bool of_the_hub = name != NULL && strcmp(name, "hub") == 0; /* which the schema says as a column that nobody writes */
	int kind = column_kind_from_name(json_text(json_get(j, "kind"))), policy = column_policy_from_name(of_the_hub ? "lww" : name);
	struct schema_column column = {.num = 2, .name = "c", .kind = (enum column_kind)kind, .policy = (enum column_policy)policy,
				       .read_only = of_the_hub, .policy_options = json_text(json_get(j, "options"))};
	struct schema_table table = {.table = 1, .name = "t", .writable = true, .columns = &column, .column_count = 1};
	struct schema schema = {.hash = 1, .tables = &table, .table_count = 1};
	struct value start = value_of(json_get(j, "start"));
	bool gone = json_get(j, "gone") != NULL;
	struct merge_row row = {.table = 1, .key = {{1}}, .exists = !gone, .known = true, .born = json_int(json_get(j, "born"), 0),
				.version = {.position = gone ? 2 : 1},
				.update_wins = json_get(j, "update_wins") != NULL};
	struct merge *m = merge_new(&schema, 1 << 24);
	struct json *answer = json_new_object(), *verdicts = json_new_array();
	char *line;

	*(gone ? &row.last_cells : &row.cells) = &start;
	if (m == NULL || kind < 0 || policy < 0 || json_count(list) > EDITS_MAX || merge_row(m, &row) != FERRY_OK)
		exit(1);
	for (size_t i = 0; i < json_count(list); i++) {
		struct json *verdict = json_new_object();
		struct merge_outcome out;

		edit_read(&edits[i], json_at(list, i));
		if (merge_apply(m, &edits[i].author, &edits[i].set, NOW, &out) != FERRY_OK)
			exit(1);
		json_put_int(verdict, "verdict", out.verdict);
		json_put_int(verdict, "code", out.code);
		json_put_int(verdict, "conflicts", out.conflict_count);
		json_put_int(verdict, "asks", out.ask_count);
		json_put_text(verdict, "sentence", out.why.text);
		json_add(verdicts, verdict);
	}
	put_result(answer, m, start, !gone);
	json_put(answer, "edits", verdicts);
	line = json_write_text(answer, true);
	puts(line);
	free(line);
	json_release(answer);
	merge_free(m);
}

int main(void)
{
	char *line = NULL;
	size_t capacity = 0;
	ssize_t n;

	while ((n = getline(&line, &capacity, stdin)) > 0) {
		struct json *j;
		struct ferry_why why;

		if (json_read_text(line, (size_t)n, &j, &why) != FERRY_OK) {
			fprintf(stderr, "%s\n", why.text);
			return 1;
		}
		history(j);
		json_release(j);
	}
	free(line);
	return 0;
}
