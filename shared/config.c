/* libcyaml, which stands on libyaml, reports an unknown key but not where it
 * stands or what is near it; so this gate reads libyaml's events itself. */
#include "shared/config.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "shared/config_value.h"
#include "shared/files.h"

struct load {
	const struct config_table *table;
	const char *name;
	const char *folder;
	struct arena *arena;
	void *settings;
	struct ferry_why *why;
	bool *seen; /* by key */
	yaml_parser_t parser;
	yaml_event_t event; /* the current one, when `has_event` */
	bool has_event;
};

/* A default that is not valid is a fault of the table, and so ours. */
static void must_parse(const struct config_key *k, void *settings)
{
	struct ferry_why why;
	bool parsed = config_value_parse(k, k->otherwise, settings, &why);

	assert(parsed);
}

void config_set_defaults(const struct config_table *t, void *settings)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct config_key *k = &t->keys[i];
		char *member = (char *)settings + k->offset;
		const struct config_list empty = {NULL, 0};
		const char *none = NULL;

		if (k->type == CONFIG_LIST)
			memcpy(member, &empty, sizeof(empty));
		else if (k->otherwise == NULL)
			memcpy(member, &none, sizeof(none));
		else
			must_parse(k, settings);
	}
}

static const struct config_key *find_key(const struct config_table *t, const char *name)
{
	for (size_t i = 0; i < t->count; i++) {
		if (strcmp(t->keys[i].name, name) == 0)
			return &t->keys[i];
	}
	return NULL;
}

static bool is_section(const struct config_table *t, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < t->count; i++) {
		if (strncmp(t->keys[i].name, name, n) == 0 && t->keys[i].name[n] == '.')
			return true;
	}
	return false;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The edits (insert, delete, replace) that lead from a to b: Wagner and
 * Fischer's table, of which one row is kept. */
static size_t distance(const char *a, const char *b)
{
	size_t row[CONFIG_KEY_MAX + 1], n = strnlen(b, CONFIG_KEY_MAX);

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i] != '\0'; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 1; j <= n; j++) {
			size_t replaced = diagonal + (a[i] != b[j - 1]);

			diagonal = row[j];
			row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
		}
	}
	return row[n];
}

static const char *nearest(const struct config_table *t, const char *name)
{
	const char *best = "";
	size_t best_distance = SIZE_MAX;

	for (size_t i = 0; i < t->count; i++) {
		size_t d = distance(name, t->keys[i].name);

		if (d < best_distance) {
			best_distance = d;
			best = t->keys[i].name;
		}
	}
	return best;
}

__attribute__((format(printf, 3, 4))) static enum ferry_error fail_at(struct load *l, size_t line,
								     const char *format, ...)
{
	char what[250]; /* leaves room for where it is */
	va_list args;

	va_start(args, format);
	(void)vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	return ferry_fail(l->why, FERRY_CONFIG, "%s:%zu: %s", l->name, line + 1, what);
}

static enum ferry_error fail_unknown(struct load *l, size_t line, const char *key)
{
	return fail_at(l, line, "unknown key '%s'; the nearest known key is '%s'", key, nearest(l->table, key));
}

static size_t line_of(const struct load *l)
{
	return l->event.start_mark.line;
}

static enum ferry_error next(struct load *l)
{
	if (l->has_event)
		yaml_event_delete(&l->event);
	l->has_event = false;
	if (!yaml_parser_parse(&l->parser, &l->event))
		return fail_at(l, l->parser.problem_mark.line, "not YAML: %s",
			       l->parser.problem == NULL ? "no memory" : l->parser.problem);
	l->has_event = true;
	return FERRY_OK;
}

/* Of the current scalar: the arena's copy, or NULL with *error set. */
static char *take_scalar(struct load *l, enum ferry_error *error)
{
	const yaml_char_t *p = l->event.data.scalar.value;
	size_t n = l->event.data.scalar.length;
	char *text;

	if (l->event.data.scalar.anchor != NULL || l->event.data.scalar.tag != NULL) {
		*error = fail_at(l, line_of(l), "anchors and tags are not used here");
		return NULL;
	}
	if (memchr(p, 0, n) != NULL) {
		*error = fail_at(l, line_of(l), "a NUL character");
		return NULL;
	}
	text = arena_text(l->arena, p, n);
	*error = text == NULL ? FERRY_NO_MEMORY : FERRY_OK;
	return text;
}

