/* Configuration: one table of keys per program. The table makes the parser,
 * --check-config, --print-config and the man page's text, so that they cannot
 * differ.
 *
 * The file is YAML: a mapping whose values are scalars, sequences of scalars
 * (CONFIG_LIST) or one more mapping, written with a dot in the key table:
 *
 *   hub:
 *     url: wss://hub.example:7443        # key "hub.url"
 *   log_level: debug
 *
 * A key that the table does not have is an error with its line and the
 * nearest key that exists; so are a repeated key, a value that does not parse
 * and one out of range. Anchors, aliases and tags are refused. Units stand
 * behind numbers: 30s, 5min, 64KiB, 1MiB. A bare number of bytes is bytes; a
 * time always needs its unit, unless it is 0.
 *
 * A program calls config_set_defaults, config_read_file, config_set for what
 * its command line overrides, and config_check.
 *
 * Ownership: texts are allocated in the arena given; defaults are borrowed
 * from the table. The gate to libyaml. */
#ifndef FERRY_SHARED_CONFIG_H
#define FERRY_SHARED_CONFIG_H

#include "protocol/arena.h"
#include "protocol/errors.h"

#define CONFIG_FILE_BYTES_MAX (256u << 10)
#define CONFIG_LIST_MAX 256
#define CONFIG_KEY_MAX 64 /* bytes of a key with its NUL */

enum config_type {    /* C member                     in the file */
	CONFIG_TEXT,  /* const char *                 text; min, max: its length in bytes */
	CONFIG_PATH,  /* const char *                 a file; relative to the folder of the configuration */
	CONFIG_BOOL,  /* bool                         true, false, yes, no, on, off */
	CONFIG_INT,   /* int64_t                      a whole number */
	CONFIG_BYTES, /* int64_t                      number with B, KiB, MiB or GiB */
	CONFIG_TIME,  /* int64_t, microseconds        number with us, ms, s, min, h or d */
	CONFIG_CHOICE, /* int, an index of choices    one of the words */
	CONFIG_LIST,  /* struct config_list           texts */
};

struct config_list {
	const char *const *items;
	uint32_t count;
};

struct config_key {
	const char *name;          /* "listen" or "hub.url" */
	enum config_type type;
	size_t offset;             /* of the member in the program's struct */
	const char *otherwise;     /* the default as it would stand in the file; NULL: required
				    * (texts and paths only). A list's can only be "", none. */
	int64_t min, max;          /* numbers; both 0: any that is not negative */
	const char *const *choices; /* CONFIG_CHOICE: words, NULL at the end */
	const char *text;          /* one sentence or two for the man page */
};

struct config_table {
	const struct config_key *keys;
	size_t count;
};

/* Sets every member to its default; required ones to NULL or 0. */
void config_set_defaults(const struct config_table *t, void *settings);

/* Reads the file over the defaults. FERRY_CONFIG with "file:line: ..." when it
 * is wrong, FERRY_IO or FERRY_NOT_FOUND when it cannot be read. */
FERRY_CHECK enum ferry_error config_read_file(const struct config_table *t, const char *path, struct arena *arena,
					      void *settings, struct ferry_why *why);
/* The same from memory; name stands for the file in errors, folder (NULL: the
 * working one) is what paths are relative to. */
FERRY_CHECK enum ferry_error config_read_text(const struct config_table *t, const char *name, const char *folder,
					      const char *text, size_t n, struct arena *arena, void *settings,
					      struct ferry_why *why);
/* One key, as given on a command line ("hub.url", "wss://..."). */
FERRY_CHECK enum ferry_error config_set(const struct config_table *t, const char *key, const char *value,
					struct arena *arena, void *settings, struct ferry_why *why);

/* Is every required key there? */
FERRY_CHECK enum ferry_error config_check(const struct config_table *t, const void *settings, struct ferry_why *why);

/* --print-config: the settings as a file that reads back to the same. */
void config_print(const struct config_table *t, const void *settings, struct buffer *out);
/* The keys as man page source (roff, for section KEYS). */
void config_print_man(const struct config_table *t, struct buffer *out);

#endif
