/* The end of a replica: its content overwritten, then its files removed. A
 * program that has the file open sees it empty, and finds no tables. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/sqlite_gate.h"
#include "agent/replica_wipe.h"

#define BUSY_TIMEOUT_MS 5000
#define OBJECTS_MAX	20000

/* Triggers and views first: none of them may run, or miss its table. The
 * list is asked anew each time, since dropping changes it. */
static const char next_sql[] =
	"SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view', 'table') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
	"ORDER BY CASE type WHEN 'trigger' THEN 0 WHEN 'view' THEN 1 ELSE 2 END LIMIT 1";

static bool next_object(struct gate *g, char type[16], char name[256])
{
	sqlite3_stmt *s = NULL;
	bool found;

	gate_statement(g, &s, next_sql);
	found = gate_step(g, s, "");
	if (found) {
		snprintf(type, 16, "%s", (const char *)sqlite3_column_text(s, 0));
		snprintf(name, 256, "%s", (const char *)sqlite3_column_text(s, 1));
	}
	gate_finalize(&s);
	return found;
}

static enum ferry_error drop_all(struct gate *g, struct ferry_why *why)
{
	char type[16], name[256];
	enum ferry_error e = gate_begin(g, why);

	if (e != FERRY_OK)
		return e;
	for (int i = 0; i < OBJECTS_MAX && next_object(g, type, name); i++)
		gate_execf(g, "DROP %s \"%w\"", type, name);
	return gate_end(g, why);
}

static void remove_files(const char *path)
{
	static const char *const endings[] = {"-wal", "-shm", "-journal", ""};
	char file[4200];

	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		snprintf(file, sizeof(file), "%s%s", path, endings[i]);
		(void)unlink(file); /* not there: as good */
	}
}

enum ferry_error replica_wipe(const char *path, struct ferry_why *why)
{
	struct gate g = {0};
	enum ferry_error e = gate_open(&g, path, SQLITE_OPEN_READWRITE, BUSY_TIMEOUT_MS, why);

	if (e == FERRY_OK) {
		gate_exec(&g, "PRAGMA secure_delete = ON");
		gate_exec(&g, "PRAGMA foreign_keys = OFF");
		e = drop_all(&g, why);
	}
	if (e == FERRY_OK) { /* best effort: a reader may hold the old pages a while */
		gate_exec(&g, "VACUUM");
		gate_exec(&g, "PRAGMA wal_checkpoint(TRUNCATE)");
	}
	gate_close(&g);
	/* Even where it could not be emptied the files must not stay. */
	remove_files(path);
	return e;
}