static char *resolve_path(struct load *l, char *text, enum ferry_error *error)
{
	size_t folder_n = l->folder == NULL ? 0 : strlen(l->folder), n = strlen(text);
	char *joined;

	if (folder_n == 0 || text[0] == '/' || n == 0)
		return text;
	joined = arena_alloc(l->arena, folder_n + n + 2);
	if (joined == NULL) {
		*error = FERRY_NO_MEMORY;
		return NULL;
	}
	memcpy(joined, l->folder, folder_n);
	joined[folder_n] = '/';
	memcpy(joined + folder_n + 1, text, n + 1);
	return joined;
}

static enum ferry_error load_scalar(struct load *l, const struct config_key *k)
{
	bool plain = l->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	size_t line = line_of(l);
	struct ferry_why what;
	enum ferry_error error;
	char *text;

	text = take_scalar(l, &error);
	if (text != NULL && k->type == CONFIG_PATH)
		text = resolve_path(l, text, &error);
	if (text == NULL)
		return error;
	if (plain && text[0] == '\0')
		return fail_at(l, line, "the key '%s' has no value", k->name);
	if (!config_value_parse(k, text, l->settings, &what))
		return fail_at(l, line, "%s: %s", k->name, what.text);
	return FERRY_OK;
}

static enum ferry_error load_list(struct load *l, const struct config_key *k)
{
	const char **items = arena_array(l->arena, CONFIG_LIST_MAX, sizeof(*items));
	struct config_list list = {.items = items};
	enum ferry_error error;
	char *text;

	if (k->type != CONFIG_LIST)
		return fail_at(l, line_of(l), "the key '%s' takes one value, not a list", k->name);
	if (items == NULL)
		return FERRY_NO_MEMORY;
	while ((error = next(l)) == FERRY_OK && l->event.type != YAML_SEQUENCE_END_EVENT) {
		if (l->event.type != YAML_SCALAR_EVENT)
			return fail_at(l, line_of(l), "the list '%s' holds something that is no text", k->name);
		if (list.count == CONFIG_LIST_MAX)
			return fail_at(l, line_of(l), "the list '%s' is too long", k->name);
		text = take_scalar(l, &error);
		if (text == NULL)
			return error;
		items[list.count++] = text;
	}
	if (error == FERRY_OK)
		memcpy((char *)l->settings + k->offset, &list, sizeof(list));
	return error;
}

static enum ferry_error load_mapping(struct load *l, const char *section);

static enum ferry_error load_value(struct load *l, const char *name, size_t key_line)
{
	const struct config_key *k = find_key(l->table, name);

	if (l->event.type == YAML_MAPPING_START_EVENT && is_section(l->table, name))
		return load_mapping(l, name);
	if (k == NULL)
		return fail_unknown(l, key_line, name);
	if (l->seen[k - l->table->keys])
		return fail_at(l, key_line, "the key '%s' stands here a second time", name);
	l->seen[k - l->table->keys] = true;
	if (l->event.type == YAML_SCALAR_EVENT)
		return load_scalar(l, k);
	if (l->event.type == YAML_SEQUENCE_START_EVENT)
		return load_list(l, k);
	return fail_at(l, line_of(l), "the key '%s' takes a value", name);
}

/* "section.key", or "key" at the top. */
static enum ferry_error take_key(struct load *l, const char *section, char out[CONFIG_KEY_MAX])
{
	enum ferry_error error;
	char *key;
	int n;

	if (l->event.type != YAML_SCALAR_EVENT)
		return fail_at(l, line_of(l), "a key must be a word");
	key = take_scalar(l, &error);
	if (key == NULL)
		return error;
	n = snprintf(out, CONFIG_KEY_MAX, "%s%s%s", section, section[0] == '\0' ? "" : ".", key);
	if (n < 0 || n >= CONFIG_KEY_MAX)
		return fail_at(l, line_of(l), "unknown key '%.40s...'", key);
	return FERRY_OK;
}

/* A section holds no sections, so that this nests twice at most. */
static enum ferry_error load_mapping(struct load *l, const char *section)
{
	char name[CONFIG_KEY_MAX];
	enum ferry_error error;

	while ((error = next(l)) == FERRY_OK && l->event.type != YAML_MAPPING_END_EVENT) {
		size_t line = line_of(l);

		error = take_key(l, section, name);
		if (error == FERRY_OK)
			error = next(l);
		if (error == FERRY_OK)
			error = load_value(l, name, line);
		if (error != FERRY_OK)
			return error;
	}
	return error;
}

static bool is_empty_document(const struct load *l)
{
	return l->event.type == YAML_SCALAR_EVENT && l->event.data.scalar.length == 0;
}

static enum ferry_error load_stream(struct load *l)
{
	enum ferry_error error;

