#include <string.h>

#include "shared/config_value.h"

static size_t section_length(const char *name)
{
	const char *dot = strchr(name, '.');

	return dot == NULL ? 0 : (size_t)(dot - name);
}

static bool is_missing(const struct config_key *k, const void *settings)
{
	const char *text;

	if (k->type != CONFIG_TEXT && k->type != CONFIG_PATH)
		return false;
	memcpy(&text, (const char *)settings + k->offset, sizeof(text));
	return text == NULL;
}

static void print_key(const struct config_key *k, size_t section_n, const void *settings, struct buffer *out)
{
	const char *indent = section_n > 0 ? "  " : "";
	const char *name = section_n > 0 ? k->name + section_n + 1 : k->name;

	config_put(out, "%s# %s\n", indent, k->text);
	if (is_missing(k, settings)) {
		config_put(out, "%s# %s: (required)\n", indent, name);
		return;
	}
	config_put(out, "%s%s: ", indent, name);
	config_value_print(k, settings, out);
	config_put(out, "\n");
}

void config_print(const struct config_table *t, const void *settings, struct buffer *out)
{
	const char *section = "";
	size_t section_n = 0;

	for (size_t i = 0; i < t->count; i++) {
		const struct config_key *k = &t->keys[i];
		size_t n = section_length(k->name);

		if (n > 0 && (n != section_n || strncmp(section, k->name, n) != 0))
			config_put(out, "%.*s:\n", (int)n, k->name);
		section = k->name;
		section_n = n;
		print_key(k, n, settings, out);
	}
}

/* roff reads a backslash, and a dot or quote that begins a line, as its own. */
static void put_roff(struct buffer *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		config_put(out, "\\&");
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			config_put(out, "\\e");
		else if (*text == '-')
			config_put(out, "\\-");
		else
			buffer_append(out, text, 1);
	}
}

static void put_choices(struct buffer *out, const struct config_key *k)
{
	config_put(out, "One of");
	for (size_t i = 0; k->choices[i] != NULL; i++) {
		config_put(out, "%s ", i == 0 ? "" : ",");
		put_roff(out, k->choices[i]);
	}
	config_put(out, ".\n");
}

void config_print_man(const struct config_table *t, struct buffer *out)
{
	static const char *const types[] = {
		[CONFIG_TEXT] = "text",		[CONFIG_PATH] = "path",	  [CONFIG_BOOL] = "true or false",
		[CONFIG_INT] = "number",	[CONFIG_BYTES] = "bytes", [CONFIG_TIME] = "time",
		[CONFIG_CHOICE] = "word",	[CONFIG_LIST] = "list",
	};

	for (size_t i = 0; i < t->count; i++) {
		const struct config_key *k = &t->keys[i];

		config_put(out, ".TP\n.BR ");
		put_roff(out, k->name);
		config_put(out, " \" (%s%s", types[k->type], k->otherwise == NULL ? ", required" : "");
		if (k->otherwise != NULL && k->otherwise[0] != '\0') {
			config_put(out, ", default ");
			put_roff(out, k->otherwise);
		}
		config_put(out, ")\"\n");
		put_roff(out, k->text);
		config_put(out, "\n");
		if (k->type == CONFIG_CHOICE)
			put_choices(out, k);
	}
}
