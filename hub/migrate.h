/* Migrations: hub/sql/engine, then hub/sql/model, each file once, in the
 * order of its number, whole, in a transaction of its own together with its
 * line in the ledger (ferry.migration: part, number, name, SHA-256).
 *
 * A file that was applied must not change afterwards: then nothing is done.
 * Several hubs that migrate at once wait for each other (advisory lock). */
#ifndef FERRY_HUB_MIGRATE_H
#define FERRY_HUB_MIGRATE_H

#include <stdbool.h>

#include "hub/pg_admin.h"
#include "shared/files.h"

#define MIGRATIONS_MAX 512

enum migration_state { MIGRATION_PENDING, MIGRATION_APPLIED, MIGRATION_CHANGED, MIGRATION_MISSING };

struct migration {
	char part[64]; /* "engine", "model", "model:<prefix>" */
	int number;
	char name[260];
	char path[FILES_PATH_MAX];
	char sha256[65];
	enum migration_state state; /* MISSING: in the ledger, but no such file: a newer hub was here */
};

struct migrations {
	struct migration *list;
	int count, pending, changed, missing;
};

/* Where the SQL files are: `wanted` if not NULL, else beside the installed
 * program, else in the source tree of the build. */
FERRY_CHECK enum ferry_error migrate_find(const char *wanted, char out[FILES_PATH_MAX], struct ferry_why *why);

/* A tenant's own set of schemas: the model once more, with a prefix before the
 * names of its schemas (hub/migrate_rewrite.h). */
struct migrate_set {
	const char *prefix, *tenant;
};

/* Compares files and ledger. set NULL: engine and shared model.
 * migrations_free() later. */
FERRY_CHECK enum ferry_error migrate_plan(struct pg_admin *db, const char *folder, const struct migrate_set *set,
					  struct migrations *out, struct ferry_why *why);
void migrations_free(struct migrations *m);

/* Applies what is pending; `each` (may be NULL) is told of every one done.
 * Refuses (FERRY_CORRUPT) when an applied file changed. */
FERRY_CHECK enum ferry_error migrate_apply(struct pg_admin *db, const char *folder, const struct migrate_set *set,
					   void (*each)(void *ctx, const struct migration *m), void *ctx,
					   int *out_count, struct ferry_why *why);

/* The start-up check: FERRY_CONFIG with what to do, unless all is applied. */
FERRY_CHECK enum ferry_error migrate_check(struct pg_admin *db, const char *folder, struct ferry_why *why);

#endif
