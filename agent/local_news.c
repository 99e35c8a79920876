#include "agent/local_news.h"

#include <stdlib.h>
#include <string.h>

#include "agent/local_feed.h"

struct local_news {
	struct replica *replica;
	void (*line)(void *ctx, const char *text);
	void (*after)(void *ctx);
	void *ctx;
	bool wanted;
	struct json *tables; /* of changed rows: a list of keys each, null where they are too many */
	struct json *lines;  /* verdicts and conflicts */
	uint32_t keys, unsaid;
	bool filled;
	char last[64]; /* key of the row before */
};

static void forget(struct local_news *n)
{
	json_release(n->tables);
	json_release(n->lines);
	n->tables = n->lines = NULL;
	n->keys = n->unsaid = 0;
	n->filled = false;
	n->last[0] = '\0';
}

static void on_row(void *ctx, const char *table, const char *key)
{
	struct local_news *n = ctx;
	if (!n->wanted || n->filled || strcmp(n->last, key) == 0)
		return;
	if (!n->tables)
		n->tables = json_new_object();
	strncpy(n->last, key, sizeof(n->last) - 1);
	const struct json *list = json_get(n->tables, table);
	if (n->keys == LOCAL_KEYS_MAX) {
		if (!list || !json_is_null(list))
			json_put_null(n->tables, table);
		return;
	}
	if (list && json_is_null(list))
		return;
	n->keys++;
	if (!list) {
		json_put(n->tables, table, json_new_array());
		list = json_get(n->tables, table);
	}
	json_add_text((struct json *)list, key);
}

static void on_filled(void *ctx)
{
	struct local_news *n = ctx;
	n->filled = n->wanted;
}

static void add_line(struct local_news *n, struct json *o)
{
	if (!n->lines)
		n->lines = json_new_array();
	if (json_count(n->lines) < LOCAL_VERDICTS_MAX) {
		json_add(n->lines, o);
		return;
	}
	n->unsaid++;
	json_release(o);
}

static void on_settled(void *ctx, const struct replica_verdict *v)
{
	static const char *const names[] = {"", "accepted", "superseded", "rejected", "parked"};
	struct local_news *n = ctx;
	if (!n->wanted)
		return;
	struct json *o = json_new_object();
	json_put_text(o, "event", "verdict");
	json_put_int(o, "number", v->number);
	json_put_text(o, "verdict", v->verdict > 0 && v->verdict < 5 ? names[v->verdict] : "");
	if (v->code) {
		json_put_text(o, "code", ferry_error_name(v->code));
		json_put_text(o, "sentence", v->sentence);
	}
	json_put_bool(o, "again", v->again);
	add_line(n, o);
}

static void on_conflict(void *ctx, const struct replica_conflict *c)
{
	struct local_news *n = ctx;
	if (!n->wanted)
		return;
	struct json *o = json_new_object();
	json_put_text(o, "event", "conflict");
	json_put_int(o, "number", c->number);
	json_put_text(o, "table", c->table);
	json_put_text(o, "key", c->key);
	json_put_text(o, "column", c->column);
	json_put_text(o, "winner", c->device_won ? "device" : "hub");
	add_line(n, o);
}

static void say(struct local_news *n, struct json *o)
{
	char *text = json_write_text(o, true);
	n->line(n->ctx, text);
	free(text);
	json_release(o);
}

static void say_state(struct local_news *n, int64_t position)
{
	struct json *o = json_new_object();
	json_put_text(o, "event", "state");
	json_put_int(o, "position", position);
	if (n->filled)
		json_put_bool(o, "filled", true); /* every table may differ */
	else
		json_put(o, "changed", n->tables);
	if (!n->filled)
		n->tables = NULL; /* handed over */
	say(n, o);
}

static void on_end(void *ctx, bool committed, int64_t position)
{
	struct local_news *n = ctx;
	if (committed && (n->filled || n->tables))
		say_state(n, position);
	for (size_t i = 0; committed && i < json_count(n->lines); i++) {
		char *text = json_write_text(json_at(n->lines, i), true);
		n->line(n->ctx, text);
		free(text);
	}
	if (committed && n->unsaid) {
		struct json *o = json_new_object();
		json_put_text(o, "event", "more");
		json_put_int(o, "lines", n->unsaid);
		say(n, o);
	}
	forget(n);
	if (committed && n->wanted)
		n->after(n->ctx);
}

struct local_news *local_news_new(struct replica *replica, void (*line)(void *ctx, const char *text), void (*after)(void *ctx),
				  void *ctx)
{
	static const struct replica_news news = {on_row, on_filled, on_settled, on_conflict, on_end};
	struct local_news *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	*n = (struct local_news){.replica = replica, .line = line, .after = after, .ctx = ctx};
	replica_watch(replica, &news, n);
	return n;
}

void local_news_free(struct local_news *n)
{
	if (!n)
		return;
	replica_watch(n->replica, NULL, NULL);
	forget(n);
	free(n);
}

void local_news_want(struct local_news *n, bool wanted)
{
	if (n)
		n->wanted = wanted;
}
