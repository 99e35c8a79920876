/* The model's migrations for a set of schemas of its own: the same files with
 * a prefix before the names of schemas.
 *
 * What the files must keep to, so that this is right:
 *
 *   schema.name         everywhere qualified, in lower case, without quotes;
 *                       no alias is called like a schema
 *   SCHEMA name         after this word (CREATE, COMMENT ON, IN ...)
 *   'schema.object'     in a text, if some file names that object in code, so
 *                       that a permission 'inventory.view' stays one;
 *                       'schema.%I' for format(), 'schema.' || name
 *   'schema'            alone in a text only before ::regnamespace and as the
 *                       first argument of open_schema()
 *
 * Comments stay as they are. Bodies in dollar quotes count as code. */
#ifndef FERRY_HUB_MIGRATE_REWRITE_H
#define FERRY_HUB_MIGRATE_REWRITE_H

#include "protocol/arena.h"
#include "protocol/errors.h"

#define REWRITE_SCHEMAS_MAX 128
#define REWRITE_OBJECTS_MAX 16384
#define REWRITE_NAME_MAX    64

struct rewrite_names { /* of all files; large: keep it on the heap */
	char schemas[REWRITE_SCHEMAS_MAX][REWRITE_NAME_MAX];
	char objects[REWRITE_OBJECTS_MAX][2 * REWRITE_NAME_MAX]; /* "schema.name", sorted once gathered */
	int schema_count, object_count;
};

/* First the schemas of all files, then the objects of all files. */
FERRY_CHECK enum ferry_error rewrite_gather_schemas(struct rewrite_names *n, const char *text);
FERRY_CHECK enum ferry_error rewrite_gather_objects(struct rewrite_names *n, const char *text);
void rewrite_sort(struct rewrite_names *n); /* and each object once; again after further ones */
/* Appends the text for the prefix, with a NUL behind it that is not counted. */
FERRY_CHECK enum ferry_error rewrite_text(const struct rewrite_names *n, const char *prefix, const char *text,
					  struct buffer *out);

#endif
