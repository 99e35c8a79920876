/* A replica driven from a script: replica-driver <file>, commands on stdin.
 *
 *   cut   one look; answers "more" or "done", or the error's name
 *   dump  every change-set of the outbox as a line of JSON, then "end"
 *
 * A new file gets the table items(id, code text, n int, flag bool, label citext,
 * note text, more text): more columns than one trigger for updates takes. */
#include <stdio.h>
#include <string.h>

#include "agent/replica.h"

static const struct schema_column columns[] = {
	{.num = 2, .name = "code", .kind = KIND_TEXT},
	{.num = 3, .name = "n", .kind = KIND_INT},
	{.num = 4, .name = "flag", .kind = KIND_BOOL},
	{.num = 5, .name = "label", .kind = KIND_CITEXT},
	{.num = 6, .name = "note", .kind = KIND_TEXT},
	{.num = 7, .name = "more", .kind = KIND_TEXT},
};
static const struct schema_table tables[] = {
	{.table = 9, .name = "items", .key = "id", .key_num = 1, .writable = true, .columns = columns, .column_count = sizeof(columns) / sizeof(columns[0])}};
static const struct schema schema = {.hash = 1, .tables = tables, .table_count = 1};

static void print_value(const struct value *v)
{
	if (v->kind == VALUE_TEXT)
		printf("\"%.*s\"", (int)v->n, (const char *)v->p); /* the script writes letters only */
	else if (v->kind == VALUE_INT)
		printf("%lld", (long long)v->i);
	else if (v->kind == VALUE_BOOL)
		printf("%s", v->b ? "true" : "false");
	else
		printf("null");
}

static void print_block(const struct block *b, bool first)
{
	for (uint32_t i = 0; i < b->row_count; i++) {
		char key[UUID_TEXT];

		uuid_format(&b->keys[i], key);
		printf("%s{\"op\":%d,\"key\":\"%s\",\"values\":{", first && i == 0 ? "" : ",", (int)b->op, key);
		for (uint16_t c = 0; c < b->column_count; c++) {
			printf("%s\"%s\":", c == 0 ? "" : ",", columns[b->nums[c] - 2].name);
			print_value(&b->cells[(size_t)c * b->row_count + i]);
		}
		printf("}}");
	}
}

static void print_set(const struct change_set *s)
{
	printf("{\"number\":%lld,\"joined\":%s,\"part\":%u,\"more\":%s,\"rows\":[", (long long)s->number,
	       s->joined ? "true" : "false", s->part, s->more ? "true" : "false");
	for (uint32_t i = 0; i < s->block_count; i++)
		print_block(&s->blocks[i], i == 0);
	printf("]}\n");
}

static enum ferry_error dump(struct replica *r, struct ferry_why *why)
{
	struct push_cursor cursor = {0};
	struct message_push push;
	struct arena arena;
	enum ferry_error e;

	arena_init(&arena, 32u << 20);
	do {
		arena_reset(&arena);
		e = replica_store_ops.next_push(r, &cursor, 65536, &arena, &push, why);
		for (uint32_t i = 0; e == FERRY_OK && i < push.set_count; i++)
			print_set(&push.sets[i]);
	} while (e == FERRY_OK && push.set_count > 0);
	arena_deinit(&arena);
	return e;
}

static void answer(struct replica *r, const char *command)
{
	struct ferry_why why = {""};
	enum ferry_error e = FERRY_OK;
	bool more = false;

	if (strcmp(command, "cut\n") == 0) {
		e = replica_store_ops.cut(r, &more, &why);
		printf("%s\n", e != FERRY_OK ? ferry_error_name((int)e) : more ? "more" : "done");
	} else if (strcmp(command, "dump\n") == 0) {
		e = dump(r, &why);
		printf("%s\n", e != FERRY_OK ? ferry_error_name((int)e) : "end");
	} else {
		printf("what\n");
	}
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	const struct replica_options o = {.create = true, .busy_timeout_ms = argc > 2 ? 0 : 5000};
	struct ferry_why why = {""};
	struct replica *r;
	char command[64];
	enum ferry_error e;

	if (argc < 2)
		return 2;
	e = replica_open(argv[1], &o, &r, &why);
	if (e == FERRY_OK)
		e = replica_store_ops.schema(r, &schema, &why);
	if (e != FERRY_OK) {
		(void)fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	printf("open\n");
	(void)fflush(stdout);
	while (fgets(command, sizeof(command), stdin) != NULL)
		answer(r, command);
	replica_close(r);
	return 0;
}