	if ((error = next(l)) != FERRY_OK) /* the stream's start */
		return error;
	if ((error = next(l)) != FERRY_OK || l->event.type == YAML_STREAM_END_EVENT)
		return error;
	if ((error = next(l)) != FERRY_OK)
		return error;
	if (l->event.type == YAML_MAPPING_START_EVENT)
		error = load_mapping(l, "");
	else if (!is_empty_document(l))
		error = fail_at(l, line_of(l), "the file is not a list of 'key: value'");
	if (error != FERRY_OK || (error = next(l)) != FERRY_OK || (error = next(l)) != FERRY_OK)
		return error;
	if (l->event.type != YAML_STREAM_END_EVENT)
		return fail_at(l, line_of(l), "a second document");
	return FERRY_OK;
}

enum ferry_error config_read_text(const struct config_table *t, const char *name, const char *folder, const char *text,
				  size_t n, struct arena *arena, void *settings, struct ferry_why *why)
{
	struct load l = {
		.table = t,
		.name = name,
		.folder = folder,
		.arena = arena,
		.settings = settings,
		.why = why,
		.seen = arena_array(arena, t->count, sizeof(bool)),
	};
	enum ferry_error error;

	if (l.seen == NULL || !yaml_parser_initialize(&l.parser))
		return FERRY_NO_MEMORY;
	yaml_parser_set_input_string(&l.parser, (const unsigned char *)text, n);
	error = load_stream(&l);
	if (l.has_event)
		yaml_event_delete(&l.event);
	yaml_parser_delete(&l.parser);
	return error;
}

static char *folder_of(struct arena *arena, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return arena_text(arena, ".", 1);
	return arena_text(arena, path, slash == path ? 1 : (size_t)(slash - path));
}

enum ferry_error config_read_file(const struct config_table *t, const char *path, struct arena *arena, void *settings,
				  struct ferry_why *why)
{
	char *folder = folder_of(arena, path), *text;
	enum ferry_error error;
	size_t n;

	if (folder == NULL)
		return FERRY_NO_MEMORY;
	error = files_read(path, &text, &n, why);
	if (error != FERRY_OK)
		return error;
	if (n > CONFIG_FILE_BYTES_MAX)
		error = ferry_fail(why, FERRY_CONFIG, "%s: larger than %u bytes", path, CONFIG_FILE_BYTES_MAX);
	else
		error = config_read_text(t, path, folder, text, n, arena, settings, why);
	free(text);
	return error;
}

/* A list on a command line: items parted by commas. */
static enum ferry_error set_list(const struct config_key *k, const char *value, struct arena *arena, void *settings)
{
	const char **items = arena_array(arena, CONFIG_LIST_MAX, sizeof(*items));
	struct config_list list = {.items = items};

	if (items == NULL)
		return FERRY_NO_MEMORY;
	while (*value != '\0' && list.count < CONFIG_LIST_MAX) {
		size_t n = strcspn(value, ",");

		items[list.count] = arena_text(arena, value, n);
		if (items[list.count++] == NULL)
			return FERRY_NO_MEMORY;
		value += n + (value[n] == ',');
	}
	memcpy((char *)settings + k->offset, &list, sizeof(list));
	return FERRY_OK;
}

enum ferry_error config_set(const struct config_table *t, const char *key, const char *value, struct arena *arena,
			    void *settings, struct ferry_why *why)
{
	const struct config_key *k = find_key(t, key);
	struct ferry_why what;
	char *text;

	if (k == NULL)
		return ferry_fail(why, FERRY_CONFIG, "unknown key '%.60s'; the nearest known key is '%s'", key,
				  nearest(t, key));
	if (k->type == CONFIG_LIST)
		return set_list(k, value, arena, settings);
	text = arena_text(arena, value, strlen(value));
	if (text == NULL)
		return FERRY_NO_MEMORY;
	if (!config_value_parse(k, text, settings, &what))
		return ferry_fail(why, FERRY_CONFIG, "%s: %.300s", k->name, what.text);
	return FERRY_OK;
}

enum ferry_error config_check(const struct config_table *t, const void *settings, struct ferry_why *why)
{
	const char *text;

	for (size_t i = 0; i < t->count; i++) {
		const struct config_key *k = &t->keys[i];

		if (k->otherwise != NULL || (k->type != CONFIG_TEXT && k->type != CONFIG_PATH))
			continue;
		memcpy(&text, (const char *)settings + k->offset, sizeof(text));
		if (text == NULL)
			return ferry_fail(why, FERRY_CONFIG, "the key '%s' is missing: %s", k->name, k->text);
	}
	return FERRY_OK;
}
