#include "hub/migrate_rewrite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool in_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static size_t word_length(const char *p)
{
	size_t n = 0;
	while (in_word(p[n]))
		n++;
	return n;
}

/* Length of a comment that begins here; 0: none does. */
static size_t comment_length(const char *p)
{
	if (p[0] == '-' && p[1] == '-')
		return strcspn(p, "\n");
	if (p[0] != '/' || p[1] != '*')
		return 0;
	const char *end = strstr(p + 2, "*/");
	return end ? (size_t)(end + 2 - p) : strlen(p);
}

/* One walk over a file; what it meets goes to `word`, everything else to
 * `other`. Either may be NULL. */
struct walk {
	const char *start;   /* of the file */
	bool text;           /* inside of single quotes */
	bool after_schema;   /* the last word of code was SCHEMA, or follows IF NOT EXISTS behind it */
	void *ctx;
	void (*word)(struct walk *w, const char *p, size_t n);
	void (*other)(struct walk *w, const char *p, size_t n);
};

static void emit(struct walk *w, const char *p, size_t n)
{
	if (w->other)
		w->other(w, p, n);
}

static bool is_word(const char *p, size_t n, const char *word)
{
	return strlen(word) == n && memcmp(p, word, n) == 0;
}

static void take_word(struct walk *w, const char *p, size_t n)
{
	w->word(w, p, n);
	if (w->text)
		return;
	w->after_schema = is_word(p, n, "SCHEMA") ||
			  (w->after_schema && (is_word(p, n, "IF") || is_word(p, n, "NOT") || is_word(p, n, "EXISTS")));
}

static void walk(struct walk *w, const char *p)
{
	w->start = p;
	w->text = w->after_schema = false;
	while (*p) {
		size_t n = w->text ? 0 : comment_length(p);
		if (n > 0) {
			emit(w, p, n);
		} else if (in_word(*p)) {
			n = word_length(p);
			take_word(w, p, n);
		} else {
			n = 1;
			if (*p == '\'')
				w->text = !w->text; /* a doubled one ends it and begins it again */
			emit(w, p, 1);
		}
		p += n;
	}
}

/* ---- gathering ---- */

struct gather {
	struct rewrite_names *names;
	bool full;
};

static bool is_schema(const struct rewrite_names *n, const char *p, size_t length)
{
	for (int i = 0; i < n->schema_count; i++)
		if (is_word(p, length, n->schemas[i]))
			return true;
	return false;
}

static void schema_word(struct walk *w, const char *p, size_t n)
{
	struct gather *g = w->ctx;
	bool condition = is_word(p, n, "IF") || is_word(p, n, "NOT") || is_word(p, n, "EXISTS");
	if (w->text || !w->after_schema || condition || *p < 'a' || *p > 'z' || is_schema(g->names, p, n))
		return;
	if (is_word(p, n, "ferry") || is_word(p, n, "public"))
		return;
	if (g->names->schema_count == REWRITE_SCHEMAS_MAX || n >= REWRITE_NAME_MAX) {
		g->full = true;
		return;
	}
	memcpy(g->names->schemas[g->names->schema_count], p, n);
	g->names->schemas[g->names->schema_count++][n] = '\0';
}

enum ferry_error rewrite_gather_schemas(struct rewrite_names *n, const char *text)
{
	struct gather g = {.names = n};
	struct walk w = {.ctx = &g, .word = schema_word};
	walk(&w, text);
	return g.full ? FERRY_LIMIT : FERRY_OK;
}

static bool begins(const struct walk *w, const char *p)
{
	return p == w->start || !(p[-1] == '.' || p[-1] == '"' || p[-1] == '$');
}

static int compare_objects(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void object_word(struct walk *w, const char *p, size_t n)
{
	struct gather *g = w->ctx;
	size_t m = p[n] == '.' ? word_length(p + n + 1) : 0;
	if (w->text || m == 0 || !begins(w, p) || !is_schema(g->names, p, n))
		return;
	if (g->names->object_count == REWRITE_OBJECTS_MAX)
		rewrite_sort(g->names); /* most are named more than once */
	if (g->names->object_count == REWRITE_OBJECTS_MAX || n + m + 1 >= 2 * REWRITE_NAME_MAX) {
		g->full = true;
		return;
	}
	char *out = g->names->objects[g->names->object_count++];
	memcpy(out, p, n + 1 + m);
	out[n + 1 + m] = '\0';
}

void rewrite_sort(struct rewrite_names *n)
{
	int kept = 0;
	qsort(n->objects, (size_t)n->object_count, sizeof(n->objects[0]), compare_objects);
	for (int i = 0; i < n->object_count; i++)
		if (kept == 0 || strcmp(n->objects[kept - 1], n->objects[i]) != 0) {
			if (kept != i)
				memcpy(n->objects[kept], n->objects[i], sizeof(n->objects[0]));
			kept++;
		}
	n->object_count = kept;
}

enum ferry_error rewrite_gather_objects(struct rewrite_names *n, const char *text)
{
	struct gather g = {.names = n};
	struct walk w = {.ctx = &g, .word = object_word};
	walk(&w, text);
	return g.full ? FERRY_LIMIT : FERRY_OK;
}

/* ---- writing ---- */

struct writing {
	const struct rewrite_names *names;
	const char *prefix;
	struct buffer *out;
};

static bool is_object(const struct rewrite_names *n, const char *p, size_t length)
{
	char key[2 * REWRITE_NAME_MAX];
	if (length >= sizeof(key))
		return false;
	memcpy(key, p, length);
	key[length] = '\0';
	return bsearch(key, n->objects, (size_t)n->object_count, sizeof(n->objects[0]), compare_objects) != NULL;
}

/* 'schema' and nothing else between the quotes. */
static bool stands_alone(const struct walk *w, const char *p, size_t n)
{
	static const char call[] = "open_schema(", cast[] = "::regnamespace";
	if (p - w->start < 1 || p[-1] != '\'' || p[n] != '\'')
		return false;
	if (strncmp(p + n + 1, cast, sizeof(cast) - 1) == 0)
		return true;
	return p - w->start >= (long)sizeof(call) && strncmp(p - sizeof(call), call, sizeof(call) - 1) == 0;
}

static bool is_ours(const struct walk *w, const struct rewrite_names *names, const char *p, size_t n)
{
	if (!begins(w, p) || !is_schema(names, p, n))
		return false;
	if (!w->text)
		return w->after_schema || (p[n] == '.' && (in_word(p[n + 1]) || p[n + 1] == '"'));
	if (p[n] == '.')
		return p[n + 1] == '%' || p[n + 1] == '\'' || is_object(names, p, n + 1 + word_length(p + n + 1));
	return stands_alone(w, p, n);
}

static void write_word(struct walk *w, const char *p, size_t n)
{
	const struct writing *x = w->ctx;
	if (is_ours(w, x->names, p, n))
		buffer_append(x->out, x->prefix, strlen(x->prefix));
	buffer_append(x->out, p, n);
}

static void write_other(struct walk *w, const char *p, size_t n)
{
	const struct writing *x = w->ctx;
	buffer_append(x->out, p, n);
}

enum ferry_error rewrite_text(const struct rewrite_names *n, const char *prefix, const char *text, struct buffer *out)
{
	struct writing x = {.names = n, .prefix = prefix, .out = out};
	struct walk w = {.ctx = &x, .word = write_word, .other = write_other};
	walk(&w, text);
	buffer_append(out, "", 1);
	if (out->overflowed)
		return FERRY_LIMIT;
	out->n--;
	return FERRY_OK;
}
